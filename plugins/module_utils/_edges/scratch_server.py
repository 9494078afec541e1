# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A PostgreSQL server that is thrown away: made to restore a backup into, and for nothing else.

It is a helper container of the server's own image, on no network: its socket is in a folder of
root's on the host, and PostgreSQL's programs reach it from a container that shares its loopback.
The container ends by itself when its time is over, also where nobody comes back to remove it.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import DatabaseCredentials
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.helper_container import (
    Helper,
    HelperMount,
    started,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.postgres_server import (
    PostgresError,
    PostgresServer,
    connect,
)

#: Nobody's role in any dump, so that a dump's own roles can all be made.
ADMINISTRATOR = "pynomaly_scratch"
_DATA = "/tmp/pynomaly-scratch"  # noqa: S108  # inside a container of its own
_SOCKET = "/pynomaly-socket"
_PORT = 5432
_CALL_SECONDS = 120.0
#: It is thrown away: nothing has to survive a crash.
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": _SOCKET,
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "128MB",
    # A restore of ten thousand tables, and the look at them, lock no more than this.
    "max_locks_per_transaction": "1024",
    "logging_collector": "off",
    "archive_mode": "off",
}


@contextlib.contextmanager
def scratch_server(
    engine: EngineControl, image_id: str, project: str, timeout_seconds: float
) -> Iterator[PostgresServer]:
    """A running server of the image's version with one superuser, L{ADMINISTRATOR}.

    It is gone after the block, its data with it. Raises L{PostgresError} and C{EngineError}.
    """
    with tempfile.TemporaryDirectory(prefix="pynomaly-ops-socket-", dir="/run") as folder:
        # The folder around it is root's alone; the server's user, whoever that is, writes inside.
        socket_folder = Path(folder) / "socket"
        socket_folder.mkdir()
        socket_folder.chmod(0o777)
        helper = Helper(
            image=image_id,
            project=project,
            mounts=[HelperMount(str(socket_folder), _SOCKET, read_only=False)],
            user="postgres",
        )
        lifetime = ["sleep", str(round(timeout_seconds) + 60)]
        with started(engine, helper, lifetime) as identifier:
            _initialize(engine, identifier)
            yield _server(identifier, image_id, str(socket_folder))


def _initialize(engine: EngineControl, identifier: str) -> None:
    _run(
        engine,
        identifier,
        [
            *("initdb", "--pgdata", _DATA, "--username", ADMINISTRATOR, "--auth", "trust"),
            *("--no-sync", "--encoding", "UTF8", "--locale", "C"),
        ],
    )
    options = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
    _run(
        engine,
        identifier,
        [
            *("pg_ctl", "--pgdata", _DATA, "--wait", "--timeout", "60"),
            *("--log", f"{_DATA}/server.log", "--options", options, "start"),
        ],
    )


def _run(engine: EngineControl, identifier: str, argv: list[str]) -> None:
    exit_code, output = engine.run(identifier, argv, _CALL_SECONDS, user="postgres")
    if exit_code != 0:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        raise PostgresError(
            f"the throw-away server could not be made: {argv[0]} ended with exit code "
            f"{exit_code}: {'; '.join(lines[-3:])}",
            "df -h; free -m",
        )


def _server(identifier: str, image_id: str, socket_folder: str) -> PostgresServer:
    server = PostgresServer(
        container=Container(
            id=identifier,
            name=f"scratch-{secrets.token_hex(4)}",
            service="",
            number=1,
            state="running",
            image=image_id,
            image_id=image_id,
        ),
        address=(socket_folder, _PORT),
        inner_port=_PORT,
        login=DatabaseCredentials(user=ADMINISTRATOR, database="postgres"),
        database="postgres",
        version="",
        version_number=0,
        is_superuser=True,
    )
    deadline = time.monotonic() + 10.0
    while True:
        try:
            connection = connect(server)
            break
        except PostgresError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version')")
        (version,) = cursor.fetchone()
        number = int(connection.server_version)
    values = {**vars(server), "version": str(version), "version_number": number}
    return PostgresServer(**values)
