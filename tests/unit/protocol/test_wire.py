"""The wire format of sendSMS, held to the provider's own page and to round trips.

The documents of the page stand here word for word.  What is written is read
back by expat and by `urllib`, which know nothing of this package.  `ANSWERS` is
the table of what an answer means; the client's tests serve the same table over
sockets.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skycore_async import (
    SMS,
    Accepted,
    BillingProblem,
    InvalidMessage,
    OutcomeUnknown,
    Rejected,
    SkycoreError,
    Throttled,
)
from skycore_async.protocol import numbers, requests, responses

# --- The provider's page ------------------------------------------------------

KEY = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"

PAGE_REQUEST = """<REQUEST>
    <ACTION>sendSMS</ACTION>
    <API_KEY>Y6r74u6Br4hAVgrolveksjEiiu8yJX</API_KEY>
    <TO>15551234888</TO>
    <FROM>60856</FROM>
    <CAMPAIGNREF>77676</CAMPAIGNREF>
    <TEXT>Hello Jerry, Greetings from Marc</TEXT>
</REQUEST>"""

# One line there is two on the page.
PAGE_GET = (
    "https://secure.skycore.com/API/wxml/1.3/index.php?action=sendsms&api_key=Y6r74u6Br4hAVgrolveksjEiiu8yJX"
    "&to=15551234888&from=60856&text=Hello+Jerry%2C+Greetings+from+Marc"
)

PAGE_SUCCESS = b"""<RESPONSE>
	<STATUS>Success</STATUS>
	<TRACKINGID>SMS_12345</TRACKINGID>
	<TO>15551234888</TO>
 </RESPONSE>"""

PAGE_FAILURE = b"""<RESPONSE>
	<STATUS>Failure</STATUS>
	<ERRORCODE>E713</ERRORCODE>
	<ERRORINFO>There is billing problem on your account</ERRORINFO>
	<TO>15551234888</TO>
</RESPONSE>"""

HELLO = SMS(
    to="15551234888",
    from_="60856",
    campaign_ref="77676",
    text="Hello Jerry, Greetings from Marc",
)


def elements(document: str | bytes) -> dict[str, str]:
    """Read a REQUEST with expat, as the provider would."""
    root = ET.fromstring(document)
    assert root.tag == "REQUEST"
    assert len({child.tag for child in root}) == len(root)
    return {child.tag: child.text or "" for child in root}


def posted(message: SMS, api_key: str = KEY) -> dict[str, str]:
    """Write a message as a POST, and read the form and the document in it."""
    ((name, (document,)),) = parse_qs(
        requests.post_body(message, api_key=api_key).decode("ascii"), strict_parsing=True
    ).items()
    assert name == "xml"
    return elements(document)


def queried(message: SMS) -> dict[str, str]:
    """Write a message as a GET, and read the query."""
    query = requests.query_string(message, api_key=KEY)
    assert query.isascii()
    fields = parse_qs(query, strict_parsing=True)
    return {name: value for name, (value,) in fields.items()}


def test_our_request_has_the_fields_of_the_page() -> None:
    """The POST for the page's example parses to the very fields of its REQUEST."""
    assert posted(requests.resolve(HELLO)) == elements(PAGE_REQUEST)


def test_our_get_is_the_page_word_for_word() -> None:
    """The URL of a GET is the page's, character for character."""
    message = requests.resolve(attrs.evolve(HELLO, campaign_ref=None))
    assert f"{requests.ENDPOINT}?{requests.query_string(message, api_key=KEY)}" == PAGE_GET
    assert urlsplit(PAGE_GET)._replace(query="").geturl() == requests.ENDPOINT


# --- Requests -----------------------------------------------------------------

EVERY_FIELD = SMS(
    to="15551234888",
    text="Hello",
    from_="60856",
    campaign_ref="77676",
    spid="0001470",
    operator_id="31",
    from_mask="Jerry's Bar",
    key="order-17",
)


def test_every_field_has_its_element() -> None:
    """Each field of an SMS is sent under the API's name; the caller's own key stays here."""
    assert posted(requests.resolve(EVERY_FIELD)) == {
        "ACTION": "sendSMS",
        "API_KEY": KEY,
        "SPID": "0001470",
        "OPERATORID": "31",
        "TO": "15551234888",
        "FROM": "60856",
        "FROM_MASK": "Jerry's Bar",
        "CAMPAIGNREF": "77676",
        "TEXT": "Hello",
    }


