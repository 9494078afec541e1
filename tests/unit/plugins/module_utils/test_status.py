# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    ComposeService,
    Container,
    PublishedPort,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._status import (
    WIDTH,
    container_status,
    image_version,
    stack_status,
    status_table,
)

NOW = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.timezone.utc)


def container(service: str, number: int = 1, **fields: Any) -> Container:
    values: dict[str, Any] = {
        "id": f"{service}{number}",
        "name": f"p-{service}-{number}",
        "service": service,
        "number": number,
        "state": "running",
        "image": f"{service}:1.2",
        "image_id": "sha256:abc",
        "started_at": "2026-01-02T11:00:00Z",
    }
    values.update(fields)
    return Container(**values)


def stack(**fields: Any) -> Stack:
    values: dict[str, Any] = {
        "project": "p",
        "working_dir": "/opt/p",
        "config_files": ("/opt/p/compose.yaml",),
        "services": {
            "api": ComposeService("api", replicas=2),
            "db": ComposeService("db"),
            "gone": ComposeService("gone"),
            "off": ComposeService("off", replicas=0),
        },
        "containers": {
            "api": (
                container(
                    "api",
                    health="healthy",
                    environment={"PASSWORD": "hunter2"},
                    command=("--pw=hunter2",),
                ),
                container("api", 2, health="unhealthy", started_at="2026-01-02T11:59:00Z"),
            ),
            "db": (
                container(
                    "db",
                    image="registry.example.org/team/db:17",
                    restart_count=2,
                    ports=(
                        PublishedPort(5432, "127.0.0.1", 15432),
                        PublishedPort(80, "0.0.0.0", 80),
                        PublishedPort(80, "::", 80),
                        PublishedPort(81, "10.0.0.1", 81),
                    ),
                ),
            ),
            "old": (
                container("old", state="exited", exit_code=3, finished_at="2026-01-01T12:00:00Z"),
            ),
        },
        "components": {"api": "api", "postgres": "db"},
    }
    values.update(fields)
    return Stack(**values)


def status() -> dict[str, Any]:
    return stack_status(stack(), "26.1.5", NOW)


def test_a_status_has_each_service_once_declared_ones_first() -> None:
    found = status()
    assert [one["service"] for one in found["services"]] == ["api", "db", "gone", "off", "old"]
    api, db, gone, _off, old = found["services"]
    assert (api["component"], api["expected"], api["running"]) == ("api", 2, 2)
    assert db["component"] == "postgres"
    assert (gone["expected"], gone["containers"]) == (1, [])
    assert (old["expected"], old["running"], old["component"]) == (None, 0, None)
    assert found["found"] is True


def test_a_container_that_runs_and_one_that_does_not() -> None:
    running = container_status(container("api"), NOW)
    assert (running["uptime_seconds"], running["exit_code"]) == (3600, None)
    assert running["since"] == "2026-01-02T11:00:00Z"
    stopped = container_status(
        container("api", state="exited", exit_code=3, finished_at="2026-01-01T12:00:00Z"), NOW
    )
    assert (stopped["uptime_seconds"], stopped["exit_code"]) == (None, 3)
    assert stopped["since"] == "2026-01-01T12:00:00Z"


def test_no_secret_is_in_a_status() -> None:
    assert "hunter2" not in str(status())


@pytest.mark.parametrize(
    ("reference", "label", "version"),
    [
        ("postgres:17", "", "17"),
        ("postgres:17", "22.04", "17"),
        ("app:v1.2", "", "v1.2"),
        ("app:production", "1.4.2", "1.4.2"),
        ("app:production", "", "production"),
        ("app", "", "latest"),
        ("registry:5000/app", "", "latest"),
        ("app@sha256:0123456789abcdef", "", "0123456789ab"),
        ("app:2@sha256:0123456789abcdef", "", "2"),
    ],
)
def test_versions(reference: str, label: str, version: str) -> None:
    labels = {"org.opencontainers.image.version": label} if label else {}
    assert image_version(reference, labels) == version


def test_the_table_has_a_row_for_each_service() -> None:
    lines = status_table(status())
    assert lines[0] == "Project p on Docker 26.1.5, in /opt/p"
    rows = {line.split()[0]: line for line in lines[3:]}
    assert lines[2].split() == ["SERVICE", "STATE", "HEALTH", "IMAGE", "VERSION", "UP", "PORTS"]
    assert "2 of 2 running" in rows["api"]
    assert "unhealthy" in rows["api"]
    assert " 1 min " in rows["api"]
    assert "running, 2 restarts" in rows["db"]
    assert rows["db"].endswith("80 10.0.0.1:81 lo:15432")
    assert "missing" in rows["gone"]
    assert "none wanted" in rows["off"]
    assert "exited (3)" in rows["old"]
    assert all(len(line) <= WIDTH for line in lines)
    state = lines[2].index("STATE")
    assert (rows["gone"].index("missing"), rows["db"].index("running")) == (state, state)


def test_a_replica_that_is_down_is_seen() -> None:
    down = (container("api"), container("api", 2, state="restarting", restart_count=1))
    lines = status_table(
        stack_status(stack(containers={"api": down}, components={}), "26.1.5", NOW)
    )
    (row,) = [line for line in lines if line.startswith("  api")]
    assert "1 of 2, restarting, 1 restart" in row


def test_long_names_are_shortened_and_the_table_fits() -> None:
    name = "a-service-with-a-name-that-goes-on-and-on"
    long = container(
        name,
        image=f"registry.example.org/a/very/long/path/{name}:2026.01.02-build.1234567",
        ports=tuple(PublishedPort(80, "127.0.0.1", 10000 + number) for number in range(9)),
        restart_count=12345,
        health="unhealthy",
    )
    lines = status_table(
        stack_status(
            stack(services={}, containers={name: (long,)}, working_dir="/x" * 80), "26.1.5", NOW
        )
    )
    assert all(len(line) <= WIDTH for line in lines)
    assert "a-service-with-a-nam.." in lines[3]


def test_what_could_repaint_a_terminal_is_shown_as_its_code() -> None:
    nasty = container("api", image="x\x1b[31m:1")
    lines = status_table(stack_status(stack(containers={"api": (nasty,)}), "26.1.5", NOW))
    assert "\x1b" not in "\n".join(lines)


def test_a_compose_file_that_cannot_be_read_is_told() -> None:
    lines = status_table(stack_status(stack(compose_error="the file is gone"), "26.1.5", NOW))
    assert "  its Compose file cannot be read: the file is gone" in lines


def test_a_project_that_is_not_there_names_those_that_are() -> None:
    nothing = stack_status(Stack("nope"), "26.1.5", NOW, ["p", "q"])
    assert (nothing["found"], nothing["services"]) == (False, [])
    assert status_table(nothing) == [
        "Project nope on Docker 26.1.5: no container of it was seen",
        "  expected one of this host's projects: p, q",
        "  next     ansible-playbook pynomaly.ops.status -e pynomaly_project_name=NAME",
    ]
    assert "projects: none" in status_table(stack_status(Stack("nope"), "26.1.5", NOW))[1]
