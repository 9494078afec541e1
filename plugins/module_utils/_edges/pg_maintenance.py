# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The weekly look at the project's database, and its maintenance.

Sessions are asynchronous underneath, so that a server which falls silent in the middle of a VACUUM
is given up at a deadline, too.
"""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils import _pg_maintenance as maintenance
from ansible_collections.pynomaly.ops.plugins.module_utils import _pg_maintenance_report as report
from ansible_collections.pynomaly.ops.plugins.module_utils import _pg_maintenance_sql as sql
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import scrub
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import compose
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    ensure_directory,
    write_atomically,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres import (
    QueryFailedError,
    Session,
    SessionLostError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    CONNECT_TIMEOUT_SECONDS,
    PostgresError,
    PostgresServer,
    connection_parameters,
    find_server,
    load_psycopg2,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._endpoints import place
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance import (
    Action,
    FreezeLimits,
    MaintenanceSettings,
    Outcome,
    Table,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance_catalogue import (
    BLOAT,
    DEAD_TUPLES,
    DUPLICATE_INDEXES,
    FOREIGN_KEYS,
    GROWTH,
    INDEX_BLOAT,
    INVALID_INDEXES,
    SEQUENCES,
    SETTINGS,
    SIZE,
    STATEMENTS,
    STATISTICS,
    UNUSED_INDEXES,
    WRAPAROUND,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance_history import (
    HistoryError,
    Sample,
    baseline,
    decode_history,
    encode_history,
    with_sample,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance_report import Row, Rows
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_settings import (
    Memory,
    checkpoints_measurement,
    parse_settings,
    settings_measurements,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._postgres import failure
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import CRITICAL, Measurement
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    format_seconds,
    shortened,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._system import parse_meminfo

HISTORY_FOLDER = "weekly_db"

#: The server breaks a question off, before this side loses patience.
QUESTION_SECONDS = 30.0
REFUSED_SECONDS = 25.0
#: Reading never waits long for a lock.
READ_LOCK_SECONDS = 1.0
#: All questions together.
REPORT_SECONDS = 300.0
#: How often sizes are asked for again, where a table was locked between two looks.
SIZE_ATTEMPTS = 3
#: What a statement may take beyond the server's own timeout.
GRACE_SECONDS = 10.0
#: Up to 14, counters arrive through a collector that takes its time.
COUNTERS_SECONDS = 3.0
COUNTERS_POLL_SECONDS = 0.05
_OWN_STATISTICS = 150000
_PARTITIONED_STATISTICS = 140000

LOCK_NOT_AVAILABLE = "55P03"
INSUFFICIENT_PRIVILEGE = "42501"


class MaintenanceError(Exception):
    """The work cannot go on. The text says what was seen and expected; ``hint`` is what to run
    next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Request:
    """Which project, how to look at it, what to do. ``state_dir`` keeps the history of sizes."""

    project_name: str
    service_names: Mapping[str, str] = field(default_factory=dict)
    check: CheckSettings = field(default_factory=CheckSettings)
    settings: MaintenanceSettings = field(default_factory=MaintenanceSettings)
    state_dir: str = "/var/lib/pynomaly-ops"

    @property
    def history_path(self) -> Path:
        return Path(self.state_dir) / HISTORY_FOLDER / f"{self.project_name}.json"


@dataclass(frozen=True)
class Answer:
    """``measurements`` in the report's order; ``changed`` tells of the database alone, or of what
    would change there."""

    stack: Stack
    measurements: Sequence[Measurement]
    outcomes: Sequence[Outcome]
    changed: bool
    facts: Mapping[str, Any]


class Database:
    """One session, and what it is asked. Raises L{PostgresError} where there is none."""

    def __init__(self, server: PostgresServer, settings: Mapping[str, str]) -> None:
        self._psycopg2 = load_psycopg2()
        self.secrets = [server.login.password]
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        parameters = connection_parameters(server.login, server.address, options)
        where = f'database "{server.database}" at {place(server.address)}'
        try:
            self._session = Session(
                self._psycopg2, parameters, Deadline(float(CONNECT_TIMEOUT_SECONDS))
            )
        except (self._psycopg2.Error, TimeoutError) as error:
            reason = failure(str(error), self.secrets)
            raise PostgresError(
                f"no session with {where}: {reason.text}",
                "ansible-playbook pynomaly.ops.daily_check",
            ) from error

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def ask(self, statement: str) -> Rows:
        """The rows; raises L{QueryFailedError} and L{SessionLostError}."""
        return self._session.query(sql.marked(statement), Deadline(QUESTION_SECONDS))

    def run(self, statement: str, seconds: float) -> None:
        """A statement as it stands."""
        self._session.query(statement, Deadline(seconds))

    def reason(self, error: Exception) -> str:
        """The first line of an error, without details, which hold rows, and without secrets."""
        primary = getattr(getattr(error.__cause__, "diag", None), "message_primary", None)
        lines = str(primary or error).strip().splitlines()
        return scrub(shortened(lines[0] if lines else "no reason given", 200), self.secrets)


