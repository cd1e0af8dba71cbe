"""The running event loop and its time, found quickly, and the error for use in another loop.

anyio's own functions for both take many times as long, and every message needs them.

Rules:

* What counts is which library runs this task, not which event loop runs in this thread:
  trio may run as a guest in an event loop of asyncio.
* The event loop of a forked process counts as another one, although it is the same object: it
  shares its connections with the parent's, and each could read the answer to the other's request.
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
    # trio notes its name here while it runs a task in this thread.
    from sniffio import thread_local as _runs


@functools.cache
def _trio() -> Any:
    # Not installed with asyncio alone, but installed where it is running.
    return import_module("trio")


def is_trios() -> bool:
    """Return whether trio runs this task."""
    return bool(_runs.name == "trio")


def event_loop() -> object:
    """Return a value that identifies the running event loop (asyncio or trio) of this process.

    Raises RuntimeError if none is running.
    """
    loop: object = running_loop()
    return (loop, forks.count) if forks.count else loop


def running_loop() -> Any:
    """Return the running event loop itself, which may be the same object in a forked process.

    Raises RuntimeError if none is running.
    """
    if _runs.name == "trio":
        return _trio().lowlevel.current_trio_token()
    return asyncio.get_running_loop()


class HomeLoop:
    """The event loop in which an object was first used, to which the object belongs.

    Raises RuntimeError if none is running.
    """

    def __init__(self) -> None:
        self._loop, self._forks = running_loop(), forks.count

    def is_here(self) -> bool:
        """Return whether this loop runs this task, in this process.

        Raises RuntimeError if no event loop is running.

        Before Python 3.12, asyncio asks the system for the process id at each
        `get_running_loop`.  A loop of asyncio's own knows its thread while it runs, which may be
        another thread than at first; for any other loop, such as uvloop's, asyncio is asked.
        """
        if (
            getattr(self._loop, "_thread_id", None) == get_ident()
            and self._forks == forks.count
            and _runs.name != "trio"
        ):
            return True
        return running_loop() == self._loop and self._forks == forks.count

    def is_running(self) -> bool:
        """Return whether this loop is still running, in this process."""
        if self._forks != forks.count:
            return False
        if isinstance(self._loop, asyncio.AbstractEventLoop):
            return self._loop.is_running()
        try:
            self._loop.run_sync_soon(_do_nothing)
        except _trio().RunFinishedError:
            return False
        return True


def _do_nothing() -> None:
    """Do nothing."""


def now() -> float:
    """Return the time by the running event loop's clock, in seconds."""
    if _runs.name == "trio":
        return float(_trio().current_time())
    return asyncio.get_running_loop().time()


class Clock(Protocol):
    """A source of an event loop's time, as asyncio's loops are."""

    def time(self) -> float:
        """Return the time in seconds."""
        ...


class RunningClock:
    """The clock of whichever event loop is running at each call."""

    def time(self) -> float:
        """Return the time in seconds."""
        return now()


def clock() -> Clock:
    """Return the running event loop's clock, to keep: each later time is then quicker to get."""
    return RunningClock() if _runs.name == "trio" else asyncio.get_running_loop()


def is_accident(raised: BaseException) -> bool:
    """Return whether the called code raised this error, rather than this task being ended.

    asyncio's CancelledError may come from a future that was cancelled in the called code.
    """
    if not isinstance(raised, asyncio.CancelledError):
        return isinstance(raised, Exception)
    task = None if is_trios() else asyncio.current_task()
    return task is None or not task.cancelling()


def wrong_event_loop(of: str) -> RuntimeError:
    """Return the error for use in another event loop than the one it was first used in."""
    return RuntimeError(
        f"this {of} belongs to another event loop, that of its first use, or to the process that"
        " forked this one; make one for each event loop, inside the function that asyncio.run() is"
        " given, and after a fork. Where code is not asynchronous, use SyncClient"
    )
