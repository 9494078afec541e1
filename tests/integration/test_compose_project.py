# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Projects brought up by Docker Compose itself: what is found, and what ``up`` would do."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._compose import (
    ComposeFiles,
    action_on_dependents,
    changes,
    plan,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import by_service
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import containers
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import (
    compose_version,
    discover,
    load_project,
    read_ahead,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Policy, result
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    CollectorError,
    run_collectors,
)

from .conftest import DAY, LABEL, docker, image

SECRET = "canary-compose-3d"
TROUBLE = ("warning", "critical", "unknown")

pytestmark = pytest.mark.usefixtures("compose_plugin")

FILE = """\
x-any: &any
  image: {image}
  entrypoint: ["sleep", "600"]
  init: true
  labels: {{"{label}": "{value}"}}
services:
  pynomaly-api:
    <<: *any
    environment: {{DATABASE_URL: "postgresql://app:${{PASSWORD}}@db/x"}}
    deploy: {{replicas: 2, resources: {{limits: {{memory: 64M}}}}}}
    depends_on: {{migrate: {{condition: service_completed_successfully}}}}
    healthcheck: {{test: ["CMD", "true"], interval: 1s}}
    networks: [back]
    secrets: [key]
  migrate:
    <<: *any
    entrypoint: ["true"]
    networks: [back]
  settings:
    <<: *any
    env_file: [settings.env]
    volumes: ["data:/data"]
    networks: [back]
  sharing:
    <<: *any
    network_mode: "service:settings"
  tool:
    <<: *any
    profiles: [tools]
networks:
  back: {{labels: {{"{label}": "{value}"}}}}
volumes:
  data: {{labels: {{"{label}": "{value}"}}}}
secrets:
  key: {{file: ./key}}
"""


@dataclass
class Composed:
    """A project in a folder."""

    name: str
    folder: Path
    engine: Engine

    @property
    def file(self) -> Path:
        return self.folder / "docker-compose.yml"

    def compose(self, *arguments: str) -> None:
        docker(
            *("compose", "--project-name", self.name, "--project-directory", str(self.folder)),
            *("--file", str(self.file), *arguments),
            timeout_seconds=120,
        )

    def up(self) -> set[str]:
        """Bring it up; the services all of whose containers are others than before."""
        before = {one.id for one in self.engine.list_project_containers(self.name)}
        self.compose("up", "--detach", "--timeout", "0")
        now = by_service(self.engine.list_project_containers(self.name))
        return {name for name, some in now.items() if not before & {one.id for one in some}}

    def edit(self, before: str, after: str) -> None:
        text = self.file.read_text()
        assert before in text
        self.file.write_text(text.replace(before, after, 1))

    def actions(self, **options: bool) -> dict[str, str]:
        """What up would do, without what it would not touch."""
        project = load_project(self.engine, self.name, 10)
        assert project.config is not None, project.error
        steps = plan(
            project.config,
            project.containers,
            self.engine.network_labels(),
            self.engine.volume_labels(),
            on_dependents=action_on_dependents(compose_version(10)),
            **options,
        )
        assert changes(steps) == any(step.action != "none" for step in steps)
        return {step.service: step.action for step in steps if step.action != "none"}

    def statuses(self) -> dict[tuple[str, str], str]:
        """Statuses by probe and service; no secret is in any result."""
        settings = CheckSettings()
        stack = discover(self.engine, self.name, settings)
        found = {}
        for measurement in run_collectors(
            containers.collectors(stack, settings, self.engine), settings.deadline_seconds
        ):
            entry = result(measurement, Policy(CATALOGUE), DAY)
            assert SECRET not in json.dumps(entry)
            found[entry["id"], entry["service"]] = entry["status"]
        return found

    def fingerprint(self) -> list[Any]:
        ids = docker("ps", "--all", "--quiet", "--filter", self.label).stdout.split()
        inspected = json.loads(docker("inspect", *sorted(ids)).stdout)
        return [
            (one["Id"], one["State"]["StartedAt"], one["RestartCount"], one["Config"])
            for one in inspected
        ] + [sorted((path.name, path.stat().st_mtime_ns) for path in self.folder.iterdir())]

    @property
    def label(self) -> str:
        return f"label=com.docker.compose.project={self.name}"


