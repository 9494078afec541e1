#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stack_health_info
short_description: Measure the health of a Docker Compose stack and its host
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Runs every probe of a host side by side in one call and judges what was measured by thresholds.
  - The stack is found by its Compose project name alone. Containers come from the labels that
    Compose puts on them, credentials from the services' own environment or secret files.
  - One probe that hangs or fails becomes C(unknown), and the others still answer. The whole call
    ends within O(deadline_seconds).
  - Reading changes nothing on the host. The one thing that can be written is the result itself,
    for the textfile collector of node_exporter, where O(textfile_dir) asks for it.
options:
  project_name:
    description: Name of the Compose project, as in the label C(com.docker.compose.project).
    type: str
    required: true
  service_names:
    description:
      - Which service is which component, where the names differ from the runbook's.
      - What is not named here is recognised by the runbook's service names, then by the image.
      - Known components are C(api), C(postgres), C(redis), C(nginx), C(prometheus),
        C(alertmanager) and C(grafana).
    type: dict
    default: {}
  probes:
    description:
      - Which probes to run, as C(ID), as a shell pattern over ids, or as C(ID@WHERE), where
        C(WHERE) is a service or an instance such as a mount point.
    type: list
    elements: str
    default: ["*"]
  thresholds:
    description:
      - Limits that replace the defaults, a dictionary of C(warning) and C(critical) for each C(ID),
        or C(ID@WHERE) for one service or instance alone.
      - A level that is left out keeps its default, V(null) switches it off.
    type: dict
    default: {}
  waivers:
    description:
      - Probes whose trouble is known and accepted for a time. They count as C(skipped) until the
        end date, and again as what they are from the day after.
    type: list
    elements: dict
    default: []
    suboptions:
      probe:
        description: The probe, as in O(probes).
        type: str
        required: true
      reason:
        description: Why it is accepted.
        type: str
        required: true
      until:
        description: The last day on which it holds, C(YYYY-MM-DD).
        type: str
        required: true
  deadline_seconds:
    description: When the call answers, whatever hangs.
    type: float
    default: 15
  call_timeout_seconds:
    description: How long one network or command call may take.
    type: float
    default: 5
  log_window_hours:
    description: How far back error lines in the logs are counted.
    type: float
    default: 24
  error_rate_window_minutes:
    description: How far back the share of 5xx answers is taken.
    type: float
    default: 15
  api_url:
    description: The API's front door, where it is not the published port that was found.
    type: str
  api_port:
    description: Port of the API inside its container, where it exposes none.
    type: int
  api_health_path:
    description: Path of the health endpoint.
    type: str
    default: /health
  api_metrics_path:
    description: Path of the API's metrics.
    type: str
    default: /metrics
  tls_server_name:
    description: The name that clients use, for the TLS probes.
    type: str
  postgres_user:
    description: Role to look with, where the service's own environment does not say.
    type: str
  postgres_password:
    description: Its password.
    type: str
  postgres_database:
    description: The application's database.
    type: str
  redis_username:
    description: User to look with, where the services' own environment does not say.
    type: str
  redis_password:
    description: Its password.
    type: str
  backup_dir:
    description: Where backups are kept.
    type: path
    default: /backups
  state_dir:
    description: Directory on the host that keeps the lock and the journal of operations.
    type: path
    default: /var/lib/pynomaly-ops
  runbook_reviewed:
    description: When the runbook was last reviewed, C(YYYY-MM-DD).
    type: str
  runbook_review_days:
    description: How many days a review holds.
    type: int
    default: 90
  controller_time:
    description: The controller's clock in seconds since 1970, for comparison.
    type: float
  textfile_dir:
    description:
      - Folder in which the results are left as C(pynomaly_PROJECT.prom), for node_exporter.
      - Nothing is written when it is unset, when the folder does not exist, or in check mode.
    type: path
attributes:
  check_mode:
    support: full
    description: Can run in check mode and then writes no textfile either.
  diff_mode:
    support: none
    description: Will return details on what has changed, or would have.
  platform:
    support: full
    platforms: linux
    description: Target operating systems.
notes:
  - Without the Python library C(docker) or C(psycopg2) on the host, the probes that need it are
    C(unknown) and name what to install; the others still answer.
seealso:
  - module: community.docker.docker_host_info
  - module: community.postgresql.postgresql_info
"""

EXAMPLES = r"""
- name: Look at everything
  pynomaly.ops.stack_health_info:
    project_name: pynomaly
  register: health

- name: Look at PostgreSQL and its container, with a stricter limit
  pynomaly.ops.stack_health_info:
    project_name: pynomaly
    probes: ["postgres.*", "container.*@postgres"]
    thresholds:
      postgres.connections: {warning: 60, critical: 80}
    waivers:
      - probe: postgres.dead_tuples
        reason: the archive table is rewritten on Sunday
        until: "2027-01-31"
"""

RETURN = r"""
project:
  description: The project that was looked at.
  returned: always
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    working_dir:
      description: The folder it was started from.
      type: str
    config_files:
      description: Its Compose files.
      type: list
      elements: str
    components:
      description: Which service is which component.
      type: dict
