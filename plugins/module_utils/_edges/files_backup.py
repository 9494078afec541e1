# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups of the configuration, of the model artifacts, and of Redis."""

from __future__ import annotations

import contextlib
import datetime
import functools
import io
import json
import os
import posixpath
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils import _redis as redis
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    CONFIG,
    MODELS,
    REDIS,
    Backup,
    BackupError,
    Manifest,
    id_time,
    is_id,
    new_id,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._compose import (
    ComposeFiles,
    compose_arguments,
    error_text,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import describe
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import archive
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
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.command import (
    CommandError,
    run_command,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import (
    compose_command,
    discover,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.encryption import encrypt_tree
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.helper_container import (
    Helper,
    HelperMount,
    run_helper,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.redis import (
    Connection,
    NoAnswerError,
    session,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._encryption import recipient_problems
from ansible_collections.pynomaly.ops.plugins.module_utils._endpoints import first_running
from ansible_collections.pynomaly.ops.plugins.module_utils._files_backup import (
    ARCHIVE,
    MODELS_PATHS,
    RDB,
    Members,
    Remarks,
    Source,
    config_sources,
    container_member_name,
    key_count,
    member_name,
    rdb_problem,
    save_outcome,
    save_state,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

FILES_KINDS = (CONFIG, MODELS, REDIS)

#: A call of the engine's may have to read a large file first.
_ENGINE_TIMEOUT_SECONDS = 60.0
_FOLDER_MAX_ENTRIES = 2_000
_POLL_SECONDS = 0.05
_BLOCK_BYTES = 1024 * 1024
_CHECKER = "redis-check-rdb"


@dataclass(frozen=True)
class FilesBackupSettings:
    """``id`` is the one that all kinds of a run share; an empty one is made. ``paths`` are those in
    the API's container, for models (with none, L{MODELS_PATHS}), and more on the host, for config.
    ``recipients`` are public keys; with none, nothing is encrypted. ``path_max_bytes`` bounds each
    file and folder of the configuration."""

    project: str
    kind: str
    backup_dir: str
    id: str = ""
    project_dir: str = ""
    service_names: Mapping[str, str] = field(default_factory=dict)
    paths: Sequence[str] = ()
    path_max_bytes: int = 16 * 1024 * 1024
    reserve_bytes: int = 256 * 1024 * 1024
    recipients: Sequence[str] = ()
    redis_username: str = ""
    redis_password: str = field(default="", repr=False)
    call_timeout_seconds: float = 10.0
    timeout_seconds: float = 3600.0

    def validate(self) -> None:
        """Raise L{BackupError} for what makes no sense."""
        if self.kind not in FILES_KINDS:
            raise BackupError(f"kind: seen {self.kind!r}, expected one of {', '.join(FILES_KINDS)}")
        if self.id and not (is_id(self.id) and self.id.rpartition("-")[0] == self.project):
            raise BackupError(f"id: seen {self.id!r}, expected {self.project}-YYYYMMDDTHHMMSSZ")
        for name in ("call_timeout_seconds", "timeout_seconds", "path_max_bytes"):
            if getattr(self, name) <= 0:
                raise BackupError(f"{name}: seen {getattr(self, name)}, expected a number above 0")
        relative = [path for path in self.paths if not path.startswith("/")]
        if relative:
            raise BackupError(f"paths: seen {relative[0]!r}, expected absolute paths")
        problems = recipient_problems(self.recipients)
        if problems:
            raise BackupError("; ".join(problems))


@dataclass(frozen=True)
class Contents:
    """What was written: the manifest's ``content`` and ``versions``, and what the user should
    know."""

    content: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()


class NothingToBackUp(Exception):  # noqa: N818  # no error: the text is the reason
    """The stack has nothing of that kind."""


@dataclass(frozen=True)
class Job:
    """What a backup works with."""

    settings: FilesBackupSettings
    engine: EngineControl
    stack: Stack
    store: BackupStore
    deadline: Deadline

    def check_space(self, source_bytes: Optional[int]) -> None:
        """Raise L{BackupError} where the backup would probably not fit."""
        last = next(
            (one.manifest for one in self.store.backups([self.settings.kind]) if one.manifest), None
        )
        check_space(
            self.store,
            source_bytes,
            last,
            reserve_bytes=self.settings.reserve_bytes,
            is_encrypted=bool(self.settings.recipients),
        )


Write = Callable[[Path], Contents]


def run(
    settings: FilesBackupSettings,
    states: TemporaryStates,
    dry_run: bool = False,
    clock: Callable[[], datetime.datetime] = utc_now,
) -> dict[str, Any]:
    """Make one backup of a kind, under the host's lock.

    Returns what the module returns; C{made} is false, with a C{reason}, where the stack has nothing
    of the kind. With ``dry_run`` everything is looked at and nothing is written. Raises
    L{BackupError}, L{EngineError}, and what L{TemporaryStates} raises.
    """
    settings.validate()
    began = time.monotonic()
    now = clock()
    identifier = settings.id or new_id(settings.project, now)
    outcome = no_backup(settings.kind, identifier)
    engine = EngineControl(_ENGINE_TIMEOUT_SECONDS)
    check = CheckSettings(
        call_timeout_seconds=settings.call_timeout_seconds,
        redis_username=settings.redis_username or None,
        redis_password=settings.redis_password or None,
    )
    stack = discover(engine, settings.project, check, settings.service_names)
    store = BackupStore(settings.backup_dir, settings.project)
    job = Job(settings, engine, stack, store, Deadline(settings.timeout_seconds))
    if not dry_run:
        remove_leftovers(engine, store, states)
    try:
        write = _PREPARE[settings.kind](job, check)
    except NothingToBackUp as reason:
        return {**outcome, "reason": str(reason)}
    outcome.update(made=True, changed=True, path=str(store.path(settings.kind, identifier)))
    if dry_run:
        return outcome
    with staged(store, states, settings.kind, identifier) as staging:
        written = write(staging)
        encryption: Mapping[str, Any] = {}
        if settings.recipients:
            encryption = encrypt_tree(staging, settings.recipients, job.deadline.remaining)
        backup = store.publish(
            staging,
            Manifest(
                id=identifier,
                kind=settings.kind,
                project=settings.project,
                created_at=utc_text(id_time(identifier) if settings.id else now),
                duration_seconds=time.monotonic() - began,
                files=(),
                content=written.content,
                encryption=encryption,
                versions=written.versions,
            ),
        )
    return {**outcome, **_facts(backup, written)}


def _facts(backup: Backup, written: Contents) -> dict[str, Any]:
    if backup.manifest is None:
        raise AssertionError("a published backup has a manifest")
    return {
        "size_bytes": backup.manifest.size_bytes,
        "duration_seconds": round(backup.manifest.duration_seconds, 3),
        "members": written.content.get("members", {}).get("count", 1),
        "left_out": written.content.get("left_out", {}).get("listed", []),
        "remarks": list(written.warnings),
    }


# Configuration


def _prepare_config(job: Job, _check: CheckSettings) -> Write:
    settings, stack = job.settings, job.stack
    files = ComposeFiles(
        stack.working_dir or settings.project_dir, stack.config_files, stack.environment_files
    )
    if not stack.containers and not Path(files.working_dir or "/nonexistent").is_dir():
        raise NothingToBackUp(
            f"no container of project {settings.project} was seen, and no folder "
            f"{files.working_dir or settings.project_dir}"
        )
    resolved, problem = _compose_document(settings, files, ["--format", "json"])
    raw, raw_problem = _compose_document(settings, files, ["--format", "json", "--no-interpolate"])
    folder = Path(files.working_dir or "/nonexistent")
    sources, remarks = config_sources(
        files=files,
        resolved=resolved,
        raw=raw,
        containers=[one for members in stack.containers.values() for one in members],
        names=[entry.name for entry in folder.iterdir()] if folder.is_dir() else [],
        extra=settings.paths,
    )
    found, links = _expand(sources, settings.path_max_bytes, remarks)
    if not any(stat.S_ISREG(seen.st_mode) for seen in found.values()):
        raise BackupError(
            f"no file of the configuration of project {settings.project} could be found: "
            f"{problem or 'nothing names one'}",
            "name the files with project_backup_paths",
        )
    job.check_space(sum(seen.st_size for seen in found.values()))
    unread = problem or raw_problem

    def write(staging: Path) -> Contents:
        members = _write_config(job, staging, files.working_dir, found, remarks)
        for path, target in links.items():
            members.add_link(member_name(path, files.working_dir), target)
        return Contents(
            content={
                "working_dir": files.working_dir,
                "config_files": list(files.config_files),
                "environment_files": list(files.environment_files),
                "sources": [one.path for one in sources],
                "images": _images(stack),
                "problem": unread,
                "members": members.content(),
                "links": members.links,
                "left_out": {"count": remarks.count, "listed": remarks.listed},
            },
            warnings=[
                f"the Compose files cannot be read, so that what they name may lack: {unread}"
            ]
            if unread
            else [],
        )

    return write


def _compose_document(
    settings: FilesBackupSettings, files: ComposeFiles, options: Sequence[str]
) -> tuple[Optional[Mapping[str, Any]], str]:
    """What ``docker compose config`` says, or why it cannot be had."""
    command = [*compose_command(), *compose_arguments(settings.project, files), "config", *options]
    try:
        result = run_command(command, settings.call_timeout_seconds)
    except CommandError as error:
        return None, str(error)
    if result.exit_code != 0:
        return None, error_text(result.stderr)
    try:
        document = json.loads(result.stdout)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return None, "docker compose config printed something else than a project"
    return document, ""


def _images(stack: Stack) -> dict[str, dict[str, str]]:
    return {
        service: {"image": members[0].image, "image_id": members[0].image_id}
        for service, members in sorted(stack.containers.items())
        if members
    }


def _expand(
    sources: Sequence[Source], max_bytes: int, remarks: Remarks
) -> tuple[dict[str, os.stat_result], dict[str, str]]:
    """Every file and folder that the sources hold, and where links among them lead."""
    found: dict[str, os.stat_result] = {}
    links: dict[str, str] = {}
    for source in sources:
        try:
            inside, inside_links = _look_into(source.path, max_bytes, remarks)
        except FileNotFoundError:
            if not source.optional:
                remarks.add(source.path, f"{source.why}, but it is not there")
        except (OSError, BackupError) as error:
            text = error.strerror if isinstance(error, OSError) else str(error)
            remarks.add(source.path, f"{source.why}: {text}")
        else:
            found.update(inside)
            links.update(inside_links)
    return found, links


def _look_into(
    path: str, max_bytes: int, remarks: Remarks
) -> tuple[dict[str, os.stat_result], dict[str, str]]:
    """What is to be taken of one source; L{BackupError} where that is too much or no file."""
    links = {path: str(Path(path).readlink())} if Path(path).is_symlink() else {}
    top = os.stat(path)  # noqa: PTH116
    if stat.S_ISREG(top.st_mode):
        if top.st_size > max_bytes:
            raise BackupError(f"{top.st_size} bytes, expected {max_bytes} at most")
        return {path: top}, links
    if not stat.S_ISDIR(top.st_mode):
        raise BackupError("it is no file and no folder")
    found = {path: top}
    size = 0
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                if entry.is_symlink():
                    links[entry.path] = str(Path(entry.path).readlink())
                    if not entry.is_file():
                        remarks.add(entry.path, f"a link to {links[entry.path]}")
                        continue
                seen = os.stat(entry.path)  # noqa: PTH116
                if stat.S_ISDIR(seen.st_mode):
                    waiting.append(entry.path)
                elif not stat.S_ISREG(seen.st_mode):
                    remarks.add(entry.path, "it is no file and no folder")
                    continue
                found[entry.path] = seen
                size += seen.st_size
                if size > max_bytes or len(found) > _FOLDER_MAX_ENTRIES:
                    raise BackupError(
                        f"it holds more than {max_bytes} bytes or {_FOLDER_MAX_ENTRIES} files"
                    )
    return found, links


def _write_config(
    job: Job,
    staging: Path,
    working_dir: str,
    found: Mapping[str, os.stat_result],
    remarks: Remarks,
) -> Members:
    with archive.writing(staging / ARCHIVE, job.deadline) as writer:
        for path, seen in sorted(found.items()):
            name = member_name(path, working_dir)
            if stat.S_ISDIR(seen.st_mode):
                writer.add_folder(archive.header_of(name, seen))
                continue
            try:
                with open(path, "rb") as file:  # noqa: PTH123
                    # Whole, so that a file that grows meanwhile has the size that its header says.
                    data = file.read(job.settings.path_max_bytes + 1)
            except OSError as error:
                remarks.add(path, f"it could not be read: {error.strerror}")
                continue
            if len(data) > job.settings.path_max_bytes:
                remarks.add(path, "it has grown over the limit while it was read")
                continue
            header = archive.header_of(name, seen)
            header.size = len(data)
            writer.add_file(header, io.BytesIO(data))
        return writer.members


# Models


def _prepare_models(job: Job, _check: CheckSettings) -> Write:
    settings, stack = job.settings, job.stack
    replicas = stack.component("api")
    if not replicas:
        raise NothingToBackUp(f"project {stack.project} has no API")
    container = first_running(replicas) or replicas[0]
    present = []
    remarks = Remarks()
    paths = settings.paths or MODELS_PATHS
    for path in paths:
        if _exists(job.engine, container, path):
            present.append(posixpath.normpath(path))
        else:
            remarks.add(path, f"{container.name} has no such path")
    if not present:
        raise NothingToBackUp(f"{container.name} has no {' and no '.join(paths)}")
    job.check_space(_mounted_bytes(container, present, job.deadline))

    def write(staging: Path) -> Contents:
        with archive.writing(staging / ARCHIVE, job.deadline) as writer:
            for path in present:
                with contextlib.closing(job.engine.archive(container.id, path)) as chunks:
                    archive.copy_stream(
                        chunks, writer, functools.partial(container_member_name, path), remarks
                    )
            members = writer.members
        return Contents(
            content={
                "container": container.name,
                "image": container.image,
                "paths": present,
                "members": members.content(),
                "links": members.links,
                "left_out": {"count": remarks.count, "listed": remarks.listed},
            }
        )

    return write


def _exists(engine: EngineControl, container: Container, path: str) -> bool:
    """Whether a container has a path; only the first bytes of it are asked for."""
    try:
        with contextlib.closing(engine.archive(container.id, path)) as chunks:
            return next(chunks, None) is not None
    except EngineError as error:
        if error.status_code == 404:
            return False
        raise


def _mounted_bytes(container: Container, paths: Sequence[str], deadline: Deadline) -> Optional[int]:
    """The size of what is below the paths, where all of it is mounted from this host; otherwise
    C{None}, since measuring it would take a program in the container."""
    total = 0
    for path in paths:
        mount = max(
            (
                one
                for one in container.mounts
                if one.kind in ("bind", "volume")
                and (path + "/").startswith(one.destination.rstrip("/") + "/")
            ),
            key=lambda one: len(one.destination),
            default=None,
        )
        if mount is None or not mount.source.startswith("/"):
            return None
        root = posixpath.normpath(
            posixpath.join(mount.source, posixpath.relpath(path, mount.destination))
        )
        if not Path(root).exists():
            return None
        for folder, _folders, names in os.walk(root):
            if deadline.passed:
                return None
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118
    return total


# Redis


def _prepare_redis(job: Job, check: CheckSettings) -> Write:
    containers = job.stack.component("redis")
    if not containers:
        raise NothingToBackUp(f"project {job.stack.project} has no Redis")
    server = first_running(containers)
    if server is None:
        raise BackupError(
            f"{describe(containers[0])}, expected running",
            f"docker compose -p {job.stack.project} up -d {containers[0].service}",
        )
    with _redis(job, check, server) as connection:
        info = _info(connection)
    job.check_space(int(info.get("used_memory") or 0))
    running = server

    def write(staging: Path) -> Contents:
        with _redis(job, check, running) as connection:
            place, state, known = _save(connection, job.deadline)
        _copy_snapshot(job, running, place, staging / RDB)
        checked_with = _check_snapshot(job, running, staging)
        return Contents(
            content={
                "container": running.name,
                "image": running.image,
                "redis_version": known.get("redis_version", ""),
                "keys": key_count(known),
                "saved_at": utc_text(datetime.datetime.fromtimestamp(state, datetime.timezone.utc)),
                "appendonly": known.get("aof_enabled", "0") != "0",
                "checked_with": checked_with,
            },
            versions={"redis": known.get("redis_version", "")},
        )

    return write


@contextlib.contextmanager
def _redis(job: Job, check: CheckSettings, server: Container) -> Iterator[Connection]:
    try:
        with session(job.stack, check, job.engine, server, job.deadline) as connection:
            yield connection
    except NoAnswerError as error:
        raise BackupError(
            f"Redis: {error}",
            "ansible-playbook pynomaly.ops.daily_check; redis_username and redis_password "
            "name another login",
        ) from error


def _info(connection: Connection) -> Mapping[str, str]:
    reply = connection.ask("INFO")
    if not isinstance(reply, bytes):
        raise BackupError(
            f"Redis refuses INFO: {_refusal(reply)}", "allow the user +info +bgsave +config|get"
        )
    return redis.parse_info(reply.decode("utf-8", "replace"))


def _refusal(reply: redis.Reply) -> str:
    return reply.text if isinstance(reply, redis.ErrorReply) else "it answered something else"


def _save(connection: Connection, deadline: Deadline) -> tuple[str, int, Mapping[str, str]]:
    """Have a snapshot written and wait for its success: its path in the container, when it was
    finished, and what INFO says then."""
    while True:
        # LASTSAVE counts whole seconds: one begun within the second of the last is told apart
        # from it only when that second is over.
        info = _info(connection)
        before = save_state(info)
        second = int(info.get("server_time_usec") or 0) // 1_000_000 or _server_time(connection)
        if (
            not before.in_progress
            and info.get("aof_rewrite_in_progress", "0") == "0"
            and second > before.saved_at
        ):
            reply = connection.ask("BGSAVE")
            if not isinstance(reply, redis.ErrorReply):
                break
            if "in progress" not in reply.text:
                raise BackupError(
                    f"Redis refuses BGSAVE: {_refusal(reply)}",
                    "allow the user +bgsave, or look at its log: docker logs",
                )
        _wait(deadline, "Redis was not ready to save")
    while True:
        info = _info(connection)
        outcome = save_outcome(before, save_state(info))
        if outcome is not None:
            break
        _wait(deadline, "BGSAVE did not end")
    if outcome:
        raise BackupError(
            f"Redis: {outcome}", "look why in its log (docker logs): memory, or its disk"
        )
    folder = redis.config_value(connection.ask("CONFIG", "GET", "dir")) or "/data"
    name = redis.config_value(connection.ask("CONFIG", "GET", "dbfilename")) or RDB
    return posixpath.join(folder, name), save_state(info).saved_at, info


def _server_time(connection: Connection) -> int:
    reply = connection.ask("TIME")
    if isinstance(reply, list) and reply and isinstance(reply[0], bytes):
        return int(reply[0])
    raise BackupError(f"Redis refuses TIME: {_refusal(reply)}", "allow the user +time")


def _wait(deadline: Deadline, otherwise: str) -> None:
    if deadline.passed:
        raise BackupError(f"{otherwise} within {deadline.seconds:g} s")
    time.sleep(min(_POLL_SECONDS, deadline.remaining))


def _copy_snapshot(job: Job, server: Container, place: str, target: Path) -> None:
    try:
        with contextlib.closing(job.engine.archive(server.id, place)) as chunks:
            head = archive.extract_one(chunks, target, job.deadline)
    except EngineError as error:
        if error.status_code == 404:
            raise BackupError(
                f"{server.name} has no {place}, where its snapshot should be",
                "the user may lack +config|get, which says where it is",
            ) from error
        raise
    problem = rdb_problem(head)
    if problem:
        raise BackupError(f"{place} of {server.name} is no snapshot: {problem}")


def _check_snapshot(job: Job, server: Container, staging: Path) -> str:
    """The program that found the copy whole; empty where the image has none."""
    helper = Helper(
        image=server.image_id or server.image,
        project=job.settings.project,
        mounts=[HelperMount(str(staging), "/backup")],
    )
    try:
        result = run_helper(
            job.engine, helper, [_CHECKER, f"/backup/{RDB}"], job.deadline.remaining
        )
    except EngineError as error:
        if "executable file not found" in str(error) or "no such file" in str(error):
            return ""
        raise
    if result.exit_code != 0:
        lines = (result.stdout + result.stderr).strip().splitlines()
        raise BackupError(
            f"{_CHECKER} finds the snapshot of {server.name} damaged: "
            f"{' '.join(lines[-1:])[:200] or 'it said nothing'}",
            "make another one; where that is damaged too, look at the disk",
        )
    return _CHECKER


_PREPARE: Mapping[str, Callable[[Job, CheckSettings], Write]] = {
    CONFIG: _prepare_config,
    MODELS: _prepare_models,
    REDIS: _prepare_redis,
}
