"""What every ledger does, whatever its storage: one suite over all of them.

Strategy: a clock that stands still, answers and postbacks made by hand, and no client. Examples
first; then a state machine that does anything in any order and compares with a few dicts, and a
property over every order of one message's notifications.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from itertools import count, permutations
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import attrs
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from benchmarks import postgres
from skycore_async import MemoryLedger, PostgresLedger, SQLiteLedger
from skycore_async.codes import DeliveryState, FailureReason
from skycore_async.errors import InvalidMessage, KeyConflict, RecipientOptedOut
from skycore_async.ledger.attempts import turn_of
from skycore_async.ledger.base import BaseLedger
from skycore_async.ledger.commands import TellOptOuts
from skycore_async.ledger.interface import Ledger
from skycore_async.ledger.list_commands import GetLastTurn
from skycore_async.ledger.model import MessageState, SendIntent, Submission
from skycore_async.ledger.opt_outs import OptOut
from skycore_async.ledger.reader import LONG_PAGE
from skycore_async.ledger.report_commands import ListBegunMessages, ListEarlierAttempts
from skycore_async.notifications import DeliveryReceipt, Notification, SentNotification
from skycore_async.postbacks import parse_postback
from tests.support.ledger_cases import (
    BLOCKED,
    DELIVERED,
    DOUBT,
    EXPIRED,
    NOON,
    NOT_SENT,
    ODD,
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
    settle,
    state_of,
)
from tests.support.wire_cases import CASES

pytestmark = pytest.mark.anyio

S = MessageState


# Each makes a ledger; `ends` says whether one opened later at the same place knows what it knew.
class Kind(NamedTuple):
    make: Callable[[Path, Clock], Any]
    is_durable: bool


LEDGERS = {
    "memory": Kind(lambda _place, clock: MemoryLedger(clock=clock), is_durable=False),
    "sqlite": Kind(
        lambda place, clock: SQLiteLedger(place / "ledger.db", clock=clock), is_durable=True
    ),
    "postgres": Kind(
        lambda place, clock: PostgresLedger(postgres.at(place), clock=clock), is_durable=True
    ),
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=LEDGERS)
async def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncGenerator[Ledger]:
    async with LEDGERS[request.param].make(tmp_path, clock) as opened:
        yield opened


async def until(so: Callable[[], bool]) -> None:
    while not so():  # noqa: ASYNC110 - nothing tells of it
        await anyio.sleep(0.001)


# Sending.


async def test_in_what_order_messages_were_begun_is_known_without_a_clock(
    ledger: BaseLedger, clock: Clock
) -> None:
    """Attempts have their order by turn, whatever the clock says."""
    for to, outcome in [("11", DOUBT), ("12", NOT_SENT), ("13", NOT_SENT), ("14", accepted("T"))]:
        await sent(ledger, to, outcome, to=f"155512348{to}")
    for to in ("13", "11", "15", "12", "16"):
        clock.now -= 5000
        again = attrs.evolve(intent(to, to=f"155512348{to}"), started_at=clock.now)
        assert await ledger.begin(again, resend_in_doubt=True) is None
        await ledger.finish(to, accepted(f"T{to}"))
    begun = (await ledger.run(ListBegunMessages(since=0, after=0))).rows
    in_order = sorted(begun, key=lambda each: turn_of(each.id, each.turn))
    assert [each.to[-2:] for each in in_order] == ["14", "13", "11", "15", "12", "16"]
    (earlier,) = (await ledger.run(ListEarlierAttempts(after=0))).rows
    ids = [each.id for each in begun]
    assert turn_of(earlier.message, earlier.turn) == turn_of(min(ids), None)


@pytest.mark.parametrize("name", ["", "x" * 100_000, "a\0b", "\ud800"])
async def test_nothing_is_known_of_a_name_that_no_message_has(ledger: Ledger, name: str) -> None:
    """An unknown key or tracking id, even an impossible one, gives no delivery."""
    assert await ledger.delivery(key=name) is None
    assert await ledger.delivery(name) is None


async def test_a_new_key_is_begun_and_under_way(ledger: Ledger) -> None:
    """A new key begins, and is under way without an outcome."""
    assert await ledger.lookup(intent()) is None
    assert await ledger.delivery(key="k") is None
    assert await ledger.begin(intent()) is None
    assert await ledger.lookup(intent()) is None
    delivery = await ledger.delivery(key="k")
    assert delivery is not None
    assert attrs.asdict(delivery, recurse=False) == {
        "key": "k",
        "tracking_id": None,
        "to": TO,
        "from_": "60856",
        "state": S.SENDING,
        "reason": None,
        "events": (),
        "settled_by": None,
        "began": datetime.fromtimestamp(NOON, UTC),
        "code": None,
        "info": None,
        "history_id": None,
        "campaign_ref": None,
        "segments": None,
        "tags": (),
    }


@pytest.mark.parametrize("submission", [accepted(), REJECTED, DOUBT], ids=lambda s: s.state)
async def test_a_key_with_an_outcome_returns_the_outcome(
    ledger: Ledger, submission: Submission
) -> None:
    """A key with an outcome returns it, and does not begin again."""
    await sent(ledger, "k", submission)
    for _ in range(2):
        assert await ledger.lookup(intent()) == submission
        assert await ledger.begin(intent()) == submission
    delivery = await ledger.delivery(key="k")
    assert delivery is not None
    assert (delivery.state, delivery.tracking_id, delivery.code, delivery.info) == (
        submission.state,
        submission.tracking_id,
        submission.code,
        submission.info,
    )


async def test_the_last_turn_grows_with_each_attempt(ledger: BaseLedger) -> None:
    """Each attempt, also a second one of a key, gets a higher turn."""
    turns = [await ledger.run(GetLastTurn())]
    for key in ("k", "l", "k"):
        await sent(ledger, key, NOT_SENT)
        turns.append(await ledger.run(GetLastTurn()))
    assert turns[0] == 0
    assert turns == sorted(set(turns))


async def test_a_message_not_sent_is_begun_again(ledger: Ledger) -> None:
    """A message not sent begins again, with the time of its last begin."""
    await sent(ledger, "k", NOT_SENT)
    assert await ledger.lookup(intent()) is None
    assert await ledger.begin(attrs.evolve(intent(), started_at=NOON + 60)) is None
    delivery = await ledger.delivery(key="k")
    assert delivery is not None
    assert (delivery.state, delivery.info) == (S.SENDING, None)
    assert delivery.began == datetime.fromtimestamp(NOON + 60, UTC)
    await ledger.finish("k", accepted())
    assert await ledger.begin(intent()) == accepted()


USUAL = {"STATUS": "Success", "TRACKINGID": "T", "TO": TO}
ANSWERS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "empty": {},
    "usual": USUAL,
    "another number": {**USUAL, "TO": "5551234888"},
    "no digits": {**USUAL, "TO": '"'},
    "no number": {**USUAL, "TO": {"@x": "1", "#text": TO}},
    "half a number": {"STATUS": "Success", "TRACKINGID": "T"},
    "more": {**USUAL, "NOTE": "x"},
    "another word": {**USUAL, "STATUS": "SUCCESS"},
    "another tracking id": {**USUAL, "TRACKINGID": " T "},
}


@pytest.mark.slow
@pytest.mark.parametrize("raw", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_given_again_as_it_came(
    ledger: Ledger, raw: dict[str, Any] | None
) -> None:
    """A recorded answer comes back as it was, usual or not."""
    submission = Submission(state=S.ACCEPTED, tracking_id="T", raw=raw)
    await sent(ledger, "k", submission)
    known = await ledger.lookup(intent())
    assert known == submission
    assert known is not None
    assert known.raw == raw


@pytest.mark.parametrize("submission", [None, accepted(), DOUBT])
async def test_a_key_with_other_content_is_refused(
    ledger: Ledger, submission: Submission | None
) -> None:
    """A key with other content raises KeyConflict if it may have been sent."""
    await ledger.begin(intent())
    if submission is not None:
        await ledger.finish("k", submission)
    before = await ledger.delivery(key="k")
    for ask in (ledger.lookup, ledger.begin):
        with pytest.raises(KeyConflict, match="'k'") as conflict:
            await ask(intent(content=b"two"), resend_in_doubt=True)
        assert conflict.value.state == (submission.state if submission else S.SENDING)
    assert await ledger.delivery(key="k") == before


@pytest.mark.parametrize("submission", [NOT_SENT, REJECTED], ids=lambda s: s.state)
async def test_a_rejected_or_unsent_message_can_be_replaced(
    ledger: BaseLedger, submission: Submission
) -> None:
    """A rejected or unsent message can be replaced under its key."""
    await sent(ledger, "k", submission)
    mended = intent(content=b"two", to=OTHER, from_="60857")
    assert await ledger.lookup(mended) is None
    assert await ledger.lookup_many([mended]) == {}
    assert await ledger.begin(mended) is None
    await ledger.finish("k", accepted())
    assert await ledger.begin(mended) == accepted()
    with pytest.raises(KeyConflict):
        await ledger.begin(intent())
    await ledger.record(notice(DELIVERED, to=OTHER, from_="60857"))
    delivery = await ledger.delivery(key="k")
    assert delivery is not None
    assert (delivery.to, delivery.from_, delivery.state) == (OTHER, "60857", S.DELIVERED)


async def test_a_doubt_that_was_mended_settles_at_its_new_number(ledger: Ledger) -> None:
    """A replaced message in doubt is settled by receipts for its new number alone."""
    await sent(ledger, "k", REJECTED)
    await ledger.begin(intent(content=b"two", to=OTHER))
    await ledger.finish("k", DOUBT)
    await ledger.record(notice(SENT, "T1"))
    assert await state_of(ledger, "k") is S.IN_DOUBT
    await ledger.record(notice(SENT, "T2", to=OTHER))
    assert await state_of(ledger, "k") is S.SENT


async def test_a_second_attempt_that_was_refused_frees_no_key(ledger: Ledger) -> None:
    """A key that was in doubt keeps its content after a rejected resend."""
    await sent(ledger, "k", DOUBT)
    await ledger.begin(intent(), resend_in_doubt=True)
    await ledger.finish("k", REJECTED)
    with pytest.raises(KeyConflict) as conflict:
        await ledger.begin(intent(content=b"two"), resend_in_doubt=True)
    assert conflict.value.state == S.IN_DOUBT


async def test_many_are_recalled_at_once(ledger: BaseLedger) -> None:
    """`lookup_many` returns outcomes and conflicts, and omits keys that may begin."""
    await sent(ledger, "done", accepted("T"))
    await sent(ledger, "doubt", DOUBT)
    await sent(ledger, "free", NOT_SENT)
    await ledger.begin(intent("under way"))
    asked = [intent(key) for key in ("done", "doubt", "free", "under way", "new")]
    asked.append(intent("other", content=b"two"))
    await sent(ledger, "other", accepted("U"))
    known = await ledger.lookup_many(asked)
    assert isinstance(known.pop("other"), KeyConflict)
    assert known == {"done": accepted("T"), "doubt": DOUBT}
    known = await ledger.lookup_many(asked, resend_in_doubt=True)
    assert isinstance(known.pop("other"), KeyConflict)
    assert known == {"done": accepted("T")}
    assert await ledger.lookup_many([]) == {}


@pytest.mark.slow
async def test_a_doubt_is_not_ended_by_finishing_again(ledger: Ledger) -> None:
    """A second outcome for a doubt is not recorded."""
    await sent(ledger, "k", DOUBT)
    await ledger.finish("k", accepted("U"))
    assert await state_of(ledger, "k") is S.IN_DOUBT


async def test_finishing_again_changes_nothing(ledger: Ledger) -> None:
    """A second outcome of a submission changes nothing."""
    await sent(ledger, "k", accepted("T"))
    await ledger.record(notice(DELIVERED, "U"))
    await ledger.finish("k", accepted("U"))
    await ledger.finish("k", DOUBT)
    delivery = await ledger.delivery(key="k")
    assert delivery is not None
    assert (delivery.state, delivery.tracking_id) == (S.ACCEPTED, "T")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [(accepted(), accepted()), (REJECTED, REJECTED), (DOUBT, DOUBT), (NOT_SENT, None)],
    ids=["accepted", "rejected", "in doubt", "not sent"],
)
async def test_one_of_two_tasks_begins_and_the_other_gets_its_outcome(
    ledger: Ledger, first: Submission, second: Submission | None
) -> None:
    """A second begin of a key waits for the outcome, or begins if it was not sent."""
    answers: list[Submission | None] = []

    async def begin() -> None:
        answers.append(await ledger.begin(intent()))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(begin)
            group.start_soon(begin)
            await until(lambda: bool(answers))
            await settle()
            assert answers == [None]
            await ledger.finish("k", first)
    assert answers == [None, second]
    assert await state_of(ledger, "k") is (S.SENDING if second is None else second.state)


async def test_a_key_that_stays_under_way_is_waited_for_only_so_long(ledger: Ledger) -> None:
    """A begin that waits for a key under way raises TimeoutError after its timeout."""
    assert await ledger.begin(intent(), timeout=0) is None
    with pytest.raises(TimeoutError):
        await ledger.begin(intent(), timeout=0.01)
    assert await state_of(ledger, "k") is S.SENDING
    await ledger.finish("k", accepted())
    assert await ledger.begin(intent(), timeout=0) == accepted()


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", range(8))
async def test_a_cancelled_begin_leaves_the_key_free(ledger: Ledger, checkpoints: int) -> None:
    """A begin that is cancelled at any point leaves the key free."""
    given: list[Submission | None] = []

    async def begin() -> None:
        given.append(await ledger.begin(intent()))

    async with anyio.create_task_group() as group:
        group.start_soon(begin)
        for _ in range(checkpoints):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    with anyio.fail_after(5):
        if not given:
            await begin()
    assert given == [None]
    await ledger.finish("k", accepted())
    assert await state_of(ledger, "k") is S.ACCEPTED


async def test_doubt_is_resent_on_the_word_and_never_twice_at_once(ledger: Ledger) -> None:
    """Of concurrent begins with `resend_in_doubt` one begins; the others get its outcome."""
    await sent(ledger, "k", DOUBT)
    assert await ledger.lookup(intent(), resend_in_doubt=True) is None
    again = attrs.evolve(DOUBT, info="once more")
    answers: list[Submission | None] = []

    async def begin() -> None:
        answers.append(await ledger.begin(intent(), resend_in_doubt=True))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(begin)
            await until(lambda: bool(answers))
            await settle()
            assert answers == [None]
            await ledger.finish("k", again)
    assert answers == [None, again, again]


@pytest.mark.parametrize("second", [NOT_SENT, BLOCKED, DOUBT], ids=lambda s: s.state)
async def test_a_second_attempt_that_was_not_accepted_leaves_the_first_in_doubt(
    ledger: Ledger, second: Submission
) -> None:
    """A resend that is not accepted leaves the message in doubt, to be settled by postback."""
    await sent(ledger, "k", DOUBT)
    assert await ledger.begin(intent(), resend_in_doubt=True) is None
    await ledger.finish("k", second)
    assert await begun(ledger, "k") == attrs.evolve(second, state=S.IN_DOUBT)
    await ledger.record(notice(DELIVERED))
    assert await state_of(ledger, "k") is S.DELIVERED


async def begun(ledger: Ledger, key: str) -> Submission:
    """Return the outcome of a message that must not begin."""
    known = await ledger.begin(intent(key))
    assert known is not None
    return known


# Postbacks.


@pytest.mark.slow
@pytest.mark.parametrize("early", range(4))
async def test_notifications_early_late_and_repeated(ledger: Ledger, early: int) -> None:
    """Notifications before, after or twice around the response give one delivery."""
    notices = [notice(DELIVERED, after=9), notice(SENT, after=2), notice(DELIVERED, after=9)]
    await ledger.begin(intent())
    await ledger.record(*notices[:early])
    assert await state_of(ledger, "k") is S.SENDING
    await ledger.finish("k", accepted())
    for late in notices[early:]:
        await ledger.record(late)
    await ledger.record(*notices, *notices)
    for delivery in (await ledger.delivery("T"), await ledger.delivery(key="k")):
        assert delivery is not None
        assert (delivery.key, delivery.state, delivery.settled_by) == ("k", S.DELIVERED, None)
        assert delivery.events == (notices[1], notices[0])
    assert [each async for each in ledger.unplaced()] == []
    assert await begun(ledger, "k") == attrs.evolve(accepted(), state=S.DELIVERED)


async def test_states_go_on_from_accepted(ledger: Ledger) -> None:
    """States go from accepted to sent to final, and a final state stays."""
    await sent(ledger, "k", accepted())
    for what, after, state, reason in (
        (ODD, 1, S.ACCEPTED, None),
        (SENT, 2, S.SENT, None),
        (EXPIRED, 3, S.FAILED, FailureReason.EXPIRED),
        (DELIVERED, 4, S.FAILED, FailureReason.EXPIRED),
    ):
        await ledger.record(notice(what, after=after))
        delivery = await ledger.delivery("T")
        assert delivery is not None
        assert (delivery.state, delivery.reason) == (state, reason)
        assert len(delivery.events) == after


async def test_a_bundle_is_all_or_nothing(ledger: Ledger) -> None:
    """A bundle with one notification that cannot be stored is not stored at all."""
    await sent(ledger, "k", accepted())
    cannot_be_kept = SentNotification(tracking_id="T", to=TO, raw={"x": object()})
    with pytest.raises(TypeError):
        await ledger.record(notice(DELIVERED), said("STOP"), cannot_be_kept)
    delivery = await ledger.delivery("T")
    assert delivery is not None
    assert (delivery.state, delivery.events) == (S.ACCEPTED, ())
    assert not await ledger.is_opted_out(TO)
    await ledger.record(*(notice(DELIVERED, f"U{number}") for number in range(299)), notice())
    assert (await ledger.summary()).unplaced == 299
    assert await state_of(ledger, "k") is S.SENT
    await ledger.record()


async def test_notifications_without_a_message_are_listed(ledger: Ledger) -> None:
    """Notifications without a message are kept once and listed as unplaced."""
    kept: dict[Any, Notification] = {}
    for case in CASES:
        notifications = parse_postback(case.document)
        await ledger.record(*notifications)
        for each in notifications:
            if isinstance(each, SentNotification | DeliveryReceipt):
                kept.setdefault((each.id, each.code) if each.id else repr(each.raw), each)
    assert [each async for each in ledger.unplaced()] == [*kept.values()]
    assert (await ledger.summary()).unplaced == len(kept)
    assert (await ledger.summary()).total == 0


@pytest.mark.slow
async def test_more_than_a_page_is_listed_whole(ledger: Ledger) -> None:
    """Lists longer than a page are complete and in order."""
    keys = [f"k{number}" for number in range(501)]
    async with anyio.create_task_group() as group:
        for key in keys:
            group.start_soon(ledger.begin, intent(key))
    order = [delivery.key async for delivery in ledger.deliveries()]
    assert sorted(order) == sorted(keys)
    async with anyio.create_task_group() as group:
        for number, key in enumerate(keys[:-1]):
            group.start_soon(ledger.finish, key, accepted(f"T{number}"))
    assert [delivery.key async for delivery in ledger.deliveries()] == order
    accepted_ones = [delivery.key async for delivery in ledger.deliveries(S.ACCEPTED)]
    assert accepted_ones == [key for key in order if key != keys[-1]]
    assert [delivery.key async for delivery in ledger.deliveries(S.SENDING)] == keys[-1:]
    assert [delivery.key async for delivery in ledger.deliveries(S.FAILED)] == []
    unmatched = [notice(SENT, f"U{number}", to=OTHER) for number in range(1001)]
    await ledger.record(*unmatched)
    assert [each async for each in ledger.unplaced()] == unmatched


@pytest.mark.parametrize("name", ["tracking id", "key"])
@pytest.mark.parametrize("when", ["before", "while waiting", "before the response"])
async def test_waiting_ends_with_a_final_state(ledger: Ledger, name: str, when: str) -> None:
    """`wait_for` by tracking id or key ends with a final state, and not before."""
    await ledger.begin(intent())
    arrived: list[MessageState] = []

    async def wait() -> None:
        by = {"tracking id": {"tracking_id": "T"}, "key": {"key": "k"}}[name]
        arrived.append((await ledger.wait_for(**by, timeout=5)).state)

    if when == "before":
        await ledger.finish("k", accepted())
        await ledger.record(notice(DELIVERED))
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        if when == "while waiting":
            await ledger.finish("k", accepted())
            await ledger.record(notice(SENT))
            await settle()
            assert arrived == []
            await ledger.record(notice(DELIVERED))
        elif when == "before the response":
            await ledger.record(notice(DELIVERED))
            await settle()
            assert arrived == []
            await ledger.finish("k", accepted())
    assert arrived == [S.DELIVERED]


async def test_waiting_ends_with_its_time(ledger: Ledger) -> None:
    """`wait_for` raises TimeoutError after its timeout, also for an unknown id."""
    await sent(ledger, "k", accepted())
    for by in ({"tracking_id": "T"}, {"key": "k"}, {"key": "unknown"}):
        with pytest.raises(TimeoutError):
            await ledger.wait_for(**by, timeout=0.001)


@pytest.mark.parametrize("names", [{}, {"tracking_id": "T", "key": "k"}])
async def test_one_name_is_asked_for(ledger: Ledger, names: dict[str, str]) -> None:
    """`delivery` and `wait_for` with both or neither of id and key raise TypeError."""
    with pytest.raises(TypeError, match="not both"):
        await ledger.delivery(**names)
    with pytest.raises(TypeError, match="not both"):
        await ledger.wait_for(**names, timeout=1)
    assert await ledger.delivery("unknown") is None


async def test_a_state_is_named_by_its_word_too(ledger: Ledger) -> None:
    """A state may be given as text, and an unknown one raises ValueError."""
    await sent(ledger, "k", accepted())
    state: Any
    for state, keys in ((MessageState.ACCEPTED, ["k"]), ("accepted", ["k"]), ("in_doubt", [])):
        assert [each.key async for each in ledger.deliveries(state)] == keys
        assert [each.key async for each in ledger.export(state)] == keys
    for listed in (ledger.deliveries, ledger.export):
        state = "doubtful"
        with pytest.raises(ValueError, match="'doubtful' is not a valid MessageState"):
            listed(state)


async def test_notifications_that_are_not_unpacked_are_said_to_be(ledger: Ledger) -> None:
    """`record` with a tuple raises TypeError that shows how to unpack it."""
    given: Any = (said("yes"),)
    with pytest.raises(TypeError, match=r"record\(\*parse_postback\(body\)\)"):
        await ledger.record(given)
    await ledger.record()
    assert [each async for each in ledger.inbound()] == []


async def test_a_notification_that_no_postback_was_is_refused(ledger: Ledger) -> None:
    """A notification without `raw` is refused."""
    stop = attrs.evolve(said("STOP"), raw={})
    with pytest.raises(TypeError, match="of this InboundSMS, `raw` is empty"):
        await ledger.record(said("Hello"), stop)
    assert [each async for each in ledger.inbound()] == []
    await ledger.record(*parse_postback("<NOTIFICATION/>"))


async def test_the_summary_counts_what_there_is(ledger: Ledger) -> None:
    """The summary counts by state, code and reason, and counts unplaced and opted out."""
    assert (await ledger.summary()).total == 0
    for number, submission in enumerate([accepted(), REJECTED, REJECTED, DOUBT, NOT_SENT]):
        await sent(ledger, f"k{number}", submission, to=f"1555000000{number}")
    await sent(ledger, "no code", Submission(state=S.REJECTED))
    await ledger.begin(intent("k9", to=OTHER))
    await ledger.record(notice(EXPIRED), notice(SENT, "U", to="15550009999"), said("STOP"))
    summary = await ledger.summary()
    assert summary.states == {
        S.FAILED: 1,
        S.REJECTED: 3,
        S.IN_DOUBT: 1,
        S.NOT_SENT: 1,
        S.SENDING: 1,
    }
    assert summary.total == 7
    assert summary.codes == {"E621": 2, "": 1}
    assert summary.reasons == {FailureReason.EXPIRED: 1}
    assert (summary.unplaced, summary.opted_out) == (1, 1)


# Doubt.


@pytest.mark.parametrize("early", [False, True])
async def test_a_postback_settles_a_doubt_and_says_so(ledger: Ledger, early: bool) -> None:
    """A postback settles a doubt as accepted, with its tracking id."""
    await ledger.begin(intent())
    if early:
        await ledger.record(notice(DELIVERED))
    assert await state_of(ledger, "k") is S.SENDING
    await ledger.finish("k", DOUBT)
    await ledger.record(notice(DELIVERED), notice(SENT, after=0))
    delivery = await ledger.delivery("T")
    assert delivery is not None
    assert (delivery.key, delivery.state, delivery.settled_by) == ("k", S.DELIVERED, "postback")
    assert (delivery.code, delivery.info, len(delivery.events)) == (None, None, 2)
    known = await ledger.begin(intent(), resend_in_doubt=True)
    assert known == Submission(state=S.DELIVERED, tracking_id="T")


AMBIGUOUS: dict[str, tuple[list[SendIntent], list[Notification]]] = {
    "two messages": ([intent("a"), intent("b")], [notice()]),
    "another number": ([intent("a", to=OTHER)], [notice()]),
    "another sender": ([intent("a", from_="12345")], [notice()]),
    "too late": ([intent("a")], [notice(after=3601)]),
    "too early": ([intent("a")], [notice(after=-301)]),
}


RECEIVED = {"too late": NOON + 3601, "too early": NOON - 301}


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_a_notification_that_fits_two_doubts_or_none_settles_nothing(
    ledger: Ledger, clock: Clock, case: str
) -> None:
    """A notification that fits two doubts, or none, settles nothing and is kept."""
    intents, notices = AMBIGUOUS[case]
    clock.now = RECEIVED.get(case, NOON)
    for each in intents:
        await ledger.begin(each)
    for each in intents:
        await ledger.finish(each.key, DOUBT)
    await ledger.record(*notices)
    assert [await state_of(ledger, each.key) for each in intents] == [S.IN_DOUBT] * len(intents)
    assert [each async for each in ledger.unplaced()] == notices


@pytest.mark.parametrize("order", [*permutations(["lost", SENT, DELIVERED])])
async def test_a_receipt_long_after_settles_in_every_order(
    ledger: Ledger, order: tuple[Any, ...]
) -> None:
    """A receipt from a day later settles a doubt together with its sent notification."""
    await ledger.begin(intent())
    for each in order:
        if isinstance(each, str):
            await ledger.finish("k", DOUBT)
        else:
            await ledger.record(notice(each, after=1 if each is SENT else 86_400))
    delivery = await ledger.delivery(key="k")
    assert delivery is not None
    assert (delivery.state, delivery.settled_by) == (S.DELIVERED, "postback")
    assert len(delivery.events) == 2


async def test_two_submissions_before_the_doubt(ledger: Ledger) -> None:
    """A doubt with two fitting submissions is not settled."""
    await ledger.begin(intent())
    await ledger.record(notice(), notice(SENT, "U"))
    await ledger.finish("k", DOUBT)
    assert await state_of(ledger, "k") is S.IN_DOUBT
    assert (await ledger.summary()).unplaced == 2


async def test_a_doubt_is_settled_when_the_other_candidate_is_gone(ledger: Ledger) -> None:
    """A doubt is settled once the other candidate has its own tracking id."""
    await sent(ledger, "a", DOUBT)
    await ledger.begin(intent("b"))
    await ledger.record(notice(DELIVERED, "T"), notice(SENT, "U"))
    assert await state_of(ledger, "a") is S.IN_DOUBT
    await ledger.finish("b", accepted("U"))
    assert [await state_of(ledger, key) for key in "ab"] == [S.DELIVERED, S.SENT]
    assert (await ledger.summary()).unplaced == 0


async def test_a_message_that_was_refused_is_no_candidate_any_more(ledger: Ledger) -> None:
    """A doubt is settled once the other candidate is rejected."""
    await sent(ledger, "a", DOUBT)
    await ledger.begin(intent("b"))
    await ledger.record(notice(DELIVERED))
    await ledger.finish("b", REJECTED)
    assert [await state_of(ledger, key) for key in "ab"] == [S.DELIVERED, S.REJECTED]


# Tracking ids in two spellings.

PLAIN, ENCODED = "SMS_767867", "U01TXzc2Nzg2Nw=="
BOTH = [(PLAIN, ENCODED), (ENCODED, PLAIN), (ENCODED.rstrip("="), ENCODED)]


@pytest.mark.parametrize(("answered", "posted"), BOTH)
@pytest.mark.parametrize("early", [False, True])
async def test_a_receipt_in_the_other_spelling_is_of_the_same_message(
    ledger: Ledger, answered: str, posted: str, early: bool
) -> None:
    """A receipt with the other spelling of the tracking id belongs to the same message."""
    await sent(ledger, "a", DOUBT)
    await ledger.begin(intent("b"))
    if early:
        await ledger.record(notice(DELIVERED, posted))
    await ledger.finish("b", accepted(answered))
    await ledger.record(notice(DELIVERED, posted), notice(SENT, answered, after=0))
    assert [await state_of(ledger, key) for key in "ab"] == [S.IN_DOUBT, S.DELIVERED]
    for tracking_id in (answered, posted):
        delivery = await ledger.delivery(tracking_id)
        assert delivery is not None
        assert (delivery.key, delivery.tracking_id) == ("b", answered)
        assert [each.raw["TRACKINGID"] for each in delivery.events] == [answered, posted]
    assert await ledger.begin(intent("b")) == attrs.evolve(accepted(answered), state=S.DELIVERED)
    assert (await ledger.summary()).unplaced == 0


@pytest.mark.parametrize(("first", "second"), BOTH)
async def test_a_repetition_in_the_other_spelling_is_a_repetition(
    ledger: Ledger, first: str, second: str
) -> None:
    """A notification repeated in the other spelling is stored once."""
    await sent(ledger, "k", accepted(first))
    ids = (first, second, first)
    await ledger.record(*(notice(DELIVERED, each) for each in ids))
    await ledger.record(notice(DELIVERED, second))
    for each in ids:
        await ledger.record(
            *parse_postback(
                '<NOTIFICATION ID="7"><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE><BODY>'
                f"<TO>{TO}</TO><TRACKINGID>{each}</TRACKINGID></BODY></NOTIFICATION>"
            )
        )
    delivery = await ledger.delivery(key="k")
    assert delivery is not None
    assert [each.code for each in delivery.events] == ["N202", "N201"]


@pytest.mark.parametrize(("first", "second"), BOTH)
async def test_a_doubt_is_settled_under_the_spelling_that_settled_it(
    ledger: Ledger, first: str, second: str
) -> None:
    """A settled doubt has the spelling of its first notification."""
    await ledger.begin(intent())
    await ledger.record(notice(DELIVERED, second, after=2), notice(SENT, first, after=1))
    await ledger.finish("k", DOUBT)
    delivery = await ledger.delivery(key="k")
    assert delivery is not None
    assert (delivery.state, delivery.tracking_id) == (S.DELIVERED, first)
    assert (await ledger.delivery(second)) == delivery


@pytest.mark.parametrize(("answered", "posted"), BOTH)
@pytest.mark.parametrize("asked", [0, 1])
async def test_waiting_for_either_spelling_ends(
    ledger: Ledger, answered: str, posted: str, asked: int
) -> None:
    """`wait_for` accepts either spelling of a tracking id."""
    await sent(ledger, "k", accepted(answered))
    found: list[Any] = []

    async def wait() -> None:
        found.append(await ledger.wait_for((answered, posted)[asked], timeout=60))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await settle()
        await ledger.record(notice(DELIVERED, posted))
    assert [(each.key, each.tracking_id) for each in found] == [("k", answered)]


async def test_two_answers_with_one_id_in_two_spellings_are_one_submission(
    ledger: Ledger,
) -> None:
    """Two answers with one id in two spellings are one submission, the last message's."""
    async with anyio.create_task_group() as tasks:
        for key in "ab":
            await ledger.begin(intent(key))
        tasks.start_soon(ledger.finish, "a", accepted(PLAIN))
        tasks.start_soon(ledger.finish, "b", accepted(ENCODED))
    await ledger.record(notice(DELIVERED, PLAIN))
    states = [await state_of(ledger, key) for key in "ab"]
    assert sorted(map(str, states)) == ["accepted", "delivered"]


