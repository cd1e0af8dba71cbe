"""A ledger in memory, of limited size, which forgets with its process.

Strategy: it is `SQLiteStore` over a database in memory: the same steps without durability.
Commands that come within one turn of the event loop share a transaction, as many cost little more
than one.

Rule: a receipt of a forgotten message settles no other message's doubt.  So the tracking ids of
forgotten messages are remembered, and the number endings of those that were sent again after
doubt, which may have an unknown tracking id.  They are kept in memory of a fixed size, so that
some others are taken for forgotten, too, and stay in doubt.
"""

from __future__ import annotations

import sqlite3
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import anyio.lowlevel

from ...errors import LedgerError
from ...protocol.numbers import ending
from ...runtime.event_loop import HomeLoop, wrong_event_loop
from ..base import BaseLedger
from ..bloom_filter import BloomFilter
from ..commands import Begin, LedgerCommand, PendingCommand, withdrawal
from ..counts import KIND, CountedKind
from ..execution import CommandExecutor
from ..model import StoredNotification
from ..opt_outs import OptOutRule, check_rule
from ..pruning import pruned_name
from ..setting_checks import check_counts, check_seconds
from ..settlement import SETTLE_WITHIN, UnmatchedSubmission
from .rows import Connection
from .schema import migrate
from .store import SQLiteStore

T = TypeVar("T")

_EVENTS: Final = 4  # notifications for a message, on average
_PART: Final = 100  # a hundredth of the capacity is forgotten at a time: one by one costs more

_UNDECIDED: Final = "('sending', 'in_doubt')"
# Notifications without a message are forgotten first: the others tell the state of theirs.
_OLDEST: Final = {
    "messages": "SELECT id, plain_id, CASE WHEN doubted THEN recipient END, started_at,"
    f" {KIND} FROM messages WHERE state NOT IN {_UNDECIDED} ORDER BY id LIMIT ?",
    "events": "SELECT id, NULL, NULL, 0, NULL, NULL, NULL, NULL FROM events"
    " LEFT JOIN submissions USING (tracking_id) ORDER BY message IS NOT NULL, id LIMIT ?",
}
_OF_MESSAGE: Final = "tracking_id = (SELECT plain_id FROM messages WHERE id = ?)"
_FORGET: Final = {
    "messages": (
        f"DELETE FROM events WHERE {_OF_MESSAGE}",
        f"DELETE FROM submissions WHERE {_OF_MESSAGE}",
        "DELETE FROM attempts WHERE message = ?",
        "DELETE FROM messages WHERE id = ?",
    ),
    "events": ("DELETE FROM events WHERE id = ?",),
}
_FORGET_UNMATCHED: Final = (
    "DELETE FROM submissions WHERE message IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM events WHERE events.tracking_id = submissions.tracking_id)"
)


class _SharedTransaction:
    """The commands of one transaction; they have `has_ended` once each has its result or error."""

    __slots__ = ("commands", "has_ended")

    def __init__(self) -> None:
        self.commands: list[PendingCommand] = []
        self.has_ended = False


class MemoryLedger(BaseLedger):
    """Remember the latest messages and notifications, in this process alone.

    It holds at most `capacity` messages, with four notifications for each on average.  The oldest
    are forgotten first, but none that is under way or in doubt.  A postback settles a doubt within
    `settle_within` seconds of its intent; after tens of millions of forgotten messages fewer do.
    For `opt_out_rule` see `SQLiteLedger`.  `clock` returns seconds since 1970.

    Raises LedgerError if it is full of messages in doubt, and RuntimeError if two event loops use
    it at the same time, as in two threads.
    """

    def __init__(
        self,
        *,
        capacity: int = 100_000,
        settle_within: float = SETTLE_WITHIN,
        opt_out_rule: OptOutRule | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        check_counts(capacity=capacity)
        check_seconds(settle_within=settle_within)
        check_rule(opt_out_rule)
        self._capacity = capacity
        self._settle_within = settle_within
        self._opt_out_rule = opt_out_rule
        self._clock = clock
        self._home: HomeLoop | None = None
        self._make()

    def _make(self) -> None:
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, connection.close)
        migrate(connection, 0)
        self._connection = connection
        self._executor = CommandExecutor(
            BoundedStore(connection, capacity=self._capacity),
            clock=self._clock,
            settle_within=self._settle_within,
            opt_out_rule=self._opt_out_rule,
        )
        self._closed = False
        self._next = _SharedTransaction()

    async def open(self) -> None:
        """Do nothing; if it was closed, make it anew, empty."""
        if self._closed:
            self._make()

    async def run(self, command: LedgerCommand[T]) -> T:
        """Run a command, and return its result once what it wrote is in memory."""
        if self._home is None or not self._home.is_here():
            self._move_here()
        pending, group = PendingCommand(command), self._next
        group.commands.append(pending)
        try:
            await anyio.lowlevel.checkpoint()
        except BaseException:
            self._leave(group, pending)
            raise
        if group is self._next:  # the first caller to go on runs the commands of all
            if self._closed:
                raise RuntimeError("this ledger is closed")
            self._next = _SharedTransaction()
            self._run_all(group.commands)
            group.has_ended = True
        elif not group.has_ended:
            raise LedgerError("what ran with another command was broken off")
        return pending.outcome(command)

    def _move_here(self) -> None:
        """Serve another event loop, if the one before has ended; what it left is not run."""
        if self._home is not None and self._home.is_running():
            raise wrong_event_loop("ledger")
        self._home = HomeLoop()
        self._next = _SharedTransaction()

    def _leave(self, group: _SharedTransaction, pending: PendingCommand) -> None:
        """Take back what a cancelled caller has begun, or was about to begin."""
        if group is self._next:
            group.commands.remove(pending)
        elif pending.error is None and (back := withdrawal(pending.command, pending.result)):
            self._run_all([PendingCommand(back)])

    def _run_all(self, group: Sequence[PendingCommand]) -> None:
        try:
            self._run_together(group)
        except Exception:  # noqa: BLE001 - each command gets an error of its own
            for pending in group:
                try:
                    self._run_together([pending])
                except Exception as error:  # noqa: BLE001 - it is its caller's
                    pending.error = error

    def _run_together(self, group: Sequence[PendingCommand]) -> None:
        self._connection.execute("BEGIN")
        try:
            self._executor.run(group)
            self._connection.execute("COMMIT")
        except BaseException:
            self._executor.forget()
            with suppress(sqlite3.Error):  # SQLite rolls back by itself after some errors
                self._connection.execute("ROLLBACK")
            raise
        self.waiters.notify(self._executor.forget())

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return not self._closed

    async def aclose(self) -> None:
        """Forget everything."""
        self._closed = True
        self._connection.close()
        self.waiters.close()


