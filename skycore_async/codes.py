"""The codes Skycore speaks in: API errors, notifications, carrier status.

Each table has everything that the provider documents (version 1.3, editions of 2011 to 2015).  A
code in no table is unknown, and is taken as neither good nor bad news.

* `API_ERRORS`: each ERRORCODE of a RESPONSE: its meaning, what else would fail with it, what it
  says about the message, and the class of its error.  A new code is a new row here, and nothing
  else.
* `CODE_STATES`: what the CODE of a notification about a sent SMS means by itself.
* `STATUS_TEXTS`: the STATUS element of the flat POSTBACK form.
* `carrier_status`: the (PROTOCOL, STATUS) pair of an aggregator, from the 254
  documented pairs in `carrier_status.csv` beside this module.
"""

from __future__ import annotations

import enum
import functools
from typing import Final

import attrs


class Scope(enum.StrEnum):
    """What else would be refused the same way as the message that was refused.

    * `MESSAGE`: nothing else.
    * `SENDER`: every message from its short code.
    * `CAMPAIGN`: every message with its campaign reference.
    * `ACCOUNT`: every message of the account.
    * `REQUEST`: every request that this program makes the same way.
    * `THROTTLE`: any request that comes too soon after others, for some time.
    * `UNKNOWN`: not known; the code is in no table, or does not tell.
    """

    MESSAGE = "message"
    SENDER = "sender"
    CAMPAIGN = "campaign"
    ACCOUNT = "account"
    REQUEST = "request"
    THROTTLE = "throttle"
    UNKNOWN = "unknown"


class Verdict(enum.StrEnum):
    """What an outcome says about its message; `sending.outcomes` has what follows from each.

    * `ACCEPTED`: the provider took it.
    * `REJECTED`: the API refused this message, and would refuse it again.
    * `ACCOUNT_REFUSED`: the API refused the account, and would refuse every message.
    * `SENDER_REFUSED`: the API refused the short code, and would refuse every message from it.
    * `CAMPAIGN_REFUSED`: the API refused the campaign reference, and would refuse every
      message with it.
    * `REQUEST_REFUSED`: the API does not understand what this program sends, and would
      refuse every message.
    * `REFUSED_HERE`: it was refused before anything was sent.
    * `NOT_SENT`: it is proven not sent, and is safe to send again.
    * `PUT_OFF`: it was not begun, as its time has not come yet.
    * `HALTED`: it was not sent, and no message can be sent until the cause is mended.
    * `IN_DOUBT`: it may have been sent, and must not be sent again blindly.
    """

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    ACCOUNT_REFUSED = "account_refused"
    SENDER_REFUSED = "sender_refused"
    CAMPAIGN_REFUSED = "campaign_refused"
    REQUEST_REFUSED = "request_refused"
    REFUSED_HERE = "refused_here"
    NOT_SENT = "not_sent"
    PUT_OFF = "put_off"
    HALTED = "halted"
    IN_DOUBT = "in_doubt"


class DeliveryState(enum.StrEnum):
    """How far a message got, as one notification says.

    * `SENT`: it was handed to the carrier.
    * `DELIVERED`: the handset has it, for good.
    * `FAILED`: the handset will not get it, for good.
    * `UNKNOWN`: the provider's code or status is in no table.
    """

    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    UNKNOWN = "unknown"


