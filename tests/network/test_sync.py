"""SyncClient over real sockets: threads, forks, interruptions and the end of a program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from skycore_async import (
    SMS,
    Accepted,
    Failed,
    InvalidMessage,
    MessageState,
    Outcome,
    OutcomeUnknown,
    Rejected,
    SkycoreClient,
    SQLiteLedger,
    SyncClient,
)
from skycore_async.simulator import API_KEY, Simulator

TO = "15551234888"


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


def client_of(simulator: Simulator) -> partial[SkycoreClient]:
    return partial(SkycoreClient, api_key=API_KEY, from_="60856", base_url=simulator.url)


@pytest.fixture
def skycore(simulator: Simulator) -> Iterator[SyncClient]:
    with SyncClient(client_of(simulator)) as client:
        yield client


def background_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "skycore_async"]


def test_one_message_is_sent_and_its_outcome_returned(
    skycore: SyncClient, simulator: Simulator
) -> None:
    """`send_sms` returns the provider's answer, and one message is billed."""
    sent = skycore.send_sms(to=TO, text="Hello Jerry")
    assert isinstance(sent, Accepted)
    assert [message.tracking_id for message in simulator.messages] == [sent.tracking_id]


@pytest.mark.parametrize(
    ("to", "error"),
    [("15551230110", Rejected), ("15551232001", OutcomeUnknown), ("not a number", InvalidMessage)],
)
def test_its_errors_are_those_of_the_client(
    skycore: SyncClient, to: str, error: type[Exception]
) -> None:
    """SyncClient raises the same errors as SkycoreClient."""
    with pytest.raises(error):
        skycore.send_sms(to=to, text="Hello")


def test_a_client_made_at_import_opens_nothing(simulator: Simulator) -> None:
    """A SyncClient starts its thread at the first call, and ends it when closed."""
    before = len(background_threads())
    client = SyncClient(client_of(simulator))
    assert len(background_threads()) == before
    client.send_sms(to=TO, text="Hello")
    assert len(background_threads()) == before + 1
    client.close()
    assert len(background_threads()) == before
    client.close()
    with pytest.raises(RuntimeError, match="this SyncClient is closed"):
        client.send_sms(to=TO, text="Hello")


def test_one_that_was_never_used_is_closed(simulator: Simulator) -> None:
    """A SyncClient that was never used closes without error."""
    with SyncClient(client_of(simulator)):
        pass


@pytest.mark.slow
def test_many_threads_share_one_client(skycore: SyncClient, simulator: Simulator) -> None:
    """Calls of many threads go over one client, made once."""
    before = len(background_threads())
    send = partial(skycore.send_sms, to=TO)
    with ThreadPoolExecutor(8) as threads:
        sent = list(threads.map(lambda n: send(text=f"Hello {n}"), range(40)))
    assert len({each.tracking_id for each in sent}) == 40
    assert len(background_threads()) == before + 1
    assert simulator.billed == 40


def test_a_client_that_cannot_be_made_is_an_error_each_time() -> None:
    """If the client cannot be made, each call raises that error, and no thread is left."""
    before = len(background_threads())
    client = SyncClient(partial(SkycoreClient, api_key=API_KEY, timeout=-1))
    for _ in range(2):
        with pytest.raises(ValueError, match="timeout"):
            client.send_sms(to=TO, text="Hello")
    client.close()
    assert len(background_threads()) == before


