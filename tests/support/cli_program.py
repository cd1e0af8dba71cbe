"""The command line as a process of its own, for what is about signals and streams."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def program(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program in a process of its own, and end it whatever happens."""
    command = [sys.executable, "-W", "error", "-m", "skycore_async.cli", *arguments]
    with subprocess.Popen(  # noqa: S603 - our own interpreter
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        rescue = threading.Timer(20, process.kill)
        rescue.start()
        try:
            yield process
        finally:
            rescue.cancel()
            process.kill()


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the next line of JSON."""
    assert process.stdout is not None
    value = json.loads(process.stdout.readline())
    assert isinstance(value, dict)
    return value
