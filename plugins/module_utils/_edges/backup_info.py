# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which backups there are, and what they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import new_id
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_info import (
    backup_facts,
    storage_facts,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import (
    BackupStore,
    utc_now,
)


def run(store: BackupStore, kinds: Sequence[str]) -> dict[str, Any]:
    """What the module returns. Raises L{BackupError}."""
    now = utc_now()
    backups = store.backups(kinds)
    used = {kind: store.used_bytes(kind) for kind in kinds}
    return {
        "changed": False,
        "backups": [backup_facts(one, now) for one in backups],
        "storage": storage_facts(backups, used, store.free_bytes(), now),
        "stagings": [str(path) for path in store.stagings()],
        "new_id": new_id(store.project, now),
        "backup_dir": str(store.directory),
    }
