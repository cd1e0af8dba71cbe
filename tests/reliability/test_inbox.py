"""Postbacks beside a ledger, with either side killed at many moments: none lost, none twice.

Strategy: postbacks are posted to receivers again and again until one is answered, as the provider
does. Meanwhile receivers, and processes that have the ledger open, are killed and restarted.
"""

from __future__ import annotations

import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import anyio
import httpx
import pytest

from skycore_async import SQLiteLedger
from tests.support.fault_server import client_context
from tests.support.inbox_sides import hold, receive
from tests.support.notification_xml import notification
from tests.support.other_process import started
from tests.worlds.machine import place

pytestmark = [
    pytest.mark.unmeasured,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="nothing there is killed as kill -9 does"),
]


class Side:
    """A process on one side of the inbox, which can be started, killed and restarted."""

    def __init__(self, side: Callable[..., Awaitable[None]], path: Path, backend: str) -> None:
        self._side, self._path, self._backend = side, path, backend
        self.said: set[str] = set()
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        self.process = started(self._side, theirs, self._path, backend=self._backend)
        theirs.close()
        self._listening = threading.Thread(target=self._listen, args=(self._pipe,))
        self._listening.start()

    def _listen(self, pipe: Connection) -> None:
        with suppress(EOFError, OSError):  # as of a message that is cut off
            while True:
                self.said.add(pipe.recv())

    def tell(self, name: str) -> None:
        with suppress(OSError):
            self._pipe.send(name)

    def end(self) -> None:
        """End the process in order."""
        self.tell("")
        self.process.join(20)
        self.kill(again=False)

    def kill(self, *, again: bool = True) -> None:
        """Kill the process, and start it again."""
        self.process.kill()
        self.process.join()
        self._listening.join()
        self._pipe.close()
        if again:
            self._start()


def known(path: Path) -> Counter[str]:
    """Return the names of the receipts in the ledger after it was opened."""

    async def ask() -> list[str]:
        async with SQLiteLedger(path) as ledger:
            return [getattr(one, "tracking_id", "") async for one in ledger.unplaced()]

    return Counter(name.removeprefix("SMS_") for name in anyio.run(ask))


def rows_in(path: Path) -> int:
    if not Path(f"{path}-inbox").exists():
        return 0
    with closing(sqlite3.connect(f"{path}-inbox")) as inbox:
        return int(inbox.execute("SELECT count(*) FROM postbacks").fetchone()[0])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_whoever_is_killed_when_each_postback_is_there_once(backend: str) -> None:
    """Each answered postback is in the ledger once, after kills of either side."""
    with place() as folder:
        names = _kill_now_and_then(folder / "promo.db", backend, kills=5)
        assert known(folder / "promo.db") == Counter(names)
        assert rows_in(folder / "promo.db") == 0


def _kill_now_and_then(path: Path, backend: str, *, kills: int) -> list[str]:
    """Post while either side is killed at times; return what was posted."""
    chance = random.Random(17)
    names = [str(number) for number in range(1, 201)]
    receivers = [Side(receive, path, backend) for _ in range(2)]
    holder = Side(hold, path, backend)
    try:
        until = time.monotonic() + 60
        while len(answered := receivers[0].said | receivers[1].said) < len(names) or kills:
            assert time.monotonic() < until
            missing = [name for name in names if name not in answered]
            for name in chance.sample(missing, min(20, len(missing))):
                chance.choice(receivers).tell(name)
            time.sleep(chance.uniform(0, 0.8))
            if kills:
                chance.choice([*receivers, holder]).kill()
                kills -= 1
        for side in receivers:
            side.end()
        holder.kill(again=False)
    finally:
        for side in (*receivers, holder):
            side.kill(again=False)
    return names


