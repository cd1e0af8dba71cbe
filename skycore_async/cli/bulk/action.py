"""What `skycore bulk` does: check the recipients, show, ask, send, and say what came of it.

Strategy: the file is read once, to its end, before anything is sent.  What its rows are
is counted for the estimate, which is always shown, and kept for the sending, which
takes it from there: no row is read, judged or resolved again.  What was sent is in the
ledger, so that the same command goes on where it stopped.

Rules:

* Nothing is sent that was not shown, and on a terminal not without a yes.
* A dry run writes nothing, but for the rejects where they are asked for by name.
"""

from __future__ import annotations

import errno
import functools
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import anyio
import attrs
import click

from ...errors import ConfigurationError, LedgerError
from ...ledger.sqlite.opt_out_list import OptOutCheck, is_out_by_ledger
from ...runtime.secret import Secret
from ...sending.hours import utc_now
from ..ui.dsn import dsn_of
from ..ui.interrupts import as_one_interrupt
from ..ui.opt_out_list import share_once, shown
from ..ui.options import read_api_key
from ..ui.outcome_kinds import OutcomeKind
from ..ui.output import Exit, emit, fail, number_of, print_outcome, say
from ..ui.times import time_of
from .campaigns_before import begun_before, has_sent, note_begun, note_sent
from .estimate import Estimate, Survey
from .files import checked_rejects, copied, earlier_rejects, free_rejects, name_of
from .judged_rows import JudgedRows
from .ledger_asked_about import LedgerCounts
from .messages_before import BegunBefore, older_ledger
from .options import BulkOptions
from .other_addresses import tell_of_others
from .preflight import survey_by_database, survey_by_ledger, write_rejects
from .preview import preview
from .progress import BulkCounters, End, account, advice, exit_code, how_to_go_on, summary
from .questions import FirstNote, ask, check_begun_meanwhile
from .recipients import FROM_COLUMNS, Sheet, SheetError
from .rejects import Rejects
from .resemblance import Sketch
from .rows import MessageRow, RejectedRow, RowOptions, RowReader
from .run import Run
from .sample_messages import first_messages, send_sample
from .send_options import SendOptions

if TYPE_CHECKING:
    from ..ui.database import LedgerDatabase

_EVERY: Final = 50_000  # rows between signs of life while the file is checked


def run_bulk(options: BulkOptions) -> int:
    """Check, show, ask, send and account, and return the exit code.

    Fails in words where that cannot be: what all commands have in common is not
    among it.
    """
    try:
        with as_one_interrupt():
            return _run(options)
    except SheetError as error:
        fail(f"{name_of(options.csv)}: {error}")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise  # it is nothing that is wrong with the recipients
        at = "standard output" if isinstance(error, BrokenPipeError) else name_of(options.csv)
        fail(f"{error.filename or at}: {error.strerror}")
    except sqlite3.OperationalError as error:  # of a ledger it is a LedgerError
        fail(f"no room for temporary files ({error}): name another directory with TMPDIR")
    except KeyboardInterrupt:
        if options.sample is not None:  # which no ledger knows of: run again, it is sent again
            fail("interrupted: the sample, or a part of it, may have been sent", Exit.INTERRUPTED)
        go_on = how_to_go_on(resend_in_doubt=options.resend_in_doubt)
        fail(f"interrupted. {go_on}", Exit.INTERRUPTED)


def _run(options: BulkOptions) -> int:
    options.check()
    is_sending = not options.dry_run and options.cluster is None
    api_key = read_api_key(options.api_key_file) if is_sending else None
    if is_sending and (listening := options.listening) is not None:
        listening.check()
    if options.sample is not None and api_key is not None:
        return _send_sample(options, api_key, options.sample)
    with JudgedRows() as kept:
        estimate, known, rejects, sketch = _read(options, kept)
        tell_of_others(options.place, estimate.known)
        with rejects:
            if options.dry_run and options.rejects is not None:
                write_rejects(options.known_ledger, kept, rejects)
            if options.cluster is not None and not options.dry_run:
                _database(options.cluster).check_to_write()
            before = _before(options, sketch, known, estimate.to_send)
            if options.dry_run:
                return _end_of_dry_run(options, estimate, before)
            settle = ask(options.words_given(), estimate, known, before)
            is_new, now = before is None and not options.yes_send_again, time.time()
            check_begun_meanwhile(note_begun(options.place, sketch, now=now, is_new=is_new))
            if options.cluster is not None:
                share_once(dsn_of(options.cluster), options.opt_out_list)
                return _load(options, options.cluster, kept, rejects, estimate)
            counters = BulkCounters(total=estimate.messages, known=sum(estimate.known.values()))
            note = FirstNote(options.place, sketch if is_new else None)
            run = Run(kept, rejects, counters, revived=estimate.revived, begins=note)
            sending = options.send_options(api_key, settle=settle, known=known, note=note)
            end = _send(options, run, sending)
            rejects.is_whole = not (end.interrupted or end.halted or options.limit)
            end = _closed(rejects, end)
        return _account(options, estimate, counters, end, rejects)


