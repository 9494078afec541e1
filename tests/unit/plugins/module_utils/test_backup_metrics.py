# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import re

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    FULL,
    KINDS,
    QUICK,
    Backup,
    BackupFile,
    Manifest,
    new_id,
    new_verification,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_metrics import render_metrics
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

NOW = datetime.datetime(2026, 11, 24, 3, 0, tzinfo=datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)
SECRET = "hunter2hunter2"
SAMPLE = re.compile(r'(pynomaly_backup_[a-z_]+)\{project="([^"]+)",kind="([a-z]+)"\} ([0-9.]+)')


def parsed(text: str) -> dict[tuple[str, str], float]:
    """The samples by name and kind, of a text that must hold nothing else."""
    assert text.endswith("\n")
    samples: dict[tuple[str, str], float] = {}
    typed: list[str] = []
    for line in text[:-1].split("\n"):
        if line.startswith("# TYPE "):
            typed.append(line.split(" ")[2])
            assert line == f"# TYPE {typed[-1]} gauge"
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, project, kind, value = match.groups()
            assert project == "shop"
            assert name == typed[-1]
            assert (name, kind) not in samples
            samples[name, kind] = float(value)
    assert len(set(typed)) == len(typed)
    return {
        (name.replace("pynomaly_backup_", ""), kind): samples[name, kind] for name, kind in samples
    }


def backup(
    hours: float,
    size: int = 10,
    kind: str = "database",
    *,
    whole: bool = True,
    full: tuple[float, bool] | None = None,
    quick: tuple[float, bool] | None = None,
) -> Backup:
    """Made so many hours ago, and looked at (hours ago, whether it held)."""
    moment = NOW - HOUR * hours
    identifier = new_id("shop", moment)
    file = BackupFile(f"{SECRET}.dat", size, "0" * 64)
    content = {"database": {"comment": SECRET}}
    manifest = Manifest(identifier, kind, "shop", utc_text(moment), 1.0, (file,), content)
    looks = [
        look and new_verification(NOW - HOUR * look[0], method, () if look[1] else (SECRET,))
        for method, look in ((FULL, full), (QUICK, quick))
    ]
    path = f"/b/{SECRET}"
    return Backup(kind, identifier, path, manifest if whole else None, SECRET, *looks)


def test_a_kind_that_never_had_a_backup_counts_none() -> None:
    samples = parsed(render_metrics("shop", KINDS, []))
    assert samples == {(name, kind): 0.0 for name in ("count", "damaged_count") for kind in KINDS}


def test_what_is_known_of_backups() -> None:
    backups = [
        backup(30, 5, full=(20, True)),
        backup(20, 6, full=(10, True), quick=(5, True)),
        backup(10, 7),
        backup(5, 8, whole=False, full=(4, True)),
        backup(9, 100, "config"),
    ]
    text = render_metrics("shop", ("database", "config"), backups)
    assert SECRET not in text
    assert parsed(text) == {
        ("count", "database"): 3,
        ("damaged_count", "database"): 1,
        ("timestamp_seconds", "database"): (NOW - HOUR * 10).timestamp(),
        ("size_bytes", "database"): 7,
        ("verified_timestamp_seconds", "database"): (NOW - HOUR * 10).timestamp(),
        ("verification_success", "database"): 1,
        ("count", "config"): 1,
        ("damaged_count", "config"): 0,
        ("timestamp_seconds", "config"): (NOW - HOUR * 9).timestamp(),
        ("size_bytes", "config"): 100,
    }


@pytest.mark.parametrize(
    ("backups", "success", "verified_hours", "damaged"),
    [
        ([backup(9, full=(8, True)), backup(7, full=(6, False))], 0, 8, 1),
        ([backup(9, full=(5, True)), backup(7, full=(6, False))], 1, 5, 1),
        ([backup(9, full=(8, False))], 0, None, 1),
        ([backup(9, full=(8, True), quick=(7, False))], 1, None, 1),
        ([backup(9, full=(8, True), quick=(9, False))], 1, 8, 0),
        ([backup(9, quick=(8, True))], None, None, 0),
    ],
)
def test_what_verifications_say(
    backups: list[Backup], success: int | None, verified_hours: float | None, damaged: int
) -> None:
    samples = parsed(render_metrics("shop", ("database",), backups))
    assert samples.get(("verification_success", "database")) == success
    verified = None if verified_hours is None else (NOW - HOUR * verified_hours).timestamp()
    assert samples.get(("verified_timestamp_seconds", "database")) == verified
    assert samples["damaged_count", "database"] == damaged
