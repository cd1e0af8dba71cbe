"""Printing in threads, while messages are under way.

Rule: a terminal that Ctrl-S has stopped, or a pipe that nobody reads, holds up only the printing,
and neither messages nor postbacks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Generic, TypeVar

from ...runtime.logs import log
from .output import announce

T = TypeVar("T")


async def print_beside(show: Callable[[], None]) -> None:
    """Print in a thread: only the caller of this waits for the reader.

    A cancelled caller does not wait for what is being printed.
    """
    import anyio.to_thread  # noqa: PLC0415 - not for help

    await anyio.to_thread.run_sync(show, abandon_on_cancel=True)


async def announce_beside(*lines: str) -> None:
    """Print lines of news in a thread, as `print_beside` does."""

    def show() -> None:
        for line in lines:
            announce(line)

    await print_beside(show)


class Beside(Generic[T]):
    """Show things in order from a thread of its own, so that the caller does not wait.

    Leaving it waits until all is shown, so leave it when no message is under way any more.
    """

    def __init__(self, show: Callable[[T], object]) -> None:
        self._show = show
        self._given: SimpleQueue[tuple[T] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="printing", daemon=True)
        self._thread.start()

    def __enter__(self) -> Beside[T]:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def give(self, one: T) -> None:
        """Have a thing shown after those that were given before."""
        self._given.put((one,))

    def close(self) -> None:
        """Wait until all is shown."""
        self._given.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (given := self._given.get()) is not None:
            self._show(*given)


class LogBeside(logging.Handler):
    """A log handler that writes records of at least `level` to standard error, in a thread."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        written = logging.StreamHandler()
        written.setFormatter(logging.Formatter("skycore: %(message)s"))
        self._written = Beside[logging.LogRecord](written.handle)

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record written."""
        self._written.give(record)

    def close(self) -> None:
        """Wait until all is written, as the program ends."""
        self._written.close()
        super().close()


@contextmanager
def with_news() -> Iterator[None]:
    """Write the log below warnings, too, while this is open, as why nothing happens for long."""
    news = LogBeside(logging.INFO)
    news.addFilter(lambda record: record.levelno == logging.INFO)
    level = log.logger.level
    log.logger.addHandler(news)
    log.logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.logger.setLevel(level)
        log.logger.removeHandler(news)
        news.close()
