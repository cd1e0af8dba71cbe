"""The same histories leave the same rows in memory, in SQLite and in PostgreSQL.

Strategy: random commands in random groups, each run as one transaction over every store by the
same executor. Then the tables are compared, without ids and what is PostgreSQL's alone. A
statement that repeats a rule is compared with the rule over rows in every state.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, cast

import attrs
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import postgres
from skycore_async.campaigns.campaigns import load
from skycore_async.errors import KeyConflict
from skycore_async.ledger import rules
from skycore_async.ledger.columns import ACCEPTANCE, INTENT, NOTIFICATION, OUTCOME, Columns
from skycore_async.ledger.commands import (
    Begin,
    Finish,
    LedgerCommand,
    ListOptOutCandidates,
    LookupMany,
    PendingCommand,
    Query,
    Record,
    SetOptOut,
    Summarize,
)
from skycore_async.ledger.counts import KIND
from skycore_async.ledger.execution import CommandExecutor
from skycore_async.ledger.list_commands import CountMessages, ListLines
from skycore_async.ledger.model import (
    BY_REPORT,
    Attempt,
    EarlierAttempt,
    MessageRecord,
    MessageState,
    SendIntent,
    Submission,
)
from skycore_async.ledger.postgres import campaign_messages
from skycore_async.ledger.postgres.reader import PostgresReader
from skycore_async.ledger.postgres.store import PostgresStore
from skycore_async.ledger.prune_commands import (
    BeginPruning,
    CountPrunable,
    CountPrunableBeside,
    PruneMessages,
    PruneNotifications,
)
from skycore_async.ledger.reader import LedgerReader
from skycore_async.ledger.report_commands import (
    ListReportRequests,
    RecordReportRequest,
    SettleByReport,
)
from skycore_async.ledger.report_values import AttemptDecision, DoubtDecision, ReportRequest
from skycore_async.ledger.settlement import SETTLE_WITHIN
from skycore_async.ledger.sqlite.memory import BoundedStore
from skycore_async.ledger.sqlite.schema import migrate
from skycore_async.ledger.sqlite.store import SQLiteStore
from skycore_async.ledger.store import LedgerStore, StoreCommand
from skycore_async.messages import SMS
from skycore_async.postgres.schema import migrate as make_tables
from skycore_async.protocol.numbers import ending
from tests.support.ledger_cases import (
    BLOCKED,
    DELIVERED,
    DOUBT,
    EXPIRED,
    NOON,
    NOT_SENT,
    OTHER,
    REJECTED,
    SENT,
    TO,
    accepted,
    intent,
    notice,
    said,
)

Command = LedgerCommand[Any]
MESSAGE = Columns(MessageRecord, without=("id", "turn", "session", "attempt"))
ATTEMPT = Columns(EarlierAttempt, without=("id", "message", "turn"))
HAS_TURN = "turn IS NOT NULL"  # the order of turns is the same, and they are not


@attrs.frozen
class ReportDecision(LedgerCommand[frozenset[str]]):
    """A report's decision about a key that is or was in doubt."""

    key: str
    history_id: str | None
    is_stale: bool


@attrs.frozen
class PruneAll(StoreCommand[object]):
    """Prune all that may be pruned, and return how much that was."""

    def run(self, store: LedgerStore, now: float) -> object:
        before = BeginPruning(older_than=-40).run(store, now).before
        return (
            CountPrunable(before=before, after=0).answer(store),
            CountPrunableBeside(before=before).answer(store),
            PruneMessages(before=before, after=0).run(store, now),
            PruneNotifications(before=before).run(store, now),
            store.pruned_until(),
        )


@attrs.frozen
class ListDoubtKeys(Query[object]):
    """List the values that reports are compared with, which every store has alike."""

    def answer(self, store: LedgerReader) -> object:
        doubts = [(each.record.key, each.record.text_digest) for each in store.doubts(0).rows]
        rows = store.begun(0, 0).rows
        begun = [
            each._replace(id=0, turn=0, doubted=bool(each.doubted), untaken=bool(each.untaken))
            for each in rows
        ]
        earlier = [ATTEMPT.row(each) for each in store.earlier_attempts(0).rows]
        last = store.accepted_before(NOON + 1)
        return sorted(doubts), sorted(map(repr, begun)), sorted(map(repr, earlier)), last


