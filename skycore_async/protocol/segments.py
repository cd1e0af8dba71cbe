"""How many SMS segments a text takes, and which characters XML cannot carry.  No I/O.

Strategy: a text is GSM 03.38 if it has no character outside the alphabet, and
UCS-2 otherwise.  From there both are one algorithm over a row of limits and a
way to count units; counting and searching are left to C, never done character
by character.

Rules:

* Text is never changed: the parts joined are the text.
* The alphabet is the basic table and the default extension table.  National
  language tables need a header that the provider does not offer.
* A character is never split: neither the two septets of an extension character
  nor the surrogate pair of UCS-2.
* A position is an index into the str, so it counts code points.
* What a phone can show and what XML can carry differ: form feed is in the GSM
  alphabet, and XML 1.0 forbids it.

Sources: 3GPP TS 23.038, 6.2.1 (alphabet) and 6.2.3 (UCS-2); 3GPP TS 23.040,
9.2.3.24.1 (concatenation); XML 1.0, 2.2 (characters).
"""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Callable
from typing import Final

import attrs

# In the order of the table, eight columns of sixteen.  Left out is 0x1B, the
# escape to the extension table: it is not a character.
_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅå"
    "Δ_ΦΓΛΩΠΨΣΘΞÆæßÉ"
    " !\"#¤%&'()*+,-./"
    "0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNO"
    "PQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmno"
    "pqrstuvwxyzäöñüà"
)
_EXTENSION: Final = "\f^{}\\[~]|€"

_SURELY_ONE: Final = 35  # characters: half of what UCS-2 has room for in one segment
_ONE_OF_GSM: Final = re.compile(f"[{re.escape(_BASIC)}]{{1,160}}")
_NOT_GSM: Final = re.compile(f"[^{re.escape(_BASIC + _EXTENSION)}]")
_NOT_XML: Final = re.compile(r"[\x00-\x08\x0B\x0C\x0E-\x1F\uD800-\uDFFF\uFFFE\uFFFF]")

# Unicode gives controls no names, only these abbreviations.
_C0: Final = (
    "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI "
    "DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
)
_NAMES: Final = {
    **{chr(code): f"{name} control character" for code, name in enumerate(_C0.split())},
    "\ufffe": "noncharacter",
    "\uffff": "noncharacter",
}
_NAMELESS: Final = {"Cc": "control character", "Cs": "lone surrogate"}


class Encoding(enum.StrEnum):
    """The alphabet a message goes out in."""

    GSM_7 = "GSM 03.38"
    UCS_2 = "UCS-2"


@attrs.frozen(kw_only=True)
class NonGSMCharacter:
    """A character that GSM 03.38 lacks, and its index in the text."""

    position: int
    character: str


@attrs.frozen(kw_only=True)
class Segments:
    """How a text is cut into segments, each of them sent and billed as one SMS.

    `parts` are the texts of the segments in order.  `units` is what the whole
    text takes, and `characters_left` what the last segment still takes before
    another is needed: septets in GSM 03.38, UTF-16 code units in UCS-2.
    `forced_ucs2` is every character, in order, for which GSM 03.38 was not
    possible.
    """

    encoding: Encoding
    parts: tuple[str, ...]
    units: int
    characters_left: int
    forced_ucs2: tuple[NonGSMCharacter, ...]

    @property
    def count(self) -> int:
        """How many segments there are."""
        return len(self.parts)


@attrs.frozen(kw_only=True)
class _Alphabet:
    encoding: Encoding
    single: int
    concatenated: int
    units: Callable[[str], int]


def _septets(text: str) -> int:
    return len(text) + sum(map(text.count, _EXTENSION))


def _code_units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


# A segment has 140 octets; concatenation takes 6 of them for its header, with
# a reference number of 8 bits.  134 octets hold 153 septets, or 67 code units.
_GSM_7: Final = _Alphabet(encoding=Encoding.GSM_7, single=160, concatenated=153, units=_septets)
_UCS_2: Final = _Alphabet(encoding=Encoding.UCS_2, single=70, concatenated=67, units=_code_units)


def segments(text: str) -> Segments:
    """Cut a text into the segments it is sent as, as few as possible.

    Units are septets in GSM 03.38, of which an extension character takes two,
    and UTF-16 code units in UCS-2.  One segment holds 160 septets or 70 code
    units; a segment of several holds 153 or 67 (3GPP TS 23.038 and 23.040).

    An empty text has no parts and a count of 0, with a whole segment left: a
    handset would get one empty message, but this package sends none.  A lone
    surrogate counts as one code unit.  Raises nothing for any str.
    """
    forced_ucs2 = tuple(
        NonGSMCharacter(position=match.start(), character=match[0])
        for match in _NOT_GSM.finditer(text)
    )
    alphabet = _UCS_2 if forced_ucs2 else _GSM_7
    units = alphabet.units(text)
    if units <= alphabet.single:
        parts: tuple[str, ...] = (text,) if text else ()
        left = alphabet.single - units
    else:
        parts = _cut(text, alphabet)
        left = alphabet.concatenated - alphabet.units(parts[-1])
    return Segments(
        encoding=alphabet.encoding,
        parts=parts,
        units=units,
        characters_left=left,
        forced_ucs2=forced_ucs2,
    )


def is_one_of_gsm(text: str) -> bool:
    """Return whether a text is one segment of basic GSM 03.38 characters, as most texts are."""
    return _ONE_OF_GSM.fullmatch(text) is not None


def segment_count(text: str) -> int:
    """Return how many segments a text takes, the quick way for most: `segments(text).count`."""
    # So few characters are one segment in either alphabet, each of them two units.
    if 0 < len(text) <= _SURELY_ONE or is_one_of_gsm(text):
        return 1
    return segments(text).count


def _cut(text: str, alphabet: _Alphabet) -> tuple[str, ...]:
    parts: list[str] = []
    start = 0
    while start < len(text):
        part = text[start : start + alphabet.concatenated]
        # No character takes more than two units, so at least half the excess
        # has to go, in characters: each step cuts no more than it must, and at
        # least halves what is left to cut.
        while (excess := alphabet.units(part) - alphabet.concatenated) > 0:
            part = part[: -((excess + 1) // 2)]
        parts.append(part)
        start += len(part)
    return tuple(parts)


def first_forbidden(text: str) -> tuple[int, str] | None:
    """Find the first character that XML 1.0 cannot carry, not even escaped.

    Return its index in the text and the character, or None if all of the text
    can be carried.  Forbidden are the C0 controls other than tab, line feed and
    carriage return, lone surrogates, U+FFFE and U+FFFF (XML 1.0, 2.2).
    """
    if text.isprintable():  # as nearly every text is; no character of these is
        return None
    match = _NOT_XML.search(text)
    return (match.start(), match[0]) if match else None


def describe(character: str) -> str:
    """Name a character in printable ASCII, as in `U+0007 (BEL control character)`.

    Raises `TypeError` for a str that is not one character.
    """
    nameless = _NAMELESS.get(unicodedata.category(character), "unnamed character")
    name = _NAMES.get(character) or unicodedata.name(character, nameless)
    return f"U+{ord(character):04X} ({name})"
