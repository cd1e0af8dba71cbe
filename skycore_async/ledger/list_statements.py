"""The statements that list or count many messages, which are the same words in both databases.

Rule: what decided a message comes first of its final notifications, as `settlement.in_order` puts
them.
"""

from __future__ import annotations

from typing import Final

from .model import MessageState

_ENDED: Final = f"('{MessageState.DELIVERED}', '{MessageState.FAILED}')"
_REFUSED: Final = f"('{MessageState.REJECTED}', '{MessageState.NOT_SENT}')"
_LINE: Final = (
    "id, key, tracking_id, recipient, sender, state, reason, settled_by, started_at, code, info,"
    " history_id"
)


class ListStatements:
    """Statements over the table `messages`, and others with `schema` before their names.

    `value` is what stands for a value, and `named` makes JSON of what names a carrier, of the
    text `events.raw`.
    """

    def __init__(
        self, *, messages: str, schema: str, value: str, named: str, integer: str
    ) -> None:
        events, submissions = f"{schema}events", f"{schema}submissions"
        within = f"messages.id > {value} AND messages.id <= {value}"
        self.line = (
            f"SELECT {_LINE}, (SELECT count(*) FROM {submissions} AS own"
            f"  JOIN {events} ON events.tracking_id = own.tracking_id"
            "  WHERE own.tracking_id = messages.plain_id AND own.message = messages.id)"
        )
        self.begun = (
            f"SELECT {integer.format(f'started_at / {value}')}, state, settled_by,"
            f" CASE WHEN state IN {_REFUSED} THEN code END, count(*),"
            " min(started_at), max(started_at), campaign_ref, tags, coalesce(sum(segments), 0),"
            " count(*) - count(segments)"
            f" FROM {messages} WHERE {within} GROUP BY 1, 2, 3, 4, campaign_ref, tags"
        )
        of_ended = (
            f"{events} ON events.tracking_id = messages.plain_id{{}}"
            f" WHERE {within} AND messages.state IN {_ENDED}"
        )
        self.ended = (
            "SELECT messages.id, messages.state, messages.reason,"
            " CASE WHEN happened = at THEN at - started_at END,"
            f" CASE WHEN events.raw IS NOT NULL THEN {named} END"
            f" FROM {messages} LEFT JOIN {of_ended.format(f' AND events.state IN {_ENDED}')}"
            " ORDER BY messages.id, at IS NULL, at, events.state = 'failed', identity"
        )
        self.naming = (
            f"SELECT DISTINCT messages.id FROM {messages} JOIN {of_ended.format('')}"
            f" AND lower(events.raw) LIKE {value}"
        )
        self.last_id = f"SELECT coalesce(max(id), 0) FROM {schema}messages"
