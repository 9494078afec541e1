# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container of a real project taken off its networks, seen from its neighbours, and put back."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import isolation, resume
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._isolation import IsolationError
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity

from .conftest import LABEL, docker, image

pytestmark = pytest.mark.usefixtures("compose_plugin")

COMPOSE = """\
services:
  web:
    image: NGINX
    ports: ["127.0.0.1::80"]
    networks:
      front: {aliases: [shop]}
      back: {ipv4_address: 10.231.77.9, aliases: [inner]}
    labels: [LABEL]
  sidecar:
    image: NGINX
    entrypoint: ["sleep", "infinity"]
    init: true
    network_mode: "service:web"
    labels: [LABEL]
  neighbour:
    image: NGINX
    entrypoint: ["sleep", "infinity"]
    init: true
    networks: [front, back]
    labels: [LABEL]
  host:
    image: NGINX
    entrypoint: ["sleep", "infinity"]
    init: true
    network_mode: host
    labels: [LABEL]
networks:
  front: {labels: [LABEL]}
  back:
    labels: [LABEL]
    ipam: {config: [{subnet: 10.231.77.0/24}]}
"""


@dataclass
class Shop:
    name: str
    folder: Path
    engine: EngineControl
    run: str = "run"

    @property
    def states(self) -> TemporaryStates:
        return TemporaryStates(
            OperationStore(str(self.folder / "state")),
            RunIdentity(self.run, "tester", "here"),
            "incident_contain",
            self.name,
        )

    @property
    def stack(self) -> Stack:
        return discover(self.engine, self.name, CheckSettings(call_timeout_seconds=10.0))

    def compose(self, *arguments: str) -> str:
        return docker(
            *("compose", "--project-name", self.name, "--project-directory", str(self.folder)),
            *arguments,
            timeout_seconds=120,
        ).stdout.strip()

    def inspect(self, service: str) -> dict[str, Any]:
        (found,) = json.loads(docker("inspect", f"{self.name}-{service}-1").stdout)
        return dict(found)

    def networks(self, service: str = "web") -> dict[str, tuple[list[str], str, str]]:
        """Aliases, address and configured address by network."""
        found = self.inspect(service)
        return {
            name.rpartition("_")[2]: (
                sorted(set(one["Aliases"] or ()) - {found["Id"][:12]}),
                one["IPAddress"],
                (one["IPAMConfig"] or {}).get("IPv4Address", ""),
            )
            for name, one in found["NetworkSettings"]["Networks"].items()
        }

    def process(self) -> tuple[str, str, int]:
        state = self.inspect("web")
        return state["Id"], state["State"]["StartedAt"], state["State"]["Pid"]

    def reached_from_neighbour(self) -> list[str]:
        """The names and addresses under which the neighbour gets an answer."""
        return [
            where
            for where in ("shop", "inner", "10.231.77.9")
            if not docker(
                *("exec", f"{self.name}-neighbour-1", "curl", "-fsS", "-m", "2", "-o", "/dev/null"),
                f"http://{where}/",
                check=False,
            ).returncode
        ]

    def reaches_neighbour(self) -> bool:
        """Whether the web server can send anything to the neighbour, by its address."""
        address = self.networks("neighbour")["front"][1]
        done = docker(
            *("exec", f"{self.name}-web-1", "timeout", "2", "bash", "-c"),
            f"exec 3<>/dev/tcp/{address}/9",
            check=False,
        )
        return "refused" in done.stderr  # nothing listens there, which the neighbour has to say

    def port(self) -> int:
        return int(self.compose("port", "web", "80").rpartition(":")[2])

    def isolate(self, name: str = "web", **options: Any) -> dict[str, Any]:
        return isolation.isolate(self.engine, self.stack, name, self.states, **options)

    def connect(self, name: str = "", **options: Any) -> dict[str, Any]:
        return isolation.connect(self.engine, self.stack, name, self.states, **options)

    def resume(self) -> dict[str, Any]:
        settings = resume.ResumeSettings(self.name, str(self.folder / "backups"))
        return resume.run(settings, EngineControl(10.0), self.states.store, self.states.identity)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("isolation")
    one = Shop(f"inttest-{os.getpid()}-{time.time_ns() % 10**8}", folder, EngineControl(10.0))
    text = COMPOSE.replace("NGINX", image("nginx")).replace("LABEL", LABEL)
    (folder / "compose.yaml").write_text(text)
    try:
        one.compose("up", "--detach")
        yield one
    finally:
        one.compose("down", "--volumes", "--remove-orphans", "--timeout", "0")


@pytest.fixture
def shop(running: Shop) -> Iterator[Shop]:
    before = running.networks()
    assert set(before) == {"front", "back"}
    yield running
    running.connect()
    assert running.states.left() == []
    assert running.reached_from_neighbour() == ["shop", "inner", "10.231.77.9"]


