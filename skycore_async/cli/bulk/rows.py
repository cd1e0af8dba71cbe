"""What a row of recipients says: a message to send, or why it is none.

Strategy: a `RowReader` is made once from the header and what the user asked for,
and judges row after row, each once: it knows the numbers and the keys that came before.

Rules:

* What the API would refuse is refused by the package's own rules, `requests.resolve`.
* Of rows with one number, the first that could be sent is the one that is.
* A row that a file of rejects calls in doubt is sent again with --resend-in-doubt, or where
  the ledger knows by now that it was not sent (`lookup`), and by nothing else.
* One that it calls sent already is a duplicate of that.  One that it calls a duplicate
  stays one until its number or its key is changed, since the row that it repeats may be
  in another file.
* A message's key is the campaign and the number, so that the same campaign run
  again goes on, and another one begins anew.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import attrs

from ...errors import InvalidMessage
from ...messages import SMS
from ...protocol.numbers import NumberReader, is_international, number
from ...protocol.requests import resolve
from ...protocol.segments import segment_count
from ..ui.marks import ALREADY_SENT, IN_DOUBT
from .duplicates import FirstLines
from .recipients import (
    FROM_COLUMNS,
    KEY_COLUMNS,
    LINE,
    NUMBER_COLUMNS,
    NUMBER_WORDS,
    REASON,
    TEXT_COLUMNS,
    Header,
    Row,
    SheetError,
    shown_row,
)
from .template import Template

_AMERICAN: Final = 10  # digits: an area code that begins with none of 0 and 1, and seven more
_ROUNDED: Final = re.compile(r"\s*\+?[0-9](?:[.,][0-9]+)?E\+?[0-9]+\s*", re.IGNORECASE)


class RejectionKind(enum.StrEnum):
    """Why a row is no message to send."""

    INVALID = "not valid"
    DUPLICATE = "duplicate"
    INCOMPLETE = "incomplete"
    IN_DOUBT = "in doubt"


@attrs.frozen(kw_only=True, slots=False)  # it is made sooner, and gone with the next one
class MessageRow:
    """A row that is a message to send, as it is to be sent.

    `written` are the digits of its number where its reader made others of them, and its
    key names the number: without the reader it was, or would have been, another message.
    `looks_american` says that its number has the digits of one, and no country code.
    `others` are the rows with the same number, under keys of their own: duplicates of it,
    unless the ledger says that one of them is what was sent.
    """

    row: Row
    message: SMS
    written: str | None = None
    looks_american: bool = False
    others: tuple[MessageRow, ...] = attrs.field(default=(), eq=False)

    @property
    def as_written(self) -> SMS | None:
        """The message without --country; None where it is the same."""
        message = self.message
        if self.written is None or message.key is None:
            return None
        key = message.key.removesuffix(message.to) + self.written
        return attrs.evolve(message, to=self.written, key=key)


@attrs.frozen(kw_only=True)
class RejectedRow:
    """A row that is no message to send, and why.

    `key` is that of the message that it would be, None where there is none; `message` is
    that of a duplicate with a key of its own, or of one in doubt.  Of one in doubt that would
    be no message either, `otherwise` says why.
    """

    row: Row
    kind: RejectionKind
    reason: str
    key: str | None = None
    message: SMS | None = None
    otherwise: str | None = None

    def marked(self, mark: str) -> str:
        """Return the reason with `mark`, of what the ledger has under its key, in front."""
        has_one = self.reason.startswith((IN_DOUBT, ALREADY_SENT))
        return self.reason if has_one else f"{mark}{self.reason}"


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
    tags: tuple[str, ...] = ()
    number_reader: NumberReader | None = None
    max_segments_each: int | None = None
    resend_in_doubt: bool = False


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
                f"no column is called {', '.join(NUMBER_WORDS[:-1])} or {NUMBER_WORDS[-1]}, nor"
                " one of these with Number, No. or Nr. behind it: name the one with the numbers"
                f" with --to-column ({header.first_line})"
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
        values = shown_row(row.values)
        if lacking := self._width - len(values):
            values = [*values, *[""] * lacking]
        before = "" if self._reason is None else values[self._reason]
        message = self._message_in(row, values, before)
        if before.startswith(IN_DOUBT) and not self._options.resend_in_doubt:
            return _in_doubt(row, before, message, key=self._key_of(values))
        if isinstance(message, RejectedRow):
            return message
        if repeated := self._repeated(message, row.line, before):
            kind, own = RejectionKind.DUPLICATE, None if self._key is None else message
            key = None if own is None else own.key
            return RejectedRow(row=row, kind=kind, reason=repeated, key=key, message=own)
        return self._message_row(row, message, values)

    def _message_in(self, row: Row, values: Sequence[str], before: str) -> SMS | RejectedRow:
        if unfit := self._unfit(values, before):
            kind, reason = unfit
            return RejectedRow(row=row, kind=kind, reason=reason, key=self._key_of(values))
        try:
            message = self._resolved(values)
        except InvalidMessage as error:
            reason, key = _reason_of(error, values[self.to]), self._key_of(values)
            return RejectedRow(row=row, kind=RejectionKind.INVALID, reason=reason, key=key)
        most = self._options.max_segments_each
        if most is not None and (too_long := _too_long(message.text, most)):
            kind, key = RejectionKind.INVALID, message.key
            return RejectedRow(row=row, kind=kind, reason=too_long, key=key)
        return message

    def _message_row(self, row: Row, message: SMS, values: Sequence[str]) -> MessageRow:
        cell = values[self.to]
        if self._options.number_reader is None:
            is_likely = is_perhaps_american(message.to, cell)
            return MessageRow(row=row, message=message, looks_american=is_likely)
        is_keyed_by_number = message.key == f"{self._options.campaign}:{message.to}"
        written = _digits_of(cell) if is_keyed_by_number else None
        return MessageRow(
            row=row, message=message, written=None if written == message.to else written
        )

    def _unfit(self, values: Sequence[str], before: str) -> tuple[RejectionKind, str] | None:
        """Say why no message is made of a row, if there is a reason."""
        if len(values) > self._width and any(values[self._width :]):
            many = f"{len(values)} values for {self._width} columns"
            reason = f"it has {many}: quote a value that has the delimiter in it"
            return RejectionKind.INVALID, reason
        for place in self._needed:
            if not values[place].strip():
                return RejectionKind.INCOMPLETE, f"no value for {self._lacking(values)}"
        if before.startswith(ALREADY_SENT):
            return RejectionKind.DUPLICATE, before
        return None

    def _lacking(self, values: Sequence[str]) -> str:
        return ", ".join(
            repr(self._header.names[i]) for i in self._needed if not values[i].strip()
        )

    def _key_of(self, values: Sequence[str]) -> str | None:
        """Return the key of the message that a row would be; None where its number is none."""
        if self._key is not None and (own_key := values[self._key].strip()):
            return own_key
        cell = values[self.to]
        to = _digits_of(cell, self._options.number_reader) or _digits_of(cell)
        return None if to is None else f"{self._options.campaign}:{to}"

    def _resolved(self, values: Sequence[str]) -> SMS:
        options = self._options
        own_key = values[self._key].strip() if self._key is not None else ""
        sender = values[self._from].strip() if self._from is not None else ""
        to = number(values[self.to], options.number_reader)
        message = SMS(
            to=to,
            text=self._template.fill(values),
            from_=sender or options.from_,  # as `resolve` fills it in, so that it makes no other
            campaign_ref=options.campaign_ref,
            key=own_key or f"{options.campaign}:{to}",
            tags=options.tags,
        )
        return resolve(message, from_=options.from_, campaign_ref=options.campaign_ref, to=to)

    def _repeated(self, message: SMS, line: int, before: str) -> str | None:
        """Say which row has the number or the key already, in this file or one that it is of."""
        to, key = message.to, message.key or ""
        if before and before.startswith((number_stands(to, ""), _key_stands(key, ""))):
            return before
        digits = int(to)  # which begins with no 0
        if (first := self._numbers.before(digits, line)) is not None:
            return number_stands(to, first)
        # Where no column has keys, a key is as new as its number.
        if self._key is not None and (first := self._keys.before(_digest(key), line)) is not None:
            self._numbers.forget(digits)
            return _key_stands(key, first)
        return None


def is_perhaps_american(digits: str, written: str) -> bool:
    """Return whether a number, as it is written, may lack the country code of America."""
    is_long_enough = len(digits) == _AMERICAN and digits[0] >= "2"
    return is_long_enough and not is_international(written)


def _too_long(text: str, most: int) -> str | None:
    if (count := segment_count(text)) <= most:
        return None
    return f"text: it takes {count} segments, and --max-segments-each is {most}"


def _digits_of(cell: str, reader: NumberReader | None = None) -> str | None:
    """Return the digits of a number, taken as it is written but for `reader`; None for none."""
    try:
        return number(cell, reader)
    except InvalidMessage:
        return None


def _column(header: Header, named: str | None, names: Sequence[str], option: str) -> int | None:
    return header.index(named) if named is not None else header.find(names, option)


def _in_doubt(row: Row, reason: str, found: SMS | RejectedRow, *, key: str | None) -> RejectedRow:
    rejected = RejectedRow(row=row, kind=RejectionKind.IN_DOUBT, reason=reason, key=key)
    if isinstance(found, RejectedRow):
        return attrs.evolve(rejected, otherwise=found.reason)
    return attrs.evolve(rejected, message=found)


def number_stands(to: str, line: int | str) -> str:
    """Return why a row is a duplicate, whose number is on another line."""
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
