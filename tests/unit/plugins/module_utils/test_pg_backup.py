# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time
from typing import Any, Optional

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.pg_backup import (
    PgBackupSettings,
    side_by_side,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_backup import (
    Compression,
    compressions,
    dump_arguments,
    failure_hint,
    globals_arguments,
    lacks_method,
    lines,
    sessions,
)


@pytest.mark.parametrize(
    ("method", "level", "major", "expected"),
    [
        ("auto", None, 17, ["--compress=zstd:3", "--compress=gzip:1"]),
        ("auto", None, 16, ["--compress=zstd:3", "--compress=gzip:1"]),
        ("auto", None, 15, ["--compress=1"]),
        ("auto", 9, 13, ["--compress=9"]),
        ("auto", 12, 17, ["--compress=zstd:12", "--compress=gzip:1"]),
        ("zstd", 1, 18, ["--compress=zstd:1"]),
        ("gzip", 6, 17, ["--compress=gzip:6"]),
        ("none", None, 17, ["--compress=none"]),
        ("none", None, 13, ["--compress=0"]),
    ],
)
def test_the_compression_is_one_that_pg_dump_has(
    method: str, level: Optional[int], major: int, expected: list[str]
) -> None:
    assert [one.argument(major) for one in compressions(method, level, major)] == expected


@pytest.mark.parametrize(
    ("method", "level", "major", "problem"),
    [
        ("zstd", None, 15, "seen zstd with PostgreSQL 15, expected gzip"),
        ("zstd", 23, 17, "seen 23 with zstd, expected 1 to 22"),
        ("gzip", 0, 17, "seen 0 with gzip, expected 1 to 9"),
        ("auto", 12, 15, "seen 12 with gzip, expected 1 to 9"),
        ("none", 1, 17, "seen 1 with none, expected none"),
        ("lz4", None, 17, "seen 'lz4', expected one of auto, zstd, gzip, none"),
    ],
)
def test_a_compression_that_it_has_not_is_refused(
    method: str, level: Optional[int], major: int, problem: str
) -> None:
    with pytest.raises(BackupError, match=problem):
        compressions(method, level, major)


def test_a_pg_dump_without_zstd_is_known_by_its_words() -> None:
    assert lacks_method(
        "pg_dump: error: invalid compression specification: "
        "this build does not support compression with zstd"
    )
    assert not lacks_method("pg_dump: error: could not write: No space left on device")


@pytest.mark.parametrize(
    ("jobs", "cpus", "expected"), [(0, 2, 2), (0, 64, 4), (0, None, 1), (7, 2, 7), (1, 8, 1)]
)
def test_sessions(jobs: int, cpus: Optional[int], expected: int) -> None:
    assert sessions(jobs, cpus) == expected


def test_arguments_hold_what_the_dump_needs() -> None:
    arguments = dump_arguments(
        dbname="dbname='a'",
        file="/backup/dump",
        snapshot="00000003-1",
        jobs=3,
        compression=Compression("zstd", 3),
        major=17,
    )
    assert arguments[0] == "pg_dump"
    assert {"--snapshot=00000003-1", "--jobs=3", "--format=directory", "--dbname=dbname='a'"} < set(
        arguments
    )
    plain = globals_arguments(dbname="a", file="f", is_superuser=True)
    assert "--no-role-passwords" not in plain
    assert globals_arguments(dbname="a", file="f", is_superuser=False) == [
        *plain,
        "--no-role-passwords",
    ]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("could not write to file: No space left on device", "df -h /backups"),
        ("permission denied for table t", "pynomaly_check_postgres_user"),
        (
            "You might need to increase max_locks_per_transaction.",
            "raise max_locks_per_transaction",
        ),
        ("canceling statement due to lock timeout", "changes the schema"),
        ("server closed the connection unexpectedly", "pynomaly.ops.daily_check"),
    ],
)
def test_what_to_do_next(text: str, hint: str) -> None:
    assert hint in failure_hint(text, "/backups")


def test_many_problems_are_cut() -> None:
    assert lines(["a", "b"]) == "a; b"
    assert lines(["a", "b", "c", "d", "e"]) == "a; b; c; and 2 more"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": "other-20261124T030000Z"}, "expected pynomaly-YYYYMMDDTHHMMSSZ"),
        ({"timeout_seconds": 0}, "timeout_seconds: seen 0"),
        ({"jobs": -1}, "jobs: seen -1"),
        ({"recipients": ("nonsense",)}, "expected age1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(BackupError, match=problem):
        PgBackupSettings("pynomaly", "/backups", **changes).validate()


def test_the_password_is_in_no_representation() -> None:
    assert "canary" not in repr(PgBackupSettings("p", "/backups", postgres_password="canary-1"))


# Side by side


def test_stages_run_at_the_same_time() -> None:
    barrier = threading.Barrier(3, timeout=10)
    seconds: dict[str, float] = {}
    done = side_by_side(
        {name: lambda: barrier.wait() >= 0 for name in "abc"}, threading.Event(), seconds
    )
    assert done == {"a": True, "b": True, "c": True}
    assert sorted(seconds) == ["a", "b", "c"]


def test_the_first_failure_stops_the_others_and_is_the_one_told() -> None:
    cancelled = threading.Event()

    def fails() -> None:
        raise BackupError("the first")

    def waits() -> None:
        assert cancelled.wait(10)
        raise BackupError("cancelled")

    began = time.monotonic()
    with pytest.raises(BackupError, match="the first"):
        side_by_side({"a": waits, "b": fails, "c": waits}, cancelled, {})
    assert time.monotonic() - began < 5


def test_a_stage_that_fails_last_is_not_missed() -> None:
    first = threading.Event()

    def fails() -> None:
        assert first.wait(10)
        raise BackupError("the last")

    with pytest.raises(BackupError, match="the last"):
        side_by_side({"a": fails, "b": first.set}, threading.Event(), {})
