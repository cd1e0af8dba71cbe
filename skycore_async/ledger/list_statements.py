"""The statements that list or count many messages, the same in both databases.

Rule: of a message's final notifications the deciding one comes first, as in `settlement.in_order`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

from .attempts import TURNS
from .dialect import Dialect
from .list_rows import BegunCount, EndedRow, MessageLine
from .model import MessageState
from .reader import LONG_PAGE, Page, page_of

_ENDED: Final = f"('{MessageState.DELIVERED}', '{MessageState.FAILED}')"
_REFUSED: Final = f"('{MessageState.REJECTED}', '{MessageState.NOT_SENT}')"
_LINE: Final = (
    "id, key, tracking_id, recipient, sender, state, reason, settled_by, started_at, code, info,"
    " history_id"
)


class ListStatements:
    """Statements of a `dialect` over `messages`: their table, or a query in its place."""

    def __init__(self, dialect: Dialect, messages: str) -> None:
        value = dialect.value
        events, submissions = f"{dialect.schema}events", f"{dialect.schema}submissions"
        within = f"messages.id > {value} AND messages.id <= {value}"
        self.line = (
            f"SELECT {_LINE}, (SELECT count(*) FROM {submissions} AS own"
            f"  JOIN {events} ON events.tracking_id = own.tracking_id"
            "  WHERE own.tracking_id = messages.plain_id AND own.message = messages.id)"
        )
        self.begun = (
            f"SELECT {dialect.integer.format(f'started_at / {value}')}, state, settled_by,"
            f" CASE WHEN state IN {_REFUSED} THEN code END, count(*),"
            " min(started_at), max(started_at), campaign_ref, tags, coalesce(sum(segments), 0),"
            " count(*) - count(segments)"
            f" FROM {messages} WHERE {within} GROUP BY 1, 2, 3, 4, campaign_ref, tags"
        )
        of_ended = (
            f"{events} ON events.tracking_id = messages.plain_id{{}}"
            f" WHERE {within} AND messages.state IN {_ENDED}"
        )
        self.ended = (
            "SELECT messages.id, messages.state, messages.reason,"
            " CASE WHEN happened = at THEN at - started_at END,"
            f" CASE WHEN events.raw IS NOT NULL THEN {dialect.carrier} END"
            f" FROM {messages} LEFT JOIN {of_ended.format(f' AND events.state IN {_ENDED}')}"
            " ORDER BY messages.id, at IS NULL, at, events.state = 'failed', identity"
        )
        self.naming = (
            f"SELECT DISTINCT messages.id FROM {messages} JOIN {of_ended.format('')}"
            f" AND lower(events.raw) LIKE {value}"
        )
        self.last_id = f"SELECT coalesce(max(id), 0) FROM {dialect.schema}messages"
        self.last_again = (
            f"SELECT coalesce(max(turn), 0) FROM {dialect.schema}messages WHERE turn IS NOT NULL"
        )


class ListReader(ABC):
    """The part of a `LedgerReader` that runs the statements in `_lists`, in either database."""

    _execute: Any
    _lists: ListStatements

    @abstractmethod
    def _where(
        self, state: MessageState | None, after: int
    ) -> tuple[str, int | None, tuple[str, ...]]:
        """Return a page's FROM and WHERE, the id up to which it looks, and values after `after`.

        The id is None if there are no rows beyond it, or only a full page tells.
        """

    def lines(self, state: MessageState, after: int) -> Page[MessageLine]:
        """Return a page of messages in that state beyond the id `after`, in the order of ids."""
        where, until, own = self._where(state, after)
        rows = self._execute(
            f"{self._lists.line} {where} ORDER BY id LIMIT {LONG_PAGE}", (after, *own)
        ).fetchall()
        found = [MessageLine._make(columns) for _, *columns in rows]
        return page_of(found, rows, LONG_PAGE, until=until)

    def begun_counts(self, step: int, after: int, until: int) -> list[BegunCount]:
        """Count the messages beyond the id `after` by slots of `step` seconds."""
        rows = self._execute(self._lists.begun, (step, after, until))
        return list(map(BegunCount._make, rows.fetchall()))

    def ended(self, after: int, until: int) -> list[EndedRow]:
        """Return the final notifications of ended messages there, each deciding one first."""
        rows: list[EndedRow] = self._execute(self._lists.ended, (after, until)).fetchall()
        return rows

    def naming(self, element: str, after: int, until: int) -> set[int]:
        """Return the ids of ended messages there with a notification that has this element."""
        rows = self._execute(self._lists.naming, (after, until, f'%"{element}"%')).fetchall()
        return {id_ for (id_,) in rows}

    def last_id(self) -> int:
        """Return the greatest id of a message, 0 if there is none."""
        return int(self._execute(self._lists.last_id).fetchone()[0])

    def last_begun(self) -> int:
        """Return the turn of the attempt that was begun last; 0 without messages."""
        again = int(self._execute(self._lists.last_again).fetchone()[0])
        return max(TURNS * self.last_id(), again)
