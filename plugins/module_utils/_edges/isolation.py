# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers taken off all their networks while they run, and put back as they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import utc_now
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._isolation import (
    CONNECTED,
    GONE,
    ISOLATED,
    ISOLATION_STATE,
    NONE_NETWORK,
    IsolatedContainer,
    IsolationError,
    NetworkEndpoint,
    chosen,
    endpoints_of,
    from_details,
    isolation_lines,
    refusal,
    remembered,
    standing,
    to_details,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

Step = Callable[[str], None]

_PROC = Path("/proc")
_UNDO = "ansible-playbook pynomaly.ops.incident_release -e isolate={name}"


def _no_step(_name: str) -> None:
    pass


def isolate(
    engine: EngineControl,
    stack: Stack,
    name: str,
    states: TemporaryStates,
    *,
    dry_run: bool = False,
    step: Step = _no_step,
) -> dict[str, Any]:
    """Take a service's containers, or one container, off its networks; what the module returns.

    All that forbids it is told before anything is done. Raises L{IsolationError}, C{EngineError},
    C{OperationError} and C{StoreError}.
    """
    containers = chosen(stack, name)
    inspections = {one.id: engine.inspection(one.id) for one in containers}
    refused = [text for one in containers if (text := refusal(one, inspections[one.id]))]
    if refused:
        raise IsolationError("; ".join(refused))
    known = {one.id: one for one in left(states)}
    wanted = [_wanted(one, inspections[one.id], known.get(one.id)) for one in containers]
    todo = [
        one
        for one in wanted
        if one.id not in known or standing(one, inspections[one.id]) != ISOLATED
    ]
    if not dry_run and todo:
        merged = {**known, **{one.id: one for one in wanted}}
        step("journal")
        _note(states, list(merged.values()))
        for one in todo:
            _cut(engine, one, step)
    shared = _sharing(engine, stack, [one.id for one in containers])
    return _answer(
        stack.project,
        [_entry(one, _inspect(engine, one.id)) for one in wanted],
        bool(todo),
        [f"{text} lives in its network, and is cut off with it" for text in shared],
    )


def connect(
    engine: EngineControl,
    stack: Stack,
    name: str,
    states: TemporaryStates,
    *,
    dry_run: bool = False,
    step: Step = _no_step,
) -> dict[str, Any]:
    """Put isolated containers back on the networks they belong on; with an empty name all of them.

    Raises what L{isolate} raises; what could not be put back is then still in the journal.
    """
    isolated = left(states)
    wanted = [one for one in isolated if not name or _is_named(one, name, stack)]
    if name and not wanted:
        chosen(stack, name)  # refuses a name that means nothing
    remarks: list[str] = []
    rest = list(isolated)
    if not dry_run:
        for one in wanted:
            _changed, said = reconnect(engine, one, step)
            remarks += said
            rest.remove(one)
            step("journal")
            _note(states, rest)
    entries = [_entry(one, _inspect(engine, one.id)) for one in wanted]
    return _answer(stack.project, entries, bool(wanted), remarks)


def status(engine: EngineControl, project: str, states: TemporaryStates) -> dict[str, Any]:
    """Which containers are isolated, by the journal, and where they are by the engine."""
    entries = [_entry(one, _inspect(engine, one.id)) for one in left(states)]
    return _answer(project, entries, False, [])


def undo(engine: EngineControl, details: Mapping[str, Any]) -> tuple[bool, str]:
    """Put back all that one record of the journal has; may be called twice."""
    changed, texts = False, []
    for one in from_details(details):
        moved, remarks = reconnect(engine, one)
        changed = changed or moved
        texts.append(f"{one.name} is on {', '.join(one.networks)}" if not remarks else remarks[0])
    return changed, "; ".join(texts) or "no container was isolated"


def left(states: TemporaryStates) -> list[IsolatedContainer]:
    """What the journal says is isolated, whoever isolated it. Raises L{IsolationError}."""
    for record in states.left():
        if record["temporary_state"] == ISOLATION_STATE:
            try:
                return from_details(record.get("details") or {})
            except (KeyError, TypeError) as error:
                raise IsolationError(
                    f"the journal's record of {ISOLATION_STATE} cannot be read: {error!r}",
                    "ansible-playbook pynomaly.ops.history",
                ) from error
    return []


def _note(states: TemporaryStates, isolated: Sequence[IsolatedContainer]) -> None:
    """One state holds all: closed with the last of them."""
    if not isolated:
        states.close(ISOLATION_STATE, "every container is on its networks")
        return
    services = sorted({one.service for one in isolated})
    states.open(
        ISOLATION_STATE,
        f"{', '.join(services)} taken off the network",
        to_details(isolated),
        _UNDO.format(name=services[0]) if len(services) == 1 else _UNDO.format(name="all"),
    )


def _wanted(
    container: Container, inspection: Mapping[str, Any], before: Optional[IsolatedContainer]
) -> IsolatedContainer:
    endpoints = endpoints_of(inspection)
    if before is not None:
        return remembered(before, endpoints)
    return IsolatedContainer(
        container.id, container.name, container.service, utc_text(utc_now()), tuple(endpoints)
    )


def _cut(engine: EngineControl, isolated: IsolatedContainer, step: Step) -> None:
    for endpoint in endpoints_of(engine.inspection(isolated.id)):
        step(f"disconnect {endpoint.network}")
        engine.disconnect(endpoint.network_id or endpoint.network, isolated.id)
    inspection = engine.inspection(isolated.id)
    settings = (inspection.get("NetworkSettings") or {}).get("Networks") or {}
    if NONE_NETWORK not in settings:
        step(f"connect {NONE_NETWORK}")
        engine.connect(NONE_NETWORK, isolated.id)
    _prove_cut(engine, isolated)


def _prove_cut(engine: EngineControl, isolated: IsolatedContainer) -> None:
    """By the engine, and by the routes in the container's own network namespace."""
    inspection = engine.inspection(isolated.id)
    names = [one.network for one in endpoints_of(inspection)]
    routes = _routes(int((inspection.get("State") or {}).get("Pid") or 0))
    if names or routes:
        seen = ", ".join(names) or f"{routes} routes in its network"
        raise IsolationError(
            f"{isolated.name} is still connected: seen {seen}, expected nothing",
            f"docker pause {isolated.name}",
        )


def _routes(pid: int) -> int:
    """IPv4 routes of a process's namespace, as the host sees them; 0 where it cannot look."""
    if pid <= 0:
        return 0
    try:
        text = (_PROC / str(pid) / "net" / "route").read_text()
    except OSError:
        return 0
    return len(text.splitlines()[1:])


def reconnect(
    engine: EngineControl, isolated: IsolatedContainer, step: Step = _no_step
) -> tuple[bool, list[str]]:
    """Put a container back; whether anything was done, and what is not as it was.

    Raises L{IsolationError} where a network it belongs on is gone, after the others.
    """
    inspection = _inspect(engine, isolated.id)
    if inspection is None:
        return False, [f"{isolated.name} is gone; what has taken its place was never isolated"]
    settings = (inspection.get("NetworkSettings") or {}).get("Networks") or {}
    on = {one.network for one in endpoints_of(inspection)}
    missing = [one for one in isolated.endpoints if one.network not in on]
    changed = False
    remarks: list[str] = []
    lost: list[str] = []
    if NONE_NETWORK in settings and isolated.endpoints:
        step(f"disconnect {NONE_NETWORK}")
        engine.disconnect(NONE_NETWORK, isolated.id)
        changed = True
    for endpoint in missing:
        step(f"connect {endpoint.network}")
        try:
            remarks += _put_back(engine, isolated, endpoint)
        except EngineError as error:
            if error.status_code != 404:
                raise
            lost.append(endpoint.network)
            continue
        changed = True
    if lost:
        raise IsolationError(
            f"{isolated.name} belongs on {', '.join(lost)}, which is gone",
            f"docker compose up --detach --no-deps {isolated.service} in the project's folder",
        )
    return changed, remarks


def _put_back(
    engine: EngineControl, isolated: IsolatedContainer, endpoint: NetworkEndpoint
) -> list[str]:
    """With the addresses that it had, where the engine gives them; those that somebody had asked
    for are a must."""
    network = endpoint.network_id
    if endpoint.network_id not in engine.network_ids().values():
        network = endpoint.network  # made anew under its old name
    configured = replace(endpoint, ipv4=endpoint.configured_ipv4, ipv6=endpoint.configured_ipv6)
    for candidate in (endpoint, configured):
        try:
            _connect(engine, network, isolated.id, candidate)
        except EngineError as error:
            if candidate is configured or error.status_code in (None, 404):
                raise
            continue
        break
    now = {one.network: one for one in endpoints_of(engine.inspection(isolated.id))}
    address = now[endpoint.network].ipv4 if endpoint.network in now else ""
    if address != endpoint.ipv4 and endpoint.ipv4 and address:
        return [
            f"{isolated.name} has {address} on {endpoint.network}, where it had {endpoint.ipv4}"
        ]
    return []


def _connect(
    engine: EngineControl, network: str, container_id: str, endpoint: NetworkEndpoint
) -> None:
    engine.connect(
        network,
        container_id,
        aliases=endpoint.aliases,
        ipv4_address=endpoint.ipv4,
        ipv6_address=endpoint.ipv6,
        links=endpoint.links,
        driver_options=endpoint.driver_options,
    )


def _inspect(engine: EngineControl, container_id: str) -> Optional[Mapping[str, Any]]:
    try:
        return engine.inspection(container_id)
    except EngineError as error:
        if error.status_code == 404:
            return None
        raise


def _is_named(isolated: IsolatedContainer, name: str, stack: Stack) -> bool:
    service = stack.components.get(name, name)
    return service == isolated.service or name in (
        isolated.service,
        isolated.name,
        isolated.id,
        isolated.id[:12],
    )


def _sharing(engine: EngineControl, stack: Stack, container_ids: Sequence[str]) -> list[str]:
    """The project's containers that live in the network of one of these."""
    found = []
    for container in (one for ones in stack.containers.values() for one in ones):
        if container.id in container_ids:
            continue
        inspection = _inspect(engine, container.id)
        mode = str(((inspection or {}).get("HostConfig") or {}).get("NetworkMode") or "")
        if mode.partition("container:")[2] in container_ids:
            found.append(container.name)
    return found


def _entry(isolated: IsolatedContainer, inspection: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "id": isolated.id,
        "name": isolated.name,
        "service": isolated.service,
        "since": isolated.since,
        "state": standing(isolated, inspection),
        "networks": isolated.networks,
    }


def _answer(
    project: str, entries: Sequence[Mapping[str, Any]], changed: bool, remarks: Sequence[str]
) -> dict[str, Any]:
    return {
        "changed": changed,
        "containers": list(entries),
        "isolated": [one["name"] for one in entries if one["state"] not in (CONNECTED, GONE)],
        "remarks": list(remarks),
        "lines": isolation_lines(entries, project),
    }
