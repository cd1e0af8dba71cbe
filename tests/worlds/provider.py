"""The pretend provider: it bills every message that it takes, and lists each bill in its books.

Strategy: the events say what it does with each attempt.  It posts postbacks to the receiver of
whichever process runs.  The books outlive every process, and all rules are checked against them.

Rules:

* A message is identified by its text, whatever its number, key or id.
* A postback that is not answered with 200 is posted again, a few times.
"""

from __future__ import annotations

import itertools
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, TypeVar

import attrs

from skycore_async.simulator import behaviours, postbacks
from skycore_async.simulator.postbacks import PostbackForm

from .events import Answer, Answers, Message, Outage, Tells, Told

T = TypeVar("T")

_OTHERS: Final = 0.2  # of what is sent, beside which others send to the number
_FIRST_OF_OTHERS: Final = 500_000
_MENDED: Final = 9  # the version of a text that was mended
TRIES: Final = 5  # times that a postback is posted
AGAIN_AFTER: Final = 15.0  # seconds until it is posted again
BEGINNING: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)  # the provider's time at 0

NEW: Final = "\U0001fa77"  # of Unicode 15, which Python 3.11 does not know yet

_EVENTS: Final = {
    "sent": behaviours.SENT,
    "delivered": behaviours.DELIVERED,
    "failed": behaviours.FAILED,
}
_AS_USUAL: Final = (Told(kind="sent", after=0.05), Told(kind="delivered", after=0.3))


def text_of(name: str, version: int) -> str:
    """Return the text of a message, by which the provider knows it."""
    return f"Hello {name} v{version} {NEW}"


def name_in(text: str) -> tuple[str, int]:
    """Return which message a text is of, and which version of it."""
    _, name, version, *_ = text.split(" ")
    return name, int(version.removeprefix("v"))


def plain(tracking_id: str) -> str:
    """Return a tracking id as it is in the books, however it is spelt."""
    if tracking_id.startswith("SMS_"):
        return tracking_id
    return b64decode(tracking_id.encode()).decode()


@attrs.frozen(kw_only=True)
class Submission:
    """A message that was taken, and billed."""

    id: str
    name: str
    version: int
    to: str
    at: float
    from_: str = "60856"

    def spelt(self, *, is_encoded: bool) -> str:
        """Return its tracking id as the provider writes it."""
        return b64encode(self.id.encode()).decode() if is_encoded else self.id


@attrs.define(eq=False)
class Posted:
    """A postback that is to be posted, and how often it was; `mark` stands in it."""

    at: float
    body: bytes
    mark: int
    submission: Submission | None = None
    told: Told | None = None
    tries: int = 0
    postback: postbacks.Postback | None = None  # of the form that can be bundled
    choice: tuple[str, bool] | None = None  # a number, and whether it opts out
    is_taken: bool = False  # it was answered with 200
    answered_at: float = 0.0
    is_beside: bool = False  # it was put into the inbox
    is_forgotten: bool = False  # by a backup that was put back since


