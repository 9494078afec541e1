# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL 12 and later: what to ask of it, and what the answers mean.

Rows are mappings by column name. Query texts of other sessions are never asked for: they hold
personal data and, at times, passwords.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import scrub
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    UNKNOWN,
    WARNING,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    format_bytes,
    format_seconds,
    plural,
)

Row = Mapping[str, Any]
Rows = Sequence[Row]

#: What this check calls itself, so that it can leave itself out.
APPLICATION_NAME = "pynomaly_ops_check"

#: A lock is waited for all the time; it is news after this long.
LOCK_WAIT_SECONDS = 1.0
#: A table with fewer dead tuples than this is not worth a vacuum, whatever the share.
DEAD_TUPLES_MINIMUM = 1000
#: Fewer block accesses than this say nothing about the cache.
CACHE_ACCESSES_MINIMUM = 10_000
#: Transaction ids compare modulo 2^32, so half of that can lie in the past.
TRANSACTION_IDS = 2**31

#: The probes of a server, but for the application's login, in the order they are asked.
READY = "postgres.ready"
APP_LOGIN = "postgres.app_login"
CONNECTIONS = "postgres.connections"
DEPENDANTS = (
    CONNECTIONS,
    "postgres.longest_transaction",
    "postgres.lock_waits",
    "postgres.wraparound",
    "postgres.checksum_failures",
    "postgres.archiving",
    "postgres.replication_lag",
    "postgres.cache_hits",
    "postgres.dead_tuples",
    "postgres.size",
)
#: Of those, the ones that look at one database.
OF_ONE_DATABASE = ("postgres.cache_hits", "postgres.dead_tuples", "postgres.size")

# Why a server does not let somebody in
PASSWORD_REFUSED = "password_refused"  # noqa: S105
PASSWORD_MISSING = "password_missing"  # noqa: S105
ROLE_REFUSED = "role_refused"
NOT_ALLOWED = "not_allowed"
NO_DATABASE = "no_database"
NO_SLOT = "no_slot"
NO_ORDINARY_SLOT = "no_ordinary_slot"
ROLE_LIMIT = "role_limit"
DATABASE_LIMIT = "database_limit"
STARTING = "starting"
STOPPING = "stopping"
REFUSED = "refused"
UNREACHABLE = "unreachable"
TIMEOUT = "timeout"
OTHER = "other"

# libpq gives no SQLSTATE for a failed login, so the server's own words are all there is.
_FAILURES: Sequence[tuple[str, Sequence[str]]] = (
    (PASSWORD_REFUSED, ("password authentication failed", "authentication failed for user")),
    (PASSWORD_MISSING, ("no password supplied",)),
    (ROLE_LIMIT, ("too many connections for role",)),
    (DATABASE_LIMIT, ("too many connections for database",)),
    (NO_ORDINARY_SLOT, ("remaining connection slots are reserved",)),
    (NO_SLOT, ("too many clients already", "number of requested standby connections exceeds")),
    (STARTING, ("starting up", "not yet accepting connections", "in recovery mode")),
    (STOPPING, ("shutting down", "terminating connection due to administrator command")),
    (NO_DATABASE, ("not currently accepting connections",)),
    (ROLE_REFUSED, ("is not permitted to log in",)),
    (NOT_ALLOWED, ("no pg_hba.conf entry", "pg_hba.conf rejects", "permission denied for databas")),
    (REFUSED, ("connection refused",)),
    (TIMEOUT, ("timeout expired", "timed out")),
    (
        UNREACHABLE,
        (
            "no route to host",
            "network is unreachable",
            "host is unreachable",
            "server closed the connection unexpectedly",
            "connection reset by peer",
        ),
    ),
)

#: The server was reached and spoke; it is up, whatever it said.
SPOKEN = (
    PASSWORD_REFUSED,
    PASSWORD_MISSING,
    ROLE_REFUSED,
    NOT_ALLOWED,
    NO_DATABASE,
    NO_SLOT,
    NO_ORDINARY_SLOT,
    ROLE_LIMIT,
    DATABASE_LIMIT,
)


