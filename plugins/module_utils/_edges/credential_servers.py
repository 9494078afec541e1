# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The servers that let somebody in by a password: what is in use, how it is changed, and whether
one is let in, seen from another container."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import importlib
import json
import secrets as random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credential_rotation import (
    Rotated,
    RotationError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import (
    CredentialError,
    DatabaseCredentials,
    RedisCredentials,
    application_database_credentials,
    application_redis_credentials,
    environment_value,
    postgres_server_credentials,
    postgres_server_port,
    redis_server_credentials,
    scrub,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import redis as redis_edge
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.database_administration import (
    execute,
    find_administrator,
    rows,
    told,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.endpoints import (
    route,
    secret_reader,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import write_atomically
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.helper_container import (
    Helper,
    HelperMount,
    HelperResult,
    run_helper,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    CONNECT_TIMEOUT_SECONDS,
    PostgresError,
    PostgresServer,
    connect,
    connection_parameters,
    load_psycopg2,
    own_application,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_tools import (
    passfile_entry,
    secrets_folder,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._endpoints import (
    endpoints,
    first_running,
    named,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._redis import ErrorReply, Reply

_MOUNT = "/pynomaly-secrets"
_HELPER_SECONDS = 30.0
_SESSIONS_SECONDS = 15.0
_GRAFANA_SECONDS = 90.0
_BRIDGE_COMMENT = "Made by pynomaly.ops while a password is changed, and dropped after it."
_DEFAULT_USER = "default"

_SETTINGS_OF = """
SELECT pg_catalog.split_part(one, '=', 1), pg_catalog.substr(one, pg_catalog.strpos(one, '=') + 1)
  FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS one
 WHERE s.setdatabase = 0
   AND s.setrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s)
"""
_SESSIONS = """
SELECT pid FROM pg_catalog.pg_stat_activity
 WHERE usename = %s AND backend_start < %s::timestamptz AND backend_type = 'client backend'
   AND pid <> pg_catalog.pg_backend_pid()
"""
_OWNED_IN = """
SELECT DISTINCT d.datname FROM pg_catalog.pg_shdepend s
  JOIN pg_catalog.pg_database d ON d.oid = s.dbid
 WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass
   AND s.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s)
"""


class PostgresLogins:
    """The roles that log in to the project's PostgreSQL. ``known`` are (role, new password, old
    one), of which either may be the one in use.

    Raises L{RotationError}, C{CollectorError} where psycopg2 is missing.
    """

    def __init__(
        self,
        engine: EngineControl,
        stack: Stack,
        settings: CheckSettings,
        known: Sequence[tuple[str, str, str]],
    ) -> None:
        self._engine = engine
        self._stack = stack
        self._settings = settings
        self._known = known
        self._found: Optional[PostgresServer] = None
        self.container = _running(stack, "postgres")

    def in_use(self) -> list[tuple[str, str]]:
        """(role, password) of each login that the project's containers have and that is let in."""
        candidates = self._candidates()
        found: dict[str, str] = {}
        for one in candidates:
            if one.password and one.user not in found and self.logs_in(one):
                found[one.user] = one.password
        if not found:
            raise RotationError(
                "no password that the project's containers have is let in by PostgreSQL, expected "
                "one of them to be in use",
                "ansible-playbook pynomaly.ops.daily_check says which",
            )
        return sorted(found.items())

    def refuse_trust(self, role: str) -> None:
        """Raise L{RotationError} where the server lets a role in whatever its password."""
        probe = next(one for one in self._candidates() if one.user == role)
        if self.logs_in(replace(probe, password=random.token_hex(16))):
            raise RotationError(
                "PostgreSQL lets everybody in, whatever the password: a new one would keep nobody "
                "out",
                "have pg_hba.conf ask for scram-sha-256 (POSTGRES_HOST_AUTH_METHOD=trust is what "
                "makes it ask for none)",
            )

    def _candidates(self) -> list[DatabaseCredentials]:
        server = self.container
        found = [
            postgres_server_credentials(server.environment, secret_reader(self._engine, server))
        ]
        for containers in self._stack.containers.values():
            for container in containers:
                one = self._application(container, server)
                if one is not None and one.user:
                    found.append(one)
        return list({(one.user, one.password): one for one in found}.values())

    def _application(
        self, container: Container, server: Container
    ) -> Optional[DatabaseCredentials]:
        """What a container says of its login to this server; nothing where it leads elsewhere."""
        if container.service == server.service:
            return None
        try:
            found = application_database_credentials(
                container.environment, secret_reader(self._engine, container)
            )
        except CredentialError:
            return None
        if found is None or not found.host or server in named(self._stack, found.host):
            return found
        way = route(self._stack, self._engine, container, (found.host, found.port))
        return found if way.container == server else None

    def logs_in(self, credentials: DatabaseCredentials) -> bool:
        """Whether a login is let in, over TCP from the host."""
        psycopg2 = load_psycopg2()
        port = postgres_server_port(self.container.environment, self.container.command)
        for address in endpoints(self.container, port):
            try:
                psycopg2.connect(
                    **connection_parameters(credentials, address),
                    connect_timeout=CONNECT_TIMEOUT_SECONDS,
                ).close()
            except psycopg2.Error:
                continue
            return True
        return False

    def application_role(self) -> str:
        found = own_application(self._stack, self._engine, self.container)
        return found.user if found is not None else ""

    def application_is_administrator(self) -> bool:
        reader = secret_reader(self._engine, self.container)
        administrator = postgres_server_credentials(self.container.environment, reader)
        return administrator.user == self.application_role()

    def may_make_roles(self) -> bool:
        return self.server().is_superuser

    def server(self) -> PostgresServer:
        """Somebody who is let in, a superuser where there is one."""
        if self._found is None:
            found = list(self._servers())
            self._found = next((one for one in found if one.is_superuser), None) or found[0]
        return self._found

    def _servers(self) -> Iterator[PostgresServer]:
        settings = [
            replace(self._settings, postgres_user=role, postgres_password=password)
            for role, new, old in self._known
            for password in (new, old)
        ]
        first: Optional[PostgresError] = None
        seen = False
        for one in [*settings, self._settings]:
            try:
                yield find_administrator(self._stack, self._engine, one)
                seen = True
            except PostgresError as error:
                first = first or error
        if not seen and first is not None:
            raise RotationError(str(first), first.hint) from first

    @contextlib.contextmanager
    def session(self, what: str, database: str = "") -> Iterator[Any]:
        """A session whose errors are told as L{RotationError}."""
        server = self.server()
        name = database or server.login.database
        try:
            with told(server, what), contextlib.closing(connect(server, name)) as connection:
                if server.is_superuser:
                    # The server's own log has no need of a verifier either.
                    execute(connection, "SET log_statement TO 'none'")
                    execute(connection, "SET log_min_duration_statement TO -1")
                yield connection
        except PostgresError as error:
            raise RotationError(str(error), error.hint) from error

    def verifiers(self, roles: Sequence[str]) -> dict[str, Optional[str]]:
        """What the server keeps of each role's password; nothing where nobody may read it."""
        if not self.server().is_superuser:
            return {}
        with self.session("the roles cannot be read") as connection:
            found = rows(
                connection,
                "SELECT rolname, rolpassword FROM pg_catalog.pg_authid WHERE rolname = ANY(%s)",
                (list(roles),),
            )
        return {str(name): password for name, password in found}

    def set_verifier(self, role: str, verifier: str) -> None:
        """The server gets the verifier and never the password."""
        server = self.server()
        if not server.is_superuser and server.login.user != role:
            self._found = next(one for one in self._servers() if one.login.user == role)
        with self.session(f'the password of role "{role}" could not be changed') as connection:
            self._execute(connection, "ALTER ROLE {} PASSWORD {}", role, verifier)
        self._found = None  # who was logged in may be who has another password now

    def now(self) -> str:
        with self.session("the server's time cannot be read") as connection:
            return str(rows(connection, "SELECT pg_catalog.clock_timestamp()::text")[0][0])

    def make_bridge(self, role: str, of: str, verifier: str) -> None:
        """A role that is another one as soon as it is logged in. One that is there must be ours."""
        with self.session(f'role "{role}" could not be made') as connection:
            found = rows(
                connection,
                "SELECT pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles "
                "WHERE rolname = %s",
                (role,),
            )
            if found and found[0][0] != _BRIDGE_COMMENT:
                raise RotationError(
                    f'role "{role}" is there and was not made for a rotation',
                    f"psql -c 'ALTER ROLE \"{role}\" RENAME TO …'",
                )
            connection.autocommit = False
            with connection:
                if not found:
                    self._execute(connection, "CREATE ROLE {} LOGIN IN ROLE {}", role, of, names=2)
                    self._execute(connection, "COMMENT ON ROLE {} IS {}", role, _BRIDGE_COMMENT)
                self._execute(connection, "ALTER ROLE {} PASSWORD {}", role, verifier)
                for name, value in rows(connection, _SETTINGS_OF, (of,)):
                    self._execute(
                        connection, "ALTER ROLE {} SET {} TO {}", role, name, value, names=2
                    )
                self._execute(connection, "ALTER ROLE {} SET role TO {}", role, of)

    def end_sessions(self, role: str, since: str) -> int:
        """End the sessions of a role that were begun before a time; how many there were.

        Raises L{RotationError} where one does not end.
        """
        deadline = time.monotonic() + _SESSIONS_SECONDS
        ended: set[int] = set()
        with self.session(f'the sessions of role "{role}" could not be ended') as connection:
            while True:
                left = {int(pid) for (pid,) in rows(connection, _SESSIONS, (role, since))}
                if not left:
                    return len(ended)
                if time.monotonic() >= deadline:
                    raise RotationError(
                        f'{len(left)} sessions of role "{role}" do not end',
                        "SELECT pid, state, query FROM pg_stat_activity",
                    )
                for pid in left - ended:
                    rows(connection, "SELECT pg_catalog.pg_terminate_backend(%s)", (pid,))
                ended |= left
                time.sleep(0.1)

    def drop_bridge(self, role: str, of: str) -> str:
        """Drop the second role, once nobody is logged in as it; why it could not be, or nothing."""
        what = f'role "{role}" could not be dropped'
        with self.session(what) as connection:
            if not rows(connection, "SELECT FROM pg_catalog.pg_roles WHERE rolname = %s", (role,)):
                return ""
            self._execute(connection, "ALTER ROLE {} NOLOGIN", role, names=1)
        self.end_sessions(role, "infinity")
        with self.session(what) as connection:
            databases = [str(name) for (name,) in rows(connection, _OWNED_IN, (role,))]
        for database in databases:
            with self.session(what, database) as connection:
                self._execute(connection, "REASSIGN OWNED BY {} TO {}", role, of, names=2)
                self._execute(connection, "DROP OWNED BY {}", role, names=1)
        errors = importlib.import_module("psycopg2.errors")
        with self.session(what) as connection:
            try:
                self._execute(connection, "DROP ROLE {}", role, names=1)
            except errors.DependentObjectsStillExist:
                return f'role "{role}" is left without a login: something still belongs to it'
        return ""

    @staticmethod
    def _execute(connection: Any, statement: str, *values: str, names: int = 1) -> None:
        """A statement whose first ``names`` values are identifiers and the others literals."""
        sql = importlib.import_module("psycopg2.sql")
        parts = [
            sql.Identifier(value) if position < names else sql.Literal(value)
            for position, value in enumerate(values)
        ]
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL(statement).format(*parts))


class RedisLogins:
    """The users that log in to the project's Redis. Raises L{RotationError}."""

    def __init__(self, engine: EngineControl, stack: Stack, settings: CheckSettings) -> None:
        self._engine = engine
        self._stack = stack
        self._settings = settings
        self.container = _running(stack, "redis")
        self.server = redis_server_credentials(
            self.container.environment,
            self.container.command,
            secret_reader(engine, self.container),
        )

    def in_use(self) -> list[tuple[str, str]]:
        """(user, password) of each login that the project's containers have and that is let in."""
        found: dict[str, str] = {}
        for user, password in self._candidates():
            if user not in found and self.logs_in(user, password):
                found[user] = password
        if not found:
            raise RotationError("Redis has no password that the project's containers know")
        user = next(iter(found))
        if self.logs_in(user, random.token_hex(16)):
            raise RotationError(
                f'Redis lets user "{user}" in whatever the password: a new one would keep nobody '
                "out",
                f"ACL SETUSER {user} resetpass, with a password in its configuration",
            )
        return sorted(found.items())

    def _candidates(self) -> list[tuple[str, str]]:
        found = [self.server]
        for containers in self._stack.containers.values():
            for container in containers:
                with contextlib.suppress(CredentialError):
                    one = application_redis_credentials(
                        container.environment, secret_reader(self._engine, container)
                    )
                    if one is not None:
                        found.append(one)
        pairs = [(one.username or _DEFAULT_USER, one.password) for one in found]
        return [(user, password) for user, password in dict.fromkeys(pairs) if password]

    @contextlib.contextmanager
    def _connection(self) -> Iterator[redis_edge.Connection]:
        deadline = Deadline(self._settings.call_timeout_seconds)
        first: Optional[redis_edge.NoAnswerError] = None
        for address in endpoints(self.container, self.server.port):
            try:
                connection = redis_edge.Connection(address, self.server.tls, deadline)
            except redis_edge.NoAnswerError as error:
                first = first or error
                continue
            with contextlib.closing(connection):
                try:
                    yield connection
                except redis_edge.NoAnswerError as error:
                    raise RotationError(f"Redis: {error}") from error
            return
        raise RotationError(f"Redis: {first or 'it has no address'}")

    def logs_in(self, user: str, password: str) -> bool:
        with self._connection() as connection:
            return not isinstance(_authenticate(connection, user, password), ErrorReply)

    def _log_in(self, connection: redis_edge.Connection, rotated: Sequence[Rotated]) -> None:
        """As somebody who may use ACL or CONFIG."""
        logins = [(one.name, secret) for one in rotated for secret in (one.new, one.old)]
        for user, password in [*logins, *self._candidates()]:
            if isinstance(_authenticate(connection, user, password), ErrorReply):
                continue
            if not isinstance(connection.ask("CONFIG", "GET", "requirepass"), ErrorReply):
                return
        raise RotationError(
            "nobody whose password the project's containers have may change Redis's users",
            "give one of them +@admin, or change the password by hand",
        )

    def add(self, rotated: Sequence[Rotated]) -> None:
        """Let the new passwords in beside the old ones, where this Redis has users."""
        with self._connection() as connection:
            self._log_in(connection, rotated)
            for one in rotated:
                if self._has_users(connection, one):
                    _must(connection.ask("ACL", "SETUSER", one.name, f">{one.new}"), one)

    def keep_only(self, rotated: Sequence[Rotated]) -> int:
        """Let the old passwords in no longer, and end the connections that were made with them; how
        many. Does nothing on a server that was started with the new ones."""
        ended = 0
        with self._connection() as connection:
            self._log_in(connection, rotated)
            for one in rotated:
                if self._has_users(connection, one):
                    if not self._accepts_old(connection, one):
                        continue
                    _must(
                        connection.ask("ACL", "SETUSER", one.name, "resetpass", f">{one.new}"), one
                    )
                    reply = connection.ask("CLIENT", "KILL", "USER", one.name, "SKIPME", "yes")
                elif self.logs_in(one.name, one.old):
                    _must(connection.ask("CONFIG", "SET", "requirepass", one.new), one)
                    reply = connection.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                else:
                    continue
                ended += reply if isinstance(reply, int) else 0
                master = connection.ask("CONFIG", "GET", "masterauth")
                if isinstance(master, list) and master[1:] == [one.old.encode()]:
                    _must(connection.ask("CONFIG", "SET", "masterauth", one.new), one)
        return ended

    @staticmethod
    def _has_users(connection: redis_edge.Connection, one: Rotated) -> bool:
        reply = connection.ask("ACL", "GETUSER", one.name)
        return not isinstance(reply, ErrorReply) and reply is not None

    @staticmethod
    def _accepts_old(connection: redis_edge.Connection, one: Rotated) -> bool:
        reply = connection.ask("ACL", "GETUSER", one.name)
        digest = hashlib.sha256(one.old.encode()).hexdigest().encode()
        return isinstance(reply, list) and any(
            isinstance(item, list) and digest in item for item in reply
        )


def _authenticate(connection: redis_edge.Connection, user: str, password: str) -> Reply:
    words = [password] if user == _DEFAULT_USER else [user, password]
    return connection.ask("AUTH", *words)


def _must(reply: Reply, one: Rotated) -> None:
    if isinstance(reply, ErrorReply):
        text = scrub(reply.text, [one.old, one.new])
        raise RotationError(f'Redis refuses to change user "{one.name}": {text}')


class GrafanaLogin:
    """Grafana's administrator, by its HTTP API: the password of its environment counts only when
    its database is made. https://grafana.com/docs/grafana/latest/developers/http_api/user/"""

    def __init__(self, engine: EngineControl, stack: Stack, timeout_seconds: float) -> None:
        self._engine = engine
        self._timeout_seconds = timeout_seconds
        self.container = _running(stack, "grafana")

    def in_use(self) -> list[tuple[str, str]]:
        container = self.container
        reader = secret_reader(self._engine, container)
        environment = dict(container.environment)
        path = environment.get("GF_SECURITY_ADMIN_PASSWORD__FILE")
        if path:
            environment["GF_SECURITY_ADMIN_PASSWORD_FILE"] = path
        password = environment_value(environment, "GF_SECURITY_ADMIN_PASSWORD", reader)
        user = environment.get("GF_SECURITY_ADMIN_USER") or "admin"
        if not password:
            raise RotationError("Grafana's environment has no password")
        if not self.logs_in(user, password)[0]:
            raise RotationError(
                f'Grafana does not let "{user}" in with the password of its environment',
                f"docker exec {container.name} grafana cli admin reset-admin-password "
                "--password-from-stdin",
            )
        return [(user, password)]

    def logs_in(self, user: str, password: str) -> tuple[bool, str]:
        status, _body = self._ask(user, password, "GET", "/api/user")
        if status not in (200, 401, 403):
            raise RotationError(f"Grafana answers {status} to a login, expected 200 or 401")
        return status == 200, "the host"

    def change(self, rotated: Sequence[Rotated]) -> None:
        """Change the password and end the user's sessions, once it answers."""
        self._wait()
        for one in rotated:
            if not self.logs_in(one.name, one.new)[0]:
                status, _body = self._ask(
                    one.name,
                    one.old,
                    "PUT",
                    "/api/user/password",
                    {"oldPassword": one.old, "newPassword": one.new, "confirmNew": one.new},
                )
                if status != 200:
                    raise RotationError(f"Grafana answers {status} to a new password, expected 200")
            status, body = self._ask(one.name, one.new, "GET", "/api/user")
            identifier = int(json.loads(body)["id"]) if status == 200 else 0
            path = f"/api/admin/users/{identifier}/logout"
            status, _body = self._ask(one.name, one.new, "POST", path, {})
            if status != 200:
                raise RotationError(f"Grafana answers {status} to ending sessions, expected 200")

    def _wait(self) -> None:
        """It takes its time to start, and may have no health check."""
        deadline = time.monotonic() + _GRAFANA_SECONDS
        while True:
            try:
                self._ask("", "", "GET", "/api/health")
            except RotationError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def _ask(
        self, user: str, password: str, method: str, path: str, content: Any = None
    ) -> tuple[int, bytes]:
        container = self.container
        port = int(container.environment.get("GF_SERVER_HTTP_PORT") or 3000)
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        problem: object = "it has no address"
        for host, number in endpoints(container, port):
            connection = http.client.HTTPConnection(host, number, timeout=self._timeout_seconds)
            with contextlib.closing(connection):
                try:
                    body = None if content is None else json.dumps(content)
                    connection.request(method, path, body, headers)
                    answer = connection.getresponse()
                    return answer.status, answer.read(65536)
                except (OSError, http.client.HTTPException) as error:
                    problem = error
        raise RotationError(f"Grafana does not answer: {problem}")


class Witness:
    """Logs in from a container of its own on the project's network, where no rule for the local
    host lets it in. A context manager; the secrets are in a folder in memory while it lasts."""

    def __init__(self, engine: EngineControl, stack: Stack, settings: CheckSettings) -> None:
        self._engine = engine
        self._stack = stack
        self._settings = settings
        self._folder: Path = Path()

    def __enter__(self) -> Witness:
        self._folder = secrets_folder(self._stack.project)
        return self

    def __exit__(self, *_exception: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def postgres(self, role: str, password: str) -> tuple[bool, str]:
        """Whether PostgreSQL lets a role in, and from where that was tried. The program is told the
        password in a file, so that it has none to repeat."""
        server = _running(self._stack, "postgres")
        network, address = _network(server)
        write_atomically(self._folder / "pgpass", passfile_entry(role, password), 0o600)
        port = postgres_server_port(server.environment, server.command)
        reader = secret_reader(self._engine, server)
        database = postgres_server_credentials(server.environment, reader).database
        words = ["psql", "--host", address, "--port", str(port), "--username", role]
        words += ["--no-password", "--no-psqlrc", "--tuples-only", "--dbname", database]

        def answer(result: HelperResult) -> Optional[bool]:
            if result.exit_code == 0:
                return True
            return False if "password authentication failed" in result.stderr else None

        words += ["--command", "SELECT 1"]
        return self._seen(f'role "{role}"', server, network, words, answer)

    def redis(self, user: str, password: str) -> tuple[bool, str]:
        """Whether Redis lets a user in. The password goes to the client on its standard input."""
        server = _running(self._stack, "redis")
        network, address = _network(server)
        write_atomically(self._folder / "password", password, 0o600)
        reader = secret_reader(self._engine, server)
        known: RedisCredentials = redis_server_credentials(
            server.environment, server.command, reader
        )
        script = 'exec redis-cli "$@" < ' + f"{_MOUNT}/password"
        words = ["sh", "-c", script, "sh", "-h", address, "-p", str(known.port)]
        words += ["--tls", "--insecure"] if known.tls else []
        words += ["-x", "AUTH", *([] if user == _DEFAULT_USER else [user])]

        def answer(result: HelperResult) -> Optional[bool]:
            if result.stdout.strip() == "OK":
                return True
            refused = "WRONGPASS" in result.stdout or "invalid password" in result.stdout
            return False if refused else None

        return self._seen(f'user "{user}"', server, network, words, answer)

    def _seen(
        self,
        who: str,
        server: Container,
        network: str,
        words: Sequence[str],
        answer: Callable[[HelperResult], Optional[bool]],
    ) -> tuple[bool, str]:
        """What the server answered. A container that has only just joined a network may not reach
        it yet: no answer is asked for again, until the deadline."""
        deadline = time.monotonic() + _HELPER_SECONDS
        while True:
            result = self._run(server, network, words)
            let_in = answer(result)
            if let_in is not None:
                return let_in, f"a container on {network}"
            if time.monotonic() >= deadline:
                text = " ".join((result.stdout + result.stderr).split())[:200]
                raise RotationError(f"whether {who} is let in could not be seen: {text}")
            time.sleep(0.5)

    def _run(self, server: Container, network: str, words: Sequence[str]) -> HelperResult:
        helper = Helper(
            image=server.image_id,
            project=self._stack.project,
            network=network,
            mounts=[HelperMount(str(self._folder), _MOUNT)],
            environment={
                "PGPASSFILE": f"{_MOUNT}/pgpass",
                "PGCONNECT_TIMEOUT": "10",
                "LC_ALL": "C",
            },
        )
        return run_helper(self._engine, helper, words, _HELPER_SECONDS)


def _running(stack: Stack, component: str) -> Container:
    found = first_running(stack.component(component))
    if found is None:
        service = stack.service_of(component)
        raise RotationError(
            f"no container of {service} runs, expected one",
            f"docker compose -p {stack.project} up -d {service}",
        )
    return found


def _network(server: Container) -> tuple[str, str]:
    """A network that the server is on, and its address there."""
    for name, address in server.networks.items():
        if address and name != "host":
            return name, address
    raise RotationError(
        f"{server.name} is on no network of containers, from where another one could reach it"
    )
