"""Whether two campaigns have the same messages, judged by a few hundred of them.  No I/O.

Strategy: a sketch keeps the messages whose numbers have the smallest checksums (a bottom-k
sketch).  So the sketches of two campaigns keep the same of the messages that both have, whatever
the order of the rows and the other messages, and the texts of these are compared.
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

_KEPT: Final = 256  # messages, which give a share to within a few percent
_SIZE: Final = 8  # bytes of a digest
_HALF: Final = _SIZE // 2
_RECORD: Final = struct.Struct(f"<I{_SIZE}s")
_KEY_RECORD: Final = struct.Struct(f"<I{_SIZE}s{_SIZE}s")
_ZEROS: Final = re.compile(r"(?<![0-9])0+(?=[0-9])", re.ASCII)
_DECIMALS: Final = re.compile(r"\.0+$", re.ASCII)


@attrs.frozen
class _Key:
    """A key as two digests: of the key, and of what no spreadsheet changes, in two halves."""

    exact: bytes
    lasting: bytes

    @classmethod
    def of(cls, key: str) -> _Key:
        return cls(_digest(key), _lasting_digest(key))

    def is_of_one_message(self, other: _Key) -> bool:
        """Return whether these are two different keys of one message."""
        if self.exact == other.exact:
            return False
        begin_alike = self.lasting[:_HALF] == other.lasting[:_HALF]
        end_alike = self.lasting[_HALF:] == other.lasting[_HALF:]
        return begin_alike or end_alike or _BY_NUMBER in {self, other}


_BY_NUMBER: Final = _Key(bytes(_SIZE), bytes(_SIZE))  # any key that is made of the number


class Sketch:
    """A sample of a campaign's messages; the same messages always give the same sample."""

    def __init__(self) -> None:
        self._texts: dict[int, bytes] = {}  # by the checksum of the number
        # By checksum, where the key is known: its text, until it is needed as digests.
        self._keys: dict[int, _Key | str] = {}
        self._largest: list[int] = []  # the checksums, as a heap with the largest first
        self._bound: float = inf  # messages with larger checksums are not kept

    def add(self, to: str, text: str, key: str = "", *, is_by_number: bool = False) -> None:
        """Add a message and its key; `is_by_number` says that the key is made of the number."""
        checksum = crc32(to.encode())
        if checksum < self._bound:
            self._keys[checksum] = _BY_NUMBER if is_by_number else key
            self._keep(checksum, blake2b(text.encode(), digest_size=_SIZE).digest())

    def merge(self, other: Sketch) -> None:
        """Add the messages of an earlier sketch."""
        for checksum, text in other._texts.items():
            if (key := self._keys.get(checksum) or other._keys.get(checksum)) is not None:
                self._keys[checksum] = key
            self._keep(checksum, text)

    def share_in(self, other: Sketch, *, under_other_keys: bool = False) -> float:
        """Return the approximate share of these messages that the other has, from 0 to 1.

        With `under_other_keys`, only messages that have another key there count.
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
        """Return the sketch as bytes, without the keys."""
        return b"".join(_RECORD.pack(*pair) for pair in self._texts.items())

    def keys_to_bytes(self) -> bytes:
        """Return the keys as bytes."""
        known = (
            (checksum, _Key.of(key) if isinstance(key, str) else key)
            for checksum, key in self._keys.items()
        )
        return b"".join(
            _KEY_RECORD.pack(checksum, key.exact, key.lasting) for checksum, key in known
        )

    @classmethod
    def from_bytes(cls, data: bytes, keys: bytes = b"") -> Self:
        """Return the sketch of which `to_bytes` and `keys_to_bytes` returned these bytes."""
        sketch = cls()
        for checksum, exact, lasting in _KEY_RECORD.iter_unpack(keys):
            sketch._keys[checksum] = _Key(exact, lasting)
        for checksum, text in _RECORD.iter_unpack(data):
            sketch._keep(checksum, text)
        return sketch


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=_SIZE).digest()


def _lasting_digest(key: str) -> bytes:
    """Return a digest of what spreadsheets keep of a key, in two halves, one of which lasts.

    They drop zeros in front of a number, as in a date, and add decimals: of that is the first
    half, and both where the key is no number.  A number they write with other signs in it, too, as
    that of a phone or 1,001: of its digits is the second half.
    """
    plain = normalize("NFKC", key).casefold()
    digest = _digest(_DECIMALS.sub("", _ZEROS.sub("", plain)))
    digits = "".join(filter(str.isalnum, _DECIMALS.sub("", plain)))
    if not digits.isdecimal():
        return digest
    return digest[:_HALF] + _digest(digits.lstrip("0"))[_HALF:]
