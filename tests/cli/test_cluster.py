"""The commands for PostgreSQL: load, work, show, stop and continue a campaign."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from click.testing import CliRunner, Result

from benchmarks.postgres import Server, shared
from skycore_async import PostgresLedger, SQLiteLedger, share_opt_outs
from skycore_async.campaigns.announced_waits import resume_command
from skycore_async.cli.app import skycore
from skycore_async.cli.bulk.earlier_campaigns import opened
from skycore_async.cli.ui.ledger_target import ledger_target
from skycore_async.cli.ui.opt_out_list import list_of
from skycore_async.cli.ui.output import Exit
from skycore_async.ledger.postgres.session import WHY_HALTED
from skycore_async.ledger.sqlite.inbox_file import InboxFile, KeptPostback
from skycore_async.postgres.schema import VERSION
from skycore_async.runtime.secret import Secret
from skycore_async.simulator import API_KEY, Account, Answer, Behaviour, Simulator, refusal
from tests.support.campaign_tables import empty_queue
from tests.support.cli_program import program
from tests.support.ledger_cases import NOON, notice, said

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    """Work in a directory of its own, with key and sender, and empty tables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKYCORE_API_KEY", API_KEY)
    monkeypatch.setenv("SKYCORE_FROM", "60856")
    monkeypatch.setenv("SKYCORE_BASE_URL", NOWHERE)
    monkeypatch.delenv("SKYCORE_DSN", raising=False)
    with psycopg.connect(dsn, autocommit=True) as connection:
        empty_queue(connection)


