"""`skycore settle`: doubts settled by a report that is looked up or given."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import attrs
import httpx
import pytest
from click.testing import CliRunner, Result

from skycore_async import MessageState, PostgresLedger, SkycoreClient, SkycoreError, SQLiteLedger
from skycore_async.cli.app import skycore
from skycore_async.cli.ui.output import Exit
from skycore_async.cli.ui.settlements import needed_words, report_words
from skycore_async.ledger.report_evidence import OpenReason
from skycore_async.ledger.report_values import OpenDoubt, Settlement
from skycore_async.protocol import report as wire
from skycore_async.runtime.secret import Secret
from skycore_async.simulator import (
    API_KEY,
    SHORT_CODE,
    Account,
    ReportFault,
    Reports,
    Simulator,
)
from tests.support.cli_program import program
from tests.support.fault_server import client_context

# Accepted, taken without an answer, accepted, not taken without an answer, accepted.
NUMBERS = ("4888", "2002", "4887", "2001", "4886")
Settle = Any


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    with Simulator(time_scale=0) as running:
        monkeypatch.setenv("SKYCORE_BASE_URL", running.url)
        monkeypatch.setenv("SKYCORE_API_KEY", API_KEY)
        yield running


@pytest.fixture
def ledger(simulator: Simulator, tmp_path: Path) -> Path:
    """Make a ledger with three accepted messages, and two in doubt between them."""
    path = tmp_path / "promo.db"

    async def send() -> None:
        async with (
            SQLiteLedger(path) as opened,
            SkycoreClient(
                api_key=API_KEY, from_=SHORT_CODE, base_url=simulator.url, ledger=opened
            ) as client,
        ):
            await sent(client)

    anyio.run(send)
    return path


async def sent(client: SkycoreClient) -> None:
    for number in NUMBERS:
        with suppress(SkycoreError):
            await client.send_sms(to=f"1555123{number}", text="Hello", key=number)


def settle(ledger: Path, *options: str) -> Result:
    return CliRunner().invoke(skycore, ["settle", str(ledger), *options])


def facts(done: Result) -> dict[str, Any]:
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value


def states(path: Path) -> dict[str, tuple[MessageState, str | None]]:
    """Return the state of each message, and what settled it."""

    async def read() -> dict[str, tuple[MessageState, str | None]]:
        async with SQLiteLedger(path) as opened:
            return {each.key: (each.state, each.settled_by) async for each in opened.deliveries()}

    return anyio.run(read)


@pytest.mark.slow
def test_settling_ends_doubts_as_the_bill_says(ledger: Path, simulator: Simulator) -> None:
    """Settling ends each doubt as the bill says, and a second run needs no report."""
    done = settle(ledger, "--after", "0")
    assert done.exit_code == Exit.DONE, done.output
    assert f"{ledger}: 2 messages in doubt\n" in done.stdout
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:]] == [
        ["sent", "1", "the"],
        ["not", "sent", "1"],
        ["in", "doubt", "0"],
    ]
    settled = states(ledger)
    assert settled["2002"] == (MessageState.ACCEPTED, "report")
    assert settled["2001"] == (MessageState.NOT_SENT, "report")
    shown = CliRunner().invoke(skycore, ["status", str(ledger)]).stdout
    assert "in doubt before, and ended by\n  report: sent             1  which Sky" in shown
    again = settle(ledger, "--after", "0")
    assert "nothing is in doubt, so no report is needed" in again.stdout
    assert (again.exit_code, simulator.lookups) == (Exit.DONE, 1)
    assert states(ledger) == settled


@pytest.mark.slow
def test_a_message_found_by_a_report_is_sent_by_history_id(ledger: Path) -> None:
    """A message found by a report has a HISTORYID and no tracking id."""
    settle(ledger, "--after", "0")
    key = ("--key", "2002", "--ledger", str(ledger), "--from", SHORT_CODE)
    command = ["send", "15551232002", "Hello", *key]
    told = facts(CliRunner().invoke(skycore, [*command, "--json"]))
    assert (told["outcome"], told["tracking_id"]) == ("accepted", None)
    shown = CliRunner().invoke(skycore, command).stdout
    assert shown == f"15551232002  HISTORYID {told['history_id']}\n"


@pytest.mark.slow
def test_doubts_end_in_a_database(
    simulator: Simulator, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Doubts in a database that SKYCORE_DSN names are settled."""

    async def send() -> None:
        async with (
            PostgresLedger(dsn) as opened,
            SkycoreClient(
                api_key=API_KEY, from_=SHORT_CODE, base_url=simulator.url, ledger=opened
            ) as client,
        ):
            await sent(client)

    anyio.run(send)
    monkeypatch.setenv("SKYCORE_DSN", dsn)
    done = CliRunner().invoke(skycore, ["settle", "--after", "0", "--dry-run"])
    assert (
        "it provably lacks them: a worker or the next run would send what was not refused"
        in done.stdout
    )
    done = CliRunner().invoke(skycore, ["settle", "--after", "0", "--json"])
    assert done.exit_code == Exit.DONE, done.output
    assert (facts(done)["sent"], facts(done)["not_sent"], facts(done)["in_doubt"]) == (1, 1, 0)
    shown = CliRunner().invoke(skycore, ["status", "--json"])
    assert facts(shown)["settled"] == {"report": 2}


