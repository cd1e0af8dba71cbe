"""Phone numbers in text: found in every form, and masked but for their last four digits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycore_async.cli.ui.masking import mask_in

NUMBER = "15551234888"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("order-17", "order-17"),
        ("promo:15551234888", "promo:*******4888"),
        ("bad number 5551234888", "bad number ******4888"),
        ("+1 (555) 123-4888 is not valid", "+* (***) ***-4888 is not valid"),
        ("555.123.4888, and 0015551234888", "***.***.4888, and 00*******4888"),
        ("1234888", "***4888"),
        ("to 15551234889", "to 15551234889"),
    ],
)
def test_a_number_is_masked_in_each_form(text: str, shown: str) -> None:
    """With its country code or without, with blanks and signs; another number is none of it."""
    assert mask_in(text, NUMBER) == shown


@pytest.mark.parametrize("number", ["", "4888"])
def test_what_would_be_all_visible_is_not_looked_for(number: str) -> None:
    """A number of four digits, or none, masks nothing."""
    assert mask_in("60856 4888", number) == "60856 4888"


def test_a_number_of_many_alike_digits_takes_no_longer() -> None:
    """Whoever posts chooses what stands for a number, and the text around it."""
    local = "2345678"
    shown = mask_in(f"{'1' * 200}{local[:-1]} {local}", "1" * 10_000 + local)
    assert shown == f"{'1' * 200}{local[:-1]} ***{local[-4:]}"


@pytest.mark.slow
@given(st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True), st.text(max_size=9))
def test_no_number_stands_in_what_is_shown(number: str, around: str) -> None:
    """Whatever stands around it, the number itself is gone, and its end is there."""
    shown = mask_in(f"{around}{number}{around}", number)
    assert number not in shown
    assert number[-4:] in shown