def test_every_field_has_its_parameter() -> None:
    """A GET has the same fields, in lower case."""
    fields = {name.lower(): value for name, value in posted(requests.resolve(EVERY_FIELD)).items()}
    assert queried(requests.resolve(EVERY_FIELD)) == fields | {"action": "sendsms"}


def test_what_was_not_given_is_not_sent() -> None:
    """A field without a value has no element, not an empty one."""
    message = requests.resolve(SMS(to="15551234888", text="Hello", from_="60856", spid=""))
    assert posted(message).keys() == {"ACTION", "API_KEY", "TO", "FROM", "TEXT"}


# All that XML 1.0 can carry.  Whether that is what expat thinks is tested with
# `first_forbidden`; here it is what must survive.
carried = st.text(
    st.characters(
        exclude_categories=["Cs", "Cc"],
        exclude_characters="\ufffe\uffff",
        include_characters="\t\n\r\x7f\x85",
    ),
    min_size=1,
)


@given(text=carried, sender=carried, mask=carried.map(lambda text: text[:11]))
@example(text="<TEXT>&amp;]]>\"'</TEXT>", sender="<!--", mask="%26+&=")
@example(text="line\nline\r\nline\rline\tend", sender="\t", mask="\r")
@example(text=" leading and trailing ", sender=" ", mask=" ")
@example(text="\N{GRINNING FACE}\N{ZERO WIDTH JOINER}\U0010fffd", sender="\ue000", mask="\x7f")
@example(
    text="\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627\u202c",
    sender="é",
    mask="e\u0301",
)
def test_text_survives(text: str, sender: str, mask: str) -> None:
    """Whatever XML can carry comes back unchanged, over POST and over GET."""
    message = requests.resolve(
        SMS(to="15551234888", text=text, from_=sender, from_mask=mask, campaign_ref=text)
    )
    for fields in (posted(message), {k.upper(): v for k, v in queried(message).items()}):
        assert fields["TEXT"] == fields["CAMPAIGNREF"] == text
        assert fields["FROM"] == sender
        assert fields["FROM_MASK"] == mask


def test_a_key_with_special_characters_survives() -> None:
    """Nothing is assumed of the API key but that it is text."""
    assert posted(requests.resolve(HELLO), api_key="a&b<c>+%d")["API_KEY"] == "a&b<c>+%d"


@pytest.mark.parametrize(
    "field", ["text", "from_", "campaign_ref", "spid", "operator_id", "from_mask"]
)
@pytest.mark.parametrize(
    ("character", "named"),
    [
        pytest.param("\x07", "U+0007 (BEL control character)", id="BEL"),
        pytest.param("\x00", "U+0000 (NUL control character)", id="NUL"),
        pytest.param("\ud83d", "U+D83D (lone surrogate)", id="surrogate"),
        pytest.param("\uffff", "U+FFFF (noncharacter)", id="noncharacter"),
    ],
)
def test_what_xml_cannot_carry_is_refused(field: str, character: str, named: str) -> None:
    """Such a character is refused in any field, named, and with its position."""
    message = attrs.evolve(HELLO, **{field: f"ab{character}c"})
    with pytest.raises(InvalidMessage) as caught:
        requests.resolve(message)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: {named} at position 2 cannot be sent")


@pytest.mark.parametrize(
    "field", ["to", "text", "from_", "campaign_ref", "spid", "operator_id", "from_mask"]
)
@pytest.mark.parametrize("value", [60856, 1.5, b"60856", ["60856"], object], ids=repr)
def test_what_is_not_a_str_is_refused(field: str, value: Any) -> None:
    """A value of another type is an InvalidMessage that names the type, not a crash."""
    message = attrs.evolve(HELLO, **{field: value})
    with pytest.raises(
        InvalidMessage, match=f"a str is needed, not {type(value).__name__}"
    ) as caught:
        requests.resolve(message)
    assert caught.value.field == field


# --- Numbers ------------------------------------------------------------------


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


# --- What else is refused, and defaults ---------------------------------------


def test_a_mask_that_the_api_would_cut_is_refused() -> None:
    """FROM_MASK has at most 11 characters."""
    assert requests.resolve(attrs.evolve(HELLO, from_mask="x" * 11)).from_mask == "x" * 11
    with pytest.raises(InvalidMessage, match="longer than 11 characters") as caught:
        requests.resolve(attrs.evolve(HELLO, from_mask="x" * 12))
    assert caught.value.field == "from_mask"


