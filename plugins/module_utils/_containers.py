# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers as the engine describes them, and what their state says about a service."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    ComposeService,
    Container,
    Mount,
    PublishedPort,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    UNKNOWN,
    WARNING,
    Measurement,
    Target,
)

SERVICE_LABEL = "com.docker.compose.service"
NUMBER_LABEL = "com.docker.compose.container-number"
CONFIG_HASH_LABEL = "com.docker.compose.config-hash"
VERSION_LABEL = "com.docker.compose.version"
IMAGE_LABEL = "com.docker.compose.image"

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?$")


# What the engine says


def container_from_inspect(data: Mapping[str, Any]) -> Container:
    """A L{Container} from ``GET /containers/ID/json``, API 1.41 and later."""
    state = data.get("State") or {}
    config = data.get("Config") or {}
    host = data.get("HostConfig") or {}
    network = data.get("NetworkSettings") or {}
    labels = dict(config.get("Labels") or {})
    health = state.get("Health") or {}
    health_status = health.get("Status")
    checks = health.get("Log") or []
    networks = {
        name: str((settings or {}).get("IPAddress") or "")
        for name, settings in sorted((network.get("Networks") or {}).items())
    }
    addresses = [address for address in networks.values() if address]
    addresses += [
        str(settings["GlobalIPv6Address"])
        for _name, settings in sorted((network.get("Networks") or {}).items())
        if settings and settings.get("GlobalIPv6Address")
    ]
    mode = str(host.get("NetworkMode") or "")
    if mode == "host":
        addresses = ["127.0.0.1"]
    return Container(
        id=data["Id"],
        name=str(data.get("Name") or "").lstrip("/"),
        service=labels.get(SERVICE_LABEL, ""),
        number=_integer(labels.get(NUMBER_LABEL)),
        state=str(state.get("Status") or "unknown"),
        image=str(config.get("Image") or ""),
        image_id=str(data.get("Image") or ""),
        health=health_status if health_status not in (None, "", "none") else None,
        health_output=str((checks[-1] or {}).get("Output") or "") if checks else "",
        restart_count=int(data.get("RestartCount") or 0),
        oom_killed=bool(state.get("OOMKilled")),
        exit_code=int(state.get("ExitCode") or 0),
        error=str(state.get("Error") or ""),
        created_at=_instant(data.get("Created")),
        started_at=_instant(state.get("StartedAt")),
        finished_at=_instant(state.get("FinishedAt")),
        pid=int(state.get("Pid") or 0),
        addresses=tuple(addresses),
        networks=networks or ({mode: ""} if mode.startswith("container:") else {}),
        ports=_ports(network.get("Ports") or host.get("PortBindings") or {}),
        exposed_ports=tuple(
            sorted(
                int(port.partition("/")[0])
                for port in config.get("ExposedPorts") or {}
                if port.endswith("/tcp")
            )
        ),
        mounts=tuple(
            Mount(
                kind=str(mount.get("Type") or ""),
                source=str(mount.get("Source") or ""),
                destination=str(mount.get("Destination") or ""),
                read_only=not mount.get("RW", True),
            )
            for mount in data.get("Mounts") or []
        )
        + tuple(Mount("tmpfs", "", path) for path in sorted(host.get("Tmpfs") or {})),
        environment=dict(
            entry.partition("=")[::2] for entry in config.get("Env") or [] if "=" in entry
        ),
        command=tuple([str(data["Path"])] if data.get("Path") else [])
        + tuple(str(argument) for argument in data.get("Args") or []),
        labels=labels,
        log_driver=str((host.get("LogConfig") or {}).get("Type") or ""),
        memory_limit_bytes=int(host.get("Memory") or 0),
        restart_policy=str((host.get("RestartPolicy") or {}).get("Name") or ""),
        user=str(config.get("User") or ""),
    )


