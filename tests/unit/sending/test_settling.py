"""Settling doubts by reports: nothing is called sent that was not, nor not sent that was.

Strategy: small worlds with a provider that knows what was billed. The provider lags, queues and
has another clock, others send the same texts, and the same text is sent twice from here.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycore_async import (
    ConfigurationError,
    LedgerError,
    LedgerInUse,
    MemoryLedger,
    SkycoreClient,
    SQLiteLedger,
)
from skycore_async.ledger.base import BaseLedger
from skycore_async.ledger.report_commands import ListBegunMessages, ListDoubts
from skycore_async.ledger.report_evidence import OpenReason, ReportPeriod, hull
from skycore_async.ledger.report_values import Settlement
from skycore_async.ledger.texts import digest_of
from skycore_async.messages import ReportSection
from skycore_async.sending import settling as settling_module
from skycore_async.sending.settling import ReportSettling
from tests.support.ledger_cases import (
    DOUBT,
    NOON,
    NOT_SENT,
    OTHER,
    TO,
    Clock,
    accepted,
    intent,
    notice,
    state_of,
)
from tests.support.report_worlds import History, Sending, listed, moment, send

pytestmark = pytest.mark.anyio

LATER = 4000.0  # seconds after noon by which a report is old enough
BEFORE = Sending(key="before", to="15550000001", text="-", at=-50)
AFTERWARDS = Sending(key="after", to="15550000002", text="-", at=150)


class World:
    """A ledger, the provider's history, and the time that they share."""

    def __init__(self, history: History | None = None, *, capacity: int = 1000) -> None:
        self.clock = Clock()
        self.ledger: BaseLedger = MemoryLedger(clock=self.clock, capacity=capacity)
        self.history = history or History()

    async def send(self, *sendings: Sending) -> list[Sending]:
        return await send(self.ledger, self.clock, self.history, sendings)

    async def settle(
        self,
        *,
        at: float = LATER,
        after: float = 3600,
        trust_absence: bool = False,
        is_dry_run: bool = False,
        is_complete: bool = True,
        without: Iterable[str] = (),
        numbers: Mapping[str, str] = {},
    ) -> Settlement:
        """Settle `at` seconds after noon, by reports about the periods that are asked for."""
        self.clock.now = NOON + at
        settling = ReportSettling(
            self.ledger,
            after=after,
            trust_absence=trust_absence,
            is_dry_run=is_dry_run,
            clock=self.clock,
        )
        async with settling:
            for since, until in settling.periods:
                report = self.history.report(since, until, made_at=self.clock.now)
                await settling.read(
                    listed(
                        attrs.evolve(each, to=numbers.get(each.history_id or "", each.to))
                        for each in report
                        if each.history_id not in set(without)
                    ),
                    since=since,
                    until=until,
                    made_at=self.clock.now,
                    is_complete=lambda: is_complete,
                )
            return await settling.end()


def doubt(key: str = "k", *, taken: bool = False, at: float = 0, **changes: Any) -> Sending:
    made = {"to": TO, "text": "Hello", **changes}
    return Sending(key=key, at=at, is_taken=taken, is_doubt=True, **made)


def open_(reason: OpenReason, *keys: str) -> dict[str, OpenReason]:
    return dict.fromkeys(keys or ("k",), reason)


async def outcome(world: World, **settings: Any) -> dict[str, str]:
    """Settle, and return by their keys what became of the doubts."""
    found = await world.settle(**settings)
    told = dict.fromkeys(found.sent, "sent") | dict.fromkeys(found.not_sent, "not sent")
    return {**told, **{each.key: each.reason for each in found.open}}


# What a doubt becomes.


async def test_what_the_report_lists_was_sent_and_what_it_lacks_was_not() -> None:
    """A doubt that the report lists becomes accepted, and one that the report lacks not sent."""
    world = World()
    await world.send(
        BEFORE, doubt("sent", taken=True, text="a\nb  c"), doubt("not", to=OTHER), AFTERWARDS
    )
    assert await outcome(world) == {"sent": "sent", "not": "not sent"}
    delivery = await world.ledger.delivery(key="sent")
    assert delivery is not None
    assert (delivery.state, delivery.settled_by) == ("accepted", "report")
    assert delivery.history_id == "2"
    assert await world.settle() == Settlement()
    await world.send(doubt("not", to=OTHER, taken=True, at=LATER))
    assert await state_of(world.ledger, "not") == "in_doubt"


async def test_a_dry_run_says_the_same_and_writes_nothing() -> None:
    """A dry run reports the same decisions, and changes nothing in the ledger."""
    world = World()
    await world.send(BEFORE, doubt(), AFTERWARDS)
    for _ in range(2):
        assert await outcome(world, is_dry_run=True) == {"k": "not sent"}
    assert await state_of(world.ledger, "k") == "in_doubt"


async def test_one_settles_at_a_time() -> None:
    """A second settlement of a ledger is refused until the first has ended."""
    world = World()
    async with ReportSettling(world.ledger):
        with pytest.raises(LedgerInUse):
            await world.settle()
    assert await world.settle() == Settlement()


@pytest.mark.parametrize("name", ["trust_absence", "is_dry_run"])
async def test_a_setting_that_is_no_bool_is_refused(name: str) -> None:
    """`trust_absence` and `is_dry_run` are refused unless they are True or False."""
    word: dict[str, Any] = {name: "no"}
    async with SkycoreClient(api_key="a key", ledger=MemoryLedger()) as client:
        with pytest.raises(ConfigurationError, match=f"{name}: True or False is needed, not str"):
            await client.settle(**word)


@pytest.mark.parametrize("after", [-1, math.nan, 1e12])
def test_an_after_out_of_range_is_refused(after: float) -> None:
    """An `after` that is negative, no number or more than a year is refused."""
    with pytest.raises(ConfigurationError, match=r"after: .* is not from 0 to 31,622,400 seconds"):
        ReportSettling(MemoryLedger(), after=after)


