"""`skycore demo`: the main task end to end, and its own audit."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner
from rich.console import Console

from skycore_async import (
    SMS,
    Delivery,
    DeliveryState,
    FailureReason,
    MessageState,
    __version__,
    cli,
)
from skycore_async.cli import main
from skycore_async.cli.app import skycore
from skycore_async.cli.demo import action as demo
from skycore_async.cli.demo import bulk
from skycore_async.cli.demo.audit import DemoAudit, DoubtCounts, judge, show_audit
from skycore_async.cli.demo.bulk import FAULTS, messages
from skycore_async.cli.demo.cases import CASES, Case, Played, play, show
from skycore_async.cli.ui.output import Exit
from skycore_async.simulator import BY_LAST_DIGITS, Simulator

WHEN = ("before", "after_postbacks", "after_report")
COUNT = 5 * len(FAULTS)  # so that each fault comes once


def cases(*given: Case, width: int = 140, is_terminal: bool = False) -> tuple[Played, str]:
    """Send these cases' messages, and return the results and what was printed."""
    printed = io.StringIO()
    out = Console(file=printed, width=width, force_terminal=is_terminal, no_color=True)
    played = play(out, given)
    show(out, played)
    return played, printed.getvalue()


# One of each.


@pytest.fixture(scope="module")
def all_cases() -> tuple[Played, str]:
    """Send the messages of the demo's own cases."""
    return cases(*CASES)


@pytest.mark.slow
def test_every_message_has_a_row_that_says_what_became_of_it(
    all_cases: tuple[Played, str],
) -> None:
    """Each message has one row with outcome, delivery state and reason."""
    played, printed = all_cases
    assert played.is_well, printed
    rows = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert "delivered" in rows["15551234888"]
    assert "accepted" in rows["442079460018"]
    assert "not a subscriber" in rows["15551231001"]
    assert "sent" in rows["15551231004"]
    assert "E110" in rows["15551230110"]
    assert "billed 5 messages; 5 were to go out" in printed


def test_a_lost_answer_is_shown_as_doubt(all_cases: tuple[Played, str]) -> None:
    """A message whose answer was lost is shown as in doubt, and not as accepted."""
    _, printed = all_cases
    (row,) = (line for line in printed.splitlines() if line.startswith("15551232002  "))
    assert "in doubt" in row
    assert "never learnt" in row
    assert "accepted" not in row
    assert "would have billed it twice" in " ".join(printed.split())


@pytest.mark.parametrize(("width", "is_table"), [(80, True), (60, True), (30, False)])
def test_a_narrow_terminal_breaks_no_word(
    width: int, is_table: bool, all_cases: tuple[Played, str]
) -> None:
    """The cases are a table where it fits, and else blocks with whole words."""
    printed = io.StringIO()
    show(Console(file=printed, width=width, force_terminal=True, no_color=True), all_cases[0])
    assert ("─" in printed.getvalue()) is is_table
    assert "subscriber" in printed.getvalue()
    assert ("never learnt" in printed.getvalue()) is (width != 60)  # that column is spared


@pytest.mark.slow
def test_a_case_that_came_out_otherwise_is_named() -> None:
    """A case with an unexpected result is named, and the demo fails."""
    surprise = Case(
        sms=SMS(to="15551231001", text="Hello"),
        state=DeliveryState.DELIVERED,
        reason=FailureReason.BILLING,
    )
    played, printed = cases(surprise)
    assert not played.is_well
    assert "Not as it should be: 15551231001" in printed


@pytest.mark.slow
def test_a_wrong_bill_is_reported() -> None:
    """A message billed unexpectedly is named, and the demo fails."""
    played, printed = cases(Case(sms=SMS(to="15551232002", text="Hello"), state=None))
    assert not played.is_well
    assert "Not as it should be" in printed


# The audit.


def delivery(to: str, state: MessageState) -> Delivery:
    """Make a delivery."""
    return Delivery(
        key=to,
        tracking_id=None,
        to=to,
        from_=None,
        state=state,
        reason=None,
        events=(),
        settled_by=None,
        began=datetime(2024, 5, 1, tzinfo=UTC),
        code=None,
        info=None,
    )


def judged(state: MessageState | None, billed: int) -> DemoAudit:
    """Audit one message in that state, or unknown if None, that was billed so often."""
    return judge(
        ["15551234888"],
        {} if state is None else {"15551234888": delivery("15551234888", state)},
        billed={"15551234888": billed} if billed else {},
        asked={"15551234888": 1},
        in_doubt=DoubtCounts(before=1, after_postbacks=1),
    )


