# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a block does, from the attacker's side: node2 is hostile, node3 a bystander, and the machine
that the tests run on is the operator. It lasts over a restart of the engine and of the host, and no
longer than it was said to, by nftables and by iptables. With
PYNOMALY_TEST_MATRIX=whole in the environment by both, and to its end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from conftest import IS_WHOLE_MATRIX, Operator, Server, connect, in_whole_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

LAB = os.environ.get("PYNOMALY_LAB_NAME", "pynomaly-lab")
STATE_FILE = "/var/lib/pynomaly-ops/blocklist.json"
#: A port of a container's: by Docker's address translation over IPv4, by docker-proxy over IPv6.
PORT = 8099
WEB = "block-test-web"
#: Longer than a run of the playbook.
LASTS_SECONDS = 60

LOOK = f"""
import http.client, json, socket, sys

def http_status(address):
    connection = http.client.HTTPConnection(address, {PORT}, timeout=float(sys.argv[2]))
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False

def ssh_greets(address):
    try:
        with socket.create_connection((address, 22), float(sys.argv[2])) as connection:
            connection.settimeout(float(sys.argv[2]))
            return connection.recv(3) == b"SSH"
    except OSError:
        return False

print(json.dumps({{
    f"{{name}} {{address}}": probe(address)
    for name, probe in (("http", http_status), ("ssh", ssh_greets))
    for address in sys.argv[1].split(",")
}}))
"""

#: One connection to each address that stays open, asked over every half second until it is told to
#: stop; says what came of each request.
HOLD = f"""
import http.client, json, os, socket, sys, time
held = {{}}
for address in sys.argv[1].split(","):
    held[address] = http.client.HTTPConnection(address, {PORT}, timeout=3)
    held[address].connect()
ssh = [socket.create_connection((address, 22), 5) for address in sys.argv[1].split(",")]
seen = []
def tell():
    with open("/run/hold.new", "w") as file:
        json.dump(seen, file)
    os.rename("/run/hold.new", "/run/hold.json")
deadline = time.monotonic() + 300
while time.monotonic() < deadline and not os.path.exists("/run/hold.stop"):
    for address, connection in list(held.items()):
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            seen.append([address, answer.status])
        except (OSError, http.client.HTTPException) as error:
            seen.append([address, type(error).__name__])
            del held[address]
    tell()
    time.sleep(0.5)
"""


@dataclass
class Client:
    """Whoever asks the server, from an address of its own."""

    node: Server
    target: Server

    def addresses(self) -> list[str]:
        return addresses(self.node)

    def gets(self, seconds: float = 3) -> dict[str, bool]:
        """Which of the server's services answer, over IPv4 and IPv6."""
        where = ",".join(addresses(self.target))
        found: dict[str, bool] = json.loads(
            self.node.run("python3 -c %s %s %s", LOOK, where, str(seconds))
        )
        assert len(found) == 4
        return found

    def is_served(self) -> bool:
        return all(self.gets(20).values())

    def gets_nothing(self) -> bool:
        return not any(self.gets().values())

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """With connections that were open before; L{answers} tells what came of them."""
        self.node.run("rm -f /run/hold.*")
        self.node.write("/run/hold.py", HOLD)
        where = ",".join(addresses(self.target))
        self.node.run(f"setsid python3 /run/hold.py {where} </dev/null >/dev/null 2>&1 &")
        self.node.wait_until("the connections are held", lambda: len(self.answers()) > 4, 30)
        try:
            yield
        finally:
            self.node.run("touch /run/hold.stop")

    def answers(self) -> list[list[Any]]:
        text = self.node.run("cat /run/hold.json 2>/dev/null || echo '[]'")
        found: list[list[Any]] = json.loads(text)
        return found


def addresses(server: Server) -> list[str]:
    """Its own on the lab's network, IPv4 and IPv6."""
    listed = server.run("ip -o address show dev eth0 scope global")
    found = re.findall(r"inet6? ([0-9a-f.:]+)/", listed)
    assert len(found) == 2
    return found


def restart(server: Server) -> None:
    """The host itself, which is a container of this machine's."""
    boot = server.run("stat --format %Y /proc/1")
    subprocess.run(
        ["docker", "restart", f"{LAB}-node1"], check=True, capture_output=True, timeout=120
    )

    def is_back() -> bool:
        with contextlib.suppress(AssertionError, RuntimeError):
            return server.run("stat --format %Y /proc/1") != boot
        return False

    server.wait_until("the host is back", is_back, 90)


