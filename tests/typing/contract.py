"""The public contract, as a program that the type checkers read.

Nothing here runs but its definitions: what it promises is that mypy and
basedpyright accept every line, and that each `type: ignore` is needed, so that
what must be refused is.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, assert_never, assert_type

import httpx
import httpx2

import skycore_async
from skycore_async import (
    SMS,
    Accepted,
    AsyncHTTPClient,
    AuthenticationFailed,
    BillingProblem,
    Delivery,
    DeliveryReceipt,
    DirectTransport,
    ExportedMessage,
    Failed,
    HttpxTransport,
    InboundSMS,
    InvalidMessage,
    Ledger,
    Limiter,
    LookupTooSoon,
    MemoryLedger,
    MessageState,
    NationalNumbers,
    Notification,
    NotSent,
    NumberReader,
    OptOut,
    OptOutRule,
    Outcome,
    OutcomeUnknown,
    PostbackInbox,
    PostbackReceiver,
    PostgresLedger,
    PostgresLimiter,
    Pruned,
    QuotaExhausted,
    RateLimiter,
    Rejected,
    ReportedMessage,
    ReportSection,
    Request,
    Response,
    Road,
    SavedReport,
    Scope,
    SendingReport,
    SentNotification,
    Settlement,
    SkycoreClient,
    SkycoreError,
    SQLiteLedger,
    SubscriptionChange,
    Summary,
    SyncClient,
    Throttled,
    Transport,
    UnknownNotification,
    Verdict,
    parse_postback,
    share_opt_outs,
)


async def send(client: SkycoreClient) -> None:
    """Return `send_sms` what SMS has, by name, and get an Accepted."""
    accepted = await client.send_sms(to="15551234888", text="Hello", key="order-17")
    assert_type(accepted, Accepted)
    assert_type(accepted.message, SMS)
    assert_type(accepted.to, str)
    assert_type(accepted.tracking_id, str | None)
    assert_type(accepted.history_id, str | None)
    assert_type(accepted.raw, dict[str, Any])
    assert_type(accepted.recorded, bool)

    await client.send_sms("15551234888", "Hello")  # type: ignore[call-arg]
    await client.send_sms(to="15551234888")  # type: ignore[call-arg]
    await client.send_sms(to=15551234888, text="Hello")  # type: ignore[arg-type]
    accepted.tracking_id = "other"  # type: ignore[misc]


async def open_clients() -> None:
    """Enter a client, make a view of it, and construct wrong ones."""
    async with SkycoreClient(api_key="key", from_="60856", timeout=10) as client:
        assert_type(client, SkycoreClient)
        view = client.with_options(from_=None, timeout=3, method="GET")
        assert_type(view, SkycoreClient)
        client.with_options(max_in_flight=1)  # type: ignore[call-arg]
        client.with_options(timeout="3")  # type: ignore[arg-type]
        client.with_options(method="PUT")  # type: ignore[arg-type]
    assert_type(await client.aclose(), None)

    SkycoreClient("key")  # type: ignore[call-arg]
    SkycoreClient(method="PUT")  # type: ignore[arg-type]
    SkycoreClient(number_reader=NationalNumbers("US"))
    SkycoreClient(number_reader=lambda number: f"+1{number}")
    SkycoreClient(number_reader="US")  # type: ignore[arg-type]
    reader: NumberReader = NationalNumbers("GB")
    assert_type(reader("020 7946 0958"), str)
    client.with_options(number_reader=None)
    SkycoreClient(http_client=httpx.AsyncClient())
    SkycoreClient(http_client=httpx2.AsyncClient())
    SkycoreClient(http_client=httpx.Client())  # type: ignore[arg-type]
    SkycoreClient(http_client=httpx2.Client())  # type: ignore[arg-type]
    given: AsyncHTTPClient = httpx.AsyncClient()
    SkycoreClient(http_client=given)


async def read_report(client: SkycoreClient, since: datetime, until: datetime) -> None:
    """Iterate over a sending report, and match what keeps it from being read."""
    try:
        async with client.sending_report(since, until, period=timedelta(days=1)) as report:
            assert_type(report, SendingReport)
            async for message in report:
                assert_type(message, ReportedMessage)
                assert_type(message.from_, str | None)
                assert_type(message.acknowledged_at, datetime | None)
                assert_type(message.section, ReportSection)
        assert_type(report.complete, bool)
        assert_type(report.covered_until, datetime)
    except LookupTooSoon as error:
        assert_type(error.retry_after, float)
    client.sending_report(since, "today")  # type: ignore[arg-type]


def send_without_async(skycore: SyncClient) -> None:
    """Send from code that is not asynchronous, with the arguments of `SkycoreClient`."""
    assert_type(skycore.send_sms(to="15551234888", text="Hello", key="order-1"), Accepted)
    assert_type(skycore.settle(wait=0), Settlement)
    assert_type(skycore.run(lambda client: client.settle()), Settlement)
    settlement = skycore.settle(save=Path("sent.xml"))
    assert_type(settlement.open[0].not_before, datetime | None)
    assert_type(settlement.problems, tuple[str, ...])
    assert_type(settlement.saved, tuple[SavedReport, ...])
    with skycore.send_many([SMS(to="15551234888", text="Hello")]) as outcomes:
        for outcome in outcomes:
            assert_type(outcome, Accepted | Failed)
    SyncClient(SkycoreClient)
    skycore.send_sms(to="15551234888", txt="Hello")  # type: ignore[call-arg]
    SyncClient(SkycoreClient())  # type: ignore[arg-type]


class OwnClient(SkycoreClient):
    """A client of the caller's own class, which does something of its own at its end."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        await super().__aexit__(kind, error, traceback)