def sqlstate(error: Exception) -> str:
    """The SQLSTATE behind a refused query; empty where there is none."""
    return str(getattr(error.__cause__, "pgcode", None) or "")


# Reading


@dataclass
class Seen:
    """Everything that was read; ``errors`` has a text for each question that was not answered."""

    server: Row
    answers: dict[str, Rows] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    sizes: report.Sizes = field(default_factory=report.Sizes)
    tables: Sequence[Table] = ()

    @property
    def version(self) -> int:
        return int(self.server["version_number"])

    def rows(self, question: str) -> Rows:
        return self.answers.get(question, ())


def observe(server: PostgresServer) -> Seen:
    """Ask everything, read-only. Raises L{PostgresError} and L{MaintenanceError}."""
    settings = {
        "default_transaction_read_only": "on",
        "statement_timeout": str(round(REFUSED_SECONDS * 1000)),
        "lock_timeout": str(round(READ_LOCK_SECONDS * 1000)),
        "search_path": "pg_catalog",
        "jit": "off",
    }
    with Database(server, settings) as database:
        try:
            return _observe(database)
        except SessionLostError as error:
            reason = failure(str(error), database.secrets)
            raise MaintenanceError(
                f"the session was lost while the database was looked at: {reason.text}",
                "docker compose logs --tail 100 postgres; ansible-playbook "
                "pynomaly.ops.daily_check",
            ) from error


def _observe(database: Database) -> Seen:
    deadline = Deadline(REPORT_SECONDS)
    try:
        seen = Seen(database.ask(sql.SERVER)[0])
    except QueryFailedError as error:
        raise MaintenanceError(
            f"the server does not tell what it is: {database.reason(error)}",
            "ansible-playbook pynomaly.ops.daily_check",
        ) from error

    def ask(question: str, statement: str) -> None:
        if deadline.passed:
            seen.errors[question] = f"not asked: {format_seconds(REPORT_SECONDS)} were over"
            return
        try:
            seen.answers[question] = database.ask(statement)
        except QueryFailedError as error:
            seen.errors[question] = database.reason(error)

    for attempt in range(SIZE_ATTEMPTS):
        try:
            seen.sizes = report.sizes(database.ask(sql.SIZES))
            break
        except QueryFailedError as error:
            if sqlstate(error) != LOCK_NOT_AVAILABLE or attempt == SIZE_ATTEMPTS - 1:
                seen.errors["sizes"] = database.reason(error)
                break
    ask("tables", sql.TABLES)
    ask("indexes", sql.indexes(seen.version))
    ask("foreign_keys", sql.FOREIGN_KEYS)
    ask("sequences", sql.SEQUENCES)
    ask("databases", sql.DATABASES)
    ask("table_bloat", sql.TABLE_BLOAT)
    ask("index_bloat", sql.INDEX_BLOAT)
    ask("settings", sql.SETTINGS)
    ask("checkpoints", sql.checkpoints(seen.version))
    ask("extension", sql.EXTENSION)
    for row in seen.rows("extension"):
        ask("statements", sql.statements(str(row["version"]), str(row["schema"])))
    seen.tables = maintenance.tables(seen.rows("tables"), seen.sizes.heaps)
    return seen


# Acting


def _freeze_limits(seen: Seen) -> FreezeLimits:
    by_name = {row["name"]: row["setting"] for row in seen.rows("settings")}
    default = FreezeLimits()
    return FreezeLimits(
        int(by_name.get("autovacuum_freeze_max_age", default.transactions)),
        int(by_name.get("autovacuum_multixact_freeze_max_age", default.multixacts)),
    )


