"""Processes beside that of the tests, which run a function and can be killed.

Strategy: each is forked from one that has loaded the package once for all of them, as to load
it takes a quarter of a second.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, Pipe
from multiprocessing.process import BaseProcess

import anyio
import attrs

if sys.platform == "win32":
    _context = get_context("spawn")
else:
    _context = get_context("forkserver")
    _context.set_forkserver_preload(
        ["tests.support.ledger_owner", "tests.support.ledger_pruner", "anyio._backends._asyncio"]
    )

TIME_TO_END = 20  # seconds


@attrs.frozen
class OtherProcess:
    """A process beside this one, and the pipe that its function has the other end of."""

    process: BaseProcess
    pipe: Connection

    @property
    def pid(self) -> int | None:
        """Return its number."""
        return self.process.pid

    def exit_code(self) -> int | None:
        """Wait until it has ended, and return its exit code: minus the signal that ended it."""
        self.process.join(TIME_TO_END)
        return self.process.exitcode


@contextmanager
def running(function: Callable[..., Awaitable[None]], *values: object) -> Iterator[OtherProcess]:
    """Run a function of a module there, with a pipe and the values, and kill it at the end."""
    ours, theirs = Pipe()
    process = _context.Process(target=anyio.run, args=(function, theirs, *values), daemon=True)
    process.start()
    theirs.close()
    try:
        yield OtherProcess(process, ours)  # pyright: ignore[reportArgumentType] # as on Windows
    finally:
        process.kill()
        process.join()
        ours.close()
