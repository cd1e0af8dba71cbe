"""A client for code that is not asynchronous, over an event loop in the background.

Strategy: in each process a thread runs an event loop with a `SkycoreClient`.  A call is passed to
that loop, and the caller's thread waits for its result.

Rules:

* The client is made in the loop at the first call in a process, by a function of the caller.  So a
  `SyncClient` may be made when a module is imported, and a process that is forked later makes a
  client of its own and uses nothing of its parent's.
* What it sends with is imported with this module, and not in its own thread: a process forked
  meanwhile would wait for ever for what that thread was importing.
* What belongs to the caller stays in the caller's thread: the messages of `send_many` are taken
  there, where the database connection, the request and the context variables are.
* Interrupting a caller is like cancelling it: an exchange that has begun runs on, and its outcome
  goes to the ledger and the log.
"""

from __future__ import annotations

import atexit
import functools
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from queue import SimpleQueue
from threading import RLock, get_ident
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

import anyio
import attrs
import xmltodict
from anyio.from_thread import BlockingPortal, start_blocking_portal

from .client import SkycoreClient
from .messages import SMS, Outcome
from .runtime.forks import call_in_child, this_process
from .sending import recording
from .sending.bulk import BulkSend
from .transports import direct, http_client, httpcore_connection, httpcore_trace, httpx

MakeClient = Callable[[], AbstractAsyncContextManager[SkycoreClient]]

# Modules that are otherwise imported when they are first used.
_LOADED: Final = (
    direct,
    http_client,
    httpcore_connection,
    httpcore_trace,
    httpx,
    recording,
    xmltodict,
)

_IN_ITS_LOOP: Final = (
    "this is the event loop of the SyncClient, which would wait for itself: await what the client"
    " that `run` gives has, and close it in another thread"
)

P = ParamSpec("P")
T = TypeVar("T")


def _waiting(
    method: Callable[Concatenate[SkycoreClient, P], Awaitable[T]],
) -> Callable[Concatenate[SyncClient, P], T]:
    """Return a method of `SyncClient` that waits for the result of `method` of its client."""

    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **options: P.kwargs) -> T:
        return self.run(lambda client: method(client, *args, **options))

    return call


class SyncClient:
    """Send from code that is not asynchronous, with the arguments and errors of `SkycoreClient`.

        skycore = SyncClient(SkycoreClient)
        skycore.send_sms(to="15551234888", text="Hello Jerry")

    `make` is called without arguments once in each process, at the first use there, and returns an
    async context manager of a client: `SkycoreClient` itself, a `functools.partial` of it with
    settings, or a function with `contextlib.asynccontextmanager` that opens a ledger first.  It
    runs in the background event loop, which is asyncio's.

    All threads of a process may use it at once.  It is closed when the program ends, or before
    that by `close`, or as a context manager; each of these waits for what is in flight.

    Raises RuntimeError if it is closed, or used in its own event loop, and whatever `make` raises.
    """

    def __init__(self, make: MakeClient) -> None:
        self._make = make
        self._changing = RLock()  # reentrant, for signal handlers
        self._is_beginning = False
        self._loop_thread: int | None = None
        # By process: a forked child keeps its parent's, unused.
        self._running: dict[tuple[int, int], _ProcessClient] = {}
        self._is_closed = False
        _clients.add(self)

    send_sms = _waiting(SkycoreClient.send_sms)
    settle = _waiting(SkycoreClient.settle)

    @contextmanager
    def send_many(
        self,
        messages: Iterable[SMS],
        *,
        resend_in_doubt: bool = False,
        ignore_opt_out: bool = False,
    ) -> Iterator[Iterator[Outcome]]:
        """Send many messages, and return a context manager of their outcomes as they complete.

            with skycore.send_many(messages) as outcomes:
                for outcome in outcomes:
                    ...

        `messages` is read in this thread, while it waits for the next outcome.  For the rest see
        `SkycoreClient.send_many`.

        Raises RuntimeError if the client has a ledger that is not open.  After the last outcome
        the iterator raises what that of `BulkSend` does, such as SendingHalted.
        """
        portal, source = self._run().portal, _Source(messages)

        async def begin(client: SkycoreClient) -> BulkSend:
            return client.send_many(
                source.taken(), resend_in_doubt=resend_in_doubt, ignore_opt_out=ignore_opt_out
            )

        with _Sending(portal, self.run(begin), source) as outcomes:
            yield outcomes

    def run(self, function: Callable[[SkycoreClient], Awaitable[T]], /) -> T:
        """Return the result of `await function(client)` in the background event loop.

        Use it for what has no method here, such as the ledger.  Raises what the function raises.
        """
        running = self._run()

        async def call() -> T | _Exit:
            try:
                return await function(running.client)
            except SystemExit as error:  # would end the event loop, with all that runs in it
                return _Exit(error)

        if isinstance(came := _result(running.portal, call), _Exit):
            raise came.error
        return came

    def close(self) -> None:
        """Wait for what is in flight, and close the client that was made in this process."""
        self._check_thread()
        with self._changing:
            self._is_closed = True
            running = self._running.pop(this_process(), None)
        _clients.discard(self)
        if running is not None:
            running.stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> _ProcessClient:
        """Return the client of this process, and make it at the first call."""
        self._check_thread()
        with self._changing:
            if self._is_closed:
                raise RuntimeError("this SyncClient is closed")
            return self._running.get(this_process()) or self._begun()

    def _check_thread(self) -> None:
        if self._loop_thread == get_ident():  # also while the client is being made
            raise RuntimeError(_IN_ITS_LOOP)

    def _begun(self) -> _ProcessClient:
        """Make the client of this process, and return it."""
        if self._is_beginning:
            raise RuntimeError("this SyncClient is just being made, and cannot be used before")
        self._is_beginning = True
        try:
            running = self._begin()
        finally:
            self._is_beginning = False
        if self._is_closed:  # by a signal handler, before there was anything to close
            running.stack.close()
            raise RuntimeError("this SyncClient is closed")
        self._running[this_process()] = running
        return running

    def _begin(self) -> _ProcessClient:
        with ExitStack() as stack:
            stack.callback(setattr, self, "_loop_thread", None)
            portal = stack.enter_context(start_blocking_portal(name="skycore_async"))
            self._loop_thread = portal.call(get_ident)
            client = stack.enter_context(
                portal.wrap_async_context_manager(portal.call(self._made))
            )
            return _ProcessClient(client, portal, stack.pop_all())

    def _made(self) -> AbstractAsyncContextManager[SkycoreClient]:
        # No local variable has the function: a `partial` shows its arguments, perhaps the key.
        return self._make()

    def _after_fork(self) -> None:
        self._changing = RLock()  # a thread of the parent may have held it
        self._is_beginning = False
        self._loop_thread = None


