"""The client: a message in, an outcome out.

Strategy: decide in `wire`, act over a transport.  `send_sms` resolves the
message, writes the request, lets the transport carry it, and reads the answer;
each step raises the error that says what is known of the message.

Rules:

* What is refused before the transport is `InvalidMessage`; after it, only what
  the transport or the answer proves is anything but `OutcomeUnknown`.
* The API key lives in a `Secret`; an answer that repeats it is read without it.
* Nothing is bound to the task or the event loop that made the client: it may
  be opened in one task and closed in another.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypedDict, Unpack

import attrs

from . import wire
from .errors import ConfigurationError, OutcomeUnknown, Rejected, SkycoreError
from .messages import SMS, Accepted
from .secret import Secret
from .transports.base import Request, Transport
from .version import __version__

if TYPE_CHECKING:
    import httpx

Method = Literal["POST", "GET"]

_log: Final = logging.getLogger("skycore_async")
_log.addHandler(logging.NullHandler())  # a program without logging stays quiet

_HEADERS: Final = {
    "Accept": "text/xml",
    "Accept-Encoding": "identity",  # an answer is read as it comes
    "User-Agent": f"skycore-async/{__version__}",
}
_POST_HEADERS: Final = _HEADERS | {"Content-Type": "application/x-www-form-urlencoded"}


class Options(TypedDict, total=False):
    """What `SkycoreClient.with_options` can change; see `SkycoreClient`."""

    api_key: str
    from_: str | None
    campaign_ref: str | None
    enforce_campaign_check: bool
    base_url: str
    timeout: float
    max_segments: int | None
    method: Method


@attrs.frozen(kw_only=True)
class _Settings:
    api_key: Secret
    from_: str | None
    campaign_ref: str | None
    enforce_campaign_check: bool
    base_url: str
    timeout: float
    max_segments: int | None
    method: Method

    def __attrs_post_init__(self) -> None:
        _check_address(self.base_url)
        if not self.timeout > 0:
            raise ConfigurationError(f"timeout: {self.timeout!r} is not above 0 seconds")
        if self.max_segments is not None and self.max_segments < 1:
            raise ConfigurationError(f"max_segments: {self.max_segments!r} is less than 1")
        if self.method not in {"POST", "GET"}:
            raise ConfigurationError(f"method: {self.method!r} is neither 'POST' nor 'GET'")


class SkycoreClient:
    """Send SMS through Skycore, from asyncio or trio.

    `api_key`, `from_` (the short code) and `base_url` stand in the environment
    as SKYCORE_API_KEY, SKYCORE_FROM and SKYCORE_BASE_URL where they are not
    given.  `from_` and `campaign_ref` are for messages that name none; with
    `enforce_campaign_check`, the account's setting of that name, a message
    without a campaign reference is refused here.  `timeout`, in seconds, bounds
    everything that one call does.  `max_segments` refuses longer texts.
    `max_in_flight` is the number of connections, and so of messages under way.

    `http_client` sends over an `httpx.AsyncClient` of the caller's, which is
    never closed here; `transport` over any `Transport`, which is.  `method="GET"`
    puts the API key into the URL, where proxies and logs see it.

    Raises ConfigurationError where the settings cannot work.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        from_: str | None = None,
        campaign_ref: str | None = None,
        enforce_campaign_check: bool = False,
        base_url: str | None = None,
        max_in_flight: int = 50,
        timeout: float = 30,
        transport: Transport | None = None,
        http_client: httpx.AsyncClient | None = None,
        max_segments: int | None = None,
        method: Method = "POST",
    ) -> None:
        given, api_key = Secret(api_key or os.environ.get("SKYCORE_API_KEY", "")), None
        self._settings = _Settings(
            api_key=_checked(given),
            from_=from_ or os.environ.get("SKYCORE_FROM") or None,
            campaign_ref=campaign_ref,
            enforce_campaign_check=enforce_campaign_check,
            base_url=base_url or os.environ.get("SKYCORE_BASE_URL") or wire.ENDPOINT,
            timeout=timeout,
            max_segments=max_segments,
            method=method,
        )
        self._transport = _choose(transport, http_client, max_in_flight)
        self._owns_transport = True

    def with_options(self, **options: Unpack[Options]) -> Self:
        """Give a view of this client with other settings over the same connections.

        Closing the view closes nothing: the connections are this client's.
        Raises ConfigurationError where the settings cannot work.
        """
        key = _checked(Secret(options.pop("api_key"))) if "api_key" in options else None
        changed: dict[str, Any] = {**options, "api_key": key or self._settings.api_key}
        view = object.__new__(type(self))
        view._settings = attrs.evolve(self._settings, **changed)
        view._transport = self._transport
        view._owns_transport = False
        return view

    async def send_sms(
        self,
        *,
        to: str,
        text: str,
        from_: str | None = None,
        campaign_ref: str | None = None,
        spid: str | None = None,
        operator_id: str | None = None,
        from_mask: str | None = None,
        key: str | None = None,
    ) -> Accepted:
        """Send one SMS and give what the provider answered; for the fields see `SMS`.

        Raises InvalidMessage where it was refused here, NotSent where it cannot
        have been sent, Rejected where the API refused it, and OutcomeUnknown
        where it may have been sent.  Only NotSent is safe to try again.
        """
        message = SMS(
            to=to,
            text=text,
            from_=from_,
            campaign_ref=campaign_ref,
            spid=spid,
            operator_id=operator_id,
            from_mask=from_mask,
            key=key,
        )
        settings = self._settings
        resolved = wire.resolve(
            message,
            from_=settings.from_,
            campaign_ref=settings.campaign_ref,
            enforce_campaign_check=settings.enforce_campaign_check,
            max_segments=settings.max_segments,
        )
        try:
            response = await self._transport.send(
                self._request(resolved), timeout=settings.timeout
            )
            accepted = wire.parse_response(
                message,
                to=resolved.to,
                status=response.status,
                headers=_about_pace(response.headers),
                body=settings.api_key.hide_in(response.body),
            )
        except SkycoreError as error:
            _log_failure(resolved, error)
            raise
        _log.debug("SMS to %s accepted as %s", masked(resolved.to), accepted.tracking_id)
        return accepted

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owns_transport:
            await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return (
            f"<SkycoreClient base_url={self._settings.base_url!r} from_={self._settings.from_!r}>"
        )

    def _request(self, resolved: SMS) -> Request:
        settings = self._settings
        if settings.method == "GET":
            return Request(
                method="GET",
                url=settings.base_url,
                query=wire.query_string(resolved, api_key=settings.api_key.reveal()),
                headers=_HEADERS,
            )
        return Request(
            method="POST",
            url=settings.base_url,
            body=wire.post_body(resolved, api_key=settings.api_key.reveal()),
            headers=_POST_HEADERS,
        )


