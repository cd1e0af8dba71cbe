"""The commands and queries of a ledger, as values.

Strategy: a command has the type of its result.  A ledger takes commands in groups
(`group_commit`), and `execution` runs a group over a store in one transaction.  A `Query` changes
nothing, and is answered by the store alone.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Final, Generic, TypeVar, cast

import attrs

from ..errors import KeyConflict, LedgerError, SkycoreError
from ..notifications import InboundSMS, Notification, UnknownNotification, is_unreadable
from ..protocol import tracking_ids
from ..protocol.numbers import spellings
from .model import Attempt, Delivery, MessageState, SendIntent, Submission, Summary
from .opt_outs import OptOut, is_candidate, is_open, may_be_sent_to, number_named
from .reader import LedgerReader, Page
from .rules import UnderWay, earlier_submission
from .settlement import rebuilt
from .texts import storable

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

WITHDRAWN: Final = Submission(
    state=MessageState.NOT_SENT, info="its sending was cancelled before it began"
)


class Postponed(LedgerError):
    """It could not be written yet; the ledger keeps it, and writes it as soon as it can."""


class LedgerCommand(Generic[T_co]):
    """Something that a ledger is told or asked; `T_co` is the type of its result."""

    __slots__ = ()


# Sending.


@attrs.frozen(kw_only=True)
class Fence:
    """A chunk that a worker has taken; it holds while the chunk has this epoch."""

    chunk: int
    epoch: int


@attrs.frozen(kw_only=True)
class Begin(LedgerCommand[Submission | None]):
    """Write an intent and return None, or return what came of its message before.

    Raises UnderWay, KeyConflict or RecipientOptedOut, having written nothing.
    """

    intent: SendIntent
    resend_in_doubt: bool = False
    ignore_opt_out: bool = False
    attempt: Attempt | None = None
    fence: Fence | None = None

    def as_attempt(self, attempt: Attempt | None, fence: Fence | None) -> Begin:
        """Return the same command for this attempt, within this fence.

        `attrs.evolve` takes ten times as long, for every message of a worker.
        """
        return Begin(
            intent=self.intent,
            resend_in_doubt=self.resend_in_doubt,
            ignore_opt_out=self.ignore_opt_out,
            attempt=attempt,
            fence=fence,
        )

    def ended(self, submission: Submission) -> Finish:
        """Return the command that writes what came of this attempt."""
        return Finish(key=self.intent.key, submission=submission, attempt=self.attempt)


@attrs.frozen(kw_only=True)
class Finish(LedgerCommand[None]):
    """Write what came of a message that was begun."""

    key: str
    submission: Submission
    attempt: Attempt | None = None


# Postbacks and opting out.


@attrs.frozen(kw_only=True)
class Record(LedgerCommand[None]):
    """Write notifications, each once."""

    notifications: tuple[Notification, ...]


@attrs.frozen(kw_only=True)
class SetOptOut(LedgerCommand[None]):
    """Opt a number out now, or in."""

    number: str
    out: bool


@attrs.frozen(kw_only=True)
class TellOptOuts(LedgerCommand[None]):
    """Add entries from elsewhere as if they came now, in this order."""

    entries: tuple[OptOut, ...]


@attrs.frozen
class KeepAlive(LedgerCommand[None]):
    """Renew this session, and put in doubt what expired sessions were sending."""


# Questions.


class Query(LedgerCommand[T_co]):
    """A command that changes nothing."""

    __slots__ = ()
    is_long: ClassVar[bool] = False

    @abstractmethod
    def answer(self, store: LedgerReader) -> T_co:
        """Return the answer of a store."""


class LongQuery(Query[T_co]):
    """A query about many messages, which is answered beside the writer."""

    __slots__ = ()
    is_long = True


@attrs.frozen(kw_only=True)
class Lookup(Query[Submission | None]):
    """What came of a message; None if it may be begun or is under way.

    Raises KeyConflict if the key has other content, which may have gone out.
    """

    intent: SendIntent
    resend_in_doubt: bool = False

    def answer(self, store: LedgerReader) -> Submission | None:
        """Return the answer of a store."""
        record = store.messages([self.intent.key]).get(self.intent.key)
        return earlier_submission(record, self.intent, resend_in_doubt=self.resend_in_doubt)


@attrs.frozen(kw_only=True)
class LookupMany(Query[dict[str, Submission | KeyConflict]]):
    """What came of many messages, by their keys; a KeyConflict for a key with other content."""

    intents: tuple[SendIntent, ...]
    resend_in_doubt: bool = False

    def answer(self, store: LedgerReader) -> dict[str, Submission | KeyConflict]:
        """Return the answer of a store."""
        records = store.messages([intent.key for intent in self.intents])
        found: dict[str, Submission | KeyConflict] = {}
        for intent in self.intents:
            record = records.get(intent.key)
            try:
                before = earlier_submission(record, intent, resend_in_doubt=self.resend_in_doubt)
            except KeyConflict as conflict:
                found[intent.key] = conflict
            else:
                if before is not None:
                    found[intent.key] = before
        return found


@attrs.frozen(kw_only=True)
class GetDelivery(Query[Delivery | None]):
    """What is known of one message, by its tracking id or its key."""

    tracking_id: str | None = None
    key: str | None = None

    def answer(self, store: LedgerReader) -> Delivery | None:
        """Return the answer of a store."""
        if self.key != storable(self.key):
            return None  # no message has such a key, and no store can look for it
        plain_id = None if self.tracking_id is None else tracking_ids.plain(self.tracking_id)
        return store.delivery(plain_id=plain_id, key=self.key)


@attrs.frozen(kw_only=True)
class ListDeliveries(LongQuery[Page[Delivery]]):
    """A page of messages, all or those in one state, beyond the id `after`."""

    state: MessageState | None
    after: int

    def answer(self, store: LedgerReader) -> Page[Delivery]:
        """Return the answer of a store."""
        return store.deliveries(self.state, self.after)


@attrs.frozen(kw_only=True)
class ListUnplaced(LongQuery[Page[Notification]]):
    """A page of notifications without a message, beyond the id `after`."""

    after: int

    def answer(self, store: LedgerReader) -> Page[Notification]:
        """Return the answer of a store."""
        return store.unplaced(self.after)


@attrs.frozen(kw_only=True)
class ListInbound(LongQuery[Page[tuple[int, InboundSMS | UnknownNotification]]]):
    """A page of texts from handsets, and of unreadable notifications, each with its id.

    It is the page beyond the id `after`.  What could not be read of a postback may be a text.
    """

    after: int

    def answer(self, store: LedgerReader) -> Page[tuple[int, InboundSMS | UnknownNotification]]:
        """Return the answer of a store."""
        page = store.texts(self.after)
        found: list[tuple[int, InboundSMS | UnknownNotification]] = []
        for id_, stored in page.rows:
            notification = rebuilt(stored)
            if isinstance(notification, InboundSMS) or is_unreadable(notification):
                found.append((id_, notification))
        return Page(found, page.last)


@attrs.frozen(kw_only=True)
class ListOptOutCandidates(LongQuery[Page[InboundSMS]]):
    """A page of texts that may opt their numbers out, beyond the id `after`."""

    after: int

    def answer(self, store: LedgerReader) -> Page[InboundSMS]:
        """Return the answer of a store."""
        page = store.texts(self.after)
        found = [
            (notification, number_named(notification.from_), min(stored.happened, stored.received))
            for _, stored in page.rows
            if isinstance(notification := rebuilt(stored), InboundSMS)
            and is_candidate(notification)
        ]
        last = store.opt_outs({number for _, number, _ in found})
        rows = [text for text, number, at in found if is_open(at, last.get(number))]
        return Page(rows, page.last)


@attrs.frozen
class Summarize(LongQuery[Summary]):
    """The counts of messages, notifications and opt-outs."""

    def answer(self, store: LedgerReader) -> Summary:
        """Return the answer of a store."""
        return store.summary()


@attrs.frozen(kw_only=True)
class IsOptedOut(Query[bool]):
    """Whether a number has opted out."""

    number: str

    def answer(self, store: LedgerReader) -> bool:
        """Return the answer of a store."""
        return not may_be_sent_to(self.number, store.opt_outs(spellings(self.number)))


@attrs.frozen(kw_only=True)
class GetOptOuts(Query[dict[str, OptOut]]):
    """The opt-out entries of these numbers, as far as there are any.

    `opt_outs.entry_for` tells which one counts for a number.
    """

    numbers: tuple[str, ...]

    def answer(self, store: LedgerReader) -> dict[str, OptOut]:
        """Return the answer of a store."""
        return store.opt_outs(self.numbers)


@attrs.frozen(kw_only=True)
class ListOptOuts(Query[list[OptOut]]):
    """A page of opt-out entries, in the order of their numbers, beyond the number `after`."""

    after: str

    def answer(self, store: LedgerReader) -> list[OptOut]:
        """Return the answer of a store."""
        return store.opt_outs_after(self.after)


# A command in a group.


class PendingCommand:
    """A command that waits to be run, with its result or error once it was."""

    __slots__ = ("command", "error", "is_abandoned", "result")

    def __init__(self, command: LedgerCommand[object]) -> None:
        self.command = command
        self.result: object = None
        self.error: Exception | None = None
        self.is_abandoned = False  # its caller was cancelled

    def outcome(self, command: LedgerCommand[T]) -> T:
        """Return the result of `command`, which this was made of, or raise its error."""
        if self.error is not None:
            raise self.error
        return cast("T", self.result)

    def __enter__(self) -> None:
        """Keep errors that the command is meant to raise for its caller."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        if isinstance(error, SkycoreError | UnderWay):
            self.error = error
            return True
        return False


def withdrawal(command: LedgerCommand[object], result: object) -> Finish | None:
    """Return the command that takes back what another began for a caller who left, if it did."""
    if not isinstance(command, Begin) or result is not None:
        return None
    return command.ended(WITHDRAWN)
