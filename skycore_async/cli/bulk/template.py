"""The template of `--text`: a text with the names of columns in braces.

Rule: where the name of a column would go out as it stands, nothing is sent.  So it would from a
text in a column of its own, and where it is written as in other programs, as `[name]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final, Self

from .recipients import Header, SheetError

_PARTS: Final = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|\{)")
# The first group is what is written, another one the name.  One may be in another, as in «[a]».
_BRACED: Final = re.compile(r"(?=(\{([^{}]*)\}))")
_BEGINS: Final = re.compile(r"[{\[<«*%$#(]")
_ELSEWHERE: Final = re.compile(  # how other programs write a column
    r"(?=((?<!\{)\{\{([^{}]*)\}\}(?!\})|\[([^\[\]]*)\]|<([^<>]*)>|«([^«»]*)»|\*\|([^|]*)\|\*"
    r"|%(\w[\w .-]*)%|\$(\w+)|\(\(([^()]*)\)\)|%\((\w[\w .-]*)\)s|#(\w(?:[\w .-]*\w)?)#))"
)
_IF_MEANT: Final = "where it is meant so, rename that column"


class Template:
    """A text in parts: texts that all messages have, and indices of columns."""

    def __init__(self, parts: Sequence[str | int]) -> None:
        self.columns: Final = tuple(part for part in parts if isinstance(part, int))
        self._format = "".join(
            part.replace("%", "%%") if isinstance(part, str) else "%s" for part in parts
        )
        self._values_of = itemgetter(*self.columns) if self.columns else _no_values

    @classmethod
    def parse(cls, text: str, header: Header) -> Self:
        """Read a text with `{column}` in it, and `{{` for a brace.

        Raises SheetError for a column that is not in the header, for a brace that
        is not closed, and for a column as other template languages write it, in double braces.
        """
        if found := _first_named(_ELSEWHERE, text, header):
            written, name = found
            raise SheetError(
                f"the text has {written} in it, which would go out as it stands: write {{{name}}}"
                f" for the column; {_IF_MEANT}"
            )
        return cls(tuple(_parts(text, header)))

    def fill(self, values: Sequence[str]) -> str:
        """Return the text with the values of a row in it."""
        text: str = self._format % self._values_of(values)
        return text


def unfilled(text: str, header: Header) -> str | None:
    """Return why a text in a column of its own was perhaps meant as a template; None if not."""
    if not _BEGINS.search(text):  # as of nearly all texts, of which there may be many
        return None
    found = _first_named(_BRACED, text, header) or _first_named(_ELSEWHERE, text, header)
    return found and (
        f"{found[0]} would go out as it stands, as only --text fills in a column; {_IF_MEANT}"
    )


def _first_named(pattern: re.Pattern[str], text: str, header: Header) -> tuple[str, str] | None:
    """Return the first column that a text names, as it is written and as its name, if any."""
    for found in pattern.finditer(text):
        written, *names = found.groups()
        name = next(filter(None, names), "").strip()
        if header.has(name):
            return written, name
    return None


def _no_values(_: Sequence[str]) -> tuple[()]:
    return ()


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
