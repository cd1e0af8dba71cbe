"""Postbacks of the inbox get into the ledger once, with the time at which they were received.

Strategy: an `InboxFile` of the test's own stands in for a receiver in another process. A crash is
simulated where the ledger has recorded but the inbox is not cleared yet.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest

from skycore_async import Notification, SQLiteLedger, parse_postback
from skycore_async.errors import ConfigurationError, LedgerError, RecipientOptedOut
from skycore_async.ledger.commands import TellOptOuts
from skycore_async.ledger.model import MessageState
from skycore_async.ledger.opt_outs import OptOut
from skycore_async.ledger.sqlite import inbox_file
from skycore_async.ledger.sqlite.inbox_file import InboxFile, KeptPostback, inbox_of
from skycore_async.ledger.sqlite.inbox_intake import Claim, InboxTaker, claim_of
from skycore_async.ledger.sqlite.watching import InboxWatch
from skycore_async.runtime.background import BackgroundTasks
from tests.support.ledger_cases import (
    DELIVERED,
    DOUBT,
    NOON,
    OTHER,
    SENT,
    TO,
    Clock,
    accepted,
    intent,
    notice,
    said,
)

S = MessageState
OURS, THEIRS = b"o" * 16, b"t" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def put(path: Path, *postbacks: Notification | list[Notification], received: float = NOON) -> None:
    """Add postbacks to the inbox of a ledger, as a receiver does."""
    inbox = InboxFile(path)
    inbox.open()
    whole = [each if isinstance(each, list) else [each] for each in postbacks]
    inbox.add([KeptPostback.of(each, received=received) for each in whole])
    inbox.close()


def left(path: Path) -> int:
    """Return how many postbacks are in the inbox."""
    inbox = InboxFile(path)
    inbox.open()
    try:
        return inbox.count()
    finally:
        inbox.close()


def unstamped(text: str, number: int) -> Notification:
    """Make the notification of a text from a handset whose time has no offset."""
    (made,) = parse_postback(
        f"<POSTBACK><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><FROM>{TO}</FROM><TEXT>{text}</TEXT>"
        f"<RECEIVED>2026-01-01T12:00:00</RECEIVED><TRANSACTIONID>{number}</TRANSACTIONID></POSTBACK>"
    )
    return made


async def look(ledger: SQLiteLedger) -> None:
    """Have a ledger look into its inbox now."""
    assert ledger._opening is not None
    await ledger._look_into_inbox(ledger._file, ledger._opening.tasks)


async def until(holds: Callable[[], Any]) -> None:
    """Wait until the condition holds."""
    for _ in range(1000):
        if holds():
            return
        await anyio.sleep(0.005)
    raise TimeoutError


def move(path: Path, to: Path) -> None:
    path.rename(to)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("claimed_by", "is_empty", "claim"),
    [
        (OURS, False, Claim.TAKE),
        (OURS, True, Claim.TAKE),
        (None, False, Claim.MAKE_IT_OURS),
        (None, True, Claim.MAKE_IT_OURS),
        (THEIRS, True, Claim.MAKE_IT_OURS),
        (THEIRS, False, Claim.LEAVE),
    ],
)
def test_what_a_ledger_may_do_with_an_inbox(
    claimed_by: bytes | None, is_empty: bool, claim: Claim
) -> None:
    """A ledger takes from its inbox, claims an empty or unclaimed one, and leaves another's."""
    assert claim_of(OURS, claimed_by=claimed_by, is_empty=is_empty) is claim


