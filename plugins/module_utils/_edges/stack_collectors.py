# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collectors of every component, apart so that they can be imported while the stack is being
looked for."""

from __future__ import annotations

from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (
    api,
    containers,
    logs,
    maintenance_records,
    monitoring,
    nginx,
    postgres,
    redis,
    tls,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import Collector


def without_engine(stack: Stack, settings: CheckSettings) -> list[Collector]:
    """What is looked at on the host whatever becomes of the stack."""
    return maintenance_records.collectors(stack, settings)


def with_engine(stack: Stack, settings: CheckSettings, engine: Engine) -> list[Collector]:
    """What is looked at once the stack is found; those that wait longest for others come first."""
    if not stack.containers:
        return containers.collectors(stack, settings, engine)
    configurations = nginx.Configurations(engine, settings)
    return [
        *nginx.collectors(stack, settings, engine, configurations),
        *tls.collectors(stack, settings, engine, configurations),
        *postgres.collectors(stack, settings, engine),
        *redis.collectors(stack, settings, engine),
        *api.collectors(stack, settings, engine),
        *monitoring.collectors(stack, settings),
        *containers.collectors(stack, settings, engine),
        *logs.collectors(stack, settings, engine),
    ]
