"""The postback receiver: authorization, storing before 200, and what is to be retried."""

from __future__ import annotations

import logging
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from skycore_async.codes import DeliveryState
from skycore_async.errors import ConfigurationError, LedgerError
from skycore_async.ledger.commands import PendingCommand, Record
from skycore_async.ledger.model import Delivery, MessageState, SendIntent, Submission
from skycore_async.ledger.sqlite.ledger import SQLiteLedger
from skycore_async.ledger.sqlite.memory import MemoryLedger
from skycore_async.notifications import (
    DeliveryReceipt,
    Notification,
    SentNotification,
    UnknownNotification,
)
from skycore_async.postbacks import parse_postback
from skycore_async.receiving.receiver import PostbackReceiver
from skycore_async.simulator import PostbackForm, Simulator
from skycore_async.simulator.asgi_thread import ServerThread
from tests.support.fault_server import client_context
from tests.support.notification_xml import NUMBER, notification

SECRET = "pHq7-a-long-enough-secret"
BASE = "http://receiver"


def bundle(count: int) -> str:
    many = (notification(n, tracking_id=f"SMS_{n}") for n in range(1, count + 1))
    return f"<POSTBACK>{''.join(many)}</POSTBACK>"


@asynccontextmanager
async def calling(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Call an application without a server, in this event loop."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client


async def status(app: Any, path: str = "/postback", **request: Any) -> int:
    async with calling(app) as client:
        request = {"method": "POST", "content": notification(), **request}
        return (await client.request(url=path, **request)).status_code


async def told(ledger: MemoryLedger | SQLiteLedger) -> list[Notification]:
    return [one async for one in ledger.unplaced()]


def kept() -> tuple[list[Notification], PostbackReceiver]:
    """Return a receiver that appends to a list, and the list."""
    seen: list[Notification] = []
    return seen, PostbackReceiver(on_notification=seen.append)


# What a postback is worth.


class NotedLedger(MemoryLedger):
    """A ledger that appends to a list once it has recorded."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self.steps = steps

    async def record(self, *notifications: Notification) -> None:
        await super().record(*notifications)
        self.steps.append("recorded")


@pytest.mark.anyio
async def test_a_postback_is_stored_then_handed_on_then_answered() -> None:
    """A postback is recorded, then handed to the handler, and then answered with 200."""
    steps: list[str] = []

    async def handle(one: Notification) -> None:
        await anyio.lowlevel.checkpoint()
        steps.append(f"handled {one.id}")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bundle(2).encode()}

    async def send(message: Any) -> None:
        steps.append(str(message.get("status", message["type"])))

    scope = {"type": "http", "method": "POST", "path": "/postback", "headers": []}
    async with NotedLedger(steps) as ledger:
        await PostbackReceiver(ledger=ledger, on_notification=handle)(scope, receive, send)
    assert steps == ["recorded", "handled 1", "handled 2", "200", "http.response.body"]


@pytest.mark.anyio
async def test_a_plain_function_is_called_where_it_is() -> None:
    """A plain function as handler runs in the event loop's own thread."""
    threads: list[int] = []
    receiver = PostbackReceiver(on_notification=lambda _: threads.append(threading.get_ident()))
    assert await status(receiver) == 200
    assert threads == [threading.get_ident()]


@pytest.mark.anyio
async def test_a_ledger_alone_is_enough() -> None:
    """Without a handler, postbacks are recorded."""
    async with MemoryLedger() as ledger:
        assert await status(PostbackReceiver(ledger=ledger), content=bundle(300)) == 200
        assert len(await told(ledger)) == 300


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"", b"hello", b"<REPLY/>", b"<POSTBACK/>", b"\xff\xfe<"])
async def test_a_body_that_is_no_postback_is_400_with_the_reason(
    body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A body that is no postback is answered with 400 and the reason, and logged."""
    seen, receiver = kept()
    async with calling(receiver) as client:
        answer = await client.post("/postback", content=body)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "this body is no postback" in answer.text
    assert seen == []
    (logged,) = [each for each in caplog.records if each.name == "skycore_async"]
    assert logged.levelname == "WARNING"
    assert logged.getMessage().endswith(f"answered with 400: {answer.text}")


@pytest.mark.anyio
async def test_an_unreadable_part_is_kept_and_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An unreadable part of a postback is kept as it came and logged; the rest is recorded."""
    broken = notification(2).replace("SMS_MT", "<SMS>")
    body = f"<POSTBACK>{notification(1)}{broken}{notification(3)}</POSTBACK>"
    async with MemoryLedger() as ledger:
        assert await status(PostbackReceiver(ledger=ledger), content=body) == 200
        assert len(await told(ledger)) == 2
        (part,) = [each async for each in ledger.unreadable()]
    assert part.raw["#text"] == broken
    (logged,) = [each for each in caplog.records if each.name == "skycore_async"]
    assert logged.levelname == "WARNING"
    assert "1 of the 3 parts of a postback could not be read" in logged.getMessage()
    assert logged.getMessage().endswith(f": {part.unreadable}")


@pytest.mark.anyio
async def test_a_cut_off_body_is_taken_in_and_asked_for_again() -> None:
    """A postback that is cut off is recorded as far as it goes, and answered with 400."""
    whole = bundle(3)
    async with MemoryLedger() as ledger:
        receiver = PostbackReceiver(ledger=ledger)
        for _ in range(2):
            async with calling(receiver) as client:
                answer = await client.post("/postback", content=whole[:-80])
            assert (answer.status_code, answer.text.count("middle")) == (400, 1)
            assert len(await told(ledger)) == 2
        assert [each.is_cut_off async for each in ledger.unreadable()] == [True]
        assert await status(receiver, content=whole) == 200
        assert len(await told(ledger)) == 3


@pytest.mark.anyio
async def test_a_cut_off_body_that_cannot_be_recorded_is_500() -> None:
    """A cut-off postback whose handler fails is answered with 500."""

    def fail(_: Notification) -> None:
        raise ValueError

    receiver = PostbackReceiver(on_notification=fail)
    assert await status(receiver, content=bundle(3)[:-80]) == 500


@pytest.mark.anyio
async def test_a_form_field_is_taken_too() -> None:
    """A postback in a form field is taken."""
    seen, receiver = kept()
    assert await status(receiver, content=None, data={"xml": notification()}) == 200
    assert [one.id for one in seen] == ["1"]


# How much.


@pytest.mark.anyio
async def test_a_body_beyond_the_limit_is_413(caplog: pytest.LogCaptureFixture) -> None:
    """A declared length beyond the limit is answered with 413 and logged.

    A body posted to another path is answered with 404 and not logged.
    """
    seen: list[Notification] = []
    size = len(notification())
    tight = PostbackReceiver(on_notification=seen.append, max_body=size - 1)
    assert await status(tight) == 413
    assert seen == []
    (logged,) = [each for each in caplog.records if each.name == "skycore_async"]
    assert logged.getMessage().endswith("answered with 413: Too large for a postback")
    caplog.clear()
    assert await status(tight, "/elsewhere") == 404
    assert not [each for each in caplog.records if each.name == "skycore_async"]
    assert await status(PostbackReceiver(on_notification=seen.append, max_body=size)) == 200


@pytest.mark.anyio
async def test_a_declared_length_beyond_the_limit_is_refused_unread() -> None:
    """A body declared as too large is not read."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("it was read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/postback",
        "headers": [(b"content-length", b"1048577")],
    }
    await PostbackReceiver(on_notification=print)(scope, receive, send)
    assert sent[0]["status"] == 413


@pytest.mark.anyio
@pytest.mark.parametrize("declared", [None, b"12", b"-5", b"many", b"9" * 5000])
async def test_a_body_that_grows_beyond_the_limit_is_413(declared: bytes | None) -> None:
    """A body without or with a false length is read no further than the limit."""
    reads, sent = [], []

    async def receive() -> dict[str, Any]:
        reads.append(1)
        return {"type": "http.request", "body": b" " * 1000, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-length", declared)] if declared else []
    scope = {"type": "http", "method": "POST", "path": "/postback", "headers": headers}
    await PostbackReceiver(on_notification=print, max_body=5000)(scope, receive, send)
    assert (sent[0]["status"], len(reads)) == (413, 6)


@pytest.mark.anyio
async def test_a_client_that_goes_while_sending_leaves_nothing() -> None:
    """Half a postback is neither recorded nor answered, and is no error."""
    messages: Iterator[dict[str, Any]] = iter(
        [
            {"type": "http.request", "body": notification().encode(), "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    seen, receiver = kept()
    scope = {"type": "http", "method": "POST", "path": "/postback", "headers": []}
    await receiver(scope, receive, send)
    assert seen == []


# Who is let in.


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_405(method: str) -> None:
    """Methods other than POST are answered with 405."""
    seen, receiver = kept()
    async with calling(receiver) as client:
        answer = await client.request(method, "/postback", content=notification())
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert seen == []


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/", "/postbacks", "/postback/x", "/x/postback", "/Postback"])
async def test_another_path_is_404(path: str) -> None:
    """Other paths are answered with 404."""
    seen, receiver = kept()
    assert await status(receiver, path) == 404
    assert seen == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "asked"), [("/postback", "/postback/"), ("/in/", "/in"), ("/", "/"), ("/", "")]
)
async def test_a_slash_at_the_end_is_no_matter(path: str, asked: str) -> None:
    """A slash at the end of path or setting makes no difference."""
    receiver = PostbackReceiver(on_notification=print, path=path)
    assert await status(receiver, asked) == 200


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/postback", "/"])
async def test_the_url_must_have_the_secret(path: str) -> None:
    """With a secret, a URL without it is answered with 404, whatever the method."""
    seen: list[Notification] = []
    receiver = PostbackReceiver(on_notification=seen.append, path=path, secret=SECRET)
    base = path.rstrip("/")
    async with calling(receiver) as client:
        answers = [
            await client.request(method, asked, content=notification())
            for method in ("POST", "GET")
            for asked in (
                "/elsewhere",
                f"{base}/",
                f"{base}/wrong",
                f"{base}/{SECRET}x",
                f"{base}/{SECRET[:-1]}",
                f"{base}/{SECRET}/x",
                f"{base}-{SECRET}",
                f"{base}/\N{SNOWMAN}",
            )
        ]
        assert {(answer.status_code, answer.text) for answer in answers} == {(404, "Not Found")}
        assert seen == []
        for asked in (f"{base}/{SECRET}", f"{base}/{SECRET}/"):
            assert (await client.post(asked, content=notification())).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize("secret", ["a/b+c=/", "ключ", "100% sure?"])
async def test_a_secret_may_have_any_character(secret: str) -> None:
    """A secret may have any character, URL-encoded."""
    receiver = PostbackReceiver(on_notification=print, secret=secret)
    assert await status(receiver, f"/postback/{quote(secret)}") == 200


@pytest.mark.anyio
async def test_several_secrets_are_good_while_one_is_replaced() -> None:
    """Each of several secrets and credentials is accepted."""
    receiver = PostbackReceiver(
        on_notification=print,
        secret=["old", "new"],
        credentials=[("sky", "old word"), ("core", "new:word")],
    )
    for secret in ("old", "new"):
        for auth in (("sky", "old word"), ("core", "new:word")):
            assert await status(receiver, f"/postback/{secret}", auth=auth) == 200
    assert await status(receiver, "/postback/old", auth=("sky", "new:word")) == 401


@pytest.mark.anyio
async def test_every_secret_is_compared_and_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All secrets and credentials are compared, each in constant time."""
    compared: list[bytes] = []

    def compare(given: bytes, secret: bytes) -> bool:
        compared.append(secret)
        return given == secret

    monkeypatch.setattr("skycore_async.receiving.authorization.hmac.compare_digest", compare)
    receiver = PostbackReceiver(
        on_notification=print, secret=("a", "b"), credentials=(("u", "p"), ("v", "q"))
    )
    assert await status(receiver, "/postback/a", auth=("u", "p")) == 200
    assert compared == [b"a", b"b", b"u:p", b"v:q"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic c2t5Ondyb25n",
        "Basic c2t5OndvcmQ= x",
        "Basic c2t5OndvcmQ",
        "Bearer c2t5OndvcmQ=",
        "c2t5OndvcmQ=",
    ],
)
async def test_wrong_credentials_are_401(authorization: str | None) -> None:
    """Wrong or missing credentials are answered with 401 and a challenge."""
    seen: list[Notification] = []
    receiver = PostbackReceiver(on_notification=seen.append, credentials=("sky", "word"))
    headers = {} if authorization is None else {"authorization": authorization}
    async with calling(receiver) as client:
        answer = await client.post("/postback", content=notification(), headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    assert seen == []


@pytest.mark.anyio
@pytest.mark.parametrize("authorization", ["Basic c2t5OndvcmQ=", "basic  c2t5OndvcmQ="])
async def test_right_credentials_are_let_in(authorization: str) -> None:
    """Right credentials are accepted, in any case of the scheme's name."""
    receiver = PostbackReceiver(on_notification=print, credentials=("sky", "word"))
    assert await status(receiver, headers={"authorization": authorization}) == 200


def yields(_one: Notification) -> Iterator[None]:
    """Return an iterator that does nothing until iterated."""
    yield


async def yields_later(_one: Notification) -> AsyncIterator[None]:
    """Return an async iterator that does nothing until iterated."""
    yield


class Yields:
    """A callable object that returns such an iterator."""

    def __call__(self, one: Notification) -> Iterator[None]:
        return (yield from yields(one))


@pytest.mark.anyio
@pytest.mark.parametrize("handle", [yields, yields_later])
async def test_a_handler_that_has_not_begun_is_no_success(
    handle: Callable[[Notification], object], caplog: pytest.LogCaptureFixture
) -> None:
    """A handler with `yield` in it, which does nothing, is answered with 500."""

    def around(one: Notification) -> object:
        return handle(one)

    receiver = PostbackReceiver(on_notification=around)
    assert await status(receiver, content=notification()) == 500
    assert "a function with `yield` in it does nothing" in caplog.text


@pytest.mark.parametrize(
    ("settings", "at_fault"),
    [
        ({"on_notification": None}, "ledger or on_notification"),
        ({"path": "postback"}, "path"),
        ({"path": ""}, "path"),
        ({"path": None}, "path"),
        ({"on_notification": "print"}, "on_notification"),
        ({"on_notification": yields}, "on_notification: a function with `yield` in it"),
        ({"on_notification": yields_later}, "on_notification: a function with `yield` in it"),
        ({"on_notification": Yields()}, "on_notification: a function with `yield` in it"),
        ({"on_notification": partial(yields)}, "on_notification: a function with `yield` in it"),
        ({"secret": ""}, "secret"),
        ({"secret": "/"}, "secret"),
        ({"secret": []}, "secret"),
        ({"secret": 4711}, "secret: a str is needed"),
        ({"secret": SECRET.encode()}, "secret: a str is needed"),
        ({"secret": [SECRET, ""]}, "secret"),
        ({"secret": [SECRET, None]}, "secret"),
        ({"credentials": ()}, "credentials"),
        ({"credentials": 4711}, "credentials"),
        ({"credentials": ("sky", "")}, "credentials"),
        ({"credentials": ("", SECRET)}, "credentials"),
        ({"credentials": ("sk:y", SECRET)}, "credentials"),
        ({"credentials": ("sky", SECRET, "x")}, "credentials"),
        ({"credentials": ("sky", None)}, "credentials"),
        ({"credentials": f"sky:{SECRET}"}, "credentials"),
        ({"credentials": [("sky", SECRET), ("core", None)]}, "credentials"),
        ({"max_body": 0}, "max_body"),
        ({"max_body": "1000"}, "max_body"),
        ({"max_bodies": 0}, "max_bodies"),
        ({"body_timeout": 0}, "body_timeout"),
        ({"body_timeout": None}, "body_timeout"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], at_fault: str) -> None:
    """A bad setting is refused by name, and no frame of the error shows a secret."""
    with pytest.raises(ConfigurationError, match=at_fault) as caught:
        PostbackReceiver(**{"on_notification": print, **settings})
    frames, shown = caught.value.__traceback__, str(caught.value)
    while frames is not None:
        if frames.tb_frame.f_code.co_filename != __file__:
            named = {**frames.tb_frame.f_locals, "self": None}
            shown += repr(named)
        frames = frames.tb_next
    assert SECRET not in shown


def test_its_repr_shows_no_secret() -> None:
    """A receiver's `repr` shows neither secret nor credentials."""
    receiver = PostbackReceiver(
        on_notification=print, secret=SECRET, credentials=("sky", "word-of-mouth")
    )
    shown = f"{receiver!r} {vars(receiver)!r}"
    assert "/postback" in shown
    assert SECRET not in shown
    assert "word-of-mouth" not in shown


# What is tried again.


class Broken(MemoryLedger):
    """A ledger that fails after two notifications of a call."""

    async def record(self, *notifications: Notification) -> None:
        self._connection.execute("BEGIN")
        self._executor.run([PendingCommand(Record(notifications=notifications[:2]))])
        self._connection.execute("ROLLBACK")
        raise OSError(f"no space left for {NUMBER}")


def errors(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(
        logging.Formatter().format(record)
        for record in caplog.records
        if record.name == "skycore_async"
    )


@pytest.mark.anyio
async def test_a_ledger_that_fails_is_500_and_nothing_is_handed_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A ledger's failure is answered with 500, and the handler is not called."""
    seen: list[Notification] = []
    async with Broken() as ledger:
        receiver = PostbackReceiver(ledger=ledger, on_notification=seen.append)
        assert await status(receiver, content=bundle(300)) == 500
        assert await told(ledger) == []
    assert seen == []
    assert "OSError" in errors(caplog)


@pytest.mark.anyio
async def test_an_exception_of_a_handler_is_500_and_logged_by_type_and_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A handler's exception is answered with 500, and logged by type and place only."""

    async def handle(one: Notification) -> None:
        raise LookupError(f"nobody has {NUMBER}: {one!r}")

    receiver = PostbackReceiver(
        on_notification=handle, secret=SECRET, credentials=("sky", "word-of-mouth")
    )
    async with calling(receiver) as client:
        answer = await client.post(
            f"/postback/{SECRET}",
            content=notification(text="see you at 8 o'clock"),
            auth=("sky", "word-of-mouth"),
        )
    assert answer.status_code == 500
    for private in (NUMBER, "o'clock", SECRET, "word-of-mouth"):
        assert private not in errors(caplog) + answer.text
    assert "LookupError" in errors(caplog)
    assert "in handle" in errors(caplog)


@pytest.mark.anyio
async def test_one_that_fails_in_a_bundle_has_it_all_tried_again() -> None:
    """A handler that fails within a bundle gets all of it again; the ledger has it once."""
    handled: list[str | None] = []

    def handle(one: Notification) -> None:
        handled.append(one.id)
        if handled == ["1", "2"]:
            raise OSError

    async with MemoryLedger() as ledger:
        receiver = PostbackReceiver(ledger=ledger, on_notification=handle)
        assert await status(receiver, content=bundle(3)) == 500
        assert len(await told(ledger)) == 3
        assert await status(receiver, content=bundle(3)) == 200
        assert len(await told(ledger)) == 3
    assert handled == ["1", "2", "1", "2", "3"]


@pytest.mark.anyio
async def test_a_handler_that_stalls_is_500_after_the_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A handler past the timeout is cancelled and answered with 500; the record stays."""
    ended: list[str] = []

    async def stall(_: Notification) -> None:
        try:
            await anyio.sleep(60)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    async with MemoryLedger() as ledger:
        receiver = PostbackReceiver(ledger=ledger, on_notification=stall, timeout=0.05)
        with anyio.fail_after(5):
            assert await status(receiver) == 500
        assert len(await told(ledger)) == 1
    assert len(ended) == 1
    assert "TimeoutError" in errors(caplog)


@pytest.mark.anyio
async def test_a_ledger_that_stalls_is_500_after_the_timeout() -> None:
    """A ledger past the timeout is answered with 500."""

    class Slow(MemoryLedger):
        async def record(self, *notifications: Notification) -> None:
            await anyio.sleep(60)

    async with Slow() as ledger:
        with anyio.fail_after(5):
            assert await status(PostbackReceiver(ledger=ledger, timeout=0.05)) == 500


@pytest.mark.anyio
async def test_a_handler_that_blocks_past_the_limit_is_500() -> None:
    """A blocking handler past the timeout is answered with 500 once it ends."""
    seen: list[Notification] = []

    def block(one: Notification) -> None:
        seen.append(one)
        time.sleep(0.06)

    receiver = PostbackReceiver(on_notification=block, timeout=0.05)
    assert await status(receiver, content=bundle(3)) == 500
    assert len(seen) == 1
    assert await status(receiver) == 500


@pytest.mark.anyio
async def test_the_same_postback_twice_at_once_is_stored_once(tmp_path: Path) -> None:
    """One postback in two concurrent requests is stored once, and both get 200."""
    answers: list[int] = []

    async def post(receiver: PostbackReceiver) -> None:
        answers.append(await status(receiver))

    async with SQLiteLedger(tmp_path / "promo.db") as ledger:
        receiver = PostbackReceiver(ledger=ledger)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(post, receiver)
        assert len(await told(ledger)) == 1
    assert answers == [200, 200]


@pytest.mark.anyio
async def test_a_bundle_on_a_full_disk_is_there_after_the_repetition(tmp_path: Path) -> None:
    """A bundle on a full disk is answered with 500 and stored wholly by its repetition."""
    connections: list[Any] = []

    def connect(path: str) -> Any:
        connections.append(
            sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        )
        return connections[-1]

    async with SQLiteLedger(tmp_path / "promo.db", connect=connect) as ledger:
        receiver = PostbackReceiver(ledger=ledger)
        (pages,) = connections[-1].execute("PRAGMA page_count").fetchone()
        connections[-1].execute(f"PRAGMA max_page_count = {pages + 4}")
        assert await status(receiver, content=bundle(300)) == 500
        assert await told(ledger) == []
        connections[-1].execute("PRAGMA max_page_count = 1000000")
        assert await status(receiver, content=bundle(300)) == 200
        assert len(await told(ledger)) == 300


# Mounted in another application.


def in_starlette(receiver: PostbackReceiver, below: str) -> Any:
    return Starlette(routes=[Mount(below, app=receiver)])


def in_fastapi(receiver: PostbackReceiver, below: str) -> Any:
    from fastapi import FastAPI  # slow to load, and not needed by most

    application = FastAPI()
    application.mount(below, receiver)
    return application


@pytest.mark.anyio
@pytest.mark.parametrize("mount", [in_starlette, in_fastapi])
@pytest.mark.parametrize("below", ["/hooks", "/postback", "/"])
@pytest.mark.parametrize("secret", [None, SECRET])
async def test_a_receiver_can_be_mounted(
    mount: Callable[[PostbackReceiver, str], Any], below: str, secret: str | None
) -> None:
    """Mounted in Starlette or FastAPI, a receiver's path counts from the mount."""
    seen: list[Notification] = []
    receiver = PostbackReceiver(on_notification=seen.append, secret=secret)
    behind = f"/{secret}" if secret else ""
    application, base = mount(receiver, below), below.rstrip("/")
    assert await status(application, f"{base}/postback{behind}") == 200
    assert await status(application, f"{base}/elsewhere{behind}") == 404
    assert len(seen) == 1


@pytest.mark.anyio
async def test_a_receiver_can_be_a_route() -> None:
    """A receiver can be a Starlette route with its whole path."""
    receiver = PostbackReceiver(on_notification=print, path="/a/b")
    application = Starlette(routes=[Route("/a/b", receiver)])
    assert await status(application, "/a/b") == 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("root_path", "path"),
    [
        ("/hooks", "/hooks/postback"),
        ("/hooks", "/postback"),
        ("/hooks/", "/hooks/postback"),
        ("/post", "/postback"),
        ("", "/postback"),
    ],
)
async def test_the_mount_is_in_the_path_or_not(root_path: str, path: str) -> None:
    """A mounted receiver works whether or not the path includes the mount."""

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        scope = {**scope, "root_path": root_path, "path": path}
        await PostbackReceiver(on_notification=print)(scope, receive, send)

    assert await status(mounted) == 200


@pytest.mark.slow
def test_a_served_application_opens_the_ledger_that_it_mounts(tmp_path: Path) -> None:
    """A FastAPI application with its own lifespan stores postbacks over sockets."""
    from fastapi import FastAPI  # slow to load, and not needed by most

    ledger = SQLiteLedger(tmp_path / "promo.db")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with ledger:
            yield

    application = FastAPI(lifespan=lifespan)
    application.mount("/hooks", PostbackReceiver(ledger=ledger, secret=SECRET))
    with ServerThread(application) as server:
        url = f"{server.url}/hooks/postback/{SECRET}"
        assert (
            httpx.post(
                url, content=bundle(300), verify=client_context(), trust_env=False
            ).status_code
            == 200
        )
    assert len(anyio.run(reopened, tmp_path / "promo.db")) == 300


async def reopened(path: Path) -> list[Notification]:
    async with SQLiteLedger(path) as ledger:
        return await told(ledger)


# Served alone.


@asynccontextmanager
async def living(receiver: PostbackReceiver) -> AsyncIterator[list[Any]]:
    """Start and stop a receiver as a server does; yield what it sends."""
    sent: list[Any] = []
    started, turn = anyio.Event(), anyio.Event()
    messages = ["lifespan.shutdown", "lifespan.startup"]

    async def receive() -> dict[str, Any]:
        if len(messages) == 1:
            await turn.wait()
        return {"type": messages.pop()}

    async def send(message: Any) -> None:
        sent.append(message)
        started.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receiver, {"type": "lifespan"}, receive, send)
        with anyio.fail_after(5):
            await started.wait()
        yield sent
        turn.set()


@pytest.mark.anyio
async def test_a_receiver_opens_its_ledger_and_closes_it(tmp_path: Path) -> None:
    """A receiver opens its ledger at start-up and closes it at shutdown."""
    ledger = SQLiteLedger(tmp_path / "promo.db")
    receiver = PostbackReceiver(ledger=ledger)
    async with living(receiver) as sent:
        assert sent == [{"type": "lifespan.startup.complete"}]
        assert await status(receiver) == 200
        assert len(await told(ledger)) == 1
    assert sent[1:] == [{"type": "lifespan.shutdown.complete"}]
    assert len(await reopened(tmp_path / "promo.db")) == 1


@pytest.mark.anyio
async def test_a_receiver_leaves_a_ledger_open_that_it_did_not_open(tmp_path: Path) -> None:
    """A receiver does not close a ledger that was open before."""
    async with SQLiteLedger(tmp_path / "promo.db") as ledger:
        async with living(PostbackReceiver(ledger=ledger)) as sent:
            pass
        assert [message["type"] for message in sent] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]
        assert await told(ledger) == []


