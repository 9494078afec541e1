# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removing the backups that a policy does not keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError, is_id
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_retention import (
    Decision,
    RetentionPolicy,
    as_if_made,
    plan,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import (
    BackupStore,
    utc_now,
)


@dataclass(frozen=True)
class RetentionSettings:
    """``made`` is the id of the backup of this kind that this run has made."""

    project: str
    kind: str
    backup_dir: str
    made: str
    policy: RetentionPolicy


def run(settings: RetentionSettings, dry_run: bool = False) -> dict[str, Any]:
    """Remove what the policy does not keep, under the host's lock; returns what the module returns.

    With ``dry_run`` nothing is removed, and ``made`` counts as made. Raises L{BackupError}.
    """
    if not is_id(settings.made):
        raise BackupError(
            f"made: seen {settings.made!r}, expected one like pynomaly-20261124T030000Z"
        )
    store = BackupStore(settings.backup_dir, settings.project)
    backups = store.backups([settings.kind])
    if dry_run:
        backups = as_if_made(backups, settings.kind, settings.made, settings.project)
    decided = plan(backups, settings.policy, settings.made, utc_now())
    if not dry_run:
        for decision in reversed(decided.removed):
            store.discard(Path(decision.backup.path))
    return {
        "changed": bool(decided.removed),
        "kept": _named(decided.kept),
        "removed": _named(decided.removed),
        "withheld": decided.withheld,
        "diff": {
            "before": _lines([*decided.kept, *decided.removed]),
            "after": _lines(decided.kept),
        },
    }


def _named(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    return [{"id": one.backup.id, "reasons": list(one.reasons)} for one in decisions]


def _lines(decisions: Sequence[Decision]) -> str:
    names = sorted((f"{one.backup.kind}/{one.backup.id}" for one in decisions), reverse=True)
    return "".join(f"{name}\n" for name in names)