def test_cut_off_both_ways_without_being_stopped_and_put_back_as_it_was(shop: Shop) -> None:
    before, process = shop.networks(), shop.process()
    assert shop.reached_from_neighbour() and shop.reaches_neighbour()
    with closing(socket.create_connection(("127.0.0.1", shop.port()), timeout=3)) as held:
        held.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert held.recv(9) == b"HTTP/1.1 "

        told = shop.isolate(dry_run=True)
        assert told["changed"] and shop.networks() == before and not shop.states.left()

        answer = shop.isolate()
        assert answer["changed"] and answer["isolated"] == [f"{shop.name}-web-1"]
        assert any("sidecar" in text for text in answer["remarks"])
        assert shop.reached_from_neighbour() == []
        assert not shop.reaches_neighbour()
        held.settimeout(2)
        held.sendall(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")
        rest = b""
        with pytest.raises((TimeoutError, ConnectionError)):
            while True:
                received = held.recv(65536)
                if not received:
                    raise ConnectionResetError
                rest += received
        assert rest.count(b"HTTP/1.1 ") == 0
    assert shop.process() == process, "it was stopped"
    assert docker("exec", f"{shop.name}-web-1", "true").returncode == 0
    (state,) = shop.states.left()
    assert state["temporary_state"] == "container_isolation" and "incident_release" in state["undo"]

    again = shop.isolate()
    assert not again["changed"]
    status = isolation.status(shop.engine, shop.name, shop.states)
    assert [(one["service"], one["state"]) for one in status["containers"]] == [("web", "isolated")]

    back = shop.connect("web")
    assert back["changed"] and back["isolated"] == []
    assert shop.networks() == before
    assert shop.process() == process
    with closing(socket.create_connection(("127.0.0.1", shop.port()), timeout=3)) as fresh:
        fresh.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert fresh.recv(9) == b"HTTP/1.1 "
    assert not shop.connect("web")["changed"] and not shop.states.left()


def test_a_restart_gives_it_no_network_back(shop: Shop) -> None:
    shop.isolate()
    docker("restart", "--time", "2", f"{shop.name}-web-1")
    assert set(shop.networks()) == {"none"}
    assert shop.reached_from_neighbour() == []


def test_the_host_network_and_another_containers_are_refused(shop: Shop) -> None:
    with pytest.raises(IsolationError, match="incident_contain -e block="):
        shop.isolate("host")
    with pytest.raises(IsolationError, match="isolate that one"):
        shop.isolate("sidecar")
    with pytest.raises(IsolationError, match="expected one of: host, neighbour, sidecar, web"):
        shop.isolate("wob")
    assert shop.states.left() == []


def test_one_of_two_is_put_back_alone(shop: Shop) -> None:
    shop.isolate("web")
    shop.isolate("neighbour")
    assert set(shop.networks("neighbour")) == {"none"}
    shop.connect("web")
    assert set(shop.networks()) == {"front", "back"}
    assert set(shop.networks("neighbour")) == {"none"}
    (state,) = shop.states.left()
    assert [one["service"] for one in state["details"]["containers"]] == ["neighbour"]


def killed_at(work: Callable[[isolation.Step], Any], number: int) -> bool:
    """Run the work in a process that is killed at its nth step; whether it came so far."""
    child = os.fork()
    if child == 0:
        try:
            seen = 0

            def step(_name: str) -> None:
                nonlocal seen
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

            work(step)
        finally:
            os._exit(0)
    _pid, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("again", ["resume", "isolate"])
def test_killed_at_each_step_of_isolating(shop: Shop, again: str) -> None:
    before = shop.networks()
    reached = 0
    for number in range(1, 10):
        if not killed_at(lambda step: shop.isolate(step=step), number):
            break
        reached += 1
        if again == "isolate":
            shop.isolate()
            assert set(shop.networks()) == {"none"}
            assert shop.connect()["changed"]
        else:
            shop.resume()
        after = shop.networks()
        assert {name: one[0] for name, one in after.items()} == {
            name: one[0] for name, one in before.items()
        }
        assert after["back"] == before["back"]
        assert shop.states.left() == []
        assert not shop.resume()["changed"]
    else:
        pytest.fail("it never got to its end")
    assert reached == 4  # the journal, two networks, and the empty one
    shop.connect()
    assert shop.networks()["back"] == before["back"]


def test_killed_at_each_step_of_putting_back(shop: Shop) -> None:
    before = shop.networks()
    reached = 0
    for number in range(1, 10):
        shop.isolate()
        if not killed_at(lambda step: shop.connect(step=step), number):
            break
        reached += 1
        shop.resume()
        assert shop.networks()["back"] == before["back"]
        assert set(shop.networks()) == {"front", "back"}
        assert shop.states.left() == []
    else:
        pytest.fail("it never got to its end")
    assert reached == 4


def test_resume_leaves_an_isolation_whose_run_ended_well(shop: Shop) -> None:
    states = shop.states
    identity = RunIdentity("well", "tester", "here")
    store = states.store
    store.acquire(identity, "incident_contain", shop.name, host="here", playbook="x")
    mine = TemporaryStates(store, identity, "incident_contain", shop.name)
    isolation.isolate(shop.engine, shop.stack, "web", mine)
    store.finish(identity, "incident_contain", shop.name, outcome="finished")
    answer = shop.resume()
    assert not answer["changed"]
    assert [one["outcome"] for one in answer["states"]] == ["kept"]
    assert "incident_release" in answer["lines"][0]
    assert set(shop.networks()) == {"none"}
