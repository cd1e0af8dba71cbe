"""Deliveries as rows of the tables in SQLite, for tests of the code that reads the tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import attrs

from skycore_async.ledger.columns import NOTIFICATION, tags_as_text
from skycore_async.ledger.model import Delivery, MessageState
from skycore_async.ledger.settlement import stored
from skycore_async.ledger.sqlite.schema import migrate
from skycore_async.ledger.sqlite.store import SQLiteStore
from skycore_async.ledger.texts import storable
from tests.support.ledger_cases import NOON, TO

_MESSAGE = (
    "INSERT INTO messages (id, key, content, recipient, sender, state, started_at, tracking_id,"
    " plain_id, code, info, reason, settled_by, campaign_ref, segments, tags)"
    " VALUES (?, ?, x'02', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_MARKS = ", ".join("?" * len(NOTIFICATION.names))


def insert(connection: Any, deliveries: Iterable[Delivery]) -> None:
    """Insert messages in this order, with their notifications.

    A key that exists already, or that a message in doubt will have, gets a number.  Each message
    has a tracking id of its own, which all its notifications have.
    """
    given = list(deliveries)
    keys = {each.key for each in given if each.state is MessageState.IN_DOUBT}
    for id_, each in enumerate(given, 1):
        is_in_doubt = each.state is MessageState.IN_DOUBT
        key = each.key if is_in_doubt or each.key not in keys else f"{each.key} {id_}"
        keys.add(key)
        plain_id = f"T{id_}"
        began = each.began.timestamp()
        texts = [storable(text) for text in (plain_id, plain_id, each.code, each.info)]
        values = [id_, storable(key), each.to, each.from_, each.state.value, began, *texts]
        ended = [each.reason and each.reason.value, each.settled_by]
        shown = [storable(each.campaign_ref), each.segments, tags_as_text(each.tags)]
        connection.execute(_MESSAGE, [*values, *ended, *shown])
        connection.execute("INSERT INTO submissions VALUES (?, ?, ?)", (plain_id, id_, each.to))
        for place, event in enumerate(each.events):
            kept = stored(event, received=began + 9999)
            kept = attrs.evolve(kept, tracking_id=plain_id, identity=b"%d %d" % (id_, place))
            connection.execute(
                f"INSERT INTO events ({NOTIFICATION.listed}) VALUES ({_MARKS})",  # noqa: S608
                NOTIFICATION.row(kept),
            )


@contextmanager
def store_of(deliveries: Iterable[Delivery]) -> Iterator[SQLiteStore]:
    """Open a store that has these messages."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        insert(connection, deliveries)
        yield SQLiteStore(connection)


def delivered_row(*, key: str) -> Delivery:
    """Make a message that was delivered, without what came for it."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("tracking_id", "reason", "settled_by", "code", "info")
    )
    began = datetime.fromtimestamp(NOON, UTC)
    return Delivery(
        key=key, to=TO, from_=None, state=MessageState.DELIVERED, events=(), began=began, **nothing
    )
