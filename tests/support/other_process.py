"""Processes beside that of the tests, which run a function and can be killed.

Strategy: each is forked from one process that has loaded the package for all of them, because
loading takes a quarter of a second, and half a second with a worker's libraries.  That process was
started by another test, so each fork gets the environment variables of its own test.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, Pipe
from multiprocessing.process import BaseProcess
from typing import Any

import anyio
import attrs

if sys.platform == "win32":
    _context = get_context("spawn")
else:
    _context = get_context("forkserver")
    _context.set_forkserver_preload(
        [
            "anyio._backends._asyncio",
            "anyio._backends._trio",
            "benchmarks.reliability_sender",
            "tests.support.cli_program",
            "tests.support.cluster_worker",
            "tests.support.inbox_sides",
            "tests.support.ledger_owner",
            "tests.support.ledger_pruner",
        ]
    )

TIME_TO_END = 20  # seconds


@attrs.frozen
class OtherProcess:
    """A process beside this one, and our end of the pipe to its function."""

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


def started(
    function: Callable[..., Awaitable[object]], *values: object, backend: str = "asyncio"
) -> BaseProcess:
    """Start a process that runs a function with the values on an event loop, and ends then."""
    return forked(_run_on_a_loop, backend, function, *values)


def _run_on_a_loop(
    backend: str, function: Callable[..., Awaitable[object]], *values: object
) -> None:
    anyio.run(function, *values, backend=backend)


def forked(
    function: Callable[..., object],
    *values: object,
    environment: dict[str, str] | None = None,
) -> BaseProcess:
    """Start a process that runs a function with the values, and ends then."""
    run = (environment or dict(os.environ), function, *values)
    process: Any = _context.Process(target=_run, args=run, daemon=True)
    process.start()
    return process  # type: ignore[no-any-return] # it is, of whichever context


def _run(environment: dict[str, str], function: Callable[..., object], *values: object) -> None:
    warnings.simplefilter("error")
    os.environ.clear()
    os.environ.update(environment)
    function(*values)


@contextmanager
def running(function: Callable[..., Awaitable[None]], *values: object) -> Iterator[OtherProcess]:
    """Run a function of a module there, with a pipe and the values, and kill it at the end."""
    ours, theirs = Pipe()
    process = started(function, theirs, *values)
    theirs.close()
    try:
        yield OtherProcess(process, ours)  # pyright: ignore[reportArgumentType] # as on Windows
    finally:
        process.kill()
        process.join()
        ours.close()
