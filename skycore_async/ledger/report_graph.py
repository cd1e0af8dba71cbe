"""Finds which attempts to one number the rows of a sending report prove.  No I/O, no storage.

Strategy: attempts and rows form a bipartite graph, with an edge where number, text, sender and
time fit.  Each row is of one attempt at most, so a maximum matching tells which pairs are
possible.  A row *fits* an attempt that was under way at its time.  It is *late* for an attempt
that had ended long before, as that may have waited at the provider.

Rules:

* An attempt whose HISTORYID no row has may have a row of its time, or a later row of a report that
  covers its time.
* Accepted attempts get rows before doubts do.  The fitting rows that are left over belong to
  doubts; among attempts that are alike it does not matter to which.
* A doubt was taken if a row fits it.  A late row may be of somebody else's message.
* If there are more rows than attempts, somebody else sends the same text, and no row is proof.
* Of rows with the same HISTORYID and content only the first fits an attempt.  The others count as
  late: while one of them is left over, no doubt is absent that it may be of.
* A doubt is absent if no row can be its own.  A row that also fits an accepted attempt may be
  of either, and so may a late row.
* A doubt is not absent while a row to its number is left over: a row with another text, as
  providers may alter texts, or an earlier row with its own text, as its clock may have been ahead.
* An attempt is never absent if its text is not known, or if an accepted attempt with the same
  number, text and sender was under way at its time: the row may be of either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from .maximum_matching import Pairing, matched
from .report_evidence import OpenReason
from .report_findings import Absent, Finding, Taken, Unclear
from .report_rows import KnownAttempt, ReportRow, Role, is_alike, is_of_its_time, is_row_of

# Seconds for which an accepted message may have waited at the provider: the same text to the
# same number on another day is another message.
_LONGEST_WAIT: Final = 12 * 3600.0
# Seconds by which the machine's clock may have been ahead as an attempt began.
LONGEST_AHEAD: Final = 48 * 3600.0


def may_be_of_its_time(attempt: KnownAttempt, row: ReportRow) -> bool:
    """Return whether a row may be from after an attempt began; its clock may have been ahead."""
    since = attempt.window[0]
    return row.span[1] >= (since - LONGEST_AHEAD if row.text == attempt.text else since)


class ReportGraph:
    """Which rows fit which attempts, and for which they are late; both by their indexes.

    `unlisted` has the ids of attempts with a HISTORYID that no row has.
    """

    def __init__(
        self, attempts: Sequence[KnownAttempt], rows: Sequence[ReportRow], unlisted: frozenset[int]
    ) -> None:
        self._attempts, self._unlisted = attempts, unlisted
        self._fits: list[set[int]] = [set() for _ in attempts]
        self._late: list[set[int]] = [set() for _ in attempts]
        for place, attempt in enumerate(attempts):
            for row_place, row in enumerate(rows):
                if is_row_of(attempt, row):
                    self._join(place, row_place, row)
        self._known = set[int]().union(*self._fits, *self._late)  # rows that may be of an attempt
        # An accepted attempt that no row fits has a late row.
        waited = (
            late
            for each, fits, late in zip(attempts, self._fits, self._late, strict=True)
            if each.role is Role.ACCEPTED and not fits
        )
        self._claimed = set[int]().union(*self._fits, *waited)
        self._rows = rows
        doubts = [place for place, each in enumerate(attempts) if each.role is Role.DOUBTFUL]
        self._doubts = sorted(doubts, key=lambda place: attempts[place].started_at)

    def _join(self, place: int, row_place: int, row: ReportRow) -> None:
        attempt = self._attempts[place]
        since, until = attempt.window
        first, last = row.span
        if last < since:
            return
        if first <= until and attempt.started_at and not row.is_extra:
            self._fits[place].add(row_place)
        elif attempt.role is Role.DOUBTFUL or (
            first <= until + _LONGEST_WAIT
            and (attempt.id not in self._unlisted or row.since <= since <= until <= row.until)
        ):
            self._late[place].add(row_place)

    def present(self, after: float) -> set[int]:
        """Return accepted attempts that surely have a row, perhaps one that `is_of_its_time`."""
        others = set[int]()
        accepted: list[int] = []
        for place, each in enumerate(self._attempts):
            if each.role is Role.ACCEPTED and each.id not in self._unlisted:
                accepted.append(place)
            else:
                others |= self._fits[place] | self._late[place]
        edges = {
            place: (self._fits[place] | self._listed_late(place)) - others for place in accepted
        }
        pairing = matched(accepted, edges)
        unsure = set(accepted) - set(pairing.of.values())
        ahead = list(unsure)
        while ahead:
            reached = {pairing.of[row] for row in edges[ahead.pop()]} - unsure
            unsure |= reached
            ahead += reached
        return {
            attempt.id
            for attempt, place in ((self._attempts[place], place) for place in accepted)
            if place not in unsure
            and any(is_of_its_time(attempt, self._rows[row], after) for row in edges[place])
        }

    def _listed_late(self, place: int) -> set[int]:
        """Return the late rows of an attempt in reports that cover its time.

        Without this restriction, a text that is sent to one number again and again would prove
        nothing.
        """
        since, until = self._attempts[place].window
        return {
            row
            for row in self._late[place]
            if self._rows[row].since <= until and since <= self._rows[row].until
        }

    def doubtful(self, satisfied: Collection[int]) -> dict[int, Finding]:
        """Return a finding for each doubt; an attempt of each `satisfied` message was taken."""
        foreign, taken = set[int](), dict[int, int]()
        needed = set(satisfied)
        for part in self._parts():
            found = self._taken_in(part, needed)
            if found is None:
                foreign |= part
            else:
                taken |= found
        claimed: dict[int, int] = {}
        for place, row in taken.items():
            claimed.setdefault(row, place)
        sure = {place: row for row, place in claimed.items()}
        told: dict[int, Finding] = {
            self._attempts[place].id: Taken(self._rows[row].history_id)
            for place, row in sure.items()
        }
        for cluster in self._clusters():
            finding = self._absence(cluster, sure, foreign)
            told |= {self._attempts[place].id: finding for place in cluster if place not in sure}
        return told

    def _parts(self) -> Iterator[set[int]]:
        """Yield the connected components of the graph that have doubts, as sets of attempts."""
        by_row: dict[int, list[int]] = {}
        for place in range(len(self._attempts)):
            for row in self._fits[place] | self._late[place]:
                by_row.setdefault(row, []).append(place)
        seen: set[int] = set()
        for first in self._doubts:
            if first in seen:
                continue
            part, ahead = {first}, [first]
            while ahead:
                place = ahead.pop()
                for row in self._fits[place] | self._late[place]:
                    new = set(by_row.pop(row, ())) - part
                    part |= new
                    ahead += new
            seen |= part
            yield part

    def _taken_in(self, part: set[int], satisfied: set[int]) -> dict[int, int] | None:
        """Return the doubts that were taken, each with its row or the row of one that is alike.

        Returns None if there are more rows than attempts.
        """
        rows = set[int]().union(*(self._fits[place] for place in part))
        edges = {place: (self._fits[place] | self._waited(place)) & rows for place in part}
        if len(matched(part, edges).of) < len(rows):
            return None
        fits = {place: self._fits[place] for place in part}
        taken: list[int] = []
        for alike in self._alike(place for place in self._doubts if place in part):
            others = part - set(alike)
            at_once = self._sure(alike, others, fits, satisfied)
            some = self._sure(
                at_once, others, edges | {each: fits[each] for each in alike}, satisfied
            )
            satisfied |= {self._attempts[place].message for place in some}
            taken += some
        # So many of each kind were taken; which row is whose is matched for all together.
        return {place: row for row, place in matched(taken, fits).of.items()}

    def _sure(
        self,
        alike: Sequence[int],
        others: Collection[int],
        edges: Mapping[int, Collection[int]],
        satisfied: Collection[int],
    ) -> list[int]:
        """Return those of the alike doubts that have a row, whichever rows the others have.

        If an accepted attempt may have either of two rows, it is unknown whose the other one is.
        """
        pairing = matched(others, edges)
        claimed = self._claims(alike, pairing, set(satisfied))
        left = [place for place in alike if edges[place] and place not in claimed]
        sure: list[int] = []
        for group in self._sharing(alike) if left else [claimed]:
            mine = [place for place in claimed if place in group]
            without_mine = pairing.without(mine)
            traded = sum(without_mine.add(place) for place in left if place not in group)
            sure += mine[: len(mine) - traded]
        return sure

    def _sharing(self, doubts: Iterable[int]) -> list[set[int]]:
        """Return doubts in groups that share rows, so that no row tells them apart."""
        groups: list[tuple[set[int], set[int]]] = []
        for place in doubts:
            group, rows = {place}, set(self._fits[place])
            apart = []
            for other in groups:
                if rows.isdisjoint(other[1]):
                    apart.append(other)
                else:
                    group |= other[0]
                    rows |= other[1]
            groups = [*apart, (group, rows)]
        return [group for group, _ in groups]

    def _waited(self, place: int) -> set[int]:
        """Return the late rows of an attempt within the longest wait of an accepted attempt.

        Without this, the attempt would lose such a row to another once it is known as accepted.
        """
        last = self._attempts[place].window[1] + _LONGEST_WAIT
        return {row for row in self._late[place] if self._rows[row].span[0] <= last}

    def _claims(self, alike: Iterable[int], pairing: Pairing, satisfied: set[int]) -> list[int]:
        """Return the attempts that get a row; those whose message has none yet come first."""
        claimed: list[int] = []
        left: list[int] = []
        for place in alike:
            message = self._attempts[place].message
            if message in satisfied:
                left.append(place)
            elif pairing.add(place):
                claimed.append(place)
                satisfied.add(message)
        return claimed + [place for place in left if pairing.add(place)]

    def _alike(self, doubts: Iterable[int]) -> list[list[int]]:
        """Return doubts in groups that a report can tell apart only by their times."""
        groups: dict[object, list[int]] = {}
        for place in doubts:
            each = self._attempts[place]
            # An attempt whose text is not known is like no other.
            key = (each.number, each.text, each.from_) if each.text is not None else place
            groups.setdefault(key, []).append(place)
        return list(groups.values())

    def _clusters(self) -> Iterator[list[int]]:
        """Yield groups of doubts that are alike and were under way at the same time."""
        for alike in self._alike(self._doubts):
            cluster: list[int] = []
            ends = 0.0
            for place in alike:
                since, until = self._attempts[place].window
                if cluster and since > ends:
                    yield cluster
                    cluster = []
                cluster.append(place)
                ends = max(ends, until)
            yield cluster

    def _absence(
        self, cluster: Sequence[int], taken: Mapping[int, int], foreign: set[int]
    ) -> Absent | Unclear:
        """Return the finding for the doubts of a cluster that were not found to be taken."""
        fits = set[int]().union(*(self._fits[place] for place in cluster))
        is_unsure = any(self._rows[row].is_unsure for row in fits)
        if is_unsure or (fits and not foreign.isdisjoint(cluster)):
            return Unclear(OpenReason.SENT_BY_OTHERS)
        if any(self._attempts[place].text is None for place in cluster):
            return Unclear(OpenReason.OLDER_VERSION)
        if any(map(self._can_trade, cluster)):
            return Unclear(OpenReason.ALIKE)
        found = [place for place in cluster if place in taken]
        if len(matched(cluster, dict(enumerate(self._fits))).of) > len(found):
            return Unclear(OpenReason.ALIKE)
        late = set[int]().union(*(self._late[place] for place in cluster))
        if late and len(fits | late) > len(found):  # also a row that fits, but is not needed
            return Unclear(OpenReason.LATE_ROW)
        return Absent(
            frozenset(self._attempts[place].id for place in cluster),
            is_beside_another=any(map(self._is_beside_another, cluster)),
        )

    def _is_beside_another(self, place: int) -> bool:
        """Return whether a row to its number, of its time or later, may be of no other attempt."""
        attempt = self._attempts[place]
        sent_as = attrs.evolve(attempt, text=None)
        # A row with its own text that is late for a doubt may be its own, if its clock was ahead.
        return any(
            row_place not in (self._claimed if row.text == attempt.text else self._known)
            and is_alike(sent_as, row.number, row.text, row.from_)
            and may_be_of_its_time(attempt, row)
            for row_place, row in enumerate(self._rows)
        )

    def _can_trade(self, place: int) -> bool:
        """Return whether a like attempt that is not in doubt could trade rows with this one."""
        doubt = self._attempts[place]
        since, until = doubt.window
        return any(
            each.role is not Role.DOUBTFUL
            and each.window[0] <= until
            and since <= each.window[1]
            and doubt.text is not None
            and is_alike(each, doubt.number, doubt.text, doubt.from_)
            for each in self._attempts
        )