class TestMany:
    """`send_many`, whose messages are read in the caller's thread."""

    @pytest.mark.slow
    def test_outcomes_come_as_they_complete(
        self, skycore: SyncClient, simulator: Simulator
    ) -> None:
        """Each message of a bulk has one outcome, accepted or failed."""
        numbers = [TO, "15551230110", "15551239000"] * 40
        with skycore.send_many(SMS(to=to, text="Hello") for to in numbers) as outcomes:
            came = list(outcomes)
        assert sum(1 for each in came if isinstance(each, Failed)) == 40
        assert len(came) == 120
        assert simulator.billed == 80

    @pytest.mark.slow
    def test_the_source_is_read_in_the_callers_thread(self, skycore: SyncClient) -> None:
        """The source of a bulk is read in the caller's thread."""
        read_in: set[int] = set()

        def messages() -> Iterator[SMS]:
            for n in range(100):
                read_in.add(threading.get_ident())
                yield SMS(to=TO, text=f"Hello {n}")

        with skycore.send_many(messages()) as outcomes:
            assert sum(1 for _ in outcomes) == 100
        assert read_in == {threading.get_ident()}

    def test_what_the_source_raises_comes_after_the_outcomes(self, skycore: SyncClient) -> None:
        """A source's error is raised after the outcomes of the messages before."""

        def messages() -> Iterator[SMS]:
            yield SMS(to=TO, text="Hello")
            raise LookupError("the database is gone")

        came: list[Outcome] = []
        gone = pytest.raises(LookupError, match="the database is gone")
        with gone, skycore.send_many(messages()) as outcomes:
            came.extend(outcomes)  # takes each as it comes, those before an error too
        assert [type(outcome) for outcome in came] == [Accepted]

    def test_what_is_no_message_is_an_error_and_no_end(
        self, skycore: SyncClient, simulator: Simulator
    ) -> None:
        """A None in the source raises TypeError, and is not taken for the end."""
        messages: list[Any] = [SMS(to=TO, text="Hello"), None, SMS(to=TO, text="Goodbye")]
        with (
            pytest.raises(TypeError, match="got a NoneType"),
            skycore.send_many(messages) as outcomes,
        ):
            list(outcomes)
        assert simulator.billed == 1

    def test_leaving_early_starts_nothing_more(
        self, skycore: SyncClient, simulator: Simulator
    ) -> None:
        """Leaving a bulk reads no more of an endless source."""

        def messages() -> Iterator[SMS]:
            while True:
                yield SMS(to=TO, text="Hello")

        with skycore.send_many(messages()) as outcomes:
            next(outcomes)
        billed = simulator.billed
        assert 0 < billed < 1000
        skycore.send_sms(to=TO, text="Hello")
        assert simulator.billed == billed + 1

    def test_an_interruption_while_the_source_is_read_leaves_the_loop(
        self, skycore: SyncClient, simulator: Simulator
    ) -> None:
        """KeyboardInterrupt in the source ends the bulk, and the client goes on."""

        def messages() -> Iterator[SMS]:
            yield SMS(to=TO, text="Hello")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), skycore.send_many(messages()) as outcomes:
            list(outcomes)
        skycore.send_sms(to=TO, text="Hello")
        assert simulator.billed in {1, 2}


def test_a_ledger_is_opened_with_the_client(simulator: Simulator, tmp_path: Path) -> None:
    """A context manager may open client and ledger together."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[SkycoreClient]:
        async with (
            SQLiteLedger(tmp_path / "sent.db") as ledger,
            client_of(simulator)(ledger=ledger) as client,
        ):
            ledgers.append(ledger)
            yield client

    ledgers: list[SQLiteLedger] = []
    with SyncClient(opened) as skycore:
        for _ in range(2):
            skycore.send_sms(to=TO, text="Hello", key="order-1")
        delivery = skycore.run(lambda _: ledgers[0].delivery(key="order-1"))
    assert delivery is not None
    assert delivery.state is MessageState.ACCEPTED
    assert simulator.billed == 1


def run_program(tmp_path: Path, simulator: Simulator, text: str) -> str:
    """Run a program with all warnings as errors, and return its output."""
    program = tmp_path / "program.py"
    program.write_text(text)
    environment = os.environ | {
        "SKYCORE_API_KEY": API_KEY,
        "SKYCORE_FROM": "60856",
        "SKYCORE_BASE_URL": simulator.url,
    }
    ran = subprocess.run(  # noqa: S603 - it is ours
        [sys.executable, "-W", "error", str(program)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.returncode == 0
    return ran.stdout


@pytest.mark.slow
def test_a_program_ends_without_closing(simulator: Simulator, tmp_path: Path) -> None:
    """A client that nobody closed is closed with its ledger at the program's end."""
    program = """
from contextlib import asynccontextmanager
from skycore_async import SkycoreClient, SQLiteLedger, SyncClient

@asynccontextmanager
async def opened():
    async with SQLiteLedger("sent.db") as ledger, SkycoreClient(ledger=ledger) as client:
        yield client
    print("closed")

skycore = SyncClient(opened)
skycore.send_sms(to="15551234888", text="Hello", key="order-1")
print("sent")
"""
    assert run_program(tmp_path, simulator, program) == "sent\nclosed\n"
    assert run_program(tmp_path, simulator, program) == "sent\nclosed\n"
    assert simulator.billed == 1


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_process_has_a_client_of_its_own(simulator: Simulator, tmp_path: Path) -> None:
    """A parent and its forked children each send by a client of their own."""
    program = """
import os, threading, warnings
from skycore_async import SkycoreClient, SyncClient

warnings.filterwarnings("ignore", category=DeprecationWarning)  # a fork beside a thread
skycore = SyncClient(SkycoreClient)
skycore.send_sms(to="15551234888", text="parent")
with skycore._changing:  # as if another thread were just beginning
    children = [os.fork() for _ in range(1)]
    if 0 in children:
        skycore.send_sms(to="15551234888", text="child")
        skycore.close()
        os._exit(7)
skycore.send_sms(to="15551234888", text="parent again")
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""
    assert run_program(tmp_path, simulator, program) == "[7]\n"
    assert sorted(message.text for message in simulator.messages) == [
        "child",
        "parent",
        "parent again",
    ]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_process_that_has_the_id_of_one_before_sends(
    simulator: Simulator, tmp_path: Path
) -> None:
    """A forked process sends even if its process id was used before."""
    program = """
