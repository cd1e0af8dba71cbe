"""What a row of recipients says: a message to send, or why it is none.

Strategy: a `RowReader` is made once from the header and what the user asked for,
and judges row after row, each once: it knows the numbers and the keys that came before.

Rules:

* What the API would refuse is refused by the package's own rules, `requests.resolve`.
* Of rows with one number, the first that could be sent is the one that is.
* A row that a file of rejects calls in doubt is sent again with --resend-in-doubt alone.
  One that it calls a duplicate stays one until its number or its key is changed, since
  the row that it repeats may be in another file.
* A message's key is the campaign and the number, so that the same campaign run
  again goes on, and another one begins anew.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Final

import attrs

from ...errors import InvalidMessage
from ...messages import SMS
from ...protocol.numbers import NumberReader, is_international, number
from ...protocol.requests import resolve
from ...protocol.segments import segments
from .duplicates import FirstLines
from .recipients import (
    FROM_COLUMNS,
    KEY_COLUMNS,
    LINE,
    NUMBER_COLUMNS,
    REASON,
    TEXT_COLUMNS,
    Header,
    Rejects,
    Row,
    SheetError,
)

IN_DOUBT: Final = "in doubt: "  # what the reason of a row begins with that may have been sent

_PARTS: Final = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|\{)")
_DOUBLED: Final = re.compile(r"(?<!\{)\{\{\s*([^{}]*?)\s*\}\}(?!\})")
_AMERICAN: Final = re.compile("[2-9][0-9]{9}", re.ASCII)  # an area code, and seven digits more
_ROUNDED: Final = re.compile(r"\s*\+?[0-9](?:[.,][0-9]+)?E\+?[0-9]+\s*", re.IGNORECASE)


class RejectionKind(enum.StrEnum):
    """Why a row is no message to send."""

    INVALID = "not valid"
    DUPLICATE = "duplicate"
    INCOMPLETE = "incomplete"
    IN_DOUBT = "in doubt"


@attrs.frozen(kw_only=True)
class MessageRow:
    """A row that is a message to send, as it is to be sent.

    `written` are the digits of its number where its reader made others of them, and its
    key names the number: without the reader it was, or would have been, another message.
    `looks_american` says that its number has the digits of one, and no country code.
    """

    row: Row
    message: SMS
    written: str | None = None
    looks_american: bool = False

    @property
    def unread(self) -> SMS | None:
        """The message that the row is where its number is not read; None where it is this."""
        message = self.message
        if self.written is None or message.key is None:
            return None
        key = message.key.removesuffix(message.to) + self.written
        return attrs.evolve(message, to=self.written, key=key)


@attrs.frozen(kw_only=True)
class RejectedRow:
    """A row that is none, and why."""

    row: Row
    kind: RejectionKind
    reason: str


JudgedRow = MessageRow | RejectedRow


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
    number_reader: NumberReader | None = None
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

    def __init__(self, header: Header, options: RowOptions) -> None:
        self._header = header
        self._width = len(header.names)
        self._options = options
        to = _column(header, options.to_column, NUMBER_COLUMNS, "--to-column")
        if to is None:
            raise SheetError(
                f"no column is called {', '.join(NUMBER_COLUMNS[:-1])} or {NUMBER_COLUMNS[-1]}:"
                " name the one with the numbers with --to-column (the first line is to name the"
                f" columns, and is {', '.join(map(repr, header.names[:6]))})"
            )
        self.to: Final = to
        self._key = _column(header, options.key_column, KEY_COLUMNS, "--key-column")
        self._from = _column(header, options.from_column, FROM_COLUMNS, "--from-column")
        self._reason = header.names.index(REASON) if REASON in header.names else None
        self._template = self._made_template()
        self._needed = self._template.columns
        self._check_names()
        self._numbers = FirstLines()
        self._keys = FirstLines()

    def _check_names(self) -> None:
        """Refuse a message that is made of what a file of rejects says of it instead."""
        for place in (self.to, self._key, self._from, *self._needed):
            if place is not None and (name := self._header.names[place]) in {REASON, LINE}:
                raise SheetError(
                    f"the messages need the column {name!r}, and a file of rejects has its own"
                    " under that name: rename it"
                )

    @property
    def has_senders(self) -> bool:
        """Whether the sheet has a column for the short code."""
        return self._from is not None

    def _made_template(self) -> Template:
        options = self._options
        if options.text is not None and options.text_column is not None:
            raise SheetError("give --text or --text-column, not both")
        if options.text is not None:
            return Template.parse(options.text, self._header)
        column = _column(self._header, options.text_column, TEXT_COLUMNS, "--text-column")
        if column is None:
            raise SheetError(
                "there is no text: give --text, or name its column with --text-column"
            )
        return Template((column,))

    def read(self, row: Row) -> JudgedRow:
        """Return the message that a row is, or why it is none."""
        values = [*row.values, *[""] * (self._width - len(row.values))]
        before = "" if self._reason is None else values[self._reason]
        if unfit := self._unfit(values, before):
            kind, reason = unfit
            return RejectedRow(row=row, kind=kind, reason=reason)
        try:
            message = self._resolved(values)
        except InvalidMessage as error:
            reason = _reason_of(error, values[self.to])
            return RejectedRow(row=row, kind=RejectionKind.INVALID, reason=reason)
        if too_long := self._too_long(message.text):
            return RejectedRow(row=row, kind=RejectionKind.INVALID, reason=too_long)
        if repeated := self._repeated(message, row.line, before):
            return RejectedRow(row=row, kind=RejectionKind.DUPLICATE, reason=repeated)
        return self._message_row(row, message, values)

    def _message_row(self, row: Row, message: SMS, values: Sequence[str]) -> MessageRow:
        cell = values[self.to]
        if self._options.number_reader is None:
            looks_american = bool(_AMERICAN.fullmatch(message.to)) and not is_international(cell)
            return MessageRow(row=row, message=message, looks_american=looks_american)
        is_keyed_by_number = message.key == f"{self._options.campaign}:{message.to}"
        written = _digits_of(cell) if is_keyed_by_number else None
        return MessageRow(
            row=row, message=message, written=None if written == message.to else written
        )

    def _unfit(self, values: Sequence[str], before: str) -> tuple[RejectionKind, str] | None:
        """Say why no message is made of a row, if there is a reason."""
        if any(values[self._width :]):
            many = f"{len(values)} values for {self._width} columns"
            reason = f"it has {many}: quote a value that has the delimiter in it"
            return RejectionKind.INVALID, reason
        if lacking := [i for i in self._needed if not values[i].strip()]:
            reason = f"no value for {', '.join(repr(self._header.names[i]) for i in lacking)}"
            return RejectionKind.INCOMPLETE, reason
        if before.startswith(IN_DOUBT) and not self._options.resend_in_doubt:
            return RejectionKind.IN_DOUBT, before
        return None

    def _resolved(self, values: Sequence[str]) -> SMS:
        options = self._options
        own_key = values[self._key].strip() if self._key is not None else ""
        sender = values[self._from].strip() if self._from is not None else ""
        to = number(values[self.to], options.number_reader)
        message = SMS(
            to=to,
            text=self._template.fill(values),
            from_=sender or None,
            key=own_key or f"{options.campaign}:{to}",
        )
        return resolve(message, from_=options.from_, campaign_ref=options.campaign_ref)

    def _too_long(self, text: str) -> str | None:
        most = self._options.max_segments_each
        if most is None or (count := segments(text).count) <= most:
            return None
        return f"text: it takes {count} segments, and --max-segments-each is {most}"

    def _repeated(self, message: SMS, line: int, before: str) -> str | None:
        """Say which row has the number or the key already, in this file or one that it is of."""
        to, key = message.to, message.key or ""
        if before and before.startswith((_number_stands(to, ""), _key_stands(key, ""))):
            return before
        digits = int(f"1{to}")
        if (first := self._numbers.before(digits, line)) is not None:
            return _number_stands(to, first)
        # Where no column has keys, a key is as new as its number.
        if self._key is not None and (first := self._keys.before(_digest(key), line)) is not None:
            self._numbers.forget(digits)
            return _key_stands(key, first)
        return None


def message_rows(rows: Iterable[JudgedRow], rejects: Rejects) -> Generator[MessageRow, None, None]:
    """Yield the rows that are messages, and write the others to `rejects` on the way."""
    for judged in rows:
        if isinstance(judged, RejectedRow):
            rejects.write(judged.row, judged.reason)
        else:
            yield judged


def _digits_of(cell: str) -> str | None:
    """Return the digits of a number that is taken as it is written, None where it is none."""
    try:
        return number(cell)
    except InvalidMessage:
        return None


def _column(header: Header, named: str | None, names: Sequence[str], option: str) -> int | None:
    return header.index(named) if named is not None else header.find(names, option)


def _number_stands(to: str, line: int | str) -> str:
    return f"{to} is on line {line}"


def _key_stands(key: str, line: int | str) -> str:
    return f"the key {key[:40]!r} is on line {line}"


def _digest(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), signed=True)


def _reason_of(error: InvalidMessage, to: str) -> str:
    if error.field == "to" and not to.strip():
        return "no number"
    if error.field == "to" and _ROUNDED.fullmatch(to):
        return (
            f"Excel rounded the number to {to.strip()}: format the column as text, or as a"
            " number without decimals, and save again"
        )
    return str(error)
