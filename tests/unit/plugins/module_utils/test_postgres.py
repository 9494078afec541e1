# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _postgres as postgres
from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._postgres import Failure, Session
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Measurement, Target

TARGET = Target("postgres.ready", "postgres")
PRIMARY = Session("postgres", "prod", "17.6 (Debian)", 170006, False, 7200.0)
STANDBY = Session("postgres", "prod", "17.6", 170006, True, 7200.0)
HEAD = 'connection to server at "172.18.0.2", port 5432 failed: '


def only(measurements: Any) -> Measurement:
    (measurement,) = measurements
    return measurement  # type: ignore[no-any-return]


def test_every_probe_is_in_the_catalogue() -> None:
    ids = {postgres.READY, postgres.APP_LOGIN, *postgres.DEPENDANTS}
    assert ids == {identifier for identifier in CATALOGUE if identifier.startswith("postgres.")}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (HEAD + 'FATAL:  password authentication failed for user "u"', postgres.PASSWORD_REFUSED),
        (HEAD + "fe_sendauth: no password supplied", postgres.PASSWORD_MISSING),
        (HEAD + 'FATAL:  database "d" does not exist', postgres.NO_DATABASE),
        (
            HEAD + 'FATAL:  database "d" is not currently accepting connections',
            postgres.NO_DATABASE,
        ),
        (HEAD + 'FATAL:  role "u" does not exist', postgres.ROLE_REFUSED),
        (HEAD + 'FATAL:  role "u" is not permitted to log in', postgres.ROLE_REFUSED),
        (HEAD + 'FATAL:  no pg_hba.conf entry for host "1"', postgres.NOT_ALLOWED),
        (HEAD + 'FATAL:  permission denied for database "d"', postgres.NOT_ALLOWED),
        (HEAD + "FATAL:  sorry, too many clients already", postgres.NO_SLOT),
        (
            HEAD + "FATAL:  remaining connection slots are reserved for roles with the "
            "SUPERUSER attribute",
            postgres.NO_ORDINARY_SLOT,
        ),
        (HEAD + 'FATAL:  too many connections for role "u"', postgres.ROLE_LIMIT),
        (HEAD + 'FATAL:  too many connections for database "d"', postgres.DATABASE_LIMIT),
        (HEAD + "FATAL:  the database system is starting up", postgres.STARTING),
        (HEAD + "FATAL:  the database system is not yet accepting connections", postgres.STARTING),
        (HEAD + "FATAL:  the database system is in recovery mode", postgres.STARTING),
        (HEAD + "FATAL:  the database system is shutting down", postgres.STOPPING),
        (HEAD + "Connection refused\n\tIs the server running?", postgres.REFUSED),
        (HEAD + "No route to host", postgres.UNREACHABLE),
        (HEAD + "server closed the connection unexpectedly", postgres.UNREACHABLE),
        ("timeout expired", postgres.TIMEOUT),
        ("FATAL:  Passwort-Authentifizierung fehlgeschlagen", postgres.OTHER),
        ("", postgres.OTHER),
    ],
)
def test_failure(text: str, kind: str) -> None:
    assert postgres.failure(text).kind == kind


def test_a_failures_text_is_the_servers_last_line_without_secrets() -> None:
    text = f"{HEAD}FATAL:  SSL off\n{HEAD}FATAL:  odd hunter2 thing\n"
    assert postgres.failure(text, ["hunter2"]).text == "odd ******** thing"
    assert postgres.failure("").text == "no reason given"
    assert "hunter2" not in postgres.failure("odd postgres://u:hunter2@h/d").text


def test_session_and_ready() -> None:
    row = {
        "role": "u",
        "database": "d",
        "version": "16.4 (Debian 1)",
        "standby": True,
        "uptime_seconds": 90.0,
    }
    who = postgres.session([row], 160004)
    seen = postgres.ready(TARGET, who, 1)
    assert (seen.status, seen.value) == ("ok", "16.4")
    assert seen.message == "PostgreSQL 16.4, a standby, answers, up for 1 min 30 s"
    several = postgres.ready(TARGET, postgres.session([row], 160004, note="as u"), 2)
    assert several.message.endswith("; looked at the first of 2 containers; as u")
    instead = postgres.ready(TARGET, postgres.session([row], 160004, "gone"), 1)
    assert instead.status == "warning"
    assert 'database "gone"' in instead.message


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        (postgres.STARTING, "critical", "starting up"),
        (postgres.STOPPING, "critical", "shutting down"),
        (postgres.REFUSED, "critical", "nothing listens on h:1"),
        (postgres.UNREACHABLE, "critical", "cannot be reached"),
        (postgres.TIMEOUT, "critical", "no answer from h:1"),
        (postgres.PASSWORD_REFUSED, "critical", 'refuses the password found for role "u"'),
        (postgres.PASSWORD_MISSING, "critical", "none was found"),
        (postgres.NOT_ALLOWED, "critical", "refuses the check: words"),
        (postgres.OTHER, "critical", "words"),
        (postgres.NO_SLOT, "ok", "no connection left"),
        (postgres.NO_ORDINARY_SLOT, "ok", "no connection left"),
    ],
)
def test_not_ready(kind: str, status: str, words: str) -> None:
    seen = postgres.not_ready(TARGET, Failure(kind, "words"), "h:1", "u")
    assert seen.status == status
    assert words in seen.message


