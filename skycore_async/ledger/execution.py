"""Run a group of commands over a store: read rows, ask the rules, write rows.

Strategy: the commands of a group go together by their kind, so that many cost a few
statements.  Nearly every message is new when it is begun, and has had nothing come for
it when it ends: those are written without being read.  The others are read, and
`rules` decides.

Rules:

* A group is run within one transaction, which is not this module's: either all of
  it is written or nothing.
* Two commands about one key are run one after the other.
* What a command is meant to raise is kept for its caller, and costs the others nothing.
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
    Lookup,
    LookupMany,
    PendingCommand,
    Query,
    Record,
    SetOptOut,
)
from .model import MessageRecord, MessageState, SendIntent, StoredNotification, Submission
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
        self.touched: set[str] = set()

    def run(self, group: Iterable[PendingCommand]) -> None:
        """Run the commands of a group, and keep with each what comes of it."""
        left = list(group)
        for pending in left:
            pending.reset()
        while left:
            left = self._run_some(left)
        self._settle()

    def interrupt(self) -> None:
        """Bring into doubt what is under way and nobody alive is sending."""
        for key, number in self._store.interrupt():
            self.touched.add(key)
            self._unsettled.add(number)
        self._unsettled |= self._store.unsettled_numbers()
        self._settle()

    def _run_some(self, group: Sequence[PendingCommand]) -> list[PendingCommand]:
        """Run the first command about each key, and return the others."""
        finishes: dict[str, tuple[PendingCommand, Finish]] = {}
        begins: dict[str, tuple[PendingCommand, Begin]] = {}
        lookups: list[tuple[PendingCommand, Lookup | LookupMany]] = []
        records: list[Record] = []
        later: list[PendingCommand] = []
        for pending in group:
            command = pending.command
            if isinstance(command, Finish):
                if command.key in finishes or command.key in begins:
                    later.append(pending)
                else:
                    finishes[command.key] = pending, command
            elif isinstance(command, Begin):
                if command.intent.key in finishes or command.intent.key in begins:
                    later.append(pending)
                else:
                    begins[command.intent.key] = pending, command
            elif isinstance(command, Lookup | LookupMany):
                lookups.append((pending, command))
            elif isinstance(command, Record):
                records.append(command)
            else:
                self._run_one(pending, command)
        if finishes:
            self._finish([command for _, command in finishes.values()])
        if begins:
            self._begin(list(begins.values()))
        if records:
            self._record([each for command in records for each in command.notifications])
        if lookups:
            self._look_up(lookups)
        return later

    def _run_one(self, pending: PendingCommand, command: LedgerCommand[object]) -> None:
        if isinstance(command, SetOptOut):
            said = OptOut(number=command.number, out=command.out, at=self._clock())
            self._store.write_opt_outs([said])
        elif isinstance(command, KeepAlive):
            self.interrupt()
        elif isinstance(command, Query):
            pending.result = command.answer(self._store)
        else:
            raise TypeError(f"a ledger has no command {type(command).__name__}")

    # Sending.

    def _look_up(self, lookups: Sequence[tuple[PendingCommand, Lookup | LookupMany]]) -> None:
        keys = {intent.key for _, command in lookups for intent in _intents(command)}
        records = self._store.messages(keys)
        for pending, command in lookups:
            if isinstance(command, Lookup):
                with pending:
                    pending.result = _known(records, command.intent, command.resend_in_doubt)
            else:
                pending.result = found = {}
                for intent in command.intents:
                    with PendingCommand(command):  # a conflict is for `begin` to raise
                        known = _known(records, intent, command.resend_in_doubt)
                        if known is not None:
                            found[intent.key] = known

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
                is_opted_out = command.intent.to in opted_out
                decided = rules.begin(record, command, is_opted_out=is_opted_out)
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
                self._store.write_opt_outs([opt_out])
        self._update_states([each.id for each in finished if each.has_notifications])

    def _finish_again(
        self, finishes: Sequence[Finish], *, ended_at: float
    ) -> Sequence[FinishedMessage]:
        records = self._store.messages_to_change([command.key for command in finishes])
        decided = [
            rules.finish(records[command.key], command, ended_at=ended_at)
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
        if opt_outs := [each for each in told if each is not None]:
            self._store.write_opt_outs(opt_outs)

    def _place(self, notifications: Sequence[StoredNotification]) -> None:
        """Find the messages that new notifications are about."""
        recipients: dict[str, str | None] = {}
        for stored in notifications:
            if stored.tracking_id is not None:
                recipients[stored.tracking_id] = recipients.get(stored.tracking_id) or stored.to
        if not recipients:
            return
        messages = self._store.submissions(recipients)
        self._update_states([id_ for id_ in messages.values() if id_ is not None])
        for stored in notifications:
            if stored.tracking_id is not None and messages[stored.tracking_id] is None:
                self._unsettled.update({stored.to} - {None})  # type: ignore[arg-type]

    def _update_states(self, ids: Collection[int]) -> None:
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
                self._update_states([id_ for id_, _ in pairs])


def _intents(command: Lookup | LookupMany) -> Sequence[SendIntent]:
    return [command.intent] if isinstance(command, Lookup) else command.intents


def _known(
    records: dict[str, MessageRecord], intent: SendIntent, resend_in_doubt: bool
) -> Submission | None:
    record = records.get(intent.key)
    if record is None:
        return None
    known = rules.look_up(record, intent, resend_in_doubt=resend_in_doubt)
    return None if known is None or known.state is MessageState.SENDING else known