class Worker:
    """Does what is due, one statement at a time, within the budget.

    What cannot be done is an outcome, and the next one follows; once the session is lost, the rest
    is not reached.
    """

    def __init__(self, server: PostgresServer, settings: MaintenanceSettings, seen: Seen) -> None:
        self._server = server
        self._settings = settings
        self._seen = seen
        self._deadline = Deadline(settings.budget_seconds)
        self._lost = ""

    def run(self, actions: Sequence[Action]) -> list[Outcome]:
        """One outcome an action, in their order. Raises L{PostgresError} where no session comes
        about at all."""
        if not any(maintenance.enabled(action, self._settings) for action in actions):
            return [Outcome(action, maintenance.PLANNED) for action in actions]
        session = {
            "default_transaction_read_only": "off",
            "search_path": "pg_catalog",
            "vacuum_cost_delay": f"{self._settings.cost_delay_ms:g}",
            "idle_in_transaction_session_timeout": "0",
        }
        with Database(self._server, session) as database:
            return [self._one(database, action) for action in actions]

    def _one(self, database: Database, action: Action) -> Outcome:
        if not maintenance.enabled(action, self._settings):
            return Outcome(action, maintenance.PLANNED)
        if self._lost:
            return Outcome(
                action,
                maintenance.NOT_REACHED,
                self._lost,
                "docker compose logs --tail 100 SERVICE; then ansible-playbook "
                "pynomaly.ops.weekly_db again",
            )
        seconds = min(self._settings.statement_timeout_seconds, self._deadline.remaining)
        if seconds < maintenance.SHORTEST_SECONDS:
            budget = format_seconds(self._settings.budget_seconds)
            return Outcome(
                action,
                maintenance.NOT_REACHED,
                f"the {budget} that maintenance may take were over",
                "ansible-playbook pynomaly.ops.weekly_db again, or raise "
                "postgres_maintain_budget_seconds",
            )
        started = time.monotonic()
        try:
            try:
                outcome = self._attempt(database, action, seconds)
            except QueryFailedError as error:
                outcome = self._failed(database, action, seconds, error)
        except SessionLostError as error:
            reason = failure(str(error), database.secrets).text
            self._lost = f"the session was lost at {action.name}: {reason}"
            outcome = Outcome(
                action,
                maintenance.FAILED,
                f"the session was lost: {reason}",
                "docker compose logs --tail 100 SERVICE",
            )
        return replace(outcome, duration_ms=(time.monotonic() - started) * 1000)

    def _attempt(self, database: Database, action: Action, seconds: float) -> Outcome:
        waits = action.verb != maintenance.REINDEX
        # A concurrent rebuild waits for others without keeping anybody waiting.
        lock_seconds = self._settings.lock_timeout_seconds if waits else 0
        database.run(f"SET statement_timeout = {round(seconds * 1000)}", GRACE_SECONDS)
        database.run(f"SET lock_timeout = {round(lock_seconds * 1000)}", GRACE_SECONDS)
        before = self._count(database, action)
        database.run(action.statement, seconds + GRACE_SECONDS)
        if action.verb == maintenance.REINDEX:
            return Outcome(action, maintenance.DONE)
        if not self._counted(database, action, before):
            return Outcome(
                action,
                maintenance.FAILED,
                f'the server passed it over: role "{self._server.login.user}" may not do it',
                maintenance.failure_hint(INSUFFICIENT_PRIVILEGE, action),
            )
        return Outcome(action, maintenance.DONE, dead_after=self._left(database, action))

    def _count(self, database: Database, action: Action) -> int:
        which = "vacuum" if action.verb == maintenance.VACUUM else "analyze"
        rows = database.ask(f"SELECT pg_stat_get_{which}_count({action.oid}) AS times")
        return int(rows[0]["times"])

    def _counted(self, database: Database, action: Action, before: int) -> bool:
        """Whether the server says that it was done: without the right to, it only warns."""
        kinds = {table.oid: table.kind for table in self._seen.tables}
        if (
            kinds.get(action.oid) == maintenance.PARTITIONED
            and self._seen.version < _PARTITIONED_STATISTICS
        ):
            return True
        patience = Deadline(COUNTERS_SECONDS if self._seen.version < _OWN_STATISTICS else 0.0)
        while self._count(database, action) <= before:
            if patience.passed:
                return False
            time.sleep(COUNTERS_POLL_SECONDS)
        return True

    def _left(self, database: Database, action: Action) -> Optional[int]:
        """Dead tuples that VACUUM had to leave, where they are many enough for another VACUUM."""
        if action.verb != maintenance.VACUUM:
            return None
        rows = database.ask(f"SELECT pg_stat_get_dead_tuples({action.oid}) AS dead")
        dead = int(rows[0]["dead"])
        table = next(one for one in self._seen.tables if one.oid == action.oid)
        after = replace(table, dead=dead)
        return dead if maintenance.vacuum_reason(after, self._settings) else None

    def _failed(
        self, database: Database, action: Action, seconds: float, error: QueryFailedError
    ) -> Outcome:
        code = sqlstate(error)
        limit = self._settings.lock_timeout_seconds if code == LOCK_NOT_AVAILABLE else seconds
        message = maintenance.failure_message(code, database.reason(error), limit)
        if action.verb == maintenance.REINDEX:
            message += self._clear(database, action)
        hint = maintenance.failure_hint(code, action)
        return Outcome(action, maintenance.FAILED, message, hint)

    def _clear(self, database: Database, action: Action) -> str:
        """Drop the half of an index that our own rebuild has left."""
        before = self._seen.rows("indexes")
        try:
            after = database.ask(sql.indexes(self._seen.version))
            for name in maintenance.left_by_rebuild(action, before, after):
                database.run(
                    sql.drop_index(name), self._settings.statement_timeout_seconds + GRACE_SECONDS
                )
        except QueryFailedError as error:
            return (
                f"; what it left is still there ({database.reason(error)}), see {INVALID_INDEXES}"
            )
        return ""