def test_connections_exhausted() -> None:
    seen = postgres.connections_exhausted(TARGET, Failure(postgres.NO_SLOT, "too many"))
    assert (seen.status, seen.value) == ("critical", 100.0)


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        (None, "ok", "lets in"),
        (postgres.NO_ORDINARY_SLOT, "ok", "the password is right"),
        (postgres.NO_SLOT, "skipped", "postgres.connections"),
        (postgres.ROLE_LIMIT, "critical", "the password is right"),
        (postgres.DATABASE_LIMIT, "critical", "the password is right"),
        (postgres.PASSWORD_REFUSED, "critical", "refuses the password"),
        (postgres.PASSWORD_MISSING, "critical", "asks for a password"),
        (postgres.NO_DATABASE, "critical", "words"),
        (postgres.NOT_ALLOWED, "critical", "words"),
        (postgres.OTHER, "critical", "words"),
    ],
)
def test_app_login(kind: str | None, status: str, words: str) -> None:
    why = Failure(kind, "words") if kind else None
    seen = postgres.app_login(TARGET, "u", "d", "DATABASE_URL", why)
    assert seen.status == status
    assert words in seen.message
    if status != "skipped":
        assert 'role "u" on database "d" (from DATABASE_URL' in seen.message


def test_questions_follow_the_version_and_the_servers_part() -> None:
    asked = {question.id: question.sql for question in postgres.questions(PRIMARY)}
    assert tuple(asked) == postgres.DEPENDANTS
    assert "waitstart" in asked["postgres.lock_waits"]
    assert "pg_stat_replication" in asked["postgres.replication_lag"]
    old = Session("postgres", "prod", "12.1", 120001, True, 1.0)
    asked = {question.id: question.sql for question in postgres.questions(old)}
    assert "waitstart" not in asked["postgres.lock_waits"]
    assert "pg_stat_wal_receiver" in asked["postgres.replication_lag"]
    # Names that came after PostgreSQL 12 must not be asked of it.
    newer = ("wal_status", "inactive_since", "pg_stat_io", "leader_pid", "toplevel")
    assert not [name for name in newer if any(name in sql for sql in asked.values())]


def test_no_question_asks_for_the_text_of_a_query() -> None:
    for question in postgres.questions(PRIMARY):
        assert "a.query," not in question.sql
        assert "SELECT query" not in question.sql


def connection_row(sessions: int | None, role: str = "u", state: str = "idle") -> dict[str, Any]:
    return {
        "max_connections": 100,
        "reserved": 3,
        "role": role,
        "state": state,
        "sessions": sessions,
    }


def test_connections() -> None:
    none = only(postgres.connections(TARGET, [connection_row(None)], PRIMARY))
    assert (none.value, none.message, none.detail) == (0, "0 of 97 connections used", [])
    some = only(
        postgres.connections(TARGET, [connection_row(70), connection_row(10, "v")], PRIMARY)
    )
    assert some.value == 82.5
    assert some.message == "80 of 97 connections used, most by u (70 idle)"
    full = only(postgres.connections(TARGET, [connection_row(97)], PRIMARY))
    assert full.value == 100
    assert "(the limit for ordinary roles)" in full.message


def transaction(**changes: Any) -> dict[str, Any]:
    return {
        "pid": 12,
        "role": "u",
        "application_name": "app",
        "state": "idle in transaction",
        "database": "prod",
        "age_seconds": 3725.0,
        "hidden": False,
        **changes,
    }


