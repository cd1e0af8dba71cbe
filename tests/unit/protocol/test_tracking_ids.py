"""Tracking ids: two spellings of one, and what is opaque."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skycore_async.protocol.tracking_ids import plain, spellings

PLAIN = {
    "SMS_12345": "SMS_12345",
    "U01TXzc2Nzg2Nw==": "SMS_767867",
    "U01TXzc2Nzg2Nw": "SMS_767867",
    "U01TXzgwNjc4": "SMS_80678",
    "TU1TXzE=": "MMS_1",
    # Opaque: of other letters, of set bits that stand for nothing, of what is no base64.
    "sms_12345": "sms_12345",
    "c21zXzEyMzQ1": "c21zXzEyMzQ1",
    "U01TXzc2Nzg2Nx==": "U01TXzc2Nzg2Nx==",
    "U01TXzc2Nzg2N": "U01TXzc2Nzg2N",
    "U01TXw==": "U01TXw==",
    "6f1e2a7c-0b0e": "6f1e2a7c-0b0e",
    "T": "T",
    "": "",
}


@pytest.mark.parametrize("tracking_id", PLAIN)
def test_the_plain_form_of_a_base64_id_is_the_plain_id(tracking_id: str) -> None:
    """The plain form of a base64 id is the plain id; any other id is its own plain form."""
    assert plain(tracking_id) == PLAIN[tracking_id]
    assert plain(plain(tracking_id)) == PLAIN[tracking_id]


@pytest.mark.slow
@given(st.from_regex("[A-Z]{1,9}_[0-9]{1,99}", fullmatch=True))
def test_both_spellings_of_an_id_are_equal(form: str) -> None:
    """Both spellings of an id have one plain form and the same list of spellings."""
    encoded = b64encode(form.encode()).decode()
    assert plain(encoded) == plain(form) == form
    assert spellings(encoded) == spellings(form) == (encoded, form)


@given(st.text(max_size=200).filter(lambda text: "\0" not in text))
@example("U01TXzE\u00e9")
def test_an_opaque_id_has_one_spelling(tracking_id: str) -> None:
    """An opaque id has one spelling."""
    assert plain(tracking_id) == tracking_id
    assert spellings(tracking_id) == (tracking_id,)


@pytest.mark.parametrize("form", ["x" * 2800, "SMS_" + "1" * 2800, "x\ud800", "x\0"])
def test_the_plain_form_of_an_overlong_id_is_a_digest(form: str) -> None:
    """The plain form of an id that no index takes is a short digest."""
    assert len(plain(form)) < 100
    assert plain(form) != plain(form + "1")
    encoded = b64encode(form.encode("utf-8", "replace")).decode()
    assert (plain(encoded) == plain(form)) is form.startswith("SMS_")
