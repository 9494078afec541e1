# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""pg_maintenance and pg_maintenance_info, run by Ansible against a real PostgreSQL in which each
finding was made for real."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Container
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.pg_maintenance import (
    MaintenanceError,
    Request,
    look,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance import (
    MaintenanceSettings,
)

from .conftest import Project, wait_until
from .postgres import accepts, connect
from .postgres import sql as sql_in

PASSWORD = "canary-admin-5c/1@:x"
CANARIES = (
    PASSWORD,
    "canary-role-9a",
    "canary-literal-44",
    "canary-comment-7e",
    "canary-copy-31",
    "canary-row-62",
)
DATABASE = "pynomaly_prod"
ODD = '"Odd ""Name"" of \'t\'"'

TABLES = """
CREATE TABLE accounts (id bigint PRIMARY KEY, number int);
INSERT INTO accounts SELECT n, n / 2 FROM generate_series(1, 20000) AS n;
CREATE TABLE orders (id bigint PRIMARY KEY, account_id bigint REFERENCES accounts, note text);
INSERT INTO orders SELECT n, n % 20000 + 1, 'note ' || n FROM generate_series(1, 30000) AS n;
CREATE INDEX orders_note ON orders (note);
CREATE INDEX orders_note_again ON orders (note);
CREATE INDEX orders_lower ON orders (lower(note));
CREATE INDEX orders_lower_again ON orders USING btree ((  lower(  note)));
CREATE UNIQUE INDEX orders_account ON orders (id, account_id);
CREATE TABLE lines (id bigint PRIMARY KEY, order_id bigint REFERENCES orders, position int);
CREATE INDEX lines_order ON lines (order_id, position);
CREATE SEQUENCE tickets_numbers;
CREATE TABLE tickets (number smallint DEFAULT nextval('tickets_numbers'), what text);
SELECT setval('tickets_numbers', 31000);
CREATE TABLE identities (id int GENERATED ALWAYS AS IDENTITY, what text);
INSERT INTO identities (what) VALUES ('one');
ALTER TABLE identities ALTER COLUMN id RESTART WITH 2000000000;
INSERT INTO identities (what) VALUES ('two');
CREATE TABLE bloated (id bigint, text text);
INSERT INTO bloated SELECT n, repeat('x', 100) FROM generate_series(1, 60000) AS n;
CREATE TABLE parts (id bigint, at int) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
CREATE INDEX parts_at ON parts (at);
INSERT INTO parts SELECT n, n % 20 FROM generate_series(1, 1000) AS n;
CREATE TABLE dead (id bigint PRIMARY KEY, n int);
INSERT INTO dead SELECT n, n FROM generate_series(1, 5000) AS n;
CREATE TABLE held (id bigint PRIMARY KEY, n int);
INSERT INTO held SELECT n, n FROM generate_series(1, 5000) AS n;
CREATE MATERIALIZED VIEW counted AS SELECT number, count(*) FROM accounts GROUP BY number;
"""

#: What the tables look like after a week without autovacuum.
WEEK = f"""
UPDATE dead SET n = n + 1;
UPDATE held SET n = n + 1;
CREATE TABLE {ODD} (id int);
INSERT INTO {ODD} SELECT generate_series(1, 300);
INSERT INTO accounts SELECT n, n FROM generate_series(20001, 23000) AS n;
"""  # noqa: S608


def sql(server: Container, *statements: str) -> list[Any]:
    return sql_in(server, DATABASE, *statements)


@pytest.fixture(scope="module")
def server(project: Project) -> Container:
    started = project.start(
        "postgres",
        "postgres",
        {"POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": DATABASE},
        [
            "postgres",
            *("-c", "autovacuum=off", "-c", "shared_buffers=16MB", "-c", "work_mem=64MB"),
            *("-c", "shared_preload_libraries=pg_stat_statements"),
            *("-c", "pg_stat_statements.track_utility=on", "-c", "fsync=off"),
        ],
        ["--memory", "512m"],
    )
    wait_until("PostgreSQL lets its administrator in", lambda: accepts(started))
    sql(started, "CREATE EXTENSION pg_stat_statements", TABLES)
    sql(started, "ANALYZE", "DELETE FROM bloated WHERE id % 5 <> 0")
    sql(started, "VACUUM (ANALYZE) bloated")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        sql(started, "CREATE UNIQUE INDEX CONCURRENTLY accounts_number ON accounts (number)")
    # A partitioned table's statistics without its own: as autovacuum leaves them.
    sql(started, "DELETE FROM pg_statistic WHERE starelid = 'parts'::regclass")
    sql(
        started,
        "SELECT pg_stat_reset_single_table_counters('parts'::regclass)",
        "ALTER ROLE postgres SET application_name = 'canary-role-9a'",
        "CREATE ROLE somebody PASSWORD 'canary-role-9a'",
        "ALTER ROLE somebody PASSWORD 'canary-role-9a'",
        "SELECT count(*) FROM orders WHERE note = 'canary-literal-44'",
        "/* canary-comment-7e */ SELECT count(*) FROM accounts, pg_sleep(1.2)",
        "COPY (SELECT 'canary-copy-31') TO '/dev/null'",
        "ALTER ROLE postgres RESET application_name",
        WEEK,
    )
    return started


class Runner:
    """Runs the modules as Ansible does, and looks for secrets in all that comes out."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project = project
        self.folder = folder
        self.state_dir = folder / "state"

    def __call__(self, module: str, *flags: str, fails: bool = False, **given: Any) -> Any:
        answer, play = self.folder / "answer.json", self.folder / "play.yml"
        arguments = {
            "project_name": self.project.name,
            "state_dir": str(self.state_dir),
            "lock_timeout_seconds": 0.5,
            "unused_index_days": 0,
            "bloat_minimum_mib": 1,
            **given,
        }
        if module == "pg_maintenance_info":
            del arguments["lock_timeout_seconds"]
        answer.unlink(missing_ok=True)
        ask = {f"pynomaly.ops.{module}": arguments, "register": "seen"}
        keep = {
            "ansible.builtin.copy": {"content": "{{ seen }}", "dest": str(answer)},
            "check_mode": False,
        }
        tasks = [{"block": [ask], "always": [keep]}]
        play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
        completed = subprocess.run(
            [
                *("ansible-playbook", "-i", "localhost,", "-c", "local", str(play), "-vvv"),
                *("-e", f"ansible_python_interpreter={sys.executable}", *flags),
            ],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        output = completed.stdout + completed.stderr
        assert completed.returncode == (2 if fails else 0), output
        assert not [canary for canary in CANARIES if canary in output + answer.read_text()]
        found = dict(json.loads(answer.read_text()))
        assert bool(found.get("failed")) is fails, found.get("msg")
        return found


@pytest.fixture(scope="module")
def run(project: Project, server: Container, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    assert server.running
    return Runner(project, tmp_path_factory.mktemp("maintenance"))


def found(answer: dict[str, Any], identifier: str) -> dict[str | None, dict[str, Any]]:
    """The results of one probe by their instance."""
    return {
        one["instance"]: one for one in answer["results"] if one["id"] == f"weekly_db.{identifier}"
    }


def actions(answer: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["name"]: (one["action"], one["state"]) for one in answer["actions"]}


def fingerprint(server: Container) -> list[Any]:
    """Everything that ANALYZE, VACUUM, REINDEX or DROP would leave a trace in."""
    return [
        sql(
            server,
            "SELECT relid, n_live_tup, n_dead_tup, n_mod_since_analyze, n_tup_ins, n_tup_upd, "
            "n_tup_del, last_vacuum, last_analyze, vacuum_count, analyze_count, autovacuum_count "
            "FROM pg_stat_user_tables ORDER BY relid",
        ),
        sql(
            server,
            "SELECT oid, relname, relfilenode, relpages, reltuples, relfrozenxid::text FROM "
            "pg_class ORDER BY oid",
        ),
        sql(server, "SELECT indexrelid, indisvalid, indisready FROM pg_index ORDER BY 1"),
        sql(server, "SELECT count(*), sum(hashtextextended(s::text, 0)) FROM pg_statistic AS s"),
    ]


@contextmanager
def locked(server: Container, table: str) -> Iterator[None]:
    """Somebody has the table for himself."""
    with closing(connect(server, DATABASE)) as connection, connection.cursor() as cursor:
        cursor.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


DUE = {
    "public.accounts": "analyze",
    "public.dead": "vacuum",
    "public.held": "vacuum",
    'public."Odd ""Name"" of \'t\'"': "analyze",
    "public.parts": "analyze",
}


def test_the_report_changes_nothing_and_finds_each_thing(run: Runner, server: Container) -> None:
    before = fingerprint(server)
    answer = run("pg_maintenance_info")
    assert fingerprint(server) == before
    assert answer["changed"] is False
    assert not run.state_dir.exists()
    assert actions(answer) == {name: (verb, "planned") for name, verb in DUE.items()}
    statistics = found(answer, "statistics")
    assert "3000 rows changed" in statistics["public.accounts"]["message"]
    assert statistics["public.accounts"]["status"] == "warning"
    assert "partitioned" in statistics["public.parts"]["message"]
    assert "5000 dead tuples" in found(answer, "dead_tuples")["public.dead"]["message"]

    invalid = found(answer, "invalid_indexes")
    assert set(invalid) == {"public.accounts_number"}
    assert invalid["public.accounts_number"]["status"] == "warning"
    assert "postgres_maintain_reindex_invalid" in invalid["public.accounts_number"]["hint"]
    used = "SELECT indexrelname FROM pg_stat_user_indexes WHERE idx_scan > 0 AND indexrelname ~ %s"
    ((kept,),) = sql(server, used.replace("%s", "'orders_note'"))
    duplicates = found(answer, "duplicate_indexes")
    assert set(duplicates) == {
        *({"public.orders_note", "public.orders_note_again"} - {f"public.{kept}"}),
        "public.orders_lower_again",
    }
    assert "DROP INDEX CONCURRENTLY" in duplicates["public.orders_lower_again"]["hint"]
    unused = found(answer, "unused_indexes")
    assert "public.lines_order" in unused
    assert "public.parts_at" in unused  # its partitions' indexes are not told one by one
    assert not {"public.orders_pkey", "public.orders_account", "public.parts_1_at_idx"} & set(
        unused
    )
    assert "DROP INDEX public.parts_at" in unused["public.parts_at"]["hint"] or (
        unused["public.parts_at"]["status"] == "ok"
    )
    keys = found(answer, "foreign_keys")
    assert set(keys) == {"public.orders (account_id)"}
    assert keys["public.orders (account_id)"]["status"] == "warning"
    assert keys["public.orders (account_id)"]["hint"] == (
        "CREATE INDEX CONCURRENTLY ON public.orders (account_id)"
    )
    sequences = found(answer, "sequences")
    assert sequences["public.tickets_numbers"]["status"] == "critical"
    assert "31000 of 32767" in sequences["public.tickets_numbers"]["message"]
    assert sequences["public.identities_id_seq"]["value"] == 93.1
    assert "TYPE bigint" in sequences["public.identities_id_seq"]["hint"]
    bloat = found(answer, "bloat")["public.bloated"]
    assert bloat["status"] == "warning"
    assert 75 <= bloat["value"] <= 85
    assert "estimate" in bloat["message"]
    size = found(answer, "size")[None]
    assert size["value"] > 10_000_000
    assert size["detail"][0]["table"] in ("public.orders", "public.bloated")
    assert found(answer, "growth")[None]["status"] == "skipped"
    assert set(found(answer, "wraparound")) == {"transactions", "multixacts"}
    settings = found(answer, "settings")
    assert settings["shared_buffers"]["status"] == "warning"
    assert "512 MiB of the container" in settings["shared_buffers"]["message"]
    assert settings["work_mem"]["status"] == "warning"
    assert "command in the Compose file" in settings["work_mem"]["hint"]
    assert settings["autovacuum"]["status"] == "warning"
    assert settings["checkpoint_completion_target"]["status"] == "ok"


def test_statements_are_shown_without_their_values(run: Runner) -> None:
    """The runner looks for the canaries in everything that is printed."""
    statements = found(run("pg_maintenance_info", statements=100), "statements")
    slow = [one for one in statements.values() if one["status"] == "warning"]
    assert [one["message"] for one in slow if "pg_sleep($1)" in one["message"]]
    texts = [one["message"].rpartition("all time: ")[2] for one in statements.values()]
    assert any("FROM orders WHERE note = $1" in text for text in texts)
    assert not [text for text in texts if "ALTER" in text or "COPY" in text]
    assert not [text for text in texts if "pg_stat_progress_vacuum" in text]  # our own
    assert max(len(text) for text in texts) <= 200


def test_check_mode_says_what_would_be_done_and_changes_nothing(
    run: Runner, server: Container
) -> None:
    before = fingerprint(server)
    answer = run("pg_maintenance", "--check", reindex_invalid=["public.accounts_number"])
    assert fingerprint(server) == before
    assert answer["changed"] is True
    assert not run.state_dir.exists()
    expected = {**DUE, "public.accounts_number": "reindex"}
    assert actions(answer) == {name: (verb, "planned") for name, verb in expected.items()}


def test_an_index_that_there_is_not_stops_before_anything_is_done(
    run: Runner, server: Container
) -> None:
    before = fingerprint(server)
    answer = run("pg_maintenance", fails=True, reindex_invalid=["public.nothing"])
    assert "public.nothing: seen none of that name" in answer["msg"]
    assert "invalid are: public.accounts_number" in answer["msg"]
    assert fingerprint(server) == before


def test_nothing_is_done_without_time(run: Runner, server: Container) -> None:
    before = fingerprint(server)
    answer = run("pg_maintenance", budget_seconds=0.1)
    assert fingerprint(server) == before
    assert answer["changed"] is False
    assert {state for _verb, state in actions(answer).values()} == {"not_reached"}
    assert "postgres_maintain_budget_seconds" in found(answer, "dead_tuples")["public.dead"]["hint"]


def test_what_is_due_is_done_but_for_a_locked_table(run: Runner, server: Container) -> None:
    with locked(server, "held"):
        answer = run("pg_maintenance")
        state = dict.fromkeys(DUE, "done") | {"public.held": "failed"}
        assert actions(answer) == {name: (verb, state[name]) for name, verb in DUE.items()}
        held = found(answer, "dead_tuples")["public.held"]
        assert held["status"] == "warning"
        assert "somebody holds a lock on it: not had within 0.5 s" in held["message"]
        assert "locked, its size is the last vacuum's" in found(answer, "size")[None]["message"]
        asked = run("pg_maintenance", fail_on_incomplete=True)
        assert found(asked, "dead_tuples")["public.held"]["status"] == "critical"
    assert answer["changed"] is True
    assert answer["done"] == "1 vacuumed, 3 analyzed, 1 not done"
    assert sql(
        server,
        "SELECT n_dead_tup, n_mod_since_analyze, vacuum_count FROM pg_stat_user_tables "
        "WHERE relname = 'dead'",
    ) == [(0, 0, 1)]
    assert sql(server, "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'parts'") == [(True,)]
    again = run("pg_maintenance")
    assert actions(again) == {"public.held": ("vacuum", "done")}
    assert again["changed"] is True


def test_the_second_run_changes_nothing(run: Runner, server: Container) -> None:
    before = fingerprint(server)
    answer = run("pg_maintenance")
    assert answer["changed"] is False
    assert answer["actions"] == []
    assert answer["done"] == "nothing was due"
    assert fingerprint(server) == before
    assert found(answer, "statistics")[None]["status"] == "ok"
    assert found(answer, "dead_tuples")[None]["status"] == "ok"


def test_growth_is_told_since_a_week_ago(run: Runner) -> None:
    path = run.state_dir / "weekly_db" / f"{run.project.name}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    history = json.loads(path.read_text())
    (sample,) = history["samples"]
    week_ago = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=7)
    sample["at"] = week_ago.strftime("%Y-%m-%dT%H:%M:%SZ")
    sample["database_bytes"] -= 1024**2
    sample["tables"]["public.orders"][0] -= 1024**2
    path.write_text(json.dumps(history))
    growth = found(run("pg_maintenance_info"), "growth")[None]
    assert growth["status"] == "ok"
    assert "grew by 1.0 MiB in 7 d" in growth["message"]
    assert growth["detail"][0]["table"] == "public.orders"
    assert len(json.loads(path.read_text())["samples"]) == 1
    run("pg_maintenance")
    assert len(json.loads(path.read_text())["samples"]) == 2
    path.write_text("not json")
    broken = found(run("pg_maintenance_info"), "growth")[None]
    assert broken["status"] == "unknown"
    assert str(path) in broken["message"]


def test_dead_tuples_that_somebody_may_still_see_are_told(run: Runner, server: Container) -> None:
    with closing(connect(server, DATABASE)) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM dead")
        sql(server, "UPDATE dead SET n = n + 1")
        pid = connection.info.backend_pid
        answer = run("pg_maintenance")
    seen = found(answer, "dead_tuples")["public.dead"]
    assert seen["status"] == "warning"
    assert "5000 dead tuples could not be removed yet" in seen["message"]
    assert f"the transaction of pid {pid}" in seen["message"]
    assert actions(run("pg_maintenance"))["public.dead"] == ("vacuum", "done")


def test_a_failed_rebuild_leaves_nothing_and_a_good_one_is_done_once(
    run: Runner, server: Container
) -> None:
    """With everything else switched off, nothing else is done."""
    name = "public.accounts_number"

    def rebuild(index: str) -> Any:
        return run("pg_maintenance", analyze=False, vacuum=False, reindex_invalid=[index])

    answer = rebuild(name)
    assert actions(answer)[name] == ("reindex", "failed")
    assert answer["changed"] is False
    assert "could not create unique index" in found(answer, "reindex")[name]["message"]
    assert "is duplicated" not in json.dumps(answer)
    assert sql(server, "SELECT relname FROM pg_class WHERE relname LIKE '%ccnew%'") == []
    sql(server, "UPDATE accounts SET number = -id WHERE id % 2 = 0 OR id > 20000")
    rebuilt = rebuild(name)
    assert actions(rebuilt)[name] == ("reindex", "done")
    assert actions(rebuilt)["public.accounts"] == ("vacuum", "planned")
    assert rebuilt["changed"] is True
    assert found(rebuilt, "invalid_indexes")[None]["status"] == "ok"
    again = rebuild("accounts_number")
    assert actions(again)[name] == ("reindex", "unnecessary")
    assert again["changed"] is False
    run("pg_maintenance")


def test_old_rows_are_frozen(run: Runner, server: Container) -> None:
    sql(
        server,
        "ALTER TABLE lines SET (autovacuum_freeze_max_age = 100000)",
        "INSERT INTO lines VALUES (1, 1, 1)",
        "DO $$ BEGIN FOR n IN 1..1000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$",
    )
    answer = run("pg_maintenance", freeze_age_percent=0.5)
    (action,) = answer["actions"]
    assert (action["name"], action["state"]) == ("public.lines", "done")
    assert action["statement"] == "VACUUM (FREEZE, ANALYZE, PARALLEL 0) public.lines"
    assert sql(server, "SELECT age(relfrozenxid) < 100 FROM pg_class WHERE relname = 'lines'") == [
        (True,)
    ]
    assert run("pg_maintenance", freeze_age_percent=0.5)["changed"] is False


def test_who_may_not_vacuum_is_told_so(run: Runner, server: Container) -> None:
    """The server only warns then, and says that all went well."""
    sql(
        server,
        "ALTER ROLE somebody LOGIN",
        "GRANT pg_read_all_stats, pg_read_all_data TO somebody",
        "UPDATE dead SET n = n + 1",
    )
    answer = run("pg_maintenance", postgres_user="somebody", postgres_password="canary-role-9a")
    assert actions(answer)["public.dead"] == ("vacuum", "failed")
    assert answer["changed"] is False
    message = found(answer, "dead_tuples")["public.dead"]["message"]
    assert 'role "somebody" may not do it' in message
    assert run("pg_maintenance")["changed"] is True


MODULE = "ansible_collections.pynomaly.ops.plugins.module_utils._edges.pg_maintenance"


def request_of(project: Project) -> Request:
    return Request(project.name, {}, CheckSettings(), MaintenanceSettings(), "/nonexistent")


def test_a_question_that_is_refused_leaves_the_others(
    project: Project, server: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{MODULE}.sql.TABLES", "SELECT pg_advisory_lock(77)")
    with closing(connect(server, DATABASE)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(77)")
        answer = look(request_of(project))
    unknown = {one.target.id for one in answer.measurements if one.status == "unknown"}
    assert {"weekly_db.statistics", "weekly_db.dead_tuples", "weekly_db.size"} <= unknown
    assert not {"weekly_db.sequences", "weekly_db.settings"} & unknown


def test_a_server_that_falls_silent_is_given_up(
    project: Project, server: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.running
    monkeypatch.setattr(f"{MODULE}.QUESTION_SECONDS", 1.0)
    monkeypatch.setattr(f"{MODULE}.sql.TABLES", "SELECT pg_sleep(20)")
    started = time.monotonic()
    with pytest.raises(MaintenanceError, match=r"the session was lost .* no answer within 1 s"):
        look(request_of(project))
    assert time.monotonic() - started < 10


def test_without_the_extension_the_report_says_how_to_have_it(
    run: Runner, server: Container
) -> None:
    sql(server, "DROP EXTENSION pg_stat_statements")
    (only,) = found(run("pg_maintenance_info"), "statements").values()
    assert only["status"] == "skipped"
    assert "CREATE EXTENSION pg_stat_statements" in only["message"]
