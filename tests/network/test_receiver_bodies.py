"""The bodies of postbacks: limits of time and size, and compression."""

from __future__ import annotations

import gzip
import socket
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from skycore_async.notifications import Notification
from skycore_async.receiving.receiver import PostbackReceiver
from skycore_async.simulator.asgi_thread import ServerThread
from tests.network.test_receiver import kept, status
from tests.support.notification_xml import notification

KIB = 1024
MIB = 1024 * 1024


class Call:
    """A request whose body comes in parts and then stalls, unless it is `whole`."""

    def __init__(self, app: Any, parts: Iterable[bytes], *, whole: bool = False) -> None:
        self._app = app
        self._parts = list(parts)
        self._whole = whole
        self.goes_on = anyio.Event()
        self.status: int | None = None
        self.headers: dict[bytes, bytes] = {}

    async def receive(self) -> dict[str, Any]:
        await anyio.lowlevel.checkpoint()
        if not self._parts:
            await self.goes_on.wait()
            return {"type": "http.disconnect"}
        part = self._parts.pop(0)
        more = bool(self._parts) or not self._whole
        return {"type": "http.request", "body": part, "more_body": more}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])

    async def run(self) -> None:
        scope = {"type": "http", "method": "POST", "path": "/postback", "headers": []}
        await self._app(scope, self.receive, self.send)


async def until(when: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not when():  # noqa: ASYNC110 - what is waited for sets no event
            await anyio.sleep(0.001)


# In time.


@pytest.mark.anyio
async def test_a_body_that_does_not_come_in_time_is_408() -> None:
    """A body that does not come in time is answered with 408, and its memory is freed."""
    seen: list[Notification] = []
    receiver = PostbackReceiver(on_notification=seen.append, body_timeout=0.05)
    call = Call(receiver, [notification().encode()])
    with anyio.fail_after(5):
        await call.run()
    assert (call.status, call.headers[b"connection"]) == (408, b"close")
    assert (seen, receiver._bodies.held, receiver._bodies.under_way) == ([], 0, 0)


@pytest.mark.anyio
async def test_a_body_that_drips_is_408_as_well() -> None:
    """The time limit is for the whole body, not for each part."""

    async def receive() -> dict[str, Any]:
        await anyio.sleep(0.005)
        return {"type": "http.request", "body": b" ", "more_body": True}

    _, receiver = kept()
    receiver._bodies.timeout = 0.05
    call = Call(receiver, [])
    call.receive = receive  # type: ignore[method-assign]
    with anyio.fail_after(5):
        await call.run()
    assert call.status == 408


@pytest.mark.slow
def test_a_slow_client_is_hung_up_on() -> None:
    """A slow client gets 408 and its connection closed; others are served."""
    seen: list[Notification] = []
    receiver = PostbackReceiver(on_notification=seen.append, body_timeout=0.2)
    with ServerThread(receiver) as server:
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=5) as slow:
            head = "POST /postback HTTP/1.1\r\nHost: receiver\r\nContent-Length: 1000\r\n\r\n"
            slow.sendall(head.encode() + b"<POSTBACK>")
            assert httpx.post(f"{server.url}/postback", content=notification()).status_code == 200
            came = b""
            while part := slow.recv(4096):
                came += part
        assert came.startswith(b"HTTP/1.1 408 ")
    assert len(seen) == 1


# Within bounds, together.


@pytest.mark.anyio
async def test_unfinished_bodies_are_bounded_together() -> None:
    """Of 300 stalled bodies only a bounded total is held, and a postback is still taken."""
    seen, receiver = kept()
    bodies = receiver._bodies
    calls = [Call(receiver, [b" " * (64 * KIB)] * 15) for _ in range(300)]
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(call.run)
        await until(lambda: all(call.status or not call._parts for call in calls))
        await anyio.wait_all_tasks_blocked()
        assert 8 * MIB < bodies.held <= 2 * bodies.most_together
        refused = [call for call in calls if call.status]
        assert {call.status for call in refused} == {503}
        assert {call.headers[b"retry-after"] for call in refused} == {b"5"}
        assert await status(receiver) == 200
        for call in calls:
            call.goes_on.set()
    assert len(seen) == 1
    assert (bodies.held, bodies.under_way) == (0, 0)


@pytest.mark.slow
@pytest.mark.anyio
async def test_bodies_that_wait_for_the_ledger_are_counted() -> None:
    """A body counts against the limit until its request is answered."""
    goes_on = anyio.Event()

    async def wait(_: Notification) -> None:
        await goes_on.wait()

    body = notification().encode().ljust(40 * KIB)
    receiver = PostbackReceiver(
        on_notification=wait, max_body=64 * KIB, max_bodies=100 * KIB, timeout=5
    )
    calls = [Call(receiver, [body], whole=True) for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for call in calls[:3]:
            tasks.start_soon(call.run)
            await anyio.wait_all_tasks_blocked()
        assert [call.status for call in calls[:3]] == [None, None, 503]
        assert receiver._bodies.held == 2 * len(body)
        goes_on.set()
    await calls[3].run()
    assert [call.status for call in calls] == [200, 200, 503, 200]


# Compressed.

BODY = notification().encode()

COMPRESSED: dict[str, tuple[str, bytes, int]] = {
    "gzip": ("gzip", gzip.compress(BODY), 200),
    "gzip by its other name": (" X-GZip ", gzip.compress(BODY), 200),
    "deflate": ("deflate", zlib.compress(BODY), 200),
    "as it is": ("identity", BODY, 200),
    "none": ("", BODY, 200),
    "another one": ("br", BODY, 415),
    "two of them": ("gzip, gzip", gzip.compress(gzip.compress(BODY)), 415),
    "not what it says": ("gzip", BODY, 400),
    "cut off": ("gzip", gzip.compress(BODY)[:-9], 400),
    "more after it": ("gzip", gzip.compress(BODY) + b"more", 400),
    "no postback in it": ("gzip", gzip.compress(b"<html/>"), 400),
    "a bomb": ("gzip", gzip.compress(bytes(20 * MIB), 1), 413),
}


@pytest.mark.anyio
@pytest.mark.parametrize(("encoding", "body", "expected"), COMPRESSED.values(), ids=COMPRESSED)
async def test_a_compressed_body_is_read_or_refused_with_a_reason(
    encoding: str, body: bytes, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A compressed body is read within the limit, or refused and logged with a reason."""
    seen, receiver = kept()
    answered = await status(receiver, content=body, headers={"Content-Encoding": encoding})
    assert (answered, len(seen)) == (expected, int(expected == 200))
    assert receiver._bodies.held == 0
    refused = [] if expected == 200 else [f"not taken in, and was answered with {expected}: "]
    assert [each in caplog.text for each in refused] == [True] * len(caplog.records)


@pytest.mark.anyio
async def test_unpacked_bytes_are_counted() -> None:
    """Decompressed bodies count with their full size."""
    goes_on = anyio.Event()

    async def wait(_: Notification) -> None:
        await goes_on.wait()

    receiver = PostbackReceiver(on_notification=wait, max_body=64 * KIB, max_bodies=100 * KIB)
    body = gzip.compress(BODY.ljust(60 * KIB))
    answers: list[int] = []

    async def post() -> None:
        answers.append(await status(receiver, content=body, headers={"Content-Encoding": "gzip"}))

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(post)
        await until(lambda: bool(answers))
        assert answers == [503]
        goes_on.set()
    assert sorted(answers) == [200, 503]
