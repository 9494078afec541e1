# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups restored on a real PostgreSQL with a real API before it, broken on every way there."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    DATABASE,
    Backup,
    BackupError,
    decode_manifest,
    encode_manifest,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Container
from ansible_collections.pynomaly.ops.plugins.module_utils._database_contents import differences
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (
    database_contents,
    pg_backup,
    pg_database_swap,
    pg_restore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import (
    BackupStore,
    hash_tree,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.database_administration import (
    CLOSED_STATE,
    SCRATCH_STATE,
    drop_scratch,
    find_administrator,
    reopen_database,
)
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
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_restore import (
    KEPT,
    decode_mark,
    encode_mark,
    new_mark,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

from .conftest import Project, docker, wait_until
from .postgres import accepts, connect, sql

PASSWORD = "canary-restore-9c/1@:x"
APP_PASSWORD = "canary-restore-app-33"
LIVE = "pynomaly_prod"
SECONDS = 180.0
HERE = Path(__file__).parent


# The stack


@pytest.fixture(scope="module")
def server(project: Project) -> Iterator[Container]:
    started = project.start(
        "postgres",
        "postgres",
        {"POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": LIVE},
        [
            *("postgres", "-c", "shared_preload_libraries=pg_stat_statements"),
            *("-c", "autovacuum=off", "-c", "fsync=off", "-c", "max_connections=80"),
            *("-c", "max_prepared_transactions=5", "-c", "wal_level=logical"),
            *("-c", "max_wal_size=128MB", "-c", "max_locks_per_transaction=256"),
        ],
    )
    wait_until("PostgreSQL lets its administrator in", lambda: accepts(started))
    sql(started, "postgres", f"CREATE ROLE app LOGIN PASSWORD '{APP_PASSWORD}'")
    yield started


@pytest.fixture(scope="module")
def api(project: Project, server: Container) -> Container:
    assert server.running
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYNOMALY_TEST_PYNOMALY_IMAGE", "pynomaly-lab/pynomaly:production")
        project.start("redis-cluster", "redis", command=["redis-server", "--save", ""])
        return project.start(
            "pynomaly-api",
            "pynomaly",
            {
                "DATABASE_URL": f"postgresql://app:{APP_PASSWORD}@postgres:5432/{LIVE}",
                "REDIS_URL": "redis://redis-cluster:6379/0",
                "SECRET_KEY": "canary-restore-key-1",
            },
        )


def databases(server: Container) -> dict[str, tuple[bool, str]]:
    """Whether each lets anybody in, and its comment."""
    found = sql(
        server,
        "postgres",
        "SELECT datname, datallowconn, coalesce(shobj_description(oid, 'pg_database'), '')"
        " FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'",
    )
    return {name: (open_, comment) for name, open_, comment in found}


def healthy(api: Container) -> bool:
    done = docker("exec", api.name, "python3", "-m", "pynomaly_api.healthcheck", check=False)
    return done.returncode == 0


@pytest.fixture
def live(server: Container, api: Container) -> Iterator[str]:
    """The application's database with 2000 events; all others are gone."""
    clean(server)
    sql(server, "postgres", f"CREATE DATABASE {LIVE} TEMPLATE template0 OWNER app")
    sql(
        server,
        LIVE,
        "CREATE TABLE events (id serial PRIMARY KEY, note text)",
        "INSERT INTO events (note) SELECT 'note ' || n FROM generate_series(1, 2000) AS n",
        "ALTER TABLE events OWNER TO app",
        f"ALTER DATABASE {LIVE} SET work_mem = '7MB'",
        f"COMMENT ON DATABASE {LIVE} IS 'it''s ours'",
    )
    wait_until("the API is well", lambda: healthy(api))
    yield LIVE
    clean(server)


def clean(server: Container) -> None:
    sql(server, "postgres", "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    for gid, name in sql(server, "postgres", "SELECT gid, database FROM pg_prepared_xacts"):
        sql(server, name, f"ROLLBACK PREPARED '{gid}'")
    for name in databases(server):
        sql(server, "postgres", f'DROP DATABASE "{name}" WITH (FORCE)')


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
            "restore",
            project.name,
        )

    def back_up(self, database: str = LIVE, **changes: Any) -> Backup:
        settings = pg_backup.PgBackupSettings(
            project=self.project.name,
            backup_dir=str(self.backup_dir),
            postgres_database=database,
            timeout_seconds=SECONDS,
            reserve_bytes=0,
        )
        pg_backup.run(replace(settings, **changes), self.states)
        return self.store.backups([DATABASE])[0]

    def settings(self, **changes: Any) -> pg_restore.RestoreSettings:
        plain = pg_restore.RestoreSettings(
            project=self.project.name,
            backup_dir=str(self.backup_dir),
            wanted="latest",
            timeout_seconds=SECONDS,
        )
        return replace(plain, **changes)

    def restore(
        self, step: Callable[[str], None] = lambda _name: None, **changes: Any
    ) -> dict[str, Any]:
        return pg_restore.run(self.settings(**changes), self.states, step=step)

    def swap_settings(self, **changes: Any) -> pg_database_swap.SwapSettings:
        plain = pg_database_swap.SwapSettings(project=self.project.name, api_timeout_seconds=30.0)
        return replace(plain, **changes)

    def swap(
        self, step: Callable[[str], None] = lambda _name: None, **changes: Any
    ) -> dict[str, Any]:
        return pg_database_swap.run(self.swap_settings(**changes), self.states, step=step)

    def roll_back(self, **changes: Any) -> dict[str, Any]:
        return self.swap(mode=pg_database_swap.ROLLBACK, **changes)

    def administrator(self) -> PostgresServer:
        return find_administrator(self.project.stack(), EngineControl(60.0), CheckSettings())

    def resume(self) -> None:
        """As the journal says."""
        server = self.administrator()
        for record in self.states.left():
            if record["temporary_state"] == CLOSED_STATE:
                reopen_database(server, record["details"]["database"])
            elif record["temporary_state"] == SCRATCH_STATE:
                drop_scratch(server, record["details"])
            self.states.close(record["temporary_state"])

    def doctor(
        self, backup: Backup, change: Callable[[dict[str, Any], dict[str, str]], None]
    ) -> None:
        """A backup that is whole and says something else."""
        assert backup.manifest is not None
        content = json.loads(json.dumps(backup.manifest.content))
        versions = dict(backup.manifest.versions)
        change(content, versions)
        self.write(backup, replace(backup.manifest, content=content, versions=versions))

    def write(self, backup: Backup, manifest: Any) -> None:
        folder = Path(backup.path)
        for name in ("manifest.json", "manifest.sha256"):
            (folder / name).unlink()
        data = encode_manifest(replace(manifest, files=tuple(hash_tree(folder))))
        decode_manifest(data)
        (folder / "manifest.json").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        (folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n")

    def nothing_is_left(self) -> None:
        found = docker(
            "ps", "--all", "--quiet", "--filter", f"label={HELPER_LABEL}={self.project.name}"
        )
        assert found.stdout.split() == []
        assert self.store.stagings() == []
        assert self.states.left() == []
        journal = (self.state_dir / "journal.jsonl").read_text()
        assert "canary" not in journal


@pytest.fixture
def site(project: Project, tmp_path: Path) -> Site:
    return Site(project, tmp_path)


def contents(site: Site, database: str) -> dict[str, Any]:
    server = site.administrator()
    seen = database_contents.measure(server, database, timeout_seconds=SECONDS)
    with contextlib.closing(
        database_contents.session(server, database, database_contents.Deadline(SECONDS))
    ) as connection:
        seen["database"] = database_contents.database_properties(connection)
    return seen


@contextlib.contextmanager
def untouched(site: Site) -> Iterator[None]:
    """The live database holds the same after the block, to the last value, and is as open."""
    before = contents(site, LIVE)
    oid = sql(site.project.container("postgres"), "postgres", OID)
    yield
    assert differences(before, contents(site, LIVE)) == []
    assert sql(site.project.container("postgres"), "postgres", OID) == oid


OID = f"SELECT oid FROM pg_database WHERE datname = '{LIVE}'"  # noqa: S608


# It comes back equal


def test_a_hard_database_takes_its_place_again_and_back(
    site: Site, server: Container, api: Container, live: str
) -> None:
    with (HERE / "hard_schema.sql").open("rb") as script:
        argv = ["docker", "exec", "-i", server.name, "psql", "-X", "-q", "-U", "postgres"]
        argv += ["-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d", live]
        done = subprocess.run(argv, stdin=script, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    sql(server, live, f"GRANT CONNECT, TEMPORARY ON DATABASE {live} TO app")
    backup = site.back_up()
    assert backup.manifest is not None
    content = backup.manifest.content
    sql(server, live, "DELETE FROM public.events WHERE id > 10", 'DROP TABLE public."user"')
    damaged = contents(site, live)
    oid = sql(server, "postgres", OID)

    made = site.restore()
    assert made["restored"] != live
    assert decode_mark(databases(server)[made["restored"]][1]) is not None
    assert differences(damaged, contents(site, live)) == [], "nothing is swapped yet"
    swapped = site.swap(incoming=made["restored"])
    site.nothing_is_left()

    found = contents(site, live)
    assert differences(content, found) == []
    assert found["database"]["comment"] == 'it\'s a "comment"'
    assert sql(server, "postgres", OID) != oid
    assert sql(
        server,
        live,
        "SELECT last_analyze IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'events'",
    ) == [(True,)]
    assert healthy(api)
    assert swapped["asked"] == sorted([api.name, 'login of role "app"'])
    assert swapped["seconds_without_service"] < 10
    assert 0 < swapped["seconds_closed"] <= swapped["seconds_without_service"]
    there = databases(server)
    assert set(there) == {live, swapped["kept"]}
    assert there[swapped["kept"]][0] is False, "nobody is to write to the one before"

    back = site.roll_back()
    assert differences(damaged, contents(site, live)) == []
    assert sql(server, "postgres", OID) == oid
    there = databases(server)
    assert set(there) == {live, back["kept"]}
    assert there[live] == (True, 'it\'s a "comment"')
    assert healthy(api)
    site.nothing_is_left()
    for role in ("hard_owner", '"Hard Reader"', "hard_writer"):
        assert sql(server, "postgres", f"SELECT '{role}'::regrole IS NOT NULL") == [(True,)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE events SET note = 'other' WHERE id = 7", "table public.events: seen other values"),
        ("SELECT setval('events_id_seq', 1999)", "sequence public.events_id_seq: seen at 1999"),
        ("DELETE FROM events WHERE id = 7", "table public.events: seen 1999 rows, expected 2000"),
        ("ALTER TABLE events DROP CONSTRAINT events_pkey", "events events_pkey"),
        ("ALTER DATABASE {} SET work_mem = '8MB'", "setting work_mem"),
    ],
)
def test_whatever_differs_is_caught_and_dropped(
    site: Site, server: Container, live: str, change: str, told: str
) -> None:
    site.back_up()

    def step(name: str) -> None:
        if name == "analyze":
            (scratch,) = set(databases(server)) - {live}
            sql(server, scratch, change)

    with untouched(site), pytest.raises(BackupError) as caught:
        if "work_mem" in change:
            with changed_properties(server, live, change):
                site.restore()
        else:
            site.restore(step)
    assert told in str(caught.value)
    assert set(databases(server)) == {live}
    site.nothing_is_left()


@contextlib.contextmanager
def changed_properties(server: Container, live: str, change: str) -> Iterator[None]:
    """Change the scratch database's property after it was set and before it is compared."""
    real = pg_restore.apply_properties

    def apply(found: PostgresServer, name: str, properties: Mapping[str, Any]) -> None:
        real(found, name, properties)
        assert name != live
        sql(server, "postgres", change.format(f'"{name}"'))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pg_restore, "apply_properties", apply)
        yield


# What is refused before anything is done


def test_everything_that_forbids_it_is_told_at_once(
    site: Site, server: Container, live: str
) -> None:
    backup = site.back_up()

    def change(content: dict[str, Any], versions: dict[str, str]) -> None:
        content["roles"].append("nobody_here")
        content["extensions"]["no_such_extension"] = "1.0"
        content["extensions"]["plpgsql"] = "9.0"
        content["database"]["size_bytes"] = 1 << 60
        content["database"]["collate"] = "xx_XX.UTF-8"
        versions["server"] = "99.1"

    site.doctor(backup, change)
    # In this order: a slot waits for all transactions that were there before it.
    sql(server, live, "SELECT pg_create_logical_replication_slot('a_slot', 'pgoutput')")
    prepare = "PREPARE TRANSACTION 'left over'"
    sql(server, live, "BEGIN", "UPDATE events SET note = 'x' WHERE id = 1", prepare)
    with pytest.raises(BackupError) as caught:
        site.restore()
    text = str(caught.value)
    for told in (
        'role "nobody_here": seen none',
        "extension no_such_extension: the server has none to install",
        "extension plpgsql: the server installs version 1.0, expected 9.0 or newer",
        "the backup is of PostgreSQL 99.1: seen a server of 17",
        "free, expected",
        "locale xx_XX.UTF-8: seen none",
        '1 prepared transaction ("left over")',
        '1 logical replication slot ("a_slot")',
    ):
        assert told in text
    assert set(databases(server)) == {live}
    site.nothing_is_left()


def test_what_keeps_a_swap_away_does_not_keep_a_look_away(
    site: Site, server: Container, live: str
) -> None:
    site.back_up()
    sql(server, live, "SELECT pg_create_logical_replication_slot('a_slot', 'pgoutput')")
    with pytest.raises(BackupError, match="logical replication slot"):
        site.restore()
    with untouched(site):
        answer = site.restore(dry_run=True)
    assert (answer["changed"], answer["restored"], answer["rows"]) == (False, "", 2000)
    assert set(databases(server)) == {live}
    site.nothing_is_left()


def test_a_subscription_is_refused_where_it_would_be_lost_and_dropped_where_it_was_restored(
    site: Site, server: Container, live: str
) -> None:
    sql(
        server,
        live,
        "CREATE SUBSCRIPTION feed CONNECTION 'host=nowhere' PUBLICATION all_of_it"
        " WITH (connect = false)",
    )
    try:
        site.back_up()
        with pytest.raises(BackupError, match=r'1 subscription \("feed"\)'):
            site.restore()
        assert site.restore(dry_run=True)["rows"] == 2000
        assert set(databases(server)) == {live}
        site.nothing_is_left()
    finally:
        sql(
            server,
            live,
            "ALTER SUBSCRIPTION feed SET (slot_name = NONE)",
            "DROP SUBSCRIPTION feed",
        )


def test_a_flipped_bit_is_refused(site: Site, server: Container, live: str) -> None:
    backup = site.back_up()
    path = Path(backup.path) / "dump" / "toc.dat"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BackupError, match=r"dump/toc\.dat differs from its SHA-256"):
        site.restore()
    assert set(databases(server)) == {live}


def test_missing_roles_are_made_where_that_is_asked(
    site: Site, server: Container, live: str
) -> None:
    sql(
        server,
        live,
        "CREATE ROLE team NOLOGIN",
        "CREATE ROLE clerk LOGIN PASSWORD 'canary-clerk' CONNECTION LIMIT 3",
        "ALTER ROLE clerk SET work_mem = '9MB'",
        "GRANT team TO clerk",
        "CREATE TABLE owned (id integer)",
        "ALTER TABLE owned OWNER TO clerk",
    )
    try:
        site.back_up()
        sql(server, live, "DROP TABLE owned", "DROP ROLE clerk")
        with pytest.raises(BackupError, match='role "clerk": seen none'):
            site.restore()
        dry = site.restore(create_roles=True, dry_run=True)
        assert dry["created_roles"] == []
        assert sql(server, live, CLERK) == []
        made = site.restore(create_roles=True)
        assert made["created_roles"] == ["clerk"]
        site.swap(incoming=made["restored"])
        assert sql(server, live, CLERK) == [(3, ["work_mem=9MB"], "team")]
        assert sql(server, live, "SELECT tableowner FROM pg_tables WHERE tablename = 'owned'") == [
            ("clerk",)
        ]
        psycopg2.connect(
            host=server.addresses[0], user="clerk", password="canary-clerk", dbname=live
        ).close()
        site.nothing_is_left()
        assert "canary" not in docker("logs", server.name).stderr.replace("canary-clerk' CONN", "")
    finally:
        clean(server)
        sql(server, "postgres", "DROP ROLE IF EXISTS clerk", "DROP ROLE team")


CLERK = (
    "SELECT rolconnlimit, rolconfig, (SELECT roleid::regrole::text FROM pg_auth_members"
    " WHERE member = r.oid) FROM pg_roles r WHERE rolname = 'clerk'"
)


def test_a_bad_statement_in_the_middle_leaves_nothing(
    site: Site, server: Container, live: str
) -> None:
    sql(
        server,
        live,
        "CREATE TABLE reference (id integer)",
        "INSERT INTO reference VALUES (1)",
        "CREATE FUNCTION known(integer) RETURNS boolean LANGUAGE sql IMMUTABLE"
        " AS 'SELECT EXISTS (SELECT FROM reference WHERE id = $1)'",
        "CREATE TABLE checked (id integer CHECK (known(id)))",
        "INSERT INTO checked VALUES (1)",
    )
    site.back_up()
    with untouched(site), pytest.raises(PostgresError, match='relation "reference" does not exist'):
        site.restore()
    assert set(databases(server)) == {live}
    site.nothing_is_left()


# Beside, and one table


def test_a_target_is_made_beside_and_nothing_is_swapped(
    site: Site, server: Container, live: str
) -> None:
    backup = site.back_up()
    sql(server, live, "DELETE FROM events")
    with untouched(site):
        answer = site.restore(target="Beside it")
    assert answer["restored"] == "Beside it"
    assert set(databases(server)) == {live, "Beside it"}
    assert backup.manifest is not None
    assert differences(backup.manifest.content, contents(site, "Beside it")) == []
    with pytest.raises(BackupError, match='target "Beside it": seen a database of that name'):
        site.restore(target="Beside it")
    with pytest.raises(PostgresError, match="no database to put in the place"):
        site.swap(incoming="Beside it")
    site.nothing_is_left()


def test_one_table_is_brought_to_a_side_schema(site: Site, server: Container, live: str) -> None:
    sql(
        server,
        live,
        "CREATE TYPE mood AS ENUM ('sad', 'glad')",
        'CREATE TABLE "Odd ""t" (id bigint GENERATED ALWAYS AS IDENTITY, m mood[], n numeric,'
        ' twice numeric GENERATED ALWAYS AS (n * 2) STORED, gone text, t text COLLATE "C")',
        'ALTER TABLE "Odd ""t" DROP gone',
        """INSERT INTO "Odd ""t" (m, n, t) VALUES ('{sad,NULL}', 'NaN', E'a\\tb\\\\N'),"""
        " (NULL, 1.50, ''), ('{}', NULL, NULL)",
        "CREATE TABLE parted (id integer, region text) PARTITION BY LIST (region)",
        "CREATE TABLE parted_a (region text, id integer)",
        "ALTER TABLE parted ATTACH PARTITION parted_a FOR VALUES IN ('a')",
        "CREATE TABLE parted_b PARTITION OF parted DEFAULT",
        "INSERT INTO parted SELECT n, chr(97 + n % 3) FROM generate_series(1, 300) AS n",
    )
    wanted = sql(server, live, 'SELECT t::text FROM "Odd ""t" AS t ORDER BY id')
    site.back_up()
    sql(server, live, 'DROP TABLE "Odd ""t"', "DELETE FROM parted WHERE id < 100")
    before = contents(site, live)
    answer = site.restore(table='public."Odd ""t"')
    assert (answer["rows"], answer["restored"]) == (3, "")
    side = answer["side_table"]
    assert side.startswith("restored_")
    found = sql(server, live, f"SELECT t::text FROM {side} AS t ORDER BY id")  # noqa: S608
    assert found == wanted
    after = contents(site, live)
    name = next(table for table in after["tables"] if table.startswith("restored_"))
    del after["tables"][name]
    assert differences(before, after) == []

    dry = site.restore(table="public.parted", dry_run=True)
    assert (dry["side_table"], dry["rows"], dry["changed"]) == ("", 300, False)
    wait_until("another second", lambda: utc_now().second != int(side.split("z")[0][-2:]))
    parted = site.restore(table="public.parted")
    assert parted["rows"] == 300
    total = f"SELECT sum(id) FROM {parted['side_table']}"  # noqa: S608
    assert sql(server, live, total) == [(45150,)]
    with pytest.raises(BackupError, match="none of that name"):
        site.restore(table="public.nothing")
    assert set(databases(server)) == {live}
    site.nothing_is_left()


def test_one_table_with_other_values_than_promised_is_not_brought(
    site: Site, server: Container, live: str
) -> None:
    backup = site.back_up()

    def change(content: dict[str, Any], _versions: dict[str, str]) -> None:
        content["tables"]["public.events"]["checksum"] = "1"

    site.doctor(backup, change)
    with untouched(site), pytest.raises(BackupError, match="expected 1"):
        site.restore(table="public.events")
    assert set(databases(server)) == {live}


# The swap


class Hostile:
    """A superuser who comes back all the time, and stays as long as he is let."""

    def __init__(self, server: Container, database: str) -> None:
        self._server, self._database = server, database
        self._stop = threading.Event()
        self.let_in = self.thrown_out = self.refused = 0
        self._threads = [threading.Thread(target=self._work) for _number in range(3)]

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                with contextlib.closing(connect(self._server, self._database)) as connection:
                    self.let_in += 1
                    with connection.cursor() as cursor:
                        while not self._stop.is_set():
                            cursor.execute("SELECT pg_sleep(0.01)")
            except psycopg2.OperationalError as error:
                if "not currently accepting" in str(error):
                    self.refused += 1
                else:
                    self.thrown_out += 1

    def __enter__(self) -> Hostile:
        for thread in self._threads:
            thread.start()
        wait_until("the hostile client is in", lambda: self.let_in >= len(self._threads))
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)


def test_a_superuser_who_comes_back_all_the_time_does_not_keep_it_away(
    site: Site, server: Container, api: Container, live: str
) -> None:
    backup = site.back_up()
    sql(server, live, "DELETE FROM events WHERE id > 5")
    with Hostile(server, live) as hostile:
        made = site.restore()
        answer = site.swap(incoming=made["restored"])
        entered = hostile.let_in
        wait_until("he is let in again", lambda: hostile.let_in >= entered)
    assert hostile.thrown_out >= 3
    assert answer["ended_sessions"] >= 3
    assert answer["seconds_without_service"] < 10
    assert backup.manifest is not None
    assert differences(backup.manifest.content, contents(site, live)) == []
    assert healthy(api)
    assert set(databases(server)) == {live, answer["kept"]}
    site.nothing_is_left()


@pytest.mark.parametrize(
    ("hours", "words"),
    [(1, "is on already, and stays on"), (-1, "no nginx")],
    ids=["is on", "has ended"],
)
def test_a_page_that_is_on_stays_and_one_that_has_ended_is_none(
    site: Site, live: str, hours: int, words: str
) -> None:
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=hours)
    site.back_up()
    made = site.restore()
    site.states.open("maintenance_page", "shown by somebody", {"until": utc_text(end)})
    answer = site.swap(incoming=made["restored"])
    assert words in " ".join(answer["remarks"])
    left = [record["temporary_state"] for record in site.states.left()]
    assert left == ["maintenance_page"]
    assert answer["database"] == live


