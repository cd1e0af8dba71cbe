"""A caller's opt-out rule for texts that are not clearly STOP, in every ledger."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from skycore_async import (
    ConfigurationError,
    InboundSMS,
    MemoryLedger,
    PostgresLedger,
    SQLiteLedger,
)
from skycore_async.ledger.base import BaseLedger
from tests.support.ledger_cases import OTHER, TO, Clock, said

pytestmark = pytest.mark.anyio

Open = Callable[..., BaseLedger]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return a function that makes a ledger; a durable one is the same each time."""
    if request.param == "memory":
        return lambda **settings: MemoryLedger(clock=Clock(), **settings)
    if request.param == "sqlite":
        return lambda **settings: SQLiteLedger(tmp_path / "a.db", clock=Clock(), **settings)
    dsn = request.getfixturevalue("dsn")
    return lambda **settings: PostgresLedger(dsn, clock=Clock(), **settings)


def decides(answers: dict[str, Any]) -> Callable[[InboundSMS], bool | None]:
    def rule(text: InboundSMS) -> bool | None:
        answer = answers.get(text.text)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return rule


@pytest.fixture
async def ledger_with_rule(make: Open) -> AsyncIterator[BaseLedger]:
    """Open a ledger whose rule knows a few texts."""
    rule = decides({"basta ya": True, "stop it": True, "STOP 12345": False, "STOP": False})
    async with make(opt_out_rule=rule) as ledger:
        yield ledger


async def texts(ledger: BaseLedger) -> list[str]:
    return [each.text async for each in ledger.opt_out_candidates()]


@pytest.mark.slow
async def test_a_rule_decides_what_is_not_surely_stop(ledger_with_rule: BaseLedger) -> None:
    """The rule decides texts that are not clearly STOP or START."""
    given = ("basta ya", "stop it", "STOP 12345", "STOP", "CANCEL my visit")
    for number, text in enumerate(given):
        await ledger_with_rule.record(said(text, from_=f"{TO[:-1]}{number}"))
    out = [await ledger_with_rule.is_opted_out(f"{TO[:-1]}{number}") for number in range(5)]
    assert out == [True, True, False, True, False]
    assert await texts(ledger_with_rule) == ["CANCEL my visit"]


async def test_a_rule_that_finds_no_opt_out_takes_none_back(ledger_with_rule: BaseLedger) -> None:
    """A rule that finds no opt-out does not undo an earlier one."""
    await ledger_with_rule.opt_out(TO)
    await ledger_with_rule.record(said("STOP 12345", after=-5), said("STOP 12345"))
    assert await ledger_with_rule.is_opted_out(TO)


async def test_a_rule_that_raises_loses_no_postback(
    make: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """If the rule raises, the keywords decide, and the log names the error alone."""
    caplog.set_level(logging.ERROR, logger="skycore_async")
    rule = decides({"stop it": KeyError("stop it"), "STOP": KeyError("never asked")})
    async with make(opt_out_rule=rule) as ledger:
        await ledger.record(said("stop it"), said("STOP", from_=OTHER))
        assert await texts(ledger) == ["stop it"]
        assert await ledger.is_opted_out(OTHER)
    assert [record.getMessage() for record in caplog.records] == [
        "an opt-out rule raised KeyError: the words decide"
    ]


def yields(_text: object) -> Iterator[bool | None]:
    """Return an iterator that nobody iterates."""
    yield False


async def yields_later(_text: object) -> AsyncIterator[bool | None]:
    """Return an async iterator that nobody iterates."""
    yield False


class Yields:
    """A callable object that returns such an iterator."""

    def __call__(self, _text: InboundSMS) -> Iterator[bool | None]:
        yield False


async def test_a_rule_that_is_a_coroutine_function_or_has_yield_is_refused(make: Open) -> None:
    """A rule that is a coroutine or generator function is refused."""

    async def rule(_text: InboundSMS) -> bool | None:
        raise AssertionError

    class Asked:
        """A callable object as rule."""

        async def __call__(self, text: InboundSMS) -> bool | None:
            return await rule(text)

    wrong: list[Any] = [rule, Asked(), yields, yields_later, Yields(), "no rule"]
    for each in wrong:
        with pytest.raises(ConfigurationError, match="opt_out_rule: a function that returns"):
            make(opt_out_rule=each)


class Thought:
    """A value whose truth cannot be told, as some libraries have."""

    def __init__(self, is_so: bool | None) -> None:
        self._is_so = is_so

    def __bool__(self) -> bool:
        if self._is_so is None:
            raise ValueError("which of them?")
        return self._is_so


async def test_what_a_rule_returns_besides_opts_nobody_out_by_accident(
    make: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """If the rule returns no bool or None, the keywords decide."""

    async def thought() -> bool:
        raise AssertionError

    caplog.set_level(logging.ERROR, logger="skycore_async")
    texts_to = {
        "thanks": thought(),
        "stop it": Thought(None),
        "STOP 12345": Thought(False),
        "basta ya": Thought(True),
        "see you": yields(said("see you")),
        "and thank you": yields_later(said("and thank you")),
    }
    async with make(opt_out_rule=decides(texts_to)) as ledger:
        for number, text in enumerate(texts_to):
            await ledger.record(said(text, from_=f"{TO[:-1]}{number}"))
        out = [await ledger.is_opted_out(f"{TO[:-1]}{number}") for number in range(6)]
    assert out == [False, False, False, True, False, False]
    assert [record.getMessage() for record in caplog.records] == [
        "an opt-out rule returned a coroutine: the words decide",
        "an opt-out rule raised ValueError: the words decide",
        "an opt-out rule returned a generator: the words decide",
        "an opt-out rule returned a async_generator: the words decide",
    ]


async def test_a_rules_decision_is_kept_without_the_rule(make: Open) -> None:
    """A rule's decision is kept after a restart without the rule."""
    async with make(opt_out_rule=decides({"stop it": False, "basta ya": True})) as ledger:
        if isinstance(ledger, MemoryLedger):
            pytest.skip("it forgets with its process")
        await ledger.record(said("stop it"), said("basta ya", from_=OTHER))
    async with make() as ledger:
        assert await texts(ledger) == []
        assert await ledger.is_opted_out(OTHER)
        assert not await ledger.is_opted_out(TO)


async def test_a_stop_that_was_not_read_as_one_is_a_candidate(tmp_path: Path) -> None:
    """A STOP text that an earlier version ignored is listed as unclear."""
    async with SQLiteLedger(tmp_path / "a.db", clock=Clock()) as ledger:
        await ledger.record(said("Please stop texting me"))
    with closing(sqlite3.connect(tmp_path / "a.db")) as file:
        file.execute("DELETE FROM opt_outs")
        file.commit()
    async with SQLiteLedger(tmp_path / "a.db", clock=Clock()) as ledger:
        assert await texts(ledger) == ["Please stop texting me"]
