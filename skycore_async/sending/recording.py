"""How a client keeps a ledger: the intent before, the outcome after.

Rules:

* A message is under way in the ledger only while it is in flight, so that a crash leaves no more
  than those in doubt.
* A message is not sent if its intent cannot be made durable.  An outcome that cannot be written is
  returned to the caller all the same.  It is logged, and written as soon as the ledger can be
  written again: before a message is looked up or begun, and before doubts are settled.  If the
  program ends first, the message is in doubt.
* All clients of a program that send with one ledger act as one: one writes the outcomes that a
  closed client has left, and each knows what the others are writing.
* Each message without a key is a message of its own, under a key that is made up.
"""

from __future__ import annotations

import itertools
import math
import secrets
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, Self

import anyio
import attrs

from ..errors import (
    LedgerError,
    NotRecorded,
    OutcomeUnknown,
    RecipientOptedOut,
    SkycoreError,
    safe_text,
)
from ..ledger.commands import Postponed
from ..ledger.interface import Ledger, check_ledger
from ..ledger.model import MessageState, SendIntent, Submission
from ..ledger.rules import OPTED_OUT, outcome_of, submission_of
from ..ledger.texts import digest_of
from ..messages import SMS, Failed, Outcome, masked
from ..protocol.segments import segment_count
from ..runtime.event_loop import running_loop
from ..runtime.forks import this_process
from ..runtime.logs import log
from .prepare import PreparedSend

# Why a message is not begun; follows "the ledger cannot be".
_UNWRITTEN: Final = "written, so that its intent could not be recorded"
_UNREAD: Final = "read, so that nothing was sent"
# A ledger of the caller's own may time out for other reasons as well.
_LATE: Final = "the ledger timed out: the same key may be under way still, sent by another task"


@attrs.define(eq=False, kw_only=True)
class _ResendPermission:
    """The caller's permission to send a message again that is in doubt, while that is looked up.

    It is void where an outcome of the message is written during the look-up: the permission was
    given before that outcome was known.
    """

    key: str | None
    is_void: bool


@attrs.define(eq=False)
class _AllClients:
    """What all clients of one ledger share, in whatever threads they are."""

    # Outcomes by their keys, and by when those were begun.
    unwritten: dict[tuple[str, float], Submission] = attrs.field(factory=dict)
    being_written: set[str] = attrs.field(factory=set)  # keys of outcomes
    permissions: set[_ResendPermission] = attrs.field(factory=set)
    _locks: weakref.WeakKeyDictionary[object, anyio.Lock] = attrs.field(
        factory=weakref.WeakKeyDictionary
    )

    def writing(self) -> anyio.Lock:
        """Return the lock under which outcomes that are left are written, one an event loop."""
        return self._locks.setdefault(running_loop(), anyio.Lock())


# By `id`, as ledgers of the caller's own may equal others, or have no hash.
_by_ledger: Final[dict[int, _AllClients]] = {}


def _all_clients_of(ledger: Ledger) -> _AllClients:
    made = _AllClients()
    known = _by_ledger.setdefault(id(ledger), made)
    if known is made:
        try:
            weakref.finalize(ledger, _by_ledger.pop, id(ledger)).atexit = False
        except TypeError:  # no weak reference can be made to it: each client is alone
            del _by_ledger[id(ledger)]
    return known


