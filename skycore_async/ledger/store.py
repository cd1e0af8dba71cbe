"""The protocol of a store: what can be written to a ledger's tables, in either database.

Strategy: a store reads and writes sets of rows, each set in a statement or two, within a
transaction that its caller has begun.  It decides nothing: `execution` asks `rules`, `settlement`
and `opt_outs` what the rows mean.

Rule: the usual case is one statement over many rows, which are not read first.  Such a statement
repeats a rule, and names it; `tests/postgres/test_parity.py` holds the two to each other.
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
    """The messages whose outcomes were written, and what is left to do for them.

    `keys` has the keys of all of them, and `numbers` the numbers by key of those that are not just
    accepted.  `with_notifications` has the ids of messages for whose tracking ids notifications
    came before.  `unsettled` has the numbers for which a doubt may be settled now: their message
    is in doubt, or notifications came for them without a message.
    """

    keys: Collection[str]
    numbers: Mapping[str, str]
    with_notifications: Collection[int]
    unsettled: Collection[str]

    @classmethod
    def of(cls, rows: Sequence[Sequence[Any]], *, accepted: Iterable[str] = ()) -> Self:
        """Return it for rows of id, key, number, has notifications, is unsettled.

        `accepted` are the keys of messages that need nothing more.
        """
        numbers = {key: number for _, key, number, _, _ in rows}
        return cls(
            keys={*accepted, *numbers},
            numbers=numbers,
            with_notifications=[row[0] for row in rows if row[3]],
            unsettled=[row[2] for row in rows if row[4]],
        )


class LedgerStore(LedgerReader, Protocol):
    """What can be read and written; rows that are read to be changed are locked first."""

    # Counts.

    def write_counts(self) -> None:
        """Write how the transaction has changed the counts, in a store that keeps counts."""
        ...

    def forget_counts(self) -> None:
        """Forget that, as the transaction is rolled back."""
        ...

    # Messages.

    def insert_new(self, begins: Sequence[Begin]) -> set[str]:
        """Insert the messages that are new, and return their keys.

        A message to a number that has opted out is left out, unless its command ignores that.
        """
        ...

    def messages_to_change(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys, locked."""
        ...

    def update(self, records: Sequence[MessageRecord]) -> None:
        """Write these records in place of those with their ids."""
        ...

    def next_turns(self, count: int) -> Sequence[int]:
        """Return this many turns, in order, after those of all attempts so far."""
        ...

    def insert_attempts(self, attempts: Sequence[EarlierAttempt]) -> None:
        """Insert attempts of messages that are begun again."""
        ...

    def finish_usual(self, finishes: Sequence[Finish], *, ended_at: float) -> Finished:
        """Write the outcomes about which nothing has to be decided.

        Their messages are under way and were never in doubt, or are in doubt only since their
        session expired.  The others are left out of what is returned, and so are late outcomes
        that have a `started_at`: `rules.finish` decides about them.
        """
        ...

    def submit(self, records: Sequence[MessageRecord]) -> Finished:
        """Write the submissions of messages whose outcomes were just decided."""
        ...

    # Notifications, and the submissions that they are of.

    def insert_notifications(self, notifications: Sequence[StoredNotification]) -> set[bytes]:
        """Insert the notifications that are new, and return their identities.

        Those for a message that was pruned may be left out.
        """
        ...

    def submissions(self, recipients: Mapping[str, str | None]) -> dict[str, int | None]:
        """Note the tracking ids that are new, and return the id of the message for each, or None.

        Tracking ids of pruned messages are left out, and nothing that came for them is kept.
        Tracking ids are in their plain form, here and below.  `recipients` has the number that
        each is about.
        """
        ...

    def told_of(self, ids: Collection[int]) -> dict[int, list[ToldState]]:
        """Return what the notifications of messages tell of their states, by the messages' ids."""
        ...

    def write_progress(self, progress: Mapping[int, Progress]) -> Collection[str]:
        """Write how far messages got, by their ids; return their keys and plain ids."""
        ...

    # Doubt.

    def may_settle(self, ending: str) -> bool:
        """Return whether a doubt of messages to numbers with this ending may be settled.

        Any other process that writes what settles one has done so, or waits from here on.
        """
        ...

    def candidates(self, ending: str, *, is_locked: bool) -> list[MessageRecord]:
        """Return the messages, to numbers with this ending, that may have an unknown submission.

        They are under way, in doubt, or were sent again after doubt.
        """
        ...

    def unmatched(self, ending: str) -> list[UnmatchedSubmission]:
        """Return the submissions that were noted for numbers with this ending and have no message.

        Each has all its notifications, whatever number these name.
        """
        ...

    def match(self, pairs: Mapping[str, int]) -> None:
        """Write which messages these tracking ids belong to."""
        ...

    def reopen_chunks(self, keys: Collection[str]) -> None:
        """Reopen the chunks with these keys that are done, in a store that has chunks."""
        ...

    def update_attempts(self, decisions: Sequence[AttemptDecision]) -> None:
        """Write what became of earlier attempts."""
        ...

    def insert_report_request(self, request: ReportRequest) -> None:
        """Write that a report was asked for."""
        ...

    def interrupt(self, *, at: float) -> Sequence[str]:
        """Put in doubt what is under way and no live process is sending; return its keys.

        `at` is the time at which that was found.
        """
        ...

    def unsettled_endings(self) -> set[str]:
        """Return the endings of numbers with messages in doubt and unmatched submissions."""
        ...

    # Pruning.

    def mark_pruned(self, until: float) -> None:
        """Write that messages begun until then are being pruned, before any of them is."""
        ...

    def change_mark(self, marked: float, until: float) -> None:
        """Replace the mark `marked` by `until`: messages begun until then were pruned."""
        ...

    def last_prunable_notification(self, before: float) -> float:
        """Return the time of the last prunable notification with a tracking id and no message."""
        ...

    def messages_to_prune(self, before: float, after: int, until: int) -> list[MessageRecord]:
        """Return the prunable messages with ids beyond `after` up to `until`, locked.

        Their submissions are locked as well.
        """
        ...

    def prune(self, pairs: Sequence[tuple[MessageRecord, MessageRecord]]) -> int:
        """Write what stays of messages, each given as it was and as it will be.

        Returns how many of their notifications were removed.
        """
        ...

    def prune_notifications(self, before: float) -> int:
        """Remove some notifications that have no message, and return how many.

        All those of a submission are removed together.  Its tracking id is known from then on as
        that of a pruned message.
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
    """A command that a store runs alone; `now` is in seconds since 1970."""

    __slots__ = ()

    @abstractmethod
    def run(self, store: LedgerStore, now: float) -> T_co:
        """Run it over a store, and return its result."""
