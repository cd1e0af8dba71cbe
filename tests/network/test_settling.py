"""Doubts settled by the simulator's reports over real sockets."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from skycore_async import (
    SMS,
    Accepted,
    Failed,
    LedgerError,
    LedgerInUse,
    MemoryLedger,
    MessageState,
    OpenReason,
    OutcomeUnknown,
    QuotaExhausted,
    Settlement,
    SkycoreClient,
    SQLiteLedger,
    parse_postback,
)
from skycore_async.errors import ConfigurationError
from skycore_async.ledger.base import BaseLedger
from skycore_async.ledger.model import Submission
from skycore_async.ledger.report_commands import ListReportRequests
from skycore_async.ledger.report_evidence import next_report_request
from skycore_async.sending.report_requests import settle
from skycore_async.simulator import (
    API_KEY,
    Account,
    Behaviour,
    ReportFault,
    ReportForm,
    Reports,
    Simulator,
)

pytestmark = pytest.mark.anyio

# What is taken and lost, and what is lost without being taken.
FAULTS = ["2001", "2002", "2005", "2006", "2008", "2009", "2010", "2011", "2012", "2013", "2016"]


@asynccontextmanager
async def opened(simulator: Simulator, ledger: BaseLedger) -> AsyncGenerator[SkycoreClient]:
    async with (
        ledger,
        SkycoreClient(
            api_key=API_KEY,
            from_="60856",
            base_url=simulator.url,
            ledger=ledger,
            timeout=5,
            max_in_flight=1,  # one after the other, so that each doubt has neighbours
        ) as client,
    ):
        yield client


def messages(*endings: str) -> list[SMS]:
    return [
        SMS(to=f"1555123{ending}", text=f"For & <{ending}>\n twice  spaced", key=ending)
        for ending in endings
    ]


async def send(client: SkycoreClient, *endings: str) -> Counter[str]:
    """Send messages, and count their outcomes."""
    ends: Counter[str] = Counter()
    async with client.send_many(messages(*endings)) as outcomes:
        async for outcome in outcomes:
            match outcome:
                case Accepted(recorded=recorded):
                    ends["known" if recorded else "accepted"] += 1
                case Failed(error=error):
                    ends[type(error).__name__] += 1
    return ends


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("well_formed", [True, False])
async def test_after_a_report_every_message_is_billed_once(
    kind: str, well_formed: bool, tmp_path: Path
) -> None:
    """After settling and a second run every message is billed once, and none is in doubt."""
    ledger = MemoryLedger() if kind == "memory" else SQLiteLedger(tmp_path / "promo.db")
    reports = Reports(form=ReportForm(well_formed=well_formed), mixed=True)
    everyone = ["4000", *FAULTS, "4001"]
    async with Simulator(reports=reports, clock_skew=120) as simulator:
        async with opened(simulator, ledger) as client:
            ends = await send(client, *everyone)
            assert ends == {"accepted": 2, "OutcomeUnknown": len(FAULTS)}
            taken = {each.to[-4:] for each in simulator.messages if each.taken}
            found = await client.settle(after=0)
            assert set(found.sent) == taken - {"4000", "4001"}
            assert set(found.not_sent) == set(everyone) - taken
            assert found.open == ()
            assert await client.settle(after=0) == Settlement()
            # What the last digits do befalls the second run as well; the third has no faults.
            simulator.script(*[Behaviour()] * len(found.not_sent))
            ends = await send(client, *everyone)
            assert ends == {"known": len(taken), "accepted": len(found.not_sent)}
            summary = await ledger.summary()
            assert summary.states.get(MessageState.IN_DOUBT, 0) == 0
        billed = Counter(each.to for each in simulator.messages if each.taken)
        assert billed == {message.to: 1 for message in messages(*everyone)}


async def test_a_doubt_is_ended_that_there_was_no_room_for_when_it_came() -> None:
    """A doubt that could not be recorded at first is settled later."""

    class Full(MemoryLedger):
        """Has no room for outcomes while it `is_full`."""

        is_full = True

        async def finish(self, key: str, submission: Submission) -> None:
            if self.is_full:
                raise LedgerError("no room")
            await super().finish(key, submission)

    ledger = Full()
    async with Simulator(time_scale=0) as simulator, opened(simulator, ledger) as client:
        with pytest.raises(OutcomeUnknown):
            await client.send_sms(to="15551232017", text="Hello", key="k")
        assert await client.settle() == Settlement()
        ledger.is_full = False
        assert (await client.settle()).sent == ("k",)


async def test_a_message_found_by_a_report_is_known_by_its_key(tmp_path: Path) -> None:
    """A message found by a report has a HISTORYID, and its tracking id from a postback."""
    async with (
        Simulator(time_scale=0) as simulator,
        opened(simulator, ledger := SQLiteLedger(tmp_path / "one.db")) as client,
    ):
        with pytest.raises(OutcomeUnknown):
            await client.send_sms(to="15551232002", text="Hello", key="k")
        assert (await client.settle()).sent == ("k",)
        sent = await client.send_sms(to="15551232002", text="Hello", key="k")
        (message,) = simulator.messages
        assert (sent.tracking_id, sent.recorded) == (None, True)
        delivery = await ledger.delivery(key="k")
        assert delivery is not None
        assert sent.raw == {"HISTORYID": delivery.history_id}
        assert sent.history_id == delivery.history_id
        body = (
            "<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N202</CODE><FROM>60856</FROM>"
            f"<TO>15551232002</TO><HISTORYID>{delivery.history_id}</HISTORYID>"
            f"<TRACKINGID>{message.tracking_id}</TRACKINGID>"
            "<STATUS>Message Sent/Delivered</STATUS></POSTBACK>"
        )
        await ledger.record(*parse_postback(body))
        delivery = await ledger.delivery(key="k")
        assert delivery is not None
        assert delivery.state is MessageState.DELIVERED
        assert (delivery.tracking_id, delivery.settled_by) == (message.tracking_id, "report")
        assert [each async for each in ledger.unplaced()] == []


@pytest.mark.slow
async def test_a_receipt_may_come_while_doubts_are_settled() -> None:
    """A receipt during settling settles the doubt, and the report's decision is dropped."""
    ledger = MemoryLedger()
    async with Simulator(time_scale=0) as simulator, opened(simulator, ledger) as client:
        await send(client, "4000", "2002", "4001")
        (taken,) = [each for each in simulator.messages if each.to.endswith("2002")]
        body = (
            "<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE><FROM>60856</FROM>"
            f"<TO>{taken.to}</TO><TRACKINGID>{taken.tracking_id}</TRACKINGID></POSTBACK>"
        )
        opening = client.sending_report

        def report(since: datetime, until: datetime, **_settings: object) -> Any:
            made = opening(since, until)
            leave = made.__aexit__

            class Slow(type(made)):  # type: ignore[misc]
                async def __aexit__(self, *error: Any) -> None:
                    await leave(*error)
                    await ledger.record(*parse_postback(body))

            made.__class__ = Slow
            return made

        found = await settle(ledger, report, after=0)
        assert [each.reason for each in found.open] == [OpenReason.CHANGED]
        delivery = await ledger.delivery(key="2002")
        assert delivery is not None
        assert (delivery.state, delivery.settled_by) == (MessageState.SENT, "postback")


