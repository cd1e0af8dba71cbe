"""How far a bulk send is, and what came of it in the end: counted, and said.

Strategy: a `BulkCounters` counts outcomes in plain synchronous code, and says how far
it is in parts.  On a terminal they stand under a bar (`live`), elsewhere a line every
few seconds has them.

Rules:

* A refusal counts whether it came now or is remembered: its row is still to be
  mended.  Only what was accepted before is "already done".
* A row whose key has other content is as far as that message got: in doubt, or sent
  already with another text, number or sender.
* What was not sent is left, whatever was tried: the same command sends it.
* The exit code tells the worst: doubt before all else, then a refusal of more than a
  message, not sent, refused.
* Who follows the advice to the letter sends nothing twice.
"""

from __future__ import annotations

import functools
import shlex
import sqlite3
import textwrap
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import attrs

from ...messages import Accepted, Outcome
from ...sending.outcomes import StuckCounter
from ..ui.beside import print_beside
from ..ui.marks import ALREADY_SENT, IN_DOUBT
from ..ui.outcome_kinds import OutcomeKind, outcome_kind
from ..ui.output import Exit, announce, number_of
from ..ui.signals import STOPPING
from .estimate import Estimate, duration
from .rows import RejectionKind

_EVERY: Final = 3.0  # seconds between lines where there is no terminal
_WINDOW: Final = 20  # readings that the rate is taken from
_REMEMBERED: Final = {OutcomeKind.IN_DOUBT, OutcomeKind.REFUSED, OutcomeKind.OPTED_OUT}
_LONGEST: Final = 70  # characters of why a message was not sent, while others are
_STUCK: Final = 200  # messages in a row that do not get through, and mean that none would


@attrs.frozen(kw_only=True)
class End:
    """How a run ended; `halted` says why it stopped by itself, if so, and `cure` what helps."""

    interrupted: bool = False
    halted: str | None = None
    cure: str | None = None
    is_refused: bool = False


def why_stopped(error: Exception) -> str:
    """Return in words what a run cannot go on after."""
    if isinstance(error, OSError):
        return ": ".join(filter(None, (error.filename, error.strerror)))
    return f"temporary files: {error}" if isinstance(error, sqlite3.Error) else str(error)


