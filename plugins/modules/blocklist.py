#!/usr/bin/python
# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: blocklist
short_description: Block addresses on a host until a moment, and let them in again
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - A blocked address gets nothing from the host, its containers and docker-proxy, over IPv4 and
    IPv6, over new connections and over those that are open. Nothing is sent to it either.
  - An own nftables table C(inet pynomaly_ops) does that, at priority raw, loaded in one
    transaction; the kernel lets go of each element at its end. Where there is no C(nft), an own
    chain in the table raw of C(iptables) and C(ip6tables) makes the same promise.
  - What is wanted is in C(STATE_DIR/blocklist.json) with absolute times before the kernel is told.
  - A new block undoes itself after O(confirm_seconds) unless O(state=confirmed) is called over
    another connection, so that nobody locks himself out.
  - Where the project's nginx has its clients' addresses from a load balancer's header, nginx blocks
    them as well.
  - Everything that is wrong with O(networks) is told at once, and nothing is changed then. Refused
    are what is no address, networks wider than a /16 (IPv4) or a /32 (IPv6), loopback and the like,
    the host's own addresses, gateways and name servers, Docker's subnets and gateways, the SSH
    client, O(controller_addresses), O(allow), and the load balancers that nginx trusts.
  - The change is in the journal before it is made, as the temporary state C(blocked_addresses).
  - To be run under the host's lock.
extends_documentation_fragment:
  - pynomaly.ops.operation
options:
  state:
    description:
      - V(present) blocks O(networks), V(absent) lets in again what lies in them, V(confirmed) lets
        them stay.
    type: str
    choices: [present, absent, confirmed]
    default: present
  networks:
    description: Addresses and networks. With O(state=absent) V(all) is every one.
    type: list
    elements: str
    default: []
  duration:
    description:
      - How long, for instance V(30m), V(24h) or V(7d); 366 days at most. Said again it moves the
        end only where that differs by more than five minutes, or a hundredth of a long one, or
        half of a short one.
    type: str
    default: 24h
  until:
    description: When the block ends, ISO 8601, in place of O(duration). UTC where it names no zone.
    type: str
    default: ""
  reason:
    description: Why, on a line.
    type: str
    default: ""
  incident:
    description: The incident that it belongs to. With O(state=absent) and no O(networks), all of
      it is let in again.
    type: str
    default: ""
  allow:
    description: Addresses and networks that are never blocked.
    type: list
    elements: str
    default: []
  controller_addresses:
    description: The controller's own addresses, which are never blocked.
    type: list
    elements: str
    default: []
  confirm_seconds:
    description: How long a new block stays unless it is confirmed; V(0) for one that needs no
      confirmation.
    type: int
    default: 30
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
    description: Refuses what it would refuse, and changes nothing.
    support: full
  diff_mode:
    description: There is no diff to show.
    support: none
requirements:
  - nftables, or iptables and ip6tables, and iproute2 on the host
  - python3-docker (the Docker SDK for Python, 5.0 or newer) on the host
notes:
  - Containers in macvlan and ipvlan networks are on the wire themselves. What they get does not
    pass the host's packet filter, which a remark says.
seealso:
  - module: pynomaly.ops.blocklist_info
"""

EXAMPLES = r"""
- name: Block an address and a network for a day
  pynomaly.ops.blocklist:
    networks: [203.0.113.7, "2001:db8::/48"]
    reason: scanning
    operation: incident_contain
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
  register: blocked

- name: Come back over a new connection
  ansible.builtin.meta: reset_connection

- name: Let the blocks stay
  pynomaly.ops.blocklist:
    state: confirmed
    networks: "{{ blocked.awaits_confirmation }}"
    operation: incident_contain
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"

- name: Let the address in again
  pynomaly.ops.blocklist:
    state: absent
    networks: [203.0.113.7]
    operation: incident_release
    project: pynomaly
    run: "{{ lookup('pynomaly.ops.run_identity') }}"
"""

RETURN = r"""
added:
  description: Networks that are blocked anew; in check mode, that would be.
  returned: success
  type: list
  elements: str
moved:
  description: Networks whose end has changed, or that were confirmed.
  returned: success
  type: list
  elements: str
