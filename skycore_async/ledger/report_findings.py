"""What the rows of a sending report tell of an attempt in doubt.  No I/O, no storage."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from .report_evidence import OpenReason


@attrs.frozen
class Taken:
    """The attempt was taken; the report lists it as `history_id`."""

    history_id: str


@attrs.frozen
class Absent:
    """No row can be of the attempt, provided that the report would list each attempt of `group`.

    With `is_beside_another` the report lists another text to its number at its time, which is of
    no attempt: that may be this one, if the provider alters texts.
    """

    group: frozenset[int]
    is_beside_another: bool = False


@attrs.frozen
class Unclear:
    """Rows tell nothing about the attempt."""

    reason: OpenReason


Finding: TypeAlias = Taken | Absent | Unclear