def container_from_summary(data: Mapping[str, Any], error: str) -> Container:
    """A L{Container} from one entry of ``GET /containers/json``, for one that cannot be inspected;
    ``error`` says why."""
    labels = dict(data.get("Labels") or {})
    names = data.get("Names") or [data["Id"][:12]]
    settings = (data.get("NetworkSettings") or {}).get("Networks") or {}
    networks = {name: str((one or {}).get("IPAddress") or "") for name, one in settings.items()}
    return Container(
        id=data["Id"],
        name=str(names[0]).lstrip("/"),
        service=labels.get(SERVICE_LABEL, ""),
        number=_integer(labels.get(NUMBER_LABEL)),
        state=str(data.get("State") or "unknown"),
        image=str(data.get("Image") or ""),
        image_id=str(data.get("ImageID") or ""),
        error=error,
        addresses=tuple(address for address in networks.values() if address),
        networks=networks,
        labels=labels,
    )


def container_number(summary: Mapping[str, Any]) -> int:
    """The replica's number, of one entry of ``GET /containers/json``."""
    return _integer((summary.get("Labels") or {}).get(NUMBER_LABEL))


def share_addresses(containers: Sequence[Container]) -> Sequence[Container]:
    """Give a container that lives in another's network namespace that one's addresses."""
    by_id = {container.id: container for container in containers}
    shared = []
    for container in containers:
        for name in container.networks:
            owner = by_id.get(name.partition("container:")[2])
            if owner is not None:
                container = replace(  # noqa: PLW2901
                    container, addresses=owner.addresses, networks=owner.networks
                )
                break
        shared.append(container)
    return shared


def by_service(containers: Iterable[Container]) -> dict[str, tuple[Container, ...]]:
    """Containers by their service's name, in number order."""
    grouped: dict[str, list[Container]] = {}
    for container in sorted(containers, key=lambda one: (one.service, one.number, one.name)):
        grouped.setdefault(container.service, []).append(container)
    return {service: tuple(members) for service, members in grouped.items()}


def parse_time(text: str) -> Optional[datetime.datetime]:
    """A time as the engine writes it (nanoseconds and all), aware; C{None} for none."""
    match = _TIME.match(text or "")
    if not match or text.startswith("0001-"):
        return None
    base, fraction, zone = match.groups()
    return datetime.datetime.fromisoformat(
        f"{base}.{(fraction or '0')[:6].ljust(6, '0')}{'+00:00' if zone in (None, 'Z') else zone}"
    )


def age_seconds(text: str, now: datetime.datetime) -> Optional[float]:
    """Seconds since a time of the engine's; C{None} for none."""
    since = parse_time(text)
    return None if since is None else (now - since).total_seconds()


def duration_text(seconds: float) -> str:
    """A duration with its two largest units: ``3 d 4 h``, ``12 min``, ``8 s``."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (left, "s")]
    for position, (amount, unit) in enumerate(parts):
        if amount:
            following = parts[position + 1] if position + 1 < len(parts) else (0, "")
            return f"{amount} {unit}" + (f" {following[0]} {following[1]}" if following[0] else "")
    return "0 s"


def excerpt(text: str, limit: int = 200) -> str:
    """The text on one line, cut to ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


# What that says about a service


def state_measurement(
    target: Target, service: Optional[ComposeService], containers: Sequence[Container]
) -> Measurement:
    """``container.state`` of a service; ``service`` is None where the Compose file lacks it."""
    running = sum(1 for container in containers if container.running)
    if service is None:
        names = ", ".join(container.name for container in containers)
        return Measurement(
            target,
            running,
            f"{names}: the Compose file has no such service any more",
            WARNING,
            "docker compose up -d --remove-orphans removes it; or restore the service",
        )
    finished = [
        one
        for one in containers
        if service.one_shot and one.state == "exited" and not one.exit_code
    ]
    expected = 0 if finished else service.replicas
    stopped = [one for one in containers if not one.running and one not in finished]
    # Scaling down may leave a stopped replica behind; one that restarts or hangs is trouble.
    trouble = [one for one in stopped if one.state not in ("created", "exited", "removing")]
    if running < expected:
        trouble = stopped
    hint = None
    if trouble:
        worst = max(trouble, key=_badness)
        status = UNKNOWN if worst.state == "unknown" else CRITICAL
        message = f"{running} of {service.replicas} running: {describe(worst)}"
    elif running < expected:
        status = CRITICAL
        message = f"{running} of {expected} running, the others are missing"
        if not containers:
            message = f"missing: no container, expected {expected}"
        hint = f"docker compose up -d {service.name}"
    elif finished:
        status, message = OK, "finished with exit code 0, as a one-off job does"
    else:
        status = OK
        message = f"{running} of {expected} running"
        if running > expected:
            message = f"{running} running, the Compose file asks for {expected}"
        if not expected and not containers:
            message = "no container, as the Compose file asks"
    return Measurement(target, running, message, status, hint)


