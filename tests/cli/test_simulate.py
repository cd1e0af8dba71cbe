"""`skycore simulate`: the simulator as a program."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from skycore_async import DeliveryReceipt, Notification, PostbackReceiver, parse_postback
from skycore_async.cli.app import skycore
from skycore_async.cli.ui.output import Exit
from skycore_async.cli.ui.signals import UntilSignal
from skycore_async.messages import SMS
from skycore_async.protocol import requests
from skycore_async.simulator import API_KEY, BY_LAST_DIGITS, SHORT_CODE, Simulator
from skycore_async.simulator.asgi_thread import ServerThread
from tests.support.cli_program import program, told
from tests.support.fault_server import client_context


def send(url: str, to: str) -> bytes:
    """Request one message, and return the answer."""
    body = requests.post_body(SMS(to=to, text="Hello", from_=SHORT_CODE), api_key=API_KEY)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return httpx.post(
        url, content=body, headers=headers, verify=client_context(), trust_env=False
    ).content


def simulate(*arguments: str) -> Result:
    """Run the command in this process, for mistakes that end it."""
    return CliRunner().invoke(skycore, ["simulate", *arguments])


@pytest.mark.slow
def test_the_simulator_answers_until_it_is_told_to_end() -> None:
    """The first line has the URL, each message is a line, and SIGTERM ends with 0."""
    arguments = ["--json", "--rate", "1"]
    with program("simulate", "--port", "0", *arguments) as process:
        listening = told(process)
        assert (listening["api_key"], listening["short_code"]) == (API_KEY, SHORT_CODE)
        answers = [send(listening["url"], f"1555123{last}") for last in ("4888", "4889")]
        messages = [told(process), told(process)]
        process.send_signal(signal.SIGTERM)
        rest, err = process.communicate(timeout=10)
    assert (process.returncode, rest, err) == (0, "", "")
    assert messages[0]["tracking_id"].encode() in answers[0]
    assert [(one["to"], one["taken"], one["code"]) for one in messages] == [
        ("*******4888", True, None),
        ("*******4889", False, "E113"),
    ]
    assert [one["text"] for one in messages] == ["Hello", "Hello"]
    assert [one["billed"] for one in messages] == [1, 1]


@pytest.mark.slow
def test_people_are_told_how_to_point_a_client_at_it() -> None:
    """The first lines can be pasted into a shell."""
    with program("simulate", "--port", "0") as process:
        assert process.stdout is not None
        introduction = [process.stdout.readline() for _ in range(14)]
        exports = dict(
            line.strip().removeprefix("export ").split("=")
            for line in introduction
            if "export " in line
        )
        send(exports["SKYCORE_BASE_URL"], "15551232006")
        send(exports["SKYCORE_BASE_URL"], "15551230110")
        lines = [process.stdout.readline().split(maxsplit=3) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert (exports["SKYCORE_API_KEY"], exports["SKYCORE_FROM"]) == (API_KEY, SHORT_CODE)
    assert lines[0][1:3] == ["*******2006", "taken"]
    assert lines[0][3].endswith('  "Hello"  HTTP 502, taken  [billed: 1]\n')
    assert lines[1][1:3] == ["*******0110", "refused"]
    assert lines[1][3].endswith("recipient number not valid  [billed: 1]\n")
    assert err == "\nMessages: 2, billed: 1.\n"


@pytest.mark.slow
def test_numbers_are_shown_where_they_are_asked_for() -> None:
    """--show-numbers shows numbers."""
    with program("simulate", "--port", "0", "--json", "--show-numbers") as process:
        send(told(process)["url"], "15551234888")
        assert told(process)["to"] == "15551234888"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)


def test_help_has_the_numbers_that_it_misbehaves_for() -> None:
    """The help lists each number that misbehaves."""
    said = simulate("--help").stdout
    for digits, behaviour in BY_LAST_DIGITS.items():
        if not digits.startswith("0"):
            shown = " ".join(said[said.index(f"  {digits}  ") :].split())
            assert shown.startswith(f"{digits} {behaviour.meaning}")
    assert "refused with the code Eddd" in said


@pytest.mark.slow
def test_without_faults_every_number_is_delivered() -> None:
    """--no-faults delivers to every number."""
    with program("simulate", "--port", "0", "--no-faults") as process:
        assert process.stdout is not None
        introduction = "".join(process.stdout.readline() for _ in range(12))
        url = introduction.partition("SKYCORE_BASE_URL=")[2].partition("\n")[0]
        for last in ("0102", "2002"):
            send(url, f"1555123{last}")
        lines = [process.stdout.readline().split() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert "Every valid message is taken and delivered" in introduction
    assert "four digits" not in introduction
    assert [line[1:3] for line in lines] == [["*******0102", "taken"], ["*******2002", "taken"]]
    assert [line[4:] for line in lines] == [
        ['"Hello"', "[billed:", f"{number}]"] for number in (1, 2)
    ]
    assert err == "\nMessages: 2, billed: 2.\n"


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (["--form", "postback"], {"postback_form": "FLAT", "bundle_postbacks": False}),
        (["--bundle"], {"postback_form": "NOTIFICATION", "bundle_postbacks": True}),
    ],
)
def test_options_set_the_simulator(
    options: list[str], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options are passed to the simulator."""
    made: dict[str, Any] = {}

    class Noted(Simulator):
        def __init__(self, **given: Any) -> None:
            made.update(given)
            super().__init__(**given)

    monkeypatch.setattr("skycore_async.cli.actions.simulate.Simulator", Noted)
    monkeypatch.setattr(UntilSignal, "polls", lambda _: iter(()))
    url = "http://127.0.0.1:9/postback"
    done = simulate("--port", "0", "--postback-url", url, *options)
    assert (done.exit_code, f"Postbacks go to {url}." in done.stdout) == (0, True)
    made["postback_form"] = made["postback_form"].name
    assert made.items() >= {**settings, "postback_url": url}.items()


