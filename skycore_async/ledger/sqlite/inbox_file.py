"""The inbox beside a ledger's file: postbacks that are on the disk, but in no ledger yet.

Strategy: PATH-inbox is a shared file, with a row for each postback.  Any number of processes add
rows.  The process that has the ledger open takes them in, or the next one that opens it.

Rules:

* It keeps the rules of `shared_file`.
* No id is used twice, and ids are in the order of commits.  So the last id that a ledger has read
  tells which postbacks are new to it.
* The first ledger that looks into it claims it, for as long as there is anything in it.  No other
  ledger gets its postbacks.
* Nothing is added to a file that is no longer where it was opened, or no longer beside its ledger:
  nobody would look for it there.
* It is never removed here: other processes may have it open.
"""

from __future__ import annotations

import ctypes
import json
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs

from ...errors import LedgerError
from ...notifications import Notification
from ...postbacks import notification
from ...runtime.forks import call_in_child
from ...runtime.paths import is_there
from .shared_file import (
    PATIENCE,
    FileKind,
    as_ledger_errors,
    connect,
    make_if_missing,
    set_up,
    transaction,
)

MOST: Final = 500  # postbacks that are read at a time
_MOST_CHARACTERS: Final = 1024 * 1024  # that are read at a time, but at least one postback

KIND: Final = FileKind(
    application_id=0x534B5949,  # "SKYI"
    version=1,
    called="inbox",
    tables=(
        "CREATE TABLE identity (inbox BLOB NOT NULL, ledger BLOB)",
        "INSERT INTO identity VALUES (randomblob(16), NULL)",
        """CREATE TABLE postbacks (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        received REAL NOT NULL,
        notifications TEXT NOT NULL)""",
    ),
)
_ADVICE: Final = (
    ". What it holds already is safe; it goes on when its disk has room and it can be read and"
    " written"
)


def inbox_of(path: Path) -> Path:
    """Return the inbox of the ledger at `path`."""
    return path.with_name(f"{path.name}-inbox")


def copy_inbox(path: Path, copy: Path) -> None:
    """Copy the inbox of the ledger at `path`, if there is one, beside a `copy` of the ledger.

    Raises sqlite3.Error if it cannot be read without changing it.
    """
    if inbox_of(path).exists():
        uri = f"{inbox_of(path).as_uri()}?mode=ro"
        with (
            closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE)) as source,
            closing(sqlite3.connect(inbox_of(copy))) as target,
        ):
            source.backup(target)


@attrs.frozen(kw_only=True)
class KeptPostback:
    """A postback in an inbox, all of it in `text`; `received` is in seconds since 1970."""

    id: int = 0
    received: float
    text: str = attrs.field(repr=False)

    @classmethod
    def of(cls, notifications: Sequence[Notification], *, received: float) -> KeptPostback:
        """Return the postback that has these notifications."""
        text = json.dumps([each.raw for each in notifications], separators=(",", ":"))
        return cls(received=received, text=text)

    def notifications(self) -> list[Notification]:
        """Return its notifications, in the order in which they came."""
        return list(map(notification, json.loads(self.text)))


