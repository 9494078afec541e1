# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What dead runs have left of a PostgreSQL server's databases and of backups, undone."""

from __future__ import annotations

import contextlib
import datetime
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import postgres_tools
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.resume import (
    ResumeSettings,
    run,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_restore import SCRATCH, dated_name

from .conftest import LABEL, Project, docker, image, wait_until

PASSWORD = "s3cret-of-the-resume-test"
DEAD = RunIdentity("run-dead", "tester", "here")
OURS = RunIdentity("run-ours", "tester", "here")
SCRATCH_NAME = dated_name(
    "shop", SCRATCH, datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
)


@dataclass
class Host:
    project: Project
    address: str
    state_dir: Path
    backup_dir: Path

    @property
    def store(self) -> OperationStore:
        return OperationStore(str(self.state_dir))

    @property
    def dead(self) -> TemporaryStates:
        return TemporaryStates(self.store, DEAD, "restore", self.project.name)

    def resume(self, dry_run: bool = False, project: str | None = None) -> dict[str, Any]:
        settings = ResumeSettings(
            project=self.project.name if project is None else project,
            backup_dir=str(self.backup_dir),
        )
        return run(settings, EngineControl(10.0), self.store, OURS, dry_run=dry_run)

    def query(self, statement: str, database: str = "postgres") -> list[Any]:
        with contextlib.closing(
            psycopg2.connect(
                host=self.address,
                user="admin",
                password=PASSWORD,
                dbname=database,
                connect_timeout=5,
            )
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []

    def databases(self) -> dict[str, bool]:
        found = self.query(
            "SELECT datname, datallowconn FROM pg_database WHERE datname LIKE 'shop%'"
        )
        return dict(found)


@pytest.fixture(scope="module")
def server(project: Project) -> str:
    environment = {"POSTGRES_USER": "admin", "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": "shop"}
    address = str(project.start("postgres", "postgres", environment).addresses[0])

    def ready() -> bool:
        try:
            psycopg2.connect(
                host=address, user="admin", password=PASSWORD, dbname="shop", connect_timeout=2
            ).close()
        except psycopg2.Error:
            return False
        return True

    wait_until("PostgreSQL lets us in", ready)
    return address


@pytest.fixture
def host(project: Project, server: str, tmp_path: Path) -> Iterator[Host]:
    made = Host(project, server, tmp_path / "state", tmp_path / "backups")
    yield made
    made.query("ALTER DATABASE shop ALLOW_CONNECTIONS true")
    made.query(f'DROP DATABASE IF EXISTS "{SCRATCH_NAME}" WITH (FORCE)')


def outcomes(answer: dict[str, Any]) -> dict[str, str]:
    return {one["state"]: one["outcome"] for one in answer["states"]}


def test_a_closed_database_and_a_half_restored_one(host: Host) -> None:
    host.dead.open("database_closed", "closed", {"database": "shop"})
    host.query("ALTER DATABASE shop ALLOW_CONNECTIONS false")
    host.dead.open("scratch_database", "made", {"database": SCRATCH_NAME})
    host.query(f'CREATE DATABASE "{SCRATCH_NAME}"')
    assert host.databases() == {"shop": False, SCRATCH_NAME: True}

    told = host.resume(dry_run=True)
    assert told["changed"] and "would be" in told["lines"][0]
    assert host.databases() == {"shop": False, SCRATCH_NAME: True}

    first = host.resume()
    assert first["changed"] and not first["failed"]
    assert outcomes(first) == {"scratch_database": "undone", "database_closed": "undone"}
    assert host.databases() == {"shop": True}
    assert PASSWORD not in str(first)
    second = host.resume()
    assert not second["changed"] and second["lines"] == ["nothing was left on this host"]


def test_what_was_noted_and_not_done_is_closed(host: Host) -> None:
    """Killed between the journal and the deed."""
    host.dead.open("database_closed", "closed", {"database": "shop"})
    host.dead.open("scratch_database", "made", {"database": SCRATCH_NAME})
    assert set(outcomes(host.resume()).values()) == {"closed"}
    assert host.databases() == {"shop": True}
    assert not host.resume()["changed"]


def test_what_cannot_be_undone_is_told_and_keeps_nothing_from_the_others(host: Host) -> None:
    host.dead.open("database_closed", "closed", {"database": "shop"})
    host.query("ALTER DATABASE shop ALLOW_CONNECTIONS false")
    host.dead.open("odd_thing", "left", undo="undo-the-odd-thing --now")
    # A name that no restore has given is not dropped, whoever says so.
    host.dead.open("scratch_database", "made", {"database": "shop"})
    answer = host.resume()
    assert outcomes(answer) == {
        "database_closed": "undone",
        "odd_thing": "failed",
        "scratch_database": "failed",
    }
    assert "undo-the-odd-thing --now" in answer["failed"]
    assert "pynomaly.ops.resume" in answer["failed"]
    assert host.databases() == {"shop": True}
    assert {one["temporary_state"] for one in host.dead.left()} == {"odd_thing", "scratch_database"}


def test_backups_that_were_being_written(host: Host) -> None:
    store = BackupStore(str(host.backup_dir), host.project.name)
    identifier = f"{host.project.name}-20260101T000000Z"
    staging = store.stage("database", identifier)
    (staging / "part").write_text("half")
    elsewhere = BackupStore(str(host.state_dir.parent / "other"), host.project.name)
    moved = elsewhere.stage("config", identifier)
    host.dead.open("backup_staging", "writing", {"path": str(moved)})
    prefix = postgres_tools._secrets_prefix(host.project.name)
    secret = Path(tempfile.mkdtemp(prefix=prefix, dir=postgres_tools._memory_folder()))
    left = docker(
        "create",
        *("--label", f"ops.pynomaly.helper={host.project.name}", "--label", LABEL),
        image("postgres"),
    ).stdout.strip()

    first = host.resume()
    assert first["changed"] and not first["failed"] and len(first["removed"]) == 4
    assert not staging.exists() and not moved.exists() and not secret.exists()
    assert docker("inspect", left, check=False).returncode != 0
    assert host.dead.left() == []
    assert not host.resume()["changed"]


def test_every_project_of_the_host(host: Host) -> None:
    other = TemporaryStates(host.store, DEAD, "restore", "another-project")
    other.open("odd_thing", "left", undo="undo it")
    host.dead.open("database_closed", "closed", {"database": "shop"})
    assert outcomes(host.resume()) == {"database_closed": "closed"}
    answer = host.resume(project="")
    assert [(one["project"], one["outcome"]) for one in answer["states"]] == [
        ("another-project", "failed")
    ]
