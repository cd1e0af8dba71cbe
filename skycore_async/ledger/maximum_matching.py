"""A maximum matching of attempts and rows, each of which is in one pair at most.  No I/O.

Strategy: an attempt gets a row that is free, or one whose owner gets another in its place; the
shortest such chain is looked for row by row.  Both are known by their places in some order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping


class Owners:
    """Which attempt has which row, each one at most; `edges` are the rows that it may have."""

    def __init__(self, edges: Mapping[int, Collection[int]]) -> None:
        self._edges = edges
        self._rows: dict[int, int] = {}
        self.of: dict[int, int] = {}

    def add(self, place: int) -> bool:
        """Give an attempt a row, others another in its place if need be; False if none is left."""
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

    def without(self, places: Collection[int]) -> Owners:
        """Return the same pairs but those of some attempts, whose rows are free."""
        other = Owners(self._edges)
        other._rows = {place: row for place, row in self._rows.items() if place not in places}
        other.of = {row: place for place, row in other._rows.items()}
        return other

    def _hand_on(self, row: int, reached_from: Mapping[int, int], place: int) -> None:
        """Give each row of a chain to the attempt that reached it, from the free one on."""
        while True:
            at = reached_from[row]
            before = self._rows.get(at, -1)
            self.of[row], self._rows[at] = at, row
            if at == place:
                return
            row = before


def matched(places: Iterable[int], edges: Mapping[int, Collection[int]]) -> Owners:
    """Return a maximum matching, in which those have rows first that come first."""
    owners, some = Owners(edges), list(places)
    rows = set[int]().union(*(edges[place] for place in some))
    for place in some:
        if len(owners.of) == len(rows):
            break
        owners.add(place)
    return owners
