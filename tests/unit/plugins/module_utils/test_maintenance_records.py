# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import maintenance_records
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance_records import (
    BackupRecord,
    age_text,
    backup_age,
    parse_review_date,
    runbook_review,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import run_collectors

AGE = Target("backup.age", "project")
REVIEW = Target("runbook.review", "project")
NOW = 1_800_000_000.0
HOUR = 3600.0


def record(
    kind: str = "database",
    name: str = "one",
    hours: float = 3,
    managed: bool = True,
    size_bytes: int = 0,
) -> BackupRecord:
    return BackupRecord(kind, name, NOW - hours * HOUR, managed, size_bytes)


def test_no_backups_yet_is_skipped() -> None:
    measured = backup_age(AGE, [], NOW, "/backups")
    assert (measured.status, measured.message) == ("skipped", "no backups yet below /backups")


def test_newest_database_backup_counts_and_the_others_are_told() -> None:
    measured = backup_age(
        AGE,
        [record(hours=30, name="old"), record(hours=27.5, name="new"), record("config", "c", 1)],
        NOW,
        "/backups",
    )
    assert (measured.value, measured.status) == (27.5, None)
    assert measured.message == "newest database backup new is 27 h old"
    assert [entry["kind"] for entry in measured.detail] == ["database", "config"]


def test_an_unmanaged_file_is_told_as_such() -> None:
    measured = backup_age(
        AGE, [record(name="latest_backup.sql", managed=False, size_bytes=4096)], NOW, "/backups"
    )
    assert measured.value == 3
    assert "unmanaged file" in measured.message


def test_empty_and_future_files_do_not_count() -> None:
    records = [
        record(name="a.sql.gz", managed=False, size_bytes=20),
        record(name="b", hours=-2),
        record(name="c", hours=40),
    ]
    measured = backup_age(AGE, records, NOW, "/backups")
    assert measured.value == 40
    assert measured.message.endswith("; not counted: a.sql.gz is empty, b is dated in the future")


def test_a_clock_slightly_off_is_forgiven() -> None:
    assert backup_age(AGE, [record(hours=-0.05)], NOW, "/backups").value == 0


def test_without_a_usable_database_backup_it_warns() -> None:
    empty = [record(name=f"{n}.sql", managed=False) for n in range(5)]
    measured = backup_age(AGE, empty, NOW, "/backups")
    assert measured.status == "warning"
    assert "nothing elsewhere; not counted: 0.sql is empty" in measured.message
    assert measured.message.endswith("and 2 more")
    other = backup_age(AGE, [record("redis", "r")], NOW, "/backups")
    assert (other.status, "redis elsewhere" in other.message) == ("warning", True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90 * 60, "90 min"), (5 * HOUR, "5 h"), (71 * HOUR, "71 h"), (100 * HOUR, "4 days")],
)
def test_age_text(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


def test_find_backups_on_a_disk(tmp_path: Path) -> None:
    database = tmp_path / "database"
    (database / "20260101").mkdir(parents=True)
    (database / "20260101" / "manifest.json").write_text("{}")
    (database / "20260102.partial").mkdir()
    (database / "20260102.partial" / "manifest.json").write_text("{}")
    (database / "unfinished").mkdir()
    (database / ".hidden.sql").write_text("x")
    (database / "notes.txt").write_text("x")
    (database / "hand.sql.gz").write_bytes(b"x" * 100)
    (database / "latest_backup.sql").symlink_to("hand.sql.gz")
    (database / "broken.sql").symlink_to("gone.sql")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "latest_config_backup.sql").write_text("no dump")
    os.utime(database / "hand.sql.gz", (1000, 1000))
    found = {one.name: one for one in maintenance_records.find_backups(tmp_path)}
    assert sorted(found) == ["20260101", "hand.sql.gz", "latest_backup.sql"]
    assert found["20260101"].managed
    assert found["latest_backup.sql"].finished_at == 1000
    assert found["hand.sql.gz"].size_bytes == 100


def test_collectors_answer_for_a_real_directory(tmp_path: Path) -> None:
    (tmp_path / "database" / "one").mkdir(parents=True)
    (tmp_path / "database" / "one" / "manifest.json").write_text("{}")
    settings = CheckSettings(backup_dir=str(tmp_path), runbook_reviewed="2020-01-01")
    measured = {
        one.target.id: one
        for one in run_collectors(maintenance_records.collectors(Stack("p"), settings), 5)
    }
    assert measured["backup.age"].value == 0
    assert isinstance(measured["runbook.review"].value, int)
    assert measured["runbook.review"].value > 365


def test_a_backup_directory_that_is_a_file_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "database").write_text("x")
    settings = CheckSettings(backup_dir=str(tmp_path), runbook_reviewed="soon")
    measured = run_collectors(maintenance_records.collectors(Stack("p"), settings), 5)
    assert [one.status for one in measured] == ["unknown", "unknown"]
    assert "Not a directory" in measured[0].message
    assert "expected YYYY-MM-DD" in measured[1].message


def test_a_backup_directory_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:  # the tests run as root, whom nothing is refused
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    settings = CheckSettings(backup_dir=str(tmp_path))
    measured = run_collectors(maintenance_records.collectors(Stack("p"), settings), 5)
    assert (measured[0].status, "may not be read" in measured[0].message) == ("unknown", True)


def test_parse_review_date() -> None:
    assert parse_review_date(" 2026-02-03 ") == datetime.date(2026, 2, 3)


@pytest.mark.parametrize("text", ["2026-13-01", "3.2.2026", "20260203", "soon", ""])
def test_parse_review_date_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="expected YYYY-MM-DD"):
        parse_review_date(text)


@pytest.mark.parametrize(
    ("reviewed", "value", "ending"),
    [
        ("2026-03-01", -59, "59 days left"),
        ("2026-01-01", 0, "0 days left"),
        ("2025-12-31", 1, "1 days overdue"),
    ],
)
def test_runbook_review(reviewed: str, value: int, ending: str) -> None:
    measured = runbook_review(REVIEW, reviewed, 90, datetime.date(2026, 4, 1))
    assert (measured.value, measured.status) == (value, None)
    assert measured.message.endswith(ending)


def test_runbook_review_unset_or_in_the_future() -> None:
    today = datetime.date(2026, 4, 1)
    assert runbook_review(REVIEW, None, 90, today).status == "skipped"
    future = runbook_review(REVIEW, "2026-04-02", 90, today)
    assert (future.status, "in the future" in future.message) == ("warning", True)