# The whole


def look(request: Request) -> Answer:
    """The report alone; changes nothing. Raises L{PostgresError}, L{MaintenanceError},
    C{EngineError} and, where psycopg2 is missing, C{CollectorError}."""
    return _run(replace(request, settings=replace(request.settings, reindex_invalid=())), act=False)


def maintain(request: Request, *, dry_run: bool = False) -> Answer:
    """Do what is due, then report; with ``dry_run`` say what is due and change nothing. Raises as
    L{look} does, and L{MaintenanceError} for an index that there is not, before anything is
    done."""
    answer = _run(request, act=not dry_run)
    if not dry_run:
        return answer
    would = any(
        one.state == maintenance.PLANNED and maintenance.enabled(one.action, request.settings)
        for one in answer.outcomes
    )
    return replace(answer, changed=would)


def _run(request: Request, *, act: bool) -> Answer:
    engine = Engine(timeout_seconds=request.check.call_timeout_seconds)
    stack = compose.discover(engine, request.project_name, request.check, request.service_names)
    server = find_server(stack, engine, request.check)
    seen = observe(server)
    if seen.server["standby"]:
        raise MaintenanceError(
            f"{server.container.name} is a standby: expected the primary, where maintenance is "
            "done and comes from",
            "run it on the primary's host",
        )
    actions, outcomes = _plan(request.settings, seen)
    if act:
        outcomes = [*Worker(server, request.settings, seen).run(actions), *outcomes]
    else:
        outcomes = [*(Outcome(action, maintenance.PLANNED) for action in actions), *outcomes]
    changed = any(one.state == maintenance.DONE for one in outcomes)
    horizon = ""
    if changed:
        if any(one.dead_after for one in outcomes):
            horizon = _horizon(server)
        seen = observe(server)
    now = datetime.datetime.now(datetime.timezone.utc)
    sample = report.sample(seen.server, seen.tables, seen.sizes, now)
    history, problem = read_history(request.history_path)
    service = stack.service_of("postgres")
    measurements = _measurements(
        request.settings,
        seen,
        service,
        _memory(server),
        actions=report.action_measurements(
            service,
            outcomes,
            len(seen.tables),
            CRITICAL if request.settings.fail_on_incomplete else None,
            horizon,
        ),
        growth=report.growth_measurement(
            service, sample, baseline(history, sample.database, now), problem
        ),
    )
    if act and not {"tables", "sizes"} & set(seen.errors):
        write_history(request.history_path, with_sample(history, sample))
    facts = {
        "hostname": platform.node(),
        "postgresql": server.version,
        "database": server.database,
        "role": server.login.user,
    }
    return Answer(stack, measurements, outcomes, changed, facts)


def _plan(settings: MaintenanceSettings, seen: Seen) -> tuple[list[Action], list[Outcome]]:
    """What is due and what was asked for, and what of the latter needs nothing."""
    if settings.reindex_invalid and "indexes" in seen.errors:
        raise MaintenanceError(
            f"the indexes to rebuild could not be looked for: {seen.errors['indexes']}",
            "ansible-playbook pynomaly.ops.weekly_db again",
        )
    try:
        rebuilds, valid = maintenance.reindex_plan(settings.reindex_invalid, seen.rows("indexes"))
    except maintenance.UnknownIndexError as error:
        raise MaintenanceError(
            str(error), "name one of them in postgres_maintain_reindex_invalid"
        ) from error
    due = maintenance.plan(seen.tables, settings, _freeze_limits(seen), seen.version)
    return [*due, *rebuilds], valid


def _horizon(server: PostgresServer) -> str:
    """Who may still see dead tuples; empty where nobody is known to."""
    try:
        with Database(server, {"default_transaction_read_only": "on"}) as database:
            rows = database.ask(sql.HORIZON)
    except (QueryFailedError, SessionLostError):
        return ""
    return str(rows[0]["holder"]) if rows else ""


