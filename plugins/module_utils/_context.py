# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a check knows about a stack before it measures: plain data, found once, shared by all."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._probe import PolicyError

#: Components the collection knows, and the service names the runbook gives them.
DEFAULT_SERVICE_NAMES: Mapping[str, str] = {
    "api": "pynomaly-api",
    "postgres": "postgres",
    "redis": "redis-cluster",
    "nginx": "nginx",
    "prometheus": "prometheus",
    "alertmanager": "alertmanager",
    "grafana": "grafana",
}


@dataclass(frozen=True)
class PublishedPort:
    """A container port reachable on the host; ``host_ip`` as the engine says it."""

    container_port: int
    host_ip: str
    host_port: int


@dataclass(frozen=True)
class Mount:
    """``kind`` is bind, volume or tmpfs; ``source`` a path on the host."""

    kind: str
    source: str
    destination: str
    read_only: bool = False


@dataclass(frozen=True)
class Container:
    """One container of the project, as ``docker inspect`` tells it.

    ``state`` is created, running, paused, restarting, removing, exited or dead; ``health`` is
    healthy, unhealthy, starting or C{None} where there is no health check. Times are ISO 8601
    strings in UTC, empty where the engine has none. ``environment`` and ``command`` may hold
    secrets and are kept out of every repr.
    """

    id: str
    name: str
    service: str
    number: int
    state: str
    image: str
    image_id: str
    health: Optional[str] = None
    health_output: str = field(default="", repr=False)
    restart_count: int = 0
    oom_killed: bool = False
    exit_code: int = 0
    error: str = ""
    created_at: str = ""
    started_at: str = ""
    finished_at: str = ""
    pid: int = 0
    addresses: Sequence[str] = ()
    networks: Mapping[str, str] = field(default_factory=dict)
    ports: Sequence[PublishedPort] = ()
    exposed_ports: Sequence[int] = ()
    mounts: Sequence[Mount] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    command: Sequence[str] = field(default=(), repr=False)
    labels: Mapping[str, str] = field(default_factory=dict, repr=False)
    log_driver: str = ""
    memory_limit_bytes: int = 0
    restart_policy: str = ""
    user: str = ""

    @property
    def running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True)
class ComposeService:
    """What the Compose file says now. ``image`` is the reference after interpolation (empty when
    the service is only built), ``image_id`` what the engine has under that reference (empty when
    it has none), ``config_hash`` what ``docker compose config --hash`` gives."""

    name: str
    image: str = ""
    image_id: str = ""
    replicas: int = 1
    config_hash: str = ""
    one_shot: bool = False
    profiles: Sequence[str] = ()


@dataclass(frozen=True)
class Stack:
    """A Compose project found on the host.

    ``services`` maps each service that the Compose file declares (without profiles that are off)
    to its definition, and is empty when the file could not be read: ``compose_error`` then says
    why. ``containers`` maps a service to its containers in number order. ``components`` maps a
    component (api, postgres, redis, nginx, prometheus, alertmanager, grafana) to its service.
    """

    project: str
    working_dir: str = ""
    config_files: Sequence[str] = ()
    environment_files: Sequence[str] = ()
    services: Mapping[str, ComposeService] = field(default_factory=dict)
    containers: Mapping[str, Sequence[Container]] = field(default_factory=dict)
    components: Mapping[str, str] = field(default_factory=dict)
    compose_error: str = ""

    def component(self, name: str) -> Sequence[Container]:
        """The component's containers, running or not; empty where the stack has none."""
        service = self.components.get(name)
        return self.containers.get(service, ()) if service is not None else ()

    def service_of(self, component: str) -> str:
        """The service's name, for a result's ``service``, also where the stack lacks it."""
        return self.components.get(component, DEFAULT_SERVICE_NAMES.get(component, component))

    def running(self, component: str) -> Sequence[Container]:
        return [container for container in self.component(component) if container.running]


@dataclass(frozen=True)
class CheckSettings:
    """What a user may set about measuring, apart from policy. Everything has a default; what is
    C{None} is found. Passwords here override what the services' own environment says."""

    call_timeout_seconds: float = 5.0
    deadline_seconds: float = 15.0
    log_window_hours: float = 24.0
    log_max_bytes: int = 64 * 1024 * 1024
    error_rate_window_minutes: float = 15.0
    api_health_path: str = "/health"
    api_metrics_path: str = "/metrics"
    api_port: Optional[int] = None
    api_url: Optional[str] = None
    api_latency_samples: int = 5
    tls_server_name: Optional[str] = None
    tls_port: Optional[int] = None
    postgres_user: Optional[str] = None
    postgres_password: Optional[str] = field(default=None, repr=False)
    postgres_database: Optional[str] = None
    redis_username: Optional[str] = None
    redis_password: Optional[str] = field(default=None, repr=False)
    backup_dir: str = "/backups"
    state_dir: str = "/var/lib/pynomaly-ops"
    runbook_reviewed: Optional[str] = None
    runbook_review_days: int = 90
    controller_time: Optional[float] = None

    def validate(self) -> None:
        """Raise L{PolicyError} for a number that makes no sense, naming it."""
        for name in (
            "call_timeout_seconds",
            "deadline_seconds",
            "log_window_hours",
            "error_rate_window_minutes",
            "runbook_review_days",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise PolicyError(f"{name}: seen {value}, expected a number above 0")
        for name in ("api_health_path", "api_metrics_path"):
            if not getattr(self, name).startswith("/"):
                raise PolicyError(f"{name}: seen {getattr(self, name)!r}, expected /PATH")
        if self.runbook_reviewed:
            try:
                datetime.date.fromisoformat(self.runbook_reviewed)
            except ValueError as error:
                raise PolicyError(
                    f"runbook_reviewed: seen {self.runbook_reviewed!r}, expected YYYY-MM-DD"
                ) from error
