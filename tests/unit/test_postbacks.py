"""Postbacks: what each document means, that nothing is lost, and what is refused.

The documents and their meanings are in `wire_cases`; the tests here read them
in every wrapping they may come in, change them in one thing at a time, and
finally read documents that nobody thought of.
"""

from __future__ import annotations

import codecs
import csv
import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from importlib import resources
from typing import Any
from urllib.parse import quote_plus, urlencode
from xml.etree import ElementTree

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skycore_async.codes import DeliveryState, FailureReason
from skycore_async.errors import PostbackError
from skycore_async.notifications import (
    DeliveryReceipt,
    InboundSMS,
    Notification,
    SentNotification,
    SubscriptionChange,
    UnknownNotification,
)
from skycore_async.postbacks import parse_postback
from tests.support.wire_cases import CASES, SEED_RECEIPT, SEED_SENT, Form, WireCase, without_raw

MEBIBYTE = 1024 * 1024
DOCUMENTS = [case.document for case in CASES]


def read(body: bytes | str) -> tuple[Notification, ...]:
    """Parse, and leave out `raw` to compare with the table."""
    return tuple(map(without_raw, parse_postback(body)))


def one(body: bytes | str) -> Notification:
    """Parse a body that holds one notification."""
    (notification,) = parse_postback(body)
    return notification


def receipt(body: bytes | str) -> DeliveryReceipt:
    """Parse a body that holds one delivery receipt."""
    notification = one(body)
    assert isinstance(notification, DeliveryReceipt)
    return notification


def notification_form(code: str, inside: str, origin: str = "SMS_MT", attributes: str = "") -> str:
    """Write a NOTIFICATION."""
    return (
        f"<NOTIFICATION {attributes}><ORIGIN>{origin}</ORIGIN><CODE>{code}</CODE>"
        f"<BODY>{inside}</BODY></NOTIFICATION>"
    )


def flat_form(code: str, inside: str, origin: str = "SMS_MT") -> str:
    """Write a flat POSTBACK."""
    return f"<POSTBACK><ORIGIN>{origin}</ORIGIN><CODE>{code}</CODE>{inside}</POSTBACK>"


each_form = pytest.mark.parametrize("form", [notification_form, flat_form])
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


# What the documents mean.


@each_case
def test_a_documented_postback_is_read_as_what_it_means(case: WireCase) -> None:
    """Every case of the table gives its values, from bytes and from text."""
    assert read(case.document.encode()) == case.expected
    assert read(case.document) == case.expected


def test_the_provider_s_examples_differ_by_their_status_alone() -> None:
    """With N201 and one tracking id, status 325 is sent, and 326 is delivered."""
    sent, receipt = parse_postback(f"<POSTBACK>{SEED_SENT}{SEED_RECEIPT}</POSTBACK>")
    assert type(sent) is SentNotification
    assert type(receipt) is DeliveryReceipt
    assert (sent.id, receipt.id) == ("325", "326")
    assert sent.tracking_id == receipt.tracking_id == "SMS_12345"
    assert receipt.state is DeliveryState.DELIVERED
    for time in (sent.created, sent.timestamp, receipt.created, receipt.timestamp):
        assert time is not None
        assert time.utcoffset() == timedelta(hours=-4)


NOTIFICATION_CODES = [
    ("N201", "SMS_MT", SentNotification),
    ("N202", "SMS_MT", DeliveryReceipt),
    ("E201", "SMS_MT", DeliveryReceipt),
    ("E202", "SMS_MT", DeliveryReceipt),
    ("N211", "SMS_MO", InboundSMS),
    ("N301", "SUB", SubscriptionChange),
    ("N302", "SUB", SubscriptionChange),
    ("N303", "EMAIL_SUB", UnknownNotification),
    ("N304", "EMAIL_SUB", UnknownNotification),
    ("N101", "MMS_MT", UnknownNotification),
    ("N102", "MMS_MT", UnknownNotification),
    ("E101", "MMS_MT", UnknownNotification),
    ("E102", "MMS_MT", UnknownNotification),
    ("N401", "MMS_MO", UnknownNotification),
    ("E999", "", UnknownNotification),
    ("N999", "SMS_MT", UnknownNotification),
    ("N211", "SMS_MT", UnknownNotification),
    ("N201", "", UnknownNotification),
    ("", "SMS_MT", UnknownNotification),
    ("n201", "SMS_MT", UnknownNotification),
    ("N201", "PASS", UnknownNotification),
]


@each_form
@pytest.mark.parametrize(("code", "origin", "kind"), NOTIFICATION_CODES)
def test_origin_and_code_give_the_kind(
    form: Callable[..., str], code: str, origin: str, kind: type[Notification]
) -> None:
    """Every documented code has its kind in both forms; any other is unknown."""
    notification = one(form(code, "<TO>15551234888</TO><X>1</X>", origin))
    assert type(notification) is kind
    assert notification.code == (code or None)
    assert notification.origin == (origin or None)
    fields = notification.raw.get("BODY", notification.raw)
    assert (fields["TO"], fields["X"]) == ("15551234888", "1")


# What a status says.

PAIRS = list(
    csv.DictReader(
        resources.files("skycore_async")
        .joinpath("carrier_status.csv")
        .read_text("utf-8")
        .splitlines()
    )
)


@pytest.mark.parametrize("code", ["N201", "N202"])
def test_every_documented_pair_gives_its_state(code: str) -> None:
    """The aggregator's pair decides the state, under either code of a receipt."""
    documented = {
        (pair["protocol"], pair["status"]): (pair["state"], pair["reason"], pair["meaning"])
        for pair in PAIRS
    }
    given: dict[tuple[str, str], object] = {}
    for protocol, status in documented:
        element = f'<STATUS PROTOCOL="{protocol}" STATUS="{status}"/>'
        found = receipt(notification_form(code, element))
        assert (found.protocol, found.status) == (protocol, status)
        given[protocol, status] = (found.state, found.reason or "", found.detail)
    assert given == documented


