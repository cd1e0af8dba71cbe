"""Whose the rows of a sending report are.  No I/O, no storage.

Strategy: a HISTORYID that a postback told ties its row to its attempt, and takes both out.  Of
what is left a graph tells; see `report_graph`.

Rules:

* No id ties a row that fits another attempt better, nor an attempt that another row fits better:
  nobody says that no two messages have one HISTORYID.
* Where one that was told is found wrong so, the others tie only what fits besides.
* An accepted attempt that is listed later than a report would be about a doubt, or before it
  began, shows nothing: the clock was wrong by that, and may have been so for its neighbours.
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
    """What rows tell: of each doubtful attempt, and which accepted ones surely have one.

    `late` has those of these whose row is later than they ended, and by how much at least.
    """

    doubtful: Mapping[int, Finding]
    present: frozenset[int]
    late: Mapping[int, float] = attrs.field(factory=dict[int, float])


def match(attempts: _Attempts, rows: _Rows, *, after: float = AFTER) -> Matching:
    """Match the attempts to one number, or to numbers that may be the same, and its rows.

    Reports are about `after` seconds past the end of an attempt.
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
    """Return the rows of attempts whose HISTORYID is known, and the other attempts and rows.

    Also which of these have a HISTORYID that no row has.
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
    """Return whether a row fits another better than the attempt with its id, by time or content.

    Then it ties nothing: nobody says that no two have one HISTORYID.
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