# When the first of two messages to a number began, in seconds; the second began at noon.
BEGAN = {"two hours before": -7200, "a year before": -86_400 * 365, "by a clock ahead": 600}


@pytest.mark.parametrize("began", BEGAN)
@pytest.mark.parametrize("state", [S.IN_DOUBT, S.SENDING])
async def test_no_time_makes_a_message_less_of_a_candidate(
    ledger: Ledger, began: str, state: MessageState
) -> None:
    """A message begun long ago, in doubt or under way, still keeps others from settling."""
    assert await ledger.begin(attrs.evolve(intent("a"), started_at=NOON + BEGAN[began])) is None
    if state is S.IN_DOUBT:
        await ledger.finish("a", DOUBT)
    await sent(ledger, "b", DOUBT)
    await ledger.record(notice(DELIVERED))
    assert [await state_of(ledger, key) for key in "ab"] == [state, S.IN_DOUBT]
    assert (await ledger.summary()).unplaced == 1


@pytest.mark.parametrize("again", [accepted("T2"), REJECTED, NOT_SENT, DOUBT, None])
@pytest.mark.parametrize("early", [False, True])
async def test_a_resent_message_stays_a_candidate(
    ledger: Ledger, again: Submission | None, early: bool
) -> None:
    """A resent message stays a candidate for receipts of its first attempt."""
    await sent(ledger, "a", DOUBT)
    assert await ledger.begin(intent("a"), resend_in_doubt=True) is None
    if again is not None:
        await ledger.finish("a", again)
    if early:
        await ledger.begin(intent("b"))
        await ledger.record(notice(DELIVERED, "T1"))
        await ledger.finish("b", DOUBT)
    else:
        await sent(ledger, "b", DOUBT)
        await ledger.record(notice(DELIVERED, "T1"))
    assert await state_of(ledger, "b") is S.IN_DOUBT
    assert [each async for each in ledger.unplaced()] == [notice(DELIVERED, "T1")]


