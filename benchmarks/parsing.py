"""The CPU time of `parse_postback`, against a bare `xmltodict.parse` of the same body."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable, Iterator

import xmltodict

from skycore_async import parse_postback

from .harness import Figure, at_most, medians

RECEIPT = b"""<NOTIFICATION id="326" created=" 2011-07-26 10:22:27.146582-04">
  <ORIGIN>SMS_MT</ORIGIN>
  <CODE>N201</CODE>
  <BODY>
    <HISTORYID>236990</HISTORYID>
    <TO>15551234888</TO>
    <TRACKINGID>SMS_12345</TRACKINGID>
    <STATUS PROTOCOL="4" STATUS="0"/>
    <TIMESTAMP>2011-07-26 10:22:25.262743-04</TIMESTAMP>
  </BODY>
</NOTIFICATION>"""

FLAT = b"""<POSTBACK>
  <ORIGIN>SMS_MT</ORIGIN>
  <CODE>N202</CODE>
  <STATUS>Message Sent/Delivered</STATUS>
  <FROM>60856</FROM>
  <TO>15551234888</TO>
  <TRACKINGID>U01TXzc2Nzg2Nw==</TRACKINGID>
  <SPID>0001470</SPID>
  <TIMESTAMP>2013-11-05T05:41:08-05:00</TIMESTAMP>
</POSTBACK>"""

BODIES = {
    # what, how often in a round, and the bound
    "one receipt": (RECEIPT, 1000, 1.25),
    "one flat receipt": (FLAT, 1000, 1.25),
    "a bundle of 300": (b"<POSTBACK>" + RECEIPT * 300 + b"</POSTBACK>", 5, 1.1),
}


def _timing(parse: Callable[[bytes], object], body: bytes, times: int) -> Callable[[], float]:
    timed = timeit.Timer(lambda: parse(body), timer=time.process_time)
    return lambda: timed.timeit(times) / times * 1e6


def measure() -> Iterator[Figure]:
    """Parse one notification of either form, and a full bundle."""
    for name, (body, times, bound) in BODIES.items():
        ours, theirs = medians(
            _timing(parse_postback, body, times), _timing(xmltodict.parse, body, times)
        )
        yield at_most(
            bound,
            f"parse_postback, {name}",
            ours=ours,
            theirs=theirs,
            unit="µs",
            against="xmltodict.parse",
        )
