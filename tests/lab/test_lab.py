# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lab promises, seen on a lab of another name beside the developer's own.

The tests are steps of one story: each goes on from where the one before left the lab.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.cache import CACHE, DEFAULT_NAME, ROOT

NAME = f"{DEFAULT_NAME}-promises"
MARK = f"ops.pynomaly.lab={NAME}"
REGISTRY = f"{NAME}-registry"
NODE = f"{NAME}-node1"
SECOND_UP_SECONDS = 60.0

#: Somebody else's things, with names that begin as the lab's own do.
FOREIGN_IMAGE = f"{NAME}-somebody/thing:1"
FOREIGN = f"{NAME}-somebody"

HAS_SYSTEMD = Path("/run/systemd/system").is_dir()

PID_FILES = {
    Path("/var/run/docker.pid"): "dockerd",
    Path("/run/docker/containerd/containerd.pid"): "containerd",
}

ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="root alone kills engine processes")


@dataclass(frozen=True)
class Run:
    """How one command of the lab ended."""

    code: int
    output: str
    seconds: float


def lab(*words: str, timeout_seconds: float = 1800) -> Run:
    started_at = time.monotonic()
    done = subprocess.run(
        [str(ROOT / "lab"), *words],
        env={**os.environ, "PYNOMALY_LAB_NAME": NAME},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    seconds = time.monotonic() - started_at
    print(f"$ ./lab {' '.join(words)}  # {seconds:.1f} s\n{done.stdout}")
    return Run(done.returncode, done.stdout, seconds)


def succeeds(*words: str) -> Run:
    done = lab(*words)
    assert done.code == 0, done.output
    return done


def on_node(*words: str) -> str:
    return succeeds("shell", "node1", "--", *words).output


def docker(*words: str) -> str:
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.2)


def is_running(container: str) -> bool:
    return docker("inspect", "--format", "{{.State.Running}}", container) == "true"


def of_the_lab() -> set[str]:
    """Everything on the engine with the lab's label, or with its name and no foreign one."""
    containers = ("ps", "--all", "--format", "container {{.Names}}")
    networks = ("network", "ls", "--format", "network {{.Name}}")
    volumes = ("volume", "ls", "--format", "volume {{.Name}}")
    images = ("images", "--format", "image {{.Repository}}:{{.Tag}}")
    found = {
        line
        for listing in (containers, networks, volumes)
        for line in docker(*listing, "--filter", f"label={MARK}").splitlines()
    }
    for listing in (containers, networks, volumes, images):
        lines = docker(*listing).splitlines()
        found |= {line for line in lines if line.split(maxsplit=1)[1].startswith(NAME)}
    return {line for line in found if not line.split(maxsplit=1)[1].startswith(FOREIGN)}


def foreign() -> dict[str, object]:
    """All that tells whether somebody touched the foreign things."""
    (container,) = json.loads(docker("inspect", FOREIGN))
    (network,) = json.loads(docker("network", "inspect", FOREIGN))
    (volume,) = json.loads(docker("volume", "inspect", FOREIGN))
    (image,) = json.loads(docker("image", "inspect", FOREIGN_IMAGE))
    return {
        "container": (container["Id"], container["State"], container["RestartCount"]),
        "network": (network["Id"], network["Created"], sorted(network["Containers"])),
        "volume": volume,
        "image": image["Id"],
    }


def remove_foreign() -> None:
    for words in (
        ("rm", "--force", FOREIGN),
        ("rm", "--force", REGISTRY),
        ("volume", "rm", f"{NODE}-docker"),
        ("network", "rm", FOREIGN),
        ("volume", "rm", FOREIGN),
        ("rmi", FOREIGN_IMAGE),
    ):
        subprocess.run(["docker", *words], capture_output=True, timeout=120, check=False)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """A story that was cut off leaves nothing to the next one, nor on the machine."""
    remove_foreign()
    succeeds("down")
    yield
    remove_foreign()
    lab("down")


@pytest.fixture(scope="module")
def foreign_at_first() -> dict[str, object]:
    """Somebody else's running container, network, volume and image; as they are at first."""
    docker("tag", f"{NAME}/registry:lab", FOREIGN_IMAGE)
    docker("network", "create", FOREIGN)
    docker("volume", "create", FOREIGN)
    docker(
        *("run", "--detach", "--name", FOREIGN, "--network", FOREIGN),
        *("--volume", f"{FOREIGN}:/data", FOREIGN_IMAGE, "sleep", "infinity"),
    )
    return foreign()


def shim_of(container: str) -> int:
    """The process of this machine's engine that holds the container."""
    container_id = docker("inspect", "--format", "{{.Id}}", container)
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except FileNotFoundError:
            continue
        if words and b"containerd-shim" in words[0] and container_id.encode() in words:
            return int(entry.name)
    raise AssertionError(f"no shim holds {container}")


def own_engine() -> list[int]:
    """This machine's ``dockerd``, and the ``containerd`` that it started for itself."""
    found = []
    for file, program in PID_FILES.items():
        if file.exists():
            process_id = int(file.read_text())
            assert Path(f"/proc/{process_id}/comm").read_text().strip() == program, file
            found.append(process_id)
    assert found, "no dockerd has written /var/run/docker.pid"
    return found