def _memory(server: PostgresServer) -> Memory:
    meminfo = parse_meminfo(Path("/proc/meminfo").read_text(encoding="utf-8"))
    return Memory(meminfo["MemTotal"], server.container.memory_limit_bytes)


def _measurements(
    settings: MaintenanceSettings,
    seen: Seen,
    service: str,
    memory: Memory,
    *,
    actions: Sequence[Measurement],
    growth: Measurement,
) -> list[Measurement]:
    found: list[Measurement] = []

    def add(
        identifiers: Sequence[str],
        questions: Sequence[str],
        measure: Callable[[], Sequence[Measurement]],
    ) -> None:
        """What is measured from questions of which one was not answered is unknown."""
        problem = next((seen.errors[name] for name in questions if name in seen.errors), None)
        if problem is None:
            found.extend(measure())
        else:
            found.extend(report.question_failed(one, service, problem) for one in identifiers)

    add([STATISTICS, DEAD_TUPLES], ["tables"], lambda: actions)
    add(
        [SIZE],
        ["tables", "sizes"],
        lambda: [report.size_measurement(service, seen.server, seen.tables, seen.sizes)],
    )
    add([GROWTH], ["tables", "sizes"], lambda: [growth])
    add(
        [BLOAT, INDEX_BLOAT],
        ["table_bloat", "index_bloat"],
        lambda: report.bloat_measurements(
            service,
            seen.server,
            seen.rows("table_bloat"),
            seen.rows("index_bloat"),
            settings.bloat_minimum_mib * 1024**2,
        ),
    )
    indexes = seen.rows("indexes")
    add(
        [UNUSED_INDEXES],
        ["indexes", "sizes"],
        lambda: report.unused_indexes(
            service, seen.server, indexes, seen.sizes, settings.unused_index_days
        ),
    )
    add(
        [DUPLICATE_INDEXES],
        ["indexes", "sizes"],
        lambda: report.duplicate_indexes(service, indexes, seen.sizes),
    )
    add(
        [INVALID_INDEXES],
        ["indexes", "sizes"],
        lambda: report.invalid_indexes(service, indexes, seen.sizes),
    )
    add(
        [FOREIGN_KEYS],
        ["foreign_keys", "indexes", "tables", "sizes"],
        lambda: report.missing_foreign_key_indexes(
            service, seen.rows("foreign_keys"), indexes, seen.tables, seen.sizes
        ),
    )
    add(
        [SEQUENCES],
        ["sequences"],
        lambda: report.sequence_measurements(service, seen.rows("sequences")),
    )
    add(
        [WRAPAROUND],
        ["databases"],
        lambda: report.wraparound_measurements(service, seen.rows("databases"), seen.tables),
    )
    found += _statements(seen, service, settings.statements)
    add([SETTINGS], ["settings"], lambda: _settings(seen, service, memory))
    return found


def _statements(seen: Seen, service: str, most: int) -> list[Measurement]:
    preloaded = next(
        (
            "pg_stat_statements" in str(row["setting"])
            for row in seen.rows("settings")
            if row["name"] == "shared_preload_libraries"
        ),
        None,
    )
    installed = bool(seen.rows("extension"))
    if not installed or preloaded is False:
        return [report.statements_unavailable(service, preloaded, installed)]
    for question in ("extension", "statements"):
        if question in seen.errors:
            return [report.question_failed(STATEMENTS, service, seen.errors[question])]
    return report.statement_measurements(service, seen.rows("statements"), most)


def _settings(seen: Seen, service: str, memory: Memory) -> list[Measurement]:
    settings = parse_settings(seen.rows("settings"))
    found = settings_measurements(service, settings, memory, int(seen.server["database_bytes"]))
    for row in seen.rows("checkpoints"):
        found.append(checkpoints_measurement(service, row, settings))
    return found


# The history of sizes


def read_history(path: Path) -> tuple[list[Sample], str]:
    """The samples, and what is wrong with the file where something is."""
    try:
        return decode_history(path.read_text(encoding="utf-8")), ""
    except FileNotFoundError:
        return [], ""
    except (OSError, UnicodeDecodeError, HistoryError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        return [], f"the history of sizes in {path} cannot be read: {reason}"


def write_history(path: Path, samples: Sequence[Sample]) -> None:
    """Raises L{MaintenanceError}."""
    try:
        ensure_directory(path.parent, 0o700)
        write_atomically(path, encode_history(samples), 0o600)
    except OSError as error:
        raise MaintenanceError(
            f"the history of sizes could not be written to {path}: {error.strerror}",
            f"make {path.parent} writable, or name another state_dir",
        ) from error
