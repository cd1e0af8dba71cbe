"""What the tables of a ledger can be told, whatever database they are in.

Strategy: a store reads and writes sets of rows, each set in a statement or two, within
the transaction that whoever holds its connection has begun.  What the rows mean is decided in
`rules`, `settlement` and `opt_outs`, which `execution` asks.

Rule: what is usual is one statement over many rows, which are not read before.  Such a statement
repeats a rule, and says which; `tests/postgres/test_parity.py` holds it to that.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

import attrs

from .commands import Begin, Finish, LedgerCommand
from .model import EarlierAttempt, MessageRecord, StoredNotification, ToldState
from .opt_outs import OptOut
from .reader import LedgerReader
from .report_values import AttemptDecision, ReportRequest
from .settlement import Progress, UnmatchedSubmission

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen(kw_only=True)
class Finished:
    """What was found where outcomes were written.

    `keys` has the key of each message, and `numbers` the number by the key, but for those that
    were accepted and need nothing more.  `with_notifications` has the ids of those for whose
    tracking ids some came before, and `unsettled` the numbers where a doubt may be settled
    now: of what is in doubt, or where some came without a message.
    """

    keys: Collection[str]
    numbers: Mapping[str, str]
    with_notifications: Collection[int]
    unsettled: Collection[str]

    @classmethod
    def of(cls, rows: Sequence[Sequence[Any]], *, accepted: Iterable[str] = ()) -> Self:
        """Make it of rows of an id, a key, a number, and whether the message is of either kind.

        `accepted` are the keys of those that need nothing more.
        """
        numbers = {key: number for _, key, number, _, _ in rows}
        return cls(
            keys={*accepted, *numbers},
            numbers=numbers,
            with_notifications=[row[0] for row in rows if row[3]],
            unsettled=[row[2] for row in rows if row[4]],
        )


class LedgerStore(LedgerReader, Protocol):
    """What the tables can be asked and told; what is read to be changed is locked first."""

    # What it counts.

    def write_counts(self) -> None:
        """Write what the transaction has changed of the counts, where these are kept."""
        ...

    def forget_counts(self) -> None:
        """Forget that, as the transaction was not committed."""
        ...

    # Messages.

    def insert_new(self, begins: Sequence[Begin]) -> set[str]:
        """Insert those that are new, and return their keys.

        A number that has opted out is left out, unless the command ignores that.
        """
        ...

    def messages_to_change(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys, locked."""
        ...

    def update(self, records: Sequence[MessageRecord]) -> None:
        """Write these records in place of those with their ids."""
        ...

    def next_turns(self, count: int) -> Sequence[int]:
        """Return so many turns, in order, after those of all that was begun so far."""
        ...

    def insert_attempts(self, attempts: Sequence[EarlierAttempt]) -> None:
        """Insert attempts of messages that are begun again."""
        ...

    def finish_usual(self, finishes: Sequence[Finish], *, ended_at: float) -> Finished:
        """Write the outcomes of attempts for which nothing is to be decided.

        They are under way and were never in doubt, or are in doubt only since their session
        expired.  The others are not among what is returned, nor those that are written late and
        known by when they began: `rules.finish` decides of them.
        """
        ...

    def submit(self, records: Sequence[MessageRecord]) -> Finished:
        """Write the submissions of messages whose outcome was just decided."""
        ...

    # Notifications, and the submissions that they are of.

    def insert_notifications(self, notifications: Sequence[StoredNotification]) -> set[bytes]:
        """Insert those that are new, and return their identities.

        What comes for a message that was pruned may be left out.
        """
        ...

    def submissions(self, recipients: Mapping[str, str | None]) -> dict[str, int | None]:
        """Return the ids of messages by their tracking ids, which are noted where they are new.

        Those of what was pruned are not among them, and nothing that came for these is kept.
        Tracking ids are in their plain form, here and below; `recipients` has for each the
        number that it is about.
        """
        ...

    def told_of(self, ids: Collection[int]) -> dict[int, list[ToldState]]:
        """Return what the notifications of messages tell of how far they got, by their ids."""
        ...

    def write_progress(self, progress: Mapping[int, Progress]) -> Collection[str]:
        """Write how far messages got, by their ids; return their keys and plain ids."""
        ...

    # Doubt.

    def may_settle(self, ending: str) -> bool:
        """Return whether a doubt may be settled, of the messages to numbers that end so.

        Whoever else writes what settles one of these has done so, or waits from here on.
        """
        ...

    def candidates(self, ending: str, *, is_locked: bool) -> list[MessageRecord]:
        """Return the messages that may have a submission which is not known, locked or not.

        Of those to numbers that end so: under way, in doubt, or sent again after doubt.
        """
        ...

    def unmatched(self, ending: str) -> list[UnmatchedSubmission]:
        """Return the submissions that were noted for numbers that end so and have no message.

        Each has all its notifications, whatever number they name.
        """
        ...

    def match(self, pairs: Mapping[str, int]) -> None:
        """Write that these tracking ids are those of these messages."""
        ...

    def reopen_chunks(self, keys: Collection[str]) -> None:
        """Have chunks that are done looked at again which have these keys, where there are any."""
        ...

    def update_attempts(self, decisions: Sequence[AttemptDecision]) -> None:
        """Write what became of attempts before the last."""
        ...

    def insert_report_request(self, request: ReportRequest) -> None:
        """Write that a report was asked for."""
        ...

    def interrupt(self, *, at: float) -> Sequence[str]:
        """Write `in_doubt` for what is under way and nobody alive is sending, found so now.

        Returns the keys of these.
        """
        ...

    def unsettled_endings(self) -> set[str]:
        """Return how the numbers end that have messages in doubt and unmatched submissions."""
        ...

    # Pruning.

    def mark_pruned(self, until: float) -> None:
        """Write that what was begun until then is being pruned, before anything is."""
        ...

    def change_mark(self, marked: float, until: float) -> None:
        """Write that what was begun `until` then was pruned, in place of what was `marked`."""
        ...

    def last_prunable_notification(self, before: float) -> float:
        """Return the time of the last that has a tracking id, no message, and may be pruned."""
        ...

    def messages_to_prune(self, before: float, after: int, until: int) -> list[MessageRecord]:
        """Return the messages there that may be pruned, locked, and their submissions as well."""
        ...

    def prune(self, pairs: Sequence[tuple[MessageRecord, MessageRecord]]) -> int:
        """Write what stays of messages, each as it was and as it will be, and no more of them.

        Returns how many of their notifications are gone.
        """
        ...

    def prune_notifications(self, before: float) -> int:
        """Remove some notifications that have no message, and return how many there were.

        Those of a submission go together.  Its tracking id is known from then on as that of
        a message that was pruned.
        """
        ...

    # Opting out.

    def insert_opt_outs(self, opt_outs: Sequence[OptOut]) -> None:
        """Insert the entries of numbers that have none."""
        ...

    def opt_outs_to_change(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return the entries of these numbers, locked."""
        ...

    def update_opt_outs(self, opt_outs: Sequence[OptOut]) -> None:
        """Replace the entries of these numbers."""
        ...


class StoreCommand(LedgerCommand[T_co]):
    """A command that a store runs by itself; `now` is in seconds since 1970."""

    __slots__ = ()

    @abstractmethod
    def run(self, store: LedgerStore, now: float) -> T_co:
        """Run it over a store, and return its result."""
