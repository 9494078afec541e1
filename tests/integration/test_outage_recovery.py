# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real project, broken one service at a time: that one comes back, the others are not touched."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import isolation, outage
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.outage import OutageSettings
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity

from .conftest import LABEL, Project, docker, image, wait_until

pytestmark = pytest.mark.usefixtures("compose_plugin")

#: The API answers while the database answers, and both are told what to do by files.
COMPOSE = """\
services:
  database:
    image: NGINX
    restart: unless-stopped
    volumes: ["./database:/etc/nginx/conf.d:ro"]
    healthcheck: &check
      test: [CMD, curl, -fsS, -m, "1", -o, /dev/null, "http://127.0.0.1/"]
      interval: 1s
      timeout: 2s
      retries: 2
    labels: [LABEL]
  api:
    image: NGINX
    restart: always
    depends_on: {database: {condition: service_healthy}}
    environment: {DATABASE_URL: "postgresql://user:canary-outage-5521@database:5432/shop"}
    volumes: ["./api:/etc/nginx/conf.d:ro", "./switch:/switch:ro"]
    entrypoint: [sh, -c, "test ! -e /switch/crash || exit 7; exec nginx -g 'daemon off;'"]
    healthcheck: {<<: *check, test: [CMD, curl, -fsS, -m, "1", "http://127.0.0.1/health"]}
    labels: [LABEL]
  proxy:
    image: NGINX
    restart: unless-stopped
    depends_on: {api: {condition: service_started}}
    volumes: ["./proxy:/etc/nginx/conf.d:ro"]
    ports: ["127.0.0.1::80"]
    healthcheck: {<<: *check, test: [CMD, curl, -fsS, -m, "1", "http://127.0.0.1/alive"]}
    labels: [LABEL]
  worker:
    image: NGINX
    entrypoint: ["sleep", "infinity"]
    init: true
    deploy: {replicas: 2}
    labels: [LABEL]
  migrate:
    image: NGINX
    entrypoint: ["true"]
    labels: [LABEL, "pynomaly.ops.one_shot=true"]
  debug:
    image: NGINX
    entrypoint: ["sleep", "infinity"]
    init: true
    profiles: [debug]
    labels: [LABEL]
networks:
  default: {labels: [LABEL]}
"""
DATABASE = "server { listen 80; location / { return 200 'up'; } }\n"
API = (
    "resolver 127.0.0.11 valid=1s ipv6=off;\n"
    "server { listen 80; location / { set $d database; proxy_pass http://$d; } }\n"
)
#: It asks for the API's address once, when it reads this.
PROXY = (
    "server { listen 80; location = /alive { return 200; } "
    "location / { proxy_connect_timeout 1s; proxy_pass http://api; } }\n"
)
CONTACTS = [{"name": "Operations", "address": "ops@example.com"}]


@dataclass
class Shop:
    name: str
    folder: Path

    @property
    def states(self) -> TemporaryStates:
        return TemporaryStates(
            OperationStore(str(self.folder / "state")),
            RunIdentity("run", "tester", "here"),
            "outage_respond",
            self.name,
        )

    def compose(self, *arguments: str) -> str:
        return docker(
            *("compose", "--project-name", self.name, "--project-directory", str(self.folder)),
            *("--file", str(self.folder / "compose.yaml"), *arguments),
            timeout_seconds=120,
        ).stdout

    def container(self, service: str, position: int = 1) -> str:
        """The name of a service's container: Compose numbers one that it makes anew higher."""
        listed = docker(
            *("ps", "--all", "--filter", f"label=com.docker.compose.project={self.name}"),
            *("--filter", f"label=com.docker.compose.service={service}"),
            *("--format", "{{.Names}}"),
        ).stdout.split()
        return sorted(listed)[position - 1]

    def inspect(self) -> dict[str, dict[str, Any]]:
        listed = docker(
            "ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}"
        ).stdout.split()
        return {
            one["Name"].lstrip("/"): one for one in json.loads(docker("inspect", *listed).stdout)
        }

    def fingerprint(self) -> dict[str, tuple[str, str]]:
        """Container id and start by name."""
        return {
            name.partition(f"{self.name}-")[2]: (one["Id"], one["State"]["StartedAt"])
            for name, one in self.inspect().items()
        }

    def health(self, service: str) -> str:
        state = self.inspect()[self.container(service)]["State"]
        return str((state.get("Health") or {}).get("Status") or state["Status"])

    def wait_for(self, service: str, health: str) -> None:
        wait_until(f"{service} is {health}", lambda: self.health(service) == health)

    def settings(self, **more: Any) -> OutageSettings:
        defaults = {
            "timeout_seconds": 60.0,
            "settle_seconds": 2.0,
            "external_timeout_seconds": 20.0,
            "contacts": CONTACTS,
            "minimum_free_mib": 1,
            "service_names": {"api": "api", "nginx": "proxy"},
        }
        return OutageSettings(**{"project": self.name, **defaults, **more})

    def recover(self, **more: Any) -> dict[str, Any]:
        options = {name: more.pop(name) for name in ("act", "dry_run", "step") if name in more}
        answer = outage.run(self.settings(**more), self.states, **options)
        assert "canary-outage" not in json.dumps(answer)
        json.dumps(answer, allow_nan=False)
        return answer