DELIVERED, FAILED, SENT, UNKNOWN = (
    DeliveryState.DELIVERED,
    DeliveryState.FAILED,
    DeliveryState.SENT,
    DeliveryState.UNKNOWN,
)
ANY_REASON = FailureReason.UNKNOWN
GOOD_PAIR, BAD_PAIR, SENT_PAIR, NO_PAIR = (
    f'<STATUS PROTOCOL="{protocol}" STATUS="{status}"/>'
    for protocol, status in [("4", "0"), ("1", "92101"), ("1", "1000"), ("4", "no such")]
)


@pytest.mark.parametrize(
    ("code", "status", "state", "reason"),
    [
        ("N201", "<STATUS>Message Sent/Delivered</STATUS>", DELIVERED, None),
        ("N201", "<STATUS>Message Sent/Expired</STATUS>", FAILED, FailureReason.EXPIRED),
        ("N201", "<STATUS>Message Exploded</STATUS>", UNKNOWN, None),
        ("N201", NO_PAIR, UNKNOWN, None),
        ("N202", "", DELIVERED, None),
        ("N202", "<STATUS/>", DELIVERED, None),
        ("N202", "<STATUS> message sent/DELIVERED\n</STATUS>", DELIVERED, None),
        ("N202", "<STATUS>Message Sent</STATUS>", SENT, None),
        ("N202", "<STATUS>Message Sent/Failed</STATUS>", FAILED, ANY_REASON),
        ("N202", "<STATUS>Message Exploded</STATUS>", UNKNOWN, None),
        ("N202", BAD_PAIR, FAILED, FailureReason.BILLING),
        ("N202", NO_PAIR, UNKNOWN, None),
        ("N202", '<STATUS PROTOCOL="" STATUS=""/>', UNKNOWN, None),
        ("N202", '<STATUS PROTOCOL="4"/>', UNKNOWN, None),
        ("N202", '<STATUS STATUS="0"/>', UNKNOWN, None),
        ("E201", "", FAILED, ANY_REASON),
        ("E201", "<STATUS>Message Failed</STATUS>", FAILED, ANY_REASON),
        ("E201", "<STATUS>Message Exploded</STATUS>", FAILED, ANY_REASON),
        ("E201", "<STATUS>Message Sent</STATUS>", UNKNOWN, None),
        ("E202", "<STATUS>Message Sent/Expired</STATUS>", FAILED, FailureReason.EXPIRED),
        ("E202", "<STATUS>Message Sent/Delivered</STATUS>", UNKNOWN, None),
        ("E202", GOOD_PAIR, UNKNOWN, None),
        ("E202", BAD_PAIR, FAILED, FailureReason.BILLING),
        ("E202", NO_PAIR, FAILED, ANY_REASON),
    ],
)
@each_form
def test_code_and_status_together_give_the_state(
    form: Callable[..., str],
    code: str,
    status: str,
    state: DeliveryState,
    reason: FailureReason | None,
) -> None:
    """The status decides the state; an unknown or contradictory status is not guessed."""
    found = receipt(form(code, status))
    assert (found.state, found.reason) == (state, reason)


@pytest.mark.parametrize(
    "status",
    ["", "<STATUS/>", "<STATUS> </STATUS>", "<STATUS>message sent </STATUS>"],
    ids=["none", "empty", "blank", "message sent"],
)
@each_form
def test_n201_that_says_no_more_is_a_sent_notification(
    form: Callable[..., str], status: str
) -> None:
    """A notification with N201 is a receipt only where its STATUS makes it one."""
    assert type(one(form("N201", status))) is SentNotification


@pytest.mark.parametrize(
    "status",
    [
        '<STATUS PROTOCOL="4" STATUS="0"/>',
        '<STATUS protocol="4" status="0"/>',
        '<STATUS protocole="4" status="0"/>',
        '<STATUS PROTOCOL="4" status="0"/>',
        '<STATUS protocol="4" STATUS="0"/>',
        '<STATUS PROTOCOLE=" 4 " Status=" 0 "/>',
        '<Status STATUS="0" PROTOCOL="4" NOTE="fine"></Status>',
        '<STATUS PROTOCOL="4" STATUS="0">\n</STATUS>',
        '<STATUS PROTOCOL="4" STATUS="0"><NOTE>fine</NOTE></STATUS>',
    ],
)
def test_the_pair_is_read_in_every_spelling(status: str) -> None:
    """Letter case, `protocole`, spaces and other attributes do not change the pair."""
    found = receipt(notification_form("N201", status))
    assert (found.protocol, found.status, found.state) == ("4", "0", DELIVERED)


def test_half_a_pair_leaves_the_other_half_out() -> None:
    """The missing half of a pair is None, not an empty text."""
    found = receipt(notification_form("N201", '<STATUS PROTOCOL="4"/>'))
    assert (found.protocol, found.status) == ("4", None)
    found = receipt(notification_form("N202", '<STATUS STATUS="0"/>'))
    assert (found.protocol, found.status) == (None, "0")


def test_a_status_text_with_attributes_is_still_a_text() -> None:
    """A flat status with an attribute is read as text."""
    found = receipt(flat_form("N202", '<STATUS lang="en">Message Sent/Failed</STATUS>'))
    assert (found.state, found.status) == (FAILED, "Message Sent/Failed")


def test_the_provider_s_words_come_before_the_table_s() -> None:
    """STATUSDETAILS is the detail; if empty, the pair's meaning in the table is."""
    with_details = GOOD_PAIR + "<STATUSDETAILS> by hand </STATUSDETAILS>"
    assert receipt(notification_form("N201", with_details)).detail == "by hand"
    blank = GOOD_PAIR + "<STATUSDETAILS> </STATUSDETAILS>"
    assert receipt(notification_form("N201", blank)).detail == "executed successfully"


# Times.


