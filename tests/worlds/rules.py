"""What must hold at the end of a world, by the provider's books."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from skycore_async import Delivery, MessageState, Notification

from .events import (
    Bulk,
    Crash,
    Jump,
    Message,
    OptOut,
    Plan,
    Send,
    SendMany,
    may_be_same,
    number_of,
)
from .provider import plain

if TYPE_CHECKING:
    from .provider import Posted, Submission
    from .world import World

S = MessageState
_SUBMITTED: Final = {S.ACCEPTED, S.SENT, S.DELIVERED, S.FAILED}
_SOON: Final = 1000.0  # seconds, far less than those in which a doubt is settled
_MARK: Final = re.compile(r"mark=(\d+)")


@attrs.frozen(kw_only=True)
class Found:
    """What the ledger says at the end."""

    deliveries: Mapping[str, Delivery]
    unplaced: Sequence[Notification]
    opted_out: Mapping[str, bool]
    elsewhere: Mapping[str, bool]  # whether list and other ledger say so, too


def all_messages(plan: Plan) -> list[Message]:
    """Return the messages of a plan, in order."""
    found: list[Message] = []
    for event in plan.events:
        if isinstance(event, Send):
            found.append(event.message)
        elif isinstance(event, SendMany | Bulk):
            found += event.messages
    return found


def all_keys(plan: Plan) -> tuple[Message, ...]:
    """Return one message for each key of a plan."""
    first: dict[int, Message] = {}
    for message in all_messages(plan):
        if message.key is not None:
            first.setdefault(message.key, message)
    return tuple(first.values())


def all_numbers(plan: Plan) -> list[int]:
    """Return the numbers that opted out or in."""
    return sorted({event.number for event in plan.events if isinstance(event, OptOut)})


def check(world: World) -> None:
    """Hold a world that has ended against the rules, and note those that it breaks."""
    assert world.found is not None
    for rule in _OF_WHAT_FORGETS if world.notes.forgets else _RULES:
        for broken in rule(world, world.found):
            world.notes.break_rule(broken)


def _billed_once(world: World, found: Found) -> list[str]:
    """Return the keys that were billed twice without the caller's word."""
    billed, words, again = world.provider.billed, world.notes.words, world.notes.forgotten.again
    return [
        f"{name} was billed {count} times, with {words[name]} words for a second time"
        for name, count in billed.items()
        if count > 1 + words[name] + again[name]
    ]


def _nobody_lost(world: World, found: Found) -> list[str]:
    """Return what is neither sent, nor in doubt or refused for a reason."""
    broken = []
    for message in all_keys(world.plan):
        name = f"k{message.key}"
        delivery = found.deliveries.get(name)
        state = None if delivery is None else delivery.state
        if state in _SUBMITTED:
            continue
        if state is S.IN_DOUBT:
            if not (world.provider.unclear[name] or name in world.notes.crashed_with):
                broken.append(f"{name} is in doubt, and nothing happened to it")
        elif state is S.REJECTED and (
            _may_be_out(world, message) or name in world.notes.forgotten.odd
        ):
            continue
        elif state is S.REJECTED:
            broken.append(f"{name} is rejected, and its text was mended or never refused")
        elif state is S.SENDING or not _may_be_out(world, message):
            broken.append(f"{name} is lost: it is {state}")
    return broken


def _may_be_out(world: World, message: Message) -> bool:
    # Of what was told here and elsewhere, whoever hears it later may take the safe side.
    is_odd = world.jumps or world.plan.settings.shares_opt_outs
    # And a number has opted out where it did so without its country code.
    said = map(number_of, all_numbers(world.plan))
    mine = number_of(message.number)
    return any(
        world.notes.may_be_out(each, by_odd_clocks=is_odd)
        for each in {mine, *said}
        if may_be_same(each, mine)
    )


