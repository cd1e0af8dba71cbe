"""The error for an optional dependency that is not installed.

A module that needs an extra imports it at its top, and turns a failure into
an error that says how to install it:

    try:
        import uvicorn
    except ImportError as error:
        raise missing("server", error) from error
"""

from __future__ import annotations


class MissingExtra(ImportError):
    """A library of an extra is not installed; the text says how to install it."""


def missing(extra: str, error: ImportError) -> MissingExtra:
    """Return the error to raise if a dependency of `extra` cannot be imported.

    Its text names the `pip install` to run; its `name` and `path` are those of `error`.
    """
    return MissingExtra(
        f"{error.name or error} is not installed: pip install 'skycore-async[{extra}]'",
        name=error.name,
        path=error.path,
    )
