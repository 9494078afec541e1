# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking PostgreSQL, from the host, over TCP.

Connections are asynchronous, because psycopg2's own timeouts do not cover a server that accepts
and then never answers, neither on connecting nor in the middle of a query. Sessions are read-only.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    postgres_server_port,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.endpoints import (
    route,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    Login,
    applications,
    connection_parameters,
    load_psycopg2,
    own_application,
    server_logins,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._endpoints import (
    Address,
    endpoints,
    first_running,
    place,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._postgres import (
    APP_LOGIN,
    CONNECTIONS,
    DEPENDANTS,
    OF_ONE_DATABASE,
    READY,
    Failure,
    Question,
    Rows,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    SKIPPED,
    UNKNOWN,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    Emit,
    skip,
)

#: The server breaks a statement off itself before the client loses patience.
STATEMENT_SHARE = 0.8
#: A query that waits for a lock is not worth waiting for.
LOCK_TIMEOUT_MS = 500
#: The share of the whole check's deadline that all queries together may take.
BUDGET_SHARE = 0.8

#: Refusals of one role that say nothing about another.
_ANOTHER_MAY_ENTER = (
    postgres.PASSWORD_REFUSED,
    postgres.PASSWORD_MISSING,
    postgres.ROLE_REFUSED,
    postgres.NOT_ALLOWED,
    postgres.ROLE_LIMIT,
)


class RefusedError(Exception):
    """No session came about."""

    def __init__(self, failure: Failure, address: Address) -> None:
        super().__init__(failure.text)
        self.failure = failure
        self.address = address


class SessionLostError(Exception):
    """The session ended, or nothing came back in time; nothing more can be asked."""


class QueryFailedError(Exception):
    """The server refused one query; others can follow."""


def collectors(stack: Stack, settings: CheckSettings, engine: Engine) -> list[Collector]:
    """The server as its administrator in one thread, the application's login in another."""
    service = stack.service_of("postgres")
    targets = [Target(identifier, service) for identifier in (READY, *DEPENDANTS)]
    login = Target(APP_LOGIN, service)
    return [
        Collector(
            "postgres",
            targets,
            lambda emit: _ServerCheck(stack, settings, engine, targets, emit).run(),
        ),
        Collector(
            "postgres-login",
            [login],
            lambda emit: emit(_measure_app_login(stack, settings, engine, login)),
        ),
    ]


# Connecting


class Session:
    """An asynchronous connection that is used as if it were not, to a deadline each time."""

    def __init__(self, psycopg2: Any, parameters: Mapping[str, Any], deadline: Deadline) -> None:
        self._psycopg2 = psycopg2
        self._connection = psycopg2.connect(async_=1, **parameters)
        try:
            self._wait(deadline)
        except BaseException:
            self.close()
            raise

    @property
    def version_number(self) -> int:
        """170006 for 17.6."""
        return int(self._connection.server_version)

    def query(self, sql: str, deadline: Deadline) -> Rows:
        """All rows; raises L{QueryFailedError}, or L{SessionLostError} when no other can follow.

        A statement that answers with no rows, such as VACUUM, gives none.
        """
        try:
            cursor = self._connection.cursor()
            cursor.execute(sql)
            self._wait(deadline)
            if cursor.description is None:
                return []
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row)) for row in cursor.fetchall()]
        except TimeoutError as error:
            self.close()
            raise SessionLostError(f"no answer within {deadline.seconds:.3g} s") from error
        except self._psycopg2.Error as error:
            if self._connection.closed:
                raise SessionLostError(str(error)) from error
            raise QueryFailedError(str(error)) from error

    def close(self) -> None:
        """Hang up, without waiting for anything."""
        with contextlib.suppress(self._psycopg2.Error):
            self._connection.close()

    def _wait(self, deadline: Deadline) -> None:
        extensions = self._psycopg2.extensions
        events = {
            extensions.POLL_READ: select.POLLIN,
            extensions.POLL_WRITE: select.POLLOUT,
        }
        while True:
            state = self._connection.poll()
            if state == extensions.POLL_OK:
                return
            poller = select.poll()  # not select(), which knows 1024 descriptors
            poller.register(self._connection.fileno(), events[state])
            if deadline.passed or not poller.poll(deadline.remaining * 1000.0):
                raise TimeoutError("timed out")


def _connect(
    psycopg2: Any,
    credentials: DatabaseCredentials,
    addresses: Sequence[Address],
    deadline: Deadline,
    options: str = "",
) -> Session:
    """A session through the first address that leads to a server; raises L{RefusedError}.

    The first address' failure is the one that is told: the others are ways round.
    """
    first: Optional[RefusedError] = None
    for index, address in enumerate(addresses):
        share = Deadline(deadline.remaining / (len(addresses) - index))
        try:
            return Session(psycopg2, connection_parameters(credentials, address, options), share)
        except TimeoutError:
            failure = Failure(postgres.TIMEOUT, "no answer in time")
        except (psycopg2.Error, UnicodeError) as error:
            failure = postgres.failure(str(error), [credentials.password])
        refused = RefusedError(failure, address)
        if failure.kind not in (postgres.REFUSED, postgres.UNREACHABLE, postgres.TIMEOUT):
            raise refused
        first = first or refused
    raise first or RefusedError(Failure(postgres.UNREACHABLE, "it has no address"), ("nowhere", 0))


