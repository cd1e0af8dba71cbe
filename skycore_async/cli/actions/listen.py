"""What `skycore listen` does: serve the postback URL of a ledger, and print what comes.

Strategy: `PostbackReceiver` receives and stores, in the thread of its server, in
which the ledger is opened; its handler prints the lines.

Rules:

* The ledger is opened once before the server starts, so that an error in it is
  one line and no traceback of a thread.
* The secret comes from the environment, and is not printed.
* Numbers are masked, and texts from handsets are not shown.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from typing import Final

import anyio

from ...errors import ConfigurationError, LedgerError
from ...notifications import Notification
from ...receiving.receiver import PostbackReceiver
from ...runtime.extras import missing
from ...runtime.secret import Secret
from ...simulator.asgi_thread import ServerThread
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.notifications import masked_facts, masked_row
from ..ui.output import emit, fail, printable, say
from ..ui.signals import UntilSignal
from ..ui.tables import console

try:
    from rich.text import Text
except ImportError as error:
    raise missing("cli", error) from error

_PATH: Final = "/postback"
_SECRET: Final = "SKYCORE_POSTBACK_SECRET"  # noqa: S105 - the name of the variable, not its value


def serve_postbacks(named: Secret, *, host: str, port: int, as_json: bool) -> None:
    """Record postbacks in the ledger `named`, and print each, until a signal."""
    with UntilSignal() as ending:
        target = ledger_target(named)
        _check_ledger(target)
        printer = _NotificationPrinter(ending, _as_json if as_json else _as_line())
        secret = _secret()
        try:
            receiver = PostbackReceiver(
                ledger=target.to_write(),
                on_notification=printer,
                path=_PATH,
                secret=None if secret is None else secret.reveal(),
            )
            server = ServerThread(receiver, host=host, port=port)
            server.start()
        except ConfigurationError as error:
            fail(f"{_SECRET}: {error}")
        except OSError as error:
            fail(
                f"cannot listen on {host}, port {port}: {error.strerror};"
                " choose another with --port"
            )
        except RuntimeError as error:
            fail(f"{target.name}: {error}")
        try:
            _introduce(server.url, target, is_secret=secret is not None, as_json=as_json)
            for _ in ending.polls():
                pass
        finally:
            server.stop()
    if not as_json:
        say(f"\nNotifications: {printer.count}.", err=True)


def _secret() -> Secret | None:
    if _SECRET not in os.environ:
        return None
    secret = Secret(os.environ[_SECRET])
    if not secret.reveal().strip():
        # As where a variable in it was not set: everybody could post.
        fail(f"{_SECRET} is empty: give it a secret, or unset it to do without one")
    return secret


def _check_ledger(target: LedgerTarget) -> None:
    async def open_and_close() -> None:
        async with target.to_write():
            pass

    try:
        anyio.run(open_and_close)
    except LedgerError as error:
        fail(str(error))


def _introduce(server_url: str, target: LedgerTarget, *, is_secret: bool, as_json: bool) -> None:
    url = f"{server_url}{_PATH}" + (f"/${_SECRET}" if is_secret else "")
    if as_json:
        emit({"kind": "listening", "url": url})
    else:
        say(f"Postbacks to {url} go to {target.name}. Ctrl-C ends it.", err=True)
    if not is_secret and not _is_loopback(server_url):
        say(f"Anyone who can reach it can post: set {_SECRET} to keep others out.", err=True)


def _is_loopback(server_url: str) -> bool:
    host = server_url.removeprefix("http://").rpartition(":")[0].strip("[]")
    return ipaddress.ip_address(host).is_loopback


class _NotificationPrinter:
    """The handler of the receiver: counts notifications, and prints them while it can."""

    def __init__(self, ending: UntilSignal, show: Callable[[Notification], None]) -> None:
        self.count = 0
        self._ending = ending
        self._show = show

    def __call__(self, notification: Notification) -> None:
        self.count += 1
        try:
            self._show(notification)
        except (BrokenPipeError, SystemExit):
            # It is recorded: that nobody reads the output is no reason to post it again.
            self._ending.is_set = True


def _as_json(notification: Notification) -> None:
    emit(masked_facts(notification))


def _as_line() -> Callable[[Notification], None]:
    out = console()
    styles = {"delivered": "green", "failed": "red", "unsubscribed": "yellow"}

    def show(notification: Notification) -> None:
        row = masked_row(notification)
        line = Text.assemble(
            f"{printable(row.kind):<12}  {printable(row.tracking_id):<24}  ",
            f"{printable(row.number):<15}  ",
            (f"{row.state:<10}", styles.get(row.state, "")),
            f"  {printable(row.reason)}",
        )
        line.rstrip()
        out.print(line, soft_wrap=True)

    return show
