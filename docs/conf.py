"""How these pages and the docstrings become a website: `python -m sphinx -W -c docs . build/site`.

The folder of the project is the source, so that links between the pages, the README and the
changelog are the same here and where files are looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from skycore_async.cli.app import skycore
from skycore_async.version import __version__

project = "skycore-async"
version = release = __version__
html_theme = "furo"
html_title = f"{project} {__version__}"
html_copy_source = False
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "docs/*.md"]
exclude_patterns = [".*", "build", "dist", "skycore_async", "tests", "benchmarks", "findings"]
myst_heading_anchors = 3
default_role = "code"  # docstrings have names of Python's in single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 88

HELP = "<!-- the help of each command -->"


def help_of(name: str, command: click.Command, parent: click.Context) -> str:
    """Return what `--help` of a command shows, and of each below it, as sections of a page."""
    context = command.context_class(command, parent, info_name=name, terminal_width=78)
    context.help_option_names = ["-h", "--help"]
    text = f"### {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n\n"
    if isinstance(command, click.Group):
        text += help_of_all(command, context)
    return text


def help_of_all(group: click.Group, context: click.Context) -> str:
    """Return the help of each command of a group."""
    found = ((name, group.get_command(context, name)) for name in group.list_commands(context))
    return "".join(help_of(name, command, context) for name, command in found if command)


def put_help(app: Any, page: str, source: list[str]) -> None:
    """Put the help of every command into the page that has the mark for it."""
    if HELP in source[0]:
        text = help_of_all(skycore, click.Context(skycore, info_name="skycore"))
        source[0] = source[0].replace(HELP, text)


def lead_to_first_page(app: Any, error: Exception | None) -> None:
    """Have the site's own address show its first page."""
    if error is None:
        target = f"{root_doc}.html"
        Path(app.outdir, "index.html").write_text(
            f'<!doctype html><meta charset="utf-8"><title>{project}</title>'
            f'<meta http-equiv="refresh" content="0; url={target}">'
            f'<a href="{target}">{project}</a>',
            "utf-8",
        )


def setup(app: Any) -> None:
    """Tell Sphinx of the functions above."""
    app.connect("source-read", put_help)
    app.connect("build-finished", lead_to_first_page)
