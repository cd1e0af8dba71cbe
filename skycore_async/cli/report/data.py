"""The data of a report, counted in one pass over a ledger.  No I/O.

Rules:

* The time of a message is when it was begun, by the clock of the machine that sent it.
* How long a delivery took is known only where the receipt has a time zone.
* A number is masked but for its last four digits, also within a key.
"""

from __future__ import annotations

import enum
import itertools
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import attrs

from ...codes import API_ERRORS, Scope, carrier_status
from ...ledger.columns import tags_from_text
from ...ledger.list_rows import BegunCount, CountedPage, EndedKind, MessageLine
from ...ledger.model import BY_POSTBACK, BY_REPORT, NOTHING_SENT, TAKEN, MessageState, Summary
from ...messages import masked
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
_NOT_SENT: Final = NOTHING_SENT | {_S.IN_DOUBT}  # not known to be sent
_ACCEPTED: Final = "all accepted"  # a counter beside those that are named after a state
_SEGMENTS: Final = "segments"
_Carrier = tuple[str | None, str | None]
_Alike = tuple[str, str | None, str | None, str | None]


@attrs.frozen(kw_only=True)
class Failure:
    """How many messages failed in one way; `protocol` and `status` are the aggregator's pair."""

    reason: str
    spid: str | None
    protocol: str | None
    status: str | None
    meaning: str | None
    messages: int


@attrs.frozen(kw_only=True)
class Carrier:
    """The final receipts of a carrier; `protocol` stands for a carrier that is not named."""

    spid: str | None
    protocol: str | None
    delivered: int
    failed: int

    @property
    def ended(self) -> int:
        """How many messages were delivered or failed."""
        return self.delivered + self.failed


@attrs.frozen(kw_only=True)
class Refusal:
    """How many messages were refused with a code."""

    code: str
    meaning: str | None
    scope: Scope
    messages: int


class LabelKind(enum.StrEnum):
    """The kinds of labels that messages have."""

    CAMPAIGN = "campaign"
    TAG = "tag"


@attrs.frozen(kw_only=True)
class Labelled:
    """How many messages have a campaign reference or a tag, and what became of them.

    `accepted` counts all messages that Skycore took, whatever became of them.  `segments` are the
    segments of these, which are billed, and `cost` what they cost, where the price is known.
    """

    kind: LabelKind
    name: str
    messages: int
    accepted: int
    delivered: int
    failed: int
    in_doubt: int
    segments: int
    cost: Decimal | None


@attrs.frozen(kw_only=True)
class Bill:
    """The segments of all messages that Skycore took, and their cost where the price is known.

    `unmeasured` counts messages that an earlier version began: their segments are not known.
    """

    segments: int
    unmeasured: int
    price: Decimal | None
    cost: Decimal | None


@attrs.frozen(kw_only=True)
class InDoubt:
    """A message that may have been sent."""

    key: str
    to: str
    since: datetime


