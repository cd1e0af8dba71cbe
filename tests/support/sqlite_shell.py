"""Another program that has a ledger's file open with SQLite alone, and runs what it is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHELL = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    print(connection.execute(line).fetchall(), flush=True)
connection.close()
"""


@contextmanager
def shell(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run such a program, which closes the file at the end."""
    command = [sys.executable, "-c", SHELL, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:  # type: ignore[call-overload] # noqa: S603
        yield process
        process.communicate(timeout=20)
        assert process.returncode == 0


def run(process: subprocess.Popen[str], statement: str) -> str:
    """Run a statement in the other program, and return the rows."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{statement}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()
