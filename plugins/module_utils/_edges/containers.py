# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine, the project, and each service's containers."""

from __future__ import annotations

import ctypes
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._containers import (
    health_measurement,
    image_measurement,
    restarts_measurement,
    state_measurement,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    ComposeService,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import compose_version
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    WARNING,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    CollectorError,
    Emit,
    skip,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._system import (
    MEMORY_FILES,
    MemoryUse,
    Mount,
    container_memory_measurement,
    kernel_oom_kills,
    memory_group,
    memory_use,
    oom_kills_measurement,
    parse_mountinfo,
)

#: What the collection is tested with, and older than which it says so.
OLDEST_ENGINE = (20, 10)
OLDEST_COMPOSE = (2, 18)

ENGINE_TARGET = Target("docker.engine", "docker")
COMPOSE_TARGET = Target("docker.compose", "docker")
FOUND_TARGET = Target("project.found", "project")
COMPOSE_FILE_TARGET = Target("project.compose_file", "project")

_STATE_PROBES = ("container.state", "container.health", "container.restarts", "container.image")
_MEMORY_PROBES = ("container.oom_kills", "container.memory")


def collectors(stack: Stack, settings: CheckSettings, engine: Engine) -> list[Collector]:
    """docker.*, project.* and container.*; one answer a service, the worst replica speaking."""
    names = list(stack.services) + sorted(set(stack.containers) - set(stack.services))
    state_targets = [Target(probe, name) for name in names for probe in _STATE_PROBES]
    memory_targets = [Target(probe, name) for name in names for probe in _MEMORY_PROBES]

    def run_states(emit: Emit) -> None:
        now = time.time()
        for name in names:
            _emit_states(stack, engine, name, now, emit)

    def run_memory(emit: Emit) -> None:
        mounts = parse_mountinfo(_read(Path("/proc/self/mountinfo")))
        kills = read_kernel_oom_kills()
        for name in names:
            _emit_memory(stack.containers.get(name, ()), name, mounts, kills, emit)

    return [
        Collector("docker.engine", (ENGINE_TARGET,), lambda emit: _run_engine(engine, emit)),
        Collector("docker.compose", (COMPOSE_TARGET,), lambda emit: _run_compose(settings, emit)),
        Collector(
            "project",
            (FOUND_TARGET, COMPOSE_FILE_TARGET),
            lambda emit: _run_project(stack, engine, emit),
        ),
        Collector("container.state", state_targets, run_states),
        Collector("container.memory", memory_targets, run_memory),
    ]


def _run_engine(engine: Engine, emit: Emit) -> None:
    version = engine.version()
    number = str(version.get("Version") or "")
    old = _version_tuple(number) < OLDEST_ENGINE
    emit(
        Measurement(
            ENGINE_TARGET,
            number,
            f"Docker {number}, API {version.get('ApiVersion')}"
            + (f", expected {_dotted(OLDEST_ENGINE)} or newer" if old else ""),
            WARNING if old else OK,
        )
    )


def _run_compose(settings: CheckSettings, emit: Emit) -> None:
    try:
        number = compose_version(settings.call_timeout_seconds)
    except CollectorError as error:
        raise CollectorError(str(error), error.hint, CRITICAL) from error
    old = _version_tuple(number) < OLDEST_COMPOSE
    emit(
        Measurement(
            COMPOSE_TARGET,
            number,
            f"Compose {number}" + (f", expected {_dotted(OLDEST_COMPOSE)} or newer" if old else ""),
            WARNING if old else OK,
        )
    )


def _run_project(stack: Stack, engine: Engine, emit: Emit) -> None:
    total = sum(len(members) for members in stack.containers.values())
    if total:
        emit(Measurement(FOUND_TARGET, total, f"{stack.project}: {total} containers", OK))
    else:
        seen = sorted(engine.projects())
        names = f"projects seen: {', '.join(seen)}" if seen else "no project at all was seen"
        emit(
            Measurement(
                FOUND_TARGET,
                0,
                f"no container of project {stack.project}, {names}",
                CRITICAL,
                "docker compose ls --all; then -e pynomaly_project_name=NAME, or "
                "ansible-playbook pynomaly.ops.deploy",
            )
        )
    if stack.compose_error:
        emit(Measurement(COMPOSE_FILE_TARGET, None, stack.compose_error, CRITICAL))
    elif not stack.services:
        skip((COMPOSE_FILE_TARGET,), emit, "not measured: project.found is critical")
    else:
        files = ", ".join(stack.config_files) or stack.working_dir
        emit(Measurement(COMPOSE_FILE_TARGET, None, f"{files}: {len(stack.services)} services", OK))


def _emit_states(stack: Stack, engine: Engine, name: str, now: float, emit: Emit) -> None:
    containers = stack.containers.get(name, ())
    service = stack.services.get(name)
    state, health, restarts, image = (Target(probe, name) for probe in _STATE_PROBES)
    allowances = {one.id: engine.start_allowance_seconds(one.id) for one in containers}
    # Without the file nobody knows how many are wanted: as many as there are.
    unread = not stack.services and bool(stack.compose_error)
    assumed = ComposeService(name, replicas=len(containers)) if unread else service
    emit(state_measurement(state, assumed, containers))
    emit(health_measurement(health, containers, allowances, now))
    emit(restarts_measurement(restarts, containers, now))
    if unread:
        skip((image,), emit, "not measured: project.compose_file is critical")
    else:
        emit(image_measurement(image, service, containers))


def _emit_memory(
    containers: Sequence[Container],
    name: str,
    mounts: Sequence[Mount],
    kernel_kills: Optional[Mapping[str, int]],
    emit: Emit,
) -> None:
    kills, memory = (Target(probe, name) for probe in _MEMORY_PROBES)
    if not containers:
        skip((kills, memory), emit, "no container")
        return
    running = [container for container in containers if container.running and container.pid]
    uses: dict[str, MemoryUse] = {}
    unread = []
    for container in running:
        try:
            uses[container.name] = read_memory_use(container.pid, mounts)
        except OSError:
            unread.append(container.name)
    killed = [container.name for container in containers if container.oom_killed]
    in_kernel_log = None
    if kernel_kills is not None:
        in_kernel_log = {
            one.name: kernel_kills[one.id] for one in containers if one.id in kernel_kills
        }
    emit(oom_kills_measurement(kills, uses, killed, unread, in_kernel_log))
    if not running:
        emit(Measurement(memory, status=SKIPPED, message="no container is running"))
    elif not uses:
        raise CollectorError(f"the control group of {unread[0]} cannot be read")
    else:
        emit(container_memory_measurement(memory, uses))


_SYSLOG_ACTION_READ_ALL = 3
_SYSLOG_ACTION_SIZE_BUFFER = 10
_KILLS_WINDOW_SECONDS = 24 * 3600.0


def read_kernel_oom_kills() -> Optional[Mapping[str, int]]:
    """Kills of the last 24 hours by container id, from the kernel's ring buffer by syslog(2);
    C{None} where this process may not read it. Nothing is cleared by reading."""
    try:
        klogctl = ctypes.CDLL(None).klogctl
    except (OSError, AttributeError):
        return None
    size = klogctl(_SYSLOG_ACTION_SIZE_BUFFER, None, 0)
    if size <= 0:
        return None
    buffer = ctypes.create_string_buffer(size)
    length = klogctl(_SYSLOG_ACTION_READ_ALL, buffer, size)
    if length < 0:
        return None
    log = buffer.raw[:length].decode("utf-8", "replace")
    return kernel_oom_kills(log, time.clock_gettime(time.CLOCK_BOOTTIME), _KILLS_WINDOW_SECONDS)


def read_memory_use(pid: int, mounts: Sequence[Mount]) -> MemoryUse:
    """The memory control group of a process of this host. Raises OSError where there is none."""
    group = memory_group(Path("/proc", str(pid), "cgroup").read_text(encoding="utf-8"), mounts)
    if group is None:
        raise OSError("no memory control group is mounted")
    folder = Path(group.path)
    usage, limit, statistics, kills = MEMORY_FILES[group.version]
    return memory_use(
        group.version,
        (folder / usage).read_text(encoding="utf-8"),
        _read(folder / limit),
        _read(folder / statistics),
        _read(folder / kills),
    )


def _read(path: Path) -> str:
    """A small file's text, empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _version_tuple(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2]) or (0,)


def _dotted(version: Sequence[int]) -> str:
    return ".".join(str(number) for number in version)