@attrs.frozen
class _ProcessClient:
    """The client of one process, and the event loop in which it runs."""

    client: SkycoreClient
    portal: BlockingPortal
    stack: ExitStack


@attrs.frozen
class _Exit:
    """What `sys.exit()` raised in the event loop, for the thread that waits for the result."""

    error: SystemExit


def _result(portal: BlockingPortal, call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `call` in the event loop; cancel it if this thread is interrupted."""
    future = portal.start_task_soon(call)
    try:
        return future.result()
    except BaseException:
        future.cancel()  # does nothing if it has ended
        raise


@attrs.define
class _Wanted:
    """A request of the event loop for the next message, which the caller's thread takes."""

    is_there: anyio.Event = attrs.field(factory=anyio.Event)
    taken: tuple[SMS, ...] = ()  # none at the end of the messages
    error: Exception | None = None


class _Source:
    """The caller's messages, taken in the caller's thread when the event loop requests one."""

    def __init__(self, messages: Iterable[SMS]) -> None:
        self._messages = iter(messages)
        self.wanted: SimpleQueue[_Wanted | None] = SimpleQueue()

    async def taken(self) -> AsyncIterator[SMS]:
        """Yield each message, in the event loop."""
        while True:
            self.wanted.put(wanted := _Wanted())
            await wanted.is_there.wait()
            if wanted.error is not None:
                raise wanted.error
            if not wanted.taken:
                return
            yield wanted.taken[0]

    def take(self, wanted: _Wanted) -> None:
        """Take the message that is wanted, in the caller's thread."""
        try:
            wanted.taken = tuple(itertools.islice(self._messages, 1))
        except Exception as error:  # noqa: BLE001 - it is raised where the messages are read
            wanted.error = error


class _Sending:
    """A context manager that enters a `BulkSend` in the event loop, and yields its outcomes here.

    Nothing in the event loop waits for it to be left.  So if it never is, as in a generator that
    nobody resumes, the program can still end.
    """

    def __init__(self, portal: BlockingPortal, bulk: BulkSend, source: _Source) -> None:
        self._portal = portal
        self._bulk = bulk
        self._source = source
        self._process = this_process()

    def __enter__(self) -> Iterator[Outcome]:
        _result(self._portal, self._bulk.__aenter__)
        return self._outcomes()

    def __exit__(self, *error: Any) -> None:
        if this_process() == self._process:  # a forked child has no such event loop
            # The loop may have ended, or the garbage collector calls this in the loop's thread.
            with suppress(RuntimeError):
                _result(self._portal, functools.partial(self._bulk.__aexit__, *error))

    def _outcomes(self) -> Iterator[Outcome]:
        """Yield each outcome; while waiting for one, take the messages that are requested."""
        while True:
            future = self._following()
            future.add_done_callback(lambda _: self._source.wanted.put(None))
            try:
                while (wanted := self._source.wanted.get()) is not None:
                    self._source.take(wanted)
                    self._portal.start_task_soon(wanted.is_there.set)
            except BaseException:
                future.cancel()
                raise
            if (outcome := future.result()) is None:
                return
            yield outcome

    def _following(self) -> Future[Outcome | None]:
        """Start waiting for the next outcome; it is None after the last."""

        async def following() -> Outcome | None:
            return await anext(self._bulk, None)

        if this_process() != self._process:
            raise RuntimeError("these messages are sent in the process that forked this one")
        try:
            return self._portal.start_task_soon(following)
        except RuntimeError:
            raise RuntimeError("this SyncClient is closed") from None


# The clients that are not closed, to close them when the program ends.
_clients: Final[set[SyncClient]] = set()


@atexit.register
def _close_all() -> None:
    for client in tuple(_clients):
        client.close()


def _forked() -> None:
    for client in tuple(_clients):
        client._after_fork()  # noqa: SLF001 - of this module


call_in_child(_forked)
