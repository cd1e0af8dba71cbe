"""The events of a world, as values.

Strategy: a world is its settings and a list of events.  No event needs another: without it, a
world is still a world, in which less goes wrong.  So a world is made smaller by leaving events
out, and a printed world can be read back.

Rules:

* Keys and numbers are small integers; `key_of` and `number_of` return them as they are on the
  wire.
* Unless an event says otherwise, the provider takes a message, answers at once, and posts
  that it was sent and delivered.
* Times are in seconds from the beginning of the world.
"""

from __future__ import annotations

import enum
from typing import Final

import attrs

LENGTH: Final = 3.0  # seconds from the first event to the last
OWN_NUMBER: Final = 100  # from here on a number is that of one key alone
SHORT: Final = 1000  # what is more than that is the same number without its country code


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
class Bulk:
    """`skycore bulk`, whose rows are these messages."""

    at: float
    messages: tuple[Message, ...]
    word: bool = False


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


@attrs.frozen(kw_only=True)
class FullDisk:
    """The disk has no room: after so many `writes` the next `lasts` of them fail."""

    at: float
    writes: int
    lasts: int


@attrs.frozen(kw_only=True)
class Outage:
    """The provider answers HTTP 502 to all, from a time on for `lasts` seconds."""

    at: float
    lasts: float


@attrs.frozen(kw_only=True)
class Wait:
    """Somebody waits for the message of a key to be delivered or failed."""

    at: float
    key: int
    timeout: float


class Way(enum.StrEnum):
    """How a backup is put back."""

    CLOSED = "closed"  # once the program has ended, as the documentation says
    COPIED = "copied"  # over the files of the open ledger
    MOVED = "moved"  # in place of them, which are moved away
    REPLACED = "replaced"  # in place of the open file alone, whose log stays
    RESTORED = "restored"  # into the open file, by SQLite


@attrs.frozen(kw_only=True)
class Backup:
    """A backup is made of the open ledger; `with_log` it is a copy of its file and its log."""

    at: float
    with_log: bool = False


@attrs.frozen(kw_only=True)
class PutBack:
    """The last backup is put back; that of an open ledger is noticed after some seconds."""

    at: float
    way: Way = Way.CLOSED
    noticed: float = 1.0


Event = (
    Send
    | SendMany
    | Bulk
    | Answers
    | Tells
    | Crash
    | Reopen
    | OptOut
    | Jump
    | Settle
    | FullDisk
    | Outage
    | Wait
    | Backup
    | PutBack
)


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
    has_others: bool = False  # who send over the same account, and are in its report
    bundles: bool = False  # postbacks come together that are due within a second
    thread: float = 0.1  # seconds at most that a thread takes
    lags: float = 0.0  # seconds at most by which a process that waits goes on too late
    capacity: int | None = None  # of a ledger in memory, in place of one in a file
    has_inbox: bool = False  # some postbacks are taken in beside the ledger, by another process
    shares_opt_outs: bool = False  # with another ledger of the account
    changes_python: bool = False  # with each process, and the first has the first version


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
    if isinstance(value, Answer | Way):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, Message):
        version = f", {value.version}" if value.version else ""
        return f"Message({value.key}, {value.number}{version})"
    return _shown(value) if isinstance(value, Told) else repr(value)


def key_of(message: Message) -> str | None:
    """Return the key of a message."""
    return None if message.key is None else f"k{message.key}"


def number_of(number: int) -> str:
    """Return a phone number."""
    return f"1555{number:07}" if number < SHORT else f"555{number - SHORT:07}"


def may_be_same(one: str, other: str) -> bool:
    """Return whether two phone numbers may be one."""
    return one[-10:] == other[-10:]
