# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A project's nginx told to read its configuration again, and asked until it serves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ansible_collections.pynomaly.ops.plugins.module_utils._compose import identify_components
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import by_service
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    DEFAULT_SERVICE_NAMES,
    Container,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import nginx_control
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import (
    Deadline,
    HttpError,
    get,
    served_chain,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_control import NginxError
from ansible_collections.pynomaly.ops.plugins.module_utils._endpoints import (
    Address,
    endpoints,
    place,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._http import Endpoint
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_reload import (
    Proof,
    Served,
    fingerprint,
)

_ASK_SECONDS = 2.0


def running(engine: Engine, project: str, names: Mapping[str, str]) -> Sequence[Container]:
    """The containers of a project's nginx. Raises L{NginxError} where none runs, and
    C{EngineError}."""
    containers = by_service(engine.list_project_containers(project))
    service = identify_components({}, containers, names).get("nginx")
    found = [one for one in containers.get(service or "", ()) if one.running]
    if not found:
        name = service or names.get("nginx", DEFAULT_SERVICE_NAMES["nginx"])
        raise NginxError(
            f"{name}: seen no container of it in project {project} that runs, expected one",
            f"docker compose --project-name {project} ps --all",
        )
    return found


def served(container: Container, proof: Proof) -> Served:
    """What nginx answers to a proof's questions."""
    digest, certificate = "", ""
    problems: dict[str, str] = {}
    if proof.digest:
        try:
            digest = _digest(container, proof)
        except HttpError as error:
            problems["configuration"] = str(error)
    if proof.certificate:
        try:
            certificate = _certificate(container, proof)
        except HttpError as error:
            problems["certificate"] = str(error)
    return Served(digest, certificate, problems)


def _digest(container: Container, proof: Proof) -> str:
    def ask(address: Address) -> str:
        endpoint = Endpoint("http", *address)
        answer = get(endpoint, proof.path, Deadline(_ASK_SECONDS), max_body_bytes=1024)
        if answer.status != 200:
            raise HttpError("status", f"status {answer.status} at {endpoint.url(proof.path)}")
        return answer.body.decode("utf-8", errors="replace").strip()

    return _first(container, proof.port, ask)


def _certificate(container: Container, proof: Proof) -> str:
    def ask(address: Address) -> str:
        endpoint = Endpoint("https", *address, server_name=proof.tls_server_name or None)
        return fingerprint(served_chain(endpoint, Deadline(_ASK_SECONDS))[0])

    return _first(container, proof.tls_port, ask)


def _first(container: Container, port: int, ask: Callable[[Address], str]) -> str:
    """The answer at the first of a container's addresses that gives one. Raises L{HttpError}."""
    problem = HttpError("address", f"no address of {container.name} for port {port}")
    for address in endpoints(container, port):
        try:
            return ask(address)
        except HttpError as error:
            problem = HttpError(error.kind, f"{place(address)}: {error}")
    raise problem


def reload(engine: Engine, container: Container, proof: Proof, timeout_seconds: float) -> None:
    """Let nginx read its configuration again, and poll until no worker but new ones accept
    connections and they answer as ``proof`` says.

    Raises L{NginxError}, with what was served before still served where the configuration is
    refused, and C{EngineError}.
    """
    dump = nginx_control.read_configuration(engine, container, timeout_seconds)
    if proof.digest and proof.digest not in dump:
        raise NginxError(
            f"nginx in {container.name} would read other files than were written: seen no "
            f"configuration {proof.digest[:12]} in its nginx -T, expected it. Nothing was reloaded",
            f"see what is mounted: docker inspect --format '{{{{json .Mounts}}}}' {container.name}",
        )
    try:
        nginx_control.reload(
            engine,
            container,
            timeout_seconds,
            None if proof.is_empty else lambda: served(container, proof).proves(proof),
        )
    except NginxError as error:
        difference = served(container, proof).difference(proof)
        raise NginxError(
            f"{error}; {difference}" if difference else str(error), error.hint
        ) from error
