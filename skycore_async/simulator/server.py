"""The simulator itself: a pretend Skycore that runs in a thread and shows what it received.

The server's thread decides and logs; any other thread reads and changes settings.
One lock protects both, and it is never held during I/O.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from ..messages import ReportSection
from .account import SHORT_CODE, Account
from .behaviours import BY_LAST_DIGITS, Behaviour
from .delivery import ANSWER_TIMEOUT, PostbackAttempt, PostbackDelivery
from .exchange import Decision, ReceivedMessage, Skycore
from .outbox import Outbox
from .postbacks import PostbackForm
from .reports import ReportFile, Reports

if TYPE_CHECKING:
    from typing import Self

# By default, every interval is a hundredth of the provider's: five repetitions
# of a postback take 15 s and not 25 minutes.
TIME_SCALE: Final = 0.01


class Simulator:
    """A pretend Skycore on loopback, running while the context is open.

    Works with `with` and with `async with` (asyncio or trio), and can be
    entered again; then the log goes on.

    * `account`: the account's settings; can be replaced while running.
    * `postback_url`: where postbacks go; with None, messages taken meanwhile get
      no postbacks.  Can be set while running; pending postbacks go to the new URL.
    * `postback_form`: which of the two forms postbacks have.
    * `bundle_postbacks`: post the pending postbacks once a minute (scaled), up to
      300 together, as only the NOTIFICATION form can.
    * `postbacks_as_form_field`: send postbacks as the form field `xml`, not bare.
    * `postback_timeout`: how long the answer to a postback may take, in seconds; not
      scaled, since the receiver runs at its own speed.
    * `time_scale`: the factor for every interval of the provider's.
    * `behaviours`: the behaviours by the last four digits of a recipient's number;
      if empty, every valid message is delivered.
    * `reports`: how sending reports are made; can be replaced while running.
    * `clock_skew`: by how many seconds the clock of the provider is ahead.
    * `host`, `port`: where to listen; port 0 lets the system choose.
    * `idle_timeout`: after how many seconds an idle connection is closed.

    Raises ImportError without the extra `server`, and ValueError for settings
    that do not go together.  Starting raises OSError if the address is in use.
    """

    def __init__(
        self,
        *,
        account: Account | None = None,
        postback_url: str | None = None,
        postback_form: PostbackForm = PostbackForm.NOTIFICATION,
        bundle_postbacks: bool = False,
        postbacks_as_form_field: bool = False,
        postback_timeout: float = ANSWER_TIMEOUT,
        time_scale: float = TIME_SCALE,
        behaviours: Mapping[str, Behaviour] = BY_LAST_DIGITS,
        reports: Reports | None = None,
        clock_skew: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
        idle_timeout: float = 5.0,
    ) -> None:
        from .app import PATH, make_app  # noqa: PLC0415 - the extra `server`
        from .asgi_thread import ServerThread  # noqa: PLC0415 - the extra `server`

        if time_scale < 0:
            raise ValueError("time_scale is negative")
        if bundle_postbacks and postback_form is not PostbackForm.NOTIFICATION:
            raise ValueError("only PostbackForm.NOTIFICATION can be bundled")
        self._lock = threading.Lock()
        # Two simulators must not give one ledger the same ids, even if a test run seeds `random`
        # with the same value before each test.
        first_id = (1 + secrets.randbelow(10**8)) * 10**6
        self._skycore = Skycore(
            account or Account(), behaviours=behaviours, first_id=first_id, time_scale=time_scale
        )
        self._skycore.reports.settings = reports or Reports()
        self._clock_skew = clock_skew
        self._delivery = PostbackDelivery(
            Outbox(time_scale=time_scale, bundling=bundle_postbacks),
            url=_checked(postback_url),
            form=postback_form,
            as_form_field=postbacks_as_form_field,
            timeout=postback_timeout,
        )
        app = make_app(self._decide, self._find_report, self._delivery, time_scale=time_scale)
        self._server = ServerThread(
            app, host=host, port=port, idle_timeout=idle_timeout, grace=0.0
        )
        self._path = PATH

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self.start)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    def start(self) -> None:
        """Start answering; OSError if the address is in use."""
        self._server.start()

    def stop(self) -> None:
        """Stop answering: end the requests that hang, and forget the pending postbacks."""
        self._server.stop()

    @property
    def url(self) -> str:
        """The address of the API, for a client's `base_url`; RuntimeError while not running."""
        return self._server.url + self._path

    @property
    def messages(self) -> tuple[ReceivedMessage, ...]:
        """Every message that it was asked to send, taken or not, in the order of arrival."""
        with self._lock:
            return tuple(self._skycore.messages)

    @property
    def billed(self) -> int:
        """How many messages were taken."""
        with self._lock:
            return self._skycore.billed

    @property
    def requests(self) -> int:
        """How many complete requests came, readable or not."""
        with self._lock:
            return self._skycore.requests

    @property
    def account(self) -> Account:
        """The account's settings."""
        with self._lock:
            return self._skycore.account

    @account.setter
    def account(self, account: Account) -> None:
        with self._lock:
            self._skycore.account = account

    def script(self, *behaviours: Behaviour) -> None:
        """Apply these behaviours, in order, to the next requests, whatever their numbers.

        A request that is incomplete, or that the account refuses, uses up none.
        """
        with self._lock:
            self._skycore.script(*behaviours)

    @property
    def reports(self) -> Reports:
        """How sending reports are made; setting it changes no report that was already made."""
        with self._lock:
            return self._skycore.reports.settings

    @reports.setter
    def reports(self, reports: Reports) -> None:
        with self._lock:
            self._skycore.reports.settings = reports

    @property
    def lookups(self) -> int:
        """How many sending reports it gave a link to."""
        with self._lock:
            return len(self._skycore.reports.lookups)

    def sent_elsewhere(
        self,
        *,
        to: str,
        text: str,
        from_: str = SHORT_CODE,
        section: ReportSection = ReportSection.SENDING_LIST,
    ) -> None:
        """Add to the reports a message that another program of the account sent just now.

        It is not among `messages`, and not counted as billed.
        """
        with self._lock:
            self._skycore.sent_elsewhere(
                to=to, text=text, from_=from_, section=section, now=self._now()
            )

    @property
    def postback_url(self) -> str | None:
        """Where postbacks go; setting it raises ValueError for anything but an HTTP address."""
        return self._delivery.url

    @postback_url.setter
    def postback_url(self, url: str | None) -> None:
        self._delivery.url = _checked(url)

    @property
    def postbacks(self) -> tuple[PostbackAttempt, ...]:
        """Every postback that was posted; each repetition is an item of its own."""
        return self._delivery.attempts

    def wait_for_postbacks(self, timeout: float = 10.0) -> None:
        """Block until no postback is pending: each was answered with 200 or given up.

        The postbacks of a message are pending before its answer is sent.  Do not
        block an event loop that has to answer them: use `to_thread` there.

        Raises TimeoutError after `timeout` seconds.
        """
        if not self._delivery.wait_until_settled(timeout):
            raise TimeoutError(f"postbacks are still pending after {timeout:g} s")

    def _decide(self, method: str, query: bytes, body: bytes) -> Decision:
        with self._lock:
            return self._skycore.decide(
                method, query=query, body=body, now=self._now(), host=self._server.url
            )

    def _find_report(self, name: str) -> ReportFile | None:
        with self._lock:
            return self._skycore.reports.file(name)

    def _now(self) -> float:
        return time.time() + self._clock_skew


def _checked(url: str | None) -> str | None:
    if url is None or re.match(r"https?://[^/\s]", url):
        return url
    raise ValueError(f"the postback URL is no HTTP address: {url!r}")
