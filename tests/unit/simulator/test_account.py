"""What the account of the pretend Skycore refuses, and with which code."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import attrs
import pytest

from skycore_async.simulator.account import (
    Account,
    CallRate,
    RequestRefused,
    SubmitRequest,
    code_against,
    read_form,
    read_query,
)

VALID = SubmitRequest(
    action="sendSMS", api_key="simulator-key", to="15551234888", text="Hello", from_="60856"
)
CAMPAIGN = Account(enforce_campaign_check=True, campaigns={"77676": ["15551234888"], "77677": []})
CARRIERS = Account(operators={"0001470", "0001471"}, unsupported_operators={"0001471"})


def form(document: str | bytes) -> bytes:
    return urlencode({"xml": document}).encode()


def refused(body: bytes) -> str:
    with pytest.raises(RequestRefused) as caught:
        read_form(body)
    return caught.value.code


def test_a_form_is_read_with_every_field() -> None:
    """Every field of the wire format is read; white space is stripped but for TEXT."""
    document = """
        <REQUEST>
          <ACTION>sendSMS </ACTION><API_KEY> key</API_KEY><TO> 15551234888 </TO>
          <FROM>60856</FROM><CAMPAIGNREF>77676</CAMPAIGNREF><SPID>0001470</SPID>
          <OPERATORID>0001471</OPERATORID><FROM_MASK>Jerry's</FROM_MASK>
          <TEXT> Hello &amp; + \u2713 </TEXT>
        </REQUEST>"""
    assert read_form(form(document)) == SubmitRequest(
        action="sendSMS",
        api_key="key",
        to="15551234888",
        text=" Hello & + \u2713 ",
        from_="60856",
        campaign_ref="77676",
        spid="0001470",
        operator_id="0001471",
        from_mask="Jerry's",
    )


def test_a_query_is_read_with_every_field() -> None:
    """GET carries the same fields in lower case, spaces as plus signs."""
    query = (
        b"action=sendsms&api_key=key&to=15551234888&from=60856&text=Hello+Jerry%2C+%E2%9C%93"
        b"&campaignref=77676&spid=1&operatorid=2&from_mask=Jerry"
    )
    assert read_query(query) == SubmitRequest(
        action="sendsms",
        api_key="key",
        to="15551234888",
        text="Hello Jerry, \u2713",
        from_="60856",
        campaign_ref="77676",
        spid="1",
        operator_id="2",
        from_mask="Jerry",
    )


def test_a_query_that_is_not_utf_8_is_e100() -> None:
    """A text that cannot be decoded is refused and not guessed at."""
    for query in (b"text=%ff", b"text=\xff"):
        with pytest.raises(RequestRefused) as caught:
            read_query(query)
        assert caught.value.code == "E100"


@pytest.mark.parametrize("name", ["xml", "XML"])
def test_the_form_field_has_either_case(name: str) -> None:
    """The document is found in `xml` and in `XML`."""
    body = urlencode({"other": "1", name: "<REQUEST><TO>1</TO></REQUEST>"}).encode()
    assert read_form(body).to == "1"


def test_the_document_decides_its_encoding() -> None:
    """A document that declares ISO-8859-1 is read as that."""
    document = '<?xml version="1.0" encoding="ISO-8859-1"?><REQUEST><TEXT>caf\xe9</TEXT></REQUEST>'
    assert read_form(form(document.encode("latin-1"))).text == "caf\xe9"
    assert (
        read_form(b"xml=" + quote("<REQUEST><TEXT>\xe9</TEXT></REQUEST>").encode()).text == "\xe9"
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "E100"),
        (b"<REQUEST/>", "E100"),
        (form("<RESPONSE><TO>1</TO></RESPONSE>"), "E100"),
        (form("<REQUEST>text</REQUEST>"), "E100"),
        (form("<REQUEST><TO>1</TO><TO>2</TO></REQUEST>"), "E100"),
        (form("<REQUEST><TEXT><B>1</B></TEXT></REQUEST>"), "E100"),
        (form("<REQUEST><TO>1</REQUEST>"), "E108"),
        (form(""), "E108"),
        (form("<!DOCTYPE x><REQUEST/>"), "E108"),
        (form(b"<REQUEST><TEXT>\xff</TEXT></REQUEST>"), "E108"),
    ],
)
def test_a_form_without_a_readable_request_is_refused(body: bytes, code: str) -> None:
    """A form without REQUEST is E100, and one with unreadable XML is E108."""
    assert refused(body) == code


@pytest.mark.parametrize(
    ("account", "changes", "code"),
    [
        (Account(), {}, None),
        (Account(), {"action": "SENDSMS"}, None),
        (Account(), {"action": ""}, "E101"),
        (Account(), {"action": "sendMMS"}, "E101"),
        (Account(), {"api_key": ""}, "E102"),
        (Account(), {"api_key": "other"}, "E104"),
        (Account(api_keys=["other"]), {"api_key": "other"}, None),
        (Account(), {"to": ""}, "E201"),
        (Account(), {"to": "15551234888,15551234889"}, "E623"),
        (Account(), {"to": "15551234888;15551234889"}, "E623"),
        (Account(), {"to": "1234"}, "E110"),
        (Account(), {"to": "12345"}, None),
        (Account(), {"to": "1" * 15}, None),
        (Account(), {"to": "1" * 16}, "E110"),
        (Account(), {"to": "+15551234888"}, "E110"),
        (Account(), {"to": "0015551234888"}, "E110"),
        (Account(), {"to": "1555-123-4888"}, "E110"),
        (Account(), {"to": "\u0661" * 10}, "E110"),
        (Account(), {"text": ""}, "E712"),
        (Account(), {"text": " \n"}, "E712"),
        (Account(), {"from_": ""}, "E111"),
        (Account(), {"from_": "60857"}, "E111"),
        (Account(short_codes=()), {"from_": "60857"}, None),
        (Account(short_codes=()), {"from_": ""}, "E111"),
        (Account(), {"campaign_ref": "1"}, None),
        (CAMPAIGN, {"campaign_ref": "77676"}, None),
        (CAMPAIGN, {"campaign_ref": ""}, "E714"),
        (CAMPAIGN, {"campaign_ref": "1"}, "E714"),
        (CAMPAIGN, {"campaign_ref": "77677"}, "E715"),
        (Account(), {"spid": "1"}, None),
        (CARRIERS, {}, None),
        (CARRIERS, {"spid": "0001470"}, None),
        (CARRIERS, {"spid": "1"}, "E651"),
        (CARRIERS, {"operator_id": "1"}, "E651"),
        (CARRIERS, {"spid": "0001471"}, "E628"),
        (CARRIERS, {"operator_id": "0001471"}, "E628"),
        (Account(billing_hold=True), {}, "E713"),
        # What is checked first decides.
        (Account(billing_hold=True), {"to": ""}, "E201"),
        (Account(), {"api_key": "other", "to": ""}, "E104"),
        (Account(), {"to": "1", "text": ""}, "E110"),
    ],
)
def test_the_account_refuses_with_the_documented_code(
    account: Account, changes: dict[str, str], code: str | None
) -> None:
    """Each check gives its code, in the provider's order."""
    assert code_against(attrs.evolve(VALID, **changes), account) == code


