# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every probe of the weekly look at the database, with the thresholds that hold where the user
says nothing. They are judged by the same thresholds and waivers as those of the daily check.
"""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.pynomaly.ops.plugins.module_utils._probe import ABOVE, ProbeDefinition

COMPONENT = "weekly_db"
OURS = "collection default"

STATISTICS = "weekly_db.statistics"
DEAD_TUPLES = "weekly_db.dead_tuples"
REINDEX = "weekly_db.reindex"
SIZE = "weekly_db.size"
GROWTH = "weekly_db.growth"
BLOAT = "weekly_db.bloat"
INDEX_BLOAT = "weekly_db.index_bloat"
UNUSED_INDEXES = "weekly_db.unused_indexes"
DUPLICATE_INDEXES = "weekly_db.duplicate_indexes"
INVALID_INDEXES = "weekly_db.invalid_indexes"
FOREIGN_KEYS = "weekly_db.foreign_keys"
SEQUENCES = "weekly_db.sequences"
WRAPAROUND = "weekly_db.wraparound"
STATEMENTS = "weekly_db.statements"
SETTINGS = "weekly_db.settings"

_MIB = 1024 * 1024

_ALL = (
    ProbeDefinition(
        STATISTICS,
        COMPONENT,
        "Planner statistics are fresh",
        hint="ansible-playbook pynomaly.ops.weekly_db",
        source="PostgreSQL documentation, Updating Planner Statistics",
    ),
    ProbeDefinition(
        DEAD_TUPLES,
        COMPONENT,
        "Dead tuples are removed and old rows are frozen",
        hint="ansible-playbook pynomaly.ops.weekly_db",
        source="PostgreSQL documentation, Routine Vacuuming",
    ),
    ProbeDefinition(
        REINDEX,
        COMPONENT,
        "Indexes that were to be rebuilt",
        hint="SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid",
    ),
    ProbeDefinition(
        SIZE,
        COMPONENT,
        "Size of the database",
        unit="bytes",
        direction=ABOVE,
        hint="look at the largest tables: what is kept that nobody needs?",
        source=OURS,
    ),
    ProbeDefinition(
        GROWTH,
        COMPONENT,
        "Growth of the database in a week",
        unit="percent",
        direction=ABOVE,
        warning=50,
        hint="look at the tables that grew most, and at host.disk of pynomaly.ops.daily_check",
        source=OURS,
    ),
    ProbeDefinition(
        BLOAT,
        COMPONENT,
        "Estimated share of a table that holds nothing",
        unit="percent",
        direction=ABOVE,
        warning=40,
        hint="CREATE EXTENSION pgstattuple measures it; pg_repack gives the space back while the "
        "table is in use, VACUUM FULL locks it",
        source="ioguix/pgsql-bloat-estimation, table/table_bloat.sql",
    ),
    ProbeDefinition(
        INDEX_BLOAT,
        COMPONENT,
        "Estimated share of an index that holds nothing",
        unit="percent",
        direction=ABOVE,
        warning=50,
        hint="REINDEX INDEX CONCURRENTLY, in a quiet hour",
        source="ioguix/pgsql-bloat-estimation, btree/btree_bloat.sql",
    ),
    ProbeDefinition(
        UNUSED_INDEXES,
        COMPONENT,
        "Size of an index that no query has used",
        unit="bytes",
        direction=ABOVE,
        warning=_MIB,
        hint="see that no standby uses it, then DROP INDEX CONCURRENTLY",
        source=OURS,
    ),
    ProbeDefinition(
        DUPLICATE_INDEXES,
        COMPONENT,
        "Size of an index that another one makes superfluous",
        unit="bytes",
        direction=ABOVE,
        warning=0,
        hint="DROP INDEX CONCURRENTLY",
        source=OURS,
    ),
    ProbeDefinition(
        INVALID_INDEXES,
        COMPONENT,
        "Indexes that cost writes and serve no query",
        hint="DROP INDEX CONCURRENTLY, then create it again",
        source="PostgreSQL documentation, CREATE INDEX, Building Indexes Concurrently",
    ),
    ProbeDefinition(
        FOREIGN_KEYS,
        COMPONENT,
        "Size of a table whose foreign key has no index",
        unit="bytes",
        direction=ABOVE,
        warning=_MIB,
        hint="CREATE INDEX CONCURRENTLY on the key's columns",
        source="PostgreSQL documentation, Constraints, Foreign Keys",
    ),
    ProbeDefinition(
        SEQUENCES,
        COMPONENT,
        "Numbers of a sequence that are used",
        unit="percent",
        direction=ABOVE,
        warning=75,
        critical=90,
        hint="ALTER SEQUENCE AS bigint, and the column's type to bigint",
        source=OURS,
    ),
    ProbeDefinition(
        WRAPAROUND,
        COMPONENT,
        "Oldest id, of the two thousand million that there are",
        unit="percent",
        direction=ABOVE,
        warning=50,
        critical=75,
        hint="VACUUM (FREEZE) the oldest tables; look for old transactions and replication slots",
        source="PostgreSQL documentation, Preventing Transaction ID Wraparound Failures",
    ),
    ProbeDefinition(
        STATEMENTS,
        COMPONENT,
        "Mean time of a statement",
        unit="ms",
        direction=ABOVE,
        warning=1000,
        hint="EXPLAIN (ANALYZE, BUFFERS) it with real values",
        source="runbook, High response times: above 1 second",
    ),
    ProbeDefinition(
        SETTINGS,
        COMPONENT,
        "Settings fit the machine",
        hint="change the setting, then restart the server",
        source="PostgreSQL documentation, Resource Consumption; Write Ahead Log; Query Planning",
    ),
)

#: Every probe by its id, in the report's order.
MAINTENANCE_CATALOGUE: Mapping[str, ProbeDefinition] = {
    definition.id: definition for definition in _ALL
}
