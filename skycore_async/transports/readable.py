"""Whether there is something to read on a socket: an end, or an answer to nobody's question."""

from __future__ import annotations

import select
import sys


def is_readable(fileno: int) -> bool:
    """Tell whether a read would return at once, whether or not the event loop knows of it.

    A closed socket, whose number is negative, reads as one at its end.
    """
    if fileno < 0:
        return True
    if sys.platform == "win32":  # pragma: no cover - which has no poll, and no limit on fileno
        return bool(select.select([fileno], [], [], 0)[0])
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(0))
