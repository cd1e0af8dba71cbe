"""The check of a file of recipients: every row is read, judged, looked up and counted.

Strategy: the file is read once, to its end.  Its rows are counted for the estimate, which is
shown, and kept for the sending, which reads, judges and resolves none of them again.

Rule: nothing is written, and nothing is sent.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio
import attrs
import click

from ...errors import LedgerError
from ...ledger.sqlite.opt_out_list import OptOutCheck, is_out_by_ledger
from ...sending.hours import utc_now
from ..ui.opt_out_list import shown
from ..ui.outcome_kinds import OutcomeKind
from ..ui.output import Exit, fail, number_of, say
from ..ui.times import time_of
from .confirmed_ledger import LedgerCounts
from .estimate import Estimate, Survey
from .files import checked_rejects, copied, earlier_rejects, free_rejects, name_of
from .judged_rows import JudgedRows
from .options import BulkOptions
from .preflight import survey_by_database, survey_by_ledger
from .preview import preview
from .recipients import FROM_COLUMNS, Sheet
from .rejects import Rejects
from .resemblance import Sketch
from .rows import MessageRow, RejectedRow, RowOptions, RowReader

_EVERY: Final = 50_000  # rows between two lines that tell how many are checked


@attrs.frozen(kw_only=True)
class CheckedFile:
    """What the check found.

    `known` is how much the ledger had, and `sketch` is of the messages that are to be sent.
    """

    rows: JudgedRows
    estimate: Estimate
    known: LedgerCounts
    rejects: Rejects
    sketch: Sketch


def check_file(options: BulkOptions, rows: JudgedRows) -> CheckedFile:
    """Read the file to its end, show the estimate, and keep in `rows` what is still needed.

    Raises SheetError where the file cannot be read as recipients, and OSError where it cannot be
    read at all; fails where the ledger or the list of opt-outs cannot be asked.
    """
    with opened_sheet(options) as (sheet, reader):
        path, earlier = free_rejects(options.stem), earlier_rejects(options.stem)
        if options.rejects is not None:
            path = checked_rejects(options.rejects, csv=options.csv, ledger=options.ledger_path)
            earlier = []
        hours, campaign = options.hours_survey(utc_now()), options.campaign_name
        survey = Survey(options.limit, hours, campaign=campaign)
        with opt_out_check(options) as is_opted_out:
            _check_rows(options, sheet, reader, rows, survey, is_opted_out=is_opted_out)
            known = _look_up(options, reader, rows, survey, is_opted_out)
        estimate = survey.estimate(price=options.price, rate=options.rate)
        _show(options, sheet, reader, estimate)
        return CheckedFile(
            rows=rows,
            estimate=estimate,
            known=known,
            rejects=Rejects(path, sheet, earlier, options.written_rejects),
            sketch=survey.sketch,
        )


@contextmanager
def opened_sheet(options: BulkOptions) -> Iterator[tuple[Sheet, RowReader]]:
    """Yield the sheet in a copy of the recipients' file, and the reader that judges its rows."""
    with copied(options.csv) as file:
        sheet = Sheet(file, name_of(options.csv))
        sheet.check_texts()
        yield sheet, RowReader(sheet.header, _row_options(options, sheet))


def _row_options(options: BulkOptions, sheet: Sheet) -> RowOptions:
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
    rows: JudgedRows,
    survey: Survey,
    *,
    is_opted_out: OptOutCheck,
) -> None:
    """Read and judge all rows; count them here where there is no ledger to look them up in."""
    is_watched = sys.stderr.isatty()
    has_ledger = options.known_ledger is not None or options.cluster is not None
    keeps_all = has_ledger or not options.dry_run
    for number, row in enumerate(sheet.rows(), 1):
        judged = reader.read(row)
        if not has_ledger:
            if isinstance(judged, MessageRow) and is_opted_out(judged.message.to, {}):
                survey.see_known(judged, OutcomeKind.OPTED_OUT)
            else:
                survey.see(judged)
        if keeps_all or (options.rejects is not None and isinstance(judged, RejectedRow)):
            rows.add(judged)
        if is_watched and number % _EVERY == 0:
            click.echo(f"\rchecked {number:,} rows", err=True, nl=False)
    if is_watched:
        click.echo("\r\x1b[K", err=True, nl=False)


@contextmanager
def opt_out_check(options: BulkOptions) -> Iterator[OptOutCheck]:
    """Yield the check whether a number has opted out; fail where the list cannot be read."""
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
    rows: JudgedRows,
    survey: Survey,
    is_opted_out: OptOutCheck,
) -> LedgerCounts:
    """Count the rows by what the ledger has of them, and return how much it has in all."""
    knows_sender = bool(options.from_ or reader.has_senders)
    if (database := options.database) is not None:
        look_there = functools.partial(
            survey_by_database, knows_sender=knows_sender, is_opted_out=is_opted_out
        )
        try:
            anyio.run(look_there, database.to_read(), rows, survey)
        except LedgerError as error:
            fail(f"nothing was loaded: {error}")
    if options.known_ledger is None:
        return LedgerCounts(doubts=frozenset() if options.asks_to_resend else None)
    look = functools.partial(
        survey_by_ledger,
        resend_in_doubt=options.resend_in_doubt,
        resends_once=options.resends_once,
        knows_sender=knows_sender,
        alone=not options.dry_run,
        is_opted_out=is_opted_out,
    )
    try:
        return anyio.run(look, options.known_ledger, rows, survey)
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
    if (database := options.database) is not None:
        where = f"{'cluster':<13} {database.name}"
    say(f"{where}, campaign {options.campaign_name!r}", err=options.as_json)
    if (shared := options.opt_out_list) is not None:
        count = number_of(shared.count(), "number")
        say(f"{'opt-outs':<13} {count} in {shown(shared.path)}", err=options.as_json)
