# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The PostgreSQL collector against a real server, which is broken for real."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any

import psycopg2
import psycopg2.extras
import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _postgres
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import postgres
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine

from .conftest import Project, Relay, docker, judged, trouble, wait_until, with_service
from .postgres import accepts, connect
from .postgres import sql as sql_in

ADMIN_PASSWORD = "canary-admin-1f/9@:x"
APP_PASSWORD = "canary-app-77?#b c"
APP_URL_PASSWORD = "canary-app-77%3F%23b%20c"
WRONG_PASSWORD = "canary-wrong-5d"
SECRETS = (ADMIN_PASSWORD, APP_PASSWORD, APP_URL_PASSWORD, WRONG_PASSWORD)
APP_URL = f"postgresql+asyncpg://pynomaly:{APP_URL_PASSWORD}@postgres:5432/pynomaly_prod"
MAX_CONNECTIONS = 12
ORDINARY = MAX_CONNECTIONS - 3

Client = Callable[[dict[str, str]], Container]


def sql(server: Container, *statements: str) -> list[Any]:
    return sql_in(server, "pynomaly_prod", *statements)


@pytest.fixture(scope="module")
def server(project: Project) -> Container:
    started = project.start(
        "postgres",
        "postgres",
        {"POSTGRES_PASSWORD": ADMIN_PASSWORD, "POSTGRES_DB": "pynomaly_prod"},
        [
            "postgres",
            "-c",
            f"max_connections={MAX_CONNECTIONS}",
            "-c",
            "autovacuum=off",
            "-c",
            "max_prepared_transactions=2",
        ],
    )
    wait_until("PostgreSQL lets its administrator in", lambda: accepts(started))
    sql(
        started,
        f"CREATE ROLE pynomaly LOGIN PASSWORD '{APP_PASSWORD}'",
        "CREATE TABLE events (id bigint PRIMARY KEY, note text)",
        "INSERT INTO events SELECT n, 'note' FROM generate_series(1, 5000) AS n",
        "GRANT ALL ON events TO pynomaly",
        "VACUUM ANALYZE events",
    )
    return started


def settings(**changes: Any) -> CheckSettings:
    return replace(CheckSettings(call_timeout_seconds=2.0, deadline_seconds=10.0), **changes)


def check(
    stack: Stack,
    engine: Engine,
    thresholds: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, dict[str, Any]]:
    chosen = settings(**changes)
    return judged(
        postgres.collectors(stack, chosen, engine), chosen.deadline_seconds, thresholds, SECRETS
    )


def fingerprint(server: Container) -> list[Any]:
    return sql(
        server,
        "SELECT (SELECT sum(hashtextextended(e::text, 0)) FROM events AS e), "
        "(SELECT string_agg(relname, ',' ORDER BY relname) FROM pg_class), "
        "(SELECT pg_current_xact_id_if_assigned())",
    )


