"""Messages sent per second, against an earlier build of this package.

Each side is a process that runs `side.py` with its build; the sides run by turns.  The earlier
build is taken from git.

Rule: if the earlier build cannot be had, as from an sdist or a shallow clone, or without the extra
`bench` that its fast transport needs, the figure says so and counts as passed.
"""

from __future__ import annotations

import functools
import io
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import attrs

from .harness import Figure, at_least, at_most, without_peer
from .server import running

COMMIT: Final = "9f56447"  # the last whose fast transport was aiohttp's, with tables of version 1
_BEFORE_ATTEMPTS: Final = "96e8a0c"  # the last whose ledger kept no attempts
_ROUNDS: Final = 5
_ROOT: Final = Path(__file__).parents[1]
_SIDE: Final = _ROOT / "benchmarks" / "side.py"


@contextmanager
def earlier_build(commit: str | None = None) -> Iterator[Path | None]:
    """Return the folder of the earlier build, for as long as it is needed; None without one."""
    commit = COMMIT if commit is None else commit
    archive = ["git", "-C", str(_ROOT), "archive", "--format=zip", commit, "skycore_async"]
    try:
        taken = subprocess.run(archive, capture_output=True, check=True).stdout  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(io.BytesIO(taken)).extractall(folder)
        yield Path(folder)


@attrs.frozen(kw_only=True)
class _Row:
    """What is compared: over which transports, how many messages, and `bound` times as fast.

    Without `is_timed` it is the CPU alone, as where nothing but that takes time.
    """

    measured: str
    ours: tuple[str, int]
    theirs: tuple[str, int]
    bound: float
    has_ledger: bool = False
    is_timed: bool = True
    commit: str = COMMIT
    rounds: int = _ROUNDS


_AIOHTTP: Final = ("AiohttpTransport", 3000)
_ROWS: Final = (
    _Row(
        measured="fast, 100 in flight", ours=("DirectTransport", 8000), theirs=_AIOHTTP, bound=2.4
    ),
    _Row(
        measured="default, 100 in flight",
        ours=("HttpxTransport", 1500),
        theirs=("HttpxTransport", 1500),
        bound=1.1,
    ),
    _Row(
        measured="fast, SQLiteLedger",
        ours=("DirectTransport", 4000),
        theirs=_AIOHTTP,
        bound=2.0,
        has_ledger=True,
    ),
)
# 11 µs where the earlier build takes 14.
_OWN: Final = _Row(
    measured="own, 100 in flight",
    ours=("at_once", 20_000),
    theirs=("at_once", 20_000),
    bound=1.27,
    is_timed=False,
)
# What a ledger keeps of attempts and texts may cost a twentieth of a message.
_WITH_LEDGER: Final = tuple(
    _Row(
        measured="own, SQLiteLedger",
        ours=("at_once", 12_000),
        theirs=("at_once", 12_000),
        bound=1 / 1.05,
        has_ledger=True,
        is_timed=False,
        commit=commit,
        rounds=11,
    )
    for commit in (COMMIT, _BEFORE_ATTEMPTS)
)


def measure() -> Iterator[Figure]:
    """Send over either transport, with a ledger, and over one that answers at once."""
    with earlier_build() as build, running() as url:
        for row in (*_ROWS, _OWN):
            if build is None:
                yield without_peer(row.measured, f"build {COMMIT}, which is not here")
            elif row.theirs is _AIOHTTP and find_spec("aiohttp") is None:
                yield without_peer(row.measured, f"build {COMMIT}, which needs the extra `bench`")
            else:
                yield from _compared(row, build, url)


def measure_ledger() -> Iterator[Figure]:
    """Send over a transport that answers at once, with a ledger, and what ledgers were before."""
    for row in _WITH_LEDGER:
        with earlier_build(row.commit) as build:
            if build is None:
                yield without_peer(row.measured, f"build {row.commit}, which is not here")
            else:
                yield from _compared(row, build, "http://127.0.0.1:1")


def _compared(row: _Row, build: Path, url: str) -> Iterator[Figure]:
    """Compare both builds by turns: messages a second, and CPU, which says more on busy cores."""
    sides = [
        functools.partial(_side, where, transport, url, count, has_ledger=row.has_ledger)
        for where, (transport, count) in ((_ROOT, row.ours), (build, row.theirs))
    ]
    _warm_up, *rounds = [[side() for side in sides] for _ in range(1 + row.rounds)]
    (rate, cpu), (other_rate, other_cpu) = (
        map(statistics.median, zip(*of_side, strict=True)) for of_side in zip(*rounds, strict=True)
    )
    against = f"build {row.commit}, {row.theirs[0]}"
    if row.is_timed:
        yield at_least(
            row.bound, row.measured, ours=rate, theirs=other_rate, unit="msg/s", against=against
        )
    yield at_most(
        round(1 / row.bound, 2),
        f"{row.measured}: CPU",
        ours=cpu,
        theirs=other_cpu,
        unit="µs",
        against=against,
    )


def _side(build: Path, transport: str, url: str, count: int, *, has_ledger: bool) -> list[float]:
    """Send in a program of its own; return messages a second, and µs of CPU for each."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = [str(Path(folder, "sent.db"))] if has_ledger else []
        command = [sys.executable, "-P", str(_SIDE), transport, url, str(count), *ledger]
        environment = {**os.environ, "PYTHONPATH": str(build)}
        run = subprocess.run(  # noqa: S603 - our own interpreter and our own program
            command, check=True, stdout=subprocess.PIPE, env=environment, text=True
        )
    return [float(each) for each in run.stdout.split()]
