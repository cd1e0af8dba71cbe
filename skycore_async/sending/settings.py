"""The settings of a client, checked once, when they are given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal, TypedDict, get_args

import attrs

from ..errors import ConfigurationError
from ..messages import LONGEST_UNDER_WAY
from ..protocol.numbers import NumberReader
from ..runtime.secret import Secret
from ..transports.library_logs import hide_key, without_secrets

Method = Literal["POST", "GET"]

_OF_THE_CLIENT: Final = (
    "connections, rate, ledger and telemetry are those of the whole client, and are given to"
    " SkycoreClient()"
)

# The types that settings must have: from a configuration they may come as others.
_TEXT: Final = (str | None, "a str is")
_NEEDED: Final[Mapping[str, tuple[Any, str]]] = MappingProxyType(
    {
        "from_": _TEXT,
        "campaign_ref": _TEXT,
        "timeout": (float | int, "a number of seconds is"),
        "max_attempts": (int, "a whole number is"),
        "max_segments": (int | None, "a whole number is"),
        # Any text, even "false", would count as True.
        "enforce_campaign_check": (bool, "True or False is"),
        "resend_in_doubt": (bool, "True or False is"),
        "ignore_opt_out": (bool, "True or False is"),
    }
)


class Options(TypedDict, total=False):
    """What `SkycoreClient.with_options` can change; see `SkycoreClient`."""

    api_key: str
    from_: str | None
    campaign_ref: str | None
    enforce_campaign_check: bool
    base_url: str
    timeout: float
    max_attempts: int
    max_segments: int | None
    number_reader: NumberReader | None
    method: Method


@attrs.frozen(kw_only=True)
class Settings:
    """The settings of a client that apply to each message by itself.

    Raises ConfigurationError if they cannot work.
    """

    api_key: Secret
    from_: str | None
    campaign_ref: str | None
    enforce_campaign_check: bool
    base_url: str
    timeout: float
    max_attempts: int
    max_segments: int | None
    number_reader: NumberReader | None
    method: Method
    resend_in_doubt: bool = False
    ignore_opt_out: bool = False

    def __attrs_post_init__(self) -> None:
        for name, (kind, needed) in _NEEDED.items():
            if not isinstance(value := getattr(self, name), kind):
                raise ConfigurationError(f"{name}: {needed} needed, not {type(value).__name__}")
        self._check_texts()
        if not 0 < self.timeout <= LONGEST_UNDER_WAY:
            raise ConfigurationError(
                f"timeout: {self.timeout!r} is not above 0 and at most"
                f" {LONGEST_UNDER_WAY:,.0f} seconds, which are a day"
            )
        if self.max_attempts < 1:
            raise ConfigurationError(f"max_attempts: {self.max_attempts!r} is less than 1")
        if self.max_segments is not None and self.max_segments < 1:
            raise ConfigurationError(f"max_segments: {self.max_segments!r} is less than 1")
        if not (self.number_reader is None or callable(self.number_reader)):
            raise ConfigurationError(
                f"number_reader: {self.number_reader!r} cannot be called: give one such as"
                " NationalNumbers('US')"
            )
        if self.method not in get_args(Method):
            raise ConfigurationError(f"method: {self.method!r} is neither 'POST' nor 'GET'")

    def _check_texts(self) -> None:
        for name in ("from_", "campaign_ref"):
            if not Secret(getattr(self, name) or "").is_utf8:
                raise ConfigurationError(f"{name}: it is no text in UTF-8")
        if self.from_ == "":  # it was given, and so is no wish for that of the environment
            raise ConfigurationError("from_: it is empty: give a short code, or None")

    def changed(self, options: Options) -> Settings:
        """Return these settings with `options` changed; secrets are removed from the dict.

        Raises TypeError for an unknown option, naming the one that was likely meant.
        """
        secret: dict[str, Any] = {}
        if "api_key" in options:
            secret["api_key"] = checked_key(Secret(options.pop("api_key")))
        if "base_url" in options:
            secret["base_url"] = checked_address(Secret(options.pop("base_url")))
        _check_names(options)
        changed: dict[str, Any] = {**options, **secret}
        return attrs.evolve(self, **changed)


def _check_names(options: Options) -> None:
    from difflib import get_close_matches  # noqa: PLC0415 - for what is wrong alone

    for name in options.keys() - Options.__annotations__.keys():
        near = get_close_matches(name, Options.__annotations__, n=1)
        hint = f"did you mean {near[0]!r}?" if near else _OF_THE_CLIENT
        raise TypeError(f"with_options() got an unexpected keyword argument {name!r}: {hint}")


def checked_address(given: Secret) -> str:
    """Return the address of the API; ConfigurationError if it is none.

    As it may have a password in it, no frame of a traceback has it in a local variable.
    """
    try:
        wrong = _wrong_with(given.reveal())
    except TypeError:  # it is not even hashable
        wrong = _no_url(given.reveal())
    if wrong is not None:
        raise ConfigurationError(f"base_url: {wrong}")
    return given.reveal()


@lru_cache(maxsize=8)  # a message with settings of its own has the address of all others
def _wrong_with(base_url: str) -> str | None:
    import httpx  # noqa: PLC0415 - slow to load, and not needed before

    address = None
    with suppress(httpx.InvalidURL, TypeError, UnicodeError):
        address = httpx.URL(base_url)
    if address is None:
        return _no_url(base_url)
    if address.scheme not in {"http", "https"} or not address.host:
        return f"{without_secrets(repr(base_url))} is no http or https URL"
    if address.userinfo or address.query or address.fragment:
        return "no user, no query and no fragment can be part of it"
    return None


def _no_url(base_url: object) -> str:
    return f"{without_secrets(repr(base_url))} is no URL"


def or_environment(given: str | None, name: str, default: str = "") -> Secret:
    """Return the setting that was given, else that of the environment, else the default.

    An empty setting that was given is returned as it is: the environment's was not wanted.
    """
    return Secret((os.environ.get(name) or default) if given is None else given)


def checked_key(given: Secret) -> Secret:
    """Return the key without white space around it; ConfigurationError if it is none."""
    if not isinstance(given.reveal(), str):
        raise ConfigurationError("api_key: a str is needed")
    # A key read from a file or the environment often ends in a line break.
    key = Secret(given.reveal().strip())
    if not key.reveal():
        raise ConfigurationError("no API key: pass api_key=, or set SKYCORE_API_KEY")
    if not (key.reveal().isascii() and key.reveal().isprintable()):
        raise ConfigurationError("api_key: it has characters that no API key has")
    hide_key(key)
    return key
