"""What notifications tell of messages.  No I/O, no storage.

Rules:

* The state of a delivery depends on the set of its notifications alone, in whichever order they
  come and however often: the first final one in order of time counts.
* A tracking id of no known message belongs to one of its candidates: the messages to its number,
  with or without the country code, that may have a tracking id which the ledger does not know.
  These are under way, in doubt, or were sent again after doubt, whatever came of that.
* A doubt is settled if its message is the only candidate.  A message remains a candidate however
  long ago it began, and whatever came of it: time limits what may be settled, and nothing else.
* A message that a report found is known by its HISTORYID and its number together.
* The time of a submission is that of its first notification, as a receipt may come days later.
  Either the time in it or the time at which it was received may fit: gateways write times that are
  hours ahead or behind, and postbacks come late.
* Two spellings of a tracking id are the same id, and make the same notification.
* A time without an offset orders notifications, but settles nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, TypeVar

import attrs

from ..codes import DeliveryState, FailureReason
from ..notifications import DeliveryReceipt, Notification, SentNotification
from ..postbacks import notification
from ..protocol.numbers import digits, is_sender, may_be_same
from ..protocol.tracking_ids import plain, spellings
from .model import (
    BY_POSTBACK,
    BY_REPORT,
    Delivery,
    MessageRecord,
    MessageState,
    StoredNotification,
    ToldState,
)
from .texts import storable

SETTLE_WITHIN: Final = 3600.0  # seconds after its intent in which a postback may settle a doubt
CLOCKS_APART: Final = 300.0  # seconds by which the provider's clock may be behind ours

_SHORT_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_SORTED_JSON: Final = json.JSONEncoder(sort_keys=True).encode


def stored(notification: Notification, *, received: float) -> StoredNotification:
    """Return what a ledger keeps of a notification; `received` is in seconds since 1970."""
    tracking_id, to, from_, history_id = None, None, None, None
    if isinstance(notification, SentNotification | DeliveryReceipt):
        from_, to = notification.from_, digits(notification.to)
        history_id = notification.history_id
        if notification.tracking_id is not None:
            tracking_id = plain(notification.tracking_id)
    time = notification.timestamp or notification.created
    is_aware = time is not None and time.tzinfo is not None
    at = None if time is None else (time if is_aware else time.replace(tzinfo=UTC)).timestamp()
    identity, former = identities(notification)
    return StoredNotification(
        identity=identity,
        former_identity=former,
        tracking_id=tracking_id,
        to=to,
        from_=from_,
        at=at,
        happened=at if is_aware and at is not None else received,
        received=received,
        history_id=history_id,
        state=_state(notification),
        reason=notification.reason if isinstance(notification, DeliveryReceipt) else None,
        raw=_text_of(notification.raw),
    )


def _text_of(raw: Any) -> str:
    """Return a notification as JSON, with escapes only for what no database can keep."""
    text = _SHORT_JSON(raw)
    return text if text == storable(text) else json.dumps(raw, separators=(",", ":"))


def identities(notification: Notification) -> tuple[bytes, bytes | None]:
    """Return the identity of a notification, which no other has, and that of former versions.

    The latter is None if it is the same.
    """
    given = getattr(notification, "tracking_id", None)
    # Form A has an id, by which a repetition is known; of form B all of it is its identity.
    known_by: Any = notification.raw
    if notification.id is not None:
        known_by = [notification.id, notification.origin, notification.code, given]
        if given is None:  # the id is unique in one account, and several may post here
            said = (getattr(notification, name, None) for name in ("from_", "mobile", "text"))
            known_by += [str(notification.created), *said]
    text = _SORTED_JSON(known_by)
    if given is None:
        return _digest(text), None
    spelling, *others = spellings(given)
    former = _digest(text.replace(given, others[0])) if others else None
    return _digest(text if spelling == given else text.replace(given, spelling)), former


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _state(notification: Notification) -> DeliveryState | None:
    if isinstance(notification, DeliveryReceipt):
        return notification.state
    return DeliveryState.SENT if isinstance(notification, SentNotification) else None


_Event = TypeVar("_Event", StoredNotification, ToldState)


def in_order(events: Iterable[_Event]) -> list[_Event]:
    """Return events in order of time; those of one time are in a fixed order."""
    return sorted(events, key=_place)


# At the same time, sent comes first, and delivered is believed before failed.
_RANKS: Final[dict[DeliveryState | None, int]] = {
    DeliveryState.SENT: 0,
    DeliveryState.DELIVERED: 1,
}


def _place(event: StoredNotification | ToldState) -> tuple[float, int, bytes]:
    at = float("inf") if event.at is None else event.at
    return at, _RANKS.get(event.state, len(_RANKS)), event.identity


_FINAL: Final[dict[DeliveryState | None, MessageState]] = {
    DeliveryState.DELIVERED: MessageState.DELIVERED,
    DeliveryState.FAILED: MessageState.FAILED,
}


def _state_by(known: Sequence[_Event]) -> tuple[MessageState, FailureReason | None]:
    state = MessageState.ACCEPTED
    for each in known:
        if each.state in _FINAL:
            return _FINAL[each.state], each.reason
        if each.state is DeliveryState.SENT:
            state = MessageState.SENT
    return state, None


@attrs.frozen(kw_only=True)
class Progress:
    """What all notifications of a message tell; `history_id` is None if none has it."""

    state: MessageState
    reason: FailureReason | None
    history_id: str | None


def progress_by(told: Iterable[_Event]) -> Progress:
    """Return the progress of an accepted message, by all its notifications."""
    known = in_order(told)
    state, reason = _state_by(known)
    named = (each.history_id for each in known if each.history_id)
    return Progress(state=state, reason=reason, history_id=next(named, None))


def delivery_of(record: MessageRecord, notifications: Iterable[StoredNotification]) -> Delivery:
    """Return a message and its notifications as users see them."""
    return Delivery(
        key=record.key,
        tracking_id=record.tracking_id,
        to=record.to,
        from_=record.from_,
        state=record.state,
        reason=record.reason,
        events=tuple(map(rebuilt, in_order(notifications))),
        settled_by=record.settled_by,
        began=datetime.fromtimestamp(record.started_at, UTC),
        code=record.code,
        info=record.info,
        history_id=record.history_id,
        campaign_ref=record.campaign_ref,
        segments=record.segments,
        tags=record.tags,
    )


def rebuilt(stored: StoredNotification) -> Notification:
    """Return the notification that was stored."""
    return notification(json.loads(stored.raw))


# What settles a doubt.


@attrs.frozen(kw_only=True)
class UnmatchedSubmission:
    """A submission of no known message, with its notifications."""

    plain_id: str
    events: Sequence[StoredNotification]


def unmatched_in(notifications: Iterable[StoredNotification]) -> list[UnmatchedSubmission]:
    """Group notifications, each of which has a tracking id, by their submissions."""
    grouped: dict[str, list[StoredNotification]] = {}
    for each in notifications:
        grouped.setdefault(str(each.tracking_id), []).append(each)
    return [UnmatchedSubmission(plain_id=id_, events=of) for id_, of in grouped.items()]


def match_doubts(
    candidates: Sequence[MessageRecord],
    unmatched: Sequence[UnmatchedSubmission],
    *,
    within: float,
    after: float = 0,
) -> list[tuple[int, str]]:
    """Match messages in doubt with submissions that can belong to no other message.

    Returns pairs of a message's id and the plain form of a tracking id.  A message that is not in
    doubt is never settled, but while it is a candidate, the others stay in doubt.  A message that
    a report found, and that has no tracking id yet, is known by its HISTORYID.  All others are
    settled only if they began later than `after`, up to which the ledger was pruned, and at most
    `within` seconds before the submission.
    """
    by_id = dict(_known_by_history(candidates, unmatched))
    left = [submission for submission in unmatched if submission.plain_id not in by_id]
    return sorted(
        [(id_, plain_id) for plain_id, id_ in by_id.items()]
        + _only(candidates, left, within, after)
    )


def _is_found(record: MessageRecord) -> bool:
    return record.history_id is not None and record.plain_id is None


def _known_by_history(
    candidates: Sequence[MessageRecord], unmatched: Sequence[UnmatchedSubmission]
) -> Iterator[tuple[str, int]]:
    """Yield a submission's plain id and a message's id where both have the same HISTORYID.

    HISTORYIDs may not be unique, so both must have no other match, and the same number.
    """
    pairs = [
        (submission.plain_id, record.id)
        for record in candidates
        if _is_found(record)
        for submission in unmatched
        if _is_known_as(submission, record)
    ]
    submissions = Counter(plain_id for plain_id, _ in pairs)
    messages = Counter(id_ for _, id_ in pairs)
    for plain_id, id_ in pairs:
        if submissions[plain_id] == messages[id_] == 1:
            yield plain_id, id_


def _is_known_as(submission: UnmatchedSubmission, record: MessageRecord) -> bool:
    """Return whether a submission has the HISTORYID and the number of a message."""
    return any(event.history_id == record.history_id for event in submission.events) and all(
        event.to is None or may_be_same(event.to, record.to) for event in submission.events
    )


def _only(
    candidates: Sequence[MessageRecord],
    unmatched: Sequence[UnmatchedSubmission],
    within: float,
    after: float,
) -> list[tuple[int, str]]:
    fitting = [
        (record, submission)
        for submission in unmatched
        if (record := _only_candidate(submission, candidates)) is not None
        and record.state is MessageState.IN_DOUBT
        and record.started_at > after
        and _agrees_with(submission, record)
        and _is_in_time(record, submission, within)
    ]
    # Counted once a message: others of the account may send to its number very often.
    settling = {
        id_: sum(_may_settle(each, record, within) for each in unmatched)
        for id_, record in {record.id: record for record, _ in fitting}.items()
    }
    return [(of.id, each.plain_id) for of, each in fitting if settling[of.id] == 1]


def _only_candidate(
    submission: UnmatchedSubmission, candidates: Sequence[MessageRecord]
) -> MessageRecord | None:
    """Return the one message that a submission may be of; None if there are several, or none."""
    possible = (record for record in candidates if _may_be_of(submission, record))
    first, second = next(possible, None), next(possible, None)
    return first if second is None else None


def _may_settle(submission: UnmatchedSubmission, record: MessageRecord, within: float) -> bool:
    return _may_be_of(submission, record) and _is_in_time(record, submission, within)


def _may_be_of(submission: UnmatchedSubmission, record: MessageRecord) -> bool:
    """Return whether one of its notifications fits the message."""
    return any(map(_fits(record), submission.events))


def _agrees_with(submission: UnmatchedSubmission, record: MessageRecord) -> bool:
    """Return whether all of its notifications fit the message."""
    return all(map(_fits(record), submission.events))


def _fits(record: MessageRecord) -> Callable[[StoredNotification], bool]:
    """Return a test of whether a notification may be about a message, by what both name."""

    def fits(event: StoredNotification) -> bool:
        return (event.to is None or may_be_same(event.to, record.to)) and (
            event.from_ is None or record.from_ is None or is_sender(event.from_, record.from_)
        )

    return fits


def _is_in_time(record: MessageRecord, submission: UnmatchedSubmission, within: float) -> bool:
    times = (
        min(event.happened for event in submission.events),
        min(event.received for event in submission.events),
    )
    return any(-CLOCKS_APART <= time - record.started_at <= within for time in times)


def settle(record: MessageRecord, submission: UnmatchedSubmission) -> MessageRecord:
    """Return the record of a message in doubt that a postback shows to be sent."""
    first = rebuilt(in_order(submission.events)[0])
    return attrs.evolve(
        record,
        tracking_id=storable(getattr(first, "tracking_id", None)) or submission.plain_id,
        plain_id=submission.plain_id,
        settled_by=BY_REPORT if record.settled_by == BY_REPORT else BY_POSTBACK,
        code=None,
        info=None,
        http_status=None,
    )
