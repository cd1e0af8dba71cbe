"""The progress of campaigns, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...campaigns.announced_waits import resume_command
from ...campaigns.progress import CampaignProgress
from ...ledger.postgres.session import is_to_resume
from ...sending.hours import hours_in_words
from .output import printable, say
from .tables import console, show_table
from .times import time_of

_COLUMNS = ("campaign", "state", "messages", "to send", "in doubt", "chunks", "workers")


def show_campaigns(campaigns: Sequence[CampaignProgress]) -> None:
    """Print a table of campaigns, and why halted campaigns were halted."""
    if not campaigns:
        say("No campaign was loaded.")
        return
    show_table(console(), _COLUMNS, [list(_cells(one)) for one in campaigns])
    for one in campaigns:
        if one.reason:
            say(f"\n{printable(one.name)} is {one.state}: {printable(one.reason)}")
        if one.reason and is_to_resume(one.reason):
            say(f"  once that is mended: {printable(resume_command(one.name))}")
        if one.state == "scheduled":
            say(f"\n{printable(one.name)} starts at {time_of(one.starts_at)}")
        if one.put_off:
            say(
                f"\n{printable(one.name)}: {one.put_off:,} are outside of their hours,"
                f" {hours_in_words(one.hours or '', one.zone)}; the next are sent to at"
                f" {time_of(one.opens_at)}"
            )
        for reason, count in one.left_out.items():
            say(f"\n{printable(one.name)}: {count:,} left out, {reason}")


def say_what_stops_it(state: str) -> None:
    """Print on standard error how to go on with a campaign that is paused or halted."""
    if state == "halted":  # perhaps for a reason that cannot be mended
        to_do = "`skycore status DSN` says why, and how to go on."
    else:
        to_do = "`skycore cluster resume` goes on."
    say(f"The campaign is {state}: {to_do}", err=True)


def _cells(one: CampaignProgress) -> Iterator[str]:
    yield printable(one.name)
    yield one.state
    yield f"{one.messages:,}"
    yield f"{one.to_send:,}"
    yield f"{one.states.get('in_doubt', 0):,}"
    yield f"{one.done:,}/{one.done + one.held + one.waiting:,}"
    yield f"{one.workers:,}"
