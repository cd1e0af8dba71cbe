"""A maximum matching of attempts and rows, each of which is in one pair at most.  No I/O.

Strategy: augmenting paths, by breadth-first search.  An attempt gets a free row, or the row of
another attempt that can get another row in turn.  Attempts and rows are given as indexes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping


class Pairing:
    """Which attempt has which row, each one at most; `edges` has the rows that each may have."""

    def __init__(self, edges: Mapping[int, Collection[int]]) -> None:
        self._edges = edges
        self._rows: dict[int, int] = {}
        self.of: dict[int, int] = {}

    def add(self, place: int) -> bool:
        """Give an attempt a row, moving others if need be, and return whether it got one."""
        reached_from: dict[int, int] = {}
        ahead = deque([place])
        while ahead:
            at = ahead.popleft()
            for row in self._edges[at]:
                if row in reached_from:
                    continue
                reached_from[row] = at
                if row not in self.of:
                    self._hand_on(row, reached_from, place)
                    return True
                ahead.append(self.of[row])
        return False

    def without(self, places: Collection[int]) -> Pairing:
        """Return a copy in which these attempts have no rows."""
        other = Pairing(self._edges)
        other._rows = {place: row for place, row in self._rows.items() if place not in places}
        other.of = {row: place for place, row in other._rows.items()}
        return other

    def _hand_on(self, row: int, reached_from: Mapping[int, int], place: int) -> None:
        """Give each row of a path to the attempt that reached it, from the free row on."""
        while True:
            at = reached_from[row]
            before = self._rows.get(at, -1)
            self.of[row], self._rows[at] = at, row
            if at == place:
                return
            row = before


def matched(places: Iterable[int], edges: Mapping[int, Collection[int]]) -> Pairing:
    """Return a maximum matching of attempts; where rows are short, those listed first get them."""
    pairing, some = Pairing(edges), list(places)
    rows = set[int]().union(*(edges[place] for place in some))
    for place in some:
        if len(pairing.of) == len(rows):
            break
        pairing.add(place)
    return pairing
