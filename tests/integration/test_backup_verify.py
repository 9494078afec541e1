# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups of a real server, restored for real into one that is thrown away."""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    Backup,
    BackupError,
    select,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import backup_verify, pg_backup
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.helper_container import (
    HELPER_LABEL,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.scratch_server import (
    scratch_server,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity

from .conftest import Project, docker, wait_until
from .postgres import accepts
from .postgres import sql as sql_in

PASSWORD = "canary-verify-9a/:x"
DATABASE = "shop"
START = datetime.datetime(2026, 11, 24, 3, 0, 0, tzinfo=datetime.timezone.utc)
HARD_SCHEMA = Path(__file__).with_name("hard_schema.sql")


def sql(server: Container, *statements: str) -> list[Any]:
    return sql_in(server, DATABASE, *statements)


@pytest.fixture(scope="module")
def server(project: Project) -> Container:
    started = project.start(
        "postgres", "postgres", {"POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": DATABASE}
    )
    wait_until("PostgreSQL accepts connections", lambda: accepts(started))
    docker("cp", str(HARD_SCHEMA), f"{started.id}:/tmp/hard_schema.sql")
    docker(
        *("exec", started.id, "psql", "-XqU", "postgres", "-v", "ON_ERROR_STOP=1", "-d", DATABASE),
        *("-f", "/tmp/hard_schema.sql"),  # inside the container
    )
    sql(
        started,
        "CREATE TABLE public.counted (id bigint GENERATED ALWAYS AS IDENTITY, note text)",
        "INSERT INTO public.counted (note) SELECT 'row ' || n FROM generate_series(1, 1000) n",
    )
    return started


@pytest.fixture
def store(project: Project, tmp_path: Path) -> BackupStore:
    return BackupStore(str(tmp_path / "backups"), project.name)


def states_of(store: BackupStore) -> TemporaryStates:
    return TemporaryStates(
        OperationStore(str(store.directory.parent / "state")),
        RunIdentity("run", "tester", "here"),
        "backup_verify",
        store.project,
    )


def back_up(store: BackupStore, minute: int = 0, **options: Any) -> Backup:
    settings = pg_backup.PgBackupSettings(
        project=store.project, backup_dir=str(store.directory), jobs=2, **options
    )
    made = pg_backup.run(
        settings, states_of(store), clock=lambda: START + datetime.timedelta(minutes=minute)
    )
    return select(store.backups(), made["id"])


def verify(store: BackupStore, wanted: str = "latest", **options: Any) -> dict[str, Any]:
    return backup_verify.run(
        backup_verify.VerifySettings(
            project=store.project, backup_dir=str(store.directory), wanted=wanted, **options
        ),
        states_of(store),
    )


def republish(store: BackupStore, minute: int, content: Backup, dump: Backup) -> Backup:
    """A backup whose manifest is that of one, and whose dump is that of another: whole by its
    checksums, and not what it says."""
    assert content.manifest is not None
    moment = START + datetime.timedelta(minutes=minute)
    identifier = f"{store.project}-{moment:%Y%m%dT%H%M%SZ}"
    staging = store.stage("database", identifier)
    shutil.copytree(Path(dump.path) / "dump", staging / "dump")
    shutil.copy(Path(dump.path) / "globals.sql", staging / "globals.sql")
    return store.publish(staging, replace(content.manifest, id=identifier))


def left_behind(project: str) -> list[str]:
    listed = docker("ps", "--all", "--quiet", "--filter", f"label={HELPER_LABEL}={project}")
    return listed.stdout.split()


@pytest.fixture(autouse=True)
def nothing_stays(store: BackupStore) -> Iterator[None]:
    yield
    assert left_behind(store.project) == []
    assert store.stagings() == []
    assert states_of(store).left() == []


@pytest.mark.usefixtures("server")
def test_a_good_backup_is_restored_and_found_equal(store: BackupStore, tmp_path: Path) -> None:
    textfiles = tmp_path / "textfile"
    textfiles.mkdir()
    backup = back_up(store)
    assert not backup.is_verified
    before = time.time()
    answer = verify(store, textfile_dir=str(textfiles))
    assert answer["problems"] == []
    assert answer["ok"] is True
    assert answer["details"]["pg_amcheck"] == "ok"
    assert answer["details"]["server"].startswith("17.")
    assert answer["details"]["tables"] > 15
    proved = select(store.backups(), "latest_verified")
    assert proved.id == backup.id
    assert proved.full is not None
    (metrics,) = textfiles.glob("*.prom")
    lines = dict(line.rsplit(" ", 1) for line in metrics.read_text().splitlines() if line[0] != "#")
    key = f'{{project="{store.project}",kind="database"}}'
    assert lines[f"pynomaly_backup_verification_success{key}"] == "1"
    assert float(lines[f"pynomaly_backup_verified_timestamp_seconds{key}"]) >= int(before)


def test_the_throw_away_server_takes_its_volumes_with_it(server: Container) -> None:
    engine = EngineControl(30.0)
    with scratch_server(engine, server.image_id, "inttest", 60.0) as scratch:
        assert scratch.address[0].startswith("/run/")
        networks = docker("inspect", "-f", "{{.HostConfig.NetworkMode}}", scratch.container.id)
        assert networks.stdout.strip() == "none"
        listed = docker("inspect", "-f", "{{range .Mounts}}{{.Name}} {{end}}", scratch.container.id)
        volumes = listed.stdout.split()
        assert volumes
    assert docker("inspect", scratch.container.id, check=False).returncode != 0
    for volume in volumes:
        assert docker("volume", "inspect", volume, check=False).returncode != 0


@pytest.mark.usefixtures("server")
def test_checksums_alone_do_not_make_it_verified(store: BackupStore) -> None:
    back_up(store)
    answer = verify(store, method="quick")
    assert answer["ok"] is True
    with pytest.raises(BackupError, match="expected latest_verified"):
        select(store.backups(), "latest_verified")


@pytest.mark.usefixtures("server")
def test_one_flipped_bit_refutes_it_and_what_was_verified_is_no_more(store: BackupStore) -> None:
    backup = back_up(store)
    verify(store)
    largest = max((Path(backup.path) / "dump").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 4
    largest.write_bytes(data)
    answer = verify(store)
    assert answer["ok"] is False
    assert answer["problems"] == [f"dump/{largest.name} differs from its SHA-256 in the manifest"]
    with pytest.raises(BackupError, match="expected latest_verified"):
        select(store.backups(), "latest_verified")
    with pytest.raises(BackupError, match="was found damaged"):
        select(store.backups(), backup.id)

    # Where it was the disk or the memory that erred, another look by its id says so.
    data[len(data) // 2] ^= 4
    largest.write_bytes(data)
    assert verify(store, wanted=backup.id)["ok"] is True
    assert select(store.backups(), "latest_verified").id == backup.id


def test_one_changed_row_with_the_same_count_is_caught(
    server: Container, store: BackupStore
) -> None:
    first = back_up(store)
    sql(server, "UPDATE public.counted SET note = note || '!' WHERE id = 500")
    try:
        second = back_up(store, 1)
    finally:
        sql(server, "UPDATE public.counted SET note = 'row 500' WHERE id = 500")
    republish(store, 2, content=first, dump=second)
    answer = verify(store)
    assert answer["ok"] is False
    (problem,) = answer["problems"]
    assert problem.startswith("table public.counted: seen other values in its 1000 rows")


def test_a_stale_sequence_is_caught(server: Container, store: BackupStore) -> None:
    first = back_up(store)
    sql(server, "SELECT setval('public.counted_id_seq', 10, true)")
    try:
        second = back_up(store, 1)
    finally:
        sql(server, "SELECT setval('public.counted_id_seq', 1000, true)")
    republish(store, 2, content=first, dump=second)
    answer = verify(store)
    (problem,) = answer["problems"]
    assert problem.startswith("sequence public.counted_id_seq: seen at 10")


def test_a_changed_definition_is_caught(server: Container, store: BackupStore) -> None:
    first = back_up(store)
    sql(server, "ALTER TABLE public.counted ALTER note SET DEFAULT 'x'")
    try:
        second = back_up(store, 1)
    finally:
        sql(server, "ALTER TABLE public.counted ALTER note DROP DEFAULT")
    republish(store, 2, content=first, dump=second)
    answer = verify(store)
    (problem,) = answer["problems"]
    assert problem.startswith("schema: ")


@pytest.mark.usefixtures("server")
def test_a_dump_that_cannot_be_restored_is_refuted(store: BackupStore) -> None:
    first = back_up(store)
    assert first.manifest is not None
    moment = START + datetime.timedelta(minutes=1)
    identifier = f"{store.project}-{moment:%Y%m%dT%H%M%SZ}"
    staging = store.stage("database", identifier)
    shutil.copytree(Path(first.path) / "dump", staging / "dump")
    (staging / "globals.sql").write_text("-- the roles got lost\n")
    store.publish(staging, replace(first.manifest, id=identifier))
    answer = verify(store)
    assert answer["ok"] is False
    (problem,) = answer["problems"]
    assert problem.startswith("it cannot be restored: ")
    assert "does not exist" in problem


@pytest.mark.usefixtures("server")
def test_an_encrypted_backup_is_proved_with_the_key_and_only_then(store: BackupStore) -> None:
    made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True, timeout=10)
    public = next(
        line.rpartition(" ")[2] for line in made.stdout.splitlines() if "public key" in line
    )
    backup = back_up(store, recipients=[public])
    names = sorted(path.name for path in Path(backup.path).iterdir())
    assert names == ["dump.tar.age", "globals.sql.age", "manifest.json", "manifest.sha256"]
    with pytest.raises(BackupError, match="no private key was given"):
        verify(store)
    assert verify(store, method="quick")["ok"] is True
    assert verify(store, identity=made.stdout)["problems"] == []


@pytest.mark.usefixtures("server")
def test_check_mode_writes_nothing(store: BackupStore) -> None:
    back_up(store)
    before = fingerprint(store.directory)
    settings = backup_verify.VerifySettings(store.project, str(store.directory))
    assert backup_verify.run(settings, states_of(store), dry_run=True)["changed"] is True
    assert fingerprint(store.directory) == before


def fingerprint(folder: Path) -> Sequence[tuple[str, int, int]]:
    return sorted(
        (str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")
    )


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("deadly", ["decrypt", "restore", "compare"])
def test_what_a_killed_proof_leaves_is_gone_with_the_next(store: BackupStore, deadly: str) -> None:
    made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True, timeout=10)
    public = next(
        line.rpartition(" ")[2] for line in made.stdout.splitlines() if "public key" in line
    )
    back_up(store, recipients=[public])
    settings = backup_verify.VerifySettings(
        store.project, str(store.directory), identity=made.stdout
    )
    child = os.fork()
    if not child:

        def step(name: str) -> None:
            if name == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

        backup_verify.run(settings, states_of(store), step=step)
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    (left,) = store.stagings()
    assert left.stat().st_mode & 0o777 == 0o700
    assert [one["temporary_state"] for one in states_of(store).left()] == ["backup_staging"]
    assert bool(left_behind(store.project)) == (deadly != "decrypt")
    assert store.backups()[0].full is None
    assert verify(store, identity=made.stdout)["ok"] is True
