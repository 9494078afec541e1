# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which backups stay, and which are removed after a new one has succeeded.

Days, weeks and months are counted where they have backups, and never from now. After a month
without any, the same ones stay as before it; and a backup from a clock that is a year ahead takes
as many places as the next month's first one would, no more. What is not sure is kept:

- A backup dated in the future, from a time when the clock was wrong, stays until that date, and
  takes nobody's place.
- A damaged one (not whole, or found damaged by the latest verification) takes nobody's place. It
  stays to be looked at for as long as it would have stayed by C{keep_last}, at least until a
  newer whole one is there.
- The newest verified one stays, whatever the policy says.
- Nothing at all is removed while the newest backup is damaged, or without a whole one made by the
  run that asks.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    Backup,
    BackupError,
    Manifest,
    id_time,
    newest_first,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

#: A clock may be a little off.
FUTURE_TOLERANCE = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class RetentionPolicy:
    """How many to keep: of the newest backups, and of the days, ISO weeks and months that have
    backups, the newest backup of each."""

    keep_last: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0

    def validate(self) -> None:
        """Raise L{BackupError} for a policy that keeps nothing, or less."""
        for name, number in vars(self).items():
            if number < 0:
                raise BackupError(f"{name}: seen {number}, expected 0 or more")
        if not any(vars(self).values()):
            raise BackupError(
                f"retention: seen 0 for each of {', '.join(vars(self))}, "
                "expected a number above 0 for one of them at least"
            )


@dataclass(frozen=True)
class Decision:
    """About one backup: why it is kept, or why it is removed."""

    backup: Backup
    reasons: Sequence[str]


@dataclass(frozen=True)
class RetentionPlan:
    """All backups are in one of the two, newest first. ``withheld`` says why nothing is removed
    though the policy might; it is empty where the policy was applied."""

    kept: Sequence[Decision]
    removed: Sequence[Decision]
    withheld: str = ""


def plan(
    backups: Sequence[Backup], policy: RetentionPolicy, made: str, now: datetime.datetime
) -> RetentionPlan:
    """What of one kind's backups stays once ``made``, the id of this run's own, is there.

    ``now`` tells only which dates are in the future. Raises L{BackupError} for a policy that keeps
    nothing, C{ValueError} for backups of several kinds.
    """
    policy.validate()
    if len({one.kind for one in backups}) > 1:
        raise ValueError("retention: seen backups of several kinds, expected those of one")
    ordered = newest_first(backups)
    future = [one for one in ordered if id_time(one.id) > now + FUTURE_TOLERANCE]
    dated = [one for one in ordered if one not in future]
    withheld = _withheld(future, dated, made)
    if withheld:
        return RetentionPlan([Decision(one, [withheld]) for one in ordered], [], withheld)
    whole = [one for one in dated if not one.damage]
    reasons: dict[str, list[str]] = {one.id: [] for one in ordered}
    for one in future:
        reasons[one.id].append(f"dated in the future (it is {utc_text(now)})")
    for one in whole[: policy.keep_last]:
        reasons[one.id].append("last")
    for name, number, bucket in (
        ("day", policy.keep_daily, _day),
        ("week", policy.keep_weekly, _week),
        ("month", policy.keep_monthly, _month),
    ):
        for label, one in _newest_of_each(whole, number, bucket):
            reasons[one.id].append(f"{name} {label}")
    for group in (ordered, whole):
        verified = next((one for one in group if one.is_verified), None)
        if verified is not None and "newest verified" not in reasons[verified.id]:
            reasons[verified.id].append("newest verified")
    reasons[made].append("made by this run")
    for one in dated:
        if one.damage and _newer(whole, one) < max(policy.keep_last, 1):
            reasons[one.id].append(f"damaged, to be looked at: {one.damage}")
    kept = [Decision(one, reasons[one.id]) for one in ordered if reasons[one.id]]
    removed = [Decision(one, [_expired(one)]) for one in ordered if not reasons[one.id]]
    return RetentionPlan(kept, removed)


def as_if_made(backups: Sequence[Backup], kind: str, made: str, project: str) -> list[Backup]:
    """The same with a whole backup of that id, where it is not there: for a run that only says what
    it would do."""
    if any(one.id == made for one in backups):
        return list(backups)
    manifest = Manifest(made, kind, project, utc_text(id_time(made)), 0.0, ())
    return [*backups, Backup(kind, made, "", manifest)]


def _withheld(future: Sequence[Backup], dated: Sequence[Backup], made: str) -> str:
    own = next((one for one in (*future, *dated) if one.id == made), None)
    if own is None:
        return f"nothing is removed: this run's own backup {made} is not there"
    for one in (own, *future[:1], *dated[:1]):
        if one.damage:
            which = "this run's own" if one is own else "the newest"
            return f"nothing is removed: {which} backup {one.id} is damaged: {one.damage}"
    return ""


def _newest_of_each(
    newest_first_backups: Sequence[Backup], number: int, bucket: Callable[[datetime.datetime], str]
) -> list[tuple[str, Backup]]:
    found: dict[str, Backup] = {}
    for one in newest_first_backups:
        label = bucket(id_time(one.id))
        if label not in found:
            if len(found) == number:
                break
            found[label] = one
    return list(found.items())


def _day(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _week(moment: datetime.datetime) -> str:
    year, week, _day_of_week = moment.isocalendar()
    return f"{year}-W{week:02d}"


def _month(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m}"


def _newer(whole: Sequence[Backup], than: Backup) -> int:
    return sum(id_time(one.id) > id_time(than.id) for one in whole)


def _expired(backup: Backup) -> str:
    if backup.damage:
        return f"damaged ({backup.damage}), and newer ones are whole"
    return "expired: no rule of the policy keeps it"
