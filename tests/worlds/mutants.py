"""Mistakes put into a copy of the package, each of which worlds must find.

`mutants.toml` has them.  One whose lines are not there any more, since the package has
changed, is said not to apply: give it the lines that stand in their place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any, Final

import attrs

import skycore_async

_HERE: Final = Path(__file__).parent
_PACKAGE: Final = Path(skycore_async.__file__).parent  # which may be an installed one
_ROOT: Final = _HERE.parents[1]


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


def hunt(parts: list[str], *, most: int, backend: str) -> int:
    """Look for each mistake whose name has one of these parts, or for all; 1 where one is missed.

    What is found, and after how many worlds, is printed.
    """
    missed = 0
    for mutant in mutants():
        if parts and not any(part in mutant.name for part in parts):
            continue
        began = time.monotonic()
        found = _hunted(mutant, most, backend) if mutant.applies() else "does not apply"
        missed += not found.startswith("after")
        row = "" if mutant.row is None else f" (row {mutant.row})"
        print(f"{mutant.name}{row}: {found} [{time.monotonic() - began:.0f} s]", flush=True)
    return bool(missed)


def _hunted(mutant: Mutant, most: int, backend: str) -> str:
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        without = shutil.ignore_patterns("__pycache__")
        for name in ("skycore_async", "tests", "benchmarks"):
            shutil.copytree(_ROOT / name, copy / name, ignore=without)
        mutant.put_into(copy / "skycore_async")
        command = ["-m", "benchmarks", "worlds", "--count", str(most), "--until-broken"]
        if backend == "trio":
            command.append("--trio")
        done = subprocess.run(  # noqa: S603 - our own interpreter and our own module
            [sys.executable, *command],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        return f"NOT FOUND in {most:,} worlds"
    lines = (done.stdout or done.stderr).strip().splitlines()
    if not lines or not lines[0].startswith("seed"):
        return f"cannot be run: {lines[-1:]}"
    seed, _, broken = lines[0].removeprefix("seed ").partition(": ")
    return f"after {int(seed) + 1:,} worlds: {broken}"
