# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a database of a real server holds: counts and checksums of its tables, in one snapshot, and
all else that a restored one must have too.

Nothing is brought here but one number a table, so that memory does not grow with the rows. All
raise L{PostgresError}; a server that goes away in between is one.
"""

from __future__ import annotations

import contextlib
import importlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import scrub
from ansible_collections.pynomaly.ops.plugins.module_utils._database_contents import (
    CHECKSUM_METHOD,
    Listing,
    SequencePlace,
    Table,
    batches,
    hash_expression,
    objects_digest,
    parse_listing,
    parse_sequence_values,
    qualified_name,
    schema_objects,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PINNED_SETTINGS,
    PostgresError,
    PostgresServer,
    connect,
    load_psycopg2,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_tools import (
    OUTPUT,
    WORK,
    PostgresTools,
)

_SEQUENCES_AT_ONCE = 100
_LARGE_OBJECTS_AT_ONCE = 500
_LARGE_OBJECT_PART_BYTES = 1024 * 1024
_POLL_SECONDS = 0.1
#: ``jit`` would compile each of ten thousand small statements.
_SESSION_SETTINGS: Mapping[str, str] = {**PINNED_SETTINGS, "jit": "off"}

_BEGIN = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"

# relkind r alone has rows of its own. What belongs to an extension comes with the extension.
_USER_RELATIONS = """
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = %(kind)s
   AND c.relpersistence <> 't'
   AND n.nspname <> 'information_schema'
   AND n.nspname NOT LIKE 'pg\\_%%'
   AND NOT EXISTS (
         SELECT FROM pg_catalog.pg_depend d
          WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
            AND d.objid = c.oid AND d.deptype = 'e')
"""

_TABLES = f"""
SELECT n.nspname, c.relname, pg_catalog.pg_get_userbyid(c.relowner),
       coalesce(pg_catalog.pg_table_size(c.oid), 0), c.oid
{_USER_RELATIONS}
"""

_SEQUENCES = f"""
SELECT n.nspname, c.relname, s.seqincrement, s.seqcycle
{_USER_RELATIONS.replace(" WHERE", "  JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid WHERE")}
 ORDER BY 1, 2
"""

_COLUMNS = """
SELECT a.attrelid, a.attname, n.nspname, t.typname, t.typtype
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE a.attrelid = ANY(%(tables)s::pg_catalog.oid[]) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
"""

_MATERIALIZED_VIEWS = f"SELECT n.nspname, c.relname, c.relispopulated {_USER_RELATIONS}"

# Read in parts, since an object may be larger than the memory is. Its owner and privileges are
# part of it: a schema without data does not tell of them.
_LARGE_OBJECTS = """
WITH page AS MATERIALIZED (
  SELECT oid, lomowner, lomacl FROM pg_catalog.pg_largeobject_metadata
   WHERE oid > %(after)s ORDER BY oid LIMIT %(limit)s
), sized AS MATERIALIZED (
  SELECT oid, pg_catalog.lo_lseek64(fd, 0, 2) AS size, pg_catalog.lo_close(fd)
    FROM (SELECT oid, pg_catalog.lo_open(oid, 262144) AS fd FROM page OFFSET 0) AS opened
), hashes AS (
  SELECT pg_catalog.concat_ws(':', oid, part, pg_catalog.encode(pg_catalog.sha256(
           pg_catalog.lo_get(oid, part * %(part_bytes)s, %(part_bytes)s)
         ), 'hex')) AS text
    FROM sized, pg_catalog.generate_series(
           0, greatest(size - 1, 0) / %(part_bytes)s) AS part
   UNION ALL
  SELECT pg_catalog.concat_ws(':', oid, pg_catalog.pg_get_userbyid(lomowner), (
           SELECT pg_catalog.string_agg(pg_catalog.concat_ws(
                    '/', CASE grantee WHEN 0 THEN 'PUBLIC'
                           ELSE pg_catalog.pg_get_userbyid(grantee) END,
                    privilege_type, is_grantable), ',' ORDER BY grantee = 0,
                    pg_catalog.pg_get_userbyid(grantee), privilege_type)
             FROM pg_catalog.aclexplode(coalesce(lomacl, pg_catalog.acldefault('L', lomowner)))))
    FROM page
)
SELECT (SELECT pg_catalog.max(oid) FROM page), (SELECT pg_catalog.count(*) FROM page),
       coalesce(pg_catalog.sum(pg_catalog.hashtextextended(text COLLATE "C", 0)), 0)
  FROM hashes
