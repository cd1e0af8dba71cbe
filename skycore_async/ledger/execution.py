"""Run a group of commands over a store: read rows, ask the rules, write rows.

Strategy: the commands of a group go together by their kind, so that many cost a few
statements.  Nearly every message is new when it is begun, and has had nothing come for
it when it ends: those are written without being read.  The others are read, and
`rules` decides.

Rules:

* A group is run within one transaction, which is not this module's: either all of
  it is written or nothing.
* Two commands about one key are run one after the other, and so are two outcomes with
  one tracking id.
* What a command is meant to raise is kept for its caller, and costs the others nothing.
* Who opted out is written once a group, so that a store can write numbers in one order.
* Whatever a group was about leaves the doubts of its numbers settled, as far as they
  can be.  Of two that come together and could each be meant, neither is the first.
* `touched` has the keys and tracking ids that were changed, for those who wait for them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from ..notifications import Notification
from . import rules, settlement
from .commands import (
    Begin,
    Finish,
    KeepAlive,
    LedgerCommand,
    PendingCommand,
    Query,
    Record,
    SetOptOut,
)
from .model import MessageRecord, MessageState, StoredNotification
from .opt_outs import OptOut, opt_out_of, opt_out_told_by
from .store import FinishedMessage, LedgerStore


class CommandExecutor:
    """Run commands over `store`; `clock` gives seconds since 1970.

    A postback settles a doubt within `settle_within` seconds of its intent.
    """

    def __init__(
        self, store: LedgerStore, *, clock: Callable[[], float], settle_within: float
    ) -> None:
        self._store = store
        self._clock = clock
        self._settle_within = settle_within
        self._unsettled: set[str] = set()
        self._opt_outs: list[OptOut] = []
        self.touched: set[str] = set()

    def run(self, group: Iterable[PendingCommand]) -> None:
        """Run the commands of a group, and keep with each what comes of it."""
        left = list(group)
        for pending in left:
            pending.reset()
        while left:
            left = self._run_some(left)
        if self._opt_outs:
            self._store.write_opt_outs(self._opt_outs)
            self._opt_outs.clear()
        self._settle()

    def forget(self) -> set[str]:
        """Return what was touched, and be ready for another transaction."""
        touched, self.touched = self.touched, set()
        self._unsettled.clear()
        self._opt_outs.clear()
        return touched

    def interrupt(self) -> None:
        """Bring into doubt what is under way and nobody alive is sending."""
        for key, number in self._store.interrupt():
            self.touched.add(key)
            self._unsettled.add(number)
        self._unsettled |= self._store.unsettled_numbers()
        self._settle()

    def _run_some(self, group: Sequence[PendingCommand]) -> list[PendingCommand]:
        """Run the first command about each key, and return the others."""
        first, later = _first_of_each_key(group)
        if finishes := [each.command for each in first if isinstance(each.command, Finish)]:
            self._finish(finishes)
        begins = [(each, each.command) for each in first if isinstance(each.command, Begin)]
        if begins:
            self._begin(begins)
        if records := [each.command for each in first if isinstance(each.command, Record)]:
            self._record([each for command in records for each in command.notifications])
        for pending in first:
            if not isinstance(pending.command, Finish | Begin | Record):
                self._run_one(pending, pending.command)
        return later

    def _run_one(self, pending: PendingCommand, command: LedgerCommand[object]) -> None:
        with pending:
            if isinstance(command, Query):
                pending.result = command.answer(self._store)
            elif isinstance(command, SetOptOut):
                said = OptOut(number=command.number, out=command.out, at=self._clock())
                self._opt_outs.append(said)
            elif isinstance(command, KeepAlive):
                self.interrupt()
            else:
                raise TypeError(f"a ledger has no command {type(command).__name__}")

    # Sending.

    def _begin(self, begins: Sequence[tuple[PendingCommand, Begin]]) -> None:
        inserted = self._store.insert_new([command for _, command in begins])
        if len(inserted) < len(begins):
            self._begin_again([each for each in begins if each[1].intent.key not in inserted])

    def _begin_again(self, begins: Sequence[tuple[PendingCommand, Begin]]) -> None:
        records = self._store.messages_to_change([command.intent.key for _, command in begins])
        opted_out = self._store.opted_out([command.intent.to for _, command in begins])
        begun: list[MessageRecord] = []
        for pending, command in begins:
            with pending:
                record = records.get(command.intent.key)
                decided = rules.begin(
                    record,
                    command.intent,
                    resend_in_doubt=command.resend_in_doubt,
                    ignore_opt_out=command.ignore_opt_out,
                    is_opted_out=command.intent.to in opted_out,
                    attempt=command.attempt,
                )
                if isinstance(decided, MessageRecord):
                    begun.append(decided)
                else:
                    pending.result = decided
        if begun:
            self._store.update(begun)

    def _finish(self, finishes: Sequence[Finish]) -> None:
        now = self._clock()
        finished = list(self._store.finish_usual(finishes, ended_at=now))
        if len(finished) < len(finishes):
            usual = {each.key for each in finished}
            others = [command for command in finishes if command.key not in usual]
            finished += self._finish_again(others, ended_at=now)
        codes = {command.key: command.submission.code for command in finishes}
        for each in finished:
            self.touched.add(each.key)
            if each.has_unmatched or each.state is MessageState.IN_DOUBT:
                self._unsettled.add(each.to)
            if opt_out := opt_out_told_by(codes[each.key], number=each.to, at=now):
                self._opt_outs.append(opt_out)
        self.update_states([each.id for each in finished if each.has_notifications])

    def _finish_again(
        self, finishes: Sequence[Finish], *, ended_at: float
    ) -> Sequence[FinishedMessage]:
        records = self._store.messages_to_change([command.key for command in finishes])
        decided = [
            rules.finish(
                records[command.key],
                command.submission,
                ended_at=ended_at,
                attempt=command.attempt,
            )
            for command in finishes
            if command.key in records
        ]
        finished = [record for record in decided if record is not None]
        if not finished:
            return ()
        self._store.update(finished)
        return self._store.submit(finished)

    # Postbacks.

    def _record(self, notifications: Iterable[Notification]) -> None:
        received = self._clock()
        kept: dict[bytes, tuple[StoredNotification, Notification]] = {}
        for notification in notifications:
            stored = settlement.stored(notification, received=received)
            kept.setdefault(stored.identity, (stored, notification))
        new = self._store.insert_notifications([stored for stored, _ in kept.values()])
        added = [each for identity, each in kept.items() if identity in new]
        self._place([stored for stored, _ in added])
        told = [opt_out_of(notification, received=received) for _, notification in added]
        self._opt_outs += [each for each in told if each is not None]

    def _place(self, notifications: Sequence[StoredNotification]) -> None:
        """Find the messages that new notifications are about."""
        recipients: dict[str, str | None] = {}
        for stored in notifications:
            if stored.tracking_id is not None:
                recipients[stored.tracking_id] = recipients.get(stored.tracking_id) or stored.to
        if not recipients:
            return
        messages = self._store.submissions(recipients)
        self.update_states([id_ for id_ in messages.values() if id_ is not None])
        for stored in notifications:
            if stored.tracking_id is not None and messages[stored.tracking_id] is None:
                self._unsettled.update({stored.to} - {None})  # type: ignore[arg-type]

    def update_states(self, ids: Collection[int]) -> None:
        """Bring the states of messages up to their notifications."""
        if not ids:
            return
        notifications = self._store.notifications_of(ids)
        records = self._store.messages_by_id(ids)
        self._store.update(
            [settlement.derive(record, notifications.get(record.id, ())) for record in records]
        )
        for record in records:
            self.touched.update(name for name in (record.key, record.tracking_id) if name)

    def _settle(self) -> None:
        numbers, self._unsettled = sorted(self._unsettled), set()
        for number in numbers:
            undecided = self._store.undecided(number)
            if all(record.state is MessageState.SENDING for record in undecided):
                continue
            unmatched = self._store.unmatched(number)
            pairs = settlement.match_doubts(undecided, unmatched, within=self._settle_within)
            if pairs:
                by_id = {record.id: record for record in undecided}
                self._store.match({tracking_id: id_ for id_, tracking_id in pairs})
                self._store.update(
                    [settlement.settle(by_id[id_], tracking_id) for id_, tracking_id in pairs]
                )
                self.update_states([id_ for id_, _ in pairs])


def _first_of_each_key(
    group: Sequence[PendingCommand],
) -> tuple[list[PendingCommand], list[PendingCommand]]:
    """Part a group into the first command about each key and tracking id, and the rest."""
    first: list[PendingCommand] = []
    later: list[PendingCommand] = []
    keys: set[str] = set()
    tracking_ids: set[str | None] = set()
    for pending in group:
        command = pending.command
        tracking_id = None
        if isinstance(command, Begin):
            key = command.intent.key
        elif isinstance(command, Finish):
            key, tracking_id = command.key, command.submission.tracking_id
        else:
            first.append(pending)
            continue
        is_second = key in keys or tracking_id in tracking_ids
        (later if is_second else first).append(pending)
        # Of those that come later, too: their order stays.
        keys.add(key)
        if tracking_id is not None:
            tracking_ids.add(tracking_id)
    return first, later
