"""Post over HTTP the postbacks that `outbox` says are due.

One task waits for the next postback that is due, and starts a task for each POST.  At most
`MAX_IN_FLIGHT` of these run at a time; all of them belong to `run`.

Postbacks share an event loop with the incoming messages, each of which has several postbacks.  So
they are posted by the direct transport: by httpx, a receiver got 40 postbacks a second beside 700
messages, and so looked slow.

Used from several threads: `run` and `add` from the server's, the rest from any.
"""

from __future__ import annotations

import base64
import threading
from typing import Final
from urllib.parse import unquote, urlsplit

import anyio
import attrs

from ..errors import SkycoreError
from ..transports.base import Request
from ..transports.direct import DirectTransport
from .outbox import Outbox, Parcel
from .postbacks import Postback, PostbackForm, bundle, form_field, render

ANSWER_TIMEOUT: Final = 10.0
"""How long the provider waits for an answer to a postback, in seconds."""

MAX_IN_FLIGHT: Final = 20


@attrs.frozen(kw_only=True)
class PostbackAttempt:
    """One POST of a postback, and its result.

    `attempt` counts from 1.  `status` is the HTTP status of the answer; if no
    answer came, it is None and `error` says why.
    """

    url: str
    body: bytes
    attempt: int
    status: int | None
    error: str | None


class PostbackDelivery:
    """Post postbacks to `url` until they are answered with HTTP 200 or given up.

    While `url` is None, new postbacks are dropped.  With `as_form_field`, a
    document is sent as the form field `xml` and not bare.  `timeout` is how
    long an answer may take, in seconds.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        url: str | None = None,
        form: PostbackForm = PostbackForm.NOTIFICATION,
        as_form_field: bool = False,
        timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self.url = url
        self._outbox = outbox
        self._form = form
        self._as_form_field = as_form_field
        self._timeout = timeout
        self._attempts: list[PostbackAttempt] = []
        self._changed = threading.Condition()
        # Made in the server's event loop: the caller's may be trio's.
        self._woken: anyio.Event | None = None

    @property
    def attempts(self) -> tuple[PostbackAttempt, ...]:
        """Every POST that has ended, in the order of their ends."""
        with self._changed:
            return tuple(self._attempts)

    def wait_until_settled(self, timeout: float) -> bool:
        """Block until nothing is pending, and return True; False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._outbox.pending, timeout)

    def add(self, postbacks: tuple[Postback, ...]) -> anyio.Event:
        """Add a message's postbacks.

        The returned event is set when each was posted once, whatever the answer.
        """
        posted = anyio.Event()
        if self.url is None or not postbacks:
            posted.set()
            return posted
        with self._changed:
            self._outbox.add(postbacks, anyio.current_time(), on_posted=posted.set)
        self._wake()
        return posted

    async def run(self) -> None:
        """Post the postbacks that are due, until cancelled; those pending then are forgotten."""
        slots = anyio.Semaphore(MAX_IN_FLIGHT, fast_acquire=True)
        transport = DirectTransport()
        try:
            async with anyio.create_task_group() as posts:
                while True:
                    await slots.acquire()
                    posts.start_soon(self._post, transport, await self._next_due(), slots)
        finally:
            with self._changed:
                self._outbox.clear()
                self._changed.notify_all()
            with anyio.CancelScope(shield=True):
                await transport.aclose()  # this breaks connections off, and waits for no answer

    async def _next_due(self) -> Parcel:
        while True:
            now = anyio.current_time()
            with self._changed:
                parcel, wait = self._outbox.take(now), self._outbox.wait(now)
            if parcel is not None:
                return parcel
            self._woken = anyio.Event()
            with anyio.move_on_after(wait):
                await self._woken.wait()

    async def _post(
        self, transport: DirectTransport, parcel: Parcel, slots: anyio.Semaphore
    ) -> None:
        url, body = self.url or "", self._body(parcel)
        status, error = await self._exchange(transport, url, body)
        attempt = PostbackAttempt(
            url=url, body=body, attempt=parcel.attempt, status=status, error=error
        )
        with self._changed:
            self._attempts.append(attempt)
            self._outbox.settle(parcel, status, anyio.current_time())
            self._changed.notify_all()
        self._wake()
        slots.release()

    async def _exchange(
        self, transport: DirectTransport, url: str, body: bytes
    ) -> tuple[int | None, str | None]:
        headers = {**self._headers, **_authorization(url)}
        request = Request(method="POST", url=url, body=body, headers=headers)
        try:
            response = await transport.send(request, timeout=self._timeout)
        except SkycoreError as error:
            return None, str(error)
        return response.status, None

    def _wake(self) -> None:
        if self._woken is not None:
            self._woken.set()

    def _body(self, parcel: Parcel) -> bytes:
        if len(parcel.postbacks) == 1:
            document = render(parcel.postbacks[0], self._form)
        else:
            document = bundle(parcel.postbacks)
        return form_field(document) if self._as_form_field else document

    @property
    def _headers(self) -> dict[str, str]:
        if self._as_form_field:
            return {"content-type": "application/x-www-form-urlencoded"}
        return {"content-type": "text/xml; charset=utf-8"}


def _authorization(url: str) -> dict[str, str]:
    """Return the Authorization header for the user and password in a URL; {} if it has none."""
    user, at, _ = urlsplit(url).netloc.rpartition("@")
    if not at:
        return {}
    return {"authorization": f"Basic {base64.b64encode(unquote(user).encode()).decode()}"}
