"""What the tables of a ledger can be asked, whatever database they are in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

import attrs

from ..notifications import Notification
from .export import ExportedMessage
from .list_rows import BegunCount, EndedRow, MessageLine
from .model import (
    Delivery,
    EarlierAttempt,
    MessageRecord,
    MessageState,
    StoredNotification,
    Summary,
)
from .opt_outs import OptOut
from .report_values import BegunMessage, Doubt, ReportRequest

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# What is read in either database, by the same words.
LONG_PAGE: Final = 5000  # of rows that are short, and of which all are read
SPAN: Final = 2000  # ids that a question is about, of which perhaps few are asked for
BEGUN: Final = (
    "id, recipient, sender, text_digest, started_at, coalesce(ended_at, interrupted_at),"
    " history_id, state, doubted, settled_by, untaken, turn"
)
IS_BEGUN: Final = "state NOT IN ('not_sent', 'rejected')"
# It was accepted, and never in doubt.
IS_SURE: Final = (
    f"{IS_BEGUN} AND state NOT IN ('sending', 'in_doubt') AND settled_by IS NULL"
    " AND doubted IS NOT TRUE"
)
REPORT_REQUESTS: Final = "asked_at, refused, retry_after FROM look_ups ORDER BY asked_at DESC"


class Unreadable(Exception):
    """It cannot be read over a second connection: the one that writes has to read it."""


@attrs.frozen
class Page(Generic[T_co]):
    """Some of many rows; `last` is the id of the last one where there may be more, else None."""

    rows: Sequence[T_co]
    last: int | None


def page_of(
    found: Sequence[T], rows: Sequence[Sequence[Any]], size: int, *, until: int | None = None
) -> Page[T]:
    """Return a page of what was found in rows that begin with their ids; a full one has `size`.

    `until` is the id up to which was looked, where there may be more beyond it.
    """
    return Page(found, rows[-1][0] if len(rows) == size else until)


def span_after(after: int, size: int, last_id: int) -> tuple[int, int | None]:
    """Return up to which id `size` ids go, and the same where there may be more beyond it."""
    until = after + size
    return until, until if until < last_id else None


class LedgerReader(Protocol):
    """What the tables can be asked."""

    def delivery(self, *, plain_id: str | None, key: str | None) -> Delivery | None:
        """Return what is known of one message, by the plain form of its tracking id or its key."""
        ...

    def deliveries(self, state: MessageState | None, after: int) -> Page[Delivery]:
        """Return a page of messages beyond the id `after`, in the order of their ids."""
        ...

    def lines(self, state: MessageState, after: int) -> Page[MessageLine]:
        """Return a page of messages in that state beyond the id `after`, in the order of ids."""
        ...

    def begun_counts(self, step: int, after: int, until: int) -> list[BegunCount]:
        """Count the messages beyond the id `after` by slots of `step` seconds."""
        ...

    def ended(self, after: int, until: int) -> list[EndedRow]:
        """Return what decided each message there that has ended, first, and what else is final."""
        ...

    def naming(self, element: str, after: int, until: int) -> set[int]:
        """Return the ids of messages there that have ended, where a notification names that.

        `element` is in lower case, and found in any.
        """
        ...

    def last_id(self) -> int:
        """Return the greatest id of a message, 0 where there is none."""
        ...

    def notifications_of(self, ids: Collection[int]) -> dict[int, list[StoredNotification]]:
        """Return the notifications of messages, by the messages' ids."""
        ...

    def exported(self, state: MessageState | None, after: int) -> Page[ExportedMessage]:
        """Return a page of messages as they are exported, beyond the id `after`."""
        ...

    def unplaced(self, after: int) -> Page[Notification]:
        """Return a page of notifications that say what became of a message, and have none."""
        ...

    def summary(self) -> Summary:
        """Count what there is."""
        ...

    def opt_outs(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return the opt-out entries of these numbers, as far as there are any."""
        ...

    def opt_outs_after(self, number: str) -> list[OptOut]:
        """Return a page of opt-out entries beyond one number, in the order of the numbers."""
        ...

    def texts(self, after: int) -> Page[tuple[int, StoredNotification]]:
        """Return a page of notifications that are about no message, as texts from handsets are.

        Each with its id.
        """
        ...

    def messages(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys."""
        ...

    # What is forgotten.

    def pruned_until(self) -> float:
        """Return the time until which doubts may be of what was pruned; 0 where nothing was."""
        ...

    def prunable(self, before: float, after: int, until: int) -> tuple[int, int]:
        """Count the messages there that may be pruned, and their notifications."""
        ...

    def prunable_notifications(self, before: float) -> int:
        """Count the notifications that have no message, and may be pruned."""
        ...

    def doubts_before(self, before: float) -> int:
        """Count the messages in doubt that were begun before then."""
        ...

    # What a sending report is held against.

    def doubts(self, after: int) -> Page[Doubt]:
        """Return a page of messages in doubt beyond the id `after`."""
        ...

    def begun(self, since: float, after: int) -> Page[BegunMessage]:
        """Return a page of messages accepted, in doubt or under way, begun since then."""
        ...

    def accepted_before(self, before: float) -> float | None:
        """Return when the last message was begun before then that was accepted; None for none.

        One that was ever in doubt is left out.
        """
        ...

    def earlier_attempts(self, after: int) -> Page[EarlierAttempt]:
        """Return a page of attempts before the last, which may have been taken."""
        ...

    def forgotten_until(self) -> float:
        """Return until when messages were begun that are forgotten; 0 for none."""
        ...

    def report_requests(self) -> list[ReportRequest]:
        """Return the last times that a report was asked for, the latest first."""
        ...
