# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import (
    CredentialError,
    DatabaseCredentials,
    RedisCredentials,
    application_database_credentials,
    application_redis_credentials,
    environment_value,
    parse_database_url,
    parse_redis_config,
    parse_redis_url,
    postgres_server_credentials,
    postgres_server_port,
    redis_server_credentials,
    scrub,
)

FILES = {
    "/run/secrets/db": "from file\n",
    "/run/secrets/url": "postgresql://u:p@db/d\r\n",
    "/etc/redis.conf": 'include /etc/more.conf\ninclude /etc/*.conf\nport 7000\nrequirepass "a b"',
    "/etc/more.conf": "port 7001\ntimeout 5",
    "/etc/tls.conf": "# all\n\nport 0\ntls-port 6390\nuser default off >no\nuser ops on >pw ~*",
    "/etc/default.conf": "user default on nopass\nuser default on >pw +@all",
    "/etc/silent.conf": "timeout 5\nbroken 'quote",
}


def read_secret(path: str) -> str:
    return FILES[path]


# scrub


@pytest.mark.parametrize(
    ("text", "secrets", "expected"),
    [
        ("bad p@ss given", ["p@ss"], "bad ******** given"),
        ("url has p%40ss", ["p@ss"], "url has ********"),
        (
            "long before short: abcdef abc",
            ["abc", "abcdef"],
            "long before short: ******** ********",
        ),
        ("at redis://u:unknown@h/0", [], "at redis://u:********@h/0"),
        ("nothing", [None, ""], "nothing"),
    ],
)
def test_scrub(text: str, secrets: list[Any], expected: str) -> None:
    assert scrub(text, secrets) == expected


# environment_value


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"A": "plain", "A_FILE": "/run/secrets/db"}, "plain"),
        ({"A": "", "A_FILE": "/run/secrets/db"}, "from file"),
        ({"A_FILE": "/run/secrets/db"}, "from file"),
        ({"A": ""}, None),
        ({}, None),
    ],
)
def test_environment_value(environment: dict[str, str], expected: str | None) -> None:
    assert environment_value(environment, "A", read_secret) == expected


def test_a_secret_that_cannot_be_read_names_the_variable_and_the_file() -> None:
    with pytest.raises(CredentialError, match="A_FILE names /nowhere, which cannot be read"):
        environment_value({"A_FILE": "/nowhere"}, "A", read_secret)


# parse_database_url


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "password", "database"),
    [
        ("postgresql://u:p@h:5433/d", "h", 5433, "u", "p", "d"),
        ("postgres://u:p@h/d", "h", 5432, "u", "p", "d"),
        ("postgresql+asyncpg://u:p%40%2F@h/d", "h", 5432, "u", "p@/", "d"),
        ("POSTGRESQL+psycopg2://u:p@h/d", "h", 5432, "u", "p", "d"),
        ("postgresql://u%20x@h", "h", 5432, "u x", None, "u x"),
        ("postgresql://h/d", "h", 5432, "", None, "d"),
        ("postgresql:///d", "", 5432, "", None, "d"),
        ("postgresql://u:@h/d", "h", 5432, "u", "", "d"),
        ("postgresql://u:a@b/c#e@h/d?sslmode=require", "h", 5432, "u", "a@b/c#e", "d"),
        ("postgresql://u:a?b#c@h/d?sslmode=require", "h", 5432, "u", "a?b#c", "d"),
        ("postgresql://u:p@h/d?options=a@b", "h", 5432, "u", "p", "d"),
        ("postgresql://u:p@[::1]:5433/d", "::1", 5433, "u", "p", "d"),
        ("postgresql://u:p@h1:1,h2/d", "h1", 1, "u", "p", "d"),
        ("postgresql:///d?host=h&port=6&user=u&password=p", "h", 6, "u", "p", "d"),
        ("postgresql://u:p@/d?host=h1:1&host=h2:2", "h2", 2, "u", "p", "d"),
        ("postgresql://u:p@/d?host=/run/postgresql&port=x", "/run/postgresql", 5432, "u", "p", "d"),
        ("postgresql://u:p@h?port=7&dbname=e", "h", 7, "u", "p", "e"),
        ("host=h port=5433 user=u password='p w' dbname=d", "h", 5433, "u", "p w", "d"),
        ("host = h  user= u", "h", 5432, "u", None, "u"),
        ("host=name hostaddr=10.0.0.1 dbname=d user=u", "10.0.0.1", 5432, "u", None, "d"),
        ("dbname=d user=u", "", 5432, "u", None, "d"),
    ],
)
def test_parse_database_url(
    url: str, host: str, port: int, user: str, password: str | None, database: str
) -> None:
    seen = parse_database_url(url)
    assert (seen.host, seen.port, seen.user, seen.password, seen.database) == (
        host,
        port,
        user,
        password,
        database,
    )


