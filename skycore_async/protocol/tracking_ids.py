"""Tracking ids, which the provider spells in two ways.  No I/O.

`SMS_12345` is how it wrote them in 2011, and `U01TXzEyMzQ1`, which is the base64 of that,
from 2013 on.  An account can get one in the answer to sendSMS and the other in a postback.

Rules:

* Two ids are equal where their plain forms are.  What is base64 of letters, `_` and digits
  is that; everything else is opaque.  Padding may be missing.
* What users see and what `raw` holds is what the wire said.
* A plain form is short text, so that any database can index it: of an id that is long, or
  has what no XML can, it is a digest.
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
    """Return how the provider spells a tracking id: in base64 and plainly, or as it is."""
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
    # Some bits of a last character stand for nothing, and are none where they are set.
    is_plain = _PLAIN.fullmatch(form) and _encoded(form).rstrip("=") == bare
    return form if is_plain else tracking_id


def _encoded(form: str) -> str:
    return b64encode(form.encode()).decode()