class _ServerCheck:
    """Everything that is asked of one server as its administrator."""

    def __init__(
        self,
        stack: Stack,
        settings: CheckSettings,
        engine: Engine,
        targets: Sequence[Target],
        emit: Emit,
    ) -> None:
        self.stack = stack
        self.settings = settings
        self.engine = engine
        self.ready, *self.dependants = targets
        self.emit = emit
        self.secrets: list[Optional[str]] = [settings.postgres_password]
        self.problem = ""

    def run(self) -> None:
        containers = self.stack.component("postgres")
        if not containers and "postgres" not in self.stack.components:
            skip(
                (self.ready, *self.dependants),
                self.emit,
                f"the project has no PostgreSQL (looked for {self.ready.service})",
            )
            return
        server = first_running(containers)
        if server is None:
            self._not_ready(
                Measurement(
                    self.ready,
                    status=CRITICAL,
                    message=f"{describe(containers[0])}, expected running"
                    if containers
                    else f"{self.ready.service} has no container, expected one that runs",
                    hint=f"docker compose up -d {self.ready.service}; "
                    f"docker compose logs --tail 100 {self.ready.service}",
                )
            )
            return
        psycopg2 = load_psycopg2()
        budget = Deadline(self.settings.deadline_seconds * BUDGET_SHARE)
        session, who = self._open(psycopg2, server, len(containers), budget)
        if session is None or who is None:
            return
        try:
            self._ask(session, who, budget)
        finally:
            session.close()

    def _open(
        self, psycopg2: Any, server: Container, containers: int, budget: Deadline
    ) -> tuple[Optional[Session], Optional[postgres.Session]]:
        """A session, with postgres.ready answered; none where that could not be."""
        application = own_application(self.stack, self.engine, server)
        found = server_logins(self.engine, server, application, self.settings)
        logins, self.problem = found.logins, found.problem
        self.secrets.extend(found.secrets)
        wanted = (
            self.settings.postgres_database
            or (application.database if application is not None else "")
            or logins[0].credentials.database
        )
        databases = [wanted, logins[0].credentials.database, "postgres"]
        port = postgres_server_port(server.environment, server.command)
        deadline = Deadline(min(self.settings.call_timeout_seconds, budget.remaining))
        try:
            session, login, database = self._enter(
                psycopg2,
                logins,
                list(dict.fromkeys(name for name in databases if name)),
                endpoints(server, port),
                deadline,
            )
        except RefusedError as refused:
            self._refused(refused, logins[0].credentials.user)
            return None, None
        try:
            rows = session.query(postgres.SESSION_SQL, deadline)
        except (SessionLostError, QueryFailedError) as error:
            session.close()
            failure = postgres.failure(str(error), self.secrets)
            self._not_ready(
                Measurement(
                    self.ready,
                    status=CRITICAL,
                    message=f"the server lets the check in, but answers no query: {failure.text}",
                )
            )
            return None, None
        who = postgres.session(
            rows, session.version_number, wanted if database != wanted else "", login.note
        )
        self.emit(postgres.ready(self.ready, who, containers))
        return session, who

    def _enter(
        self,
        psycopg2: Any,
        logins: Sequence[Login],
        databases: Sequence[str],
        addresses: Sequence[Address],
        deadline: Deadline,
    ) -> tuple[Session, Login, str]:
        """The first login that is let in, to the first database that there is."""
        statement_ms = round(self.settings.call_timeout_seconds * STATEMENT_SHARE * 1000)
        options = (
            f"-c default_transaction_read_only=on -c statement_timeout={statement_ms} "
            f"-c lock_timeout={LOCK_TIMEOUT_MS}"
        )
        first: Optional[RefusedError] = None
        for login in logins:
            for database in databases:
                try:
                    session = _connect(
                        psycopg2,
                        replace(login.credentials, database=database),
                        addresses,
                        deadline,
                        options,
                    )
                except RefusedError as refused:
                    first = first or refused
                    if refused.failure.kind != postgres.NO_DATABASE:
                        if refused.failure.kind not in _ANOTHER_MAY_ENTER:
                            raise first from refused
                        break
                else:
                    return session, login, database
        if first is None:
            raise AssertionError("there is always a login and a database to try")
        raise first

    def _refused(self, refused: RefusedError, role: str) -> None:
        failure = refused.failure
        measurement = postgres.not_ready(self.ready, failure, place(refused.address), role)
        if self.problem:
            measurement = replace(measurement, message=f"{measurement.message}; {self.problem}")
        if failure.kind in (postgres.NO_SLOT, postgres.NO_ORDINARY_SLOT):
            connections, *others = self.dependants
            self.emit(measurement)
            self.emit(postgres.connections_exhausted(connections, failure))
            skip(others, self.emit, f"not measured: {CONNECTIONS} is critical")
            return
        self._not_ready(measurement)

    def _not_ready(self, measurement: Measurement) -> None:
        self.emit(measurement)
        skip(self.dependants, self.emit, f"not measured: {READY} is {measurement.status}")

    def _ask(self, session: Session, who: postgres.Session, budget: Deadline) -> None:
        by_id = {target.id: target for target in self.dependants}
        lost = ""
        for question in postgres.questions(who):
            target = by_id[question.id]
            if lost:
                self.emit(Measurement(target, status=SKIPPED, message=f"not measured: {lost}"))
            elif who.missing_database and question.id in OF_ONE_DATABASE:
                skip(
                    [target],
                    self.emit,
                    f'not measured: no session in database "{who.missing_database}"',
                )
            else:
                lost = self._one(session, who, question, target, budget)

    def _one(
        self,
        session: Session,
        who: postgres.Session,
        question: Question,
        target: Target,
        budget: Deadline,
    ) -> str:
        """Ask one question; a text where no other can follow."""
        deadline = Deadline(min(self.settings.call_timeout_seconds, budget.remaining))
        try:
            rows = session.query(question.sql, deadline)
        except QueryFailedError as error:
            self.emit(postgres.query_failed(target, str(error), self.secrets))
            return ""
        except SessionLostError as error:
            failure = postgres.failure(str(error), self.secrets)
            self.emit(
                Measurement(target, status=UNKNOWN, message=f"the session was lost: {failure.text}")
            )
            return f"the session was lost at {question.id}"
        for measurement in question.answer(target, rows, who):
            self.emit(measurement)
        return ""


