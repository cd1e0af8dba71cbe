"""Messages as chunks store them: the key, and the other fields as JSON.  No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from ..errors import CampaignError
from ..ledger.postgres.pruning import NO_ROW
from ..messages import SMS
from ..protocol.numbers import may_be_same


def rows_of(messages: Iterable[SMS]) -> Iterator[tuple[str, str]]:
    """Return messages as chunks store them."""
    for message in messages:
        if not message.key:
            raise CampaignError(f"message to {message.to[:20]!r}: it has no key")
        fields = attrs.asdict(message, filter=lambda _field, value: value not in (None, ()))
        yield fields.pop("key"), json.dumps(fields, ensure_ascii=False)


def have_one_content(row: str, other: str) -> bool:
    """Return whether two rows are messages with the same content: tags are no part of it."""
    one, two = json.loads(row), json.loads(other)
    return {**one, "tags": None} == {**two, "tags": None}


def standing(together: Sequence[SMS], known: Mapping[str | None, str]) -> SMS:
    """Return which of the messages to one number is loaded: the `known` one, or else the first.

    A known row with the same key may be for another number; it does not count then.
    """
    if len(together) == 1:
        return together[0]
    return next((each for each in together if _is_in(known.get(each.key), each)), together[0])


def _is_in(row: str | None, message: SMS) -> bool:
    if row is None or row == NO_ROW:
        return row is not None
    return may_be_same(json.loads(row)["to"], message.to)
