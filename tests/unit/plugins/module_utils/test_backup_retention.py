# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    FULL,
    QUICK,
    Backup,
    BackupError,
    Manifest,
    Verification,
    new_id,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_retention import (
    RetentionPlan,
    RetentionPolicy,
    as_if_made,
    plan,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

NOW = datetime.datetime(2026, 11, 24, 3, 0, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
YEAR = datetime.timedelta(days=365)


def backup(
    days_ago: float, *, whole: bool = True, verified: bool = False, refuted: bool = False
) -> Backup:
    moment = NOW - DAY * days_ago
    identifier = new_id("pynomaly", moment)
    manifest = Manifest(identifier, "database", "pynomaly", utc_text(moment), 1.0, ())
    full = Verification(utc_text(moment), FULL, True) if verified else None
    quick = Verification(utc_text(NOW), QUICK, False, ("a bit has flipped",)) if refuted else None
    made = Backup("database", identifier, f"/b/{identifier}", manifest, full=full, quick=quick)
    return made if whole else replace(made, manifest=None, problem="manifest.json is missing")


def decide(
    backups: Sequence[Backup],
    policy: RetentionPolicy,
    made: Backup | None = None,
    now: datetime.datetime = NOW,
) -> RetentionPlan:
    newest = made or max(backups, key=lambda one: one.id)
    return plan(backups, policy, newest.id, now)


def ids(decisions: Sequence[object]) -> set[str]:
    return {one.backup.id for one in decisions}  # type: ignore[attr-defined]


def test_each_rule_keeps_the_newest_of_its_buckets() -> None:
    daily = [backup(days) for days in range(120)]
    decided = decide(daily, RetentionPolicy(2, 3, 2, 2))
    reasons = {one.backup.id[9:17]: list(one.reasons) for one in decided.kept}
    assert reasons == {
        "20261124": [
            "last",
            "day 2026-11-24",
            "week 2026-W48",
            "month 2026-11",
            "made by this run",
        ],
        "20261123": ["last", "day 2026-11-23"],
        "20261122": ["day 2026-11-22", "week 2026-W47"],
        "20261031": ["month 2026-10"],
    }
    assert len(decided.kept) + len(decided.removed) == 120
    assert {one.reasons[0] for one in decided.removed} == {
        "expired: no rule of the policy keeps it"
    }


def test_several_a_day_count_once_for_the_day() -> None:
    hourly = [backup(hours / 24) for hours in range(72)]
    decided = decide(hourly, RetentionPolicy(keep_daily=2))
    assert [one.backup.id for one in decided.kept] == [
        "pynomaly-20261124T030000Z",
        "pynomaly-20261123T230000Z",
    ]


def test_after_a_pause_the_same_backups_stay_as_before_it() -> None:
    old = [backup(days) for days in range(200, 230)]
    before = decide(old, RetentionPolicy(keep_daily=7), now=NOW - 200 * DAY)
    fresh = backup(0)
    after = decide([*old, fresh], RetentionPolicy(keep_daily=7))
    lost = ids(before.kept) - ids(after.kept)
    assert lost == {backup(206).id}, "the new day takes the place of the oldest, and of no other"


def test_one_backup_alone_stays() -> None:
    for policy in (RetentionPolicy(1), RetentionPolicy(keep_monthly=1)):
        decided = decide([backup(0)], policy)
        assert (len(decided.kept), decided.removed, decided.withheld) == (1, [], "")


def test_the_newest_verified_one_stays_however_old() -> None:
    backups = [backup(0), *(backup(days) for days in range(1, 40)), backup(300, verified=True)]
    decided = decide([*backups, backup(301, verified=True)], RetentionPolicy(1))
    assert {one.backup.id: list(one.reasons) for one in decided.kept} == {
        backup(0).id: ["last", "made by this run"],
        backup(300).id: ["newest verified"],
    }
    assert backup(301).id in ids(decided.removed)


def test_one_verified_and_found_damaged_since_does_not_count_as_verified() -> None:
    refuted = backup(10, verified=True, refuted=True)
    good = backup(20, verified=True)
    decided = decide([backup(0), refuted, good], RetentionPolicy(1))
    assert ids(decided.kept) == {backup(0).id, good.id}


@pytest.mark.parametrize("bad", [{"whole": False}, {"refuted": True}])
def test_nothing_is_removed_while_the_newest_is_damaged(bad: dict[str, bool]) -> None:
    made = backup(1)
    backups = [backup(0, **bad), made, *(backup(days) for days in range(2, 50))]
    decided = decide(backups, RetentionPolicy(1), made)
    assert decided.removed == []
    assert "the newest backup pynomaly-20261124T030000Z is damaged" in decided.withheld
    assert ids(decided.kept) == {one.id for one in backups}


@pytest.mark.parametrize("bad", [{"whole": False}, {"refuted": True}])
def test_nothing_is_removed_where_this_runs_own_is_damaged_or_missing(bad: dict[str, bool]) -> None:
    backups = [backup(days) for days in range(1, 30)]
    missing = decide(backups, RetentionPolicy(1), backup(0))
    assert (missing.removed, "own backup" in missing.withheld) == ([], True)
    own = backup(0, **bad)
    damaged = decide([own, *backups], RetentionPolicy(1), own)
    assert (damaged.removed, "this run's own" in damaged.withheld) == ([], True)


def test_damaged_ones_take_nobodys_place_and_stay_for_a_while() -> None:
    backups = [
        backup(0),
        backup(1, whole=False),
        backup(2),
        backup(3, refuted=True),
        backup(4),
        backup(5, whole=False),
        backup(6),
    ]
    decided = decide(backups, RetentionPolicy(3))
    assert ids(decided.kept) == {backup(days).id for days in (0, 1, 2, 3, 4)}
    assert ids(decided.removed) == {backup(days).id for days in (5, 6)}
    reason = next(one.reasons[0] for one in decided.kept if one.backup.id == backup(1).id)
    assert reason == "damaged, to be looked at: manifest.json is missing"


def test_a_damaged_one_goes_only_once_a_newer_one_is_whole() -> None:
    damaged = [backup(days, whole=False) for days in (1, 2)]
    decided = decide([backup(0), *damaged], RetentionPolicy(keep_daily=1))
    assert ids(decided.removed) == {one.id for one in damaged}
    older = decide([backup(5), *damaged], RetentionPolicy(1), backup(5))
    assert older.removed == []


def test_a_clock_a_year_ahead_removes_no_more_than_the_next_month_does() -> None:
    policy = RetentionPolicy(3, 3, 2, 2)
    backups = [backup(days) for days in range(60)]
    ahead, next_month = backup(-365), backup(-7)
    wrong = decide([ahead, *backups], policy, ahead, NOW + YEAR)
    right = decide([next_month, *backups], policy, next_month, NOW + 7 * DAY)
    assert ids(wrong.kept) - {ahead.id} == ids(right.kept) - {next_month.id}
    # Once the clock is right again, the one dated in the future takes nobody's place.
    without = decide(backups, policy, backup(0))
    mended = decide([ahead, *backups], policy, backup(0))
    assert ids(mended.kept) == ids(without.kept) | {ahead.id}
    reasons = next(one.reasons for one in mended.kept if one.backup.id == ahead.id)
    assert reasons == ["dated in the future (it is 2026-11-24T03:00:00.000Z)"]


def test_a_clock_a_year_behind_removes_nothing_at_all() -> None:
    backups = [backup(days) for days in range(1, 60)]
    behind = backup(365)
    decided = decide([*backups, behind], RetentionPolicy(1), behind, NOW - YEAR)
    assert (decided.removed, decided.withheld) == ([], "")
    mended = decide([*backups, behind, backup(0)], RetentionPolicy(keep_last=5), backup(0))
    assert {backup(days).id for days in range(5)} <= ids(mended.kept)


def test_properties_hold_for_any_backups_and_policy() -> None:
    chance = random.Random(7)  # noqa: S311  # not for secrets
    removed_some = 0
    for _round in range(400):
        days = chance.sample(range(-30, 400), chance.randint(1, 40))
        backups = [
            backup(
                number,
                whole=chance.random() > 0.15,
                verified=chance.random() > 0.7,
                refuted=chance.random() > 0.9,
            )
            for number in days
        ]
        last, daily, weekly = (chance.randint(0, 4) for _rule in range(3))
        policy = RetentionPolicy(last, daily, weekly, keep_monthly=1)
        made = chance.choice(backups)
        decided = decide(backups, policy, made)
        kept, removed = ids(decided.kept), ids(decided.removed)
        assert kept | removed == {one.id for one in backups}
        assert not kept & removed
        if made.damage or decided.withheld:
            assert not removed
            continue
        removed_some += bool(removed)
        assert made.id in kept
        verified = sorted(one.id for one in backups if one.is_verified)
        assert not verified or verified[-1] in kept
        whole = sorted(one.id for one in backups if not one.damage)
        present = [one for one in whole if one <= new_id("pynomaly", NOW)]
        assert set(present[len(present) - policy.keep_last :] if policy.keep_last else ()) <= kept
        for one in backups:
            if one.damage and one.id in removed:
                assert whole[-1] > one.id
        again = decide([one for one in backups if one.id in kept], policy, made)
        assert ids(again.kept) == kept, "running it twice removes nothing more"
    assert removed_some > 50


def test_a_policy_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(BackupError, match="seen 0 for each of keep_last, keep_daily"):
        decide([backup(0)], RetentionPolicy())
    with pytest.raises(BackupError, match="keep_weekly: seen -1, expected 0 or more"):
        decide([backup(0)], RetentionPolicy(1, keep_weekly=-1))


def test_kinds_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="several kinds"):
        decide([backup(0), replace(backup(1), kind="config")], RetentionPolicy(1))


def test_what_a_run_would_make_counts_in_check_mode() -> None:
    backups = [backup(days) for days in (1, 2)]
    would = as_if_made(backups, "database", backup(0).id, "pynomaly")
    decided = plan(would, RetentionPolicy(2), backup(0).id, NOW)
    assert ids(decided.removed) == {backup(2).id}
    assert as_if_made(backups, "database", backup(1).id, "pynomaly") == backups


def test_damage() -> None:
    assert backup(0).damage == ""
    assert backup(0, whole=False).damage == "manifest.json is missing"
    assert backup(0, refuted=True).damage == "a bit has flipped"
