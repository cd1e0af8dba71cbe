"""Questions that a command asks on a terminal before it does what cannot be undone.

Rule: without a terminal it is not done, unless --yes is given.
"""

from __future__ import annotations

import sys

import click

from .output import Exit, fail, say


def has_terminal() -> bool:
    """Return whether the user can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def need_terminal(otherwise: str) -> None:
    """Fail where nobody can be asked; `otherwise` says what was not done."""
    if not has_terminal():
        fail(f"{otherwise}: say --yes, as there is no terminal to ask on")


def confirm(question: str, *, otherwise: str) -> None:
    """Ask for a yes; fail where the answer is no, or nobody can be asked."""
    need_terminal(otherwise)
    if not is_agreed(question, otherwise=otherwise):
        fail(otherwise, Exit.NOT_SENT)


def is_agreed(question: str, *, otherwise: str) -> bool:
    """Ask, and return whether the answer is yes; fail at Ctrl-C or the end of the input."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        say(err=True)
        fail(otherwise, Exit.INTERRUPTED)
