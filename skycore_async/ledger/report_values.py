"""The values that a ledger and the settling by a sending report hand to each other."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import attrs

from .model import MessageRecord, MessageState
from .report_evidence import OpenReason


@attrs.frozen(kw_only=True)
class Doubt:
    """A message in doubt; `is_under_way` if the process that sends it may still be alive."""

    record: MessageRecord
    is_under_way: bool


class BegunMessage(NamedTuple):
    """The last attempt of a message that was accepted, is in doubt or is under way.

    If it was found interrupted, `ended_at` is when it was found: it had ended by then.
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
    """One request for a report: when it was made, and whether it was refused as too often.

    After a refusal the provider wants no other request for `retry_after` seconds.
    """

    asked_at: float
    refused: bool
    retry_after: float


@attrs.frozen(kw_only=True)
class AttemptDecision:
    """What a report proved about an earlier attempt: `ACCEPTED` or `NOT_SENT`."""

    id: int
    state: MessageState
    history_id: str | None = None


@attrs.frozen(kw_only=True)
class DoubtDecision:
    """What a report proved about a message in doubt, which was read as `seen`.

    `state` is `ACCEPTED` or `NOT_SENT`, or `IN_DOUBT` if it stays in doubt; then `listed` is the
    span in which reports listed rows that may be its own.
    """

    seen: MessageRecord
    state: MessageState
    history_id: str | None = None
    earlier: tuple[AttemptDecision, ...] = ()
    listed: tuple[float, float] | None = None


@attrs.frozen(kw_only=True)
class OpenDoubt:
    """A message that stays in doubt, and why.

    `not_before` is when the doubt can end at the earliest, in UTC, if that time is yet to come;
    `reason.words` say what else is lacking.
    """

    key: str
    reason: OpenReason
    not_before: datetime | None = None


@attrs.frozen(kw_only=True)
class SavedReport:
    """A report as it was downloaded, in a file of its own.

    It covers the time from `since` to `until`, and was made at `made_at`, or a little later.
    A file that is not `is_complete` broke off, or is no report.
    """

    path: Path
    since: datetime
    until: datetime
    made_at: datetime
    is_complete: bool


@attrs.frozen(kw_only=True)
class Settlement:
    """What sending reports proved about the messages in doubt, each of which is in one of three.

    `sent` has the keys of messages that were sent, `not_sent` of those that were not, which the
    next run sends, and `open` has the messages about which nothing is proven.  `problems` say why
    a report could not be had, or was incomplete; `saved` has the reports that were kept.
    """

    sent: tuple[str, ...] = ()
    not_sent: tuple[str, ...] = ()
    open: tuple[OpenDoubt, ...] = ()
    problems: tuple[str, ...] = ()
    saved: tuple[SavedReport, ...] = ()
