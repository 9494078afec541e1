# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each service image keeps the official image's contract, as far as the collection uses it."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import (
    IMAGES,
    Container,
    Result,
    Sandbox,
    docker,
    http_request,
    oom_killed,
    tcp_opens,
    wait_until,
)

PASSWORD = "a b'c\"$d"
OFFICIAL_TAGS = {
    "postgres": "library/postgres:17",
    "redis": "library/redis:8",
    "nginx": "library/nginx:1.26",
    "prometheus": "prom/prometheus:v2.53.3",
    "alertmanager": "prom/alertmanager:v0.28.1",
    "node-exporter": "prom/node-exporter:v1.9.0",
    "postgres-exporter": "prometheuscommunity/postgres-exporter:v0.17.1",
    "redis-exporter": "oliver006/redis_exporter:v1.69.0",
    "nginx-exporter": "nginx/nginx-prometheus-exporter:1.4.1",
    "blackbox-exporter": "prom/blackbox-exporter:v0.26.0",
}


@pytest.mark.parametrize(
    ("directory", "command", "version"),
    [
        ("postgres", ["postgres", "--version"], "17."),
        ("redis", ["redis-server", "--version"], "v=8.0."),
        ("nginx", ["nginx", "-v"], "nginx/1.26."),
        ("prometheus", ["--version"], "version 2.53.3"),
        ("alertmanager", ["--version"], "version 0.28.1"),
        ("node-exporter", ["--version"], "version 1.9.0"),
        ("postgres-exporter", ["--version"], "version 0.17.1"),
        ("redis-exporter", ["--version"], "1.69.0"),
        ("nginx-exporter", ["--version"], "version 1.4.1"),
        ("blackbox-exporter", ["--version"], "version 0.26.0"),
    ],
)
def test_tag_is_official_and_its_version_is_true(
    shared_sandbox: Sandbox, directory: str, command: list[str], version: str
) -> None:
    tags = json.loads((IMAGES / directory / "image.json").read_text())["tags"]
    assert OFFICIAL_TAGS[directory] in tags
    assert version in shared_sandbox.once(directory, *command).text


@pytest.mark.parametrize("directory", sorted(OFFICIAL_TAGS))
def test_no_healthcheck_where_the_official_image_has_none(
    shared_sandbox: Sandbox, directory: str
) -> None:
    image = shared_sandbox.image_of(directory)
    config = json.loads(docker("image", "inspect", image).out)[0]["Config"]
    assert not config.get("Healthcheck")


def as_options(environment: dict[str, str]) -> tuple[str, ...]:
    """The same for `docker run`."""
    return tuple(f"--env={name}={value}" for name, value in environment.items())


# PostgreSQL


def psql(
    sandbox: Sandbox, password: str, query: str, *, user: str = "app", database: str = "app"
) -> Result:
    """Ask over TCP from another container: inside, 127.0.0.1 is trusted."""
    return sandbox.once(
        "postgres", "psql", "--no-psqlrc", "--tuples-only", "--no-align",
        f"host=postgres user={user} dbname={database} connect_timeout=5", "--command", query,
        options=(f"--env=PGPASSWORD={password}",), check=False,
    )  # fmt: skip


def start_postgres(
    sandbox: Sandbox, *command: str, options: tuple[str, ...] = (), **environment: str
) -> Container:
    """A PostgreSQL that has opened its port."""
    container = sandbox.run("postgres", *command, options=options, **environment)
    container.opens(5432)
    return container


def test_postgres_makes_user_and_database_from_the_environment(sandbox: Sandbox) -> None:
    container = start_postgres(
        sandbox,
        "-c", "shared_preload_libraries=pg_stat_statements", "-c", "max_connections=37",
        POSTGRES_USER="app", POSTGRES_PASSWORD=PASSWORD, POSTGRES_DB="Some-Base",
        POSTGRES_INITDB_ARGS="--data-checksums --auth-local='trust'",
    )  # fmt: skip
    seen = psql(
        sandbox,
        PASSWORD,
        "CREATE EXTENSION pg_stat_statements; CREATE EXTENSION amcheck;"
        "SELECT current_setting('max_connections'), pg_encoding_to_char(encoding), datcollate,"
        " current_setting('data_checksums'), rolsuper, inet_client_addr() IS NOT NULL"
        " FROM pg_database, pg_roles"
        " WHERE datname = current_database() AND rolname = current_user;"
        "SELECT count(*) > 0 FROM pg_stat_statements",
        database="Some-Base",
    )
    assert seen.code == 0, seen.text
    assert seen.out.splitlines()[-2:] == ["37|UTF8|en_US.utf8|on|t|t", "t"]

    owner = container.execute("stat", "-c", "%u:%g %a", "/var/lib/postgresql/data").out
    assert owner.strip() == "999:999 700"
    assert container.execute("stat", "-c", "%u", "/proc/1").out.strip() == "999"
    assert "listening on IPv4 address" in docker("logs", container.name).err


