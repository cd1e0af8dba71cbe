"""Campaigns and chunks as rows: loaded once, and taken by one worker at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import chain
from random import Random
from typing import Any

import attrs
import psycopg
import pytest

from skycore_async import SMS
from skycore_async.campaigns.campaigns import Loaded, change, halt, load
from skycore_async.campaigns.chunks import Chunk, are_left, due, finish, renew, take
from skycore_async.campaigns.progress import progress
from skycore_async.errors import CampaignError
from skycore_async.postgres.connection import Database
from skycore_async.postgres.schema import Connection
from tests.support.campaign_tables import now, only

LEASE = 30.0


@pytest.fixture
def connection(dsn: str) -> Iterator[Connection]:
    """Connect as a worker does, to empty tables."""
    with psycopg.connect(dsn, autocommit=True) as opened:
        opened.execute("SET lock_timeout = '100ms'")
        yield opened


@pytest.fixture
def other(dsn: str) -> Iterator[Connection]:
    """Connect as another worker."""
    with psycopg.connect(dsn, autocommit=True) as opened:
        yield opened


def some(count: int, *, first: int = 0, text: str = "Hello") -> Iterator[SMS]:
    return (
        SMS(to=f"1555{n:07}", text=text, from_="60856", key=f"promo:{n}")
        for n in range(first, first + count)
    )


def loaded(*, new: int = 0, mended: int = 0, known: int = 0) -> Loaded:
    return Loaded(new=new, mended=mended, known=known, state="running")


def wrote(connection: Connection, state: str, *keys: str) -> None:
    """Write messages into the ledger, as far as chunks look at them."""
    for key in keys:
        connection.execute(
            "INSERT INTO skycore.messages"
            " (key, content, recipient, state, started_at, session, attempt)"
            " VALUES (%s, '', '1', %s, 0, 1, 1) ON CONFLICT (key) DO UPDATE SET state = %s",
            (key, state, state),
        )


def states(connection: Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT key, state FROM skycore.messages").fetchall())


def free_at(connection: Connection, *, within: float) -> dict[int, datetime]:
    """Return when each chunk may be taken."""
    return {id_: each.free_at for id_, each in due(connection, 9, within=within).items()}


def taken(connection: Connection, worker: str = "one", **how: Any) -> Chunk:
    """Take the chunk that is due first."""
    (first,) = due(connection, 1)
    chunk = take(connection, first, worker=worker, **{"lease": LEASE, **how})
    assert chunk is not None
    return chunk


# Loading.


def test_messages_come_back_as_they_were_loaded(connection: Connection) -> None:
    """Chunks hold the loaded messages in order, and as many as their size."""
    assert load(connection, "promo", some(7), size=3) == loaded(new=7)
    chunks = [take(connection, id_, worker="one", lease=LEASE) for id_ in due(connection, 9)]
    assert [len(chunk.keys) for chunk in chunks if chunk] == [3, 3, 1]
    assert [sms for chunk in chunks if chunk for sms in chunk.messages()] == list(some(7))


def test_tags_come_back_with_their_messages(connection: Connection) -> None:
    """Messages of a chunk have the tags with which they were loaded."""
    tagged = [attrs.evolve(sms, tags=("spring", "late")) for sms in some(2)]
    load(connection, "promo", tagged)
    assert list(taken(connection).messages()) == tagged


def test_loading_again_adds_only_what_is_new(connection: Connection) -> None:
    """Loading a file again changes nothing, and a longer file adds its new rows."""
    load(connection, "promo", some(7), size=3)
    assert load(connection, "promo", some(7), size=3) == loaded(known=7)
    assert load(connection, "promo", some(9), size=3) == loaded(new=2, known=7)
    assert only(connection).messages == 9


@pytest.mark.parametrize("state", ["sending", "in_doubt", "accepted", "delivered", "failed"])
def test_another_text_for_what_may_have_gone_out_is_refused(
    connection: Connection, state: str
) -> None:
    """A load with another text for a message that may have been sent loads nothing."""
    load(connection, "promo", some(3))
    wrote(connection, state, "promo:2")
    said = r"'promo:2' was loaded.*may have been sent.*it would be sent once more"
    with pytest.raises(CampaignError, match=said):
        load(connection, "promo", some(9, text="Goodbye"))
    assert only(connection).messages == 3
    assert list(taken(connection).messages()) == list(some(3))


def test_a_second_attempt_that_was_refused_frees_no_loaded_key(connection: Connection) -> None:
    """A loaded message that was ever in doubt cannot be loaded with another text."""
    load(connection, "promo", some(1))
    wrote(connection, "rejected", "promo:0")
    connection.execute("UPDATE skycore.messages SET doubted = true")
    with pytest.raises(CampaignError, match="may have been sent"):
        load(connection, "promo", some(1, text="Goodbye"))


def test_an_unsent_message_is_replaced_by_loading_again(connection: Connection) -> None:
    """A message that cannot have been sent is replaced by loading it with a new text."""
    load(connection, "promo", some(7), size=3)
    first, second = taken(connection), taken(connection)
    wrote(connection, "accepted", "promo:0")
    wrote(connection, "rejected", "promo:1")
    wrote(connection, "not_sent", "promo:2")
    assert finish(connection, first, left_out={"promo:2": "InvalidMessage"}, pause=0) == 0
    mended = [*some(1), *some(3, first=1, text="Mended"), *some(5, first=4)]
    assert load(connection, "promo", mended, size=3) == loaded(new=2, mended=3, known=4)
    # Who has a chunk of them sends no more of it, and none is in doubt for that.
    assert not renew(connection, second, lease=LEASE)
    assert states(connection) == {
        "promo:0": "accepted",
        "promo:1": "not_sent",
        "promo:2": "not_sent",
    }
    connection.execute("UPDATE skycore.chunks SET held_until = NULL")
    chunks = [taken(connection) for _ in range(4)]
    assert [sms for chunk in chunks for sms in chunk.messages()] == mended
    assert load(connection, "promo", mended, size=3) == loaded(known=9)


def test_a_long_load_blocks_no_sender(connection: Connection, other: Connection) -> None:
    """A load that takes long blocks no sender; a message sent meanwhile refuses the load."""
    load(connection, "promo", some(9), size=3)

    def given() -> Iterator[SMS]:
        yield from some(3, text="Mended")
        other.execute("SELECT FROM skycore.chunks FOR KEY SHARE NOWAIT")
        yield from some(3, first=3)

    assert load(connection, "promo", given(), size=3) == loaded(mended=3, known=3)

    def given_too_late() -> Iterator[SMS]:
        yield from some(6, text="Mended again")
        wrote(other, "accepted", "promo:4")
        yield from some(3, first=6)

    with pytest.raises(CampaignError, match="'promo:4' was loaded with other content, and may"):
        load(connection, "promo", given_too_late(), size=3)
    assert load(connection, "promo", some(3, text="Mended"), size=3) == loaded(known=3)


def test_other_tags_are_no_other_content(connection: Connection, other: Connection) -> None:
    """A load with other tags changes them for messages not sent yet, and leaves the rest alone."""

    def tagged(*tags: str) -> list[SMS]:
        return [attrs.evolve(each, tags=tags) for each in some(4)]

    load(connection, "promo", tagged("spring"), size=2)
    wrote(connection, "accepted", "promo:0")
    wrote(connection, "rejected", "promo:1")
    given = tagged()

    def given_slowly() -> Iterator[SMS]:
        yield from given
        wrote(other, "sending", "promo:2", "promo:3")

    new = load(connection, "promo", [*given[:2], *tagged("spring")[2:]])
    assert new == loaded(mended=1, known=3)
    assert load(connection, "promo", given_slowly(), size=2) == loaded(known=4)
    rows = connection.execute("SELECT unnest(messages) FROM skycore.chunks ORDER BY id").fetchall()
    assert ["spring" in row for (row,) in rows] == [True, False, True, True]
    states = connection.execute("SELECT state FROM skycore.messages WHERE key = 'promo:1'")
    assert states.fetchone() == ("rejected",)
    with pytest.raises(CampaignError, match="'promo:0' was loaded with other content, and may"):
        load(connection, "promo", some(4, text="Bye"))


def test_a_load_that_breaks_leaves_nothing(connection: Connection) -> None:
    """An error within the rows of a load leaves no campaign."""

    def broken() -> Iterator[SMS]:
        yield from some(5)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        load(connection, "promo", broken(), size=2)
    assert progress(connection) == []


def test_a_campaign_waits_for_its_start(connection: Connection) -> None:
    """A campaign's chunks are due from its start, which a later load may change."""
    later, soon = now(connection, hours=2), now(connection, hours=1)
    load(connection, "promo", some(3), starts_at=later)
    load(connection, "promo", some(4))
    first, second = due(connection, 9, within=10_000)
    assert free_at(connection, within=10_000) == {first: later, second: later}
    assert due(connection, 9) == {}
    assert take(connection, first, worker="one", lease=LEASE) is None
    assert (only(connection).state, only(connection).starts_at) == ("scheduled", later)
    assert are_left(connection)
    load(connection, "promo", [], starts_at=soon)
    assert free_at(connection, within=10_000) == {first: soon, second: soon}
    load(connection, "promo", [], starts_at=now(connection))
    assert only(connection).state == "running"
    assert take(connection, first, worker="one", lease=LEASE) is not None


