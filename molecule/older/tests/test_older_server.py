# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same stack and the same check on a server with an older Docker and an older Python."""

from __future__ import annotations

import json

import pytest
from conftest import Check, Server, playbook, troubles


@pytest.fixture(scope="session")
def node() -> str:
    return "debian12"


def test_the_server_is_an_older_one(server: Server) -> None:
    assert server.run("docker version --format '{{.Server.Version}}'").startswith("20.10.")
    assert server.run("/usr/bin/python3 --version").startswith("Python 3.11.")


def test_the_front_door_answers(server: Server) -> None:
    health = json.loads(
        server.run("curl --silent --fail --max-time 10 http://localhost:8000/health")
    )
    assert health["status"] == "healthy"


def test_the_check_is_green(server: Server, check: Check) -> None:
    server.wait_until_healthy()
    entry = check.run()
    assert troubles(entry) == {}, check.output
    assert entry["exit_code"] == 0
    well = {one["id"] for one in entry["results"] if one["status"] == "ok"}
    assert {"docker.engine", "postgres.app_login", "redis.ping", "api.health"} <= well


def test_the_check_sees_what_is_broken(server: Server, check: Check) -> None:
    redis = server.container("redis-cluster")
    server.run(f"docker stop {redis}")
    try:
        entry = check.run()
    finally:
        server.run(f"docker start {redis}")
    assert troubles(entry)["redis.ping@redis-cluster"] == "critical"
    assert entry["exit_code"] == 2
    server.wait_until_healthy()


def test_status_and_history_answer(node: str) -> None:
    code, output = playbook("status", "-l", node)
    assert code == 0, output
    for service in ("pynomaly-api", "postgres", "redis-cluster", "nginx", "prometheus"):
        assert service in output
    code, output = playbook("history", "-l", node)
    assert code == 0, output
    assert "deploy" in output
