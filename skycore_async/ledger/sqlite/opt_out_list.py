"""The list of opt-outs that all ledgers of a user share: a file that many programs write to.

Strategy: a shared file.  It has the latest entry of each number with a change number, which counts
up, and the last change that each ledger has taken in.

Rules:

* Entries count in the order in which they are told, as in a ledger; `opt_outs` decides which of
  two counts.
* The file keeps the rules of `shared_file`: what was told is on the disk.
* What a ledger has seen under its earlier name counts; what it lacks of that all the same is found
  by its entries.
* A number that is on no list may be sent to; so a list that cannot be read is an error, and
  never an empty one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from ...protocol.numbers import names_within_country, spellings
from ..columns import OPT_OUT
from ..earlier_names import earlier_name
from ..opt_outs import OptOut, is_missed, latest_entry, may_be_sent_to, relayed
from .shared_file import FileKind, as_ledger_errors, connect, make_if_missing, set_up, transaction

PAGE: Final = 500
KIND: Final = FileKind(
    application_id=0x534B594F,  # "SKYO"
    version=1,
    called="list",
    tables=(
        """CREATE TABLE opt_outs (
        number TEXT PRIMARY KEY, out INTEGER NOT NULL, at REAL NOT NULL, stamped INTEGER NOT NULL,
        change INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE UNIQUE INDEX by_change ON opt_outs (change)",
        "CREATE TABLE changes (last INTEGER NOT NULL)",
        "CREATE TABLE seen (ledger TEXT PRIMARY KEY, change INTEGER NOT NULL)",
        "INSERT INTO changes VALUES (0)",
    ),
)

# Takes a number and the entries that a ledger has of its spellings; True if it has opted out.
OptOutCheck = Callable[[str, Mapping[str, OptOut]], bool]

_NOTE_SEEN: Final = "INSERT OR REPLACE INTO seen VALUES (?, ?)"


@attrs.frozen(kw_only=True)
class Change:
    """An entry, and the number of the change that put it onto the list."""

    number: int
    entry: OptOut


