"""Digests of texts as a report shows them, whose white space may differ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycore_async.ledger.texts import digest_of

SPACES = " \t\n\r\u00a0\u2003"


@pytest.mark.parametrize(
    "shown",
    ["Hello you", " Hello you", "Hello you ", "Hello\nyou", "Hello  you", "Hello\u00a0you"],
)
def test_white_space_is_folded(shown: str) -> None:
    """Texts that differ in white space alone have the same digest."""
    assert digest_of(shown) == digest_of("Hello you")
    assert digest_of(shown) != digest_of("Helloyou")


@given(st.text(alphabet=SPACES + "ab\u00e9&", max_size=8))
def test_a_text_is_known_by_its_words(text: str) -> None:
    """A text has the digest of its words joined by single spaces."""
    assert digest_of(text) == digest_of(" ".join(text.split()))


def test_the_digest_is_the_same_in_every_version() -> None:
    """The digest of a text has its fixed value, as stored in files."""
    assert digest_of("Hello").hex() == "ef15eaf92d5e3353"
    assert digest_of("caf\u00e9 \n").hex() == "dacff471846a1633"
