# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx's own test of its configuration, run where nginx runs."""

from __future__ import annotations

import threading
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx import config_test
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    Emit,
    skip,
)

#: A configuration with thousands of server blocks fits.
MAX_OUTPUT_BYTES = 4 * 1024 * 1024


def collectors(
    stack: Stack,
    settings: CheckSettings,
    engine: Engine,
    configurations: Optional[Configurations] = None,
) -> list[Collector]:
    """nginx.config, with an instance for each container where there are several running."""
    asked = configurations or Configurations(engine, settings)
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
            asked,
        )
        for container in running
    ]


def _collector(
    container: Container, target: Target, settings: CheckSettings, configurations: Configurations
) -> Collector:
    def run(emit: Emit) -> None:
        answer = configurations.read(container, settings.call_timeout_seconds + 1.0)
        emit(config_test(target, *answer))

    return Collector(f"nginx-{container.name}", (target,), run)


class Configurations:
    """What C{nginx -T} says in each container: the test of C{nginx -t}, then the configuration
    itself. Asked once, however many want to know."""

    def __init__(self, engine: Engine, settings: CheckSettings) -> None:
        self._engine = engine
        self._timeout_seconds = settings.call_timeout_seconds
        self._lock = threading.Lock()
        self._dumps: dict[str, _Dump] = {}

    def read(self, container: Container, wait_seconds: float) -> tuple[int, str]:
        """Exit code and output. Raises L{EngineError}."""
        with self._lock:
            dump = self._dumps.get(container.id)
            if dump is None:
                dump = _Dump(self._engine, container.id, self._timeout_seconds)
                self._dumps[container.id] = dump
                dump.start()
        return dump.result(wait_seconds)


class _Dump(threading.Thread):
    def __init__(self, engine: Engine, container_id: str, timeout_seconds: float) -> None:
        super().__init__(name="nginx -T", daemon=True)
        self._engine = engine
        self._container_id = container_id
        self._timeout_seconds = timeout_seconds
        self._answer: Optional[tuple[int, str]] = None
        self._error: Optional[BaseException] = None

    def run(self) -> None:
        try:
            self._answer = self._engine.run(
                self._container_id,
                ["nginx", "-T"],
                self._timeout_seconds,
                max_bytes=MAX_OUTPUT_BYTES,
            )
        except BaseException as error:  # a thread has no caller to raise to
            self._error = error

    def result(self, wait_seconds: float) -> tuple[int, str]:
        self.join(wait_seconds)
        if self._error is not None:
            raise self._error
        if self._answer is None:
            raise EngineError(f"nginx did not finish within {wait_seconds:.1f} s in the container")
        return self._answer