# As compressed ones may be longer.
INCOMPRESSIBLE = "".join(map(chr, Random(1).choices(range(0x4E00, 0x9FFF), k=3000)))


@pytest.mark.parametrize(
    ("name", "messages", "said"),
    [
        (" ", [], "needs a name"),
        (INCOMPRESSIBLE, [], "too long, with 3,000 characters; one of up to 600 always fits"),
        ("promo", [SMS(to="15551234888", text="Hello")], "it has no key"),
    ],
)
def test_a_campaign_without_name_or_key_is_refused(
    connection: Connection, name: str, messages: list[SMS], said: str
) -> None:
    """A campaign without name, or a message without key, is refused."""
    with pytest.raises(CampaignError, match=said):
        load(connection, name, messages)


def test_a_campaign_with_a_long_name_can_be_loaded_again(connection: Connection) -> None:
    """A campaign is known by a long name, as by another one all of it would be sent again."""
    for new in (3, 0):
        assert load(connection, "promo" * 300, some(3)).new == new


# Started and stopped.


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (["pause"], "paused"),
        (["pause", "pause", "resume"], "running"),
        (["halt"], "halted"),
        (["halt", "resume"], "running"),
        (["pause", "cancel", "cancel"], "cancelled"),
    ],
)
def test_a_campaign_is_stopped_and_started(
    connection: Connection, words: list[str], state: str
) -> None:
    """Pause, halt, resume and cancel lead to their states; only a running campaign is due."""
    load(connection, "promo", some(3))
    for word in words:
        if word == "halt":
            halt(connection, "promo", "E713")
        else:
            change(connection, word, "promo")
    found = only(connection)
    assert (found.state, found.reason) == (state, "E713" if words == ["halt"] else None)
    assert bool(due(connection, 9)) == are_left(connection) == (state == "running")


