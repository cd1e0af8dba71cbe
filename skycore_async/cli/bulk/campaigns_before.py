"""The campaigns that a user has begun, so that one under another name is known again.

Strategy: a file of the user's own, in which each campaign has a sketch of its messages and
where it was begun.  It is written as soon as they are agreed to; and before the first of them
goes out, that it does.

Rules:

* Compared is what is to be sent now with what was begun from the same directory, at the same
  address of the API: a rehearsal against a simulator is none.
* The campaign itself counts as another where its ledger, which knew what was sent, is gone, or
  one without a message is in its place, or a database without the campaign; but not where it
  ended before its first message.  One whose ledger is gone is ignored then.
* So does what it had under other keys, as before a column of keys was named: no ledger knows two
  keys for one message.
* Of two that are begun at once, the first whose message goes out sends, and the other nothing.
* Where a ledger was copied into a database, that has its campaigns.
* Where the file cannot be read or written, that is said, and nothing else fails.
"""

from __future__ import annotations

import functools
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Final

import attrs

from ...runtime.private_files import PRIVATE
from ...runtime.user_files import user_file
from ..ui.output import say
from .resemblance import Sketch

_NAME: Final = "campaigns.db"
_MOST: Final = 1000  # campaigns that are remembered, the last ones
_ALIKE: Final = 0.5  # the share of messages from which on it is taken for the same campaign ...
_ENOUGH: Final = 10  # ... and how many, where it is what was begun of which that share is here

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS campaigns (
    directory TEXT, address TEXT, ledger TEXT, in_database INTEGER, campaign TEXT,
    begun REAL, sketch BLOB,
    PRIMARY KEY (directory, address, ledger, in_database, campaign)
) WITHOUT ROWID
"""
_TABLE_SENT: Final = """
CREATE TABLE IF NOT EXISTS sent (
    directory TEXT, address TEXT, ledger TEXT, in_database INTEGER, campaign TEXT,
    PRIMARY KEY (directory, address, ledger, in_database, campaign)
) WITHOUT ROWID
"""
_PLACE: Final = "directory, address, ledger, in_database, campaign"
# Beside the sketches, so that a version which knows no keys can use the file as well.
_TABLE_KEYS: Final = f"""
CREATE TABLE IF NOT EXISTS sketched_keys (
    directory TEXT, address TEXT, ledger TEXT, in_database INTEGER, campaign TEXT, keys BLOB,
    PRIMARY KEY ({_PLACE})
) WITHOUT ROWID
"""
_ALL: Final = f"""
SELECT sent.campaign IS NOT NULL, ledger, in_database, campaigns.campaign, begun, sketch,
    coalesce(keys, x'')