def test_a_healthy_server_is_all_green_and_stays_as_it_was(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    client({"DATABASE_URL": APP_URL})
    before = fingerprint(server)
    results = check(project.stack(), engine)
    assert fingerprint(server) == before
    assert trouble(results) == {}
    assert results["postgres.ready"]["value"].startswith("1")
    assert results["postgres.app_login"]["status"] == "ok"
    assert '"pynomaly" on database "pynomaly_prod"' in results["postgres.app_login"]["message"]
    assert results["postgres.connections"]["message"].startswith(f"0 of {ORDINARY} connections")
    assert results["postgres.size"]["value"] > 1_000_000
    assert results["postgres.size"]["detail"][0]["table"] == "public.events"
    assert results["postgres.dead_tuples"]["value"] == 0
    assert 0 <= results["postgres.wraparound"]["value"] < 1
    assert "transaction id" in results["postgres.wraparound"]["message"]
    skipped = {name for name, entry in results.items() if entry["status"] == "skipped"}
    assert {"postgres.replication_lag", "postgres.archiving"} <= skipped
    assert sql(
        server,
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pynomaly_ops_check'",
    ) == [(0,)]


def test_everything_is_found_in_secret_files(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    made = client(
        {
            "DB_HOST": "postgres",
            "DB_USER": "pynomaly",
            "DB_NAME": "pynomaly_prod",
            "DB_PASSWORD_FILE": "/run/app-password",
        }
    )
    docker("exec", made.name, "sh", "-c", f"printf '%s\\n' '{APP_PASSWORD}' > /run/app-password")
    docker(
        "exec",
        server.name,
        "sh",
        "-c",
        f"printf '%s' '{ADMIN_PASSWORD}' > /run/postgresql/admin-password",
    )
    environment = {
        "POSTGRES_PASSWORD_FILE": "/run/postgresql/admin-password",
        "POSTGRES_DB": "pynomaly_prod",
    }
    stack = with_service(project.stack(), "postgres", replace(server, environment=environment))
    results = check(stack, engine)
    assert trouble(results) == {}
    assert results["postgres.app_login"]["status"] == "ok"


@pytest.mark.usefixtures("server")
def test_a_wrong_password_of_the_application_is_that_probe_alone(
    project: Project, engine: Engine, client: Client
) -> None:
    client({"DATABASE_URL": APP_URL.replace(APP_URL_PASSWORD, WRONG_PASSWORD)})
    results = check(project.stack(), engine)
    assert trouble(results) == {"postgres.app_login": "critical"}
    assert "refuses the password" in results["postgres.app_login"]["message"]
    assert "DATABASE_URL" in results["postgres.app_login"]["message"]


@pytest.mark.usefixtures("server")
def test_one_replica_with_a_wrong_password_is_found(
    project: Project, engine: Engine, client: Client
) -> None:
    client({"DATABASE_URL": APP_URL})
    client({"DATABASE_URL": APP_URL.replace(APP_URL_PASSWORD, WRONG_PASSWORD)})
    assert trouble(check(project.stack(), engine)) == {"postgres.app_login": "critical"}


@pytest.mark.usefixtures("server")
def test_a_database_that_does_not_exist_is_named(
    project: Project, engine: Engine, client: Client
) -> None:
    client({"DATABASE_URL": APP_URL.replace("/pynomaly_prod", "/nowhere")})
    results = check(project.stack(), engine)
    assert trouble(results) == {"postgres.app_login": "critical", "postgres.ready": "warning"}
    assert 'database "nowhere" does not exist' in results["postgres.app_login"]["message"]
    assert results["postgres.size"]["status"] == "skipped"
    assert results["postgres.connections"]["status"] == "ok"


@pytest.mark.usefixtures("server")
def test_a_port_where_nothing_listens_is_the_applications_fault(
    project: Project, engine: Engine, client: Client
) -> None:
    client({"DATABASE_URL": APP_URL.replace(":5432", ":5433")})
    results = check(project.stack(), engine)
    assert trouble(results) == {"postgres.app_login": "critical"}
    assert ":5433" in results["postgres.app_login"]["message"]


@pytest.mark.usefixtures("server")
def test_a_name_that_the_api_cannot_resolve_is_the_applications_fault(
    project: Project, engine: Engine, client: Client
) -> None:
    client({"DATABASE_URL": APP_URL.replace("@postgres", "@postgers")})
    results = check(project.stack(), engine)
    assert trouble(results) == {"postgres.app_login": "critical"}
    assert '"postgers"' in results["postgres.app_login"]["message"]


def test_a_network_alias_is_resolved_where_the_api_does(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    made = client({"DATABASE_URL": APP_URL.replace("@postgres", "@the-database")})
    docker("exec", made.name, "sh", "-c", f"echo {server.addresses[0]} the-database >> /etc/hosts")
    assert check(project.stack(), engine)["postgres.app_login"]["status"] == "ok"


def test_an_administrator_whose_password_was_changed_is_replaced_by_the_application(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    client({"DATABASE_URL": APP_URL})
    stale = replace(server, environment={"POSTGRES_PASSWORD": WRONG_PASSWORD})
    stack = with_service(project.stack(), "postgres", stale)
    with closing(
        connect(server, "pynomaly_prod")
    ):  # a session whose state an ordinary role cannot see
        results = check(stack, engine)
    assert 'role "pynomaly"' in results["postgres.ready"]["message"]
    assert results["postgres.ready"]["status"] == "ok"
    assert results["postgres.longest_transaction"]["status"] == "unknown"
    assert "pg_monitor" in results["postgres.longest_transaction"]["hint"]
    assert results["postgres.connections"]["status"] == "ok"


@pytest.mark.usefixtures("server")
def test_nobody_being_let_in_is_critical(project: Project, engine: Engine) -> None:
    results = check(project.stack(), engine, postgres_password=WRONG_PASSWORD)
    assert trouble(results) == {"postgres.ready": "critical"}
    assert "refuses the password" in results["postgres.ready"]["message"]
    assert "pynomaly_postgres_password" in results["postgres.ready"]["hint"]
    assert results["postgres.size"]["message"] == "not measured: postgres.ready is critical"


def test_settings_override_the_environment(
    project: Project, engine: Engine, server: Container
) -> None:
    stale = replace(server, environment={"POSTGRES_PASSWORD": WRONG_PASSWORD})
    results = check(
        with_service(project.stack(), "postgres", stale),
        engine,
        postgres_password=ADMIN_PASSWORD,
        postgres_database="pynomaly_prod",
    )
    assert trouble(results) == {}


@contextmanager
def sessions(server: Container, count: int, user: str, password: str) -> Iterator[None]:
    with ExitStack() as opened:
        for _index in range(count):
            opened.enter_context(
                closing(connect(server, "pynomaly_prod", user=user, password=password))
            )
        yield


def quiet(server: Container) -> None:
    """Until the sessions of the test before are gone."""
    wait_until(
        "no client is connected",
        lambda: (
            sql(
                server,
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'",
            )
            == [(1,)]
        ),
    )


def test_exhausted_connections_are_that_probe_alone(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    client({"DATABASE_URL": APP_URL})
    quiet(server)
    with sessions(server, ORDINARY, "pynomaly", APP_PASSWORD):
        results = check(project.stack(), engine)
    assert trouble(results) == {"postgres.connections": "critical"}
    assert results["postgres.connections"]["value"] == 100
    assert results["postgres.connections"]["detail"][0]["role"] == "pynomaly"
    assert results["postgres.app_login"]["status"] == "ok"
    assert "no connection is left" in results["postgres.app_login"]["message"]


def test_not_even_an_administrator_getting_in_is_exhaustion_too(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    client({"DATABASE_URL": APP_URL})
    quiet(server)
    with sessions(server, MAX_CONNECTIONS, "postgres", ADMIN_PASSWORD):
        results = check(project.stack(), engine)
    assert trouble(results) == {"postgres.connections": "critical"}
    assert "too many clients" in results["postgres.connections"]["message"]
    assert results["postgres.size"]["message"] == "not measured: postgres.connections is critical"
    assert results["postgres.app_login"]["status"] == "skipped"


def test_a_role_at_its_own_limit_is_the_applications_login(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    client({"DATABASE_URL": APP_URL})
    sql(server, "ALTER ROLE pynomaly CONNECTION LIMIT 1")
    try:
        with sessions(server, 1, "pynomaly", APP_PASSWORD):
            results = check(project.stack(), engine)
    finally:
        sql(server, "ALTER ROLE pynomaly CONNECTION LIMIT -1")
    assert trouble(results) == {"postgres.app_login": "critical"}
    assert "too many connections for role" in results["postgres.app_login"]["message"]


def test_an_open_transaction_and_a_lock_wait_name_who_holds_what(
    project: Project, engine: Engine, server: Container
) -> None:
    holder = connect(server, "pynomaly_prod")
    waiter = connect(server, "pynomaly_prod", user="pynomaly", password=APP_PASSWORD)
    with closing(holder), closing(waiter):
        holder.autocommit = False
        pid = holder.info.backend_pid
        with holder.cursor() as cursor:
            cursor.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        waiting = psycopg2.connect(
            async_=1,
            host=server.addresses[0],
            user="pynomaly",
            password=APP_PASSWORD,
            dbname="pynomaly_prod",
        )
        with closing(waiting):
            psycopg2.extras.wait_select(waiting)
            waiting.cursor().execute("SELECT count(*) FROM events /* canary-wrong-5d */")
            waited = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                "AND clock_timestamp() - query_start > interval '1.1 s'"
            )
            wait_until("a session waits for the lock", lambda: sql(server, waited) == [(1,)])
            results = check(
                project.stack(),
                engine,
                {"postgres.longest_transaction": {"warning": 0.5, "critical": 3600}},
            )
    assert trouble(results) == {
        "postgres.longest_transaction": "warning",
        "postgres.lock_waits": "warning",
    }
    assert f"pid {pid}, postgres" in results["postgres.longest_transaction"]["message"]
    assert "idle in transaction" in results["postgres.longest_transaction"]["message"]
    assert f"pg_terminate_backend({pid})" in results["postgres.longest_transaction"]["hint"]
    assert results["postgres.lock_waits"]["value"] == 1
    assert f"blocked by pid {pid}" in results["postgres.lock_waits"]["message"]
    assert results["postgres.size"]["status"] == "ok"


def test_a_forgotten_prepared_transaction_is_one(
    project: Project, engine: Engine, server: Container
) -> None:
    sql(server, "BEGIN", "INSERT INTO events VALUES (-1, 'x')", "PREPARE TRANSACTION 'forgotten'")
    try:
        results = check(
            project.stack(),
            engine,
            {"postgres.longest_transaction": {"warning": 0, "critical": 3600}},
        )
    finally:
        sql(server, "ROLLBACK PREPARED 'forgotten'")
    assert trouble(results) == {"postgres.longest_transaction": "warning"}
    assert "prepared transaction of postgres" in results["postgres.longest_transaction"]["message"]


def test_a_table_full_of_dead_tuples_is_named(
    project: Project, engine: Engine, server: Container
) -> None:
    sql(
        server,
        "CREATE TABLE bloated WITH (autovacuum_enabled = off) AS "
        "SELECT n FROM generate_series(1, 6000) AS n",
        "DELETE FROM bloated WHERE n <= 4000",
        "SELECT pg_stat_force_next_flush()",
    )
    try:
        dead = "SELECT n_dead_tup >= 4000 FROM pg_stat_user_tables WHERE relname = 'bloated'"
        wait_until("the statistics tell of it", lambda: sql(server, dead) == [(True,)])
        results = check(project.stack(), engine)
    finally:
        sql(server, "DROP TABLE bloated")
    assert trouble(results) == {"postgres.dead_tuples": "critical"}
    assert results["postgres.dead_tuples"]["detail"] == [
        {"table": "public.bloated", "dead": 4000, "live": 2000, "percent": 66.7}
    ]


def test_a_replication_slot_that_nobody_reads_is_a_warning(
    project: Project, engine: Engine, server: Container
) -> None:
    sql(server, "SELECT pg_create_physical_replication_slot('left_behind', true)")
    try:
        results = check(project.stack(), engine)
    finally:
        sql(server, "SELECT pg_drop_replication_slot('left_behind')")
    assert trouble(results) == {"postgres.replication_lag@slot left_behind": "warning"}


def test_a_server_that_accepts_and_never_answers_ends_in_time(
    project: Project, engine: Engine, server: Container, client: Client
) -> None:
    client({"DATABASE_URL": APP_URL})
    docker("kill", "--signal", "STOP", server.name)
    try:
        started = time.monotonic()
        results = check(project.stack(), engine)
        seconds = time.monotonic() - started
    finally:
        docker("kill", "--signal", "CONT", server.name)
    assert trouble(results) == {"postgres.ready": "critical"}
    assert "no answer" in results["postgres.ready"]["message"]
    assert results["postgres.app_login"]["status"] == "skipped"
    assert 1.9 < seconds < 3.5


@pytest.mark.parametrize("broken_off", [b"pg_postmaster_start_time", b"datfrozenxid"])
def test_a_server_that_hangs_in_the_middle_ends_in_time(
    project: Project, engine: Engine, server: Container, broken_off: bytes
) -> None:
    relay = Relay((server.addresses[0], 5432), broken_off)
    try:
        behind = replace(
            server,
            addresses=("127.0.0.1",),
            environment={**server.environment, "PGPORT": str(relay.port)},
        )
        started = time.monotonic()
        results = check(with_service(project.stack(), "postgres", behind), engine)
        seconds = time.monotonic() - started
        assert relay.fell_silent
    finally:
        relay.close()
    assert seconds < 4
    if broken_off == b"datfrozenxid":
        assert trouble(results) == {"postgres.wraparound": "unknown"}
        assert results["postgres.connections"]["status"] == "ok"
        assert "postgres.wraparound" in results["postgres.size"]["message"]
    else:
        assert trouble(results) == {"postgres.ready": "critical"}


@pytest.mark.usefixtures("server")
def test_a_slow_statement_leaves_the_others(
    project: Project, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_postgres, "WRAPAROUND_SQL", "SELECT pg_sleep(60)")
    results = check(project.stack(), engine)
    assert trouble(results) == {"postgres.wraparound": "unknown"}
    assert "statement timeout" in results["postgres.wraparound"]["message"]
    assert results["postgres.size"]["status"] == "ok"


@pytest.mark.usefixtures("server")
def test_a_host_without_psycopg2_says_what_to_install(
    project: Project, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    results = check(project.stack(), engine)
    assert {entry["status"] for name, entry in results.items() if name != "postgres.app_login"} == {
        "unknown"
    }
    assert "python3-psycopg2" in results["postgres.ready"]["hint"]


def test_a_standby_and_its_primary_tell_how_far_it_is_behind(
    project: Project, engine: Engine, server: Container
) -> None:
    hba = "host replication postgres samenet scram-sha-256"
    docker("exec", server.name, "sh", "-c", f"echo {hba} >> /var/lib/postgresql/data/pg_hba.conf")
    sql(server, "SELECT pg_reload_conf()")
    script = (
        "set -e; pg_basebackup --host postgres --username postgres --pgdata /standby "
        "--write-recovery-conf --checkpoint fast; "
        "exec postgres -D /standby -c max_prepared_transactions=2"
    )
    become = "exec setpriv --reuid postgres --regid postgres --init-groups --"
    standby = project.start(
        "postgres-standby",
        "postgres",
        {"PGPASSWORD": ADMIN_PASSWORD, "POSTGRES_PASSWORD": ADMIN_PASSWORD},
        ["-c", f"install -d -o postgres -m 0700 /standby; {become} bash -c '{script}'"],
        ["--entrypoint", "bash"],
    )
    try:
        wait_until("the standby lets its administrator in", lambda: accepts(standby))
        streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        wait_until("the standby streams", lambda: sql(server, streaming) == [(1,)])
        primary = check(project.stack(), engine)
        assert trouble(primary) == {}
        assert primary["postgres.replication_lag"]["message"].startswith("1 standby, walreceiver")
        behind = project.stack(postgres="postgres-standby")
        results = check(behind, engine)
        assert trouble(results) == {}
        assert "a standby" in results["postgres.ready"]["message"]
        assert results["postgres.replication_lag"]["status"] == "ok"
        sql(server, "INSERT INTO events VALUES (-1, 'replayed')")
        replayed = "SELECT count(*) FROM events WHERE id = -1"
        wait_until("the standby has replayed it", lambda: sql(standby, replayed) == [(1,)])
        sql(standby, "SELECT pg_wal_replay_pause()")
        sql(server, "INSERT INTO events SELECT n, 'x' FROM generate_series(5001, 6000) AS n")
        received = "SELECT pg_last_wal_receive_lsn() <> pg_last_wal_replay_lsn()"
        wait_until("the standby has more than it replays", lambda: sql(standby, received)[0][0])
        late = check(behind, engine, {"postgres.replication_lag": {"warning": 0}})
        assert trouble(late) == {"postgres.replication_lag": "warning"}
        assert "replay is paused" in late["postgres.replication_lag"]["message"]
        docker("kill", server.name)
        alone = check(behind, engine)
        assert trouble(alone) == {"postgres.replication_lag": "warning"}
        assert "receives no WAL" in alone["postgres.replication_lag"]["message"]
    finally:
        project.remove("postgres-standby")
        docker("start", server.name)
        wait_until("PostgreSQL is back", lambda: accepts(project.container("postgres")))


@pytest.mark.usefixtures("server")
def test_a_stopped_server_is_one_red_line(project: Project, engine: Engine, client: Client) -> None:
    server = project.container("postgres")
    client({"DATABASE_URL": APP_URL})
    docker("stop", server.name)
    try:
        results = check(project.stack(), engine)
    finally:
        docker("start", server.name)
        restarted = project.container("postgres")
        wait_until("PostgreSQL is back", lambda: accepts(restarted))
    assert trouble(results) == {"postgres.ready": "critical"}
    assert "exited" in results["postgres.ready"]["message"]
    assert trouble(check(project.stack(), engine)) == {}


def test_a_project_without_postgresql_is_skipped(project: Project, engine: Engine) -> None:
    stack = replace(project.stack(), containers={}, components={})
    results = check(stack, engine)
    assert {entry["status"] for entry in results.values()} == {"skipped"}
    assert "has no PostgreSQL" in results["postgres.ready"]["message"]
