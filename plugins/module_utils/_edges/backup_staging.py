# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup while it is being made: whether it fits, its folder aside, what a run that died left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    STAGING_PREFIX,
    BackupError,
    Manifest,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_space import (
    expected_bytes,
    space_problem,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.helper_container import (
    left_helpers,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)

STAGING_STATE = "backup_staging"


def remove_leftovers(
    engine: EngineControl, store: BackupStore, states: TemporaryStates
) -> list[str]:
    """Remove the project's helper containers and unfinished backups, and close what the journal
    says of them. Under the host's lock all of them are of dead runs.

    Returns what was removed. Raises L{BackupError}, C{EngineError}, and what L{TemporaryStates}
    raises.
    """
    removed = []
    for identifier in left_helpers(engine, store.project):
        engine.remove(identifier)
        removed.append(f"container {identifier[:12]}")
    for path in store.stagings():
        store.discard(path)
        removed.append(str(path))
    if any(record["temporary_state"] == STAGING_STATE for record in states.left()):
        states.close(STAGING_STATE, "removed: its run had died")
    return removed


def no_backup(kind: str, identifier: str) -> dict[str, Any]:
    """What a backup's module returns as long as nothing was made."""
    return {
        "changed": False,
        "made": False,
        "reason": "",
        "kind": kind,
        "id": identifier,
        "path": "",
        "size_bytes": 0,
        "duration_seconds": 0.0,
        "members": 0,
        "left_out": [],
        "remarks": [],
    }


def check_space(
    store: BackupStore,
    source_bytes: Optional[int],
    last: Optional[Manifest],
    *,
    reserve_bytes: int,
    is_encrypted: bool,
) -> None:
    """Raise L{BackupError} where a backup would probably not fit.

    ``source_bytes`` is the size of what goes into it, where that is known; ``last`` the manifest
    of the last one of the same.
    """
    needed = expected_bytes(source_bytes, last.size_bytes if last else None)
    if is_encrypted:
        needed *= 2  # the clear and the encrypted one are there at the same time
    problem = space_problem(needed, store.free_bytes(), reserve_bytes, str(store.directory))
    if problem:
        raise BackupError(problem, "ansible-playbook pynomaly.ops.backup_list shows what is kept")


@contextlib.contextmanager
def beside(
    store: BackupStore, states: TemporaryStates, kind: str, identifier: str, purpose: str
) -> Iterator[Path]:
    """An empty folder of mode 0700 for work on a backup that is there, gone after the block.

    It is in the journal while it is there, and has a staging's name, so that what a run that died
    leaves there, in the clear or not, is removed like one. Raises L{BackupError}.
    """
    path = store.folder(kind) / f"{STAGING_PREFIX}{identifier}.{purpose}"
    details = {"path": str(path), "kind": kind, "id": identifier}
    states.open(STAGING_STATE, f"{kind} backup {identifier}: {purpose}", details)
    try:
        try:
            path.mkdir(mode=0o700)
        except OSError as error:
            raise BackupError(
                f"{path} cannot be made: {error.strerror}", f"df -h {store.directory}"
            ) from error
        yield path
    finally:
        if path.exists():
            store.discard(path)
        states.close(STAGING_STATE)


@contextlib.contextmanager
def staged(
    store: BackupStore, states: TemporaryStates, kind: str, identifier: str
) -> Iterator[Path]:
    """A folder to write a backup to, in the journal while it is there.

    What the block leaves there, by failing, is removed; where that fails too, the journal's entry
    stays open. Raises L{BackupError}.
    """
    path = store.folder(kind) / f"{STAGING_PREFIX}{identifier}"
    details = {"path": str(path), "kind": kind, "id": identifier}
    states.open(STAGING_STATE, f"{kind} backup {identifier} is being written", details)
    try:
        try:
            yield store.stage(kind, identifier)
        except OSError as error:
            raise BackupError(
                f"the {kind} backup could not be written: "
                f"{error.filename or path}: {error.strerror or error}",
                f"df -h {store.directory}",
            ) from error
    except BaseException:
        if path.exists():
            store.discard(path)
        states.close(STAGING_STATE, f"{kind} backup {identifier} failed, and is removed")
        raise
    states.close(STAGING_STATE)
