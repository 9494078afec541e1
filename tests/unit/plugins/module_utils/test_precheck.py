# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    Container,
    PublishedPort,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._precheck import (
    CONFIG_FILES_LABEL,
    Listener,
    Port,
    Problem,
    data_root,
    describe_certificate,
    disk_problem,
    is_published,
    overlaps,
    parse_listeners,
    port_problem,
    project_problem,
    version_problem,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._tls import Certificate

PROC_NET_TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2382 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1
   2: 0100007F:0016 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 78 1
"""
PROC_NET_TCP6 = """\
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 5
   1: 0000000000000000FFFF00000100007F:1F40 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 6
   2: garbage
"""


def container(**changes: object) -> Container:
    base = {
        "id": "1",
        "name": "shop-web-1",
        "service": "web",
        "number": 1,
        "state": "running",
        "image": "web",
        "image_id": "sha256:1",
    }
    return Container(**{**base, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "minimum", "good"),
    [
        ("26.1.5+dfsg1", "20.10", True),
        ("20.10.24+dfsg1", "20.10", True),
        ("20.9.1", "20.10", False),
        ("v2.18.0", "2.18", True),
        ("2.26.1-4", "2.18", True),
        ("2.3.4", "2.18", False),
        ("1.29.2", "2.18", False),
        ("", "2.18", False),
        ("unknown", "2.18", False),
    ],
)
def test_versions_are_compared_as_numbers(seen: str, minimum: str, good: bool) -> None:
    assert (version_problem("Docker", seen, minimum) is None) is good


def test_a_problem_says_what_was_seen_and_expected_and_what_is_next() -> None:
    problem = version_problem("Docker Compose", "", "2.18")
    assert problem is not None
    assert problem.data()["text"] == (
        "version of Docker Compose: none; expected 2.18 or newer. "
        "Next: ansible-playbook pynomaly.ops.prepare"
    )


def test_room_on_disk() -> None:
    assert disk_problem("/srv", 2 * 1048576, 2 * 1048576) is None
    problem = disk_problem("/srv", 1048576, 2 * 1048576)
    assert problem is not None
    assert (problem.seen, problem.expected) == ("1 MiB free", "2 MiB or more")


def test_a_project_of_other_files_is_a_problem() -> None:
    mine = container(labels={CONFIG_FILES_LABEL: "/opt/shop/compose.yaml"})
    foreign = container(labels={CONFIG_FILES_LABEL: "/srv/a.yml,/srv/b.yml"})
    assert project_problem("shop", "/opt/shop/", [mine, container()]) is None
    problem = project_problem("shop", "/opt/shop", [mine, foreign])
    assert problem is not None
    assert "/srv/a.yml,/srv/b.yml" in problem.seen


def test_listening_sockets_are_read() -> None:
    assert parse_listeners(PROC_NET_TCP) == [
        Listener("127.0.0.1", 9090, 4242),
        Listener("0.0.0.0", 22, 77),
    ]
    assert parse_listeners(PROC_NET_TCP6) == [
        Listener("::1", 631, 5),
        Listener("127.0.0.1", 8000, 6),
    ]


@pytest.mark.parametrize(
    ("port", "listener", "expected"),
    [
        (Port(80), Listener("127.0.0.1", 80, 1), True),
        (Port(80, "127.0.0.1"), Listener("0.0.0.0", 80, 1), True),
        (Port(80, "127.0.0.1"), Listener("::", 80, 1), True),
        (Port(80, "127.0.0.1"), Listener("127.0.0.1", 80, 1), True),
        (Port(80, "127.0.0.1"), Listener("10.0.0.1", 80, 1), False),
        (Port(80), Listener("0.0.0.0", 81, 1), False),
    ],
)
def test_who_would_be_met(port: Port, listener: Listener, expected: bool) -> None:
    assert overlaps(port, listener) is expected


def test_a_port_of_the_project_itself_is_no_problem() -> None:
    ports = (PublishedPort(80, "0.0.0.0", 8080),)
    assert is_published(Port(8080), [container(ports=ports)])
    assert not is_published(Port(80), [container(ports=ports)])
    assert not is_published(Port(8080), [container(ports=ports, state="exited")])


def test_a_taken_port_names_its_owner() -> None:
    problem = port_problem(Port(80, "127.0.0.1"), "process apache2 (pid 7)")
    assert isinstance(problem, Problem)
    assert (problem.what, problem.seen) == (
        "port 127.0.0.1:80",
        "taken by process apache2 (pid 7)",
    )


def test_a_certificate_is_described() -> None:
    now = datetime.datetime(2026, 11, 24, tzinfo=datetime.timezone.utc)
    certificate = Certificate(
        subject="CN=a.example,O=pynomaly.ops",
        not_before=now,
        not_after=now + datetime.timedelta(days=10, hours=12),
        sha256="00",
        names=("b.example", "a.example"),
        addresses=("10.0.0.1",),
    )
    assert describe_certificate(certificate, now) == {
        "subject": "CN=a.example,O=pynomaly.ops",
        "names": ["10.0.0.1", "a.example", "b.example"],
        "expires_in_days": 10.5,
    }


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("", "/var/lib/docker"),
        ("{}", "/var/lib/docker"),
        ("{not json", "/var/lib/docker"),
        ("[]", "/var/lib/docker"),
        ('{"data-root": ""}', "/var/lib/docker"),
        ('{"data-root": 7}', "/var/lib/docker"),
        ('{"data-root": "/srv/docker"}', "/srv/docker"),
    ],
)
def test_where_an_engine_would_keep_its_data(text: str, root: str) -> None:
    assert data_root(text) == root
