"""A message made ready to go, and what the log says of it.  No I/O.

Rules:

* What is the same in every try is made once, before the first, and so is the digest of the content
  for the ledger.
* A log record has no text and no key, and of a number only its last four digits.
"""

from __future__ import annotations

import logging
import re
import warnings
from typing import Any, Final

import attrs

from ..errors import InvalidMessage, Rejected, SkycoreError
from ..ledger.content import content_of
from ..messages import SMS, Accepted, Failed, Outcome, masked
from ..protocol import requests
from ..runtime.logs import log
from ..transports.base import Request
from .api_request import api_request
from .outcomes import meaning_of
from .settings import Settings

# What the provider says is logged only if it has the expected form, so that it can do no harm to a
# terminal, or to a file with one record a line.
_TRACKING_ID: Final = re.compile(r"[A-Za-z0-9_=+/.-]{1,200}")
_CODE: Final = re.compile(r"[A-Z][0-9]{1,4}")


@attrs.frozen(kw_only=True)
class ResolvedMessage:
    """A message as `resolve` made it, which has been looked up in the ledger by its `content`."""

    message: SMS
    content: bytes


@attrs.frozen(kw_only=True, slots=False)  # it is made sooner, and lives no longer than a send
class PreparedSend:
    """A message ready to go: the `message` that the caller gave, and the `resolved` one to send.

    `content` is its digest, None if there is no ledger.  With `is_looked_up` it need not be looked
    up before it is begun.  `doubt_started_at` is when the attempt in doubt started that may be
    sent again; with `has_no_doubt` the look-up found none that may be.
    """

    message: SMS
    resolved: SMS
    content: bytes | None
    is_looked_up: bool
    settings: Settings
    request: Request
    trace: Any = None
    doubt_started_at: float | None = None
    has_no_doubt: bool = False


def prepare(
    given: SMS | ResolvedMessage, settings: Settings, *, is_recorded: bool
) -> PreparedSend | Failed:
    """Return a message ready to be sent, or the outcome if it cannot be sent."""
    if isinstance(given, ResolvedMessage):
        return PreparedSend(
            message=given.message,
            resolved=given.message,
            content=given.content,
            is_looked_up=True,
            settings=settings,
            request=api_request(given.message, requests, settings),
        )
    try:
        resolved = requests.resolve(
            given,
            from_=settings.from_,
            campaign_ref=settings.campaign_ref,
            enforce_campaign_check=settings.enforce_campaign_check,
            max_segments=settings.max_segments,
            number_reader=settings.number_reader,
        )
    except InvalidMessage as error:
        # The text of the error may quote the number.
        log.info("an SMS was refused here: InvalidMessage: %s", error.field)
        return Failed(message=given, error=error)
    return PreparedSend(
        message=given,
        resolved=resolved,
        content=content_of(resolved) if is_recorded else None,
        is_looked_up=given.key is None,  # it will have a key that is made up, and so new
        settings=settings,
        request=api_request(resolved, requests, settings),
    )


def log_outcome(prepared: PreparedSend, outcome: Outcome) -> None:
    """Log the outcome of a message, without its text and most of its number."""
    if isinstance(outcome, Accepted):
        if log.isEnabledFor(logging.DEBUG):
            to = masked(prepared.resolved.to)
            named = _TRACKING_ID.fullmatch(outcome.tracking_id or "")
            log.debug("SMS to %s accepted as %s", to, named[0] if named else "an odd tracking id")
        return
    to = masked(prepared.resolved.to)
    error = outcome.error
    level = logging.WARNING if meaning_of(error).in_doubt else logging.INFO
    log.log(level, "SMS to %s: %s: %s", to, type(error).__name__, _said(error))


def _said(error: SkycoreError) -> str:
    # The provider's message may quote the number or the text, so only its code is logged.
    code = getattr(error, "code", None)
    if code is not None:
        return code if _CODE.fullmatch(code) else "an odd error code"
    return "no error code" if isinstance(error, Rejected) else str(error)


def warn_that_keys_do_nothing() -> None:
    """Warn, at the line that called `send_sms`, that a key does nothing without a ledger."""
    warnings.warn(
        "key= does nothing without a ledger: a message that is given twice is sent twice. Give"
        " the client a ledger, such as SQLiteLedger(path)",
        stacklevel=5,
    )
