"""Refuse tables of which row level security may hide rows from a user.

Strategy: PostgreSQL hides rows without an error.  A user who does not see an opt-out sends to
whoever said STOP, and one who does not see a message sends it again.  So the tables are looked at
when a connection is made.

Rules:

* Policies that let the user read, change and remove every row hide nothing, and are fine.  Who
  only reads needs no more than one for that.
* Where no row can be hidden, a connection that writes gets an error from then on, instead of fewer
  rows, if row level security is enabled while it is open.
"""

from __future__ import annotations

from typing import Final

from ..errors import LedgerError
from .schema import Connection

_TO_READ: Final = ("r",)  # kinds of policies, as in pg_policy.polcmd
_TO_WRITE: Final = ("r", "w", "d")  # a row that may not be inserted is an error anyway
_APPLIES: Final = """polrelid = pg_class.oid AND polcmd IN ('*', kind) AND EXISTS (
    SELECT FROM unnest(polroles) AS role WHERE role = 0 OR pg_has_role(role, 'USAGE'))"""
_SHOWS_ALL: Final = "coalesce(pg_get_expr(polqual, polrelid) = 'true', false)"
_HIDING: Final = f"""
SELECT oid::regclass::text, current_user::text FROM pg_class
WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r' AND row_security_active(oid)
    AND EXISTS (SELECT FROM unnest(%s::"char"[]) AS kind WHERE
        NOT EXISTS (SELECT FROM pg_policy WHERE {_APPLIES} AND polpermissive AND {_SHOWS_ALL})
        OR EXISTS (
            SELECT FROM pg_policy WHERE {_APPLIES} AND NOT polpermissive AND NOT {_SHOWS_ALL}))
ORDER BY relname LIMIT 1
"""  # noqa: S608 - expressions of our own
_REFUSE_HIDING: Final = """
SELECT set_config('row_security', 'off', false) WHERE NOT EXISTS (
    SELECT FROM pg_class WHERE relnamespace = to_regnamespace('skycore') AND relkind = 'r'
        AND row_security_active(oid))
"""


def check_visible(
    connection: Connection, *, schema: str = "skycore", only_to_read: bool = False
) -> None:
    """Raise LedgerError if rows of a table may be hidden from this user."""
    kinds = list(_TO_READ if only_to_read else _TO_WRITE)
    row = connection.execute(_HIDING, (schema, kinds)).fetchone()
    if row is None:
        return
    table, user = row
    raise LedgerError(
        f"the table {table} has row level security, which may hide from the user {user} who said"
        f" STOP and what was sent: ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, or have a"
        " superuser give this user BYPASSRLS"
    )


def refuse_hiding(connection: Connection) -> None:
    """Have this connection get an error if a row may be hidden later, where none may be now."""
    connection.execute(_REFUSE_HIDING)
