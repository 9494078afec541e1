# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""New credentials on the real stack, while clients use it, and what else a recovery looks at."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import PROJECT_DIR, Operator, Ran, Server, in_whole_matrix

pytestmark = in_whole_matrix

STATE = "/var/lib/pynomaly-ops"
WORD = "recover:pynomaly"
#: How busy the machine under all the nodes is says nothing of the stack.
MACHINE = {one: {"warning": None, "critical": None} for one in ("host.cpu", "host.load")}
SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "API_SECRET_KEY")


def environment(server: Server) -> dict[str, str]:
    lines = server.run(f"cat {PROJECT_DIR}/.env").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: value.strip("'\"") for name, _equals, value in pairs}


def secrets(server: Server) -> dict[str, str]:
    found = environment(server)
    return {name: found[name] for name in SECRETS}


def ids(server: Server) -> dict[str, set[str]]:
    listed = server.compose("ps --all --format json").splitlines()
    found: dict[str, set[str]] = {}
    for one in map(json.loads, listed):
        found.setdefault(one["Service"], set()).add(one["ID"])
    return found


def address(server: Server) -> str:
    (found,) = re.findall(r"inet ([0-9.]+)/", server.run("ip -4 -o address show dev eth0"))
    return str(found)


def said_by(server: Server, variable: str, secret: str, command: str) -> str:
    """What a client says in a container of its own on the project's network; the secret comes from
    a file that only root may read."""
    server.run("umask 077; printf %s > /root/recover.env", f"{variable}={secret}\n")
    try:
        return server.run(
            "docker run --rm --network pynomaly_back --env-file /root/recover.env "
            f"{command} 2>&1 || true"
        )
    finally:
        server.run("rm -f /root/recover.env")


def postgres_says(server: Server, password: str) -> str:
    psql = "psql -X -h postgres -U pynomaly -d pynomaly_prod -At -c 'SELECT 42'"
    return said_by(server, "PGPASSWORD", password, f"--entrypoint '' postgres:17 {psql}")


def redis_says(server: Server, password: str) -> str:
    command = "--entrypoint '' redis:8 redis-cli -h redis-cluster PING"
    return said_by(server, "REDISCLI_AUTH", password, command)


class Clients:
    """Requests through nginx, each on a connection of its own, at a bounded rate."""

    def __init__(self, host: str) -> None:
        self.done = 0
        self.failed: list[str] = []
        self._host = host
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(3)]

    def _run(self, number: int) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        while not self._stop.wait(0.1):
            content = json.dumps({"values": [1, 2, 3, 99, number, time.time()]})
            connection = http.client.HTTPSConnection(self._host, timeout=15, context=context)
            problem = ""
            with contextlib.closing(connection):
                try:
                    headers = {"Content-Type": "application/json", "Connection": "close"}
                    connection.request("POST", "/api/v1/detect", content, headers)
                    answer = connection.getresponse()
                    body = answer.read(300)
                    if answer.status != 200:
                        problem = f"{answer.status} {body!r}"
                except (OSError, http.client.HTTPException) as error:
                    problem = repr(error)
            with self._lock:
                self.done += 1
                if problem:
                    self.failed.append(f"{time.strftime('%H:%M:%S')} {problem}")

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


@contextlib.contextmanager
def complaints(server: Server) -> Iterator[list[str]]:
    """Why the API's replicas, also those that are taken away, could not serve a request; known once
    the block has ended."""
    found: list[str] = []
    logs = f"docker compose --project-directory {PROJECT_DIR} logs --follow --no-color --tail 0"
    server.run(
        "systemd-run --quiet --collect --unit recover-logs "
        "--property StandardOutput=truncate:/root/recover.log "
        f"/usr/bin/{logs} pynomaly-api"
    )
    try:
        yield found
    finally:
        server.run("systemctl stop recover-logs")
        found += server.run("grep 'for want of' /root/recover.log || true").splitlines()
        server.run("rm -f /root/recover.log")


@pytest.fixture(scope="module", autouse=True)
def replicas(operator: Operator, server: Server) -> Iterator[None]:
    """The API twice, so that one of them is there for clients."""
    operator.well("deploy", api_replicas=2)
    server.wait_until_healthy()
    yield
    operator.secrets |= set(secrets(server).values())
    operator.well("deploy")


def test_without_the_word_nothing_changes(operator: Operator, server: Server) -> None:
    before, containers = secrets(server), ids(server)
    ran = operator.run("incident_recover")
    assert ran.exit_code != 0
    assert f"confirm={WORD}" in ran.output
    assert secrets(server) == before
    assert ids(server) == containers


def test_a_check_changes_nothing(operator: Operator, server: Server) -> None:
    before, containers = secrets(server), ids(server)
    ran = operator.well("incident_recover", "--check", confirm=WORD)
    assert "would be rotated: postgres pynomaly, redis default, api SECRET_KEY" in ran.output
    assert secrets(server) == before
    assert ids(server) == containers