@pytest.fixture
def simulator(surroundings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Run a simulator at the base URL."""
    with Simulator(behaviours={}) as running:
        monkeypatch.setenv("SKYCORE_BASE_URL", running.url)
        yield running


def run(*args: str, **environment: str) -> Result:
    done = CliRunner(env=environment).invoke(skycore, args)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def answer(*args: str, **environment: str) -> dict[str, Any]:
    """Run a command with --json, and return its answer."""
    done = run(*args, "--json", **environment)
    value = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(value, dict)
    return {**value, "exit": done.exit_code}


def recipients(count: int, *more: str, name: str = "promo.csv") -> str:
    rows = [f"1555{n:07},{n}" for n in range(count)]
    Path(name).write_text("\n".join(["to,name", *rows, *more]) + "\n", "utf-8")
    return name


def loaded(dsn: str, *args: str, count: int = 30, **environment: str) -> dict[str, Any]:
    recipients(count)
    return answer(
        "bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes", *args, **environment
    )


def until(is_so: Callable[[], bool], within: float = 20) -> None:
    end = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


@pytest.mark.slow
def test_numbers_of_a_country_are_read_as_they_are_loaded(simulator: Simulator, dsn: str) -> None:
    """A load with --country stores numbers in international format."""
    Path("promo.csv").write_text("to\n(555) 123-4888\n020 555 4889\n5551234890\n", "utf-8")
    load = ("bulk", "promo.csv", "--text", "Hi", "--cluster", dsn, "--yes", "--country", "US")
    done = answer(*load)
    assert (done["new"], done["countries"], done["ten_digits"]) == (2, {"1": 2}, None)
    assert answer(*load)["known"] == 2
    assert answer("worker", dsn, "--drain")["accepted"] == 2
    assert sorted(one.to for one in simulator.messages) == ["15551234888", "15551234890"]


@pytest.mark.slow
def test_opt_outs_of_the_database_are_counted_before_loading(dsn: str) -> None:
    """The estimate leaves out numbers opted out on the list or in the database."""
    recipients(4)

    async def hear_stop() -> None:
        async with PostgresLedger(dsn) as ledger:
            await ledger.record(said("STOP", from_="15550000001"))

    anyio.run(hear_stop)
    run("opt-outs", "add", "15550000002")
    load = ("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn)
    told = answer(*load, "--dry-run")
    assert (told["to_send"], told["known"], told["segments"]) == (2, {"opted_out": 2}, 2)
    shown = run(*load, "--yes").stdout
    assert "  to send     2\n  opted out   2: not sent to\n" in shown


@pytest.mark.slow
def test_messages_sent_by_the_database_are_counted_before_loading(
    simulator: Simulator, dsn: str
) -> None:
    """The estimate leaves out what the database has sent."""
    simulator.script(refusal("E110"), Behaviour(answer=Answer.EMPTY))
    loaded(dsn, count=5)
    answer("worker", dsn, "--drain", "--in-flight", "1")
    recipients(7)
    load = ("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--price", "0.01")
    told = answer(*load, "--dry-run")
    assert told["known"] == {"accepted": 3, "refused": 1, "in_doubt": 1}
    assert (told["to_send"], told["cost"]) == (2, 0.02)
    done = run(*load, "--yes")
    assert "  to send     2\n  done before 3\n" in done.stdout
    assert "loaded        2\nknown before  5\n" in done.stdout
    assert "`skycore worker DSN` sends them, " in done.stderr
    assert "`skycore worker DSN` sends what is left of it, " in run(*load, "--yes").stderr


@pytest.mark.slow
def test_a_database_that_was_made_anew_is_none_that_knows(dsn: str) -> None:
    """A campaign whose database was made anew is not loaded without a question."""
    assert loaded(dsn)["new"] == 30
    shared().emptied()
    load = ("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes")
    done = run(*load)
    assert done.exit_code == Exit.USAGE
    assert "were begun as campaign 'promo' with the ledger PostgreSQL database" in done.stderr
    assert "the one that is there now has no such campaign" in done.stderr
    assert "No campaign" in run("status", dsn).stdout
    assert answer(*load, "--yes-send-again")["new"] == 30
    assert answer(*load)["known"] == 30


@pytest.mark.slow
def test_notes_of_an_earlier_version_about_a_database_still_count(
    monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    """A note of an earlier version, without port, counts if this database has the campaign.

    A newer note without port is of another database.
    """
    assert loaded(dsn)["new"] == 30
    with_port = f"{ledger_target(Secret(dsn)).full_name}, port 6432"
    monkeypatch.setattr("skycore_async.cli.ui.database.name_of_database", lambda _: with_port)
    load = ("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes")
    assert run(*load).exit_code == Exit.USAGE
    with opened() as connection:
        connection.execute("UPDATE named_with_ports SET since = since + 3600")
    assert answer(*load)["known"] == 30
    assert "under other keys" in run(*load, "--key-column", "name").stderr
    with opened() as connection:  # as if it had not been loaded since
        connection.execute("DELETE FROM campaigns WHERE ledger = ?", (with_port,))
        connection.execute("DELETE FROM sent WHERE ledger = ?", (with_port,))
    shared().emptied()
    assert run(*load).exit_code == Exit.USAGE


@pytest.mark.slow
def test_rows_that_failed_to_load_are_loaded_without_a_question(dsn: str) -> None:
    """A load that failed is repeated without a question."""
    recipients(30)
    load = ("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes")
    assert run(*load, "--campaign", " ").exit_code == Exit.USAGE
    assert run(*load, "--campaign", " ").stderr.endswith("give one with --campaign\n")


@pytest.mark.slow
def test_other_keys_load_nobody_a_second_time(dsn: str) -> None:
    """A load of the same rows under other keys is refused."""
    loaded(dsn)
    load = ("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes")
    done = run(*load, "--key-column", "name")
    assert done.exit_code == Exit.USAGE
    assert "under other keys" in done.stderr
    assert answer(*load)["known"] == 30


@pytest.mark.slow
def test_a_program_shares_the_list_with_its_database(dsn: str) -> None:
    """A program's database has the same name on the list as for `bulk --cluster`."""
    run("opt-outs", "add", "15550000001")

    async def share() -> bool:
        async with PostgresLedger(dsn) as ledger, share_opt_outs(ledger):
            return await ledger.is_opted_out("15550000001")

    assert anyio.run(share)
    shared = list_of(None)
    assert shared is not None
    assert shared.seen_by(ledger_target(Secret(dsn)).full_name) == shared.changes(0)[-1].number


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--dry-run",), ("--yes",)])
def test_an_unreachable_database_is_reported_before_loading(options: tuple[str, ...]) -> None:
    """An unreachable database is an error, and nothing is loaded."""
    recipients(2)
    done = run(
        "bulk", "promo.csv", "--text", "Hi", "--cluster", "postgresql://127.0.0.1:9/x", *options
    )
    assert done.exit_code == 2
    assert (
        "skycore: nothing was loaded: PostgreSQL database x at 127.0.0.1, port 9 cannot be reached"
        in done.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize("is_sent", [False, True])
def test_a_campaign_is_not_loaded_again_with_its_numbers_read(
    simulator: Simulator, dsn: str, is_sent: bool
) -> None:
    """A loaded campaign is not loaded again with --country."""
    Path("promo.csv").write_text("to\n5551234888\n15551234889\n", "utf-8")
    load = ("bulk", "promo.csv", "--text", "Hi", "--cluster", dsn, "--yes")
    assert answer(*load)["ten_digits"]["count"] == 1
    if is_sent:
        assert answer("worker", dsn, "--drain")["accepted"] == 2
    refused = run(*load, "--country", "US")
    assert refused.exit_code == 2
    assert "the key 'promo:5551234888' is there from before its number was read" in refused.stderr
    assert "nothing was loaded now" in refused.stderr
    assert answer("worker", dsn, "--drain")["accepted"] == (0 if is_sent else 2)
    assert sorted(one.to for one in simulator.messages) == ["15551234889", "5551234888"]


@pytest.mark.slow
def test_messages_sent_by_the_ledger_are_not_loaded_again(simulator: Simulator, dsn: str) -> None:
    """A campaign copied from a file is not loaded again with --country."""
    Path("promo.csv").write_text("to\n5551234888\n5550000110\n", "utf-8")
    sent = answer("bulk", "promo.csv", "--text", "Hi", "--yes")
    assert sent["accepted"] == 2
    assert run("cluster", "copy", "promo.db", dsn).exit_code == 0
    refused = run(
        "bulk", "promo.csv", "--text", "Hi", "--cluster", dsn, "--yes", "--country", "US"
    )
    assert "the key 'promo:5550000110' is there from before" in refused.stderr
    assert simulator.billed == 2


@pytest.mark.slow
def test_a_campaign_goes_on_in_the_database_that_its_ledger_was_copied_into(
    simulator: Simulator, dsn: str
) -> None:
    """A campaign copied into a database continues there, with no second message."""
    numbers = [f"1555123{last}" for last in range(4888, 4900)]
    Path("promo.csv").write_text("to\n" + "\n".join(numbers), "utf-8")
    bulk = ("bulk", str(Path.cwd() / "promo.csv"), "--text", "Hi", "--yes")
    assert answer(*bulk, "--limit", "7")["accepted"] == 7
    assert run("cluster", "copy", "promo.db", dsn).exit_code == 0
    assert run("bulk", "promo.csv", "--text", "Hi", "--yes", "--cluster", dsn).exit_code == 0
    again = run("bulk", "promo.csv", "--text", "Hi", "--yes")
    assert again.exit_code == 2
    assert "add --campaign promo --cluster DSN" in again.stderr
    assert answer("worker", dsn, "--drain")["accepted"] == 12  # what is known counts, too
    assert sorted(one.to for one in simulator.messages) == numbers


def test_an_inbox_beside_the_ledger_is_imported_with_the_ledger(dsn: str) -> None:
    """`cluster copy` includes postbacks of the inbox."""

    async def make() -> None:
        async with SQLiteLedger("promo.db"):
            pass

    anyio.run(make)
    inbox = InboxFile(Path("promo.db"))
    inbox.open()
    inbox.add([KeptPostback.of([said("STOP"), notice()], received=NOON)])
    inbox.close()
    assert run("cluster", "copy", "promo.db", dsn).exit_code == 0
    counts = answer("status", dsn)
    assert (counts["unplaced"], counts["opted_out"]) == (1, 1)


@pytest.mark.slow
def test_a_campaign_is_loaded_sent_and_reported(simulator: Simulator, dsn: str) -> None:
    """A campaign is loaded, sent by a worker, and shown by status."""
    done = loaded(dsn)
    assert (done["campaign"], done["new"], done["known"]) == ("promo", 30, 0)
    assert (done["exit"], done["rejects"], simulator.billed) == (0, None, 0)
    before = answer("status", dsn)["campaigns"][0]
    assert (before["state"], before["to_send"], before["waiting"]) == ("running", 30, 1)
    worked = answer("worker", dsn, "--drain", SKYCORE_FROM="")  # it was loaded with the messages
    assert (worked["exit"], worked["accepted"], worked["chunks"]) == (0, 30, 1)
    after = answer("status", dsn)
    assert (after["total"], after["states"]["accepted"]) == (30, 30)
    assert after["campaigns"][0]["state"] == "done"
    assert Counter(m.text for m in simulator.messages) == Counter(f"Hi {n}" for n in range(30))
    assert {m.from_ for m in simulator.messages} == {"60856"}
    story = answer("status", dsn, "--key", "promo:15550000007", "--show-numbers")
    assert story["to"] == "15550000007"
    by_id = answer("status", dsn, "--tracking-id", story["tracking_id"], "--show-numbers")
    assert by_id["key"] == story["key"] == "promo:15550000007"
    assert run("status", dsn, "--key", "nope").exit_code == 1


def test_people_read_how_far_a_campaign_is_in_lines(simulator: Simulator, dsn: str) -> None:
    """Without --json the progress is in lines, and the DSN is not shown."""
    recipients(30, "555,X")
    done = run("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes")
    assert done.exit_code == 1
    assert "cluster       PostgreSQL database postgres at" in done.stdout
    assert "loaded        30\nto mend       1 rows in promo.rejects.csv\n" in done.stdout
    assert "`skycore worker DSN` sends them" in done.stderr
    again = run("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes")
    assert "loaded        0\nknown before  30\n" in again.stdout
    assert "accepted      30\n" in run("worker", dsn, "--drain").stdout
    (row,) = [line.split() for line in run("status", dsn).stdout.splitlines() if "promo" in line]
    assert row == ["promo", "done", "30", "0", "0", "1/1", "0"]
    assert "PostgreSQL database postgres" in run("status", dsn).stdout
    assert dsn not in run("status", dsn).output


def test_a_row_in_doubt_says_so_when_loaded_again(
    monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    """Loading again reports doubts, also of rows that are invalid now."""
    with Simulator() as skycore_:
        monkeypatch.setenv("SKYCORE_BASE_URL", skycore_.url)
        Path("promo.csv").write_text(f"to,name\n15551234888,Ann\n15550002002,{'Bo' * 90}\n")
        load = ("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes")
        assert answer(*load)["exit"] == 0
        assert answer("worker", dsn, "--drain")["exit"] == 5
    again = run(*load)
    assert (again.exit_code, "in doubt      1\n" in again.stdout) == (5, True)
    assert "1 may have been sent. What is in doubt is never sent again" in again.stderr
    other = answer(*load, "--max-segments-each", "1", "--rejects", "r.csv")
    assert (other["exit"], other["in_doubt"]) == (5, 2)
    assert "in doubt: text: it takes" in Path("r.csv").read_text("utf-8-sig")


def test_old_rejects_show_the_present_states_of_the_ledger(simulator: Simulator, dsn: str) -> None:
    """Rows of an old rejects file have the state that the database has now."""
    loaded(dsn, count=3)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number, state in enumerate(("accepted", "not_sent", "in_doubt")):
            connection.execute(
                "INSERT INTO skycore.messages"
                " (key, content, recipient, state, started_at, session, attempt, settled_by)"
                " VALUES (%s, '', '1', %s, 0, 1, 1, 'report')",
                (f"promo:1555{number:07}", state),
            )
    rows = "".join(f"1555{number:07},{number},in doubt: lost,2\n" for number in range(3))
    rows += "15550000003,3,,9\n"
    Path("promo.rejects.csv").write_text("to,name,reason,line\n" + rows, "utf-8")
    command = ("bulk", "promo.rejects.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes")
    done = answer(*command)
    assert (done["new"], done["known"], done["in_doubt"], done["exit"]) == (1, 1, 2, Exit.IN_DOUBT)
    reasons = Path(done["rejects"]).read_text("utf-8-sig").splitlines()[1:]
    assert [row.split(",")[2] for row in reasons] == [
        "already sent: Skycore's own report of what it sent lists it",
        "in doubt: lost",
    ]


def test_doubts_are_sent_again_on_a_word(monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    """`cluster resend` needs a yes and resends each doubt once."""
    Path("promo.csv").write_text("to,name\n15551234888,Ann\n15550002002,Bo\n")
    with Simulator() as skycore_:
        monkeypatch.setenv("SKYCORE_BASE_URL", skycore_.url)
        run("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes")
        run("worker", dsn, "--drain")
        billed = skycore_.billed
        said = run("cluster", "resend", dsn, "promo")
        assert (said.exit_code, "say --yes" in said.stderr) == (2, True)
        assert run("worker", dsn, "--drain").exit_code == 0
        assert skycore_.billed == billed
        told = answer("cluster", "resend", dsn, "promo", "--yes")
        assert (told["new"], told["marked"], told["exit"]) == (1, 1, 0)
        again = run("cluster", "resend", dsn, "promo", "--yes")
        assert again.stdout == "promo: 0 messages to send once more, 1 in all\n"
        assert answer("status", dsn)["campaigns"][0]["to_send"] == 1
        assert answer("worker", dsn, "--drain")["in_doubt"] == 1
        assert skycore_.billed == billed + 1
        assert answer("worker", dsn, "--drain")["in_doubt"] == 0
        assert skycore_.billed == billed + 1


def test_a_number_under_two_keys_is_loaded_once(simulator: Simulator, dsn: str) -> None:
    """A number under two keys is loaded once, whatever the order of rows."""
    rows = ["15551234888,a", "15551234888,b"]
    more = [f"1555123{n},{n}" for n in range(3000, 3010)]
    load = ("bulk", "promo.csv", "--text", "Hi", "--cluster", dsn, "--yes")
    for order in ([*rows, *more], [*rows[::-1], *more], [*more, *rows[::-1], "15551230000,c"]):
        Path("promo.csv").write_text("\n".join(["to,key", *order]) + "\n")
        answer(*load)
    assert answer("worker", dsn, "--drain")["accepted"] == simulator.billed == 12


@pytest.mark.slow
@pytest.mark.parametrize("is_sent", [False, True])
def test_a_key_loaded_with_another_number_keeps_its_place(
    simulator: Simulator, dsn: str, is_sent: bool
) -> None:
    """A duplicate row whose key belongs to another number does not hide that number."""
    load = ("bulk", "promo.csv", "--text", "Hi", "--cluster", dsn, "--yes")
    Path("promo.csv").write_text("to,key\n15551234889,b\n")
    answer(*load)
    if is_sent:
        answer("worker", dsn, "--drain")
    Path("promo.csv").write_text("to,key\n15551234888,a\n15551234888,b\n15551234889,b\n")
    assert (answer(*load)["new"], answer(*load)["new"]) == (1, 0)
    answer("worker", dsn, "--drain")
    assert [one.to for one in simulator.messages] == ["15551234889", "15551234888"]


@pytest.mark.slow
def test_a_number_that_a_file_sent_to_under_another_key_is_not_sent_to_again(
    simulator: Simulator, dsn: str
) -> None:
    """A number that a copied ledger sent to under another key is not sent to again."""
    Path("promo.csv").write_text("to,key\n15551234888,b\n")
    assert answer("bulk", "promo.csv", "--text", "Hi", "--yes")["accepted"] == 1
    assert run("cluster", "copy", "promo.db", dsn).exit_code == 0
    Path("promo.csv").write_text("to,key\n15551234888,a\n15551234888,b\n15551234889,c\n")
    answer("bulk", "promo.csv", "--text", "Hi", "--cluster", dsn, "--yes")
    assert answer("worker", dsn, "--drain")["accepted"] == 2  # what is known counts, too
    assert [one.to for one in simulator.messages] == ["15551234888", "15551234889"]


@pytest.mark.slow
def test_a_key_that_is_too_long_keeps_nobody_else_waiting(simulator: Simulator, dsn: str) -> None:
    """A key too long for the database is left out, and the campaign ends."""
    long = "".join(f"{number:x}-" for number in range(1500))
    Path("promo.csv").write_text(f"to,key\n15551234888,a\n15551234889,{long}\n15551234890,c\n")
    answer("bulk", "promo.csv", "--text", "Hi", "--cluster", dsn, "--yes")
    done = answer("worker", dsn, "--drain", "--in-flight", "1")
    assert (done["accepted"], done["refused"]) == (2, {"InvalidMessage": 1})
    assert answer("status", dsn)["campaigns"][0]["left_out"] == {"InvalidMessage": 1}


def test_old_rejects_of_what_was_forgotten_are_what_it_was(simulator: Simulator, dsn: str) -> None:
    """A pruned message in a rejects file is reported as sent."""
    loaded(dsn, count=1)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO skycore.pruned VALUES (0)")
        connection.execute(
            "INSERT INTO skycore.messages"
            " (key, content, recipient, state, started_at, session, attempt)"
            " VALUES (skycore.pruned_name('promo:15550000000'), '', '', 'delivered', 0, 1, 1)"
        )
    Path("promo.rejects.csv").write_text(
        "to,name,reason,line\n15550000000,1,in doubt: lost,2\n15550000003,3,,9\n", "utf-8"
    )
    done = answer("bulk", "promo.rejects.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes")
    assert (done["in_doubt"], done["exit"]) == (0, Exit.NOT_ALL_WELL)
    assert "already sent: it was accepted" in Path(done["rejects"]).read_text("utf-8-sig")


def test_the_dsn_may_come_from_the_environment(simulator: Simulator, dsn: str) -> None:
    """SKYCORE_DSN replaces the DSN argument of each command."""
    recipients(3)
    there = {"SKYCORE_DSN": dsn}
    load = ("bulk", "promo.csv", "--text", "Hi", "--yes", "--cluster")
    assert answer(*load, **there)["new"] == 3
    assert answer("cluster", "pause", "promo", **there)["state"] == "paused"
    assert answer("status", **there)["campaigns"][0]["state"] == "paused"
    assert answer("cluster", "resume", dsn, "promo")["state"] == "running"
    assert answer("worker", "--drain", **there)["accepted"] == 3
    assert answer("cluster", "migrate", **there) == {
        "before": VERSION,
        "after": VERSION,
        "queue_made": False,
        "exit": 0,
    }
    assert not Path("promo.db").exists()


def test_the_doubtful_messages_of_a_campaign_are_listed(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` lists a campaign's doubts with masked numbers."""
    Path("promo.csv").write_text("to\n15551232002\n15551234888\n15551242002\n", "utf-8")
    answer("bulk", "promo.csv", "--text", "Hi", "--cluster", dsn, "--yes")
    with Simulator() as skycore_:  # whose answers to 2002 are lost
        monkeypatch.setenv("SKYCORE_BASE_URL", skycore_.url)
        assert answer("worker", dsn, "--drain")["exit"] != 0
    assert "skycore status DSN --state in_doubt\n" in run("status", dsn).stdout
    listed = run("status", dsn, "--state", "in_doubt", "--json").stdout.splitlines()
    assert [(row["key"], row["state"]) for row in map(json.loads, listed)] == [
        ("promo:*******2002", "in_doubt")
    ] * 2
    lines = run("status", dsn, "--state", "in_doubt", "--show-numbers").stdout.splitlines()
    assert sorted(line.split()[2] for line in lines) == ["promo:15551232002", "promo:15551242002"]


def test_a_campaign_is_paused_resumed_and_cancelled(simulator: Simulator, dsn: str) -> None:
    """Pause, resume and cancel print the old and new state."""
    loaded(dsn)
    assert run("cluster", "pause", dsn, "promo").stdout == "promo: was running, and is paused\n"
    assert run("cluster", "pause", dsn, "promo").stdout == "promo: already paused\n"
    assert answer("worker", dsn, "--drain")["accepted"] == simulator.billed == 0
    assert (
        "The campaign is paused"
        in run("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes").stderr
    )
    assert answer("cluster", "cancel", dsn, "promo")["before"] == "paused"
    done = run("cluster", "resume", dsn, "promo")
    assert (done.exit_code, done.stderr) == (
        2,
        "skycore: the campaign 'promo' is cancelled: it cannot resume\n",
    )


def test_a_worker_sends_to_nobody_on_the_list(simulator: Simulator, dsn: str) -> None:
    """A worker sends to no number on the list of opt-outs, and adds the database's."""
    loaded(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO skycore.opt_outs (number, out, at) VALUES ('15550000003', true, 17)"
        )
    assert run("opt-outs", "add", "15550000001", "15550000002").exit_code == 0
    done = answer("worker", dsn, "--drain")
    assert (done["accepted"], done["refused"]) == (27, {"RecipientOptedOut": 3})
    assert simulator.billed == 27
    assert "15550000003" in run("opt-outs", "list", "--show-numbers").stdout


def test_a_worker_without_a_list_goes_by_its_database(simulator: Simulator, dsn: str) -> None:
    """With `--opt-outs none` a worker goes by its database alone."""
    loaded(dsn)
    assert run("opt-outs", "add", "15550000001").exit_code == 0
    assert answer("worker", dsn, "--drain", "--opt-outs", "none")["accepted"] == 30
    assert simulator.billed == 30


def test_nobody_is_told_to_resume_what_a_database_has_forgotten(dsn: str) -> None:
    """A campaign halted after a restore is never advised to be resumed."""
    loaded(dsn)
    halt = "UPDATE skycore.campaigns SET state = 'halted', reason = %s"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(halt, (WHY_HALTED,))
    told = run("status", dsn).stdout
    assert "promo is halted: the database has forgotten what was sent last" in told
    assert "skycore cluster resume" not in told
    again = run("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes").stderr
    assert "The campaign is halted: `skycore status DSN` says why, and how to go on." in again
    assert "cluster resume" not in again


def test_a_campaign_is_loaded_to_start_later(simulator: Simulator, dsn: str) -> None:
    """--start is stored with the campaign and shown."""
    done = loaded(dsn, "--start", "2099-12-01T09:00")
    assert datetime.fromisoformat(done["starts_at"]) == datetime(2099, 12, 1, 9).astimezone()
    told = run("status", dsn).stdout
    assert "scheduled" in told
    assert "promo starts at 2099-12-01 " in told
    recipients(30)
    again = ("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes", "--start")
    assert "what is left of it from 2020-01-01" in run(*again, "2020-01-01T00:00+00:00").stderr
    assert answer("worker", dsn, "--drain")["accepted"] == 30
    wrong = run("bulk", "promo.csv", "--start", "tomorrow")
    assert (wrong.exit_code, "is no time, as 2026-12-01T09:00 is one" in wrong.stderr) == (2, True)


def test_a_campaign_is_loaded_with_hours(simulator: Simulator, dsn: str) -> None:
    """--between and --tz are stored with the campaign and shown."""
    wrong = loaded_with(dsn, "--between", "09:00-20:00")
    assert wrong.exit_code == Exit.USAGE
    assert "the time zone of 30 numbers is not known, first on line 2" in wrong.stderr
    done = loaded_with(dsn, "--between", "09:00-20:00", "--tz", "UTC")
    assert (
        "`skycore worker DSN` sends them between 09:00-20:00 where the recipients are, or else in"
        " UTC, `skycore status DSN` tells of it."
    ) in done.stderr
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "UPDATE skycore.chunks SET put_off = 30, due = '2099-12-01T09:00:00+00:00'"
        )
    told = " ".join(run("status", dsn).stdout.split())
    assert "promo waiting 30 30" in told
    assert (
        "promo: 30 are outside of their hours, 09:00-20:00 where the recipients are, or else in"
        " UTC; the next are sent to at 2099-12-01 09:00:00Z"
    ) in told
    (campaign,) = answer("status", dsn)["campaigns"]
    assert (campaign["hours"], campaign["zone"], campaign["put_off"]) == ("09:00-20:00", "UTC", 30)
    # The whole day has them sent at once.
    assert (
        answer(
            *("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes"),
            *("--between", "00:00-24:00"),
        )["known"]
        == 30
    )
    assert answer("worker", dsn, "--drain")["accepted"] == simulator.billed == 30


def loaded_with(dsn: str, *args: str) -> Result:
    recipients(30)
    words = ("bulk", "promo.csv", "--text", "Hi {name}", "--cluster", dsn, "--yes")
    return run(*words, *args)


def test_a_load_that_the_database_ended_says_how_to_go_on(dsn: str) -> None:
    """A load that the database ended may be repeated, and loads nobody twice."""
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE skycore.chunks IN SHARE MODE")
        done = loaded_with(f"{dsn}&options=-c%20lock_timeout%3D50ms")
    assert done.exit_code == Exit.NOT_ALL_WELL
    assert "lock timeout; all was loaded or nothing: run it again" in done.stderr
    assert loaded(dsn)["new"] == 30
    assert loaded(dsn)["new"] == 0


def test_a_refused_account_is_reported_by_worker_and_status(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused account ends the worker with 3, and status says why."""
    loaded(dsn)
    with Simulator(account=Account(billing_hold=True), behaviours={}) as skycore_:
        monkeypatch.setenv("SKYCORE_BASE_URL", skycore_.url)
        done = answer("worker", dsn, "--drain")
    assert done["exit"] == 3
    assert done["halted"]["promo"].startswith("the account was refused: E713")
    told = run("status", dsn).stdout
    assert "promo is halted: the account was refused: E713" in told
    assert "skycore cluster resume DSN promo" in told


@pytest.mark.parametrize(
    "name", ["the promo", "-promo", "a=b", "20% @ shop: now", "x://y", "it's"]
)
def test_the_command_that_resumes_a_campaign_works_for_any_name(dsn: str, name: str) -> None:
    """What a worker says to type resumes a campaign, whatever its name."""
    typed = [dsn if word == "DSN" else word for word in shlex.split(resume_command(name))]
    assert typed[0] == "skycore"
    assert f"there is no campaign {name!r}" in run(*typed[1:]).stderr
    assert run("cluster", "pause", "a=b", SKYCORE_DSN=dsn).stderr == (
        "skycore: name CAMPAIGN, after the DSN if SKYCORE_DSN is not set, or if the name has = or"
        " :// in it as a DSN has\n"
    )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["worker"], "name the database, as postgresql://host/database, or"),
        (["worker", "nonsense"], "not a PostgreSQL connection string"),
        (["cluster", "migrate"], "name the database"),
        (["cluster", "migrate", "postgresql://127.0.0.1:9/x"], "port 9 cannot be reached"),
        (["cluster", "pause", "postgresql:///x"], "name CAMPAIGN"),
        (["cluster", "pause", "DSN", "nope"], "there is no campaign 'nope'"),
        (
            ["status", "postgresql:///x?nope=1"],
            "not a PostgreSQL connection string; one is postgresql://host/database",
        ),
        (["bulk", "promo.csv", "--cluster", "DSN", "--ledger", "a.db"], "goes without --ledger"),
        (
            ["bulk", "promo.csv", "--cluster", "DSN", "--resend-in-doubt"],
            "goes without --resend-in-doubt: workers never send again what may have been sent",
        ),
    ],
)
def test_a_mistake_is_said_in_one_line(dsn: str, args: list[str], said: str) -> None:
    """A wrong argument is exit code 2 and one line."""
    recipients(1)
    done = run(*[dsn if word == "DSN" else word for word in args])
    assert (done.exit_code, said in done.stderr, done.stderr.count("\n")) == (2, True, 1)


def test_a_worker_without_its_rights_says_what_to_do(simulator: Simulator, dsn: str) -> None:
    """A worker without rights ends with 2 and advice."""
    loaded(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE clerk LOGIN")
        connection.execute("GRANT USAGE ON SCHEMA skycore, skycore_queue TO clerk")
        connection.execute(
            "GRANT ALL ON ALL TABLES IN SCHEMA skycore, skycore_queue TO clerk;"
            " GRANT ALL ON ALL SEQUENCES IN SCHEMA skycore, skycore_queue TO clerk;"
            " REVOKE UPDATE ON skycore.chunks FROM clerk"
        )
        try:
            done = run("worker", dsn.replace("postgres:", "clerk:"))
        finally:
            connection.execute("DROP OWNED BY clerk; DROP ROLE clerk")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith("skycore: PostgreSQL database")
    assert "permission denied for table chunks; give this user the rights" in done.stderr
    assert (answer("worker", dsn, "--drain")["accepted"], simulator.billed) == (30, 30)


def test_another_text_is_loaded_until_it_may_have_gone_out(simulator: Simulator, dsn: str) -> None:
    """A campaign may be loaded with another text until it may have been sent."""
    loaded(dsn)
    again = ("bulk", "promo.csv", "--text", "Bye", "--cluster", dsn, "--yes")
    assert "mended        30\n" in run(*again).stdout
    assert answer(*again)["mended"] == 0
    assert answer("worker", dsn, "--drain")["accepted"] == 30
    assert {message.text for message in simulator.messages} == {"Bye"}
    done = run("bulk", "promo.csv", "--text", "Hi", "--cluster", dsn, "--yes")
    assert (done.exit_code, "was loaded with other content" in done.stderr) == (2, True)


def test_the_tables_are_made_on_the_operators_word(postgres_server: Server) -> None:
    """Each command on a new database names `cluster migrate`, which makes the tables."""
    with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE young")
    try:
        dsn = postgres_server.dsn("young")
        recipients(1)
        load = ["bulk", "promo.csv", "--text", "Hi", "--cluster", dsn]
        for args in (load, ["worker", dsn], ["status", dsn], ["cluster", "pause", dsn, "a"]):
            assert "run `skycore cluster migrate DSN`" in run(*args).stderr
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE ROLE clerk LOGIN")
        lacking = run("cluster", "migrate", dsn.replace("postgres:", "clerk:"))
        assert "permission denied for database young; it takes CREATE on the" in lacking.stderr
        made = run("cluster", "migrate", dsn)
        assert made.stdout == f"The tables are made: schema {VERSION}, before none.\n"
        assert "up to date" in run("cluster", "migrate", dsn).stdout
        assert run("worker", dsn, "--drain").stdout == "accepted      0\n"
    finally:
        with psycopg.connect(postgres_server.dsn(), autocommit=True) as connection:
            connection.execute("DROP DATABASE young WITH (FORCE)")
            connection.execute("DROP ROLE IF EXISTS clerk")


def test_a_password_is_in_no_word(tmp_path: Path) -> None:
    """The DSN's password is in no error."""
    dsn = f"postgresql://someone:s3cret@/orders?host={tmp_path}"
    for args in (["worker", dsn], ["status", dsn], ["cluster", "migrate", dsn]):
        done = run(*args)
        assert done.exit_code != 0
        assert "orders at" in done.stderr
        assert "s3cret" not in done.output


def test_workers_share_a_rate(simulator: Simulator, dsn: str) -> None:
    """--rate of a worker is stored in the database and kept."""
    loaded(dsn, count=20)
    began = time.monotonic()
    assert answer("worker", dsn, "--drain", "--rate", "50")["accepted"] == 20
    assert time.monotonic() - began > 19 / 50
    with psycopg.connect(dsn) as connection:
        rates = connection.execute("SELECT name, rate, burst FROM skycore.shared_rates").fetchall()
    assert rates == [("account", 50.0, 1)]


@pytest.mark.slow
@needs_signals
def test_ctrl_c_ends_a_worker_in_order(simulator: Simulator, dsn: str) -> None:
    """Ctrl-C lets a worker's messages in flight end, and exits with 130."""
    loaded(dsn, count=3000)
    with program("worker", dsn, "--in-flight", "5", "--json") as process:
        until(lambda: simulator.billed > 20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert json.loads(out)["accepted"] == simulator.billed < 3000
    assert "waiting for what is in flight" in err
    assert answer("status", dsn)["campaigns"][0]["held"] == 0


@pytest.mark.slow
@needs_signals
def test_a_terminal_that_is_stopped_holds_up_no_worker(simulator: Simulator, dsn: str) -> None:
    """A stopped terminal does not hold up a worker's end."""
    loaded(dsn, count=3000)
    reading, writing = os.pipe()
    filled = fill(writing)  # as where Ctrl-S has stopped a terminal
    command = [sys.executable, "-m", "skycore_async.cli", "worker", dsn, "--in-flight", "5"]
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=writing) as process,  # noqa: S603
        os.fdopen(reading, "rb") as reader,
    ):
        os.close(writing)
        try:
            until(lambda: simulator.billed > 20)
            process.send_signal(signal.SIGTERM)
            until(lambda: answer("status", dsn)["campaigns"][0]["held"] == 0)
            assert process.poll() is None
            told = reader.read()[filled:].decode()
            assert process.wait(10) == 130
        finally:
            process.kill()
    assert "waiting for what is in flight" in told
    assert 20 < simulator.billed < 3000


def fill(pipe: int) -> int:
    """Write to a pipe until it is full, and return how much was written."""
    taken = 0
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            taken += os.write(pipe, b"x" * 1024)
    os.set_blocking(pipe, True)
    return taken


@pytest.mark.slow
@needs_signals
def test_ctrl_c_twice_leaves_at_once_without_loss(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C twice ends a worker at once, with messages in flight in doubt."""
    with Simulator() as skycore_:
        monkeypatch.setenv("SKYCORE_BASE_URL", skycore_.url)
        rows = "\n".join(f"1555{n:03}2004,{n}" for n in range(40))  # no answer, taken
        Path("promo.csv").write_text(f"to,name\n{rows}\n", "utf-8")
        answer("bulk", "promo.csv", "--text", "Hi", "--cluster", dsn, "--yes")
        lease = ("--in-flight", "4", "--lease", "1")
        with program("worker", dsn, *lease) as process:
            until(lambda: skycore_.billed == 2)
            process.send_signal(signal.SIGTERM)
            assert process.stderr is not None
            until(lambda: "waiting" in str(process.stderr and process.stderr.readline()))
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 130
        assert skycore_.billed == 2
    states = answer("status", dsn)["states"]
    assert states["sending"] + states["in_doubt"] == 2
