# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import os
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    Backup,
    BackupFile,
    Manifest,
    new_id,
    new_verification,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import maintenance_records
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance_records import (
    BackupRecord,
    age_text,
    backup_age,
    backup_space,
    damaged_backups,
    parse_review_date,
    runbook_review,
    verified_backup,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    Measurement,
    Policy,
    Target,
    result,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import run_collectors
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

AGE = Target("backup.age", "project")
DAMAGED = Target("backup.damaged", "project")
VERIFIED = Target("backup.verified", "project")
SPACE = Target("backup.space", "project")
REVIEW = Target("runbook.review", "project")
NOW = 1_800_000_000.0
HOUR = 3600.0
MIB = 1024 * 1024
GIB = 1024 * MIB


def backup(
    days_ago: float,
    *,
    kind: str = "database",
    problem: str = "",
    refuted: bool = False,
    verified: float | None = None,
    size: int = 1000,
    stored: int = 0,
) -> Backup:
    """``verified`` is how many days ago it was restored."""

    def at(days: float) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(NOW - days * 86400, datetime.timezone.utc)

    identifier = new_id("p", at(days_ago))
    file = BackupFile("dump.bin", size, "0" * 64)
    manifest = Manifest(
        identifier, kind, "p", utc_text(at(days_ago)), 1.0, (file,), stored_bytes=stored
    )
    return Backup(
        kind,
        identifier,
        f"/backups/{kind}/{identifier}",
        None if problem else manifest,
        problem,
        None if verified is None else new_verification(at(verified), "full", []),
        new_verification(at(0), "quick", ["a bit has flipped"]) if refuted else None,
    )


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


def test_a_damaged_one_does_not_count_for_the_age() -> None:
    records = [record(name="good", hours=30), replace(record(name="bad", hours=1), damage="torn")]
    measured = backup_age(AGE, records, NOW, "/backups")
    assert measured.value == 30
    assert measured.message.endswith("; not counted: bad is damaged")


def test_the_newest_that_is_damaged_is_critical() -> None:
    ones = [backup(0, problem="manifest.json is missing"), backup(1), backup(2, kind="config")]
    measured = damaged_backups(DAMAGED, ones, "/backups")
    assert (measured.value, measured.status) == (1, "critical")
    assert f"database/{ones[0].id}: manifest.json is missing" in measured.message
    refuted = damaged_backups(DAMAGED, [backup(0, refuted=True)], "/backups")
    assert (refuted.status, "a bit has flipped" in refuted.message) == ("critical", True)


def test_an_older_one_that_is_damaged_warns() -> None:
    measured = damaged_backups(
        DAMAGED, [backup(0), backup(1, problem="torn"), backup(0, kind="config")], "/backups"
    )
    assert (measured.value, measured.status) == (1, "warning")
    assert measured.message.startswith("1 of 3 backups, none of them the newest")


def test_damaged_backups_without_any() -> None:
    assert damaged_backups(DAMAGED, [], "/backups").status == "skipped"
    assert damaged_backups(DAMAGED, [backup(0)], "/backups").status == "ok"


def test_age_of_the_newest_proof() -> None:
    ones = [backup(0), backup(1, verified=36), backup(40, verified=40), backup(2, kind="redis")]
    measured = verified_backup(VERIFIED, ones, NOW)
    assert (measured.value, measured.status) == (36, None)
    assert measured.message == f"{ones[1].id} was restored and found equal 36 days ago"
    policy = Policy(CATALOGUE)
    assert result(measured, policy, datetime.date(2027, 1, 1))["status"] == "warning"
    fresh = verified_backup(VERIFIED, [backup(0, verified=1)], NOW)
    assert result(fresh, policy, datetime.date(2027, 1, 1))["status"] == "ok"


def test_without_a_proof_it_warns() -> None:
    measured = verified_backup(VERIFIED, [backup(0), backup(1, verified=1, refuted=True)], NOW)
    assert measured.status == "warning"
    assert measured.message == "none of 2 database backups has been restored to prove it"
    assert verified_backup(VERIFIED, [backup(0, kind="config")], NOW).status == "skipped"


@pytest.mark.parametrize(
    ("free_gib", "status"), [(1000, "ok"), (40, "ok"), (13, "warning"), (2.5, "critical")]
)
def test_days_of_space_at_the_present_growth(free_gib: float, status: str) -> None:
    # 100 MiB each day, ten days: they grow by 1 GiB a day when each day keeps one GiB more.
    ones = [backup(days, stored=(20 - days) * GIB, size=100 * MIB) for days in range(10)]
    measured = backup_space(SPACE, ones, int(free_gib * GIB), NOW, "/backups")
    assert measured.value == pytest.approx(free_gib)
    assert result(measured, Policy(CATALOGUE), datetime.date(2027, 1, 1))["status"] == status


def test_the_next_backup_has_to_fit() -> None:
    ones = [backup(0, size=5 * GIB, stored=5 * GIB), backup(0, kind="models", size=GIB, stored=1)]
    measured = backup_space(SPACE, ones, 5 * GIB, NOW, "/backups")
    assert (measured.value, measured.status) == (0, "critical")
    assert "5.0 GiB free, expected 6.0 GiB for the next backups" in measured.message


def test_space_of_backups_that_do_not_grow_or_are_new() -> None:
    steady = [backup(days, stored=7 * GIB) for days in range(10)]
    assert backup_space(SPACE, steady, GIB, NOW, "/b").message == (
        "1.0 GiB free; the backups do not grow"
    )
    assert "after a day" in backup_space(SPACE, [backup(0)], GIB, NOW, "/b").message
    assert backup_space(SPACE, [], GIB, NOW, "/b").status == "skipped"


def test_find_unmanaged_dumps_on_a_disk(tmp_path: Path) -> None:
    database = tmp_path / "database"
    database.mkdir()
    (database / ".hidden.sql").write_text("x")
    (database / "notes.txt").write_text("x")
    (database / "hand.sql.gz").write_bytes(b"x" * 100)
    (database / "latest_backup.sql").symlink_to("hand.sql.gz")
    (database / "broken.sql").symlink_to("gone.sql")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "latest_config_backup.sql").write_text("no dump")
    os.utime(database / "hand.sql.gz", (1000, 1000))
    found = {one.name: one for one in maintenance_records.find_unmanaged(tmp_path)}
    assert sorted(found) == ["hand.sql.gz", "latest_backup.sql"]
    assert found["latest_backup.sql"].finished_at == 1000
    assert found["hand.sql.gz"].size_bytes == 100


