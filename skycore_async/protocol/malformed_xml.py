"""Read as much as possible of a postback that is not well-formed XML.  No I/O.

Strategy: a server that does not escape its texts sends `me & you` and `I <3 you`, and one such
notification must not cost the others.  So the document is parsed a second time, with all
characters that cannot be markup there taken as text; if that fails, each NOTIFICATION is parsed by
itself.  Parts that still cannot be read are kept as received, with the reason.

Rules:

* Only input that is invalid XML in its place is taken as text: an `&` that begins no reference, a
  `<` that begins no tag, a character that XML does not allow, a byte that the encoding does not
  have.  Possible markup is never changed, and neither are comments and CDATA.
* A notification begins and ends at its tags, except those in a comment or in CDATA.
* Everything is parsed by `safe_xml`, within its limits: no further entity is expanded.
* Nothing is dropped: unreadable text between notifications is kept, too.
* It takes a few linear passes over any document.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any, Final

from ..notifications import CUT_OFF
from . import safe_xml

Part = tuple[str, Any]  # the name of an element, and xmltodict's value of it

UNREADABLE: Final = "#unreadable"  # which no element can be called
_MOST_PARTS: Final = 1024  # the provider bundles 300

_DECLARATION: Final = re.compile(
    rb"""\s{0,99}<\?xml[^<>]{1,99}?encoding\s{0,9}=\s{0,9}["']([\w.-]{1,40})["']"""
)
_ESCAPED_BYTES: Final = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}
_IS_POSTBACK: Final = re.compile(
    r"\s*(?:<\?xml[^<>]*>\s*)?<(POSTBACK|NOTIFICATION)[\s>]", re.IGNORECASE
)
_BEGIN: Final = re.compile(r"<(POSTBACK|NOTIFICATION)[\s>]", re.IGNORECASE)
_ENDS: Final = {
    name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("POSTBACK", "NOTIFICATION")
}
_AROUND: Final = re.compile(r"</?POSTBACK(?:\s[^<>]*)?>|\s+", re.IGNORECASE)

# Constructs whose content has no markup, and how each ends.
_VERBATIM: Final = re.compile(r"<!--|<!\[CDATA\[|<\?(?=[^\W\d])")
_END_OF_VERBATIM: Final = {"<!--": "-->", "<![CDATA[": "]]>", "<?": "?>"}

_NO_REFERENCE: Final = re.compile("&(?!(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6});)")
_NUMERIC: Final = re.compile("&#(?:x([0-9A-Fa-f]{1,6})|([0-9]{1,7}));")
_NO_TAG: Final = re.compile(r"<(?!/?(?:[^\W\d]|:)[^<>]*>|!|\?[^\W\d])")
_NO_CHARACTER: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def readable_parts(document: bytes | str) -> list[Part] | None:
    """Return the elements of a postback that is not well-formed.

    Each is one that `safe_xml` has read, or a NOTIFICATION whose value has its text and, as
    UNREADABLE, why it cannot be read.  None if the document is no postback at all.

    Raises XMLRefused for what breaks a limit.
    """
    text = _decoded(document)
    begin = _IS_POSTBACK.match(text)
    if begin is None:
        return None
    text = text[begin.start(1) - 1 :]  # without a declaration, which may have no end
    try:
        return [_parsed(text)]
    except safe_xml.NotWellFormed as error:
        return _elements(text, begin[1], str(error))


def _decoded(document: bytes | str) -> str:
    """Return a document as text; a byte that its encoding does not have is read as Latin-1."""
    if isinstance(document, str):
        return document
    declared = _DECLARATION.match(document)
    encoding = "utf-8" if declared is None else declared[1].decode()
    if not safe_xml.is_plain_encoding(encoding):
        encoding = "utf-8"
    try:
        text = document.decode(encoding, "surrogateescape")
    except (UnicodeError, LookupError):
        text = document.decode("latin-1")
    return text.removeprefix("\ufeff").translate(_ESCAPED_BYTES)


def _verbatim(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each comment, CDATA section and instruction, even an open one."""
    at = 0
    while found := _VERBATIM.search(text, at):
        closing = _END_OF_VERBATIM[found[0]]
        end = text.find(closing, found.end())
        at = len(text) if end < 0 else end + len(closing)
        yield found.start(), at


# One document, or a part of one.


def _parsed(text: str) -> Part:
    return safe_xml.parse("".join(_repaired(text)))


def _repaired(text: str) -> Iterator[str]:
    """Yield a text in pieces, with everything that cannot be markup escaped."""
    at = 0
    for begin, end in _verbatim(text):
        yield _as_text(text[at:begin])
        yield _NO_CHARACTER.sub("\ufffd", text[begin:end])
        at = end
    yield _as_text(text[at:])


def _as_text(piece: str) -> str:
    piece = _NO_CHARACTER.sub("\ufffd", piece)
    piece = _NUMERIC.sub(_numeric, _NO_REFERENCE.sub("&amp;", piece))
    return _NO_TAG.sub("&lt;", piece)


def _numeric(reference: re.Match[str]) -> str:
    """Return a numeric reference as it is, or escaped if XML does not allow its character."""
    code = int(reference[1], 16) if reference[1] else int(reference[2])
    is_one = code < sys.maxunicode and not _NO_CHARACTER.match(chr(code))
    return reference[0] if is_one else f"&amp;{reference[0][1:]}"


# Its elements.


def _elements(text: str, root: str, why: str) -> list[Part]:
    """Return the notifications of a document, each parsed by itself, and the text between them."""
    shown = _without_verbatim(text)
    begins = list(_BEGIN.finditer(shown))
    if len(begins) > _MOST_PARTS:
        return [_kept(text, why)]
    parts: list[Part] = []
    after = 0
    for begin, end in zip(begins, [*(one.start() for one in begins[1:]), len(text)], strict=True):
        parts += _between(text, shown, after, begin.start(), why)
        closing = _ENDS[begin[1].upper()].search(shown, begin.end(), end)
        if closing is None:
            after = begin.start()
            continue
        after = closing.end()
        parts.append(_element(text[begin.start() : after]))
    if _ENDS[root.upper()].search(shown, begins[-1].end()) is None:
        return [*parts, _kept(text[after:], CUT_OFF)]
    return [*parts, *_between(text, shown, after, len(text), why)]


def _without_verbatim(text: str) -> str:
    """Return a text of the same length, without the tags in comments and CDATA."""
    pieces, at = [], 0
    for begin, end in _verbatim(text):
        fill = "\0" if text.startswith("<![", begin) else " "
        pieces += [text[at:begin], fill * (end - begin)]
        at = end
    return "".join([*pieces, text[at:]])


def _between(text: str, shown: str, begin: int, end: int, why: str) -> list[Part]:
    """Return the text between notifications that does not belong there, if any."""
    return [_kept(text[begin:end], why)] if _AROUND.sub("", shown[begin:end]) else []


def _element(text: str) -> Part:
    try:
        return _parsed(text)
    except safe_xml.XMLRefused as error:
        return _kept(text, str(error))


def _kept(text: str, why: str) -> Part:
    return "NOTIFICATION", {UNREADABLE: why, "#text": text}
