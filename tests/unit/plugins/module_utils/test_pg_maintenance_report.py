# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _pg_maintenance_report as report
from ansible_collections.pynomaly.ops.plugins.module_utils._known_probes import KNOWN_PROBES
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance import (
    Action,
    Outcome,
    Table,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance_catalogue import (
    MAINTENANCE_CATALOGUE,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance_history import Sample
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    Measurement,
    Policy,
    parse_thresholds,
    parse_waivers,
    result,
)

DAY = datetime.date(2026, 11, 24)
NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
MIB = 1024**2
SERVER = {"database": "d", "database_bytes": 200 * MIB, "block_size": 8192, "standbys": 0}


def judged(
    found: list[Measurement],
    thresholds: dict[str, Any] | None = None,
    waivers: list[dict[str, Any]] | None = None,
) -> dict[str | None, dict[str, Any]]:
    policy = Policy(
        KNOWN_PROBES,
        parse_thresholds(thresholds or {}, KNOWN_PROBES),
        parse_waivers(waivers or [], KNOWN_PROBES),
    )
    return {entry["instance"]: entry for entry in (result(one, policy, DAY) for one in found)}


def index(oid: int, name: str, **changes: Any) -> dict[str, Any]:
    return {
        "oid": oid,
        "table_oid": 1,
        "name": f"public.{name}",
        "relname": name,
        "table_name": "public.t",
        "kind": "i",
        "parent": None,
        "method": "btree",
        "is_unique": False,
        "is_primary": False,
        "is_exclusion": False,
        "is_valid": True,
        "is_ready": True,
        "is_replica_identity": False,
        "is_clustered": False,
        "key_columns": 1,
        "columns": [oid],
        "operator_classes": "1",
        "collations": "0",
        "ordering": "0",
        "nulls_not_distinct": False,
        "expressions": None,
        "predicate": None,
        "options": [],
        "constraint_name": None,
        "scans": 0,
        "building_pid": None,
        **changes,
    }


def sized(**bytes_by_oid: int) -> report.Sizes:
    indexes = {int(name[1:]): size for name, size in bytes_by_oid.items()}
    return report.Sizes({1: 10 * MIB}, {}, {1: sum(indexes.values())}, indexes)


def test_each_probe_has_a_definition_and_a_hint() -> None:
    for identifier, definition in MAINTENANCE_CATALOGUE.items():
        assert definition.id == identifier
        assert definition.hint
        assert definition.component == "weekly_db"
    assert not set(KNOWN_PROBES) - set(MAINTENANCE_CATALOGUE) & set(MAINTENANCE_CATALOGUE)


# Indexes


def test_unused_indexes_by_size_and_age() -> None:
    rows = [
        index(2, "idle"),
        index(3, "tiny"),
        index(4, "busy", scans=1),
        index(5, "unique", is_unique=True),
        index(6, "identity", is_replica_identity=True),
        index(7, "broken", is_valid=False),
    ]
    seen = sized(o2=2 * MIB, o3=8192, o4=MIB, o5=MIB, o6=MIB, o7=MIB)
    server = {**SERVER, "counted_seconds": 40 * 86400.0}
    found = judged(report.unused_indexes("postgres", server, rows, seen, 30))
    assert {name: one["status"] for name, one in found.items()} == {
        "public.idle": "warning",
        "public.tiny": "ok",
    }
    assert "not used in 40 d" in found["public.idle"]["message"]
    assert found["public.idle"]["hint"].endswith("DROP INDEX CONCURRENTLY public.idle")
    young = judged(
        report.unused_indexes("postgres", {**SERVER, "counted_seconds": 3600.0}, rows, seen, 30)
    )
    assert young[None]["status"] == "skipped"
    never = judged(
        report.unused_indexes(
            "postgres", {**SERVER, "counted_seconds": None, "standbys": 1}, rows, seen, 30
        )
    )
    assert "since the server was made; 1 standby may use it" in never["public.idle"]["message"]
    waived = judged(
        report.unused_indexes("postgres", server, rows, seen, 30),
        waivers=[
            {
                "probe": "weekly_db.unused_indexes@public.idle",
                "reason": "the yearly report",
                "until": "2027-01-31",
            }
        ],
    )
    assert waived["public.idle"]["status"] == "skipped"


def test_a_partitioned_index_is_used_where_one_of_its_parts_is() -> None:
    def family(scans: int) -> list[dict[str, Any]]:
        return [
            index(2, "top", kind="I"),
            index(3, "part_1", parent=2, scans=scans),
            index(4, "part_2", parent=2),
        ]

    server = {**SERVER, "counted_seconds": 40 * 86400.0}
    seen = sized(o3=MIB, o4=MIB)
    unused = judged(report.unused_indexes("postgres", server, family(0), seen, 30))
    assert unused["public.top"]["value"] == 2 * MIB
    assert "DROP INDEX public.top" in unused["public.top"]["hint"]
    assert set(judged(report.unused_indexes("postgres", server, family(1), seen, 30))) == {None}


@pytest.mark.parametrize(
    ("first", "second", "superfluous"),
    [
        ({}, {}, "b"),
        ({}, {"scans": 9}, "a"),
        ({}, {"is_unique": True}, "a"),
        ({"is_unique": True, "constraint_name": "a"}, {"is_unique": True, "scans": 9}, "b"),
        ({"is_primary": True, "is_unique": True}, {"is_unique": True}, "b"),
        ({}, {"columns": [2, 3]}, None),
        ({}, {"ordering": "3"}, None),
        ({}, {"collations": "100"}, None),
        ({}, {"method": "hash"}, None),
        ({}, {"predicate": "{OPEXPR}"}, None),
        ({}, {"key_columns": 2}, None),
        ({}, {"table_oid": 9}, None),
        ({}, {"is_valid": False}, None),
        ({"is_unique": True}, {"is_unique": True, "nulls_not_distinct": True}, None),
        (
            {"expressions": "({FUNCEXPR :funcid 870 :location 50})"},
            {"expressions": "({FUNCEXPR :funcid 870 :location 71})"},
            "b",
        ),
        (
            {"expressions": "({FUNCEXPR :funcid 870 :location 50})"},
            {"expressions": "({FUNCEXPR :funcid 871 :location 50})"},
            None,
        ),
    ],
)
def test_indexes_that_do_the_same(
    first: dict[str, Any], second: dict[str, Any], superfluous: str | None
) -> None:
    rows = [
        index(2, "a", **{"columns": [2], **first}),
        index(3, "b", **{"columns": [2], **second}),
    ]
    found = judged(report.duplicate_indexes("postgres", rows, sized(o2=MIB, o3=MIB)))
    assert set(found) == ({f"public.{superfluous}"} if superfluous else {None})


def test_a_duplicate_constraint_is_dropped_as_one() -> None:
    rows = [
        index(2, "a", columns=[2], is_primary=True, is_unique=True, constraint_name="a"),
        index(3, "b", columns=[2], is_unique=True, constraint_name="b"),
    ]
    found = judged(report.duplicate_indexes("postgres", rows, sized(o2=MIB, o3=MIB)))
    assert found["public.b"]["hint"] == 'ALTER TABLE public.t DROP CONSTRAINT "b"'
    assert found["public.b"]["status"] == "warning"


def test_invalid_indexes_and_what_to_do_about_each() -> None:
    rows = [
        index(2, "plain", is_valid=False),
        index(3, "plain_ccnew2", is_valid=False),
        index(4, "parted", is_valid=False, kind="I"),
        index(5, "growing", is_valid=False, building_pid=7),
        index(6, "unready", is_ready=False),
        index(7, "fine"),
    ]
    found = judged(report.invalid_indexes("postgres", rows, sized(o2=MIB)))
    assert set(found) == {
        "public.plain",
        "public.plain_ccnew2",
        "public.parted",
        "public.unready",
    }
    assert {one["status"] for one in found.values()} == {"warning"}
    assert found["public.plain_ccnew2"]["hint"] == ("DROP INDEX CONCURRENTLY public.plain_ccnew2")
    assert "ATTACH PARTITION" in found["public.parted"]["hint"]


def test_the_command_for_a_name_with_quotes_can_be_pasted() -> None:
    row = {**index(2, "x", is_valid=False), "name": 'public."it\'s ""odd"""'}
    (found,) = judged(report.invalid_indexes("postgres", [row], sized())).values()
    assert found["hint"].endswith(
        """-e '{"postgres_maintain_reindex_invalid": ["public.\\"it'"'"'s \\"\\"odd\\"\\"\\""]}'"""
    )


# Foreign keys and sequences


@pytest.mark.parametrize(
    ("changes", "covered"),
    [
        ({"columns": [2, 3], "key_columns": 2}, True),
        ({"columns": [3, 2], "key_columns": 2}, True),
        ({"columns": [3, 2, 4], "key_columns": 3}, True),
        ({"columns": [2, 4, 3], "key_columns": 3}, False),
        ({"columns": [2, 3], "key_columns": 1}, False),  # 3 is only INCLUDEd
        ({"columns": [2, 3], "key_columns": 2, "predicate": "{x}"}, False),
        ({"columns": [2, 3], "key_columns": 2, "is_valid": False}, False),
        ({"columns": [2, 3], "key_columns": 2, "method": "brin"}, False),
        ({"columns": [2, 3], "key_columns": 2, "table_oid": 9}, False),
    ],
)
def test_foreign_keys_need_an_index_that_begins_with_their_columns(
    changes: dict[str, Any], covered: bool
) -> None:
    key = {
        "name": "k",
        "table_oid": 1,
        "table_name": "public.t",
        "table_kind": "r",
        "referenced": "u",
        "columns": [2, 3],
        "column_names": ["a", '"B"'],
    }
    rows = [index(5, "i", **changes)]
    found = judged(
        report.missing_foreign_key_indexes("postgres", [key], rows, [Table(1, "t")], sized())
    )
    if covered:
        assert found[None]["status"] == "ok"
    else:
        only = found['public.t (a, "B")']
        assert only["status"] == "warning"
        assert only["value"] == 10 * MIB
        assert only["hint"] == 'CREATE INDEX CONCURRENTLY ON public.t (a, "B")'


def test_a_partitioned_table_is_as_large_as_its_partitions() -> None:
    key = {
        "name": "k",
        "table_oid": 20,
        "table_name": "public.p",
        "table_kind": "p",
        "referenced": "u",
        "columns": [2],
        "column_names": ["a"],
    }
    tables = [Table(20, "p", "p"), Table(1, "p_1", parent=20)]
    (found,) = judged(
        report.missing_foreign_key_indexes("postgres", [key], [], tables, sized())
    ).values()
    assert found["value"] == 10 * MIB
    assert found["hint"] == "CREATE INDEX ON public.p (a)"


def sequence(**changes: Any) -> dict[str, Any]:
    return {
        "name": "public.s",
        "increment": "1",
        "minimum": "1",
        "maximum": str(2**63 - 1),
        "cycles": False,
        "last_value": "10",
        "sequence_type": "bigint",
        "table_name": "public.t",
        "column_name": "id",
        "column_type": "bigint",
        "is_identity": False,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "value", "status", "hint"),
    [
        ({}, 0.0, "ok", ""),
        ({"last_value": "2000000000", "column_type": "integer"}, 93.1, "critical", "TYPE bigint"),
        ({"last_value": "26000", "column_type": "smallint"}, 79.3, "warning", "TYPE bigint"),
        (
            {
                "last_value": "2000000000",
                "maximum": str(2**31 - 1),
                "sequence_type": "integer",
                "column_type": "integer",
            },
            93.1,
            "critical",
            "AS bigint",
        ),
        (
            {"last_value": "95", "maximum": "100"},
            94.9,
            "critical",
            "ALTER SEQUENCE public.s NO MAXVALUE",
        ),
        (
            {
                "increment": "-1",
                "minimum": str(-(2**63)),
                "maximum": "-1",
                "last_value": "-32000",
                "column_type": "smallint",
            },
            97.7,
            "critical",
            "TYPE bigint",
        ),
        (
            {
                "table_name": None,
                "column_name": None,
                "column_type": None,
                "maximum": str(2**31 - 1),
                "sequence_type": "integer",
                "last_value": str(2**31 - 1),
            },
            100.0,
            "critical",
            "ALTER SEQUENCE public.s AS bigint",
        ),
    ],
)
def test_sequences_near_their_end(
    changes: dict[str, Any], value: float, status: str, hint: str
) -> None:
    (found,) = judged(report.sequence_measurements("postgres", [sequence(**changes)])).values()
    assert (found["value"], found["status"]) == (value, status)
    assert hint in found["hint"]


