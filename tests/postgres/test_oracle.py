"""No postback settles a doubt wrongly: each ledger against a provider that knows the truth.

Strategy: a provider that takes messages, loses answers, and posts receipts late, twice and with
wrong times; a program that sends again what is in doubt, and crashes. The provider knows which
message each tracking id is of. Chance chooses, and the clock is made by hand.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from random import Random
from typing import Any

import attrs
import psycopg
import pytest

from benchmarks import postgres
from skycore_async.errors import LedgerError
from skycore_async.ledger.commands import Begin, Finish, PendingCommand, Record
from skycore_async.ledger.execution import CommandExecutor
from skycore_async.ledger.model import Attempt, Delivery
from skycore_async.ledger.postgres.store import PostgresStore
from skycore_async.ledger.settlement import SETTLE_WITHIN
from skycore_async.ledger.sqlite.memory import BoundedStore
from skycore_async.ledger.sqlite.schema import migrate
from skycore_async.ledger.sqlite.store import SQLiteStore
from skycore_async.postgres.schema import migrate as make_tables
from skycore_async.protocol.tracking_ids import plain, spellings
from tests.support.ledger_cases import (
    DELIVERED,
    DOUBT,
    EXPIRED,
    NOON,
    NOT_SENT,
    REJECTED,
    SENT,
    Clock,
    accepted,
    intent,
    notice,
)

KEYS = {"a": "15551234888", "b": "15551234888", "c": "5551234888", "d": "447911123456"}
KEYS |= {"e": "15551234888", "f": "447911123456"}
SPELLINGS = {
    "15551234888": ("15551234888", "5551234888", "+1 (555) 123-4888"),
    "5551234888": ("5551234888", "15551234888", "0015551234888"),
    "447911123456": ("447911123456", "07911123456"),
}
PASSING = (0, 1, 30, 600, 7200, 86_400)  # seconds that go by
AHEAD = (0, 0, 600, -600)  # seconds by which the clock of who begins a message is wrong
ZONES = (0, 0, 10_800, -25_200)  # seconds by which a stamp is wrong
# The session in PostgreSQL; each of its attempts may be under way.
ALIVE = "UPDATE skycore.sessions SET alive_until = 'infinity', oldest_attempt = 1"
DEAD = "UPDATE skycore.sessions SET alive_until = '-infinity'"


@attrs.define
class Provider:
    """The provider's record of each tracking id's message and number."""

    messages: dict[str, str] = attrs.Factory(dict)
    at: dict[str, float] = attrs.Factory(dict)

    def take(self, key: str, now: float) -> str:
        tracking_id = f"SMS_{len(self.messages)}"
        self.messages[tracking_id], self.at[tracking_id] = key, now
        return tracking_id


class World:
    """A program, its ledger and the provider, in which anything happens by chance."""

    def __init__(self, store: Any, connection: Any, chance: Random, *, can_crash: bool) -> None:
        self.store = store
        self.connection = connection
        self.chance = chance
        self.can_crash = can_crash
        self.clock = Clock()
        self.provider = Provider()
        self.executor = CommandExecutor(store, clock=self.clock, settle_within=SETTLE_WITHIN)
        self.under_way: dict[str, tuple[Attempt, str | None]] = {}
        self.numbers = itertools.count(1)

    def run(self, command: Any) -> PendingCommand:
        pending = PendingCommand(command)
        self.connection.execute("SAVEPOINT command")
        try:
            self.executor.run([pending])
        except LedgerError as error:  # it is full of doubt
            self.connection.execute("ROLLBACK TO command")
            self.executor.forget()
            pending.error = error
        return pending

    def step(self) -> None:
        self.clock.now += self.chance.choice(PASSING)
        steps = [self.begin, self.begin, self.finish, self.finish, self.post, self.post]
        self.chance.choice(steps + [self.crash] * self.can_crash)()

    def begin(self) -> None:
        key = self.chance.choice([*KEYS])
        attempt = Attempt(session=1, number=next(self.numbers))
        made = attrs.evolve(
            intent(key, to=KEYS[key], from_=self.chance.choice(("60856", None))),
            started_at=self.clock.now + self.chance.choice(AHEAD),
        )
        begun = self.run(Begin(intent=made, resend_in_doubt=True, attempt=self.named(attempt)))
        if begun.error is None and begun.result is None:
            is_taken = self.chance.random() < 0.6
            taken = self.provider.take(key, self.clock.now) if is_taken else None
            self.under_way[key] = attempt, taken

    def named(self, attempt: Attempt) -> Attempt | None:
        return attempt if isinstance(self.store, PostgresStore) else None

    def finish(self) -> None:
        if not self.under_way:
            return
        key = self.chance.choice([*self.under_way])
        attempt, taken = self.under_way.pop(key)
        answer = self.chance.choice((NOT_SENT, REJECTED))
        if taken:
            answer = accepted(self.chance.choice(spellings(taken)))
        answer = self.chance.choice((answer, DOUBT, DOUBT))
        self.run(Finish(key=key, submission=answer, attempt=self.named(attempt)))

    def post(self) -> None:
        if not self.provider.messages:
            return
        tracking_id = self.chance.choice([*self.provider.messages])
        number = KEYS[self.provider.messages[tracking_id]]
        stamp = self.provider.at[tracking_id] + self.chance.choice(ZONES)
        self.run(
            Record(
                notifications=(
                    notice(
                        self.chance.choice((SENT, DELIVERED, EXPIRED)),
                        self.chance.choice(spellings(tracking_id)),
                        to=self.chance.choice(SPELLINGS[number]),
                        from_=self.chance.choice(("60856", None)),
                        after=stamp - NOON,
                    ),
                )
            )
        )

    def crash(self) -> None:
        self.under_way.clear()
        if isinstance(self.store, PostgresStore):
            self.connection.execute(DEAD)
        self.executor.interrupt()
        if isinstance(self.store, PostgresStore):
            self.connection.execute(ALIVE)
        self.executor.forget()

    def settled(self) -> int:
        """Return how many doubts were settled, and check that each was settled rightly."""
        deliveries: list[Delivery] = list(self.store.deliveries(None, 0).rows)
        for delivery in deliveries:
            ids = {delivery.tracking_id, *(each.tracking_id for each in delivery.events)} - {None}  # type: ignore[union-attr] # pyright: ignore[reportAttributeAccessIssue]
            assert {self.provider.messages[plain(str(each))] for each in ids} <= {delivery.key}
        return sum(each.settled_by == "postback" for each in deliveries)


@contextmanager
def in_sqlite(kind: Any) -> Iterator[Any]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, 0)
        yield kind(connection), connection


@contextmanager
def in_postgres(dsn: str) -> Iterator[Any]:
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO skycore.sessions (id, alive_until) VALUES (1, now())")
        connection.execute(ALIVE)
        yield PostgresStore(connection), connection
        connection.rollback()


@pytest.fixture(scope="module")
def shared_dsn() -> Iterator[str]:
    """Return the DSN of a database for all runs, each of which rolls back."""
    server = postgres.shared()
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE oracle")
        with psycopg.connect(server.dsn("oracle"), autocommit=True) as fresh:
            make_tables(fresh)
        yield server.dsn("oracle")
        connection.execute("DROP DATABASE oracle WITH (FORCE)")


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("kind", ["memory", "small memory", "sqlite", "postgres"])
def test_no_doubt_is_settled_by_the_receipt_of_another(kind: str, shared_dsn: str) -> None:
    """In random histories no doubt is settled by another message's receipt."""
    settled = 0
    for seed in range(25 if kind == "postgres" else 60):
        if kind == "postgres":
            opened = in_postgres(shared_dsn)
        elif "memory" in kind:
            capacity = 4 if kind == "small memory" else 100
            opened = in_sqlite(lambda each: BoundedStore(each, capacity=capacity))  # noqa: B023
        else:
            opened = in_sqlite(SQLiteStore)
        with opened as (store, connection):
            world = World(store, connection, Random(seed), can_crash="memory" not in kind)
            for _ in range(40):
                world.step()
            settled += world.settled()
    assert settled > 5
