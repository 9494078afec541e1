# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the answers to C{_pg_maintenance_sql} mean: a measurement a finding, the worst first.

A finding's instance is the quoted name of what it is about, so that a threshold or a waiver can
name it: C{weekly_db.unused_indexes@public.orders_note_idx}. Rows are mappings by column name.
"""

from __future__ import annotations

import datetime
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._pg_bloat import (
    Bloat,
    index_bloat,
    table_bloat,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance import (
    ANALYZE,
    DONE,
    FAILED,
    NOT_REACHED,
    PLANNED,
    REINDEX,
    UNNECESSARY,
    VACUUM,
    Outcome,
    Table,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance_catalogue import (
    BLOAT,
    DEAD_TUPLES,
    DUPLICATE_INDEXES,
    FOREIGN_KEYS,
    GROWTH,
    INDEX_BLOAT,
    INVALID_INDEXES,
    SEQUENCES,
    SIZE,
    STATEMENTS,
    STATISTICS,
    UNUSED_INDEXES,
    WRAPAROUND,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance_catalogue import (
    REINDEX as REINDEX_PROBE,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance_history import (
    WEEK_SECONDS,
    Sample,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_statements import masked_statement
from ansible_collections.pynomaly.ops.plugins.module_utils._postgres import TRANSACTION_IDS
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    OK,
    SKIPPED,
    UNKNOWN,
    WARNING,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    format_bytes,
    format_seconds,
    plural,
    shortened,
)

Row = Mapping[str, Any]
Rows = Sequence[Row]

#: Findings of one kind that have an entry of their own; the others are counted in one more.
MOST_FINDINGS = 10
#: A database that grew by less is not worth a warning, whatever the share.
GROWTH_LEAST_BYTES = 64 * 1024**2
STATEMENT_CHARACTERS = 200

_TYPE_ENDS: Mapping[str, int] = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}


@dataclass(frozen=True)
class Sizes:
    """Main forks in bytes, by oid: of heaps, of a table's TOAST and of its indexes together, of
    each index. ``locked`` are relations whose size is what the last vacuum saw."""

    heaps: Mapping[int, int] = field(default_factory=dict)
    toasts: Mapping[int, int] = field(default_factory=dict)
    index_totals: Mapping[int, int] = field(default_factory=dict)
    indexes: Mapping[int, int] = field(default_factory=dict)
    locked: int = 0

    def table(self, oid: int) -> int:
        """A table with its TOAST, without its indexes."""
        return self.heaps.get(oid, 0) + self.toasts.get(oid, 0)

    def total(self, oid: int) -> int:
        return self.table(oid) + self.index_totals.get(oid, 0)


def sizes(rows: Iterable[Row]) -> Sizes:
    """The answer to C{_pg_maintenance_sql.SIZES}."""
    heaps: dict[int, int] = {}
    toasts: dict[int, int] = {}
    totals: dict[int, int] = {}
    indexes: dict[int, int] = {}
    locked = 0
    for row in rows:
        owner, oid, size_bytes = int(row["owner"]), int(row["oid"]), int(row["bytes"])
        locked += bool(row["locked"])
        if row["part"] == "table":
            heaps[owner] = size_bytes
        elif row["part"] == "toast":
            toasts[owner] = toasts.get(owner, 0) + size_bytes
        else:
            totals[owner] = totals.get(owner, 0) + size_bytes
            indexes[oid] = size_bytes
    return Sizes(heaps, toasts, totals, indexes, locked)


def bounded(
    identifier: str, service: str, findings: Sequence[Measurement], nothing: str
) -> list[Measurement]:
    """The first L{MOST_FINDINGS}, one more that counts the rest, or one that says there are none.

    The rest is judged by the value of its first, so the findings come worst first.
    """
    if not findings:
        return [Measurement(Target(identifier, service), 0, nothing, OK)]
    shown = list(findings[:MOST_FINDINGS])
    rest = findings[MOST_FINDINGS:]
    if rest:
        first = rest[0]
        names = ", ".join(str(one.target.instance) for one in rest[:MOST_FINDINGS])
        shown.append(
            Measurement(
                Target(identifier, service, f"and {len(rest)} more"),
                first.value,
                f"{names}{' ...' if len(rest) > MOST_FINDINGS else ''}",
                first.status,
            )
        )
    return shown


def _by_value(found: Iterable[Measurement]) -> list[Measurement]:
    def value(one: Measurement) -> float:
        return float(one.value) if isinstance(one.value, (int, float)) else 0.0

    return sorted(found, key=lambda one: (-value(one), str(one.target.instance)))


# What was done


def action_measurements(
    service: str,
    outcomes: Sequence[Outcome],
    tables: int,
    failed_status: Optional[str] = None,
    horizon: str = "",
) -> list[Measurement]:
    """``weekly_db.statistics``, ``dead_tuples`` and, where rebuilds were asked for, ``reindex``.

    What is due and not done is a warning, or ``failed_status``. ``horizon`` says what keeps dead
    tuples from being removed.
    """
    found: list[Measurement] = []
    for identifier, verb, nothing in (
        (STATISTICS, ANALYZE, f"the statistics of {plural(tables, 'table')} are fresh"),
        (DEAD_TUPLES, VACUUM, f"none of {plural(tables, 'table')} wants VACUUM"),
        (REINDEX_PROBE, REINDEX, ""),
    ):
        mine = [one for one in outcomes if one.action.verb == verb]
        order = {FAILED: 0, NOT_REACHED: 1, PLANNED: 2, DONE: 3, UNNECESSARY: 4}
        mine.sort(key=lambda one: order[one.state])
        if mine or nothing:
            findings = [
                _action_measurement(identifier, service, one, failed_status, horizon)
                for one in mine
            ]
            found += bounded(identifier, service, findings, nothing)
    return found


def _action_measurement(
    identifier: str, service: str, outcome: Outcome, failed_status: Optional[str], horizon: str
) -> Measurement:
    action = outcome.action
    target = Target(identifier, service, action.name)
    if outcome.state == PLANNED:
        return Measurement(
            target,
            None,
            f"{action.reason}: {action.statement} is due",
            WARNING,
        )
    if outcome.state in (FAILED, NOT_REACHED):
        return Measurement(
            target,
            None,
            f"{action.statement} was not done: {outcome.message}; it is due because: "
            f"{action.reason}",
            failed_status or WARNING,
            outcome.hint or None,
        )
    if outcome.state == UNNECESSARY:
        return Measurement(target, None, outcome.message, OK)
    took = format_seconds(outcome.duration_ms / 1000)
    message = f"{action.statement}, because: {action.reason}; took {took}"
    if outcome.dead_after:
        message += f"; {plural(outcome.dead_after, 'dead tuple')} could not be removed yet"
        if horizon:
            message += f", {horizon} may still see them"
        return Measurement(
            target,
            None,
            message,
            WARNING,
            "end what is named, then ansible-playbook pynomaly.ops.weekly_db; see "
            "postgres.longest_transaction of pynomaly.ops.daily_check",
        )
    return Measurement(target, None, message, OK)


# Sizes and growth


def size_measurement(
    service: str, server: Row, tables: Sequence[Table], seen: Sizes
) -> Measurement:
    """``weekly_db.size``, with the largest tables beside it."""
    total = int(server["database_bytes"])
    largest = sorted(tables, key=lambda one: -seen.total(one.oid))[:MOST_FINDINGS]
    detail = [
        {
            "table": one.name,
            "size": format_bytes(seen.total(one.oid)),
            "heap": format_bytes(seen.heaps.get(one.oid, 0)),
            "indexes": format_bytes(seen.index_totals.get(one.oid, 0)),
            "toast": format_bytes(seen.toasts.get(one.oid, 0)),
        }
        for one in largest
        if seen.total(one.oid)
    ]
    indexes = sum(seen.index_totals.values())
    message = f"{server['database']} has {format_bytes(total)}, indexes {format_bytes(indexes)}"
    if detail:
        message += f", the largest table {detail[0]['table']} {detail[0]['size']}"
    if seen.locked:
        message += f"; {plural(seen.locked, 'relation')} locked, its size is the last vacuum's"
    return Measurement(Target(SIZE, service), total, message, detail=detail)


def sample(server: Row, tables: Sequence[Table], seen: Sizes, at: datetime.datetime) -> Sample:
    """What the history keeps of this look."""
    return Sample(
        at,
        str(server["database"]),
        int(server["database_bytes"]),
        {
            one.name: (seen.table(one.oid), seen.index_totals.get(one.oid, 0))
            for one in tables
            if seen.total(one.oid)
        },
    )


def growth_measurement(
    service: str, now: Sample, before: Optional[Sample], problem: str = ""
) -> Measurement:
    """``weekly_db.growth``: since the sample nearest to a week ago, in percent a week."""
    target = Target(GROWTH, service)
    if problem:
        return Measurement(target, None, problem, UNKNOWN, "look at the file, or remove it")
    if before is None:
        return Measurement(
            target,
            None,
            "no earlier size is known; ansible-playbook pynomaly.ops.weekly_db keeps one each time",
            SKIPPED,
        )
    age_seconds = (now.at - before.at).total_seconds()
    grown = now.database_bytes - before.database_bytes
    percent = 100.0 * grown / before.database_bytes * WEEK_SECONDS / age_seconds
    changes = {
        name: sum(size) - sum(before.tables.get(name, (0, 0))) for name, size in now.tables.items()
    }
    top = sorted(changes.items(), key=lambda item: -item[1])[:MOST_FINDINGS]
    detail = [
        {
            "table": name,
            "grew": format_bytes(change),
            "to": format_bytes(sum(now.tables[name])),
            **({} if name in before.tables else {"note": "not in the earlier sample"}),
        }
        for name, change in top
        if change > 0
    ]
    grew = "grew by" if grown >= 0 else "shrank by"
    message = (
        f"{now.database} {grew} {format_bytes(abs(grown))} in {format_seconds(age_seconds)}, to "
        f"{format_bytes(now.database_bytes)}"
    )
    if detail:
        message += f"; most of all {detail[0]['table']}, by {detail[0]['grew']}"
    status = OK if grown < GROWTH_LEAST_BYTES else None
    return Measurement(target, round(percent, 1), message, status, detail=detail)


# Bloat


def bloat_measurements(
    service: str, server: Row, table_rows: Rows, index_rows: Rows, minimum_bytes: float
) -> list[Measurement]:
    """``weekly_db.bloat`` and ``index_bloat``, of what wastes ``minimum_bytes`` or more."""
    block_size = int(server["block_size"])
    found: list[Measurement] = []
    for identifier, estimates, what in (
        (BLOAT, [table_bloat(row, block_size) for row in table_rows], "table"),
        (INDEX_BLOAT, [index_bloat(row, block_size) for row in index_rows], "index"),
    ):
        known = [one for one in estimates if one is not None]
        wasteful = [
            _bloat_measurement(identifier, service, one, what)
            for one in known
            if one.wasted_bytes and one.wasted_bytes >= minimum_bytes
        ]
        unknown = len(estimates) - len(known)
        nothing = f"of {len(known)}, none is estimated to waste {format_bytes(minimum_bytes)}"
        if unknown:
            nothing += f"; {unknown} cannot be estimated"
        found += bounded(identifier, service, _by_value(wasteful), nothing)
    return found


def _bloat_measurement(identifier: str, service: str, one: Bloat, what: str) -> Measurement:
    if what == "table":
        literal = "'" + one.name.replace("'", "''") + "'"
        hint = (
            "measure it: CREATE EXTENSION pgstattuple and "
            f"pgstattuple_approx({literal}); pg_repack gives the space back while the table is "
            "in use, VACUUM FULL locks it; new rows fill the space otherwise"
        )
    else:
        hint = f"REINDEX INDEX CONCURRENTLY {one.name}"
    return Measurement(
        Target(identifier, service, one.name),
        round(one.percent, 1),
        f"about {format_bytes(one.wasted_bytes)} of {format_bytes(one.bytes)} hold nothing "
        "(an estimate from the planner's statistics)",
        hint=hint,
    )


# Indexes


def _standalone(index: Row) -> bool:
    """An index that could be dropped by itself; a partition's goes with its parent's."""
    return index["parent"] is None


def _serves_a_rule(index: Row) -> bool:
    """It keeps rows unique, or a constraint, the replica identity or CLUSTER needs it."""
    return bool(
        index["is_unique"]
        or index["is_primary"]
        or index["is_exclusion"]
        or index["constraint_name"]
        or index["is_replica_identity"]
        or index["is_clustered"]
    )


def _with_children(indexes: Rows) -> dict[int, list[Row]]:
    """Each standalone index with those of the partitions below it."""
    by_oid = {int(row["oid"]): row for row in indexes}
    families: dict[int, list[Row]] = {}
    for row in indexes:
        top = row
        while top["parent"] is not None and int(top["parent"]) in by_oid:
            top = by_oid[int(top["parent"])]
        families.setdefault(int(top["oid"]), []).append(row)
    return families


def _family_bytes(family: Rows, seen: Sizes) -> int:
    return sum(seen.indexes.get(int(row["oid"]), 0) for row in family)


def _drop(index: Row) -> str:
    """A partitioned index cannot be dropped concurrently."""
    if index["constraint_name"]:
        return f'ALTER TABLE {index["table_name"]} DROP CONSTRAINT "{index["constraint_name"]}"'
    return f"DROP INDEX {'' if index['kind'] == 'I' else 'CONCURRENTLY '}{index['name']}"


def unused_indexes(
    service: str, server: Row, indexes: Rows, seen: Sizes, minimum_days: float
) -> list[Measurement]:
    """``weekly_db.unused_indexes``: never read since the counters began."""
    counted = server["counted_seconds"]
    if counted is not None and counted < minimum_days * 86400:
        return [
            Measurement(
                Target(UNUSED_INDEXES, service),
                None,
                f"too early to tell: uses have been counted for {format_seconds(max(0, counted))}, "
                f"expected {minimum_days:g} days or more",
                SKIPPED,
            )
        ]
    since = "since the server was made"
    if counted is not None:
        since = f"in {format_seconds(max(0.0, counted))}, as long as uses have been counted"
    standbys = int(server["standbys"])
    if standbys:
        since += f"; {plural(standbys, 'standby')} may use it and count for itself"
    by_oid = {int(row["oid"]): row for row in indexes}
    found = []
    for oid, family in _with_children(indexes).items():
        top = by_oid[oid]
        if _serves_a_rule(top) or not top["is_valid"] or any(row["scans"] for row in family):
            continue
        size_bytes = _family_bytes(family, seen)
        found.append(
            Measurement(
                Target(UNUSED_INDEXES, service, str(top["name"])),
                size_bytes,
                f"{format_bytes(size_bytes)} on {top['table_name']}, not used {since}",
                hint=f"see that no rare report needs it, then {_drop(top)}",
            )
        )
    return bounded(UNUSED_INDEXES, service, _by_value(found), "each index is used or keeps a rule")


_LOCATIONS = re.compile(r" :(?:location|stmt_location|stmt_len) -?\d+")


def _tree(text: Optional[str]) -> str:
    """An expression tree without the places in the statement that it came from."""
    return _LOCATIONS.sub("", text or "")


def _what_it_does(index: Row) -> tuple[Any, ...]:
    return (
        index["table_oid"],
        index["method"],
        tuple(index["columns"]),
        index["key_columns"],
        index["operator_classes"],
        index["collations"],
        index["ordering"],
        _tree(index["expressions"]),
        _tree(index["predicate"]),
    )


def _worth(index: Row) -> tuple[Any, ...]:
    """Which of several equal indexes is kept: the one that most depends on."""
    return (
        bool(index["is_primary"]),
        bool(index["is_replica_identity"]),
        bool(index["constraint_name"]),
        bool(index["is_unique"]),
        bool(index["is_clustered"]),
        int(index["scans"]),
        -int(index["oid"]),
    )


def duplicate_indexes(service: str, indexes: Rows, seen: Sizes) -> list[Measurement]:
    """``weekly_db.duplicate_indexes``: same table, method, columns, order, expressions, predicate.

    A unique index makes a plain one superfluous; two unique ones that treat NULL differently are
    two rules.
    """
    families = _with_children(indexes)
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in indexes:
        if row["is_valid"] and _standalone(row):
            groups.setdefault(_what_it_does(row), []).append(row)
    found = []
    for group in groups.values():
        kept = max(group, key=_worth)
        for row in group:
            other_rule = row["is_unique"] and (
                row["nulls_not_distinct"] != kept["nulls_not_distinct"]
            )
            if row is kept or other_rule or row["is_replica_identity"]:
                continue
            size_bytes = _family_bytes(families[int(row["oid"])], seen)
            found.append(
                Measurement(
                    Target(DUPLICATE_INDEXES, service, str(row["name"])),
                    size_bytes,
                    f"{format_bytes(size_bytes)}, does what {kept['name']} does on "
                    f"{row['table_name']}",
                    hint=_drop(row),
                )
            )
    return bounded(DUPLICATE_INDEXES, service, _by_value(found), "no two indexes do the same")


def invalid_indexes(service: str, indexes: Rows, seen: Sizes) -> list[Measurement]:
    """``weekly_db.invalid_indexes``, but for those that are being built."""
    found = []
    for row in indexes:
        if (row["is_valid"] and row["is_ready"]) or row["building_pid"] is not None:
            continue
        size_bytes = seen.indexes.get(int(row["oid"]), 0)
        name = str(row["name"])
        stem = str(row["relname"]).rstrip("0123456789")
        if row["kind"] == "I":
            message = f"invalid on {row['table_name']}: not every partition has its index"
            hint = f"create it on each partition, then ALTER INDEX {name} ATTACH PARTITION"
        elif stem.endswith(("_ccnew", "_ccold")):
            message = (
                f"invalid, {format_bytes(size_bytes)} on {row['table_name']}: left by a REINDEX "
                "CONCURRENTLY that did not end"
            )
            hint = f"DROP INDEX CONCURRENTLY {name}"
        else:
            message = (
                f"invalid, {format_bytes(size_bytes)} on {row['table_name']}: each write pays for "
                "it and no query uses it"
            )
            wanted = shlex.quote(json.dumps({"postgres_maintain_reindex_invalid": [name]}))
            hint = (
                f"DROP INDEX CONCURRENTLY {name} and create it again; or ansible-playbook "
                f"pynomaly.ops.weekly_db -e {wanted}"
            )
        measured = Measurement(
            Target(INVALID_INDEXES, service, name), size_bytes, message, WARNING, hint
        )
        found.append(measured)
    return bounded(INVALID_INDEXES, service, _by_value(found), "each index is valid")


def missing_foreign_key_indexes(
    service: str, keys: Rows, indexes: Rows, tables: Sequence[Table], seen: Sizes
) -> list[Measurement]:
    """``weekly_db.foreign_keys``: a delete or a change of key on the other side reads all of this
    table, unless an index begins with the key's columns, in whatever order."""
    by_table: dict[int, list[Row]] = {}
    for row in indexes:
        if row["is_valid"] and row["predicate"] is None and row["method"] in ("btree", "hash"):
            by_table.setdefault(int(row["table_oid"]), []).append(row)
    children: dict[int, list[int]] = {}
    for table in tables:
        if table.parent is not None:
            children.setdefault(table.parent, []).append(table.oid)

    def table_bytes(oid: int) -> int:
        return seen.table(oid) + sum(table_bytes(child) for child in children.get(oid, ()))

    found = []
    for key in keys:
        columns = list(key["columns"])
        covered = any(
            len(row["columns"][: row["key_columns"]]) >= len(columns)
            and set(row["columns"][: len(columns)]) == set(columns)
            for row in by_table.get(int(key["table_oid"]), ())
        )
        if covered:
            continue
        size_bytes = table_bytes(int(key["table_oid"]))
        names = ", ".join(key["column_names"])
        partitioned = key["table_kind"] == "p"
        found.append(
            Measurement(
                Target(FOREIGN_KEYS, service, f"{key['table_name']} ({names})"),
                size_bytes,
                f"{key['name']} to {key['referenced']} has no index, and {key['table_name']} has "
                f"{format_bytes(size_bytes)}: each delete over there reads it all",
                hint=f"CREATE INDEX {'' if partitioned else 'CONCURRENTLY '}ON "
                f"{key['table_name']} ({names})",
            )
        )
    return bounded(
        FOREIGN_KEYS, service, _by_value(found), f"each of {len(keys)} foreign keys has an index"
    )


