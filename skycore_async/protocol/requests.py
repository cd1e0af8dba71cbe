"""The sendSMS request, as values and bytes.  No I/O.

Strategy: `resolve` turns what the caller gave into what the API takes, or
refuses it; `post_body` and `query_string` write it.

Rules:

* A message that the API would refuse, or would change (it cuts FROM_MASK), is refused here.  The
  text is never changed.
* A subclass of str is replaced by its characters: Python formats a member of an `Enum` of strs by
  its name, which would be sent, and stored as its key.
* The API key is spliced in last, where nothing can raise any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from operator import attrgetter, is_not
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

from ..errors import InvalidMessage
from ..messages import SMS
from . import safe_xml
from .numbers import NumberReader, number
from .segments import describe, first_forbidden, segments

ENDPOINT: Final = "https://secure.skycore.com/API/wxml/1.3/index.php"
TAG_LENGTH: Final = 100  # characters of a tag; a campaign's name fits
FROM_MASK_LENGTH: Final = 11  # characters; the provider cuts what is longer


# In the order of the provider's own examples.
_FIELDS: Final = (
    ("SPID", "spid"),
    ("OPERATORID", "operator_id"),
    ("TO", "to"),
    ("FROM", "from_"),
    ("FROM_MASK", "from_mask"),
    ("CAMPAIGNREF", "campaign_ref"),
    ("TEXT", "text"),
)
_ATTRIBUTES: Final = (*(attribute for _, attribute in _FIELDS), "key")
_values_of: Final = attrgetter(*_ATTRIBUTES)
_is_given: Final = partial(is_not, None)
_PLAIN: Final = frozenset({str, type(None)})
_fields_of: Final = attrgetter(*(attribute for _, attribute in _FIELDS))


_KEPT: Final = 50_000  # characters, which take some megabytes

# The form of the replacement for a forgotten key: `skycore_async/ledger/pruning.py` makes it.
_PRUNED: Final = "pruned:"
_PRUNED_KEY: Final = re.compile(_PRUNED + "[0-9a-f]{32}")

_HEAD: Final = "xml=" + quote_plus("<REQUEST><ACTION>sendSMS</ACTION><API_KEY>")
_AFTER_KEY: Final = quote_plus("</API_KEY>")
_FORM_FIELDS: Final = tuple(
    (quote_plus(f"<{name}>"), quote_plus(f"</{name}>")) for name, _ in _FIELDS
)


class _FormOfAny(dict[int, str]):
    """The form-encoded characters; they are cached, as those of a language are few."""

    def __missing__(self, code: int) -> str:
        quoted = quote_plus(safe_xml.escape(chr(code)))
        if len(self) < _KEPT:
            self[code] = quoted
        return quoted


# Escaped for XML and quoted for a form, in one step.
_FORM_OF_ASCII: Final = {code: quote_plus(safe_xml.escape(chr(code))) for code in range(128)}
_FORM_OF_ANY: Final = _FormOfAny(_FORM_OF_ASCII)
_TAIL: Final = quote_plus("</REQUEST>")


def resolve(
    message: SMS,
    *,
    from_: str | None = None,
    campaign_ref: str | None = None,
    enforce_campaign_check: bool = False,
    max_segments: int | None = None,
    number_reader: NumberReader | None = None,
    to: str | None = None,
) -> SMS:
    """Return the message to send, with the defaults filled in.

    Its number is only digits, after `number_reader`; `to` has them if `number` was called before.
    A message that is complete already is returned unchanged.

    Raises InvalidMessage, which names the field, for a message that the API would refuse or
    change.
    """
    to = to or number(message.to, number_reader)
    from_, campaign_ref = message.from_ or from_, message.campaign_ref or campaign_ref
    resolved = message
    if to != message.to or from_ != message.from_ or campaign_ref != message.campaign_ref:
        resolved = _filled_in(message, to=to, from_=from_, campaign_ref=campaign_ref)
    values = _values_of(resolved)
    if not _PLAIN.issuperset(map(type, values)):
        values = tuple(map(_as_str, values))
        resolved = SMS(**dict(zip(_ATTRIBUTES, values, strict=True)), tags=resolved.tags)
    if not resolved.from_:
        raise InvalidMessage(
            "no short code given: pass from_=, or set SKYCORE_FROM", field="from_"
        )
    if enforce_campaign_check and not resolved.campaign_ref:
        raise InvalidMessage(
            "none given, which Enforce Campaign Check asks for: pass campaign_ref=",
            field="campaign_ref",
        )
    _check_characters(values)
    if resolved.tags:
        check_tags(resolved.tags)
    if resolved.key is not None and (resolved.key == "" or resolved.key.startswith(_PRUNED)):
        _check_key(resolved.key)
    if resolved.from_mask and len(resolved.from_mask) > FROM_MASK_LENGTH:
        raise InvalidMessage(
            f"longer than {FROM_MASK_LENGTH} characters; the API would cut it", field="from_mask"
        )
    _check_text(resolved.text, max_segments)
    return resolved


def _as_str(value: Any) -> Any:
    """Return an instance of a subclass of str as a str, and anything else unchanged."""
    return str.__str__(value) if isinstance(value, str) else value


def _check_key(key: str) -> None:
    if not key:
        raise InvalidMessage("empty", field="key")
    if _PRUNED_KEY.fullmatch(key):
        raise InvalidMessage(
            f"{key!r} stands for a key that a ledger has forgotten, and is none: a message under"
            " it would be taken for that one. Give another, as the key that it was made of",
            field="key",
        )


def _filled_in(message: SMS, *, to: str, from_: str | None, campaign_ref: str | None) -> SMS:
    return SMS(
        to=to,
        text=message.text,
        from_=from_,
        campaign_ref=campaign_ref,
        spid=message.spid,
        operator_id=message.operator_id,
        from_mask=message.from_mask,
        key=message.key,
        tags=message.tags,
    )


def _check_characters(values: Iterable[Any]) -> None:
    """Raise InvalidMessage if a value of `_ATTRIBUTES` cannot be sent."""
    try:
        if first_forbidden("".join(filter(_is_given, values))) is None:
            return
    except TypeError:  # one is no text
        pass
    fields = zip(_ATTRIBUTES, values, strict=True)
    faults = [_fault(field, value) for field, value in fields if value is not None]
    raise next(filter(None, faults))


def check_tags(tags: Iterable[str]) -> None:
    """Raise InvalidMessage if one of these tags cannot be stored and shown."""
    for tag in tags:
        if not isinstance(tag, str):
            raise InvalidMessage(f"a str is needed, not {type(tag).__name__}", field="tags")
        if not (0 < len(tag) <= TAG_LENGTH and tag.isprintable()):
            raise InvalidMessage(
                f"a tag has 1 to {TAG_LENGTH} characters, all of which can be seen", field="tags"
            )


def _fault(field: str, value: Any) -> InvalidMessage | None:
    if not isinstance(value, str):
        return InvalidMessage(f"a str is needed, not {type(value).__name__}", field=field)
    forbidden = first_forbidden(value)
    if forbidden is None:
        return None
    position, character = forbidden
    return InvalidMessage(
        f"{describe(character)} at position {position} cannot be sent: XML 1.0 has no such"
        " character",
        field=field,
    )


def _check_text(text: str, max_segments: int | None) -> None:
    if not text:
        raise InvalidMessage("empty", field="text")
    if max_segments is None:
        return
    needed = segments(text)
    if needed.count > max_segments:
        raise InvalidMessage(
            f"takes {needed.count} segments in {needed.encoding}, and max_segments is"
            f" {max_segments}",
            field="text",
        )


def post_body(message: SMS, *, api_key: str) -> bytes:
    """Write a resolved message as the body of a POST: a form whose field `xml` is the REQUEST.

    The parts that are equal in all requests are encoded only once.
    """
    parts = [_HEAD, _form_text(api_key), _AFTER_KEY]
    for (start, end), value in zip(_FORM_FIELDS, _fields_of(message), strict=True):
        if value:
            parts.append(f"{start}{_form_text(value)}{end}")
    parts.append(_TAIL)
    return "".join(parts).encode("ascii")


def _form_text(text: str) -> str:
    if not text.isascii():
        return text.translate(_FORM_OF_ANY)
    # Most numbers and keys need no escaping.
    return text if text.isalnum() else text.translate(_FORM_OF_ASCII)


def query_string(message: SMS, *, api_key: str) -> str:
    """Write a resolved message as the query string of a GET.

    The API key is in it, and URLs reach logs and proxies.
    """
    fields = [("action", "sendsms"), ("api_key", api_key)]
    fields += [
        (name.lower(), value)
        for name, attribute in _FIELDS
        if (value := getattr(message, attribute))
    ]
    return urlencode(fields)
