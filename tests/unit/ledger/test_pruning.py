"""What pruning keeps of one message."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs
import pytest

from skycore_async.errors import ConfigurationError
from skycore_async.ledger.model import MessageRecord, MessageState
from skycore_async.ledger.pruning import (
    by_key,
    content_under,
    is_of_first_version,
    is_pruned,
    pruned,
    pruned_name,
    seconds_of,
)
from tests.support.ledger_cases import NOON, TO

RECORD = MessageRecord(
    id=1,
    key="promo:15551234888",
    content=b"\2" + bytes(16),
    to=TO,
    from_="60856",
    state=MessageState.DELIVERED,
    started_at=NOON,
    ended_at=NOON + 1,
    tracking_id="U01TXzE=",
    plain_id="SMS_1",
    info="to 15551234888",
    raw='"15551234888"',
    text_digest=b"text",
    history_id="9",
    campaign_ref="77",
    segments=2,
    tags=("spring",),
)
PERSONAL = {
    "key",
    "content",
    "to",
    "tracking_id",
    "plain_id",
    "info",
    "raw",
    "text_digest",
    "history_id",
}


def test_pruning_removes_exactly_the_personal_fields() -> None:
    """Pruning changes exactly the personal fields; each field of a message is in one group."""
    after = pruned(RECORD, before=NOON + 1)
    assert after is not None
    changed = {
        field.name
        for field in attrs.fields(MessageRecord)
        if getattr(after, field.name) != getattr(RECORD, field.name)
    }
    assert changed == PERSONAL
    assert "4888" not in repr(attrs.astuple(after))
    assert {field.name for field in attrs.fields(MessageRecord)} - PERSONAL == {
        "id",
        "from_",
        "state",
        "started_at",
        "ended_at",
        "code",
        "http_status",
        "reason",
        "settled_by",
        "doubted",
        "interrupted_at",
        "untaken",
        "listed_since",
        "listed_until",
        "turn",
        "campaign_ref",
        "segments",
        "tags",
        "session",
        "attempt",
    }


@pytest.mark.parametrize(
    "record",
    [
        attrs.evolve(RECORD, state=MessageState.SENDING),
        attrs.evolve(RECORD, state=MessageState.IN_DOUBT),
        attrs.evolve(RECORD, started_at=NOON + 1),
        attrs.evolve(RECORD, content=content_under("k", RECORD.content)),
    ],
    ids=["under way", "in doubt", "young", "pruned"],
)
def test_some_messages_are_not_pruned(record: MessageRecord) -> None:
    """A message under way, in doubt, too young or already pruned is not pruned."""
    assert pruned(record, before=NOON + 1) is None


def test_a_digest_of_content_says_that_it_is_pruned_and_of_which_version_it_is() -> None:
    """A pruned content digest can be told from others, and its version is known."""
    later, first = content_under("k", b"\2" + bytes(16)), content_under("k", bytes(16))
    assert is_pruned(later)
    assert is_pruned(first)
    assert (is_of_first_version(later), is_of_first_version(first)) == (False, True)
    assert content_under("other", bytes(16)) != first
    for content in (b"\3" + bytes(15), b"\2" + bytes(16), b"\3", b""):
        assert not is_pruned(content)
        assert not is_of_first_version(content)


def test_records_are_found_by_their_keys_again() -> None:
    """A pruned message is found by its old key."""
    after = pruned(RECORD, before=NOON + 1)
    assert after is not None
    other = attrs.evolve(RECORD, key="other")
    keys = ["other", RECORD.key, "none"]
    assert by_key(keys, [other, after]) == {"other": other, RECORD.key: after}
    assert by_key([after.key], [after]) == {pruned_name(RECORD.key): after}


def test_an_age_is_a_week_at_least() -> None:
    """An `older_than` below a week, or no timedelta, is refused."""
    assert seconds_of(timedelta(days=7)) == 7 * 86_400
    with pytest.raises(ConfigurationError, match="older_than: 6 days is less than 7 days"):
        seconds_of(timedelta(days=6))
    days: Any = 180
    with pytest.raises(ConfigurationError, match="older_than: a timedelta is needed, not int"):
        seconds_of(days)
