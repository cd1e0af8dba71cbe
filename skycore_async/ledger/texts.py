"""Texts as any database can keep them, and as a sending report shows them.

Rule: what cannot be kept costs its character, and never the rest of its row or its bundle.
XML has none of these; what is not of the wire, as words of an exception, can have any.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from ..protocol import report_tags

_SIZE: Final = 8  # bytes of a digest, which tells the texts to one number apart
_NO_CHARACTER: Final = "\ufffd"


def storable(text: str | None) -> str | None:
    """Return a text without NUL, which PostgreSQL refuses, and without lone surrogates."""
    if text is None or (text.isprintable() and text.isascii()):
        return text
    kept = "".join(_NO_CHARACTER if "\ud800" <= each <= "\udfff" else each for each in text)
    return kept.replace("\0", _NO_CHARACTER)


def digest_of(text: str) -> bytes:
    """Return the digest by which a text is known in a sending report, its white space folded."""
    if "&" in text:
        text = report_tags.unescaped(text)
    # Most are as they are: to know that costs less than to take them apart.
    if not text.isprintable() or "  " in text or text[:1] == " " or text[-1:] == " ":
        text = " ".join(text.split())
    # Of its full size it is made faster than of another.
    return blake2b(text.encode("utf-8", "replace")).digest()[:_SIZE]
