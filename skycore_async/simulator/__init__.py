"""A pretend Skycore over real HTTP, for tests, demonstrations and trying out failures.

    with Simulator(postback_url="http://127.0.0.1:8000/postback") as simulator:
        ...  # send to simulator.url with the API key `simulator.API_KEY`
        assert simulator.billed == 1

It speaks the sendSMS wire format, bills and logs what it takes, posts postbacks
as the provider does, and misbehaves on request: as scripted
(`Simulator.script`), or by the last four digits of the recipient's number.

    0ddd  refused with the documented code Eddd, as E713 for 0713
    1001  not delivered: the number is not a subscriber
    1002  not delivered: expired at the carrier
    1003  not delivered: blocked by the carrier
    1004  sent, and no receipt ever
    1005  no postback at all
    1006  the receipt comes twice
    1007  the receipt comes before the sent notification
    1008  the postbacks come before the HTTP answer
    1009  the carrier does not take it (E201 postback)
    1010  a receipt with a status in no table
    2001  connection reset, not taken
    2002  connection reset, taken
    2003  no answer, not taken
    2004  no answer, taken
    2005  HTTP 502, not taken
    2006  HTTP 502, taken
    2007  HTTP 429 with Retry-After, not taken
    2008  HTTP 503, not taken
    2009  XML that stops in the middle, taken
    2010  Success without a TRACKINGID, taken
    2011  HTTP 200 with an HTML page, not taken
    2012  HTTP 200 without a body, taken
    2013  E503, taken
    2014  a slow answer (1 s, scaled), taken
    2015  connection closed without an answer, taken
    2016  connection closed in the middle of the answer, taken
    2017  connection reset, taken, and no postback at all
    else  accepted and delivered

"Taken" means that the message is billed and that its postbacks follow, whatever became of the
answer; 1005 and 2017 have no postbacks.  The account's key is `"simulator-key"` and its short code
`"60856"`; see `Account` for its other settings.

It gives sending reports of the messages that it took, in any of the forms of `ReportForm`;
`Reports` has their settings, with the faults that they can have.

Running a `Simulator` needs the extra `server`; the rest of the package does not.
"""

from __future__ import annotations

from .account import API_KEY, SHORT_CODE, Account
from .behaviours import (
    ACCEPTED_AND_DELIVERED,
    BY_LAST_DIGITS,
    DELIVERED,
    EXPIRED,
    FAILED,
    NOT_SENT,
    REJECTED,
    SENT,
    UNDOCUMENTED,
    Answer,
    Behaviour,
    Event,
    refusal,
)
from .delivery import PostbackAttempt
from .exchange import ReceivedMessage
from .postbacks import PostbackForm
from .report_file import ReportForm
from .reports import ReportFault, Reports
from .server import Simulator

__all__ = [
    "ACCEPTED_AND_DELIVERED",
    "API_KEY",
    "BY_LAST_DIGITS",
    "DELIVERED",
    "EXPIRED",
    "FAILED",
    "NOT_SENT",
    "REJECTED",
    "SENT",
    "SHORT_CODE",
    "UNDOCUMENTED",
    "Account",
    "Answer",
    "Behaviour",
    "Event",
    "PostbackAttempt",
    "PostbackForm",
    "ReceivedMessage",
    "ReportFault",
    "ReportForm",
    "Reports",
    "Simulator",
    "refusal",
]
