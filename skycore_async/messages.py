"""The values that go in and come out of sending: messages, their outcomes, and what was sent.

All are frozen attrs classes with keyword-only fields, named after the API's
own fields in snake case (`from_` for FROM, a Python keyword).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Final

import attrs

from .codes import Verdict
from .errors import SkycoreError


def _tags(given: Iterable[str] | str) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


LONGEST_UNDER_WAY: Final = 86_400.0  # seconds that a message takes at most, all of its tries

# A dict has no hash; values that hold one are still hashable by the rest.
_raw: Any = attrs.field(repr=False, hash=False)
# An outcome that comes from the ledger equals the first one.
_recorded: Any = attrs.field(default=False, eq=False, hash=False)


@attrs.frozen(kw_only=True)
class SMS:
    """A message to send.

    `to` is the recipient's number in international format, with formatting as in `+1 (555)
    123-4888` allowed.  `from_` is the short code, `campaign_ref` the campaign that the recipient
    is subscribed to, `spid` (in the API's 2015 edition `operator_id`) the recipient's carrier,
    `from_mask` an alphanumeric sender of at most 11 characters, and `key` the caller's own name
    for the message.  `tags` are labels by which exports, reports and traces tell messages apart:
    they are kept in the ledger, are not sent, and are no part of the content that a key stands
    for.  Fields are checked when the message is sent.
    """

    to: str
    text: str
    from_: str | None = None
    campaign_ref: str | None = None
    spid: str | None = None
    operator_id: str | None = None
    from_mask: str | None = None
    key: str | None = None
    tags: tuple[str, ...] = attrs.field(default=(), converter=_tags)


@attrs.frozen(kw_only=True)
class Accepted:
    """The provider took the message, and names it by `tracking_id` from now on.

    `message` is as it was given, `to` its number as digits, and `raw` the API's answer as a dict
    by element name.  `recorded` is True if the ledger knew the outcome already, so that nothing
    was sent now.  `tracking_id` is None if the answer was lost and a sending report showed that
    the message was sent: reports have no tracking ids.  `history_id` is the provider's id of the
    sending, if the ledger knows it from a report or a postback.
    """

    verdict: ClassVar[Verdict] = Verdict.ACCEPTED

    message: SMS
    to: str
    tracking_id: str | None
    raw: dict[str, Any] = _raw
    recorded: bool = _recorded
    history_id: str | None = attrs.field(default=None, eq=False, hash=False)


@attrs.frozen(kw_only=True)
class Failed:
    """The message was not accepted; `error.may_have_been_sent` tells doubt from certainty.

    `error` is what `send_sms` would raise.  `recorded` is True if the ledger knew the outcome
    already, so that nothing was tried now.
    """

    message: SMS
    error: SkycoreError
    recorded: bool = _recorded

    @property
    def verdict(self) -> Verdict:
        """What it says of the message: the verdict of its error."""
        return self.error.verdict


Outcome = Accepted | Failed


class ReportSection(enum.StrEnum):
    """How a message of a sending report was sent.

    * `SENDING_LIST`: one by one, as sendSMS does.
    * `BATCHES`: a scheduled sending of a campaign.
    * `AUTORESPONDERS`: the automatic answer of a campaign.
    * `SUBSCRIPTIONS`: the dialogue by which a number is subscribed.
    """

    SENDING_LIST = "sending_list"
    BATCHES = "batches"
    AUTORESPONDERS = "autoresponders"
    SUBSCRIPTIONS = "subscriptions"


# Without slots, as notifications are: a report has hundreds of thousands of them.
@attrs.frozen(kw_only=True, slots=False)
class ReportedMessage:
    """An SMS that the provider's sending report lists, so that the provider took it.

    `history_id` is the provider's id of the sending, the HISTORYID of postbacks; a report has no
    tracking ids.  `text` is as an XML attribute carries it, with spaces in place of line breaks.
    `from_` and `carrier`, a name for people, are None if the report has none.

    `acknowledged_at` is when it left the provider's server, `delivered_at` when it was delivered,
    and `failed_at` when it failed, with the reason in `info`.  Each is the earliest such time in
    the report, in UTC, and None if it has none, as for a message that still waits at the provider.
    """

    history_id: str
    to: str
    from_: str | None = None
    text: str
    carrier: str | None = None
    section: ReportSection
    acknowledged_at: datetime | None = None
    delivered_at: datetime | None = None
    failed_at: datetime | None = None
    info: str | None = None


def times_of(message: ReportedMessage) -> list[datetime]:
    """Return the times of a message in a report; none if it still waits at the provider."""
    told = (message.acknowledged_at, message.delivered_at, message.failed_at)
    return [at for at in told if at is not None]


def masked(number: str) -> str:
    """Return a phone number with all but its last four digits masked, for logs and screens."""
    return "*" * len(number[:-4]) + number[-4:]
