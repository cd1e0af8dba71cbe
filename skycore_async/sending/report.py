"""A sending report as it is iterated over: looked up, downloaded, read.

Strategy: a period is asked for in one look-up, or in as many as the account makes necessary:
where it is refused as too long (E509) it is halved, and what is left is asked for in parts of
that length, one after the other, each once the one before was read to its end.

Rules:

* It is complete once each part was read to its end.  Until then nothing can be said of what it
  does not list, and iterating ends with an error that says why.
* Parts overlap by a second, as nobody says whether the ends of a period belong to it; a message
  in both is given once, unless it was sent between the two, and so has another time.
* Where the account allows a period exactly, it is shortened by the overlap.
* A look-up is tried once, since how many there may be is limited.
* It takes no permit of the rate limiter: that is of messages, and look-ups have limits of their
  own (E510).  One would be a message less, and would wait behind all that is being sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Self

from ..errors import NotSent, OutcomeUnknown, PeriodTooLong, ReportError
from ..messages import ReportedMessage, times_of
from ..protocol import report as wire
from ..protocol.report_reader import ReportReader
from ..protocol.responses import date_of
from ..runtime.logs import log
from ..transports.download import Download
from .api_request import api_request
from .dispatcher import Dispatcher
from .report_files import KeptReport, ReportFiles
from .settings import Settings

SHORTEST_PERIOD: Final = timedelta(hours=1)
"""What is not halved any more: no account is likely to allow less, and each look-up counts."""

_OVERLAP: Final = timedelta(seconds=1)
# By how much the times of a message may be earlier than that by which it is asked for.
_EARLIER: Final = timedelta(minutes=1)


class SendingReport:
    """What the provider says that it sent in a period; `client.sending_report` makes one.

        async with client.sending_report(since, until) as report:
            async for message in report:
                ...

    Entering it looks the report up: it `is_begun` once a link was given.  Iterating gives the
    messages as they come, in an order that means nothing.  `complete` is True once all of it
    was read, `covered_until` is up to when it was.  `period` is the longest that is asked for
    at once, which the account may make shorter: then there are several look-ups, most of them
    while it is iterated over.  `dated` is the provider's time as it was last asked for, in
    seconds since 1970; None where it does not say.

    Either raises LookupTooSoon where the account may not look it up yet; after that time it can
    be entered, or iterated over, once more, and goes on where it was.  Either raises another
    ReportError where the report cannot be had or read to its end, and Rejected where the account
    may not have it, as PeriodTooLong where an hour is too long.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        settings: Settings,
        since: datetime,
        until: datetime,
        *,
        period: timedelta | None = None,
        files: ReportFiles | None = None,
    ) -> None:
        for name, time in (("since", since), ("until", until)):
            if not isinstance(time, datetime) or time.tzinfo is None:
                raise ValueError(f"{name}: a datetime with a time zone is needed")
        if not since < until:
            raise ValueError("since: it is not before until")
        if period is not None and period <= _OVERLAP:
            raise ValueError("period: it is not more than a second")
        self.since = since.astimezone(UTC)
        self.until = until.astimezone(UTC)
        self.period = period or self.until - self.since
        self.covered_until = self.since
        self._dispatcher = dispatcher
        self._settings = settings
        self.is_begun = False
        self.dated: float | None = None
        self._granted = timedelta()
        self._files = files
        self._is_entered = False
        self._part: _Part | None = None
        self._messages: Iterator[ReportedMessage] = iter(())
        # Of the part before, and of this one: what may be in the next one as well.
        self._seen: set[tuple[object, ...]] = set()
        self._late: set[tuple[object, ...]] = set()

    @property
    def complete(self) -> bool:
        """Whether all of it was read."""
        return self.covered_until == self.until

    async def __aenter__(self) -> Self:
        self._dispatcher.tasks.check()
        if self._is_entered:
            raise RuntimeError("this report is being read already: call sending_report again")
        if self._part is None and not self.complete:
            self._part = await self._begin()
        self._is_entered = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_entered = False
        if self._part is not None:
            part, self._part = self._part, None
            await part.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ReportedMessage:
        while (message := next(self._messages, None)) is None:
            if self.complete:
                raise StopAsyncIteration
            if not self._is_entered:
                raise RuntimeError("nothing is read before `async with` enters sending_report")
            if self._part is None:
                self._part = await self._begin()
            read = await self._part.read()
            if read is None:
                await self._go_on(self._part)
            else:
                self._messages = iter(self._new(read, self._part.end))
        return message

    async def _begin(self) -> _Part:
        """Look the next part up, which is as long as the account allows, and open it."""
        begin = self.covered_until - (_OVERLAP if self.covered_until > self.since else timedelta())
        while True:
            end = min(self.covered_until + self.period, self.until)
            made_at = datetime.now(UTC)
            try:
                link = await self._look_up(begin, end)
            except PeriodTooLong:
                is_shortest = end - self.covered_until <= SHORTEST_PERIOD
                if is_shortest and not self._is_granted(begin, end):
                    raise
                self._shorten(begin, end)
            else:
                break
        self.is_begun = True
        self._granted = max(self._granted, end - begin)
        file = None
        if self._files is not None:
            file = await self._files.open(begin, end, made_at=made_at)
        part = _Part(self._dispatcher, self._settings, end, file)
        await part.open(link)
        return part

    def _is_granted(self, begin: datetime, end: datetime) -> bool:
        """Return whether a period that is too long was granted before, without the overlap."""
        return end - self.covered_until <= self._granted < end - begin

    def _shorten(self, begin: datetime, end: datetime) -> None:
        """Ask for less at once from now on."""
        length = end - self.covered_until
        self.period = max(length / 2, SHORTEST_PERIOD)
        if self._is_granted(begin, end):
            self.period = length - _OVERLAP
        log.info("no report is given for %s, so one for %s is asked for", length, self.period)

    async def _look_up(self, begin: datetime, end: datetime) -> wire.Link:
        settings, failure = self._settings, None
        try:
            answer = await self._dispatcher.transport.send(
                api_request(wire.request_fields(begin, end), wire, settings),
                timeout=settings.timeout,
            )
        except (NotSent, OutcomeUnknown) as error:
            failure = ReportError(f"the report cannot be looked up: {error}")
            failure.__cause__ = error.__cause__
        else:
            self.dated = date_of(answer.headers)
            return wire.read_link(
                status=answer.status,
                headers=answer.headers,
                body=answer.body,
                api_key=settings.api_key,
            )
        # Out here, as the context would be an error that says a message may have been sent.
        raise failure

    async def _go_on(self, part: _Part) -> None:
        """Leave a part that was read to its end."""
        self._part = None
        self.covered_until = part.end
        self._seen, self._late = self._late, set()
        await part.aclose()

    def _new(self, read: list[ReportedMessage], end: datetime) -> Iterable[ReportedMessage]:
        """Return the messages that were not in the part before."""
        if end < self.until:
            late = end - _OVERLAP - _EARLIER
            self._late.update(_identity(each) for each in read if _may_be_after(each, late))
        return [each for each in read if _identity(each) not in self._seen] if self._seen else read


