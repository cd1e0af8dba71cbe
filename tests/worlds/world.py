"""A world: its processes one after the other, and what is found at its end.

Strategy: one process runs until the events of the plan are over, or until a crash; then
another goes on with the files that the first left on the disk.  At the end the provider behaves,
every message is sent once more, as a user would do after all that, and the rules are checked
against the provider's books.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from skycore_async.ledger.opt_outs import CLEAR

from . import rules
from .backups import Backups
from .events import Answers, Crash, FullDisk, Jump, Outage, Plan, Tells
from .life import Life
from .log import log_of_world
from .loop import Stuck
from .machine import Machine
from .notes import Notes
from .process import Process
from .provider import BEGINNING, Provider
from .pythons import another_python

_MOST_LIVES: Final = 12


class World:
    """The world of a plan, on an event loop; its machines are in `folder`."""

    def __init__(self, plan: Plan, folder: Path, *, backend: str) -> None:
        self.plan = plan
        self.backend = backend
        self.notes = Notes(self.now)
        self._folder = folder
        self._chance = Random(f"chance {plan.chance}")
        self._begun_at = 0.0  # when the process began, and the clock that goes on from there
        self._clock: Callable[[], float] = lambda: self._begun_at
        self._skew = 0.0
        self.provider = Provider(
            [event for event in plan.events if isinstance(event, Answers)],
            [event for event in plan.events if isinstance(event, Tells)],
            [event for event in plan.events if isinstance(event, Outage)],
            has_others=plan.settings.has_others,
            chance=self._chance,
            now=self.now,
            note=self.note,
        )
        self.provider.on_submitted = self.notes.submitted
        self.provider.on_answered = self.notes.answered
        self.provider.on_billed_again = self.notes.billed
        self.left = [e for e in plan.events if not isinstance(e, Answers | Tells | Outage)]
        self.names = itertools.count()
        self.doubts: set[str] = set()  # what is known to be in doubt by a crash
        self.steps = 0
        self.late = 0.0  # seconds by which events come later, as nothing ran meanwhile
        self.crash: Crash | None = None
        self.found: rules.Found | None = None
        jumps = [event.seconds for event in plan.events if isinstance(event, Jump)]
        self.jumps = bool(jumps)
        self.notes.has_clear_times = sum(map(abs, jumps)) < CLEAR / 2 and not (
            jumps and plan.settings.shares_opt_outs  # whose clock is right is not known
        )
        self.notes.forgets = plan.settings.capacity is not None
        self.fills = any(isinstance(event, FullDisk) for event in plan.events)
        self.reads_report = plan.settings.reads_report
        self.backups = Backups(self)
        self.has_witness = False  # a message that was taken before anything can be in doubt
        self.open_doubts: dict[str, str] = {}  # and why they are open

    # What all may ask.

    def now(self) -> float:
        """Return the time since the beginning of the world."""
        return self._clock()

    def wall(self) -> float:
        """Return what the clock on the wall shows, which may jump."""
        return BEGINNING.timestamp() + self.now() + self._skew

    def jump(self, seconds: float) -> None:
        """Have the clock on the wall show another time."""
        self._skew += seconds

    def note(self, what: str) -> None:
        """Note what happens."""
        self.notes.trace.append(f"{self.now():.6f} {self.steps} {what}")

    # Its processes.

    def run(self) -> Notes:
        """Run it to its end, and return what was noted in it."""
        settings = self.plan.settings
        machine = Machine.first(
            self._folder / "0", loses_power=settings.loses_power, pages=settings.pages
        )
        try:
            for number in range(1, _MOST_LIVES):
                process = Process(self, machine)
                is_done = self._live(process, number - 1)
                if process.left is None:
                    if not is_done:
                        self.notes.break_rule("a process ended without a crash")
                    break
                before, machine = machine, process.left(self._folder / str(number))
                before.remove()
            if not self.notes.broken:
                rules.check(self)
        finally:
            log_of_world.notes = None
            machine.remove()
        return self.notes

    def _python(self, number: int) -> contextlib.AbstractContextManager[None]:
        if self.plan.settings.changes_python:
            return another_python(number)
        return contextlib.nullcontext()

    def _live(self, process: Process, number: int) -> bool:
        self.crash = None
        life = Life(
            chance=self._chance,
            start=self._begun_at,
            favours=self.plan.settings.favours,
            thread=self.plan.settings.thread,
            lags=self.plan.settings.lags,
            on_clock=process.on_clock,
            on_step=process.on_step,
            on_error=process.on_error,
        )
        log_of_world.notes = self.notes
        log_of_world.may_fail = self.fills or self.backups.were_open
        log_of_world.raises = self.plan.settings.has_accidents
        try:
            with process.machine.running(), self._python(number):
                return life.run(self.backend, process.main)
        except Stuck as error:
            self.notes.break_rule(f"stuck: {error}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not to be
            self.notes.break_rule(f"the program failed: {_shown(error)}")
        finally:
            self._begun_at = process.ended_at if process.is_gone else self.now()
            self._clock = lambda: self._begun_at
        return False


def _shown(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_shown, error.exceptions))
    return f"{type(error).__name__}: {error}"
