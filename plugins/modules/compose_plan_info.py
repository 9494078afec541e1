#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: compose_plan_info
short_description: Tell what C(docker compose up) would do, without doing any of it
version_added: 0.1.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Compares what the project's files say now with its containers, images, networks and volumes.
  - Follows Compose's own rule. A container is recreated where the hash of its service's
    configuration, or the id of its image, is another than the container's labels have.
  - What needs a service that is recreated is recreated along with it by Compose before 2.29.3,
    restarted before 2.35, and from then on restarted where its C(depends_on) has C(restart) as
    true. What shares a namespace with it is always recreated.
  - Does not use C(docker compose up --dry-run), which has been seen to recreate containers. Changes
    nothing, and pulls nothing.
  - The environment that the project was started with is not on record. Where the files name
    variables that neither this module's environment nor an environment file sets,
    RV(unset_variables) has their names, and changes of configuration are not noticed.
options:
  project_name:
    description: Name of the Compose project.
    type: str
    required: true
  project_dir:
    description:
      - Folder of the project. By default the containers' labels tell, where there are any.
    type: path
  files:
    description:
      - Compose files, in the order in which they are merged. By default those that Compose finds in
        O(project_dir).
    type: list
    elements: path
    default: []
  environment_files:
    description: Files with variables to interpolate. By default C(.env) in O(project_dir).
    type: list
    elements: path
    default: []
  pending_variables:
    description:
      - Names that O(environment_files) will have, or have another value for, by the time of C(up).
        Each gets a stand-in, so that what uses it counts as changed.
    type: list
    elements: str
    default: []
  remove_orphans:
    description: Whether containers of services that the files lack would be removed.
    type: bool
    default: false
  call_timeout_seconds:
    description: Seconds that each call to the engine or to Compose may take.
    type: float
    default: 10
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
  - Docker Compose 2.18 or newer on the host
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
  - module: community.docker.docker_compose_v2
"""

EXAMPLES = r"""
- name: Tell what up would do
  pynomaly.ops.compose_plan_info:
    project_name: pynomaly
    project_dir: /opt/pynomaly
  register: plan

- name: Stop where the project is not as its files say
  ansible.builtin.assert:
    that: not plan.changes
"""

RETURN = r"""
plan:
  description: A step for each network and volume to be created, and for each service.
  returned: success
  type: list
  elements: dict
  contains:
    service:
      description: Name of the service, or C(network NAME), or C(volume NAME).
      type: str
    action:
      description:
        - One of V(none), V(create), V(recreate), V(start), V(restart), V(scale), V(remove_orphan).
      type: str
    reason:
      description: Why.
      type: str
  sample:
    - service: postgres
      action: none
      reason: as the Compose file says
changes:
  description: Whether any step does something.
  returned: success
  type: bool
unset_variables:
  description: Variables that the files name and nothing sets.
  returned: success
  type: list
  elements: str
"""

import os
from dataclasses import asdict
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._compose import (
    ComposeFiles,
    action_on_dependents,
    changes,
    plan,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import (
    compose_version,
    load_project,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

STAND_IN = "not-made-yet"
ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "project_name": {"type": "str", "required": True},
    "project_dir": {"type": "path"},
    "files": {"type": "list", "elements": "path", "default": []},
    "environment_files": {"type": "list", "elements": "path", "default": []},
    "pending_variables": {"type": "list", "elements": "str", "default": []},
    "remove_orphans": {"type": "bool", "default": False},
    "call_timeout_seconds": {"type": "float", "default": 10},
}


def files_of_parameters(parameters: dict[str, Any]) -> Optional[ComposeFiles]:
    """Where the user says the project is; None where nothing is said."""
    if not (parameters["project_dir"] or parameters["files"]):
        return None
    return ComposeFiles(
        parameters["project_dir"] or "", parameters["files"], parameters["environment_files"]
    )


def look(parameters: dict[str, Any]) -> dict[str, Any]:
    """What the module returns. Raises L{CollectorError}."""
    name = parameters["project_name"]
    # Compose prefers its environment to its files.
    os.environ.update(dict.fromkeys(parameters["pending_variables"], STAND_IN))
    engine = Engine(parameters["call_timeout_seconds"])
    project = load_project(
        engine, name, parameters["call_timeout_seconds"], files_of_parameters(parameters)
    )
    if project.config is None:
        if project.error:
            raise CollectorError(
                f"the files of project {name} cannot be read: {project.error}",
                "docker compose config --quiet, in the project's folder",
            )
        seen = ", ".join(sorted(engine.projects())) or "none"
        raise CollectorError(
            f"no container of project {name} was seen, so that its labels cannot tell where its "
            f"files are; projects seen: {seen}",
            "give project_dir",
        )
    steps = plan(
        project.config,
        project.containers,
        engine.network_labels(),
        engine.volume_labels(),
        remove_orphans=parameters["remove_orphans"],
        on_dependents=action_on_dependents(compose_version(parameters["call_timeout_seconds"])),
    )
    return {
        "plan": [asdict(step) for step in steps],
        "changes": changes(steps),
        "unset_variables": list(project.config.unset_variables),
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if not module.params["call_timeout_seconds"] > 0:
        module.fail_json(
            msg=f"call_timeout_seconds: seen {module.params['call_timeout_seconds']}, "
            "expected a number above 0"
        )
    try:
        answer = look(module.params)
    except CollectorError as error:
        module.fail_json(msg=f"{error}; next: {error.hint}" if error.hint else str(error))
    module.exit_json(changed=False, **answer)


if __name__ == "__main__":
    main()
