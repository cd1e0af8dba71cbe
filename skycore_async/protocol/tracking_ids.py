"""Tracking ids, which the provider spells in two ways.  No I/O.

In 2011 it wrote `SMS_12345`, and from 2013 on the base64 of that, `U01TXzEyMzQ1`.  An account can
get one in the answer to sendSMS and the other in a postback.

Rules:

* Two ids are equal if their plain forms are.  The base64 of letters, `_` and digits is decoded;
  any other id is opaque.  Padding may be missing.
* Users, and `raw`, get the id as it was on the wire.
* A plain form is short text, so that any database can index it: it is a digest if the id is long,
  or has characters that XML does not allow.
"""

from __future__ import annotations

import functools
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Final

_PLAIN: Final = re.compile(r"[A-Z]+_[0-9]+", re.ASCII)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)
_USUAL: Final = re.compile(r"[A-Z]{1,40}_[0-9]{1,40}", re.ASCII)  # which is plain and short
_SHORT: Final = re.compile("[^\0\ud800-\udfff]{0,200}")


def plain(tracking_id: str) -> str:
    """Return the plain form of a tracking id, by which it is compared."""
    if _USUAL.fullmatch(tracking_id):
        return tracking_id
    form = tracking_id if _PLAIN.fullmatch(tracking_id) else _decoded(tracking_id)
    if _SHORT.fullmatch(form):
        return form
    return f"sha256:{sha256(form.encode('utf-8', 'surrogatepass')).hexdigest()}"


def spellings(tracking_id: str) -> tuple[str, ...]:
    """Return the provider's spellings of a tracking id: base64 and plain, or the id alone."""
    form = _decoded(tracking_id)
    return (_encoded(form), form) if _PLAIN.fullmatch(form) else (tracking_id,)


@functools.lru_cache(maxsize=1024)  # of a message under way it is asked a few times
def _decoded(tracking_id: str) -> str:
    if not _BASE64.fullmatch(tracking_id):
        return tracking_id
    bare = tracking_id.rstrip("=")
    if len(bare) % 4 == 1:
        return tracking_id
    form = b64decode(bare + "=" * (-len(bare) % 4)).decode("latin-1")
    # The unused bits of the last base64 character must be zero; otherwise the id is opaque.
    is_plain = _PLAIN.fullmatch(form) and _encoded(form).rstrip("=") == bare
    return form if is_plain else tracking_id


def _encoded(form: str) -> str:
    return b64encode(form.encode()).decode()
