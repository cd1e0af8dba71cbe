"""The tags of a sending report: text in, names and attributes out.  No I/O.

Strategy: regular expressions, since the documented reports are not well-formed and no XML
parser reads them; well-formed input gives the same values as from an XML parser.

Rules:

* A value ends at the first quote after which the tag goes on or ends: at `" name="`, `">` or
  `"/>`.  In XML that is its first quote; if quotes are not escaped, most of them are part of the
  value.
* White space in a value becomes spaces, and a line break one space, as in XML.
* Entities are the five of XML; there are no others.  A `&` that begins neither one of them nor a
  character reference is a `&`.
* The expressions never backtrack: reading a tag takes time linear in its length.
* A repeated group is in `(?>...)`.  `*+` after the group would mean the same, but is wrong in
  Python before 3.11.5, which Debian 12 has: a repetition that fails in the middle is not undone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from .segments import first_forbidden

SPACE: Final = r"[ \t\r\n]"
_NAME: Final = r"[A-Za-z_][A-Za-z0-9_:.-]{0,60}"


def _value(end: str) -> str:
    """Return the pattern of a value; after the last value comes `end`."""
    goes_on = rf"""(?:{end}|{SPACE}++{_NAME}{SPACE}*+={SPACE}*+["'])"""
    return rf"""(?:"(?>(?:[^"]++|"(?!{goes_on}))*)"|'(?>(?:[^']++|'(?!{goes_on}))*)')"""


_IN_TAG: Final = _value(rf"{SPACE}*+/?>")
TAG: Final = re.compile(
    rf"<(/?)({_NAME})((?>(?:{SPACE}++{_NAME}{SPACE}*+={SPACE}*+{_IN_TAG})*)){SPACE}*+(/?)>"
)
"""A tag; its groups are a slash where it closes, its name, its attributes, a slash at its end."""
_AT_END: Final = _value(r"\Z")
_ATTRIBUTES: Final = re.compile(rf"{SPACE}++({_NAME}){SPACE}*+={SPACE}*+({_AT_END})")

# The most usual message, matched in one piece, with the result that its tags would give.
_PLAIN: Final = rf'(?:{SPACE}++[a-z]++="[^"]*+")'
_PLAIN_EVENT: Final = (
    rf'<(?:ACK|DLR)(?>(?:{SPACE}++[a-z]++="[^"<>=]*+")*){SPACE}*+/?>'
    rf"(?>(?:{SPACE}*+</(?:ACK|DLR)>)?)"
)
PLAIN_MESSAGE: Final = re.compile(
    rf"{SPACE}*+<TEXT((?>{_PLAIN}*)){SPACE}*+>((?>(?:{SPACE}*+{_PLAIN_EVENT})*)){SPACE}*+</TEXT>"
)
"""A message; its groups are its attributes and its events."""
PLAIN_ATTRIBUTES: Final = re.compile(r'([a-z]++)="([^"]*+)"')
PLAIN_EVENTS: Final = re.compile(rf'<(ACK|DLR)[^>]*?{SPACE}time="([^"]*+)"')

TO_BE_CLEANED: Final = re.compile(r"[&\t\r\n]")
_BREAK: Final = re.compile(r"\r\n|[\t\r\n]")
_REFERENCE: Final = re.compile(r"&(?:#([0-9]{1,7})|#x([0-9A-Fa-f]{1,6})|(amp|lt|gt|quot|apos));")
_ENTITIES: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


def attributes(written: str) -> dict[str, str] | None:
    """Return the attributes of a tag by their names in lower case; None if one occurs twice."""
    pairs = [(name.lower(), clean(value[1:-1])) for name, value in _ATTRIBUTES.findall(written)]
    return once(pairs)


def once(pairs: Sequence[tuple[str, str]]) -> dict[str, str] | None:
    """Return pairs as a dict; None if a name occurs twice."""
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else None


def clean(value: str) -> str:
    """Return a value with its references resolved and its white space normalised."""
    if TO_BE_CLEANED.search(value) is None:
        return value
    return _REFERENCE.sub(_character, _BREAK.sub(" ", value))


def unescaped(text: str) -> str:
    """Return a text with all levels of escaping removed, so that escaped copies are equal to it.

    In a report that escapes nothing, `&amp;` in a text is read as `&`.
    """
    while (read := clean(text)) != text:
        text = read
    return text


def _character(reference: re.Match[str]) -> str:
    decimal, hexadecimal, name = reference.groups()
    if name:
        return _ENTITIES[name]
    number = int(decimal) if decimal else int(hexadecimal, 16)
    # A reference to a character that XML does not allow is left as written.
    if number <= sys.maxunicode and first_forbidden(chr(number)) is None:
        return chr(number)
    return reference[0]


def moment(written: str | None) -> datetime | None:
    """Return a time in UTC; None if it cannot be read, or has no offset.

    Both editions' forms: `2012-04-30T08:30:12.327558Z`, `2012-04-30 08:30:12.3275-04`.
    """
    try:
        found = datetime.fromisoformat((written or "").strip())
        return None if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