@attrs.frozen
class ListCounted(Query[object]):
    """List rows and counts as a report does, in an order that every store has alike."""

    def answer(self, store: LedgerReader) -> object:
        page = CountMessages(step=60, after=0).answer(store)
        lines = [ListLines(state=state, after=0).answer(store).rows for state in MessageState]
        parts = page.begun, page.ended.items(), page.times, *lines
        return [sorted(part, key=repr) for part in parts]


def decision_command(command: ReportDecision, store: Any) -> LedgerCommand[Any]:
    """Return the command that applies the decision to the message in this store."""
    record = store.messages([command.key]).get(command.key)
    if record is None:
        return SettleByReport(decisions=())
    if command.is_stale:
        record = attrs.evolve(record, started_at=record.started_at - 1)
    state = MessageState.ACCEPTED if command.history_id else MessageState.NOT_SENT
    earlier = [each for each in store.earlier_attempts(0).rows if each.message == record.id]
    return SettleByReport(
        decisions=(
            DoubtDecision(
                seen=record,
                state=state,
                history_id=command.history_id,
                earlier=tuple(AttemptDecision(id=each.id, state=state) for each in earlier),
            ),
        )
    )


KEYS = st.sampled_from("abcd")
NUMBERS = st.sampled_from((TO, OTHER, TO[1:]))  # the last is the first within its country
TRACKING_IDS = st.sampled_from(("T1", "SMS_2", "U01TXzI=", "T3"))
COMMANDS = st.one_of(
    st.builds(
        lambda key, number, content, resend, ignore: Begin(
            intent=attrs.evolve(intent(key, content, number), text_digest=content),
            resend_in_doubt=resend,
            ignore_opt_out=ignore,
        ),
        KEYS,
        NUMBERS,
        st.sampled_from((b"one", b"one", b"two")),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        lambda key, submission: Finish(key=key, submission=submission),
        KEYS,
        st.sampled_from(
            (
                accepted("T1"),
                accepted("SMS_2"),
                accepted("U01TXzI="),
                DOUBT,
                DOUBT,
                NOT_SENT,
                REJECTED,
                BLOCKED,
            )
        ),
    ),
    st.builds(
        lambda what, tracking_id, number, sender, after, history_id: Record(
            notifications=(
                notice(
                    what,
                    tracking_id,
                    to=number,
                    from_=sender,
                    after=after,
                    history_id=history_id,
                ),
            )
        ),
        st.sampled_from((SENT, DELIVERED, EXPIRED)),
        TRACKING_IDS,
        NUMBERS,
        st.sampled_from(("60856", None)),
        st.sampled_from((1, 30, 5000)),
        st.sampled_from((None, None, "H1", "H2")),
    ),
    st.builds(
        ReportDecision,
        KEYS,
        st.sampled_from((None, None, "H1", "H2")),
        st.sampled_from((False, False, False, True)),
    ),
    st.builds(
        lambda at, refused: RecordReportRequest(
            request=ReportRequest(at, refused=refused, retry_after=5.0)
        ),
        st.sampled_from((1.0, 2.0)),
        st.booleans(),
    ),
    st.builds(ListReportRequests),
    st.builds(ListDoubtKeys),
    st.builds(ListCounted),
    st.builds(
        lambda text, number: Record(notifications=(said(text, from_=number),)),
        st.sampled_from(("STOP", "START", "Hello", "stop it")),
        NUMBERS,
    ),
    st.builds(SetOptOut, number=NUMBERS, out=st.booleans()),
    st.builds(lambda key: LookupMany(intents=(intent(key),)), KEYS),
    st.builds(Summarize),
    st.builds(PruneAll),
    st.builds(ListOptOutCandidates, after=st.just(0)),
)