async def test_a_settled_message_sent_twice_stays_a_candidate(ledger: Ledger) -> None:
    """A message sent twice stays a candidate after one receipt."""
    for resend in (False, True):
        assert await ledger.begin(intent("a"), resend_in_doubt=resend) is None
        await ledger.finish("a", DOUBT)
    await ledger.record(notice(DELIVERED, "T1"))
    assert await state_of(ledger, "a") is S.DELIVERED
    await sent(ledger, "b", DOUBT)
    await ledger.record(notice(DELIVERED, "T2"))
    assert await state_of(ledger, "b") is S.IN_DOUBT


async def test_a_settled_message_sent_once_is_no_candidate(ledger: Ledger) -> None:
    """A message sent once and settled is no candidate for other receipts."""
    await sent(ledger, "a", DOUBT)
    await ledger.record(notice(DELIVERED, "T1"))
    await sent(ledger, "b", DOUBT)
    await ledger.record(notice(DELIVERED, "T2"))
    assert [await state_of(ledger, key) for key in "ab"] == [S.DELIVERED, S.DELIVERED]


@pytest.mark.parametrize("ahead", [3 * 3600, -7 * 3600])
async def test_a_stamp_that_is_hours_wrong_settles_the_only_doubt_there_is(
    ledger: Ledger, clock: Clock, ahead: float
) -> None:
    """A notification whose stamp is hours wrong settles by its time of receipt."""
    await sent(ledger, "k", DOUBT)
    clock.now += 5
    await ledger.record(notice(DELIVERED, after=5 + ahead))
    assert await state_of(ledger, "k") is S.DELIVERED


