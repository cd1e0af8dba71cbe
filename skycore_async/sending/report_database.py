"""The attempts of a ledger and the rows of sending reports, in a temporary database.

Strategy: a report can have as many rows as the ledger has messages.  Both go into an SQLite
database in a temporary file, and are read number by number, in the order of their last digits.  So
memory holds the doubts, and what was sent to a few numbers.

Rule: it decides nothing.  `ledger.report_rows` decides which rows are the same,
`ledger.report_matching` which attempts have which rows, and `ledger.report_evidence` what proves
that one is absent.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, TypeVar

from ..errors import LedgerError
from ..ledger.report_evidence import Neighbours, Witnesses
from ..ledger.report_rows import KnownAttempt, ReportRow, Role, apart, without_repeats
from ..ledger.settlement import CLOCKS_APART, SETTLE_WITHIN
from ..ledger.texts import digest_of
from ..messages import ReportedMessage, ReportSection, times_of
from ..protocol.numbers import digits, ending
from ..runtime.one_thread import OneThread

T = TypeVar("T")

_TABLES: Final = """
CREATE TABLE attempts (id INTEGER PRIMARY KEY, message INTEGER, role INTEGER, tail TEXT,
    number TEXT, text BLOB, sender TEXT, started_at REAL, ended_at REAL, history_id TEXT,
    turn INTEGER, is_witness INTEGER, is_present INTEGER, late REAL);
CREATE TABLE rows (history_id TEXT, tail TEXT, number TEXT, text BLOB, sender TEXT, at REAL,
    since REAL, until REAL);
