#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stack_precheck_info
short_description: Look at what a deployment needs of a host, before anything is touched
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Looks at the engine, Docker Compose, room on disk, ports, images, volumes and the certificate in
    one call, and answers with a list of problems, each with what was seen and what was expected.
  - Having problems is no failure of the module. Reading changes nothing.
options:
  project_name:
    description:
      - Name of the Compose project that is to be deployed. Without it the host alone is looked at.
    type: str
  project_dir:
    description: Folder of the project's C(compose.yaml). Goes with O(project_name).
    type: path
  images:
    description: Images that the project uses.
    type: list
    elements: str
    default: []
  volumes:
    description: Volumes of the project, as the engine names them.
    type: list
    elements: str
    default: []
  ports:
    description: TCP ports that the project publishes on the host.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The port.
        type: int
        required: true
      host_ip:
        description: The address. Empty for every address.
        type: str
        default: ""
  disk:
    description:
      - Paths whose filesystems need room. For a path that does not exist, its nearest parent.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The path.
        type: path
        required: true
      minimum_free_mib:
        description: Room it needs, in MiB.
        type: int
        required: true
  docker_minimum_free_mib:
    description:
      - Room that the filesystem of the engine's own folder needs, in MiB. The engine says which
        folder; where none answers, it is C(data-root) of C(/etc/docker/daemon.json), or else
        C(/var/lib/docker).
    type: int
  certificate:
    description: A certificate file to look at.
    type: path
  minimum_engine_version:
    description: Oldest Docker Engine that is good enough.
    type: str
    default: "20.10"
  minimum_compose_version:
    description: Oldest Docker Compose that is good enough.
    type: str
    default: "2.18"
attributes:
  check_mode:
    support: full
    description: This module does not modify state.
  diff_mode:
    support: none
    description: Will return details on what has changed, or would have.
  platform:
    support: full
    platforms: linux
    description: Target operating systems.
"""

EXAMPLES = r"""
- name: Look at what a deployment needs
  pynomaly.ops.stack_precheck_info:
    project_name: pynomaly
    project_dir: /opt/pynomaly
    images: ["postgres:17", "redis:8"]
    ports:
      - port: 443
    docker_minimum_free_mib: 2048
  register: precheck
"""

RETURN = r"""
problems:
  description: Reasons not to go on.
  returned: success
  type: list
  elements: dict
  contains:
    what:
      description: The thing.
      type: str
    seen:
      description: What was seen.
      type: str
    expected:
      description: What was expected.
      type: str
    next:
      description: What to run next.
      type: str
    text:
      description: All of it in one sentence.
      type: str
engine_version:
  description: Version of the Docker Engine, empty where there is none.
  returned: success
  type: str
  sample: 26.1.5
compose_version:
  description: Version of Docker Compose, empty where there is none.
  returned: success
  type: str
  sample: 2.26.1
docker_root:
  description: The engine's own folder, where images, containers and volumes are.
  returned: success
  type: str
  sample: /var/lib/docker
images_in_use:
  description: The image of each service that has a container, by service.
  returned: success
  type: dict
  sample: {"postgres": "postgres:17"}
missing_images:
  description: Images that the engine does not have.
  returned: success
  type: list
  elements: str
existing_volumes:
  description: Those of O(volumes) that exist.
  returned: success
  type: list
  elements: str
certificate:
  description: The certificate in O(certificate). Empty where none can be read.
  returned: success
  type: dict
  contains:
    subject:
      description: Distinguished name of the subject, as in RFC 2253.
      type: str
    names:
      description: Subject alternative names, with addresses, sorted.
      type: list
      elements: str
    expires_in_days:
      description: Days until it expires, negative when it has.
      type: float
"""

import contextlib
import datetime
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine, EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._precheck import (
    PREPARE,
    Listener,
    Port,
    Problem,
    data_root,
    describe_certificate,
    disk_problem,
    is_published,
    overlaps,
    parse_listeners,
    port_problem,
    project_problem,
    version_problem,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._tls import X509_OPTIONS, parse_x509

TIMEOUT_SECONDS = 10.0
DAEMON_CONFIGURATION = Path("/etc/docker/daemon.json")
ARGUMENT_SPEC: dict[str, Any] = {
    "project_name": {"type": "str"},
    "project_dir": {"type": "path"},
    "images": {"type": "list", "elements": "str", "default": []},
    "volumes": {"type": "list", "elements": "str", "default": []},
    "ports": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "port": {"type": "int", "required": True},
            "host_ip": {"type": "str", "default": ""},
        },
    },
    "disk": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "path": {"type": "path", "required": True},
            "minimum_free_mib": {"type": "int", "required": True},
        },
    },
    "docker_minimum_free_mib": {"type": "int"},
    "certificate": {"type": "path"},
    "minimum_engine_version": {"type": "str", "default": "20.10"},
    "minimum_compose_version": {"type": "str", "default": "2.18"},
}


def command_output(argv: Sequence[str]) -> str:
    """What a command prints; empty when it fails, is missing or does not answer in time."""
    try:
        done = subprocess.run(
            list(argv),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", errors="replace").strip() if done.returncode == 0 else ""


def read_text(path: Path) -> str:
    """A file's text; empty where there is none that can be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def free_bytes(path: Path) -> int:
    """Room for an ordinary user on the filesystem that ``path`` is on, or would be."""
    while not path.exists():
        path = path.parent
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def listeners() -> Sequence[Listener]:
    """Every listening TCP socket of the host."""
    found: list[Listener] = []
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            found += parse_listeners(Path(name).read_text(encoding="ascii"))
    return found


