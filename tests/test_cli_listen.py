"""`skycore listen`: postbacks into a ledger, and a line for each."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import anyio
import httpx
import pytest
from cli_program import program, told
from click.testing import CliRunner, Result

from skycore_async import SMS, SkycoreClient, SQLiteLedger, Summary, parse_postback
from skycore_async.cli.commands import skycore
from skycore_async.cli.listen import _Telling
from skycore_async.cli.output import Exit
from skycore_async.cli.simulate import Ending
from skycore_async.simulator import API_KEY, SHORT_CODE, Simulator

INBOUND = """<NOTIFICATION ID="7"><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><BODY>
<FROM>15551234888</FROM><TO>60856</TO><TEXT>my secret words</TEXT></BODY></NOTIFICATION>"""
RECEIPT = """<NOTIFICATION ID="8"><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE><BODY>
<TO>15551234888</TO><TRACKINGID>SMS_1</TRACKINGID><STATUS PROTOCOL="2" STATUS="514"/></BODY>
</NOTIFICATION>"""


def listening(
    *arguments: str, **environment: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    """Listen at any port."""
    return program("listen", "--port", "0", *arguments, **environment)


def post(url: str, body: str) -> int:
    """Post a body, and give the status of the answer."""
    return httpx.post(url, content=body.encode(), trust_env=False).status_code


def summary(path: Path) -> Summary:
    """Ask a ledger that nobody has open."""

    async def ask() -> Summary:
        async with SQLiteLedger(path) as ledger:
            return await ledger.summary()

    return anyio.run(ask)


def listen(*arguments: object) -> Result:
    """Run the command here, for mistakes that end it."""
    return CliRunner().invoke(skycore, ["listen", *map(str, arguments)])


async def send_two(url: str, path: Path) -> None:
    """Send one message that is delivered, and one whose answer is lost, over a ledger."""
    messages = [SMS(to=f"1555123{last}", text="Hello", key=last) for last in ("4888", "2002")]
    async with (
        SQLiteLedger(path) as ledger,
        SkycoreClient(api_key=API_KEY, from_=SHORT_CODE, base_url=url, ledger=ledger) as client,
        client.send_many(messages) as outcomes,
    ):
        async for _ in outcomes:
            pass


def test_what_comes_is_recorded_and_told(tmp_path: Path) -> None:
    """Postbacks settle what a ledger has in doubt, and each is a line; SIGTERM ends it with 0."""
    path = tmp_path / "promo.db"
    with Simulator() as simulator:
        # Sent while nobody listens; the postbacks wait for the address.
        simulator.postback_url = "http://127.0.0.1:9/"
        anyio.run(send_two, simulator.url, path)
        with listening("--ledger", str(path), "--json") as process:
            simulator.postback_url = told(process)["url"]
            lines = [told(process) for _ in range(4)]
            simulator.wait_for_postbacks()
            process.send_signal(signal.SIGTERM)
            rest, err = process.communicate(timeout=10)
    assert (process.returncode, rest, err) == (0, "", "")
    assert sorted((line["kind"], line["number"], line["state"]) for line in lines) == [
        ("receipt", "*******2002", "delivered"),
        ("receipt", "*******4888", "delivered"),
        ("sent", "*******2002", "sent"),
        ("sent", "*******4888", "sent"),
    ]
    assert summary(path).states == {"delivered": 2}


def test_people_read_a_line_for_each(tmp_path: Path) -> None:
    """Kind, number and state in a line; what people wrote is not in it; Ctrl-C ends it with 0."""
    path = tmp_path / "promo.db"
    with listening("--ledger", str(path), NO_COLOR="1") as process:
        assert process.stderr is not None
        introduction = process.stderr.readline()
        url = introduction.split()[2]
        assert [post(url, INBOUND), post(url, "junk")] == [200, 400]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert introduction == f"Postbacks to {url} go to {path}. Ctrl-C ends it.\n"
    assert out.split() == ["inbound", "*******4888"]
    assert err == "\nNotifications: 1.\n"


def test_the_secret_of_the_environment_is_asked_for_and_not_shown(tmp_path: Path) -> None:
    """With a secret, the address without it is not found, and nobody reads it from the screen."""
    path = tmp_path / "promo.db"
    environment = {"SKYCORE_POSTBACK_SECRET": "a-long-word"}
    with program(
        "listen", "--port", "0", "--ledger", str(path), "--json", **environment
    ) as process:
        url = told(process)["url"]
        assert url.endswith("/postback/$SKYCORE_POSTBACK_SECRET")
        base = url.rpartition("/")[0]
        assert [post(base, INBOUND), post(f"{base}/a-long-word", INBOUND)] == [404, 200]
        assert told(process)["kind"] == "inbound"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert "a-long-word" not in out + err


@pytest.mark.parametrize("as_json", [False, True])
def test_a_line_says_why_a_message_failed(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receipt's line has its tracking id, the masked number, the state and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

    def looks(_: Ending) -> Iterator[None]:
        assert post(f"http://127.0.0.1:{port}/postback", RECEIPT) == 200
        yield

    monkeypatch.setattr(Ending, "looks", looks)
    options = ["--json"] if as_json else []
    done = listen("--ledger", tmp_path / "promo.db", "--port", port, *options)
    assert done.exit_code == 0
    if as_json:
        told = json.loads(done.stdout.splitlines()[1])
        assert (told["reason"], told["detail"]) == ("recipient", "number is not a subscriber")
        return
    assert done.stdout.split() == [
        *("receipt", "SMS_1", "*******4888", "failed", "recipient:"),
        *("number", "is", "not", "a", "subscriber"),
    ]


@pytest.mark.parametrize("error", [BrokenPipeError(), SystemExit(1)])
def test_nobody_reading_is_no_reason_to_post_again(error: BaseException) -> None:
    """Where the pipe is closed the notification is taken in all the same, and it ends."""

    def show(_: object) -> None:
        raise error

    ending = Ending()
    telling = _Telling(ending, show)
    (notification,) = parse_postback(INBOUND)
    telling(notification)
    assert (telling.count, ending.told) == (1, True)


# What ends it at once.


def test_an_address_that_others_reach_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a secret, anyone could post: it says so, but not for this machine alone."""
    monkeypatch.setattr(Ending, "looks", lambda _: iter(()))
    path = tmp_path / "promo.db"
    assert "Anyone" in listen("--ledger", path, "--host", "0.0.0.0", "--port", 0).stderr  # noqa: S104
    assert "Anyone" not in listen("--ledger", path, "--port", 0).stderr


