"""Ending doubts before a bulk send goes on: offered, and done over the client that sends.

Rule: whatever comes of it, the send goes on: what stays in doubt is not sent again.
"""

from __future__ import annotations

from ...client import SkycoreClient
from ...errors import SkycoreError
from ..ui.beside import announce_beside
from ..ui.confirm import is_agreed
from ..ui.output import number_of
from ..ui.settlements import described


def is_to_settle(in_doubt: int, *, wanted: bool, asks: bool) -> bool:
    """Return whether to ask for reports first: by --settle, or by a yes where there is a doubt."""
    if not in_doubt or wanted or not asks:
        return wanted and in_doubt > 0
    return is_agreed(
        f"{number_of(in_doubt, 'message')} in doubt may have been sent. Ask Skycore's own report"
        " first which of them were? That sends nothing.",
        otherwise="nothing was sent",
    )


async def settle_first(client: SkycoreClient) -> None:
    """End the doubts of a client's ledger, as far as can be told now, and say what came of it."""
    try:
        settlement = await client.settle(wait=0)
    except SkycoreError as error:
        await announce_beside(f"What is in doubt stays so: there is no report: {error}")
        return
    await announce_beside(
        "In doubt before, by Skycore's own report:",
        *described(settlement, run="this run"),
        *(
            f"There was no report of some time, or not all of one: {problem}"
            for problem in settlement.problems
        ),
    )
