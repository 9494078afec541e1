# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups of a real PostgreSQL, broken in each way that a night has in store, and restored."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    DATABASE,
    Backup,
    BackupError,
    Manifest,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Container
from ansible_collections.pynomaly.ops.plugins.module_utils._database_contents import (
    differences,
    schema_differences,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (
    database_contents,
    pg_backup,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.helper_container import (
    HELPER_LABEL,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
    PostgresServer,
    find_server,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_tools import (
    WORK,
    PostgresTools,
    remove_left_secrets,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity

from .conftest import Project, docker, image, wait_until
from .postgres import accepts, connect, sql

PASSWORD = "canary-backup-4e/9@:x"
APP_PASSWORD = "canary-app-role-81"
HERE = Path(__file__).parent
SECONDS = 120.0

# Programs that fail as no test could make the real ones fail; which one, the database's name says.
PG_DUMP = r"""#!/bin/sh
real() { /usr/lib/postgresql/*/bin/pg_dump "$@"; }
file=$(for one in "$@"; do case "$one" in --file=*) echo "${one#--file=}";; esac; done)
largest() { ls -S "$file"/*.dat* | head -n 1; }
case "$*" in
*wrapped_late_failure*) real "$@"; sleep 1; echo "pg_dump: error: it broke" >&2; exit 1;;
*wrapped_lost_file*) real "$@" && rm "$(largest)";;
*wrapped_cut_file*) real "$@" && truncate -s 5 "$(largest)";;
*wrapped_lost_table*) real --exclude-table=events "$@";;
*wrapped_cut_list*) real "$@" && truncate -s 200 "$file/toc.dat";;
*wrapped_nothing*) exit 0;;
*wrapped_stale_sequence*)
  real "$@" && sed -i 's/id_seq., 2000, t/id_seq\x27, 1999, t/' "$file/toc.dat";;
*--compress=zstd*wrapped_without_zstd*)
  echo "pg_dump: error: invalid compression specification: this build does not support" \
       "compression with zstd" >&2; exit 1;;
*) real "$@";;
esac
"""
PG_DUMPALL = r"""#!/bin/sh
case "$*" in
*wrapped_globals*) echo "pg_dumpall: error: it broke" >&2; exit 3;;
*wrapped_no_globals*) exit 0;;
*) exec /usr/lib/postgresql/*/bin/pg_dumpall "$@";;
esac
"""


@pytest.fixture(scope="module")
def wrapped_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's image, with the programs above before the real ones."""
    name = "pynomaly-lab/inttest-postgres:wrapped"
    folder = tmp_path_factory.mktemp("programs")
    made = docker("create", image("postgres")).stdout.strip()
    try:
        for program, text in (("pg_dump", PG_DUMP), ("pg_dumpall", PG_DUMPALL)):
            (folder / program).write_text(text)
            (folder / program).chmod(0o755)
            docker("cp", str(folder / program), f"{made}:/usr/local/bin/{program}")
        docker("commit", made, name)
    finally:
        docker("rm", "--volumes", made)
    yield name
    docker("rmi", name, check=False)


@pytest.fixture(scope="module")
def server(project: Project, wrapped_image: str) -> Iterator[Container]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYNOMALY_TEST_WRAPPED_POSTGRES_IMAGE", wrapped_image)
        started = project.start(
            "postgres",
            "wrapped_postgres",
            {"POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": "pynomaly_prod"},
            [
                *("postgres", "-c", "shared_preload_libraries=pg_stat_statements"),
                *("-c", "autovacuum=off", "-c", "fsync=off", "-c", "max_connections=60"),
                *("-c", "max_locks_per_transaction=256"),
            ],
        )
    wait_until("PostgreSQL lets its administrator in", lambda: accepts(started))
    sql(started, "pynomaly_prod", f"CREATE ROLE app LOGIN PASSWORD '{APP_PASSWORD}'")
    yield started


def run_script(server: Container, database: str, script: Path) -> None:
    """Each statement in a transaction of its own."""
    argv = ["docker", "exec", "--interactive", server.name, "psql", "--no-psqlrc", "--quiet"]
    argv += ["--username=postgres", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    with script.open("rb") as file:
        done = subprocess.run(
            [*argv, f"--dbname={database_contents.conninfo(database)}"],
            stdin=file,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def make_database(server: Container) -> Iterator[Callable[[str], str]]:
    """Makes databases, with 2000 events in each, that are dropped after the test."""
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        sql(server, "postgres", f'CREATE DATABASE "{name}" TEMPLATE template0')
        sql(
            server,
            name,
            "CREATE TABLE events (id serial PRIMARY KEY, note text, data bytea)",
            "INSERT INTO events (note) SELECT 'note ' || n FROM generate_series(1, 2000) AS n",
        )
        return name

    yield make
    wait_until("PostgreSQL is there", lambda: accepts(server))
    for name in made:
        sql(server, "postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def make_large(server: Container, database: str, mebibytes: int = 40) -> None:
    """Rows that no program compresses."""
    sql(
        server,
        database,
        "CREATE EXTENSION IF NOT EXISTS pgcrypto",
        "ALTER TABLE events ALTER data SET STORAGE EXTERNAL",
        "CREATE VIEW kilobytes AS SELECT gen_random_bytes(1024) AS data"
        " FROM generate_series(1, 1000) AS n",
        *["INSERT INTO events (data) SELECT data FROM kilobytes"] * mebibytes,
        "DROP VIEW kilobytes",
    )


class Site:
    """A backup directory and a journal."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project = project
        self.backup_dir = folder / "backups"
        self.state_dir = folder / "state"
        self.store = BackupStore(str(self.backup_dir), project.name)
        self.states = TemporaryStates(
            OperationStore(str(self.state_dir)),
            RunIdentity("run-1", "tester", "here"),
            "backup",
            project.name,
        )

    def settings(self, database: str, **changes: Any) -> pg_backup.PgBackupSettings:
        plain = pg_backup.PgBackupSettings(
            project=self.project.name,
            backup_dir=str(self.backup_dir),
            postgres_database=database,
            service_names={"postgres": "postgres"},
            timeout_seconds=SECONDS,
            reserve_bytes=0,
        )
        return replace(plain, **changes)

    def back_up(self, database: str, **changes: Any) -> dict[str, Any]:
        return pg_backup.run(self.settings(database, **changes), self.states)

    def backups(self) -> list[Backup]:
        return self.store.backups([DATABASE])

    def the_backup(self) -> tuple[Backup, Manifest]:
        (backup,) = self.backups()
        assert backup.manifest is not None, backup.problem
        assert self.store.check_files(backup) == []
        return backup, backup.manifest

    def nothing_is_left(self) -> None:
        """Of a backup that failed nothing remains, on the disk, in the engine, in the journal."""
        assert self.store.stagings() == []
        assert helpers(self.project) == []
        assert secrets_left(self.project) == []
        assert self.states.left() == []


@pytest.fixture
def site(project: Project, server: Container, tmp_path: Path) -> Iterator[Site]:
    assert server.running
    yield Site(project, tmp_path)
    for helper in helpers(project):  # of a test that failed
        docker("rm", "--force", helper, check=False)
    remove_left_secrets(project.name)


def helpers(project: Project) -> list[str]:
    found = docker("ps", "--all", "--quiet", "--filter", f"label={HELPER_LABEL}={project.name}")
    return found.stdout.split()


def secrets_left(project: Project) -> list[Path]:
    """Folders with passwords, of this project: other tests may have theirs."""
    return list(Path("/dev/shm").glob(f"pynomaly-ops-secrets-{project.name}.*"))


def postgres(project: Project, database: str) -> tuple[EngineControl, PostgresServer]:
    engine = EngineControl(60.0)
    settings = CheckSettings(postgres_database=database)
    return engine, find_server(project.stack(), engine, settings)


def contents(project: Project, database: str, work: Path) -> dict[str, Any]:
    engine, found = postgres(project, database)
    seen = database_contents.measure(found, database, timeout_seconds=SECONDS)
    with PostgresTools(engine, found, project.name) as tools:
        seen["schema_sha256"] = database_contents.live_schema_digest(tools, database, work, SECONDS)
    return seen


def restore(project: Project, backup: Backup, database: str) -> None:
    """Bring a backup back into a new database with pg_restore alone."""
    engine, found = postgres(project, "postgres")
    sql(found.container, "postgres", f'CREATE DATABASE "{database}" TEMPLATE template0')
    with PostgresTools(engine, found, project.name) as tools:
        tools.run(
            [
                *("pg_restore", "--jobs=2", "--exit-on-error", "--dbname"),
                *(database_contents.conninfo(database), WORK),
            ],
            SECONDS,
            work=str(Path(backup.path) / "dump"),
        )


# A backup is whole


def test_a_hard_schema_comes_back_equal(
    site: Site, project: Project, server: Container, tmp_path: Path
) -> None:
    name = "Hard 'one' \"it\" = x"
    quoted = '"Hard \'one\' ""it"" = x"'
    sql(server, "postgres", f"CREATE DATABASE {quoted} TEMPLATE template0")
    try:
        run_script(server, name, HERE / "hard_schema.sql")
        answer = site.back_up(name)
        backup, manifest = site.the_backup()
        site.nothing_is_left()
        content = manifest.content
        assert answer["changed"] is True
        assert answer["path"] == backup.path
        assert answer["summary"]["tables"] == len(content["tables"]) == 15
        assert answer["summary"]["large_objects"] == 3
        assert content["tables"]["public.parent"]["rows"] == 1, "a child's rows are its own"
        assert content["tables"]["public.unlogged_rows"]["rows"] == 10
        assert content["sequences"]['public."Seq Up"'] == {"last_value": 8, "is_called": True}
        assert content["materialized_views"]["public.not_populated"] is False
        assert content["roles"] == ["Hard Reader", "hard_owner", "hard_writer", "postgres"]
        assert content["extensions"].keys() >= {"hstore", "citext", "pgcrypto", "btree_gist"}
        properties = content["database"]
        assert properties["name"] == name
        assert properties["connection_limit"] == 77
        assert properties["comment"] == 'it\'s a "comment"'
        assert ["hard_writer", "statement_timeout=3s"] in properties["settings"]
        assert {"grantee": "Hard Reader", "privilege": "CONNECT", "grantable": True} in properties[
            "acl"
        ]
        assert "" not in [one["grantee"] for one in properties["acl"]], "PUBLIC's was revoked"
        assert manifest.versions["server"] == manifest.versions["pg_dump"]
        globals_sql = (Path(backup.path) / "globals.sql").read_text()
        assert 'CREATE ROLE "Hard Reader"' in globals_sql
        assert "SCRAM-SHA-256" in globals_sql
        assert {path.stat().st_mode & 0o077 for path in Path(backup.path).rglob("*")} == {0}

        restore(project, backup, "restored")
        seen = contents(project, "restored", tmp_path)
        assert differences(content, seen) == []

        # Whatever is changed now is seen
        for statement, told in (
            ("UPDATE public.t SET t = 43 WHERE t = 42", "table public.t: seen other values"),
            ("DELETE FROM public.child", "table public.child: seen 0 rows, expected 1"),
            ("SELECT setval('public.\"Seq Up\"', 7)", 'sequence public."Seq Up": seen at 7'),
            ("SELECT lo_put(90001, 2000000, '!')", "large objects: seen checksum"),
            ("ALTER LARGE OBJECT 90001 OWNER TO app", "large objects: seen checksum"),
            ("DROP EXTENSION citext CASCADE", "extension citext: seen none"),
            ("REFRESH MATERIALIZED VIEW public.not_populated", "materialized view public.not"),
            ('REVOKE SELECT (id) ON accounting.secrets FROM "Hard Reader"', "schema: SHA-256"),
            ("DROP POLICY own_rows ON accounting.secrets", "schema: SHA-256"),
        ):
            sql(server, "restored", f"DO 'BEGIN END'; {statement}")
            before, seen = seen, contents(project, "restored", tmp_path)
            news = differences(before, seen)
            assert any(text.startswith(told) for text in news), (statement, news)
    finally:
        sql(server, "postgres", "DROP DATABASE IF EXISTS restored")
        sql(server, "postgres", f"DROP DATABASE {quoted}")


def test_what_is_written_meanwhile_is_not_in_it(
    site: Site,
    project: Project,
    server: Container,
    make_database: Callable[[str], str],
    tmp_path: Path,
) -> None:
    database = make_database("busy")
    make_large(server, database, 24)
    stop = threading.Event()
    written: list[int] = []

    def write(remainder: int) -> None:
        with contextlib.closing(connect(server, database)) as session, session.cursor() as cursor:
            while not stop.is_set():
                cursor.execute(
                    "INSERT INTO events (note) SELECT 'more' FROM generate_series(1, 5);"
                    "UPDATE events SET note = note || '!' WHERE id % 997 = %(number)s;"
                    "DELETE FROM events WHERE id % 1499 = 7 AND id % 2 = %(number)s".replace(
                        "id %", "id %%"
                    ),
                    {"number": remainder},
                )
                written.append(1)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    try:
        wait_until("somebody writes", lambda: len(written) > 10)
        before = len(written)
        site.back_up(database)
        during = len(written) - before
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert during > 10, "there was no load"
    backup, manifest = site.the_backup()
    make_database("unused")
    sql(server, "postgres", "DROP DATABASE unused")
    restore(project, backup, "unused")
    assert differences(manifest.content, contents(project, "unused", tmp_path)) == []
    (newest,) = sql(server, "unused", "SELECT max(id) FROM events")[0]
    assert manifest.content["sequences"]["public.events_id_seq"]["last_value"] >= newest
    live = contents(project, database, tmp_path)
    assert differences(manifest.content, live) != []


def test_the_same_contents_have_the_same_checksums_whatever_the_settings(
    project: Project, server: Container, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    database = make_database("pinned")
    sql(
        server,
        database,
        "CREATE TABLE v AS SELECT now() AS t, 0.1::float8 AS f, '\\x00ff'::bytea AS b,"
        " 12.5::money AS m,"
        " interval '1 day -2 h' AS i, current_date AS d, '<a/>'::xml AS x,"
        " tstzrange(now(), NULL) AS r",
    )
    first = contents(project, database, tmp_path)
    sql(
        server,
        database,
        "ALTER DATABASE pinned SET timezone = 'Asia/Tokyo'",
        "ALTER DATABASE pinned SET datestyle = 'SQL, DMY'",
        "ALTER DATABASE pinned SET intervalstyle = 'iso_8601'",
        "ALTER DATABASE pinned SET extra_float_digits = -3",
        "ALTER DATABASE pinned SET bytea_output = 'escape'",
        "ALTER DATABASE pinned SET search_path = public, pg_catalog",
        "VACUUM FULL v",
    )
    assert differences(first, contents(project, database, tmp_path)) == []


def test_a_casts_own_code_is_not_run(
    project: Project, server: Container, make_database: Callable[[str], str]
) -> None:
    """Whoever may make a table must not get the superuser of the backup to run their code."""
    database = make_database("trap")
    sql(
        server,
        database,
        "CREATE TYPE pit AS (depth integer)",
        "CREATE TABLE trap (t pit)",
        "INSERT INTO trap VALUES (ROW(1))",
        *(
            statement
            for name in ("pit", "trap")
            for statement in (
                f"CREATE FUNCTION spring({name}) RETURNS text LANGUAGE plpgsql AS"
                " $$BEGIN RAISE EXCEPTION 'sprung'; END$$",
                f"CREATE CAST ({name} AS text) WITH FUNCTION spring({name})",
            )
        ),
    )
    _engine, found = postgres(project, database)
    seen = database_contents.measure(found, database, timeout_seconds=SECONDS)
    assert seen["tables"]["public.trap"]["rows"] == 1


def test_a_schema_of_another_way_to_write_it_is_equal(
    project: Project, server: Container, make_database: Callable[[str], str], tmp_path: Path
) -> None:
    database = make_database("looks")
    engine, found = postgres(project, database)
    with PostgresTools(engine, found, project.name) as tools:
        first = database_contents.live_schema(tools, database, tmp_path, SECONDS)
        sql(server, database, "COMMENT ON TABLE events IS 'new'")
        second = database_contents.live_schema(tools, database, tmp_path, SECONDS)
    (problem,) = schema_differences(first, second)
    assert problem.startswith("TABLE events; Type: COMMENT; ")


def test_compression_is_what_was_asked_for(site: Site, make_database: Callable[[str], str]) -> None:
    suffixes = {"zstd": ".dat.zst", "gzip": ".dat.gz", "none": ".dat"}
    database = make_database("pressed")
    for number, (method, suffix) in enumerate(suffixes.items()):
        identifier = f"{site.project.name}-2026112{number}T000000Z"
        answer = site.back_up(database, compression=method, jobs=1, id=identifier)
        assert answer["summary"]["compression"].partition(":")[0] == method
        assert answer["id"] == identifier
        names = [path.name for path in (Path(answer["path"]) / "dump").iterdir()]
        data = [name for name in names if name != "toc.dat"]
        assert data
        assert {name[name.find(".") :] for name in data} == {suffix}


def test_a_program_without_zstd_gets_gzip(site: Site, make_database: Callable[[str], str]) -> None:
    database = make_database("wrapped_without_zstd")
    answer = site.back_up(database)
    assert answer["summary"]["compression"] == "gzip:1"
    with pytest.raises(BackupError, match="does not support compression with zstd"):
        site.back_up(database, compression="zstd", id=f"{site.project.name}-20261124T000000Z")
    site.the_backup()
    site.nothing_is_left()


def test_a_role_that_is_no_superuser_leaves_the_passwords_out(
    site: Site, server: Container, make_database: Callable[[str], str]
) -> None:
    database = make_database("modest")
    sql(
        server,
        database,
        "ALTER TABLE events OWNER TO app",
        f"ALTER DATABASE {database} OWNER TO app",
    )
    answer = site.back_up(database, postgres_user="app", postgres_password=APP_PASSWORD)
    assert any("without their passwords" in text for text in answer["remarks"])
    backup, manifest = site.the_backup()
    globals_sql = (Path(backup.path) / "globals.sql").read_text()
    assert "CREATE ROLE app" in globals_sql
    assert "SCRAM" not in globals_sql
    assert manifest.content["role_passwords"] is False
    sql(server, database, "CREATE TABLE secret (id integer)")
    with pytest.raises((BackupError, PostgresError), match="permission denied for table secret"):
        site.back_up(
            database,
            postgres_user="app",
            postgres_password=APP_PASSWORD,
            id=f"{site.project.name}-20261124T000000Z",
        )
    site.the_backup()
    site.nothing_is_left()


def test_nothing_is_written_in_check_mode(site: Site, make_database: Callable[[str], str]) -> None:
    database = make_database("looked_at")
    answer = pg_backup.run(site.settings(database), site.states, dry_run=True)
    assert answer["changed"] is True
    assert answer["made"] is True
    assert not site.backup_dir.exists()
    assert not site.state_dir.exists()


def test_a_project_without_postgresql_has_nothing_to_back_up(site: Site) -> None:
    settings = site.settings("", project="nobody-has-this", service_names={})
    answer = pg_backup.run(settings, site.states)
    assert (answer["changed"], answer["made"]) == (False, False)
    assert "no container of service postgres" in answer["reason"]
    assert site.backups() == []


def test_ten_thousand_tables(
    site: Site, server: Container, make_database: Callable[[str], str]
) -> None:
    """Neither a transaction's locks nor a statement's length may be the limit."""
    database = make_database("many")
    sql(
        server,
        database,
        "DO $$ BEGIN FOR n IN 1..10000 LOOP"
        " EXECUTE format('CREATE TABLE t%s (id integer)', n);"
        " IF n % 500 = 0 THEN COMMIT; END IF; END LOOP; END $$",
    )
    answer = site.back_up(database)
    assert answer["summary"]["tables"] == 10_001
    assert answer["summary"]["rows"] == 2000
    _backup, manifest = site.the_backup()
    assert len(manifest.files) == 10_001 + 2


# A backup that is not whole is none


@pytest.mark.parametrize(
    ("database", "told"),
    [
        ("wrapped_late_failure", "pg_dump ended with exit code 1: pg_dump: error: it broke"),
        ("wrapped_globals", "pg_dumpall ended with exit code 3: pg_dumpall: error: it broke"),
        ("wrapped_no_globals", "globals.sql is empty"),
        ("wrapped_lost_file", r"table public.events: the dump has no file \d+.dat"),
        ("wrapped_cut_file", r"public.events has 2000 rows, and its file \d+.dat.zst 5 bytes"),
        ("wrapped_lost_table", "table public.events is not in the dump's list"),
        ("wrapped_cut_list", "the dump that was written cannot be read: pg_restore ended"),
        ("wrapped_nothing", "the dump that was written cannot be read: pg_restore ended"),
        ("wrapped_stale_sequence", "events_id_seq is at 1999 in the dump, expected at least 2000"),
    ],
)
def test_a_stage_that_fails_is_not_hidden_by_the_others(
    site: Site, make_database: Callable[[str], str], database: str, told: str
) -> None:
    make_database(database)
    with pytest.raises(BackupError, match=told):
        site.back_up(database)
    assert site.backups() == []
    site.nothing_is_left()


def test_a_backup_of_nothing_is_refused_where_there_was_something(
    site: Site, server: Container, make_database: Callable[[str], str]
) -> None:
    database = make_database("emptied")
    site.back_up(database)
    sql(server, database, "TRUNCATE events")
    later = {"id": f"{site.project.name}-20270101T000000Z"}
    with pytest.raises(
        BackupError, match="has no rows, and had 2000 in the last backup"
    ) as refused:
        site.back_up(database, **later)
    assert "postgres_backup_allow_empty" in refused.value.hint
    site.the_backup()
    site.nothing_is_left()
    answer = site.back_up(database, allow_empty=True, **later)
    assert answer["remarks"] == ['database "emptied" has no rows']
    assert len(site.backups()) == 2


def test_too_little_space_is_told_before_anything_is_done(
    site: Site, make_database: Callable[[str], str]
) -> None:
    database = make_database("no_room")
    with pytest.raises(BackupError, match=r"too little space .*seen .* free, expected .* MiB for"):
        site.back_up(database, reserve_bytes=2**60)
    assert not site.backup_dir.exists()
    site.nothing_is_left()


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    options = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    subprocess.run(options, check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=10)


def test_a_disk_that_fills_up_in_mid_dump(
    site: Site, server: Container, make_database: Callable[[str], str]
) -> None:
    database = make_database("growing")
    with small_disk(site.backup_dir, 20):
        site.back_up(database)
        make_large(server, database)  # more than what the last backup lets expect
        with pytest.raises(BackupError, match="No space left on device") as failed:
            site.back_up(database, id=f"{site.project.name}-20270101T000000Z")
        assert failed.value.hint.endswith(f"df -h {site.backup_dir}")
        site.the_backup()
        site.nothing_is_left()
        assert site.store.free_bytes() > 18 * 1024 * 1024


def writing(site: Site) -> bool:
    """Whether rows are being dumped."""
    for staging in site.store.stagings():
        for path in staging.glob("dump/*.dat*"):
            with contextlib.suppress(FileNotFoundError):
                if path.name != "toc.dat" and path.stat().st_size > 1_000_000:
                    return True
    return False


SLOW = {"compression": "zstd", "compression_level": 15}


def test_a_server_that_stops_in_mid_dump(
    site: Site, project: Project, server: Container, make_database: Callable[[str], str]
) -> None:
    database = make_database("stopped")
    make_large(server, database)
    failures: list[BaseException] = []

    def back_up() -> None:
        try:
            site.back_up(database, **SLOW)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=back_up)
    thread.start()
    try:
        wait_until("rows are dumped", lambda: writing(site))
        docker("kill", "--signal", "KILL", server.name)
        thread.join(SECONDS)
    finally:
        docker("start", server.name)
        wait_until("PostgreSQL is there again", lambda: accepts(project.container("postgres")))
    (failure,) = failures
    assert isinstance(failure, (BackupError, PostgresError)), failure
    assert failure.hint
    assert site.backups() == []
    site.nothing_is_left()
    site.back_up(database, id=f"{site.project.name}-20270101T000000Z")
    site.the_backup()


RUNNER = """
import json, sys
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import pg_backup
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity
settings = pg_backup.PgBackupSettings(**json.loads(sys.argv[1]))
store = OperationStore(sys.argv[2])
identity = RunIdentity("run-0", "tester", "here")
pg_backup.run(settings, TemporaryStates(store, identity, "backup", settings.project))
"""


def test_a_backup_that_is_killed_publishes_nothing_and_the_next_one_cleans_up(
    site: Site, project: Project, server: Container, make_database: Callable[[str], str]
) -> None:
    database = make_database("killed")
    make_large(server, database)
    settings = site.settings(database, **SLOW)
    shown = {name: value for name, value in vars(settings).items() if name != "postgres_password"}
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER, json.dumps(shown), str(site.state_dir)]
    )
    try:
        wait_until("rows are dumped", lambda: writing(site))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert site.backups() == []
    assert len(site.store.stagings()) == 1
    (state,) = site.states.left()
    assert state["temporary_state"] == "backup_staging"
    assert state["details"]["path"] == str(site.store.stagings()[0])
    assert "resume" in state["undo"]
    assert len(helpers(project)) >= 1, "pg_dump is still writing"
    assert len(secrets_left(project)) == 1
    answer = site.back_up(database)
    assert len(answer["removed_leftovers"]) >= 2
    site.the_backup()
    site.nothing_is_left()


# Secrets


PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - pynomaly.ops.pg_backup: {arguments}
      register: backup
    - ansible.builtin.debug: {{var: backup}}
"""


def test_the_password_is_never_seen(
    site: Site,
    project: Project,
    server: Container,
    make_database: Callable[[str], str],
    tmp_path: Path,
) -> None:
    database = make_database("secretive")
    make_large(server, database, 8)
    arguments = {
        "project": project.name,
        "operation": "backup",
        "run": {"run_id": "run-2", "user": "tester", "controller": "here"},
        "state_dir": str(site.state_dir),
        "backup_dir": str(site.backup_dir),
        "service_names": {"postgres": "postgres"},
        "database": database,
        "user": "postgres",
        "password": "{{ lookup('ansible.builtin.env', 'BACKUP_PASSWORD') }}",
        "reserve_bytes": 0,
    }
    play = tmp_path / "play.yml"
    play.write_text(PLAY.format(arguments=json.dumps(arguments)))
    seen: dict[str, set[str]] = {"argv": set(), "containers": set()}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen["argv"].add(path.read_bytes().replace(b"\0", b" ").decode("latin-1"))
            for one in helpers(project):
                seen["containers"].add(docker("inspect", one, check=False).stdout)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        completed = subprocess.run(
            [
                *("ansible-playbook", "-vvv", "-i", "localhost,", "-c", "local", str(play)),
                *("-e", f"ansible_python_interpreter={sys.executable}"),
            ],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env={**os.environ, "BACKUP_PASSWORD": PASSWORD},
        )
    finally:
        stop.set()
        watcher.join()
    output = completed.stdout + completed.stderr
    assert completed.returncode == 0, output
    backup, _manifest = site.the_backup()
    assert any("pg_dump --host" in line and "--snapshot" in line for line in seen["argv"])
    assert any("PGPASSFILE" in text for text in seen["containers"])
    everything = {
        "output": output,
        "argv": "\n".join(seen["argv"]),
        "containers": "\n".join(seen["containers"]),
        "manifest": (Path(backup.path) / "manifest.json").read_text(),
        "globals": (Path(backup.path) / "globals.sql").read_text(),
        "journal": "".join(path.read_text() for path in site.state_dir.iterdir() if path.is_file()),
    }
    for place, text in everything.items():
        assert "canary" not in text, f"the password is in {place}"
    site.nothing_is_left()


def test_a_wrong_password_is_told_and_not_shown(site: Site) -> None:
    with pytest.raises(PostgresError, match="lets nobody in") as refused:
        site.back_up("pynomaly_prod", postgres_user="app", postgres_password="canary-wrong-1")
    assert "canary" not in str(refused.value) + refused.value.hint
    assert site.backups() == []
    site.nothing_is_left()


def test_two_backups_of_the_same_second_do_not_mix(
    site: Site, make_database: Callable[[str], str]
) -> None:
    database = make_database("twice")
    identifier = f"{site.project.name}-20261124T000000Z"
    site.back_up(database, id=identifier)
    before = (site.backup_dir / "database" / identifier / "manifest.json").stat()
    with pytest.raises(BackupError, match=f"there is a database backup {identifier} already"):
        site.back_up(database, id=identifier)
    after = (site.backup_dir / "database" / identifier / "manifest.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    site.the_backup()
    site.nothing_is_left()


def test_it_ends_when_its_time_is_up(
    site: Site, server: Container, make_database: Callable[[str], str]
) -> None:
    database = make_database("slow")
    make_large(server, database)
    began = time.monotonic()
    with pytest.raises(Exception, match=r"did not end within|statement timeout") as late:
        site.back_up(database, timeout_seconds=3, **SLOW)
    assert isinstance(late.value, (EngineError, PostgresError))
    assert time.monotonic() - began < 15
    assert site.backups() == []
    site.nothing_is_left()