def test_a_url_keeps_all_hosts_and_its_parameters() -> None:
    seen = parse_database_url("postgresql://u:p@h1:1,h2,h3:3/d?sslmode=require&x=", "V")
    assert seen.hosts == (("h1", 1), ("h2", 5432), ("h3", 3))
    assert seen.parameters == {"sslmode": "require", "x": ""}
    assert seen.source == "V"
    lists = parse_database_url("postgresql:///d?host=h1,h2,h3&port=1,2")
    assert lists.hosts == (("h1", 1), ("h2", 2), ("h3", 1))


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///x",
        "mysql://u:hunter2@h/d",
        "",
        "postgresql://u:hunter2@h:99999/d",
        "postgresql://u:hunter2@h:x:y/d",
        "host=h password='hunter2",
    ],
)
def test_a_url_that_is_none_is_refused_without_telling_it(url: str) -> None:
    with pytest.raises(CredentialError) as raised:
        parse_database_url(url)
    assert "hunter2" not in str(raised.value)


def test_no_password_in_a_repr() -> None:
    url = parse_database_url("postgresql://u:hunter2@h/d?password=hunter2&sslpassword=hunter2")
    assert url.password == "hunter2"
    assert "hunter2" not in repr(url)
    assert "hunter2" not in repr(parse_redis_url("redis://:hunter2@h"))


# PostgreSQL's server


@pytest.mark.parametrize(
    ("environment", "command", "port"),
    [
        ({}, [], 5432),
        ({"PGPORT": "5433"}, [], 5433),
        ({"POSTGRESQL_PORT_NUMBER": "5434"}, ["postgres", "-c", "shared_buffers=1GB"], 5434),
        ({"PGPORT": "5433"}, ["postgres", "-p", "5435"], 5435),
        ({}, ["postgres", "--port", "5435"], 5435),
        ({}, ["postgres", "-p5436"], 5436),
        ({}, ["postgres", "--port=5437"], 5437),
        ({}, ["postgres", "-c", "port=5438"], 5438),
        ({"PGPORT": "70000"}, ["postgres", "-p"], 5432),
        ({"PGPORT": "tcp://x"}, [], 5432),
    ],
)
def test_postgres_server_port(environment: dict[str, str], command: list[str], port: int) -> None:
    assert postgres_server_port(environment, command) == port


