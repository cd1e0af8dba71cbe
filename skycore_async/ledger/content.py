"""What a key stands for: the content of a message, and its digest.  No I/O.

Rule: a program without a ledger imports this module and no other of `ledger`.
"""

from __future__ import annotations

from hashlib import blake2b
from operator import attrgetter
from typing import Final

import attrs

from ..messages import SMS

_FIELDS: Final = tuple(
    field.name for field in attrs.fields(SMS) if field.name not in {"key", "tags"}
)
_SIZE: Final = 16  # bytes of a digest
_VERSION: Final = b"\x02"  # in front of a digest; those of version 1 have nothing there

values_of: Final = attrgetter(*_FIELDS)
"""Return the values of a message that are its content."""


def content_of(resolved: SMS) -> bytes:
    """Return the digest by which a key that comes again with other content is found.

    It covers the bytes of the fields that were given.  So it is the same in every version of
    Python, and stays so when SMS gets another optional field.
    """
    given = [
        f"{name}={len(value)}:{value}"
        for name, value in zip(_FIELDS, values_of(resolved), strict=True)
        if value is not None
    ]
    return _VERSION + blake2b("".join(given).encode(), digest_size=_SIZE).digest()