# Sequences and ids


def sequence_measurements(service: str, rows: Rows) -> list[Measurement]:
    """``weekly_db.sequences``: used of what the sequence and the column's type can hold."""
    found: dict[str, Measurement] = {}
    for row in rows:
        if row["last_value"] is None or row["cycles"]:
            continue
        increment, last = int(row["increment"]), int(row["last_value"])
        low, high = int(row["minimum"]), int(row["maximum"])
        ends = _TYPE_ENDS.get(str(row["column_type"]))
        limited_by = "the sequence"
        if ends is not None and increment > 0 and ends - 1 < high:
            high, limited_by = ends - 1, f"{row['column_type']} of the column"
        if ends is not None and increment < 0 and -ends > low:
            low, limited_by = -ends, f"{row['column_type']} of the column"
        used = last - low if increment > 0 else high - last
        room = max(1, high - low)
        percent = round(min(100.0, max(0.0, 100.0 * used / room)), 1)
        end = high if increment > 0 else low
        message = f"at {last} of {end}, the end of {limited_by}"
        if row["table_name"]:
            message += f" ({row['table_name']}.{row['column_name']})"
        one = Measurement(
            Target(SEQUENCES, service, str(row["name"])),
            percent,
            message,
            hint=_sequence_hint(row, increment),
        )
        held = found.get(str(row["name"]))
        if held is None or float(str(held.value)) < percent:
            found[str(row["name"])] = one
    return bounded(
        SEQUENCES, service, _by_value(found.values()), "no sequence has given a number yet"
    )