@pytest.mark.parametrize("text", ["", None])
def test_a_message_without_text_is_refused(text: Any) -> None:
    """The API wants a TEXT (E712), so an empty one stays here."""
    with pytest.raises(InvalidMessage, match="text: empty") as caught:
        requests.resolve(attrs.evolve(HELLO, text=text))
    assert caught.value.field == "text"


@pytest.mark.parametrize(
    ("text", "count", "encoding"),
    [("x" * 161, 2, "GSM 03.38"), ("\N{GRINNING FACE}" * 36, 2, "UCS-2")],
    ids=["GSM", "UCS-2"],
)
def test_a_text_of_too_many_segments_is_refused(text: str, count: int, encoding: str) -> None:
    """With `max_segments` a longer text is refused, with what it takes and why; never cut."""
    message = attrs.evolve(HELLO, text=text)
    assert requests.resolve(message).text == text
    assert requests.resolve(message, max_segments=count).text == text
    with pytest.raises(InvalidMessage) as caught:
        requests.resolve(message, max_segments=1)
    assert caught.value.field == "text"
    assert (
        str(caught.value) == f"text: takes {count} segments in {encoding}, and max_segments is 1"
    )


def test_enforce_campaign_check_wants_a_campaign() -> None:
    """With the account's Enforce Campaign Check, CAMPAIGNREF is not left to the API."""
    without = attrs.evolve(HELLO, campaign_ref=None)
    with pytest.raises(InvalidMessage, match="Enforce Campaign Check") as caught:
        requests.resolve(without, enforce_campaign_check=True)
    assert caught.value.field == "campaign_ref"
    assert requests.resolve(HELLO, enforce_campaign_check=True) == HELLO
    resolved = requests.resolve(without, campaign_ref="1", enforce_campaign_check=True)
    assert resolved.campaign_ref == "1"


def test_defaults_are_for_messages_that_name_none() -> None:
    """The message's own sender and campaign win over the client's."""
    bare = SMS(to="15551234888", text="Hello")
    resolved = requests.resolve(bare, from_="1", campaign_ref="2")
    assert (resolved.from_, resolved.campaign_ref) == ("1", "2")
    resolved = requests.resolve(HELLO, from_="1", campaign_ref="2")
    assert (resolved.from_, resolved.campaign_ref) == ("60856", "77676")


def test_a_message_without_a_sender_is_refused() -> None:
    """FROM is mandatory."""
    with pytest.raises(InvalidMessage, match="no short code") as caught:
        requests.resolve(SMS(to="15551234888", text="Hello"))
    assert caught.value.field == "from_"


