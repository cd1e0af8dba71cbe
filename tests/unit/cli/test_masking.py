"""Phone numbers in texts are masked in every form, but for their last four digits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycore_async.cli.ui import masking
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
    """A number is masked with or without country code, blanks and signs; others are not."""
    assert mask_in(text, NUMBER) == shown


def test_a_number_as_it_is_kept_needs_no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number in plain digits is masked without a pattern."""

    def none(_text: str, _number: str) -> str:
        raise AssertionError

    monkeypatch.setattr(masking, "_masked_by_pattern", none)
    assert mask_in(f"promo:{NUMBER}", NUMBER) == "promo:*******4888"
    with pytest.raises(AssertionError):
        mask_in(f"{NUMBER} (555) 123-4888", NUMBER)


@pytest.mark.parametrize(
    "text", [f"{NUMBER} (555) 123-4888", f"5551234888 {NUMBER}", f"1{NUMBER}"]
)
def test_a_number_in_two_forms_is_masked_in_both(text: str) -> None:
    """A number that stands in two forms is masked in both."""
    assert "123" not in mask_in(text, NUMBER)


@pytest.mark.slow
@given(st.from_regex(r"[12]{5,16}", fullmatch=True), st.text("12 -:", max_size=40))
def test_it_is_masked_as_by_the_pattern(number: str, around: str) -> None:
    """The quick way masks as the pattern does."""
    for text in (f"{around}{number}", f"{number}{around}", f"{around}:{number}:{around}"):
        assert mask_in(text, number) == masking._masked_by_pattern(text, number)


@pytest.mark.parametrize("number", ["", "4888"])
def test_a_number_of_four_digits_is_not_masked(number: str) -> None:
    """A number of four digits or fewer is not masked."""
    assert mask_in("60856 4888", number) == "60856 4888"


def test_a_number_of_many_alike_digits_takes_no_longer() -> None:
    """A number of very many equal digits is masked in bounded time."""
    local = "2345678"
    shown = mask_in(f"{'1' * 200}{local[:-1]} {local}", "1" * 10_000 + local)
    assert shown == f"{'1' * 200}{local[:-1]} ***{local[-4:]}"


@pytest.mark.slow
@given(st.from_regex(r"[1-9][0-9]{6,14}", fullmatch=True), st.text(max_size=9))
def test_no_number_stands_in_what_is_shown(number: str, around: str) -> None:
    """A masked text contains the number's last digits and never the number."""
    shown = mask_in(f"{around}{number}{around}", number)
    assert number not in shown
    assert number[-4:] in shown
