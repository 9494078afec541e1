# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbooks backup and backup_verify do, started by the host's own timer.

Under the same lock, with the same functions, and in the same journal.
"""

from __future__ import annotations

import os
import platform
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    DATABASE,
    BackupError,
    new_id,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_retention import RetentionPolicy
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_schedule import (
    ScheduleSettings,
    parse_settings,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_text import (
    outcome,
    outcome_lines,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (
    backup_retention,
    backup_verify,
    files_backup,
    pg_backup,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_copy import (
    Offsite,
    OffsiteCopy,
    unsent,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_metrics import (
    write_metrics,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import (
    BackupStore,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
    StoreError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    FAILED,
    FINISHED,
    LockHeldError,
    OperationError,
    RunIdentity,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

BACKUP = "backup"
VERIFY = "backup_verify"

OK = 0
PROBLEM = 1
USAGE = 2
#: Another operation is on: sysexits(3) has it as a failure that may pass.
BUSY = 75

_FAILURES = (
    BackupError,
    PostgresError,
    EngineError,
    CollectorError,
    OperationError,
    StoreError,
    OSError,
)


def main(arguments: Sequence[str]) -> int:
    """C{backup FILE} or C{backup_verify FILE}; returns the exit code.

    0 where all went well, 1 where something failed, 2 where the settings make no sense, 75 where
    another operation is on.
    """
    actions: dict[str, Callable[[ScheduleSettings, TemporaryStates], tuple[list[str], bool]]] = {
        BACKUP: back_up,
        VERIFY: verify,
    }
    if len(arguments) != 2 or arguments[0] not in actions:
        return _complain(f"usage: {' or '.join(actions)}, and the settings' file", USAGE)
    operation, path = arguments
    try:
        settings = parse_settings(Path(path).read_text(encoding="utf-8"))
    except (OSError, BackupError) as error:
        return _complain(f"{path}: {error}", USAGE)
    store = OperationStore(settings.state_dir)
    identity = RunIdentity(
        run_id=str(uuid.uuid4()), user="the host's timer", controller=platform.node()
    )
    try:
        store.acquire(
            identity,
            operation,
            settings.project,
            host=platform.node(),
            playbook=f"pynomaly.ops.{operation}",
        )
    except LockHeldError as error:
        return _complain(str(error), BUSY)
    except (OperationError, StoreError) as error:
        return _complain(str(error), PROBLEM)
    states = TemporaryStates(store, identity, operation, settings.project)
    lines: list[str] = []
    is_well = False
    try:
        lines, is_well = actions[operation](settings, states)
    except _FAILURES as error:
        lines = [_text(error)]
    finally:
        store.finish(
            identity,
            operation,
            settings.project,
            outcome=FINISHED if is_well else FAILED,
            changed=True,
            summary="; ".join(" ".join(line.split()) for line in lines)[:500],
        )
    stream = sys.stdout if is_well else sys.stderr
    stream.write("\n".join(lines) + "\n")
    return OK if is_well else PROBLEM


def back_up(settings: ScheduleSettings, states: TemporaryStates) -> tuple[list[str], bool]:
    """Back up each kind, remove what the policy does not keep of it, and copy the newest.

    Returns what to say, and whether all went well. A kind that fails stops no other.
    """
    identifier = new_id(settings.project, utc_now())
    outcomes: list[dict[str, Any]] = []
    for kind in settings.kinds:
        try:
            outcomes.append(_one_kind(settings, states, kind, identifier))
        except _FAILURES as error:
            outcomes.append({"kind": kind, "failure": _text(error)})
    lines = outcome_lines(outcomes)
    is_well = not any(one.get("failure") for one in outcomes)
    store = BackupStore(settings.backup_dir, settings.project)
    if settings.copy:
        try:
            offsite = OffsiteCopy(Offsite(**settings.copy), store)
            for backup in unsent(store, offsite, settings.kinds):
                offsite.push(backup)
                lines.append(f"copied {backup.kind} backup {backup.id}")
        except _FAILURES as error:
            lines.append(f"not copied: {_text(error)}")
            is_well = False
    write_metrics(store, settings.textfile_dir)
    return lines, is_well


def _one_kind(
    settings: ScheduleSettings, states: TemporaryStates, kind: str, identifier: str
) -> dict[str, Any]:
    about: dict[str, Any] = {
        "project": settings.project,
        "backup_dir": settings.backup_dir,
        "id": identifier,
        "service_names": settings.service_names,
        **settings.of_kind(kind),
    }
    if kind == DATABASE:
        made = pg_backup.run(pg_backup.PgBackupSettings(**about), states)
    else:
        made = files_backup.run(files_backup.FilesBackupSettings(kind=kind, **about), states)
    removed: dict[str, Any] = {}
    if made["made"]:
        removed = backup_retention.run(
            backup_retention.RetentionSettings(
                project=settings.project,
                kind=kind,
                backup_dir=settings.backup_dir,
                made=made["id"],
                policy=RetentionPolicy(**settings.retention),
            )
        )
    return outcome(made, removed)


def verify(settings: ScheduleSettings, states: TemporaryStates) -> tuple[list[str], bool]:
    """Restore the newest database backup into a throw-away server; of an encrypted one the
    checksums alone are looked at, since the private key is not on the host."""
    store = BackupStore(settings.backup_dir, settings.project)
    newest = next((one for one in store.backups([DATABASE]) if one.manifest), None)
    encrypted = newest is not None and newest.manifest is not None and newest.manifest.encryption
    answer = backup_verify.run(
        backup_verify.VerifySettings(
            project=settings.project,
            backup_dir=settings.backup_dir,
            method="quick" if encrypted else "full",
            service_names=settings.service_names,
            textfile_dir=settings.textfile_dir,
        ),
        states,
    )
    how = "its checksums hold" if encrypted else "restored, and found equal"
    if answer["ok"]:
        return [f"database backup {answer['id']}: {how}"], True
    return [f"database backup {answer['id']} is not good: {text}" for text in answer["problems"]], (
        False
    )


def _text(error: BaseException) -> str:
    hint = getattr(error, "hint", "")
    return f"{error}; next: {hint}" if hint else str(error)


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"{os.path.basename(sys.argv[0])}: {text}\n")  # noqa: PTH119
    return code
