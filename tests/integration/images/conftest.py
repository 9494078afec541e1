# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small Docker sandbox: everything it makes is named `imgtest-*` and taken away again."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

IMAGES = Path(__file__).parents[2] / "lab" / "images"
BUILD_SECONDS = 600
COMMAND_SECONDS = 60
READY_SECONDS = 60


@dataclass(frozen=True)
class Result:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams."""
        return self.out + self.err


def docker(
    *arguments: str,
    check: bool = True,
    stdin: str | None = None,
    timeout_seconds: float = COMMAND_SECONDS,
) -> Result:
    """Run the docker CLI; fails the test on a non-zero exit unless `check` is false."""
    done = subprocess.run(
        ["docker", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )
    result = Result(done.returncode, done.stdout, done.stderr)
    assert not check or result.code == 0, f"docker {' '.join(arguments)}: {result.text}"
    return result


def wait_until(what: str, ready: Callable[[], Any], timeout_seconds: float = READY_SECONDS) -> Any:
    """Poll `ready` until it gives something true; its last answer is part of the failure."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        seen = ready()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"not within {timeout_seconds} s: {what}; saw {seen!r}"
        time.sleep(0.1)


def tcp_opens(address: str, port: int) -> bool:
    """Whether something listens there."""
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def oom_killed(container_id: str) -> bool:
    """Whether the kernel's log has an OOM kill in this container's cgroup.

    The engine's own `State.OOMKilled` stays false on cgroup v1 under recent kernels.
    """
    done = subprocess.run(
        ["dmesg"], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True
    )
    return any("oom-kill:" in line and container_id in line for line in done.stdout.splitlines())


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. Status 0: there was none."""

    status: int
    body: str
    seconds: float
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def http_request(
    url: str, body: Any = None, timeout_seconds: float = 5, method: str | None = None
) -> Answer:
    """GET, or POST `body` as JSON."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    started = time.monotonic()
    connection = http.client.HTTPConnection(
        parts.hostname, parts.port or 80, timeout=timeout_seconds
    )
    try:
        connection.request(
            method or ("GET" if body is None else "POST"),
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            None if body is None else json.dumps(body),
            {} if body is None else {"Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        text = answer.read().decode()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, text, time.monotonic() - started, headers)
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, f"{type(error).__name__}: {error}", time.monotonic() - started, {})
    finally:
        connection.close()


class Container:
    """A container that was started."""

    def __init__(self, name: str) -> None:
        self.name = name

    def inspect(self) -> dict[str, Any]:
        """What `docker inspect` says."""
        content: list[dict[str, Any]] = json.loads(docker("inspect", self.name).out)
        return content[0]

    @property
    def address(self) -> str:
        """Its address on its network."""
        networks = self.inspect()["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return bool(self.inspect()["State"]["Running"])

    def logs(self) -> str:
        """Both streams of its log."""
        return docker("logs", self.name).text

    def execute(self, *command: str, check: bool = True, stdin: str | None = None) -> Result:
        """Run a command in it."""
        interactive = ("-i",) if stdin is not None else ()
        return docker("exec", *interactive, self.name, *command, check=check, stdin=stdin)

    def exit_code(self, timeout_seconds: float = READY_SECONDS) -> int:
        """Wait for its end."""
        return int(docker("wait", self.name, timeout_seconds=timeout_seconds).out)

    def opens(self, port: int) -> None:
        """Wait until something in it listens on `port`; fails at once when it has ended."""

        def listens() -> bool:
            assert self.running, f"{self.name} has ended; its log: {self.logs()}"
            return tcp_opens(self.address, port)

        wait_until(f"{self.name} opens port {port}", listens)

    def stop(self, grace_seconds: int = 10) -> float:
        """Stop it; the seconds that took."""
        started = time.monotonic()
        docker("stop", "--time", str(grace_seconds), self.name)
        return time.monotonic() - started

    def remove(self) -> None:
        """Remove it, whatever it does."""
        docker("rm", "--force", "--volumes", self.name, check=False)


class Sandbox:
    """One network, and what runs on it."""

    def __init__(self, image_of: Callable[[str], str]) -> None:
        self.image_of = image_of
        self.token = uuid.uuid4().hex[:8]
        self.network = f"imgtest-{self.token}"
        self.containers: list[Container] = []
        self.volumes: list[str] = []
        docker("network", "create", self.network)

    def _name(self, alias: str) -> str:
        return f"imgtest-{self.token}-{len(self.containers)}-{alias}"

    def run(
        self,
        image: str,
        *command: str,
        alias: str | None = None,
        options: tuple[str, ...] = (),
        **environment: str,
    ) -> Container:
        """Start `image` (`directory` or `directory:variant`), known on the network as `alias`."""
        alias = alias or image.partition(":")[0]
        container = Container(self._name(alias))
        self.containers.append(container)
        settings = [f"--env={name}={value}" for name, value in environment.items()]
        docker(
            "run", "--detach", "--name", container.name, "--network", self.network,
            "--network-alias", alias, *settings, *options, self.image_of(image), *command,
        )  # fmt: skip
        return container

    def once(
        self, image: str, *command: str, options: tuple[str, ...] = (), check: bool = True
    ) -> Result:
        """Run one command in a container of its own, on the same network."""
        return docker(
            "run", "--rm", "--name", f"imgtest-{self.token}-once-{uuid.uuid4().hex[:6]}",
            "--network", self.network, *options, self.image_of(image), *command, check=check,
        )  # fmt: skip

    def volume(self) -> str:
        """A new named volume."""
        name = f"imgtest-{self.token}-{len(self.volumes)}"
        docker("volume", "create", name)
        self.volumes.append(name)
        return name

    def close(self) -> None:
        """Take everything away."""
        for container in self.containers:
            container.remove()
        for volume in self.volumes:
            docker("volume", "rm", "--force", volume, check=False)
        docker("network", "rm", self.network, check=False)


@pytest.fixture(scope="session")
def image_of() -> Iterator[Callable[[str], str]]:
    """Builds an image from its directory once (the engine's cache makes that cheap)."""
    built: dict[str, str] = {}

    def build(image: str) -> str:
        if image not in built:
            directory, _, variant = image.partition(":")
            description = json.loads((IMAGES / directory / "image.json").read_text())
            variants = {entry["name"]: entry for entry in description.get("variants", [])}
            values = variants[variant].get("args", {}) if variant else {}
            arguments = [f"--build-arg={name}={value}" for name, value in values.items()]
            tag = f"imgtest/{directory}:{variant or 'lab'}"
            docker(
                "build", "--quiet", "--tag", tag, *arguments, str(IMAGES / directory),
                timeout_seconds=BUILD_SECONDS,
            )  # fmt: skip
            built[image] = tag
        return built[image]

    yield build
    for tag in built.values():
        docker("rmi", "--no-prune", tag, check=False)


@pytest.fixture
def open_path(tmp_path: Path) -> Path:
    """A temporary directory that other users, a container's for one, can read."""
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture
def sandbox(image_of: Callable[[str], str]) -> Iterator[Sandbox]:
    """A sandbox for one test."""
    made = Sandbox(image_of)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_sandbox(image_of: Callable[[str], str]) -> Iterator[Sandbox]:
    """A sandbox for a module whose tests only look."""
    made = Sandbox(image_of)
    yield made
    made.close()
