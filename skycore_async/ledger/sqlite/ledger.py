"""A ledger in a file, which survives a crash and a power cut.

Strategy: the file is an `OpenFile`, used by one worker thread at a time, through `GroupCommit`.
`file_lock` lets one process at a time open it; another that opens it may wait.  Other processes
put postbacks into the inbox beside it, which is read for as long as the ledger is open.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from ...errors import LedgerInUse
from ...runtime.background import BackgroundTasks
from ...runtime.logs import log
from ..commands import LedgerCommand, PendingCommand, Query
from ..opening import OpenableLedger
from ..opt_outs import OptOutRule, check_rule
from ..reader import Unreadable
from ..setting_checks import check_path, check_positive, check_seconds
from ..settlement import SETTLE_WITHIN
from .inbox_file import inbox_of
from .open_file import OpenFile, connect
from .rows import Connection
from .watching import LOOK_EVERY, InboxWatch

T = TypeVar("T")

_PATIENCE: Final = 0.25  # seconds: a process that checks whether it is in use locks it shortly
_PATIENCE_BESIDE_AN_INBOX: Final = 3.0  # ... and so does one that takes in the inbox
_PAUSE: Final = 0.05  # seconds between tries to open it


class SQLiteLedger(OpenableLedger):
    """Remember every message and notification in the file `path`, made where there is none.

    Open it with `async with`, or with `open` and `aclose`.  One process at a time can have it
    open; opening waits `open_timeout` seconds for another one.  A call returns when what it wrote
    is on the disk.  A postback settles a doubt within `settle_within` seconds of its intent.  What
    a `PostbackInbox` beside it has taken in is recorded when the ledger is opened, every
    `look_every` seconds after that (`math.inf` for never), and before a number is opted out or in.
    `clock` returns seconds since 1970, and `sleep` waits some seconds.

    `opt_out_rule` is called, in a thread, for each text from a handset that is not surely STOP:
    True opts its number out, False means that it is no opt-out, and None, or an error, leaves the
    decision to the text.  What it decides is kept.

    Raises ConfigurationError for an invalid path or time, LedgerInUse if another process has the
    file open, LedgerError if it cannot be opened, read or written, and RuntimeError if it is used
    without being open.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        open_timeout: float = 0,
        settle_within: float = SETTLE_WITHIN,
        opt_out_rule: OptOutRule | None = None,
        look_every: float = LOOK_EVERY,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        connect: Callable[[str], Connection] = connect,
    ) -> None:
        super().__init__()
        check_path(path)
        check_seconds(open_timeout=open_timeout, settle_within=settle_within)
        check_positive(look_every=look_every)
        check_rule(opt_out_rule)
        # The same file, even if the program changes its directory before opening it again.
        self.path = Path(path).absolute()
        self.name = str(Path(path))
        self._open_timeout = open_timeout
        self._look_every = look_every
        self._sleep = sleep
        self._new_file = functools.partial(
            OpenFile,
            self.path,
            name=self.name,
            clock=clock,
            settle_within=settle_within,
            opt_out_rule=opt_out_rule,
            connect=connect,
        )
        self._file = self._new_file()
        self._readers: anyio.CapacityLimiter

    async def run(self, command: LedgerCommand[T]) -> T:
        """Run a command, and return its result once what it wrote is on the disk."""
        if self._file.lock.is_inherited:
            raise RuntimeError(
                f"{self.path} is open in the process that forked this one, and not here: what a"
                " child sends, its parent would not know of"
            )
        commits = self._commits()
        if isinstance(command, Query) and command.is_long:
            with suppress(Unreadable):
                return await anyio.to_thread.run_sync(
                    self._file.answer, command, limiter=self._readers
                )
        return await commits.run(command)

    async def _begin(self, tasks: BackgroundTasks) -> None:
        file = self._file = self._new_file()
        # One at a time, so that waiting readers take no threads from others.
        self._readers = anyio.CapacityLimiter(1)
        await self._open_in_time(file)
        look = functools.partial(self._look_into_inbox, file, tasks)
        InboxWatch(look, tasks, every=self._look_every)

    async def _look_into_inbox(self, file: OpenFile, tasks: BackgroundTasks) -> None:
        """Take in the inbox beside it; what comes meanwhile is left for the next look."""
        inbox, is_all = file.inbox, False
        while not is_all and inbox.is_there():
            command = await anyio.to_thread.run_sync(inbox.next)
            if command is None or tasks.closed:
                return
            await self._group_commit.run(command)
            await anyio.to_thread.run_sync(inbox.taken, command)
            is_all = command.is_all

    def _commit(self, group: Sequence[PendingCommand]) -> set[str]:
        return self._file.commit(group)

    def _explain(self, error: Exception) -> Exception:
        return self._file.explain(error)

    async def _open_in_time(self, file: OpenFile) -> None:
        """Open the file, waiting for another process that has it open."""
        waited, patience = 0.0, _PATIENCE
        with suppress(OSError):  # opening it raises a better error
            if inbox_of(self.path.resolve()).exists():
                patience = _PATIENCE_BESIDE_AN_INBOX
        while True:
            try:
                return await anyio.to_thread.run_sync(file.open)
            except LedgerInUse as error:
                if waited >= max(self._open_timeout, patience):
                    raise
                if not waited and self._open_timeout:
                    log.warning("waiting %g seconds at most: %s", self._open_timeout, error)
            await self._sleep(_PAUSE)
            waited += _PAUSE

    async def _end(self) -> None:
        if not self._file.lock.is_inherited:
            await super()._end()

    def _close(self) -> None:
        self._file.close()
