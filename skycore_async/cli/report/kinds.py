"""The kinds of messages that a report tells apart, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from ...ledger.model import MessageState

_S: Final = MessageState


@attrs.frozen(kw_only=True)
class MessageKind:
    """A kind of message: its name, CSS class and states, and what it means."""

    name: str
    css: str
    states: tuple[MessageState, ...]
    meaning: str


KINDS: Final = {
    "delivered": MessageKind(
        name="Delivered", css="delivered", states=(_S.DELIVERED,), meaning="a receipt says so"
    ),
    "on_the_way": MessageKind(
        name="On the way",
        css="on-the-way",
        states=(_S.SENDING, _S.ACCEPTED, _S.SENT),
        meaning="no final receipt yet",
    ),
    "failed": MessageKind(
        name="Failed", css="failed", states=(_S.FAILED,), meaning="a receipt says so"
    ),
    "refused": MessageKind(
        name="Refused", css="refused", states=(_S.REJECTED,), meaning="by Skycore, not billed"
    ),
    "in_doubt": MessageKind(
        name="In doubt", css="in-doubt", states=(_S.IN_DOUBT,), meaning="may have been sent"
    ),
    "not_sent": MessageKind(
        name="Not sent", css="not-sent", states=(_S.NOT_SENT,), meaning="safe to send again"
    ),
}


def by_kind(states: Mapping[MessageState, int]) -> dict[MessageKind, int]:
    """Return the count of each kind of message, from counts by state."""
    return {kind: sum(states.get(one, 0) for one in kind.states) for kind in KINDS.values()}
