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
    assert by_name["node1"]["status"] == "ok"
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
