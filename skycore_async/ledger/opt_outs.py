"""Who may not be sent to: STOP, START, and what the provider says of it.

An entry is the latest opt-out or opt-in of a number.  A stamp is the provider's own time of it.

Rules:

* `protocol.consent` reads what a text says: only a sure reading opts its number out or in.
* A rule of the caller's can decide about a text that is not surely STOP, when it is recorded.
  The decision is kept, so it holds after a restart and for all who share the ledger.
* An unclear text is a candidate until a rule, a person, or a later STOP or START decides about its
  number.  So is a STOP that an earlier version did not read.
* The latest entry counts.  Of two entries with stamps, that is the one with the later stamp, in
  whichever order they come.
* An entry of the caller's, or without a stamp, is the latest when it comes.
* The times of a caller's entry and of a stamp are of two clocks, and either may be wrong.  The
  stamp decides only where the two are far apart; otherwise the number has opted out.
* A relayed entry, from another ledger or an inbox, was made before it comes.  Relayed permission
  to send counts from when it was given, and does not undo a STOP that came after it.  A relayed
  opt-out does not replace a later one: permission given between the two would then undo it.
* Whoever said STOP is sent nothing, even where the provider names them without their country code.
  Such an entry counts for each number that may be named so (`numbers.spellings`), until that
  number itself is opted in later.  A START under such a name opts in no other spelling.
* An entry with a time in the future is of a wrong clock.  It is the latest until another comes.
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

# True if a text opts its number out, False if it does not, None if its words decide.
OptOutRule = Callable[[InboundSMS], bool | None]

# What waiters wait for where they wait for a change of any entry; no key is like it.
CHANGED: Final = "\0opt-outs"
_BLOCKED: Final = "E114"  # the recipient is on the block list
CLEAR: Final = 86_400.0  # seconds; a stamp in a wrong zone, or a clock set by hand, is nearer


@attrs.frozen(kw_only=True)
class OptOut:
    """The latest opt-out (`out`) or opt-in of a number.

    `number` has digits alone.  `at` is in seconds since 1970: the provider's stamp if `stamped`,
    else the time at which the entry came.  With `only_if_in` it changes nothing for a number that
    has opted out: an unclear text was found to be no opt-out.  With `relayed` it was made before,
    in another ledger or an inbox.
    """

    number: str
    out: bool
    at: float
    stamped: bool = False
    only_if_in: bool = False
    relayed: bool = attrs.field(default=False, eq=False)


def relayed(entries: Iterable[OptOut]) -> list[OptOut]:
    """Return entries marked as relayed."""
    return [attrs.evolve(entry, relayed=True) for entry in entries]


def all_spellings(numbers: Collection[str]) -> tuple[str, ...]:
    """Return the spellings of these numbers: an entry of any of them may count."""
    return tuple(set(chain.from_iterable(map(spellings, numbers))))


def entry_for(number: str, entries: Mapping[str, OptOut]) -> OptOut | None:
    """Return the entry that counts for a number, of those of its spellings; None if none does."""
    own, *others = (entries.get(name) for name in spellings(number))
    for short in others:
        if short is not None and short.out and (own is None or own.at <= short.at):
            return own if own is not None and own.out else short
    return own


def may_be_sent_to(number: str, entries: Mapping[str, OptOut]) -> bool:
    """Return whether a number may be sent to, by the entries of all its spellings."""
    if not entries:
        return True
    entry = entry_for(number, entries)
    return entry is None or not entry.out


def number_named(from_: str | None) -> str:
    """Return the digits of a postback's number, without the 00 of international dialling."""
    known = digits(from_) or ""
    return known.lstrip("0") if known.startswith("00") else known


def opt_out_of(
    notification: Notification, *, received: float, rule: OptOutRule | None = None
) -> OptOut | None:
    """Return the opt-out or opt-in that a notification tells; None if it tells neither."""
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
    # Any object is true: taken for a yes, it would opt out whoever says thanks.
    if iscoroutine(said):
        said.close()
    log.error("an opt-out rule returned a %s: the words decide", type(said).__name__)
    return None


def check_rule(rule: object) -> None:
    """Raise ConfigurationError for a rule that cannot be called in a thread."""
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
    """Return whether a candidate of that time is undecided, by the latest entry of its number."""
    return last is None or not (last.out or last.at >= said_at)


def latest_entry(known: OptOut, entries: Iterable[OptOut], *, now: float) -> OptOut:
    """Return the entry of a number that counts once these have come, in this order."""
    for entry in entries:
        if _supersedes(entry, known, now):
            known = entry
    return known


def _supersedes(entry: OptOut, known: OptOut, now: float) -> bool:
    """Return whether an entry replaces the known one, which came before it but may be newer."""
    if entry.only_if_in and known.out:
        return False
    if entry.relayed and not entry.stamped and known.out:
        # Both are of one postback, and come in its order.
        is_with_it = entry.at == known.at and not known.stamped
        return known.at < entry.at <= now or is_with_it or known.at > now
    if not entry.stamped or entry.at >= known.at:
        return True
    if entry.out is known.out:
        return False
    if known.at > now:
        return not (known.stamped and entry.at > now)  # of two from ahead, one clock is likely
    return entry.out and not known.stamped and known.at - entry.at <= CLEAR


def is_missed(entry: OptOut, known: OptOut | None) -> bool:
    """Return whether a ledger with the `known` entry has lost one that it was told.

    A ledger loses entries when a backup replaces it, or it is made anew.  Only a later opt-out is
    taken for lost: anything else may be what the ledger has heard since.
    """
    return known is None or (entry.out and not known.out and entry.at > known.at)


def opt_out_by_code(code: str | None, *, number: str, at: float) -> OptOut | None:
    """Return the opt-out that a refusal's error code tells; None for any other code."""
    return OptOut(number=number, out=True, at=at) if code == _BLOCKED else None
