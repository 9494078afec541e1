# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The deployed stack, seen from outside."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from conftest import PROJECT_DIR, Check, Server, playbook, run_playbook, troubles

# Reads every process's arguments over and over, until it is told to stop, and tells which secrets
# it met. It takes them from .env itself: its own arguments are among what it reads.
LISTENER = """
import glob, json, signal, sys, time
lines = open("/opt/pynomaly/.env").read().splitlines()
values = {}
for line in lines:
    name, _equals, value = line.partition("=")
    if name.endswith(("_PASSWORD", "_KEY", "_URL")):
        values[name] = value.strip(chr(39) + chr(34)).encode()
met, commands, rounds, stopped = set(), set(), 0, []
signal.signal(signal.SIGTERM, lambda *_arguments: stopped.append(1))
deadline = time.monotonic() + 500
while not stopped and time.monotonic() < deadline:
    rounds += 1
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            arguments = open(path, "rb").read()
        except OSError:
            continue
        met |= {name for name, value in values.items() if value in arguments}
        commands.add(b" ".join(arguments.split(bytes(1))[:40]).decode("utf-8", "replace"))
    time.sleep(0.02)
json.dump({"looked_for": sorted(values), "met": sorted(met), "commands": sorted(commands),
           "rounds": rounds}, open("/run/lab-listener.json", "w"))
"""

SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "API_SECRET_KEY")


def container_states(server: Server) -> str:
    return server.run(
        "docker inspect --format '{{.Id}} {{.State.StartedAt}}' $(docker ps --quiet) | sort"
    )


def files(server: Server) -> str:
    return server.run(
        f"find {PROJECT_DIR} /var/lib/pynomaly-ops /backups -xdev -not -path '*/textfile*' "
        "-printf '%p %s %T@ %m %u\\n' | sort"
    )


@pytest.fixture(scope="module")
def secrets(server: Server) -> list[str]:
    lines = server.run(f"cat {PROJECT_DIR}/.env").splitlines()
    values = {
        name: value.strip("'\"")
        for name, separator, value in (line.partition("=") for line in lines)
        if separator
    }
    return [values[name] for name in SECRETS]


def test_the_front_door_answers(server: Server) -> None:
    health = json.loads(
        server.run("curl --silent --fail --max-time 10 http://localhost:8000/health")
    )
    assert health["status"] == "healthy"
    code = "curl --silent --output /dev/null --max-time 10 --write-out '%{http_code}'"
    assert server.run(f"{code} --insecure https://localhost/health") == "200"
    assert server.run(f"{code} http://localhost/") in ("301", "308")


def test_a_detection_is_stored_and_cached(server: Server) -> None:
    request = json.dumps({"values": [1, 2, 3, 4, time.time()]})  # none that was ever asked for
    ask = (
        "curl --silent --fail --max-time 10 --header 'Content-Type: application/json' "
        "--data %s http://localhost:8000/api/v1/detect"
    )
    before = int(server.sql("SELECT count(*) FROM detections"))
    first = json.loads(server.run(ask, request))
    assert first
    assert int(server.sql("SELECT count(*) FROM detections")) == before + 1
    assert json.loads(server.run(ask, request)).keys() == first.keys()
    assert int(server.sql("SELECT count(*) FROM detections")) == before + 1, "from the cache"


def test_the_api_has_no_fixed_name_and_no_host_port(server: Server) -> None:
    seen = json.loads(server.run(f"docker inspect {server.container('pynomaly-api')}"))[0]
    assert seen["Name"] == "/pynomaly-pynomaly-api-1"
    assert not any(seen["HostConfig"]["PortBindings"] or {})


def test_every_container_has_its_limits(server: Server) -> None:
    for seen in json.loads(server.run("docker inspect $(docker ps --quiet)")):
        name = seen["Name"]
        assert seen["HostConfig"]["LogConfig"]["Config"]["max-size"], name
        assert seen["HostConfig"]["Memory"] > 0, name
        assert "com.docker.compose.project" in seen["Config"]["Labels"]


def test_redis_wants_its_password(server: Server) -> None:
    container = server.container("redis-cluster")
    answer = server.run(f"docker exec --env REDISCLI_AUTH= {container} redis-cli ping 2>&1")
    assert "NOAUTH" in answer
    assert server.redis("ping") == "PONG"
    assert int(server.redis("config get maxmemory").split()[-1]) > 0


def test_prometheus_scrapes_every_exporter(server: Server) -> None:
    answer = json.loads(
        server.run("curl --silent --fail --max-time 10 http://127.0.0.1:9090/api/v1/targets")
    )
    jobs = {one["labels"]["job"] for one in answer["data"]["activeTargets"]}
    assert {one["health"] for one in answer["data"]["activeTargets"]} == {"up"}
    for wanted in ("prometheus", "alertmanager", "node", "postgres", "redis", "nginx", "api"):
        assert any(wanted in job for job in jobs), f"{wanted}: {jobs}"
    assert any("blackbox" in job for job in jobs), jobs