class FailureReason(enum.StrEnum):
    """Why a message failed, in groups that call for the same reaction.

    They group the statuses of `carrier_status.csv`, which the provider documents.

    * `ACCOUNT`: the account or its set-up at the carrier.
    * `BILLING`: its credits or limits, or what a premium message is charged.
    * `BLOCKED`: the carrier lets no message through to this number.
    * `CONTENT`: the text, or how it is encoded.
    * `EXPIRED`: it could not be delivered in time.
    * `PROTOCOL`: the exchange between the provider and the carrier.
    * `RECIPIENT`: the number, which is not valid or has no subscriber.
    * `ROUTING`: no way leads to the carrier.
    * `SENDER`: the short code or another sender.
    * `SUBSCRIPTION`: the number's subscription to a campaign.
    * `TEMPORARY`: a fault that passes.
    * `THROTTLED`: too high a rate.
    * `UNKNOWN`: it failed, and nobody says why.
    """

    ACCOUNT = "account"
    BILLING = "billing"
    BLOCKED = "blocked"
    CONTENT = "content"
    EXPIRED = "expired"
    PROTOCOL = "protocol"
    RECIPIENT = "recipient"
    ROUTING = "routing"
    SENDER = "sender"
    SUBSCRIPTION = "subscription"
    TEMPORARY = "temporary"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"


@attrs.frozen(kw_only=True)
class ApiError:
    """A documented ERRORCODE; `error` is the name of its class in `errors`."""

    code: str
    meaning: str
    scope: Scope
    verdict: Verdict
    error: str


@attrs.frozen(kw_only=True)
class CarrierStatus:
    """What an aggregator's (PROTOCOL, STATUS) pair says of a message."""

    state: DeliveryState
    reason: FailureReason | None
    meaning: str


_S: Final = Scope
_V: Final = Verdict

# fmt: off
_API_ERROR_ROWS: Final[tuple[tuple[str, Scope, Verdict, str, str], ...]] = (
    ("E100", _S.REQUEST, _V.REQUEST_REFUSED, "InvalidRequest",
     "request incomplete or not understood"),
    ("E101", _S.REQUEST, _V.REQUEST_REFUSED, "InvalidRequest", "action missing or unknown"),
    ("E102", _S.ACCOUNT, _V.ACCOUNT_REFUSED, "AuthenticationFailed", "user or API key missing"),
    ("E103", _S.ACCOUNT, _V.ACCOUNT_REFUSED, "AuthenticationFailed", "password digest missing"),
    ("E104", _S.ACCOUNT, _V.ACCOUNT_REFUSED, "AuthenticationFailed", "authentication failed"),
    ("E105", _S.ACCOUNT, _V.ACCOUNT_REFUSED, "PermissionDenied", "account has no API rights"),
    ("E106", _S.THROTTLE, _V.NOT_SENT, "Throttled", "calls are allowed only every X seconds"),
    ("E107", _S.ACCOUNT, _V.ACCOUNT_REFUSED, "PermissionDenied",
     "account may not use this action"),
    ("E108", _S.REQUEST, _V.REQUEST_REFUSED, "InvalidRequest", "request XML could not be parsed"),
    ("E109", _S.ACCOUNT, _V.ACCOUNT_REFUSED, "PermissionDenied",
     "API not activated for the account"),
    ("E110", _S.MESSAGE, _V.REJECTED, "InvalidRecipient", "recipient number not valid"),
    ("E111", _S.SENDER, _V.SENDER_REFUSED, "InvalidSender",
     "short code (FROM) not valid for the account"),
    ("E112", _S.ACCOUNT, _V.ACCOUNT_REFUSED, "PermissionDenied",
     "caller's IP address not allow-listed"),
    ("E113", _S.THROTTLE, _V.NOT_SENT, "Throttled", "throughput set for this action exceeded"),
    ("E114", _S.MESSAGE, _V.REJECTED, "RecipientBlocked", "recipient is on the block list"),
    ("E120", _S.ACCOUNT, _V.ACCOUNT_REFUSED, "QuotaExhausted",
     "account reached its API request limit"),
    ("E201", _S.MESSAGE, _V.REJECTED, "InvalidRecipient", "recipient number missing"),
    ("E503", _S.UNKNOWN, _V.IN_DOUBT, "OutcomeUnknown",
     "internal error at Skycore; whether the message was taken is not said"),
    ("E506", _S.REQUEST, _V.REQUEST_REFUSED, "InvalidRequest",
     "start or end of the report's period missing"),
    ("E507", _S.REQUEST, _V.REQUEST_REFUSED, "InvalidRequest",
     "start of the report's period not valid"),
    ("E508", _S.REQUEST, _V.REQUEST_REFUSED, "InvalidRequest",
     "end of the report's period not valid"),
    ("E509", _S.REQUEST, _V.REQUEST_REFUSED, "PeriodTooLong",
     "the report's period is too long for the account"),
    ("E510", _S.THROTTLE, _V.NOT_SENT, "Throttled",
     "reports are looked up too frequently for the account"),
    ("E621", _S.MESSAGE, _V.REJECTED, "InvalidRecipient", "TO missing"),
    ("E623", _S.MESSAGE, _V.REJECTED, "Rejected", "too many numbers in TO"),
    ("E628", _S.MESSAGE, _V.REJECTED, "OperatorNotSupported",
     "recipient's operator not supported"),
    ("E650", _S.MESSAGE, _V.REJECTED, "OperatorNotSupported", "operator id missing"),
    ("E651", _S.MESSAGE, _V.REJECTED, "OperatorNotSupported", "operator id (SPID) not known"),
    ("E712", _S.MESSAGE, _V.REJECTED, "InvalidText", "TEXT missing"),
    ("E713", _S.ACCOUNT, _V.ACCOUNT_REFUSED, "BillingProblem", "billing problem on the account"),
    ("E714", _S.CAMPAIGN, _V.CAMPAIGN_REFUSED, "InvalidCampaign",
     "campaign id missing or not valid"),
    ("E715", _S.MESSAGE, _V.REJECTED, "NotSubscribed",
     "recipient is not subscribed to the campaign"),
)
# fmt: on

