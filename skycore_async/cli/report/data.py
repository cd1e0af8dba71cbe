"""What a report says of a ledger, counted in one pass.  No I/O.

Rules:

* A message's place in time is when it was begun, by this side's clock.
* How long a delivery took is known only where its receipt says its time zone.
* A number is masked but for its last four digits, also within a key.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Final

import attrs

from ...codes import API_ERRORS, Scope, carrier_status
from ...ledger.model import BY_REPORT, Delivery, MessageState, Summary
from ...messages import masked
from ...notifications import DeliveryReceipt, Notification
from ..ui.masking import mask_in
from .counters import (
    MAX_ROWS,
    OTHERS,
    CappedCounter,
    DeliveryTime,
    DurationCounter,
    Slot,
    TimelineCounter,
)

_S: Final = MessageState
_NOT_SENT: Final = frozenset({_S.NOT_SENT, _S.REJECTED, _S.IN_DOUBT})  # as far as is known
_Carrier = tuple[str | None, str | None]
_Alike = tuple[str, str | None, str | None, str | None]


@attrs.frozen(kw_only=True)
class Failure:
    """How many failed alike; `protocol` and `status` are the aggregator's pair."""

    reason: str
    spid: str | None
    protocol: str | None
    status: str | None
    meaning: str | None
    messages: int


@attrs.frozen(kw_only=True)
class Carrier:
    """How many messages to a carrier came to an end; the protocol is for one not named."""

    spid: str | None
    protocol: str | None
    delivered: int
    failed: int

    @property
    def ended(self) -> int:
        """How many came to an end."""
        return self.delivered + self.failed


@attrs.frozen(kw_only=True)
class Refusal:
    """How many messages were refused with a code."""

    code: str
    meaning: str | None
    scope: Scope
    messages: int


@attrs.frozen(kw_only=True)
class InDoubt:
    """A message that may have been sent."""

    key: str
    to: str
    since: datetime


@attrs.frozen(kw_only=True)
class ReportData:
    """What a report says.

    `found_sent` and `found_not_sent` are of what was in doubt, by Skycore's own report, and
    `sent_since` of the latter, which went out by a later run.
    """

    ledger: str
    made: datetime
    first: datetime | None
    last: datetime | None
    messages: int
    states: dict[MessageState, int]
    settled_by_postback: int
    found_sent: int
    found_not_sent: int
    sent_since: int
    unplaced: int
    opted_out: int
    step: int
    over_time: list[Slot]
    delivery_time: DeliveryTime
    failures_by_reason: dict[str, int]
    failures: list[Failure]
    carriers: list[Carrier]
    refusals: list[Refusal]
    in_doubt: list[InDoubt]


class ReportCounters:
    """Counts deliveries, one after the other, and returns the report data at the end."""

    def __init__(self) -> None:
        self.messages = 0
        self._states: Counter[MessageState] = Counter()
        self._settled: Counter[str] = Counter()
        self._timeline = TimelineCounter()
        self._times = DurationCounter()
        self._reasons: Counter[str] = Counter()
        self._failures = CappedCounter[_Alike]((OTHERS, None, None, None))
        self._ended = CappedCounter[_Carrier]((OTHERS, None))
        self._failed: Counter[_Carrier] = Counter()
        self._refusals = CappedCounter[str](OTHERS)
        self._in_doubt: list[InDoubt] = []

    def add(self, delivery: Delivery) -> None:
        """Count one message."""
        state = delivery.state
        self.messages += 1
        self._states[state] += 1
        if delivery.settled_by is not None and state not in _NOT_SENT:
            self._settled[delivery.settled_by] += 1
        self._timeline.add(delivery.began.timestamp(), state)
        if state.is_final:
            self._add_final(delivery)
        elif state is _S.IN_DOUBT:
            if len(self._in_doubt) < MAX_ROWS:
                self._in_doubt.append(_in_doubt(delivery))
        elif state is _S.REJECTED or (state is _S.NOT_SENT and delivery.code):
            self._refusals.add(delivery.code or "")

    def _add_final(self, delivery: Delivery) -> None:
        last = _final(delivery.events)
        # Not every receipt names the carrier; the sent notification may.
        spid = next(filter(None, (getattr(e, "spid", None) for e in delivery.events)), None)
        protocol = getattr(last, "protocol", None)
        carrier = self._ended.add((spid, None) if spid else (None, protocol))
        if delivery.state is _S.DELIVERED:
            self._times.add(None if last is None else _took(delivery.began, last))
        else:
            reason = str(delivery.reason or "unknown")
            status = getattr(last, "status", None) if protocol else None
            self._failed[carrier] += 1
            self._reasons[reason] += 1
            self._failures.add((reason, spid, protocol, status))

    def report_data(self, summary: Summary, *, ledger: str, made: datetime) -> ReportData:
        """Return the report data of all messages that were counted."""
        slots = list(self._timeline.slots())
        return ReportData(
            ledger=ledger,
            made=made,
            first=self._timeline.first,
            last=self._timeline.last,
            messages=self.messages,
            states={state: self._states[state] for state in _S},
            settled_by_postback=self._settled["postback"],
            found_sent=self._settled[BY_REPORT],
            found_not_sent=summary.proven_not_sent,
            sent_since=summary.sent_since,
            unplaced=summary.unplaced,
            opted_out=summary.opted_out,
            step=self._timeline.step,
            over_time=slots,
            delivery_time=self._times.delivery_time(),
            failures_by_reason=dict(self._reasons.most_common()),
            failures=[_failure(alike, n) for alike, n in self._failures.ranked()],
            carriers=[_carrier(one, n, self._failed[one]) for one, n in self._ended.ranked()],
            refusals=[_refusal(code, n) for code, n in self._refusals.ranked()],
            in_doubt=self._in_doubt,
        )


def _in_doubt(delivery: Delivery) -> InDoubt:
    key, to = mask_in(delivery.key, delivery.to), masked(delivery.to)
    return InDoubt(key=key, to=to, since=delivery.began)


def _final(events: tuple[Notification, ...]) -> DeliveryReceipt | None:
    """Return the receipt that decided, by the rule of the ledger: the first final one."""
    return next(
        (
            event
            for event in events
            if isinstance(event, DeliveryReceipt) and event.state in {"delivered", "failed"}
        ),
        None,
    )


def _took(began: datetime, receipt: DeliveryReceipt) -> float | None:
    at = receipt.timestamp or receipt.created
    if at is None or at.tzinfo is None:
        return None
    # The provider's clock may be behind ours.
    return max(0.0, (at - began).total_seconds())


def _failure(alike: _Alike, messages: int) -> Failure:
    reason, spid, protocol, status = alike
    known = carrier_status(protocol, status) if protocol and status else None
    return Failure(
        reason=reason,
        spid=spid,
        protocol=protocol,
        status=status,
        meaning=known.meaning if known else None,
        messages=messages,
    )


def _carrier(carrier: _Carrier, messages: int, failed: int) -> Carrier:
    spid, protocol = carrier
    return Carrier(spid=spid, protocol=protocol, delivered=messages - failed, failed=failed)


def _refusal(code: str, messages: int) -> Refusal:
    known = API_ERRORS.get(code)
    return Refusal(
        code=code or "none",
        meaning=known.meaning if known else None,
        scope=known.scope if known else Scope.UNKNOWN,
        messages=messages,
    )
