"""Printing beside messages that are under way.

Rule: a terminal that Ctrl-S has stopped, or a pipe that nobody reads, holds up the printing and
nothing else: neither messages nor postbacks.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio.to_thread


async def print_beside(show: Callable[[], None]) -> None:
    """Print in a thread, so that nobody waits for the reader but who awaits this.

    A cancelled caller does not wait for what is being printed.
    """
    await anyio.to_thread.run_sync(show, abandon_on_cancel=True)
