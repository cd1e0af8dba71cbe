"""What happens in a world, as values, and how it is drawn from a seed.

Strategy: a world is its settings and a list of events.  Each event stands by itself: a
world without it is a world, too, in which less goes wrong.  So a world is made smaller by
leaving events out, and written down as it is printed.

Rules:

* Keys and numbers are small integers, `key_of` and `number_of` say what they are on the
  wire.
* Where nothing is said of a message, the provider takes it, answers at once, and posts
  that it was sent and delivered.
* Times are in seconds from the beginning of the world.
"""

from __future__ import annotations

import enum
from random import Random
from typing import Final

import attrs

LENGTH: Final = 6.0  # seconds from the first event to the last
OWN_NUMBER: Final = 100  # from here on a number is that of one key alone


class Answer(enum.StrEnum):
    """What the provider does with a message that it is sent."""

    ACCEPTED = "accepted"
    SLOW = "slow"  # taken, and answered after a while
    ODD_SPELLING = "odd spelling"  # accepted, with the tracking id in base64
    NEWS_FIRST = "news first"  # taken, and its postbacks are there before the answer
    REFUSED = "refused"  # E712: its text
    NO_ACCOUNT = "no account"  # E120: its account
    NO_SENDER = "no sender"  # E111: its short code
    THROTTLED = "throttled"  # E106
    TOO_MANY = "too many"  # HTTP 429
    UNREACHABLE = "unreachable"  # no byte left
    DROPPED = "dropped"  # the connection broke, nothing was taken
    LOST = "lost"  # taken, and the connection broke
    HALF = "half"  # taken, and half an answer
    TWICE = "twice"  # taken, and two answers in one
    OTHERS = "another's"  # taken, and the answer to another number
    BAD_GATEWAY = "bad gateway"  # HTTP 502, nothing was taken
    TAKEN_BAD_GATEWAY = "taken, bad gateway"  # HTTP 502, taken
    NEVER = "never"  # nothing was taken, and no answer comes
    LATE = "late"  # taken, and the answer comes when nobody waits any more
    RAISES = "raises"  # taken, and the transport raises what it must not


# Those that show a message to be taken, or not, and what is drawn how often.
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


@attrs.frozen
class Message:
    """A message under a key, None for one without; `version` says which content it has."""

    key: int | None
    number: int
    version: int = 0


@attrs.frozen(kw_only=True)
class Send:
    """`send_sms`; the caller `leaves` after so many seconds, or is cancelled `natively`."""

    at: float
    message: Message
    word: bool = False  # to send it again where it is in doubt
    leaves: float | None = None
    natively: bool = False


@attrs.frozen(kw_only=True)
class SendMany:
    """`send_many`; the caller reads `reads` outcomes, or `leaves` after so many seconds."""

    at: float
    messages: tuple[Message, ...]
    word: bool = False
    is_async: bool = False
    reads: int | None = None
    leaves: float | None = None
    natively: bool = False


@attrs.frozen(kw_only=True)
class Answers:
    """What the provider does with the attempts of a key, one after the other."""

    key: int
    answers: tuple[Answer, ...]


@attrs.frozen(kw_only=True)
class Told:
    """One postback of a submission, `after` seconds from when it was taken."""

    kind: str  # sent, delivered or failed
    after: float
    is_flat: bool = True
    is_encoded: bool = False  # the tracking id in base64
    is_short: bool = False  # the number without its country code
    copies: int = 1
    hours: int = 0  # by which its time is wrong
    is_lost: bool = False


@attrs.frozen(kw_only=True)
class Tells:
    """Which postbacks the submissions of a key have."""

    key: int
    told: tuple[Told, ...]


@attrs.frozen(kw_only=True)
class Crash:
    """The process is killed, or loses its power, so many steps after a time."""

    at: float
    steps: int
    is_power: bool = False
    writes: int = 0  # in place of steps: so many writes to the disk
    down: float = 1.0


@attrs.frozen(kw_only=True)
class Reopen:
    """Client and ledger are closed in order, and opened again."""

    at: float


@attrs.frozen(kw_only=True)
class OptOut:
    """A number opts out, or in: by a call, or by a text from the handset."""

    at: float
    number: int
    is_out: bool
    by_text: bool


@attrs.frozen(kw_only=True)
class Jump:
    """The clock on the wall goes on from another time."""

    at: float
    seconds: float


@attrs.frozen(kw_only=True)
class Settle:
    """Doubts are settled by the sending report, which may break off."""

    at: float
    breaks: bool = False


Event = Send | SendMany | Answers | Tells | Crash | Reopen | OptOut | Jump | Settle


@attrs.frozen(kw_only=True)
class Settings:
    """What a world is made of."""

    in_flight: int = 4
    rate: float | None = None
    burst: int = 1
    favours: bool = False
    loses_power: bool = False  # on a disk that forgets what was not synced
    pages: int = 1000  # in a log before it is begun anew
    has_accidents: bool = False  # a limiter and a log handler that raise
    leaves_opening: float | None = None  # after so many seconds, and opens the ledger again
    reads_report: bool = False  # at the end, when a report can prove what was not sent


@attrs.frozen(kw_only=True)
class Plan:
    """A world: `chance` is the seed of all that its events do not say."""

    chance: int
    settings: Settings
    events: tuple[Event, ...]

    def __str__(self) -> str:
        """Return it as it would be typed, and can be read again by `read`."""
        lines = [f"        {_shown(event)},\n" for event in self.events]
        head = f"    chance={self.chance},\n    settings={_shown(self.settings)},\n"
        return f"Plan(\n{head}    events=(\n{''.join(lines)}    ),\n)"


