"""`skycore status`: what it shows of a ledger, to people and programs."""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import attrs
import httpx
import pytest
from click.testing import CliRunner, Result

from skycore_async import MessageState, Notification, SQLiteLedger, parse_postback
from skycore_async.cli.actions.status import NAMES, json_line_of
from skycore_async.cli.app import skycore
from skycore_async.cli.commands.status import STATES
from skycore_async.cli.ui.output import Exit
from skycore_async.ledger.model import SendIntent, Submission
from tests.support.cli_program import program, told
from tests.support.fault_server import client_context
from tests.support.ledger_cases import intent

NUMBER = "1555123"
NOTIFICATION = """<NOTIFICATION ID="{id}" CREATED="2026-11-22 10:00:0{id}+00:00">
<ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE><BODY><TO>{to}</TO><FROM>60856</FROM>
<TRACKINGID>{tracking_id}</TRACKINGID>{status}</BODY></NOTIFICATION>"""


def notification(id_: int, to: str, tracking_id: str, carrier: str = "") -> Notification:
    """Make a sent notification, or a receipt with that carrier status."""
    status = f'<STATUS PROTOCOL="2" STATUS="{carrier}"/>' if carrier else ""
    if carrier:
        status += f"<STATUSDETAILS>number is not a subscriber: {to[1:]}</STATUSDETAILS>"
    text = NOTIFICATION.format(id=id_, to=to, tracking_id=tracking_id, status=status)
    (made,) = parse_postback(text)
    return made


# The key, the last digits of the number, and what came of it.
SENT = [
    ("order-1", "0001", Submission(state=MessageState.ACCEPTED, tracking_id="T1")),
    ("order-2", "0002", Submission(state=MessageState.IN_DOUBT, info="no answer")),
    (
        f"row {NUMBER}0003",
        "0003",
        Submission(state=MessageState.REJECTED, code="E110", info=f"bad number {NUMBER}0003"),
    ),
    ("order-4", "0004", Submission(state=MessageState.NOT_SENT, info="no connection")),
]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a ledger with a failed message, and one in most other states."""
    path = tmp_path_factory.mktemp("ledger") / "promo.db"

    async def fill() -> None:
        async with SQLiteLedger(path) as made:
            for key, digits, submission in SENT:
                intent = SendIntent(
                    key=key,
                    content=b"",
                    to=NUMBER + digits,
                    from_="60856",
                    started_at=1_790_000_000,
                )
                await made.begin(intent)
                await made.finish(key, submission)
            await made.record(
                notification(2, f"{NUMBER}0001", "T1", "514"),
                notification(1, f"{NUMBER}0001", "T1"),
                notification(3, "15557654321", "T9"),
            )
            await made.opt_out("15557654321")

    anyio.run(fill)
    yield path
    assert path.exists()


def status(*arguments: object) -> Result:
    """Run `status` on a ledger."""
    return CliRunner().invoke(skycore, ["status", *map(str, arguments)])


def answer(*arguments: object) -> Any:
    """Return the one line of JSON."""
    (line,) = status(*arguments, "--json").stdout.splitlines()
    return json.loads(line)


def test_the_summary_counts_what_there_is(ledger: Path) -> None:
    """The summary shows states, refusals with meaning, failures and other counts."""
    done = status(ledger)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == f"{ledger}: 4 messages"
    for line in (
        "failed 1",
        "in_doubt 1",
        "E110 1 recipient number not valid",
        "recipient 1",
        "unplaced 1 notifications of messages it does not know",
        "opted out 1 numbers that may not be sent to",
        f"skycore status {ledger} --state in_doubt",
    ):
        assert line in lines
    assert "delivered 0" not in lines
    assert max(map(len, done.stdout.splitlines()[1:-2])) <= 80


def test_the_summary_for_programs(ledger: Path) -> None:
    """--json gives one object with every state, in order."""
    told = answer(ledger)
    assert list(told["states"]) == list(STATES)
    assert told.pop("states")["failed"] == 1
    assert told == {
        "total": 4,
        "codes": {"E110": 1},
        "reasons": {"recipient": 1},
        "unplaced": 1,
        "opted_out": 1,
        "settled": {},
        "proven_not_sent": 0,
        "sent_since": 0,
    }


def test_the_states_are_those_of_a_ledger() -> None:
    """--state takes exactly the ledger's states."""
    assert list(STATES) == list(MessageState)


