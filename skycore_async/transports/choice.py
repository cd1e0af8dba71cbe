"""Which transport a client sends over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

from ..errors import ConfigurationError
from .base import Transport

if TYPE_CHECKING:
    from .http_client import AsyncHTTPClient

# The transports of the package by one word each, for `transport=` of a client and `--road` of the
# command line: that for volume, and the default of clients.
Road = Literal["fast", "httpx"]

_HTTP: Final = frozenset({"http", "https"})


def choose(
    transport: Transport | Road | None,
    http_client: AsyncHTTPClient | None,
    base_url: str,
) -> Transport:
    """Return the given transport, or one over the given HTTP client, or a new one.

    A new transport uses the proxy that the environment names.

    Raises ConfigurationError if both are given, or something that is neither.
    """
    if transport is not None and http_client is not None:
        raise ConfigurationError("give transport or http_client, not both")
    if http_client is not None:
        return _over(http_client)
    if transport is None or isinstance(transport, str):
        return _new(transport or "httpx", base_url)
    _check(transport)
    return transport


def check_same_way(base_url: str, other_url: str) -> None:
    """Raise ConfigurationError if the environment names another proxy for the other address."""
    from .proxies import check_same_proxy  # noqa: PLC0415 - slow to load

    check_same_proxy(base_url, other_url)


def _check(transport: object) -> None:
    from .http_client import library_of  # noqa: PLC0415 - as below

    # A failure with each message would leave each of them in doubt.
    if library_of(transport) is not None:
        raise ConfigurationError("transport: an AsyncClient is given as http_client=")
    if isinstance(transport, type) or not isinstance(transport, Transport):
        kind = transport if isinstance(transport, type) else type(transport)
        raise ConfigurationError(
            f"transport: {kind.__name__} is no Transport: give one, such as DirectTransport()"
        )


def _over(http_client: AsyncHTTPClient) -> Transport:
    # Slow to load, so not loaded with this module.
    from .http_client import library_of  # noqa: PLC0415
    from .httpx import HttpxClientTransport  # noqa: PLC0415

    library = library_of(http_client)
    if library is None:
        raise ConfigurationError("http_client: an AsyncClient of httpx or httpx2 is needed")
    return HttpxClientTransport(http_client, library)


def _new(word: Road, base_url: str) -> Transport:
    from .proxies import environment_proxy  # noqa: PLC0415 - as above

    if word not in get_args(Road):
        raise ConfigurationError(f"transport: {word!r} is neither a Transport, 'fast' nor 'httpx'")
    proxy = environment_proxy(base_url)
    if word == "fast" and (proxy is None or proxy.url.scheme in _HTTP):
        from .direct import DirectTransport  # noqa: PLC0415

        return DirectTransport(proxy=proxy)
    from .httpx import HttpxTransport  # noqa: PLC0415 - which knows SOCKS

    return HttpxTransport(proxy=proxy)
