"""The digests of content that the first version of ledgers took.  No I/O.

Strategy: these digests cover the `repr` of the fields, in which Python escapes a character that
its Unicode tables do not know yet.  So for texts with new characters, such as emoji, two versions
of Python may take different digests.  If the digest of this Python differs, each character that
may once have been new is tried both as itself and escaped.

Rules:

* Equal digests mean equal content: to try several finds no other message.
* All characters of Unicode 3.2, of 2002, are shown alike by every Python that ran this package.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Final
from unicodedata import ucd_3_2_0

SIZE: Final = 16  # bytes
_MOST: Final = 8  # new characters, the newest, that are tried: 256 digests


def is_digest_of(
    content: bytes, fields: Sequence[str | None], kept: Callable[[bytes], bytes] = bytes
) -> bool:
    """Return whether a digest is of these fields, whichever Python took it.

    `kept` turns a digest into what a ledger keeps, which differs for a pruned message.
    """
    if content == kept(_digest(repr(tuple(fields)))):
        return True
    new = sorted({c for field in fields for c in field or "" if _may_have_been_new(c)})[-_MOST:]
    if not new:
        return False
    parts = re.split(f"([{''.join(new)}])", _shown(fields, new))
    return any(
        content == kept(_digest("".join([escapes.get(part, part) for part in parts])))
        for count in range(len(new) + 1)
        for escapes in map(_escapes, itertools.combinations(new, count))
    )


def _digest(shown: str) -> bytes:
    return blake2b(shown.encode("utf-8", "surrogatepass"), digest_size=SIZE).digest()


def _may_have_been_new(character: str) -> bool:
    return not character.isascii() and ucd_3_2_0.category(character) == "Cn"


def _escapes(characters: Iterable[str]) -> dict[str, str]:
    return {c: f"\\u{ord(c):04x}" if c <= "\uffff" else f"\\U{ord(c):08x}" for c in characters}


def _shown(fields: Sequence[str | None], new: Sequence[str]) -> str:
    """Return fields as Python shows a tuple of them, with all `new` characters as they are."""
    between = re.compile(f"[{''.join(new)}]")
    return f"({', '.join(_show(field, between) for field in fields)})"


def _show(field: str | None, new: re.Pattern[str]) -> str:
    if field is None:
        return "None"
    # As Python chooses it: the other one only where that needs no escape.
    quote = '"' if "'" in field and '"' not in field else "'"
    parts = [
        repr(part)[1:-1] if quote == '"' else repr(f'"{part}')[2:-1] for part in new.split(field)
    ]
    shown = parts[0] + "".join(map("".join, zip(new.findall(field), parts[1:], strict=True)))
    return f"{quote}{shown}{quote}"
