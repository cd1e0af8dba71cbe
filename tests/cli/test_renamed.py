"""`skycore bulk` of a file that was sent under another name: nobody is sent to twice unasked."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import anyio
import anyio.lowlevel
import pytest
from click.testing import CliRunner, Result

from skycore_async import SQLiteLedger
from skycore_async.cli.bulk import action
from skycore_async.cli.bulk.confirmed_ledger import note_regularly
from skycore_async.cli.bulk.questions import CampaignNotes
from skycore_async.cli.bulk.resemblance import Sketch
from skycore_async.cli.bulk.run import Run
from skycore_async.cli.commands.bulk import bulk
from skycore_async.cli.ui import confirm
from skycore_async.errors import LedgerError
from skycore_async.ledger.list_commands import GetLastTurn
from skycore_async.ledger.model import SendIntent
from skycore_async.simulator import Simulator
from tests.support.cli_program import program
from tests.support.typed_after import TypedAfter

ROWS = [f"1555123{n:04},Row{n}\n" for n in range(3000, 3080)]


@pytest.fixture(autouse=True)
def recipients(surroundings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a user's files, and a file of recipients."""
    monkeypatch.setenv("SKYCORE_HOME", str(tmp_path / "user"))
    sheet("promo.csv", ROWS)


def sheet(name: str, rows: list[str]) -> None:
    Path(name).write_text("to,name\n" + "".join(rows))


def run(name: str, *args: str, text: str = "Hi {name}", typed: str | None = None) -> Result:
    yes = [] if typed is not None else ["--yes"]
    return CliRunner().invoke(bulk, [name, "--text", text, *yes, *args], input=typed)


