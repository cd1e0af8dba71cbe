"""The notes below an error's text in a traceback: whether it costs money, and what to do next.

Strategy: a table by the name of the error's class; an error whose class has no row takes the
row of its base class.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

# How to mend a refusal of the whole account.
_CURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "AuthenticationFailed": "See that the API key is all there, and that of this account.",
        "BillingProblem": "Ask Skycore about the bill of this account.",
        "PermissionDenied": "Ask Skycore what this account may do.",
        "QuotaExhausted": "Ask Skycore for a larger quota, or wait until it begins anew.",
    }
)
_ADVICE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "InvalidMessage": "Nothing was sent or billed: mend what it names, and send it.",
        "KeyConflict": "Nothing was sent now. Under another key this would be one more message,"
        " and billed.",
        "NotSent": "It was not sent, and is not billed: it is safe to send it again.",
        "NotRecorded": "Nothing was sent or billed: mend the ledger, and send it again.",
        "SendingHalted": "What was not begun is not billed: mend what the rejection names, and run"
        " it again.",
        "RecipientOptedOut": "Nothing was sent or billed: do not try again before it says START.",
        "Rejected": "Skycore refused it: nothing was sent or billed. Mend what the code names.",
        **{
            name: f"Skycore refused it: nothing was sent or billed. {cure}"
            for name, cure in _CURES.items()
        },
        "OutcomeUnknown": "It may have been sent, and billed: do not send it again. Its postbacks"
        " tell, and so do client.settle() and `skycore settle` where there is a ledger.",
    }
)


def cure_for(kind: type) -> str | None:
    """Return how to mend an error of this class, if it is a refusal of the account."""
    return _CURES.get(kind.__name__)


@cache
def advice_for(classes: tuple[type, ...]) -> tuple[str, ...]:
    """Return the advice of the first of these classes that has any: one text, or none."""
    return tuple(_ADVICE[kind.__name__] for kind in classes if kind.__name__ in _ADVICE)[:1]
