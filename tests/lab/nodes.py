# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's servers: make them, wait for them, mend them, remove them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab import images, network, registry
from lab.cache import CACHE, DEFAULT_NAME, NAME, exclusive, short_hash, state
from lab.engine import (
    LABEL,
    MARK,
    answers,
    docker,
    ensure_running,
    exec_in,
    inspect,
    owned,
    refuse_foreign,
)
from lab.packages import is_installed, need
from lab.shell import LabError, quoted, run, say, step, wait_until

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Iterable, Sequence

_CAP_SYS_RESOURCE = 24
_NUMBER_LABEL = f"{LABEL}.node"
_HOST_KEY_FILE = "/etc/ssh/ssh_host_ed25519_key.pub"
_MIRROR_VARIABLE = f"LAB_REGISTRY_MIRROR={registry.MIRROR}"
_MADE_FROM_LABEL = f"{LABEL}.made-from"


DEBIAN = next(iter(images.NODES))
"""The release that node1, node2, … run; a server of another one is named after it."""

_OTHER_DEBIANS = 100
"""The server of Debian 12 is number 112."""


@dataclass(frozen=True)
class Node:
    """One server: its number, its address on the lab's network, and whether it is running."""

    number: int
    address: str
    is_running: bool
    is_official: bool = False
    """Whether it pulls from Docker Hub instead of the lab's registry."""

    @property
    def name(self) -> str:
        """Its host name, which is also its name in the inventory."""
        return f"node{self.number}" if self.debian == DEBIAN else f"debian{self.debian}"

    @property
    def debian(self) -> int:
        """The release of Debian that it runs."""
        return self.number - _OTHER_DEBIANS if self.number > _OTHER_DEBIANS else DEBIAN

    @property
    def container(self) -> str:
        """Its container's name on this machine's engine."""
        return f"{NAME}-{self.name}"


def ssh_config() -> Path:
    """Give the path of the lab's own SSH configuration."""
    return state("ssh") / "config"


def inventory() -> Path:
    """Give the path of the generated inventory with the nodes' addresses."""
    return state("inventory") / "nodes.yml"


def control_sockets() -> Path:
    """Give the directory in which Ansible keeps the sockets of its open SSH connections."""
    return state("ssh", "sockets")


def existing() -> list[Node]:
    """List the nodes that were made, running or not, by number."""
    found = []
    for container_id in owned("container"):
        container = inspect("container", container_id)
        if container is None or _NUMBER_LABEL not in container["Config"]["Labels"]:
            continue
        endpoint = container["NetworkSettings"]["Networks"].get(NAME) or {}
        configured = (endpoint.get("IPAMConfig") or {}).get("IPv4Address", "")
        found.append(
            Node(
                number=int(container["Config"]["Labels"][_NUMBER_LABEL]),
                address=configured,
                is_running=bool(container["State"]["Running"]),
                is_official=_MIRROR_VARIABLE not in container["Config"]["Env"],
            )
        )
    return sorted(found, key=lambda node: node.number)


def up(
    count: int = 1, *, other_debians: Iterable[int] = (), official: bool | None = None
) -> list[Node]:
    """Have ``count`` servers running and answering, whatever state the lab was left in.

    For each release in ``other_debians`` there is one more, named after it. Nodes that exist
    already are kept and mended too. With ``official`` the nodes pull from Docker Hub instead
    of the lab's registry; None leaves that as it is.
    """
    with exclusive():
        need({"ssh": "openssh-client", "ssh-keygen": "openssh-client"})
        ensure_running()
        if official is None:
            official = any(node.is_official for node in existing())
        known = images.load()
        subnet = network.ensure()
        images.ensure_in_engine(known[images.REGISTRY], known)
        registry.start(known[images.REGISTRY].name, known[images.REGISTRY].hash, subnet)
        wanted = _wanted(count, other_debians, subnet)
        node_images = {node.debian: images.NODES[node.debian] for node in wanted}
        images.publish_all(known, list(node_images.values()), services=not official)
        for node in wanted:
            _ensure_node(node, subnet, known[node_images[node.debian]], official=official)
        nodes = existing()
        _write_ssh_files(nodes)
        for node in nodes:
            _wait_or_remake(node, subnet, known[node_images[node.debian]], official=official)
        return existing()


