"""The list of opt-outs that all commands share."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
from pathlib import Path
from typing import NoReturn
from unittest import mock

import anyio
import httpx
import platformdirs
import pytest
from click.testing import CliRunner, Result

from skycore_async import SQLiteLedger, parse_postback
from skycore_async.cli.actions import listen
from skycore_async.cli.actions.listen import _NotificationPrinter
from skycore_async.cli.app import skycore
from skycore_async.cli.ui import confirm
from skycore_async.errors import LedgerError
from skycore_async.ledger.sqlite.opt_out_list import OptOutList
from skycore_async.simulator import Simulator
from tests.support.cli_program import program, told

ANN, BO, CO = "15551234888", "15551234889", "15551234890"
STOP = (
    f"<POSTBACK><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><FROM>{ANN}</FROM><TO>60856</TO>"
    "<TEXT>STOP</TEXT></POSTBACK>"
)


@pytest.fixture(autouse=True)
def recipients(surroundings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make two files of recipients, and a wide terminal."""
    monkeypatch.setenv("SKYCORE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("first.csv", "second.csv"):
        Path(name).write_text(f"to\n{ANN}\n{BO}\n")


def run(*args: str, code: int = 0) -> Result:
    done = CliRunner().invoke(skycore, args)
    assert done.exit_code == code, done.output
    return done


def bulk(name: str, *args: str, text: str = "Hello") -> Result:
    return CliRunner().invoke(skycore, ["bulk", name, "--text", text, "--yes", *args])


def listed(*args: str) -> list[str]:
    lines = run("opt-outs", "list", "--json", "--show-numbers", *args).stdout.splitlines()
    return [json.loads(line)["number"] for line in lines]


def hear(path: str, postback: str = STOP) -> None:
    """Record a STOP in a ledger that shares no list."""

    async def record() -> None:
        async with SQLiteLedger(path) as ledger:
            await ledger.record(*parse_postback(postback))

    anyio.run(record)


@pytest.mark.slow
def test_a_stop_counts_for_the_next_campaign(simulator: Simulator) -> None:
    """A STOP in one ledger keeps every other campaign from sending to the number."""
    assert bulk("first.csv").exit_code == 0
    hear("first.db")
    assert bulk("first.csv").exit_code == 0
    assert listed() == [ANN]
    done = bulk("second.csv", text="Bye")
    assert "  to send     1\n  opted out   1: not sent to\n" in done.stdout
    assert "opt-outs      1 number in " in done.stdout
    assert [message.text for message in simulator.messages if message.to == ANN] == ["Hello"]
    assert [message.text for message in simulator.messages if message.to == BO] == [
        "Hello",
        "Bye",
    ]


@pytest.mark.slow
def test_a_dry_run_counts_opted_out_recipients(simulator: Simulator) -> None:
    """A dry run counts opted-out numbers, with and without a ledger."""
    run("opt-outs", "add", ANN)
    told = json.loads(bulk("first.csv", "--dry-run", "--json").stdout)
    assert (told["to_send"], told["known"]) == (1, {"opted_out": 1})
    bulk("first.csv")
    told = json.loads(bulk("first.csv", "--dry-run", "--json").stdout)
    assert (told["to_send"], told["known"]) == (0, {"accepted": 1, "opted_out": 1})


@pytest.mark.slow
def test_recipients_taken_off_the_list_are_shown_before_sending(simulator: Simulator) -> None:
    """The preview counts numbers that opted in again."""
    run("opt-outs", "add", ANN)
    bulk("first.csv")
    run("opt-outs", "remove", ANN)
    told = json.loads(bulk("first.csv", "--dry-run", "--json").stdout)
    assert (told["to_send"], told["known"]) == (1, {"accepted": 1})
    run("opt-outs", "add", ANN)
    bulk("first.csv")

    async def opt_in() -> None:
        async with SQLiteLedger("first.db") as ledger:
            await ledger.opt_in(ANN)

    anyio.run(opt_in)
    assert listed() == [ANN]
    done = bulk("first.csv")
    assert "  to send     1\n  done before 1\n" in done.stdout
    assert [message.to for message in simulator.messages] == [BO, ANN]


@pytest.mark.slow
def test_without_the_list_a_ledger_is_alone(simulator: Simulator) -> None:
    """`--opt-outs none` neither reads nor writes the list."""
    run("opt-outs", "add", ANN)
    assert bulk("first.csv", "--opt-outs", "none").exit_code == 0
    assert simulator.billed == 2
    hear("first.db")
    run("opt-outs", "remove", ANN)
    assert bulk("first.csv", "--opt-outs", "none").exit_code == 0
    assert listed() == []


@pytest.mark.slow
def test_another_list_can_be_named(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """--opt-outs or SKYCORE_OPT_OUTS names another list."""
    run("opt-outs", "add", ANN, "--opt-outs", "team.db")
    assert listed() == []
    assert listed("--opt-outs", "team.db") == [ANN]
    monkeypatch.setenv("SKYCORE_OPT_OUTS", str(Path("team.db").resolve()))
    assert bulk("first.csv").exit_code == 1
    assert [message.to for message in simulator.messages] == [BO]


@pytest.mark.slow
def test_one_message_is_not_sent_either(simulator: Simulator) -> None:
    """`skycore send` obeys the list, with and without a ledger."""
    run("opt-outs", "add", "+1 (555) 123-4888")
    for ledger in ([], ["--ledger", "one.db"]):
        done = run("send", ANN, "Hello", *ledger, code=4)
        assert "opted out" in done.stderr
    assert simulator.billed == 0
    run("opt-outs", "remove", ANN)
    for ledger in ([], ["--ledger", "one.db"]):
        run("send", ANN, "Hello", *ledger)
    assert simulator.billed == 2


def test_one_message_is_not_sent_to_whose_stop_was_named_within_the_country(
    simulator: Simulator,
) -> None:
    """`skycore send` obeys a STOP without country code."""
    hear("heard.db", STOP.replace(ANN, ANN.removeprefix("1")))
    run("opt-outs", "import", "heard.db")
    assert "opted out" in run("send", ANN, "Hello", code=4).stderr
    run("opt-outs", "remove", ANN)
    run("send", ANN, "Hello")
    assert simulator.billed == 1


@pytest.mark.slow
def test_a_database_hears_of_the_list_as_a_campaign_is_loaded(dsn: str) -> None:
    """Loading a campaign exchanges opt-outs between list and database."""
    run("opt-outs", "add", ANN)
    assert bulk("first.csv", "--cluster", dsn).exit_code == 0

    async def is_out() -> bool:
        from skycore_async import PostgresLedger

        async with PostgresLedger(dsn) as ledger:
            await ledger.opt_out(CO)
            return await ledger.is_opted_out(ANN)

    assert anyio.run(is_out)
    assert bulk("second.csv", "--cluster", dsn, text="Bye").exit_code == 0
    assert listed() == [ANN, CO]


def test_a_list_goes_out_and_in_as_csv(tmp_path: Path) -> None:
    """An exported list can be imported."""
    run("opt-outs", "add", BO, ANN)
    run("opt-outs", "export", "blocked.csv")
    with Path("blocked.csv").open(newline="") as file:
        assert [row["number"] for row in csv.DictReader(file)] == [ANN, BO]
    assert os.stat("blocked.csv").st_mode & 0o077 == 0  # noqa: PTH116
    run("opt-outs", "import", "blocked.csv", "--opt-outs", "other.db")
    assert listed("--opt-outs", "other.db") == [ANN, BO]
    assert run("opt-outs", "export").stdout == Path("blocked.csv").read_text()
    assert run("opt-outs", "export", "-").stdout == Path("blocked.csv").read_text()
    assert not Path("-").exists()
    assert "is there already" in run("opt-outs", "export", "blocked.csv", code=2).stderr


def test_a_dry_run_of_an_import_puts_nobody_onto_the_list() -> None:
    """A dry run of an import counts and changes nothing."""
    run("opt-outs", "add", ANN)
    Path("blocked.csv").write_text(f"Phone\n{ANN}\n{BO}\n")
    done = run("opt-outs", "import", "blocked.csv", "--dry-run")
    assert "2 numbers would be put on " in done.stderr
    assert done.stderr.endswith(
        ": 1 of them on it already. This was a dry run: nothing was changed.\n"
    )
    assert listed() == [ANN]
    assert run("opt-outs", "import", "blocked.csv").stderr.endswith(": 1 of them on it before\n")
    assert listed() == [ANN, BO]
    Path("wrong.csv").write_text(f"Phone\n{CO}\n555\n")
    assert "line 3: " in run("opt-outs", "import", "wrong.csv", "--dry-run", code=1).stderr
    assert listed() == [ANN, BO]


@pytest.mark.parametrize("answer", ["n", "y", "", "--yes", "nothing new"])
def test_on_a_terminal_an_import_asks_first(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal an import asks first."""
    monkeypatch.setattr(confirm, "has_terminal", lambda: True)
    Path("blocked.csv").write_text(f"Phone\n{ANN}\n{BO}\n")
    run("opt-outs", "add", ANN, *[BO] * (answer == "nothing new"))
    command = ["opt-outs", "import", "blocked.csv", *["--yes"] * (answer == "--yes")]
    done = CliRunner().invoke(skycore, command, input=answer)
    is_asked = answer in {"n", "y", ""}
    assert ("2 numbers: 1 of them on " in done.stderr) is is_asked
    assert ("Put 1 more on it? Nothing is sent there any more" in done.stderr) is is_asked
    codes = {"n": 4, "": 130}  # the latter as at Ctrl-C
    assert done.exit_code == codes.get(answer, 0)
    assert listed() == ([ANN] if answer in codes else [ANN, BO])
    assert ("nothing was changed" in done.stderr) is (answer in codes)


def test_a_dry_run_takes_in_nothing_that_a_service_heard() -> None:
    """A dry run of an import from a ledger changes nothing."""
    hear("service.db")
    done = run("opt-outs", "import", "service.db", "--dry-run")
    assert done.stderr == (
        "what 1 number said to service.db would be taken in."
        " This was a dry run: nothing was changed.\n"
    )
    assert listed() == []


def test_an_import_error_names_its_line() -> None:
    """A row that cannot be imported is named with its line; the others are imported."""
    Path("blocked.csv").write_text(f"name,Phone\nAnn,{ANN}\nNobody,555\nBo,{BO}\n")
    done = run("opt-outs", "import", "blocked.csv", code=1)
    assert "line 3: " in done.stderr
    assert "no number can be read from 1 row of blocked.csv" in done.stderr
    assert listed() == [ANN, BO]


def test_a_cell_is_read_as_a_campaign_reads_it() -> None:
    """A cell like `="1555"` is imported as its number."""
    Path("blocked.csv").write_text(f'Phone\n="{ANN}"\n={BO}\n')
    assert "1 number put on " in run("opt-outs", "import", "blocked.csv", code=1).stderr
    assert listed() == [ANN]


def test_changes_of_the_list_are_reported() -> None:
    """Each change of the list is reported with its count and the list's path."""
    assert "1 number put on " in run("opt-outs", "add", ANN).stderr
    done = run("opt-outs", "remove", ANN, BO)
    assert "2 numbers not on " in done.stderr
    assert done.stderr.endswith(" any more: 1 of them had not been on it\n")
    run("opt-outs", "add", ANN)
    assert run("opt-outs", "remove", ANN).stderr.endswith(" any more\n")


def test_opt_outs_of_a_ledger_can_be_imported() -> None:
    """A ledger's opt-outs can be imported, with their times."""
    hear("service.db")
    assert "what 1 number said to service.db is taken in: 1 number on " in import_service()
    assert listed() == [ANN]
    run("opt-outs", "remove", ANN)
    import_service()
    assert listed() == []


@pytest.mark.parametrize("stamp", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_word_with_a_time_that_is_none_in_utc_is_listed(stamp: str) -> None:
    """An entry whose time cannot be converted to UTC is listed and exported."""
    body = STOP.replace("</POSTBACK>", f"<RECEIVED>{stamp}</RECEIVED></POSTBACK>")
    hear("service.db", body)
    import_service()
    assert listed() == [ANN]
    assert run("opt-outs", "export").stdout.splitlines()[1].startswith(f"{ANN},")


def said(text: str, number: int) -> str:
    """Return a text from a handset with an id and without a time."""
    return (
        f'<NOTIFICATION ID="{number}"><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><BODY>'
        f"<FROM>{ANN}</FROM><TO>60856</TO><TEXT>{text}</TEXT></BODY></NOTIFICATION>"
    )


@pytest.mark.slow
def test_a_start_that_comes_once_more_takes_no_stop_back(simulator: Simulator) -> None:
    """A START that Skycore repeats does not undo a later STOP; a new START does."""
    with program("listen", "--port", "0", "--ledger", "first.db", "--json") as process:
        url = told(process)["url"]
        words = (("START", 1), ("STOP", 2), ("START", 1), ("START", 3))
        for (text, number), known in zip(words, ([], [ANN], [ANN], []), strict=True):
            answer = httpx.post(url, content=said(text, number), trust_env=False)
            assert answer.status_code == 200
            assert listed() == known
        process.send_signal(signal.SIGTERM)
        process.wait()
    assert bulk("first.csv").exit_code == 0
    assert simulator.billed == 2


def test_a_start_that_the_list_could_not_be_told_takes_no_later_stop_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A START repeated after the list failed does not undo a later STOP."""
    shared = OptOutList(tmp_path / "list.db")
    printer = _NotificationPrinter(print, shared)
    printer(*parse_postback(said("STOP", 1)))
    with monkeypatch.context() as full:
        full.setattr("skycore_async.ledger.sqlite.opt_out_list.connect", _refused)
        with pytest.raises(LedgerError):
            printer(*parse_postback(said("START", 2)))
    printer(*parse_postback(said("STOP", 3)))
    printer(*parse_postback(said("START", 2)))
    assert shared.count() == 1
    printer(*parse_postback(said("START", 4)))
    assert shared.count() == 0


def _refused(path: str) -> NoReturn:
    raise sqlite3.OperationalError("database is locked")


@pytest.mark.parametrize("count", [1, 3])
def test_no_more_starts_are_remembered_than_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, count: int
) -> None:
    """Only a limited number of STARTs is remembered."""
    monkeypatch.setattr(listen, "_MOST", 2)
    shared = OptOutList(tmp_path / "list.db")
    printer = _NotificationPrinter(print, shared)
    for number in (1, *range(2, count + 1)):
        printer(*parse_postback(said("START", number)))
    printer(*parse_postback(said("STOP", 4)))
    printer(*parse_postback(said("START", 1)))
    assert shared.count() == (count == 1)


def import_service() -> str:
    return run("opt-outs", "import", "service.db").stderr


@pytest.mark.parametrize(
    ("args", "warns"),
    [
        (("add", "(555) 123-4888"), True),
        (("remove", "(555) 123-4888"), True),
        (("import", "american.csv"), True),
        (("add", "(555) 123-4888", "--country", "US"), False),
        (("add", "+55 5123 4888"), False),
        (("add", ANN), False),
    ],
)
def test_a_number_that_may_be_a_mistake_is_reported(args: tuple[str, ...], warns: bool) -> None:
    """Ten-digit numbers without + give a warning."""
    Path("american.csv").write_text("to\n555-123-4888\n")
    said = run("opt-outs", *args).stderr
    warning = "1 number has ten digits and no +: as they stand they are of +55."
    assert (warning in said) is warns


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("add", ANN, "555"), "nothing was changed: "),
        (("import", "none.csv"), "none.csv: No such file"),
        (
            ("import", "odd.csv"),
            "--to-column (the first line is to name the columns, and is 'name')",
        ),
        (("list", "--opt-outs", "none"), "there is no list to look at"),
        (("list", "--opt-outs", "odd.csv"), "cannot be used"),
        (("add", ANN, "--opt-outs", "odd.csv"), "nothing was changed: "),
        (("import", "odd.db"), "odd.db is no ledger"),
        (("import", "x" * 300), "File name too long"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(args: tuple[str, ...], words: str) -> None:
    """A bad number, file or list is a one-line error, and changes nothing."""
    Path("odd.csv").write_text("name\nAnn\n")
    Path("odd.db").write_bytes(b"SQLite format 3\0and no more")
    assert words in run("opt-outs", *args, code=2).stderr
    assert listed() == []


def test_a_list_that_cannot_be_read_sends_nothing(simulator: Simulator) -> None:
    """A list that cannot be read keeps commands from sending."""
    Path("broken.db").write_text("no list")
    for args in ([], ["--dry-run"]):
        done = bulk("first.csv", "--opt-outs", "broken.db", *args)
        assert done.exit_code == 2
        assert "nothing was sent: broken.db" in done.stderr
        assert done.stderr.endswith("; --opt-outs names another list, or none\n")
    assert run("send", ANN, "Hello", "--opt-outs", "broken.db", code=2).stderr.startswith(
        "skycore: not sent: broken.db"
    )
    assert simulator.billed == 0


def test_who_has_no_home_is_told_how_to_name_one(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user directory that cannot be written is an error with advice."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("SKYCORE_HOME", str(tmp_path / "file" / "below"))
    for done in (
        run("send", ANN, "Hello", code=2),
        bulk("first.csv"),
        run("opt-outs", "list", code=2),
    ):
        assert "; SKYCORE_HOME names another place for it; --opt-outs names another" in done.stderr
    assert simulator.billed == 0


@pytest.mark.parametrize("variable", ["SKYCORE_HOME", "SKYCORE_OPT_OUTS"])
def test_a_relative_path_in_the_environment_is_refused(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A relative path in SKYCORE_HOME or SKYCORE_OPT_OUTS is refused."""
    monkeypatch.setenv(variable, "somewhere")
    for done in (
        run("send", ANN, "Hello", code=2),
        bulk("first.csv"),
        run("opt-outs", "list", code=2),
    ):
        assert done.stderr.startswith(f"skycore: {variable}: it is not an absolute path")
    assert simulator.billed == 0
    assert not Path("somewhere").exists()
    assert run("opt-outs", "list", "--opt-outs", "here.db").exit_code == 0


def test_a_user_without_a_home_is_told_what_to_set(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user without home directory is told to set SKYCORE_HOME."""
    none = mock.Mock(side_effect=RuntimeError)
    monkeypatch.setattr(platformdirs, "user_data_path", none)
    monkeypatch.setattr(Path, "home", none)
    run("opt-outs", "add", ANN)
    assert "opt-outs.db\n" in bulk("first.csv").stdout
    billed = simulator.billed
    monkeypatch.delenv("SKYCORE_HOME")
    for done in (
        run("send", BO, "Hi", code=2),
        bulk("second.csv"),
        run("opt-outs", "list", code=2),
    ):
        assert done.stderr.startswith("skycore: this user has no home directory")
        assert "set SKYCORE_HOME to a directory" in done.stderr
    assert simulator.billed == billed


def test_numbers_are_masked_unless_asked_for() -> None:
    """`opt-outs list` masks numbers and counts them."""
    run("opt-outs", "add", ANN)
    done = run("opt-outs", "list")
    assert ANN not in done.output
    assert "4888" in done.stdout
    assert "1 number in " in done.stderr
