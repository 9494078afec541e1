# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses blocked by a real kernel, seen from a hostile client and from a bystander, over IPv4
and IPv6: by nft, and by iptables where nft was taken away."""

from __future__ import annotations

import datetime
import json
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _host_program
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc

from .conftest import LABEL, docker, image, wait_until

CHECKOUT = Path(_host_program.__file__).parents[2]
STATE_DIR = "/var/lib/pynomaly-ops"
STATE_FILE = f"{STATE_DIR}/blocklist.json"
NFT = "nftables"
IPTABLES = "iptables"
BACKENDS = (NFT, IPTABLES)
#: How long a client waits for what it is not to get.
PATIENCE_SECONDS = 1.5

HTTP_SERVER = """
import http.server, socket
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\\n")
    def log_message(self, *arguments):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()
Server(("::", 8080), Handler).serve_forever()
"""

#: Asks over one connection, each time that it is told to.
KEEP_ALIVE = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], 8080, timeout=float(sys.argv[2]))
for _line in sys.stdin:
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        seen = str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        seen = type(error).__name__
    print(seen, flush=True)
    # http.client would connect anew.
    if connection.sock is None:
        break
"""

DRIVER = """
import dataclasses, datetime, json, os, sys
from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import (
    BlocklistError, Protected, parse_network)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import blocklist, resume
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    RunIdentity, open_temporary_states)

asked = json.loads(sys.argv[1])
folder = "/var/lib/pynomaly-ops"
store = OperationStore(folder)
identity = RunIdentity(asked.get("run", "run-1"), "tester", "here")

class NoEngine:
    def containers_with_label(self, label):
        return []

def step(name):
    if name == asked.get("die_at"):
        os.kill(os.getpid(), 9)

def work():
    states = TemporaryStates(store, identity, "incident_contain", "shop")
    own = blocklist.Blocklist(
        blocklist.BlocklistStore(folder), states, identity,
        dry_run=asked.get("dry_run", False), step=step)
    verb = asked["verb"]
    if verb == "block":
        about = dict(asked["request"])
        about["protected"] = [
            Protected(parse_network(one), "a trusted proxy") for one in about.get("protected", ())]
        return own.block(blocklist.Request(**about))
    if verb == "confirm":
        return own.confirm(asked["networks"])
    if verb == "release":
        return own.release(asked["networks"], asked.get("incident", ""))
    if verb == "show":
        return own.show()
    if verb == "resume":
        settings = resume.ResumeSettings(project="shop", backup_dir="/nonexistent")
        return resume.run(settings, NoEngine(), store, identity)
    if verb == "open":
        return {"open": open_temporary_states(store.read()[1].records)}
    raise ValueError(verb)

try:
    if asked.get("as_operation"):
        store.acquire(identity, "incident_contain", "shop", host="h", playbook="p")
    answer = work()
    if asked.get("as_operation"):
        store.finish(identity, "incident_contain", "shop", outcome="finished")
except BlocklistError as error:
    answer = {"refused": str(error), "hint": error.hint}
print(json.dumps(answer))
"""