def _send_sample(options: BulkOptions, api_key: Secret, count: int) -> Exit:
    with copied(options.csv) as file:
        sheet = Sheet(file, name_of(options.csv))
        rows = first_messages(sheet, RowReader(sheet.header, _with_sender(options, sheet)), count)
    with _asked(options) as is_opted_out:
        return send_sample(rows, options, api_key, is_opted_out)


def _read(
    options: BulkOptions, kept: JudgedRows
) -> tuple[Estimate, LedgerCounts, Rejects, Sketch]:
    """Read the file to its end, show what it would take, and keep the rows still needed."""
    with copied(options.csv) as file:
        sheet = Sheet(file, name_of(options.csv))
        reader = RowReader(sheet.header, _with_sender(options, sheet))
        path, earlier = free_rejects(options.stem), earlier_rejects(options.stem)
        if options.rejects is not None:
            path = checked_rejects(options.rejects, csv=options.csv, ledger=options.ledger_path)
            earlier = []
        hours, campaign = options.hours_survey(utc_now()), options.campaign_name
        survey = Survey(options.limit, hours, campaign=campaign)
        with _asked(options) as is_opted_out:
            _check_rows(options, sheet, reader, kept, survey, is_opted_out=is_opted_out)
            known = _look_up(options, reader, kept, survey, is_opted_out)
        estimate = survey.estimate(price=options.price, rate=options.rate)
        _show(options, sheet, reader, estimate)
        rejects = Rejects(path, sheet, earlier, options.rejects_before)
        return estimate, known, rejects, survey.sketch


def _with_sender(options: BulkOptions, sheet: Sheet) -> RowOptions:
    row_options = options.row_options()
    is_named = options.from_column or sheet.header.find(FROM_COLUMNS, "--from-column") is not None
    if not (options.from_ or is_named):
        if not options.dry_run:
            fail("no short code to send from: give --from, or set SKYCORE_FROM")
        row_options = attrs.evolve(row_options, from_="none yet")
    return row_options


def _check_rows(
    options: BulkOptions,
    sheet: Sheet,
    reader: RowReader,
    kept: JudgedRows,
    survey: Survey,
    *,
    is_opted_out: OptOutCheck,
) -> None:
    """Read rows, and show them to the survey, unless the ledger is to be asked of them first."""
    is_watched = sys.stderr.isatty()
    is_known = options.known_ledger is not None or options.cluster is not None
    keeps_all = is_known or not options.dry_run
    for number, row in enumerate(sheet.rows(), 1):
        judged = reader.read(row)
        if not is_known:
            if isinstance(judged, MessageRow) and is_opted_out(judged.message.to, {}):
                survey.see_known(judged, OutcomeKind.OPTED_OUT)
            else:
                survey.see(judged)
        if keeps_all or (options.rejects is not None and isinstance(judged, RejectedRow)):
            kept.add(judged)
        if is_watched and number % _EVERY == 0:
            click.echo(f"\rchecked {number:,} rows", err=True, nl=False)
    if is_watched:
        click.echo("\r\x1b[K", err=True, nl=False)


@contextmanager
def _asked(options: BulkOptions) -> Iterator[OptOutCheck]:
    """Yield what says who may not be sent to, or fail where the list cannot be read."""
    if (shared := options.opt_out_list) is None:
        yield is_out_by_ledger
        return
    try:
        with shared.asked(options.ledger_name) as is_opted_out:
            yield is_opted_out
    except LedgerError as error:
        fail(f"nothing was sent: {error}")


def _look_up(
    options: BulkOptions,
    reader: RowReader,
    kept: JudgedRows,
    survey: Survey,
    is_opted_out: OptOutCheck,
) -> LedgerCounts:
    knows_sender = bool(options.from_ or reader.has_senders)
    if options.cluster is not None:
        ask = functools.partial(
            survey_by_database, knows_sender=knows_sender, is_opted_out=is_opted_out
        )
        try:
            anyio.run(ask, _database(options.cluster).to_read(), kept, survey)
        except LedgerError as error:
            fail(f"nothing was loaded: {error}")
    if options.known_ledger is None:
        return LedgerCounts(doubts=frozenset() if options.asks_to_resend else None)
    look = functools.partial(
        survey_by_ledger,
        resend_in_doubt=options.resend_in_doubt,
        is_once=options.resends_once,
        knows_sender=knows_sender,
        alone=not options.dry_run,
        is_opted_out=is_opted_out,
    )
    try:
        return anyio.run(look, options.known_ledger, kept, survey)
    except LedgerError as error:
        fail(str(error), Exit.USAGE if options.dry_run else Exit.NOT_SENT)