def test_keys_are_in_no_repr() -> None:
    """The keys of accounts and requests are in no repr."""
    assert "simulator-key" not in repr(Account()) + repr(VALID)


def test_without_limits_any_pace_will_do() -> None:
    """An account without throughput or interval takes calls at the same moment."""
    call_rate = CallRate()
    assert [call_rate.code_against(Account(), 5.0) for _ in range(100)] == [None] * 100


def test_calls_closer_than_the_interval_are_e106() -> None:
    """A call is refused until the interval since the last one that was taken is over."""
    call_rate, account = CallRate(), Account(min_interval=2.0)
    times = [1000.0, 1001.9, 1002.0, 1003.0, 1004.0]
    assert [call_rate.code_against(account, now) for now in times] == [
        None,
        "E106",
        None,
        "E106",
        None,
    ]


@pytest.mark.parametrize("start", [0.0, 1.8e9])
def test_calls_over_the_throughput_are_e113(start: float) -> None:
    """A second's worth may come at once, and after it one call for each interval."""
    call_rate, account = CallRate(), Account(rate=20)
    burst = [call_rate.code_against(account, start) for _ in range(30)]
    assert burst == [None] * 20 + ["E113"] * 10
    assert call_rate.code_against(account, start + 0.04) == "E113"
    assert call_rate.code_against(account, start + 0.05) is None
    assert call_rate.code_against(account, start + 0.05) == "E113"


def test_steady_calls_at_the_throughput_are_taken() -> None:
    """Calls at exactly the rate are never refused, below one a second either."""
    for rate in (0.5, 3.0, 20.0):
        call_rate, account = CallRate(), Account(rate=rate)
        codes = {call_rate.code_against(account, 1.8e9 + turn / rate) for turn in range(200)}
        assert codes == {None}
    assert call_rate.code_against(account, 1.8e9 + 199 / 20 + 0.9) is None


def test_silence_saves_nothing_up() -> None:
    """After a pause of any length, a second's worth of calls may come at once, and no more."""
    call_rate, account = CallRate(), Account(rate=2)
    assert call_rate.code_against(account, 0.0) is None
    codes = [call_rate.code_against(account, 3600.0) for _ in range(3)]
    assert codes == [None, None, "E113"]


def test_a_slow_account_has_no_burst() -> None:
    """At half a message per second, the second one has to wait two seconds."""
    call_rate, account = CallRate(), Account(rate=0.5)
    assert [call_rate.code_against(account, now) for now in (0, 1.9, 2.0)] == [None, "E113", None]


def test_a_call_refused_for_one_limit_counts_for_none() -> None:
    """A call refused for the throughput does not start the interval again."""
    call_rate, account = CallRate(), Account(rate=0.5, min_interval=1.0)
    times = [0.0, 1.5, 2.0]
    assert [call_rate.code_against(account, now) for now in times] == [None, "E113", None]
