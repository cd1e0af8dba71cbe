"""What a ledger is, and the values that it keeps.  No I/O, no storage.

A ledger knows each message by its key and each submission by its tracking id.

    not there ──begin──► sending ──finish──► accepted ──postbacks──► sent, delivered, failed
                          ▲    │                 ▲
                          │    ├──► rejected     │ settled by a postback
                          │    ├──► in_doubt ────┘
                          └────┴──► not_sent

Rules:

* The intent is durable before the first byte may leave, the outcome after.
* `rules`, `settlement` and `opt_outs` decide about these values.
* Each field of `MessageRecord` and `StoredNotification` is a column of a table, under the name in
  its metadata or else its own.  A field that `SendIntent` has, too, is written when the message is
  begun, and one that `Submission` has with its outcome.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import attrs

from ..codes import DeliveryState, FailureReason
from ..messages import SMS
from ..notifications import Notification
from ..protocol import tracking_ids
from .texts import storable


class MessageState(enum.StrEnum):
    """How far a message got, as a ledger knows it.

    * `SENDING`: it was begun, and has no outcome yet.
    * `NOT_SENT`: it is proven not sent; its key is sent again by the next run.
    * `REJECTED`: the API refused it, and nothing was sent.
    * `IN_DOUBT`: it may have been sent; its key is sent again only with your permission.
    * `ACCEPTED`: the provider took it.
    * `SENT`: it was handed to the carrier, by its notifications.
    * `DELIVERED` and `FAILED`: what became of it for good, by its notifications.
    """

    SENDING = "sending"
    NOT_SENT = "not_sent"
    REJECTED = "rejected"
    IN_DOUBT = "in_doubt"
    ACCEPTED = "accepted"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether no notification changes it any more."""
        return self in {MessageState.DELIVERED, MessageState.FAILED}


_S: Final = MessageState
TAKEN: Final = frozenset({_S.ACCEPTED, _S.SENT, _S.DELIVERED, _S.FAILED})  # by the provider
NOTHING_SENT: Final = frozenset({_S.NOT_SENT, _S.REJECTED})
UNDECIDED: Final = frozenset({_S.SENDING, _S.IN_DOUBT})  # which of the two it will be

BY_POSTBACK: Final = "postback"  # what `settled_by` says of a doubt that a notification ended
BY_REPORT: Final = "report"  # ... and of one that the sending report ended
ENDED_MEANWHILE: Final = "the program ended while it was being sent"  # where no error is known