S = MessageState


@pytest.mark.parametrize(
    ("state", "billed", "wrong"),
    [
        (S.ACCEPTED, 1, None),
        (S.DELIVERED, 1, None),
        (S.FAILED, 1, None),
        (S.REJECTED, 0, None),
        (S.NOT_SENT, 0, None),
        (S.IN_DOUBT, 0, "in_doubt_after_report"),
        (S.DELIVERED, 2, "duplicates"),
        (S.DELIVERED, 0, "lost"),
        (S.SENT, 0, "lost"),
        (S.SENDING, 1, "lost"),
        (None, 0, "lost"),
        (None, 1, "lost"),
        (S.REJECTED, 1, "denied"),
        (S.NOT_SENT, 1, "denied"),
        (S.IN_DOUBT, 1, "in_doubt_after_report"),
    ],
)
def test_the_bill_is_what_a_ledger_is_held_against(
    state: MessageState | None, billed: int, wrong: str | None
) -> None:
    """A message billed twice, lost, denied or in doubt is counted as that."""
    audit = judged(state, billed)
    kinds = ("duplicates", "lost", "denied", "in_doubt_after_report")
    counts = {name: getattr(audit, name) for name in kinds}
    assert counts == {name: int(name == wrong) for name in counts}
    assert audit.is_well is (wrong is None)
    assert audit.billed == billed


def told(audit: DemoAudit) -> str:
    """Return the text that people read of an audit."""
    printed = io.StringIO()
    show_audit(Console(file=printed, width=60), audit)
    return " ".join(printed.getvalue().split())


def test_the_demo_explains_the_proof_by_the_report() -> None:
    """Messages that the report proved unsent are explained, if there are any."""
    audit = judged(S.DELIVERED, 1)
    assert "never reached Skycore" not in told(audit)
    assert "2 messages never reached Skycore" in told(attrs.evolve(audit, found_not_sent=2))


# Thousands of messages, of which a few are enough here.


def run(*arguments: object) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(skycore, ["demo", *map(str, arguments)])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command send each fault once, and without the pause of a throttle."""
    monkeypatch.setattr(demo, "COUNT", COUNT)
    monkeypatch.setattr(bulk, "_THROTTLES", 0)


def test_the_messages_have_numbers_and_faults_of_their_own() -> None:
    """The demo's messages have distinct numbers and keys, and every fault."""
    sent = list(messages(3000))
    assert len({sms.to for sms in sent}) == len({sms.key for sms in sent}) == 3000
    assert {sms.to[-4:] for sms in sent} & BY_LAST_DIGITS.keys() == set(FAULTS)


@pytest.mark.slow
def test_programs_read_one_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--json gives one object with cases, audit and files."""
    monkeypatch.setattr(demo, "COUNT", COUNT)
    done = run("--directory", tmp_path / "new", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["as_it_should"] is True
    assert [case["as_it_should"] for case in told["cases"]] == [True] * len(CASES)
    wrong = {name: told[name] for name in ("duplicates", "lost", "denied")}
    assert set(wrong.values()) == {0}
    # Of the faults, 9 are taken and their answers lost, one without postbacks; 4 are never
    # taken, and are sent again; 4 are refused.
    assert [told[f"in_doubt_{when}"] for when in WHEN] == [13, 5, 0]
    assert (told["found_sent"], told["found_not_sent"], told["refused"]) == (1, 4, 4)
    assert told["billed"] == COUNT - 4
    assert told["tried_again"] in {4 + 1, 4 + 2}
    assert sum(told["states"].values()) == COUNT
    assert Path(told["ledger"]).is_file()
    assert Path(told["report"]).read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_people_read_the_summary_the_audit_and_where_the_report_is(tmp_path: Path) -> None:
    """Piped, the command prints summary, audit and the report's path, and nothing else."""
    done = run("--directory", tmp_path)
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{tmp_path / 'demo.db'}: {COUNT} messages" in done.stdout
    words = " ".join(done.stdout.split())
    assert "duplicates 0" in words
    assert "lost 0" in words
    assert "in doubt before settling 13" in words
    assert "in doubt after postbacks 5 they settled 8" in words
    assert "in doubt after the report 0 it shows 1 sent, 4 not sent" in words
    assert f"The report is in {tmp_path / 'demo.html'}\n" in done.stdout
    assert done.stdout.endswith("Everything came out as it should.\n")
    assert "\x1b" not in done.stdout


