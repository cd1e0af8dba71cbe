"""The memory that the rows of a file take in a dry run of `skycore bulk`, in a process of its own.

`python -m benchmarks.rows FILE` checks a file, and prints the peak resident memory.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from skycore_async.cli.app import skycore

from .harness import Figure, at_most_absolute, peak

COUNT: Final = 300_000


def _check(file: str) -> None:
    command = ["bulk", file, "--text", "Hi {name}, your code is {code}", "--dry-run"]
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.suppress(SystemExit),  # with its exit code
    ):
        skycore(command)


def measure() -> Iterator[Figure]:
    """Check a file with many rows."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.csv")
        with file.open("w") as rows:
            rows.write("to,name,code\n")
            rows.writelines(f"1555{n:07},Somebody {n % 977},{n}\n" for n in range(COUNT))
        command = [sys.executable, "-m", "benchmarks.rows", str(file)]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own
    yield at_most_absolute(45, f"dry run of {COUNT:,} rows", int(run.stdout) / 1e6, "MB")


if __name__ == "__main__":
    _check(sys.argv[1])
    print(peak())
