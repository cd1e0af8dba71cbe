"""No traceback keeps a password or key in a local variable of ours or psycopg's.

Tools that collect errors send the locals of every frame with them.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
import psycopg
import pytest
from click.testing import CliRunner
from psycopg_pool import AsyncConnectionPool

from skycore_async import (
    ConfigurationError,
    LedgerError,
    PostgresLedger,
    PostgresLimiter,
    SkycoreClient,
    SkycoreError,
    SyncClient,
)
from skycore_async.campaigns import queue
from skycore_async.cli.app import skycore
from skycore_async.ledger.postgres.read_only import PostgresLedgerView
from skycore_async.postgres.connection import Database, cleaned, describe_error
from tests import conftest
from tests.support.fault_server import refused

PASSWORD = "s3cret-pa55word"
KEY = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"
NOT_OURS = (__file__, conftest.__file__, "_pytest", "pluggy", "click/testing")


def shown(error: BaseException | None) -> Iterator[str]:
    """Return all that an error collector shows of an error and its causes."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield from (str(one), repr(one), repr(vars(one)))
        yield from traceback.format_exception(one)
        yield from locals_of(one.__traceback__)
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def locals_of(frames: TracebackType | None) -> Iterator[str]:
    while frames is not None:
        code = frames.tb_frame.f_code
        if not any(part in code.co_filename for part in NOT_OURS):
            for name, value in frames.tb_frame.f_locals.items():
                yield f"{code.co_qualname}: {name}={value!r}"
        frames = frames.tb_next


def assert_hidden(error: BaseException) -> None:
    leaked = [look for look in shown(error) if PASSWORD in look or KEY in look]
    assert not leaked
    if isinstance(error, SkycoreError):
        assert PASSWORD.encode() not in pickle.dumps(error)


# The database.


