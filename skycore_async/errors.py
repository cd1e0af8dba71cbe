"""Every way in which sending can fail, told apart by what is known of the message.

    SkycoreError
    ├── CampaignError                      there is no such campaign, or it cannot be changed so
    ├── ConfigurationError (ValueError)    the client cannot work as set up
    ├── InvalidMessage (ValueError)        refused here; nothing was sent
    │   └── KeyConflict (ValueError)       its key has other content, which may have gone out
    ├── LedgerError                        the ledger cannot be opened, read or written
    │   └── LedgerInUse                    another process has it open
    ├── NotSent                            proven not sent; safe to send again
    │   ├── NotRecorded                    the ledger could not take its intent
    │   ├── SendingHalted                  what refused another would refuse it: not begun
    │   └── Throttled                      refused for too high a rate
    ├── RecipientOptedOut                  the number said STOP; nothing was sent
    ├── Rejected                           the API answered Failure
    │   ├── AuthenticationFailed           the API key
    │   ├── BillingProblem                 the account, for its billing
    │   ├── InvalidCampaign                the campaign reference
    │   ├── InvalidRecipient               the recipient's number
    │   ├── InvalidRequest                 the request itself
    │   ├── InvalidSender                  the short code
    │   ├── InvalidText                    the text
    │   ├── NotSubscribed                  the recipient, who is not subscribed
    │   ├── OperatorNotSupported           the recipient's operator
    │   ├── PeriodTooLong                  the period that a sending report was to cover
    │   ├── PermissionDenied               the account, or this address, for its rights
    │   ├── QuotaExhausted                 the account, for its API request limit
    │   └── RecipientBlocked               the recipient, who is on the block list
    ├── OutcomeUnknown                     it may have been sent: never send again blindly
    ├── PostbackError (ValueError)         what came to the postback URL is no postback
    └── ReportError                        there is no sending report, or not all of it
        └── LookupTooSoon                  refused for being asked for too often

Rules: `NotSent` needs proof; if it is unclear, it is `OutcomeUnknown`.  An error never holds the
API key, and can be pickled with its cause.  `codes.API_ERRORS` alone says which ERRORCODE makes
which class.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, ClassVar, Final, Self

from .codes import API_ERRORS, Scope, Verdict
from .runtime.error_notes import advice_for
from .runtime.pickled_causes import packed, unpacked


class SkycoreError(Exception):
    """Base of every error that this package raises on purpose.

    `may_have_been_sent` is True if the message may have reached the provider without a clear
    answer.
    """

    may_have_been_sent: ClassVar[bool] = False

    def __new__(cls, *args: object, **_more: object) -> Self:
        """Make an error with advice in its notes, which tracebacks show."""
        error = super().__new__(cls, *args)
        error.__notes__ = [*advice_for(cls.__mro__)]
        return error

    @property
    def verdict(self) -> Verdict:
        """What it says of the message that it is about."""
        return Verdict.IN_DOUBT if self.may_have_been_sent else Verdict.HALTED

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the class with `args` alone, which a keyword-only constructor
        # refuses, and would drop the cause.
        return _restore, (type(self), self.args, self.__dict__, packed(self.__cause__))


def _restore(
    cls: type[SkycoreError], args: tuple[Any, ...], state: dict[str, Any], cause: bytes | None
) -> SkycoreError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(state)
    error.__notes__ = [*error.__notes__]  # a list of its own, not shared with the original
    error.__cause__ = None if cause is None else unpacked(cause)
    return error


def safe_text(error: BaseException) -> str:
    """Return a text of an error that is safe to log: of ours the message, else the type's name.

    The message of any other error may hold a number or a key.
    """
    return str(error) if isinstance(error, SkycoreError) else type(error).__name__


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

    @property
    def verdict(self) -> Verdict:
        """Refused here: the next message may well be valid."""
        return Verdict.REFUSED_HERE


# What a `KeyConflict` says about the message that has the key, by its state in the ledger.
_CONFLICTS: Final = MappingProxyType(
    {
        "sending": "which is being sent",
        "in_doubt": "which may have been sent",
        "accepted": "which was accepted",
        "sent": "which was sent",
        "delivered": "which was delivered",
        "failed": "which was accepted, and failed later",
    }
)
_LISTED: Final = "which was sent, as Skycore's own report of what it sent lists it"


class KeyConflict(InvalidMessage):
    """The ledger knows this key with other content, which may have gone out; nothing was sent now.

    `state` is how far that other message got, a value of `MessageState`, and None if that is not
    known.  `settled_by` is what ended its doubt, as in `Delivery.settled_by`, and None if it never
    was in doubt.  With another key, this message would be sent as a second one.
    """

    state: str | None = None
    settled_by: str | None = None

    def __init__(
        self, used: str, *, state: str | None = None, settled_by: str | None = None
    ) -> None:
        known = _CONFLICTS.get(state or "")
        if state == "accepted" and settled_by == "report":
            known = _LISTED
        super().__init__(
            f"{used[:80]!r} was used for a message with other content"
            + (f", {known}" if known else ""),
            field="key",
        )
        self.state = state
        self.settled_by = settled_by


class LedgerError(SkycoreError):
    """The ledger cannot be opened, read or written; the text says why and what to do."""


class LedgerInUse(LedgerError):
    """Another process has the ledger open, or another ledger in this one."""


class NotSent(SkycoreError):
    """No byte of the request can have been acted on; sending again is safe."""

    @property
    def verdict(self) -> Verdict:
        """Not sent, for a reason that passes."""
        return Verdict.NOT_SENT


class NotRecorded(NotSent):
    """The ledger could not record the intent, so that nothing was sent; its cause says why."""

    @property
    def verdict(self) -> Verdict:
        """Halted: without a ledger no other message can be sent either."""
        return Verdict.HALTED


class SendingHalted(NotSent):
    """A rejection of one message of a bulk send concerns others, which were not begun.

    Its cause is the rejection.  Raised by a bulk send, it means that messages are left: all that
    were to come, or those of one sender or campaign reference.  All outcomes of what was begun
    were yielded before.  As the error of a message it means that this message was not begun.
    """

    @property
    def verdict(self) -> Verdict:
        """That of the rejection, or halted: another attempt would only repeat it."""
        cause = self.__cause__
        return cause.verdict if isinstance(cause, Rejected) else Verdict.HALTED


class Throttled(NotSent):
    """The API refused the message for too high a rate; it may be sent again later.

    `retry_after` is how many seconds the server asks to wait, None if it does not ask.  `code` and
    `info` are the ERRORCODE and ERRORINFO of the answer, None if HTTP 429 came without them.
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


