"""What `skycore opt-outs` does: list the texts that a person has to read.

Rule: a text is printed as it is read from the ledger, on one line, and with its number
masked wherever it stands.
"""

from __future__ import annotations

import anyio

from ...errors import LedgerError
from ...messages import masked
from ...notifications import InboundSMS
from ...protocol.numbers import digits
from ...runtime.secret import Secret
from ..ui.ledger_target import LedgerTarget, ledger_target
from ..ui.masking import mask_in
from ..ui.output import emit, fail, say
from ..ui.tables import time_of


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
            _show(text, show_numbers=show_numbers, as_json=as_json)
    return count


def _show(text: InboundSMS, *, show_numbers: bool, as_json: bool) -> None:
    number, said = digits(text.from_) or "", text.text
    if not show_numbers:
        number, said = masked(number), mask_in(said, number)
    time = text.timestamp or text.created
    if as_json:
        emit({"from": number, "to": text.to, "text": said, "time": time})
    else:
        say(f"{number:<15}  {time_of(time):<20}  {said}")
