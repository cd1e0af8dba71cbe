"""What a row of recipients says: a message to send, or why it is none.

Strategy: a `RowReader` is made once from the header and what the user asked for,
and judges row after row.  The same row gets the same judgement however often it
is read, so one reading can count and the next one send.

Rules:

* What the API would refuse is refused by the package's own rules, `requests.resolve`.
* Of rows with one number, the first that could be sent is the one that is.
* A row that was written down as in doubt is sent again on the user's word alone,
  wherever it is read from.
* A message's key is the campaign and the number, so that the same campaign run
  again goes on, and another one begins anew.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final

import attrs

from ...errors import InvalidMessage
from ...messages import SMS
from ...protocol.requests import resolve
from ...protocol.segments import segments
from .duplicates import FirstLines
from .recipients import (
    FROM_COLUMNS,
    KEY_COLUMNS,
    NUMBER_COLUMNS,
    REASON,
    TEXT_COLUMNS,
    Header,
    Row,
    SheetError,
)

IN_DOUBT: Final = "in doubt: "  # what the reason of a row begins with that may have been sent

_PARTS: Final = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|\{)")
_DOUBLED: Final = re.compile(r"(?<!\{)\{\{\s*([^{}]*?)\s*\}\}(?!\})")
_ROUNDED: Final = re.compile(r"\s*\+?[0-9](?:[.,][0-9]+)?E\+?[0-9]+\s*", re.IGNORECASE)


class RejectionKind(enum.StrEnum):
    """Why a row is no message to send."""

    INVALID = "not valid"
    DUPLICATE = "duplicate"
    INCOMPLETE = "incomplete"
    IN_DOUBT = "in doubt"


@attrs.frozen(kw_only=True)
class MessageRow:
    """A row that is a message to send; `resolved` is what is sent of it."""

    row: Row
    sms: SMS
    resolved: SMS


@attrs.frozen(kw_only=True)
class RejectedRow:
    """A row that is none, and why."""

    row: Row
    kind: RejectionKind
    reason: str


@attrs.frozen(kw_only=True)
class RowOptions:
    """What the user asked for of the messages."""

    text: str | None = None
    campaign: str
    to_column: str | None = None
    text_column: str | None = None
    key_column: str | None = None
    from_column: str | None = None
    from_: str | None = None
    campaign_ref: str | None = None
    max_segments_each: int | None = None
    resend_in_doubt: bool = False


@attrs.frozen
class Template:
    """A text in parts: what is in every message, and the places of columns."""

    parts: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str, header: Header) -> Template:
        """Read a text with `{column}` in it, and `{{` for a brace.

        Raises SheetError for a column that the header has not, for a brace that
        is not closed, and for a column in two braces, as other templates have it.
        """
        for name in _DOUBLED.findall(text):
            if header.has(name):
                raise SheetError(
                    f"the text has {name!r} in two braces, which would go out as it stands: write"
                    f" {{{name}}} for the column"
                )
        return cls(tuple(_parts(text, header)))

    @property
    def columns(self) -> tuple[int, ...]:
        """Return the places of the columns that are named."""
        return tuple(part for part in self.parts if isinstance(part, int))

    def fill(self, values: Sequence[str]) -> str:
        """Return the text with the values of a row in it."""
        return "".join([part if isinstance(part, str) else values[part] for part in self.parts])


def _parts(text: str, header: Header) -> Iterator[str | int]:
    for part in filter(None, _PARTS.split(text)):
        if part in {"{{", "}}"}:
            yield part[0]
        elif part == "{":
            raise SheetError("the text has a { that is not closed: write {column}, or {{ for one")
        elif part.startswith("{"):
            try:
                yield header.index(part[1:-1])
            except SheetError as error:
                raise SheetError(f"the text names {part}, and {error}") from None
        else:
            yield part


class RowReader:
    """Judge the rows below `header`.

    Raises SheetError where a column is missing, or could be more than one.
    """

    def __init__(self, header: Header, wishes: RowOptions) -> None:
        self._header = header
        self._wishes = wishes
        to = _column(header, wishes.to_column, NUMBER_COLUMNS, "--to-column")
        if to is None:
            raise SheetError(
                f"no column is called {', '.join(NUMBER_COLUMNS[:-1])} or {NUMBER_COLUMNS[-1]}:"
                " name the one with the numbers with --to-column (the first line is to name the"
                f" columns, and is {', '.join(map(repr, header.names[:6]))})"
            )
        self.to: Final = to
        self._key = _column(header, wishes.key_column, KEY_COLUMNS, "--key-column")
        self._from = _column(header, wishes.from_column, FROM_COLUMNS, "--from-column")
        self._reason = header.names.index(REASON) if REASON in header.names else None
        self._template = self._made_template()
        self._needed = self._template.columns
        self._numbers = FirstLines()
        self._keys = FirstLines()

    @property
    def has_senders(self) -> bool:
        """Whether the sheet has a column for the short code."""
        return self._from is not None

    def _made_template(self) -> Template:
        wishes = self._wishes
        if wishes.text is not None and wishes.text_column is not None:
            raise SheetError("give --text or --text-column, not both")
        if wishes.text is not None:
            return Template.parse(wishes.text, self._header)
        column = _column(self._header, wishes.text_column, TEXT_COLUMNS, "--text-column")
        if column is None:
            raise SheetError(
                "there is no text: give --text, or name its column with --text-column"
            )
        return Template((column,))

    def draft(self, row: Row) -> MessageRow | RejectedRow:
        """Judge a row."""
        width = len(self._header.names)
        if any(row.values[width:]):
            many = f"{len(row.values)} values for {width} columns"
            reason = f"it has {many}: quote a value that has the delimiter in it"
            return RejectedRow(row=row, kind=RejectionKind.INVALID, reason=reason)
        values = [*row.values, *[""] * (width - len(row.values))]
        if lacking := [i for i in self._needed if not values[i].strip()]:
            reason = f"no value for {', '.join(repr(self._header.names[i]) for i in lacking)}"
            return RejectedRow(row=row, kind=RejectionKind.INCOMPLETE, reason=reason)
        before = "" if self._reason is None else values[self._reason]
        if before.startswith(IN_DOUBT) and not self._wishes.resend_in_doubt:
            return RejectedRow(row=row, kind=RejectionKind.IN_DOUBT, reason=before)
        return self._checked(row, values)

    def _checked(self, row: Row, values: Sequence[str]) -> MessageRow | RejectedRow:
        wishes = self._wishes
        own_key = values[self._key].strip() if self._key is not None else ""
        sender = values[self._from].strip() if self._from is not None else ""
        text = self._template.fill(values)
        sms = SMS(to=values[self.to], text=text, from_=sender or None, key=own_key or None)
        try:
            resolved = resolve(sms, from_=wishes.from_, campaign_ref=wishes.campaign_ref)
        except InvalidMessage as error:
            return RejectedRow(
                row=row, kind=RejectionKind.INVALID, reason=_in_words(error, values[self.to])
            )
        if too_long := self._too_long(text):
            return RejectedRow(row=row, kind=RejectionKind.INVALID, reason=too_long)
        to = resolved.to
        key = own_key or f"{wishes.campaign}:{to}"
        if (
            self._key is not None
            and (line := self._keys.first(_digest(key), row.line)) != row.line
        ):
            reason = f"the key {key[:40]!r} is on line {line}"
            return RejectedRow(row=row, kind=RejectionKind.DUPLICATE, reason=reason)
        if (line := self._numbers.first(int(f"1{to}"), row.line)) != row.line:
            return RejectedRow(
                row=row, kind=RejectionKind.DUPLICATE, reason=f"{to} is on line {line}"
            )
        sms = SMS(to=to, text=text, from_=sms.from_, key=key)
        return MessageRow(row=row, sms=sms, resolved=resolved)

    def _too_long(self, text: str) -> str | None:
        most = self._wishes.max_segments_each
        if most is None or (count := segments(text).count) <= most:
            return None
        return f"text: it takes {count} segments, and --max-segments-each is {most}"


def _column(header: Header, named: str | None, names: Sequence[str], option: str) -> int | None:
    return header.index(named) if named is not None else header.find(names, option)


def _digest(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), signed=True)


def _in_words(error: InvalidMessage, to: str) -> str:
    if error.field == "to" and not to.strip():
        return "no number"
    if error.field == "to" and _ROUNDED.fullmatch(to):
        return (
            f"Excel rounded the number to {to.strip()}: format the column as text, or as a"
            " number without decimals, and save again"
        )
    return str(error)
