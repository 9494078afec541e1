# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    Backup,
    BackupFile,
    Manifest,
    new_id,
    new_verification,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_info import (
    backup_facts,
    days_left,
    growth_by_kind,
    growth_bytes_per_day,
    minimum_major,
    next_bytes,
    restorable_by,
    storage_facts,
    what_is_in,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_text import (
    backup_lines,
    outcome,
    outcome_lines,
    table,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
GIB = 1024**3

DATABASE_CONTENT = {
    "database": {"name": "shop", "size_bytes": 3 * GIB},
    "tables": {"public.a": {}, "public.b": {}},
}


def backup(
    days_ago: float = 0, kind: str = "database", stored: int = 0, size: int = 1000, **changes: Any
) -> Backup:
    moment = NOW - DAY * days_ago
    identifier = new_id("shop", moment)
    manifest = Manifest(
        identifier,
        kind,
        "shop",
        utc_text(moment),
        4.2,
        (BackupFile("dump.bin", size, "0" * 64),),
        stored_bytes=stored,
        **changes,
    )
    return Backup(kind, identifier, f"/backups/{kind}/{identifier}", manifest)


def test_facts_of_a_verified_database_backup() -> None:
    made = replace(
        backup(1, content=DATABASE_CONTENT, versions={"server": "17.6 (Debian 17.6-1)"}),
        full=new_verification(NOW - DAY / 2, "full", []),
        quick=new_verification(NOW - DAY / 4, "quick", []),
    )
    facts = backup_facts(made, NOW)
    assert facts == {
        "kind": "database",
        "id": "shop-20261123T120000Z",
        "path": "/backups/database/shop-20261123T120000Z",
        "created_at": "2026-11-23T12:00:00Z",
        "age_seconds": 86400,
        "size_bytes": 1000,
        "duration_seconds": 4.2,
        "what": "shop, 2 tables, 3.0 GiB",
        "encrypted": False,
        "whole": True,
        "verified": True,
        "verified_at": "2026-11-24T06:00:00.000Z",
        "verified_by": "quick",
        "restorable_by": "PostgreSQL 17 and newer",
        "problem": "",
    }


def test_facts_of_a_damaged_backup() -> None:
    torn = replace(backup(2), manifest=None, problem="manifest.sha256 is missing")
    facts = backup_facts(torn, NOW)
    assert (facts["whole"], facts["problem"]) == (False, "manifest.sha256 is missing")
    assert (facts["created_at"], facts["age_seconds"]) == ("2026-11-22T12:00:00Z", 172800)
    assert (facts["size_bytes"], facts["what"], facts["restorable_by"]) == (None, "", "")


@pytest.mark.parametrize(
    ("version", "major"), [("17.6", 17), ("13.22 (Debian)", 13), ("18beta1", None), ("", None)]
)
def test_a_dump_goes_into_its_own_major_and_newer(version: str, major: int | None) -> None:
    assert minimum_major(backup(versions={"server": version})) == major
    assert minimum_major(backup(kind="config", versions={"server": version})) is None


def test_what_is_in_the_other_kinds() -> None:
    config = backup(kind="config", content={"members": {"count": 1}, "working_dir": "/opt/shop"})
    models = backup(kind="models", content={"members": {"count": 2}, "paths": ["/m", "/n"]})
    redis = backup(kind="redis", content={"keys": 1200}, versions={"redis": "8.0.2"})
    assert what_is_in(config) == "1 file of /opt/shop"
    assert what_is_in(models) == "2 files of /m, /n"
    assert what_is_in(redis) == "1200 keys"
    assert restorable_by(redis) == "Redis 8.0 and newer"
    assert what_is_in(backup(kind="config")) == ""


def test_growth_is_what_all_of_a_kind_take_over_time() -> None:
    ones = [backup(days, stored=(10 - days) * GIB) for days in (0, 1, 4)]
    assert growth_bytes_per_day(ones, NOW) == pytest.approx(GIB)
    shrinking = [backup(0, stored=GIB), backup(2, stored=3 * GIB)]
    assert growth_bytes_per_day(shrinking, NOW) == pytest.approx(-GIB)


def test_growth_takes_no_notice_of_what_is_old_damaged_or_in_the_future() -> None:
    ones = [
        backup(0, stored=4 * GIB),
        backup(2, stored=2 * GIB),
        backup(300, stored=100 * GIB),
        backup(-300, stored=100 * GIB),
        replace(backup(1), manifest=None),
    ]
    assert growth_bytes_per_day(ones, NOW) == pytest.approx(GIB)


def test_growth_is_not_known_at_first() -> None:
    assert growth_bytes_per_day([], NOW) is None
    assert growth_bytes_per_day([backup(0, stored=1)], NOW) is None
    assert growth_bytes_per_day([backup(0, stored=9), backup(0.5, stored=1)], NOW) is None
    assert growth_by_kind([backup(0, stored=1)], NOW) == {}


def test_storage_facts_add_the_kinds_up() -> None:
    ones = [
        backup(0, stored=3 * GIB, size=GIB),
        backup(1, stored=2 * GIB, size=GIB),
        backup(0, "config", stored=2 * GIB, size=7),
        backup(1, "config", stored=GIB, size=5),
    ]
    facts = storage_facts(ones, {"database": 30, "config": 20, "redis": 0}, 20 * GIB, NOW)
    assert facts == {
        "kinds": {
            "database": {"count": 2, "used_bytes": 30, "growth_bytes_per_day": GIB},
            "config": {"count": 2, "used_bytes": 20, "growth_bytes_per_day": GIB},
            "redis": {"count": 0, "used_bytes": 0, "growth_bytes_per_day": None},
        },
        "free_bytes": 20 * GIB,
        "next_bytes": GIB + 7,
        "growth_bytes_per_day": 2 * GIB,
        "days_left": 10.0,
    }
    assert next_bytes([]) == 0


@pytest.mark.parametrize(
    ("growth", "days"), [(None, None), (0.0, None), (-5.0, None), (0.2, None), (10.0, 10.0)]
)
def test_days_left(growth: float | None, days: float | None) -> None:
    assert days_left(100, growth) == days


def info(*backups: Backup, free: int = 50 * GIB, stagings: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "backups": [backup_facts(one, NOW) for one in backups],
        "storage": storage_facts(backups, {"database": 2 * GIB, "config": 0}, free, NOW),
        "stagings": list(stagings),
        "backup_dir": "/backups",
    }


def test_the_table_of_backups() -> None:
    verified = replace(
        backup(
            0,
            stored=2 * GIB,
            size=GIB,
            content=DATABASE_CONTENT,
            versions={"server": "17.6"},
            encryption={"method": "age", "recipients": ["age1x"]},
        ),
        full=new_verification(NOW, "full", []),
    )
    torn = replace(backup(2), manifest=None, problem="manifest.json\nis missing")
    old = backup(1, stored=GIB, size=GIB)
    assert backup_lines(info(verified, old, torn, stagings=("/backups/config/.staging-x",))) == [
        "database: 3 backups, 2.0 GiB, growing by 1.0 GiB a day",
        "  ID                     AGE  SIZE     VERIFIED             RESTORABLE BY            WHAT",
        "  shop-20261124T120000Z  0 s  1.0 GiB  2026-11-24 restored  PostgreSQL 17 and newer  "
        "shop, 2 tables, 3.0 GiB (encrypted)",
        "  shop-20261123T120000Z  1 d  1.0 GiB  never                -                        -",
        "  shop-20261122T120000Z  2 d  -        DAMAGED              -                        -",
        "  shop-20261122T120000Z is damaged: manifest.json is missing",
        "config: no backups",
        "left by a run that died, removed by the next backup: /backups/config/.staging-x",
        "/backups: 50.0 GiB free, which does for 50 days at the present growth",
    ]


def test_the_table_says_where_the_next_will_not_fit_and_what_is_in_the_future() -> None:
    lines = backup_lines(info(backup(-3, size=2 * GIB), free=GIB))
    assert "in the future" in lines[2]
    assert lines[-1] == ("/backups: 1.0 GiB free; too little for the next backups (2.0 GiB)")


def test_outcomes_of_a_run() -> None:
    made = {
        "kind": "config",
        "made": True,
        "id": "shop-20261124T120000Z",
        "size_bytes": 2048,
        "duration_seconds": 61.0,
        "remarks": ["the Compose files cannot be read"],
        "left_out": [{"path": "/x"}],
    }
    kept = outcome(made, {"removed": [{"id": "a"}, {"id": "b"}], "withheld": ""})
    assert (kept["removed"], "left_out" in kept) == (["a", "b"], False)
    held = outcome({**made, "kind": "models", "remarks": []}, {"withheld": "nothing is removed"})
    skipped = {"kind": "redis", "made": False, "reason": "project shop has no Redis"}
    failed = {"kind": "database", "failure": "Back up: no space"}
    would = {"kind": "config", "made": True, "id": "shop-20261124T120000Z", "size_bytes": 0}
    assert outcome_lines([failed, kept, held, skipped, would]) == [
        "KIND      OUTCOME        ID                     SIZE     TOOK       REMOVED",
        "database  FAILED",
        "config    made           shop-20261124T120000Z  2.0 KiB  1 min 1 s  2",
        "models    made           shop-20261124T120000Z  2.0 KiB  1 min 1 s  0",
        "redis     skipped",
        "config    would be made  shop-20261124T120000Z  -        0 s        0",
        "database: Back up: no space",
        "config: the Compose files cannot be read",
        "models: nothing is removed",
        "redis: project shop has no Redis",
    ]


def test_a_table_cuts_its_last_column_alone() -> None:
    lines = table(("A", "B"), [("x" * 60, "y" * 60)])
    assert lines[0].startswith("A ")
    assert len(lines[1]) == 60 + 2 + 40