@pytest.mark.anyio
async def test_opening_takes_in_all_postbacks_of_the_inbox(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a ledger takes in all postbacks of its inbox, in several parts if needed."""
    monkeypatch.setattr(inbox_file, "MOST", 3)
    bundle = [notice(tracking_id="in a bundle"), said("Hello"), notice(DELIVERED, "and more")]
    put(path, bundle, *(notice(tracking_id=str(number)) for number in range(10)))
    async with SQLiteLedger(path, look_every=math.inf) as ledger:
        assert (await ledger.summary()).unplaced == 12
        assert left(path) == 0


@pytest.mark.anyio
async def test_a_postback_in_the_inbox_wakes_wait_for(path: Path) -> None:
    """A postback that arrives in the inbox of an open ledger wakes `wait_for`."""
    async with SQLiteLedger(path, look_every=0.01) as ledger:
        for key, tracking_id in (("one", "A"), ("two", "B")):
            await ledger.begin(intent(key))
            await ledger.finish(key, accepted(tracking_id))
            put(path, notice(DELIVERED, tracking_id))
            assert (await ledger.wait_for(tracking_id, timeout=5)).state is S.DELIVERED
        await until(lambda: left(path) == 0)


@pytest.mark.anyio
async def test_a_look_takes_in_what_there_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look takes in all postbacks that are in the inbox at its start."""
    monkeypatch.setattr(inbox_file, "MOST", 2)
    looks: list[int] = []
    next_of = InboxTaker.next

    def counted(self: InboxTaker) -> Any:
        command = next_of(self)
        looks.append(0 if command is None else len(command.postbacks))
        return command

    async with SQLiteLedger(path, look_every=math.inf) as ledger:
        monkeypatch.setattr(InboxTaker, "next", counted)
        put(path, *(notice(tracking_id=str(number)) for number in range(5)))
        await look(ledger)
        assert looks == [2, 2, 1]
        put(path, *(notice(tracking_id=str(number)) for number in range(4)))
        await look(ledger)
        assert looks[3:] == [2, 2, 0]


@pytest.mark.anyio
async def test_without_looks_it_is_left_to_the_next_opening(path: Path) -> None:
    """With an infinite `look_every`, postbacks stay in the inbox until the next opening."""
    async with SQLiteLedger(path, look_every=math.inf) as ledger:
        put(path, notice())
        await anyio.sleep(0.03)
        assert (await ledger.summary()).unplaced == 0
    assert left(path) == 1
    async with SQLiteLedger(path) as ledger:
        assert (await ledger.summary()).unplaced == 1


@pytest.mark.parametrize("wrong", [0, -1, math.nan])
def test_a_bad_look_every_is_refused(path: Path, wrong: float) -> None:
    """A `look_every` that is 0, negative or no number is refused."""
    with pytest.raises(ConfigurationError, match="look_every: "):
        SQLiteLedger(path, look_every=wrong)


@pytest.mark.anyio
async def test_a_crash_before_the_inbox_is_cleared_repeats_nothing(path: Path) -> None:
    """Postbacks that were recorded before a crash, but not yet removed, are recorded once."""
    async with SQLiteLedger(path, look_every=math.inf) as ledger:
        put(path, notice(tracking_id="A"), said("Hello"))
        command = ledger._file.inbox.next()
        assert command is not None
        await ledger.run(command)
    assert left(path) == 2
    put(path, notice(tracking_id="B"))
    async with SQLiteLedger(path) as ledger:
        assert [getattr(one, "tracking_id", "") async for one in ledger.unplaced()] == ["A", "B"]
        assert [text.text async for text in ledger.inbound()] == ["Hello"]
    assert left(path) == 0


@pytest.mark.anyio
async def test_an_inbox_that_is_put_back_loses_nothing_that_comes_into_it(path: Path) -> None:
    """Postbacks that get used ids in an inbox restored from a backup are still taken in."""
    put(path, notice(tracking_id="A"))
    backup = inbox_of(path).read_bytes()
    put(path, notice(tracking_id="B"))
    async with SQLiteLedger(path):
        pass
    inbox_of(path).write_bytes(backup)
    put(path, notice(tracking_id="C"))
    async with SQLiteLedger(path) as ledger:
        known = {getattr(one, "tracking_id", "") async for one in ledger.unplaced()}
    assert known == {"A", "B", "C"}


@pytest.mark.anyio
async def test_a_crash_before_the_ledger_has_it_loses_nothing(path: Path) -> None:
    """A postback that was read but not recorded is taken in by the next opening."""
    async with SQLiteLedger(path, look_every=math.inf) as ledger:
        put(path, notice())
        assert ledger._file.inbox.next() is not None
    async with SQLiteLedger(path) as ledger:
        assert (await ledger.summary()).unplaced == 1


@pytest.mark.anyio
async def test_an_inbox_that_was_made_anew_is_taken_in(path: Path) -> None:
    """Postbacks of a new inbox file are taken in although its ids begin at 1 again."""
    for tracking_id in ("A", "B"):
        put(path, notice(tracking_id=tracking_id))
        async with SQLiteLedger(path) as ledger:
            known = [getattr(one, "tracking_id", "") async for one in ledger.unplaced()]
        remove(inbox_of(path))
    assert known == ["A", "B"]


# As of when they came.


@pytest.mark.anyio
async def test_a_postback_taken_in_settles_a_doubt_by_when_it_came(path: Path) -> None:
    """A postback settles a doubt by its time of receipt, not by when it is taken in."""
    clock = Clock()
    async with SQLiteLedger(path, look_every=math.inf, clock=clock, settle_within=60) as ledger:
        for key, number in (("soon", TO), ("late", OTHER)):
            await ledger.begin(intent(key, to=number))
            await ledger.finish(key, DOUBT)
    put(path, notice(SENT, "A", after=-9_000), received=NOON + 30)
    put(path, notice(SENT, "B", to=OTHER, after=-9_000), received=NOON + 90)
    clock.now += 10_000
    async with SQLiteLedger(path, clock=clock, settle_within=60) as ledger:
        states = {each.key: each.state async for each in ledger.deliveries()}
    assert states == {"soon": S.SENT, "late": S.IN_DOUBT}


@pytest.mark.anyio
async def test_a_stop_from_the_inbox_counts_once_taken_in(path: Path) -> None:
    """A number whose STOP came from the inbox is not sent to."""
    put(path, said("STOP"))
    async with SQLiteLedger(path) as ledger:
        with pytest.raises(RecipientOptedOut):
            await ledger.begin(intent())


@pytest.mark.anyio
async def test_a_rule_for_opting_out_is_asked(path: Path) -> None:
    """The caller's `opt_out_rule` is applied to texts from the inbox."""
    put(path, said("no more of this"))
    async with SQLiteLedger(path, opt_out_rule=lambda text: "no more" in text.text) as ledger:
        assert await ledger.is_opted_out(TO)


@pytest.mark.anyio
async def test_a_stop_without_a_time_counts_from_its_receipt(path: Path) -> None:
    """A STOP without a time counts from its receipt, so that a later START opts in."""
    stop = said("STOP")
    stop = type(stop)(**{**vars(stop), "timestamp": None, "received": None})
    put(path, stop, received=NOON)
    async with SQLiteLedger(path) as ledger:
        await ledger.record(said("START", after=60))
        assert not await ledger.is_opted_out(TO)


@pytest.mark.anyio
async def test_an_opt_out_by_hand_outlasts_a_start_received_before(path: Path) -> None:
    """An opt-out by hand outlasts a START that was received before it, whatever its stamp."""
    async with SQLiteLedger(path, look_every=math.inf, clock=Clock()) as ledger:
        put(path, said("START", after=3600))
        await ledger.opt_out(TO)
        await look(ledger)
        assert await ledger.is_opted_out(TO)
        assert left(path) == 0


@pytest.mark.anyio
async def test_an_opt_out_of_the_shared_list_outlasts_a_start_received_before(path: Path) -> None:
    """An opt-out from a shared list outlasts a START that was received before it."""
    async with SQLiteLedger(path, look_every=math.inf, clock=Clock()) as ledger:
        put(path, said("START", after=3600))
        await ledger.run(TellOptOuts(entries=(OptOut(number=TO, out=True, at=NOON + 1),)))
        await look(ledger)
        assert await ledger.is_opted_out(TO)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kept", "is_out"),
    [
        (unstamped("START", 1), True),
        ([unstamped("STOP", 1), unstamped("START", 2)], True),
        (said("START", after=9), False),
    ],
)
async def test_a_stop_that_came_here_meanwhile_is_not_taken_back(
    path: Path, kept: Notification | list[Notification], is_out: bool
) -> None:
    """A START that waited in the inbox does not undo a newer STOP, unless stamped later."""
    clock = Clock()
    async with SQLiteLedger(path, look_every=math.inf, clock=clock) as ledger:
        put(path, kept)
        clock.now += 1
        await ledger.record(unstamped("STOP", 3))
        clock.now += 1
        await look(ledger)
        assert await ledger.is_opted_out(TO) is is_out


