"""A text with the columns of a sheet in it, as `--text` has it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from .recipients import Header, SheetError

_PARTS: Final = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|\{)")
_DOUBLED: Final = re.compile(r"(?<!\{)\{\{\s*([^{}]*?)\s*\}\}(?!\})")


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
