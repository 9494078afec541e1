# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real project's credentials replaced, whatever kills the run, and refused where that would not
hold."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import http.server
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import (
    _credential_rotation as credentials,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (
    credential_rotation,
    credential_servers,
    resume,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.credential_rotation import (
    Rotation,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._environment_file import parse, values
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity

from .conftest import Project, docker, image, wait_until

pytestmark = pytest.mark.usefixtures("compose_plugin")

CANARY = "canary-rotation-old"
COMPOSE = """\
x-one: &one {init: true, labels: [ops.pynomaly.lab=true], stop_grace_period: 10s}
services:
  pynomaly-api:
    <<: *one
    image: IMAGE_API
    environment:
      DATABASE_URL: ${DATABASE_URL:?}
      REDIS_URL: ${REDIS_URL:?}
      SECRET_KEY: ${API_SECRET_KEY:?}
    deploy: {replicas: 2}
    healthcheck:
      test: [CMD, python3, -m, pynomaly_api.healthcheck]
      interval: 1s
      timeout: 5s
      start_period: 60s
  postgres:
    <<: *one
    image: IMAGE_POSTGRES
    environment:
      POSTGRES_USER: pynomaly
      POSTGRES_DB: pynomaly_prod
      POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?}
      POSTGRES_HOST_AUTH_METHOD: scram-sha-256
    healthcheck:
      test: [CMD, pg_isready, -q, -h, 127.0.0.1, -U, pynomaly, -d, pynomaly_prod]
      interval: 1s
      start_period: 60s
  redis-cluster:
    <<: *one
    image: IMAGE_REDIS
    command: [redis-server, --aclfile, /etc/redis-users/users.acl]
    environment: {REDISCLI_AUTH: "${REDIS_PASSWORD:?}"}
    volumes: ["./config/redis:/etc/redis-users:ro"]
    healthcheck: {test: [CMD, redis-cli, -e, ping], interval: 1s}
  redis-exporter:
    <<: *one
    image: IMAGE_REDIS_EXPORTER
    init: false
    environment: {REDIS_ADDR: "redis://redis-cluster:6379", REDIS_PASSWORD: "${REDIS_PASSWORD:?}"}
  postgres-exporter:
    <<: *one
    image: IMAGE_POSTGRES_EXPORTER
    environment:
      DATA_SOURCE_URI: postgres:5432/pynomaly_prod?sslmode=disable
      DATA_SOURCE_USER: pynomaly
      DATA_SOURCE_PASS: ${POSTGRES_PASSWORD:?}
  nginx:
    <<: *one
    image: IMAGE_NGINX
    volumes: ["./config/nginx:/etc/nginx/conf.d:ro"]
  untouched:
    <<: *one
    image: IMAGE_REDIS
    entrypoint: [sleep, infinity]
    # Sees the project's files as part of the whole host, as a node exporter does.
    volumes: ["/:/host:ro"]
networks:
  default: {labels: [ops.pynomaly.lab=true]}
"""
SITE = """\
resolver 127.0.0.11 valid=1s ipv6=off;
proxy_connect_timeout 2s;
proxy_next_upstream error timeout;
server {
    listen 80 default_server;
    location / {
        set $api pynomaly-api;
        proxy_pass http://$api:8000;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
    }
}
"""


def request(host: str, path: str, content: Any = None, port: int = 80) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    with contextlib.closing(connection):
        body = None if content is None else json.dumps(content)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("GET" if content is None else "POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


@dataclass
class Shop:
    """A running project with its journal."""

    name: str
    folder: Path
    state: Path
    engine: EngineControl = field(default_factory=EngineControl)

    @property
    def states(self) -> TemporaryStates:
        identity = RunIdentity("run", "tester", "here")
        return TemporaryStates(
            OperationStore(str(self.state)), identity, "incident_recover", self.name
        )

    def rotation(self, **options: Any) -> Rotation:
        return Rotation(
            self.name,
            str(self.state),
            healthy_timeout_seconds=120,
            up_timeout_seconds=120,
            **options,
        )

    def rotate(self, **options: Any) -> dict[str, Any]:
        step = options.pop("step", lambda _name: None)
        dry_run = options.pop("dry_run", False)
        return credential_rotation.run(
            self.rotation(**options), EngineControl(), self.states, step=step, dry_run=dry_run
        )

    def compose(self, *arguments: str) -> None:
        docker(
            *("compose", "--project-name", self.name, "--project-directory", str(self.folder)),
            *("--file", str(self.folder / "compose.yaml"), *arguments),
            timeout_seconds=180,
        )

    @property
    def environment(self) -> dict[str, str]:
        text = (self.folder / ".env").read_text()
        return {name: value or "" for name, value in values(parse(text)).items()}

    @property
    def record(self) -> dict[str, Any] | None:
        path = self.rotation().folder / "secrets.json"
        return json.loads(path.read_text()) if path.exists() else None

    def containers(self, service: str) -> list[Container]:
        found = self.engine.list_project_containers(self.name)
        return sorted((one for one in found if one.service == service), key=lambda one: one.number)

    def ids(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for one in self.engine.list_project_containers(self.name):
            found.setdefault(one.service, []).append(one.id)
        return {service: sorted(ids) for service, ids in found.items()}

    @property
    def host(self) -> str:
        return self.containers("nginx")[0].addresses[0]

    def healthy(self) -> bool:
        try:
            status, body = request(self.host, "/health")
            return status == 200 and json.loads(body)["status"] == "healthy"
        except (OSError, ValueError, http.client.HTTPException):
            return False

    def client(self, service: str, *words: str, **environment: str) -> tuple[int, str]:
        """A client program in a container of its own on the project's network."""
        arguments = [word for name in environment for word in ("--env", name)]
        done = subprocess.run(
            [
                *("docker", "run", "--rm", "--network", f"{self.name}_default", *arguments),
                *("--label", "ops.pynomaly.lab=true", "--entrypoint", words[0], image(service)),
                *words[1:],
            ],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def postgres_lets_in(self, password: str, role: str = "pynomaly") -> bool:
        code, said = self.client(
            *("postgres", "psql", "-h", "postgres", "-U", role, "-d", "pynomaly_prod"),
            *("-w", "-c", "SELECT 1"),
            PGPASSWORD=password,
        )
        assert code == 0 or "password authentication failed" in said, said
        return code == 0

    def postgres_answers(self, password: str) -> bool:
        try:
            return self.sql(password, "SELECT 1") == [(1,)]
        except psycopg2.Error:
            return False

    def redis_lets_in(self, password: str) -> bool:
        _code, said = self.client(
            "redis", "redis-cli", "-h", "redis-cluster", "PING", REDISCLI_AUTH=password
        )
        return "PONG" in said

    def sql(self, password: str, statement: str) -> list[Any]:
        address = self.containers("postgres")[0].addresses[0]
        connection = psycopg2.connect(
            host=address,
            user="pynomaly",
            password=password,
            dbname="pynomaly_prod",
            connect_timeout=5,
        )
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    made = Shop(f"inttest-rotation-{os.getpid()}", folder, folder / "state")
    text = COMPOSE
    names = ("postgres-exporter", "redis-exporter", "postgres", "redis", "nginx")
    for name in names:
        key = f"IMAGE_{name.upper().replace('-', '_')}\n"
        text = text.replace(key, f"{image(name)}\n")
    api = os.environ.get("PYNOMALY_TEST_API_IMAGE", "pynomaly-lab/pynomaly:production")
    text = text.replace("IMAGE_API", api)
    (folder / "compose.yaml").write_text(text)
    (folder / "config" / "redis").mkdir(parents=True)
    (folder / "config" / "nginx").mkdir()
    folder.chmod(0o755)
    (folder / "config" / "nginx" / "site.conf").write_text(SITE)
    write_secrets(made)
    try:
        made.compose("up", "--detach", "--wait", "--quiet-pull")
        wait_until("the API is healthy", made.healthy)
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "3")


def write_secrets(shop: Shop) -> None:
    postgres, redis = f"{CANARY}-p@ss/$1", f"{CANARY}-redis"
    (shop.folder / ".env").write_text(
        "# kept by hand\n"
        f"POSTGRES_PASSWORD='{postgres}'\n"
        f"DATABASE_URL='postgresql://pynomaly:{CANARY}-p%40ss%2F%241@postgres:5432/pynomaly_prod'\n"
        f"REDIS_PASSWORD={redis}\n"
        f"REDIS_URL=redis://:{redis}@redis-cluster:6379/0\n"
        f"API_SECRET_KEY={CANARY}-key\n"
        "OTHER=stays # as it is\n"
    )
    digest = hashlib.sha256(redis.encode()).hexdigest()
    path = shop.folder / "config" / "redis" / "users.acl"
    path.write_text(f"user default on #{digest} ~* &* +@all\n")
    path.chmod(0o644)


class Load:
    """A request every few milliseconds, each on a connection of its own, and what failed."""

    def __init__(self, host: str, pause_seconds: float = 0.05) -> None:
        self.done = 0
        self.failed: list[str] = []
        self._host = host
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(3)]

    def _run(self, number: int) -> None:
        count = 0
        while not self._stop.wait(self._pause_seconds):
            count += 1
            problem = ""
            try:
                content = {"values": [1, 2, 3, 100 + count, number, time.time()]}
                status, body = request(self._host, "/api/v1/detect", content)
                if status != 200:
                    problem = f"{status} {body[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                problem = repr(error)
            with self._lock:
                self.done += 1
                if problem:
                    self.failed.append(f"{time.strftime('%H:%M:%S')} {problem}")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)


def secrets_of(environment: dict[str, str]) -> dict[str, str]:
    return {
        name: environment[name]
        for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "API_SECRET_KEY")
    }


def assert_rotated(shop: Shop, before: dict[str, str]) -> None:
    """New ones in use, old ones dead, as a client on the network sees it, and nothing left."""
    after = shop.environment
    for name, old in secrets_of(before).items():
        assert re.fullmatch(r"[0-9a-f]{64}", after[name])
        assert after[name] != old
    new, old = after["POSTGRES_PASSWORD"], before["POSTGRES_PASSWORD"]
    assert after["DATABASE_URL"] == f"postgresql://pynomaly:{new}@postgres:5432/pynomaly_prod"
    assert shop.postgres_lets_in(new)
    assert not shop.postgres_lets_in(old)
    assert shop.redis_lets_in(after["REDIS_PASSWORD"])
    assert not shop.redis_lets_in(before["REDIS_PASSWORD"])
    for one in shop.containers("pynomaly-api"):
        assert one.environment["SECRET_KEY"] == after["API_SECRET_KEY"]
        assert one.environment["DATABASE_URL"] == after["DATABASE_URL"]
        assert one.environment["REDIS_URL"] == after["REDIS_URL"]
    assert after["OTHER"] == "stays"
    assert (shop.folder / ".env").read_text().startswith("# kept by hand\n")
    assert (shop.folder / ".env").stat().st_mode & 0o777 == 0o600
    roles = shop.sql(new, "SELECT rolname FROM pg_roles WHERE rolcanlogin")
    assert roles == [("pynomaly",)]
    verifiers = shop.sql(new, "SELECT rolpassword FROM pg_authid WHERE rolname = 'pynomaly'")
    assert credentials.matches_verifier(new, verifiers[0][0])
    assert shop.states.left() == []
    assert not shop.rotation().folder.exists()
    exporters = (("redis-exporter", 9121, "redis_up 1"), ("postgres-exporter", 9187, "pg_up 1"))
    for service, port, expected in exporters:
        address = shop.containers(service)[0].addresses[0]
        _status, body = request(address, "/metrics", port=port)
        assert expected in body.decode(), f"{service} does not get in"
    wait_until("the API is healthy", shop.healthy, 10)


def journal_of(shop: Shop) -> str:
    return "".join(
        path.read_text(errors="replace") for path in shop.state.rglob("*") if path.is_file()
    )


def test_a_check_changes_nothing(shop: Shop) -> None:
    files = {path: path.read_bytes() for path in shop.folder.rglob("*") if path.is_file()}
    ids = shop.ids()
    answer = shop.rotate(dry_run=True)
    assert answer["changed"]
    assert answer["rotated"] == ["postgres pynomaly", "redis default", "api SECRET_KEY"]
    assert answer["two_roles"]
    assert sorted(answer["dependents"]) == [
        "postgres-exporter",
        "pynomaly-api",
        "redis-cluster",
        "redis-exporter",
    ]
    assert {path: path.read_bytes() for path in shop.folder.rglob("*") if path.is_file()} == files
    assert shop.ids() == ids
    assert CANARY not in json.dumps(answer)


def test_everything_is_rotated_and_no_request_fails_for_a_password(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    before, ids = shop.environment, shop.ids()
    old_session = psycopg2.connect(
        host=shop.containers("postgres")[0].addresses[0],
        user="pynomaly",
        password=before["POSTGRES_PASSWORD"],
        dbname="pynomaly_prod",
    )
    argv: set[str] = set()
    watching = threading.Event()

    def watch() -> None:
        """Every command line of the machine, as another user could see them."""
        while not watching.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    argv.add(path.read_bytes().decode(errors="replace"))
                except OSError:
                    continue

    said: list[str] = []

    def told(name: str) -> None:
        """What the API's containers complain of, before they are taken away."""
        print(time.strftime("%H:%M:%S"), name)
        if name == "renew_pynomaly-api":
            for one in shop.containers("pynomaly-api"):
                logs = docker("logs", one.id, check=False).stderr
                said.extend(line for line in logs.splitlines() if "want of" in line)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    try:
        with Load(shop.host) as load:
            answer = shop.rotate(step=told)
    finally:
        watching.set()
        watcher.join(10)
    seconds = time.monotonic() - started
    with capsys.disabled():
        print(
            f"\nrotation under load: {seconds:.1f} s, {load.done} requests, "
            f"{len(load.failed)} failed {load.failed[:3]}"
        )
    assert load.done > 100
    told("renew_pynomaly-api")
    # The API gives a connection a second. What a busy machine cannot open in that time was not
    # refused for its password, and is told above.
    late = [line for line in said if line.endswith("TimeoutError")]
    assert said == late
    assert len(load.failed) <= len(late), load.failed
    assert_rotated(shop, before)
    with pytest.raises(psycopg2.Error):
        old_session.cursor().execute("SELECT 1")
    after = shop.ids()
    for service in ("postgres", "nginx", "untouched"):
        assert after[service] == ids[service], f"{service} was recreated"
    for service in ("pynomaly-api", "redis-cluster", "redis-exporter", "postgres-exporter"):
        assert not set(after[service]) & set(ids[service]), f"{service} was not recreated"
    seen = json.dumps(answer) + journal_of(shop) + "".join(argv)
    for environment in (before, shop.environment):
        for name, secret in secrets_of(environment).items():
            assert secret not in seen, f"{name} is told"
    proofs = {(one["credential"], one["secret"]): one["seen"] for one in answer["proofs"]}
    assert proofs["postgres pynomaly", "new"].startswith("let in, a container on")
    assert proofs["postgres pynomaly", "old"].startswith("refused, a container on")
    assert proofs["redis default", "old"].startswith("refused, a container on")


def killed_at(shop: Shop, survived: set[str]) -> str:
    """Run in a child that is killed at the first step that is not in ``survived``; that step's
    name, or nothing where it came to its end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)

        def step(name: str) -> None:
            if name not in survived:
                os.write(writer, name.encode())
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            shop.rotate(step=step)
            os._exit(0)
        except BaseException as error:
            os.write(writer, f"!{error!r} {getattr(error, 'hint', '')}".encode())
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        name = pipe.read()
    _pid, status = os.waitpid(pid, 0)
    assert not name.startswith("!"), name
    assert bool(name) == os.WIFSIGNALED(status)
    return name


def test_a_run_that_is_killed_before_every_step_goes_on_with_the_same_secrets(shop: Shop) -> None:
    before = shop.environment
    survived: set[str] = set()
    kept: dict[str, Any] | None = None
    steps = []
    while True:
        name = killed_at(shop, survived)
        if not name:
            break
        steps.append(name)
        survived.add(name)
        record = shop.record
        assert kept is None or record is None or record["rotated"] == kept["rotated"], (
            f"another secret was made at {name}"
        )
        kept = record or kept
        # Whatever killed it, clients are served. A replica that was taken away comes back later.
        wait_until(f"the API serves after a kill at {name}", shop.healthy, 10)
        if record is not None:
            path = shop.rotation().folder
            assert path.stat().st_mode & 0o777 == 0o700
            assert (path / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert {"keep", "bridge_recreate", "verifier", "environment", "recreate", "prove"} <= survived
    assert kept is not None
    new = {one["credential"]: one["new"] for one in kept["rotated"]}
    assert shop.environment["POSTGRES_PASSWORD"] == new["postgres"]
    assert shop.environment["REDIS_PASSWORD"] == new["redis"]
    assert shop.environment["API_SECRET_KEY"] == new["api"]
    assert len(shop.containers("pynomaly-api")) == 2
    assert_rotated(shop, before)


def test_resume_finishes_what_was_begun(shop: Shop) -> None:
    before = shop.environment
    assert killed_at(shop, {"keep", "redis_both", "bridge_role", "bridge_environment"})
    assert [one["temporary_state"] for one in shop.states.left()] == ["credential_rotation"]
    settings = resume.ResumeSettings(shop.name, str(shop.state / "backups"))
    states = shop.states
    answer = resume.run(settings, EngineControl(), states.store, states.identity)
    assert answer["failed"] == "", answer
    assert_rotated(shop, before)


def test_one_credential_alone_leaves_the_others(shop: Shop) -> None:
    before, ids = shop.environment, shop.ids()
    answer = shop.rotate(credentials=("redis",), all_there=False)
    after = shop.environment
    assert answer["rotated"] == ["redis default"]
    assert after["REDIS_PASSWORD"] != before["REDIS_PASSWORD"]
    assert after["POSTGRES_PASSWORD"] == before["POSTGRES_PASSWORD"]
    assert after["DATABASE_URL"] == before["DATABASE_URL"]
    assert shop.ids()["postgres-exporter"] == ids["postgres-exporter"]
    assert shop.redis_lets_in(after["REDIS_PASSWORD"])
    assert not shop.redis_lets_in(before["REDIS_PASSWORD"])


def test_a_secret_in_the_compose_file_itself_is_refused(shop: Shop) -> None:
    path = shop.folder / "compose.yaml"
    text = path.read_text()
    secret = shop.environment["POSTGRES_PASSWORD"]
    files, ids = (shop.folder / ".env").read_text(), shop.ids()
    path.write_text(
        text.replace("DATA_SOURCE_PASS: ${POSTGRES_PASSWORD:?}", f"DATA_SOURCE_PASS: {secret}")
    )
    try:
        with pytest.raises(credentials.RotationError) as caught:
            shop.rotate(credentials=("postgres",), all_there=False)
    finally:
        path.write_text(text)
    assert "postgres-exporter: environment.DATA_SOURCE_PASS" in str(caught.value)
    assert secret not in str(caught.value) + caught.value.hint
    assert ".env" in caught.value.hint
    assert (shop.folder / ".env").read_text() == files
    assert shop.ids() == ids
    assert shop.states.left() == []


def test_a_credential_that_is_named_and_not_there_is_refused(shop: Shop) -> None:
    with pytest.raises(credentials.RotationError, match="no Grafana"):
        shop.rotate(credentials=("grafana",), all_there=False)


ADOPTED = """\
x-one: &one {init: true, labels: [ops.pynomaly.lab=true], stop_grace_period: 10s}
services:
  pynomaly-api:
    <<: *one
    image: IMAGE_API
    container_name: NAME-api
    environment:
      DATABASE_URL: postgresql://pynomaly:${POSTGRES_PASSWORD:?}@postgres:5432/pynomaly_prod
      REDIS_URL: redis://:${REDIS_PASSWORD:?}@redis-cluster:6379/0
      SECRET_KEY_FILE: /run/secrets/key
    volumes: ["./secrets/key.txt:/run/secrets/key:ro"]
    healthcheck:
      test: [CMD, python3, -m, pynomaly_api.healthcheck]
      interval: 1s
      timeout: 5s
      start_period: 60s
  postgres:
    <<: *one
    image: IMAGE_POSTGRES
    environment:
      POSTGRES_USER: pynomaly
      POSTGRES_DB: pynomaly_prod
      POSTGRES_PASSWORD_FILE: /run/secrets/password
    volumes: ["./secrets/password.txt:/run/secrets/password:ro"]
  redis-cluster:
    <<: *one
    image: IMAGE_REDIS
    command: ["redis-server", "--requirepass", "${REDIS_PASSWORD:?}"]
networks:
  default: {labels: [ops.pynomaly.lab=true]}
"""


@pytest.fixture
def adopted(tmp_path: Path) -> Iterator[Shop]:
    """As somebody else would deploy it: one replica, a secret file, a password in a command."""
    made = Shop(f"inttest-adopted-{os.getpid()}", tmp_path, tmp_path / "state")
    text = ADOPTED.replace("NAME", made.name)
    for name in ("postgres", "redis"):
        text = text.replace(f"IMAGE_{name.upper()}\n", f"{image(name)}\n")
    api = os.environ.get("PYNOMALY_TEST_API_IMAGE", "pynomaly-lab/pynomaly:production")
    (tmp_path / "compose.yaml").write_text(text.replace("IMAGE_API", api))
    (tmp_path / "secrets").mkdir()
    for name, secret in (("password", f"{CANARY}-file"), ("key", f"{CANARY}-signs")):
        (tmp_path / "secrets" / f"{name}.txt").write_text(f"{secret}\n")
        (tmp_path / "secrets" / f"{name}.txt").chmod(0o644)
    (tmp_path / ".env").write_text(
        f"POSTGRES_PASSWORD={CANARY}-file\nREDIS_PASSWORD={CANARY}-redis\n"
    )
    tmp_path.chmod(0o755)
    try:
        made.compose("up", "--detach", "--wait", "--quiet-pull")
        wait_until("PostgreSQL is ready", lambda: made.postgres_answers(f"{CANARY}-file"))
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "3")


def test_an_adopted_project_with_secret_files_is_rotated(adopted: Shop) -> None:
    before = adopted.environment
    answer = adopted.rotate()
    after = adopted.environment
    assert answer["rotated"] == ["postgres pynomaly", "redis default", "api SECRET_KEY"]
    assert not answer["two_roles"]
    assert any("grafana: not rotated" in remark for remark in answer["remarks"])
    password = (adopted.folder / "secrets" / "password.txt").read_text()
    assert password == f"{after['POSTGRES_PASSWORD']}\n"
    assert (adopted.folder / "secrets" / "key.txt").read_text() != f"{CANARY}-signs\n"
    assert (adopted.folder / "secrets" / "key.txt").stat().st_mode & 0o777 == 0o644
    assert adopted.postgres_lets_in(after["POSTGRES_PASSWORD"])
    assert not adopted.postgres_lets_in(before["POSTGRES_PASSWORD"])
    assert adopted.redis_lets_in(after["REDIS_PASSWORD"])
    assert not adopted.redis_lets_in(before["REDIS_PASSWORD"])
    (api,) = adopted.containers("pynomaly-api")
    status, body = request(api.addresses[0], "/health", port=8000)
    assert (status, json.loads(body)["status"]) == (200, "healthy")
    assert CANARY not in json.dumps(answer) + journal_of(adopted)
    assert adopted.states.left() == []


class FakeGrafana(http.server.BaseHTTPRequestHandler):
    """The part of Grafana's HTTP API that is used."""

    password = "first"
    logged_out = 0

    def _is_known(self) -> bool:
        token = base64.b64encode(f"admin:{FakeGrafana.password}".encode()).decode()
        return self.headers["Authorization"] == f"Basic {token}"

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/api/health":
            self._answer(200, {"database": "ok"})
        elif self.path == "/api/user" and self._is_known():
            self._answer(200, {"id": 7, "login": "admin"})
        else:
            self._answer(401, {})

    def do_PUT(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/api/user/password" or not self._is_known():
            self._answer(401, {})
            return
        assert content["oldPassword"] == FakeGrafana.password
        assert content["newPassword"] == content["confirmNew"]
        FakeGrafana.password = content["newPassword"]
        self._answer(200, {})

    def do_POST(self) -> None:
        if self.path == "/api/admin/users/7/logout" and self._is_known():
            FakeGrafana.logged_out += 1
            self._answer(200, {})
        else:
            self._answer(401, {})

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


def test_grafanas_password_is_changed_by_its_api() -> None:
    """Against what its documentation says: there is no image of Grafana here."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeGrafana)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    container = Container(
        id="g",
        name="grafana-1",
        service="grafana",
        number=1,
        state="running",
        image="grafana",
        image_id="sha256:0",
        addresses=("127.0.0.1",),
        environment={
            "GF_SECURITY_ADMIN_PASSWORD": "first",
            "GF_SERVER_HTTP_PORT": str(server.server_port),
        },
    )
    stack = Stack("p", containers={"grafana": (container,)}, components={"grafana": "grafana"})
    try:
        grafana = credential_servers.GrafanaLogin(EngineControl(), stack, 5)
        assert grafana.in_use() == [("admin", "first")]
        rotated = [credentials.Rotated(credentials.GRAFANA, "admin", "first", "second")]
        for _time in range(2):  # as a run that goes on does
            grafana.change(rotated)
        assert FakeGrafana.logged_out == 2
        assert grafana.logs_in("admin", "second")[0]
        assert not grafana.logs_in("admin", "first")[0]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "password", ["pencil", "pass\u00adword", "\u2168 x", "p a's\"s\\", "\u0627x1"]
)
def test_a_server_takes_the_verifier_for_the_password(password: str, postgres_address: str) -> None:
    """The server's own preparation of the password, and libpq's, agree with ours."""
    verifier = credentials.scram_verifier(password, os.urandom(16))
    administrator = {"host": postgres_address, "user": "postgres", "password": "first"}
    connection = psycopg2.connect(dbname="postgres", **administrator)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("DROP ROLE IF EXISTS proved")
        cursor.execute("CREATE ROLE proved LOGIN PASSWORD %s", (verifier,))
        cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'proved'")
        assert cursor.fetchone() == (verifier,)
        cursor.execute("CREATE ROLE theirs LOGIN PASSWORD %s", (password,))
        cursor.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'theirs'")
        theirs = cursor.fetchone()
        cursor.execute("DROP ROLE theirs")
    connection.close()
    assert theirs is not None
    assert credentials.matches_verifier(password, theirs[0])
    psycopg2.connect(
        host=postgres_address, user="proved", password=password, dbname="postgres"
    ).close()
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(
            host=postgres_address, user="proved", password=f"{password}x", dbname="postgres"
        )


@pytest.fixture(scope="module")
def postgres_address(project: Project) -> str:
    container = project.start(
        "postgres",
        "postgres",
        {"POSTGRES_PASSWORD": "first", "POSTGRES_HOST_AUTH_METHOD": "scram-sha-256"},
    )
    address = container.addresses[0]

    def ready() -> bool:
        try:
            psycopg2.connect(
                host=address, user="postgres", password="first", dbname="postgres"
            ).close()
        except psycopg2.Error:
            return False
        return True

    wait_until("PostgreSQL is ready", ready)
    return address
