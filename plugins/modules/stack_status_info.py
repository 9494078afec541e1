#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: stack_status_info
short_description: Tell what runs where, in which version, and since when
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Finds a Compose project by its containers' labels, whoever started it, and describes each of
    its services and containers.
  - A project that the engine does not have is no failure. RV(status.found) is then false, and
    RV(status.projects) has the names of those that there are.
  - Changes nothing. Nothing of a container's environment or command is returned.
options:
  project_name:
    description: Name of the Compose project.
    type: str
    required: true
  service_names:
    description:
      - Services by the component that they play, where that is not to be told from the images.
        Components are C(api), C(postgres), C(redis), C(nginx), C(prometheus), C(alertmanager) and
        C(grafana).
    type: dict
    default: {}
  call_timeout_seconds:
    description: Seconds that each call to the engine or to Compose may take.
    type: float
    default: 5
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: pynomaly.ops.stack_health_info
  - plugin: pynomaly.ops.status_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read what runs where
  pynomaly.ops.stack_status_info:
    project_name: pynomaly
  register: stack

- name: Show it
  ansible.builtin.debug:
    msg: "{{ stack.status | pynomaly.ops.status_table }}"
"""

RETURN = r"""
status:
  description: The project.
  returned: success
  type: dict
  contains:
    project:
      description: Its name.
      type: str
      sample: pynomaly
    found:
      description: Whether the engine has containers of it.
      type: bool
    projects:
      description: Names of the host's projects, where this one was not found.
      type: list
      elements: str
    working_dir:
      description: The folder it was started from.
      type: str
      sample: /opt/pynomaly
    config_files:
      description: Its Compose files.
      type: list
      elements: str
    compose_error:
      description: Why those cannot be read, empty where they can.
      type: str
    engine_version:
      description: Version of the Docker Engine.
      type: str
      sample: 26.1.5
    services:
      description: Its services, in the order of the Compose file, then those that only run.
      type: list
      elements: dict
      contains:
        service:
          description: Name of the service.
          type: str
        component:
          description: The component it plays. Null for none.
          type: str
        expected:
          description: Replicas that the Compose file asks for. Null where it has no such service.
          type: int
        running:
          description: How many run.
          type: int
        one_shot:
          description: Whether it is a job that ends.
          type: bool
        containers:
          description: Its containers, in their number's order.
          type: list
          elements: dict
          contains:
            id:
              description: The container's id.
              type: str
            name:
              description: The container's name.
              type: str
            state:
              description: One of C(created), C(running), C(paused), C(restarting), C(removing),
                C(exited), C(dead).
              type: str
            health:
              description: One of C(healthy), C(unhealthy), C(starting). Null without a check.
              type: str
            exit_code:
              description: How it ended. Null while it runs.
              type: int
            image:
              description: Reference of the image, as it was started.
              type: str
            image_id:
              description: Id of the image.
              type: str
            version:
              description: The image's version, from its tag or its label
                C(org.opencontainers.image.version).
              type: str
            since:
              description: When it started, or ended. ISO 8601 in UTC.
              type: str
            uptime_seconds:
              description: Seconds since it started. Null where it does not run.
              type: int
            restart_count:
              description: How often the engine restarted it since it was created.
              type: int
            addresses:
              description: Its addresses.
              type: list
              elements: str
            ports:
              description: TCP ports that the host publishes, each with RV(ignore:host_ip),
                RV(ignore:host_port) and RV(ignore:container_port).
              type: list
              elements: dict
"""

import datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    DEFAULT_SERVICE_NAMES,
    CheckSettings,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine, EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._status import stack_status

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "project_name": {"type": "str", "required": True},
    "service_names": {"type": "dict", "default": {}},
    "call_timeout_seconds": {"type": "float", "default": 5},
}


def read(parameters: dict[str, Any]) -> dict[str, Any]:
    """What the module returns. Raises L{EngineError}."""
    settings = CheckSettings(call_timeout_seconds=parameters["call_timeout_seconds"])
    engine = Engine(settings.call_timeout_seconds)
    version = str(engine.version().get("Version") or "")
    stack = discover(engine, parameters["project_name"], settings, parameters["service_names"])
    projects = [] if stack.containers else sorted(engine.projects())
    now = datetime.datetime.now(datetime.timezone.utc)
    return stack_status(stack, version, now, projects)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    unknown = sorted(set(module.params["service_names"]) - set(DEFAULT_SERVICE_NAMES))
    if unknown:
        module.fail_json(
            msg=f"service_names: unknown component {', '.join(unknown)}; "
            f"expected some of {', '.join(DEFAULT_SERVICE_NAMES)}"
        )
    if not module.params["call_timeout_seconds"] > 0:
        module.fail_json(
            msg=f"call_timeout_seconds: seen {module.params['call_timeout_seconds']}, "
            "expected a number above 0"
        )
    try:
        status = read(module.params)
    except EngineError as error:
        module.fail_json(msg=f"{error}; next: {error.hint}" if error.hint else str(error))
    module.exit_json(changed=False, status=status)


if __name__ == "__main__":
    main()
