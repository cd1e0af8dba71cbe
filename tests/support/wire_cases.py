"""Postbacks on the wire, and their meaning: one table for all tests.

Each case is a document and its notifications, in order.  The parser must read
the document as these notifications, and a document that the simulator writes for
them must be read as the same.  The expected values have no `raw`: compare through
`without_raw`.

The first two are the provider's own examples, character for character.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, TypeVar

import attrs

from skycore_async.codes import DeliveryState, FailureReason
from skycore_async.notifications import (
    DeliveryReceipt,
    InboundSMS,
    Notification,
    SentNotification,
    SubscriptionChange,
    UnknownNotification,
)

_N = TypeVar("_N", bound=Notification)


class Form(enum.Enum):
    """The two forms that postbacks have."""

    NOTIFICATION = enum.auto()
    FLAT = enum.auto()


@attrs.frozen(kw_only=True)
class WireCase:
    """A document as it comes, and the notifications in it (their `raw` left empty)."""

    name: str
    form: Form
    document: str
    expected: tuple[Notification, ...]


def without_raw(notification: _N) -> _N:
    """Return the notification's own fields alone, to compare with an expected value."""
    return attrs.evolve(notification, raw={})


SUMMER: Final = timezone(timedelta(hours=-4))
WINTER: Final = timezone(timedelta(hours=-5))

SEED_SENT: Final = (
    '<NOTIFICATION  ID="325" CREATED="2011-07-26 10:22:26.975911-04" >\n'
    "\t<ORIGIN>SMS_MT</ORIGIN>\n"
    "\t<CODE>N201</CODE>\n"
    "\t<BODY>\n"
    "\t<HISTORYID>236990</HISTORYID>\n"
    "\t<TO>15551234888</TO>\n"
    "\t<TRACKINGID>SMS_12345</TRACKINGID>\n"
    "\t<TIMESTAMP>2011-07-26 10:22:25.262743-04</TIMESTAMP>\n"
    "\t</BODY>\n"
    "</NOTIFICATION>"
)
SEED_RECEIPT: Final = (
    '<NOTIFICATION id="326" created=" 2011-07-26 10:22:27.146582-04">\n'
    "\t<ORIGIN>SMS_MT</ORIGIN>\n"
    " \t<CODE>N201</CODE>\n"
    "\t<BODY>\n"
    "\t<HISTORYID>236990</HISTORYID>\n"
    " \t<TO>15551234888</TO>\n"
    "\t<TRACKINGID>SMS_12345</TRACKINGID>\n"
    '\t<STATUS PROTOCOL="4" STATUS="0"/>\n'
    "\t<TIMESTAMP>2011-07-26 10:22:25.262743-04</TIMESTAMP>\n"
    "\t</BODY>\n"
    "</NOTIFICATION>"
)
_SEED_SENT_VALUE: Final = SentNotification(
    code="N201",
    origin="SMS_MT",
    id="325",
    created=datetime(2011, 7, 26, 10, 22, 26, 975911, SUMMER),
    timestamp=datetime(2011, 7, 26, 10, 22, 25, 262743, SUMMER),
    tracking_id="SMS_12345",
    to="15551234888",
    history_id="236990",
    raw={},
)
_SEED_RECEIPT_VALUE: Final = DeliveryReceipt(
    code="N201",
    origin="SMS_MT",
    id="326",
    created=datetime(2011, 7, 26, 10, 22, 27, 146582, SUMMER),
    timestamp=datetime(2011, 7, 26, 10, 22, 25, 262743, SUMMER),
    state=DeliveryState.DELIVERED,
    detail="executed successfully",
    tracking_id="SMS_12345",
    to="15551234888",
    history_id="236990",
    protocol="4",
    status="0",
    raw={},
)

_FLAT_SENT_FIELDS: Final = (
    "<FROM>60856</FROM><FROM_MASK>SKYCORE</FROM_MASK><TO>15551234888</TO>"
    "<TRACKINGID>U01TXzc2Nzg2Nw==</TRACKINGID><SPID>0001470</SPID>"
)
_FLAT_TIME: Final = "<TIMESTAMP>2013-11-05T05:41:08-05:00</TIMESTAMP>"


def _flat_receipt(
    code: str,
    status: str,
    state: DeliveryState,
    reason: FailureReason | None = None,
) -> WireCase:
    return WireCase(
        name=f"flat {code} {status}",
        form=Form.FLAT,
        document=(
            f"<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>{code}</CODE>{_FLAT_SENT_FIELDS}"
            f"<STATUS>{status}</STATUS>{_FLAT_TIME}"
            "<STATUSDETAILS>as the carrier says</STATUSDETAILS>"
            "<AGGREGATORID>4</AGGREGATORID></POSTBACK>"
        ),
        expected=(
            DeliveryReceipt(
                code=code,
                origin="SMS_MT",
                timestamp=datetime(2013, 11, 5, 5, 41, 8, tzinfo=WINTER),
                state=state,
                reason=reason,
                detail="as the carrier says",
                tracking_id="U01TXzc2Nzg2Nw==",
                to="15551234888",
                from_="60856",
                from_mask="SKYCORE",
                spid="0001470",
                status=status,
                aggregator_id="4",
                raw={},
            ),
        ),
    )