class RecipientOptedOut(SkycoreError):
    """The number said STOP, or is blocked: nothing was sent, and nothing may be sent until START.

    It is no `NotSent`: trying again is not safe but forbidden.
    """

    @property
    def verdict(self) -> Verdict:
        """Refused here: other numbers may be sent to."""
        return Verdict.REFUSED_HERE


class Rejected(SkycoreError):
    """The API answered Failure; nothing was sent.

    `code` is the ERRORCODE (None if the answer had none), `info` the ERRORINFO, and `scope` says
    what else would be refused the same way.
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
        """Return a rejection of the class for this `code`."""
        known = API_ERRORS.get(code or "")
        made = globals()[known.error] if known else Rejected
        return (made if issubclass(made, Rejected) else Rejected)(code=code, info=info)

    @property
    def verdict(self) -> Verdict:
        """What its code says; a code in no table refuses this message alone."""
        known = API_ERRORS.get(self.code or "")
        return known.verdict if known else Verdict.REJECTED


class AuthenticationFailed(Rejected):
    """The API key is missing or wrong."""


class BillingProblem(Rejected):
    """There is a billing problem on the account."""


class InvalidCampaign(Rejected):
    """The campaign reference is missing or not valid; the message can be sent with another."""


class InvalidRecipient(Rejected):
    """The recipient's number is missing or not valid."""


class InvalidRequest(Rejected):
    """The API did not understand the request."""


class InvalidSender(Rejected):
    """The short code is not valid for the account; the message can be sent from another."""


class InvalidText(Rejected):
    """The text is missing."""


class NotSubscribed(Rejected):
    """The recipient is not subscribed to the campaign."""


class OperatorNotSupported(Rejected):
    """The recipient's operator is not supported or not known."""


class PeriodTooLong(Rejected):
    """The period is longer than the account may request a report for, and cannot be halved."""


class PermissionDenied(Rejected):
    """The account, or this address, may not do this."""


class QuotaExhausted(Rejected):
    """The account reached its API request limit."""


class RecipientBlocked(Rejected):
    """The recipient is on the block list."""


class OutcomeUnknown(SkycoreError):
    """The message may have been sent: something went wrong after bytes could leave.

    Sending it again may bill and deliver it twice.  `http_status` is the status of the answer,
    None if no answer came; `code` is E503 if that was the answer.
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


class ReportError(SkycoreError):
    """There is no sending report, or only a part of one; what the part lists was sent."""


class LookupTooSoon(ReportError):
    """The account requested a sending report too soon after another.

    `retry_after` is how many seconds to wait, and `code` the ERRORCODE, if there is one.
    """

    def __init__(self, reason: str, *, retry_after: float, code: str | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.code = code
