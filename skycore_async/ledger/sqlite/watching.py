"""Look into an inbox from time to time, for as long as a ledger, or a receiver, is open.

Rules:

* Nobody waits for a look.  A problem is logged when it begins, and the next look tries again.
  Looks go on whatever one raises, as a STOP may come later.
* Looks end when closing begins, without a last one: the next opening takes in what is left.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from ...errors import LedgerError
from ...runtime.background import BackgroundTasks
from ...runtime.logs import log

LOOK_EVERY: Final = 1.0  # seconds between looks into a file that others write to


class ProblemLog:
    """Log a problem that recurs at each look once, and again when it changes."""

    def __init__(self) -> None:
        self._said = ""

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Log the error that is raised within, and suppress it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as where no thread can be had for a moment
            if self._said != (said := _words(error)):
                self._said = said
                log.error("%s", said)
        else:
            self._said = ""


def _words(error: Exception) -> str:
    """Return the text of an error about a file; of any other error its type and place."""
    if isinstance(error, LedgerError | OSError):
        return str(error)
    where = "".join(traceback.format_tb(error.__traceback__))
    return f"a look into a file that others write to raised {type(error).__name__}\n{where}"


class InboxWatch:
    """Call `look` every `every` seconds, in one of `tasks`; never if that is infinite."""

    def __init__(
        self, look: Callable[[], Awaitable[None]], tasks: BackgroundTasks, *, every: float
    ) -> None:
        self._look = look
        self._every = every
        self._closing = anyio.Event()
        self._problems = ProblemLog()
        if every < math.inf:
            tasks.at_closing.add(self._closing.set)
            tasks.start(self._run)

    async def _run(self) -> None:
        while not self._closing.is_set():
            with anyio.move_on_after(self._every):
                await self._closing.wait()
                return
            with self._problems.logged():
                await self._look()
