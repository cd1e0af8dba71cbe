"""The exit code and last words of `skycore worker`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from skycore_async import ConfigurationError
from skycore_async.campaigns.counters import WorkerCounters
from skycore_async.cli.actions import worker
from skycore_async.cli.actions.worker import WorkerEnd
from skycore_async.cli.ui.output import Exit
from skycore_async.runtime.secret import Secret

REFUSED = {"refused": Counter({"E110": 1})}
HALTED = {"halted": {"promo": "of 200 messages in a row none got through"}}
ERROR = ConfigurationError("no tables")


@pytest.mark.parametrize(
    ("counters", "further", "code"),
    [
        ({"accepted": 3}, {}, Exit.DONE),
        (REFUSED, {}, Exit.NOT_ALL_WELL),
        (REFUSED | HALTED, {}, Exit.REFUSED),
        (REFUSED, {"error": ERROR}, Exit.USAGE),
        (HALTED | {"in_doubt": 1}, {}, Exit.IN_DOUBT),
        ({"in_doubt": 1}, {"error": ERROR}, Exit.IN_DOUBT),
        ({"in_doubt": 1}, {"is_interrupted": True}, Exit.IN_DOUBT),
        ({"accepted": 1}, {"is_interrupted": True}, Exit.INTERRUPTED),
        ({"accepted": 1}, {"is_interrupted": True, "unwritten": 1}, Exit.IN_DOUBT),
    ],
)
def test_the_exit_code_is_for_the_worst(
    counters: dict[str, Any], further: dict[str, Any], code: Exit
) -> None:
    """The exit code is that of the worst outcome; doubt comes before a halt."""
    end = WorkerEnd(
        **{
            "counters": WorkerCounters(**counters),
            "is_interrupted": False,
            "error": None,
            **further,
        }
    )
    assert end.exit_code is code


def test_counts_are_printed_where_the_database_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A worker that ends with an error still prints its counts and doubts."""
    end = WorkerEnd(
        counters=WorkerCounters(in_doubt=2), is_interrupted=False, error=ERROR, unwritten=1
    )

    async def ended(*_: object) -> WorkerEnd:
        return end

    monkeypatch.setattr(worker, "_work", ended)
    options = worker.WorkerOptions(
        rate=None,
        burst=1,
        in_flight=1,
        transport="fast",
        drain=True,
        lease=1,
        base_url=None,
        opt_outs=None,
    )
    with pytest.raises(SystemExit) as left:
        worker.run_worker(Secret("postgresql:///x"), Secret("a key"), options, as_json=False)
    printed = capsys.readouterr()
    assert left.value.code == Exit.IN_DOUBT
    assert "in doubt      2\n" in printed.out
    unwritten, error = printed.err.splitlines()
    assert unwritten.startswith("1 outcome of these could not be written: their messages are in")
    assert error == "skycore: no tables"
