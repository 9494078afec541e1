# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups proved: their checksums, and then a real restore into a server that is thrown away."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    CONFIG,
    DATABASE,
    FULL,
    LATEST,
    MODELS,
    QUICK,
    REDIS,
    BackupError,
    Manifest,
    new_verification,
    select,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings
from ansible_collections.pynomaly.ops.plugins.module_utils._database_restore import (
    is_lack_of_resources,
    without_tablespaces,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.archive import read_members
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_metrics import (
    write_metrics,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_staging import (
    beside,
    remove_leftovers,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import (
    BackupStore,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.database_restore import (
    apply_properties,
    create_database,
    fill_database,
    proof_problems,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.encryption import decrypt_tree
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
    PostgresServer,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_tools import (
    WORK,
    PostgresTools,
    ToolError,
    remove_left_secrets,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.scratch_server import (
    scratch_server,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._files_backup import (
    ARCHIVE,
    RDB,
    member_differences,
    rdb_problem,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_backup import DUMP, GLOBALS

_ENGINE_TIMEOUT_SECONDS = 60.0
_MAX_PROBLEMS = 50


@dataclass(frozen=True)
class VerifySettings:
    """``wanted`` as C{_backup.select} takes it. ``method`` is full or quick.

    ``image`` is one of PostgreSQL for a backup of another major version than the running server's;
    an empty one is found. ``identity`` is the private key of an encrypted backup.
    """

    project: str
    backup_dir: str
    kind: str = DATABASE
    wanted: str = LATEST
    method: str = FULL
    image: str = ""
    identity: str = field(default="", repr=False)
    service_names: Mapping[str, str] = field(default_factory=dict)
    textfile_dir: str = ""
    jobs: int = 2
    call_timeout_seconds: float = 10.0
    timeout_seconds: float = 14400.0


def run(
    settings: VerifySettings,
    states: TemporaryStates,
    dry_run: bool = False,
    step: Callable[[str], None] = lambda _name: None,
) -> dict[str, Any]:
    """Prove one backup, and write beside it what came of it. Under the host's lock.

    Returns what the module returns: C{ok}, and C{problems} where it is not. Raises L{BackupError},
    L{PostgresError} and L{EngineError} where it could be neither proved nor refuted: then nothing
    is written. ``step`` is told what is about to be done.
    """
    store = BackupStore(settings.backup_dir, settings.project)
    backup = select(store.backups([settings.kind]), settings.wanted, settings.kind, again=True)
    answer: dict[str, Any] = {
        "changed": True,
        "id": backup.id,
        "kind": backup.kind,
        "method": settings.method,
        "ok": False,
        "problems": [],
        "duration_seconds": 0.0,
        "details": {},
    }
    if dry_run:
        return answer
    engine = EngineControl(_ENGINE_TIMEOUT_SECONDS)
    began = time.monotonic()
    details: dict[str, Any] = {}
    problems = store.check_files(backup)
    if not problems and settings.method == FULL and backup.manifest is not None:
        remove_leftovers(engine, store, states)
        remove_left_secrets(store.project)
        with beside(store, states, backup.kind, backup.id, "proof") as folder:
            job = _Job(settings, engine, backup.manifest, folder, details, step)
            problems = job.problems(Path(backup.path))
    problems = problems[:_MAX_PROBLEMS]
    duration_seconds = round(time.monotonic() - began, 3)
    details["duration_seconds"] = duration_seconds
    method = settings.method if not _damaged_before(problems, details, settings) else QUICK
    store.note_verification(backup, new_verification(utc_now(), method, problems, details))
    write_metrics(store, settings.textfile_dir)
    return {
        **answer,
        "ok": not problems,
        "problems": problems,
        "duration_seconds": duration_seconds,
        "details": details,
    }


def _damaged_before(
    problems: Sequence[str], details: Mapping[str, Any], settings: VerifySettings
) -> bool:
    """Whether it was the checksums that refuted it, before anything was restored."""
    return bool(problems) and settings.method == FULL and "restored" not in details


@dataclass(frozen=True)
class _Job:
    """What a proof works with. ``folder`` is its own; ``details`` are filled in."""

    settings: VerifySettings
    engine: EngineControl
    manifest: Manifest
    folder: Path
    details: dict[str, Any]
    step: Callable[[str], None]
    deadline: Deadline = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "deadline", Deadline(self.settings.timeout_seconds))

    def problems(self, path: Path) -> list[str]:
        """How the backup at ``path`` differs from what its manifest says."""
        work = self.folder / "work"
        work.mkdir(mode=0o700)
        source = self._clear(path) if self.manifest.encryption else path
        if self.manifest.kind == DATABASE:
            return _prove_database(self, source, work)
        return _prove_files(self, source)

    def _clear(self, path: Path) -> Path:
        if not self.settings.identity:
            raise BackupError(
                f"{self.manifest.kind} backup {self.manifest.id} is encrypted, and no private key "
                "was given: its checksums hold, and nothing more can be said",
                "give the key as pynomaly_backup_identity, from a vault, or verify with "
                "-e backup_verify_method=quick",
            )
        clear = self.folder / "clear"
        clear.mkdir(mode=0o700)
        self.step("decrypt")
        decrypt_tree(path, clear, self.settings.identity, self.deadline.remaining)
        return clear


# A database


def _prove_database(job: _Job, source: Path, work: Path) -> list[str]:
    settings, manifest, details, deadline = job.settings, job.manifest, job.details, job.deadline
    image_id = _image(settings, job.engine, manifest)
    properties = manifest.content["database"]
    name = str(properties["name"])
    with (
        scratch_server(job.engine, image_id, settings.project, deadline.remaining) as server,
        PostgresTools(job.engine, server, settings.project) as tools,
    ):
        details["server"] = server.version.split()[0]
        problem = _version_problem(manifest, server, settings)
        if problem:
            raise BackupError(problem, "name an image: -e backup_verify_image=postgres:MAJOR")
        job.step("restore")
        try:
            began = time.monotonic()
            _make_roles(tools, source, work, deadline)
            create_database(server, name, properties)
            fill_database(
                tools,
                source / DUMP,
                name,
                jobs=settings.jobs,
                timeout_seconds=deadline.remaining,
            )
            apply_properties(server, name, properties)
        except PostgresError as error:
            if is_lack_of_resources(str(error)):
                raise BackupError(
                    f"{manifest.kind} backup {manifest.id} could be neither proved nor refuted, "
                    f"the throw-away server had not what it needs: {error}",
                    "df -h; free -m",
                ) from error
            details["restored"] = False
            return [f"it cannot be restored: {error}"]
        details["restored"] = True
        details["restore_seconds"] = round(time.monotonic() - began, 3)
        job.step("compare")
        problems = proof_problems(
            tools,
            name,
            manifest,
            work,
            jobs=settings.jobs,
            timeout_seconds=deadline.remaining,
        )
        details["tables"] = len(manifest.content.get("tables") or {})
        return problems + _integrity_problems(tools, name, details, deadline)


def _image(settings: VerifySettings, engine: EngineControl, manifest: Manifest) -> str:
    """The image to make the server from: the one named, or the one that the project runs."""
    if settings.image:
        image_id = engine.image_id(settings.image)
        if not image_id:
            raise BackupError(
                f"the engine has no image {settings.image}", f"docker pull {settings.image}"
            )
        return image_id
    check = CheckSettings(call_timeout_seconds=settings.call_timeout_seconds)
    stack = discover(engine, settings.project, check, settings.service_names)
    containers = stack.component("postgres")
    if not containers:
        raise BackupError(
            f"project {settings.project} has no PostgreSQL whose image could be taken, expected "
            f"one of version {manifest.versions.get('server', '')}",
            "name an image: -e backup_verify_image=postgres:MAJOR",
        )
    return containers[0].image_id


def _version_problem(manifest: Manifest, server: PostgresServer, settings: VerifySettings) -> str:
    major = str(manifest.versions.get("server", "")).partition(".")[0]
    if major.isdigit() and int(major) > server.major:
        return (
            f"the backup is of PostgreSQL {manifest.versions['server']}, and the image "
            f"{settings.image or 'of the project'} is of {server.version}: seen an older one, "
            f"expected {major} or newer"
        )
    return ""


def _make_roles(tools: PostgresTools, folder: Path, work: Path, deadline: Deadline) -> None:
    source = folder / GLOBALS
    with source.open(encoding="utf-8", errors="surrogateescape") as lines:
        text = "".join(without_tablespaces(lines))
    path = work / GLOBALS
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    path.chmod(0o600)
    try:
        tools.run(
            [
                *("psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"),
                *("--dbname", "postgres", "--file", f"{WORK}/{GLOBALS}"),
            ],
            deadline.remaining,
            work=str(work),
        )
    finally:
        path.unlink()


def _integrity_problems(
    tools: PostgresTools, name: str, details: dict[str, Any], deadline: Deadline
) -> list[str]:
    """What pg_amcheck finds in tables and indexes; it came with PostgreSQL 14."""
    argv = ["pg_amcheck", "--install-missing", "--heapallindexed", "--no-strict-names"]
    try:
        tools.run([*argv, "--database", name], deadline.remaining)
    except ToolError as error:
        details["pg_amcheck"] = "failed"
        return [f"pg_amcheck: {error.text}"]
    except EngineError as error:
        if "not found" not in str(error):
            raise
        details["pg_amcheck"] = "skipped: the image has none"
        return []
    details["pg_amcheck"] = "ok"
    return []


# Files


def _prove_files(job: _Job, source: Path) -> list[str]:
    """Read all of it: each member of an archive against the manifest, a snapshot by its head."""
    job.details["restored"] = True
    if job.manifest.kind in (CONFIG, MODELS):
        try:
            members = read_members(source / ARCHIVE, job.deadline)
        except BackupError as error:
            return [str(error)]
        return member_differences(job.manifest.content.get("members") or {}, members.content())
    if job.manifest.kind == REDIS:
        with (source / RDB).open("rb") as file:
            problem = rdb_problem(file.read(16))
        return [f"{RDB}: {problem}"] if problem else []
    raise AssertionError(f"no way to prove a backup of kind {job.manifest.kind}")
