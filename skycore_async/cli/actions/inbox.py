"""What `skycore inbox` does: list the texts that handsets sent, and wait for more.

Strategy: a ledger is read page by page, from the last texts that were shown.  With --follow this
is repeated every second, if the ledger may have been written since.

Rules:

* A text is printed as it is read, on one line, with its number masked wherever it stands.
* Unreadable parts of postbacks are shown among the texts, as they may be texts.
* Between two looks nothing is open, so that no other process has to wait for this one.
* A text may be seen late, after texts with a higher id, as where several receivers write to a
  database.  After a prune, a new text may have the id of an earlier one.
* With --follow, an error of reading is told once, and texts that came meanwhile are shown later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

from ...errors import LedgerError
from ...ledger.base import BaseLedger
from ...ledger.commands import ListInbound
from ...ledger.paging import pages_of
from ...notifications import InboundSMS, UnknownNotification
from ...runtime.secret import Secret
from ..ui.inbound_text import show_text
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.output import fail, say
from ..ui.signals import UntilSignal

_Text = InboundSMS | UnknownNotification

_EVERY: Final = 1.0  # seconds between looks
_LATE: Final = 60.0  # seconds in which a text may still come late, and ...
_MOST: Final = 500  # ... the number of shown texts among which it may come


def show_inbox(named: Secret, *, follow: bool, show_numbers: bool, as_json: bool) -> None:
    """Print the texts of the ledger `named`; with `follow` go on until a signal."""
    target = ledger_target(named)

    def show(text: _Text) -> None:
        show_text(text, show_numbers=show_numbers, as_json=as_json)

    reading = _Reading(target, show)
    if follow:
        with (
            UntilSignal() as ending,
            suppress(BrokenPipeError),
        ):  # nobody reads the output
            _follow(reading, ending)
    else:
        reading.look()
        if not reading.has_shown and not as_json:
            say("No text has come.")


def _follow(reading: _Reading, ending: UntilSignal) -> None:
    reading.look()
    next_look = time.monotonic() + _EVERY
    for _ in ending.polls():
        if time.monotonic() >= next_look:
            reading.look_again()
            next_look = time.monotonic() + _EVERY


class _Reading:
    """The texts of a ledger, each of which is shown once."""

    def __init__(self, target: LedgerTarget, show: Callable[[_Text], None]) -> None:
        self._shown: dict[int, tuple[_Text, float]] = {}  # the last ones by id, and when
        self._target = target
        self._show = show
        self._version: object = None
        self._problem: str | None = None

    @property
    def has_shown(self) -> bool:
        """Whether there was any."""
        return bool(self._shown)

    def look(self) -> None:
        """Show new texts; fail where the ledger cannot be read."""
        try:
            self._look()
        except LedgerError as error:
            fail(str(error))

    def look_again(self) -> None:
        """Show new texts; where the ledger cannot be read, say why, once."""
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
        now = time.monotonic()
        async with self._target.to_read() as ledger:
            if not await self._has_first(ledger):
                self._shown.clear()
            before = min(self._shown, default=1) - 1
            async for page in pages_of(
                ledger, lambda after: ListInbound(after=after), after=before
            ):
                for id_, text in page.rows:
                    if id_ not in self._shown:
                        self._shown[id_] = text, now
                        self._show(text)
                self._forget(now)

    async def _has_first(self, ledger: BaseLedger) -> bool:
        """Return whether the ledger still has the text from which it is read on."""
        if not self._shown:
            return True
        first = min(self._shown)
        page = await ledger.run(ListInbound(after=first - 1))
        return page.rows[:1] == [(first, self._shown[first][0])]

    def _forget(self, now: float) -> None:
        """Forget texts that are too old for a late one to come before; keep the last, to go on."""
        for id_ in sorted(self._shown)[:-1]:
            if len(self._shown) <= _MOST and self._shown[id_][1] > now - _LATE:
                break
            del self._shown[id_]
