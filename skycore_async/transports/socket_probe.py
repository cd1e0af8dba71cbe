"""Whether a socket has anything to read: its end, or bytes that no request asked for."""

from __future__ import annotations

import select
import ssl
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import HasFileno


class Readiness:
    """A check of one socket, cheap enough to be made before each use."""

    def __init__(self, sock: HasFileno) -> None:
        self._socket = sock
        self._poll: Callable[[float], Sequence[object]] | None = None

    def is_readable(self) -> bool:
        """Return whether a read would return at once, even if the event loop does not know it yet.

        A closed socket counts as readable.
        """
        fileno = self._socket.fileno()
        if fileno < 0:
            return True
        if self._poll is None:
            self._poll = _poll(fileno)
        return bool(self._poll(0))


def _poll(fileno: int) -> Callable[[float], Sequence[object]]:
    if sys.platform == "win32":  # pragma: no cover - which has no poll, and no limit on fileno
        return lambda timeout: select.select([fileno], [], [], timeout)[0]
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return poll.poll


def has_more(tls: ssl.SSLObject) -> bool:
    """Return whether TLS has buffered more bytes, or the end, from the socket."""
    try:
        tls.read(1)
    except ssl.SSLError as error:
        return not isinstance(error, ssl.SSLWantReadError)
    return True
