# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What PostgreSQL and Redis say of who is there and who may come in, asked over the network in
sessions that cannot write. Passwords and their hashes are not asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Union

from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_bundle import Files
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_sources import (
    Scene,
    SkipSource,
    Source,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    connect,
    find_server,
    load_psycopg2,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.redis import session
from ansible_collections.pynomaly.ops.plugins.module_utils._endpoints import first_running
from ansible_collections.pynomaly.ops.plugins.module_utils._evidence import role_change_limits
from ansible_collections.pynomaly.ops.plugins.module_utils._redis import ErrorReply, Reply

_STATEMENT_SECONDS = 8.0
_ACTIVITY = """
SELECT pid, datname, usename, application_name, host(client_addr) AS client_address, client_port,
       backend_type, backend_start, xact_start, query_start, state_change, wait_event_type,
       wait_event, state, left(query, 4096) AS query
  FROM pg_catalog.pg_stat_activity ORDER BY backend_start
"""

#: Each is asked for itself, so that one which a role may not ask takes none of the others with it.
_ROLES: Mapping[str, str] = {
    "roles": """
SELECT oid, rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication,
       rolbypassrls, rolconnlimit, rolvaliduntil
  FROM pg_catalog.pg_roles ORDER BY oid""",
    "memberships": """
SELECT pg_catalog.pg_get_userbyid(roleid) AS role, pg_catalog.pg_get_userbyid(member) AS member,
       pg_catalog.pg_get_userbyid(grantor) AS grantor, admin_option
  FROM pg_catalog.pg_auth_members ORDER BY 1, 2""",
    "membership_row_ages": """
SELECT pg_catalog.pg_get_userbyid(roleid) AS role, pg_catalog.pg_get_userbyid(member) AS member,
       xmin::text, age(xmin) AS age_transactions
  FROM pg_catalog.pg_auth_members ORDER BY age(xmin)""",
    "databases": """
SELECT datname, pg_catalog.pg_get_userbyid(datdba) AS owner, datallowconn, datconnlimit,
       datacl::text[]
  FROM pg_catalog.pg_database ORDER BY datname""",
    "extensions": "SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY extname",
    "untrusted_functions": """
SELECT n.nspname, p.proname, l.lanname, pg_catalog.pg_get_userbyid(p.proowner) AS owner
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE NOT l.lanpltrusted AND l.lanname <> 'internal' AND n.nspname <> 'pg_catalog'
 ORDER BY 1, 2 LIMIT 1000""",
    "host_based_authentication": """
SELECT line_number, type, database, user_name, address, netmask, auth_method, error
  FROM pg_catalog.pg_hba_file_rules ORDER BY line_number""",
    "settings": """
SELECT name, setting, source, pending_restart FROM pg_catalog.pg_settings
 WHERE name IN ('log_statement', 'log_connections', 'log_disconnections', 'log_min_messages',
       'log_min_duration_statement', 'logging_collector', 'log_destination', 'log_directory',
       'password_encryption', 'track_commit_timestamp', 'listen_addresses', 'port', 'ssl',
       'shared_preload_libraries', 'session_preload_libraries', 'local_preload_libraries',
       'server_version', 'data_directory', 'hba_file', 'config_file', 'row_security')
 ORDER BY name""",
}
#: pg_authid is for superusers. Of its columns the password's alone is a secret, and is not asked.
_ROLE_AGES = """
SELECT rolname, xmin::text, age(xmin) AS age_transactions, {commit} AS changed_at
  FROM pg_catalog.pg_authid ORDER BY age(xmin)
"""

Answer = Union[list[dict[str, Any]], dict[str, str]]

_REDIS_TEXTS: Sequence[tuple[str, Sequence[str]]] = (
    ("clients.txt", ("CLIENT", "LIST")),
    ("acl.txt", ("ACL", "LIST")),
    ("acl_log.txt", ("ACL", "LOG", "128")),
    ("info.txt", ("INFO", "everything")),
)
#: Settings that an attacker changes, and that hold no secret.
_REDIS_SETTINGS = (
    *("protected-mode", "bind", "port", "dir", "dbfilename", "appendonly", "save"),
    *("maxclients", "enable-module-command", "enable-debug-command", "aclfile"),
)


def database_sources(scene: Scene) -> list[Source]:
    """Of the project's PostgreSQL and Redis."""
    return [
        Source("postgres/activity", "SELECT … FROM pg_stat_activity", partial(_activity, scene)),
        Source("redis/clients", "CLIENT LIST; ACL LIST; ACL LOG; INFO", partial(_redis, scene)),
        Source(
            "postgres/roles",
            "SELECT … FROM pg_roles, pg_auth_members, pg_authid (no passwords), pg_settings",
            partial(_roles, scene),
            is_quick=False,
        ),
    ]


def _session(scene: Scene) -> Any:
    if not scene.stack.component("postgres"):
        raise SkipSource("the project has no PostgreSQL")
    server = find_server(scene.stack, scene.engine, scene.settings)
    return connect(
        server,
        statement_timeout_seconds=_STATEMENT_SECONDS,
        options={"default_transaction_read_only": "on"},
    )


def _activity(scene: Scene, files: Files, _seconds: float) -> None:
    with contextlib.closing(_session(scene)) as connection:
        files.document("postgres/activity.json", _rows(connection, _ACTIVITY))


def _roles(scene: Scene, files: Files, _seconds: float) -> None:
    with contextlib.closing(_session(scene)) as connection:
        answers: dict[str, Answer] = {name: _asked(connection, sql) for name, sql in _ROLES.items()}
        listed = answers["settings"]
        settings = (
            {one["name"]: one["setting"] for one in listed} if isinstance(listed, list) else {}
        )
        timed = settings.get("track_commit_timestamp") == "on"
        commit = "pg_catalog.pg_xact_commit_timestamp(xmin)" if timed else "NULL::timestamptz"
        ages = _asked(connection, _ROLE_AGES.format(commit=commit))
    files.document("postgres/roles.json", answers)
    files.document(
        "postgres/role_changes.json",
        {
            "what_cannot_be_known": role_change_limits(settings, isinstance(ages, list)),
            "statements_in_the_log": "postgres/role_changes.NUMBER.log, where there are any",
            "role_row_ages": ages,
            "membership_row_ages": answers["membership_row_ages"],
        },
    )


def _asked(connection: Any, sql: str) -> Answer:
    """The rows, or why there are none."""
    try:
        return _rows(connection, sql)
    except load_psycopg2().Error as error:
        return {"error": " ".join(str(error).split())}


def _rows(connection: Any, sql: str) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]