def test_postgres_trusts_the_socket_and_loopback_alone(sandbox: Sandbox) -> None:
    container = start_postgres(sandbox, POSTGRES_USER="app", POSTGRES_PASSWORD=PASSWORD)
    for host in ("/var/run/postgresql", "127.0.0.1"):
        target = f"host={host} user=app dbname=app"
        assert container.execute("psql", "-wAtc", "SELECT 1", target).out.strip() == "1"
    rules = container.execute(
        "psql", "-U", "app", "-AtF ", "-c",
        "SELECT type, array_to_string(database, ','), address, auth_method FROM pg_hba_file_rules",
    )  # fmt: skip
    assert rules.out.splitlines() == [
        "local all  trust",
        "host all 127.0.0.1 trust",
        "host all ::1 trust",
        "local replication  trust",
        "host replication 127.0.0.1 trust",
        "host replication ::1 trust",
        "host all all scram-sha-256",
    ]
    refused = psql(sandbox, "wrong", "SELECT 1")
    assert refused.code == 2
    assert "password authentication failed" in refused.err
    assert psql(sandbox, PASSWORD, "SELECT 1").out.strip() == "1"


def test_postgres_reads_settings_from_files(sandbox: Sandbox, open_path: Path) -> None:
    for name, value in {"user": "app", "base": "things", "password": PASSWORD}.items():
        (open_path / name).write_text(value + "\n")
    secrets = f"--volume={open_path}:/run/secrets:ro"
    container = start_postgres(
        sandbox,
        options=(secrets,),
        POSTGRES_USER_FILE="/run/secrets/user",
        POSTGRES_DB_FILE="/run/secrets/base",
        POSTGRES_PASSWORD_FILE="/run/secrets/password",
    )
    assert psql(sandbox, PASSWORD, "SELECT 1", database="things").out.strip() == "1"
    assert PASSWORD not in json.dumps(container.inspect())
    assert PASSWORD not in container.logs()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE"),
        (
            {"POSTGRES_PASSWORD": "x", "POSTGRES_PASSWORD_FILE": "/etc/hostname"},
            "both POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are set",
        ),
        ({"POSTGRES_PASSWORD_FILE": "/nowhere"}, "names /nowhere, which cannot be read"),
    ],
)
def test_postgres_refuses_to_start_without_a_clear_password(
    sandbox: Sandbox, environment: dict[str, str], message: str
) -> None:
    container = sandbox.run("postgres", options=as_options(environment))
    assert container.exit_code() == 1
    assert message in container.logs()


def test_postgres_lets_everybody_in_when_told_to(sandbox: Sandbox) -> None:
    start_postgres(sandbox, POSTGRES_USER="app", POSTGRES_HOST_AUTH_METHOD="trust")
    assert psql(sandbox, "", "SELECT 1").out.strip() == "1"


def test_postgres_runs_init_scripts_once_before_the_port_opens(
    sandbox: Sandbox, open_path: Path
) -> None:
    (open_path / "1.sql").write_text("CREATE TABLE t (n int); SELECT pg_sleep(3);")
    (open_path / "2.sql.gz").write_bytes(gzip.compress(b"INSERT INTO t VALUES (2);"))
    (open_path / "3.sh").write_text(
        'psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"'
        ' --command "INSERT INTO t SELECT max(n) + 1 FROM t"\n'
    )
    (open_path / "4.txt").write_text("not for PostgreSQL")
    container = sandbox.run(
        "postgres",
        options=(f"--volume={open_path}:/docker-entrypoint-initdb.d:ro",),
        POSTGRES_USER="app",
        POSTGRES_PASSWORD=PASSWORD,
    )
    wait_until("the slow script runs", lambda: "initdb.d/1.sql" in container.logs())
    assert not tcp_opens(container.address, 5432)
    container.opens(5432)
    assert psql(sandbox, PASSWORD, "SELECT array_agg(n) FROM t").out.strip() == "{2,3}"

    docker("restart", container.name)
    container.opens(5432)
    assert psql(sandbox, PASSWORD, "SELECT array_agg(n) FROM t").out.strip() == "{2,3}"


def test_postgres_stops_when_an_init_script_fails(sandbox: Sandbox, open_path: Path) -> None:
    (open_path / "1.sql").write_text("SELECT no_such_thing;")
    container = sandbox.run(
        "postgres",
        options=(f"--volume={open_path}:/docker-entrypoint-initdb.d:ro",),
        POSTGRES_PASSWORD=PASSWORD,
    )
    assert container.exit_code() != 0
    assert "no_such_thing" in container.logs()


def test_postgres_keeps_data_and_ignores_a_later_password(sandbox: Sandbox) -> None:
    data = f"--volume={sandbox.volume()}:/var/lib/postgresql/data"
    first = start_postgres(sandbox, options=(data,), POSTGRES_USER="app", POSTGRES_PASSWORD="old")
    assert psql(sandbox, "old", "CREATE TABLE kept AS SELECT 41 AS n").code == 0
    first.stop()
    first.remove()
    second = start_postgres(sandbox, options=(data,), POSTGRES_USER="app", POSTGRES_PASSWORD="new")
    assert "holds a cluster already" in second.logs()
    assert psql(sandbox, "new", "SELECT 1").code == 2
    assert psql(sandbox, "old", "SELECT n FROM kept").out.strip() == "41"