def test_a_ledger_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    """What is no ledger is left as it is."""
    file = tmp_path / "recipients.csv"
    file.write_text("to;name\n" * 100)
    done = listen("--ledger", file, "--port", 0)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert f"skycore: {file} is no ledger" in done.stderr
    assert file.read_text() == "to;name\n" * 100


def test_a_ledger_that_is_taken_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong as the server opens the ledger is no traceback either."""
    monkeypatch.setattr("skycore_async.cli.listen._try", lambda _: None)
    file = tmp_path / "recipients.csv"
    file.write_text("to;name\n" * 100)
    done = listen("--ledger", file, "--port", 0)
    assert done.exit_code == Exit.USAGE
    assert f"skycore: {file}: the application failed to start" in done.stderr


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    """The address that is taken is named."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = listen("--ledger", tmp_path / "promo.db", "--port", port)
    assert done.exit_code == Exit.USAGE
    assert f"cannot listen on 127.0.0.1, port {port}" in done.stderr
    assert done.stderr.endswith("; choose another with --port\n")


def test_a_secret_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that would keep nobody out is named by its variable."""
    monkeypatch.setenv("SKYCORE_POSTBACK_SECRET", "/")
    done = listen("--ledger", tmp_path / "promo.db", "--port", 0)
    assert done.exit_code == Exit.USAGE
    assert done.stderr.startswith("skycore: SKYCORE_POSTBACK_SECRET: ")
