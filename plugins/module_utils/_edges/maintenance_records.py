# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups found on the host's disk, and the date of the runbook's review."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance_records import (
    KINDS,
    MANIFEST,
    UNMANAGED_SUFFIXES,
    BackupRecord,
    backup_age,
    is_working_name,
    runbook_review,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    CollectorError,
    Emit,
)


def collectors(_stack: Stack, settings: CheckSettings) -> list[Collector]:
    """backup.age and runbook.review, apart: a disk may hang, a date does not."""
    age = Target("backup.age", "project")
    review = Target("runbook.review", "project")

    def measure_age(emit: Emit) -> None:
        try:
            records = list(find_backups(Path(settings.backup_dir)))
        except PermissionError as error:
            raise CollectorError(
                f"{error.filename} may not be read", "run the play with become: true"
            ) from error
        except OSError as error:
            raise CollectorError(f"{error.filename}: {error.strerror}") from error
        emit(backup_age(age, records, time.time(), settings.backup_dir))

    def measure_review(emit: Emit) -> None:
        today = datetime.datetime.now(datetime.timezone.utc).date()
        try:
            emit(
                runbook_review(
                    review, settings.runbook_reviewed, settings.runbook_review_days, today
                )
            )
        except ValueError as error:
            raise CollectorError(str(error)) from error

    return [
        Collector("backups", (age,), measure_age),
        Collector("runbook", (review,), measure_review),
    ]


def find_backups(backup_dir: Path) -> Iterator[BackupRecord]:
    """Finished backups below the directory, one level under each kind's folder.

    A directory that is not there holds none. Raises L{OSError} for one that cannot be read.
    """
    for kind in KINDS:
        folder = backup_dir / kind
        try:
            entries = sorted(folder.iterdir())
        except FileNotFoundError:
            continue
        for entry in entries:
            record = None if is_working_name(entry.name) else _record(kind, entry)
            if record is not None:
                yield record


def _record(kind: str, entry: Path) -> Optional[BackupRecord]:
    """C{None} for what is no backup, or is gone by the time it is looked at."""
    try:
        if entry.is_dir():
            manifest = (entry / MANIFEST).stat()
            return BackupRecord(kind, entry.name, manifest.st_mtime, managed=True)
        if kind == "database" and entry.name.endswith(UNMANAGED_SUFFIXES):
            # Followed: "latest_backup.sql" is commonly a link to the newest one.
            seen = entry.stat()
            return BackupRecord(
                kind, entry.name, seen.st_mtime, managed=False, size_bytes=seen.st_size
            )
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None
