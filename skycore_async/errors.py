"""Every way in which sending can fail, told apart by what it says of the message.

    SkycoreError
    ├── CampaignError                      there is no such campaign, or it cannot be changed so
    ├── ConfigurationError (ValueError)    the client cannot work as set up
    ├── InvalidMessage (ValueError)        refused here; nothing was sent
    │   └── KeyConflict (ValueError)       its key was used for other content
    ├── LedgerError                        the ledger cannot be opened, read or written
    │   └── LedgerInUse                    another process has it open
    ├── NotSent                            proven not sent; safe to send again
    │   ├── RecipientOptedOut              the number may not be sent to
    │   ├── SendingHalted                  the account was refused; nothing more is sent
    │   └── Throttled                      refused for pace: E106, E113, HTTP 429
    ├── Rejected                           the API answered Failure
    │   ├── AuthenticationFailed           E102 E103 E104
    │   ├── BillingProblem                 E713
    │   ├── InvalidCampaign                E714
    │   ├── InvalidRecipient               E110 E201 E621
    │   ├── InvalidRequest                 E100 E101 E108
    │   ├── InvalidSender                  E111
    │   ├── InvalidText                    E712
    │   ├── NotSubscribed                  E715
    │   ├── OperatorNotSupported           E628 E650 E651
    │   ├── PermissionDenied               E105 E107 E109 E112
    │   ├── QuotaExhausted                 E120
    │   └── RecipientBlocked               E114
    ├── OutcomeUnknown                     it may have been sent: never send again blindly
    └── PostbackError (ValueError)         what came to the postback URL is no postback

Rules: `NotSent` needs proof; what is unclear is `OutcomeUnknown`.  An error
never holds the API key, and survives pickling with its cause.
"""

from __future__ import annotations

import pickle
from typing import Any, ClassVar, Final

from .codes import API_ERRORS, Scope


class SkycoreError(Exception):
    """Base of every error that this package raises on purpose.

    `may_have_been_sent` is True where the message may have reached the
    provider without a clear answer.
    """

    may_have_been_sent: ClassVar[bool] = False

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own way would call the class with `args` alone, which a
        # keyword-only constructor refuses, and would drop the cause.
        return _restore, (type(self), self.args, self.__dict__, _packed(self.__cause__))


def _restore(
    cls: type[SkycoreError], args: tuple[Any, ...], state: dict[str, Any], cause: bytes | None
) -> SkycoreError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    error.__cause__ = None if cause is None else _unpacked(cause)
    return error


# A cause is packed by itself: a foreign exception may fail to pickle, or to be made
# again, in any way, and is left behind then.
def _packed(cause: BaseException | None) -> bytes | None:
    try:
        return None if cause is None else pickle.dumps(cause)
    except Exception:  # noqa: BLE001
        return None


def _unpacked(cause: bytes) -> BaseException | None:
    try:
        made: BaseException = pickle.loads(cause)  # noqa: S301 - part of what is being read
    except Exception:  # noqa: BLE001
        return None
    return made


class ConfigurationError(SkycoreError, ValueError):
    """The client cannot work as it was set up, as when it has no API key."""


class CampaignError(SkycoreError):
    """There is no such campaign, or it cannot be changed so; the text says why."""