@pytest.fixture
def sent(simulator: Simulator) -> Simulator:
    """Send the file once."""
    assert run("promo.csv").exit_code == 0
    assert simulator.billed == len(ROWS)
    return simulator


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "share"),
    [
        (ROWS, "all"),
        (ROWS[::-1], "all"),
        ([*ROWS[:60], *(f"1666{r[4:]}" for r in ROWS[:12])], ""),
    ],
)
def test_a_renamed_file_is_known_by_its_rows(sent: Simulator, rows: list[str], share: str) -> None:
    """A renamed file is recognized by its rows, in any order, and sends nothing unasked."""
    sheet("final.csv", rows)
    done = run("final.csv")
    assert done.exit_code == 2
    assert share in done.stderr
    assert "were begun as campaign 'promo' with the ledger promo.db" in done.stderr
    assert "--campaign promo --ledger promo.db" in done.stderr
    assert sent.billed == len(ROWS)
    assert not Path("final.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "share"), [(12, "about 15 % of these messages"), (9, None)])
def test_a_campaign_begun_in_part_is_known(
    simulator: Simulator, limit: int, share: str | None
) -> None:
    """A renamed file of a campaign that was begun in part is recognized."""
    assert run("promo.csv", "--limit", str(limit)).exit_code == 0
    sheet("final.csv", ROWS)
    done = run("final.csv")
    assert done.exit_code == (0 if share is None else 2)
    assert share is None or share in done.stderr
    assert simulator.billed == limit + (len(ROWS) if share is None else 0)


@pytest.mark.slow
def test_the_advice_goes_on_with_the_campaign(sent: Simulator) -> None:
    """The advice in the error sends new rows and nobody twice."""
    sheet("final.csv", [*ROWS, "15559990000,New\n"])
    assert run("final.csv", "--campaign", "promo", "--ledger", "promo.db").exit_code == 0
    assert sent.billed == len(ROWS) + 1


@pytest.mark.slow
def test_yes_send_again_sends_a_renamed_file(sent: Simulator) -> None:
    """--yes-send-again sends each message a second time."""
    sheet("final.csv", ROWS)
    assert run("final.csv", "--yes-send-again").exit_code == 0
    assert sent.billed == 2 * len(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize(("typed", "billed"), [("n\n", 1), ("y\ny\n", 2), ("y\nn\n", 1)])
def test_on_a_terminal_it_asks(
    sent: Simulator, monkeypatch: pytest.MonkeyPatch, typed: str, billed: int
) -> None:
    """On a terminal a second send is a question of its own."""
    monkeypatch.setattr(confirm, "sys", SimpleNamespace(stdin=Terminal(), stderr=Terminal()))
    sheet("final.csv", ROWS)
    done = run("final.csv", typed=typed)
    assert sent.billed == billed * len(ROWS)
    assert (done.exit_code == 0) is (billed == 2)


def test_messages_begun_during_a_question_are_not_resent(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A campaign begun under another name during the question stops this one."""
    monkeypatch.setattr(confirm, "sys", SimpleNamespace(stdin=Terminal(), stderr=Terminal()))
    sheet("final.csv", ROWS)
    late = TypedAfter(b"y\n", lambda: run("promo.csv"))
    done = CliRunner().invoke(bulk, ["final.csv", "--text", "Hi {name}"], input=late)
    assert (done.exit_code, simulator.billed) == (2, len(ROWS))
    assert "nothing was sent: all of these messages, numbers and texts, were begun" in done.stderr
    assert "add --campaign promo --ledger promo.db" in done.stderr


def test_messages_sent_during_a_question_are_known(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the same campaign sent during the question is not sent again."""
    monkeypatch.setattr(confirm, "sys", SimpleNamespace(stdin=Terminal(), stderr=Terminal()))
    late = TypedAfter(b"y\n", lambda: run("promo.csv"))
    done = CliRunner().invoke(bulk, ["promo.csv", "--text", "Hi {name}"], input=late)
    assert (done.exit_code, simulator.billed) == (0, len(ROWS)), done.stderr


class Terminal:
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.slow
def test_another_text_is_another_campaign(sent: Simulator) -> None:
    """Another text to the same numbers is sent without a question."""
    sheet("final.csv", ROWS)
    assert run("final.csv", text="Bye {name}").exit_code == 0
    assert sent.billed == 2 * len(ROWS)


@pytest.mark.slow
def test_messages_not_sent_by_the_campaign_go_out(sent: Simulator) -> None:
    """A campaign with its ledger goes on without a question."""
    sheet("promo.csv", [*ROWS, "15559990000,New\n"])
    assert run("promo.csv").exit_code == 0
    assert sent.billed == len(ROWS) + 1


@pytest.mark.slow
def test_a_campaign_whose_ledger_is_gone_is_asked_about(sent: Simulator) -> None:
    """A campaign whose ledger is gone sends nothing unasked."""
    Path("promo.db").unlink()
    done = run("promo.csv")
    assert done.exit_code == 2
    assert "all of these messages" in done.stderr
    assert "were begun as campaign 'promo'" in done.stderr
    assert sent.billed == len(ROWS)


@pytest.mark.slow
def test_no_ledger_that_is_gone_is_advised(sent: Simulator) -> None:
    """The advice names no ledger that is gone."""
    Path("promo.db").rename("moved.db")
    for name in ("promo.csv", "final.csv"):
        sheet(name, ROWS)
        done = run(name)
        assert "only the ledger promo.db knows what was sent, and that file is gone" in done.stderr
        assert "find the file" in done.stderr
        assert "--ledger promo.db" not in done.stderr
        assert run(name, "--campaign", "promo", "--ledger", "moved.db").exit_code == 0
    assert sent.billed == len(ROWS)


@pytest.mark.slow
def test_a_ledger_that_was_made_anew_is_none_that_knows(sent: Simulator) -> None:
    """A new ledger under the old name does not count as the campaign's."""
    Path("promo.db").rename("moved.db")

    async def make() -> None:
        async with SQLiteLedger("promo.db"):
            pass

    anyio.run(make)
    done = run("promo.csv")
    assert done.exit_code == 2
    assert "were begun as campaign 'promo'" in done.stderr
    assert "the one that is there now has no message" in done.stderr
    assert "--ledger" not in done.stderr
    Path("moved.db").replace("promo.db")
    assert run("promo.csv").exit_code == 0
    assert sent.billed == len(ROWS)


def made_notes(monkeypatch: pytest.MonkeyPatch) -> list[CampaignNotes]:
    """Return a list that gets the notes of each run."""
    made: list[CampaignNotes] = []

    def make(*args: Any) -> CampaignNotes:
        made.append(CampaignNotes(*args))
        return made[-1]

    monkeypatch.setattr(action, "CampaignNotes", make)
    return made


def back_up(ledger: str) -> Path:
    with closing(sqlite3.connect(ledger)) as shell:
        shell.execute("VACUUM INTO 'backup.db'")
    return Path("backup.db")


@pytest.mark.slow
def test_a_backup_of_its_ledger_is_none_that_knows(simulator: Simulator) -> None:
    """A restored backup of the ledger sends nothing unasked."""
    assert run("promo.csv", "--limit", "30").exit_code == 0
    backup = back_up("promo.db")
    assert run("promo.csv", "--limit", "20").exit_code == 0
    Path("promo.db").rename("lost.db")
    backup.rename("promo.db")
    for dry in (["--dry-run"], []):
        done = run("promo.csv", *dry)
        assert (
            "the ledger promo.db is an older one than campaign 'promo' was last sent with, as a"
            " backup is"
        ) in done.stderr
    assert done.exit_code == 2
    assert simulator.billed == 50
    Path("lost.db").replace("promo.db")
    assert run("promo.csv").exit_code == 0
    assert simulator.billed == len(ROWS)


@pytest.mark.slow
def test_a_backup_with_as_many_messages_is_none_that_knows(simulator: Simulator) -> None:
    """A restored backup is recognized even with as many messages."""
    assert run("promo.csv", "--base-url", "http://127.0.0.1:9").exit_code == 4
    backup = back_up("promo.db")
    assert run("promo.csv").exit_code == 0
    Path("promo.db").unlink()
    backup.rename("promo.db")
    done = run("promo.csv")
    assert done.exit_code == 2
    assert "the ledger promo.db is an older one" in done.stderr
    assert simulator.billed == len(ROWS)


@pytest.mark.slow
def test_a_ledger_that_was_put_back_while_it_was_sent_with_is_asked_about(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger restored during a run is recognized by the next run."""
    assert run("promo.csv", "--limit", "30").exit_code == 0
    backup = back_up("promo.db")
    begin = SQLiteLedger.begin

    async def put_back(ledger: SQLiteLedger, intent: SendIntent, **more: Any) -> Any:
        if intent.to == "15551233060":
            # Noted every few seconds.
            noting[0].note_last_turn(await ledger.run(GetLastTurn()))
            with (
                closing(sqlite3.connect(backup)) as kept,
                closing(sqlite3.connect("promo.db")) as to,
            ):
                kept.backup(to)
        return await begin(ledger, intent, **more)

    with monkeypatch.context() as meanwhile:
        noting = made_notes(meanwhile)
        meanwhile.setattr(SQLiteLedger, "begin", put_back)
        done = run("promo.csv", "--in-flight", "1")
    assert done.exit_code == 4
    assert "has forgotten what was sent last" in done.stderr
    billed = simulator.billed
    assert 30 < billed < len(ROWS)
    done = run("promo.csv")
    assert done.exit_code == 2
    assert "the ledger promo.db is an older one" in done.stderr
    assert simulator.billed == billed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["promo.csv", "final.csv"])
def test_a_campaign_whose_first_message_takes_its_time_is_noted_as_sent(
    name: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A campaign is noted as begun even if its first message is recorded late."""
    begin = SQLiteLedger.begin
    sheet("final.csv", ROWS)

    async def slow(ledger: SQLiteLedger, intent: SendIntent, **more: Any) -> Any:
        with anyio.move_on_after(0.05):
            await note_regularly(ledger, noting[0].note_last_turn, sleep=sleep)
        return await begin(ledger, intent, **more)

    async def sleep(_seconds: float) -> None:
        await anyio.lowlevel.checkpoint()

    with monkeypatch.context() as meanwhile:
        noting = made_notes(meanwhile)
        meanwhile.setattr(SQLiteLedger, "begin", slow)
        assert run("promo.csv", "--limit", "60").exit_code == 0
    assert simulator.billed == 60
    Path("promo.db").unlink()
    assert run(name).exit_code == 2
    assert simulator.billed == 60


@pytest.mark.slow
def test_a_word_sends_what_a_backup_does_not_know_and_is_asked_for_once(
    simulator: Simulator,
) -> None:
    """--yes-send-again sends with a restored backup, and is needed once."""
    assert run("promo.csv", "--limit", "30").exit_code == 0
    backup = back_up("promo.db")
    assert run("promo.csv", "--limit", "20").exit_code == 0
    backup.replace("promo.db")
    assert run("promo.csv", "--limit", "10", "--yes-send-again").exit_code == 0
    assert run("promo.csv").exit_code == 0
    assert simulator.billed == len(ROWS) + 20


@pytest.mark.slow
def test_a_backup_is_good_enough_where_nothing_is_to_be_sent(simulator: Simulator) -> None:
    """A restored backup needs no question if nothing is to be sent."""
    assert run("promo.csv", "--limit", "30").exit_code == 0
    sheet("other.csv", [f"1666{row[4:]}" for row in ROWS])
    assert run("other.csv", "--ledger", "promo.db", "--limit", "30").exit_code == 0
    backup = back_up("promo.db")
    assert run("other.csv", "--ledger", "promo.db").exit_code == 0
    backup.replace("promo.db")
    sheet("other.csv", [f"1666{row[4:]}" for row in ROWS[:30]])
    assert run("other.csv", "--ledger", "promo.db").exit_code == 0
    assert run("promo.csv").exit_code == 0
    assert simulator.billed == 2 * len(ROWS)


@pytest.mark.slow
def test_a_campaign_that_began_nothing_is_not_asked_about(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A campaign that ended before its first message is not asked about."""
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Run, "_has_ended", True)
        assert run("promo.csv").exit_code == 4
    assert run("promo.csv").exit_code == 0
    assert simulator.billed == len(ROWS)


@pytest.mark.slow
def test_a_campaign_whose_first_message_could_not_be_recorded_goes_on(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A campaign whose first message could not be recorded goes on without a question."""
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(SQLiteLedger, "begin", unwritable)
        done = run("promo.csv")
        assert done.exit_code == 4
        assert "Run the same command to go on" in done.stderr
    assert run("promo.csv").exit_code == 0
    assert simulator.billed == len(ROWS)


@pytest.mark.slow
def test_what_was_sent_before_is_asked_about_though_nothing_more_could_be_recorded(
    sent: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lost ledger is asked about even if the new one could record nothing."""
    Path("promo.db").unlink()
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(SQLiteLedger, "begin", unwritable)
        assert run("promo.csv", "--yes-send-again").exit_code == 4
    assert run("promo.csv").exit_code == 2
    assert sent.billed == len(ROWS)


async def unwritable(*_: object, **__: object) -> NoReturn:
    raise LedgerError("the disk is full")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["promo.csv", "final.csv"])
def test_a_campaign_that_ended_before_it_had_a_ledger_is_not_asked_about(
    name: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A campaign that ended before it had a ledger is not asked about."""
    sheet("final.csv", ROWS)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Run, "send", interrupted)
        assert run("promo.csv").exit_code == 130
    assert not Path("promo.db").exists()
    assert run(name).exit_code == 0
    assert simulator.billed == len(ROWS)


async def interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_campaign_that_waits_is_known_under_another_name(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A campaign that was agreed to, but still waits, is recognized under another name."""
    sheet("final.csv", ROWS)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Run, "_has_ended", True)
        assert run("promo.csv").exit_code == 4
    done = run("final.csv")
    assert done.exit_code == 2
    assert "were begun as campaign 'promo' with the ledger promo.db" in done.stderr
    assert simulator.billed == 0


@pytest.mark.slow
@pytest.mark.parametrize("when", ["as it is agreed to", "before its first message"])
def test_of_two_that_are_begun_at_once_one_sends(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Of two runs of one file begun at once one sends, and the other stops."""
    sheet("final.csv", ROWS)

    def send_the_other() -> None:
        with program("bulk", "promo.csv", "--text", "Hi {name}", "--yes") as other:
            assert other.wait() == 0

    def agreed(*_: object) -> bool:
        send_the_other()
        return False

    async def sent_first(self: Run, *args: Any) -> Any:
        send_the_other()
        return await send(self, *args)

    send = Run.send
    with monkeypatch.context() as meanwhile:
        if when == "as it is agreed to":
            meanwhile.setattr(action, "ask", agreed)
        else:
            meanwhile.setattr(Run, "send", sent_first)
        done = run("final.csv")
    assert done.exit_code == (2 if when == "as it is agreed to" else 4)
    assert "nothing was sent: all of these messages, numbers and texts, were begun" in done.stderr
    assert simulator.billed == len(ROWS)
    again = run("promo.csv")
    assert again.exit_code == 0, again.output
    assert "to go on with that campaign, add --campaign promo" in run("final.csv").stderr
    assert simulator.billed == len(ROWS)


@pytest.mark.slow
def test_another_address_is_no_campaign_before(sent: Simulator) -> None:
    """Messages to another base URL, such as a simulator, do not count."""
    sheet("final.csv", ROWS)
    with Simulator() as other:
        assert run("final.csv", "--base-url", other.url).exit_code == 0
        assert other.billed == len(ROWS)


@pytest.mark.slow
def test_messages_of_a_rehearsal_are_reported_as_not_sent(sent: Simulator) -> None:
    """A ledger used with another base URL gives a warning."""
    said = "Campaign 'promo' was begun with promo.db at another address of the API as well: "
    assert said not in run("promo.csv").stderr
    with Simulator() as other:
        there = ("--base-url", other.url)
        for done in (run("promo.csv", *there, "--dry-run"), run("promo.csv", *there, "--json")):
            assert f"{said}{sent.url}. What was taken or refused there" in done.stderr
        assert other.billed == 0
        done = run("promo.csv", *there, "--ledger", "own.db")
        assert said not in done.stderr
        assert other.billed == len(ROWS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "text"),
    [("15551233000,Row\n", "Dear {name}"), ("15551230110,Row\n", ""), ("15551232001,Row\n", "")],
    ids=["sent with another text", "refused", "in doubt"],
)
def test_other_outcomes_of_a_rehearsal_are_reported(
    simulator: Simulator, row: str, text: str
) -> None:
    """The warning comes whatever the outcomes at the other base URL were."""
    sheet("one.csv", [row])
    run("one.csv")
    with Simulator() as other:
        done = run("one.csv", "--base-url", other.url, text=text or "Hi {name}")
        assert f"at another address of the API as well: {simulator.url}" in done.stderr
        assert other.billed == 0


@pytest.mark.slow
def test_another_ledger_is_not_advised_after_real_sending(
    simulator: Simulator,
) -> None:
    """The warning does not advise another ledger once messages were sent for real."""
    advised = "give the campaign a ledger of its own"
    run("promo.csv", "--limit", "3")
    with Simulator() as other:
        assert advised in run("promo.csv", "--base-url", other.url).stderr
        assert other.billed == len(ROWS) - 3
        done = run("promo.csv", "--base-url", other.url, text="Dear {name}")
    assert f"at another address of the API as well: {simulator.url}" in done.stderr
    assert advised not in done.stderr
    assert "with another ledger these would get a second message" in done.stderr


@pytest.mark.slow
def test_a_dry_run_tells_it_and_notes_nothing(sent: Simulator) -> None:
    """A dry run reports an earlier campaign, and notes nothing itself."""
    sheet("final.csv", ROWS)
    done = run("final.csv", "--dry-run", "--json")
    assert json.loads(done.stdout)["begun_before"]["place"]["campaign"] == "promo"
    assert "were begun as campaign 'promo'" in done.stderr
    sheet("third.csv", [f"1444{row[4:]}" for row in ROWS])
    run("third.csv", "--dry-run")
    assert json.loads(run("third.csv", "--dry-run", "--json").stdout)["begun_before"] is None


@pytest.mark.slow
@pytest.mark.parametrize("is_whole", [True, False])
def test_where_nothing_can_be_noted_it_says_so(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    """If nothing can be noted, the run sends with a warning."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKYCORE_HOME", str(tmp_path / "file" / "below" if is_whole else "user"))
    done = run("promo.csv", "--opt-outs", "none")
    assert done.exit_code == 0
    assert "a renamed file of recipients would be sent again" in done.stderr
    assert simulator.billed == len(ROWS)
    assert not Path("user").exists()


KEYED = [f"1555123{n:04},Row{n},00{n}\n" for n in range(3000, 3080)]


def keyed_sheet(rows: list[str]) -> None:
    Path("promo.csv").write_text("to,name,id\n" + "".join(rows))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "then"), [((), ("--key-column", "id")), (("--key-column", "id"), ())]
)
def test_other_keys_send_nobody_a_second_message(
    simulator: Simulator, first: tuple[str, ...], then: tuple[str, ...]
) -> None:
    """Another --key-column for a sent file is asked about."""
    keyed_sheet(KEYED)
    assert run("promo.csv", *first).exit_code == 0
    keyed_sheet([*KEYED, "15559990000,New,9\n"])
    done = run("promo.csv", *then)
    assert done.exit_code == 2
    assert "about 99 % of these messages" in done.stderr
    assert "under other keys" in done.stderr
    assert "--key-column" in done.stderr
    assert simulator.billed == len(ROWS)
    assert run("promo.csv", *first).exit_code == 0
    assert simulator.billed == len(ROWS) + 1
    assert run("promo.csv", *then, "--yes-send-again").exit_code == 0
    assert simulator.billed == 2 * (len(ROWS) + 1)
    keyed_sheet([*KEYED, "15559990000,New,9\n", "15559990001,New,10\n"])
    assert run("promo.csv", *then).exit_code == 0  # on with the keys that they have now
    assert simulator.billed == 2 * (len(ROWS) + 1) + 1


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["{n}", "{n}.0", '"{n:,}"', "+1 (555) {n}", "00-{n}"])
def test_keys_that_a_spreadsheet_changed_send_nobody_a_second_message(
    simulator: Simulator, changed: str
) -> None:
    """Keys that a spreadsheet wrote in another way are asked about, and sent nothing unasked."""
    keyed_sheet([row.replace(",00", ",1555") for row in KEYED] if "555" in changed else KEYED)
    assert run("promo.csv", "--key-column", "id").exit_code == 0
    keyed_sheet([f"1555123{n:04},Row{n},{changed.format(n=n)}\n" for n in range(3000, 3080)])
    done = run("promo.csv", "--key-column", "id")
    assert done.exit_code == 2
    assert "under other keys" in done.stderr
    assert simulator.billed == len(ROWS)


@pytest.mark.slow
def test_dates_that_a_spreadsheet_changed_send_nobody_a_second_message(
    simulator: Simulator,
) -> None:
    """Keys that are dates, of which a spreadsheet drops the zeros, are asked about as well."""
    dates = [(day, hour) for day in range(1, 9) for hour in range(10)]
    for form in ("{:02}/02/2026 {:02}:30", "{}/2/2026 {}:30"):
        keyed_sheet(
            [f"1555123{n:04},Row{n},{form.format(*date)}\n" for n, date in enumerate(dates)]
        )
        done = run("promo.csv", "--key-column", "id")
    assert done.exit_code == 2
    assert "under other keys" in done.stderr
    assert simulator.billed == len(dates)


@pytest.mark.slow
def test_what_an_earlier_version_sent_from_a_pipe_is_known_under_a_name(
    sent: Simulator, tmp_path: Path
) -> None:
    """A pipe that needs a name now is no new campaign: it was noted under that of a descriptor."""
    with closing(sqlite3.connect(tmp_path / "user" / "campaigns.db")) as notes, notes:
        for table in ("campaigns", "sketched_keys", "sent"):
            notes.execute(f"UPDATE {table} SET directory = '/proc/17/fd'")  # noqa: S608
    piped = Path("promo.csv").read_text()
    args = ["-", "--text", "Hi {name}", "--yes", "--ledger", "promo.db", "--campaign"]
    done = CliRunner().invoke(bulk, [*args, "other"], input=piped)
    assert done.exit_code == 2
    assert "add --campaign promo --ledger promo.db" in done.stderr
    assert CliRunner().invoke(bulk, [*args, "promo"], input=piped).exit_code == 0
    assert sent.billed == len(ROWS)


@pytest.mark.slow
def test_new_keys_are_new_messages(simulator: Simulator) -> None:
    """Wholly new keys are new messages."""
    for week in (1, 2):
        keyed_sheet([f"1555123{n:04},Row{n},week-{week}-{n}\n" for n in range(3000, 3080)])
        assert run("promo.csv", "--key-column", "id").exit_code == 0
    assert simulator.billed == 2 * len(ROWS)


@pytest.mark.slow
def test_keys_that_an_earlier_version_did_not_note_are_none_to_compare(sent: Simulator) -> None:
    """Without noted keys, as of an earlier version, a campaign goes on."""
    with closing(sqlite3.connect(Path("user", "campaigns.db"), isolation_level=None)) as noted:
        noted.execute("DROP TABLE sketched_keys")
    sheet("promo.csv", [*ROWS, "15559990000,New\n"])
    assert run("promo.csv").exit_code == 0
    assert sent.billed == len(ROWS) + 1


def sketch(numbers: range, text: str = "Hello") -> Sketch:
    made = Sketch()
    for n in numbers:
        made.add(str(15550000000 + n), text)
    return made


@pytest.mark.parametrize(
    ("ours", "theirs", "share"),
    [
        (range(10), range(10), 1.0),
        (range(10), range(5), 0.5),
        (range(5), range(10), 1.0),
        (range(10), range(10, 20), 0.0),
        (range(0), range(10), 0.0),
        (range(100_000), range(100_000), 1.0),
        (range(100_000), range(50_000, 150_000), 0.5),
        (range(100_000), range(25_000, 100_000), 0.75),
        (range(1000), range(100_000), 1.0),
        (range(100_000), range(1000), 0.01),
    ],
)
def test_a_share_is_distinguished_from_a_few(ours: range, theirs: range, share: float) -> None:
    """The share of common messages is exact for few, and within a tenth for many."""
    exactly = len(ours) <= 10
    found = sketch(ours).share_in(sketch(theirs))
    assert found == share if exactly else abs(found - share) <= 0.1


def test_a_sketch_is_the_same_after_it_was_kept() -> None:
    """A sketch is the same after it was stored or merged."""
    whole = sketch(range(2000))
    halves = sketch(range(1000))
    halves.merge(sketch(range(1000, 2000)))
    for other in (halves, Sketch.from_bytes(whole.to_bytes())):
        assert sketch(range(1500, 2500)).share_in(other) == sketch(range(1500, 2500)).share_in(
            whole
        )
    assert sketch(range(2000), "Bye").share_in(whole) == 0
