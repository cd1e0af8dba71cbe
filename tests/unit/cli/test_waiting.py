"""Rows that wait for their zones' hours, and waiting for a time by the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import attrs
import pytest

from skycore_async import SMS
from skycore_async.cli.bulk import waiting
from skycore_async.cli.bulk.waiting import PutOff, running, wait_until
from skycore_async.sending.hours import OutsideHours, SendingHours

NEW_YORK, BOSTON, LOS_ANGELES, NOWHERE = "12125550100", "16175550100", "13105550100", "15551234888"
NIGHT = datetime(2026, 12, 1, 8, tzinfo=UTC)
MORNING = datetime(2026, 12, 1, 14, tzinfo=UTC)  # nine in New York


@attrs.define
class Clock:
    now: datetime = NIGHT

    def __call__(self) -> datetime:
        return self.now


def put_off(clock: Clock, zone: str | None = None) -> PutOff:
    return PutOff(SendingHours.read("09:00-20:00", zone), clock)


def test_rows_wait_for_the_hours_of_their_zones() -> None:
    """Each row is given once when its zone is within the hours, a limited number at a time."""
    clock = Clock()
    rows = put_off(clock)
    for line, to in enumerate((NEW_YORK, LOS_ANGELES, BOSTON, NEW_YORK)):
        assert not rows.may_begin(to)
        assert rows.add(line, to)
    assert (rows.count, rows.take_open(9)) == (4, [])
    found = rows.opening()
    assert found is not None
    assert (found.at, found.count) == (MORNING, 3)
    assert found.words == (
        "waiting until 09:00 for 3 recipients in America/New_York (2026-12-01 14:00:00Z)"
    )
    clock.now = MORNING
    assert rows.may_begin(NEW_YORK)
    assert [rows.take_open(2), rows.take_open(2), rows.take_open(2)] == [[0, 2], [3], []]
    found = rows.opening()
    assert found is not None
    assert (rows.count, found.at) == (1, MORNING + timedelta(hours=3))


def test_where_it_is_not_known_where_a_number_is_nothing_is_put_off() -> None:
    """A number without known zone is not put off."""
    clock = Clock()
    assert not put_off(clock).may_begin(NOWHERE)
    assert not put_off(clock).add(1, NOWHERE)
    assert put_off(clock, "Asia/Tokyo").may_begin(NOWHERE)  # where it is late in the afternoon
    assert put_off(clock).opening() is None


def test_hours_that_do_not_come_are_waited_for_by_nobody() -> None:
    """Rows whose zones have no common hours are not waited for."""
    zones: dict[str, tuple[str, ...]] = {NEW_YORK: ("America/New_York",)}
    hours = SendingHours(opens=540, closes=600, zones_of=zones.__getitem__)
    rows = PutOff(hours, Clock())
    assert rows.add(1, NEW_YORK)
    rows._lines = {("America/New_York", "Asia/Tokyo"): rows._lines.popitem()[1]}
    assert (rows.count, rows.opening()) == (1, None)


def test_without_hours_nobody_waits() -> None:
    """Without hours every message may begin."""
    rows = PutOff()
    rows.check(SMS(to=NOWHERE, text="Hello"))
    assert rows.may_begin(NOWHERE)
    assert (rows.take_open(1), rows.opening()) == ([], None)


def test_a_message_is_held_to_the_clock() -> None:
    """A message outside its hours raises OutsideHours."""
    clock = Clock()
    rows = put_off(clock)
    with pytest.raises(OutsideHours):
        rows.check(SMS(to=NEW_YORK, text="Hello"))
    clock.now = MORNING
    rows.check(SMS(to=NEW_YORK, text="Hello"))


@pytest.mark.anyio
async def test_a_time_is_waited_for_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a time checks the clock regularly."""
    monkeypatch.setattr(waiting, "_LOOK_EVERY", 0.001)
    looks: list[datetime] = []

    def clock() -> datetime:
        looks.append(NIGHT + timedelta(hours=len(looks)))
        return looks[-1]

    await wait_until(MORNING, clock)
    assert looks[-1] == MORNING
    await wait_until(NIGHT, clock)


@pytest.mark.anyio
async def test_a_task_beside_a_block_ends_with_the_block() -> None:
    """A task beside a block ends with the block."""
    ran = anyio.Event()

    async def task() -> None:
        ran.set()
        await anyio.sleep_forever()

    async with running(task):
        await ran.wait()
