# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to be true of a host before a project is deployed on it."""

from __future__ import annotations

import datetime
import ipaddress
import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.module_utils._sockets import kernel_address
from ansible_collections.pynomaly.ops.plugins.module_utils._tls import Certificate

CONFIG_FILES_LABEL = "com.docker.compose.project.config_files"
DEFAULT_DATA_ROOT = "/var/lib/docker"
PREPARE = "ansible-playbook pynomaly.ops.prepare"

_TCP_LISTEN = "0A"
_VERSION = re.compile(r"v?(\d+)\.(\d+)")
_DAY_SECONDS = 86400


@dataclass(frozen=True)
class Problem:
    """Why not to go on: what, what was seen, what was expected, what to run next."""

    what: str
    seen: str
    expected: str
    next: str

    def data(self) -> Mapping[str, str]:
        """For a module's answer, with ``text`` for a message."""
        text = f"{self.what}: {self.seen}; expected {self.expected}. Next: {self.next}"
        return {**asdict(self), "text": text}


@dataclass(frozen=True)
class Listener:
    """A TCP socket that accepts connections. ``inode`` is the socket's."""

    address: str
    port: int
    inode: int


@dataclass(frozen=True)
class Port:
    """A host port that the project publishes; an empty ``host_ip`` is every address."""

    port: int
    host_ip: str = ""

    def __str__(self) -> str:
        return f"{self.host_ip}:{self.port}" if self.host_ip else str(self.port)


def version_problem(
    what: str, seen: str, minimum: str, next_step: str = PREPARE
) -> Optional[Problem]:
    """A problem unless the version is the minimum or newer, by its first two numbers."""
    found, wanted = _VERSION.search(seen), _VERSION.search(minimum)
    if found and wanted and tuple(map(int, found.groups())) >= tuple(map(int, wanted.groups())):
        return None
    return Problem(f"version of {what}", seen or "none", f"{minimum} or newer", next_step)


def disk_problem(path: str, free_bytes: int, minimum_bytes: int) -> Optional[Problem]:
    """A problem when the filesystem of ``path`` has less room than asked for."""
    if free_bytes >= minimum_bytes:
        return None
    return Problem(
        f"room on the filesystem of {path}",
        f"{free_bytes / 1048576:.0f} MiB free",
        f"{minimum_bytes / 1048576:.0f} MiB or more",
        f"df -h {path}; docker system df",
    )


def data_root(daemon_configuration: str) -> str:
    """Where an engine keeps its data that has the text of a C{daemon.json}, which may be empty."""
    try:
        configured = json.loads(daemon_configuration).get("data-root")
    except (ValueError, AttributeError):
        configured = None
    return configured if isinstance(configured, str) and configured else DEFAULT_DATA_ROOT


def project_problem(
    project: str, project_dir: str, containers: Iterable[Container]
) -> Optional[Problem]:
    """A problem when the project runs from other files than the ones deployed here."""
    for container in containers:
        files = container.labels.get(CONFIG_FILES_LABEL, "")
        folders = {posixpath.dirname(name) for name in files.split(",") if name}
        if folders and folders != {posixpath.normpath(project_dir)}:
            return Problem(
                f"project {project}",
                f"container {container.name} of it was started from {files}",
                f"{project_dir}/compose.yaml, or no project of this name",
                "deploy under another name with -e pynomaly_project_name=NAME; the other playbooks "
                "work on the running project as it is",
            )
    return None


def parse_listeners(text: str) -> Sequence[Listener]:
    """Listening sockets of ``/proc/net/tcp`` or ``/proc/net/tcp6``; other lines are passed over."""
    listeners = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != _TCP_LISTEN:
            continue
        raw, _colon, port = fields[1].partition(":")
        listeners.append(Listener(kernel_address(raw), int(port, 16), int(fields[9])))
    return listeners


def overlaps(port: Port, listener: Listener) -> bool:
    """Whether binding the port would meet the listener."""
    if port.port != listener.port:
        return False
    wanted = ipaddress.ip_address(port.host_ip or "0.0.0.0")
    taken = ipaddress.ip_address(listener.address)
    if wanted.is_unspecified or taken.is_unspecified:
        return True
    return wanted == taken


def is_published(port: Port, containers: Iterable[Container]) -> bool:
    """Whether one of these containers already has the host port."""
    return any(
        published.host_port == port.port
        for container in containers
        if container.running
        for published in container.ports
    )


def port_problem(port: Port, owner: str) -> Problem:
    """The port is somebody else's."""
    return Problem(
        f"port {port}",
        f"taken by {owner}",
        "a free port",
        f"stop what listens there (ss -ltnp 'sport = :{port.port}'), or publish another port",
    )


def describe_certificate(certificate: Certificate, now: datetime.datetime) -> Mapping[str, Any]:
    """Keys: subject, names (with addresses, sorted), expires_in_days (negative when it has)."""
    seconds = (certificate.not_after - now).total_seconds()
    return {
        "subject": certificate.subject,
        "names": sorted([*certificate.names, *certificate.addresses]),
        "expires_in_days": round(seconds / _DAY_SECONDS, 1),
    }
