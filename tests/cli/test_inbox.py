"""`skycore inbox`: texts from handsets, listed and followed."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import psycopg
import pytest
from click.testing import CliRunner, Result

from skycore_async import LedgerError, SQLiteLedger
from skycore_async.cli.actions import inbox as action
from skycore_async.cli.app import skycore
from skycore_async.cli.ui.output import Exit
from skycore_async.cli.ui.signals import UntilSignal
from skycore_async.ledger.postgres.ledger import PostgresLedger
from skycore_async.ledger.pruning import AT_LEAST
from skycore_async.ledger.sqlite.inbox_file import InboxFile, KeptPostback
from skycore_async.postbacks import parse_postback
from tests.support.cli_program import program
from tests.support.ledger_cases import NOON, notice, said
from tests.support.ledger_owner import owner


def run(*arguments: object) -> Result:
    return CliRunner().invoke(skycore, ["inbox", *map(str, arguments)])


def record(place: str, *texts: str) -> None:
    """Record texts in a ledger, one after the other."""

    async def take_in() -> None:
        opened = PostgresLedger(place) if "://" in place else SQLiteLedger(place)
        async with opened as ledger:
            for after, text in enumerate(texts):
                await ledger.record(said(text, after=after), notice())

    anyio.run(take_in)


@pytest.mark.parametrize("kind", ["file", "database"])
def test_texts_are_listed(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each text is a line with its time, and numbers are masked."""
    place = str(tmp_path / "p.db") if kind == "file" else request.getfixturevalue("dsn")
    assert run(place).exit_code == (Exit.USAGE if kind == "file" else Exit.DONE)
    record(place, "Call me at 555 123 4888", "bye\n\u202enow")
    done = run(place)
    assert done.exit_code == Exit.DONE
    assert done.stdout.splitlines() == [
        "*******4888      2023-11-14 22:13:20Z  Call me at *** *** 4888",
        "*******4888      2023-11-14 22:13:21Z  bye \ufffdnow",
    ]
    shown = run(place, "--show-numbers", "--json").stdout.splitlines()
    assert json.loads(shown[0]) == {
        "from": "15551234888",
        "to": "60856",
        "text": "Call me at 555 123 4888",
        "time": "2023-11-14T22:13:20.000000+00:00",
    }


def test_an_unreadable_message_is_listed_with_the_reason(tmp_path: Path) -> None:
    """An unreadable part of a postback is listed with its reason."""
    path = tmp_path / "promo.db"
    broken = "<POSTBACK><FROM>15551234888</FROM><TEXT>STOP <b></TEXT></POSTBACK>"

    async def take_in() -> None:
        async with SQLiteLedger(path) as ledger:
            await ledger.record(*parse_postback(broken), said("Hello"))

    anyio.run(take_in)
    why, text = run(path).stdout.splitlines()
    assert why.split(maxsplit=1)[0] == "unreadable"
    assert why.endswith("mismatched tag: line 1, column 50; --show-numbers shows it")
    assert text.endswith("Hello")
    assert broken in run(path, "--show-numbers").stdout
    shown, hidden = [
        json.loads(run(path, "--json", *also).stdout.splitlines()[0])
        for also in (["--show-numbers"], [])
    ]
    assert "mismatched tag" in shown["unreadable"]
    assert (shown["text"], hidden["text"]) == (broken, None)


def test_an_empty_inbox_says_that_no_text_has_come(tmp_path: Path) -> None:
    """Without texts the command says so to people, and prints nothing with --json."""
    path = str(tmp_path / "promo.db")
    record(path)
    assert run(path).stdout == "No text has come.\n"
    assert run(path, "--json").stdout == ""


@pytest.mark.slow
def test_texts_are_read_beside_whoever_has_the_ledger(tmp_path: Path) -> None:
    """Texts are listed while another process has the ledger, and from the inbox file."""
    path = tmp_path / "promo.db"
    record(str(path), "one")
    with owner(path):
        assert run(path).stdout.count("one") == 1
    inbox = InboxFile(path)
    inbox.open()
    inbox.add([KeptPostback.of([said("two")], received=NOON)])
    assert [line.split()[-1] for line in run(path).stdout.splitlines()] == ["one", "two"]
    assert inbox.count() == 1
    inbox.close()