@pytest.mark.anyio
async def test_of_stop_and_start_in_one_postback_the_second_counts(path: Path) -> None:
    """Of a STOP and a START in one postback the second counts."""
    async with SQLiteLedger(path, look_every=math.inf) as ledger:
        put(path, [unstamped("STOP", 1), unstamped("START", 2)])
        await look(ledger)
        assert not await ledger.is_opted_out(TO)
        put(path, [unstamped("START", 3), unstamped("STOP", 4)])
        await look(ledger)
        assert await ledger.is_opted_out(TO)


@pytest.mark.anyio
async def test_a_number_is_opted_out_also_where_the_inbox_cannot_be_read(path: Path) -> None:
    """An opt-out is recorded even if the inbox cannot be read; the next look raises."""
    async with SQLiteLedger(path, look_every=math.inf) as ledger:
        inbox_of(path).write_bytes(b"no database" * 100)
        await ledger.opt_out(TO)
        assert await ledger.is_opted_out(TO)
        with pytest.raises(LedgerError):
            await look(ledger)


# What is another's.


@pytest.mark.anyio
async def test_postbacks_for_another_ledger_are_not_taken_in(path: Path) -> None:
    """A new ledger does not open beside an inbox with another ledger's postbacks."""
    put(path)
    async with SQLiteLedger(path, look_every=math.inf):
        put(path, notice())
    move(path, path.with_name("old.db"))
    with pytest.raises(LedgerError, match=r"-inbox has postbacks for another .* 1 of them.*Move"):
        await SQLiteLedger(path).open()
    assert left(path) == 1
    remove(path)
    move(path.with_name("old.db"), path)
    async with SQLiteLedger(path) as ledger:
        assert (await ledger.summary()).unplaced == 1


