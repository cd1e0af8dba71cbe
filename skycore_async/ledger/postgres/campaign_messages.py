"""What campaigns ask and write of messages, by their keys, in transactions of their own.

Strategy: a campaign has many messages, whose rows are asked for and changed in one statement
each, and not read one by one.  So a statement repeats a rule, which stands above it, and
`tests/postgres/test_parity.py` holds it to what that says of the same row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from ...postgres.schema import Connection
from ..model import MessageState
from .reader import named

_STATES: Final = "SELECT key, state, settled_by FROM skycore.messages WHERE key = ANY(%s)"
# As `rules.look_up` says of other content: what may have gone out keeps what it had.
_GONE_OUT: Final = f"""
SELECT min(key) FROM skycore.messages
WHERE {named("key")} AND (doubted OR state NOT IN ('not_sent', 'rejected'))
"""
# What was refused counts as not sent from when it has other content.
_FREE: Final = """
UPDATE skycore.messages SET state = 'not_sent' WHERE id IN (
    SELECT id FROM skycore.messages WHERE key = ANY(%s) AND state = 'rejected'
    ORDER BY key FOR UPDATE)
"""
# As `INTERRUPT` of the statements, which finds by sessions what nobody alive is sending.
_INTERRUPT: Final = """
UPDATE skycore.messages
SET state = 'in_doubt', interrupted_at = extract(epoch FROM clock_timestamp())
WHERE id IN (
    SELECT id FROM skycore.messages WHERE key = ANY(%s) AND state = 'sending'
    ORDER BY key FOR UPDATE)
"""
# What `rules.begin` would begin, or finds under way.  A message that was pruned has another key,
# before its chunk's is changed as well.
_TO_SEND: Final = """
SELECT count(*) FROM unnest(%s::text[]) AS given (key) LEFT JOIN skycore.messages USING (key)
WHERE given.key <> ALL(%s) AND (coalesce(state, 'not_sent') IN ('not_sent', 'sending')
    OR (state = 'in_doubt' AND settled_by IS NOT NULL))
AND NOT (EXISTS (SELECT FROM skycore.pruned) AND EXISTS (
    SELECT FROM skycore.messages AS pruned
    WHERE pruned.key = skycore.pruned_name(given.key) AND pruned.state <> 'not_sent'))
"""


def states_of(
    connection: Connection, keys: Collection[str]
) -> dict[str, tuple[MessageState, str | None]]:
    """Return the states of messages by their keys, each with what settled it."""
    rows = connection.execute(_STATES, (list(keys),))
    return {key: (MessageState(state), settled_by) for key, state, settled_by in rows}


def first_gone_out(connection: Connection, keys: Collection[str]) -> str | None:
    """Return the first of these keys whose message may have gone out; None where none may."""
    row = connection.execute(_GONE_OUT, {"names": list(keys)}).fetchone()
    return None if row is None or row[0] is None else str(row[0])


def take_back_refusals(connection: Connection, keys: Collection[str]) -> None:
    """Have what was refused of these sent again, as its content is another now."""
    connection.execute(_FREE, (list(keys),))


def interrupt(connection: Connection, keys: Collection[str]) -> None:
    """Bring what is under way of these into doubt, as nobody sends it any more."""
    connection.execute(_INTERRUPT, (list(keys),))


def count_to_send(connection: Connection, keys: Iterable[str], *, left_out: Iterable[str]) -> int:
    """Return how many of these are still to be sent, but for those that were `left_out`."""
    row = connection.execute(_TO_SEND, (list(keys), list(left_out))).fetchone()
    return int((row or (0,))[0])
