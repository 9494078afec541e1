# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups of the database: dumped and summed up side by side in one snapshot, proved to be whole as
far as that can be done without restoring, and only then published."""

from __future__ import annotations

import datetime
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    DATABASE,
    BackupError,
    Manifest,
    id_time,
    is_id,
    new_id,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings
from ansible_collections.pynomaly.ops.plugins.module_utils._database_contents import (
    Listing,
    SequencePlace,
    Table,
    implausible_dump,
    objects_digest,
    row_count,
    sequences_behind,
    suspiciously_empty,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import database_contents
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_staging import (
    check_space,
    no_backup,
    remove_leftovers,
    staged,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import (
    BackupStore,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.encryption import encrypt_tree
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresServer,
    find_server,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_tools import (
    WORK,
    PostgresTools,
    ToolError,
    remove_left_secrets,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._encryption import recipient_problems
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_backup import (
    AUTO,
    DUMP,
    GLOBALS,
    Compression,
    compressions,
    dump_arguments,
    failure_hint,
    globals_arguments,
    lacks_method,
    lines,
    sessions,
    summary,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

#: A call of the engine's may have to wait for the disk that the dump keeps busy.
_ENGINE_TIMEOUT_SECONDS = 60.0
_WORK_FOLDER = ".work"

Stage = Callable[[], Any]


@dataclass(frozen=True)
class PgBackupSettings:
    """``id`` is the one that all kinds of a run share; an empty one is made. ``jobs`` of 0 is one
    session a CPU. ``recipients`` are public keys; with none, nothing is encrypted. An empty user,
    password or database is found. ``allow_empty`` takes a dump that looks like one of nothing."""

    project: str
    backup_dir: str
    id: str = ""
    service_names: Mapping[str, str] = field(default_factory=dict)
    jobs: int = 0
    compression: str = AUTO
    compression_level: Optional[int] = None
    allow_empty: bool = False
    reserve_bytes: int = 256 * 1024 * 1024
    recipients: Sequence[str] = ()
    postgres_user: str = ""
    postgres_password: str = field(default="", repr=False)
    postgres_database: str = ""
    call_timeout_seconds: float = 10.0
    timeout_seconds: float = 14400.0

    def validate(self) -> None:
        """Raise L{BackupError} for what makes no sense."""
        if self.id and not (is_id(self.id) and self.id.rpartition("-")[0] == self.project):
            raise BackupError(f"id: seen {self.id!r}, expected {self.project}-YYYYMMDDTHHMMSSZ")
        for name in ("call_timeout_seconds", "timeout_seconds"):
            if getattr(self, name) <= 0:
                raise BackupError(f"{name}: seen {getattr(self, name)}, expected a number above 0")
        for name in ("jobs", "reserve_bytes"):
            if getattr(self, name) < 0:
                raise BackupError(f"{name}: seen {getattr(self, name)}, expected 0 or more")
        problems = recipient_problems(self.recipients)
        if problems:
            raise BackupError("; ".join(problems))

    @property
    def check_settings(self) -> CheckSettings:
        return CheckSettings(
            call_timeout_seconds=self.call_timeout_seconds,
            postgres_user=self.postgres_user or None,
            postgres_password=self.postgres_password or None,
            postgres_database=self.postgres_database or None,
        )


@dataclass(frozen=True)
class Job:
    """What a backup works with. ``compressions`` are tried in that order."""

    settings: PgBackupSettings
    server: PostgresServer
    tools: PostgresTools
    store: BackupStore
    deadline: Deadline
    compressions: Sequence[Compression]
    jobs: int
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def database(self) -> str:
        return self.server.database


@dataclass(frozen=True)
class Snapshot:
    """What was read in the dump's snapshot, or, of sequences, right after it was taken."""

    name: str
    taken_at: str
    properties: Mapping[str, Any]
    roles: Sequence[str]
    tables: Sequence[Table]
    sequences: Mapping[str, SequencePlace]