FROM campaigns LEFT JOIN sketched_keys USING ({_PLACE}) LEFT JOIN sent USING ({_PLACE})
"""  # noqa: S608 - names of our own
_HERE: Final = f"{_ALL} WHERE directory = ? AND address = ?"
_SAME: Final = f"{_HERE} AND ledger = ? AND in_database = ? AND campaign = ?"
_IN_FILES: Final = "SELECT DISTINCT ledger FROM campaigns WHERE NOT in_database"
_COPIED: Final = tuple(
    f"UPDATE OR REPLACE {table} SET ledger = ?, in_database = 1"  # noqa: S608 - a table of our own
    " WHERE ledger = ? AND NOT in_database"
    for table in ("campaigns", "sketched_keys")
)
_OLD: Final = """
DELETE FROM campaigns
WHERE begun < (SELECT begun FROM campaigns ORDER BY begun DESC LIMIT 1 OFFSET ?)
"""
_OLD_BESIDE: Final = tuple(
    f"DELETE FROM {table} WHERE ({_PLACE}) NOT IN (SELECT {_PLACE} FROM campaigns)"  # noqa: S608
    for table in ("sent", "sketched_keys")
)
_NOT_SENT: Final = f"""
DELETE FROM campaigns
WHERE ({_PLACE}) = (?, ?, ?, ?, ?) AND ({_PLACE}) NOT IN (SELECT {_PLACE} FROM sent)
"""  # noqa: S608 - names of our own
_NONE_SENT: Final = f"DELETE FROM sent WHERE ({_PLACE}) = (?, ?, ?, ?, ?)"  # noqa: S608
_HAS_SENT: Final = """
SELECT 1 FROM sent
WHERE directory = ? AND address = ? AND ledger = ? AND in_database = ? AND campaign = ?
"""


@attrs.frozen(kw_only=True)
class Place:
    """Where and under which name a campaign is begun; `address` is that of the API.

    `ledger` is the absolute path of a file, or the name of a database.
    """

    directory: str
    address: str
    ledger: str
    in_database: bool
    campaign: str

    @property
    def ledger_name(self) -> str:
        """What to call the ledger from here."""
        return self.ledger if self.in_database else _from_here(self.ledger)

    @property
    def as_options(self) -> str:
        """The options with which `skycore bulk` goes on with it."""
        named = f"--campaign {shlex.quote(self.campaign)}"
        if self.in_database:
            return f"{named} --cluster DSN"
        ledger = "FILE" if self.ledger_is_gone else shlex.quote(self.ledger_name)
        return f"{named} --ledger {ledger}"

    @property
    def ledger_is_gone(self) -> bool:
        """Whether it was begun with a file that is not there."""
        return not self.in_database and not Path(self.ledger).exists()

    @property
    def how_to_go_on(self) -> str:
        """Say how its messages that are not sent yet are sent, and no other."""
        if self.ledger_is_gone:
            return (
                f"what was sent is known to {self.ledger_name} alone, and there is no such file"
                " now; to go on with that campaign, find it, with those beside it whose names"
                f" begin with its own, and add {self.as_options}"
            )
        return f"to go on with that campaign, add {self.as_options}"


@attrs.frozen(kw_only=True)
class Before:
    """A campaign that was begun before, and the share of what is to be sent that it has."""

    place: Place
    begun: datetime
    share: float
    is_forgotten: bool = False  # by the ledger that is in its place now
    has_other_keys: bool = False

    @property
    def how_to_go_on(self) -> str:
        """Say how its messages that are not sent yet are sent, and no other."""
        if self.has_other_keys:
            return (
                "to go on with that campaign, give the messages the keys that they had then: name"
                " the same column with --key-column, or none where none was, and let no"
                " spreadsheet change what is in it"
            )
        if not self.is_forgotten:
            return self.place.how_to_go_on
        if self.place.in_database:
            return (
                f"what was sent is known to the {self.place.ledger_name} of that time alone, and"
                " the one that is there now has no such campaign: to go on with that campaign,"
                " put that one back in its place"
            )
        return (
            f"what was sent is known to the {self.place.ledger_name} of that time alone, and the"
            " one that is there now has no message: to go on with that campaign, put that one back"
            " in its place, with those beside it whose names begin with its own"
        )

    @property
    def words(self) -> str:
        """What it is, for people."""
        percent = "all" if self.share == 1 else f"about {100 * self.share:.0f} %"
        return (
            f"{percent} of these messages, numbers and texts, were begun as campaign"
            f" {self.place.campaign!r} with the ledger {self.place.ledger_name} on"
            f" {self.begun:%d %b %Y %H:%M} UTC{', under other keys' * self.has_other_keys}"
        )


def begun_before(place: Place, sketch: Sketch, *, has_ledger: bool) -> Before | None:
    """Return the campaign that has most of these messages, if it has enough to be the same.

    `has_ledger` says that its ledger, if it is this very campaign, knows what was sent.
    """
    with _said_where_it_fails(), opened() as connection:
        return _found(connection, place, sketch, has_ledger=has_ledger)
    return None


def _found(
    connection: sqlite3.Connection,
    place: Place,
    sketch: Sketch,
    *,
    has_ledger: bool = True,
    only_sent: bool = False,
) -> Before | None:
    found: list[Before] = []
    here = (place.directory, place.address)
    for has_sent, ledger, in_database, campaign, begun, *data in connection.execute(_HERE, here):
        where = ledger if in_database else _whole(ledger)
        other = attrs.evolve(place, ledger=where, in_database=bool(in_database), campaign=campaign)
        if not has_sent and (only_sent or other.ledger_is_gone):
            continue
        is_known = other == place and has_ledger
        earlier = Sketch.from_bytes(*data)
        if _is_alike(sketch, earlier, under_other_keys=is_known):
            found.append(
                Before(
                    place=other,
                    begun=datetime.fromtimestamp(begun, UTC),
                    share=sketch.share_in(earlier, under_other_keys=is_known),
                    is_forgotten=other == place and not other.ledger_is_gone,
                    has_other_keys=is_known,
                )
            )
    return max(found, key=attrgetter("share"), default=None)


def _is_alike(sketch: Sketch, earlier: Sketch, *, under_other_keys: bool) -> bool:
    """Return whether half of these messages were begun, or half of what was begun is of these.

    The latter is one that was begun in part, with --limit.
    """
    share = functools.partial(Sketch.share_in, under_other_keys=under_other_keys)
    count = sketch.count_in(earlier, under_other_keys=under_other_keys)
    return share(sketch, earlier) >= _ALIKE or (
        share(earlier, sketch) >= _ALIKE and count >= _ENOUGH
    )


def note_begun(place: Place, sketch: Sketch, *, now: float, is_new: bool) -> Before | None:
    """Note that these messages are about to be sent, at a time in seconds since 1970.

    Where they are thought to be new, and were begun elsewhere meanwhile, nothing is noted, and
    that is returned.
    """
    key = attrs.astuple(place)
    with _said_where_it_fails(), opened() as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        if is_new and (before := _found(connection, place, sketch)) is not None:
            return before
        whole = Sketch.from_bytes(sketch.to_bytes(), sketch.keys_to_bytes())
        for *_, data, keys in connection.execute(_SAME, key):
            whole.merge(Sketch.from_bytes(data, keys))
        connection.execute(
            "INSERT OR REPLACE INTO campaigns VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*key, now, whole.to_bytes()),
        )
        connection.execute(
            "INSERT OR REPLACE INTO sketched_keys VALUES (?, ?, ?, ?, ?, ?)",
            (*key, whole.keys_to_bytes()),
        )
        connection.execute(_OLD, (_MOST - 1,))
        for statement in _OLD_BESIDE:
            connection.execute(statement)
    return None


def note_sent(place: Place, new: Sketch | None = None) -> Before | bool:
    """Note that a message of this campaign, which is noted, is about to begin.

    Returns whether none was before.  Where they are thought to be `new`, and others began to send
    them meanwhile, that is returned, and this one is noted no more: of two that are begun at once,
    one sends.
    """
    with _said_where_it_fails(), opened() as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        if new is not None and (before := _found(connection, place, new, only_sent=True)):
            connection.execute(_NOT_SENT, attrs.astuple(place))
            return before
        noted = connection.execute(
            "INSERT OR IGNORE INTO sent VALUES (?, ?, ?, ?, ?)", attrs.astuple(place)
        )
        return noted.rowcount > 0
    return False


def note_none_sent(place: Place) -> None:
    """Note that no message of this campaign has begun, though one was about to."""
    with _said_where_it_fails(), opened() as connection:
        connection.execute(_NONE_SENT, attrs.astuple(place))


def has_sent(place: Place) -> bool:
    """Return whether a message of this campaign was about to begin, as far as is known."""
    with _said_where_it_fails(), opened() as connection:
        return connection.execute(_HAS_SENT, attrs.astuple(place)).fetchone() is not None
    return False


def note_copied(file: Path, database: str) -> None:
    """Note that the ledger in a file was copied into a database, which has its campaigns now."""
    with _said_where_it_fails(), opened() as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        for (ledger,) in connection.execute(_IN_FILES).fetchall():
            if _whole(ledger) == _whole(file):
                for statement in _COPIED:
                    connection.execute(statement, (database, ledger))


def _whole(path: str | Path) -> str:
    return str(Path(path).resolve())


def _from_here(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


@contextmanager
def opened() -> Iterator[sqlite3.Connection]:
    """Yield a connection to the file; OSError or sqlite3.Error where it cannot be used."""
    path = user_file(_NAME)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=PRIVATE)
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
        connection.execute(_TABLE)
        connection.execute(_TABLE_SENT)
        connection.execute(_TABLE_KEYS)
        yield connection


@contextmanager
def _said_where_it_fails() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        say(
            f"What was begun under other names is not known ({error}): a file of recipients that"
            " was renamed is sent again. SKYCORE_HOME names a directory to remember it in.",
            err=True,
        )
