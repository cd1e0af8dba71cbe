"""Asking for a sending report: the request as bytes, and what its answer means."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skycore_async import (
    AuthenticationFailed,
    InvalidRequest,
    LookupTooSoon,
    PeriodTooLong,
    QuotaExhausted,
    Rejected,
    ReportError,
    SkycoreError,
)
from skycore_async.protocol import report
from skycore_async.runtime.secret import Secret
from tests.support.sending_cases import KEY, elements

SINCE = datetime(2012, 4, 30, 8, 30, 12, 327558, tzinfo=timezone(timedelta(hours=-4)))
FIELDS = report.request_fields(SINCE, SINCE + timedelta(hours=1))
LINK = "https://reports.skycore.com/1.3/report.php?id=17&token=a%20b"
ESCAPED = LINK.replace("&", "&amp;")


def test_a_request_has_the_dates_in_utc() -> None:
    """In both methods, as whole seconds that cover the period, with no offset written."""
    expected = {
        "ACTION": "getSendingStatus",
        "API_KEY": "a&b",
        "START_DATE": "2012-04-30 12:30:12",
        "END_DATE": "2012-04-30 13:30:13",
    }
    form = parse_qs(report.post_body(FIELDS, api_key="a&b").decode())
    assert elements(form["xml"][0]) == expected
    query = parse_qs(report.query_string(FIELDS, api_key="a&b"))
    named = {name.lower(): [value] for name, value in expected.items()}
    assert query == named | {"action": ["getsendingstatus"]}


def response(*inside: str) -> bytes:
    return f"<RESPONSE>{''.join(inside)}</RESPONSE>".encode()


def read(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> report.Link:
    return report.read_link(status=status, headers=headers or {}, body=body, api_key=Secret(KEY))


LINKS = {
    "an element": response(f"<STATUS>Success</STATUS><LINK>{ESCAPED}</LINK>"),
    "with white space": response(f"<STATUS>Success</STATUS>\n<URL>\n\t{ESCAPED} </URL>\n"),
    "MMSID, as the documentation copies": response(
        f"<STATUS>Success</STATUS><MMSID>{ESCAPED}</MMSID>"
    ),
    "ERRORINFO of Success": response(f"<STATUS>Success</STATUS><ERRORINFO>{ESCAPED}</ERRORINFO>"),
    "deeper": response(f"<BODY><FILE name='x'>{ESCAPED}</FILE><N/></BODY>"),
    "in a CDATA section": response(f"<URL><![CDATA[{LINK}]]></URL>"),
    "with a bare &": response(f"<STATUS>Success</STATUS><URL>{LINK}</URL>"),
    "twice the same": response(f"<A>{ESCAPED}</A><A>{ESCAPED}</A>"),
    "among words": response(f"<INFO>Your report: {ESCAPED} is ready</INFO>"),
    "beside one among words": response(f"<U>{ESCAPED}</U><I>see https://docs.example/help</I>"),
    "beside a schema": (
        b'<RESPONSE xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        + response(f"<URL>{ESCAPED}</URL>")[10:]
    ),
    "the bare body": f"\ufeff {LINK}\n".encode(),
}


@pytest.mark.parametrize("body", LINKS.values(), ids=LINKS)
def test_the_link_is_found_wherever_it_stands(body: bytes) -> None:
    """In any element, or as all of the answer; its address is in no repr."""
    link = read(body)
    assert (link.url, link.has_key) == (LINK, False)
    assert "token" not in repr(link)


@pytest.mark.parametrize("key", [KEY, f"%{ord(KEY[0]):02X}{KEY[1:]}", KEY.lower()])
def test_a_link_that_has_the_api_key_in_it_says_so(key: str) -> None:
    """A link that contains the API key, however written, is marked."""
    link = read(response(f"<URL>https://a.example/?k={key}</URL>"))
    assert (link.url, link.has_key) == (f"https://a.example/?k={key}", True)


FAILURES: dict[str, tuple[type[SkycoreError], str | None]] = {
    "E104": (AuthenticationFailed, "E104"),
    "E120": (QuotaExhausted, "E120"),
    "E506": (InvalidRequest, "E506"),
    "E507": (InvalidRequest, "E507"),
    "E508": (InvalidRequest, "E508"),
    "E509": (PeriodTooLong, "E509"),
    "E999": (Rejected, "E999"),
    "": (Rejected, None),
    "E510": (LookupTooSoon, "E510"),
    "E106": (LookupTooSoon, "E106"),
    "E113": (LookupTooSoon, "E113"),
}


@pytest.mark.parametrize(("code", "expected"), FAILURES.items(), ids=FAILURES)
@pytest.mark.parametrize("is_well_formed", [True, False])
def test_a_failure_has_the_class_of_its_code(
    code: str, expected: tuple[type[SkycoreError], str | None], is_well_formed: bool
) -> None:
    """Also where the answer is not well-formed, and where a link stands beside it."""
    info = "why" if is_well_formed else "why & where"
    said = f"<STATUS>Failure</STATUS><ERRORCODE>{code}</ERRORCODE><ERRORINFO>{info}</ERRORINFO>"
    with pytest.raises(SkycoreError, match=info) as caught:
        read(response(said, f"<URL>{ESCAPED}</URL>"))
    assert (type(caught.value), getattr(caught.value, "code", None)) == expected


NO_LINK = {
    "Success alone": (response("<STATUS>Success</STATUS>"), 200),
    "two links": (response(f"<A>{ESCAPED}</A><B>{ESCAPED}2</B>"), 200),
    "an HTML page with links": (f"<html><a href='{LINK}'>{LINK}</a></html>".encode(), 200),
    "a text with a link": (f"not yet: {LINK}".encode(), 200),
    "a link of another scheme": (response("<URL>ftp://a.example/x</URL>"), 200),
    "a relative link": (response("<URL>/report.xml</URL>"), 200),
    "a link that breaks off": (response(f"<URL>{ESCAPED}</URL>")[:40], 200),
    "a link with a backslash": (response("<URL>https://a.example\\@b.example/</URL>"), 200),
    "another root": (b"<POSTBACK/>", 200),
    "nothing": (b"", 200),
    "an error page": (b"<html>502</html>", 502),
    "a link with an error": (response(f"<URL>{ESCAPED}</URL>"), 500),
    "E503": (response("<STATUS>Failure</STATUS><ERRORCODE>E503</ERRORCODE>"), 200),
}


@pytest.mark.parametrize(("body", "status"), NO_LINK.values(), ids=NO_LINK)
def test_an_answer_without_a_link_is_a_report_error(body: bytes, status: int) -> None:
    """An answer without a link is a ReportError that quotes nothing of the answer."""
    with pytest.raises(ReportError) as caught:
        read(body, status=status)
    assert "example" not in str(caught.value)
    assert not caught.value.may_have_been_sent


PAUSES = {
    "by Retry-After": ("too soon", {"retry-after": "90"}, 90.0),
    "in seconds": ("allowed only every 120 seconds", {}, 120.0),
    "in minutes": ("one look-up in 15 minutes", {}, 900.0),
    "in hours": ("at most 1 in 2 hours", {}, 7200.0),
    "not said": ("too frequent", {}, report.PAUSE),
    "absurd": ("wait 99999 hours", {}, 86400.0),
}


@pytest.mark.parametrize(("info", "headers", "pause"), PAUSES.values(), ids=PAUSES)
def test_a_look_up_that_is_too_early_says_how_long_to_wait(
    info: str, headers: dict[str, str], pause: float
) -> None:
    """A look-up that is too early says how long to wait, at most a day."""
    said = f"<STATUS>Failure</STATUS><ERRORCODE>E510</ERRORCODE><ERRORINFO>{info}</ERRORINFO>"
    with pytest.raises(LookupTooSoon) as caught:
        read(response(said), headers=headers)
    assert caught.value.retry_after == pause


def test_http_429_is_too_early() -> None:
    """HTTP 429 is a LookupTooSoon without a code."""
    with pytest.raises(LookupTooSoon, match="HTTP 429") as caught:
        read(b"<html>slow down</html>", status=429, headers={"retry-after": "7"})
    assert (caught.value.retry_after, caught.value.code) == (7.0, None)


def test_an_answer_that_repeats_the_key_does_not_show_it() -> None:
    """An error does not show an API key that the answer repeats."""
    with pytest.raises(Rejected) as caught:
        read(response(f"<ERRORCODE>E108</ERRORCODE><ERRORINFO>in {KEY}</ERRORINFO>"))
    assert KEY not in str(caught.value)


pieces = st.sampled_from(
    [
        *(b"<RESPONSE>", b"</RESPONSE>", b"<STATUS>", b"</STATUS>", b"Success", b"Failure", b"<"),
        *(b"<URL>", b"</URL>", LINK.encode(), b"http://", b"E510", b"<ERRORCODE>", b"&", b" "),
    ]
)


@pytest.mark.slow
@given(
    body=st.binary() | st.lists(pieces, max_size=20).map(b"".join),
    status=st.sampled_from([200, 302, 429, 500]),
)
def test_any_answer_is_a_link_or_an_error(body: bytes, status: int) -> None:
    """Nothing else is ever raised, and a link is an absolute address."""
    try:
        link = read(body, status=status)
    except (Rejected, ReportError):
        return
    assert link.url.lower().startswith(("http://", "https://"))
