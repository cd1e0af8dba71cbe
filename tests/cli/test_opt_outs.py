"""`skycore opt-outs candidates`: texts that a person has to read."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner, Result

from skycore_async import SQLiteLedger
from skycore_async.cli.app import skycore
from tests.support.ledger_cases import OTHER, TO, said


def run(*args: str) -> Result:
    done = CliRunner().invoke(skycore, ["opt-outs", *args])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """Make a ledger with two unclear texts, one of which has control characters."""
    path = tmp_path / "promo.db"

    async def fill() -> None:
        async with SQLiteLedger(path) as ledger:
            await ledger.record(
                said(f"stop it, says +1 555 123 4888\n\u202e{TO}"),
                said("STOP 12345", from_=OTHER),
                said("Hello"),
                said("STOP", from_="15550000001"),
            )

    anyio.run(fill)
    return str(path)


def test_unclear_texts_are_listed(ledger: str) -> None:
    """Unclear texts are listed in order, with masked numbers."""
    done = run("candidates", ledger)
    first, second = done.stdout.splitlines()
    assert done.exit_code == 0
    assert first.startswith("*******4888 ")
    assert first.endswith("stop it, says +* *** *** 4888 \ufffd*******4888")
    assert second.split()[0] == "*******6543"
    assert second.endswith("  STOP 12345")


def test_programs_read_lines_of_json(ledger: str) -> None:
    """--json gives one object a line, with numbers only if asked for."""
    done = run("candidates", ledger, "--json", "--show-numbers")
    assert [json.loads(line)["from"] for line in done.stdout.splitlines()] == [TO, OTHER]
    assert json.loads(done.stdout.splitlines()[1])["text"] == "STOP 12345"
    assert TO not in run("candidates", ledger, "--json").stdout


def test_nothing_to_read_is_said(ledger: str) -> None:
    """Without unclear texts the command says so, to people alone."""

    async def decide() -> None:
        async with SQLiteLedger(ledger) as opened:
            await opened.opt_out(TO)
            await opened.opt_in(OTHER)

    anyio.run(decide)
    assert run("candidates", ledger).stdout == "No text waits to be read.\n"
    assert run("candidates", ledger, "--json").stdout == ""


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A missing ledger is an error and is not made."""
    done = run("candidates", str(tmp_path / "none.db"))
    assert (done.exit_code, "there is no such file" in done.stderr) == (2, True)
    assert not (tmp_path / "none.db").exists()
