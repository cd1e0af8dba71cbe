"""What an answer means: the table of the wire, and any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skycore_async import SMS, Accepted, OutcomeUnknown, Rejected, SkycoreError, Throttled
from skycore_async.protocol import responses
from skycore_async.runtime.secret import Secret
from tests.support.sending_cases import (
    ANSWERS,
    DATE,
    HELLO,
    HTML,
    KEY,
    Answer,
    accepted,
    check,
    success,
)


def read(answer: Answer) -> Accepted:
    return responses.parse_response(
        HELLO,
        to="15551234888",
        status=answer.status,
        headers={name.lower(): value for name, value in answer.headers.items()},
        body=answer.body,
        api_key=Secret(KEY),
    )


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_has_its_meaning(answer: Answer) -> None:
    """Success is Accepted, Failure is what its code says, and anything else is doubt."""
    outcome: Accepted | SkycoreError
    try:
        outcome = read(answer)
    except SkycoreError as error:
        outcome = error
    check(answer, outcome)


def test_an_accepted_message_keeps_what_came() -> None:
    """`message` is the caller's, and `raw` the answer by element names, without indentation."""
    accepted = read(ANSWERS["the page's Success"])
    assert accepted.message is HELLO
    assert accepted.raw == {
        "STATUS": "Success",
        "TRACKINGID": "SMS_12345",
        "TO": "15551234888",
    }
    assert "raw" not in repr(accepted)


def test_text_between_the_elements_is_kept() -> None:
    """What is no indentation stays in `raw`."""
    body = success("queued<TRACKINGID>SMS_12345</TRACKINGID>")
    assert read(accepted(body)).raw["#TEXT"] == "queued"


def test_the_cause_of_an_unreadable_answer_is_kept() -> None:
    """An answer that is no RESPONSE says why, in its text and its cause."""
    with pytest.raises(OutcomeUnknown) as caught:
        read(ANSWERS["HTML"])
    assert isinstance(caught.value.__cause__, ValueError)


pieces = st.sampled_from(
    [
        *(b"<RESPONSE>", b"</RESPONSE>", b"<STATUS>", b"</STATUS>", b"Success", b"Failure"),
        *(b"<TRACKINGID>", b"</TRACKINGID>", b"SMS_1", b"<ERRORCODE>", b"</ERRORCODE>", b"E106"),
        *(b"E503", b"<", b">", b"&", b"&lt;", b"&#0;", b"<![CDATA[", b"]]>", b"<!--", b"\x00"),
        *(b"<?xml version='1.0' encoding='utf-16'?>", b"\xff\xfe", b"\xef\xbb\xbf", b" ", b"\n"),
    ]
)


@pytest.mark.slow
@given(
    body=st.binary() | st.lists(pieces | st.binary(max_size=3)).map(b"".join),
    status=st.sampled_from([200, 204, 301, 400, 429, 500, 503]),
    headers=st.fixed_dictionaries({}, optional={"retry-after": st.text(), "date": st.text()}),
)
def test_no_answer_is_anything_else(body: bytes, status: int, headers: dict[str, str]) -> None:
    """Any bytes and any headers make an Accepted or one of the errors of an answer."""
    try:
        outcome = read(Answer(body=body, status=status, headers=headers))
    except (Rejected, Throttled, OutcomeUnknown):
        return
    assert outcome.tracking_id


digits = st.integers(min_value=0, max_value=10**25).map(str)
dates = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Tue", "Tuesday", "", "x"]),
    *(digits, st.sampled_from(["Jul", "", "Smarch"]), digits, digits, digits, digits),
    st.sampled_from(["GMT", "-0000", "+9999", "+99999999", "EST", "", "x"]),
)


@pytest.mark.slow
@given(asked=digits | dates | st.text(), date=dates | st.just(DATE["Date"]))
@example(asked="Tue, 26 Jul 2011 14:22:30 +0100", date="Tue, 26 Jul 2011 14:22:30 GMT")
@example(asked="١٢", date="")
def test_no_retry_after_is_a_crash(asked: str, date: str) -> None:
    """Whatever stands in Retry-After and Date, `retry_after` is finite seconds or None."""
    answer = Answer(body=HTML, status=429, headers={"Retry-After": asked, "Date": date})
    with pytest.raises(Throttled) as caught:
        read(answer)
    wait = caught.value.retry_after
    assert wait is None or 0 <= wait < float("inf")


def test_a_plain_success_is_accepted_as_any_other() -> None:
    """A plain success read without the parser gives the same value as with it."""
    body = (
        b"<RESPONSE>\n<STATUS>Success</STATUS><TRACKINGID>U01T==</TRACKINGID>"
        b"<TO>15551234888</TO></RESPONSE>"
    )
    message = SMS(to="+1 555 123 4888", text="Hello")
    slow = body.replace(b"<STATUS>", b"<!-- --><STATUS>")
    assert read_of(message, body) == read_of(message, slow)
    with pytest.raises(OutcomeUnknown, match="another number"):
        read_of(message, body, to="15551234889")


def test_a_plain_success_that_repeats_the_key_is_read_without_it() -> None:
    """A tracking id that has the key in it, in whatever way, is kept without it."""
    body = success(f"<TRACKINGID>SMS_{KEY}</TRACKINGID><TO>15551234888</TO>")
    assert responses._PLAIN_SUCCESS.fullmatch(body)
    read = read_of(HELLO, body)
    assert read.tracking_id == "SMS_***"
    assert KEY not in str(read.raw)


def read_of(message: SMS, body: bytes, *, to: str = "15551234888") -> Accepted:
    return responses.parse_response(
        message, to=to, status=200, headers={}, body=body, api_key=Secret(KEY)
    )


@pytest.mark.slow
@given(st.from_regex(responses._PLAIN_SUCCESS, fullmatch=True))
def test_a_plain_success_is_read_as_the_parser_reads_it(body: bytes) -> None:
    """The answer that is read without a parser means the same as with one."""
    slow = body.replace(b"</RESPONSE>", b"<!-- no longer plain --></RESPONSE>")
    assert responses._PLAIN_SUCCESS.fullmatch(slow) is None
    assert responses.read_fields(body) == responses.read_fields(slow)
