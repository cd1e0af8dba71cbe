"""A text that a handset sent, as a line for people or for programs."""

from __future__ import annotations

from ...messages import masked
from ...notifications import InboundSMS
from ...protocol.numbers import digits
from .masking import mask_in
from .output import emit, say
from .times import time_of


def show_text(text: InboundSMS, *, show_numbers: bool, as_json: bool) -> None:
    """Print it, with its number masked wherever it stands unless numbers are to be shown."""
    number, said = digits(text.from_) or "", text.text
    if not show_numbers:
        number, said = masked(number), mask_in(said, number)
    time = text.timestamp or text.created
    if as_json:
        emit({"from": number, "to": text.to, "text": said, "time": time})
    else:
        say(f"{number:<15}  {time_of(time):<20}  {said}")
