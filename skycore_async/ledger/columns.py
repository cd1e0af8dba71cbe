"""Map the fields of a value to the columns of its table, by name.

Strategy: the columns are derived from the attrs class, so that every store reads and writes a
field that is added to the value.  A field that a database keeps differently from Python is
converted by its type.  The columns that are written when a message is begun, and with its outcome,
are the fields that `SendIntent` and `Submission` share with `MessageRecord`.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

import attrs

from ..codes import DeliveryState, FailureReason
from .model import (
    EarlierAttempt,
    MessageRecord,
    MessageState,
    SendIntent,
    StoredNotification,
    Submission,
    ToldState,
)
from .opt_outs import OptOut

T = TypeVar("T")


def _member_of(kind: type[enum.Enum]) -> Callable[[Any], Any]:
    """Return a function from a value to the member with it, and from None to None."""
    return {None: None, **{member.value: member for member in kind}}.__getitem__


def tags_from_text(text: str | None) -> tuple[str, ...]:
    """Return tags from the JSON in which a table keeps them; NULL is no tags."""
    return tuple(json.loads(text)) if text else ()


# How a field is made of what a database returns, by its annotation.
_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "MessageState": _member_of(MessageState),
    "DeliveryState | None": _member_of(DeliveryState),
    "FailureReason | None": _member_of(FailureReason),
    "bool": bool,
    "tuple[str, ...]": tags_from_text,
}
_TOLD_STATE: Final = _READ["DeliveryState | None"]
_TOLD_REASON: Final = _READ["FailureReason | None"]


def tags_as_text(tags: tuple[str, ...]) -> str | None:
    """Return tags as a table keeps them: as JSON, or None if there are none."""
    return json.dumps(tags, ensure_ascii=False) if tags else None


def answer_as_text(submission: Submission) -> str | None:
    """Return the API's answer as JSON; of a usual one only its number, as the rest is known."""
    raw = submission.raw
    if raw is None:
        return None
    to = raw.get("TO")
    if isinstance(to, str) and to.isdecimal() and raw == _usual(submission.tracking_id, to):
        return f'"{to}"'
    return json.dumps(raw)


def answer_from_text(text: str, tracking_id: str | None) -> Mapping[str, Any]:
    """Return the API's answer from the text in a table."""
    raw = json.loads(text)
    return _usual(tracking_id, raw) if isinstance(raw, str) else dict(raw)


def _usual(tracking_id: str | None, to: str) -> dict[str, Any]:
    return {"STATUS": "Success", "TRACKINGID": tracking_id, "TO": to}


# How a field is written, by its annotation.  What is empty is NULL.
_WRITTEN: Final = {
    "MessageState": "{0}.value",
    "DeliveryState | None": "{0} and {0}.value",
    "FailureReason | None": "{0} and {0}.value",
    "tuple[str, ...]": "tags_as_text({0}) if {0} else None",
}
# The same for SQLite, whose binding takes a `bytearray` sooner than `bytes`.
_BOUND: Final = {
    "bytes": "bytearray({0})",
    "bytes | None": "{0} and bytearray({0})",
    **_WRITTEN,
}

Row = Callable[[T], tuple[Any, ...]]


class Columns(Generic[T]):
    """The columns of the table in which values of `kind` are kept, `without` some of its fields.

    If values have only some columns of the rows, `within` is the kind of these: the columns are
    the fields that the two kinds share.  `made` has functions that make a column from the whole
    value.

    `row` returns the columns of a value, in order, and `row_to_bind` the same for SQLite.
    """

    def __init__(
        self,
        kind: type[T],
        *,
        without: Collection[str] = (),
        within: type | None = None,
        made: Mapping[str, Callable[[T], Any]] = MappingProxyType({}),
    ) -> None:
        kept = attrs.fields_dict(within or kind)
        types = {
            each.name: str(each.type)
            for each in attrs.fields(kind)  # type: ignore[arg-type]
            if each.name in kept and each.name not in without
        }
        self._kind = kind
        self._made = made
        self.fields = tuple(types)
        self.types = tuple(of.removesuffix(" | None") for of in types.values())
        self.names = tuple(kept[name].metadata.get("column", name) for name in types)
        self.listed = ", ".join(self.names)
        self.row: Row[T] = self._writer(types, _WRITTEN)
        self.row_to_bind: Row[T] = self._writer(types, _BOUND)
        self._read = [(place, _READ[of]) for place, of in enumerate(types.values()) if of in _READ]

    def _writer(self, types: Mapping[str, str], written: Mapping[str, str]) -> Row[T]:
        """Return a function from a value to its row, compiled as attrs compiles methods.

        It runs for every message, and looking fields up by their names takes twice as long.
        """
        columns = [
            f"made['{name}'](value)"
            if name in self._made
            else written.get(of, "{0}").format(f"value.{name}")
            for name, of in types.items()
        ]
        known = {"made": self._made, "tags_as_text": tags_as_text}
        row: Row[T] = eval(f"lambda value: ({', '.join(columns)},)", known)  # noqa: S307 - our own
        return row

    def of(self, table: str) -> str:
        """Return the list of columns, each qualified by the name of its table."""
        return ", ".join(f"{table}.{name}" for name in self.names)

    def value(self, row: Sequence[Any]) -> T:
        """Return the value in the columns of a row, in order."""
        values = list(row)
        for place, convert in self._read:
            values[place] = convert(values[place])
        return self._kind(**dict(zip(self.fields, values, strict=True)))

    def in_record(self, value: T) -> dict[str, Any]:
        """Return the fields of a value that its record has, by their names."""
        kept = {name: getattr(value, name) for name in self.fields}
        return kept | {name: make(value) for name, make in self._made.items()}

    def by_column(self, values: Sequence[T]) -> list[list[Any]]:
        """Return the columns of values, each as a list."""
        rows = map(self.row, values)
        return list(map(list, zip(*rows, strict=True))) or [[] for _ in self.names]


OPT_OUT: Final = Columns(OptOut, without=("only_if_in", "relayed"))
ATTEMPT: Final = Columns(EarlierAttempt)
NEW_ATTEMPT: Final = Columns(EarlierAttempt, without=("id",))
NOTIFICATION: Final = Columns(StoredNotification, without=("former_identity",))


def _outcome_without(*fields: str) -> Columns[Submission]:
    # Only a postback or a report tells a HISTORYID, and an outcome leaves its start as it is.
    return Columns(
        Submission,
        within=MessageRecord,
        without=("history_id", "started_at", *fields),
        made={"raw": answer_as_text},
    )


# What is written when a message is begun, with any outcome, and with an acceptance that has no
# more to say.
INTENT: Final = Columns(SendIntent, within=MessageRecord)
OUTCOME: Final = _outcome_without()
NOT_OF_ACCEPTANCE: Final = ("code", "info", "http_status")
ACCEPTANCE: Final = _outcome_without("state", *NOT_OF_ACCEPTANCE)

# The columns of the table `events` that a `ToldState` has, which is made for every receipt.
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
