"""`skycore bulk` after `skycore settle`: settled doubts count, and the rest is sent."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner, Result

from skycore_async import SQLiteLedger
from skycore_async.cli.app import skycore
from skycore_async.cli.ui.output import Exit
from skycore_async.simulator import API_KEY, Answer, Behaviour, Simulator, refusal

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
    """Send to five with two in doubt, and settle: one was sent, one was not."""
    recipients(*NUMBERS)
    assert bulk("promo.csv").exit_code == Exit.IN_DOUBT
    done = CliRunner().invoke(skycore, ["settle", "promo.db", "--after", "0", "--json"])
    assert (facts(done)["sent"], facts(done)["not_sent"]) == (1, 1)
    return simulator


@pytest.fixture
def rejects(simulator: Simulator) -> Path:
    """Send to six, one invalid and two in doubt, and settle as above."""
    recipients(*NUMBERS, "none")
    assert facts(bulk("promo.csv", "--json"))["rejects"] == "promo.rejects.csv"
    assert rejected("promo.rejects.csv").keys() == {"2001", "2002", "none"}
    CliRunner().invoke(skycore, ["settle", "promo.db", "--after", "0"])
    simulator.script(Behaviour())
    return Path("promo.rejects.csv")


@pytest.mark.slow
def test_rejects_do_not_pile_up_where_doubts_end(rejects: Path) -> None:
    """An untouched rejects file is rewritten with what is still to be corrected."""
    assert facts(bulk("promo.csv", "--json"))["rejects"] == rejects.name
    assert rejected(rejects.name).keys() == {"none"}
    assert [*Path.cwd().glob("*.rejects*")] == [rejects.resolve()]


@pytest.mark.slow
def test_rejects_do_not_pile_up_where_doubts_end_and_others_come(rejects: Path) -> None:
    """Rejects that ended, and new ones, make no second rejects file."""
    recipients(*NUMBERS, "none", "nor this")
    assert facts(bulk("promo.csv", "--json"))["rejects"] == rejects.name
    assert rejected(rejects.name).keys() == {"none", "this"}
    recipients(*NUMBERS, "that", "nor this")
    assert facts(bulk("promo.csv", "--json"))["rejects"] == "promo.rejects-2.csv"
    assert rejected(rejects.name).keys() == {"none", "this"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "why", ["touched", "limited", "another text", "another campaign", "not known"]
)
def test_rejects_are_kept_that_may_be_needed(
    rejects: Path, why: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rejects file that was edited, or that the run did not cover, is kept."""
    if why == "touched":
        mended = rejects.read_text("utf-8-sig").replace("15551232001", "15551232009")
        rejects.write_text(mended, "utf-8-sig")
    if why == "not known":
        monkeypatch.setenv("SKYCORE_HOME", str(Path("elsewhere").resolve()))
    before = rejects.read_bytes()
    more: tuple[str, ...] = ("--limit", "5") if why == "limited" else ()
    if why == "another campaign":
        more = ("--campaign", "b", "--ledger", "b.db")
        simulator.script(*[Behaviour()] * 5)
    text = "Bye" if why == "another text" else "Hello"
    told = facts(bulk("promo.csv", "--yes-send-again", "--json", *more, text=text))
    assert told["rejects"] == "promo.rejects-2.csv"
    assert rejects.read_bytes() == before


@pytest.mark.slow
def test_a_listed_message_is_no_doubt_under_another_text(settled: Simulator) -> None:
    """A message that a report settled as sent is reported as sent under another text."""
    settled.script(Behaviour())
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


@pytest.mark.slow
def test_the_count_to_send_equals_the_count_sent(settled: Simulator) -> None:
    """The preview counts exactly the messages that go out."""
    recipients(*NUMBERS, "15551234885")
    shown = bulk("promo.csv", "--dry-run", "--price", "0.5").stdout
    assert "rows          6\n  to send     2\n  done before 4\n" in shown
    assert "segments      2\n" in shown
    assert "estimate      1.00 at 0.5 a segment" in shown
    settled.script(Behaviour())
    done = bulk("promo.csv", "--json")
    assert "  to send     2\n  done before 4\n" in done.stderr
    assert "The ledger holds 5 messages, 0 of them in doubt. This run sends" in done.stderr
    told = facts(done)
    assert (told["to_send"], told["accepted"], told["already_done"]) == (2, 2, 4)
    assert (settled.billed, done.exit_code) == (6, Exit.DONE)
    told = facts(bulk("promo.csv", "--json"))
    assert (told["to_send"], told["accepted"], told["already_done"]) == (0, 0, 6)