def test_postgres_stops_fast_with_a_session_open(sandbox: Sandbox) -> None:
    container = start_postgres(sandbox, POSTGRES_USER="app", POSTGRES_PASSWORD=PASSWORD)
    docker("exec", "--detach", container.name, "psql", "-U", "app", "-c", "SELECT pg_sleep(300)")
    activity = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE query LIKE '%pg_sleep(300)' AND pid <> pg_backend_pid()"
    )
    wait_until(
        "the session is there",
        lambda: container.execute("psql", "-U", "app", "-Atc", activity).out.strip() == "1",
    )
    assert container.stop(grace_seconds=30) < 15
    assert container.inspect()["State"]["ExitCode"] == 0
    assert "received fast shutdown request" in container.logs()


# Redis


def redis_cli(sandbox: Sandbox, *arguments: str, user: str = "", password: str = "") -> Result:
    """Ask from another container."""
    options = (f"--env=REDISCLI_AUTH={password}",) if password else ()
    names = ("--user", user) if user else ()
    return sandbox.once(
        "redis", "redis-cli", "-h", "redis", *names, *arguments, options=options, check=False
    )


def start_redis(sandbox: Sandbox, *command: str, options: tuple[str, ...] = ()) -> Container:
    """A Redis that has opened its port."""
    container = sandbox.run("redis", *command, options=options)
    container.opens(6379)
    return container


def test_redis_answers_its_neighbours_without_configuration(sandbox: Sandbox) -> None:
    container = start_redis(sandbox)
    assert redis_cli(sandbox, "ping").out.strip() == "PONG"
    assert "redis_version:8.0" in redis_cli(sandbox, "info", "server").out
    assert container.execute("stat", "-c", "%u:%g", "/proc/1").out.strip() == "999:999"
    assert container.execute("pwd").out.strip() == "/data"
    assert container.stop() < 8
    assert container.inspect()["State"]["ExitCode"] == 0


def test_redis_takes_arguments_and_a_password(sandbox: Sandbox) -> None:
    start_redis(sandbox, "--requirepass", PASSWORD, "--maxmemory", "64mb")
    assert "NOAUTH" in redis_cli(sandbox, "ping").text
    assert "WRONGPASS" in redis_cli(sandbox, "ping", password="wrong").text
    asked = redis_cli(sandbox, "config", "get", "maxmemory", password=PASSWORD)
    assert "67108864" in asked.out


def test_redis_takes_a_configuration_with_an_acl_file(sandbox: Sandbox, open_path: Path) -> None:
    (open_path / "users.acl").write_text(
        "user default off\nuser app on >letmein ~pynomaly:* +@read +@write -@dangerous +ping\n"
    )
    (open_path / "redis.conf").write_text(
        "aclfile /etc/redis/users.acl\nmaxmemory 32mb\nmaxmemory-policy allkeys-lru\n"
    )
    start_redis(sandbox, "/etc/redis/redis.conf", options=(f"--volume={open_path}:/etc/redis:ro",))
    assert "NOAUTH" in redis_cli(sandbox, "ping").text
    user = {"user": "app", "password": "letmein"}
    assert redis_cli(sandbox, "set", "pynomaly:k", "v", **user).out.strip() == "OK"
    assert "NOPERM" in redis_cli(sandbox, "get", "others", **user).text
    assert "NOPERM" in redis_cli(sandbox, "flushall", **user).text


def test_redis_respects_protected_mode_in_its_configuration(
    sandbox: Sandbox, open_path: Path
) -> None:
    (open_path / "redis.conf").write_text("protected-mode yes\n")
    start_redis(
        sandbox,
        "redis-server",
        "/etc/redis/redis.conf",
        options=(f"--volume={open_path}:/etc/redis:ro",),
    )
    assert "DENIED" in redis_cli(sandbox, "ping").text


def test_redis_keeps_data_over_a_new_container(sandbox: Sandbox) -> None:
    data = f"--volume={sandbox.volume()}:/data"
    first = start_redis(sandbox, "redis-server", "--appendonly", "yes", options=(data,))
    assert redis_cli(sandbox, "set", "kept", "41").out.strip() == "OK"
    first.stop()
    first.remove()
    start_redis(sandbox, "redis-server", "--appendonly", "yes", options=(data,))
    assert redis_cli(sandbox, "get", "kept").out.strip() == "41"


# nginx

TLS_SITE = """
server {
    listen 443 ssl;
    ssl_certificate     /etc/nginx/conf.d/tls.crt;
    ssl_certificate_key /etc/nginx/conf.d/tls.key;
    location / { return 200 "over tls\\n"; }
}
server {
    listen 80;
    set_real_ip_from 0.0.0.0/0;
    real_ip_header X-Forwarded-For;
    location / { return 200 "$remote_addr\\n"; }
    location = /status { stub_status; }
}
"""


@pytest.fixture
def nginx_directory(sandbox: Sandbox, open_path: Path) -> Path:
    """A conf.d with a site, a certificate and its key."""
    (open_path / "site.conf").write_text(TLS_SITE)
    docker(
        "run", "--rm", "--name", f"imgtest-{sandbox.token}-openssl", "--network", "none",
        "--volume", f"{open_path}:/out", "--entrypoint", "openssl", sandbox.image_of("nginx"),
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "1", "-subj", "/CN=nginx", "-addext", "subjectAltName=DNS:nginx",
        "-keyout", "/out/tls.key", "-out", "/out/tls.crt",
    )  # fmt: skip
    return open_path


