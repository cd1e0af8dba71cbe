"""Sending reports as the provider writes them: messages in, XML out, not always well-formed.

The documented examples are not well-formed, and times differ between their editions; it is not
known whether real reports are like them.  So a report can be written in each form:

* well-formed, or with ACK, DLR and ERROR never closed, BATCH and AUTORESPONDER closed before
  their contents, a bare `&` in attributes, and dots between elements;
* with times in UTC, as in the edition of 2014, or with an offset of whole hours, as in 2013.

Pure: values in, bytes out, piece by piece.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Final

import attrs

from ..messages import ReportedMessage, ReportSection
from ..protocol import safe_xml

_ZONE: Final = timezone(timedelta(hours=-4))
# The attributes that a section writes once for a group, and that its messages inherit.
_INHERITED: Final[Mapping[ReportSection, tuple[str, tuple[str, ...]]]] = MappingProxyType(
    {
        ReportSection.BATCHES: ("BATCH", ("from", "body")),
        ReportSection.AUTORESPONDERS: ("AUTORESPONDER", ("from", "body")),
        ReportSection.SUBSCRIPTIONS: ("SUB", ("to", "carrier", "from")),
    }
)
# The further attributes of messages that a campaign sent.
_OF_A_BATCH: Final = MappingProxyType(
    {"campaignid": "77676", "scheduled_date": "2012-04-30 08:30:00.000000 @server localtime"}
)
_MMS: Final = (
    '<CONTENT id="1" to="15551234888" subject="an MMS"><SLIDE><TEXT>Hello</TEXT></SLIDE></CONTENT>'
)


@attrs.frozen(kw_only=True)
class ReportForm:
    """How reports are written.

    * `well_formed`: whether they are well-formed, unlike the provider's examples.
    * `edition`: 2014 or 2013, which differ in how they write times.
    * `text_attribute`: which of two names the attribute with the text of a message has.
    * `names_sender`: whether a message that was sent by itself has its short code.
    * `with_mms`: whether an MMS is among the messages.
    """

    well_formed: bool = True
    edition: int = attrs.field(default=2014, validator=attrs.validators.in_((2013, 2014)))
    text_attribute: str = attrs.field(
        default="text", validator=attrs.validators.in_(("text", "body"))
    )
    names_sender: bool = True
    with_mms: bool = False


def write_report(messages: Iterable[ReportedMessage], form: ReportForm) -> Iterator[bytes]:
    """Write a report of messages, piece by piece, each message in its section."""
    of: dict[ReportSection, list[ReportedMessage]] = {section: [] for section in ReportSection}
    for message in messages:
        of[message.section].append(message)
    yield b"<RESPONSE>\n"
    for section, listed in of.items():
        yield f"<{section.name}>\n".encode()
        if section is ReportSection.SENDING_LIST:
            yield from _one_by_one(listed, form)
        else:
            yield from _in_groups(section, listed, form)
        yield f"</{section.name}>\n".encode()
    yield b"</RESPONSE>\n"


def _one_by_one(messages: Iterable[ReportedMessage], form: ReportForm) -> Iterator[bytes]:
    without = frozenset[str]() if form.names_sender else frozenset({"from"})
    for message in messages:
        yield _message(message, form, without=without).encode()
    if form.with_mms:
        yield _MMS.encode()
    if not form.well_formed:
        yield b"....\n"


def _in_groups(
    section: ReportSection, messages: Iterable[ReportedMessage], form: ReportForm
) -> Iterator[bytes]:
    tag, names = _INHERITED[section]
    more = _OF_A_BATCH if section is ReportSection.BATCHES else {}

    def common(message: ReportedMessage) -> tuple[str | None, ...]:
        values = _values(message, "body")
        return tuple(values[name] for name in names)

    for values, group in itertools.groupby(messages, common):
        inherited = {name: value for name, value in zip(names, values, strict=True) if value}
        closed = "" if form.well_formed or section is ReportSection.SUBSCRIPTIONS else " /"
        yield f"<{tag}{_attributes({**inherited, **more}, form)}{closed}>\n".encode()
        for message in group:
            yield _message(message, form, without=frozenset(inherited)).encode()
        yield f"</{tag}>\n".encode()


def _message(message: ReportedMessage, form: ReportForm, *, without: frozenset[str]) -> str:
    # A body that is inherited is not the message's own text.
    text = "body" if "body" in without else form.text_attribute
    values = _values(message, text)
    own = {name: value for name, value in values.items() if value and name not in without}
    events = (
        ("ACK", {"gw": "10", "net": "0"}, message.acknowledged_at),
        ("DLR", {"gw": "20", "net": "0"}, message.delivered_at),
        ("ERROR", {"info": message.info or ""}, message.failed_at),
    )
    end = "/" if form.well_formed else ""
    within = "".join(
        f"\t<{name}{_attributes({**said, 'time': _time(when, form)}, form)}{end}>\n"
        for name, said, when in events
        if when is not None
    )
    return f"<TEXT{_attributes(own, form)}>\n{within}</TEXT>\n"


def _values(message: ReportedMessage, text: str) -> dict[str, str | None]:
    return {
        "id": message.history_id,
        "to": message.to,
        "from": message.from_,
        "carrier": message.carrier,
        text: message.text,
    }


def _attributes(values: Mapping[str, str], form: ReportForm) -> str:
    return "".join(f' {name}="{_escaped(value, form)}"' for name, value in values.items())


def _escaped(value: str, form: ReportForm) -> str:
    escaped = safe_xml.escape(value).replace('"', "&quot;").replace("&#13;", "\r")
    return escaped if form.well_formed else escaped.replace("&amp;", "&")


def _time(when: datetime, form: ReportForm) -> str:
    if form.edition == 2014:  # noqa: PLR2004 - the edition's name
        return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
    return f"{when.astimezone(_ZONE):%Y-%m-%d %H:%M:%S.%f}-04"