async def test_a_full_disk_for_temporary_files_is_a_ledger_error() -> None:
    """No room for a report's temporary files raises LedgerError that names TMPDIR."""
    world = World()
    await world.send(BEFORE, doubt(), AFTERWARDS)
    report = world.history.report(NOON - 1000, NOON + 9000, made_at=NOON + 9000)
    async with ReportSettling(world.ledger) as settling:
        settling._database._execute("PRAGMA max_page_count = 1")
        with pytest.raises(LedgerError, match=r"no room for temporary files .*TMPDIR"):
            await settling.read(listed([*report] * 1000))


async def test_nothing_is_asked_for_where_nothing_is_in_doubt() -> None:
    """A ledger without doubts asks for no report."""
    world = World()
    await world.send(BEFORE, AFTERWARDS)
    async with ReportSettling(world.ledger) as settling:
        assert settling.periods == ()
        assert await settling.end() == Settlement()


async def test_doubts_of_days_apart_are_asked_for_apart() -> None:
    """Doubts that are days apart have a report period each, from witness to end."""
    world = World()
    await world.send(BEFORE, doubt(at=0), AFTERWARDS, doubt("late", at=500_000))
    async with ReportSettling(world.ledger) as settling:
        spans = [(since - NOON, until - NOON) for since, until in settling.periods]
        assert spans == [(-350, 3901), (499_700, 503_901)]


async def test_a_witness_is_asked_for_until_it_ended() -> None:
    """The report's period includes the whole exchange of the witness after the doubt."""
    world = World(History(290))
    slow = Sending(key="slow", to="15550000003", text="-", at=5000, lasts=60)
    await world.send(BEFORE, doubt(), slow)
    assert await outcome(world, at=20_000) == {"k": "not sent"}


async def test_in_what_order_a_report_lists_changes_nothing() -> None:
    """The order of a report's rows changes no decision, even if two share a HISTORYID."""
    told: list[dict[str, str]] = []
    for is_backwards in (False, True):
        world = World()
        await world.send(
            BEFORE, doubt("a", taken=True), doubt("b", taken=True, at=700), AFTERWARDS
        )
        await world.send(Sending(key="x", to=OTHER, text="-", at=900))
        rows = world.history.rows
        rows[3] = attrs.evolve(rows[3], shown=attrs.evolve(rows[3].shown, history_id="2"))
        if is_backwards:
            rows.reverse()
        told.append(await outcome(world, at=20_000))
    assert told[0] == told[1]


async def test_a_test_message_to_ones_own_number_is_a_witness_each_time() -> None:
    """The same test text to one's own number is a witness in the morning and in the evening."""
    world = World()
    mine = Sending(key="morning", to="15550000009", text="test", at=150)
    evening = 30_000
    await world.send(
        BEFORE,
        doubt("a"),
        mine,
        Sending(key="x", to="15550000003", text="-", at=evening - 50),
        doubt("b", at=evening, to=OTHER),
        attrs.evolve(mine, key="evening", at=evening + 150),
    )
    assert await outcome(world, at=LATER) == {"a": "not sent", "b": OpenReason.TOO_SOON}
    assert await outcome(world, at=evening + LATER) == {"b": "not sent"}


@pytest.mark.parametrize("days", [1, 5])
async def test_witnesses_may_be_days_away(days: int) -> None:
    """Doubts are settled with witnesses days away, whose times are asked for separately.

    A day on each side of the doubt is asked for, since its clock may be wrong by that.
    """
    world = World()
    far = days * 86_500
    await world.send(
        attrs.evolve(BEFORE, at=-far),
        doubt("sent", taken=True),
        doubt("not", to=OTHER),
        attrs.evolve(AFTERWARDS, at=far),
    )
    async with ReportSettling(world.ledger) as settling:
        spans = [(since - NOON, until - NOON) for since, until in settling.periods]
        near, witnesses = (-86_400 - 300, 86_401 + 300), [(-far - 300, -far + 3900)]
        witnesses += [(far - 300, far + 3900)]
        assert spans == ([near, *witnesses] if days > 1 else [hull([near, *witnesses])])
    assert await outcome(world, at=far + LATER) == {"sent": "sent", "not": "not sent"}


@pytest.mark.parametrize("number", ["", "unknown"])
@pytest.mark.parametrize("trust_absence", [False, True])
async def test_a_row_without_a_number_may_be_anybodys(number: str, trust_absence: bool) -> None:
    """A row without a number keeps a doubt open, and a doubt that is listed is still sent."""
    world = World()
    listed_one = doubt("sent", taken=True, to=OTHER)
    await world.send(BEFORE, doubt(taken=True), listed_one, AFTERWARDS)
    found = await outcome(world, numbers={"2": number}, trust_absence=trust_absence)
    assert found == {"k": OpenReason.WITHOUT_NUMBER, "sent": "sent"}


# By a clock that is wrong.

AHEAD = Sending(key="ahead", to="15550000004", text="-", at=2)
FAR_AHEAD = attrs.evolve(AHEAD, at=5000)
SET_BACK: dict[str, tuple[list[Sending], float]] = {
    "and stays so": (
        [
            AHEAD,
            doubt(taken=True, at=6000, behind=5998),
            attrs.evolve(AFTERWARDS, at=9000, behind=5998),
        ],
        9000,
    ),
    "for a while": (
        [FAR_AHEAD, doubt(taken=True, at=9000, behind=8000), attrs.evolve(AFTERWARDS, at=9100)],
        20_000,
    ),
    "while nothing else is sent": (
        [doubt(taken=True, at=9000, behind=8000), attrs.evolve(AFTERWARDS, at=9100)],
        20_000,
    ),
    "after it": (
        [
            doubt(taken=True, at=2, behind=-9000),
            attrs.evolve(AFTERWARDS, at=4000),
            attrs.evolve(AHEAD, at=9200),
        ],
        20_000,
    ),
    "after days ahead": (
        [
            doubt(taken=True, at=40_000, behind=-130_000),
            attrs.evolve(AFTERWARDS, at=41_000),
            attrs.evolve(AHEAD, at=171_000),
        ],
        200_000,
    ),
}


@pytest.mark.parametrize("case", SET_BACK)
async def test_a_message_sent_under_a_wrong_clock_is_never_called_not_sent(
    case: str,
) -> None:
    """A message that was sent while the machine's clock was wrong is never called not sent."""
    sendings, at = SET_BACK[case]
    world = World()
    for each in (BEFORE, *sendings):
        await world.send(each)
    assert (await outcome(world, at=at)).get("k") != "not sent"


