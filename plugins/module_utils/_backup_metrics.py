# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of a project's backups, as metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import Backup, newest_first
from ansible_collections.pynomaly.ops.plugins.module_utils._metrics_text import family, labels
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc


def render_metrics(project: str, kinds: Iterable[str], backups: Sequence[Backup]) -> str:
    """The textfile of one project. A kind that never had a backup has a count of 0 and no times."""
    made: dict[str, float] = {}
    sizes: dict[str, float] = {}
    verified: dict[str, float] = {}
    outcomes: dict[str, float] = {}
    counts: dict[str, float] = {}
    damaged: dict[str, float] = {}
    for kind in kinds:
        key = labels([("project", project), ("kind", kind)])
        own = newest_first(one for one in backups if one.kind == kind)
        whole = [one.manifest for one in own if one.manifest is not None]
        counts[key] = len(whole)
        damaged[key] = sum(1 for one in own if not one.is_whole or one.is_refuted)
        for newest in whole[:1]:
            made[key] = parse_utc(newest.created_at).timestamp()
            sizes[key] = newest.size_bytes
        proofs = [one.full for one in own if one.full is not None]
        if proofs:
            last = max(proofs, key=lambda one: one.verified_at)
            outcomes[key] = 1 if last.ok else 0
        good = [one.full.verified_at for one in own if one.is_verified and one.full is not None]
        if good:
            verified[key] = parse_utc(max(good)).timestamp()
    lines = [
        *family("pynomaly_backup_count", "Whole backups on the host.", counts),
        *family("pynomaly_backup_damaged_count", "Backups found damaged.", damaged),
        *family(
            "pynomaly_backup_timestamp_seconds",
            "When the newest whole backup was made, in seconds since 1970.",
            made,
        ),
        *family("pynomaly_backup_size_bytes", "Size of the newest whole backup.", sizes),
        *family(
            "pynomaly_backup_verified_timestamp_seconds",
            "When a backup was last restored and found equal, in seconds since 1970.",
            verified,
        ),
        *family(
            "pynomaly_backup_verification_success",
            "Whether the last backup that was restored to prove it was found equal.",
            outcomes,
        ),
    ]
    return "\n".join(lines) + "\n"
