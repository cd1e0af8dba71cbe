"""The code tables are total, consistent, and say nothing of what they do not know."""

from __future__ import annotations

import csv
from importlib import resources

import pytest

from skycore_async.codes import (
    API_ERRORS,
    CODE_STATES,
    STATUS_TEXTS,
    CarrierStatus,
    DeliveryState,
    FailureReason,
    Scope,
    Verdict,
    carrier_status,
)

PAIRS = list(
    csv.DictReader(
        resources.files("skycore_async")
        .joinpath("carrier_status.csv")
        .read_text("utf-8")
        .splitlines()
    )
)

SCOPES = {
    Scope.MESSAGE: "E110 E114 E201 E621 E623 E628 E650 E651 E712 E715",
    Scope.SENDER: "E111",
    Scope.CAMPAIGN: "E714",
    Scope.ACCOUNT: "E102 E103 E104 E105 E107 E109 E112 E120 E713",
    Scope.REQUEST: "E100 E101 E108 E506 E507 E508 E509",
    Scope.THROTTLE: "E106 E113 E510",
    Scope.UNKNOWN: "E503",
}


def test_every_documented_api_error_has_its_scope() -> None:
    """The table holds the provider's codes, no more and no fewer, each in its scope."""
    assert {code: error.scope for code, error in API_ERRORS.items()} == {
        code: scope for scope, codes in SCOPES.items() for code in codes.split()
    }


def test_a_scope_and_a_verdict_agree() -> None:
    """Scope and verdict of each code agree, and E503 alone is doubt."""
    of_the_scope = {
        Scope.ACCOUNT: Verdict.ACCOUNT_REFUSED,
        Scope.SENDER: Verdict.SENDER_REFUSED,
        Scope.CAMPAIGN: Verdict.CAMPAIGN_REFUSED,
        Scope.REQUEST: Verdict.REQUEST_REFUSED,
        Scope.THROTTLE: Verdict.NOT_SENT,
        Scope.UNKNOWN: Verdict.IN_DOUBT,
    }
    for code, error in API_ERRORS.items():
        assert error.code == code
        assert error.verdict is of_the_scope.get(error.scope, Verdict.REJECTED)


def test_every_api_error_says_what_it_means() -> None:
    """Each code has a text of its own, for answers without one."""
    meanings = [error.meaning for error in API_ERRORS.values()]
    assert all(meanings)
    assert len(set(meanings)) == len(meanings)


def test_the_carrier_table_has_every_documented_pair_once() -> None:
    """The provider documents 254 pairs, and none has two meanings."""
    assert len({(pair["protocol"], pair["status"]) for pair in PAIRS}) == len(PAIRS) == 254


def test_a_documented_pair_is_looked_up() -> None:
    """Each row gives its state, and a reason exactly where the state is failed."""
    for pair in PAIRS:
        found = carrier_status(pair["protocol"], pair["status"])
        assert found is not None, pair
        assert found == CarrierStatus(
            state=DeliveryState(pair["state"]),
            reason=FailureReason(pair["reason"]) if pair["reason"] else None,
            meaning=pair["meaning"],
        )
        assert (found.reason is not None) == (found.state is DeliveryState.FAILED), pair
        assert found.state is not DeliveryState.UNKNOWN, pair
        assert found.meaning, pair


@pytest.mark.parametrize(
    ("protocol", "status"),
    [("4", "1000"), ("99", "0"), ("", ""), ("4", ""), ("4", "00"), ("4", " 0"), ("0", "4")],
)
def test_an_undocumented_pair_means_nothing(protocol: str, status: str) -> None:
    """A pair that is in no row is None."""
    assert carrier_status(protocol, status) is None


def test_status_texts_are_found_in_lower_case_and_have_reasons_where_failed() -> None:
    """The seven documented texts are keyed for a look-up that ignores case."""
    assert len(STATUS_TEXTS) == 7
    for text, (state, reason) in STATUS_TEXTS.items():
        assert text == text.lower()
        assert (reason is not None) == (state is DeliveryState.FAILED)


def test_codes_of_notifications_say_a_state_by_themselves() -> None:
    """Each code of a notification about a sent SMS has a state of its own."""
    assert CODE_STATES == {
        "N201": DeliveryState.SENT,
        "N202": DeliveryState.DELIVERED,
        "E201": DeliveryState.FAILED,
        "E202": DeliveryState.FAILED,
    }