class Provider:
    """The provider of a world; `now` gives the time, `note` is told what happens."""

    def __init__(
        self,
        answers: list[Answers],
        tells: list[Tells],
        outages: list[Outage],
        *,
        has_others: bool,
        chance: Random,
        now: Callable[[], float],
        note: Callable[[str], None],
    ) -> None:
        self.books: dict[str, Submission] = {}  # by tracking id
        self.billed: Counter[str] = Counter()  # by name
        self.refused: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.unclear: Counter[str] = Counter()  # exchanges without a clear answer, by name
        self.postbacks: list[Posted] = []
        self.throttles = False  # it has asked for less
        self.is_well = False  # whatever was planned, it behaves from now on
        self.on_post: Callable[[Posted], None] = lambda _: None
        self.on_all_posted: Callable[[], None] = lambda: None
        self.on_submitted: Callable[[str, str], list[Any]] = lambda name, to: []
        self.on_answered: Callable[[str], None] = lambda name: None
        self.on_billed_again: Callable[[str, list[Any]], None] = lambda name, words: None
        self.now = now
        self._note = note
        self._answers = {f"k{each.key}": iter(each.answers) for each in answers}
        self._tells = {f"k{each.key}": each.told for each in tells}
        self._outages = [(each.at, each.at + each.lasts) for each in outages]
        self.others: list[Submission] = []  # of who sends over the same account
        self._has_others = has_others
        self._chance = chance
        self._ids = itertools.count(1)
        self._marks = itertools.count(1)

    def mended(self, message: Message) -> Message:
        """Return a message with another text where the one it had was refused."""
        name = f"k{message.key}"
        if name in self.refused and not self.billed[name]:
            return attrs.evolve(message, version=_MENDED)
        return message

    def answer_to(self, name: str) -> Answer:
        """Return what is done with the next attempt of a message."""
        planned: Iterator[Answer] = self._answers.get(name, iter(()))
        if self.is_well:
            return Answer.ACCEPTED
        now, answer = self.now(), next(planned, Answer.ACCEPTED)
        is_out = any(since <= now < until for since, until in self._outages)
        self.throttles |= answer in {Answer.THROTTLED, Answer.TOO_MANY}
        return Answer.BAD_GATEWAY if is_out else answer

    def asked_by_others(self, to: str, name: str) -> None:
        """Have somebody else send to a number, perhaps the same text from another sender."""
        if self._has_others and self._chance.random() < _OTHERS:
            is_same = self._chance.random() < 0.5
            other = Submission(
                id=f"SMS_{_FIRST_OF_OTHERS + len(self.others)}",
                name=name if is_same else "other",
                version=0,
                to=to,
                at=self.now(),
                from_="70999" if is_same else "60856",
            )
            self.others.append(other)

    def is_heads(self) -> bool:
        """Toss a coin."""
        return self._chance.random() < 0.5

    def one_of(self, several: Sequence[T]) -> T:
        """Draw one of several."""
        return several[0] if len(several) == 1 else self._chance.choice(several)

    def delay(self) -> float:
        """Draw the seconds that something takes on its way."""
        return float(0.001 * 10 ** (2 * self._chance.random()))

    def take(self, name: str, version: int, to: str, words: list[Any]) -> Submission:
        """Take and bill a message, for which these have given their word."""
        if self.billed[name]:
            self.on_billed_again(name, words)
        id_ = f"SMS_{next(self._ids)}"
        taken = Submission(id=id_, name=name, version=version, to=to, at=self.now())
        self.books[id_] = taken
        self.billed[name] += 1
        self._note(f"taken {name} as {id_}")
        for told in self._tells.get(name, _AS_USUAL):
            if self.is_well or not told.is_lost:
                self._post(taken, told)
        return taken

    def _post(self, taken: Submission, told: Told) -> None:
        mark = next(self._marks)
        at = taken.at + told.after
        postback = _postback(taken, told, mark, BEGINNING + timedelta(seconds=at))
        form = PostbackForm.FLAT if told.is_flat else PostbackForm.NOTIFICATION
        body = postbacks.render(postback, form)
        for copy in range(told.copies):
            posted = Posted(at=at + 3 * copy, body=body, mark=mark, submission=taken, told=told)
            posted.postback = None if told.is_flat else postback
            self.post(posted)

    def post_text(self, number: str, text: str) -> Posted:
        """Post a text from a handset now."""
        mark = next(self._marks)
        time = (BEGINNING + timedelta(seconds=self.now())).isoformat()
        body = (
            f"<POSTBACK><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><FROM>{number}</FROM>"
            f"<TO>60856</TO><TEXT>{text}</TEXT><RECEIVED>{time}</RECEIVED>"
            f"<TRANSACTIONID>{mark}</TRANSACTIONID></POSTBACK>"
        )
        posted = Posted(at=self.now(), body=body.encode(), mark=mark)
        self.post(posted)
        return posted

    def post(self, posted: Posted) -> None:
        """Have a postback posted when its time has come."""
        self.postbacks.append(posted)
        self.on_post(posted)

    def answered(self, posted: Posted, status: int | None, *, is_beside: bool) -> None:
        """Take the answer to a postback in; None where none came."""
        posted.is_beside = is_beside
        posted.tries += 1
        posted.answered_at = self.now()
        self._note(f"postback {posted.mark}: {status}")
        if status == 200:
            posted.is_taken = True
        elif posted.tries < TRIES:
            posted.at = max(self.now(), posted.at) + AGAIN_AFTER
            self.on_post(posted)
        if not self.to_post:
            self.on_all_posted()

    @property
    def to_post(self) -> list[Posted]:
        """The postbacks that are still to be posted."""
        return [each for each in self.postbacks if not each.is_taken and each.tries < TRIES]


def _postback(taken: Submission, told: Told, mark: int, at: datetime) -> postbacks.Postback:
    stamp = at + timedelta(hours=told.hours)
    to = taken.to[-10:] if told.is_short else taken.to
    event = _EVENTS[told.kind]
    return postbacks.Postback(
        event=attrs.evolve(event, detail=f"{event.detail or ''} mark={mark}"),
        to=to,
        tracking_id=taken.spelt(is_encoded=told.is_encoded),
        history_id=int(taken.id.removeprefix("SMS_")),
        id=mark,
        created=stamp,
        timestamp=stamp,
        from_="60856",
    )


def body_of(posted: Sequence[Posted]) -> bytes:
    """Return the body in which these are posted together."""
    first, *others = posted
    if not others:
        return first.body
    return postbacks.bundle([each.postback for each in posted if each.postback is not None])