@pytest.mark.parametrize(
    ("text", "time"),
    [
        *(
            pytest.param(
                f"2011-07-26 10:22:25{f'.{digits}' if digits else ''}-04",
                datetime(
                    2011,
                    7,
                    26,
                    10,
                    22,
                    25,
                    int(digits.ljust(6, "0")),
                    timezone(timedelta(hours=-4)),
                ),
                id=f"{len(digits)} digits",
            )
            for digits in ("", "1", "12", "123", "1234", "12345", "123456")
        ),
        pytest.param(
            " 2013-11-05T05:41:08-05:00 ",
            datetime(2013, 11, 5, 5, 41, 8, tzinfo=timezone(timedelta(hours=-5))),
            id="T and a whole offset",
        ),
        pytest.param(
            "2013-11-05T05:41:08.5+05:30",
            datetime(2013, 11, 5, 5, 41, 8, 500000, timezone(timedelta(hours=5, minutes=30))),
            id="half an hour",
        ),
        pytest.param("2013-11-05 05:41:08", datetime(2013, 11, 5, 5, 41, 8), id="naive"),
        pytest.param("yesterday", None, id="unreadable"),
        pytest.param("2013-02-30 05:41:08-05", None, id="no such day"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_time_is_read_as_it_is_written(text: str, time: datetime | None) -> None:
    """Fractions and offsets are kept, none is added, and what is unreadable stays in `raw`."""
    body = notification_form("N201", f"<TIMESTAMP>{text}</TIMESTAMP>", "", f'created="{text}"')
    for document in (body, body.replace("<ORIGIN></ORIGIN>", "<ORIGIN>SMS_MT</ORIGIN>")):
        found = one(document)
        for value in (found.created, found.timestamp):
            assert value == time
            assert value is None or time is None or value.utcoffset() == time.utcoffset()
        assert found.raw["@created"] == text
        assert found.raw["BODY"]["TIMESTAMP"] == (text or None)


@each_form
def test_a_time_that_is_missing_is_none(form: Callable[..., str]) -> None:
    """A missing time is None."""
    found = one(form("E201", ""))
    assert (found.created, found.timestamp) == (None, None)


@each_form
def test_an_inbound_sms_has_its_own_timestamp_or_the_time_it_was_received(
    form: Callable[..., str],
) -> None:
    """RECEIVED stands in for a TIMESTAMP that is not there, and for no other."""
    received = "<RECEIVED>2013-11-05 05:41:08-05</RECEIVED>"
    found = one(form("N211", received, "SMS_MO"))
    assert isinstance(found, InboundSMS)
    assert found.timestamp == found.received
    assert found.received is not None
    later = one(form("N211", received + "<TIMESTAMP>2014-01-01</TIMESTAMP>", "SMS_MO"))
    assert later.timestamp == datetime(2014, 1, 1)
    unread = one(form("N211", received + "<TIMESTAMP>soon</TIMESTAMP>", "SMS_MO"))
    assert unread.timestamp is None
    assert one(form("N211", "<RECEIVED>soon</RECEIVED>", "SMS_MO")).timestamp is None


# Names and places.


@pytest.mark.parametrize("spelling", [str.lower, str.title, str.upper, str.swapcase])
@each_case
def test_names_are_read_in_any_letter_case(case: WireCase, spelling: Callable[[str], str]) -> None:
    """Elements and attributes mean the same however they are spelt."""
    root = ElementTree.fromstring(case.document)
    for element in root.iter():
        element.tag = spelling(element.tag)
        fields = {
            name if name.startswith("{") else spelling(name): text
            for name, text in element.attrib.items()
        }
        element.attrib.clear()
        element.attrib.update(fields)
    assert read(ElementTree.tostring(root)) == case.expected


@pytest.mark.parametrize("indentation", ["", "\n", "\r\n\t", "  "])
@each_case
def test_white_space_around_elements_means_nothing(case: WireCase, indentation: str) -> None:
    """White space between elements, and around all but the text of an SMS, is no content."""
    root = ElementTree.fromstring(case.document)
    for element in root.iter():
        if len(element):
            element.text = indentation
        elif element.tag not in ("TEXT", "KEYWORD") and element.text:
            element.text = f"{indentation}{element.text.strip()}{indentation}"
        element.tail = indentation
    root.tail = None
    assert read(ElementTree.tostring(root, encoding="unicode")) == case.expected


@pytest.mark.parametrize("note", ["<!-- & -->", "<?note?>", ' <NOTE x="1"><A/>b</NOTE>'])
@each_case
def test_comments_and_unknown_elements_change_no_field(case: WireCase, note: str) -> None:
    """Comments and unknown elements change no field."""
    document = case.document.replace("<CODE>", f"{note}<CODE>").replace("<TO>", f"{note}<TO>")
    assert read(document) == case.expected


@pytest.mark.parametrize(
    "text",
    [
        "  leading and trailing  ",
        "\n",
        " ",
        "two\nlines",
        "tab\tand &amp; &lt;3",
        "\N{FAMILY}\N{ZERO WIDTH JOINER}\N{VARIATION SELECTOR-16}",
        "\u200f\N{HEBREW LETTER SHIN}\N{ARABIC LETTER ALEF}\u202e",
        "<![CDATA[<b> & ]]>",
        "<![CDATA[a&xml=<b>]]>",
        "e\u0301",
        "\x85\u2028\xa0",
    ],
    ids=ascii,
)
@each_form
@pytest.mark.parametrize("field", ["TEXT", "KEYWORD", "Text", 'TEXT lang="en"'])
def test_an_inbound_text_is_verbatim(form: Callable[..., str], field: str, text: str) -> None:
    """Every character of an SMS comes through, whatever it is and wherever it stands."""
    document = f"<{field}>{text}</{field.partition(' ')[0]}>"
    meant = ElementTree.fromstring(document).text
    body = form("N211", document, "SMS_MO")
    for wrapped in (body, body.encode(), b"\n" + body.encode()):
        found = one(wrapped)
        assert isinstance(found, InboundSMS)
        assert found.text == meant
        assert found.keyword == (meant if field == "KEYWORD" else None)


@pytest.mark.parametrize(
    ("inside", "text", "keyword"),
    [
        ("", "", None),
        ("<TEXT/>", "", None),
        ("<KEYWORD/>", "", None),
        ("<TEXT>join now</TEXT><KEYWORD>join</KEYWORD>", "join now", "join"),
        ("<KEYWORD>join</KEYWORD><TEXT/>", "join", "join"),
    ],
)
def test_the_text_is_the_keyword_where_there_is_no_other(
    inside: str, text: str, keyword: str | None
) -> None:
    """Without TEXT the keyword is the text; an SMS with neither has an empty text."""
    found = one(flat_form("N211", inside, "SMS_MO"))
    assert isinstance(found, InboundSMS)
    assert (found.text, found.keyword) == (text, keyword)


def test_a_field_with_attributes_is_read_as_without() -> None:
    """A field with attributes is read as without, even with those of a status."""
    found = one(notification_form("N201", '<TO PROTOCOL="4" STATUS="0"> 2 </TO>'))
    assert isinstance(found, SentNotification)
    assert found.to == "2"


@pytest.mark.parametrize("attribute", ["id", "ID", "CREATED"])
def test_an_attribute_of_the_body_is_none_of_the_notification_s(attribute: str) -> None:
    """An attribute of BODY changes neither the kind nor the id of its notification."""
    marked = SEED_RECEIPT.replace("<BODY>", f'<BODY {attribute}="236990">')
    assert read(marked) == read(SEED_RECEIPT)
    assert one(marked).raw["BODY"][f"@{attribute}"] == "236990"
    bare = receipt(notification_form("N201", GOOD_PAIR).replace("<BODY>", '<BODY id="236990">'))
    assert bare.id is None


def test_text_between_elements_stays_in_raw() -> None:
    """Text between elements is in no field, and stays in `raw`."""
    document = "<NOTIFICATION>a <CODE>N201</CODE>b<BODY>\n<TO>2</TO>c</BODY></NOTIFICATION>"
    assert one(document).raw == {
        "#text": "a b",
        "CODE": "N201",
        "BODY": {"#text": "\nc", "TO": "2"},
    }
    assert one("<POSTBACK>a</POSTBACK>").raw == {"#text": "a"}
    assert one("<NOTIFICATION>a</NOTIFICATION>").raw == {"#text": "a"}
    assert one("<NOTIFICATION>\n<BODY> </BODY>\n</NOTIFICATION>").raw == {"BODY": " "}


def test_a_field_of_another_kind_stays_in_raw() -> None:
    """A field that the kind does not have stays in `raw`."""
    found = one(flat_form("N201", "<TEXT>hello</TEXT><MOBILE>1</MOBILE><TO>2</TO>"))
    assert isinstance(found, SentNotification)
    assert found.to == "2"
    assert found.raw["TEXT"] == "hello"
    assert found.raw["MOBILE"] == "1"


# Contradictions and bundles.

ODD = {
    "two tracking ids": "<TRACKINGID>A</TRACKINGID><TRACKINGID>B</TRACKINGID>",
    "two of a name": "<TRACKINGID>A</TRACKINGID><TrackingId>B</TrackingId>",
    "two statuses": GOOD_PAIR + BAD_PAIR,
    "two status forms": "<STATUS>Message Failed</STATUS><Status PROTOCOL='4' STATUS='0'/>",
    "half a pair and a text": "<STATUS PROTOCOL='4'/><Status>Message Failed</Status>",
    "two protocols": "<STATUS PROTOCOL='4' protocole='3' STATUS='0'/>",
    "two statuses of a protocol": "<STATUS PROTOCOL='4' STATUS='0' status='99'/>",
    "two texts": "<TEXT>A</TEXT><TEXT>B</TEXT>",
    "two codes": "<CODE>N202</CODE><CODE>E202</CODE>",
    "elements in a number": "<TO><A>1</A></TO>",
    "elements in a status": "<STATUS><A>1</A></STATUS>",
    "elements in a text": "<TEXT>a<B>b</B>c</TEXT>",
}


@pytest.mark.parametrize("inside", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    ("code", "origin"), [("N201", "SMS_MT"), ("E202", "SMS_MT"), ("N211", "SMS_MO")]
)
@each_form
def test_a_notification_that_contradicts_its_kind_is_unknown_and_whole(
    form: Callable[..., str], code: str, origin: str, inside: str
) -> None:
    """A notification that contradicts its kind is unknown, and `raw` has all of it."""
    document = form(code, inside, origin)
    found = one(document)
    assert type(found) is UnknownNotification
    assert contents(found.raw) == contents_of(document)
    assert found.origin == origin


@pytest.mark.parametrize(
    ("attributes", "inside"),
    [
        ("id='1' ID='2'", ""),
        ("", "<BODY><TO>1</TO></BODY><BODY><TO>2</TO></BODY>"),
        ("", "<TO>1</TO><BODY><TO>2</TO></BODY>"),
    ],
    ids=["two ids", "two bodies", "inside and outside"],
)
def test_a_notification_with_a_repeated_field_is_unknown(attributes: str, inside: str) -> None:
    """A notification with a repeated attribute, body or field is unknown."""
    kind = "<ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE>"
    document = f"<NOTIFICATION {attributes}>{kind}{inside}</NOTIFICATION>"
    found = one(document)
    assert type(found) is UnknownNotification
    assert contents(found.raw) == contents_of(document)


def test_three_hundred_in_a_bundle_keep_their_order() -> None:
    """A full bundle of mixed kinds gives each notification once, in order."""
    inside = [case for case in CASES if case.document.startswith("<NOTIFICATION")] * 300
    bundle = "".join(case.document for case in inside[:300])
    expected = tuple(value for case in inside[:300] for value in case.expected)
    assert read(f"<POSTBACK>{bundle}</POSTBACK>") == expected
    assert len(expected) == 300


def test_one_alone_in_a_bundle_is_one() -> None:
    """A bundle of one equals the notification by itself."""
    assert parse_postback(f"<POSTBACK>\n{SEED_SENT}\n</POSTBACK>") == parse_postback(SEED_SENT)


@pytest.mark.parametrize(
    "odd",
    [
        "<NOTIFICATION/>",
        "<NOTIFICATION>?</NOTIFICATION>",
        notification_form("N201", ODD["two tracking ids"]),
        notification_form("N211", ODD["elements in a text"], "SMS_MO"),
        notification_form("X", "", ""),
    ],
)
def test_an_unknown_notification_harms_no_other(odd: str) -> None:
    """Notifications before and after an unknown one are read as if they were alone."""
    before, found, after = parse_postback(f"<POSTBACK>{SEED_SENT}{odd}{SEED_RECEIPT}</POSTBACK>")
    assert type(found) is UnknownNotification
    assert (before,) == parse_postback(SEED_SENT)
    assert (after,) == parse_postback(SEED_RECEIPT)


def test_a_flat_notification_beside_a_bundle_is_read() -> None:
    """A POSTBACK with both forms gives the notifications of both."""
    flat = flat_form("N302", SEED_SENT, "SUB")
    sent, change = parse_postback(flat)
    assert type(sent) is SentNotification
    assert type(change) is SubscriptionChange
    assert not change.subscribed


# Wrappings.


ACCENTED = flat_form("N211", "<TEXT> é+é=2é &amp; 100% </TEXT>", "SMS_MO")
DECLARED = '<?xml version="1.0" encoding="{}"?>' + ACCENTED
BODIES = [
    pytest.param(ACCENTED.encode(), id="UTF-8"),
    pytest.param(b"\r\n\t " + ACCENTED.encode(), id="after white space"),
    pytest.param("\ufeff" + ACCENTED, id="text with a mark"),
    pytest.param(DECLARED.format("utf-16"), id="text that declares another encoding"),
    pytest.param(codecs.BOM_UTF8 + ACCENTED.encode(), id="UTF-8 with a mark"),
    pytest.param(codecs.BOM_UTF16_LE + ACCENTED.encode("utf-16-le"), id="UTF-16 LE"),
    pytest.param(codecs.BOM_UTF16_BE + ACCENTED.encode("utf-16-be"), id="UTF-16 BE"),
    pytest.param(DECLARED.format("ISO-8859-1").encode("latin-1"), id="ISO-8859-1"),
    pytest.param(DECLARED.format("windows-1252").encode("cp1252"), id="windows-1252"),
]


@pytest.mark.parametrize("body", BODIES)
def test_a_body_is_read_in_the_encoding_it_comes_in(body: bytes | str) -> None:
    """Byte order marks and declared encodings count in bytes, and not in text."""
    assert parse_postback(body) == parse_postback(ACCENTED)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_are_read_whatever_holds_them(kind: Callable[[bytes], Any]) -> None:
    """A body may be bytes, a bytearray or a memoryview."""
    assert parse_postback(kind(ACCENTED.encode())) == parse_postback(ACCENTED)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("xml=", ""),
        ("XML=", "&a=b"),
        ("a=b&xml=", ""),
        ("a=b&c&Xml=", "&d=e&f"),
        ("&xml=", "&"),
        ("axml=b&xm=l&xml=", "&xml=%3CNONE/%3E"),
        ("\r\nxml=", "\r\n"),
        ("\ufeffxml=", "&a=b\r\n"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize(
    ("document", "encoded"),
    [
        # A form encodes a text as it declares, and UTF-16 cannot stand in one as it is.
        *(
            pytest.param(*body.values, True, id=f"{body.id}, encoded")
            for body in BODIES
            if "declares" not in str(body.id)
        ),
        *(
            pytest.param(*body.values, False, id=f"{body.id}, as it is")
            for body in BODIES
            if "UTF-16" not in str(body.id)
        ),
    ],
)
def test_a_form_field_is_unwrapped(
    document: bytes | str, encoded: bool, before: str, after: str
) -> None:
    """The document is found among other fields, encoded as a form or not, bytes or text."""
    if isinstance(document, str):
        value = quote_plus(document) if encoded else document
        body: bytes | str = f"{before}{value}{after}"
    else:
        content = quote_plus(document).encode() if encoded else document
        body = before.encode() + content + after.encode()
    assert parse_postback(body) == parse_postback(document)


NAMED = 'Content-Disposition: form-data; name="{}"{}\r\n'
PARTS = {
    "alone": f"--X\r\n{NAMED.format('xml', '')}\r\n*\r\n--X--\r\n",
    "a bare name": "--X\r\ncontent-disposition: form-data; name=XML\r\n\r\n*\r\n--X--",
    "a file": "\r\n--X\r\nContent-Type: text/xml\r\n"
    f"{NAMED.format('xml', '; filename=a.xml')}A: b\r\n\r\n*\r\n--X--",
    "among others": f"--X\r\n{NAMED.format('id', '')}\r\n1"
    f"\r\n--X\r\n{NAMED.format('xml', '')}\r\n*"
    f"\r\n--X\r\n{NAMED.format('z', '')}\r\n<>&xml=\r\n--X--\r\n",
}


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("document", [each for each in BODIES if "UTF-16" not in str(each.id)])
def test_a_form_in_parts_is_unwrapped(document: bytes | str, parts: str) -> None:
    """The field may come as multipart/form-data."""
    before, after = parts.split("*")
    if isinstance(document, str):
        body: bytes | str = f"{before}{document}{after}"
    else:
        body = before.encode() + document + after.encode()
    assert parse_postback(body) == parse_postback(document)


@each_case
def test_every_document_comes_through_a_form(case: WireCase) -> None:
    """A document encoded by a form library is read as by itself."""
    assert read(urlencode({"id": 1, "xml": case.document, "z": "<>"})) == case.expected
    assert read(urlencode({"XML": case.document}).encode()) == case.expected


# Nothing is lost.


def contents(raw: Any, name: str = "") -> Counter[tuple[str, str]]:
    """Count every text and attribute in a `raw`, by the name it stands under."""
    if isinstance(raw, dict):
        return sum((contents(value, key) for key, value in raw.items()), Counter())
    if isinstance(raw, list):
        return sum((contents(value, name) for value in raw), Counter())
    return Counter({(name, raw or ""): 1})


def contents_of(document: str) -> Counter[tuple[str, str]]:
    """Count the same in a document that holds one notification, by another parser."""
    found: Counter[tuple[str, str]] = Counter()
    for element in ElementTree.fromstring(document).iter():
        found.update((f"@{name}", value) for name, value in element.attrib.items())
        text = (element.text or "") + "".join(child.tail or "" for child in element)
        if not len(element) and not element.attrib:
            found[element.tag, text] += 1
        elif text:
            found["#text", text] += 1
    return found


XML_CHARACTERS = st.characters(
    min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"
) | st.sampled_from("\t\n\r &<>]")
TEXTS = st.text(XML_CHARACTERS, max_size=20)
NUMBERS = st.from_regex(r"[0-9]{5,15}", fullmatch=True)
OFFSETS = st.sampled_from(["", "-04", "-05:00", "+00:00", "+05:30"])
TIMES = st.builds(
    lambda time, digits, separator, offset: (
        f"{time.isoformat(separator, 'seconds')}"
        f"{'.' + f'{time.microsecond:06}'[:digits] if digits else ''}{offset}"
    ),
    st.datetimes(),
    st.integers(0, 6),
    st.sampled_from([" ", "T"]),
    OFFSETS,
)
FIELDS = {
    "FROM": ("from_", NUMBERS),
    "FROM_MASK": ("from_mask", TEXTS),
    "TO": ("to", NUMBERS),
    "TRACKINGID": ("tracking_id", TEXTS),
    "HISTORYID": ("history_id", TEXTS),
    "SPID": ("spid", TEXTS),
    "TIMESTAMP": ("timestamp", TIMES),
    "RECEIVED": ("received", TIMES),
    "TEXT": ("text", TEXTS),
    "STATUSDETAILS": ("detail", TEXTS),
    "AGGREGATORID": ("aggregator_id", TEXTS),
    "TRANSACTIONID": ("transaction_id", TEXTS),
    "MOBILE": ("mobile", NUMBERS),
    "CAMPAIGNID": ("campaign_id", TEXTS),
    "CAMPAIGNTITLE": ("campaign_title", TEXTS),
    "BRANDNAME": ("brand_name", TEXTS),
    "SHORTCODE": ("short_code", NUMBERS),
    "SOURCE": ("source", TEXTS),
}
CODES = st.one_of(
    st.sampled_from([(origin, code) for code, origin, _ in NOTIFICATION_CODES if origin and code]),
    st.tuples(NUMBERS, NUMBERS),
)


@attrs.frozen
class Drawn:
    """A document of one notification, and what its fields must be."""

    document: str
    fields: dict[str, str]


def escaped(text: str) -> str:
    """Escape by numbers alone, in an element or an attribute."""
    return "".join(
        f"&#{ord(character)};" if character in "&<>\"'\r\n\t" else character for character in text
    )


def written(name: str, text: str) -> str:
    return f"<{name}>{escaped(text)}</{name}>"


@st.composite
def extra_elements(draw: st.DrawFn, levels: int = 3) -> str:
    """Draw an element that no table knows, with anything in it."""
    name = "X_" + draw(st.from_regex(r"[A-Za-z0-9_.-]{0,4}", fullmatch=True))
    attributes = draw(st.dictionaries(st.sampled_from(["a", "ID", "status"]), TEXTS, max_size=2))
    inside = escaped(draw(TEXTS))
    if levels:
        inside += "".join(draw(st.lists(extra_elements(levels=levels - 1), max_size=2)))
    noted = "".join(f' {key}="{escaped(value)}"' for key, value in attributes.items())
    return f"<{name}{noted}>{inside}</{name}>"


@st.composite
def notifications(draw: st.DrawFn, form: Form) -> Drawn:
    """Draw a notification of the wire format, with extra elements among its fields."""
    origin, code = draw(CODES)
    chosen = draw(
        st.fixed_dictionaries({}, optional={name: it for name, (_, it) in FIELDS.items()})
    )
    elements = [written(name, text) for name, text in chosen.items()]
    elements += draw(st.lists(extra_elements(), max_size=3))
    elements = draw(st.permutations(elements))
    outside = [written("ORIGIN", origin), written("CODE", code)]
    fields = {FIELDS[name][0]: text for name, text in chosen.items()}
    fields |= {"origin": origin, "code": code}
    if form is Form.FLAT:
        inside = "".join(draw(st.permutations(outside + elements)))
        return Drawn(f"<POSTBACK>{inside}</POSTBACK>", fields)
    fields |= {"id": draw(TEXTS), "created": draw(TIMES)}
    body = "".join(outside) + f"<BODY>{''.join(elements)}</BODY>"
    document = (
        f'<NOTIFICATION id="{escaped(fields["id"])}" CREATED=" {fields["created"]} ">{body}'
        "</NOTIFICATION>"
    )
    return Drawn(document, fields)


def check(found: Notification, drawn: Drawn) -> None:
    """Hold a notification against what was drawn for it."""
    for name in attrs.fields_dict(type(found)).keys() & drawn.fields.keys():
        value, text = getattr(found, name), drawn.fields[name]
        if name in ("created", "timestamp", "received"):
            assert value == datetime.fromisoformat(text)
        elif name == "text":
            assert value == text
        else:
            assert value == (text.strip() or None)
    assert contents(found.raw) == contents_of(drawn.document)


@pytest.mark.unmeasured
@pytest.mark.slow
@given(notifications(Form.FLAT) | notifications(Form.NOTIFICATION))
def test_every_field_and_everything_else_comes_back(drawn: Drawn) -> None:
    """A notification's values are in its fields, and all of its XML is in `raw`."""
    check(one(drawn.document), drawn)
    assert parse_postback(quoted_form(drawn.document)) == parse_postback(drawn.document.encode())


def quoted_form(document: str) -> bytes:
    """Return the document as a form has it."""
    return f"xml={quote_plus(document)}".encode()


@pytest.mark.unmeasured
@pytest.mark.slow
@settings(max_examples=15)
@given(st.lists(notifications(Form.NOTIFICATION), min_size=1, max_size=4))
def test_every_notification_of_a_bundle_comes_back(drawn: list[Drawn]) -> None:
    """A bundle gives all of its notifications in order."""
    bundle = "\n".join(item.document for item in drawn)
    found = parse_postback(f"<POSTBACK>\n{bundle}\n</POSTBACK>")
    assert len(found) == len(drawn)
    for notification, item in zip(found, drawn, strict=True):
        check(notification, item)


# What is refused.


def parses_or_is_refused(body: bytes | str) -> None:
    """Parse; a PostbackError with a short text is the only error there is."""
    try:
        found = parse_postback(body)
    except PostbackError as error:
        check_refusal(error)
    else:
        assert found


def check_refusal(error: PostbackError) -> None:
    """Hold an error's text to saying what was wrong, with a short excerpt at most."""
    assert str(error).startswith("this body is no postback: ")
    assert len(str(error)) < 200


@pytest.mark.slow
@given(st.binary(max_size=200) | st.text(max_size=200))
@example(b"\xff\xfe")
@example("\ud800")
@example("xml=\ud800<")
def test_random_input_is_refused_and_nothing_else(body: bytes | str) -> None:
    """Random bytes and random text, lone surrogates among it, raise PostbackError alone."""
    parses_or_is_refused(body)


@pytest.mark.slow
@given(
    st.sampled_from(DOCUMENTS).map(str.encode)
    | st.sampled_from(DOCUMENTS).map(quoted_form)
    | st.sampled_from(DOCUMENTS).map(lambda document: document.encode("utf-16")),
    st.randoms(use_true_random=False),
)
def test_a_damaged_postback_is_read_or_refused_and_nothing_else(
    body: bytes, chance: random.Random
) -> None:
    """Bytes lost, doubled, swapped or replaced raise PostbackError alone."""
    parses_or_is_refused(damaged(body, chance))
    parses_or_is_refused(damaged(body, chance).decode("latin-1"))


PIECES = [b"<", b">", b"&", b'"', b"/", b"<!DOCTYPE a>", b"<TEXT>", b"</BODY>", b"\0", b"%3C"]


def damaged(body: bytes, chance: random.Random) -> bytes:
    """Damage a body in one to four places."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(body) + 1)
        end = min(len(body), start + chance.choice([0, 1, 1, 2, 20]))
        kinds = [chance.choice(PIECES), b"", b"7", b" ", body[start:end] * 2, chance.randbytes(1)]
        piece = chance.choice(kinds)
        body = body[:start] + piece + body[end:]
    return body


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(None, "a str are needed, not NoneType", id="no body"),
        pytest.param({"xml": "<POSTBACK/>"}, "a str are needed, not dict", id="read already"),
        pytest.param(b"", "it is empty", id="empty"),
        pytest.param(" \r\n", "it is empty", id="blank"),
        pytest.param(b"\xef\xbb\xbf", "it is empty", id="a mark alone"),
        pytest.param(b"hello", "not well-formed XML", id="text"),
        pytest.param(b'{"xml": "<POSTBACK/>"}', "not well-formed XML", id="JSON"),
        pytest.param(b"a=b&c=d", "not well-formed XML", id="another form"),
        pytest.param(b"xml=", "not well-formed XML", id="empty field"),
        pytest.param(
            b'--X\r\nContent-Disposition: form-data; name="axml"\r\n\r\n<POSTBACK/>\r\n--X--',
            "not well-formed XML",
            id="another part",
        ),
        pytest.param(b"xml=<POSTBACK", "not well-formed XML", id="cut off in a form"),
        pytest.param(b"<POSTBACK/>", "<POSTBACK> is empty", id="empty postback"),
        pytest.param(b"<POSTBACK> </POSTBACK>", "<POSTBACK> is empty", id="blank postback"),
        pytest.param(b"<postback id='1'>\n</postback>", "is empty", id="attributes alone"),
        pytest.param(b"<RESPONSE/>", "<RESPONSE> is neither <POSTBACK>", id="response"),
        pytest.param(b"<html/>", "<html> is neither <POSTBACK>", id="HTML"),
        pytest.param(b"\0" + SEED_SENT.encode(), "not well-formed XML", id="null byte before"),
        pytest.param(f"<!DOCTYPE POSTBACK>{SEED_SENT}", "a DOCTYPE is not", id="DOCTYPE"),
        pytest.param("\ud800", "not readable XML", id="lone surrogate"),
        pytest.param(b"a" * (MEBIBYTE + 1), "larger than 1,048,576 bytes", id="too large"),
    ],
)
def test_a_body_that_is_no_postback_is_refused_with_the_reason(body: Any, reason: str) -> None:
    """The error of a body that is no postback says why, and is a ValueError."""
    with pytest.raises(PostbackError, match=reason) as refusal:
        parse_postback(body)
    assert isinstance(refusal.value, ValueError)
    check_refusal(refusal.value)


LONG = "SECRET" * 10_000
LAUGHS = "".join(
    f"<!ENTITY {name} '{f'&{of};' * 10}'>" for of, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE: dict[str, bytes | str] = {
    "billion laughs": f"<!DOCTYPE P [<!ENTITY a 'SECRET'>{LAUGHS}]><POSTBACK>&i;</POSTBACK>",
    "external entity": "<!DOCTYPE P [<!ENTITY a SYSTEM 'file:///SECRET'>]><POSTBACK>&a;</POSTBACK>",
    "parameter entities": f"<!DOCTYPE P [<!ENTITY % a '{LONG}'>{'%a;' * 9999}]><POSTBACK/>",
    "default attributes": f"<!DOCTYPE P [<!ATTLIST P a CDATA '{LONG}'>]><P>{'<P/>' * 9999}</P>",
    "quadratic blow-up": f"<!DOCTYPE P [<!ENTITY a '{LONG}'>]><P>{'&a;' * 100_000}</P>",
    "100,000 levels": "<SECRET>" * 100_000,
    "levels, closed": "<POSTBACK>" * 24_000 + "</POSTBACK>" * 24_000,
    "a megabyte of attributes": "<P " + " ".join(f"SECRET{n}=''" for n in range(65_000)) + "/>",
    "an attribute of a megabyte": f"<POSTBACK SECRET='{LONG * 16}'/>",
    "an attribute of a long name": f"<POSTBACK {LONG * 16}='{LONG}'/>",
    "a root of a long name": f"<{LONG}/>",
    "an encoding of a long name": f'<?xml version="1.0" encoding="{LONG}"?><P/>'.encode(),
    "elements of a megabyte": "<P>" + "".join(f"<SECRET{n}/>" for n in range(49_000)) + "</P>",
    "ten mebibytes": f"<POSTBACK>{'SECRET' * 2_000_000}</POSTBACK>",
    "ten mebibytes of a form": b"xml=" + b"%53ECRET" * 1_300_000,
    "a megabyte of &": b"&" * 1_000_000,
    "a megabyte of fields": b"SECRET=&" * 125_000,
    "a megabyte of near misses": b"&xml" * 250_000,
    "a megabyte of fields xml": b"&xml=" * 200_000,
    "a megabyte of escapes": b"xml=" + b"%3C" * 340_000,
    "a megabyte of %": b"xml=" + b"%" * 1_000_000,
    "a megabyte of half escapes": b"xml=" + b"%3" * 500_000,
    "a megabyte of parts": b"--X\r\n" + b"Content-Disposition: SECRET; name=xml\r\n" * 25_000,
    "a megabyte of names": b"--X\r\nContent-Disposition: SECRET" + b"; name=xml" * 90_000,
    "a megabyte of heads": b"--X\r\n"
    + (b"Content-Disposition:" + b"; name=xml" * 9 + b"\r\n") * 8000,
    "a megabyte of white space": b" " * 1_000_000,
    "white space in text": "\n" * 1_000_000,
    "a postback of &": "<POSTBACK>" + "&" * 1_000_000,
    "a postback of <": "<POSTBACK>" + "<" * 1_000_000,
    "a malformed DOCTYPE": f"<!DOCTYPE P [<!ENTITY a '{LONG}'>><POSTBACK>&a;</POSTBACK>",
    "levels, unclosed": "<POSTBACK>"
    + "<SECRET>" * 20_000
    + "&"
    + "</SECRET>" * 20_000
    + "</POSTBACK>",
}
# Postbacks that are not well-formed: what cannot be read of them is kept as it came.
MALFORMED: dict[str, bytes | str] = {
    "unclosed": f"<POSTBACK>{LONG}",
    "a comment without an end": f"<POSTBACK><!--{LONG * 16}",
    "comments without an end": "<POSTBACK>" + "<!--" * 49_000,
    "CDATA without an end": "<POSTBACK>" + "<![CDATA[" * 49_000,
    "instructions without an end": "<POSTBACK>" + "<?a" * 49_000,
    "tags without an end": "<POSTBACK>" + "<a" * 49_000,
    "a megabyte of ends": "<POSTBACK>" + "]]>" * 340_000,
    "references": "<POSTBACK>" + "&#0;" * 100_000 + "</POSTBACK",
    "entities": "<POSTBACK>" + "&a;" * 100_000,
    "notifications without an end": "<POSTBACK>" + "<NOTIFICATION>" * 49_000,
    "thousands of notifications": "<POSTBACK>" + "<NOTIFICATION></NOTIFICATION>" * 24_000,
    "a thousand that are deep": "<POSTBACK>" + f"<NOTIFICATION>{'<a>' * 40}</NOTIFICATION>" * 1000,
    "ends without a beginning": "<POSTBACK>" + "</NOTIFICATION>" * 49_000,
    "an attribute without an end": f"<POSTBACK a='{LONG * 16}",
    "bytes of no encoding": b"<POSTBACK>" + b"\xff" * 1_000_000,
}


def work(call: Callable[[], object]) -> int:
    """Count the calls, of Python and of C, that happen inside a call."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_is_refused_at_little_cost(body: bytes | str) -> None:
    """Memory stays within some tens of MB, work within the body's size, and the text is short."""

    def refuse() -> None:
        with pytest.raises(PostbackError) as refusal:
            parse_postback(body)
        check_refusal(refusal.value)
        assert str(refusal.value).count("SECRET") < 10

    at_little_cost(refuse, body)


@pytest.mark.slow
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_kept_at_little_cost(body: bytes | str) -> None:
    """All of it is read or kept, within the same memory and work as what is refused."""

    def keep() -> None:
        *_, last = parse_postback(body)
        assert isinstance(last, UnknownNotification)
        assert last.unreadable is not None
        assert len(last.unreadable) < 100

    at_little_cost(keep, body)


def at_little_cost(call: Callable[[], object], body: bytes | str) -> None:
    tracemalloc.start()
    try:
        call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 80 * MEBIBYTE
    assert work(call) < 3 * min(len(body), MEBIBYTE) + 1000


@pytest.mark.unmeasured
@pytest.mark.slow
def test_a_full_body_is_read_at_little_cost() -> None:
    """As many notifications as a body can hold are read within the same bounds."""
    body = b"<POSTBACK>" + b"<NOTIFICATION/>" * 49_000 + b"</POSTBACK>"
    tracemalloc.start()
    try:
        found = parse_postback(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == 49_000
    assert peak < 80 * MEBIBYTE
    assert work(lambda: parse_postback(body)) < 3 * len(body)
