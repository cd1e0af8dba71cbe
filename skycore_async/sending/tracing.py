"""Tell telemetry about a message.

Rule: an error that telemetry raises ends here, or in `GuardedTelemetry`: it costs a message
nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

import attrs

from ..messages import Outcome
from ..runtime.event_loop import is_accident
from ..runtime.guarded_telemetry import GuardedTelemetry
from .prepare import PreparedSend

if TYPE_CHECKING:
    from ..telemetry import Telemetry


def in_trace(telemetry: Telemetry, prepared: PreparedSend) -> PreparedSend:
    """Return a message with the trace of its caller, as another task will send it."""
    try:
        return attrs.evolve(prepared, trace=telemetry.here())
    except BaseException as raised:
        if not is_accident(raised):
            raise
        return prepared  # without a trace


async def told(telemetry: Telemetry, prepared: PreparedSend, tries: Awaitable[Outcome]) -> Outcome:
    """Return the outcome of all tries to send a message, and tell it to telemetry."""
    base_url, parent = prepared.settings.base_url, prepared.trace
    with GuardedTelemetry(
        lambda: telemetry.sending(base_url, parent=parent), what="what came of an SMS"
    ) as traced:
        outcome = await tries
        traced.tell(lambda operation: operation.ended(outcome))
    return outcome
