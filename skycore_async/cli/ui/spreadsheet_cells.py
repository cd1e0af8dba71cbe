"""Cells that a spreadsheet would take for formulas: text from the wire has to stay text."""

from __future__ import annotations

from typing import Final

_COMPUTED: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # what formulas begin with, wide ones too


def no_formula(text: str) -> str:
    """Return a text with an apostrophe in front where a spreadsheet would compute it."""
    return f"'{text}" if text.startswith(_COMPUTED) else text
