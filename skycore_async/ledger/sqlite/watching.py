"""Looking into an inbox from time to time, for as long as a ledger, or a receiver, is open.

Rules:

* Nobody waits for it: what goes wrong is logged when it begins, and tried again at the next look.
  No look is the last, whatever it raises: a STOP that comes after it is to be heard.
* It ends where closing begins, without a last look: what is left is taken in by the next opening.
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
    """What goes wrong at look after look: logged when it begins, and when it is another."""

    def __init__(self) -> None:
        self._said = ""

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Log what is raised within, and raise nothing of it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as where no thread can be had for a moment
            if self._said != (said := _words(error)):
                self._said = said
                log.error("%s", said)
        else:
            self._said = ""


def _words(error: Exception) -> str:
    """Say what is wrong with a file, and of anything else its type and place."""
    if isinstance(error, LedgerError | OSError):
        return str(error)
    where = "".join(traceback.format_tb(error.__traceback__))
    return f"a look into a file that others write to raised {type(error).__name__}\n{where}"


class InboxWatch:
    """Call `look` every so many seconds, as one of `tasks`; never where that is infinite."""

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
