"""What campaigns read and write of messages, in transactions of their own.

Strategy: a campaign has many messages, so one statement reads or changes all their rows.  Such a
statement repeats a rule, which is named above it, and `tests/postgres/test_parity.py` holds the
two to each other.  All statements of campaigns about messages are here, by keys, or by the chunks
that have them.  Those in `campaigns/` are about campaigns and chunks alone.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from typing import Final

import attrs

from ...postgres.schema import Connection
from ..model import MessageState
from ..pruning import pruned_name
from .pruning import NO_ROW
from .reader import MAY_STILL_END, SEEN_MESSAGES, named

# As `rules.look_up`: a message that may have gone out keeps its content.
_MAY_HAVE_GONE_OUT: Final = "(doubted OR state NOT IN ('not_sent', 'rejected'))"
# What `rules.begin` would begin, or finds under way.  `resend` is when the attempt in doubt
# started that the campaign may send once more, NULL where it may not.
_IS_TO_RESEND: Final = "(messages.state = 'in_doubt' AND started_at IS NOT DISTINCT FROM resend)"
_IS_TO_SEND: Final = f"(messages.state IN ('not_sent', 'sending') OR {_IS_TO_RESEND})"
_OF_NAME: Final = """
SELECT unnest(keys) FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
WHERE campaigns.name = %(name)s
"""

# By their keys.

_STATES: Final = (
    f"SELECT key, state, settled_by, recipient FROM skycore.messages WHERE {named('key')}"
)
_GONE_OUT: Final = (
    f"SELECT key FROM skycore.messages WHERE {named('key')} AND {_MAY_HAVE_GONE_OUT}"
)
# A refused message with new content counts as not sent.
_FREE: Final = """
UPDATE skycore.messages SET state = 'not_sent' WHERE id IN (
    SELECT id FROM skycore.messages WHERE key = ANY(%s) AND state = 'rejected'
    ORDER BY key FOR UPDATE)
"""
# As `statements.INTERRUPT`, which finds by sessions what no live process is sending.
_INTERRUPT: Final = """
UPDATE skycore.messages
SET state = 'in_doubt', interrupted_at = extract(epoch FROM clock_timestamp())
WHERE id IN (
    SELECT id FROM skycore.messages WHERE key = ANY(%s) AND state = 'sending'
    ORDER BY key FOR UPDATE)
"""
# A pruned message has another key already, while its chunk may still have the old one.
_COUNT_TO_SEND: Final = f"""
SELECT count(*) FROM unnest(%s::text[], %s::float8[]) AS given (key, resend)
LEFT JOIN skycore.messages USING (key)
WHERE given.key <> ALL(%s) AND (state IS NULL OR {_IS_TO_SEND})
AND NOT (EXISTS (SELECT FROM skycore.pruned) AND EXISTS (
    SELECT FROM skycore.messages AS pruned
    WHERE pruned.key = skycore.pruned_name(given.key) AND pruned.state <> 'not_sent'))
"""

# The chunks of loaded keys of which no message was ever begun.
_CHUNKS_WITHOUT: Final = """
SELECT DISTINCT chunk FROM skycore_loaded WHERE key = ANY(%s) AND chunk = ANY(%s)
AND NOT EXISTS (SELECT FROM skycore.messages WHERE messages.key = skycore_loaded.key)
"""

# By the chunks that have them.

_KEYS: Final = "skycore.chunks, unnest(keys, resends) AS row (key, resend)"
_COUNT_STATES: Final = f"""
SELECT campaign, state, count(*),
    count(*) FILTER (WHERE {_IS_TO_RESEND})
FROM (
    SELECT campaign, key, resend FROM {_KEYS}
    -- A pruned message has another key already, while its chunk may still have the old one.
    UNION ALL SELECT campaign, skycore.pruned_name(key), NULL FROM {_KEYS}
    WHERE EXISTS (SELECT FROM skycore.pruned)) AS given
JOIN {SEEN_MESSAGES} USING (key) GROUP BY campaign, state
"""
_DOUBTS: Final = f"FROM skycore.messages WHERE state = 'in_doubt' AND key IN ({_OF_NAME})"
_ATTEMPTS_IN_DOUBT: Final = f"SELECT id, started_at {_DOUBTS}"
_COUNT_DOUBTS: Final = f"SELECT count(*) {_DOUBTS}"
_NUMBERS_TO_SEND: Final = f"""
SELECT row.key, message::json ->> 'to'
FROM skycore.chunks, unnest(keys, messages, resends) AS row (key, message, resend)
WHERE campaign = %s AND number <= %s AND chunks.state <> 'done' AND message <> '{NO_ROW}'
AND NOT EXISTS (SELECT FROM skycore.messages WHERE messages.key = row.key AND NOT {_IS_TO_SEND})
"""
# Pruned messages have other keys.
_FIRST_KNOWN: Final = f"""
SELECT min(key) FROM (
    SELECT key, key AS form FROM skycore_asked
    UNION ALL SELECT key, skycore.pruned_name(key) FROM skycore_asked
    WHERE EXISTS (SELECT FROM skycore.pruned)) AS asked
