"""The postback URL of a command that listens: its address, and its secret, which is not shown.

Rule: the secret comes from the environment; it is never an argument.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from typing import Any, Final

import click

from ...runtime.secret import Secret
from .output import fail

PATH: Final = "/postback"
SECRET: Final = "SKYCORE_POSTBACK_SECRET"  # noqa: S105 - the name of the variable, not its value
_HOST: Final = "127.0.0.1"
_MOST: Final = 65535


class Address(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic since click 8.2
    """An address to listen on, `[HOST:]PORT`, as a pair; this machine alone where no host is."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Return the host and the port."""
        if isinstance(value, tuple):
            return value
        host, _, port = value.rpartition(":")
        if not (port.isascii() and port.isdecimal() and int(port) <= _MOST):
            self.fail(f"{value!r} is no [HOST:]PORT, such as 8026 or 0.0.0.0:8026", param, ctx)
        return host.strip("[]") or _HOST, int(port)


def postback_secret() -> Secret | None:
    """Return the secret, None where there is none; fail where it would keep nobody out."""
    if SECRET not in os.environ:
        return None
    secret = Secret(os.environ[SECRET])
    if not secret.reveal().strip():
        # As where the secret was made of an unset variable: anybody could post.
        fail(f"{SECRET} is empty: give it a secret, or unset it to do without one")
    return secret


def url_of(server_url: str, *, is_secret: bool) -> str:
    """Return the URL to give to Skycore, with the variable's name in place of the secret."""
    return f"{server_url}{PATH}" + (f"/${SECRET}" if is_secret else "")


def warnings_of(server_url: str, *, is_secret: bool) -> Iterator[str]:
    """Return the warnings that the user needs about the URL."""
    host = server_url.removeprefix("http://").rpartition(":")[0].strip("[]")
    if not is_secret and not ipaddress.ip_address(host).is_loopback:
        yield f"Anyone who can reach it can post: set {SECRET} to keep others out."