import os, warnings
from skycore_async import SkycoreClient, SyncClient

warnings.filterwarnings("ignore", category=DeprecationWarning)  # a fork beside a thread
skycore = SyncClient(SkycoreClient)
skycore.send_sms(to="15551234888", text="first")
first = os.getpid()
if not (child := os.fork()):
    os.getpid = lambda: first
    skycore.send_sms(to="15551234888", text="of the same id")
    skycore.close()
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_program(tmp_path, simulator, program) == "7\n"
    assert [message.text for message in simulator.messages] == ["first", "of the same id"]


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["httpx", "fast"])
def test_what_it_sends_with_is_loaded_where_it_is_made(
    simulator: Simulator, tmp_path: Path, transport: str
) -> None:
    """Making a SyncClient imports all that sending needs, so that a fork cannot deadlock."""
    program = f"""
import sys
from contextlib import asynccontextmanager
from skycore_async import SMS, SkycoreClient, SQLiteLedger, SyncClient

@asynccontextmanager
async def opened():
    async with SQLiteLedger("sent.db") as ledger:
        async with SkycoreClient(ledger=ledger, transport={transport!r}) as client:
            yield client

skycore = SyncClient(opened)
before = set(sys.modules)
skycore.send_sms(to="15551234888", text="Hello", key="order-1")
with skycore.send_many([SMS(to="15551234888", text="Hello", key="order-2")]) as outcomes:
    list(outcomes)
heavy = ("skycore_async", "httpx", "httpcore", "h11", "xmltodict", "sqlite3")
print([name for name in sys.modules.keys() - before if name.startswith(heavy)])
"""
    assert run_program(tmp_path, simulator, program) == "[]\n"


@pytest.mark.slow
@pytest.mark.parametrize("collected", ["by nobody", "in the event loop"])
def test_a_bulk_that_is_never_left_keeps_no_program_alive(
    simulator: Simulator, tmp_path: Path, collected: str
) -> None:
    """A bulk that is never left does not keep the program alive, however it is collected."""
    program = f"""
import gc
from skycore_async import SMS, SkycoreClient, SyncClient

skycore = SyncClient(SkycoreClient)

def outcomes():
    with skycore.send_many([SMS(to="15551234888", text=str(n)) for n in range(9)]) as found:
        yield from found

left = outcomes()
next(left)
if {collected!r} == "in the event loop":
    async def collect(client):
        gc.collect()

    left = [left]
    left.append(left)
    del left
    skycore.run(collect)
print("ends")
"""
    assert run_program(tmp_path, simulator, program) == "ends\n"
    assert simulator.billed >= 1


