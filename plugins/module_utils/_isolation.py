# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Taking containers off their networks while they run: whom, what is remembered, what is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

#: The name of the temporary state, of which a project has one for all its isolated containers.
ISOLATION_STATE = "container_isolation"

#: The network of the engine that has nothing in it. A container without any network may be given
#: that of its network mode again when it starts, so an isolated one is put on this.
NONE_NETWORK = "none"

ISOLATED = "isolated"
PARTLY = "partly isolated"
CONNECTED = "connected"
GONE = "gone"


class IsolationError(CollectorError):
    """A container cannot be taken off its networks, or not be put back. ``hint`` is what to run
    next."""


@dataclass(frozen=True)
class NetworkEndpoint:
    """How a container is on a network.

    ``configured_ipv4`` and ``configured_ipv6`` are addresses that somebody asked for; ``ipv4`` and
    ``ipv6`` those it had.
    """

    network: str
    network_id: str
    aliases: Sequence[str] = ()
    ipv4: str = ""
    ipv6: str = ""
    configured_ipv4: str = ""
    configured_ipv6: str = ""
    links: Sequence[str] = ()
    driver_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IsolatedContainer:
    """A container and the networks that it belongs on."""

    id: str
    name: str
    service: str
    since: str
    endpoints: Sequence[NetworkEndpoint] = ()

    @property
    def networks(self) -> list[str]:
        return [one.network for one in self.endpoints]


def endpoints_of(inspection: Mapping[str, Any]) -> list[NetworkEndpoint]:
    """The networks that ``GET /containers/ID/json`` names, without the engine's empty one."""
    identifier = str(inspection["Id"])
    found = []
    settings = (inspection.get("NetworkSettings") or {}).get("Networks") or {}
    for name, one in sorted(settings.items()):
        if name == NONE_NETWORK or not one:
            continue
        configured = one.get("IPAMConfig") or {}
        found.append(
            NetworkEndpoint(
                network=name,
                network_id=str(one.get("NetworkID") or ""),
                # The engine adds the short id itself.
                aliases=tuple(
                    alias for alias in one.get("Aliases") or () if not identifier.startswith(alias)
                ),
                ipv4=str(one.get("IPAddress") or ""),
                ipv6=str(one.get("GlobalIPv6Address") or ""),
                configured_ipv4=str(configured.get("IPv4Address") or ""),
                configured_ipv6=str(configured.get("IPv6Address") or ""),
                links=tuple(one.get("Links") or ()),
                driver_options=dict(one.get("DriverOpts") or {}),
            )
        )
    return found


def refusal(container: Container, inspection: Mapping[str, Any]) -> str:
    """Why a container cannot be isolated by its networks, with what to do instead; empty where it
    can."""
    mode = str((inspection.get("HostConfig") or {}).get("NetworkMode") or "")
    if mode == "host":
        return (
            f"{container.name} is on the host's own network, which it cannot be taken off; "
            "instead: block the address with incident_contain -e block=ADDRESS, or freeze it as it "
            f"is: docker pause {container.name}"
        )
    if mode.startswith("container:"):
        owner = mode[len("container:") :][:12]
        return (
            f"{container.name} lives in the network of container {owner}; instead: isolate that one"
        )
    return ""


def chosen(stack: Stack, name: str) -> list[Container]:
    """The containers that a service's, a component's or a container's name means.

    Raises L{IsolationError} where the project has none of that name.
    """
    service = stack.components.get(name, name)
    for candidate in (name, service):
        if stack.containers.get(candidate):
            return list(stack.containers[candidate])
    everything = [one for ones in stack.containers.values() for one in ones]
    found = [one for one in everything if name in (one.name, one.id, one.id[:12])]
    if found:
        return found
    known = ", ".join(sorted(stack.containers)) or "nothing: it has no containers"
    raise IsolationError(
        f"{stack.project} has no service and no container {name!r}, expected one of: {known}",
        "ansible-playbook pynomaly.ops.status",
    )


def to_details(isolated: Iterable[IsolatedContainer]) -> dict[str, Any]:
    """What the journal keeps; the state has no end but being undone."""
    return {"open_ended": True, "containers": [asdict(one) for one in isolated]}


def from_details(details: Mapping[str, Any]) -> list[IsolatedContainer]:
    """L{to_details}' inverse. Raises C{KeyError} for what the journal lacks."""
    return [
        IsolatedContainer(
            **{
                **entry,
                "endpoints": tuple(NetworkEndpoint(**one) for one in entry["endpoints"]),
            }
        )
        for entry in details["containers"]
    ]


def remembered(before: IsolatedContainer, now: Sequence[NetworkEndpoint]) -> IsolatedContainer:
    """What was remembered when the container was first isolated, with networks that it has been put
    on since."""
    known = {one.network for one in before.endpoints}
    added = [one for one in now if one.network not in known]
    return IsolatedContainer(
        before.id, before.name, before.service, before.since, (*before.endpoints, *added)
    )


def standing(isolated: IsolatedContainer, inspection: Mapping[str, Any] | None) -> str:
    """Where a container that is to be isolated is now; ``inspection`` is C{None} for one that is
    gone. Without any network, not even the empty one, it is not safe from its next start."""
    if inspection is None:
        return GONE
    left = {one.network for one in endpoints_of(inspection)}
    if not left:
        settings = (inspection.get("NetworkSettings") or {}).get("Networks") or {}
        return ISOLATED if NONE_NETWORK in settings or not isolated.endpoints else PARTLY
    return CONNECTED if left >= set(isolated.networks) else PARTLY


def isolation_lines(containers: Sequence[Mapping[str, Any]], project: str) -> list[str]:
    """What people read, a line a container."""
    lines = []
    for one in containers:
        networks = ", ".join(one["networks"]) or "no network"
        belongs = f"; belongs on {networks}" if one["state"] in (ISOLATED, PARTLY) else ""
        on = f" to {networks}" if one["state"] == CONNECTED else ""
        lines.append(f"{one['name']} ({one['service']}): {one['state']}{on}{belongs}")
    return lines or [f"no container of {project} is isolated"]