def opened(dsn: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    async def database() -> None:
        Database(dsn).open()

    async def connection() -> None:
        Database(dsn).connect()

    async def view() -> None:
        async with PostgresLedgerView(Database(dsn)):
            pass

    return {
        "a database": database,
        "a connection": connection,
        "a ledger": lambda: PostgresLedger(dsn).open(),
        "a ledger to read": view,
        "a limiter": lambda: PostgresLimiter(dsn, "promo", 1).open(),
    }


@pytest.mark.anyio
@pytest.mark.parametrize("what", opened(""))
async def test_a_database_that_cannot_be_reached_hides_its_password(
    what: str, tmp_path: Path
) -> None:
    """An error of an unreachable database has no frame with its password."""
    dsn = f"postgresql://someone:{PASSWORD}@/orders?host={tmp_path}"
    with pytest.raises((LedgerError, ConfigurationError, psycopg.OperationalError)) as caught:
        await opened(dsn)[what]()
    assert "No such file or directory" in str(caught.value)
    assert_hidden(caught.value)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_the_queue_hides_the_password_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the queue has no frame with the database's password."""
    wait = AsyncConnectionPool.wait
    monkeypatch.setattr(AsyncConnectionPool, "wait", lambda pool, **_: wait(pool, timeout=0.2))
    dsn = f"postgresql://someone:{PASSWORD}@/orders?host={tmp_path}"
    with pytest.raises(LedgerError) as caught:
        async with queue.Procrastinate(Database(dsn)):
            pass
    assert_hidden(caught.value)


NO_DSN = [
    f"postgres:/u:{PASSWORD}@h/db",
    f"postgresql://u:{PASSWORD}@@h/db",
    f"postgresql://u:{PASSWORD}/@h/db",
    f"postgresql://u:%zz{PASSWORD}@h/db",
    f"host=h password='{PASSWORD}",
    f"hosts=h password={PASSWORD}",
    f"postgresql://u:\udcff{PASSWORD}@h/db",
]


@pytest.mark.parametrize("dsn", NO_DSN, ids=ascii)
@pytest.mark.parametrize(
    "make", [Database, PostgresLedger, lambda dsn: PostgresLimiter(dsn, "promo", 1)]
)
def test_an_invalid_dsn_is_not_shown(make: Callable[[str], object], dsn: str) -> None:
    """A refused DSN is in no error text and no frame."""
    with pytest.raises(ConfigurationError, match=r"^dsn: ") as caught:
        make(dsn)
    assert_hidden(caught.value)


def test_values_quoted_by_a_database_are_not_passed_on() -> None:
    """An error of the database names constraint or code, without the values it quotes."""
    text = 'duplicate key "x"\nDETAIL:  Key (key)=(15551234888) already exists.'
    for kind, state in ((psycopg.errors.UniqueViolation, 23505), (psycopg.DataError, 22000)):
        error = kind(text, info={b"D"[0]: b"Key (key)=(15551234888)"})
        said = describe_error(error)
        assert said == (f"UniqueViolation (SQLSTATE {state})" if state == 23505 else said)
        clean = cleaned(error)
        assert type(clean) is kind
        assert "15551234888" not in f"{clean} {clean.args} {pickle.dumps(clean)!r}"


# A client.


def test_a_client_that_cannot_be_made_hides_its_key() -> None:
    """A client that cannot be made hides its key, also in a `partial` for SyncClient."""
    client = SyncClient(partial(SkycoreClient, api_key=KEY, timeout=-1))
    with pytest.raises(ConfigurationError) as caught:
        client.send_sms(to="15551234888", text="Hello")
    client.close()
    assert_hidden(caught.value)


# The command line.


class Accident(Exception):
    """An exception that no program expects."""


@pytest.fixture
def accident(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        await anyio.lowlevel.checkpoint()
        raise Accident

    monkeypatch.setattr(SkycoreClient, "send_sms", fail)
    monkeypatch.setattr(SkycoreClient, "_send_resolved", lambda *_, **__: 1 / 0)
    monkeypatch.setenv("SKYCORE_API_KEY", KEY)
    monkeypatch.setenv("SKYCORE_FROM", "60856")


@pytest.mark.usefixtures("accident")
@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize(
    "args",
    [
        ["send", "15551234888", "Hello"],
        ["bulk", "promo.csv", "--text", "Hi", "--yes"],
    ],
    ids=lambda args: args[0],
)
def test_an_accident_shows_no_key(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, from_file: bool
) -> None:
    """An unexpected exception in a command has no frame with the API key."""
    monkeypatch.chdir(tmp_path)
    Path("promo.csv").write_text("to\n15551234888\n", "utf-8")
    if from_file:
        Path("key.txt").write_text(KEY, "utf-8")
        monkeypatch.delenv("SKYCORE_API_KEY")
        args = [*args, "--api-key-file", "key.txt"]
    with refused() as url:
        done = CliRunner().invoke(skycore, [*args, "--base-url", url])
    assert isinstance(done.exception, Accident | ExceptionGroup | ZeroDivisionError)
    assert_hidden(done.exception)


@pytest.mark.usefixtures("accident")
@pytest.mark.parametrize(
    "args",
    [
        ["worker"],
        ["status"],
        ["report", "--json"],
        ["opt-outs", "candidates"],
        ["cluster", "migrate"],
        ["cluster", "pause", "promo"],
    ],
    ids=" ".join,
)
def test_an_accident_shows_no_dsn(
    args: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception in a command has no frame with the DSN's password."""
    monkeypatch.setenv("SKYCORE_DSN", f"postgresql://u:{PASSWORD}@/db?host={tmp_path}")

    def fail(*_: object, **__: object) -> None:
        raise Accident

    monkeypatch.setattr(psycopg.Connection, "connect", fail)
    done = CliRunner().invoke(skycore, args)
    assert isinstance(done.exception, Accident | ExceptionGroup)
    assert_hidden(done.exception)
