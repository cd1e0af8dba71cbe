"""The transport of one process to the provider, which answers as the events say, or not at all.

Rule: a request that a process had sent when it ended still arrives.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote_plus

import anyio
import attrs

from skycore_async import NotSent, OutcomeUnknown, Request, Response

from .events import Answer
from .provider import NEW, Provider, Submission

# As they stand in a form.
_TO: Final = re.compile(rf"{quote_plus('<TO>')}(\d+){quote_plus('</TO>')}")
_TEXT: Final = re.compile(
    rf"{quote_plus('<TEXT>')}Hello\+(\w+)\+v(\d+)\+{quote_plus(f'{NEW}</TEXT>')}"
)
# Seconds from when a message is taken until its answer, with time for news.
_WITH_NEWS: Final = 0.2


class PretendTransport:
    """The way of one process to the provider; `is_gone` tells whether that process ended."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self.is_gone = False
        self.under_way: dict[int, Callable[[], object]] = {}  # what is to be taken
        self.active = 0
        self.closed = 0
        self._numbers = itertools.count()

    async def send(self, request: Request, *, timeout: float) -> Response:
        """Do with a message what was planned for it."""
        self.active += 1
        try:
            return await self._send(request, timeout)
        finally:
            self.active -= 1

    async def _send(self, request: Request, timeout: float) -> Response:
        provider = self._provider
        form = request.body.decode()
        to_found, text_found = _TO.search(form), _TEXT.search(form)
        assert to_found, "the request has no number"
        assert text_found, "the request has no text of ours"
        to, name, version = to_found[1], text_found[1], int(text_found[2])
        await self._while_there(0.0)
        answer = provider.answer_to(name)
        provider.asked[name] += 1
        words = provider.on_submitted(name, to)
        provider.asked_by_others(to, name)
        provider._note(f"asked {name} v{version}: {answer}")
        try:
            with anyio.move_on_after(timeout):
                return await self._answered(answer, name, version, to, words)
        finally:
            provider.on_answered(name)
        if answer is Answer.UNREACHABLE:
            raise NotSent("no connection in time")
        provider.unclear[name] += 1
        raise OutcomeUnknown("no answer in time")

    async def _while_there(self, seconds: float) -> None:
        """Wait; for ever where the process has ended."""
        await anyio.sleep(seconds)
        if self.is_gone:
            await anyio.sleep_forever()

    async def _taken(self, name: str, version: int, to: str, words: list[Any]) -> Submission:
        """Have a message on its way, on which nothing stops it, and wait until it is taken."""
        number = next(self._numbers)
        taken: list[Submission] = []

        def arrive() -> None:
            if self.under_way.pop(number, None):
                taken.append(self._provider.take(name, version, to, words))

        self.under_way[number] = arrive
        try:
            await self._while_there(self._provider.delay())
        finally:
            if not self.is_gone:
                arrive()
        return taken[0]

    def end(self) -> None:
        """Let what has left arrive, and nothing more."""
        for arrive in tuple(self.under_way.values()):
            arrive()
        self.is_gone = True

    async def _answered(
        self, answer: Answer, name: str, version: int, to: str, words: list[Any]
    ) -> Response:
        provider = self._provider
        if answer is Answer.UNREACHABLE:
            await self._while_there(provider.delay())
            raise NotSent("connection refused")
        if answer in _NOT_TAKEN:
            await self._while_there(1000.0 if answer is Answer.NEVER else provider.delay())
            return self._not_taken(answer, name)
        taken = await self._taken(name, version, to, words)
        waits = {Answer.SLOW: 1.5, Answer.NEWS_FIRST: _WITH_NEWS, Answer.LATE: 1000.0}
        await self._while_there(waits.get(answer, 0.0) + provider.delay())
        if answer not in _CLEAR:
            provider.unclear[name] += 1
        if answer is Answer.LOST:
            raise OutcomeUnknown("the connection broke")
        if answer is Answer.RAISES:
            raise ZeroDivisionError(to)
        if answer is Answer.TAKEN_BAD_GATEWAY:
            return _response(502, "<html>Bad Gateway</html>")
        written = _success(taken.spelt(is_encoded=answer is Answer.ODD_SPELLING), to)
        if answer is Answer.HALF:
            written = written[: len(written) // 2]
        elif answer is Answer.TWICE:
            spare = _success("SMS_999999", to)  # before its own, or behind it
            written = spare + written if int(taken.id[-1]) % 2 else written + spare
        elif answer is Answer.OTHERS:
            written = _success("SMS_999998", "15550009999")
        return _response(200, written)

    def _not_taken(self, answer: Answer, name: str) -> Response:
        provider = self._provider
        if answer is Answer.REFUSED:
            provider.refused.add(name)
        if answer in _CODES:
            code = _CODES[answer]
            return _response(
                200,
                f"<RESPONSE><STATUS>Failure</STATUS><ERRORCODE>{code}</ERRORCODE></RESPONSE>",
            )
        if answer is Answer.TOO_MANY:
            return attrs.evolve(_response(429, ""), headers={"retry-after": "1"})
        provider.unclear[name] += 1
        if answer is Answer.BAD_GATEWAY:
            return _response(502, "<html>Bad Gateway</html>")
        raise OutcomeUnknown("the connection broke")

    async def aclose(self) -> None:
        """Count that it was closed."""
        self.closed += 1


_CODES: Final = {
    Answer.REFUSED: "E712",
    Answer.NO_ACCOUNT: "E120",
    Answer.NO_SENDER: "E111",
    Answer.THROTTLED: "E106",
}
_NOT_TAKEN: Final = {
    *_CODES,
    Answer.TOO_MANY,
    Answer.DROPPED,
    Answer.BAD_GATEWAY,
    Answer.NEVER,
}
_CLEAR: Final = {Answer.ACCEPTED, Answer.SLOW, Answer.ODD_SPELLING, Answer.NEWS_FIRST}


def _response(status: int, body: str) -> Response:
    return Response(status=status, headers={}, body=body.encode())


def _success(tracking_id: str, to: str) -> str:
    return (
        f"<RESPONSE><STATUS>Success</STATUS><TRACKINGID>{tracking_id}</TRACKINGID>"
        f"<TO>{to}</TO></RESPONSE>"
    )
