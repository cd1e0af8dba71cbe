"""Who may not be sent to: STOP, START, and what the provider says of it.

Rules:

* What a text says is read by `protocol.consent`: only a sure reading opts out or in.
* A text that is not surely STOP can be decided by a rule of the caller's, when it is
  recorded.  What it decides is kept, and so holds after a restart and for all who share
  the ledger.
* An unclear text is a candidate until somebody says something else of its number: a rule,
  a person, or a later STOP or START.  So is a STOP that an earlier version did not read.
* The last word counts.  Of two that the provider stamped, its stamps tell which that is,
  in whichever order they come.
* What the caller says, and what has no stamp, is the last word when it comes.
* Of the caller's word and a stamp, which are of two clocks, each of which may be wrong, the
  stamp tells only where it is clear.  Where it is not, the number has opted out.
* What the caller said to another ledger, and what an inbox kept, comes later than it was said:
  a leave to send counts from when it was given, and takes back no STOP that came after it.  Nor
  does an opt-out take the place of a later one, which a leave to send given between the two would
  then take back.
* Whoever said STOP is sent nothing, also where the provider names them without their country code:
  that counts for each number which may be named so (`numbers.spellings`), until that number itself
  is opted in later.  A START of that name opts in nobody but who is kept by it.
* A time that is yet to come is of a wrong clock, and the last word until somebody speaks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from inspect import isawaitable, iscoroutine
from itertools import chain
from typing import Final

import attrs

from ..errors import ConfigurationError
from ..notifications import InboundSMS, Notification, SubscriptionChange
from ..protocol.consent import Consent, consent_in
from ..protocol.numbers import digits, spellings
from ..runtime.given_functions import has_not_begun, has_yield, is_awaited
from ..runtime.logs import log

# True where a text opts its number out, False where it does not, None where the words decide.
OptOutRule = Callable[[InboundSMS], bool | None]

# The name that waiters use for a change of any number's word; no key is like it.
CHANGED: Final = "\0opt-outs"
_BLOCKED: Final = "E114"  # the recipient is on the block list
CLEAR: Final = 86_400.0  # seconds; a stamp in a wrong zone, or a clock set by hand, is nearer


@attrs.frozen(kw_only=True)
class OptOut:
    """A number's word on being sent to: not any more (`out`), or again.

    `number` has digits alone.  `at` is the provider's stamp where it is `stamped`, else the time
    at which it came; both in seconds since 1970.
    What is `only_if_in` changes nothing of a number that has opted out: an unclear text
    was found to be no opt-out.  What is `relayed` was said before, to another ledger or an inbox.
    """

    number: str
    out: bool
    at: float
    stamped: bool = False
    only_if_in: bool = False
    relayed: bool = attrs.field(default=False, eq=False)


def relayed(words: Iterable[OptOut]) -> list[OptOut]:
    """Return words as they come to whoever did not hear them first."""
    return [attrs.evolve(word, relayed=True) for word in words]


def all_spellings(numbers: Collection[str]) -> tuple[str, ...]:
    """Return by which names words may be kept that count for these numbers."""
    return tuple(set(chain.from_iterable(map(spellings, numbers))))


def word_on(number: str, words: Mapping[str, OptOut]) -> OptOut | None:
    """Return the word that counts for a number, of those of all its spellings; None for none."""
    own, *others = (words.get(name) for name in spellings(number))
    for short in others:
        if short is not None and short.out and (own is None or own.at <= short.at):
            return own if own is not None and own.out else short
    return own


def may_be_sent_to(number: str, words: Mapping[str, OptOut]) -> bool:
    """Return whether a number may be sent to, by the words of all its spellings."""
    if not words:
        return True
    word = word_on(number, words)
    return word is None or not word.out


def number_named(from_: str | None) -> str:
    """Return the digits of a number that a postback names, without the 00 that dials abroad."""
    known = digits(from_) or ""
    return known.lstrip("0") if known.startswith("00") else known


def opt_out_of(
    notification: Notification, *, received: float, rule: OptOutRule | None = None
) -> OptOut | None:
    """Return what a notification says of being sent to; None where it is about something else."""
    only_if_in = False
    if isinstance(notification, SubscriptionChange):
        number, out = notification.mobile, not notification.subscribed
    elif isinstance(notification, InboundSMS):
        consent = consent_in(notification.text)
        is_stop = consent is Consent.REVOKED or _decision(rule, notification)
        only_if_in = is_stop is False and consent is Consent.UNCLEAR
        if not (is_stop or only_if_in or consent is Consent.GIVEN):
            return None
        number, out = notification.from_, bool(is_stop)
    else:
        return None
    known = number_named(number)
    if not known:
        return None
    time = notification.timestamp
    is_stamped = time is not None and time.tzinfo is not None
    return OptOut(
        number=known,
        out=out,
        at=time.timestamp() if time is not None and is_stamped else received,
        stamped=is_stamped,
        only_if_in=only_if_in,
    )


def _decision(rule: OptOutRule | None, text: InboundSMS) -> bool | None:
    if rule is None:
        return None
    try:
        said: object = rule(text)
        if said is None or isinstance(said, bool):
            return said
        if not (isawaitable(said) or has_not_begun(said)):
            return bool(said) or None  # as a library's own kind of bool
    except Exception as error:  # noqa: BLE001 - it is the caller's, and costs no postback
        log.error("an opt-out rule raised %s: the words decide", type(error).__name__)
        return None
    # It would be taken for a yes, and opt out whoever says thanks.
    if iscoroutine(said):
        said.close()
    log.error("an opt-out rule returned a %s: the words decide", type(said).__name__)
    return None


def check_rule(rule: object) -> None:
    """Raise ConfigurationError where a rule cannot be asked in a thread."""
    if rule is None:
        return
    if callable(rule) and not (is_awaited(rule) or has_yield(rule)):
        return
    raise ConfigurationError(
        "opt_out_rule: a function that returns True, False or None is needed, and no coroutine"
        " function, as it is asked in a thread, nor one with `yield` in it"
    )


def is_candidate(notification: Notification) -> bool:
    """Return whether a notification is a text that may opt its number out."""
    if not isinstance(notification, InboundSMS) or not number_named(notification.from_):
        return False
    return consent_in(notification.text) in {Consent.REVOKED, Consent.UNCLEAR}


def is_open(said_at: float, last: OptOut | None) -> bool:
    """Return whether a candidate of that time is not decided, by the last word of its number."""
    return last is None or not (last.out or last.at >= said_at)


def last_word(known: OptOut, words: Iterable[OptOut], *, now: float) -> OptOut:
    """Return what counts of a number, after these words have come in this order."""
    for word in words:
        if _supersedes(word, known, now):
            known = word
    return known


def _supersedes(word: OptOut, known: OptOut, now: float) -> bool:
    """Return whether a word that comes after the known one, and may be older, takes its place."""
    if word.only_if_in and known.out:
        return False
    if word.relayed and not word.stamped and known.out:
        # Of one postback, in the order in which they stand in it.
        is_with_it = word.at == known.at and not known.stamped
        return known.at < word.at <= now or is_with_it or known.at > now
    if not word.stamped or word.at >= known.at:
        return True
    if word.out is known.out:
        return False
    if known.at > now:
        return not (known.stamped and word.at > now)  # of two from ahead, one clock is likely
    return word.out and not known.stamped and known.at - word.at <= CLEAR


def is_missed(word: OptOut, known: OptOut | None) -> bool:
    """Return whether a ledger that was told a word has forgotten it, by the word that it has.

    So has one that a backup has taken the place of, or that was begun anew.  What it may have
    heard since of its own counts on: only a later opt-out is taken for forgotten.
    """
    return known is None or (word.out and not known.out and word.at > known.at)


def opt_out_by_code(code: str | None, *, number: str, at: float) -> OptOut | None:
    """Return the opt-out that a refusal by the API tells; None where its code tells none."""
    return OptOut(number=number, out=True, at=at) if code == _BLOCKED else None
