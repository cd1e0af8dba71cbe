"""The pytest plugin: a simulator for the tests of the package's users."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from skycore_async import (
    MemoryLedger,
    OutcomeUnknown,
    PostbackReceiver,
    Rejected,
    SkycoreClient,
    share_opt_outs,
)
from skycore_async.ledger.sqlite.opt_out_list import OptOutList
from skycore_async.simulator import Account, Answer, Behaviour, Simulator, refusal
from skycore_async.simulator.asgi_thread import ServerThread

EXAMPLE = """
import anyio
import pytest

from skycore_async import OutcomeUnknown, SkycoreClient
from skycore_async.simulator import Answer, Behaviour


async def remind(number):  # your own code
    async with SkycoreClient() as client:
        return (await client.send_sms(to=number, text="See you at 9")).tracking_id


def test_a_reminder_is_sent_once(skycore):
    tracking_id = anyio.run(remind, "15551234888")
    (message,) = skycore.messages
    assert (message.text, message.tracking_id) == ("See you at 9", tracking_id)


def test_a_lost_answer_leaves_doubt(skycore):
    skycore.script(Behaviour(answer=Answer.DROP))  # taken, and the answer is lost
    with pytest.raises(OutcomeUnknown):
        anyio.run(remind, "15551234888")
    assert skycore.billed == 1  # so to send it again would bill it twice
"""


OPT_OUTS = """
import anyio

from skycore_async import MemoryLedger, share_opt_outs


async def heard(number):  # your own code
    async with MemoryLedger() as ledger, share_opt_outs(ledger):
        before = await ledger.is_opted_out(number)
        await ledger.opt_in(number)
        return before


def test_nobody_is_on_the_list(skycore):
    assert not anyio.run(heard, "15551234888")
"""


def run_pytest(folder: Path, text: str, *options: str, **environment: str) -> str:
    """Run a test file in a pytest of its own, check that all passes, and return the output."""
    (folder / "test_own.py").write_text(text)
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *options],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def send(text: str = "Hello") -> str | None:
    """Send one message with the environment's settings, and return its tracking id."""
    async with SkycoreClient(max_attempts=1) as client:
        return (await client.send_sms(to="15551234888", text=text)).tracking_id


@pytest.mark.slow
def test_the_example_of_the_readme_passes(tmp_path: Path) -> None:
    """The README's example runs by the entry point alone."""
    assert "2 passed" in run_pytest(tmp_path, EXAMPLE, "--strict-markers", "--strict-config")


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_test_has_a_list_of_opt_outs_of_its_own(tmp_path: Path) -> None:
    """Opt-ins of a test do not reach the user's own list of opt-outs."""
    home, named = tmp_path / "user", tmp_path / "named.db"
    lists = [OptOutList(path) for path in (home / "opt-outs.db", named)]
    async with MemoryLedger() as ledger:
        await ledger.opt_out("15551234888")
        for each in lists:
            async with share_opt_outs(ledger, each.path):
                pass
    for variables in ({}, {"SKYCORE_OPT_OUTS": str(named)}):
        environment = {"SKYCORE_HOME": str(home), **variables}
        run = partial(run_pytest, tmp_path, OPT_OUTS, **environment)
        assert "1 passed" in await anyio.to_thread.run_sync(run)
    assert [each.count() for each in lists] == [1, 1]


def test_a_client_without_arguments_sends_to_the_fixture(skycore: Simulator) -> None:
    """A client without arguments sends to the fixture's simulator."""
    tracking_id = anyio.run(send)
    (message,) = skycore.messages
    assert (message.to, message.from_, message.text) == ("15551234888", "60856", "Hello")
    assert message.tracking_id == tracking_id
    assert skycore.billed == 1


def test_each_test_has_a_simulator_of_its_own(skycore: Simulator) -> None:
    """Messages and scripts of another test are not seen."""
    assert (skycore.messages, skycore.billed, skycore.requests) == ((), 0, 0)


def test_a_scripted_failure_is_met(skycore: Simulator) -> None:
    """Scripted behaviours apply to the next requests, in order."""
    skycore.script(refusal("E713"), Behaviour(answer=Answer.DROP))
    with pytest.raises(Rejected, match="E713"):
        anyio.run(send)
    with pytest.raises(OutcomeUnknown):
        anyio.run(send)
    anyio.run(send)
    assert skycore.billed == 2


@pytest.mark.slow
def test_postbacks_reach_the_receiver_of_the_test(skycore: Simulator) -> None:
    """With `postback_url` set, receipts reach the test's receiver and can be waited for."""
    told: list[str | None] = []
    receiver = PostbackReceiver(
        ledger=MemoryLedger(), on_notification=lambda each: told.append(each.code)
    )
    with ServerThread(receiver) as server:
        skycore.postback_url = f"{server.url}/postback"
        anyio.run(send)
        skycore.wait_for_postbacks(timeout=20)
    assert len(told) == 2


@pytest.mark.skycore(account=Account(api_keys={"b", "c"}, short_codes={"70000"}))
def test_the_marker_sets_the_account(skycore: Simulator) -> None:
    """The marker's arguments set the simulator's account and the environment."""
    assert (os.environ["SKYCORE_API_KEY"], os.environ["SKYCORE_FROM"]) == ("b", "70000")
    anyio.run(send)
    assert skycore.messages[0].from_ == "70000"


@pytest.mark.skycore(behaviours={}, account=Account(short_codes=()))
def test_an_account_of_any_short_code_has_the_usual_one(skycore: Simulator) -> None:
    """An account that allows any sender has the usual short code in the environment."""
    anyio.run(send)
    assert skycore.messages[0].from_ == "60856"


@pytest.mark.slow
def test_the_environment_is_as_before_afterwards(tmp_path: Path) -> None:
    """After the test the simulator is stopped and the environment restored."""
    text = """
import os
seen = []

def test_first(skycore):
    seen.append(skycore)
    assert os.environ["SKYCORE_BASE_URL"] == skycore.url

def test_second():
    assert "SKYCORE_BASE_URL" not in os.environ
    assert os.environ["SKYCORE_API_KEY"] == "the real one"
    try:
        seen[0].url
    except RuntimeError:
        return
    raise AssertionError("it is still running")
"""
    assert "2 passed" in run_pytest(tmp_path, text, SKYCORE_API_KEY="the real one")


@pytest.mark.slow
def test_a_run_that_does_not_ask_for_it_loads_nothing(tmp_path: Path) -> None:
    """A test run without the fixture imports neither client nor server."""
    text = """
import sys

def test_nothing():
    heavy = {"httpx", "uvicorn", "anyio", "skycore_async.simulator"}
    assert not heavy & sys.modules.keys()
    assert "skycore_async.pytest_plugin" in sys.modules
"""
    options = ("-p", "skycore_async.pytest_plugin")
    assert "1 passed" in run_pytest(tmp_path, text, *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")


def test_without_the_server_it_says_what_to_install(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without uvicorn the fixture raises ImportError with the pip install."""
    monkeypatch.delitem(sys.modules, "skycore_async.simulator.asgi_thread", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ImportError, match=r"pip install 'skycore-async\[testing\]'"):
        request.getfixturevalue("skycore")


def test_the_entry_point_is_the_plugin() -> None:
    """The entry point `skycore` of pytest names the plugin."""
    (found,) = (each for each in entry_points(group="pytest11") if each.name == "skycore")
    assert found.value == "skycore_async.pytest_plugin"
