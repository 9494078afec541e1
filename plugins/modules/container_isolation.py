#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: container_isolation
short_description: Take containers off their networks without stopping them, and put them back
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - An isolated container runs on, so that its memory and its processes can be looked at, and
    reaches nobody and is reached by nobody. Its published ports are closed.
  - It is put on the engine's empty network C(none), so that neither a restart of the container nor
    one of the engine gives it back a network.
  - Networks, aliases and addresses are in the journal before anything is done, as the temporary
    state C(container_isolation), and the container is put back by them. An address that the engine
    chose itself comes back only where the engine gives it; one that is another is told.
  - An isolation has no end. It stays until it is undone, by O(state=connected); where the run that
    isolated died or failed, M(pynomaly.ops.operation_resume) undoes it.
  - A container on the host's network cannot be isolated so, and is refused, as is one that lives in
    another's network. What lives in the network of an isolated container is cut off with it.
  - To be run under the host's lock, but for O(state=status).
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  state:
    description: What the containers are to be; V(status) changes nothing.
    type: str
    choices: [isolated, connected, status]
    default: status
  name:
    description:
      - A service, a component such as V(api), or a container. Needed for O(state=isolated).
      - Empty, or V(all), with O(state=connected) stands for every container that is isolated.
    type: str
    default: ""
  service_names:
    description:
      - Component to service, for those that are not called as in the runbook, for instance C(api)
        to C(shop).
    type: dict
    default: {}
  call_timeout_seconds:
    description: Seconds that one call of the engine or of Compose may take.
    type: float
    default: 10
attributes:
  check_mode:
    description: Looks for the containers, refuses what it would refuse, and changes nothing.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
seealso:
  - module: pynomaly.ops.operation_resume
"""

EXAMPLES = r"""
- name: Take the API off the network
  pynomaly.ops.container_isolation:
    state: isolated
    name: api
    operation: incident_contain
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"

- name: Put everything back
  pynomaly.ops.container_isolation:
    state: connected
    operation: incident_release
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
containers:
  description: The containers that were meant; with O(state=status) those that the journal has as
    isolated.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The container's id.
      type: str
    name:
      description: The container's name.
      type: str
    service:
      description: Its service.
      type: str
    since:
      description: When it was isolated, ISO 8601 in UTC.
      type: str
    state:
      description: Where it is now. One of V(isolated), V(partly isolated), V(connected), V(gone).
      type: str
    networks:
      description: The networks it belongs on.
      type: list
      elements: str
isolated:
  description: Names of those that are off their networks now; in check mode as before.
  returned: success
  type: list
  elements: str
remarks:
  description: What is not as it was, and what is cut off besides. Warned of as well.
  returned: success
  type: list
  elements: str
lines:
  description: The above as text.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.isolation import (
    connect,
    isolate,
    status,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    finish,
    operation_argument_spec,
    temporary_states,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._isolation import IsolationError
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

ISOLATED = "isolated"
CONNECTED = "connected"
STATUS = "status"

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "state": {"type": "str", "choices": [ISOLATED, CONNECTED, STATUS], "default": STATUS},
    "name": {"type": "str", "default": ""},
    "service_names": {"type": "dict", "default": {}},
    "call_timeout_seconds": {"type": "float", "default": 10},
}


def answer_of(parameters: dict[str, Any], states: TemporaryStates, dry_run: bool) -> dict[str, Any]:
    """What the module returns. Raises what the functions of C{_edges.isolation} raise."""
    name = parameters["name"].strip()
    if parameters["state"] == ISOLATED and not name:
        raise IsolationError(
            "name: seen nothing, expected the service or container to take off the network"
        )
    engine = EngineControl(parameters["call_timeout_seconds"])
    project = parameters["project"]
    if parameters["state"] == STATUS:
        return status(engine, project, states)
    settings = CheckSettings(call_timeout_seconds=parameters["call_timeout_seconds"])
    stack = discover(engine, project, settings, parameters["service_names"])
    if parameters["state"] == ISOLATED:
        return isolate(engine, stack, name, states, dry_run=dry_run)
    return connect(engine, stack, "" if name == "all" else name, states, dry_run=dry_run)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    finish(
        module,
        lambda: answer_of(module.params, temporary_states(module), module.check_mode),
        (CollectorError, EngineError),
    )


if __name__ == "__main__":
    main()
