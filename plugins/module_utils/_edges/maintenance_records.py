# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups found on the host's disk, what operations have left, and the date of the runbook's
review."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import DATABASE, BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.importing import IMPORTING
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance_records import (
    UNMANAGED_SUFFIXES,
    BackupRecord,
    backup_age,
    backup_space,
    damaged_backups,
    is_working_name,
    record_of,
    runbook_review,
    verified_backup,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    CollectorError,
    Emit,
)


def collectors(stack: Stack, settings: CheckSettings) -> list[Collector]:
    """backup.*, operation.* and runbook.review, apart: a disk may hang, a date does not."""
    age, damaged, verified, space = (
        Target(f"backup.{name}", "project") for name in ("age", "damaged", "verified", "space")
    )
    states = Target("operation.temporary_states", "project")
    incidents = Target("operation.incidents", "project")
    review = Target("runbook.review", "project")

    def measure_backups(emit: Emit) -> None:
        store = BackupStore(settings.backup_dir, stack.project)
        try:
            backups = store.backups()
            unmanaged = list(find_unmanaged(Path(settings.backup_dir)))
            free_bytes = store.free_bytes()
        except BackupError as error:
            raise CollectorError(str(error), error.hint) from error
        except OSError as error:
            raise CollectorError(f"{error.filename}: {error.strerror}") from error
        now = time.time()
        records = [*(record_of(one) for one in backups), *unmanaged]
        emit(backup_age(age, records, now, settings.backup_dir))
        emit(damaged_backups(damaged, backups, settings.backup_dir))
        emit(verified_backup(verified, backups, now))
        emit(backup_space(space, backups, free_bytes, now, settings.backup_dir))

    def measure_states(emit: Emit) -> None:
        # Compiled beside the other collectors' waiting, and not before they begin.
        with IMPORTING:
            from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (  # noqa: PLC0415
                standing,
            )
            from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (  # noqa: PLC0415
                temporary_states as journal,
            )

        emit(standing.measure(incidents, settings.state_dir, stack.project))
        emit(journal.measure(states, settings.state_dir, stack.project))

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
        Collector("backups", (age, damaged, verified, space), measure_backups),
        Collector("operations", (states, incidents), measure_states),
        Collector("runbook", (review,), measure_review),
    ]


def find_unmanaged(backup_dir: Path) -> Iterator[BackupRecord]:
    """Dumps made by hand, in the folder of database backups.

    A directory that is not there holds none. Raises L{OSError} for one that cannot be read.
    """
    try:
        entries = sorted((backup_dir / DATABASE).iterdir())
    except FileNotFoundError:
        return
    for entry in entries:
        record = None if is_working_name(entry.name) else _record(entry)
        if record is not None:
            yield record


def _record(entry: Path) -> Optional[BackupRecord]:
    """C{None} for what is no dump, or is gone by the time it is looked at."""
    if not entry.name.endswith(UNMANAGED_SUFFIXES):
        return None
    try:
        # Followed: "latest_backup.sql" is commonly a link to the newest one.
        seen = entry.stat()
    except FileNotFoundError:
        return None
    return BackupRecord(DATABASE, entry.name, seen.st_mtime, managed=False, size_bytes=seen.st_size)
