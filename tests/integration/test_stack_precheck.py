# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The precheck of a deployment against the real engine and this machine's own sockets."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.modules import stack_precheck_info
from ansible_collections.pynomaly.ops.plugins.modules.stack_precheck_info import look

from .conftest import Project

NAMES = "subjectAltName=DNS:a.example,IP:10.0.0.1"


def params(**changes: Any) -> Mapping[str, Any]:
    base: dict[str, Any] = {
        "project_name": "no-such-project",
        "project_dir": "/opt/no-such-project",
        "images": [],
        "volumes": [],
        "ports": [],
        "disk": [],
        "docker_minimum_free_mib": None,
        "certificate": None,
        "minimum_engine_version": "1.0",
        "minimum_compose_version": "0.0",
    }
    return {**base, **changes}


def problems(answer: Mapping[str, Any], what: str) -> list[Mapping[str, str]]:
    return [problem for problem in answer["problems"] if problem["what"].startswith(what)]


def test_a_port_that_a_process_holds_is_told_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        answer = look(params(ports=[{"port": port, "host_ip": "127.0.0.1"}]))
        elsewhere = look(params(ports=[{"port": port, "host_ip": "127.0.0.99"}]))
    (problem,) = problems(answer, "port")
    assert f"(pid {os.getpid()})" in problem["seen"]
    assert problems(elsewhere, "port") == []
    assert problems(look(params(ports=[{"port": port, "host_ip": ""}])), "port") == []


def test_what_the_engine_lacks_is_told() -> None:
    answer = look(params(images=["no-such-image:1"], volumes=["no-such-volume"]))
    assert answer["missing_images"] == ["no-such-image:1"]
    assert answer["existing_volumes"] == []
    assert answer["engine_version"]


def test_images_in_use_are_told_by_service(project: Project) -> None:
    container = project.start("redis-cluster", "redis")
    answer = look(params(project_name=project.name))
    assert answer["images_in_use"] == {"redis-cluster": container.image}


def test_an_engine_that_is_too_old_is_a_problem() -> None:
    (problem,) = problems(look(params(minimum_engine_version="999.0")), "version of Docker Engine")
    assert problem["expected"] == "999.0 or newer"


def test_room_is_looked_at_where_the_path_would_be(tmp_path: Path) -> None:
    place = str(tmp_path / "not/yet/there")
    assert problems(look(params(disk=[{"path": place, "minimum_free_mib": 1}])), "room") == []
    enough = look(params(disk=[{"path": place, "minimum_free_mib": 10**9}]))
    assert len(problems(enough, "room")) == 1


def test_the_room_of_the_engine_is_where_it_says() -> None:
    answer = look(params(docker_minimum_free_mib=10**9))
    (problem,) = problems(answer, "room")
    assert problem["what"] == f"room on the filesystem of {answer['docker_root']}"
    assert Path(answer["docker_root"]).is_absolute()
    assert answer["docker_root"] == Engine(5.0).info()["DockerRootDir"]
    assert problems(look(params(docker_minimum_free_mib=1)), "room") == []


def test_without_an_engine_the_room_is_where_it_would_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    configuration = tmp_path / "daemon.json"
    monkeypatch.setattr(stack_precheck_info, "DAEMON_CONFIGURATION", configuration)
    answer = look(params(docker_minimum_free_mib=1))
    assert answer["docker_root"] == "/var/lib/docker"
    assert problems(answer, "Docker")
    configuration.write_text('{"data-root": "/srv/docker"}')
    assert look(params(docker_minimum_free_mib=1))["docker_root"] == "/srv/docker"


def test_a_certificate_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.crt"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "10"]
    argv += ["-subj", "/CN=a.example", "-addext", NAMES]
    subprocess.run(
        [*argv, "-keyout", f"{path}.key", "-out", f"{path}"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    found = look(params(certificate=str(path)))["certificate"]
    assert found["names"] == ["10.0.0.1", "a.example"]
    assert 9.9 < found["expires_in_days"] <= 10
    assert look(params(certificate=str(tmp_path / "none")))["certificate"] == {}