@pytest.mark.slow
def test_the_state_of_a_row_in_the_ledger_is_shown_before_sending(
    settled: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preview counts rows in doubt, rejected, opted out or sent with another text."""
    settled.script(refusal("E110"), Behaviour(answer=Answer.DROP))
    more = ("15551234110", "15551234111", "15551234112")
    recipients(*more[:2])
    assert bulk("promo.csv").exit_code == Exit.IN_DOUBT
    anyio.run(opt_out, more[2])
    recipients(*NUMBERS, *more)
    lines = [
        "  to send     1",
        "  done before 4",
        "  in doubt    1 by the ledger: not sent again",
        "  refused     1 before: not sent again",
        "  opted out   1: not sent to",
    ]
    shown = bulk("promo.csv", "--dry-run").stdout
    assert "\n".join(lines) in shown
    lines[1:3] = [
        "  in doubt    1 of these: who has one already gets it twice, and you pay twice",
        "  done before 4",
    ]
    lines[0] = "  to send     2"
    assert "\n".join(lines) in bulk("promo.csv", "--dry-run", "--resend-in-doubt").stdout
    other = bulk("promo.csv", "--dry-run", "--rejects", "mend.csv", text="Bye").stdout
    assert "  sent before 4 with another text, number or sender\n" in other
    monkeypatch.delenv("SKYCORE_FROM")
    assert "  done before 4\n" in bulk("promo.csv", "--dry-run").stdout


async def opt_out(number: str) -> None:
    async with SQLiteLedger("promo.db") as ledger:
        await ledger.opt_out(number)


@pytest.mark.slow
def test_a_bound_on_segments_holds_for_what_goes_out(settled: Simulator) -> None:
    """--max-segments covers what goes out, with doubts that may be settled as not sent."""
    assert "to send     1\n" in bulk("promo.csv", "--max-segments", "1", "--dry-run").stdout
    settled.script(Behaviour(answer=Answer.DROP))
    assert bulk("promo.csv", "--max-segments", "1").exit_code == Exit.IN_DOUBT
    recipients(*NUMBERS, "15551234885")
    done = bulk("promo.csv", "--max-segments", "1", "--settle")
    assert "it could take 2 segments, and --max-segments is 1" in done.stderr
    assert bulk("promo.csv", "--max-segments", "1").exit_code == Exit.IN_DOUBT
    assert settled.billed == 6


@pytest.mark.slow
def test_old_rejects_show_the_outcomes_of_their_rows(settled: Simulator) -> None:
    """Rows of an old rejects file are left out if sent, and sent if settled as not sent."""
    old = Path("promo.rejects.csv")
    assert {reason.split(":")[0] for reason in rejected(str(old)).values()} == {"in doubt"}
    shown = bulk(str(old), "--dry-run", "--rejects", "mend.csv").stdout
    assert "  to send     1\n" in shown
    assert "already sent: Skycore's own report of what it sent lists it" in shown
    assert rejected("mend.csv").keys() == {"2002"}
    settled.script(Behaviour())
    done = bulk(str(old), "--json")
    told = facts(done)
    assert (told["to_send"], told["accepted"], told["left_out"]["duplicate"]) == (1, 1, 1)
    assert (told["not_sent"], done.exit_code, settled.billed) == (0, Exit.DONE, 5)
    assert rejected(told["rejects"]) == {
        "2002": "already sent: Skycore's own report of what it sent lists it"
    }


@pytest.mark.slow
def test_old_rejects_are_in_doubt_where_no_ledger_knows_better(settled: Simulator) -> None:
    """Rows of an old rejects file stay in doubt under another ledger."""
    other = ("--campaign", "b", "--ledger", "b.db", "--yes-send-again")
    old = Path("promo.rejects.csv")
    old.write_text(old.read_text("utf-8-sig") + "15551232001,,9\n", "utf-8-sig")
    settled.script(*[Behaviour()] * 2)
    told = facts(bulk(str(old), *other, "--json"))
    assert (told["accepted"], told["left_in_doubt"], settled.billed) == (1, 2, 5)
    told = facts(bulk(str(old), "--yes-send-again", "--json"))
    assert (told["accepted"], settled.billed) == (1, 6)
    with Path(told["rejects"]).open(encoding="utf-8-sig", newline="") as file:
        assert "15551232001 is on line 4" in [row["reason"] for row in csv.DictReader(file)]


@pytest.mark.slow
def test_old_rejects_that_are_no_messages_any_more_say_why(settled: Simulator) -> None:
    """An invalid row of an old rejects file is reported as invalid."""
    done = bulk("promo.rejects.csv", "--max-segments-each", "1", text="x" * 200)
    assert done.exit_code == Exit.NOT_ALL_WELL
    told = rejected("promo.rejects-2.csv")
    assert told["2001"] == "text: it takes 2 segments, and --max-segments-each is 1"


@pytest.mark.slow
def test_rejects_are_settled_first_where_that_is_asked_for(simulator: Simulator) -> None:
    """With --settle the rows of a rejects file are settled first."""
    recipients(*NUMBERS[:3], "15551234885")
    assert bulk("promo.csv").exit_code == Exit.IN_DOUBT
    old = Path("promo.rejects.csv")
    old.write_text(old.read_text("utf-8-sig") + "15551234884,,9\n", "utf-8-sig")
    done = bulk(str(old), "--settle", "--json")
    assert (facts(done)["accepted"], facts(done)["not_sent"]) == (1, 0)
    assert (facts(done)["left_in_doubt"], done.exit_code) == (0, Exit.DONE)
    assert simulator.billed == 5


def status(*options: str) -> str:
    return CliRunner().invoke(skycore, ["status", "promo.db", *options]).stdout


@pytest.mark.slow
def test_messages_settled_by_sending_reports_are_counted(settled: Simulator) -> None:
    """`status` and the report page count what sending reports settled."""
    assert "report: sent             1  which Skycore's own report lists\n" in status()
    assert "report: not              1  which it proved not sent\n" in status()
    told = json.loads(status("--json"))
    assert (told["settled"], told["proven_not_sent"], told["sent_since"]) == ({"report": 2}, 1, 0)
    assert "proven not sent: Skycore's own report" in status("--state", "not_sent")
    settled.script(Behaviour())
    assert bulk("promo.csv").exit_code == Exit.DONE
    assert "report: sent             1  which Skycore's own report lists\n" in status()
    assert "report: not              1  which it proved not sent; 1 of them went out" in status()
    told = json.loads(status("--json"))
    assert (told["settled"], told["proven_not_sent"], told["sent_since"]) == ({"report": 2}, 1, 1)
    CliRunner().invoke(skycore, ["report", "promo.db", "--html", "promo.html"])
    page = Path("promo.html").read_text("utf-8")
    assert "1 message once in doubt turned out not to be sent" in page
    assert "1 message of these went out since.</p>" in page