WRITTEN = {
    "with its country code": ("5551234888", "15551234888"),
    "without its country code": ("15551234888", "5551234888"),
    "as it is dialled from abroad": ("15551234888", "01115551234888"),
    "as it is dialled at home": ("447911123456", "07911123456"),
    "a short one without its country code": ("376312345", "312345"),
}


@pytest.mark.parametrize("case", WRITTEN)
async def test_a_number_is_the_same_however_it_is_written(ledger: Ledger, case: str) -> None:
    """Receipts match numbers however they are written, for one doubt and for two."""
    number, written = WRITTEN[case]
    await sent(ledger, "k", DOUBT, to=number)
    await ledger.record(notice(DELIVERED, to=written))
    assert await state_of(ledger, "k") is S.DELIVERED
    for key, to in (("a", number), ("b", written)):
        await sent(ledger, key, DOUBT, to=to)
    await ledger.record(notice(DELIVERED, "U", to=number))
    assert [await state_of(ledger, key) for key in "ab"] == [S.IN_DOUBT, S.IN_DOUBT]


# Opting out.


# What is longer than any index takes, of characters that do not repeat: a database may squeeze.
LONG_ID = "".join(f"{number:x}-" for number in range(700))[:2800]
LONG_NUMBER = "".join(str(number) for number in range(2500))[:9000]
UNUSUAL = {
    "an id": notice(DELIVERED, LONG_ID),
    "a number": notice(DELIVERED, "U", to=LONG_NUMBER),
    "a sender": notice(DELIVERED, "U", from_=LONG_NUMBER),
    "everything": notice((DELIVERED[0], LONG_ID), LONG_ID, to=LONG_NUMBER, from_=LONG_ID),
    "a number that says STOP": said("STOP", from_=LONG_NUMBER),
    "a text": said(LONG_ID * 10, from_=LONG_NUMBER),
    "NUL in an id": DeliveryReceipt(
        tracking_id="U\0", to="1\0", from_="\0", state=DeliveryState.SENT, raw={"A": "\0"}
    ),
    "half a character": DeliveryReceipt(
        tracking_id="U\ud800",
        to="1\ud800",
        from_="\ud800",
        state=DeliveryState.SENT,
        raw={"\udfff": "\ud800"},
    ),
}


