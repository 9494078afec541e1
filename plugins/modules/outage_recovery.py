#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: outage_recovery
short_description: Bring the broken services of a Compose project back, and no others
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Looks which services of a project are broken, mends those in the order in which they need each
    other, waits until they are well, asks for the API from outside, and says where it began.
  - A service is well where its containers are healthy by their health checks; without one, where
    they have run for O(settle_seconds). What is well is not touched and keeps its containers.
  - What was stopped or was never started is started, what is paused goes on, what is unhealthy or
    crashes again and again is restarted, and containers that are missing are made by the files that
    the project was made of. Nothing is recreated, and each container is tried once.
  - What a broken service needs is mended first (C(depends_on), names of services in its
    environment, and the API for nginx); then the service may get well by itself before it is
    touched. Before something unhealthy is restarted, its own health check is run once more, and
    those of what it needs.
  - PostgreSQL that brings its data back after a crash, and Redis that loads its data, are waited
    for, for O(recovery_timeout_seconds) at most, and not restarted.
  - Left alone are one-off jobs, services of profiles that are not known to be on, services that the
    Compose file does not have, and what M(pynomaly.ops.container_isolation) has taken off the
    network, with what needs that.
  - An engine that does not run is started. One that hangs is not restarted, which would stop what
    is well.
  - What cannot be mended is told in RV(problem) with whom to call. The module itself does not fail
    then, so that there is a report; whoever calls it is to fail where RV(recovered) is false. That
    is where a container crashes again once it was restarted, an image or a variable is missing, a
    disk is full, the engine refuses, or time is up.
  - It keeps no evidence. Keep that first, of the services in RV(at_risk), and give their names as
    O(services).
  - To be run under the host's lock.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  state:
    description:
      - V(recovered) brings everything back.
      - V(assessed) says what would be done, as check mode does, but starts an engine that does not
        run, without which nothing can be said. Outside of check mode it asks nothing from outside
        and reads no logs, so that it is quick.
    type: str
    choices: [recovered, assessed]
    default: recovered
  services:
    description: The services that may be touched; all where it is not given.
    type: list
    elements: str
  ignored_services:
    description: Services that are left alone whatever they are.
    type: list
    elements: str
    default: []
  profiles:
    description: Profiles of the Compose file that are on.
    type: list
    elements: str
    default: []
  project_dir:
    description: Folder of the project's files, for a project that has no container left to tell.
    type: path
    default: ""
  service_names:
    description: Component to service, for those that are not called as in the runbook.
    type: dict
    default: {}
  timeout_seconds:
    description: How long it may take until everything is well.
    type: float
    default: 600
  recovery_timeout_seconds:
    description: The same while a server brings its data back.
    type: float
    default: 3600
  settle_seconds:
    description: How long a container without a health check has to run to count as well.
    type: float
    default: 10
  external_timeout_seconds:
    description: How long the API may take to answer from outside once its services are well.
    type: float
    default: 30
  call_timeout_seconds:
    description: Seconds that one call of the engine, of Compose or by HTTP may take.
    type: float
    default: 10
  minimum_free_mib:
    description: With less than this free on a disk that matters, in MiB, nothing is started.
    type: int
    default: 64
  log_window_minutes:
    description: How far back logs and the engine's events are looked through.
    type: float
    default: 60
  health_path:
    description: Path of the API's health endpoint.
    type: str
    default: /health
  api_url:
    description: The API's front door, where it is not the published port that is found.
    type: str
    default: ""
  tls_server_name:
    description: The name that clients use.
    type: str
    default: ""
  host_address:
    description: The host's name or address as others have it, for RV(external_urls).
    type: str
    default: ""
  dashboards:
    description: Dashboards to name in the report, each with C(title) and C(url).
    type: list
    elements: dict
    default: []
    suboptions:
      title:
        description: What it is called.
        type: str
        required: true
      url:
        description: Its address.
        type: str
        required: true
  contacts:
    description: Whom to call where it cannot be mended, each with C(name) and C(address).
    type: list
    elements: dict
    default: []
  escalation:
    description: Levels of escalation, the first first, each with C(name) and perhaps C(address).
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description: Looks at everything, says what would be done, and does nothing.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
seealso:
  - module: pynomaly.ops.stack_health_info
  - module: pynomaly.ops.container_isolation
"""

EXAMPLES = r"""
- name: See what is broken
  pynomaly.ops.outage_recovery:
    state: assessed
    operation: outage_respond
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
  register: assessed

