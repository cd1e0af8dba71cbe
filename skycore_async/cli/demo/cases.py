"""The first part of `skycore demo`: one message for each possible outcome.

Strategy: a simulator plays Skycore and a `PostbackReceiver` is the caller's
postback URL, each with a server of its own.  The messages go out together, each is
followed by its tracking id, and the table says what is known of it.

The most important message is the one whose answer is lost.  Nobody knows its tracking id, so it is
shown as in doubt, with the receipt that came for its number beside it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import anyio
import attrs

from ...client import SkycoreClient
from ...codes import DeliveryState, FailureReason
from ...errors import InvalidRecipient, OutcomeUnknown, SkycoreError
from ...messages import SMS, Accepted, Failed, Outcome
from ...notifications import DeliveryReceipt, Notification, SentNotification
from ...protocol.numbers import number
from ...receiving.receiver import PostbackReceiver
from ...runtime.extras import missing
from ...simulator import Simulator
from ...simulator.asgi_thread import ServerThread
from ..ui.tables import show_table

try:
    from rich.console import Console
except ImportError as error:
    raise missing("cli", error) from error

_HEADINGS: Final = ["to", "outcome", "tracking id", "delivery", "reason", "answer", "receipt"]
_SPARE: Final = ["receipt", "answer", "tracking id"]  # where the terminal is narrow
_COLOURS: Final = {"accepted": "green", "in doubt": "yellow", "refused": "red"}
_PATIENCE: Final = 20.0  # seconds for all postbacks to arrive; they take about one


@attrs.frozen(kw_only=True)
class Case:
    """A message, and its expected outcome."""

    sms: SMS
    error: type[SkycoreError] | None = None
    state: DeliveryState | None = None
    reason: FailureReason | None = None


# The last four digits ask the simulator for a behaviour; see its table.
CASES: Final = (
    Case(
        sms=SMS(to="15551234888", text="Hello Jerry, Greetings from Marc"),
        state=DeliveryState.DELIVERED,
    ),
    Case(
        sms=SMS(to="+44 (20) 7946-0018", text="Your code is 4711 ☎"),
        state=DeliveryState.DELIVERED,
    ),
    Case(
        sms=SMS(to="15551231001", text="Is anybody there?"),
        state=DeliveryState.FAILED,
        reason=FailureReason.RECIPIENT,
    ),
    Case(
        sms=SMS(to="15551231004", text="This carrier sends no receipts"),
        state=DeliveryState.SENT,
    ),
    Case(sms=SMS(to="15551230110", text="Refused by the API"), error=InvalidRecipient),
    Case(
        sms=SMS(to="15551232002", text="Taken, and the answer lost"),
        error=OutcomeUnknown,
        state=DeliveryState.DELIVERED,
    ),
)


@attrs.frozen(kw_only=True)
class _Arrival:
    notification: SentNotification | DeliveryReceipt
    at: float


@attrs.frozen(kw_only=True)
class Story:
    """What is known of one message at the end."""

    case: Case
    outcome: Outcome
    began: float
    answered: float
    arrivals: tuple[_Arrival, ...]

    @property
    def decisive(self) -> SentNotification | DeliveryReceipt | None:
        """The decisive notification: one with a final state, if there is one."""
        notifications = [arrival.notification for arrival in self.arrivals]
        return next(filter(_is_final, notifications), notifications[-1] if notifications else None)

    @property
    def state(self) -> DeliveryState | None:
        """The state that the decisive notification tells."""
        decisive = self.decisive
        if isinstance(decisive, DeliveryReceipt):
            return decisive.state
        return DeliveryState.SENT if decisive else None

    @property
    def as_it_should(self) -> bool:
        """Whether the outcome is what the case expects."""
        error = self.outcome.error if isinstance(self.outcome, Failed) else None
        right_end = isinstance(error, self.case.error) if self.case.error else error is None
        reason = getattr(self.decisive, "reason", None)
        return right_end and (self.state, reason) == (self.case.state, self.case.reason)

    def facts(self) -> dict[str, Any]:
        """Return the story as names and values, for programs."""
        return {
            "to": number(self.case.sms.to),
            "outcome": _kind(self.outcome),
            "tracking_id": getattr(self.outcome, "tracking_id", None),
            "delivery": self.state,
            "reason": _reason(self),
            "as_it_should": self.as_it_should,
        }


def _is_final(notification: SentNotification | DeliveryReceipt) -> bool:
    return (
        isinstance(notification, DeliveryReceipt) and notification.state is not DeliveryState.SENT
    )


@attrs.frozen(kw_only=True)
class Played:
    """The stories of all cases, and how many messages Skycore billed."""

    stories: tuple[Story, ...]
    billed: int

    @property
    def to_go_out(self) -> int:
        """How many messages should be sent, and so billed."""
        return sum(story.case.state is not None for story in self.stories)

    @property
    def is_well(self) -> bool:
        """Whether all outcomes and the bill are as expected."""
        as_they_should = all(story.as_it_should for story in self.stories)
        return as_they_should and self.billed == self.to_go_out


def play(console: Console, cases: Sequence[Case] = CASES) -> Played:
    """Send the cases' messages, and wait for their postbacks."""
    arrivals: list[_Arrival] = []

    def keep(notification: Notification) -> None:
        if isinstance(notification, SentNotification | DeliveryReceipt):
            arrivals.append(_Arrival(notification=notification, at=time.monotonic()))

    with ServerThread(PostbackReceiver(on_notification=keep)) as server:
        postback_url = f"{server.url}/postback"
        with Simulator(postback_url=postback_url) as simulator:
            console.print(f"A pretend Skycore listens on {simulator.url}")
            console.print(f"and posts its notifications to {postback_url}.\n")
            sent = anyio.run(_send_all, simulator.url, cases)
            with suppress(TimeoutError):  # what is missing then shows in the table
                simulator.wait_for_postbacks(timeout=_PATIENCE)
            stories = tuple(_follow(*one, arrivals) for one in sent)
            return Played(stories=stories, billed=simulator.billed)