@pytest.fixture
def composed(tmp_path: Path, engine: Engine) -> Iterator[Composed]:
    label, _equals, value = LABEL.partition("=")
    project = Composed(f"inttest-{tmp_path.name[-12:]}".lower(), tmp_path, engine)
    project.file.write_text(FILE.format(image=image("registry"), label=label, value=value))
    (tmp_path / ".env").write_text(f"PASSWORD={SECRET}\n")
    (tmp_path / "settings.env").write_text("A=1\n")
    (tmp_path / "key").write_text("k")
    text = project.file.read_text()
    try:
        project.compose("up", "--detach")
        yield project
    finally:
        project.file.write_text(text)
        project.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "0")


def test_a_project_from_its_name_alone(composed: Composed) -> None:
    before = composed.fingerprint()
    stack = discover(composed.engine, composed.name, CheckSettings())
    assert stack.compose_error == ""
    assert stack.working_dir == str(composed.folder)
    assert stack.config_files == (str(composed.file),)
    assert set(stack.services) == {"pynomaly-api", "migrate", "settings", "sharing"}
    assert stack.services["migrate"].one_shot
    assert stack.services["pynomaly-api"].replicas == 2
    assert stack.services["pynomaly-api"].image_id == composed.engine.image_id(image("registry"))
    assert [one.number for one in stack.containers["pynomaly-api"]] == [1, 2]
    assert stack.containers["sharing"][0].addresses == stack.containers["settings"][0].addresses
    assert stack.components["api"] == "pynomaly-api"
    assert SECRET not in repr(stack)
    troubled = {where: status for where, status in composed.statuses().items() if status in TROUBLE}
    assert troubled == {}
    assert composed.actions() == {"migrate": "start"}
    assert composed.fingerprint() == before


def test_what_changed_is_planned_and_nothing_else(composed: Composed) -> None:
    before = composed.fingerprint()[:-1]
    (composed.folder / "settings.env").write_text("A=2\n")
    changed_settings = {"migrate": "start", "settings": "recreate", "sharing": "recreate"}
    assert composed.actions() == changed_settings
    (composed.folder / "settings.env").write_text("A=1\n")
    (composed.folder / ".env").write_text("PASSWORD=other\n")
    assert composed.actions() == {"migrate": "start", "pynomaly-api": "recreate"}
    (composed.folder / ".env").write_text(f"PASSWORD={SECRET}\n")
    composed.edit("replicas: 2", "replicas: 3")
    assert composed.actions() == {"migrate": "start", "pynomaly-api": "scale"}
    composed.edit("replicas: 3", "replicas: 2")
    composed.edit("volumes: [", "read_only: true\n    volumes: [")
    assert composed.actions() == changed_settings
    assert composed.fingerprint()[:-1] == before
    found = composed.statuses()
    assert found["container.image", "settings"] == "warning"
    assert found["container.image", "pynomaly-api"] == "ok"


def test_the_plan_is_what_up_then_does(composed: Composed) -> None:
    """Every planned action is taken by the real ``up``, and the plan is empty afterwards."""
    (composed.folder / "settings.env").write_text("A=2\n")
    composed.compose("stop", "--timeout", "0", "sharing")
    planned = composed.actions()
    assert planned == {"migrate": "start", "settings": "recreate", "sharing": "recreate"}
    assert composed.up() == {"settings", "sharing"}
    assert composed.actions() == {"migrate": "start"}


def test_what_waits_for_a_recreated_service_is_planned_as_up_does_it(composed: Composed) -> None:
    composed.edit('entrypoint: ["true"]', 'entrypoint: ["true"]\n    read_only: true')
    planned = composed.actions()
    assert planned.pop("migrate") == "recreate"
    follows = action_on_dependents(compose_version(10))
    assert planned == ({} if follows == "none" else {"pynomaly-api": follows})
    assert composed.up() == {"migrate"} | ({"pynomaly-api"} if follows == "recreate" else set())


def test_orphans_missing_services_and_profiles(composed: Composed) -> None:
    composed.compose("--profile", "tools", "up", "--detach", "tool")
    stack = discover(composed.engine, composed.name, CheckSettings())
    assert "tool" in stack.services
    composed.edit("  tool:\n", "  renamed:\n")
    composed.edit("profiles: [tools]", "restart: always")
    found = composed.statuses()
    assert found["container.state", "tool"] == "warning"
    assert found["container.state", "renamed"] == "critical"
    assert found["container.state", "settings"] == "ok"
    assert composed.actions(remove_orphans=True)["tool"] == "remove_orphan"
    assert "tool" not in composed.actions()