- name: Bring it back
  pynomaly.ops.outage_recovery:
    services: "{{ assessed.at_risk }}"
    operation: outage_respond
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
  register: outage
"""

RETURN = r"""
recovered:
  description: Whether everything is well now. With O(state=assessed), whether it is already.
  returned: success
  type: bool
problem:
  description: What is not well, and whom to call; empty where everything is.
  returned: success
  type: str
engine:
  description: V(running), or why the engine cannot be used, such as V(not_running) or V(timeout).
  returned: success
  type: str
broken:
  description: Services that were broken when they were first looked at.
  returned: success
  type: list
  elements: str
at_risk:
  description: Services that a recovery may have to touch, which are those and what needs them.
  returned: success
  type: list
  elements: str
evidence_services:
  description: Those of RV(at_risk) that have containers, of which there is evidence to keep.
  returned: success
  type: list
  elements: str
plan:
  description: What was to be done, in its order.
  returned: success
  type: list
  elements: str
actions:
  description: What was done.
  returned: success
  type: list
  elements: dict
  contains:
    service:
      description: The service.
      type: str
    container:
      description: The container's name; empty where one was to be made.
      type: str
    action:
      description: One of V(start), V(restart), V(unpause), V(create).
      type: str
    why:
      description: What was seen.
      type: str
    error:
      description: Why it failed, empty where it did not.
      type: str
recovery_seconds:
  description: How long it took until all was well. Null where nothing was done, or it is not.
  returned: success
  type: float
external_urls:
  description: Addresses of the API's health that others than the host are to reach.
  returned: success
  type: list
  elements: str
project:
  description: The project, with C(name), and C(working_dir) and C(config_files) where it was found.
  returned: success
  type: dict
results:
  description: What is well and what is not, in the shape of M(pynomaly.ops.stack_health_info).
  returned: success
  type: list
  elements: dict
tables:
  description: The timeline, where it began, the engine's events, the most frequent errors, the
    dashboards, and whom to call; each with C(title), C(columns) and C(rows).
  returned: success
  type: list
  elements: dict
lines:
  description: The outcome as text.
  returned: success
  type: list
  elements: str
started_at:
  description: When it began, ISO 8601 in UTC.
  returned: success
  type: str
duration_ms:
  description: How long it took.
  returned: success
  type: float
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    finish,
    operation_argument_spec,
    own_options,
    temporary_states,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.outage import (
    OutageSettings,
    run,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

ASSESSED = "assessed"
RECOVERED = "recovered"

_TIMES: dict[str, float] = {
    "timeout_seconds": 600,
    "recovery_timeout_seconds": 3600,
    "settle_seconds": 10,
    "external_timeout_seconds": 30,
    "call_timeout_seconds": 10,
    "log_window_minutes": 60,
}

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "state": {"type": "str", "choices": [RECOVERED, ASSESSED], "default": RECOVERED},
    "services": {"type": "list", "elements": "str"},
    "ignored_services": {"type": "list", "elements": "str", "default": []},
    "profiles": {"type": "list", "elements": "str", "default": []},
    "project_dir": {"type": "path", "default": ""},
    "service_names": {"type": "dict", "default": {}},
    **{name: {"type": "float", "default": value} for name, value in _TIMES.items()},
    "minimum_free_mib": {"type": "int", "default": 64},
    "health_path": {"type": "str", "default": "/health"},
    "api_url": {"type": "str", "default": ""},
    "tls_server_name": {"type": "str", "default": ""},
    "host_address": {"type": "str", "default": ""},
    "dashboards": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "title": {"type": "str", "required": True},
            "url": {"type": "str", "required": True},
        },
    },
    "contacts": {"type": "list", "elements": "dict", "default": []},
    "escalation": {"type": "list", "elements": "dict", "default": []},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    parameters = module.params
    wrong = [name for name in _TIMES if not parameters[name] > 0]
    if wrong:
        module.fail_json(msg=f"{', '.join(wrong)}: expected numbers above 0")
    names = [name for name in ARGUMENT_SPEC if name != "state"]
    settings = OutageSettings(**own_options(parameters, names, {}))
    finish(
        module,
        lambda: run(
            settings,
            temporary_states(module),
            act=parameters["state"] == RECOVERED,
            dry_run=module.check_mode,
        ),
        (CollectorError, EngineError),
    )


if __name__ == "__main__":
    main()
