"""The protocol of a ledger, which users may implement, and checks of what they give."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Final, Protocol

from ..errors import ConfigurationError
from ..notifications import InboundSMS, Notification, UnknownNotification
from .export import ExportedMessage
from .model import Delivery, MessageState, SendIntent, Submission, Summary
from .opt_outs import OptOut

_NOT_UNPACKED: Final = "record takes notifications one by one: record(*parse_postback(body))"
_NOT_PARSED: Final = (
    "record takes notifications as parse_postback makes them: of this {}, `raw` is empty, which is"
    " what a ledger keeps and knows it again by. For a number that opted out, there is"
    " ledger.opt_out(number)"
)


class Ledger(Protocol):
    """The memory of what was sent: `MemoryLedger`, `SQLiteLedger` and `PostgresLedger`.

    A client takes a ledger of your own, too: it calls `lookup`, `begin` and `finish`, and before a
    message is tried again `is_opted_out`, if there is one.  A `PostbackReceiver` takes one as
    well, and calls `record`.  The other methods are for your program.  If the ledger has a
    property `is_open` and it is false, a client sends nothing, and a receiver calls `open`.
    `client.settle()` and `skycore` take only the ledgers of this package.
    """

    async def lookup(
        self, intent: SendIntent, *, resend_in_doubt: bool = False
    ) -> Submission | None:
        """Return what came of a message before; None if it may be begun or is under way.

        Raises KeyConflict if the key has other content, which may have gone out, and LedgerError
        if the ledger cannot be read.
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
        """Make an intent durable and return None, or return what came of the message before.

        Waits while the same key is under way, and raises TimeoutError if it still is after
        `timeout` seconds.  Raises KeyConflict if the key has other content, which may have gone
        out, RecipientOptedOut if the number has opted out, and LedgerError if the intent could not
        be made durable.  A caller who is cancelled here has begun nothing.
        """
        ...

    async def finish(self, key: str, submission: Submission) -> None:
        """Make durable what came of a message that was begun.

        Raises LedgerError if that cannot be done; a client then calls it again later.
        """
        ...

    async def record(self, *notifications: Notification) -> None:
        """Record notifications, all or none of them; one that came before changes nothing.

        Raises LedgerError if they could not be made durable.
        """
        ...

    async def delivery(
        self, tracking_id: str | None = None, *, key: str | None = None
    ) -> Delivery | None:
        """Return what is known of a message, by its tracking id or its key; None if nothing is.

        Raises TypeError if both are given, or neither.
        """
        ...

    async def wait_for(
        self, tracking_id: str | None = None, *, key: str | None = None, timeout: float
    ) -> Delivery:
        """Wait until a message is delivered or failed, and return what is known of it.

        Raises TimeoutError if it is neither within `timeout` seconds, and TypeError if both its
        tracking id and its key are given, or neither.
        """
        ...

    async def summary(self) -> Summary:
        """Return how many messages are in each state, and what else is counted."""
        ...

    def deliveries(self, state: MessageState | None = None) -> AsyncIterator[Delivery]:
        """Return every message in that state, or every message, in the order of their intents."""
        ...

    def export(self, state: MessageState | None = None) -> AsyncIterator[ExportedMessage]:
        """Return every message as one flat row, those in that state or all, in order."""
        ...

    def unplaced(self) -> AsyncIterator[Notification]:
        """Return the notifications for messages that this ledger does not know."""
        ...

    def inbound(self) -> AsyncIterator[InboundSMS]:
        """Return the texts that handsets sent, in the order in which they came."""
        ...

    def unreadable(self) -> AsyncIterator[UnknownNotification]:
        """Return the parts of postbacks that could not be read, in the order in which they came.

        Each has the reason, and its text as it came: a person may find a STOP in it.
        """
        ...

    def opt_out_candidates(self) -> AsyncIterator[InboundSMS]:
        """Return the texts that may opt their numbers out, but are not surely STOP.

        Each is listed until `opt_out`, `opt_in`, or a later STOP or START decides about its
        number.
        """
        ...

    async def opt_out(self, number: str) -> None:
        """Opt a number out, so that it is not sent to; InvalidMessage if it is no number."""
        ...

    async def opt_in(self, number: str) -> None:
        """Opt a number in again, so that it may be sent to; InvalidMessage if it is no number."""
        ...

    def opt_outs(self) -> AsyncIterator[OptOut]:
        """Return the latest opt-out or opt-in of each number that has one."""
        ...

    async def is_opted_out(self, number: str) -> bool:
        """Return whether a number has opted out; InvalidMessage if it is no number."""
        ...


def check_ledger(given: object, *calls: str) -> None:
    """Raise ConfigurationError if what is given as a ledger lacks one of these methods."""
    if isinstance(given, type) or not all(callable(getattr(given, name, None)) for name in calls):
        # What was given is not shown: a DSN has a password in it.
        raise ConfigurationError(
            f"ledger: a {type(given).__name__} is no ledger: give one such as"
            " SQLiteLedger(path) or PostgresLedger(dsn)"
        )


def check_notifications(given: tuple[object, ...]) -> None:
    """Raise TypeError if one of these is no notification that a ledger can keep."""
    for each in given:
        if isinstance(each, tuple | list):
            raise TypeError(_NOT_UNPACKED)
        # A notification of no known kind may be an empty element.
        if not (getattr(each, "raw", None) or isinstance(each, UnknownNotification)):
            raise TypeError(_NOT_PARSED.format(type(each).__name__))