def test_what_cannot_be_drained_is_opened_again(
    site: Site, server: Container, api: Container, live: str
) -> None:
    site.back_up()
    made = site.restore()
    with untouched(site):
        sql(server, live, "BEGIN", "LOCK TABLE events", "PREPARE TRANSACTION 'came later'")
        with pytest.raises(PostgresError) as caught:
            site.swap(incoming=made["restored"], drain_timeout_seconds=0.5)
        sql(server, live, "ROLLBACK PREPARED 'came later'")
    assert "still in use after 0.5 s" in str(caught.value)
    assert "1 prepared transactions" in str(caught.value)
    assert set(databases(server)) == {live}
    assert databases(server)[live] == (True, "it's ours")
    wait_until("the API is well", lambda: healthy(api))
    site.nothing_is_left()


def test_an_api_that_is_not_well_afterwards_gets_its_database_back(
    site: Site, server: Container, api: Container, live: str
) -> None:
    site.back_up()
    sql(server, live, "INSERT INTO events (note) VALUES ('later')")
    made = site.restore()

    def step(name: str) -> None:
        if name == "api":
            sql(server, "postgres", f"REVOKE CONNECT ON DATABASE {live} FROM PUBLIC, app")

    with untouched(site), pytest.raises(PostgresError) as caught:
        site.swap(step, incoming=made["restored"], api_timeout_seconds=2.0)
    assert "the database before is back in its place, and the API is well" in str(caught.value)
    assert api.name in str(caught.value)
    assert sql(server, live, "SELECT count(*) FROM events") == [(2001,)]
    assert set(databases(server)) == {live}
    assert healthy(api)
    site.nothing_is_left()


