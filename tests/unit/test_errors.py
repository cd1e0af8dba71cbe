"""The error tree: which code makes which error, what it says, and that it travels.

The table of codes is a copy of the provider's documentation, with the class
that each code is to make; the code of the package is held to it, not to itself.
"""

from __future__ import annotations

import copy
import pickle
import re
import traceback

import pytest

from skycore_async import (
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
    LookupTooSoon,
    MessageState,
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
    Scope,
    SendingHalted,
    SkycoreError,
    Throttled,
    Verdict,
    errors,
)
from skycore_async.codes import API_ERRORS
from skycore_async.runtime.error_notes import cure_for

REJECTIONS = {
    "E100": (InvalidRequest, Scope.REQUEST),
    "E101": (InvalidRequest, Scope.REQUEST),
    "E102": (AuthenticationFailed, Scope.ACCOUNT),
    "E103": (AuthenticationFailed, Scope.ACCOUNT),
    "E104": (AuthenticationFailed, Scope.ACCOUNT),
    "E105": (PermissionDenied, Scope.ACCOUNT),
    "E107": (PermissionDenied, Scope.ACCOUNT),
    "E108": (InvalidRequest, Scope.REQUEST),
    "E109": (PermissionDenied, Scope.ACCOUNT),
    "E110": (InvalidRecipient, Scope.MESSAGE),
    "E111": (InvalidSender, Scope.SENDER),
    "E112": (PermissionDenied, Scope.ACCOUNT),
    "E114": (RecipientBlocked, Scope.MESSAGE),
    "E120": (QuotaExhausted, Scope.ACCOUNT),
    "E201": (InvalidRecipient, Scope.MESSAGE),
    "E506": (InvalidRequest, Scope.REQUEST),
    "E507": (InvalidRequest, Scope.REQUEST),
    "E508": (InvalidRequest, Scope.REQUEST),
    "E509": (PeriodTooLong, Scope.REQUEST),
    "E621": (InvalidRecipient, Scope.MESSAGE),
    "E623": (Rejected, Scope.MESSAGE),
    "E628": (OperatorNotSupported, Scope.MESSAGE),
    "E650": (OperatorNotSupported, Scope.MESSAGE),
    "E651": (OperatorNotSupported, Scope.MESSAGE),
    "E712": (InvalidText, Scope.MESSAGE),
    "E713": (BillingProblem, Scope.ACCOUNT),
    "E714": (InvalidCampaign, Scope.CAMPAIGN),
    "E715": (NotSubscribed, Scope.MESSAGE),
}
# These say something else than a rejection.
THROTTLES = ("E106", "E113", "E510")
DOUBTS = ("E503",)


@pytest.mark.parametrize(("code", "expected"), REJECTIONS.items(), ids=REJECTIONS)
def test_a_code_makes_its_class_and_scope(
    code: str, expected: tuple[type[Rejected], Scope]
) -> None:
    """Each documented code makes the class that names the cure, with the code's scope."""
    error = Rejected.of(code=code, info="as the provider says")
    assert (type(error), error.scope) == expected
    assert (error.code, error.info) == (code, "as the provider says")
    assert str(error) == f"{code}: as the provider says"
    assert not error.may_have_been_sent


def test_every_documented_code_is_in_the_table() -> None:
    """No code that the provider documents is left to chance."""
    assert {*REJECTIONS, *THROTTLES, *DOUBTS} == API_ERRORS.keys()


def test_the_table_names_the_class_of_every_code() -> None:
    """The name of a class in the table is that of the class which the code is to make."""
    expected: dict[str, type[SkycoreError]]
    expected = {code: kind for code, (kind, _) in REJECTIONS.items()}
    expected |= dict.fromkeys(THROTTLES, Throttled) | dict.fromkeys(DOUBTS, OutcomeUnknown)
    named = {code: getattr(errors, known.error) for code, known in API_ERRORS.items()}
    assert named == expected


@pytest.mark.parametrize("code", [*THROTTLES, *DOUBTS])
def test_a_code_of_another_kind_makes_a_plain_rejected(code: str) -> None:
    """`Rejected.of` with a throttle or doubt code makes a plain Rejected with its verdict."""
    error = Rejected.of(code=code)
    assert (type(error), error.verdict) == (Rejected, API_ERRORS[code].verdict)


@pytest.mark.parametrize(
    ("code", "info", "text"),
    [
        pytest.param("E713", None, "E713: billing problem on the account", id="our own words"),
        pytest.param("E999", "new", "E999: new", id="unknown code"),
        pytest.param("E999", None, "E999: the API gave no reason", id="no words at all"),
        pytest.param(None, "why", "no error code: why", id="no code"),
        pytest.param(None, None, "no error code: the API gave no reason", id="nothing"),
    ],
)
def test_a_rejection_says_all_there_is(code: str | None, info: str | None, text: str) -> None:
    """The text has the code and the provider's reason, or ours where it gave none."""
    assert str(Rejected.of(code=code, info=info)) == text