@pytest.mark.anyio
async def test_a_new_ledger_claims_an_empty_inbox(path: Path) -> None:
    """A new ledger claims the empty inbox of a removed ledger of the same name."""
    put(path, notice())
    async with SQLiteLedger(path):
        pass
    remove(path)
    async with SQLiteLedger(path):
        pass
    put(path, notice(tracking_id="B"))
    async with SQLiteLedger(path) as ledger:
        assert (await ledger.summary()).unplaced == 1


def test_an_inbox_filled_for_another_ledger_before_the_claim_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inbox that gets another ledger's postbacks just before it is claimed is left alone."""
    put(path)
    inbox = InboxFile(path)
    inbox.open()
    inbox.give_to(THEIRS)
    is_empty = InboxFile.is_empty

    def fill(self: InboxFile) -> bool:
        found = is_empty(self)
        inbox.add([KeptPostback.of([notice()], received=NOON)])
        return found

    monkeypatch.setattr(InboxFile, "is_empty", fill)
    taker = InboxTaker(path, name="ledger.db", ledger=OURS)
    with pytest.raises(LedgerError, match=r"for another ledger that was called ledger\.db"):
        taker.next()
    taker.close()
    assert inbox.claimed_by() == THEIRS
    inbox.close()


@pytest.mark.anyio
async def test_a_foreign_inbox_of_an_open_ledger_is_logged_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A foreign inbox of an open ledger is logged once, and taken in again once it is free."""
    async with SQLiteLedger(path, look_every=0.01) as ledger:
        theirs = InboxFile(path)
        theirs.open()
        theirs.give_to(THEIRS)
        theirs.add([KeptPostback.of([notice()], received=NOON)])
        await until(lambda: caplog.records)
        await anyio.sleep(0.05)
        assert await ledger.begin(intent()) is None
        theirs.remove(1)
        await until(lambda: theirs.claimed_by() != THEIRS)
        put(path, notice(DELIVERED, "B"))
        await until(theirs.is_empty)
        assert (await ledger.summary()).unplaced == 1
        theirs.close()
    (record,) = caplog.records
    assert (record.levelno, "for another ledger" in record.getMessage()) == (logging.ERROR, True)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("raised", "said_of_it"),
    [
        (
            PermissionError(13, "Permission denied", "ledger.db-inbox"),
            "Permission denied: 'ledger",
        ),
        (RuntimeError("can't start new thread"), "that others write to raised RuntimeError\n"),
    ],
)
async def test_a_look_that_fails_is_not_the_last(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    raised: Exception,
    said_of_it: str,
) -> None:
    """After a look into the inbox failed, later looks take in what has come."""

    def fail(_path: Path) -> bool:
        raise raised

    async with SQLiteLedger(path, look_every=0.01) as ledger:
        with monkeypatch.context() as patched:
            patched.setattr(InboxFile, "exists", fail)
            await until(lambda: caplog.records)
        put(path, said("STOP"))
        await until(lambda: left(path) == 0)
        assert await ledger.is_opted_out(TO)
    (record,) = caplog.records
    assert said_of_it in record.getMessage()


# Closing.


@pytest.mark.anyio
async def test_closing_waits_for_no_more_than_what_is_being_recorded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A postback that was read but not yet recorded when the ledger closes stays in the inbox."""
    is_reading = anyio.Event()
    ledger = SQLiteLedger(path, look_every=0.01)
    await ledger.open()
    next_of = InboxTaker.next

    def slowly(self: InboxTaker) -> Any:
        anyio.from_thread.run_sync(is_reading.set)
        anyio.from_thread.run(until, lambda: not ledger.is_open)
        return next_of(self)

    monkeypatch.setattr(InboxTaker, "next", slowly)
    put(path, notice())
    await is_reading.wait()
    await ledger.aclose()
    assert left(path) == 1


@pytest.mark.anyio
async def test_a_watch_tells_what_goes_wrong_when_it_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The watch of an inbox logs a problem once, and again after it was gone in between."""
    words = ["full", "full", "", "full", "gone", "end"]

    async def look() -> None:
        if (word := words.pop(0)) == "end":
            tasks.end()
        elif word:
            raise OSError(word) if word == "gone" else LedgerError(word)

    async def finalize() -> None:
        pass

    tasks = BackgroundTasks(finalize)
    InboxWatch(look, tasks, every=0.001)
    await until(lambda: tasks.closed)
    await tasks.close()
    assert [record.getMessage() for record in caplog.records] == ["full", "full", "gone"]