def start_nginx(sandbox: Sandbox, *options: str) -> Container:
    """An nginx that has opened its port."""
    container = sandbox.run("nginx", options=options)
    container.opens(80)
    return container


def test_nginx_serves_and_logs_as_it_comes(sandbox: Sandbox) -> None:
    container = start_nginx(sandbox)
    answer = http_request(f"http://{container.address}/?seen=in-the-log")
    assert answer.status == 200
    wait_until("the access log", lambda: "seen=in-the-log" in docker("logs", container.name).out)
    assert "start worker process" in docker("logs", container.name).err
    assert container.execute("nginx", "-t").code == 0
    assert container.execute("curl", "-fsS", "http://localhost/").code == 0
    users = container.execute(
        "sh",
        "-c",
        "for process in /proc/[0-9]*; do"
        " if grep -qs '^nginx: worker' $process/cmdline; then stat -c %u:%g $process; fi; done",
    ).out
    assert set(users.split()) == {"101:101"}
    assert container.stop() < 8
    assert container.inspect()["State"]["ExitCode"] == 0


def test_nginx_has_the_modules_that_a_front_needs(sandbox: Sandbox, nginx_directory: Path) -> None:
    container = start_nginx(
        sandbox, f"--volume={nginx_directory}:/etc/nginx/conf.d:ro", "--read-only",
        "--tmpfs=/var/cache/nginx", "--tmpfs=/run",
    )  # fmt: skip
    tls = sandbox.once(
        "nginx", "curl", "-sS", "--max-time", "5", "--cacert", "/c/tls.crt", "https://nginx/",
        options=(f"--volume={nginx_directory}:/c:ro",),
    )  # fmt: skip
    assert tls.out == "over tls\n"
    real = container.execute("curl", "-sS", "-H", "X-Forwarded-For: 192.0.2.9", "http://localhost/")
    assert real.out == "192.0.2.9\n"
    assert "Active connections" in http_request(f"http://{container.address}/status").body


def test_nginx_tells_a_broken_configuration_and_keeps_serving(
    sandbox: Sandbox, nginx_directory: Path
) -> None:
    container = start_nginx(sandbox, f"--volume={nginx_directory}:/etc/nginx/conf.d:ro")
    (nginx_directory / "broken.conf").write_text("server { listen 81; no_such_directive; }\n")
    test = container.execute("nginx", "-t", check=False)
    assert test.code == 1
    assert 'unknown directive "no_such_directive"' in test.err
    docker("kill", "--signal", "HUP", container.name)
    wait_until("the failed reload is logged", lambda: "no_such_directive" in container.logs())
    assert http_request(f"http://{container.address}/").status == 200


# Prometheus, Alertmanager, exporters


@pytest.fixture(scope="module")
def monitoring(
    shared_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Container]:
    """Everything that is measured, and what measures it."""
    folder = tmp_path_factory.mktemp("monitoring")
    folder.chmod(0o755)
    (folder / "password").write_text("letmein")
    (folder / "status.conf").write_text("server { listen 81; location = /status { stub_status; } }")
    jobs = {
        "prometheus": "localhost:9090",
        "alertmanager": "alertmanager:9093",
        "node": "node-exporter:9100",
        "postgres": "postgres-exporter:9187",
        "redis": "redis-exporter:9121",
        "nginx": "nginx-exporter:9113",
        "blackbox": "blackbox-exporter:9115",
    }
    scrapes = [
        {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in jobs.items()
    ]
    (folder / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": ["/etc/prometheus/rules.yml"],
                "alerting": {
                    "alertmanagers": [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]
                },
                "scrape_configs": scrapes,
            }
        )
    )
    rule = {"alert": "AlwaysFiring", "expr": "vector(1)", "labels": {"severity": "warning"}}
    (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "g", "rules": [rule]}]}))
    run = shared_sandbox.run
    secrets = (f"--volume={folder}:/run/secrets:ro",)
    status_page = f"--volume={folder}/status.conf:/etc/nginx/conf.d/status.conf:ro"
    containers = {
        "postgres": run("postgres", POSTGRES_USER="app", POSTGRES_PASSWORD="letmein"),
        "redis": run("redis", "--requirepass", "letmein"),
        "nginx": run("nginx", options=(status_page,)),
        "node-exporter": run("node-exporter"),
        "postgres-exporter": run(
            "postgres-exporter",
            options=secrets,
            DATA_SOURCE_URI="postgres:5432/app?sslmode=disable",
            DATA_SOURCE_USER="app",
            DATA_SOURCE_PASS_FILE="/run/secrets/password",
        ),
        "redis-exporter": run(
            "redis-exporter", REDIS_ADDR="redis://redis:6379", REDIS_PASSWORD="letmein"
        ),
        "nginx-exporter": run("nginx-exporter", "--nginx.scrape-uri=http://nginx:81/status"),
        "blackbox-exporter": run("blackbox-exporter"),
        "alertmanager": run("alertmanager"),
    }  # fmt: skip
    ports = {"postgres": 5432, "redis": 6379, "nginx": 80} | {
        name: int(port)
        for name, _, port in (target.partition(":") for target in jobs.values())
        if name != "localhost"
    }
    for name, port in ports.items():
        containers[name].opens(port)
    # An alert that is raised before Alertmanager is discovered comes again after a minute.
    containers["prometheus"] = run(
        "prometheus",
        "--config.file=/etc/prometheus/prometheus.yml",
        "--storage.tsdb.path=/prometheus",
        "--rules.alert.resend-delay=1s",
        options=(f"--volume={folder}:/etc/prometheus:ro",),
    )
    containers["prometheus"].opens(9090)
    return containers