@dataclass(frozen=True)
class Failure:
    """A connection that did not come about: one of the kinds above, and the server's words."""

    kind: str
    text: str


def failure(text: str, secrets: Sequence[Optional[str]] = ()) -> Failure:
    """What libpq's error text says. The text kept is its last line, without the secrets."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    spoken = [line for line in lines if "FATAL:" in line]
    line = (spoken or lines or ["no reason given"])[-1]
    line = scrub(line.rpartition("FATAL:")[2].strip() or line, secrets)
    lowered = text.lower()
    if "database" in lowered and "does not exist" in lowered and 'role "' not in lowered:
        return Failure(NO_DATABASE, line)
    if 'role "' in lowered and "does not exist" in lowered:
        return Failure(ROLE_REFUSED, line)
    for kind, words in _FAILURES:
        if any(word in lowered for word in words):
            return Failure(kind, line)
    return Failure(OTHER, line)


# Readiness and logins

SESSION_SQL = """
SELECT current_user::text AS role,
       current_database()::text AS database,
       current_setting('server_version') AS version,
       pg_is_in_recovery() AS standby,
       extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8 AS uptime_seconds
"""


@dataclass(frozen=True)
class Session:
    """Whom the check is talking to. ``missing_database`` is one that it should have looked at;
    ``note`` says what else is odd about how it got in."""

    role: str
    database: str
    version: str
    version_number: int
    standby: bool
    uptime_seconds: float
    missing_database: str = ""
    note: str = ""


def session(rows: Rows, version_number: int, missing_database: str = "", note: str = "") -> Session:
    """The answer to L{SESSION_SQL}; ``version_number`` as libpq gives it, 170006 for 17.6."""
    row = rows[0]
    return Session(
        row["role"],
        row["database"],
        row["version"],
        version_number,
        bool(row["standby"]),
        float(row["uptime_seconds"]),
        missing_database,
        note,
    )


def ready(target: Target, who: Session, containers: int) -> Measurement:
    """``postgres.ready`` of a server that let the check in."""
    version = who.version.split(" ")[0]
    message = (
        f"PostgreSQL {version}{', a standby,' if who.standby else ''} answers, "
        f"up for {format_seconds(who.uptime_seconds)}"
    )
    if containers > 1:
        message += f"; looked at the first of {containers} containers"
    if who.note:
        message += f"; {who.note}"
    if who.missing_database:
        return Measurement(
            target,
            status=WARNING,
            message=f'{message}; database "{who.missing_database}" does not accept connections '
            f'or does not exist, so "{who.database}" was looked at',
            hint="docker compose exec SERVICE psql -U ROLE -d postgres -c '\\l'",
        )
    return Measurement(target, version, message, OK)


def not_ready(target: Target, why: Failure, where: str, role: str) -> Measurement:
    """``postgres.ready`` of a server that did not let the check in."""
    messages = {
        STARTING: f"the server is starting up: {why.text}",
        STOPPING: f"the server is shutting down: {why.text}",
        REFUSED: f"nothing listens on {where}, expected PostgreSQL",
        UNREACHABLE: f"{where} cannot be reached: {why.text}",
        TIMEOUT: f"no answer from {where} in time: the server accepts and then says nothing, "
        "or is gone",
        PASSWORD_REFUSED: f'the server answers, but refuses the password found for role "{role}"',
        PASSWORD_MISSING: f'the server answers, but asks role "{role}" for a password, '
        "and none was found",
        OTHER: f"no session on {where}: {why.text}",
    }
    login_hint = "set pynomaly_postgres_user and pynomaly_postgres_password to a role that can look"
    hints = {PASSWORD_REFUSED: login_hint, PASSWORD_MISSING: login_hint, ROLE_REFUSED: login_hint}
    hints[NOT_ALLOWED] = "allow this host's address in pg_hba.conf, then SELECT pg_reload_conf()"
    if why.kind in (NO_SLOT, NO_ORDINARY_SLOT):
        return Measurement(
            target, status=OK, message=f"the server answers, but has no connection left: {why.text}"
        )
    message = messages.get(why.kind, f"the server answers, but refuses the check: {why.text}")
    return Measurement(target, status=CRITICAL, message=message, hint=hints.get(why.kind))


def connections_exhausted(target: Target, why: Failure) -> Measurement:
    """``postgres.connections`` where not even the check was let in."""
    return Measurement(target, 100.0, f"no connection is left: {why.text}", CRITICAL)


def app_login(
    target: Target, role: str, database: str, source: str, why: Optional[Failure]
) -> Measurement:
    """``postgres.app_login``; ``why`` is C{None} where the login worked.

    The server checks limits after the password (but for the limit of all connections), so a
    login that fails on them has proved the password.
    """
    who = f'role "{role}" on database "{database}" (from {source} of the API)'
    right = f"the password is right for {who}, but"
    limit_hint = (
        "SELECT usename, state, count(*) FROM pg_stat_activity GROUP BY 1, 2; "
        "ALTER ROLE … CONNECTION LIMIT or ALTER DATABASE … CONNECTION LIMIT"
    )
    outcomes: Mapping[str, tuple[str, str, Optional[str]]] = {
        NO_ORDINARY_SLOT: (OK, f"{right} no connection is left: see postgres.connections", None),
        NO_SLOT: (SKIPPED, "not measured: postgres.connections is critical", None),
        PASSWORD_REFUSED: (CRITICAL, f"the server refuses the password of {who}", None),
        PASSWORD_MISSING: (
            CRITICAL,
            f"the server asks for a password, and the API's environment has none for {who}",
            None,
        ),
    }
    if why is None:
        status, message, hint = OK, f"the server lets in {who}", None
    elif why.kind in (ROLE_LIMIT, DATABASE_LIMIT):
        status, message, hint = CRITICAL, f"{right} the server refuses: {why.text}", limit_hint
    else:
        other = (CRITICAL, f"the server refuses {who}: {why.text}", _hint(why))
        status, message, hint = outcomes.get(why.kind, other)
    return Measurement(target, status=status, message=message, hint=hint)


def _hint(why: Failure) -> Optional[str]:
    if why.kind == NO_DATABASE:
        return (
            "docker compose exec SERVICE psql -U ROLE -d postgres -c '\\l'; the image's "
            "POSTGRES_DB counts only when the data directory is made"
        )
    if why.kind == NOT_ALLOWED:
        return "allow the role in pg_hba.conf and GRANT CONNECT ON DATABASE … TO …"
    return None


# Queries. Each answers one probe.

# Where pg_read_all_stats is lacking, other roles' sessions show only who they are.
_HIDDEN = "usename IS NOT NULL AND query = '<insufficient privilege>'"

CONNECTIONS_SQL = f"""
SELECT current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int
         + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved,
       s.role, s.state, s.sessions
  FROM (SELECT 1) AS always
  LEFT JOIN (
       SELECT usename::text AS role, coalesce(state, 'unknown') AS state,
              count(*)::int AS sessions
         FROM pg_stat_activity
        WHERE (backend_type = 'client backend' OR (backend_type IS NULL AND datid IS NOT NULL))
          AND application_name <> '{APPLICATION_NAME}'
        GROUP BY 1, 2
       ) AS s ON true
 ORDER BY s.sessions DESC NULLS LAST
