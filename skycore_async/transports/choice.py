"""Which transport a client sends over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .base import Transport

if TYPE_CHECKING:
    import httpx


def choose(
    transport: Transport | None,
    http_client: httpx.AsyncClient | None,
    base_url: str,
) -> Transport:
    """Return the transport that was given, or one over the client that was, or a new one.

    Raises ConfigurationError where both were given, or something else.
    """
    # Slow to load, which the import of this module does not wait for.
    import httpx  # noqa: PLC0415

    from .httpx import (  # noqa: PLC0415
        HttpxClientTransport,
        HttpxTransport,
        environment_proxy,
    )

    if transport is not None and http_client is not None:
        raise ConfigurationError("give transport or http_client, not both")
    if http_client is not None:
        if not isinstance(http_client, httpx.AsyncClient):
            raise ConfigurationError("http_client: an httpx.AsyncClient is needed")
        return HttpxClientTransport(http_client)
    if transport is not None:
        return transport
    return HttpxTransport(proxy=environment_proxy(base_url))