def _paired_receipt(
    name: str,
    code: str,
    status_element: str,
    expected: DeliveryReceipt,
) -> WireCase:
    return WireCase(
        name=name,
        form=Form.NOTIFICATION,
        document=(
            '<NOTIFICATION ID="7" CREATED="2011-07-26 10:22:26-04"><ORIGIN>SMS_MT</ORIGIN>'
            f"<CODE>{code}</CODE><BODY><HISTORYID>9</HISTORYID><TO>15551234888</TO>"
            f"<TRACKINGID>SMS_9</TRACKINGID>{status_element}"
            "<TIMESTAMP>2011-07-26 10:22:25-04</TIMESTAMP></BODY></NOTIFICATION>"
        ),
        expected=(
            attrs.evolve(
                expected,
                code=code,
                origin="SMS_MT",
                id="7",
                created=datetime(2011, 7, 26, 10, 22, 26, tzinfo=SUMMER),
                timestamp=datetime(2011, 7, 26, 10, 22, 25, tzinfo=SUMMER),
                tracking_id="SMS_9",
                to="15551234888",
                history_id="9",
            ),
        ),
    )


_INBOUND_NOTIFICATION: Final = (
    '<NOTIFICATION ID="8" CREATED="2011-07-26 10:22:26-04"><ORIGIN>SMS_MO</ORIGIN>'
    "<CODE>N211</CODE><BODY><FROM>15551234888</FROM><TO>60856</TO>"
    "<{field}>  Yes &amp; no\n&lt;3 </{field}>"
    "<RECEIVED>2011-07-26 10:22:25.2-04</RECEIVED></BODY></NOTIFICATION>"
)
_INBOUND_VALUE: Final = InboundSMS(
    code="N211",
    origin="SMS_MO",
    id="8",
    created=datetime(2011, 7, 26, 10, 22, 26, tzinfo=SUMMER),
    timestamp=datetime(2011, 7, 26, 10, 22, 25, 200000, SUMMER),
    received=datetime(2011, 7, 26, 10, 22, 25, 200000, SUMMER),
    from_="15551234888",
    to="60856",
    text="  Yes & no\n<3 ",
    raw={},
)


def _subscription(code: str, *, subscribed: bool) -> WireCase:
    return WireCase(
        name=f"flat {code}",
        form=Form.FLAT,
        document=(
            f"<POSTBACK><ORIGIN>SUB</ORIGIN><CODE>{code}</CODE><MOBILE>15551234888</MOBILE>"
            "<CAMPAIGNID>77676</CAMPAIGNID><TIMESTAMP>2013-11-05 05:41:08.12345-05</TIMESTAMP>"
            "<SHORTCODE>60856</SHORTCODE><CAMPAIGNTITLE>Fish &amp; chips</CAMPAIGNTITLE>"
            "<BRANDNAME>Chippy</BRANDNAME><SOURCE>WEB</SOURCE></POSTBACK>"
        ),
        expected=(
            SubscriptionChange(
                code=code,
                origin="SUB",
                timestamp=datetime(2013, 11, 5, 5, 41, 8, 123450, WINTER),
                subscribed=subscribed,
                mobile="15551234888",
                campaign_id="77676",
                campaign_title="Fish & chips",
                brand_name="Chippy",
                short_code="60856",
                source="WEB",
                raw={},
            ),
        ),
    )


