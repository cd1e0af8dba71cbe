"""Small worlds of messages, the provider's history of them, and the report that it makes.

The provider knows what was billed, so it is the oracle for what a ledger settles by its report.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime

import attrs

from skycore_async.errors import KeyConflict
from skycore_async.ledger.base import BaseLedger
from skycore_async.ledger.model import MessageState, SendIntent, Submission
from skycore_async.ledger.texts import digest_of
from skycore_async.messages import ReportedMessage, ReportSection
from tests.support.ledger_cases import DOUBT, NOON, NOT_SENT, Clock

SENDER = "60856"


@attrs.frozen(kw_only=True)
class Sending:
    """An attempt to send the message `key`, of which the provider took it or did not.

    Times are in seconds after noon.  It ends `lasts` seconds later, accepted or in doubt; it
    leaves the provider `waits` seconds after it was taken, None for not yet, and is listed
    `lags` seconds after that.  The machine's clock is `behind` by so many seconds then.
    """

    key: str
    to: str
    text: str
    at: float
    lasts: float = 1
    is_taken: bool = True
    is_doubt: bool = False
    waits: float | None = 0
    lags: float = 0
    behind: float = 0

    @property
    def ends(self) -> float:
        return self.at + self.lasts


@attrs.frozen(kw_only=True)
class Row:
    """What the provider's history has of a message: when it took it, and what a report shows."""

    taken_at: float
    listed_at: float
    shown: ReportedMessage


class History:
    """The provider's history, by a clock that is `skew` seconds ahead.

    Its reports list what was taken `since` to `until` seconds after noon, whatever was asked.
    """

    def __init__(
        self, skew: float = 0, *, since: float = -math.inf, until: float = math.inf
    ) -> None:
        self._skew = skew
        self._since, self._until = NOON + since + skew, NOON + until + skew
        self._ids = itertools.count(1)
        self.rows: list[Row] = []

    def add(
        self,
        to: str,
        text: str,
        *,
        at: float,
        waits: float | None = 0,
        lags: float = 0,
        from_: str | None = SENDER,
        section: ReportSection = ReportSection.SENDING_LIST,
    ) -> str:
        """Add what was taken `at` seconds after noon, and return its id."""
        id_ = str(next(self._ids))
        shown = ReportedMessage(
            history_id=id_,
            to=to,
            from_=from_,
            text=" ".join(text.split("\n")),
            section=section,
            acknowledged_at=None if waits is None else moment(at + waits + self._skew),
        )
        self.rows.append(
            Row(taken_at=NOON + at + self._skew, listed_at=NOON + at + lags, shown=shown)
        )
        return id_

    def report(self, since: float, until: float, *, made_at: float) -> list[ReportedMessage]:
        """Return what a report lists that is made at `made_at`, in seconds since 1970."""
        return [
            row.shown
            for row in self.rows
            if max(since, self._since) <= row.taken_at <= min(until, self._until)
            and row.listed_at <= made_at
        ]


def moment(after: float) -> datetime:
    return datetime.fromtimestamp(NOON + after, UTC)


async def listed(messages: Iterable[ReportedMessage]) -> AsyncIterator[ReportedMessage]:
    for each in messages:
        yield each


async def send(
    ledger: BaseLedger, clock: Clock, history: History, sendings: Sequence[Sending]
) -> list[Sending]:
    """Send messages one after the other, and return those that went out.

    A message that was in doubt goes out again if it is given again.
    """
    begun: list[Sending] = []
    for sending in sorted(sendings, key=lambda each: each.at):
        intended = SendIntent(
            key=sending.key,
            content=digest_of(sending.to + sending.text),
            to=sending.to,
            from_=SENDER,
            started_at=NOON + sending.at - sending.behind,
            text_digest=digest_of(sending.text),
        )
        clock.now = NOON + sending.at - sending.behind
        try:
            if await ledger.begin(intended, resend_in_doubt=True) is not None:
                continue
        except KeyConflict:
            continue
        begun.append(sending)
        id_ = None
        if sending.is_taken:
            id_ = history.add(
                sending.to,
                sending.text,
                at=sending.ends - 0.5,
                waits=sending.waits,
                lags=sending.lags,
            )
        clock.now = NOON + sending.ends - sending.behind
        accepted = Submission(state=MessageState.ACCEPTED, tracking_id=f"T{id_}")
        clear = accepted if id_ else NOT_SENT
        await ledger.finish(sending.key, DOUBT if sending.is_doubt else clear)
    return begun
