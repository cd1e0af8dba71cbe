"""The running event loop and its time, the quick way, and the error for another one.

anyio's own way to either costs many times as much, and every message asks.

Rules:

* What counts is which library runs this task, and not which event loop runs in this
  thread: trio may run as a guest within that of asyncio.
* That of a forked process is another one, although it is the same object: the connections within
  it are one with its parent's, and either could take the answer to the other's request.
"""

from __future__ import annotations

import asyncio
import functools
from contextlib import suppress
from importlib import import_module
from threading import get_ident
from types import SimpleNamespace
from typing import Any, Protocol

from . import forks

_runs: Any = SimpleNamespace(name=None)
with suppress(ImportError):  # trio needs sniffio, and asyncio does not
    # Where trio notes its name while it runs a task of this thread's.
    from sniffio import thread_local as _runs


@functools.cache
def _trio() -> Any:
    # Not installed with asyncio alone; and here it runs.
    return import_module("trio")


def is_trios() -> bool:
    """Return whether trio runs this task."""
    return bool(_runs.name == "trio")


def event_loop() -> object:
    """Return what equals the running event loop of this process, of asyncio or trio.

    Raises RuntimeError where none runs.
    """
    loop: object = running_loop()
    return (loop, forks.count) if forks.count else loop


def running_loop() -> Any:
    """Return the running event loop itself, which may be the same object in a forked process.

    Raises RuntimeError where none runs.
    """
    if _runs.name == "trio":
        return _trio().lowlevel.current_trio_token()
    return asyncio.get_running_loop()


class HomeLoop:
    """The event loop in which something began, to which it belongs.

    Raises RuntimeError where none runs.
    """

    def __init__(self) -> None:
        self._loop, self._forks = running_loop(), forks.count

    def is_here(self) -> bool:
        """Return whether it runs this task, in this process; RuntimeError where none runs.

        Before Python 3.12 asyncio asks the system for the process whenever it is asked which
        loop runs.  One of its own knows its thread for as long as it runs, which need not be
        that in which it began; of any other, as uvloop's, asyncio is asked.
        """
        if (
            getattr(self._loop, "_thread_id", None) == get_ident()
            and self._forks == forks.count
            and _runs.name != "trio"
        ):
            return True
        return running_loop() == self._loop and self._forks == forks.count

    def is_running(self) -> bool:
        """Return whether it runs still, in this process."""
        if self._forks != forks.count:
            return False
        if isinstance(self._loop, asyncio.AbstractEventLoop):
            return self._loop.is_running()
        try:
            self._loop.run_sync_soon(_nothing)
        except _trio().RunFinishedError:
            return False
        return True


def _nothing() -> None:
    """Do nothing."""


def now() -> float:
    """Return the time by the running event loop's clock, in seconds."""
    if _runs.name == "trio":
        return float(_trio().current_time())
    return asyncio.get_running_loop().time()


class Clock(Protocol):
    """What tells the time of an event loop, as one of asyncio's does."""

    def time(self) -> float:
        """Return the time in seconds."""
        ...


class RunningClock:
    """The clock of the event loop that runs when it is asked."""

    def time(self) -> float:
        """Return the time in seconds."""
        return now()


def clock() -> Clock:
    """Return that of the running event loop, for who stays in it: to find it costs as much."""
    return RunningClock() if _runs.name == "trio" else asyncio.get_running_loop()


def is_accident(raised: BaseException) -> bool:
    """Return whether the code that was called raised it, and not the end of this task.

    A CancelledError of asyncio's may be that of a future which was cancelled there.
    """
    if not isinstance(raised, asyncio.CancelledError):
        return isinstance(raised, Exception)
    task = None if is_trios() else asyncio.current_task()
    return task is None or not task.cancelling()


def elsewhere(of: str) -> RuntimeError:
    """Make the error for a use in another event loop than that in which it began."""
    return RuntimeError(
        f"this {of} belongs to another event loop, that of its first use, or to the process that"
        " forked this one; make one for each event loop, inside the function that asyncio.run() is"
        " given, and after a fork. Where code is not asynchronous, use SyncClient"
    )
