"""`skycore send`: one message to a simulator, and what the command prints."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner, Result

from skycore_async import SkycoreClient, SkycoreError, SQLiteLedger, errors
from skycore_async.cli.actions.send import BY_VERDICT, REFUSED_HERE, words_for
from skycore_async.cli.app import skycore
from skycore_async.cli.ui.output import Exit
from skycore_async.codes import Verdict
from skycore_async.sending.outcomes import MEANINGS
from skycore_async.simulator import API_KEY, SHORT_CODE, Account, Simulator
from tests.support.cli_program import program


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Point the command at a simulator."""
    monkeypatch.setenv("SKYCORE_BASE_URL", running.url)
    monkeypatch.setenv("SKYCORE_API_KEY", API_KEY)
    monkeypatch.setenv("SKYCORE_FROM", SHORT_CODE)
    return running


def send(*arguments: str, stdin: str | None = None) -> Result:
    """Send a message with a timeout of 2 seconds."""
    done = CliRunner().invoke(skycore, ["send", "--timeout", "2", *arguments], input=stdin)
    assert API_KEY not in done.output
    return done


def answer(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the JSON answer."""
    done = send(*arguments, "--json")
    return done.exit_code, json.loads(done.stdout)


def test_a_message_is_sent_and_named(simulator: Simulator) -> None:
    """The number and the tracking id are printed, and nothing else."""
    done = send("+1 (555) 123-4888", "Hello", "--campaign-ref", "77676", "--from", "60856")
    message = simulator.messages[-1]
    assert done.exit_code == 0
    assert (done.stdout, done.stderr) == (f"15551234888  {message.tracking_id}\n", "")
    assert (message.text, message.campaign_ref, message.from_) == ("Hello", "77676", "60856")


def test_a_number_as_it_is_dialled_in_a_country(simulator: Simulator) -> None:
    """With --country a national number is sent to in international format."""
    done = send("(555) 123-4888", "Hello", "--country", "US")
    assert (done.exit_code, simulator.messages[-1].to) == (0, "15551234888")
    assert done.stdout.startswith("15551234888  ")
    refused = send("555-1234", "Hello", "--country", "us")
    assert refused.exit_code == 2
    assert "is no number of US: write that of another country with +" in refused.stderr


def test_a_country_that_there_is_none_of(simulator: Simulator) -> None:
    """An unknown country is refused with the right form."""
    done = send("020 7946 0958", "Hello", "--country", "UK")
    assert done.exit_code == 2
    assert done.stderr.startswith("skycore: --country: 'UK' is no country: its two letters")


def test_an_accepted_message_for_programs(simulator: Simulator) -> None:
    """--json gives one object for an accepted message."""
    code, told = answer("15551234888", "Hello")
    tracking_id = simulator.messages[-1].tracking_id
    assert code == 0
    assert told == {
        "outcome": "accepted",
        "to": "15551234888",
        "tracking_id": tracking_id,
        "history_id": None,
        "recorded": False,
    }


def test_the_text_of_standard_input_is_sent(simulator: Simulator) -> None:
    """TEXT `-` is read from standard input, without its last line break."""
    assert send("15551234888", "-", stdin="Hello\nJerry\n").exit_code == 0
    assert simulator.messages[-1].text == "Hello\nJerry"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "code", "outcome", "words"),
    [
        ("15551230110", Exit.REFUSED, "refused", "not sent: Skycore refused it with E110"),
        ("15551230713", Exit.REFUSED, "refused", "E713"),
        ("15551232007", Exit.NOT_SENT, "not_sent", "not sent, and safe to send again"),
        ("15551232002", Exit.IN_DOUBT, "in_doubt", "may have been sent, so do not send it again"),
        ("15551232006", Exit.IN_DOUBT, "in_doubt", "may have been sent"),
        ("0015551234", Exit.USAGE, "invalid", "not sent, as it is not valid: to: '0015551234'"),
    ],
)
def test_a_failure_says_whether_it_was_sent(
    simulator: Simulator, to: str, code: Exit, outcome: str, words: str
) -> None:
    """A failure is told in words, exit code and JSON."""
    done = send(to, "Hello", "--json", "--timeout", "1")
    assert done.exit_code == code
    assert json.loads(done.stdout)["outcome"] == outcome
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_no_connection_is_not_sent(simulator: Simulator) -> None:
    """A refused connection is reported as not sent."""
    done = send("15551234888", "Hello", "--base-url", "http://127.0.0.1:1/")
    assert done.exit_code == Exit.NOT_SENT
    assert (done.stdout, "no connection" in done.stderr) == ("", True)


def test_what_is_said_of_an_error_is_what_the_classifier_has_of_it() -> None:
    """The words and exit code of each verdict agree with its meaning."""
    assert {*BY_VERDICT, Verdict.REFUSED_HERE, Verdict.ACCEPTED} == {*Verdict}
    for verdict, said in BY_VERDICT.items():
        meaning = MEANINGS[verdict]
        assert meaning.in_doubt is (said.code is Exit.IN_DOUBT) is (said.outcome == "in_doubt")
        assert meaning.in_doubt is not said.words.startswith("not sent")
        assert meaning.safe_to_resend is ("safe to send again" in said.words)
    assert {kind.value for kind, said in REFUSED_HERE.items() if said.code is Exit.IN_DOUBT} == {
        "in_doubt"
    }
    both = (*BY_VERDICT.values(), *REFUSED_HERE.values())
    assert {said.words.count("{}") for said in both} == {1}


def test_every_error_of_the_sdk_has_words() -> None:
    """Every error of the SDK has words."""

    def below(kind: type[SkycoreError]) -> Iterator[type[SkycoreError]]:
        yield kind
        for inner in kind.__subclasses__():
            yield from below(inner)

    for kind in below(SkycoreError):
        if kind.__module__ == errors.__name__:
            error = kind.__new__(kind)
            vars(error).update(code=None, state=None)
            assert words_for(error).words.startswith("not sent") is not error.may_have_been_sent


@pytest.mark.parametrize(
    ("to", "code", "words"),
    [("15551234888", Exit.DONE, ""), ("15551232002", Exit.IN_DOUBT, "may have been sent")],
)
def test_an_error_in_closing_does_not_change_what_came_of_it(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, to: str, code: Exit, words: str
) -> None:
    """An error while closing does not change the reported outcome."""
    close = SkycoreClient.__aexit__

    async def fail(client: SkycoreClient, *error: Any) -> None:
        await close(client, *error)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(SkycoreClient, "__aexit__", fail)
    done = send(to, "Hello", "--timeout", "1")
    assert (done.exit_code, words in done.stderr) == (code, True)
    assert (simulator.messages[-1].to in done.stdout) == (code is Exit.DONE)


# What is given.


def test_the_key_is_in_a_file(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is read from --api-key-file, and not from the environment."""
    monkeypatch.setenv("SKYCORE_API_KEY", "another key")
    file = tmp_path / "key"
    file.write_text(f"{API_KEY}\n")
    assert send("15551234888", "Hello", "--api-key-file", str(file)).exit_code == 0


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_key_file_without_a_key(simulator: Simulator, tmp_path: Path, content: bytes) -> None:
    """A file without a key is named."""
    file = tmp_path / "key"
    file.write_bytes(content)
    done = send("15551234888", "Hello", "--api-key-file", str(file))
    assert done.exit_code == Exit.USAGE
    assert str(file) in done.stderr


def test_without_a_key_it_says_where_to_put_one(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key the error names both ways to give one."""
    monkeypatch.delenv("SKYCORE_API_KEY")
    done = send("15551234888", "Hello")
    assert done.exit_code == Exit.USAGE
    assert "set SKYCORE_API_KEY, or name a file that holds it with --api-key-file" in done.stderr


def test_a_wrong_key_is_refused_and_not_shown(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key is refused and not shown."""
    monkeypatch.setenv("SKYCORE_API_KEY", "wrong-but-secret")
    done = send("15551234888", "Hello")
    assert done.exit_code == Exit.REFUSED
    assert "E104: authentication failed. See that the API key is all there" in done.stderr
    assert "wrong-but-secret" not in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--key", "k"], "--key needs a --ledger"),
        (["--max-segments", "1", "--from", "1"], "takes 2 segments"),
        (["--base-url", "ftp://example.com"], "no http or https URL"),
        (["--ledger", "no/such/place.db"], "there is no directory"),
        (["--timeout", "0"], "--timeout"),
    ],
)
def test_settings_that_cannot_work(simulator: Simulator, arguments: list[str], words: str) -> None:
    """Settings that cannot work are refused, and nothing is sent."""
    asked = simulator.requests
    done = send("15551234888", "x" * 161, *arguments)
    assert (done.exit_code, simulator.requests) == (Exit.USAGE, asked)
    assert words in done.stderr