def test_only_what_is_ours_and_old_is_dropped(site: Site, server: Container, live: str) -> None:
    backup = site.back_up()
    now = utc_now()

    def kept(name: str, days: float, project: str = "", **changes: str) -> None:
        mark = new_mark(
            KEPT,
            project or site.project.name,
            live,
            now - datetime.timedelta(days=days),
            backup=backup.id,
            comment="",
        )
        sql(
            server,
            "postgres",
            f'CREATE DATABASE "{name}"',
            f"""COMMENT ON DATABASE "{name}" IS '{encode_mark(replace(mark, **changes))}'""",
        )

    kept(f"{live}_before_20200101T000000Z", 7.1)
    kept(f"{live}_before_20200102T000000Z", 6.9)
    kept(f"{live}_before_20200103T000000Z", 99, project="other")
    kept(f"{live}_before_20200104T000000Z", 99, database="other")
    kept("somebody's", 99)
    sql(server, "postgres", f"CREATE DATABASE {live}_before_20200105T000000Z")
    before = set(databases(server))
    answer = site.swap(incoming=site.restore()["restored"])
    assert answer["dropped"] == [f"{live}_before_20200101T000000Z"]
    assert set(databases(server)) == before - set(answer["dropped"]) | {answer["kept"]}
    with pytest.raises(PostgresError, match="no database to put in the place"):
        site.roll_back(incoming=f"{live}_before_20200103T000000Z")
    with pytest.raises(PostgresError, match="no database to put in the place"):
        site.swap(incoming=answer["kept"])


