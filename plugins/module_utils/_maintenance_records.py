# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people did or did not do in time: backups made, the runbook reviewed."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    DATABASE,
    KINDS,
    Backup,
    newest_first,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_info import (
    days_left,
    growth_by_kind,
    next_bytes,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    WARNING,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    format_bytes,
    plural,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc

#: As the runbook makes them by hand.
UNMANAGED_SUFFIXES = (".sql", ".sql.gz")
#: What gzip makes of nothing is smaller, and is what is left of a dump that failed in a pipe.
MIN_DUMP_BYTES = 64
#: A clock may be a little off; a backup from further in the future proves nothing.
FUTURE_TOLERANCE_SECONDS = 300


@dataclass(frozen=True)
class BackupRecord:
    """``finished_at`` in seconds since the epoch. ``managed`` is set for one with a manifest;
    ``damage`` says what is wrong with it."""

    kind: str
    name: str
    finished_at: float
    managed: bool
    size_bytes: int = 0
    damage: str = ""


def record_of(backup: Backup) -> BackupRecord:
    """A managed backup, dated by its manifest, whose file may have been copied about."""
    made_at = parse_utc(backup.manifest.created_at).timestamp() if backup.manifest else 0.0
    return BackupRecord(backup.kind, backup.id, made_at, managed=True, damage=backup.damage)


def is_working_name(name: str) -> bool:
    """Whether a folder or file is one still being written, by its name."""
    return name.startswith(".") or name.endswith((".partial", ".tmp", ".part"))


def age_text(seconds: float) -> str:
    """C{40 min}, C{3 h}, C{12 days}."""
    if seconds < 2 * 3600:
        return f"{int(seconds // 60)} min"
    if seconds < 72 * 3600:
        return f"{int(seconds // 3600)} h"
    return f"{int(seconds // 86400)} days"


def backup_age(
    target: Target, records: Iterable[BackupRecord], now: float, backup_dir: str
) -> Measurement:
    """The age of the newest database backup; the other kinds are told in the detail, for a
    fresh copy of the configuration is no comfort when the database's is a month old."""
    usable, refused = [], []
    for record in records:
        if record.damage:
            refused.append(f"{record.name} is damaged")
        elif not record.managed and record.size_bytes < MIN_DUMP_BYTES:
            refused.append(f"{record.name} is empty")
        elif record.finished_at > now + FUTURE_TOLERANCE_SECONDS:
            refused.append(f"{record.name} is dated in the future")
        else:
            usable.append(record)
    newest: dict[str, BackupRecord] = {}
    for record in usable:
        best = newest.get(record.kind)
        if best is None or record.finished_at > best.finished_at:
            newest[record.kind] = record
    remark = f"; not counted: {_listed(refused)}" if refused else ""
    if not newest and not refused:
        return Measurement(target, status=SKIPPED, message=f"no backups yet below {backup_dir}")
    detail = [
        {
            "kind": kind,
            "name": newest[kind].name,
            "age_hours": round(max(0.0, now - newest[kind].finished_at) / 3600, 1),
            "managed": newest[kind].managed,
        }
        for kind in KINDS
        if kind in newest
    ]
    database = newest.get(DATABASE)
    if database is None:
        others = ", ".join(kind for kind in KINDS if kind in newest) or "nothing"
        return Measurement(
            target,
            status=WARNING,
            message=f"no usable database backup below {backup_dir}/database, "
            f"{others} elsewhere{remark}",
            detail=detail or None,
        )
    age = max(0.0, now - database.finished_at)
    unmanaged = "" if database.managed else ", an unmanaged file whose content nobody has proved"
    return Measurement(
        target,
        value=round(age / 3600, 1),
        message=f"newest database backup {database.name} is {age_text(age)} old{unmanaged}{remark}",
        detail=detail,
    )


def damaged_backups(target: Target, backups: Sequence[Backup], backup_dir: str) -> Measurement:
    """The newest one of a kind that is damaged is critical: it is the one that would be taken."""
    if not backups:
        return Measurement(target, status=SKIPPED, message=f"no backups yet below {backup_dir}")
    damaged = [one for one in newest_first(backups) if one.damage]
    newest: dict[str, Backup] = {}
    for one in newest_first(backups):
        newest.setdefault(one.kind, one)
    worst = [one for one in damaged if newest[one.kind] is one]
    names = _listed([f"{one.kind}/{one.id}: {one.damage}" for one in worst or damaged])
    if worst:
        return Measurement(target, len(damaged), f"the newest is damaged: {names}", CRITICAL)
    if damaged:
        text = f"{len(damaged)} of {plural(len(backups), 'backup')}, none of them the newest"
        return Measurement(target, len(damaged), f"{text}: {names}", WARNING)
    return Measurement(target, 0, f"none of {plural(len(backups), 'backup')} is known to be", OK)


def verified_backup(target: Target, backups: Sequence[Backup], now: float) -> Measurement:
    """How long ago a database backup that is still there was restored and found equal."""
    own = [one for one in backups if one.kind == DATABASE]
    if not own:
        return Measurement(target, status=SKIPPED, message="no managed database backups")
    proofs = sorted(
        (one.full.verified_at, one.id) for one in own if one.is_verified and one.full is not None
    )
    if not proofs:
        return Measurement(
            target,
            status=WARNING,
            message=f"none of {plural(len(own), 'database backup')} has been restored to prove it",
        )
    verified_at, name = proofs[-1]
    age = max(0.0, now - parse_utc(verified_at).timestamp())
    return Measurement(
        target, round(age / 86400, 1), f"{name} was restored and found equal {age_text(age)} ago"
    )


def backup_space(
    target: Target, backups: Sequence[Backup], free_bytes: int, now: float, backup_dir: str
) -> Measurement:
    """How many days the free space does at the growth of what is kept."""
    if not backups:
        return Measurement(target, status=SKIPPED, message=f"no backups yet below {backup_dir}")
    ordered = newest_first(backups)
    needed = next_bytes(ordered)
    free = f"{format_bytes(free_bytes)} free"
    if free_bytes < needed:
        return Measurement(
            target,
            0,
            f"{free}, expected {format_bytes(needed)} for the next backups, "
            "if they are as large as the last ones",
            CRITICAL,
        )
    growth = growth_by_kind(ordered, datetime.datetime.fromtimestamp(now, datetime.timezone.utc))
    if not growth:
        return Measurement(target, None, f"{free}; growth is known after a day of backups", OK)
    total = sum(growth.values())
    left = days_left(free_bytes, total)
    if left is None:
        return Measurement(target, None, f"{free}; the backups do not grow", OK)
    return Measurement(target, left, f"{free}, growing by {format_bytes(total)} a day")


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - 3
    return ", ".join(texts[:3]) + (f" and {more} more" if more > 0 else "")


def parse_review_date(text: str) -> datetime.date:
    """C{YYYY-MM-DD}. Raises L{ValueError} for anything else."""
    try:
        return datetime.datetime.strptime(text.strip(), "%Y-%m-%d").date()
    except ValueError:
        raise ValueError(f"runbook_reviewed: seen {text!r}, expected YYYY-MM-DD") from None


def runbook_review(
    target: Target, reviewed: Optional[str], review_days: int, today: datetime.date
) -> Measurement:
    """Days since the review was due, negative while there is time. Raises L{ValueError} for a
    date that is none."""
    if not reviewed:
        return Measurement(
            target,
            status=SKIPPED,
            message="nobody has said when the runbook was reviewed (pynomaly_runbook_reviewed)",
        )
    date = parse_review_date(reviewed)
    if date > today:
        return Measurement(
            target,
            status=WARNING,
            message=f"reviewed on {date.isoformat()}, which is in the future "
            f"(today is {today.isoformat()})",
        )
    overdue = (today - date).days - review_days
    told = f"reviewed on {date.isoformat()}, every {review_days} days expected"
    if overdue > 0:
        return Measurement(target, value=overdue, message=f"{told}, {overdue} days overdue")
    return Measurement(
        target,
        value=overdue,
        message=f"{told}, {-overdue} days left",
    )