CASES: Final[tuple[WireCase, ...]] = (
    WireCase(
        name="the provider's sent notification",
        form=Form.NOTIFICATION,
        document=SEED_SENT,
        expected=(_SEED_SENT_VALUE,),
    ),
    WireCase(
        name="the provider's delivery receipt",
        form=Form.NOTIFICATION,
        document=SEED_RECEIPT,
        expected=(_SEED_RECEIPT_VALUE,),
    ),
    WireCase(
        name="both of them in a bundle",
        form=Form.NOTIFICATION,
        document=f"<POSTBACK>\n{SEED_SENT}\n{SEED_RECEIPT}\n</POSTBACK>",
        expected=(_SEED_SENT_VALUE, _SEED_RECEIPT_VALUE),
    ),
    _paired_receipt(
        "N202 with the pair spelt protocole",
        "N202",
        '<STATUS protocole="3" status="1"/>',
        DeliveryReceipt(
            state=DeliveryState.DELIVERED,
            detail="delivered",
            protocol="3",
            status="1",
            raw={},
        ),
    ),
    _paired_receipt(
        "N201 with a pair that says failed",
        "N201",
        '<STATUS PROTOCOL="1" STATUS="92101"/>',
        DeliveryReceipt(
            state=DeliveryState.FAILED,
            reason=FailureReason.BILLING,
            detail="account out of credits",
            protocol="1",
            status="92101",
            raw={},
        ),
    ),
    _paired_receipt(
        "N201 with a pair in no table",
        "N201",
        '<STATUS PROTOCOL="77" STATUS="0"/>',
        DeliveryReceipt(state=DeliveryState.UNKNOWN, protocol="77", status="0", raw={}),
    ),
    WireCase(
        name="inbound with TEXT",
        form=Form.NOTIFICATION,
        document=_INBOUND_NOTIFICATION.format(field="TEXT"),
        expected=(_INBOUND_VALUE,),
    ),
    WireCase(
        name="inbound with KEYWORD",
        form=Form.NOTIFICATION,
        document=_INBOUND_NOTIFICATION.format(field="KEYWORD"),
        expected=(attrs.evolve(_INBOUND_VALUE, keyword=_INBOUND_VALUE.text),),
    ),
    WireCase(
        name="flat N201 Message Sent",
        form=Form.FLAT,
        document=(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<POSTBACK xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
            ' xsi:noNamespaceSchemaLocation="postback.xsd">\n'
            f"<ORIGIN>SMS_MT</ORIGIN>\n<CODE>N201</CODE>\n{_FLAT_SENT_FIELDS}\n"
            f"<STATUS>Message Sent</STATUS>\n{_FLAT_TIME}\n</POSTBACK>\n"
        ),
        expected=(
            SentNotification(
                code="N201",
                origin="SMS_MT",
                timestamp=datetime(2013, 11, 5, 5, 41, 8, tzinfo=WINTER),
                tracking_id="U01TXzc2Nzg2Nw==",
                to="15551234888",
                from_="60856",
                from_mask="SKYCORE",
                spid="0001470",
                status="Message Sent",
                raw={},
            ),
        ),
    ),
    _flat_receipt("N202", "Message Sent/Delivered", DeliveryState.DELIVERED),
    _flat_receipt("E201", "Message Failed", DeliveryState.FAILED, FailureReason.UNKNOWN),
    _flat_receipt("E202", "Message Sent/Failed", DeliveryState.FAILED, FailureReason.UNKNOWN),
    _flat_receipt("E202", "Message Sent/Expired", DeliveryState.FAILED, FailureReason.EXPIRED),
    _flat_receipt("E202", "Message Sent/Rejected", DeliveryState.FAILED, FailureReason.UNKNOWN),
    _flat_receipt(
        "E202", "Message Sent/NotSupported", DeliveryState.FAILED, FailureReason.UNKNOWN
    ),
    WireCase(
        name="flat E201 without a time",
        form=Form.FLAT,
        document=(
            "<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>E201</CODE><TO>15551234888</TO>"
            "<TRACKINGID>SMS_9</TRACKINGID><STATUS>Message Failed</STATUS></POSTBACK>"
        ),
        expected=(
            DeliveryReceipt(
                code="E201",
                origin="SMS_MT",
                state=DeliveryState.FAILED,
                reason=FailureReason.UNKNOWN,
                tracking_id="SMS_9",
                to="15551234888",
                status="Message Failed",
                raw={},
            ),
        ),
    ),
    WireCase(
        name="flat inbound",
        form=Form.FLAT,
        document=(
            "<POSTBACK><ORIGIN>SMS_MO</ORIGIN><CODE>N211</CODE><FROM>15551234888</FROM>"
            "<TO>60856</TO><TEXT>\N{GRINNING FACE} \N{HEBREW LETTER SHIN}\u200f</TEXT>"
            "<RECEIVED>2013-11-05T10:41:08.5+00:00</RECEIVED>"
            "<TRANSACTIONID>T-1</TRANSACTIONID></POSTBACK>"
        ),
        expected=(
            InboundSMS(
                code="N211",
                origin="SMS_MO",
                timestamp=datetime(2013, 11, 5, 10, 41, 8, 500000, UTC),
                received=datetime(2013, 11, 5, 10, 41, 8, 500000, UTC),
                from_="15551234888",
                to="60856",
                text="\N{GRINNING FACE} \N{HEBREW LETTER SHIN}\u200f",
                transaction_id="T-1",
                raw={},
            ),
        ),
    ),
    _subscription("N301", subscribed=True),
    _subscription("N302", subscribed=False),
    WireCase(
        name="an MMS notification",
        form=Form.NOTIFICATION,
        document=(
            '<NOTIFICATION ID="9" CREATED="2011-07-26 10:22:26-04"><ORIGIN>MMS_MT</ORIGIN>'
            "<CODE>N102</CODE><BODY><MMSID>35674</MMSID></BODY></NOTIFICATION>"
        ),
        expected=(
            UnknownNotification(
                code="N102",
                origin="MMS_MT",
                id="9",
                created=datetime(2011, 7, 26, 10, 22, 26, tzinfo=SUMMER),
                raw={},
            ),
        ),
    ),
)