def test_secrets_are_private_and_in_no_listing(server: Server, secrets: list[str]) -> None:
    assert server.run(f"stat --format '%a %U' {PROJECT_DIR}/.env") == "600 root"
    compose_file = server.run(f"cat {PROJECT_DIR}/compose.yaml")
    arguments = server.run("ps -eo args")
    for secret in secrets:
        assert len(secret) >= 24
        assert secret not in compose_file
        assert secret not in arguments


def test_deploying_again_changes_nothing_and_shows_no_secret(
    server: Server, secrets: list[str]
) -> None:
    states, tree = container_states(server), files(server)
    code, output = playbook("deploy", "-l", "node1", "-vvv", "--diff")
    assert code == 0, output
    assert "changed=0" in output
    assert container_states(server) == states
    written = set(tree.splitlines()) ^ set(files(server).splitlines())
    # The operation itself is written down, and its lock taken and given back.
    own = {"/var/lib/pynomaly-ops", "/var/lib/pynomaly-ops/journal.jsonl"}
    assert {line.split()[0] for line in written} <= own
    for secret in secrets:
        assert secret not in output


def test_a_change_is_foretold_done_and_recorded(server: Server, secrets: list[str]) -> None:
    """Redis and nginx change; Compose 2.26 takes the API along with Redis."""
    change = ("-l", "node1", "-e", "redis_maxmemory_mib=33", "-e", "nginx_read_timeout_seconds=61")
    code, foretold = playbook("deploy", "--check", *change)
    assert code == 0, foretold
    assert "redis-cluster: recreate: pynomaly-redis-cluster-1: its configuration" in foretold
    assert "pynomaly-api: recreate: it needs redis-cluster, which is recreated" in foretold
    assert foretold.count(": recreate: ") == 2

    before = set(container_states(server).splitlines())
    server.write("/run/lab-listener.py", LISTENER)
    server.run("rm -f /run/lab-listener.json")
    start = "setsid python3 /run/lab-listener.py </dev/null >/dev/null 2>&1 & echo $!"
    listener = server.run(start)
    try:
        code, output = playbook("deploy", *change)
    finally:
        server.run(f"kill -TERM {listener}")
    assert code == 0, output
    # redis-cluster and the API
    assert len(before - set(container_states(server).splitlines())) == 2

    server.wait_until(
        "the listener has ended", lambda: server.run("ls /run").count("lab-listener.json") == 1
    )
    heard = json.loads(server.run("cat /run/lab-listener.json"))
    assert {*SECRETS, "DATABASE_URL"} <= set(heard["looked_for"])
    assert any("compose" in one and " up " in f"{one} " for one in heard["commands"]), heard
    assert heard["met"] == []
    assert not [one for secret in secrets for one in heard["commands"] if secret in one]

    code, history = playbook("history", "-l", "node1", "-e", "history_limit=1")
    assert code == 0, history
    assert "recreated pynomaly-api, redis-cluster; wrote " in history
    assert "undo: ansible-playbook pynomaly.ops.deploy -l node1" in history
    written = server.run(f"grep -A1 '= /configuration' {PROJECT_DIR}/config/nginx/nginx.conf")
    served = server.run(
        f"docker exec {server.container('nginx')} curl -sS --max-time 5 "
        "http://127.0.0.1:8080/configuration"
    )
    assert len(served) == 64
    assert served in written
    code, output = playbook("deploy", "-l", "node1")
    assert code == 0, output


@pytest.mark.parametrize("variable", ["pynomaly_database", "pynomaly_database_user"])
def test_a_name_that_the_database_was_made_with_is_not_changed(
    server: Server, variable: str
) -> None:
    states, tree = container_states(server), files(server)
    code, output = playbook("deploy", "-l", "node1", "-e", f"{variable}=other")
    assert code == 2
    assert f"{variable}: seen other, expected pynomaly" in output
    assert f"Next: set {variable} to pynomaly" in output
    assert container_states(server) == states
    written = set(tree.splitlines()) ^ set(files(server).splitlines())
    own = {"/var/lib/pynomaly-ops", "/var/lib/pynomaly-ops/journal.jsonl"}
    assert {line.split()[0] for line in written} <= own


def test_a_secret_that_alertmanager_cannot_read_is_told(server: Server) -> None:
    path = f"{PROJECT_DIR}/config/alertmanager/secrets/pager"
    server.run(f"umask 077; echo key > {path}")
    try:
        code, output = playbook("deploy", "-l", "node1")
        assert code == 2
        assert f"chgrp 65534 {path} && chmod 640 {path}" in output
        server.run(f"chgrp 65534 {path} && chmod 640 {path}")
        inside = "/etc/alertmanager/secrets/pager"
        assert server.run(f"docker exec {server.container('alertmanager')} cat {inside}") == "key"
        code, output = playbook("deploy", "-l", "node1")
        assert code == 0, output
    finally:
        server.run(f"rm {path}")


def test_check_mode_tells_what_a_new_secret_would_bring(server: Server) -> None:
    states, tree = container_states(server), files(server)
    code, output = playbook(
        "deploy", "-l", "node1", "--check", "-e", "monitoring_grafana_enabled=true"
    )
    assert code == 0, output
    assert "grafana: create: it has no container" in output
    assert container_states(server) == states
    assert files(server) == tree