@pytest.mark.slow
def test_a_client_is_closed_while_its_messages_are_sent(simulator: Simulator) -> None:
    """Closing during a bulk waits for messages in flight, and the loop gets RuntimeError."""
    with SyncClient(client_of(simulator)) as skycore:
        given = iter([SMS(to="15551234888", text=str(n)) for n in range(1000)])
        with skycore.send_many(given) as outcomes:
            assert isinstance(next(outcomes), Accepted)
            skycore.close()
            with pytest.raises(RuntimeError, match="this SyncClient is closed"):
                next(outcomes)
    assert simulator.billed == 1000 - len(list(given))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no thread can be signalled here")
@pytest.mark.parametrize("then", ["close", "close and exit", "send"])
def test_a_signal_handler_may_come_while_the_client_is_made(
    simulator: Simulator, tmp_path: Path, then: str
) -> None:
    """A signal handler that closes or sends while the client is being made does not hang."""
    program = f"""
import signal, sys, threading
from contextlib import asynccontextmanager
import anyio
from skycore_async import SkycoreClient, SyncClient

handled = threading.Event()

@asynccontextmanager
async def made():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
    await anyio.to_thread.run_sync(handled.wait, abandon_on_cancel=True)
    async with SkycoreClient() as client:
        yield client

skycore = SyncClient(made)

def end(*_):
    if {then!r} == "send":
        try:
            skycore.send_sms(to="15551234888", text="this program ends")
        except RuntimeError as error:
            print(error)
    else:
        skycore.close()
    handled.set()
    if {then!r} == "close and exit":
        sys.exit("ended")

signal.signal(signal.SIGTERM, end)
try:
    skycore.send_sms(to="15551234888", text="Hello")
except (RuntimeError, SystemExit) as error:
    print(error)
"""
    said = {
        "close": "this SyncClient is closed\n",
        "close and exit": "ended\n",
        "send": "this SyncClient is just being made, and cannot be used before\n",
    }
    assert run_program(tmp_path, simulator, program) == said[then]
    assert simulator.billed == (1 if then == "send" else 0)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_process_that_is_forked_between_two_outcomes_goes_on_by_itself(
    simulator: Simulator, tmp_path: Path
) -> None:
    """A child forked during a bulk gets an error for the parent's bulk and goes on."""
    program = """
import os, sys, warnings
from skycore_async import SMS, SkycoreClient, SyncClient

warnings.filterwarnings("ignore", category=DeprecationWarning)  # a fork beside a thread
skycore = SyncClient(SkycoreClient)
messages = [SMS(to="15551234888", text=str(n)) for n in range(9)]
try:
    with skycore.send_many(messages) as outcomes:
        next(outcomes)
        if not (child := os.fork()):
            next(outcomes)
        left = len(list(outcomes))
except RuntimeError as error:
    print(error, flush=True)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), left)
"""
    said = run_program(tmp_path, simulator, program)
    assert said == "these messages are sent in the process that forked this one\n7 8\n"
    assert simulator.billed == 9


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize("made", ["httpx.HttpxTransport()", "direct.DirectTransport()"])
def test_a_forked_process_uses_no_connection_of_its_parents(
    simulator: Simulator, tmp_path: Path, made: str
) -> None:
    """A forked child that uses its parent's transport gets an error."""
    program = f"""
import asyncio, os
from skycore_async import SkycoreClient
from skycore_async.transports import direct, httpx

def send(client, text):
    try:
        loop.run_until_complete(client.send_sms(to="15551234888", text=text))
    except RuntimeError as error:
        print(error, flush=True)

loop = asyncio.new_event_loop()
transport = {made}
client = SkycoreClient(transport=transport)
send(client, "parent")
if not (child := os.fork()):
    send(client, "child")
    send(over_the_parents := SkycoreClient(transport=transport), "child, by another client")
    send(its_own := SkycoreClient(), "child, over a transport of its own")
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
send(client, "parent again")
loop.run_until_complete(client.aclose())
loop.close()
"""
    said = run_program(tmp_path, simulator, program).splitlines()
    assert "this client belongs to another event loop" in said[0]
    assert "this transport belongs to another event loop" in said[1]
    assert all("or to the process that forked this one" in each for each in said[:2])
    assert said[2:] == ["0"]
    assert [message.text for message in simulator.messages] == [
        "parent",
        "child, over a transport of its own",
        "parent again",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_sends(simulator: Simulator, tmp_path: Path, method: str) -> None:
    """A SyncClient made at import sends in each process of a pool."""
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("there are no forks here")
    program = f"""
import multiprocessing, warnings
from skycore_async import SkycoreClient, SyncClient

warnings.filterwarnings("ignore", category=DeprecationWarning)  # a fork beside a thread
skycore = SyncClient(SkycoreClient)

def send(n):
    return skycore.send_sms(to="15551234888", text=f"Hello {{n}}").tracking_id

if __name__ == "__main__":
    send(0)
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        print(len(set(pool.map(send, range(1, 11)))))
"""
    assert run_program(tmp_path, simulator, program) == "10\n"
    assert simulator.billed == 11


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_ctrl_c_leaves_the_message_in_doubt(simulator: Simulator, tmp_path: Path) -> None:
    """A message interrupted while waiting for its answer is in doubt in the ledger."""
    program = """
import os, signal, threading
from contextlib import asynccontextmanager
from skycore_async import SkycoreClient, SQLiteLedger, SyncClient

@asynccontextmanager
async def opened():
    async with SQLiteLedger("sent.db") as ledger, SkycoreClient(ledger=ledger, timeout=3) as one:
        yield one

skycore = SyncClient(opened)
skycore.send_sms(to="15551234888", text="Hello", key="order-1")
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    skycore.send_sms(to="15551232004", text="Hello", key="order-2")
except KeyboardInterrupt:
    print("interrupted")
skycore.close()

async def state():
    async with SQLiteLedger("sent.db") as ledger:
        print((await ledger.delivery(key="order-2")).state.value)

import asyncio
asyncio.run(state())
"""
    assert run_program(tmp_path, simulator, program) == "interrupted\nin_doubt\n"


def test_a_call_from_the_clients_own_event_loop_is_an_error(skycore: SyncClient) -> None:
    """A call from the SyncClient's own event loop raises RuntimeError."""

    async def call(_: SkycoreClient) -> None:
        skycore.send_sms(to=TO, text="Hello")

    with pytest.raises(RuntimeError, match="event loop of the SyncClient, which would wait"):
        skycore.run(call)


def test_what_makes_its_client_cannot_use_it(simulator: Simulator) -> None:
    """Code that makes the client cannot use the SyncClient: RuntimeError, and no hang."""
    uses: list[Callable[[SyncClient], object]] = [
        partial(SyncClient.send_sms, to=TO, text="Hello"),
        SyncClient.close,
    ]

    def make() -> SkycoreClient:
        for use in uses:
            use(itself)
        return client_of(simulator)()

    with SyncClient(make) as itself:
        while uses:
            with pytest.raises(
                RuntimeError, match="event loop of the SyncClient, which would wait"
            ):
                itself.send_sms(to=TO, text="Hello")
            assert background_threads() == []
            uses.pop(0)
        itself.send_sms(to=TO, text="Hello")
    assert simulator.billed == 1


def test_a_client_cannot_be_closed_by_its_own_handler(
    skycore: SyncClient, simulator: Simulator
) -> None:
    """Closing a SyncClient from its own event loop raises RuntimeError and closes nothing."""

    async def close(_: SkycoreClient) -> None:
        skycore.close()

    with pytest.raises(RuntimeError, match="close it in another thread"):
        skycore.run(close)
    skycore.send_sms(to=TO, text="Hello")
    skycore.close()
    assert simulator.billed == 1
    assert background_threads() == []


def test_an_exit_within_run_is_its_callers(skycore: SyncClient, simulator: Simulator) -> None:
    """`sys.exit()` within `run` is raised to the caller, and the event loop goes on."""

    async def leave(_: SkycoreClient) -> None:
        sys.exit(3)

    with pytest.raises(SystemExit) as caught:
        skycore.run(leave)
    assert caught.value.code == 3
    skycore.send_sms(to=TO, text="Hello")
    assert simulator.billed == 1
