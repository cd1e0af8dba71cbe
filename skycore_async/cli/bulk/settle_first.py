"""Settling before a bulk send: offered to the user, and done by the client that sends.

Rule: the send goes on also where nothing could be settled; what stays in doubt is not sent again.
"""

from __future__ import annotations

from ...client import SkycoreClient
from ...errors import SkycoreError
from ..ui.beside import announce_beside
from ..ui.confirm import is_agreed
from ..ui.output import number_of
from ..ui.settlements import described


def is_to_settle(in_doubt: int, *, wanted: bool, asks: bool) -> bool:
    """Return whether to settle first: by --settle, or where the user says yes to it."""
    if not in_doubt or wanted or not asks:
        return wanted and in_doubt > 0
    return is_agreed(
        f"{number_of(in_doubt, 'message')} in doubt may have been sent. Ask Skycore's own report"
        " first which of them were? That sends nothing.",
        otherwise="nothing was sent",
    )


async def settle_first(client: SkycoreClient) -> None:
    """Settle what can be settled now in the client's ledger, and say what came of it."""
    try:
        settlement = await client.settle(wait=0)
    except SkycoreError as error:
        await announce_beside(f"What is in doubt stays in doubt, as there is no report: {error}")
        return
    await announce_beside(
        "In doubt before, by Skycore's own report:",
        *described(settlement, run="this run"),
        *(
            f"For some of the time the report is missing or incomplete: {problem}"
            for problem in settlement.problems
        ),
    )
