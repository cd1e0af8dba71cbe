"""The contents of a sending report: tags in, messages out.  No I/O.

Strategy: a message is open from its tag until something that can only come after it: its own end
tag, the next message, or the bounds of its parent.  A group's attributes hold from its tag until
the next group or the end of its section.  So tags may be closed as in XML, or not, as in the
provider's examples.

Rules:

* A message has an id, a number and a text, its own or inherited; otherwise it is left out.
* A message that is incomplete, or has a damaged event, is left out, too: its time is not known.
* Of several events of a kind, the earliest counts.  An event without a readable time is ignored,
  since it cannot tell messages apart.
* Any deviation from the documentation is a problem, and a report with a problem is not complete: a
  message that was not found may be in the part that was not understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final

from ..messages import ReportedMessage, ReportSection
from .report_tags import (
    PLAIN_ATTRIBUTES,
    PLAIN_EVENTS,
    TO_BE_CLEANED,
    clean,
    moment,
    once,
)

Fields = Mapping[str, str]
_Events = dict[str, tuple[datetime, str | None]]  # when each was, and what it says

_SECTIONS: Final = MappingProxyType({each.name: each for each in ReportSection})
_GROUPS: Final = MappingProxyType(
    {
        "BATCH": ReportSection.BATCHES,
        "AUTORESPONDER": ReportSection.AUTORESPONDERS,
        "SUB": ReportSection.SUBSCRIPTIONS,
    }
)
_EVENTS: Final = frozenset({"ACK", "DLR", "ERROR"})
_ANSWER: Final = frozenset({"STATUS", "ERRORCODE", "ERRORINFO"})
_NOTHING: Final[Fields] = MappingProxyType({})


class ReportContents:
    """Collect one report's messages in `messages` from its tags, given in order.

    `problem` is the first problem, and `is_in_content` says that the last tag began an MMS.
    """

    def __init__(self) -> None:
        self.messages: list[ReportedMessage] = []
        self.problem: str | None = None
        self.is_in_content = False
        self._section: ReportSection | None = None
        self._inherited = _NOTHING
        self._message: Fields | None = None
        self._events: _Events = {}

    def note(self, problem: str) -> None:
        """Note why the report is not complete; the first reason is kept."""
        self.problem = self.problem or problem

    @property
    def takes_plain(self) -> bool:
        """Whether a message can begin here."""
        return self._section is not None and self._message is None

    def take_plain(self, written: str, events: str) -> bool:
        """Add a message given in one piece; return False if it must be given tag by tag."""
        fields = once(PLAIN_ATTRIBUTES.findall(written))
        if fields is None:
            return False
        if TO_BE_CLEANED.search(written):
            fields = {name: clean(value) for name, value in fields.items()}
        earliest: _Events = {}
        for name, time in PLAIN_EVENTS.findall(events):
            _note_event(earliest, name, time, None)
        self._add(fields, earliest)
        return True

    def take(self, name: str, fields: Fields | None, *, closes: bool, is_empty: bool) -> None:
        """Add a tag; its attributes are None if one occurs twice."""
        self.is_in_content = name == "CONTENT" and not (closes or is_empty)
        if fields is None:
            self.note("it has an attribute twice")
        if name not in _EVENTS:
            self.end_message()
            self._take_element(name, fields, is_end=closes, is_whole=closes or is_empty)
        elif fields is None:
            self.forget_message()  # it would seem to wait
        elif not closes:
            if self._message is None:
                self.note("it has an event outside of a message")
            _note_event(self._events, name, fields.get("time"), fields.get("info"))

    def _take_element(
        self, name: str, fields: Fields | None, *, is_end: bool, is_whole: bool
    ) -> None:
        if name == "TEXT":
            self._message = None if is_end else fields
        elif name in _GROUPS:
            if self._section is not _GROUPS[name]:
                self.note("it has a group of messages outside of its section")
            self._inherited = _NOTHING if is_end or fields is None else fields
        elif name in _SECTIONS:
            if self._section is not (_SECTIONS[name] if is_end else None):
                self.note("it has a section without a beginning or an end")
            self._section = None if is_whole else _SECTIONS[name]
            self._inherited = _NOTHING
        elif name in _ANSWER:
            self.note("it is an answer of the API in place of a report, as for an error")
        elif name != "CONTENT":
            self.note("it has an element that no report has")

    def forget_message(self) -> None:
        """Leave the open message out, since it may have been misread."""
        self._message = None

    def end_message(self) -> None:
        """Add the open message."""
        if self._message is not None:
            self._add(self._message, self._events)
        self._message = None
        self._events = {}

    def end(self) -> None:
        """Note the end of the report."""
        self.end_message()
        if self._section is not None:
            self.note("it has a section without an end")

    def _add(self, own: Fields, events: _Events) -> None:
        inherited = self._inherited
        history_id = own.get("id", "").strip()
        to = (own.get("to") or inherited.get("to") or "").strip()
        text = own.get("text") or own.get("body") or inherited.get("body") or inherited.get("text")
        if self._section is None:
            self.note("it has a message outside of its sections")
        elif not (history_id and to and text):
            self.note("it has a message without an id, a number or a text")
        else:
            failed_at, info = events.get("ERROR", (None, None))
            self.messages.append(
                ReportedMessage(
                    history_id=history_id,
                    to=to,
                    from_=(own.get("from") or inherited.get("from") or "").strip() or None,
                    text=text,
                    carrier=(own.get("carrier") or inherited.get("carrier") or "").strip() or None,
                    section=self._section,
                    acknowledged_at=events["ACK"][0] if "ACK" in events else None,
                    delivered_at=events["DLR"][0] if "DLR" in events else None,
                    failed_at=failed_at,
                    info=info,
                )
            )


def _note_event(events: _Events, name: str, time: str | None, info: str | None) -> None:
    when = moment(time)
    if when is not None and (name not in events or when < events[name][0]):
        events[name] = when, info
