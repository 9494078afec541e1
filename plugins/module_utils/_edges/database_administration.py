# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work on whole databases of a server, from outside of them: closing and opening one, and dropping
what a restore has made."""

from __future__ import annotations

import contextlib
import importlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import STAGING_PREFIX
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import scrub
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
    PostgresServer,
    connect,
    find_server,
    load_psycopg2,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_restore import (
    MAINTENANCE_DATABASES,
    SCRATCH,
    is_dated_name,
    maintenance_database,
)

#: Names of temporary states in the journal.
CLOSED_STATE = "database_closed"
SCRATCH_STATE = "scratch_database"

#: Dropping a database takes as long as its files do.
_STATEMENT_SECONDS = 600.0

_COMMENTS = """
SELECT datname, coalesce(pg_catalog.shobj_description(oid, 'pg_database'), '')
  FROM pg_catalog.pg_database
"""


def find_administrator(stack: Stack, engine: Engine, settings: CheckSettings) -> PostgresServer:
    """The server, found without the application's database, which may be closed.

    Raises L{PostgresError}, and C{CollectorError} where psycopg2 is missing.
    """
    return find_server(stack, engine, settings, through=MAINTENANCE_DATABASES)


@contextlib.contextmanager
def administration(
    server: PostgresServer,
    database: str,
    what: str,
    *,
    statement_timeout_seconds: float = _STATEMENT_SECONDS,
    lock_timeout_seconds: float = 5.0,
) -> Iterator[Any]:
    """A session in autocommit that is not in ``database``.

    Errors of the database are raised as L{PostgresError} that say ``what`` could not be done.
    """
    with (
        told(server, what),
        contextlib.closing(
            connect(
                server,
                maintenance_database(database),
                statement_timeout_seconds=statement_timeout_seconds,
                lock_timeout_seconds=lock_timeout_seconds,
            )
        ) as connection,
    ):
        yield connection


@contextlib.contextmanager
def told(server: PostgresServer, what: str) -> Iterator[None]:
    """Errors of the database as L{PostgresError}."""
    psycopg2 = load_psycopg2()
    try:
        yield
    except psycopg2.Error as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = scrub("; ".join(lines[:2]) or type(error).__name__, [server.login.password])
        raise PostgresError(f"{what}: {text}", "ansible-playbook pynomaly.ops.daily_check") from (
            error
        )


def rows(connection: Any, statement: Any, parameters: Any = None) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def execute(connection: Any, statement: str, **identifiers: str) -> None:
    """Run a statement in which C{{name}} stands for an identifier."""
    sql = importlib.import_module("psycopg2.sql")
    names = {name: sql.Identifier(value) for name, value in identifiers.items()}
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(statement).format(**names))


def set_comment(connection: Any, database: str, comment: str) -> None:
    sql = importlib.import_module("psycopg2.sql")
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                sql.Identifier(database), sql.Literal(comment or None)
            )
        )


def database_comments(connection: Any) -> dict[str, str]:
    """Each database's comment, by its name."""
    return {str(name): str(comment) for name, comment in rows(connection, _COMMENTS)}


def exists(connection: Any, database: str) -> bool:
    return bool(
        rows(connection, "SELECT FROM pg_catalog.pg_database WHERE datname = %s", (database,))
    )


def reopen_database(server: PostgresServer, database: str) -> bool:
    """Let everybody into a database again; whether that was not so.

    Undoes the temporary state L{CLOSED_STATE}, on whichever side of the swap it was left: the
    database of this name is then the one before, or the restored one. Raises L{PostgresError},
    also where there is none of that name.
    """
    with administration(
        server, database, f'database "{database}" could not be opened again'
    ) as connection:
        found = rows(
            connection,
            "SELECT datallowconn FROM pg_catalog.pg_database WHERE datname = %s",
            (database,),
        )
        if not found:
            raise PostgresError(
                f'database "{database}" could not be opened again: seen none of that name',
                "psql --list shows which there are",
            )
        if found[0][0]:
            return False
        execute(connection, "ALTER DATABASE {database} ALLOW_CONNECTIONS true", database=database)
        return True


def drop_scratch(server: PostgresServer, details: Mapping[str, Any]) -> bool:
    """Drop what a restore has made and not finished; whether there was any of it.

    ``details`` are those of the temporary state L{SCRATCH_STATE}: the C{database}, C{roles} that
    were made for it, and a C{folder} with the backup in the clear. A database is dropped that has
    the name of one that is restored into, and no other. Raises L{PostgresError}.
    """
    name = str(details["database"])
    if not is_dated_name(name, SCRATCH):
        raise PostgresError(
            f'database "{name}" is not dropped: seen no name of one that is restored into'
        )
    dropped = _drop_folder(str(details.get("folder") or ""))
    with administration(server, name, f'database "{name}" could not be dropped') as connection:
        if exists(connection, name):
            _drop_subscriptions(server, name)
            execute(connection, "DROP DATABASE {name} WITH (FORCE)", name=name)
            dropped = True
        _drop_roles(connection, [str(role) for role in details.get("roles") or ()])
    return dropped


def _drop_folder(text: str) -> bool:
    folder = Path(text)
    if not text or not folder.name.startswith(STAGING_PREFIX) or not folder.is_dir():
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _drop_subscriptions(server: PostgresServer, name: str) -> None:
    """A database with a subscription cannot be dropped; a restored one has never been enabled and
    has no slot of its own: https://www.postgresql.org/docs/current/app-pgdump.html"""
    with told(server, f'the subscriptions of database "{name}" could not be dropped'):
        try:
            connection = connect(server, name)
        except PostgresError:
            return  # what it is not let in for, dropping will say
        with contextlib.closing(connection):
            for (subscription,) in rows(
                connection,
                "SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d "
                "ON d.oid = s.subdbid WHERE d.datname = pg_catalog.current_database()",
            ):
                for statement in (
                    "ALTER SUBSCRIPTION {name} DISABLE",
                    "ALTER SUBSCRIPTION {name} SET (slot_name = NONE)",
                    "DROP SUBSCRIPTION {name}",
                ):
                    execute(connection, statement, name=subscription)


def _drop_roles(connection: Any, roles: Sequence[str]) -> None:
    """Those that nothing has come to depend on."""
    errors = importlib.import_module("psycopg2.errors")
    for role in roles:
        with contextlib.suppress(errors.DependentObjectsStillExist):
            execute(connection, "DROP ROLE IF EXISTS {role}", role=role)