# What is listed late, by a clock that is behind; when it is settled, and when it can be ended.
LISTED_LATE: dict[str, tuple[list[Sending], float, float]] = {
    "as what was accepted before it shows": (
        [
            FAR_AHEAD,
            doubt(taken=True, at=9000, behind=8000, lags=3000),
            attrs.evolve(AFTERWARDS, at=9100),
        ],
        9200,
        9101 + 3600,
    ),
    "as the time at which the next one is listed shows": (
        [
            doubt(taken=True, at=6000, behind=3000, lags=3000),
            attrs.evolve(AFTERWARDS, at=6100, behind=3000),
        ],
        6700,
        3001 + 3600 + 3000,
    ),
}


@pytest.mark.parametrize("case", LISTED_LATE)
async def test_a_clock_that_is_behind_delays_the_report(case: str) -> None:
    """A report about a doubt whose clock was behind has to be made that much later."""
    sendings, at, ends_at = LISTED_LATE[case]
    world = World()
    for each in (BEFORE, *sendings):
        await world.send(each)
    (left,) = (await world.settle(at=at)).open
    assert left.reason == OpenReason.TOO_SOON
    assert left.not_before is not None
    assert abs(left.not_before.timestamp() - NOON - ends_at) < 2
    assert (await outcome(world, at=20_000))["k"] == OpenReason.LATE_ROW


# What is sent, and of which times reports are: of what is between the witnesses they lack some.
GAPS: dict[str, tuple[list[Sending], list[tuple[float, float]]]] = {
    "behind": (
        [doubt(taken=True, at=8000, behind=7900), attrs.evolve(AFTERWARDS, at=9100)],
        [(-400, 5000), (9000, 9500)],
    ),
    "days ahead": (
        [
            doubt(taken=True, at=30_000, behind=-140_000),
            attrs.evolve(AFTERWARDS, at=41_000),
            attrs.evolve(AHEAD, at=171_000),
        ],
        [(-400, 5000), (40_000, 42_000), (83_000, 180_000)],
    ),
}


@pytest.mark.parametrize("case", GAPS)
async def test_reports_are_about_all_of_the_time_between_the_witnesses(case: str) -> None:
    """A doubt stays open while reports leave out part of the time between its witnesses."""
    sendings, periods = GAPS[case]
    world = World()
    for each in (BEFORE, *sendings):
        await world.send(each)
    world.clock.now = made_at = NOON + 200_000
    async with ReportSettling(world.ledger, clock=world.clock) as settling:
        for since, until in ((NOON + since, NOON + until) for since, until in periods):
            report = world.history.report(since, until, made_at=made_at)
            await settling.read(listed(report), since=since, until=until, made_at=made_at)
        assert [each.reason for each in (await settling.end()).open] == [OpenReason.NOT_COVERED]
    found = (await outcome(world, at=200_000))["k"]
    assert found in (OpenReason.LATE_ROW, OpenReason.ANOTHER_TEXT)


# What is no proof.

HOLES: dict[str, tuple[list[Sending], dict[str, Any], OpenReason]] = {
    "nobody before": ([doubt(), AFTERWARDS], {}, OpenReason.NO_WITNESS_BEFORE),
    "nobody after": ([BEFORE, doubt()], {}, OpenReason.NO_WITNESS_AFTER),
    "the one before is not listed": (
        [BEFORE, doubt(), AFTERWARDS],
        {"without": "1"},
        OpenReason.WITNESS_MISSING,
    ),
    "one during it is not listed": (
        [
            BEFORE,
            doubt(lasts=60),
            Sending(key="x", to="15550000003", text="-", at=30),
            AFTERWARDS,
        ],
        {"without": "2"},
        OpenReason.WITNESS_MISSING,
    ),
    "the one after is not listed yet": (
        [BEFORE, doubt(), Sending(key="x", to=OTHER, text="-", at=150, lags=9000)],
        {},
        OpenReason.WITNESS_MISSING,
    ),
    "broken off": ([BEFORE, doubt(), AFTERWARDS], {"is_complete": False}, OpenReason.NOT_COVERED),
    "too soon": ([BEFORE, doubt(), AFTERWARDS], {"at": 3000}, OpenReason.TOO_SOON),
    "accepted at the same time": (
        [BEFORE, doubt(), Sending(key="x", to=TO, text="Hello", at=100), AFTERWARDS],
        {},
        OpenReason.ALIKE,
    ),
    "the one before waited for hours": (
        [attrs.evolve(BEFORE, waits=5000), doubt(), AFTERWARDS],
        {},
        OpenReason.WITNESS_MISSING,
    ),
    "its row may wait": (
        [BEFORE, doubt(taken=True, waits=2000), AFTERWARDS],
        {},
        OpenReason.LATE_ROW,
    ),
}


@pytest.mark.parametrize("case", HOLES)
async def test_absence_is_proof_only_where_presence_is_proven(case: str) -> None:
    """A doubt stays open where the report may lack messages that were accepted."""
    sendings, settings, reason = HOLES[case]
    world = World()
    await world.send(*sendings)
    assert await outcome(world, **settings) == {"k": reason}


@pytest.mark.parametrize("case", ["nobody before", "nobody after", "the one before is not listed"])
async def test_trust_absence_replaces_witnesses_but_not_a_complete_report(case: str) -> None:
    """With `trust_absence` no witness is needed, but a complete and late enough report is."""
    sendings, settings, _ = HOLES[case]
    world = World()
    await world.send(*sendings)
    assert await outcome(world, trust_absence=True, **settings) == {"k": "not sent"}
    again = World()
    await again.send(*sendings)
    assert await outcome(again, trust_absence=True, is_complete=False) == {
        "k": OpenReason.NOT_COVERED
    }


