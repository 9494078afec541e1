# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack of somebody else's: its project name is all that the check is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import CANARY, Check, Server, playbook, troubles

ONLY = {"pynomaly_project_name": "somebody"}

#: What the check may not change, each as one command whose output stays the same.
FINGERPRINTS = (
    "docker ps --all --no-trunc --format '{{.ID}} {{.Image}} {{.Names}} {{.State}}' | sort",
    "docker inspect --format '{{.Id}} {{.State.StartedAt}} {{.RestartCount}} {{.Image}}' "
    "$(docker ps --all --quiet) | sort",
    "docker images --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}}' | sort",
    "docker network ls --no-trunc --format '{{.ID}} {{.Name}}' | sort",
    "docker volume ls --format '{{.Name}}' | sort",
    "find /srv /etc /opt /root /var/lib/pynomaly-ops /backups -xdev -type f "
    "-not -path '/root/.ansible/*' -printf '%p %s %T@ %m\\n' 2>/dev/null | sort",
    "docker exec pynomaly-postgres psql -X -At -U pynomaly -d pynomaly_prod -c "
    '"SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables ORDER BY 1"',
    "docker exec pynomaly-postgres psql -X -At -U pynomaly -d pynomaly_prod -c "
    '"SELECT count(*), sum(hashtextextended(d::text, 0)::numeric) FROM detections d"',
    "docker exec pynomaly-redis redis-cli dbsize",
)


@pytest.fixture(scope="session")
def node() -> str:
    return "node2"


def fingerprint(server: Server) -> list[str]:
    return [server.run(command) for command in FINGERPRINTS]


def changes(before: list[str], after: list[str]) -> set[str]:
    return set("\n".join(before).splitlines()) ^ set("\n".join(after).splitlines())


def results(entry: dict[str, Any], pattern: str) -> list[dict[str, Any]]:
    return [one for one in entry["results"] if one["id"].startswith(pattern)]


def test_1_without_the_libraries_it_says_what_to_install(server: Server, check: Check) -> None:
    server.run("dpkg --purge --force-depends python3-docker python3-psycopg2 2>/dev/null || true")
    entry = check.run(**ONLY)
    seen = troubles(entry)
    assert seen["docker.engine@docker"] == "unknown"
    (engine,) = results(entry, "docker.engine")
    assert "python3-docker" in engine["message"] + engine["hint"]
    assert "pynomaly.ops.prepare" in engine["hint"]
    assert {one["status"] for one in results(entry, "host.disk")} <= {"ok"}
    assert entry["exit_code"] == 0, "an unknown is not a critical"


def test_2_without_psycopg2_alone_the_rest_answers(server: Server, check: Check) -> None:
    server.run("apt-get install --yes --no-install-recommends python3-docker")
    entry = check.run(**ONLY)
    (ready,) = results(entry, "postgres.ready")
    assert ready["status"] == "unknown"
    assert "python3-psycopg2" in ready["message"] + ready["hint"]
    (ping,) = results(entry, "redis.ping")
    assert ping["status"] == "ok"
    assert "critical" not in troubles(entry).values()


def test_3_its_name_is_enough_and_nothing_changes(server: Server, check: Check, node: str) -> None:
    code, output = playbook("prepare", "-l", node, "-e", "pynomaly_project_name=somebody")
    assert code == 0, output
    for _ in range(3):
        server.run(
            "curl --silent --fail --max-time 10 --header 'Content-Type: application/json' "
            "--data '{\"values\": [1, 2, 3, 99]}' http://127.0.0.1:8000/api/v1/detect"
        )
    before = fingerprint(server)
    entry = check.run(**ONLY)
    assert changes(before, fingerprint(server)) == set()
    assert troubles(entry) == {}, check.output
    assert entry["exit_code"] == 0
    for probe in (
        "docker.engine",
        "api.health",
        "api.replica_health",
        "postgres.ready",
        "postgres.app_login",
        "redis.ping",
        "prometheus.targets",
    ):
        assert {one["status"] for one in results(entry, probe)} == {"ok"}, probe
    (configuration,) = results(entry, "nginx.config")
    assert configuration["status"] == "skipped"
    assert "nginx" in configuration["message"]


def test_4_check_mode_changes_nothing_either(server: Server, check: Check) -> None:
    before = fingerprint(server)
    entry = check.run("--check", **ONLY)
    assert changes(before, fingerprint(server)) == set()
    assert entry["exit_code"] == 0


def test_5_its_secrets_are_never_shown(check: Check) -> None:
    entry = check.run("-vvv", **ONLY)
    assert CANARY not in check.output
    assert CANARY not in json.dumps(entry)
    for path in check.folder.iterdir():
        assert CANARY not in path.read_text()


def test_6_a_project_that_does_not_exist_is_said_to_be_none(check: Check) -> None:
    entry = check.run(pynomaly_project_name="nobody")
    (found,) = results(entry, "project.found")
    assert found["status"] == "critical"
    assert "nobody" in found["message"] and "somebody" in found["message"]
    assert entry["exit_code"] == 2


def test_7_a_host_without_an_engine_is_one_red_line(server: Server, check: Check) -> None:
    server.run("systemctl stop docker.socket docker.service")
    try:
        entry = check.run(**ONLY)
    finally:
        server.run("systemctl start docker.socket docker.service")
    assert troubles(entry) == {"docker.engine@docker": "critical"}
    (engine,) = results(entry, "docker.engine")
    assert "docker" in engine["hint"]
    (ready,) = results(entry, "postgres.ready")
    assert ready["status"] == "skipped"
    assert ready["message"] == "not measured: docker.engine is critical"
    assert entry["exit_code"] == 2
