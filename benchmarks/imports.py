"""The cost of importing the package, in whole processes, against `import httpx`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from .harness import Figure, at_most, medians


def _starting(statement: str) -> Callable[[], float]:
    def milliseconds() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: S603 - our own
        return (time.perf_counter() - began) * 1000

    return milliseconds


def measure() -> Iterator[Figure]:
    """Import the package, and the client from it."""
    for statement in (
        "import skycore_async",
        "from skycore_async import HttpxTransport, SkycoreClient",
    ):
        ours, theirs = medians(_starting(statement), _starting("import httpx"))
        yield at_most(1.25, statement, ours=ours, theirs=theirs, unit="ms", against="import httpx")
