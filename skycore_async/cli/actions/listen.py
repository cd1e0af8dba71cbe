"""What `skycore listen` does: serve the postback URL of a ledger, and print what comes.

Strategy: `PostbackReceiver` receives and stores postbacks in the thread of its server, where the
ledger is opened.  The main thread prints what the receiver's handler keeps for it, so that no
postback waits for a terminal that Ctrl-S has stopped or a pipe that nobody reads.  A ledger in a
file is written through its inbox, so that other processes can have it open.

Rules:

* The ledger is opened once before the server starts, so that an error in it is one line, and not
  a thread's traceback.
* The secret comes from the environment, and is not printed.
* Numbers are masked, in texts from handsets as well, unless --show-numbers is given.
* At most `_MOST` notifications wait to be printed.  Of the others only the count is printed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import anyio
import attrs
import click

from ...errors import ConfigurationError, LedgerError
from ...ledger.opt_outs import OptOut, opt_out_of, relayed
from ...ledger.settlement import identities
from ...ledger.sqlite.opt_out_list import OptOutList
from ...notifications import Notification
from ...receiving.inbox import PostbackInbox
from ...receiving.receiver import PostbackReceiver
from ...runtime.secret import Secret
from ...simulator.asgi_thread import ServerThread
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.notifications import facts_of, masked_facts, masked_row, row_of
from ..ui.opt_out_list import shown
from ..ui.output import emit, fail, number_of, printable, reason_of, say
from ..ui.postback_url import PATH, SECRET, postback_secret, url_of, warnings_of
from ..ui.signals import UntilSignal
from ..ui.tables import console

_MOST: Final = 10_000  # notifications that wait to be printed, and STARTs that are remembered
_COLOURS: Final = {"delivered": "green", "failed": "red", "unsubscribed": "yellow"}


def serve_postbacks(
    named: Secret,
    shared: OptOutList | None,
    *,
    host: str,
    port: int,
    show_numbers: bool,
    as_json: bool,
) -> None:
    """Record postbacks in the ledger `named`, and print each, until a signal.

    Opt-outs and opt-ins go onto the list `shared`.
    """
    with UntilSignal() as ending:
        target = ledger_target(named)
        way = _check_ledger(target)
        show = _as_json(show_numbers) if as_json else _as_line(show_numbers)
        printer = _NotificationPrinter(show, shared)
        secret = postback_secret()
        server = _started(target, printer, secret, host=host, port=port)
        try:
            _introduce(server.url, way, is_secret=secret is not None, as_json=as_json)
            if shared is not None and not as_json:
                say(f"Who opts out is on the list {shown(shared.path)}.", err=True)
            for _ in ending.polls():
                if not printer.print_waiting():
                    ending.is_set = True
        finally:
            server.stop()
        printer.print_waiting()
    if not as_json:
        say(f"\nNotifications: {printer.count:,}.", err=True)


def _started(
    target: LedgerTarget,
    printer: _NotificationPrinter,
    secret: Secret | None,
    *,
    host: str,
    port: int,
) -> ServerThread:
    """Start the server of the postback URL and return it; fail where it cannot start."""
    try:
        receiver = PostbackReceiver(
            ledger=target.to_receive(),
            on_notification=printer,
            path=PATH,
            secret=None if secret is None else secret.reveal(),
        )
        server = ServerThread(receiver, host=host, port=port)
        server.start()
    except ConfigurationError as error:
        fail(f"{SECRET}: {error}")
    except OSError as error:
        fail(
            f"cannot listen on {host}, port {port}: {reason_of(error)};"
            " choose another with --host or --port"
        )
    except RuntimeError as error:
        fail(f"{target.name}: {error}")
    return server


@attrs.frozen(kw_only=True)
class _Way:
    """Where postbacks go: into the ledger called `name`, for a file through an `inbox`.

    `holder` is the process that had the file open when the command began, if any.
    """

    name: str
    inbox: str | None = None
    holder: str | None = None

    def words(self) -> str:
        """Return the way in words."""
        if self.inbox is None:
            return f"go to {self.name}"
        if self.holder is None:
            return f"go to {self.name}, by way of {self.inbox} while another command has it open"
        return (
            f"go to {self.inbox}, from where {self.holder}, which has {self.name} open, takes"
            " them in"
        )


def _check_ledger(target: LedgerTarget) -> _Way:
    """Open and close the ledger as a test, and return where postbacks go."""

    async def open_and_close() -> _Way:
        async with target.to_receive() as ledger:
            if not isinstance(ledger, PostbackInbox):
                return _Way(name=target.name)
            inbox = f"{target.name}-inbox"
            return _Way(name=target.name, inbox=inbox, holder=ledger.holder())

    try:
        return anyio.run(open_and_close)
    except LedgerError as error:
        fail(str(error))


def _introduce(server_url: str, way: _Way, *, is_secret: bool, as_json: bool) -> None:
    url = url_of(server_url, is_secret=is_secret)
    if as_json:
        emit({"kind": "listening", "url": url, "inbox": way.inbox, "holder": way.holder})
    else:
        say(f"Postbacks to {url} {way.words()}. Ctrl-C ends it.", err=True)
    for warning in warnings_of(server_url, is_secret=is_secret):
        say(warning, err=True)


class _NotificationPrinter:
    """The handler of the receiver: counts notifications, and keeps them to be printed."""

    def __init__(self, show: Callable[[Notification], None], shared: OptOutList | None) -> None:
        self.count = 0
        self._shared = shared
        self._show = show
        # STARTs by identity, oldest first: when each came, and whether it is on the list.
        self._starts: dict[bytes, tuple[float, bool]] = {}
        self._waiting: deque[Notification] = deque()
        self._missed = self._missed_told = 0

    def __call__(self, notification: Notification) -> None:
        self.count += 1
        if self._shared is not None and (entry := opt_out_of(notification, received=time.time())):
            identity, _ = identities(notification)
            self._tell(self._shared, entry, identity)
        if len(self._waiting) < _MOST:
            self._waiting.append(notification)
        else:
            self._missed += 1

    def _tell(self, shared: OptOutList, entry: OptOut, identity: bytes) -> None:
        """Add an entry to a list; a START once, as Skycore repeats what it has no answer to.

        Without a time of its own, a repeated one would take back a STOP that came after it: also
        where the list could not be told when it came first.
        """
        if entry.out:
            shared.tell([entry])
            return
        came, was_told = self._starts.setdefault(identity, (entry.at, False))
        if len(self._starts) > _MOST:
            del self._starts[next(iter(self._starts))]
        if not was_told:
            shared.tell(relayed([attrs.evolve(entry, at=came)]))
            self._starts[identity] = (came, True)

    def print_waiting(self) -> bool:
        """Print the notifications that wait; return False once nobody reads the output.

        Any other error of printing, as on a full disk, ends nothing: the notifications are
        recorded, and more are taken in.
        """
        try:
            while self._waiting:
                self._show(self._waiting.popleft())
            if missed := self._missed - self._missed_told:
                self._missed_told += missed
                say(f"{number_of(missed, 'notification')} more came, and are recorded.", err=True)
        except OSError as error:
            return not isinstance(error, BrokenPipeError)
        except SystemExit:
            return False
        return True


def _as_json(show_numbers: bool) -> Callable[[Notification], None]:
    facts = facts_of if show_numbers else masked_facts
    return lambda notification: emit(facts(notification))


def _as_line(show_numbers: bool) -> Callable[[Notification], None]:
    row_for = row_of if show_numbers else masked_row
    is_coloured = _is_coloured()

    def show(notification: Notification) -> None:
        row = row_for(notification)
        state = f"{printable(row.state):<10}"
        if is_coloured and (colour := _COLOURS.get(row.state)):
            state = click.style(state, fg=colour)
        line = (
            f"{printable(row.kind):<12}  {printable(row.tracking_id):<24}  "
            f"{printable(row.number):<15}  {state}  {printable(row.details)}"
        )
        click.echo(line.rstrip())

    return show


def _is_coloured() -> bool:
    """Return whether a line may have colours, by the same rule as a table.

    Lines are not printed as tables: that takes a fifth of the time of a postback, and Skycore
    waits for the answer.
    """
    out = console()
    return out.is_terminal and not out.no_color