def masked(number: str) -> str:
    """Mask a phone number but for its last four digits, for a log record."""
    return "*" * len(number[:-4]) + number[-4:]


def _log_failure(resolved: SMS, error: SkycoreError) -> None:
    level = logging.WARNING if isinstance(error, OutcomeUnknown) else logging.INFO
    code = getattr(error, "code", None)
    # The provider's own words may quote the number or the text: its code stands for them.
    said = code or ("no error code" if isinstance(error, Rejected) else error)
    _log.log(level, "SMS to %s: %s: %s", masked(resolved.to), type(error).__name__, said)


def _about_pace(headers: Mapping[str, str]) -> dict[str, str]:
    # No other is read, and another may repeat the API key, as a Location does.
    return {name: headers[name] for name in ("date", "retry-after") if name in headers}


def _check_address(base_url: str) -> None:
    import httpx

    try:
        address = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ConfigurationError(f"base_url: {base_url!r} is no URL: {error}") from error
    if address.scheme not in {"http", "https"} or not address.host:
        raise ConfigurationError(f"base_url: {base_url!r} is no http or https URL")
    if address.userinfo or address.query or address.fragment:
        raise ConfigurationError("base_url: no user, no query and no fragment can be part of it")


def _checked(given: Secret) -> Secret:
    if not isinstance(given.reveal(), str):
        raise ConfigurationError("api_key: a str is needed")
    # A key read from a file or the environment often ends in a line break.
    key = Secret(given.reveal().strip())
    if not key.reveal():
        raise ConfigurationError("no API key: pass api_key=, or set SKYCORE_API_KEY")
    if not (key.reveal().isascii() and key.reveal().isprintable()):
        raise ConfigurationError("api_key: it has characters that no API key has")
    return key


def _choose(
    transport: Transport | None, http_client: httpx.AsyncClient | None, max_in_flight: int
) -> Transport:
    import httpx

    from .transports.httpx import HttpxClientTransport, HttpxTransport

    if transport is not None and http_client is not None:
        raise ConfigurationError("give transport or http_client, not both")
    if max_in_flight < 1:
        raise ConfigurationError(f"max_in_flight: {max_in_flight!r} is less than 1")
    if http_client is not None:
        if not isinstance(http_client, httpx.AsyncClient):
            raise ConfigurationError("http_client: an httpx.AsyncClient is needed")
        return HttpxClientTransport(http_client)
    return transport or HttpxTransport(max_in_flight=max_in_flight)
