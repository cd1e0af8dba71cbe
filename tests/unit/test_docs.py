"""The pages in docs/ name what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import skycore_async

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def test_there_are_pages() -> None:
    """The pages that the others link to exist."""
    assert {page.name for page in PAGES} >= {
        "architecture.md",
        "contributing.md",
        "glossary.md",
        "how-to-add.md",
    }


@each_page
def test_a_link_leads_somewhere(page: Path) -> None:
    """Every relative link is to a file that is there."""
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


@each_page
def test_a_file_that_is_named_is_there(page: Path) -> None:
    """A path of a module, a test or a folder, in a picture too, is one that is there."""
    text = page.read_text("utf-8")
    named = set(re.findall(r"(?<![\w./-])[a-z_./-]+(?:\.(?:py|sql|md)\b|/(?![\w.]))", text))
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