def run(
    settings: PgBackupSettings,
    states: TemporaryStates,
    dry_run: bool = False,
    clock: Callable[[], datetime.datetime] = utc_now,
) -> dict[str, Any]:
    """Make one backup of the database, under the host's lock.

    Returns what the module returns; C{made} is false, with a C{reason}, where the stack has no
    PostgreSQL. With ``dry_run`` everything is looked at and nothing is written. Raises
    L{BackupError}, L{PostgresError}, L{EngineError}, and what L{TemporaryStates} raises.
    """
    settings.validate()
    began = time.monotonic()
    now = clock()
    identifier = settings.id or new_id(settings.project, now)
    outcome: dict[str, Any] = {
        **no_backup(DATABASE, identifier),
        "removed_leftovers": [],
        "summary": {},
    }
    engine = EngineControl(_ENGINE_TIMEOUT_SECONDS)
    stack = discover(engine, settings.project, settings.check_settings, settings.service_names)
    if not stack.component("postgres"):
        service = stack.service_of("postgres")
        return {**outcome, "reason": f"the project has no container of service {service}"}
    store = BackupStore(settings.backup_dir, settings.project)
    if not dry_run:
        outcome["removed_leftovers"] = remove_leftovers(engine, store, states)
        remove_left_secrets(settings.project)
    server = find_server(stack, engine, settings.check_settings)
    methods = compressions(settings.compression, settings.compression_level, server.major)
    deadline = Deadline(settings.timeout_seconds)
    _check_space(settings, server, store)
    outcome.update(made=True, changed=True, path=str(store.path(DATABASE, identifier)))
    if dry_run:
        return outcome
    with PostgresTools(engine, server, settings.project) as tools:
        jobs = sessions(settings.jobs, os.cpu_count())
        job = Job(settings, server, tools, store, deadline, methods, jobs)
        with staged(store, states, DATABASE, identifier) as staging:
            content, versions, remarks = _write(job, staging)
            encryption: Mapping[str, Any] = {}
            if settings.recipients:
                encryption = encrypt_tree(staging, settings.recipients, deadline.remaining)
            backup = store.publish(
                staging,
                Manifest(
                    id=identifier,
                    kind=DATABASE,
                    project=settings.project,
                    created_at=utc_text(id_time(identifier) if settings.id else now),
                    duration_seconds=time.monotonic() - began,
                    files=(),
                    content=content,
                    encryption=encryption,
                    versions=versions,
                ),
            )
    if backup.manifest is None:
        raise AssertionError("a published backup has a manifest")
    return {
        **outcome,
        "size_bytes": backup.manifest.size_bytes,
        "duration_seconds": round(time.monotonic() - began, 3),
        "members": len(backup.manifest.files),
        "remarks": remarks,
        "summary": summary(content),
    }


def _check_space(settings: PgBackupSettings, server: PostgresServer, store: BackupStore) -> None:
    """Raise L{BackupError} where the backup would probably not fit."""
    last = _last(store, server.database)
    with database_contents.exported_snapshot(
        server, server.database, settings.call_timeout_seconds
    ) as (connection, _name):
        source_bytes = database_contents.database_properties(connection)["size_bytes"]
    check_space(
        store,
        source_bytes,
        last,
        reserve_bytes=settings.reserve_bytes,
        is_encrypted=bool(settings.recipients),
    )


def _last(store: BackupStore, database: str) -> Optional[Manifest]:
    """The newest usable backup of the same database."""
    return next(
        (
            one.manifest
            for one in store.backups([DATABASE])
            if one.manifest and one.manifest.content.get("database", {}).get("name") == database
        ),
        None,
    )


def _write(job: Job, staging: Path) -> tuple[dict[str, Any], dict[str, str], list[str]]:
    """Fill a staging folder; returns the manifest's content and versions, and remarks."""
    work = staging / _WORK_FOLDER
    work.mkdir(mode=0o700)
    with database_contents.exported_snapshot(job.server, job.database, job.deadline.remaining) as (
        connection,
        name,
    ):
        snapshot = _read_snapshot(connection, name)
        seconds: dict[str, float] = {}
        done = side_by_side(
            {
                "dump": lambda: _dump(job, staging, snapshot.name),
                "globals": lambda: _globals(job, staging),
                "contents": lambda: database_contents.measure(
                    job.server,
                    job.database,
                    snapshot=snapshot.name,
                    jobs=job.jobs,
                    timeout_seconds=job.deadline.remaining,
                    cancelled=job.cancelled,
                ),
            },
            job.cancelled,
            seconds,
        )
    content: dict[str, Any] = {
        **done["contents"],
        "database": dict(snapshot.properties),
        "roles": list(snapshot.roles),
        "snapshot_at": snapshot.taken_at,
        "compression": str(done["dump"]),
        "jobs": job.jobs,
        "dump_seconds": round(seconds["dump"], 3),
        "checksum_seconds": round(seconds["contents"], 3),
        "role_passwords": job.server.is_superuser,
    }
    pg_dump_version = _prove(job, staging, snapshot, content)
    shutil.rmtree(work)
    _make_private(staging)
    versions = {"server": job.server.version.split()[0], "pg_dump": pg_dump_version}
    return content, versions, _remarks(job, content)


def side_by_side(
    stages: Mapping[str, Stage], cancelled: threading.Event, seconds: dict[str, float]
) -> dict[str, Any]:
    """Run all stages at once, to their end; the first that fails sets ``cancelled``, and is raised
    once the others have ended. ``seconds`` gets how long each took."""
    failures: list[BaseException] = []

    def one(name: str, stage: Stage) -> Any:
        began = time.monotonic()
        try:
            return stage()
        except BaseException as error:
            failures.append(error)
            cancelled.set()
            raise
        finally:
            seconds[name] = time.monotonic() - began

    with ThreadPoolExecutor(len(stages)) as pool:
        pending = {name: pool.submit(one, name, stage) for name, stage in stages.items()}
        try:
            ended = {name: future.exception() for name, future in pending.items()}
        except BaseException:
            cancelled.set()  # interrupted: the pool waits for all of them
            raise
    if any(ended.values()):
        raise failures[0]
    return {name: future.result() for name, future in pending.items()}


