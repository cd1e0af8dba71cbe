"""`skycore cluster`: an operator's commands for the database that workers share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..ui.dsn import dsn_and_words, dsn_of, within
from ..ui.output import emit, fail, json_option

if TYPE_CHECKING:
    from ...ledger.postgres.import_sqlite import Copied

_STOPS: Final = {
    "pause": "Stop sending for now: what is in flight ends, the rest waits.",
    "resume": "Go on with a campaign that was paused, or that halted and is fixed.",
    "cancel": "Stop sending for good: what was not sent never will be.",
}


@click.group()
def cluster() -> None:
    """Manage the database that workers share.

    DSN is a PostgreSQL database, such as postgresql://user@host/database.
    SKYCORE_DSN stands in for it.  A password is better kept in ~/.pgpass.

    \b
    Examples:
      skycore cluster migrate postgresql://me@db/sms
      skycore cluster pause postgresql://me@db/sms promo
      SKYCORE_DSN=postgresql://me@db/sms skycore cluster resume promo

    Exit codes: 0 done, 1 the database failed, 2 wrong usage, no such campaign,
    or the database cannot be reached.
    """  # noqa: D301 - \b is click's mark for lines that it does not wrap


@cluster.command()
@click.argument("dsn", required=False)
@json_option
def migrate(*, dsn: str | None, as_json: bool) -> None:
    """Create the tables, or bring them up to date.

    Nothing else does so.  Stop all workers, listeners and services of an older
    version first: it does not know the new tables, so that what it has in
    flight would end in doubt.

    \b
    Example:
      skycore cluster migrate postgresql://me@db/sms
    """  # noqa: D301
    from ...campaigns import queue
    from ...postgres import schema

    before, after = within(dsn_of(dsn), schema.migrate, is_new=True)
    is_new = within(dsn_of(dsn), queue.migrate)
    if as_json:
        emit({"before": before, "after": after, "queue_made": is_new})
    elif before == after and not is_new:
        click.echo(f"The tables are up to date: schema {after}.")
    else:
        click.echo(f"The tables are made: schema {after}, before {before or 'none'}.")


@cluster.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("dsn", required=False)
@json_option
def copy(*, file: Path, dsn: str | None, as_json: bool) -> None:
    """Copy the ledger FILE into the database.

    Copies its messages, tracking ids, postbacks and opt-outs; what was being sent
    is in doubt.  Run again, it adds what is new.  Where the two contradict each
    other, nothing is copied.  The file stays as it is; use the database from then
    on.

    \b
    Example:
      skycore cluster copy promo.db postgresql://me@db/sms
    """  # noqa: D301
    import anyio

    from ...errors import LedgerError
    from ...ledger.postgres.import_sqlite import copy as copied_from
    from ...ledger.sqlite.ledger import SQLiteLedger

    if not (file.is_file() and file.stat().st_size):
        fail(f"{file}: there is no such ledger")

    async def copied() -> Copied:
        # Open, so that no other process sends from it meanwhile.
        async with SQLiteLedger(file):
            return within(dsn_of(dsn), lambda connection: copied_from(connection, file))

    try:
        done = anyio.run(copied)
    except LedgerError as error:
        fail(str(error))
    if as_json:
        emit(done)
    else:
        click.echo(f"{file}: {done.messages:,} messages, {done.new:,} of them new here")


def _command(word: str, meaning: str) -> click.Command:
    @click.argument("words", nargs=-1, metavar="[DSN] CAMPAIGN")
    @json_option
    def stop(*, words: tuple[str, ...], as_json: bool) -> None:
        from ...campaigns.campaigns import change

        dsn, (name,) = dsn_and_words(words, names="CAMPAIGN")
        before = within(dsn, lambda connection: change(connection, word, name))
        after = {"pause": "paused", "resume": "running", "cancel": "cancelled"}[word]
        if as_json:
            emit({"campaign": name, "before": before, "state": after})
        else:
            was = "already" if before == after else f"was {before}, and is"
            click.echo(f"{name}: {was} {after}")

    example = f"\n\n\b\nExample:\n  skycore cluster {word} postgresql://me@db/sms promo"
    return click.command(name=word, help=meaning + example)(stop)


for _word, _meaning in _STOPS.items():
    cluster.add_command(_command(_word, _meaning))
