# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups of files: which ones make up a project's configuration, and how an archive is described.

An archive holds plain files and folders alone. A member's name is C{project/PATH} for what is below
the project's folder, and C{host/PATH} for what is elsewhere on the host; of a container
C{app/models/PATH}, as it is there. A link's target is named in the manifest.

A manifest's C{content} has C{members} (see L{Members}), C{links} and C{left_out}, and
- config: C{working_dir}, C{config_files}, C{environment_files} (paths on the host, as the
  containers' labels have them), C{sources} (the files and folders that were taken), C{images}
  (what each service runs), C{problem} where the Compose files could not be read;
- models: C{container}, C{image}, C{paths};
- redis: C{redis_version}, C{keys}, C{saved_at}, C{appendonly}, C{container}, C{image},
  C{checked_with}.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._compose import ComposeFiles
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container

ARCHIVE = "archive.tar.gz"
RDB = "dump.rdb"
#: Where the API's containers have the model artifacts.
MODELS_PATHS = ("/app/models",)
#: Of an archive with more members only a digest of all is kept.
MAX_LISTED_MEMBERS = 10_000
MAX_LISTED_REMARKS = 1_000

PROJECT_PREFIX = "project"
HOST_PREFIX = "host"

#: Where services keep data, when they may write there: no configuration, and often large.
_DATA_TARGETS = (
    "/var/lib",
    "/var/log",
    "/data",
    "/bitnami",
    "/prometheus",
    "/alertmanager",
    "/app/models",
    "/app/logs",
    "/tmp",  # noqa: S108  # a path inside containers
)
#: Beside the Compose files: what they include, extend or read.
_PROJECT_SUFFIXES = (".yml", ".yaml", ".env")

#: https://github.com/redis/redis/blob/8.0/src/rdb.c: the file begins with it and a version.
_RDB_MAGIC = b"REDIS"
_RDB_HEADER_BYTES = 9


@dataclass(frozen=True)
class Source:
    """A file or folder to take, and what says that it belongs to the configuration."""

    path: str
    why: str
    optional: bool = False


@dataclass
class Remarks:
    """What is not in the archive, each with why; the first L{MAX_LISTED_REMARKS} are kept."""

    listed: list[dict[str, str]] = field(default_factory=list)
    count: int = 0

    def add(self, path: str, reason: str) -> None:
        self.count += 1
        if self.count <= MAX_LISTED_REMARKS:
            self.listed.append({"path": path, "reason": reason})


@dataclass
class Members:
    """An archive's files in its order. C{sha256} is the digest over a line C{PATH NUL SIZE NUL
    SHA-256} for each; C{listed} has them all, or none where they are more than
    L{MAX_LISTED_MEMBERS}, so that the manifest stays small."""

    count: int = 0
    size_bytes: int = 0
    listed: list[dict[str, Any]] = field(default_factory=list)
    links: list[dict[str, str]] = field(default_factory=list)
    link_count: int = 0

    def __post_init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, path: str, size_bytes: int, sha256: str) -> None:
        self.count += 1
        self.size_bytes += size_bytes
        line = f"{path}\0{size_bytes}\0{sha256}\n"
        self._digest.update(line.encode("utf-8", "surrogateescape"))
        if self.count <= MAX_LISTED_MEMBERS:
            self.listed.append({"path": path, "size_bytes": size_bytes, "sha256": sha256})

    def add_link(self, path: str, target: str) -> None:
        self.link_count += 1
        if self.link_count <= MAX_LISTED_MEMBERS:
            self.links.append({"path": path, "target": target})

    def content(self) -> dict[str, Any]:
        """What the manifest says of them."""
        whole = self.count <= MAX_LISTED_MEMBERS
        return {
            "count": self.count,
            "size_bytes": self.size_bytes,
            "sha256": self._digest.hexdigest(),
            "listed": self.listed if whole else [],
        }


