# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server with the stack on it, and the daily check as its users run it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from testinfra.host import Host

PROJECT_DIR = "/opt/pynomaly"
NODE = "node1"


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


class Check:
    """The daily check, run from the controller over SSH."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._since = time.time()
        self.seconds = 0.0
        self.output = ""

    def forget(self) -> None:
        """Look no further back in the logs than this moment."""
        self._since = time.time()

    def run(self, **variables: Any) -> dict[str, Any]:
        """One report's host entry, with ``exit_code`` added. Logs are read since L{forget}."""
        window_seconds = max(time.time() - self._since, 1.0)
        given = {
            "pynomaly_report_dir": str(self._folder),
            "pynomaly_check_log_window_hours": window_seconds / 3600,
            "pynomaly_check_error_rate_window_minutes": window_seconds / 60,
            **variables,
        }
        started = time.monotonic()
        completed = subprocess.run(
            ["ansible-playbook", "pynomaly.ops.daily_check", "-l", NODE, "-e", json.dumps(given)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.seconds = time.monotonic() - started
        self.output = completed.stdout + completed.stderr
        assert "Traceback" not in self.output
        report = json.loads((self._folder / "daily_check-latest.json").read_text())
        (entry,) = report["hosts"]
        return {**entry, "exit_code": completed.returncode}


def troubles(entry: dict[str, Any]) -> dict[str, str]:
    """``{"ID@WHERE": status}`` of everything that is not well."""
    return {
        f"{one['id']}@{one['instance'] or one['service']}": one["status"]
        for one in entry["results"]
        if one["status"] in ("warning", "critical", "unknown")
    }


@pytest.fixture(scope="session")
def server() -> Server:
    import testinfra

    return Server(testinfra.get_host(f"ansible://{NODE}"))


@pytest.fixture(scope="session")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    return Check(tmp_path_factory.mktemp("reports"))
