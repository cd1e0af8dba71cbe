"""Intents, submissions and notifications for tests of ledgers, with a clock that stands still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio.lowlevel

from skycore_async.ledger.interface import Ledger
from skycore_async.ledger.model import MessageState, SendIntent, Submission
from skycore_async.notifications import Notification
from skycore_async.postbacks import parse_postback

TO, OTHER = "15551234888", "15559876543"
NOON = 1_700_000_000.0

S = MessageState


class Clock:
    """Seconds since 1970, which pass only when a test says so."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def intent(
    key: str = "k", content: bytes = b"one", to: str = TO, from_: str | None = "60856"
) -> SendIntent:
    return SendIntent(key=key, content=content, to=to, from_=from_, started_at=NOON)


def accepted(tracking_id: str = "T") -> Submission:
    return Submission(
        state=S.ACCEPTED, tracking_id=tracking_id, raw={"TRACKINGID": tracking_id, "N": {"#": "1"}}
    )


NOT_SENT = Submission(state=S.NOT_SENT, info="refused")
REJECTED = Submission(state=S.REJECTED, code="E621", info="no such number")
BLOCKED = Submission(state=S.REJECTED, code="E114", info="blocked")
DOUBT = Submission(state=S.IN_DOUBT, code="E503", info="read timeout", http_status=200)

SENT = ("N201", "Message Sent")
DELIVERED = ("N202", "Message Sent/Delivered")
EXPIRED = ("E202", "Message Sent/Expired")
ODD = ("N202", "Message Sent/Whatever")


def notice(
    what: tuple[str, str] = SENT,
    tracking_id: str = "T",
    *,
    to: str = TO,
    from_: str | None = "60856",
    after: float = 1,
    history_id: str | None = None,
) -> Notification:
    """Make the notification of this event, `after` seconds after noon."""
    code, status = what
    sender = f"<FROM>{from_}</FROM>" if from_ else ""
    sender += f"<HISTORYID>{history_id}</HISTORYID>" if history_id else ""
    (made,) = parse_postback(
        f"<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>{code}</CODE>{sender}<TO>{to}</TO>"
        f"<TRACKINGID>{tracking_id}</TRACKINGID><STATUS>{status}</STATUS>"
        f"<TIMESTAMP>{_iso(after)}</TIMESTAMP></POSTBACK>"
    )
    return made


def said(text: str, *, after: float = 1, from_: str = TO) -> Notification:
    """Make the notification of an inbound SMS."""
    (made,) = parse_postback(
        f"<POSTBACK><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><FROM>{from_}</FROM><TO>60856</TO>"
        f"<TEXT>{text}</TEXT><RECEIVED>{_iso(after)}</RECEIVED></POSTBACK>"
    )
    return made


def _iso(after: float) -> str:
    return (datetime.fromtimestamp(NOON, UTC) + timedelta(seconds=after)).isoformat()


async def sent(ledger: Ledger, key: str, submission: Submission, **fields: Any) -> None:
    """Begin and finish a message."""
    assert await ledger.begin(intent(key, **fields)) is None
    await ledger.finish(key, submission)


async def state_of(ledger: Ledger, key: str) -> MessageState | None:
    delivery = await ledger.delivery(key=key)
    return None if delivery is None else delivery.state


async def settle() -> None:
    """Let every task run as far as it can, also tasks that wait for a thread."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
