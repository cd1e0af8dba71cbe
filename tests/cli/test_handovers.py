"""How many of the package's own functions a message passes through."""

from __future__ import annotations

import functools

import pytest

from benchmarks.handovers import RUNS, Run, calls_per_message, send_rows

BOUNDS = {measured: rest for measured, *rest in RUNS}


@pytest.mark.slow
@pytest.mark.parametrize(("run", "bound"), BOUNDS.values(), ids=BOUNDS)
def test_no_more_hand_overs_than_it_takes(run: Run, bound: int) -> None:
    """A message takes at most a fixed number of calls of the package's functions.

    It is tried six times, since an answer in two pieces takes more calls.
    """
    assert any(calls_per_message(run).total() <= bound for _ in range(6))


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--rate", "5000")], ids=["at once", "paced"])
def test_nothing_is_done_twice_for_a_row(options: tuple[str, ...]) -> None:
    """A row of a file is read, resolved and digested once in a run."""
    calls = calls_per_message(functools.partial(_with_options, options))
    once = (
        "cli/bulk/rows.py: RowReader.read",
        "protocol/requests.py: resolve",
        "ledger/content.py: content_of",
        "ledger/rules.py: earlier_submission",  # for many rows at once, before any is begun
        "ledger/base.py: BaseLedger.begin",
    )
    assert {name: calls[name] for name in once} == dict.fromkeys(once, 1)
    assert calls["ledger/base.py: BaseLedger.lookup"] == 0


def _with_options(options: tuple[str, ...], url: str, count: int) -> None:
    send_rows(url, count, *options)
