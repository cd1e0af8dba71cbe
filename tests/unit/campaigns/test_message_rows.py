"""Which of several rows with one number is loaded, given what the campaign has."""

from __future__ import annotations

import pytest

from skycore_async import SMS
from skycore_async.campaigns.message_rows import rows_of, standing
from skycore_async.ledger.postgres.pruning import NO_ROW

A, B = "15551234888", "15551234889"
FIRST, SECOND = (SMS(to=A, text="Hello", from_="60856", key=key) for key in "ab")


def row(to: str) -> str:
    ((_, found),) = rows_of([SMS(to=to, text="Hello", key="b")])
    return found


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, FIRST),
        ({"b": row(A)}, SECOND),
        ({"b": row(A.removeprefix("1"))}, SECOND),
        ({"b": row(B)}, FIRST),
        ({"b": NO_ROW}, SECOND),
    ],
)
def test_what_is_loaded_already_counts_where_it_is_to_the_number(
    known: dict[str | None, str], expected: SMS
) -> None:
    """Of rows with one number, the one whose key is loaded to that number counts.

    A single row counts in any case, since its text may have been corrected.
    """
    assert standing((FIRST, SECOND), known) is expected
    assert standing((FIRST,), known) is FIRST