@pytest.mark.slow
def test_a_dry_run_says_it_and_writes_nothing(ledger: Path) -> None:
    """A dry run reports the decisions and changes nothing."""
    done = settle(ledger, "--dry-run", "--json")
    told = facts(done)
    at = datetime.fromisoformat(told.pop("not_before")["too_soon"])
    assert timedelta(minutes=58) < at - datetime.now(UTC) <= timedelta(hours=1)
    assert told == {
        "sent": 1,
        "not_sent": 0,
        "in_doubt": 1,
        "reasons": {"too_soon": 1},
        "problem": None,
        "would_prove": None,
        "saved": [],
        "dry_run": True,
    }
    assert done.exit_code == Exit.IN_DOUBT
    assert states(ledger)["2002"] == (MessageState.IN_DOUBT, None)
    done = settle(ledger, "--dry-run")
    assert "nothing was written" in done.stderr
    assert "would be sent" in done.stdout
    done = settle(ledger, "--dry-run", "--after", "0")
    assert "would be not sent        1  it provably lacks them: the next run would" in done.stdout


@pytest.mark.slow
def test_each_remaining_doubt_has_a_reason(ledger: Path) -> None:
    """An open doubt has its reason and the time to try again."""
    done = settle(ledger)
    assert "the report ends or was made too soon after it\n" in done.stdout
    at = datetime.now(UTC) + timedelta(hours=1)
    near = (f"{at - timedelta(minutes=ago):%Y-%m-%d %H:%M}" for ago in range(3))
    assert any(f"settle again at {each}" in done.stdout for each in near)
    assert done.exit_code == Exit.IN_DOUBT


def downloaded(simulator: Simulator, path: Path) -> Path:
    """Download a report of the last hour, as a user does."""
    now = datetime.now(UTC)
    query = wire.query_string(
        wire.request_fields(now - timedelta(hours=1), now + timedelta(seconds=1)),
        api_key=API_KEY,
    )
    with httpx.Client(trust_env=False, verify=client_context()) as web:
        answer = web.get(f"{simulator.url}?{query}").content
        link = wire.read_link(status=200, headers={}, body=answer, api_key=Secret(API_KEY))
        path.write_bytes(web.get(link.url).content)
    return path


