"""The protocol of a reader: what can be read from a ledger's tables, in either database."""

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

# What both databases read by the same SQL.
LONG_PAGE: Final = 5000  # of rows that are short, and of which all are read
SPAN: Final = 2000  # ids that one query looks at, however few of them it returns
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
REPORT_REQUESTS: Final = "asked_at, refused, retry_after FROM {}look_ups ORDER BY asked_at DESC"


class Unreadable(Exception):
    """It cannot be read over the second connection, so the writing one has to read it."""


@attrs.frozen
class Page(Generic[T_co]):
    """Some of many rows; `last` is the id to go on from, None if there are no more."""

    rows: Sequence[T_co]
    last: int | None


def page_of(
    found: Sequence[T], rows: Sequence[Sequence[Any]], size: int, *, until: int | None = None
) -> Page[T]:
    """Return a page of what was found in rows, which begin with their ids; a full page has `size`.

    `until` is the id up to which rows were looked for, if there may be more beyond it.
    """
    return Page(found, rows[-1][0] if len(rows) == size else until)


def span_after(after: int, size: int, last_id: int) -> tuple[int, int | None]:
    """Return the last id of a span of `size` ids, and the id to go on from; None at the end."""
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
        """Return the final notifications of ended messages there, each deciding one first."""
        ...

    def naming(self, element: str, after: int, until: int) -> set[int]:
        """Return the ids of ended messages there with a notification that has this element.

        `element` is in lower case, and matches any case.
        """
        ...

    def last_id(self) -> int:
        """Return the greatest id of a message, 0 if there is none."""
        ...

    def last_begun(self) -> int:
        """Return the turn of the attempt that was begun last, see `attempts`; 0 without any."""
        ...

    def notifications_of(self, ids: Collection[int]) -> dict[int, list[StoredNotification]]:
        """Return the notifications of messages, by the messages' ids."""
        ...

    def exported(self, state: MessageState | None, after: int) -> Page[ExportedMessage]:
        """Return a page of messages as they are exported, beyond the id `after`."""
        ...

    def unplaced(self, after: int) -> Page[Notification]:
        """Return a page of notifications that tell the state of an unknown message."""
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
        """Return a page of notifications about no message, such as texts, each with its id."""
        ...

    def messages(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys."""
        ...

    # What is forgotten.

    def pruned_until(self) -> float:
        """Return the time up to which pruned messages matter to doubts; 0 if none was pruned."""
        ...

    def prunable(self, before: float, after: int, until: int) -> tuple[int, int]:
        """Count the prunable messages in that span of ids, and their notifications."""
        ...

    def prunable_notifications(self, before: float) -> int:
        """Count the prunable notifications that have no message."""
        ...

    def doubts_before(self, before: float) -> int:
        """Count the messages in doubt that were begun before then."""
        ...

    # What sending reports are compared with.

    def doubts(self, after: int) -> Page[Doubt]:
        """Return a page of messages in doubt beyond the id `after`."""
        ...

    def begun(self, since: float, after: int) -> Page[BegunMessage]:
        """Return a page of messages accepted, in doubt or under way, begun since then."""
        ...

    def accepted_before(self, before: float) -> float | None:
        """Return when the last accepted message before then was begun; None if there is none.

        Messages that were ever in doubt are left out.
        """
        ...

    def earlier_attempts(self, after: int) -> Page[EarlierAttempt]:
        """Return a page of earlier attempts that may have been taken."""
        ...

    def forgotten_until(self) -> float:
        """Return when the last forgotten message was begun; 0 if none was forgotten."""
        ...

    def report_requests(self) -> list[ReportRequest]:
        """Return the latest report requests, the last one first."""
        ...
