"""The errors for failed exchanges, without any text that came over the wire.

An error text of httpx, httpcore, h11, ssl or a caller's hook may quote the answer, and a broken
answer may repeat the request, with key, number and text.  So only known texts are passed on.

Rules:

* Our error has the name of the library's class, and a text of the system's (`strerror`, why a
  certificate was refused) or of our own.
* Its cause is a new exception made from these, without the library's frames: their locals hold
  the request, and with it the API key.
* So our error must be raised outside the `except` block that caught the library's: its context
  would keep those frames.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from ..errors import NotSent, OutcomeUnknown, ReportError

EACH_IS_USED: Final = (
    "the http_client sends a request of its own before each, as an auth flow does that asks for a"
    " token: give that flow another client"
)
OTHER_PROTOCOL: Final = (
    "HTTP/2 was agreed in the name of another client that has the same ssl.SSLContext: give the"
    " transport one of its own"
)
SENT_AGAIN: Final = "the request was about to be sent a second time"

# Texts that are the same whatever is sent and received.
_KNOWN_TEXTS: Final = frozenset(
    {
        EACH_IS_USED,
        OTHER_PROTOCOL,
        SENT_AGAIN,
        "Server disconnected without sending a response.",
        "URL too long",
    }
)
# Used if the text of one of these classes, of any library, is not a known one.
_WORDS: Final = {
    "ProxyError": "the proxy refused",
    "ReadError": "the connection broke",
    "RemoteProtocolError": "what came is no HTTP answer, or broke off",
    "WriteError": "the connection broke",
}
# Modules whose exceptions can be made again from a text alone.
_LIBRARIES: Final = frozenset(
    {"anyio", "builtins", "h11", "httpcore", "httpcore2", "httpx", "httpx2", "ssl"}
)
_LONGEST_CHAIN: Final = 16

_STATUS: Final = re.compile(r"[1-5][0-9]{2}(?= )")  # of a proxy that refused, before its reason
_OPENSSL: Final = re.compile(r"[A-Z0-9_]{1,60}")


def failed(raised: BaseException, *, not_sent: bool) -> NotSent | OutcomeUnknown:
    """Return the error for an exchange that `raised` ended; `not_sent` says if that is proven."""
    what, cause = _described(raised)
    error = NotSent(f"no connection: {what}") if not_sent else OutcomeUnknown(f"no answer: {what}")
    error.__cause__ = cause
    return error


def broken_off(raised: Exception) -> ReportError:
    """Return the error for a download that `raised` ended."""
    what, cause = _described(raised)
    error = ReportError(f"the report breaks off: {what}")
    error.__cause__ = cause
    return error


def timed_out(timeout: float, *, not_sent: bool) -> NotSent | OutcomeUnknown:
    """Return the error for an exchange that took too long; `not_sent` says if that is proven."""
    if not_sent:
        return NotSent(f"no connection within {timeout:.2g} seconds")
    return OutcomeUnknown(f"no answer within {timeout:.2g} seconds")


def _described(raised: BaseException) -> tuple[str, Exception]:
    """Return a safe text for an exception, and a new exception with that text."""
    name, words = type(raised).__name__, ""
    with suppress(Exception):  # of an exception whose `__str__` or property fails
        words = _words(raised)
    what = f"{name}: {words}" if words else name
    return what, _safe_copy(raised, words, what)


def _safe_copy(raised: BaseException, words: str, what: str) -> Exception:
    library = type(raised).__module__.partition(".")[0]
    if isinstance(raised, Exception) and library in _LIBRARIES:
        with suppress(Exception):
            return type(raised)(words)
    return RuntimeError(what)


def _words(raised: BaseException) -> str:
    """Return the part of an exception's text that is known to be safe; empty if none is."""
    if str(raised) in _KNOWN_TEXTS:
        return str(raised)
    name = type(raised).__name__
    if "ProxyError" in name and (status := _STATUS.match(str(raised))):
        return f"{_WORDS['ProxyError']} with HTTP {status[0]}"
    of_the_system = filter(None, map(_system_reason, _chain(raised)))
    return next(of_the_system, "") or _WORDS.get(name, "")


def _chain(raised: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that caused it."""
    left, seen = [raised], set[int]()
    while left and len(seen) < _LONGEST_CHAIN:
        error = left.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        # The first is what is gone through last.
        within = error.exceptions[:1] if isinstance(error, BaseExceptionGroup) else ()
        made_of = (error.__context__, error.__cause__, *within)
        named = (getattr(error, name, None) for name in ("os_error", "certificate_error"))
        left += [one for one in (*made_of, *named) if isinstance(one, BaseException)]


def _system_reason(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError(verify_message=str(message)):
            return f"the certificate was refused: {message}"
        case ssl.SSLError(reason=str(reason)) if _OPENSSL.fullmatch(reason):
            return f"no TLS: {reason}"
        case socket.gaierror():
            return "the name of the host was not found"
        case OSError(errno=int(number)) if not isinstance(error, ssl.SSLError):
            return os.strerror(number)
    return ""