def member_differences(expected: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """How an archive's members differ from what its manifest says; both as L{Members.content}."""
    problems = []
    known = {one["path"]: one for one in expected.get("listed", ())}
    found = {one["path"]: one for one in seen.get("listed", ())}
    if known and found:
        problems += [f"{path} is missing" for path in sorted(set(known) - set(found))]
        problems += [f"{path} is one too many" for path in sorted(set(found) - set(known))]
        problems += [
            f"{path} differs from its SHA-256 in the manifest"
            for path in sorted(set(known) & set(found))
            if known[path]["sha256"] != found[path]["sha256"]
        ]
    for name in ("count", "size_bytes", "sha256"):
        if not problems and expected.get(name) != seen.get(name):
            problems.append(f"members: {name} is {seen.get(name)}, expected {expected.get(name)}")
    return problems


# Configuration


@dataclass
class _Choice:
    """Sources in the order of their finding, each once."""

    working_dir: str
    found: dict[str, Source] = field(default_factory=dict)
    remarks: Remarks = field(default_factory=Remarks)

    def take(self, path: str, why: str, optional: bool = False) -> None:
        normal = posixpath.normpath(posixpath.join(self.working_dir or "/", path))
        if "${" in path or path.startswith("$"):
            self.remarks.add(path, f"{why}, but a variable names it")
        elif normal not in self.found:
            self.found[normal] = Source(normal, why, optional)

    def result(self) -> tuple[list[Source], Remarks]:
        listed = [one for one in self.remarks.listed if one["path"] not in self.found]
        return list(self.found.values()), Remarks(listed, len(listed))


def config_sources(
    *,
    files: ComposeFiles,
    resolved: Optional[Mapping[str, Any]],
    raw: Optional[Mapping[str, Any]],
    containers: Iterable[Container],
    names: Sequence[str],
    extra: Sequence[str],
) -> tuple[list[Source], Remarks]:
    """What makes up a project's configuration, and what was seen and is not taken.

    ``resolved`` is ``docker compose config``, ``raw`` the same with ``--no-interpolate``, which
    alone still names env_files; C{None} where they cannot be had. ``names`` are those of the
    files and folders in the project's folder. Bind mounts count below the project's folder;
    ``extra`` names more.
    """
    choice = _Choice(files.working_dir)
    for path in files.config_files:
        choice.take(path, "Compose file")
    for path in files.environment_files or (".env",):
        choice.take(path, "variables of the Compose file", optional=not files.environment_files)
    _take_named(choice, resolved, raw)
    if files.working_dir:
        for name in sorted(names):
            if name.endswith(_PROJECT_SUFFIXES) or name.startswith(".env"):
                choice.take(name, "in the project's folder", optional=True)
        if "config" in names:
            choice.take("config", "the project's configuration")
    for path, why, data in _bind_mounts(resolved, containers):
        if not _below(path, files.working_dir):
            choice.remarks.add(path, f"{why}: outside of the project's folder")
        elif data:
            choice.remarks.add(path, f"{why}: a service's data")
        else:
            choice.take(path, why)
    for path in extra:
        choice.take(path, "named by the user")
    return choice.result()


def _take_named(
    choice: _Choice, resolved: Optional[Mapping[str, Any]], raw: Optional[Mapping[str, Any]]
) -> None:
    """What the Compose files name: env_file, the files of configs and secrets; not what is built
    from."""
    for service, definition in _services(raw):
        for path, required in _environment_files(definition.get("env_file")):
            choice.take(path, f"env_file of {service}", optional=not required)
    for section in ("configs", "secrets"):
        for name, definition in ((resolved or {}).get(section) or {}).items():
            if isinstance(definition, Mapping) and definition.get("file"):
                choice.take(str(definition["file"]), f"{section[:-1]} {name}")
    for service, definition in _services(resolved):
        build = definition.get("build")
        if isinstance(build, Mapping) and build.get("context"):
            choice.remarks.add(str(build["context"]), f"what {service} is built from")


def member_name(path: str, working_dir: str) -> str:
    """What a file of the host is called in the archive."""
    if _below(path, working_dir):
        return posixpath.join(PROJECT_PREFIX, posixpath.relpath(path, working_dir))
    return posixpath.join(HOST_PREFIX, path.lstrip("/"))


def host_path(member: str, working_dir: str) -> str:
    """Where a member of a configuration archive belongs on the host. Raises C{ValueError} for one
    that no configuration archive has."""
    prefix, _slash, rest = member.partition("/")
    if prefix not in (PROJECT_PREFIX, HOST_PREFIX) or not rest or ".." in rest.split("/"):
        raise ValueError(
            f"{member!r} is no member of a configuration, "
            f"expected {PROJECT_PREFIX}/… or {HOST_PREFIX}/…"
        )
    return posixpath.join(working_dir if prefix == PROJECT_PREFIX else "/", rest)


def container_member_name(path: str, member: str) -> str:
    """What the engine's archive of C{path} calls C{models/a}, as the container has it:
    C{app/models/a}."""
    rest = member.partition("/")[2]
    return posixpath.normpath(posixpath.join(path.strip("/"), rest))


def _services(document: Optional[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    services = (document or {}).get("services") or {}
    return [(name, one) for name, one in services.items() if isinstance(one, Mapping)]


def _environment_files(entry: Any) -> list[tuple[str, bool]]:
    """(path, whether it is required): a text, or a list of texts and of mappings."""
    entries = entry if isinstance(entry, list) else [entry]
    found = []
    for one in entries:
        if isinstance(one, str) and one:
            found.append((one, True))
        elif isinstance(one, Mapping) and one.get("path"):
            found.append((str(one["path"]), one.get("required", True) is not False))
    return found


def _bind_mounts(
    resolved: Optional[Mapping[str, Any]], containers: Iterable[Container]
) -> list[tuple[str, str, bool]]:
    """(path, what mounts it, whether that is its data), of the files and of what runs."""
    seen: dict[str, tuple[str, str, bool]] = {}

    def add(source: str, target: str, service: str, read_only: bool) -> None:
        path = posixpath.normpath(source)
        data = not read_only and any(_below(target, place) for place in _DATA_TARGETS)
        if path not in seen or data:
            seen[path] = (path, f"{target} of {service}", data)

    for service, definition in _services(resolved):
        for mount in definition.get("volumes") or ():
            if isinstance(mount, Mapping) and mount.get("type") == "bind" and mount.get("source"):
                add(
                    str(mount["source"]),
                    str(mount.get("target") or ""),
                    service,
                    mount.get("read_only") is True,
                )
    for container in containers:
        for bound in container.mounts:
            if bound.kind == "bind":
                add(bound.source, bound.destination, container.service, bound.read_only)
    return list(seen.values())


def _below(path: str, folder: str) -> bool:
    return bool(folder) and (path == folder or path.startswith(folder.rstrip("/") + "/"))


# Redis


def rdb_problem(head: bytes) -> str:
    """Why the first bytes are not those of a snapshot; empty where they are."""
    if head.startswith(_RDB_MAGIC) and head[len(_RDB_MAGIC) : _RDB_HEADER_BYTES].isdigit():
        return ""
    return f"it begins with {head[:_RDB_HEADER_BYTES]!r}, expected REDIS and a version"


@dataclass(frozen=True)
class SaveState:
    """INFO persistence and LASTSAVE, at one moment. ``saved_at`` in seconds since the epoch."""

    saved_at: int
    in_progress: bool
    ok: bool


def save_state(info: Mapping[str, str]) -> SaveState:
    """Raises C{ValueError} where INFO lacks the fields."""
    try:
        return SaveState(
            saved_at=int(info["rdb_last_save_time"]),
            in_progress=info["rdb_bgsave_in_progress"] != "0",
            ok=info["rdb_last_bgsave_status"] == "ok",
        )
    except KeyError as error:
        raise ValueError(f"INFO persistence has no {error.args[0]}") from error


def save_outcome(before: SaveState, now: SaveState) -> Optional[str]:
    """C{None} while a save begun after ``before`` goes on, else what went wrong with it, which is
    empty where it succeeded."""
    if now.in_progress:
        return None
    if now.ok and now.saved_at > before.saved_at:
        return ""
    if not now.ok:
        return "BGSAVE failed: rdb_last_bgsave_status is err, expected ok"
    return None


def key_count(info: Mapping[str, str]) -> int:
    """Keys of all databases, by INFO keyspace (C{db0:keys=1,expires=0,…})."""
    total = 0
    for name, value in info.items():
        if name.startswith("db") and name[2:].isdigit():
            total += int(value.partition("keys=")[2].partition(",")[0] or 0)
    return total
