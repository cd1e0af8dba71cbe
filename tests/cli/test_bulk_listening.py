"""`skycore bulk --listen`: postbacks into the ledger of the sending process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import anyio
import anyio.to_thread
import click
import pytest
from click.testing import CliRunner, Result

from skycore_async import LedgerError, MemoryLedger, Summary
from skycore_async.cli.bulk import awaited_receipts
from skycore_async.cli.bulk.listening import Listening
from skycore_async.cli.bulk.progress import BulkCounters
from skycore_async.cli.commands.bulk import bulk
from skycore_async.cli.ui.output import Exit
from skycore_async.cli.ui.postback_url import Address
from skycore_async.ledger.sqlite.ledger import SQLiteLedger
from skycore_async.ledger.sqlite.opt_out_list import OptOutList
from skycore_async.ledger.sqlite.opt_out_sharing import sharing_at_once
from skycore_async.simulator import API_KEY, Simulator
from tests.cli.test_listen import INBOUND, post
from tests.support.cli_program import program

NEVER = "15551231004"  # sent, and no receipt ever
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture
def port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of its own, with key and sender, and poll often."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKYCORE_API_KEY", API_KEY)
    monkeypatch.setenv("SKYCORE_FROM", "60856")
    monkeypatch.setattr(awaited_receipts, "_LOOK_EVERY", 0.02)


@pytest.fixture
def simulator(
    surroundings: None, port: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Simulator]:
    """Run a simulator at the base URL that posts to the port."""
    with Simulator(postback_url=f"http://127.0.0.1:{port}/postback") as running:
        monkeypatch.setenv("SKYCORE_BASE_URL", running.url)
        yield running


class _Unreadable(MemoryLedger):
    """A ledger that was moved away."""

    async def summary(self) -> NoReturn:
        raise LedgerError("it was moved away")


def test_a_ledger_that_cannot_be_asked_ends_no_run() -> None:
    """A ledger that cannot be queried for awaited receipts does not end the run."""
    counters = BulkCounters(total=1)

    async def wait() -> None:
        await awaited_receipts.wait_for_receipts(
            _Unreadable(), counters, seconds=0, give_end=lambda _: None
        )
        with anyio.move_on_after(0):
            await awaited_receipts.count_awaited(_Unreadable(), counters)

    anyio.run(wait)
    assert counters.awaited is None


def write(*numbers: str) -> None:
    Path("promo.csv").write_text("to\n" + "".join(f"{number}\n" for number in numbers))


def words(*arguments: object) -> list[str]:
    return ["promo.csv", "--text", "Hi", "--yes", *map(str, arguments)]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(bulk, words(*arguments))


def summary() -> Summary:
    async def ask() -> Summary:
        async with SQLiteLedger("promo.db") as ledger:
            return await ledger.summary()

    return anyio.run(ask)


@pytest.mark.slow
def test_listening_ends_when_every_receipt_has_come(simulator: Simulator, port: int) -> None:
    """The command ends when every receipt has come, and the ledger has them."""
    write(*(f"1555123{number}" for number in range(3000, 3030)))
    done = run("--listen", port)
    assert done.exit_code == Exit.DONE, done.output
    assert f"Postbacks to http://127.0.0.1:{port}/postback go to promo.db.\n" in done.stderr
    assert summary().states == {"delivered": 30}
    assert "awaited" not in done.stdout


@pytest.mark.slow
@needs_signals
def test_a_second_signal_is_heard_while_all_is_closed(port: int) -> None:
    """A second Ctrl-C ends the command while it waits for an unfinished postback."""
    write("15551233000")
    head = ("POST /postback HTTP/1.1", "Host: x", "Content-Length: 9", "Expect: 100-continue")
    start = ("--start", "2100-01-01T00:00", "--listen", str(port))
    with program("bulk", *words(*start)) as sending:
        assert sending.stderr is not None
        while "Postbacks to" not in sending.stderr.readline():
            assert sending.poll() is None
        with socket.create_connection(("127.0.0.1", port)) as unfinished:
            unfinished.sendall("\r\n".join((*head, "", "")).encode())
            assert unfinished.recv(100).startswith(b"HTTP/1.1 100")
            sending.send_signal(signal.SIGINT)
            with suppress(ConnectionError):
                while True:  # until it takes no more
                    socket.create_connection(("127.0.0.1", port)).close()
            sending.send_signal(signal.SIGINT)
            assert sending.wait(3) == Exit.INTERRUPTED
        said = sending.stderr.read()
    assert "Left at once: of what was in flight, 0 at most are in doubt." in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_missing_receipt_is_waited_for_until_the_timeout(
    simulator: Simulator, port: int
) -> None:
    """Receipts are awaited for --listen-for, and those missing are counted."""
    write("15551233000", NEVER)
    done = run("--listen", f"127.0.0.1:{port}", "--listen-for", 0.3)
    assert done.exit_code == Exit.DONE, done.output
    assert "awaited       1 (receipts that have not come)\n" in done.stdout
    assert "1 receipt not here yet; not every carrier sends one." in done.stderr
    assert "`skycore listen --ledger promo.db`" in done.stderr
    again = run("--listen", port, "--listen-for", 0, "--json")
    told = json.loads(again.stdout)
    assert (told["already_done"], told["receipts_awaited"]) == (2, 1)


@pytest.mark.slow
def test_without_it_nothing_is_said_of_receipts(simulator: Simulator) -> None:
    """Without --listen receipts are not mentioned."""
    write("15551233000")
    done = run("--json")
    assert json.loads(done.stdout)["receipts_awaited"] is None
    assert "ostbacks to" not in done.stderr


def sending(port: int, *options: object) -> list[str]:
    return ["bulk", *words("--listen", port, *options)]


def lines_of(process: subprocess.Popen[str], having: str) -> list[str]:
    """Return the lines of standard error up to one that contains these words."""
    assert process.stderr is not None
    found: list[str] = []
    while not found or having not in found[-1]:
        found.append(process.stderr.readline())
        assert found[-1], found
    return found


@pytest.mark.slow
def test_ctrl_c_ends_the_waiting(simulator: Simulator, port: int) -> None:
    """Ctrl-C while waiting for receipts ends with exit code 0."""
    write("15551233000", NEVER)
    with program(*sending(port)) as process:
        said = lines_of(process, "listening 0:0")[-1]
        assert "2/2  accepted 2  receipts awaited 1  listening 0:09:5" in said
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode == Exit.DONE
    assert "awaited       1 (" in out
    assert "Stopping" not in err


@pytest.mark.slow
def test_a_stopped_bulk_send_waits_for_no_receipts(simulator: Simulator, port: int) -> None:
    """Ctrl-C while sending does not wait for receipts."""
    write(*(f"1555123{number}" for number in range(3000, 3030)))
    with program(*sending(port, "--rate", 5)) as process:
        lines_of(process, "receipts awaited")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=10)
    assert process.returncode == Exit.INTERRUPTED
    assert "listening" not in out


@pytest.mark.slow
def test_a_stop_in_the_middle_is_heeded(
    simulator: Simulator, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A STOP that comes during the run keeps its number from being sent to."""
    monkeypatch.setenv("SKYCORE_POSTBACK_SECRET", "a-long-word")
    write(*(f"1555123{number}" for number in range(3000, 3010)), "15551234888")
    url = f"http://127.0.0.1:{port}/postback"
    with program(*sending(port, "--rate", 8, "--listen-for", 0)) as process:
        assert f"{url}/$SKYCORE_POSTBACK_SECRET" in lines_of(process, "ostbacks to")[-1]
        text = INBOUND.replace("my secret words", "STOP").replace(", from 5551234888", "")
        assert [post(url, text), post(f"{url}/a-long-word", text)] == [404, 200]
        out, _ = process.communicate(timeout=15)
    assert "opted out     1 (not sent to before they say START)\n" in out
    assert "15551234888" not in {message.to for message in simulator.messages}


