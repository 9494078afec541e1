# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A backup restored into a database of its own beside the live one, and proved equal to what its
manifest promises. The live database is not written to, but where one table is brought back to a
schema of its own there."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    DATABASE,
    LATEST_VERIFIED,
    STAGING_PREFIX,
    Backup,
    BackupError,
    Manifest,
    select,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._database_contents import (
    differences,
    parse_qualified_name,
    qualified_name,
    row_count,
    schema_differences,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import database_contents
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_staging import (
    remove_leftovers,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import (
    BackupStore,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.database_administration import (
    CLOSED_STATE,
    SCRATCH_STATE,
    administration,
    drop_scratch,
    execute,
    find_administrator,
    rows,
    set_comment,
    told,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.database_restore import (
    apply_properties,
    create_database,
    fill_database,
    proof_problems,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.encryption import decrypt_tree
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import ensure_directory
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
    PostgresServer,
    load_psycopg2,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_tools import (
    WORK,
    PostgresTools,
    remove_left_secrets,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    RESUME,
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_backup import (
    DUMP,
    GLOBALS,
    lines,
    sessions,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_restore import (
    SCRATCH,
    Plan,
    ServerFacts,
    encode_mark,
    extension_remarks,
    free_dated_name,
    memberships,
    missing_role_statements,
    missing_roles,
    new_mark,
    problems,
    restored_lines,
    server_major,
    side_schema,
)

_ENGINE_TIMEOUT_SECONDS = 60.0
_FACTS_SECONDS = 30.0
_MOST_PROBLEMS = 20
_BACKUP_LIST = "ansible-playbook pynomaly.ops.backup_list"

_EXTENSIONS = "SELECT name, default_version FROM pg_catalog.pg_available_extensions"
_BUSY = (
    "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = %s ORDER BY 1",
    "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE database = %s ORDER BY 1",
    "SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d "
    "ON d.oid = s.subdbid WHERE d.datname = %s ORDER BY 1",
)
_LOCALES = """
SELECT collcollate FROM pg_catalog.pg_collation WHERE collprovider = 'c'
 UNION SELECT datcollate FROM pg_catalog.pg_database
 UNION SELECT datctype FROM pg_catalog.pg_database
"""
_LEAVES = """
SELECT n.nspname, c.relname
  FROM pg_catalog.pg_partition_tree(%s) t
  JOIN pg_catalog.pg_class c ON c.oid = t.relid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE t.isleaf AND c.relkind = 'r'
"""
_TABLE = """
SELECT c.oid, c.relkind
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')
"""
_COLUMNS = """
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
       CASE WHEN a.attcollation <> t.typcollation THEN cn.nspname END, co.collname, a.attnotnull
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
  LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
 WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""
#: What is sent next is to be in no log.
_SILENT = (
    "SET LOCAL log_statement = 'none'; SET LOCAL log_min_duration_statement = -1; "
    "SET LOCAL log_min_duration_sample = -1; SET LOCAL log_min_error_statement = 'panic'"
)
_SUM = (
    "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(pg_catalog.hashtextextended("
    'pg_catalog.textin(pg_catalog.record_out(t.*)) COLLATE "C", 0)), 0) FROM {} AS t'
)

Step = Callable[[str], None]


@dataclass(frozen=True)
class RestoreSettings:
    """``wanted`` as C{_backup.select} takes it. ``target`` is a name to restore under, beside the
    live database, and ``table`` a C{schema.name} to bring back alone: with neither, the restored
    database is left for C{pg_database_swap}. ``dry_run`` proves and drops it. ``identity`` is the
    private key of an encrypted backup. ``jobs`` of 0 is one session a CPU."""

    project: str
    backup_dir: str
    wanted: str = LATEST_VERIFIED
    target: str = ""
    table: str = ""
    dry_run: bool = False
    create_roles: bool = False
    space_factor: float = 1.2
    jobs: int = 0
    identity: str = field(default="", repr=False)
    service_names: Mapping[str, str] = field(default_factory=dict)
    postgres_user: str = ""
    postgres_password: str = field(default="", repr=False)
    postgres_database: str = ""
    call_timeout_seconds: float = 10.0
    timeout_seconds: float = 14400.0

    def validate(self) -> None:
        """Raise L{BackupError} for what makes no sense."""
        if self.target and self.table:
            raise BackupError(
                f"target and table: seen {self.target!r} and {self.table!r}, expected one of them"
            )
        if self.table:
            try:
                parse_qualified_name(self.table)
            except ValueError as error:
                raise BackupError(f"table: {error}") from error
        for name in ("call_timeout_seconds", "timeout_seconds"):
            if getattr(self, name) <= 0:
                raise BackupError(f"{name}: seen {getattr(self, name)}, expected more than 0")
        if self.space_factor < 1:
            raise BackupError(f"space_factor: seen {self.space_factor}, expected 1 or more")
        if self.jobs < 0:
            raise BackupError(f"jobs: seen {self.jobs}, expected 0 or more")

    @property
    def check_settings(self) -> CheckSettings:
        return CheckSettings(
            call_timeout_seconds=self.call_timeout_seconds,
            postgres_user=self.postgres_user or None,
            postgres_password=self.postgres_password or None,
            postgres_database=self.postgres_database or None,
        )

    @property
    def replaces(self) -> bool:
        return not (self.target or self.table)


def run(
    settings: RestoreSettings,
    states: TemporaryStates,
    check_mode: bool = False,
    *,
    clock: Callable[[], datetime.datetime] = utc_now,
    step: Step = lambda _name: None,
) -> dict[str, Any]:
    """Restore and prove; what the module returns. Under the host's lock.

    ``step`` is told what is about to be done. Raises L{BackupError}, L{PostgresError} and
    C{EngineError}, with the live database untouched and what was made dropped.
    """
    settings.validate()
    now = clock()
    engine = EngineControl(_ENGINE_TIMEOUT_SECONDS)
    stack = discover(engine, settings.project, settings.check_settings, settings.service_names)
    server = find_administrator(stack, engine, settings.check_settings)
    _refuse_unfinished(states, server)
    store = BackupStore(settings.backup_dir, settings.project)
    removed = [] if check_mode else _remove_left(engine, store, states, server)
    backup = select(store.backups([DATABASE]), settings.wanted)
    facts = read_facts(engine, server)
    plan = Plan(
        database=server.database,
        scratch=free_dated_name(server.database, SCRATCH, now, facts.databases),
        replaces=settings.replaces and not settings.dry_run,
        target=settings.target,
        create_roles=settings.create_roles,
        space_factor=settings.space_factor,
    )
    manifest = _checked(store, backup, facts, plan, settings)
    answer: dict[str, Any] = {
        # Of a dry run nothing remains.
        "changed": not settings.dry_run,
        "id": backup.id,
        "verified": backup.is_verified,
        "database": server.database,
        "replaces": plan.replaces,
        "restored": "",
        "side_table": "",
        "rows": row_count(manifest.content),
        "tables": len(manifest.content["tables"]),
        "created_roles": [],
        "removed_leftovers": removed,
        "seconds": {},
        "remarks": _remarks(manifest, facts),
    }
    if not check_mode:
        work = _Work(settings, engine, server, states, store, backup, manifest, plan, facts, step)
        answer.update(work.run(now))
    return {**answer, "lines": restored_lines(answer, check_mode=check_mode)}


def _refuse_unfinished(states: TemporaryStates, server: PostgresServer) -> None:
    if any(record["temporary_state"] == CLOSED_STATE for record in states.left()):
        raise PostgresError(
            f'database "{server.database}" was closed by a run that died, expected all finished',
            RESUME,
        )


def _remove_left(
    engine: EngineControl, store: BackupStore, states: TemporaryStates, server: PostgresServer
) -> list[str]:
    # Helpers come first, since one of them may still be restoring.
    removed = remove_leftovers(engine, store, states)
    remove_left_secrets(store.project)
    for record in states.left():
        if record["temporary_state"] == SCRATCH_STATE:
            if drop_scratch(server, record["details"]):
                removed.append(f"database {record['details']['database']}")
            states.close(SCRATCH_STATE, "dropped: its run had died")
    return removed


# Before anything is done


def read_facts(engine: Engine, server: PostgresServer) -> ServerFacts:
    """What there is to know of the server before a backup is restored. Raises L{PostgresError}."""
    with administration(
        server,
        server.database,
        "the server could not be looked at",
        statement_timeout_seconds=_FACTS_SECONDS,
    ) as connection:
        database = (server.database,)
        busy = [[str(row[0]) for row in rows(connection, text, database)] for text in _BUSY]
        ((data_directory, wal_max_bytes, has_icu),) = rows(
            connection,
            "SELECT current_setting('data_directory'), "
            "pg_catalog.pg_size_bytes(current_setting('max_wal_size')), EXISTS ("
            "SELECT FROM pg_catalog.pg_collation WHERE collprovider = 'i')",
        )
        locales = {str(row[0]) for row in rows(connection, _LOCALES) if row[0]}
        return ServerFacts(
            version=server.version.split()[0],
            major=server.major,
            user=server.login.user or "postgres",
            is_superuser=server.is_superuser,
            databases=_names(connection, "SELECT datname FROM pg_catalog.pg_database"),
            roles=_names(connection, "SELECT rolname FROM pg_catalog.pg_roles"),
            extensions={str(name): str(one) for name, one in rows(connection, _EXTENSIONS)},
            locales=_with_system_locales(engine, server, locales),
            has_icu=bool(has_icu),
            free_bytes=_free_bytes(engine, server.container, data_directory),
            wal_max_bytes=int(wal_max_bytes),
            data_directory=str(data_directory),
            prepared_transactions=busy[0],
            logical_slots=busy[1],
            subscriptions=busy[2],
        )


def _names(connection: Any, statement: str) -> frozenset[str]:
    return frozenset(str(row[0]) for row in rows(connection, statement))


def _with_system_locales(
    engine: Engine, server: PostgresServer, known: set[str]
) -> Optional[frozenset[str]]:
    """C{None} where the server's system cannot list its locales."""
    with contextlib.suppress(EngineError):
        exit_code, output = engine.run(server.container.id, ["locale", "-a"], _FACTS_SECONDS)
        if exit_code == 0:
            return frozenset(known | set(output.split()))
    return None


def _free_bytes(engine: Engine, container: Container, data_directory: str) -> Optional[int]:
    """What the filesystem of the server's data has left."""
    mounts = [
        mount
        for mount in container.mounts
        if mount.source
        and Path(mount.destination) in (Path(data_directory), *Path(data_directory).parents)
    ]
    if mounts:
        nearest = max(mounts, key=lambda mount: len(mount.destination))
        with contextlib.suppress(OSError):
            figures = os.statvfs(nearest.source)
            return figures.f_bavail * figures.f_frsize
    with contextlib.suppress(EngineError, ValueError, IndexError):
        argv = ["df", "-P", "-k", data_directory]
        exit_code, output = engine.run(container.id, argv, _FACTS_SECONDS)
        if exit_code == 0:
            return int(output.splitlines()[-1].split()[3]) * 1024
    return None


def _checked(
    store: BackupStore,
    backup: Backup,
    facts: ServerFacts,
    plan: Plan,
    settings: RestoreSettings,
) -> Manifest:
    """The manifest, once nothing is known that forbids to restore it; else all of that at once."""
    manifest = backup.manifest
    if manifest is None:
        raise BackupError(f"backup {backup.id} is damaged: {backup.problem}", _BACKUP_LIST)
    found = [lines(store.check_files(backup), 5), *problems(manifest, facts, plan)]
    if manifest.encryption and not settings.identity:
        found.append(
            "it is encrypted, and no private key was given: give it as pynomaly_backup_identity, "
            "from a vault"
        )
    found = [text for text in found if text]
    if found:
        raise BackupError(
            f"backup {backup.id} cannot be restored, nothing was touched: "
            + "; ".join(found[:_MOST_PROBLEMS]),
            f"mend these, or choose another backup: {_BACKUP_LIST}",
        )
    return manifest


def _remarks(manifest: Manifest, facts: ServerFacts) -> list[str]:
    remarks = extension_remarks(manifest, facts)
    if server_major(manifest) != facts.major:
        remarks.append(
            f"the backup is of PostgreSQL {manifest.versions['server']}, the server of "
            f"{facts.version}: the definitions of the objects are not compared, since they are "
            "written otherwise"
        )
    return remarks


# Restoring


@dataclass(frozen=True)
class _Work:
    settings: RestoreSettings
    engine: EngineControl
    server: PostgresServer
    states: TemporaryStates
    store: BackupStore
    backup: Backup
    manifest: Manifest
    plan: Plan
    facts: ServerFacts
    step: Step

    @property
    def scratch(self) -> str:
        return self.plan.scratch

    def run(self, now: datetime.datetime) -> dict[str, Any]:
        """Whatever happens, the scratch database is dropped, but where it is what was wanted."""
        deadline = Deadline(self.settings.timeout_seconds)
        folder = self.store.folder(DATABASE) / f"{STAGING_PREFIX}{self.backup.id}-restore"
        missing = missing_roles(self.manifest, self.facts)
        details = {"database": self.scratch, "roles": missing, "folder": str(folder)}
        self.states.open(
            SCRATCH_STATE, f'backup {self.backup.id} is restored into "{self.scratch}"', details
        )
        try:
            ensure_directory(folder, 0o700)
            with PostgresTools(self.engine, self.server, self.settings.project) as tools:
                if self.settings.table:
                    outcome = self._bring_table(tools, folder, deadline, now)
                else:
                    outcome = self._bring_database(tools, folder, deadline, now)
            self.step("finish")
        except BaseException:
            drop_scratch(self.server, details)
            self.states.close(SCRATCH_STATE, "it failed, and was dropped")
            raise
        if self.settings.table or self.settings.dry_run:
            roles = missing if self.settings.dry_run else []
            drop_scratch(self.server, {**details, "roles": roles})
            self.states.close(SCRATCH_STATE, "dropped")
        else:
            shutil.rmtree(folder, ignore_errors=True)
            if self.settings.target:
                self.states.close(SCRATCH_STATE, f'it is "{self.settings.target}" now')
        return {**outcome, "created_roles": [] if self.settings.dry_run else missing}

    # A whole database

    def _bring_database(
        self, tools: PostgresTools, folder: Path, deadline: Deadline, now: datetime.datetime
    ) -> dict[str, Any]:
        seconds: dict[str, float] = {}
        dump = self._clear(folder, deadline)
        properties = self.manifest.content["database"]
        with _timed(seconds, "restore"):
            self.step("create")
            self._make_roles(dump.parent / GLOBALS)
            create_database(self.server, self.scratch, properties)
            self.step("fill")
            fill_database(
                tools,
                dump,
                self.scratch,
                jobs=self._jobs,
                timeout_seconds=deadline.remaining,
            )
        with _timed(seconds, "analyze"):
            self.step("analyze")
            self._analyze(tools, deadline)
        with _timed(seconds, "proof"):
            self.step("prove")
            apply_properties(self.server, self.scratch, properties)
            self._prove(tools, dump, folder, deadline)
        self.step("mark")
        self._finish(now)
        outcome: dict[str, Any] = {"seconds": seconds}
        if not self.settings.dry_run:
            outcome["restored"] = self.settings.target or self.scratch
        return outcome

    @property
    def _jobs(self) -> int:
        return sessions(self.settings.jobs, os.cpu_count())

    def _clear(self, folder: Path, deadline: Deadline) -> Path:
        """The dump in the clear, with the server's roles beside it."""
        if not self.manifest.encryption:
            return Path(self.backup.path) / DUMP
        needed = self.manifest.size_bytes
        free = self.store.free_bytes()
        if free < needed:
            raise BackupError(
                f"{folder.parent}: seen {free} bytes free, expected {needed} for the backup in the "
                "clear",
                f"df -h {folder.parent}",
            )
        clear = folder / "clear"
        clear.mkdir(mode=0o700)
        decrypt_tree(
            Path(self.backup.path), clear, self.settings.identity, max(deadline.remaining, 1.0)
        )
        return clear / DUMP

    def _make_roles(self, source: Path) -> None:
        missing = missing_roles(self.manifest, self.facts)
        if not missing:
            return
        try:
            with source.open(encoding="utf-8", errors="surrogateescape") as text:
                known = list(text)
            statements = missing_role_statements(known, missing)
        except OSError as error:
            raise BackupError(f"the backup's {GLOBALS} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise BackupError(
                f"the roles that are missing cannot be made: {GLOBALS} does not have {error}",
                "make them by hand: CREATE ROLE",
            ) from error
        statements += memberships(known, missing, self.facts.roles)
        errors = load_psycopg2().Error
        what = "the missing roles could not be made"
        with administration(self.server, self.server.database, what) as connection:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("BEGIN")
                    cursor.execute(_SILENT)
                    for statement in statements:
                        cursor.execute(statement)
                    cursor.execute("COMMIT")
            except errors as error:
                # Its other lines repeat the statement, which has a password's hash in it.
                raise PostgresError(f"{what}: {error.diag.message_primary}") from None

    def _analyze(self, tools: PostgresTools, deadline: Deadline) -> None:
        """So that the first queries after the swap have good plans."""
        tools.run(
            [
                *("vacuumdb", "--analyze-only", "--quiet", f"--jobs={self._jobs}"),
                f"--dbname={database_contents.conninfo(self.scratch)}",
            ],
            deadline.remaining,
        )

    def _prove(self, tools: PostgresTools, dump: Path, folder: Path, deadline: Deadline) -> None:
        found = proof_problems(
            tools,
            self.scratch,
            self.manifest,
            folder,
            jobs=self._jobs,
            timeout_seconds=deadline.remaining,
            extension_versions=not extension_remarks(self.manifest, self.facts),
        )
        if any(text.startswith("schema: ") for text in found):
            found = [text for text in found if not text.startswith("schema: ")]
            seconds = deadline.remaining
            found += schema_differences(
                database_contents.dump_schema(tools, dump, folder, seconds),
                database_contents.live_schema(tools, self.scratch, folder, seconds),
            ) or ["the schema of the dump differs from what the manifest says of it"]
        if found:
            raise BackupError(
                f"backup {self.backup.id} was restored and is not what its manifest promises, the "
                f"live database is untouched: {lines(found, 5)}",
                f"choose another backup: {_BACKUP_LIST}",
            )

    def _finish(self, now: datetime.datetime) -> None:
        """Mark it as proved, or give it the name that was asked for."""
        comment = str(self.manifest.content["database"].get("comment") or "")
        mark = new_mark(
            SCRATCH,
            self.settings.project,
            self.server.database,
            now,
            backup=self.backup.id,
            comment=comment,
        )
        with administration(
            self.server, self.scratch, f'database "{self.scratch}" could not be finished'
        ) as connection:
            if self.settings.target and not self.settings.dry_run:
                execute(
                    connection,
                    "ALTER DATABASE {scratch} RENAME TO {target}",
                    scratch=self.scratch,
                    target=self.settings.target,
                )
            else:
                set_comment(connection, self.scratch, encode_mark(mark))

    # One table

    def _bring_table(
        self, tools: PostgresTools, folder: Path, deadline: Deadline, now: datetime.datetime
    ) -> dict[str, Any]:
        """All definitions and the one table's rows into the scratch database, and from there, as a
        stream, into a new table of the live one: proved before it is committed."""
        seconds: dict[str, float] = {}
        schema, name = parse_qualified_name(self.settings.table)
        dump = self._clear(folder, deadline)
        with _timed(seconds, "restore"):
            self.step("create")
            self._make_roles(dump.parent / GLOBALS)
            create_database(self.server, self.scratch, self.manifest.content["database"])
            self.step("fill")
            self._restore_section(tools, dump, ["--section=pre-data"], deadline)
            leaves, only = self._leaves(schema, name, deadline)
            chosen = [f"--schema={one}" for one in sorted({leaf[0] for leaf in leaves})]
            chosen += [f"--table={one}" for one in sorted({leaf[1] for leaf in leaves})]
            if leaves:
                self._restore_section(
                    tools,
                    dump,
                    ["--section=data", f"--jobs={self._jobs}", *chosen],
                    deadline,
                )
        with _timed(seconds, "proof"):
            self.step("prove")
            self._prove_tables([qualified_name(*leaf) for leaf in leaves], deadline)
        if self.settings.dry_run:
            return {"seconds": seconds, "rows": self._rows(leaves), "tables": 1}
        with _timed(seconds, "copy"):
            self.step("copy")
            side = side_schema(now)
            count = self._copy((schema, name), side, only, deadline)
        return {
            "seconds": seconds,
            "side_table": qualified_name(side, name),
            "rows": count,
            "tables": 1,
        }

    def _restore_section(
        self, tools: PostgresTools, dump: Path, options: Sequence[str], deadline: Deadline
    ) -> None:
        tools.run(
            [
                *("pg_restore", "--exit-on-error", "--no-tablespaces", *options),
                *("--dbname", database_contents.conninfo(self.scratch), WORK),
            ],
            deadline.remaining,
            work=str(dump),
        )

    def _leaves(
        self, schema: str, name: str, deadline: Deadline
    ) -> tuple[list[tuple[str, str]], bool]:
        """The tables that hold the rows, and whether it is one that holds its own."""
        with (
            told(self.server, "the restored table could not be read"),
            contextlib.closing(
                database_contents.session(self.server, self.scratch, deadline)
            ) as connection,
        ):
            found = rows(connection, _TABLE, (schema, name))
            if not found:
                raise BackupError(
                    f"table {self.settings.table}: backup {self.backup.id} has none of that name",
                    'a name with upper case or blanks is quoted: public."Name"',
                )
            if found[0][1] == "r":
                return [(schema, name)], True
            return [(row[0], row[1]) for row in rows(connection, _LEAVES, (found[0][0],))], False

    def _prove_tables(self, names: Sequence[str], deadline: Deadline) -> None:
        seen = database_contents.measure(
            self.server, self.scratch, jobs=self._jobs, timeout_seconds=deadline.remaining
        )["tables"]
        promised = self.manifest.content["tables"]
        found = differences(
            {"tables": {name: promised[name] for name in names if name in promised}},
            {"tables": {name: seen[name] for name in names if name in seen}},
        )
        if found:
            raise BackupError(
                f"table {self.settings.table} of backup {self.backup.id} was restored and is not "
                f"what the manifest promises, the live database is untouched: {lines(found)}",
                f"choose another backup: {_BACKUP_LIST}",
            )

    def _rows(self, leaves: Sequence[tuple[str, str]]) -> int:
        promised = self.manifest.content["tables"]
        return sum(int(promised[qualified_name(*leaf)]["rows"]) for leaf in leaves)

    def _copy(self, table: tuple[str, str], side: str, only: bool, deadline: Deadline) -> int:
        """Make the side table, fill it, and commit once it sums up to the same."""
        sql = importlib.import_module("psycopg2.sql")
        source = sql.SQL("ONLY {}" if only else "{}").format(sql.Identifier(*table))
        target = sql.Identifier(side, table[1])
        with (
            told(self.server, f"table {self.settings.table} could not be brought back"),
            contextlib.closing(
                database_contents.session(self.server, self.scratch, deadline)
            ) as reader,
            contextlib.closing(
                database_contents.session(self.server, self.server.database, deadline)
            ) as writer,
        ):
            columns = self._columns(reader, table)
            with writer.cursor() as cursor:
                cursor.execute("BEGIN")
                cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(side)))
                cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(target, columns))
            _stream(
                reader,
                sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(source),
                writer,
                sql.SQL("COPY {} FROM STDIN").format(target),
            )
            ((count, checksum),) = rows(writer, sql.SQL(_SUM).format(target))
            expected = rows(reader, sql.SQL(_SUM).format(source))
            if [(count, checksum)] != expected:
                raise BackupError(
                    f"table {self.settings.table} was not brought back: seen {count} rows with "
                    f"checksum {checksum}, expected {expected[0][0]} with {expected[0][1]}"
                )
            self.step("commit")
            with writer.cursor() as cursor:
                cursor.execute("COMMIT")
        return int(count)

    def _columns(self, reader: Any, table: tuple[str, str]) -> Any:
        """Names and types as the backup has them; values of generated columns come as values."""
        sql = importlib.import_module("psycopg2.sql")
        ((oid, _kind),) = rows(reader, _TABLE, table)
        return sql.SQL(", ").join(
            sql.SQL("{} {}{}{}").format(
                sql.Identifier(name),
                sql.SQL(type_name),
                sql.SQL(" COLLATE {}").format(sql.Identifier(collation_schema, collation))
                if collation_schema
                else sql.SQL(""),
                sql.SQL(" NOT NULL" if not_null else ""),
            )
            for name, type_name, collation_schema, collation, not_null in rows(
                reader, _COLUMNS, (oid,)
            )
        )


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - began, 3)


def _stream(reader: Any, source: Any, writer: Any, target: Any) -> None:
    """Copy out of one session into another through a pipe, whatever the size."""
    failures: list[BaseException] = []
    read_end, write_end = os.pipe()

    def read() -> None:
        try:
            with os.fdopen(write_end, "wb") as pipe, reader.cursor() as cursor:
                cursor.copy_expert(source, pipe)
        except BaseException as error:  # raised by the caller's thread
            failures.append(error)

    thread = threading.Thread(target=read, name="copy", daemon=True)
    thread.start()
    try:
        with os.fdopen(read_end, "rb") as pipe, writer.cursor() as cursor:
            cursor.copy_expert(target, pipe)
    finally:
        thread.join()
    if failures:
        raise failures[0]
