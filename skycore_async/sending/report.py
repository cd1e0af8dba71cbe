"""A sending report, which is looked up, downloaded and read as it is iterated over.

Strategy: one look-up requests the whole period.  If the account refuses it as too long (E509), it
is halved, and the rest is requested in parts of that length, each after the one before was read to
its end.

Rules:

* A report is complete once each part was read to its end.  Until then what it does not list means
  nothing, and iterating ends with an error that says why.
* Parts overlap by a second, as it is not documented whether the ends of a period belong to it.  A
  message in both is yielded once, unless it was sent between the two and so has another time.
* If the account allows exactly the requested period, parts are shorter by the overlap.
* A look-up is not retried, since their number is limited.
* A look-up takes no permit of the rate limiter, which is for messages: look-ups have limits of
  their own (E510).  It would use up the start of a message, and wait behind all that is being
  sent.
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
"""The period that is not halved any more: hardly an account allows less, and look-ups are few."""

_OVERLAP: Final = timedelta(seconds=1)
# How much earlier a message's own times may be than the time by which the report selects it.
_EARLIER: Final = timedelta(minutes=1)


class SendingReport:
    """The provider's list of what it sent in a period; `client.sending_report` makes one.

        async with client.sending_report(since, until) as report:
            async for message in report:
                ...

    Entering it looks the report up; `is_begun` is True once there is a link to download it.
    Iterating yields the messages as they come, in no particular order.  `complete` is True once
    all of it was read, and `covered_until` is the time up to which it was.  `period` is the
    longest period of one look-up, which the account may shorten: then there are several look-ups,
    most of them during the iteration.  `dated` is the provider's time at the last look-up, in
    seconds since 1970; None if the provider did not tell.

    Entering and iterating raise LookupTooSoon if the account may not look it up yet; after that
    time, enter or iterate again, and it goes on where it was.  They raise another ReportError if
    the report cannot be downloaded or read to its end, and Rejected if the account may not have
    it, such as PeriodTooLong if even an hour is too long.
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
        # The messages of the part before, and of this one, that the next part may list as well.
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
        """Look up and open the next part, as long as the account allows."""
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
        """Return whether a period that is refused now was granted before, without the overlap."""
        return end - self.covered_until <= self._granted < end - begin

    def _shorten(self, begin: datetime, end: datetime) -> None:
        """Request shorter periods from now on."""
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
        # Raised here, so that its context is no error which says that a message may be sent.
        raise failure

    async def _go_on(self, part: _Part) -> None:
        """Close a part that was read to its end."""
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
    """The part of a report from one look-up: `open` it, `read` it to its end, and `aclose` it."""

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
        """Return the next messages; None at the end of a complete report.

        Raises ReportError at any other end, after all messages before it were returned.
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
    """Return what identifies a message: a HISTORYID alone may not be unique."""
    return message.history_id, message.to, message.text, _earliest(message)


def _earliest(message: ReportedMessage) -> datetime | None:
    return min(times_of(message), default=None)


def _may_be_after(message: ReportedMessage, late: datetime) -> bool:
    """Return whether a message may have been sent after a time, by its own times."""
    earliest = _earliest(message)
    return earliest is None or earliest >= late
