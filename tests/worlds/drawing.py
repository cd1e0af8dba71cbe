"""How a world is drawn from its seed.

Strategy: each world has settings of its own: how many keys share a number, whether its events
are in one span of time or in two that are far apart, how slow its disk is.  So a fault that needs
several odd things at once is likely in some worlds, and no world has to be made for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

import attrs

from .events import (
    LENGTH,
    OWN_NUMBER,
    SHORT,
    Answer,
    Answers,
    Backup,
    Bulk,
    Crash,
    Event,
    FullDisk,
    Jump,
    Message,
    OptOut,
    Outage,
    Plan,
    PutBack,
    Reopen,
    Send,
    SendMany,
    Settings,
    Settle,
    Tells,
    Told,
    Wait,
    Way,
)

_BACKUPS: Final = 0.06  # of worlds have them

# What the provider does, and how often that is drawn.
_ANSWERS: Final = {
    Answer.ACCEPTED: 30,
    Answer.SLOW: 10,
    Answer.ODD_SPELLING: 8,
    Answer.NEWS_FIRST: 6,
    Answer.REFUSED: 5,
    Answer.NO_ACCOUNT: 1,
    Answer.NO_SENDER: 2,
    Answer.THROTTLED: 3,
    Answer.TOO_MANY: 2,
    Answer.UNREACHABLE: 6,
    Answer.DROPPED: 6,
    Answer.LOST: 8,
    Answer.HALF: 3,
    Answer.TWICE: 2,
    Answer.OTHERS: 2,
    Answer.BAD_GATEWAY: 3,
    Answer.TAKEN_BAD_GATEWAY: 3,
    Answer.NEVER: 2,
    Answer.LATE: 3,
    Answer.RAISES: 2,
}

# Where doubt is likely: what is taken without a clear answer, and what is not.
_DOUBTFUL: Final = {
    Answer.ACCEPTED: 4,
    Answer.LOST: 3,
    Answer.DROPPED: 3,
    Answer.SLOW: 1,
    Answer.NEWS_FIRST: 1,
    Answer.LATE: 1,
    Answer.REFUSED: 1,
}


def draw(seed: int) -> Plan:
    """Draw a world."""
    plan = _Draw(Random(seed)).plan(seed)
    chance = Random(f"backups {seed}")
    return with_backups(plan, chance) if chance.random() < _BACKUPS else plan


def with_backups(plan: Plan, chance: Random) -> Plan:
    """Add that the operator makes a backup and puts it back, where the disk keeps everything.

    Drawn by itself, so that all other worlds of a seed stay as they are.
    """
    if plan.settings.loses_power or plan.settings.capacity is not None:
        return plan
    added: list[Backup | PutBack] = []
    for _ in range(chance.choice((1, 1, 2))):
        at = round(chance.random() * LENGTH, 3)
        added.append(Backup(at=at, with_log=chance.random() < 0.5))
        for _ in range(chance.choice((1, 1, 2))):
            back_at = round(at + 2.0 * chance.random() ** 2, 3)
            way = chance.choice((Way.CLOSED, *Way))
            noticed = float(f"{10 ** (2 * chance.random() - 1):.3g}")
            added.append(PutBack(at=back_at, way=way, noticed=noticed))
    timed = sorted((*plan.events, *added), key=lambda event: getattr(event, "at", -1.0))
    return attrs.evolve(plan, events=tuple(timed))


class _Draw:
    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._random = chance.random
        self._has_outage = self._is(0.08)  # early, when most of a bulk send is new
        self._is_small = not self._has_outage and self._is(0.06)  # a ledger in memory
        self._keys = chance.choice(
            (3, 8) if self._is_small else (20, 30) if self._has_outage else (3, 8, 20, 30, 30)
        )
        self._shared = chance.choice((0.1, 0.3, 0.6))  # of keys share a number
        self._gap = chance.choice((0.0,) * 7 + (4000.0,))  # seconds between two spans
        self._is_doubtful = bool(self._gap) or self._is_small or self._is(0.1)
        # Two keys have a number for themselves, so that each is the other's only rival.
        self._is_paired = self._is(0.7 if self._is_doubtful else 0.15)
        # And one of the two is written without its country code, which may be another.
        self._is_short = self._is_paired and self._is(0.6)
        self._leaving = chance.choice((0.2, 0.2, 0.2, 0.6))
        self._numbers = {key: self._number(key) for key in range(self._keys)}
        numbers = sorted(set(self._numbers.values()))
        self._choosing = chance.sample(numbers, min(2, len(numbers)))  # to opt out and in

    def plan(self, seed: int) -> Plan:
        """Draw a world's settings and events."""
        chance = self._chance
        has_inbox = self._is(0.15) and not self._is_small
        shares_opt_outs = self._is(0.12) and not self._is_small
        lags = self._is(0.06) and not shares_opt_outs  # where many wait for the rate limit
        settings = Settings(
            in_flight=chance.choice((1, 1, 3) if self._has_outage else (1, 3, 8, 20)),
            rate=chance.choice((5.0, 5.0, 40.0) if lags else (None, None, 5.0, 40.0)),
            burst=chance.choice((1, 3)),
            favours=self._is(0.3),
            loses_power=self._is(0.4 if has_inbox or shares_opt_outs else 0.15),
            pages=chance.choice((8, 40, 1000, 1000)),
            has_accidents=self._is(0.15),
            leaves_opening=self._span(0.2) if self._is(0.15) else None,
            reads_report=self._is(0.5) and not self._is_small,
            has_others=self._is(0.2),
            bundles=self._is(0.2),
            thread=chance.choice((0.02, 0.1) if self._has_outage else (0.02, 0.1, 0.5, 1.0)),
            lags=chance.choice((0.3, 1.0)) if lags else 0.0,
            capacity=chance.choice((2, 2, 5, 10)) if self._is_small else None,
            changes_python=self._is(0.15),
            has_inbox=has_inbox,
            shares_opt_outs=shares_opt_outs,
        )
        timed: list[Event] = [self._send() for _ in range(chance.randint(10, 25))]
        timed += [self._send_many() for _ in range(chance.randint(1, 4))]
        if not self._is_small:
            timed += [self._crash(settings) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
            timed += [Reopen(at=self._at()) for _ in range(chance.choice((0, 0, 1)))]
        if settings.loses_power:
            timed += [self._full_disk() for _ in range(chance.choice((0, 1, 2)))]
            timed += self._full_when_left(timed)
        if not lags:  # and who waits would be told too late
            timed += [self._wait() for _ in range(chance.choice((0, 0, 2)))]
        timed += [self._bulk(self._at()) for _ in range(chance.choice((0, 0, 0, 1, 2)))]
        if self._has_outage:
            timed += self._outage()
        choices = (2, 5, 8) if settings.shares_opt_outs else (0, 0, 2, 5)
        timed += [self._opt_out() for _ in range(chance.choice(choices))]
        if settings.reads_report:
            timed += [self._settle() for _ in range(chance.choice((0, 0, 1, 3)))]
        timed += [self._jump() for _ in range(chance.choice((0, 0, 0, 0, 1, 2)))]
        if self._is(0.1):
            timed += self._set_right()
        if settings.shares_opt_outs:
            timed += self._change_of_mind(self._at())
        elif self._is(0.06):
            timed += self._ahead()
        if self._is(0.2) and not any(isinstance(each, Crash | Reopen) for each in timed):
            timed += self._sent_meanwhile()
        timed.sort(key=lambda event: getattr(event, "at", 0.0))
        answers = [self._answers(key) for key in range(self._keys) if self._is(0.6)]
        tells = [self._tells(key) for key in range(self._keys) if self._is(0.6)]
        return Plan(chance=seed, settings=settings, events=(*answers, *tells, *timed))

    def _is(self, likely: float) -> bool:
        return self._random() < likely

    def _at(self) -> float:
        at = round(self._random() * LENGTH, 3)
        return at + self._gap if self._gap and self._is(0.5) else at

    def _span(self, most: float) -> float:
        """Draw a span of which the short ones are as likely as the long ones."""
        return float(f"{most * 10 ** (-4 * self._random()):.3g}")

    def _upto(self, most: float) -> float:
        return self._random() * most

    def _number(self, key: int) -> int:
        if self._is_paired:
            return OWN_NUMBER + key // 2 + SHORT * (self._is_short and key % 2)
        return self._chance.randrange(3) if self._is(self._shared) else OWN_NUMBER + key

    def _message(self, *, has_key: bool = True) -> Message:
        key = self._chance.randrange(self._keys)
        version = 1 if self._is(0.05) else 0
        return Message(key if has_key else None, self._numbers[key], version)

    def _leaves(self) -> float | None:
        return self._span(5.0) if self._is(self._leaving) else None

    def _send(self) -> Send:
        return Send(
            at=self._at(),
            message=self._message(has_key=self._is(0.95)),
            word=self._is(0.8 if self._is_small else 0.6 if self._is_doubtful else 0.25),
            leaves=self._leaves(),
            natively=self._is(0.5),
        )

    def _send_many(self) -> SendMany:
        messages = [
            self._message(has_key=self._is(0.95)) for _ in range(self._chance.choice((3, 8, 18)))
        ]
        return SendMany(
            at=self._at(),
            messages=tuple(messages),
            word=self._is(0.2),
            is_async=self._is(0.4),
            reads=self._chance.randrange(10) if self._is(0.15) else None,
            leaves=self._leaves(),
            natively=self._is(0.5),
        )

    def _bulk(self, at: float) -> Bulk:
        count = self._chance.choice((3, 8, 18))
        return Bulk(
            at=at, messages=tuple(self._message() for _ in range(count)), word=self._is(0.2)
        )

    def _crash(self, settings: Settings) -> Crash:
        steps = int(10 ** (3.3 * self._random()))
        is_power = settings.loses_power
        writes = int(10 ** (2 * self._random())) if is_power and self._is(0.6) else 0
        return Crash(
            at=self._at(),
            steps=steps,
            is_power=is_power,
            writes=writes,
            down=self._chance.choice((0.1, 1.0, 30.0, 4000.0)),
        )

    def _opt_out(self) -> OptOut:
        number = self._chance.choice(self._choosing)
        return OptOut(at=self._at(), number=number, is_out=self._is(0.65), by_text=self._is(0.5))

    def _change_of_mind(self, at: float) -> tuple[OptOut, OptOut]:
        """Have a number let in by a call opt out by a text, soon after that."""
        number = self._chance.choice(self._choosing)
        out_at = round(at + self._upto(2.0), 3)
        return (
            OptOut(at=at, number=number, is_out=False, by_text=False),
            OptOut(at=out_at, number=number, is_out=True, by_text=True),
        )

    def _ahead(self) -> tuple[Event, ...]:
        """Have that happen by a clock on the wall that is ahead of the provider's."""
        jump = Jump(at=round(self._upto(1.0), 3), seconds=self._chance.choice((400.0, 4000.0)))
        return jump, *self._change_of_mind(round(jump.at + self._upto(1.0), 3))

    def _sent_meanwhile(self) -> tuple[Event, ...]:
        """Have the word given to send a message again that is only on its way into doubt."""
        key, at = self._chance.randrange(self._keys), round(self._upto(0.3), 3)
        message, later = Message(key, self._numbers[key]), round(at + 0.1 + self._upto(1.5), 3)
        return (
            Answers(key=key, answers=(Answer.LATE,)),
            Tells(key=key, told=()),  # which would settle it
            Send(at=at, message=message),
            Send(at=later, message=message, word=True),
        )

    def _settle(self) -> Settle:
        return Settle(at=self._at(), breaks=self._is(0.3))

    def _outage(self) -> tuple[Outage, Bulk]:
        at = round(self._upto(0.3), 3)
        rows = tuple(Message(key, number) for key, number in self._numbers.items())
        return Outage(at=at, lasts=4.0 + self._span(10.0)), Bulk(at=at, messages=rows)

    def _full_disk(self) -> FullDisk:
        writes, lasts = (int(10 ** (2 * self._random())) for _ in range(2))
        return FullDisk(at=self._at(), writes=writes, lasts=lasts)

    def _full_when_left(self, timed: Sequence[Event]) -> list[FullDisk]:
        """Have no room for a while about when somebody leaves, as one might because of that."""
        left = [each.at + each.leaves for each in timed if isinstance(each, Send) and each.leaves]
        return [
            FullDisk(at=round(at + self._span(1.0), 3), writes=0, lasts=int(10 ** self._upto(2.5)))
            for at in self._chance.sample(left, min(len(left), self._chance.choice((0, 1, 3))))
        ]

    def _wait(self) -> Wait:
        return Wait(at=self._at(), key=self._chance.randrange(self._keys), timeout=self._span(20))

    def _jump(self) -> Jump:
        far = self._chance.choice((2.0, 400.0, 4000.0, 90_000.0))
        return Jump(at=self._at(), seconds=self._chance.choice((-far, far)))

    def _set_right(self) -> tuple[Jump, Jump]:
        """Have the clock on the wall wrong for a while, by less than a report is late for."""
        at, far = self._at(), self._chance.choice((-1.0, 1.0)) * self._chance.uniform(400, 3000)
        until = round(at + self._upto(LENGTH), 3)
        return Jump(at=at, seconds=round(far)), Jump(at=until, seconds=-round(far))

    def _answers(self, key: int) -> Answers:
        count = self._chance.choice((1, 1, 2, 4))
        likely = _DOUBTFUL if self._is_doubtful else _ANSWERS
        drawn = self._chance.choices(list(likely), list(likely.values()), k=count)
        return Answers(key=key, answers=tuple(drawn))

    def _after(self) -> float:
        """Draw after how long is told of a message, perhaps when that is forgotten."""
        is_late = self._is_small and self._is(0.5)
        return round(self._upto(6.0), 2) if is_late else self._span(10.0)

    def _tells(self, key: int) -> Tells:
        is_flat = self._is(0.5)
        end = self._chance.choice(("delivered", "delivered", "failed", None))
        kinds = [kind for kind in ("sent", end) if kind is not None and self._is(0.85)]
        if self._is(0.2):
            kinds.reverse()
        hours = self._chance.choice((0, 0, 0, -7, 3))
        late = 0.5 if self._gap else 0.05
        told = [
            Told(
                kind=kind,
                after=4500.0 if self._is(late) else self._after(),
                is_flat=is_flat,
                is_encoded=self._is(0.5),
                is_short=self._is(0.15),
                copies=self._chance.choice((1, 1, 1, 2, 3)),
                hours=hours,
                is_lost=self._is(0.15),
            )
            for kind in kinds
        ]
        return Tells(key=key, told=tuple(told))