@pytest.mark.anyio
@pytest.mark.parametrize("has_ledger", [True, False])
async def test_without_a_ledger_to_open_it_starts_as_well(has_ledger: bool) -> None:
    """A receiver with a memory ledger, or none, starts and stops."""
    ledger = MemoryLedger()
    receiver = PostbackReceiver(ledger=ledger if has_ledger else None, on_notification=print)
    async with living(receiver) as sent:
        pass
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert await told(ledger) == []
    await ledger.aclose()


@pytest.mark.anyio
async def test_a_ledger_that_cannot_be_opened_fails_the_start(tmp_path: Path) -> None:
    """A ledger that cannot be opened fails the start with its reason."""
    receiver = PostbackReceiver(ledger=SQLiteLedger(tmp_path / "nowhere" / "promo.db"))
    async with living(receiver) as sent:
        pass
    (failed,) = sent
    assert failed["type"] == "lifespan.startup.failed"
    assert "there is no directory" in failed["message"]


@pytest.mark.anyio
async def test_a_ledger_that_cannot_be_closed_fails_the_shutdown() -> None:
    """A ledger that cannot be closed fails the shutdown with its reason."""

    class Stuck(MemoryLedger):
        @property
        def is_open(self) -> bool:
            return False

        async def aclose(self) -> None:
            await super().aclose()
            raise LedgerError("it is stuck")

    async with living(PostbackReceiver(ledger=Stuck())) as sent:
        pass
    assert sent[1:] == [{"type": "lifespan.shutdown.failed", "message": "it is stuck"}]


