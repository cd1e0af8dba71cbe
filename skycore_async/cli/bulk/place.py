"""The place of a campaign, by which it is told from others of the same name."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

import attrs

# The columns of a place in a table, in the order of its fields.
PLACE: Final = "directory, address, ledger, in_database, campaign"
PLACE_COLUMNS: Final = (
    "directory TEXT, address TEXT, ledger TEXT, in_database INTEGER, campaign TEXT"
)
AT_PLACE: Final = f"WHERE ({PLACE}) = (?, ?, ?, ?, ?)"


@attrs.frozen(kw_only=True)
class Place:
    """Where and under which name a campaign is begun.

    `address` is the address of the API; `ledger` the absolute path of a file, or the name of a
    database.
    """

    directory: str
    address: str
    ledger: str
    in_database: bool
    campaign: str

    @property
    def ledger_name(self) -> str:
        """The name of the ledger, for people: a path is relative where it can be."""
        return self.ledger if self.in_database else _from_here(self.ledger)

    @property
    def as_options(self) -> str:
        """The options with which `skycore bulk` goes on with this campaign."""
        named = f"--campaign {shlex.quote(self.campaign)}"
        if self.in_database:
            return f"{named} --cluster DSN"
        ledger = "FILE" if self.ledger_is_gone else shlex.quote(self.ledger_name)
        return f"{named} --ledger {ledger}"

    @property
    def ledger_is_gone(self) -> bool:
        """Whether the ledger is a file that does not exist any more."""
        return not self.in_database and not Path(self.ledger).exists()

    @property
    def how_to_go_on(self) -> str:
        """Say how to send those messages of the campaign that are not sent yet, and no others."""
        if self.ledger_is_gone:
            return (
                f"only the ledger {self.ledger_name} knows what was sent, and that file is gone:"
                " to go on with that campaign, find the file, with those beside it whose names"
                f" begin with its own, and add {self.as_options}"
            )
        return f"to go on with that campaign, add {self.as_options}"


def forget_orphans(table: str) -> str:
    """Return the statement that deletes a table's rows whose campaign is remembered no more."""
    return f"DELETE FROM {table} WHERE ({PLACE}) NOT IN (SELECT {PLACE} FROM campaigns)"  # noqa: S608


def absolute_path(path: str | Path) -> str:
    """Return the path by which a file is known wherever a command is run."""
    return str(Path(path).resolve())


def _from_here(path: str) -> str:
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