@pytest.mark.slow
def test_a_report_that_was_downloaded_by_hand_is_read(ledger: Path, simulator: Simulator) -> None:
    """A given report is read, compressed or not, without a look-up."""
    report = downloaded(simulator, ledger.with_name("sent.xml"))
    report.write_bytes(gzip.compress(report.read_bytes()))
    done = settle(ledger, "--report", str(report), "--dry-run", "--after", "0", "--json")
    # Its rows were all sent within a second, which is no more than clocks may be apart.
    assert (facts(done)["sent"], facts(done)["reasons"]) == (1, {"not_covered": 1})
    now = datetime.now(UTC)
    until = (now + timedelta(minutes=10)).isoformat()
    span = ("--since", f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M}", "--until", until)
    # Nobody says when it was made, and it shows no more than that it was at its last row.
    done = settle(ledger, "--report", str(report), *span, "--after", "0", "--dry-run", "--json")
    assert facts(done)["reasons"] == {"too_soon": 1}
    word = (*span, "--made", "2100-01-01")
    # However late it is said to be, it was made by now.
    done = settle(ledger, "--report", str(report), *word, "--after", "60", "--dry-run", "--json")
    assert facts(done)["reasons"] == {"too_soon": 1}
    done = settle(ledger, "--report", str(report), *word, "--after", "0", "--json")
    assert (facts(done)["not_sent"], done.exit_code) == (1, Exit.DONE)
    assert simulator.lookups == 1


@pytest.mark.slow
def test_an_old_report_proves_nothing_of_what_came_after_it(
    ledger: Path, simulator: Simulator
) -> None:
    """A report file older than the doubts proves nothing about them."""
    report = downloaded(simulator, ledger.with_name("sent.xml"))
    report.write_bytes(b"<RESPONSE><SENDING_LIST></SENDING_LIST></RESPONSE>")
    now = datetime.now(UTC)
    before = (now - timedelta(hours=1)).timestamp()
    os.utime(report, (before, before))
    word = ("--until", "2100-01-01", "--made", "2100-01-01")
    span = ("--since", (now - timedelta(days=1)).isoformat(), *word)
    trusted = ("--after", "0", "--trust-absence", "--json")
    done = settle(ledger, "--report", str(report), *span, *trusted)
    assert (facts(done)["not_sent"], done.exit_code) == (0, Exit.IN_DOUBT)
    assert facts(done)["reasons"] == {"too_soon": 2}


@pytest.mark.slow
def test_a_copy_of_a_report_is_no_younger(ledger: Path, simulator: Simulator) -> None:
    """The file time of a copied report does not make it newer."""
    report = downloaded(simulator, ledger.with_name("sent.xml"))
    later = (datetime.now(UTC) + timedelta(hours=2)).timestamp()
    os.utime(report, (later, later))
    span = ("--since", "2000-01-01", "--until", "2100-01-01", "--after", "0", "--json")
    done = settle(ledger, "--report", str(report), *span)
    assert (facts(done)["not_sent"], facts(done)["reasons"]) == (0, {"too_soon": 1})


@pytest.mark.slow
def test_the_period_a_report_must_cover_is_shown(ledger: Path, simulator: Simulator) -> None:
    """The options that would make a report a proof are named only if they apply."""
    report = downloaded(simulator, ledger.with_name("sent.xml"))
    os.utime(report)
    read = ("--report", str(report), "--after", "1")
    assert "--since" not in settle(ledger, *read).stdout  # it was made too early for that
    read = ("--report", str(report), "--after", "0")
    done = settle(ledger, *read)
    (options,) = (line for line in done.stdout.splitlines() if line.startswith("  --since "))
    assert "it proves 1 more not sent:\n" in done.stdout
    assert "billed twice" in done.stdout
    assert done.exit_code == Exit.IN_DOUBT
    # What was said already is not gone beyond.
    now = datetime.now(UTC)
    until = ("--until", (now + timedelta(seconds=60)).isoformat())
    assert facts(settle(ledger, *read, *until, "--json"))["would_prove"] is None
    more = facts(settle(ledger, *read, "--json"))["would_prove"]
    assert options.split()[1::2] == [
        f"{datetime.fromisoformat(more[name]):%Y-%m-%dT%H:%M:%SZ}"
        for name in ("since", "until", "made")
    ]
    at = (now + timedelta(seconds=5)).timestamp()
    os.utime(report, (at, at))
    time.sleep(1.1)  # as the times are told in whole seconds
    done = settle(ledger, *read, *options.split(), "--json")
    assert (facts(done)["not_sent"], done.exit_code) == (1, Exit.DONE)


