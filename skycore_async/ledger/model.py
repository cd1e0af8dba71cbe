"""What a ledger is, and what it decides.  No I/O, no storage.

A ledger knows each message by its key and each submission by its tracking id.

    not there ──begin──► sending ──finish──► accepted ──postbacks──► sent, delivered, failed
                          ▲    │                 ▲
                          │    ├──► rejected     │ settled by a postback
                          │    ├──► in_doubt ────┘
                          └────┴──► not_sent

Rules:

* The intent is durable before the first byte may leave, the outcome after.
* Only what was never begun or is proven not sent is begun; what is in doubt
  is begun again on the caller's word alone.
* A rejection of the whole account says nothing of the message: it was not sent.
"""

from __future__ import annotations

import enum
import math
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

import attrs

from ..codes import FailureReason
from ..notifications import Notification


class MessageState(enum.StrEnum):
    """How far a message got, as a ledger knows it."""

    SENDING = "sending"
    NOT_SENT = "not_sent"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"
    ACCEPTED = "accepted"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether no notification changes it any more."""
        return self in {MessageState.DELIVERED, MessageState.FAILED}


ENDED_MEANWHILE: Final = "the program ended while it was being sent"  # a doubt with no other cause


@attrs.frozen(kw_only=True)
class SendIntent:
    """A message that is about to be submitted; `started_at` is in seconds since 1970."""

    key: str
    content: bytes
    to: str
    from_: str | None
    started_at: float


@attrs.frozen(kw_only=True)
class Submission:
    """What came of submitting a message, as it is kept."""

    state: MessageState
    tracking_id: str | None = None
    code: str | None = None
    info: str | None = None
    http_status: int | None = None
    raw: Mapping[str, Any] | None = attrs.field(default=None, repr=False, hash=False)


@attrs.frozen(kw_only=True)
class Delivery:
    """What is known of one message.

    `events` are its distinct notifications in order of time, `reason` is set
    where it failed, `code` and `info` where it was refused or is in doubt.
    `settled_by` is "postback" where it was in doubt and a postback told that it
    had been sent.  `began` is when it was last begun.
    """

    key: str
    tracking_id: str | None
    to: str
    from_: str | None
    state: MessageState
    reason: FailureReason | None
    events: tuple[Notification, ...]
    settled_by: str | None
    began: datetime
    code: str | None
    info: str | None


@attrs.frozen(kw_only=True)
class Summary:
    """How many messages are in each state.

    `codes` counts the refusals by error code, `reasons` the failures,
    `unplaced` the notifications for messages that the ledger does not know, and
    `opted_out` the numbers that may not be sent to.
    """

    states: Mapping[MessageState, int]
    codes: Mapping[str, int]
    reasons: Mapping[FailureReason, int]
    unplaced: int
    opted_out: int

    @property
    def total(self) -> int:
        """How many messages there are."""
        return sum(self.states.values())


class Ledger(Protocol):
    """The memory of what was sent; `SQLiteLedger` and `MemoryLedger` are two."""

    async def lookup(
        self, intent: SendIntent, *, resend_in_doubt: bool = False
    ) -> Submission | None:
        """Return what came of a message before; None where it is to be begun, or is under way.

        Raises KeyConflict where the key has other content.
        """
        ...

    async def begin(
        self,
        intent: SendIntent,
        *,
        resend_in_doubt: bool = False,
        ignore_opt_out: bool = False,
        timeout: float = math.inf,
    ) -> Submission | None:
        """Make an intent durable, and return None; or give what came of it before.

        Waits while the same key is under way, `timeout` seconds at most, and raises
        TimeoutError where it still is then.  Raises KeyConflict where the key has
        other content, RecipientOptedOut where the number may not be sent to, and
        LedgerError where the intent could not be made durable.  Who is cancelled
        here has begun nothing.
        """
        ...

    async def finish(self, key: str, submission: Submission) -> None:
        """Make durable what came of a message that was begun."""
        ...

    async def record(self, *notifications: Notification) -> None:
        """Take notifications in, all or none of them; one that came before changes nothing."""
        ...

    async def delivery(
        self, tracking_id: str | None = None, *, key: str | None = None
    ) -> Delivery | None:
        """Return what is known of a message, by its tracking id or its key."""
        ...

    async def wait_for(
        self, tracking_id: str | None = None, *, key: str | None = None, timeout: float
    ) -> Delivery:
        """Wait until a message is delivered or failed, `timeout` seconds at most.

        Raises TimeoutError where it is neither by then.
        """
        ...

    async def summary(self) -> Summary:
        """Count what there is."""
        ...

    def deliveries(self, state: MessageState | None = None) -> AsyncIterator[Delivery]:
        """Return every message in that state, or every message, in the order of their intents."""
        ...

    def unplaced(self) -> AsyncIterator[Notification]:
        """Return the notifications for messages that this ledger does not know."""
        ...

    async def opt_out(self, number: str) -> None:
        """Mark a number as one that may not be sent to."""
        ...

    async def opt_in(self, number: str) -> None:
        """Unmark a number."""
        ...

    async def is_opted_out(self, number: str) -> bool:
        """Return whether a number may not be sent to."""
        ...
