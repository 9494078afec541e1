# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's results in the Prometheus text format, for node_exporter's textfile collector."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._metrics_text import family, labels
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    STATUSES,
    UNKNOWN,
    WARNING,
    worst,
)

#: The numbers that monitoring plugins have as exit codes; -1 for what says nothing about health,
#: so that an alert on "greater than 0" is silent about it.
STATUS_NUMBERS: Mapping[str, int] = {OK: 0, WARNING: 1, CRITICAL: 2, UNKNOWN: 3, SKIPPED: -1}

_STATUS_HELP = "0 ok, 1 warning, 2 critical, 3 unknown, -1 skipped or waived."


def render_textfile(host: Mapping[str, Any]) -> str:
    """The metrics of one host's check.

    ``host`` has project (a name, or {name}), started_at (ISO 8601), duration_ms and results (as
    C{_probe.result} makes them): the answer of ``stack_health_info``, or a report's host entry.

    The instance is in the label ``probe_instance``, because Prometheus puts a scrape's own target
    into ``instance``. No two lines have the same labels, which would make node_exporter refuse
    the whole file: of two results with the same name, the worse one counts.
    """
    project = host.get("project")
    name = project.get("name") if isinstance(project, Mapping) else project
    of_project = [("project", name or "")]
    statuses: dict[str, float] = {}
    values: dict[str, float] = {}
    ranks: dict[str, int] = {}
    results = host["results"]
    for result in results:
        names = [
            *of_project,
            ("probe", result["id"]),
            ("service", result["service"] or ""),
            ("probe_instance", result["instance"] or ""),
        ]
        key = labels(names)
        rank = STATUSES.index(result["status"])
        if ranks.get(key, -1) >= rank:
            continue
        ranks[key] = rank
        statuses[key] = STATUS_NUMBERS[result["status"]]
        if isinstance(result["value"], (int, float)):
            values[labels([*names, ("unit", result["unit"] or "")])] = float(result["value"])
    overall = labels(of_project)
    lines = [
        *family("pynomaly_probe_status", f"Status of a probe: {_STATUS_HELP}", statuses),
        *family("pynomaly_probe_value", "What a probe measured, in the unit it names.", values),
        *family(
            "pynomaly_check_status",
            f"Worst status of the check: {_STATUS_HELP}",
            {overall: STATUS_NUMBERS[worst(result["status"] for result in results)]},
        ),
    ]
    started_at = host.get("started_at")
    duration_ms = host.get("duration_ms")
    if started_at:
        moment = datetime.datetime.fromisoformat(str(started_at).replace("Z", "+00:00"))
        lines += family(
            "pynomaly_check_timestamp_seconds",
            "When the check began, in seconds since 1970.",
            {overall: moment.timestamp()},
        )
    if duration_ms is not None:
        lines += family(
            "pynomaly_check_duration_seconds",
            "How long the check took on the host.",
            {overall: float(duration_ms) / 1000.0},
        )
    return "\n".join(lines) + "\n"
