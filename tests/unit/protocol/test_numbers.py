"""Numbers: their digits, or an error that says what is wrong."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycore_async import InvalidMessage
from skycore_async.protocol import numbers


@pytest.mark.parametrize(
    ("to", "digits"),
    [
        ("15551234888", "15551234888"),
        ("+15551234888", "15551234888"),
        ("+1 (555) 123-4888", "15551234888"),
        ("1.555.123/4888", "15551234888"),
        ("33.6.12.34.56.00", "33612345600"),
        ("1555.1234000", "15551234000"),
        ("\u202a+1\u00a0555\u2011123\u20114888\u202c", "15551234888"),
        ("12345", "12345"),
        ("123456789012345", "123456789012345"),
    ],
)
def test_formatting_is_stripped(to: str, digits: str) -> None:
    """People may write a number as they do; the API gets its digits."""
    assert numbers.number(to) == digits


@pytest.mark.parametrize(
    "to",
    [
        pytest.param("", id="empty"),
        pytest.param("+", id="no digits"),
        pytest.param("1234", id="too short"),
        pytest.param("1234567890123456", id="too long"),
        pytest.param("0015551234888", id="00"),
        pytest.param("+00 1 555 123 4888", id="00 after a plus"),
        pytest.param("1-800-FLOWERS", id="letters"),
        pytest.param("1555123488\uff18", id="full-width digit"),
        pytest.param("١٥٥٥١٢٣٤٨٨٨", id="Arabic digits"),
        pytest.param("1555123488²", id="superscript"),
        pytest.param("++15551234888", id="two pluses"),
        pytest.param("1555+1234888", id="a plus within"),
        pytest.param("15551234888\n", id="line break"),
        pytest.param("15551234888,15551234889", id="two numbers"),
    ],
)
def test_what_is_no_number_is_refused(to: str) -> None:
    """What is not 5 to 15 ASCII digits without 00 in front is refused, and shown."""
    with pytest.raises(InvalidMessage, match="international format") as caught:
        numbers.number(to)
    assert caught.value.field == "to"
    assert repr(to) in str(caught.value)


@pytest.mark.parametrize("to", ["15551234888.0", "15551234888.00", " +15551234888.0 "])
def test_a_decimal_number_is_refused(to: str) -> None:
    """The zeros that a table of amounts adds are not taken for digits of another number."""
    with pytest.raises(InvalidMessage, match=re.escape(f"{to!r} is a decimal number")) as caught:
        numbers.number(to)
    assert caught.value.field == "to"


@pytest.mark.slow
@given(st.text())
def test_a_number_is_digits_or_refused(to: str) -> None:
    """No str is anything but 5 to 15 digits afterwards, or an InvalidMessage."""
    try:
        digits = numbers.number(to)
    except InvalidMessage:
        return
    assert re.fullmatch("[0-9]{5,15}", digits)
    assert numbers.number(digits) == digits


def test_a_long_wrong_number_is_cut_in_the_error() -> None:
    """A whole file given as a number does not end up in the error."""
    with pytest.raises(InvalidMessage) as caught:
        numbers.number("x" * 10_000)
    assert len(str(caught.value)) < 200