@pytest.mark.parametrize(
    ("name", "url", "lines"),
    [
        ("node-exporter", ":9100/metrics", ["node_memory_MemTotal_bytes "]),
        (
            "postgres-exporter",
            ":9187/metrics",
            ["pg_up 1", 'pg_database_size_bytes{datname="app"}'],
        ),
        ("redis-exporter", ":9121/metrics", ["redis_up 1"]),
        ("nginx-exporter", ":9113/metrics", ["nginx_up 1"]),
        (
            "blackbox-exporter",
            ":9115/probe?module=http_2xx&target=http://nginx",
            ["probe_success 1", "probe_http_status_code 200"],
        ),
        ("blackbox-exporter", ":9115/probe?module=icmp&target=nginx", ["probe_success 1"]),
        ("prometheus", ":9090/metrics", ["prometheus_ready 1"]),
    ],
)
def test_exporter_measures_the_real_thing(
    monitoring: dict[str, Container], name: str, url: str, lines: list[str]
) -> None:
    address = f"http://{monitoring[name].address}{url}"
    wait_until(
        f"{lines} at {url}",
        lambda: all(f"\n{line}" in http_request(address).body for line in lines),
    )


def test_prometheus_scrapes_every_exporter(monitoring: dict[str, Container]) -> None:
    address = f"http://{monitoring['prometheus'].address}:9090"

    def all_up() -> bool:
        targets = http_request(f"{address}/api/v1/targets").json["data"]["activeTargets"]
        return {target["health"] for target in targets} == {"up"} and len(targets) == 7

    wait_until("seven targets are up", all_up)
    result = http_request(f"{address}/api/v1/query?query=sum(up)").json["data"]["result"]
    assert result[0]["value"][1] == "7"


def test_alert_reaches_alertmanager(monitoring: dict[str, Container]) -> None:
    address = f"http://{monitoring['alertmanager'].address}:9093/api/v2/alerts"

    def names() -> list[str]:
        return [alert["labels"]["alertname"] for alert in http_request(address).json]

    assert wait_until("the alert arrives", names) == ["AlwaysFiring"]
    shown = monitoring["alertmanager"].execute(
        "amtool", "--alertmanager.url=http://localhost:9093", "alert", "query"
    )
    assert "AlwaysFiring" in shown.out


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("prometheus", "65534"),
        ("alertmanager", "65534"),
        ("node-exporter", "65534"),
        ("postgres-exporter", "65534"),
        ("blackbox-exporter", "0"),
    ],
)
def test_monitoring_has_its_user_and_wget(
    monitoring: dict[str, Container], name: str, user: str
) -> None:
    container = monitoring[name]
    assert container.execute("stat", "-c", "%u", "/proc/1").out.strip() == user
    port = {"prometheus": 9090, "alertmanager": 9093, "node-exporter": 9100,
            "postgres-exporter": 9187, "blackbox-exporter": 9115}[name]  # fmt: skip
    fetched = container.execute(
        "/bin/wget", "-q", "-T", "5", "-O", "-", f"http://localhost:{port}/"
    )
    assert fetched.code == 0
    missing = container.execute(
        "/bin/wget", "-q", "-T", "5", "-O", "-", f"http://localhost:{port}/no-such-page-here/x",
        check=False,
    )  # fmt: skip
    # Some answer every path; those that do not must make wget fail.
    assert missing.code == 0 or "404" in missing.err