def _sequence_hint(row: Row, increment: int) -> str:
    """How to give a sequence room. An identity column's sequence follows its column's type."""
    wider = f"ALTER SEQUENCE {row['name']} AS bigint"
    if row["column_type"] in ("smallint", "integer"):
        steps = [
            f"ALTER TABLE {row['table_name']} ALTER COLUMN {row['column_name']} TYPE bigint, which "
            "rewrites the table under a lock"
        ]
        if row["sequence_type"] != "bigint" and not row["is_identity"]:
            steps.append(wider)
        return "; ".join(steps)
    if row["sequence_type"] != "bigint":
        return wider
    return f"ALTER SEQUENCE {row['name']} NO {'MAXVALUE' if increment > 0 else 'MINVALUE'}"


def wraparound_measurements(
    service: str, databases: Rows, tables: Sequence[Table]
) -> list[Measurement]:
    """``weekly_db.wraparound`` of transactions and of multixacts: the oldest of any database."""
    found = []
    for kind, column in (("transactions", "xid_age"), ("multixacts", "multixact_age")):
        worst = max(databases, key=lambda row: int(row[column]))
        age = int(worst[column])
        oldest = sorted(
            (one for one in tables if getattr(one, column) is not None),
            key=lambda one: -int(getattr(one, column)),
        )[:5]
        detail = [{"table": one.name, "age": int(getattr(one, column))} for one in oldest]
        message = (
            f"the oldest is {age / 1e6:,.1f} million old in {worst['name']}, of "
            f"{TRANSACTION_IDS / 1e6:,.0f} million"
        )
        found.append(
            Measurement(
                Target(WRAPAROUND, service, kind),
                round(100.0 * age / TRANSACTION_IDS, 2),
                message,
                detail=detail,
            )
        )
    return found


