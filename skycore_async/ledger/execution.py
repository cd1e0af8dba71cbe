"""Run a group of commands over a store: read rows, ask the rules, write rows.

Strategy: commands of one kind run together, so that many cost a few statements.  Nearly every
message is new when it begins, and no notification has come for it when it ends: such rows are
written without being read.  The others are read, and `rules` decides.

Rules:

* The caller runs a group within one transaction: either all of it is written, or nothing.
* Two commands about one key run one after the other, and so do two outcomes with one tracking id.
* An error that a command is meant to raise is kept for its caller, and the others are run.
* Opt-outs are written once a group, so that a store can write numbers in one order.
* Doubts are settled once, after all commands of a group, so the order of commands does not matter.
* `touched` has what was changed, for those who wait for it: keys, tracking ids in their plain
  form, and `CHANGED` if an opt-out or opt-in was written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from operator import attrgetter

import attrs

from ..notifications import Notification
from ..protocol.numbers import ending
from . import attempts, rules, settlement
from .commands import (
    Begin,
    Finish,
    KeepAlive,
    LedgerCommand,
    PendingCommand,
    Query,
    Record,
    SetOptOut,
    TellOptOuts,
)
from .model import EarlierAttempt, MessageRecord, MessageState, StoredNotification
from .opt_outs import (
    CHANGED,
    OptOut,
    OptOutRule,
    all_spellings,
    latest_entry,
    may_be_sent_to,
    opt_out_by_code,
    opt_out_of,
    relayed,
)
from .report_commands import RecordReportRequest, SettleByReport
from .report_values import AttemptDecision, DoubtDecision
from .store import Finished, LedgerStore, StoreCommand


class CommandExecutor:
    """Run commands over `store`; `clock` returns seconds since 1970.

    A postback settles a doubt within `settle_within` seconds of its intent.  `opt_out_rule`
    decides about texts that are not surely STOP.
    """

    def __init__(
        self,
        store: LedgerStore,
        *,
        clock: Callable[[], float],
        settle_within: float,
        opt_out_rule: OptOutRule | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._settle_within = settle_within
        self._opt_out_rule = opt_out_rule
        self._unsettled: set[str] = set()
        self._opt_outs: list[OptOut] = []
        self.touched: set[str] = set()

    def run(self, group: Iterable[PendingCommand]) -> None:
        """Run the commands of a group, and keep the result or error of each with it."""
        left = list(group)
        for pending in left:
            pending.result = pending.error = None  # as a transaction was rolled back before
        try:
            while left:
                left = self._run_some(left)
            self._write_opt_outs()
            self._settle()
            self._store.write_counts()
        except BaseException:
            self._store.forget_counts()
            raise

    def forget(self) -> set[str]:
        """Return what was touched, and start over for another transaction."""
        touched, self.touched = self.touched, set()
        self._unsettled.clear()
        self._opt_outs.clear()
        return touched

    def interrupt(self) -> None:
        """Put in doubt what is under way and no live process is sending."""
        self.touched.update(self._store.interrupt(at=self._clock()))
        self._unsettled |= self._store.unsettled_endings()
        self._settle()
        self._store.write_counts()

    def _run_some(self, group: Sequence[PendingCommand]) -> list[PendingCommand]:
        """Run the first command about each key, and return the others."""
        first = _FirstOfEachKey(group)
        if first.finishes:
            self._finish(first.finishes)
        if first.begins:
            self._begin(first.begins)
        if first.records:
            now = self._clock()
            self._record([(each, now) for of in first.records for each in of.notifications])
        for pending in first.others:
            self._run_one(pending, pending.command)
        return first.later

    def _run_one(self, pending: PendingCommand, command: LedgerCommand[object]) -> None:
        with pending:
            if isinstance(command, Query):
                pending.result = command.answer(self._store)
            elif isinstance(command, SetOptOut):
                said = OptOut(number=command.number, out=command.out, at=self._clock())
                self._opt_outs.append(said)
            elif isinstance(command, TellOptOuts):
                self._opt_outs += relayed(command.entries)
            elif isinstance(command, KeepAlive):
                self.interrupt()
            elif isinstance(command, StoreCommand):
                pending.result = command.run(self._store, self._clock())
            elif isinstance(command, RecordReportRequest):
                self._store.insert_report_request(command.request)
            elif isinstance(command, SettleByReport):
                pending.result = self._settle_by_report(command.decisions)
            else:
                raise TypeError(f"a ledger has no command {type(command).__name__}")

    # Sending.

    def _begin(self, begins: Sequence[tuple[PendingCommand, Begin]]) -> None:
        inserted = self._store.insert_new([command for _, command in begins])
        if len(inserted) < len(begins):
            self._begin_again([each for each in begins if each[1].intent.key not in inserted])

    def _begin_again(self, begins: Sequence[tuple[PendingCommand, Begin]]) -> None:
        records = self._store.messages_to_change([command.intent.key for _, command in begins])
        entries = self._store.opt_outs(all_spellings([command.intent.to for _, command in begins]))
        begun: list[MessageRecord] = []
        earlier: list[EarlierAttempt] = []
        for pending, command in begins:
            with pending:
                record = records.get(command.intent.key)
                decided = rules.begin(
                    record,
                    command.intent,
                    resend_in_doubt=command.resend_in_doubt,
                    ignore_opt_out=command.ignore_opt_out,
                    is_opted_out=not may_be_sent_to(command.intent.to, entries),
                    attempt=command.attempt,
                )
                if isinstance(decided, MessageRecord):
                    begun.append(decided)
                    if record and (left := attempts.left_behind(record, now=decided.started_at)):
                        earlier.append(left)
                else:
                    pending.result = decided
        if begun:
            turns = self._store.next_turns(len(begun))
            self._store.update(
                [attrs.evolve(of, turn=turn) for of, turn in zip(begun, turns, strict=True)]
            )
        if earlier:
            self._store.insert_attempts(earlier)

    def _finish(self, finishes: Sequence[Finish]) -> None:
        now = self._clock()
        usual = self._store.finish_usual(finishes, ended_at=now)
        self._finished(finishes, usual, at=now)
        if len(usual.keys) < len(finishes):
            others = [command for command in finishes if command.key not in usual.keys]
            self._finish_again(others, ended_at=now)

    def _finish_again(self, finishes: Sequence[Finish], *, ended_at: float) -> None:
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
        ended = [record for record in decided if record is not None]
        if ended:
            self._store.update(ended)
            self._finished(finishes, self._store.submit(ended), at=ended_at)

    def _finished(self, finishes: Sequence[Finish], found: Finished, *, at: float) -> None:
        """Note what follows from outcomes that were written, and update states."""
        self.touched.update(found.keys)
        self._unsettled.update(found.unsettled)
        for command in finishes:
            if not command.submission.code:
                continue
            number = found.numbers.get(command.key)
            if number and (said := opt_out_by_code(command.submission.code, number=number, at=at)):
                self._opt_outs.append(said)
        self.update_states(found.with_notifications)

    # Postbacks.

    def _write_opt_outs(self) -> None:
        """Write which entry now counts of each number with a new one, in one order."""
        new: dict[str, list[OptOut]] = {}
        for each in sorted(self._opt_outs, key=attrgetter("number")):
            new.setdefault(each.number, []).append(each)
        self._opt_outs.clear()
        if new:
            self.touched.add(CHANGED)
            now = self._clock()
            self._store.insert_opt_outs([first for first, *_ in new.values()])
            known = self._store.opt_outs_to_change(new)
            latest = [latest_entry(known[number], said, now=now) for number, said in new.items()]
            self._store.update_opt_outs([each for each in latest if each != known[each.number]])

    def _record(
        self, notifications: Iterable[tuple[Notification, float]], *, were_kept: bool = False
    ) -> None:
        """Write notifications, each with when it came; `were_kept` if an inbox had them since."""
        kept: dict[bytes, tuple[StoredNotification, Notification]] = {}
        for notification, received in notifications:
            stored = settlement.stored(notification, received=received)
            kept.setdefault(stored.identity, (stored, notification))
        new = self._store.insert_notifications([stored for stored, _ in kept.values()])
        added = [each for identity, each in kept.items() if identity in new]
        self._place([stored for stored, _ in added])
        rule = self._opt_out_rule
        found = [opt_out_of(each, received=stored.received, rule=rule) for stored, each in added]
        said = [each for each in found if each is not None]
        self._opt_outs += relayed(said) if were_kept else said

    def _place(self, notifications: Sequence[StoredNotification]) -> None:
        """Find the messages of new notifications, and update their states."""
        recipients: dict[str, str | None] = {}
        for stored in notifications:
            if stored.tracking_id is not None:
                recipients[stored.tracking_id] = recipients.get(stored.tracking_id) or stored.to
        if not recipients:
            return
        messages = self._store.submissions(recipients)
        self.update_states([id_ for id_ in messages.values() if id_ is not None])
        for stored in notifications:
            # A tracking id without a message is None here, and that of a pruned one is missing.
            if messages.get(stored.tracking_id or "", 0) is None:
                self._unsettled.update({stored.to} - {None})  # type: ignore[arg-type]

    def _settle_by_report(self, decisions: Sequence[DoubtDecision]) -> frozenset[str]:
        """Write what a report proved of messages still in doubt, and return their keys."""
        unsent = [each.seen.key for each in decisions if each.state is MessageState.NOT_SENT]
        self._store.reopen_chunks(unsent)
        records = self._store.messages_to_change([each.seen.key for each in decisions])
        settled: dict[str, MessageRecord] = {}
        earlier: list[AttemptDecision] = []
        for decision in decisions:
            record = records.get(decision.seen.key)
            if record and (after := attempts.settle_by_report(record, decision)):
                settled[record.key] = after
                earlier += decision.earlier
                self.touched.add(record.key)
                self._unsettled.add(record.to)
        self._store.update(list(settled.values()))
        self._store.update_attempts(earlier)
        return frozenset(settled)

    def update_states(self, ids: Collection[int]) -> None:
        """Update the states of messages by their notifications."""
        if not ids:
            return
        told = self._store.told_of(ids)
        progress = {id_: settlement.progress_by(told.get(id_, [])) for id_ in ids}
        self.touched.update(self._store.write_progress(progress))

    def _settle(self) -> None:
        endings, self._unsettled = sorted(set(map(ending, self._unsettled))), set()
        for each in endings:
            # Nearly always there is nothing to settle: find that out before locking any row.
            if self._store.may_settle(each) and self._settled(each, is_locked=False):
                settled = self._settled(each, is_locked=True)
                self._store.match({plain_id: record.id for plain_id, record in settled.items()})
                self._store.update(list(settled.values()))
                self.update_states([record.id for record in settled.values()])

    def _settled(self, ending: str, *, is_locked: bool) -> dict[str, MessageRecord]:
        """Return records as they are once settled, of numbers with this ending, by plain id."""
        candidates = self._store.candidates(ending, is_locked=is_locked)
        unmatched = self._store.unmatched(ending)
        by_id = {record.id: record for record in candidates}
        of = {submission.plain_id: submission for submission in unmatched}
        pairs = settlement.match_doubts(
            candidates,
            unmatched,
            within=self._settle_within,
            after=self._store.pruned_until(),
        )
        return {plain_id: settlement.settle(by_id[id_], of[plain_id]) for id_, plain_id in pairs}


class _FirstOfEachKey:
    """The first command about each key and tracking id in a group, by kind, and the rest."""

    def __init__(self, group: Sequence[PendingCommand]) -> None:
        self.begins: list[tuple[PendingCommand, Begin]] = []
        self.finishes: list[Finish] = []
        self.records: list[Record] = []
        self.others: list[PendingCommand] = []
        self.later: list[PendingCommand] = []
        keys: set[str] = set()
        plain_ids: set[str | None] = set()
        for pending in group:
            command = pending.command
            if isinstance(command, Begin):
                if command.intent.key in keys:
                    self.later.append(pending)
                else:
                    keys.add(command.intent.key)
                    self.begins.append((pending, command))
            elif isinstance(command, Finish):
                plain_id = command.submission.plain_id
                if command.key in keys or (plain_id is not None and plain_id in plain_ids):
                    self.later.append(pending)
                else:
                    self.finishes.append(command)
                # Also where it has to wait, so that what follows it waits behind it.
                keys.add(command.key)
                plain_ids.add(plain_id)
            elif isinstance(command, Record):
                self.records.append(command)
            else:
                self.others.append(pending)
