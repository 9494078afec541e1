# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook C{maintenance} against the engine of this machine, over a local connection."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    open_temporary_states,
    summarize_operations,
)

from .conftest import Project, docker, wait_until
from .nginx import ask

RUN_SECONDS = 180

CONFIGURATION = """\
user nginx;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events {}
http {
    access_log off;
    server {
        listen 8000 default_server;
        include /etc/nginx/server.d/*.conf;
        location / { return 200 "service\\n"; }
    }
}
"""


@dataclass
class Operator:
    """Whoever runs the playbook on the project, and what is on the host then."""

    project: Project
    folder: Path
    directory: Path

    def run(self, *arguments: str, **variables: Any) -> tuple[int, str]:
        given = {
            "ansible_python_interpreter": sys.executable,
            "pynomaly_project_name": self.project.name,
            "pynomaly_state_dir": str(self.directory / "state"),
            **variables,
        }
        words = ["-i", "shop,", "-c", "local", "-e", json.dumps(given), *arguments]
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                "pynomaly.ops.maintenance",
                *words,
            ],
            cwd=self.directory,
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_HOME": str(self.directory / "home"),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    def status(self, number: int, path: str = "/") -> int:
        """What a client gets."""
        client = self.project.container("client", number).id
        return ask(client, f"http://nginx:8000{path}").status

    def journal(self) -> tuple[list[str], list[str]]:
        """The outcomes of all operations, and what is open."""
        lock, journal = OperationStore(str(self.directory / "state")).read()
        assert lock is None, "the lock is still held"
        outcomes = [one.outcome for one in summarize_operations(journal.records, lock)]
        states = open_temporary_states(journal.records)
        return outcomes, [record["temporary_state"] for record in states]


@pytest.fixture(scope="module")
def running(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Project, Path]]:
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    (folder / "server.d").mkdir()
    (folder / "nginx.conf").write_text(CONFIGURATION)
    project.start("nginx", "nginx", options=["--volume", f"{folder}:/etc/nginx:ro"])
    for _number in range(2):
        project.start("client", "nginx", command=["infinity"], options=["--entrypoint", "sleep"])
    yield project, folder


@pytest.fixture
def operator(running: tuple[Project, Path], tmp_path: Path) -> Iterator[Operator]:
    project, folder = running
    made = Operator(project, folder, tmp_path)
    wait_until("nginx serves", lambda: made.status(1) == 200)
    yield made
    left = list((folder / "server.d").iterdir())
    for path in left:
        path.unlink()
    if left:
        docker("restart", "--time", "1", project.container("nginx").id)


def test_on_status_and_off(operator: Operator) -> None:
    own = str(operator.project.container("client", 1).addresses[0])
    # YAML makes booleans of "on" and "off", which surveys and files of variables give.
    code, output = operator.run("-e", "maintenance=on", **{"for": "10m", "allow": own})
    assert code == 0, output
    assert re.search(r"maintenance page: on until \S+Z \((9|10) minutes left\)", output), output
    assert [operator.status(1), operator.status(2), operator.status(2, "/health")] == [
        200,
        503,
        200,
    ]
    assert operator.journal() == (["finished"], ["maintenance_page"])

    code, output = operator.run()
    assert code == 0 and "maintenance page: on until" in output and own in output
    assert "changed=0" in output and operator.status(2) == 503
    assert operator.journal() == (["finished"], ["maintenance_page"])

    code, output = operator.run(maintenance=False)
    assert code == 0 and "changed=1" in output and "maintenance page: off" in output
    assert operator.status(2) == 200
    code, output = operator.run(maintenance="off")
    assert code == 0 and "changed=0" in output
    assert operator.journal() == (["finished"] * 3, [])


def test_check_mode_changes_nothing(operator: Operator) -> None:
    code, output = operator.run("--check", maintenance=True)
    assert code == 0, output
    assert operator.status(2) == 200 and list((operator.folder / "server.d").iterdir()) == []
    assert not (operator.directory / "state").exists()


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"for": "8d"}, "7 days at most"),
        ({"for": "soon"}, "for: seen 'soon'"),
        ({"allow": "everybody"}, "allow: seen 'everybody'"),
        ({"allow": "203.0.113.7,0.0.0.0/0"}, "expected less than everybody"),
        ({"until": "2020-01-01"}, "expected one that is to come"),
    ],
)
def test_what_is_wrong_is_refused(operator: Operator, variables: dict[str, str], told: str) -> None:
    code, output = operator.run(maintenance="on", **variables)
    assert code == 2 and told in output
    assert operator.status(2) == 200 and list((operator.folder / "server.d").iterdir()) == []
    outcomes, left = operator.journal()
    assert (outcomes, left) == (["failed"], [])


def test_a_stack_without_nginx_is_told_what_there_is(engine: Engine, tmp_path: Path) -> None:
    project = Project(engine)
    try:
        api = project.client({})
        operator = Operator(project, tmp_path, tmp_path)
        code, output = operator.run(maintenance="on")
        assert code == 2, output
        assert f"project {project.name} has no nginx that could show a page" in output
        assert f"docker compose -p {project.name} stop pynomaly-api" in output
        assert operator.journal() == (["failed"], [])
        assert project.container("pynomaly-api").id == api.id
    finally:
        project.close()
