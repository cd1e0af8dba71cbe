"""What pruning keeps of messages, and how later postbacks are handled, in every ledger.

Strategy: a ledger whose clock stands still at noon, and is then moved by half a year.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from benchmarks import postgres
from skycore_async import (
    SMS,
    ConfigurationError,
    KeyConflict,
    MemoryLedger,
    MessageState,
    PostgresLedger,
    SQLiteLedger,
)
from skycore_async.ledger import version_1_digests
from skycore_async.ledger.base import BaseLedger
from skycore_async.ledger.model import SendIntent, Submission
from skycore_async.ledger.paging import pages_of
from skycore_async.ledger.prune_commands import (
    BeginPruning,
    CountPrunable,
    CountPrunableBeside,
    NotePruned,
    PruneMessages,
)
from skycore_async.ledger.pruning import NEAR, Pruned, pruned_name
from skycore_async.ledger.report_commands import ForgottenUntil, ListBegunMessages
from tests.support.ledger_cases import (
    DELIVERED,
    DOUBT,
    EXPIRED,
    NOON,
    NOT_SENT,
    OTHER,
    REJECTED,
    SENT,
    TO,
    Clock,
    accepted,
    intent,
    notice,
    said,
    sent,
    state_of,
)

pytestmark = pytest.mark.anyio

S = MessageState
AGE = timedelta(days=180)
LATER = AGE.total_seconds() + 5
LEDGERS: dict[str, Any] = {
    "memory": lambda _place, clock: MemoryLedger(clock=clock),
    "sqlite": lambda place, clock: SQLiteLedger(place / "ledger.db", clock=clock),
    "postgres": lambda place, clock: PostgresLedger(postgres.at(place), clock=clock),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=LEDGERS)
async def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncGenerator[BaseLedger]:
    async with LEDGERS[request.param](tmp_path, clock) as opened:
        yield opened


async def pruned(ledger: BaseLedger, clock: Clock) -> Pruned:
    """Move the clock by half a year, and prune what is that old."""
    clock.now = NOON + LATER
    return await ledger.prune(older_than=AGE)


async def test_a_pruned_key_is_not_sent_again(ledger: BaseLedger, clock: Clock) -> None:
    """A pruned key still returns its outcome, and other content is still a conflict."""
    await sent(ledger, "k", accepted())
    await ledger.record(notice(DELIVERED))
    assert await pruned(ledger, clock) == Pruned(messages=1, notifications=1, in_doubt=0)
    was_sent = Submission(state=S.DELIVERED)
    assert await ledger.lookup(intent()) == was_sent
    assert await ledger.lookup_many([intent(), intent("new")]) == {"k": was_sent}
    assert await ledger.begin(intent()) == was_sent
    other = intent(content=b"two")
    with pytest.raises(KeyConflict) as raised:
        await ledger.begin(other)
    assert raised.value.state is S.DELIVERED
    with pytest.raises(KeyConflict):
        await ledger.lookup(other)
    # As the rows are to be read in a group, too.
    assert await ledger.begin(intent("new")) is None


async def test_a_pruned_message_has_no_number_and_no_text(
    ledger: BaseLedger, clock: Clock
) -> None:
    """A pruned message keeps state and time, but no number or text."""
    await sent(ledger, "k", accepted())
    await ledger.record(notice(EXPIRED, history_id="H"))
    before = await ledger.delivery(key="k")
    await pruned(ledger, clock)
    delivery = await ledger.delivery(key="k")
    assert delivery is not None
    assert before is not None
    assert delivery == attrs.evolve(
        before, key=pruned_name("k"), tracking_id=None, to="", events=(), history_id=None
    )
    assert await ledger.delivery("T") == delivery
    assert [each async for each in ledger.deliveries()] == [delivery]
    (row,) = [each async for each in ledger.export()]
    assert (row.key, row.to, row.state, row.reason) == (
        pruned_name("k"),
        "",
        S.FAILED,
        before.reason,
    )


async def test_a_ledger_counts_what_it_counted_before(ledger: BaseLedger, clock: Clock) -> None:
    """Pruned messages still count in the summary; pruned unplaced notifications do not."""
    await sent(ledger, "a", accepted("A"))
    await sent(ledger, "b", accepted("B"))
    await sent(ledger, "c", REJECTED)
    await sent(ledger, "d", NOT_SENT)
    await ledger.record(notice(EXPIRED, "B"), notice(SENT, "unknown"))
    before = await ledger.summary()
    assert (await pruned(ledger, clock)).messages == 4
    after = await ledger.summary()
    assert after == attrs.evolve(before, unplaced=0)
    assert [each async for each in ledger.unplaced()] == []


async def test_messages_in_doubt_or_under_way_are_not_pruned(
    ledger: BaseLedger, clock: Clock
) -> None:
    """Messages in doubt, under way or too young are not pruned."""
    await sent(ledger, "doubt", DOUBT)
    await ledger.begin(intent("under way"))
    await ledger.begin(attrs.evolve(intent("young"), started_at=NOON + 10))
    await ledger.finish("young", accepted())
    assert await pruned(ledger, clock) == Pruned(messages=0, notifications=0, in_doubt=1)
    assert sorted([each.key async for each in ledger.deliveries()]) == [
        "doubt",
        "under way",
        "young",
    ]
    assert {each.to async for each in ledger.deliveries()} == {TO}
    await ledger.finish("under way", accepted("U"))
    assert await state_of(ledger, "under way") is S.ACCEPTED


async def test_pruning_again_changes_nothing(ledger: BaseLedger, clock: Clock) -> None:
    """Pruning a second time changes nothing."""
    await sent(ledger, "k", accepted())
    assert (await pruned(ledger, clock)).messages == 1
    assert (await pruned(ledger, clock)).messages == 0
    assert await ledger.begin(intent()) == Submission(state=S.ACCEPTED)


async def test_a_pruned_unsent_message_may_be_sent_under_its_key(
    ledger: BaseLedger, clock: Clock
) -> None:
    """A pruned message that was not sent may be sent under its key."""
    await sent(ledger, "k", NOT_SENT)
    await sent(ledger, "mended", REJECTED)
    await pruned(ledger, clock)
    assert await ledger.lookup(intent()) is None
    again = attrs.evolve(intent(), started_at=clock.now)
    assert await ledger.begin(again) is None
    await ledger.finish("k", accepted("K"))
    refused = await ledger.begin(intent("mended"))
    assert refused == Submission(state=S.REJECTED, code="E621")
    assert await ledger.begin(attrs.evolve(again, key="mended", content=b"two")) is None
    await ledger.finish("mended", accepted("M"))
    for key, tracking_id in (("k", "K"), ("mended", "M")):
        delivery = await ledger.delivery(tracking_id)
        assert delivery is not None
        assert (delivery.key, delivery.to, delivery.state) == (key, TO, S.ACCEPTED)


async def test_a_digest_of_the_first_version_is_told_apart_too(
    ledger: BaseLedger, clock: Clock
) -> None:
    """A pruned message of version 1 is known by its content."""
    message = SMS(to=TO, text="Hello", from_="60856")
    fields = (TO, "Hello", "60856", None, None, None, None)
    first = version_1_digests._digest(repr(fields))
    await sent(ledger, "k", accepted(), content=first)
    await pruned(ledger, clock)
    now = SendIntent(
        key="k", content=b"\2now", to=TO, from_="60856", started_at=NOON, message=message
    )
    assert await ledger.begin(now) == Submission(state=S.ACCEPTED)
    with pytest.raises(KeyConflict):
        await ledger.begin(attrs.evolve(now, message=attrs.evolve(message, text="Bye")))


async def test_a_late_receipt_of_a_pruned_message_is_dropped(
    ledger: BaseLedger, clock: Clock
) -> None:
    """A late receipt of a pruned message is dropped, and settles no doubt."""
    await sent(ledger, "k", accepted())
    await ledger.record(notice(SENT, "unmatched", to=OTHER))
    await pruned(ledger, clock)
    now = clock.now
    for key, number in (("doubt", TO), ("other doubt", OTHER)):
        await ledger.begin(attrs.evolve(intent(key, to=number), started_at=now))
        await ledger.finish(key, DOUBT)
    await ledger.record(
        notice(DELIVERED, after=LATER),
        notice(DELIVERED, "unmatched", to=OTHER, after=LATER),
    )
    assert await state_of(ledger, "k") is S.ACCEPTED
    assert await state_of(ledger, "doubt") is S.IN_DOUBT
    assert await state_of(ledger, "other doubt") is S.IN_DOUBT
    assert [each async for each in ledger.unplaced()] == []
    await ledger.record(notice(DELIVERED, "N", after=LATER))
    assert await state_of(ledger, "doubt") is S.DELIVERED


async def test_a_receipt_may_be_of_a_pruned_message_that_was_sent_again_after_doubt(
    ledger: BaseLedger, clock: Clock
) -> None:
    """A pruned resent message keeps doubts of its number from being settled by receipts."""
    await sent(ledger, "k", DOUBT)
    assert await ledger.begin(intent(), resend_in_doubt=True) is None
    await ledger.finish("k", accepted())
    await pruned(ledger, clock)
    delivery = await ledger.delivery(key="k")
    assert delivery is not None
    assert delivery.to == TO[-5:]
    await ledger.begin(attrs.evolve(intent("doubt"), started_at=clock.now))
    await ledger.finish("doubt", DOUBT)
    await ledger.record(notice(DELIVERED, "of the first attempt", after=LATER))
    assert await state_of(ledger, "doubt") is S.IN_DOUBT


async def test_texts_and_what_is_unmatched_go_and_who_opted_out_stays(
    ledger: BaseLedger, clock: Clock
) -> None:
    """Old texts and unplaced notifications are pruned, and opt-outs are kept."""
    await ledger.record(said("STOP"), said("Hello"), notice(SENT, "old"), notice(SENT, "young"))
    clock.now = NOON + 10
    await ledger.record(said("Bye", after=10), notice(DELIVERED, "young", after=10))
    assert await pruned(ledger, clock) == Pruned(messages=0, notifications=3, in_doubt=0)
    assert [each.text async for each in ledger.inbound()] == ["Bye"]
    assert len([each async for each in ledger.unplaced()]) == 2
    assert await ledger.is_opted_out(TO)


async def test_doubts_of_the_time_that_is_forgotten_are_settled_no_more(
    ledger: BaseLedger, clock: Clock
) -> None:
    """Pruned messages are no witnesses, and their time is known to be incomplete."""
    await sent(ledger, "k", accepted())
    await sent(ledger, "doubt", DOUBT)
    assert await ledger.run(ForgottenUntil()) == 0
    await pruned(ledger, clock)
    await ledger.record(notice(SENT, "late"))
    assert await state_of(ledger, "doubt") is S.IN_DOUBT
    assert await ledger.run(ForgottenUntil()) == pytest.approx(NOON + 5 + NEAR)
    begun = await ledger.run(ListBegunMessages(since=0, after=0))
    assert [(each.to, each.state) for each in begun.rows] == [(TO, "in_doubt")]


async def test_prunable_messages_are_counted_before(ledger: BaseLedger, clock: Clock) -> None:
    """What can be pruned is counted without being changed."""
    await sent(ledger, "k", accepted())
    await sent(ledger, "doubt", DOUBT)
    await ledger.record(
        notice(), notice(DELIVERED), said("Hi"), notice(SENT, "unmatched", to=OTHER)
    )
    clock.now = NOON + LATER
    before = clock.now - AGE.total_seconds()

    async def counted() -> tuple[int, int]:
        parts = pages_of(ledger, lambda after: CountPrunable(before=before, after=after))
        counts = [(part.messages, part.notifications) async for part in parts]
        return sum(each for each, _ in counts), sum(each for _, each in counts)

    assert await counted() == (1, 2)
    assert await ledger.run(CountPrunableBeside(before=before)) == (2, 1)
    assert await pruned(ledger, clock) == Pruned(messages=1, notifications=4, in_doubt=1)
    assert await counted() == (0, 0)


async def test_a_tracking_id_that_two_messages_have_is_the_last_ones(
    ledger: BaseLedger, clock: Clock
) -> None:
    """Notifications of an id that two messages share are pruned with the last one."""
    await sent(ledger, "old", accepted())
    await ledger.begin(attrs.evolve(intent("young"), started_at=NOON + 10))
    await ledger.finish("young", accepted())
    await ledger.record(notice(DELIVERED))
    assert await pruned(ledger, clock) == Pruned(messages=1, notifications=0, in_doubt=0)
    assert await state_of(ledger, "young") is S.DELIVERED
    clock.now += 10
    assert await ledger.prune(older_than=AGE) == Pruned(messages=1, notifications=1, in_doubt=0)


async def test_many_messages_are_pruned_a_part_at_a_time(
    ledger: BaseLedger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many messages are pruned in parts."""
    monkeypatch.setattr("skycore_async.ledger.prune_commands._AT_ONCE", 2)
    monkeypatch.setattr("skycore_async.ledger.prune_commands.SPAN", 2)
    for number in range(5):
        await sent(ledger, f"k{number}", accepted(f"T{number}"))
    counted, after = 0, 0
    while after is not None:
        part = await ledger.run(CountPrunable(before=NOON + 5, after=after))
        counted, after = counted + part.messages, part.last  # type: ignore[assignment]
    assert counted == 5
    assert (await pruned(ledger, clock)).messages == 5


