"""A text from a handset, or an unreadable part that may be one, as a line."""

from __future__ import annotations

from ...messages import masked
from ...notifications import InboundSMS, UnknownNotification
from ...protocol.numbers import digits
from .masking import mask_in
from .output import emit, say
from .times import time_of


def show_text(
    text: InboundSMS | UnknownNotification, *, show_numbers: bool, as_json: bool
) -> None:
    """Print a text, with its number masked everywhere unless numbers are to be shown."""
    if isinstance(text, UnknownNotification):
        _show_unreadable(text, is_whole=show_numbers, as_json=as_json)
        return
    number, said = digits(text.from_) or "", text.text
    if not show_numbers:
        number, said = masked(number), mask_in(said, number)
    time = text.timestamp or text.created
    if as_json:
        emit({"from": number, "to": text.to, "text": said, "time": time})
    else:
        say(f"{number:<15}  {time_of(time):<20}  {said}")


def _show_unreadable(part: UnknownNotification, *, is_whole: bool, as_json: bool) -> None:
    """Print why a part of a postback could not be read, and its text, which may have numbers."""
    why, text = part.unreadable or "", part.raw.get("#text", "") if is_whole else None
    if as_json:
        emit({"from": None, "to": None, "text": text, "time": None, "unreadable": why})
        return
    said = f"{why}; --show-numbers shows it" if text is None else f"{why}: {text}"
    say(f"{'unreadable':<15}  {'':<20}  {said}")
