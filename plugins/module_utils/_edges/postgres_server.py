# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The project's PostgreSQL server: where it is, who to log in as, and a session with it."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils import _postgres as postgres
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import describe
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import (
    CredentialError,
    DatabaseCredentials,
    application_database_credentials,
    postgres_server_credentials,
    postgres_server_port,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.endpoints import (
    route,
    secret_reader,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.importing import IMPORTING
from ansible_collections.pynomaly.ops.plugins.module_utils._endpoints import (
    Address,
    endpoints,
    first_running,
    named,
    place,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

CONNECT_TIMEOUT_SECONDS = 5
#: Until the kernel gives up a peer that does not acknowledge what was sent.
TCP_USER_TIMEOUT_MS = 30_000

#: A value is written the same whatever the server's or the database's own settings are, so that
#: its text can be compared: https://www.postgresql.org/docs/current/runtime-config-client.html
PINNED_SETTINGS: Mapping[str, str] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "row_security": "off",
    "standard_conforming_strings": "on",
}


class PostgresError(Exception):
    """There is no server, or no way in. The text says what was seen and expected, and holds no
    secret; ``hint`` is what to run next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Login:
    """Somebody to log in as; ``note`` says what is odd about it, for the report."""

    credentials: DatabaseCredentials
    note: str = ""


@dataclass(frozen=True)
class Logins:
    """Whom to try, in that order. ``problem`` says why the server's own administrator is not among
    them as it should be; ``secrets`` are what no message may hold."""

    logins: Sequence[Login]
    problem: str = ""
    secrets: Sequence[Optional[str]] = field(default=(), repr=False)


@dataclass(frozen=True)
class PostgresServer:
    """A server that let somebody in. ``login`` leads to ``database``, which is the application's.

    ``inner_port`` is the port in the container's own network, whatever the host publishes it as.
    ``version_number`` is 170006 for 17.6.
    """

    container: Container
    address: Address
    inner_port: int
    login: DatabaseCredentials
    database: str
    version: str
    version_number: int
    is_superuser: bool

    @property
    def major(self) -> int:
        return self.version_number // 10000


def load_psycopg2() -> Any:
    """The library; raises L{CollectorError} where the host has none."""
    try:
        with IMPORTING:
            return importlib.import_module("psycopg2")
    except ImportError as error:
        raise CollectorError(
            "the Python library psycopg2 is missing on the host",
            "ansible-playbook pynomaly.ops.prepare installs python3-psycopg2",
        ) from error


def _sslmode(credentials: DatabaseCredentials) -> str:
    """Certificates are not checked here: the client's own authority is in its container."""
    mode = str(credentials.parameters.get("sslmode") or credentials.parameters.get("ssl") or "")
    if mode in ("disable", "allow", "prefer"):
        return mode
    return "require" if mode in ("require", "verify-ca", "verify-full", "true") else "prefer"


def connection_parameters(
    credentials: DatabaseCredentials, address: Address, options: str = ""
) -> dict[str, Any]:
    """Everything said explicitly, so that no PG* variable or ~/.pgpass of the host's has a say.

    An address that is a path is the folder of a server's socket.
    """
    parameters: dict[str, Any] = {
        "host": address[0],
        "port": address[1],
        "user": credentials.user or "postgres",
        "dbname": credentials.database,
        "application_name": postgres.APPLICATION_NAME,
        "sslmode": _sslmode(credentials),
        "gssencmode": "disable",
        "passfile": "/nonexistent",
        "client_encoding": "UTF8",
        "target_session_attrs": "any",
    }
    if not address[0].startswith("/"):
        parameters["hostaddr"] = address[0]
    if credentials.password:
        parameters["password"] = credentials.password
    if options:
        parameters["options"] = options
    return parameters


# Who logs in


def applications(
    stack: Stack, engine: Engine
) -> Iterator[tuple[Container, Optional[DatabaseCredentials]]]:
    """The API's containers with what each says of its login, running ones first.

    Raises L{CredentialError} on the way where one's is unusable.
    """
    for container in sorted(stack.component("api"), key=lambda one: (not one.running, one.number)):
        yield (
            container,
            application_database_credentials(
                container.environment, secret_reader(engine, container)
            ),
        )


def own_application(
    stack: Stack, engine: Engine, server: Container
) -> Optional[DatabaseCredentials]:
    """The application's login, if it leads to this server."""
    try:
        for client, found in applications(stack, engine):
            if found is None:
                continue
            if not found.host or server in named(stack, found.host):
                return found
            way = route(stack, engine, client, (found.host, found.port))
            return found if way.container == server else None
    except CredentialError:
        return None  # postgres.app_login tells of it
    return None


def server_logins(
    engine: Engine,
    server: Container,
    application: Optional[DatabaseCredentials],
    settings: CheckSettings,
) -> Logins:
    """Whom the user names, else the server's own administrator, else the application, since
    POSTGRES_PASSWORD counts only when the data directory is made."""
    problem = ""
    try:
        administrator = postgres_server_credentials(
            server.environment, secret_reader(engine, server)
        )
    except CredentialError as error:
        problem = str(error)
        administrator = DatabaseCredentials(
            user=server.environment.get("POSTGRES_USER") or "postgres",
            database=server.environment.get("POSTGRES_DB") or "",
        )
    known = [one for one in (administrator, application) if one is not None]
    secrets = [settings.postgres_password, *(one.password for one in known)]
    if settings.postgres_user or settings.postgres_password:
        user = settings.postgres_user or administrator.user
        password = settings.postgres_password or next(
            (one.password for one in known if one.user == user), None
        )
        named_login = Login(replace(administrator, user=user, password=password))
        return Logins([named_login], problem, secrets)
    logins = [Login(administrator)]
    if application is not None and (application.user, application.password) != (
        administrator.user,
        administrator.password,
    ):
        reason = problem or (
            f'the password that the container has for role "{administrator.user}" is not in use'
        )
        note = f'looked as the application\'s role "{application.user}" ({reason})'
        logins.append(Login(application, note))
    return Logins(logins, problem, secrets)


# A session to work with


def find_server(
    stack: Stack, engine: Engine, settings: CheckSettings, through: Sequence[str] = ()
) -> PostgresServer:
    """The project's running server, and the first login and address that are let in.

    ``through`` are databases to log in to in place of the application's, which may be closed.
    Raises L{PostgresError}, and L{CollectorError} where psycopg2 is missing.
    """
    containers = stack.component("postgres")
    service = stack.service_of("postgres")
    if not containers:
        raise PostgresError(
            f"project {stack.project} has no PostgreSQL: seen no container of service {service}",
            'name its service: -e \'{"pynomaly_service_names": {"postgres": "SERVICE"}}\'',
        )
    server = first_running(containers)
    if server is None:
        raise PostgresError(
            f"{describe(containers[0])}, expected running",
            f"docker compose -p {stack.project} up -d {service}",
        )
    psycopg2 = load_psycopg2()
    application = own_application(stack, engine, server)
    found = server_logins(engine, server, application, settings)
    administrator = found.logins[0].credentials
    wanted = (
        settings.postgres_database
        or (application.database if application is not None else "")
        or administrator.database
    )
    port = postgres_server_port(server.environment, server.command)
    first: Optional[tuple[postgres.Failure, Address]] = None
    for login in found.logins:
        for address, name in itertools.product(endpoints(server, port), through or [wanted]):
            credentials = replace(login.credentials, database=name)
            try:
                with contextlib.closing(_open(psycopg2, credentials, address)) as connection:
                    found_server = _server(connection, server, (address, port), credentials)
                    return replace(found_server, database=wanted)
            except psycopg2.Error as error:
                first = first or (postgres.failure(str(error), found.secrets), address)
    failure, address = first or (
        postgres.Failure(postgres.UNREACHABLE, "it has no address"),
        ("nowhere", 0),
    )
    problem = f"; {found.problem}" if found.problem else ""
    raise PostgresError(
        f'database "{wanted}" at {place(address)} lets nobody in: {failure.text}{problem}',
        "ansible-playbook pynomaly.ops.daily_check says more; postgres_user and "
        "postgres_password name another login",
    )


def connect(
    server: PostgresServer,
    database: str = "",
    *,
    statement_timeout_seconds: float = 60.0,
    lock_timeout_seconds: float = 5.0,
    options: Optional[Mapping[str, str]] = None,
) -> Any:
    """A psycopg2 connection in autocommit to one of the server's databases, by default the
    application's. A timeout of 0 is none. ``options`` are settings of the session.

    Raises L{PostgresError}.
    """
    settings = {
        "statement_timeout": str(round(statement_timeout_seconds * 1000)),
        "lock_timeout": str(round(lock_timeout_seconds * 1000)),
        "idle_in_transaction_session_timeout": "0",
        **(options or {}),
    }
    psycopg2 = load_psycopg2()
    login = replace(server.login, database=database or server.database)
    try:
        connection = _open(psycopg2, login, server.address, settings)
    except psycopg2.Error as error:
        failure = postgres.failure(str(error), [login.password])
        raise PostgresError(
            f'no session with database "{login.database}" at {place(server.address)}: '
            f"{failure.text}",
            "ansible-playbook pynomaly.ops.daily_check",
        ) from error
    connection.autocommit = True
    return connection


def _open(
    psycopg2: Any,
    credentials: DatabaseCredentials,
    address: Address,
    settings: Optional[Mapping[str, str]] = None,
) -> Any:
    options = " ".join(f"-c {name}={_escaped(value)}" for name, value in (settings or {}).items())
    return psycopg2.connect(
        **connection_parameters(credentials, address, options),
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=TCP_USER_TIMEOUT_MS,
    )


def _escaped(value: str) -> str:
    """As libpq's ``options`` want a value: blanks and backslashes escaped."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _server(
    connection: Any,
    container: Container,
    place_and_port: tuple[Address, int],
    login: DatabaseCredentials,
) -> PostgresServer:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('server_version'), current_setting('is_superuser') = 'on'"
        )
        version, is_superuser = cursor.fetchone()
    return PostgresServer(
        container=container,
        address=place_and_port[0],
        inner_port=place_and_port[1],
        login=login,
        database=login.database,
        version=str(version),
        version_number=int(connection.server_version),
        is_superuser=bool(is_superuser),
    )
