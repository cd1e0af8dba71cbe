"""Short rows in which many messages are listed or counted, without their notifications.  No I/O.

Strategy: the database counts messages that are alike.  For those that have ended it returns the
deciding notification, reduced to the elements that name the carrier, as text.  The parser of
postbacks reads each different text once.

Rules:

* The first final notification in order of time decides, as in `settlement`.
* The deciding notification names the carrier; if it names none, the first other one that does.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple

import attrs

from ..codes import DeliveryState
from ..notifications import Notification
from ..postbacks import notification
from .model import MessageState, StoredNotification
from .settlement import in_order, rebuilt

_DELIVERED: Final = MessageState.DELIVERED.value
_FINAL: Final = (DeliveryState.DELIVERED, DeliveryState.FAILED)
_RECEIPT: Final = {"ORIGIN": "SMS_MT", "CODE": "N202"}  # which may have any STATUS
_REMEMBERED: Final = 4096  # texts that name a carrier
_ALIKE: Final = itemgetter(1, 2, 4)  # of an `EndedRow`, what it is counted by


class MessageLine(NamedTuple):
    """A message in a list; `events` is how many notifications came for it.

    The other fields are those of `Delivery`, as the tables have them.
    """

    key: str
    tracking_id: str | None
    to: str
    from_: str | None
    state: str
    reason: str | None
    settled_by: str | None
    started_at: float
    code: str | None
    info: str | None
    history_id: str | None
    events: int


class BegunCount(NamedTuple):
    """How many `messages` that are alike were begun in one slot of time, from `first` to `last`.

    `tags` are as the tables have them.  `segments` is the sum of those that are known; those of
    `unmeasured` messages are not, as an earlier version began them.
    """

    slot: int
    state: str
    settled_by: str | None
    code: str | None
    messages: int
    first: float
    last: float
    campaign_ref: str | None
    tags: str | None
    segments: int
    unmeasured: int


# A message that was delivered or failed: its id, state and reason; the seconds that it took, if
# known; and what names the carrier in the deciding notification, as JSON: SPID, the same in BODY,
# STATUS, and the same in BODY.  The latter is None if no notification decided.
EndedRow = tuple[int, str, str | None, float | None, str | None]


class NamedCarrier(NamedTuple):
    """Who delivered a message, or did not; `protocol` and `status` are the aggregator's pair."""

    spid: str | None = None
    protocol: str | None = None
    status: str | None = None


class EndedKind(NamedTuple):
    """What messages that have ended are counted by."""

    state: str
    reason: str | None
    carrier: NamedCarrier


@attrs.frozen(kw_only=True)
class CountedPage:
    """Counts of some of many messages.

    `times` are the seconds that deliveries took, as far as known.  `last` is the id to go on from,
    None if there are no more.
    """

    begun: Sequence[BegunCount]
    ended: Mapping[EndedKind, int]
    times: Sequence[float]
    last: int | None


def first_of_each(rows: Sequence[EndedRow]) -> Sequence[EndedRow]:
    """Return the first row of each message, of rows in the order of their ids."""
    first = {row[0]: row for row in reversed(rows)}
    return rows if len(first) == len(rows) else list(reversed(first.values()))


def counted_page(
    begun: Sequence[BegunCount],
    ended: Sequence[EndedRow],
    whole: Mapping[int, Collection[StoredNotification]],
    *,
    last: int | None,
) -> CountedPage:
    """Return the counts; `whole` has all notifications of messages that have to be read whole."""
    alike = Counter(map(_ALIKE, (row for row in ended if row[0] not in whole) if whole else ended))
    kinds: Counter[EndedKind] = Counter()
    for (state, reason, named), messages in alike.items():
        kinds[EndedKind(state, reason, carrier_in(named))] += messages
    for id_, state, reason, *_ in (row for row in ended if row[0] in whole):
        kinds[EndedKind(state, reason, _carrier_of(whole[id_]))] += 1
    return CountedPage(
        begun=begun,
        ended=kinds,
        times=[took for _, state, _, took, _ in ended if took is not None and state == _DELIVERED],
        last=last,
    )


@lru_cache(_REMEMBERED)
def _values_in(named: str) -> tuple[Any, Any]:
    spid, spid_in_body, status, status_in_body = json.loads(named)
    return spid_in_body if spid is None else spid, status_in_body if status is None else status


@lru_cache(_REMEMBERED)
def carrier_in(named: str | None) -> NamedCarrier:
    """Return the carrier that `named`, of an `EndedRow`, tells."""
    if named is None:
        return NamedCarrier()
    spid, status = _values_in(named)
    return _named_by(notification({**_RECEIPT, "SPID": spid, "STATUS": status}))


def needs_other_carrier(named: str | None) -> bool:
    """Return whether `named` lacks the carrier, so that other notifications have to be read."""
    return carrier_in(named).spid is None


def needs_other_status(named: str | None) -> bool:
    """Return whether `named` lacks the STATUS, so that other notifications have to be read."""
    return named is not None and _values_in(named)[1] is None


def _carrier_of(events: Collection[StoredNotification]) -> NamedCarrier:
    """Return the carrier that the notifications of a message name."""
    known = in_order(events)
    decided = next((rebuilt(each) for each in known if each.state in _FINAL), None)
    named = None if decided is None else _named_by(decided)
    if named is not None and named.spid is not None:
        return named
    others = (getattr(rebuilt(each), "spid", None) for each in known)
    return (named or NamedCarrier())._replace(spid=next(filter(None, others), None))


def _named_by(receipt: Notification) -> NamedCarrier:
    protocol = getattr(receipt, "protocol", None)
    status = getattr(receipt, "status", None) if protocol else None
    return NamedCarrier(getattr(receipt, "spid", None), protocol, status)
