"""What the tables in SQLite can be asked; what changes them is in `store`.

Strategy: many rows are asked for in one statement, see `rows`.  A message is looked for by its
key, and, where some were pruned, by the name that its key has then as well.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from ...notifications import Notification
from .. import pruning
from ..columns import ATTEMPT, NOTIFICATION, OPT_OUT, TOLD, Columns, told_state
from ..counts import PROVEN, summary_of
from ..export import EXPORT_PAGE, EXPORTED, ExportedMessage, exported
from ..list_statements import ListReader, ListStatements
from ..model import (
    Delivery,
    EarlierAttempt,
    MessageRecord,
    MessageState,
    StoredNotification,
    Summary,
    ToldState,
)
from ..opt_outs import OptOut
from ..pruning import IS_PRUNED, NEAR, by_key, pruned_name
from ..reader import (
    BEGUN,
    IS_BEGUN,
    IS_SURE,
    LONG_PAGE,
    REPORT_REQUESTS,
    SPAN,
    Page,
    page_of,
    span_after,
)
from ..report_values import BegunMessage, Doubt, ReportRequest
from ..settlement import delivery_of, rebuilt
from .rows import StatementRunner

MESSAGE: Final = Columns(MessageRecord, without=("session", "attempt"))
# What may have a submission that is not known, see `settlement.match_doubts`; the index
# `candidates` is of these.
CANDIDATE: Final = "(state IN ('sending', 'in_doubt') OR doubted)"

_BYTES: Final = "x'"  # what stands before digits that are bytes
_IS_PRUNED: Final = IS_PRUNED.format(_BYTES)
MAY_BE_PRUNED: Final = pruning.MAY_BE_PRUNED.format(_BYTES, "?")
# What has no message: texts and what has no tracking id, and submissions whose notifications are
# all as old.
OLD_TEXTS: Final = "FROM events WHERE tracking_id IS NULL AND received < ?"
OLD_SUBMISSIONS: Final = (
    "FROM submissions WHERE message IS NULL AND NOT EXISTS (SELECT 1 FROM events"
    "  WHERE events.tracking_id = submissions.tracking_id AND received >= ?)"
)
_THEIR_NOTIFICATIONS: Final = (
    "JOIN submissions ON message = messages.id AND submissions.tracking_id = messages.plain_id"
    " JOIN events ON events.tracking_id = messages.plain_id"
)

_PAGE: Final = 500  # rows that an iteration reads at a time
_SHORT_PAGE: Final = 100  # ... of those with their notifications, which take long to make
_BY_KEYS: Final = (
    f"SELECT {MESSAGE.of('messages')} FROM (VALUES {{}}) JOIN messages ON key = column1"
)
_OF_MESSAGES: Final = (
    f"FROM (VALUES {{}}) JOIN messages ON messages.id = column1 {_THEIR_NOTIFICATIONS}"
)
_NOTIFICATIONS: Final = f"SELECT messages.id, {NOTIFICATION.of('events')} {_OF_MESSAGES}"
_TOLD: Final = f"SELECT messages.id, {TOLD} {_OF_MESSAGES}"
_TIMES: Final = (
    f"SELECT messages.id, events.state, min(happened) {_OF_MESSAGES}"
    " WHERE events.state IS NOT NULL GROUP BY messages.id, events.state"
)
# A receipt without a tracking id can be placed nowhere, and is listed all the same.
_UNPLACED: Final = (
    "FROM events LEFT JOIN submissions USING (tracking_id)"
    " WHERE message IS NULL AND state IS NOT NULL"
)
# The same, begun with the submissions that have no message, which are few, and have an index.
COUNT_UNPLACED: Final = (
    "SELECT (SELECT count(*) FROM events WHERE tracking_id IS NULL AND state IS NOT NULL)"
    " + (SELECT count(*) FROM submissions CROSS JOIN events USING (tracking_id)"
    "  WHERE message IS NULL AND state IS NOT NULL)"
)


_LISTS: Final = ListStatements(
    messages="messages",
    schema="",
    value="?",
    named="json_extract(events.raw, '$.SPID', '$.BODY.SPID', '$.STATUS', '$.BODY.STATUS')",
    integer="CAST({} AS INTEGER)",
)


class SQLiteReader(ListReader, StatementRunner):
    """The questions to a ledger over `connection`; see `LedgerReader`."""

    _lists = _LISTS

    _is_pruned: bool | None = None  # which is asked once in a transaction that writes

    def is_pruned(self) -> bool:
        """Return whether anything was ever pruned."""
        if self._is_pruned is None:
            self._is_pruned = self._execute("SELECT 1 FROM pruned").fetchone() is not None
        return self._is_pruned

    def messages(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys."""
        names = list(map(pruned_name, keys)) if self.is_pruned() else []
        found = self._over(_BY_KEYS, [(key,) for key in (*keys, *names)])
        return by_key(keys, map(MESSAGE.value, found))

    def opt_outs(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return the opt-out entries of these numbers, as far as there are any."""
        found = self._over(
            f"SELECT {OPT_OUT.listed} FROM (VALUES {{}}) JOIN opt_outs ON number = column1",
            [(number,) for number in numbers],
        )
        return {each.number: each for each in map(OPT_OUT.value, found)}

    def opt_outs_after(self, number: str) -> list[OptOut]:
        """Return a page of opt-out entries beyond one number, in the order of the numbers."""
        found = self._execute(
            f"SELECT {OPT_OUT.listed} FROM opt_outs WHERE number > ?"
            f" ORDER BY number LIMIT {LONG_PAGE}",
            (number,),
        )
        return list(map(OPT_OUT.value, found))

    def notifications_of(self, ids: Collection[int]) -> dict[int, list[StoredNotification]]:
        """Return the notifications of messages, by the messages' ids."""
        found: dict[int, list[StoredNotification]] = {}
        for id_, *columns in self._over(_NOTIFICATIONS, [(id_,) for id_ in ids]):
            found.setdefault(id_, []).append(NOTIFICATION.value(columns))
        return found

    def told_of(self, ids: Collection[int]) -> dict[int, list[ToldState]]:
        """Return what notifications tell of how far messages got, by the messages' ids."""
        found: dict[int, list[ToldState]] = {}
        for id_, *columns in self._over(_TOLD, [(id_,) for id_ in ids]):
            found.setdefault(id_, []).append(told_state(*columns))
        return found

    def delivery(self, *, plain_id: str | None, key: str | None) -> Delivery | None:
        """Return what is known of one message."""
        name = key or plain_id or ""
        if key is not None:
            where = "key IN (?, ?)"
        else:
            where = "id IN (SELECT message FROM submissions WHERE tracking_id IN (?, ?))"
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM messages WHERE {where}",
            (name, pruned_name(name) if self.is_pruned() else name),
        ).fetchall()
        return next(iter(self._deliveries(rows)), None)

    def deliveries(self, state: MessageState | None, after: int) -> Page[Delivery]:
        """Return a page of messages beyond the id `after`, in the order of their ids."""
        where, until, own = self._where(state, after)
        rows = self._execute(
            f"SELECT {MESSAGE.listed} {where} ORDER BY id LIMIT {_SHORT_PAGE}", (after, *own)
        ).fetchall()
        return page_of(self._deliveries(rows), rows, _SHORT_PAGE, until=until)

    def _where(
        self, state: MessageState | None, after: int
    ) -> tuple[str, int | None, tuple[str, ...]]:
        if state is None:
            return "FROM messages WHERE id > ?", None, ()
        own = (state.value,)
        if state in {MessageState.SENDING, MessageState.IN_DOUBT} and self._held(state) <= SPAN:
            # By itself, SQLite would read all messages in the order of their ids.
            source = f"FROM messages INDEXED BY candidates WHERE {CANDIDATE}"
            return f"{source} AND id > ? AND state = ?", None, own
        until, last = span_after(after, SPAN, self.last_id())
        source = f"FROM messages WHERE id > ? AND state = ? AND id <= {until}"
        return source, last, own

    def _held(self, state: MessageState) -> int:
        found = self._one("SELECT sum(messages) FROM counts WHERE state = ?", state.value)
        return int(found[0] or 0)

    def unplaced(self, after: int) -> Page[Notification]:
        """Return a page of notifications that say what became of a message, and have none."""
        rows = self._execute(
            f"SELECT id, {NOTIFICATION.of('events')} {_UNPLACED} AND id > ?"
            f" ORDER BY id LIMIT {_PAGE}",
            (after,),
        ).fetchall()
        found = self._each(lambda row: rebuilt(NOTIFICATION.value(row[1:])), rows)
        return page_of(found, rows, _PAGE)

    def texts(self, after: int) -> Page[tuple[int, StoredNotification]]:
        """Return a page of notifications that are about no message, as texts from handsets are."""
        rows = self._execute(
            f"SELECT id, {NOTIFICATION.of('events')} FROM events"
            " WHERE tracking_id IS NULL AND state IS NULL AND id > ?"
            f" ORDER BY id LIMIT {_PAGE}",
            (after,),
        ).fetchall()
        found = [(id_, NOTIFICATION.value(columns)) for id_, *columns in rows]
        return page_of(found, rows, _PAGE)

    def exported(self, state: MessageState | None, after: int) -> Page[ExportedMessage]:
        """Return a page of messages as they are exported, beyond the id `after`."""
        where, until, own = self._where(state, after)
        rows = self._execute(
            f"SELECT {EXPORTED} {where} ORDER BY id LIMIT {EXPORT_PAGE}", (after, *own)
        ).fetchall()
        times = self._over(_TIMES, [(row[0],) for row in rows])
        return page_of(exported(rows, times), rows, EXPORT_PAGE, until=until)

    # What is forgotten.

    def pruned_until(self) -> float:
        """Return the time until which doubts may be of what was pruned; 0 where nothing was."""
        (until,) = self._one("SELECT max(until) FROM pruned")
        return 0.0 if until is None else until + NEAR

    def prunable(self, before: float, after: int, until: int) -> tuple[int, int]:
        """Count the messages there that may be pruned, and their notifications."""
        there = f"messages.id > ? AND messages.id <= ? AND {MAY_BE_PRUNED}"
        messages, notifications = (
            self._count(f"FROM messages {joined} WHERE {there}", after, until, before)
            for joined in ("", _THEIR_NOTIFICATIONS)
        )
        return messages, notifications

    def prunable_notifications(self, before: float) -> int:
        """Count the notifications that have no message, and may be pruned."""
        others = f"FROM events WHERE tracking_id IN (SELECT tracking_id {OLD_SUBMISSIONS})"
        return self._count(OLD_TEXTS, before) + self._count(others, before)

    def doubts_before(self, before: float) -> int:
        """Count the messages in doubt that were begun before then."""
        return self._count(
            f"FROM messages WHERE {CANDIDATE} AND state = 'in_doubt' AND started_at < ?", before
        )

    def _count(self, what: str, *values: object) -> int:
        return int(self._one(f"SELECT count(*) {what}", *values)[0])

    # What a sending report is held against.

    def doubts(self, after: int) -> Page[Doubt]:
        """Return a page of messages in doubt, which nobody sends."""
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM messages"
            f" WHERE id > ? AND state = 'in_doubt' AND {CANDIDATE} ORDER BY id LIMIT {_PAGE}",
            (after,),
        ).fetchall()
        found = [Doubt(record=MESSAGE.value(row), is_under_way=False) for row in rows]
        return page_of(found, rows, _PAGE)

    def begun(self, since: float, after: int) -> Page[BegunMessage]:
        """Return a page of messages accepted, in doubt or under way, begun since then."""
        rows = self._execute(
            f"SELECT {BEGUN} FROM messages WHERE id > ? AND started_at >= ?"
            f" AND {IS_BEGUN} AND NOT {_IS_PRUNED} ORDER BY id LIMIT {LONG_PAGE}",
            (after, since),
        ).fetchall()
        found = list(map(BegunMessage._make, rows))
        return page_of(found, rows, LONG_PAGE)

    def accepted_before(self, before: float) -> float | None:
        """Return when the last message was begun before then that was accepted; None for none."""
        (at,) = self._one(
            "SELECT max(started_at) FROM messages"
            f" WHERE started_at < ? AND {IS_SURE} AND NOT {_IS_PRUNED}",
            before,
        )
        return None if at is None else float(at)

    def earlier_attempts(self, after: int) -> Page[EarlierAttempt]:
        """Return a page of attempts before the last, which may have been taken."""
        rows = self._execute(
            f"SELECT {ATTEMPT.of('attempts')} FROM attempts"
            " WHERE attempts.id > ? AND attempts.state <> 'not_sent'"
            f" ORDER BY attempts.id LIMIT {_PAGE}",
            (after,),
        ).fetchall()
        return page_of(list(map(ATTEMPT.value, rows)), rows, _PAGE)

    def forgotten_until(self) -> float:
        """Return until when messages were begun that are forgotten, which were pruned."""
        return self.pruned_until()

    def report_requests(self) -> list[ReportRequest]:
        """Return the last times that a report was asked for, the latest first."""
        rows = self._execute(f"SELECT {REPORT_REQUESTS} LIMIT {_PAGE}").fetchall()
        return [
            each._replace(refused=bool(each.refused)) for each in map(ReportRequest._make, rows)
        ]

    def summary(self) -> Summary:
        """Return how many there are of everything, of counts that are kept or of what is few."""
        return summary_of(
            self._execute("SELECT * FROM counts").fetchall(),
            self._execute(PROVEN.format(attempts="attempts", messages="messages")).fetchall(),
            unplaced=self._one(COUNT_UNPLACED)[0],
            opted_out=self._count("FROM opt_outs WHERE out"),
        )

    def _deliveries(self, rows: Sequence[Any]) -> list[Delivery]:
        records = [MESSAGE.value(row) for row in rows]
        notifications = self.notifications_of([record.id for record in records])
        return self._each(lambda each: delivery_of(each, notifications.get(each.id, ())), records)