class Connection:
    """One keep-alive connection, which stays open over several requests."""

    def __init__(self, client: str, address: str) -> None:
        self._process = subprocess.Popen(
            [
                *("docker", "exec", "--interactive", client),
                *("python3", "-c", KEEP_ALIVE, address, str(PATIENCE_SECONDS)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self) -> str:
        """HTTP status, or what happened in its place."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("ask\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@dataclass
class Place:
    """A server, a hostile client, and a bystander."""

    server: str
    hostile: str
    bystander: str
    addresses: dict[str, tuple[str, str]]
    connections: list[Connection] = field(default_factory=list)

    def run(self, *words: str, check: bool = True) -> str:
        return docker("exec", self.server, *words, check=check).stdout

    def call(self, verb: str, *, connection: str = "", **about: Any) -> dict[str, Any]:
        options = ["--env", f"SSH_CONNECTION={connection}"] if connection else []
        done = docker(
            *("exec", *options, "--env", "PYTHONPATH=/srv", "--env", "PYTHONDONTWRITEBYTECODE=1"),
            *(self.server, "python3", "-c", DRIVER, json.dumps({"verb": verb, **about})),
            check=False,
        )
        assert not done.returncode or about.get("die_at"), done.stderr
        if about.get("die_at"):
            assert done.returncode == 128 + signal.SIGKILL, done.stdout + done.stderr
            return {}
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def block(self, *networks: str, **about: Any) -> dict[str, Any]:
        call = {
            name: about.pop(name)
            for name in ("dry_run", "die_at", "run", "connection", "as_operation")
            if name in about
        }
        request = {"networks": networks, "duration": "1h", "confirm_seconds": 0, **about}
        return self.call("block", request=request, **call)

    def release(self, *networks: str, **about: Any) -> dict[str, Any]:
        return self.call("release", networks=networks, **about)

    def show(self) -> dict[str, Any]:
        return self.call("show")

    def keep(self) -> subprocess.CompletedProcess[str]:
        """What the host's timer does, and its start."""
        return docker(
            *("exec", self.server, "python3", "/srv/keeper.pyz", "blocklist_keeper", STATE_DIR),
            check=False,
        )

    def both(self, name: str) -> tuple[str, str]:
        return self.addresses[name]

    def gets(self, client: str, *, ipv6: bool = False, seconds: float = PATIENCE_SECONDS) -> bool:
        """Whether a new connection is answered in time."""
        address = self.addresses[self.server][1 if ipv6 else 0]
        host = f"[{address}]" if ipv6 else address
        done = docker(
            *("exec", client, "curl", "--silent", "--globoff", "--output", "/dev/null"),
            *("--max-time", str(seconds), f"http://{host}:8080/"),
            check=False,
        )
        return done.returncode == 0

    def is_let_in(self, client: str) -> bool:
        """Over both protocols; a busy machine is waited for."""
        return self.gets(client, seconds=20) and self.gets(client, ipv6=True, seconds=20)

    def is_kept_out(self, client: str) -> bool:
        """Over both protocols, while the bystander is served."""
        kept_out = not self.gets(client) and not self.gets(client, ipv6=True)
        return kept_out and self.is_let_in(self.bystander)

    def connect(self, client: str, *, ipv6: bool = False) -> Connection:
        made = Connection(client, self.addresses[self.server][1 if ipv6 else 0])
        self.connections.append(made)
        return made

    def wanted(self) -> list[dict[str, Any]]:
        """The list as it is on disk."""
        text = self.run("cat", STATE_FILE, check=False)
        found: list[dict[str, Any]] = json.loads(text)["blocks"] if text else []
        return found

    def kernel(self) -> str:
        """All rules there are, but for counts and what is left of the time."""
        found = self.run("nft.real", "-s", "list", "ruleset")
        found += self.run("iptables-save") + self.run("ip6tables-save")
        lines = [line for line in found.splitlines() if not line.startswith(("#", ":"))]
        return "\n".join(re.sub(r" (?:timeout|expires) \w+", "", line) for line in lines)

    def open_states(self) -> list[str]:
        return [one["temporary_state"] for one in self.call("open")["open"]]

    def take_nft_away(self) -> None:
        self.run("rm", "-f", "/usr/sbin/nft")

    def give_nft_back(self) -> None:
        self.run("ln", "-sf", "/usr/sbin/nft.real", "/usr/sbin/nft")

    def serve(self) -> None:
        docker("exec", "--detach", self.server, "python3", "-c", HTTP_SERVER)
        wait_until("the server answers", lambda: self.gets(self.bystander))

    def clean(self) -> None:
        for one in self.connections:
            one.close()
        self.connections.clear()
        self.give_nft_back()
        self.run("nft", "flush", "ruleset")
        self.run("rm", "-rf", STATE_DIR)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    name = f"inttest-{uuid.uuid4().hex[:8]}"
    byte = uuid.uuid4().hex[:4]
    keeper = tmp_path_factory.mktemp("keeper") / "keeper.pyz"
    root = Path(_host_program.__file__).parent
    sources = {
        path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.py"))
    }
    keeper.write_bytes(_host_program.pack(sources, ["blocklist_keeper"]))
    keeper.parent.chmod(0o755)
    docker(
        *("network", "create", "--label", LABEL, "--ipv6", "--subnet", f"fd5e:{byte}::/64", name)
    )
    made = []
    try:
        for role in ("server", "hostile", "bystander"):
            made.append(f"{name}-{role}")
            docker(
                *("run", "--detach", "--name", made[-1], "--label", LABEL, "--network", name),
                *("--cap-add", "NET_ADMIN", "--entrypoint", "sleep"),
                *("--volume", f"{CHECKOUT}:/srv/ansible_collections/pynomaly/ops:ro"),
                *("--volume", f"{keeper}:/srv/keeper.pyz:ro"),
                *(image("node"), "infinity"),
            )
        addresses = {}
        for one in made:
            (seen,) = json.loads(docker("inspect", one).stdout)
            network = seen["NetworkSettings"]["Networks"][name]
            addresses[one] = (network["IPAddress"], network["GlobalIPv6Address"])
        server, hostile, bystander = made
        place = Place(server, hostile, bystander, addresses)
        place.run("mv", "/usr/sbin/nft", "/usr/sbin/nft.real")
        place.give_nft_back()
        place.serve()
        yield place
    finally:
        for one in made:
            docker("rm", "--force", one, check=False)
        docker("network", "rm", name, check=False)


@pytest.fixture
def place(running: Place) -> Iterator[Place]:
    running.clean()
    yield running
    running.clean()


@pytest.fixture(params=BACKENDS)
def either(place: Place, request: pytest.FixtureRequest) -> Place:
    """With nft, and without."""
    if request.param == IPTABLES:
        place.take_nft_away()
    return place


# From the attacker's side


def test_the_blocked_one_gets_nothing_and_nobody_else_notices(either: Place) -> None:
    place = either
    kept = {
        (client, ipv6): place.connect(client, ipv6=ipv6)
        for client in (place.hostile, place.bystander)
        for ipv6 in (False, True)
    }
    assert {one.ask() for one in kept.values()} == {"200"}

    answer = place.block(*place.both(place.hostile))
    assert answer["changed"] and sorted(answer["added"]) == sorted(place.both(place.hostile))
    # Two of the hostile client, both as the server's sockets tell them.
    assert answer["sockets_closed"] >= 2

    assert place.is_kept_out(place.hostile)
    for ipv6 in (False, True):
        assert kept[place.hostile, ipv6].ask() == "TimeoutError"
        assert kept[place.bystander, ipv6].ask() == "200"
    shown = place.show()
    assert [one["in_kernel"] for one in shown["blocks"]] == [True, True]
    assert shown["remarks"] == []

    assert place.release(*place.both(place.hostile))["changed"]
    assert place.is_let_in(place.hostile)


def test_what_goes_out_to_it_is_dropped_too(either: Place) -> None:
    """A host that was taken over tells nothing to where it was taken over from."""
    place = either
    listener = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "s.bind(('0.0.0.0', 9999)); s.settimeout(4);"
        "print(s.recv(100).decode())"
    )
    sender = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "s.sendto(sys.argv[2].encode(), (sys.argv[1], 9999))"
    )
    address = place.both(place.hostile)[0]

    def heard() -> str:
        process = subprocess.Popen(
            ["docker", "exec", place.hostile, "python3", "-c", listener],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        while process.poll() is None:
            done = docker(
                "exec", place.server, "python3", "-c", sender, address, "told", check=False
            )
            assert done.returncode == 0 or "not permitted" in done.stderr
        return process.communicate()[0].strip()

    assert heard() == "told"
    place.block(address)
    assert heard() == ""


def test_a_network_is_blocked_but_for_who_is_not_in_it(either: Place) -> None:
    place = either
    own, other = place.both(place.hostile)[0], place.both(place.bystander)[0]
    answer = place.block(f"{own}/32", "198.51.100.0/24")
    assert answer["blocked"] == ["198.51.100.0/24", own] or own in answer["blocked"]
    assert not place.gets(place.hostile)
    assert place.is_let_in(place.bystander)
    assert other not in place.kernel()


# How long


def test_it_ends_by_itself_and_is_forgotten(either: Place) -> None:
    place = either
    own = place.both(place.hostile)
    before = datetime.datetime.now(datetime.timezone.utc)
    answer = place.block(*own, duration="9s")
    until = parse_utc(place.wanted()[0]["until"])
    assert 8 <= (until - before).total_seconds() <= 30 and answer["changed"]
    while datetime.datetime.now(datetime.timezone.utc) < until - datetime.timedelta(seconds=3):
        assert not place.gets(place.hostile)
        assert place.gets(place.bystander, seconds=20)
    # Nobody comes back: it is the kernel that lets go.
    wait_until("it is let in", lambda: place.gets(place.hostile), 10)
    late = (datetime.datetime.now(datetime.timezone.utc) - until).total_seconds()
    assert -1 <= late < 2.5
    assert place.is_let_in(place.hostile)

    assert place.open_states() == ["blocked_addresses"]
    assert place.keep().returncode == 0
    assert place.wanted() == [] and place.run("ls", STATE_DIR).find("blocklist.json") < 0
    assert place.open_states() == []
    assert "drop" not in place.kernel().lower()


def test_a_restart_neither_loses_nor_prolongs_it(either: Place) -> None:
    place = either
    own = place.both(place.hostile)
    place.block(*own, duration="80s")
    before = {one["network"]: one for one in place.show()["blocks"]}
    docker("restart", "--time", "1", place.server)
    (seen,) = json.loads(docker("inspect", place.server).stdout)
    (network,) = seen["NetworkSettings"]["Networks"].values()
    place.addresses[place.server] = (network["IPAddress"], network["GlobalIPv6Address"])
    place.serve()
    assert place.is_let_in(place.hostile)
    assert "not in the kernel" in place.show()["remarks"][0]

    kept = place.keep()
    assert kept.returncode == 0, kept.stderr
    assert place.is_kept_out(place.hostile)
    after = {one["network"]: one for one in place.show()["blocks"]}
    assert set(after) == set(before) and all(one["in_kernel"] for one in after.values())
    for name, one in after.items():
        assert one["until"] == before[name]["until"]
        assert 0 < one["seconds_left"] < before[name]["seconds_left"]
    assert place.keep().stdout == ""
    wait_until("it is let in", lambda: place.gets(place.hostile), 85)
    assert datetime.datetime.now(datetime.timezone.utc) < parse_utc(
        before[own[0]]["until"]
    ) + datetime.timedelta(seconds=2.5)


def test_whoever_flushes_the_rules_does_not_release(either: Place) -> None:
    place = either
    place.block(*place.both(place.hostile))
    place.run("nft.real", "flush", "ruleset")
    assert place.is_let_in(place.hostile)
    kept = place.keep()
    assert (kept.returncode, "brought to" in kept.stdout) == (0, True), kept.stderr
    assert not place.gets(place.hostile)
    # Also where only some of it is gone.
    if "pynomaly_ops" in place.run("nft.real", "list", "tables"):
        place.run("nft.real", "flush", "chain", "inet", "pynomaly_ops", "prerouting")
    else:
        place.run("iptables", "-t", "raw", "-F", "PREROUTING")
    assert "not in the kernel" in place.show()["remarks"][0]
    place.keep()
    assert place.show()["remarks"] == [] and not place.gets(place.hostile)


# Twice


def test_blocked_twice_and_released_twice(either: Place) -> None:
    place = either
    own = place.both(place.hostile)
    first = place.block(*own, duration="24h")
    rules = place.kernel()
    wanted = place.wanted()
    second = place.block(*own, duration="24h")
    assert (first["changed"], second["changed"]) == (True, False)
    assert place.wanted() == wanted
    assert place.kernel() == rules

    longer = place.block(*own, duration="48h")
    assert longer["changed"] and sorted(longer["moved"]) == sorted(own) and not longer["added"]
    left = [one["seconds_left"] for one in place.show()["blocks"]]
    assert all(47 * 3600 < seconds <= 48 * 3600 for seconds in left)
    more = place.block("198.51.100.7", duration="48h")
    assert more["changed"] and more["added"] == ["198.51.100.7"]

    gone, again = place.release(*own), place.release(*own)
    assert (gone["changed"], again["changed"]) == (True, False)
    assert place.is_let_in(place.hostile)
    assert [one["network"] for one in place.wanted()] == ["198.51.100.7"]
    assert place.release("all")["changed"] and not place.release("all")["changed"]
    assert place.wanted() == [] and place.open_states() == []
    assert "drop" not in place.kernel().lower()


def test_rules_of_others_stay_as_they_are(either: Place) -> None:
    place = either
    place.run("nft.real", "add", "table", "inet", "others")
    place.run("nft.real", "add", "chain", "inet", "others", "theirs")
    for command in ("iptables", "ip6tables"):
        place.run(
            command, "-t", "raw", "-A", "PREROUTING", "-p", "tcp", "--dport", "9", "-j", "DROP"
        )

    def theirs() -> list[str]:
        rules = place.run("iptables-save") + place.run("ip6tables-save")
        own = [line for line in rules.splitlines() if line.startswith("-A")]
        return [one for one in own if "PYNOMALY" not in one] + [
            place.run("nft.real", "list", "table", "inet", "others")
        ]

    before = theirs()
    assert len(before) == 3
    place.block(*place.both(place.hostile))
    assert theirs() == before
    place.release("all")
    assert theirs() == before and "PYNOMALY" not in place.kernel()


def test_overlapping_blocks_end_each_at_their_time(either: Place) -> None:
    place = either
    own, other = place.both(place.hostile)[0], place.both(place.bystander)[0]
    place.block(own, duration="1h")
    place.block("198.51.100.0/24", "198.51.100.7", duration="2h")
    place.block("198.51.100.64/26", duration="3h")
    shown = {one["network"]: one for one in place.show()["blocks"]}
    assert set(shown) == {own, "198.51.100.0/24", "198.51.100.7", "198.51.100.64/26"}
    assert all(one["in_kernel"] for one in shown.values()) and other not in shown
    # The address stays blocked by the network around it, and that is said.
    gone = place.release("198.51.100.7")
    assert gone["removed"] == ["198.51.100.7"]
    assert "still blocked, in 198.51.100.0/24" in gone["remarks"][0]
    assert place.release("198.51.100.0/24")["removed"] == ["198.51.100.0/24", "198.51.100.64/26"]


def test_an_incident_is_released_as_a_whole(place: Place) -> None:
    own = place.both(place.hostile)[0]
    place.block(own, incident="i-1")
    place.block("198.51.100.7", incident="i-2")
    assert place.release(incident="i-1")["removed"] == [own]
    assert [one["incident"] for one in place.wanted()] == ["i-2"]
    assert "neither a network nor an incident" in place.release()["refused"]


# The backends


def test_nft_taken_away_in_between(place: Place) -> None:
    own = place.both(place.hostile)
    place.block(*own)
    place.take_nft_away()
    # The table in the kernel is nft's, and is let go of once iptables holds.
    place.block("198.51.100.7")
    assert place.is_kept_out(place.hostile)
    assert "pynomaly_ops" not in place.run("nft.real", "list", "tables")
    assert all(one["in_force"] == [IPTABLES] for one in place.show()["blocks"])
    place.give_nft_back()
    assert place.keep().returncode == 0
    assert all(one["in_force"] == [NFT] for one in place.show()["blocks"])
    assert "PYNOMALY-OPS" not in place.run("iptables-save") + place.run("ip6tables-save")
    assert not place.gets(place.hostile)
    place.take_nft_away()
    place.release("all")
    assert place.is_let_in(place.hostile)
    assert "pynomaly_ops" not in place.run("nft.real", "list", "tables")


def test_a_host_without_either_says_so_and_changes_nothing(place: Place) -> None:
    place.take_nft_away()
    place.run("mv", "/usr/sbin/iptables", "/usr/sbin/iptables.away")
    try:
        answer = place.block(place.both(place.hostile)[0])
        assert "cannot block addresses" in answer["refused"] and answer["hint"]
        assert place.wanted() == [] and place.open_states() == []
    finally:
        place.run("mv", "/usr/sbin/iptables.away", "/usr/sbin/iptables")


def test_a_kernel_without_ipv6_blocks_ipv4(place: Place) -> None:
    place.take_nft_away()
    place.run("mv", "/usr/sbin/ip6tables", "/usr/sbin/ip6tables.away")
    place.run("sh", "-c", "printf '#!/bin/sh\\nexit 3\\n' > /usr/sbin/ip6tables")
    place.run("chmod", "755", "/usr/sbin/ip6tables")
    try:
        ipv4, ipv6 = place.both(place.hostile)
        assert place.block(ipv4)["changed"] and not place.gets(place.hostile)
        assert "ip6tables cannot read" in place.block(ipv6)["refused"]
        assert [one["network"] for one in place.wanted()] == [ipv4]
        assert place.release("all")["changed"] and place.gets(place.hostile, seconds=20)
    finally:
        place.run("mv", "/usr/sbin/ip6tables.away", "/usr/sbin/ip6tables")


def test_what_the_kernel_refuses_is_not_wanted_afterwards(place: Place) -> None:
    own = place.both(place.hostile)[0]
    place.block("198.51.100.7")
    wanted, rules = place.wanted(), place.kernel()
    place.run("rm", "/usr/sbin/nft")
    place.run(
        "sh",
        "-c",
        'printf \'#!/bin/sh\\ncase "$1" in -f) echo "Error: no" >&2; exit 1;; esac\\n'
        'exec nft.real "$@"\\n\' > /usr/sbin/nft; chmod 755 /usr/sbin/nft',
    )
    answer = place.block(own)
    assert "nft refuses" in answer["refused"]
    assert place.wanted() == wanted and place.is_let_in(place.hostile)
    assert place.kernel() == rules


# Who may not be blocked


def test_everything_that_is_wrong_is_told_at_once_and_nothing_is_changed(either: Place) -> None:
    place = either
    ipv4, ipv6 = place.both(place.server)
    gateway = place.run("sh", "-c", "ip route show default | cut -d' ' -f3").strip()
    rules = place.kernel()
    wrong = {
        "not-an-address": "is not an address",
        "203.0.113.256": "is not an address",
        "203.0.113.7/24": "expected 203.0.113.0/24",
        "0.0.0.0/0": "is wider than a /16",
        "::/0": "is wider than a /32",
        "203.0.0.0/15": "is wider than a /16",
        "2001:d00::/31": "is wider than a /32",
        "127.0.0.1": "is loopback",
        "::1": "is loopback",
        "0.0.0.0": "is no host's address",
        "224.0.0.1": "is multicast",
        "fe80::1": "is of the local link",
        ipv4: "an address of this host",
        ipv6: "an address of this host",
        f"{ipv4}/32": "an address of this host",
        gateway: "a gateway of this host",
        "192.0.2.9": "the SSH client",
        "192.0.2.10": "the controller",
        "192.0.3.77": "on the allow-list",
        "192.0.4.4": "a trusted proxy",
    }
    answer = place.block(
        "198.51.100.7",
        *wrong,
        connection="192.0.2.9 51000 192.0.2.1 22",
        controller_addresses=["192.0.2.10"],
        allow=["192.0.3.0/24"],
        protected=["192.0.4.0/24"],
    )
    for network, objection in wrong.items():
        named = network.removesuffix("/32") if network.endswith("/32") else network
        said = [one for one in answer["refused"].split("; ") if named in one]
        assert any(objection in one for one in said), (network, answer["refused"])
    assert "198.51.100.7" not in answer["refused"] and answer["hint"]
    assert place.kernel() == rules and place.wanted() == [] and place.open_states() == []

    # A network that has one of them in it is no better.
    around = place.block("192.0.2.0/24", connection="192.0.2.9 51000 192.0.2.1 22")
    assert "has to do with 192.0.2.9, the SSH client" in around["refused"]
    mapped = place.block(f"::ffff:{ipv4}")
    assert f"{ipv4} is an address of this host" in mapped["refused"]


def test_other_nonsense_is_refused(place: Place) -> None:
    own = place.both(place.hostile)[0]
    for about, objection in (
        ({"duration": "soon"}, "expected a time"),
        ({"duration": "0s"}, "to come"),
        ({"duration": "400d"}, "at most"),
        ({"until": "2020-01-01T00:00:00Z"}, "to come"),
        ({"until": "tomorrow"}, "expected a time"),
        ({"reason": "x" * 300}, "characters"),
        ({"confirm_seconds": -1}, "confirm_seconds"),
    ):
        assert objection in place.block(own, **about)["refused"]
    assert "nothing to block" in place.block()["refused"]
    assert place.wanted() == []


def test_the_client_is_found_behind_sudo(place: Place) -> None:
    """Whose environment no longer tells it: an ancestor's does."""
    script = (
        "from ansible_collections.pynomaly.ops.plugins.module_utils._edges.own_network import "
        "ssh_connection; print(ssh_connection())"
    )
    done = docker(
        *("exec", "--env", "SSH_CONNECTION=192.0.2.9 51000 192.0.2.1 22", place.server, "sh", "-c"),
        f'env -i PYTHONPATH=/srv PATH="$PATH" python3 -c "{script}"; :',
    )
    assert done.stdout.strip() == "('192.0.2.9', '51000')"


# Unless somebody comes back


def test_a_block_that_nobody_confirms_undoes_itself(either: Place) -> None:
    place = either
    own = place.both(place.hostile)
    asked = time.monotonic()
    answer = place.block(*own, confirm_seconds=7)
    assert sorted(answer["awaits_confirmation"]) == sorted(own)
    # Its maker's own connection may be among them.
    assert answer["sockets_closed"] is None
    kept = place.connect(place.hostile)
    assert not place.gets(place.hostile)
    wait_until("it is let in", lambda: place.gets(place.hostile), 12)
    assert 4 < time.monotonic() - asked < 10
    late = place.call("confirm", networks=own)
    assert "undone itself" in late["refused"] and "expected" in late["refused"]
    assert place.is_let_in(place.hostile)
    assert place.keep().returncode == 0
    assert place.wanted() == [] and place.open_states() == []
    kept.close()
    place.connections.remove(kept)


def test_a_block_that_is_confirmed_stays(either: Place) -> None:
    place = either
    own = place.both(place.hostile)
    kept = place.connect(place.hostile)
    assert kept.ask() == "200"
    first, second = "192.0.2.9 51000 192.0.2.1 22", "192.0.2.9 51001 192.0.2.1 22"
    place.block(*own, confirm_seconds=8, connection=first)
    deadline = time.monotonic() + 8
    # The connection that is there proves nothing.
    same = place.call("confirm", networks=own, connection=first)
    assert "the connection that it was asked for over" in same["refused"]
    answer = place.call("confirm", networks=own, connection=second)
    assert answer["changed"] and answer["sockets_closed"] >= 1
    assert not place.call("confirm", networks=own, connection=second)["changed"]
    while time.monotonic() < deadline + 1.5:
        assert not place.gets(place.hostile)
    place.keep()
    assert not place.gets(place.hostile)
    assert {one["confirm_by"] for one in place.wanted()} == {None}
    # Its end moved, it needs no confirmation.
    assert place.block(*own, duration="3h", confirm_seconds=5)["awaits_confirmation"] == []


def test_a_block_that_the_kernel_has_lost_cannot_be_confirmed(place: Place) -> None:
    own = place.both(place.hostile)
    place.block(*own, confirm_seconds=30)
    place.run("nft", "flush", "ruleset")
    assert "undone itself" in place.call("confirm", networks=own)["refused"]


def test_check_mode_tells_and_changes_nothing(either: Place) -> None:
    place = either
    own = place.both(place.hostile)
    rules = place.kernel()
    answer = place.block(*own, dry_run=True, confirm_seconds=30)
    assert answer["changed"] and sorted(answer["added"]) == sorted(own)
    assert "would be blocked" in answer["lines"][0] and not answer["awaits_confirmation"]
    assert place.kernel() == rules and place.run("ls", "-A", "/var/lib").find("pynomaly") < 0
    assert "refused" in place.block("127.0.0.1", dry_run=True)
    place.block(*own)
    before = place.wanted()
    assert place.release("all", dry_run=True)["changed"]
    assert place.wanted() == before and not place.gets(place.hostile)


# Killed


@pytest.mark.parametrize("at", ["journal", "write", "kernel", "close"])
def test_killed_while_it_blocks(either: Place, at: str) -> None:
    place = either
    own = place.both(place.hostile)
    place.block(*own, die_at=at, as_operation=True, run="dead")
    written = at in ("kernel", "close")
    assert bool(place.wanted()) is written
    assert place.gets(place.hostile, seconds=8) is (at != "close")

    first = place.call("resume", run="resumer")
    assert not first["failed"], first
    # What is on disk is wanted, and what is not has not happened.
    assert place.gets(place.hostile, seconds=8) is not written
    second = place.call("resume", run="later")
    assert second["changed"] is False or not written, second
    if written:
        assert place.open_states() == ["blocked_addresses"]
        assert place.block(*own, run="other")["changed"] is False
        assert place.release("all")["changed"]
    assert place.is_let_in(place.hostile)
    assert place.open_states() == [] and place.wanted() == []


@pytest.mark.parametrize("at", ["write", "kernel", "close"])
def test_killed_while_it_releases(either: Place, at: str) -> None:
    place = either
    own = place.both(place.hostile)
    place.block(*own, as_operation=True)
    place.release("all", die_at=at, run="dead")
    if at == "write":
        assert not place.gets(place.hostile)
        assert place.release("all")["changed"]
    else:
        # The host's own timer brings it to its end.
        assert place.keep().returncode == 0
    assert place.is_let_in(place.hostile)
    assert place.wanted() == [] and place.open_states() == []
    assert place.release("all")["changed"] is False
    assert "drop" not in place.kernel().lower()


def test_a_broken_list_is_told_and_left(place: Place) -> None:
    place.block(place.both(place.hostile)[0])
    place.run("sh", "-c", f"echo '{{\"half' > {STATE_FILE}")
    kept = place.keep()
    assert kept.returncode == 1 and "cannot be used" in kept.stderr and "next:" in kept.stderr
    assert not place.gets(place.hostile)
    assert "cannot be used" in place.block("198.51.100.7")["refused"]
