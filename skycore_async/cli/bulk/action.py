"""What `skycore bulk` does: check the recipients, show, ask, send, and say what came of it.

Strategy: the whole file is checked before anything is sent (`check`).  The run then sends the
rows that the check kept (`run`).  The ledger knows what was sent, so the same command goes on
where it stopped.

Rules:

* Nothing is sent that was not shown before, and on a terminal nothing without a yes.
* A dry run writes no file but the rejects, and these only where --rejects names them.
"""

from __future__ import annotations

import errno
import sqlite3
import time

import anyio
import attrs

from ...errors import ConfigurationError, LedgerError
from ...runtime.secret import Secret
from ..ui.dsn import dsn_of
from ..ui.interrupts import as_one_interrupt
from ..ui.opt_out_list import share_once
from ..ui.options import read_api_key
from ..ui.output import Exit, emit, fail, is_nowhere, number_of, print_outcome, say
from .check import CheckedFile, check_file, opened_sheet, opt_out_check
from .earlier_campaigns import find_earlier, has_sent, note_begun, note_sent
from .estimate import Estimate
from .files import name_of
from .judged_rows import JudgedRows
from .older_ledger import SentBefore, find_older
from .options import BulkOptions
from .other_addresses import tell_of_others
from .preflight import write_rejects
from .progress import BulkCounters, End, account, advice, exit_code, how_to_go_on, summary
from .questions import CampaignNotes, ask, check_begun_meanwhile
from .recipients import SheetError
from .rejects import Rejects
from .run import Run
from .sample_messages import first_messages, send_sample


def run_bulk(options: BulkOptions) -> int:
    """Check, show, ask, send and account, and return the exit code.

    Fails with a message for the errors of this command; those that all commands have in common
    are raised.
    """
    try:
        with as_one_interrupt():
            return _run(options)
    except SheetError as error:
        fail(f"{name_of(options.csv)}: {error}")
    except OSError as error:
        if error.errno == errno.ENOSPC or (error.filename is None and is_nowhere()):
            raise  # the recipients are not to blame
        at = "standard output" if isinstance(error, BrokenPipeError) else name_of(options.csv)
        fail(f"{error.filename or at}: {error.strerror}")
    except sqlite3.OperationalError as error:  # one of a ledger would be a LedgerError
        fail(f"no room for temporary files ({error}): name another directory with TMPDIR")
    except KeyboardInterrupt:
        if options.sample is not None:  # no ledger knows the sample: the same command resends it
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
    with JudgedRows() as rows:
        checked = check_file(options, rows)
        tell_of_others(options.place, checked.estimate.known)
        with checked.rejects:
            if options.dry_run:
                return _end_of_dry_run(options, checked)
            if options.database is not None:
                options.database.check_to_write()
            before = _sent_before(options, checked)
            answers = options.given_answers()
            settle = ask(answers, checked.estimate, checked.known, before)
            is_new = before is None and not options.yes_send_again
            _note_begun(options, checked, is_new=is_new)
            if options.cluster is not None:
                return _load(options, options.cluster, checked)
            return _send(options, api_key, checked, settle=settle, is_new=is_new)


def _send_sample(options: BulkOptions, api_key: Secret, count: int) -> Exit:
    with opened_sheet(options) as (sheet, reader):
        rows = first_messages(sheet, reader, count)
    with opt_out_check(options) as is_opted_out:
        return send_sample(rows, options, api_key, is_opted_out)


def _sent_before(options: BulkOptions, checked: CheckedFile) -> SentBefore | None:
    """Return what shows that messages may have been sent before that the ledger does not know."""
    known = checked.known
    if known.messages and checked.estimate.to_send:
        older = find_older(options.place, known.last_turn)
        if older is not None:
            return older
    ledger_knows = known.messages > 0
    if (database := options.database) is not None:
        ledger_knows = database.has_campaign(options.campaign_name)
    if not ledger_knows and (database is not None or options.known_ledger is not None):
        # A ledger without the campaign knows enough where nothing was sent: `skycore listen` may
        # have made the file.
        ledger_knows = not has_sent(options.place)
    return find_earlier(options.place, checked.sketch, ledger_knows=ledger_knows)


def _note_begun(options: BulkOptions, checked: CheckedFile, *, is_new: bool) -> None:
    noted = note_begun(options.place, checked.sketch, now=time.time(), is_new=is_new)
    check_begun_meanwhile(noted)


def _end_of_dry_run(options: BulkOptions, checked: CheckedFile) -> int:
    estimate = checked.estimate
    if options.rejects is not None:
        write_rejects(options.known_ledger, checked.rows, checked.rejects)
    before = _sent_before(options, checked)
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


def _load(options: BulkOptions, dsn: Secret, checked: CheckedFile) -> int:
    from .load_campaign import load_campaign  # noqa: PLC0415 - the extra `postgres`

    share_once(dsn_of(dsn), options.opt_out_list)
    checked.rejects.is_whole = options.limit is None
    code = load_campaign(
        dsn_of(dsn),
        options.campaign_name,
        checked.rows,
        checked.rejects,
        start=options.start,
        hours=options.hours,
        numbers=checked.estimate.numbers,
        as_json=options.as_json,
    )
    note_sent(options.place)  # as workers may begin at once
    return code


def _send(
    options: BulkOptions,
    api_key: Secret | None,
    checked: CheckedFile,
    *,
    settle: bool,
    is_new: bool,
) -> int:
    estimate, rejects = checked.estimate, checked.rejects
    counters = BulkCounters(total=estimate.messages, known=sum(estimate.known.values()))
    notes = CampaignNotes(options.place, checked.sketch if is_new else None)
    first = notes.note_first_message
    run = Run(checked.rows, rejects, counters, revived=estimate.revived, before_each=first)
    sending = options.send_options(api_key, settle=settle, known=checked.known, notes=notes)
    try:
        end = anyio.run(run.send, options.ledger_path, sending)
    except LedgerError as error:
        fail(str(error), Exit.NOT_SENT)
    except ConfigurationError as error:
        fail(str(error))
    rejects.is_whole = not (end.interrupted or end.halted or options.limit)
    return _account(options, estimate, counters, _closed(rejects, end), rejects)


def _closed(rejects: Rejects, end: End) -> End:
    """Close the rejects; where that fails, as on a full disk, the end of the run says so."""
    try:
        rejects.close()
    except OSError as error:
        why = f"{rejects.path} is not whole: {error.strerror}"
        return attrs.evolve(end, halted=end.halted or why)
    return end


def _account(
    options: BulkOptions, estimate: Estimate, counters: BulkCounters, end: End, rejects: Rejects
) -> int:
    """Say what came of the messages, and return the exit code."""
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