results:
  description: One entry a probe and instance.
  returned: always
  type: list
  elements: dict
  sample:
    - id: postgres.connections
      service: postgres
      instance:
      title: Connections used of the limit for ordinary roles
      status: ok
      value: 6.2
      unit: percent
      warning: 80
      critical: 95
      message: 6 of 97 connections used
      hint: ""
      detail:
      duration_ms: 12.5
      waiver:
status:
  description: The worst status of all results.
  returned: always
  type: str
  sample: ok
summary:
  description: How many results have each status.
  returned: always
  type: dict
  sample: {"ok": 88, "warning": 0, "critical": 0, "unknown": 0, "skipped": 4}
facts:
  description: What the host is, as far as it was found on the way.
  returned: always
  type: dict
started_at:
  description: When the check began, in UTC.
  returned: always
  type: str
  sample: "2026-11-24T06:37:15Z"
duration_ms:
  description: How long it took on the host.
  returned: always
  type: float
textfile:
  description: The textfile that was written, or V(null).
  returned: always
  type: str
"""

import time

STARTED_AT = time.time()  # before the other imports, whose time is not the clock's fault

import datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.module_archive import (
    import_quickly,
)

import_quickly()

from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    DEFAULT_SERVICE_NAMES,
    CheckSettings,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import write_atomically
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.stack_health import check_stack
from ansible_collections.pynomaly.ops.plugins.module_utils._known_probes import KNOWN_PROBES
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    Policy,
    PolicyError,
    parse_selectors,
    parse_thresholds,
    parse_waivers,
    result,
    summarize,
    worst,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_textfile import render_textfile

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "project_name": {"type": "str", "required": True},
    "service_names": {"type": "dict", "default": {}},
    "probes": {"type": "list", "elements": "str", "default": ["*"]},
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
    "deadline_seconds": {"type": "float", "default": 15},
    "call_timeout_seconds": {"type": "float", "default": 5},
    "log_window_hours": {"type": "float", "default": 24},
    "error_rate_window_minutes": {"type": "float", "default": 15},
    "api_url": {"type": "str"},
    "api_port": {"type": "int"},
    "api_health_path": {"type": "str", "default": "/health"},
    "api_metrics_path": {"type": "str", "default": "/metrics"},
    "tls_server_name": {"type": "str"},
    "postgres_user": {"type": "str"},
    "postgres_password": {"type": "str", "no_log": True},
    "postgres_database": {"type": "str"},
    "redis_username": {"type": "str"},
    "redis_password": {"type": "str", "no_log": True},
    "backup_dir": {"type": "path", "default": "/backups"},
    "state_dir": {"type": "path", "default": "/var/lib/pynomaly-ops"},
    "runbook_reviewed": {"type": "str"},
    "runbook_review_days": {"type": "int", "default": 90},
    "controller_time": {"type": "float"},
    "textfile_dir": {"type": "path"},
}

#: Parameters that are CheckSettings' fields of the same name.
SETTINGS = (
    "deadline_seconds",
    "call_timeout_seconds",
    "log_window_hours",
    "error_rate_window_minutes",
    "api_url",
    "api_port",
    "api_health_path",
    "api_metrics_path",
    "tls_server_name",
    "postgres_user",
    "postgres_password",
    "postgres_database",
    "redis_username",
    "redis_password",
    "backup_dir",
    "state_dir",
    "runbook_reviewed",
    "runbook_review_days",
    "controller_time",
)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    parameters = module.params
    try:
        selectors = parse_selectors(parameters["probes"], CATALOGUE, "probes")
        policy = Policy(
            CATALOGUE,
            parse_thresholds(parameters["thresholds"], KNOWN_PROBES),
            parse_waivers(parameters["waivers"], KNOWN_PROBES),
        )
        settings = CheckSettings(**{name: parameters[name] for name in SETTINGS})
        settings.validate()
    except PolicyError as error:
        module.fail_json(msg=str(error))
    unknown = sorted(set(parameters["service_names"]) - set(DEFAULT_SERVICE_NAMES))
    if unknown:
        module.fail_json(
            msg=f"service_names: unknown component {', '.join(unknown)}; "
            f"expected some of {', '.join(DEFAULT_SERVICE_NAMES)}"
        )

    check = check_stack(
        parameters["project_name"], settings, selectors, parameters["service_names"], STARTED_AT
    )
    started = datetime.datetime.fromtimestamp(STARTED_AT, datetime.timezone.utc)
    results = [result(measurement, policy, started.date()) for measurement in check.measurements]
    report: dict[str, Any] = {
        "project": {
            "name": check.stack.project,
            "working_dir": check.stack.working_dir,
            "config_files": list(check.stack.config_files),
            "components": dict(check.stack.components),
        },
        "facts": check.facts,
        "results": results,
        "status": worst(entry["status"] for entry in results),
        "summary": summarize(results),
        "started_at": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "duration_ms": round((time.time() - STARTED_AT) * 1000, 1),
        "textfile": None,
    }
    if parameters["textfile_dir"] and not module.check_mode:
        folder = Path(parameters["textfile_dir"])
        if folder.is_dir():
            path = folder / f"pynomaly_{check.stack.project}.prom"
            write_atomically(str(path), render_textfile(report).encode(), 0o644)
            report["textfile"] = str(path)
    module.exit_json(changed=False, **report)


if __name__ == "__main__":
    main()
