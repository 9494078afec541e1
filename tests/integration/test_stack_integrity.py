# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What somebody has changed in a container or a database, seen from outside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _integrity as integrity
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.integrity import (
    IntegrityEngine,
    check,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Policy

from .conftest import Project, docker, wait_until

PASSWORD = "canary-integrity-11"


def connect(container: Container) -> Any:
    connection = psycopg2.connect(
        host=container.addresses[0], user="shop", password=PASSWORD, dbname="shop"
    )
    connection.autocommit = True
    return connection


def execute(container: Container, statement: str) -> None:
    connection = connect(container)
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


@pytest.fixture(scope="module")
def postgres(project: Project) -> Iterator[Container]:
    container = project.start(
        "postgres",
        "postgres",
        {
            "POSTGRES_USER": "shop",
            "POSTGRES_PASSWORD": PASSWORD,
            "POSTGRES_HOST_AUTH_METHOD": "scram-sha-256",
            "POSTGRES_INITDB_ARGS": "--data-checksums",
        },
    )

    def ready() -> bool:
        try:
            connect(container).close()
        except psycopg2.Error:
            return False
        return True

    wait_until("PostgreSQL is ready", ready)
    yield container
    project.remove("postgres")


def looked_at(project: Project, **expected: list[str]) -> dict[str, dict[str, Any]]:
    results = check(
        project.stack(),
        IntegrityEngine(60),
        CheckSettings(),
        Policy(integrity.CATALOGUE),
        {service.replace("_", "-"): paths for service, paths in expected.items()},
    )
    found = {f"{one['id']}@{one['service']}": one for one in results}
    assert PASSWORD not in str(results)
    return found


@pytest.mark.usefixtures("postgres")
def test_a_sound_stack(project: Project) -> None:
    found = looked_at(project)
    assert {name: one["status"] for name, one in found.items()} == {
        "integrity.image@postgres": "ok",
        "integrity.files@postgres": "ok",
        "integrity.checksums@postgres": "ok",
        "integrity.catalogs@postgres": "ok",
        "integrity.tables@postgres": "skipped",
        "integrity.superusers@postgres": "ok",
    }, found


def test_files_that_somebody_left(project: Project, postgres: Container) -> None:
    docker("exec", "--user", "0", postgres.id, "touch", "/usr/bin/miner", "/tmp/harmless")
    docker("exec", "--user", "0", postgres.id, "mkdir", "-p", "/srv/own")
    found = looked_at(project)["integrity.files@postgres"]
    assert (found["status"], found["value"]) == ("critical", 2)
    assert "added /usr/bin/miner" in found["message"]
    found = looked_at(project, postgres=["/srv/own", "/usr/bin/miner"])["integrity.files@postgres"]
    assert found["status"] == "ok"


def test_a_superuser_that_nobody_knows(project: Project, postgres: Container) -> None:
    execute(postgres, "CREATE ROLE evil LOGIN SUPERUSER")
    found = looked_at(project)["integrity.superusers@postgres"]
    assert found["status"] == "warning"
    assert "evil" in found["message"]
    execute(postgres, "DROP ROLE evil")


def test_tables_that_are_not_sound(project: Project, postgres: Container) -> None:
    execute(postgres, "CREATE EXTENSION amcheck")
    execute(postgres, "CREATE TABLE t AS SELECT n FROM generate_series(1, 2000) AS n")
    execute(postgres, "CREATE INDEX ON t (n)")
    assert looked_at(project)["integrity.tables@postgres"]["status"] == "ok"
    # As a build that was cut off leaves it.
    execute(
        postgres,
        "SET allow_system_table_mods = on; UPDATE pg_index SET indisvalid = false "
        "WHERE indexrelid = 't_n_idx'::regclass",
    )
    found = looked_at(project)["integrity.catalogs@postgres"]
    assert (found["status"], found["message"]) == ("critical", "1 invalid indexes")
