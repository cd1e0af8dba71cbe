"""A message made ready to go, and what the log says of it.  No I/O.

Rules:

* What is the same in every try is made once, before the first; so is the digest,
  by which a ledger tells one message from another.
* A log record has no text and no key, and the last four digits of a number.
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

# What the provider says is logged where it looks like what it is to be, and so does nothing to
# a terminal, nor to a file of one record a line.
_TRACKING_ID: Final = re.compile(r"[A-Za-z0-9_=+/.-]{1,200}")
_CODE: Final = re.compile(r"[A-Z][0-9]{1,4}")


@attrs.frozen(kw_only=True)
class ResolvedMessage:
    """A message as `resolve` made it, which its sender has looked up in the ledger.

    `content` is its digest, by which it was looked up.
    """

    message: SMS
    content: bytes


@attrs.frozen(kw_only=True, slots=False)  # it is made sooner, and lives no longer than a send
class PreparedSend:
    """A message ready to go: what the caller gave, and what is sent of it.

    `content` is its digest, None where no ledger is kept; where it `is_looked_up`,
    nothing more can be known of it before it is begun.  `doubt_started_at` is when the attempt in
    doubt started that may be sent again; with `has_no_doubt` the look-up found none that may be.
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
    """Make ready what it takes to send a message, or say why it cannot be sent."""
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
        # Its text may quote the number.
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
    """Say in the log what came of a message, without its text and most of its number."""
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
    # The provider's own words may quote the number or the text: its code stands for them, if
    # it is one.
    code = getattr(error, "code", None)
    if code is not None:
        return code if _CODE.fullmatch(code) else "an odd error code"
    return "no error code" if isinstance(error, Rejected) else str(error)


def warn_that_keys_do_nothing() -> None:
    """Warn of a key that is given to a client without a ledger, where `send_sms` was called."""
    warnings.warn(
        "key= does nothing without a ledger: a message that is given twice is sent twice. Give"
        " the client a ledger, such as SQLiteLedger(path)",
        stacklevel=5,
    )