def test_prometheus_keeps_data_and_promtool_checks(monitoring: dict[str, Container]) -> None:
    prometheus = monitoring["prometheus"]
    good = prometheus.execute("/bin/promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    assert "SUCCESS" in good.text
    bad = prometheus.execute("promtool", "check", "config", "/etc/hostname", check=False)
    assert bad.code == 1
    assert prometheus.execute("stat", "-c", "%u:%g", "/prometheus").out.strip() == "65534:65534"
    assert "wal" in prometheus.execute("ls", "/prometheus").out.split()


def test_postgres_exporter_says_when_the_password_is_wrong(
    monitoring: dict[str, Container], shared_sandbox: Sandbox
) -> None:
    exporter = shared_sandbox.run(
        "postgres-exporter", alias="wrong-exporter", DATA_SOURCE_USER="app",
        DATA_SOURCE_URI="postgres:5432/app?sslmode=disable", DATA_SOURCE_PASS="wrong",
    )  # fmt: skip
    exporter.opens(9187)
    assert "\npg_up 0" in http_request(f"http://{exporter.address}:9187/metrics").body
    assert monitoring["postgres"].running


# Pynomaly

LABELS = {"production": "1.4.0", "newer": "1.5.0", "unhealthy": "1.6.0"}
API_DATABASE = "postgresql://app:letmein@postgres:5432/app"
VALUES = [10.0, 10.2, 9.9, 10.1, 9.8, 10.0, 55.0]


def start_api(
    sandbox: Sandbox, variant: str = "production", options: tuple[str, ...] = (), **extra: str
) -> tuple[Container, str]:
    """An API that answers, and its address."""
    environment = {
        "DATABASE_URL": API_DATABASE,
        "REDIS_URL": "redis://:letmein@redis:6379/0",
        "SECRET_KEY": "only-for-the-test",
        "ENVIRONMENT": "production",
    } | extra
    container = sandbox.run(f"pynomaly:{variant}", options=options, **environment)
    container.opens(8000)
    return container, f"http://{container.address}:8000"


@pytest.fixture
def backing(sandbox: Sandbox) -> dict[str, Container]:
    """PostgreSQL and Redis as the API needs them."""
    return {
        "postgres": start_postgres(sandbox, POSTGRES_USER="app", POSTGRES_PASSWORD="letmein"),
        "redis": start_redis(sandbox, "--requirepass", "letmein"),
    }


def health_is(url: str, status: str) -> bool:
    answer = http_request(f"{url}/health", timeout_seconds=3)
    return answer.status != 0 and bool(answer.json["status"] == status)


@pytest.mark.usefixtures("backing")
def test_api_detects_stores_and_caches(sandbox: Sandbox) -> None:
    api, url = start_api(sandbox)
    answer = http_request(f"{url}/health")
    assert answer.status == 200
    assert answer.json["status"] == "healthy"
    assert answer.json["version"] == "1.4.0"
    assert {name: check["status"] for name, check in answer.json["checks"].items()} == {
        "database": "ok",
        "redis": "ok",
    }

    first = http_request(f"{url}/api/v1/detect", {"values": VALUES, "dataset": "pumps"})
    assert first.status == 200
    # By hand: median 10.0, distances 0 .2 .1 .1 .2 0 45, their median .1; 0.6745 * 45 / 0.1.
    (anomaly,) = first.json["anomalies"]
    assert anomaly["index"] == 6
    assert anomaly["score"] == pytest.approx(303.525, rel=1e-6)
    assert first.json["cached"] is False
    again = http_request(f"{url}/api/v1/detect", {"values": VALUES, "dataset": "pumps"})
    assert again.json == {**first.json, "cached": True}

    rows = psql(
        sandbox,
        "letmein",
        "SELECT id, dataset, value_count, anomaly_count, api_version FROM detections",
    )
    assert rows.out.strip() == f"{first.json['id']}|pumps|7|1|1.4.0"
    keys = redis_cli(sandbox, "--scan", password="letmein").out.split()
    assert len(keys) == 1
    assert keys[0].startswith("pynomaly:detect:")
    assert 0 < int(redis_cli(sandbox, "ttl", keys[0], password="letmein").out) <= 300

    http_request(f"{url}/api/v1/detect", {"values": [1, 1, 1, 1, 2]})
    listed = http_request(f"{url}/api/v1/detections?limit=1").json
    assert listed["count"] == 1
    assert listed["detections"][0]["value_count"] == 5
    unusable: tuple[dict[str, list[Any]], ...]
    unusable = ({"values": []}, {"values": ["x"]}, {"numbers": [1]})
    for wrong in unusable:
        assert http_request(f"{url}/api/v1/detect", wrong).status == 422
    assert http_request(f"{url}/api/v1/detections?limit=0").status == 422

    assert api.execute("stat", "-c", "%u:%g", "/proc/1").out.strip() == "1000:1000"
    for folder in ("models", "logs", "config"):
        assert api.execute("touch", f"/app/{folder}/file").code == 0
    assert api.execute("python", "-c", "import yaml").code == 0


@pytest.mark.usefixtures("backing")
def test_api_metrics_have_the_instrumentators_names(sandbox: Sandbox) -> None:
    _, url = start_api(sandbox)
    for _ in range(3):
        http_request(f"{url}/health")
    http_request(f"{url}/api/v1/detect", {"values": []})
    http_request(f"{url}/no/such/page")
    body = http_request(f"{url}/metrics").body
    for line in (
        'http_requests_total{handler="/health",method="GET",status="2xx"} 3.0',
        'http_requests_total{handler="/api/v1/detect",method="POST",status="4xx"} 1.0',
        'http_requests_total{handler="none",method="GET",status="4xx"} 1.0',
        'http_request_duration_seconds_count{handler="/health",method="GET"} 3.0',
        'http_request_duration_seconds_bucket{handler="/health",le="0.5",method="GET"} 3.0',
        "http_request_duration_highr_seconds_count 5.0",
        'http_request_size_bytes_count{handler="/health"} 3.0',
        'http_response_size_bytes_count{handler="/health"} 3.0',
    ):
        assert _sorted_labels(line) in {_sorted_labels(seen) for seen in body.splitlines()}, body


def _sorted_labels(line: str) -> tuple[str, ...]:
    name, _, rest = line.partition("{")
    labels, _, value = rest.rpartition("}")
    return (name, *sorted(labels.split(",")), value.strip())


@pytest.mark.parametrize("how", ["stop", "pause"])
def test_api_survives_the_database_going_and_coming(
    sandbox: Sandbox, backing: dict[str, Container], how: str
) -> None:
    api, url = start_api(sandbox)
    wait_until("healthy", lambda: health_is(url, "healthy"))
    assert http_request(f"{url}/api/v1/detect", {"values": VALUES}).status == 200
    docker(how, backing["postgres"].name)
    for _ in range(3):
        answer = http_request(f"{url}/health", timeout_seconds=4)
        assert answer.status == 503
        assert answer.seconds < 2
        assert answer.json["status"] == "unhealthy"
        assert answer.json["checks"]["database"]["status"] == "unreachable"
        assert answer.json["checks"]["redis"]["status"] == "ok"
    refused = http_request(f"{url}/api/v1/detect", {"values": [1, 2, 3]}, timeout_seconds=8)
    assert refused.status == 503
    docker({"stop": "start", "pause": "unpause"}[how], backing["postgres"].name)
    wait_until("healthy again", lambda: health_is(url, "healthy"), 20)
    assert http_request(f"{url}/api/v1/detect", {"values": [1, 2, 3]}).status == 200
    assert "ERROR:pynomaly.api:database is unreachable" in api.logs()
    assert "INFO:pynomaly.api:database is reachable again" in api.logs()
    assert "letmein" not in api.logs()


@pytest.mark.parametrize("how", ["stop", "pause"])
def test_api_works_without_redis(sandbox: Sandbox, backing: dict[str, Container], how: str) -> None:
    api, url = start_api(sandbox)
    wait_until("healthy", lambda: health_is(url, "healthy"))
    docker(how, backing["redis"].name)
    answer = http_request(f"{url}/health", timeout_seconds=4)
    assert (answer.status, answer.json["status"]) == (200, "degraded")
    assert answer.seconds < 2
    assert answer.json["checks"]["redis"]["status"] == "unreachable"
    assert http_request(f"{url}/api/v1/detect", {"values": VALUES}).json["cached"] is False
    docker({"stop": "start", "pause": "unpause"}[how], backing["redis"].name)
    wait_until("healthy again", lambda: health_is(url, "healthy"), 20)
    http_request(f"{url}/api/v1/detect", {"values": [1, 2, 3]})
    assert http_request(f"{url}/api/v1/detect", {"values": [1, 2, 3]}).json["cached"] is True
    assert "WARNING:pynomaly.api:redis is unreachable" in api.logs()


def test_api_starts_before_its_database(sandbox: Sandbox) -> None:
    _, url = start_api(sandbox)
    assert http_request(f"{url}/health", timeout_seconds=4).status == 503
    start_postgres(sandbox, POSTGRES_USER="app", POSTGRES_PASSWORD="letmein")
    start_redis(sandbox, "--requirepass", "letmein")
    wait_until("healthy", lambda: health_is(url, "healthy"), 20)
    wait_until(
        "the schema is made",
        lambda: psql(sandbox, "letmein", "SELECT count(*) FROM detections").out.strip() == "0",
    )


@pytest.mark.usefixtures("backing")
def test_api_replicas_start_together(sandbox: Sandbox) -> None:
    replicas = [start_api(sandbox) for _ in range(3)]
    wait_until("all are healthy", lambda: all(health_is(url, "healthy") for _, url in replicas))
    wait_until(
        "all have the schema",
        lambda: all("the schema is in place" in container.logs() for container, _ in replicas),
    )
    assert not [container.name for container, _ in replicas if "unreachable" in container.logs()]


@pytest.mark.usefixtures("backing")
def test_api_says_a_wrong_database_password(sandbox: Sandbox) -> None:
    api, url = start_api(sandbox, DATABASE_URL="postgresql://app:oh-no@postgres:5432/app")
    assert http_request(f"{url}/health", timeout_seconds=4).status == 503
    assert "password authentication failed" in api.logs()
    assert "oh-no" not in api.logs()


@pytest.mark.usefixtures("backing")
def test_api_reads_secrets_from_files_and_logs_in_one_format(
    sandbox: Sandbox, open_path: Path
) -> None:
    for name, value in {"db": API_DATABASE, "key": "from-a-file"}.items():
        (open_path / name).write_text(value + "\n")
    api = sandbox.run(
        "pynomaly:production", options=(f"--volume={open_path}:/run/secrets:ro",),
        DATABASE_URL_FILE="/run/secrets/db", SECRET_KEY_FILE="/run/secrets/key",
    )  # fmt: skip
    api.opens(8000)
    url = f"http://{api.address}:8000"
    wait_until("healthy", lambda: health_is(url, "healthy"))
    assert http_request(f"{url}/health").json["checks"]["redis"] == {"status": "not configured"}
    assert api.stop(grace_seconds=10) < 8
    assert api.inspect()["State"]["ExitCode"] == 0
    lines = api.logs().splitlines()
    assert lines[-1].startswith("INFO:uvicorn.error:Finished server process")
    levels = {line.split(":")[0] for line in lines}
    assert levels == {"INFO"}, lines
    assert any(line.startswith("INFO:uvicorn.access:") and "/health" in line for line in lines)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "DATABASE_URL is not set"),
        ({"DATABASE_URL": "mysql://u:hidden@h/d"}, "DATABASE_URL is not an address"),
        ({"DATABASE_URL": API_DATABASE}, "SECRET_KEY is not set"),
        ({"DATABASE_URL": API_DATABASE, "LOG_LEVEL": "loud"}, "LOG_LEVEL must be one of"),
        (
            {"DATABASE_URL": API_DATABASE, "SECRET_KEY": "k", "DATABASE_POOL_SIZE": "many"},
            "DATABASE_POOL_SIZE must be a whole number",
        ),
        ({"DATABASE_URL_FILE": "/nowhere"}, "which cannot be read"),
    ],
)
def test_api_refuses_wrong_settings(
    sandbox: Sandbox, environment: dict[str, str], message: str
) -> None:
    api = sandbox.run("pynomaly:production", options=as_options(environment))
    assert api.exit_code() == 1
    assert api.logs().startswith("CRITICAL:pynomaly.settings:")
    assert message in api.logs()
    assert "hidden" not in api.logs()
    assert "Traceback" not in api.logs()


