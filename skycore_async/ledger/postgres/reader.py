"""What the tables in PostgreSQL can be asked; what changes them is in `store`.

Rules:

* The notifications of a message are those of its tracking id.
* What is asked of many messages is one statement, however many they are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, Final, LiteralString

from ...notifications import Notification
from ...postgres.schema import Connection
from .. import pruning
from ..columns import ATTEMPT, NOTIFICATION, OPT_OUT, Columns
from ..counts import KIND, PROVEN, summary_of
from ..export import EXPORT_PAGE, EXPORTED, ExportedMessage, exported
from ..list_statements import ListReader, ListStatements
from ..model import (
    Delivery,
    EarlierAttempt,
    MessageRecord,
    MessageState,
    StoredNotification,
    Summary,
)
from ..opt_outs import OptOut
from ..pruning import NEAR, by_key
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

MESSAGE: Final = Columns(MessageRecord)

# The messages as they are, written or not: what an expired session was sending is in doubt.
SEEN_MESSAGES: Final = f"""(
SELECT {", ".join(name for name in MESSAGE.names if name != "state")},
    CASE WHEN state = 'sending' AND NOT EXISTS (
        SELECT 1 FROM skycore.sessions WHERE sessions.id = session AND alive_until > now())
    THEN 'in_doubt' ELSE state END AS state
FROM skycore.messages) AS messages"""

# Of a message in doubt: whoever sends it may be alive, and learn what came of it.
MAY_STILL_END: Final = (
    "ended_at IS NULL AND EXISTS (SELECT FROM skycore.sessions"
    "  WHERE sessions.id = session AND alive_until > clock_timestamp())"
)

_BYTES: Final = "bytea '\\x"  # what stands before digits that are bytes
_IS_PRUNED: Final = pruning.IS_PRUNED.format(_BYTES)
MAY_BE_PRUNED: Final = pruning.MAY_BE_PRUNED.format(_BYTES, "%s")
# What has no message: texts and what has no tracking id, and submissions whose notifications are
# all as old.
OLD_TEXTS: Final = "FROM skycore.events WHERE tracking_id IS NULL AND received < %s"
OLD_SUBMISSIONS: Final = (
    "FROM skycore.submissions WHERE message IS NULL AND NOT EXISTS (SELECT FROM skycore.events"
    "  WHERE events.tracking_id = submissions.tracking_id AND received >= %s)"
)
_THEIR_NOTIFICATIONS: Final = (
    "JOIN skycore.submissions ON message = messages.id"
    " AND submissions.tracking_id = messages.plain_id"
    " JOIN skycore.events ON events.tracking_id = messages.plain_id"
)

_PAGE: Final = 500  # rows that an iteration reads at a time
OF_MESSAGES: Final = f"FROM skycore.messages {_THEIR_NOTIFICATIONS} WHERE messages.id = ANY(%s)"
_NOTIFICATIONS: Final = f"SELECT messages.id, {NOTIFICATION.of('events')} {OF_MESSAGES}"
_TIMES: Final = f"""
SELECT messages.id, events.state, min(happened) {OF_MESSAGES} AND events.state IS NOT NULL
GROUP BY messages.id, events.state
"""
# A receipt without a tracking id can be placed nowhere, and is listed all the same.
_UNPLACED: Final = (
    "FROM skycore.events LEFT JOIN skycore.submissions USING (tracking_id)"
    " WHERE message IS NULL AND state IS NOT NULL"
)


def named(column: LiteralString) -> LiteralString:
    """Return the condition that a column has one of `names`, or the name of it once pruned.

    The latter are looked for where something was pruned, and only there.
    """
    return (
        f"{column} = ANY(CASE WHEN EXISTS (SELECT FROM skycore.pruned)"
        " THEN %(names)s::text[] || ARRAY(SELECT skycore.pruned_name(given.name)"
        "  FROM unnest(%(names)s::text[]) AS given (name))"
        " ELSE %(names)s::text[] END)"
    )


@cache
def _lists_over(messages: str) -> ListStatements:
    return ListStatements(
        messages=messages,
        schema="skycore.",
        value="%s",
        named="json_build_array(events.raw::json -> 'SPID', events.raw::json #> '{BODY,SPID}',"
        " events.raw::json -> 'STATUS', events.raw::json #> '{BODY,STATUS}')::text",
        integer="floor({})::bigint",
    )


class PostgresReader(ListReader):
    """The questions to a ledger over `connection`; see `LedgerReader`.

    `messages` is what its messages are read from: their table, or `SEEN_MESSAGES`.
    """

    def __init__(self, connection: Connection, *, messages: str = "skycore.messages") -> None:
        self._execute: Any = connection.execute
        self._messages = messages
        self._lists = _lists_over(messages)

    def messages(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys."""
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM {self._messages} WHERE {named('key')}",
            {"names": list(keys)},
        )
        return by_key(keys, map(MESSAGE.value, rows))

    def notifications_of(self, ids: Collection[int]) -> dict[int, list[StoredNotification]]:
        """Return the notifications of messages, by the messages' ids."""
        found: dict[int, list[StoredNotification]] = {}
        for id_, *columns in self._execute(_NOTIFICATIONS, (list(ids),)):
            found.setdefault(id_, []).append(NOTIFICATION.value(columns))
        return found

    def delivery(self, *, plain_id: str | None, key: str | None) -> Delivery | None:
        """Return what is known of one message."""
        if key is not None:
            where = named("key")
        else:
            where = f"id IN (SELECT message FROM skycore.submissions WHERE {named('tracking_id')})"
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM {self._messages} WHERE {where}",
            {"names": [key or plain_id]},
        ).fetchall()
        return next(iter(self._deliveries(rows)), None)

    def deliveries(self, state: MessageState | None, after: int) -> Page[Delivery]:
        """Return a page of messages beyond the id `after`, in the order of their ids."""
        where, until, own = self._where(state, after)
        rows = self._execute(
            f"SELECT {MESSAGE.listed} {where} ORDER BY id LIMIT {_PAGE}", (after, *own)
        ).fetchall()
        return page_of(self._deliveries(rows), rows, _PAGE, until=until)

    def _where(
        self, state: MessageState | None, after: int
    ) -> tuple[str, int | None, tuple[str, ...]]:
        source = f"FROM {self._messages} WHERE id > %s"
        if state is None:
            return source, None, ()
        until, last = span_after(after, SPAN, self.last_id())
        return f"{source} AND state = %s AND id <= {until}", last, (state.value,)

    def unplaced(self, after: int) -> Page[Notification]:
        """Return a page of notifications that say what became of a message, and have none."""
        rows = self._execute(
            f"SELECT id, {NOTIFICATION.of('events')} {_UNPLACED} AND id > %s"
            f" ORDER BY id LIMIT {_PAGE}",
            (after,),
        ).fetchall()
        found = [rebuilt(NOTIFICATION.value(columns)) for _, *columns in rows]
        return page_of(found, rows, _PAGE)

    def texts(self, after: int) -> Page[tuple[int, StoredNotification]]:
        """Return a page of notifications that are about no message, as texts from handsets are."""
        rows = self._execute(
            f"SELECT id, {NOTIFICATION.of('events')} FROM skycore.events"
            " WHERE tracking_id IS NULL AND state IS NULL AND id > %s"
            f" ORDER BY id LIMIT {_PAGE}",
            (after,),
        ).fetchall()
        found = [(id_, NOTIFICATION.value(columns)) for id_, *columns in rows]
        return page_of(found, rows, _PAGE)

    def opt_outs(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return the opt-out entries of these numbers, as far as there are any."""
        rows = self._execute(
            f"SELECT {OPT_OUT.listed} FROM skycore.opt_outs WHERE number = ANY(%s)",
            (list(numbers),),
        )
        return {each.number: each for each in map(OPT_OUT.value, rows)}

    def opt_outs_after(self, number: str) -> list[OptOut]:
        """Return a page of opt-out entries beyond one number, in the order of the numbers."""
        rows = self._execute(
            f"SELECT {OPT_OUT.listed} FROM skycore.opt_outs WHERE number > %s"
            f" ORDER BY number LIMIT {LONG_PAGE}",
            (number,),
        )
        return list(map(OPT_OUT.value, rows))

    def exported(self, state: MessageState | None, after: int) -> Page[ExportedMessage]:
        """Return a page of messages as they are exported, beyond the id `after`."""
        where, until, own = self._where(state, after)
        rows = self._execute(
            f"SELECT {EXPORTED} {where} ORDER BY id LIMIT {EXPORT_PAGE}", (after, *own)
        ).fetchall()
        times = self._execute(_TIMES, ([row[0] for row in rows],))
        return page_of(exported(rows, times), rows, EXPORT_PAGE, until=until)

    # What is forgotten.

    def pruned_until(self) -> float:
        """Return the time until which doubts may be of what was pruned; 0 where nothing was."""
        (until,) = self._execute("SELECT max(until) FROM skycore.pruned").fetchone()
        return 0.0 if until is None else until + NEAR

    def prunable(self, before: float, after: int, until: int) -> tuple[int, int]:
        """Count the messages there that may be pruned, and their notifications."""
        there = f"messages.id > %s AND messages.id <= %s AND {MAY_BE_PRUNED}"
        messages, notifications = (
            self._count(f"FROM {self._messages} {joined} WHERE {there}", after, until, before)
            for joined in ("", _THEIR_NOTIFICATIONS)
        )
        return messages, notifications

    def prunable_notifications(self, before: float) -> int:
        """Count the notifications that have no message, and may be pruned."""
        others = f"FROM skycore.events WHERE tracking_id IN (SELECT tracking_id {OLD_SUBMISSIONS})"
        return self._count(OLD_TEXTS, before) + self._count(others, before)

    def doubts_before(self, before: float) -> int:
        """Count the messages in doubt that were begun before then."""
        return self._count(
            f"FROM {self._messages} WHERE state = 'in_doubt' AND started_at < %s", before
        )

    def _count(self, what: str, *values: object) -> int:
        return int(self._execute(f"SELECT count(*) {what}", values).fetchone()[0])

    # What a sending report is held against.

    def doubts(self, after: int) -> Page[Doubt]:
        """Return a page of messages in doubt, and whether their senders may still be alive."""
        rows = self._execute(
            f"SELECT {MESSAGE.listed}, {MAY_STILL_END}"
            f" FROM {self._messages} WHERE id > %s AND state = 'in_doubt'"
            f" ORDER BY id LIMIT {_PAGE}",
            (after,),
        ).fetchall()
        found = [
            Doubt(record=MESSAGE.value(row), is_under_way=is_under_way)
            for *row, is_under_way in rows
        ]
        return page_of(found, rows, _PAGE)

    def begun(self, since: float, after: int) -> Page[BegunMessage]:
        """Return a page of messages accepted, in doubt or under way, begun since then."""
        rows = self._execute(
            f"SELECT {BEGUN} FROM {self._messages} WHERE id > %s"
            f" AND started_at >= %s AND {IS_BEGUN} AND NOT {_IS_PRUNED}"
            f" ORDER BY id LIMIT {LONG_PAGE}",
            (after, since),
        ).fetchall()
        found = list(map(BegunMessage._make, rows))
        return page_of(found, rows, LONG_PAGE)

    def accepted_before(self, before: float) -> float | None:
        """Return when the last message was begun before then that was accepted; None for none."""
        (at,) = self._execute(
            f"SELECT max(started_at) FROM {self._messages}"
            f" WHERE started_at < %s AND {IS_SURE} AND NOT {_IS_PRUNED}",
            (before,),
        ).fetchone()
        return None if at is None else float(at)

    def earlier_attempts(self, after: int) -> Page[EarlierAttempt]:
        """Return a page of attempts before the last, which may have been taken."""
        rows = self._execute(
            f"SELECT {ATTEMPT.of('attempts')} FROM skycore.attempts"
            " WHERE attempts.id > %s AND attempts.state <> 'not_sent'"
            f" ORDER BY attempts.id LIMIT {_PAGE}",
            (after,),
        ).fetchall()
        return page_of(list(map(ATTEMPT.value, rows)), rows, _PAGE)

    def forgotten_until(self) -> float:
        """Return until when messages were begun that are forgotten, which were pruned."""
        return self.pruned_until()

    def report_requests(self) -> list[ReportRequest]:
        """Return the last times that a report was asked for, the latest first."""
        statement = f"SELECT {REPORT_REQUESTS.replace('FROM ', 'FROM skycore.')} LIMIT {_PAGE}"
        return list(map(ReportRequest._make, self._execute(statement).fetchall()))

    def summary(self) -> Summary:
        """Count what there is."""
        # No counts are kept, which all who write would wait for one after the other.
        rows = self._execute(f"SELECT {KIND}, count(*) FROM {self._messages} GROUP BY 1, 2, 3, 4")
        proven = PROVEN.format(attempts="skycore.attempts", messages="skycore.messages")
        return summary_of(
            rows.fetchall(),
            self._execute(proven).fetchall(),
            unplaced=self._count(_UNPLACED),
            opted_out=self._count("FROM skycore.opt_outs WHERE out"),
        )

    def _deliveries(self, rows: Sequence[Any]) -> list[Delivery]:
        records = [MESSAGE.value(row) for row in rows]
        notifications = self.notifications_of([record.id for record in records])
        return [delivery_of(record, notifications.get(record.id, ())) for record in records]
