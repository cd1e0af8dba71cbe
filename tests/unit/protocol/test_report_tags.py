"""The patterns of a report's tags, on every Python that is supported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from skycore_async.protocol import report, report_tags

PATTERNS = {
    name: value
    for module in (report, report_tags)
    for name, value in vars(module).items()
    if isinstance(value, re.Pattern)
}
ONE_CHARACTER = {codes.IN, codes.LITERAL, codes.NOT_LITERAL, codes.ANY}


def possessive(parsed: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield what is repeated by `*+`, `++` or `?+` anywhere in a pattern."""
    for part in parsed:
        if isinstance(part, tuple | list | parser.SubPattern):
            if isinstance(part, tuple) and part[0] is codes.POSSESSIVE_REPEAT:
                yield list(part[1][2])
            yield from possessive(part)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_group_is_repeated_as_older_pythons_get_it_wrong(name: str) -> None:
    """Python before 3.11.5 does not undo a round of `(...)*+` that fails in the middle."""
    parsed = parser.parse(PATTERNS[name].pattern, PATTERNS[name].flags)
    for repeated in possessive(parsed):
        assert [each[0] for each in repeated][1:] == []
        assert repeated[0][0] in ONE_CHARACTER


def test_repeats_are_found() -> None:
    """Where there is one, wherever it stands in a pattern."""
    (found,) = possessive(parser.parse(r"a(?:b|(?=(?:cd)*+e))"))
    assert len(found) == 2