removed:
  description: Networks that are let in again.
  returned: success
  type: list
  elements: str
blocked:
  description: All networks that are blocked afterwards.
  returned: success
  type: list
  elements: str
awaits_confirmation:
  description: Networks that undo themselves unless O(state=confirmed) follows; none in check mode.
  returned: success
  type: list
  elements: str
confirm_by:
  description: Until when that has to be, ISO 8601 in UTC.
  returned: success
  type: str
foreseen:
  description: Whether nothing was done, in check mode.
  returned: success
  type: bool
sockets_closed:
  description: How many open sockets with the blocked addresses were closed; V(null) where that was
    not tried, or nobody could.
  returned: success
  type: int
tracked_forgotten:
  description: How many entries of connection tracking were removed; V(null) where there is no
    C(conntrack).
  returned: success
  type: int
nginx:
  description: Whether nginx blocks the same, C(changed) and C(in_force), and C(skipped) why not.
  returned: where nginx was asked
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

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import BlocklistError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.blocklist import (
    Blocklist,
    BlocklistStore,
    Request,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.blocklist_stack import (
    StackSide,
    look,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_module import (
    finish,
    operation_argument_spec,
    run_identity,
    temporary_states,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import utc_now

PRESENT = "present"
ABSENT = "absent"
CONFIRMED = "confirmed"

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **operation_argument_spec(),
    "state": {"type": "str", "choices": [PRESENT, ABSENT, CONFIRMED], "default": PRESENT},
    "networks": {"type": "list", "elements": "str", "default": []},
    "duration": {"type": "str", "default": "24h"},
    "until": {"type": "str", "default": ""},
    "reason": {"type": "str", "default": ""},
    "incident": {"type": "str", "default": ""},
    "allow": {"type": "list", "elements": "str", "default": []},
    "controller_addresses": {"type": "list", "elements": "str", "default": []},
    "confirm_seconds": {"type": "int", "default": 30},
    "service_names": {"type": "dict", "default": {}},
    "call_timeout_seconds": {"type": "float", "default": 10},
}


def request_of(parameters: dict[str, Any], side: StackSide) -> Request:
    return Request(
        networks=parameters["networks"],
        duration=parameters["duration"],
        until=parameters["until"],
        reason=parameters["reason"],
        incident=parameters["incident"],
        allow=parameters["allow"],
        controller_addresses=parameters["controller_addresses"],
        protected=side.protected,
        confirm_seconds=parameters["confirm_seconds"],
    )


def answer_of(parameters: dict[str, Any], blocks: Blocklist) -> dict[str, Any]:
    """What the module returns. Raises L{BlocklistError}, C{StoreError} and C{OSError}."""
    if parameters["state"] == CONFIRMED:
        # What counts is that it is confirmed in time: the engine is asked afterwards.
        answer = blocks.confirm(parameters["networks"])
    side = look(
        parameters["project"], parameters["service_names"], parameters["call_timeout_seconds"]
    )
    if parameters["state"] == PRESENT:
        answer = blocks.block(request_of(parameters, side))
    elif parameters["state"] == ABSENT:
        answer = blocks.release(parameters["networks"], parameters["incident"])
    if answer["awaits_confirmation"] or (blocks.dry_run and answer["changed"]):
        return {**answer, "remarks": [*answer["remarks"], *side.remarks]}
    by_nginx = side.apply(blocks.store.read().blocks, utc_now(), dry_run=blocks.dry_run)
    return {
        **answer,
        "changed": answer["changed"] or by_nginx["changed"],
        "nginx": {name: by_nginx.get(name) for name in ("changed", "in_force", "skipped")},
        "remarks": [*answer["remarks"], *side.remarks],
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)

    def work() -> dict[str, Any]:
        blocks = Blocklist(
            BlocklistStore(module.params["state_dir"]),
            temporary_states(module),
            run_identity(module),
            dry_run=module.check_mode,
        )
        return {**answer_of(module.params, blocks), "foreseen": module.check_mode}

    finish(module, work, (BlocklistError, OSError))


if __name__ == "__main__":
    main()