def make(folder: Path) -> Shop:
    one = Shop(f"inttest-{os.getpid()}-{time.time_ns() % 10**8}", folder)
    for name, text in (("database", DATABASE), ("api", API), ("proxy", PROXY)):
        (folder / name).mkdir()
        (folder / name / "site.conf").write_text(text)
    (folder / "switch").mkdir()
    text = COMPOSE.replace("NGINX", image("nginx")).replace("LABEL", LABEL)
    (folder / "compose.yaml").write_text(text)
    return one


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    one = make(tmp_path_factory.mktemp("outage"))
    try:
        one.compose("up", "--detach", "--wait", "--scale", "migrate=0")
        one.compose("up", "--detach", "migrate")
        yield one
    finally:
        one.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "0")


@pytest.fixture
def shop(running: Shop) -> Iterator[Shop]:
    yield running
    (running.folder / "switch" / "crash").unlink(missing_ok=True)
    (running.folder / "database" / "site.conf").write_text(DATABASE)
    answer = running.recover()
    assert answer["recovered"], answer["problem"]


def actions(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one["action"], one["service"]) for one in answer["actions"]]


def touched(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def test_what_is_well_is_not_touched_and_reading_changes_nothing(shop: Shop) -> None:
    before = shop.fingerprint()
    for options in ({}, {"act": False}, {"dry_run": True}):
        answer = shop.recover(**options)
        assert answer["recovered"] and not answer["changed"], answer
        assert answer["broken"] == [] and answer["actions"] == []
        assert "nothing was touched" in answer["lines"][0]
    assert shop.fingerprint() == before
    statuses = {one["service"]: one["status"] for one in answer["results"]}
    assert statuses["migrate"] == "ok" and "debug" not in statuses


BREAKAGES: dict[str, tuple[str, list[str], list[str]]] = {
    "stopped": ("worker", ["stop", "-t", "0"], ["start"]),
    "killed": ("database", ["kill"], ["start"]),
    "paused": ("database", ["pause"], ["unpause"]),
    "paused without a check": ("worker", ["pause"], ["unpause"]),
    "removed": ("worker", ["rm", "-f"], ["create"]),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_one_service_comes_back_and_the_others_are_not_touched(shop: Shop, name: str) -> None:
    service, command, expected = BREAKAGES[name]
    before = shop.fingerprint()
    name_of = shop.container(service).partition(f"{shop.name}-")[2]
    docker(*command, shop.container(service))
    dry = shop.recover(dry_run=True)
    assert dry["changed"] and dry["broken"] == [service] and dry["actions"] == []
    assert expected[0] in dry["plan"][0]

    answer = shop.recover()
    assert answer["recovered"], answer["problem"]
    assert actions(answer) == [(kind, service) for kind in expected]
    after = shop.fingerprint()
    if expected == ["create"]:
        (made,) = set(after) - set(before)
        assert made.startswith(f"{service}-") and touched(before, after) == {made, name_of}
    else:
        assert touched(before, after) <= {name_of}
        assert after[name_of][0] == before[name_of][0]
    assert 0 < answer["recovery_seconds"] < 60
    print(f"{service} {name}: back after {answer['recovery_seconds']} s")
    titles = [one["title"] for one in answer["tables"]]
    assert titles[:2] == ["Timeline", "Where it began"]
    assert answer["tables"][1]["rows"][0][0] == service
    if name == "killed":
        (events,) = (one for one in answer["tables"] if one["title"].startswith("What happened"))
        assert f"{shop.name}-{service}-1 ended with exit code 137" in [
            f"{row[1]} {row[2]}" for row in events["rows"]
        ]
    assert not shop.recover()["changed"]


def test_unhealthy_and_hung(shop: Shop) -> None:
    before = shop.fingerprint()
    pids = docker("top", shop.container("database"), "-eo", "pid").stdout.split()[1:]
    for pid in pids:
        os.kill(int(pid), signal.SIGSTOP)
    shop.wait_for("database", "unhealthy")
    shop.wait_for("api", "unhealthy")
    answer = shop.recover()
    assert answer["recovered"], answer["problem"]
    assert actions(answer) == [("restart", "database")], "the API gets well by itself"
    assert touched(before, shop.fingerprint()) == {"database-1"}


def test_a_dependency_that_only_seems_well_is_mended_first(shop: Shop) -> None:
    """The API says that it is ill some seconds before the database, whose check is slow, does."""
    before = shop.fingerprint()
    shop.wait_for("database", "healthy")
    for pid in docker("top", shop.container("database"), "-eo", "pid").stdout.split()[1:]:
        os.kill(int(pid), signal.SIGSTOP)
    shop.wait_for("api", "unhealthy")
    answer = shop.recover()
    assert answer["recovered"], answer["problem"]
    assert ("restart", "api") not in actions(answer)
    assert touched(before, shop.fingerprint()) == {"database-1"}


def test_a_crash_loop_whose_cause_is_gone(shop: Shop) -> None:
    before = shop.fingerprint()
    (shop.folder / "switch" / "crash").touch()
    docker("kill", "--signal", "TERM", shop.container("api"))
    docker("restart", "-t", "0", shop.container("api"))
    wait_until(
        "the API loops",
        lambda: shop.inspect()[shop.container("api")]["RestartCount"] >= 7,
    )
    (shop.folder / "switch" / "crash").unlink()
    answer = shop.recover()
    assert answer["recovered"], answer["problem"]
    assert actions(answer) in ([("restart", "api")], [])
    assert touched(before, shop.fingerprint()) == {"api-1"}


def test_a_crash_loop_that_goes_on_is_given_up_and_escalated(shop: Shop) -> None:
    (shop.folder / "switch" / "crash").touch()
    docker("restart", "-t", "0", shop.container("api"))
    docker("stop", "-t", "0", shop.container("worker"))
    wait_until("it loops", lambda: shop.inspect()[shop.container("api")]["RestartCount"] >= 3)
    answer = shop.recover()
    assert not answer["recovered"]
    assert actions(answer).count(("restart", "api")) == 1
    assert ("start", "worker") in actions(answer), "what can be mended is"
    assert "once more after restart" in answer["problem"]
    assert "escalate to Operations: ops@example.com" in answer["problem"]
    assert answer["recovery_seconds"] is None
    assert any(one["title"] == "Escalate to" for one in answer["tables"])
    critical = [one["service"] for one in answer["results"] if one["status"] == "critical"]
    assert "api" in critical and "worker" not in critical


def test_everything_stopped_comes_back_in_order(shop: Shop) -> None:
    before = shop.fingerprint()
    shop.compose("stop", "--timeout", "0")
    answer = shop.recover()
    assert answer["recovered"], answer["problem"]
    order = [service for _kind, service in actions(answer)]
    assert order.index("database") < order.index("api")
    assert order.index("api") < order.index("proxy")
    assert sorted(set(order)) == ["api", "database", "proxy", "worker"]
    after = shop.fingerprint()
    assert {name: one[0] for name, one in after.items()} == {
        name: one[0] for name, one in before.items()
    }
    assert after["migrate-1"] == before["migrate-1"], "the job was not run again"


def test_everything_removed_is_made_by_the_files_in_the_folder(tmp_path: Path) -> None:
    shop = make(tmp_path)
    try:
        found = shop.recover(project_dir=str(tmp_path), timeout_seconds=90.0)
        assert found["recovered"], found["problem"]
        made = [service for kind, service in actions(found) if kind == "create"]
        assert sorted(made) == ["api", "database", "proxy", "worker"]
        assert made.index("database") < made.index("api")
        assert "worker-2" in shop.fingerprint() and "debug-1" not in shop.fingerprint()
        nothing = shop.recover(project="inttest-none")
        assert not nothing["recovered"] and shop.name in nothing["problem"]
    finally:
        shop.compose("--profile", "*", "down", "--volumes", "--timeout", "0")


def test_created_and_never_started(shop: Shop) -> None:
    docker("rm", "-f", shop.container("worker", 2))
    shop.compose("up", "--no-start", "--no-recreate", "worker")
    before = shop.fingerprint()
    made = shop.container("worker", 2)
    assert shop.inspect()[made]["State"]["Status"] == "created"
    answer = shop.recover()
    assert answer["recovered"] and actions(answer) == [("start", "worker")]
    assert {f"{shop.name}-{name}" for name in touched(before, shop.fingerprint())} == {made}


def test_an_image_that_lacks_is_told_and_nothing_is_pulled(shop: Shop) -> None:
    path = shop.folder / "compose.yaml"
    text = path.read_text()
    before = shop.fingerprint()
    gone = shop.container("worker")
    docker("rm", "-f", gone)
    path.write_text(
        text.replace(
            f'image: {image("nginx")}\n    entrypoint: ["sleep", "infinity"]'
            "\n    init: true\n    deploy",
            "image: inttest/none:1\n"
            '    entrypoint: ["sleep", "infinity"]\n    init: true\n    deploy',
        )
    )
    assert path.read_text() != text
    try:
        answer = shop.recover()
    finally:
        path.write_text(text)
    assert not answer["recovered"] and answer["actions"] == []
    assert "docker pull inttest/none:1" in answer["problem"]
    assert {f"{shop.name}-{name}" for name in touched(before, shop.fingerprint())} == {gone}


def test_a_full_disk_stops_it(shop: Shop) -> None:
    docker("stop", "-t", "0", shop.container("worker"))
    answer = shop.recover(minimum_free_mib=10**9)
    assert not answer["recovered"] and answer["actions"] == []
    assert "MiB free, expected" in answer["problem"] and "df -h" in answer["problem"]


def test_only_services_with_evidence_are_touched(shop: Shop) -> None:
    docker("stop", "-t", "0", shop.container("worker"), shop.container("worker", 2))
    answer = shop.recover(services=["api"])
    assert answer["actions"] == [] and "its evidence was not kept" in answer["problem"]


def test_what_was_taken_off_the_network_is_left_alone(shop: Shop) -> None:
    engine = EngineControl(10.0)
    stack = discover(engine, shop.name, CheckSettings(call_timeout_seconds=10.0))
    isolation.isolate(engine, stack, "database", shop.states)
    shop.wait_for("api", "unhealthy")
    before = shop.fingerprint()
    try:
        answer = shop.recover()
        assert answer["actions"] == [] and not answer["recovered"]
        assert "it needs database, which is off the network on purpose" in answer["problem"]
        assert touched(before, shop.fingerprint()) == set()
    finally:
        isolation.connect(engine, stack, "", shop.states)


def test_a_service_whose_profile_is_off_is_not_started(shop: Shop) -> None:
    shop.compose("--profile", "debug", "create", "debug")
    try:
        assert shop.recover()["actions"] == []
        answer = shop.recover(profiles=["debug"])
        assert actions(answer) == [("start", "debug")]
    finally:
        docker("rm", "-f", shop.container("debug"))


def run_killed_at(shop: Shop, number: int) -> None:
    """A run that is killed before its nth deed."""
    child = os.fork()
    if child == 0:
        seen = 0

        def step(_name: str) -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            outage.run(shop.settings(), shop.states, step=step)
        finally:
            os._exit(0)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it never got so far"


@pytest.mark.parametrize("number", [1, 2])
def test_killed_at_each_step_the_next_run_finishes(shop: Shop, number: int) -> None:
    ids = {name: one[0] for name, one in shop.fingerprint().items()}
    docker("kill", shop.container("database"))
    docker("pause", shop.container("worker"))
    run_killed_at(shop, number)
    answer = shop.recover()
    assert answer["recovered"], answer["problem"]
    assert {name: one[0] for name, one in shop.fingerprint().items()} == ids
    assert not shop.recover()["changed"]


def test_a_proxy_that_has_lost_the_api_is_reloaded_and_not_restarted(shop: Shop) -> None:
    before = shop.fingerprint()
    network = f"{shop.name}_default"
    address = shop.inspect()[shop.container("api")]["NetworkSettings"]["Networks"][network]
    docker("stop", "-t", "0", shop.container("api"))
    squatter = f"{shop.name}-squatter"
    held = []
    try:
        for number in range(4):
            held.append(f"{squatter}-{number}")
            docker(
                *("run", "--detach", "--name", held[-1], "--network", network, "--label", LABEL),
                *("--entrypoint", "sleep", image("nginx"), "infinity"),
            )
        answer = shop.recover()
        now = shop.inspect()[shop.container("api")]["NetworkSettings"]["Networks"][network]
        assert now["IPAddress"] != address["IPAddress"], "the address was free again"
        assert answer["recovered"], answer["problem"]
        assert actions(answer) == [("start", "api")]
        assert touched(before, shop.fingerprint()) == {"api-1"}
        told = [row[2] for row in answer["tables"][0]["rows"]]
        assert any("was reloaded, to look for the API anew" in text for text in told)
    finally:
        docker("rm", "-f", *held)


class Load:
    """A client of the API, to see from when on it answers."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self.back_at = 0.0
        self._ask = ask
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.wait(0.1):
            if self._ask() and not self.back_at:
                self.back_at = time.monotonic()

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join(5)


def test_recovered_means_that_a_client_gets_answers(shop: Shop) -> None:
    docker("kill", shop.container("database"))
    shop.wait_for("api", "unhealthy")
    port = shop.compose("port", "proxy", "80").strip().rpartition(":")[2]

    def ask() -> bool:
        import urllib.request

        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    assert not ask()
    with Load(ask) as load:
        answer = shop.recover()
        ended = time.monotonic()
    assert answer["recovered"] and load.back_at and load.back_at <= ended
    external = [one for one in answer["results"] if one["id"] == "outage.external"]
    assert external[0]["status"] == "ok" and f":{port}/health" in external[0]["message"]


def test_postgresql_is_left_to_its_recovery(project: Project, tmp_path: Path) -> None:
    """Unhealthy by its check while it replays its log: waited for, and never restarted. It is the
    only way to see it: once frozen, the same server is restarted."""
    check = "pg_isready -q -h 127.0.0.1 -U admin -d shop"
    environment = {
        "POSTGRES_USER": "admin",
        "POSTGRES_PASSWORD": "canary-outage-77",
        "POSTGRES_DB": "shop",
    }
    options = [
        *("--health-cmd", check, "--health-interval", "1s", "--health-timeout", "5s"),
        *("--health-retries", "1", "--cpus", "2"),
    ]
    name = project.start("postgres", "postgres", environment, options=options).name
    shop = Shop(project.name, tmp_path)

    def sql(statement: str) -> bool:
        done = docker(
            *("exec", name, "psql", "-X", "-q", "-U", "admin", "-d", "shop", "-c", statement),
            check=False,
        )
        return done.returncode == 0

    wait_until("PostgreSQL lets us in", lambda: sql("SELECT 1"))
    wait_until("it is healthy", lambda: state_of(name) == "healthy")
    assert sql("CREATE TABLE rows (id bigint, text text)") and sql("CHECKPOINT")
    assert sql(
        "INSERT INTO rows SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 300000) i"
    )
    docker("kill", name)
    docker("start", name)
    wait_until("it replays its log", lambda: "redo starts" in logs_since_start(name))
    docker("update", "--cpus", "0.02", name)
    assert "ready to accept" not in logs_since_start(name).partition("redo starts")[2]
    wait_until("it is unhealthy", lambda: state_of(name) == "unhealthy", 90)
    started = started_at(name)
    answer = shop.recover(recovery_timeout_seconds=4.0, timeout_seconds=4.0)
    assert answer["actions"] == [] and not answer["recovered"]
    assert "at work: " in answer["problem"], answer["problem"]
    assert started_at(name) == started

    docker("update", "--cpus", "2", name)
    answer = shop.recover()
    assert answer["actions"] == [] and answer["recovered"], answer["problem"]
    assert started_at(name) == started

    for pid in docker("top", name, "-eo", "pid").stdout.split()[1:]:
        os.kill(int(pid), signal.SIGSTOP)
    wait_until("it is unhealthy", lambda: state_of(name) == "unhealthy", 90)
    pids = docker("top", name, "-eo", "pid").stdout.split()[1:]

    def thaw() -> None:
        """So that it can be stopped without the minute that a frozen one is given."""
        for pid in pids:
            os.kill(int(pid), signal.SIGCONT)

    answer = shop.recover(step=lambda _deed: threading.Timer(1.0, thaw).start())
    assert actions(answer) == [("restart", "postgres")] and answer["recovered"], answer["problem"]


def logs_since_start(name: str) -> str:
    done = docker("logs", "--since", started_at(name), name)
    return done.stdout + done.stderr


def state_of(name: str) -> str:
    return docker("inspect", "--format", "{{.State.Health.Status}}", name).stdout.strip()


def started_at(name: str) -> str:
    return docker("inspect", "--format", "{{.State.StartedAt}}", name).stdout.strip()