def test_a_cancelled_campaign_stays_cancelled(connection: Connection) -> None:
    """A cancelled campaign can be neither resumed nor loaded; an unknown one is an error."""
    load(connection, "promo", some(3))
    change(connection, "cancel", "promo")
    with pytest.raises(CampaignError, match="'promo' is cancelled: it cannot resume"):
        change(connection, "resume", "promo")
    with pytest.raises(CampaignError, match="would be sent again under another name"):
        load(connection, "promo", some(5))
    with pytest.raises(CampaignError, match="no campaign 'pormo'"):
        change(connection, "pause", "pormo")


def test_a_campaign_cancelled_during_a_load_is_not_loaded(
    connection: Connection, other: Connection
) -> None:
    """A load fails if the campaign is cancelled meanwhile, and says if it was paused."""
    load(connection, "promo", some(3))

    def meanwhile(word: str) -> Iterator[SMS]:
        yield from some(5)
        change(other, word, "promo")

    assert load(connection, "promo", meanwhile("pause")).state == "paused"
    with pytest.raises(CampaignError, match="'promo' was cancelled"):
        load(connection, "promo", chain(meanwhile("cancel"), some(9)))
    assert only(connection).messages == 5


def test_a_halt_is_for_what_runs(connection: Connection) -> None:
    """A halt keeps its first reason, and leaves a paused campaign paused."""
    load(connection, "promo", some(3))
    halt(connection, "promo", "E713: billing")
    halt(connection, "promo", "E120: quota")
    assert (only(connection).state, only(connection).reason) == ("halted", "E713: billing")


