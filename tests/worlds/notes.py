"""What is noted while a world runs, for `rules` to check.

Rule: nothing here asks the package.  The notes have only the calls, what they returned, and what
the provider had billed by then.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from skycore_async import (
    Accepted,
    Failed,
    KeyConflict,
    MessageState,
    NotSent,
    Outcome,
    Rejected,
)

from .forgetting import Forgetting, Memory
from .provider import Provider, plain

_BEGUN: Final = 2.5  # seconds in which is surely begun what waits for nothing before that


@attrs.define(eq=False)
class Call:
    """Somebody who sends a message, and may be sure of what came of it."""

    name: str
    version: int
    to: str
    word: bool
    number: int
    began: float
    billed_before: int
    is_alone: bool
    is_one: bool  # sent by itself, and not with many
    is_prompt: bool  # it is begun at once, as nothing is waited for before that
    left_at: float | None = None
    used: int = 0  # submissions that went out twice on its word
    outcome: Outcome | None = None

    @property
    def met_another(self) -> bool:
        """Whether its key was being sent with other content."""
        error = getattr(self.outcome, "error", None)
        return isinstance(error, KeyConflict) and error.state == MessageState.SENDING


@attrs.define(eq=False)
class _Choice:
    """What is known of a number's opting out: since when it surely has, if at all."""

    out_since: float | None = None
    pending: int = 0
    was_out: bool = False  # it was to opt out, whatever came of that
    is_unclear: bool = False
    changes: int = 0
    changed_at: float = 0.0


