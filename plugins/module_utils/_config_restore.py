# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bringing a project's configuration back: what would change, who is touched, what may be shown."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._compose import ComposeFiles
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    ComposeService,
    Container,
    Mount,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import MASK, scrub
from ansible_collections.pynomaly.ops.plugins.module_utils._files_backup import (
    HOST_PREFIX,
    host_path,
)

CREATE = "create"
REPLACE = "replace"
SAME = "same"

#: A container without a health check counts as up once it has run for so long.
SETTLED_SECONDS = 3.0
_DIFF_MAX_BYTES = 256 * 1024
#: A name like a secret's, and what parts it from its value. What follows on the line is masked.
_SECRET_NAME = re.compile(
    r"(?<![\w.-])[\w.-]*(?:passw|_pass\b|requirepass|masterauth|secret|token|credential"
    r"|authorization|(?:api|private|routing|service|access|auth)[_-]?key|webhook|api_url)"
    r"[\w.-]*[\"']?[ \t]*[:=][ \t]*"
    # nginx, and Redis in its file and on its command line, need no sign between.
    r"|\b(?:requirepass|masterauth|authorization)\b[\"', \t]+"
    # A user of Redis: its password, or the hash of it.
    r"|^[ \t]*user[ \t].*?[ \t](?=[>#])",
    re.IGNORECASE,
)
#: The value is below: a block of YAML, a list or mapping that is only opened, or nothing yet. What
#: YAML takes for a comment is a value elsewhere.
_BLOCK = re.compile(r"(?:[|>][-+0-9]*|[{\[])?\s*(?=#|\Z)")
#: Of Compose, which names secrets and files there and has none.
_SECRETS_SECTION = re.compile(r"[ \t]*secrets:\s*\Z")


@dataclass(frozen=True)
class FileChange:
    """One file of the backup: where it belongs, and whether it is there. ``mode`` and ``owner``
    (user id, group id) are the backup's."""

    path: str
    staged: str
    action: str
    mode: int
    owner: tuple[int, int]

    @property
    def is_change(self) -> bool:
        return self.action != SAME


def staged_path(path: str, working_dir: str, staged_root: str) -> str:
    """Where a host's path would be in the staged copy, were it in the backup."""
    path = posixpath.normpath(path)
    if _is_below(path, working_dir):
        return posixpath.normpath(
            posixpath.join(staged_root, "project", posixpath.relpath(path, working_dir))
        )
    return posixpath.join(staged_root, "host", path.lstrip("/"))


def member_path(member: str, working_dir: str, roots: Sequence[str]) -> str:
    """Where a member belongs on the host.

    ``roots`` are the files and folders outside of the project's folder that the manifest says
    were taken. Raises C{ValueError} for a member that leads anywhere else.
    """
    path = host_path(member, working_dir)
    allowed = roots if member.startswith(f"{HOST_PREFIX}/") else (working_dir,)
    if not any(_is_below(path, root) for root in allowed):
        raise ValueError(f"{path} is not among what the manifest says was taken")
    return path


def backup_files(
    content: Mapping[str, Any], staged_root: str, exists: Mapping[str, bool]
) -> ComposeFiles:
    """The project's files as the staged copy has them; those that it lacks stay the host's own.

    ``exists`` says which staged paths are there.
    """
    working_dir = str(content["working_dir"])

    def staged(paths: Iterable[Any]) -> tuple[str, ...]:
        found = []
        for path in paths:
            candidate = staged_path(str(path), working_dir, staged_root)
            found.append(candidate if exists.get(candidate) else str(path))
        return tuple(found)

    return ComposeFiles(
        working_dir=posixpath.join(staged_root, "project"),
        config_files=staged(content["config_files"]),
        environment_files=staged(content.get("environment_files") or ()),
    )


def touched_services(
    changed: Iterable[str], containers: Mapping[str, Sequence[Container]]
) -> list[str]:
    """The services that have one of the changed files mounted, alone or in a folder."""
    paths = list(changed)
    return sorted(
        service
        for service, ones in containers.items()
        if any(_holds(mount, path) for one in ones for mount in one.mounts for path in paths)
    )


def _holds(mount: Mount, path: str) -> bool:
    return mount.kind == "bind" and _is_below(path, mount.source)


def _is_below(path: str, folder: str) -> bool:
    return bool(folder) and f"{path}/".startswith(folder.rstrip("/") + "/")


def option_value(command: Sequence[str], option: str) -> Optional[str]:
    """The value of C{--option=VALUE} or C{--option VALUE} in a command."""
    for position, word in enumerate(command):
        if word.startswith(f"{option}="):
            return word[len(option) + 1 :]
        if word == option and position + 1 < len(command):
            return command[position + 1]
    return None


def not_up(
    services: Mapping[str, ComposeService],
    containers: Mapping[str, Sequence[Container]],
    ages_seconds: Mapping[str, float],
) -> list[str]:
    """What keeps the project from being up, one text for each service; empty where it is.

    ``ages_seconds`` says how long each container, by its id, has run.
    """
    problems = []
    for name, service in sorted(services.items()):
        if service.one_shot or service.replicas == 0:
            continue
        up = [one for one in containers.get(name, ()) if one.running]
        if len(up) < service.replicas:
            states = ", ".join(one.state for one in containers.get(name, ())) or "no container"
            problems.append(f"{name}: {len(up)} of {service.replicas} running, seen {states}")
            continue
        for one in up:
            if one.health not in (None, "healthy"):
                problems.append(f"{one.name} is {one.health}, expected healthy")
            elif one.health is None and ages_seconds.get(one.id, 0.0) < SETTLED_SECONDS:
                problems.append(f"{one.name} has only just started")
    return problems


def shown(path: str, content: Optional[bytes], mode: int, secrets: Iterable[str]) -> str:
    """A file's text as a diff may show it.

    Environment files and files that only their owner may read are never shown; in others, what is
    known as a secret, and what stands behind a name like a secret's, is masked.
    """
    if content is None:
        return ""
    name = posixpath.basename(path)
    if name.startswith(".env") or name.endswith(".env") or not mode & 0o077:
        return f"(not shown: {len(content)} bytes that may be secret)\n"
    if len(content) > _DIFF_MAX_BYTES:
        return f"(not shown: {len(content)} bytes)\n"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return f"(not shown: {len(content)} bytes that are no text)\n"
    return "\n".join(_masked(scrub(text, secrets).split("\n")))


def _masked(lines: Iterable[str]) -> Iterator[str]:
    """The lines without what stands behind a name like a secret's, on its line or indented below
    it."""
    block_indent: Optional[int] = None
    for line in lines:
        indent = len(line) - len(line.lstrip(" \t"))
        if block_indent is not None and (indent > block_indent or not line.strip()):
            yield line[:indent] + MASK if line.strip() else line
            continue
        block_indent = None
        name = _SECRET_NAME.search(line)
        if name is None or _SECRETS_SECTION.match(line):
            yield line
            continue
        block = _BLOCK.match(line, name.end())
        if block is not None:
            block_indent = indent
        shown_until = (block or name).end()
        yield line[:shown_until] + (MASK if shown_until < len(line) else "")
