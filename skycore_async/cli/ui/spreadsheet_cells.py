"""Cells of spreadsheets: what they would take for a formula, and what they show of a failed one.

Rule: text from the wire has to stay text.
"""

from __future__ import annotations

import re
from typing import Final

_COMPUTED: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # what formulas begin with, wide ones too


def no_formula(text: str) -> str:
    """Return a text with an apostrophe in front where a spreadsheet would compute it."""
    return f"'{text}" if text.startswith(_COMPUTED) else text


# What Excel, LibreOffice and Google Sheets show, in English and other languages.
_FAILED: Final = re.compile(
    r"#(N/[ABD]|NV|GETTING_DATA|[¡¿]?("
    r"REF|VALUE|DIV/0|NAME|NULL|NUM|SPILL|CALC|FIELD|ERROR|BLOCKED|BUSY|CONNECT|UNKNOWN"
    r"|BEZUG|WERT|ZAHL|VALEUR|NOM|NUL|NOMBRE|VALOR|NULO|NÚM|RIF|VALORE|NOME|NULLO"
    r"|VERW|WAARDE|NAAM|GETAL|DEEL/0)[!?])|Err:[0-9]{3}"
)


def is_failed(cell: str) -> bool:
    """Return whether a cell shows, as by #N/A, that a spreadsheet could not compute it."""
    plain = cell.strip()
    return plain.startswith(("#", "Err:")) and _FAILED.fullmatch(plain) is not None