@attrs.frozen(kw_only=True)
class ReportData:
    """The data of a report.

    `found_sent` and `found_not_sent` count the doubts that Skycore's own report ended.
    `sent_since` counts those of the latter that a later run has sent.
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
    bill: Bill
    labels: list[Labelled]
    in_doubt: list[InDoubt]


class ReportCounters:
    """Counts messages page by page, and returns the report data at the end.

    `price` is the price of a segment, where it is known.
    """

    def __init__(self, price: Decimal | None = None) -> None:
        self._price = price
        self._segments = 0
        self._unmeasured = 0
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
        self._labels = {kind: CappedCounter[str](OTHERS) for kind in LabelKind}
        self._labelled: Counter[tuple[LabelKind, str, str]] = Counter()
        self._in_doubt: list[InDoubt] = []

    @property
    def step(self) -> int:
        """The seconds of one slot at present."""
        return self._timeline.step

    def add(self, page: CountedPage) -> None:
        """Count a page of messages."""
        for begun in page.begun:
            self._add_begun(begun)
        for ended, messages in page.ended.items():
            self._add_ended(ended, messages)
        self._times.add(page.times)

    def _add_begun(self, begun: BegunCount) -> None:
        state, messages = _S(begun.state), begun.messages
        self.messages += messages
        self._states[state] += messages
        if begun.settled_by is not None and state not in _NOT_SENT:
            self._settled[begun.settled_by] += messages
        self._timeline.add(state, messages, first=begun.first, last=begun.last)
        if state is _S.REJECTED or (state is _S.NOT_SENT and begun.code):
            self._refusals.add(begun.code or "", messages)
        if state in TAKEN:
            self._segments += begun.segments
            self._unmeasured += begun.unmeasured
        if begun.campaign_ref:
            self._add_label(LabelKind.CAMPAIGN, begun.campaign_ref, begun)
        for tag in dict.fromkeys(tags_from_text(begun.tags)):
            self._add_label(LabelKind.TAG, tag, begun)

    def _add_label(self, kind: LabelKind, name: str, begun: BegunCount) -> None:
        counted = self._labels[kind].add(name, begun.messages)
        self._labelled[kind, counted, begun.state] += begun.messages
        if begun.state in TAKEN:
            self._labelled[kind, counted, _ACCEPTED] += begun.messages
            self._labelled[kind, counted, _SEGMENTS] += begun.segments

    def _label(self, kind: LabelKind, name: str, messages: int) -> Labelled:
        def of(what: str) -> int:
            return self._labelled[kind, name, what]

        return Labelled(
            kind=kind,
            name=name,
            messages=messages,
            accepted=of(_ACCEPTED),
            delivered=of(_S.DELIVERED),
            failed=of(_S.FAILED),
            in_doubt=of(_S.IN_DOUBT),
            segments=of(_SEGMENTS),
            cost=self._cost(of(_SEGMENTS)),
        )

    def _cost(self, segments: int) -> Decimal | None:
        return None if self._price is None else self._price * segments

    def _add_ended(self, ended: EndedKind, messages: int) -> None:
        spid, protocol, status = ended.carrier
        carrier = self._ended.add((spid, None) if spid else (None, protocol), messages)
        if ended.state == _S.FAILED:
            reason = ended.reason or "unknown"
            self._failed[carrier] += messages
            self._reasons[reason] += messages
            self._failures.add((reason, spid, protocol, status), messages)

    def list_doubts(self, doubts: Iterable[MessageLine]) -> bool:
        """Add doubts to the list; return False once the list is full."""
        left = MAX_ROWS - len(self._in_doubt)
        self._in_doubt += map(_in_doubt, itertools.islice(doubts, left))
        return len(self._in_doubt) < MAX_ROWS

    def report_data(self, summary: Summary, *, ledger: str, made: datetime) -> ReportData:
        """Return the report data of the counted messages."""
        slots = list(self._timeline.slots())
        return ReportData(
            ledger=ledger,
            made=made,
            first=self._timeline.first,
            last=self._timeline.last,
            messages=self.messages,
            states={state: self._states[state] for state in _S},
            settled_by_postback=self._settled[BY_POSTBACK],
            found_sent=self._settled[BY_REPORT],
            found_not_sent=summary.proven_not_sent,
            sent_since=summary.sent_since,
            unplaced=summary.unplaced,
            opted_out=summary.opted_out,
            step=self._timeline.step,
            over_time=slots,
            delivery_time=self._times.delivery_time(self._states[_S.DELIVERED]),
            failures_by_reason=dict(self._reasons.most_common()),
            failures=[_failure(alike, n) for alike, n in self._failures.ranked()],
            carriers=[_carrier(one, n, self._failed[one]) for one, n in self._ended.ranked()],
            refusals=[_refusal(code, n) for code, n in self._refusals.ranked()],
            bill=Bill(
                segments=self._segments,
                unmeasured=self._unmeasured,
                price=self._price,
                cost=self._cost(self._segments),
            ),
            labels=[
                self._label(kind, name, n)
                for kind, names in self._labels.items()
                for name, n in names.ranked()
            ],
            in_doubt=self._in_doubt,
        )


def _in_doubt(line: MessageLine) -> InDoubt:
    since = datetime.fromtimestamp(line.started_at, UTC)
    return InDoubt(key=mask_in(line.key, line.to), to=masked(line.to), since=since)


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