@pytest.mark.parametrize(("variant", "version"), sorted(LABELS.items()))
@pytest.mark.usefixtures("backing")
def test_api_variant_tells_its_version(sandbox: Sandbox, variant: str, version: str) -> None:
    container, url = start_api(sandbox, variant)
    expected = "unhealthy" if variant == "unhealthy" else "healthy"
    wait_until(expected, lambda: health_is(url, expected))
    assert http_request(f"{url}/health").json["version"] == version
    state = container.inspect()
    assert state["Config"]["Labels"]["org.opencontainers.image.version"] == version
    wait_until(
        f"the engine sees {expected}",
        lambda: container.inspect()["State"]["Health"]["Status"] == expected,
        90,
    )
    variants = json.loads((IMAGES / "pynomaly" / "image.json").read_text())["variants"]
    tags = {entry["name"]: entry["tags"] for entry in variants}[variant]
    assert tags == [f"library/pynomaly:{variant}", f"library/pynomaly:{version}"]


def put_faults(api: Container, text: str | None) -> None:
    """Write the faults file whole, or remove it."""
    script = "rm -f /app/config/faults.json"
    if text is not None:
        script = "cat > /app/config/.f && mv /app/config/.f /app/config/faults.json"
    api.execute("sh", "-c", script, stdin=text or "")