WHERE form IN ({_OF_NAME})
OR EXISTS (SELECT FROM skycore.messages WHERE messages.key = form AND {_MAY_HAVE_GONE_OUT})
"""
# Workers go on sending meanwhile; only taking or finishing a chunk waits.
_LOCK_CHUNKS_WITH: Final = """
SELECT chunks.id, keys, resends
FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
WHERE name = %s AND keys && ARRAY(SELECT key FROM skycore.messages WHERE id = ANY(%s))
ORDER BY chunks.id FOR NO KEY UPDATE OF chunks
"""
_STILL_IN_DOUBT: Final = f"""
SELECT key, started_at FROM skycore.messages
JOIN unnest(%s::bigint[], %s::float8[]) AS attempt (id, started_at) USING (id, started_at)
WHERE state = 'in_doubt' AND NOT ({MAY_STILL_END})
"""
_COUNT_TO_RESEND: Final = f"""
SELECT count(*) FILTER (WHERE {_IS_TO_RESEND}), count(*) FILTER (WHERE NOT {_IS_TO_RESEND})
FROM {_KEYS} JOIN skycore.messages USING (key)
WHERE campaign = %s AND messages.state = 'in_doubt'
"""


def states_of(
    connection: Connection, keys: Collection[str]
) -> dict[str, tuple[MessageState, str | None, str]]:
    """Return the state of messages by their keys, with what settled each, and its number."""
    rows = connection.execute(_STATES, {"names": list(keys)})
    names = {pruned_name(key): key for key in keys}  # of those that were pruned
    return {
        str(names.get(key, key)): (MessageState(state), told, to) for key, state, told, to in rows
    }


def gone_out(connection: Connection, keys: Collection[str]) -> set[str]:
    """Return those of these keys whose message may have gone out."""
    found = {key for (key,) in connection.execute(_GONE_OUT, {"names": list(keys)})}
    return {key for key in keys if key in found or pruned_name(key) in found}


def take_back_refusals(connection: Connection, keys: Collection[str]) -> None:
    """Let refused messages with these keys be sent, as their content has changed."""
    connection.execute(_FREE, (list(keys),))


def interrupt(connection: Connection, keys: Collection[str]) -> None:
    """Put in doubt the messages under way with these keys, as nobody sends them any more."""
    connection.execute(_INTERRUPT, (list(keys),))


def count_to_send(
    connection: Connection,
    keys: Sequence[str],
    *,
    left_out: Iterable[str],
    doubts_to_resend: Mapping[str, float],
) -> int:
    """Return how many of these are still to be sent, except those that were `left_out`.

    `doubts_to_resend` is as in `Chunk`.
    """
    given = (list(keys), [doubts_to_resend.get(key) for key in keys], list(left_out))
    row = connection.execute(_COUNT_TO_SEND, given).fetchone()
    return int((row or (0,))[0])


def chunks_without(
    connection: Connection, keys: Collection[str], chunks: Collection[int]
) -> set[int]:
    """Return the chunks, of these, with one of these keys that has no message in the ledger.

    The temporary table `skycore_loaded` has the chunk of each key that was loaded.
    """
    rows = connection.execute(_CHUNKS_WITHOUT, (list(keys), list(chunks)))
    return {id_ for (id_,) in rows}


@attrs.frozen(kw_only=True)
class StateCount:
    """How many messages of a campaign (its id) are in a state, and how many are `to_resend`."""

    campaign: int
    state: str
    messages: int
    to_resend: int


def count_states(connection: Connection) -> list[StateCount]:
    """Return how many messages of each campaign, of those that were begun, are in each state."""
    return [
        StateCount(campaign=campaign, state=state, messages=messages, to_resend=to_resend)
        for campaign, state, messages, to_resend in connection.execute(_COUNT_STATES)
    ]


def count_doubts(connection: Connection, name: str) -> int:
    """Return how many messages of a campaign may have been sent."""
    (count,) = connection.execute(_COUNT_DOUBTS, {"name": name}).fetchone() or (0,)
    return int(count)


def attempts_in_doubt(connection: Connection, name: str) -> dict[int, float]:
    """Return the ids of a campaign's messages in doubt, and when the attempt of each started."""
    return dict(connection.execute(_ATTEMPTS_IN_DOUBT, {"name": name}).fetchall())


def numbers_to_send(
    connection: Connection, campaign: int, *, until: int
) -> Generator[tuple[str, str], None, None]:
    """Yield the keys and numbers still to be sent, of chunks up to the number `until`."""
    with connection.cursor("skycore_numbers") as rows:
        yield from rows.execute(_NUMBERS_TO_SEND, (campaign, until))


def first_known(connection: Connection, name: str, keys: Iterable[str]) -> str | None:
    """Return the first of these keys that a campaign has, or whose message may have gone out.

    Returns None if there is none.  There may be as many keys as a campaign has messages.
    """
    with connection.transaction():
        connection.execute("CREATE TEMP TABLE skycore_asked (key text) ON COMMIT DROP")
        with connection.cursor() as cursor, cursor.copy("COPY skycore_asked FROM STDIN") as copy:
            for key in keys:
                copy.write_row((key,))
        row = connection.execute(_FIRST_KNOWN, {"name": name}).fetchone()
    return None if row is None or row[0] is None else str(row[0])


def locked_chunks_with(
    connection: Connection, name: str, messages: Iterable[int]
) -> list[tuple[int, list[str], list[float | None] | None]]:
    """Return the chunks of a campaign that have the messages with these ids, locked.

    Each is its id, its keys, and its column `resends`.
    """
    return connection.execute(_LOCK_CHUNKS_WITH, (name, list(messages))).fetchall()


def still_in_doubt(connection: Connection, attempts: Mapping[int, float]) -> dict[str, float]:
    """Return those of `attempts` that are still in doubt: by key, when each started.

    `attempts` is as `attempts_in_doubt` returns it.  Attempts of which a live process may still
    get the outcome are left out.
    """
    given = (list(attempts), list(attempts.values()))
    return dict(connection.execute(_STILL_IN_DOUBT, given).fetchall())


def count_to_resend(connection: Connection, campaign: int) -> tuple[int, int]:
    """Return how many doubts of a campaign it may send once more, and how many it may not."""
    found, left = connection.execute(_COUNT_TO_RESEND, (campaign,)).fetchone() or (0, 0)
    return found, left