class CheckedExecutor(CommandExecutor):
    """An executor that compares cheap checks with what `match_doubts` says."""

    def _settle(self) -> None:
        for each in set(map(ending, self._unsettled)):
            assert self._store.may_settle(each) or not self._settled(each, is_locked=False)
        super()._settle()


@contextmanager
def in_sqlite(make: Callable[[Any], SQLiteStore]) -> Iterator[tuple[SQLiteStore, Any, str]]:
    """Open a store over new tables in SQLite."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        yield make(connection), connection, ""


@contextmanager
def in_postgres(dsn: str) -> Iterator[tuple[PostgresStore, Any, str]]:
    """Open a store over empty tables in PostgreSQL.

    Its ids begin at 1, as in SQLite, and its session is alive.
    """
    with psycopg.connect(dsn) as connection:
        connection.execute("ALTER TABLE skycore.messages ALTER id RESTART")
        connection.execute(
            "INSERT INTO skycore.sessions (id, alive_until, oldest_attempt)"
            " VALUES (1, now() + interval '1 hour', 1)"
        )
        yield PostgresStore(connection), connection, "skycore."
        connection.rollback()


def rows(connection: Any, schema: str) -> dict[str, list[tuple[Any, ...]]]:
    """Read the tables, with keys of messages in place of their ids."""
    columns = {
        "messages": MESSAGE.listed.replace("doubted", "coalesce(doubted, false)")
        + f", {HAS_TURN}",
        "attempts": f"key, {ATTEMPT.of('attempts')}, attempts.{HAS_TURN}",
        "submissions": "submissions.tracking_id, submissions.recipient, key",
        "events": NOTIFICATION.listed,
        "opt_outs": "number, out, at, stamped",
        "look_ups": "asked_at, refused, retry_after",
    }
    of_message = f" LEFT JOIN {schema}messages ON messages.id = message"
    joined = {"submissions": of_message, "attempts": of_message}
    found = {}
    for table, listed in columns.items():
        cursor = connection.execute(f"SELECT {listed} FROM {schema}{table}{joined.get(table, '')}")  # noqa: S608
        plain = [
            tuple(int(value) if isinstance(value, bool) else value for value in row)
            for row in cursor.fetchall()
        ]
        found[table] = sorted(plain, key=repr)
    return found


def kept(connection: Any) -> list[tuple[Any, ...]]:
    """Return the stored counts of messages."""
    return sorted(connection.execute("SELECT * FROM counts WHERE messages <> 0"))


def recounted(connection: Any) -> list[tuple[Any, ...]]:
    """Count the messages afresh."""
    return sorted(
        connection.execute(f"SELECT {KIND}, count(*) FROM messages GROUP BY 1, 2, 3, 4")  # noqa: S608
    )


def with_attempts(
    commands: Sequence[Command], connection: Any, count: Iterator[int]
) -> list[Command]:
    """Give each begun attempt a new number, as a PostgreSQL ledger does."""
    known = {
        key: Attempt(session=session, number=number)
        for key, session, number in connection.execute(
            "SELECT key, session, attempt FROM skycore.messages"
        )
    }
    named: list[Command] = []
    for command in commands:
        if isinstance(command, Begin):
            made = Attempt(session=1, number=next(count))
            named.append(attrs.evolve(command, attempt=made))
        elif isinstance(command, Finish):
            named.append(attrs.evolve(command, attempt=known.get(command.key)))
        else:
            named.append(command)
    return named


def one_a_key(commands: Sequence[Command]) -> list[Command]:
    """Leave out groups that begin and end one message at once."""
    kept: list[Command] = []
    seen: set[str] = set()
    for command in commands:
        key = command.intent.key if isinstance(command, Begin) else None
        key = command.key if isinstance(command, Finish | ReportDecision) else key
        if key is None or key not in seen:
            kept.append(command)
        seen |= {key} if key else set()
    return kept


@pytest.fixture(scope="module")
def shared_dsn() -> Iterator[str]:
    """Return the DSN of a database for all histories, each of which rolls back."""
    server = postgres.shared()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE parity")
        with psycopg.connect(server.dsn("parity"), autocommit=True) as fresh:
            make_tables(fresh)
        yield server.dsn("parity")
        connection.execute("DROP DATABASE parity WITH (FORCE)")


def comparable(result: object) -> object:
    """Return a command's result in a form in which equal errors compare equal."""
    if not isinstance(result, dict):
        return result
    found = cast("dict[str, object]", result)
    return {
        key: repr(each) if isinstance(each, Exception) else each for key, each in found.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 6])