# Two at once.


def test_two_concurrent_loads_load_nobody_twice(connection: Connection, other: Connection) -> None:
    """Two concurrent loads, with and without reading numbers, load nobody twice."""
    refused: list[str] = []

    def load_read() -> None:
        with pytest.raises(CampaignError) as error:
            load(other, "promo", some(3, first=100), unread=["promo:0"])
        refused.append(str(error.value))

    thread = threading.Thread(target=load_read)

    def meanwhile() -> Iterator[SMS]:
        thread.start()
        yield from some(3)
        waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
        while thread.is_alive() and not connection.execute(waits).fetchone():
            time.sleep(0.002)

    load(connection, "promo", meanwhile())
    thread.join()
    assert ["'promo:0' is there from before" in said for said in refused] == [True]
    assert only(connection).messages == 3


# In hand.


def test_a_chunk_is_held_by_one_worker(connection: Connection) -> None:
    """A chunk is held by one worker until its lease ends by the database's clock."""
    load(connection, "promo", some(3))
    chunk = taken(connection)
    assert take(connection, chunk.id, worker="two", lease=LEASE) is None
    assert due(connection, 9) == {}
    connection.execute("UPDATE skycore.chunks SET held_until = now() - interval '1 second'")
    after = taken(connection, "two")
    assert (after.id, after.epoch) == (chunk.id, chunk.epoch + 1)
    assert not renew(connection, chunk, lease=LEASE)
    assert renew(connection, after, lease=LEASE)


def test_chunks_due_soon_come_with_their_time(connection: Connection) -> None:
    """Chunks that are due soon are listed with the time at which they can be taken."""
    load(connection, "promo", some(3), size=1)
    connection.execute("UPDATE skycore.chunks SET due = now() + number * interval '1 minute'")
    one, two, three = due(connection, 9, within=1000)
    ends = connection.execute("SELECT now() + interval '90 seconds'").fetchone()
    assert ends is not None
    connection.execute("UPDATE skycore.chunks SET held_until = %s WHERE number < 3", ends)
    assert free_at(connection, within=100) == {one: ends[0]}
    assert due(connection, 2, within=1000).keys() == {one, two}
    for id_ in (one, two, three):
        assert take(connection, id_, worker="one", lease=LEASE) is None