# Statements


def statements_unavailable(service: str, preloaded: Optional[bool], installed: bool) -> Measurement:
    """``weekly_db.statements`` where the extension is missing, with how to have it.

    ``preloaded`` is C{None} where the role may not see shared_preload_libraries.
    """
    steps = []
    if preloaded is False:
        steps.append("set shared_preload_libraries to pg_stat_statements and restart the server")
    if not installed:
        steps.append("CREATE EXTENSION pg_stat_statements")
    return Measurement(
        Target(STATEMENTS, service),
        None,
        f"to see them: {', then '.join(steps) or 'look at shared_preload_libraries'} "
        "(pg_stat_statements is not there)",
        SKIPPED,
    )


def statement_measurements(service: str, rows: Rows, most: int) -> list[Measurement]:
    """``weekly_db.statements``: half with the most time in all, the others with the longest mean.

    Texts are masked and short; a statement that the planner does not see is not shown.
    """
    shown: dict[str, Measurement] = {}
    texts = {str(row["id"]): masked_statement(str(row["text"])) for row in rows}
    visible = [row for row in rows if texts[str(row["id"])] is not None]
    hidden = len(rows) - len(visible)
    by_total = sorted(visible, key=lambda row: -row["total_ms"])[: (most + 1) // 2]
    by_mean = sorted(visible, key=lambda row: -row["mean_ms"])
    for row in [*by_total, *by_mean]:
        if len(shown) >= most:
            break
        identifier = str(row["id"])
        share = 100.0 * row["total_ms"] / row["all_ms"] if row["all_ms"] else 0.0
        shown.setdefault(
            identifier,
            Measurement(
                Target(STATEMENTS, service, f"query {identifier}"),
                round(row["mean_ms"], 2),
                f"{row['calls']:.0f} calls of {format_seconds(row['mean_ms'] / 1000)} each, the "
                f"longest {format_seconds(row['longest_ms'] / 1000)}, {share:.0f} % of all time: "
                f"{shortened(str(texts[identifier]), STATEMENT_CHARACTERS)}",
                hint="EXPLAIN (ANALYZE, BUFFERS) it with real values; pg_stat_statements has the "
                f"whole text under queryid {identifier}",
            ),
        )
    if not shown:
        what = f"{hidden} of other kinds are not shown" if hidden else "none was counted yet"
        return [Measurement(Target(STATEMENTS, service), None, what, OK)]
    return _by_value(shown.values())


def question_failed(identifier: str, service: str, text: str) -> Measurement:
    """A question that the server did not answer; the others still are."""
    return Measurement(
        Target(identifier, service),
        None,
        f"the query was refused: {text}",
        UNKNOWN,
        "docker compose logs --tail 100 SERVICE",
    )
