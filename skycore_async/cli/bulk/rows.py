"""What a row of recipients is: a message to send, or a rejected row with the reason.

Strategy: a `RowReader` is made from the header and the options.  It judges each row once, in
order, and remembers the numbers and keys of the rows before.

Rules:

* What the API would refuse is refused here, by `requests.resolve`.
* Where several rows have one number, the first that can be sent is the message, and the others are
  its duplicates.
* A row that a file of rejects calls in doubt is a message only with --resend-in-doubt, or where
  the ledger knows by now that it was not sent (`lookup`).
* A row that a file of rejects calls sent already is a duplicate.  A row that it calls a duplicate
  stays one until its number or key is changed: the row that it repeats may be in another file.
* A cell that shows a failed formula, as #N/A, has no value: as a key it is another once mended.
* A message's key is the campaign and the number, unless a column has keys.  So the same campaign
  goes on when it is run again, and another campaign begins anew.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

import attrs

from ...errors import InvalidMessage
from ...messages import SMS
from ...protocol.numbers import NumberReader, number
from ...protocol.requests import resolve
from ...protocol.segments import segment_count
from ..ui.marks import ALREADY_SENT, IN_DOUBT
from ..ui.numbers import is_perhaps_american
from ..ui.spreadsheet_cells import is_failed
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
from .template import Template, unfilled

_LOST: Final = "\ufffd"
_ROUNDED: Final = re.compile(r"\s*\+?[0-9](?:[.,][0-9]+)?E\+?[0-9]+\s*", re.IGNORECASE)


class RejectionKind(enum.StrEnum):
    """Why a row is no message to send."""

    INVALID = "not valid"
    DUPLICATE = "duplicate"
    INCOMPLETE = "incomplete"
    IN_DOUBT = "in doubt"


@attrs.frozen(kw_only=True, slots=False)  # faster to make, and short-lived
class MessageRow:
    """A row that is a message, resolved as it is to be sent.

    `written` are the digits of the number as the file has them, where --country made others of
    them and the key is made of the number: without --country it would be another message.
    `looks_american` says that the number has ten digits and no country code.
    `others` are the rows with the same number under keys of their own: duplicates, unless the
    ledger says that one of them went out.
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

    `key` is the key of the message that the row would be, None where it has none.  `message` is
    the message of a row in doubt, or of a duplicate with a key of its own.  Where a row in doubt
    could not be sent either, `otherwise` says why.
    """

    row: Row
    kind: RejectionKind
    reason: str
    key: str | None = None
    message: SMS | None = None
    otherwise: str | None = None

    def marked(self, mark: str) -> str:
        """Return the reason after `mark`, which says what the ledger has under the row's key."""
        has_one = self.reason.startswith((IN_DOUBT, ALREADY_SENT))
        return self.reason if has_one else f"{mark}{self.reason}"


JudgedRow = MessageRow | RejectedRow


@attrs.frozen(kw_only=True)
class RowOptions:
    """The options that say what messages are made of rows."""

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

    Raises SheetError where a column that is needed is missing, or more than one could be meant.
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
        self._own_text = self._needed[0] if options.text is None else None
        self._given = tuple(at for at in (self._key, self._from) if at is not None)
        self._check_names()
        self._numbers = FirstLines()
        self._keys = FirstLines()

    def _check_names(self) -> None:
        """Refuse to make messages of the columns that a file of rejects adds."""
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
        """Return the message that a row is, or the rejected row."""
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
        if flaw := _flaw_of(message.text, self._options.max_segments_each):
            kind, key = RejectionKind.INVALID, message.key
            return RejectedRow(row=row, kind=kind, reason=flaw, key=key)
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
        """Return why no message can be made of a row; None where one can."""
        if len(values) > self._width and any(values[self._width :]):
            many = f"{len(values)} values for {self._width} columns"
            reason = f"it has {many}: quote a value that has the delimiter in it"
            return RejectionKind.INVALID, reason
        if lacking := [at for at in self._needed if _has_no_value(values[at])]:
            return RejectionKind.INCOMPLETE, f"no value for {self._named(lacking, values)}"
        if self._own_text is not None and (why := unfilled(values[self._own_text], self._header)):
            return RejectionKind.INCOMPLETE, why
        if failed := [at for at in self._given if is_failed(values[at])]:
            return RejectionKind.INVALID, f"no value for {self._named(failed, values)}"
        if before.startswith(ALREADY_SENT):
            return RejectionKind.DUPLICATE, before
        return None

    def _named(self, places: Iterable[int], values: Sequence[str]) -> str:
        """Name columns, with what they show in place of a value."""
        shows = ((self._header.names[at], values[at].strip()) for at in places)
        return ", ".join(
            f"{name!r}" + f", which shows {cell}" * bool(cell) for name, cell in shows
        )

    def _key_of(self, values: Sequence[str]) -> str | None:
        """Return the key of the message that a row would be; None where it has no number."""
        if self._key is not None and (own_key := values[self._key].strip()):
            return None if is_failed(own_key) else own_key
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
            from_=sender or options.from_,  # filled in here, so that `resolve` makes no copy
            campaign_ref=options.campaign_ref,
            key=own_key or f"{options.campaign}:{to}",
            tags=options.tags,
        )
        return resolve(message, from_=options.from_, campaign_ref=options.campaign_ref, to=to)

    def _repeated(self, message: SMS, line: int, before: str) -> str | None:
        """Return which row has the number or key already, here or in the file of these rejects."""
        to, key = message.to, message.key or ""
        if before and before.startswith((number_stands(to, ""), _key_stands(key, ""))):
            return before
        digits = int(to)  # loses nothing: no number begins with 0
        if (first := self._numbers.before(digits, line)) is not None:
            return number_stands(to, first)
        # Where no column has keys, the key is made of the number, and as new.
        if self._key is not None and (first := self._keys.before(_digest(key), line)) is not None:
            self._numbers.forget(digits)
            return _key_stands(key, first)
        return None


def _has_no_value(cell: str) -> bool:
    return not cell.strip() or is_failed(cell)


def _flaw_of(text: str, most: int | None) -> str | None:
    if _LOST in text:
        return "text: it has U+FFFD in it, which stands for a character that another program lost"
    if most is None or (count := segment_count(text)) <= most:
        return None
    return f"text: it takes {count} segments, and --max-segments-each is {most}"


def _digits_of(cell: str, reader: NumberReader | None = None) -> str | None:
    """Return the digits of a number, read by `reader` if given; None where it is no number."""
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
    """Return the reason for a duplicate whose number stands on another line."""
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