class InboxFile:
    """The inbox of the ledger at `path`, which has no symbolic link in it; one use at a time.

    Every method raises LedgerError if something is wrong with the file.
    """

    def __init__(self, path: Path, *, connect: Callable[[str], Any] = connect) -> None:
        self.path = inbox_of(path)
        self._ledger = path
        self._connect_to = connect
        self._turn = threading.RLock()
        self._connection: Any = None
        self._place: tuple[int, int] | None = None  # of the open file: its device and its inode
        self._is_inherited = False

    def exists(self) -> bool:
        """Return whether there is such a file."""
        return is_there(self.path)

    @property
    def is_open(self) -> bool:
        """Whether it was opened and not closed yet."""
        return self._connection is not None

    def open(self) -> None:
        """Open it, making it if there is none; do nothing if it is open."""
        with self._explained():
            if self._connection is None:
                make_if_missing(self.path)
                self._connect()

    def open_if_there(self) -> bool:
        """Open it if it exists, and return whether it does."""
        with self._explained():
            if self._connection is not None and not self._is_in_place():
                self._close()
            if self._connection is None and self.exists():
                self._connect()
            return self._connection is not None

    def _connect(self) -> None:
        self._place = self._found()
        self._connection = connection = self._connect_to(str(self.path))
        _opened.add(self)
        try:
            set_up(connection, self.path, KIND)
        except BaseException:
            self._close()
            raise

    # What receivers do.

    def add(self, postbacks: Sequence[KeptPostback]) -> None:
        """Add postbacks, all of them or none, and return when they are on the disk."""
        with self._explained():
            self._check_place()
            with transaction(self._connection):
                self._connection.executemany(
                    "INSERT INTO postbacks (received, notifications) VALUES (?, ?)",
                    [(each.received, each.text) for each in postbacks],
                )
            self._check_place()  # again, in case it was moved meanwhile

    def is_empty(self) -> bool:
        """Return whether there is nothing in it."""
        with self._explained():
            return bool(self._one("SELECT NOT EXISTS (SELECT 1 FROM postbacks)")[0])

    # What a ledger does.

    def claimed_by(self) -> bytes | None:
        """Return the identity of the ledger that has claimed it; None if none has."""
        with self._explained():
            (ledger,) = self._one("SELECT ledger FROM identity")
        return None if ledger is None else bytes(ledger)

    def give_to(self, ledger: bytes) -> bool:
        """Claim it for a ledger; return False if it has postbacks for another."""
        with self._explained(), transaction(self._connection) as execute:
            execute(
                "UPDATE identity SET ledger = ? WHERE ledger IS NULL OR ledger = ?"
                " OR NOT EXISTS (SELECT 1 FROM postbacks)",
                (ledger, ledger),
            )
            return bool(self._one("SELECT ledger FROM identity")[0] == ledger)

    def read(self, after: int = 0) -> tuple[list[KeptPostback], bool]:
        """Return the first postbacks beyond the id `after`, and whether there are no more."""
        found: list[KeptPostback] = []
        characters = 0
        with self._explained():
            rows = self._connection.execute(
                "SELECT id, received, notifications FROM postbacks WHERE id > ?"
                f" ORDER BY id LIMIT {MOST}",
                (after,),
            )
            for id_, received, text in rows:
                found.append(KeptPostback(id=id_, received=received, text=text))
                if (characters := characters + len(text)) >= _MOST_CHARACTERS:
                    break
            rows.close()
        return found, len(found) < MOST and characters < _MOST_CHARACTERS

    def remove(self, until: int) -> None:
        """Remove the postbacks up to this id, which a ledger has taken in."""
        with self._explained(), transaction(self._connection) as execute:
            execute("DELETE FROM postbacks WHERE id <= ?", (until,))

    def rewrite(self) -> None:
        """Rewrite the file, so that no bytes of removed postbacks are left in it."""
        with self._explained():
            self._connection.execute("VACUUM")

    def count(self) -> int:
        """Return how many postbacks are in it."""
        with self._explained():
            return int(self._one("SELECT count(*) FROM postbacks")[0])

    # What all do.

    def close(self) -> None:
        """Close it; do nothing if it is closed."""
        with self._turn:
            self._close()

    def _close(self) -> None:
        if self._connection is not None and not self._is_inherited:
            self._connection.close()
        self._connection = None

    def _one(self, statement: str) -> Any:
        return self._connection.execute(statement).fetchone()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with self._turn:
            if self._is_inherited:
                raise LedgerError(
                    f"{self.path} is open in the process that forked this one, and not here: open"
                    " it after the fork"
                )
            with as_ledger_errors(self.path, "the inbox of a ledger", _ADVICE):
                yield

    def _check_place(self) -> None:
        if not self._is_in_place():
            raise LedgerError(
                f"{self.path} was moved, removed or replaced while it was open: nothing more is"
                " taken in until it is back in its place, or this is started anew"
            )
        if self._ledger.is_symlink():
            raise LedgerError(
                f"{self._ledger} was made a symbolic link while its inbox was open: nothing more"
                f" is taken in until this is started anew. Before that, move {self.path} to where"
                " the ledger is now, with the name that it has there and -inbox behind it"
            )

    def _is_in_place(self) -> bool:
        with suppress(FileNotFoundError):
            return self._found() == self._place
        return False

    def _found(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_dev, status.st_ino

    def after_fork_in_child(self) -> None:
        """Never close it in a forked child: the parent may be in a transaction."""
        self._turn = threading.RLock()
        self._is_inherited = True
        if self._connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))


_opened: Final[weakref.WeakSet[InboxFile]] = weakref.WeakSet()


def _in_child() -> None:
    for file in list(_opened):
        file.after_fork_in_child()
    _opened.clear()


call_in_child(_in_child)