class OwnSyncClient(SyncClient):
    """The same without a loop."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        super().__exit__(kind, error, traceback)


async def keep_the_type(own: OwnClient) -> None:
    """Keep the type of a subclass through `async with` and `with_options`."""
    assert_type(own.with_options(timeout=1), OwnClient)
    async with own as entered:
        assert_type(entered, OwnClient)


class OwnTransport:
    """Any class with these two methods is a Transport."""

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Answer from nowhere."""
        return Response(status=200, headers={}, body=request.body)

    async def aclose(self) -> None:
        """Close nothing."""


def misspell_a_name() -> None:
    """Refuse a name that the package lacks, however it is asked for."""
    from skycore_async import SkycorClient  # type: ignore[attr-defined] # noqa: F401

    skycore_async.SkycorClient()  # type: ignore[attr-defined]


def give_transports() -> None:
    """Tell a transport by its methods; an httpx client is none."""
    transports: list[Transport] = [
        OwnTransport(),
        HttpxTransport(verify=True, proxy=None),
        DirectTransport(verify=True, proxy=None),
    ]
    SkycoreClient(transport=transports[0])
    road: Road = "fast"
    SkycoreClient(transport=road)
    SkycoreClient(transport="quick")  # type: ignore[arg-type]
    SkycoreClient(transport=httpx.AsyncClient())  # type: ignore[arg-type]


async def share_a_pace(own: Limiter) -> None:
    """Return limiters in place of a rate."""
    async with PostgresLimiter("postgresql:///orders", "promo", 1000, burst=20) as limiter:
        assert_type(limiter, PostgresLimiter)
        limiters: list[Limiter] = [limiter, RateLimiter(200), own]
        SkycoreClient(rate=limiters[0])
    async with PostgresLedger("postgresql:///orders", lease=60) as ledger:
        assert_type(ledger, PostgresLedger)
        assert_type(await ledger.delivery("T"), Delivery | None)
        SkycoreClient(ledger=ledger)
    PostgresLimiter("postgresql:///orders", "promo")  # type: ignore[call-arg]
    PostgresLimiter("postgresql:///orders", 1000)  # type: ignore[call-arg, arg-type]


