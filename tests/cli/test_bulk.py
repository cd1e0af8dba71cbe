"""`skycore bulk` over real sockets: sent once, stopped, and continued."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import re
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from importlib import import_module
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import anyio
import attrs
import pytest
from click.testing import CliRunner, Result

from skycore_async.cli.app import skycore
from skycore_async.cli.bulk import action, questions
from skycore_async.cli.bulk.estimate import Survey
from skycore_async.cli.bulk.files import has_name
from skycore_async.cli.bulk.progress import BulkCounters, End, account, exit_code, show_plain
from skycore_async.cli.bulk.rejects import Rejects
from skycore_async.cli.commands.bulk import bulk
from skycore_async.cli.ui import confirm
from skycore_async.cli.ui.output import Exit
from skycore_async.errors import LedgerError, NotSent, OutcomeUnknown, RecipientOptedOut, Rejected
from skycore_async.ledger.commands import LedgerCommand
from skycore_async.ledger.model import SendIntent, Submission
from skycore_async.ledger.sqlite.ledger import SQLiteLedger
from skycore_async.messages import SMS, Accepted, Failed
from skycore_async.simulator import API_KEY, Account, Answer, Behaviour, Simulator, refusal
from skycore_async.transports import choice
from skycore_async.transports.base import Transport
from skycore_async.transports.choice import Road
from tests.support.cli_program import program
from tests.support.typed_after import TypedAfter

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
NOWHERE = "http://127.0.0.1:9/"
COMMAND = "from skycore_async.cli.commands.bulk import bulk; bulk()"
SAMPLE = "Name,Phone\nAnn,15551234888\nBo,+1 (555) 123-4889\nCo,555\nAnn,1 555 1234888\n"
WORDS: tuple[tuple[str, ...], ...] = ((), ("--resend-in-doubt",))
# What a key is typed at, on a terminal, where none was typed since: a question, or progress.
CUE = re.compile(r"(\[y/N]: |accepted [1-9][0-9]*)(?!.*\x00)", re.DOTALL)
LEFT_OUT = {"not valid": 1, "duplicate": 1, "incomplete": 0, "in doubt": 0}


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of its own, with key, sender and a base URL where nobody listens."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKYCORE_API_KEY", API_KEY)
    monkeypatch.setenv("SKYCORE_FROM", "60856")
    monkeypatch.setenv("SKYCORE_BASE_URL", NOWHERE)


@pytest.fixture
def simulator(surroundings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Run a simulator at the base URL."""
    with Simulator() as running:
        monkeypatch.setenv("SKYCORE_BASE_URL", running.url)
        yield running


def recipients(content: str = SAMPLE, name: str = "promo.csv") -> str:
    Path(name).write_text(content, "utf-8")
    return name


def run(*args: str, typed: str | bytes | None = None) -> Result:
    done = CliRunner().invoke(bulk, args, input=typed)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def send(*args: str, text: str = "Hi {name}", name: str = "promo.csv") -> dict[str, Any]:
    done = run(name, "--text", text, "--yes", "--json", *args)
    (line,) = done.stdout.splitlines()
    return {**json.loads(line), "exit": done.exit_code}


def rejected(name: str = "promo.rejects.csv") -> list[dict[str, str]]:
    with Path(name).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def numbers(simulator: Simulator) -> list[str]:
    return sorted(message.to for message in simulator.messages)


@pytest.mark.slow
def test_messages_keep_the_tags_of_their_run(simulator: Simulator) -> None:
    """A message keeps the tags of the run that sent it."""
    recipients()
    send("--tag", "spring", "--tag", "vip, north")
    send("--tag", "later")
    assert len(simulator.messages) == 2
    listed = CliRunner().invoke(skycore, ["export", "promo.db", "--format", "jsonl"]).stdout
    rows = list(map(json.loads, listed.splitlines()))
    assert [row["tags"] for row in rows] == [["spring", "vip, north"]] * 2
    assert [row["segments"] for row in rows] == [1, 1]


@pytest.mark.parametrize("tag", ["", "a\nb", "a" * 101])
def test_an_invalid_tag_is_refused(tag: str, simulator: Simulator) -> None:
    """A bad tag is refused before the file is read."""
    recipients()
    done = run("promo.csv", "--text", "Hi", "--yes", "--tag", tag)
    assert (done.exit_code, len(simulator.messages)) == (2, 0)
    assert "a tag has 1 to 100 characters, all of which can be seen." in done.stderr


@pytest.mark.slow
def test_a_throttled_bulk_send_says_so(simulator: Simulator) -> None:
    """Throttling by Skycore is counted in the progress and in the end."""
    recipients("to\n15551234888\n")
    simulator.script(*[Behaviour(taken=False, answer=Answer.THROTTLED_429, retry_after=0)] * 2)
    assert (
        "slowed down   2 (answers of Skycore's that"
        in run("promo.csv", "--text", "x", "--yes").stdout
    )
    assert (send(text="x")["throttled"], simulator.billed) == (0, 1)
    told = [*BulkCounters(total=1, throttled=2).parts()]
    assert told == ["0/1", "0/s", "accepted 0", "slowed down by Skycore 2 times"]


def test_every_row_is_sent_once(simulator: Simulator) -> None:
    """Valid rows are sent once with their text, and the others are written as rejects."""
    recipients()
    done = send()
    assert (done["exit"], done["accepted"], done["left_out"]) == (1, 2, LEFT_OUT)
    assert (done["refused"], done["in_doubt"], done["not_sent"]) == ({}, 0, 0)
    assert (done["ledger"], done["campaign"]) == ("promo.db", "promo")
    assert numbers(simulator) == ["15551234888", "15551234889"]
    assert {message.text for message in simulator.messages} == {"Hi Ann", "Hi Bo"}
    assert [(row["Phone"], row["line"]) for row in rejected()] == [
        ("555", "4"),
        ("1 555 1234888", "5"),
    ]


def test_all_is_well_with_exit_code_0(simulator: Simulator) -> None:
    """A file whose every row is or was accepted ends with 0 and no rejects."""
    recipients("to,from,key\n15551234888,60856,a\n")
    first, again = send(text="Hello"), send(text="Hello")
    assert (first["exit"], first["accepted"], first["rejects"]) == (0, 1, None)
    assert (again["exit"], again["accepted"], again["already_done"]) == (0, 0, 1)
    assert simulator.billed == 1
    assert not list(Path.cwd().glob("*.rejects*"))


AMERICAN = "to\n(555) 123-4888\n555-123-4889\n+1 555 123 4888\n15551234890\n"


@pytest.mark.slow
def test_numbers_of_a_country_are_read(simulator: Simulator) -> None:
    """With --country each number is sent to once, however it is written, now and later."""
    recipients(AMERICAN)
    first, again = (send("--country", "US", text="Hello") for _ in range(2))
    assert (first["accepted"], first["left_out"]["duplicate"]) == (3, 1)
    assert (first["countries"], first["ten_digits"]) == ({"1": 3}, None)
    assert (again["accepted"], again["already_done"]) == (0, 3)
    assert numbers(simulator) == ["15551234888", "15551234889", "15551234890"]


def test_numbers_of_ten_digits_are_reported_before_sending() -> None:
    """Ten-digit numbers are counted before sending, with what --country makes of them."""
    recipients(AMERICAN)
    told = run("promo.csv", "--text", "Hello", "--dry-run").stdout
    assert "countries     +55 (2), +1 (2)\n" in told
    assert "2 numbers have ten digits and no + (first on line 2): with --country US" in told
    for_programs = json.loads(run("promo.csv", "--text", "x", "--dry-run", "--json").stdout)
    assert for_programs["countries"] == {"55": 2, "1": 2}
    assert for_programs["ten_digits"] == {"count": 2, "first_line": 2, "countries": {"55": 2}}