UNREADABLE = (
    ("services: [", "yaml"),
    ("services: {a: {image: x, nonsense: 1}}", "nonsense"),
    ('services: {a: {image: x, environment: {P: "canary-compose-3d${"}}}', "interpolation"),
    ("", "empty"),
    (None, "is gone"),
)


def test_a_file_that_cannot_be_read(composed: Composed) -> None:
    for text, words in UNREADABLE:
        if text is None:
            composed.file.rename(composed.folder / "moved.yml")
        else:
            composed.file.write_text(text)
        stack = discover(composed.engine, composed.name, CheckSettings())
        assert words in stack.compose_error.lower()
        assert SECRET not in stack.compose_error
        assert stack.services == {}
        assert len(stack.containers["pynomaly-api"]) == 2
    found = composed.statuses()
    assert found["project.compose_file", "project"] == "critical"
    assert found["container.state", "pynomaly-api"] == "ok"
    assert found["container.image", "pynomaly-api"] == "skipped"


def test_variables_that_nobody_sets_keep_hashes_from_being_compared(composed: Composed) -> None:
    (composed.folder / ".env").write_text("OTHER=1\n")
    project = load_project(composed.engine, composed.name, 10)
    assert project.config is not None
    assert project.config.unset_variables == ["PASSWORD"]
    assert {one.config_hash for one in project.config.services.values()} == {""}


def test_reading_ahead_gives_what_reading_gives(composed: Composed) -> None:
    ahead = read_ahead(composed.name, 10)
    assert ahead is not None
    read, error = ahead.result()
    assert read is not None, error
    # What was read ahead is what counts: the file is looked at no more.
    composed.edit("deploy: {replicas: 2", "deploy: {replicas: 3")
    with_it = discover(composed.engine, composed.name, CheckSettings(), reader=ahead)
    without = discover(composed.engine, composed.name, CheckSettings())
    assert with_it.services["pynomaly-api"].replicas == 2
    assert without.services["pynomaly-api"].replicas == 3
    composed.edit("deploy: {replicas: 3", "deploy: {replicas: 2")
    assert discover(composed.engine, composed.name, CheckSettings()) == with_it


def test_reading_ahead_counts_only_while_it_holds(composed: Composed) -> None:
    ahead = read_ahead(composed.name, 10)
    assert ahead is not None
    composed.edit("deploy: {replicas: 2", "deploy: {replicas: 1")
    composed.compose("up", "--detach", "--force-recreate")
    stack = discover(composed.engine, composed.name, CheckSettings(), reader=ahead)
    assert stack.services["pynomaly-api"].replicas == 1
    assert read_ahead("no-such-project", 10) is None


def test_reading_ahead_does_not_wait_for_an_engine_that_is_silent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
        started = time.monotonic()
        assert read_ahead("any", 30) is None
        assert time.monotonic() - started < 3
    monkeypatch.setenv("DOCKER_HOST", "nonsense")
    assert read_ahead("any", 30) is None


def test_a_project_that_is_not_up_yet(composed: Composed) -> None:
    files = ComposeFiles(str(composed.folder), (), ())
    project = load_project(composed.engine, f"{composed.name}-new", 10, files)
    assert project.config is not None
    assert project.containers == {}
    steps = plan(project.config, {}, composed.engine.network_labels(), [])
    assert {step.action for step in steps} == {"create"}
    assert "volume data" in {step.service for step in steps}


def test_no_such_project(engine: Engine) -> None:
    stack = discover(engine, "no-such-project", CheckSettings())
    assert (stack.containers, stack.services, stack.compose_error) == ({}, {}, "")


def test_no_compose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert compose_version(10)
    monkeypatch.setattr(
        "ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose._PLUGIN_FOLDERS", ()
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CollectorError, match="Docker Compose is not installed") as failure:
        compose_version(10)
    assert failure.value.hint == "ansible-playbook pynomaly.ops.prepare"
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\necho \"docker: 'compose' is not a docker command.\" >&2; exit 1\n")
    fake.chmod(0o755)
    with pytest.raises(CollectorError, match="plugin is not installed"):
        compose_version(10)
    fake.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    with pytest.raises(CollectorError, match=r"did not end within 0\.5 s"):
        compose_version(0.5)
