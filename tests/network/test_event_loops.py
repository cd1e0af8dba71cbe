"""Client, transports and receiver on every kind of event loop that a program may bring.

A task of asyncio begins when the loop comes to it, and an eager one at once, within the call that
makes it; uvloop has a loop of its own. None of it may make a difference.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
import trio

from skycore_async import (
    SMS,
    Accepted,
    MessageState,
    OutcomeUnknown,
    PostbackReceiver,
    Rejected,
    SkycoreError,
    SQLiteLedger,
)
from skycore_async.runtime.event_loop import is_trios
from skycore_async.simulator import API_KEY, Behaviour, Simulator
from tests.support.fault_server import FaultServer, Hang, Hold, Read, Secure, Send, answer
from tests.support.passing_time import pass_time

if TYPE_CHECKING:
    from tests.conftest import OpenClient

pytestmark = pytest.mark.anyio


def eager_loop() -> asyncio.AbstractEventLoop:
    """Return a loop whose tasks begin at once.

    It is asyncio's, since uvloop calls the factory of eager tasks with arguments that the factory
    does not take.
    """
    loop = asyncio.new_event_loop()
    loop.set_task_factory(vars(asyncio)["eager_task_factory"])
    return loop


NEEDS_UVLOOP = pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not installed")
NEEDS_EAGER = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="there are none before Python 3.12"
)
LOOPS = [
    pytest.param(("asyncio", {}), id="asyncio"),
    pytest.param(("asyncio", {"loop_factory": eager_loop}), id="eager", marks=NEEDS_EAGER),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=NEEDS_UVLOOP),
    pytest.param(("trio", {}), id="trio"),
]


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run each test on every kind of event loop."""
    return request.param


@pytest.mark.slow
async def test_each_message_has_its_outcome(open_client: OpenClient, tmp_path: Path) -> None:
    """Many messages at a time, accepted, rejected or lost, have their outcomes."""
    numbers = [f"1555123{n}" for n in range(4800, 4828)]
    messages = [
        SMS(to=to, text="Hello", key=to) for to in (*numbers, "15551230110", "15551232002")
    ]
    with Simulator(time_scale=0.001) as simulator:
        async with (
            SQLiteLedger(tmp_path / "sent.db") as ledger,
            open_client(simulator.url, api_key=API_KEY, ledger=ledger, max_in_flight=10) as client,
        ):
            async with client.send_many(messages) as outcomes:
                found = {outcome.message.to: outcome async for outcome in outcomes}
            states = (await ledger.summary()).states
        assert simulator.billed == len(numbers) + 1
    accepted = [to for to, outcome in found.items() if isinstance(outcome, Accepted)]
    assert sorted(accepted) == numbers
    errors = {to: type(getattr(outcome, "error", None)) for to, outcome in found.items()}
    assert issubclass(errors["15551230110"], Rejected)
    assert errors["15551232002"] is OutcomeUnknown
    assert (states[MessageState.ACCEPTED], states[MessageState.IN_DOUBT]) == (len(numbers), 1)


@pytest.mark.slow
async def test_a_cancelled_caller_leaves_its_outcome(
    open_client: OpenClient, tmp_path: Path
) -> None:
    """A cancelled caller's exchange runs to its end, and the ledger has the outcome."""
    with Simulator(time_scale=0.001) as simulator:
        simulator.script(Behaviour(delay=300.0))  # 0.3 s, as it is scaled
        async with SQLiteLedger(tmp_path / "sent.db") as ledger:
            async with open_client(simulator.url, api_key=API_KEY, ledger=ledger) as client:
                with anyio.move_on_after(10) as left:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(leave_when, simulator, left)
                        await client.send_sms(to="15551234888", text="Hello", key="a")
                assert left.cancelled_caught
            delivery = await ledger.delivery(key="a")
            assert delivery is not None
            assert delivery.state is MessageState.ACCEPTED
        assert simulator.billed == 1


async def leave_when(simulator: Simulator, left: anyio.CancelScope) -> None:
    while not simulator.requests:  # noqa: ASYNC110 - the simulator is a thread
        await anyio.sleep(0.005)
    left.cancel()


async def just_before(seconds: float, run: Callable[[], object]) -> None:
    """Call `run` in the turn of the event loop in which so many seconds are over.

    `run` is called before all timers of that turn, and after the loop has looked at its sockets.
    """
    if not is_trios():
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, run)
        return

    def ended(_: object) -> trio.lowlevel.Abort:
        run()
        return trio.lowlevel.Abort.SUCCEEDED

    with trio.move_on_after(seconds):
        await trio.lowlevel.wait_task_rescheduled(ended)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("came", "expected", "is_secure"),
    [
        pytest.param(answer(), Accepted, False, id="an answer"),
        pytest.param(answer(), Accepted, True, id="an answer over TLS"),
        pytest.param(answer()[:40], OutcomeUnknown, False, id="half of one"),
    ],
)
async def test_an_answer_that_came_while_the_process_was_stopped_is_read(
    open_reusing_client: OpenClient,
    came: bytes,
    expected: type[Accepted | SkycoreError],
    *,
    is_secure: bool,
) -> None:
    """An answer that came while the process was stopped is read, though its time is over."""
    timeout = 0.5
    found: list[object] = []
    begin = (Secure(),) if is_secure else ()
    with FaultServer((*begin, Read(), Hold(), Send(came), Hang())) as server:

        def answered() -> None:
            server.let_go()
            until = time.monotonic() + 5
            while not server.stands_still and time.monotonic() < until:
                time.sleep(0.001)

        url = server.secure_url if is_secure else server.url
        async with (
            open_reusing_client(url, timeout=timeout) as client,
            anyio.create_task_group() as tasks,
        ):

            async def send() -> None:
                try:
                    found.append(await client.send_sms(to="15551234888", text="Hello Jerry"))
                except SkycoreError as error:
                    found.append(error)

            tasks.start_soon(just_before, 0.9 * timeout, answered)
            tasks.start_soon(send)
            while not server.is_holding:  # noqa: ASYNC110 - the server is a thread
                await anyio.sleep(0.001)
            await anyio.wait_all_tasks_blocked()
            pass_time(timeout)
    assert [type(each) for each in found] == [expected]


async def test_postbacks_are_stored_before_they_are_answered(tmp_path: Path) -> None:
    """Postbacks that come many at a time, and twice, are recorded once each."""
    seen: list[str] = []
    async with SQLiteLedger(tmp_path / "sent.db") as ledger:
        receiver = PostbackReceiver(
            ledger=ledger, on_notification=lambda n: seen.append(n.id or "")
        )
        transport = httpx.ASGITransport(app=receiver)
        async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as web:

            async def post(n: int) -> None:
                body = (
                    f'<NOTIFICATION ID="{n}" CREATED="2026-01-02 03:04:05-05"><ORIGIN>SMS_MT'
                    f"</ORIGIN><CODE>N202</CODE><BODY><TRACKINGID>SMS_{n}</TRACKINGID></BODY>"
                    "</NOTIFICATION>"
                )
                assert (await web.post("/postback", content=body)).status_code == 200

            async with anyio.create_task_group() as tasks:
                for n in (*range(20), *range(20)):
                    tasks.start_soon(post, n)
        unplaced = [notification.id or "" async for notification in ledger.unplaced()]
    assert sorted(unplaced) == sorted(map(str, range(20)))
    assert set(seen) == set(map(str, range(20)))