@settings(max_examples=60)
@given(commands=st.lists(COMMANDS, max_size=30))
def test_the_same_history_leaves_the_same_rows(
    shared_dsn: str, size: int, commands: Sequence[Command]
) -> None:
    """A history leaves the same rows in memory, SQLite and PostgreSQL, grouped or not."""
    with ExitStack() as opened:
        stores: list[tuple[Any, Any, str]] = [
            opened.enter_context(in_sqlite(SQLiteStore)),
            opened.enter_context(in_sqlite(lambda each: BoundedStore(each, capacity=100))),
            opened.enter_context(in_postgres(shared_dsn)),
        ]
        executors = [
            CheckedExecutor(store, clock=lambda: NOON + 60, settle_within=SETTLE_WITHIN)
            for store, _, _ in stores
        ]
        numbers = itertools.count(1)
        for first in range(0, len(commands), size):
            some = one_a_key(commands[first : first + size])
            answers = []
            for executor, (executor_store, connection, schema) in zip(
                executors, stores, strict=True
            ):
                named = with_attempts(some, connection, numbers) if schema else some
                named = [
                    decision_command(each, executor_store)
                    if isinstance(each, ReportDecision)
                    else each
                    for each in named
                ]
                group = [PendingCommand(command) for command in named]
                executor.run(group)
                answers.append([(comparable(each.result), repr(each.error)) for each in group])
            assert answers[0] == answers[1] == answers[2]
            for store, connection, schema in stores:
                if not schema:
                    assert kept(connection) == recounted(connection)
                    assert store.summary() == PostgresReader(stores[2][1]).summary()
        tables = [rows(connection, schema) for _, connection, schema in stores]
        assert tables[0] == tables[1] == tables[2]


# Each message as it may be, but for what it is: its state, what settled it, whether it was ever in
# doubt, when it ended, and whose attempt it is.
SETTLED = {
    MessageState.NOT_SENT: (None, BY_REPORT),
    MessageState.REJECTED: (None, BY_REPORT),
    MessageState.ACCEPTED: (None, BY_REPORT),
}
KINDS = [
    (state, settled_by, doubted, ended_at, attempt)
    for state in MessageState
    for settled_by in SETTLED.get(state, (None,))
    for doubted in (False, True)
    for ended_at in (None, NOON + 1)
    for attempt in (1, 2)
    if not (state is MessageState.SENDING and ended_at)
]
OURS = Attempt(session=1, number=1)


def insert(connection: Any, schema: str, kinds: Sequence[tuple[Any, ...]]) -> list[str]:
    """Insert a message of each kind, and return their keys."""
    keys = [f"k{place:04}" for place in range(len(kinds))]
    columns = "key, content, recipient, sender, started_at, state, settled_by, doubted, ended_at"
    mark, more = ("%s", ", session, attempt") if schema else ("?", "")
    statement = (
        f"INSERT INTO {schema}messages ({columns}{more})"  # noqa: S608
        f" VALUES ({', '.join([mark] * (11 if schema else 9))})"
    )
    for key, (state, settled_by, doubted, ended_at, attempt) in zip(keys, kinds, strict=True):
        values = (key, b"one", TO, "60856", NOON, state.value, settled_by, doubted, ended_at)
        connection.execute(statement, (*values, 1, attempt) if schema else values)
    return keys


