# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Redis collector against a real server, which is broken for real."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import redis
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._redis import (
    ErrorReply,
    Reply,
    parse_info,
)

from .conftest import Project, Relay, docker, judged, trouble, wait_until, with_service

PASSWORD = "canary-redis-1f/9@x"
URL_PASSWORD = "canary-redis-1f%2F9%40x"
WRONG_PASSWORD = "canary-wrong-5d"
SECRETS = (PASSWORD, URL_PASSWORD, WRONG_PASSWORD)
URL = f"redis://:{URL_PASSWORD}@redis-cluster:6379/0"

Client = Callable[[dict[str, str]], Container]


def ask(server: Container, *commands: Sequence[str], password: str = PASSWORD) -> Reply:
    """Run commands in one session; the last one's reply."""
    connection = redis.Connection((server.addresses[0], 6379), False, Deadline(5))
    with closing(connection):
        reply = connection.ask("AUTH", password) if password else None
        for command in commands:
            reply = connection.ask(*command)
    return reply


def answers(server: Container, password: str = PASSWORD) -> bool:
    try:
        return ask(server, ["PING"], password=password) == b"PONG"
    except redis.NoAnswerError:
        return False


@pytest.fixture(scope="module")
def server(project: Project) -> Container:
    started = project.start(
        "redis-cluster",
        "redis",
        command=["redis-server", "--requirepass", PASSWORD, "--maxmemory", "64mb"],
    )
    wait_until("Redis answers", lambda: answers(started))
    return started


@contextmanager
def configured(server: Container, **values: str) -> Iterator[None]:
    """CONFIG SET for the time of a test."""
    before = {}
    for name, value in values.items():
        key = name.replace("_", "-")
        reply = ask(server, ["CONFIG", "GET", key])
        assert isinstance(reply, list)
        before[key] = bytes(reply[1]).decode()  # type: ignore[arg-type]
        assert ask(server, ["CONFIG", "SET", key, value]) == b"OK"
    try:
        yield
    finally:
        for key, value in before.items():
            ask(server, ["CONFIG", "SET", key, value])


def check(
    stack: Stack, engine: Engine, thresholds: dict[str, Any] | None = None, **changes: Any
) -> dict[str, dict[str, Any]]:
    chosen = replace(CheckSettings(call_timeout_seconds=2.0, deadline_seconds=10.0), **changes)
    return judged(
        redis.collectors(stack, chosen, engine), chosen.deadline_seconds, thresholds, SECRETS
    )


def persistence(server: Container) -> Mapping[str, str]:
    reply = ask(server, ["INFO", "persistence"])
    assert isinstance(reply, bytes)
    return parse_info(reply.decode())


def fingerprint(server: Container) -> dict[str, Any]:
    """Whatever a write, a save or a change of configuration would alter."""
    info = persistence(server)
    names = ("rdb_changes_since_last_save", "rdb_last_save_time", "aof_enabled")
    found: dict[str, Any] = {name: info[name] for name in names}
    found.update(size=ask(server, ["DBSIZE"]), config=ask(server, ["CONFIG", "GET", "*"]))
    return found


