"""A report as one self-contained HTML page.

Strategy: the page is in `templates/`.  This module gives the templates the report data, the kinds
of messages, and the functions that format numbers.

Rules:

* The template environment escapes all that comes from a ledger; no template turns that off.
* An invisible character is replaced wherever it is written.
* A wrong name in a template is an error, and not an empty string.
"""

from __future__ import annotations

import functools
from typing import Final

from ...runtime.extras import missing
from ...version import __version__
from ..ui.output import printable
from . import charts, formats
from .data import ReportData
from .formats import NO_BREAK
from .kinds import KINDS, by_kind

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
except ImportError as error:
    raise missing("cli", error) from error

_FILTERS: Final = {
    "bar_parts": charts.bar_parts,
    "by_kind": by_kind,
    "column_chart": charts.column_chart,
    "counted": formats.counted,
    "duration": formats.duration,
    "messages": formats.messages,
    "money": formats.money,
    "moment": formats.moment,
    "named": formats.named,
    "share": formats.share,
    "span": formats.span,
}


def page(data: ReportData) -> str:
    """Return the report as HTML."""
    return _environment().get_template("page.html").render(data=data)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("skycore_async.cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters.update(_FILTERS)
    environment.globals.update(kinds=KINDS, version=__version__)
    return environment


def _visible(value: object) -> str:
    if isinstance(value, Markup):  # it may have line breaks of the templates
        return Markup(printable(value, keep=f"\n{NO_BREAK}"))  # noqa: S704 - it was escaped before
    return printable(str(value), keep=NO_BREAK)
