"""What can be read of a postback that is not well-formed XML.  No I/O.

Strategy: whoever writes XML without escaping its texts sends `me & you` and `I <3 you`, and half a
line of it is none of its neighbours' fault.  So the document is read a second time with what
can be no markup where it stands taken for text; and where that does not do, each NOTIFICATION
of it by itself.  What cannot be read then is kept as it came, with the reason.

Rules:

* Only what no XML can have there is taken for text: an `&` that begins no reference, a `<` that
  begins no tag, a character that is none of XML's, a byte that is none of the encoding's.  What
  may be markup is never touched, nor is what stands in a comment or in CDATA.
* A notification begins and ends where its tags say so, and not in a comment or in CDATA.
* All is read by `safe_xml`, within its limits: no entity is expanded that was not before.
* Nothing is dropped: what stands between notifications and cannot be read is kept, too.
* It costs a few linear passes, whatever the document.
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

# What has a text of its own, in which nothing is markup, and how it ends.
_VERBATIM: Final = re.compile(r"<!--|<!\[CDATA\[|<\?(?=[^\W\d])")
_END_OF_VERBATIM: Final = {"<!--": "-->", "<![CDATA[": "]]>", "<?": "?>"}

_NO_REFERENCE: Final = re.compile("&(?!(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6});)")
_NUMERIC: Final = re.compile("&#(?:x([0-9A-Fa-f]{1,6})|([0-9]{1,7}));")
_NO_TAG: Final = re.compile(r"<(?!/?(?:[^\W\d]|:)[^<>]*>|!|\?[^\W\d])")
_NO_CHARACTER: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def readable_parts(document: bytes | str) -> list[Part] | None:
    """Return the elements of a postback that is not well-formed.

    Each is one that `safe_xml` has read, or a NOTIFICATION whose value has its text and, as
    UNREADABLE, why it cannot be read.  None where the document is no postback at all.

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
    """Return a document as text; a byte that is none of its encoding as one of Latin-1."""
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
    """Yield where each comment, CDATA and instruction begins and ends; one may have no end."""
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
    """Yield a text in pieces, with what can be no markup written as text."""
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
    """Return a reference by number as it is, or as text where it is to no character of XML."""
    code = int(reference[1], 16) if reference[1] else int(reference[2])
    is_one = code < sys.maxunicode and not _NO_CHARACTER.match(chr(code))
    return reference[0] if is_one else f"&amp;{reference[0][1:]}"


# Its elements.


def _elements(text: str, root: str, why: str) -> list[Part]:
    """Return the notifications of a document, each read by itself, and what is between them."""
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
    """Return a text, as long as it is, with no tag in a comment or in CDATA."""
    pieces, at = [], 0
    for begin, end in _verbatim(text):
        fill = "\0" if text.startswith("<![", begin) else " "
        pieces += [text[at:begin], fill * (end - begin)]
        at = end
    return "".join([*pieces, text[at:]])


def _between(text: str, shown: str, begin: int, end: int, why: str) -> list[Part]:
    """Return what stands between notifications and has no place there, if there is any."""
    return [_kept(text[begin:end], why)] if _AROUND.sub("", shown[begin:end]) else []


def _element(text: str) -> Part:
    try:
        return _parsed(text)
    except safe_xml.XMLRefused as error:
        return _kept(text, str(error))


def _kept(text: str, why: str) -> Part:
    return "NOTIFICATION", {UNREADABLE: why, "#text": text}