@pytest.mark.slow
@pytest.mark.parametrize("fault", [ReportFault.TRUNCATED, ReportFault.HTML, ReportFault.MISSING])
async def test_a_report_that_is_not_whole_leaves_what_it_lacks_in_doubt(
    fault: ReportFault,
) -> None:
    """A broken report leaves doubts open, and a whole one settles them."""
    async with (
        Simulator(reports=Reports(fault=fault)) as simulator,
        opened(simulator, MemoryLedger()) as client,
    ):
        await send(client, "4000", "2001", "4001")
        found = await client.settle(after=0)
        assert [each.reason for each in found.open] == [OpenReason.NO_REPORT]
        assert len(found.problems) == 1
        simulator.reports = Reports()
        assert (await client.settle(after=0)).not_sent == ("2001",)


async def test_a_report_that_lags_leaves_what_it_lacks_in_doubt() -> None:
    """A report that lags leaves doubts open for lack of witnesses."""
    async with (
        Simulator(reports=Reports(lag=60)) as simulator,
        opened(simulator, MemoryLedger()) as client,
    ):
        await send(client, "4000", "2002", "4001")
        found = await client.settle(after=0)
        assert [each.reason for each in found.open] == [OpenReason.WITNESS_MISSING]


async def test_messages_sent_elsewhere_are_distinguished_or_left_open() -> None:
    """Equal texts that another program sent keep doubts open."""
    async with Simulator() as simulator, opened(simulator, MemoryLedger()) as client:
        await send(client, "4000", "2002", "2001", "4001")
        (text, other) = (message.text for message in messages("2002", "2001"))
        simulator.sent_elsewhere(to="15551232002", text=text)
        simulator.sent_elsewhere(to="15551232001", text="another text")
        found = await client.settle(after=0)
        assert other != "another text"
        assert {each.key: each.reason for each in found.open} == {
            "2002": OpenReason.SENT_BY_OTHERS,
            "2001": OpenReason.ANOTHER_TEXT,
        }
        assert (await client.settle(after=0, trust_absence=True)).not_sent == ("2001",)


