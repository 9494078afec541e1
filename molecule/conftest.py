# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lab server, and the daily check as its users run it, for every scenario."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import testinfra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from testinfra.host import Host

PROJECT_DIR = "/opt/pynomaly"
#: Whether scenario incident does all that it can, which takes an hour longer. Otherwise what the
#: integration tests do with a small project is not done once more on a server.
IS_WHOLE_MATRIX = os.environ.get("PYNOMALY_TEST_MATRIX") == "whole"
in_whole_matrix = pytest.mark.skipif(
    not IS_WHOLE_MATRIX, reason="runs with PYNOMALY_TEST_MATRIX=whole in the environment"
)
CANARY = "canary-3f7c1d"


class Server:
    """Commands on the node; one that fails, fails the test."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def run(self, command: str, *words: str) -> str:
        """Run a command line, ``%s`` standing for words that are quoted, and give its output."""
        result = self._host.run(command, *words)
        assert result.rc == 0, f"{command}: exit code {result.rc}\n{result.stdout}{result.stderr}"
        return str(result.stdout).strip()

    def compose(self, words: str) -> str:
        return self.run(f"docker compose --project-directory {PROJECT_DIR} {words}")

    def container(self, service: str) -> str:
        return self.compose(f"ps --all --quiet {service}").splitlines()[0]

    def pid(self, service: str) -> str:
        return self.run(f"docker inspect --format '{{{{.State.Pid}}}}' {self.container(service)}")

    def sql(self, statement: str, user: str = "pynomaly") -> str:
        return self.run(
            f"docker exec {self.container('postgres')} "
            f"psql -X -q -At -v ON_ERROR_STOP=1 -U {user} -d pynomaly_prod -c %s",
            statement,
        )

    def redis(self, words: str) -> str:
        return self.run(f"docker exec {self.container('redis-cluster')} redis-cli {words}")

    def write(self, path: str, text: str) -> None:
        self.run(f"printf %s %s > {path}", "%s", text)

    def wait_until(self, what: str, condition: Callable[[], bool], seconds: float = 90) -> None:
        """Poll, to a deadline."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
            time.sleep(0.5)

    def wait_until_healthy(self, seconds: float = 120) -> None:
        """Until every container runs and no health check is anything but healthy."""

        def settled() -> bool:
            listed = self.compose("ps --all --format json").splitlines()
            containers = [json.loads(line) for line in listed]
            return all(
                one["State"] == "running" and one["Health"] in ("", "healthy") for one in containers
            )

        self.wait_until("every container is healthy", settled, seconds)


def connect(node: str) -> Server:
    """The server of this name."""
    configuration = os.environ["PYNOMALY_LAB_SSH_CONFIG"]
    return Server(testinfra.get_host(f"ssh://{node}?ssh_config={configuration}&controlpersist=120"))


class Check:
    """The daily check, run from the controller over SSH."""

    def __init__(self, folder: Path, node: str) -> None:
        self.folder = folder
        self._node = node
        self._since = time.time()
        self.seconds = 0.0
        self.output = ""

    def forget(self) -> None:
        """Look no further back in the logs than this moment."""
        self._since = time.time()

    def run(self, *arguments: str, **variables: Any) -> dict[str, Any]:
        """One report's host entry, with ``exit_code`` added. Logs are read since L{forget}."""
        given = json.dumps(variables)
        report, code = self.report("-l", self._node, *arguments, "-e", given)
        (entry,) = report["hosts"]
        return {**entry, "exit_code": code}

    def report(self, *arguments: str) -> tuple[dict[str, Any], int]:
        """The whole report and the exit code of a run with these arguments."""
        window_seconds = max(time.time() - self._since, 1.0)
        settings = {
            "pynomaly_report_dir": str(self.folder),
            "pynomaly_check_log_window_hours": window_seconds / 3600,
            "pynomaly_check_error_rate_window_minutes": window_seconds / 60,
        }
        latest = self.folder / "daily_check-latest.json"
        latest.unlink(missing_ok=True)
        started = time.monotonic()
        code, self.output = playbook("daily_check", "-e", json.dumps(settings), *arguments)
        self.seconds = time.monotonic() - started
        assert "Traceback" not in self.output
        assert latest.exists(), self.output
        return json.loads(latest.read_text()), code


