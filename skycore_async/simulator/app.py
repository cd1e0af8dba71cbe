"""The pretend Skycore as a Starlette application, which carries out the decisions of `exchange`.

One step without an await decides on a request and queues its postbacks.  So when the
caller has its answer, the message is in the log and its postbacks are pending.

Runs in a `ServerThread`, whose connections it can reset.  Needs the extra
`server`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Final

import anyio

from ..runtime.extras import missing
from .answers import LOG_IN, NO_SUCH_FILE, Ending, Reply
from .asgi_thread import reset, transport_of
from .delivery import PostbackDelivery
from .exchange import METHODS, Decision
from .reports import ReportFault, ReportFile

try:
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route
    from starlette.types import Message, Receive, Scope, Send
except ImportError as error:
    raise missing("server", error) from error

PATH: Final = "/API/wxml/1.3/index.php"
"""The path of the real API."""
_AT_A_TIME: Final = 64 * 1024

Decide = Callable[[str, bytes, bytes], Decision]
FindReport = Callable[[str], ReportFile | None]


def make_app(
    decide: Decide, find_report: FindReport, delivery: PostbackDelivery, *, time_scale: float
) -> Starlette:
    """Return the application.

    `decide` gets the method, the query string and the body; `find_report` gets the name of a file.
    """

    async def answer(request: Request) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response()
        decision = decide(request.method, request.scope["query_string"], body)
        posted = delivery.add(decision.postbacks)
        if decision.postbacks_first:
            await _first_of(posted.wait, partial(_gone, request))
        if decision.delay:
            await _first_of(
                partial(anyio.sleep, decision.delay * time_scale), partial(_gone, request)
            )
        return await _ENDINGS[decision.reply.ending](request, decision.reply)

    async def report(request: Request) -> Response:
        return _report(find_report(request.path_params["name"]))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(delivery.run)
            yield
            tasks.cancel_scope.cancel()

    routes = [Route(PATH, answer, methods=METHODS), Route("/reports/{name}.xml", report)]
    return Starlette(routes=routes, lifespan=lifespan)


async def _first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    async with anyio.create_task_group() as tasks:

        async def run(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            tasks.cancel_scope.cancel()

        for wait in waits:
            tasks.start_soon(run, wait)


async def _gone(request: Request) -> None:
    """Wait until the connection is gone, whichever side ended it."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(reply: Reply) -> Response:
    return Response(reply.body, status_code=reply.status, headers=dict(reply.headers))


class _CutShort(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        half = bytes(self.body)[: len(self.body) // 2]
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        await send({"type": "http.response.body", "body": half, "more_body": True})
        transport_of(scope).close()
        await _gone(Request(scope, receive))


class _BrokenOff(StreamingResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_but_for_the_end(message: Message) -> None:
            if message.get("more_body", True):
                await send(message)

        await super().__call__(scope, receive, send_but_for_the_end)
        transport_of(scope).close()
        await _gone(Request(scope, receive))


def _report(file: ReportFile | None) -> Response:
    if file is None or file.settings.fault is ReportFault.MISSING:
        return _response(NO_SUCH_FILE)
    if file.settings.fault is ReportFault.HTML:
        return _response(LOG_IN)
    kind = _BrokenOff if file.settings.fault is ReportFault.BROKEN_OFF else StreamingResponse
    packed = {"content-encoding": "gzip"} if file.settings.compressed else None
    return kind(_gathered(file.pieces()), media_type="text/xml", headers=packed)


async def _gathered(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Join pieces into ones that are large enough to send."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= _AT_A_TIME:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


async def _whole(_: Request, reply: Reply) -> Response:
    return _response(reply)


async def _cut_short(_: Request, reply: Reply) -> Response:
    return _CutShort(reply.body, status_code=reply.status, headers=dict(reply.headers))


async def _hang(request: Request, _: Reply) -> Response:
    await _gone(request)
    return Response()


async def _close(request: Request, reply: Reply) -> Response:
    transport_of(request.scope).close()
    return await _hang(request, reply)


async def _drop(request: Request, reply: Reply) -> Response:
    reset(transport_of(request.scope))
    return await _hang(request, reply)


_ENDINGS: Final[Mapping[Ending, Callable[[Request, Reply], Awaitable[Response]]]] = {
    Ending.WHOLE: _whole,
    Ending.CUT_SHORT: _cut_short,
    Ending.CLOSE: _close,
    Ending.DROP: _drop,
    Ending.HANG: _hang,
}