def test_check_mode_tells_of_a_change_and_makes_none(server: Server) -> None:
    states, tree = container_states(server), files(server)
    code, output = playbook("deploy", "-l", "node1", "--check", "-e", "api_image=pynomaly:newer")
    assert code == 0, output
    assert "changed=0" not in output
    assert container_states(server) == states
    assert files(server) == tree


def test_the_api_scales_behind_nginx(server: Server, check: Check) -> None:
    code, output = playbook("deploy", "-l", "node1", "-e", "api_replicas=2")
    assert code == 0, output
    entry = check.run()
    replicas = [one for one in entry["results"] if one["id"] == "api.replica_health"]
    assert [one["status"] for one in replicas] == ["ok", "ok"]
    code, output = playbook("deploy", "-l", "node1")
    assert code == 0, output
    assert len(server.compose("ps --quiet pynomaly-api").splitlines()) == 1


def test_the_check_is_green_and_leaves_a_textfile(server: Server, check: Check) -> None:
    server.wait_until_healthy()
    entry = check.run()
    assert troubles(entry) == {}, check.output
    assert entry["exit_code"] == 0
    assert len(entry["results"]) >= 50
    text = server.run("cat /var/lib/pynomaly-ops/textfile/pynomaly_pynomaly.prom")
    assert 'probe="postgres.ready"' in text


def test_the_check_changes_nothing(server: Server, check: Check) -> None:
    states, tree = container_states(server), files(server)
    check.run()
    assert container_states(server) == states
    assert files(server) == tree


def test_status_and_history_say_what_is_and_was() -> None:
    code, output = playbook("status", "-l", "node1")
    assert code == 0, output
    for service in ("pynomaly-api", "postgres", "redis-cluster", "nginx", "prometheus"):
        assert service in output
    code, output = playbook("history", "-l", "node1")
    assert code == 0, output
    assert "prepare" in output
    assert "deploy" in output
    assert "finished" in output


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"pynomaly_probes": ["host.dsik"]},
            "unknown probe id 'host.dsik'; did you mean host.disk",
        ),
        ({"pynomaly_thresholds": {"host.disk": {"warning": "much"}}}, "expected a number"),
        (
            {"pynomaly_thresholds": {"host.disk": {"warning": 99, "critical": 90}}},
            "expected warning at or below critical",
        ),
        (
            {"pynomaly_waivers": [{"probe": "host.disk", "reason": "", "until": "2030-01-01"}]},
            "a reason is needed",
        ),
    ],
)
def test_bad_input_is_named(check: Check, variables: dict[str, object], said: str) -> None:
    entry = check.run(**variables)
    assert entry["exit_code"] == 2
    assert said in check.output
    assert entry["status"] == "critical"


def test_a_host_that_is_away_does_not_hide_the_others(check: Check) -> None:
    inventories = [*os.environ["ANSIBLE_INVENTORY"].split(","), "away.invalid,"]
    report, code = check.report(
        *(word for inventory in inventories for word in ("-i", inventory)),
        *("-l", "node1,away.invalid", "-e", "ansible_ssh_timeout=3"),
    )
    assert code == 2
    by_name = {host["name"]: host for host in report["hosts"]}
    assert by_name["node1"]["reachable"]
    assert len(by_name["node1"]["results"]) >= 50
    assert by_name["node1"]["status"] in ("ok", "warning")
    assert not by_name["away.invalid"]["reachable"]
    assert [one["id"] for one in by_name["away.invalid"]["results"]] == ["host.reachable"]


@pytest.mark.parametrize(
    ("role", "prefixes"),
    [
        ("api", {"api", "container", "logs"}),
        ("postgres", {"postgres", "container", "logs"}),
        ("redis", {"redis", "container", "logs"}),
        ("nginx", {"nginx", "tls", "container", "logs"}),
        ("monitoring", {"prometheus", "alertmanager", "grafana", "container", "logs"}),
        ("host", {"host", "docker"}),
    ],
)
def test_each_role_checks_its_own(tmp_path: Path, role: str, prefixes: set[str]) -> None:
    answer = tmp_path / "answer.json"
    play = [
        {
            "hosts": "node1",
            "gather_facts": False,
            "tasks": [
                {
                    "ansible.builtin.include_role": {
                        "name": f"pynomaly.ops.{role}",
                        "tasks_from": "check",
                    }
                },
                {
                    "ansible.builtin.copy": {
                        "content": "{{ __project_health.results }}",
                        "dest": str(answer),
                    },
                    "delegate_to": "localhost",
                },
            ],
        }
    ]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    # What other scenarios did to this server is still in nginx's log.
    settings = ("-e", '{"pynomaly_check_error_rate_window_minutes": 0.1}')
    code, output = run_playbook(str(tmp_path / "play.yml"), *settings)
    assert code == 0, output
    results = json.loads(answer.read_text())
    assert {one["id"].partition(".")[0] for one in results} <= prefixes
    assert any(one["id"].startswith(f"{min(prefixes - {'container', 'logs'})}.") for one in results)
    assert {one["status"] for one in results} <= {"ok", "skipped", "warning"}