def test_longest_transaction() -> None:
    assert only(postgres.longest_transaction(TARGET, [], PRIMARY)).value == 0
    seen = only(postgres.longest_transaction(TARGET, [transaction()], PRIMARY))
    assert seen.value == 3725
    assert seen.message == (
        "pid 12, u (app) in prod: open for 1 h 2 min, state idle in transaction"
    )
    assert "pg_terminate_backend(12)" in str(seen.hint)
    plain = only(
        postgres.longest_transaction(
            TARGET, [transaction(application_name="", age_seconds=-1.0)], PRIMARY
        )
    )
    assert plain.value == 0
    assert plain.message.startswith("pid 12, u in prod")
    prepared = only(
        postgres.longest_transaction(TARGET, [transaction(pid=None, state="prepared")], PRIMARY)
    )
    assert "prepared transaction of u" in prepared.message
    assert "ROLLBACK PREPARED" in str(prepared.hint)
    hidden = [transaction(hidden=True, age_seconds=None), transaction()]
    unseen = only(postgres.longest_transaction(TARGET, hidden, PRIMARY))
    assert unseen.status == "unknown"
    assert "pg_monitor" in str(unseen.hint)
    gone = only(postgres.longest_transaction(TARGET, [transaction(pid=None)], PRIMARY))
    assert gone.hint is None


def waiting(pid: int | None, blocking: Any, hidden: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "hidden": hidden,
        "pid": pid,
        "role": "u",
        "application_name": "",
        "database": "prod",
        "wait_seconds": 5.0,
        "sessions": 2,
        "blocking_pids": blocking,
        **changes,
    }


def test_lock_waits() -> None:
    none = only(postgres.lock_waits(TARGET, [waiting(None, None)], PRIMARY))
    assert none.value == 0
    chain = only(postgres.lock_waits(TARGET, [waiting(1, [2]), waiting(2, [3])], PRIMARY))
    assert chain.value == 2
    assert chain.message == (
        "2 sessions waiting for a lock for more than 1 s, the longest (pid 1, u in prod) for 5 s, "
        "blocked by pid 3"
    )
    circle = only(postgres.lock_waits(TARGET, [waiting(1, [2]), waiting(2, [1])], PRIMARY))
    assert "blocked by pid 1, pid 2" in circle.message
    prepared = only(postgres.lock_waits(TARGET, [waiting(1, [0])], PRIMARY))
    assert "blocked by a prepared transaction" in prepared.message
    released = only(postgres.lock_waits(TARGET, [waiting(1, [])], PRIMARY))
    assert "blocked" not in released.message
    assert only(postgres.lock_waits(TARGET, [waiting(None, None, 3)], PRIMARY)).status == "unknown"
    assert only(postgres.lock_waits(TARGET, [waiting(1, [2], 3)], PRIMARY)).value == 2


def test_wraparound_takes_the_nearer_end() -> None:
    rows = [
        {"database": "a", "transactions": 2**30, "multixacts": 5},
        {"database": "b", "transactions": 7, "multixacts": 6},
    ]
    seen = only(postgres.wraparound(TARGET, rows, PRIMARY))
    assert seen.value == 50
    assert "transaction id" in seen.message and "in a" in seen.message
    rows[1]["multixacts"] = 2**31
    seen = only(postgres.wraparound(TARGET, rows, PRIMARY))
    assert seen.value == 100
    assert "multixact id" in seen.message and "in b" in seen.message


def test_checksum_failures() -> None:
    def rows(setting: str, failures: int) -> list[dict[str, Any]]:
        return [{"data_checksums": setting, "database": "prod", "failures": failures}]

    assert only(postgres.checksum_failures(TARGET, [], PRIMARY)).status == "skipped"
    assert only(postgres.checksum_failures(TARGET, rows("off", 0), PRIMARY)).status == "skipped"
    assert only(postgres.checksum_failures(TARGET, rows("on", 0), PRIMARY)).value == 0
    bad = only(postgres.checksum_failures(TARGET, rows("on", 2), PRIMARY))
    assert (bad.value, bad.message) == (2, "2 pages failed the checksum in prod, expected none")


@pytest.mark.parametrize(
    ("changes", "who", "status", "words"),
    [
        ({"archive_mode": "off"}, PRIMARY, "skipped", "archive_mode is off"),
        ({}, STANDBY, "skipped", "a standby"),
        ({"archive_mode": "always"}, STANDBY, "ok", "3 segments archived"),
        ({}, PRIMARY, "ok", "the last 1 min ago"),
        ({"archived_ago_seconds": None}, PRIMARY, "ok", "nothing has had to be archived"),
        ({"failing": True}, PRIMARY, "critical", "archiving 0001 fails, 4 failures"),
    ],
)
def test_archiving(changes: dict[str, Any], who: Session, status: str, words: str) -> None:
    row = {
        "archive_mode": "on",
        "archived": 3,
        "failed": 4,
        "last_failed_wal": "0001",
        "failing": False,
        "archived_ago_seconds": 60.0,
    }
    seen = only(postgres.archiving(TARGET, [{**row, **changes}], who))
    assert seen.status == status
    assert words in seen.message


