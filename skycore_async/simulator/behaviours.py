"""The behaviours of a pretend Skycore towards a message, as data.

A `Behaviour` says four things: whether the message is taken (and so billed),
what the HTTP answer looks like, how long it takes, and which postbacks follow.
Nothing here acts: `exchange` decides by a behaviour, and `app` carries it out.

`BY_LAST_DIGITS` chooses a behaviour by the last four digits of the recipient's
number, so that anyone can try a failure from a shell:

* `0ddd` is refused with the documented code `Eddd`.
* `1xxx` is accepted; the table says what its postbacks report.
* `2xxx` gets an answer that leaves the caller in doubt, or a fault.

Any other number is accepted and delivered.  A message that was taken gets its
postbacks whatever became of the answer, because postbacks settle doubt.
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from ..codes import API_ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen(kw_only=True)
class Event:
    """An event of a taken message that a postback reports.

    `code` and `status` are CODE and STATUS of the flat form, `detail` its
    STATUSDETAILS.  `carrier` is the aggregator's (PROTOCOL, STATUS) pair; an event
    with one is a delivery receipt in the NOTIFICATION form.
    """

    code: str
    status: str
    carrier: tuple[str, str] | None = None
    detail: str | None = None


SENT: Final = Event(code="N201", status="Message Sent")
NOT_SENT: Final = Event(
    code="E201", status="Message Failed", detail="the carrier did not take the message"
)
DELIVERED: Final = Event(
    code="N202", status="Message Sent/Delivered", carrier=("4", "0"), detail="delivered"
)
FAILED: Final = Event(
    code="E202",
    status="Message Sent/Failed",
    carrier=("2", "514"),
    detail="number is not a subscriber",
)
EXPIRED: Final = Event(
    code="E202",
    status="Message Sent/Expired",
    carrier=("2", "811"),
    detail="expired at the carrier",
)
REJECTED: Final = Event(
    code="E202",
    status="Message Sent/Rejected",
    carrier=("2", "566"),
    detail="destination blocked by the carrier",
)
UNDOCUMENTED: Final = Event(
    code="N201",
    status="Message Sent/Deferred",
    carrier=("9", "99999"),
    detail="a status that is in no table",
)


class Answer(enum.Enum):
    """The kind of HTTP answer that the caller gets."""

    SUCCESS = enum.auto()
    """A RESPONSE with STATUS Success, TRACKINGID and TO."""
    FAILURE = enum.auto()
    """A RESPONSE with STATUS Failure and the behaviour's code."""
    WITHOUT_TRACKING_ID = enum.auto()
    """A RESPONSE with STATUS Success and TO alone."""
    TRUNCATED = enum.auto()
    """A complete HTTP answer, with an XML document that stops in the middle."""
    EMPTY = enum.auto()
    """HTTP 200 without a body."""
    HTML_200 = enum.auto()
    """HTTP 200 with an HTML page."""
    THROTTLED_429 = enum.auto()
    """HTTP 429 with Retry-After."""
    BAD_GATEWAY = enum.auto()
    """HTTP 502 with an HTML page, as from a proxy."""
    UNAVAILABLE = enum.auto()
    """HTTP 503 with an HTML page."""
    CUT_SHORT = enum.auto()
    """Half of the body that Content-Length promised, then the connection is closed."""
    CLOSE = enum.auto()
    """No answer: the connection is closed in order (FIN)."""
    DROP = enum.auto()
    """No answer: the connection is reset (RST)."""
    HANG = enum.auto()
    """No answer, until the client goes away or the simulator stops."""


@attrs.frozen(kw_only=True)
class Behaviour:
    """What happens to one message.

    `taken` says whether the message is taken, and so counted as billed.  With
    `Answer.FAILURE`, and only then, `code` is the ERRORCODE.  `delay` is the
    time before the answer in seconds, which the simulator scales.
    `retry_after` is the Retry-After of HTTP 429, in whole seconds and not scaled.
    `postbacks` follow a message that was taken, in this order; with
    `postbacks_first` each was posted once before the caller gets an answer.
    `meaning` is the behaviour in words.

    Raises ValueError for a code without a failure, or a failure without one.
    """

    meaning: str = ""
    taken: bool = True
    answer: Answer = Answer.SUCCESS
    code: str | None = None
    delay: float = 0.0
    retry_after: int = 1
    postbacks: tuple[Event, ...] = (SENT, DELIVERED)
    postbacks_first: bool = False

    def __attrs_post_init__(self) -> None:
        if (self.answer is Answer.FAILURE) != (self.code is not None):
            raise ValueError("Answer.FAILURE, and no other answer, has a code")