def test_an_identity_column_takes_its_sequence_with_it() -> None:
    row = sequence(
        is_identity=True,
        column_type="integer",
        sequence_type="integer",
        maximum=str(2**31 - 1),
        last_value="2000000000",
    )
    (found,) = judged(report.sequence_measurements("postgres", [row])).values()
    assert "ALTER SEQUENCE" not in found["hint"]


def test_sequences_that_say_nothing() -> None:
    rows = [sequence(last_value=None), sequence(cycles=True)]
    assert judged(report.sequence_measurements("postgres", rows))[None]["status"] == "ok"
    shared = [sequence(last_value="30000"), sequence(last_value="30000", column_type="smallint")]
    (found,) = judged(report.sequence_measurements("postgres", shared)).values()
    assert found["value"] == 91.6


# The others


def test_what_is_shown_is_bounded_and_the_rest_is_judged() -> None:
    rows = [index(n, f"i{n:02}") for n in range(2, 42)]
    seen = sized(**{f"o{n}": n * MIB for n in range(2, 42)})
    server = {**SERVER, "counted_seconds": None}
    found = judged(report.unused_indexes("postgres", server, rows, seen, 30))
    assert len(found) == 11
    assert next(iter(found)) == "public.i41"
    assert found["and 30 more"]["status"] == "warning"
    assert found["and 30 more"]["value"] == 31 * MIB