def show(console: Console, played: Played) -> None:
    """Print the table of the cases, and explain the doubt."""
    _show_table(console, played.stories)
    for story in played.stories:
        if isinstance(story.outcome, Failed) and story.outcome.error.may_have_been_sent:
            _explain_doubt(console, story)
    console.print(
        f"\nSkycore billed {played.billed} messages; {played.to_go_out} were to go out, each of"
        " them once."
    )
    wrong = [story.case.sms.to for story in played.stories if not story.as_it_should]
    if not played.is_well:
        console.print(f"[red]Not as it should be: {', '.join(wrong) or 'the bill'}.[/]")


_Sent = tuple[Case, Outcome, float, float]


async def _send_all(base_url: str, cases: Sequence[Case]) -> list[_Sent]:
    sent: dict[int, _Sent] = {}

    async def send(client: SkycoreClient, index: int, case: Case) -> None:
        began = time.monotonic()
        outcome: Outcome
        try:
            outcome = await client.send_sms(to=case.sms.to, text=case.sms.text)
        except SkycoreError as error:
            outcome = Failed(message=case.sms, error=error)
        sent[index] = case, outcome, began, time.monotonic()

    async with (
        SkycoreClient(api_key="simulator-key", from_="60856", base_url=base_url) as client,
        anyio.create_task_group() as sending,
    ):
        for index, case in enumerate(cases):
            sending.start_soon(send, client, index, case)
    return [sent[index] for index in sorted(sent)]


def _follow(
    case: Case, outcome: Outcome, began: float, answered: float, arrivals: list[_Arrival]
) -> Story:
    """Gather a message's notifications by its tracking id, or by its number if it is in doubt."""
    to = number(case.sms.to)

    def is_own(notification: SentNotification | DeliveryReceipt) -> bool:
        if isinstance(outcome, Accepted):
            return notification.tracking_id == outcome.tracking_id
        return notification.to == to

    own = tuple(arrival for arrival in arrivals if is_own(arrival.notification))
    return Story(case=case, outcome=outcome, began=began, answered=answered, arrivals=own)


def _show_table(console: Console, stories: Sequence[Story]) -> None:
    rows = [_cells(story) for story in stories]
    show_table(console, _HEADINGS, rows, spare=_SPARE, styles=_COLOURS)


def _cells(story: Story) -> tuple[str, ...]:
    return (
        number(story.case.sms.to),
        _kind(story.outcome),
        _tracking_id(story.outcome),
        story.state or "-",
        _reason(story) or "-",
        f"{story.answered - story.began:.2f} s",
        f"{story.arrivals[-1].at - story.began:.2f} s" if story.arrivals else "-",
    )


def _kind(outcome: Outcome) -> str:
    if isinstance(outcome, Accepted):
        return "accepted"
    return "in doubt" if outcome.error.may_have_been_sent else "refused"


def _tracking_id(outcome: Outcome) -> str:
    if isinstance(outcome, Accepted):
        return outcome.tracking_id or "-"
    return "never learnt" if outcome.error.may_have_been_sent else "-"


def _reason(story: Story) -> str | None:
    if isinstance(story.outcome, Failed):
        return str(story.outcome.error)
    decisive = story.decisive
    if isinstance(decisive, DeliveryReceipt) and decisive.reason:
        return decisive.detail or decisive.reason
    return None


def _explain_doubt(console: Console, story: Story) -> None:
    ids = sorted({str(arrival.notification.tracking_id) for arrival in story.arrivals})
    console.print(
        f"\n{story.case.sms.to} is in doubt: the connection broke before an answer came, so it"
        " was not sent again."
    )
    if ids:
        console.print(
            f"Postbacks for that number came with tracking id {', '.join(ids)}, which no answer"
            " had named: Skycore had taken it after all, and sending again would have billed it"
            " twice."
        )