# The application


def _measure_app_login(
    stack: Stack, settings: CheckSettings, engine: Engine, target: Target
) -> Measurement:
    """Whether the API's own credentials are let in, to its own database.

    Replicas that differ (half of them redeployed, say) are all tried; the first failure is told.
    """
    tried: list[tuple[object, ...]] = []
    measurement = Measurement(
        target,
        status=SKIPPED,
        message="the project has no API"
        if not stack.component("api")
        else "the API's environment names no PostgreSQL credentials",
    )
    deadline = Deadline(settings.call_timeout_seconds)
    try:
        for client, found in applications(stack, engine):
            key = (found and (found.hosts, found.user, found.password, found.database),)
            if found is None or key in tried or (tried and not client.running):
                continue
            tried.append(key)
            measurement = _login(stack, engine, (client, found), target, deadline)
            if measurement.status == CRITICAL:
                break
    except CredentialError as error:
        return Measurement(target, status=UNKNOWN, message=f"the API's credentials: {error}")
    return measurement


def _login(
    stack: Stack,
    engine: Engine,
    application: tuple[Container, DatabaseCredentials],
    target: Target,
    deadline: Deadline,
) -> Measurement:
    client, credentials = application
    server = first_running(stack.component("postgres"))
    hosts = list(credentials.hosts) or [("", credentials.port)]
    addresses: list[Address] = []
    own, problem, status = False, "", UNKNOWN
    for host, port in hosts:
        if not host and server is None:
            problem, status = "no host is named, and no PostgreSQL of the project runs", SKIPPED
            continue
        if not host and server is not None:
            own = True
            addresses.extend(endpoints(server, port))
            continue
        way = route(stack, engine, client, (host, port))
        problem, status = way.problem or problem, way.status
        addresses.extend(way.addresses)
        if way.container is not None and way.container in stack.component("postgres"):
            own = True
            if not way.container.running:
                status = SKIPPED
                problem = f"not measured: {READY} is critical"
    if not addresses:
        return Measurement(target, status=status, message=problem)
    who = (credentials.user, credentials.database, credentials.source)
    psycopg2 = load_psycopg2()
    try:
        session = _connect(psycopg2, credentials, addresses, deadline)
    except RefusedError as refused:
        return _no_login(target, who, refused, own, server)
    try:
        session.query("SELECT 1 AS answer", deadline)
    except (SessionLostError, QueryFailedError) as error:
        text = postgres.failure(str(error), [credentials.password]).text
        return Measurement(
            target, status=UNKNOWN, message=f"the login worked, but no query did: {text}"
        )
    finally:
        session.close()
    return postgres.app_login(target, *who, None)


def _no_login(
    target: Target,
    who: tuple[str, str, str],
    refused: RefusedError,
    own: bool,
    server: Optional[Container],
) -> Measurement:
    """A server that says no is told as such; one that says nothing is postgres.ready's news,
    unless the application looks for it at a port where it never was."""
    failure = refused.failure
    if failure.kind in postgres.SPOKEN or failure.kind == postgres.OTHER:
        return postgres.app_login(target, *who, failure)
    if own and server is not None:
        port = postgres_server_port(server.environment, server.command)
        if failure.kind != postgres.REFUSED or refused.address[1] == port:
            return Measurement(
                target,
                status=SKIPPED,
                message=f"not measured: the server does not answer ({READY})",
            )
    return Measurement(
        target,
        status=CRITICAL,
        message=f"{who[2]} of the API leads to {place(refused.address)}, "
        f"where no PostgreSQL answers: {failure.text}",
    )
