"""Reads the tables in SQLite; `store` writes them.

Strategy: one statement reads many rows, see `rows`.  A message is looked for by its key and, if
anything was ever pruned, by what replaces that key as well.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from ..columns import NOTIFICATION, OPT_OUT, TOLD, Columns, told_state
from ..counts import PROVEN, summary_of
from ..dialect import Dialect
from ..list_statements import ListStatements
from ..model import (
    Delivery,
    MessageRecord,
    MessageState,
    StoredNotification,
    Summary,
    ToldState,
)
from ..opt_outs import OptOut
from ..pruning import by_key, pruned_name
from ..reader import (
    SPAN,
    Page,
    page_of,
    span_after,
)
from ..report_values import Doubt
from ..shared_reader import PAGE, SharedReader
from .rows import StatementRunner

MESSAGE: Final = Columns(MessageRecord, without=("session", "attempt"))
# The messages that may have an unknown submission, see `settlement.match_doubts`; there is an
# index of them, `candidates`.
CANDIDATE: Final = "(state IN ('sending', 'in_doubt') OR doubted)"

DIALECT: Final = Dialect(
    schema="",
    value="?",
    bytes_="x'",
    carrier="json_extract(events.raw, '$.SPID', '$.BODY.SPID', '$.STATUS', '$.BODY.STATUS')",
    integer="CAST({} AS INTEGER)",
)
_BY_KEYS: Final = (
    f"SELECT {MESSAGE.of('messages')} FROM (VALUES {{}}) JOIN messages ON key = column1"
)
_OF_MESSAGES: Final = (
    f"FROM (VALUES {{}}) JOIN messages ON messages.id = column1 {DIALECT.their_notifications}"
)
_NOTIFICATIONS: Final = f"SELECT messages.id, {NOTIFICATION.of('events')} {_OF_MESSAGES}"
_TOLD: Final = f"SELECT messages.id, {TOLD} {_OF_MESSAGES}"
_TIMES: Final = (
    f"SELECT messages.id, events.state, min(happened) {_OF_MESSAGES}"
    " WHERE events.state IS NOT NULL GROUP BY messages.id, events.state"
)
# As `Dialect.unplaced`, but from the submissions without a message, which are few, and have an
# index.
COUNT_UNPLACED: Final = (
    "SELECT (SELECT count(*) FROM events WHERE tracking_id IS NULL AND state IS NOT NULL)"
    " + (SELECT count(*) FROM submissions CROSS JOIN events USING (tracking_id)"
    "  WHERE message IS NULL AND state IS NOT NULL)"
)


class SQLiteReader(StatementRunner, SharedReader):
    """The queries of a ledger over `connection`; see `LedgerReader`."""

    _dialect = DIALECT
    _lists = ListStatements(DIALECT, "messages")
    _messages = "messages"
    _columns = MESSAGE
    _page = 100  # they take long to make

    _is_pruned: bool | None = None  # read once in a transaction that writes

    def is_pruned(self) -> bool:
        """Return whether anything was ever pruned."""
        if self._is_pruned is None:
            self._is_pruned = self._execute("SELECT 1 FROM pruned").fetchone() is not None
        return self._is_pruned

    def messages(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys."""
        names = list(map(pruned_name, keys)) if self.is_pruned() else []
        found = self._over(_BY_KEYS, [(key,) for key in (*keys, *names)])
        return by_key(keys, map(MESSAGE.value, found))

    def opt_outs(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return the opt-out entries of these numbers, as far as there are any."""
        found = self._over(
            f"SELECT {OPT_OUT.listed} FROM (VALUES {{}}) JOIN opt_outs ON number = column1",
            [(number,) for number in numbers],
        )
        return {each.number: each for each in map(OPT_OUT.value, found)}

    def notifications_of(self, ids: Collection[int]) -> dict[int, list[StoredNotification]]:
        """Return the notifications of messages, by the messages' ids."""
        found: dict[int, list[StoredNotification]] = {}
        for id_, *columns in self._over(_NOTIFICATIONS, [(id_,) for id_ in ids]):
            found.setdefault(id_, []).append(NOTIFICATION.value(columns))
        return found

    def told_of(self, ids: Collection[int]) -> dict[int, list[ToldState]]:
        """Return what notifications tell of how far messages got, by the messages' ids."""
        found: dict[int, list[ToldState]] = {}
        for id_, *columns in self._over(_TOLD, [(id_,) for id_ in ids]):
            found.setdefault(id_, []).append(told_state(*columns))
        return found

    def _times_of(self, ids: Collection[int]) -> Sequence[Sequence[Any]]:
        return self._over(_TIMES, [(id_,) for id_ in ids])

    def delivery(self, *, plain_id: str | None, key: str | None) -> Delivery | None:
        """Return what is known of one message."""
        name = key or plain_id or ""
        if key is not None:
            where = "key IN (?, ?)"
        else:
            where = "id IN (SELECT message FROM submissions WHERE tracking_id IN (?, ?))"
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM messages WHERE {where}",
            (name, pruned_name(name) if self.is_pruned() else name),
        ).fetchall()
        return next(iter(self._deliveries(rows)), None)

    def _where(
        self, state: MessageState | None, after: int
    ) -> tuple[str, int | None, tuple[str, ...]]:
        if state is None:
            return "FROM messages WHERE id > ?", None, ()
        own = (state.value,)
        if state in {MessageState.SENDING, MessageState.IN_DOUBT} and self._held(state) <= SPAN:
            # Without the hint, SQLite would read all messages in the order of their ids.
            source = f"FROM messages INDEXED BY candidates WHERE {CANDIDATE}"
            return f"{source} AND id > ? AND state = ?", None, own
        until, last = span_after(after, SPAN, self.last_id())
        source = f"FROM messages WHERE id > ? AND state = ? AND id <= {until}"
        return source, last, own

    def _held(self, state: MessageState) -> int:
        found = self._one("SELECT sum(messages) FROM counts WHERE state = ?", state.value)
        return int(found[0] or 0)

    def doubts_before(self, before: float) -> int:
        """Count the messages in doubt that were begun before then."""
        return self._count(
            f"FROM messages WHERE {CANDIDATE} AND state = 'in_doubt' AND started_at < ?", before
        )

    def doubts(self, after: int) -> Page[Doubt]:
        """Return a page of messages in doubt; nobody is sending them."""
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM messages"
            f" WHERE id > ? AND state = 'in_doubt' AND {CANDIDATE} ORDER BY id LIMIT {PAGE}",
            (after,),
        ).fetchall()
        found = [Doubt(record=MESSAGE.value(row), is_under_way=False) for row in rows]
        return page_of(found, rows, PAGE)

    def summary(self) -> Summary:
        """Return the summary: messages have counts, and the rest is quickly counted."""
        return summary_of(
            self._execute("SELECT * FROM counts").fetchall(),
            self._execute(PROVEN.format(attempts="attempts", messages="messages")).fetchall(),
            unplaced=self._one(COUNT_UNPLACED)[0],
            opted_out=self._count("FROM opt_outs WHERE out"),
        )