def _read_snapshot(connection: Any, name: str) -> Snapshot:
    # First of all: rows of the snapshot have no value that a sequence gave out later.
    sequences = database_contents.sequence_places(connection)
    ((taken_at,),) = database_contents.rows(connection, "SELECT pg_catalog.now()")
    return Snapshot(
        name=name,
        taken_at=utc_text(taken_at),
        properties=database_contents.database_properties(connection),
        roles=database_contents.needed_roles(connection),
        tables=database_contents.leaf_tables(connection),
        sequences=sequences,
    )


def _dump(job: Job, staging: Path, snapshot: str) -> Compression:
    """Dump into the staging folder; returns the compression that pg_dump had."""
    for compression in job.compressions:
        arguments = dump_arguments(
            dbname=database_contents.conninfo(job.database),
            file=f"{WORK}/{DUMP}",
            snapshot=snapshot,
            jobs=job.jobs,
            compression=compression,
            major=job.server.major,
        )
        try:
            _run_tool(job, staging, arguments)
        except ToolError as error:
            if compression == job.compressions[-1] or not lacks_method(error.text):
                raise _tool_failure(job, "the database could not be dumped", error) from error
            shutil.rmtree(staging / DUMP, ignore_errors=True)
        else:
            return compression
    raise AssertionError("no compression was tried")


def _globals(job: Job, staging: Path) -> None:
    arguments = globals_arguments(
        dbname=database_contents.conninfo(job.database),
        file=f"{WORK}/{GLOBALS}",
        is_superuser=job.server.is_superuser,
    )
    try:
        _run_tool(job, staging, arguments)
    except ToolError as error:
        raise _tool_failure(job, "the server's roles could not be dumped", error) from error


def _run_tool(job: Job, staging: Path, arguments: Sequence[str]) -> None:
    job.tools.run(
        arguments,
        job.deadline.remaining,
        work=str(staging),
        writes=True,
        cancelled=job.cancelled,
    )


def _tool_failure(job: Job, what: str, error: ToolError) -> BackupError:
    return BackupError(f"{what}: {error}", failure_hint(error.text, job.settings.backup_dir))


def _prove(job: Job, staging: Path, snapshot: Snapshot, content: dict[str, Any]) -> str:
    """Hold what the dump has against what was measured; its sequences and its schema's digest get
    into ``content``. Returns pg_dump's version. Raises L{BackupError}."""
    dump, work = staging / DUMP, staging / _WORK_FOLDER
    try:
        read = side_by_side(
            {
                "listing": lambda: database_contents.dump_listing(
                    job.tools, dump, work, job.deadline.remaining
                ),
                "schema": lambda: database_contents.dump_schema(
                    job.tools, dump, work, job.deadline.remaining
                ),
            },
            job.cancelled,
            {},
        )
        listing: Listing = read["listing"]
        sequences = database_contents.dump_sequences(
            job.tools, dump, listing, work, job.deadline.remaining
        )
    except ToolError as error:
        raise _tool_failure(job, "the dump that was written cannot be read", error) from error
    files = {path.name: path.stat().st_size for path in dump.iterdir()}
    counts = {name: int(one["rows"]) for name, one in content["tables"].items()}
    problems = implausible_dump(snapshot.tables, counts, listing, files)
    problems += sequences_behind(snapshot.sequences, sequences)
    if not (staging / GLOBALS).is_file() or not (staging / GLOBALS).stat().st_size:
        problems.append(f"{GLOBALS} is empty")
    if problems:
        raise BackupError(
            f"pg_dump ended with exit code 0, and its dump is not whole: {lines(problems)}",
            failure_hint("", job.settings.backup_dir),
        )
    content["sequences"] = sequences
    content["schema_sha256"] = objects_digest(read["schema"])
    last = _last(job.store, job.database)
    problem = suspiciously_empty(
        content, sum(files.values()), (last.content, _dump_bytes(last)) if last else None
    )
    if problem and not job.settings.allow_empty:
        raise BackupError(
            f"the backup is suspiciously small, and not kept: {problem}",
            "look at the database; where that is right: "
            "ansible-playbook pynomaly.ops.backup -e postgres_backup_allow_empty=true",
        )
    return listing.pg_dump_version


def _dump_bytes(manifest: Manifest) -> int:
    return sum(one.size_bytes for one in manifest.files if one.path.startswith(DUMP))


def _make_private(staging: Path) -> None:
    for path in staging.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)


def _remarks(job: Job, content: Mapping[str, Any]) -> list[str]:
    remarks = []
    if not job.server.is_superuser:
        remarks.append(
            f'role "{job.server.login.user}" is no superuser: the backup has the roles without '
            "their passwords"
        )
    if not row_count(content):
        remarks.append(f'database "{job.database}" has no rows')
    return remarks
