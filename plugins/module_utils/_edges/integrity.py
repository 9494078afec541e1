# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether what runs is what was deployed, looked at from the host. Changes nothing."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credential_rotation import (
    RotationError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.credential_servers import (
    PostgresLogins,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
    PostgresServer,
    connect,
    load_psycopg2,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_tools import (
    PostgresTools,
    ToolError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._integrity import (
    CATALOGS,
    CHECKSUMS,
    FILES,
    IMAGE,
    SUPERUSERS,
    TABLES,
    catalogs_measurement,
    checksums_measurement,
    file_changes,
    files_measurement,
    image_integrity,
    superusers_measurement,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    UNKNOWN,
    Measurement,
    Policy,
    Target,
    result,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import CollectorError

_DATABASE = (CHECKSUMS, CATALOGS, TABLES, SUPERUSERS)

#: What no sound database has any of: https://www.postgresql.org/docs/current/catalogs.html
_CATALOG_CHECKS: Mapping[str, str] = {
    "columns without a relation": """
        SELECT count(*) FROM pg_catalog.pg_attribute a
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = a.attrelid)""",
    "indexes without a relation": """
        SELECT count(*) FROM pg_catalog.pg_index i
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = i.indrelid)
            OR NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = i.indexrelid)""",
    "invalid indexes": """
        SELECT count(*) FROM pg_catalog.pg_index WHERE NOT indisvalid""",
    "constraints without a relation": """
        SELECT count(*) FROM pg_catalog.pg_constraint k
         WHERE k.conrelid <> 0
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = k.conrelid)""",
    "relations without a schema": """
        SELECT count(*) FROM pg_catalog.pg_class c
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.oid = c.relnamespace)""",
}
_FILE_CHECK = """
    SELECT count(*) FROM pg_catalog.pg_class c
     WHERE c.relkind IN ('r', 'i', 't', 'm', 'S') AND c.relpersistence <> 't'
       AND pg_catalog.pg_relation_filepath(c.oid) IS NOT NULL
       AND (pg_catalog.pg_stat_file(pg_catalog.pg_relation_filepath(c.oid), true)).size IS NULL"""
_TABLES_SECONDS = 600.0


class IntegrityEngine(EngineControl):
    """An engine that tells what a container has changed."""

    def changed_files(self, container_id: str) -> list[dict[str, Any]]:
        """C{docker diff}: C{Path} and C{Kind} (0 changed, 1 added, 2 deleted) of each."""
        with self._calling("diff"):
            return list(self._client().diff(container_id) or ())


def check(
    stack: Stack,
    engine: IntegrityEngine,
    settings: CheckSettings,
    policy: Policy,
    expected_paths: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """All results. What cannot be looked at is C{unknown}. ``expected_paths`` are, by service,
    paths in its containers that may change."""
    measurements = []
    for service, containers in sorted(stack.containers.items()):
        for container in containers:
            measurements += _of_container(stack, engine, container, expected_paths.get(service, ()))
    measurements += _of_database(stack, engine, settings)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return [result(one, policy, today) for one in measurements]


def _of_container(
    stack: Stack, engine: IntegrityEngine, container: Container, expected: Sequence[str]
) -> list[Measurement]:
    image_target = Target(IMAGE, container.service, container.name)
    files_target = Target(FILES, container.service, container.name)

    def image() -> Measurement:
        service = stack.services.get(container.service)
        return image_integrity(image_target, service, container, engine.image(container.image_id))

    def files() -> Measurement:
        mounts = [mount.destination for mount in container.mounts]
        changes = file_changes(engine.changed_files(container.id), mounts, expected)
        return files_measurement(files_target, changes)

    return [_told(image_target, image), _told(files_target, files)]


def _told(target: Target, measure: Callable[[], Measurement]) -> Measurement:
    try:
        return measure()
    except CollectorError as error:
        return Measurement(target, status=UNKNOWN, message=str(error), hint=error.hint or None)


def _of_database(stack: Stack, engine: EngineControl, settings: CheckSettings) -> list[Measurement]:
    service = stack.service_of("postgres")
    targets = [Target(identifier, service) for identifier in _DATABASE]
    if not stack.component("postgres"):
        return [
            Measurement(target, status=SKIPPED, message="the project has no PostgreSQL")
            for target in targets
        ]
    try:
        logins = PostgresLogins(engine, stack, settings, [])
        server = logins.server()
        known = [role for role, _password in logins.in_use()]
        psycopg2 = load_psycopg2()
        with (
            contextlib.closing(connect(server)) as connection,
            PostgresTools(engine, server, stack.project) as tools,
        ):
            return [
                *_looked_at(connection, targets, known, server, psycopg2),
                _tables(connection, targets[2], server, tools),
            ]
    except (PostgresError, RotationError, CollectorError) as error:
        hint = getattr(error, "hint", "")
        return [
            Measurement(target, status=UNKNOWN, message=str(error), hint=hint or None)
            for target in targets
        ]


def _looked_at(
    connection: Any,
    targets: Sequence[Target],
    known: Sequence[str],
    server: PostgresServer,
    psycopg2: Any,
) -> list[Measurement]:
    checksums, catalogs, _tables_target, superusers = targets

    def ask(target: Target, measure: Callable[[], Measurement]) -> Measurement:
        try:
            return measure()
        except psycopg2.Error as error:
            text = " ".join(str(error).split())[:200]
            return Measurement(target, status=UNKNOWN, message=text)

    def number(statement: str) -> Optional[int]:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            value = cursor.fetchone()[0]
        return None if value is None else int(value)

    def pages() -> Measurement:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('data_checksums') = 'on'")
            enabled = bool(cursor.fetchone()[0])
        failures = number("SELECT sum(checksum_failures) FROM pg_catalog.pg_stat_database")
        return checksums_measurement(checksums, failures, enabled)

    def agreement() -> Measurement:
        found = {what: number(statement) or 0 for what, statement in _CATALOG_CHECKS.items()}
        if server.is_superuser:
            found["relations without a file"] = number(_FILE_CHECK) or 0
        return catalogs_measurement(catalogs, found)

    def roles() -> Measurement:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper AND rolcanlogin ORDER BY 1"
            )
            names = [str(name) for (name,) in cursor.fetchall()]
        return superusers_measurement(superusers, names, known)

    return [ask(checksums, pages), ask(catalogs, agreement), ask(superusers, roles)]


def _tables(
    connection: Any, target: Target, server: PostgresServer, tools: PostgresTools
) -> Measurement:
    """pg_amcheck, where the database has the extension that it needs, which nothing here makes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_catalog.pg_extension WHERE extname = 'amcheck'")
        if cursor.fetchone() is None:
            return Measurement(
                target,
                status=SKIPPED,
                message="the database has no extension amcheck; the catalogs were looked at",
                hint="CREATE EXTENSION amcheck",
            )
    argv = ["pg_amcheck", "--database", server.database, "--no-strict-names"]
    try:
        tools.run(argv, _TABLES_SECONDS)
    except ToolError as error:
        return Measurement(target, error.text, error.text, CRITICAL)
    except EngineError as error:
        if "not found" in str(error) or "no such file" in str(error).lower():
            return Measurement(target, status=SKIPPED, message="the image has no pg_amcheck")
        return Measurement(target, status=UNKNOWN, message=str(error))
    return Measurement(target, None, "pg_amcheck found nothing", OK)