async def keep_a_ledger(own: Ledger) -> None:
    """Open ledgers, give them to a client and a receiver, and ask them."""
    async with SQLiteLedger("promo.db") as ledger, MemoryLedger(capacity=10) as memory:
        assert_type(ledger, SQLiteLedger)
        ledgers: list[Ledger] = [ledger, memory, own]
        client = SkycoreClient(ledger=ledgers[0])
        client.send_many([], resend_in_doubt=True, ignore_opt_out=True)
        client.send_many([], True)  # type: ignore[call-arg]
        delivery = await ledger.wait_for("SMS_12345", timeout=60)
        assert_type(delivery, Delivery)
        assert_type(delivery.state, MessageState)
        assert_type(delivery.events, tuple[Notification, ...])
        assert_type(await own.delivery(key="order-17"), Delivery | None)
        async for each in own.deliveries(MessageState.IN_DOUBT):
            assert_type(each, Delivery)
        async for row in own.export(MessageState.DELIVERED):
            assert_type(row, ExportedMessage)
            assert_type(row.tags, tuple[str, ...])
        assert_type(await own.summary(), Summary)
        assert_type(await memory.prune(older_than=timedelta(days=180)), Pruned)
        async for text in own.inbound():
            assert_type(text, InboundSMS)
            assert_type(text.text, str)
        async for part in own.unreadable():
            assert_type(part, UnknownNotification)
            assert_type(part.unreadable, str | None)
        async for text in own.opt_out_candidates():
            assert_type(text, InboundSMS)
        async for word in own.opt_outs():
            assert_type(word, OptOut)
            assert_type((word.number, word.out, word.at), tuple[str, bool, float])
        rule: OptOutRule = lambda text: text.text == "basta" or None  # noqa: E731
        MemoryLedger(opt_out_rule=rule)
        async with share_opt_outs(ledger), share_opt_outs(memory, Path("opt-outs.db")) as shared:
            assert_type(shared, None)
        share_opt_outs(own)  # type: ignore[arg-type]
        PostbackReceiver(ledger=own, secret=["new", "old"], credentials=("user", "password"))
        PostbackReceiver(ledger="promo.db")
        async with PostbackInbox(Path("promo.db"), opt_out_rule=rule) as inbox:
            assert_type(inbox, PostbackInbox)
            assert_type(await inbox.count(), int)
            assert_type(inbox.holder(), str | None)
            PostbackReceiver(ledger=inbox)
            SkycoreClient(ledger=inbox)  # type: ignore[arg-type]
        PostbackReceiver(ledger=client)  # type: ignore[arg-type]


def match_outcome(outcome: Outcome) -> str:
    """Match an outcome: it is Accepted or Failed, and nothing else."""
    assert_type(outcome.verdict, Verdict)
    assert_type(outcome.recorded, bool)
    match outcome:
        case Accepted(tracking_id=tracking_id, to=to):
            return f"{tracking_id} {to}"
        case Failed(message=message, error=error):
            assert_type(message, SMS)
            assert_type(error, SkycoreError)
            return message.text
        case _:
            assert_never(outcome)


def match_error(error: SkycoreError) -> None:
    """Tell the errors apart by class, with the fields of their class."""
    assert_type(error.may_have_been_sent, bool)
    assert_type(error.verdict, Verdict)
    match error:
        case InvalidMessage(field=field):
            assert_type(field, str)
        case Throttled(retry_after=retry_after):
            assert_type(retry_after, float | None)
            assert_type(error.code, str | None)
        case NotSent():
            assert_type(error, NotSent)
        case AuthenticationFailed() | BillingProblem() | QuotaExhausted():
            assert_type(error.scope, Scope)
        case Rejected(code=code, info=info, scope=Scope.ACCOUNT):
            assert_type(code, str | None)
            assert_type(info, str | None)
        case OutcomeUnknown(http_status=http_status):
            assert_type(http_status, int | None)
            assert_type(error.code, str | None)
        case _:
            assert_type(error, SkycoreError)


def match_notifications(body: bytes) -> None:
    """Match what a postback holds: notifications of five kinds, and no other."""
    notifications = parse_postback(body)
    assert_type(notifications, tuple[Notification, ...])
    for notification in notifications:
        match notification:
            case (
                SentNotification(tracking_id=tracking_id)
                | DeliveryReceipt(tracking_id=tracking_id)
            ):
                assert_type(tracking_id, str | None)
            case InboundSMS(text=text):
                assert_type(text, str)
            case SubscriptionChange(subscribed=subscribed):
                assert_type(subscribed, bool)
            case UnknownNotification(raw=raw):
                assert_type(raw, dict[str, Any])
            case _:
                assert_never(notification)