def refusal(code: str, *, taken: bool = False, meaning: str = "") -> Behaviour:
    """Make the behaviour that answers Failure with `code`, such as `"E713"`."""
    return Behaviour(meaning=meaning, taken=taken, answer=Answer.FAILURE, code=code)


def _doubt(answer: Answer, meaning: str, *, taken: bool) -> Behaviour:
    return Behaviour(meaning=meaning, taken=taken, answer=answer)


def _accepted(meaning: str, *postbacks: Event, postbacks_first: bool = False) -> Behaviour:
    return Behaviour(meaning=meaning, postbacks=postbacks, postbacks_first=postbacks_first)


ACCEPTED_AND_DELIVERED: Final = Behaviour(meaning="accepted and delivered")

BY_LAST_DIGITS: Final[Mapping[str, Behaviour]] = MappingProxyType(
    {
        **{
            f"0{code[1:]}": refusal(code, meaning=error.meaning)
            for code, error in API_ERRORS.items()
        },
        "1001": _accepted("not delivered: the number is not a subscriber", SENT, FAILED),
        "1002": _accepted("not delivered: expired at the carrier", SENT, EXPIRED),
        "1003": _accepted("not delivered: blocked by the carrier", SENT, REJECTED),
        "1004": _accepted("sent, and no receipt ever", SENT),
        "1005": _accepted("no postback at all"),
        "1006": _accepted("the receipt comes twice", SENT, DELIVERED, DELIVERED),
        "1007": _accepted("the receipt comes before the sent notification", DELIVERED, SENT),
        "1008": _accepted(
            "the postbacks come before the HTTP answer", SENT, DELIVERED, postbacks_first=True
        ),
        "1009": _accepted("the carrier does not take it (E201 postback)", NOT_SENT),
        "1010": _accepted("a receipt with a status in no table", SENT, UNDOCUMENTED),
        "2001": _doubt(Answer.DROP, "connection reset, not taken", taken=False),
        "2002": _doubt(Answer.DROP, "connection reset, taken", taken=True),
        "2003": _doubt(Answer.HANG, "no answer, not taken", taken=False),
        "2004": _doubt(Answer.HANG, "no answer, taken", taken=True),
        "2005": _doubt(Answer.BAD_GATEWAY, "HTTP 502, not taken", taken=False),
        "2006": _doubt(Answer.BAD_GATEWAY, "HTTP 502, taken", taken=True),
        "2007": _doubt(Answer.THROTTLED_429, "HTTP 429 with Retry-After, not taken", taken=False),
        "2008": _doubt(Answer.UNAVAILABLE, "HTTP 503, not taken", taken=False),
        "2009": _doubt(Answer.TRUNCATED, "XML that stops in the middle, taken", taken=True),
        "2010": _doubt(
            Answer.WITHOUT_TRACKING_ID, "Success without a TRACKINGID, taken", taken=True
        ),
        "2011": _doubt(Answer.HTML_200, "HTTP 200 with an HTML page, not taken", taken=False),
        "2012": _doubt(Answer.EMPTY, "HTTP 200 without a body, taken", taken=True),
        "2013": refusal("E503", taken=True, meaning="E503, taken"),
        "2014": Behaviour(meaning="a slow answer (1 s, scaled), taken", delay=1.0),
        "2015": _doubt(Answer.CLOSE, "connection closed without an answer, taken", taken=True),
        "2016": _doubt(
            Answer.CUT_SHORT, "connection closed in the middle of the answer, taken", taken=True
        ),
        "2017": Behaviour(
            meaning="connection reset, taken, and no postback at all",
            answer=Answer.DROP,
            postbacks=(),
        ),
    }
)