@attrs.define(kw_only=True)
class BulkCounters:
    """What came of the messages so far; `clock` gives seconds.

    `left_in_doubt` are rows that no message was made of, and whose key is in doubt;
    `held_back` are messages beyond the limit of this run.  `put_off` are those whose hours
    are not now, and `waiting` says what the whole run waits for, where it does.  Of `known`
    messages the ledger had the outcome before, and reading these takes no time to speak of.
    """

    total: int
    known: int = 0
    accepted: int = 0
    already_done: int = 0
    refused: Counter[str] = attrs.field(factory=Counter)
    opted_out: int = 0
    already_sent: int = 0
    in_doubt: int = 0
    left_in_doubt: int = 0
    held_back: int = 0
    turned_back: int = 0
    put_off: int = 0
    remembered: int = 0  # of what did not come out well, what had not before
    throttled: int = 0  # answers that there are too many messages a second
    waiting: str | None = None
    why_not_sent: str | None = None  # of the last one
    stuck: StuckCounter = attrs.field(factory=lambda: StuckCounter(_STUCK))
    is_stopping: bool = False
    in_flight: Callable[[], int] = lambda: 0  # messages whose answers are awaited
    awaited: int | None = None  # receipts, where they are listened for
    listens_until: float | None = None  # by `clock`, after the last send
    clock: Callable[[], float] = time.monotonic
    _readings: deque[tuple[float, int]] = attrs.field(factory=lambda: deque(maxlen=_WINDOW))

    @property
    def done(self) -> int:
        """How many messages have an outcome that stands."""
        known = self.already_done + self.already_sent
        return self.accepted + known + self.refused.total() + self.opted_out + self.in_doubt

    @property
    def left(self) -> int:
        """How many the same command would still send."""
        return self.total - self.done

    def take(self, outcome: Outcome) -> str | None:
        """Count an outcome, and return the reason if its row is one to mend."""
        self.stuck.add(outcome)
        if isinstance(outcome, Accepted):
            self.already_done += outcome.recorded
            self.accepted += not outcome.recorded
            return None
        error, kind = outcome.error, outcome_kind(outcome)
        if kind in _REMEMBERED:
            self.remembered += outcome.recorded
        if kind is OutcomeKind.ALREADY_SENT:
            self.already_sent += 1
            return f"{ALREADY_SENT}{error}"
        if kind is OutcomeKind.IN_DOUBT:
            self.in_doubt += 1
            return f"{IN_DOUBT}{error}"
        if kind is OutcomeKind.REFUSED:
            self.refused[getattr(error, "code", None) or type(error).__name__] += 1
            return str(error)
        if kind is OutcomeKind.OPTED_OUT:
            self.opted_out += 1
            return str(error)
        self.turned_back += 1
        self.why_not_sent = str(error)
        return None

    def throttle(self) -> None:
        """Count an answer that there are too many messages a second."""
        self.throttled += 1

    def read(self) -> None:
        """Note how far it is now, for the rate."""
        known = self.already_done + self.already_sent + self.remembered
        self._readings.append((self.clock(), self.done - known))

    @property
    def rate(self) -> float:
        """How many a second there were lately, but for those whose outcome was known before."""
        if len(self._readings) < 2:  # noqa: PLR2004
            return 0.0
        (began, before), (ended, after) = self._readings[0], self._readings[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def parts(self) -> Iterator[str]:
        """Say how far it is."""
        yield f"{self.done:,}/{self.total:,}"
        if self.listens_until is None and self.waiting is None:
            yield f"{self.rate:,.0f}/s"
        codes = ", ".join(f"{code} {count:,}" for code, count in self.refused.most_common(4))
        for name, count, detail in (
            ("in flight", self.in_flight(), ""),
            ("accepted", self.accepted, ""),
            ("already done", self.already_done, ""),
            ("already sent", self.already_sent, ""),
            ("refused", self.refused.total(), f" ({codes})"),
            ("opted out", self.opted_out, ""),
            ("in doubt", self.in_doubt, ""),
            ("not sent", self.turned_back, self._why()),
            ("not yet", self.put_off, ""),
            ("slowed down by Skycore", self.throttled, f" time{'s' * (self.throttled > 1)}"),
        ):
            if count or name == "accepted":
                yield f"{name} {count:,}{detail}"
        if self.awaited is not None:
            yield f"receipts awaited {self.awaited:,}"
        yield from self._how_long()

    def _why(self) -> str:
        """Say why the last was not sent: who waits for a host that is not there is to know."""
        if self.why_not_sent is None or self.is_stopping:
            return ""
        return f" ({textwrap.shorten(self.why_not_sent, _LONGEST, placeholder=' ...')})"

    def _how_long(self) -> Iterator[str]:
        """Say what comes, and for how long."""
        if self.listens_until is not None:
            left = max(0.0, self.listens_until - self.clock())
            yield f"listening {duration(left)} more, or until Ctrl-C"
        elif self.is_stopping:
            yield STOPPING
        elif self.waiting is not None:
            yield self.waiting
        elif self.rate:
            unsent = min(self.left, self.total - self.known - self.accepted)
            yield f"{duration(max(0, unsent) / self.rate)} left"


async def show_plain(counters: BulkCounters) -> None:
    """Write a line every few seconds, until cancelled; while it waits, one for what is new."""
    counters.read()
    before: list[str] = []
    while True:
        await anyio.sleep(_EVERY)
        counters.read()
        parts = list(counters.parts())
        is_listening = counters.listens_until is not None
        news = [*parts[:-1], "listening"] if is_listening else parts  # how long is none
        # It may wait for a whole night.
        if news != before or not (is_listening or counters.waiting is not None):
            await print_beside(functools.partial(announce, "  ".join(parts)))
        before = news


# In the end.


def exit_code(counters: BulkCounters, end: End, estimate: Estimate) -> Exit:
    """Return the exit code for the worst that there is."""
    table = (
        (counters.in_doubt + counters.left_in_doubt > 0, Exit.IN_DOUBT),
        (end.interrupted, Exit.INTERRUPTED),
        (end.is_refused, Exit.REFUSED),
        (counters.left > 0, Exit.NOT_SENT),
        (end.halted is not None, Exit.NOT_ALL_WELL),
        (counters.refused.total() + counters.already_sent > 0, Exit.NOT_ALL_WELL),
        (counters.opted_out > 0, Exit.NOT_ALL_WELL),
        (estimate.count(RejectionKind.INVALID) > 0, Exit.NOT_ALL_WELL),
    )
    return next((code for is_so, code in table if is_so), Exit.DONE)


def summary(counters: BulkCounters, end: End, estimate: Estimate) -> dict[str, Any]:
    """Return what came of it as names and values, for programs."""
    return {
        "rows": estimate.rows,
        "to_send": estimate.to_send,
        "accepted": counters.accepted,
        "already_done": counters.already_done,
        "already_sent": counters.already_sent,
        "refused": dict(counters.refused),
        "opted_out": counters.opted_out,
        "in_doubt": counters.in_doubt,
        "left_in_doubt": counters.left_in_doubt,
        "not_sent": counters.left,
        "held_back": counters.held_back,
        "outside_hours": counters.put_off,
        "throttled": counters.throttled,
        "why_not_sent": None if end.interrupted else counters.why_not_sent,
        "left_out": {kind.value: estimate.count(kind) for kind in RejectionKind},
        **estimate.numbers,
        "segments": estimate.segments,
        "receipts_awaited": counters.awaited,
        "interrupted": end.interrupted,
        "halted": end.halted,
    }


def account(counters: BulkCounters) -> Iterator[str]:
    """Say what came of it, in lines for people."""
    refused = ", ".join(f"{code} {count:,}" for code, count in counters.refused.most_common())
    rows = (
        ("accepted", counters.accepted, ""),
        ("already done", counters.already_done, ""),
        ("already sent", counters.already_sent, " (with another text, number or sender)"),
        ("refused", counters.refused.total(), f" ({refused})"),
        ("opted out", counters.opted_out, " (not sent to before they say START)"),
        ("in doubt", counters.in_doubt, ""),
        ("in doubt too", counters.left_in_doubt, " (rows that were left out)"),
        ("not sent", counters.left, ""),
        ("  not yet", counters.put_off, " (of these: it is not within their hours)"),
        ("awaited", counters.awaited or 0, " (receipts that have not come)"),
        ("slowed down", counters.throttled, " (answers of Skycore's that it was asked too fast)"),
        ("for later", counters.held_back, " (more than --limit)"),
    )
    for name, count, detail in rows:
        if count or name == "accepted":
            yield f"{name:<13} {count:,}{detail}"


def how_to_go_on(*, resend_in_doubt: bool) -> str:
    """Say how to send what is left, of a run that did or did not resend what was in doubt."""
    if not resend_in_doubt:
        return "Run the same command to go on."
    # Some of it is in doubt once more, or was accepted by now.
    return (
        "Run the same command without --resend-in-doubt to go on: with it, what is in doubt"
        " would be sent once more."
    )


def advice(
    counters: BulkCounters, end: End, *, ledger: Path, resend_in_doubt: bool
) -> Iterator[str]:
    """Say what to do about what did not come out well."""
    if end.halted is not None:
        yield f"Stopped: {end.halted}"
    elif counters.why_not_sent is not None and not end.interrupted:
        yield f"Why the last was not sent: {counters.why_not_sent}"
    go_on = how_to_go_on(resend_in_doubt=resend_in_doubt)
    if counters.left:
        # Not before: each run into a wrong address brings some messages more into doubt.
        first = f"{end.cure or 'First mend the cause.'} " if end.halted else ""
        yield f"{counters.left:,} not sent. {first}{go_on}"
    elif counters.held_back:
        yield f"{counters.held_back:,} for later. {go_on}"
    if doubts := counters.in_doubt + counters.left_in_doubt:
        settle = shlex.join(["skycore", "settle", str(ledger)])
        once = " With --yes, what was sent again once is sent no third time." * resend_in_doubt
        without = " without --resend-in-doubt" * resend_in_doubt
        yield (
            f"{doubts:,} may have been sent: no clear answer came. What is in doubt is never sent"
            f" again on its own. `{settle}`, best an hour from now, asks Skycore's own report"
            f" which were sent, and sends nothing itself; the same command{without} then sends"
            " those that were not. Postbacks taken into the ledger tell it sooner. With"
            " --resend-in-doubt, and under another key, campaign or ledger as well, whoever has it"
            f" already gets it twice, and you pay twice.{once}"
        )
    if counters.awaited:
        listen = shlex.join(["skycore", "listen", "--ledger", str(ledger)])
        yield (
            f"{number_of(counters.awaited, 'receipt')} not here yet; not every carrier sends one."
            f" What comes later is taken in by `{listen}`."
        )
    if counters.already_sent:
        yield (
            f"{counters.already_sent:,} went out before with another text, number or sender, and"
            " nothing was sent for them now: to get this one, too, they would get a second"
            " message."
        )
