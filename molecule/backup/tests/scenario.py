# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of backups share: what is on the servers, and how it is looked at."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Ran, Server

DATABASE = "pynomaly_prod"
JOURNAL = "/var/lib/pynomaly-ops/journal.jsonl"
PAGE = "/opt/pynomaly/config/nginx/server.d/pynomaly-maintenance.conf"
CONTAINERS = (
    "docker inspect --format '{{.Id}} {{.State.StartedAt}} {{.RestartCount}} {{.Name}}' "
    "$(docker ps --all --quiet) | sort"
)
#: Everything that a playbook may not touch where it only reads, or refuses.
FINGERPRINTS = (
    CONTAINERS,
    "find /backups /opt /srv /etc /root /var/lib/pynomaly-ops -xdev -not -path '/root/.ansible*' "
    "-printf '%p %m %s %T@\\n' 2>/dev/null | sort",
    "docker volume ls --quiet | sort",
)


# The servers


def fingerprint(server: Server) -> set[str]:
    """Containers, files, databases and rows; two of them differ by what has changed."""
    found = {line for command in FINGERPRINTS for line in server.run(command).splitlines()}
    return (
        found
        | {f"database {name} {open_}" for name, open_ in databases(server).items()}
        | {f"rows {orders(server)}"}
    )


def containers(server: Server) -> list[str]:
    """Every container with when it was started: none may be another one after a restore."""
    return server.run(CONTAINERS).splitlines()


def databases(server: Server, container: str = "pynomaly-postgres-1") -> dict[str, bool]:
    """Each database, and whether anybody may come in."""
    found = query(server, "SELECT datname, datallowconn FROM pg_database", container=container)
    return {name: open_ == "t" for name, open_ in (line.split("|") for line in found.splitlines())}


def query(
    server: Server,
    statement: str,
    database: str = DATABASE,
    container: str = "pynomaly-postgres-1",
) -> str:
    psql = f"psql -X -q -At -v ON_ERROR_STOP=1 -U pynomaly -d {database}"
    return server.run(f"docker exec {container} {psql} -c %s", statement)


def orders(
    server: Server,
    database: str = DATABASE,
    schema: str = "shop",
    container: str = "pynomaly-postgres-1",
) -> str:
    """How many orders there are, and a sum over all that is in them."""
    return query(
        server,
        f"SELECT count(*), sum(hashtextextended(o::text, 0)) FROM {schema}.orders o",
        database,
        container,
    )


def new_orders(server: Server, rows: int, container: str = "pynomaly-postgres-1") -> None:
    """A table of our own in the application's database, with so many rows of 200 bytes."""
    query(
        server,
        "DROP SCHEMA IF EXISTS shop CASCADE; CREATE SCHEMA shop; "
        "CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "note text NOT NULL); INSERT INTO shop.orders (note) "
        f"SELECT repeat(md5(n::text), 6) FROM generate_series(1, {rows}) AS n",
        container=container,
    )


def order(server: Server, note: str, container: str = "pynomaly-postgres-1") -> None:
    query(server, f"INSERT INTO shop.orders (note) VALUES ('{note}')", container=container)


def address(server: Server) -> str:
    """Its address on the lab's network."""
    (found,) = re.findall(r"inet ([0-9.]+)/", server.run("ip -4 -o address show dev eth0"))
    return str(found)


def now(server: Server) -> str:
    """The server's time, as C{before=TIME} takes it, in a second of its own."""
    return server.run("sleep 1.1; date -u +%Y-%m-%dT%H:%M:%SZ; sleep 1.1")


# Backups


def ids(server: Server, kind: str = "database") -> list[str]:
    """The backups of a kind, the newest first."""
    return sorted(server.run(f"ls /backups/{kind} 2>/dev/null || true").split(), reverse=True)


def manifest(server: Server, identifier: str, kind: str = "database") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        server.run(f"cat /backups/{kind}/{identifier}/manifest.json")
    )
    return found


