"""The caller's postback URL as an ASGI application: store first, answer 200 after.

Strategy: `authorization` decides in plain code what needs no body (which URL, which caller, which
method).  Then the body is read, parsed, recorded and handed on, and only then answered.  There is
no framework: the application runs alone, or mounted in another.

Rules:

* HTTP 200 means that the ledger has the postback.  The provider repeats a postback with any other
  answer, or with none within 10 s.  So anything that fails or takes too long is answered 500, and
  a repetition changes nothing in the ledger.
* A part of a postback that cannot be read is recorded as it came, and logged.  If the body was cut
  off, the answer is 400 all the same, so that the postback comes again, perhaps whole.
* A refusal is logged with its reason, unless any stranger could get it: the provider gives up on
  refused postbacks after some tries.
* An error of a handler is logged with its type and place alone: its text may hold a number, and
  logs are not secret.  An error of the ledger is logged with its text, which holds none.
* The receiver closes only what it has opened.
"""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

import anyio

from ..errors import ConfigurationError, LedgerInUse, PostbackError, safe_text
from ..ledger.interface import Ledger, check_ledger
from ..ledger.setting_checks import check_counts, check_positive
from ..notifications import Notification, UnknownNotification, is_unreadable
from ..postbacks import parse_postback
from ..runtime.event_loop import HomeLoop, now
from ..runtime.given_functions import has_not_begun, has_yield
from ..runtime.guarded_telemetry import GuardedTelemetry
from ..runtime.logs import log
from .authorization import (
    FOR_STRANGERS,
    ASGIScope,
    HTTPAnswer,
    RequestPolicy,
    checked,
    content_encoding,
    pairs_of,
    secrets_of,
)
from .bodies import Bodies, Receive

if TYPE_CHECKING:
    from ..telemetry import Telemetry
    from .inbox import PostbackInbox


_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_YIELDS: Final = "on_notification: a function with `yield` in it does nothing when it is called"

_OK: Final = HTTPAnswer(status=200, text="OK")
_CUT_OFF: Final = HTTPAnswer(
    status=400, text="This postback ends in its middle; what could be read of it is taken in"
)
_BESIDE: Final = (
    ". A receiver can take postbacks in beside it: PostbackReceiver(ledger=PATH), with the path in"
    " place of the ledger"
)
_FAILED: Final = HTTPAnswer(status=500, text="This could not be taken in; try again")


