"""Send SMS through Skycore from async Python, and know what became of each one.

Everything public is importable from here; each name is loaded at its first
use, so that parsing postbacks loads no HTTP client.

Rules:

* A name that needs an extra which is not installed is no part of
  `from skycore_async import *`; to import it by its name says what to install.
* The kinds of notifications are named in `notifications` alone, and are public all the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from . import notifications
    from .client import SkycoreClient
    from .codes import DeliveryState, FailureReason, Scope, Verdict
    from .errors import (
        AuthenticationFailed,
        BillingProblem,
        CampaignError,
        ConfigurationError,
        InvalidCampaign,
        InvalidMessage,
        InvalidRecipient,
        InvalidRequest,
        InvalidSender,
        InvalidText,
        KeyConflict,
        LedgerError,
        LedgerInUse,
        LookupTooSoon,
        NotRecorded,
        NotSent,
        NotSubscribed,
        OperatorNotSupported,
        OutcomeUnknown,
        PeriodTooLong,
        PermissionDenied,
        PostbackError,
        QuotaExhausted,
        RecipientBlocked,
        RecipientOptedOut,
        Rejected,
        ReportError,
        SendingHalted,
        SkycoreError,
        Throttled,
    )
    from .ledger.export import ExportedMessage
    from .ledger.interface import Ledger
    from .ledger.model import Delivery, MessageState, SendIntent, Submission, Summary
    from .ledger.opt_outs import OptOut, OptOutRule
    from .ledger.postgres.ledger import PostgresLedger
    from .ledger.pruning import Pruned
    from .ledger.report_evidence import OpenReason
    from .ledger.report_values import OpenDoubt, SavedReport, Settlement
    from .ledger.sqlite.ledger import SQLiteLedger
    from .ledger.sqlite.memory import MemoryLedger
    from .ledger.sqlite.user_opt_outs import share_opt_outs
    from .limits.base import Limiter
    from .limits.local import RateLimiter
    from .limits.postgres import PostgresLimiter
    from .messages import SMS, Accepted, Failed, Outcome, ReportedMessage, ReportSection
    from .notifications import *  # noqa: F403 - as `__all__` has them there
    from .postbacks import parse_postback
    from .protocol.national_numbers import NationalNumbers
    from .protocol.numbers import NumberReader
    from .protocol.segments import Encoding, NonGSMCharacter, Segments, segments
    from .receiving.inbox import PostbackInbox
    from .receiving.receiver import PostbackReceiver
    from .sending.bulk import BulkSend
    from .sending.report import SendingReport
    from .sending.settings import Method, Options
    from .sending.sources import Source
    from .sync import SyncClient
    from .telemetry import Telemetry
    from .transports.base import Request, Response, Transport
    from .transports.choice import Road
    from .transports.direct import DirectTransport
    from .transports.http_client import AsyncHTTPClient
    from .transports.httpx import HttpxTransport
    from .version import __version__

__all__ = [
    "SMS",
    "Accepted",
    "AsyncHTTPClient",
    "AuthenticationFailed",
    "BillingProblem",
    "BulkSend",
    "CampaignError",
    "ConfigurationError",
    "Delivery",
    "DeliveryState",
    "DirectTransport",
    "Encoding",
    "ExportedMessage",
    "Failed",
    "FailureReason",
    "HttpxTransport",
    "InvalidCampaign",
    "InvalidMessage",
    "InvalidRecipient",
    "InvalidRequest",
    "InvalidSender",
    "InvalidText",
    "KeyConflict",
    "Ledger",
    "LedgerError",
    "LedgerInUse",
    "Limiter",
    "LookupTooSoon",
    "MemoryLedger",
    "MessageState",
    "Method",
    "NationalNumbers",
    "NonGSMCharacter",
    "NotRecorded",
    "NotSent",
    "NotSubscribed",
    "NumberReader",
    "OpenDoubt",
    "OpenReason",
    "OperatorNotSupported",
    "OptOut",
    "OptOutRule",
    "Options",
    "Outcome",
    "OutcomeUnknown",
    "PeriodTooLong",
    "PermissionDenied",
    "PostbackError",
    "PostbackInbox",
    "PostbackReceiver",
    "PostgresLedger",
    "PostgresLimiter",
    "Pruned",
    "QuotaExhausted",
    "RateLimiter",
    "RecipientBlocked",
    "RecipientOptedOut",
    "Rejected",
    "ReportError",
    "ReportSection",
    "ReportedMessage",
    "Request",
    "Response",
    "Road",
    "SQLiteLedger",
    "SavedReport",
    "Scope",
    "Segments",
    "SendIntent",
    "SendingHalted",
    "SendingReport",
    "Settlement",
    "SkycoreClient",
    "SkycoreError",
    "Source",
    "Submission",
    "Summary",
    "SyncClient",
    "Telemetry",
    "Throttled",
    "Transport",
    "Verdict",
    "__version__",
    "parse_postback",
    "segments",
    "share_opt_outs",
]
if TYPE_CHECKING:
    __all__ += notifications.__all__

_MODULES: Final = {
    "client": ("SkycoreClient",),
    "ledger.postgres.ledger": ("PostgresLedger",),
    "limits.postgres": ("PostgresLimiter",),
    "codes": ("DeliveryState", "FailureReason", "Scope", "Verdict"),
    "ledger.export": ("ExportedMessage",),
    "ledger.interface": ("Ledger",),
    "ledger.model": (
        "Delivery",
        "MessageState",
        "SendIntent",
        "Submission",
        "Summary",
    ),
    "ledger.opt_outs": ("OptOut", "OptOutRule"),
    "ledger.pruning": ("Pruned",),
    "ledger.report_evidence": ("OpenReason",),
    "ledger.report_values": ("OpenDoubt", "SavedReport", "Settlement"),
    "ledger.sqlite.memory": ("MemoryLedger",),
    "ledger.sqlite.ledger": ("SQLiteLedger",),
    "ledger.sqlite.user_opt_outs": ("share_opt_outs",),
    "limits.base": ("Limiter",),
    "limits.local": ("RateLimiter",),
    "messages": ("SMS", "Accepted", "Failed", "Outcome", "ReportSection", "ReportedMessage"),
    "postbacks": ("parse_postback",),
    "receiving.inbox": ("PostbackInbox",),
    "receiving.receiver": ("PostbackReceiver",),
    "sending.bulk": ("BulkSend",),
    "sending.report": ("SendingReport",),
    "sending.settings": ("Method", "Options"),
    "sending.sources": ("Source",),
    "sync": ("SyncClient",),
    "telemetry": ("Telemetry",),
    "protocol.national_numbers": ("NationalNumbers",),
    "protocol.numbers": ("NumberReader",),
    "protocol.segments": ("Encoding", "NonGSMCharacter", "Segments", "segments"),
    "transports.base": ("Request", "Response", "Transport"),
    "transports.choice": ("Road",),
    "transports.direct": ("DirectTransport",),
    "transports.http_client": ("AsyncHTTPClient",),
    "transports.httpx": ("HttpxTransport",),
    "version": ("__version__",),
}
# Taken from where `import *` would find it, so that `__getattr__` is asked for it instead.
_PUBLIC: Final[tuple[str, ...]] = tuple(globals().pop("__all__"))
_MODULE_OF: Final = {name: module for module, names in _MODULES.items() for name in names}


def _load(name: str) -> Any:
    if name == "__all__":
        return list(_available())
    if name in _PUBLIC:
        module = _MODULE_OF.get(name, "errors")
    elif name in _public():
        module = "notifications"
    else:
        raise _no_attribute(name)
    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


if not TYPE_CHECKING:  # as type checkers would take any name for one that is there
    __getattr__ = _load


def _public() -> Sequence[str]:
    from .notifications import __all__ as kinds  # noqa: PLC0415 - only where they are asked for

    return *_PUBLIC, *kinds


def _no_attribute(name: str) -> AttributeError:
    from difflib import get_close_matches  # noqa: PLC0415 - for what is wrong alone

    near = [] if name.startswith("_") else get_close_matches(name, _public(), n=1)
    hint = f": did you mean {near[0]!r}?" if near else ""
    # Python would look for a near one itself, to say it a second time.
    return AttributeError(
        f"module {__name__!r} has no attribute {name!r}{hint}", name=name, obj=None
    )


def _available() -> Iterator[str]:
    from .runtime.extras import MissingExtra  # noqa: PLC0415 - only for `import *`

    for name in _public():
        with suppress(MissingExtra):
            getattr(sys.modules[__name__], name)
            yield name


def __dir__() -> list[str]:
    return sorted(_public())