@pytest.mark.slow
def test_a_report_is_kept_and_read_again(ledger: Path, simulator: Simulator) -> None:
    """--save keeps the report privately, to be read again."""
    kept = ledger.with_name("kept.xml")
    done = settle(ledger, "--dry-run", "--after", "0", "--save", str(kept))
    assert f"Saved as {kept}, complete. To read it again:\n" in done.stdout
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.read_bytes().endswith(b"</RESPONSE>\n")
    (again,) = (line for line in done.stdout.splitlines() if " --report " in line)
    command = shlex.split(again)[1:]
    given = CliRunner().invoke(skycore, [*command, "--after", "0", "--json"])
    assert (facts(given)["sent"], simulator.lookups) == (1, 1)
    done = settle(ledger, "--save", str(kept))
    assert (done.exit_code, "is there already" in done.stderr) == (Exit.USAGE, True)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [ReportFault.BROKEN_OFF, ReportFault.TRUNCATED])
def test_a_report_that_broke_off_is_kept_as_that(
    ledger: Path, simulator: Simulator, fault: ReportFault
) -> None:
    """--save keeps what came of a broken report, and says so."""
    simulator.reports = Reports(fault=fault)
    kept = ledger.with_name("kept.xml")
    done = settle(ledger, "--after", "0", "--save", str(kept), "--json")
    (saved,) = facts(done)["saved"]
    assert (saved["path"], saved["is_complete"]) == (str(kept), False)
    assert b"</RESPONSE>" not in kept.read_bytes()
    kept.unlink()
    done = settle(ledger, "--after", "0", "--save", str(kept))
    assert f"Saved as {kept}, not complete: it broke off.\n" in done.stdout


@pytest.mark.slow
def test_a_report_that_cannot_be_saved_is_an_error(ledger: Path) -> None:
    """A --save that cannot be written is an error, and nothing changes."""
    done = settle(ledger, "--save", str(ledger.with_name("no") / "kept.xml"))
    assert (done.exit_code, "kept.xml: No such file" in done.stderr) == (Exit.USAGE, True)
    assert states(ledger)["2002"] == (MessageState.IN_DOUBT, None)


@pytest.mark.slow
def test_a_report_may_come_from_standard_input(ledger: Path, simulator: Simulator) -> None:
    """A report is read from standard input."""
    report = downloaded(simulator, ledger.with_name("sent.xml"))
    word = ("--since", "2000-01-01", "--until", "2100-01-01", "--made", "2100-01-01")
    done = CliRunner().invoke(
        skycore,
        ["settle", str(ledger), "--report", "-", *word, "--after", "0", "--json"],
        input=report.read_bytes(),
    )
    assert (facts(done)["sent"], facts(done)["not_sent"], done.exit_code) == (1, 1, Exit.DONE)