def read(script: str) -> Plan:
    """Return the world that a script says, as a plan is printed."""
    names = {name: each for name, each in globals().items() if isinstance(each, type)}
    plan = eval(script, {"__builtins__": {}, **names})  # noqa: S307 - who runs it has written it
    assert isinstance(plan, Plan), "the script is no Plan"
    return plan


def _shown(value: Settings | Event | Told) -> str:
    """Write a value as it would be typed, without what is as always."""
    given = []
    for field in attrs.fields(type(value)):
        content = getattr(value, field.name)
        if content != field.default:
            given.append(f"{field.name}={_content(content)}")
    return f"{type(value).__name__}({', '.join(given)})"


def _content(value: object) -> str:
    if isinstance(value, tuple):
        return f"({''.join(f'{_content(each)}, ' for each in value)})"
    if isinstance(value, Answer):
        return f"Answer.{value.name}"
    if isinstance(value, Message):
        version = f", {value.version}" if value.version else ""
        return f"Message({value.key}, {value.number}{version})"
    return _shown(value) if isinstance(value, Told) else repr(value)


def key_of(message: Message) -> str | None:
    """Return the key of a message."""
    return None if message.key is None else f"k{message.key}"


def number_of(number: int) -> str:
    """Return a phone number."""
    return f"1555{number:07}"


# Drawing.


def draw(seed: int) -> Plan:
    """Draw a world."""
    return _Draw(Random(seed)).plan(seed)


class _Draw:
    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._random = chance.random
        self._keys = chance.choice((3, 8, 20, 30, 30))
        self._shared = chance.choice((0.1, 0.3, 0.6))  # of keys share a number
        self._numbers = {key: self._number(key) for key in range(self._keys)}
        numbers = sorted(set(self._numbers.values()))
        self._choosing = chance.sample(numbers, min(2, len(numbers)))  # to opt out and in

    def plan(self, seed: int) -> Plan:
        """Draw a world's settings and events."""
        chance = self._chance
        settings = Settings(
            in_flight=chance.choice((1, 3, 8, 20)),
            rate=chance.choice((None, None, 5.0, 40.0)),
            burst=chance.choice((1, 3)),
            favours=self._is(0.3),
            loses_power=self._is(0.15),
            pages=chance.choice((8, 40, 1000)),
            has_accidents=self._is(0.15),
            leaves_opening=self._span(0.2) if self._is(0.15) else None,
            reads_report=self._is(0.5),
        )
        timed: list[Event] = [self._send() for _ in range(chance.randint(15, 35))]
        timed += [self._send_many() for _ in range(chance.randint(1, 4))]
        timed += [self._crash(settings) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
        timed += [Reopen(at=self._at()) for _ in range(chance.choice((0, 0, 1)))]
        timed += [self._opt_out() for _ in range(chance.choice((0, 0, 2, 5)))]
        if settings.reads_report:
            timed += [self._settle() for _ in range(chance.choice((0, 0, 1, 3)))]
        timed += [self._jump() for _ in range(chance.choice((0, 0, 0, 0, 1, 2)))]
        timed.sort(key=lambda event: getattr(event, "at", 0.0))
        answers = [self._answers(key) for key in range(self._keys) if self._is(0.6)]
        tells = [self._tells(key) for key in range(self._keys) if self._is(0.6)]
        return Plan(chance=seed, settings=settings, events=(*answers, *tells, *timed))

    def _is(self, likely: float) -> bool:
        return self._random() < likely

    def _at(self) -> float:
        return round(self._random() * LENGTH, 3)

    def _span(self, most: float) -> float:
        """Draw a span of which the short ones are as likely as the long ones."""
        return float(f"{most * 10 ** (-4 * self._random()):.3g}")

    def _number(self, key: int) -> int:
        return self._chance.randrange(3) if self._is(self._shared) else OWN_NUMBER + key

    def _message(self, *, has_key: bool = True) -> Message:
        key = self._chance.randrange(self._keys)
        version = 1 if self._is(0.05) else 0
        return Message(key if has_key else None, self._numbers[key], version)

    def _leaves(self) -> float | None:
        return self._span(5.0) if self._is(0.2) else None

    def _send(self) -> Send:
        return Send(
            at=self._at(),
            message=self._message(has_key=self._is(0.95)),
            word=self._is(0.25),
            leaves=self._leaves(),
            natively=self._is(0.5),
        )

    def _send_many(self) -> SendMany:
        messages = [
            self._message(has_key=self._is(0.95)) for _ in range(self._chance.choice((3, 12, 25)))
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

    def _settle(self) -> Settle:
        return Settle(at=self._at(), breaks=self._is(0.3))

    def _jump(self) -> Jump:
        far = self._chance.choice((2.0, 400.0, 4000.0, 90_000.0))
        return Jump(at=self._at(), seconds=self._chance.choice((-far, far)))

    def _answers(self, key: int) -> Answers:
        count = self._chance.choice((1, 1, 2, 4))
        drawn = self._chance.choices(list(_ANSWERS), list(_ANSWERS.values()), k=count)
        return Answers(key=key, answers=tuple(drawn))

    def _tells(self, key: int) -> Tells:
        is_flat = self._is(0.5)
        end = self._chance.choice(("delivered", "delivered", "failed", None))
        kinds = [kind for kind in ("sent", end) if kind is not None and self._is(0.85)]
        if self._is(0.2):
            kinds.reverse()
        hours = self._chance.choice((0, 0, 0, -7, 3))
        told = [
            Told(
                kind=kind,
                after=4500.0 if self._is(0.05) else self._span(10.0),
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
