"""`skycore bulk` after `skycore settle`: what the report told counts, the rest goes out."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from skycore_async.cli.app import skycore
from skycore_async.cli.ui.output import Exit
from skycore_async.simulator import API_KEY, Behaviour, Simulator

# Accepted, taken without an answer, accepted, not taken without an answer, accepted.
NUMBERS = ("15551234888", "15551232002", "15551234887", "15551232001", "15551234886")


@pytest.fixture
def simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKYCORE_API_KEY", API_KEY)
    monkeypatch.setenv("SKYCORE_FROM", "60856")
    with Simulator(time_scale=0) as running:
        monkeypatch.setenv("SKYCORE_BASE_URL", running.url)
        yield running


def recipients(*numbers: str, name: str = "promo.csv") -> None:
    Path(name).write_text("\n".join(("to", *numbers)) + "\n", "utf-8")


def bulk(name: str, *options: str, text: str = "Hello") -> Result:
    command = ("bulk", name, "--text", text, "--in-flight", "1", "--yes", *options)
    return CliRunner().invoke(skycore, command)


def facts(done: Result) -> dict[str, Any]:
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value


def rejected(name: str) -> dict[str, str]:
    with Path(name).open(encoding="utf-8-sig", newline="") as file:
        return {row["to"][-4:]: row["reason"] for row in csv.DictReader(file)}


@pytest.fixture
def settled(simulator: Simulator) -> Simulator:
    """Send to five, two of which are in doubt, and settle: one was sent, one was not."""
    recipients(*NUMBERS)
    assert bulk("promo.csv").exit_code == Exit.IN_DOUBT
    done = CliRunner().invoke(skycore, ["settle", "promo.db", "--after", "0", "--json"])
    assert (facts(done)["sent"], facts(done)["not_sent"]) == (1, 1)
    simulator.script(*[Behaviour()] * 5)  # whoever gets a message now gets it
    return simulator


def test_what_the_report_lists_is_no_doubt_under_another_text(settled: Simulator) -> None:
    """It was sent, and it is said what told that; nothing leads to settling it once more."""
    done = bulk("promo.csv", text="Bye")
    assert done.exit_code == Exit.NOT_ALL_WELL, done.output
    assert "already sent  4 (with another text" in done.stdout
    assert "in doubt" not in done.stdout
    assert "skycore settle" not in done.stderr
    told = rejected("promo.rejects-2.csv")
    assert told["2002"].startswith("already sent: key: 'promo:15551232002'")
    assert told["2002"].endswith("sent, as Skycore's own report of what it sent lists it")
    assert "report" not in told["4888"]
    assert settled.billed == 5