def test_the_audit_is_whole_where_there_is_little_room() -> None:
    """The audit is not cut on a narrow terminal."""
    printed = io.StringIO()
    audit = judge(["1"], {}, billed={}, asked={}, in_doubt=DoubtCounts())
    show_audit(Console(file=printed, width=40), audit)
    told = printed.getvalue()
    assert (
        "denied                            0  billed, and recorded as refused or not sent\n"
        in told
    )
    assert "\N{HORIZONTAL ELLIPSIS}" not in told
    assert not [line for line in told.splitlines() if line != line.rstrip()]


@pytest.mark.slow
def test_a_second_run_takes_other_names(tmp_path: Path) -> None:
    """A second run keeps existing files, and a bad case makes the demo fail."""
    (tmp_path / "demo.html").write_text("mine")
    surprise = Case(sms=SMS(to="15551231001", text="Hello"), state=DeliveryState.DELIVERED)
    assert demo.run(tmp_path, cases=[surprise], count=1) is Exit.NOT_ALL_WELL
    assert (tmp_path / "demo.html").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} >= {"demo-2.db", "demo-2.html"}


TWICE: dict[str, Any] = {"to": next(messages(1)).to, "text": "Hello again", "key": "again"}


@pytest.mark.slow
def test_a_failed_audit_makes_the_demo_fail_and_what_it_has_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A duplicate makes the demo fail, and its directory is kept."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    once = list(messages(1))
    monkeypatch.setattr(bulk, "messages", lambda _count: [*once, SMS(**TWICE)])
    assert demo.run(None, cases=CASES[:1], count=2) is Exit.NOT_ALL_WELL
    (made,) = tmp_path.iterdir()
    assert {path.name for path in made.iterdir()} >= {"demo.db", "demo.html"}
    out = capsys.readouterr().out
    assert "duplicates 1" in " ".join(out.split())
    assert out.endswith("Not everything came out as it should.\n")


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_progress_is_drawn_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal the progress shows messages and postbacks."""
    settled = bulk.send_and_settle(tmp_path / "demo.db", COUNT, live=True)
    assert settled.audit.is_well
    drawn = " ".join(capsys.readouterr().err.split())
    assert f"{COUNT}/{COUNT}" in drawn
    assert "in doubt 13" in drawn
    assert "settled 13" in drawn


# What can go wrong.


@pytest.mark.slow
def test_ctrl_c_ends_it_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the demo with 130 and removes its directory."""
    monkeypatch.setattr(demo, "COUNT", COUNT)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    # It is called when a third is sent.
    monkeypatch.setattr(Simulator, "script", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    done = run()
    assert (done.exit_code, done.stderr) == (130, "skycore: interrupted\n")
    assert "Now" in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_is_a_mistake_that_is_explained(tmp_path: Path) -> None:
    """An impossible --directory is refused with the reason."""
    (tmp_path / "file").write_text("")
    done = run("--directory", tmp_path / "file" / "below")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"skycore: --directory {tmp_path / 'file' / 'below'}: Not a directory\n"


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_an_account_that_is_refused_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused account ends the demo with exit code 1 and no traceback."""
    monkeypatch.setattr(bulk, "API_KEY", "another")
    done = run("--directory", tmp_path)
    assert done.exit_code == 1
    assert done.stderr.startswith("skycore: the account was refused: E104")


def test_help_shows_the_exit_codes() -> None:
    """`skycore demo --help` documents its exit codes."""
    done = CliRunner().invoke(skycore, ["demo", "--help"])
    assert done.exit_code == 0
    said = " ".join(done.output.split())
    assert "Exit codes: 0 if everything came out as it should, 1 if not, 2 wrong usage" in said


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra `server`, `skycore demo` says what to install, and no traceback."""
    for module in ("cli.demo.action", "cli.demo.bulk", "cli.demo.cases", "simulator.asgi_thread"):
        monkeypatch.delitem(sys.modules, f"skycore_async.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = CliRunner().invoke(skycore, ["demo"])
    assert done.exit_code == 1
    assert "pip install 'skycore-async[server]'" in done.output


def test_the_entry_point_is_the_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`skycore --version` prints the program's name and version."""
    monkeypatch.setattr(sys, "argv", ["skycore", "--version"])
    monkeypatch.setattr(cli, "_end_at_the_next", lambda: None)  # there are other tests to run
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert capsys.readouterr().out == f"skycore, version {__version__}\n"
