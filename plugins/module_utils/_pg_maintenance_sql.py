# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the weekly look asks of PostgreSQL 13 to 18, and how its maintenance is said.

Nothing here waits for a table that somebody has locked, but for the sizes, which leave locked
relations out. Names come quoted by the server (``format('%I')``), ready to be part of a statement.
``version`` is 170006 for 17.6.
"""

from __future__ import annotations

import re

#: Stands in each of our own statements, so that the slowest statements are not ours.
MARK = "/* pynomaly.ops */"

# Schemas that are the server's own. Autovacuum looks after them.
_USER_SCHEMA = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'"


def _not_of_extension(oid: str) -> str:
    return (
        "NOT EXISTS (SELECT FROM pg_depend AS e WHERE e.classid = 'pg_class'::regclass "
        f"AND e.objid = {oid} AND e.deptype = 'e')"
    )


SERVER = """
SELECT current_database()::text AS database,
       pg_is_in_recovery() AS standby,
       current_setting('server_version') AS version,
       current_setting('server_version_num')::int AS version_number,
       current_setting('block_size')::int AS block_size,
       pg_database_size(current_database()) AS database_bytes,
       (SELECT count(*) FROM pg_stat_replication)::int AS standbys,
       extract(epoch FROM now() - greatest(
           (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database()),
           (SELECT stats_reset FROM pg_stat_bgwriter)))::float8 AS counted_seconds
"""

#: A partitioned table has rows in pg_stat_all_tables since 14 only, and is never autoanalyzed.
TABLES = f"""
SELECT c.oid::bigint AS oid,
       format('%I.%I', n.nspname, c.relname) AS name,
       c.relkind::text AS kind,
       p.inhparent::bigint AS parent,
       c.reltuples::float8 AS reltuples,
       c.relpages AS pages,
       coalesce(c.reloptions, '{{}}')::text[] AS options,
       greatest(age(nullif(c.relfrozenxid, '0')), age(nullif(t.relfrozenxid, '0'))) AS xid_age,
       greatest(mxid_age(nullif(c.relminmxid, '0')), mxid_age(nullif(t.relminmxid, '0')))
         AS multixact_age,
       coalesce(s.n_live_tup, 0) AS live,
       coalesce(s.n_dead_tup, 0) AS dead,
       coalesce(s.n_mod_since_analyze, 0) AS modified,
       extract(epoch FROM s.last_analyze)::float8 AS analyzed_at,
       extract(epoch FROM s.last_autoanalyze)::float8 AS autoanalyzed_at,
       coalesce(st.own, false) AS has_statistics,
       coalesce(st.inherited, false) AS has_inherited_statistics,
       coalesce(v.pid, a.pid) AS busy_pid
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid
  LEFT JOIN pg_inherits AS p ON p.inhrelid = c.oid AND c.relispartition
  LEFT JOIN pg_stat_all_tables AS s ON s.relid = c.oid
  LEFT JOIN (SELECT schemaname, tablename, bool_or(NOT inherited) AS own,
                    bool_or(inherited) AS inherited
               FROM pg_stats GROUP BY 1, 2) AS st
    ON st.schemaname = n.nspname AND st.tablename = c.relname
  LEFT JOIN pg_stat_progress_vacuum AS v
    ON v.relid = c.oid AND v.datname = current_database()
  LEFT JOIN pg_stat_progress_analyze AS a
    ON a.relid = c.oid AND a.datname = current_database()
 WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
   AND {_USER_SCHEMA} AND {_not_of_extension("c.oid")}
"""  # noqa: S608

#: Main forks in bytes, of tables and what belongs to them. pg_relation_size() waits for who holds
#: or wants an exclusive lock, so such a relation's size is what the last vacuum saw.
SIZES = f"""
WITH locked AS MATERIALIZED (
  SELECT DISTINCT relation FROM pg_locks
   WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock'
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
), relations AS (
  SELECT c.oid AS owner, c.oid, 'table' AS part
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {_USER_SCHEMA}
), parts AS (
  SELECT owner, oid, part FROM relations
  UNION ALL
  SELECT r.owner, c.reltoastrelid, 'toast'
    FROM relations AS r JOIN pg_class AS c ON c.oid = r.oid WHERE c.reltoastrelid <> 0
  UNION ALL
  SELECT r.owner, i.indexrelid, 'toast'
    FROM relations AS r JOIN pg_class AS c ON c.oid = r.oid
    JOIN pg_index AS i ON i.indrelid = c.reltoastrelid
  UNION ALL
  SELECT r.owner, i.indexrelid, 'index' FROM relations AS r JOIN pg_index AS i ON i.indrelid = r.oid
)
SELECT p.owner::bigint AS owner, p.oid::bigint AS oid, p.part,
       l.relation IS NOT NULL AS locked,
       coalesce(CASE WHEN l.relation IS NULL THEN pg_relation_size(p.oid)
            ELSE c.relpages::bigint * current_setting('block_size')::bigint END, 0) AS bytes
  FROM parts AS p
  JOIN pg_class AS c ON c.oid = p.oid
  LEFT JOIN locked AS l ON l.relation = p.oid