def describe(container: Container) -> str:
    """What is the matter with a container, in a few words."""
    text = f"{container.name} is {container.state}"
    if container.state in ("exited", "dead", "restarting"):
        text += f" (exit code {container.exit_code}"
        text += ", killed for want of memory)" if container.oom_killed else ")"
    if container.error:
        text += f": {excerpt(container.error)}"
    return text


def health_measurement(
    target: Target, containers: Sequence[Container], start_periods: Mapping[str, float], now: float
) -> Measurement:
    """``container.health`` of a service: the worst replica speaks.

    ``start_periods`` has by container id the seconds within which a container may be starting:
    its health check's start period and the time its retries take.
    """
    running = [container for container in containers if container.running]
    if not running:
        return Measurement(target, status=SKIPPED, message="no container is running")
    checked = [container for container in running if container.health]
    if not checked:
        return Measurement(target, status=SKIPPED, message="the service has no health check")
    unhealthy = [container for container in checked if container.health == "unhealthy"]
    if unhealthy:
        worst = unhealthy[0]
        output = excerpt(worst.health_output)
        return Measurement(
            target,
            "unhealthy",
            f"{_share(unhealthy, checked)}{worst.name} is unhealthy"
            + (f": {output}" if output else ", its check printed nothing"),
            CRITICAL,
        )
    instant = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    starting = [
        (age_seconds(container.started_at, instant) or 0.0, container)
        for container in checked
        if container.health == "starting"
    ]
    if starting:
        late = [
            (age, container)
            for age, container in starting
            if age > start_periods.get(container.id, 0.0)
        ]
        age, worst = max(late or starting, key=lambda pair: pair[0])
        allowed = start_periods.get(worst.id, 0.0)
        return Measurement(
            target,
            "starting",
            f"{worst.name} is starting for {duration_text(age)}, "
            f"its health check allows {duration_text(allowed)}",
            WARNING if late else OK,
        )
    other = [container for container in checked if container.health != "healthy"]
    if other:
        return Measurement(
            target, other[0].health, f"{other[0].name} is {other[0].health}", UNKNOWN
        )
    return Measurement(
        target,
        "healthy",
        f"{len(checked)} of {len(running)} healthy" if len(running) > 1 else "healthy",
        OK,
    )


def restarts_measurement(
    target: Target, containers: Sequence[Container], now: float, window_seconds: float = 86400.0
) -> Measurement:
    """``container.restarts`` of a service.

    The engine counts restarts since the container was made and dates only the last start: the
    count is reported where that start lies in the window, and 0 where it does not.
    """
    if not containers:
        return Measurement(target, status=SKIPPED, message="no container")
    instant = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    worst_count, worst, worst_age = 0, containers[0], 0.0
    for container in containers:
        age = age_seconds(container.started_at, instant)
        if age is None or age > window_seconds:
            continue
        if container.restart_count > worst_count:
            worst_count, worst, worst_age = container.restart_count, container, age
    if not worst_count:
        return Measurement(target, 0, "none in the last 24 h")
    text = "restart" if worst_count == 1 else "restarts"
    return Measurement(
        target,
        worst_count,
        f"{worst.name}: {worst_count} {text} since it was created, "
        f"the last {duration_text(worst_age)} ago ({worst.started_at[:19]}Z)",
    )


