"""The bytes of a sending report as text, piece by piece.  No I/O.

Rules:

* The encoding is that of the byte order mark or the declaration, otherwise UTF-8; one that
  `safe_xml` would not accept is refused.
* Invalid bytes are replaced by a mark and reported; the rest can still be read.
"""

from __future__ import annotations

import codecs
import re
from contextlib import suppress
from typing import Final

from ..errors import ReportError
from . import safe_xml

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED: Final = re.compile(
    rb"""\s*<\?xml\s[^>]{1,200}?\bencoding\s*=\s*["']([^"'>]{1,40})["']""", re.IGNORECASE
)


_LONGEST_DECLARATION: Final = 400


class ReportText:
    """Decode one report."""

    def __init__(self) -> None:
        self._head = b""
        self.is_damaged = False
        self._encoding = "utf-8"
        self._decoder: codecs.IncrementalDecoder | None = None

    def decode(self, data: bytes, *, is_last: bool) -> str:
        """Return the text of the next piece; an incomplete character waits for the rest.

        Raises ReportError for an encoding that is not accepted.
        """
        decoder = self._decoder
        if decoder is None:
            data = self._head + data
            if not (is_last or _is_decided(data)):
                self._head = data
                return ""
            mark, self._encoding = _chosen(data)
            data = data.removeprefix(mark)
            decoder = self._decoder = _decoder(self._encoding)
        try:
            return decoder.decode(data, is_last)
        except UnicodeDecodeError:
            self.is_damaged = True
            left, _ = decoder.getstate()
            decoder = self._decoder = codecs.getincrementaldecoder(self._encoding)("replace")
            return decoder.decode(left + data, is_last)


def _is_decided(data: bytes) -> bool:
    """Return whether the byte order mark and the declaration were read, or there are none."""
    begin = data.lstrip()
    return len(begin) >= _LONGEST_DECLARATION or (
        b"?>" in begin if b"<?xml".startswith(begin[:5]) else len(begin) >= len(codecs.BOM_UTF8)
    )


def _chosen(data: bytes) -> tuple[bytes, str]:
    """Return the byte order mark, and the encoding."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return mark, encoding
    declared = _DECLARED.match(data)
    encoding = declared[1].decode("latin-1").lower() if declared else "utf-8"
    # In UTF-16 nothing could have been read so far.
    if not safe_xml.is_plain_encoding(encoding) or encoding.startswith("utf-16"):
        raise ReportError("the report declares an encoding that is not accepted")
    return b"", encoding


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    with suppress(LookupError):  # a part of ISO 8859 that there is not
        return codecs.getincrementaldecoder(encoding)()
    raise ReportError("the report declares an encoding that there is not")
