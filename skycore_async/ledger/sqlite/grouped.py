"""A group's steps, those of a kind in one statement.

Strategy: nearly every step begins a message that is new, or ends one for which
nothing has come.  Those go together, and what their statement leaves is taken one
by one, as `SQLiteStore` takes it, which alone knows the other cases.

It is not so much the statement that costs as the way into it: around each, Python
gives its lock up, and has to get it back from an event loop that is busy.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ..group_commit import PendingCommand
from ..model import SendIntent
from .reading import STRAY, submission_columns
from .store import SQLiteStore

_OLDEST: Final = (3, 33)  # of SQLite, that has UPDATE FROM and takes so many values
_MOST: Final = 256  # rows in a statement; SQLite keeps each size of it

_BEGIN: Final = (
    "INSERT INTO messages (key, content, recipient, sender, state, began)"
    " SELECT column1, column2, column3, column4, 'sending', column5 FROM (VALUES {})"
    " WHERE NOT EXISTS (SELECT 1 FROM opt_outs WHERE number = column3 AND out)"
    " ON CONFLICT (key) DO NOTHING"
)
_FINISH: Final = (
    "UPDATE messages SET state = column2, tracking_id = column3, code = column4,"
    " info = column5, http_status = column6, raw = column7, ended = column8"
    " FROM (VALUES {}) WHERE key = column1 AND state = 'sending' AND doubted IS NOT TRUE"
    " AND column4 IS NOT 'E114'"  # by which a number opts out
    f" AND NOT EXISTS (SELECT 1 FROM events WHERE {STRAY} AND events.tracking_id = column3)"
    f" AND NOT EXISTS (SELECT 1 FROM events WHERE {STRAY} AND events.recipient ="
    " messages.recipient)"
)


class GroupedStore(SQLiteStore):
    """The steps of a ledger over `connection`, as many at a time as wait; see `SQLiteStore`."""

    def take(self, group: Sequence[PendingCommand]) -> None:
        """Take each step of a group, and keep what comes of it."""
        for waiting in group:
            waiting.result = waiting.error = None  # of an attempt before
        one_by_one = group if sqlite3.sqlite_version_info < _OLDEST else self._left_of(group)
        for waiting in one_by_one:
            waiting.take(self)

    def _left_of(self, group: Sequence[PendingCommand]) -> list[PendingCommand]:
        """Take what goes together, and return what does not."""
        ends: dict[str, PendingCommand] = {}
        begins: dict[str, PendingCommand] = {}
        others: list[PendingCommand] = []
        for waiting in group:
            step = waiting.step
            if step.name == "finish" and (key := step.arguments[0]) not in ends:
                ends[key] = waiting
            elif step.name == "begin" and (key := step.arguments[0].key) not in begins:
                begins[key] = waiting
            else:
                others.append(waiting)
        left: list[PendingCommand] = []
        for some in _in_parts(list(ends.values())):
            left += self._not_ended(some)
        for some in _in_parts(list(begins.values())):
            left += self._not_begun(some)
        return left + others

    def _not_begun(self, together: Sequence[PendingCommand]) -> list[PendingCommand]:
        """Write the intents that are new and may be begun, and return the others."""
        (last,) = self._one("SELECT coalesce(max(id), 0) FROM messages")
        rows = []
        for waiting in together:
            intent: SendIntent = waiting.step.arguments[0]
            rows.append((intent.key, intent.content, intent.to, intent.from_, intent.started_at))
        if self._changed(_BEGIN, rows) == len(rows):
            return []
        begun = {key for (key,) in self._execute("SELECT key FROM messages WHERE id > ?", (last,))}
        return [each for each in together if each.step.arguments[0].key not in begun]

    def _not_ended(self, together: Sequence[PendingCommand]) -> Sequence[PendingCommand]:
        """Write the outcomes for which nothing has come; give all where there are others."""
        ended = self._clock()
        rows = []
        for waiting in together:
            key, submission = waiting.step.arguments
            rows.append((key, *submission_columns(submission), ended))
            self.touched.add(key)
        # To take one again that is written changes nothing.
        return () if self._changed(_FINISH, rows) == len(rows) else together

    def _changed(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Run a statement over rows, and tell how many it changed."""
        row = f"({', '.join('?' * len(rows[0]))})"
        self._execute(
            statement.format(", ".join([row] * len(rows))),
            [value for columns in rows for value in columns],
        )
        (count,) = self._one("SELECT changes()")
        return int(count)


def _in_parts(steps: Sequence[PendingCommand]) -> Iterator[Sequence[PendingCommand]]:
    """Return steps in parts of few sizes, powers of two, so that few statements are made."""
    while steps:
        size = min(_MOST, 1 << len(steps).bit_length() - 1)
        yield steps[:size]
        steps = steps[size:]
