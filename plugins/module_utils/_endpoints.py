# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a container's port can be reached from its host, and which container a name means."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container, Stack

Address = tuple[str, int]

_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


def endpoints(container: Container, port: int) -> Sequence[Address]:
    """(address, port) pairs to try in turn: the container's own addresses, which the host
    reaches over its bridges, then where the port is published (an engine in a virtual machine,
    or without root, has no other way in)."""
    found = [(address, port) for address in container.addresses]
    if "host" in container.networks:
        found.append(("127.0.0.1", port))
    for published in container.ports:
        if published.container_port == port:
            address = _ANY.get(published.host_ip, published.host_ip)
            found.append((address, published.host_port))
    return tuple(dict.fromkeys(found))


def named(stack: Stack, host: str) -> Sequence[Container]:
    """The containers that a host name means inside the project: a service's, or the container of
    that name; running ones first, in number order."""
    matches = [
        container
        for service, containers in stack.containers.items()
        for container in containers
        if host in (service, container.name, container.id[:12])
    ]
    return sorted(matches, key=lambda one: (not one.running, one.number))


def is_address(host: str) -> bool:
    """Whether the text is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a name or address means the namespace it is used in."""
    if host.lower() in ("localhost", "localhost.localdomain"):
        return True
    return is_address(host) and ipaddress.ip_address(host).is_loopback


def first_running(containers: Sequence[Container]) -> Optional[Container]:
    """The running container with the lowest number."""
    running = [container for container in containers if container.running]
    return min(running, key=lambda one: one.number, default=None)


def place(address: Address) -> str:
    """An endpoint as people write it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
