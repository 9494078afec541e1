#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: blocklist_info
short_description: Tell which addresses a host blocks, until when, why, and where that is in force
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Compares the list that M(pynomaly.ops.blocklist) keeps with what the kernel and the project's
    nginx do keep out.
  - Changes nothing.
options:
  state_dir:
    description: Directory on the host that keeps the list.
    type: path
    default: /var/lib/pynomaly-ops
  project:
    description: Name of the Compose project whose nginx is asked; empty to ask none.
    type: str
    default: ""
  service_names:
    description: Component to service, for those that are not called as in the runbook.
    type: dict
    default: {}
  call_timeout_seconds:
    description: Seconds that one call of the engine or of Compose may take.
    type: float
    default: 10
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
requirements:
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host, to ask nginx
seealso:
  - module: pynomaly.ops.blocklist
"""

EXAMPLES = r"""
- name: Read what is blocked
  pynomaly.ops.blocklist_info:
    project: pynomaly
  register: blocklist

- name: Show it
  ansible.builtin.debug:
    msg: "{{ blocklist.lines }}"
"""

RETURN = r"""
blocks:
  description: Each block whose end is to come.
  returned: success
  type: list
  elements: dict
  contains:
    network:
      description: The address or network.
      type: str
    until:
      description: When it ends, ISO 8601 in UTC.
      type: str
    since:
      description: When it was blocked first, ISO 8601 in UTC.
      type: str
    seconds_left:
      description: Seconds that it stays as things stand.
      type: int
    reason:
      description: Why.
      type: str
    incident:
      description: The incident that it belongs to.
      type: str
    by:
      description: Who has blocked it.
      type: str
    run_id:
      description: The run that has blocked it.
      type: str
    is_confirmed:
      description: Whether it stays until then. If not, it ends at RV(blocks[].confirm_by).
      type: bool
    confirm_by:
      description: When it undoes itself unless it is confirmed; V(null) for one that is.
      type: str
    asked_from:
      description: The SSH connection that it was asked for over, address and port.
      type: str
    in_kernel:
      description: Whether the kernel keeps all of it out.
      type: bool
    in_force:
      description: Where it is in force, of V(nftables), V(iptables) and V(nginx).
      type: list
      elements: str
backend:
  description: What keeps the list, V(nftables) or V(iptables); empty where neither is there.
  returned: success
  type: str
dropped_packets:
  description: How many packets nftables has dropped since the list was last changed; V(null) with
    iptables.
  returned: success
  type: int
remarks:
  description: What the user should know, which is warned of as well.
  returned: success
  type: list
  elements: str
tables:
  description: The blocks as a table of a report.
  returned: success
  type: list
  elements: dict
lines:
  description: The blocks as text.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import BlocklistError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.blocklist import (
    Blocklist,
    BlocklistStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.blocklist_stack import (
    StackSide,
    look,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import finish
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import utc_now

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    "state_dir": {"type": "path", "default": "/var/lib/pynomaly-ops"},
    "project": {"type": "str", "default": ""},
    "service_names": {"type": "dict", "default": {}},
    "call_timeout_seconds": {"type": "float", "default": 10},
}


def answer_of(parameters: dict[str, Any]) -> dict[str, Any]:
    """What the module returns. Raises L{BlocklistError} and C{OSError}."""
    side = StackSide()
    if parameters["project"]:
        side = look(
            parameters["project"], parameters["service_names"], parameters["call_timeout_seconds"]
        )
    by_nginx = side.blocked(utc_now())
    answer = Blocklist(BlocklistStore(parameters["state_dir"])).show(by_nginx)
    return {**answer, "remarks": [*answer["remarks"], *side.remarks]}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    finish(module, lambda: answer_of(module.params), (BlocklistError, OSError))


if __name__ == "__main__":
    main()
