# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Detections in PostgreSQL. Every call here is bounded in time."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

logger = logging.getLogger("pynomaly.database")

CONNECT_SECONDS = 1.0
QUERY_SECONDS = 5.0
SCHEMA_LOCK = 7_046_029_254  # an arbitrary constant: advisory locks know numbers only

SCHEMA = """
CREATE TABLE IF NOT EXISTS detections (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at      timestamptz NOT NULL DEFAULT now(),
    dataset         text,
    content_hash    text NOT NULL,
    value_count     integer NOT NULL,
    anomaly_count   integer NOT NULL,
    threshold       double precision NOT NULL,
    result          jsonb NOT NULL,
    api_version     text NOT NULL
);
CREATE INDEX IF NOT EXISTS detections_created_at ON detections (created_at);
"""

UNREACHABLE = (OSError, asyncio.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class DatabaseUnreachableError(Exception):
    """PostgreSQL did not answer in time, refused, or failed. Its message names the cause."""


def describe(error: BaseException) -> str:
    """One line for the log. asyncpg's and the system's messages hold no passwords."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Database:
    """A pool that connects when it is first needed and again after the server was away."""

    def __init__(self, url: str, pool_size: int, application_name: str) -> None:
        self._url = url
        self._pool_size = pool_size
        self._application_name = application_name
        self._pool: asyncpg.Pool | None = None
        self._schema_is_there = False

    async def open(self) -> None:
        """Make the pool. It has no connections yet, so a server that is away is no error."""
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._pool_size,
            timeout=CONNECT_SECONDS,
            command_timeout=QUERY_SECONDS,
            server_settings={"application_name": self._application_name},
        )

    async def close(self) -> None:
        """Close the pool; connections that do not end within two seconds are cut."""
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), 2.0)
        except UNREACHABLE:
            self._pool.terminate()

    @asynccontextmanager
    async def _connection(self, seconds: float) -> AsyncIterator[Any]:
        assert self._pool is not None
        connection = None
        try:
            async with asyncio.timeout(seconds):
                connection = await self._pool.acquire()
                try:
                    yield connection
                except BaseException:
                    # A query that was given up still occupies its connection. Waiting
                    # for it to be cancelled would wait for the server that hangs.
                    connection.terminate()
                    raise
        except UNREACHABLE as error:
            if isinstance(error, asyncpg.UndefinedTableError):
                # Another database took this one's name; the next call makes the table.
                self._schema_is_there = False
            raise DatabaseUnreachableError(describe(error)) from error
        finally:
            if connection is not None:
                await self._pool.release(connection)

    async def _ensure_schema(self, connection: Any) -> None:
        if self._schema_is_there:
            return
        async with connection.transaction():
            # Replicas that start together would otherwise collide on the catalogue.
            await connection.execute("SELECT pg_advisory_xact_lock($1)", SCHEMA_LOCK)
            await connection.execute(SCHEMA)
        self._schema_is_there = True
        logger.info("the schema is in place")

    async def prepare(self) -> None:
        """Make the schema; raises DatabaseUnreachableError."""
        async with self._connection(QUERY_SECONDS) as connection:
            await self._ensure_schema(connection)

    async def ping(self, seconds: float) -> None:
        """Run `SELECT 1`; raises DatabaseUnreachableError, after `seconds` at the latest."""
        async with self._connection(seconds) as connection:
            await connection.fetchval("SELECT 1")

    async def insert_detection(self, row: dict[str, Any]) -> tuple[int, str]:
        """Write one detection; its id and its time (ISO 8601). Raises DatabaseUnreachableError."""
        async with self._connection(QUERY_SECONDS) as connection:
            await self._ensure_schema(connection)
            record = await connection.fetchrow(
                "INSERT INTO detections (dataset, content_hash, value_count, anomaly_count,"
                " threshold, result, api_version) VALUES ($1, $2, $3, $4, $5, $6, $7)"
                " RETURNING id, created_at",
                row["dataset"],
                row["content_hash"],
                row["value_count"],
                row["anomaly_count"],
                row["threshold"],
                json.dumps(row["result"]),
                row["api_version"],
            )
        return record["id"], record["created_at"].isoformat()

    async def latest_detections(self, limit: int) -> list[dict[str, Any]]:
        """The newest `limit` detections, newest first. Raises DatabaseUnreachableError."""
        async with self._connection(QUERY_SECONDS) as connection:
            await self._ensure_schema(connection)
            records = await connection.fetch(
                "SELECT id, created_at, dataset, value_count, anomaly_count, threshold,"
                " api_version FROM detections ORDER BY id DESC LIMIT $1",
                limit,
            )
        return [{**record, "created_at": record["created_at"].isoformat()} for record in records]