class PostbackReceiver:
    """Take postbacks in: an ASGI application, to be served alone or mounted in another.

    * `ledger`: where notifications are recorded, those of one postback all or none; or the path of
      an SQLite ledger that other processes send from, see `PostbackInbox`: any number of receivers
      can have it.  If the receiver is served alone, it opens the ledger at start-up and closes it
      at shutdown, unless it was open.  If it is mounted, the application around it should do that.
      If nobody does, as with a server without lifespan events, it is opened at the first request.
    * `on_notification`: called with each notification of a postback, in order, after they were
      recorded.  A coroutine function is awaited; any other function is called in the event loop,
      and should not block.  It may see a notification more than once, as the provider repeats a
      postback that was not answered 200.
    * `path`: the path of the URL, below where this is mounted.
    * `secret`: a secret that the URL must have behind the path, as in `/postback/SECRET`; or
      several, any of which will do while one is replaced.  A server's access log shows it.
    * `credentials`: a user and a password required by HTTP Basic; or several such pairs.
    * `max_body`: the largest size of a body, in bytes.  `parse_postback` takes no more than 1 MiB.
    * `max_bodies`: the largest size of all bodies together that are under way, in bytes, from the
      first byte to the answer; no less than `max_body`.  Beyond it, bodies larger than their share
      are answered 503, with a Retry-After.
    * `body_timeout`: how long a body may take to come, in seconds.  After that it is answered 408,
      and its connection closed.
    * `timeout`: how long ledger and handler may take together, in seconds; the provider waits 10.
    * `telemetry`: reports each postback to OpenTelemetry; see `Telemetry`.

    Answers 200; 400 to what is no postback, or was cut off; 401, 404, 405, 408, 413, 503; 415 to a
    body in another Content-Encoding than gzip or deflate; and 500 if the ledger or the handler
    failed or took too long.

    Raises ConfigurationError for settings that cannot work.
    """

    def __init__(
        self,
        *,
        ledger: Ledger | PostbackInbox | str | os.PathLike[str] | None = None,
        on_notification: Callable[[Notification], object] | None = None,
        path: str = "/postback",
        secret: str | Iterable[str] | None = None,
        credentials: tuple[str, str] | Iterable[tuple[str, str]] | None = None,
        max_body: int = 1024 * 1024,
        max_bodies: int = 16 * 1024 * 1024,
        body_timeout: float = 10.0,
        timeout: float = 8.0,
        telemetry: Telemetry | None = None,
    ) -> None:
        # Replaced at once, so that no frame of a traceback shows them.
        secrets, secret = secrets_of(secret), None
        pairs, credentials = pairs_of(credentials), None
        if ledger is None and on_notification is None:
            raise ConfigurationError("give a ledger or on_notification: postbacks would be lost")
        if not (on_notification is None or callable(on_notification)):
            raise ConfigurationError(f"on_notification: {on_notification!r} cannot be called")
        if on_notification is not None and has_yield(on_notification):
            raise ConfigurationError(_YIELDS)
        if not isinstance(path, str) or not path.startswith("/"):
            raise ConfigurationError(f"path: {path!r} does not start with '/'")
        check_counts(max_body=max_body, max_bodies=max_bodies)
        check_positive(timeout=timeout, body_timeout=body_timeout)
        if isinstance(ledger, str | os.PathLike):
            ledger = _inbox_of(ledger)
        if ledger is not None:
            check_ledger(ledger, "record")
        self._ledger = ledger
        self._was_open = False
        self._opened_in: HomeLoop | None = None  # the event loop, if it was opened at a request
        self._on_notification = on_notification
        self._timeout = timeout
        self._telemetry = telemetry
        self._bodies = Bodies(
            most=max_body, most_together=max(max_bodies, max_body), timeout=body_timeout
        )
        self._policy = RequestPolicy(
            path=path.rstrip("/"),
            secrets=checked(secrets, "secret: a str is needed, and an empty one keeps nobody out"),
            credentials=checked(pairs, "credentials: give a user without ':' and a password"),
            max_body=max_body,
        )

    def __repr__(self) -> str:
        # A traceback may show one whose __init__ failed.
        policy = getattr(self, "_policy", None)
        path = "" if policy is None else f"path={policy.path or '/'!r}"
        return f"PostbackReceiver({path})"

    async def __call__(self, scope: ASGIScope, receive: Receive, send: _Send) -> None:
        """Answer a request, or handle the server's lifespan events, as ASGI defines."""
        if scope["type"] == "http":
            answer = await self._answer(scope, receive)
            if answer is not None:
                await _give(answer, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            raise ValueError(f"there is no {scope['type']!r} here")

    async def _answer(self, scope: ASGIScope, receive: Receive) -> HTTPAnswer | None:
        """Handle a request and return its answer; None if the client is gone."""
        refused = self._policy.refusal(scope)
        if refused is None:
            with self._bodies.one() as one:
                is_compressed = content_encoding(scope) != b""
                body = await one.read(receive, is_compressed=is_compressed)
                if isinstance(body, bytes):
                    return await self._answer_to(body)
                refused = body
        if refused is not None and refused not in FOR_STRANGERS:
            _log_refusal(refused.status, refused.text)
        return refused

    async def _answer_to(self, body: bytes) -> HTTPAnswer:
        """Handle a body and return its answer."""
        try:
            notifications = parse_postback(body)
        except PostbackError as error:
            _log_refusal(400, str(error))
            return HTTPAnswer(status=400, text=str(error))
        answer = await self._answer_to_all(notifications)
        if UnknownNotification not in map(type, notifications) or answer is not _OK:
            return answer
        unreadable = [each for each in notifications if is_unreadable(each)]
        if not unreadable:
            return answer
        log.warning(
            "%d of the %d parts of a postback could not be read, and are kept as they came, as"
            " UnknownNotification: %s",
            len(unreadable),
            len(notifications),
            unreadable[0].unreadable,
        )
        return _CUT_OFF if unreadable[-1].is_cut_off else answer

    async def _answer_to_all(self, notifications: tuple[Notification, ...]) -> HTTPAnswer:
        if (telemetry := self._telemetry) is None:
            return await self._take_in(notifications)
        with GuardedTelemetry(
            lambda: telemetry.receiving(notifications), what="a postback"
        ) as traced:
            return await self._take_in(
                notifications, lambda error: traced.tell(lambda op: op.failed(error))
            )

    async def _take_in(
        self,
        notifications: tuple[Notification, ...],
        failed: Callable[[Exception], None] | None = None,
    ) -> HTTPAnswer:
        deadline = now() + self._timeout
        try:
            with anyio.CancelScope(deadline=deadline):
                if self._ledger is not None:
                    if not self._was_open or self._opened_in is not None:
                        await self._open_if_nobody_did(self._ledger)
                    await self._ledger.record(*notifications)
                if self._on_notification is not None:
                    for notification in notifications:
                        _check_time(deadline)
                        handled = self._on_notification(notification)
                        if inspect.isawaitable(handled):
                            await handled
                        elif has_not_begun(handled):  # such as a lambda around a generator
                            raise ConfigurationError(_YIELDS)
            _check_time(deadline)
        except Exception as error:  # noqa: BLE001 - whatever it is, the provider is to try again
            _log_failure(error, self._timeout)
            if failed is not None:
                failed(error)
            return _FAILED
        return _OK

    async def _open_if_nobody_did(self, ledger: Any) -> None:
        """Open a ledger that was never open; one that was open is closed for good.

        A ledger that was opened here, in an event loop that has ended, is opened again: a test
        client that is not entered has an event loop for each request.
        """
        if self._opened_in is not None and self._opened_in.is_here():
            return
        if not getattr(ledger, "is_open", True):
            await ledger.open()
            self._opened_in = HomeLoop()
            if not self._was_open:  # else another request has warned meanwhile
                log.warning(
                    "the ledger was opened at the first postback, as neither the server nor the"
                    " application opened it at its start"
                )
        self._was_open = True

    async def _live(self, receive: Receive, send: _Send) -> None:
        await receive()
        try:
            close = await _opened(self._ledger)
            self._was_open = True
        except Exception as error:  # noqa: BLE001 - the server tells it
            why = safe_text(error) + (_BESIDE if isinstance(error, LedgerInUse) else "")
            await send({"type": "lifespan.startup.failed", "message": why})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await close()
        except Exception as error:  # noqa: BLE001 - the server tells it
            await send({"type": "lifespan.shutdown.failed", "message": safe_text(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


def _inbox_of(path: str | os.PathLike[str]) -> PostbackInbox:
    from .inbox import PostbackInbox  # noqa: PLC0415 - SQLite, which not all have to load

    if isinstance(path, str) and ("://" in path or "=" in path):  # and a password, perhaps
        raise ConfigurationError(
            "ledger: a text that looks like a DSN: for a database, which several processes share"
            " as it is, give PostgresLedger(dsn), and for a file of such a name a Path"
        )
    return PostbackInbox(path)


# Speaking ASGI.


async def _give(answer: HTTPAnswer, send: _Send) -> None:
    body = answer.text.encode("utf-8", "replace")
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _opened(ledger: Any) -> Callable[[], Awaitable[None]]:
    """Open a ledger that can be opened and is not open; return a function that closes it."""
    if not hasattr(ledger, "open") or getattr(ledger, "is_open", False):
        return _do_nothing
    await ledger.open()
    return getattr(ledger, "aclose", _do_nothing)


async def _do_nothing() -> None:
    pass


# What went wrong.


def _check_time(deadline: float) -> None:
    # The scope may have been cancelled; and a handler that blocks is not cancelled.
    if now() >= deadline:
        raise TimeoutError


def _log_refusal(status: int, why: str) -> None:
    log.warning("a postback was not taken in, and was answered with %d: %s", status, why)


def _log_failure(error: Exception, timeout: float) -> None:
    where = "".join(traceback.format_tb(error.__traceback__))
    why = safe_text(error)
    if isinstance(error, TimeoutError):
        why = f"{why}: ledger and handler did not end within {timeout:g} seconds"
    log.error("a postback could not be taken in, and was answered with 500: %s\n%s", why, where)
