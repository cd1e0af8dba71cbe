"""Ctrl-C, SIGTERM and SIGHUP: for commands that send messages, and for those that serve.

Rules for a command that sends, with `Signals`:

* After the first signal nothing more starts, and the program waits for the messages in flight.  It
  says so, since a user who does not know what it waits for presses Ctrl-C again.
* SIGHUP, for a closed terminal or a lost connection, only ever counts as the first signal: shells
  and systems send it several times.  Where `nohup` ignores it, it stays ignored.
* The second signal ends the process at once, even if its last message meets a stopped terminal.
  The intents are durable, and the messages in flight are in doubt from then on.

Rules for a command that serves, with `UntilSignal`:

* Ctrl-C and SIGTERM are its ordinary end, and the exit code is 0.
* A signal only sets a flag; the command looks at it where it can end in order.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any, Final

import anyio

from .output import Exit

STOPPING: Final = "Stopping: waiting for what is in flight."
_PRESSED: Final = (signal.SIGINT, signal.SIGTERM)
_POLL_EVERY: Final = 0.1  # seconds
_PATIENCE: Final = 1.0  # seconds for the last words


def _ends() -> list[signal.Signals]:
    """Return the signals that end a command which sends messages."""
    hangup = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
    return [*_PRESSED, *(each for each in hangup if signal.getsignal(each) != signal.SIG_IGN)]


class Signals:
    """Counts the signals that end a command which sends."""

    def __init__(self) -> None:
        self.count = 0

    @asynccontextmanager
    async def heard(
        self, *, first: Callable[[], None], second: Callable[[], None]
    ) -> AsyncGenerator[None]:
        """Call `first` at the first signal, and `second` at the next, which ends the process.

        It is entered before whatever is to be closed in order: Python's own way to end at a
        signal would break that off.
        """
        try:
            async with anyio.create_task_group() as hearing:
                hearing.start_soon(functools.partial(self._hear, first=first, second=second))
                try:
                    yield
                finally:
                    hearing.cancel_scope.cancel()
        except ExceptionGroup as raised:
            error = raised.exceptions[0]
            raise error from error.__cause__  # the caller expects no exception group

    async def _hear(self, *, first: Callable[[], None], second: Callable[[], None]) -> None:
        with (
            suppress(NotImplementedError),  # on Windows, where Ctrl-C ends the loop
            anyio.open_signal_receiver(*_ends()) as signals,
        ):
            async for number in signals:
                if self.count and number not in _PRESSED:
                    continue
                self.count += 1
                if self.count > 1:
                    _call_in_time(second)
                    # Any orderly end of the loop would wait for the messages in flight.
                    os._exit(Exit.INTERRUPTED)
                first()


def _call_in_time(call: Callable[[], None]) -> None:
    """Call a function, and return when it has ended, or after a moment if it has not."""

    def run() -> None:
        with suppress(Exception):  # as where nobody reads the output any more
            call()

    calling = threading.Thread(target=run, daemon=True)
    calling.start()
    calling.join(_PATIENCE)


class UntilSignal:
    """Whether the command is to end: by Ctrl-C, by SIGTERM, or by setting `is_set`."""

    def __init__(self) -> None:
        self.is_set = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> UntilSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._set)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _set(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True

    def polls(self) -> Iterator[None]:
        """Yield every tenth of a second, and once more after it is set."""
        while not self.is_set:
            time.sleep(_POLL_EVERY)
            yield
