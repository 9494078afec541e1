# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restored database takes the application's place, or the one before takes it back: both names
change in one transaction, with nobody inside. Everything until the API is well again is one call,
so that it takes as little time as it can, and is undone where it fails."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._api import (
    NoFrontDoorError,
    api_secrets,
    replica_endpoint,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import by_service
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import DatabaseCredentials
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.api import ask_health
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import utc_now
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import discover
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.database_administration import (
    CLOSED_STATE,
    SCRATCH_STATE,
    administration,
    database_comments,
    drop_scratch,
    execute,
    exists,
    find_administrator,
    reopen_database,
    rows,
    set_comment,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.maintenance import (
    STATE as PAGE_STATE,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.maintenance import (
    PreparedPage,
    page_off,
    prepare,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
    PostgresServer,
    connect,
    load_psycopg2,
    own_application,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    RESUME,
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance import (
    MaintenanceError,
    NoPageError,
    Page,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_restore import (
    KEPT,
    SCRATCH,
    Mark,
    encode_mark,
    expired,
    free_dated_name,
    marked,
    new_mark,
    swapped_lines,
    undo_command,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import OK
from ansible_collections.pynomaly.ops.plugins.module_utils._resume import end_of

#: What is asked for: a restored database takes the live one's place, or the one before does.
SWAP = "swap"
ROLLBACK = "rollback"
MODES = (SWAP, ROLLBACK)

_ENGINE_TIMEOUT_SECONDS = 60.0
_RETRY_AFTER_SECONDS = 5
_POLL_SECONDS = 0.05
#: The server itself waits for up to 5 s for others to leave: CountOtherDBBackends, and
#: https://www.postgresql.org/docs/current/sql-alterdatabase.html
_RENAME_TIMEOUT_SECONDS = 15.0

_TERMINATE = """
SELECT coalesce(usename, backend_type), coalesce(host(client_addr), 'the server itself'),
       coalesce(nullif(application_name, ''), '-'), pg_catalog.pg_terminate_backend(pid)
  FROM pg_catalog.pg_stat_activity
 WHERE datname = ANY (%s) AND pid <> pg_catalog.pg_backend_pid()
"""

_PREPARED = "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = ANY (%s)"

Step = Callable[[str], None]


@dataclass(frozen=True)
class SwapSettings:
    """``incoming`` is the restored database; for a rollback one that was kept, by default the
    newest. ``drain_timeout_seconds`` is how long it may take until nobody is inside,
    ``api_timeout_seconds`` until the API is as well as it was."""

    project: str
    mode: str = SWAP
    incoming: str = ""
    keep_days: float = 7.0
    drain_timeout_seconds: float = 30.0
    api_timeout_seconds: float = 60.0
    api_health_path: str = "/health"
    api_port: Optional[int] = None
    service_names: Mapping[str, str] = field(default_factory=dict)
    postgres_user: str = ""
    postgres_password: str = field(default="", repr=False)
    postgres_database: str = ""
    call_timeout_seconds: float = 10.0

    def validate(self) -> None:
        """Raise L{PostgresError} for what makes no sense."""
        if self.mode not in MODES:
            raise PostgresError(f"mode: seen {self.mode!r}, expected one of {', '.join(MODES)}")
        if self.mode == SWAP and not self.incoming:
            raise PostgresError("incoming: seen nothing, expected the restored database's name")
        for name in ("drain_timeout_seconds", "api_timeout_seconds", "call_timeout_seconds"):
            if getattr(self, name) <= 0:
                raise PostgresError(f"{name}: seen {getattr(self, name)}, expected more than 0")
        if self.keep_days < 0:
            raise PostgresError(f"keep_days: seen {self.keep_days}, expected 0 or more")

    @property
    def check_settings(self) -> CheckSettings:
        return CheckSettings(
            call_timeout_seconds=self.call_timeout_seconds,
            api_health_path=self.api_health_path,
            api_port=self.api_port,
            postgres_user=self.postgres_user or None,
            postgres_password=self.postgres_password or None,
            postgres_database=self.postgres_database or None,
        )


class MaintenanceSwitch:
    """nginx's maintenance page for the time without service; none where the stack can show none,
    of which ``reason`` tells. One that is on already stays as it is."""

    def __init__(
        self, engine: EngineControl, stack: Stack, states: TemporaryStates, settings: SwapSettings
    ) -> None:
        self._engine = engine
        self._stack = stack
        self._states = states
        self._settings = settings
        self._page: Optional[PreparedPage] = None
        self.reason = ""

    def prepare(self, now: datetime.datetime) -> None:
        """Do what takes its time. Raises L{PostgresError}."""
        pages = [one for one in self._states.left() if one["temporary_state"] == PAGE_STATE]
        if any((end_of(one) or now) > now for one in pages):
            self.reason = "one is on already, and stays on"
            return
        seconds = self._settings.drain_timeout_seconds + 2 * self._settings.api_timeout_seconds
        path = self._settings.api_health_path
        page = Page(
            until=(now + datetime.timedelta(seconds=2 * seconds + 60)).replace(microsecond=0),
            exempt_paths=(path,),
            retry_after_seconds=_RETRY_AFTER_SECONDS,
        )
        with _page_errors("nothing was changed"):
            try:
                self._page = prepare(self._engine, self._stack, page, health_path=path)
            except NoPageError as error:
                self.reason = str(error)

    def on(self) -> bool:
        """Whether it is on now, and is the caller's to take off. Raises L{PostgresError}."""
        if self._page is None:
            return False
        with _page_errors("nothing was changed"):
            self._page.show(self._states)
        return True

    def off(self) -> None:
        """Take it off. Raises L{PostgresError} where it is still on."""
        with _page_errors("the page is left on"):
            page_off(self._engine, self._stack, self._states)


@contextlib.contextmanager
def _page_errors(what: str) -> Iterator[None]:
    try:
        yield
    except MaintenanceError as error:
        raise PostgresError(f"{error}; {what}", error.hint or RESUME) from error


@dataclass(frozen=True)
class Exchange:
    """``incoming`` gets the name ``live``, and what had it the name ``outgoing``, each with a
    comment."""

    live: str
    incoming: str
    outgoing: str
    live_comment: str
    outgoing_comment: str


@dataclass
class Window:
    """What the time without service was made of."""

    ended_sessions: int = 0
    closed_seconds: float = 0.0
    seconds: float = 0.0
    page: bool = False


def run(
    settings: SwapSettings,
    states: TemporaryStates,
    check_mode: bool = False,
    *,
    clock: Callable[[], datetime.datetime] = utc_now,
    step: Step = lambda _name: None,
) -> dict[str, Any]:
    """Change the databases; what the module returns. Under the host's lock.

    ``step`` is told what is about to be done. Raises L{PostgresError} and C{EngineError} with the
    live database as it was and open, but where the text says otherwise; a restored database that
    did not get its place is dropped.
    """
    settings.validate()
    engine = EngineControl(_ENGINE_TIMEOUT_SECONDS)
    stack = discover(engine, settings.project, settings.check_settings, settings.service_names)
    server = find_administrator(stack, engine, settings.check_settings)
    now = clock()
    exchange, mark = _exchange(settings, server, now)
    answer: dict[str, Any] = {
        "changed": True,
        "database": exchange.live,
        "incoming": exchange.incoming,
        "kept": exchange.outgoing,
        "backup": mark.backup,
        "seconds_without_service": 0.0,
        "seconds_closed": 0.0,
        "ended_sessions": 0,
        "page": False,
        "dropped": [],
        "asked": [],
        "remarks": [],
        "undo": undo_command(settings.project),
    }
    if check_mode:
        return {**answer, "lines": swapped_lines(answer, check_mode=True)}
    watch = Watch(engine, stack, settings, server, exchange.live)
    swap = Swap(settings, states, server, exchange, mark, watch, step)
    if settings.mode == SWAP:
        # It is proved: the roles that were made for it stay from here on.
        summary = f'database "{exchange.incoming}" is about to replace "{exchange.live}"'
        states.open(SCRATCH_STATE, summary, {"database": exchange.incoming})
    try:
        watch.begin()
        switch = MaintenanceSwitch(engine, stack, states, settings)
        switch.prepare(now)
        window = swap.run(switch)
    except BaseException:
        if settings.mode == SWAP:
            drop_scratch(server, {"database": exchange.incoming})
            states.close(SCRATCH_STATE, f'database "{exchange.incoming}" is gone')
        raise
    answer.update(
        seconds_without_service=round(window.seconds, 3),
        seconds_closed=round(window.closed_seconds, 3),
        ended_sessions=window.ended_sessions,
        page=window.page,
        asked=sorted(watch.expected),
        remarks=watch.remarks,
    )
    if settings.mode == SWAP:
        try:
            answer["dropped"] = drop_expired(
                server, settings.project, settings.keep_days, now, just_kept=exchange.outgoing
            )
        except PostgresError as error:
            watch.remarks.append(str(error))
    return {**answer, "lines": swapped_lines(answer, check_mode=False)}


def drop_expired(
    server: PostgresServer,
    project: str,
    keep_days: float,
    now: datetime.datetime,
    *,
    just_kept: str = "",
) -> list[str]:
    """Drop the databases that restores have replaced, once they are older than so many days.

    Only those with a name and a comment that L{run} has given; returns their names. Raises
    L{PostgresError}.
    """
    database = server.database
    what = "the databases kept before could not be dropped"
    with administration(server, database, what) as connection:
        kept = marked(database_comments(connection), KEPT, project, database)
        names = expired(kept, keep_days, now, just_kept)
        for name in names:
            execute(connection, "DROP DATABASE {name} WITH (FORCE)", name=name)
    return names


def _exchange(
    settings: SwapSettings, server: PostgresServer, now: datetime.datetime
) -> tuple[Exchange, Mark]:
    """What is to become what; refuses what is not proved, or not ours."""
    live = server.database
    kind, playbook = (SCRATCH, "restore") if settings.mode == SWAP else (KEPT, "restore_rollback")
    if not server.is_superuser:
        raise PostgresError(
            f'role "{server.login.user}" is no superuser, expected one: it has to end '
            "everybody's sessions",
            "name one: pynomaly_check_postgres_user and pynomaly_check_postgres_password",
        )
    with administration(server, live, "the databases could not be read") as connection:
        comments = database_comments(connection)
    if live not in comments:
        raise PostgresError(f'database "{live}": seen none, expected the live one', RESUME)
    offered = marked(comments, kind, settings.project, live)
    incoming = settings.incoming or next(iter(offered), "")
    if incoming not in offered:
        seen = ", ".join(f'"{name}"' for name in offered) or "none"
        wanted = f'"{incoming}"' if incoming else f'one that replaced "{live}" before'
        raise PostgresError(
            f'no database to put in the place of "{live}": seen {seen}, expected {wanted}',
            f"ansible-playbook pynomaly.ops.restore -e confirm=restore:{settings.project}"
            if kind == SCRATCH or not offered
            else f"ansible-playbook pynomaly.ops.{playbook}",
        )
    mark = offered[incoming]
    outgoing = free_dated_name(live, KEPT, now, comments)
    kept_mark = new_mark(
        KEPT, settings.project, live, now, backup=mark.backup, comment=comments[live]
    )
    return Exchange(live, incoming, outgoing, mark.comment, encode_mark(kept_mark)), mark


# Without service


@dataclass(frozen=True)
class Swap:
    """One change of databases, until the API is as well as it was."""

    settings: SwapSettings
    states: TemporaryStates
    server: PostgresServer
    exchange: Exchange
    mark: Mark
    watch: Watch
    step: Step

    def run(self, switch: MaintenanceSwitch) -> Window:
        """Raises L{PostgresError} where the database before is in its place, or could not be put
        back there, which the text tells."""
        window = Window()
        what = f'database "{self.exchange.live}" could not be replaced'
        with self._administration(what) as connection:
            began = time.monotonic()
            with self._page(switch, window):
                self._replace(connection, self.exchange, window)
                if self.settings.mode == SWAP:
                    self.states.close(SCRATCH_STATE, f'it is "{self.exchange.live}" now')
                self.step("api")
                problem = self.watch.wait()
                if problem:
                    self._take_back(problem)
            window.seconds = time.monotonic() - began
        return window

    def _administration(self, what: str) -> contextlib.AbstractContextManager[Any]:
        return administration(
            self.server,
            self.exchange.live,
            what,
            statement_timeout_seconds=_RENAME_TIMEOUT_SECONDS,
        )

    @contextlib.contextmanager
    def _page(self, switch: MaintenanceSwitch, window: Window) -> Iterator[None]:
        self.step("page")
        window.page = switch.on()
        if not window.page:
            self.watch.remarks.append(f"no maintenance page: {switch.reason}")
        try:
            yield
        finally:
            self.step("page_off")
            if window.page:
                switch.off()

    def _replace(self, connection: Any, exchange: Exchange, window: Window) -> None:
        """Close the live database, see everybody out, and change the names; where that fails, open
        it again."""
        self.states.open(
            CLOSED_STATE,
            f'database "{exchange.live}" is closed while "{exchange.incoming}" takes its place',
            {"database": exchange.live},
        )
        began = time.monotonic()
        self.step("close")
        try:
            execute(connection, "ALTER DATABASE {live} ALLOW_CONNECTIONS false", live=exchange.live)
            self.step("drain")
            window.ended_sessions += self._drain_and_rename(connection, exchange)
        except BaseException:
            reopen_database(self.server, exchange.live)
            self.states.close(CLOSED_STATE, "it is open again, nothing was replaced")
            raise
        self.step("renamed")
        self.states.close(CLOSED_STATE, f'"{exchange.incoming}" has taken its place')
        window.closed_seconds += time.monotonic() - began

    def _drain_and_rename(self, connection: Any, exchange: Exchange) -> int:
        """End sessions until there are none, and rename; again where somebody came in between.

        Returns how many sessions were ended.
        """
        errors = importlib.import_module("psycopg2.errors")
        deadline = Deadline(self.settings.drain_timeout_seconds)
        ended = 0
        while True:
            seen = rows(connection, _TERMINATE, ([exchange.live, exchange.incoming],))
            ended += sum(bool(row[3]) for row in seen)
            if seen:
                problem = "; ".join(f"{row[0]} from {row[1]} ({row[2]})" for row in seen[:3])
            else:
                self.step("rename")
                try:
                    _rename(connection, self.server, exchange)
                except (errors.ObjectInUse, errors.LockNotAvailable) as error:
                    problem = str(error).splitlines()[0]
                else:
                    return ended
            if deadline.passed:
                raise PostgresError(
                    f'database "{exchange.live}" is still in use after {deadline.seconds:g} s: '
                    f"seen {problem}{_prepared(connection, exchange)}, expected nobody; it is open "
                    "again, and nothing was replaced",
                    "stop what comes back all the time, or give it longer: "
                    "-e postgres_restore_drain_timeout_seconds=120",
                )
            time.sleep(_POLL_SECONDS)

    def _take_back(self, problem: str) -> NoReturn:
        """Change the databases back, since the API is not well."""
        exchange, project = self.exchange, self.settings.project
        with self._administration("the database before could not be put back") as connection:
            comments = database_comments(connection)
            before = marked(comments, KEPT, project, exchange.live)[exchange.outgoing]
            back = Exchange(
                live=exchange.live,
                incoming=exchange.outgoing,
                outgoing=exchange.incoming,
                live_comment=before.comment,
                outgoing_comment=encode_mark(self.mark),
            )
            try:
                self._replace(connection, back, Window())
            except PostgresError as error:
                raise PostgresError(
                    f'"{exchange.incoming}" is "{exchange.live}" now, the API is not well with it '
                    f"({problem}), and it could not be taken back: {error}",
                    "ansible-playbook pynomaly.ops.restore_rollback "
                    f"-e confirm=restore_rollback:{project}",
                ) from error
        after = self.watch.wait()
        raise PostgresError(
            f"the API was not well within {self.settings.api_timeout_seconds:g} s after database "
            f'"{exchange.live}" was replaced: seen {problem}; expected it as well as before; the '
            "database before is back in its place"
            + (f", and the API is still not well: {after}" if after else ", and the API is well"),
            "restore beside the live database, and look: ansible-playbook pynomaly.ops.restore "
            f"-e confirm=restore:{project} -e postgres_restore_target=NAME",
        )


def _prepared(connection: Any, exchange: Exchange) -> str:
    found = rows(connection, _PREPARED, ([exchange.live, exchange.incoming],))
    return f", {len(found)} prepared transactions" if found else ""


def _rename(connection: Any, server: PostgresServer, exchange: Exchange) -> None:
    """Both names in one transaction, or neither."""
    psycopg2 = load_psycopg2()
    live, incoming, outgoing = exchange.live, exchange.incoming, exchange.outgoing
    try:
        execute(connection, "BEGIN")
        execute(connection, "ALTER DATABASE {a} RENAME TO {b}", a=live, b=outgoing)
        execute(connection, "ALTER DATABASE {a} RENAME TO {b}", a=incoming, b=live)
        set_comment(connection, live, exchange.live_comment)
        set_comment(connection, outgoing, exchange.outgoing_comment)
        execute(connection, "ALTER DATABASE {live} ALLOW_CONNECTIONS true", live=live)
        execute(connection, "COMMIT")
    except psycopg2.Error:
        if not connection.closed:
            execute(connection, "ROLLBACK")
            raise
        # The answer was lost, which does not tell whether the names were changed.
        with administration(server, live, "the databases could not be read") as other:
            if not exists(other, outgoing):
                raise
    except BaseException:
        connection.close()
        raise


# Whether the API is well


class Watch:
    """The API's replicas, and its login to the database: what was well before has to be again."""

    def __init__(
        self,
        engine: EngineControl,
        stack: Stack,
        settings: SwapSettings,
        server: PostgresServer,
        database: str,
    ) -> None:
        self._engine = engine
        self._stack = stack
        self._settings = settings
        self._server = server
        self._database = database
        self._application: Optional[DatabaseCredentials] = own_application(
            stack, engine, server.container
        )
        self.expected: set[str] = set()
        self.remarks: list[str] = []

    def begin(self) -> None:
        """Remember what is well now."""
        seen = self._look(self._stack.component("api"))
        self.expected = {name for name, problem in seen.items() if not problem}
        self.remarks += [
            f"not waited for, since it was not well before: {name}: {problem}"
            for name, problem in sorted(seen.items())
            if problem
        ]
        if not self._stack.component("api"):
            self.remarks.append("the project has no API that could be asked")

    def wait(self) -> str:
        """Until all that was well is well; empty then, else what is not, once the time is over."""
        deadline = Deadline(self._settings.api_timeout_seconds)
        containers = self._stack.component("api")
        while True:
            seen = self._look(containers)
            problems = [
                f"{name}: {seen.get(name, 'it is gone')}"
                for name in sorted(self.expected)
                if seen.get(name, "gone")
            ]
            if not problems:
                return ""
            if deadline.passed:
                return "; ".join(problems)
            time.sleep(_POLL_SECONDS)
            # One that ended with its connections is started again under another address.
            with contextlib.suppress(EngineError):
                found = by_service(self._engine.list_project_containers(self._stack.project))
                containers = found.get(self._stack.service_of("api"), ())

    def _look(self, containers: Sequence[Container]) -> dict[str, str]:
        """What is wrong with each, by its name; empty where nothing is."""
        seen = {one.name: self._ask(one) for one in containers if one.running}
        if self._application is not None:
            seen[f'login of role "{self._application.user}"'] = self._log_in(self._application)
        return seen

    def _ask(self, container: Container) -> str:
        check = self._settings.check_settings
        try:
            door = replica_endpoint(container, check)
        except NoFrontDoorError as error:
            return str(error)
        deadline = Deadline(self._settings.call_timeout_seconds)
        answer = ask_health([door], check.api_health_path, deadline, api_secrets(self._stack))
        return "" if answer.status == OK else answer.message

    def _log_in(self, application: DatabaseCredentials) -> str:
        try:
            connect(replace(self._server, login=application), self._database).close()
        except PostgresError as error:
            return str(error)
        return ""