async def test_nothing_is_pruned_while_receipts_come(ledger: BaseLedger) -> None:
    """An `older_than` below a week is refused."""
    with pytest.raises(ConfigurationError, match="less than 7 days"):
        await ledger.prune(older_than=timedelta(days=6))


async def test_a_tracking_id_that_is_given_again_is_pruned_again(
    ledger: BaseLedger, clock: Clock
) -> None:
    """A tracking id that is given again after pruning works, and is pruned again."""
    await sent(ledger, "k", accepted())
    await pruned(ledger, clock)
    await ledger.begin(attrs.evolve(intent("again"), started_at=clock.now))
    await ledger.finish("again", accepted())
    await ledger.record(notice(DELIVERED, after=LATER))
    assert await state_of(ledger, "again") is S.DELIVERED
    clock.now += LATER
    assert await ledger.prune(older_than=AGE) == Pruned(messages=1, notifications=1, in_doubt=0)
    assert await ledger.begin(intent("again")) == Submission(state=S.DELIVERED)
    assert await ledger.begin(intent()) == Submission(state=S.ACCEPTED)


async def test_no_doubt_is_kept_open_for_what_was_never_there(
    ledger: BaseLedger, clock: Clock
) -> None:
    """The time that counts as incomplete ends with the last pruned message."""
    clock.now = NOON - 9
    await ledger.record(notice(DELIVERED, "unmatched"))
    clock.now = NOON
    await sent(ledger, "k", accepted())
    clock.now = NOON + 10 * LATER
    assert (await ledger.prune(older_than=AGE)).notifications == 1
    assert await ledger.run(ForgottenUntil()) == NOON + NEAR
    await ledger.prune(older_than=AGE)  # in which there is nothing to prune
    assert await ledger.run(ForgottenUntil()) == NOON + NEAR


async def test_two_concurrent_prunings_are_recorded(ledger: BaseLedger, clock: Clock) -> None:
    """Two concurrent prunings record the time of both."""
    await ledger.begin(intent())
    clock.now = NOON + LATER
    begun = await ledger.run(BeginPruning(older_than=4))
    other = await ledger.run(BeginPruning(older_than=3))
    await ledger.run(NotePruned(marked=begun.before, until=begun.until))
    assert await ledger.run(ForgottenUntil()) == other.before + NEAR
    await ledger.run(NotePruned(marked=other.before, until=0))
    await ledger.finish("k", accepted())
    part = await ledger.run(PruneMessages(before=other.before, after=0))
    assert (part.messages, part.until) == (1, NOON)
    assert await ledger.run(ForgottenUntil()) == NOON + NEAR


async def test_what_is_unmatched_is_as_old_as_it_came(ledger: BaseLedger, clock: Clock) -> None:
    """An unplaced notification has the age of its receipt, not of its stamp."""
    await ledger.record(notice(DELIVERED, "unmatched", after=20 * LATER))
    assert (await pruned(ledger, clock)).notifications == 1
