"""The name of a database, without its password.

Rules:

* Two databases have two names, since each knows its own recipients and its own opt-outs.  So the
  name has the port, unless it is the usual one.
* What the DSN leaves out comes from where libpq takes it: the environment, or a named service,
  which appears by its name.
* The environment may hold bytes that are no text, such as those of a password: nothing else of it
  is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from psycopg.pq import Conninfo

_USUAL: Final = {"", "5432"}  # ports
_DIGITS: Final = 5  # of a port
_NAMING: Final = {b"dbname", b"host", b"hostaddr", b"port"}


def name_of(words: Mapping[str, Any]) -> str:
    """Return the name of the database for keywords of libpq."""
    known = {**_defaults(), **{word: value for word, value in words.items() if value}}
    name = known.get("dbname") or words.get("user") or "(default)"
    place = known.get("host") or known.get("hostaddr") or "its default place"
    port = str(known.get("port", ""))
    said = f"PostgreSQL database {name} at {place}"
    said += "" if _USUAL.issuperset(port.split(",")) else f", port {port}"
    return said + (f", of service {words['service']}" if words.get("service") else "")


def are_ports(port: str) -> bool:
    """Return whether each of these is a number that a port can have; one may be left out."""
    return all(
        not each or (each.isdecimal() and len(each) <= _DIGITS and int(each) < 1 << 16)
        for each in port.split(",")
    )


def _defaults() -> dict[str, str]:
    """Return libpq's defaults of the words that name a database, for example from PGHOST."""
    found = (each for each in Conninfo.get_defaults() if each.val and each.keyword in _NAMING)
    return {each.keyword.decode(): os.fsdecode(each.val or b"") for each in found}
