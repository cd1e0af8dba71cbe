"""The name by which an earlier version knew a database: it had no port, and no service.

Rule: another database may have that very name, so it proves nothing by itself.
"""

from __future__ import annotations

import re
from typing import Final

_DATABASE: Final = "PostgreSQL database "  # what no path of a file that is whole begins with
_SINCE: Final = re.compile(r"(, port [0-9,]+)?(, of service .*)?\Z", re.DOTALL)


def earlier_name(ledger: str) -> str:
    """Return the name that a ledger had for an earlier version; most have the same still."""
    return _SINCE.sub("", ledger, count=1) if ledger.startswith(_DATABASE) else ledger
