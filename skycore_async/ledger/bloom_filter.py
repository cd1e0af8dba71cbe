"""The names of what was forgotten, in memory of a fixed size.

Strategy: a Bloom filter.  It knows every name that was added, and takes some others for known,
too: the more names were added, the more.  Nothing is ever removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

_SIZE: Final = 8 * 1024 * 1024  # bytes: of 10 million names, one in 25 others is taken for known
_BITS: Final = 4  # that each name sets
_WORD: Final = 4  # bytes of the digest that choose a bit


class BloomFilter:
    """Names that were forgotten; `size` is in bytes."""

    def __init__(self, *, size: int = _SIZE) -> None:
        self._size = size
        self._bits: bytearray | None = None  # made when there is something to remember

    def add(self, name: str) -> None:
        """Remember that this name was forgotten."""
        if self._bits is None:
            self._bits = bytearray(self._size)
        for byte, bit in self._places(name):
            self._bits[byte] |= bit

    def __contains__(self, name: str) -> bool:
        """Return whether it was forgotten; True for a few others, too."""
        bits = self._bits
        return bits is not None and all(bits[byte] & bit for byte, bit in self._places(name))

    def _places(self, name: str) -> Iterator[tuple[int, int]]:
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_BITS * _WORD).digest()
        for first in range(0, len(digest), _WORD):
            place = int.from_bytes(digest[first : first + _WORD], "big") % (8 * self._size)
            yield place // 8, 1 << place % 8