@pytest.mark.parametrize("case", UNUSUAL)
async def test_an_odd_notification_costs_its_neighbours_nothing(ledger: Ledger, case: str) -> None:
    """An odd notification and its bundle's others are stored once each."""
    await sent(ledger, "k", accepted("T"))
    for _ in range(2):
        await ledger.record(notice(SENT, "T"), UNUSUAL[case], said("STOP", from_=OTHER))
    assert await state_of(ledger, "k") is S.SENT
    assert await ledger.is_opted_out(OTHER)
    about_a_message = isinstance(UNUSUAL[case], DeliveryReceipt)
    assert (await ledger.summary()).unplaced == about_a_message


@pytest.mark.parametrize("settled", [False, True])
async def test_a_message_with_an_overlong_id_is_one_like_any_other(
    ledger: Ledger, settled: bool
) -> None:
    """A message with an overlong tracking id is found by it and gets receipts."""
    await sent(ledger, "k", DOUBT if settled else accepted(LONG_ID))
    await ledger.record(notice(DELIVERED, LONG_ID))
    delivery = await ledger.delivery(LONG_ID)
    assert delivery is not None
    assert (delivery.key, delivery.tracking_id, delivery.state) == ("k", LONG_ID, S.DELIVERED)
    assert await ledger.wait_for(LONG_ID, timeout=1) == delivery


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
async def test_an_outcome_is_written_whatever_characters_are_in_its_words(
    ledger: Ledger, text: str
) -> None:
    """NUL and surrogates in an outcome's texts are replaced."""
    await sent(ledger, "k", attrs.evolve(DOUBT, code=text, info=text))
    delivery = await ledger.delivery(key="k")
    assert delivery is not None
    assert (delivery.code, delivery.info) == ("a\ufffdb", "a\ufffdb")
    await sent(ledger, "other", accepted(text))
    assert await state_of(ledger, "other") is S.ACCEPTED


async def test_a_receipt_without_a_tracking_id_is_kept_and_listed(ledger: Ledger) -> None:
    """A receipt without tracking id is kept once and listed as unplaced."""
    (receipt,) = parse_postback(
        f"<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N202</CODE><TO>{TO}</TO></POSTBACK>"
    )
    await ledger.record(receipt, receipt)
    assert [each async for each in ledger.unplaced()] == [receipt]
    assert (await ledger.summary()).unplaced == 1


