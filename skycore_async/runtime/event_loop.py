"""The running event loop and its time, the quick way, and the error for another one.

anyio's own way to either costs many times as much, and every message asks.
"""

from __future__ import annotations

import asyncio

import anyio


def event_loop() -> object:
    """Return what is one with the running event loop, of asyncio or trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        import trio  # noqa: PLC0415 - not installed with asyncio alone

        return trio.lowlevel.current_trio_token()


def now() -> float:
    """Return the time by the running event loop's clock, in seconds."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return anyio.current_time()


def elsewhere(of: str) -> RuntimeError:
    """Make the error for a use in another event loop than that in which it began."""
    return RuntimeError(f"this {of} belongs to another event loop; make one for each event loop")
