"""Cells that spreadsheets would compute: what came over the wire is text, and stays text."""

from __future__ import annotations

from typing import Final

_COMPUTED: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # what formulas begin with, wide ones too


def no_formula(text: str) -> str:
    """Return a text as one that no spreadsheet computes: with an apostrophe where it would."""
    return f"'{text}" if text.startswith(_COMPUTED) else text
