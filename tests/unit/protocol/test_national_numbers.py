"""National numbers: read by the tables of a library, or refused where two could be meant."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from skycore_async import ConfigurationError, InvalidMessage, NationalNumbers
from skycore_async.protocol.numbers import number


@pytest.mark.parametrize(
    ("country", "written", "digits"),
    [
        ("US", "(555) 123-4888", "15551234888"),
        ("us", "555.123.4888", "15551234888"),
        ("US", "1 555 123 4888", "15551234888"),
        ("US", "+1 555 123 4888", "15551234888"),
        ("US", "011 44 20 7946 0958", "442079460958"),
        ("US", "+44 20 7946 0958", "442079460958"),
        ("US", "442079460958", "442079460958"),
        ("US", "33612345678", "33612345678"),
        ("US", "+39 (06) 1234567", "39061234567"),
        ("US", "6592345678", "16592345678"),  # and, with a + in front, in Singapore
        ("CA", "604 555 0123", "16045550123"),
        ("GB", "020 7946 0958", "442079460958"),
        ("GB", "(0)20 7946 0958", "442079460958"),
        ("GB", "44 (0)20 7946 0958", "442079460958"),
        ("GB", "00 1 212 555 0123", "12125550123"),
        ("GB", "07911 123456", "447911123456"),
        ("GB", "7911123456", "447911123456"),  # a table of numbers has lost the 0
        ("GB", "79111234567", "79111234567"),
        ("GB", "15551234888", "15551234888"),
        ("DE", "0151 12345678", "4915112345678"),
        ("DE", "4915112345678", "4915112345678"),
        ("IT", "06 1234567", "39061234567"),
        ("RU", "8 (911) 123-45-67", "79111234567"),
    ],
)
def test_a_number_is_read_as_one_of_the_country(country: str, written: str, digits: str) -> None:
    """It gets the country code unless it has one; reading the result again changes nothing."""
    reader = NationalNumbers(country)
    assert number(written, reader) == digits
    assert number(reader(written), reader) == digits


@pytest.mark.parametrize(
    ("country", "written", "said"),
    [
        ("US", "4930123456", r"could be \+14930123456 or \+4930123456: write the one"),
        ("DE", "33612345678", r"could be \+4933612345678 or \+33612345678: write the one"),
        ("US", "5551234", "is no number of US: write that of another country with"),
        ("US", "12345", "is no number of US"),
        ("US", "0555 123488", "is no number of US"),
        ("US", "0044 20 7946 0958", "is no number of US"),
        ("US", "9" * 20, "is no number of US"),
        ("US", "1-800-FLOWERS", "no phone number in international format"),
        ("US", "555 123 4888 x12", "no phone number in international format"),
        ("US", "555123488\uff18", "no phone number in international format"),
        ("US", "", "no phone number in international format"),
        ("US", "9" * 21, "no phone number in international format"),
        ("US", "5551234888.0", "is a decimal number"),
        ("US", "+0 555 123 4888", "no country code begins with 0"),
        ("GB", "+44 (0)20 7946 0958", r"leave it out, as in \+44 20 7946 0958"),
    ],
)
def test_a_number_of_no_country_or_of_two_is_refused(
    country: str, written: str, said: str
) -> None:
    """A number of no country, or of two possible ones, is refused with what to write."""
    with pytest.raises(InvalidMessage, match=said) as caught:
        number(written, NationalNumbers(country))
    assert caught.value.field == "to"


@pytest.mark.parametrize("country", ["UK", "USA", "", "1", "001", None, ["US"]])
def test_an_unknown_country_is_refused(country: Any) -> None:
    """An unknown country is refused when the reader is made."""
    with pytest.raises(ConfigurationError, match="is no country: its two letters are needed"):
        NationalNumbers(country)


def test_a_reader_is_a_value() -> None:
    """It compares by its country, and other processes can be given it."""
    assert pickle.loads(pickle.dumps(NationalNumbers("gb"))) == NationalNumbers("GB")  # noqa: S301
    assert repr(NationalNumbers("GB")) == "NationalNumbers(country='GB')"


def test_a_number_that_is_no_text_is_refused() -> None:
    """A number that is no text is refused before the reader sees it."""
    wrong: Any = 5551234888
    with pytest.raises(InvalidMessage, match="a str is needed, not int"):
        number(wrong, NationalNumbers("US"))
