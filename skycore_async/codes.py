"""The codes Skycore speaks in: API errors, notifications, carrier status.

Every table is total over what the provider documents; what is in no table is
unknown, and is never guessed to be good or bad news.  The tables are facts of
the provider's 1.3 documentation (2011 to 2015 editions).

* `API_ERRORS`: an ERRORCODE of a RESPONSE, and what else would fail with it.
* `CODE_STATES`: what the CODE of a notification about a sent SMS says by itself.
* `STATUS_TEXTS`: the STATUS element of the flat POSTBACK form.
* `carrier_status`: the (PROTOCOL, STATUS) pair of an aggregator, from the 254
  documented pairs in `carrier_status.csv` beside this module.
"""

from __future__ import annotations

import csv
import enum
import functools
from typing import Final

import attrs


class Scope(enum.StrEnum):
    """What else would be refused the same way as the message that was refused."""

    MESSAGE = "message"
    SENDER = "sender"
    CAMPAIGN = "campaign"
    ACCOUNT = "account"
    REQUEST = "request"
    THROTTLE = "throttle"
    UNKNOWN = "unknown"


class DeliveryState(enum.StrEnum):
    """How far a message got; `UNKNOWN` when the provider's code is in no table."""

    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    UNKNOWN = "unknown"


class FailureReason(enum.StrEnum):
    """Why a message failed, in groups that call for the same reaction."""

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
    """A documented ERRORCODE: its scope and its meaning in words."""

    scope: Scope
    meaning: str


@attrs.frozen(kw_only=True)
class CarrierStatus:
    """What an aggregator's (PROTOCOL, STATUS) pair says of a message."""

    state: DeliveryState
    reason: FailureReason | None
    meaning: str


def _api_error(scope: Scope, meaning: str) -> ApiError:
    return ApiError(scope=scope, meaning=meaning)


API_ERRORS: Final[dict[str, ApiError]] = {
    "E100": _api_error(Scope.REQUEST, "request incomplete or not understood"),
    "E101": _api_error(Scope.REQUEST, "action missing or unknown"),
    "E102": _api_error(Scope.ACCOUNT, "user or API key missing"),
    "E103": _api_error(Scope.ACCOUNT, "password digest missing"),
    "E104": _api_error(Scope.ACCOUNT, "authentication failed"),
    "E105": _api_error(Scope.ACCOUNT, "account has no API rights"),
    "E106": _api_error(Scope.THROTTLE, "calls are allowed only every X seconds"),
    "E107": _api_error(Scope.ACCOUNT, "account may not use this action"),
    "E108": _api_error(Scope.REQUEST, "request XML could not be parsed"),
    "E109": _api_error(Scope.ACCOUNT, "API not activated for the account"),
    "E110": _api_error(Scope.MESSAGE, "recipient number not valid"),
    "E111": _api_error(Scope.SENDER, "short code (FROM) not valid for the account"),
    "E112": _api_error(Scope.ACCOUNT, "caller's IP address not allow-listed"),
    "E113": _api_error(Scope.THROTTLE, "throughput set for this action exceeded"),
    "E114": _api_error(Scope.MESSAGE, "recipient is on the block list"),
    "E120": _api_error(Scope.ACCOUNT, "account reached its API request limit"),
    "E201": _api_error(Scope.MESSAGE, "recipient number missing"),
    "E503": _api_error(
        Scope.UNKNOWN, "internal error at Skycore; whether the message was taken is not said"
    ),
    "E621": _api_error(Scope.MESSAGE, "TO missing"),
    "E623": _api_error(Scope.MESSAGE, "too many numbers in TO"),
    "E628": _api_error(Scope.MESSAGE, "recipient's operator not supported"),
    "E650": _api_error(Scope.MESSAGE, "operator id missing"),
    "E651": _api_error(Scope.MESSAGE, "operator id (SPID) not known"),
    "E712": _api_error(Scope.MESSAGE, "TEXT missing"),
    "E713": _api_error(Scope.ACCOUNT, "billing problem on the account"),
    "E714": _api_error(Scope.CAMPAIGN, "campaign id missing or not valid"),
    "E715": _api_error(Scope.MESSAGE, "recipient is not subscribed to the campaign"),
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
    # Read at the first receipt and not at import: most programs that import
    # the package never parse one.
    from importlib import resources

    table = resources.files("skycore_async").joinpath("carrier_status.csv").read_text("utf-8")
    return {
        (row["protocol"], row["status"]): CarrierStatus(
            state=DeliveryState(row["state"]),
            reason=FailureReason(row["reason"]) if row["reason"] else None,
            meaning=row["meaning"],
        )
        for row in csv.DictReader(table.splitlines())
    }
