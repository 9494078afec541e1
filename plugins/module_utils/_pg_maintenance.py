# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which tables want ANALYZE or VACUUM, in which order, and what became of it.

The rules are autovacuum's own, with numbers of their own:
https://www.postgresql.org/docs/current/routine-vacuuming.html#AUTOVACUUM
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils import _pg_maintenance_sql as sql
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import PolicyError
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import plural

VACUUM = "vacuum"
ANALYZE = "analyze"
REINDEX = "reindex"

# What became of an action
DONE = "done"
PLANNED = "planned"
FAILED = "failed"
NOT_REACHED = "not_reached"
#: A rebuild was asked for, and the index is valid already.
UNNECESSARY = "unnecessary"

PARTITIONED = "p"

#: Less than this is not worth beginning with.
SHORTEST_SECONDS = 1.0


@dataclass(frozen=True)
class MaintenanceSettings:
    """What a user may set about maintenance. ``freeze_age_percent`` is of the age at which
    autovacuum starts on its own, to stop wraparound."""

    analyze: bool = True
    vacuum: bool = True
    analyze_threshold_rows: int = 50
    analyze_scale_factor: float = 0.05
    vacuum_threshold_rows: int = 50
    vacuum_scale_factor: float = 0.1
    freeze_age_percent: float = 75.0
    lock_timeout_seconds: float = 5.0
    statement_timeout_seconds: float = 900.0
    budget_seconds: float = 3600.0
    cost_delay_ms: float = 2.0
    reindex_invalid: Sequence[str] = ()
    fail_on_incomplete: bool = False
    bloat_minimum_mib: float = 64.0
    unused_index_days: float = 30.0
    statements: int = 10

    def validate(self) -> None:
        """Raise L{PolicyError} for a number that makes no sense, naming it."""
        for name in (
            "lock_timeout_seconds",
            "statement_timeout_seconds",
            "budget_seconds",
            "freeze_age_percent",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise PolicyError(f"{name}: seen {value}, expected a number above 0")
        for name in (
            "analyze_threshold_rows",
            "analyze_scale_factor",
            "vacuum_threshold_rows",
            "vacuum_scale_factor",
            "bloat_minimum_mib",
            "unused_index_days",
            "statements",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise PolicyError(f"{name}: seen {value}, expected 0 or a number above it")
        if not 0 <= self.cost_delay_ms <= 100:
            raise PolicyError(f"cost_delay_ms: seen {self.cost_delay_ms}, expected 0 to 100")


@dataclass(frozen=True)
class Table:
    """A table, materialized view or partitioned table. ``name`` is quoted; times are seconds since
    1970, ``None`` for never or not known; ages are in transactions."""

    oid: int
    name: str
    kind: str = "r"
    parent: Optional[int] = None
    reltuples: float = 0.0
    live: int = 0
    dead: int = 0
    modified: int = 0
    analyzed_at: Optional[float] = None
    autoanalyzed_at: Optional[float] = None
    has_statistics: bool = False
    has_inherited_statistics: bool = False
    xid_age: Optional[int] = None
    multixact_age: Optional[int] = None
    busy_pid: Optional[int] = None
    options: Mapping[str, str] = field(default_factory=dict)
    bytes: int = 0

    @property
    def rows(self) -> float:
        """As the planner knows it; -1 is what 14 and later say before the first look."""
        return max(0.0, self.reltuples)

    @property
    def has_rows(self) -> bool:
        """A table that nobody ever looked at has no count, but a size: after pg_upgrade, say."""
        unknown = self.reltuples < 0 or (self.reltuples == 0 and not self.ever_analyzed)
        return self.live > 0 or self.rows > 0 or (unknown and self.bytes > 0)

    @property
    def ever_analyzed(self) -> bool:
        """By the counters, or by the statistics themselves: counters are lost in a crash."""
        return (
            self.analyzed_at is not None
            or self.autoanalyzed_at is not None
            or self.has_statistics
            or self.has_inherited_statistics
        )


def reloptions(options: Iterable[str]) -> dict[str, str]:
    """``{"fillfactor=70"}`` as a dictionary."""
    return dict(option.partition("=")[::2] for option in options)


def tables(rows: Iterable[Mapping[str, Any]], sizes: Mapping[int, int]) -> list[Table]:
    """The answer to C{_pg_maintenance_sql.TABLES}; ``sizes`` are bytes of the table's heap by
    oid."""
    return [
        Table(
            oid=int(row["oid"]),
            name=str(row["name"]),
            kind=str(row["kind"]),
            parent=row["parent"],
            reltuples=float(row["reltuples"]),
            live=int(row["live"]),
            dead=int(row["dead"]),
            modified=int(row["modified"]),
            analyzed_at=row["analyzed_at"],
            autoanalyzed_at=row["autoanalyzed_at"],
            has_statistics=bool(row["has_statistics"]),
            has_inherited_statistics=bool(row["has_inherited_statistics"]),
            xid_age=row["xid_age"],
            multixact_age=row["multixact_age"],
            busy_pid=row["busy_pid"],
            options=reloptions(row["options"]),
            bytes=sizes.get(int(row["oid"]), 0),
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Action:
    """One statement to run. ``amount`` is what speaks for it, in rows, or in transactions where
    old rows are to be frozen."""

    verb: str
    name: str
    statement: str
    reason: str
    oid: int = 0
    amount: float = 0.0
    freeze: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of an action. ``dead_after`` are dead tuples that are still there."""

    action: Action
    state: str
    message: str = ""
    hint: str = ""
    duration_ms: float = 0.0
    dead_after: Optional[int] = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "action": self.action.verb,
            "name": self.action.name,
            "statement": self.action.statement,
            "reason": self.action.reason,
            "state": self.state,
            "message": self.message,
            "duration_ms": round(self.duration_ms, 1),
        }


@dataclass(frozen=True)
class FreezeLimits:
    """The ages at which autovacuum starts on its own, in transactions and multixacts."""

    transactions: int = 200_000_000
    multixacts: int = 400_000_000

    def of(self, table: Table) -> FreezeLimits:
        """A table's own settings can only be stricter than the server's."""

        def lower(name: str, limit: int) -> int:
            return min(limit, int(table.options.get(name, limit)))

        return FreezeLimits(
            lower("autovacuum_freeze_max_age", self.transactions),
            lower("autovacuum_multixact_freeze_max_age", self.multixacts),
        )


def _million(number: float) -> str:
    return f"{number / 1e6:,.1f} million"


def freeze_reason(table: Table, limits: FreezeLimits, percent: float) -> str:
    """Why a table's old rows are to be frozen; empty where they are not old."""
    own = limits.of(table)
    for what, age, limit in (
        ("transaction", table.xid_age, own.transactions),
        ("multixact", table.multixact_age, own.multixacts),
    ):
        if age is not None and age > limit * percent / 100:
            return (
                f"its oldest {what} id is {_million(age)} old, of the {_million(limit)} "
                "at which autovacuum freezes on its own"
            )
    return ""


def vacuum_reason(table: Table, settings: MaintenanceSettings) -> str:
    """Why dead tuples are to be removed; empty where they are few."""
    limit = settings.vacuum_threshold_rows + settings.vacuum_scale_factor * table.rows
    if table.dead <= limit:
        return ""
    return f"{plural(table.dead, 'dead tuple')}, more than {limit:.0f}"


def analyze_reason(table: Table, settings: MaintenanceSettings) -> str:
    """Why a table's own statistics are stale; empty where they are fresh."""
    if not table.ever_analyzed:
        return "never analyzed, and it has rows" if table.has_rows else ""
    limit = settings.analyze_threshold_rows + settings.analyze_scale_factor * table.rows
    if table.modified <= limit:
        return ""
    return f"{plural(table.modified, 'row')} changed since the last ANALYZE, more than {limit:.0f}"


def leaves(tables_by_oid: Mapping[int, Table]) -> dict[int, list[Table]]:
    """The leaf partitions below each partitioned table."""
    found: dict[int, list[Table]] = {
        oid: [] for oid, table in tables_by_oid.items() if table.kind == PARTITIONED
    }
    for table in tables_by_oid.values():
        if table.kind != PARTITIONED:
            for ancestor in ancestors(table, tables_by_oid):
                found[ancestor].append(table)
    return found


def ancestors(table: Table, tables_by_oid: Mapping[int, Table]) -> list[int]:
    """The partitioned tables above one, nearest first."""
    found = []
    parent = table.parent
    while parent is not None and parent in tables_by_oid:
        found.append(parent)
        parent = tables_by_oid[parent].parent
    return found


def partitioned_reason(
    table: Table, partitions: Sequence[Table], settings: MaintenanceSettings
) -> str:
    """Why a partitioned table's own statistics are stale. Autovacuum never makes any.

    There is no count of changes for it, so its partitions tell: one of them is stale, or
    autovacuum found one stale since.
    """
    if not any(one.has_rows for one in partitions):
        return ""
    if not table.ever_analyzed:
        return "a partitioned table that was never analyzed, and autovacuum never does"
    stale = [one for one in partitions if analyze_reason(one, settings)]
    if stale:
        return f"{plural(len(stale), 'partition')} of it changed, {stale[0].name} among them"
    if table.analyzed_at is not None:
        later = [
            one
            for one in partitions
            if one.autoanalyzed_at is not None and one.autoanalyzed_at > table.analyzed_at
        ]
        if later:
            return f"autovacuum has analyzed {plural(len(later), 'partition')} of it since"
    return ""


def plan(
    all_tables: Sequence[Table],
    settings: MaintenanceSettings,
    limits: FreezeLimits,
    version: int,
) -> list[Action]:
    """What is due, the most pressing first: freezing, then dead tuples, then statistics.

    A table that somebody vacuums or analyzes at the moment is left to them. VACUUM of a table
    brings its statistics, too; ANALYZE of a partitioned table up to 17 its partitions'.
    """
    by_oid = {table.oid: table for table in all_tables}
    below = leaves(by_oid)
    vacuums: list[Action] = []
    analyzes: list[Action] = []
    partitioned = {
        oid: reason
        for oid, partitions in below.items()
        if (reason := partitioned_reason(by_oid[oid], partitions, settings))
    }
    for table in all_tables:
        if table.busy_pid is not None:
            continue
        if table.kind == PARTITIONED:
            continue
        freeze = freeze_reason(table, limits, settings.freeze_age_percent)
        reason = "; ".join(filter(None, [freeze, vacuum_reason(table, settings)]))
        if reason:
            age = float(max(table.xid_age or 0, table.multixact_age or 0))
            vacuums.append(
                Action(
                    VACUUM,
                    table.name,
                    sql.vacuum(table.name, freeze=bool(freeze)),
                    reason,
                    table.oid,
                    age if freeze else float(table.dead),
                    bool(freeze),
                )
            )
            continue
        reason = analyze_reason(table, settings)
        covered = version < 180000 and any(
            ancestor in partitioned for ancestor in ancestors(table, by_oid)
        )
        if reason and not covered:
            statement = sql.analyze(table.name, partitioned=False, version=version)
            analyzes.append(
                Action(ANALYZE, table.name, statement, reason, table.oid, float(table.modified))
            )
    for oid, reason in partitioned.items():
        table = by_oid[oid]
        above = any(ancestor in partitioned for ancestor in ancestors(table, by_oid))
        if table.busy_pid is None and not (version < 180000 and above):
            statement = sql.analyze(table.name, partitioned=True, version=version)
            amount = float(sum(one.modified for one in below[oid]))
            analyzes.append(Action(ANALYZE, table.name, statement, reason, oid, amount))
    vacuums.sort(key=lambda action: (not action.freeze, -action.amount, action.name))
    analyzes.sort(key=lambda action: (-action.amount, action.name))
    return [*vacuums, *analyzes]


def enabled(action: Action, settings: MaintenanceSettings) -> bool:
    """Whether the user lets it be done."""
    return {VACUUM: settings.vacuum, ANALYZE: settings.analyze}.get(action.verb, True)


# Indexes that are rebuilt by name


class UnknownIndexError(Exception):
    """A name that was given is no index's; the text says what was expected."""


def reindex_plan(
    wanted: Sequence[str], indexes: Sequence[Mapping[str, Any]]
) -> tuple[list[Action], list[Outcome]]:
    """The rebuilds that the names ask for, and what needs none: a valid index is left alone.

    A name is C{schema.index} as the report writes it, or the index's alone where there is one of
    that name. Raises L{UnknownIndexError} before anything is touched.
    """
    actions: list[Action] = []
    valid: list[Outcome] = []
    for name in dict.fromkeys(wanted):
        found = [row for row in indexes if name in (row["name"], row["relname"])]
        exact = [row for row in found if row["name"] == name] or found
        if len(exact) != 1:
            invalid = sorted(str(row["name"]) for row in indexes if not row["is_valid"])
            seen = f"{len(exact)} of that name" if exact else "none of that name"
            raise UnknownIndexError(
                f"index {name}: seen {seen}, expected one; "
                f"invalid are: {', '.join(invalid) or 'none'}"
            )
        row = exact[0]
        action = Action(
            REINDEX,
            str(row["name"]),
            sql.reindex(str(row["name"])),
            "asked for by name",
            int(row["oid"]),
        )
        if row["is_valid"] and row["is_ready"]:
            valid.append(Outcome(action, UNNECESSARY, "the index is valid: nothing to rebuild"))
        else:
            actions.append(action)
    return actions, valid


def left_by_rebuild(
    action: Action, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Invalid indexes that a failed REINDEX CONCURRENTLY of ours has left: they end in _ccnew and a
    number perhaps, and were not there before."""
    known = {int(row["oid"]) for row in before}
    table = next((row["table_oid"] for row in before if int(row["oid"]) == action.oid), None)
    return [
        str(row["name"])
        for row in after
        if int(row["oid"]) not in known
        and row["table_oid"] == table
        and not row["is_valid"]
        and str(row["relname"]).rstrip("0123456789").endswith("_ccnew")
    ]


# Errors


def failure_hint(code: str, action: Action) -> str:
    """What to do about a statement that ended with this SQLSTATE."""
    return {
        "55P03": "look who holds the lock: SELECT pid, mode FROM pg_locks WHERE relation = "  # noqa: S608
        f"{action.oid}; then ansible-playbook pynomaly.ops.weekly_db again",
        "57014": "raise postgres_maintain_statement_timeout_seconds, or run "
        f"{action.statement} in a quiet hour",
        "42501": "run as the owner or a superuser: pynomaly_check_postgres_user",
        "42P01": "it is gone: nothing to do",
        "23505": "find the rows that are the same in the index's columns and keep one of each; "
        "then rebuild it",
    }.get(code, "docker compose logs --tail 100 SERVICE")


def failure_message(code: str, text: str, seconds: float) -> str:
    """What happened, in words. ``text`` is the server's first line alone: its details hold data."""
    return {
        "55P03": f"somebody holds a lock on it: not had within {seconds:g} s",
        "57014": f"not finished within {seconds:g} s, and broken off",
    }.get(code, text)


def undone_first(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """In their order otherwise."""
    return sorted(outcomes, key=lambda outcome: outcome.state == DONE)


def done_text(outcomes: Iterable[Outcome]) -> str:
    """What was done, in a sentence for the journal: "2 tables vacuumed, 1 analyzed"."""
    counts: dict[str, int] = {}
    missed = 0
    for outcome in outcomes:
        if outcome.state == DONE:
            counts[outcome.action.verb] = counts.get(outcome.action.verb, 0) + 1
        elif outcome.state in (FAILED, NOT_REACHED):
            missed += 1
    words = {VACUUM: "vacuumed", ANALYZE: "analyzed", REINDEX: "rebuilt"}
    parts = [f"{counts[verb]} {word}" for verb, word in words.items() if verb in counts]
    if missed:
        parts.append(f"{missed} not done")
    return ", ".join(parts) or "nothing was due"
