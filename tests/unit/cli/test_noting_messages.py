"""The last turn of a ledger is noted while a bulk send goes on."""

from __future__ import annotations

from typing import TypeVar

import pytest

from skycore_async import MemoryLedger
from skycore_async.cli.bulk.confirmed_ledger import note_regularly
from skycore_async.errors import LedgerError
from skycore_async.ledger.attempts import TURNS
from skycore_async.ledger.commands import LedgerCommand
from skycore_async.ledger.list_commands import GetLastTurn
from tests.support.ledger_cases import intent

T = TypeVar("T")

pytestmark = pytest.mark.anyio


class EndOfTest(Exception):
    """Ends the loop after enough rounds."""


class Unreadable(MemoryLedger):
    """A ledger that cannot be read at a given time."""

    is_readable = True

    async def run(self, command: LedgerCommand[T]) -> T:
        if not self.is_readable and isinstance(command, GetLastTurn):
            raise LedgerError("it cannot be read")
        return await super().run(command)


async def test_it_is_noted_every_few_seconds() -> None:
    """The last turn is noted every few seconds, and a failed read does not end that."""
    noted: list[int] = []
    steps = iter(range(4))

    async def sleep(_seconds: float) -> None:
        step = next(steps)
        if step == 3:
            raise EndOfTest
        ledger.is_readable = step != 1
        await ledger.begin(intent(str(step)))

    async with Unreadable() as ledger:
        with pytest.raises(EndOfTest):
            await note_regularly(ledger, noted.append, sleep=sleep)
    assert noted == [TURNS, 3 * TURNS]
