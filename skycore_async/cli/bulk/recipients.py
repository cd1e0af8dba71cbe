"""A CSV of recipients, as Excel and others write it: bytes in, rows out.

Strategy: one pass over the bytes determines the encoding, and the first line the delimiter.  After
that the standard library's csv reads the rows, as often as needed.  Rows are read one at a time,
so a million take no more memory than one.

Rules:

* A byte order mark decides the encoding.  Without one the file is read as UTF-8 if all of it is
  valid, else as Windows-1252, and the user is told of that guess.  Where that guess would garble
  lines that are UTF-8, texts are not read at all.
* Where a file could be read in two ways, it is refused with the line: a quote that is never closed
  would swallow every recipient after it.
* A line number is that of the line on which a row begins, as an editor shows it.
* A column is found by its name, without case and punctuation.  Where two columns could be meant,
  neither is guessed.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import BinaryIO, Final, NamedTuple

import attrs

NUMBER_WORDS: Final = (
    *("to", "number", "phone", "mobile", "mobile phone", "cell", "cell phone", "telephone", "tel"),
    *("msisdn", "gsm", "recipient"),
)
NUMBER_COLUMNS: Final = (
    *NUMBER_WORDS,
    # `Phone No.`, `phone_nr`; a contact without it is a person more often than a number.
    *(
        f"{word} {end}"
        for word in (*NUMBER_WORDS, "contact")
        for end in ("number", "no", "nr", "num")
    ),
)
TEXT_COLUMNS: Final = ("text",)
KEY_COLUMNS: Final = ("key",)
FROM_COLUMNS: Final = ("from",)

# What the files of refused rows have besides the columns of the sheet.
REASON: Final = "reason"
LINE: Final = "line"

_CHUNK: Final = 1 << 16
_DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs"}
# A formula that is only a text, which keeps spreadsheets from making it a number.
_QUOTED_FORMULA: Final = re.compile(r'\s*="((?:[^"]|"")*)"\s*')
# A quote or a line break cannot be a delimiter.
_SEPARATOR_LINE: Final = re.compile(r'"?sep=([^"\r\n])"?[\r\n]*', re.IGNORECASE)
_QUOTED: Final = re.compile(r'"[^"]*"')

# The beginning of a file, its codec, and the name of its encoding for people.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
# What is of another encoding, and stands so in no text of the languages that Windows-1252 has.
_NOT_WINDOWS: Final = re.compile(
    rb"""
    # Of MS-DOS and the Macintosh: a sign within a word, or a large letter behind a small one.
    [A-Za-z][\x82-\x84\x86-\x8c\x8e\x94\x98\x9b\x9f\xa1\xa2\xa4][a-z]
    | [a-z][\x82\x83\x8a\x8c\x8e](?![A-Za-z\xc0-\xff])
    # Of other languages' Windows: in Polish and Romanian a sign within a word, in Turkish a thorn
    # that ends a syllable, and in other alphabets a word of letters with accents alone.
    | [a-z][\xb3\xb9][a-z] | [a-z]{2}\xba[a-z]
    | [A-Za-z\xc0-\xff]\xfe(?![ABEIJORUVYabeijoruvy\xc0-\xff])
    | ([\xc0-\xff])(?!\1{4})[\xc0-\xff]{4}
    # Of Latin-9: the euro of an amount.
    | [0-9][ ]?\xa4 | \xa4[ ]?[0-9]
    """,
    re.VERBOSE,
)
# In Windows-1252, a letter that ends a word and signs behind it; a character in UTF-8 as well.
_ENDED: Final = re.compile(
    rb"(?<=[A-Z])[\xc8-\xdf][\x85\x91-\x97\x99\x9b\xae\xb0\xbb]"
    rb"|(?<=[a-z])[\xe0\xe3-\xef][\x85\x91-\x97\x99\x9b\xa0\xae\xb0\xbb]{2}"
)
_WORKBOOKS: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .xls


class SheetError(Exception):
    """The sheet cannot be used as it is; the text is one line that says what to do."""


class Row(NamedTuple):
    """A row of the sheet, and the line that it begins on."""

    line: int
    values: Sequence[str]


def plain_name(name: str) -> str:
    """Return the name of a column without case and punctuation."""
    return "".join(filter(str.isalnum, name.casefold()))


def shown(cell: str) -> str:
    """Return what a spreadsheet shows of a cell: of `="1555"` it is 1555."""
    formula = _QUOTED_FORMULA.fullmatch(cell)
    return cell if formula is None else formula[1].replace('""', '"')


def shown_row(cells: Sequence[str]) -> Sequence[str]:
    """Return what a spreadsheet shows of the cells of a row."""
    return [*map(shown, cells)] if '="' in "".join(cells) else cells


@attrs.frozen
class Header:
    """The names of the columns, in order."""

    names: tuple[str, ...]

    def index(self, name: str) -> int:
        """Return the place of the column with that name.

        Raises SheetError where there is none, or more than one.
        """
        found = self._all(name)
        if not found:
            raise SheetError(f"there is no column {name!r}; the columns are {_listed(self.names)}")
        if len(found) > 1:
            raise SheetError(f"{len(found)} columns have the name {name!r}: rename all but one")
        return found[0]

    def has(self, name: str) -> bool:
        """Return whether a column has that name."""
        return bool(self._all(name))

    def find(self, names: Iterable[str], option: str) -> int | None:
        """Return the place of the one column that has one of these names, None where none has.

        Raises SheetError where several have: `option` is what tells which is meant.
        """
        found = [index for name in names for index in self._all(name)]
        if len(found) > 1:
            several = _listed([self.names[index] for index in sorted(found)])
            raise SheetError(f"{several} could all be meant: name one with {option}")
        return found[0] if found else None

    @property
    def first_line(self) -> str:
        """Describe the first line, which should name the columns."""
        return f"the first line is to name the columns, and is {_listed(self.names)}"

    def _all(self, name: str) -> list[int]:
        wanted = plain_name(name)
        if not wanted:
            return []
        return [index for index, here in enumerate(self.names) if plain_name(here) == wanted]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:12])
    return shown + (", ..." if len(names) > 12 else "")  # noqa: PLR2004


@attrs.frozen(kw_only=True)
class SheetEncoding:
    """The codec of a file, and its `name` for people, which says if it is a guess.

    The guess is made because of a `wrong` line, which is not UTF-8.
    """

    codec: str
    name: str
    wrong: int | None = None


def encoding_of(file: BinaryIO) -> SheetEncoding:
    """Return the encoding of a file, after reading all of it.

    Raises SheetError where no encoding fits.
    """
    file.seek(0)
    head = file.read(4)
    if head.startswith(_WORKBOOKS):
        raise SheetError("it is an Excel workbook: save it as `CSV UTF-8` and name that file")
    marked = next((mark[1:] for mark in _MARKS if head.startswith(mark[0])), None)
    if marked is None and b"\0" in head:
        raise SheetError("it is UTF-16 without a byte order mark: save the file as `CSV UTF-8`")
    codec, name = marked or ("utf-8", "UTF-8")
    wrong = _first_wrong_line(file, codec)
    if wrong is None:
        return SheetEncoding(codec=codec, name=name)
    if marked is None and _first_wrong_line(file, "cp1252") is None:
        name = f"Windows-1252, as line {wrong} is not UTF-8"
        return SheetEncoding(codec="cp1252", name=name, wrong=wrong)
    raise SheetError(f"line {wrong} is not {name}: save the file as `CSV UTF-8`")


def _first_wrong_line(file: BinaryIO, codec: str) -> int | None:
    file.seek(0)
    decoder = codecs.getincrementaldecoder(codec)()
    line = 1
    try:
        while chunk := file.read(_CHUNK):
            decoder.decode(chunk)
            line += chunk.count(b"\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return line + error.object[: error.start].count(b"\n")
    return None


def _is_utf8(line: bytes) -> bool:
    """Return whether a line is UTF-8 and not ASCII, and not by chance, as `NESCAFÉ®`."""
    with suppress(UnicodeDecodeError):
        line.decode()
        return not _ENDED.sub(b"", line).isascii()
    return False


def _first_line_that(file: BinaryIO, is_it: Callable[[bytes], object]) -> int | None:
    file.seek(0)
    return next((number for number, line in enumerate(file, 1) if is_it(line)), None)


def delimiter_of(line: str) -> str:
    """Return the delimiter between the names of the columns."""
    outside = _QUOTED.sub("", line)
    return max(_DELIMITERS, key=outside.count)


class Sheet:
    """The rows of a seekable file; `name` is what errors call it.

    Raises SheetError where it cannot be read as a CSV with a header.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self._file = file
        self.encoding = encoding_of(file)
        file.seek(0)
        with _text(file, self.encoding) as lines:
            first = lines.readline()
            named = _SEPARATOR_LINE.fullmatch(first)
            self._begin = 1 if named else 0  # where Excel's `sep=;` stands before the header
            self.delimiter = named[1] if named else delimiter_of(first)
        header = next(self._records(), None)
        if header is None:
            raise SheetError("it is empty: its first line is to name the columns")
        self.header = Header(tuple(shown(name).strip() for name in header.values))

    @property
    def form(self) -> str:
        """Describe the encoding and the delimiter."""
        delimited = _DELIMITERS.get(self.delimiter, f"delimiter {self.delimiter!r}")
        return f"{self.encoding.name}, {delimited}"

    def check_texts(self) -> None:
        """Raise SheetError where the guessed encoding seems to be wrong, and texts are garbled.

        So it is in a file that was joined of two encodings, or in which a program cut a character
        in two, and in one that Excel saved for MS-DOS, the Macintosh or other languages.
        """
        wrong = self.encoding.wrong
        if wrong is None:
            return
        if (right := _first_line_that(self._file, _is_utf8)) is not None:
            raise SheetError(
                f"line {wrong} is not UTF-8, and line {right} is: read in one encoding, some texts"
                " would go out garbled. Mend these lines, or save the file as `CSV UTF-8`"
            )
        if (line := _first_line_that(self._file, _NOT_WINDOWS.search)) is not None:
            raise SheetError(
                f"line {line} seems to be neither UTF-8 nor Windows-1252, but of MS-DOS, the"
                " Macintosh or another language, and would go out garbled: save the file as"
                " `CSV UTF-8`"
            )

    def rows(self) -> Iterator[Row]:
        """Yield the rows below the header, from the first, without blank lines.

        Raises SheetError where the rest of the file cannot be read.
        """
        return itertools.islice(self._records(), 1, None)

    def _records(self) -> Iterator[Row]:
        self._file.seek(0)
        line = self._begin + 1
        with _text(self._file, self.encoding) as lines:
            for _ in range(self._begin):
                lines.readline()
            reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
            try:
                for values in reader:
                    if any(values):
                        yield Row(line, values)
                    line = self._begin + reader.line_num + 1
            except csv.Error as error:
                raise SheetError(
                    f"line {line} cannot be read ({error}): is a quote opened there that is not"
                    " closed?"
                ) from error
            except UnicodeDecodeError as error:
                raise SheetError(
                    "it was changed while it was read, and nothing was sent: run again"
                ) from error


class _text:  # noqa: N801 - it reads as the function it is
    """Read a file as text, and leave it open."""

    def __init__(self, file: BinaryIO, encoding: SheetEncoding) -> None:
        self._lines = io.TextIOWrapper(file, encoding=encoding.codec, newline="")

    def __enter__(self) -> io.TextIOWrapper:
        return self._lines

    def __exit__(self, *_error: object) -> None:
        self._lines.detach()
