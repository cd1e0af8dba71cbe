"""The table of magic numbers: total, documented, and consistent."""

from __future__ import annotations

import re

import pytest

from skycore_async import simulator
from skycore_async.codes import API_ERRORS, CODE_STATES, STATUS_TEXTS, carrier_status
from skycore_async.simulator import BY_LAST_DIGITS, Answer, Behaviour, behaviours, refusal

EVENTS = [
    behaviours.SENT,
    behaviours.NOT_SENT,
    behaviours.DELIVERED,
    behaviours.FAILED,
    behaviours.EXPIRED,
    behaviours.REJECTED,
]


@pytest.mark.parametrize("code", API_ERRORS)
def test_every_documented_code_has_a_number(code: str) -> None:
    """A number that ends in 0ddd is refused with Eddd, and is not billed."""
    behaviour = BY_LAST_DIGITS[f"0{code[1:]}"]
    assert (behaviour.answer, behaviour.code, behaviour.taken) == (Answer.FAILURE, code, False)


def test_every_answer_can_be_tried_from_a_shell() -> None:
    """Every answer has a number that causes it without a script."""
    assert {behaviour.answer for behaviour in BY_LAST_DIGITS.values()} == set(Answer)


def test_documentation_is_the_table() -> None:
    """The package's docstring lists the numbers with the meanings that they have."""
    documented = dict(re.findall(r"^    (\d{4})  (.+)$", simulator.__doc__ or "", re.MULTILINE))
    table = {digits: row.meaning for digits, row in BY_LAST_DIGITS.items() if digits[0] != "0"}
    assert documented == table


def test_numbers_are_four_digits_and_say_whether_the_message_is_taken() -> None:
    """Rows of doubt say in words what they do to the bill."""
    for digits, behaviour in BY_LAST_DIGITS.items():
        assert re.fullmatch(r"[0-9]{4}", digits)
        if digits[0] == "2":
            said = behaviour.meaning.removesuffix(", and no postback at all")
            assert said.endswith(", taken") is behaviour.taken
            assert said.endswith(", not taken") is not behaviour.taken


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.status)
def test_both_forms_tell_the_same_of_an_event(event: behaviours.Event) -> None:
    """CODE, STATUS text and carrier pair of an event agree, by the provider's own tables."""
    state = CODE_STATES[event.code]
    assert STATUS_TEXTS[event.status.lower()][0] is state
    if event.carrier is not None:
        carrier = carrier_status(*event.carrier)
        assert carrier is not None
        assert carrier.state is state


def test_the_undocumented_event_is_in_no_table() -> None:
    """The event of an unknown status is in no table of codes."""
    assert behaviours.UNDOCUMENTED.carrier is not None
    assert carrier_status(*behaviours.UNDOCUMENTED.carrier) is None
    assert behaviours.UNDOCUMENTED.status.lower() not in STATUS_TEXTS


@pytest.mark.parametrize(
    ("answer", "code"), [(Answer.FAILURE, None), (Answer.SUCCESS, "E713"), (Answer.HANG, "E503")]
)
def test_a_code_goes_with_a_failure_only(answer: Answer, code: str | None) -> None:
    """A failure without a code, and a code without a failure, are refused."""
    with pytest.raises(ValueError, match="has a code"):
        Behaviour(answer=answer, code=code)


def test_a_refusal_is_not_billed_unless_asked() -> None:
    """`refusal` is billed only if asked, as for E503."""
    assert not refusal("E503").taken
    assert refusal("E503", taken=True).taken


def test_public_names_are_there() -> None:
    """Every name in `__all__` exists, and is listed once."""
    names = simulator.__all__
    assert all(hasattr(simulator, name) for name in names)
    assert len(set(names)) == len(names)
