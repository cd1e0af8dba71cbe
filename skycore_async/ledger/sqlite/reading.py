"""What a ledger's tables can be asked; what changes them is in `store`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from ...codes import DeliveryState, FailureReason
from ...notifications import Notification
from ...postbacks import notification as rebuilt
from ..model import Delivery, MessageState, Submission, Summary
from ..settlement import StoredNotification, in_order

PAGE: Final = 500  # rows that an iteration reads at a time

EVENT: Final = "identity, tracking_id, recipient, sender, at, happened, state, reason, raw"
SUBMISSION: Final = "state, tracking_id, code, info, http_status, raw"
UNDECIDED: Final = "state IN ('sending', 'in_doubt')"
STRAY: Final = "message IS NULL AND tracking_id IS NOT NULL"
# A receipt without a tracking id can be placed nowhere, and is listed all the same.
_UNPLACED: Final = "message IS NULL AND state IS NOT NULL"


MESSAGE: Final = (
    "id, key, tracking_id, recipient, sender, state, reason, settled_by, began, code, info"
)


class Connection(Protocol):
    """What is used of a connection: no more than SQLite's bindings have in common."""

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Any:
        """Run one statement, and give a cursor over its rows."""
        ...


class SQLiteReading:
    """The questions to a ledger over `connection`."""

    def __init__(self, connection: Connection) -> None:
        self._execute = connection.execute

    def _one(self, statement: str, *values: Any) -> Any:
        return self._execute(statement, values).fetchone()

    def delivery(self, *, tracking_id: str | None, key: str | None) -> Delivery | None:
        """Return what is known of one message."""
        where = "key = ?" if key is not None else "tracking_id = ? ORDER BY id DESC LIMIT 1"
        row = self._one(f"SELECT {MESSAGE} FROM messages WHERE {where}", key or tracking_id)
        return None if row is None else self._delivery(row)

    def page(self, state: MessageState | None, after: int) -> tuple[list[Delivery], int | None]:
        """Return a page of messages after that id, and the last id if there may be more."""
        only = "" if state is None else " AND state = ?"
        if state in {MessageState.SENDING, MessageState.IN_DOUBT}:
            only += " AND " + UNDECIDED
        rows = self._execute(
            f"SELECT {MESSAGE} FROM messages WHERE id > ?{only} ORDER BY id LIMIT {PAGE}",
            (after,) if state is None else (after, state),
        ).fetchall()
        return [self._delivery(row) for row in rows], rows[-1][0] if len(rows) == PAGE else None

    def unplaced(self, after: int) -> tuple[list[Notification], int | None]:
        """Return some notifications without a message, as `page` does messages."""
        rows = self._execute(
            f"SELECT id, raw FROM events WHERE id > ? AND {_UNPLACED} ORDER BY id LIMIT {PAGE}",
            (after,),
        ).fetchall()
        found = [rebuilt(json.loads(raw)) for _, raw in rows]
        return found, rows[-1][0] if len(rows) == PAGE else None

    def summary(self) -> Summary:
        """Count what there is."""

        def counted(column: str, where: str = "1") -> dict[str, int]:
            rows = self._execute(
                f"SELECT {column}, count(*) FROM messages WHERE {where} GROUP BY {column}"
            )
            return dict(rows.fetchall())

        return Summary(
            states={MessageState(state): count for state, count in counted("state").items()},
            codes=counted("coalesce(code, '')", "state = 'rejected'"),
            reasons={
                FailureReason(reason): count
                for reason, count in counted("reason", "reason IS NOT NULL").items()
            },
            unplaced=self._one(f"SELECT count(*) FROM events WHERE {_UNPLACED}")[0],
            opted_out=self._one("SELECT count(*) FROM opt_outs WHERE out")[0],
        )

    def _delivery(self, row: Sequence[Any]) -> Delivery:
        return delivery_in(row, self._events(row[0]))

    def _events(self, message: int) -> list[StoredNotification]:
        rows = self._execute(f"SELECT {EVENT} FROM events WHERE message = ?", (message,))
        return in_order(map(event_in, rows.fetchall()))


def event_in(row: Sequence[Any]) -> StoredNotification:
    """Make an event of the columns that EVENT names."""
    identity, tracking_id, to, from_, at, happened, state, reason, raw = row
    return StoredNotification(
        identity=identity,
        tracking_id=tracking_id,
        to=to,
        from_=from_,
        at=at,
        happened=happened,
        state=None if state is None else DeliveryState(state),
        reason=None if reason is None else FailureReason(reason),
        raw=raw,
    )


def columns_of(event: StoredNotification) -> tuple[Any, ...]:
    """Return the columns that EVENT names."""
    return (
        event.identity,
        event.tracking_id,
        event.to,
        event.from_,
        event.at,
        event.happened,
        event.state,
        event.reason,
        event.raw,
    )


def delivery_in(row: Sequence[Any], events: Sequence[StoredNotification]) -> Delivery:
    """Make a delivery of the columns that MESSAGE names, and its notifications in order."""
    _id, key, tracking_id, to, from_, state, reason, settled_by, began, code, info = row
    return Delivery(
        key=key,
        tracking_id=tracking_id,
        to=to,
        from_=from_,
        state=MessageState(state),
        reason=None if reason is None else FailureReason(reason),
        events=tuple(rebuilt(json.loads(event.raw)) for event in events),
        settled_by=settled_by,
        began=datetime.fromtimestamp(began, UTC),
        code=code,
        info=info,
    )


def submission_in(row: Sequence[Any]) -> Submission:
    """Make a submission of the columns that SUBMISSION names."""
    state, tracking_id, code, info, http_status, raw = row
    return Submission(
        state=MessageState(state),
        tracking_id=tracking_id,
        code=code,
        info=info,
        http_status=http_status,
        raw=None if raw is None else _answer(json.loads(raw), tracking_id),
    )


def submission_columns(submission: Submission) -> tuple[Any, ...]:
    """Return the columns that SUBMISSION names."""
    return (
        str(submission.state),
        submission.tracking_id,
        submission.code,
        submission.info,
        submission.http_status,
        raw_column(submission),
    )


def raw_column(submission: Submission) -> str | None:
    """Write what the API answered, as JSON; of what it answers nearly always, the number alone."""
    raw = submission.raw
    if raw is None:
        return None
    to = raw.get("TO")
    if isinstance(to, str) and to.isdecimal() and raw == _usual(submission.tracking_id, to):
        return f'"{to}"'
    return json.dumps(raw)


def _answer(raw: Any, tracking_id: str | None) -> dict[str, Any]:
    return _usual(tracking_id, raw) if isinstance(raw, str) else dict(raw)


def _usual(tracking_id: str | None, to: str) -> dict[str, Any]:
    return {"STATUS": "Success", "TRACKINGID": tracking_id, "TO": to}
