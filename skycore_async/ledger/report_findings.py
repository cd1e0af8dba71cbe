"""What the rows of a sending report tell of an attempt in doubt.  No I/O, no storage."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from .report_evidence import OpenReason


@attrs.frozen
class Taken:
    """The attempt was taken, and is the report's `history_id`."""

    history_id: str


@attrs.frozen
class Absent:
    """No row can be of the attempt, if each of `group` would have one in the report.

    With `is_beside_another` its number was sent another text at its time, which none of the
    attempts had: that may be it, if the provider does not list texts as they were.
    """

    group: frozenset[int]
    is_beside_another: bool = False


@attrs.frozen
class Unclear:
    """Rows tell nothing of the attempt."""

    reason: OpenReason


Finding: TypeAlias = Taken | Absent | Unclear