async def test_closing_wakes_who_waits(ledger: Any) -> None:
    """Closing raises RuntimeError for all who wait."""
    await ledger.begin(intent())
    heard: list[str] = []

    async def wait(call: Callable[[], Any]) -> None:
        with pytest.raises(RuntimeError, match="this ledger is closed"):
            await call()
        heard.append("closed")

    async with anyio.create_task_group() as group:
        group.start_soon(wait, lambda: ledger.begin(intent()))
        group.start_soon(wait, lambda: ledger.wait_for("T", timeout=60))
        await settle()
        await ledger.aclose()
    assert heard == ["closed", "closed"]


async def refused(ledger: Ledger, key: str = "refused") -> bool:
    """Return whether a message to the number is refused, and check that no row is left."""
    try:
        await ledger.begin(intent(key))
    except RecipientOptedOut:
        assert await ledger.delivery(key=key) is None
        return True
    await ledger.finish(key, NOT_SENT)
    return False


async def test_stop_refuses_and_start_allows(ledger: Ledger, clock: Clock) -> None:
    """STOP refuses messages to its number, and START allows them again."""
    clock.now += 60
    await ledger.record(said("STOP", after=1))
    assert await ledger.is_opted_out(TO)
    assert await refused(ledger)
    assert not await ledger.is_opted_out(OTHER)
    assert await ledger.begin(intent("ignored"), ignore_opt_out=True) is None
    await ledger.record(said("Start", after=2))
    assert not await refused(ledger)
    await ledger.record(said("stop", after=1), said("STOP", after=1))
    assert not await ledger.is_opted_out(TO)


@pytest.mark.parametrize("named", [TO[1:], f"0{TO[1:]}", f"00{TO}", f"+{TO}"])
async def test_stop_counts_without_the_country_code_too(
    ledger: Ledger, clock: Clock, named: str
) -> None:
    """A STOP counts for its number with or without country code, and for no other."""
    clock.now += 60
    await ledger.record(said("STOP", after=1, from_=named))
    assert await ledger.is_opted_out(TO)
    assert await refused(ledger)
    for other in (OTHER, f"49{TO}", TO[:-1], f"{TO[:5]}9{TO[6:]}"):
        assert not await ledger.is_opted_out(other)
        assert await ledger.begin(intent(other, to=other)) is None
    await ledger.record(said("Start", after=2, from_=named))
    assert not await ledger.is_opted_out(TO)
    assert not await refused(ledger)


async def test_a_number_s_own_later_word_counts_before_how_it_is_called(
    ledger: Ledger, clock: Clock
) -> None:
    """A full number may opt in after a STOP without country code, but not the reverse."""
    clock.now += 60
    await sent(ledger, "again", NOT_SENT)
    await ledger.record(said("STOP", after=10, from_=TO[1:]))
    with pytest.raises(RecipientOptedOut):
        await ledger.begin(intent("again"))
    await ledger.opt_in(TO)
    assert not await ledger.is_opted_out(TO)
    assert not await refused(ledger)
    assert await ledger.begin(intent("again")) is None
    clock.now += 60
    await ledger.record(said("STOP", after=100, from_=TO[1:]))
    assert await refused(ledger, "third")
    await ledger.opt_out(TO)
    await ledger.record(said("START", after=200, from_=TO[1:]))
    assert await ledger.is_opted_out(TO)
    assert await refused(ledger, "another")


async def test_an_outcome_is_returned_after_an_opt_out(ledger: Ledger) -> None:
    """A recorded outcome is returned after an opt-out; a new attempt is refused."""
    await sent(ledger, "k", accepted())
    await sent(ledger, "again", NOT_SENT)
    await ledger.opt_out(TO)
    assert await ledger.begin(intent("k")) == accepted()
    with pytest.raises(RecipientOptedOut):
        await ledger.begin(intent("again"))
    assert await state_of(ledger, "again") is S.NOT_SENT


@pytest.mark.slow
async def test_every_number_that_opted_out_or_in_is_listed(ledger: BaseLedger) -> None:
    """Each number is listed once with its last opt-out entry."""
    numbers = [str(15550000000 + n) for n in range(LONG_PAGE + 1)]
    entries = tuple(OptOut(number=each, out=True, at=NOON) for each in reversed(numbers))
    await ledger.run(TellOptOuts(entries=entries))
    await ledger.opt_in(numbers[1])
    told = {entry.number: entry.out async for entry in ledger.opt_outs()}
    assert told == dict.fromkeys(numbers, True) | {numbers[1]: False}


async def candidates(ledger: Ledger) -> list[tuple[str | None, str]]:
    return [(each.from_, each.text) async for each in ledger.opt_out_candidates()]


async def test_a_text_that_may_mean_stop_is_listed(ledger: Ledger) -> None:
    """A text that may mean STOP is listed until its number is decided."""
    for text in ("Hello", "CANCEL my appointment", "thanks"):
        await ledger.record(said(text))
    await ledger.record(said("STOP 12345", from_=OTHER), said("stop it", from_=""))
    assert not await ledger.is_opted_out(TO)
    assert await candidates(ledger) == [(TO, "CANCEL my appointment"), (OTHER, "STOP 12345")]
    await ledger.opt_in(TO)
    assert await candidates(ledger) == [(OTHER, "STOP 12345")]
    await ledger.opt_out(OTHER)
    assert await candidates(ledger) == []


@pytest.mark.parametrize("word", ["STOP", "START"])
async def test_a_later_word_decides_what_was_unclear(
    ledger: Ledger, clock: Clock, word: str
) -> None:
    """A later STOP or START of the number ends an unclear text; an earlier one does not."""
    clock.now += 100
    await ledger.record(said("START", after=5), said("stop it", after=10), said(word, from_=OTHER))
    assert await candidates(ledger) == [(TO, "stop it")]
    await ledger.record(said(word, after=20))
    assert await candidates(ledger) == []


async def test_an_unclear_text_after_an_opt_out_is_not_listed(
    ledger: Ledger, clock: Clock
) -> None:
    """An unclear text of a number that is opted out is not listed."""
    clock.now += 100
    await ledger.record(said("STOP", after=1), said("stop it now", after=5))
    assert await candidates(ledger) == []
    await ledger.record(said("START", after=10), said("please stop?", after=20))
    assert await candidates(ledger) == [(TO, "please stop?")]


async def test_inbound_texts_are_listed_in_order_of_receipt(ledger: Ledger) -> None:
    """`inbound` gives each text once, in the order of receipt."""
    await ledger.record(notice(), said("second", after=20), said("STOP", after=10, from_=OTHER))
    await ledger.record(*_subscription("N302"))
    await ledger.record(said("second", after=20), notice(DELIVERED))
    await ledger.record(*(said(f"Hello {n}", after=n) for n in range(100, 700)))
    found = [(each.from_, each.text) async for each in ledger.inbound()]
    assert found[:2] == [(TO, "second"), (OTHER, "STOP")]
    assert found[2:] == [(TO, f"Hello {n}") for n in range(100, 700)]
    assert [each async for each in ledger.unreadable()] == []


async def test_unreadable_parts_of_postbacks_are_listed(ledger: Ledger) -> None:
    """Unreadable parts of postbacks are listed once, with their reason."""
    stop = (
        f"<NOTIFICATION><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><BODY><FROM>{OTHER}</FROM>"
        "<TEXT>STOP</TEXT></BODY></NOTIFICATION>"
    )
    broken = "<NOTIFICATION><TEXT>a <b> \0 c</TEXT></NOTIFICATION>"
    for _ in range(2):
        await ledger.record(*parse_postback(f"<POSTBACK>{broken}{stop}"), said("Hello"), notice())
    first, last = [each async for each in ledger.unreadable()]
    assert (first.raw["#text"], first.is_cut_off) == (broken, False)
    assert str(first.unreadable).startswith("not well-formed XML: ")
    assert last.is_cut_off
    assert [each.text async for each in ledger.inbound()] == ["STOP", "Hello"]
    assert await ledger.is_opted_out(OTHER)


