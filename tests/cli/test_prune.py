"""`skycore prune`: old data is counted, asked about and pruned."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import anyio
import attrs
import pytest
from click.testing import CliRunner, Result

from skycore_async import LedgerError, PostgresLedger, SQLiteLedger
from skycore_async.cli.app import skycore
from skycore_async.cli.ui.output import Exit
from skycore_async.ledger.base import BaseLedger
from tests.support.ledger_cases import (
    DELIVERED,
    DOUBT,
    NOT_SENT,
    OTHER,
    accepted,
    intent,
    notice,
    said,
    sent,
)
from tests.support.ledger_owner import owner
from tests.support.typed_after import TypedAfter


def run(*arguments: object, answer: str | None = None) -> Result:
    return CliRunner().invoke(skycore, ["prune", *map(str, arguments)], input=answer)


def prune(place: str, *arguments: str, answer: str | None = None) -> Result:
    return run(place, "--older-than", "180d", *arguments, answer=answer)


@pytest.fixture(params=["file", "database"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Fill a ledger with data of 2023, and return its place."""
    if request.param == "database":
        where = str(request.getfixturevalue("dsn"))
        fill(lambda: PostgresLedger(where))
    else:
        where = str(tmp_path / "promo.db")
        fill(lambda: SQLiteLedger(where))
    return where


def fill(make: Callable[[], PostgresLedger | SQLiteLedger]) -> None:
    async def fill_in() -> None:
        opened = make()
        async with opened as ledger:
            await sent(ledger, "promo:15551234888", accepted())
            await sent(ledger, "doubt", DOUBT, to=OTHER)
            await ledger.record(notice(DELIVERED), notice(after=2), said("Hello"))

    anyio.run(fill_in)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behave as on a terminal."""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True)


@pytest.mark.slow
def test_old_messages_are_pruned(place: str) -> None:
    """Old messages are pruned and counted, doubts are kept, and a second run finds none."""
    done = prune(place, "--yes")
    assert done.exit_code == Exit.DONE, done.output
    first, second = done.stdout.splitlines()
    assert first.startswith("1 message and 2 notifications from before 20")
    assert first.endswith("Z forgotten.")
    assert second.startswith("1 message as old in doubt: that is kept")
    again = json.loads(prune(place, "--json").stdout)
    assert datetime.fromisoformat(again.pop("before")).tzinfo is not None
    assert again == {"messages": 0, "notifications": 0, "in_doubt": 1}
    command = ["export", place, "--show-numbers", "--format", "jsonl"]
    exported = CliRunner().invoke(skycore, command)
    pruned, doubt = map(json.loads, exported.stdout.splitlines())
    assert (pruned["key"][:7], pruned["to"], pruned["state"]) == ("pruned:", "", "delivered")
    assert doubt["to"] == OTHER


@pytest.mark.slow
def test_other_commands_go_on(place: str, tmp_path: Path) -> None:
    """Other commands work on a pruned ledger and show no number."""
    prune(place, "--yes")
    for command in (
        ["status", place, "--state", "delivered"],
        ["status", place, "--json"],
        ["export", place],
        ["report", place, "--json"],
        ["report", place, "--html", str(tmp_path / "report.html")],
    ):
        done = CliRunner().invoke(skycore, command)
        assert done.exit_code in {Exit.DONE, Exit.IN_DOUBT}, done.output
        assert "4888" not in done.output


def test_a_dry_run_changes_nothing(place: str) -> None:
    """A dry run counts and changes nothing."""
    done = prune(place, "--dry-run")
    assert done.stdout.splitlines()[0].endswith("Z to forget; nothing was changed.")
    counted = json.loads(prune(place, "--dry-run", "--json").stdout)
    assert (counted["messages"], counted["notifications"], counted["in_doubt"]) == (1, 2, 1)


def test_nothing_is_pruned_without_a_yes(place: str) -> None:
    """Without a terminal nothing is pruned without --yes."""
    refused = prune(place)
    assert refused.exit_code == Exit.USAGE
    assert refused.stderr == (
        "skycore: nothing was forgotten: say --yes, as there is no terminal to ask on\n"
    )


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("answer", "code"), [("n\n", Exit.NOT_SENT), ("y\n", Exit.DONE)])
def test_a_person_is_asked(place: str, answer: str, code: Exit) -> None:
    """On a terminal the user is asked, with counts."""
    done = prune(place, answer=answer)
    assert "It cannot be undone. [y/N]" in done.stderr
    assert done.exit_code == code
    left = json.loads(prune(place, "--dry-run", "--json").stdout)
    assert left["messages"] == int(code is Exit.NOT_SENT)


@pytest.mark.usefixtures("terminal")
def test_no_more_is_forgotten_than_was_asked_about(tmp_path: Path) -> None:
    """Only what was old at the question is pruned."""
    path = tmp_path / "promo.db"
    fill(lambda: SQLiteLedger(path))
    grows_old = time.time() - 7 * 86_400 + 1
    anyio.run(begin_at, path, grows_old)
    late = TypedAfter(b"y\n", lambda: time.sleep(1.5))
    done = CliRunner().invoke(skycore, ["prune", str(path), "--older-than", "7d"], input=late)
    assert done.stdout.startswith("1 message and 2 notifications from before ")
    left = json.loads(run(path, "--older-than", "7d", "--dry-run", "--json").stdout)
    assert left["messages"] == 1


async def begin_at(path: Path, at: float) -> None:
    async with SQLiteLedger(path) as ledger:
        await ledger.begin(attrs.evolve(intent("later"), started_at=at))
        await ledger.finish("later", NOT_SENT)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        ("180", "'180' is no age, as 180d (days) or 26w (weeks) is one."),
        ("0d", "--older-than: 0 days is less than 7 days, in which receipts come"),
        ("1D", "--older-than: 1 day is less than 7 days, in which receipts come"),
        ("6d", "--older-than: 6 days is less than 7 days, in which receipts come"),
    ],
)
def test_an_age_that_is_none_is_refused(place: str, age: str, words: str) -> None:
    """A bad age is refused with an example."""
    done = run(place, "--older-than", age)
    assert done.exit_code == Exit.USAGE
    assert words in done.stderr


def test_weeks_are_seven_days(place: str) -> None:
    """An age may be given in weeks."""
    assert run(place, "--older-than", "26w", "--dry-run").exit_code == Exit.DONE


@pytest.mark.slow
def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    """A missing, foreign or busy ledger is not changed."""
    none = prune(str(tmp_path / "promo.db"), "--yes")
    assert none.exit_code == Exit.USAGE
    assert not (tmp_path / "promo.db").exists()
    other = tmp_path / "other.db"
    other.write_text("no ledger " * 100)
    for options in (["--yes"], ["--dry-run"]):
        assert prune(str(other), *options).exit_code == Exit.USAGE
    with owner(tmp_path / "owned.db"):
        done = prune(str(tmp_path / "owned.db"), "--yes")
        assert done.exit_code == Exit.USAGE
        assert "has it open" in done.stderr
        assert prune(str(tmp_path / "owned.db"), "--dry-run").exit_code == Exit.DONE


def test_the_reason_of_a_broken_off_prune_is_named(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while pruning is shown, with its exit code."""

    async def fails(_ledger: BaseLedger, **_options: object) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(BaseLedger, "prune", fails)
    done = prune(place, "--yes")
    assert (done.exit_code, done.stderr) == (Exit.NOT_ALL_WELL, "skycore: the disk is full\n")
