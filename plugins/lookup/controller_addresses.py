# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: controller_addresses
short_description: Tell the addresses that the controller talks to hosts from
version_added: 0.2.0
author:
  - Pynomaly Operations (@pynomaly)
description:
  - Asks the controller's routing table where packets to a host, and to the rest of the world, would
    come from. Nothing is sent.
  - Behind address translation a host sees another address, which its own SSH connection tells.
options:
  _terms:
    description: Names or addresses of hosts.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the controller's addresses
  ansible.builtin.debug:
    msg: "{{ query('pynomaly.ops.controller_addresses', ansible_host) }}"
"""

RETURN = r"""
_raw:
  description: Addresses of the controller, without loopback.
  type: list
  elements: str
"""

import contextlib
import ipaddress
import socket
from collections.abc import Mapping
from typing import Any, Optional

from ansible.plugins.lookup import LookupBase

#: Addresses for documentation (RFC 5737, RFC 3849), which go where everything unknown goes.
_ANYWHERE = ("192.0.2.1", "2001:db8::1")
_PORT = 22


def source_addresses(target: str) -> list[str]:
    """Where packets to a host would come from; none where it has no address or no route."""
    found = []
    with contextlib.suppress(OSError, UnicodeError):
        for family, kind, protocol, _name, place in socket.getaddrinfo(
            target, _PORT, type=socket.SOCK_DGRAM
        ):
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as probe:
                # For UDP this only asks for the route.
                probe.connect(place)
                found.append(str(probe.getsockname()[0]).partition("%")[0])
    return found


class LookupModule(LookupBase):  # type: ignore[misc]
    """Each address once."""

    def run(
        self, terms: list[str], variables: Optional[Mapping[str, Any]] = None, **kwargs: Any
    ) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        sources = [one for target in (*terms, *_ANYWHERE) for one in source_addresses(str(target))]
        return [one for one in dict.fromkeys(sources) if not ipaddress.ip_address(one).is_loopback]
