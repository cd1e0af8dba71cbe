"""The template of `--text`: a text with the names of columns in braces.

A text in a column of its own is no template, but was perhaps meant as one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final, Self

from .recipients import Header, SheetError

_PARTS: Final = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|\{)")
_BRACED: Final = re.compile(r"\{[^{}]*\}")
_DOUBLED: Final = re.compile(r"(?<!\{)\{\{\s*([^{}]*?)\s*\}\}(?!\})")


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
        is not closed, and for a column in double braces, as other template languages write it.
        """
        for name in _DOUBLED.findall(text):
            if header.has(name):
                raise SheetError(
                    f"the text has {name!r} in two braces, which would go out as it stands: write"
                    f" {{{name}}} for the column"
                )
        return cls(tuple(_parts(text, header)))

    def fill(self, values: Sequence[str]) -> str:
        """Return the text with the values of a row in it."""
        text: str = self._format % self._values_of(values)
        return text


def unfilled(text: str, header: Header) -> str | None:
    """Return why a text in a column of its own was perhaps meant as a template; None if not."""
    named = _BRACED.findall(text) if "{" in text else ()
    first = next((name for name in named if header.has(name[1:-1])), None)
    return None if first is None else f"{first} would go out as it stands: only --text fills it"


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