"""  # noqa: S608

LONGEST_TRANSACTION_SQL = f"""
SELECT * FROM (
  SELECT pid, usename::text AS role, application_name, state, datname::text AS database,
         extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_seconds,
         false AS hidden
    FROM pg_stat_activity
   WHERE backend_type = 'client backend' AND xact_start IS NOT NULL
     AND pid <> pg_backend_pid() AND application_name <> '{APPLICATION_NAME}'
  UNION ALL
  SELECT NULL, owner::text, gid, 'prepared', database::text,
         extract(epoch FROM clock_timestamp() - prepared)::float8, false
    FROM pg_prepared_xacts
  UNION ALL
  SELECT pid, usename::text, '', 'hidden', datname::text, NULL, true
    FROM pg_stat_activity WHERE {_HIDDEN}
) AS transactions
ORDER BY age_seconds DESC NULLS LAST
LIMIT 100
"""  # noqa: S608

_LOCK_WAITS_SQL = f"""
SELECT waiting.*, pg_blocking_pids(waiting.pid) AS blocking_pids
  FROM (
  SELECT a.pid, a.usename::text AS role, a.application_name, a.datname::text AS database,
         extract(epoch FROM clock_timestamp() - coalesce(%s, a.query_start))::float8
           AS wait_seconds,
         count(*) OVER ()::int AS sessions
    FROM pg_stat_activity AS a
   WHERE a.wait_event_type = 'Lock' AND a.pid <> pg_backend_pid()
     AND clock_timestamp() - coalesce(%s, a.query_start) > interval '{LOCK_WAIT_SECONDS} s'
   ORDER BY 5 DESC
   LIMIT 10
) AS waiting
"""  # noqa: S608
_WAIT_START = "(SELECT min(l.waitstart) FROM pg_locks AS l WHERE l.pid = a.pid AND NOT l.granted)"

HIDDEN_SQL = f"SELECT count(*)::int AS hidden FROM pg_stat_activity WHERE {_HIDDEN}"  # noqa: S608

WRAPAROUND_SQL = """
SELECT datname::text AS database, age(datfrozenxid)::bigint AS transactions,
       mxid_age(datminmxid)::bigint AS multixacts
  FROM pg_database
