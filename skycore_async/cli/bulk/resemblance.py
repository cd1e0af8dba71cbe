"""Whether two campaigns are the same messages, told from a few hundred of them.  No I/O.

Strategy: of each campaign those messages are kept whose numbers have the smallest checksums.
Two campaigns that share messages keep the same ones, however their rows are ordered and
whichever others are in them; of those, the texts are compared.  (A bottom-k sketch.)
"""

from __future__ import annotations

import heapq
import re
import struct
from hashlib import blake2b
from math import inf
from typing import Final, Self
from unicodedata import normalize
from zlib import crc32

import attrs

_KEPT: Final = 256  # messages; a share is then told to a few percent
_SIZE: Final = 8  # bytes of a digest
_RECORD: Final = struct.Struct(f"<I{_SIZE}s")
_KEY_RECORD: Final = struct.Struct(f"<I{_SIZE}s{_SIZE}s")
_ZEROS: Final = re.compile(r"(?<![0-9])0+(?=[0-9])", re.ASCII)
_DECIMALS: Final = re.compile(r"\.0+$", re.ASCII)


@attrs.frozen
class _Key:
    """A key as digests: of itself, and of what no spreadsheet changes."""

    exact: bytes
    lasting: bytes

    @classmethod
    def of(cls, key: str) -> _Key:
        return cls(_digest(key), _digest(_lasting_form(key)))

    def is_of_one_message(self, other: _Key) -> bool:
        """Return whether two keys, which are two, are of one message all the same."""
        is_another = self.exact != other.exact
        return is_another and (self.lasting == other.lasting or _BY_NUMBER in {self, other})


_BY_NUMBER: Final = _Key(bytes(_SIZE), bytes(_SIZE))  # whichever number that is


class Sketch:
    """Some of the messages of a campaign, the same few of the same messages."""

    def __init__(self) -> None:
        self._texts: dict[int, bytes] = {}  # by the checksum of the number
        # Of those whose keys are known, as texts until they are asked for.
        self._keys: dict[int, _Key | str] = {}
        self._largest: list[int] = []  # of those, as a heap with the largest first
        self._bound: float = inf  # beyond it, nobody knows what the campaign has

    def add(self, to: str, text: str, key: str = "", *, is_by_number: bool = False) -> None:
        """Take one message into account, and its key, which may be made of the number."""
        checksum = crc32(to.encode())
        if checksum < self._bound:
            self._keys[checksum] = _BY_NUMBER if is_by_number else key
            self._keep(checksum, blake2b(text.encode(), digest_size=_SIZE).digest())

    def merge(self, other: Sketch) -> None:
        """Take all messages of another into account, which were before these."""
        for checksum, text in other._texts.items():
            if (key := self._keys.get(checksum) or other._keys.get(checksum)) is not None:
                self._keys[checksum] = key
            self._keep(checksum, text)

    def share_in(self, other: Sketch, *, under_other_keys: bool = False) -> float:
        """Return about which share of these messages the other campaign has, from 0 to 1.

        With `under_other_keys`, those alone count that have another key there.
        """
        bound = min(self._bound, other._bound)
        told = sum(checksum <= bound for checksum in self._texts)
        return self.count_in(other, under_other_keys=under_other_keys) / told if told else 0.0

    def count_in(self, other: Sketch, *, under_other_keys: bool = False) -> int:
        """Return how many of the kept messages the other campaign is known to have.

        For `under_other_keys` see `share_in`.
        """
        bound = min(self._bound, other._bound)
        return sum(
            other._texts.get(checksum) == text
            and (not under_other_keys or self._is_under_another_key(checksum, other))
            for checksum, text in self._texts.items()
            if checksum <= bound
        )

    def _is_under_another_key(self, checksum: int, other: Sketch) -> bool:
        ours, theirs = self._key(checksum), other._key(checksum)
        return ours is not None and theirs is not None and ours.is_of_one_message(theirs)

    def _key(self, checksum: int) -> _Key | None:
        known = self._keys.get(checksum)
        return _Key.of(known) if isinstance(known, str) else known

    def _keep(self, checksum: int, text: bytes) -> None:
        if checksum not in self._texts:
            heapq.heappush(self._largest, -checksum)
        self._texts[checksum] = text
        if len(self._largest) > _KEPT:
            gone = -heapq.heappop(self._largest)
            del self._texts[gone]
            self._keys.pop(gone, None)
        if len(self._largest) == _KEPT:
            self._bound = -self._largest[0]

    def to_bytes(self) -> bytes:
        """Return it as bytes, to be kept, but for the keys."""
        return b"".join(_RECORD.pack(*pair) for pair in self._texts.items())

    def keys_to_bytes(self) -> bytes:
        """Return the keys as bytes, to be kept."""
        known = (
            (checksum, _Key.of(key) if isinstance(key, str) else key)
            for checksum, key in self._keys.items()
        )
        return b"".join(
            _KEY_RECORD.pack(checksum, key.exact, key.lasting) for checksum, key in known
        )

    @classmethod
    def from_bytes(cls, data: bytes, keys: bytes = b"") -> Self:
        """Return the one that `to_bytes` and `keys_to_bytes` gave these bytes of."""
        sketch = cls()
        for checksum, exact, lasting in _KEY_RECORD.iter_unpack(keys):
            sketch._keys[checksum] = _Key(exact, lasting)
        for checksum, text in _RECORD.iter_unpack(data):
            sketch._keep(checksum, text)
        return sketch


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=_SIZE).digest()


def _lasting_form(key: str) -> str:
    """Return what tables leave of a key: they drop zeros in front, and make decimals of it."""
    plain = normalize("NFKC", key).casefold()
    return _DECIMALS.sub("", _ZEROS.sub("", plain))
