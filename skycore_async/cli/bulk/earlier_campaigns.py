"""The campaigns that a user has begun, so that the same messages in a renamed file are recognised.

Strategy: a file in the user's own directory holds for each campaign where it was begun, and a
sketch of its messages.  A campaign is noted there as soon as the user agrees to send it; before
its first message goes out, it is noted as sent, too.

Rules:

* The messages of a run are compared with the campaigns that were begun from the same directory,
  at the same address of the API: a rehearsal against a simulator does not count.
* A campaign that is run again is usually no obstacle to itself, since its ledger knows what was
  sent.  It is one where the ledger does not know it any more: the file is gone, an empty ledger is
  in its place, or the database has no such campaign.
* Where a campaign ended before its first message, a lost ledger makes it no obstacle: there is
  nothing sent that the ledger would have to know.
* A campaign is an obstacle to itself where its messages have other keys than before, as when
  --key-column was added: to a ledger, the same message under two keys is two messages.
* Where two runs begin the same messages at once, the run whose first message begins first sends
  them, and the other sends nothing.
* Once a ledger's file is copied into a database, its campaigns are those of the database.
* An earlier version noted a database without its port.  What it noted counts for a database of
  that name that has the campaign.
* An earlier version noted the recipients of a pipe as those of a file in the directory of its
  descriptors.  They count in every directory: where they came from is not known.
* Where the file cannot be read or written, the user is told, and the run goes on.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Final

import attrs

from ...ledger.earlier_names import earlier_name
from ...runtime.private_files import PRIVATE
from ...runtime.user_files import user_file
from ..ui.output import say
from .place import AT_PLACE, PLACE, PLACE_COLUMNS, Place, absolute_path, forget_orphans
from .resemblance import Sketch

_NAME: Final = "campaigns.db"
_MOST: Final = 1000  # campaigns that are remembered: the latest
_ALIKE: Final = 0.5  # two campaigns are alike that share at least this part of the messages
_ENOUGH: Final = 10  # messages that they share at least, where it is that part of the earlier one

_CAMPAIGNS: Final = f"""
CREATE TABLE IF NOT EXISTS campaigns (
    {PLACE_COLUMNS}, begun REAL, sketch BLOB, PRIMARY KEY ({PLACE})
) WITHOUT ROWID
"""
_SENT: Final = f"""
CREATE TABLE IF NOT EXISTS sent ({PLACE_COLUMNS}, PRIMARY KEY ({PLACE})) WITHOUT ROWID
"""
# A table of its own, so that older versions, which know no keys, can use the file as well.
_KEYS: Final = f"""
CREATE TABLE IF NOT EXISTS sketched_keys (
    {PLACE_COLUMNS}, keys BLOB, PRIMARY KEY ({PLACE})
) WITHOUT ROWID
"""
# What was begun before this time may have a database under its earlier name.
_SINCE: Final = """
CREATE TABLE IF NOT EXISTS named_with_ports AS
SELECT (julianday('now') - 2440587.5) * 86400 AS since
"""
_ALL: Final = f"""
SELECT sent.campaign IS NOT NULL, ledger, in_database, campaigns.campaign, begun,
    in_database AND begun < (SELECT since FROM named_with_ports), sketch, coalesce(keys, x'')
