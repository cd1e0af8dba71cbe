"""`skycore bulk` in parts: --limit and --sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import anyio
import pytest
from click.testing import CliRunner, Result

from skycore_async.cli.app import skycore
from skycore_async.cli.bulk import sample_messages
from skycore_async.cli.commands.bulk import bulk
from skycore_async.cli.ui.output import Exit
from skycore_async.ledger.sqlite.ledger import SQLiteLedger
from skycore_async.simulator import ACCEPTED_AND_DELIVERED, Simulator, refusal

SHEET = "to,name\n" + "".join(f"1555123{n:04},Row{n}\n" for n in range(3000, 3010))
MINE = "15551239999"


@pytest.fixture(autouse=True)
def recipients(surroundings: None) -> None:
    """Make a file of recipients."""
    Path("promo.csv").write_text(SHEET)


def run(*args: str, yes: bool = True) -> Result:
    words = ["promo.csv", "--text", "Hi {name}", *args, *(["--yes"] if yes else [])]
    return CliRunner().invoke(bulk, words)


@pytest.mark.slow
def test_a_limit_sends_so_many_and_the_next_runs_the_others(simulator: Simulator) -> None:
    """`--limit` sends at most so many per run, none twice."""
    told = []
    for _ in range(4):
        done = run("--limit", "4", "--json")
        assert done.exit_code == 0
        told.append(json.loads(done.stdout))
    assert [each["accepted"] for each in told] == [4, 4, 2, 0]
    assert [each["held_back"] for each in told] == [6, 2, 0, 0]
    assert [each["already_done"] for each in told] == [0, 4, 8, 10]
    assert [each["not_sent"] for each in told] == [0, 0, 0, 0]
    assert simulator.billed == 10
    assert len({message.to for message in simulator.messages}) == 10


@pytest.mark.slow
def test_opted_out_recipients_do_not_count_toward_a_limit(simulator: Simulator) -> None:
    """Opted-out numbers do not count for --limit."""
    CliRunner().invoke(skycore, ["opt-outs", "add", "15551233001"])
    assert "  to send     4\n  later       5 more" in run("--limit", "4", "--dry-run").stdout
    told = json.loads(run("--limit", "4", "--json").stdout)
    assert (told["accepted"], told["opted_out"]) == (4, 1)
    assert (told["not_sent"], told["held_back"]) == (0, 5)


@pytest.mark.slow
def test_the_estimate_leaves_out_rows_beyond_the_limit(simulator: Simulator) -> None:
    """The estimate covers only what --limit lets out."""
    first = run("--limit", "4", "--price", "0.01", "--dry-run").stdout
    assert "  to send     4\n  later       6 more than --limit: the next runs send them\n" in first
    assert "estimate      0.04 at 0.01 a segment\n" in first
    run("--limit", "4")
    second = run("--limit", "5", "--price", "0.01", "--dry-run").stdout
    assert "  to send     5\n  later       1 more" in second
    assert "estimate      0.05 at 0.01 a segment\n" in second


@pytest.mark.slow
def test_a_limited_run_says_how_to_go_on(simulator: Simulator) -> None:
    """A limited run says what is left, and its advice resends nothing."""
    done = run("--limit", "4")
    assert "for later     6 (more than --limit)\n" in done.stdout
    assert "6 for later. Run the same command to go on.\n" in done.stderr
    done = run("--limit", "4", "--resend-in-doubt")
    assert "2 for later. Run the same command without --resend-in-doubt" in done.stderr
    assert "same command" not in done.stdout


@pytest.mark.slow
def test_a_sample_goes_to_ones_own_number(simulator: Simulator) -> None:
    """`--sample` sends the first texts to one's own number alone, outside the campaign."""
    done = run("--sample", "3", "--to", MINE, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {
        "sample": True,
        "accepted": 3,
        "errors": [],
        "not_begun": 0,
    }
    assert "line 2: 'Hi Row3000' (1 segment)" in done.stderr
    assert [message.to for message in simulator.messages] == [MINE] * 3
    assert {message.text for message in simulator.messages} == {
        f"Hi Row{n}" for n in range(3000, 3003)
    }
    assert not Path("promo.db").exists()
    assert json.loads(run("--json").stdout)["accepted"] == 10


def test_a_sample_goes_to_nobody_who_opted_out(simulator: Simulator) -> None:
    """A sample is not sent to a number on the list of opt-outs."""
    assert CliRunner().invoke(skycore, ["opt-outs", "add", MINE]).exit_code == 0
    done = run("--sample", "3", "--to", MINE)
    assert done.exit_code == 4
    assert "nothing was sent: --to names a number that has opted out" in done.stderr
    assert simulator.billed == 0
    assert run("--sample", "3", "--to", MINE, "--opt-outs", "none").exit_code == 0


def test_a_sample_goes_to_nobody_who_said_stop_to_the_ledger(simulator: Simulator) -> None:
    """A sample is not sent to a number that opted out in the ledger."""

    async def say_stop() -> None:
        async with SQLiteLedger("promo.db") as ledger:
            await ledger.opt_out(MINE)

    anyio.run(say_stop)
    for options in ((), ("--opt-outs", "none")):
        done = run("--sample", "3", "--to", MINE, *options)
        assert done.exit_code == 4
        assert "nothing was sent: --to names a number that has opted out" in done.stderr
    assert simulator.billed == 0
    Path("promo.db").write_text("none")
    assert "promo.db is no ledger" in run("--sample", "3", "--to", MINE).stderr


@pytest.mark.slow
def test_a_sample_that_the_account_is_refused_for_says_so(simulator: Simulator) -> None:
    """A sample that a refused account stops says what was accepted, and what helps."""
    simulator.script(ACCEPTED_AND_DELIVERED, refusal("E120"))
    told = json.loads(run("--sample", "10", "--to", MINE, "--json", "--rate", "20").stdout)
    assert (told["accepted"], told["errors"][0][:4], simulator.billed) == (1, "E120", 1)
    assert told["accepted"] + len(told["errors"]) + told["not_begun"] == 10
    rows = "".join(f"1555123{n:04},Row{n}\n" for n in range(3000, 3100))
    Path("promo.csv").write_text(f"to,name\n{rows}")
    simulator.script(refusal("E104"))
    done = run("--sample", "100", "--to", MINE, "--rate", "20")
    assert done.exit_code == Exit.REFUSED
    assert "accepted      0\nfailed        " in done.stdout
    assert "failed        E104" in done.stdout  # not always the first to end
    assert "not begun  " in done.stdout
    assert "Stopped: the account was refused: E104" in done.stderr
    assert done.stderr.endswith("See that the API key is all there, and that of this account.\n")


def test_a_sample_takes_no_more_than_the_bound(simulator: Simulator) -> None:
    """A sample is held to --max-segments."""
    done = run("--sample", "3", "--to", MINE, "--max-segments", "2")
    assert done.exit_code == Exit.USAGE
    assert "nothing was sent: it would take 3 segments, and --max-segments is 2" in done.stderr
    assert simulator.requests == 0
    assert run("--sample", "3", "--to", MINE, "--max-segments", "3").exit_code == Exit.DONE


def test_a_sample_asks_first(simulator: Simulator) -> None:
    """A sample without a terminal needs --yes."""
    done = run("--sample", "3", "--to", MINE, yes=False)
    assert done.exit_code == 2
    assert "nothing was sent: say --yes" in done.stderr
    assert simulator.billed == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--sample", "3"), "--sample N goes with --to NUMBER"),
        (("--to", MINE), "--sample N goes with --to NUMBER"),
        (("--sample", "3", "--to", MINE, "--dry-run"), "it goes without --dry-run"),
        (("--sample", "3", "--to", "mine"), "--to: to: "),
        (("--limit", "3", "--cluster", "postgresql://a@b/c"), "--cluster goes without --limit"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    simulator: Simulator, args: tuple[str, ...], words: str
) -> None:
    """Options that do not go together are refused."""
    done = run(*args)
    assert done.exit_code == 2
    assert words in done.stderr
    assert simulator.requests == 0


@pytest.mark.slow
@pytest.mark.parametrize(("behaviour", "code"), [("E110", 1), ("15551232002", 5)])
def test_a_sample_that_fails_says_so(simulator: Simulator, behaviour: str, code: int) -> None:
    """A failed sample is told by words and exit code."""
    to = MINE
    if behaviour.startswith("E"):
        simulator.script(refusal(behaviour))
    else:
        to = behaviour
    done = run("--sample", "1", "--to", to)
    assert done.exit_code == code
    assert "accepted      0\nfailed " in done.stdout


def test_a_sample_that_is_interrupted_is_not_to_be_run_again(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted sample says that it may have been sent."""

    async def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(sample_messages, "_send", interrupted)
    done = run("--sample", "1", "--to", MINE)
    assert done.exit_code == Exit.INTERRUPTED
    assert done.stderr.endswith("the sample, or a part of it, may have been sent\n")


def test_a_sample_of_nothing_is_an_error(simulator: Simulator) -> None:
    """A sample of a file without a row to send is an error."""
    Path("promo.csv").write_text("to,name\n555,Ann\n")
    done = run("--sample", "1", "--to", MINE)
    assert done.exit_code == 2
    assert "no row has a message to send" in done.stderr
