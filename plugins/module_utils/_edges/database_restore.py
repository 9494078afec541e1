# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database made anew out of a backup, on whichever server, and proved equal to what its manifest
promises. Nothing here touches a database that it has not made."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import Manifest
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import scrub
from ansible_collections.pynomaly.ops.plugins.module_utils._database_contents import differences
from ansible_collections.pynomaly.ops.plugins.module_utils._database_restore import (
    creation_options,
    privileges,
    setting_values,
    split_setting,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import database_contents
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
    PostgresServer,
    connect,
    load_psycopg2,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_tools import (
    WORK,
    PostgresTools,
)

_STATEMENT_SECONDS = 120.0


def create_database(server: PostgresServer, name: str, properties: Mapping[str, Any]) -> None:
    """Make an empty database as a manifest's C{content.database} describes it, of its owner.

    Its privileges, settings and comment come last, by L{apply_properties}. Raises
    L{PostgresError}, also where there is one of that name.
    """
    sql = _sql()
    options = [
        sql.SQL("{} = {}").format(sql.SQL(word), sql.SQL(value) if is_word else sql.Literal(value))
        for word, value, is_word in creation_options(properties, server.major)
    ]
    _execute(
        server,
        [
            sql.SQL("CREATE DATABASE {} WITH TEMPLATE = template0 OWNER = {} {}").format(
                sql.Identifier(name),
                sql.Identifier(str(properties["owner"])),
                sql.SQL(" ").join(options),
            )
        ],
        f'database "{name}" could not be made',
    )


def apply_properties(server: PostgresServer, name: str, properties: Mapping[str, Any]) -> None:
    """Give a database the privileges, settings, comment and connection limit of a manifest."""
    sql = _sql()
    database = sql.Identifier(name)
    statements = [
        sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
            database, sql.Literal(int(properties["connection_limit"]))
        ),
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database),
        sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(
            database, sql.Identifier(str(properties["owner"]))
        ),
    ]
    for grantee, privilege, grantable in privileges(properties):
        statements.append(
            sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
                sql.SQL(privilege),
                database,
                sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC"),
                sql.SQL(" WITH GRANT OPTION" if grantable else ""),
            )
        )
    if properties.get("comment"):
        statements.append(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                database, sql.Literal(str(properties["comment"]))
            )
        )
    for role, setting in properties.get("settings") or ():
        setting_name, value = split_setting(setting)
        values = sql.SQL(", ").join(map(sql.Literal, setting_values(setting_name, value)))
        whose = (
            sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)
            if role
            else sql.SQL("DATABASE {}").format(database)
        )
        # A setting's name may have a point in it, which no identifier in quotes stands for.
        parts = sql.SQL(".").join(map(sql.Identifier, setting_name.split(".")))
        statements.append(sql.SQL("ALTER {} SET {} TO {}").format(whose, parts, values))
    _execute(server, statements, f'the properties of database "{name}" could not be set')


def fill_database(
    tools: PostgresTools,
    dump: Path,
    name: str,
    *,
    jobs: int,
    timeout_seconds: float,
    cancelled: Optional[threading.Event] = None,
) -> None:
    """Restore a dump in directory format into an empty database; the first error ends it.

    Raises L{PostgresError} and C{EngineError}.
    """
    tools.run(
        [
            *("pg_restore", "--exit-on-error", "--no-tablespaces", "--jobs", str(max(1, jobs))),
            *("--dbname", database_contents.conninfo(name), WORK),
        ],
        timeout_seconds,
        work=str(dump),
        cancelled=cancelled,
    )


def proof_problems(
    tools: PostgresTools,
    name: str,
    manifest: Manifest,
    work_dir: Path,
    *,
    jobs: int,
    timeout_seconds: float,
    properties: bool = True,
    extension_versions: bool = True,
) -> list[str]:
    """How a restored database differs from what the manifest promises; empty where it is equal.

    Rows and values of each table, sequences, large objects, extensions, and the definition of every
    object; with ``properties``, the database's own too; without ``extension_versions`` an
    extension counts by its name. ``work_dir`` is an own folder of the caller's.
    """
    server = tools.server
    deadline = Deadline(timeout_seconds)
    seen = database_contents.measure(server, name, jobs=jobs, timeout_seconds=timeout_seconds)
    seen["schema_sha256"] = database_contents.live_schema_digest(
        tools, name, work_dir, deadline.remaining
    )
    if properties:
        with contextlib.closing(database_contents.session(server, name, deadline)) as connection:
            seen["database"] = database_contents.database_properties(connection)
    same_version = str(manifest.versions.get("server", "")).partition(".")[0] == str(server.major)
    expected = dict(manifest.content)
    if not same_version:
        # Another major version writes the same definitions in other words.
        expected.pop("schema_sha256", None)
    return differences(expected, seen, extension_versions=same_version and extension_versions)


def _execute(server: PostgresServer, statements: list[Any], what: str) -> None:
    psycopg2 = load_psycopg2()
    with (
        contextlib.closing(
            connect(server, "postgres", statement_timeout_seconds=_STATEMENT_SECONDS)
        ) as connection,
        connection.cursor() as cursor,
    ):
        try:
            for statement in statements:
                cursor.execute(statement)
        except psycopg2.Error as error:
            text = "; ".join(line.strip() for line in str(error).splitlines()[:2] if line.strip())
            raise PostgresError(f"{what}: {scrub(text, [server.login.password])}") from error


def _sql() -> Any:
    load_psycopg2()
    from psycopg2 import sql  # noqa: PLC0415  # a host may have no psycopg2

    return sql
