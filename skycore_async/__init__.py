"""Send SMS through Skycore from async Python, and know what became of each one.

Everything public is importable from here; each name is loaded at its first
use, so that parsing postbacks loads no HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .client import SkycoreClient
    from .cluster.ledger import PostgresLedger
    from .cluster.limiter import PostgresLimiter
    from .codes import DeliveryState, FailureReason, Scope
    from .errors import (
        AuthenticationFailed,
        BillingProblem,
        ConfigurationError,
        InvalidCampaign,
        InvalidMessage,
        InvalidRecipient,
        InvalidRequest,
        InvalidSender,
        InvalidText,
        KeyConflict,
        LedgerError,
        NotSent,
        NotSubscribed,
        OperatorNotSupported,
        OutcomeUnknown,
        PermissionDenied,
        PostbackError,
        QuotaExhausted,
        RecipientBlocked,
        RecipientOptedOut,
        Rejected,
        SendingHalted,
        SkycoreError,
        Throttled,
    )
    from .ledger.base import Delivery, Ledger, MessageState, Summary
    from .ledger.memory import MemoryLedger
    from .ledger.sqlite import SQLiteLedger
    from .limiter import Limiter, RateLimiter
    from .messages import (
        SMS,
        Accepted,
        DeliveryReceipt,
        Failed,
        InboundSMS,
        Notification,
        Outcome,
        SentNotification,
        SubscriptionChange,
        UnknownNotification,
    )
    from .postbacks import parse_postback
    from .receiver import PostbackReceiver
    from .telemetry import Telemetry
    from .text import Encoding, NonGSMCharacter, Segments, segments
    from .transports.aiohttp import AiohttpTransport
    from .transports.base import Request, Response, Transport
    from .transports.httpx import HttpxTransport
    from .version import __version__

__all__ = [
    "SMS",
    "Accepted",
    "AiohttpTransport",
    "AuthenticationFailed",
    "BillingProblem",
    "ConfigurationError",
    "Delivery",
    "DeliveryReceipt",
    "DeliveryState",
    "Encoding",
    "Failed",
    "FailureReason",
    "HttpxTransport",
    "InboundSMS",
    "InvalidCampaign",
    "InvalidMessage",
    "InvalidRecipient",
    "InvalidRequest",
    "InvalidSender",
    "InvalidText",
    "KeyConflict",
    "Ledger",
    "LedgerError",
    "Limiter",
    "MemoryLedger",
    "MessageState",
    "NonGSMCharacter",
    "NotSent",
    "NotSubscribed",
    "Notification",
    "OperatorNotSupported",
    "Outcome",
    "OutcomeUnknown",
    "PermissionDenied",
    "PostbackError",
    "PostbackReceiver",
    "PostgresLedger",
    "PostgresLimiter",
    "QuotaExhausted",
    "RateLimiter",
    "RecipientBlocked",
    "RecipientOptedOut",
    "Rejected",
    "Request",
    "Response",
    "SQLiteLedger",
    "Scope",
    "Segments",
    "SendingHalted",
    "SentNotification",
    "SkycoreClient",
    "SkycoreError",
    "SubscriptionChange",
    "Summary",
    "Telemetry",
    "Throttled",
    "Transport",
    "UnknownNotification",
    "__version__",
    "parse_postback",
    "segments",
]

_ROOMS: Final = {
    "client": ("SkycoreClient",),
    "cluster.ledger": ("PostgresLedger",),
    "cluster.limiter": ("PostgresLimiter",),
    "codes": ("DeliveryState", "FailureReason", "Scope"),
    "ledger.base": ("Delivery", "Ledger", "MessageState", "Summary"),
    "ledger.memory": ("MemoryLedger",),
    "ledger.sqlite": ("SQLiteLedger",),
    "limiter": ("Limiter", "RateLimiter"),
    "messages": (
        "SMS",
        "Accepted",
        "DeliveryReceipt",
        "Failed",
        "InboundSMS",
        "Notification",
        "Outcome",
        "SentNotification",
        "SubscriptionChange",
        "UnknownNotification",
    ),
    "postbacks": ("parse_postback",),
    "receiver": ("PostbackReceiver",),
    "telemetry": ("Telemetry",),
    "text": ("Encoding", "NonGSMCharacter", "Segments", "segments"),
    "transports.aiohttp": ("AiohttpTransport",),
    "transports.base": ("Request", "Response", "Transport"),
    "transports.httpx": ("HttpxTransport",),
    "version": ("__version__",),
}
_HOMES: Final = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