def test_without_a_short_code_it_says_where_to_put_one(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a short code the error names option and variable."""
    monkeypatch.delenv("SKYCORE_FROM")
    done = send("15551234888", "Hello")
    assert done.exit_code == Exit.USAGE
    assert "--from" in done.stderr
    assert "SKYCORE_FROM" in done.stderr


def test_a_short_code_that_came_out_empty_is_none(simulator: Simulator) -> None:
    """An empty --from is refused, and not replaced by the environment."""
    asked = simulator.requests
    done = send("15551234888", "Hello", "--from", "")
    assert (done.exit_code, simulator.requests) == (Exit.USAGE, asked)
    assert "not sent: from_: it is empty: give a short code" in done.stderr


# With a ledger.


def test_the_same_key_sends_once(simulator: Simulator, tmp_path: Path) -> None:
    """A second run with the same key sends nothing and says so."""
    arguments = ["15551234888", "Hello", "--ledger", str(tmp_path / "sent.db"), "--key", "k"]
    billed = simulator.billed
    first, second = send(*arguments), send(*arguments)
    assert first.exit_code == second.exit_code == 0
    assert first.stdout == second.stdout
    assert (first.stderr, second.stderr) == (
        "",
        "It was sent before under this key, and not once more now.\n",
    )
    assert json.loads(send(*arguments, "--json").stdout)["recorded"] is True
    assert simulator.billed == billed + 1


@pytest.mark.slow
def test_a_ledger_in_a_database_sends_a_key_once(simulator: Simulator, dsn: str) -> None:
    """A key is sent once over a database ledger."""
    with_key = ["--ledger", dsn, "--key", "k"]
    billed = simulator.billed
    first, again = (send("15551234888", "Hello", *with_key) for _ in range(2))
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert first.stdout == again.stdout
    assert simulator.billed == billed + 1
    doubtful = send("15551232002", "Hello", "--ledger", dsn, "--key", "other")
    assert doubtful.exit_code == Exit.IN_DOUBT
    assert "`skycore status DSN --key other`" in doubtful.stderr


def test_a_key_with_other_content_is_refused(simulator: Simulator, tmp_path: Path) -> None:
    """A key with another text is refused."""
    with_key = ["--ledger", str(tmp_path / "sent.db"), "--key", "k"]
    assert send("15551234888", "Hello", *with_key).exit_code == 0
    billed = simulator.billed
    done = send("15551234888", "Another", *with_key)
    assert (done.exit_code, simulator.billed) == (Exit.USAGE, billed)
    assert "other content" in done.stderr


def test_a_key_in_doubt_with_other_content_says_so(simulator: Simulator, tmp_path: Path) -> None:
    """A key in doubt with another text is reported as in doubt."""
    path = tmp_path / "sent.db"
    with_key = ["--ledger", str(path), "--key", "k"]
    assert send("15551232002", "Hello", *with_key).exit_code == Exit.IN_DOUBT
    billed = simulator.billed
    done = send("15551232002", "Another", *with_key, "--json")
    assert (done.exit_code, simulator.billed) == (Exit.IN_DOUBT, billed)
    assert json.loads(done.stdout)["outcome"] == "in_doubt"
    assert "not to be sent under another key before that is settled" in done.stderr
    assert f"skycore status {path} --key k" in done.stderr


@pytest.mark.parametrize(
    ("key", "command"), [(["--key", "a b"], "--key 'a b'"), ([], "--state in_doubt")]
)
def test_doubt_says_where_it_will_be_settled(
    simulator: Simulator, tmp_path: Path, key: list[str], command: str
) -> None:
    """A doubt names the commands that show and settle it."""
    path = tmp_path / "sent.db"
    done = send("15551232002", "Hello", "--ledger", str(path), *key)
    assert done.exit_code == Exit.IN_DOUBT
    assert f"`skycore status {path} {command}`" in done.stderr
    assert f"an hour from now `skycore settle {path}`" in done.stderr


def test_a_number_that_opted_out_is_not_sent_to(simulator: Simulator, tmp_path: Path) -> None:
    """An opted-out number is not sent to, without advice to send again."""
    path = tmp_path / "sent.db"

    async def stop() -> None:
        async with SQLiteLedger(path) as ledger:
            await ledger.opt_out("15551234888")

    anyio.run(stop)
    done = send("15551234888", "Hello", "--ledger", str(path))
    assert done.exit_code == Exit.NOT_SENT
    assert done.stderr == (
        "skycore: not sent: the number has opted out, and is not sent to before it says START\n"
    )


@pytest.mark.slow
def test_ctrl_c_says_that_it_may_have_been_sent(simulator: Simulator, tmp_path: Path) -> None:
    """An interrupted message is in doubt, and the command says so."""
    path = tmp_path / "sent.db"
    arguments = ["15551232003", "Hello", "--ledger", str(path), "--key", "k", "--timeout", "2"]
    asked = simulator.requests
    with program("send", *arguments) as process:
        deadline = time.monotonic() + 20
        while simulator.requests == asked and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (Exit.INTERRUPTED, "")
    assert "interrupted: it may have been sent" in err
    assert f"skycore status {path} --key k" in err
    assert "Traceback" not in err


def test_the_account_of_the_simulator_is_the_one_of_its_defaults() -> None:
    """The tests use the default account of `skycore simulate`."""
    assert {API_KEY} == Account().api_keys


FULL = Path("/dev/full")


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="a disk that is always full")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["send", "15551234888", "Hi"], Exit.NOT_ALL_WELL, "; it was sent, as "),
        (["send", "15551234888", "Hi", "--json"], Exit.NOT_ALL_WELL, "; it was sent, as "),
        (["send", "15551232002", "Hi", "--json"], Exit.IN_DOUBT, "it may have been sent, so do"),
        (
            ["bulk", "promo.csv", "--text", "Hi", "--sample", "1", "--to", "15551232002"],
            Exit.IN_DOUBT,
            "of the sample, 0 were accepted",
        ),
        (
            ["bulk", "promo.csv", "--text", "Hi"],
            Exit.IN_DOUBT,
            "what was sent is known to promo.db",
        ),
        (["bulk", "sure.csv", "--text", "Hi"], Exit.NOT_ALL_WELL, "is known to sure.db"),
    ],
)
def test_an_output_that_cannot_be_written_hides_no_message(
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    arguments: list[str],
    code: Exit,
    said: str,
) -> None:
    """An outcome that cannot be printed is reported on standard error."""
    monkeypatch.chdir(tmp_path)
    billed = simulator.billed
    Path("promo.csv").write_text("to\n15551234888\n15551232002\n")
    Path("sure.csv").write_text("to\n15551234888\n")
    more = ["--yes", "--json"] if arguments[0] == "bulk" else []
    command = [sys.executable, "-m", "skycore_async.cli", *arguments, *more]
    with FULL.open("w") as full:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, said in done.stderr) == (code, True)
    assert simulator.billed > billed