def image_measurement(
    target: Target, service: Optional[ComposeService], containers: Sequence[Container]
) -> Measurement:
    """``container.image`` of a service: what runs against what the Compose file says now."""
    if service is None or not containers:
        reason = "no container" if service else "the Compose file does not have this service"
        return Measurement(target, status=SKIPPED, message=reason)
    for container in containers:
        difference = image_difference(service, container)
        if difference:
            return Measurement(target, container.image, difference, WARNING)
    for container in containers:
        if configuration_changed(service, container):
            return Measurement(
                target,
                container.image,
                f"{container.name}: configuration changed since it was started"
                f" (with Compose {container.labels.get(VERSION_LABEL, 'of unknown version')})",
                WARNING,
            )
    return Measurement(
        target, containers[0].image, f"{containers[0].image}, {containers[0].image_id[7:19]}", OK
    )


def image_difference(service: ComposeService, container: Container) -> str:
    """How a container's image differs from what its service would get now; empty if it does not.

    Compose gives a service that is only built an image it names itself; then the container's own
    reference stands for the file's.
    """
    if service.image and normalize_reference(service.image) != normalize_reference(container.image):
        return f"{container.name} runs {container.image}, the Compose file says {service.image}"
    if service.image_id and container.image_id and service.image_id != container.image_id:
        reference = service.image or container.image
        return (
            f"{container.name} runs {container.image_id[7:19]}, but {reference} "
            f"is now {service.image_id[7:19]}"
        )
    return ""


def configuration_changed(service: ComposeService, container: Container) -> bool:
    """Whether Compose's own hash of the service differs from the one the container was made of."""
    made_of = container.labels.get(CONFIG_HASH_LABEL, "")
    return bool(service.config_hash and made_of and service.config_hash != made_of)


def normalize_reference(reference: str) -> str:
    """An image reference with what Docker adds silently left out: ``docker.io/library/x:latest``
    and ``x`` are one."""
    text = reference
    for prefix in ("docker.io/", "index.docker.io/"):
        if text.startswith(prefix):
            text = text[len(prefix) :]
    if text.startswith("library/"):
        text = text[len("library/") :]
    name = text.partition("@")[0]
    if ":" not in name.rpartition("/")[2] and "@" not in text and not text.startswith("sha256:"):
        text += ":latest"
    return text


def start_allowance_seconds(healthcheck: Optional[Mapping[str, Any]]) -> float:
    """How long Docker lets a container be "starting": start period, then ``retries`` rounds of
    interval and timeout (defaults of the Dockerfile reference: 0 s, 3, 30 s, 30 s)."""
    check = healthcheck or {}

    def seconds(name: str, default: float) -> float:
        return (check.get(name) or default * 1e9) / 1e9

    retries = check.get("Retries") or 3
    return seconds("StartPeriod", 0.0) + retries * (
        seconds("Interval", 30.0) + seconds("Timeout", 30.0)
    )


# Inside


def _badness(container: Container) -> int:
    order = ("removing", "created", "exited", "unknown", "paused", "restarting", "dead")
    return order.index(container.state) if container.state in order else len(order)


def _share(some: Sequence[Container], all_of_them: Sequence[Container]) -> str:
    return f"{len(some)} of {len(all_of_them)}: " if len(all_of_them) > 1 else ""


def _integer(text: Optional[str]) -> int:
    return int(text) if text and text.isdigit() else 0


def _instant(text: Any) -> str:
    value = str(text or "")
    return "" if value.startswith("0001-") else value


def _ports(raw: Mapping[str, Any]) -> tuple[PublishedPort, ...]:
    ports = []
    for key, bindings in sorted(raw.items()):
        number, _separator, protocol = key.partition("/")
        if protocol not in ("", "tcp"):
            continue
        for binding in bindings or []:
            if str(binding.get("HostPort") or "").isdigit():
                ports.append(
                    PublishedPort(
                        int(number), str(binding.get("HostIp") or ""), int(binding["HostPort"])
                    )
                )
    return tuple(ports)