def test_check_mode_changes_nothing(site: Site, server: Container, live: str) -> None:
    site.back_up()
    before, journal = databases(server), (site.state_dir / "journal.jsonl").read_bytes()
    answer = pg_restore.run(site.settings(), site.states, check_mode=True)
    assert (answer["changed"], answer["restored"]) == (True, "")
    assert databases(server) == before
    made = site.restore()
    before, journal = databases(server), (site.state_dir / "journal.jsonl").read_bytes()
    swap = pg_database_swap.run(
        site.swap_settings(incoming=made["restored"]), site.states, check_mode=True
    )
    assert swap["kept"].startswith(f"{live}_before_")
    assert databases(server) == before
    assert (site.state_dir / "journal.jsonl").read_bytes() == journal


# Killed

UTILS = "ansible_collections.pynomaly.ops.plugins.module_utils"
RUNNER = f"""
import json, os, signal, sys
from {UTILS}._edges import pg_database_swap, pg_restore
from {UTILS}._edges.operation_store import OperationStore
from {UTILS}._edges.temporary_states import TemporaryStates
from {UTILS}._operation import RunIdentity
job = json.loads(sys.stdin.read())
settings = job["settings"]
states = TemporaryStates(OperationStore(job["state_dir"]), RunIdentity("dead", "tester", "here"),
                         "restore", settings["project"])
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def step(name):
    if name != job["step"]:
        return
    if not job["inside"]:
        die()
    print("ready", flush=True)  # the test kills, in the middle of what comes
if job["what"] == "restore":
    pg_restore.run(pg_restore.RestoreSettings(**settings), states, step=step)
else:
    pg_database_swap.run(pg_database_swap.SwapSettings(**settings), states, step=step)
"""