class Recorder:
    """Record in `ledger` what a client sends; `clock` returns seconds since 1970.

    Raises ConfigurationError if it is no ledger.
    """

    def __init__(self, ledger: Ledger, *, clock: Callable[[], float] = time.time) -> None:
        check_ledger(ledger, "lookup", "begin", "finish")
        self._ledger = ledger
        self._clock = clock
        self._all = _all_clients_of(ledger)
        self._made_up: Iterator[str] = _MadeUpKeys()
        self._opening: object = None  # of the ledger, as it was last seen
        self._reopened_at = -math.inf

    def over(self, ledger: Ledger) -> Self:
        """Return the same recorder over another view of its ledger."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._ledger, other._opening = ledger, None
        return other

    def check(self) -> None:
        """Raise RuntimeError if the ledger is not open; one without `is_open` counts as open."""
        if not getattr(self._ledger, "is_open", True):
            raise RuntimeError(
                "the client's ledger is not open: nothing can be sent before `async with ledger`"
                " or `await ledger.open()`, nor after it is closed"
            )
        self._look_at_opening()

    def _look_at_opening(self) -> None:
        opening = getattr(self._ledger, "opening", None)
        if opening is not self._opening:
            if self._opening is not None:
                self._reopened_at = self._clock()
            self._opening = opening

    async def look_up(self, prepared: PreparedSend) -> PreparedSend | Outcome:
        """Return what came of a message before; the message itself if it is new or under way.

        Permission to send it again is for what is in doubt now, and not for what comes of it while
        the message waits to start.
        """
        permission = None
        if prepared.settings.resend_in_doubt:
            key = prepared.resolved.key
            permission = _ResendPermission(key=key, is_void=key in self._all.being_written)
            self._all.permissions.add(permission)
        failure = _UNWRITTEN
        try:
            # Otherwise a message would seem under way although its caller has the outcome.
            if self._all.unwritten:
                await self.write_what_is_left()
            failure = _UNREAD
            known = await self._ledger.lookup(self._intent(prepared))
        except SkycoreError as error:
            return _not_begun(prepared.message, error, failure)
        finally:
            if permission is not None:
                self._all.permissions.discard(permission)
        if permission is not None:
            is_in_doubt = known is not None and known.state is MessageState.IN_DOUBT
            if known is not None and is_in_doubt and not permission.is_void:
                return attrs.evolve(prepared, doubt_started_at=known.started_at)
            prepared = attrs.evolve(prepared, has_no_doubt=True)
        to = prepared.resolved.to
        return prepared if known is None else outcome_of(prepared.message, to, known)

    async def begin(self, prepared: PreparedSend, timeout: float) -> SendIntent | Outcome:
        """Make the intent to send a message durable and return it, for `finish`.

        If the ledger knows the message already, return what came of it instead.
        """
        message, settings, intent = prepared.message, prepared.settings, self._intent(prepared)
        if prepared.doubt_started_at is not None:
            intent = attrs.evolve(intent, doubt_started_at=prepared.doubt_started_at)
        try:
            if self._all.unwritten:
                await self.write_what_is_left()
            known = await self._ledger.begin(
                intent,
                resend_in_doubt=settings.resend_in_doubt and not prepared.has_no_doubt,
                ignore_opt_out=settings.ignore_opt_out,
                timeout=timeout,
            )
        except TimeoutError as error:
            late = OutcomeUnknown(_LATE)
            late.__cause__ = error
            return Failed(message=message, error=late)
        except SkycoreError as error:
            return _not_begun(message, error, _UNWRITTEN)
        return intent if known is None else outcome_of(message, intent.to, known)

    async def refused_meanwhile(self, prepared: PreparedSend, last: Failed) -> Failed | None:
        """Return the outcome of a message whose number has opted out since it began, else None.

        If the ledger cannot tell, that is the outcome of its `last` try.
        """
        # A ledger of the caller's own need not have it: its next `begin` checks again.
        is_opted_out = getattr(self._ledger, "is_opted_out", None)
        if is_opted_out is None or prepared.settings.ignore_opt_out:
            return None
        try:
            is_out = await is_opted_out(prepared.resolved.to)
        except Exception as error:  # noqa: BLE001 - whatever it is, the last outcome is known
            log.error("whether a number has opted out was not told: %s", safe_text(error))
            return last
        if not is_out:
            return None
        return Failed(message=prepared.message, error=RecipientOptedOut(OPTED_OUT))

    async def finish(self, intent: SendIntent, outcome: Outcome) -> None:
        """Make durable what came of a message, now or as soon as that can be."""
        submission = submission_of(outcome)
        self._look_at_opening()
        if intent.started_at <= self._reopened_at:  # its message may be begun again by now
            submission = attrs.evolve(submission, started_at=intent.started_at)
        self._all.being_written.add(intent.key)
        for permission in tuple(self._all.permissions):  # other threads may add theirs
            if permission.key == intent.key:
                permission.is_void = True
        try:
            await self._ledger.finish(intent.key, submission)
        except Exception as error:  # noqa: BLE001 - whatever it is, the outcome is the caller's
            if not isinstance(error, Postponed):
                late = attrs.evolve(submission, started_at=intent.started_at)
                self._all.unwritten[intent.key, intent.started_at] = late
            key = intent.key.replace(intent.to, masked(intent.to))
            log.error("the outcome of the message %r was not recorded: %s", key, safe_text(error))
        finally:
            self._all.being_written.discard(intent.key)

    async def written(self) -> Ledger:
        """Return the ledger, after an attempt to write the outcomes that are left."""
        with suppress(Exception):  # each was logged when it was not written
            await self.write_what_is_left()
        return self._ledger

    async def write_what_is_left(self) -> None:
        """Write the outcomes that could not be written before; LedgerError if one still cannot."""
        # Each is written once, and for its own attempt: its key may be begun anew as soon as it is
        # written, even if writing it raised an error.
        unwritten = self._all.unwritten
        async with self._all.writing():
            while unwritten:
                for attempt in tuple(unwritten):
                    submission = unwritten.get(attempt)
                    if submission is not None:  # else another thread wrote it
                        await self._write(attempt[0], submission)
                        unwritten.pop(attempt, None)

    async def _write(self, key: str, submission: Submission) -> None:
        try:
            await self._ledger.finish(key, submission)
        except (LedgerError, RuntimeError):  # the latter is a mistake of the program's
            raise
        except Exception as error:  # of the caller's ledger; another message is being sent here
            raise LedgerError(f"an outcome before cannot be: {safe_text(error)}") from error

    def _intent(self, prepared: PreparedSend) -> SendIntent:
        resolved = prepared.resolved
        return SendIntent(
            key=next(self._made_up) if resolved.key is None else resolved.key,
            content=prepared.content or b"",
            to=resolved.to,
            from_=resolved.from_,
            started_at=self._clock(),
            text_digest=digest_of(resolved.text),
            campaign_ref=resolved.campaign_ref,
            segments=segment_count(resolved.text),
            tags=resolved.tags,
            message=resolved,
        )


class _MadeUpKeys(Iterator[str]):
    """Unique keys, also in a process that is forked from this one."""

    def __init__(self) -> None:
        self._process: tuple[int, int] | None = None
        self._keys: Iterator[str] = iter(())

    def __next__(self) -> str:
        if self._process != (process := this_process()):
            self._process = process
            self._keys = map(f"{secrets.token_hex(6)}-{{:x}}".format, itertools.count())
        return next(self._keys)


def _not_begun(message: SMS, error: SkycoreError, what: str) -> Failed:
    if isinstance(error, LedgerError):
        cause, error = error, NotRecorded(f"the ledger cannot be {what}: {error}")
        error.__cause__ = cause
    return Failed(message=message, error=error)
