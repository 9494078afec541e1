#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: nginx_maintenance
short_description: Show a maintenance page, take it away, or tell whether one is shown
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - While the page is shown, the project's nginx answers 503 with C(Retry-After) and a page, HTML or
    JSON by what the client accepts, except on O(exempt_paths) and for the addresses in O(allow).
  - The page has an end, which nginx itself looks at with each request. It lifts itself whether or
    not anybody comes back.
  - It is one file in a folder that nginx's server blocks include and that is mounted from the host,
    which is found in the output of C(nginx -T). The file is tested apart, tested in place, and
    seen on nginx's ports from the host; otherwise what was there before is put back.
  - The change is in the journal before it is made, as the temporary state C(maintenance_page).
  - To be run under the host's lock, but for O(state=status).
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  state:
    description: Whether the page is shown; V(status) changes nothing.
    type: str
    choices: ["on", "off", status]
    default: status
  duration:
    description:
      - How long the page is shown, for instance V(30m), V(2h) or V(1h30m); 7 days at most.
      - It counts from when it is said. The end of the same page stays where it would move by less
        than a minute, or a hundredth of a long duration.
    type: str
    default: 1h
  until:
    description: When it ends, ISO 8601, in place of O(duration). UTC where it names no zone.
    type: str
    default: ""
  text:
    description: What the page says.
    type: str
    default: The service is being worked on and will be back soon.
  allow:
    description:
      - Addresses and networks that get the service itself.
      - They are compared with the client's address as nginx has it. A header counts where nginx is
        configured to trust the proxy that sends it (C(set_real_ip_from)).
    type: list
    elements: str
    default: []
  exempt_paths:
    description: Paths that everybody gets. One that ends in a slash stands for what is directly
      below it. By default O(health_path), and what is below it.
    type: list
    elements: str
    default: []
  health_path:
    description: Path of the health endpoint, which is asked to see that it is exempt.
    type: str
    default: /health
  retry_after_seconds:
    description: What C(Retry-After) tells clients to wait.
    type: int
    default: 120
  service_names:
    description:
      - Component to service, for those that are not called as in the runbook, for instance C(nginx)
        to C(proxy).
    type: dict
    default: {}
  call_timeout_seconds:
    description: Seconds that one call of the engine or of Compose may take.
    type: float
    default: 10
attributes:
  check_mode:
    description: Looks for nginx and its folder, and changes nothing.
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
- name: Show the page for half an hour, but not to the office
  pynomaly.ops.nginx_maintenance:
    state: "on"
    duration: 30m
    allow: [203.0.113.0/24]
    operation: maintenance
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"

- name: Take it away
  pynomaly.ops.nginx_maintenance:
    state: "off"
    operation: maintenance
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
shown:
  description: Whether nginx shows a page now; in check mode, as it is before.
  returned: success
  type: bool
until:
  description: When the page ends, ISO 8601 in UTC.
  returned: when there is one
  type: str
expired:
  description: Whether that is past.
  returned: with O(state=status), when there is one
  type: bool
marker:
  description: What the page's answers have in their header C(X-Maintenance).
  returned: when there is one
  type: str
message:
  description: What the page says.
  returned: when there is one
  type: str
allow:
  description: Networks that get the service itself.
  returned: when there is one
  type: list
  elements: str
exempt_paths:
  description: Paths that everybody gets.
  returned: when there is one
  type: list
  elements: str
files:
  description: The page's files on the host.
  returned: success
  type: list
  elements: str
health_status:
  description: HTTP status of the health endpoint beside the page; V(null) where it was not asked
    or does not answer.
  returned: with O(state=on)
  type: int
remarks:
  description: What the user should know, which is warned of as well.
  returned: success
  type: list
  elements: str
duration_ms:
  description: How long the change took, with its proof.
  returned: with O(state=on) and O(state=off)
  type: float
lines:
  description: The above as text.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import tolerance_seconds
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.maintenance import (
    page_off,
    page_on,
    page_status,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    finish,
    operation_argument_spec,
    temporary_states,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance import (
    DEFAULT_MESSAGE,
    MaintenanceError,
    Page,
    end_time,
    fragment,
    page_lines,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

ON = "on"
OFF = "off"
STATUS = "status"

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "state": {"type": "str", "choices": [ON, OFF, STATUS], "default": STATUS},
    "duration": {"type": "str", "default": "1h"},
    "until": {"type": "str", "default": ""},
    "text": {"type": "str", "default": DEFAULT_MESSAGE},
    "allow": {"type": "list", "elements": "str", "default": []},
    "exempt_paths": {"type": "list", "elements": "str", "default": []},
    "health_path": {"type": "str", "default": "/health"},
    "retry_after_seconds": {"type": "int", "default": 120},
    "service_names": {"type": "dict", "default": {}},
    "call_timeout_seconds": {"type": "float", "default": 10},
}


def page_of(parameters: dict[str, Any]) -> Page:
    """The page that is asked for. Raises L{MaintenanceError}."""
    health = parameters["health_path"]
    page = Page(
        until=end_time(parameters["duration"], parameters["until"], utc_now()),
        message=parameters["text"],
        allow=tuple(parameters["allow"]),
        exempt_paths=tuple(parameters["exempt_paths"] or (health, f"{health.rstrip('/')}/")),
        retry_after_seconds=parameters["retry_after_seconds"],
    )
    fragment(page)  # refuses what is wrong, before anything is looked for
    return page


def find_stack(parameters: dict[str, Any], engine: EngineControl) -> Stack:
    settings = CheckSettings(call_timeout_seconds=parameters["call_timeout_seconds"])
    return discover(engine, parameters["project"], settings, parameters["service_names"])


def answer_of(parameters: dict[str, Any], states: TemporaryStates, dry_run: bool) -> dict[str, Any]:
    """What the module returns. Raises what the functions of C{_edges.maintenance} raise."""
    page = page_of(parameters) if parameters["state"] == ON else None
    engine = EngineControl(parameters["call_timeout_seconds"])
    stack = find_stack(parameters, engine)
    if page is not None:
        health = parameters["health_path"]
        # A duration counts from when it is said; saying it twice is not meant to change anything.
        left_seconds = (page.until - utc_now()).total_seconds()
        return page_on(
            engine,
            stack,
            page,
            states,
            health_path=health,
            dry_run=dry_run,
            tolerance_seconds=0.0 if parameters["until"] else tolerance_seconds(left_seconds),
        )
    if parameters["state"] == OFF:
        return page_off(engine, stack, states, dry_run=dry_run)
    return page_status(engine, stack, utc_now())


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)

    def work() -> dict[str, Any]:
        answer = answer_of(module.params, temporary_states(module), module.check_mode)
        return {**answer, "lines": page_lines(answer, utc_now())}

    finish(module, work, (MaintenanceError, EngineError, CollectorError))


if __name__ == "__main__":
    main()
