"""A client's `number_reader` is applied first, on every way to send."""

from __future__ import annotations

import pytest

from skycore_async import (
    SMS,
    Accepted,
    Failed,
    InvalidMessage,
    KeyConflict,
    MemoryLedger,
    NationalNumbers,
    RecipientOptedOut,
    SkycoreClient,
)
from skycore_async.protocol.numbers import NumberReader
from tests.support.stub_transport import StubTransport

pytestmark = pytest.mark.anyio

AMERICAN = "(555) 123-4888"
READ = "15551234888"
READER = NationalNumbers("US")


def client(
    transport: StubTransport, ledger: MemoryLedger | None = None, reader: NumberReader = READER
) -> SkycoreClient:
    return SkycoreClient(
        api_key="a key", from_="60856", transport=transport, ledger=ledger, number_reader=reader
    )


async def test_a_national_number_goes_to_its_country() -> None:
    """`send_sms` and `send_many` send to the number as read; the outcome has it as written."""
    transport = StubTransport()
    message = SMS(to=AMERICAN, text="Hello")
    async with client(transport) as skycore:
        sent = await skycore.send_sms(to=AMERICAN, text="Hello")
        async with skycore.send_many([message]) as outcomes:
            (outcome,) = [each async for each in outcomes]
    assert transport.sent == [READ, READ]
    assert (sent.to, sent.message.to) == (READ, AMERICAN)
    assert isinstance(outcome, Accepted)
    assert (outcome.to, outcome.message) == (READ, message)


async def test_a_view_reads_as_its_client_or_in_its_own_way() -> None:
    """`with_options` keeps the client's number reader, replaces it or removes it."""
    transport = StubTransport()
    async with client(transport) as skycore:
        await skycore.with_options(timeout=3).send_sms(to=AMERICAN, text="Hello")
        british = skycore.with_options(number_reader=NationalNumbers("GB"))
        await british.send_sms(to="020 7946 0958", text="Hello")
        await skycore.with_options(number_reader=None).send_sms(to=AMERICAN, text="Hello")
    assert transport.sent == [READ, "442079460958", "5551234888"]


async def test_a_ledger_knows_a_message_by_the_number_as_read() -> None:
    """A ledger compares messages of one key by the number as read, not as written."""
    transport = StubTransport()
    async with MemoryLedger() as ledger, client(transport, ledger) as skycore:
        first = await skycore.send_sms(to=AMERICAN, text="Hello", key="a")
        again = await skycore.send_sms(to="+1 555 123 4888", text="Hello", key="a")
        with pytest.raises(KeyConflict):
            await skycore.with_options(number_reader=None).send_sms(
                to=AMERICAN, text="Hello", key="a"
            )
        delivery = await ledger.delivery(key="a")
    assert (again.tracking_id, again.recorded) == (first.tracking_id, True)
    assert transport.sent == [READ]
    assert delivery is not None
    assert delivery.to == READ


async def test_a_number_that_opted_out_is_known_however_it_is_written() -> None:
    """An opt-out is looked up by the number as read."""
    transport = StubTransport()
    async with MemoryLedger() as ledger, client(transport, ledger) as skycore:
        await ledger.opt_out(f"+{READ}")
        with pytest.raises(RecipientOptedOut):
            await skycore.send_sms(to=AMERICAN, text="Hello")
    assert transport.sent == []


async def test_a_failing_number_reader_refuses_that_message_alone() -> None:
    """A number reader that fails refuses that message alone, and its error text is not shown."""

    def reader(to: str) -> str:
        if to == "1":
            raise ValueError("the text of a caller's own error")
        return {"2": "020 7946 0958", "3": 3}.get(to, f"1{to}")  # type: ignore[return-value]

    transport = StubTransport()
    messages = [SMS(to=to, text="Hello") for to in ("1", "2", "3", "5551234888")]
    async with (
        client(transport, reader=reader) as skycore,
        skycore.send_many(messages) as outcomes,
    ):
        found = {outcome.message.to: outcome async for outcome in outcomes}
    failed = [found[to] for to in ("1", "2", "3")]
    raised, national, number = (str(one.error) for one in failed if isinstance(one, Failed))
    assert raised == "to: number_reader raised ValueError for '1'"
    assert "'020 7946 0958' is not in international format" in national
    assert number == "to: a str is needed, not int"
    assert {type(one.error) for one in failed if isinstance(one, Failed)} == {InvalidMessage}
    assert transport.sent == [READ]
