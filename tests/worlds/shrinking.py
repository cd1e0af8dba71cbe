"""Makes a world that breaks a rule as short as possible.

Strategy: leave out events, first in halves, then one by one, then parts of the remaining events,
as long as the same kind of rule is broken.  Since every change alters what is drawn for the rest,
each world is tried with a few seeds of chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import attrs

from .events import Answers, Bulk, Event, Plan, Send, SendMany, Settings, Tells

_CHANCES: Final = 6
_DETAILS: Final = re.compile(r"\b[kn]?\d+\b|'[^']*'|made-up\S*")


def kind_of(broken: str) -> str:
    """Return what kind of rule was broken, whichever message broke it."""
    return _DETAILS.sub("#", broken)[:60]


def shrunk(plan: Plan, run: Callable[[Plan], Sequence[str]], *, most: int = 3000) -> Plan:
    """Return a small world in which the same kind of rule is broken; `run` returns those.

    At most so many worlds are tried.
    """
    return _Shrinking(plan, run, most).result()


class _Shrinking:
    def __init__(self, plan: Plan, run: Callable[[Plan], Sequence[str]], most: int) -> None:
        self._plan = plan
        self._run = run
        self._left = most
        self._kinds = set(map(kind_of, run(plan)[:1]))
        self._chances = [plan.chance, *range(_CHANCES)]

    def result(self) -> Plan:
        """Shrink until nothing more can be left out."""
        size = None
        while size != str(self._plan) and self._left > 0:
            size = str(self._plan)
            self._leave_out_events()
            for simpler in (_simpler_settings, _simpler_events):
                self._try_all(simpler)
        return self._plan

    def _breaks(self, plan: Plan) -> Plan | None:
        for chance in dict.fromkeys((self._plan.chance, *self._chances)):
            tried = attrs.evolve(plan, chance=chance)
            self._left -= 1
            if self._left < 0:
                return None
            if self._kinds & set(map(kind_of, self._run(tried))):
                return tried
        return None

    def _is_taken(self, plan: Plan) -> bool:
        found = self._breaks(plan)
        if found is not None:
            self._plan = found
        return found is not None

    def _leave_out_events(self) -> None:
        size = max(1, len(self._plan.events) // 2)
        while True:
            at = 0
            while at < len(self._plan.events):
                events = self._plan.events
                rest = events[:at] + events[at + size :]
                if not self._is_taken(attrs.evolve(self._plan, events=rest)):
                    at += size
            if size == 1:
                return
            size //= 2

    def _try_all(self, simpler: Callable[[Plan], Iterator[Plan]]) -> None:
        again = True
        while again and self._left > 0:
            again = any(map(self._is_taken, simpler(self._plan)))


def _simpler_settings(plan: Plan) -> Iterator[Plan]:
    plain = Settings()
    for field in attrs.fields(Settings):
        value = getattr(plain, field.name)
        if getattr(plan.settings, field.name) != value:
            yield attrs.evolve(plan, settings=attrs.evolve(plan.settings, **{field.name: value}))


def _simpler_events(plan: Plan) -> Iterator[Plan]:
    for at, event in enumerate(plan.events):
        for simpler in _simpler(event):
            yield attrs.evolve(plan, events=(*plan.events[:at], simpler, *plan.events[at + 1 :]))


def _simpler(event: Event) -> Iterator[Event]:
    if isinstance(event, SendMany | Bulk):
        for shorter in _without_one(event.messages):
            yield attrs.evolve(event, messages=shorter)
        if len(event.messages) == 1:
            yield Send(at=event.at, message=event.messages[0], word=event.word)
    if isinstance(event, Answers):
        for answers in _without_one(event.answers):
            yield attrs.evolve(event, answers=answers)
    if isinstance(event, Tells):
        for told in _without_one(event.told):
            yield attrs.evolve(event, told=told)
        for number, each in enumerate(event.told):
            for plainer in _plainer(each):
                told = (*event.told[:number], plainer, *event.told[number + 1 :])
                yield attrs.evolve(event, told=told)
        return
    yield from _plainer(event)


def _without_one(values: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    if len(values) > 1:
        for at in range(len(values)):
            yield values[:at] + values[at + 1 :]


def _plainer(value: Any) -> Iterator[Any]:
    """Yield a value with each of its fields as it always is."""
    for field in attrs.fields(type(value)):
        if field.default is not attrs.NOTHING and getattr(value, field.name) != field.default:
            yield attrs.evolve(value, **{field.name: field.default})
    for name in ("at", "after"):
        moment = getattr(value, name, None)
        if moment is not None and moment != round(moment):
            yield attrs.evolve(value, **{name: float(round(moment))})