def comes_back_as_it_was(engine: int) -> bool:
    """Whether systemd starts the engine again, or else the lab does, which gives it no options."""
    options = Path(f"/proc/{engine}/cmdline").read_bytes().split(b"\0")[1:-1]
    return HAS_SYSTEMD or not options


def see_the_server_work() -> None:
    """What ran on the server runs again, with its data, and it pulls from the lab's registry."""
    answer = ("docker", "exec", "kept", "redis-cli", "get", "answer")
    wait_until(
        "what ran on the server runs again",
        lambda: lab("shell", "node1", "--", *answer).output.strip() == "42",
    )
    on_node("docker", "rmi", "--force", "redis:8")
    assert on_node("docker", "pull", "--quiet", "redis:8").strip() == "docker.io/library/redis:8"


def test_1_up_makes_a_server_that_runs_containers() -> None:
    succeeds("up")
    assert {f"container {NODE}", f"container {REGISTRY}", f"network {NAME}"} <= of_the_lab()
    on_node("docker", "run", "--detach", "--restart=always", "--name=kept", "redis:8")
    assert on_node("docker", "exec", "kept", "redis-cli", "set", "answer", "42").strip() == "OK"
    on_node("docker", "exec", "kept", "redis-cli", "save")


@ROOT_ALONE
def test_2_up_mends_what_the_machines_own_engine_left_when_it_was_killed() -> None:
    others = set(docker("ps", "--all", "--format", "{{.Names}}").splitlines()) - {NODE, REGISTRY}
    if others:
        pytest.skip(f"the engine is not killed: it has others' containers ({len(others)})")
    engine = own_engine()
    if not comes_back_as_it_was(engine[0]):
        pytest.skip("the engine is not killed: it was started by hand, with options")
    for process_id in [*engine, shim_of(NODE), shim_of(REGISTRY)]:
        os.kill(process_id, signal.SIGKILL)
    if not HAS_SYSTEMD:  # which starts the engine again by itself, and at once
        # After a while the numbers belong to other processes, and the engine trusts the files.
        for file in filter(Path.exists, PID_FILES):
            file.write_text(str(os.getpid()))
    assert succeeds("up").seconds < SECOND_UP_SECONDS
    see_the_server_work()


def test_3_a_second_up_is_quick(foreign_at_first: dict[str, object]) -> None:
    before = docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", NODE, REGISTRY)
    assert succeeds("up").seconds < SECOND_UP_SECONDS
    assert docker("inspect", "--format", "{{.Id}} {{.State.StartedAt}}", NODE, REGISTRY) == before
    assert foreign() == foreign_at_first


def kill_the_containers() -> None:
    docker("kill", "--signal", "KILL", NODE, REGISTRY)


def kill_the_shim() -> None:
    os.kill(shim_of(NODE), signal.SIGKILL)


def kill_the_servers_engine() -> None:
    # The kernel keeps 15 characters of a name: containerd-shim-runc-v2 is a containerd-shim.
    names = "dockerd|containerd|containerd-shim"
    docker("exec", NODE, "pkill", "--signal", "KILL", "--exact", names)


@pytest.mark.parametrize(
    ("strike", "ends"),
    [
        (kill_the_containers, True),
        pytest.param(kill_the_shim, True, marks=ROOT_ALONE),
        (kill_the_servers_engine, False),
    ],
)
def test_4_up_mends_what_was_killed(
    strike: Callable[[], None], ends: bool, foreign_at_first: dict[str, object]
) -> None:
    node_id = docker("inspect", "--format", "{{.Id}}", NODE)
    strike()
    if ends:
        wait_until("the server has ended", lambda: not is_running(NODE))
    assert succeeds("up").seconds < SECOND_UP_SECONDS
    assert docker("inspect", "--format", "{{.Id}}", NODE) == node_id, "mended, not made anew"
    see_the_server_work()
    assert foreign() == foreign_at_first


def test_5_down_leaves_nothing_of_its_own(foreign_at_first: dict[str, object]) -> None:
    assert of_the_lab()
    succeeds("down")
    assert of_the_lab() == set()
    assert not (CACHE / "labs" / NAME).exists()
    assert foreign() == foreign_at_first


@pytest.mark.parametrize(
    ("kind", "name", "made_by"),
    [
        ("container", REGISTRY, ("create", "--name", REGISTRY, FOREIGN_IMAGE)),
        ("volume", f"{NODE}-docker", ("volume", "create", f"{NODE}-docker")),
        ("network", NAME, ("network", "create", NAME)),
    ],
)
def test_6_what_is_foreign_and_in_its_place_is_left_alone(
    kind: str, name: str, made_by: tuple[str, ...], foreign_at_first: dict[str, object]
) -> None:
    docker(*made_by)
    before = docker(kind, "inspect", name)
    try:
        refused = lab("up")
        succeeds("down")
        assert docker(kind, "inspect", name) == before
        assert of_the_lab() == {f"{kind} {name}"}
    finally:
        docker(kind, "rm", name)
    assert refused.code == 1
    assert f"A {kind} named {name} exists and the lab did not make it." in refused.output
    assert foreign() == foreign_at_first
