"""Every snippet in the README and in docs/ runs, and does what its text says.

Each test takes its snippet by the page and by words that are in the snippet. A snippet without a
test fails, and so does a shell line with an unknown command or option.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import click
import httpx
import pytest
from click.testing import CliRunner

from skycore_async import (
    DeliveryReceipt,
    OpenReason,
    OutcomeUnknown,
    PostbackInbox,
    PostbackReceiver,
    RateLimiter,
    RecipientOptedOut,
    SkycoreClient,
    SQLiteLedger,
    parse_postback,
)
from skycore_async.cli.app import COMMANDS, skycore
from skycore_async.sending import retry
from skycore_async.simulator import Answer, Behaviour, Simulator, refusal
from skycore_async.simulator.asgi_thread import ServerThread
from skycore_async.version import __version__
from tests.support.ledger_cases import DELIVERED, NOON, accepted, intent, notice

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT).as_posix()): path.read_text("utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of a page in a language."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGES[page], re.DOTALL | re.MULTILINE)
    return [str(text) for text in found]


def snippet(page: str, about: str) -> str:
    """Return the one snippet of a page that contains these words."""
    (found,) = (text for text in blocks(page, "python") if about in text)
    return found


def typed(page: str) -> Iterator[list[str]]:
    """Yield the shell lines of a page as words; a quote may span lines."""
    for block in blocks(page, "console"):
        line = ""
        for more in block.splitlines():
            line += more.removeprefix("$ ") + "\n"
            if line.endswith("\\\n"):
                line = line.removesuffix("\\\n")
                continue
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # the quote is not closed
                continue
            line = ""
            if words:
                yield words
        assert not line, line


def samples(page: str, port: int) -> list[tuple[str, bytes]]:
    """Return the path and body of each postback that a page posts to a port by curl."""
    found = []
    for words in typed(page):
        if words[0] == "curl" and "--data" in words:
            url = httpx.URL(next(word for word in words if word.startswith("http://")))
            if url.port == port:
                found.append((url.path, words[words.index("--data") + 1].encode()))
    assert found
    return found


def post(web: httpx.Client, path: str, body: bytes) -> httpx.Response:
    """Post as curl does, which calls any data a form's."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    return web.post(path, content=body, headers=form)


def run(text: str) -> dict[str, Any]:
    """Run a snippet as a program of its own."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "snippet", "exec"), names)  # noqa: S102 - it is what is tested
    return names


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let a simulator stand in for Skycore, through the environment."""
    with Simulator() as running:
        monkeypatch.setenv("SKYCORE_API_KEY", "simulator-key")
        monkeypatch.setenv("SKYCORE_FROM", "60856")
        monkeypatch.setenv("SKYCORE_BASE_URL", running.url)
        yield running


