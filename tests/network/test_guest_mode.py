"""trio as a guest of asyncio: both run in one thread, and each task belongs to one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import pytest
import trio

from skycore_async import (
    SMS,
    Accepted,
    PostbackReceiver,
    SQLiteLedger,
)
from skycore_async.runtime.event_loop import event_loop, now
from tests import conftest
from tests.support.fault_server import FaultServer, Hang, Read, Send, answer

if TYPE_CHECKING:
    from tests.conftest import OpenClient

KEPT_ALIVE = (*(Read(), Send(answer())) * 20, Hang())
T = TypeVar("T")


def run_as_guest(main: Callable[[], Awaitable[T]]) -> T:
    """Run `main` on trio within asyncio."""

    async def host() -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            main, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result
        )
        outcome = await done
        result: T = outcome.unwrap()
        return result

    return asyncio.run(host())


def test_the_event_loop_of_a_guest_is_trios() -> None:
    """A guest's event loop is trio's, and that of host tasks is asyncio's."""
    found: list[object] = []

    async def guest() -> object:
        host = asyncio.get_running_loop()
        task = host.create_task(beside())
        await trio.sleep(0.01)
        assert task.done()
        assert abs(now() - trio.current_time()) < 1
        assert event_loop() is trio.lowlevel.current_trio_token()
        return host

    async def beside() -> None:
        found.append(event_loop())
        assert abs(now() - asyncio.get_running_loop().time()) < 1

    assert run_as_guest(guest) in found


@pytest.mark.parametrize("open_client", conftest.TRANSPORTS.values(), ids=conftest.TRANSPORTS)
def test_trio_as_a_guest_sends_as_trio_alone_does(open_client: OpenClient, tmp_path: Path) -> None:
    """A guest sends one message, many, and with a ledger."""

    async def guest() -> list[str]:
        messages = [SMS(to="15551234888", text="Hello", key=f"k{n}") for n in range(5)]
        async with (
            SQLiteLedger(tmp_path / "promo.db") as ledger,
            open_client(server.url, ledger=ledger, rate=1000) as client,
        ):
            await client.send_sms(to="15551234888", text="Hello", key="one")
            async with client.send_many(messages) as outcomes:
                return [type(outcome).__name__ async for outcome in outcomes]

    with FaultServer(KEPT_ALIVE) as server:
        assert run_as_guest(guest) == [Accepted.__name__] * 5
        assert len(server.requests) == 6


def test_a_client_of_the_host_is_not_the_guests() -> None:
    """A host's client raises RuntimeError in the guest."""

    async def host() -> None:
        async with conftest.over_httpx(server.url) as client:
            await client.send_sms(to="15551234888", text="Hello")
            loop = asyncio.get_running_loop()
            done: asyncio.Future[Any] = loop.create_future()

            async def guest() -> None:
                with pytest.raises(RuntimeError, match="make one for each event loop"):
                    await client.send_sms(to="15551234888", text="Hello")

            trio.lowlevel.start_guest_run(
                guest,
                run_sync_soon_threadsafe=loop.call_soon_threadsafe,
                done_callback=done.set_result,
            )
            (await done).unwrap()

    with FaultServer(KEPT_ALIVE) as server:
        asyncio.run(host())
        assert len(server.requests) == 1


def test_a_guest_takes_postbacks_in() -> None:
    """The receiver takes postbacks in a guest, by trio's clock."""
    taken: list[object] = []
    body = b"<POSTBACK><ORIGIN>MT</ORIGIN><CODE>N101</CODE></POSTBACK>"

    async def receive() -> dict[str, Any]:
        await anyio.lowlevel.checkpoint()
        return {"type": "http.request", "body": body}

    async def guest() -> int:
        answers: list[Any] = []

        async def send(message: Any) -> None:
            await anyio.lowlevel.checkpoint()
            answers.append(message)

        receiver = PostbackReceiver(on_notification=taken.append)
        scope = {"type": "http", "method": "POST", "path": "/postback", "headers": []}
        await receiver(scope, receive, send)
        status: int = answers[0]["status"]
        return status

    assert run_as_guest(guest) == 200
    assert len(taken) == 1
