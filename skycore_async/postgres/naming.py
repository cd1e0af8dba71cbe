"""What a database is called, without its password.

Rules:

* Two databases have two names, as what is known of one is not known of the other: who was sent
  to, and who said STOP.  So the name says the port, where it is another than the usual one.
* What the DSN leaves out is taken from where libpq takes it: from the environment, or from the
  service that is named, which is said by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from psycopg.pq import Conninfo

_USUAL: Final = {"", "5432"}  # ports


def name_of(words: Mapping[str, Any]) -> str:
    """Return the name of the database that words of libpq lead to."""
    known = {**_defaults(), **{word: value for word, value in words.items() if value}}
    name = known.get("dbname") or words.get("user") or "(default)"
    place = known.get("host") or known.get("hostaddr") or "its default place"
    port = str(known.get("port", ""))
    said = f"PostgreSQL database {name} at {place}"
    said += "" if _USUAL.issuperset(port.split(",")) else f", port {port}"
    return said + (f", of service {words['service']}" if words.get("service") else "")


def _defaults() -> dict[str, str]:
    """Return what libpq takes for what it is not told, as PGHOST says."""
    found = Conninfo.get_defaults()
    return {each.keyword.decode(): each.val.decode() for each in found if each.val}