class InvalidMessage(SkycoreError, ValueError):
    """The message was refused before anything was sent.

    `field` is the argument at fault, such as `"to"` or `"text"`.
    """

    def __init__(self, reason: str, *, field: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field


class KeyConflict(InvalidMessage):
    """The ledger knows this key with another number, text or sender; nothing was sent."""

    def __init__(self, used: str) -> None:
        super().__init__(f"{used[:80]!r} was used for a message with other content", field="key")


class LedgerError(SkycoreError):
    """The ledger cannot be opened, read or written; the text says why and what to do."""


class LedgerInUse(LedgerError):
    """Another process has the ledger open, or another ledger in this one."""


class NotSent(SkycoreError):
    """No byte of the request can have been acted on; sending again is safe."""


class RecipientOptedOut(NotSent):
    """The number said STOP, or is blocked: it may not be sent to until it says START."""


class SendingHalted(NotSent):
    """A bulk send stopped, because what refused one message would refuse them all.

    Its cause is the rejection.  Nothing was started after it; every outcome of
    what had been started was given before.
    """


class Throttled(NotSent):
    """The API refused the message for pace; it may be sent again later.

    `retry_after` is the server's wish in seconds, None where it gave none.
    `code` and `info` are the ERRORCODE and ERRORINFO of the answer, None where
    HTTP 429 came without them.
    """

    def __init__(
        self,
        reason: str,
        *,
        code: str | None = None,
        info: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.info = info
        self.retry_after = retry_after


class Rejected(SkycoreError):
    """The API answered Failure; nothing was sent.

    `code` is the ERRORCODE (None where the answer had none), `info` the
    ERRORINFO, and `scope` says what else would be refused the same way.
    """

    def __init__(self, *, code: str | None, info: str | None = None) -> None:
        known = API_ERRORS.get(code or "")
        self.code = code
        self.info = info
        self.scope = known.scope if known else Scope.UNKNOWN
        said = info or (known.meaning if known else "the API gave no reason")
        super().__init__(f"{code or 'no error code'}: {said}")

    @classmethod
    def of(cls, *, code: str | None, info: str | None = None) -> Rejected:
        """Make the rejection of the class that `code` calls for."""
        return _REJECTIONS.get(code or "", Rejected)(code=code, info=info)


class AuthenticationFailed(Rejected):
    """The API key is missing or wrong (E102, E103, E104)."""


class BillingProblem(Rejected):
    """There is a billing problem on the account (E713)."""


class InvalidCampaign(Rejected):
    """The campaign reference is missing or not valid (E714)."""


class InvalidRecipient(Rejected):
    """The recipient's number is missing or not valid (E110, E201, E621)."""


class InvalidRequest(Rejected):
    """The API did not understand the request (E100, E101, E108)."""


class InvalidSender(Rejected):
    """The short code is not valid for the account (E111)."""


class InvalidText(Rejected):
    """The text is missing (E712)."""


class NotSubscribed(Rejected):
    """The recipient is not subscribed to the campaign (E715)."""


class OperatorNotSupported(Rejected):
    """The recipient's operator is not supported or not known (E628, E650, E651)."""


class PermissionDenied(Rejected):
    """The account, or this address, may not do this (E105, E107, E109, E112)."""


class QuotaExhausted(Rejected):
    """The account reached its API request limit (E120)."""


class RecipientBlocked(Rejected):
    """The recipient is on the block list (E114)."""


_REJECTIONS: Final[dict[str, type[Rejected]]] = {
    "E100": InvalidRequest,
    "E101": InvalidRequest,
    "E102": AuthenticationFailed,
    "E103": AuthenticationFailed,
    "E104": AuthenticationFailed,
    "E105": PermissionDenied,
    "E107": PermissionDenied,
    "E108": InvalidRequest,
    "E109": PermissionDenied,
    "E110": InvalidRecipient,
    "E111": InvalidSender,
    "E112": PermissionDenied,
    "E114": RecipientBlocked,
    "E120": QuotaExhausted,
    "E201": InvalidRecipient,
    "E621": InvalidRecipient,
    "E628": OperatorNotSupported,
    "E650": OperatorNotSupported,
    "E651": OperatorNotSupported,
    "E712": InvalidText,
    "E713": BillingProblem,
    "E714": InvalidCampaign,
    "E715": NotSubscribed,
}


class OutcomeUnknown(SkycoreError):
    """The message may have been sent: something went wrong after bytes could leave.

    Sending again may bill and deliver it twice.  `http_status` is the status
    of the answer, None where no answer came; `code` is E503 where that was
    the answer.
    """

    may_have_been_sent: ClassVar[bool] = True

    def __init__(
        self, reason: str, *, http_status: int | None = None, code: str | None = None
    ) -> None:
        super().__init__(reason)
        self.http_status = http_status
        self.code = code


class PostbackError(SkycoreError, ValueError):
    """A body that came to the postback URL is no postback; the text says why."""
