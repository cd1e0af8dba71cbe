"""Who may post a postback, and what others are answered.  No I/O.

Rules:

* A wrong secret gets the same answer as a wrong path.  It is compared with every secret, in
  constant time.
* A request is refused before its body is read, if the reason does not need the body.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from collections.abc import Iterable, MutableMapping
from typing import Any, Final

import attrs

from ..errors import ConfigurationError
from ..runtime.secret import Secret

ASGIScope = MutableMapping[str, Any]


@attrs.frozen(kw_only=True)
class HTTPAnswer:
    """The answer to a request."""

    status: int
    text: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


NOT_FOUND: Final = HTTPAnswer(status=404, text="Not Found")
TOO_LARGE: Final = HTTPAnswer(status=413, text="Too large for a postback")
NOT_ALLOWED: Final = HTTPAnswer(
    status=405, text="Postbacks are POSTs", headers=((b"allow", b"POST"),)
)
UNSUPPORTED: Final = HTTPAnswer(
    status=415,
    text="Postbacks are taken as they are, or compressed by gzip",
    headers=((b"accept-encoding", b"gzip, deflate, identity"),),
)
UNAUTHORIZED: Final = HTTPAnswer(
    status=401,
    text="Unauthorized",
    headers=((b"www-authenticate", b'Basic realm="postbacks", charset="UTF-8"'),),
)
# The answers that any stranger can get.
FOR_STRANGERS: Final = (NOT_FOUND, NOT_ALLOWED, UNAUTHORIZED)

_ENCODINGS: Final = frozenset({b"", b"gzip", b"x-gzip", b"deflate"})


@attrs.frozen(kw_only=True)
class RequestPolicy:
    """What a request must have for its body to be read; None requires nothing."""

    path: str
    secrets: tuple[Secret, ...] | None
    credentials: tuple[Secret, ...] | None
    max_body: int

    def refusal(self, scope: ASGIScope) -> HTTPAnswer | None:
        """Return the answer to a request that is refused without its body; None if it is not."""
        if not self._is_here(_path_below_mount(scope).rstrip("/")):
            return NOT_FOUND
        headers = dict(scope["headers"])
        if not self._is_known(headers.get(b"authorization", b"")):
            return UNAUTHORIZED
        if scope["method"] != "POST":
            return NOT_ALLOWED
        if content_encoding(scope) not in _ENCODINGS:
            return UNSUPPORTED
        length = headers.get(b"content-length", b"")
        return TOO_LARGE if _number(length) > self.max_body else None

    def _is_here(self, path: str) -> bool:
        if self.secrets is None:
            return path == self.path
        before, given = path[: len(self.path) + 1], path[len(self.path) + 1 :]
        return before == f"{self.path}/" and _is_one_of(
            given.encode("utf-8", "replace"), self.secrets
        )

    def _is_known(self, authorization: bytes) -> bool:
        if self.credentials is None:
            return True
        scheme, _, encoded = authorization.partition(b" ")
        try:
            given = b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            given = b""
        return _is_one_of(given, self.credentials) and scheme.lower() == b"basic"


def content_encoding(scope: ASGIScope) -> bytes:
    """Return the Content-Encoding of a request; empty if its body is not encoded."""
    named = [value for name, value in scope["headers"] if name == b"content-encoding"]
    if not named:
        return b""
    encoding = b",".join(named).strip().lower()
    return b"" if encoding == b"identity" else encoding


def _path_below_mount(scope: ASGIScope) -> str:
    # By the ASGI standard, `path` includes `root_path`; some servers and older frameworks leave it
    # out.
    path: str = scope["path"]
    below = path.removeprefix(scope.get("root_path", "").rstrip("/"))
    return below if below.startswith("/") or not below else path


def _is_one_of(given: bytes, secrets: tuple[Secret, ...]) -> bool:
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(given, secret.reveal().encode())
    return found


def _number(digits: bytes) -> int:
    # No number, or one of absurd length: the size is checked again while reading.
    try:
        return int(digits)
    except ValueError:
        return 0


_Read = tuple[Secret | None, ...] | None


def secrets_of(given: str | Iterable[str] | None) -> _Read:
    """Return one secret or several; None in place of what cannot be a secret."""
    if given is None:
        return None
    values: Iterable[object] = given
    if isinstance(given, str) or not isinstance(given, Iterable):
        values = (given,)
    # A slash at the end of a URL means nothing here.
    stripped = (value.rstrip("/") if isinstance(value, str) else "" for value in values)
    return tuple(Secret(value) if value else None for value in stripped)


def pairs_of(given: tuple[str, str] | Iterable[tuple[str, str]] | None) -> _Read:
    """Return one pair or several, as HTTP Basic joins them; None for what cannot be one."""
    if given is None:
        return None
    values: tuple[object, ...] = tuple(given) if isinstance(given, Iterable) else (given,)
    is_one = any(isinstance(value, str) for value in values)
    return tuple(map(_pair, (values,) if is_one else values))


def _pair(given: object) -> Secret | None:
    match given:
        case [str(user), str(password)] if user and password and ":" not in user:
            return Secret(f"{user}:{password}")
    return None


def checked(given: _Read, complaint: str) -> tuple[Secret, ...] | None:
    """Return the secrets that were read; ConfigurationError if one of them is None."""
    if given is None:
        return None
    secrets = tuple(filter(None, given))
    if not secrets or len(secrets) < len(given):
        raise ConfigurationError(complaint)
    if not all(secret.is_utf8 for secret in secrets):
        setting = complaint.partition(":")[0]
        raise ConfigurationError(f"{setting}: it is no text in UTF-8")
    return secrets
