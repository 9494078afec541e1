# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Error lines in the services' logs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine, EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._log_lines import (
    ErrorCounter,
    errors_measurement,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    Emit,
    skip,
)


def collectors(stack: Stack, settings: CheckSettings, engine: Engine) -> list[Collector]:
    """``logs.errors``, a collector for each service that has a container."""
    found = []
    for service, containers in sorted(stack.containers.items()):
        if containers:
            target = Target("logs.errors", service)
            found.append(
                Collector(
                    f"logs.errors:{service}",
                    (target,),
                    _Reader(target, containers, settings, engine),
                )
            )
    return found


class _Reader:
    def __init__(
        self,
        target: Target,
        containers: Sequence[Container],
        settings: CheckSettings,
        engine: Engine,
    ) -> None:
        self._target = target
        self._containers = containers
        self._settings = settings
        self._engine = engine

    def __call__(self, emit: Emit) -> None:
        # Some of the deadline is left for what comes before and after.
        deadline = time.monotonic() + self._settings.deadline_seconds * 0.6
        counter = ErrorCounter()
        remarks: list[str] = []
        unreadable: list[str] = []
        bytes_left = self._settings.log_max_bytes
        for container in self._containers:
            remaining = deadline - time.monotonic()
            if bytes_left <= 0 or remaining <= 0:
                remarks.append(f"{container.name} was not read any more")
                continue
            try:
                lines = self._engine.logs(
                    container.id,
                    self._settings.log_window_hours * 3600.0,
                    bytes_left,
                    timeout_seconds=remaining,
                )
            except EngineError as error:
                if error.status_code is None:
                    raise
                driver = container.log_driver or "unknown"
                unreadable.append(f"{container.name}, log driver {driver}: {error}")
                continue
            for stream, line in lines:
                counter.add(stream, line)
            counter.finish()
            bytes_left -= lines.bytes_read
            if lines.truncated:
                remarks.append(lines.truncated)
        if unreadable and len(unreadable) == len(self._containers):
            skip((self._target,), emit, f"the log cannot be read ({unreadable[0]})")
            return
        emit(
            errors_measurement(
                self._target, counter, self._settings.log_window_hours, [*remarks, *unreadable]
            )
        )