def test_numbers_of_ten_digits_are_reported_with_a_ledger() -> None:
    """Ten-digit numbers are counted also if a ledger exists."""

    async def begin() -> None:
        async with SQLiteLedger("promo.db"):
            pass

    anyio.run(begin)
    recipients(AMERICAN)
    told = run("promo.csv", "--text", "Hello", "--dry-run").stdout
    assert "2 numbers have ten digits and no + (first on line 2): with --country US" in told


@pytest.mark.slow
def test_a_campaign_goes_on_with_a_country_and_sends_nobody_again(simulator: Simulator) -> None:
    """A campaign continued with --country sends nobody again who was accepted or in doubt.

    A message that was rejected under the number as written is sent.
    """
    recipients("to\n555 555 4888\n555 555 2002\n555 555 0110\n")
    before = send(text="Hello")
    assert (before["accepted"], before["in_doubt"], before["refused"]) == (1, 1, {"E110": 1})
    sent = numbers(simulator)
    recipients("to\n555 555 4888\n555 555 2002\n555 555 0110\n555 555 4889\n")
    after = send("--country", "US", text="Hello")
    assert (after["accepted"], after["already_done"], after["in_doubt"]) == (1, 1, 1)
    reasons = {row["to"]: row["reason"] for row in rejected(after["rejects"])}
    assert reasons["555 555 2002"].startswith("in doubt: ")
    sent += ["15555554889", "15555550110"]
    assert numbers(simulator) == sorted(sent)
    again = send("--country", "US", "--resend-in-doubt", text="Hello", name="promo.csv")
    assert (again["accepted"], again["in_doubt"], again["already_done"]) == (0, 1, 2)
    assert numbers(simulator) == sorted([*sent, "15555552002"])


@pytest.mark.slow
def test_doubts_can_be_settled_before_the_rest_is_sent(simulator: Simulator) -> None:
    """With --settle doubts that the report lists are done before the rest is sent.

    Without it the command that settles is named where there are doubts.
    """
    recipients("to\n15551234888\n15551232002\n15551232001\n")
    first = run("promo.csv", "--text", "Hello", "--yes")
    assert "`skycore settle promo.db`" in first.stderr
    again = run("promo.csv", "--text", "Hello", "--yes", "--settle")
    assert "In doubt before, by Skycore's own report:" in again.stderr
    assert ["sent", "1"] in [line.split()[:2] for line in again.stderr.splitlines()]
    assert "already done  2\n" in again.stdout
    assert "in doubt      1\n" in again.stdout
    assert (simulator.billed, simulator.lookups) == (2, 1)


@pytest.mark.slow
def test_a_report_that_cannot_be_had_stops_nothing(simulator: Simulator) -> None:
    """A report that cannot be had leaves doubts, and the rest is sent."""
    recipients("to\n15551232002\n")
    send(text="Hello")
    recipients("to\n15551232002\n15551234888\n")
    simulator.account = Account(reports_a_day=0)
    done = run("promo.csv", "--text", "Hello", "--yes", "--settle")
    assert "stays in doubt, as there is no report: E120" in done.stderr
    assert (done.exit_code, simulator.billed) == (Exit.IN_DOUBT, 2)


@pytest.mark.slow
def test_where_nothing_is_in_doubt_no_report_is_asked_for(simulator: Simulator) -> None:
    """Without doubts --settle asks for no report."""
    recipients()
    assert send("--settle")["accepted"] == 2
    assert send("--settle")["already_done"] == 2
    assert simulator.lookups == 0
    done = run("promo.csv", "--text", "x", "--settle", "--cluster", "postgresql://db/sms", "--yes")
    assert "skycore settle DSN" in done.stderr


@pytest.mark.slow
def test_the_outcome_of_a_bulk_send_is_shown_in_lines(simulator: Simulator) -> None:
    """Without --json the result is in lines, with what to do next."""
    recipients("to\n15551234888\n15550000110\n15550002002\n")
    done = run("promo.csv", "--text", "Hello", "--yes")
    assert done.exit_code == 5
    named, after = done.stdout.partition("campaign 'promo'\n")[2].split("\n", 1)
    assert re.fullmatch(r"opt-outs      0 numbers in \S+opt-outs\.db", named)
    assert after == (
        "accepted      1\n"
        "refused       1 (E110 1)\n"
        "in doubt      1\n"
        "to mend       2 rows in promo.rejects.csv\n"
    )
    assert "1 may have been sent: no clear answer came. What is in doubt is never" in done.stderr


@pytest.mark.slow
def test_refused_and_doubtful_rows_are_written_down_to_be_mended(simulator: Simulator) -> None:
    """Rejects have the file's columns; corrected ones are sent, doubtful ones are not."""
    recipients("Name;Phone\nAnn;15551234888\nBo;15550000110\nCo;15550002002\n")
    done = send()
    assert (done["exit"], done["refused"], done["in_doubt"]) == (5, {"E110": 1}, 1)
    path = Path("promo.rejects.csv")
    content = path.read_text("utf-8-sig")
    assert content.startswith("Name;Phone;reason;line\n")
    assert "Bo;15550000110;E110: recipient number not valid;3\n" in content
    assert re.search("Co;15550002002;in doubt: .*;4\n", content)
    path.write_text(content.replace("15550000110", "15551234110"), "utf-8-sig")
    mended = send(name="promo.rejects.csv")
    assert (mended["accepted"], mended["left_out"]["in doubt"], mended["exit"]) == (1, 1, 5)
    assert (mended["ledger"], mended["rejects"]) == ("promo.db", "promo.rejects-2.csv")
    other = ("--campaign", "other", "--ledger", "other.db", "--text", "Hi {name}", "--yes")
    assert "no row has a message to send" in run("promo.rejects-2.csv", *other).stderr
    assert numbers(simulator).count("15550002002") == 1


@pytest.mark.slow
def test_a_refused_row_is_not_all_well(simulator: Simulator) -> None:
    """A rejected row is exit code 1, now and when recorded."""
    recipients("to\n15550000110\n")
    assert [send(text="x")["exit"] for _ in range(2)] == [1, 1]
    assert simulator.requests == 1


@pytest.mark.slow
def test_doubtful_rows_are_sent_again_on_a_word_alone(simulator: Simulator) -> None:
    """Rows in doubt are sent again only with --resend-in-doubt."""
    recipients("to\n15550002001\n")
    assert send(text="x")["in_doubt"] == 1
    again = send(text="x")
    assert (again["in_doubt"], again["exit"], simulator.requests) == (1, 5, 1)
    assert send("--resend-in-doubt", text="x")["exit"] == 5
    assert simulator.requests == 2
    told = [run("promo.csv", "--text", "x", "--yes", *word).stderr for word in WORDS]
    assert ["or knows as not sent.\n" in said for said in told] == [True, False]
    assert "or knows as not sent, and once more what is in doubt.\n" in told[1]


