"""A request to the API, by the method that a client is set to.

Strategy: a module of `protocol`, `requests` or `report`, writes the content, as the body of a POST
or as the query of a GET.

Rule: no local variable here holds the API key, nor anything that contains it.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

from ..transports.base import Request
from ..version import __version__
from .settings import Settings

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

_HEADERS: Final = {
    "Accept": "text/xml",
    "Accept-Encoding": "identity",  # an answer is read as it comes
    "User-Agent": f"skycore-async/{__version__}",
}
# Without these, a cache on the way could answer, and the message would not be sent.
_GET_HEADERS: Final = _HEADERS | {"Cache-Control": "no-cache, no-store"}
_POST_HEADERS: Final = _HEADERS | {"Content-Type": "application/x-www-form-urlencoded"}


class WireFormat(Protocol[T_contra]):
    """What writes a request for either method: a module of `protocol`."""

    def post_body(self, said: T_contra, /, *, api_key: str) -> bytes:
        """Write the body of a POST."""
        ...

    def query_string(self, said: T_contra, /, *, api_key: str) -> str:
        """Write the query of a GET."""
        ...


def api_request(said: T, wire: WireFormat[T], settings: Settings) -> Request:
    """Return the request with this content, as `wire` writes it."""
    if settings.method == "GET":
        return Request(
            method="GET",
            url=settings.base_url,
            query=wire.query_string(said, api_key=settings.api_key.reveal()),
            headers=_GET_HEADERS,
        )
    return Request(
        method="POST",
        url=settings.base_url,
        body=wire.post_body(said, api_key=settings.api_key.reveal()),
        headers=_POST_HEADERS,
    )