def replica(name: str, lag: float | None, kind: str = "standby") -> dict[str, Any]:
    return {
        "kind": kind,
        "name": name,
        "state": "streaming",
        "lag_seconds": lag,
        "behind_bytes": 2048.0 if lag is not None else None,
    }


def test_replication_of_a_primary() -> None:
    assert only(postgres.replication_primary(TARGET, [], PRIMARY)).status == "skipped"
    rows = [replica("a", 1.0), replica("b", 9.0)]
    seen = only(postgres.replication_primary(TARGET, rows, PRIMARY))
    assert seen.value == 9
    assert seen.message == "2 standbys, b (streaming) is 9 s and 2.0 KiB behind"
    both = postgres.replication_primary(TARGET, [*rows, replica("s", 0.0, "slot")], PRIMARY)
    assert [one.target.instance for one in both] == [None, "slot s"]
    assert both[1].status == "warning"
    assert "2.0 KiB of WAL" in both[1].message
    alone = postgres.replication_primary(TARGET, [replica("s", None, "slot")], PRIMARY)
    assert alone[0].status == "skipped"
    assert "see the replication slots" in alone[0].message
    assert "has lost" in alone[1].message


@pytest.mark.parametrize(
    ("receivers", "received", "ago", "status", "value"),
    [
        (0, "0/1", 30.0, "warning", None),
        (0, None, None, "warning", None),
        (1, "0/2", 30.0, None, 0.0),
        (1, "0/3", 30.0, None, 30.0),
        (1, "0/3", None, "unknown", None),
    ],
)
def test_replication_of_a_standby(
    receivers: int, received: str | None, ago: float | None, status: str | None, value: float | None
) -> None:
    row = {
        "receivers": receivers,
        "received": received,
        "replayed": "0/2",
        "paused": False,
        "behind_bytes": 1.0,
        "replayed_ago_seconds": ago,
    }
    seen = only(postgres.replication_standby(TARGET, [row], STANDBY))
    assert (seen.status, seen.value) == (status, value)


def test_a_paused_standby() -> None:
    row = {
        "receivers": 1,
        "received": "0/3",
        "replayed": "0/2",
        "paused": True,
        "behind_bytes": 2048.0,
        "replayed_ago_seconds": None,
    }
    seen = only(postgres.replication_standby(TARGET, [row], STANDBY))
    assert seen.status == "warning"
    assert "2.0 KiB of WAL received and not replayed, replay is paused" in seen.message
    row["replayed_ago_seconds"] = 5.0
    seen = only(postgres.replication_standby(TARGET, [row], STANDBY))
    assert seen.value == 5
    assert "replay is paused" in seen.message


def test_cache_hits() -> None:
    few = only(postgres.cache_hits(TARGET, [{"hits": 9000, "reads": 999}], PRIMARY))
    assert few.status == "skipped"
    assert only(postgres.cache_hits(TARGET, [], PRIMARY)).status == "skipped"
    many = only(postgres.cache_hits(TARGET, [{"hits": 9000, "reads": 1000}], PRIMARY))
    assert many.value == 90


def test_dead_tuples() -> None:
    row = {
        "schema": "public",
        "name": "t",
        "live": 3000,
        "dead": 1000,
        "vacuumed_ago_seconds": None,
        "tables": 1,
    }
    assert only(postgres.dead_tuples(TARGET, [row], STANDBY)).status == "skipped"
    assert only(postgres.dead_tuples(TARGET, [], PRIMARY)).value == 0
    seen = only(postgres.dead_tuples(TARGET, [row], PRIMARY))
    assert seen.value == 25
    assert seen.message.endswith("never vacuumed")
    more = {**row, "tables": 5, "vacuumed_ago_seconds": 60.0}
    seen = only(postgres.dead_tuples(TARGET, [more, row], PRIMARY))
    assert "vacuumed 1 min ago; 5 tables" in seen.message
    assert len(seen.detail) == 2


def test_size() -> None:
    total = {"size_bytes": 4096, "name": None, "relation_bytes": None}
    table = {"size_bytes": None, "name": "public.t", "relation_bytes": 2048}
    assert only(postgres.size(TARGET, [total], PRIMARY)).message == "prod has 4.0 KiB"
    seen = only(postgres.size(TARGET, [table, total], PRIMARY))
    assert seen.value == 4096
    assert seen.detail == [{"table": "public.t", "bytes": 2048}]


def test_query_failed() -> None:
    seen = postgres.query_failed(TARGET, "permission denied hunter2\nCONTEXT: x", ["hunter2"])
    assert seen.status == "unknown"
    assert seen.message == "the query was refused: permission denied ********"
    assert "no reason given" in postgres.query_failed(TARGET, "", []).message