@pytest.mark.parametrize("name", [("--key", "order-1"), ("--tracking-id", "T1")])
def test_the_story_of_one_message(ledger: Path, name: tuple[str, str]) -> None:
    """One message is shown with its facts and its events in order."""
    done = status(ledger, *name)
    assert done.exit_code == 0
    facts, _, events = done.stdout.partition("\n\n")
    assert {line.split()[0]: line.split()[-1] for line in facts.splitlines()} == {
        "key": "order-1",
        "tracking": "T1",
        "to": "*******0001",
        "from": "60856",
        "state": "failed",
        "reason": "recipient",
        "began": "14:13:20Z",
    }
    rows = [line.split()[0] for line in events.splitlines()]
    assert rows[0] == "kind"
    assert rows[2:] == ["sent", "receipt"]
    assert "number is not a subscriber: ******0001" in events
    assert NUMBER[1:] not in done.stdout
    shown = status(ledger, *name, "--show-numbers").stdout
    assert f"number is not a subscriber: {NUMBER[1:]}0001" in shown


def test_a_story_has_the_tags(tmp_path: Path) -> None:
    """One message is shown with campaign, segments and tags."""
    place = tmp_path / "tagged.db"

    async def keep() -> None:
        async with SQLiteLedger(place) as ledger:
            tagged = attrs.evolve(intent("one"), tags=("spring", "late"), segments=2)
            await ledger.begin(attrs.evolve(tagged, campaign_ref="77676"))

    anyio.run(keep)
    lines = status(place, "--key", "one").stdout.splitlines()
    told = [" ".join(line.split()) for line in lines]
    assert {"campaign ref 77676", "segments 2", "tags spring, late"} <= {*told}


def test_a_story_without_events_says_so(ledger: Path) -> None:
    """A message without notifications is shown as that."""
    assert "No notification came for it." in status(ledger, "--key", "order-2").stdout


def test_a_story_for_programs_has_no_number(ledger: Path) -> None:
    """--json masks the number everywhere."""
    told = answer(ledger, "--key", "order-1")
    assert [event["kind"] for event in told["events"]] == ["sent", "receipt"]
    assert told["events"][1]["reason"] == "recipient"
    assert told["events"][1]["number"] == told["to"] == "*******0001"
    assert NUMBER[1:] not in json.dumps(told)


def test_numbers_are_shown_where_they_are_asked_for(ledger: Path) -> None:
    """--show-numbers masks nothing."""
    told = answer(ledger, "--key", "order-1", "--show-numbers")
    assert told["to"] == told["events"][0]["to"] == f"{NUMBER}0001"
    assert told["events"][0]["raw"]["ORIGIN"] == "SMS_MT"


def test_a_list_has_the_messages_of_a_state(ledger: Path) -> None:
    """--state lists messages with number, key and reason."""
    done = status(ledger, "--state", "rejected")
    assert " ".join(done.stdout.split()) == (
        "*******0003 - row *******0003 E110 bad number *******0003"
    )
    none = status(ledger, "--state", "delivered")
    assert (none.stdout, none.stderr) == ("", "No message is delivered.\n")


def test_a_list_for_programs(ledger: Path) -> None:
    """--state with --json gives a line for each message."""
    told = answer(ledger, "--state", "rejected", "--show-numbers")
    assert (told["key"], told["code"], told["events"]) == (f"row {NUMBER}0003", "E110", 0)
    assert NUMBER not in json.dumps(answer(ledger, "--state", "rejected"))