@pytest.mark.parametrize("kind", ["file", "database"])
def test_new_messages_are_followed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--follow shows each text once as it comes, and leaves the ledger free in between."""
    place = str(tmp_path / "p.db") if kind == "file" else request.getfixturevalue("dsn")
    record(place, "one")

    def polls(_: UntilSignal) -> Iterator[None]:
        yield
        record(place, "one", "two")
        yield
        yield
        record(place, "one", "two", "three", "four")
        yield

    monkeypatch.setattr(UntilSignal, "polls", polls)
    monkeypatch.setattr(action, "_EVERY", 0)
    done = run(place, "--follow")
    assert done.exit_code == Exit.DONE
    words = [line.split()[-1] for line in done.stdout.splitlines()]
    assert words == ["one", "two", "three", "four"]


def test_messages_of_concurrent_writers_are_shown_late(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--follow shows texts that were committed late under an earlier id."""
    record(dsn, "one", "two", "three")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "CREATE TEMP TABLE held AS SELECT * FROM skycore.events WHERE raw LIKE '%two%'"
        )
        connection.execute("DELETE FROM skycore.events WHERE raw LIKE '%two%'")

        def polls(_: UntilSignal) -> Iterator[None]:
            yield
            connection.execute(
                "INSERT INTO skycore.events OVERRIDING SYSTEM VALUE SELECT * FROM held"
            )
            yield
            yield

        monkeypatch.setattr(UntilSignal, "polls", polls)
        monkeypatch.setattr(action, "_EVERY", 0)
        done = run(dsn, "--follow")
    words = [line.split()[-1] for line in done.stdout.splitlines()]
    assert words == ["one", "three", "two"]


@pytest.mark.parametrize("texts", [("one",), ("one", "two")])
def test_messages_after_a_full_prune_are_shown(
    texts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--follow shows texts that come after all were pruned."""
    path = str(tmp_path / "promo.db")
    record(path, *texts)

    async def prune() -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE events SET received = 0")
        async with SQLiteLedger(path) as ledger:
            assert (await ledger.prune(older_than=AT_LEAST)).notifications == len(texts) + 1

    def polls(_: UntilSignal) -> Iterator[None]:
        yield
        anyio.run(prune)
        record(path, "new")
        yield
        record(path, "new", "newer")
        yield

    monkeypatch.setattr(UntilSignal, "polls", polls)
    monkeypatch.setattr(action, "_EVERY", 0)
    done = run(path, "--follow")
    words = [line.split()[-1] for line in done.stdout.splitlines()]
    assert words == [*texts, "new", "newer"]


@pytest.mark.parametrize("most", [1, 2])
def test_few_of_those_that_were_shown_are_remembered(
    most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--follow remembers few shown texts, and shows none twice."""
    path = str(tmp_path / "promo.db")
    texts = [f"text{n}" for n in range(7)]
    record(path, *texts[:5])

    def polls(_: UntilSignal) -> Iterator[None]:
        yield
        record(path, *texts)
        yield
        yield

    monkeypatch.setattr(UntilSignal, "polls", polls)
    monkeypatch.setattr(action, "_EVERY", 0)
    monkeypatch.setattr(action, "_MOST", most)
    done = run(path, "--follow")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == texts


def test_a_look_is_not_for_each_poll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--follow does not read a file that nobody wrote to."""
    path = str(tmp_path / "promo.db")
    record(path, "one")
    looks: list[None] = []

    def polls(_: UntilSignal) -> Iterator[None]:
        record(path, "one", "two")
        yield

    monkeypatch.setattr(UntilSignal, "polls", polls)
    read = action._Reading._read

    async def counted(reading: action._Reading) -> None:
        looks.append(None)
        await read(reading)

    monkeypatch.setattr(action._Reading, "_read", counted)
    assert run(path, "--follow").exit_code == Exit.DONE
    assert len(looks) == 1
    monkeypatch.setattr(UntilSignal, "polls", lambda _: iter((None,) * 5))
    monkeypatch.setattr(action, "_EVERY", 0)
    assert run(path, "--follow").exit_code == Exit.DONE
    assert len(looks) == 2


def test_a_read_error_is_reported_once_while_following(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--follow reports a ledger that cannot be read once, and goes on."""
    path = str(tmp_path / "promo.db")
    record(path, "one")
    read, problems = action._Reading._read, iter((None, "gone", "gone", None, "gone"))

    async def failing(reading: action._Reading) -> None:
        if problem := next(problems):
            raise LedgerError(problem)
        await read(reading)

    def polls(_: UntilSignal) -> Iterator[None]:
        record(path, "one", "two")
        yield from (None, None, None)
        record(path, "one", "two", "three")
        yield

    monkeypatch.setattr(UntilSignal, "polls", polls)
    monkeypatch.setattr(action._Reading, "_read", failing)
    monkeypatch.setattr(action, "_EVERY", 0)
    done = run(path, "--follow")
    assert (done.exit_code, done.stderr) == (Exit.DONE, "gone\ngone\n")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["one", "two"]


def test_a_file_that_is_no_ledger_is_reported(tmp_path: Path) -> None:
    """A file that is no ledger is a one-line error."""
    path = tmp_path / "rows.csv"
    path.write_text("to;name\n" * 100)
    done = run(path)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert done.stderr.startswith(f"skycore: {path} is no ledger")


@pytest.mark.slow
def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    """Ctrl-C ends --follow with exit code 0."""
    path = str(tmp_path / "promo.db")
    record(path, "one")
    with program("inbox", path, "--follow", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["text"] == "one"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
