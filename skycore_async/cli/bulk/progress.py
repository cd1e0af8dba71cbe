"""The progress of a bulk send and its result: counted, and put into words.

Strategy: a `BulkCounters` counts outcomes in plain synchronous code, and describes the progress
in parts.  On a terminal the parts stand under a bar (`live`), elsewhere in a line every few
seconds.

Rules:

* A refusal counts whether it came in this run or in an earlier one: its row still needs mending.
  Only a message that was accepted before counts as "already done".
* Where a row's key was used with other content, the row counts by what became of that other
  message: in doubt, or already sent with another text, number or sender.
* A message that was not sent is left to send, however often it was tried: the same command sends
  it.
* The exit code tells the worst that happened: doubt first, then a refusal of more than one
  message, then messages not sent, then messages refused.
* A user who follows the advice to the letter sends nothing twice.
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
_LONGEST: Final = 70  # characters of the reason why the last message was not sent
_STUCK: Final = 200  # after so many failures in a row, no message is expected to get through


@attrs.frozen(kw_only=True)
class End:
    """How a run ended; where it stopped by itself, `halted` says why, and `cure` what helps."""

    interrupted: bool = False
    halted: str | None = None
    cure: str | None = None
    is_refused: bool = False


def why_stopped(error: Exception) -> str:
    """Describe the error that stopped a run."""
    if isinstance(error, OSError):
        return ": ".join(filter(None, (error.filename, error.strerror)))
    return f"temporary files: {error}" if isinstance(error, sqlite3.Error) else str(error)


@attrs.define(kw_only=True)
class BulkCounters:
    """What came of the messages so far; `clock` gives seconds.

    `known` counts the messages whose outcome the ledger had when the run began: reading these
    takes no time to speak of.  `left_in_doubt` counts rows that are no message to send, but whose
    key is in doubt.  `held_back` counts messages beyond the limit of this run, `put_off` those
    outside their recipients' hours, and `not_sent_now` those that this run could not send.
    `remembered` counts refusals, opt-outs and doubts that the ledger had before, and `throttled`
    answers that messages come too fast.  `waiting` says what the whole run waits for, if it does.
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
    not_sent_now: int = 0
    put_off: int = 0
    remembered: int = 0
    throttled: int = 0
    waiting: str | None = None
    why_not_sent: str | None = None  # the reason of the last message that was not sent
    stuck: StuckCounter = attrs.field(factory=lambda: StuckCounter(_STUCK))
    is_stopping: bool = False
    in_flight: Callable[[], int] = lambda: 0  # messages whose answers are awaited
    awaited: int | None = None  # receipts that are to come; None where nobody listens
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
        """How many messages the same command would still send."""
        return self.total - self.done

    def take(self, outcome: Outcome) -> str | None:
        """Count an outcome; return the reason for the rejects where its row needs mending."""
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
        self.not_sent_now += 1
        self.why_not_sent = str(error)
        return None

    def throttle(self) -> None:
        """Count an answer that messages come too fast."""
        self.throttled += 1

    def read(self) -> None:
        """Take a reading of the progress, from which the rate is computed."""
        known = self.already_done + self.already_sent + self.remembered
        self._readings.append((self.clock(), self.done - known))

    @property
    def rate(self) -> float:
        """Outcomes a second lately, without those that the ledger had before."""
        if len(self._readings) < 2:  # noqa: PLR2004
            return 0.0
        (began, before), (ended, after) = self._readings[0], self._readings[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def parts(self) -> Iterator[str]:
        """Describe the progress, part by part."""
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
            ("not sent", self.not_sent_now, self._why()),
            ("not yet", self.put_off, ""),
            ("slowed down by Skycore", self.throttled, f" time{'s' * (self.throttled > 1)}"),
        ):
            if count or name == "accepted":
                yield f"{name} {count:,}{detail}"
        if self.awaited is not None:
            yield f"receipts awaited {self.awaited:,}"
        yield from self._how_long()

    def _why(self) -> str:
        """Say why the last message was not sent, so that a wrong host name shows early."""
        if self.why_not_sent is None or self.is_stopping:
            return ""
        return f" ({textwrap.shorten(self.why_not_sent, _LONGEST, placeholder=' ...')})"

    def _how_long(self) -> Iterator[str]:
        """Say what the run does until it ends, and how long that takes."""
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
    """Write a line every few seconds until cancelled; while the run waits, only if it changed."""
    counters.read()
    before: list[str] = []
    while True:
        await anyio.sleep(_EVERY)
        counters.read()
        parts = list(counters.parts())
        is_listening = counters.listens_until is not None
        # A countdown is no news, and a run may wait for a whole night.
        news = [*parts[:-1], "listening"] if is_listening else parts
        if news != before or not (is_listening or counters.waiting is not None):
            await print_beside(functools.partial(announce, "  ".join(parts)))
        before = news


# At the end.


def exit_code(counters: BulkCounters, end: End, estimate: Estimate) -> Exit:
    """Return the exit code for the worst that happened."""
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
    """Return the result as names and values, for programs."""
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
    """Return the result in lines, for people."""
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
    """Say how to send what is left, after a run with or without --resend-in-doubt."""
    if not resend_in_doubt:
        return "Run the same command to go on."
    # What was resent is in doubt once more, or accepted by now.
    return (
        "Run the same command without --resend-in-doubt to go on: with it, what is in doubt"
        " would be sent once more."
    )


def advice(
    counters: BulkCounters, end: End, *, ledger: Path, resend_in_doubt: bool
) -> Iterator[str]:
    """Say what to do about messages that were not sent, are in doubt, or await a receipt."""
    if end.halted is not None:
        yield f"Stopped: {end.halted}"
    elif counters.why_not_sent is not None and not end.interrupted:
        yield f"Why the last was not sent: {counters.why_not_sent}"
    go_on = how_to_go_on(resend_in_doubt=resend_in_doubt)
    if counters.left:
        # First the cure: each run against a wrong address brings more messages into doubt.
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
            " were not sent now: this text would be a second message to these recipients."
        )
