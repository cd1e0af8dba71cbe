"""What an installation has: the command, the plugin, the data files and the types.

Against the checkout this holds what the project file says; where the tests run
against an installed wheel, what is in the wheel.
"""

from __future__ import annotations

import pkgutil
import re
import runpy
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

import pytest

import skycore_async
from skycore_async import pytest_plugin
from skycore_async.cli import main

NAME, PACKAGE = "skycore-async", "skycore_async"
METADATA = distribution(NAME).metadata
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [README, *(path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md")))]
DATA = ROOT.glob("skycore_async/**/templates/*")


@pytest.mark.parametrize(
    ("group", "object_"), [("console_scripts", main), ("pytest11", pytest_plugin)]
)
def test_the_command_and_the_plugin_are_announced(group: str, object_: object) -> None:
    """An installation has the command `skycore`, and the plugin of that name for pytest."""
    (entry,) = (each for each in distribution(NAME).entry_points if each.group == group)
    assert entry.name == "skycore"
    assert entry.load() is object_


def test_a_one_file_program_has_all_modules_and_files() -> None:
    """PyInstaller finds the hook, which names what is loaded by name and what is read."""
    (entry,) = (each for each in distribution(NAME).entry_points if each.group == "pyinstaller40")
    assert entry.name == "hook-dirs"
    (folder,) = entry.load()()
    hook = runpy.run_path(str(Path(folder, "hook-skycore_async.py")))
    modules = {name for _, name, _ in pkgutil.walk_packages(skycore_async.__path__, f"{PACKAGE}.")}
    own = {name for name in modules if name.startswith(f"{PACKAGE}.pyinstaller")}
    assert set(hook["hiddenimports"]) == (modules - own) | {PACKAGE}
    there = {(Path(file).name, where) for file, where in hook["datas"]}
    assert {
        ("carrier_status.csv", PACKAGE),
        ("page.html", str(Path(PACKAGE, "cli", "report", "templates"))),
        ("0001_tables.sql", str(Path(PACKAGE, "postgres", "migrations"))),
        ("0001_tables.sql", str(Path(PACKAGE, "ledger", "sqlite", "migrations"))),
    } <= there
    assert all(Path(file).is_file() for file, _ in hook["datas"])


@pytest.mark.parametrize(
    "path",
    [
        "py.typed",
        "carrier_status.csv",
        "cli/report/templates/page.html",
        *sorted(str(path.relative_to(ROOT / "skycore_async")) for path in DATA),
    ],
)
def test_a_file_that_is_no_module_is_there(path: str) -> None:
    """The marker of a typed package, and what is read at run time, come with the modules."""
    assert files("skycore_async").joinpath(path).is_file()


def test_every_requirement_has_bounds_on_both_sides() -> None:
    """The lowest version is one that was tried, and none comes that may break what is used."""
    own = re.compile(r"skycore-async\[|httpx\[socks]")  # bounded where they are asked for
    for line in METADATA.get_all("Requires-Dist", []):
        asked, _, _extra = line.partition(";")
        if not own.match(asked):
            assert re.search(r">=[0-9.]+", asked), line
            assert re.search(r"<[0-9.]+", asked), line


def test_the_readme_is_short() -> None:
    """What a newcomer reads first is at most 12 kB; the rest is in docs/, by task."""
    assert len(README.encode()) <= 12_000


def test_the_extras_that_the_pages_name_are_there() -> None:
    """No `pip install` and no word of the pages names an extra that there is none of."""
    text = "\n".join(PAGES)
    groups = re.findall(rf"(?:{NAME}|\.)\[([a-z,]+)\]", text)
    named = {extra for group in groups for extra in group.split(",")}
    named |= set(re.findall(r"extra `(\w+)`", text))
    assert {"cli", "server", "dev", "testing", "otel", "bench"} <= named
    assert named <= set(METADATA.get_all("Provides-Extra", []))


def test_the_versions_of_python_are_the_same_everywhere() -> None:
    """pip, the package index and the README name the same versions."""
    listed = [
        words[-1]
        for words in (each.split(" :: ") for each in METADATA.get_all("Classifier", []))
        if words[:2] == ["Programming Language", "Python"] and "." in words[-1]
    ]
    assert METADATA["Requires-Python"] == f">={listed[0]}"
    assert f"Python {', '.join(listed[:-1])} and {listed[-1]};" in README