"""

_EXTENSIONS = "SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY 1"

# What is the bootstrap superuser's own is in no pg_shdepend: https://www.postgresql.org/docs/
# current/catalog-pg-shdepend.html
_ROLES = """
WITH here AS (SELECT oid, datdba FROM pg_catalog.pg_database
               WHERE datname = pg_catalog.current_database())
SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.oid IN (
  SELECT d.refobjid FROM pg_catalog.pg_shdepend d, here
   WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
     AND (d.dbid = here.oid OR d.dbid = 0 AND d.objid = here.oid
          AND d.classid = 'pg_catalog.pg_database'::pg_catalog.regclass)
  UNION SELECT datdba FROM here
  UNION SELECT s.setrole FROM pg_catalog.pg_db_role_setting s, here WHERE s.setdatabase = here.oid
  UNION SELECT relowner FROM pg_catalog.pg_class WHERE oid >= 16384
  UNION SELECT typowner FROM pg_catalog.pg_type WHERE oid >= 16384
  UNION SELECT proowner FROM pg_catalog.pg_proc WHERE oid >= 16384
  UNION SELECT nspowner FROM pg_catalog.pg_namespace WHERE oid >= 16384
  UNION SELECT lomowner FROM pg_catalog.pg_largeobject_metadata
) ORDER BY 1
"""

_PROPERTIES = """
SELECT d.datname, pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype,
       pg_catalog.pg_get_userbyid(d.datdba), d.datconnlimit,
       coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''),
       pg_catalog.pg_database_size(d.oid),
       pg_catalog.to_jsonb(d) ->> 'datlocprovider',
       coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale'),
       coalesce(pg_catalog.to_jsonb(d) ->> 'daticurules', '')
  FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
"""

_PROPERTY_ACL = """
SELECT CASE a.grantee WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(a.grantee) END,
       a.privilege_type, a.is_grantable
  FROM pg_catalog.pg_database d,
       pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) AS a
 WHERE d.datname = pg_catalog.current_database()
 ORDER BY 1, 2, 3
"""

_PROPERTY_SETTINGS = """
SELECT coalesce(r.rolname, ''), setting
  FROM pg_catalog.pg_db_role_setting s
  JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
 CROSS JOIN pg_catalog.unnest(s.setconfig) AS setting
 WHERE d.datname = pg_catalog.current_database() AND (s.setrole = 0 OR r.oid IS NOT NULL)
 ORDER BY 1, 2
"""

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin", "d": "libc", None: "libc"}

Task = Callable[[Any], None]


# Sessions


@contextlib.contextmanager
def _told(server: PostgresServer, database: str, what: str) -> Iterator[None]:
    """Database errors as L{PostgresError}."""
    psycopg2 = load_psycopg2()
    try:
        yield
    except psycopg2.Error as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = scrub("; ".join(lines[:3])[:600] or type(error).__name__, [server.login.password])
        hint = "ansible-playbook pynomaly.ops.daily_check"
        if "max_locks_per_transaction" in str(error):
            hint = "raise max_locks_per_transaction, which takes a restart of PostgreSQL"
        raise PostgresError(
            f'{what} of database "{database}" could not be read: {text}', hint
        ) from error


def session(server: PostgresServer, database: str, deadline: Deadline) -> Any:
    """A connection whose values are written alike everywhere, and whose statements end in time."""
    settings = dict(_SESSION_SETTINGS)
    if server.major >= 17:
        settings["transaction_timeout"] = "0"  # the database may have one
    return connect(
        server,
        database,
        statement_timeout_seconds=max(deadline.remaining, 0.001),
        lock_timeout_seconds=60.0,
        options=settings,
    )


@contextlib.contextmanager
def exported_snapshot(
    server: PostgresServer, database: str, timeout_seconds: float
) -> Iterator[tuple[Any, str]]:
    """A session in a read-only transaction, and its snapshot's name, good for as long as the block
    lasts: C{pg_dump --snapshot} and L{measure} take it."""
    deadline = Deadline(timeout_seconds)
    with contextlib.closing(session(server, database, deadline)) as connection:
        with _told(server, database, "the snapshot"), connection.cursor() as cursor:
            cursor.execute(_BEGIN)
            cursor.execute("SELECT pg_catalog.pg_export_snapshot()")
            name = str(cursor.fetchone()[0])
        yield connection, name


def rows(connection: Any, statement: Any, parameters: Any = None) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


# What there is


def leaf_tables(connection: Any) -> list[Table]:
    """The tables that have rows of their own, partitions among them, logged or not."""
    return [Table(*row) for row in rows(connection, _TABLES, {"kind": "r"})]


def sequence_places(connection: Any) -> dict[str, SequencePlace]:
    """Where each sequence stands now: sequences do not wait for a transaction's end."""
    sql = importlib.import_module("psycopg2.sql")
    listed = rows(connection, _SEQUENCES, {"kind": "S"})
    found = {}
    for start in range(0, len(listed), _SEQUENCES_AT_ONCE):
        portion = listed[start : start + _SEQUENCES_AT_ONCE]
        statement = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}, last_value, is_called FROM {}").format(
                sql.Literal(number), sql.Identifier(row[0], row[1])
            )
            for number, row in enumerate(portion)
        )
        for number, last_value, is_called in rows(connection, statement):
            schema, name, increment, cycles = portion[number]
            found[qualified_name(schema, name)] = SequencePlace(
                int(last_value), bool(is_called), int(increment), bool(cycles)
            )
    return found


