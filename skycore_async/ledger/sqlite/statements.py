"""The statements that change the tables in SQLite, or find what settles a doubt.

Rules:

* They run over rows of VALUES, see `rows`.  The values of an intent or an outcome have the names
  of their columns.
* What writes many rows says OR FAIL.  Else SQLite copies each page before it changes it, into a
  temporary file once that is 64 kB, to be able to undo the one statement; and whoever runs these
  undoes the whole transaction anyway.
"""

from __future__ import annotations

from typing import Final

from ...protocol.numbers import MOST_WITHIN_COUNTRY, SHORTEST
from ..columns import ACCEPTANCE, INTENT, NOTIFICATION, OUTCOME, Columns
from ..counts import KIND
from ..model import Submission
from .reader import CANDIDATE, MESSAGE


def _given(*names: str) -> str:
    """Return the beginning of a statement that names the values of rows."""
    return f"WITH given ({', '.join(names)}) AS (VALUES {{}})"


# As `opt_outs.entry_for`, for a number and its spellings within its country.  One seek each: `IN`
# would make a table of them for every row.
_IS_NOT_OUT: Final = "NOT EXISTS (SELECT 1 FROM opt_outs WHERE number = given.recipient AND out)"
_WITHIN_COUNTRY: Final = ("dialled", "called")
_IS_NOT_OUT_BY_NAME: Final = " AND ".join(
    f"NOT EXISTS (SELECT 1 FROM opt_outs AS said WHERE number = {name} AND out AND NOT EXISTS"
    " (SELECT 1 FROM opt_outs AS own"
    "  WHERE own.number = given.recipient AND NOT own.out AND own.at > said.at))"
    for name in _WITHIN_COUNTRY
)


def _insert(*conditions: str, names: tuple[str, ...] = ()) -> str:
    return (
        f"{_given(*INTENT.names, *names)}"
        f" INSERT OR FAIL INTO messages ({INTENT.listed}, state)"
        f" SELECT {INTENT.listed}, 'sending'"
        f" FROM given WHERE {' AND '.join(('key IS NOT NULL', *conditions))}"
        " ON CONFLICT (key) DO NOTHING"
    )


# To numbers that have not opted out, as `rules.begin`; or to all numbers.
INSERT: Final = _insert(_IS_NOT_OUT)
INSERT_BY_ALL_NAMES: Final = _insert(_IS_NOT_OUT, _IS_NOT_OUT_BY_NAME, names=_WITHIN_COUNTRY)
INSERT_TO_ANY: Final = _insert()
# As `numbers.may_be_within_country`.
WITHIN_COUNTRY: Final = (
    "SELECT 1 FROM opt_outs"
    f" WHERE number LIKE '0%' OR length(number) <= {MOST_WITHIN_COUNTRY} LIMIT 1"
)


def _ending(column: str) -> str:
    """Return an expression of the ending of a number, as `numbers.ending`; it has indexes."""
    return f"substr({column}, -{SHORTEST})"


# For these `rules.finish` writes the outcome as it is, with nothing to decide.
_IS_USUAL: Final = "messages.state = 'sending' AND doubted IS NOT TRUE"
ROWS: Final = "SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL"


_UNMATCHED: Final = "SELECT 1 FROM submissions WHERE message IS NULL"


def _has_own(plain_id: str) -> str:
    return f"EXISTS (SELECT 1 FROM submissions AS own WHERE own.tracking_id = {plain_id})"


def _has_other(number: str) -> str:
    return (
        "EXISTS (SELECT 1 FROM submissions AS other WHERE other.message IS NULL"
        f" AND {_ending('other.recipient')} = {_ending(number)})"
    )


# The rows for `Finished.of`, read before the submission of the message itself is written.
FOUND: Final = (
    f"{_given('key', 'plain_id', 'state')}"
    f" SELECT id, messages.key, recipient, {_has_own('given.plain_id')},"
    f" given.state = 'in_doubt' OR {_has_other('messages.recipient')}"
    " FROM given CROSS JOIN messages ON messages.key = given.key"
)
FOUND_USUAL: Final = f"{FOUND} WHERE {_IS_USUAL}"
CANDIDATES: Final = (
    f"SELECT {MESSAGE.listed} FROM messages"
    f" WHERE {CANDIDATE} AND {_ending('recipient')} = ? ORDER BY id"
)
# Whether `settlement.match_doubts` could match anything, found out cheaply: there is a submission
# without a message, and a doubt, or a message that a report found.  Two doubts to the same number
# from the same sender do not count: nothing tells whose a submission is.
MAY_SETTLE: Final = (
    f"SELECT 1 FROM messages AS one WHERE {CANDIDATE} AND {_ending('recipient')} = ?"
    " AND (state = 'in_doubt' AND NOT EXISTS (SELECT 1 FROM messages AS other"
    f"  WHERE {CANDIDATE} AND {_ending('recipient')} = ? AND other.id <> one.id"
    "  AND other.recipient = one.recipient AND other.sender IS one.sender)"
    "  OR history_id IS NOT NULL AND plain_id IS NULL)"
    f" AND EXISTS ({_UNMATCHED} AND {_ending('submissions.recipient')} = ?) LIMIT 1"
)
UNMATCHED: Final = (
    f"SELECT {NOTIFICATION.of('events')} FROM submissions"
    " JOIN events ON events.tracking_id = submissions.tracking_id"
    f" WHERE message IS NULL AND {_ending('submissions.recipient')} = ?"
)
UNDER_WAY: Final = f"SELECT id, key, {KIND} FROM messages WHERE {CANDIDATE} AND state = 'sending'"
UNDECIDED: Final = f"SELECT 1 FROM messages WHERE {CANDIDATE} LIMIT 1"
UNSETTLED: Final = (
    f"SELECT DISTINCT {_ending('messages.recipient')} FROM messages JOIN submissions AS other"
    f" ON {_ending('other.recipient')} = {_ending('messages.recipient')}"
    f" WHERE {CANDIDATE} AND state = 'in_doubt' AND other.message IS NULL"
)


