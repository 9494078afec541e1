# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's own network: a subnet that collides with nothing on this machine."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path

from lab.cache import DEFAULT_NAME, NAME, short_hash
from lab.engine import MARK, docker, refuse_foreign
from lab.shell import LabError, say

_CANDIDATES = (
    "172.30.99.0/24",
    "172.31.99.0/24",
    "10.213.99.0/24",
    "192.168.213.0/24",
    "10.99.30.0/24",
)
# Another lab's has another fourth group, by its name.
_IPV6_GROUP = "0" if NAME == DEFAULT_NAME else short_hash(NAME)[:4]
_IPV6_SUBNET = f"fd70:796e:6f6d:{_IPV6_GROUP}::/64"


def ensure() -> ipaddress.IPv4Network:
    """Make the network where it is missing, and return its IPv4 subnet.

    Raises LabError when each candidate is taken.
    """
    existing = subnet()
    if existing is not None:
        return existing
    routes = _routes_of_this_machine()
    for candidate in map(ipaddress.IPv4Network, _CANDIDATES):
        if any(candidate.overlaps(route) for route in routes):
            continue
        try:
            docker(
                "network",
                "create",
                f"--label={MARK}",
                f"--subnet={candidate}",
                *(["--ipv6", f"--subnet={_IPV6_SUBNET}"] if _has_ipv6() else []),
                NAME,
            )
        except LabError as error:
            if "overlap" not in str(error).lower():
                raise
            continue
        say(f"made the network {NAME}, {candidate}")
        return candidate
    raise LabError(
        f"No subnet is free for the lab; it tried {', '.join(_CANDIDATES)}. "
        "See `ip route` and `docker network ls` for what holds them."
    )


def subnet() -> ipaddress.IPv4Network | None:
    """Return the IPv4 subnet of the lab's network, or None while there is no network."""
    found = refuse_foreign("network", NAME)
    if found is None:
        return None
    subnets = (ipaddress.ip_network(entry["Subnet"]) for entry in found["IPAM"]["Config"])
    return next(entry for entry in subnets if isinstance(entry, ipaddress.IPv4Network))


def registry_address(network: ipaddress.IPv4Network) -> str:
    """Return the registry's fixed address: the second of the subnet."""
    return str(network[2])


def node_address(network: ipaddress.IPv4Network, number: int) -> str:
    """Return the fixed address of node ``number``: the tenth of the subnet and up."""
    return str(network[10 + number])


def _has_ipv6() -> bool:
    return Path("/proc/net/if_inet6").exists()


def _routes_of_this_machine() -> list[ipaddress.IPv4Network]:
    """Read the kernel's IPv4 routes; the default route is left out."""
    routes = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        address, mask = (struct.pack("<L", int(fields[index], 16)) for index in (1, 7))
        if any(mask):
            routes.append(
                ipaddress.IPv4Network(
                    f"{ipaddress.IPv4Address(address)}/{ipaddress.IPv4Address(mask)}", strict=False
                )
            )
    return routes
