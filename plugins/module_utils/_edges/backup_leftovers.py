# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What backups of runs that died have left, removed by the next one."""

from __future__ import annotations

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
