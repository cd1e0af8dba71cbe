"""How many messages there are of each kind, as a summary counts them.  No I/O, no storage.

Strategy: a kind is all by which a summary tells messages apart.  A store that keeps counts
collects the changes of a transaction, and writes them with it; one that keeps none counts its
rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

from ..codes import FailureReason
from .model import BY_REPORT, NOTHING_SENT, TAKEN, MessageState, Summary

_S: Final = MessageState


class CountedKind(NamedTuple):
    """What messages are counted by, as texts; `code` is empty unless the message was refused."""

    state: str
    code: str
    reason: str
    settled_by: str


def counted_kind(
    state: str, code: str | None = None, reason: str | None = None, settled_by: str | None = None
) -> CountedKind:
    """Return the kind of a message with these columns."""
    refused = (code or "") if state == _S.REJECTED else ""
    return CountedKind(state, refused, reason or "", settled_by or "")


# The same as an expression of SQL, in either database.
KIND: Final = (
    f"state, CASE WHEN state = '{_S.REJECTED}' THEN coalesce(code, '') ELSE '' END,"
    " coalesce(reason, ''), coalesce(settled_by, '')"
)
SENDING: Final = counted_kind(_S.SENDING.value)
ACCEPTED: Final = counted_kind(_S.ACCEPTED.value)


# Counts by state the messages that a report proved not sent, and that were begun again.
PROVEN: Final = (
    "SELECT message.state, count(DISTINCT message.id)"  # noqa: S608 - of constants
    " FROM {attempts} AS attempt JOIN {messages} AS message ON message.id = attempt.message"
    f" WHERE attempt.state = '{_S.NOT_SENT}' AND NOT (coalesce(message.settled_by, '') ="
    f" '{BY_REPORT}' AND message.state IN ('{_S.NOT_SENT}', '{_S.REJECTED}'))"
    " GROUP BY message.state"
)


def summary_of(
    counts: Iterable[tuple[str, str, str, str, int]],
    proven: Iterable[tuple[str, int]],
    *,
    unplaced: int,
    opted_out: int,
) -> Summary:
    """Return the summary of counts by kind, of which some may be 0.

    `proven` are the counts by state of messages that a report proved not sent, and begun since.
    """
    states: Counter[MessageState] = Counter()
    codes: Counter[str] = Counter()
    reasons: Counter[FailureReason] = Counter()
    settled: Counter[str] = Counter()
    proven_not_sent = 0
    for state, code, reason, settled_by, messages in counts:
        if not messages:
            continue
        states[MessageState(state)] += messages
        if state == _S.REJECTED:
            codes[code] += messages
        if reason:
            reasons[FailureReason(reason)] += messages
        if settled_by and state != _S.IN_DOUBT:
            settled[settled_by] += messages
        if settled_by == BY_REPORT and state in NOTHING_SENT:
            proven_not_sent += messages
    begun = {MessageState(state): messages for state, messages in proven}
    if begun:
        settled[BY_REPORT] += sum(begun.values())
    return Summary(
        states=dict(states),
        codes=dict(codes),
        reasons=dict(reasons),
        settled=dict(settled),
        proven_not_sent=proven_not_sent + sum(begun.values()),
        sent_since=sum(messages for state, messages in begun.items() if state in TAKEN),
        unplaced=unplaced,
        opted_out=opted_out,
    )
