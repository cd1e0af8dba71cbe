"""Notifications as the API writes them, for processes that import only what they need."""

from __future__ import annotations

NUMBER = "15551234888"


def notification(n: int = 1, *, tracking_id: str = "SMS_1", text: str | None = None) -> str:
    """Write a notification: a receipt that says delivered, or an inbound SMS of that text."""
    if text is not None:
        kind, body = "SMS_MO</ORIGIN><CODE>N211", f"<FROM>{NUMBER}</FROM><TEXT>{text}</TEXT>"
    else:
        kind = "SMS_MT</ORIGIN><CODE>N202"
        body = (
            f"<TO>{NUMBER}</TO><TRACKINGID>{tracking_id}</TRACKINGID>"
            "<STATUS>Message Sent/Delivered</STATUS>"
        )
    return (
        f'<NOTIFICATION ID="{n}" CREATED="2026-01-02 03:04:05-05">'
        f"<ORIGIN>{kind}</CODE><BODY>{body}</BODY></NOTIFICATION>"
    )
