# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The managed stack, one service broken at a time, and C{outage_respond} run from the controller.

The service is back, the others have the containers and the start times that they had, and the time
it took is printed (pytest's C{-s} or C{-rP} shows it). It takes half an hour.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from conftest import (
    PROJECT_DIR,
    Operator,
    Ran,
    Server,
    in_whole_matrix,
    playbook,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = in_whole_matrix

API = "pynomaly-api"
SERVICES = (API, "postgres", "redis-cluster", "nginx", "prometheus", "redis-exporter")
WAYS = {"stopped": "stop", "killed": "kill", "paused": "pause"}
CONTACT = {"name": "Night desk", "address": "+1-555-0100"}


@dataclass(frozen=True)
class Response:
    """A run of the playbook, and its report's entry for the server."""

    ran: Ran
    entry: Mapping[str, Any]
    seconds: float

    @property
    def timeline(self) -> list[str]:
        return [str(row[2]) for row in self.table("Timeline")]

    def table(self, title: str) -> list[list[Any]]:
        return next((one["rows"] for one in self.entry["tables"] if one["title"] == title), [])

    def statuses(self) -> dict[str, str]:
        """By service."""
        return {
            one["service"]: one["status"]
            for one in self.entry["results"]
            if one["id"] == "outage.service"
        }


class Outage:
    """Breaks the stack, and responds."""

    def __init__(self, server: Server, operator: Operator) -> None:
        self.server = server
        self._operator = operator

    def containers(self) -> dict[str, tuple[str, str]]:
        """Container id and start by service."""
        listed = self.server.run(
            "docker ps --all --quiet --filter label=com.docker.compose.project"
        )
        found = json.loads(self.server.run(f"docker inspect {' '.join(listed.split())}"))
        return {
            one["Config"]["Labels"]["com.docker.compose.service"]: (
                one["Id"],
                one["State"]["StartedAt"],
            )
            for one in found
        }

    def respond(self, *arguments: str, **variables: Any) -> Response:
        started = time.monotonic()
        ran = self._operator.run("outage_respond", *arguments, **variables)
        seconds = time.monotonic() - started
        report = json.loads((self._operator.folder / "outage_respond-latest.json").read_text())
        (entry,) = report["hosts"]
        return Response(ran, entry, seconds)

    def back(self, **variables: Any) -> Response:
        """A response that brings everything back."""
        response = self.respond(**variables)
        assert response.ran.exit_code == 0, response.ran.output
        assert self.answers(), "the API does not answer from outside"
        return response

    def answers(self) -> bool:
        done = self.server.run(
            "curl -s -o /dev/null -m 5 -w '%{http_code}' http://127.0.0.1:8000/health || true"
        )
        return done == "200"

    def state(self, service: str) -> str:
        return self.server.run(
            f"docker inspect --format '{{{{.State.Status}}}} {{{{if .State.Health}}}}"
            f"{{{{.State.Health.Status}}}}{{{{end}}}}' {self.server.container(service)}"
        )

    def wait_for(self, service: str, words: str, seconds: float = 90) -> None:
        self.server.wait_until(
            f"{service} is {words}", lambda: words in self.state(service), seconds
        )


@pytest.fixture(scope="module")
def stack(server: Server, operator: Operator) -> Outage:
    server.wait_until_healthy()
    return Outage(server, operator)


@pytest.fixture
def outage(stack: Outage, server: Server) -> Iterator[Outage]:
    yield stack
    server.run("systemctl start docker")
    server.compose("up --detach")
    server.wait_until_healthy(180)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def told(response: Response, what: str) -> None:
    found = re.search(r"recovered after ([\d.]+) s", " ".join(response.timeline))
    if found is None:
        assert response.timeline[-1] == "everything is well", response.timeline
        print(f"{what}: the engine was faster")
        return
    print(
        f"{what}: back after {found[1]} s on the host, {response.seconds:.1f} s for the whole run"
    )


def test_what_is_well_is_not_touched(outage: Outage) -> None:
    before = outage.containers()
    response = outage.back()
    assert response.ran.changed == 0
    assert outage.containers() == before
    assert "nothing was touched" in response.ran.output
    assert set(SERVICES) <= set(response.statuses())
    checked = outage.respond("--check")
    assert checked.ran.exit_code == 0 and checked.ran.changed == 0
    assert outage.containers() == before


@pytest.mark.parametrize(("service", "how"), list(itertools.product(SERVICES, WAYS)))
def test_a_service_that_does_not_run(outage: Outage, service: str, how: str) -> None:
    before = outage.containers()
    outage.server.run(f"docker {WAYS[how]} {outage.server.container(service)}")
    response = outage.back()
    assert changed(before, outage.containers()) == (set() if how == "paused" else {service})
    assert outage.containers()[service][0] == before[service][0]
    assert response.table("Where it began")[0][0] == service
    told(response, f"{service} {how}")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_hangs_until_it_is_unhealthy(outage: Outage, service: str) -> None:
    before = outage.containers()
    container = outage.server.container(service)
    pids = outage.server.run(f"docker top {container} -eo pid").split()[1:]
    outage.server.run(f"kill -STOP {' '.join(pids)}")
    outage.wait_for(service, "unhealthy")
    response = outage.back()
    assert changed(before, outage.containers()) == {service}
    assert outage.containers()[service][0] == before[service][0]
    told(response, f"{service} unhealthy")


@pytest.mark.parametrize("service", ["nginx", "prometheus"])
def test_a_crash_loop_whose_cause_is_gone(outage: Outage, service: str) -> None:
    name = {"nginx": "nginx/nginx.conf", "prometheus": "prometheus/prometheus.yml"}[service]
    path = f"{PROJECT_DIR}/config/{name}"
    before = outage.containers()
    outage.server.run(f"cp -a {path} /root/kept && echo 'no_such: [' >> {path}")
    try:
        outage.server.run(f"docker restart --time 5 {outage.server.container(service)}")
        outage.wait_for(service, "restarting")
        lost = outage.respond(pynomaly_contacts=[CONTACT])
        assert lost.ran.exit_code == 2 and "Night desk: +1-555-0100" in lost.ran.output
        assert "once more after restart" in lost.ran.output
        assert lost.statuses()[service] == "critical"
        assert changed(before, outage.containers()) == {service}, "others were touched"
    finally:
        outage.server.run(f"cat /root/kept > {path} && rm /root/kept")
    response = outage.back()
    assert changed(before, outage.containers()) == {service}
    told(response, f"{service} crash-looping")


def test_a_removed_container_is_made_by_the_recorded_files(outage: Outage) -> None:
    before = outage.containers()
    outage.server.run(f"docker rm --force {outage.server.container(API)}")
    response = outage.back()
    assert changed(before, outage.containers()) == {API}
    told(response, f"{API} removed")


def test_the_database_and_what_needs_it(outage: Outage) -> None:
    """The API is unhealthy for want of the database: that is mended, and the API gets well."""
    before = outage.containers()
    outage.server.run(f"docker kill {outage.server.container('postgres')}")
    outage.wait_for(API, "unhealthy")
    response = outage.back()
    assert changed(before, outage.containers()) == {"postgres"}
    told(response, "postgres killed, the API unhealthy for it")


def test_postgresql_is_left_to_its_recovery(outage: Outage) -> None:
    """Unhealthy by its check while it replays its log: waited for, and not restarted."""
    server = outage.server
    server.sql("CREATE TABLE IF NOT EXISTS outage_rows (id bigint, text text)")
    server.sql("CHECKPOINT", user="pynomaly")
    server.sql(
        "INSERT INTO outage_rows SELECT i, repeat(md5(i::text), 20) "
        "FROM generate_series(1, 600000) i"
    )
    try:
        container = server.container("postgres")
        server.run(f"docker kill --signal KILL {container}")
        server.run(f"docker start {container}")
        server.wait_until(
            "it replays its log",
            lambda: "redo starts" in server.run(f"docker logs --tail 5 {container} 2>&1"),
        )
        server.run(f"docker update --cpus 0.01 {container}")
        started = outage.containers()["postgres"]
        response = outage.respond(project_recover_data_timeout_seconds=5)
        waited = outage.containers()["postgres"] == started
        server.run(f"docker update --cpus 2 {container}")
        assert waited, f"it was restarted in the middle of its recovery: {response.timeline}"
        assert not [text for text in response.timeline if text.startswith("restart ")]
        assert [text for text in response.timeline if "at work: " in text], response.timeline
        response = outage.back()
        assert outage.containers()["postgres"] == started
        print(f"recovery was waited for: {response.timeline}")
    finally:
        server.wait_until_healthy(180)
        server.sql("DROP TABLE outage_rows")


def test_the_engine_restarted(outage: Outage) -> None:
    """What has a restart policy comes back by itself, what was stopped before by the playbook."""
    before = outage.containers()
    outage.server.run(f"docker stop {outage.server.container('redis-exporter')}")
    outage.server.run("systemctl restart docker")
    response = outage.back()
    after = outage.containers()
    assert {name: one[0] for name, one in after.items()} == {
        name: one[0] for name, one in before.items()
    }
    deeds = [text.split(":")[0] for text in response.timeline if text.startswith("start ")]
    assert len(deeds) == 1 and "redis-exporter" in deeds[0], response.timeline
    told(response, "engine restarted")


def test_the_engine_stopped(outage: Outage) -> None:
    before = outage.containers()
    outage.server.run("systemctl stop docker.socket docker.service")
    response = outage.back()
    assert {name: one[0] for name, one in outage.containers().items()} == {
        name: one[0] for name, one in before.items()
    }
    print(f"engine stopped: back after {response.seconds:.1f} s for the whole run")


def test_evidence_comes_first_and_the_journal_has_every_deed(outage: Outage) -> None:
    outage.server.run("rm -rf /var/lib/pynomaly-ops/evidence")
    outage.server.run(f"docker kill {outage.server.container('redis-cluster')}")
    response = outage.back()
    (bundle,) = outage.server.run("ls -d /var/lib/pynomaly-ops/evidence/*").split()
    kept = outage.server.run(f"cd {bundle} && sha256sum -c --quiet SHA256SUMS && ls -R")
    assert "redis-cluster" in kept
    state = outage.server.run(f'grep -rl \'"Status": *"exited"\' {bundle} || true')
    assert state, "the state that it was found in is not among the evidence"
    journal = outage.server.run("tail -n 20 /var/lib/pynomaly-ops/journal.jsonl")
    assert "start pynomaly-redis-cluster-1" in journal
    assert response.table("Timeline")


def test_asked_from_the_controller(outage: Outage, tmp_path: Path) -> None:
    response = outage.back()
    reached = [one for one in response.entry["results"] if one["service"] == "controller"]
    assert reached and {one["status"] for one in reached} == {"ok"}, reached
    code, output = playbook(
        *("outage_respond", "-l", "node1", "-e"),
        json.dumps(
            {
                "pynomaly_report_dir": str(tmp_path),
                "project_recover_urls": ["http://127.0.0.1:9/health"],
            }
        ),
    )
    assert code == 2 and "http://127.0.0.1:9/health: connection refused" in output
