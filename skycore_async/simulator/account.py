"""The account at the pretend Skycore, and the requests that it refuses.

A request passes a table of checks in the provider's order, from its required fields to the state
of the account; the first check that fails gives the documented code.  The rate of calls is checked
last, by `CallRate`: only calls that would have been taken count.

Pure: requests are bytes and text, time is a number that the caller passes.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import attrs

from ..protocol import safe_xml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

API_KEY: Final = "simulator-key"
SHORT_CODE: Final = "60856"

_NUMBER: Final = re.compile(r"(?!00)[0-9]{5,15}")
_SEVERAL: Final = re.compile(r"[,;]")
# Floats for times since the epoch are inexact by fractions of a microsecond.
_ROUNDING: Final = 1e-6


def _frozenset(values: Iterable[str]) -> frozenset[str]:
    return frozenset(values)


def _subscribers(campaigns: Mapping[str, Iterable[str]]) -> Mapping[str, frozenset[str]]:
    return MappingProxyType({ref: frozenset(numbers) for ref, numbers in campaigns.items()})


@attrs.frozen(kw_only=True)
class Account:
    """The settings of the account.

    * `api_keys`: the keys that authenticate (`"simulator-key"`).
    * `short_codes`: the values that FROM may have (`"60856"`); empty for any.
    * `enforce_campaign_check`: refuse a message whose CAMPAIGNREF is missing or
      not in `campaigns` (E714), or whose recipient is not a subscriber (E715).
    * `campaigns`: the numbers subscribed to each campaign, by its reference.
    * `operators`: the SPIDs that are known (others E651); empty for any.
    * `unsupported_operators`: SPIDs that are refused (E628).
    * `billing_hold`: refuse everything (E713).
    * `rate`: throughput in messages per second (over it, E113), with bursts of
      one second's worth; None for any.
    * `min_interval`: the least time between two calls in seconds (E106).
    * `report_period`: the longest period of a sending report in seconds (E509); None for any.
    * `report_interval`: the least time between two look-ups of one in seconds (E510).
    * `reports_a_day`: how many look-ups there may be in 24 hours (E120); None for any number.
    """

    api_keys: frozenset[str] = attrs.field(
        default=frozenset({API_KEY}), converter=_frozenset, repr=False
    )
    short_codes: frozenset[str] = attrs.field(
        default=frozenset({SHORT_CODE}), converter=_frozenset
    )
    enforce_campaign_check: bool = False
    campaigns: Mapping[str, frozenset[str]] = attrs.field(
        default=MappingProxyType[str, frozenset[str]]({}), converter=_subscribers
    )
    operators: frozenset[str] = attrs.field(default=frozenset[str](), converter=_frozenset)
    unsupported_operators: frozenset[str] = attrs.field(
        default=frozenset[str](), converter=_frozenset
    )
    billing_hold: bool = False
    rate: float | None = None
    min_interval: float = 0.0
    report_period: float | None = None
    report_interval: float = 0.0
    reports_a_day: int | None = None


class RequestRefused(Exception):
    """The request could not be read; `code` is the ERRORCODE to answer with."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@attrs.frozen(kw_only=True)
class SubmitRequest:
    """The fields of a request as they came; a missing field is empty.

    White space around them is stripped, except around TEXT, where it is content.
    """

    action: str = ""
    api_key: str = attrs.field(default="", repr=False)
    to: str = ""
    text: str = ""
    from_: str = ""
    campaign_ref: str = ""
    spid: str = ""
    operator_id: str = ""
    from_mask: str = ""
    start_date: str = ""
    end_date: str = ""

    @property
    def operator(self) -> str:
        """The recipient's carrier, from the field of either edition; empty if neither came."""
        return self.spid or self.operator_id


_FIELDS: Final[Mapping[str, str]] = {
    "ACTION": "action",
    "API_KEY": "api_key",
    "TO": "to",
    "FROM": "from_",
    "CAMPAIGNREF": "campaign_ref",
    "SPID": "spid",
    "OPERATORID": "operator_id",
    "FROM_MASK": "from_mask",
    "START_DATE": "start_date",
    "END_DATE": "end_date",
}


