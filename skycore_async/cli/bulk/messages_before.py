"""How many messages a ledger had when a campaign was last sent with it.

Strategy: it is remembered beside the campaigns that a user has begun, every few seconds while one
is sent and in the end.  No message is ever removed from a ledger: one that has fewer is an older
one, as a backup that was put back, and does not know of what was sent since.

Rules:

* It is remembered for each campaign: what others have sent with the ledger since is not its own.
* Where it cannot be remembered nothing fails; that campaigns cannot be is said by these.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias

import attrs

from ..ui.output import number_of
from .campaigns_before import Before, Place, opened

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS messages_had (
    directory TEXT, address TEXT, ledger TEXT, in_database INTEGER, campaign TEXT, count INTEGER,
    PRIMARY KEY (directory, address, ledger, in_database, campaign)
) WITHOUT ROWID
"""
_HAD: Final = """
SELECT count FROM messages_had
WHERE (directory, address, ledger, in_database, campaign) = (?, ?, ?, ?, ?)
"""
_OLD: Final = """
DELETE FROM messages_had
WHERE (directory, address, ledger, in_database, campaign) NOT IN (
    SELECT directory, address, ledger, in_database, campaign FROM campaigns)
"""


def note_messages(place: Place, count: int) -> None:
    """Note how many messages the ledger of a campaign has."""
    with suppress(OSError, sqlite3.Error), _table() as connection:
        row = (*attrs.astuple(place), count)
        connection.execute("INSERT OR REPLACE INTO messages_had VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute(_OLD)


@attrs.frozen(kw_only=True)
class OlderLedger:
    """A ledger that has fewer messages than when a campaign was last sent with it."""

    place: Place
    had: int
    has: int

    @property
    def how_to_go_on(self) -> str:
        """Say how its messages that are not sent yet are sent, and no other."""
        return (
            "to go on with that campaign, put the ledger of that time back in its place, with"
            " those beside it whose names begin with its own; where it is lost, leave out the"
            " numbers that Skycore's own report lists since, and add --yes-send-again then"
        )

    @property
    def words(self) -> str:
        """What it is, for people."""
        return (
            f"the ledger {self.place.ledger_name} had {number_of(self.had, 'message')} when"
            f" campaign {self.place.campaign!r} was last sent with it, and has {self.has:,} now,"
            " as a backup does: what was sent since is not known to it, and would go out again"
        )


BegunBefore: TypeAlias = Before | OlderLedger


def older_ledger(place: Place, count: int) -> OlderLedger | None:
    """Return what is known of a ledger that has so many messages, if it had more."""
    with suppress(OSError, sqlite3.Error), _table() as connection:
        found = connection.execute(_HAD, attrs.astuple(place)).fetchone()
        if found is not None and count < found[0]:
            return OlderLedger(place=place, had=found[0], has=count)
    return None


@contextmanager
def _table() -> Iterator[sqlite3.Connection]:
    with opened() as connection:
        connection.execute(_TABLE)
        yield connection