@pytest.mark.slow
def test_a_postback_that_cannot_be_recorded_is_posted_again(
    simulator: Simulator, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A postback that cannot be recorded is answered with 500, and sending goes on."""
    record, refused = SQLiteLedger.record, threading.Event()

    async def fail_once(self: SQLiteLedger, *notifications: object) -> None:
        if not refused.is_set():
            refused.set()
            raise OSError
        await record(self, *notifications)  # type: ignore[arg-type]

    monkeypatch.setattr(SQLiteLedger, "record", fail_once)
    write("15551233000")
    assert run("--listen", port).exit_code == Exit.DONE
    assert refused.is_set()
    assert {attempt.status for attempt in simulator.postbacks} == {500, 200}
    assert summary().states == {"delivered": 1}


def taken_in(port: int, shared: OptOutList, *texts: str, breaks: bool = False) -> int:
    """Return the status that a postback with these texts gets; nobody else polls the list."""
    each = (
        INBOUND.replace("my secret words, from 5551234888", text).replace('"7"', f'"{n}"')
        for n, text in enumerate(texts)
    )
    url, body = f"http://127.0.0.1:{port}/postback", f"<POSTBACK>{''.join(each)}</POSTBACK>"
    listening = Listening(host="127.0.0.1", port=port, seconds=0)

    async def never(_seconds: float) -> None:
        await anyio.sleep_forever()

    async def take_in() -> int:
        async with (
            SQLiteLedger("promo.db") as ledger,
            sharing_at_once(ledger, shared, name="promo.db", sleep=never) as telling,
            listening.receiving(ledger, telling, name="promo.db"),
        ):
            if breaks:
                shared.path.write_bytes(b"none")
            answer = await anyio.to_thread.run_sync(post, url, body)
            if not breaks:
                heard.extend(word.number for word in shared.opted_out())
            return answer

    heard: list[str] = []
    answer = anyio.run(take_in)
    assert heard == ([] if breaks or texts[-1] == "START" else ["15551234888"])
    return answer


@pytest.mark.parametrize("texts", [("STOP",), ("STOP", "START"), ("START", "STOP")])
def test_a_stop_that_is_answered_with_200_is_on_the_list(
    texts: tuple[str, ...], port: int, tmp_path: Path
) -> None:
    """A STOP answered with 200 is on the shared list of opt-outs."""
    shared = OptOutList(tmp_path / "opt-outs.db")
    assert taken_in(port, shared, *texts) == 200
    assert summary().opted_out == shared.count() == (texts[-1] == "STOP")


def test_a_stop_that_the_list_cannot_be_told_is_posted_again(port: int, tmp_path: Path) -> None:
    """A STOP that the shared list cannot take is answered with 500."""
    assert taken_in(port, OptOutList(tmp_path / "opt-outs.db"), "STOP", breaks=True) == 500
    assert summary().opted_out == 1


# What ends it before anything is sent.


def test_an_address_in_use_is_reported_before_sending(simulator: Simulator) -> None:
    """An address in use is an error before the file is read."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run("--listen", port)
    assert done.exit_code == Exit.USAGE
    assert f"skycore: cannot listen on 127.0.0.1, port {port}: Address already" in done.stderr
    assert done.stderr.endswith("; choose another with --listen\n")
    assert simulator.billed == 0


@pytest.mark.parametrize("secret", ["", "/"])
def test_an_empty_postback_secret_is_refused(
    secret: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty postback secret is refused."""
    monkeypatch.setenv("SKYCORE_POSTBACK_SECRET", secret)
    done = run("--listen", port)
    assert done.exit_code == Exit.USAGE
    assert done.stderr.startswith("skycore: SKYCORE_POSTBACK_SECRET")


@pytest.mark.slow
def test_an_address_that_others_reach_is_warned_of(simulator: Simulator, port: int) -> None:
    """Listening for others without a secret gives a warning."""
    write("15551233000")
    done = run("--listen", f"0.0.0.0:{port}", "--listen-for", 0)
    assert "Anyone who can reach it can post: set SKYCORE_POSTBACK_SECRET" in done.stderr


def test_workers_do_not_listen() -> None:
    """--listen with --cluster is refused with advice."""
    done = run("--listen", "8026", "--cluster", "postgresql://me@db/sms")
    assert done.exit_code == Exit.USAGE
    assert "--cluster goes without --listen: `skycore listen --ledger DSN`" in done.stderr


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("8026", ("127.0.0.1", 8026)),
        (":0", ("127.0.0.1", 0)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),  # noqa: S104
        ("[::1]:8026", ("::1", 8026)),
        (("10.0.0.7", 1), ("10.0.0.7", 1)),
    ],
)
def test_an_address_is_a_port_or_a_host_and_a_port(
    given: object, address: tuple[str, int]
) -> None:
    """An address is a port, or host and port; the default host is this machine."""
    assert Address().convert(given, None, None) == address


@pytest.mark.parametrize("given", ["", "localhost", "65536", "x:", "8026:", "-1", "²"])
def test_what_is_no_address_is_refused(given: str) -> None:
    """A bad address is refused with an example."""
    with pytest.raises(click.BadParameter, match=r"is no \[HOST:\]PORT, such as 8026"):
        Address().convert(given, None, None)
