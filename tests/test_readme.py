"""Every snippet in the README runs, and does what the text beside it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from skycore_async.simulator import Simulator
from skycore_async.version import __version__

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def snippet(about: str) -> str:
    """Give the one snippet that contains these words."""
    (found,) = (text for text in SNIPPETS if about in text)
    return str(found)


def run(text: str) -> dict[str, Any]:
    """Run a snippet as a program of its own."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "README.md", "exec"), names)  # noqa: S102 - it is what is tested
    return names


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand a simulator in for Skycore, through the environment."""
    with Simulator() as running:
        monkeypatch.setenv("SKYCORE_API_KEY", "simulator-key")
        monkeypatch.setenv("SKYCORE_FROM", "60856")
        monkeypatch.setenv("SKYCORE_BASE_URL", running.url)
        yield running


def test_every_snippet_has_a_test() -> None:
    """There are as many snippets as tests of one below."""
    assert len(SNIPPETS) == 9


def test_send(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The first snippet sends one message and prints its number and tracking id."""
    run(snippet('text="Hello Jerry"'))
    (message,) = simulator.messages
    assert capsys.readouterr().out.split() == ["15551234888", message.tracking_id]


def test_send_many(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet on bulk sending sends each message once, and prints each outcome."""
    run(snippet("rate=200"))
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert printed == {message.to: message.tracking_id for message in simulator.messages}
    assert simulator.billed == 10


def test_segments(capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet on cost names the encoding and the character that forced it."""
    run(snippet("segments("))
    assert capsys.readouterr().out == "1 UCS-2 52\n[(5, 'û')]\n"


def test_failures(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet on failures meets the rejection that its comment names."""
    run(snippet("except NotSent"))
    assert capsys.readouterr().out == "E713 account\n"
    assert simulator.billed == 0


RECEIPT = (
    "<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N202</CODE>"
    "<TRACKINGID>SMS_12345</TRACKINGID></POSTBACK>"
)


def test_postbacks() -> None:
    """The snippet on postbacks tells what a receipt says."""
    assert run(snippet("def told"))["handle"](RECEIPT) == ["SMS_12345 is delivered, None"]


@pytest.mark.anyio
async def test_the_receiver(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mounted receiver takes a receipt in at the URL that the comment names."""
    monkeypatch.chdir(tmp_path)
    names = run(snippet("PostbackReceiver("))
    transport = httpx.ASGITransport(names["app"])
    async with names["ledger"], httpx.AsyncClient(transport=transport) as web:
        url = "http://your.host/skycore/postback/a-long-secret"
        assert (await web.post(url, content=RECEIPT)).status_code == 200
        assert (await web.post(url, content="hello")).status_code == 400
        assert (await web.post(url + "er", content=RECEIPT)).status_code == 404
        assert [each.code async for each in names["ledger"].unplaced()] == ["N202"]
    assert capsys.readouterr().out == "N202\n"


def test_the_ledger(
    simulator: Simulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The snippet on the ledger sends each key once, also when it is run again."""
    monkeypatch.chdir(tmp_path)
    run(snippet('SQLiteLedger("promo.db")'))
    run(snippet('SQLiteLedger("promo.db")'))
    assert simulator.billed == 10
    out = capsys.readouterr().out
    assert out.count("Accepted") == 20
    assert out.count("sent before: U") == 2
    assert "may have been sent" not in out


def test_simulator(capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet on testing meets the lost answer, and sees that one message was billed."""
    run(snippet("print(skycore.billed)"))
    assert capsys.readouterr().out.splitlines()[-1] == "1"


def test_with_pytest(tmp_path: Path) -> None:
    """The example test passes, as a test of a user's own."""
    example = tmp_path / "test_reminders.py"
    example.write_text(snippet("def test_a_reminder"), "utf-8")
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(example)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert "2 passed" in done.stdout, done.stdout


NAMED = re.findall(r"^skycore (\w+)(?: .*)?$", README, re.MULTILINE)


def test_every_command_is_named_and_there() -> None:
    """The README lists the commands that there are."""
    from skycore_async.cli.commands import COMMANDS

    assert sorted(NAMED) == sorted(COMMANDS)


def test_the_version_is_the_same_everywhere() -> None:
    """The package and its metadata name the same version."""
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text("utf-8")
