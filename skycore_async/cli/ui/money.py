"""An amount of money on the command line."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final

import click

_DEAREST: Final = 1_000_000  # in any currency; beyond it a sum is a slip of the keyboard


class Money(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic since click 8.2
    """An amount, exactly as it is written, in whatever currency."""

    name = "amount"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """Return the amount."""
        try:
            amount = Decimal(value)
        except InvalidOperation:
            self.fail(f"{value!r} is no amount, as 0.0075 is one.", param, ctx)
        if not amount.is_finite() or not 0 <= amount <= _DEAREST:
            self.fail(f"{value!r} is no price.", param, ctx)
        return amount
