"""Whom a transport trusts.

Rule: what the environment and certifi name is loaded once in a program, which takes some
20 ms each time, and is shared by all its transports.
"""

from __future__ import annotations

import functools
import os
import ssl
from typing import Final

import httpx

from ..errors import ConfigurationError

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


@functools.cache
def _by_default(*_named: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context()
