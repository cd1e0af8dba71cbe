"""What to say when an optional dependency is not installed.

A module that needs an extra imports it at its top, and turns the failure into
one that names the cure:

    try:
        import uvicorn
    except ImportError as error:
        raise missing("server", error) from error
"""

from __future__ import annotations


class MissingExtra(ImportError):
    """A library that comes with an extra is not installed; its text names the cure."""


def missing(extra: str, error: ImportError) -> MissingExtra:
    """Make the error to raise where a dependency of `extra` cannot be imported.

    Its text names the `pip install` that cures it; `name` and `path` are those
    of `error`.
    """
    return MissingExtra(
        f"{error.name or error} is not installed: pip install 'skycore-async[{extra}]'",
        name=error.name,
        path=error.path,
    )
