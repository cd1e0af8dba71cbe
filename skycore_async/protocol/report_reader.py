"""Read a sending report in pieces: bytes in, messages out, in bounded memory.  No I/O.

Strategy: the text is split into tags, from the front; an incomplete tag waits for more text.
`report_contents` interprets the tags.

Rules:

* A report is complete once its `</RESPONSE>` was read, and all of it is as documented.  Anything
  else, such as the rest of a value after an unescaped quote, is a problem: reading goes on, since
  listed messages were sent, but the report is never complete.
* A document that cannot be a report, such as an HTML page, raises ReportError at once; so does a
  DOCTYPE, so that no entity is ever defined, and a tag of more than `MAX_TAG` characters.
* The content of an MMS is skipped.
* Error texts quote nothing of a report.
"""

from __future__ import annotations

import enum
import re
from typing import Final

from ..errors import ReportError
from ..messages import ReportedMessage
from .report_contents import ReportContents
from .report_tags import PLAIN_MESSAGE, SPACE, TAG, attributes
from .report_text import ReportText

MAX_TAG: Final = 64 * 1024
AT_A_TIME: Final = 16 * 1024

# Allowed between elements: the documented examples have dots there.
_NOTHING: Final = re.compile(r"[ \t\r\n.]*")
_MAY_BE_MARKUP: Final = re.compile(r"<(?:[A-Za-z_/!?]|\Z)")
_IN_CONTENT: Final = re.compile(
    rf"</(RESPONSE|CONTENT){SPACE}*>|<CONTENT(?=[ \t\r\n/>])", re.IGNORECASE
)
_LONGEST_END: Final = 64  # characters of a tag that is looked for, of which a part may have come


class _Root(enum.Enum):
    AWAITED = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class ReportReader:
    """Read one report: `feed` it all pieces, then `finish`; both return messages.

    Fewer bytes than `at_a_time` wait for more, so that no tag is looked at many times.
    """

    def __init__(self, *, at_a_time: int = AT_A_TIME) -> None:
        self._at_a_time = at_a_time
        self._waiting = bytearray()
        self._text = ReportText()
        self._rest = ""
        self._root = _Root.AWAITED
        self._contents = ReportContents()
        self._depth = 0  # of MMS that are open, one in another
        self._is_finished = False

    @property
    def is_complete(self) -> bool:
        """Whether the whole report was read, and nothing else."""
        return self._is_finished and self.problem is None

    @property
    def problem(self) -> str | None:
        """Why it is not complete, as far as is known by now."""
        return self._contents.problem

    def feed(self, data: bytes) -> list[ReportedMessage]:
        """Add the next piece, and return the messages that it completes.

        Raises ReportError if it is not a report.
        """
        self._waiting += data
        return self._advance(is_last=False) if len(self._waiting) >= self._at_a_time else []

    def finish(self) -> list[ReportedMessage]:
        """Note the end of the input, and return the remaining messages.

        Raises ReportError if it is not a report; `is_complete` says whether it was a whole one.
        """
        left = self._advance(is_last=True)
        if self._root is _Root.AWAITED:
            raise ReportError("the report is empty, or is no XML")
        if self._rest or self._root is _Root.OPEN:
            # Its time of sending may be in the missing part: it would seem not to be sent yet.
            self._contents.forget_message()
            self._contents.note("it breaks off before its end")
        self._is_finished = True
        return left + self._taken()

    def _advance(self, *, is_last: bool) -> list[ReportedMessage]:
        text = self._rest + self._text.decode(bytes(self._waiting), is_last=is_last)
        self._waiting.clear()
        if self._text.is_damaged:
            self._contents.note("it has bytes that are no text in its encoding")
        at, following = -1, 0
        while at < following < len(text):
            at = following
            following = self._step(text, at)
        self._rest = text[following:]
        if len(self._rest) > MAX_TAG:
            raise ReportError(f"the report has a tag of more than {MAX_TAG:,} characters")
        return self._taken()

    def _taken(self) -> list[ReportedMessage]:
        taken, self._contents.messages = self._contents.messages, []
        return taken

    def _step(self, text: str, at: int) -> int:
        """Read the tag at a position; return where to go on: at that tag if it is incomplete."""
        if self._depth:
            return self._skip(text, at)
        if self._contents.takes_plain:
            plain = PLAIN_MESSAGE.match(text, at)
            if plain is not None and self._contents.take_plain(plain[1], plain[2]):
                return plain.end()
        begin = text.find("<", at)
        if begin != at:
            return self._between(text, at, len(text) if begin < 0 else begin)
        tag = TAG.match(text, at)
        if tag is None:
            return self._no_tag(text, at)
        closes, name, written, is_empty = tag.groups()
        self._take(name.upper(), written, closes=closes == "/", is_empty=is_empty == "/")
        return tag.end()

    def _between(self, text: str, at: int, end: int) -> int:
        if _NOTHING.fullmatch(text, at, end) is None:
            if self._root is _Root.AWAITED:
                raise ReportError("the report is no XML")
            # It may be the rest of a tag that was misread.
            self._contents.forget_message()
            self._contents.note("it has text between its elements")
        return end

    def _no_tag(self, text: str, at: int) -> int:
        for begin, end in (("<!--", "-->"), ("<?", "?>")):
            if text.startswith(begin, at):
                found = text.find(end, at + len(begin))
                return at if found < 0 else found + len(end)
        if text[at : at + 14].lower() == "<!doctype html":
            raise ReportError("the report is an HTML page")
        if text.startswith("<!", at) and not "<!--".startswith(text[at : at + 4]):
            raise ReportError("the report has a DOCTYPE or a CDATA section, as no report has")
        if _MAY_BE_MARKUP.match(text, at):
            return at
        return self._between(text, at, at + 1)

    def _take(self, name: str, written: str, *, closes: bool, is_empty: bool) -> None:
        if self._root is _Root.OPEN and not (name == "RESPONSE" and closes):
            self._contents.take(name, attributes(written), closes=closes, is_empty=is_empty)
            self._depth = int(self._contents.is_in_content)
        elif self._root is _Root.OPEN:
            self._contents.end()
            self._root = _Root.CLOSED
        elif self._root is _Root.CLOSED:
            self._contents.note("it goes on behind its end")
        elif name == "HTML":
            raise ReportError("the report is an HTML page")
        elif name != "RESPONSE" or closes:
            raise ReportError("the report is something else: it does not begin with <RESPONSE>")
        else:
            self._root = _Root.CLOSED if is_empty else _Root.OPEN

    def _skip(self, text: str, at: int) -> int:
        """Skip the content of an MMS, up to its end."""
        found = _IN_CONTENT.search(text, at)
        if found is None:
            begin = text.rfind("<", max(at, len(text) - _LONGEST_END))
            return len(text) if begin < 0 else begin
        if found[1] is None:
            another = TAG.match(text, found.start())
            self._depth += another is not None and not another[4]
            return another.end() if another else found.start()
        if found[1].upper() == "CONTENT":
            self._depth -= 1
            return found.end()
        self._depth = 0
        self._contents.note("it has an MMS without an end")
        return found.start()