@pytest.mark.parametrize(
    ("sendings", "without", "is_proof"),
    [
        ([BEFORE, doubt(), AFTERWARDS], {"1", "2"}, False),
        ([BEFORE, doubt()], {"1"}, False),
        ([doubt(), AFTERWARDS], {"1"}, False),
        ([BEFORE, doubt()], set(), True),
        ([doubt(at=9000)], set(), True),
        # The one after may not be listed by then.
        ([doubt(), Sending(key="x", to=OTHER, text="-", at=15_000)], {"1"}, True),
    ],
)
async def test_trust_absence_does_not_cover_a_report_of_another_account(
    sendings: list[Sending], without: set[str], is_proof: bool
) -> None:
    """With `trust_absence`, a report that lacks all accepted neighbours still proves nothing."""
    world = World()
    await world.send(*sendings)
    found = await outcome(world, trust_absence=True, without=without, at=16_000)
    assert found == {"k": "not sent" if is_proof else OpenReason.WITNESS_MISSING}


@pytest.mark.parametrize(
    ("before", "since", "reason"),
    [(-500, -1000, OpenReason.WITNESS_MISSING), (-50, -10, OpenReason.NOT_COVERED)],
)
async def test_no_period_is_advised_for_a_report_of_another_account(
    before: float, since: float, reason: OpenReason
) -> None:
    """`would_prove` advises no period for a report that lists none of the ledger's messages."""
    world = World()
    await world.send(attrs.evolve(BEFORE, at=before), doubt())
    now = world.clock.now = NOON + LATER
    others = listed([attrs.evolve(world.history.rows[0].shown, to="15559999999")])
    async with ReportSettling(world.ledger, trust_absence=True, clock=world.clock) as settling:
        await settling.read(others, since=NOON + since, until=now, made_at=now)
        (left,) = (await settling.end()).open
        most = ReportPeriod(since=NOON - 9000, until=now, made_at=now)
        assert (left.reason, await settling.would_prove(most)) == (reason, None)


@pytest.mark.parametrize("has_history_id", [False, True])
async def test_a_message_resent_after_doubt_is_a_witness_only_by_its_history_id(
    has_history_id: bool,
) -> None:
    """A message that was resent after doubt is a witness only if its HISTORYID is known."""
    world = World()
    again = Sending(key="x", to=OTHER, text="Hello", at=30)
    await world.send(BEFORE, doubt("x", to=OTHER, at=-10), doubt(), again, AFTERWARDS)
    lacking = ["2"] if has_history_id else []
    if has_history_id:
        await world.ledger.record(notice(tracking_id="T2", to=OTHER, history_id="2"))
    expected = OpenReason.WITNESS_MISSING if has_history_id else "not sent"
    assert await outcome(world, without=lacking) == {"k": expected}


async def test_not_before_is_given_only_while_it_is_to_come() -> None:
    """An open doubt says when to try again only while that time is still to come."""
    world = World()
    await world.send(BEFORE, doubt())
    for at, not_before in ((1000, NOON + 3601), (LATER, None)):
        (told,) = (await world.settle(at=at)).open
        assert (told.not_before and told.not_before.timestamp()) == not_before


async def test_a_row_that_is_queued_counts_as_sent() -> None:
    """A doubt whose row is still queued at the provider is sent."""
    world = World()
    await world.send(BEFORE, doubt(taken=True, waits=None), AFTERWARDS)
    assert await outcome(world) == {"k": "sent"}


async def test_a_report_that_breaks_off_proves_what_it_lists() -> None:
    """An incomplete report proves that the messages which it lists were sent."""
    world = World()
    await world.send(BEFORE, doubt(taken=True), AFTERWARDS)
    assert await outcome(world, is_complete=False) == {"k": "sent"}


async def test_a_row_of_a_provider_campaign_is_no_doubts() -> None:
    """A row in the section of the account's own campaigns is not taken for a doubt's."""
    world = World()
    await world.send(BEFORE, doubt(), AFTERWARDS)
    world.history.add(TO, "Hello", at=1, section=ReportSection.BATCHES)
    assert await outcome(world) == {"k": "not sent"}


async def test_a_row_from_before_a_doubt_is_not_the_doubts() -> None:
    """A row of the same text that is well before a doubt is not taken for the doubt's."""
    world = World()
    await world.send(BEFORE, doubt(), AFTERWARDS)
    world.history.add(TO, "Hello", at=-400)
    assert await outcome(world) == {"k": "not sent"}


async def test_more_rows_than_attempts_are_no_proof() -> None:
    """A doubt stays open where the report has more rows of its text than attempts."""
    world = World()
    await world.send(BEFORE, doubt(taken=True), AFTERWARDS)
    world.history.add(TO, "Hello", at=1)
    assert await outcome(world) == {"k": OpenReason.SENT_BY_OTHERS}


@pytest.mark.parametrize("taken", range(4))
async def test_of_doubts_that_are_alike_as_many_were_sent_as_are_listed(taken: int) -> None:
    """Of doubts with the same text and time, as many are sent as rows are listed."""
    world = World()
    keys = ["a", "b", "c"]
    doubts = [doubt(key, taken=n < taken, at=n) for n, key in enumerate(keys)]
    await world.send(BEFORE, *doubts, AFTERWARDS)
    told = Counter((await outcome(world)).values())
    assert told == +Counter({"sent": taken, "not sent": 3 - taken})


async def test_the_same_on_another_day_is_told_apart() -> None:
    """The same text sent daily to one number is settled by the row of its own day."""
    world = World()
    day = 86_000
    await world.send(
        BEFORE,
        Sending(key="monday", to=TO, text="Hello", at=-20),
        AFTERWARDS,
        Sending(key="x", to=OTHER, text="-", at=day - 100),
        doubt("tuesday", at=day, taken=True),
        Sending(key="y", to=OTHER, text="-", at=day + 100),
        doubt("wednesday", at=2 * day),
        Sending(key="z", to=OTHER, text="-", at=2 * day + 100),
        Sending(key="thursday", to=TO, text="Hello", at=3 * day),
    )
    assert await outcome(world, at=4 * day) == {"tuesday": "sent", "wednesday": "not sent"}


async def test_an_attempt_before_the_last_counts_as_well() -> None:
    """A message with several attempts is sent if a row shows that any of them was."""
    for first, second in ((True, False), (False, True), (True, True), (False, False)):
        world = World()
        await world.send(
            BEFORE,
            doubt(taken=first),
            Sending(key="x", to=OTHER, text="-", at=100),
            doubt(taken=second, at=1000),
            Sending(key="y", to=OTHER, text="-", at=1100),
        )
        expected = "sent" if first or second else "not sent"
        assert await outcome(world, at=5000) == {"k": expected}