def _redis(scene: Scene, files: Files, seconds: float) -> None:
    containers = scene.stack.component("redis")
    if not containers:
        raise SkipSource("the project has no Redis")
    server = first_running(containers)
    if server is None:
        raise SkipSource(f"{containers[0].name} is {containers[0].state}")
    deadline = Deadline(min(seconds * 0.9, 15.0))
    refused = []
    with session(scene.stack, scene.settings, scene.engine, server, deadline) as connection:
        for name, words in _REDIS_TEXTS:
            reply = connection.ask(*words)
            if isinstance(reply, ErrorReply):
                refused.append(f"{' '.join(words)}: {reply.text}")
            else:
                files.text(f"redis/{name}", _ended(reply_text(reply)))
        settings = {}
        for setting in _REDIS_SETTINGS:
            reply = connection.ask("CONFIG", "GET", setting)
            settings[setting] = reply_text(reply).split("\n")[1:]
        files.document("redis/settings.json", settings)
    for reason in refused:
        files.sinks[-1].cut(f"the server refuses {reason}")


def _ended(text: str) -> str:
    return text.rstrip("\n") + "\n"


def reply_text(reply: Reply) -> str:
    """A reply as lines, the inner ones of lists as well."""
    if isinstance(reply, list):
        return "\n".join(reply_text(one) for one in reply)
    if isinstance(reply, ErrorReply):
        return f"({reply.text})"
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "replace").replace("\r\n", "\n")
    return "" if reply is None else str(reply)