# Runs a side in a process of its own for each statement of SQLite's, which is killed before it.
AT_EACH_STATEMENT = """
import itertools, os, shutil, signal, sqlite3, sys
from pathlib import Path
import anyio
from skycore_async import PostbackInbox, SQLiteLedger, parse_postback
from skycore_async.ledger.sqlite.inbox_file import InboxFile, KeptPostback
from tests.support.notification_xml import notification

side, folder = sys.argv[1], Path(sys.argv[2])

def receipt(name):
    return parse_postback(notification(name, tracking_id=f"SMS_{name}"))

receipts = {name: receipt(name) for name in (1, 2)}  # once, with the libraries that it takes

def answered(path, name):
    with open(f"{path}.answered", "a") as file:
        file.write(f"{name}\\n")

async def receive(path):
    async with PostbackInbox(path, look_every=0.001) as inbox:
        for name in (1, 2):
            await inbox.record(*receipts[name])
            answered(path, name)
        while await inbox.count():
            await anyio.sleep(0.001)

async def hold(path):
    async with SQLiteLedger(path, look_every=0.001):
        put(path, 2)
        inbox = InboxFile(path)
        inbox.open()
        while not inbox.is_empty():
            await anyio.sleep(0.001)
        inbox.close()

def put(path, name):
    inbox = InboxFile(path)
    inbox.open()
    inbox.add([KeptPostback.of(receipts[name], received=1.0)])
    answered(path, name)
    inbox.close()

def run(path, most):
    if side == "hold":
        put(path, 1)
    left = iter(range(most))

    class Connection(sqlite3.Connection):
        def __init__(self, *args, **settings):
            super().__init__(*args, **settings)
            self.set_trace_callback(self.count)

        def count(self, statement):
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **settings: connect(*args, factory=Connection, **settings)
    anyio.run({"receive": receive, "hold": hold}[side], path)

async def make():
    async with SQLiteLedger(folder / "new.db"):
        pass

anyio.run(make)
for most in itertools.count():
    path = folder / f"{most}.db"
    shutil.copyfile(folder / "new.db", path)
    if not (child := os.fork()):
        run(path, most)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        break
print(status, most)
"""


@pytest.mark.parametrize("side", ["receive", "hold"])
def test_whoever_is_killed_before_a_statement_loses_and_repeats_nothing(side: str) -> None:
    """A kill before any statement loses and repeats no answered postback."""
    with place() as folder:  # where no disk is waited for: the process is killed, and no more
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", AT_EACH_STATEMENT, side, str(folder)],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        status, kills = map(int, done.stdout.split())
        assert (status, kills > 30) == (0, True), done.stderr
        for number in range(kills):
            path, answered = folder / f"{number}.db", folder / f"{number}.db.answered"
            names = answered.read_text().split() if answered.exists() else []
            found = known(path)
            assert set(names) <= found.keys()
            assert set(found.values()) <= {1}
            assert not rows_in(path)


@contextmanager
def served(folder: Path, workers: int) -> Iterator[str]:
    """Serve `promo.db` by uvicorn with several workers, and return the address."""
    (folder / "service.py").write_text(
        "from skycore_async import PostbackReceiver\napp = PostbackReceiver(ledger='promo.db')\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "service:app", "--workers", str(workers)]
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        [*command, "--port", str(port), "--log-level", "error", "--no-access-log"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield f"http://127.0.0.1:{port}/postback"
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            finally:
                process.kill()


def test_several_workers_of_a_server_beside_one_who_sends(tmp_path: Path) -> None:
    """Postbacks to four workers of a server all reach the ledger of another process."""
    path = tmp_path / "promo.db"
    holder = Side(hold, path, "asyncio")
    names = [str(number) for number in range(1, 201)]
    with served(tmp_path, 4) as url, ThreadPoolExecutor(8) as pool:

        def post(name: str) -> None:
            body = notification(int(name), tracking_id=f"SMS_{name}")
            for _ in range(200):  # until it is up
                with suppress(httpx.TransportError):
                    answer = httpx.post(
                        url, content=body, verify=client_context(), trust_env=False, timeout=20
                    )
                    assert answer.status_code == 200
                    return
                time.sleep(0.1)
            raise AssertionError(f"{name} was never answered")

        list(pool.map(post, names))
        until = time.monotonic() + 10
        while rows_in(path):
            assert time.monotonic() < until
            time.sleep(0.05)
    holder.end()
    assert known(path) == Counter(names)
