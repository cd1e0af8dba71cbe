"""`skycore listen`: the postback URL of a ledger, and a line for each notification.

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
from typing import TYPE_CHECKING, Any, Final

import click

from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.output import WholeNumber, console, emit, fail, json_option
from .simulate import UntilSignal

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...notifications import Notification

_PATH: Final = "/postback"
_SECRET: Final = "SKYCORE_POSTBACK_SECRET"  # noqa: S105 - the name of the variable, not its value


@click.command()
@click.option(
    "--ledger",
    "named",
    metavar="FILE|DSN",
    required=True,
    help="Where to record them; a file is created where there is none.",
)
@click.option(
    "--host",
    metavar="HOST",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on.",
)
@click.option(
    "--port",
    type=WholeNumber(0, 65535),
    metavar="PORT",
    default=8026,
    show_default=True,
    help="The port to listen on; 0 for any.",
)
@json_option
def listen(*, named: str, host: str, port: int, as_json: bool) -> None:
    """Receive postbacks, record them, and show them.

    Each is recorded in the ledger, and shown after, until Ctrl-C.  The postback
    URL is printed.  What is answered with 200 is on the disk; all else Skycore
    posts again.  With SKYCORE_POSTBACK_SECRET in the
    environment, the URL must end in that secret.  With --json, the first line
    is the URL, and each other line a notification.

    One process at a time can open a FILE: this one has it until it ends.  Any
    number can use the PostgreSQL database DSN at once, as behind a load balancer:
    a notification that comes to several of them is recorded once, and shown by
    each.  Other users of the machine can see a password in DSN; keep it in
    ~/.pgpass.

    \b
    Examples:
      skycore listen --ledger promo.db
      SKYCORE_POSTBACK_SECRET=long-word skycore listen --ledger promo.db --json
      skycore listen --ledger postgresql://me@db/sms --host 10.0.0.7

    Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 wrong usage, or the ledger
    cannot be opened.
    """  # noqa: D301 - \b is click's mark for lines that it does not wrap
    from ...errors import ConfigurationError
    from ...receiving.receiver import PostbackReceiver
    from ...simulator.asgi_thread import ServerThread

    with UntilSignal() as ending:
        target = ledger_target(named)
        _check_ledger(target)
        printer = _NotificationPrinter(ending, _as_json if as_json else _as_line())
        secret = os.environ.get(_SECRET) or None
        try:
            receiver = PostbackReceiver(
                ledger=target.to_write(), on_notification=printer, path=_PATH, secret=secret
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
        click.echo(f"\nNotifications: {printer.count}.", err=True)


def _check_ledger(target: LedgerTarget) -> None:
    import anyio

    from ...errors import LedgerError

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
        return
    click.echo(f"Postbacks to {url} go to {target.name}. Ctrl-C ends it.", err=True)
    if not is_secret and not _is_loopback(server_url):
        click.echo(
            f"Anyone who can reach it can post: set {_SECRET} to keep others out.", err=True
        )


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
    from rich.text import Text

    from ...messages import masked
    from ..ui.notifications import row_of
    from ..ui.tables import printable

    out = console()
    styles = {"delivered": "green", "failed": "red", "unsubscribed": "yellow"}

    def show(notification: Notification) -> None:
        row = row_of(notification)
        reason = "" if row.kind == "inbound" else printable(row.reason)
        line = Text.assemble(
            f"{printable(row.kind):<12}  {printable(row.tracking_id):<24}  ",
            f"{printable(masked(row.number)):<15}  ",
            (f"{row.state:<10}", styles.get(row.state, "")),
            f"  {reason}",
        )
        line.rstrip()
        out.print(line, soft_wrap=True)

    return show


def masked_facts(notification: Notification) -> dict[str, Any]:
    """Return what a notification says, for programs, without numbers and texts."""
    from ...messages import masked
    from ..ui.notifications import row_of

    row = row_of(notification)
    facts = {"kind": row.kind, "code": notification.code, "tracking_id": row.tracking_id or None}
    time = notification.timestamp or notification.created
    return {
        **facts,
        "number": masked(row.number) or None,
        "state": row.state or None,
        "reason": getattr(notification, "reason", None),
        "detail": getattr(notification, "detail", None),
        "time": time,
    }
