# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What runs where: a stack as plain data, and as one screen of text."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._containers import (
    age_seconds,
    duration_text,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import printable

WIDTH = 100
VERSION_LABEL = "org.opencontainers.image.version"

_LOOPBACK = ("127.0.0.1", "::1")
_HEADINGS = ("SERVICE", "STATE", "HEALTH", "IMAGE", "VERSION", "UP", "PORTS")
#: Columns after which a cell is shortened, the image from its left: its end tells more.
_WIDEST = (22, 30, 9, 30, 14, 12, 30)
_IMAGE_COLUMN = 3


def stack_status(
    stack: Stack, engine_version: str, now: datetime.datetime, projects: Sequence[str] = ()
) -> dict[str, Any]:
    """The module's answer: keys project, found, projects, working_dir, config_files,
    compose_error, engine_version and services (each with service, component, expected, running
    and containers). ``projects`` are those the engine has, for a project that it has not."""
    components = {service: component for component, service in stack.components.items()}
    names = list(stack.services) + sorted(set(stack.containers) - set(stack.services))
    services = []
    for name in names:
        containers = stack.containers.get(name, ())
        declared = stack.services.get(name)
        services.append(
            {
                "service": name,
                "component": components.get(name),
                "expected": declared.replicas if declared else None,
                "running": sum(1 for container in containers if container.running),
                "one_shot": bool(declared and declared.one_shot),
                "containers": [container_status(container, now) for container in containers],
            }
        )
    return {
        "project": stack.project,
        "found": bool(stack.containers),
        "projects": list(projects),
        "working_dir": stack.working_dir,
        "config_files": list(stack.config_files),
        "compose_error": stack.compose_error,
        "engine_version": engine_version,
        "services": services,
    }


def container_status(container: Container, now: datetime.datetime) -> dict[str, Any]:
    """One container, without anything of its environment or command."""
    since = container.started_at if container.running else container.finished_at
    age = age_seconds(since, now)
    return {
        "id": container.id,
        "name": container.name,
        "state": container.state,
        "health": container.health,
        "exit_code": None if container.running else container.exit_code,
        "image": container.image,
        "image_id": container.image_id,
        "version": image_version(container.image, container.labels),
        "since": since,
        "uptime_seconds": int(age) if container.running and age is not None else None,
        "restart_count": container.restart_count,
        "addresses": list(container.addresses),
        "ports": [
            {
                "host_ip": port.host_ip,
                "host_port": port.host_port,
                "container_port": port.container_port,
            }
            for port in container.ports
        ],
    }


def image_version(reference: str, labels: Mapping[str, str]) -> str:
    """A tag that is a number; else the image's own label, which an image built on another may
    have inherited; else the tag, or the beginning of the digest."""
    name, _at, digest = reference.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if re.match(r"v?\d", tag):
        return tag
    return labels.get(VERSION_LABEL) or tag or digest.rpartition(":")[2][:12] or "latest"


def status_table(status: Mapping[str, Any]) -> list[str]:
    """The lines of one screen, at most 100 columns, a row for each service."""
    head = printable(f"Project {status['project']} on Docker {status['engine_version']}")
    if not status["found"]:
        seen = printable(", ".join(status["projects"])) or "none"
        return _fitted(
            [
                f"{head}: no container of it was seen",
                f"  expected one of this host's projects: {seen}",
                "  next     ansible-playbook pynomaly.ops.status -e pynomaly_project_name=NAME",
            ]
        )
    lines = [f"{head}, in {printable(status['working_dir'])}" if status["working_dir"] else head]
    if status["compose_error"]:
        lines.append(f"  its Compose file cannot be read: {printable(status['compose_error'])}")
    lines.append("")
    lines += _columns([_HEADINGS, *(_row(service) for service in status["services"])])
    return _fitted(lines)


def _row(service: Mapping[str, Any]) -> tuple[str, ...]:
    containers = service["containers"]
    uptimes = [one["uptime_seconds"] for one in containers if one["uptime_seconds"] is not None]
    ports = sorted({_port(port) for one in containers for port in one["ports"]}, key=_port_order)
    return (
        service["service"],
        _state(service),
        _worst_health(one["health"] for one in containers),
        _joined(_without_version(one["image"], one["version"]) for one in containers),
        _joined(one["version"] for one in containers),
        duration_text(min(uptimes)) if uptimes else "-",
        " ".join(ports) or "-",
    )


def _state(service: Mapping[str, Any]) -> str:
    containers, running, expected = (
        service["containers"],
        service["running"],
        service["expected"],
    )
    if not containers:
        return "missing" if expected else "none wanted"
    stopped = [one for one in containers if one["state"] != "running"]
    wanted = len(containers) if expected is None else expected
    if not stopped and running == wanted == 1:
        text = "running"
    elif not stopped:
        text = f"{running} of {wanted} running"
    elif len(containers) == 1:
        text = f"{stopped[0]['state']} ({stopped[0]['exit_code']})"
    else:
        text = f"{running} of {max(wanted, running)}, {stopped[0]['state']}"
    restarts = sum(one["restart_count"] for one in containers)
    if restarts:
        text += f", {restarts} restart" + ("s" if restarts > 1 else "")
    return text


def _worst_health(states: Iterable[Any]) -> str:
    order = ("healthy", "starting", "unhealthy")
    known = [state for state in states if state in order]
    return max(known, key=order.index) if known else "-"


def _joined(texts: Iterable[str]) -> str:
    return " / ".join(sorted(set(texts))) or "-"


def _without_version(image: str, version: str) -> str:
    """The version has a column of its own."""
    return image[: -len(version) - 1] if version and image.endswith(f":{version}") else image


def _port(port: Mapping[str, Any]) -> str:
    text, host_ip = str(port["host_port"]), port["host_ip"]
    if host_ip in _LOOPBACK:
        return f"lo:{text}"
    return text if host_ip in ("", "0.0.0.0", "::") else f"{host_ip}:{text}"


def _port_order(text: str) -> tuple[int, str]:
    return int(text.rpartition(":")[2]), text


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [
        [
            _shortened(printable(cell), widest, position == _IMAGE_COLUMN)
            for position, (cell, widest) in enumerate(zip(row, _WIDEST))
        ]
        for row in rows
    ]
    widths = [max(len(row[position]) for row in cells) for position in range(len(_HEADINGS))]
    # Two blanks between columns and two before the first; what is too much the image gives up.
    excess = sum(widths) + 2 * len(widths) - WIDTH
    if excess > 0:
        widths[_IMAGE_COLUMN] = max(10, widths[_IMAGE_COLUMN] - excess)
        for row in cells:
            row[_IMAGE_COLUMN] = _shortened(row[_IMAGE_COLUMN], widths[_IMAGE_COLUMN], True)
    return [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip()
        for row in cells
    ]


def _shortened(text: str, limit: int, from_left: bool = False) -> str:
    if len(text) <= limit:
        return text
    return ".." + text[len(text) - limit + 2 :] if from_left else text[: limit - 2] + ".."


def _fitted(lines: Iterable[str]) -> list[str]:
    return [_shortened(line, WIDTH).rstrip() for line in lines]
