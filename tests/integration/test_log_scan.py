# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real servers, attacked: what their logs tell, from the engine and from files."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.modules import incident_log_info

from .conftest import Project, docker, wait_until

VICTIM = "203.0.113.9"
PASSWORD = "canary-log-scan-5b/1"
ATTACK = (
    *(f"GET /missing/{number} HTTP/1.1" for number in range(30)),
    "GET /.env HTTP/1.1",
    f"GET /?id=1%2520union%2520select%25201&password={PASSWORD} HTTP/1.1",
    f"GET /a%0a{VICTIM}%20-%20-%20[24/Nov/2026:00:00:00%20+0000]%20%22GET%20/.git/x%20HTTP/1.1%22"
    "%20404%205%20%22-%22%20%22sqlmap%22%0az HTTP/1.1",
)
TIMEOUT_SECONDS = 5.0


def ask(address: str, request: str) -> int:
    """The status of the answer to a request line, sent as it is."""
    with socket.create_connection((address, 80), timeout=TIMEOUT_SECONDS) as connection:
        text = (
            f"{request}\r\nHost: x\r\nX-Forwarded-For: {VICTIM}\r\n"
            "User-Agent: sqlmap/1.8\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(text.encode())
        return int(connection.makefile("rb").readline().split()[1])


def log_in(address: str, user: str) -> str:
    with contextlib.closing(
        psycopg2.connect(
            host=address, user=user, password="wrong", dbname="postgres", connect_timeout=5
        )
    ):
        return "it was let in"


@pytest.fixture(scope="module")
def attacked(project: Project) -> Iterator[Project]:
    nginx = project.start("nginx", "nginx")
    postgres = project.start(
        "postgres",
        "postgres",
        {"POSTGRES_PASSWORD": PASSWORD},
        ["postgres", "-c", "log_line_prefix=%m [%p] %u@%d %h "],
    )
    address = nginx.addresses[0]

    def listens() -> bool:
        with contextlib.suppress(OSError):
            return ask(address, "GET / HTTP/1.1") == 200
        return False

    wait_until("nginx to answer", listens)
    wait_until("PostgreSQL to listen", lambda: refused(postgres, "joe"))
    for request in ATTACK:
        assert ask(address, request) in (200, 404)
    for number in range(9):
        assert refused(postgres, f"user{number}")
    assert refused(postgres, VICTIM)
    yield project
    for service in ("nginx", "postgres"):
        project.remove(service)


def refused(postgres: Container, user: str) -> bool:
    try:
        log_in(postgres.addresses[0], user)
    except psycopg2.OperationalError as error:
        return "password authentication failed" in str(error)
    return False


def look(**options: Any) -> dict[str, Any]:
    parameters = {name: one.get("default") for name, one in incident_log_info.ARGUMENT_SPEC.items()}
    return incident_log_info.look({**parameters, **options})


def gateway(project: Project) -> str:
    """This machine, as the containers see it."""
    template = "{{ (index .IPAM.Config 0).Gateway }}"
    return docker("network", "inspect", "--format", template, project.name).stdout.strip()


def check(answer: dict[str, Any], client: str) -> None:
    (offender,) = answer["offenders"]
    assert offender["address"] == client
    assert offender["score"] == 100
    patterns = offender["patterns"]
    assert patterns["sql_injection"] == 1
    assert patterns["log_forging"] == 1
    assert patterns["scanning"] >= 20
    assert patterns["postgres_password"] >= 10
    assert patterns["scanner_agent"] == offender["requests"] >= len(ATTACK)
    assert offender["statuses"]["404"] >= 31
    assert VICTIM not in {one["address"] for one in [*answer["offenders"], *answer["busiest"]]}
    assert VICTIM not in answer["block"]
    assert answer["failed_logins"]["postgres"] >= 10
    assert answer["failed_logins"]["postgres_without_address"] == 0
    assert answer["not_understood"] == {}
    assert PASSWORD not in str(answer)


def test_the_engines_logs_tell_who_attacked(attacked: Project) -> None:
    client = gateway(attacked)
    answer = look(project_name=attacked.name, since="1h")
    check(answer, client)
    # The attacker is the machine itself, which is in the engine's networks.
    assert answer["block"] == ""
    assert answer["offenders"][0]["why_not"]
    # What is forged went to standard error, and after it the rest of nginx's own line.
    assert answer["not_believed"] == 2


def test_files_of_the_same_logs_tell_the_same(attacked: Project, tmp_path: Path) -> None:
    for service in ("nginx", "postgres"):
        name = attacked.container(service).name
        with (tmp_path / f"{service}-{name}.log").open("wb") as file:
            subprocess.run(
                ["docker", "logs", "--timestamps", name],
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=60,
                check=True,
            )
    answer = look(path=str(tmp_path), postgres_log_line_prefix="%m [%p] %u@%d %h ")
    check(answer, gateway(attacked))
    assert answer["not_believed"] >= 1
    assert answer["block"] == ""


def test_who_is_asked_for_is_told_alone(attacked: Project) -> None:
    answer = look(project_name=attacked.name, addresses=[VICTIM])
    assert answer["offenders"] == answer["busiest"] == []
    answer = look(project_name=attacked.name, addresses=[gateway(attacked)], since="1h")
    assert len(answer["offenders"]) == 1


def test_nothing_of_the_past_is_read_where_it_is_not_asked_for(attacked: Project) -> None:
    answer = look(project_name=attacked.name, since="2999-01-01T00:00:00Z")
    assert answer["lines"] == 0
    assert answer["offenders"] == []


def test_a_project_that_there_is_not_is_told(attacked: Project) -> None:
    with pytest.raises(incident_log_info.log_scan.LogScanError, match="no project"):
        look(project_name=f"{attacked.name}-absent")


@pytest.mark.parametrize(
    "options",
    [
        {"since": "yesterday"},
        {"addresses": ["203.0.113.0/33"]},
        {"ignore_patterns": ["nonsense"]},
        {"top": 0},
        {"block_score": 101},
        {"service_names": {"web": "nginx"}},
    ],
)
def test_options_that_cannot_be_are_told(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "nginx.log").write_bytes(b"")
    with pytest.raises(ValueError, match=next(iter(options))):
        look(path=str(tmp_path), **options)