CREATE TABLE wanted (tail TEXT PRIMARY KEY) WITHOUT ROWID;
"""
# `is_present` is 1 for a witness that surely is in the report, and 0 for one that should be.
_INDEXES: Final = """
CREATE INDEX IF NOT EXISTS attempts_by_time ON attempts (started_at) WHERE is_witness;
CREATE INDEX IF NOT EXISTS attempts_by_tail ON attempts (tail);
CREATE INDEX IF NOT EXISTS missing ON attempts (started_at) WHERE is_present = 0;
"""
# The order in a report means nothing: rows are read in a fixed order.
_ROWS_INDEX: Final = "CREATE INDEX IF NOT EXISTS rows_by_tail ON rows (tail, at, history_id)"
_ATTEMPTS: Final = (
    "SELECT tail, id, message, role, number, text, sender, started_at, ended_at, history_id,"
    " turn FROM attempts JOIN wanted USING (tail) ORDER BY tail, id"
)
_ROWS: Final = (
    "SELECT tail, history_id, number, text, sender, at, since, until"
    " FROM rows JOIN wanted USING (tail) ORDER BY tail, at, history_id"
)
_CACHE: Final = -16_000  # negative for KiB: how much of it is cached in memory


class ReportDatabase:
    """A temporary database, removed when it is closed; call its methods by `run`."""

    def __init__(self) -> None:
        self._threads = OneThread()
        self._failure: LedgerError | None = None
        # The empty name means a temporary file.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._execute: Any = self._connection.execute
        self._execute("PRAGMA journal_mode = OFF")
        self._execute("PRAGMA synchronous = OFF")
        self._execute(f"PRAGMA cache_size = {_CACHE}")
        self._connection.executescript(_TABLES)
        self._span: tuple[float, float] | None = None
        self.latest = -math.inf
        self.nameless: tuple[float, float] | None = None

    async def run(self, step: Callable[..., T], *given: object) -> T:
        """Run a step that uses it, in a thread, and return its result.

        Raises LedgerError if there is no room for it.
        """
        if self._failure is not None:  # its content is not to be trusted since
            raise self._failure
        try:
            return await self._threads.run(step, *given)
        except sqlite3.OperationalError as error:
            self._failure = LedgerError(
                f"no room for temporary files ({error}): name another directory with TMPDIR"
            )
            raise self._failure from error

    async def aclose(self) -> None:
        """Close it, which removes it."""
        connection = self._connection
        await self._threads.close(connection.close, interrupt=connection.interrupt)

    # In.

    def add_attempts(self, attempts: Iterable[tuple[KnownAttempt, bool]]) -> None:
        """Add attempts, each with whether it is a witness."""
        self._insert(
            "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, 0)",
            (
                (
                    each.id,
                    each.message,
                    each.role.value,
                    ending(each.number),
                    each.number,
                    each.text,
                    each.from_,
                    each.started_at,
                    each.ended_at,
                    each.history_id,
                    each.turn,
                    is_witness,
                )
                for each, is_witness in attempts
            ),
        )

    def leave_open(self, messages: Iterable[int]) -> None:
        """Treat messages in doubt as undecidable from now on; they may still have rows."""
        self._insert(
            "UPDATE attempts SET role = ? WHERE role = ? AND message = ?",
            ((Role.POSSIBLE.value, Role.DOUBTFUL.value, message) for message in messages),
        )

    def forget(self, id_: int, since: float) -> None:
        """Remove the attempts beyond an id that were begun since a time."""
        self._execute("DELETE FROM attempts WHERE id > ? AND started_at >= ?", (id_, since))

    def add_rows(self, messages: Sequence[ReportedMessage]) -> None:
        """Add the messages that a report lists one by one; `set_period` gives their period.

        `latest` is the latest time in any report.
        """
        sent = [each for each in messages if each.section is ReportSection.SENDING_LIST]
        named = [(each, str(digits(each.to))) for each in sent]
        shown = (at.timestamp() for each in messages for at in times_of(each))
        self.latest = max(self.latest, max(shown, default=-math.inf))
        self._insert(
            "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)",
            (
                (
                    each.history_id,
                    ending(number),
                    number,
                    digest_of(each.text),
                    each.from_,
                    min((at.timestamp() for at in times_of(each)), default=None),
                )
                for each, number in named
            ),
        )

    def _insert(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        self._execute("BEGIN")
        self._connection.executemany(statement, rows)
        self._execute("COMMIT")

    def set_period(self, since: float | None, until: float | None) -> None:
        """Set the period of the rows that were added last; it defaults to what they span.

        A row that waits at the provider has no time, and may be of a time beyond that span.
        """
        spanned = self._execute("SELECT min(at), max(at) FROM rows WHERE since IS NULL")
        first, last = spanned.fetchone()
        said = -math.inf if since is None else since, math.inf if until is None else until
        since, until = first if since is None else since, last if until is None else until
        self._span = None if since is None or until is None else (since, until)
        self._insert(
            "UPDATE rows SET since = ?2, until = ?3 WHERE since IS NULL AND (at IS NULL) = ?1",
            ((True, *said), (False, *(self._span or said))),
        )

    def span_of_rows(self) -> tuple[float, float] | None:
        """Return the period of the rows that were added last; None if it is not known."""
        return self._span

    def end(self, taken: Iterable[int], not_taken: Iterable[int]) -> None:
        """Set which attempts in doubt were taken, and which were not."""
        role = Role.ACCEPTED.value
        self._insert("UPDATE attempts SET role = ? WHERE id = ?", ((role, id_) for id_ in taken))
        self._insert("DELETE FROM attempts WHERE id = ?", ((id_,) for id_ in not_taken))

    # Out.

    def neighbours(self, attempt: KnownAttempt) -> Neighbours:
        """Return when the witnesses next to an attempt were begun, next by time and turn."""
        self._connection.executescript(_INDEXES)
        started_at, ended_at = attempt.times
        (before,) = self._execute(
            "SELECT max(started_at) FROM attempts"
            " WHERE is_witness AND started_at < ? AND turn < ?",
            (started_at, attempt.turn),
        ).fetchone()
        after, until = self._execute(
            "SELECT started_at, max(min(ended_at, started_at + ?)) FROM attempts"
            " WHERE is_witness AND started_at > ? AND turn > ? GROUP BY 1 ORDER BY 1 LIMIT 1",
            (SETTLE_WITHIN, ended_at, attempt.turn),
        ).fetchone() or (None, ended_at)
        (is_in_order,) = self._execute(
            "SELECT NOT EXISTS (SELECT 1 FROM attempts WHERE is_witness"
            "  AND started_at > ? AND started_at < ?)"
            " AND NOT EXISTS (SELECT 1 FROM attempts WHERE is_witness"
            "  AND started_at > ? AND started_at < ?)",
            (before, started_at - CLOCKS_APART, ended_at + CLOCKS_APART, after),
        ).fetchone()
        return Neighbours(before=before, after=after, until=until, is_in_order=bool(is_in_order))

    def want(self, doubts: Iterable[str], windows: Iterable[tuple[float, float]]) -> None:
        """Select the numbers to read next: those of doubts, and of witnesses in windows.

        Also sets `nameless`: the time in which messages without a number, which may be anybody's,
        may have been sent; None if no report lists one.
        """
        self._connection.executescript(_INDEXES)
        self._execute(_ROWS_INDEX)
        since, until = self._execute(
            "SELECT min(coalesce(at, since)), max(coalesce(at, until)) FROM rows WHERE tail = ''"
        ).fetchone()
        self.nameless = None if since is None else (since, until)
        self._execute("DELETE FROM wanted")
        tails = [(ending(number),) for number in doubts]
        self._insert("INSERT OR IGNORE INTO wanted VALUES (?)", tails)
        for window in windows:
            self._execute(
                "UPDATE attempts SET is_present = 0"
                " WHERE is_witness AND started_at BETWEEN ? AND ? AND is_present IS NULL",
                window,
            )
        self._execute(
            "INSERT OR IGNORE INTO wanted SELECT tail FROM attempts WHERE is_present = 0"
        )

    def by_number(self) -> Iterator[tuple[list[KnownAttempt], list[ReportRow]]]:
        """Yield the attempts and rows of the selected numbers, those that may be one together."""
        rows = groupby(self._execute(_ROWS), key=itemgetter(0))
        tail, found = next(rows, (None, iter(())))
        for wanted, attempts in groupby(self._execute(_ATTEMPTS), key=itemgetter(0)):
            while tail is not None and tail < wanted:
                tail, found = next(rows, (None, iter(())))
            yield from apart(
                [_attempt(each) for each in attempts],
                without_repeats(map(_row, found)) if tail == wanted else [],
            )

    def set_present(self, ids: Iterable[int], late: Mapping[int, float]) -> None:
        """Set which witnesses surely are in the report, and by how many seconds each is late."""
        self._insert("UPDATE attempts SET is_present = 1 WHERE id = ?", ((id_,) for id_ in ids))
        self._insert(
            "UPDATE attempts SET late = ? WHERE id = ?", ((by, id_) for id_, by in late.items())
        )

    def witnesses(self, found: Neighbours) -> Witnesses:
        """Return what the witnesses next to an attempt show about its time."""
        if found.before is None or found.after is None:
            return Witnesses(
                before=found.before is not None, after=found.after is not None, all_present=False
            )
        (is_missing,) = self._execute(
            "SELECT EXISTS (SELECT 1 FROM attempts"
            " WHERE is_present = 0 AND started_at BETWEEN ? AND ?)",
            (found.before, found.after),
        ).fetchone()
        (late,) = self._execute(
            "SELECT max(late) FROM attempts WHERE is_witness AND started_at IN (?, ?)",
            (found.before, found.after),
        ).fetchone()
        return Witnesses(before=True, after=True, all_present=not is_missing, late=late)

    def lacks(self, times: Collection[float]) -> bool:
        """Return whether there are such times, but no witness of them is surely in the report."""
        asked = "SELECT max(is_present) FROM attempts WHERE is_witness AND started_at = ?"
        return bool(times) and not any(self._execute(asked, (at,)).fetchone()[0] for at in times)


def _attempt(row: Sequence[Any]) -> KnownAttempt:
    _, id_, message, role, number, text, sender, started_at, ended_at, history_id, turn = row
    return KnownAttempt(
        id=id_,
        message=message,
        turn=turn,
        role=Role(role),
        number=number,
        text=text,
        from_=sender,
        started_at=started_at,
        ended_at=ended_at,
        history_id=history_id,
    )


def _row(row: Sequence[Any]) -> ReportRow:
    _, history_id, number, text, sender, at, since, until = row
    return ReportRow(
        history_id=history_id,
        number=number,
        text=text,
        from_=sender,
        at=at,
        since=since,
        until=until,
    )
