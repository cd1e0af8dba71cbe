"""Which transport a client sends over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from ..errors import ConfigurationError
from .base import Road, Transport

if TYPE_CHECKING:
    import httpx

_HTTP: Final = frozenset({"http", "https"})


def choose(
    transport: Transport | Road | None,
    http_client: httpx.AsyncClient | None,
    base_url: str,
) -> Transport:
    """Return the transport that was given, or one over the client that was, or a new one.

    A new one goes through the proxy that the environment names.

    Raises ConfigurationError where both were given, or something else.
    """
    # Slow to load, which the import of this module does not wait for.
    import httpx  # noqa: PLC0415

    from .httpx import HttpxClientTransport  # noqa: PLC0415

    if transport is not None and http_client is not None:
        raise ConfigurationError("give transport or http_client, not both")
    if http_client is not None:
        if not isinstance(http_client, httpx.AsyncClient):
            raise ConfigurationError("http_client: an httpx.AsyncClient is needed")
        return HttpxClientTransport(http_client)
    if transport is None or isinstance(transport, str):
        return _new(transport or "httpx", base_url)
    return transport


def _new(road: Road, base_url: str) -> Transport:
    from .direct import DirectTransport  # noqa: PLC0415 - as above
    from .httpx import HttpxTransport  # noqa: PLC0415
    from .proxies import environment_proxy  # noqa: PLC0415

    if road not in get_args(Road):
        raise ConfigurationError(f"transport: {road!r} is neither a Transport, 'fast' nor 'httpx'")
    proxy = environment_proxy(base_url)
    if road == "fast" and (proxy is None or proxy.url.scheme in _HTTP):
        return DirectTransport(proxy=proxy)
    return HttpxTransport(proxy=proxy)  # which knows SOCKS
