"""A transport for tests of the client, which are not about transports.

It is no mock: it keeps the contract of `Transport`, and answers what it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

import anyio
import xmltodict

from skycore_async import Request, Response, SkycoreError

Answer = bytes | SkycoreError


def accepted(to: str) -> bytes:
    """Return the answer to a message that was taken; its tracking id names the number."""
    return (
        f"<RESPONSE><STATUS>Success</STATUS><TRACKINGID>SMS_{to}</TRACKINGID>"
        f"<TO>{to}</TO></RESPONSE>"
    ).encode()


def refused(code: str) -> bytes:
    """Return the answer to a message that was refused."""
    return f"<RESPONSE><STATUS>Failure</STATUS><ERRORCODE>{code}</ERRORCODE></RESPONSE>".encode()


class StubTransport:
    """Answers by the number that a message goes to; holds answers back while `held` is set.

    `sent` lists the numbers in the order of sending, `most` is how many were
    under way at once.
    """

    def __init__(self, answer: Callable[[str], Answer] = accepted) -> None:
        self.answer = answer
        self.sent: list[str] = []
        self.under_way = 0
        self.most = 0
        self.closed = 0
        self.held: anyio.Event | None = None

    async def send(self, request: Request, *, timeout: float) -> Response:
        to = _to(request)
        self.sent.append(to)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await (self.held.wait() if self.held else anyio.lowlevel.checkpoint())
        finally:
            self.under_way -= 1
        answer = self.answer(to)
        if isinstance(answer, SkycoreError):
            raise answer
        return Response(status=200, headers={}, body=answer)

    async def aclose(self) -> None:
        self.closed += 1


def _to(request: Request) -> str:
    document = parse_qs(request.body.decode())["xml"][0]
    return str(xmltodict.parse(document)["REQUEST"]["TO"])
