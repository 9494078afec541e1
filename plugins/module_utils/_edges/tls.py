# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate that is served, by a handshake; those that nginx's configuration names, by
reading them in the container; both understood by the host's C{openssl}."""

from __future__ import annotations

import datetime
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._api import TLS_PORTS
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import (
    Deadline,
    HttpError,
    served_chain,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx import run_nginx
from ansible_collections.pynomaly.ops.plugins.module_utils._http import (
    Endpoint,
    excerpt,
    loopback,
    parse_url,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx import (
    TlsServer,
    concrete_name,
    tls_servers,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    CollectorError,
    Emit,
    skip,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._tls import (
    X509_OPTIONS,
    Certificate,
    expiry,
    name_check,
    parse_x509,
    reload_check,
    split_pem,
)

MAX_CHAIN = 8
MAX_FILES = 8


@dataclass(frozen=True)
class _Targets:
    served: Target
    name: Target
    file: Target
    reloaded: Target

    @property
    def all(self) -> tuple[Target, ...]:
        return (self.served, self.name, self.file, self.reloaded)


def collectors(stack: Stack, settings: CheckSettings, engine: Engine) -> list[Collector]:
    """tls.served, tls.name, tls.file and tls.reloaded of the front door."""
    service = stack.service_of("nginx")
    targets = _Targets(
        *(Target(f"tls.{name}", service) for name in ("served", "name", "file", "reloaded"))
    )
    return [
        Collector("tls", targets.all, lambda emit: _measure(stack, settings, engine, targets, emit))
    ]


def _measure(
    stack: Stack, settings: CheckSettings, engine: Engine, targets: _Targets, emit: Emit
) -> None:
    deadline = Deadline(settings.call_timeout_seconds)
    running = stack.running("nginx")
    if not running:
        _measure_without_nginx(stack, settings, deadline, targets, emit)
        return
    nginx = running[0]
    servers, unread = _configuration(engine, nginx, settings, deadline)
    doors = tls_doors(nginx, servers, settings)
    name = settings.tls_server_name or concrete_name(servers)
    if not doors:
        reason = "nginx listens for TLS on no port that can be reached"
        skip((targets.served, targets.name), emit, reason)
        chains = []
    else:
        chains = _measure_served(doors, name, deadline, targets, emit)
    _measure_files(engine, nginx, servers, unread, chains, deadline, targets, emit)


def _measure_without_nginx(
    stack: Stack,
    settings: CheckSettings,
    deadline: Deadline,
    targets: _Targets,
    emit: Emit,
) -> None:
    """A port or URL that the user names is looked at whatever serves it."""
    reason = (
        f"not measured: no container of {targets.served.service} runs"
        if stack.component("nginx")
        else "the project has no nginx"
    )
    door: Optional[Endpoint] = None
    if settings.tls_port is not None:
        door = Endpoint("https", "127.0.0.1", settings.tls_port)
    elif settings.api_url:
        try:
            door = parse_url(settings.api_url)
        except ValueError as error:
            raise CollectorError(f"api_url: {error}") from error
    if door is None or door.scheme != "https":
        skip(targets.all, emit, reason)
        return
    name = settings.tls_server_name or (door.host if settings.tls_port is None else None)
    _measure_served([door], name, deadline, targets, emit)
    skip((targets.file, targets.reloaded), emit, reason)


def tls_doors(
    nginx: Container, servers: Sequence[TlsServer], settings: CheckSettings
) -> list[Endpoint]:
    """Where nginx speaks TLS: the port the user set; else the ports that its configuration says,
    as published, or at the container's address; else the published ports usual for TLS."""
    if settings.tls_port is not None:
        return [Endpoint("https", "127.0.0.1", settings.tls_port)]
    configured = {port for server in servers for port in server.ports}
    wanted = configured or TLS_PORTS
    doors: dict[int, Endpoint] = {}
    for port in sorted(nginx.ports, key=lambda port: (":" in port.host_ip, port.host_port)):
        if port.container_port in wanted:
            doors.setdefault(
                port.container_port, Endpoint("https", loopback(port.host_ip), port.host_port)
            )
    if not doors and nginx.addresses:
        doors = {port: Endpoint("https", nginx.addresses[0], port) for port in sorted(configured)}
    return list(doors.values())


def _configuration(
    engine: Engine, nginx: Container, settings: CheckSettings, deadline: Deadline
) -> tuple[list[TlsServer], str]:
    """The TLS servers of C{nginx -T}, and why there are none where it could not be read. It may
    take half the time, so that the handshake has the other half."""
    limited = replace(settings, call_timeout_seconds=max(0.1, deadline.remaining / 2))
    try:
        exit_code, output = run_nginx(engine, nginx, "-T", limited)
    except EngineError as error:
        return [], str(error)
    if exit_code != 0:
        return [], "nginx -T fails, see nginx.config"
    return tls_servers(output), ""


def _measure_served(
    doors: Sequence[Endpoint],
    name: Optional[str],
    deadline: Deadline,
    targets: _Targets,
    emit: Emit,
) -> list[tuple[str, list[Certificate]]]:
    """Emit tls.served and tls.name; the chains seen, each with where."""
    chains: list[tuple[str, list[Certificate]]] = []
    for door in doors:
        named = replace(door, server_name=name)
        try:
            encoded = served_chain(named, deadline)
        except HttpError as error:
            emit(Measurement(targets.served, status=CRITICAL, message=f"port {door.port}: {error}"))
            skip((targets.name,), emit, f"not measured: {targets.served.id} is {CRITICAL}")
            return []
        pem = [ssl.DER_cert_to_PEM_cert(one).encode() for one in encoded[:MAX_CHAIN]]
        chains.append((f"port {door.port}", [read_certificate(one, deadline) for one in pem]))
    emit(expiry(targets.served, chains, _now()))
    leaves = [(place, chain[0]) for place, chain in chains]
    if name is None:
        skip(
            (targets.name,),
            emit,
            "no name to compare with: nginx's configuration has none, and "
            "pynomaly_tls_server_name is not set",
        )
    else:
        emit(name_check(targets.name, leaves, name))
    return chains


def _measure_files(
    engine: Engine,
    nginx: Container,
    servers: Sequence[TlsServer],
    unread: str,
    served: Sequence[tuple[str, Sequence[Certificate]]],
    deadline: Deadline,
    targets: _Targets,
    emit: Emit,
) -> None:
    both = (targets.file, targets.reloaded)
    paths = list(dict.fromkeys(path for server in servers for path in server.certificates))
    if not paths:
        skip(both, emit, f"not measured: {unread or 'the configuration names no certificate'}")
        return
    chains: list[tuple[str, list[Certificate]]] = []
    for path in paths[:MAX_FILES]:
        try:
            content = engine.read_file(nginx.id, path, max_bytes=262144)
        except EngineError as error:
            raise CollectorError(f"{path} in {nginx.name}: {error}", error.hint) from error
        blocks = split_pem(content)
        if not blocks:
            emit(
                Measurement(
                    targets.file,
                    status=CRITICAL,
                    message=f"{path}: no certificate in it, expected PEM",
                )
            )
            skip((targets.reloaded,), emit, f"not measured: {targets.file.id} is {CRITICAL}")
            return
        chains.append((path, [read_certificate(one, deadline) for one in blocks[:MAX_CHAIN]]))
    emit(expiry(targets.file, chains, _now()))
    if not served:
        skip((targets.reloaded,), emit, "not measured: no certificate was seen being served")
        return
    emit(
        reload_check(
            targets.reloaded,
            [(place, chain[0]) for place, chain in served],
            [(path, chain[0]) for path, chain in chains],
        )
    )


def read_certificate(pem: bytes, deadline: Deadline) -> Certificate:
    """One certificate, as C{openssl x509} understands it. Raises L{CollectorError}."""
    try:
        done = subprocess.run(
            ["openssl", "x509", *X509_OPTIONS],
            input=pem,
            capture_output=True,
            timeout=max(0.1, deadline.remaining),
            check=False,
        )
    except FileNotFoundError as error:
        raise CollectorError(
            "the host has no openssl, which reads certificates here",
            "install openssl: ansible-playbook pynomaly.ops.prepare",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CollectorError(
            f"openssl x509 did not finish within {deadline.seconds:g} s"
        ) from error
    if done.returncode != 0:
        raise CollectorError(f"openssl x509 cannot read a certificate: {excerpt(done.stderr)}")
    try:
        return parse_x509(done.stdout.decode("utf-8", "replace"))
    except ValueError as error:
        raise CollectorError(str(error)) from error


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