"""  # noqa: S608

DATABASES = """
SELECT datname::text AS name, age(datfrozenxid) AS xid_age, mxid_age(datminmxid) AS multixact_age
  FROM pg_database
"""

FOREIGN_KEYS = f"""
SELECT f.conname::text AS name,
       f.conrelid::bigint AS table_oid,
       format('%I.%I', n.nspname, c.relname) AS table_name,
       c.relkind::text AS table_kind,
       f.confrelid::regclass::text AS referenced,
       f.conkey::int[] AS columns,
       (SELECT array_agg(quote_ident(a.attname) ORDER BY k.place)
          FROM unnest(f.conkey) WITH ORDINALITY AS k(number, place)
          JOIN pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = k.number)::text[]
         AS column_names
  FROM pg_constraint AS f
  JOIN pg_class AS c ON c.oid = f.conrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE f.contype = 'f' AND f.conparentid = 0 AND {_USER_SCHEMA} AND {_not_of_extension("c.oid")}
"""  # noqa: S608

#: A column takes its numbers from a sequence by owning it (serial, identity) or by its default.
SEQUENCES = f"""
WITH used AS MATERIALIZED (
  SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number
    FROM pg_depend AS d
   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
     AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
     AND d.objid IN (SELECT seqrelid FROM pg_sequence)
  UNION
  SELECT d.refobjid, ad.adrelid, ad.adnum
    FROM pg_depend AS d
    JOIN pg_attrdef AS ad ON ad.oid = d.objid
   WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
     AND d.refobjid IN (SELECT seqrelid FROM pg_sequence)
), columns AS MATERIALIZED (
  SELECT used.sequence,
         format('%I.%I', tn.nspname, tc.relname) AS table_name,
         quote_ident(a.attname) AS column_name, a.attidentity <> '' AS is_identity,
         format_type(coalesce(nullif(ty.typbasetype, 0), ty.oid), NULL) AS column_type
    FROM used
    JOIN pg_attribute AS a ON a.attrelid = used.relation AND a.attnum = used.number
    JOIN pg_type AS ty ON ty.oid = a.atttypid
    JOIN pg_class AS tc ON tc.oid = used.relation
    JOIN pg_namespace AS tn ON tn.oid = tc.relnamespace
)
SELECT format('%I.%I', n.nspname, c.relname) AS name,
       s.seqincrement::text AS increment, s.seqmin::text AS minimum, s.seqmax::text AS maximum,
       s.seqcycle AS cycles,
       CASE WHEN has_sequence_privilege(c.oid, 'SELECT, USAGE')
            THEN pg_sequence_last_value(c.oid)::text END AS last_value,
       format_type(s.seqtypid, NULL) AS sequence_type,
       col.table_name, col.column_name, col.column_type, col.is_identity
  FROM pg_sequence AS s
  JOIN pg_class AS c ON c.oid = s.seqrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN columns AS col ON col.sequence = c.oid
 WHERE c.relpersistence <> 't' AND {_USER_SCHEMA} AND {_not_of_extension("c.oid")}
"""  # noqa: S608

#: What the estimate of table bloat is made of; virtual columns (18) are not stored.
TABLE_BLOAT = f"""
SELECT c.oid::bigint AS oid, format('%I.%I', n.nspname, c.relname) AS name,
       c.reltuples::float8 AS reltuples, c.relpages AS pages,
       coalesce(t.relpages, 0) AS toast_pages, coalesce(t.reltuples, 0)::float8 AS toast_tuples,
       coalesce(c.reloptions, '{{}}')::text[] AS options,
       count(a.attname)::int AS columns, count(s.attname)::int AS known_columns,
       coalesce(bool_or(a.atttypid = 'name'::regtype), false) AS has_name,
       coalesce(max(s.null_frac), 0)::float8 AS null_fraction,
       coalesce(sum((1 - s.null_frac) * s.avg_width), 0)::float8 AS width
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
       AND a.attgenerated <> 'v'
  LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid
  LEFT JOIN pg_stats AS s ON s.schemaname = n.nspname AND s.tablename = c.relname
       AND s.attname = a.attname AND NOT s.inherited
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relpages > 0
   AND {_USER_SCHEMA} AND {_not_of_extension("c.oid")}
 GROUP BY c.oid, n.nspname, c.relname, c.reltuples, c.relpages, c.reloptions, t.relpages,
          t.reltuples
