"""Safe XML, reading and writing.

xmltodict reads; this module guards it, because a request to a postback URL may
come from anyone:

* A document larger than `MAX_BYTES`, or with more than `MAX_TAGS` tags, is
  refused before a parser sees it.
* Any DOCTYPE is refused at its first byte.  Neither side of the wire format
  has one, and it is what entity expansion, external entities and default
  attributes need.
* A declared encoding that is not in a short list of plain ones is refused.
  Python remembers every name it was asked for, so made-up ones would fill the
  memory, and some of its codecs are no character sets.
* Nesting deeper than `MAX_DEPTH`, or an element with more than `MAX_FIELDS`
  fields or with an attribute longer than `MAX_ATTRIBUTE`, is refused after it.

A refusal quotes nothing of the document, and keeps no exception that does.

So a hostile body costs at most one linear pass, and what gets through can be
compared, copied, pickled and shown without recursing too deep.

White space inside an element is kept: a TEXT may begin with a space.  Callers
strip it if they want.

Writing is plain escaping: the documents have six flat fields.
"""

from __future__ import annotations

import re
from typing import Any, Final, Self
from xml.parsers import expat

MAX_BYTES: Final = 1024 * 1024
MAX_TAGS: Final = 50_000
MAX_DEPTH: Final = 16
MAX_FIELDS: Final = 1024
MAX_ATTRIBUTE: Final = 4096

WHITE_SPACE: Final = " \t\r\n"
# The bytes of white space and of byte order marks, skipped before a document.
BEFORE_DOCUMENT: Final = (WHITE_SPACE + "\ufeff").encode()

_ENCODINGS: Final = re.compile(
    r"utf-?8|utf-16(be|le)?|(us-)?ascii|latin-?1|iso-8859-1?\d|windows-125\d", re.IGNORECASE
)

# A bare CR would be read back as LF (XML 1.0, section 2.11).
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})


class XMLRefused(ValueError):
    """The input is not XML that this package reads; the text says why."""


class NotWellFormed(XMLRefused):
    """The input is not well-formed XML, and breaks no limit before that is clear."""


def is_plain_encoding(name: str) -> bool:
    """Return whether a document may declare the encoding `name`."""
    return _ENCODINGS.fullmatch(name) is not None


def escape(text: str) -> str:
    """Escape `text` for the inside of an element."""
    return text.translate(_ESCAPES)


def parse(document: bytes | str) -> tuple[str, Any]:
    """Parse a document into the name of its root and xmltodict's value of it.

    The value is a dict for an element with children or attributes (attribute
    names after `@`, its own text under `#text`), a str for one with text
    alone, None for an empty one, and a list where a name repeats.

    `bytes` are decoded as the document declares (UTF-8 without a declaration);
    a `str` is text already, whatever it declares.

    Raises NotWellFormed if it is not well-formed, and XMLRefused if it breaks a limit.
    """
    kind = XMLRefused
    try:
        tree, is_small = _tree(document)
    except XMLRefused:
        raise
    except expat.ExpatError as error:
        kind, why = NotWellFormed, f"not well-formed XML: {error}"
    except UnicodeEncodeError as error:  # of a lone surrogate in a str
        kind, why = NotWellFormed, f"not readable XML: {type(error).__name__}"
    except (ValueError, LookupError) as error:
        # For example, a part of ISO 8859 that does not exist.
        why = f"not readable XML: {type(error).__name__}"
    else:
        if not is_small:
            _check_shape(tree)
        return tree.popitem()
    # Raised outside of `except`, since the context would be an exception that quotes the document.
    raise kind(why)


def _tree(document: bytes | str) -> tuple[dict[str, Any], bool]:
    """Return xmltodict's value of a document, and whether it is too small to break a limit."""
    if len(document) > MAX_BYTES:
        raise XMLRefused(f"larger than {MAX_BYTES:,} bytes")
    if isinstance(document, str):
        body, encoding = document.encode(), "utf-8"
    else:
        body, encoding = document, None
    body = body.lstrip(BEFORE_DOCUMENT)
    tags = body.count(b"<")
    if tags > MAX_TAGS:
        raise XMLRefused(f"more than {MAX_TAGS:,} tags")
    # It loads an HTTP client and TLS, which programs that read no XML need not hold.
    import xmltodict  # noqa: PLC0415

    tree = xmltodict.parse(
        body,
        encoding,
        _GuardedExpat(),
        disable_entities=False,  # they need the DOCTYPE that is refused already
        strip_whitespace=False,
    )
    # A level takes two tags, a field four bytes.  Nearly every real document is that small.
    return tree, tags <= 2 * MAX_DEPTH and len(body) <= MAX_ATTRIBUTE


def _refuse_doctype(*_declaration: object) -> None:
    raise XMLRefused("a DOCTYPE is not accepted")


def _check_declaration(_version: str, encoding: str | None, _standalone: int) -> None:
    if encoding is not None and not is_plain_encoding(encoding):
        raise XMLRefused("the encoding that it declares is not accepted")


class _GuardedExpat:
    """A stand-in for the expat module and its parser, for xmltodict; it refuses what is unsafe.

    Attributes come as dicts: xmltodict asks for lists and converts them to such dicts, which takes
    an eighth of its time.  All other attributes of the parser are those of the real one.
    """

    def ParserCreate(self, encoding: str | None, _separator: str | None) -> Self:  # noqa: N802 - expat's own
        self._encoding = encoding
        return self

    def Parse(self, body: bytes, is_final: bool) -> int:  # noqa: N802 - expat's own
        asked = self.__dict__
        encoding = asked.pop("_encoding")
        asked.pop("ordered_attributes", None)
        parser = expat.ParserCreate(encoding)
        for name, value in asked.items():
            setattr(parser, name, value)
        parser.StartDoctypeDeclHandler = _refuse_doctype
        if encoding is None:
            parser.XmlDeclHandler = _check_declaration
        return parser.Parse(body, is_final)


def _check_shape(value: Any, levels: int = MAX_DEPTH) -> None:
    if not levels:
        raise XMLRefused(f"nested deeper than {MAX_DEPTH} levels")
    if type(value) is list:
        for inner in value:
            if type(inner) is dict:
                _check_shape(inner, levels)
        return
    if len(value) > MAX_FIELDS:
        raise XMLRefused(f"more than {MAX_FIELDS:,} fields in one element")
    for name, field in value.items():
        if type(field) is str:
            if len(field) > MAX_ATTRIBUTE and name[0] == "@":
                raise XMLRefused(f"an attribute is longer than {MAX_ATTRIBUTE:,}")
        elif field is not None:
            _check_shape(field, levels - 1)