"""

CHECKSUM_FAILURES_SQL = """
SELECT current_setting('data_checksums') AS data_checksums,
       coalesce(datname, 'shared objects')::text AS database,
       coalesce(checksum_failures, 0)::bigint AS failures
  FROM pg_stat_database
 ORDER BY failures DESC
"""

ARCHIVING_SQL = """
SELECT current_setting('archive_mode') AS archive_mode, archived_count::bigint AS archived,
       failed_count::bigint AS failed, last_failed_wal,
       coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS failing,
       extract(epoch FROM clock_timestamp() - last_archived_time)::float8 AS archived_ago_seconds
  FROM pg_stat_archiver
"""

REPLICATION_PRIMARY_SQL = """
SELECT 'standby' AS kind, coalesce(nullif(application_name, ''), client_addr::text, 'standby')
         AS name,
       state, coalesce(extract(epoch FROM replay_lag), 0)::float8 AS lag_seconds,
       pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::float8 AS behind_bytes
  FROM pg_stat_replication
UNION ALL
SELECT 'slot', slot_name::text, 'inactive', NULL,
       pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::float8
  FROM pg_replication_slots
 WHERE NOT active AND NOT temporary
"""

REPLICATION_STANDBY_SQL = """
SELECT (SELECT count(*) FROM pg_stat_wal_receiver WHERE pid IS NOT NULL)::int AS receivers,
       pg_last_wal_receive_lsn()::text AS received,
       pg_last_wal_replay_lsn()::text AS replayed,
       pg_is_wal_replay_paused() AS paused,
       pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::float8
         AS behind_bytes,
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8
         AS replayed_ago_seconds
"""

CACHE_HITS_SQL = """
SELECT blks_hit::bigint AS hits, blks_read::bigint AS reads
  FROM pg_stat_database WHERE datname = current_database()
"""

DEAD_TUPLES_SQL = f"""
SELECT schemaname::text AS schema, relname::text AS name, n_live_tup::bigint AS live,
       n_dead_tup::bigint AS dead,
       extract(epoch FROM clock_timestamp() - greatest(last_vacuum, last_autovacuum))::float8
         AS vacuumed_ago_seconds,
       count(*) OVER ()::int AS tables
  FROM pg_stat_user_tables
 WHERE n_dead_tup >= {DEAD_TUPLES_MINIMUM}
 ORDER BY n_dead_tup::float8 / (n_live_tup + n_dead_tup) DESC, n_dead_tup DESC
 LIMIT 3