@attrs.frozen(kw_only=True)
class SendIntent:
    """A message that is about to be submitted; `started_at` is in seconds since 1970.

    `content` is the digest of its content, by which a key that comes again with other content is
    found.  `message` is the message itself, of which rows of the first version have another
    digest.  `text_digest` is the digest of its text as a sending report shows it, see
    `texts.digest_of`. `campaign_ref`, `segments` (how many its text takes) and `tags` are kept
    only to be shown.  `doubt_started_at` is set where only one doubt of the message may be sent
    again: it is the time at which the attempt in doubt started.
    """

    key: str
    content: bytes
    to: str
    from_: str | None
    started_at: float
    text_digest: bytes | None = attrs.field(default=None, repr=False)
    campaign_ref: str | None = None
    segments: int | None = None
    tags: tuple[str, ...] = ()
    message: SMS | None = attrs.field(default=None, repr=False, eq=False)
    doubt_started_at: float | None = attrs.field(default=None, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Submission:
    """What came of handing a message over, as a ledger keeps it: accepted, or any other state.

    An accepted one has a `tracking_id`, and `plain_id` is the plain form of that.  `history_id` is
    the provider's id of the sending, where a postback or a report told it.  `was_resent` says that
    its message was in doubt before, and was sent again.
    `started_at` is when its attempt started.  It is set where a submission is looked up, and where
    it is written late: it belongs to that attempt alone, and another may have started since.
    """

    state: MessageState
    tracking_id: str | None = None
    code: str | None = None
    info: str | None = None
    http_status: int | None = None
    raw: Mapping[str, Any] | None = attrs.field(default=None, repr=False, hash=False)
    history_id: str | None = attrs.field(default=None, eq=False, repr=False)
    was_resent: bool = attrs.field(default=False, eq=False, repr=False)
    started_at: float | None = attrs.field(default=None, eq=False, repr=False)

    plain_id: str | None = attrs.field(init=False, repr=False, eq=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Make its texts storable, and find the plain id; most have a tracking id alone."""
        if (tracking_id := storable(self.tracking_id)) is not None:
            object.__setattr__(self, "tracking_id", tracking_id)
            object.__setattr__(self, "plain_id", tracking_ids.plain(tracking_id))
        if self.code is not None or self.info is not None:
            object.__setattr__(self, "code", storable(self.code))
            object.__setattr__(self, "info", storable(self.info))


@attrs.frozen(kw_only=True)
class Attempt:
    """What names an attempt in PostgreSQL: the session that makes it, and its number in that."""

    session: int
    number: int


def _column(name: str, **settings: Any) -> Any:
    return attrs.field(metadata={"column": name}, **settings)


@attrs.frozen(kw_only=True)
class MessageRecord:
    """A message as a ledger keeps it: one row of the table `messages`.

    Times are in seconds since 1970.  `tracking_id` is spelled as it came, and `plain_id` is its
    plain form.  With `doubted` it may have a submission that the ledger does not know: it was sent
    again after doubt, or found in a sending report.  `raw` is the API's answer as JSON, see
    `columns.answer_as_text`.  `settled_by` says what ended its doubt.  `campaign_ref`, `segments`
    and `tags` are kept to be shown; older versions kept none of them.  `session` and `attempt` say
    who is sending it in PostgreSQL, and are None elsewhere.

    These fields are compared with sending reports: `text_digest`, None in rows of older versions;
    `interrupted_at`, when it was found that nobody is sending it any more; `untaken`, set where
    the last attempt is proven not taken while an earlier one is in doubt; `history_id`; and
    `listed_since` and `listed_until`, the time in which reports listed a row that may be its own:
    a report about less of that time proves nothing.  `turn` is set where it was begun again, see
    `attempts.turn_of`.
    """

    id: int
    key: str
    content: bytes
    to: str = _column("recipient")
    from_: str | None = _column("sender")
    state: MessageState
    started_at: float
    ended_at: float | None = None
    tracking_id: str | None = None
    plain_id: str | None = None
    code: str | None = None
    info: str | None = None
    http_status: int | None = None
    raw: str | None = attrs.field(default=None, repr=False)
    reason: FailureReason | None = None
    settled_by: str | None = None
    doubted: bool = False
    text_digest: bytes | None = attrs.field(default=None, repr=False)
    interrupted_at: float | None = None
    untaken: bool = False
    history_id: str | None = None
    listed_since: float | None = None
    listed_until: float | None = None
    turn: int | None = None
    campaign_ref: str | None = None
    segments: int | None = None
    tags: tuple[str, ...] = ()
    session: int | None = None
    attempt: int | None = None


@attrs.frozen(kw_only=True)
class EarlierAttempt:
    """An attempt that was in doubt when its message was begun again: a row of `attempts`.

    `message` is the id of its message.  It had ended by `ended_at`.  `started_at` is 0 if a
    version without times began it.  `state` is `IN_DOUBT`, `ACCEPTED` or `NOT_SENT`.
    """

    id: int = 0
    message: int
    text_digest: bytes | None = attrs.field(default=None, repr=False)
    to: str = _column("recipient")
    from_: str | None = _column("sender", default=None)
    started_at: float
    ended_at: float
    history_id: str | None = None
    state: MessageState = MessageState.IN_DOUBT
    turn: int | None = None


@attrs.frozen(kw_only=True)
class StoredNotification:
    """A notification as a ledger keeps it: one row of the table `events`.

    `identity` tells it from every other.  `former_identity`, which is no column, is the identity
    that it had in versions which did not know the other spelling of its tracking id.
    `tracking_id` is in its plain form.  Times are in seconds since 1970: `received` is when it was
    received; `at` is its own time, by which notifications are ordered, as UTC if it has no offset,
    and None if it has no time; `happened` is its own time if that is certain, else `received`.
    """

    identity: bytes
    former_identity: bytes | None = None
    tracking_id: str | None
    to: str | None = _column("recipient")
    from_: str | None = _column("sender", converter=storable)
    at: float | None
    happened: float
    received: float
    history_id: str | None = attrs.field(default=None, converter=storable)
    state: DeliveryState | None
    reason: FailureReason | None
    raw: str = attrs.field(repr=False)


class ToldState(NamedTuple):
    """What one notification tells of how far its message got; see `StoredNotification`."""

    identity: bytes
    at: float | None
    state: DeliveryState | None
    reason: FailureReason | None
    history_id: str | None


@attrs.frozen(kw_only=True)
class Delivery:
    """What is known of one message.

    `events` are its distinct notifications in order of time.  `reason` is set if it failed, `code`
    and `info` if it was refused or is in doubt.  `settled_by` is "postback" or "report" if it was
    in doubt and that told what became of it, and "resend" while it is in doubt and waits to be
    sent once more.  `history_id` is the provider's id of its sending, where that is known.
    `began` is when it was last begun, in UTC.  `campaign_ref`, `segments` (how many its text
    takes) and `tags` are those of the message; older versions kept none of them.
    """

    key: str
    tracking_id: str | None
    to: str
    from_: str | None
    state: MessageState
    reason: FailureReason | None
    events: tuple[Notification, ...]
    settled_by: str | None
    began: datetime
    code: str | None
    info: str | None
    history_id: str | None = None
    campaign_ref: str | None = None
    segments: int | None = None
    tags: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Summary:
    """How many messages are in each state; `states` has no state that no message is in.

    `codes` counts the refusals by error code, `reasons` the failures, `unplaced` the notifications
    for messages that the ledger does not know, and `opted_out` the numbers that may not be sent
    to.  `settled` counts the doubts that have ended by what ended them: `"postback"` or
    `"report"`. Reports proved `proven_not_sent` messages not sent, and `sent_since` of these have
    gone out since.
    """

    states: Mapping[MessageState, int]
    codes: Mapping[str, int]
    reasons: Mapping[FailureReason, int]
    unplaced: int
    opted_out: int
    settled: Mapping[str, int] = attrs.field(factory=dict)
    proven_not_sent: int = 0
    sent_since: int = 0

    @property
    def total(self) -> int:
        """How many messages there are."""
        return sum(self.states.values())
