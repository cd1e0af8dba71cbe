"""Numbers: their digits, or an error that says what is wrong."""

from __future__ import annotations

import random
import re

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycore_async import InvalidMessage
from skycore_async.protocol import numbers


@pytest.mark.parametrize("size", [15, 40, 41, 9000])
@pytest.mark.parametrize("script", ["0123456789", "٠١٢٣٤٥٦٧٨٩"])
def test_digits_keeps_the_end_of_an_overlong_number(size: int, script: str) -> None:
    """`digits` keeps the last 40 digits of an overlong number."""
    written = "".join(script[place * place % 10] for place in range(size))
    kept = numbers.digits(written)
    assert kept == "".join(str(place * place % 10) for place in range(size))[-40:]
    assert numbers.digits(f"+{written} ext.") == kept


SAME = {
    "itself": ("15551234888", "15551234888", True),
    "without its country code": ("15551234888", "5551234888", True),
    "a short one without its country code": ("376312345", "312345", True),
    "as it is dialled at home": ("447911123456", "07911123456", True),
    "as it is dialled from abroad": ("15551234888", "0015551234888", True),
    "another": ("15551234888", "15551234889", False),
    "another country's": ("15551234888", "445551234888", False),
    "too few digits to be one": ("15551234888", "4888", False),
    "none": ("15551234888", "", False),
    "a service's, and itself": ("911", "911", True),
}


@pytest.mark.parametrize("case", SAME)
def test_a_number_may_be_the_same_with_and_without_its_country_code(case: str) -> None:
    """Numbers that may be the same have the same ending, in either order."""
    one, other, expected = SAME[case]
    assert numbers.may_be_same(one, other) is expected
    assert numbers.may_be_same(other, one) is expected
    assert not expected or numbers.ending(one) == numbers.ending(other)


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
        ("+39 (06) 1234567", "39061234567"),
        ("+225 07 01 23 45 67", "2250701234567"),
        ("+44 20 7946 0958", "442079460958"),
        ("+44 (20) 7946-0958", "442079460958"),
        ("+1 800 555 0100", "18005550100"),
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
        pytest.param("011 44 20 7946 0958", id="011"),
        pytest.param("+011 44 20 7946 0958", id="011 after a plus"),
        pytest.param("07911 123456", id="a national 0"),
        pytest.param("(020) 7946 0958", id="a national 0 in parentheses"),
        pytest.param("0155 5123 4888", id="0 before a country code"),
        pytest.param("-\u200e0155 5123 4888", id="0 after formatting"),
        pytest.param("00000", id="zeros"),
        pytest.param("+44 (0)20 7946 0958", id="(0)"),
        pytest.param("+1 ( 0 ) 555 123 4888", id="(0) with spaces"),
        pytest.param("+39 (0)6 1234567", id="(0) in Italy"),
        pytest.param("+44 (020) 7946 0958", id="0 in parentheses after a country code"),
        pytest.param("4402079460958", id="0 after a country code"),
        pytest.param("+353 086 123 4567", id="0 after a country code of three digits"),
        pytest.param("(440) 555-0123", id="an American number that is no British one"),
        pytest.param("tel:+15551234888", id="tel:"),
        pytest.param("+15551234888;ext=123", id="an extension in a link"),
        pytest.param("555 123 4888 x123", id="an extension"),
        pytest.param("\uff0b15551234888", id="full-width plus"),
        pytest.param("+44 \uff080\uff0920 7946 0958", id="full-width parentheses"),
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
    """What cannot be 5 to 15 ASCII digits after a country code is refused, and shown."""
    with pytest.raises(InvalidMessage, match="international format") as caught:
        numbers.number(to)
    assert caught.value.field == "to"
    assert repr(to) in str(caught.value)


@pytest.mark.parametrize(
    ("to", "cure"),
    [
        ("0044 20 7946 0958", "write the country code first, with no 00, 011 or 0 before it"),
        ("020 7946 0958", "write the country code first, with no 00, 011 or 0 before it"),
        ("+44 (0)20 7946 0958", r"leave it out, as in \+44 20 7946 0958, or in Italy write"),
        ("+44 020 7946 0958", "the country code 44 begins with 0: .* and no 0 after it"),
        ("١٥٥٥١٢٣٤٨٨٨", r"5 to 15 digits \(0 to 9\), the country code first"),
    ],
)
def test_the_error_says_how_to_write_the_number(to: str, cure: str) -> None:
    """The error of a number that is not international says how to write it."""
    with pytest.raises(InvalidMessage, match=cure):
        numbers.number(to)


@pytest.mark.parametrize("code", numbers._ZERO_IS_A_PREFIX.split("|"))
def test_no_number_begins_with_0_where_that_is_refused(code: str) -> None:
    """No country has a number that the rule on a 0 after its code would refuse."""
    for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[int(code)]:
        metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
        assert metadata is not None
        assert metadata.general_desc is not None
        lengths = metadata.general_desc.possible_length
        pattern = re.compile(metadata.general_desc.national_number_pattern or "")
        drawn = random.Random(int(code))
        for length in lengths:
            for _ in range(500):
                tail = "".join(drawn.choices("0123456789", k=length - 1))
                assert not pattern.fullmatch(f"0{tail}"), region


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


@pytest.mark.parametrize(
    ("number", "names"),
    [
        ("15551234888", ("05551234888", "5551234888")),
        ("447911123456", ("07911123456", "7911123456")),
        ("4915712345678", ("015712345678",)),  # 1 571 234 5678 is somebody else
        ("390612345678", ("0612345678", "612345678")),
        ("60856", ()),
        ("1555123", ()),
        ("299123456", ()),
    ],
)
def test_a_number_may_be_named_as_within_its_country(number: str, names: tuple[str, ...]) -> None:
    """`spellings` gives a number also as written within its country."""
    assert numbers.spellings(number) == (number, *names)
