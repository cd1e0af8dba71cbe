"""What `skycore inbox` does: list the texts that handsets sent, and wait for more.

Strategy: a ledger is read a page at a time from the last text that was shown; to follow it is to
do so again every second or so, where it may have been written since.

Rules:

* A text is printed as it is read, on one line, with its number masked wherever it stands.
* Nobody waits for an onlooker: between two looks nothing is open.
* Who follows is told once that a ledger cannot be read just now, and what came meanwhile after.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

from ...errors import LedgerError
from ...ledger.commands import ListInbound
from ...ledger.paging import pages_of
from ...notifications import InboundSMS
from ...runtime.secret import Secret
from ..ui.inbound_text import show_text
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.output import fail, say
from ..ui.signals import UntilSignal

_EVERY: Final = 1.0  # seconds between looks


def show_inbox(named: Secret, *, follow: bool, show_numbers: bool, as_json: bool) -> None:
    """Print the texts of the ledger `named`; to `follow` it is to go on until a signal."""
    target = ledger_target(named)

    def show(text: InboundSMS) -> None:
        show_text(text, show_numbers=show_numbers, as_json=as_json)

    reading = _Reading(target, show)
    if follow:
        with UntilSignal() as ending, suppress(BrokenPipeError):  # as where nobody reads on
            _follow(reading, ending)
    else:
        reading.look()
        if not reading.last and not as_json:
            say("No text has come.")


def _follow(reading: _Reading, ending: UntilSignal) -> None:
    reading.look()
    next_look = time.monotonic() + _EVERY
    for _ in ending.polls():
        if time.monotonic() >= next_look:
            reading.look_again()
            next_look = time.monotonic() + _EVERY


class _Reading:
    """The texts of a ledger from the last one on that was shown; `last` is its id."""

    def __init__(self, target: LedgerTarget, show: Callable[[InboundSMS], None]) -> None:
        self.last = 0
        self._target = target
        self._show = show
        self._version: object = None
        self._problem: str | None = None

    def look(self) -> None:
        """Show what is new, or fail where the ledger cannot be read."""
        try:
            self._look()
        except LedgerError as error:
            fail(str(error))

    def look_again(self) -> None:
        """Show what is new, or say why that cannot be read, once."""
        before, self._problem = self._problem, None
        try:
            self._look()
        except LedgerError as error:
            self._problem = str(error)
            if before is None:
                say(self._problem, err=True)

    def _look(self) -> None:
        version = self._target.version()
        if version != self._version:
            anyio.run(self._read)
            self._version = version

    async def _read(self) -> None:
        async with self._target.to_read() as ledger:
            async for page in pages_of(
                ledger, lambda after: ListInbound(after=after), after=self.last
            ):
                for self.last, text in page.rows:
                    self._show(text)