@pytest.mark.parametrize(
    ("before_mib", "days", "status", "percent"),
    [
        (199, 7, "ok", 0.5),
        (100, 7, "warning", 100.0),
        (100, 14, "ok", 50.0),
        (150, 1, "ok", 233.3),  # little in all
        (300, 7, "ok", -33.3),
    ],
)
def test_growth_in_a_week(before_mib: int, days: int, status: str, percent: float) -> None:
    now = Sample(NOW, "d", 200 * MIB, {"a": (90 * MIB, 10 * MIB), "b": (MIB, 0)})
    before = Sample(NOW - datetime.timedelta(days=days), "d", before_mib * MIB, {"a": (MIB, 0)})
    (found,) = judged([report.growth_measurement("postgres", now, before)]).values()
    assert (found["status"], found["value"]) == (status, percent)
    assert found["detail"][0] == {"table": "a", "grew": "99.0 MiB", "to": "100 MiB"}
    assert found["detail"][1]["note"] == "not in the earlier sample"


def test_the_oldest_ids() -> None:
    databases = [
        {"name": "d", "xid_age": 10, "multixact_age": 5},
        {"name": "other", "xid_age": 1_700_000_000, "multixact_age": 1},
    ]
    tables = [Table(1, "t", xid_age=9, multixact_age=4), Table(2, "p", "p")]
    found = judged(report.wraparound_measurements("postgres", databases, tables))
    assert found["transactions"]["status"] == "critical"
    assert "1,700.0 million old in other" in found["transactions"]["message"]
    assert found["transactions"]["detail"] == [{"table": "t", "age": 9}]
    assert found["multixacts"]["status"] == "ok"


