"""The name of a database, without its password.

Rules:

* Two databases have two names, since each knows its own recipients and its own opt-outs.  So the
  name has the port, unless it is the usual one.
* What the DSN leaves out comes from where libpq takes it: the environment, or a named service,
  which appears by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from psycopg.pq import Conninfo

_USUAL: Final = {"", "5432"}  # ports


def name_of(words: Mapping[str, Any]) -> str:
    """Return the name of the database for keywords of libpq."""
    known = {**_defaults(), **{word: value for word, value in words.items() if value}}
    name = known.get("dbname") or words.get("user") or "(default)"
    place = known.get("host") or known.get("hostaddr") or "its default place"
    port = str(known.get("port", ""))
    said = f"PostgreSQL database {name} at {place}"
    said += "" if _USUAL.issuperset(port.split(",")) else f", port {port}"
    return said + (f", of service {words['service']}" if words.get("service") else "")


def _defaults() -> dict[str, str]:
    """Return libpq's defaults, for example from PGHOST."""
    found = Conninfo.get_defaults()
    return {each.keyword.decode(): each.val.decode() for each in found if each.val}
