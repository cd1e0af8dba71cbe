"""Functions that callers give, and what stands for one in their tests."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock, Mock, create_autospec

import pytest

from skycore_async import MemoryLedger, PostbackReceiver


def handle(_one: object) -> bool:
    """Handle, or decide, as a function does."""
    return False


@pytest.mark.parametrize("mock", [Mock(), Mock(spec=handle), MagicMock(), create_autospec(handle)])
def test_a_mock_of_a_function_is_taken_as_one(mock: Any) -> None:
    """Of some of them Python fails at saying what they are."""
    PostbackReceiver(on_notification=mock)
    MemoryLedger(opt_out_rule=mock)
