"""What to say when an optional dependency is not installed.

A module that needs an extra imports it at its top, and turns the failure into
one that names the cure:

    try:
        import uvicorn
    except ImportError as error:
        raise missing("server", error) from error
"""

from __future__ import annotations


def missing(extra: str, error: ImportError) -> ImportError:
    """Make the error to raise where a dependency of `extra` cannot be imported.

    Its text names the `pip install` that cures it; `name` and `path` are those
    of `error`.
    """
    return ImportError(
        f"{error.name or error} is not installed: pip install 'skycore-async[{extra}]'",
        name=error.name,
        path=error.path,
    )
