# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of the backups, as facts: of each one, of what they take, how long that will do."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    CONFIG,
    DATABASE,
    MODELS,
    REDIS,
    Backup,
    id_time,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_retention import (
    FUTURE_TOLERANCE,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    format_bytes,
    plural,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc

#: How far back growth is looked at: a month's backups, of whatever policy.
GROWTH_WINDOW = datetime.timedelta(days=30)
_GROWTH_MIN_SPAN = datetime.timedelta(hours=20)
_DAY_SECONDS = 86400.0


def backup_facts(backup: Backup, now: datetime.datetime) -> dict[str, Any]:
    """One backup: when, how large, of what, verified when and how, restorable by what."""
    manifest = backup.manifest
    look = backup.last_look
    made_at = parse_utc(manifest.created_at) if manifest else id_time(backup.id)
    return {
        "kind": backup.kind,
        "id": backup.id,
        "path": backup.path,
        "created_at": f"{made_at:%Y-%m-%dT%H:%M:%SZ}",
        "age_seconds": round((now - made_at).total_seconds()),
        "size_bytes": manifest.size_bytes if manifest else None,
        "duration_seconds": manifest.duration_seconds if manifest else None,
        "what": what_is_in(backup),
        "encrypted": bool(manifest and manifest.encryption),
        "whole": backup.is_whole,
        "verified": backup.is_verified,
        "verified_at": look.verified_at if look else None,
        "verified_by": look.method if look else None,
        "restorable_by": restorable_by(backup),
        "problem": backup.damage,
    }


def what_is_in(backup: Backup) -> str:
    """A few words; empty where the manifest does not say."""
    if backup.manifest is None:
        return ""
    content = backup.manifest.content
    members = content.get("members") or {}
    if backup.kind == DATABASE:
        database = content.get("database") or {}
        tables = content.get("tables")
        words = [str(database.get("name") or "")]
        if isinstance(tables, Mapping):
            words.append(plural(len(tables), "table"))
        if isinstance(database.get("size_bytes"), int):
            words.append(format_bytes(database["size_bytes"]))
        return ", ".join(word for word in words if word)
    if backup.kind in (CONFIG, MODELS) and "count" in members:
        of = content.get("working_dir") or ", ".join(content.get("paths") or ())
        return f"{plural(members['count'], 'file')} of {of}" if of else ""
    if backup.kind == REDIS and "keys" in content:
        return plural(int(content["keys"]), "key")
    return ""


def minimum_major(backup: Backup) -> Optional[int]:
    """The oldest major version of PostgreSQL that can take a database backup: the one that it was
    made of. https://www.postgresql.org/docs/current/app-pgdump.html, Notes"""
    if backup.kind != DATABASE or backup.manifest is None:
        return None
    version = str(backup.manifest.versions.get("server") or "")
    digits = version.partition(".")[0].partition(" ")[0]
    return int(digits) if digits.isdigit() else None


def restorable_by(backup: Backup) -> str:
    """In words; empty where it is not known or nothing in particular is needed."""
    major = minimum_major(backup)
    if major is not None:
        return f"PostgreSQL {major} and newer"
    if backup.kind == REDIS and backup.manifest is not None:
        version = str(backup.manifest.versions.get("redis") or "")
        return f"Redis {'.'.join(version.split('.')[:2])} and newer" if version else ""
    return ""


def growth_bytes_per_day(backups: Sequence[Backup], now: datetime.datetime) -> Optional[float]:
    """How what one kind's backups take together has grown, by what each found when it was made:
    with what retention removed, and without what is dated in the future.

    C{None} where the last month has no two backups a day apart.
    """
    points = sorted(
        (id_time(one.id), one.manifest.stored_bytes)
        for one in backups
        if one.manifest is not None
        and one.manifest.stored_bytes > 0
        and id_time(one.id) <= now + FUTURE_TOLERANCE
    )
    points = [point for point in points if point[0] >= points[-1][0] - GROWTH_WINDOW]
    if len(points) < 2 or points[-1][0] - points[0][0] < _GROWTH_MIN_SPAN:
        return None
    seconds = (points[-1][0] - points[0][0]).total_seconds()
    return (points[-1][1] - points[0][1]) / seconds * _DAY_SECONDS


def growth_by_kind(backups: Sequence[Backup], now: datetime.datetime) -> dict[str, float]:
    """L{growth_bytes_per_day} of each kind of which it is known."""
    found = {}
    for kind in {one.kind for one in backups}:
        growth = growth_bytes_per_day([one for one in backups if one.kind == kind], now)
        if growth is not None:
            found[kind] = growth
    return found


def next_bytes(backups: Sequence[Backup]) -> int:
    """What the next backup of every kind takes, if each is as large as the newest of its kind."""
    newest: dict[str, int] = {}
    for one in backups:  # newest first
        if one.manifest is not None:
            newest.setdefault(one.kind, one.manifest.size_bytes)
    return sum(newest.values())


def storage_facts(
    backups: Sequence[Backup], used: Mapping[str, int], free_bytes: int, now: datetime.datetime
) -> dict[str, Any]:
    """What the backups take, by kind, and how many days the filesystem does at their growth;
    C{days_left} is C{None} where they do not grow, or nobody knows yet."""
    growth = growth_by_kind(backups, now)
    kinds = {
        kind: {
            "count": sum(one.kind == kind for one in backups),
            "used_bytes": used_bytes,
            "growth_bytes_per_day": None if growth.get(kind) is None else round(growth[kind]),
        }
        for kind, used_bytes in used.items()
    }
    total = sum(growth.values()) if growth else None
    return {
        "kinds": kinds,
        "free_bytes": free_bytes,
        "next_bytes": next_bytes(backups),
        "growth_bytes_per_day": None if total is None else round(total),
        "days_left": days_left(free_bytes, total),
    }


def days_left(free_bytes: int, growth: Optional[float]) -> Optional[float]:
    """Days until the free space is used up; C{None} where it does not get less."""
    if growth is None or growth < 1:
        return None
    return round(free_bytes / growth, 1)