API_ERRORS: Final[dict[str, ApiError]] = {
    code: ApiError(code=code, meaning=meaning, scope=scope, verdict=verdict, error=error)
    for code, scope, verdict, error, meaning in _API_ERROR_ROWS
}

CODE_STATES: Final[dict[str, DeliveryState]] = {
    "N201": DeliveryState.SENT,
    "N202": DeliveryState.DELIVERED,
    "E201": DeliveryState.FAILED,
    "E202": DeliveryState.FAILED,
}

STATUS_TEXTS: Final[dict[str, tuple[DeliveryState, FailureReason | None]]] = {
    "message sent": (DeliveryState.SENT, None),
    "message failed": (DeliveryState.FAILED, FailureReason.UNKNOWN),
    "message sent/delivered": (DeliveryState.DELIVERED, None),
    "message sent/failed": (DeliveryState.FAILED, FailureReason.UNKNOWN),
    "message sent/expired": (DeliveryState.FAILED, FailureReason.EXPIRED),
    "message sent/rejected": (DeliveryState.FAILED, FailureReason.UNKNOWN),
    "message sent/notsupported": (DeliveryState.FAILED, FailureReason.UNKNOWN),
}


def carrier_status(protocol: str, status: str) -> CarrierStatus | None:
    """Look up an aggregator's status pair.

    `protocol` and `status` are the digits of the STATUS element's attributes.
    Returns None for a pair that the provider does not document.
    """
    return _carrier_statuses().get((protocol, status))


@functools.cache
def _carrier_statuses() -> dict[tuple[str, str], CarrierStatus]:
    # Read at the first receipt and not at import: most programs never parse one.
    import csv  # noqa: PLC0415
    from importlib import resources  # noqa: PLC0415

    table = resources.files("skycore_async").joinpath("carrier_status.csv").read_text("utf-8")
    return {
        (row["protocol"], row["status"]): CarrierStatus(
            state=DeliveryState(row["state"]),
            reason=FailureReason(row["reason"]) if row["reason"] else None,
            meaning=row["meaning"],
        )
        for row in csv.DictReader(table.splitlines())
    }
