# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talking to a PostgreSQL that a test has started, as its administrator unless another is named."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg2

if TYPE_CHECKING:
    from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container


def connect(server: Container, database: str, **parameters: Any) -> Any:
    """A connection in autocommit; ``parameters`` are psycopg2's own."""
    known = {"user": "postgres", "password": server.environment["POSTGRES_PASSWORD"]}
    connection = psycopg2.connect(
        host=server.addresses[0], dbname=database, connect_timeout=5, **{**known, **parameters}
    )
    connection.autocommit = True
    return connection


def accepts(server: Container, database: str = "postgres") -> bool:
    """Whether it lets the administrator in."""
    try:
        connect(server, database).close()
    except psycopg2.OperationalError:
        return False
    return True


def sql(server: Container, database: str, *statements: str) -> list[Any]:
    """Run statements one by one; the last one's rows."""
    with closing(connect(server, database)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []
