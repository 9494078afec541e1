#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: incident_info
short_description: Tell what is known of an incident, as a report takes it
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Reads the incidents of a project, and of one of them the timeline and the evidence, with the
    temporary states that the journal says are open.
  - What it returns can be given to M(pynomaly.ops.health_report) as it is.
  - Changes nothing, and makes nothing.
options:
  state_dir:
    description: Directory on the host that keeps the lock, the journal of operations and the
      incidents.
    type: path
    default: /var/lib/pynomaly-ops
  project:
    description: Name of the Compose project.
    type: str
    required: true
  incident:
    description: Id of the incident, by default the newest that is open.
    type: str
    default: ""
  run_id:
    description: Id of the run whose entries of the timeline become results.
    type: str
    default: ""
  failure:
    description: Why that run has failed, which becomes a result; empty where it has not.
    type: str
    default: ""
  results:
    description: Results that others have to tell.
    type: list
    elements: dict
    default: []
  tables:
    description: Tables that others have to tell.
    type: list
    elements: dict
    default: []
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
  - module: pynomaly.ops.incident
  - module: pynomaly.ops.health_report
"""

EXAMPLES = r"""
- name: Look at the open incident
  pynomaly.ops.incident_info:
    project: pynomaly
  register: incident
"""

RETURN = r"""
open:
  description: Ids of the incidents that are open, the oldest first.
  returned: success
  type: list
  elements: str
incidents:
  description: All incidents of the project, the oldest first.
  returned: success
  type: list
  elements: dict
incident:
  description: The one that the rest is about, with what contains it as V(measures); null where
    there is none.
  returned: success
  type: dict
timeline:
  description: Its entries, each with V(time), V(who), V(run), V(event), V(what), V(command),
    V(outcome).
  returned: success
  type: list
  elements: dict
evidence:
  description: The evidence that is whole, each with V(path), V(files), V(size_bytes), and the
    SHA-256 of its list of sums as V(digest).
  returned: success
  type: list
  elements: dict
results:
  description: What the run did, as results of a report.
  returned: success
  type: list
  elements: dict
tables:
  description: Next steps, timeline, commands, evidence, open temporary states.
  returned: success
  type: list
  elements: dict
facts:
  description: What the incident is, in words.
  returned: success
  type: dict
remarks:
  description: What could not be read, which is warned of as well.
  returned: success
  type: list
  elements: str
lines:
  description: A line for each open incident.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.incidents import describe
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import finish
from ansible_collections.pynomaly.ops.plugins.module_utils._incident import IncidentError

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "state_dir": {"type": "path", "default": "/var/lib/pynomaly-ops"},
    "project": {"type": "str", "required": True},
    "incident": {"type": "str", "default": ""},
    "run_id": {"type": "str", "default": ""},
    "failure": {"type": "str", "default": ""},
    "results": {"type": "list", "elements": "dict", "default": []},
    "tables": {"type": "list", "elements": "dict", "default": []},
}


def answer_of(parameters: dict[str, Any]) -> dict[str, Any]:
    """What the module returns. Raises C{IncidentError} and C{StoreError}."""
    project = parameters["project"]
    told = describe(
        parameters["state_dir"],
        project,
        parameters["incident"],
        run_id=parameters["run_id"],
        failure=parameters["failure"],
        results=parameters["results"],
        tables=parameters["tables"],
    )
    return {"changed": False, "project": {"name": project}, **told}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    finish(module, lambda: answer_of(module.params), (IncidentError,))


if __name__ == "__main__":
    main()
