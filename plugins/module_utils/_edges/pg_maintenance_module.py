# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules that look at the database, and maintain it, have in common."""

from __future__ import annotations

import dataclasses
import datetime
import time
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    DEFAULT_SERVICE_NAMES,
    CheckSettings,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.pg_maintenance import (
    Answer,
    MaintenanceError,
    Request,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._known_probes import KNOWN_PROBES
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance import (
    MaintenanceSettings,
    done_text,
    undone_first,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    Policy,
    PolicyError,
    parse_thresholds,
    parse_waivers,
    result,
    summarize,
    worst,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

#: A database may have ten thousand tables that want ANALYZE; L{done_text} counts all of them.
MOST_ACTIONS = 500

_CHECK_SETTINGS = (
    "call_timeout_seconds",
    "postgres_user",
    "postgres_password",
    "postgres_database",
)


def look_argument_spec() -> dict[str, Any]:
    """The options of the documentation fragment C{pynomaly.ops.pg_maintenance}."""
    return {
        "project_name": {"type": "str", "required": True},
        "service_names": {"type": "dict", "default": {}},
        "call_timeout_seconds": {"type": "float", "default": 5},
        "postgres_user": {"type": "str"},
        "postgres_password": {"type": "str", "no_log": True},
        "postgres_database": {"type": "str"},
        "state_dir": {"type": "path", "default": "/var/lib/pynomaly-ops"},
        "thresholds": {"type": "dict", "default": {}},
        "waivers": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "probe": {"type": "str", "required": True},
                "reason": {"type": "str", "required": True},
                "until": {"type": "str", "required": True},
            },
        },
        "analyze_threshold_rows": {"type": "int", "default": 50},
        "analyze_scale_factor": {"type": "float", "default": 0.05},
        "vacuum_threshold_rows": {"type": "int", "default": 50},
        "vacuum_scale_factor": {"type": "float", "default": 0.1},
        "freeze_age_percent": {"type": "float", "default": 75},
        "bloat_minimum_mib": {"type": "float", "default": 64},
        "unused_index_days": {"type": "float", "default": 30},
        "statements": {"type": "int", "default": 10},
    }


def maintain_argument_spec() -> dict[str, Any]:
    """The same, and what is about the work."""
    return {
        **look_argument_spec(),
        "analyze": {"type": "bool", "default": True},
        "vacuum": {"type": "bool", "default": True},
        "lock_timeout_seconds": {"type": "float", "default": 5},
        "statement_timeout_seconds": {"type": "float", "default": 900},
        "budget_seconds": {"type": "float", "default": 3600},
        "cost_delay_ms": {"type": "float", "default": 2},
        "reindex_invalid": {"type": "list", "elements": "str", "default": []},
        "fail_on_incomplete": {"type": "bool", "default": False},
    }


def answer(module: AnsibleModule, run: Callable[[Request], Answer]) -> None:
    """Do what the module is for, and exit with its results."""
    parameters = module.params
    started = time.time()
    try:
        policy = Policy(
            KNOWN_PROBES,
            parse_thresholds(parameters["thresholds"], KNOWN_PROBES),
            parse_waivers(parameters["waivers"], KNOWN_PROBES),
        )
        request = _request(parameters)
    except PolicyError as error:
        module.fail_json(msg=str(error))
    try:
        seen = run(request)
    except (CollectorError, MaintenanceError, PostgresError) as error:
        module.fail_json(msg=f"{error}; next: {error.hint}" if error.hint else str(error))
    began = datetime.datetime.fromtimestamp(started, datetime.timezone.utc)
    results = [result(measurement, policy, began.date()) for measurement in seen.measurements]
    module.exit_json(
        changed=seen.changed,
        results=results,
        status=worst(entry["status"] for entry in results),
        summary=summarize(results),
        actions=[one.as_dict() for one in undone_first(seen.outcomes)[:MOST_ACTIONS]],
        done=done_text(seen.outcomes),
        project={
            "name": seen.stack.project,
            "working_dir": seen.stack.working_dir,
            "config_files": list(seen.stack.config_files),
            "components": dict(seen.stack.components),
        },
        facts=dict(seen.facts),
        started_at=began.strftime("%Y-%m-%dT%H:%M:%SZ"),
        duration_ms=round((time.time() - started) * 1000, 1),
    )


def _request(parameters: dict[str, Any]) -> Request:
    """Raises C{PolicyError}."""
    unknown = sorted(set(parameters["service_names"]) - set(DEFAULT_SERVICE_NAMES))
    if unknown:
        raise PolicyError(
            f"service_names: unknown component {', '.join(unknown)}; "
            f"expected some of {', '.join(DEFAULT_SERVICE_NAMES)}"
        )
    check = CheckSettings(**{name: parameters[name] for name in _CHECK_SETTINGS})
    check.validate()
    names = [one.name for one in dataclasses.fields(MaintenanceSettings)]
    settings = MaintenanceSettings(
        **{name: parameters[name] for name in names if name in parameters}
    )
    settings.validate()
    return Request(
        parameters["project_name"],
        parameters["service_names"],
        check,
        settings,
        parameters["state_dir"],
    )