@pytest.mark.slow
def test_resend_in_doubt_in_a_loop_resends_each_doubt_once(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop with --resend-in-doubt resends each doubt once."""
    recipients("to\n15550002001\n15551234888\n")
    for requests, resent in ((2, 0), (3, 1), (3, 0), (3, 0)):
        told = send("--resend-in-doubt", "--dry-run", text="x")
        done = send("--resend-in-doubt", text="x")
        assert (done["exit"], done["in_doubt"], simulator.requests) == (5, 1, requests)
        assert told["resent"] == resent
    said = run("promo.csv", "--text", "x", "--yes", "--resend-in-doubt").stderr
    assert "With --yes, what was sent again once is sent no third time." in said
    assert "the same command without --resend-in-doubt then sends those that were not." in said
    asked = SimpleNamespace(stdin=Terminal(), stderr=Terminal())
    monkeypatch.setattr(confirm, "sys", asked)
    words = ("promo.csv", "--text", "x", "--resend-in-doubt")
    CliRunner().invoke(bulk, words, input="n\ny\ny\n")  # settle it, send it, send it again
    assert simulator.requests == 4


@pytest.mark.parametrize("rows_before", [0, 1])
def test_a_doubt_that_began_during_a_question_is_not_resent(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, rows_before: int
) -> None:
    """A doubt that arose while the user was asked is not resent."""
    rows = ["15550002001\n", "15550012001\n"]
    if rows_before:
        recipients("to\n" + rows[0])
        send(text="x")
    monkeypatch.setattr(confirm, "sys", SimpleNamespace(stdin=Terminal(), stderr=Terminal()))
    words = ("promo.csv", "--text", "x", "--resend-in-doubt")
    recipients("to\n" + "".join(rows))
    typed = b"n\ny\ny\n" if rows_before else b"y\ny\n"  # settle it, send it, send it again
    later = TypedAfter(typed, lambda: send(text="x"))
    done = CliRunner().invoke(bulk, words, input=later)
    assert (done.exit_code, simulator.requests) == (4, 2), done.stderr
    assert "more came into doubt while you were asked; run the same command" in done.stderr
    CliRunner().invoke(bulk, words, input="n\ny\ny\n")
    assert simulator.requests == 4


def test_a_ledger_that_is_moved_away_while_somebody_is_asked_sends_nothing(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that is moved away while the user is asked ends the run unsent."""
    recipients("to\n15551234888\n15551234889\n")
    send("--limit", "1", text="x")
    monkeypatch.setattr(confirm, "sys", SimpleNamespace(stdin=Terminal(), stderr=Terminal()))
    words = ("promo.csv", "--text", "x")
    moves = TypedAfter(b"y\n", lambda: Path("promo.db").rename("moved.db"))
    done = CliRunner().invoke(bulk, words, input=moves)
    assert (done.exit_code, simulator.billed) == (4, 1), done.stderr
    assert (
        "promo.db was moved, removed or replaced after it was read, and lacks messages"
        in done.stderr
    )
    Path("moved.db").rename("promo.db")
    CliRunner().invoke(bulk, words, input="y\n")
    assert numbers(simulator) == ["15551234888", "15551234889"]


class Terminal:
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.slow
def test_finished_rows_are_looked_up_many_at_a_time(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rerun looks up many rows at a time."""
    sheet = "to\n" + "".join(f"1555123{number}\n" for number in range(5000, 6200))
    recipients(sheet + "15550000110\n")
    assert send(text="x")["accepted"] == 1200
    recipients(f"{sheet}15550000110\n15551239000\n")
    asked = list[str]()
    ask, run = SQLiteLedger.begin, SQLiteLedger.run

    async def begin(self: SQLiteLedger, intent: SendIntent, **word: Any) -> Submission | None:
        asked.append(intent.key)
        return await ask(self, intent, **word)

    monkeypatch.setattr(SQLiteLedger, "begin", begin)
    again = send(text="x")
    assert (again["accepted"], again["already_done"], again["refused"]) == (1, 1200, {"E110": 1})
    assert asked == ["promo:15551239000"]
    steps = list[object]()

    async def counted(self: SQLiteLedger, command: LedgerCommand[Any]) -> Any:
        steps.append(command)
        return await run(self, command)

    monkeypatch.setattr(SQLiteLedger, "run", counted)
    assert send(text="x")["already_done"] == 1201
    assert len(steps) < 10


@pytest.mark.slow
def test_a_ledger_that_cannot_be_asked_for_many_rows_is_asked_for_each(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the lookup of many rows fails, each message is looked up and none sent twice."""
    recipients()
    send()

    async def gone(*_asked: object, **_settings: object) -> NoReturn:
        raise LedgerError("the disk is gone")

    monkeypatch.setattr(SQLiteLedger, "lookup_many", gone)
    assert send()["already_done"] == 2
    assert simulator.requests == 2


@pytest.mark.slow
def test_files_of_the_same_rejects_do_not_pile_up(simulator: Simulator) -> None:
    """A rerun with the same rejects names the file that has them already."""
    rows = "".join(f"1555000{n}\n" for n in ("0110", "0201", "0621", "2002"))
    recipients(f"to\nnone\n{rows}")
    assert [send(text="x")["rejects"] for _ in range(3)] == ["promo.rejects.csv"] * 3
    assert len(rejected()) == 5
    recipients(f"to\nnone\nnor this\n{rows}")
    assert [send(text="x")["rejects"] for _ in range(2)] == ["promo.rejects-2.csv"] * 2
    assert len(list(Path.cwd().glob("*.rejects*"))) == 2


@pytest.mark.slow
def test_no_file_of_the_users_is_written_over(simulator: Simulator) -> None:
    """Rejects take a free file name, and never that of the recipients."""
    recipients()
    Path("promo.rejects.csv").write_text("mended by hand")
    assert send()["rejects"] == "promo.rejects-2.csv"
    assert Path("promo.rejects.csv").read_text() == "mended by hand"
    assert send("--rejects", "mine.csv")["rejects"] == "mine.csv"
    done = run("promo.csv", "--text", "x", "--yes", "--rejects", "./promo.csv")
    assert done.exit_code == 2
    assert "is the file of the recipients" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EDQUOT, "Quota exceeded", "x.csv"), "x.csv: Quota exceeded"),
        (OSError(errno.ENOSPC, "No space left"), "No space left"),
        (sqlite3.OperationalError("disk is full"), "temporary files: disk is full"),
    ],
)
def test_rejects_that_cannot_be_written_hide_no_doubt(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    """Rejects that cannot be written stop the run with its result and the reason."""
    recipients("to\n15551232015\n15551230110\n")

    def refused(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(Rejects, "write", refused)
    done = run("promo.csv", "--text", "x", "--yes", "--in-flight", "1")
    assert (done.exit_code, "in doubt      1" in done.stdout) == (Exit.IN_DOUBT, True)
    assert f"Stopped: {said}\n" in done.stderr
    done = run("promo.csv", "--text", "x", "--yes", "--rejects", "none/r.csv")
    assert (done.exit_code, "there is no directory none" in done.stderr) == (Exit.USAGE, True)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
@pytest.mark.parametrize("count", [1, 400])
def test_a_disk_that_is_full_of_rejects_hides_no_doubt(simulator: Simulator, count: int) -> None:
    """A disk that rejects fill up does not hide the result of the run."""
    refused = "".join(f"{15551000110 + 10_000 * n}\n" for n in range(count))
    recipients(f"to\n{refused}15551232002\n")
    in_flight = ("--in-flight", str(count + 1))
    done = run("promo.csv", "--text", "x", "--yes", "--rejects", "/dev/full", *in_flight)
    assert (done.exit_code, "in doubt      1" in done.stdout) == (Exit.IN_DOUBT, True)
    assert f"refused       {count} (E110 {count})" in done.stdout
    assert "Stopped: /dev/full: No space left" in done.stderr


def test_rejects_that_a_killed_run_left_empty_are_in_nobodys_way(simulator: Simulator) -> None:
    """An empty rejects file of a killed run is reused."""
    recipients()
    Path("promo.rejects.csv").touch()
    assert send()["rejects"] == "promo.rejects.csv"
    assert [row["line"] for row in rejected()] == ["4", "5"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rejects", "why"),
    [
        pytest.param("promo.db", "belongs to the ledger", id="the ledger"),
        pytest.param("./promo.db-wal", "belongs to the ledger", id="a part of it"),
        pytest.param("other.db", "something other than rejects", id="another ledger"),
        pytest.param("customers.csv", "something other than rejects", id="another table"),
    ],
)
def test_rejects_replace_nothing_but_rejects(rejects: str, why: str, simulator: Simulator) -> None:
    """`--rejects` with a file that holds something else is refused."""
    recipients()
    recipients(name="customers.csv")
    send("--ledger", "other.db", "--rejects", "mine.csv")
    before = Path("other.db").read_bytes()
    done = run("promo.csv", "--text", "Hi {name}", "--yes", "--rejects", rejects)
    assert (done.exit_code, why in done.stderr) == (2, True)
    assert simulator.requests == 2
    assert Path("other.db").read_bytes() == before
    assert Path("customers.csv").read_text("utf-8") == SAMPLE
    assert send("--ledger", "other.db", "--rejects", "mine.csv")["already_done"] == 2


@pytest.mark.slow
def test_another_text_is_another_campaign(simulator: Simulator) -> None:
    """The same keys with another text send nothing, and the advice leads to no second send."""
    recipients()
    send()
    done = run("promo.csv", "--text", "Bye {name}", "--yes")
    assert done.exit_code == 1
    assert "already sent  2 (with another text, number or sender)" in done.stdout
    assert "2 went out before with another text, number or sender" in done.stderr
    assert "--campaign" not in done.stderr
    reasons = [row["reason"] for row in rejected("promo.rejects.csv")]
    assert sum(reason.startswith("already sent: key: 'promo:1555") for reason in reasons) == 2
    other = ("--campaign", "other", "--ledger", "other.db", "--text", "Bye {name}", "--yes")
    assert "no row has a message to send" in run("promo.rejects.csv", *other).stderr
    assert simulator.billed == 2
    assert send("--campaign", "bye", text="Bye {name}")["accepted"] == 2


@pytest.mark.slow
def test_a_conflict_costs_neither_pace_nor_a_second_look(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows with a key conflict take no start of the rate and no second lookup."""
    recipients("to\n" + "".join(f"1555123{n}\n" for n in range(3000, 3010)))
    send(text="x")

    async def begin(*_asked: object, **_word: object) -> NoReturn:
        raise AssertionError("it is known already")

    monkeypatch.setattr(SQLiteLedger, "begin", begin)
    done = send("--rate", "0.01", text="y")
    assert (done["already_sent"], done["refused"], done["exit"]) == (10, {}, 1)


CHANGES: dict[str, tuple[str, ...]] = {
    "the text": ("--text", "Bye {name}"),
    "the sender": ("--text", "Hi {name}", "--from", "60857"),
    "the campaign reference": ("--text", "Hi {name}", "--campaign-ref", "77"),
    "a bound that it does not keep": ("--text", "Hi {name}", "--max-segments-each", "1"),
    "a column that it lacks": ("--text-column", "empty"),
}


@pytest.mark.slow
@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_row_in_doubt_says_so_whatever_was_changed(
    simulator: Simulator, change: str, words: tuple[str, ...]
) -> None:
    """A row in doubt is reported as that, whatever option changed since."""
    recipients(f"Name,Phone,Empty\nAnn,15551234888,x\n{'Bo' * 90},15550002002,\n")
    assert (send()["exit"], simulator.requests) == (5, 2)
    again = ("promo.csv", *CHANGES[change], *words, "--rejects", "again.csv", "--yes")
    done = run(*again) if "--text" in again else run(*again, "--dry-run")
    (row,) = (row for row in rejected("again.csv") if row["Name"] != "Ann")
    assert row["reason"].startswith("in doubt: ")
    if "--text" in again:
        assert done.exit_code == 5
        assert "1 may have been sent" in done.stderr
        assert re.search("in doubt( too)? +1", done.stdout)
    other = ("--campaign", "other", "--ledger", "other.db", "--from", "60856", "--yes")
    assert "nothing was sent: no row" in run("again.csv", "--text", "Hi", *other).stderr
    assert simulator.requests == 2


@pytest.mark.slow
def test_a_row_that_is_no_message_any_more_says_that_it_was_sent(simulator: Simulator) -> None:
    """A row sent before that is invalid now is reported as sent."""
    recipients(f"name,to\nAnn,15551234888\n{'Bo' * 90},15551234889\n")
    send()
    done = send("--max-segments-each", "1")
    assert (done["exit"], done["already_done"], simulator.requests) == (1, 1, 2)
    assert rejected()[0]["reason"].startswith("already sent: text: it takes 2 segments")
    said = run("promo.rejects.csv", "--text", "x", "--campaign", "other", "--yes").stderr
    assert ("no row has a message to send" in said, simulator.requests) == (True, 2)


ORDERS = ("15551234888,a\n15551234888,b\n", "15551234888,b\n15551234888,a\n")


@pytest.mark.slow
@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("first", ORDERS)
def test_a_number_under_two_keys_is_sent_once_in_whatever_order(
    simulator: Simulator, first: str, words: tuple[str, ...]
) -> None:
    """A number under two keys is sent to once, in any order of the rows and runs."""
    for rows in (first, *ORDERS, *ORDERS):
        recipients("to,key\n" + rows)
        done = send(*words, text="x")
        assert (done["accepted"] + done["already_done"], done["left_out"]["duplicate"]) == (1, 1)
    assert simulator.billed == 1


def test_a_key_that_went_to_another_number_is_not_taken_for_this_row(
    simulator: Simulator,
) -> None:
    """A duplicate row whose key belongs to another number does not hide that number."""
    recipients("to,key\n15551234888,a\n15551234888,b\n15551234889,b\n")
    simulator.script(*[Behaviour(taken=False, answer=Answer.THROTTLED_429, retry_after=0)] * 3)
    first = send("--in-flight", "1", text="x")
    assert (first["accepted"], first["not_sent"]) == (1, 1)
    again = send(text="x")
    assert (again["accepted"], again["already_done"], simulator.billed) == (1, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("first", ORDERS)
def test_a_number_in_doubt_under_another_key_is_in_doubt(simulator: Simulator, first: str) -> None:
    """A number in doubt under one key is not sent to under its second key."""
    orders = [rows.replace("4888", "2002") for rows in (first, *ORDERS, *ORDERS)]
    for rows in orders:
        recipients("to,key\n" + rows)
        done = send(text="x")
        assert (done["exit"], done["in_doubt"], simulator.requests) == (5, 1, 1)
    for rows in orders:
        recipients("to,key\n" + rows)
        assert send("--resend-in-doubt", text="x")["in_doubt"] == 1
        assert simulator.requests == 2
    with contextlib.closing(sqlite3.connect("promo.db")) as ledger:
        assert ledger.execute("SELECT count(*) FROM messages").fetchone() == (1,)


@pytest.mark.slow
def test_the_other_row_is_sent_where_the_first_was_refused(simulator: Simulator) -> None:
    """A number whose first row was rejected is sent to under its other key."""
    recipients("to,key,from\n15551234888,a,60857\n15551234888,b,60856\n")
    assert send(text="x")["not_sent"] == 1
    recipients("to,key,from\n15551234888,b,60856\n15551234888,a,60857\n")
    assert (send(text="x")["accepted"], simulator.billed) == (1, 1)


ENDS: dict[str, tuple[End, dict[str, Any], Exit]] = {
    "all well": (End(), {"accepted": 2}, Exit.DONE),
    "refused": (End(), {"accepted": 1, "already_sent": 1}, Exit.NOT_ALL_WELL),
    "left": (End(), {"accepted": 1}, Exit.NOT_SENT),
    "stopped at its end": (End(halted="no room"), {"accepted": 2}, Exit.NOT_ALL_WELL),
    "the account refused": (End(is_refused=True), {"accepted": 1}, Exit.REFUSED),
    "interrupted": (End(interrupted=True), {"accepted": 1}, Exit.INTERRUPTED),
}


@pytest.mark.parametrize("doubt", ["", "in_doubt", "left_in_doubt"])
@pytest.mark.parametrize("case", ENDS)
def test_doubt_is_the_exit_code_whatever_else_happened(case: str, doubt: str) -> None:
    """Each end has its exit code, and any doubt makes it that of doubt."""
    end, counts, code = ENDS[case]
    survey = Survey()
    counters = BulkCounters(total=2, **counts)
    if doubt:
        setattr(counters, doubt, 1)
    assert exit_code(counters, end, survey.estimate()) is (Exit.IN_DOUBT if doubt else code)


@pytest.mark.slow
def test_messages_sent_under_the_first_digests_are_known(simulator: Simulator) -> None:
    """Messages with content digests of version 1 are known as sent."""
    recipients()
    send()
    with contextlib.closing(sqlite3.connect("promo.db")) as ledger:
        for message in simulator.messages:
            # The fields of SMS but for its key, as Python shows them.
            fields = (message.to, message.text, "60856", None, None, None, None)
            digest = blake2b(repr(fields).encode(), digest_size=16).digest()
            ledger.execute(
                "UPDATE messages SET content = ? WHERE recipient = ?", (digest, message.to)
            )
        ledger.commit()
    assert send()["already_done"] == 2
    assert simulator.requests == 2


@pytest.mark.slow
def test_a_file_that_is_changed_meanwhile_changes_nothing(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file changed during the question changes nothing of what is sent."""
    recipients()
    ask = questions.ask

    def changed(*asked: Any) -> bool:
        recipients("Name,Phone\nEve,15551230000\n" * 3)
        return ask(*asked)

    monkeypatch.setattr(action, "ask", changed)
    assert send()["accepted"] == 2
    assert numbers(simulator) == ["15551234888", "15551234889"]
    assert [row["Phone"] for row in rejected()] == ["555", "1 555 1234888"]


@pytest.mark.slow
def test_a_key_that_is_twice_in_the_file_is_sent_once(simulator: Simulator) -> None:
    """The second row with a key is rejected with the line of the first."""
    recipients("to,key\n15551234888,a\n15551234889,a\n")
    assert send(text="x")["left_out"] == {**LEFT_OUT, "not valid": 0}
    assert numbers(simulator) == ["15551234888"]
    assert [row["reason"] for row in rejected()] == ["the key 'a' is on line 2"]


@pytest.mark.slow
def test_rejects_sent_as_another_campaign_bill_nobody_twice(simulator: Simulator) -> None:
    """Duplicates and doubts in a rejects file stay unsent under another ledger."""
    recipients("to\n15551234888\n+1 555 1234888\n15550002002\n15550000110\n")
    assert send(text="x")["exit"] == 5
    other = ("--campaign", "b", "--ledger", "b.db", "--yes-send-again")
    done = send(*other, text="x", name="promo.rejects.csv")
    assert (done["accepted"], done["refused"]) == (0, {"E110": 1})
    assert (done["left_out"]["duplicate"], done["left_out"]["in doubt"]) == (1, 1)
    assert numbers(simulator).count("15551234888") == 1
    assert numbers(simulator).count("15550002002") == 1


@pytest.mark.slow
def test_the_way_to_go_on_resends_nothing_once_more() -> None:
    """The advice to go on leaves out --resend-in-doubt."""
    recipients()
    again = ("promo.csv", "--text", "x", "--yes", "--resend-in-doubt")
    plain, resent = run(*again[:-1]), run(*again)
    assert "2 not sent. Run the same command to go on.\n" in plain.stderr
    assert "2 not sent. Run the same command without --resend-in-doubt to go on" in resent.stderr


@pytest.mark.parametrize("where", ["judged_rows", "duplicates"])
def test_no_room_for_temporary_files_is_said(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """No room for temporary files is a one-line error, and nothing is sent."""
    table = import_module(f"skycore_async.cli.bulk.{where}")
    monkeypatch.setattr(table, "_SETTINGS", ("PRAGMA max_page_count = 2", *table._SETTINGS))
    recipients("to\n" + "".join(f"1555123{n:04}\n" for n in range(5000)))
    done = run("promo.csv", "--text", "x", "--yes")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "skycore: no room for temporary files (database or disk is full): name another directory"
        " with TMPDIR\n"
    )


def test_a_dry_run_sends_and_writes_nothing() -> None:
    """A dry run needs no key or sender, and sends and writes nothing."""
    recipients()
    env = {"SKYCORE_API_KEY": "", "SKYCORE_FROM": ""}
    done = CliRunner().invoke(
        bulk, ["promo.csv", "--text", "Hi {name}", "--dry-run", "--price", "0.01"], env=env
    )
    assert done.exit_code == 1
    assert done.stdout.startswith(
        "promo.csv: UTF-8, commas, numbers in 'Phone'\nrows          4\n  to send     2\n"
    )
    assert "estimate      0.02 at 0.01 a segment\n" in done.stdout
    assert "nothing was sent" in done.stderr
    assert [path.name for path in Path.cwd().iterdir()] == ["promo.csv"]


def test_a_dry_run_answers_in_json() -> None:
    """A dry run with --json gives one object with estimate and obstacle."""
    recipients()
    done = run("promo.csv", "--text", "Hi {name}", "--dry-run", "--json", "--max-segments", "1")
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert (found["rows"], found["to_send"], found["segments"]) == (4, 2, 2)
    assert found["encodings"]["GSM 03.38"]["messages"] == 2
    assert found["refused"]["not valid"]["first"][0]["line"] == 4
    assert "--max-segments is 1" in found["obstacle"]
    assert done.exit_code == 2


def test_a_dry_run_writes_the_rejects_that_are_asked_for() -> None:
    """A dry run writes rejects if a file is named."""
    recipients()
    run("promo.csv", "--text", "Hi {name}", "--dry-run", "--rejects", "mend.csv")
    assert [row["line"] for row in rejected("mend.csv")] == ["4", "5"]


@pytest.mark.parametrize(
    ("content", "args", "said"),
    [
        (
            "to,name\n15551234888,\n",
            ("--text", "Hi {name}"),
            "rows lack what the text names, 1 in all, on line 2",
        ),
        ("to\n15551234888\n", ("--text", "Hi {name}"), "promo.csv: the text names {name}, and"),
        ("to\n15551234888\n", (), "promo.csv: there is no text: give --text"),
        ("a\n1\n", ("--text", "x"), "promo.csv: no column is called to"),
        ("", ("--text", "x"), "promo.csv: it is empty"),
        ("to\n1\n", ("--text", "x"), "no row has a message to send"),
        ("to\n", ("--text", "x"), "there is no row below the first line"),
        ("to\n15551234888\n", ("--text", "x", "--from-column", "f"), "no column 'f'"),
        (
            "to\n15551234888\n",
            ("--text", "x", "--api-key-file", "no"),
            "no cannot be read: No such file",
        ),
        ("to\n15551234888\n", ("--text", "x", "--api-key-file", "/"), "is a directory"),
        ("to\n15551234888\n", ("--text", "x", "--max-segments", "0"), "0 is not in the range"),
        ("to\n15551234888\n", ("--text", "x", "--price", "much"), "'much' is no amount"),
        ("to\n15551234888\n", ("--text", "x", "--price", "-1"), "'-1' is no price"),
        ("to\n15551234888\n", ("--text", "x", "--price", "9e999999"), "'9e999999' is no price"),
        ("to\n15551234888\n", ("--text", "x", "--rate", "nan"), "'nan' is not a valid number"),
        ("to\n15551234888\n", ("--text", "x", "--rate", "inf"), "'inf' is not a valid number"),
        ("to\n15551234888\n", ("--text", "x", "--rate", "1e-320"), "is not in the range"),
        ("to\n15551234888\n", ("--text", "x", "--in-flight", "100000"), "is not in the range"),
        ("to\n15551234888\n", ("--text", "x", "--base-url", "nowhere"), "base_url: 'nowhere'"),
    ],
)
def test_a_mistake_is_one_line(content: str, args: tuple[str, ...], said: str) -> None:
    """A mistake is exit code 2 and one line, before anything is sent."""
    recipients(content)
    done = run("promo.csv", "--yes", *args)
    assert done.exit_code == 2
    assert said in done.stderr.splitlines()[-1]
    assert not Path("promo.db").exists() or "base_url" in said


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SKYCORE_API_KEY", "", "no API key: set SKYCORE_API_KEY, or name a file"),
        ("SKYCORE_FROM", "", "no short code to send from: give --from"),
    ],
)
def test_a_missing_environment_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    """A missing key or sender is an error before the file is read."""
    recipients()
    monkeypatch.setenv(name, value)
    done = run("promo.csv", "--text", "x", "--yes")
    assert done.exit_code == 2
    assert said in done.stderr
    assert not done.stdout


def test_a_file_that_is_not_there_is_said() -> None:
    """A missing file is an error that names it."""
    done = run("nobody.csv", "--text", "x", "--yes")
    assert (done.exit_code, done.stderr) == (
        2,
        "skycore: nobody.csv: No such file or directory\n",
    )


@pytest.mark.slow
def test_the_key_can_be_in_a_file(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API key may be in a file, and a file that is no text is refused."""
    monkeypatch.delenv("SKYCORE_API_KEY")
    recipients()
    Path("key").write_text(f"{API_KEY}\n")
    assert send("--api-key-file", "key")["accepted"] == 2
    Path("key").write_bytes(b"\xff\xfe\x00")
    done = run("promo.csv", "--text", "x", "--yes", "--api-key-file", "key")
    assert (done.exit_code, done.stderr) == (2, "skycore: key holds no API key: it is not text\n")


def test_a_ledger_in_use_is_said() -> None:
    """A ledger in use is an error in words, and nothing is sent."""
    recipients()

    async def hold() -> Result:
        async with SQLiteLedger("promo.db"):
            return await anyio.to_thread.run_sync(lambda: run("promo.csv", "--text", "x", "--yes"))

    done = anyio.run(hold)
    assert done.exit_code == 4
    assert "promo.db is in use" in done.stderr


def test_without_a_terminal_a_yes_is_needed() -> None:
    """Without a terminal nothing is sent without --yes."""
    recipients()
    done = run("promo.csv", "--text", "x", typed="y\n")
    assert done.exit_code == 2
    assert "say --yes" in done.stderr
    assert not Path("promo.db").exists()


def test_a_full_directory_for_the_copy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full temporary directory is named, with TMPDIR as the way out."""
    recipients()

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfileobj", full)
    done = run("promo.csv", "--text", "x", "--dry-run")
    where = tempfile.gettempdir()
    assert (done.exit_code, done.stderr) == (
        2,
        f"skycore: {where} has no room for a copy of promo.csv: name another with TMPDIR\n",
    )


@pytest.mark.slow
def test_a_formula_that_failed_is_no_key(simulator: Simulator) -> None:
    """A key that is a spreadsheet error is refused, and corrected later."""
    content = "to,name,key\n15551234889,Ann,17\n15551234890,Bo,#N/A\n"
    recipients(content)
    assert send()["left_out"]["not valid"] == 1
    recipients(content.replace("#N/A", "18"))
    assert send()["accepted"] == 1
    assert numbers(simulator) == ["15551234889", "15551234890"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--sample", "1", "--to", "15551234888")])
def test_no_text_goes_out_garbled(simulator: Simulator, options: tuple[str, ...]) -> None:
    """A file with lines in two encodings sends nothing."""
    Path("promo.csv").write_bytes("to,name\n15551234889,Zoë\n15551234890,Ren".encode() + b"\xe9e")
    done = run("promo.csv", "--text", "Hi {name}", "--yes", *options)
    assert (done.exit_code, simulator.requests) == (Exit.USAGE, 0)
    assert "promo.csv: line 3 is not UTF-8, and line 2 is" in done.stderr


@pytest.mark.slow
def test_standard_input_is_read_and_named(simulator: Simulator) -> None:
    """`-` reads standard input and needs --campaign."""
    args = ("-", "--text", "Hi {name}", "--yes", "--json")
    assert "--campaign NAME" in run(*args, typed=SAMPLE).stderr
    done = run(*args, "--campaign", "promo", typed=SAMPLE.encode("utf-16"))
    assert json.loads(done.stdout)["accepted"] == 2
    assert (Path("promo.db").exists(), Path("promo.rejects.csv").exists()) == (True, True)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="there are no names of descriptors")
def test_a_pipe_of_a_shell_has_no_name(simulator: Simulator) -> None:
    """A shell's pipe (/dev/fd/N) needs --campaign, and is continued under it."""
    for wanted in (None, 2, 0):
        given, taken = os.pipe()
        os.write(taken, SAMPLE.encode())
        os.close(taken)
        if wanted is None:
            done = run(f"/dev/fd/{given}", "--text", "Hi {name}", "--ledger", "p.db", "--yes")
            assert (done.exit_code, Path("p.db").exists()) == (Exit.USAGE, False)
            assert "a pipe with --campaign NAME" in done.stderr
        else:
            sent = send("--campaign", "promo", name=f"/dev/fd/{given}")
            assert (sent["accepted"], sent["rejects"]) == (wanted, "promo.rejects.csv")
        os.close(given)
    assert len(simulator.messages) == 2


@pytest.mark.parametrize(
    ("csv", "is_named"),
    [
        ("-", False),
        ("/dev/stdin", False),
        ("/proc/self/fd/63", False),
        ("/proc/17/task/17/fd/0", False),
        ("/dev/promo.csv", True),
        ("./-", True),
        ("63", True),
    ],
)
def test_the_name_of_a_descriptor_is_no_name_of_a_file(csv: str, is_named: bool) -> None:
    """Paths of file descriptors count as nameless, and others do not."""
    assert has_name(csv) is is_named


@pytest.mark.parametrize("campaign", [".", "/", "2026/12"])
def test_standard_input_has_a_name_that_a_file_can_have(campaign: str) -> None:
    """A --campaign that cannot name a file is refused for standard input."""
    done = run("-", "--campaign", campaign, "--text", "Hi", "--yes", typed=SAMPLE)
    assert done.exit_code == Exit.USAGE
    assert "name it as a file can be, in a directory that is there" in done.stderr


def test_a_dash_is_no_text_to_everybody(simulator: Simulator) -> None:
    """`--text -` is refused."""
    recipients()
    done = run("promo.csv", "--text", "-", "--yes", typed="Hi {name}")
    assert done.exit_code == Exit.USAGE
    assert "--text takes the text itself, and not standard input" in done.stderr
    assert simulator.requests == 0


def test_a_file_may_be_called_as_rejects_of_nothing_are(simulator: Simulator) -> None:
    """A file called `.rejects.csv` gives its whole name to ledger and campaign."""
    recipients(name=".rejects.csv")
    assert (
        "ledger        .rejects.db, campaign '.rejects'"
        in run(".rejects.csv", "--text", "Hi", "--dry-run").stdout
    )


def test_an_address_with_a_password_is_noted_nowhere(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base URL with a password is refused before anything is written."""
    recipients()
    for option in ("--yes", "--dry-run"):
        done = run(
            "promo.csv", "--text", "Hi", option, "--base-url", "http://me:sesame@127.0.0.1/"
        )
        assert done.exit_code == Exit.USAGE
        assert (
            done.output
            == "skycore: base_url: no user, no query and no fragment can be part of it\n"
        )
    home = Path(os.environ["SKYCORE_HOME"])
    assert not any(b"sesame" in file.read_bytes() for file in home.rglob("*") if file.is_file())


@pytest.mark.slow
def test_a_refused_account_halts_it(simulator: Simulator) -> None:
    """A refused account halts the run with its reason, and the rest can go on later."""
    recipients("to\n" + "".join(f"1555123{n:04}\n" for n in range(500)))
    simulator.account = Account(billing_hold=True)
    done = run("promo.csv", "--text", "x", "--yes", "--in-flight", "5")
    assert done.exit_code == 3
    assert "Stopped: the account was refused: E713" in done.stderr
    assert (
        "not sent. Ask Skycore about the bill of this account. Run the same command" in done.stderr
    )
    assert simulator.requests < 20


@pytest.mark.slow
def test_a_sender_that_is_refused_halts_its_rows_alone(simulator: Simulator) -> None:
    """A refused sender halts its own rows; corrected ones keep their keys."""
    rows = [f"1555123{n:04},{'60857' if n % 2 else '60856'}\n" for n in range(3000, 3400)]
    sheet = recipients("to,from\n" + "".join(rows))
    done = send("--in-flight", "5", text="x")
    assert (done["exit"], done["accepted"], done["not_sent"], done["refused"]) == (3, 200, 200, {})
    assert done["halted"].startswith("the short code '60857' was refused: E111")
    assert (done["rejects"], simulator.billed) == (None, 200)
    assert simulator.requests <= 205
    Path(sheet).write_text("to,from\n" + "".join(rows).replace("60857", "60856"))
    again = send(text="x")
    assert (again["exit"], again["accepted"], again["already_done"]) == (0, 200, 200)
    assert len({*numbers(simulator)}) == simulator.billed == 400


@pytest.mark.slow
def test_a_refused_row_is_mended_in_any_way(simulator: Simulator) -> None:
    """A rejected row is sent with its corrected text, and accepted ones are not resent."""
    simulator.script(refusal("E712"))
    recipients("to,text\n15551234888,Helo\n15551234889,Hello\n")
    done = send("--in-flight", "1", text="{text}")
    assert (done["refused"], done["accepted"]) == ({"E712": 1}, 1)
    path = Path("promo.rejects.csv")
    path.write_text(path.read_text("utf-8-sig").replace("Helo", "Hello"), "utf-8-sig")
    mended = send(name="promo.rejects.csv", text="{text}")
    assert (mended["exit"], mended["accepted"], simulator.billed) == (0, 1, 2)
    again = send(name="promo.rejects.csv", text="{text}")
    assert (again["already_done"], simulator.billed) == (1, 2)


@pytest.mark.slow
def test_why_a_message_was_not_sent_is_said() -> None:
    """The reason of the last unsent message is shown."""
    recipients()
    done = run("promo.csv", "--text", "Hi {name}", "--yes")
    assert done.exit_code == 4
    assert "Why the last was not sent: no connection" in done.stderr
    assert "no connection" in send()["why_not_sent"]


@pytest.mark.slow
def test_a_bulk_send_that_gets_nowhere_stops_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that gets nothing through stops after a number of messages."""
    monkeypatch.setattr("skycore_async.cli.bulk.progress._STUCK", 10)
    recipients("to\n" + "".join(f"1555123{n:04}\n" for n in range(1000)))
    done = send(text="x")
    assert (done["exit"], done["accepted"], done["not_sent"]) == (4, 0, 1000)
    assert "of 10 messages in a row none got through for certain" in done["halted"]


@pytest.mark.slow
def test_an_address_that_is_not_the_apis_brings_few_into_doubt(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose answers are all unclear stops after few doubts and names the address."""
    monkeypatch.setattr("skycore_async.cli.bulk.progress._STUCK", 10)
    recipients("to\n" + "".join(f"1555123{n}\n" for n in range(3000, 3300)))
    short = simulator.url.removesuffix("/API/wxml/1.3/index.php")
    stopped = send("--base-url", short, "--in-flight", "5", text="x")
    assert stopped["exit"] == 5
    assert 10 <= stopped["in_doubt"] <= 20
    assert "see that base_url is the API's" in stopped["halted"]
    done = send(text="x")
    assert (done["accepted"], done["in_doubt"]) == (300 - stopped["in_doubt"], stopped["in_doubt"])
    assert done["halted"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "transport"),
    [((), "DirectTransport"), (("--road", "httpx"), "HttpxTransport")],
)
def test_a_bulk_send_goes_out_over_either_transport(
    simulator: Simulator,
    options: tuple[str, ...],
    transport: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fast transport is used unless --road names the other."""
    taken: list[str] = []

    def noted(word: Road, base_url: str) -> Transport:
        made = new(word, base_url)
        taken.append(type(made).__name__)
        return made

    new = choice._new
    monkeypatch.setattr(choice, "_new", noted)
    recipients()
    assert send(*options)["accepted"] == 2
    assert simulator.billed == 2
    assert taken == [transport]


# What people see meanwhile.


def test_the_time_left_counts_only_messages_to_be_sent() -> None:
    """The time left is computed from the messages still to be sent."""
    now = [0.0]
    counters = BulkCounters(total=100_000, known=99_990, clock=lambda: now[0])
    counters.read()
    accepted = Accepted(message=SMS(to="1", text="x"), to="1", tracking_id="t", raw={})
    for each in (attrs.evolve(accepted, recorded=True), accepted, accepted):
        counters.take(each)
    now[0] = 1.0
    counters.read()
    assert [*counters.parts()][-1] == "0:00:04 left"
    counters.accepted = 100_000
    counters.read()
    assert [*counters.parts()][-1] == "0:00:00 left"


def test_the_counters_say_how_far_it_is() -> None:
    """The counters show counts, error codes, rate and time left."""
    now = [0.0]
    counters = BulkCounters(total=100, clock=lambda: now[0])
    message = SMS(to="1", text="x")
    accepted = Accepted(message=message, to="1", tracking_id="t", raw={})

    def failed(error: Any) -> Failed:
        return Failed(message=message, error=error)

    assert list(counters.parts()) == ["0/100", "0/s", "accepted 0"]
    counters.read()
    recorded = attrs.evolve(accepted, recorded=True)
    took = [counters.take(recorded if n < 3 else accepted) for n in range(13)]
    assert took == [None] * 13
    assert counters.take(failed(NotSent("no route"))) is None
    assert counters.take(failed(Rejected.of(code="E110"))) is not None
    assert counters.take(failed(RecipientOptedOut("said STOP"))) == "said STOP"
    doubt = attrs.evolve(failed(OutcomeUnknown("lost")), recorded=True)
    assert counters.take(doubt) == "in doubt: lost"
    assert counters.take(failed(NotSent("no route"))) is None
    assert counters.take(failed(Rejected.of(code="E713"))) is None
    now[0] = 4.0
    counters.read()
    assert list(counters.parts()) == [
        "16/100",
        "3/s",
        "accepted 10",
        "already done 3",
        "refused 1 (E110 1)",
        "opted out 1",
        "in doubt 1",
        "not sent 3 (E713: billing problem on the account)",
        "0:00:28 left",
    ]
    counters.is_stopping = True  # as the last was not sent for that
    assert "not sent 3" in counters.parts()
    counters.is_stopping = False
    counters.in_flight = lambda: 22
    assert list(counters.parts())[:3] == ["16/100", "3/s", "in flight 22"]
    assert (counters.left, counters.stuck.in_a_row) == (84, 2)
    assert list(account(counters))[-1] == "not sent      84"


@pytest.mark.slow
def test_it_says_how_many_answers_are_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The progress shows how many messages are in flight."""
    monkeypatch.setattr("skycore_async.cli.bulk.progress._EVERY", 0.05)
    recipients("to\n" + "".join(f"1555123{n:04}\n" for n in range(3000, 3009)))
    with Simulator(time_scale=1.0) as slow:
        monkeypatch.setenv("SKYCORE_BASE_URL", slow.url)
        slow.script(*[Behaviour(delay=0.5)] * 9)
        done = run("promo.csv", "--text", "x", "--yes", "--in-flight", "4")
    assert done.exit_code == Exit.DONE, done.output
    assert "0/9  0/s  in flight 4  accepted 0\n" in done.stderr
    assert "8/9  " in done.stderr
    assert "in flight 1  accepted 8" in done.stderr


def test_where_nobody_looks_it_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Piped, the progress is plain lines on standard error."""
    monkeypatch.setattr("skycore_async.cli.bulk.progress._EVERY", 0.01)

    async def watch() -> None:
        with anyio.move_on_after(0.2):
            await show_plain(BulkCounters(total=5, accepted=2))

    anyio.run(watch)
    printed = capsys.readouterr()
    assert printed.err.startswith("2/5  0/s  accepted 2\n2/5")
    assert not printed.out


def test_while_it_listens_a_line_is_news(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While waiting for receipts a progress line is printed only when it changes."""
    monkeypatch.setattr("skycore_async.cli.bulk.progress._EVERY", 0.01)
    counters = BulkCounters(total=2, accepted=2, awaited=2)
    counters.clock, counters.listens_until = count().__next__, 600.0

    async def watch() -> None:
        async with anyio.create_task_group() as beside:
            beside.start_soon(show_plain, counters)
            await anyio.sleep(0.2)
            counters.awaited = 1
            await anyio.sleep(0.2)
            beside.cancel_scope.cancel()

    anyio.run(watch)
    lines = capsys.readouterr().err.splitlines()
    assert ["receipts awaited 2" in line for line in lines] == [True, False]
    assert all(" more, or until Ctrl-C" in line for line in lines)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@needs_signals
def test_output_that_nobody_reads_is_no_fault_of_the_recipients(simulator: Simulator) -> None:
    """A closed pipe ends the run unsent, and blames no file."""
    recipients()
    with program("bulk", "promo.csv", "--text", "x", "--yes") as sending:
        assert sending.stdout is not None
        assert sending.stderr is not None
        sending.stdout.close()
        said = sending.stderr.read()
        sending.wait(timeout=20)
    assert said.startswith("skycore: standard output: Broken pipe\n")
    assert simulator.requests == 0


@pytest.mark.slow
@needs_signals
def test_one_interruption_ends_it_cleanly(simulator: Simulator) -> None:
    """One Ctrl-C lets messages in flight end, and the same command continues."""
    everyone = [f"1555123{n:04}" for n in range(3000, 3300)]
    recipients("to\n" + "\n".join(everyone))
    options = ("--yes", "--rate", "60", "--in-flight", "20", "--json")
    with program("bulk", "promo.csv", "--text", "x", *options) as sending:
        wait_until(lambda: simulator.billed >= 20)
        sending.send_signal(signal.SIGINT)
        printed, said = sending.communicate(timeout=20)
    assert sending.returncode == 130, said
    assert "Stopping: waiting for what is in flight." in said
    assert "not sent. Run the same command to go on." in said
    assert "Traceback" not in said
    first = json.loads(printed)
    assert first["accepted"] == simulator.billed < 300
    assert (first["not_sent"], first["in_doubt"]) == (300 - simulator.billed, 0)
    assert first["interrupted"]
    done = send(text="x")
    assert (done["exit"], done["already_done"]) == (0, first["accepted"])
    assert simulator.billed == 300
    assert numbers(simulator) == everyone


@pytest.mark.slow
@needs_signals
def test_two_interruptions_leave_at_once_and_lose_nothing(simulator: Simulator) -> None:
    """Two Ctrl-C leave at once; messages in flight are in doubt and the rest is sent later."""
    hanging = [f"155512{n}2004" for n in range(4)]
    everyone = [*(f"1555123{n}" for n in range(3000, 3100)), *hanging]
    recipients("to\n" + "\n".join([*everyone[:20], *hanging, *everyone[20:100]]))
    options = ("--yes", "--rate", "60", "--in-flight", "20")
    with program("bulk", "promo.csv", "--text", "x", *options) as sending:
        wait_until(lambda: set(hanging) <= set(numbers(simulator)))
        sending.send_signal(signal.SIGINT)
        assert sending.stderr is not None
        for line in sending.stderr:
            if "Stopping" in line:
                break
        with pytest.raises(subprocess.TimeoutExpired):
            sending.wait(timeout=0.5)
        sending.send_signal(signal.SIGINT)
        _, said = sending.communicate(timeout=20)
    assert sending.returncode == 130, said
    assert "Left at once" in said
    assert "Run the same command to go on" in said
    done = send(text="x")
    assert (done["exit"], done["in_doubt"], done["not_sent"]) == (5, 4, 0)
    assert [row["to"] for row in rejected(done["rejects"])] == hanging
    assert numbers(simulator) == sorted(everyone)


@pytest.mark.slow
@needs_signals
@pytest.mark.parametrize(
    ("typed", "code", "billed"), [("y\n", 0, 30), ("n\n", 4, 0), ("\x03", 130, 0)]
)
def test_on_a_terminal_it_asks_and_shows_its_progress(
    simulator: Simulator, typed: str, code: int, billed: int
) -> None:
    """On a terminal nothing is sent before a yes, and progress is drawn."""
    printed, exit_code = on_a_terminal("--rate", "60", typed=[typed], rows=30)
    assert (exit_code, simulator.billed) == (code, billed), printed
    assert "Send 30 messages? [y/N]" in printed
    assert ("30/30" in printed) == (code == 0)
    assert ("━" in printed) == (code == 0)
    assert ("skycore: nothing was sent" in printed.splitlines()) == (code != 0)
    assert "Traceback" not in printed


@pytest.mark.slow
@needs_signals
def test_on_a_terminal_ctrl_c_is_seen_to_be_heard(simulator: Simulator) -> None:
    """On a terminal the progress display itself says that the run is stopping."""
    printed, exit_code = on_a_terminal("--rate", "20", typed=["y\n", "\x03"], rows=300)
    assert exit_code == 130, printed
    drawn = printed[printed.index("\x00", printed.index("━")) :]
    assert "Stopping: waiting for what is in flight." in drawn
    assert "\nStopping" not in printed
    assert "Why the last was not sent" not in printed
    assert "not sent. Run the same command to go on." in printed


@pytest.mark.slow
@needs_signals
def test_resending_messages_in_doubt_is_its_own_question() -> None:
    """Resending doubts is a question of its own."""
    printed, exit_code = on_a_terminal("--resend-in-doubt", typed=["y\n", "n\n"], rows=1)
    assert exit_code == 4, printed
    assert not Path("promo.db").exists()
    assert "would be billed and delivered twice" in printed


@pytest.mark.slow
@needs_signals
@pytest.mark.parametrize(("typed", "lookups"), [("y\n", 1), ("n\n", 0)])
def test_on_a_terminal_bulk_offers_to_settle_messages_in_doubt(
    simulator: Simulator, typed: str, lookups: int
) -> None:
    """On a terminal settling doubts is offered before the question to send."""
    recipients("to\n15551232002\n")
    send(text="x")
    printed, exit_code = on_a_terminal(typed=[typed, "y\n"], rows=1)
    assert "1 message in doubt may have been sent. Ask Skycore's own report first which" in printed
    assert (exit_code, simulator.lookups, simulator.billed) == (0, lookups, 2), printed


def on_a_terminal(*args: str, typed: list[str], rows: int) -> tuple[str, int]:
    """Run the command on a terminal, answer each question, and return all output."""
    import pty

    recipients("to\n" + "".join(f"1555123{n}\n" for n in range(3000, 3000 + rows)))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-W", "error", "-c", COMMAND, "promo.csv", "--text", "x", *args]
    sending = subprocess.Popen(  # noqa: S603 - our own words
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        start_new_session=True,
        preexec_fn=own_terminal,  # noqa: PLW1509 - which starts no thread
    )
    os.close(theirs)
    printed = ""
    with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
        while select.select([ours], [], [], 20)[0] and (chunk := os.read(ours, 10_000)):
            printed += chunk.decode()
            if typed and (cue := CUE.search(printed)):
                time.sleep(0.3)  # a Ctrl-C just before input() waits is only seen at the next key
                os.write(ours, typed.pop(0).encode())
                printed = f"{printed[: cue.end()]}\x00{printed[cue.end() :]}"
    os.close(ours)  # which hangs up, so that nothing waits for a key any more
    return printed, sending.wait(timeout=20)


def own_terminal() -> None:
    """Make standard input the terminal from which Ctrl-C comes."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_help_has_an_example_and_the_exit_codes() -> None:
    """The help has an example and the exit codes."""
    done = run("--help")
    assert done.exit_code == 0
    assert (
        '\n    skycore bulk promo.csv --text "Hi {name}" --from 60856 --rate 20\n' in done.output
    )
    assert "130 interrupted" in " ".join(done.output.split())


def test_help_loads_nothing_heavy() -> None:
    """The command's module loads no heavy library."""
    code = (
        "import sys; before = set(sys.modules); import skycore_async.cli.commands.bulk;"
        "print({'anyio', 'httpx', 'rich', 'sqlite3', 'csv'} & (set(sys.modules) - before))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - our own words
    assert done.stdout.strip() == b"set()"