def _as_given(columns: Columns[Submission]) -> str:
    return ", ".join(f"{name} = given.{name}" for name in columns.names)


# Any outcome, when it came, and the id of its message.
_ENDED: Final = (*OUTCOME.names, "ended_at")
END: Final = (
    f"{_given(*_ENDED, 'id')}"
    f" UPDATE OR FAIL messages SET {_as_given(OUTCOME)}, ended_at = given.ended_at"
    " FROM given WHERE messages.id = given.id"
)
END_ONE: Final = f"UPDATE messages SET {', '.join(f'{name} = ?' for name in _ENDED)} WHERE id = ?"
SUBMIT: Final = (
    f"INSERT OR FAIL INTO submissions (tracking_id, message, recipient) {ROWS}"
    " ON CONFLICT (tracking_id) DO UPDATE SET message = excluded.message"
)
# The usual outcome: the message is accepted, and no notification came before.  A message that is
# being sent has no code or status of an earlier attempt.  Whether any submission is unmatched is
# checked once.
ACCEPT: Final = (
    f"{_given(*ACCEPTANCE.names, 'key')}"
    f" UPDATE OR FAIL messages SET state = 'accepted', {_as_given(ACCEPTANCE)}, ended_at = ?"
    f" FROM given WHERE messages.key = given.key AND {_IS_USUAL}"
    f" AND NOT {_has_own('given.plain_id')}"
    f" AND NOT (EXISTS ({_UNMATCHED}) AND {_has_other('messages.recipient')})"
)
# A message that was accepted before has its submission already.
_NAMED: Final = _given("key", "plain_id")
_OF_ACCEPTED: Final = (
    "FROM given CROSS JOIN messages ON messages.key = given.key"
    " WHERE messages.plain_id = given.plain_id AND state = 'accepted'"
)
ACCEPTED: Final = f"{_NAMED} SELECT given.key, given.plain_id {_OF_ACCEPTED}"
SUBMIT_ACCEPTED: Final = (
    f"{_NAMED} INSERT OR FAIL INTO submissions (tracking_id, message, recipient)"
    f" SELECT given.plain_id, id, recipient {_OF_ACCEPTED} ON CONFLICT (tracking_id) DO NOTHING"
)
RECORD: Final = (
    f"{_given(*NOTIFICATION.names, 'former')}"
    f" INSERT OR FAIL INTO events ({NOTIFICATION.listed}) SELECT {NOTIFICATION.listed}"
    " FROM given WHERE identity IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM events AS known WHERE known.identity = former)"
    " ON CONFLICT (identity) DO NOTHING"
)
NOTED: Final = (
    "SELECT tracking_id, message, recipient FROM (VALUES {})"
    " JOIN submissions ON tracking_id = column1"
)
NOTE: Final = (
    f"INSERT OR FAIL INTO submissions (tracking_id, recipient) {ROWS}"
    " ON CONFLICT (tracking_id) DO UPDATE SET recipient = excluded.recipient"
    " WHERE submissions.recipient IS NULL"
)
PROGRESS: Final = (
    "UPDATE OR FAIL messages SET state = column1, reason = column2,"
    " history_id = coalesce(column3, history_id) FROM (VALUES {}) WHERE id = column4"
)
PROGRESS_ONE: Final = (
    "UPDATE messages SET state = ?, reason = ?, history_id = coalesce(?, history_id) WHERE id = ?"
)
NAMES: Final = f"SELECT id, key, plain_id, {KIND} FROM (VALUES {{}}) JOIN messages ON id = column1"

# Counts; see the module `counts`.
KINDS: Final = f"SELECT {KIND} FROM (VALUES {{}}) JOIN messages ON id = column1"
COUNT: Final = (
    f"INSERT OR FAIL INTO counts (state, code, reason, settled_by, messages) {ROWS}"
    " ON CONFLICT (state, code, reason, settled_by)"
    " DO UPDATE SET messages = messages + excluded.messages"
)

# All columns of a message but its id, which is the first.  Its key is among them, as pruning
# replaces it.
UPDATE: Final = (
    f"UPDATE messages SET {', '.join(f'{name} = ?' for name in MESSAGE.names[1:])} WHERE id = ?"
)

# With the last turn of messages that were begun again, see `attempts.turn_of`.
INSERTED: Final = (
    "SELECT changes(), last_insert_rowid(),"
    " coalesce((SELECT max(turn) FROM messages WHERE turn IS NOT NULL), 0)"
)

# Sending reports.
UPDATE_ATTEMPT: Final = "UPDATE attempts SET state = ?, history_id = ? WHERE id = ?"
REPORT_REQUEST: Final = "INSERT INTO look_ups (asked_at, refused, retry_after) VALUES (?, ?, ?)"
