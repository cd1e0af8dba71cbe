"""How many of the package's own functions one message passes through.

A reader who follows a message has to read each of them.  All calls of functions whose
source is in the package are counted, in the program's thread and in a ledger's threads,
one message at a time; a coroutine that goes on after an `await` is not a new call.  Many
messages are compared with few, so that opening and closing do not count.

`python -m benchmarks.handovers` lists the functions, with their calls for each message.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final
from unittest import mock

import anyio
import httpx

import skycore_async
from skycore_async import PostbackReceiver, SkycoreClient, SQLiteLedger
from skycore_async.cli import main as skycore
from skycore_async.simulator import API_KEY, SHORT_CODE, Simulator

from .harness import Figure, at_most_absolute

_FEW: Final = 10
_MANY: Final = 60
_HOME: Final = str(Path(skycore_async.__file__).parent) + os.sep
_COMPREHENSIONS: Final = {"<listcomp>", "<setcomp>", "<dictcomp>"}  # none since Python 3.12
_POSTBACK: Final = (
    "<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N202</CODE><STATUS>Message Sent/Delivered</STATUS>"
    "<FROM>60856</FROM><TO>{to}</TO><TRACKINGID>{tracking_id}</TRACKINGID>"
    "<SPID>0001470</SPID><TIMESTAMP>2013-11-05T05:41:08-05:00</TIMESTAMP></POSTBACK>"
)

Run = Callable[[str, int], None]


@contextmanager
def _counted() -> Iterator[Counter[str]]:
    """Count the calls of the package's functions, by name, in this and in new threads."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _arg: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(_HOME):
            return
        # The instruction here is RESUME, whose argument is 0 where a function begins.
        if code.co_code[frame.f_lasti + 1] & 3 or code.co_name in _COMPREHENSIONS:
            return
        calls[f"{code.co_filename.removeprefix(_HOME)}: {code.co_qualname}"] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def calls_per_message(run: Run) -> Counter[str]:
    """Return how often each function is called for one message, by its name."""
    with Simulator(behaviours={}) as simulator:  # its thread is not counted
        run(simulator.url, _FEW)
        with _counted() as few:
            run(simulator.url, _FEW)
        with _counted() as many:
            run(simulator.url, _MANY)
    more = {name: (count - few[name]) / (_MANY - _FEW) for name, count in many.items()}
    return Counter({name: round(count) for name, count in more.items() if count >= 1 / 2})


def _send(url: str, count: int, *, is_recorded: bool) -> None:
    """Send messages by `send_sms`, one after another."""

    async def run(path: Path) -> None:
        async with AsyncExitStack() as opened:
            ledger = SQLiteLedger(path) if is_recorded else None
            if ledger is not None:
                await opened.enter_async_context(ledger)
            client = SkycoreClient(api_key=API_KEY, from_=SHORT_CODE, base_url=url, ledger=ledger)
            await opened.enter_async_context(client)
            for number in range(count):
                key = f"key-{number}" if is_recorded else None
                await client.send_sms(to=f"1555{number:07}", text="Hello", key=key)

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(run, Path(folder, "sent.db"))


def _receive(_url: str, count: int) -> None:
    """Take in postbacks, one after another, for messages that the ledger does not know."""

    async def run(path: Path) -> None:
        async with SQLiteLedger(path) as ledger:
            app = httpx.ASGITransport(PostbackReceiver(ledger=ledger))
            async with httpx.AsyncClient(transport=app) as provider:
                for number in range(count):
                    body = _POSTBACK.format(to=f"1555{number:07}", tracking_id=f"SMS_{number}")
                    answer = await provider.post("http://here/postback", content=body)
                    answer.raise_for_status()

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(run, Path(folder, "received.db"))


def send_rows(url: str, count: int, *options: str) -> None:
    """Send a file by `skycore bulk`, one row after another."""
    with tempfile.TemporaryDirectory() as folder:
        rows, ledger = Path(folder, "rows.csv"), Path(folder, "rows.db")
        rows.write_text("to\n" + "".join(f"1555{number:07}\n" for number in range(count)))
        command = f"skycore bulk {rows} --text Hello --from {SHORT_CODE} --base-url {url}"
        command += f" --ledger {ledger} --in-flight 1 --yes"
        said = io.StringIO()
        with (
            mock.patch.object(sys, "argv", [*command.split(), *options]),
            mock.patch.dict(os.environ, SKYCORE_API_KEY=API_KEY, SKYCORE_HOME=folder),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            contextlib.suppress(SystemExit),
        ):
            skycore()
        assert f"accepted      {count}" in said.getvalue(), said.getvalue()


RUNS: Final[tuple[tuple[str, Run, int], ...]] = (
    # what is measured, how, and how many calls it may take
    ("own calls: send_sms", functools.partial(_send, is_recorded=False), 76),
    ("own calls: send_sms, SQLiteLedger", functools.partial(_send, is_recorded=True), 191),
    ("own calls: a postback, SQLiteLedger", _receive, 106),
    ("own calls: a row of skycore bulk", send_rows, 207),
)


def measure() -> Iterator[Figure]:
    """Count the calls for a message in each way."""
    for measured, run, bound in RUNS:
        yield at_most_absolute(bound, measured, calls_per_message(run).total(), "calls")


def main() -> None:
    """List the functions that a message passes through."""
    for measured, run, _bound in RUNS:
        calls = calls_per_message(run)
        print(f"\n{measured}: {calls.total()}")
        for name, count in sorted(calls.items()):
            print(f"  {count:3} {name}")


if __name__ == "__main__":
    main()