def _not_sent_is_not_billed(world: World, found: Found) -> list[str]:
    """Return what is said not to be sent, or to be rejected, and was billed."""
    return [
        f"{key} is {delivery.state}, and was billed"
        for key, delivery in found.deliveries.items()
        if delivery.state in {S.NOT_SENT, S.REJECTED}
        and world.provider.billed[key]
        and key not in world.notes.forgotten.odd
    ]


def _submissions_are_their_own(world: World, found: Found) -> list[str]:
    """Return the messages that have the submission of another."""
    broken, seen = [], set()
    for key, delivery in found.deliveries.items():
        if delivery.tracking_id is None:
            if delivery.state in _SUBMITTED:
                broken += _by_report(world, key, delivery)
            continue
        id_ = plain(delivery.tracking_id)
        taken = world.provider.books.get(id_)
        if taken is not None and world.notes.forgotten.odd & {key, taken.name}:
            continue
        if taken is None or (taken.name != key and not key.startswith("made-up")):
            whose = "nobody's" if taken is None else f"{taken.name}'s"
            broken.append(f"{key} has the submission {id_}, which is {whose}")
        if id_ in seen:
            broken.append(f"{key} has the submission {id_}, as another has")
        seen.add(id_)
    return broken


def _by_report(world: World, key: str, delivery: Delivery) -> list[str]:
    if delivery.settled_by != "report":
        return [f"{key} is {delivery.state} without a tracking id"]
    if not key.startswith("made-up") and not world.provider.billed[key]:
        return [f"{key} is {delivery.state} by the report, and was never taken"]
    return []


def _report_ends_doubt(world: World, found: Found) -> list[str]:
    """Return what is in doubt after the report has been read, and all was given once more.

    But for what has a neighbour of which two attempts cannot be told apart in the report.
    """
    if (
        not world.reads_report
        or world.jumps
        or world.plan.settings.has_others
        or world.notes.forgotten.odd
    ):
        return []  # a clock was wrong, or what others sent may be meant, or what is forgotten
    return [
        f"{key} is in doubt after the report: {world.open_doubts.get(key)}"
        for key, delivery in found.deliveries.items()
        if delivery.state is S.IN_DOUBT and world.open_doubts.get(key) != "witness_missing"
    ]


def _ids_stay(world: World, found: Found) -> list[str]:
    """Return what a caller was told to be accepted, and is not any more."""
    broken = []
    for name, ids in world.notes.told.items():
        delivery = found.deliveries.get(name)
        if world.fills and delivery is not None and delivery.state is S.IN_DOUBT:
            continue  # what came of it could not be written
        if name in world.notes.forgotten.odd:
            continue
        if name.startswith("k") and (delivery is None or delivery.state not in _SUBMITTED):
            broken.append(f"{name} was told to be accepted as {sorted(ids)}, and is {delivery}")
        if len(ids) > 1 + world.notes.words[name]:
            broken.append(f"{name} was told to be accepted as {sorted(ids)}")
    return broken


def _postbacks_are_kept(world: World, found: Found) -> list[str]:
    """Return the postbacks that were answered with 200 and are not in the ledger."""
    kept: dict[int, str | None] = {}
    notifications = [(None, each) for each in found.unplaced]
    for key, delivery in found.deliveries.items():
        notifications += [(key, each) for each in delivery.events]  # type: ignore[misc]
    for whose, notification in notifications:
        mark = _mark_of(notification)
        if mark is not None:
            kept[mark] = whose
    return [
        f"postback {posted.mark} was answered with 200, and is gone"
        for posted in world.provider.postbacks
        if posted.is_taken
        and posted.submission is not None
        and posted.mark not in kept
        and not posted.is_forgotten
    ]


def _mark_of(notification: Notification) -> int | None:
    if notification.id is not None:
        return int(notification.id)
    found = _MARK.search(getattr(notification, "detail", None) or str(notification.raw))
    return int(found[1]) if found else None


