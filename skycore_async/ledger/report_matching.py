"""Matches the rows of a sending report to attempts.  No I/O, no storage.

Strategy: if a postback named the HISTORYID of an attempt, the row with that HISTORYID is tied to
the attempt, and both are done with.  The rest is left to a graph; see `report_graph`.

Rules:

* No HISTORYID ties a row that fits another attempt better, or an attempt that another row fits
  better: the API does not promise that no two messages have the same HISTORYID.
* Once one HISTORYID is found wrong in this way, the others tie only rows that fit their attempts.
* An accepted attempt whose row is later than a report would cover for a doubt, or from before the
  attempt began, shows nothing: the clock was wrong by so much, perhaps for its neighbours as well.
* An accepted attempt with a row of its own, or a doubt that was taken, is all that its message
  needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import attrs

from .report_evidence import AFTER, OpenReason
from .report_findings import Finding, Taken, Unclear
from .report_graph import ReportGraph
from .report_rows import (
    KnownAttempt,
    ReportRow,
    Role,
    fits,
    is_in,
    is_of_its_time,
    is_row_of,
    lateness,
)

_Attempts: TypeAlias = Sequence[KnownAttempt]
_Rows: TypeAlias = Sequence[ReportRow]
_MOST: Final = 1_000_000  # pairs of attempts and rows of one number that are looked at


@attrs.frozen(kw_only=True)
class Matching:
    """A finding for each attempt in doubt, and the accepted attempts that surely have a row.

    `late` has those accepted attempts whose row is later than their end, with the least number of
    seconds by which it is later.
    """

    doubtful: Mapping[int, Finding]
    present: frozenset[int]
    late: Mapping[int, float] = attrs.field(factory=dict[int, float])


def match(attempts: _Attempts, rows: _Rows, *, after: float = AFTER) -> Matching:
    """Match rows to the attempts to one number, or to numbers that may be the same.

    Reports cover `after` seconds past the end of an attempt.
    """
    if len(attempts) * len(rows) > _MOST:
        doubts = [each.id for each in attempts if each.role is Role.DOUBTFUL]
        crowded = dict.fromkeys(doubts, Unclear(OpenReason.CROWDED))
        return Matching(doubtful=crowded, present=frozenset())
    tied, free, left, unlisted = _tied(attempts, rows)
    graph = ReportGraph(free, left, unlisted)
    by_id = {each.id: each for each in attempts}
    doubtful = {
        id_: Taken(row.history_id) for id_, row in tied.items() if by_id[id_].role is Role.DOUBTFUL
    }
    present = graph.present(after) | {
        id_
        for id_, row in tied.items()
        if by_id[id_].role is Role.ACCEPTED and is_of_its_time(by_id[id_], row, after)
    }
    satisfied = {
        each.message for each in attempts if each.role is Role.ACCEPTED or each.id in doubtful
    }
    return Matching(
        doubtful={**doubtful, **graph.doubtful(satisfied)},
        present=frozenset(present),
        late={id_: late for id_ in present if (late := _lateness(by_id[id_], rows, after))},
    )


def _lateness(attempt: KnownAttempt, rows: _Rows, after: float) -> float:
    return min(
        lateness(attempt, row)
        for row in rows
        if is_row_of(attempt, row) and is_of_its_time(attempt, row, after)
    )


def _tied(
    attempts: _Attempts, rows: _Rows
) -> tuple[dict[int, ReportRow], list[KnownAttempt], list[ReportRow], frozenset[int]]:
    """Return the rows tied to attempts by HISTORYID, and the attempts and rows that are left.

    The last item has the ids of those attempts whose HISTORYID no row has.
    """
    known: dict[str, list[KnownAttempt]] = {}
    for attempt in attempts:
        if attempt.history_id:
            known.setdefault(attempt.history_id, []).append(attempt)
    unsure = {row.history_id for row in rows if row.is_unsure or row.is_extra}
    unsure |= {
        row.history_id
        for row in rows
        if _may_be_anothers(row, known.get(row.history_id, ()), attempts, rows)
    }
    if not unsure.isdisjoint(known):
        unsure |= {
            row.history_id
            for row in rows
            if not all(fits(each, row) for each in known.get(row.history_id, ()))
        }
    sure = {
        history_id: found[0]
        for history_id, found in known.items()
        if len(found) == 1 and history_id not in unsure
    }
    tied = {sure[row.history_id].id: row for row in rows if row.history_id in sure}
    free = [each for each in attempts if each.id not in tied]
    unlisted = frozenset(each.id for each in sure.values() if each.id not in tied)
    return tied, free, [row for row in rows if row.history_id not in sure], unlisted


def _may_be_anothers(row: ReportRow, own: _Attempts, attempts: _Attempts, rows: _Rows) -> bool:
    """Return whether a row fits another attempt better than the one with its HISTORYID.

    Then the HISTORYID ties nothing, as two messages may have the same one.
    """
    other = [each for each in own if not is_row_of(each, row)]
    strangers = [each for each in attempts if each.role is not Role.POSSIBLE and each not in own]
    return (
        any(not is_in(each.window, row) for each in other)
        or any(fits(each, found) for each in other for found in rows)
        or (
            any(fits(each, row) for each in strangers) and not all(fits(each, row) for each in own)
        )
    )
