"""The tables in PostgreSQL: sets of rows are read and written, while other processes do the same.

Strategy: a statement or two over arrays handle each set, however many rows it has.  What must not
happen twice is decided by the statement that changes it.

Rules:

* An intent is an insert, or an update of a row that was locked before it was read.  It has the
  session and a number in it.  By these the session knows its own intents after a lost connection,
  and no other outcome is written for them.
* Two transactions about one submission run one after the other: each writes the submission's row
  before it reads what it decides by.
* Two transactions that change what settles a doubt at a number run one after the other, too: each
  writes, then locks the endings of its numbers in sorted order, and then looks for doubts.  What
  they miss all the same is found by the next look for expired sessions.
* The rows of candidates are locked, and read again, only once a doubt was found that can be
  settled: locking a row writes it, and a storm of receipts is about rows that settle nothing.
* An outcome or a receipt changes no indexed column.  So messages under way are found by the
  sessions that send them (`under_way`).
* Rows are written in sorted order.  If the database finds a deadlock all the same, the transaction
  starts over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from ...postgres.schema import Connection
from ...protocol.numbers import names_within_country
from ..columns import INTENT, NEW_ATTEMPT, NOTIFICATION, OPT_OUT, OUTCOME, told_state
from ..commands import Begin, Finish
from ..model import EarlierAttempt, MessageRecord, MessageState, StoredNotification, ToldState
from ..opt_outs import OptOut
from ..pruning import by_key
from ..report_values import AttemptDecision, ReportRequest
from ..settlement import Progress, UnmatchedSubmission, unmatched_in
from ..store import Finished
from . import statements
from .pruning import PostgresPruning
from .reader import MESSAGE, named

_LOCK: Final = 0x534B5945  # "SKYE", of the endings of numbers
_ALIKE: Final = 2  # endings with these first digits in common share a lock: 100 locks in all


class PostgresStore(PostgresPruning):
    """The tables of a ledger over `connection`, for one transaction; see `LedgerStore`."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._locked: set[str] = set()  # first digits of endings, until the transaction ends

    # Counts.

    def write_counts(self) -> None:
        """Do nothing: no counts are kept here."""

    def forget_counts(self) -> None:
        """Do nothing."""

    # Messages.

    def insert_new(self, begins: Sequence[Begin]) -> set[str]:
        """Insert those that are new, and return their keys."""
        intents = [command.intent for command in begins]
        attempts = [command.attempt for command in begins]
        rows = self._execute(
            statements.INSERT,
            (
                *INTENT.by_column(intents),
                [attempt.session if attempt else None for attempt in attempts],
                [attempt.number if attempt else None for attempt in attempts],
                [command.ignore_opt_out for command in begins],
                *map(list, zip(*(names_within_country(each.to) for each in intents), strict=True)),
            ),
        )
        found = rows.fetchall()
        new = [key for key, _ in found]
        return self.remove_pruned(new) if any(pruned for _, pruned in found) else set(new)

    def messages_to_change(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys, locked."""
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM skycore.messages WHERE {named('key')}"
            " ORDER BY key FOR UPDATE",
            {"names": list(keys)},
        )
        return by_key(keys, map(MESSAGE.value, rows))

    def update(self, records: Sequence[MessageRecord]) -> None:
        """Write these records in place of those with their ids."""
        self._execute(statements.UPDATE, MESSAGE.by_column(records))

    def next_turns(self, count: int) -> Sequence[int]:
        """Return this many turns, in order, after those of all attempts so far."""
        return [turn for (turn,) in self._execute(statements.NEXT_TURNS, (count,))]

    def insert_attempts(self, attempts: Sequence[EarlierAttempt]) -> None:
        """Insert attempts of messages that are begun again."""
        self._execute(statements.INSERT_ATTEMPTS, NEW_ATTEMPT.by_column(attempts))

    def finish_usual(self, finishes: Sequence[Finish], *, ended_at: float) -> Finished:
        """Write outcomes of messages under way, or in doubt only since their session expired."""
        attempts = [command.attempt for command in finishes]
        rows = self._execute(
            statements.FINISH,
            (
                [command.key for command in finishes],
                [attempt.session if attempt else None for attempt in attempts],
                [attempt.number if attempt else None for attempt in attempts],
                *OUTCOME.by_column([command.submission for command in finishes]),
                ended_at,
            ),
        )
        finished = Finished.of(rows.fetchall())
        self._reopen(finishes)
        return finished

    def submit(self, records: Sequence[MessageRecord]) -> Finished:
        """Write the submissions of messages whose outcome was just decided."""
        rows = self._execute(
            statements.DECIDED,
            (
                [record.id for record in records],
                [record.key for record in records],
                [record.to for record in records],
                [record.state.value for record in records],
                [record.plain_id for record in records],
            ),
        )
        return Finished.of(rows.fetchall())

    def _reopen(self, finishes: Sequence[Finish]) -> None:
        """Reopen chunks that were done while a message, now known as not sent, was in doubt.

        A worker that takes a chunk puts in doubt all that is under way in it.  The outcome may
        come later, from a session that was taken for dead, or one that sends the key outside of
        the campaign.
        """
        unsent = [
            command.key
            for command in finishes
            if command.submission.state is MessageState.NOT_SENT
        ]
        if unsent:
            self.reopen_chunks([key for (key,) in self._execute(statements.DOUBTED, (unsent,))])

    # Notifications, and the submissions that they are of.

    def insert_notifications(self, notifications: Sequence[StoredNotification]) -> set[bytes]:
        """Insert those that are new, and return their identities."""
        former = [each.former_identity for each in notifications]
        columns = NOTIFICATION.by_column(notifications)
        rows = self._execute(statements.RECORD, (*columns, former))
        return {bytes(identity) for (identity,) in rows}

    def submissions(self, recipients: Mapping[str, str | None]) -> dict[str, int | None]:
        """Return the ids of messages by their tracking ids, which are noted where they are new."""
        rows = self._execute(statements.NOTE, (list(recipients), list(recipients.values())))
        found = rows.fetchall()
        late = [id_ for id_, message, pruned in found if pruned and message is None]
        removed = self.remove_late(late) if late else ()
        return {id_: message for id_, message, _ in found if id_ not in removed}

    def told_of(self, ids: Collection[int]) -> dict[int, list[ToldState]]:
        """Return what the notifications of messages tell of their states, by the messages' ids."""
        found: dict[int, list[ToldState]] = {}
        for id_, *columns in self._execute(statements.TOLD_OF, (list(ids),)):
            found.setdefault(id_, []).append(told_state(*columns))
        return found

    def write_progress(self, progress: Mapping[int, Progress]) -> Collection[str]:
        """Write how far messages got, by their ids, and return their keys and plain ids."""
        ids = list(progress)
        # In the common order of locks.
        self._execute(
            "SELECT FROM skycore.messages WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (ids,)
        )
        rows = self._execute(
            statements.PROGRESS,
            (
                ids,
                [each.state.value for each in progress.values()],
                [each.reason.value if each.reason else None for each in progress.values()],
                [each.history_id for each in progress.values()],
            ),
        )
        return [name for names in rows for name in names if name]

    # Doubt.

    def may_settle(self, ending: str) -> bool:
        """Return whether a doubt of messages to numbers with this ending may be settled.

        First waits for others that write about numbers with such endings.
        """
        alike = ending[:_ALIKE]
        if alike not in self._locked:
            self._execute(statements.LOCK_ENDINGS, (_LOCK, int(f"0{alike}")))
            self._locked.add(alike)
        return self._execute(statements.MAY_SETTLE, (ending,) * 3).fetchone() is not None

    def candidates(self, ending: str, *, is_locked: bool) -> list[MessageRecord]:
        """Return the messages that may have an unknown submission, locked or not."""
        statement = statements.LOCK_CANDIDATES if is_locked else statements.CANDIDATES
        return list(map(MESSAGE.value, self._execute(statement, (ending,))))

    def unmatched(self, ending: str) -> list[UnmatchedSubmission]:
        """Return the submissions to numbers with this ending that have no message."""
        rows = self._execute(statements.UNMATCHED, (ending,))
        return unmatched_in(map(NOTIFICATION.value, rows))

    def match(self, pairs: Mapping[str, int]) -> None:
        """Write which messages these tracking ids belong to."""
        for tracking_id, message in sorted(pairs.items()):
            self._execute(
                "UPDATE skycore.submissions SET message = %s WHERE tracking_id = %s",
                (message, tracking_id),
            )

    def interrupt(self, *, at: float) -> Sequence[str]:
        """Put in doubt what expired sessions were sending, and return the keys."""
        expired = [id_ for (id_,) in self._execute(statements.LOCK_EXPIRED)]
        if not expired:
            return []
        keys = [key for (key,) in self._execute(statements.INTERRUPT, (at, expired))]
        self._execute(statements.INTERRUPTED, (expired,))
        return keys

    def unsettled_endings(self) -> set[str]:
        """Return the endings of numbers with messages in doubt and unmatched submissions."""
        return {ending for (ending,) in self._execute(statements.UNSETTLED)}

    # Sending reports.

    def reopen_chunks(self, keys: Collection[str]) -> None:
        """Reopen the chunks with these keys that are done."""
        if keys:
            chunks = [id_ for (id_,) in self._execute(statements.KEEP_WITH, (list(keys),))]
            self._execute(statements.REOPEN, (chunks,))

    def update_attempts(self, decisions: Sequence[AttemptDecision]) -> None:
        """Write what became of earlier attempts."""
        for each in decisions:
            self._execute(
                "UPDATE skycore.attempts SET state = %s, history_id = %s WHERE id = %s",
                (each.state.value, each.history_id, each.id),
            )

    def insert_report_request(self, request: ReportRequest) -> None:
        """Write that a report was asked for."""
        self._execute(
            "INSERT INTO skycore.look_ups (asked_at, refused, retry_after) VALUES (%s, %s, %s)",
            request,
        )

    # Opting out.

    def insert_opt_outs(self, opt_outs: Sequence[OptOut]) -> None:
        """Insert the entries of numbers that have none."""
        self._execute(statements.NEW_OPT_OUTS, OPT_OUT.by_column(opt_outs))

    def opt_outs_to_change(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return the entries of these numbers, locked."""
        found = map(OPT_OUT.value, self._execute(statements.OPT_OUTS, (list(numbers),)))
        return {each.number: each for each in found}

    def update_opt_outs(self, opt_outs: Sequence[OptOut]) -> None:
        """Replace the entries of these numbers."""
        self._execute(statements.OTHER_OPT_OUTS, OPT_OUT.by_column(opt_outs))