"""  # noqa: S608

#: The same for B-tree indexes on plain columns.
INDEX_BLOAT = f"""
SELECT i.indexrelid::bigint AS oid, i.indrelid::bigint AS table_oid,
       format('%I.%I', n.nspname, ic.relname) AS name,
       ic.reltuples::float8 AS reltuples, ic.relpages AS pages,
       coalesce(ic.reloptions, '{{}}')::text[] AS options,
       i.indnatts::int AS columns, count(s.attname)::int AS known_columns,
       coalesce(bool_or(a.atttypid = 'name'::regtype), false) AS has_name,
       coalesce(max(s.null_frac), 0)::float8 AS null_fraction,
       coalesce(sum((1 - s.null_frac) * s.avg_width), 0)::float8 AS width
  FROM pg_index AS i
  JOIN pg_class AS ic ON ic.oid = i.indexrelid
  JOIN pg_am AS am ON am.oid = ic.relam AND am.amname = 'btree'
  JOIN pg_class AS c ON c.oid = i.indrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  CROSS JOIN LATERAL unnest(i.indkey::int[]) AS k(number)
  LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.number
  LEFT JOIN pg_stats AS s ON s.schemaname = n.nspname AND s.tablename = c.relname
       AND s.attname = a.attname AND NOT s.inherited
 WHERE ic.relkind = 'i' AND ic.relpages > 0 AND i.indisvalid AND i.indpred IS NULL
   AND c.relpersistence <> 't' AND {_USER_SCHEMA} AND {_not_of_extension("c.oid")}
 GROUP BY i.indexrelid, i.indrelid, i.indnatts, n.nspname, ic.relname, ic.reltuples, ic.relpages,
          ic.reloptions
"""  # noqa: S608

#: Settings that the report looks at, with the text of the sources' names.
SETTING_NAMES = (
    "autovacuum",
    "autovacuum_freeze_max_age",
    "autovacuum_max_workers",
    "autovacuum_multixact_freeze_max_age",
    "autovacuum_work_mem",
    "checkpoint_completion_target",
    "checkpoint_timeout",
    "effective_cache_size",
    "maintenance_work_mem",
    "max_connections",
    "max_wal_size",
    "shared_buffers",
    "shared_preload_libraries",
    "track_counts",
    "work_mem",
)
SETTINGS = f"""
SELECT name, setting, coalesce(unit, '') AS unit, source
  FROM pg_settings WHERE name IN ({", ".join(repr(name) for name in SETTING_NAMES)})
"""  # noqa: S608

EXTENSION = """
SELECT e.extversion::text AS version, quote_ident(n.nspname) AS schema
  FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
 WHERE e.extname = 'pg_stat_statements'
"""

#: What keeps dead rows from being removed: the oldest snapshot of anybody.
HORIZON = """
SELECT * FROM (
  SELECT format('the transaction of pid %s (role %s, %s)', pid, usename, state) AS holder,
         age(backend_xmin) AS age
    FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
  UNION ALL
  SELECT format('prepared transaction %L of role %s', gid, owner), age(transaction)
    FROM pg_prepared_xacts
  UNION ALL
  SELECT format('replication slot %I', slot_name), greatest(age(xmin), age(catalog_xmin))
    FROM pg_replication_slots WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
  UNION ALL
  SELECT format('standby %s', application_name), age(backend_xmin)
    FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
) AS holders ORDER BY age DESC NULLS LAST LIMIT 1
"""


def indexes(version: int) -> str:
    """Every index of users' tables. NULLS NOT DISTINCT came with 15."""
    nulls = "i.indnullsnotdistinct" if version >= 150000 else "false"
    return f"""
SELECT i.indexrelid::bigint AS oid, i.indrelid::bigint AS table_oid,
       format('%I.%I', n.nspname, ic.relname) AS name, ic.relname::text AS relname,
       format('%I.%I', tn.nspname, c.relname) AS table_name,
       ic.relkind::text AS kind, p.inhparent::bigint AS parent, am.amname::text AS method,
       i.indisunique AS is_unique, i.indisprimary AS is_primary, i.indisexclusion AS is_exclusion,
       i.indisvalid AS is_valid, i.indisready AS is_ready,
       i.indisreplident AS is_replica_identity, i.indisclustered AS is_clustered,
       i.indnkeyatts::int AS key_columns, i.indkey::int[] AS columns,
       i.indclass::text AS operator_classes, i.indcollation::text AS collations,
       i.indoption::text AS ordering, {nulls} AS nulls_not_distinct,
       i.indexprs::text AS expressions, i.indpred::text AS predicate,
       coalesce(ic.reloptions, '{{}}')::text[] AS options,
       con.conname::text AS constraint_name,
       coalesce(s.idx_scan, 0) AS scans,
       (SELECT min(b.pid) FROM pg_stat_progress_create_index AS b
         WHERE b.relid = i.indrelid AND b.datname = current_database()) AS building_pid
  FROM pg_index AS i
  JOIN pg_class AS ic ON ic.oid = i.indexrelid
  JOIN pg_namespace AS n ON n.oid = ic.relnamespace
  JOIN pg_am AS am ON am.oid = ic.relam
  JOIN pg_class AS c ON c.oid = i.indrelid
  JOIN pg_namespace AS tn ON tn.oid = c.relnamespace
  LEFT JOIN pg_inherits AS p ON p.inhrelid = i.indexrelid
  LEFT JOIN pg_constraint AS con
    ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid AND con.contype IN ('p', 'u', 'x')
  LEFT JOIN pg_stat_all_indexes AS s ON s.indexrelid = i.indexrelid
 WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
   AND {_USER_SCHEMA} AND {_not_of_extension("c.oid")}
"""  # noqa: S608