@pytest.fixture
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses between attempts and after throttling zero."""
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(RateLimiter, "slow_down", lambda *_args, **_given: None)


@contextmanager
def served(app: Any) -> Iterator[httpx.Client]:
    """Serve an application over HTTP, and give a client of it."""
    with ServerThread(app) as server, httpx.Client(base_url=server.url, trust_env=False) as web:
        yield web


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Work in a directory of the test's own, which also has the list of opt-outs."""
    monkeypatch.setenv("SKYCORE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked_for() -> Iterator[tuple[str, str]]:
    """Yield the page and the words by which each test below takes its snippet."""
    for node in ast.walk(ast.parse(Path(__file__).read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "snippet":
            page, about = node.args
            pages = PAGES if isinstance(page, ast.Name) else [ast.literal_eval(page)]
            yield from ((each, ast.literal_eval(about)) for each in pages)


@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_has_a_test(page: str) -> None:
    """Every snippet of a page has a test that runs it."""
    words = [about for each, about in asked_for() if each == page]
    assert [text for text in blocks(page, "python") if not any(w in text for w in words)] == []


def test_send(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The first snippet sends one message and prints its number and tracking id."""
    run(snippet("README.md", 'text="Hello Jerry"'))
    (message,) = simulator.messages
    assert capsys.readouterr().out.split() == ["15551234888", message.tracking_id]


def test_send_many(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet on bulk sending sends each message once, and prints each outcome."""
    run(snippet("README.md", "rate=200"))
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert printed == {message.to: message.tracking_id for message in simulator.messages}
    assert simulator.billed == 10


def test_national_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet on national numbers prints them in international format."""
    run(snippet("docs/sending.md", "american ="))
    assert capsys.readouterr().out == "+15551234888 +44 20 7946 0958\n"


def test_segments(capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet on cost names the encoding and the character that forced it."""
    run(snippet("docs/sending.md", "segments("))
    assert capsys.readouterr().out == "1 UCS-2 52\n[(5, 'û')]\n"


def test_the_sending_report(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet on reports prints the sent message, and that the report is complete."""
    run(snippet("README.md", 'text="Hello Jerry"'))
    capsys.readouterr()
    run(snippet("docs/failures.md", "client.sending_report("))
    listed, complete = capsys.readouterr().out.splitlines()
    assert " 15551234888 Hello Jerry " in listed
    assert complete.startswith("True")


def test_failures(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet on failures meets the rejection that its comment names."""
    run(snippet("README.md", "safe to send again"))
    assert capsys.readouterr().out == "E713 account\n"
    assert simulator.billed == 0


RECEIPT = (
    "<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N202</CODE>"
    "<TRACKINGID>SMS_12345</TRACKINGID></POSTBACK>"
)


STOP = (
    "<POSTBACK><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><FROM>15551234777</FROM>"
    "<TO>60856</TO><TEXT>STOP</TEXT></POSTBACK>"
)


def test_postbacks() -> None:
    """The snippet on postbacks describes a receipt."""
    assert run(snippet("docs/postbacks.md", "def describe"))["handle"](RECEIPT) == [
        "SMS_12345 is delivered, None"
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("page", ["README.md", "docs/postbacks.md"])
def test_the_receiver(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The receiver snippet opens its ledger and answers what curl posts to its URL."""
    ((path, body),) = samples(page, 8000)
    with served(run(snippet(page, "on_notification=on_notification"))["app"]) as web:
        assert post(web, path, body).status_code == 200
        assert post(web, path, b"hello").status_code == 400
        assert post(web, path + "er", body).status_code == 404
    assert capsys.readouterr().out == "15551234888 says yes please\n"


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_the_receiver_prints_a_receipt(capsys: pytest.CaptureFixture[str]) -> None:
    """The receiver snippet of the postbacks page prints a message's state."""
    names = run(snippet("docs/postbacks.md", "on_notification=on_notification"))
    with served(names["app"]) as web:
        assert web.post("/postback/a-long-secret", content=RECEIPT).status_code == 200
    assert capsys.readouterr().out == "SMS_12345 is delivered\n"


@pytest.mark.usefixtures("here")
def test_the_receiver_beside_who_sends() -> None:
    """The receiver snippet with a path hands postbacks to a ledger that is in use."""
    app = run(snippet("docs/postbacks.md", 'ledger="promo.db"'))["app"]

    async def hold() -> None:
        async with SQLiteLedger("promo.db", look_every=0.01) as ledger:
            with served(app) as web:
                url = "/postback/a-long-secret"
                answer = await anyio.to_thread.run_sync(lambda: web.post(url, content=RECEIPT))
                assert answer.status_code == 200
                for _ in range(500):
                    if (await ledger.summary()).unplaced:
                        return
                    await anyio.sleep(0.01)
        raise TimeoutError

    anyio.run(hold)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_an_export_is_read_by_pandas_and_duckdb(capsys: pytest.CaptureFixture[str]) -> None:
    """An export is read by pandas and DuckDB as the page says, with times as times."""

    async def keep() -> None:
        async with SQLiteLedger("promo.db") as ledger, SkycoreClient(ledger=ledger) as client:
            await client.send_sms(to="15551234887", text="Hello", key="none", tags=["tables"])
            for key, second in ("whole", "00"), ("parts", "00.25"):
                sent = await client.send_sms(to="15551234888", text="Hello", key=key)
                known = f"{sent.tracking_id}</TRACKINGID><TIMESTAMP>2099-01-01T00:00:{second}Z"
                receipt = RECEIPT.replace("SMS_12345</TRACKINGID>", f"{known}</TIMESTAMP>")
                await ledger.record(*parse_postback(receipt))

    with Simulator() as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKYCORE_API_KEY", "simulator-key")
        patch.setenv("SKYCORE_FROM", "60856")
        patch.setenv("SKYCORE_BASE_URL", running.url)
        anyio.run(keep)
    for kind in ("csv", "parquet"):
        given = ["export", "promo.db", "--format", kind, "-o", f"messages.{kind}"]
        assert CliRunner().invoke(skycore, given).exit_code == 0
    messages = run(snippet("docs/export.md", "import duckdb"))["messages"]
    shown = capsys.readouterr().out
    assert "accepted     1\n" in shown
    assert "('accepted', 1)" in shown
    for column in ("began", "answered", "sent_at", "ended_at"):
        assert messages[column].dt.tz is not None
    assert messages["ended_at"].count() == 2


@pytest.mark.usefixtures("here")
def test_an_export_in_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    """The export snippet prints key, time and tags of a delivered message."""

    async def keep() -> None:
        async with SQLiteLedger("service.db", clock=lambda: NOON) as ledger:
            await ledger.begin(attrs.evolve(intent("one"), tags=("tables", "spring")))
            await ledger.finish("one", accepted())
            await ledger.record(notice(DELIVERED, after=90))

    anyio.run(keep)
    run(snippet("docs/export.md", "ledger.export"))
    assert capsys.readouterr().out == "one 0:01:30 tables spring\n"


def test_tags(capsys: pytest.CaptureFixture[str]) -> None:
    """A message has its tags in the order in which they were given."""
    run(snippet("docs/sending.md", "tags="))
    assert capsys.readouterr().out == "('orders', 'spring')\n"


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_shared_list_of_opt_outs(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program that shares the list sends nothing to a number that `opt-outs add` put on it."""
    CliRunner().invoke(skycore, ["opt-outs", "add", "15551234888"])
    run(snippet("docs/postbacks.md", "share_opt_outs(ledger)"))
    assert capsys.readouterr().out.startswith("not sent: ")
    assert not simulator.messages
    CliRunner().invoke(skycore, ["opt-outs", "remove", "15551234888"])
    run(snippet("docs/postbacks.md", "share_opt_outs(ledger)"))
    assert len(simulator.messages) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_what_handsets_write(capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet on texts prints what curl posted to the receiver."""
    ((path, body),) = samples("docs/postbacks.md", 8000)
    with served(PostbackReceiver(ledger="service.db", secret="a-long-secret")) as web:
        assert post(web, path, body).status_code == 200
    run(snippet("docs/postbacks.md", "ledger.inbound()"))
    assert capsys.readouterr().out == "15551234888 says yes please\n"


def test_the_postback_for_the_command() -> None:
    """What curl posts to `skycore listen` is a delivery receipt."""
    ((path, body),) = samples("docs/postbacks.md", 8026)
    (receipt,) = parse_postback(body)
    assert (path, isinstance(receipt, DeliveryReceipt)) == ("/postback", True)


@pytest.mark.slow
def test_more_than_one_machine(
    simulator: Simulator, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PostgreSQL snippet sends its key once, also when run again."""
    monkeypatch.setenv("SKYCORE_DSN", dsn)
    run(snippet("docs/cluster.md", "PostgresLedger(DSN)"))
    run(snippet("docs/cluster.md", "PostgresLedger(DSN)"))
    assert simulator.billed == 1


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_the_ledger(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The ledger snippet sends its key once, also when run again."""
    run(snippet("README.md", 'key="welcome-4711"'))
    run(snippet("README.md", 'key="welcome-4711"'))
    assert simulator.billed == 1
    out = capsys.readouterr().out
    assert out.count("True\nDelivery(key='welcome-4711'") == 2


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_ending_doubt(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The settle snippet prints what was sent, and why the rest stays in doubt."""
    send = snippet("README.md", 'key="welcome-4711"')
    for number in ("15551232002", "15551232001"):
        run_doubtful = send.replace("15551234888", number).replace("welcome-4711", number)
        with pytest.raises(OutcomeUnknown):
            run(run_doubtful)
    capsys.readouterr()
    run(snippet("README.md", "await client.settle()"))
    assert capsys.readouterr().out.splitlines() == [
        "1 were sent, 0 were not",
        f"15551232001 stays in doubt: {OpenReason.TOO_SOON.words}",
    ]
    assert simulator.billed == 1


def test_simulator(capsys: pytest.CaptureFixture[str]) -> None:
    """The testing snippet meets a lost answer, and sees one billed message."""
    run(snippet("docs/testing.md", "print(skycore.billed)"))
    assert capsys.readouterr().out.splitlines()[-1] == "1"


@pytest.mark.slow
def test_with_pytest(tmp_path: Path) -> None:
    """The example test for users passes in a project of its own."""
    example = tmp_path / "test_reminders.py"
    example.write_text(snippet("docs/testing.md", "def test_a_reminder"), "utf-8")
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(example)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert "2 passed" in done.stdout, done.stdout


# The recipes.


@pytest.mark.slow
@pytest.mark.usefixtures("here", "in_haste")
def test_fastapi(simulator: Simulator) -> None:
    """The FastAPI service sends a notice once, reports its state and answers each failure.

    Its opt-outs are shared with campaigns in both directions.
    """
    CliRunner().invoke(skycore, ["opt-outs", "add", "15551234777"])
    with served(run(snippet("docs/fastapi.md", "FastAPI(lifespan"))["app"]) as web:

        def notify(order: str, to: str) -> tuple[int, object]:
            answer = web.put(f"/orders/{order}/notice", params={"to": to})
            return answer.status_code, answer.json().get("state", answer.json().get("detail"))

        assert web.get("/orders/17/notice").status_code == 404
        assert notify("17", "15551234888") == notify("17", "15551234888") == (200, "accepted")
        (message,) = simulator.messages
        receipt = RECEIPT.replace("SMS_12345", str(message.tracking_id))
        assert web.post("/skycore/postback/a-long-secret", content=receipt).status_code == 200
        assert web.get("/orders/17/notice").json() == {"state": "delivered"}

        assert notify("17", "15551234889")[0] == 422  # the key has another number
        assert notify("18", "15551230110") == (502, "refused: E110")
        assert notify("19", "15551232002") == (200, "in_doubt")
        assert notify("20", "15551230114") == (502, "refused: E114")
        assert notify("21", "15551230114") == (409, "the number said STOP")
        simulator.script(*[refusal("E106")] * 3)
        assert notify("22", "15551234888") == (503, "not sent; try again")
        assert notify("22", "15551234888") == (200, "accepted")

        for path, body in samples("docs/fastapi.md", 8000):
            assert post(web, path, body).text == "OK"
        assert notify("23", "15551234888") == (409, "the number said STOP")
        assert notify("24", "15551234777") == (409, "the number said STOP")
    listed = CliRunner().invoke(skycore, ["opt-outs", "list", "--show-numbers"])
    assert {"15551234777", "15551234888"} <= set(listed.stdout.split())


@pytest.mark.slow
def test_the_bulk_script(simulator: Simulator, here: Path) -> None:
    """The bulk script, killed and run again, sends once to each number not opted out."""
    numbers = [f"1555123{n}" for n in range(4800, 4815)]
    rows = "".join(f"{number},Jerry\n" for number in [*numbers, "15551230110", "15551234777"])
    CliRunner().invoke(skycore, ["opt-outs", "add", "15551234777"])
    (here / "promo.csv").write_text(f"number,name\n{rows}", "utf-8")
    (here / "bulk.py").write_text(snippet("docs/bulk.md", "promo.csv"), "utf-8")
    command = [sys.executable, "bulk.py"]
    simulator.script(Behaviour(answer=Answer.HANG))  # so that it is not at its end when killed
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as killed:  # noqa: S603 - our own
        deadline = time.monotonic() + 30
        while simulator.billed < 3 and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        killed.kill()
    assert killed.returncode != 0
    done = subprocess.run(  # noqa: S603 - our own interpreter
        command, capture_output=True, text=True, check=True, timeout=60
    )
    sent_to = [message.to for message in simulator.messages if message.taken]
    assert len(sent_to) == len(set(sent_to))
    in_doubt = re.findall(r"^may have been sent: (\d+)$", done.stdout, re.MULTILINE)
    assert sent_to[0] in in_doubt
    assert {*sent_to, *in_doubt} == set(numbers)
    assert f"{len(numbers) - len(in_doubt)} accepted\n" in done.stdout
    assert "15551230110 E110: " in done.stdout
    assert "1 rejected\n" in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("here", "in_haste")
def test_the_worker(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The queue worker sends a repeated job once, and handles each failure."""
    names = run(snippet("docs/queue-worker.md", "create_memory_object_stream"))
    assert sorted(message.text for message in simulator.messages) == [
        "order-1 is ready",
        "order-2 is ready",
    ]

    async def is_done(*numbers: str) -> list[bool]:
        async with (
            names["SQLiteLedger"]("worker.db") as ledger,
            SkycoreClient(ledger=ledger) as client,
        ):
            await ledger.opt_out("15551234777")
            return [
                await names["is_done"](names["Job"](f"to {number}", number, "Hello"), client)
                for number in numbers
            ]

    capsys.readouterr()
    assert all(anyio.run(is_done, "15551232002", "15551234777", "15551230110", "none"))
    said = [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()]
    assert said == [
        "to 15551232002 in doubt",
        "to 15551234777 dropped",
        "to 15551230110 refused until it is mended",
        "to none to be mended",
    ]
    with pytest.raises(names["Rejected"], match="E713"):
        anyio.run(is_done, "15551230713")
    simulator.script(*[refusal("E106")] * 3)
    assert anyio.run(is_done, "15551234888") == [False]
    assert anyio.run(is_done, "15551234888") == [True]


def test_sync(
    simulator: Simulator,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The module of the sync page sends one message and then many for its importers."""
    (here / "notices.py").write_text(snippet("docs/sync.md", "async def opened"))
    monkeypatch.syspath_prepend(here)
    CliRunner().invoke(skycore, ["opt-outs", "add", "15551234777"])
    client = run(snippet("docs/sync.md", "from notices import skycore"))["skycore"]
    monkeypatch.delitem(sys.modules, "notices")
    with pytest.raises(RecipientOptedOut):
        client.send_sms(to="15551234777", text="Order 78 is ready", key="order-78")
    client.close()
    first, *reminders = capsys.readouterr().out.splitlines()
    assert first == simulator.messages[0].tracking_id
    assert sorted(reminders) == [f"reminder-{n} True" for n in range(3)]
    assert simulator.billed == 4


def test_trio(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet on trio sends both messages."""
    run(snippet("docs/sending.md", "trio.run(main)"))
    sent = sorted(str(message.tracking_id) for message in simulator.messages)
    assert sorted(capsys.readouterr().out.split()) == sent
    assert len(sent) == 2


def shell(page: str, about: str, folder: Path) -> None:
    """Run the block of a page that contains these words in a shell."""
    (text,) = (block for block in blocks(page, "console") if about in block)
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    sqlite = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute(sys.argv[2])"
    for name, arguments in (("sqlite3", f"-c '{sqlite}'"), ("skycore", "-m skycore_async.cli")):
        program = programs / name  # which not every machine has installed
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n', "utf-8")
        program.chmod(0o700)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", "-euc", text], check=True, cwd=folder, env=environment, timeout=60)  # noqa: S603, S607


@pytest.mark.slow
def test_a_ledger_is_backed_up_and_put_back(simulator: Simulator, here: Path) -> None:
    """The backup lines copy an open ledger, and restore it after its loss."""

    async def send(*keys: str) -> int:
        async with SQLiteLedger("service.db") as ledger, SkycoreClient(ledger=ledger) as client:
            for key in keys:
                await client.send_sms(to="15551234888", text="Hello", key=key)
            if "before" in keys:
                shell("docs/deployment.md", "VACUUM INTO", here)
            if "after" in keys:
                async with PostbackInbox("service.db", look_every=60) as inbox:
                    await inbox.record(*parse_postback(STOP))
                (here / "kept").write_bytes((here / "service.db-inbox").read_bytes())
            return (await ledger.summary()).total

    async def opted_out() -> bool:
        async with SQLiteLedger("service.db") as ledger:
            return await ledger.is_opted_out("15551234777")

    anyio.run(send, "before")
    assert (here / "backup.db").stat().st_mode & 0o077 == 0
    assert anyio.run(send, "after") == 2
    (here / "service.db").write_bytes(b"lost")
    (here / "kept").replace(here / "service.db-inbox")  # as where nobody took it in
    shell("docs/deployment.md", "mv service.db*", here)
    assert anyio.run(send) == 1
    assert simulator.billed == 2
    assert anyio.run(opted_out) is True


def test_one_message(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """The snippet on one message prints its tracking id."""
    run(snippet("docs/sending.md", "Your table is ready"))
    (message,) = simulator.messages
    assert capsys.readouterr().out.split() == [message.tracking_id]


# What is named.

TYPED = [(page, words) for page in PAGES for words in typed(page) if words[0] == "skycore"]


def test_every_command_is_listed_and_there() -> None:
    """The command line page lists exactly the commands that exist."""
    listed = {words[1] for page, words in TYPED if page == "docs/command-line.md"}
    assert listed == set(COMMANDS)


@pytest.mark.parametrize(
    ("page", "words"), TYPED, ids=[f"{page}: {' '.join(words)}" for page, words in TYPED]
)
def test_what_is_typed_is_understood(page: str, words: list[str]) -> None:
    """Each shell line of a page has a known command, known options and enough arguments."""
    assert page in PAGES
    command: click.Command = skycore
    rest = words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"there is no command {rest[0]!r}"
        command, rest = found, rest[1:]
    parser = command.make_parser(click.Context(command))
    _given, left, _order = parser.parse_args(list(rest))
    assert left == []


def test_the_version_is_the_same_everywhere() -> None:
    """The package and its metadata name the same version."""
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text("utf-8")
