"""How fast a sending report of a million messages is read, and how much memory that takes.

Each run is a process of its own: `python -m benchmarks.reports FORM COUNT` reads COUNT
messages, 64 KiB at a time, and prints the megabytes per second of its own CPU time, and the peak
resident memory in bytes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from skycore_async import ReportedMessage, ReportSection
from skycore_async.protocol.report_reader import ReportReader
from skycore_async.simulator import ReportForm
from skycore_async.simulator.report_file import write_report

from .harness import Figure, at_least_absolute, at_most_absolute, peak

FEW: Final = 10_000
MANY: Final = 1_000_000
_AT_A_TIME: Final = 64 * 1024
_BLOCK: Final = 10_000  # different messages, which come again
FORMS: Final = {
    "well-formed": ReportForm(),
    "as documented": ReportForm(well_formed=False, edition=2013, text_attribute="body"),
}


def _messages() -> Iterator[ReportedMessage]:
    at = datetime(2012, 4, 30, 12, 30, 12, 327558, tzinfo=UTC)
    for number in range(_BLOCK):
        sent = at + timedelta(seconds=number / 7)
        yield ReportedMessage(
            history_id=str(236_990 + number),
            to=f"1555{number:07}",
            from_="60856",
            text=f"Hello Jerry, your code is {number}",
            carrier="AT&T" if number % 3 else "Verizon Wireless",
            section=ReportSection.SENDING_LIST,
            acknowledged_at=sent,
            delivered_at=sent + timedelta(seconds=2.5) if number % 10 else None,
        )


def _pieces(form: ReportForm, count: int) -> Iterator[bytes]:
    whole = b"".join(write_report(_messages(), form))
    head, _, rest = whole.partition(b"<TEXT")
    block, end, tail = rest.partition(b"</SENDING_LIST>")
    if not form.well_formed:
        block = block.removesuffix(b"....\n")
    block = b"<TEXT" + block
    yield head
    for _ in range(count // _BLOCK):
        for at in range(0, len(block), _AT_A_TIME):
            yield block[at : at + _AT_A_TIME]
    yield end + tail


def _read(form: ReportForm, count: int) -> float:
    """Read so many messages, and return the megabytes a second."""
    reader, found, size, spent = ReportReader(), 0, 0, 0.0
    for piece in _pieces(form, count):
        began = time.process_time()
        found += len(reader.feed(piece))
        spent += time.process_time() - began
        size += len(piece)
    found += len(reader.finish())
    assert (found, reader.is_complete) == (count, True), (found, reader.problem)
    return size / spent / 1e6


def _run(form: str, count: int) -> tuple[float, float]:
    """Read so many messages in a process of its own; return its speed and its peak, both in MB."""
    command = [sys.executable, "-m", "benchmarks.reports", form, str(count)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    speed, most = run.stdout.split()
    return float(speed), int(most) / 1e6


def measure() -> Iterator[Figure]:
    """Read a million messages in each form, and ten thousand."""
    for form in FORMS:
        _, few = _run(form, FEW)
        speed, many = _run(form, MANY)
        yield at_least_absolute(20, f"a sending report of {MANY:,}, {form}", speed, "MB/s")
        yield at_most_absolute(10, f"memory of it over {FEW:,}", many - few, "MB")


if __name__ == "__main__":
    print(_read(FORMS[sys.argv[1]], int(sys.argv[2])), peak())
