# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether what runs is what was deployed: images by their digests, the files that a container has
changed, and the database's own records."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._containers import image_difference
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    ComposeService,
    Container,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    ABOVE,
    CRITICAL,
    OK,
    SKIPPED,
    WARNING,
    Measurement,
    ProbeDefinition,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import plural

COMPONENT = "integrity"
IMAGE = "integrity.image"
FILES = "integrity.files"
CATALOGS = "integrity.catalogs"
TABLES = "integrity.tables"
CHECKSUMS = "integrity.checksums"
SUPERUSERS = "integrity.superusers"

CATALOGUE: Mapping[str, ProbeDefinition] = {
    one.id: one
    for one in (
        ProbeDefinition(
            IMAGE,
            COMPONENT,
            "The container's image is the one that its name and digest stand for",
            hint="docker image inspect --format '{{.Id}} {{.RepoDigests}}' IMAGE",
        ),
        ProbeDefinition(
            FILES,
            COMPONENT,
            "No files changed in the container beside those that its services write",
            unit="files",
            direction=ABOVE,
            warning=0,
            hint="docker diff CONTAINER; docker compose up -d --force-recreate SERVICE",
        ),
        ProbeDefinition(CATALOGS, COMPONENT, "The database's catalogs agree with each other"),
        ProbeDefinition(TABLES, COMPONENT, "pg_amcheck finds tables and indexes sound"),
        ProbeDefinition(
            CHECKSUMS,
            COMPONENT,
            "No page of the server has failed its checksum",
            unit="pages",
            direction=ABOVE,
            critical=0,
            hint="ansible-playbook pynomaly.ops.restore brings the newest verified backup back",
        ),
        ProbeDefinition(
            SUPERUSERS,
            COMPONENT,
            "Only those roles are superusers and log in that are known",
            unit="roles",
            direction=ABOVE,
            warning=0,
            hint="ALTER ROLE … NOLOGIN NOSUPERUSER",
        ),
    )
}

#: Kinds of a change, as the engine numbers them: https://docs.docker.com/reference/api/engine/
MODIFIED, ADDED, DELETED = 0, 1, 2
_KINDS = {MODIFIED: "changed", ADDED: "added", DELETED: "deleted"}

#: What services write as they run.
_EXPECTED = re.compile(
    r"/(?:tmp|run|dev|proc|sys|var/(?:run|tmp|log|cache|lock|lib/nginx))(?:/|$)"
    r"|.*/__pycache__(?:/|$)|.*\.py[co]$|/root/\.(?:ash|bash)_history$"
    r"|/root/\.(?:psql_history|rediscli_history)$"
    # The engine's own, in each container.
    r"|/etc/(?:hosts|hostname|resolv\.conf|mtab)$|/\.dockerenv$|/(?:usr/)?sbin/docker-init$"
)
_SYSTEM = re.compile(
    r"/(?:bin|sbin|lib|lib32|lib64|usr|boot)(?:/|$)|/etc/(?:passwd|shadow|group|sudoers|cron|ld\.so)"
)
_SHOWN = 8


@dataclass(frozen=True)
class FileChange:
    """One path that a container has changed, against its image."""

    path: str
    kind: int

    @property
    def text(self) -> str:
        return f"{_KINDS.get(self.kind, 'changed')} {self.path}"


def file_changes(
    raw: Iterable[Mapping[str, Any]], mounts: Sequence[str], expected: Sequence[str] = ()
) -> list[FileChange]:
    """What C{docker diff} says that nobody would expect.

    ``mounts`` are paths in the container where something is mounted: the engine makes them and
    what is above. A folder counts as changed whenever something in it has, and is left out then.
    ``expected`` are more paths, with what is below them.
    """
    changes = [FileChange(str(one["Path"]), int(one["Kind"])) for one in raw]
    above: set[str] = set()
    for path in [*(change.path for change in changes), *mounts]:
        folder = posixpath.dirname(path.rstrip("/"))
        while folder not in ("", "/") and folder not in above:
            above.add(folder)
            folder = posixpath.dirname(folder)
    made = {mount.rstrip("/") for mount in mounts}
    return [
        change
        for change in changes
        if not _EXPECTED.match(change.path)
        and change.path not in made
        and not (change.path in above and change.kind != DELETED)
        and not any(f"{change.path}/".startswith(path.rstrip("/") + "/") for path in expected)
    ]


def files_measurement(target: Target, changes: Sequence[FileChange]) -> Measurement:
    """Files of the system are critical, others a warning."""
    if not changes:
        return Measurement(target, 0, "none", OK)
    system = [change for change in changes if _SYSTEM.match(change.path)]
    first = [*system, *(change for change in changes if change not in system)]
    more = f", and {len(first) - _SHOWN} more" if len(first) > _SHOWN else ""
    return Measurement(
        target,
        len(changes),
        "; ".join(change.text for change in first[:_SHOWN]) + more,
        CRITICAL if system else WARNING,
        detail=[change.text for change in first[:200]],
    )


def image_integrity(
    target: Target,
    service: Optional[ComposeService],
    container: Container,
    image: Optional[Mapping[str, Any]],
) -> Measurement:
    """``image`` is what the engine has under the container's image id, C{None} for nothing."""
    reference = service.image if service is not None and service.image else container.image
    if image is None:
        return Measurement(
            target,
            container.image,
            f"{container.name} runs image {container.image_id[7:19]}, which the engine does not "
            "have any more",
            WARNING,
        )
    difference = image_difference(service, container) if service is not None else ""
    if difference:
        return Measurement(target, container.image, difference, CRITICAL)
    digests = [str(one).rpartition("@")[2] for one in image.get("RepoDigests") or ()]
    pinned = reference.rpartition("@")[2] if "@" in reference else ""
    if pinned and pinned not in digests:
        return Measurement(
            target,
            container.image,
            f"{container.name} runs {container.image_id[7:19]}, expected the image with digest "
            f"{pinned[7:19]}",
            CRITICAL,
        )
    told = digests[0][7:19] if digests else "none: the image came from no registry"
    return Measurement(target, container.image, f"{reference}, digest {told}", OK)


def catalogs_measurement(target: Target, problems: Mapping[str, int]) -> Measurement:
    """``problems`` are counts by what is wrong."""
    wrong = {what: count for what, count in problems.items() if count}
    if not wrong:
        return Measurement(target, None, f"{plural(len(problems), 'check')} passed", OK)
    text = "; ".join(f"{count} {what}" for what, count in wrong.items())
    return Measurement(target, sum(wrong.values()), text, CRITICAL)


def checksums_measurement(target: Target, failures: Optional[int], enabled: bool) -> Measurement:
    """``failures`` are pages since the statistics were reset, C{None} where none are counted."""
    if not enabled or failures is None:
        return Measurement(target, status=SKIPPED, message="the server has no data checksums")
    return Measurement(target, failures, "data checksums are on")


def superusers_measurement(
    target: Target, roles: Sequence[str], known: Sequence[str]
) -> Measurement:
    """``roles`` are superusers that may log in."""
    strange = [role for role in roles if role not in known]
    if not strange:
        return Measurement(target, 0, f"superusers: {', '.join(roles) or 'none'}", OK)
    return Measurement(
        target,
        len(strange),
        f"superusers that no container logs in as: {', '.join(strange)}",
        WARNING,
    )
