# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A project's configuration brought back from a backup: staged, tested, swapped file by file, and
put back where the project does not get well with it."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import hashlib
import json
import os
import secrets as random
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    CONFIG,
    LATEST,
    Backup,
    BackupError,
    select,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._compose import (
    ComposeFiles,
    compose_arguments,
    error_text,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._config_restore import (
    CREATE,
    REPLACE,
    SAME,
    FileChange,
    backup_files,
    member_path,
    not_up,
    option_value,
    shown,
    staged_path,
    touched_services,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import scrub
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.command import (
    CommandError,
    run_command,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import (
    Project,
    compose_command,
    load_project,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.encryption import decrypt_tree
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    ensure_directory,
    sync_directory,
    write_atomically,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.helper_container import (
    Helper,
    HelperMount,
    run_helper,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    RESUME,
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._encryption import (
    UnsafeMemberError,
    check_member,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._files_backup import ARCHIVE
from ansible_collections.pynomaly.ops.plugins.module_utils._http import known_secrets
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc

STATE = "config_restore"
_BLOCK_BYTES = 1024 * 1024
_TEST_SECONDS = 30.0
_POLL_SECONDS = 0.5
_RECORD = "record.json"


@dataclass(frozen=True)
class ConfigRestore:
    """``wanted`` as C{_backup.select} takes it. ``identity`` is the private key of an encrypted
    backup. ``work_dir`` is root's own folder, on a disk that survives a restart."""

    project: str
    backup_dir: str
    work_dir: str
    wanted: str = LATEST
    identity: str = field(default="", repr=False)
    up_timeout_seconds: float = 600.0
    healthy_timeout_seconds: float = 180.0
    call_timeout_seconds: float = 10.0


def run(
    settings: ConfigRestore,
    engine: EngineControl,
    states: TemporaryStates,
    check_mode: bool = False,
    step: Callable[[str], None] = lambda _name: None,
) -> dict[str, Any]:
    """Bring the configuration back; what the module returns.

    ``step`` is told what is about to be done. Raises L{BackupError} with everything as it was, or
    put back as it was.
    """
    if _left(states):
        raise BackupError(
            f"a restore of the configuration of {settings.project} was begun and not finished, "
            "expected all finished: what it replaced is still kept",
            RESUME,
        )
    store = BackupStore(settings.backup_dir, settings.project)
    backup = select(store.backups([CONFIG]), settings.wanted, CONFIG)
    problems = store.check_files(backup)
    if problems or backup.manifest is None:
        raise BackupError(f"config backup {backup.id} is damaged: {'; '.join(problems[:3])}")
    content = backup.manifest.content
    work_dir = Path(settings.work_dir)
    folder = work_dir / (f".check-{random.token_hex(6)}" if check_mode else backup.id)
    if not check_mode:
        _sweep(work_dir, settings.project)
    project = load_project(engine, settings.project, settings.call_timeout_seconds)
    with _work_folder(folder, keep=lambda: bool(_left(states))):
        changes = _stage(backup, content, folder / "staged", settings)
        _test(settings, engine, project, content, folder / "staged")
        secrets = _secrets(project)
        changed = [change for change in changes if change.is_change]
        answer: dict[str, Any] = {
            "changed": bool(changed),
            "id": backup.id,
            "replaced": [one.path for one in changed if one.action == REPLACE],
            "created": [one.path for one in changed if one.action == CREATE],
            "diff": [_diff(change, secrets) for change in changed],
            "restarted": [],
        }
        if not changed or check_mode:
            return answer
        files = ComposeFiles(
            working_dir=str(content["working_dir"]),
            config_files=tuple(content["config_files"]),
            environment_files=tuple(content.get("environment_files") or ()),
        )
        states.open(
            STATE, f"configuration {backup.id} is being brought back", {"folder": str(folder)}
        )
        try:
            step("keep")
            _keep_previous(folder, files, changed)
            step("swap")
            for change in changed:
                _place(Path(change.staged), Path(change.path), change.mode, change.owner)
            step("up")
            answer["restarted"] = _bring_up(settings, engine, project, files, changed)
        except (BackupError, CollectorError, OSError) as error:
            _take_back(settings, engine, states, folder, error)
        step("done")
        states.close(STATE, f"configuration {backup.id} is in place")
    return answer


def _take_back(
    settings: ConfigRestore,
    engine: EngineControl,
    states: TemporaryStates,
    folder: Path,
    error: Exception,
) -> NoReturn:
    """Put the configuration before back, and tell what went wrong with the other."""
    try:
        put_back(settings, engine, folder)
    except (BackupError, CollectorError, OSError) as another:
        raise BackupError(
            f"the configuration could not be brought back ({error}), and the one before could "
            f"not be put back: {another}",
            RESUME,
        ) from another
    states.close(STATE, "the configuration before is back")
    raise BackupError(
        f"the configuration was taken back, the one before is in place: {error}",
        getattr(error, "hint", ""),
    ) from error


def put_back(settings: ConfigRestore, engine: EngineControl, folder: Path) -> bool:
    """Undo a restore that was begun, from what it kept; returns whether there was anything to do.

    Raises L{BackupError} where the project does not get well with what it had before.
    """
    try:
        record = json.loads((folder / _RECORD).read_text())
    except FileNotFoundError:
        return False  # nothing had been swapped yet
    changes = []
    for entry in record["files"]:
        path, kept = Path(entry["path"]), folder / "previous" / entry["kept"]
        owner = (entry["uid"], entry["gid"])
        if entry["existed"]:
            _place(kept, path, entry["mode"], owner)
        else:
            path.unlink(missing_ok=True)
        changes.append(FileChange(entry["path"], str(kept), REPLACE, entry["mode"], owner))
    project = load_project(engine, settings.project, settings.call_timeout_seconds)
    files = ComposeFiles(**{name: _frozen(value) for name, value in record["compose"].items()})
    _bring_up(settings, engine, project, files, changes)
    return True


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@contextlib.contextmanager
def _work_folder(folder: Path, keep: Callable[[], bool]) -> Iterator[None]:
    """A folder that goes with the block, unless something still has to be undone from it."""
    ensure_directory(folder, 0o700)
    try:
        yield
    finally:
        if not keep():
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(work_dir: Path, project: str) -> None:
    """Remove what runs left that died before they had replaced anything."""
    for left in work_dir.glob(f"{project}-*"):
        if left.name.rpartition("-")[0] == project:
            shutil.rmtree(left)


def _left(states: TemporaryStates) -> list[dict[str, Any]]:
    return [record for record in states.left() if record["temporary_state"] == STATE]


# Staging


def _stage(
    backup: Backup, content: Mapping[str, Any], staged: Path, settings: ConfigRestore
) -> list[FileChange]:
    """Unpack the archive, and compare each file with the one in its place."""
    working_dir = str(content["working_dir"])
    roots = [*content["config_files"], *(content.get("environment_files") or ())]
    roots += [str(path) for path in content.get("sources") or ()]
    staged.mkdir(mode=0o700)
    source = Path(backup.path)
    if backup.manifest is not None and backup.manifest.encryption:
        if not settings.identity:
            raise BackupError(
                f"config backup {backup.id} is encrypted, and no private key was given",
                "give it as pynomaly_backup_identity, from a vault",
            )
        source = staged.parent / "clear"
        source.mkdir(mode=0o700)
        decrypt_tree(Path(backup.path), source, settings.identity, settings.up_timeout_seconds)
    changes = []
    try:
        with (
            gzip.open(source / ARCHIVE, "rb") as stream,
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            for member in archive:
                name = check_member(member.name, member.isfile() or member.isdir())
                if member.isdir():
                    continue
                path = member_path(name, working_dir, roots)
                target = staged / name
                target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                extracted = archive.extractfile(member)
                with target.open("xb") as file:
                    if extracted is not None:
                        shutil.copyfileobj(extracted, file, _BLOCK_BYTES)
                target.chmod(member.mode & 0o777)
                owner = (member.uid, member.gid)
                os.chown(target, *owner)
                action = _action(target, Path(path))
                changes.append(FileChange(path, str(target), action, member.mode & 0o777, owner))
    except (tarfile.TarError, EOFError, OSError, ValueError, UnsafeMemberError) as error:
        raise BackupError(f"config backup {backup.id} cannot be unpacked: {error}") from error
    return changes


def _action(staged: Path, path: Path) -> str:
    if path.is_symlink():
        raise BackupError(
            f"{path} is a symbolic link to {path.readlink()}, expected a file",
            "bring what it leads to back by hand",
        )
    if not path.exists():
        return CREATE
    return SAME if _digest(staged) == _digest(path) else REPLACE


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(_BLOCK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()


# Testing the staged copy


def _test(
    settings: ConfigRestore,
    engine: EngineControl,
    project: Project,
    content: Mapping[str, Any],
    staged: Path,
) -> None:
    """Compose, nginx and Prometheus read the staged copy; L{BackupError} says which of them
    refuses it."""
    everything = {str(path): True for path in staged.rglob("*")}
    files = backup_files(content, str(staged), everything)
    argv = [*compose_command(), *compose_arguments(settings.project, files), "config", "--quiet"]
    _compose(argv, _TEST_SECONDS, _secrets(project), "the backup's Compose files do not parse")
    working_dir = str(content["working_dir"])
    for container in _first_of_each(project):
        program, argv = _test_command(container)
        if not argv:
            continue
        mounts = _staged_mounts(container, working_dir, staged)
        if mounts is None:
            continue
        helper = Helper(
            image=container.image_id,
            project=settings.project,
            network_of=container.id if container.running else "",
            mounts=mounts,
        )
        result = run_helper(engine, helper, argv, _TEST_SECONDS)
        if result.exit_code != 0:
            lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
            text = scrub("; ".join(lines[-3:]), _secrets(project))
            raise BackupError(f"{program} refuses the backup's configuration: {text}")


def _first_of_each(project: Project) -> list[Container]:
    return [containers[0] for containers in project.containers.values() if containers]


def _test_command(container: Container) -> tuple[str, list[str]]:
    """The program that tests the container's configuration, by what its image is."""
    name = container.image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    if name == "nginx":
        return "nginx", ["nginx", "-t", "-q"]
    if name == "prometheus":
        path = option_value(container.command, "--config.file") or "/etc/prometheus/prometheus.yml"
        return "promtool", ["promtool", "check", "config", path]
    if name == "alertmanager":
        given = option_value(container.command, "--config.file")
        return "amtool", ["amtool", "check-config", given or "/etc/alertmanager/alertmanager.yml"]
    return "", []


def _staged_mounts(
    container: Container, working_dir: str, staged: Path
) -> Optional[list[HelperMount]]:
    """The container's mounts with the staged files in their place; C{None} where none is."""
    mounts = []
    any_staged = False
    for mount in container.mounts:
        if mount.kind == "tmpfs" or not mount.source:
            continue
        candidate = staged_path(mount.source, working_dir, str(staged))
        is_staged = mount.kind == "bind" and Path(candidate).exists()
        any_staged = any_staged or is_staged
        chosen = candidate if is_staged else mount.source
        mounts.append(HelperMount(chosen, mount.destination))
    return mounts if any_staged else None


def _secrets(project: Project) -> list[str]:
    secrets: set[str] = set()
    for containers in project.containers.values():
        for container in containers:
            secrets.update(known_secrets(container.environment))
    return sorted(secrets, key=len, reverse=True)


def _diff(change: FileChange, secrets: Sequence[str]) -> dict[str, str]:
    path = Path(change.path)
    before = path.read_bytes() if change.action == REPLACE else None
    mode = path.stat().st_mode if before is not None else 0o644
    return {
        "before_header": change.path if before is not None else f"{change.path} (not there)",
        "after_header": change.path,
        "before": shown(change.path, before, mode, secrets),
        "after": shown(change.path, Path(change.staged).read_bytes(), change.mode, secrets),
    }


# Swapping


def _keep_previous(folder: Path, files: ComposeFiles, changes: Sequence[FileChange]) -> None:
    """Copies of what is replaced, and a record from which all of it can be put back; the record
    comes last, so that where it is not there nothing has been replaced."""
    previous = folder / "previous"
    previous.mkdir(mode=0o700)
    entries = []
    for number, change in enumerate(changes):
        path = Path(change.path)
        existed = change.action == REPLACE
        status = path.stat() if existed else None
        if existed:
            _copy_synced(path, previous / str(number))
        entries.append(
            {
                "path": change.path,
                "kept": str(number),
                "existed": existed,
                "mode": status.st_mode & 0o777 if status else change.mode,
                "uid": status.st_uid if status else 0,
                "gid": status.st_gid if status else 0,
            }
        )
    sync_directory(previous)
    record = {
        "files": entries,
        "compose": {
            "working_dir": files.working_dir,
            "config_files": list(files.config_files),
            "environment_files": list(files.environment_files),
        },
    }
    write_atomically(folder / _RECORD, json.dumps(record), 0o600)


def _place(source: Path, target: Path, mode: int, owner: tuple[int, int]) -> None:
    """Put a copy of a file in its place by a rename."""
    try:
        ensure_directory(target.parent, 0o755)
        temporary = target.with_name(f".{target.name}.restoring")
        temporary.unlink(missing_ok=True)
        _copy_synced(source, temporary)
        os.chown(temporary, *owner)
        temporary.chmod(mode)
        temporary.replace(target)
        sync_directory(target.parent)
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror}") from error


def _copy_synced(source: Path, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with source.open("rb") as reader, os.fdopen(descriptor, "wb") as writer:
        shutil.copyfileobj(reader, writer, _BLOCK_BYTES)
        writer.flush()
        os.fsync(writer.fileno())


def _bring_up(
    settings: ConfigRestore,
    engine: EngineControl,
    before: Project,
    files: ComposeFiles,
    changes: Sequence[FileChange],
) -> list[str]:
    """C{up}, a restart of what has a changed file mounted and was not recreated, and waiting until
    all is well. Returns the services that were restarted or recreated."""
    wanted = load_project(engine, settings.project, settings.call_timeout_seconds, files)
    if wanted.config is None:
        raise BackupError(f"the project's files cannot be read: {wanted.error}")
    argv = [
        *compose_command(),
        *compose_arguments(settings.project, files),
        *("up", "--detach", "--no-build", "--quiet-pull"),
        *sorted(wanted.config.services),
    ]
    secrets = _secrets(before)
    _compose(argv, settings.up_timeout_seconds, secrets, "the project cannot be brought up")
    ids = {one.id for containers in before.containers.values() for one in containers}
    now = load_project(engine, settings.project, settings.call_timeout_seconds, files)
    touched = touched_services([change.path for change in changes], now.containers)
    renewed = {
        service
        for service, containers in now.containers.items()
        if any(one.id not in ids for one in containers)
    }
    for service in touched:
        for container in now.containers[service]:
            if container.id in ids and container.running:
                engine.restart(container.id, 30)
    _wait_until_up(settings, engine, files)
    return sorted({*touched, *renewed})


def _wait_until_up(settings: ConfigRestore, engine: EngineControl, files: ComposeFiles) -> None:
    deadline = time.monotonic() + settings.healthy_timeout_seconds
    while True:
        now = load_project(engine, settings.project, settings.call_timeout_seconds, files)
        if now.config is None:
            raise BackupError(f"the project's files cannot be read: {now.error}")
        problems = not_up(now.config.services, now.containers, _ages(now))
        if not problems:
            return
        if time.monotonic() >= deadline:
            raise BackupError(
                f"the project is not well after {settings.healthy_timeout_seconds:g} s: "
                + "; ".join(problems[:4]),
                f"docker compose -p {settings.project} logs --tail 100",
            )
        time.sleep(_POLL_SECONDS)


def _ages(project: Project) -> dict[str, float]:
    now = datetime.datetime.now(datetime.timezone.utc)
    ages = {}
    for containers in project.containers.values():
        for one in containers:
            with contextlib.suppress(ValueError):
                ages[one.id] = (now - parse_utc(one.started_at[:19] + "Z")).total_seconds()
    return ages


def _compose(
    argv: Sequence[str], timeout_seconds: float, secrets: Sequence[str], what: str
) -> None:
    try:
        result = run_command(argv, timeout_seconds)
    except CommandError as error:
        raise BackupError(f"{what}: {error}") from error
    if result.exit_code != 0:
        raise BackupError(f"{what}: {scrub(error_text(result.stderr), secrets)}")
