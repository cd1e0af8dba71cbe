"""How the fields of a value are the columns of its table, by name.

Strategy: the columns are read off the attrs class, so that a field that is added
to the value is read and written by every store.  What a database keeps in another
way than Python does is converted by the field's type.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

import attrs

from ..codes import DeliveryState, FailureReason
from .model import EarlierAttempt, MessageState, StoredNotification
from .opt_outs import OptOut

T = TypeVar("T")

# By the annotation of a field: how it is made of what a database gives.
_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "MessageState": MessageState,
    "DeliveryState | None": lambda value: None if value is None else DeliveryState(value),
    "FailureReason | None": lambda value: None if value is None else FailureReason(value),
    "bool": bool,
}
# Whose members are no plain strings, and are written as such.
_ENUMERATIONS: Final = {"MessageState", "DeliveryState | None", "FailureReason | None"}


class Columns(Generic[T]):
    """The columns of the table in which values of `kind` are kept, without some of its fields."""

    def __init__(self, kind: type[T], *, without: Collection[str] = ()) -> None:
        fields = [each for each in attrs.fields(kind) if each.name not in without]  # type: ignore[arg-type]
        self._kind = kind
        self._fields = tuple(each.name for each in fields)
        self._get = attrgetter(*self._fields)
        self._read = {
            each.name: _READ[str(each.type)] for each in fields if str(each.type) in _READ
        }
        self._enumerations = [each.name for each in fields if str(each.type) in _ENUMERATIONS]
        self.names = tuple(each.metadata.get("column", each.name) for each in fields)
        self.listed = ", ".join(self.names)

    def of(self, table: str) -> str:
        """Return the columns, listed, each with the name of its table."""
        return ", ".join(f"{table}.{name}" for name in self.names)

    def value(self, row: Sequence[Any]) -> T:
        """Make a value of the columns of a row, in order."""
        values = dict(zip(self._fields, row, strict=True))
        for field, convert in self._read.items():
            values[field] = convert(values[field])
        return self._kind(**values)

    def row(self, value: T) -> tuple[Any, ...]:
        """Return the columns of a value, in order."""
        values = dict(zip(self._fields, self._get(value), strict=True))
        for field in self._enumerations:
            if (member := values[field]) is not None:
                values[field] = member.value
        return tuple(values.values())


OPT_OUT: Final = Columns(OptOut, without=("only_if_in",))
NEW_ATTEMPT: Final = Columns(EarlierAttempt, without=("id",))
NOTIFICATION: Final = Columns(StoredNotification, without=("former_identity",))