"""  # noqa: S608

# The sizes of the largest are looked up; a table that is locked whole would keep the check
# waiting, so it is left out.
SIZE_SQL = """
SELECT pg_database_size(current_database())::bigint AS size_bytes, NULL AS name,
       NULL::bigint AS relation_bytes
UNION ALL
SELECT NULL, name, relation_bytes FROM (
  SELECT n.nspname || '.' || c.relname AS name, pg_total_relation_size(c.oid) AS relation_bytes
    FROM (SELECT oid, relname, relnamespace
            FROM pg_class
           WHERE relkind IN ('r', 'm') AND relnamespace <> 'pg_catalog'::regnamespace
             AND NOT EXISTS (SELECT 1 FROM pg_locks AS l
                              WHERE l.relation = pg_class.oid
                                AND l.mode = 'AccessExclusiveLock')
           ORDER BY relpages DESC, oid DESC
           LIMIT 20) AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
   ORDER BY 2 DESC
   LIMIT 3
) AS largest
"""


@dataclass(frozen=True)
class Question:
    """A query and what its rows mean. The first measurement answers the target; more may follow,
    for instances that nobody knew of."""

    id: str
    sql: str
    answer: Callable[[Target, Rows, Session], Sequence[Measurement]]


def questions(who: Session) -> Sequence[Question]:
    """What to ask of a server, cheap things first."""
    started = _WAIT_START if who.version_number >= 140000 else "NULL::timestamptz"
    replication = REPLICATION_STANDBY_SQL if who.standby else REPLICATION_PRIMARY_SQL
    by_id: Mapping[str, tuple[str, Callable[[Target, Rows, Session], Sequence[Measurement]]]] = {
        CONNECTIONS: (CONNECTIONS_SQL, connections),
        "postgres.longest_transaction": (LONGEST_TRANSACTION_SQL, longest_transaction),
        "postgres.lock_waits": (_with_hidden(_LOCK_WAITS_SQL % (started, started)), lock_waits),
        "postgres.wraparound": (WRAPAROUND_SQL, wraparound),
        "postgres.checksum_failures": (CHECKSUM_FAILURES_SQL, checksum_failures),
        "postgres.archiving": (ARCHIVING_SQL, archiving),
        "postgres.replication_lag": (
            replication,
            replication_standby if who.standby else replication_primary,
        ),
        "postgres.cache_hits": (CACHE_HITS_SQL, cache_hits),
        "postgres.dead_tuples": (DEAD_TUPLES_SQL, dead_tuples),
        "postgres.size": (SIZE_SQL, size),
    }
    return [Question(identifier, *by_id[identifier]) for identifier in DEPENDANTS]


def _with_hidden(sql: str) -> str:
    """The query's rows beside the count of sessions whose state is hidden from the role; one row
    with nulls where the query has none."""
    return (
        f"SELECT h.hidden, q.* FROM ({HIDDEN_SQL}) AS h LEFT JOIN ({sql}) AS q ON true"  # noqa: S608
        " ORDER BY q.wait_seconds DESC NULLS LAST"
    )


def _hidden(target: Target, count: int, who: Session) -> Measurement:
    return Measurement(
        target,
        status=UNKNOWN,
        message=f'the state of {plural(count, "session")} is hidden from role "{who.role}", '
        "expected a role that sees all",
        hint=f'GRANT pg_monitor TO "{who.role}"',
    )


def connections(target: Target, rows: Rows, _who: Session) -> Sequence[Measurement]:
    """Client sessions (this check's left out) of those that ordinary roles can have."""
    limit = max(1, int(rows[0]["max_connections"]) - int(rows[0]["reserved"]))
    groups = [row for row in rows if row["sessions"]]
    used = sum(int(row["sessions"]) for row in groups)
    detail = [
        {"role": row["role"], "state": row["state"], "sessions": int(row["sessions"])}
        for row in groups[:5]
    ]
    message = f"{used} of {limit} connections used"
    if used >= limit:
        message += " (the limit for ordinary roles)"
    if groups:
        top = groups[0]
        message += f", most by {top['role']} ({top['sessions']} {top['state']})"
    return [Measurement(target, round(100.0 * used / limit, 1), message, detail=detail)]


def _session_text(row: Row) -> str:
    """Who a session is: pid, role, application and database; never what it runs."""
    if row.get("state") == "prepared":
        return f"prepared transaction of {row['role']} in {row['database']}"
    application = f" ({row['application_name']})" if row["application_name"] else ""
    return f"pid {row['pid']}, {row['role']}{application} in {row['database']}"


def longest_transaction(target: Target, rows: Rows, who: Session) -> Sequence[Measurement]:
    """The oldest transaction of a client, prepared ones included."""
    hidden = sum(1 for row in rows if row["hidden"])
    if hidden:
        return [_hidden(target, hidden, who)]
    if not rows:
        return [Measurement(target, 0.0, "no transaction is open")]
    oldest = rows[0]
    age_seconds = max(0.0, float(oldest["age_seconds"]))
    message = (
        f"{_session_text(oldest)}: open for {format_seconds(age_seconds)}, state {oldest['state']}"
    )
    hint = None
    if oldest["pid"] is not None:
        pid = int(oldest["pid"])
        hint = f"look at pid {pid} in pg_stat_activity, then SELECT pg_terminate_backend({pid})"
    elif oldest["state"] == "prepared":
        hint = "SELECT * FROM pg_prepared_xacts; then COMMIT PREPARED or ROLLBACK PREPARED its gid"
    return [Measurement(target, round(age_seconds, 3), message, hint=hint)]


def lock_waits(target: Target, rows: Rows, who: Session) -> Sequence[Measurement]:
    """Sessions that have waited for a lock for more than L{LOCK_WAIT_SECONDS}."""
    waiting = [row for row in rows if row["pid"] is not None]
    hidden = int(rows[0]["hidden"])
    if hidden and not waiting:
        return [_hidden(target, hidden, who)]
    limit = f"{LOCK_WAIT_SECONDS:g} s"
    if not waiting:
        return [Measurement(target, 0, f"no session has waited for a lock for more than {limit}")]
    count = int(waiting[0]["sessions"])
    longest = waiting[0]
    blocking = sorted({pid for row in waiting for pid in row["blocking_pids"] or ()})
    # Who waits itself is a link of the chain, not what holds it up; 0 is a prepared transaction.
    roots = [pid for pid in blocking if pid not in {row["pid"] for row in waiting}] or blocking
    names = ", ".join(f"pid {pid}" if pid else "a prepared transaction" for pid in roots)
    message = (
        f"{plural(count, 'session')} waiting for a lock for more than {limit}, the longest "
        f"({_session_text(longest)}) for {format_seconds(float(longest['wait_seconds']))}"
        + (f", blocked by {names}" if names else "")
    )
    detail = [
        {
            "pid": row["pid"],
            "role": row["role"],
            "database": row["database"],
            "wait_seconds": round(float(row["wait_seconds"]), 1),
            "blocking_pids": list(row["blocking_pids"] or ()),
        }
        for row in waiting
    ]
    return [Measurement(target, count, message, detail=detail)]


def wraparound(target: Target, rows: Rows, _who: Session) -> Sequence[Measurement]:
    """The oldest transaction or multixact id of any database, whichever is nearer to its end."""
    transactions = max(rows, key=lambda row: int(row["transactions"]))
    multixacts = max(rows, key=lambda row: int(row["multixacts"]))
    if int(multixacts["multixacts"]) > int(transactions["transactions"]):
        row, age, what = multixacts, int(multixacts["multixacts"]), "multixact"
    else:
        row, age, what = transactions, int(transactions["transactions"]), "transaction"
    percent = 100.0 * age / TRANSACTION_IDS
    message = (
        f"the oldest {what} id is {age / 1e6:,.1f} million old in {row['database']}, "
        f"of {TRANSACTION_IDS / 1e6:,.0f} million"
    )
    return [Measurement(target, round(percent, 2), message)]


def checksum_failures(target: Target, rows: Rows, _who: Session) -> Sequence[Measurement]:
    """Pages whose checksum was wrong when they were read, over all databases."""
    if not rows or rows[0]["data_checksums"] != "on":
        return [_skipped(target, "data checksums are off (pg_checksums --enable turns them on)")]
    failures = sum(int(row["failures"]) for row in rows)
    bad = [row["database"] for row in rows if int(row["failures"])]
    if not bad:
        return [Measurement(target, 0, "no page has failed its checksum")]
    return [
        Measurement(
            target,
            failures,
            f"{plural(failures, 'page')} failed the checksum in {', '.join(bad)}, expected none",
        )
    ]


def archiving(target: Target, rows: Rows, who: Session) -> Sequence[Measurement]:
    """Whether the last attempt at archiving a WAL segment succeeded."""
    row = rows[0]
    if row["archive_mode"] == "off":
        return [_skipped(target, "archive_mode is off")]
    if who.standby and row["archive_mode"] != "always":
        return [_skipped(target, "a standby does not archive unless archive_mode is always")]
    if row["failing"]:
        return [
            Measurement(
                target,
                int(row["failed"]),
                f"archiving {row['last_failed_wal']} fails, "
                f"{plural(int(row['failed']), 'failure')} so far, expected success",
                CRITICAL,
            )
        ]
    if row["archived_ago_seconds"] is None:
        return [Measurement(target, 0, "nothing has had to be archived yet", OK)]
    ago = format_seconds(max(0.0, float(row["archived_ago_seconds"])))
    return [
        Measurement(
            target,
            int(row["failed"]),
            f"{plural(int(row['archived']), 'segment')} archived, the last {ago} ago",
            OK,
        )
    ]


def replication_primary(target: Target, rows: Rows, _who: Session) -> Sequence[Measurement]:
    """The standby that is furthest behind; one more measurement for each slot nobody reads."""
    standbys = [row for row in rows if row["kind"] == "standby"]
    measurements = []
    if standbys:
        worst = max(standbys, key=lambda row: float(row["lag_seconds"]))
        lag_seconds = max(0.0, float(worst["lag_seconds"]))
        behind = float(worst["behind_bytes"] or 0.0)
        message = (
            f"{plural(len(standbys), 'standby')}, {worst['name']} ({worst['state']}) is "
            f"{format_seconds(lag_seconds)} "
            f"and {format_bytes(max(0.0, behind))} behind"
        )
        measurements.append(Measurement(target, round(lag_seconds, 1), message))
    else:
        measurements.append(_skipped(target, "no standby is connected and none is expected"))
    for row in rows:
        if row["kind"] == "slot":
            measurements.append(_slot(target, row))
    if not standbys and len(measurements) > 1:
        measurements[0] = _skipped(target, "no standby is connected; see the replication slots")
    return measurements


def _slot(target: Target, row: Row) -> Measurement:
    place = Target(target.id, target.service, f"slot {row['name']}")
    kept = row["behind_bytes"]
    if kept is None:
        message = f"replication slot {row['name']} is not used and has lost or never had its WAL"
    else:
        message = (
            f"replication slot {row['name']} is not used and keeps "
            f"{format_bytes(max(0.0, float(kept)))} of WAL from being removed"
        )
    return Measurement(
        place,
        status=WARNING,
        message=message,
        hint=f"bring its reader back, or SELECT pg_drop_replication_slot('{row['name']}')",
    )


def replication_standby(target: Target, rows: Rows, _who: Session) -> Sequence[Measurement]:
    """How far a standby is behind: nothing when all it received is replayed, else the age of the
    last transaction it replayed (an idle primary would make that grow on its own)."""
    row = rows[0]
    ago = row["replayed_ago_seconds"]
    if not row["receivers"]:
        since = f", the last transaction is {format_seconds(float(ago))} old" if ago else ""
        return [
            Measurement(
                target,
                status=WARNING,
                message=f"a standby that receives no WAL from its primary{since}",
                hint="SELECT * FROM pg_stat_wal_receiver; docker compose logs --tail 100 SERVICE",
            )
        ]
    if row["received"] is not None and row["received"] == row["replayed"]:
        return [Measurement(target, 0.0, "all WAL that was received is replayed")]
    behind = format_bytes(max(0.0, float(row["behind_bytes"] or 0.0)))
    paused = ", replay is paused (SELECT pg_wal_replay_resume() ends that)" if row["paused"] else ""
    if ago is None:
        return [
            Measurement(
                target,
                status=WARNING if row["paused"] else UNKNOWN,
                message=f"{behind} of WAL received and not replayed{paused}; no transaction has "
                "been replayed since the start, so there is no age to tell",
            )
        ]
    lag_seconds = max(0.0, float(ago))
    return [
        Measurement(
            target,
            round(lag_seconds, 1),
            f"the last replayed transaction is {format_seconds(lag_seconds)} old, "
            f"and {behind} of WAL received after it is not replayed{paused}",
        )
    ]


def cache_hits(target: Target, rows: Rows, who: Session) -> Sequence[Measurement]:
    """Blocks that were found in shared buffers, since the statistics were reset."""
    hits, reads = (int(rows[0]["hits"]), int(rows[0]["reads"])) if rows else (0, 0)
    accesses = hits + reads
    if accesses < CACHE_ACCESSES_MINIMUM:
        return [
            _skipped(
                target,
                f"too early to tell: {accesses} block accesses in {who.database}, "
                f"expected {CACHE_ACCESSES_MINIMUM} or more",
            )
        ]
    percent = round(100.0 * hits / accesses, 1)
    message = f"{percent:g} % of {accesses} blocks of {who.database} were in shared buffers"
    return [Measurement(target, percent, message)]


def dead_tuples(target: Target, rows: Rows, who: Session) -> Sequence[Measurement]:
    """The table with the largest share of dead tuples, of those with enough to matter."""
    if who.standby:
        return [_skipped(target, "a standby has no statistics of its own about dead tuples")]
    if not rows:
        return [
            Measurement(
                target,
                0.0,
                f"no table of {who.database} has {DEAD_TUPLES_MINIMUM} dead tuples or more",
                detail=[],
            )
        ]
    tables = [
        {
            "table": f"{row['schema']}.{row['name']}",
            "dead": int(row["dead"]),
            "live": int(row["live"]),
            "percent": round(100.0 * int(row["dead"]) / (int(row["live"]) + int(row["dead"])), 1),
        }
        for row in rows
    ]
    worst: dict[str, Any] = tables[0]
    ago = rows[0]["vacuumed_ago_seconds"]
    vacuumed = "never vacuumed" if ago is None else f"vacuumed {format_seconds(float(ago))} ago"
    message = (
        f"{worst['table']} has {worst['dead']} dead tuples beside {worst['live']} live ones, "
        f"{vacuumed}"
    )
    if rows[0]["tables"] > 1:
        message += f"; {rows[0]['tables']} tables have {DEAD_TUPLES_MINIMUM} or more"
    return [Measurement(target, worst["percent"], message, detail=tables)]


def size(target: Target, rows: Rows, who: Session) -> Sequence[Measurement]:
    """The database's size, and its three largest tables with what belongs to them."""
    total = next(int(row["size_bytes"]) for row in rows if row["size_bytes"] is not None)
    tables = [
        {"table": row["name"], "bytes": int(row["relation_bytes"])}
        for row in rows
        if row["relation_bytes"] is not None
    ]
    message = f"{who.database} has {format_bytes(total)}"
    if tables:
        message += f", the largest table {tables[0]['table']} {format_bytes(tables[0]['bytes'])}"
    return [Measurement(target, total, message, detail=tables)]


def _skipped(target: Target, reason: str) -> Measurement:
    return Measurement(target, status=SKIPPED, message=reason)


def query_failed(target: Target, text: str, secrets: Sequence[Optional[str]]) -> Measurement:
    """A query that the server refused or broke off; the others still answer."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    return Measurement(
        target,
        status=UNKNOWN,
        message=f"the query was refused: {scrub(line, secrets)}",
        hint="docker compose logs --tail 100 SERVICE",
    )