def statement(number: int, text: str, calls: float, total_ms: float) -> dict[str, Any]:
    return {
        "id": str(number),
        "text": text,
        "calls": calls,
        "total_ms": total_ms,
        "mean_ms": total_ms / calls,
        "longest_ms": total_ms,
        "rows": 1.0,
        "all_ms": 100_000.0,
    }


def test_statements_with_the_most_time_and_the_longest_mean() -> None:
    rows = [statement(n, f"SELECT {n}", 10_000, 50_000 - n) for n in range(20)]
    rows.append(statement(77, "SELECT slow FROM t WHERE a = 'canary'", 1, 2_000))
    rows.append(statement(78, "ALTER ROLE a PASSWORD 'canary'", 1, 90_000))
    found = judged(report.statement_measurements("postgres", rows, 4))
    assert set(found) == {"query 77", "query 0", "query 1", "query 2"}
    assert found["query 77"]["status"] == "warning"
    assert found["query 77"]["message"].endswith("SELECT slow FROM t WHERE a = ?")
    assert "50 % of all time" in found["query 0"]["message"]
    assert "canary" not in repr(found)


def test_without_statements() -> None:
    (none,) = judged(report.statement_measurements("postgres", [], 5)).values()
    assert none["status"] == "ok"
    hidden = [statement(1, "<insufficient privilege>", 1, 1)]
    (only,) = judged(report.statement_measurements("postgres", hidden, 5)).values()
    assert "1 of other kinds are not shown" in only["message"]
    for preloaded, installed, said in (
        (False, False, "restart the server, then CREATE EXTENSION pg_stat_statements"),
        (True, False, "to see them: CREATE EXTENSION pg_stat_statements"),
        (None, False, "to see them: CREATE EXTENSION pg_stat_statements"),
        (False, True, "to see them: set shared_preload_libraries"),
    ):
        missing = report.statements_unavailable("postgres", preloaded, installed)
        assert missing.status == "skipped"
        assert said in missing.message