def checkpoints(version: int) -> str:
    """How often WAL has forced a checkpoint: pg_stat_checkpointer took that over with 17."""
    if version >= 170000:
        return (
            "SELECT num_timed AS timed, num_requested AS requested, "
            "extract(epoch FROM now() - stats_reset)::float8 AS counted_seconds "
            "FROM pg_stat_checkpointer"
        )
    return (
        "SELECT checkpoints_timed AS timed, checkpoints_req AS requested, "
        "extract(epoch FROM now() - stats_reset)::float8 AS counted_seconds "
        "FROM pg_stat_bgwriter"
    )


def _extension_version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)) or (0,)


def statements(extension_version: str, schema: str) -> str:
    """Statements of this database with the most time in all and with the longest mean, as the
    columns of that version of pg_stat_statements are called.

    The extension's version decides, since it stays behind the server's until somebody updates it.
    1.8 came with PostgreSQL 13 (total_exec_time, planning apart), 1.9 with 14 (toplevel), 1.11
    with 17 (shared_blk_read_time), 1.12 with 18. ``schema`` is a quoted name.
    """
    version = _extension_version(extension_version)
    total, longest = (
        ("total_exec_time", "max_exec_time") if version >= (1, 8) else ("total_time", "max_time")
    )
    top = " AND s.toplevel" if version >= (1, 9) else ""
    return f"""
WITH all_statements AS (
  SELECT s.queryid::text AS id, left(min(s.query), 4000) AS text, sum(s.calls)::float8 AS calls,
         sum(s.{total})::float8 AS total_ms, max(s.{longest})::float8 AS longest_ms,
         sum(s.rows)::float8 AS rows
    FROM {schema}.pg_stat_statements AS s
   WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()){top}
     AND s.query NOT LIKE '%{MARK}%' AND s.calls > 0
   GROUP BY s.queryid
), ranked AS (
  SELECT a.*, a.total_ms / a.calls AS mean_ms, sum(a.total_ms) OVER () AS all_ms,
         row_number() OVER (ORDER BY a.total_ms DESC) AS by_total,
         row_number() OVER (ORDER BY a.total_ms / a.calls DESC) AS by_mean
    FROM all_statements AS a
)
SELECT * FROM ranked WHERE by_total <= 50 OR by_mean <= 50 ORDER BY total_ms DESC
"""  # noqa: S608


def marked(sql: str) -> str:
    """The statement with L{MARK} behind its first word, where the server keeps it."""
    return re.sub(r"\A\s*([A-Za-z]+)", rf"\1 {MARK}", sql, count=1)


# Maintenance. Names are quoted already.


def vacuum(name: str, *, freeze: bool) -> str:
    """VACUUM of one table, never FULL. Without parallel workers: they need shared memory, of which
    a container has 64 MiB unless told otherwise."""
    options = ["FREEZE"] if freeze else []
    return f"VACUUM ({', '.join([*options, 'ANALYZE', 'PARALLEL 0'])}) {name}"


def analyze(name: str, *, partitioned: bool, version: int) -> str:
    """ANALYZE of one table. Up to 17 a partitioned table's partitions are analyzed with it; 18 can
    leave them out."""
    only = "ONLY " if partitioned and version >= 180000 else ""
    return f"ANALYZE {only}{name}"


def reindex(name: str) -> str:
    return f"REINDEX INDEX CONCURRENTLY {name}"


def drop_index(name: str) -> str:
    return f"DROP INDEX CONCURRENTLY {name}"