def verification(server: Server, identifier: str) -> dict[str, Any]:
    path = f"/backups/database/{identifier}/verification.json"
    found: dict[str, Any] = json.loads(server.run(f"cat {path}"))
    return found


def whole_files(server: Server, folder: str) -> list[str]:
    """The files of a backup, once C{sha256sum} has found each as the manifest says."""
    server.run(f"cd {folder} && sha256sum --check --strict --quiet manifest.sha256")
    files = json.loads(server.run(f"cat {folder}/manifest.json"))["files"]
    assert files
    for one in files:
        path = shlex.quote(f"{folder}/{one['path']}")
        assert server.run(f"sha256sum {path}").split()[0] == one["sha256"], one["path"]
        assert int(server.run(f"stat --format %s {path}")) == one["size_bytes"], one["path"]
    return sorted(one["path"] for one in files)


# The journal


def journal(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.run(f"cat {JOURNAL}").splitlines()]


def open_states(server: Server) -> list[str]:
    """The temporary states that nobody has closed."""
    found = set()
    for record in journal(server):
        if record["event"] == "temporary_opened":
            found.add(record["temporary_state"])
        elif record["event"] == "temporary_closed":
            found.discard(record["temporary_state"])
    return sorted(found)


def said(ran: Ran) -> str:
    """What was printed, without the quotes and breaks of Ansible's own making."""
    return " ".join(ran.output.replace('\\"', '"').split())


# Who listens

# Reads every process's arguments over and over, those of containers too, until it is told to stop.
_LISTENER = """
import glob, json, signal, time
commands, rounds, stopped = set(), 0, []
signal.signal(signal.SIGTERM, lambda *_arguments: stopped.append(1))
deadline = time.monotonic() + 300
while not stopped and time.monotonic() < deadline:
    rounds += 1
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                commands.add(file.read().replace(bytes(1), b" ").decode("utf-8", "replace"))
        except OSError:
            pass
    time.sleep(0.02)
with open("/run/lab-listener.json", "w") as file:
    json.dump({"rounds": rounds, "commands": sorted(commands)}, file)
"""


@contextmanager
def listening(server: Server) -> Iterator[list[str]]:
    """Every command line that the server's processes have meanwhile, once the block has ended."""
    heard: list[str] = []
    server.write("/run/lab-listener.py", _LISTENER)
    server.run("rm -f /run/lab-listener.json")
    start = "setsid python3 /run/lab-listener.py </dev/null >/dev/null 2>&1 & echo $!"
    listener = server.run(start)
    try:
        yield heard
    finally:
        server.run(f"kill -TERM {listener}")
        server.wait_until(
            "the listener has ended", lambda: "lab-listener.json" in server.run("ls /run"), 30
        )
    found = json.loads(server.run("cat /run/lab-listener.json"))
    assert found["rounds"] > 20
    heard += found["commands"]


# Who uses the API


@dataclass
class Load:
    """Clients that ask nginx for what needs the database, and how often they were not served."""

    address: str
    clients: int = 3
    asked: int = 0
    failed: int = 0
    statuses: set[int] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _answers: list[tuple[float, float, bool]] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Load]:
        threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(self.clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(20)

    def _ask(self) -> None:
        end = time.monotonic() + 300
        while not self._stop.is_set() and time.monotonic() < end:
            began = time.monotonic()
            status = self._status()
            with self._lock:
                self.asked += 1
                self.failed += status != 200
                self.statuses.add(status)
                self._answers.append((began, time.monotonic(), status == 200))
            self._stop.wait(0.03)

    def _status(self) -> int:
        """0 where there was no answer."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(self.address, timeout=5, context=context)
        try:
            connection.request("GET", "/api/v1/detections?limit=1")
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()
        return answer.status

    @property
    def seconds_without_service(self) -> float:
        """From when the first request that failed was begun to when one begun later was served."""
        total, since = 0.0, None
        for began, ended, served in sorted(self._answers, key=lambda one: one[1]):
            if not served and since is None:
                since = began
            elif served and since is not None and began >= since:
                total, since = total + ended - since, None
        assert since is None, "the API does not serve any more"
        return total
