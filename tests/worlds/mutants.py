"""Mistakes put into a copy of the package, each of which worlds must find.

`mutants.toml` has them.  If the package has changed and the lines of a mistake are no longer
there, it is reported as not applying: give it the lines that replaced them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import attrs

import skycore_async

_HERE: Final = Path(__file__).parent
_PACKAGE: Final = Path(skycore_async.__file__).parent  # which may be an installed one
_ROOT: Final = _HERE.parents[1]
_AT_A_TIME: Final = 1000  # worlds, after which is kept that nothing was found in them


@attrs.frozen(kw_only=True)
class Mutant:
    """A mistake: in each file, lines that become others; `row` is that of a fault of the past."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    row: int | None

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Mutant:
        """Make one of an entry in the list."""
        changes = [[entry["file"], entry["before"], entry["after"]], *entry.get("and", ())]
        return cls(
            name=entry["name"],
            changes=tuple((file, before, after) for file, before, after in changes),
            row=entry.get("row"),
        )

    def applies(self) -> bool:
        """Return whether each of its lines stands once in the package."""
        return all(
            (_PACKAGE / file).read_text("utf-8").count(before) == 1
            for file, before, _ in self.changes
        )

    def put_into(self, package: Path) -> None:
        """Make the mistake in a copy of the package."""
        for name, before, after in self.changes:
            file = package / name
            file.write_text(file.read_text("utf-8").replace(before, after), "utf-8")


def mutants() -> list[Mutant]:
    """Return all of them."""
    entries = tomllib.loads((_HERE / "mutants.toml").read_text("utf-8"))["mutant"]
    return [Mutant.of(entry) for entry in entries]


def hunt(
    parts: list[str], *, most: int, backend: str, jobs: int | None = None, kept: Path | None = None
) -> int:
    """Look for each mistake whose name has one of these parts, or for all; 1 where one is missed.

    What is found, and after how many worlds, is printed.  So many `jobs` go on beside each
    other, by default one a core.  What is known is `kept` in a file, where one is given, and
    another hunt with the same worlds goes on from there.
    """
    chosen = [each for each in mutants() if not parts or any(part in each.name for part in parts)]
    hunts = _Hunts(most=most, backend=backend, kept=kept)
    with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
        found = list(pool.map(hunts.hunt, chosen))  # all of them, whichever is missed
    return int(not all(found))


class _Hunts:
    """Hunts of which is kept how far they are: by a mistake, and the worlds that look for it."""

    def __init__(self, *, most: int, backend: str, kept: Path | None) -> None:
        self._most = most
        self._backend = backend
        self._kept = kept
        self._turn = threading.Lock()
        self._known: dict[str, dict[str, Any]] = {}
        if kept is not None and kept.exists():
            self._known = json.loads(kept.read_text("utf-8"))
        self._worlds = "".join(each.read_text("utf-8") for each in sorted(_HERE.glob("*.py")))

    def hunt(self, mutant: Mutant) -> bool:
        """Look for a mistake, and return whether it was found."""
        began, row = time.monotonic(), "" if mutant.row is None else f" (row {mutant.row})"
        name = sha256(repr((mutant, self._backend, self._worlds)).encode()).hexdigest()[:16]
        state = self._known.get(name, {"mutant": mutant.name, "tried": 0, "said": None})
        if state["said"] is None:
            said = None if mutant.applies() else "does not apply"
            with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
                if said is None:
                    _copy_with(mutant, Path(folder))
                while said is None and state["tried"] < self._most:
                    said = _looked_for(Path(folder), state["tried"], self._backend)
                    state["tried"] += _AT_A_TIME
                    if said is None or said.startswith("after"):
                        self._keep(name, {**state, "said": said})
        else:
            said = state["said"]
        said = said or f"NOT FOUND in {self._most:,} worlds"
        print(f"{mutant.name}{row}: {said} [{time.monotonic() - began:.0f} s]", flush=True)
        return said.startswith("after")

    def _keep(self, name: str, state: dict[str, Any]) -> None:
        with self._turn:
            self._known[name] = state
            if self._kept is not None:
                self._kept.write_text(json.dumps(self._known, indent=1), "utf-8")


def _copy_with(mutant: Mutant, folder: Path) -> None:
    for name in ("skycore_async", "tests", "benchmarks"):  # with what is compiled already
        shutil.copytree(_ROOT / name, folder / name)
    mutant.put_into(folder / "skycore_async")


def _looked_for(folder: Path, first: int, backend: str) -> str | None:
    """Run some worlds in a copy of the package, and return what came of it; None for nothing."""
    command = ["-m", "benchmarks", "worlds", "--until-broken"]
    command += ["--first", str(first), "--count", str(_AT_A_TIME)]
    if backend == "trio":
        command.append("--trio")
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own module
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    if not lines or not lines[0].startswith("seed"):
        return f"cannot be run: {lines[-1:]}"
    seed, _, broken = lines[0].removeprefix("seed ").partition(": ")
    return f"after {int(seed) + 1:,} worlds: {broken}"
