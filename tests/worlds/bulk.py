"""`skycore bulk` in a world: how it reads rows, decides and counts, without its terminal.

Rules:

* If a message is in doubt before and after the run, its row says so before anything else.
* If nothing gets through, the command stops by itself, and leaves as few messages in doubt as it
  can.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

import attrs

from skycore_async import SMS, MemoryLedger, Outcome, SkycoreClient, SQLiteLedger
from skycore_async.cli.bulk.confirmed_ledger import doubts_in
from skycore_async.cli.bulk.judged_rows import JudgedRows
from skycore_async.cli.bulk.progress import BulkCounters
from skycore_async.cli.bulk.recipients import Header, Row
from skycore_async.cli.bulk.rows import MessageRow, RowOptions, RowReader
from skycore_async.cli.bulk.run import Run
from skycore_async.cli.ui.marks import IN_DOUBT
from skycore_async.messages import Failed
from skycore_async.sending.outcomes import StuckCounter, meaning_of
from skycore_async.sending.prepare import ResolvedMessage

from .events import Message, number_of
from .provider import text_of

STUCK: Final = 5  # messages in a row that do not get through, and mean that none would

_HEADER: Final = Header(("number", "key", "text"))


@attrs.define
class _Rejects:
    """Rejects as they would be written, by their lines."""

    reasons: dict[int, str] = attrs.Factory(dict)

    def write(self, row: Row, reason: str) -> None:
        """Keep why a row is to be mended."""
        self.reasons[row.line] = reason


class _NotedRun(Run):
    """A run of which each outcome is noted, and the most doubts in a row."""

    def __init__(self, *args: Any, on_outcome: Callable[[Outcome], None]) -> None:
        super().__init__(*args)
        self.most_in_a_row = self._in_a_row = 0
        self._on_outcome = on_outcome

    def _take(self, outcome: Outcome) -> None:
        self._on_outcome(outcome)
        super()._take(outcome)
        is_doubt = isinstance(outcome, Failed) and meaning_of(outcome).in_doubt
        if not outcome.recorded:
            self._in_a_row = self._in_a_row + 1 if is_doubt else 0
            self.most_in_a_row = max(self.most_in_a_row, self._in_a_row)


async def send_rows(
    client: SkycoreClient,
    ledger: SQLiteLedger | MemoryLedger,
    messages: Sequence[Message],
    *,
    word: bool,
    in_flight: int,
    on_begin: Callable[[SMS], None],
    on_outcome: Callable[[Outcome], None],
) -> list[str]:
    """Send messages as the rows of a file, and return which rules were broken in that."""
    before = await doubts_in(ledger)
    rejects = _Rejects()
    options = RowOptions(campaign="c", from_="60856", resend_in_doubt=word)
    with JudgedRows() as kept:
        reader, total = RowReader(_HEADER, options), 0
        for line, each in enumerate(messages):
            key = f"k{each.key}"
            values = (number_of(each.number), key, text_of(key, each.version))
            judged = reader.read(Row(line=line, values=values))
            total += isinstance(judged, MessageRow)
            kept.add(judged)
        counters = BulkCounters(total=total, stuck=StuckCounter(STUCK), clock=lambda: 0.0)
        run = _NotedRun(kept, rejects, counters, on_outcome=on_outcome)

        async def taken() -> AsyncIterator[ResolvedMessage]:
            new = run._new_messages(ledger, resend_in_doubt=word)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            async with aclosing(new):  # who is cancelled leaves it half run
                async for each in new:
                    on_begin(each.message)
                    yield each

        async with client._send_resolved(taken(), resend_in_doubt=word) as run._outcomes:
            await run._take_all()
        end = run._end()
    broken = []
    # What was begun by then completes, and the buffer holds as many.
    if run.most_in_a_row > STUCK + 3 * in_flight:
        broken.append(f"a bulk send went on when {run.most_in_a_row} in a row were in doubt")
    if end.halted is None and not word:
        # With their attempts: what another sends again meanwhile is not in doubt then.
        doubts = {key for key, _ in before & await doubts_in(ledger)}
        broken += [
            f"{key} is in doubt, and its row says {rejects.reasons.get(line)!r}"
            for line, each in enumerate(messages)
            if (key := f"k{each.key}") in doubts
            and not rejects.reasons.get(line, "").startswith(IN_DOUBT)
        ]
    return broken