#: Molecule puts a configuration of its own in place of the lab's, and asks for colours, which are
#: in the middle of what the tests look for.
OWN_SETTINGS = {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1"}


def playbook(name: str, *arguments: str) -> tuple[int, str]:
    """Run C{pynomaly.ops.NAME}; the exit code, and all that was printed."""
    return run_playbook(f"pynomaly.ops.{name}", *arguments)


def run_playbook(playbook: str, *arguments: str) -> tuple[int, str]:
    """Run any playbook; the exit code, and all that was printed."""
    completed = subprocess.run(
        ["ansible-playbook", playbook, *arguments],
        env={**os.environ, **OWN_SETTINGS},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return completed.returncode, completed.stdout + completed.stderr


@dataclass(frozen=True)
class Ran:
    """What a playbook did: its exit code, and all that it printed."""

    exit_code: int
    output: str

    @property
    def changed(self) -> int:
        """How many tasks changed something, as the recap counts them."""
        (count,) = re.findall(r"\bchanged=(\d+)", self.output)
        return int(count)


class Operator:
    """Whoever runs the playbooks on one server, and refuses output with a secret in it."""

    def __init__(self, folder: Path, node: str, secrets: Iterable[str], **variables: Any) -> None:
        """``variables`` are given to every playbook."""
        self.folder = folder
        self.node = node
        self.secrets = set(secrets)
        self._variables = variables

    def run(
        self, name: str, *arguments: str, vault: Mapping[str, Any] | None = None, **variables: Any
    ) -> Ran:
        """``vault`` are variables with secrets: they come from a file, and are in no argument."""
        ran = Ran(*playbook(name, *self.arguments(*arguments, vault=vault, **variables)))
        assert "Traceback" not in ran.output, ran.output
        shown = [secret for secret in self.secrets if secret in ran.output]
        assert not shown, f"{name} shows {len(shown)} of the secrets:\n{ran.output}"
        return ran

    def well(self, name: str, *arguments: str, **variables: Any) -> Ran:
        """L{run}, where nothing may go wrong."""
        ran = self.run(name, *arguments, **variables)
        assert ran.exit_code == 0, ran.output
        return ran

    def arguments(
        self, *arguments: str, vault: Mapping[str, Any] | None = None, **variables: Any
    ) -> list[str]:
        """What C{ansible-playbook} is told after the playbook's name."""
        given = {"pynomaly_report_dir": str(self.folder), **self._variables, **variables}
        words = ["-l", self.node, *arguments, "-e", json.dumps(given)]
        if vault:
            path = self.folder / "vault.json"
            path.touch(mode=0o600)
            path.write_text(json.dumps(vault))
            words += ["-e", f"@{path}"]
        return words


#: How busy the machine under all the nodes is: true of it, and nothing that a test has done.
MACHINE = ("host.cpu", "host.load")


def troubles(entry: dict[str, Any]) -> dict[str, str]:
    """``{"ID@WHERE": status}`` of everything that is not well on the server."""
    return {
        f"{one['id']}@{one['instance'] or one['service']}": one["status"]
        for one in entry["results"]
        if one["status"] in ("warning", "critical", "unknown") and one["id"] not in MACHINE
    }


@pytest.fixture(scope="session")
def node() -> str:
    """The server; a scenario on another one has a fixture of its own."""
    return "node1"


@pytest.fixture(scope="session")
def server(node: str) -> Server:
    return connect(node)


@pytest.fixture(scope="session")
def check(tmp_path_factory: pytest.TempPathFactory, node: str) -> Check:
    return Check(tmp_path_factory.mktemp("reports"), node)


@pytest.fixture(scope="session")
def operator(tmp_path_factory: pytest.TempPathFactory, server: Server, node: str) -> Operator:
    """On the managed stack, whose secrets are those of its `.env`."""
    lines = server.run(f"cat {PROJECT_DIR}/.env").splitlines()
    values = {name: value.strip("'\"") for name, _equals, value in map(_assignment, lines)}
    secrets = [value for name, value in values.items() if name.endswith(("_PASSWORD", "_KEY"))]
    assert len(secrets) >= 3
    return Operator(tmp_path_factory.mktemp("operator"), node, secrets)


def _assignment(line: str) -> tuple[str, str, str]:
    return line.partition("=")