class SleepingClock:
    """A clock that moves when somebody sleeps."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self._clock() + sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await anyio.lowlevel.checkpoint()


@pytest.mark.slow
async def test_the_wait_after_too_many_requests_holds_in_the_next_process(tmp_path: Path) -> None:
    """A too frequent look-up is remembered by the ledger, and waited for within limits."""
    path = tmp_path / "promo.db"
    account = Account(report_interval=300)
    async with Simulator(account=account) as simulator:
        async with opened(simulator, SQLiteLedger(path)) as client:
            await send(client, "4000", "2001", "4001")
            assert (await client.settle(after=0, is_dry_run=True)).not_sent == ("2001",)
            found = await client.settle(after=0, wait=0)
            assert [each.reason for each in found.open] == [OpenReason.ASKED_TOO_OFTEN]
            asked = simulator.lookups
        async with opened(simulator, ledger := SQLiteLedger(path)) as client:
            assert (await client.settle(after=0, wait=30)).open == found.open
            assert simulator.lookups == asked
            looked_up = await ledger.run(ListReportRequests())
            assert [each.refused for each in looked_up] == [True, False]
            sleeps = SleepingClock(lambda: datetime.now(UTC).timestamp())
            waiting = await settle(
                ledger,
                client.sending_report,
                after=0,
                wait=500,
                clock=sleeps,
                sleep=sleeps.sleep,
            )
            # The simulator's clock does not go on: it is asked again for as long as may be.
            assert [each.reason for each in waiting.open] == [OpenReason.ASKED_TOO_OFTEN]
            assert len(sleeps.slept) == 1
            assert 200 < sleeps.slept[0] <= 300


async def test_a_refusal_is_waited_for_beside_a_look_up_by_a_clock_that_is_ahead() -> None:
    """A refusal is waited for although another machine's look-up has a later time."""
    account = Account(report_interval=300)
    async with (
        Simulator(account=account) as simulator,
        opened(simulator, ledger := MemoryLedger()) as client,
    ):
        await send(client, "4000", "2001", "4001")
        assert (await client.settle(after=0, is_dry_run=True)).not_sent == ("2001",)
        behind = SleepingClock(lambda: datetime.now(UTC).timestamp() - 100)
        with anyio.fail_after(10):  # else until its clock has caught up
            found = await settle(
                ledger, client.sending_report, wait=30, clock=behind, sleep=behind.sleep
            )
        assert [each.reason for each in found.open] == [OpenReason.ASKED_TOO_OFTEN]
        looked_up = await ledger.run(ListReportRequests())
        assert Counter(each.refused for each in looked_up) == {False: 1, True: 1}


@pytest.mark.slow
async def test_rows_read_before_a_request_too_many_count() -> None:
    """The complete first part of a report counts though the next look-up was refused."""
    account = Account(report_period=7200, report_interval=300)
    async with (
        Simulator(account=account) as simulator,
        opened(simulator, ledger := MemoryLedger()) as client,
    ):
        await send(client, "4000", "2001", "2002", "4001")
        sleeps = SleepingClock(lambda: datetime.now(UTC).timestamp())
        found = await settle(
            ledger,
            client.sending_report,
            after=9000,
            wait=500,
            clock=sleeps,
            sleep=sleeps.sleep,
        )
        assert found.sent == ("2002",)
        assert [each.reason for each in found.open] == [OpenReason.TOO_SOON]
        assert len(sleeps.slept) == 1


