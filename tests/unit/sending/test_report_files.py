"""Reports saved in files: their names and their permissions."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from skycore_async.sending.report_files import ReportFiles

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


async def written(files: ReportFiles, *reports: bytes) -> None:
    for hour, report in enumerate(reports):
        since = NOON + timedelta(hours=hour)
        file = await files.open(since, since + timedelta(hours=1), made_at=NOON)
        try:
            await file.write(report)
        finally:
            await file.aclose()


async def test_each_part_has_a_file_and_none_is_written_over(tmp_path: Path) -> None:
    """Each part of a report has a private file of its own, and no existing file is overwritten."""
    (tmp_path / "sent-2.xml").write_text("mine")
    files = ReportFiles(tmp_path / "sent.xml")
    await written(files, b"one", b"two", b"three")
    assert [report.path.name for report in files.saved] == ["sent.xml", "sent-3.xml", "sent-4.xml"]
    assert [report.path.read_bytes() for report in files.saved] == [b"one", b"two", b"three"]
    assert {stat.S_IMODE(report.path.stat().st_mode) for report in files.saved} == {0o600}
    assert (tmp_path / "sent-2.xml").read_text() == "mine"


async def test_a_name_that_is_taken_is_an_error(tmp_path: Path) -> None:
    """A report file whose name is taken raises FileExistsError, and the old file stays."""
    (tmp_path / "sent.xml").write_text("mine")
    with pytest.raises(FileExistsError):
        await written(ReportFiles(tmp_path / "sent.xml"), b"one")
    assert (tmp_path / "sent.xml").read_text() == "mine"
