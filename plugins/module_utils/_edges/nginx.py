# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx's own test of its configuration, run where nginx runs."""

from __future__ import annotations

from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx import config_test
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    Emit,
    skip,
)

#: A configuration with thousands of server blocks fits.
MAX_OUTPUT_BYTES = 4 * 1024 * 1024


def collectors(stack: Stack, settings: CheckSettings, engine: Engine) -> list[Collector]:
    """nginx.config, with an instance for each container where there are several running."""
    service = stack.service_of("nginx")
    running = stack.running("nginx")
    if not running:
        target = Target("nginx.config", service)
        reason = (
            f"not measured: no container of {service} runs"
            if stack.component("nginx")
            else "the project has no nginx"
        )
        return [Collector("nginx", (target,), lambda emit: skip((target,), emit, reason))]
    return [
        _collector(
            container,
            Target("nginx.config", service, container.name if len(running) > 1 else None),
            settings,
            engine,
        )
        for container in running
    ]


def _collector(
    container: Container, target: Target, settings: CheckSettings, engine: Engine
) -> Collector:
    def run(emit: Emit) -> None:
        emit(config_test(target, *run_nginx(engine, container, "-t", settings)))

    return Collector(f"nginx-{container.name}", (target,), run)


def run_nginx(
    engine: Engine, container: Container, option: str, settings: CheckSettings
) -> tuple[int, str]:
    """C{nginx -t} or C{nginx -T}: exit code and output. Raises L{EngineError}."""
    return engine.run(
        container.id,
        ["nginx", option],
        settings.call_timeout_seconds,
        max_bytes=MAX_OUTPUT_BYTES,
    )