async def test_a_refusal_ends_no_doubt_of_before_and_a_report_does() -> None:
    """A doubt that was resent and rejected stays in doubt until a report settles it."""
    world = World()
    refused = Sending(key="k", to=TO, text="Hello", at=1000, is_taken=False)
    again = Sending(key="x", to=OTHER, text="Bye", at=1000)
    await world.send(
        BEFORE,
        doubt(),
        doubt("x", to=OTHER, text="Bye", taken=True),
        AFTERWARDS,
        refused,
        again,
        Sending(key="y", to=OTHER, text="-", at=1100),
    )
    assert await state_of(world.ledger, "k") == "in_doubt"
    assert await outcome(world, at=5000) == {"k": "not sent"}
    assert await state_of(world.ledger, "k") == "not_sent"


async def test_a_doubt_that_is_sent_again_meanwhile_is_left_alone() -> None:
    """A doubt that is resent while it is being settled is left as it is."""
    world = World()
    await world.send(BEFORE, doubt(), AFTERWARDS)
    world.clock.now = NOON + LATER
    async with ReportSettling(world.ledger, clock=world.clock) as settling:
        for since, until in settling.periods:
            report = world.history.report(since, until, made_at=world.clock.now)
            await settling.read(listed(report), since=since, until=until, made_at=NOON + LATER)
        await world.send(doubt(at=LATER))
        found = await settling.end()
    assert [each.reason for each in found.open] == [OpenReason.CHANGED]
    assert await state_of(world.ledger, "k") == "in_doubt"


@pytest.mark.parametrize(
    "what", ["accepted", "in doubt", "sent again", "by a clock ahead", "by one set back"]
)
async def test_a_message_sent_during_settling_keeps_its_own_row(what: str) -> None:
    """The row of a message that is sent during settling does not settle an older doubt."""
    world = World()
    await world.send(BEFORE, doubt(), AFTERWARDS)
    again = doubt("x", taken=True, at=210)
    if what in {"accepted", "by a clock ahead"}:
        again = attrs.evolve(again, is_doubt=False)
    if what == "by a clock ahead":
        await world.send(again)
    world.clock.now = NOON + 200
    async with ReportSettling(world.ledger, clock=world.clock) as settling:
        if what == "by one set back":  # by more than clocks may be apart
            given = attrs.evolve(intent("x"), text_digest=digest_of("Hello"))
            await world.ledger.begin(attrs.evolve(given, started_at=NOON - 1000))
            await world.ledger.finish("x", accepted("SMS_77"))
            world.history.add(TO, "Hello", at=210)
        else:
            await world.send(again)
        if what == "sent again":
            await world.send(doubt("x", taken=False, at=220))
        world.clock.now = NOON + 250
        for since, until in settling.periods:
            report = world.history.report(since, until, made_at=NOON + 250)
            await settling.read(listed(report), since=since, until=until, made_at=NOON + 250)
        found = await settling.end()
    assert (found.sent, found.not_sent) == ((), ())


async def test_a_doubt_that_arises_during_settling_may_own_a_row() -> None:
    """A message that comes into doubt during settling is counted as possible owner of a row."""
    world = World()
    await world.send(BEFORE, doubt(), AFTERWARDS)
    world.clock.now = NOON + 10
    given = attrs.evolve(intent("x"), started_at=NOON + 10, text_digest=digest_of("Hello"))
    assert await world.ledger.begin(given) is None
    world.history.add(TO, "Hello", at=11)
    run = world.ledger.run

    async def run_meanwhile(command: Any) -> Any:
        if isinstance(command, ListBegunMessages):
            await world.ledger.finish("x", DOUBT)
        return await run(command)

    world.ledger.run = run_meanwhile  # type: ignore[method-assign]
    assert await outcome(world) == {"k": OpenReason.ALIKE}


async def test_messages_that_a_memory_ledger_forgot_keep_doubts_open() -> None:
    """A doubt stays open if the memory ledger forgot messages that could own a row."""
    world = World(capacity=3)
    await world.send(
        BEFORE,
        doubt(),
        *(Sending(key=f"x{n}", to=OTHER, text=f"{n}", at=10 + n) for n in range(6)),
    )
    assert await outcome(world) == {"k": OpenReason.FORGOTTEN}