@pytest.mark.parametrize("code", ["E999", None])
def test_a_code_in_no_table_is_a_plain_rejection(code: str | None) -> None:
    """An unknown code is a plain Rejected of unknown scope."""
    error = Rejected.of(code=code)
    assert (type(error), error.scope) == (Rejected, Scope.UNKNOWN)


def drawn_tree() -> dict[str, tuple[str, bool]]:
    """Read the tree in the docstring: for each class its parent, and if it is a ValueError."""
    tree: dict[str, tuple[str, bool]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        drawn = re.match(r"    ([│ ├└─]*)(\w+)( \(ValueError\))?(?: {2,}.*)?$", line)
        if drawn:
            branch, name, value_error = drawn.groups()
            above[len(branch) // 4 :] = [name]
            parent = above[-2] if len(above) > 1 else "Exception"
            tree[name] = (parent, bool(value_error))
    return tree


def classes_below(base: type[Exception]) -> list[type[Exception]]:
    return [base, *(found for below in base.__subclasses__() for found in classes_below(below))]


def test_the_drawn_tree_is_the_real_one() -> None:
    """The tree at the head of the module has every class and its parent."""
    real = {
        each.__name__: (each.__bases__[0].__name__, issubclass(each, ValueError))
        for each in classes_below(SkycoreError)
        if each.__module__ == errors.__name__  # and is none of a test
    }
    assert drawn_tree() == real


ERRORS = {
    "SkycoreError": SkycoreError("why"),
    "ConfigurationError": ConfigurationError("why"),
    "InvalidMessage": InvalidMessage("why", field="to"),
    "NotSent": NotSent("why"),
    "Throttled": Throttled("why", code="E106", info="slow down", retry_after=2.5),
    "Throttled by HTTP": Throttled("why"),
    **{code: Rejected.of(code=code, info="why") for code in REJECTIONS},
    "Rejected": Rejected(code=None, info=None),
    "OutcomeUnknown": OutcomeUnknown("why", http_status=502, code="E503"),
    "OutcomeUnknown, no answer": OutcomeUnknown("why"),
    "PostbackError": PostbackError("why"),
    "ReportError": ReportError("why"),
    "LookupTooSoon": LookupTooSoon("why", retry_after=2.5, code="E510"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("travel", [copy.copy, copy.deepcopy, "pickle"])
def test_an_error_survives_pickling_and_copying(error: SkycoreError, travel: object) -> None:
    """An error that was pickled or copied is the same: class, text, fields and notes."""
    sent = copy.copy(error)
    sent.add_note("a note")
    arrived = travel(sent) if callable(travel) else pickle.loads(pickle.dumps(sent))  # noqa: S301
    assert arrived is not sent
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert arrived.args == error.args
    advice = error.__notes__
    assert vars(arrived) == {**vars(error), "__notes__": [*advice, "a note"]}
    assert "a note" not in advice
    assert arrived.may_have_been_sent == error.may_have_been_sent
    assert arrived.__cause__ is None


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OutcomeUnknown("no answer"), "may have been sent, and billed: do not send it again"),
        (NotSent("no connection"), "not sent, and is not billed: it is safe to send it again"),
        (NotRecorded("x"), "Nothing was sent or billed: mend the ledger"),
        (BillingProblem(code="E713"), "nothing was sent or billed. Ask Skycore about the bill"),
        (InvalidSender(code="E111"), "nothing was sent or billed. Mend what the code names"),
        (RecipientOptedOut("x"), "do not try again before it says START"),
        (InvalidMessage("empty", field="text"), "Nothing was sent or billed: mend"),
        (KeyConflict("k", state="sent"), "one more message, and billed"),
        (SendingHalted("x"), "What was not begun is not billed"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_a_traceback_says_what_it_costs_and_what_to_do(error: SkycoreError, advice: str) -> None:
    """A traceback says below the error's text whether the message is billed."""
    *_, text, note = traceback.format_exception(error)
    assert text.endswith(f"{error}\n")
    assert advice in note
    assert advice not in str(error)


@pytest.mark.parametrize(
    ("kind", "cure"),
    [
        (AuthenticationFailed, "See that the API key is all there"),
        (QuotaExhausted, "Ask Skycore for a larger quota"),
        (InvalidSender, None),
        (NotSent, None),
    ],
)
def test_a_refusal_of_the_account_has_a_cure(kind: type, cure: str | None) -> None:
    """An account's refusal has a cure in words, and other errors have none."""
    found = cure_for(kind)
    assert found is None if cure is None else str(found).startswith(cure)


class Unpicklable(Exception):
    """An exception whose constructor cannot be called again."""

    def __init__(self, *, needed: str) -> None:
        super().__init__(needed)


class Stubborn(Exception):
    """An exception that refuses to be pickled."""

    def __reduce__(self) -> str:
        raise RuntimeError("not me")


class Counted(Exception):
    """An exception that counts how often it is pickled."""

    pickled = 0

    def __reduce__(self) -> tuple[type, tuple[()]]:
        Counted.pickled += 1
        return Counted, ()


def test_a_cause_travels_along() -> None:
    """A pickled error keeps its cause, and the cause's own cause if that is ours."""
    error, between = OutcomeUnknown("lost"), NotSent("before")
    between.__cause__ = ConnectionError("reset")
    error.__cause__ = between
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - made on this line
    assert repr(arrived.__cause__) == "NotSent('before')"
    assert repr(arrived.__cause__.__cause__) == "ConnectionError('reset')"


def test_a_long_chain_of_causes_travels() -> None:
    """Each cause of a long chain is pickled once."""
    Counted.pickled = 0
    error: BaseException = Counted()
    for number in range(12):
        above = NotSent(str(number))
        above.__cause__ = error
        error = above
    arrived: BaseException | None = pickle.loads(pickle.dumps(error))  # noqa: S301
    for number in reversed(range(12)):
        assert str(arrived) == str(number)
        assert arrived is not None
        arrived = arrived.__cause__
    assert type(arrived) is Counted
    assert Counted.pickled == 1


def test_causes_that_go_in_a_circle_end_somewhere() -> None:
    """An error whose causes form a circle is pickled in little time."""
    error, other = OutcomeUnknown("lost"), NotSent("before")
    error.__cause__, other.__cause__ = other, error
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - made on this line
    assert str(arrived) == "lost"


@pytest.mark.parametrize("cause", [Unpicklable(needed="x"), Stubborn()], ids=repr)
def test_a_cause_that_cannot_travel_is_left_behind(cause: Exception) -> None:
    """A cause that cannot be pickled or unpickled is left out, and the error arrives."""
    error = OutcomeUnknown("lost")
    error.__cause__ = cause
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - made on this line
    assert (str(arrived), arrived.__cause__) == ("lost", None)


def test_only_doubt_may_have_been_sent() -> None:
    """`may_have_been_sent` tells doubt from certainty, for every class of the tree."""
    doubtful = {
        each for each in classes_below(SkycoreError) if vars(each).get("may_have_been_sent")
    }
    assert doubtful - {Lost} == {OutcomeUnknown}


def test_a_conflict_says_how_far_the_other_message_got() -> None:
    """A conflict of keys names the other message's state, and part of its content."""
    told = {state: str(KeyConflict("k" * 90, state=state)) for state in MessageState}
    said = "'" + "k" * 80 + "' was used for a message with other content"
    kept = {*MessageState} - {MessageState.NOT_SENT, MessageState.REJECTED}
    assert {
        state for state, text in told.items() if text.startswith(f"key: {said}, which ")
    } == kept
    assert len({*told.values()}) == len(kept) + 1
    assert str(KeyConflict("k" * 90)) == f"key: {said}"


class Lost(SkycoreError):
    """An error of somebody's own transport."""

    may_have_been_sent = True


def halted_by(cause: SkycoreError) -> SendingHalted:
    halted = SendingHalted("it would be refused as well")
    halted.__cause__ = cause
    return halted


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (InvalidMessage("empty", field="text"), Verdict.REFUSED_HERE),
        (RecipientOptedOut("said STOP"), Verdict.REFUSED_HERE),
        (NotSent("refused"), Verdict.NOT_SENT),
        (Throttled("slow down"), Verdict.NOT_SENT),
        (NotRecorded("full"), Verdict.HALTED),
        (SendingHalted("the account"), Verdict.HALTED),
        (halted_by(Rejected.of(code="E104")), Verdict.ACCOUNT_REFUSED),
        (halted_by(Rejected.of(code="E111")), Verdict.SENDER_REFUSED),
        (halted_by(NotRecorded("full")), Verdict.HALTED),
        (LedgerError("full"), Verdict.HALTED),
        (ConfigurationError("no key"), Verdict.HALTED),
        (Rejected.of(code="E104"), Verdict.ACCOUNT_REFUSED),
        (Rejected.of(code="E100"), Verdict.REQUEST_REFUSED),
        (Rejected.of(code="E111"), Verdict.SENDER_REFUSED),
        (Rejected.of(code="E714"), Verdict.CAMPAIGN_REFUSED),
        (Rejected.of(code="E110"), Verdict.REJECTED),
        (Rejected.of(code="E999"), Verdict.REJECTED),
        (Rejected.of(code=None), Verdict.REJECTED),
        (OutcomeUnknown("lost"), Verdict.IN_DOUBT),
        (Lost("lost"), Verdict.IN_DOUBT),
    ],
    ids=repr,
)
def test_an_error_says_what_became_of_the_message(error: SkycoreError, verdict: Verdict) -> None:
    """Each error has one verdict, and only doubt may have been sent."""
    assert error.verdict is verdict
    assert error.may_have_been_sent == (verdict is Verdict.IN_DOUBT)


def test_an_opted_out_recipient_is_not_safe_to_send_to_again() -> None:
    """RecipientOptedOut is no NotSent, which would mean to try again."""
    assert not isinstance(RecipientOptedOut("said STOP"), NotSent)
    assert not RecipientOptedOut.may_have_been_sent


def test_an_invalid_message_names_its_field() -> None:
    """The text begins with the argument at fault, which is in `field` too."""
    error = InvalidMessage("empty", field="text")
    assert (str(error), error.field) == ("text: empty", "text")
