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

from ansible_collections.pynomaly.ops.plugins.modules.stack_precheck_info import look

NAMES = "subjectAltName=DNS:a.example,IP:10.0.0.1"


def params(**changes: Any) -> Mapping[str, Any]:
    base: dict[str, Any] = {
        "project_name": "no-such-project",
        "project_dir": "/opt/no-such-project",
        "images": [],
        "volumes": [],
        "ports": [],
        "disk": [],
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


def test_an_engine_that_is_too_old_is_a_problem() -> None:
    (problem,) = problems(look(params(minimum_engine_version="999.0")), "version of Docker Engine")
    assert problem["expected"] == "999.0 or newer"


def test_room_is_looked_at_where_the_path_would_be(tmp_path: Path) -> None:
    place = str(tmp_path / "not/yet/there")
    assert problems(look(params(disk=[{"path": place, "minimum_free_mib": 1}])), "room") == []
    enough = look(params(disk=[{"path": place, "minimum_free_mib": 10**9}]))
    assert len(problems(enough, "room")) == 1


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