def published(store: BackupStore, hours: float) -> Backup:
    """A real one on the disk, made some hours ago by its manifest."""
    moment = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=hours)
    identifier = new_id(store.project, moment)
    staging = store.stage("database", identifier)
    (staging / "dump.bin").write_bytes(b"x" * 1000)
    return store.publish(
        staging, Manifest(identifier, "database", store.project, utc_text(moment), 1.0, ())
    )


def measured_on(store: BackupStore) -> dict[str, Measurement]:
    settings = CheckSettings(backup_dir=str(store.directory), runbook_reviewed="2020-01-01")
    ran = run_collectors(maintenance_records.collectors(Stack(store.project), settings), 5)
    return {one.target.id: one for one in ran}


def test_collectors_answer_for_a_real_directory(tmp_path: Path) -> None:
    store = BackupStore(str(tmp_path), "p")
    older, newest = published(store, 30), published(store, 5)
    published(BackupStore(str(tmp_path), "other"), 1)
    measured = measured_on(store)
    assert measured["backup.age"].value == pytest.approx(5, abs=0.1)
    assert measured["backup.damaged"].value == 0
    assert measured["backup.verified"].status == "warning"
    assert isinstance(measured["backup.space"].value, float)
    assert isinstance(measured["runbook.review"].value, int)
    assert measured["runbook.review"].value > 365

    now = datetime.datetime.now(datetime.timezone.utc)
    store.note_verification(older, new_verification(now, "full", []))
    (Path(newest.path) / "manifest.json").unlink()
    measured = measured_on(store)
    assert measured["backup.age"].value == pytest.approx(30, abs=0.1)
    assert measured["backup.damaged"].status == "critical"
    assert measured["backup.verified"].value == 0


def test_a_backup_directory_that_is_a_file_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "database").write_text("x")
    settings = CheckSettings(
        backup_dir=str(tmp_path), state_dir=str(tmp_path / "database"), runbook_reviewed="soon"
    )
    measured = run_collectors(maintenance_records.collectors(Stack("p"), settings), 5)
    assert {one.status for one in measured} == {"unknown"}
    assert len(measured) == 7
    assert "Not a directory" in measured[0].message
    assert "expected YYYY-MM-DD" in measured[6].message


def test_a_backup_directory_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:  # the tests run as root, whom nothing is refused
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    settings = CheckSettings(backup_dir=str(tmp_path))
    measured = run_collectors(maintenance_records.collectors(Stack("p"), settings), 5)
    assert (measured[0].status, "Permission denied" in measured[0].message) == ("unknown", True)
    assert "become" in (measured[0].hint or "")


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