async def test_messages_are_exported_with_all_their_times(ledger: Ledger) -> None:
    """`export` gives each message as a flat row with all its times."""
    tagged = attrs.evolve(intent(), campaign_ref="77676", segments=2, tags=("spring", "late"))
    await ledger.begin(tagged)
    await ledger.finish("k", accepted())
    await ledger.record(
        notice(SENT, after=2), notice(DELIVERED, after=60), notice(DELIVERED, after=50)
    )
    await ledger.begin(intent("doubt", to=OTHER, from_=None))
    await ledger.finish("doubt", DOUBT)
    await ledger.begin(intent("begun", to=OTHER))
    first, second, third = [each async for each in ledger.export()]
    at = [NOON, NOON, NOON + 2, NOON + 50]
    times = [first.began, first.answered, first.sent_at, first.ended_at]
    assert times == [datetime.fromtimestamp(each, UTC) for each in at]
    assert (first.key, first.to, first.from_, first.state) == ("k", TO, "60856", S.DELIVERED)
    assert (first.tracking_id, first.segments, first.campaign_ref) == ("T", 2, "77676")
    assert first.tags == ("spring", "late")
    assert (second.state, second.code, second.info) == (S.IN_DOUBT, "E503", "read timeout")
    assert (second.http_status, second.tags, second.sent_at, second.ended_at) == (
        200,
        (),
        None,
        None,
    )
    assert (third.state, third.answered) == (S.SENDING, None)
    delivered = [each.key async for each in ledger.export(S.DELIVERED)]
    assert delivered == ["k"]
    found = await ledger.delivery(key="k")
    assert found is not None
    assert (found.tags, found.segments, found.campaign_ref) == (first.tags, 2, "77676")


async def test_a_message_begun_again_has_its_new_tags(ledger: Ledger) -> None:
    """A message begun again has its new tags, which are no part of its content."""
    await ledger.begin(attrs.evolve(intent(), tags=("first",)))
    await ledger.finish("k", NOT_SENT)
    await ledger.begin(attrs.evolve(intent(), tags=("second",), segments=1))
    assert [(each.tags, each.segments) async for each in ledger.export()] == [(("second",), 1)]


@pytest.mark.slow
async def test_more_than_a_page_is_exported(ledger: Ledger) -> None:
    """`export` gives more than a page of messages, once each and in order."""
    async with anyio.create_task_group() as group:
        for number in range(2105):
            group.start_soon(ledger.begin, intent(f"k{number}"))
    keys = [each.key async for each in ledger.deliveries()]
    assert set(keys) == {f"k{number}" for number in range(2105)}
    for key in (keys[3], keys[-1]):
        await ledger.finish(key, REJECTED)
    assert [each.key async for each in ledger.export()] == keys
    assert [each.key async for each in ledger.export(S.SENDING)] == keys[:3] + keys[4:-1]
    assert [each.key async for each in ledger.export(S.REJECTED)] == [keys[3], keys[-1]]
    assert [each.key async for each in ledger.export(S.FAILED)] == []


@pytest.mark.slow
async def test_more_than_a_page_of_texts_is_looked_through(ledger: Ledger) -> None:
    """Unclear texts are found among many others."""
    await ledger.record(*(said(f"Hello {n}", after=n) for n in range(700)))
    await ledger.record(said("stop it"))
    assert await candidates(ledger) == [(TO, "stop it")]


async def test_a_number_is_marked_by_hand_however_it_is_written(ledger: Ledger) -> None:
    """`opt_out` and `opt_in` accept a formatted number, and refuse what is none."""
    await ledger.opt_out("+1 (555) 123-4888")
    assert await ledger.is_opted_out("1-555-123-4888")
    assert await refused(ledger)
    await ledger.opt_in("+" + TO)
    assert not await refused(ledger)
    for ask in (ledger.opt_out, ledger.opt_in, ledger.is_opted_out):
        with pytest.raises(InvalidMessage, match="phone number"):
            await ask("Jerry")


async def test_no_word_comes_from_the_future(ledger: Ledger, clock: Clock) -> None:
    """A STOP or START stamped in the future does not outlast later entries."""
    await ledger.record(said("STOP", after=86_400))
    assert await ledger.is_opted_out(TO)
    await ledger.opt_in(TO)
    assert not await ledger.is_opted_out(TO)
    await ledger.record(said("START", after=86_400))
    clock.now += 60
    await ledger.record(said("STOP", after=60))
    assert await ledger.is_opted_out(TO)


@pytest.mark.parametrize("ahead", [600, 86_400, 86_400 * 365])
@pytest.mark.parametrize("later", [0, 86_400 * 7])
async def test_a_stop_after_an_opt_in_by_a_clock_ahead_is_a_stop(
    ledger: Ledger, clock: Clock, ahead: float, later: float
) -> None:
    """A STOP counts after an opt-in that was recorded by a clock ahead."""
    for text, minutes in (("STOP", 1), ("STOP ALL", 3)):
        clock.now = NOON + ahead
        await ledger.opt_in(TO)
        assert not await ledger.is_opted_out(TO)
        clock.now = NOON + 60 * minutes + later
        await ledger.record(said(text, after=60 * minutes))
        assert await ledger.is_opted_out(TO)


@pytest.mark.parametrize("stamp", [-86_400, -1, 0, 600, 86_400])
async def test_the_callers_word_is_the_last_one_when_it_comes(
    ledger: Ledger, clock: Clock, stamp: float
) -> None:
    """`opt_in` and `opt_out` count at once, whatever was stamped before."""
    await ledger.record(said("STOP", after=stamp))
    await ledger.opt_in(TO)
    assert not await ledger.is_opted_out(TO)
    clock.now += 1
    await ledger.record(said("START", after=stamp + 1))
    await ledger.opt_out(TO)
    assert await ledger.is_opted_out(TO)


async def test_a_start_from_before_the_callers_opt_out_is_too_late(
    ledger: Ledger, clock: Clock
) -> None:
    """A START stamped before `opt_out` does not count; a later one does."""
    clock.now += 60
    await ledger.opt_out(TO)
    clock.now += 60
    await ledger.record(said("START", after=59))
    assert await ledger.is_opted_out(TO)
    await ledger.record(said("START", after=61))
    assert not await ledger.is_opted_out(TO)


@pytest.mark.parametrize("words", [["STOP", "START"], ["START", "STOP"]])
@pytest.mark.parametrize("ahead", [-7 * 3600, 3 * 3600])
async def test_stamps_that_are_hours_wrong_keep_their_order(
    ledger: Ledger, words: list[str], ahead: float
) -> None:
    """STOP and START whose stamps are hours wrong count in their order."""
    notices = [said(word, after=ahead + after) for after, word in enumerate(words)]
    await ledger.record(notices[1])
    await ledger.record(notices[0])
    assert await ledger.is_opted_out(TO) is (words[-1] == "STOP")


async def test_words_that_come_together_count_in_their_order(ledger: Ledger) -> None:
    """Concurrent entries count in call order, and those of a bundle by their stamps."""
    async with anyio.create_task_group() as tasks:
        for number in (TO, OTHER):
            tasks.start_soon(ledger.opt_out, number)
    await ledger.record(
        said("STOP", after=-2), said("START", after=-1, from_=OTHER), said("STOP", from_=OTHER)
    )
    assert [await ledger.is_opted_out(each) for each in (TO, OTHER)] == [True, True]


async def test_the_block_list_marks_the_number(ledger: Ledger, clock: Clock) -> None:
    """E114 opts a number out, and a later START opts it in."""
    await sent(ledger, "k", BLOCKED)
    assert await refused(ledger)
    clock.now += 60
    await ledger.record(said("UNSTOP", after=-1))
    assert await ledger.is_opted_out(TO)
    await ledger.record(said("UNSTOP", after=1))
    assert not await refused(ledger)


@pytest.mark.parametrize("words", [["STOP", "START"], ["START", "STOP"]])
async def test_the_last_word_in_time_counts_in_whichever_order_they_come(
    ledger: Ledger, clock: Clock, words: list[str]
) -> None:
    """Of STOP and START the later by time counts, in whichever order they come."""
    clock.now += 60
    said_last = words[-1] == "STOP"
    notices = [said(word, after=after) for after, word in enumerate(words)]
    await ledger.record(notices[1])
    await ledger.record(notices[0])
    assert await ledger.is_opted_out(TO) is said_last