class BoundedStore(SQLiteStore):
    """A store that forgets the oldest messages, but none that is under way or in doubt.

    It counts down until it may be full, and only then counts its rows.
    """

    def __init__(
        self, connection: Connection, *, capacity: int, forgotten: BloomFilter | None = None
    ) -> None:
        super().__init__(connection)
        self._capacity = capacity
        self._forgotten = BloomFilter() if forgotten is None else forgotten
        self._left = {"messages": capacity, "events": _EVENTS * capacity}
        self._forgotten_until = 0.0

    def insert_new(self, begins: Sequence[Begin]) -> set[str]:
        """Insert the messages that are new, and return their keys; LedgerError if it is full."""
        inserted = super().insert_new(begins)
        if not self._has_space(len(inserted), "messages", self._capacity):
            raise LedgerError(
                f"the ledger holds {self._capacity:,} messages that are under way or in doubt,"
                " and has no room for another before postbacks settle some. It forgets them with"
                " its process: send none of them again, and for more make it larger, or use"
                " SQLiteLedger"
            )
        return inserted

    def insert_notifications(self, notifications: Sequence[StoredNotification]) -> set[bytes]:
        """Insert those that are new, and return their identities."""
        inserted = super().insert_notifications(notifications)
        self._has_space(len(inserted), "events", _EVENTS * self._capacity)
        return inserted

    def _has_space(self, count: int, table: str, most: int) -> bool:
        """Forget what is too much after `count` were added; return whether there is space."""
        self._left[table] -= count
        if self._left[table] >= 0:
            return True
        (held,) = self._one(f"SELECT count(*) FROM {table}")
        if held > most:
            held -= self._forget(table, held - most + most // _PART)
        self._left[table] = most - held
        return bool(held <= most)

    def _forget(self, table: str, count: int) -> int:
        oldest = self._execute(_OLDEST[table], (count,)).fetchall()
        for id_, plain_id, number, started_at, *kind in oldest:
            if table == "messages":
                self._counts[CountedKind(*kind)] -= 1
            self._forgotten_until = max(self._forgotten_until, started_at)
            if plain_id is not None:
                self._forgotten.add(plain_id)
            if number is not None:
                self._forgotten.add(_sent_again(ending(number)))
            for statement in _FORGET[table]:
                self._execute(statement, (id_,))
        self._execute(_FORGET_UNMATCHED)
        return len(oldest)

    def forgotten_until(self) -> float:
        """Return when the last forgotten message was begun; 0 if none was forgotten."""
        return max(self._forgotten_until, self.pruned_until())

    def unmatched(self, ending: str) -> list[UnmatchedSubmission]:
        """Return the submissions to numbers with this ending that never had a message."""
        if _sent_again(ending) in self._forgotten:
            return []
        found = super().unmatched(ending)
        return [
            each
            for each in found
            if each.plain_id not in self._forgotten
            and pruned_name(each.plain_id) not in self._forgotten  # one that was pruned before
        ]


def _sent_again(ending: str) -> str:
    """Return the name to remember of a forgotten message that was sent again after doubt."""
    return f"sent again: {ending}"
