# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a restore costs those who use the API: ours beside the runbook's, on the same data.

A few clients ask through nginx for something that needs the database, bounded in number and time,
while the database is restored. Counted are the requests that failed, and the seconds between the
first that failed and the next that was served.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab import nodes
from lab.shell import LabError, run, say, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NODE = "node1"
PROJECT = "pynomaly"
DATABASE = "pynomaly_prod"
USER = "pynomaly"
#: The restored database is at least so large.
SIZE_MIB = 1024
AIM = 20.0

_HTTPS_PORT = 443
_CLIENTS = 4
_PAUSE_SECONDS = 0.04
_REQUEST_SECONDS = 5.0
_LOAD_MAX_SECONDS = 900.0
_COMMAND_SECONDS = 900.0
_ROW_BYTES = 260
_PLAIN_DUMP = "/backups/database/latest_backup.sql"

_ROWS = SIZE_MIB * 1024 * 1024 // _ROW_BYTES
_FILL = (
    "CREATE TABLE IF NOT EXISTS restore_bench AS "
    "SELECT n AS id, repeat(md5(n::text), 6) AS payload, now() AS created_at "
    "FROM generate_series(1, %d) AS n"
)


@dataclass
class Load:
    """Clients that ask until they are stopped, and what came of each request."""

    address: str
    outcomes: list[tuple[float, float, bool]] = field(default_factory=list)
    """Begun and ended, in seconds of the monotonic clock, and whether it was served."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        for _ in range(_CLIENTS):
            thread = threading.Thread(target=self._ask, daemon=True)
            thread.start()
            self._threads.append(thread)
        wait_until(
            lambda: any(served for _began, _ended, served in list(self.outcomes)),
            what="the API",
            deadline_seconds=60,
        )
        self.outcomes.clear()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_REQUEST_SECONDS * 2)

    def _ask(self) -> None:
        end = time.monotonic() + _LOAD_MAX_SECONDS
        while not self._stop.is_set() and time.monotonic() < end:
            began = time.monotonic()
            served = self._one()
            self.outcomes.append((began, time.monotonic(), served))
            self._stop.wait(_PAUSE_SECONDS)

    def _one(self) -> bool:
        connection = http.client.HTTPSConnection(
            self.address, _HTTPS_PORT, timeout=_REQUEST_SECONDS, context=_self_signed()
        )
        try:
            connection.request("GET", "/api/v1/detections?limit=1")
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return answer.status == 200

    @property
    def failed(self) -> int:
        return sum(not served for _began, _ended, served in self.outcomes)

    @property
    def seconds_without_service(self) -> float:
        """The sum of all stretches in which nothing was served, each from when the first request
        that failed was begun until the next one that was served had ended."""
        total, since = 0.0, None
        for began, ended, served in sorted(self.outcomes, key=lambda one: one[1]):
            if not served and since is None:
                since = began
            elif served and since is not None and began >= since:
                total += ended - since
                since = None
        if since is not None:
            raise LabError("the API did not serve again after the restore")
        return total


def benchmark(playbook: Callable[..., None]) -> bool:
    """Measure both ways and say so; returns whether the aim is met.

    ``playbook`` runs one of the collection's playbooks, by name and arguments. The stack runs.
    """
    address = next(node.address for node in nodes.existing() if node.name == NODE)
    _psql(_FILL % _ROWS)
    _psql("ANALYZE restore_bench")
    size_mib = int(_psql(f"SELECT pg_database_size('{DATABASE}') / 1048576"))
    playbook("backup", "-e", json.dumps({"pynomaly_backup_kinds": ["database"]}))
    rows = _psql("SELECT count(*) FROM restore_bench")

    with Load(address) as ours:
        began = time.monotonic()
        playbook("restore", "-e", f"confirm=restore:{PROJECT}", "-e", "pynomaly_backup=latest")
        ours_seconds = time.monotonic() - began
    if _psql("SELECT count(*) FROM restore_bench") != rows:
        raise LabError("the restored database has other rows")

    dump = _exec(f"pg_dump -U {USER} --clean --if-exists {DATABASE}")
    _shell(f"mkdir -p /backups/database && {dump} > {_PLAIN_DUMP}")
    with Load(address) as theirs:
        began = time.monotonic()
        _shell(f"docker compose -p {PROJECT} stop pynomaly-api")
        _shell(f"{_exec(f'psql -q -U {USER} -d {DATABASE}')} < {_PLAIN_DUMP} > /dev/null")
        _shell(f"docker compose -p {PROJECT} start pynomaly-api")
        theirs_seconds = time.monotonic() - began
        wait_until(lambda: theirs.outcomes[-1][2], what="the API", deadline_seconds=120)
    _shell(f"rm -f {_PLAIN_DUMP}")
    _psql("DROP TABLE restore_bench")

    say(f"\nrestore of {size_mib} MiB while {_CLIENTS} clients ask the API through nginx")
    for name, load, seconds in (
        ("pynomaly.ops.restore", ours, ours_seconds),
        ("the runbook's psql < backup", theirs, theirs_seconds),
    ):
        say(
            f"  {name:30}{load.seconds_without_service:8.2f} s without service, "
            f"{load.failed:5} of {len(load.outcomes):6} requests failed, {seconds:7.1f} s in all"
        )
    ratio = theirs.seconds_without_service / max(ours.seconds_without_service, 0.001)
    say(f"  the runbook's to ours: {ratio:.0f}×   (aim: at least {AIM:.0f}×)")
    return ratio >= AIM


def _self_signed() -> ssl.SSLContext:
    """The lab's certificate is its own authority."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _exec(command: str) -> str:
    return f"docker compose -p {PROJECT} exec -T postgres {command}"


def _psql(statement: str) -> str:
    words = ["docker", "exec", f"{PROJECT}-postgres-1", "psql", "-qAtX", "-U", USER, "-d", DATABASE]
    return _remote([*words, "-c", statement]).strip()


def _shell(command: str) -> str:
    return _remote(["bash", "-c", f"set -o pipefail; {command}"])


def _remote(words: Sequence[str]) -> str:
    completed = run(
        [*nodes.ssh_command(NODE), *nodes.as_remote_command(words)],
        timeout_seconds=_COMMAND_SECONDS,
    )
    return completed.stdout