def _show(options: BulkOptions, sheet: Sheet, reader: RowReader, estimate: Estimate) -> None:
    column = sheet.header.names[reader.to]
    say(f"{sheet.name}: {sheet.form}, numbers in {column!r}", err=options.as_json)
    for line in preview(estimate):
        say(line, err=options.as_json)
    if options.start is not None:
        past = ", which is past: it begins at once" if options.start <= utc_now() else ""
        say(f"{'start':<13} {time_of(options.start)}{past}", err=options.as_json)
    where = f"{'ledger':<13} {options.ledger_path}"
    if options.cluster is not None:
        where = f"{'cluster':<13} {_database(options.cluster).name}"
    say(f"{where}, campaign {options.campaign_name!r}", err=options.as_json)
    if (shared := options.opt_out_list) is not None:
        count = number_of(shared.count(), "number")
        say(f"{'opt-outs':<13} {count} in {shown(shared.path)}", err=options.as_json)


def _before(
    options: BulkOptions, sketch: Sketch, known: LedgerCounts, to_send: int
) -> BegunBefore | None:
    has_ledger = known.messages > 0
    if has_ledger and to_send and (older := older_ledger(options.place, known.messages)):
        return older
    if options.cluster is not None:
        has_ledger = _database(options.cluster).has_campaign(options.campaign_name)
    if not has_ledger and (options.cluster or options.known_ledger):  # as a listener makes one
        has_ledger = not has_sent(options.place)
    return begun_before(options.place, sketch, has_ledger=has_ledger)


def _end_of_dry_run(options: BulkOptions, estimate: Estimate, before: BegunBefore | None) -> int:
    why = estimate.obstacle(options.max_segments)
    if options.as_json:
        found = attrs.asdict(estimate, recurse=False)
        costs = {"cost": estimate.cost, "seconds": estimate.seconds}
        more = {"price": options.price, "begun_before": before}
        emit({"dry_run": True, "obstacle": why, **found, **costs, **more})
    if before is not None:
        say(f"{before.words}: --yes-send-again would be needed to send them again", err=True)
    if why is not None:
        fail(why)
    say("This was a dry run: nothing was sent.", err=True)
    return Exit.DONE if estimate.rows == estimate.messages else Exit.NOT_ALL_WELL


def _database(given: Secret) -> LedgerDatabase:
    from ..ui.database import LedgerDatabase  # noqa: PLC0415 - the extra `postgres`

    return LedgerDatabase(dsn_of(given))


def _load(
    options: BulkOptions, dsn: Secret, kept: JudgedRows, rejects: Rejects, estimate: Estimate
) -> int:
    from .load_campaign import load_campaign  # noqa: PLC0415 - the extra `postgres`

    rejects.is_whole = options.limit is None
    code = load_campaign(
        dsn_of(dsn),
        options.campaign_name,
        kept,
        rejects,
        start=options.start,
        hours=options.hours,
        numbers=estimate.numbers,
        as_json=options.as_json,
    )
    note_sent(options.place)  # as workers may begin at once
    return code


def _send(options: BulkOptions, run: Run, sending: SendOptions) -> End:
    try:
        return anyio.run(run.send, options.ledger_path, sending)
    except LedgerError as error:
        fail(str(error), Exit.NOT_SENT)
    except ConfigurationError as error:
        fail(str(error))


def _closed(rejects: Rejects, end: End) -> End:
    """Close the rejects; that their disk is full keeps nobody from what came of the messages."""
    try:
        rejects.close()
    except OSError as error:
        why = f"{rejects.path} is not whole: {error.strerror}"
        return attrs.evolve(end, halted=end.halted or why)
    return end


def _account(
    options: BulkOptions, estimate: Estimate, counters: BulkCounters, end: End, rejects: Rejects
) -> int:
    """Say what came of it all, and return the exit code."""
    path = str(rejects.path) if rejects.count else None
    ledger, resent = options.ledger_path, options.resend_in_doubt

    def show() -> None:
        if options.as_json:
            where = {"rejects": path, "ledger": str(ledger), "campaign": options.campaign_name}
            emit({**summary(counters, end, estimate), "cost": estimate.cost, **where})
            return
        for line in account(counters):
            say(line)
        if path is not None:
            say(f"{'to mend':<13} {number_of(rejects.count, 'row')} in {path}")

    is_printed = print_outcome(show, known=f"what was sent is known to {ledger}")
    for line in advice(counters, end, ledger=ledger, resend_in_doubt=resent):
        say(line, err=True)
    code = exit_code(counters, end, estimate)
    return code if is_printed else code or Exit.NOT_ALL_WELL
