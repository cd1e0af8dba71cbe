"""The findings that a sending report allows about an attempt in doubt.  No I/O, no storage."""

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

    With `is_beside_another` the report lists a row to its number, at its time, with a text of no
    attempt: the row may be of this attempt, if the provider alters texts.
    """

    group: frozenset[int]
    is_beside_another: bool = False


@attrs.frozen
class Unclear:
    """The rows prove nothing about the attempt."""

    reason: OpenReason


Finding: TypeAlias = Taken | Absent | Unclear