@pytest.mark.usefixtures("backing")
def test_api_faults_start_and_end_at_once(sandbox: Sandbox) -> None:
    api, url = start_api(sandbox, PYNOMALY_LAB_FAULTS="1")
    wait_until("healthy", lambda: health_is(url, "healthy"))
    put_faults(api, '{"latency_ms": 700}')
    slow = http_request(f"{url}/health")
    assert slow.status == 200
    assert 0.7 <= slow.seconds < 2
    put_faults(api, '{"error_share": 0.25, "paths": ["/api/"]}')
    statuses = [http_request(f"{url}/api/v1/detections").status for _ in range(12)]
    assert statuses == [200, 200, 200, 500] * 3
    assert http_request(f"{url}/health").status == 200
    assert 'status="5xx"} 3.0' in http_request(f"{url}/metrics").body
    assert "ERROR:pynomaly.faults:fault on order: GET /api/v1/detections answered 500" in api.logs()
    put_faults(api, '{"latency": 1}')
    assert http_request(f"{url}/health").status == 200
    assert "unknown names: latency" in api.logs()
    put_faults(api, None)
    quick = http_request(f"{url}/health")
    assert quick.status == 200
    assert quick.seconds < 0.7


@pytest.mark.usefixtures("backing")
def test_api_without_the_switch_has_no_faults(sandbox: Sandbox) -> None:
    api, url = start_api(sandbox)
    wait_until("healthy", lambda: health_is(url, "healthy"))
    put_faults(api, '{"error_share": 1}')
    assert http_request(f"{url}/health").status == 200


@pytest.mark.usefixtures("backing")
def test_api_is_killed_for_want_of_memory(sandbox: Sandbox) -> None:
    limits = ("--memory=192m", "--memory-swap=192m")
    api, url = start_api(sandbox, options=limits, PYNOMALY_LAB_FAULTS="1")
    wait_until("healthy", lambda: health_is(url, "healthy"))
    put_faults(api, '{"allocate_mib": 400}')
    assert http_request(f"{url}/health").status == 0
    assert api.exit_code() == 137
    assert oom_killed(api.inspect()["Id"])


@pytest.mark.usefixtures("backing")
def test_api_hangs_when_it_is_stopped_by_signal(sandbox: Sandbox) -> None:
    api, url = start_api(sandbox)
    wait_until("healthy", lambda: health_is(url, "healthy"))
    docker("kill", "--signal", "STOP", api.name)
    assert tcp_opens(api.address, 8000)
    started = time.monotonic()
    assert http_request(f"{url}/health", timeout_seconds=2).status == 0
    assert time.monotonic() - started >= 2
    docker("kill", "--signal", "CONT", api.name)
    wait_until("healthy again", lambda: health_is(url, "healthy"), 20)
