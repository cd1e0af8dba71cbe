"""What a ledger exports: each message as one flat row.  No I/O, no storage.

Strategy: a store reads a page of messages, and the first times of their notifications by state.
It does not read the notifications, so that a row costs no more than what it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import attrs

from ..codes import FailureReason
from .columns import tags_from_text
from .model import ENDED_MEANWHILE, MessageState

EXPORTED: Final = (
    "id, key, recipient, sender, state, reason, code, info, http_status, tracking_id, history_id,"
    " settled_by, campaign_ref, segments, tags, started_at, ended_at"
)
EXPORT_PAGE: Final = 1000  # rows that are in memory at a time
_SENT: Final = "sent"
_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


@attrs.frozen(kw_only=True)
class ExportedMessage:
    """A message as it is exported; for most fields see `Delivery`.

    `http_status` is set if the response was no answer of the API.  All times are in UTC.  `began`
    is when it was last begun, and `answered` when its outcome was known, None if it never was.
    `sent_at` is when it went to the carrier, and `ended_at` when it was delivered or failed for
    good: the times in its notifications, or when these came if they have none.
    """

    key: str
    to: str
    from_: str | None
    state: MessageState
    reason: FailureReason | None
    code: str | None
    info: str | None
    http_status: int | None
    tracking_id: str | None
    history_id: str | None
    settled_by: str | None
    campaign_ref: str | None
    segments: int | None
    tags: tuple[str, ...]
    began: datetime
    answered: datetime | None
    sent_at: datetime | None
    ended_at: datetime | None


def exported(
    rows: Sequence[Sequence[Any]], times: Iterable[Sequence[Any]]
) -> list[ExportedMessage]:
    """Return the messages in rows of `EXPORTED`, with the first times of their notifications.

    Each of `times` has the id of a message, a state that notifications told, and seconds since
    1970.
    """
    told: dict[int, dict[str, float]] = {}
    for id_, state, at in times:
        told.setdefault(id_, {})[state] = at
    return [_message(row, told.get(row[0], {})) for row in rows]


def _message(row: Sequence[Any], told: Mapping[str, float]) -> ExportedMessage:
    (
        _,
        key,
        to,
        from_,
        state,
        reason,
        code,
        info,
        http_status,
        tracking_id,
        history_id,
        settled_by,
        campaign_ref,
        segments,
        tags,
        started_at,
        ended_at,
    ) = row
    state = MessageState(state)
    return ExportedMessage(
        key=key,
        to=to,
        from_=from_,
        state=state,
        reason=None if reason is None else FailureReason(reason),
        code=code,
        info=info or (ENDED_MEANWHILE if state is MessageState.IN_DOUBT else None),
        http_status=http_status,
        tracking_id=tracking_id,
        history_id=history_id,
        settled_by=settled_by,
        campaign_ref=campaign_ref,
        segments=segments,
        tags=tags_from_text(tags),
        began=time_at(started_at),
        answered=None if ended_at is None else time_at(ended_at),
        sent_at=None if (at := told.get(_SENT)) is None else time_at(at),
        ended_at=time_at(told[state]) if state.is_final and state in told else None,
    )


def time_at(seconds: float) -> datetime:
    """Return a time in UTC, or the first or last possible one if it is out of range.

    The time in a notification may be, as it has a zone of its own.
    """
    return datetime.fromtimestamp(min(max(seconds, _FIRST), _LAST), UTC)