@pytest.mark.parametrize("as_json", [True, False])
def test_each_message_is_printed_once(as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message is printed once."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

    def polls(_: UntilSignal) -> Iterator[None]:
        for last in ("4888", "2006", "1001"):
            send(f"http://127.0.0.1:{port}/API/wxml/1.3/index.php", f"1555123{last}")
            yield
            yield

    monkeypatch.setattr(UntilSignal, "polls", polls)
    done = simulate("--port", str(port), *(["--json"] if as_json else []))
    assert done.exit_code == 0
    lines = [line for line in done.stdout.splitlines() if "*******" in line]
    assert ["4888" in lines[0], "2006" in lines[1], "1001" in lines[2]] == [True] * 3
    assert len(lines) == 3
    assert "No postbacks: give --postback-url" in done.stdout or as_json


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--postback-url", "localhost"], "no HTTP address: 'localhost'"),
        (["--bundle", "--form", "postback"], "--bundle needs --form notification"),
        (["--rate", "0"], "--rate"),
        (["--rate", "off"], "'off' is not a valid number."),
        (["--port", "x"], "'x' is not a valid whole number."),
    ],
)
def test_settings_that_cannot_work(options: list[str], words: str) -> None:
    """Settings that cannot work are refused."""
    done = simulate("--port", "0", *options)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert words in done.stderr


# One sample.


@pytest.mark.parametrize("form", ["notification", "postback"])
def test_a_sample_is_posted(form: str) -> None:
    """--postback posts a sample, and shows it with its answer."""
    seen: list[Notification] = []
    with ServerThread(PostbackReceiver(on_notification=seen.append)) as server:
        url = f"{server.url}/postback"
        options = ["--form", form, "--tracking-id", "SMS_7", "--number", "15550001111"]
        done = simulate("--postback", "delivered", "--to", url, *options)
        assert done.exit_code == Exit.DONE, done.output
        as_json = simulate("--postback", "stop", "--to", url, "--form", form, "--json")
    told = json.loads(as_json.stdout)
    assert (told["kind"], told["status"]) == ("stop", 200)
    posted = [*parse_postback(done.stdout), *parse_postback(told["body"])]
    assert posted == seen
    assert done.stderr == "Answered with 200. OK\n"
    receipt = seen[0]
    assert isinstance(receipt, DeliveryReceipt)
    assert (receipt.tracking_id, receipt.to) == ("SMS_7", "15550001111")


def test_a_refused_sample_is_reported() -> None:
    """A sample that is refused is reported, without the URL's secret."""
    with ServerThread(PostbackReceiver(on_notification=print, secret="right")) as server:
        done = simulate("--postback", "sent", "--to", f"{server.url}/postback/wr0ng")
    assert done.exit_code == Exit.NOT_ALL_WELL
    assert "Answered with 404: Skycore would post it again, up to five times." in done.stderr
    assert "wr0ng" not in done.output


@pytest.mark.parametrize(
    ("url", "said", "code"),
    [
        (
            "http://127.0.0.1:9/s3cret",
            "--to: nobody answered there: Connection refused",
            Exit.NOT_ALL_WELL,
        ),
        ("localhost:8026/s3cret", "is no URL, such as http://", Exit.USAGE),
        ("http://[::g]/s3cret", "is no URL, such as http://", Exit.USAGE),
    ],
)
def test_a_sample_without_a_receiver_is_reported(url: str, said: str, code: Exit) -> None:
    """A sample that nobody answers is a one-line error without secrets."""
    done = simulate("--postback", "sent", "--to", url)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--postback", "sent"], "--postback KIND needs --to URL"),
        (["--to", "http://127.0.0.1:9/"], "--postback KIND needs --to URL"),
        (["--number", "1"], "--postback KIND needs --to URL"),
        (["--postback", "fax", "--to", "x"], "'delivered', 'failed'"),
    ],
)
def test_a_sample_has_a_kind_and_a_place(options: list[str], said: str) -> None:
    """--postback and --to need each other, and a known kind."""
    done = simulate(*options)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert said in done.stderr


def test_a_port_in_use_is_reported() -> None:
    """A port in use is an error with advice."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = simulate("--port", str(port))
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert f"cannot listen on port {port}: Address already in use; choose" in done.stderr
    assert "--port" in done.stderr


def test_signals_are_given_back() -> None:
    """Signal handlers are restored after a command."""
    before = signal.getsignal(signal.SIGINT)
    with UntilSignal() as ending:
        signal.raise_signal(signal.SIGINT)
        assert ending.is_set
        assert list(ending.polls()) == []
    assert signal.getsignal(signal.SIGINT) is before