def start(site: Site, what: str, settings: Any, step: str, inside: bool = False) -> Any:
    job = {
        "what": what,
        "settings": asdict(settings),
        "state_dir": str(site.state_dir),
        "step": step,
        "inside": inside,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", RUNNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(job))
    process.stdin.close()
    return process


def killed(process: Any) -> None:
    assert process.wait(60) == -signal.SIGKILL, process.stderr.read()
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize("step", ["create", "fill", "prove", "mark", "finish"])
def test_killed_while_it_restores(
    site: Site, server: Container, api: Container, live: str, step: str
) -> None:
    inside = step == "fill"
    if inside:
        sql(
            server,
            live,
            "CREATE FUNCTION slow(integer) RETURNS integer LANGUAGE sql IMMUTABLE"
            " AS 'SELECT CASE WHEN pg_sleep(0.03) IS NULL THEN 0 ELSE $1 END'",
            "CREATE INDEX ON events (slow(id)) WHERE id <= 100",
        )
    site.back_up()
    with untouched(site):
        process = start(site, "restore", site.settings(), step, inside)
        if inside:
            assert process.stdout.readline() == "ready\n"
            wait_until(
                "pg_restore is at work",
                lambda: sql(
                    server,
                    "postgres",
                    "SELECT 1 FROM pg_stat_activity WHERE datname LIKE '%\\_restore\\_%'",
                ),
            )
            process.kill()
        killed(process)
        assert [one["temporary_state"] for one in site.states.left()] == [SCRATCH_STATE]
        site.resume()
        assert set(databases(server)) == {live}
        site.resume()
        assert healthy(api)
    assert site.restore(dry_run=True)["rows"] == 2000
    site.nothing_is_left()


def test_the_next_restore_drops_what_a_dead_one_left(
    site: Site, server: Container, live: str
) -> None:
    site.back_up()
    killed(start(site, "restore", site.settings(), "prove"))
    (left,) = set(databases(server)) - {live}
    answer = site.restore(dry_run=True)
    assert f"database {left}" in answer["removed_leftovers"]
    assert set(databases(server)) == {live}
    site.nothing_is_left()


@pytest.mark.parametrize(
    ("step", "rows"),
    [
        ("page", 3),
        ("close", 3),
        ("drain", 3),
        ("rename", 3),
        ("renamed", 2000),
        ("api", 2000),
        ("page_off", 2000),
    ],
)
def test_killed_on_either_side_of_the_swap(
    site: Site, server: Container, api: Container, live: str, step: str, rows: int
) -> None:
    site.back_up()
    sql(server, live, "DELETE FROM events WHERE id > 3")
    made = site.restore()
    killed(start(site, "swap", site.swap_settings(incoming=made["restored"]), step))
    closed = [one for one in site.states.left() if one["temporary_state"] == CLOSED_STATE]
    assert bool(closed) == (step in ("close", "drain", "rename", "renamed"))
    if closed:
        with pytest.raises(PostgresError, match=r"pynomaly\.ops\.resume|closed by a run that died"):
            site.restore()
    site.resume()
    there = databases(server)
    expected = {live} if rows == 3 else {live, made["database"]}
    kept = {name for name in there if "_before_" in name}
    assert set(there) - kept == expected - kept
    assert len(kept) == (0 if rows == 3 else 1)
    assert there[live][0] is True
    assert [name for name, (open_, _comment) in there.items() if open_] == [live]
    assert sql(server, live, "SELECT count(*) FROM events") == [(rows,)]
    wait_until("the API is well", lambda: healthy(api))
    before = databases(server)
    site.resume()
    assert databases(server) == before
    site.nothing_is_left()


def test_only_a_scratch_database_is_dropped_as_one(
    site: Site, server: Container, live: str
) -> None:
    with pytest.raises(PostgresError, match="is not dropped"):
        drop_scratch(site.administrator(), {"database": live})
    assert set(databases(server)) == {live}


def test_a_rollback_needs_something_to_roll_back_to(site: Site, live: str) -> None:
    with pytest.raises(PostgresError) as caught:
        site.roll_back()
    assert f'expected one that replaced "{live}" before' in str(caught.value)
    assert "restore:" in caught.value.hint


def test_an_encrypted_backup_needs_its_key_and_leaves_nothing_in_the_clear(
    site: Site, server: Container, live: str
) -> None:
    made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True, timeout=10)
    identity = made.stdout
    public = made.stderr.partition(": ")[2].strip()
    site.back_up(recipients=[public])
    with pytest.raises(BackupError, match="no private key was given"):
        site.restore()
    assert site.restore(dry_run=True, identity=identity)["rows"] == 2000
    assert set(databases(server)) == {live}
    site.nothing_is_left()
    assert [
        path.name for path in site.store.folder(DATABASE).iterdir() if path.name[0] == "."
    ] == []
