# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding out where an application's own host names lead to, and reading its secrets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._endpoints import (
    Address,
    endpoints,
    is_address,
    is_loopback,
    named,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import CRITICAL, UNKNOWN


@dataclass(frozen=True)
class Route:
    """Where a name leads: ``container`` where it is one of the project's, C{None} elsewhere.

    With no ``addresses``, ``problem`` says why, and ``status`` how bad that is.
    """

    addresses: Sequence[Address] = ()
    container: Container | None = None
    problem: str = ""
    status: str = UNKNOWN


def secret_reader(engine: Engine, container: Container) -> Callable[[str], str]:
    """Reads files of the container as text."""
    return lambda path: engine.read_file(container.id, path).decode("utf-8", "replace")


def route(stack: Stack, engine: Engine, client: Container, address: Address) -> Route:
    """Where an address leads to when ``client``, a container of the project, says it."""
    host, port = address
    if is_loopback(host):
        if "host" in client.networks:
            return Route((("127.0.0.1", port),))
        return Route(
            problem=f'"{host}" is the inside of {client.name}, where this check cannot look'
        )
    containers = named(stack, host)
    if containers:
        return _route_to(containers[0], port)
    if is_address(host):
        return _owner(stack, host, port)
    return _resolved(stack, engine, client, address)


def _resolved(stack: Stack, engine: Engine, client: Container, address: Address) -> Route:
    """A name that is no service's and no container's, resolved inside ``client``, because network
    aliases and ``extra_hosts`` exist only there."""
    host, port = address
    if not client.running:
        return Route(problem=f'"{host}" cannot be resolved: {client.name} is {client.state}')
    try:
        code, output = engine.run(client.id, ["getent", "hosts", host], engine.timeout_seconds)
    except EngineError as error:
        return Route(problem=f'"{host}" cannot be resolved inside {client.name}: {error}')
    words = output.split()
    if code == 0 and words and is_address(words[0]):
        return _owner(stack, words[0], port)
    if code == 2:
        return Route(
            problem=f'"{host}" is a name that {client.name} cannot resolve', status=CRITICAL
        )
    return Route(problem=f'"{host}" is no service of the project and was not resolved')


def _route_to(container: Container, port: int) -> Route:
    if not container.running:
        return Route((), container, f"{container.name} is {container.state}")
    addresses = endpoints(container, port)
    return Route(addresses, container, "" if addresses else f"{container.name} has no address")


def _owner(stack: Stack, address: str, port: int) -> Route:
    """A plain address, with the project's container that has it, if one does."""
    for containers in stack.containers.values():
        for container in containers:
            if address in container.addresses:
                return Route(((address, port),), container)
    return Route(((address, port),))
