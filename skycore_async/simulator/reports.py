"""Sending reports: when the pretend Skycore gives one, and which of its messages it lists.

A look-up is checked in the provider's order: the key, the dates, the length of the period, the
number of look-ups today, the time since the last one.  A look-up that is granted gets a link to a
file, which lists the messages as they are at that moment.

Pure: the caller passes the time, and a report is written piece by piece.
"""

from __future__ import annotations

import enum
import gzip
import math
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

from ..messages import ReportedMessage, ReportSection
from .account import Account, SubmitRequest
from .answers import Reply, failure, link
from .behaviours import DELIVERED, NOT_SENT, Behaviour, Event
from .outbox import PAUSE
from .report_file import ReportForm, write_report

_DATE: Final = "%Y-%m-%d %H:%M:%S"
_DAY: Final = 24 * 3600.0
_KEPT: Final = 100  # files; links to older ones lead nowhere any more
_FAILURES: Final = frozenset({"E201", "E202"})


class ReportFault(enum.Enum):
    """The fault of the file that a link leads to."""

    TRUNCATED = enum.auto()
    """A complete HTTP answer, with a report that stops in the middle."""
    BROKEN_OFF = enum.auto()
    """A connection that is closed in the middle of the report."""
    HTML = enum.auto()
    """HTTP 200 with an HTML page."""
    MISSING = enum.auto()
    """HTTP 404."""


@attrs.frozen(kw_only=True)
class Reports:
    """How sending reports are made; times are in seconds.

    * `form`: how they are written.
    * `lag`: how old a message is before a report lists it.
    * `queue`: how long a message waits before it is sent; it is listed without an ACK until then.
    * `mixed`: whether campaigns of the account sent messages at the same time, in each section.
    * `compressed`: whether the file is compressed by gzip.
    * `fault`: the fault that the file has.
    """

    form: ReportForm = attrs.field(factory=ReportForm)
    lag: float = 0.0
    queue: float = 0.0
    mixed: bool = False
    compressed: bool = False
    fault: ReportFault | None = None


@attrs.frozen(kw_only=True)
class ReportFile:
    """The file behind a link, with the settings at the time of its look-up."""

    messages: tuple[ReportedMessage, ...] = attrs.field(repr=False)
    settings: Reports

    def pieces(self) -> Iterator[bytes]:
        """Write it; a file that is truncated or breaks off ends in the middle."""
        written = write_report(self.messages, self.settings.form)
        if self.settings.fault in {ReportFault.TRUNCATED, ReportFault.BROKEN_OFF}:
            whole = b"".join(written)
            written = iter((whole[: len(whole) // 2],))
        return _compressed(written) if self.settings.compressed else written


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield gzip.compress(b"".join(pieces))


@attrs.frozen(kw_only=True)
class HistoryEntry:
    """A message, and when it was taken, in seconds since the epoch."""

    time: float
    id: int
    to: str
    from_: str
    text: str
    behaviour: Behaviour
    section: ReportSection = ReportSection.SENDING_LIST

    def reported(self, now: float, *, queue: float, pause: float) -> ReportedMessage:
        """Return it as a report made `now` lists it."""
        sent = self.time + queue
        events = self.behaviour.postbacks
        failed = next((event for event in events if event.code in _FAILURES), None)
        told = sent if failed is NOT_SENT else sent + pause
        return ReportedMessage(
            history_id=str(self.id),
            to=self.to,
            from_=self.from_ or None,
            text=self.text,
            carrier="AT&T",
            section=self.section,
            acknowledged_at=None if failed is NOT_SENT else _by(now, sent),
            delivered_at=_by(now, told) if DELIVERED in events else None,
            failed_at=_by(now, told) if failed else None,
            info=_info(failed) if failed and told <= now else None,
        )


def _by(now: float, time: float) -> datetime | None:
    return datetime.fromtimestamp(time, UTC) if time <= now else None


def _info(failed: Event) -> str:
    return failed.detail or "delivery failure"


class ReportDesk:
    """Answers look-ups; has the history, the granted look-ups and the files."""

    def __init__(self, *, pause: float = PAUSE) -> None:
        self.settings = Reports()
        self.history: list[HistoryEntry] = []
        self.lookups: list[float] = []
        self._pause = pause
        self._files: dict[str, ReportFile] = {}
        self._names: deque[str] = deque()

    def answer(self, request: SubmitRequest, account: Account, *, now: float, host: str) -> Reply:
        """Answer a look-up that came at `now`, with a link to a file on `host`."""
        code = self._code_against(request, account, now)
        if code == "E510":
            every = math.ceil(account.report_interval)
            return failure(code, info=f"look-ups are allowed only every {every} seconds")
        if code is not None:
            return failure(code)
        self.lookups.append(now)
        name = secrets.token_urlsafe(16)
        self._files[name] = self._file(request, now)
        self._names.append(name)
        if len(self._names) > _KEPT:
            del self._files[self._names.popleft()]
        url = f"{host}/reports/{name}.xml?format=xml&zone=UTC"
        return link(url, well_formed=self.settings.form.well_formed)

    def file(self, name: str) -> ReportFile | None:
        """Return the file of this name; None if no link to it was given, or it is too old."""
        return self._files.get(name)

    def _code_against(self, request: SubmitRequest, account: Account, now: float) -> str | None:
        begin, end = _date(request.start_date), _date(request.end_date)
        length = (end or 0.0) - (begin or 0.0)
        longest, a_day = account.report_period, account.reports_a_day
        today = sum(now - _DAY < time for time in self.lookups)
        since = now - self.lookups[-1] if self.lookups else math.inf
        checks = (
            ("E102", not request.api_key),
            ("E104", request.api_key not in account.api_keys),
            ("E506", not (request.start_date and request.end_date)),
            ("E507", begin is None),
            ("E508", end is None),
            ("E509", longest is not None and length > longest),
            ("E120", a_day is not None and today >= a_day),
            ("E510", since < account.report_interval),
        )
        return next((code for code, fails in checks if fails), None)

    def _file(self, request: SubmitRequest, now: float) -> ReportFile:
        begin, end = _date(request.start_date) or 0.0, _date(request.end_date) or 0.0
        settings = self.settings
        listed = [
            entry
            for entry in self.history
            if begin <= entry.time < end and entry.time + settings.lag <= now
        ]
        messages = [
            entry.reported(now, queue=settings.queue, pause=self._pause) for entry in listed
        ]
        if settings.mixed:
            messages += _of_campaigns(begin)
        return ReportFile(messages=tuple(messages), settings=settings)


def _date(text: str) -> float | None:
    try:
        return datetime.strptime(text, _DATE).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _of_campaigns(begin: float) -> Sequence[ReportedMessage]:
    """Make a message of each kind that a report lists apart from those sent one by one."""
    at = datetime.fromtimestamp(begin, UTC) + timedelta(seconds=1)
    return [
        ReportedMessage(
            history_id=str(number),
            to="15551234888",
            from_="60856",
            text=f"Msg&Data rates may apply: {section.value}",
            carrier="All Carriers",
            section=section,
            acknowledged_at=at,
        )
        for number, section in enumerate(ReportSection, 1)
        if section is not ReportSection.SENDING_LIST
    ]