def materialized_views(connection: Any) -> dict[str, bool]:
    """Whether each is populated, by name."""
    return {
        qualified_name(schema, name): bool(populated)
        for schema, name, populated in rows(connection, _MATERIALIZED_VIEWS, {"kind": "m"})
    }


def extensions(connection: Any) -> dict[str, str]:
    """Versions by name."""
    return {str(name): str(version) for name, version in rows(connection, _EXTENSIONS)}


def needed_roles(connection: Any) -> list[str]:
    """Roles that own something in the database, or have or lack a privilege or setting there."""
    return [str(row[0]) for row in rows(connection, _ROLES)]


def database_properties(connection: Any) -> dict[str, Any]:
    """What a dump without C{--create} does not hold of the session's database.

    ``acl`` is a list of C{{grantee, privilege, grantable}}, complete, with an empty grantee for
    PUBLIC; ``settings`` is a list of C{[role, "name=value"]}, with an empty role for all of them.
    C{icu_locale} is there where the provider is not libc, C{icu_rules} where there are any.
    """
    (row,) = rows(connection, _PROPERTIES)
    provider = _PROVIDERS.get(row[8], str(row[8]))
    found: dict[str, Any] = {
        "name": row[0],
        "encoding": row[1],
        "collate": row[2],
        "ctype": row[3],
        "locale_provider": provider,
        "owner": row[4],
        "connection_limit": int(row[5]),
        "acl": [
            {"grantee": grantee, "privilege": privilege, "grantable": bool(grantable)}
            for grantee, privilege, grantable in rows(connection, _PROPERTY_ACL)
        ],
        "comment": row[6],
        "settings": [[role, setting] for role, setting in rows(connection, _PROPERTY_SETTINGS)],
        "size_bytes": int(row[7]),
    }
    if row[9] and provider != "libc":
        found["icu_locale"] = row[9]
    if row[10]:
        found["icu_rules"] = row[10]
    return found


# What it holds


@dataclass
class _Workers:
    """Sessions in one snapshot that share a queue of tasks, each in a transaction of its own."""

    server: PostgresServer
    database: str
    snapshot: str
    deadline: Deadline
    cancelled: threading.Event
    tasks: queue.SimpleQueue[Task] = field(default_factory=queue.SimpleQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)
    connections: list[Any] = field(default_factory=list)
    failure: Optional[BaseException] = None

    def work(self) -> None:
        try:
            with contextlib.closing(
                session(self.server, self.database, self.deadline)
            ) as connection:
                with self.lock:
                    self.connections.append(connection)
                try:
                    self._work(connection)
                finally:
                    with self.lock:
                        self.connections.remove(connection)
        except BaseException as error:
            with self.lock:
                self.failure = self.failure or error
            self.cancelled.set()

    def _work(self, connection: Any) -> None:
        while not self.cancelled.is_set():
            try:
                task = self.tasks.get_nowait()
            except queue.Empty:
                return
            with _told(self.server, self.database, "the contents"):
                with connection.cursor() as cursor:
                    left_ms = max(1, round(self.deadline.remaining * 1000))
                    cursor.execute(_BEGIN)
                    cursor.execute("SET TRANSACTION SNAPSHOT %s", (self.snapshot,))
                    cursor.execute("SET LOCAL statement_timeout = %s", (left_ms,))
                task(connection)
                with connection.cursor() as cursor:
                    cursor.execute("COMMIT")

    def cancel(self) -> None:
        """Stop what is running: a statement ends with an error."""
        psycopg2 = load_psycopg2()
        with self.lock:
            for connection in self.connections:
                with contextlib.suppress(psycopg2.Error):
                    connection.cancel()


