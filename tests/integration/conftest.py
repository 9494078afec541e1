# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real servers in containers of this machine's engine, labelled as Compose labels them.

Everything made here is named ``inttest-*``, carries the label ``ops.pynomaly.lab=true``, and is
taken away again.
"""

from __future__ import annotations

import datetime
import json
import os
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import by_service
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    Measurement,
    Policy,
    parse_thresholds,
    result,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    run_collectors,
)

COMMAND_SECONDS = 60.0
READY_SECONDS = 60.0
LABEL = "ops.pynomaly.lab=true"
DAY = datetime.date(2026, 1, 1)


def docker(
    *arguments: str, check: bool = True, timeout_seconds: float = COMMAND_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run the docker CLI; fails the test on a non-zero exit unless ``check`` is false."""
    done = subprocess.run(
        ["docker", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done


def wait_until(what: str, ready: Callable[[], Any], timeout_seconds: float = READY_SECONDS) -> Any:
    """Poll until ``ready`` gives something true; its last answer is part of the failure."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        seen = ready()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"not within {timeout_seconds} s: {what}; saw {seen!r}"
        time.sleep(0.05)


def image(name: str) -> str:
    """The image to test with: the lab's own, or the one that PYNOMALY_TEST_<NAME>_IMAGE names."""
    chosen = os.environ.get(f"PYNOMALY_TEST_{name.upper()}_IMAGE")
    reference = chosen or f"pynomaly-lab/{name}:lab"
    seen = docker("image", "inspect", reference, check=False)
    assert seen.returncode == 0, (
        f"the engine has no image {reference}; run ./lab up, or set PYNOMALY_TEST_"
        f"{name.upper()}_IMAGE to an image of {name}"
    )
    return reference


@dataclass
class Project:
    """Containers that look like a Compose project's."""

    engine: Engine
    name: str = field(default_factory=lambda: f"inttest-{uuid.uuid4().hex[:8]}")
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        docker("network", "create", "--label", LABEL, self.name)

    def start(
        self,
        service: str,
        image_name: str,
        environment: dict[str, str] | None = None,
        command: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> Container:
        """Start one container of a service; its number is the next one."""
        number = 1 + sum(name.startswith(f"{self.name}-{service}-") for name in self.names)
        name = f"{self.name}-{service}-{number}"
        self.names.append(name)
        labels = {
            "com.docker.compose.project": self.name,
            "com.docker.compose.service": service,
            "com.docker.compose.container-number": str(number),
            "com.docker.compose.oneoff": "False",
        }
        arguments = ["--label", LABEL, "--network", self.name, "--network-alias", service]
        for key, value in labels.items():
            arguments += ["--label", f"{key}={value}"]
        for key, value in (environment or {}).items():
            arguments += ["--env", f"{key}={value}"]
        docker("run", "--detach", "--name", name, *arguments, *options, image(image_name), *command)
        return self.container(service, number)

    def client(self, environment: dict[str, str]) -> Container:
        """A container in the place of the API: only its environment is looked at."""
        return self.start(
            "pynomaly-api", "redis", environment, ["infinity"], ["--entrypoint", "sleep"]
        )

    def container(self, service: str, number: int = 1) -> Container:
        """As the engine tells it now."""
        return next(one for one in self.stack().containers[service] if one.number == number)

    def stack(self, **components: str) -> Stack:
        """The project as the check finds it."""
        containers = by_service(self.engine.list_project_containers(self.name))
        known = {
            "api": "pynomaly-api",
            "postgres": "postgres",
            "redis": "redis-cluster",
            **components,
        }
        return Stack(
            self.name,
            containers=containers,
            components={
                component: service for component, service in known.items() if service in containers
            },
        )

    def remove(self, service: str, number: int = 1) -> None:
        """Take one container away."""
        name = f"{self.name}-{service}-{number}"
        docker("rm", "--force", "--volumes", name)
        self.names.remove(name)

    def close(self) -> None:
        """Take everything away, whatever it does."""
        for name in self.names:
            docker("rm", "--force", "--volumes", name, check=False)
        docker("network", "rm", self.name, check=False)


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(5.0)


@pytest.fixture(scope="module")
def project(engine: Engine) -> Iterator[Project]:
    made = Project(engine)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def compose_plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where this machine has no Compose, the one of the lab's nodes serves."""
    patch = pytest.MonkeyPatch()
    if docker("compose", "version", check=False).returncode:
        folder = tmp_path_factory.mktemp("docker")
        made = docker("create", image("node")).stdout.strip()
        try:
            (folder / "cli-plugins").mkdir()
            source = f"{made}:/usr/libexec/docker/cli-plugins/docker-compose"
            docker("cp", source, f"{folder}/cli-plugins/")
        finally:
            docker("rm", made)
        patch.setenv("DOCKER_CONFIG", str(folder))
    yield
    patch.undo()


@pytest.fixture
def client(project: Project) -> Iterator[Callable[[dict[str, str]], Container]]:
    """Makes containers in the place of the API, taken away after the test."""
    made: list[Container] = []

    def make(environment: dict[str, str]) -> Container:
        made.append(project.client(environment))
        return made[-1]

    yield make
    for one in made:
        project.remove(one.service, one.number)


def with_service(stack: Stack, service: str, container: Container) -> Stack:
    """The stack with a service's containers replaced by this one."""
    return replace(stack, containers={**stack.containers, service: (container,)})


def judged(
    collectors: Sequence[Collector],
    deadline_seconds: float = 15.0,
    thresholds: dict[str, Any] | None = None,
    secrets: Sequence[str] = (),
) -> dict[str, dict[str, Any]]:
    """The results by probe id (``id@instance`` where there is one), with no secret in any."""
    measurements: list[Measurement] = run_collectors(collectors, deadline_seconds)
    policy = Policy(CATALOGUE, parse_thresholds(thresholds or {}, CATALOGUE))
    found = {}
    for measurement in measurements:
        entry = result(measurement, policy, DAY)
        text = json.dumps(entry, default=str) + repr(measurement)
        assert not [secret for secret in secrets if secret in text], f"a secret is told: {text}"
        found[entry["id"] + (f"@{entry['instance']}" if entry["instance"] else "")] = entry
    return found


def trouble(results: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The probes that are neither ok nor skipped, with their statuses."""
    return {
        name: entry["status"]
        for name, entry in results.items()
        if entry["status"] not in ("ok", "skipped")
    }


class Relay:
    """A TCP relay to a server that falls silent once the client has sent ``until``: a server that
    hangs in the middle of a session, at a place of the test's choosing."""

    def __init__(self, address: tuple[str, int], until: bytes) -> None:
        self._target = address
        self._until = until
        self._silent = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _address = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target, timeout=5)
            far.settimeout(None)
            self._sockets += [near, far]
            threading.Thread(target=self._copy, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._copy, args=(far, near, False), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, watch: bool) -> None:
        try:
            while data := source.recv(65536):
                if watch and self._until in data:
                    self._silent.set()
                if not self._silent.is_set():
                    sink.sendall(data)
        except OSError:
            return

    @property
    def fell_silent(self) -> bool:
        return self._silent.is_set()

    def close(self) -> None:
        for one in (self._listener, *self._sockets):
            one.close()
