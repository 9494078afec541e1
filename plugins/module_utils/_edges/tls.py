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
from dataclasses import replace
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
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx import Configurations
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


Chains = Sequence[tuple[str, Sequence[Certificate]]]


def collectors(
    stack: Stack,
    settings: CheckSettings,
    engine: Engine,
    configurations: Optional[Configurations] = None,
) -> list[Collector]:
    """tls.served, tls.name, tls.file and tls.reloaded of the front door."""
    asked = configurations or Configurations(engine, settings)
    check = _TlsCheck(stack, settings, engine, asked)
    return [Collector("tls", check.targets, check.run)]


class _TlsCheck:
    """One look at the front door's certificates. The files come first: a port that hangs takes
    all the time there is."""

    def __init__(
        self,
        stack: Stack,
        settings: CheckSettings,
        engine: Engine,
        configurations: Configurations,
    ) -> None:
        service = stack.service_of("nginx")
        self._stack = stack
        self._settings = settings
        self._engine = engine
        self._configurations = configurations
        self._served = Target("tls.served", service)
        self._name = Target("tls.name", service)
        self._file = Target("tls.file", service)
        self._reloaded = Target("tls.reloaded", service)
        self.targets = (self._served, self._name, self._file, self._reloaded)

    def run(self, emit: Emit) -> None:
        deadline = Deadline(self._settings.call_timeout_seconds)
        running = self._stack.running("nginx")
        if not running:
            self._measure_without_nginx(deadline, emit)
            return
        nginx = running[0]
        servers, unread = _configuration(self._configurations, nginx, deadline)
        files = self._measure_files(nginx, servers, unread, deadline, emit)
        doors = tls_doors(nginx, servers, self._settings)
        served: Chains = ()
        if doors:
            name = self._settings.tls_server_name or concrete_name(servers)
            served = self._measure_served(doors, name, deadline, emit)
        else:
            reason = "nginx listens for TLS on no port that can be reached"
            skip((self._served, self._name), emit, reason)
        if files and served:
            emit(
                reload_check(
                    self._reloaded,
                    [(place, chain[0]) for place, chain in served],
                    [(path, chain[0]) for path, chain in files],
                )
            )
        else:
            missing = "served" if files else "in a file"
            skip((self._reloaded,), emit, f"not measured: no certificate was seen {missing}")

    def _measure_without_nginx(self, deadline: Deadline, emit: Emit) -> None:
        """A port or URL that the user names is looked at whatever serves it."""
        settings = self._settings
        reason = (
            f"not measured: no container of {self._served.service} runs"
            if self._stack.component("nginx")
            else "the project has no nginx"
        )
        door: Optional[Endpoint] = None
        name = settings.tls_server_name
        if settings.tls_port is not None:
            door = Endpoint("https", "127.0.0.1", settings.tls_port)
        elif settings.api_url:
            try:
                door = parse_url(settings.api_url)
            except ValueError as error:
                raise CollectorError(f"api_url: {error}") from error
            name = name or door.host
        if door is None or door.scheme != "https":
            skip(self.targets, emit, reason)
            return
        self._measure_served([door], name, deadline, emit)
        skip((self._file, self._reloaded), emit, reason)

    def _measure_files(
        self,
        nginx: Container,
        servers: Sequence[TlsServer],
        unread: str,
        deadline: Deadline,
        emit: Emit,
    ) -> Chains:
        """Emit tls.file; the chains in the files, none where one cannot be read."""
        paths = list(dict.fromkeys(path for server in servers for path in server.certificates))
        if not paths:
            why = f"not measured: {unread}" if unread else "nginx's configuration names none"
            skip((self._file,), emit, why)
            return ()
        chains = []
        for path in paths[:MAX_FILES]:
            try:
                blocks = split_pem(self._engine.read_file(nginx.id, path, max_bytes=262144))
                chain = [read_certificate(one, deadline) for one in blocks[:MAX_CHAIN]]
            except CollectorError as error:
                emit(
                    Measurement(
                        self._file,
                        status=error.status,
                        message=f"{path}: {error}",
                        hint=error.hint or None,
                    )
                )
                return ()
            if not chain:
                message = f"{path}: no certificate in it, expected PEM"
                emit(Measurement(self._file, status=CRITICAL, message=message))
                return ()
            chains.append((path, chain))
        emit(expiry(self._file, chains, _now()))
        return chains

    def _measure_served(
        self, doors: Sequence[Endpoint], name: Optional[str], deadline: Deadline, emit: Emit
    ) -> Chains:
        """Emit tls.served and tls.name; the chains seen, none where a door fails."""
        chains = []
        for door in doors:
            place = f"port {door.port}"
            try:
                encoded = served_chain(replace(door, server_name=name), deadline)
            except HttpError as error:
                emit(Measurement(self._served, status=CRITICAL, message=f"{place}: {error}"))
                skip((self._name,), emit, f"not measured: {self._served.id} is {CRITICAL}")
                return ()
            pem = [ssl.DER_cert_to_PEM_cert(one).encode() for one in encoded[:MAX_CHAIN]]
            chains.append((place, [read_certificate(one, deadline) for one in pem]))
        emit(expiry(self._served, chains, _now()))
        if name is None:
            skip(
                (self._name,),
                emit,
                "no name to compare with: nginx's configuration has none, and "
                "pynomaly_check_tls_server_name is not set",
            )
        else:
            emit(name_check(self._name, [(place, chain[0]) for place, chain in chains], name))
        return chains


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
    configurations: Configurations, nginx: Container, deadline: Deadline
) -> tuple[list[TlsServer], str]:
    """The TLS servers of C{nginx -T}, and why there are none where it could not be read. It may
    take half the time, so that the handshake has the other half."""
    try:
        exit_code, output = configurations.read(nginx, max(0.1, deadline.remaining / 2))
    except EngineError as error:
        return [], str(error)
    if exit_code != 0:
        return [], "nginx -T fails, see nginx.config"
    return tls_servers(output), ""


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
