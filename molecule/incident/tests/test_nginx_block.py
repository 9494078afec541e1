# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A block behind a load balancer: node3 has one, node2 attacks through it, and the machine that the
tests run on is a bystander with an address of its own."""

from __future__ import annotations

import json
import re
import ssl
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from conftest import Operator, Server, connect, in_whole_matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = in_whole_matrix

PATH = "/api/v1/detections?limit=1"
PORT = 8088
BALANCER = """\
pid /run/balancer.pid;
error_log /dev/stderr notice;
events {}
http {
    access_log off;
    server {
        listen @PORT@;
        location / {
            proxy_pass https://@SERVER@;
            proxy_ssl_verify off;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
    }
}
"""
#: In a network that is nobody's: a load balancer names it, and no packet ever comes from it.
ELSEWHERE = "2001:db8:bad::/48"


def address(server: Server) -> str:
    (found,) = re.findall(r"inet ([0-9.]+)/", server.run("ip -4 -o address show dev eth0"))
    return str(found)


class Lane:
    """Requests to node1, through the load balancer and directly."""

    def __init__(self, server: Server, balancer: Server, hostile: Server) -> None:
        self.server, self.balancer, self.hostile = server, balancer, hostile
        self.attacker = address(hostile)
        self.through = f"http://{address(balancer)}:{PORT}{PATH}"
        self.direct = f"https://{address(server)}{PATH}"

    def attack(self, *headers: str) -> int:
        """What the attacker gets through the load balancer."""
        return self._ask_from(self.hostile, self.through, *headers)

    def attack_directly(self, *headers: str) -> int:
        return self._ask_from(self.hostile, self.direct, *headers)

    def as_balancer(self, client: str) -> int:
        """What a client gets that the load balancer names."""
        return self._ask_from(self.balancer, self.direct, f"X-Forwarded-For: {client}")

    @staticmethod
    def _ask_from(client: Server, url: str, *headers: str) -> int:
        words = [word for header in headers for word in ("--header", header)]
        places = " ".join(["%s"] * (len(words) + 1))
        curl = (
            "curl --silent --insecure --max-time 3 --output /dev/null --write-out '%%{http_code}'"
        )
        return int(client.run(f"{curl} {places} || true", *words, url) or 0)

    def bystand(self, url: str, **headers: str) -> int:
        """What this machine gets."""
        context = ssl._create_unverified_context()  # noqa: S323  # the lab's own certificate
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=5, context=context) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


@pytest.fixture(scope="module")
def lane(server: Server, operator: Operator) -> Iterator[Lane]:
    """The stack with the load balancer as its only trusted proxy, and without afterwards."""
    balancer, hostile = connect("node3"), connect("node2")
    operator.well("deploy", nginx_trusted_proxies=[address(balancer)])
    text = BALANCER.replace("@PORT@", str(PORT)).replace("@SERVER@", address(server))
    balancer.run("install -d -m 0755 /srv/balancer")
    balancer.write("/srv/balancer/nginx.conf", text)
    balancer.run(
        "docker run --detach --name balancer --network host "
        "--volume /srv/balancer:/etc/nginx:ro nginx:1.26"
    )
    made = Lane(server, balancer, hostile)
    try:
        server.wait_until("the load balancer serves", lambda: made.bystand(made.through) == 200)
        yield made
    finally:
        operator.well("incident_release")
        balancer.run("docker rm --force --volumes balancer")
        balancer.run("rm -r /srv/balancer")
        operator.well("deploy")


def test_the_attacker_is_kept_out_behind_the_load_balancer(lane: Lane, operator: Operator) -> None:
    assert lane.attack() == lane.as_balancer("2001:db8:bad::1") == 200
    operator.well(
        "incident_contain",
        **{"block": f"{lane.attacker},{ELSEWHERE}", "for": "30m", "reason": "scanning"},
    )
    assert lane.attack() == 403
    assert lane.as_balancer("2001:db8:bad:1::1") == 403
    # Directly the host's own table keeps the attacker out.
    assert lane.attack_directly() == 0
    # Nobody else notices, those least whose requests come over the same load balancer.
    assert lane.bystand(lane.through) == lane.bystand(lane.direct) == 200
    assert lane.as_balancer("2001:db8:600d::1") == 200
    listed = operator.well("blocklist").output
    assert lane.attacker in listed and "nginx" in listed


def test_a_forged_header_does_not_evade_it(lane: Lane) -> None:
    for headers in (
        ["X-Forwarded-For: 203.0.113.1"],
        ["X-Forwarded-For: 203.0.113.1, 203.0.113.2"],
        ["X-Forwarded-For: 203.0.113.1", "X-Forwarded-For: 203.0.113.2"],
        [f"X-Forwarded-For: 203.0.113.1, {address(lane.balancer)}"],
        ["X-Real-IP: 203.0.113.1", "Forwarded: for=203.0.113.1"],
    ):
        assert lane.attack(*headers) == 403, headers


def test_a_forged_header_does_not_block_a_victim(lane: Lane) -> None:
    blaming = {"X-Forwarded-For": lane.attacker}
    assert lane.bystand(lane.direct, **blaming) == 200
    assert lane.bystand(lane.through, **blaming) == 200


def test_blocked_twice_and_released_twice(lane: Lane, operator: Operator) -> None:
    assert operator.well("incident_release", block=lane.attacker).changed > 0
    assert lane.attack() == 200 and lane.as_balancer("2001:db8:bad::1") == 403
    operator.well("incident_release", block=lane.attacker)
    assert lane.attack() == 200
    operator.well("incident_release", block=ELSEWHERE)
    assert lane.as_balancer("2001:db8:bad::1") == 200
    folder = "/opt/pynomaly/config/nginx/server.d"
    assert "pynomaly-blocklist" not in lane.server.run(f"ls {folder}")


def test_the_end_comes_by_itself(lane: Lane, operator: Operator) -> None:
    """Though nginx was restarted in between."""
    operator.well(
        "incident_contain", **{"block": lane.attacker, "for": "90s", "reason": "scanning"}
    )
    assert lane.attack() == 403
    wanted = json.loads(lane.server.run("cat /var/lib/pynomaly-ops/blocklist.json"))
    assert lane.attacker in json.dumps(wanted)
    lane.server.compose("restart nginx")
    lane.server.wait_until("nginx serves", lambda: lane.bystand(lane.through) == 200)
    assert lane.attack() == 403
    deadline = time.monotonic() + 100
    while lane.attack() != 200:
        assert time.monotonic() < deadline, "the block has not ended"
        time.sleep(1)