def test_one_of_many_concurrent_workers_takes_a_chunk(connection: Connection, dsn: str) -> None:
    """Of several workers that take a chunk at once exactly one gets it."""
    load(connection, "promo", some(3))
    (id_,) = due(connection, 9)
    got: list[Chunk | None] = []
    with ExitStack() as stack:
        open_ = [stack.enter_context(psycopg.connect(dsn, autocommit=True)) for _ in range(6)]
        threads = [
            threading.Thread(target=lambda c=c: got.append(take(c, id_, worker="x", lease=LEASE)))
            for c in open_
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len([chunk for chunk in got if chunk is not None]) == 1
    assert len(got) == 6


def test_taking_over_leaves_doubt(connection: Connection) -> None:
    """Taking over a chunk puts its messages under way, and no others, in doubt."""
    load(connection, "promo", some(3))
    taken(connection, lease=0)
    wrote(connection, "sending", "promo:0", "other:0")
    wrote(connection, "accepted", "promo:1")
    taken(connection, "two")
    assert states(connection) == {
        "promo:0": "in_doubt",
        "promo:1": "accepted",
        "other:0": "sending",
    }


def test_a_lock_in_a_stopped_hand_stops_nobody(connection: Connection, other: Connection) -> None:
    """A chunk whose row is locked is left for later."""
    load(connection, "promo", some(3))
    (id_,) = due(connection, 9)
    with other.transaction():
        other.execute("SELECT FROM skycore.chunks FOR SHARE")
        assert take(connection, id_, worker="one", lease=LEASE) is None
    assert take(connection, id_, worker="one", lease=LEASE) is not None


def test_a_stopped_transaction_ends_by_itself(dsn: str, connection: Connection) -> None:
    """The server ends an idle transaction of a worker after 10 s."""
    with Database(dsn).connect() as stopped:
        (after,) = stopped.execute("SHOW idle_in_transaction_session_timeout").fetchone() or ("",)
    assert after == "10s"


# Done, or not.


def test_a_chunk_is_done_when_each_message_has_an_outcome(connection: Connection) -> None:
    """A chunk is done when each message has an outcome, and is else due after a pause."""
    load(connection, "promo", some(3))
    chunk = taken(connection)
    wrote(connection, "accepted", "promo:0")
    wrote(connection, "not_sent", "promo:1")
    assert finish(connection, chunk, left_out={}, pause=60) == 2
    assert (only(connection).waiting, only(connection).to_send) == (1, 2)
    assert due(connection, 9) == {}
    connection.execute("UPDATE skycore.chunks SET due = now()")
    chunk = taken(connection)
    wrote(connection, "in_doubt", "promo:1")
    assert finish(connection, chunk, left_out={"promo:2": "RecipientOptedOut"}, pause=60) == 0
    found = only(connection)
    assert (found.state, found.done, found.to_send) == ("done", 1, 0)
    assert found.states == {"accepted": 1, "in_doubt": 1}
    assert found.left_out == {"RecipientOptedOut": 1}
    assert not are_left(connection)
    assert finish(connection, chunk, left_out={}, pause=60) == 0


def test_left_out_messages_are_due_once_loaded_again(
    connection: Connection,
) -> None:
    """Loading again makes chunks with left-out messages due, and no others."""
    load(connection, "promo", some(6), size=2)
    for number in range(3):
        chunk = taken(connection)
        wrote(connection, "accepted", f"promo:{2 * number}")
        left_out = {f"promo:{2 * number + 1}": "RecipientOptedOut"}
        assert finish(connection, chunk, left_out=left_out, pause=0) == 0
    assert load(connection, "promo", some(1)) == loaded(known=1)
    assert (only(connection).state, only(connection).done) == ("done", 3)
    assert load(connection, "promo", some(2, first=2)) == loaded(known=2)
    found = only(connection)
    assert (found.state, found.waiting, found.done, found.to_send) == ("running", 1, 2, 1)
    assert found.left_out == {"RecipientOptedOut": 2}
    chunk = taken(connection)
    assert chunk.keys == ("promo:2", "promo:3")
    assert finish(connection, chunk, left_out={"promo:3": "RecipientOptedOut"}, pause=0) == 0
    assert only(connection).left_out == {"RecipientOptedOut": 3}


def test_a_late_worker_finishes_no_chunk(connection: Connection) -> None:
    """A worker cannot finish a chunk that another one took over."""
    load(connection, "promo", some(1))
    late = taken(connection, lease=0)
    taken(connection, "two")
    wrote(connection, "accepted", "promo:0")
    assert finish(connection, late, left_out={}, pause=0) == 0
    assert (only(connection).held, only(connection).workers) == (1, 1)


def test_campaigns_take_turns(connection: Connection) -> None:
    """Due chunks come from all campaigns in turn."""
    load(connection, "large", some(9), size=1)
    load(connection, "small", some(1, first=50), size=1)
    names = [
        chunk.campaign
        for id_ in due(connection, 3)
        if (chunk := take(connection, id_, worker="one", lease=LEASE))
    ]
    assert names == ["large", "small", "large"]
