"""A list of who may not be sent to, for all ledgers of a user: a file that many programs share.

Strategy: a shared file, with the last word of each number and, for each word,
the number of the change that it was; and for each ledger, which changes it has taken in.

Rules:

* Words arrive here in the order in which they are told, as they do in a ledger, and the rules
  of `opt_outs` say which of two counts.
* It keeps the rules of `shared_file`: what was told is on the disk.
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
from ..opt_outs import OptOut, is_missed, last_word, may_be_sent_to, relayed
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

# Whether a number may not be sent to, by the words that a ledger has of all its spellings.
OptOutCheck = Callable[[str, Mapping[str, OptOut]], bool]

_NOTE_SEEN: Final = "INSERT OR REPLACE INTO seen VALUES (?, ?)"


@attrs.frozen(kw_only=True)
class Change:
    """A word of a number, and the number of the change that brought it onto the list."""

    number: int
    word: OptOut


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
        self, words: Iterable[OptOut], *, ledger: str | None = None, seen: int = 0
    ) -> int | None:
        """Take words in, in this order, and return when what counts of them is on the disk.

        Returns the last change.  Where a `ledger` tells, by its name, it has seen that, too; None,
        and nothing is taken in, where the list has changed since the change `seen`.
        """
        said: dict[str, list[OptOut]] = {}
        for word in words:
            said.setdefault(word.number, []).append(word)
        if not said:
            return seen
        with self._connected() as connection, transaction(connection) as execute:
            (change,) = execute("SELECT last FROM changes").fetchone()
            if ledger is not None and change > seen:  # less, where another list is in its place
                return None
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
            return [Change(number=number, word=OPT_OUT.value(row)) for number, *row in found]

    def last(self) -> tuple[object, int]:
        """Return the last change, after what tells the file from any in its place."""
        with self._opened() as execute:
            (change,) = execute("SELECT last FROM changes").fetchone()
            status = self._file.stat()
            return (status.st_dev, status.st_ino), int(change)

    def seen_by(self, ledger: str) -> int:
        """Return the change up to which a ledger, by its name, has taken all in."""
        with self._opened() as execute:
            return _seen_by(execute, ledger)

    def note_seen(self, ledger: str, change: int) -> None:
        """Note that a ledger has taken in all changes up to this one."""
        with self._opened() as execute:
            execute(_NOTE_SEEN, (ledger, change))

    def words(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return the last words of these numbers, of those that have any."""
        with self._opened() as execute:
            return _words(execute, numbers)

    @contextmanager
    def asked(self, ledger: str = "") -> Iterator[OptOutCheck]:
        """Yield what says of a number whether it may not be sent to, for many of them.

        It is asked with the words that a ledger has of its spellings, and says what that ledger,
        by its name, would say once it has taken this list in.
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
                words = {name: known[name] for name in spellings(number) if name in known}
                for change, *row in found:
                    word = OPT_OUT.value(row)
                    before = known.get(word.number)
                    if change > seen or is_missed(word, before):
                        first = word if before is None else before
                        words[word.number] = last_word(first, relayed([word]), now=self._clock())
                return not may_be_sent_to(number, words)

            yield is_opted_out if is_anybody else is_out_by_ledger

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
    """Return the name by which the list knows the ledger in a file: one, however it is written."""
    return str(path.resolve())


def is_out_by_ledger(number: str, known: Mapping[str, OptOut]) -> bool:
    """Return whether a number may not be sent to where there is no list: by a ledger's words."""
    return not may_be_sent_to(number, known)


def _seen_by(execute: Callable[..., Any], ledger: str) -> int:
    found = execute("SELECT change FROM seen WHERE ledger = ?", (ledger,)).fetchone()
    return int(found[0]) if found else 0


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
