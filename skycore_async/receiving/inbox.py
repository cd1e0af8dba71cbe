"""Take postbacks in beside a ledger's file, whichever process has that open, or none.

Strategy: postbacks go into the inbox beside the file (`ledger/sqlite/inbox_file.py`), many in one
transaction.  The process that has the ledger open takes them in.  While none has, a receiver opens
it for a moment and does.

Rules:

* Once `record` has returned, a postback is on the disk, and comes into the ledger once, whichever
  process is killed when.
* The ledger is opened only for as long as one part of the inbox takes, and is free in between:
  others wait a moment for it, see `SQLiteLedger`.
* A ledger that was moved away is not made anew here: the inbox would belong to another.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio.to_thread
import attrs

from ..errors import LedgerError, LedgerInUse
from ..ledger.commands import LedgerCommand, PendingCommand
from ..ledger.interface import check_notifications
from ..ledger.opening import Openable
from ..ledger.opt_outs import OptOutRule, check_rule
from ..ledger.setting_checks import check_path, check_positive, check_seconds
from ..ledger.settlement import SETTLE_WITHIN
from ..ledger.sqlite.file_lock import by_process, is_in_use
from ..ledger.sqlite.inbox_file import InboxFile, KeptPostback
from ..ledger.sqlite.open_file import OpenFile
from ..ledger.sqlite.shared_file import as_ledger_errors
from ..ledger.sqlite.watching import LOOK_EVERY, InboxWatch
from ..ledger.waiters import Waiters
from ..notifications import Notification
from ..runtime.background import BackgroundTasks
from ..runtime.paths import is_there

_AT_ONCE: Final = 10  # batches that are taken in before the ledger is free again


@attrs.frozen
class _Keep(LedgerCommand[None]):
    """Put a postback into the inbox."""

    postback: KeptPostback


class PostbackInbox(Openable):
    """Take postbacks in for the SQLite ledger in the file `path`, whichever process has it open.

    It is for a `PostbackReceiver`, which makes one itself when it is given the path of a ledger.
    Any number can be open at a time, in any processes.  `record` returns when a postback is on the
    disk, in a file beside the ledger that has its name with -inbox behind it.

    A process that has the ledger open records postbacks within a second.  While none has, this
    opens it for a moment, at most every `look_every` seconds and only if there are postbacks, and
    makes it if there is none.  Then its own `settle_within` and `opt_out_rule` count, see
    `SQLiteLedger`; otherwise those of the other process.  `clock` returns seconds since 1970.

    Raises ConfigurationError for an invalid path or time, and LedgerError if the inbox cannot be
    opened or written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        settle_within: float = SETTLE_WITHIN,
        opt_out_rule: OptOutRule | None = None,
        look_every: float = LOOK_EVERY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_path(path)
        check_seconds(settle_within=settle_within)
        check_positive(look_every=look_every)
        check_rule(opt_out_rule)
        self.path = Path(path)
        self.name = str(self.path)
        self.waiters = Waiters()
        self._settle_within = settle_within
        self._opt_out_rule = opt_out_rule
        self._look_every = look_every
        self._clock = clock
        # The same file, even if the program changes its directory later.
        self._resolved = self.path.resolve()
        self._file = InboxFile(self._resolved)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def record(self, *notifications: Notification) -> None:
        """Put the notifications of a postback into the inbox; return once they are on the disk.

        Raises LedgerError if they cannot be written, and RuntimeError if the inbox is not open.
        """
        check_notifications(notifications)
        postback = KeptPostback.of(notifications, received=self._clock())
        await self._commits().run(_Keep(postback))

    async def count(self) -> int:
        """Return how many postbacks are in the inbox, but not in the ledger yet."""
        return await anyio.to_thread.run_sync(self._file.count)

    def holder(self) -> str | None:
        """Return what to call the process that has the ledger open; None if none has."""
        path = self._resolved
        return by_process(path) if is_in_use(path) else None

    async def take_in(self) -> None:
        """Record the inbox, or a part of it, in the ledger, unless that is open elsewhere.

        Raises LedgerError if the ledger cannot be opened or written.
        """
        await anyio.to_thread.run_sync(self._take_in)

    async def _begin(self, tasks: BackgroundTasks) -> None:
        await anyio.to_thread.run_sync(self._open)
        InboxWatch(self.take_in, tasks, every=self._look_every)

    def _commit(self, group: Sequence[PendingCommand]) -> set[str]:
        self._file.add(
            [each.command.postback for each in group if isinstance(each.command, _Keep)]
        )
        return set()

    def _explain(self, error: Exception) -> Exception:
        return error

    def _close(self) -> None:
        with suppress(LedgerError):  # what is left is taken in by the next opening
            self._take_in()
        self._file.close()

    # All below runs in a thread.

    def _open(self) -> None:
        """Open the inbox, after checking the ledger; LedgerError if that is no ledger."""
        ledger = self._new_ledger()
        try:
            ledger.open(most=_AT_ONCE)
        except LedgerInUse:
            self._file.open()
            return
        try:
            self._file.open()
            ledger.inbox.next()  # claims the inbox for this ledger
        finally:
            ledger.close()

    def _take_in(self) -> None:
        if not self._file.is_open or self._file.is_empty() or self._is_moved_away():
            return
        ledger = self._new_ledger()
        with suppress(LedgerInUse):
            ledger.open(most=_AT_ONCE)
            ledger.close()

    def _new_ledger(self) -> OpenFile:
        return OpenFile(
            self._resolved,
            name=self.name,
            clock=self._clock,
            settle_within=self._settle_within,
            opt_out_rule=self._opt_out_rule,
        )

    def _is_moved_away(self) -> bool:
        with as_ledger_errors(self._resolved, "the ledger of an inbox"):
            return self._file.claimed_by() is not None and not is_there(self._resolved)
