"""The certificates that a transport trusts, and the protocol it agrees on.

Rules:

* The certificates that the environment and certifi name are loaded once in a program and shared by
  all its transports, since loading takes some 20 ms.
* Each handshake offers HTTP/1.1, and the agreed protocol is checked after it.  The offer is stored
  in the context, which another client, such as httpx's, may share and use to offer HTTP/2; and the
  outcome of a request in HTTP/1.1 to a server that speaks HTTP/2 is unknown.
"""

from __future__ import annotations

import functools
import os
import ssl
from typing import Final

import httpx

from ..errors import ConfigurationError
from .failures import OTHER_PROTOCOL

_HTTP_1_1: Final = "http/1.1"
_NAMING: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # what httpx looks for in the environment


def ssl_context(verify: ssl.SSLContext | bool) -> ssl.SSLContext:
    """Return the context for `verify`, which means what it means to httpx."""
    if verify is True:
        return _by_default(*map(os.environ.get, _NAMING))
    made = httpx.create_ssl_context(verify=verify)
    if not isinstance(made, ssl.SSLContext):  # it gives back what it does not know
        raise ConfigurationError(
            f"verify: True, False or an ssl.SSLContext is needed, not {type(made).__name__}"
        )
    return made


def offer_http_1_1(context: ssl.SSLContext) -> None:
    """Make the next handshake offer only HTTP/1.1, as httpx does."""
    context.set_alpn_protocols([_HTTP_1_1])


def check_agreed(tls: ssl.SSLObject) -> None:
    """Raise httpx.ConnectError if a handshake agreed on another protocol."""
    if tls.selected_alpn_protocol() not in {_HTTP_1_1, None}:
        raise httpx.ConnectError(OTHER_PROTOCOL)


@functools.cache
def _by_default(*_named: str | None) -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # which names no file; that of TLS is one as well
        wrong = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    trusted = next(filter(os.environ.get, _NAMING), None)  # of the two, httpx takes the first
    named = [name for name in (trusted, "SSLKEYLOGFILE") if name and os.environ.get(name)]
    see = " and ".join(f"{name}={os.environ[name]!r}" for name in named) or "the package certifi"
    raise ConfigurationError(f"the certificates to trust cannot be loaded: {wrong}: see {see}")
