"""One postback of each kind, to try a receiver with.  Pure: values in, bytes out.

Rule: two samples differ in their id or their time, so that a ledger records each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import attrs

from .account import SHORT_CODE
from .behaviours import DELIVERED, EXPIRED, FAILED, NOT_SENT, REJECTED, SENT, Event
from .postbacks import Postback, PostbackForm, document, render

NUMBER: Final = "15551234888"
_CAMPAIGN: Final = "77676"
_CARRIER: Final = "0001470"


@attrs.frozen(kw_only=True)
class SampleFacts:
    """The fields of a sample; `id` is that of the notification, and `time` has an offset."""

    id: int
    time: datetime
    number: str = NUMBER
    tracking_id: str = "SMS_12345"


_Writer = Callable[[SampleFacts, PostbackForm], bytes]


def _of_message(event: Event) -> _Writer:
    def write(facts: SampleFacts, form: PostbackForm) -> bytes:
        postback = Postback(
            event=event,
            to=facts.number,
            tracking_id=facts.tracking_id,
            history_id=facts.id,
            id=facts.id,
            created=facts.time,
            timestamp=facts.time,
            from_=SHORT_CODE,
            spid=_CARRIER,
        )
        return render(postback, form)

    return write


def _text(text: str) -> _Writer:
    def write(facts: SampleFacts, form: PostbackForm) -> bytes:
        fields = {"FROM": facts.number, "TO": SHORT_CODE, "TEXT": text}
        times = {"RECEIVED": facts.time}
        return document("SMS_MO", "N211", fields, times, id=facts.id, form=form)

    return write


def _subscription(code: str) -> _Writer:
    def write(facts: SampleFacts, form: PostbackForm) -> bytes:
        fields = {
            "MOBILE": facts.number,
            "CAMPAIGNID": _CAMPAIGN,
            "SHORTCODE": SHORT_CODE,
            "CAMPAIGNTITLE": "A campaign",
            "SOURCE": "WEB",
        }
        return document("SUB", code, fields, {"TIMESTAMP": facts.time}, id=facts.id, form=form)

    return write


def _unknown(facts: SampleFacts, form: PostbackForm) -> bytes:
    return document(
        "MMS_MT", "N102", {"MMSID": "35674"}, {"TIMESTAMP": facts.time}, id=facts.id, form=form
    )


SAMPLES: Final[Mapping[str, _Writer]] = {
    "sent": _of_message(SENT),
    "delivered": _of_message(DELIVERED),
    "failed": _of_message(FAILED),
    "expired": _of_message(EXPIRED),
    "rejected": _of_message(REJECTED),
    "not-sent": _of_message(NOT_SENT),
    "inbound": _text("yes please"),
    "stop": _text("STOP"),
    "start": _text("START"),
    "subscribed": _subscription("N301"),
    "unsubscribed": _subscription("N302"),
    "unknown": _unknown,
}
"""The function that writes each kind of sample, by its name."""