def blocks(server: Server) -> list[dict[str, Any]]:
    text = server.run(f"cat {STATE_FILE} 2>/dev/null || echo '{{\"blocks\": []}}'")
    found: list[dict[str, Any]] = json.loads(text)["blocks"]
    return found


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    # What evidence is gathered beforehand is another test's.
    return Operator(tmp_path_factory.mktemp("operator"), "node1", (), evidence="none")


@pytest.fixture(scope="module")
def hostile(web: Server) -> Client:
    return Client(connect("node2"), web)


@pytest.fixture(scope="module")
def bystander(web: Server) -> Client:
    return Client(connect("node3"), web)


@pytest.fixture(scope="module")
def web(server: Server) -> Iterator[Server]:
    server.run(f"docker rm --force {WEB} 2>/dev/null || true")
    server.run(
        f"docker run --detach --name {WEB} --restart unless-stopped --publish {PORT}:80 nginx:1.26"
    )
    yield server
    server.run(f"docker rm --force {WEB}")


def backends(name: str) -> Any:
    """A test's own, or all of them."""
    chosen = ["nftables", "iptables"] if IS_WHOLE_MATRIX else [name]
    return pytest.mark.parametrize("backend", chosen, indirect=True)


@pytest.fixture
def backend(server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """With nft, and on a host without."""
    if request.param == "iptables":
        server.run("mv /usr/sbin/nft /usr/sbin/nft.away")
    yield str(request.param)
    server.run("if [ -e /usr/sbin/nft.away ]; then mv /usr/sbin/nft.away /usr/sbin/nft; fi")


@pytest.fixture(autouse=True)
def let_in(operator: Operator) -> Iterator[None]:
    yield
    operator.well("incident_release")


@backends("nftables")
def test_it_lasts_over_every_restart_and_nobody_else_notices(
    operator: Operator, web: Server, hostile: Client, bystander: Client, backend: str
) -> None:
    assert hostile.is_served() and bystander.is_served()
    given = {"block": ",".join(hostile.addresses()), "for": "1h"}
    with hostile.holding(), bystander.holding():
        assert operator.well("incident_contain", **given).changed >= 1
        assert hostile.gets_nothing()
        assert bystander.is_served()
        # What was open is cut, once for each address; the bystander's goes on.
        last = [seen for _address, seen in hostile.answers()[-2:]]
        assert last == ["TimeoutError", "TimeoutError"] or 200 not in last
        assert {seen for _address, seen in bystander.answers()} == {200}
    connections = web.run("ss -Hnt state established") + web.run(
        f"nsenter --net=/proc/$(docker inspect --format '{{{{.State.Pid}}}}' {WEB})/ns/net "
        "ss -Hnt state established"
    )
    assert not [one for one in hostile.addresses() if f"{one}:" in connections.replace("]", "")]

    listed = operator.well("blocklist")
    assert backend in listed.output and hostile.addresses()[0] in listed.output
    assert listed.changed == 0
    again = operator.well("incident_contain", **given)
    assert again.changed == 0
    ends = {one["network"]: one["until"] for one in blocks(web)}
    assert set(ends) == set(hostile.addresses())

    web.run("systemctl restart docker")
    web.wait_until("the engine is back", lambda: WEB in web.run("docker ps || true"), 60)
    assert bystander.is_served() and hostile.gets_nothing()

    restart(web)
    web.wait_until("the engine is back", lambda: WEB in web.run("docker ps || true"), 60)
    assert bystander.is_served() and hostile.gets_nothing()
    assert {one["network"]: one["until"] for one in blocks(web)} == ends

    released = operator.well("incident_release", block=given["block"])
    assert released.changed >= 1 and hostile.is_served()
    assert operator.well("incident_release", block=given["block"]).changed == 0
    assert blocks(web) == []


@in_whole_matrix
@backends("iptables")
def test_it_ends_when_it_was_said_to_and_leaves_nothing(
    operator: Operator, web: Server, hostile: Client, bystander: Client, backend: str
) -> None:
    operator.well(
        "incident_contain", block=",".join(hostile.addresses()), **{"for": f"{LASTS_SECONDS}s"}
    )
    (until,) = {one["until"] for one in blocks(web)}
    end = int(web.run(f"date --date={until} +%s"))
    assert hostile.gets_nothing()
    while int(web.run("date +%s")) < end - 8:
        assert hostile.gets_nothing() and bystander.is_served()
    web.wait_until("it is let in", hostile.is_served, 30)
    assert end - 2 <= int(web.run("date +%s")) < end + 20
    # The host's own timer looks every minute.
    web.wait_until("the list is gone", lambda: blocks(web) == [], 90)
    rules = "nft" if backend == "nftables" else "nft.away"
    assert "pynomaly" not in web.run(f"{rules} list ruleset").lower()
