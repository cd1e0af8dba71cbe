"""sendSMS on the wire, and the meaning of its answers: one table for all tests.

The documents of the provider's page stand here word for word.  `ANSWERS` is the table of answers
and their meanings; some tests parse its bytes, others serve them over sockets.
"""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import attrs

from skycore_async import (
    SMS,
    Accepted,
    BillingProblem,
    OutcomeUnknown,
    Rejected,
    SkycoreError,
    Throttled,
)

KEY = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"

PAGE_REQUEST = """<REQUEST>
    <ACTION>sendSMS</ACTION>
    <API_KEY>Y6r74u6Br4hAVgrolveksjEiiu8yJX</API_KEY>
    <TO>15551234888</TO>
    <FROM>60856</FROM>
    <CAMPAIGNREF>77676</CAMPAIGNREF>
    <TEXT>Hello Jerry, Greetings from Marc</TEXT>
</REQUEST>"""

# One line here is two lines on the page.
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


@attrs.frozen(kw_only=True)
class Answer:
    """An HTTP answer, and the outcome that it means."""

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
    "the Success of a part of the number": unclear(
        success("<TRACKINGID>SMS_12345</TRACKINGID><TO>8</TO>"),
        "HTTP 200 with the answer to another number",
    ),
    "the Success of no number": unclear(
        success("<TRACKINGID>SMS_12345</TRACKINGID><TO>unknown</TO>"),
        "HTTP 200 with the answer to another number",
    ),
    "the Failure of a part of the number": unclear(
        failure("<ERRORCODE>E110</ERRORCODE><TO>4888</TO>"),
        "HTTP 200 with the answer to another number",
    ),
    "TO in digits of another script": Answer(
        body=success("<TRACKINGID>SMS_12345</TRACKINGID><TO>\uff11\uff15551234888</TO>"),
        outcome=Accepted,
        fields={"tracking_id": "SMS_12345"},
    ),
    "Success and an error code": unclear(
        success("<TRACKINGID>SMS_12345</TRACKINGID><ERRORCODE>E110</ERRORCODE>"),
        "HTTP 200 with Success and an error",
    ),
    "Success and a reason": unclear(
        success("<TRACKINGID>SMS_12345</TRACKINGID><ERRORINFO>on hold</ERRORINFO>"),
        "HTTP 200 with Success and an error",
    ),
    "Success and an error code in parts": unclear(
        success("<TRACKINGID>SMS_12345</TRACKINGID><ERRORCODE><X/></ERRORCODE>"),
        "HTTP 200 with Success and an error",
    ),
    "Success and an empty error code": accepted(
        success("<TRACKINGID>SMS_12345</TRACKINGID><ERRORCODE/><ERRORINFO> </ERRORINFO>")
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
    "429, the start of a Success in UTF-16": unclear(
        PAGE_SUCCESS.decode().encode("utf-16")[:-40], "not well-formed", 429
    ),
    "429, a Success and more": unclear(PAGE_SUCCESS + b"Warning", "not well-formed", 429),
    "429, no tracking id": unclear(success(""), "Success without a TRACKINGID", 429),
    "429, a tracking id alone": unclear(
        b"<response><TRACKINGID>1</TRACKINGID></response>", "with no STATUS", 429
    ),
    "429, unknown STATUS": unclear(
        b"<RESPONSE><STATUS>Queued</STATUS></RESPONSE>", "STATUS that is neither", 429
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
        text="E503: internal error",
    ),
    "E503 without a reason": Answer(
        body=failure("<ERRORCODE>E503</ERRORCODE>", ""),
        fields={"code": "E503"},
        text="E503: inter",
    ),
    "HTML": unclear(HTML, "it is an HTML page"),
    "HTML, 404": unclear(HTML, "see that base_url is the API's", 404),
    "HTML, 502": unclear(HTML, "HTTP 502 with an answer that is no RESPONSE", 502),
    "long root": unclear(b"<" + b"x" * 999 + b"/>", "root is another"),
    "empty": unclear(b"", "no RESPONSE"),
    "white space": unclear(b" \n", "no RESPONSE"),
    "plain text": unclear(b"Success SMS_12345", "no RESPONSE"),
    "truncated": unclear(PAGE_SUCCESS[:-20], "not well-formed"),
    "truncated before the end tag": unclear(PAGE_SUCCESS[:-11], "not well-formed"),
    "wrong root": unclear(PAGE_SUCCESS.replace(b"RESPONSE", b"ANSWER"), "root is another"),
    "our own request": unclear(PAGE_REQUEST.encode(), "root is another"),
    "two roots": unclear(PAGE_SUCCESS * 2, "not well-formed"),
    "an answer and more": unclear(PAGE_SUCCESS + b"Warning: PHP", "not well-formed"),
    "text before the answer": unclear(b"Warning: PHP" + PAGE_SUCCESS, "not well-formed"),
    "Success within": unclear(b"<RESPONSE>" + PAGE_SUCCESS + b"</RESPONSE>", "with no STATUS"),
    "RESPONSE with text alone": unclear(b"<RESPONSE>Success</RESPONSE>", "with no STATUS"),
    "empty RESPONSE": unclear(b"<RESPONSE/>", "with no STATUS"),
    "no tracking id": unclear(success(""), "Success without a TRACKINGID"),
    "blank tracking id": unclear(success("<TRACKINGID> </TRACKINGID>"), "without a TRACKINGID"),
    "nested tracking id": unclear(
        success("<TRACKINGID><ID>1</ID></TRACKINGID>"), "without a TRACKINGID"
    ),
    "unknown STATUS": unclear(
        PAGE_SUCCESS.replace(b"Success", b"Queued" * 99),
        "a STATUS that is neither",
    ),
    "Failure with a tracking id": unclear(
        failure("<ERRORCODE>E106</ERRORCODE><TRACKINGID>SMS_12345</TRACKINGID>"),
        "Failure with a TRACKINGID",
    ),
    "Failure with an empty tracking id": rejected(
        failure("<ERRORCODE>E713</ERRORCODE><TRACKINGID/>"), "E713", BillingProblem
    ),
    "no STATUS": unclear(b"<RESPONSE><TRACKINGID>1</TRACKINGID></RESPONSE>", "with no STATUS"),
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


def check(answer: Answer, outcome: Accepted | SkycoreError) -> None:
    """Assert that an outcome is the one in the table for this answer."""
    assert type(outcome) is answer.outcome
    assert {name: getattr(outcome, name) for name in answer.fields} == answer.fields
    assert answer.text in str(outcome)