# By the type of a field that a message is begun with, or that its outcome writes.
SAMPLES: dict[str, Any] = {
    "str": "in words",
    "bytes": b"\2",
    "int": 7,
    "float": NOON + 7,
    "bool": True,
    "tuple[str, ...]": ("a", "b"),
    "Mapping[str, Any]": {"TO": TO, "N": 7},
}


def filled(columns: Columns[Any], value: Any, **but: Any) -> Any:
    """Return a submission with a value in each of these columns."""
    types = dict(zip(columns.fields, columns.types, strict=True))
    given = {name: SAMPLES[of] for name, of in types.items() if name not in {*but, "plain_id"}}
    return attrs.evolve(value, **given, **but)


@pytest.mark.parametrize("database", ["SQLite", "PostgreSQL"])
def test_what_a_message_is_begun_with_and_what_its_outcome_writes_is_kept(
    shared_dsn: str, database: str
) -> None:
    """Every field of an intent and of an outcome is stored."""
    again: dict[str, Any] = {"to": OTHER, "from_": None, "started_at": NOON + 8, "tags": ()}
    steps: list[tuple[SendIntent, Submission]] = [
        (
            filled(INTENT, intent(), key="k", to=TO),
            filled(OUTCOME, NOT_SENT, state=NOT_SENT.state),
        ),
        (filled(INTENT, intent(), key="k", **again), filled(ACCEPTANCE, accepted())),
    ]
    nothing: dict[str, Any] = {
        each.name: each.default
        for each in attrs.fields(MessageRecord)
        if each.name in OUTCOME.fields and each.name != "state"
    }
    with in_sqlite(SQLiteStore) if database == "SQLite" else in_postgres(shared_dsn) as opened:
        store, _, schema = opened
        executor = CommandExecutor(store, clock=lambda: NOON, settle_within=SETTLE_WITHIN)
        for number, (begun, ended) in enumerate(steps, 1):
            attempt = Attempt(session=1, number=number) if schema else None
            executor.run([PendingCommand(Begin(intent=begun, attempt=attempt))])
            before = store.messages(["k"])["k"]
            assert before == attrs.evolve(before, **INTENT.in_record(begun), **nothing)
            executor.run([PendingCommand(Finish(key="k", submission=ended, attempt=attempt))])
            after = store.messages(["k"])["k"]
            assert after == attrs.evolve(before, **OUTCOME.in_record(ended), ended_at=NOON)
            assert rules.submission_in(after) == ended


def test_an_outcome_that_is_written_unread_is_what_the_rule_says(shared_dsn: str) -> None:
    """`finish_usual` writes what `rules.finish` says, for a message in each state."""
    outcomes: list[Callable[[str], Submission]] = [
        accepted,
        lambda name: attrs.evolve(accepted(name), code="N1", info="odd", http_status=202),
        *(lambda _, each=each: each for each in (DOUBT, NOT_SENT, REJECTED)),
    ]
    for opening in (in_sqlite(SQLiteStore), in_postgres(shared_dsn)):
        with opening as (store, connection, schema):
            kinds = [each for each in KINDS if schema or each[-1] == 1]
            keys = insert(connection, schema, [each for each in kinds for _ in outcomes])
            before = store.messages(keys)
            finishes = [
                Finish(key=key, submission=of(f"T{key}"), attempt=OURS if schema else None)
                for key, of in zip(keys, itertools.cycle(outcomes))
            ]
            written = store.finish_usual(finishes, ended_at=NOON + 5).keys
            usual = {
                key
                for key, record in before.items()
                if record.state is MessageState.SENDING
                and not record.doubted
                and (record.attempt == 1 or not schema)
            }
            assert usual <= {*written}
            after = store.messages(keys)
            for finish in finishes:
                record = before[finish.key]
                ended = rules.finish(
                    record, finish.submission, ended_at=NOON + 5, attempt=finish.attempt
                )
                assert after[finish.key] == (ended if finish.key in written else record)


