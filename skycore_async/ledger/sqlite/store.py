"""The tables in SQLite, for any connection that is used by one at a time.

Strategy: the caller has begun a transaction in which nobody else can write.  So what was read
stays as it is until it is written.

Rule: what is written for each message goes in one statement for many.  A statement itself costs
little, but around it Python releases the GIL, and has to get it back from a busy event loop.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from ...protocol.numbers import names_within_country
from ..attempts import TURNS
from ..columns import ACCEPTANCE, INTENT, NEW_ATTEMPT, NOT_OF_ACCEPTANCE, NOTIFICATION, OUTCOME
from ..commands import Begin, Finish
from ..counts import ACCEPTED, SENDING, CountedKind, counted_kind
from ..model import (
    EarlierAttempt,
    MessageRecord,
    MessageState,
    SendIntent,
    StoredNotification,
    Summary,
)
from ..report_values import AttemptDecision, ReportRequest
from ..settlement import Progress, UnmatchedSubmission, unmatched_in
from ..store import Finished
from . import statements
from .opt_outs import SQLiteOptOuts
from .pruning import SQLitePruning
from .reader import MESSAGE
from .rows import MOST, Connection

_UPDATE_FROM: Final = (3, 33)  # the first SQLite that has it
_ACCEPTED: Final = MessageState.ACCEPTED
_others_of: Final = attrgetter("started_at", *NOT_OF_ACCEPTANCE)
_NOTHING: Final = (None,) * (1 + len(NOT_OF_ACCEPTANCE))


def _is_accepted(command: Finish) -> bool:
    """Return whether an outcome is like nearly all: accepted, and nothing else is known."""
    of = command.submission
    return of.state is _ACCEPTED and of.plain_id is not None and _others_of(of) == _NOTHING


class SQLiteStore(SQLiteOptOuts, SQLitePruning):
    """The tables of a ledger over `connection`; see `LedgerStore`."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._counts: Counter[CountedKind] = Counter()  # what the transaction has changed

    # Counts.

    def write_counts(self) -> None:
        """Write what the transaction has changed of the counts."""
        if changed := [(*kind, by) for kind, by in self._counts.items() if by]:
            self._over(statements.COUNT, changed)
        self._counts.clear()
        self._is_pruned = None

    def forget_counts(self) -> None:
        """Forget that, as the transaction is rolled back."""
        self._counts.clear()
        self._is_pruned = None

    def summary(self) -> Summary:
        """Return the summary, including counts that were not written yet."""
        self.write_counts()
        return super().summary()

    # Messages.

    def insert_new(self, begins: Sequence[Begin]) -> set[str]:
        """Insert those that are new, and return their keys."""
        new: set[str] = set()
        heeding = [each.intent for each in begins if not each.ignore_opt_out]
        if len(heeding) < len(begins):
            others = [each.intent for each in begins if each.ignore_opt_out]
            new |= self._insert(statements.INSERT_TO_ANY, others)
        if not self.has_names_within_country():
            return new | self._insert(statements.INSERT, heeding)
        return new | self._insert(statements.INSERT_BY_ALL_NAMES, heeding, by_all_names=True)

    def _insert(
        self, statement: str, intents: list[SendIntent], *, by_all_names: bool = False
    ) -> set[str]:
        new: set[str] = set()
        intents = self.intents_not_pruned(intents)
        while intents:
            part, intents = intents[:MOST], intents[MOST:]
            rows = list(map(INTENT.row_to_bind, part))
            if by_all_names:
                names = [names_within_country(each.to) for each in part]
                rows = [row + of for row, of in zip(rows, names, strict=True)]
            self._over(statement, rows)
            count, last, turn = self._one(statements.INSERTED)
            self._counts[SENDING] += count
            if count:
                before = max(TURNS * (last - count), turn)
                self.last_turn.take(before=before, last=max(TURNS * last, turn))
            if count == len(part):
                new.update([each.key for each in part])
            elif count:
                new.update(self._last("SELECT key FROM messages WHERE id > ?", count, last))
        return new

    def _last(self, statement: str, count: int, last: int) -> list[Any]:
        """Return the names of `count` rows that were just inserted, the last with id `last`."""
        return [each for (each,) in self._execute(statement, (last - count,))]

    def messages_to_change(self, keys: Collection[str]) -> dict[str, MessageRecord]:
        """Return the messages that are there, by their keys."""
        return self.messages(keys)

    def update(self, records: Sequence[MessageRecord]) -> None:
        """Write these records in place of those with their ids."""
        for before in self._over(statements.KINDS, [(record.id,) for record in records]):
            self._counts[CountedKind(*before)] -= 1
        for record in records:
            reason = record.reason and record.reason.value
            self._counts[
                counted_kind(record.state.value, record.code, reason, record.settled_by)
            ] += 1
            id_, *columns = MESSAGE.row(record)
            self._execute(statements.UPDATE, (*columns, id_))

    def next_turns(self, count: int) -> Sequence[int]:
        """Return this many turns, in order, after those of all attempts so far."""
        last = self.last_begun()
        self.last_turn.take(before=last, last=last + count)
        return range(last + 1, last + 1 + count)

    def insert_attempts(self, attempts: Sequence[EarlierAttempt]) -> None:
        """Insert attempts of messages that are begun again."""
        self._over(
            f"INSERT OR FAIL INTO attempts ({NEW_ATTEMPT.listed}) {statements.ROWS}",
            list(map(NEW_ATTEMPT.row, attempts)),
        )

    def finish_usual(self, finishes: Sequence[Finish], *, ended_at: float) -> Finished:
        """Write the outcomes of messages under way that were never in doubt."""
        accepted = self._accept(list(filter(_is_accepted, finishes)), ended_at)
        found: list[Any] = []
        if len(accepted) < len(finishes):
            others = [each for each in finishes if each.key not in accepted]
            found = self._finish_others(others, ended_at)
        return Finished.of(found, accepted=accepted)

    def _accept(self, finishes: Sequence[Finish], ended_at: float) -> set[str]:
        """Write acceptances of messages without notifications so far, and return their keys."""
        accepted: set[str] = set()
        if sqlite3.sqlite_version_info < _UPDATE_FROM:
            return accepted
        while finishes:
            part, finishes = finishes[:MOST], finishes[MOST:]
            rows = [(*ACCEPTANCE.row(each.submission), each.key) for each in part]
            self._over(statements.ACCEPT, rows, ended_at)
            (count,) = self._one("SELECT changes()")
            self._counts[SENDING] -= count
            self._counts[ACCEPTED] += count
            names: Sequence[Any] = [(each.key, each.submission.plain_id) for each in part]
            if count:
                self._over(statements.SUBMIT_ACCEPTED, names)
            if count < len(part):
                names = self._over(statements.ACCEPTED, names)
            accepted.update([key for key, _ in names])
        return accepted

    def _finish_others(self, finishes: Sequence[Finish], ended_at: float) -> list[Any]:
        """Write outcomes of messages under way, and return the rows that `Finished.of` takes."""
        given = {each.key: of for each in finishes if (of := each.submission).started_at is None}
        found = self._over(
            statements.FOUND_USUAL,
            [(key, of.plain_id, of.state.value) for key, of in given.items()],
        )
        for _, key, *_ in found:
            self._counts[SENDING] -= 1
            self._counts[counted_kind(given[key].state.value, given[key].code)] += 1
        ended = [(*OUTCOME.row(given[key]), ended_at, id_) for id_, key, *_ in found]
        self._update(statements.END, statements.END_ONE, ended)
        self._submit(found, {key: of.plain_id for key, of in given.items()})
        return found

    def submit(self, records: Sequence[MessageRecord]) -> Finished:
        """Write the submissions of messages whose outcome was just decided."""
        found = self._over(
            statements.FOUND,
            [(record.key, record.plain_id, record.state.value) for record in records],
        )
        self._submit(found, {record.key: record.plain_id for record in records})
        return Finished.of(found)

    def _update(self, many: str, one: str, rows: Sequence[Sequence[Any]]) -> None:
        """Update rows by one statement for many, or one for each if SQLite is too old for that."""
        if sqlite3.sqlite_version_info >= _UPDATE_FROM:
            self._over(many, rows)
        else:
            for row in rows:
                self._execute(one, row)

    def _submit(self, rows: Sequence[Any], plain_ids: Mapping[str, str | None]) -> None:
        self._over(
            statements.SUBMIT,
            [
                (plain_id, id_, number)
                for id_, key, number, _, _ in rows
                if (plain_id := plain_ids[key]) is not None
            ],
        )

    # Notifications, and the submissions that they are of.

    def insert_notifications(self, notifications: Sequence[StoredNotification]) -> set[bytes]:
        """Insert those that are new, and return their identities."""
        new: set[bytes] = set()
        left = self.notifications_not_pruned(notifications) if self.is_pruned() else notifications
        while left:
            part, left = left[:MOST], left[MOST:]
            rows = [(*NOTIFICATION.row(each), each.former_identity) for each in part]
            self._over(statements.RECORD, rows)
            count, last = self._one("SELECT changes(), last_insert_rowid()")
            if count == len(part):
                new.update([each.identity for each in part])
            elif count:
                new.update(self._last("SELECT identity FROM events WHERE id > ?", count, last))
        return new

    def submissions(self, recipients: Mapping[str, str | None]) -> dict[str, int | None]:
        """Return the ids of messages by their tracking ids, which are noted where they are new."""
        found = self._over(statements.NOTED, [(tracking_id,) for tracking_id in recipients])
        messages: dict[str, int | None] = dict.fromkeys(recipients)
        messages |= {tracking_id: message for tracking_id, message, _ in found}
        whole = {tracking_id for tracking_id, _, recipient in found if recipient is not None}
        if len(whole) < len(recipients):  # hardly ever: nearly all are of known messages
            self._over(
                statements.NOTE, [each for each in recipients.items() if each[0] not in whole]
            )
        return messages

    def write_progress(self, progress: Mapping[int, Progress]) -> Collection[str]:
        """Write how far messages got, by their ids, and return their keys and plain ids."""
        found = self._over(statements.NAMES, [(id_,) for id_ in progress])
        rows = {
            id_: (each.state.value, each.reason and each.reason.value, each.history_id, id_)
            for id_, each in progress.items()
        }
        for id_, _, _, *before in found:
            state, reason, *_ = rows[id_]
            self._counts[CountedKind._make(before)] -= 1
            self._counts[counted_kind(state, None, reason, before[-1])] += 1
        self._update(statements.PROGRESS, statements.PROGRESS_ONE, [*rows.values()])
        return [name for _, key, plain_id, *_ in found for name in (key, plain_id) if name]

    # Doubt.

    def may_settle(self, ending: str) -> bool:
        """Return whether a doubt of messages to numbers with this ending may be settled."""
        return self._execute(statements.MAY_SETTLE, (ending,) * 3).fetchone() is not None

    def candidates(self, ending: str, *, is_locked: bool) -> list[MessageRecord]:
        """Return the messages that may have an unknown submission."""
        return list(map(MESSAGE.value, self._execute(statements.CANDIDATES, (ending,)).fetchall()))

    def unmatched(self, ending: str) -> list[UnmatchedSubmission]:
        """Return the submissions to numbers with this ending that have no message."""
        rows = self._execute(statements.UNMATCHED, (ending,)).fetchall()
        return unmatched_in(map(NOTIFICATION.value, rows))

    def match(self, pairs: Mapping[str, int]) -> None:
        """Write which messages these tracking ids belong to."""
        for tracking_id, message in pairs.items():
            self._execute(
                "UPDATE submissions SET message = ? WHERE tracking_id = ?", (message, tracking_id)
            )

    def has_doubts_to_find(self) -> bool:
        """Return whether a message is under way, or a doubt may be settled by now."""
        if self._execute(statements.UNDECIDED).fetchone() is None:  # as nearly always
            return False
        under_way = self._execute(f"{statements.UNDER_WAY} LIMIT 1").fetchone()
        return under_way is not None or any(map(self.may_settle, self.unsettled_endings()))

    def interrupt(self, *, at: float) -> Sequence[str]:
        """Put in doubt what is under way: a ledger that was just opened sends nothing."""
        found = self._execute(statements.UNDER_WAY).fetchall()
        for _, _, *kind in found:
            before = CountedKind(*kind)
            self._counts[before] -= 1
            self._counts[before._replace(state=MessageState.IN_DOUBT.value)] += 1
        self._execute(
            f"UPDATE messages SET state = '{MessageState.IN_DOUBT}', interrupted_at = ?"
            f" WHERE id IN (SELECT id FROM ({statements.UNDER_WAY}))",
            (at,),
        )
        return [key for _, key, *_ in found]

    def unsettled_endings(self) -> set[str]:
        """Return the endings of numbers with messages in doubt and unmatched submissions."""
        return {ending for (ending,) in self._execute(statements.UNSETTLED).fetchall()}

    # Sending reports.

    def reopen_chunks(self, keys: Collection[str]) -> None:
        """Do nothing: only PostgreSQL has chunks."""

    def update_attempts(self, decisions: Sequence[AttemptDecision]) -> None:
        """Write what became of earlier attempts."""
        for each in decisions:
            values = each.state.value, each.history_id, each.id
            self._execute(statements.UPDATE_ATTEMPT, values)

    def insert_report_request(self, request: ReportRequest) -> None:
        """Write that a report was asked for."""
        self._execute(statements.REPORT_REQUEST, request)
