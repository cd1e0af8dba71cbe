"""The fields of a message that are kept when it is pruned.  No I/O, no storage.

Strategy: a pruned message stays a row that counts in its state, so that the counts of a ledger do
not change.  Its number, its key, its ids, and what the API and postbacks said are removed.
Digests replace its key and its tracking id: whoever has the key or the id finds the row, and a
reader of the row learns neither.

Rules:

* A message under way or in doubt is kept as it is, however old.
* A pruned message is not sent again: its outcome is returned for the same content, and other
  content is a conflict.
* The digest of its content covers its key as well.  So nobody who does not know the key can try
  numbers on it; but a digest hides only what cannot be guessed.
* A message that was sent again after doubt keeps the last digits of its number: a receipt of its
  first attempt may come, which must not be taken for that of another message.
* A postback that comes for a pruned message is dropped.
* Doubts of that time are no longer settled, neither by a postback nor by a report: what was
  removed may have been needed to tell them apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from hashlib import blake2b, sha256
from typing import Final

import attrs

from ..errors import ConfigurationError
from ..protocol.numbers import ending
from . import version_1_digests
from .model import UNDECIDED, MessageRecord

AT_LEAST: Final = timedelta(days=7)  # in which receipts come
NEAR: Final = 86_400.0  # seconds: a doubt this long after a pruned message is of its time

_PREFIX: Final = "pruned:"
_DIGITS: Final = 32  # of a name, in hexadecimal
_SIZE: Final = 16  # bytes of a digest of content
_FIRST: Final = b"\x03"  # in front of it, where it is of one of the first version
_LATER: Final = b"\x04"  # ... and of a later one

# The same as `is_pruned` and `pruned` have it, in SQL; `{}` is what introduces a literal of bytes.
IS_PRUNED: Final = (
    f"(length(messages.content) = {1 + _SIZE}"
    f" AND substr(messages.content, 1, 1) IN ({{0}}{_FIRST.hex()}', {{0}}{_LATER.hex()}'))"
)
MAY_BE_PRUNED: Final = (
    "messages.state NOT IN ('sending', 'in_doubt') AND messages.started_at < {1}"
    f" AND NOT {IS_PRUNED}"
)


@attrs.frozen(kw_only=True)
class Pruned:
    """What `prune` did: how many messages were pruned, and how many notifications removed.

    `in_doubt` messages are as old, but were kept as they are.
    """

    messages: int
    notifications: int
    in_doubt: int


def seconds_of(older_than: timedelta) -> float:
    """Return an age in seconds; raises ConfigurationError if receipts may still come."""
    if not isinstance(older_than, timedelta):
        kind = type(older_than).__name__
        raise ConfigurationError(f"older_than: a timedelta is needed, not {kind}")
    if older_than < AT_LEAST:
        days = older_than / timedelta(days=1)
        age = f"{days:g} day{'' if days == 1 else 's'}"
        raise ConfigurationError(
            f"older_than: {age} is less than {AT_LEAST.days} days, in which receipts come"
        )
    return older_than.total_seconds()


def pruned_name(name: str) -> str:
    """Return what replaces a key, or the plain form of a tracking id."""
    return f"{_PREFIX}{sha256(name.encode()).hexdigest()[:_DIGITS]}"


def content_under(key: str, content: bytes) -> bytes:
    """Return what replaces the digest of the content of the message with that key."""
    kept = _FIRST if len(content) == version_1_digests.SIZE else _LATER
    return kept + blake2b(key.encode() + b"\0" + content, digest_size=_SIZE).digest()


def is_pruned(content: bytes) -> bool:
    """Return whether a message with this digest of its content was pruned."""
    return len(content) == 1 + _SIZE and content.startswith((_FIRST, _LATER))


def is_of_first_version(content: bytes) -> bool:
    """Return whether it replaces a digest of the first version."""
    return is_pruned(content) and content.startswith(_FIRST)


def pruned(record: MessageRecord, *, before: float) -> MessageRecord | None:
    """Return what stays of a message that was begun `before` then; None if it is not pruned."""
    if record.state in UNDECIDED or record.started_at >= before or is_pruned(record.content):
        return None
    return attrs.evolve(
        record,
        key=pruned_name(record.key),
        content=content_under(record.key, record.content),
        to=ending(record.to) if record.doubted else "",
        text_digest=None,
        tracking_id=None,
        plain_id=record.plain_id and pruned_name(record.plain_id),
        info=None,
        raw=None,
        history_id=None,
    )


def by_key(keys: Collection[str], records: Iterable[MessageRecord]) -> dict[str, MessageRecord]:
    """Return records by their keys, those that were found by the replaced keys as well."""
    found = {record.key: record for record in records}
    if any(is_pruned(record.content) for record in found.values()):
        names = {pruned_name(key): key for key in keys}
        found = {names.get(name, name): record for name, record in found.items()}
    return found
