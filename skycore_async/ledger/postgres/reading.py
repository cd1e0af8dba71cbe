"""What the tables in PostgreSQL can be asked; what changes them is in `store` and `receipts`.

Rules:

* The notifications of a message are those of its tracking id.
* What is asked of many messages is one statement, however many they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ...codes import FailureReason
from ...notifications import Notification
from ...postbacks import notification as rebuilt
from ...postgres.schema import Connection
from ..model import Delivery, MessageState, Summary
from ..settlement import StoredNotification, in_order
from ..sqlite.reading import EVENT, MESSAGE, PAGE, delivery_in, event_in

# A receipt without a tracking id can be placed nowhere, and is listed all the same.
_UNPLACED: Final = (
    "FROM skycore.events LEFT JOIN skycore.submissions USING (tracking_id)"
    " WHERE message IS NULL AND state IS NOT NULL"
)


class PostgresReading:
    """The questions to a ledger over `connection`."""

    def __init__(self, connection: Connection) -> None:
        self._execute = connection.execute

    def delivery(self, *, tracking_id: str | None, key: str | None) -> Delivery | None:
        """Return what is known of one message."""
        if key is not None:
            where = "key = %s"
        else:
            where = "id = (SELECT message FROM skycore.submissions WHERE tracking_id = %s)"
        rows = self._execute(
            f"SELECT {MESSAGE} FROM skycore.messages WHERE {where}", (key or tracking_id,)
        ).fetchall()
        return next(iter(self._deliveries(rows)), None)

    def page(self, state: MessageState | None, after: int) -> tuple[list[Delivery], int | None]:
        """Return a page of messages after that id, and the last id if there may be more."""
        only = "" if state is None else " AND state = %s"
        rows = self._execute(
            f"SELECT {MESSAGE} FROM skycore.messages WHERE id > %s{only} ORDER BY id LIMIT %s",
            (after, PAGE) if state is None else (after, state, PAGE),
        ).fetchall()
        return self._deliveries(rows), rows[-1][0] if len(rows) == PAGE else None

    def unplaced(self, after: int) -> tuple[list[Notification], int | None]:
        """Return some notifications without a message, as `page` does messages."""
        rows = self._execute(
            f"SELECT id, raw {_UNPLACED} AND id > %s ORDER BY id LIMIT %s", (after, PAGE)
        ).fetchall()
        found = [rebuilt(json.loads(raw)) for _, raw in rows]
        return found, rows[-1][0] if len(rows) == PAGE else None

    def summary(self) -> Summary:
        """Count what there is."""
        by_state = self._execute("SELECT state, count(*) FROM skycore.messages GROUP BY state")
        by_code = self._execute(
            "SELECT coalesce(code, ''), count(*) FROM skycore.messages WHERE state = 'rejected'"
            " GROUP BY 1"
        )
        by_reason = self._execute(
            "SELECT reason, count(*) FROM skycore.messages WHERE reason IS NOT NULL"
            " GROUP BY reason"
        )
        ((unplaced, opted_out),) = self._execute(
            f"SELECT (SELECT count(*) {_UNPLACED}),"
            " (SELECT count(*) FROM skycore.opt_outs WHERE out)"
        )
        return Summary(
            states={MessageState(state): count for state, count in by_state},
            codes=dict(iter(by_code)),
            reasons={FailureReason(reason): count for reason, count in by_reason},
            unplaced=unplaced,
            opted_out=opted_out,
        )

    def is_opted_out(self, number: str) -> bool:
        """Return whether a number may not be sent to."""
        found = self._execute(
            "SELECT 1 FROM skycore.opt_outs WHERE number = %s AND out", (number,)
        )
        return found.fetchone() is not None

    def _deliveries(self, rows: Sequence[Sequence[Any]]) -> list[Delivery]:
        events = self._events(row[0] for row in rows)
        return [delivery_in(row, events.get(row[0], [])) for row in rows]

    def _events(self, messages: Iterable[int]) -> dict[int, list[StoredNotification]]:
        """Return the notifications of messages by their ids, in order of time."""
        rows = self._execute(
            f"SELECT message, {_OF_EVENT} FROM skycore.messages"
            " JOIN skycore.submissions ON message = messages.id"
            "  AND submissions.tracking_id = messages.tracking_id"
            " JOIN skycore.events ON events.tracking_id = messages.tracking_id"
            " WHERE messages.id = ANY(%s)",
            (list(messages),),
        )
        events: dict[int, list[StoredNotification]] = {}
        for message, *columns in rows:
            events.setdefault(message, []).append(event(columns))
        return {message: in_order(known) for message, known in events.items()}


_OF_EVENT: Final = ", ".join(f"events.{column}" for column in EVENT.split(", "))


def event(row: Sequence[Any]) -> StoredNotification:
    """Make an event of the columns that EVENT names."""
    return event_in((bytes(row[0]), *row[1:]))