def process_of(inode: int) -> str:
    """The process that holds a socket, as far as this user may see."""
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(descriptor.readlink()) == f"socket:[{inode}]":
                pid = descriptor.parts[2]
                name = Path("/proc", pid, "comm").read_text(encoding="utf-8").strip()
                return f"process {name} (pid {pid})"
    return "another process"


def owner(port: Port, listener: Listener) -> str:
    """Who has the port: another container, or a process."""
    names = command_output(
        ["docker", "ps", "--filter", f"publish={port.port}", "--format", "{{.Names}}"]
    )
    return f"container {names.split()[0]}" if names else process_of(listener.inode)


def port_problems(ports: Sequence[Port], containers: Sequence[Container]) -> Sequence[Problem]:
    """Ports that are taken, and not by this project."""
    problems = []
    open_sockets = listeners()
    for port in ports:
        if is_published(port, containers):
            continue
        taken = next((one for one in open_sockets if overlaps(port, one)), None)
        if taken is not None:
            problems.append(port_problem(port, owner(port, taken)))
    return problems


def certificate(path: Optional[str]) -> Mapping[str, Any]:
    """What there is to know of a certificate file."""
    if path is None:
        return {}
    text = command_output(["openssl", "x509", "-in", path, *X509_OPTIONS])
    try:
        parsed = parse_x509(text)
    except ValueError:
        return {}
    return describe_certificate(parsed, datetime.datetime.now(datetime.timezone.utc))


def look(params: Mapping[str, Any]) -> dict[str, Any]:
    """The module's answer."""
    problems: list[Optional[Problem]] = []
    containers: Sequence[Container] = ()
    engine_version, docker_root, missing, existing = "", "", [], []
    compose_version = command_output(["docker", "compose", "version", "--short"])
    try:
        engine = Engine(TIMEOUT_SECONDS)
        engine_version = str(engine.version().get("Version", ""))
        docker_root = str(engine.info().get("DockerRootDir") or "")
        if params["project_name"]:
            containers = engine.list_project_containers(params["project_name"])
        found = engine.image_ids(params["images"])
        missing = [reference for reference, identifier in found.items() if not identifier]
        existing = sorted(set(params["volumes"]) & set(engine.volume_labels()))
    except EngineError as error:
        engine_version = engine_version or command_output(
            ["docker", "version", "--format", "{{.Server.Version}}"]
        )
        problems.append(
            Problem("Docker", str(error), "an engine that answers", error.hint or PREPARE)
        )
    else:
        problems.append(
            version_problem("Docker Engine", engine_version, params["minimum_engine_version"])
        )
    problems.append(
        version_problem("Docker Compose", compose_version, params["minimum_compose_version"])
    )
    if params["project_name"]:
        problems.append(project_problem(params["project_name"], params["project_dir"], containers))
    problems += port_problems([Port(**entry) for entry in params["ports"]], containers)
    docker_root = docker_root or data_root(read_text(DAEMON_CONFIGURATION))
    if params["docker_minimum_free_mib"] is not None:
        minimum = params["docker_minimum_free_mib"] * 1048576
        problems.append(disk_problem(docker_root, free_bytes(Path(docker_root)), minimum))
    for entry in params["disk"]:
        free = free_bytes(Path(entry["path"]))
        problems.append(disk_problem(entry["path"], free, entry["minimum_free_mib"] * 1048576))
    return {
        "problems": [dict(problem.data()) for problem in problems if problem is not None],
        "engine_version": engine_version,
        "compose_version": compose_version,
        "docker_root": docker_root,
        "images_in_use": {container.service: container.image for container in containers},
        "missing_images": missing,
        "existing_volumes": existing,
        "certificate": dict(certificate(params["certificate"])),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        required_together=[("project_name", "project_dir")],
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **look(module.params))


if __name__ == "__main__":
    main()