class OptOutList:
    """The list at `path`, which is made at its first use; `clock` gives seconds since 1970.

    Every method raises LedgerError where it cannot be read or written, with `advice`.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.time, advice: str = ""
    ) -> None:
        self.path = path
        # It is the same list in whatever directory the program works later on.
        self._file = path.absolute()
        self._clock = clock
        self._advice = advice

    def tell(
        self, entries: Iterable[OptOut], *, ledger: str | None = None, seen: int = 0
    ) -> int | None:
        """Add entries in this order, and return the last change once all is on the disk.

        If a `ledger` tells, by its name, that change is noted as seen by it.  Then None is
        returned, and nothing added, if the list has changed since the change `seen`.
        """
        said: dict[str, list[OptOut]] = {}
        for entry in entries:
            said.setdefault(entry.number, []).append(entry)
        if not said:
            return seen
        with self._connected() as connection, transaction(connection) as execute:
            (change,) = execute("SELECT last FROM changes").fetchone()
            if ledger is not None and change > seen:  # less, where another list is in its place
                return None
            known = _entries(execute, said)
            for number, (first, *more) in said.items():
                before = known.get(number)
                counts = latest_entry(
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
            if ledger is not None:
                execute(_NOTE_SEEN, (ledger, change))
        return int(change)

    def changes(self, after: int) -> list[Change]:
        """Return the changes beyond one, in their order, a page of them."""
        with self._opened() as execute:
            found = execute(
                f"SELECT change, {OPT_OUT.listed} FROM opt_outs WHERE change > ?"
                f" ORDER BY change LIMIT {PAGE}",
                (after,),
            )
            return [Change(number=number, entry=OPT_OUT.value(row)) for number, *row in found]

    def last(self) -> tuple[object, int]:
        """Return the identity of the file, and the number of its last change."""
        with self._opened() as execute:
            (change,) = execute("SELECT last FROM changes").fetchone()
            status = self._file.stat()
            return (status.st_dev, status.st_ino), int(change)

    def seen_by(self, ledger: str) -> int:
        """Return the last change that a ledger, by its name, has taken in."""
        with self._opened() as execute:
            return _seen_by(execute, ledger)

    def note_seen(self, ledger: str, change: int) -> None:
        """Note that a ledger has taken in all changes up to this one."""
        with self._opened() as execute:
            execute(_NOTE_SEEN, (ledger, change))

    def entries(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return the entries of these numbers, as far as there are any."""
        with self._opened() as execute:
            return _entries(execute, numbers)

    @contextmanager
    def asked(self, ledger: str = "") -> Iterator[OptOutCheck]:
        """Yield a check of whether a number has opted out, for many numbers over one connection.

        The check answers as the `ledger` of that name would once it has taken this list in.
        """
        some = f"SELECT change, {OPT_OUT.listed} FROM opt_outs WHERE number IN (?, ?, ?)"
        with self._explained():
            connection = self._connect()
        with closing(connection):
            with self._explained():
                (is_anybody,) = connection.execute(
                    "SELECT EXISTS (SELECT 1 FROM opt_outs)"
                ).fetchone()
                seen = _seen_by(connection.execute, ledger)

            def is_opted_out(number: str, known: Mapping[str, OptOut]) -> bool:
                with self._explained():
                    found = connection.execute(
                        some, (number, *names_within_country(number))
                    ).fetchall()
                entries = {name: known[name] for name in spellings(number) if name in known}
                for change, *row in found:
                    entry = OPT_OUT.value(row)
                    before = known.get(entry.number)
                    if change > seen or is_missed(entry, before):
                        first = entry if before is None else before
                        latest = latest_entry(first, relayed([entry]), now=self._clock())
                        entries[entry.number] = latest
                return not may_be_sent_to(number, entries)

            yield is_opted_out if is_anybody else is_out_by_ledger

    def opted_out(self) -> Iterator[OptOut]:
        """Yield the entries of all numbers that have opted out, in the order of the numbers."""
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
        """Return how many numbers have opted out."""
        with self._opened() as execute:
            return int(execute("SELECT count(*) FROM opt_outs WHERE out").fetchone()[0])

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """Yield a connection; nothing else is to be done within."""
        with self._explained(), closing(self._connect()) as connection:
            yield connection

    @contextmanager
    def _opened(self) -> Iterator[Callable[..., Any]]:
        """Yield what executes a statement; nothing else is to be done within."""
        with self._connected() as connection:
            yield connection.execute

    def _explained(self) -> AbstractContextManager[None]:
        return as_ledger_errors(self.path, "the list of who may not be sent to", self._advice)

    def _connect(self) -> Any:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_if_missing(self._file)
        connection = connect(str(self._file))
        try:
            set_up(connection, self.path, KIND)
        except BaseException:
            connection.close()
            raise
        return connection


def name_of_file(path: Path) -> str:
    """Return the name by which the list knows a ledger's file, however its path is written."""
    return str(path.resolve())


def is_out_by_ledger(number: str, known: Mapping[str, OptOut]) -> bool:
    """Return whether a number has opted out by a ledger's entries alone, without a list."""
    return not may_be_sent_to(number, known)


def _seen_by(execute: Callable[..., Any], ledger: str) -> int:
    for name in (ledger, earlier_name(ledger)):
        if found := execute("SELECT change FROM seen WHERE ledger = ?", (name,)).fetchone():
            return int(found[0])
    return 0


def _entries(execute: Callable[..., Any], numbers: Collection[str]) -> dict[str, OptOut]:
    found: dict[str, OptOut] = {}
    for some in _batches(list(numbers)):
        places = ", ".join("?" * len(some))
        for row in execute(
            f"SELECT {OPT_OUT.listed} FROM opt_outs WHERE number IN ({places})", some
        ):
            entry = OPT_OUT.value(row)
            found[entry.number] = entry
    return found


def _batches(numbers: Sequence[str]) -> Iterator[Sequence[str]]:
    return (numbers[at : at + PAGE] for at in range(0, len(numbers), PAGE))