# --- Answers ------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Answer:
    """An HTTP answer, and what it is to be read as."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = attrs.field(factory=dict)
    outcome: type[Accepted | SkycoreError] = OutcomeUnknown
    fields: dict[str, Any] = attrs.field(factory=dict)
    text: str = ""


def accepted(body: bytes, tracking_id: str = "SMS_12345", **others: Any) -> Answer:
    fields = {"tracking_id": tracking_id, "to": "15551234888"}
    return Answer(body=body, outcome=Accepted, fields=fields, **others)


def failure(code: str, info: str = "<ERRORINFO>why</ERRORINFO>") -> bytes:
    return f"<RESPONSE><STATUS>Failure</STATUS>{code}{info}</RESPONSE>".encode()


def rejected(body: bytes, code: str | None, outcome: type[Rejected] = Rejected) -> Answer:
    return Answer(body=body, outcome=outcome, fields={"code": code, "info": "why"})


def throttled(headers: dict[str, str], retry_after: float | None, **others: Any) -> Answer:
    fields = {"retry_after": retry_after, "code": others.pop("code", None)}
    return Answer(headers=headers, outcome=Throttled, fields=fields, **others)


def unclear(body: bytes, text: str, status: int = 200) -> Answer:
    fields = {"http_status": status, "code": None}
    return Answer(body=body, status=status, fields=fields, text=text)


def success(inner: str) -> bytes:
    return f"<RESPONSE><STATUS>Success</STATUS>{inner}</RESPONSE>".encode()


E106 = failure("<ERRORCODE>E106</ERRORCODE>")
DATE = {"Date": "Tue, 26 Jul 2011 14:22:00 GMT"}
HTML = b"<html><body>Busy</body></html>"

ANSWERS = {
    "the page's Success": accepted(PAGE_SUCCESS),
    "the page's Failure": Answer(
        body=PAGE_FAILURE,
        outcome=BillingProblem,
        fields={"code": "E713", "info": "There is billing problem on your account"},
        text="E713: There is billing problem on your account",
    ),
    # Success
    "newer tracking id": accepted(
        success("<TRACKINGID>U01TXzc2Nzg2Nw==</TRACKINGID>"), "U01TXzc2Nzg2Nw=="
    ),
    "without TO": accepted(success("<TRACKINGID>SMS_12345</TRACKINGID>")),
    "empty TO": accepted(success("<TRACKINGID>SMS_12345</TRACKINGID><TO/>")),
    "TO without its country code": Answer(
        body=success("<TRACKINGID>SMS_12345</TRACKINGID><TO>(555) 123-4888</TO>"),
        outcome=Accepted,
        fields={"tracking_id": "SMS_12345", "to": "(555) 123-4888"},
    ),
    "the Success of another number": unclear(
        success("<TRACKINGID>SMS_12345</TRACKINGID><TO>15551234889</TO>"),
        "HTTP 200 with the answer to another number",
    ),
    "the Failure of another number": unclear(
        failure("<ERRORCODE>E110</ERRORCODE><TO>15551234889</TO>"),
        "HTTP 200 with the answer to another number",
    ),
    "stray white space": accepted(
        b"\n <RESPONSE> <STATUS>\tSuccess\n</STATUS><TRACKINGID> SMS_12345 </TRACKINGID>"
        b"<TO>\r\n15551234888 </TO></RESPONSE>\n\n"
    ),
    "upper case": accepted(PAGE_SUCCESS.replace(b"Success", b"SUCCESS")),
    "lower case": accepted(PAGE_SUCCESS.replace(b"Success", b"success")),
    "elements in lower case": accepted(
        b"<response><status>Success</status><trackingid>SMS_12345</trackingid></response>"
    ),
    "elements in mixed case": accepted(
        b"<Response><Status>Success</Status><TrackingID>SMS_12345</TrackingID></Response>"
    ),
    "attributes": accepted(
        b'<RESPONSE v="1"><STATUS code="0">Success</STATUS>'
        b'<TRACKINGID type="SMS">SMS_12345</TRACKINGID></RESPONSE>'
    ),
    "CDATA and a comment": accepted(
        success("<TRACKINGID><![CDATA[SMS_12345]]></TRACKINGID><!-- done -->")
    ),
    "elements nobody knows": accepted(
        success("<TRACKINGID>SMS_12345</TRACKINGID><NEW><X/></NEW>")
    ),
    "byte order mark": accepted(b"\xef\xbb\xbf" + PAGE_SUCCESS),
    "declared UTF-8": accepted(b'<?xml version="1.0" encoding="UTF-8"?>\n' + PAGE_SUCCESS),
    "declared Latin-1": accepted(
        b'<?xml version="1.0" encoding="ISO-8859-1"?>'
        + success("<TRACKINGID>\xe9</TRACKINGID>").decode().encode("latin-1"),
        "é",
    ),
    "UTF-16": accepted(PAGE_SUCCESS.decode().encode("utf-16")),
    "Success with status 500": accepted(PAGE_SUCCESS, status=500),
    "Success with status 429": accepted(PAGE_SUCCESS, status=429),
    # Failure
    "unknown code": rejected(failure("<ERRORCODE>E999</ERRORCODE>"), "E999"),
    "no code": rejected(failure(""), None),
    "empty code": rejected(failure("<ERRORCODE/>"), None),
    "code in lower case": rejected(
        failure("<ERRORCODE> e713 </ERRORCODE>"), "E713", BillingProblem
    ),
    "no reason": Answer(
        body=failure("<ERRORCODE>E713</ERRORCODE>", ""),
        outcome=BillingProblem,
        fields={"code": "E713", "info": None},
        text="E713: billing problem on the account",
    ),
    "Failure with status 403": Answer(
        body=PAGE_FAILURE, status=403, outcome=BillingProblem, fields={"code": "E713"}
    ),
    "Failure with status 429": Answer(
        body=PAGE_FAILURE, status=429, outcome=BillingProblem, fields={"code": "E713"}
    ),
    # Pace
    "E106": throttled({}, None, body=E106, code="E106", text="E106: why"),
    "E113": throttled(
        {}, None, body=E106.replace(b"E106", b"E113"), code="E113", text="E113: why"
    ),
    "E106 without a reason": throttled(
        {}, None, body=failure("<ERRORCODE>E106</ERRORCODE>", ""), code="E106", text="every X"
    ),
    "E106, seconds": throttled({"Retry-After": " 7 "}, 7.0, body=E106, code="E106"),
    "429, HTML": throttled({}, None, body=HTML, status=429, text="HTTP 429"),
    "429, empty": throttled({"Retry-After": "0"}, 0.0, body=b"", status=429),
    "429, RESPONSE that says nothing": throttled({}, None, body=b"<RESPONSE/>", status=429),
    "429, the start of a Success": unclear(PAGE_SUCCESS[:-20], "not well-formed", 429),
    "429, a Success and more": unclear(PAGE_SUCCESS + b"Warning", "not well-formed", 429),
    "429, no tracking id": unclear(success(""), "Success without a TRACKINGID", 429),
    "429, a tracking id alone": unclear(
        b"<response><TRACKINGID>1</TRACKINGID></response>", "with STATUS ''", 429
    ),
    "429, unknown STATUS": unclear(
        b"<RESPONSE><STATUS>Queued</STATUS></RESPONSE>", "STATUS 'queued'", 429
    ),
    "429, seconds": throttled({"Retry-After": "120"}, 120.0, body=HTML, status=429),
    "429, date": throttled(
        {"Retry-After": "Tue, 26 Jul 2011 14:22:30 GMT", **DATE}, 30.0, body=HTML, status=429
    ),
    "429, past date": throttled(
        {"Retry-After": "Tue, 26 Jul 2011 14:21:00 GMT", **DATE}, 0.0, body=HTML, status=429
    ),
    "429, date and no clock": throttled(
        {"Retry-After": "Tue, 26 Jul 2011 14:22:30 GMT"}, None, body=HTML, status=429
    ),
    "429, negative": throttled({"Retry-After": "-5", **DATE}, None, body=HTML, status=429),
    "429, for ever": throttled({"Retry-After": "9" * 400, **DATE}, None, body=HTML, status=429),
    "429, no day of any calendar": throttled(
        {"Retry-After": f"Tue, {'9' * 20} Jul 2011 14:22:30 GMT", **DATE},
        None,
        body=HTML,
        status=429,
    ),
    "429, date of no zone": throttled(
        {"Retry-After": "Tue, 26 Jul 2011 14:22:30 -0000", **DATE}, None, body=HTML, status=429
    ),
    # Doubt
    "E503": Answer(
        body=failure("<ERRORCODE>E503</ERRORCODE>"),
        fields={"http_status": 200, "code": "E503"},
        text="E503: why",
    ),
    "E503 without a reason": Answer(
        body=failure("<ERRORCODE>E503</ERRORCODE>", ""),
        fields={"code": "E503"},
        text="E503: inter",
    ),
    "HTML": unclear(HTML, "its root is <html>"),
    "HTML, 404": unclear(HTML, "see that base_url is the API's", 404),
    "HTML, 502": unclear(HTML, "HTTP 502 with an answer that is no RESPONSE", 502),
    "long root": unclear(b"<" + b"x" * 999 + b"/>", f"its root is <{'x' * 40}>"),
    "empty": unclear(b"", "no RESPONSE"),
    "white space": unclear(b" \n", "no RESPONSE"),
    "plain text": unclear(b"Success SMS_12345", "no RESPONSE"),
    "truncated": unclear(PAGE_SUCCESS[:-20], "not well-formed"),
    "truncated before the end tag": unclear(PAGE_SUCCESS[:-11], "not well-formed"),
    "wrong root": unclear(PAGE_SUCCESS.replace(b"RESPONSE", b"ANSWER"), "its root is <ANSWER>"),
    "our own request": unclear(PAGE_REQUEST.encode(), "its root is <REQUEST>"),
    "two roots": unclear(PAGE_SUCCESS * 2, "not well-formed"),
    "an answer and more": unclear(PAGE_SUCCESS + b"Warning: PHP", "not well-formed"),
    "text before the answer": unclear(b"Warning: PHP" + PAGE_SUCCESS, "not well-formed"),
    "Success within": unclear(b"<RESPONSE>" + PAGE_SUCCESS + b"</RESPONSE>", "with STATUS ''"),
    "RESPONSE with text alone": unclear(b"<RESPONSE>Success</RESPONSE>", "with STATUS ''"),
    "empty RESPONSE": unclear(b"<RESPONSE/>", "with STATUS ''"),
    "no tracking id": unclear(success(""), "Success without a TRACKINGID"),
    "blank tracking id": unclear(success("<TRACKINGID> </TRACKINGID>"), "without a TRACKINGID"),
    "nested tracking id": unclear(
        success("<TRACKINGID><ID>1</ID></TRACKINGID>"), "without a TRACKINGID"
    ),
    "unknown STATUS": unclear(
        PAGE_SUCCESS.replace(b"Success", b"Queued" * 99), f"STATUS {('queued' * 7)[:40]!r}"
    ),
    "Failure with a tracking id": unclear(
        failure("<ERRORCODE>E106</ERRORCODE><TRACKINGID>SMS_12345</TRACKINGID>"),
        "Failure with a TRACKINGID",
    ),
    "Failure with an empty tracking id": rejected(
        failure("<ERRORCODE>E713</ERRORCODE><TRACKINGID/>"), "E713", BillingProblem
    ),
    "no STATUS": unclear(b"<RESPONSE><TRACKINGID>1</TRACKINGID></RESPONSE>", "with STATUS ''"),
    "two STATUS": unclear(
        b"<RESPONSE><STATUS>Failure</STATUS><STATUS>Success</STATUS>"
        b"<TRACKINGID>1</TRACKINGID></RESPONSE>",
        "STATUS more than once",
    ),
    "two STATUS in other case": unclear(
        b"<RESPONSE><STATUS>Failure</STATUS><status>Success</status>"
        b"<TRACKINGID>1</TRACKINGID></RESPONSE>",
        "STATUS more than once",
    ),
    "two tracking ids": unclear(
        success("<TRACKINGID>1</TRACKINGID><TRACKINGID>2</TRACKINGID>"), "TRACKINGID more than"
    ),
    "two numbers": unclear(
        success("<TRACKINGID>1</TRACKINGID><TO>15551234888</TO><TO>15551234889</TO>"),
        "TO more than once",
    ),
    "two codes": unclear(
        failure("<ERRORCODE>E713</ERRORCODE><ERRORCODE>E503</ERRORCODE>"), "ERRORCODE more than"
    ),
    "DOCTYPE": unclear(b"<!DOCTYPE RESPONSE>" + PAGE_SUCCESS, "a DOCTYPE is not accepted"),
    "entities": unclear(
        b'<!DOCTYPE RESPONSE [<!ENTITY s "Success">]>' + PAGE_SUCCESS, "a DOCTYPE is not accepted"
    ),
    "unknown encoding": unclear(
        b'<?xml version="1.0" encoding="klingon"?>' + PAGE_SUCCESS, "no RESPONSE"
    ),
    "not in its encoding": unclear(PAGE_SUCCESS.replace(b"SMS", b"\xe9"), "not well-formed"),
    "10 MiB": unclear(success("x" * 10 * 1024 * 1024), "larger than 1,048,576 bytes"),
}


def read(answer: Answer) -> Accepted:
    return responses.parse_response(
        HELLO,
        to="15551234888",
        status=answer.status,
        headers={name.lower(): value for name, value in answer.headers.items()},
        body=answer.body,
    )


def check(answer: Answer, outcome: Accepted | SkycoreError) -> None:
    """Hold an outcome to what the table says of its answer."""
    assert type(outcome) is answer.outcome
    assert {name: getattr(outcome, name) for name in answer.fields} == answer.fields
    assert answer.text in str(outcome)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_what_an_answer_means(answer: Answer) -> None:
    """Success is Accepted, Failure what its code says, and whatever is neither is doubt."""
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


@given(wish=digits | dates | st.text(), date=dates | st.just(DATE["Date"]))
@example(wish="Tue, 26 Jul 2011 14:22:30 +0100", date="Tue, 26 Jul 2011 14:22:30 GMT")
@example(wish="١٢", date="")
def test_no_retry_after_is_a_crash(wish: str, date: str) -> None:
    """Whatever stands in Retry-After and Date, `retry_after` is finite seconds or None."""
    answer = Answer(body=HTML, status=429, headers={"Retry-After": wish, "Date": date})
    with pytest.raises(Throttled) as caught:
        read(answer)
    wait = caught.value.retry_after
    assert wait is None or 0 <= wait < float("inf")


@given(st.from_regex(responses._PLAIN_SUCCESS, fullmatch=True))
def test_a_plain_success_is_read_as_the_parser_reads_it(body: bytes) -> None:
    """The answer that is read without a parser means the same as with one."""
    slow = body.replace(b"</RESPONSE>", b"<!-- no longer plain --></RESPONSE>")
    assert responses._PLAIN_SUCCESS.fullmatch(slow) is None
    assert responses._response(body) == responses._response(slow)