def test_a_line_for_programs_is_as_json_writes_it() -> None:
    """A JSON line equals `json.dumps` of its values."""
    odd: dict[str, Any] = {
        "key": 'é "100%s"\n\\',
        "info": None,
        "events": 2,
        "code": "\ud83d\ude00",
    }
    facts = dict.fromkeys(NAMES) | odd
    assert json_line_of(facts) == json.dumps(facts)


@pytest.mark.parametrize("name", ["--key", "--tracking-id"])
def test_a_message_that_is_not_there(ledger: Path, name: str) -> None:
    """An unknown message is exit code 1 with a reason."""
    done = status(ledger, name, "nope")
    assert (done.exit_code, done.stdout) == (Exit.NOT_ALL_WELL, "")
    assert "has no message with the" in done.stderr
    assert "'nope'" in done.stderr


def test_one_question_at_a_time(ledger: Path) -> None:
    """--key and --state together are refused."""
    assert status(ledger, "--key", "a", "--state", "sent").exit_code == Exit.USAGE


def test_a_doubt_from_a_crash_says_where_it_comes_from(tmp_path: Path) -> None:
    """A doubt of a crashed program says so."""
    path = tmp_path / "promo.db"

    async def begin() -> None:
        async with SQLiteLedger(path) as made:
            intent = SendIntent(
                key="a", content=b"", to=f"{NUMBER}0001", from_="60856", started_at=1
            )
            await made.begin(intent)

    anyio.run(begin)
    listed = status(path, "--state", "in_doubt")
    assert listed.stdout.endswith("  a  the program ended while it was being sent\n")
    facts = json.loads(status(path, "--key", "a", "--json").stdout)
    assert facts["info"] == "the program ended while it was being sent"


# What is no ledger.


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A missing ledger is an error and is not made."""
    done = status(tmp_path / "promo.db")
    assert done.exit_code == Exit.USAGE
    assert f"skycore: {tmp_path / 'promo.db'}: there is no such file; name the" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_directory_is_no_ledger(tmp_path: Path) -> None:
    """A directory is refused."""
    done = status(tmp_path)
    assert done.exit_code == Exit.USAGE
    assert done.stderr == f"skycore: {tmp_path} is no file, and no ledger\n"


@pytest.mark.parametrize("content", [b"", b"to;name\n15551234888;Jerry\n" * 50])
def test_a_file_that_is_no_ledger_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    """A file that is no ledger is refused and unchanged."""
    file = tmp_path / "recipients.csv"
    file.write_bytes(content)
    done = status(file)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert "no ledger" in done.stderr
    assert file.read_bytes() == content


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_ledger_in_use_is_looked_at(tmp_path: Path) -> None:
    """A ledger in use is shown, and its owner goes on."""
    path = tmp_path / "promo.db"
    with program("listen", "--ledger", str(path), "--port", "0", "--json") as listening:
        url = told(listening)["url"]
        assert "0 messages" in status(path).stdout
        text = NOTIFICATION.format(id=1, to="15551234888", tracking_id="T9", status="")
        assert (
            httpx.post(url, content=text, verify=client_context(), trust_env=False).status_code
            == 200
        )
        until = time.monotonic() + 5
        while "unplaced" not in status(path).stdout:  # while `listen` has just begun to take it in
            assert time.monotonic() < until
        done = CliRunner().invoke(skycore, ["report", str(path), "--json"])
        assert (done.exit_code, json.loads(done.stdout)["unplaced"]) == (0, 1)
        listening.send_signal(signal.SIGTERM)
        assert listening.wait(20) == 0


def test_a_busy_file_that_is_no_ledger_is_reported(tmp_path: Path) -> None:
    """A busy file that is no ledger is a one-line error."""
    path = tmp_path / "promo.db"
    path.write_text("name;number\n" * 100)
    with closing(sqlite3.connect(f"{path}-lock", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = status(path)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert f"{path} is no ledger" in done.stderr
    assert done.stderr.count("\n") == 1
