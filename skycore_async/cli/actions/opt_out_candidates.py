"""What `skycore opt-outs` does: list the texts that a person has to read.

Rule: a text is printed as it is read from the ledger, on one line, and with its number
masked wherever it stands.
"""

from __future__ import annotations

import anyio

from ...errors import LedgerError
from ...runtime.secret import Secret
from ..ui.inbound_text import show_text
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.output import fail, say


def list_candidates(named: Secret, *, show_numbers: bool, as_json: bool) -> None:
    """Print the texts of the ledger `named` that may ask for no more messages."""
    try:
        count = anyio.run(_list, ledger_target(named), show_numbers, as_json)
    except LedgerError as error:
        fail(str(error))
    if not count and not as_json:
        say("No text waits to be read.")


async def _list(target: LedgerTarget, show_numbers: bool, as_json: bool) -> int:
    count = 0
    async with target.to_read() as ledger:
        async for text in ledger.opt_out_candidates():
            count += 1
            show_text(text, show_numbers=show_numbers, as_json=as_json)
    return count
