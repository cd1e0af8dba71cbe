"""`skycore export`: the messages of a ledger as a table."""

from __future__ import annotations

import csv
import json
import stat
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from click.testing import CliRunner, Result

from skycore_async import SQLiteLedger, parse_postback
from skycore_async.cli.app import skycore
from skycore_async.cli.ui import table_files
from skycore_async.cli.ui.output import Exit
from skycore_async.ledger.model import MessageState, Submission
from skycore_async.ledger.postgres.ledger import PostgresLedger
from tests.support.ledger_cases import DELIVERED, NOON, TO, accepted, intent, notice
from tests.support.ledger_owner import owner


def run(*arguments: object) -> Result:
    return CliRunner().invoke(skycore, ["export", *map(str, arguments)])


def fill(place: str) -> None:
    """Fill a ledger with a delivered message, and one whose refusal text is a formula."""

    async def keep() -> None:
        opened: Any = PostgresLedger if "://" in place else SQLiteLedger
        async with opened(place, clock=lambda: NOON) as ledger:
            sms = attrs.evolve(intent(f"promo:{TO}"), tags=("=spring", "late"), segments=2)
            await ledger.begin(attrs.evolve(sms, campaign_ref="77"))
            await ledger.finish(sms.key, accepted())
            await ledger.record(notice(DELIVERED, after=60))
            await ledger.begin(intent("other"))
            said = Submission(state=MessageState.REJECTED, code="E621", info=f"=cmd|{TO}")
            await ledger.finish("other", said)

    anyio.run(keep)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "database"])
def test_every_message_is_a_row(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every message is a row, with masked numbers and no formulas."""
    place = str(tmp_path / "p.db") if kind == "file" else request.getfixturevalue("dsn")
    fill(place)
    done = run(place)
    assert done.exit_code == Exit.DONE
    first, second = csv.DictReader(done.stdout.splitlines())
    assert first == {
        "key": "promo:*******4888",
        "to": "*******4888",
        "from": "60856",
        "state": "delivered",
        "reason": "",
        "code": "",
        "info": "",
        "http_status": "",
        "tracking_id": "T",
        "history_id": "",
        "settled_by": "",
        "campaign_ref": "77",
        "segments": "2",
        "tags": "'=spring;late",
        "began": "2023-11-14T22:13:20.000000+00:00",
        "answered": "2023-11-14T22:13:20.000000+00:00",
        "sent_at": "",
        "ended_at": "2023-11-14T22:14:20.000000+00:00",
    }
    assert second["info"] == "'=cmd|*******4888"
    shown = run(place, "-o", "-", "--show-numbers", "--format", "jsonl", "--state", "delivered")
    (row,) = map(json.loads, shown.stdout.splitlines())
    assert (row["to"], row["key"], row["tags"]) == (TO, f"promo:{TO}", ["=spring", "late"])
    assert (row["ended_at"], row["sent_at"]) == ("2023-11-14T22:14:20.000000+00:00", None)


@pytest.mark.slow
def test_a_parquet_file_has_types(tmp_path: Path) -> None:
    """A Parquet file has typed columns, and is private."""
    parquet: Any = import_module("pyarrow.parquet")
    place, out = tmp_path / "p.db", tmp_path / "p.parquet"
    fill(str(place))
    done = run(place, "--format", "parquet", "-o", out)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"2 messages in {out}\n")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    table = parquet.read_table(out)
    assert str(table.schema.field("began").type) == "timestamp[us, tz=UTC]"
    first, second = table.to_pylist()
    assert (first["tags"], first["segments"], first["ended_at"].timestamp()) == (
        ["=spring", "late"],
        2,
        NOON + 60,
    )
    assert (second["tags"], second["segments"], second["state"]) == ([], None, "rejected")


@pytest.mark.slow
def test_many_rows_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows are written in groups, each row once."""
    parquet: Any = import_module("pyarrow.parquet")
    monkeypatch.setattr(table_files, "_TOGETHER", 1)
    place, out = tmp_path / "p.db", tmp_path / "p.parquet"
    fill(str(place))
    assert run(place, "--format", "parquet", "-o", out).exit_code == Exit.DONE
    file = parquet.ParquetFile(out)
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (2, 2)


def test_a_missing_ledger_or_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing ledger or library is an error, and no partial file is left."""
    place, out = tmp_path / "p.db", tmp_path / "p.parquet"
    assert "there is no such file" in run(place).stderr
    fill(str(place))
    assert "--output FILE" in run(place, "--format", "parquet").stderr
    assert "belongs to the ledger" in run(place, "-o", place).stderr
    assert "cannot be written" in run(place, "-o", tmp_path / "none" / "p.csv").stderr
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = run(place, "--format", "parquet", "-o", out)
    assert done.exit_code == Exit.NOT_ALL_WELL
    assert "pip install 'skycore-async[parquet]'" in done.stderr
    assert sorted(each.name for each in tmp_path.iterdir() if "parquet" in each.name) == []


@pytest.mark.slow
def test_a_ledger_is_exported_while_it_is_in_use(tmp_path: Path) -> None:
    """A ledger that another process has open is exported."""
    place = tmp_path / "p.db"
    fill(str(place))
    with owner(place):
        done = run(place)
    assert done.exit_code == Exit.DONE
    assert len(done.stdout.splitlines()) == 3


def test_an_export_of_no_ledger_is_an_error(tmp_path: Path) -> None:
    """A file that is no ledger is an error, and nothing is written."""
    place, out = tmp_path / "p.db", tmp_path / "p.csv"
    place.write_text("no ledger" * 1000)
    done = run(place, "-o", out)
    assert done.exit_code == Exit.USAGE
    assert not out.exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_it_takes_the_place_of_an_export_and_of_nothing_else(kind: str, tmp_path: Path) -> None:
    """An export replaces an older export, and no other file."""
    place, recipients = tmp_path / "promo.db", tmp_path / "promo.csv"
    fill(str(place))
    recipients.write_text("key,to,name\n1,15551234888,Ann\n")
    done = run(place, "-o", recipients, "--format", kind)
    assert done.exit_code == Exit.USAGE
    assert "promo.csv is something other than an export; give the table another" in done.stderr
    assert recipients.read_text() == "key,to,name\n1,15551234888,Ann\n"
    (out := tmp_path / "out").touch()
    for _ in range(2):
        done = run(place, "-o", out, "--format", kind)
        assert (done.exit_code, done.stderr) == (Exit.DONE, f"2 messages in {out}\n")


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [
        ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.000000+00:00"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00.000000+00:00"),
    ],
)
def test_a_time_that_is_none_in_utc_keeps_no_message_back(
    stamp: str, shown: str, tmp_path: Path
) -> None:
    """A time that cannot be converted to UTC is exported as the nearest one."""
    place = tmp_path / "p.db"
    receipt = (
        f"<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N202</CODE><TO>{TO}</TO>"
        f"<TRACKINGID>{accepted().tracking_id}</TRACKINGID><TIMESTAMP>{stamp}</TIMESTAMP></POSTBACK>"
    )

    async def keep() -> None:
        async with SQLiteLedger(place) as ledger:
            await ledger.begin(intent("promo"))
            await ledger.finish("promo", accepted())
            await ledger.record(*parse_postback(receipt))

    anyio.run(keep)
    (row,) = csv.DictReader(run(place).stdout.splitlines())
    assert (row["state"], row["ended_at"]) == ("delivered", shown)