@pytest.mark.slow
def test_an_unreachable_api_is_reported(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable API is reported, and doubts stay open."""
    monkeypatch.setenv("SKYCORE_BASE_URL", "http://127.0.0.1:9/")
    done = settle(ledger, "--json")
    assert "the report cannot be looked up: " in facts(done)["problem"]
    assert (facts(done)["reasons"], done.exit_code) == ({"no_report": 2}, Exit.IN_DOUBT)
    done = settle(ledger)
    assert "The report cannot be looked up: " in done.stdout
    assert "there was no report of its time, or not all of one" in done.stdout


def test_help_says_what_a_report_shows_and_the_exit_codes_in_order() -> None:
    """The help explains the margin, and the order of exit codes."""
    said = " ".join(CliRunner().invoke(skycore, ["settle", "--help"]).stdout.split())
    assert "has to lie 300 seconds inside that" in said
    assert "The time of the file cannot show that the report is younger" in said
    order = ("2 wrong usage", "3 Skycore refused", "5 something is still in doubt", "1 nothing")
    codes = said[said.index("Exit codes: of these the first that applies") :]
    places = [codes.index(each) for each in order]
    assert places == sorted(places)


DAMAGED = {
    "breaks off": (b"</SENDING_LIST>", "breaks off"),
    "is no report": (b"<RESPONSE>", "no XML"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("cut", "words"), DAMAGED.values(), ids=DAMAGED)
def test_a_file_that_is_not_all_of_a_report_proves_what_it_lists(
    ledger: Path, simulator: Simulator, cut: bytes, words: str
) -> None:
    """A damaged report proves only what it lists."""
    report = downloaded(simulator, ledger.with_name("sent.xml"))
    whole = report.read_bytes()
    report.write_bytes(whole.partition(cut)[0] if words == "breaks off" else b"Log in" + whole)
    done = settle(ledger, "--report", str(report), "--after", "0")
    assert words in done.stdout
    assert "hat it does not list may have been sent all the same." in done.stdout
    assert done.exit_code == Exit.IN_DOUBT
    assert states(ledger)["2001"] == (MessageState.IN_DOUBT, None)
    was_listed = words == "breaks off"
    assert (states(ledger)["2002"] == (MessageState.ACCEPTED, "report")) == was_listed


@pytest.mark.slow
def test_an_incomplete_report_that_settles_all_is_reported(
    ledger: Path, simulator: Simulator
) -> None:
    """A broken report is exit code 1 even without doubts left."""
    report = downloaded(simulator, ledger.with_name("sent.xml"))
    settle(ledger, "--after", "0")
    report.write_bytes(report.read_bytes()[:-20])
    done = settle(ledger, "--report", str(report), "--json")
    assert (facts(done)["in_doubt"], done.exit_code) == (0, Exit.NOT_ALL_WELL)


def test_who_has_the_report_of_another_account_is_led_to_it() -> None:
    """A report that lists nothing of the ledger leads to the account."""
    missing = OpenDoubt(key="k", reason=OpenReason.WITNESS_MISSING)
    told = Settlement(open=(missing,), problems=("the report is an HTML page",))
    assert list(report_words(told, None, "promo.db")) == [
        "The report is an HTML page. What it does not list may have been sent all the same.",
        (
            "See that the report, or the API key, is of the account that these messages were sent"
            " with."
        ),
    ]
    (words,) = report_words(attrs.evolve(told, sent=("a",)), None, "promo.db")
    assert words.endswith(
        "What was read of it was sent; what it does not list may have been sent all the same."
    )


def test_the_end_of_the_last_doubts_is_reported() -> None:
    """For doubts without a later message the advice is to send a test message."""
    last = OpenDoubt(key="k", reason=OpenReason.NO_WITNESS_AFTER)
    (words,) = report_words(Settlement(open=(last,)), None, "my promo.db")
    assert "`skycore send NUMBER TEXT --ledger 'my promo.db'`, and then settle again" in words


@pytest.mark.slow
@pytest.mark.parametrize("fault", [ReportFault.BROKEN_OFF, ReportFault.MISSING])
def test_the_reason_of_a_missing_report_is_shown(
    ledger: Path, simulator: Simulator, fault: ReportFault
) -> None:
    """A missing or broken report is reported with its problem."""
    simulator.reports = Reports(fault=fault)
    done = settle(ledger, "--after", "0")
    assert done.exit_code == Exit.IN_DOUBT
    assert "hat it does not list may have been sent all the same." in done.stdout
    assert states(ledger)["2001"] == (MessageState.IN_DOUBT, None)


REFUSED = {
    "another key": ({"api_keys": {"another"}}, Exit.REFUSED, "E104"),
    "no more today": ({"reports_a_day": 0}, Exit.REFUSED, "E120"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("account", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_reported(
    ledger: Path, simulator: Simulator, account: dict[str, Any], code: Exit, words: str
) -> None:
    """A refused look-up is reported with its code, and nothing changes."""
    simulator.account = attrs.evolve(Account(), **account)
    done = settle(ledger)
    assert (done.exit_code, words in done.stderr) == (code, True)
    assert states(ledger)["2002"] == (MessageState.IN_DOUBT, None)


@pytest.mark.slow
def test_who_asks_too_often_waits_or_leaves_it(ledger: Path, simulator: Simulator) -> None:
    """With `--wait 0` a too frequent look-up leaves doubts for the next time."""
    downloaded(simulator, ledger.with_name("sent.xml"))
    simulator.account = Account(report_interval=3600)
    done = settle(ledger, "--wait", "0", "--json")
    assert facts(done)["in_doubt"] == 2
    assert {*facts(done)["reasons"]} == {"asked_too_often"}
    at = datetime.fromisoformat(facts(done)["not_before"]["asked_too_often"])
    assert at > datetime.now(UTC) + timedelta(minutes=50)


@pytest.mark.slow
def test_who_has_the_wrong_report_is_told_which_to_download(ledger: Path, tmp_path: Path) -> None:
    """A useless report leads to the period that is needed."""
    report = tmp_path / "page.html"
    report.write_text("<html></html>")
    done = settle(ledger, "--report", str(report), "--after", "60")
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("  from "))
    since, until = (
        datetime.fromisoformat(words.removesuffix(" UTC")).replace(tzinfo=UTC)
        for words in line.removeprefix("  from ").split(" to ")
    )
    now = datetime.now(UTC)
    assert since < now - timedelta(minutes=5) < now + timedelta(minutes=4) < until


def test_of_many_times_the_first_are_shown() -> None:
    """Of many needed periods the first few are named."""
    left = OpenDoubt(key="k", reason=OpenReason.NOT_COVERED)
    periods = [(n * 1e5, n * 1e5 + 60) for n in range(7)]
    head, *times, more = needed_words(Settlement(open=(left,)), periods)
    assert head.startswith("To end them, download a report")
    assert times[1] == "  from 1970-01-02 03:46:40 UTC to 1970-01-02 03:47:40 UTC"
    assert (len(times), more) == (5, "  and 2 more, of which it tells once these are read")
    alike = OpenDoubt(key="k", reason=OpenReason.ALIKE)
    assert [*needed_words(Settlement(open=(alike,)), periods)] == []


def test_who_asks_for_the_same_part_again_and_again_is_led_to_all_of_them() -> None:
    """A command that waits too little is advised to wait longer."""
    left = OpenDoubt(key="k", reason=OpenReason.ASKED_TOO_OFTEN)
    (words,) = report_words(Settlement(open=(left,)), None, "promo.db")
    assert "`--wait 7200`" in words
    assert [*report_words(Settlement(sent=("k",)), None, "promo.db")] == []


@pytest.mark.slow
def test_a_wait_before_the_next_request_is_reported(ledger: Path, simulator: Simulator) -> None:
    """A wait for the next look-up is announced, and Ctrl-C ends it."""
    downloaded(simulator, ledger.with_name("sent.xml"))
    simulator.account = Account(report_interval=300)
    with program("settle", str(ledger)) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line == "skycore: reports were asked for too often: waiting 300 seconds\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == Exit.INTERRUPTED
    assert states(ledger)["2002"] == (MessageState.IN_DOUBT, None)


WRONG = {
    "no file": (["{}.none"], "no such file"),
    "--since alone": (["{}", "--since", "2026-12-01"], "--report"),
    "no time": (["{}", "--since", "today"], "no time"),
    "the wrong way": (
        ["{}", "--report", "{}", "--since", "2026-12-02", "--until", "2026-12-01T09:00+01:00"],
        "not before",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_senseless_options_are_refused(ledger: Path, arguments: list[str], words: str) -> None:
    """Contradictory arguments are a one-line error."""
    given = [argument.format(ledger) for argument in arguments]
    done = CliRunner().invoke(skycore, ["settle", *given])
    assert done.exit_code == Exit.USAGE
    assert words in done.stderr


def test_without_a_key_nothing_is_asked(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an API key the error says how to give one."""
    monkeypatch.delenv("SKYCORE_API_KEY")
    done = settle(ledger)
    assert (done.exit_code, "SKYCORE_API_KEY" in done.stderr) == (Exit.USAGE, True)
