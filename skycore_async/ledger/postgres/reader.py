"""Reads the tables in PostgreSQL; `store` writes them.

Rule: a query about many messages is one statement, however many they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache, partial
from typing import Any, Final, LiteralString, TypeVar

from ...postgres.schema import Connection
from ..columns import NOTIFICATION, OPT_OUT, Columns
from ..counts import KIND, PROVEN, summary_of
from ..dialect import Dialect
from ..list_statements import ListStatements
from ..model import (
    Delivery,
    MessageRecord,
    MessageState,
    StoredNotification,
    Summary,
)
from ..opt_outs import OptOut
from ..pruning import by_key
from ..reader import (
    SPAN,
    Page,
    page_of,
    span_after,
)
from ..report_values import Doubt
from ..shared_reader import PAGE, SharedReader

T = TypeVar("T")

MESSAGE: Final = Columns(MessageRecord)

# The messages in their true states: what an expired session was sending is in doubt, even if
# nobody has written so yet.
SEEN_MESSAGES: Final = f"""(
SELECT {", ".join(name for name in MESSAGE.names if name != "state")},
    CASE WHEN state = 'sending' AND NOT EXISTS (
        SELECT 1 FROM skycore.sessions WHERE sessions.id = session AND alive_until > now())
    THEN 'in_doubt' ELSE state END AS state
FROM skycore.messages) AS messages"""

# The process that sends a message in doubt may be alive, and learn the outcome.
MAY_STILL_END: Final = (
    "ended_at IS NULL AND EXISTS (SELECT FROM skycore.sessions"
    "  WHERE sessions.id = session AND alive_until > clock_timestamp())"
)

DIALECT: Final = Dialect(
    schema="skycore.",
    value="%s",
    bytes_="bytea '\\x",
    carrier="json_build_array(events.raw::json -> 'SPID', events.raw::json #> '{BODY,SPID}',"
    " events.raw::json -> 'STATUS', events.raw::json #> '{BODY,STATUS}')::text",
    integer="floor({})::bigint",
)
OF_MESSAGES: Final = (
    f"FROM skycore.messages {DIALECT.their_notifications} WHERE messages.id = ANY(%s)"
)
_NOTIFICATIONS: Final = f"SELECT messages.id, {NOTIFICATION.of('events')} {OF_MESSAGES}"
# A sum, so that the order of the rows does not matter.
_DIGEST: Final = """
SELECT coalesce(sum(
    hashtextextended(concat_ws(' ', number, out, at, stamped), 0)), 0)::text
FROM skycore.opt_outs
"""
_TIMES: Final = f"""
SELECT messages.id, events.state, min(happened) {OF_MESSAGES} AND events.state IS NOT NULL
GROUP BY messages.id, events.state
"""


def named(column: LiteralString) -> LiteralString:
    """Return the condition that a column has one of `names`, or what replaces it once pruned.

    The latter is looked for only if something was ever pruned.
    """
    return (
        f"{column} = ANY(CASE WHEN EXISTS (SELECT FROM skycore.pruned)"
        " THEN %(names)s::text[] || ARRAY(SELECT skycore.pruned_name(given.name)"
        "  FROM unnest(%(names)s::text[]) AS given (name))"
        " ELSE %(names)s::text[] END)"
    )


_lists_over: Final = cache(partial(ListStatements, DIALECT))


class PostgresReader(SharedReader):
    """The queries of a ledger over `connection`; see `LedgerReader`.

    `messages` is what messages are read from: their table, or `SEEN_MESSAGES`.
    """

    _dialect = DIALECT
    _columns = MESSAGE

    def __init__(self, connection: Connection, *, messages: str = "skycore.messages") -> None:
        self._execute: Any = connection.execute
        self._messages = messages
        self._lists = _lists_over(messages)

    def messages(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys."""
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM {self._messages} WHERE {named('key')}",
            {"names": list(keys)},
        )
        return by_key(keys, map(MESSAGE.value, rows))

    def notifications_of(self, ids: Collection[int]) -> dict[int, list[StoredNotification]]:
        """Return the notifications of messages, by the messages' ids."""
        found: dict[int, list[StoredNotification]] = {}
        for id_, *columns in self._execute(_NOTIFICATIONS, (list(ids),)):
            found.setdefault(id_, []).append(NOTIFICATION.value(columns))
        return found

    def _times_of(self, ids: Collection[int]) -> Sequence[Sequence[Any]]:
        times: Sequence[Sequence[Any]] = self._execute(_TIMES, (list(ids),)).fetchall()
        return times

    def _each(self, make: Callable[[Any], T], rows: Sequence[Any]) -> list[T]:
        return list(map(make, rows))

    def opt_outs_digest(self) -> str:
        """Return a text that is another one if an opt-out or opt-in has changed."""
        (digest,) = self._execute(_DIGEST).fetchone()
        return str(digest)

    def delivery(self, *, plain_id: str | None, key: str | None) -> Delivery | None:
        """Return what is known of one message."""
        if key is not None:
            where = named("key")
        else:
            where = f"id IN (SELECT message FROM skycore.submissions WHERE {named('tracking_id')})"
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM {self._messages} WHERE {where}",
            {"names": [key or plain_id]},
        ).fetchall()
        return next(iter(self._deliveries(rows)), None)

    def _where(
        self, state: MessageState | None, after: int
    ) -> tuple[str, int | None, tuple[str, ...]]:
        source = f"FROM {self._messages} WHERE id > %s"
        if state is None:
            return source, None, ()
        until, last = span_after(after, SPAN, self.last_id())
        return f"{source} AND state = %s AND id <= {until}", last, (state.value,)

    def opt_outs(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return the opt-out entries of these numbers, as far as there are any."""
        rows = self._execute(
            f"SELECT {OPT_OUT.listed} FROM skycore.opt_outs WHERE number = ANY(%s)",
            (list(numbers),),
        )
        return {each.number: each for each in map(OPT_OUT.value, rows)}

    def doubts_before(self, before: float) -> int:
        """Count the messages in doubt that were begun before then."""
        return self._count(
            f"FROM {self._messages} WHERE state = 'in_doubt' AND started_at < %s", before
        )

    def doubts(self, after: int) -> Page[Doubt]:
        """Return a page of messages in doubt, with whether their senders may still be alive."""
        rows = self._execute(
            f"SELECT {MESSAGE.listed}, {MAY_STILL_END}"
            f" FROM {self._messages} WHERE id > %s AND state = 'in_doubt'"
            f" ORDER BY id LIMIT {PAGE}",
            (after,),
        ).fetchall()
        found = [
            Doubt(record=MESSAGE.value(row), is_under_way=is_under_way)
            for *row, is_under_way in rows
        ]
        return page_of(found, rows, PAGE)

    def summary(self) -> Summary:
        """Count what there is."""
        # No counts are kept: all writers would wait for them, one after the other.
        rows = self._execute(f"SELECT {KIND}, count(*) FROM {self._messages} GROUP BY 1, 2, 3, 4")
        proven = PROVEN.format(attempts="skycore.attempts", messages="skycore.messages")
        return summary_of(
            rows.fetchall(),
            self._execute(proven).fetchall(),
            unplaced=self._count(DIALECT.unplaced),
            opted_out=self._count("FROM skycore.opt_outs WHERE out"),
        )
