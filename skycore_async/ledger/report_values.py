"""What a ledger says of its attempts to who holds them against a sending report, and hears."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import attrs

from .model import MessageRecord, MessageState
from .report_evidence import OpenReason


@attrs.frozen(kw_only=True)
class Doubt:
    """A message in doubt; `is_under_way` where whoever sends it may still be alive."""

    record: MessageRecord
    is_under_way: bool


class BegunMessage(NamedTuple):
    """The last attempt of a message that was accepted, is in doubt or is under way.

    One that was found without anybody who sends it had ended by then.
    """

    id: int
    to: str
    from_: str | None
    text_digest: bytes | None
    started_at: float
    ended_at: float | None
    history_id: str | None
    state: str
    doubted: bool | None
    settled_by: str | None
    untaken: bool | None
    turn: int | None


class ReportRequest(NamedTuple):
    """When the provider was asked for a report, and whether it refused as too often.

    Then it wanted not to be asked for `retry_after` seconds.
    """

    asked_at: float
    refused: bool
    retry_after: float


@attrs.frozen(kw_only=True)
class AttemptDecision:
    """What a report told of an earlier attempt: `ACCEPTED` or `NOT_SENT`."""

    id: int
    state: MessageState
    history_id: str | None = None


@attrs.frozen(kw_only=True)
class DoubtDecision:
    """What a report told of a message in doubt, as it was when that was `seen`.

    `state` is `ACCEPTED` or `NOT_SENT`, or `IN_DOUBT` where it stays so, and reports listed
    what may be its own within `listed`.
    """

    seen: MessageRecord
    state: MessageState
    history_id: str | None = None
    earlier: tuple[AttemptDecision, ...] = ()
    listed: tuple[float, float] | None = None


@attrs.frozen(kw_only=True)
class OpenDoubt:
    """A message that stays in doubt, and why.

    `not_before` is when it can be ended at the earliest, in UTC, where that time is yet to come;
    `reason.words` say what else is lacking.
    """

    key: str
    reason: OpenReason
    not_before: datetime | None = None


@attrs.frozen(kw_only=True)
class SavedReport:
    """A report as it was downloaded, in a file of its own.

    It is about the time from `since` to `until`, and was made at `made_at`, or a little later.
    What is not `is_complete` broke off, or is no report.
    """

    path: Path
    since: datetime
    until: datetime
    made_at: datetime
    is_complete: bool


@attrs.frozen(kw_only=True)
class Settlement:
    """What sending reports told of the messages in doubt: their keys, each in one of three.

    `sent` are those that were sent, `not_sent` those that were not, and are sent by the next
    run, and `open` those of which nothing is proven.  `problems` say why a report could not be
    had, or was not all there; `saved` are those that were kept.
    """

    sent: tuple[str, ...] = ()
    not_sent: tuple[str, ...] = ()
    open: tuple[OpenDoubt, ...] = ()
    problems: tuple[str, ...] = ()
    saved: tuple[SavedReport, ...] = ()
