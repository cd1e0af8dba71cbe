"""How many messages a second go out, against an earlier build of this package.

Each side is a program of its own, `side.py`, over the build that it is given, by turns.  The
earlier one is taken out of git.

Rule: where it is not to be had, as from an sdist or a shallow clone, or without the extra
`bench` that its fast transport needs, the figure says so and holds.
"""

from __future__ import annotations

import functools
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from .harness import Figure, at_least, at_most, medians, without_peer
from .server import running

COMMIT: Final = "9f56447"  # the last whose fast transport was aiohttp's
_ROUNDS: Final = 5
_ROOT: Final = Path(__file__).parents[1]
_SIDE: Final = _ROOT / "benchmarks" / "side.py"


@contextmanager
def earlier_build() -> Iterator[Path | None]:
    """Return the folder of the earlier build, for as long as it is needed; None without one."""
    archive = ["git", "-C", str(_ROOT), "archive", "--format=zip", COMMIT, "skycore_async"]
    try:
        taken = subprocess.run(archive, capture_output=True, check=True).stdout  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(io.BytesIO(taken)).extractall(folder)
        yield Path(folder)


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


def _rates(
    build: Path, url: str, mine: tuple[str, int], theirs: tuple[str, int], *, has_ledger: bool
) -> tuple[float, float]:
    """Return the messages a second of this build and of the earlier one.

    `mine` and `theirs` are the transport and how many messages are sent over it.
    """
    ours = functools.partial(_side, _ROOT, mine[0], url, mine[1], has_ledger=has_ledger)
    other = functools.partial(_side, build, theirs[0], url, theirs[1], has_ledger=has_ledger)
    return medians(lambda: ours()[0], lambda: other()[0], rounds=_ROUNDS)


def own_cpu(build: Path) -> tuple[float, float]:
    """Return the microseconds of CPU that a message costs this build and the earlier one."""
    ours, theirs = (
        functools.partial(_side, each, "at_once", "http://127.0.0.1/", 20_000, has_ledger=False)
        for each in (_ROOT, build)
    )
    return medians(lambda: ours()[1], lambda: theirs()[1], rounds=_ROUNDS)


_FAST: Final = ("AiohttpTransport", 3000)
_ROWS: Final = (
    # what, the least ratio, this build's transport and how many it sends, the earlier build's
    ("fast, 100 in flight", 2.4, ("DirectTransport", 8000), _FAST, False),
    ("default, 100 in flight", 1.1, ("HttpxTransport", 1500), ("HttpxTransport", 1500), False),
    ("fast, SQLiteLedger", 2.0, ("DirectTransport", 4000), _FAST, True),
)


def measure() -> Iterator[Figure]:
    """Send over either transport, with a ledger, and over one that answers at once."""
    with earlier_build() as build, running() as url:
        for measured, bound, mine, theirs, has_ledger in _ROWS:
            if build is None:
                yield without_peer(measured, f"build {COMMIT}, which is not here")
            elif theirs is _FAST and find_spec("aiohttp") is None:
                yield without_peer(measured, f"build {COMMIT}, which needs the extra `bench`")
            else:
                ours, other = _rates(build, url, mine, theirs, has_ledger=has_ledger)
                against = f"build {COMMIT}, {theirs[0]}"
                yield at_least(
                    bound, measured, ours=ours, theirs=other, unit="msg/s", against=against
                )
        if build is None:
            yield without_peer("own CPU per message", f"build {COMMIT}, which is not here")
        else:
            cpu, other = own_cpu(build)
            yield at_most(
                0.79,  # 11 µs where the earlier build takes 14
                "own CPU per message",
                ours=cpu,
                theirs=other,
                unit="µs",
                against=f"build {COMMIT}",
            )