async def test_the_pause_between_parts_of_a_report_does_not_double() -> None:
    """The pause between parts of a report stays the same."""
    account = Account(report_period=7200, report_interval=60)
    async with (
        Simulator(account=account) as simulator,
        opened(simulator, ledger := MemoryLedger()) as client,
    ):
        await send(client, "4000", "2002", "4001")

        class PausedClock(SleepingClock):
            """A clock whose sleeps pass for the simulator as well."""

            async def sleep(self, seconds: float) -> None:
                await super().sleep(seconds)
                simulator._skycore.reports.lookups[-1] -= seconds

        paused = PausedClock(lambda: datetime.now(UTC).timestamp())
        found = await settle(
            ledger, client.sending_report, after=20_000, clock=paused, sleep=paused.sleep
        )
        assert (found.sent, found.problems) == (("2002",), ())
        assert simulator.lookups > 3
        assert [round(each) for each in paused.slept] == [60] * (simulator.lookups - 1)
        looked_up = await ledger.run(ListReportRequests())
        assert [each.refused for each in looked_up[:4]] == [False, True, False, True]


def test_the_pause_doubles_and_is_no_shorter_than_asked_for() -> None:
    """The pause doubles with each refusal, is at least as asked, and ends with a success."""
    assert next_report_request([], now=3700) == 0
    assert next_report_request([(100, False, 0), (50, True, 0)], now=3700) == 0
    assert next_report_request([(100, True, 0)], now=3700) == 160
    assert next_report_request([(100, True, 0), (50, True, 0), (0, False, 0)], now=3700) == 220
    assert next_report_request([(100, True, 500), (50, True, 0)], now=3700) == 600
    assert next_report_request([(100, True, 0)] * 50, now=3700) == 3700


@pytest.mark.parametrize("was_refused", [False, True])
def test_a_look_up_by_a_clock_that_was_ahead_is_none(*, was_refused: bool) -> None:
    """A look-up with a time far ahead is ignored, but a little ahead is not."""
    before = [(4000, True, 0)]
    assert next_report_request([(9000, was_refused, 0), *before], now=4001) == 4060
    assert next_report_request([(4300, was_refused, 0), *before], now=4001) == 4420 * was_refused


async def test_a_refusal_of_the_account_is_raised() -> None:
    """A refusal of the account is raised, and the ledger is unchanged."""
    async with (
        Simulator(account=Account(reports_a_day=0)) as simulator,
        opened(simulator, ledger := MemoryLedger()) as client,
    ):
        await send(client, "4000", "2001", "4001")
        with pytest.raises(QuotaExhausted):
            await client.settle(after=0)
        delivery = await ledger.delivery(key="2001")
        assert delivery is not None
        assert delivery.state is MessageState.IN_DOUBT
        async with ledger.settling():
            with pytest.raises(LedgerInUse):
                await client.settle()


async def test_a_report_is_kept_where_a_text_says(tmp_path: Path) -> None:
    """`save=` takes a path as text."""
    async with Simulator() as simulator, opened(simulator, MemoryLedger()) as client:
        await send(client, "4000", "2001", "4001")
        found = await client.settle(after=0, save=str(tmp_path / "sent.xml"))
    assert [each.path for each in found.saved] == [tmp_path / "sent.xml"]


async def test_without_a_ledger_there_is_nothing_to_settle() -> None:
    """`settle` without a ledger raises ConfigurationError."""
    async with SkycoreClient(api_key="key", from_="60856") as client:
        with pytest.raises(ConfigurationError, match="which the client has to have"):
            await client.settle()


@pytest.mark.slow
async def test_a_long_time_is_asked_for_in_parts() -> None:
    """A long time is asked for in parts as the account allows."""
    account = Account(report_period=7200)
    async with (
        Simulator(account=account) as simulator,
        opened(simulator, MemoryLedger()) as client,
    ):
        await send(client, "4000", "2001", "4001")
        found = await client.settle(after=9000)
        assert [each.reason for each in found.open] == [OpenReason.TOO_SOON]
        assert simulator.lookups > 1


@pytest.mark.slow
async def test_rows_read_before_a_refusal_count() -> None:
    """A refused later part is reported as a problem, and not raised."""
    account = Account(report_period=7200, reports_a_day=1)
    async with (
        Simulator(account=account) as simulator,
        opened(simulator, MemoryLedger()) as client,
    ):
        await send(client, "4000", "2002", "4001")
        found = await client.settle(after=9000)
        assert "E120" in "; ".join(found.problems)
        assert simulator.lookups == 1
