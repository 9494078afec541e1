#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: incident
short_description: Open an incident, note what was done in it, close it
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - An incident stays open over runs of C(ansible-playbook). It has an id, who opened it and why,
    what contains it, and a timeline in which each entry says when, who, in which run, what, by
    which command, and what came of it.
  - It is a folder of mode C(0700), C(incidents/ID) in O(state_dir), with C(incident.json),
    C(timeline.jsonl), which only grows and is synced to disk, and C(evidence/).
  - A project has one open incident, to which every run adds; a second one is opened only with
    O(incident=new).
  - To be run under the host's lock.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  state:
    description:
      - V(open) finds the open incident, or opens one, and writes down what is about to contain it.
      - V(noted) adds an entry to the timeline. Where no incident is open that is nothing.
      - V(closed) ends the incident, which is refused while something contains it.
    type: str
    choices: [open, noted, closed]
    default: open
  incident:
    description: Id of the incident, by default the one that is open. V(new) opens another one.
    type: str
    default: ""
  reason:
    description: Why it is opened. It counts for O(state=open) where none is open.
    type: str
    default: ""
  event:
    description: What an entry of the timeline is about.
    type: str
    choices:
      - opened
      - evidence
      - block
      - maintenance
      - isolation
      - release
      - recover
      - investigate
      - note
      - failed
      - closed
    default: note
  what:
    description: What was done, in a sentence. No secrets. Needed with O(state=noted).
    type: str
    default: ""
  outcome:
    description: What came of it.
    type: str
    choices: [done, unchanged, failed]
    default: done
  playbook:
    description: The playbook that did it, for instance V(incident_contain).
    type: str
    default: ""
  variables:
    description: What was given to that playbook. No secrets. What is empty was not given.
    type: dict
    default: {}
  contained:
    description: What is about to contain the incident, for O(state=open).
    type: dict
    default: {}
    suboptions: &measures
      block:
        description: Networks that are blocked. Releasing one releases all within it; V(all) is all.
        type: list
        elements: str
        default: []
      isolation:
        description: Services that are off their networks. To release them, V(all) is all.
        type: list
        elements: str
        default: []
      maintenance:
        description: Whether clients get the maintenance page.
        type: bool
        default: false
  released:
    description: What contains it no more, for O(state=noted) and O(state=closed).
    type: dict
    default: {}
    suboptions: *measures
attributes:
  check_mode:
    description: Tells which incident it would be, and writes nothing.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
seealso:
  - module: pynomaly.ops.incident_info
"""

EXAMPLES = r"""
- name: Open an incident
  pynomaly.ops.incident:
    reason: scanning
    contained:
      block: [203.0.113.7/32]
    operation: incident_contain
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
  register: opened

- name: Note what was done
  pynomaly.ops.incident:
    state: noted
    incident: "{{ opened.id }}"
    event: block
    what: 203.0.113.7 is blocked for a day
    playbook: incident_contain
    variables: {block: 203.0.113.7, for: 24h}
    operation: incident_contain
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
id:
  description: Id of the incident; empty where none is open.
  returned: success
  type: str
opened:
  description: Whether it was opened by this call.
  returned: success
  type: bool
folder:
  description: Its folder on the host.
  returned: success
  type: str
incident:
  description: What is written of it, with V(measures), each of a V(kind) and a V(target); null
    where none is open.
  returned: success
  type: dict
remarks:
  description: What the user should know, which is warned of as well.
  returned: success
  type: list
  elements: str
lines:
  description: The above as text.
  returned: success
  type: list
  elements: str
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.incident_store import (
    IncidentStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.incidents import Incidents
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    finish,
    operation_argument_spec,
    run_identity,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._incident import (
    BLOCK,
    DONE,
    EVENTS,
    ISOLATION,
    MAINTENANCE,
    OUTCOMES,
    IncidentError,
    Measure,
    command_line,
    measure_of,
)

MEASURES: dict[str, Any] = {
    "type": "dict",
    "default": {},
    "options": {
        BLOCK: {"type": "list", "elements": "str", "default": []},
        ISOLATION: {"type": "list", "elements": "str", "default": []},
        MAINTENANCE: {"type": "bool", "default": False},
    },
}

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "state": {"type": "str", "choices": ["open", "noted", "closed"], "default": "open"},
    "incident": {"type": "str", "default": ""},
    "reason": {"type": "str", "default": ""},
    "event": {"type": "str", "choices": list(EVENTS), "default": "note"},
    "what": {"type": "str", "default": ""},
    "outcome": {"type": "str", "choices": list(OUTCOMES), "default": DONE},
    "playbook": {"type": "str", "default": ""},
    "variables": {"type": "dict", "default": {}},
    "contained": MEASURES,
    "released": MEASURES,
}


def measures_of(given: Mapping[str, Any]) -> list[Measure]:
    kinds = (BLOCK, ISOLATION)
    measures = [measure_of(kind, one) for kind in kinds for one in given.get(kind) or ()]
    return measures + ([Measure(MAINTENANCE)] if given.get(MAINTENANCE) else [])


def answer_of(parameters: Mapping[str, Any], incidents: Incidents) -> dict[str, Any]:
    """What the module returns. Raises C{IncidentError}."""
    playbook = parameters["playbook"]
    project = parameters["project"]
    command = command_line(playbook, parameters["variables"], "", project) if playbook else ""
    asked = parameters["incident"]
    if parameters["state"] == "open":
        contained = measures_of(parameters["contained"])
        return incidents.open(asked, parameters["reason"], contained, command)
    released = measures_of(parameters["released"])
    what = parameters["what"]
    if parameters["state"] == "closed":
        return incidents.close(asked, what or "closed", command=command, released=released)
    return incidents.note(
        asked,
        parameters["event"],
        what,
        outcome=parameters["outcome"],
        command=command,
        released=released,
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)

    def work() -> dict[str, Any]:
        store = IncidentStore(module.params["state_dir"])
        project = module.params["project"]
        incidents = Incidents(store, run_identity(module), project, module.check_mode)
        return answer_of(module.params, incidents)

    finish(module, work, (IncidentError,))


if __name__ == "__main__":
    main()
