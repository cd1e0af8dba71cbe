"""A message made ready to go, and what the log says of it.  No I/O.

Rules:

* What is the same in every attempt is made once, before the first.
* A log record has no text and no key, and the last four digits of a number.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import attrs

from . import wire
from .errors import InvalidMessage, OutcomeUnknown, Rejected
from .messages import SMS, Accepted, Failed, Outcome, masked
from .settings import Settings
from .transports.base import Request
from .version import __version__

_log: Final = logging.getLogger("skycore_async")
_log.addHandler(logging.NullHandler())  # a program without logging stays quiet

_HEADERS: Final = {
    "Accept": "text/xml",
    "Accept-Encoding": "identity",  # an answer is read as it comes
    "User-Agent": f"skycore-async/{__version__}",
}
_POST_HEADERS: Final = _HEADERS | {"Content-Type": "application/x-www-form-urlencoded"}


@attrs.frozen(kw_only=True)
class Job:
    """A message ready to go: what the caller gave, and what is sent of it."""

    message: SMS
    resolved: SMS
    settings: Settings
    request: Request
    trace: Any = None


def job_of(message: SMS, settings: Settings) -> Job | Failed:
    """Make ready what it takes to send a message, or say why it cannot be sent."""
    try:
        resolved = wire.resolve(
            message,
            from_=settings.from_,
            campaign_ref=settings.campaign_ref,
            enforce_campaign_check=settings.enforce_campaign_check,
            max_segments=settings.max_segments,
        )
    except InvalidMessage as error:
        # Its text may quote the number.
        _log.info("an SMS was refused here: InvalidMessage: %s", error.field)
        return Failed(message=message, error=error)
    return Job(
        message=message,
        resolved=resolved,
        settings=settings,
        request=_request(resolved, settings),
    )


def _request(resolved: SMS, settings: Settings) -> Request:
    if settings.method == "GET":
        return Request(
            method="GET",
            url=settings.base_url,
            query=wire.query_string(resolved, api_key=settings.api_key.reveal()),
            headers=_HEADERS,
        )
    return Request(
        method="POST",
        url=settings.base_url,
        body=wire.post_body(resolved, api_key=settings.api_key.reveal()),
        headers=_POST_HEADERS,
    )


def log_outcome(job: Job, outcome: Outcome) -> None:
    """Say in the log what came of a message, without its text and most of its number."""
    if isinstance(outcome, Accepted):
        if _log.isEnabledFor(logging.DEBUG):
            to = masked(job.resolved.to)
            _log.debug("SMS to %s accepted as %s", to, outcome.tracking_id)
        return
    to = masked(job.resolved.to)
    error = outcome.error
    level = logging.WARNING if isinstance(error, OutcomeUnknown) else logging.INFO
    code = getattr(error, "code", None)
    # The provider's own words may quote the number or the text: its code stands for them.
    said = code or ("no error code" if isinstance(error, Rejected) else error)
    _log.log(level, "SMS to %s: %s: %s", to, type(error).__name__, said)
