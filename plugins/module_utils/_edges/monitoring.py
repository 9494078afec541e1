# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prometheus, Alertmanager and Grafana, asked over HTTP at the containers' own addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import (
    Deadline,
    HttpError,
    Response,
    get,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._http import Endpoint
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    UNKNOWN,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._prometheus import (
    AnswerError,
    alerts_firing,
    api_data,
    endpoint,
    grafana_health,
    grafana_location,
    listen_port,
    parse_exposition,
    ready,
    reload_state,
    route_prefix,
    targets_down,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    Emit,
    skip,
)

MAX_ANSWER_BYTES = 8 * 1024 * 1024

NAMES = {"prometheus": "Prometheus", "alertmanager": "Alertmanager", "grafana": "Grafana"}
PROMETHEUS_PORT = 9090
ALERTMANAGER_PORT = 9093


def collectors(stack: Stack, settings: CheckSettings) -> list[Collector]:
    """One collector each for Prometheus, Alertmanager and Grafana."""
    prometheus = stack.service_of("prometheus")
    return [
        _collector(
            stack,
            settings,
            "prometheus",
            [
                Target(f"prometheus.{name}", prometheus)
                for name in ("ready", "targets", "alerts", "config")
            ],
            _measure_prometheus,
        ),
        _collector(
            stack,
            settings,
            "alertmanager",
            [Target("alertmanager.ready", stack.service_of("alertmanager"))],
            _measure_alertmanager,
        ),
        _collector(
            stack,
            settings,
            "grafana",
            [Target("grafana.health", stack.service_of("grafana"))],
            _measure_grafana,
        ),
    ]


Measure = Callable[[Container, Deadline, Sequence[Target], Emit], None]


def _collector(
    stack: Stack,
    settings: CheckSettings,
    component: str,
    targets: Sequence[Target],
    measure: Measure,
) -> Collector:
    """The first target is the one on which the others lean."""

    def run(emit: Emit) -> None:
        containers = stack.component(component)
        if not containers:
            skip(targets, emit, f"the project has no {NAMES[component]}")
            return
        running = stack.running(component)
        if not running:
            states = ", ".join(sorted({container.state for container in containers}))
            base = Measurement(
                targets[0],
                status=CRITICAL,
                message=f"no container of {targets[0].service} runs (seen {states})",
            )
            _emit_base(base, targets[1:], emit)
            return
        measure(running[0], Deadline(settings.call_timeout_seconds), targets, emit)

    return Collector(component, targets, run)


def _emit_base(base: Measurement, dependants: Sequence[Target], emit: Emit) -> bool:
    """Emit the base's answer; where it is not well, its dependants' as well. Whether it is."""
    emit(base)
    if base.status == OK:
        return True
    skip(dependants, emit, f"not measured: {base.target.id} is {base.status}")
    return False


def _ask_base(
    target: Target,
    door: Endpoint | None,
    path: str,
    deadline: Deadline,
    judge: Callable[[Response], Measurement],
) -> Measurement:
    if door is None:
        return Measurement(
            target,
            status=UNKNOWN,
            message="the container has neither an address of its own nor its port published",
        )
    try:
        return judge(get(door, path, deadline))
    except HttpError as error:
        return Measurement(target, status=CRITICAL, message=f"{door.url(path)}: {error}")


def _measure_prometheus(
    container: Container, deadline: Deadline, targets: Sequence[Target], emit: Emit
) -> None:
    base, targets_target, alerts_target, config_target = targets
    door = endpoint(
        container,
        listen_port(container.command, PROMETHEUS_PORT),
        route_prefix(container.command),
    )
    answer = _ask_base(
        base,
        door,
        "/-/ready",
        deadline,
        lambda seen: ready(base, seen.status, seen.body, seen.elapsed_ms),
    )
    if not _emit_base(answer, targets[1:], emit) or door is None:
        return

    def ask(target: Target, path: str, judge: Callable[[Response], Measurement]) -> None:
        try:
            emit(judge(get(door, path, deadline, max_body_bytes=MAX_ANSWER_BYTES)))
        except (HttpError, AnswerError) as error:
            emit(Measurement(target, status=UNKNOWN, message=f"{door.url(path)}: {error}"))

    ask(
        targets_target,
        "/api/v1/targets?state=active",
        lambda seen: targets_down(targets_target, api_data(seen.status, seen.body)),
    )
    ask(
        alerts_target,
        "/api/v1/alerts",
        lambda seen: alerts_firing(alerts_target, api_data(seen.status, seen.body)),
    )
    ask(config_target, "/metrics", lambda seen: _judge_config(config_target, seen))


def _judge_config(target: Target, seen: Response) -> Measurement:
    if seen.status != 200:
        raise AnswerError(f"status {seen.status} instead of 200")
    return reload_state(target, parse_exposition(seen.body.decode("utf-8", "replace")))


def _measure_alertmanager(
    container: Container, deadline: Deadline, targets: Sequence[Target], emit: Emit
) -> None:
    (target,) = targets
    door = endpoint(
        container,
        listen_port(container.command, ALERTMANAGER_PORT),
        route_prefix(container.command),
    )
    emit(
        _ask_base(
            target,
            door,
            "/-/ready",
            deadline,
            lambda seen: ready(target, seen.status, seen.body, seen.elapsed_ms),
        )
    )


def _measure_grafana(
    container: Container, deadline: Deadline, targets: Sequence[Target], emit: Emit
) -> None:
    (target,) = targets
    scheme, port, prefix = grafana_location(container.environment)
    emit(
        _ask_base(
            target,
            endpoint(container, port, prefix, scheme),
            "/api/health",
            deadline,
            lambda seen: grafana_health(target, seen.status, seen.body),
        )
    )