def _receipts_count(world: World, found: Found) -> list[str]:
    """Return the messages that are not as far as the postbacks say that were taken in."""
    if world.fills:
        return []  # what could not be acknowledged may be on the disk
    said: dict[str, set[str]] = {}
    forgotten: set[str] = set()
    for posted in world.provider.postbacks:
        if posted.is_forgotten and posted.submission is not None:
            forgotten.add(posted.submission.id)  # or in the inbox still
        if posted.is_taken and posted.submission is not None and posted.told is not None:
            said.setdefault(posted.submission.id, set()).add(posted.told.kind)
    broken = []
    for key, delivery in found.deliveries.items():
        if delivery.tracking_id is None or plain(delivery.tracking_id) in forgotten:
            continue
        kinds = said.get(plain(delivery.tracking_id), set())
        expected = S.ACCEPTED
        for kind in ("sent", "failed", "delivered"):
            expected = S(kind) if kind in kinds else expected
        if delivery.state is not expected:
            broken.append(f"{key} is {delivery.state}, and its postbacks say {sorted(kinds)}")
    return broken


def _doubt_is_settled(world: World, found: Found) -> list[str]:
    """Return the doubts to whose number nobody else was sent, and of which a postback told."""
    if any(isinstance(event, Jump) for event in world.plan.events):
        return []  # its clock may tell that a postback came too late
    calls = {(call.to, call.name) for call in world.notes.calls}
    taken: dict[str, list[Submission]] = {}
    for each in world.provider.books.values():
        taken.setdefault(each.name, []).append(each)
    return [
        f"{key} is in doubt, though {mine[0].id} can only be its own"
        for key, delivery in found.deliveries.items()
        if delivery.state is S.IN_DOUBT
        and len(mine := taken.get(key, [])) == 1
        and {name for to, name in calls if may_be_same(to, delivery.to)} == {key}
        and key not in world.notes.forgotten.odd
        and any(_is_in_time(world, each, mine[0]) for each in world.provider.postbacks)
    ]


def _is_in_time(world: World, posted: Posted, of: Submission) -> bool:
    """Return whether a postback of a submission surely came soon enough to settle a doubt."""
    if posted.submission is not of or posted.told is None or not posted.is_taken:
        return False
    if posted.is_forgotten:
        return False
    was_down = any(isinstance(e, Crash) and e.down > _SOON for e in world.plan.events)
    return posted.told.after < _SOON and (not posted.told.hours or not was_down)


def _pace(world: World, found: Found) -> list[str]:
    """Return a second that has more starts than rate and burst."""
    settings = world.plan.settings
    if settings.rate is None:
        return []
    most = int(settings.rate) + settings.burst
    return [
        f"{most + 1} messages started within {last - first:.3f} seconds"
        for starts in world.notes.starts
        for first, last in zip(starts, starts[most:], strict=False)
        if last - first < 1.0 - 1e-9
    ]


def _opt_outs_stand(world: World, found: Found) -> list[str]:
    """Return who has opted out and is not out."""
    if not world.notes.has_clear_times:
        return []  # its clock may tell which was the last word
    broken = []
    for number, is_out in found.opted_out.items():
        if not world.notes.is_out(number):
            continue
        if not is_out:
            broken.append(f"{number} has opted out, and is not out")
        elif world.plan.settings.shares_opt_outs and not found.elsewhere[number]:
            broken.append(f"{number} has opted out, and is not out elsewhere")
    return broken


_RULES: Final = (
    _billed_once,
    _nobody_lost,
    _not_sent_is_not_billed,
    _submissions_are_their_own,
    _ids_stay,
    _postbacks_are_kept,
    _receipts_count,
    _doubt_is_settled,
    _pace,
    _opt_outs_stand,
    _report_ends_doubt,
)

# What is forgotten is sent again, and is not to be found.
_OF_WHAT_FORGETS: Final = (_submissions_are_their_own, _pace)
