"""Rows of an old ledger that knew one spelling of a tracking id, and the result of migration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from skycore_async.ledger.interface import Ledger
from skycore_async.ledger.model import MessageState
from skycore_async.notifications import Notification
from tests.support.ledger_cases import DELIVERED, EXPIRED, NOON, SENT, notice

S = MessageState
PLAIN, ENCODED = "SMS_767867", "U01TXzc2Nzg2Nw=="
LONG = "x" * 2800

# By its key: its tracking id, its state, and what was recorded about it.
MESSAGES: dict[str, tuple[str, MessageState, list[Notification]]] = {
    "one spelling": ("SMS_1", S.SENT, [notice(SENT, "SMS_1")]),
    "the other": ("U01TXzI=", S.SENT, [notice(SENT, "U01TXzI=")]),
    "both": (PLAIN, S.SENT, [notice(SENT, PLAIN), notice(DELIVERED, ENCODED, after=9)]),
    "failed, and delivered later": (
        "U01TXzM=",
        S.DELIVERED,
        [notice(EXPIRED, "SMS_3", after=3), notice(DELIVERED, "U01TXzM=", after=4)],
    ),
    "unknown": ("SMS_4", S.ACCEPTED, [notice(("N202", "Odd"), "U01TXzQ=")]),
    "opaque": ("T", S.DELIVERED, [notice(DELIVERED, "T")]),
    "long": (LONG, S.DELIVERED, [notice(DELIVERED, LONG)]),
}
EXPECTED = {
    "one spelling": S.SENT,
    "the other": S.SENT,
    "both": S.DELIVERED,
    "failed, and delivered later": S.FAILED,
    "unknown": S.ACCEPTED,
    "opaque": S.DELIVERED,
    "long": S.DELIVERED,
}
UNMATCHED = notice(SENT, "U01TXzk5", to="15550000099")


def rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the table and the columns of each row that it held."""
    noted: dict[str, dict[str, Any]] = {}
    notices = [UNMATCHED]
    for id_, (key, (tracking_id, state, about)) in enumerate(MESSAGES.items(), 1):
        yield (
            "messages",
            {
                "key": key,
                "content": b"",
                "recipient": "15551234888",
                "state": state.value,
                "started_at": NOON,
                "tracking_id": tracking_id,
            },
        )
        notices += about
        noted[tracking_id] = {"message": id_}
    for each in notices:
        tracking_id = each.raw["TRACKINGID"]
        noted.setdefault(tracking_id, {})["recipient"] = each.raw["TO"]
        identity = json.dumps(each.raw, sort_keys=True).encode()
        assert each.timestamp is not None
        yield (
            "events",
            {
                "identity": blake2b(identity, digest_size=16).digest(),
                "tracking_id": tracking_id,
                "recipient": each.raw["TO"],
                "at": each.timestamp.timestamp(),
                "happened": each.timestamp.timestamp(),
                "state": getattr(each, "state", "sent"),
                "reason": getattr(each, "reason", None),
                "raw": json.dumps(each.raw),
            },
        )
    for tracking_id, columns in noted.items():
        yield "submissions", {"tracking_id": tracking_id, **columns}


async def assert_are_one(ledger: Ledger) -> None:
    """Assert that a ledger that held these rows has what they must become."""
    for key, (tracking_id, _, about) in MESSAGES.items():
        delivery = await ledger.delivery(key=key)
        assert delivery is not None
        assert (delivery.tracking_id, delivery.state) == (tracking_id, EXPECTED[key])
        assert (delivery.reason is not None) is (delivery.state is S.FAILED)
        assert sorted(map(repr, delivery.events)) == sorted(map(repr, about))
        for each in about:
            await ledger.record(each)
            await ledger.record(notice_in_the_other_spelling(each))
            assert await ledger.delivery(each.raw["TRACKINGID"]) == delivery
    assert [each async for each in ledger.unplaced()] == [UNMATCHED]


OTHER = {PLAIN: ENCODED, "SMS_1": "U01TXzE=", "SMS_3": "U01TXzM=", "SMS_4": "U01TXzQ="}
OTHER |= {encoded: form for form, encoded in OTHER.items()}


def notice_in_the_other_spelling(notification: Notification) -> Notification:
    """Return the same notification, with the other spelling of its tracking id if it has one."""
    raw = notification.raw
    stamp = notification.timestamp
    assert stamp is not None
    return notice(
        (raw["CODE"], raw["STATUS"]),
        OTHER.get(str(raw["TRACKINGID"]), str(raw["TRACKINGID"])),
        after=stamp.timestamp() - NOON,
    )