async def test_a_campaign_unsubscribed_from_marks_the_number(ledger: Ledger) -> None:
    """N302 opts a number out, and N301 in."""
    for code, out in (("N302", True), ("N301", False)):
        await ledger.record(*_subscription(code))
        assert await ledger.is_opted_out(TO) is out


def _subscription(code: str) -> tuple[Notification, ...]:
    case = next(case for case in CASES if case.name == f"flat {code}")
    later = case.document.replace("05:41:08", "05:41:09" if code == "N301" else "05:41:08")
    return parse_postback(later)


# Anything in any order.

KEYS = {"a": TO, "b": TO, "c": OTHER}
TRACKING_IDS = {"T0": TO, "T1": TO, "T2": TO, "T3": OTHER, "T4": OTHER}
SAID = {"sent": (SENT, 1), "delivered": (DELIVERED, 3), "failed": (EXPIRED, 2), "odd": (ODD, 4)}


@attrs.define
class ExpectedMessage:
    """What the model expects of a message."""

    state: str
    tracking_id: str | None = None
    settled_by: str | None = None
    doubted: bool = False


class AnyOrder(RuleBasedStateMachine):
    """A ledger against a few dicts, in which every step is written out without an index.

    All times fit, so that a doubt is settled where the number has one candidate, and one
    submission is unplaced.
    """

    kind: Kind

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, ExpectedMessage] = {}
        self.said: dict[str, set[str]] = {}
        self._place = tempfile.TemporaryDirectory()
        self._running = start_blocking_portal("asyncio")
        self._portal = self._running.__enter__()
        self.open()

    def open(self) -> None:
        self.ledger = self.kind.make(Path(self._place.name), Clock())
        self._portal.call(self.ledger.__aenter__)

    def close(self) -> None:
        self._portal.call(self.ledger.aclose)

    def teardown(self) -> None:
        self.close()
        self._running.__exit__(None, None, None)
        self._place.cleanup()

    def _under_way(self) -> list[str]:
        return [key for key, told in self.known.items() if told.state == "sending"]

    @precondition(lambda self: len(self._under_way()) < len(KEYS))
    @rule(pick=st.integers(0, 5), resend=st.booleans())
    def begin(self, pick: int, resend: bool) -> None:
        keys = [key for key in KEYS if key not in self._under_way()]
        key = keys[pick % len(keys)]
        told = self.known.setdefault(key, ExpectedMessage("not_sent"))
        answer = self._portal.call(self._begin, key, resend)
        begins = told.state == "not_sent" or (told.state == "in_doubt" and resend)
        if begins:
            assert answer is None
            self.known[key] = ExpectedMessage("sending", doubted=told.state == "in_doubt")
        else:
            assert answer is not None
            assert (answer.state, answer.tracking_id) == (self._state(told), told.tracking_id)

    async def _begin(self, key: str, resend: bool) -> Submission | None:
        answer: Submission | None = await self.ledger.begin(
            intent(key, to=KEYS[key]), resend_in_doubt=resend
        )
        return answer

    @precondition(lambda self: self._under_way())
    @rule(
        which=st.integers(0, 5),
        state=st.sampled_from([S.ACCEPTED, S.IN_DOUBT, S.IN_DOUBT, S.NOT_SENT, S.REJECTED]),
        pick=st.integers(0, 2),
    )
    def finish(self, which: int, state: MessageState, pick: int) -> None:
        keys = self._under_way()
        key = keys[which % len(keys)]
        told = self.known[key]
        submission = Submission(state=state)
        if state is S.ACCEPTED:
            taken = {other.tracking_id for other in self.known.values()}
            free = [id_ for id_, to in TRACKING_IDS.items() if to == KEYS[key]]
            free = [id_ for id_ in free if id_ not in taken]
            if not free:
                return
            submission = accepted(free[pick % len(free)])
        self._portal.call(self.ledger.finish, key, submission)
        told.tracking_id = submission.tracking_id
        told.state = "in_doubt" if told.doubted and state is not S.ACCEPTED else state.value
        self._settle()

    @rule(
        about=st.lists(
            st.tuples(st.sampled_from([*TRACKING_IDS]), st.sampled_from([*SAID])),
            min_size=1,
            max_size=3,
        )
    )
    def record(self, about: list[tuple[str, str]]) -> None:
        self._portal.call(self.ledger.record, *(_about(id_, word) for id_, word in about))
        for id_, word in about:
            self.said.setdefault(id_, set()).add(word)
        self._settle()

    @precondition(lambda self: self.kind.is_durable)
    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()
        for told in self.known.values():
            if told.state == "sending":
                told.state = "in_doubt"
        self._settle()

    def _settle(self) -> None:
        taken = {told.tracking_id for told in self.known.values()}
        for number in (TO, OTHER):
            candidates = [
                told
                for key, told in self.known.items()
                if KEYS[key] == number and (told.doubted or told.state in {"sending", "in_doubt"})
            ]
            unmatched = [
                id_ for id_ in self.said if TRACKING_IDS[id_] == number and id_ not in taken
            ]
            if len(candidates) == len(unmatched) == 1 and candidates[0].state == "in_doubt":
                candidates[0].state, candidates[0].settled_by = "accepted", "postback"
                candidates[0].tracking_id = unmatched[0]

    def _state(self, told: ExpectedMessage) -> str:
        words = self.said.get(told.tracking_id or "", set())
        if told.state != "accepted":
            return told.state
        return next(
            (word for word in ("failed", "delivered", "sent") if word in words), "accepted"
        )

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        """Every message has the expected state and notifications."""
        found, unplaced = self._portal.call(self._all)
        assert found == {
            key: (
                self._state(told),
                told.tracking_id,
                told.settled_by,
                sorted(SAID[word][1] for word in self.said.get(told.tracking_id or "", ())),
            )
            for key, told in self.known.items()
            if told.state != "not_sent" or key in found
        }
        taken = {told.tracking_id for told in self.known.values()}
        assert unplaced == sorted(
            (id_, SAID[word][1])
            for id_, words in self.said.items()
            if id_ not in taken
            for word in words
        )

    async def _all(self) -> tuple[dict[str, Any], list[Any]]:
        found = {
            each.key: (each.state, each.tracking_id, each.settled_by, [*map(_when, each.events)])
            async for each in self.ledger.deliveries()
        }
        unplaced = [(each.tracking_id, _when(each)) async for each in self.ledger.unplaced()]
        return found, sorted(unplaced)


def _about(tracking_id: str, word: str) -> Notification:
    what, after = SAID[word]
    return notice(what, tracking_id, to=TRACKING_IDS[tracking_id], after=after)


def _when(notification: Notification) -> int:
    assert notification.timestamp is not None
    return int(notification.timestamp.timestamp() - NOON)


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("name", LEDGERS)
def test_anything_in_any_order_is_as_the_model_says(name: str) -> None:
    """After random steps the ledger equals the model."""
    machine = type("AnyOrderOf", (AnyOrder,), {"kind": LEDGERS[name]})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=12, stateful_step_count=25, deadline=None)
    )


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("name", LEDGERS)
def test_every_order_and_repetition_ends_in_the_same_delivery(name: str) -> None:
    """A delivery is the same for any order and repetition of response and notifications."""
    numbers = count()

    async def delivery_after(order: list[str], response: Submission, place: Path) -> Any:
        async with LEDGERS[name].make(place, Clock()) as ledger:
            await ledger.begin(intent())
            for each in order:
                if each == "response":
                    await ledger.finish("k", response)
                else:
                    await ledger.record(_about("T0", each))
            return await ledger.delivery(key="k")

    with tempfile.TemporaryDirectory() as folder:

        def after(order: list[str], response: Submission) -> Any:
            place = Path(folder) / str(next(numbers))
            place.mkdir()
            return anyio.run(delivery_after, order, response, place)

        @settings(max_examples=15)
        @given(
            st.lists(st.sampled_from([*SAID]), max_size=6),
            st.integers(0, 6),
            st.sampled_from([accepted("T0"), DOUBT]),
        )
        def same(words: list[str], position: int, response: Submission) -> None:
            order = [*words[:position], "response", *words[position:]]
            ordered = [word for word in SAID if word in words]
            assert after(order, response) == after(["response", *ordered], response)

        same()
