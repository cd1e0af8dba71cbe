"""The queries that both databases answer by the same SQL; see `LedgerReader` for what they return.

Rule: what is the same but for the `Dialect` stands here, and only what differs in a database's own
reader.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeVar

from ..notifications import Notification
from .columns import ATTEMPT, NOTIFICATION, OPT_OUT, Columns
from .dialect import Dialect
from .export import EXPORT_PAGE, EXPORTED, ExportedMessage, exported
from .list_statements import ListReader
from .model import Delivery, EarlierAttempt, MessageRecord, MessageState, StoredNotification
from .opt_outs import OptOut
from .pruning import NEAR
from .reader import BEGUN, IS_BEGUN, IS_SURE, LONG_PAGE, REPORT_REQUESTS, Page, page_of
from .report_values import BegunMessage, ReportRequest
from .settlement import delivery_of, rebuilt

T = TypeVar("T")

PAGE: Final = 500  # rows that are read at a time


class SharedReader(ListReader):
    """The part of a `LedgerReader` that is the same in either database.

    `_messages` is what messages are read from, `_columns` those of a message, and `_page` how many
    messages are read at a time with their notifications.
    """

    _dialect: Dialect
    _messages: str
    _columns: Columns[MessageRecord]
    _page: int = PAGE

    @abstractmethod
    def notifications_of(self, ids: Collection[int]) -> dict[int, list[StoredNotification]]:
        """Return the notifications of messages, by the messages' ids."""

    @abstractmethod
    def _times_of(self, ids: Collection[int]) -> Sequence[Sequence[Any]]:
        """Return the first time of each state of messages: a message's id, the state, the time."""

    @abstractmethod
    def _each(self, make: Callable[[Any], T], rows: Sequence[Any]) -> list[T]:
        """Return what `make` returns for each row."""

    def deliveries(self, state: MessageState | None, after: int) -> Page[Delivery]:
        """Return a page of messages beyond the id `after`, in the order of their ids."""
        where, until, own = self._where(state, after)
        rows = self._execute(
            f"SELECT {self._columns.listed} {where} ORDER BY id LIMIT {self._page}", (after, *own)
        ).fetchall()
        return page_of(self._deliveries(rows), rows, self._page, until=until)

    def _deliveries(self, rows: Sequence[Any]) -> list[Delivery]:
        records = [self._columns.value(row) for row in rows]
        notifications = self.notifications_of([record.id for record in records])
        return self._each(lambda each: delivery_of(each, notifications.get(each.id, ())), records)

    def exported(self, state: MessageState | None, after: int) -> Page[ExportedMessage]:
        """Return a page of messages as they are exported, beyond the id `after`."""
        where, until, own = self._where(state, after)
        rows = self._execute(
            f"SELECT {EXPORTED} {where} ORDER BY id LIMIT {EXPORT_PAGE}", (after, *own)
        ).fetchall()
        times = self._times_of([row[0] for row in rows])
        return page_of(exported(rows, times), rows, EXPORT_PAGE, until=until)

    def unplaced(self, after: int) -> Page[Notification]:
        """Return a page of notifications that tell the state of an unknown message."""
        rows = self._execute(
            f"SELECT id, {NOTIFICATION.of('events')} {self._dialect.unplaced}"
            f" AND id > {self._dialect.value} ORDER BY id LIMIT {PAGE}",
            (after,),
        ).fetchall()
        found = self._each(lambda row: rebuilt(NOTIFICATION.value(row[1:])), rows)
        return page_of(found, rows, PAGE)

    def texts(self, after: int) -> Page[tuple[int, StoredNotification]]:
        """Return a page of notifications about no message, such as texts, each with its id."""
        rows = self._execute(
            f"SELECT id, {NOTIFICATION.of('events')} FROM {self._dialect.schema}events"
            " WHERE tracking_id IS NULL AND state IS NULL"
            f" AND id > {self._dialect.value} ORDER BY id LIMIT {PAGE}",
            (after,),
        ).fetchall()
        found = [(id_, NOTIFICATION.value(columns)) for id_, *columns in rows]
        return page_of(found, rows, PAGE)

    def opt_outs_after(self, number: str) -> list[OptOut]:
        """Return a page of opt-out entries beyond one number, in the order of the numbers."""
        rows = self._execute(
            f"SELECT {OPT_OUT.listed} FROM {self._dialect.schema}opt_outs"
            f" WHERE number > {self._dialect.value} ORDER BY number LIMIT {LONG_PAGE}",
            (number,),
        )
        return list(map(OPT_OUT.value, rows))

    # What is forgotten.

    def pruned_until(self) -> float:
        """Return the time up to which pruned messages matter to doubts; 0 if none was pruned."""
        statement = f"SELECT max(until) FROM {self._dialect.schema}pruned"
        (until,) = self._execute(statement).fetchone()
        return 0.0 if until is None else until + NEAR

    def forgotten_until(self) -> float:
        """Return when the last forgotten message was begun, which was pruned."""
        return self.pruned_until()

    def prunable(self, before: float, after: int, until: int) -> tuple[int, int]:
        """Count the prunable messages in that span of ids, and their notifications."""
        value = self._dialect.value
        where = (
            f"messages.id > {value} AND messages.id <= {value} AND {self._dialect.may_be_pruned}"
        )
        messages, notifications = (
            self._count(f"FROM {self._messages} {joined} WHERE {where}", after, until, before)
            for joined in ("", self._dialect.their_notifications)
        )
        return messages, notifications

    def prunable_notifications(self, before: float) -> int:
        """Count the prunable notifications that have no message."""
        of_submissions = (
            f"FROM {self._dialect.schema}events"
            f" WHERE tracking_id IN (SELECT tracking_id {self._dialect.old_submissions})"
        )
        return self._count(self._dialect.old_texts, before) + self._count(of_submissions, before)

    def _count(self, what: str, *values: object) -> int:
        return int(self._execute(f"SELECT count(*) {what}", values).fetchone()[0])

    # What sending reports are compared with.

    def begun(self, since: float, after: int) -> Page[BegunMessage]:
        """Return a page of messages accepted, in doubt or under way, begun since then."""
        value = self._dialect.value
        rows = self._execute(
            f"SELECT {BEGUN} FROM {self._messages} WHERE id > {value} AND started_at >= {value}"
            f" AND {IS_BEGUN} AND NOT {self._dialect.is_pruned} ORDER BY id LIMIT {LONG_PAGE}",
            (after, since),
        ).fetchall()
        return page_of(list(map(BegunMessage._make, rows)), rows, LONG_PAGE)

    def accepted_before(self, before: float) -> float | None:
        """Return when the last accepted message before then was begun; None if there is none."""
        (at,) = self._execute(
            f"SELECT max(started_at) FROM {self._messages}"
            f" WHERE started_at < {self._dialect.value} AND {IS_SURE}"
            f" AND NOT {self._dialect.is_pruned}",
            (before,),
        ).fetchone()
        return None if at is None else float(at)

    def earlier_attempts(self, after: int) -> Page[EarlierAttempt]:
        """Return a page of earlier attempts that may have been taken."""
        rows = self._execute(
            f"SELECT {ATTEMPT.of('attempts')} FROM {self._dialect.schema}attempts"
            f" WHERE attempts.id > {self._dialect.value} AND attempts.state <> 'not_sent'"
            f" ORDER BY attempts.id LIMIT {PAGE}",
            (after,),
        ).fetchall()
        return page_of(list(map(ATTEMPT.value, rows)), rows, PAGE)

    def report_requests(self) -> list[ReportRequest]:
        """Return the latest report requests, the last one first."""
        rows = self._execute(
            f"SELECT {REPORT_REQUESTS.format(self._dialect.schema)} LIMIT {PAGE}"
        ).fetchall()
        return [ReportRequest(at, bool(refused), pause) for at, refused, pause in rows]