class Notes:
    """What was noted in a world, and the rules that were broken in it."""

    def __init__(self, now: Callable[[], float] = lambda: 0.0) -> None:
        self._now = now
        self.trace: list[str] = []
        self.broken: list[str] = []
        self.calls: list[Call] = []
        self.open_calls: dict[str, list[Call]] = defaultdict(list)
        self.words: Counter[str] = Counter()
        self.crashed_with: set[str] = set()  # names of what was under way at a crash
        self.told: dict[str, set[str]] = defaultdict(set)  # tracking ids, by name
        self.starts: list[list[float]] = []  # by each limiter
        self._exchanges = 0  # since the last limiter was made
        self._under_way: dict[str, list[float]] = {}  # from when, and until when, by name
        self.versions: dict[str, set[int]] = defaultdict(set)  # of contents, by name
        self.ended: dict[str, float] = {}  # when it was last not under way any more, by name
        self.has_clear_times = True  # no clock is so wrong that an opting out may not count
        self.forgets = False  # the ledger has but the last messages
        self._choices: dict[str, _Choice] = defaultdict(_Choice)
        self._abandoned: dict[str, list[Call]] = defaultdict(list)
        self.forgotten = Forgetting()  # by backups that were put back

    def break_rule(self, what: str) -> None:
        """Note that something is not as it must be."""
        self.broken.append(what)
        self.trace.append(f"BROKEN {what}")

    # Calls.

    def begin(
        self,
        provider: Provider,
        name: str,
        version: int,
        to: str,
        *,
        word: bool,
        is_one: bool,
        is_prompt: bool,
    ) -> Call:
        """Note that somebody sends a message."""
        alone = not self.open_calls[name] and not self._abandoned[name]
        for other in self.open_calls[name]:
            other.is_alone = False
        call = Call(
            name=name,
            version=version,
            to=to,
            word=word,
            number=len(self.calls),
            began=provider.now(),
            billed_before=provider.billed[name],
            is_alone=alone,
            is_one=is_one,
            is_prompt=is_prompt,
        )
        self.calls.append(call)
        self.open_calls[name].append(call)
        self.words[name] += word
        self.versions[name].add(version)
        return call

    def end(self, provider: Provider, call: Call, outcome: Outcome) -> None:
        """Note what came of it."""
        call.outcome = outcome
        self.ended[call.name] = provider.now()
        if _is_conflict(outcome) and len(self.versions[call.name]) == 1:
            self.break_rule(f"{call.name} is told to have other content, and has one")
        self.open_calls[call.name].remove(call)
        self.trace.append(f"told {call.name} {_said(outcome)}")
        billed = provider.billed[call.name] - call.billed_before
        if isinstance(outcome, Accepted) and not self._is_clear(provider, call, outcome):
            return
        if not (call.is_alone and billed) or call.name in self.forgotten.odd:
            return
        if outcome.recorded:
            self.break_rule(f"{call.name} was billed, and is told to be known already")
        elif isinstance(outcome, Failed) and isinstance(outcome.error, NotSent | Rejected):
            self.break_rule(f"{call.name} was billed, and is told to be {_said(outcome)}")

    def _is_clear(self, provider: Provider, call: Call, outcome: Accepted) -> bool:
        """Hold what is told to be accepted against the books; False if that is all to be said."""
        if not outcome.tracking_id:  # a report has told of it
            if not provider.billed[call.name]:
                self.break_rule(f"{call.name} is told to be accepted, and was never taken")
            return False
        id_ = plain(outcome.tracking_id)
        self.told[call.name].add(id_)
        self.forgotten.accepted(call.name)
        taken = provider.books.get(id_)
        if taken is not None and self.forgotten.odd & {call.name, taken.name}:
            return False
        if taken is None or taken.name != call.name:
            self.break_rule(f"{call.name} is told to be accepted as {id_}, which is {taken}")
        elif taken.version != call.version:
            self.break_rule(f"{call.name} is told to be accepted with other content")
        return True

    def leave(self, call: Call) -> None:
        """Note that its caller has left; what was begun goes on."""
        call.left_at = self._now()
        self._abandoned[call.name].append(call)
        self.open_calls[call.name].remove(call)
        self.trace.append(f"left {call.name}")

    def crash(self) -> None:
        """Note that the process is gone."""
        self.crashed_with |= self._may_be_under_way()
        self.closed()

    def closed(self) -> None:
        """Note that nothing is under way any more."""
        self.open_calls.clear()
        self._abandoned.clear()

    # Opting out.

    def choose(self, number: str, *, is_out: bool) -> None:
        """Note that a number is about to opt out or in."""
        choice = self._changed(number)
        choice.was_out |= is_out
        # Who is still to hear of a STOP may hear of it last, and then it counts.
        choice.is_unclear |= choice.out_since is not None and choice.out_since > self._now()
        choice.out_since = None
        choice.pending += 1
        choice.is_unclear |= choice.pending > 1

    def chose(self, number: str, *, is_out: bool, now: float) -> None:
        """Note that it is done."""
        choice = self._changed(number)
        choice.pending -= 1
        if not choice.pending and not choice.is_unclear:
            choice.out_since = now if is_out else None

    def _changed(self, number: str) -> _Choice:
        choice = self._choices[number]
        choice.changes += 1
        choice.changed_at = self._now()
        return choice

    def is_out(self, number: str) -> bool:
        """Return whether a number has surely opted out."""
        return self._choices[number].out_since is not None

    def may_be_out(self, number: str, *, by_odd_clocks: bool) -> bool:
        """Return whether a number may have opted out.

        Where clocks are odd, an opting in may be taken for one that came before.
        """
        choice = self._choices.get(number)
        return choice is not None and (
            (by_odd_clocks and choice.was_out)
            or choice.out_since is not None
            or choice.is_unclear
            or bool(choice.pending)
        )

    # Backups.

    def remember(self, billed: Mapping[str, int]) -> Memory:
        """Return what the ledger knows now, and a backup of it."""
        exchanges = self._under_way.items()
        return self.forgotten.remember(
            calls=len(self.calls),
            billed=billed,
            in_exchange=frozenset(name for name, times in exchanges if len(times) == 1),
            under_way=frozenset(self._may_be_under_way()),
            choices={number: choice.changes for number, choice in self._choices.items()},
        )

    def put_back(self, memory: Memory, *, has_all: bool) -> None:
        """Note that a backup is put back into an open ledger."""
        self.crashed_with |= self._may_be_under_way()
        self.forgotten.put_back(memory, calls=len(self.calls), has_all=has_all)

    def forget(self, memory: Memory, *, heard: float) -> None:
        """Note that a program opens a backup; what was said before `heard` is known elsewhere."""
        self.crashed_with |= memory.under_way
        self.forgotten.forget(memory, calls=len(self.calls))
        for number, choice in self._choices.items():
            if choice.changes > memory.choices.get(number, 0) and choice.changed_at > heard:
                choice.out_since, choice.is_unclear = None, True

    def _may_be_under_way(self) -> set[str]:
        return {name for name, calls in self.open_calls.items() if calls} | set(self._abandoned)

    # Exchanges.

    def paced(self) -> list[float]:
        """Return where a new limiter notes its starts, of which each is for one exchange."""
        self._exchanges = 0
        self.starts.append([])
        return self.starts[-1]

    def answered(self, name: str) -> None:
        """Note that an exchange is over."""
        self._under_way.setdefault(name, [self._now()]).append(self._now())

    def billed(self, name: str, words: list[Call]) -> None:
        """Note that a message is billed again, for which these have given their word."""
        if self.forgets:
            return
        for call in words:
            if not call.used:
                call.used += 1
                return
        if not self.forgotten.allows(name):
            self.break_rule(f"{name} was billed again without a word")

    def submitted(self, name: str, to: str) -> list[Call]:
        """Note that a message has come to the provider; return who gave the word for it."""
        self._check_choice(name, to)
        self._check_left(name)
        self._exchanges += 1
        if self.starts and self._exchanges > len(self.starts[-1]):
            self.break_rule(f"{name} was sent past the rate limit")
        calls = self.open_calls[name] + self._abandoned[name]
        first = min((call.number for call in calls), default=0)
        if not self.forgotten.submitted(name, first):
            self.break_rule(f"{name} was begun in an open ledger after a backup was put back")
        before = self._under_way.get(name, ())
        self._under_way[name] = [self._now()]
        return [call for call in calls if call.word and not _came_meanwhile(call, before)]

    def _check_left(self, name: str) -> None:
        left = self._abandoned[name]
        if left and not self.open_calls[name] and all(map(self._has_long_left, left)):
            self.break_rule(f"{name} was sent, though who asked for it had left")

    def _has_long_left(self, call: Call) -> bool:
        return call.is_one and call.left_at is not None and call.left_at < self._now()

    def _check_choice(self, name: str, to: str) -> None:
        since = self._choices[to].out_since
        if since is None or not self.has_clear_times or self._abandoned[name]:
            return
        began = min((call.began for call in self.open_calls[name]), default=since)
        if since < began:
            self.break_rule(f"{name} was sent to a number that had opted out")


def _came_meanwhile(call: Call, exchange: Sequence[float]) -> bool:
    """Return whether a call surely found its message in an exchange, of which it had to wait."""
    if not call.is_prompt or len(exchange) < 2:
        return False
    since, until = exchange[0], exchange[-1]
    return since <= call.began < until - _BEGUN


def _is_conflict(outcome: Outcome) -> bool:
    return isinstance(outcome, Failed) and isinstance(outcome.error, KeyConflict)


def _said(outcome: Outcome) -> str:
    if isinstance(outcome, Accepted):
        said = f"accepted as {outcome.tracking_id}"
    else:
        said = f"{type(outcome.error).__name__} ({outcome.error})"
    return f"{said}, as recorded" if outcome.recorded else said
