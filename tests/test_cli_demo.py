"""`skycore demo`: the main job, end to end, and its honesty."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from click.testing import CliRunner
from rich.console import Console

from skycore_async import SMS, DeliveryState, FailureReason, __version__
from skycore_async.cli import main
from skycore_async.cli.commands import skycore
from skycore_async.cli.demo import CASES, Case, run


def demo(*cases: Case) -> tuple[int, str]:
    """Run the demo with these cases, and give its exit code and what it printed."""
    printed = io.StringIO()
    code = run(Console(file=printed, width=140), cases)
    return code, printed.getvalue()


def test_every_message_has_a_row_that_says_what_became_of_it() -> None:
    """Each message has one row, with its outcome, its delivery state and its reason."""
    code, printed = demo(*CASES)
    assert code == 0, printed
    rows = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert "delivered" in rows["15551234888"]
    assert "accepted" in rows["442079460018"]
    assert "not a subscriber" in rows["15551231001"]
    assert "sent" in rows["15551231004"]
    assert "E110" in rows["15551230110"]
    assert "billed 5 messages; 5 were to go out" in printed


def test_a_lost_answer_is_shown_as_doubt() -> None:
    """The message whose answer was lost has no tracking id, and is not claimed as accepted."""
    _, printed = demo(*CASES)
    (row,) = (
        line for line in printed.splitlines() if line.startswith((" 15551232002", "15551232002  "))
    )
    assert "in doubt" in row
    assert "never learnt" in row
    assert "accepted" not in row
    assert "would have billed it twice" in " ".join(printed.split())


def test_the_exit_code_tells_when_something_came_out_otherwise() -> None:
    """A message that did not end as it should makes the demo fail and name it."""
    surprise = Case(
        sms=SMS(to="15551231001", text="Hello"),
        state=DeliveryState.DELIVERED,
        reason=FailureReason.BILLING,
    )
    code, printed = demo(surprise)
    assert code == 1
    assert "Not as it should be: 15551231001" in printed


def test_the_exit_code_tells_when_the_bill_is_wrong() -> None:
    """A message that was billed without being meant to go out makes the demo fail."""
    code, printed = demo(Case(sms=SMS(to="15551232002", text="Hello"), state=None))
    assert code == 1
    assert "Not as it should be" in printed


def test_the_command_runs_it() -> None:
    """`skycore demo` prints the table, exits 0, and writes nothing to standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "skycore_async.cli", "demo"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Everything came out as it should." in done.stdout


def test_help_shows_the_exit_codes() -> None:
    """`skycore demo --help` documents its exit codes."""
    done = CliRunner().invoke(skycore, ["demo", "--help"])
    assert done.exit_code == 0
    assert "Exit codes: 0 if everything came out as it should, 1 if not." in done.output


def test_the_exit_code_of_the_command_is_that_of_the_demo() -> None:
    """`skycore demo` exits with 0 when the demo says so."""
    assert CliRunner().invoke(skycore, ["demo"]).exit_code == 0


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra `server`, `skycore demo` says what to install, and no traceback."""
    for module in ("skycore_async.cli.demo", "skycore_async.serving"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = CliRunner().invoke(skycore, ["demo"])
    assert done.exit_code == 1
    assert "pip install 'skycore-async[server]'" in done.output


def test_the_entry_point_is_the_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`skycore --version` names the program and its version."""
    monkeypatch.setattr(sys, "argv", ["skycore", "--version"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    assert capsys.readouterr().out == f"skycore, version {__version__}\n"