def measure(
    server: PostgresServer,
    database: str,
    *,
    snapshot: str = "",
    jobs: int = 2,
    timeout_seconds: float,
    cancelled: Optional[threading.Event] = None,
) -> dict[str, Any]:
    """Rows and checksum of each table, and the database's sequences, materialized views, large
    objects and extensions, as a manifest's C{content} has them.

    The checksum is the sum of a 64-bit hash of each row, so that no order matters; a row's is made
    of its columns' in turn. The sum is a numeric, which does not overflow
    (https://www.postgresql.org/docs/current/functions-aggregate.html). ``snapshot`` is an exported
    one; without it there is an own. ``cancelled`` ends it early, with L{PostgresError}.
    """
    if not snapshot:
        with exported_snapshot(server, database, timeout_seconds) as (_connection, name):
            return measure(
                server,
                database,
                snapshot=name,
                jobs=jobs,
                timeout_seconds=timeout_seconds,
                cancelled=cancelled,
            )
    deadline = Deadline(timeout_seconds)
    found: dict[str, Any] = {"tables": {}, "checksum_method": CHECKSUM_METHOD}
    with (
        contextlib.closing(session(server, database, deadline)) as connection,
        _told(server, database, "the contents"),
    ):
        with connection.cursor() as cursor:
            cursor.execute(_BEGIN)
            cursor.execute("SET TRANSACTION SNAPSHOT %s", (snapshot,))
        tables = leaf_tables(connection)
        found["sequences"] = {
            name: {"last_value": place.last_value, "is_called": place.is_called}
            for name, place in sequence_places(connection).items()
        }
        found["materialized_views"] = materialized_views(connection)
        found["extensions"] = extensions(connection)
    stop = threading.Event()
    workers = _Workers(server, database, snapshot, deadline, stop)
    workers.tasks.put(lambda connection: found.update(large_objects=_large_objects(connection)))
    portions = batches(tables)
    for portion in portions:
        workers.tasks.put(_table_task(portion, found["tables"]))
    _run(workers, min(max(1, jobs), 1 + len(portions)), cancelled)
    return found


def _run(workers: _Workers, jobs: int, cancelled: Optional[threading.Event]) -> None:
    with ThreadPoolExecutor(jobs) as pool:
        pending = {pool.submit(workers.work) for _job in range(jobs)}
        while pending:
            _done, pending = wait(pending, timeout=_POLL_SECONDS)
            if cancelled is not None and cancelled.is_set():
                workers.cancelled.set()
            if workers.cancelled.is_set():
                workers.cancel()
    if workers.failure is not None:
        raise workers.failure
    if workers.cancelled.is_set():
        raise PostgresError(
            f'the contents of database "{workers.database}" were not read to their end: cancelled'
        )


def _table_task(portion: Sequence[Table], found: dict[str, Any]) -> Task:
    def task(connection: Any) -> None:
        for number, count, checksum in rows(connection, _statement(connection, portion)):
            found[portion[number].qualified] = {"rows": int(count), "checksum": str(checksum)}

    return task


def _statement(connection: Any, portion: Sequence[Table]) -> Any:
    """A row for each table: its place in the portion, its rows, the sum of its rows' hashes."""
    sql = importlib.import_module("psycopg2.sql")
    expressions: dict[int, list[Any]] = {}
    for oid, column, *column_type in rows(
        connection, _COLUMNS, {"tables": [table.oid for table in portion]}
    ):
        expressions.setdefault(oid, []).append(
            sql.SQL(hash_expression(*column_type)).format(column=sql.Identifier("t", column))
        )
    return sql.SQL(" UNION ALL ").join(
        sql.SQL(
            "SELECT {number}, pg_catalog.count(*), coalesce(pg_catalog.sum("
            "pg_catalog.hash_array_extended(ARRAY[{hashes}]::pg_catalog.int8[], 0)), 0) "
            "FROM ONLY {table} AS t"
        ).format(
            number=sql.Literal(number),
            hashes=sql.SQL(", ").join(expressions.get(table.oid, [])),
            table=sql.Identifier(table.schema, table.name),
        )
        for number, table in enumerate(portion)
    )