FROM campaigns LEFT JOIN sketched_keys USING ({PLACE}) LEFT JOIN sent USING ({PLACE})
"""  # noqa: S608 - names of our own
_HERE: Final = f"{_ALL} WHERE (directory = ? OR directory GLOB '/proc/*/fd') AND address = ?"
_SAME: Final = f"{_HERE} AND ledger = ? AND in_database = ? AND campaign = ?"
_IN_FILES: Final = "SELECT DISTINCT ledger FROM campaigns WHERE NOT in_database"
_MOVE_TO_DATABASE: Final = tuple(
    f"UPDATE OR REPLACE {table} SET ledger = ?, in_database = 1"  # noqa: S608 - a table of our own
    " WHERE ledger = ? AND NOT in_database"
    for table in ("campaigns", "sketched_keys")
)
_FORGET_OLD: Final = """
DELETE FROM campaigns
WHERE begun < (SELECT begun FROM campaigns ORDER BY begun DESC LIMIT 1 OFFSET ?)
"""
_FORGET_ORPHANS: Final = tuple(map(forget_orphans, ("sent", "sketched_keys")))
_FORGET_UNSENT: Final = f"""
DELETE FROM campaigns {AT_PLACE} AND ({PLACE}) NOT IN (SELECT {PLACE} FROM sent)
"""  # noqa: S608 - names of our own
_FORGET_SENT: Final = f"DELETE FROM sent {AT_PLACE}"  # noqa: S608 - names of our own
_HAS_SENT: Final = f"SELECT 1 FROM sent {AT_PLACE}"  # noqa: S608 - names of our own


@attrs.frozen(kw_only=True)
class EarlierCampaign:
    """A campaign that was begun before with the messages that are to be sent now.

    `share` is the part of these messages that it has, from 0 to 1.  It `is_forgotten` where the
    ledger that is in its place now does not know it, and `has_other_keys` where it had the
    messages under keys that differ from those of now.
    """

    place: Place
    begun: datetime
    share: float
    is_forgotten: bool = False
    has_other_keys: bool = False

    @property
    def how_to_go_on(self) -> str:
        """Say how to send those messages of the campaign that are not sent yet, and no others."""
        if self.has_other_keys:
            return (
                "to go on with that campaign, give the messages the keys that they had then: name"
                " the same column with --key-column, or none where none was, and let no"
                " spreadsheet change what is in it"
            )
        if not self.is_forgotten:
            return self.place.how_to_go_on
        known = f"only the {self.place.ledger_name} of that time knows what was sent, and the one"
        put_back = "to go on with that campaign, put the earlier one back in its place"
        if self.place.in_database:
            return f"{known} that is there now has no such campaign: {put_back}"
        return (
            f"{known} that is there now has no message: {put_back}, with the files beside it whose"
            " names begin with its own"
        )

    @property
    def words(self) -> str:
        """Say which campaign it is, and how many of the messages it has."""
        percent = "all" if self.share == 1 else f"about {100 * self.share:.0f} %"
        return (
            f"{percent} of these messages, numbers and texts, were begun as campaign"
            f" {self.place.campaign!r} with the ledger {self.place.ledger_name} on"
            f" {self.begun:%d %b %Y %H:%M} UTC{', under other keys' * self.has_other_keys}"
        )


def find_earlier(place: Place, sketch: Sketch, *, ledger_knows: bool) -> EarlierCampaign | None:
    """Return the earlier campaign that has most of these messages, None where none has enough.

    `ledger_knows` says that the ledger at `place` knows what this very campaign has sent.
    """
    with _failure_is_told(), opened() as connection:
        return _most_alike(connection, place, sketch, ledger_knows=ledger_knows)
    return None


def _most_alike(
    connection: sqlite3.Connection,
    place: Place,
    sketch: Sketch,
    *,
    ledger_knows: bool = True,
    only_sent: bool = False,
) -> EarlierCampaign | None:
    found: list[EarlierCampaign] = []
    here = (place.directory, place.address)
    rows = connection.execute(_HERE, here)
    for has_sent, ledger, in_database, campaign, begun, is_without_port, *data in rows:
        path = ledger if in_database else absolute_path(ledger)
        if is_without_port and ledger_knows and path == earlier_name(place.ledger):
            path = place.ledger
        other = attrs.evolve(place, ledger=path, in_database=bool(in_database), campaign=campaign)
        if not has_sent and (only_sent or other.ledger_is_gone):
            continue
        is_known = other == place and ledger_knows
        earlier = Sketch.from_bytes(*data)
        if _are_alike(sketch, earlier, under_other_keys=is_known):
            found.append(
                EarlierCampaign(
                    place=other,
                    begun=datetime.fromtimestamp(begun, UTC),
                    share=sketch.share_in(earlier, under_other_keys=is_known),
                    is_forgotten=other == place and not other.ledger_is_gone,
                    has_other_keys=is_known,
                )
            )
    return max(found, key=attrgetter("share"), default=None)


def _are_alike(sketch: Sketch, earlier: Sketch, *, under_other_keys: bool) -> bool:
    """Return whether the earlier campaign has half of these messages, or is half of these.

    The latter is so where only a part of the earlier campaign was begun, as with --limit.
    """
    share = functools.partial(Sketch.share_in, under_other_keys=under_other_keys)
    count = sketch.count_in(earlier, under_other_keys=under_other_keys)
    return share(sketch, earlier) >= _ALIKE or (
        share(earlier, sketch) >= _ALIKE and count >= _ENOUGH
    )


def note_begun(
    place: Place, sketch: Sketch, *, now: float, is_new: bool
) -> EarlierCampaign | None:
    """Note that these messages are about to be sent, at a time in seconds since 1970.

    With `is_new` the caller knows of no earlier campaign with these messages.  Where one was begun
    since, that one is returned, and nothing is noted.
    """
    key = attrs.astuple(place)
    with _failure_is_told(), opened() as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        if is_new and (earlier := _most_alike(connection, place, sketch)) is not None:
            return earlier
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
        connection.execute(_FORGET_OLD, (_MOST - 1,))
        for statement in _FORGET_ORPHANS:
            connection.execute(statement)
    return None


def note_sent(place: Place, new: Sketch | None = None) -> EarlierCampaign | bool:
    """Note that a message of a campaign is about to begin; return whether it is the first.

    `new` are the messages where the caller knows of no earlier campaign with them.  Where another
    campaign has begun to send them since, that one is returned, and the campaign at `place` is
    noted no more, unless it has sent before.
    """
    with _failure_is_told(), opened() as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        if new is not None and (earlier := _most_alike(connection, place, new, only_sent=True)):
            connection.execute(_FORGET_UNSENT, attrs.astuple(place))
            return earlier
        noted = connection.execute(
            "INSERT OR IGNORE INTO sent VALUES (?, ?, ?, ?, ?)", attrs.astuple(place)
        )
        return noted.rowcount > 0
    return False


def note_none_sent(place: Place) -> None:
    """Take back the note that a message of this campaign was about to begin, as none has begun."""
    with _failure_is_told(), opened() as connection:
        connection.execute(_FORGET_SENT, attrs.astuple(place))


def has_sent(place: Place) -> bool:
    """Return whether this campaign is noted as having begun a message."""
    with _failure_is_told(), opened() as connection:
        names = (place, attrs.evolve(place, ledger=earlier_name(place.ledger)))
        found = (connection.execute(_HAS_SENT, attrs.astuple(one)).fetchone() for one in names)
        return any(found)
    return False


def note_copied(file: Path, database: str) -> None:
    """Note that a ledger's file was copied into a database: it has the campaigns from now on."""
    with _failure_is_told(), opened() as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        for (ledger,) in connection.execute(_IN_FILES).fetchall():
            if absolute_path(ledger) == absolute_path(file):
                for statement in _MOVE_TO_DATABASE:
                    connection.execute(statement, (database, ledger))


@contextmanager
def opened(*tables: str) -> Iterator[sqlite3.Connection]:
    """Yield a connection to the file; the statements `tables` create more tables in it.

    Raises OSError or sqlite3.Error where the file cannot be used.
    """
    path = user_file(_NAME)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=PRIVATE)
    with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
        for statement in (_CAMPAIGNS, _SENT, _KEYS, _SINCE, *tables):
            connection.execute(statement)
        yield connection


@contextmanager
def _failure_is_told() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        say(
            f"Which campaigns were begun before is not known ({error}): a renamed file of"
            " recipients would be sent again. Set SKYCORE_HOME to a directory in which they can be"
            " remembered.",
            err=True,
        )