async def test_a_report_from_a_file_is_about_what_its_rows_span(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A report without a given period covers the time that its rows span, and none if empty."""
    monkeypatch.setattr(settling_module, "_BATCH", 2)  # rows, of which it has three
    world = World()
    await world.send(BEFORE, doubt(), AFTERWARDS, Sending(key="x", to=OTHER, text="-", at=LATER))
    report = world.history.report(NOON - 1000, NOON + 9000, made_at=NOON + 9000)
    async with ReportSettling(world.ledger, is_dry_run=True) as settling:
        await settling.read(listed([]))
        await settling.read(listed(report))
        found = await settling.end()
    assert [each.reason for each in found.open] == [OpenReason.NOT_COVERED]  # it begins too late
    async with ReportSettling(world.ledger) as settling:
        await settling.read(listed(report), since=NOON - 1000)
        assert await settling.end() == Settlement(not_sent=("k",))


# All at once.

AT = st.sampled_from((0.0, 5.0, 200.0, 290.0, 700.0, 1500.0, 3000.0, 30_000.0))
SENDINGS = st.builds(
    Sending,
    key=st.sampled_from("abcdef"),
    to=st.sampled_from((TO, TO[1:], OTHER)),
    text=st.sampled_from(("Hello", "Hello", "Hello again")),
    at=AT,
    lasts=st.sampled_from((1.0, 1.0, 40.0)),
    is_taken=st.booleans(),
    is_doubt=st.sampled_from((True, True, False)),
    waits=st.sampled_from((0.0, 0.0, 100.0, 900.0, None)),
    lags=st.sampled_from((0.0, 0.0, 600.0, 3500.0)),
)
WITNESSES = st.lists(
    st.tuples(st.sampled_from((-20.0, 2.0, 120.0, 260.0, 900.0, 3500.0, 31_000.0)), st.booleans()),
    max_size=6,
    unique_by=lambda each: each[0],
)
OTHERS = st.lists(
    st.tuples(AT, st.sampled_from(("Hello", "Hello again")), st.booleans()), max_size=2
)


def same_text(one: Sending, number: str, text: str) -> bool:
    return one.text == text and one.to[-10:] == number[-10:]


QUIET = [Sending(key=f"w{n}", to=f"1555000{n:04}", text="-", at=n * 300 - 400) for n in range(20)]


async def test_what_a_report_gave_to_one_of_two_alike_is_not_certain() -> None:
    """A row given to one of two doubts that are alike does not later prove the other not sent."""
    world = World()
    world.history.add(TO, "Hello", at=0.5, lags=1200)  # the first was taken, and is listed late
    await world.send(
        *QUIET, doubt("a", taken=False, at=0, lasts=30), doubt("b", taken=True, at=325)
    )
    assert await outcome(world, at=600) == {"a": "sent", "b": OpenReason.ALIKE}
    assert (await outcome(world, at=14_000))["b"] != "not sent"


async def test_a_row_that_waited_is_not_that_of_one_accepted_later() -> None:
    """A delayed row between a doubt and a later accepted message keeps the doubt open."""
    world = World()
    later = Sending(key="x", to=TO, text="Hello", at=4000)
    await world.send(BEFORE, doubt("k", taken=True, waits=3750), AFTERWARDS, later)
    assert (await outcome(world, at=20_000))["k"] == OpenReason.LATE_ROW


async def test_an_altered_text_that_waited_may_be_the_doubts() -> None:
    """A delayed row whose text was altered on the way keeps a doubt open."""
    world = World()
    await world.send(BEFORE, doubt("k", taken=False, text="Caf\u00e9 ok"), AFTERWARDS)
    world.history.add(TO, "Caf? ok", at=0.5, waits=700)
    assert (await outcome(world))["k"] == OpenReason.ANOTHER_TEXT


async def test_one_accepted_that_waited_for_hours_is_no_doubts() -> None:
    """A row that may be of an accepted message delayed for hours keeps a doubt open."""
    world = World()
    await world.send(
        Sending(key="b0", to="15550000009", text="-", at=-5460),
        Sending(key="z", to=TO, text="Hello", at=-5400, waits=5400),
        doubt("k", taken=False),
        AFTERWARDS,
    )
    assert (await outcome(world, at=20_000))["k"] == OpenReason.ALIKE


# What two periods tell together, and what ends tells of others.
TWICE: dict[str, tuple[list[Sending], dict[str, str]]] = {
    # The first is about both days, the second about that of "k" alone.
    "a row of another day": (
        [doubt(), AFTERWARDS, doubt("a", taken=True, at=30_000)],
        {"a": "sent", "k": OpenReason.LATE_ROW},
    ),
    "a row that waits": (
        [doubt("a", taken=True, at=-9000, waits=None), doubt(), AFTERWARDS],
        {"a": "sent", "k": OpenReason.ALIKE},
    ),
    # It is there for sure once it is known that the other row at its time is that of "a".
    "a witness with a row of its own": (
        [
            doubt("a", taken=True, waits=None, text="Bye", at=-300),
            Sending(key="w", to=TO, text="Bye", at=-20),
            doubt(),
            AFTERWARDS,
        ],
        {"a": "sent", "k": "not sent"},
    ),
}


@pytest.mark.parametrize("case", TWICE)
async def test_to_settle_once_more_ends_no_more(case: str) -> None:
    """Settling a second time with the same reports ends no further doubt."""
    sendings, expected = TWICE[case]
    world = World()
    await world.send(BEFORE, *sendings)
    first = await outcome(world, at=60_000)
    assert first == expected
    still_open = {key: reason for key, reason in first.items() if reason in set(OpenReason)}
    for _ in range(2):
        assert await outcome(world, at=60_000) == still_open


async def test_a_row_before_a_doubt_is_in_its_way_again() -> None:
    """A row before a doubt keeps it open even after another doubt of that time was ended."""
    world = World()
    await world.send(
        BEFORE,
        doubt("a", to=OTHER),
        AFTERWARDS,
        Sending(key="x", to="15550000003", text="-", at=29_900),
        doubt(at=30_000),
        Sending(key="y", to="15550000004", text="-", at=30_100),
    )
    world.history.add(TO, "Hello", at=10)
    assert await outcome(world, at=60_000) == {"a": "not sent", "k": OpenReason.ANOTHER_TEXT}
    for _ in range(2):
        assert await outcome(world, at=60_000) == {"k": OpenReason.ANOTHER_TEXT}


@pytest.mark.parametrize("has_own_row", [False, True])
async def test_a_row_that_is_late_for_another_may_be_of_a_later_doubt_by_a_clock_ahead(
    *, has_own_row: bool
) -> None:
    """A row between two doubts keeps the later one open: the clock may have been ahead."""
    world = World()
    await world.send(
        BEFORE,
        doubt("a", taken=has_own_row),
        AFTERWARDS,
        Sending(key="x", to="15550000003", text="-", at=29_900),
        doubt("b", at=30_000),
        Sending(key="y", to="15550000004", text="-", at=30_100),
    )
    world.history.add(TO, "Hello", at=1500)
    found = await outcome(world, at=60_000)
    first = "sent" if has_own_row else OpenReason.LATE_ROW
    assert found == {"a": first, "b": OpenReason.ANOTHER_TEXT}


@pytest.mark.parametrize("trust_absence", [False, True])
@pytest.mark.parametrize("is_nameless", [False, True])
async def test_a_file_about_less_than_the_one_before_is_no_proof(
    *, is_nameless: bool, trust_absence: bool
) -> None:
    """A later report of a shorter period, without the row that kept a doubt open, ends nothing."""
    world = World()
    await world.send(BEFORE, doubt(), AFTERWARDS)
    world.history.add("unknown" if is_nameless else TO, "Hello", at=6000)
    world.history.add(OTHER, "-", at=60_000)
    told: list[OpenReason] = []
    for until in (70_000, 5000, 70_000):
        world.clock.now = NOON + until
        async with ReportSettling(
            world.ledger, trust_absence=trust_absence, clock=world.clock
        ) as settling:
            report = world.history.report(NOON - 1000, NOON + until, made_at=NOON + until)
            await settling.read(
                listed(report), since=NOON - 1000, until=NOON + until, made_at=NOON + until
            )
            told += [each.reason for each in (await settling.end()).open]
    why = OpenReason.WITHOUT_NUMBER if is_nameless else OpenReason.LATE_ROW
    assert told == [why, OpenReason.NOT_COVERED, why]


async def test_a_row_that_waits_in_a_file_may_be_later_than_all_that_it_shows() -> None:
    """A queued row in a file may be of the message accepted last, and settles no doubt."""
    world = World()
    await world.send(BEFORE, doubt(), AFTERWARDS)
    await world.send(Sending(key="x", to=TO, text="Hello", at=900, waits=None))
    world.clock.now = NOON + LATER
    async with ReportSettling(world.ledger, clock=world.clock) as settling:
        report = world.history.report(NOON - 100, NOON + LATER, made_at=NOON + LATER)
        await settling.read(listed(report))
        found = await settling.end()
    assert (found.sent, found.not_sent) == ((), ())


@pytest.mark.parametrize("is_nameless", [False, True])
async def test_a_row_without_a_time_extends_no_period(*, is_nameless: bool) -> None:
    """A row without a time extends neither a report's span nor the next report's period."""
    world = World()
    await world.send(BEFORE, doubt("a"), doubt("b", at=1), AFTERWARDS)
    world.history.add(TO, "Hello", at=2, waits=None)
    if is_nameless:
        world.history.add("unknown", "Hello", at=2, waits=None)
    world.clock.now = NOON + LATER
    async with ReportSettling(world.ledger, clock=world.clock) as settling:
        await settling.read(listed(world.history.report(NOON, NOON + 9, made_at=NOON + LATER)))
        found = await settling.end()
    assert (found.sent, [each.key for each in found.open]) == (("a",), ["b"])
    async with ReportSettling(world.ledger, clock=world.clock) as settling:
        assert settling.periods == ((NOON - 350, NOON + 3902),)


@pytest.mark.slow
@given(
    sendings=st.lists(
        SENDINGS, min_size=1, max_size=5, unique_by=lambda each: (each.key, each.at)
    ),
    witnesses=WITNESSES,
    others=OTHERS,
    skew=st.sampled_from((-250.0, 0.0, 250.0)),
    span=st.sampled_from(
        ((-1e9, 1e9), (-1e9, 1e9), (-1e9, 4.0), (-1e9, 900.0), (1.0, 1e9), (280.0, 1e9))
    ),
    at=st.sampled_from((1000.0, 8000.0, 60_000.0, 60_000.0)),
    is_complete=st.sampled_from((True, True, False)),
)
def test_random_histories_are_never_misread(
    *,
    sendings: list[Sending],
    witnesses: list[tuple[float, bool]],
    others: list[tuple[float, str, bool]],
    skew: float,
    span: tuple[float, float],
    at: float,
    is_complete: bool,
) -> None:
    """In random histories no more messages are called sent, or not sent, than truly were.

    Settling a second time ends no further doubt.
    """

    async def run() -> tuple[list[Sending], Settlement, Settlement]:
        world = World(History(skew, since=span[0], until=span[1]))
        quiet = [
            Sending(key=f"w{n}", to=f"1555000{n:04}", text="-", at=when, lags=3000.0 * is_late)
            for n, (when, is_late) in enumerate(witnesses)
        ]
        # Who sends the same at the same time is beyond what a report can tell.
        for when, text, _ in others:
            near = [each for each in sendings if same_text(each, TO, text)]
            if not any(each.at - 700 <= when <= each.ends + 700 for each in near):
                world.history.add(TO, text, at=when)
        begun = await world.send(*sendings, *quiet)
        first = await world.settle(at=at, is_complete=is_complete)
        return begun, first, await world.settle(at=at, is_complete=is_complete)

    begun, found, again = anyio.run(run)
    assert (again.sent, again.not_sent) == ((), ())
    attempts: dict[str, list[Sending]] = {}
    for each in begun:
        if each.is_doubt:
            attempts.setdefault(each.key, []).append(each)
    for text in ("Hello", "Hello again"):
        for number in (TO, OTHER):
            alike = [
                each
                for of_key in attempts.values()
                for each in of_key
                if same_text(each, number, text)
            ]
            taken = sum(each.is_taken for each in alike)
            sent = [key for key in found.sent if same_text(attempts[key][0], number, text)]
            unsent = [key for key in found.not_sent if same_text(attempts[key][0], number, text)]
            assert len(sent) <= taken
            assert sum(len(attempts[key]) for key in unsent) <= len(alike) - taken


async def test_a_row_of_a_resent_messages_first_attempt_is_no_others() -> None:
    """A row given to a resent message's first attempt is given to no other doubt later."""
    world = World()
    await world.send(
        BEFORE,
        doubt("a", taken=True, at=0),
        doubt("b", taken=False, at=5),
        doubt("a", taken=False, at=700),
    )
    assert await outcome(world, at=20_000) == {"a": "sent", "b": OpenReason.ALIKE}
    await world.send(Sending(key="after", to="15550000002", text="-", at=20_001))
    assert (await outcome(world, at=40_000))["b"] != "sent"


async def test_a_rejected_last_attempt_owns_no_row() -> None:
    """A rejected last attempt owns no row; a second row at its time is somebody else's."""
    world = World()
    await world.send(
        BEFORE,
        doubt("a", taken=True, at=0),
        Sending(key="a", to=TO, text="Hello", at=5000, is_taken=False),
        doubt("b", taken=True, at=5005),
    )
    assert await outcome(world, at=8000, is_complete=False, without=["3"]) == {
        "a": "sent",
        "b": OpenReason.NOT_COVERED,
    }
    assert await outcome(world, at=40_000, is_dry_run=True) == {"b": "sent"}
    world.history.add(TO, "Hello", at=5006)
    assert await outcome(world, at=40_000) == {"b": OpenReason.SENT_BY_OTHERS}


async def test_what_fits_a_row_has_it_before_what_would_have_waited_for_days() -> None:
    """A row goes to the doubt whose time fits, before one that would have waited for days."""
    world = World()
    day = 86_400.0
    await world.send(
        BEFORE,
        Sending(key="c", to=TO, text="Hello", at=0, waits=None),
        doubt("b", taken=False, at=300),
        doubt("a", taken=True, at=day),
    )
    assert await outcome(world, at=1.5 * day) == {"b": OpenReason.ALIKE, "a": "sent"}


async def test_a_killed_process_attempt_ends_at_the_kill_also_after_a_report(
    tmp_path: Path,
) -> None:
    """A killed process's attempt does not own rows from long after, even once settled."""
    clock, history = Clock(), History()
    async with SQLiteLedger(tmp_path / "a.db", clock=clock) as killed:
        await send(killed, clock, history, [BEFORE])
        for key in ("a", "b"):
            clock.now = NOON + (at := {"a": 0, "b": 20}[key])
            began = attrs.evolve(intent(key), started_at=NOON + at, text_digest=digest_of("Hello"))
            assert await killed.begin(began) is None
        history.add(TO, "Hello", at=0.5)
        for name in ("b.db", "b.db-wal"):
            shutil.copy(tmp_path / name.replace("b", "a", 1), tmp_path / name)
    async with SQLiteLedger(tmp_path / "b.db", clock=clock) as ledger:
        world = World(history)
        world.clock, world.ledger = clock, ledger
        clock.now = NOON + 25
        assert (await outcome(world, at=8000))["a"] == "sent"
        await world.send(Sending(key="after", to="15550000002", text="-", at=8001))
        history.add(TO, "Hello", at=2500)
        assert (await outcome(world, at=20_000))["b"] != "sent"


async def test_a_doubt_of_a_process_killed_weeks_ago_asks_for_two_days(tmp_path: Path) -> None:
    """A doubt of a process that was killed weeks ago asks for a report of two days only.

    The doubt is ended at once by that report.
    """
    clock, history = Clock(), History()
    async with SQLiteLedger(tmp_path / "a.db", clock=clock) as killed:
        await send(killed, clock, history, [BEFORE])
        clock.now = NOON
        began = attrs.evolve(intent(), text_digest=digest_of("Hello"))
        assert await killed.begin(began) is None
        for name in ("b.db", "b.db-wal"):
            shutil.copy(tmp_path / name.replace("b", "a", 1), tmp_path / name)
    clock.now = NOON + 1e6
    async with SQLiteLedger(tmp_path / "b.db", clock=clock) as ledger:
        world = World(history)
        world.clock, world.ledger = clock, ledger
        await world.send(attrs.evolve(AFTERWARDS, at=1e6))
        async with ReportSettling(ledger, clock=clock) as settling:
            assert settling.periods[0] == (NOON - 350, NOON + 2 * 86_400 + 300)
        assert await outcome(world, at=1e6 + 10) == {"k": "not sent"}


@pytest.mark.parametrize("is_refused", [True, False])
async def test_an_open_doubt_says_why_the_rest_of_the_report_is_missing(
    *, is_refused: bool
) -> None:
    """A doubt left open by half a report says whether the rest was refused or failed."""
    world = World()
    await world.send(BEFORE, doubt(), AFTERWARDS)
    world.clock.now = NOON + LATER
    async with ReportSettling(world.ledger, clock=world.clock) as settling:
        settling.covered(NOON - 1000, NOON + 900, made_at=NOON + LATER)
        if is_refused:
            settling.cut_short(NOON + LATER + 300)
        else:
            settling.failed("the report is not complete")
        (found,) = (await settling.end()).open
    assert found.reason is (OpenReason.ASKED_TOO_OFTEN if is_refused else OpenReason.NO_REPORT)
    assert found.not_before == (moment(LATER + 300) if is_refused else None)


async def test_a_history_id_of_another_time_is_not_certain() -> None:
    """A doubt stays open if a row of its time has the HISTORYID of another message."""
    world = World()
    await world.send(BEFORE, Sending(key="x", to=TO, text="Hello", at=0), AFTERWARDS)
    await world.ledger.record(notice(tracking_id="T2", history_id="2"))
    await world.send(
        Sending(key="w", to="15550000004", text="-", at=5000),
        doubt("k", taken=True, at=5200),
        Sending(key="later", to="15550000003", text="-", at=5300),
    )
    row = world.history.rows[4]
    shown = attrs.evolve(row.shown, history_id="2")
    world.history.rows[4] = attrs.evolve(row, shown=shown)
    assert await outcome(world, at=20_000) == {"k": OpenReason.ALIKE}


@pytest.mark.parametrize("is_refused", [False, True])
async def test_a_row_that_may_be_of_a_pruned_message_keeps_a_doubt_open(
    is_refused: bool,
) -> None:
    """A doubt stays open where a row may belong to a message that was pruned."""
    world = World()
    await world.send(
        BEFORE,
        Sending(key="accepted", to=TO, text="Hello", at=1),
        doubt(at=2),
        AFTERWARDS,
    )
    half_a_year = 180 * 86_400.0
    again = half_a_year + 100
    world.clock.now = NOON + again
    given = attrs.evolve(
        intent("k"), started_at=NOON + again, text_digest=digest_of("Hello"), message=None
    )
    record = (await world.ledger.run(ListDoubts(after=0))).rows[0].record
    given = attrs.evolve(given, content=record.content)
    assert await world.ledger.begin(given, resend_in_doubt=True) is None
    await world.ledger.finish("k", NOT_SENT if is_refused else DOUBT)
    await world.ledger.prune(older_than=timedelta(days=180))
    found = await outcome(world, at=again + LATER)
    assert found == {"k": OpenReason.FORGOTTEN}


async def test_an_attempt_of_an_unknown_time_counts_as_alike() -> None:
    """An attempt whose time an earlier version did not keep may own the last attempt's row."""
    world = World()
    await world.send(BEFORE, doubt(), doubt(at=100), AFTERWARDS)
    tables: Any = vars(world.ledger)["_connection"]
    tables.execute("UPDATE attempts SET started_at = 0, text_digest = NULL")
    assert await outcome(world, at=LATER + 100) == {"k": OpenReason.ALIKE}
