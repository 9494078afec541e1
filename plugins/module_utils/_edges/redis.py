# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking Redis, from the host, over TCP, with a client of our own: a few commands need no
library on the server, and every byte is waited for to one deadline."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ansible_collections.pynomaly.ops.plugins.module_utils import _redis as redis
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import describe
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import (
    CredentialError,
    RedisCredentials,
    application_redis_credentials,
    redis_server_credentials,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.endpoints import (
    Route,
    route,
    secret_reader,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._endpoints import (
    Address,
    endpoints,
    first_running,
    place,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    SKIPPED,
    UNKNOWN,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._redis import (
    APP_LOGIN,
    CLIENTS,
    DEPENDANTS,
    PING,
    ErrorReply,
    ProtocolError,
    Reply,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    Emit,
    skip,
)

#: Refusals of one login that say nothing about another.
_ANOTHER_MAY_ENTER = (redis.NO_PASSWORD, redis.WRONG_PASSWORD, redis.NO_PASSWORD_NEEDED)


class NoAnswerError(Exception):
    """Nothing that speaks Redis' protocol; the text says what was seen instead."""

    def __init__(self, message: str, address: Address) -> None:
        super().__init__(message)
        self.address = address


class Connection:
    """One connection, every call of which shares a deadline. Raises L{NoAnswerError}."""

    def __init__(self, address: Address, tls: bool, deadline: Deadline) -> None:
        self._address = address
        self._deadline = deadline
        self._buffer = b""
        with self._telling():
            self._socket: socket.socket = socket.create_connection(
                address, timeout=max(0.001, deadline.remaining)
            )
            if tls:
                self._socket = self._wrap(self._socket)

    def _wrap(self, plain: socket.socket) -> socket.socket:
        """Certificates are not checked here: the client's own authority is in its container."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            plain.settimeout(max(0.001, self._deadline.remaining))
            return context.wrap_socket(plain)
        except BaseException:
            plain.close()
            raise

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """What goes wrong underneath, told as L{NoAnswerError}."""
        where = place(self._address)
        try:
            yield
        except ConnectionRefusedError as error:
            raise NoAnswerError(
                f"nothing listens on {where}, expected Redis", self._address
            ) from error
        except socket.timeout as error:
            raise NoAnswerError(
                f"no answer from {where} within {self._deadline.seconds:.3g} s", self._address
            ) from error
        except ProtocolError as error:
            raise NoAnswerError(f"{where} answers, but not as Redis: {error}", self._address) from (
                error
            )
        except OSError as error:
            raise NoAnswerError(
                f"{where} cannot be reached: {error.strerror or error}", self._address
            ) from error

    def extend(self, deadline: Deadline) -> None:
        """Another deadline for what follows."""
        self._deadline = deadline

    def ask(self, *words: str) -> Reply:
        """The server's reply to a command; an error that it answers is one."""
        with self._telling():
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # A server that is full says so and hangs up before it has read anything.
                self._socket.settimeout(max(0.001, self._deadline.remaining))
                self._socket.sendall(redis.encode_command(*words))
            return self._reply()

    def _reply(self) -> Reply:
        while True:
            found = redis.parse_reply(self._buffer)
            if found is not None:
                reply, end = found
                self._buffer = self._buffer[end:]
                return reply
            if self._deadline.passed:
                raise socket.timeout("timed out")
            self._socket.settimeout(max(0.001, self._deadline.remaining))
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionResetError(None, "the connection was closed without an answer")
            self._buffer += data

    def close(self) -> None:
        self._socket.close()


def collectors(stack: Stack, settings: CheckSettings, engine: Engine) -> list[Collector]:
    """The server in one thread, the application's login in another."""
    service = stack.service_of("redis")
    targets = [Target(identifier, service) for identifier in (PING, *DEPENDANTS)]
    login = Target(APP_LOGIN, service)
    return [
        Collector(
            "redis", targets, lambda emit: _measure_server(stack, settings, engine, targets, emit)
        ),
        Collector(
            "redis-login",
            [login],
            lambda emit: emit(_measure_app_login(stack, settings, engine, login)),
        ),
    ]


def _connect(addresses: Sequence[Address], tls: bool, deadline: Deadline) -> Connection:
    """Through the first address where something accepts; the first failure is the one told."""
    first: NoAnswerError | None = None
    for index, address in enumerate(addresses):
        share = Deadline(deadline.remaining / (len(addresses) - index))
        try:
            connection = Connection(address, tls, share)
        except NoAnswerError as error:
            first = first or error
        else:
            connection.extend(deadline)
            return connection
    raise first or NoAnswerError("the container has no address", ("nowhere", 0))


def _enter(
    addresses: Sequence[Address], credentials: RedisCredentials, deadline: Deadline
) -> tuple[Connection, Reply]:
    """A connection, logged in where there is a password, and what it said to PING (or to AUTH,
    where that was refused)."""
    connection = _connect(addresses, credentials.tls, deadline)
    try:
        if credentials.password:
            user = [credentials.username] if credentials.username else []
            answer = connection.ask("AUTH", *user, credentials.password)
            if isinstance(answer, ErrorReply):
                return connection, answer
        return connection, connection.ask("PING")
    except BaseException:
        connection.close()
        raise


# The server


def _measure_server(
    stack: Stack,
    settings: CheckSettings,
    engine: Engine,
    targets: Sequence[Target],
    emit: Emit,
) -> None:
    ping, *dependants = targets
    containers = stack.component("redis")
    if not containers and "redis" not in stack.components:
        skip(targets, emit, f"the project has no Redis (looked for {ping.service})")
        return

    def failed(measurement: Measurement) -> None:
        emit(measurement)
        skip(dependants, emit, f"not measured: {PING} is {measurement.status}")

    server = first_running(containers)
    if server is None:
        seen = (
            f"{describe(containers[0])}, expected running"
            if containers
            else f"{ping.service} has no container, expected one that runs"
        )
        hint = f"docker compose up -d {ping.service}; docker compose logs --tail 100 {ping.service}"
        failed(Measurement(ping, status=CRITICAL, message=seen, hint=hint))
        return
    logins, problem = _logins(stack, settings, engine, server)
    deadline = Deadline(settings.call_timeout_seconds)
    addresses = endpoints(server, logins[0].port)
    try:
        connection, reply = _first_let_in(addresses, logins, deadline)
    except NoAnswerError as error:
        failed(Measurement(ping, status=CRITICAL, message=str(error)))
        return
    try:
        if isinstance(reply, ErrorReply) and reply.code == redis.FULL:
            emit(redis.refused(ping, reply, {}))
            exhausted, *others = dependants
            emit(redis.clients_exhausted(exhausted, reply))
            skip(others, emit, f"not measured: {CLIENTS} is critical")
            return
        _ask(connection, reply, (server, len(containers), problem), targets, emit)
    finally:
        connection.close()


def _ask(
    connection: Connection,
    reply: Reply,
    context: tuple[Container, int, str],
    targets: Sequence[Target],
    emit: Emit,
) -> None:
    server, containers, problem = context
    ping, *dependants = targets
    try:
        info = _info(connection)
    except NoAnswerError as error:
        emit(
            Measurement(ping, status=CRITICAL, message=f"PING was answered, INFO was not: {error}")
        )
        skip(dependants, emit, f"not measured: {PING} is {CRITICAL}")
        return
    known: Mapping[str, str] = {} if isinstance(info, ErrorReply) else info
    measurement = redis.ping(ping, reply, known, containers)
    if problem and measurement.status == CRITICAL:
        measurement = replace(measurement, message=f"{measurement.message}; {problem}")
    emit(measurement)
    if isinstance(reply, ErrorReply) and reply.code != redis.CANNOT_PERSIST:
        skip(dependants, emit, f"not measured: {PING} is {measurement.status}")
        return
    if isinstance(info, ErrorReply):
        for target in dependants:
            emit(
                Measurement(
                    target,
                    status=UNKNOWN,
                    message=f"the server refuses INFO: {info.text}",
                    hint="allow the user INFO (ACL SETUSER … +info)",
                )
            )
        return
    save = _config(connection, "save")
    maximum = None if "maxclients" in info else _config(connection, "maxclients")
    by_id = {target.id: target for target in dependants}
    emit(redis.clients(by_id[CLIENTS], info, maximum))
    emit(redis.memory(by_id["redis.memory"], info, server.memory_limit_bytes))
    emit(redis.evictions(by_id["redis.evictions"], info))
    emit(redis.rejected_connections(by_id["redis.rejected_connections"], info))
    emit(redis.last_save(by_id["redis.last_save"], info, save, time.time()))
    emit(redis.replication(by_id["redis.replication"], info))


def _info(connection: Connection) -> Mapping[str, str] | ErrorReply:
    reply = connection.ask("INFO")
    if isinstance(reply, ErrorReply):
        return reply
    return redis.parse_info(reply.decode("utf-8", "replace") if isinstance(reply, bytes) else "")


def _config(connection: Connection, name: str) -> str | None:
    """A setting, or C{None}: managed servers and careful ACLs forbid CONFIG."""
    try:
        return redis.config_value(connection.ask("CONFIG", "GET", name))
    except NoAnswerError:
        return None


def _first_let_in(
    addresses: Sequence[Address], logins: Sequence[RedisCredentials], deadline: Deadline
) -> tuple[Connection, Reply]:
    first: tuple[Connection, Reply] | None = None
    for login in logins:
        connection, reply = _enter(addresses, login, deadline)
        if not (isinstance(reply, ErrorReply) and reply.code in _ANOTHER_MAY_ENTER):
            if first is not None:
                first[0].close()
            return connection, reply
        if first is None:
            first = (connection, reply)
        else:
            connection.close()
    if first is None:
        raise AssertionError("there is always a login to try")
    return first


def _logins(
    stack: Stack, settings: CheckSettings, engine: Engine, server: Container
) -> tuple[Sequence[RedisCredentials], str]:
    """Who to look as: whom the user names, else what the server was started with, else the
    application, else nobody in particular; and what could not be read on the way."""
    problem = ""
    try:
        own = redis_server_credentials(
            server.environment, server.command, secret_reader(engine, server)
        )
    except CredentialError as error:
        own, problem = RedisCredentials(), str(error)
    if settings.redis_password:
        named = replace(
            own, username=settings.redis_username or "", password=settings.redis_password
        )
        return [named], problem
    logins = [own] if own.password else []
    try:
        for container in stack.component("api"):
            found = application_redis_credentials(
                container.environment, secret_reader(engine, container)
            )
            if found is not None and found.password:
                # The server is the one looked at, whatever the name the application has for it.
                logins.append(replace(own, username=found.username, password=found.password))
    except CredentialError:
        pass  # redis.app_login tells of it
    logins.append(replace(own, username="", password=None))
    return list(dict.fromkeys(logins)), problem


# A session to work with


@contextlib.contextmanager
def session(
    stack: Stack, settings: CheckSettings, engine: Engine, server: Container, deadline: Deadline
) -> Iterator[Connection]:
    """A connection to a running server of the project's, logged in as L{collectors} log in.

    Raises L{NoAnswerError}, also where nobody is let in.
    """
    logins, problem = _logins(stack, settings, engine, server)
    addresses = endpoints(server, logins[0].port)
    connection, reply = _first_let_in(addresses, logins, deadline)
    with contextlib.closing(connection):
        if isinstance(reply, ErrorReply) and reply.code != redis.CANNOT_PERSIST:
            known = f"; {problem}" if problem else ""
            raise NoAnswerError(
                f"{place(addresses[0])} lets nobody in: {reply.code}{known}", addresses[0]
            )
        yield connection


# The application


def _measure_app_login(
    stack: Stack, settings: CheckSettings, engine: Engine, target: Target
) -> Measurement:
    """Whether the API's own Redis credentials are let in. Replicas that differ are all tried; the
    first failure is told."""
    clients = sorted(stack.component("api"), key=lambda one: (not one.running, one.number))
    measurement = Measurement(
        target,
        status=SKIPPED,
        message="the API's environment names no Redis" if clients else "the project has no API",
    )
    deadline = Deadline(settings.call_timeout_seconds)
    tried: list[RedisCredentials] = []
    try:
        for client in clients:
            found = application_redis_credentials(client.environment, secret_reader(engine, client))
            if found is None or found in tried or (tried and not client.running):
                continue
            tried.append(found)
            measurement = _login(stack, engine, (client, found), target, deadline)
            if measurement.status == CRITICAL:
                break
    except CredentialError as error:
        return Measurement(target, status=UNKNOWN, message=f"the API's credentials: {error}")
    return measurement


def _login(
    stack: Stack,
    engine: Engine,
    application: tuple[Container, RedisCredentials],
    target: Target,
    deadline: Deadline,
) -> Measurement:
    client, credentials = application
    server = first_running(stack.component("redis"))
    if credentials.host:
        way = route(stack, engine, client, (credentials.host, credentials.port))
    elif server is not None:
        way = Route(endpoints(server, credentials.port), server)
    else:
        way = Route(problem="no host is named, and no Redis of the project runs", status=SKIPPED)
    own = way.container is not None and way.container in stack.component("redis")
    if not way.addresses:
        if own:
            return Measurement(target, status=SKIPPED, message=f"not measured: {PING} is critical")
        return Measurement(target, status=way.status, message=way.problem)
    try:
        connection, reply = _enter(way.addresses, credentials, deadline)
    except NoAnswerError as error:
        return _no_login(engine, way, error, own, (credentials, target))
    connection.close()
    return redis.app_login(
        target, credentials.username, credentials.source, reply, [credentials.password]
    )


def _no_login(
    engine: Engine,
    way: Route,
    error: NoAnswerError,
    own: bool,
    context: tuple[RedisCredentials, Target],
) -> Measurement:
    """A server that says nothing is redis.ping's news, unless the application looks for it at a
    port where it never was."""
    credentials, target = context
    if own and way.container is not None:
        try:
            server = redis_server_credentials(
                way.container.environment,
                way.container.command,
                secret_reader(engine, way.container),
            )
        except CredentialError:
            server = RedisCredentials(port=credentials.port, tls=credentials.tls)
        if (server.port, server.tls) == (credentials.port, credentials.tls):
            return Measurement(
                target, status=SKIPPED, message=f"not measured: the server does not answer ({PING})"
            )
    return Measurement(
        target,
        status=CRITICAL,
        message=f"{credentials.source} of the API leads to {place(error.address)}, "
        f"where no Redis answers: {error}",
    )