def _wanted(count: int, other_debians: Iterable[int], subnet: ipaddress.IPv4Network) -> list[Node]:
    """List the nodes that are asked for, and those that are there; without a gap in the numbers."""
    numbers = {node.number for node in existing()}
    numbers |= {_OTHER_DEBIANS + debian for debian in other_debians if debian != DEBIAN}
    last = max([count, *(number for number in numbers if number < _OTHER_DEBIANS)])
    return [
        Node(number, network.node_address(subnet, number), is_running=False)
        for number in sorted(numbers | set(range(1, last + 1)))
    ]


def down(*, purge: bool = False) -> None:
    """Remove the lab's containers, volumes, network and images; with ``purge`` its cache too."""
    if not is_installed("dockerd") and not answers():
        return
    with exclusive():
        ensure_running()
        for container in owned("container"):
            docker("rm", "--force", "--volumes", container, timeout_seconds=120)
        for volume in owned("volume"):
            docker("volume", "rm", volume)
        for owned_network in owned("network"):
            docker("network", "rm", owned_network)
        for kept in images.forget():
            say(f"kept {kept}")
        for path in (inventory(), ssh_config()):
            path.unlink(missing_ok=True)
        if purge:
            purged = [CACHE / "registry", CACHE / "archives", state("ssh")]
            run(["rm", "-rf", *map(str, purged)], timeout_seconds=300)
        if NAME != DEFAULT_NAME:
            shutil.rmtree(state())


def _ensure_node(
    node: Node, subnet: ipaddress.IPv4Network, image: images.Image, *, official: bool
) -> None:
    arguments = _run_arguments(node, subnet, official=official)
    wanted = short_hash(image.hash, *arguments)
    found = refuse_foreign("container", node.container)
    refuse_foreign("volume", _volume(node))
    if found is not None and found["Config"]["Labels"].get(_MADE_FROM_LABEL) != wanted:
        say(f"{node.name} was made from older definitions: it is made anew")
        _remove(node)
        found = None
    if found is None:
        with step(f"made {node.name} ({node.address})"):
            _run([*arguments, f"--label={_MADE_FROM_LABEL}={wanted}", image.name])
        _forget_connections()
    elif not found["State"]["Running"] or found["State"].get("Paused"):
        with step(f"started {node.name} again (it was {found['State']['Status']})"):
            if found["State"].get("Paused"):
                docker("unpause", node.container)
            else:
                docker("start", node.container, timeout_seconds=120)
                _forget_connections()


def _forget_connections() -> None:
    """Let nobody use a connection to a server that is gone: it would hang until it is noticed."""
    for socket in control_sockets().iterdir():
        socket.unlink(missing_ok=True)


def _run(arguments: list[str]) -> None:
    """Start a container; ``ALL`` capabilities are those available to newer engines alone.

    They refuse to drop one that is not available; older ones fail unless it is dropped.
    """
    try:
        docker("run", "--detach", *arguments, timeout_seconds=120)
    except LabError as error:
        if "invalid CapDrop" not in str(error):
            raise
        kept = [argument for argument in arguments if not argument.startswith("--cap-drop=")]
        docker("run", "--detach", *kept, timeout_seconds=120)


def _run_arguments(node: Node, subnet: ipaddress.IPv4Network, *, official: bool) -> list[str]:
    """Give the options that make a container a server: an engine and systemd need them."""
    arguments = [
        f"--name={node.container}",
        f"--hostname={node.name}",
        f"--label={MARK}",
        f"--label={_NUMBER_LABEL}={node.number}",
        f"--network={NAME}",
        f"--network-alias={node.name}",
        f"--ip={node.address}",
        f"--add-host={registry.CONTAINER}:{network.registry_address(subnet)}",
        "--cap-add=ALL",
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        "--security-opt=systempaths=unconfined",
        "--device-cgroup-rule=a *:* rwm",
        "--cgroupns=private",
        "--stop-timeout=30",
        f"--mount=type=volume,src={_volume(node)},dst=/var/lib/docker,volume-label={MARK}",
        "--env=container=docker",
        f"--env=LAB_AUTHORIZED_KEY={_public_key()}",
    ]
    if not _may_raise_limits():
        arguments.append("--cap-drop=SYS_RESOURCE")
    if not official:
        arguments.append(f"--env={_MIRROR_VARIABLE}")
    return arguments


def _may_raise_limits() -> bool:
    """Say whether CAP_SYS_RESOURCE can be given away: some virtual machines lack it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_RESOURCE & 1)
    return True


def _wait_or_remake(
    node: Node, subnet: ipaddress.IPv4Network, image: images.Image, *, official: bool
) -> None:
    """Wait for SSH and the node's engine; a node that does not come back is made anew, once."""
    try:
        _wait_for(node)
    except LabError as error:
        say(f"{error}\n{node.name} does not come back: it is made anew")
        _remove(node)
        _ensure_node(node, subnet, image, official=official)
        _write_ssh_files(existing())
        _wait_for(node)