def test_every_credential_is_new_and_no_request_fails_for_a_password(
    operator: Operator, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    before, containers = secrets(server), ids(server)
    assert postgres_says(server, before["POSTGRES_PASSWORD"]) == "42"
    assert "PONG" in redis_says(server, before["REDIS_PASSWORD"])
    started = time.monotonic()
    with complaints(server) as said, Clients(address(server)) as clients:
        ran = operator.run("incident_recover", confirm=WORD, pynomaly_thresholds=MACHINE)
    seconds = time.monotonic() - started
    with capsys.disabled():
        print(
            f"\nrotation of every credential under load: {seconds:.0f} s, {clients.done} requests, "
            f"{len(clients.failed)} failed {clients.failed[:3]}"
        )
    assert ran.exit_code == 0, ran.output
    after = secrets(server)
    operator.secrets |= set(after.values())
    assert not [name for name, secret in after.items() if secret in ran.output]
    assert not set(before.values()) & set(after.values())
    assert clients.done > 50
    # The API gives a connection to the database a second. What a busy machine cannot open in that
    # time was not refused for its password; it is shown above all the same.
    late = [line for line in said if line.endswith("TimeoutError")]
    assert said == late
    assert len(clients.failed) <= len(late), clients.failed

    assert postgres_says(server, after["POSTGRES_PASSWORD"]) == "42"
    assert "password authentication failed" in postgres_says(server, before["POSTGRES_PASSWORD"])
    assert "PONG" in redis_says(server, after["REDIS_PASSWORD"])
    assert "WRONGPASS" in redis_says(server, before["REDIS_PASSWORD"])
    now = ids(server)
    for service in ("postgres", "nginx", "prometheus", "node-exporter"):
        assert now[service] == containers[service], f"{service} was recreated"
    for service in ("pynomaly-api", "redis-cluster", "postgres-exporter", "redis-exporter"):
        assert not now[service] & containers[service], f"{service} was not recreated"
    assert server.run(f"stat --format %a {PROJECT_DIR}/.env") == "600"
    journal = server.run(f"cat {STATE}/journal.jsonl")
    assert not [name for name in after if after[name] in journal or before[name] in journal]
    assert server.run(f"find {STATE}/credential-rotation -type f 2>/dev/null || true") == ""
    left = server.sql("SELECT rolname FROM pg_roles WHERE rolcanlogin ORDER BY 1")
    assert left == "pynomaly"


def test_exporters_and_backups_work_with_the_new_ones(operator: Operator, server: Server) -> None:
    for service, metric in (
        ("postgres-exporter:9187", "pg_up 1"),
        ("redis-exporter:9121", "redis_up 1"),
    ):
        found = server.run(
            "docker run --rm --network pynomaly_back --entrypoint '' nginx:1.26 "
            f"curl -fsS -m 10 http://{service}/metrics"
        )
        assert metric in found.splitlines()
    operator.well("backup", pynomaly_backup_kinds=["database"])
    # Nobody is to be warned of a backup that was not proved.
    server.run("find /backups/database -mindepth 1 -maxdepth 1 -exec rm -rf {} +")


def test_a_deployment_keeps_the_new_ones(operator: Operator, server: Server) -> None:
    before = secrets(server)
    operator.well("deploy", api_replicas=2)
    assert secrets(server) == before
    server.wait_until_healthy()
    assert operator.well("deploy", api_replicas=2).changed == 0


def test_a_file_that_somebody_left_in_a_container_is_told(
    operator: Operator, server: Server
) -> None:
    container = server.container("pynomaly-api")
    server.run(f"docker exec --user 0 {container} touch /usr/bin/miner")
    ran = looked_at(operator)
    assert ran.exit_code != 0
    assert "added /usr/bin/miner" in ran.output
    server.compose("up --detach --no-deps --force-recreate --wait pynomaly-api")
    ran = looked_at(operator)
    assert ran.exit_code == 0, ran.output


def looked_at(operator: Operator) -> Ran:
    return operator.run(
        "incident_recover", confirm=WORD, credentials="none", pynomaly_thresholds=MACHINE
    )


def report(operator: Operator) -> Any:
    path = operator.folder / "incident_recover-latest.json"
    return json.loads(path.read_text())


def test_the_report_has_the_proofs_of_the_last_rotation(operator: Operator) -> None:
    operator.well(
        "incident_recover", confirm=WORD, credentials="redis", pynomaly_thresholds=MACHINE
    )
    (host,) = report(operator)["hosts"]
    (table,) = [one for one in host["tables"] if one["title"] == "Credentials"]
    assert [row[:2] for row in table["rows"]] == [
        ["redis default", "new"],
        ["redis default", "old"],
    ]
    assert [row[2].split(",")[0] for row in table["rows"]] == ["let in", "refused"]
