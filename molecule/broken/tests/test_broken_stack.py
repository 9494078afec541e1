# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Break one thing, see that the check names it and nothing that is well; mend it, see green.

Each breakage says what must be found, and what may be found besides because it follows from it
(an API whose database is gone is not healthy either).
"""

from __future__ import annotations

import json
import shlex
import time
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from conftest import PROJECT_DIR, Check, Server, troubles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

API = "pynomaly-api"
FAULTS = f"{PROJECT_DIR}/config/api/faults.json"
OVERRIDE = "/root/override.yaml"
#: The check's own deadline, and what Ansible and SSH may add to it on a busy machine.
LIMIT_SECONDS = 15 + 15

# What an API that cannot work entails, seen from outside.
API_DOWN = {
    "api.health": "critical",
    "api.replica_health": "critical",
    "container.health@pynomaly-api": "critical warning",
    "api.error_rate": "critical warning",
    "logs.errors": "warning",
    "prometheus.targets": "warning",
}


@dataclass
class Breakage:
    """``found`` and ``entailed`` map ``ID`` or ``ID@WHERE`` to the status, or statuses, allowed."""

    name: str
    broken: Callable[[Server], AbstractContextManager[None]]
    found: Mapping[str, str]
    entailed: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)


def _allowed(seen: str, status: str, expected: Mapping[str, str]) -> bool:
    identifier = seen.partition("@")[0]
    return any(status in expected[key].split() for key in (seen, identifier) if key in expected)


@contextmanager
def mended_whatever_happens(broken: AbstractContextManager[None]) -> Iterator[None]:
    """The breakages mend after their yield; a failed assertion must not keep them from it."""
    broken.__enter__()
    try:
        yield
    finally:
        broken.__exit__(None, None, None)


@contextmanager
def stopped(server: Server, service: str) -> Iterator[None]:
    server.compose(f"stop {service}")
    yield
    server.compose(f"start {service}")


@contextmanager
def killed(server: Server, service: str) -> Iterator[None]:
    server.run(f"docker kill {server.container(service)}")
    yield
    server.compose(f"start {service}")


@contextmanager
def paused(server: Server, service: str) -> Iterator[None]:
    server.run(f"docker pause {server.container(service)}")
    yield
    server.run(f"docker unpause {server.container(service)}")


@contextmanager
def hung(server: Server, service: str) -> Iterator[None]:
    """Every process of the container stopped: the kernel accepts connections, nobody answers."""
    container = server.container(service)
    pids = " ".join(server.run(f"docker top {container} -eo pid").split()[1:])
    server.run(f"kill -STOP {pids}")
    yield
    server.run(f"kill -CONT {pids}")


@contextmanager
def overridden(server: Server, service: str, definition: Mapping[str, Any]) -> Iterator[None]:
    """One service changed by hand, with a second Compose file."""
    server.write(OVERRIDE, json.dumps({"services": {service: definition}}))
    files = f"-f {PROJECT_DIR}/compose.yaml -f {OVERRIDE}"
    server.compose(f"{files} up --detach --no-deps {service}")
    yield
    server.compose(f"up --detach {service}")
    server.run(f"rm {OVERRIDE}")


@contextmanager
def wrong_database_password(server: Server) -> Iterator[None]:
    url = "postgresql://pynomaly:wrong@postgres:5432/pynomaly_prod"
    with overridden(server, API, {"environment": {"DATABASE_URL": url}}):
        server.wait_until("the API runs", lambda: server.pid(API) != "0")
        yield


@contextmanager
def restart_loop(server: Server) -> Iterator[None]:
    service = "blackbox-exporter"
    definition = {"entrypoint": ["/bin/false"], "command": []}
    with overridden(server, service, definition):
        server.wait_until(
            "four restarts are counted",
            lambda: (
                int(
                    server.run(
                        f"docker inspect --format '{{{{.RestartCount}}}}' "
                        f"{server.container(service)}"
                    )
                )
                >= 4
            ),
        )
        yield


@contextmanager
def redis_full(server: Server) -> Iterator[None]:
    server.redis("config set maxmemory-policy noeviction")
    # One command a key: inside one script, Redis looks at its limit only at the beginning.
    server.run(
        f"docker exec {server.container('redis-cluster')} sh -c %s",
        "for i in $(seq 80); do redis-cli eval "
        "\"return redis.call('set', KEYS[1], string.rep('x', 500000))\" 1 fill:$i; done",
    )
    yield
    server.redis("flushall")
    server.redis("config set maxmemory-policy allkeys-lru")


@contextmanager
def filled(server: Server, percent: int) -> Iterator[None]:
    size = int(server.run("stat -f --format '%b' /srv/data"))
    block = int(server.run("stat -f --format '%S' /srv/data"))
    server.run(f"fallocate -l {size * block * percent // 100} /srv/data/filling")
    yield
    server.run("rm /srv/data/filling")


@contextmanager
def api_fault(server: Server, fault: Mapping[str, Any]) -> Iterator[None]:
    server.write(FAULTS, json.dumps(fault))
    yield
    server.run(f"rm -f {FAULTS}")


@contextmanager
def failing_requests(server: Server) -> Iterator[None]:
    with api_fault(server, {"error_share": 1.0, "paths": ["/api/v1/detections"]}):
        # Over some seconds: the check's window begins that much later than the breakage.
        server.run(
            "for i in $(seq 60); do sleep 0.15; "
            "curl -s -o /dev/null --max-time 5 http://127.0.0.1:8000/api/v1/detections; done"
        )
        yield
    # A new container has a new log: what was broken here is nobody else's trouble.
    server.compose("up --detach --force-recreate nginx")


@contextmanager
def out_of_memory(server: Server) -> Iterator[None]:
    with api_fault(server, {"allocate_mib": 600, "paths": ["/api/v1/detections"]}):
        server.run(
            "for i in 1 2; do curl -s -o /dev/null --max-time 30 "
            "http://127.0.0.1:8000/api/v1/detections; done; true"
        )
    server.wait_until_healthy()
    yield
    # A new container has a new id, and with it a clean record.
    server.compose(f"up --detach --force-recreate {API}")


@contextmanager
def expiring_certificate(server: Server) -> Iterator[None]:
    tls = f"{PROJECT_DIR}/config/nginx/tls"
    certificate, key = (server.run(f"ls {tls}/*.{end}") for end in ("crt", "key"))
    server.run(f"cp -a {tls} /root/tls")
    server.run(
        f"openssl req -x509 -key {key} -days 10 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost,DNS:node1 -out /root/short.crt"
    )
    server.run(f"cat /root/short.crt > {certificate}")
    server.compose("exec -T nginx nginx -s reload")
    yield
    server.run(f"cp -a /root/tls/. {tls}/ && rm -r /root/tls /root/short.crt")
    server.compose("exec -T nginx nginx -s reload")


@contextmanager
def broken_nginx_configuration(server: Server) -> Iterator[None]:
    path = f"{PROJECT_DIR}/config/nginx/nginx.conf"
    server.run(f"cp -a {path} /root/nginx.conf && echo 'no_such_directive on;' >> {path}")
    yield
    server.run(f"cat /root/nginx.conf > {path} && rm /root/nginx.conf")


@contextmanager
def sessions(server: Server, statements: Sequence[str], count: int) -> Iterator[None]:
    """``count`` sessions of the role breakage that run the statements, inside the container."""
    server.sql("DROP ROLE IF EXISTS breakage")
    server.sql("CREATE ROLE breakage LOGIN")
    server.sql("GRANT pg_read_all_data, pg_write_all_data TO breakage")
    words = " ".join(f"-c {shlex.quote(statement)}" for statement in statements)
    server.run(
        f"for i in $(seq {count}); do docker exec --detach --env PGAPPNAME=breakage "
        f"{server.container('postgres')} "
        f"psql -X -q -U breakage -d pynomaly_prod {words}; done"
    )
    yield
    server.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'breakage'"
    )
    server.sql("DROP ROLE breakage")


@contextmanager
def exhausted_connections(server: Server) -> Iterator[None]:
    with sessions(server, ["SELECT pg_sleep(300)"], 40):
        server.wait_until(
            "all connections are taken",
            lambda: (
                int(
                    server.sql(
                        "SELECT current_setting('max_connections')::int - count(*) - 3 "
                        "FROM pg_stat_activity WHERE backend_type = 'client backend'"
                    )
                )
                <= 1
            ),
        )
        yield


@contextmanager
def open_transaction(server: Server) -> Iterator[None]:
    with sessions(server, ["BEGIN", "SELECT txid_current()", "SELECT pg_sleep(300)"], 1):
        server.wait_until(
            "the transaction is five seconds old",
            lambda: (
                server.sql(
                    "SELECT coalesce(max(now() - xact_start) > '5 s', false) FROM pg_stat_activity "
                    "WHERE application_name = 'breakage'"
                )
                == "t"
            ),
        )
        yield


@contextmanager
def blocked_session(server: Server) -> Iterator[None]:
    server.sql("CREATE TABLE breakage_locks (id int)")
    lock = "LOCK TABLE breakage_locks IN SHARE ROW EXCLUSIVE MODE"
    with sessions(server, ["BEGIN", lock, "SELECT pg_sleep(300)"], 2):
        server.wait_until(
            "one session has waited for the other for two seconds",
            lambda: (
                server.sql(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                    "AND now() - query_start > '2 s'"
                )
                == "1"
            ),
        )
        yield
    server.sql("DROP TABLE breakage_locks")


@contextmanager
def dead_tuples(server: Server) -> Iterator[None]:
    server.sql("CREATE TABLE breakage_rows (id int) WITH (autovacuum_enabled = false)")
    server.sql("INSERT INTO breakage_rows SELECT generate_series(1, 50000)")
    server.sql("DELETE FROM breakage_rows WHERE id > 10000")
    server.wait_until(
        "the dead tuples are counted",
        lambda: (
            server.sql(
                "SELECT n_dead_tup >= 40000 FROM pg_stat_user_tables "
                "WHERE relname = 'breakage_rows'"
            )
            == "t"
        ),
    )
    yield
    server.sql("DROP TABLE breakage_rows")


@contextmanager
def another_image(server: Server) -> Iterator[None]:
    image = server.run(f"docker inspect --format '{{{{.Image}}}}' {server.container(API)}")
    server.run("docker pull -q pynomaly:newer")
    server.run("docker tag pynomaly:newer pynomaly:production")
    yield
    server.run(f"docker tag {image} pynomaly:production")


@contextmanager
def unreadable_compose_file(server: Server) -> Iterator[None]:
    path = f"{PROJECT_DIR}/compose.yaml"
    server.run(f"cp -a {path} /root/compose.yaml && echo 'services: [' >> {path}")
    yield
    server.run(f"cp -a /root/compose.yaml {path} && rm /root/compose.yaml")


BREAKAGES = [
    Breakage(
        "PostgreSQL stopped",
        lambda server: stopped(server, "postgres"),
        {
            "container.state@postgres": "critical",
            "postgres.ready": "critical",
            "api.health": "critical",
        },
        {**API_DOWN, "postgres.app_login": "critical"},
    ),
    Breakage(
        "wrong database password in the API's environment",
        wrong_database_password,
        {"postgres.app_login": "critical", "api.health": "critical"},
        {**API_DOWN, "container.image@pynomaly-api": "warning"},
    ),
    Breakage(
        "Redis killed",
        lambda server: killed(server, "redis-cluster"),
        {"container.state@redis-cluster": "critical", "redis.ping": "critical"},
        {
            "redis.app_login": "critical",
            "logs.errors": "warning",
            "api.health": "warning",
            "api.replica_health": "warning",
        },
    ),
    Breakage(
        "Redis at its memory limit",
        redis_full,
        {"redis.memory": "critical"},
        {"logs.errors": "warning"},
    ),
    Breakage(
        "filesystem past 80 %",
        lambda server: filled(server, 85),
        {"host.disk@/srv/data": "warning"},
    ),
    Breakage(
        "filesystem past 95 %",
        lambda server: filled(server, 97),
        {"host.disk@/srv/data": "critical"},
    ),
    Breakage(
        "API slow",
        lambda server: api_fault(server, {"latency_ms": 1500, "paths": ["/health"]}),
        {"api.latency": "warning", "api.replica_latency": "warning"},
    ),
    Breakage(
        "API answering 500s",
        failing_requests,
        {"api.error_rate": "critical"},
        {"logs.errors": "warning"},
    ),
    Breakage(
        "container restarting in a loop",
        restart_loop,
        {
            "container.state@blackbox-exporter": "critical",
            "container.restarts@blackbox-exporter": "warning critical",
        },
        {
            "container.image@blackbox-exporter": "warning",
            "container.health@blackbox-exporter": "warning critical",
            "prometheus.targets": "warning",
        },
    ),
    Breakage(
        "API killed for want of memory",
        out_of_memory,
        {"container.oom_kills@pynomaly-api": "critical"},
        {"api.error_rate": "critical warning", "logs.errors": "warning"},
    ),
    Breakage(
        "certificate expiring in 10 days",
        expiring_certificate,
        {"tls.served": "warning", "tls.file": "warning"},
    ),
    Breakage(
        "nginx configuration broken",
        broken_nginx_configuration,
        {"nginx.config": "critical"},
        {"tls.file": "unknown", "tls.reloaded": "unknown"},
    ),
    Breakage(
        "connections exhausted",
        exhausted_connections,
        {"postgres.connections": "critical"},
        {"postgres.app_login": "critical unknown", "logs.errors": "warning", **API_DOWN},
    ),
    Breakage(
        "transaction open for longer than allowed",
        open_transaction,
        {"postgres.longest_transaction": "critical"},
        variables={
            "pynomaly_thresholds": {"postgres.longest_transaction": {"warning": 2, "critical": 4}}
        },
    ),
    Breakage("session waiting for a lock", blocked_session, {"postgres.lock_waits": "warning"}),
    Breakage("table full of dead tuples", dead_tuples, {"postgres.dead_tuples": "critical"}),
    Breakage(
        "API accepts and never answers",
        lambda server: hung(server, API),
        {"api.health": "critical", "api.replica_health": "critical"},
        API_DOWN,
    ),
    Breakage(
        "PostgreSQL accepts and never answers",
        lambda server: hung(server, "postgres"),
        {"postgres.ready": "critical"},
        {
            **API_DOWN,
            "postgres.app_login": "critical unknown",
            "container.health@postgres": "critical",
        },
    ),
    Breakage(
        "Redis accepts and never answers",
        lambda server: hung(server, "redis-cluster"),
        {"redis.ping": "critical"},
        {
            **API_DOWN,
            "redis.app_login": "critical unknown",
            "container.health@redis-cluster": "critical",
            "api.latency": "warning",
            "api.replica_latency": "warning",
            "api.health": "warning critical",
            "api.replica_health": "warning critical",
        },
    ),
    Breakage(
        "nginx paused",
        lambda server: paused(server, "nginx"),
        {"container.state@nginx": "critical", "api.health": "critical"},
        {
            "tls.served": "critical unknown",
            "tls.name": "unknown",
            "tls.file": "unknown",
            "tls.reloaded": "unknown",
            "nginx.config": "unknown",
            "prometheus.targets": "warning",
            "api.error_rate": "unknown warning critical",
            "container.health@nginx": "critical",
        },
    ),
    Breakage(
        "an exporter stopped",
        lambda server: stopped(server, "redis-exporter"),
        {"container.state@redis-exporter": "critical", "prometheus.targets": "warning"},
    ),
    Breakage(
        "another image under the same name",
        another_image,
        {"container.image@pynomaly-api": "warning"},
    ),
    Breakage(
        "Compose file that does not parse",
        unreadable_compose_file,
        {"project.compose_file": "critical"},
        {"container.image": "unknown", "container.state": "unknown"},
    ),
]


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name)
def test_breakage_is_named_and_its_mending_seen(
    breakage: Breakage, server: Server, check: Check
) -> None:
    check.forget()
    with mended_whatever_happens(breakage.broken(server)):
        found: dict[str, str] = {}

        def named() -> bool:
            entry = check.run(**breakage.variables)
            found.clear()
            found.update(troubles(entry))
            assert check.seconds < LIMIT_SECONDS, f"the check took {check.seconds:.1f} s"
            failing = "critical" in found.values()
            assert entry["exit_code"] == (2 if failing else 0), check.output
            return all(
                any(
                    key in (seen, seen.partition("@")[0]) and status in statuses.split()
                    for seen, status in found.items()
                )
                for key, statuses in breakage.found.items()
            )

        # Prometheus and health checks notice in their own time; the rest at once.
        deadline = time.monotonic() + 60
        while not named():
            assert time.monotonic() < deadline, f"not found: {breakage.found}; seen: {found}"
        expected = {**breakage.entailed, **breakage.found}
        surplus = {
            seen: status for seen, status in found.items() if not _allowed(seen, status, expected)
        }
        assert not surplus, f"named, though well: {surplus}"

    server.wait_until_healthy()
    check.forget()

    def green() -> bool:
        found.clear()
        found.update(troubles(check.run()))
        return not found

    deadline = time.monotonic() + 90
    while not green():
        assert time.monotonic() < deadline, f"still not well: {found}"
