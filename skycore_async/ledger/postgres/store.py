"""The tables in PostgreSQL: sets of rows read and written, while other processes do the same.

Strategy: each set is a statement or two over arrays, however many rows it has.  What
must not happen twice is decided by the statement that changes it.

Rules:

* An intent is an insert, or an update of a row that was locked before it was read.  It
  bears its session and its number there, by which its session knows its own again after
  a lost connection, and by which nobody else's outcome is taken for its own.
* Any two that are about one submission do it one after the other: each writes
  its row, and what it goes by was read after that.
* So do any two that change what settles a doubt at a number: each writes first, then takes
  the lock of all numbers that end like it, in the order of these, and then looks.  What misses
  each other all the same is found by whoever looks for expired sessions next.
* Only who finds a doubt that can be settled locks the rows of its candidates, and looks again:
  to lock a row is to write it, and a storm of receipts is about rows that settle nothing.
* An outcome and a receipt change no column that an index has.  What is under way is therefore
  found by the sessions that send it (`under_way`).
* Rows are written in the sorted order.  Where the database finds a deadlock all
  the same, the transaction is begun anew.
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
_ALIKE: Final = 2  # digits that endings have in common which are locked together: 100 locks in all


class PostgresStore(PostgresPruning):
    """The tables of a ledger over `connection`, for one transaction; see `LedgerStore`."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._locked: set[str] = set()  # the beginnings of endings, until the transaction ends

    # What it counts.

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
        """Return so many turns, in order, after those of all that was begun so far."""
        return [turn for (turn,) in self._execute(statements.NEXT_TURNS, (count,))]

    def insert_attempts(self, attempts: Sequence[EarlierAttempt]) -> None:
        """Insert attempts of messages that are begun again."""
        self._execute(statements.INSERT_ATTEMPTS, NEW_ATTEMPT.by_column(attempts))

    def finish_usual(self, finishes: Sequence[Finish], *, ended_at: float) -> Finished:
        """Write the outcomes of what is under way, or in doubt since its session expired alone."""
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
        """Have chunks looked at again that were done before it was known what is not sent.

        Who learns it can be a session that was taken for dead, or one that sends the same key in
        no campaign or in another: whoever takes a chunk has all that is under way in it in doubt.
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
        """Return what the notifications of messages tell of how far they got, by their ids."""
        found: dict[int, list[ToldState]] = {}
        for id_, *columns in self._execute(statements.TOLD_OF, (list(ids),)):
            found.setdefault(id_, []).append(told_state(*columns))
        return found

    def write_progress(self, progress: Mapping[int, Progress]) -> Collection[str]:
        """Write how far messages got, by their ids, and return their keys and plain ids."""
        ids = list(progress)
        # In the order in which everybody locks them.
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
        """Return whether a doubt may be settled, of the messages to numbers that end so.

        What others write of these and of like endings is waited for before it is looked.
        """
        alike = ending[:_ALIKE]
        if alike not in self._locked:
            self._execute(statements.LOCK_ENDINGS, (_LOCK, int(f"0{alike}")))
            self._locked.add(alike)
        return self._execute(statements.MAY_SETTLE, (ending,) * 3).fetchone() is not None

    def candidates(self, ending: str, *, is_locked: bool) -> list[MessageRecord]:
        """Return the messages that may have a submission which is not known, locked or not."""
        statement = statements.LOCK_CANDIDATES if is_locked else statements.CANDIDATES
        return list(map(MESSAGE.value, self._execute(statement, (ending,))))

    def unmatched(self, ending: str) -> list[UnmatchedSubmission]:
        """Return the submissions to numbers that end so which have no message."""
        rows = self._execute(statements.UNMATCHED, (ending,))
        return unmatched_in(map(NOTIFICATION.value, rows))

    def match(self, pairs: Mapping[str, int]) -> None:
        """Write that these tracking ids are those of these messages."""
        for tracking_id, message in sorted(pairs.items()):
            self._execute(
                "UPDATE skycore.submissions SET message = %s WHERE tracking_id = %s",
                (message, tracking_id),
            )

    def interrupt(self, *, at: float) -> Sequence[str]:
        """Write `in_doubt` for what expired sessions were sending."""
        expired = [id_ for (id_,) in self._execute(statements.LOCK_EXPIRED)]
        if not expired:
            return []
        keys = [key for (key,) in self._execute(statements.INTERRUPT, (at, expired))]
        self._execute(statements.INTERRUPTED, (expired,))
        return keys

    def unsettled_endings(self) -> set[str]:
        """Return how the numbers end that have messages in doubt and unmatched submissions."""
        return {ending for (ending,) in self._execute(statements.UNSETTLED)}

    # What a sending report told.

    def reopen_chunks(self, keys: Collection[str]) -> None:
        """Have chunks looked at again that were done with what turned out not to be sent."""
        if keys:
            chunks = [id_ for (id_,) in self._execute(statements.KEEP_WITH, (list(keys),))]
            self._execute(statements.REOPEN, (chunks,))

    def update_attempts(self, decisions: Sequence[AttemptDecision]) -> None:
        """Write what became of attempts before the last."""
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
        """Insert those of whose numbers nothing is known."""
        self._execute(statements.NEW_OPT_OUTS, OPT_OUT.by_column(opt_outs))

    def opt_outs_to_change(self, numbers: Collection[str]) -> dict[str, OptOut]:
        """Return what is known of these numbers, locked."""
        found = map(OPT_OUT.value, self._execute(statements.OPT_OUTS, (list(numbers),)))
        return {each.number: each for each in found}

    def update_opt_outs(self, opt_outs: Sequence[OptOut]) -> None:
        """Write these in place of what is known of their numbers."""
        self._execute(statements.OTHER_OPT_OUTS, OPT_OUT.by_column(opt_outs))