@pytest.mark.anyio
async def test_websockets_are_closed_and_others_refused() -> None:
    """A websocket is closed, and an unknown ASGI type raises ValueError."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    _, receiver = kept()
    await receiver({"type": "websocket", "path": "/postback"}, receive, send)
    assert sent == [{"type": "websocket.close"}]
    with pytest.raises(ValueError, match="'mqtt'"):
        await receiver({"type": "mqtt"}, receive, send)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `uvicorn module:receiver` with its own ledger, and return its URL."""
    (tmp_path / "hooks.py").write_text(
        "from skycore_async.ledger.sqlite.ledger import SQLiteLedger\n"
        "from skycore_async.receiving.receiver import PostbackReceiver\n"
        "from pathlib import Path\n"
        "from anyio import sleep\n"
        "async def handle(notification):\n"
        "    Path('stored').touch()\n"
        "    while Path('hold').exists(): await sleep(0.01)\n"
        f"receiver = PostbackReceiver(ledger=SQLiteLedger('promo.db'), secret='{SECRET}',\n"
        "    on_notification=handle)\n"
    )
    command = ["-W", "error", "-m", "uvicorn", "hooks:receiver", "--port", "0", "--ws", "none"]
    command += ["--timeout-graceful-shutdown", "3"]
    with subprocess.Popen(  # noqa: S603 - our own interpreter and our own module
        [sys.executable, *command],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if "running on" in line:
                break
        else:
            pytest.fail("".join(lines))
        yield process, lines[-1].split("running on ")[1].split()[0]
        process.kill()


@pytest.mark.slow
def test_a_postback_answered_with_200_survives_a_kill(
    program: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    """A bundle that was answered with 200 survives a kill of the server."""
    process, url = program
    answer = httpx.post(
        f"{url}/postback/{SECRET}", content=bundle(300), verify=client_context(), trust_env=False
    )
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert answer.status_code == 200
    assert len(anyio.run(reopened, tmp_path / "promo.db")) == 300


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_caller_that_never_finishes_holds_up_no_stop(
    program: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    """A request that never ends does not hold up a stop, and stored ones get their 200."""
    process, url = program
    port = httpx.URL(url).port or 0
    (tmp_path / "hold").touch()
    head = f"POST /postback/{SECRET} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n<POST"
    answers: list[int] = []

    def post_whole() -> None:
        answer = httpx.post(
            f"{url}/postback/{SECRET}",
            content=notification(),
            verify=client_context(),
            trust_env=False,
            timeout=20,
        )
        answers.append(answer.status_code)

    posting = threading.Thread(target=post_whole)
    with (
        socket.create_connection(("127.0.0.1", port)) as unfinished,
        socket.create_connection(("127.0.0.1", port)) as silent,
    ):
        unfinished.sendall(head.encode())
        silent.sendall(b"POST /post")
        posting.start()
        while not (tmp_path / "stored").exists():
            assert posting.is_alive()
        process.send_signal(signal.SIGTERM)
        with suppress(ConnectionError):
            while True:  # until it takes no more
                socket.create_connection(("127.0.0.1", port)).close()
        (tmp_path / "hold").unlink()
        process.wait(8)  # without the option for as long as a body may take
        posting.join(5)
    assert answers == [200]
    assert len(anyio.run(reopened, tmp_path / "promo.db")) == 1


def test_a_connection_that_breaks_while_sending_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that breaks in a postback records nothing, and the server goes on."""
    with ServerThread(PostbackReceiver(ledger=SQLiteLedger(tmp_path / "promo.db"))) as server:
        port = httpx.URL(server.url).port
        body = notification().encode()
        head = f"POST /postback HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) + 1}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port or 0)) as connection:
            connection.sendall(head.encode() + body)
        large = httpx.post(
            f"{server.url}/postback",
            content=b" " * 5_000_000,
            verify=client_context(),
            trust_env=False,
        )
        assert large.status_code == 413
    assert anyio.run(reopened, tmp_path / "promo.db") == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_ledger_in_use_stops_the_server_from_starting(tmp_path: Path) -> None:
    """A server whose ledger is in use does not start."""

    async def start() -> None:
        async with SQLiteLedger(tmp_path / "promo.db"):
            receiver = PostbackReceiver(ledger=SQLiteLedger(tmp_path / "promo.db"))
            with pytest.raises(RuntimeError, match="failed to start"):
                await anyio.to_thread.run_sync(ServerThread(receiver).start)

    anyio.run(start)


# With the provider's retry.


async def placed(path: Path, tracking_id: str) -> Delivery | None:
    """Record a message as its answer would, and return its delivery."""
    async with SQLiteLedger(path) as ledger:
        intent = SendIntent(key="k", content=b"", to=NUMBER, from_="60856", started_at=time.time())
        assert await ledger.begin(intent) is None
        accepted = Submission(state=MessageState.ACCEPTED, tracking_id=tracking_id)
        await ledger.finish("k", accepted)
        return await ledger.delivery(tracking_id)


def failing(handled: list[Notification]) -> Awaitable[None] | None:
    if len(handled) <= 2:
        raise OSError("the shop's database is down")
    return None


def stalling(handled: list[Notification]) -> Awaitable[None] | None:
    return anyio.sleep(60) if len(handled) <= 2 else None


@pytest.mark.slow
@pytest.mark.parametrize(("mishap", "timeout"), [(failing, 10), (stalling, 0.2)])
@pytest.mark.parametrize("form", [PostbackForm.NOTIFICATION, PostbackForm.FLAT])
def test_the_providers_retry_changes_nothing_twice(
    tmp_path: Path,
    mishap: Callable[[list[Notification]], Awaitable[None] | None],
    timeout: float,
    form: PostbackForm,
) -> None:
    """A handler that fails or stalls gets a postback again; the ledger has it once."""
    handled: list[Notification] = []

    def handle(one: Notification) -> Awaitable[None] | None:
        handled.append(one)
        return mishap(handled)

    receiver = PostbackReceiver(
        ledger=SQLiteLedger(tmp_path / "promo.db"), on_notification=handle, timeout=timeout
    )
    with (
        ServerThread(receiver) as server,
        Simulator(
            postback_url=f"{server.url}/postback", postback_form=form, time_scale=0.0001
        ) as simulator,
    ):
        request = (
            "<REQUEST><ACTION>sendSMS</ACTION><API_KEY>simulator-key</API_KEY>"
            f"<TO>{NUMBER}</TO><FROM>60856</FROM><TEXT>Hello</TEXT></REQUEST>"
        )
        httpx.post(simulator.url, data={"xml": request}, verify=client_context(), trust_env=False)
        simulator.wait_for_postbacks(timeout=10)
        statuses = [attempt.status for attempt in simulator.postbacks]
        (message,) = simulator.messages
    assert (statuses.count(200), set(statuses)) == (2, {200, 500})
    assert len(handled) >= 4
    delivery = anyio.run(placed, tmp_path / "promo.db", str(message.tracking_id))
    assert delivery is not None
    assert delivery.state is MessageState.DELIVERED
    assert len(delivery.events) == 2
    assert {type(event) for event in delivery.events} == {SentNotification, DeliveryReceipt}


def test_a_notification_of_no_known_kind_is_kept_with_its_neighbours() -> None:
    """A notification of an unknown kind is handed on with its neighbours."""
    odd = '<NOTIFICATION ID="9"><ORIGIN>FAX</ORIGIN><CODE>N999</CODE></NOTIFICATION>'
    seen, receiver = kept()
    body = f"<POSTBACK>{notification()}{odd}</POSTBACK>"
    assert anyio.run(lambda: status(receiver, content=body)) == 200
    assert [type(one) for one in seen] == [DeliveryReceipt, UnknownNotification]
    assert seen == list(parse_postback(body))
    assert getattr(seen[0], "state", None) is DeliveryState.DELIVERED


# A server that tells of no start.


@pytest.mark.anyio
async def test_without_a_start_the_ledger_is_opened_at_the_first_postback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without start-up the ledger is opened once at the first postback, with a warning.

    A ledger that was open and is closed is not opened again.
    """
    ledger = SQLiteLedger(tmp_path / "promo.db")
    receiver = PostbackReceiver(ledger=ledger)
    answers: list[int] = []

    async def post() -> None:
        answers.append(await status(receiver))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(post)
    assert answers == [200, 200, 200]
    assert len(await told(ledger)) == 1
    (said,) = (one.getMessage() for one in caplog.records if one.levelno == logging.WARNING)
    assert "opened at the first postback" in said
    caplog.clear()
    await ledger.aclose()
    assert await status(receiver) == 500
    assert not ledger.is_open


@pytest.mark.parametrize("is_inbox", [False, True])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_where_each_request_has_an_event_loop_each_is_taken_in(
    tmp_path: Path, backend: str, is_inbox: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Postbacks are taken in even if each request has its own event loop."""
    path = tmp_path / "a.db"
    receiver = PostbackReceiver(ledger=path if is_inbox else SQLiteLedger(path))
    for n in range(3):
        post = partial(status, receiver, content=notification(n, tracking_id=f"SMS_{n}"))
        assert anyio.run(post, backend=backend) == 200
    assert len(anyio.run(reopened, path)) == 3
    said = [record.message for record in caplog.records]
    assert sum("opened at the first postback" in each for each in said) == 1


@pytest.mark.anyio
async def test_a_ledger_that_the_application_opened_is_not_opened_again(tmp_path: Path) -> None:
    """A ledger that the application opened and closed is not opened by the receiver."""
    ledger = SQLiteLedger(tmp_path / "promo.db")
    receiver = PostbackReceiver(ledger=ledger)
    async with ledger:
        assert await status(receiver) == 200
    assert await status(receiver) == 500
    assert not ledger.is_open


@pytest.mark.anyio
async def test_why_a_ledger_cannot_be_opened_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A ledger that cannot be opened is logged, and the next postback tries again."""
    ledger = SQLiteLedger(tmp_path / "later" / "promo.db")
    receiver = PostbackReceiver(ledger=ledger)
    assert await status(receiver) == 500
    (record,) = (one for one in caplog.records if one.levelno == logging.ERROR)
    assert f"answered with 500: {ledger.path}: there is no directory" in record.getMessage()
    ledger.path.parent.mkdir()
    assert await status(receiver) == 200
    await ledger.aclose()


@pytest.mark.anyio
async def test_a_timeout_is_logged_as_a_timeout(caplog: pytest.LogCaptureFixture) -> None:
    """A handler past the timeout is logged with that time."""

    async def stall(_one: Notification) -> None:
        await anyio.sleep_forever()

    receiver = PostbackReceiver(on_notification=stall, timeout=0.01)
    assert await status(receiver) == 500
    (record,) = (one for one in caplog.records if one.levelno == logging.ERROR)
    assert "did not end within 0.01 seconds" in record.getMessage()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("postgresql://u:password@h/db", "give PostgresLedger"),
        ("host=h password=password", "give PostgresLedger"),
        (7, "a int is no"),
        (SQLiteLedger, "a ABCMeta is no"),
    ],
)
def test_a_value_that_is_no_ledger_is_refused_at_once(wrong: Any, said: str) -> None:
    """A `ledger=` that is no ledger is refused with advice, without showing passwords."""
    with pytest.raises(ConfigurationError, match=f"ledger: .*{said}") as caught:
        PostbackReceiver(ledger=wrong)
    assert "=password" not in str(caught.value)
    assert ":password" not in str(caught.value)