def _wait_for(node: Node) -> None:
    def node_answers() -> bool:
        completed = run(
            [*ssh_command(node.name), "docker", "version", "--format", "{{.Server.Version}}"],
            timeout_seconds=30,
            check=False,
        )
        return completed.returncode == 0

    with step(f"{node.name} answers over SSH, and its engine too"):
        wait_until(
            node_answers,
            what=node.name,
            deadline_seconds=60,
            hint=f"See: docker exec {node.container} journalctl --no-pager -n 50",
        )


def ssh_command(name: str, *, terminal: bool = False) -> list[str]:
    """Give the beginning of a command line that runs something on a node."""
    options = ["-t"] if terminal else ["-o", "BatchMode=yes"]
    return ["ssh", "-F", str(ssh_config()), *options, name]


def as_remote_command(words: Sequence[str]) -> list[str]:
    """Quote a command for the shell on the other side, word by word."""
    return [quoted(words)] if words else []


def require(name: str) -> None:
    """Have the named node running; LabError when no such node was made."""
    known = [node.name for node in existing()] if answers() else []
    if known and name not in known:
        raise LabError(f"There is no {name}; the lab has {', '.join(known)}. More: ./lab up N")
    if not all_running():
        up(1)


def all_running() -> bool:
    """Say whether there are nodes, and all of them run."""
    found = existing() if answers() else []
    return bool(found) and all(node.is_running for node in found) and inventory().exists()


def wait_until_healthy(name: str, containers: Sequence[str]) -> None:
    """Wait until the containers on a node run and, where they have a health check, pass it."""
    state = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}"
    command = as_remote_command(["docker", "inspect", "--format", state, *containers])

    def healthy() -> bool:
        states = run([*ssh_command(name), *command], timeout_seconds=30).stdout.splitlines()
        return all(line.split() in (["running"], ["running", "healthy"]) for line in states)

    wait_until(healthy, what="The service", deadline_seconds=120, hint=f"See: ./lab shell {name}")


def _remove(node: Node) -> None:
    docker("rm", "--force", "--volumes", node.container, check=False, timeout_seconds=120)
    docker("volume", "rm", "--force", _volume(node))


def _volume(node: Node) -> str:
    return f"{node.container}-docker"


def _private_key() -> Path:
    path = state("ssh") / "id_ed25519"
    if not path.exists():
        run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "pynomaly-lab", "-f", str(path)],
            timeout_seconds=30,
        )
    return path


def _public_key() -> str:
    return _private_key().with_suffix(".pub").read_text().strip()


def _write_ssh_files(nodes: list[Node]) -> None:
    """Write the SSH configuration, the host keys that the nodes have, and their inventory."""
    known_hosts = state("ssh") / "known_hosts"
    host_keys = [f"{node.name},{node.address} {_host_key(node)}\n" for node in nodes]
    known_hosts.write_text("".join(host_keys))
    entries = [f"Host {node.name}\n    HostName {node.address}\n" for node in nodes]
    addresses = " ".join(node.address for node in nodes)
    entries.append(
        f"Host node* debian* {addresses}\n"
        "    User root\n"
        f"    IdentityFile {_private_key()}\n"
        "    IdentitiesOnly yes\n"
        f"    UserKnownHostsFile {known_hosts}\n"
        "    GlobalKnownHostsFile /dev/null\n"
        "    StrictHostKeyChecking yes\n"
        "    ConnectTimeout 10\n"
        "    ServerAliveInterval 15\n"
        "    LogLevel ERROR\n"
    )
    ssh_config().write_text("".join(entries))
    hosts = {node.name: {"ansible_host": node.address} for node in nodes}
    # JSON is YAML, and the standard library writes it.
    inventory().write_text(json.dumps({"lab_nodes": {"hosts": hosts}}, indent=4) + "\n")


def _host_key(node: Node) -> str:
    """Ask the node itself for the key that its SSH server will show, once it has made one."""
    found: list[str] = []

    def is_there() -> bool:
        try:
            found.extend(exec_in(node.container, ["cat", _HOST_KEY_FILE]).split()[:2])
        except LabError:
            return False
        return len(found) == 2

    wait_until(
        is_there,
        what=f"The host key of {node.name}",
        deadline_seconds=30,
        hint=f"See: docker logs {node.container}",
    )
    return " ".join(found)
