"""The running event loop and its time, the quick way, and the error for another one.

anyio's own way to either costs many times as much, and every message asks.

Rule: what counts is which library runs this task, and not which event loop runs in this
thread: trio may run as a guest within that of asyncio.
"""

from __future__ import annotations

import asyncio
import sys

import anyio


def is_trios() -> bool:
    """Return whether trio runs this task, by what anyio goes by."""
    if "trio" not in sys.modules:
        return False
    import sniffio  # noqa: PLC0415 - which trio needs, and asyncio does not

    try:
        return sniffio.current_async_library() == "trio"
    except sniffio.AsyncLibraryNotFoundError:
        return False  # a callback of asyncio's, or nothing at all


def event_loop() -> object:
    """Return what is one with the running event loop, of asyncio or trio.

    Raises RuntimeError where none runs.
    """
    if is_trios():
        import trio  # noqa: PLC0415 - not installed with asyncio alone

        return trio.lowlevel.current_trio_token()
    return asyncio.get_running_loop()


def now() -> float:
    """Return the time by the running event loop's clock, in seconds."""
    return anyio.current_time() if is_trios() else asyncio.get_running_loop().time()


def elsewhere(of: str) -> RuntimeError:
    """Make the error for a use in another event loop than that in which it began."""
    return RuntimeError(f"this {of} belongs to another event loop; make one for each event loop")
