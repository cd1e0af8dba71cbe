"""The list of opt-outs in SQLite.

Strategy: a number is checked against its own entry alone, unless some entry names a number as it
is dialled within its country.  That is rare, and would make each message check two more spellings.

Rule: no entry is ever removed, and only this connection writes: so an entry that was found once is
there for good.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ...protocol.numbers import may_be_within_country
from ..columns import OPT_OUT
from ..opt_outs import OptOut
from . import statements
from .put_back import LastTurn
from .reader import SQLiteReader
from .rows import Connection


class SQLiteOptOuts(SQLiteReader):
    """Write who has opted out; see `LedgerStore`."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._has_names_within_country: bool | None = None  # None for not known
        self.last_turn = LastTurn(self._execute)

    def has_names_within_country(self) -> bool:
        """Return whether any entry may be of a number without its country code."""
        if self._has_names_within_country is None:
            found = self._execute(statements.WITHIN_COUNTRY).fetchone()
            self._has_names_within_country = found is not None
        return self._has_names_within_country

    def insert_opt_outs(self, opt_outs: Sequence[OptOut]) -> None:
        """Insert the entries of numbers that have none."""
        known = self.opt_outs([each.number for each in opt_outs])
        self._write_opt_outs("IGNORE", [each for each in opt_outs if each.number not in known])

    def opt_outs_to_change(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return the entries of these numbers."""
        return self.opt_outs(numbers)

    def update_opt_outs(self, opt_outs: Sequence[OptOut]) -> None:
        """Replace the entries of these numbers."""
        self._write_opt_outs("REPLACE", opt_outs)

    def _write_opt_outs(self, otherwise: str, opt_outs: Sequence[OptOut]) -> None:
        if any(may_be_within_country(each.number) for each in opt_outs):
            self._has_names_within_country = True
        self._over(
            f"INSERT OR {otherwise} INTO opt_outs ({OPT_OUT.listed}) {statements.ROWS}",
            list(map(OPT_OUT.row, opt_outs)),
        )
        for last in opt_outs[-1:]:
            self.last_turn.opted = last.number