def is_to_send(record: MessageRecord, began: float | None = None) -> bool:
    """Return whether the rules would begin a message, or it is under way.

    `began` is when the attempt in doubt began that may be sent once more.
    """
    begin = {"ignore_opt_out": False, "is_opted_out": False}
    given = attrs.evolve(intent(record.key), doubt_started_at=began)
    try:
        begun = rules.begin(
            record, given, resend_in_doubt=began is not None, attempt=None, **begin
        )
    except rules.UnderWay:
        return True
    return isinstance(begun, MessageRecord)


def may_have_gone_out(record: MessageRecord) -> bool:
    """Return whether the rules refuse other content for a message."""
    try:
        rules.look_up(record, intent(record.key, b"two"), resend_in_doubt=False)
    except KeyConflict:
        return True
    return False


def test_what_a_campaign_asks_of_messages_is_what_the_rules_say(shared_dsn: str) -> None:
    """A campaign's statements about messages agree with the rules, in each state."""
    with in_postgres(shared_dsn) as (store, connection, schema):
        keys = insert(connection, schema, KINDS)
        for key, record in store.messages(keys).items():
            gone_out = campaign_messages.gone_out(connection, [key])
            assert gone_out == ({key} if may_have_gone_out(record) else set()), record
            for began in (None, NOON, NOON - 1):
                resend = {} if began is None else {key: began}
                count = campaign_messages.count_to_send(
                    connection, [key], left_out=[], doubts_to_resend=resend
                )
                assert count == is_to_send(record, began), record
                assert (
                    campaign_messages.count_to_send(
                        connection, [key], left_out=[key], doubts_to_resend=resend
                    )
                    == 0
                )
        assert campaign_messages.gone_out(connection, ["unknown"]) == set()
        assert (
            campaign_messages.count_to_send(
                connection, ["unknown"], left_out=[], doubts_to_resend={}
            )
            == 1
        )


def test_what_a_campaign_asks_of_its_chunks_is_what_the_rules_say(shared_dsn: str) -> None:
    """A campaign's statements about chunks agree with the rules, in each state."""
    with in_postgres(shared_dsn) as (store, connection, schema):
        keys = insert(connection, schema, KINDS)
        records = store.messages(keys)
        for key in keys:
            with connection.transaction(force_rollback=True):  # which drops what was asked for
                known = campaign_messages.first_known(connection, "promo", ["unknown", key])
            assert known == (key if may_have_gone_out(records[key]) else None), records[key]
        load(connection, "promo", [SMS(to=TO, text="Hello", key=key) for key in [*keys, "new"]])
        (campaign,) = connection.execute("SELECT id FROM skycore.campaigns").fetchone()
        found = campaign_messages.numbers_to_send(connection, campaign, until=1)
        to_send = [key for key in keys if is_to_send(records[key])]
        assert sorted(found) == [(key, TO) for key in sorted([*to_send, "new"])]
        assert [*campaign_messages.numbers_to_send(connection, campaign, until=0)] == []
        assert campaign_messages.first_known(connection, "promo", ["unknown", "new"]) == "new"


def test_what_nobody_sends_any_more_is_in_doubt_by_each_statement(shared_dsn: str) -> None:
    """All statements that put messages in doubt do so alike."""
    kinds = [each for each in KINDS if each[-1] == 1]

    def interrupted(opened: Any, *, of_chunk: bool = False) -> list[tuple[Any, ...]]:
        with opened as (store, connection, schema):
            keys = insert(connection, schema, kinds)
            if of_chunk:
                campaign_messages.interrupt(connection, keys)
            else:
                if schema:
                    connection.execute("UPDATE skycore.sessions SET alive_until = '-infinity'")
                store.interrupt(at=NOON + 9)
            records = store.messages(keys)
        return [(records[key].state, records[key].interrupted_at is not None) for key in keys]

    in_file = interrupted(in_sqlite(SQLiteStore))
    assert in_file == [
        (MessageState.IN_DOUBT, True) if kind[0] is MessageState.SENDING else (kind[0], False)
        for kind in kinds
    ]
    assert interrupted(in_postgres(shared_dsn)) == in_file
    assert interrupted(in_postgres(shared_dsn), of_chunk=True) == in_file
