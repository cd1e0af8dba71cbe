"""The command line as a process of its own, for tests of signals and streams.

Strategy: it is forked from a process that has loaded the package, see `other_process`, because
loading takes most of the time of such a test.  Tests of how the program is loaded, and of how an
interpreter ends, run `python -m skycore_async.cli` instead.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import IO, Any

from skycore_async.cli import main

from . import other_process


class _Forked(subprocess.Popen[str]):
    """The program as `Popen` would have started it, with pipes for what it writes."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        (out, to_out), (err, to_err) = Pipe(duplex=False), Pipe(duplex=False)
        self.args, self.stdin = arguments, None
        values = (Path.cwd(), to_out, to_err, arguments)
        self._process = other_process.forked(_run, *values, environment=environment)
        for each in (to_out, to_err):
            each.close()
        self.stdout, self.stderr = _reading(out), _reading(err)
        self.pid = self._process.pid or 0
        self.returncode: int | Any = None

    def poll(self) -> int | None:
        """Return its exit code, if it has ended."""
        self.returncode = self._process.exitcode
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return its exit code."""
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(
        self,
        input: str | None = None,  # noqa: A002 - as it is called there
        timeout: float | None = None,
    ) -> tuple[str, str]:
        """Wait until it has ended, and return what it wrote that was not read yet."""
        assert self.stdout
        assert self.stderr
        with ThreadPoolExecutor(2) as readers:
            out, err = readers.submit(self.stdout.read), readers.submit(self.stderr.read)
            self.wait(timeout)
        return out.result(), err.result()


def _reading(pipe: Any) -> IO[str]:
    """Return a text file that reads the pipe, and close the connection itself."""
    with pipe:
        return os.fdopen(os.dup(pipe.fileno()), encoding="utf-8")


def _run(directory: Path, out: Connection, err: Connection, arguments: Sequence[str]) -> None:
    """Run the program in the forked process."""
    for descriptor, pipe in ((1, out), (2, err)):
        os.dup2(pipe.fileno(), descriptor)
        pipe.close()
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
    sys.argv = ["skycore", *arguments]
    os.chdir(directory)
    main()


@contextmanager
def program(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program in a process of its own, and end it whatever happens."""
    with _started(arguments, {**os.environ, **environment}) as process:
        rescue = threading.Timer(20, process.kill)
        rescue.start()
        try:
            yield process
        finally:
            rescue.cancel()
            process.kill()


def _started(arguments: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    if sys.platform != "win32":
        return _Forked(arguments, environment)
    command = [sys.executable, "-W", "error", "-m", "skycore_async.cli", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        command, stdout=pipe, stderr=pipe, text=True, env=environment
    )


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the next line of JSON."""
    assert process.stdout is not None
    value = json.loads(process.stdout.readline())
    assert isinstance(value, dict)
    return value
