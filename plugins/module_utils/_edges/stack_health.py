# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole check of one host: find the stack, set every collector to work, gather the answers."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import compose, host
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.importing import IMPORTING
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    SKIPPED,
    Measurement,
    Selector,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    CollectorError,
    CollectorRun,
    Emit,
)

#: Components whose probes need no container engine.
_WITHOUT_ENGINE = ("host", "backup", "operation", "runbook")
_ENGINE = Target("docker.engine", "docker")


@dataclass
class StackCheck:
    """``measurements`` in the catalogue's order; ``facts`` describe the host."""

    stack: Stack
    measurements: Sequence[Measurement] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def check_stack(
    project_name: str,
    settings: CheckSettings,
    selectors: Sequence[Selector],
    service_names: Mapping[str, str],
    started_at: float,
) -> StackCheck:
    """Measure what the selectors ask for, within C{settings.deadline_seconds}.

    ``started_at`` is when the module began, in seconds since 1970 on the host's clock. The host
    is measured while the stack is still being looked for. Imports are a good part of the whole:
    what looks for the stack is imported first, and the collectors while the engine and Compose
    are at work.
    """
    check = StackCheck(Stack(project=project_name), facts=_facts())
    run = CollectorRun(settings.deadline_seconds)

    def wanted(target: Target) -> bool:
        return any(selector.matches(target) for selector in selectors)

    def start(collectors: Iterable[Collector]) -> None:
        run.start(
            collector
            for collector in collectors
            if any(wanted(target) for target in collector.targets)
        )

    def find_stack(emit: Emit) -> None:
        try:
            reader = compose.read_ahead(project_name, settings.call_timeout_seconds)
            engine = Engine(timeout_seconds=settings.call_timeout_seconds)
            check.stack = compose.discover(engine, project_name, settings, service_names, reader)
        except CollectorError as error:
            emit(
                Measurement(
                    _ENGINE, status=error.status, message=str(error), hint=error.hint or None
                )
            )
            _skip_without_engine(project_name, error.status, emit)
            return
        start(_stack_collectors(check.stack, settings, engine))

    if any(_needs_engine(selector) for selector in selectors):
        run.start([Collector("discovery", (), find_stack)])
    start(host.collectors(check.stack, settings, started_at))
    start(_record_collectors(check.stack, settings))
    check.measurements = _sorted(
        measurement for measurement in run.finish() if wanted(measurement.target)
    )
    return check


def _record_collectors(stack: Stack, settings: CheckSettings) -> list[Collector]:
    with IMPORTING:
        from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (  # noqa: PLC0415
            stack_collectors,
        )

    return stack_collectors.without_engine(stack, settings)


def _stack_collectors(stack: Stack, settings: CheckSettings, engine: Engine) -> list[Collector]:
    with IMPORTING:
        from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (  # noqa: PLC0415
            stack_collectors,
        )

    return stack_collectors.with_engine(stack, settings, engine)


def _needs_engine(selector: Selector) -> bool:
    return selector.known(
        definition.id
        for definition in CATALOGUE.values()
        if definition.component not in _WITHOUT_ENGINE
    )


def _skip_without_engine(project_name: str, status: str, emit: Emit) -> None:
    stack = Stack(project=project_name)
    for definition in CATALOGUE.values():
        if definition.component in _WITHOUT_ENGINE or definition.id == _ENGINE.id:
            continue
        emit(
            Measurement(
                Target(definition.id, stack.service_of(definition.component)),
                status=SKIPPED,
                message=f"not measured: docker.engine is {status}",
            )
        )


def _sorted(measurements: Iterable[Measurement]) -> list[Measurement]:
    order = {identifier: position for position, identifier in enumerate(CATALOGUE)}
    return sorted(
        measurements,
        key=lambda one: (
            order[one.target.id],
            one.target.service,
            one.target.instance or "",
        ),
    )


def _facts() -> dict[str, Any]:
    try:
        release = platform.freedesktop_os_release()
    except (AttributeError, OSError):  # before Python 3.10, or a system without the file
        release = {}
    return {
        "hostname": platform.node(),
        "os": release.get("PRETTY_NAME", platform.system()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