def read_form(body: bytes) -> SubmitRequest:
    """Read a POST: a REQUEST document in the form field `xml`.

    Raises RequestRefused with E100 if there is no REQUEST, and with E108 if it is
    not readable XML.
    """
    # Latin-1 maps every byte to itself, so the document's own declaration decides
    # how it is decoded.
    form = parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    documents = [value for name, value in form if name.lower() == "xml"]
    if not documents:
        raise RequestRefused("E100")
    try:
        root, fields = safe_xml.parse(documents[0].encode("latin-1"))
    except safe_xml.XMLRefused as error:
        raise RequestRefused("E108") from error
    if root != "REQUEST" or not isinstance(fields, dict):
        raise RequestRefused("E100")
    return _request(fields)


def read_query(query: bytes) -> SubmitRequest:
    """Read a GET: the same fields in the query string, in lower case.

    Raises RequestRefused with E100 if it is not UTF-8.
    """
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise RequestRefused("E100") from error
    return _request(dict(pairs))


def _request(fields: Mapping[str, Any]) -> SubmitRequest:
    named = {name.upper(): value or "" for name, value in fields.items()}
    texts = {name: named.get(name, "") for name in ("TEXT", *_FIELDS)}
    if not all(isinstance(value, str) for value in texts.values()):
        raise RequestRefused("E100")
    stripped = {attribute: texts[name].strip() for name, attribute in _FIELDS.items()}
    return SubmitRequest(text=texts["TEXT"], **stripped)


def code_against(request: SubmitRequest, account: Account) -> str | None:
    """Return the ERRORCODE that `account` refuses `request` with, None if it does not."""
    return next((code for code, fails in _CHECKS if fails(request, account)), None)


def _is_unknown_sender(request: SubmitRequest, account: Account) -> bool:
    return not request.from_ or not _is_in(account.short_codes, request.from_)


def _is_unknown_campaign(request: SubmitRequest, account: Account) -> bool:
    return account.enforce_campaign_check and request.campaign_ref not in account.campaigns


def _is_not_subscribed(request: SubmitRequest, account: Account) -> bool:
    return (
        account.enforce_campaign_check
        and request.to not in account.campaigns[request.campaign_ref]
    )


def _is_unknown_operator(request: SubmitRequest, account: Account) -> bool:
    return bool(request.operator) and not _is_in(account.operators, request.operator)


def _is_in(values: frozenset[str], value: str) -> bool:
    return not values or value in values


# In the provider's order.  For a missing TO, sendSMS documents E201 and not E621.
_CHECKS: Final[tuple[tuple[str, Callable[[SubmitRequest, Account], bool]], ...]] = (
    ("E101", lambda request, _: request.action.lower() != "sendsms"),
    ("E102", lambda request, _: not request.api_key),
    ("E104", lambda request, account: request.api_key not in account.api_keys),
    ("E201", lambda request, _: not request.to),
    ("E623", lambda request, _: bool(_SEVERAL.search(request.to))),
    ("E110", lambda request, _: not _NUMBER.fullmatch(request.to)),
    ("E712", lambda request, _: not request.text.strip()),
    ("E111", _is_unknown_sender),
    ("E714", _is_unknown_campaign),
    ("E715", _is_not_subscribed),
    ("E651", _is_unknown_operator),
    ("E628", lambda request, account: request.operator in account.unsupported_operators),
    ("E713", lambda _, account: account.billing_hold),
)


class CallRate:
    """Checks whether calls come too fast for an account, by a reservation clock for each limit.

    A refused call reserves nothing.
    """

    def __init__(self) -> None:
        self._free_at: dict[str, float] = {}

    def code_against(self, account: Account, now: float) -> str | None:
        """Return E106 or E113 if a call at `now` (seconds) is too early; else count it: None."""
        limits = _limits(account)
        for limit in limits:
            if now < self._free_at.get(limit.code, now) - limit.tolerance:
                return limit.code
        for limit in limits:
            free_at = max(self._free_at.get(limit.code, now), now)
            self._free_at[limit.code] = free_at + limit.interval
        return None


@attrs.frozen(kw_only=True)
class _Limit:
    code: str
    interval: float
    tolerance: float


def _limits(account: Account) -> tuple[_Limit, ...]:
    every = _Limit(code="E106", interval=account.min_interval, tolerance=0.0)
    if account.rate is None:
        return (every,)
    interval = 1 / account.rate
    burst = _Limit(code="E113", interval=interval, tolerance=max(1.0 - interval, 0.0) + _ROUNDING)
    return every, burst
