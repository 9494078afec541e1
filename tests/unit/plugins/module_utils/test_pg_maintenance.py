# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _pg_maintenance as maintenance
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance import (
    FreezeLimits,
    MaintenanceSettings,
    Outcome,
    Table,
    plan,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import PolicyError

SETTINGS = MaintenanceSettings()
LIMITS = FreezeLimits()
QUIET = Table(
    1, "public.quiet", reltuples=1000, live=1000, analyzed_at=5.0, has_statistics=True, xid_age=10
)


def due(*tables: Table, version: int = 170000, **changes: Any) -> list[tuple[str, str]]:
    settings = replace(SETTINGS, **changes)
    return [(one.verb, one.name) for one in plan(tables, settings, LIMITS, version)]


def test_a_quiet_table_is_left_alone() -> None:
    assert due(QUIET) == []


@pytest.mark.parametrize(("modified", "expected"), [(100, []), (101, ["analyze"])])
def test_statistics_are_stale_beyond_the_threshold(modified: int, expected: list[str]) -> None:
    """50 rows and 5 % of 1000."""
    assert [verb for verb, _name in due(replace(QUIET, modified=modified))] == expected


@pytest.mark.parametrize(("dead", "expected"), [(150, []), (151, ["vacuum"])])
def test_dead_tuples_are_many_beyond_the_threshold(dead: int, expected: list[str]) -> None:
    """50 and 10 % of 1000; VACUUM brings the statistics with it."""
    found = due(replace(QUIET, dead=dead, modified=5000 if expected else 0))
    assert [verb for verb, _name in found] == expected


def test_thresholds_are_the_users() -> None:
    table = replace(QUIET, dead=20, modified=20)
    assert due(table, vacuum_threshold_rows=0, vacuum_scale_factor=0.01) == [
        ("vacuum", "public.quiet")
    ]
    assert due(table, analyze_threshold_rows=0, analyze_scale_factor=0) == [
        ("analyze", "public.quiet")
    ]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (Table(1, "a", live=1), True),
        (Table(1, "a", reltuples=-1, bytes=8192), True),  # 14 and later, after pg_upgrade
        (Table(1, "a", reltuples=0, bytes=8192), True),  # 13
        (Table(1, "a", reltuples=-1), False),  # empty
        (Table(1, "a", live=1, has_statistics=True), False),  # the counters are lost, no more
        (Table(1, "a", live=1, autoanalyzed_at=3.0), False),
    ],
)
def test_a_table_that_was_never_analyzed(table: Table, expected: bool) -> None:
    assert due(table) == ([("analyze", "a")] if expected else [])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"xid_age": 150_000_000}, False),
        ({"xid_age": 150_000_001}, True),
        ({"multixact_age": 300_000_001}, True),
        ({"xid_age": 90_000, "options": {"autovacuum_freeze_max_age": "100000"}}, True),
        ({"xid_age": 90_000, "options": {"autovacuum_freeze_max_age": "900000000"}}, False),
    ],
)
def test_old_rows_are_frozen(changes: dict[str, Any], expected: bool) -> None:
    actions = plan([replace(QUIET, **changes)], SETTINGS, LIMITS, 170000)
    assert [action.freeze for action in actions] == ([True] if expected else [])
    assert all("FREEZE" in action.statement for action in actions)


def test_the_most_pressing_comes_first() -> None:
    tables = [
        replace(QUIET, oid=1, name="stale", modified=2000),
        replace(QUIET, oid=2, name="staler", modified=3000),
        replace(QUIET, oid=3, name="dead", dead=200),
        replace(QUIET, oid=4, name="deader", dead=900),
        replace(QUIET, oid=5, name="old", xid_age=190_000_000),
    ]
    assert [name for _verb, name in due(*tables)] == ["old", "deader", "dead", "staler", "stale"]


def test_a_table_that_somebody_works_on_is_left_to_them() -> None:
    assert due(replace(QUIET, dead=5000, busy_pid=7)) == []


PARENT = Table(10, "parts", "p", reltuples=-1)
LEAF = replace(QUIET, oid=11, name="parts_1", parent=10)


