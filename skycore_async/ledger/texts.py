"""Texts as any database can keep them, and as a sending report shows them.

Rule: a character that cannot be kept is replaced, and costs nothing else of its row or bundle.
XML cannot have such characters; a text from elsewhere, as from an exception, can.
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
    # Most have nothing to fold: to see that is faster than to split them.
    if not text.isprintable() or "  " in text or text[:1] == " " or text[-1:] == " ":
        text = " ".join(text.split())
    # A digest of full size is faster than a shorter one.
    return blake2b(text.encode("utf-8", "replace")).digest()[:_SIZE]
