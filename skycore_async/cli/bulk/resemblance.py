"""Whether two campaigns are the same messages, told from a few hundred of them.  No I/O.

Strategy: of each campaign those messages are kept whose numbers have the smallest checksums.
Two campaigns that share messages keep the same ones, however their rows are ordered and
whichever others are in them; of those, the texts are compared.  (A bottom-k sketch.)
"""

from __future__ import annotations

import heapq
import struct
from hashlib import blake2b
from math import inf
from typing import Final, Self
from zlib import crc32

_KEPT: Final = 256  # messages; a share is then told to a few percent
_RECORD: Final = struct.Struct("<I8s")


class Sketch:
    """Some of the messages of a campaign, the same few of the same messages."""

    def __init__(self) -> None:
        self._texts: dict[int, bytes] = {}  # by the checksum of the number
        self._largest: list[int] = []  # of those, as a heap with the largest first
        self._bound: float = inf  # beyond it, nobody knows what the campaign has

    def add(self, to: str, text: str) -> None:
        """Take one message into account."""
        checksum = crc32(to.encode())
        if checksum < self._bound:
            self._keep(checksum, blake2b(text.encode(), digest_size=8).digest())

    def merge(self, other: Sketch) -> None:
        """Take all messages of another into account."""
        for checksum, text in other._texts.items():
            self._keep(checksum, text)

    def share_in(self, other: Sketch) -> float:
        """Return about which share of these messages the other campaign has, from 0 to 1."""
        bound = min(self._bound, other._bound)
        told = sum(checksum <= bound for checksum in self._texts)
        return self.count_in(other) / told if told else 0.0

    def count_in(self, other: Sketch) -> int:
        """Return how many of the kept messages the other campaign is known to have."""
        bound = min(self._bound, other._bound)
        return sum(
            other._texts.get(checksum) == text
            for checksum, text in self._texts.items()
            if checksum <= bound
        )

    def _keep(self, checksum: int, text: bytes) -> None:
        if checksum not in self._texts:
            heapq.heappush(self._largest, -checksum)
        self._texts[checksum] = text
        if len(self._largest) > _KEPT:
            del self._texts[-heapq.heappop(self._largest)]
        if len(self._largest) == _KEPT:
            self._bound = -self._largest[0]

    def to_bytes(self) -> bytes:
        """Return it as bytes, to be kept."""
        return b"".join(_RECORD.pack(*pair) for pair in self._texts.items())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the one that `to_bytes` gave these bytes of."""
        sketch = cls()
        for checksum, text in _RECORD.iter_unpack(data):
            sketch._keep(checksum, text)
        return sketch