@pytest.mark.parametrize("version", [130000, 140000, 150000, 160000, 170000, 180000])
def test_a_partitioned_table_that_was_never_analyzed(version: int) -> None:
    (action,) = plan([PARENT, LEAF], SETTINGS, LIMITS, version)
    assert action.statement == ("ANALYZE ONLY parts" if version >= 180000 else "ANALYZE parts")
    assert "autovacuum never does" in action.reason


def test_a_partitioned_table_without_rows_or_with_fresh_statistics() -> None:
    assert due(PARENT) == []
    assert due(PARENT, replace(LEAF, live=0, reltuples=0)) == []
    assert due(replace(PARENT, has_inherited_statistics=True, analyzed_at=9.0), LEAF) == []


def test_a_partitioned_table_is_stale_with_its_partitions() -> None:
    parent = replace(PARENT, has_inherited_statistics=True, analyzed_at=9.0)
    stale = replace(LEAF, modified=5000)
    # Up to 17 the partitions are analyzed with it.
    assert due(parent, stale) == [("analyze", "parts")]
    assert due(parent, stale, version=180000) == [("analyze", "parts"), ("analyze", "parts_1")]
    assert due(parent, replace(LEAF, autoanalyzed_at=8.0)) == []
    assert due(parent, replace(LEAF, autoanalyzed_at=10.0)) == [("analyze", "parts")]
    # 13 has no times for it.
    assert due(replace(parent, analyzed_at=None), replace(LEAF, autoanalyzed_at=10.0)) == []


def test_partitions_of_partitions() -> None:
    middle = replace(PARENT, oid=12, name="middle", parent=10)
    leaf = replace(LEAF, parent=12)
    assert due(PARENT, middle, leaf) == [("analyze", "parts")]
    assert {name for _verb, name in due(PARENT, middle, leaf, version=180000)} == {
        "parts",
        "middle",
    }


def index(name: str, oid: int = 5, valid: bool = True, **changes: Any) -> dict[str, Any]:
    return {
        "oid": oid,
        "table_oid": 1,
        "name": f"public.{name}",
        "relname": name,
        "is_valid": valid,
        "is_ready": True,
        **changes,
    }


def test_indexes_are_rebuilt_by_name() -> None:
    rows = [index("a", 5, valid=False), index("b", 6)]
    actions, valid = maintenance.reindex_plan(["public.a", "public.a", "b"], rows)
    assert [one.statement for one in actions] == ["REINDEX INDEX CONCURRENTLY public.a"]
    assert [(one.action.name, one.state) for one in valid] == [("public.b", "unnecessary")]
    with pytest.raises(maintenance.UnknownIndexError, match=r"none .* invalid are: public\.a"):
        maintenance.reindex_plan(["public.c"], rows)
    twice = [*rows, {**index("b", 7), "name": "other.b"}]
    with pytest.raises(maintenance.UnknownIndexError, match="seen 2 of that name"):
        maintenance.reindex_plan(["b"], twice)
    assert maintenance.reindex_plan(["other.b"], twice)[1][0].action.name == "other.b"


def test_what_a_failed_rebuild_left_is_ours_alone() -> None:
    before = [index("a", 5, valid=False), index("a_ccnew", 6, valid=False)]
    ((action,), _valid) = maintenance.reindex_plan(["public.a"], before)
    after = [
        *before,
        index("a_ccnew1", 7, valid=False),
        index("b_ccnew", 8, valid=False, table_oid=2),
        index("c", 9, valid=False),
        index("d_ccnew", 10),
    ]
    assert maintenance.left_by_rebuild(action, before, after) == ["public.a_ccnew1"]


def test_what_was_done_in_a_sentence() -> None:
    (action,) = plan([replace(QUIET, dead=500)], SETTINGS, LIMITS, 170000)
    assert maintenance.done_text([]) == "nothing was due"
    outcomes = [Outcome(action, "done"), Outcome(action, "done"), Outcome(action, "not_reached")]
    assert maintenance.done_text(outcomes) == "2 vacuumed, 1 not done"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lock_timeout_seconds": 0}, "lock_timeout_seconds: seen 0, expected a number above 0"),
        ({"budget_seconds": float("nan")}, "budget_seconds"),
        ({"vacuum_scale_factor": -1}, "vacuum_scale_factor: seen -1"),
        ({"cost_delay_ms": 101}, "expected 0 to 100"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        replace(SETTINGS, **changes).validate()
    SETTINGS.validate()
