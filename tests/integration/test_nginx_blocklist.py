# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blocks inside a running nginx, seen by clients of its own and by those of a load balancer.

This machine, whose address nginx trusts, stands for a load balancer wherever one request after
another is made with headers of the test's choosing; a real one is there too.
"""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import Block, Wanted
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (
    blocklist,
    maintenance,
    nginx_blocklist,
    resume,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance import Page
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_blocklist import (
    FileBlock,
    NginxBlocklistError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity

from .conftest import Project, docker, wait_until
from .nginx import Answer, ask, make_certificate

BALANCER = """\
pid /run/nginx.pid;
error_log /dev/stderr notice;
events {}
http {
    access_log off;
    resolver 127.0.0.11 valid=1s ipv6=off;
    server {
        listen 8000;
        location / {
            set $server nginx;
            proxy_pass http://$server:8000;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
    }
}
"""

CONFIGURATION = """\
user nginx;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 256; }
http {
    access_log off;
    set_real_ip_from @BALANCER@;
    set_real_ip_from @GATEWAY@;
    real_ip_header X-Forwarded-For;
    real_ip_recursive on;
    server {
        listen 443 ssl default_server;
        ssl_certificate /etc/nginx/tls/own.crt;
        ssl_certificate_key /etc/nginx/tls/own.key;
        include /etc/nginx/server.d/*.conf;
        location / { return 200 "service for $remote_addr\\n"; }
    }
    server {
        listen 8000 default_server;
        include /etc/nginx/server.d/*.conf;
        # Would let everybody in whom 403 keeps out.
        error_page 403 = @fallback;
        location @fallback { return 200 "service\\n"; }
        location / { return 200 "service for $remote_addr\\n"; }
        location = /health { try_files /nothing /alive; }
        location = /alive { return 200 "alive\\n"; }
        location /slow/ { limit_rate 20k; alias /etc/nginx/slow/; }
    }
}
"""


@dataclass
class Front:
    """An nginx that blocks, a load balancer in front of it, and two clients."""

    project: Project
    engine: EngineControl
    folder: Path
    gateway: str

    @property
    def stack(self) -> Stack:
        return self.project.stack(nginx="nginx")

    @property
    def file(self) -> Path:
        return self.folder / "server.d" / "pynomaly-blocklist.conf"

    def address(self, service: str, number: int = 1) -> str:
        return str(self.project.container(service, number).addresses[0])

    def apply(self, *blocks: FileBlock, **options: Any) -> dict[str, Any]:
        return nginx_blocklist.apply(self.engine, self.stack, blocks, utc_now(), **options)

    def ask(self, number: int, url: str = "http://nginx:8000/", *options: str) -> Answer:
        return ask(self.project.container("client", number).id, url, *options)

    def through(self, number: int, *options: str) -> Answer:
        return self.ask(number, "http://balancer:8000/", *options)

    def restart(self) -> None:
        docker("restart", "--time", "1", self.project.container("nginx").id)
        wait_until("nginx serves", lambda: self.ask(2, "http://nginx:8000/health").status == 200)


class Connection:
    """One connection of a load balancer, which this machine is, kept open."""

    def __init__(self, front: Front) -> None:
        self._connection = http.client.HTTPConnection(front.address("nginx"), 8000, timeout=5)
        self._connection.connect()
        self._socket = self._connection.sock

    def ask(self, *addresses: str, path: str = "/") -> int:
        """The status for a request with a header for each of these; 0 where the connection has
        been closed."""
        self._connection.putrequest("GET", path)
        for address in addresses:
            self._connection.putheader("X-Forwarded-For", address)
        try:
            self._connection.endheaders()
            answer = self._connection.getresponse()
            answer.read()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            return 0
        assert self._connection.sock in (self._socket, None), "a new connection was made"
        return answer.status

    def close(self) -> None:
        self._connection.close()


def ask_for(front: Front, *addresses: str, path: str = "/") -> int:
    connection = Connection(front)
    try:
        return connection.ask(*addresses, path=path)
    finally:
        connection.close()


def block(network: str, seconds: float = 600.0) -> FileBlock:
    until = utc_now() + datetime.timedelta(seconds=seconds)
    return FileBlock(ipaddress.ip_network(network), until.replace(microsecond=0))


@pytest.fixture(scope="module")
def running(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    (folder / "server.d").mkdir()
    (folder / "slow").mkdir()
    (folder / "slow" / "large").write_bytes(b"x" * 2_000_000)
    make_certificate(folder / "tls")
    balancer = tmp_path_factory.mktemp("balancer")
    balancer.chmod(0o755)
    (balancer / "nginx.conf").write_text(BALANCER)
    started = project.start("balancer", "nginx", options=["-v", f"{balancer}:/etc/nginx:ro"])
    network = json.loads(docker("network", "inspect", project.name).stdout)[0]
    gateway = str(network["IPAM"]["Config"][0]["Gateway"])
    configuration = CONFIGURATION.replace("@BALANCER@", str(started.addresses[0]))
    (folder / "nginx.conf").write_text(configuration.replace("@GATEWAY@", gateway))
    project.start("nginx", "nginx", options=["--volume", f"{folder}:/etc/nginx:ro"])
    for _number in range(2):
        project.start("client", "nginx", command=["infinity"], options=["--entrypoint", "sleep"])
    front = Front(project, EngineControl(10.0), folder, gateway)
    wait_until("nginx serves", lambda: front.through(1).status == 200)
    yield front


@pytest.fixture
def front(running: Front) -> Iterator[Front]:
    configuration = (running.folder / "nginx.conf").read_text()
    yield running
    dirty = [*(running.folder / "server.d").iterdir()]
    for path in dirty:
        path.unlink()
    (running.folder / "nginx.conf").write_text(configuration)
    if dirty:
        running.restart()


def test_the_blocked_one_gets_nothing_and_the_bystander_notices_nothing(front: Front) -> None:
    wanted = block(front.address("client", 1))
    answer = front.apply(wanted)
    assert answer["changed"] and answer["in_force"] and not answer["skipped"]
    assert answer["files"] == [str(front.file)] and answer["remarks"] == []
    assert answer["address_header"] == "X-Forwarded-For"
    trusted = [f"{front.address('balancer')}/32", f"{front.gateway}/32"]
    assert answer["trusted_proxies"] == trusted
    for url in ("http://nginx:8000/", "https://nginx/", "http://nginx:8000/health"):
        seen = front.ask(1, url)
        assert (seen.status, seen.body) == (403, "Forbidden\n"), url
        assert front.ask(2, url).status == 200
    # Again: no change. None: the file goes. Again none: no change.
    written = front.file.stat().st_mtime_ns
    again = front.apply(wanted)
    assert (again["changed"], again["in_force"]) == (False, True)
    assert front.file.stat().st_mtime_ns == written
    released = front.apply()
    assert (released["changed"], released["in_force"]) == (True, False)
    assert not front.file.exists() and front.ask(1).status == 200
    assert front.apply()["changed"] is False


def test_a_forged_header_neither_evades_a_block_nor_blocks_a_victim(front: Front) -> None:
    attacker, victim = front.address("client", 1), front.address("client", 2)
    # Without a block, nginx has the address that the load balancer saw, not one that was claimed.
    forged = ("--header", f"X-Forwarded-For: {victim}")
    assert front.through(1, *forged).body == f"service for {attacker}\n"
    front.apply(block(attacker))
    # Directly: a client's header counts for nothing.
    assert front.ask(1, "http://nginx:8000/", *forged).status == 403
    blaming = ("--header", f"X-Forwarded-For: {attacker}")
    assert front.ask(2, "http://nginx:8000/", *blaming).body == f"service for {victim}\n"
    # Behind the load balancer: only what the load balancer has added counts.
    assert front.through(1).status == 403
    for options in (
        forged,
        ("--header", "X-Forwarded-For: 203.0.113.1, 203.0.113.2"),
        (*forged, "--header", "X-Forwarded-For: 203.0.113.9"),
        ("--header", "X-Forwarded-For:"),
        ("--header", "X-Forwarded-For: unknown"),
        ("--header", "X-Real-IP: 203.0.113.1", "--header", "Forwarded: for=203.0.113.1"),
    ):
        assert front.through(1, *options).status == 403, options
    assert front.through(2).status == 200
    assert front.through(2, *blaming).body == f"service for {victim}\n"
    assert front.through(2, "--header", f"X-Forwarded-For: {attacker}, {attacker}").status == 200


def test_forging_a_trusted_proxy_does_not_help(front: Front) -> None:
    """The trusted ones are skipped from the end on: what stands before the client's own address,
    which the load balancer has added, is never reached."""
    attacker = front.address("client", 1)
    front.apply(block(attacker))
    proxies = f"X-Forwarded-For: 203.0.113.1, {front.gateway}, {front.address('balancer')}"
    assert front.through(1, "--header", proxies).status == 403


NETWORKS = ["203.0.113.7", "10.10.10.0/25", "2001:db8:1::/48", "2001:db8:2::a", "198.51.0.0/17"]


def test_networks_of_both_families(front: Front) -> None:
    front.apply(*(block(network) for network in NETWORKS))
    inside = ["203.0.113.7", "10.10.10.10", "10.10.10.127", "2001:db8:1:ffff::a"]
    inside += ["2001:db8:2::a", "198.51.127.255", "::ffff:203.0.113.7", "[2001:db8:1::1]:4711"]
    outside = ["203.0.113.8", "10.10.10.128", "2001:db8:3::a", "2001:db8:2::b", "198.51.128.0"]
    connection = Connection(front)
    assert {address: connection.ask(address) for address in inside + outside} == {
        **dict.fromkeys(inside, 403),
        **dict.fromkeys(outside, 200),
    }
    connection.close()


def test_a_block_ends_by_itself(front: Front) -> None:
    """With nobody coming back, nginx restarted in between, on open connections too; the later of
    two ends counts."""
    short = block("203.0.113.7", 8.0)
    wanted = [short, block("203.0.113.8"), block("10.0.0.0/16", 8.0), block("10.0.1.0/24")]
    wanted += [block("10.1.0.0/16"), block("10.1.1.0/24", 8.0)]
    front.apply(*wanted)
    front.restart()
    connection = Connection(front)
    asked_at = []

    def is_free() -> bool:
        asked_at.append(utc_now())
        return connection.ask("203.0.113.7") == 200

    wait_until("it is free", is_free, 20.0)
    free_at = utc_now()
    assert asked_at[-2] < short.until <= free_at
    still = {"203.0.113.8": 403, "10.0.0.1": 200, "10.0.1.1": 403, "10.1.1.1": 403}
    assert {address: connection.ask(address) for address in still} == still
    connection.close()
    seen = nginx_blocklist.status(front.engine, front.stack, utc_now())
    assert [one["network"] for one in seen["blocks"]].count("203.0.113.7/32") == 0
    assert seen["in_force"] and len(seen["blocks"]) == 3
    # What is past is cleaned.
    assert front.apply(*wanted)["changed"] and "203.0.113.7" not in front.file.read_text()
    assert front.apply(*wanted)["changed"] is False
    assert front.apply(short)["in_force"] is False and not front.file.exists()


def test_open_connections_are_no_way_around(front: Front) -> None:
    """Of a client, and of a load balancer that carries others' requests over it as well."""
    idle, used = Connection(front), Connection(front)
    assert idle.ask("203.0.113.7") == used.ask("203.0.113.7") == 200
    front.apply(block("203.0.113.7"))
    assert idle.ask("203.0.113.7") in (0, 403)
    assert used.ask("203.0.113.8") in (0, 200)
    shared = Connection(front)
    assert [shared.ask(one) for one in ("203.0.113.7", "203.0.113.8", "203.0.113.7")] == [
        403,
        200,
        403,
    ]
    front.apply()
    assert shared.ask("203.0.113.8") in (0, 200)
    for connection in (idle, used, shared):
        connection.close()


def test_what_is_under_way_is_told(front: Front) -> None:
    download = socket.create_connection((front.address("nginx"), 8000), timeout=5)
    download.sendall(b"GET /slow/large HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
    assert download.recv(100).startswith(b"HTTP/1.1 200")
    answer = front.apply(block("203.0.113.7"))
    assert any("under way" in remark for remark in answer["remarks"])
    # Its connection is good for no other request.
    download.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
    download.close()
    assert front.apply(block("203.0.113.8"))["remarks"] == []


def test_the_page_and_the_blocks_stand_side_by_side(front: Front) -> None:
    attacker, operator = front.address("client", 1), front.address("client", 2)
    page = Page(
        (utc_now() + datetime.timedelta(minutes=10)).replace(microsecond=0), allow=[operator]
    )
    maintenance.page_on(front.engine, front.stack, page)
    front.apply(block(attacker))
    seen = {
        "attacker": ask_for(front, attacker),
        "attacker's health": ask_for(front, attacker, path="/health"),
        "operator": ask_for(front, operator),
        "anybody": ask_for(front, "203.0.113.8"),
        "anybody's health": ask_for(front, "203.0.113.8", path="/health"),
    }
    assert list(seen.values()) == [403, 403, 200, 503, 200], seen
    status = maintenance.page_status(front.engine, front.stack, utc_now())
    assert status["shown"] and status["remarks"] == []
    assert front.apply()["changed"]
    assert (ask_for(front, attacker), ask_for(front, operator)) == (503, 200)
    # The other way around
    wanted = block(attacker)
    front.apply(wanted)
    assert not maintenance.page_on(front.engine, front.stack, page)["changed"]
    assert maintenance.page_off(front.engine, front.stack)["changed"]
    assert front.apply(wanted)["changed"] is False
    assert (ask_for(front, attacker), ask_for(front, "203.0.113.8")) == (403, 200)
    maintenance.page_on(front.engine, front.stack, page)
    assert (ask_for(front, attacker), ask_for(front, "203.0.113.8")) == (403, 503)


def test_what_gets_past_it_is_told(front: Front) -> None:
    configuration = front.folder / "nginx.conf"
    include = "include /etc/nginx/server.d/*.conf;"
    text = configuration.read_text()
    configuration.write_text(text.replace(include, f"rewrite ^/past$ / last; {include}"))
    docker("restart", "--time", "1", front.project.container("nginx").id)
    wait_until("nginx serves", lambda: front.ask(2).status == 200)
    answer = front.apply(block("203.0.113.7"))
    assert ask_for(front, "203.0.113.7") == 403
    assert ask_for(front, "203.0.113.7", path="/past") == 200
    page = Page((utc_now() + datetime.timedelta(minutes=10)).replace(microsecond=0))
    shown = maintenance.page_on(front.engine, front.stack, page)
    assert (ask_for(front, "203.0.113.8"), ask_for(front, "203.0.113.8", path="/past")) == (
        503,
        200,
    )
    for remarks in (answer["remarks"], shown["remarks"]):
        assert [remark.partition(":")[0] for remark in remarks] == ["port 443", "port 8000"]
        assert all("in front" in remark for remark in remarks)


def test_check_mode_changes_nothing(front: Front) -> None:
    wanted = block("203.0.113.7")
    answer = front.apply(wanted, dry_run=True)
    assert answer["changed"] and not answer["in_force"]
    assert list((front.folder / "server.d").iterdir()) == []
    front.apply(wanted)
    assert front.apply(wanted, dry_run=True)["changed"] is False
    assert front.apply(dry_run=True)["changed"] and ask_for(front, "203.0.113.7") == 403


def test_a_thousand_blocks_cost_little(front: Front) -> None:
    """Their ends all differ, which is the most that nginx can be given to compare."""
    first = ipaddress.ip_address("198.18.0.0")
    wanted = [block(str(first + 2 * number), 600.0 + number) for number in range(1000)]
    connection = Connection(front)
    for _round in range(20):
        assert connection.ask("203.0.113.8") == 200

    def milliseconds(one: Connection) -> float:
        """Of the fastest: what others do to this machine makes a request slower, never faster."""
        took = []
        for _round in range(100):
            started = time.perf_counter()
            assert one.ask("203.0.113.8") == 200
            took.append((time.perf_counter() - started) * 1000)
        return min(took)

    before = milliseconds(connection)
    connection.close()
    assert front.apply(*wanted)["in_force"]
    assert ask_for(front, "198.18.7.206") == 403  # the last
    connection = Connection(front)
    after = milliseconds(connection)
    connection.close()
    print(f"the fastest request: {before:.2f} ms, beside 1000 blocks {after:.2f} ms")
    assert after - before < 5.0


# What goes wrong


def test_a_text_that_nginx_refuses_never_reaches_its_folder(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = nginx_blocklist.blocklist_fragment
    monkeypatch.setattr(
        nginx_blocklist, "blocklist_fragment", lambda blocks: real(blocks) + "nonsense on;\n"
    )
    steps: list[str] = []
    with pytest.raises(NginxBlocklistError, match="nonsense"):
        front.apply(block("203.0.113.7"), step=steps.append)
    assert steps == [] and list((front.folder / "server.d").iterdir()) == []
    assert ask_for(front, "203.0.113.8") == 200


def test_a_text_that_only_this_configuration_refuses_is_taken_back(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second location of the same name is right on its own, and wrong beside the first."""
    front.apply(block("203.0.113.9"))
    before = front.file.read_text()
    real = nginx_blocklist.blocklist_fragment
    clash = "location = /alive { return 200; }\n"
    monkeypatch.setattr(nginx_blocklist, "blocklist_fragment", lambda blocks: real(blocks) + clash)
    seen = []

    def watch(name: str) -> None:
        seen.append((name, ask_for(front, "203.0.113.8"), ask_for(front, "203.0.113.9")))

    with pytest.raises(NginxBlocklistError, match=r"duplicate location .*alive") as told:
        front.apply(block("203.0.113.7"), step=watch)
    assert "the configuration before is served" in str(told.value)
    assert seen == [("write", 200, 403), ("test", 200, 403)]
    assert front.file.read_text() == before
    front.restart()
    assert (ask_for(front, "203.0.113.8"), ask_for(front, "203.0.113.9")) == (200, 403)


def test_a_reload_that_nginx_ignores_is_found_out(front: Front) -> None:
    """A running nginx whose certificate is gone refuses every new configuration."""
    key = front.folder / "tls" / "own.key"
    kept = key.read_text()

    def break_it(name: str) -> None:
        if name == "reload":
            key.write_text("no key\n")

    try:
        with pytest.raises(NginxBlocklistError, match=r"own\.key"):
            front.apply(block("203.0.113.7"), step=break_it)
        assert ask_for(front, "203.0.113.7") == 200 and not front.file.exists()
        with pytest.raises(NginxBlocklistError, match="broken already"):
            front.apply(block("203.0.113.7"))
        assert not front.file.exists()
    finally:
        key.write_text(kept)
    assert front.apply(block("203.0.113.7"))["in_force"]


@pytest.mark.parametrize("release", [False, True])
def test_a_damaged_file_of_ours_is_replaced(front: Front, release: bool) -> None:
    wanted = block("203.0.113.7")
    front.apply(wanted)
    front.file.write_text("if ($nothing")
    assert ask_for(front, "203.0.113.8") == 200
    answer = front.apply() if release else front.apply(wanted)
    assert answer["in_force"] is not release
    front.restart()
    assert ask_for(front, "203.0.113.7") == (200 if release else 403)
    assert ask_for(front, "203.0.113.8") == 200


def test_a_stack_without_a_place_for_it_is_told_so(front: Front) -> None:
    def apply(stack: Stack, *blocks: FileBlock) -> dict[str, Any]:
        return nginx_blocklist.apply(front.engine, stack, blocks, utc_now())

    wanted = block("203.0.113.7")
    answer = apply(front.project.stack(), wanted)
    assert "has no nginx" in answer["skipped"]
    assert not answer["changed"] and not answer["in_force"]
    configuration = front.folder / "nginx.conf"
    kept = configuration.read_text()
    configuration.write_text(kept.replace("include /etc/nginx/server.d/*.conf;", ""))
    answer = apply(front.stack, wanted)
    assert "no include at all" in answer["skipped"] and "server.d" in answer["skipped"]
    assert not answer["changed"] and list((front.folder / "server.d").iterdir()) == []
    configuration.write_text(kept)


def test_an_nginx_that_does_not_run_starts_with_what_is_wanted(front: Front) -> None:
    container = front.project.container("nginx").id
    docker("stop", "--time", "1", container)
    try:
        missed = front.apply(block("203.0.113.7"))
        assert not missed["changed"] and "once nginx runs" in missed["skipped"]
    finally:
        docker("start", container)
    wait_until("nginx serves", lambda: front.ask(2).status == 200)
    front.apply(block("203.0.113.7"))
    docker("stop", "--time", "1", container)
    try:
        wanted = block("203.0.113.9")
        assert front.apply(wanted, dry_run=True)["changed"]
        changed = front.apply(wanted)
        assert changed["changed"] and not changed["in_force"] and "exited" in changed["skipped"]
        assert front.apply(wanted)["changed"] is False
    finally:
        docker("start", container)
    wait_until("nginx serves", lambda: front.ask(2).status == 200)
    assert (ask_for(front, "203.0.113.7"), ask_for(front, "203.0.113.9")) == (200, 403)
    assert front.apply(wanted)["changed"] is False
    docker("stop", "--time", "1", container)
    try:
        assert front.apply()["changed"] and not front.file.exists()
    finally:
        docker("start", container)
    wait_until("nginx serves", lambda: front.ask(2).status == 200)


STEPS = ["write", "test", "reload", "prove"]

KILLED = """
import datetime, ipaddress, os, sys
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import by_service
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import nginx_blocklist
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_blocklist import FileBlock

project, at, *wanted = sys.argv[1:]
engine = EngineControl(10.0)
containers = by_service(engine.list_project_containers(project))
stack = Stack(project, containers=containers, components={"nginx": "nginx"})
now = datetime.datetime.now(datetime.timezone.utc)

def step(name):
    if name == at:
        os.kill(os.getpid(), 9)

blocks = [
    FileBlock(ipaddress.ip_network(network), datetime.datetime.fromisoformat(until))
    for network, until in zip(wanted[::2], wanted[1::2])
]
nginx_blocklist.apply(engine, stack, blocks, now, step=step)
"""


def run_and_kill(front: Front, at: str, blocks: Sequence[FileBlock]) -> None:
    words = [word for one in blocks for word in (str(one.network), one.until.isoformat())]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, front.project.name, at, *words],
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("at", STEPS)
def test_killed_while_blocks_change(front: Front, at: str, restarted: bool) -> None:
    """From one set to another; what is on disk is good to start with, and the same call again
    finishes it."""
    kept, gone, new = block("203.0.113.1"), block("203.0.113.2"), block("203.0.113.3")
    front.apply(kept, gone)
    run_and_kill(front, at, [kept, new])
    assert (ask_for(front, "203.0.113.1"), ask_for(front, "203.0.113.8")) == (403, 200)
    if restarted:
        front.restart()
        assert (ask_for(front, "203.0.113.1"), ask_for(front, "203.0.113.8")) == (403, 200)
    assert front.apply(kept, new)["in_force"]
    seen = [ask_for(front, f"203.0.113.{number}") for number in (1, 2, 3, 8)]
    assert seen == [403, 200, 403, 200]
    assert front.apply(kept, new)["changed"] is False


@pytest.mark.parametrize("at", STEPS)
def test_killed_while_the_last_block_goes(front: Front, at: str) -> None:
    front.apply(block("203.0.113.1"))
    run_and_kill(front, at, [])
    assert ask_for(front, "203.0.113.8") == 200
    # Where the file is gone and nginx has not noticed, it is told.
    front.apply()
    assert ask_for(front, "203.0.113.1") == 200 and not front.file.exists()
    assert front.apply()["changed"] is False


# Resumed

IDENTITY = RunIdentity("run-1", "tester", "here")


def run_resume(front: Front, state_dir: Path, **options: Any) -> dict[str, Any]:
    settings = resume.ResumeSettings(front.project.name, str(state_dir / "backups"))
    store = OperationStore(str(state_dir))
    return resume.run(settings, front.engine, store, IDENTITY, **options)


@pytest.mark.parametrize("at", STEPS)
def test_resume_finishes_what_was_cut_off(
    front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """The kernel, which is this machine's own, is left out of it."""
    kept, new = block("203.0.113.1"), block("203.0.113.3")
    monkeypatch.setattr(
        blocklist.Blocklist,
        "reconcile",
        lambda _self: {"changed": False, "blocked": ["203.0.113.1", "203.0.113.3"]},
    )
    front.apply(kept)
    states = TemporaryStates(
        OperationStore(str(tmp_path)), IDENTITY, "incident_contain", front.project.name
    )
    states.open(blocklist.STATE, "2 networks blocked", {}, "incident_release")
    wanted = Wanted([Block(one.network, one.until) for one in (kept, new)], "nftables")
    blocklist.BlocklistStore(str(tmp_path)).write(wanted)
    run_and_kill(front, at, [kept, new])
    answer = run_resume(front, tmp_path)
    assert answer["changed"] is (at != "prove") and not answer["failed"], answer
    seen = [ask_for(front, f"203.0.113.{number}") for number in (1, 2, 3)]
    assert seen == [403, 200, 403]
    assert run_resume(front, tmp_path)["changed"] is False


@pytest.mark.parametrize("at", STEPS)
def test_resume_finishes_the_release_of_the_last(front: Front, tmp_path: Path, at: str) -> None:
    """Of which the journal and the list of blocks know nothing any more."""
    front.apply(block("203.0.113.1"))
    run_and_kill(front, at, [])
    foreseen = run_resume(front, tmp_path, dry_run=True)
    answer = run_resume(front, tmp_path)
    assert foreseen["changed"] is answer["changed"] is (at != "prove"), answer
    assert ask_for(front, "203.0.113.1") == 200 and not front.file.exists()
    assert run_resume(front, tmp_path)["changed"] is False
