"""Prune the tables in SQLite; `..pruning` has what is kept of a message.

Rules:

* A message and all notifications for it are pruned in one transaction.
* What was removed stays in the free space of the file until `vacuum` rewrites it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from ..model import MessageRecord, SendIntent, StoredNotification
from ..pruning import pruned_name
from . import statements
from .reader import DIALECT, MESSAGE, SQLiteReader

_AT_ONCE: Final = 500  # notifications without a message, or their submissions
# A later message has the tracking id of a pruned one.
_IS_GIVEN_AGAIN: Final = (
    "EXISTS (SELECT 1 FROM submissions AS own"
    " WHERE own.tracking_id = column2 AND own.message IS NOT NULL)"
)


class SQLitePruning(SQLiteReader):
    """The part of a `LedgerStore` that prunes."""

    def mark_pruned(self, until: float) -> None:
        """Write that messages begun until then are being pruned."""
        self._is_pruned = None
        self._execute("INSERT INTO pruned SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM pruned)")
        self._execute("UPDATE pruned SET until = max(until, ?)", (until,))

    def change_mark(self, marked: float, until: float) -> None:
        """Replace the mark `marked` by `until`: messages begun until then were pruned."""
        self._execute("UPDATE pruned SET until = ? WHERE until = ?", (until, marked))

    def last_prunable_notification(self, before: float) -> float:
        """Return the time of the last prunable notification with a tracking id and no message."""
        (last,) = self._one(
            "SELECT coalesce(max(received), 0.0) FROM events"
            f" WHERE tracking_id IN (SELECT tracking_id {DIALECT.old_submissions})",
            before,
        )
        return float(last)

    def messages_to_prune(self, before: float, after: int, until: int) -> list[MessageRecord]:
        """Return the prunable messages with ids beyond `after` up to `until`."""
        rows = self._execute(
            f"SELECT {MESSAGE.listed} FROM messages"
            f" WHERE id > ? AND id <= ? AND {DIALECT.may_be_pruned}",
            (after, until, before),
        ).fetchall()
        return list(map(MESSAGE.value, rows))

    def prune(self, pairs: Sequence[tuple[MessageRecord, MessageRecord]]) -> int:
        """Write what stays of messages, and return how many notifications were removed."""
        notifications = 0
        for before, after in pairs:
            id_, *columns = MESSAGE.row(after)
            self._execute(statements.UPDATE, (*columns, id_))
            if before.plain_id is not None:
                notifications += self._remove(before.plain_id, message=before.id)
        with_attempts = self._execute(
            "SELECT DISTINCT message FROM attempts WHERE message BETWEEN ? AND ?",
            (pairs[0][0].id, pairs[-1][0].id),
        ).fetchall()
        self._prune_attempts({id_ for (id_,) in with_attempts} & {each.id for each, _ in pairs})
        self._must_be_rewritten()
        return notifications

    def _remove(self, plain_id: str, *, message: int | None) -> int:
        """Remove the notifications of a submission, and return how many; rename the submission."""
        name = pruned_name(plain_id)
        known = self._execute(
            "UPDATE OR IGNORE submissions SET tracking_id = ?, recipient = NULL, message = ?"
            " WHERE tracking_id = ? AND message IS ?",
            (name, message or 0, plain_id, message),
        )
        if not known.rowcount:  # the id is another message's, or was pruned before
            known = self._execute(
                "DELETE FROM submissions WHERE tracking_id = ? AND message IS ?",
                (plain_id, message),
            )
        if not known.rowcount:
            return 0
        return int(self._execute("DELETE FROM events WHERE tracking_id = ?", (plain_id,)).rowcount)

    def _prune_attempts(self, messages: Collection[int]) -> None:
        """Remove the attempts of messages, except those that a summary counts."""
        for message in messages:
            self._execute(
                "DELETE FROM attempts WHERE message = ? AND state <> 'not_sent'", (message,)
            )
            self._execute(
                "UPDATE attempts SET recipient = '', text_digest = NULL, history_id = NULL"
                " WHERE message = ?",
                (message,),
            )

    def prune_notifications(self, before: float) -> int:
        """Remove some notifications that have no message, and return how many."""
        found = self._execute(
            f"DELETE FROM events WHERE id IN (SELECT id {DIALECT.old_texts} LIMIT {_AT_ONCE})",
            (before,),
        )
        count = int(found.rowcount)
        rows = self._execute(
            f"SELECT tracking_id {DIALECT.old_submissions} LIMIT {_AT_ONCE}", (before,)
        ).fetchall()
        count += sum(self._remove(plain_id, message=None) for (plain_id,) in rows)
        if count:
            self._must_be_rewritten()
        return count

    # What comes for pruned messages.

    def intents_not_pruned(self, intents: list[SendIntent]) -> list[SendIntent]:
        """Return the intents whose keys are not of pruned messages."""
        if not (intents and self.is_pruned()):
            return intents
        found = self._over(
            "SELECT key FROM (VALUES {}) JOIN messages ON key = column1",
            [(pruned_name(intent.key),) for intent in intents],
        )
        names = {name for (name,) in found}
        return [intent for intent in intents if pruned_name(intent.key) not in names]

    def notifications_not_pruned(
        self, notifications: Sequence[StoredNotification]
    ) -> Sequence[StoredNotification]:
        """Return the notifications that are not for pruned messages; call it if there are any."""
        ids = {each.tracking_id for each in notifications} - {None}
        names = {pruned_name(id_ or ""): id_ for id_ in ids}
        found = self._over(
            "SELECT tracking_id FROM (VALUES {}) JOIN submissions ON tracking_id = column1"
            f" WHERE NOT {_IS_GIVEN_AGAIN}",
            list(names.items()),
        )
        of_pruned = {names[name] for (name,) in found}
        return [each for each in notifications if each.tracking_id not in of_pruned]

    def _must_be_rewritten(self) -> None:
        self._execute("UPDATE pruned SET to_rewrite = 1")
