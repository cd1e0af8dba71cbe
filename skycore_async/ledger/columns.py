"""How the fields of a value are the columns of its table, by name.

Strategy: the columns are read off the attrs class, so that a field that is added
to the value is read and written by every store.  What a database keeps in another
way than Python does is converted by the field's type.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

import attrs

from ..codes import DeliveryState, FailureReason
from .model import EarlierAttempt, MessageState, StoredNotification, ToldState
from .opt_outs import OptOut

T = TypeVar("T")


def _member_of(kind: type[enum.Enum]) -> Callable[[Any], Any]:
    """Return what makes a member of its value, and None of None."""
    return {None: None, **{member.value: member for member in kind}}.__getitem__


def words_from_text(text: str | None) -> tuple[str, ...]:
    """Return words of what a table keeps of them, which is JSON."""
    return tuple(json.loads(text)) if text else ()


# By the annotation of a field: how it is made of what a database gives.
_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "MessageState": _member_of(MessageState),
    "DeliveryState | None": _member_of(DeliveryState),
    "FailureReason | None": _member_of(FailureReason),
    "bool": bool,
    "tuple[str, ...]": words_from_text,
}
# Whose members are no plain strings, and are written as such.
_ENUMERATIONS: Final = {"MessageState", "DeliveryState | None", "FailureReason | None"}
_WORDS: Final = "tuple[str, ...]"
_TOLD_STATE: Final = _READ["DeliveryState | None"]
_TOLD_REASON: Final = _READ["FailureReason | None"]


def words_as_text(words: tuple[str, ...]) -> str | None:
    """Return words as a table keeps them: as JSON, and None where there is none."""
    return json.dumps(words, ensure_ascii=False) if words else None


class Columns(Generic[T]):
    """The columns of the table in which values of `kind` are kept, without some of its fields."""

    def __init__(self, kind: type[T], *, without: Collection[str] = ()) -> None:
        fields = [each for each in attrs.fields(kind) if each.name not in without]  # type: ignore[arg-type]
        self._kind = kind
        self._fields = tuple(each.name for each in fields)
        self._get = attrgetter(*self._fields)
        self._read = [
            (place, _READ[str(each.type)])
            for place, each in enumerate(fields)
            if str(each.type) in _READ
        ]
        self._enumerations = [
            place for place, each in enumerate(fields) if str(each.type) in _ENUMERATIONS
        ]
        self._words = [place for place, each in enumerate(fields) if str(each.type) == _WORDS]
        self.names = tuple(each.metadata.get("column", each.name) for each in fields)
        self.listed = ", ".join(self.names)

    def of(self, table: str) -> str:
        """Return the columns, listed, each with the name of its table."""
        return ", ".join(f"{table}.{name}" for name in self.names)

    def value(self, row: Sequence[Any]) -> T:
        """Make a value of the columns of a row, in order."""
        values = list(row)
        for place, convert in self._read:
            values[place] = convert(values[place])
        return self._kind(**dict(zip(self._fields, values, strict=True)))

    def row(self, value: T) -> tuple[Any, ...]:
        """Return the columns of a value, in order."""
        values = list(self._get(value))
        for place in self._enumerations:
            if (member := values[place]) is not None:
                values[place] = member.value
        for place in self._words:
            values[place] = words_as_text(values[place])
        return tuple(values)


OPT_OUT: Final = Columns(OptOut, without=("only_if_in", "relayed"))
ATTEMPT: Final = Columns(EarlierAttempt)
NEW_ATTEMPT: Final = Columns(EarlierAttempt, without=("id",))
NOTIFICATION: Final = Columns(StoredNotification, without=("former_identity",))
# Of those in the table `events`, and as a `ToldState`, which is made of them for every receipt.
TOLD: Final = ", ".join(f"events.{name}" for name in ToldState._fields)


def told_state(
    identity: bytes,
    at: float | None,
    state: str | None,
    reason: str | None,
    history_id: str | None,
) -> ToldState:
    """Return what a notification with these columns tells of its message."""
    return ToldState(identity, at, _TOLD_STATE(state), _TOLD_REASON(reason), history_id)