@pytest.mark.parametrize(
    ("environment", "user", "password", "database", "source"),
    [
        ({}, "postgres", None, "postgres", ""),
        ({"POSTGRES_PASSWORD": "p"}, "postgres", "p", "postgres", "POSTGRES_PASSWORD"),
        (
            {"POSTGRES_USER": "u", "POSTGRES_PASSWORD_FILE": "/run/secrets/db"},
            "u",
            "from file",
            "u",
            "POSTGRES_PASSWORD",
        ),
        (
            {"POSTGRES_USER": "u", "POSTGRES_DB": "d", "POSTGRES_PASSWORD": "p"},
            "u",
            "p",
            "d",
            "POSTGRES_PASSWORD",
        ),
        (
            {"POSTGRESQL_USERNAME": "u", "POSTGRESQL_PASSWORD": "p", "POSTGRESQL_DATABASE": "d"},
            "u",
            "p",
            "d",
            "POSTGRESQL_PASSWORD",
        ),
        (
            {
                "POSTGRESQL_USERNAME": "u",
                "POSTGRESQL_PASSWORD": "p",
                "POSTGRESQL_POSTGRES_PASSWORD": "a",
            },
            "postgres",
            "a",
            "postgres",
            "POSTGRESQL_POSTGRES_PASSWORD",
        ),
        ({"PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "d"}, "u", "p", "d", "PGPASSWORD"),
    ],
)
def test_postgres_server_credentials(
    environment: dict[str, str], user: str, password: str | None, database: str, source: str
) -> None:
    seen = postgres_server_credentials(environment, read_secret)
    assert (seen.user, seen.password, seen.database, seen.source) == (
        user,
        password,
        database,
        source,
    )


# The application's database


def application(environment: dict[str, str]) -> DatabaseCredentials | None:
    return application_database_credentials(environment, read_secret)


@pytest.mark.parametrize(
    ("environment", "source"),
    [
        ({"DATABASE_URL": "postgresql://u:p@db/d", "DB_URL": "postgres://x@y/z"}, "DATABASE_URL"),
        ({"DATABASE_URL": "sqlite:///x", "DB_URL": "postgresql://u:p@db/d"}, "DB_URL"),
        ({"DATABASE_URL_FILE": "/run/secrets/url"}, "DATABASE_URL"),
        ({"SQLALCHEMY_DATABASE_URI": "postgresql+psycopg2://u:p@db/d"}, "SQLALCHEMY_DATABASE_URI"),
        ({"POSTGRES_DSN": "host=db user=u password=p dbname=d"}, "POSTGRES_DSN"),
        ({"PYNOMALY_DATABASE_URL": "postgresql://u:p@db/d"}, "PYNOMALY_DATABASE_URL"),
        ({"APP_DB_URL_FILE": "/run/secrets/url"}, "APP_DB_URL"),
        ({"WHATEVER": "postgresql://u:p@db/d"}, "WHATEVER"),
        ({"DB_HOST": "db", "DB_USER": "u", "DB_PASSWORD": "p", "DB_NAME": "d"}, "DB_USER"),
        (
            {
                "DATABASE_HOST": "db",
                "DATABASE_USERNAME": "u",
                "DATABASE_PASS": "p",
                "DATABASE_NAME": "d",
            },
            "DATABASE_USER",
        ),
        ({"PGHOST": "db", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "d"}, "PGUSER"),
        ({"DATABASE_URL": "postgresql://u@db/d", "DB_PASSWORD": "p"}, "DATABASE_URL"),
    ],
)
def test_application_database_credentials(environment: dict[str, str], source: str) -> None:
    seen = application(environment)
    assert seen is not None
    assert (seen.host, seen.port, seen.user, seen.password, seen.database, seen.source) == (
        "db",
        5432,
        "u",
        "p",
        "d",
        source,
    )


def test_parts_without_a_host_mean_the_projects_own_server() -> None:
    seen = application({"POSTGRES_USER": "u", "POSTGRES_PASSWORD_FILE": "/run/secrets/db"})
    assert seen is not None
    assert (seen.host, seen.hosts, seen.password, seen.database) == ("", (), "from file", "u")


@pytest.mark.parametrize(
    "environment",
    [{}, {"DATABASE_URL": "sqlite:///x"}, {"DB_USER": "u"}, {"DB_PASSWORD": "p"}, {"PATH": "/bin"}],
)
def test_an_application_that_names_no_database(environment: dict[str, str]) -> None:
    assert application(environment) is None


def test_a_broken_url_names_its_variable() -> None:
    with pytest.raises(CredentialError, match=r"^DATABASE_URL: the URL's port"):
        application({"DATABASE_URL": "postgresql://u:p@h:0/d"})


# Redis


@pytest.mark.parametrize(
    ("url", "host", "port", "username", "password", "database", "tls"),
    [
        ("redis://h", "h", 6379, "", None, 0, False),
        ("redis://:p%40@h:6380/2", "h", 6380, "", "p@", 2, False),
        ("rediss://u:p@h/0", "h", 6379, "u", "p", 0, True),
        ("redis://h?db=3&password=p&username=u", "h", 6379, "u", "p", 3, False),
        ("redis://u@h/x", "h", 6379, "u", None, 0, False),
    ],
)
def test_parse_redis_url(
    url: str,
    host: str,
    port: int,
    username: str,
    password: str | None,
    database: int,
    tls: bool,
) -> None:
    assert parse_redis_url(url, "V") == RedisCredentials(
        host, port, username, password, database, tls, "V"
    )


def test_what_is_no_redis_url_is_refused() -> None:
    with pytest.raises(CredentialError):
        parse_redis_url("memcached://h")


SHELL = ["sh", "-c"]


@pytest.mark.parametrize(
    ("command", "environment", "password"),
    [
        (["redis-server", "--requirepass", "p"], {}, "p"),
        (["redis-server", "--requirepass", "a", "--requirepass", "p"], {}, "p"),
        ([*SHELL, "redis-server --requirepass 'p $x'"], {}, "p $x"),
        ([*SHELL, 'redis-server --requirepass "$PW"'], {"PW": "p"}, "p"),
        ([*SHELL, "redis-server --requirepass ${PW:?needed}"], {"PW": "p"}, "p"),
        ([*SHELL, "redis-server --requirepass $PW"], {"REDISCLI_AUTH": "q"}, "q"),
        ([*SHELL, 'redis-server --requirepass "$(cat /run/secrets/db)"'], {}, "from file"),
        ([*SHELL, "redis-server --requirepass $(cat $F)"], {"F": "/run/secrets/db"}, "from file"),
        ([*SHELL, 'redis-server --requirepass "$(< /run/secrets/db)"'], {}, "from file"),
        ([*SHELL, "redis-server --requirepass `cat /run/secrets/db`"], {}, "from file"),
        (["redis-server", "/etc/redis.conf"], {"REDIS_PASSWORD": "no"}, "a b"),
        (["redis-server", "/etc/silent.conf"], {"REDIS_PASSWORD": "p"}, "p"),
        ([], {"REDIS_PASSWORD_FILE": "/run/secrets/db"}, "from file"),
        ([], {}, None),
    ],
)
def test_the_password_of_a_redis_server(
    command: list[str], environment: dict[str, str], password: str | None
) -> None:
    seen = redis_server_credentials(environment, command, read_secret)
    assert seen.password == password
    assert bool(seen.source) == (password is not None)


@pytest.mark.parametrize(
    ("command", "environment", "expected"),
    [
        ([], {}, (6379, False)),
        ([], {"REDIS_PORT_NUMBER": "6380"}, (6380, False)),
        (["redis-server", "--port", "6381"], {"REDIS_PORT_NUMBER": "6380"}, (6381, False)),
        (["redis-server", "/etc/redis.conf"], {}, (7000, False)),
        (["redis-server", "/etc/tls.conf"], {}, (6390, True)),
        (["redis-server", "--port", "0", "--tls-port", "6391"], {}, (6391, True)),
    ],
)
def test_the_port_of_a_redis_server(
    command: list[str], environment: dict[str, str], expected: tuple[int, bool]
) -> None:
    seen = redis_server_credentials(environment, command, read_secret)
    assert (seen.port, seen.tls) == expected


def test_users_of_a_configuration_file() -> None:
    other = redis_server_credentials({}, ["redis-server", "/etc/tls.conf"], read_secret)
    assert (other.username, other.password) == ("ops", "pw")
    default = redis_server_credentials({}, ["redis-server", "/etc/default.conf"], read_secret)
    assert (default.username, default.password) == ("", "pw")


def test_a_configuration_that_cannot_be_read_is_said() -> None:
    with pytest.raises(CredentialError, match=r"/etc/gone\.conf"):
        redis_server_credentials({}, ["redis-server", "/etc/gone.conf"], read_secret)


def test_parse_redis_config_keeps_the_last_word() -> None:
    seen = parse_redis_config("PORT 1\nport 2\n# port 3\n\nsave 60 1\nuser a on\nuser b off")
    assert seen == {"port": ["2"], "save": ["60", "1"], "user": ["a on", "b off"]}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (
            {"REDIS_URL": "redis://:p@h/1"},
            RedisCredentials("h", 6379, "", "p", 1, False, "REDIS_URL"),
        ),
        (
            {"REDIS_URL": "redis://h/0", "REDIS_PASSWORD_FILE": "/run/secrets/db"},
            RedisCredentials("h", 6379, "", "from file", 0, False, "REDIS_URL"),
        ),
        (
            {"APP_BROKER": "rediss://u:p@h:1"},
            RedisCredentials("h", 1, "u", "p", 0, True, "APP_BROKER"),
        ),
        (
            {"REDIS_HOST": "h", "REDIS_PORT": "tcp://1.2.3.4:6379", "REDIS_USER": "u"},
            RedisCredentials("h", 6379, "u", None, source="REDIS_HOST"),
        ),
        ({"REDIS_PASSWORD": "p"}, RedisCredentials("", 6379, "", "p", source="REDIS_PASSWORD")),
        ({"CACHE_URL": "memcached://h"}, None),
    ],
)
def test_application_redis_credentials(
    environment: dict[str, str], expected: RedisCredentials | None
) -> None:
    assert application_redis_credentials(environment, read_secret) == expected


def test_a_broken_redis_url_names_its_variable() -> None:
    with pytest.raises(CredentialError, match=r"^REDIS_URL: the URL's host"):
        application_redis_credentials({"REDIS_URL": "redis://h:x"}, read_secret)