class _Part:
    """One look-up's worth of a report: `open` it, `read` it to its end, and `aclose` it."""

    def __init__(
        self, dispatcher: Dispatcher, settings: Settings, end: datetime, file: KeptReport | None
    ) -> None:
        self.end = end
        self._file = file
        self._reader = ReportReader()
        self._error: ReportError | None = None
        self._is_read = False
        self._download = Download(
            dispatcher.transport,
            base_url=settings.base_url,
            api_key=settings.api_key,
            timeout=settings.timeout,
        )

    async def open(self, link: wire.Link) -> None:
        """Begin the download."""
        try:
            await self._download.open(link)
        except BaseException:
            await self.aclose()
            raise

    async def read(self) -> list[ReportedMessage] | None:
        """Return the messages that come next, and None at the end of a complete report.

        Raises ReportError at any other end, once what came before it was returned.
        """
        if self._error is not None:
            raise self._error
        if self._is_read:
            return None
        try:
            data = await self._download.read()
        except ReportError as error:
            self._error, data = error, None
        if data is not None:
            if self._file is not None:
                await self._file.write(data)
            return self._reader.feed(data)
        self._is_read = True
        try:
            left = self._reader.finish()
        except ReportError as error:
            self._error = self._error or error
            return []
        if not self._reader.is_complete:
            self._error = self._error or ReportError(
                f"the report is not complete: {self._reader.problem}"
            )
        if self._file is not None:
            await self._file.aclose(is_complete=self._error is None)
        return left

    async def aclose(self) -> None:
        """End the download."""
        try:
            await self._download.aclose()
        finally:
            if self._file is not None:
                await self._file.aclose()


def _identity(message: ReportedMessage) -> tuple[object, ...]:
    """Return by what a message is known again: nobody says that no two have one HISTORYID."""
    return message.history_id, message.to, message.text, _earliest(message)


def _earliest(message: ReportedMessage) -> datetime | None:
    return min(times_of(message), default=None)


def _may_be_after(message: ReportedMessage, late: datetime) -> bool:
    """Return whether a message may have been sent after a time, as far as its own tell."""
    earliest = _earliest(message)
    return earliest is None or earliest >= late
