"""Sending reports of the simulator, read by the client over real sockets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from skycore_async import (
    InvalidRequest,
    LookupTooSoon,
    OutcomeUnknown,
    PeriodTooLong,
    QuotaExhausted,
    Rejected,
    ReportedMessage,
    ReportError,
    ReportSection,
    SkycoreClient,
)
from skycore_async.protocol import report as wire
from skycore_async.runtime.secret import Secret
from skycore_async.simulator import (
    API_KEY,
    SHORT_CODE,
    Account,
    ReportFault,
    ReportForm,
    Reports,
    Simulator,
)
from skycore_async.simulator.exchange import Skycore
from tests.conftest import over_httpx

pytestmark = pytest.mark.anyio

FORMS = [
    ReportForm(well_formed=well_formed, edition=edition, with_mms=edition == 2013)
    for well_formed in (True, False)
    for edition in (2013, 2014)
]


def hour(skew: float = 0.0) -> tuple[datetime, datetime]:
    """Return the last hour and a little more, by a clock that is ahead."""
    now = datetime.now(UTC) + timedelta(seconds=skew)
    return now - timedelta(hours=1), now + timedelta(seconds=5)


async def reported(client: SkycoreClient, skew: float = 0.0) -> list[ReportedMessage]:
    async with client.sending_report(*hour(skew)) as report:
        messages = [message async for message in report]
    assert report.complete
    return messages


def to(simulator: Simulator, **settings: object):  # type: ignore[no-untyped-def]
    return over_httpx(simulator.url, api_key=API_KEY, from_=SHORT_CODE, **settings)


@pytest.mark.parametrize("form", FORMS, ids=str)
async def test_a_report_lists_what_was_taken_in_any_form(form: ReportForm) -> None:
    """A report lists each taken message once, in any form, with its result."""
    async with Simulator(reports=Reports(form=form, mixed=True), time_scale=0) as simulator:
        async with to(simulator) as client:
            for number in ("4888", "2002", "2001", "1001", "1004", "1009", "0114"):
                try:
                    await client.send_sms(to=f"1555123{number}", text=f"Msg & data\n{number}")
                except (OutcomeUnknown, Rejected):
                    continue
            messages = await reported(client)
        taken = [message for message in simulator.messages if message.taken]
    ours = [each for each in messages if each.section is ReportSection.SENDING_LIST]
    assert {each.section for each in messages} == set(ReportSection)
    assert [(each.to, each.text, each.from_) for each in ours] == [
        (each.to, each.text.replace("\n", " "), SHORT_CODE) for each in taken
    ]
    events = {
        each.to[-4:]: (
            each.acknowledged_at is not None,
            each.delivered_at is not None,
            each.failed_at is not None,
            each.info,
        )
        for each in ours
    }
    assert events == {
        "4888": (True, True, False, None),
        "2002": (True, True, False, None),
        "1001": (True, False, True, "number is not a subscriber"),
        "1004": (True, False, False, None),
        "1009": (False, False, True, "the carrier did not take the message"),
    }
    assert len({each.history_id for each in ours}) == len(ours)


async def test_messages_of_others_are_listed() -> None:
    """Messages of other programs of the account are listed."""
    async with Simulator(behaviours={}) as simulator, to(simulator) as client:
        await client.send_sms(to="15551234888", text="Hello")
        simulator.sent_elsewhere(to="15551234888", text="Hello")
        simulator.sent_elsewhere(to="1", text="x", section=ReportSection.BATCHES)
        messages = await reported(client)
        assert simulator.billed == 1
    assert [each.text for each in messages] == ["Hello", "Hello", "x"]
    assert len({each.history_id for each in messages}) == 3


async def test_a_message_may_be_listed_late_and_sent_later() -> None:
    """A lag keeps a message out of the report; a queue lists it without an ACK."""
    async with Simulator(reports=Reports(lag=60)) as simulator, to(simulator) as client:
        await client.send_sms(to="15551234888", text="Hello")
        assert await reported(client) == []
        simulator.reports = Reports(queue=60)
        (message,) = await reported(client)
        assert message.acknowledged_at is None
        assert simulator.lookups == 2


@pytest.mark.parametrize("skew", [-7200.0, 7200.0])
async def test_its_clock_may_be_off(skew: float) -> None:
    """Times and periods are by the simulator's own clock."""
    async with Simulator(clock_skew=skew, time_scale=0) as simulator, to(simulator) as client:
        await client.send_sms(to="15551234888", text="Hello")
        assert await reported(client) == []
        (message,) = await reported(client, skew)
    assert message.acknowledged_at is not None
    off = (message.acknowledged_at - datetime.now(UTC)).total_seconds()
    assert abs(off - skew) < 60


LIMITS: dict[str, tuple[Account, type[Exception]]] = {
    "E509": (Account(report_period=1800), PeriodTooLong),
    "E510": (Account(report_interval=60), LookupTooSoon),
    "E120": (Account(reports_a_day=1), QuotaExhausted),
}


@pytest.mark.parametrize(("account", "error"), LIMITS.values(), ids=LIMITS)
async def test_the_accounts_limits_are_kept(account: Account, error: type[Exception]) -> None:
    """The account's limits on period and frequency of look-ups are enforced."""
    async with Simulator(account=account) as simulator, to(simulator) as client:
        with pytest.raises(error) as caught:  # noqa: PT012 - the second look-up, or the first
            await reported(client)
            await reported(client)
    if isinstance(caught.value, LookupTooSoon):
        assert caught.value.retry_after == 60


REFUSED = {
    "E102": {"API_KEY": ""},
    "E104": {"API_KEY": "another"},
    "E506": {"END_DATE": ""},
    "E507": {"START_DATE": "today"},
    "E508": {"END_DATE": "2012-04-30T12:00:00Z"},
}


@pytest.mark.parametrize(("code", "fields"), REFUSED.items(), ids=REFUSED)
def test_a_look_up_that_is_none_is_refused(code: str, fields: dict[str, str]) -> None:
    """A bad look-up is refused with the documented code."""
    asked = {"START_DATE": "2012-04-30 12:00:00", "END_DATE": "2012-04-30 13:00:00", **fields}
    key = asked.pop("API_KEY", API_KEY)
    query = wire.query_string(asked, api_key=key).encode()
    decision = Skycore(Account()).decide("GET", query=query, body=b"", now=1.8e9)
    with pytest.raises((InvalidRequest, Rejected)) as caught:
        wire.read_link(status=200, headers={}, body=decision.reply.body, api_key=Secret("key"))
    assert getattr(caught.value, "code", None) == code


@pytest.mark.parametrize("fault", ReportFault)
@pytest.mark.parametrize("compressed", [False, True])
async def test_a_file_may_be_anything_but_a_report(fault: ReportFault, compressed: bool) -> None:
    """A cut, wrong or missing report file is never complete."""
    reports = Reports(fault=fault, compressed=compressed)
    async with Simulator(behaviours={}, reports=reports) as simulator, to(simulator) as client:
        for number in range(10):
            await client.send_sms(to=f"1555123488{number}", text="Hello")
        with pytest.raises(ReportError):
            await reported(client)


@pytest.mark.slow
async def test_a_report_may_be_compressed() -> None:
    """A report may be compressed, and remains readable after a hundred look-ups."""
    reports = Reports(compressed=True)
    async with Simulator(behaviours={}, reports=reports) as simulator, to(simulator) as client:
        await client.send_sms(to="15551234888", text="Hello")
        for _ in range(101):
            assert len(await reported(client)) == 1