def test_a_healthy_server_is_all_green_and_stays_as_it_was(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    client({"REDIS_URL": URL})
    ask(server, ["SET", "some", "thing"])
    before = fingerprint(server)
    assert before["rdb_changes_since_last_save"] != "0"
    results = check(project.stack(), engine)
    assert fingerprint(server) == before
    assert trouble(results) == {}
    assert results["redis.ping"]["value"].startswith("8.")
    assert results["redis.app_login"]["status"] == "ok"
    assert 0 < results["redis.memory"]["value"] < 50
    assert "of maxmemory 64.0 MiB" in results["redis.memory"]["message"]
    assert results["redis.clients"]["message"].endswith("clients connected")
    assert results["redis.last_save"]["status"] == "ok"
    assert results["redis.replication"]["status"] == "skipped"


@pytest.mark.usefixtures("server")
def test_a_wrong_password_of_the_application_is_that_probe_alone(
    project: Project, engine: Engine, client: Client
) -> None:
    client({"REDIS_URL": URL.replace(URL_PASSWORD, WRONG_PASSWORD)})
    results = check(project.stack(), engine)
    assert trouble(results) == {"redis.app_login": "critical"}
    assert "refuses the password" in results["redis.app_login"]["message"]


@pytest.mark.usefixtures("server")
def test_an_application_without_a_password_is_told_so(
    project: Project, engine: Engine, client: Client
) -> None:
    client({"REDIS_HOST": "redis-cluster"})
    results = check(project.stack(), engine)
    assert trouble(results) == {"redis.app_login": "critical"}
    assert "asks for a password" in results["redis.app_login"]["message"]


@pytest.mark.usefixtures("server")
def test_a_port_where_nothing_listens_is_the_applications_fault(
    project: Project, engine: Engine, client: Client
) -> None:
    client({"REDIS_URL": URL.replace(":6379", ":6380")})
    results = check(project.stack(), engine)
    assert trouble(results) == {"redis.app_login": "critical"}
    assert ":6380" in results["redis.app_login"]["message"]


def test_a_password_in_a_secret_file_is_found_through_a_line_of_shell(
    project: Project, engine: Engine, server: Container
) -> None:
    docker("exec", server.name, "sh", "-c", f"printf '%s\\n' '{PASSWORD}' > /data/password")
    line = 'exec redis-server --requirepass "$(cat /data/password)"'
    stack = with_service(
        project.stack(), "redis-cluster", replace(server, command=["sh", "-c", line])
    )
    assert trouble(check(stack, engine)) == {}


def test_a_password_in_a_configuration_file_is_found(
    project: Project, engine: Engine, server: Container
) -> None:
    docker("exec", server.name, "sh", "-c", f"echo 'requirepass \"{PASSWORD}\"' > /data/own.conf")
    stack = with_service(
        project.stack(),
        "redis-cluster",
        replace(server, command=["redis-server", "/data/own.conf"]),
    )
    assert trouble(check(stack, engine)) == {}


def test_the_applications_password_helps_where_the_server_keeps_its_own_to_itself(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    client({"REDIS_URL": URL})
    stack = with_service(project.stack(), "redis-cluster", replace(server, command=[]))
    assert trouble(check(stack, engine)) == {}


def test_no_password_and_a_wrong_one_are_critical(
    project: Project, engine: Engine, server: Container
) -> None:
    stack = with_service(project.stack(), "redis-cluster", replace(server, command=[]))
    results = check(stack, engine)
    assert trouble(results) == {"redis.ping": "critical"}
    assert "none was found" in results["redis.ping"]["message"]
    assert results["redis.memory"]["message"] == "not measured: redis.ping is critical"
    results = check(stack, engine, redis_password=WRONG_PASSWORD)
    assert trouble(results) == {"redis.ping": "critical"}
    assert "pynomaly_redis_password" in results["redis.ping"]["hint"]
    assert trouble(check(stack, engine, redis_password=PASSWORD)) == {}


def test_a_full_server_is_its_memory_alone(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    client({"REDIS_URL": URL})
    with configured(server, maxmemory="4mb", maxmemory_policy="noeviction"):
        full = False
        for index in range(400):
            reply = ask(server, ["SET", f"filler:{index}", "x" * 20000])
            full = isinstance(reply, ErrorReply) and reply.code == "OOM"
            if full:
                break
        assert full, "Redis never refused a write"
        results = check(project.stack(), engine)
    ask(server, ["FLUSHALL"])
    assert trouble(results) == {"redis.memory": "critical"}
    assert results["redis.memory"]["value"] > 95
    assert "writes are refused" in results["redis.memory"]["message"]


def test_evictions_are_counted(project: Project, engine: Engine, server: Container) -> None:
    with configured(server, maxmemory="4mb", maxmemory_policy="allkeys-lru"):
        for start in range(0, 400, 20):
            words = [
                word
                for index in range(start, start + 20)
                for word in (f"filler:{index}", "x" * 20000)
            ]
            ask(server, ["MSET", *words])
        results = check(
            project.stack(),
            engine,
            {
                "redis.evictions": {"warning": 10},
                "redis.memory": {"warning": None, "critical": None},
            },
        )
    ask(server, ["FLUSHALL"], ["CONFIG", "RESETSTAT"])
    assert trouble(results) == {"redis.evictions": "warning"}
    assert "evicted at the limit (allkeys-lru)" in results["redis.memory"]["message"]


def test_no_client_more_is_clients_alone(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    client({"REDIS_URL": URL})
    with configured(server, maxclients="12"):
        with ExitStack() as opened:
            for _index in range(12):
                connection = redis.Connection((server.addresses[0], 6379), False, Deadline(30))
                opened.enter_context(closing(connection))
                assert connection.ask("AUTH", PASSWORD) == b"OK"
            results = check(project.stack(), engine)
        wait_until("clients have left", lambda: answers(server))
        after = check(project.stack(), engine)
    ask(server, ["CONFIG", "RESETSTAT"])
    assert trouble(results) == {"redis.clients": "critical"}
    assert "max number of clients" in results["redis.clients"]["message"]
    assert results["redis.app_login"]["status"] == "skipped"
    assert trouble(after) == {"redis.rejected_connections": "warning"}


def test_a_snapshot_that_fails_is_told(project: Project, engine: Engine, server: Container) -> None:
    owner = docker("exec", server.name, "stat", "--format", "%u:%g", "/data").stdout.strip()
    docker("exec", server.name, "chown", "0:0", "/data")
    with configured(server, save="3600 1"):
        ask(server, ["SET", "some", "thing"], ["BGSAVE"])
        wait_until(
            "the snapshot has failed",
            lambda: persistence(server)["rdb_last_bgsave_status"] == "err",
        )
        results = check(project.stack(), engine)
    docker("exec", server.name, "chown", owner, "/data")
    ask(server, ["BGSAVE"])
    wait_until(
        "snapshots work again",
        lambda: persistence(server)["rdb_last_bgsave_status"] == "ok",
    )
    assert trouble(results) == {"redis.last_save": "critical", "redis.ping": "critical"}
    assert "refuses writes" in results["redis.ping"]["message"]


def test_a_change_that_waits_for_its_snapshot_ages(
    project: Project, engine: Engine, server: Container
) -> None:
    with configured(server, save="86400 1000000"):
        ask(server, ["SAVE"], ["SET", "some", "change"])
        limits = {"redis.last_save": {"warning": -1}}
        results = check(project.stack(), engine, limits)
    assert trouble(results) == {"redis.last_save": "warning"}
    assert results["redis.last_save"]["message"].startswith("1 change since the last save")
    with configured(server, save=""):
        off = check(project.stack(), engine)
    assert off["redis.last_save"]["message"].startswith("persistence is off")
    with configured(server, save="", appendonly="yes"):
        wait_until(
            "the append-only file is written",
            lambda: persistence(server)["aof_rewrite_in_progress"] == "0",
        )
        appending = check(project.stack(), engine)
    assert appending["redis.last_save"]["status"] == "ok"
    assert "append-only" in appending["redis.last_save"]["message"]


def test_a_user_who_may_not_ask_leaves_what_it_may(
    project: Project, engine: Engine, server: Container
) -> None:
    ask(server, ["ACL", "SETUSER", "looker", "on", f">{WRONG_PASSWORD}", "+ping", "+info", "~*"])
    try:
        login: dict[str, Any] = {"redis_username": "looker", "redis_password": WRONG_PASSWORD}
        results = check(project.stack(), engine, **login)
        assert trouble(results) == {}
        assert results["redis.memory"]["status"] == "ok"
        assert "save policy" in results["redis.last_save"]["message"]
        ask(server, ["ACL", "SETUSER", "looker", "-info"])
        results = check(project.stack(), engine, **login)
        assert results["redis.ping"]["status"] == "ok"
        assert results["redis.memory"]["status"] == "unknown"
        assert "INFO" in results["redis.memory"]["message"]
    finally:
        ask(server, ["ACL", "DELUSER", "looker"])


def test_a_server_that_accepts_and_never_answers_ends_in_time(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    client({"REDIS_URL": URL})
    docker("kill", "--signal", "STOP", server.name)
    try:
        started = time.monotonic()
        results = check(project.stack(), engine)
        seconds = time.monotonic() - started
    finally:
        docker("kill", "--signal", "CONT", server.name)
    assert trouble(results) == {"redis.ping": "critical"}
    assert "no answer" in results["redis.ping"]["message"]
    assert results["redis.app_login"]["status"] == "skipped"
    assert 1.9 < seconds < 3.5


def test_a_server_that_hangs_in_the_middle_ends_in_time(
    project: Project, engine: Engine, server: Container
) -> None:
    relay = Relay((server.addresses[0], 6379), b"INFO")
    try:
        behind = replace(
            server,
            addresses=("127.0.0.1",),
            command=[*server.command, "--port", str(relay.port)],
        )
        started = time.monotonic()
        results = check(with_service(project.stack(), "redis-cluster", behind), engine)
        seconds = time.monotonic() - started
        assert relay.fell_silent
    finally:
        relay.close()
    assert trouble(results) == {"redis.ping": "critical"}
    assert "INFO was not" in results["redis.ping"]["message"]
    assert seconds < 3


def test_something_else_at_the_port_is_not_redis(
    project: Project, engine: Engine, server: Container
) -> None:
    talker = socket.create_server(("127.0.0.1", 0))
    port = talker.getsockname()[1]

    def talk() -> None:
        near, _address = talker.accept()
        near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        near.recv(1)

    threading.Thread(target=talk, daemon=True).start()
    with closing(talker):
        other = replace(server, addresses=("127.0.0.1",), command=["--port", str(port)])
        results = check(with_service(project.stack(), "redis-cluster", other), engine)
    assert trouble(results) == {"redis.ping": "critical"}
    assert "not as Redis" in results["redis.ping"]["message"]


def test_a_replica_without_its_master_is_told(
    project: Project, engine: Engine, server: Container
) -> None:
    replica = project.start(
        "redis-replica", "redis", command=["redis-server", "--replicaof", "127.0.0.1", "1"]
    )
    wait_until("the replica answers", lambda: answers(replica, password=""))
    try:
        results = check(project.stack(redis="redis-replica"), engine)
    finally:
        project.remove("redis-replica")
    assert trouble(results) == {"redis.replication": "critical"}
    assert "127.0.0.1:1" in results["redis.replication"]["message"]
    # Without maxmemory, a limit of the container's or none at all:
    assert "without a limit" in results["redis.memory"]["message"]
    assert server.running


def test_a_stopped_server_is_one_red_line(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    client({"REDIS_URL": URL})
    docker("stop", server.name)
    try:
        results = check(project.stack(), engine)
    finally:
        docker("start", server.name)
        restarted = project.container("redis-cluster")
        wait_until("Redis is back", lambda: answers(restarted))
    assert trouble(results) == {"redis.ping": "critical"}
    assert "exited" in results["redis.ping"]["message"]
    assert trouble(check(project.stack(), engine)) == {}


def test_a_project_without_redis_is_skipped(project: Project, engine: Engine) -> None:
    results = check(replace(project.stack(), containers={}, components={}), engine)
    assert {entry["status"] for entry in results.values()} == {"skipped"}
    assert "has no Redis" in results["redis.ping"]["message"]
