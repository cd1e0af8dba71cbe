"""The pretend Skycore's decision about a request: the answer, the bill, the postbacks.

`Skycore` is the whole provider without its sockets.  It gets a request and the
time, and returns a `Decision`.  The bill is written to the log before the answer
is sent, so the log is exact whatever becomes of the connection.

Rules, in order:

* a request that cannot be read, or that the account refuses, gets a Failure;
* else the next scripted behaviour applies;
* else the behaviour for the recipient's last digits;
* else the message is accepted and delivered.

A message goes to its carrier at once, and the carrier reports on it a pause
later: the postbacks carry these times, however late and in whichever order they come.

Pure, and not locked: for one thread at a time.
"""

from __future__ import annotations

import base64
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

from ..messages import ReportSection
from .account import (
    Account,
    CallRate,
    RequestRefused,
    SubmitRequest,
    code_against,
    read_form,
    read_query,
)
from .answers import METHOD_NOT_ALLOWED, Reply, failure, reply
from .behaviours import ACCEPTED_AND_DELIVERED, BY_LAST_DIGITS, Behaviour, refusal
from .outbox import PAUSE
from .postbacks import Postback
from .reports import HistoryEntry, ReportDesk

_FROM_MASK_LENGTH: Final = 11
_REPORTS: Final = "getsendingstatus"


@attrs.frozen(kw_only=True)
class ReceivedMessage:
    """A message that the pretend Skycore was asked to send.

    `taken` says whether it was taken, and so is billed; `tracking_id` is None
    if it was not.  `code` is the ERRORCODE of the answer, if it had one.
    `method` is the HTTP method, and `time` is when the whole request had come.
    Fields that did not come are empty.
    """

    to: str
    text: str
    from_: str
    campaign_ref: str
    spid: str
    operator_id: str
    from_mask: str
    tracking_id: str | None
    taken: bool
    code: str | None
    method: str
    time: datetime


@attrs.frozen(kw_only=True)
class Decision:
    """What to do about a request.

    Answer with `reply` after `delay` seconds, and post `postbacks` one after
    another; with `postbacks_first`, post each once before answering.
    """

    reply: Reply
    delay: float = 0.0
    postbacks: tuple[Postback, ...] = ()
    postbacks_first: bool = False


_READERS: Final[Mapping[str, Callable[[bytes, bytes], SubmitRequest]]] = {
    "GET": lambda query, _: read_query(query),
    "POST": lambda _, body: read_form(body),
}
METHODS: Final = tuple(_READERS)


class Skycore:
    """Decides as the provider does; has its account, its behaviours and its log.

    `behaviours` are by the recipient's last four digits.  Ids count up from
    `first_id`, so that two runs can give different ids.  Every interval is
    multiplied by `time_scale`.  `reports` has the messages for sending reports.
    """

    def __init__(
        self,
        account: Account,
        *,
        behaviours: Mapping[str, Behaviour] = BY_LAST_DIGITS,
        first_id: int = 1,
        time_scale: float = 1.0,
    ) -> None:
        self.account = account
        self.messages: list[ReceivedMessage] = []
        self.requests = 0
        self.billed = 0
        self._behaviours = behaviours
        self._pause = timedelta(seconds=PAUSE * time_scale)
        self.reports = ReportDesk(pause=PAUSE * time_scale)
        self._script: deque[Behaviour] = deque()
        self._call_rate = CallRate()
        self._ids = itertools.count(first_id)
        self._postback_ids = itertools.count(first_id)

    def script(self, *behaviours: Behaviour) -> None:
        """Apply these behaviours, in order, to the next requests that are complete and valid."""
        self._script.extend(behaviours)

    def sent_elsewhere(
        self, *, to: str, text: str, from_: str, section: ReportSection, now: float
    ) -> None:
        """Take a message that another program of the account sent, by itself or in a campaign."""
        behaviour = self._behaviours.get(to[-4:], ACCEPTED_AND_DELIVERED)
        self.reports.history.append(
            HistoryEntry(
                time=now,
                id=next(self._ids),
                to=to,
                from_=from_,
                text=text,
                behaviour=behaviour,
                section=section,
            )
        )

    def decide(
        self, method: str, *, query: bytes, body: bytes, now: float, host: str = "http://localhost"
    ) -> Decision:
        """Decide about a request that was complete at `now`, in seconds since the epoch.

        Links lead to `host`.
        """
        self.requests += 1
        if method not in _READERS:
            return Decision(reply=METHOD_NOT_ALLOWED)
        try:
            request = _READERS[method](query, body)
        except RequestRefused as refused:
            return Decision(reply=failure(refused.code))
        if request.action.lower() == _REPORTS:
            return Decision(reply=self.reports.answer(request, self.account, now=now, host=host))
        behaviour = self._behaviour(request, now)
        number = next(self._ids)
        message = _received(request, behaviour, number=number, method=method, now=now)
        self.messages.append(message)
        self.billed += message.taken
        if message.taken:
            self.reports.history.append(
                HistoryEntry(
                    time=now,
                    id=number,
                    to=message.to,
                    from_=message.from_,
                    text=message.text,
                    behaviour=behaviour,
                )
            )
        return Decision(
            reply=reply(behaviour, to=message.to, tracking_id=_tracking_id(number)),
            delay=behaviour.delay,
            postbacks=self._postbacks(behaviour, message, number),
            postbacks_first=behaviour.postbacks_first,
        )

    def _behaviour(self, request: SubmitRequest, now: float) -> Behaviour:
        code = code_against(request, self.account) or self._call_rate.code_against(
            self.account, now
        )
        if code is not None:
            return refusal(code)
        if self._script:
            return self._script.popleft()
        return self._behaviours.get(request.to[-4:], ACCEPTED_AND_DELIVERED)

    def _postbacks(
        self, behaviour: Behaviour, message: ReceivedMessage, number: int
    ) -> tuple[Postback, ...]:
        if message.tracking_id is None:
            return ()
        # An event that comes twice is the same postback twice, with the same id.
        ids = {event: next(self._postback_ids) for event in behaviour.postbacks}
        told = message.time + self._pause
        return tuple(
            Postback(
                event=event,
                to=message.to,
                tracking_id=message.tracking_id,
                history_id=number,
                id=ids[event],
                created=told if event.carrier else message.time,
                timestamp=told if event.carrier else message.time,
                from_=message.from_,
                from_mask=message.from_mask[:_FROM_MASK_LENGTH],
                spid=message.spid or message.operator_id,
            )
            for event in behaviour.postbacks
        )


def _received(
    request: SubmitRequest, behaviour: Behaviour, *, number: int, method: str, now: float
) -> ReceivedMessage:
    return ReceivedMessage(
        to=request.to,
        text=request.text,
        from_=request.from_,
        campaign_ref=request.campaign_ref,
        spid=request.spid,
        operator_id=request.operator_id,
        from_mask=request.from_mask,
        tracking_id=_tracking_id(number) if behaviour.taken else None,
        taken=behaviour.taken,
        code=behaviour.code,
        method=method,
        time=datetime.fromtimestamp(now, UTC),
    )


def _tracking_id(number: int) -> str:
    """Write a tracking id in the newer spelling: the older one in base64."""
    return base64.b64encode(f"SMS_{number}".encode()).decode()
