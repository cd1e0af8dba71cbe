"""A list of who may not be sent to, for all ledgers of a user: a file that many programs share.

Strategy: a small database of SQLite's, with the last word of each number and, for each word,
the number of the change that it was; and for each ledger, which changes it has taken in.

Rules:

* Words arrive here in the order in which they are told, as they do in a ledger, and the rules
  of `opt_outs` say which of two counts.
* What was told is on the disk.  Its journal is a rollback journal: several processes write.
* It is private from its first byte: it has phone numbers.
* A number that is on no list may be sent to; so a list that cannot be read is an error, and
  never an empty one.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from ...errors import LedgerError
from ...runtime.private import private
from ..columns import OPT_OUT
from ..opt_outs import OptOut, last_word

APPLICATION_ID: Final = 0x534B594F  # "SKYO", where SQLite keeps a file's kind
VERSION: Final = 1
PAGE: Final = 500
_PATIENCE: Final = 5.0  # seconds, while other processes write to it
_TABLES: Final = (
    # Another program may have made them a moment ago.
    """CREATE TABLE IF NOT EXISTS opt_outs (
    number TEXT PRIMARY KEY, out INTEGER NOT NULL, at REAL NOT NULL, stamped INTEGER NOT NULL,
    change INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE UNIQUE INDEX IF NOT EXISTS by_change ON opt_outs (change)",
    "CREATE TABLE IF NOT EXISTS changes (last INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS seen (ledger TEXT PRIMARY KEY, change INTEGER NOT NULL)",
    "INSERT INTO changes SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM changes)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)


@attrs.frozen(kw_only=True)
class Change:
    """A word of a number, and the number of the change that brought it onto the list."""

    number: int
    word: OptOut


class OptOutList:
    """The list at `path`, which is made at its first use; `clock` gives seconds since 1970.

    Every method raises LedgerError where it cannot be read or written.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock

    def tell(self, words: Iterable[OptOut]) -> None:
        """Take words in, in this order, and return when what counts of them is on the disk."""
        said: dict[str, list[OptOut]] = {}
        for word in words:
            said.setdefault(word.number, []).append(word)
        if not said:
            return
        with self._opened() as execute:
            execute("BEGIN IMMEDIATE")
            (change,) = execute("SELECT last FROM changes").fetchone()
            known = _words(execute, said)
            for number, (first, *more) in said.items():
                before = known.get(number)
                counts = last_word(
                    first if before is None else before,
                    more if before is None else [first, *more],
                    now=self._clock(),
                )
                if counts != before:
                    change += 1
                    execute(
                        f"INSERT OR REPLACE INTO opt_outs ({OPT_OUT.listed}, change)"
                        f" VALUES ({', '.join('?' * len(OPT_OUT.names))}, ?)",
                        (*OPT_OUT.row(counts), change),
                    )
            execute("UPDATE changes SET last = ?", (change,))
            execute("COMMIT")

    def changes(self, after: int) -> list[Change]:
        """Return the changes beyond one, in their order, a page of them."""
        with self._opened() as execute:
            found = execute(
                f"SELECT change, {OPT_OUT.listed} FROM opt_outs WHERE change > ?"
                f" ORDER BY change LIMIT {PAGE}",
                (after,),
            )
            return [Change(number=number, word=OPT_OUT.value(row)) for number, *row in found]

    def seen_by(self, ledger: str) -> int:
        """Return the change up to which a ledger, by its name, has taken all in."""
        with self._opened() as execute:
            found = execute("SELECT change FROM seen WHERE ledger = ?", (ledger,)).fetchone()
        return int(found[0]) if found else 0

    def note_seen(self, ledger: str, change: int) -> None:
        """Note that a ledger has taken in all changes up to this one."""
        with self._opened() as execute:
            execute("INSERT OR REPLACE INTO seen VALUES (?, ?)", (ledger, change))

    def words(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return the last words of these numbers, of those that have any."""
        with self._opened() as execute:
            return _words(execute, numbers)

    @contextmanager
    def asked(self) -> Iterator[Callable[[str], bool]]:
        """Give what says of a number whether it may not be sent to, for many of them."""
        one = "SELECT EXISTS (SELECT 1 FROM opt_outs WHERE number = ? AND out)"
        with self._explained():
            connection = self._connect()
        with closing(connection):
            with self._explained():
                (is_anybody,) = connection.execute(
                    "SELECT EXISTS (SELECT 1 FROM opt_outs WHERE out)"
                ).fetchone()

            def is_opted_out(number: str) -> bool:
                with self._explained():
                    return bool(connection.execute(one, (number,)).fetchone()[0])

            yield is_opted_out if is_anybody else lambda _: False

    def opted_out(self) -> Iterator[OptOut]:
        """Yield the words of those who may not be sent to, in the order of their numbers."""
        after = ""
        while True:
            with self._opened() as execute:
                page = execute(
                    f"SELECT {OPT_OUT.listed} FROM opt_outs WHERE out AND number > ?"
                    f" ORDER BY number LIMIT {PAGE}",
                    (after,),
                ).fetchall()
            yield from map(OPT_OUT.value, page)
            if len(page) < PAGE:
                return
            after = OPT_OUT.value(page[-1]).number

    def count(self) -> int:
        """Return how many numbers may not be sent to."""
        with self._opened() as execute:
            return int(execute("SELECT count(*) FROM opt_outs WHERE out").fetchone()[0])

    @contextmanager
    def _opened(self) -> Iterator[Callable[..., Any]]:
        """Give what executes a statement; nothing else is to be done within."""
        with self._explained(), closing(self._connect()) as connection:
            yield connection.execute

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            raise LedgerError(
                f"{self.path}, the list of who may not be sent to, cannot be used: {said}"
            ) from error

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(private(self.path, os.O_RDWR | os.O_CREAT))
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=_PATIENCE)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        execute = connection.execute
        execute("PRAGMA synchronous = FULL")
        (kind,) = execute("PRAGMA application_id").fetchone()
        (version,) = execute("PRAGMA user_version").fetchone()
        if (kind, version) == (APPLICATION_ID, VERSION):
            return
        execute("BEGIN IMMEDIATE")  # another may be making it
        (kind,) = execute("PRAGMA application_id").fetchone()
        (version,) = execute("PRAGMA user_version").fetchone()
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if kind != APPLICATION_ID and (kind or version or tables):
            raise LedgerError(f"{self.path} is a database of something else, and no list")
        if version > VERSION:
            raise LedgerError(
                f"{self.path} was made by a newer skycore-async: upgrade with"
                " pip install -U skycore-async"
            )
        for statement in _TABLES:
            execute(statement)
        execute("COMMIT")


def _words(execute: Callable[..., Any], numbers: Collection[str]) -> dict[str, OptOut]:
    found: dict[str, OptOut] = {}
    for some in _batches(list(numbers)):
        places = ", ".join("?" * len(some))
        for row in execute(
            f"SELECT {OPT_OUT.listed} FROM opt_outs WHERE number IN ({places})", some
        ):
            word = OPT_OUT.value(row)
            found[word.number] = word
    return found


def _batches(numbers: Sequence[str]) -> Iterator[Sequence[str]]:
    return (numbers[at : at + PAGE] for at in range(0, len(numbers), PAGE))
