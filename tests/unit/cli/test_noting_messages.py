"""How many messages a ledger has, as it is noted while a bulk send goes on."""

from __future__ import annotations

import pytest

from skycore_async import MemoryLedger
from skycore_async.cli.bulk.confirmed_ledger import note_regularly
from skycore_async.errors import LedgerError
from skycore_async.ledger.model import Summary
from tests.support.ledger_cases import intent

pytestmark = pytest.mark.anyio


class EndOfTest(Exception):
    """It went on for long enough."""


class Unreadable(MemoryLedger):
    """A ledger that cannot be read where it is told."""

    is_readable = True

    async def summary(self) -> Summary:
        if not self.is_readable:
            raise LedgerError("it cannot be read")
        return await super().summary()


async def test_it_is_noted_every_few_seconds() -> None:
    """A run that is killed notes nothing in the end; where nothing can be read, it goes on."""
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
    assert noted == [1, 3]
