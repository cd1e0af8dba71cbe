"""The protocol of a ledger, which users may implement, and whether what they give can work."""

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

    One of your own is taken by a client, which calls `lookup`, `begin` and `finish`, and
    `is_opted_out` where there is one, before a message is tried again; and by a
    `PostbackReceiver`, which calls `record`.  The other calls are for your program.  Where it has
    `is_open`, which is then false, a client sends nothing, and a receiver calls its `open`.
    `client.settle()` and `skycore` take those of this package alone.
    """

    async def lookup(
        self, intent: SendIntent, *, resend_in_doubt: bool = False
    ) -> Submission | None:
        """Return what came of a message before; None where it is to be begun, or is under way.

        Raises KeyConflict where the key has other content, which may have gone out, and
        LedgerError where it cannot be read.
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
        """Make an intent durable, and return None; or return what came of it before.

        Waits while the same key is under way, `timeout` seconds at most, and raises
        TimeoutError where it still is then.  Raises KeyConflict where the key has
        other content, which may have gone out, RecipientOptedOut where the number may
        not be sent to, and LedgerError where the intent could not be made durable.  A
        caller who is cancelled here has begun nothing.
        """
        ...

    async def finish(self, key: str, submission: Submission) -> None:
        """Make durable what came of a message that was begun.

        Raises LedgerError where that cannot be done; a client then gives it again later.
        """
        ...

    async def record(self, *notifications: Notification) -> None:
        """Take notifications in, all or none of them; one that came before changes nothing.

        Raises LedgerError where they could not be made durable.
        """
        ...

    async def delivery(
        self, tracking_id: str | None = None, *, key: str | None = None
    ) -> Delivery | None:
        """Return what is known of a message, by its tracking id or its key; None if nothing is.

        Raises TypeError where both are given, or neither.
        """
        ...

    async def wait_for(
        self, tracking_id: str | None = None, *, key: str | None = None, timeout: float
    ) -> Delivery:
        """Wait until a message is delivered or failed, and return what is known of it.

        Raises TimeoutError where it is neither within `timeout` seconds, and TypeError where both
        its tracking id and its key are given, or neither.
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

        Each says why, and has its text as it came: a person may find a STOP in it.
        """
        ...

    def opt_out_candidates(self) -> AsyncIterator[InboundSMS]:
        """Return the texts that may opt their numbers out, and are not surely STOP.

        Each is there until `opt_out` or `opt_in` decides of its number, or a later STOP or
        START does.
        """
        ...

    async def opt_out(self, number: str) -> None:
        """Mark a number as one that may not be sent to; InvalidMessage where it is no number."""
        ...

    async def opt_in(self, number: str) -> None:
        """Mark a number as one that may be sent to; InvalidMessage where it is no number."""
        ...

    def opt_outs(self) -> AsyncIterator[OptOut]:
        """Return the latest opt-out or opt-in of each number that has one."""
        ...

    async def is_opted_out(self, number: str) -> bool:
        """Return whether a number may not be sent to; InvalidMessage where it is no number."""
        ...


def check_ledger(given: object, *calls: str) -> None:
    """Raise ConfigurationError where what is given for a ledger does not have these calls."""
    if isinstance(given, type) or not all(callable(getattr(given, name, None)) for name in calls):
        # What it is instead is not shown: a DSN has a password in it.
        raise ConfigurationError(
            f"ledger: a {type(given).__name__} is no ledger: give one such as"
            " SQLiteLedger(path) or PostgresLedger(dsn)"
        )


def check_notifications(given: tuple[object, ...]) -> None:
    """Raise TypeError where what is to be recorded is no notification that can be kept."""
    for each in given:
        if isinstance(each, tuple | list):
            raise TypeError(_NOT_UNPACKED)
        # What is of no known kind may be an empty element.
        if not (getattr(each, "raw", None) or isinstance(each, UnknownNotification)):
            raise TypeError(_NOT_PARSED.format(type(each).__name__))
