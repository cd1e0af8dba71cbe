"""The pages in docs/ name what is there."""

from __future__ import annotations

import collections.abc
import re
import typing
from pathlib import Path

import pytest

import skycore_async

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """Return the text of a page, pictures too, without what is run or typed."""
    text = page.read_text("utf-8")
    return re.sub(r"^```\w+\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return what a link can name in a page: its headings, spelt as GitHub and Sphinx do."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_every_page_is_in_both_tables_of_contents() -> None:
    """A reader of the README, and one of the pages alone, finds each page."""
    for start in (ROOT / "README.md", ROOT / "docs" / "index.md"):
        linked = {(start.parent / link).resolve() for link in LINK.findall(prose(start))}
        missing = {page.name for page in PAGES if page.resolve() not in linked}
        assert missing <= {"README.md", "index.md"}


def test_every_page_is_in_the_menu() -> None:
    """The website has each page beside the others, at a place that somebody has chosen."""
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    menus = re.findall(
        r"^```\{toctree\}\n(?::[^\n]*\n)*\n(.*?)^```$", index, re.DOTALL | re.MULTILINE
    )
    listed = [name for menu in menus for name in menu.split()]
    assert sorted(listed) == sorted(
        ["../CHANGELOG", "../README", *(page.stem for page in PAGES[1:] if page.stem != "index")]
    )


@each_page
def test_a_link_leads_somewhere(page: Path) -> None:
    """Every relative link is to a file that is there, and to a heading of it."""
    for file, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", prose(page)):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


@each_page
def test_a_file_that_is_named_is_there(page: Path) -> None:
    """A path of a module, a test or a folder, in a picture too, is one that is there."""
    named = set(
        re.findall(r"(?<![\w./:-])[a-z_.-][a-z_./-]*(?:\.(?:py|sql|md)\b|/(?![\w.]))", prose(page))
    )
    package = Path(skycore_async.__file__).parent  # which may be an installed one
    roots = (
        ROOT,
        ROOT / "docs",
        package.parent,
        package,
        package / "ledger",
        package / "cli",
        package / "cli/bulk",
    )
    missing = {name for name in named if not any((root / name).exists() for root in roots)}
    assert missing == set()


REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")


def test_every_public_name_is_in_the_reference() -> None:
    """The page that is made from docstrings has each name once, and no other."""
    listed = re.findall(
        r"^\.\. (?:auto(?:class|exception|function)|py:type):: (\w+)$", REFERENCE, re.MULTILINE
    )
    assert sorted(listed) == sorted({*skycore_async.__all__} - {"__version__"})


TYPES = re.findall(r"^\.\. py:type:: (\w+)\n   :canonical: (.+)$", REFERENCE, re.MULTILINE)


@pytest.mark.parametrize(("name", "written"), TYPES)
def test_a_type_is_as_the_reference_says(name: str, written: str) -> None:
    """A type alias in the reference is written out as it is in the code."""
    known = {
        **vars(typing),
        **vars(collections.abc),
        **{n: getattr(skycore_async, n) for n in skycore_async.__all__},
    }
    assert eval(written, known) == getattr(skycore_async, name)  # noqa: S307 - our own page