@pytest.mark.parametrize(
    ("outcome", "failed_status", "status", "said"),
    [
        (Outcome(Action("vacuum", "t", "VACUUM t", "r"), "done"), None, "ok", "VACUUM t, because"),
        (Outcome(Action("vacuum", "t", "VACUUM t", "r"), "planned"), None, "warning", "is due"),
        (Outcome(Action("vacuum", "t", "V", "r"), "failed", "no"), None, "warning", "not done: no"),
        (Outcome(Action("vacuum", "t", "V", "r"), "failed", "no"), "critical", "critical", "no"),
        (
            Outcome(Action("vacuum", "t", "V", "r"), "not_reached", "late"),
            "critical",
            "critical",
            "late",
        ),
        (
            Outcome(Action("vacuum", "t", "V", "r"), "done", dead_after=5),
            None,
            "warning",
            "5 dead tuples could not be removed yet, slot s may still see them",
        ),
    ],
)
def test_what_became_of_an_action(
    outcome: Outcome, failed_status: str | None, status: str, said: str
) -> None:
    found = report.action_measurements("postgres", [outcome], 3, failed_status, "slot s")
    entry = judged([one for one in found if one.target.id == "weekly_db.dead_tuples"])["t"]
    assert entry["status"] == status
    assert said in entry["message"]
    assert bool(entry["hint"]) is (status != "ok")


def test_sizes_of_tables_and_what_belongs_to_them() -> None:
    def part(owner: int, oid: int, what: str, size: int, locked: bool = False) -> dict[str, Any]:
        return {"owner": owner, "oid": oid, "part": what, "bytes": size, "locked": locked}

    seen = report.sizes(
        [
            part(1, 1, "table", 40 * MIB, True),
            part(1, 2, "toast", 5 * MIB),
            part(1, 3, "toast", MIB),
            part(1, 4, "index", 10 * MIB),
            part(1, 5, "index", 4 * MIB),
        ]
    )
    assert (seen.table(1), seen.total(1), seen.total(9)) == (46 * MIB, 60 * MIB, 0)
    assert seen.indexes == {4: 10 * MIB, 5: 4 * MIB}
    tables = [Table(9, "empty"), Table(1, "t")]
    (found,) = judged([report.size_measurement("postgres", SERVER, tables, seen)]).values()
    assert found["value"] == 200 * MIB
    assert "the largest table t 60.0 MiB; 1 relation locked" in found["message"]
    assert found["detail"] == [
        {
            "table": "t",
            "size": "60.0 MiB",
            "heap": "40.0 MiB",
            "indexes": "14.0 MiB",
            "toast": "6.0 MiB",
        }
    ]
    kept = report.sample(SERVER, tables, seen, NOW)
    assert kept == Sample(NOW, "d", 200 * MIB, {"t": (46 * MIB, 14 * MIB)})


def test_growth_without_anything_to_compare_with() -> None:
    now = Sample(NOW, "d", MIB, {})
    (first,) = judged([report.growth_measurement("postgres", now, None)]).values()
    assert first["status"] == "skipped"
    (broken,) = judged([report.growth_measurement("postgres", now, None, "no JSON")]).values()
    assert (broken["status"], broken["message"]) == ("unknown", "no JSON")


def test_bloat_beyond_the_minimum_and_what_to_do_about_it() -> None:
    def row(name: str, pages: int, known: int = 1) -> dict[str, Any]:
        return {
            "oid": 1,
            "name": name,
            "reltuples": 1000.0,
            "pages": pages,
            "toast_pages": 0,
            "toast_tuples": 0.0,
            "options": [],
            "columns": 1,
            "known_columns": known,
            "has_name": False,
            "null_fraction": 0.0,
            "width": 8.0,
        }

    tables = [row('public."it\'s"', 10_000), row("small", 100), row("unknown", 9_000, 0)]
    found = report.bloat_measurements("postgres", SERVER, tables, [row("i", 20_000)], 64 * MIB)
    seen = judged(found)
    assert set(seen) == {'public."it\'s"', "i"}
    assert seen['public."it\'s"']["status"] == "warning"
    assert "pgstattuple_approx('public.\"it''s\"')" in seen['public."it\'s"']["hint"]
    assert seen["i"]["hint"] == "REINDEX INDEX CONCURRENTLY i"
    none = judged(report.bloat_measurements("postgres", SERVER, tables, [], 1024 * MIB)[:1])
    assert none[None]["message"].endswith("waste 1.0 GiB; 1 cannot be estimated")


def test_rebuilds_and_questions_without_an_answer() -> None:
    action = Action("reindex", "i", "REINDEX INDEX CONCURRENTLY i", "asked for by name")
    outcomes = [Outcome(action, "unnecessary", "the index is valid: nothing to rebuild")]
    found = report.action_measurements("postgres", outcomes, 3)
    assert [one.target.id for one in found] == [
        "weekly_db.statistics",
        "weekly_db.dead_tuples",
        "weekly_db.reindex",
    ]
    assert judged(found[2:])["i"]["status"] == "ok"
    failed = report.question_failed("weekly_db.sequences", "postgres", "permission denied")
    assert judged([failed])[None]["status"] == "unknown"
