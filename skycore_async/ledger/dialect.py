"""How the SQL of a ledger differs between its databases, and conditions that are the same."""

from __future__ import annotations

import attrs

from . import pruning


@attrs.frozen(kw_only=True)
class Dialect:
    """The SQL of one database.

    `schema` precedes the names of tables, `value` is the placeholder of a value, and `bytes_`
    begins a literal of bytes in hexadecimal.  `carrier` extracts from `events.raw` what names the
    carrier, as JSON, and `integer` converts a number to an integer.
    """

    schema: str
    value: str
    bytes_: str
    carrier: str
    integer: str

    @property
    def is_pruned(self) -> str:
        """The condition that a message was pruned."""
        return pruning.IS_PRUNED.format(self.bytes_)

    @property
    def may_be_pruned(self) -> str:
        """The condition that a message begun before a value may be pruned."""
        return pruning.MAY_BE_PRUNED.format(self.bytes_, self.value)

    @property
    def old_texts(self) -> str:
        """The notifications without a tracking id, such as texts, received before a value."""
        return f"FROM {self.schema}events WHERE tracking_id IS NULL AND received < {self.value}"

    @property
    def old_submissions(self) -> str:
        """The submissions without a message whose notifications all came before a value."""
        return (
            f"FROM {self.schema}submissions WHERE message IS NULL AND NOT EXISTS ("
            f"SELECT 1 FROM {self.schema}events"
            f" WHERE events.tracking_id = submissions.tracking_id AND received >= {self.value})"
        )

    @property
    def their_notifications(self) -> str:
        """The join of messages with their notifications, which are those of their tracking ids."""
        return (
            f"JOIN {self.schema}submissions ON message = messages.id"
            " AND submissions.tracking_id = messages.plain_id"
            f" JOIN {self.schema}events ON events.tracking_id = messages.plain_id"
        )

    @property
    def unplaced(self) -> str:
        """The notifications that tell the state of an unknown message, or have no tracking id."""
        return (
            f"FROM {self.schema}events LEFT JOIN {self.schema}submissions USING (tracking_id)"
            " WHERE message IS NULL AND state IS NOT NULL"
        )