def _large_objects(connection: Any) -> dict[str, Any]:
    page = {"limit": _LARGE_OBJECTS_AT_ONCE, "part_bytes": _LARGE_OBJECT_PART_BYTES}
    after, count, checksum = 0, 0, 0
    while True:
        ((last, seen, hashes),) = rows(connection, _LARGE_OBJECTS, {**page, "after": after})
        if not seen:
            return {"count": count, "checksum": str(checksum)}
        after, count, checksum = int(last), count + int(seen), checksum + int(hashes)


# What it is made of


def live_schema(
    tools: PostgresTools, database: str, work_dir: Path, timeout_seconds: float, snapshot: str = ""
) -> dict[str, str]:
    """L{schema_objects} of a live database. ``work_dir`` is an own folder of the caller's, for a
    file that is removed again. Raises C{EngineError} too, as all below."""
    argv = ["pg_dump", "--schema-only", "--no-tablespaces", "--lock-wait-timeout=60s"]
    if snapshot:
        argv.append(f"--snapshot={snapshot}")
    with _output(work_dir, "live-schema.sql") as path:
        tools.run(
            [*argv, f"--file={OUTPUT}/{path.name}", "--dbname", conninfo(database)],
            timeout_seconds,
            output=str(work_dir),
        )
        return schema_objects(_read(path))


def dump_schema(
    tools: PostgresTools, dump: Path, work_dir: Path, timeout_seconds: float
) -> dict[str, str]:
    """L{schema_objects} of a dump in directory format."""
    argv = ["pg_restore", "--schema-only", "--no-tablespaces"]
    with _output(work_dir, "dump-schema.sql") as path:
        argv += [f"--file={OUTPUT}/{path.name}", WORK]
        _from_dump(tools, argv, dump, timeout_seconds, work_dir)
        return schema_objects(_read(path))


def dump_listing(
    tools: PostgresTools, dump: Path, work_dir: Path, timeout_seconds: float
) -> Listing:
    """What is in a dump in directory format."""
    with _output(work_dir, "dump-list.txt") as path:
        argv = ["pg_restore", "--list", f"--file={OUTPUT}/{path.name}", WORK]
        _from_dump(tools, argv, dump, timeout_seconds, work_dir)
        return parse_listing(_read(path))


def dump_sequences(
    tools: PostgresTools, dump: Path, listing: Listing, work_dir: Path, timeout_seconds: float
) -> dict[str, dict[str, Any]]:
    """Where a dump in directory format sets each sequence."""
    if not listing.sequence_entries:
        return {}
    with _output(work_dir, "sequences.txt") as entries, _output(work_dir, "sequences.sql") as path:
        entries.write_text("\n".join(listing.sequence_entries) + "\n", encoding="utf-8")
        argv = ["pg_restore", f"--use-list={OUTPUT}/{entries.name}"]
        argv += [f"--file={OUTPUT}/{path.name}", WORK]
        _from_dump(tools, argv, dump, timeout_seconds, work_dir)
        return parse_sequence_values(_read(path))


def live_schema_digest(
    tools: PostgresTools, database: str, work_dir: Path, timeout_seconds: float
) -> str:
    """A manifest's C{schema_sha256} of a live database: equal for servers of one major version."""
    return objects_digest(live_schema(tools, database, work_dir, timeout_seconds))


def _from_dump(
    tools: PostgresTools, argv: Sequence[str], dump: Path, timeout_seconds: float, work_dir: Path
) -> None:
    tools.run(argv, timeout_seconds, work=str(dump), output=str(work_dir), connects=False)


@contextlib.contextmanager
def _output(work_dir: Path, name: str) -> Iterator[Path]:
    path = work_dir / name
    path.unlink(missing_ok=True)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _read(path: Path) -> str:
    """A program's output; in another encoding than UTF-8 bytes stay apart from each other."""
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def conninfo(database: str) -> str:
    """A database's name as an argument, whatever is in it: it may look like a connection string.
    https://www.postgresql.org/docs/current/libpq-connect.html"""
    escaped = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"
