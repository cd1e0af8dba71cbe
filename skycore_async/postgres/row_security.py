"""Refuse tables of which row level security may hide rows from a user.

Strategy: PostgreSQL hides rows without an error.  A user who does not see an opt-out sends to
whoever said STOP, and one who does not see a message sends it again.  So the tables are looked at
when a connection is made.

Rule: a policy that lets the user do everything with every row hides nothing, and is fine.
"""

from __future__ import annotations

from typing import Final

from ..errors import LedgerError
from .schema import Connection

_HIDING: Final = """
SELECT oid::regclass::text, current_user::text FROM pg_class
WHERE relnamespace = to_regnamespace(%s) AND relkind = 'r' AND row_security_active(oid)
    AND (EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid AND NOT polpermissive)
        OR NOT EXISTS (
            SELECT FROM pg_policy WHERE polrelid = pg_class.oid AND polpermissive
                AND polcmd = '*' AND pg_get_expr(polqual, polrelid) = 'true'
                AND EXISTS (SELECT FROM unnest(polroles) AS role
                    WHERE role = 0 OR pg_has_role(role, 'USAGE'))))
ORDER BY relname LIMIT 1
"""


def check_visible(connection: Connection, *, schema: str = "skycore") -> None:
    """Raise LedgerError if rows of a table may be hidden from this user."""
    row = connection.execute(_HIDING, (schema,)).fetchone()
    if row is None:
        return
    table, user = row
    raise LedgerError(
        f"the table {table} has row level security, which may hide from the user {user} who said"
        f" STOP and what was sent: ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, or have a"
        f" superuser give this user BYPASSRLS"
    )
