# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings of PostgreSQL against the memory that it can have, and how WAL drives checkpoints.

Sizes are bytes. The rules name their sources; where a rule of thumb has none, it is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance_catalogue import SETTINGS
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    OK,
    SKIPPED,
    WARNING,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    format_bytes,
    format_seconds,
)

_UNITS: Mapping[str, float] = {
    "": 1,
    "B": 1,
    "kB": 1024,
    "8kB": 8192,
    "16kB": 16384,
    "32kB": 32768,
    "MB": 1024**2,
    "16MB": 16 * 1024**2,
    "GB": 1024**3,
    "ms": 0.001,
    "s": 1,
    "min": 60,
}

#: "a reasonable starting value for shared_buffers is 25% of the memory"; "unlikely that an
#: allocation of more than 40% will work better": PostgreSQL documentation, Resource Consumption.
SHARED_BUFFERS_MOST = 0.40
SHARED_BUFFERS_LEAST = 0.10
EFFECTIVE_CACHE_LEAST = 0.25
#: Measured: an idle connection of 13 and later has less than this of its own.
#: https://techcommunity.microsoft.com/blog/adforpostgresql/measuring-the-memory-overhead-of-a-postgres-connection/1744081
CONNECTION_BYTES = 2 * 1024**2
CONNECTIONS_MOST = 0.25
#: 14 made 0.9 the default, and the documentation advises against less.
COMPLETION_TARGET = 0.9
CHECKPOINT_TIMEOUT_SECONDS = 300
#: Fewer checkpoints than this say nothing.
CHECKPOINTS_LEAST = 10

#: The roles' variables for them, where C{deploy} wrote the server's command.
_VARIABLES: Mapping[str, str] = {
    "max_connections": "postgres_max_connections",
    "shared_buffers": "postgres_shared_buffers_mib",
    "effective_cache_size": "postgres_effective_cache_size_mib",
    "work_mem": "postgres_work_mem_mib",
    "maintenance_work_mem": "postgres_maintenance_work_mem_mib",
}
_NEED_RESTART = ("max_connections", "shared_buffers", "shared_preload_libraries")


@dataclass(frozen=True)
class Memory:
    """What the server can have: the container's limit, else the host's memory."""

    host_bytes: int
    container_bytes: int = 0

    @property
    def bytes(self) -> int:
        if self.container_bytes:
            return min(self.container_bytes, self.host_bytes or self.container_bytes)
        return self.host_bytes

    @property
    def text(self) -> str:
        limited = self.container_bytes and self.bytes == self.container_bytes
        return f"{format_bytes(self.bytes)} {'of the container' if limited else 'of the host'}"


@dataclass(frozen=True)
class Setting:
    name: str
    value: float
    text: str
    source: str


def parse_settings(rows: Sequence[Mapping[str, Any]]) -> dict[str, Setting]:
    """The answer to C{_pg_maintenance_sql.SETTINGS}, in bytes and seconds."""
    found = {}
    for row in rows:
        try:
            value = float(row["setting"]) * _UNITS.get(str(row["unit"]), 1)
        except ValueError:
            value = 1.0 if row["setting"] == "on" else 0.0
        found[str(row["name"])] = Setting(
            str(row["name"]), value, str(row["setting"]), str(row["source"])
        )
    return found


def change_hint(setting: Setting, wanted: str) -> str:
    """How to change a setting where it is set. What the command line says beats ALTER SYSTEM."""
    name = setting.name
    if setting.source == "command line":
        variable = _VARIABLES.get(name, "postgres_settings")
        return (
            f"set {name} to {wanted} in the service's command in the Compose file, then recreate "
            f"it; where deploy wrote it: {variable}, then ansible-playbook pynomaly.ops.deploy"
        )
    then = "docker compose restart SERVICE" if name in _NEED_RESTART else "SELECT pg_reload_conf()"
    return f"ALTER SYSTEM SET {name} = '{wanted}'; then {then}"


def _mib(size_bytes: float) -> str:
    return f"{max(1, int(size_bytes // 1024**2))}MB"


@dataclass(frozen=True)
class _Facts:
    """What the rules look at."""

    settings: Mapping[str, Setting]
    memory: Memory
    database_bytes: int

    def value(self, name: str) -> float:
        return self.settings[name].value

    def share(self, size_bytes: float) -> str:
        percent = 100 * size_bytes / self.memory.bytes
        return f"{format_bytes(size_bytes)}, {percent:.0f} % of {self.memory.text}"


#: What a rule says, and the value that it would rather have; empty where all is well.
_Verdict = tuple[str, str]


def _shared_buffers(facts: _Facts) -> _Verdict:
    have, shared = facts.memory.bytes, facts.value("shared_buffers")
    share = facts.share(shared)
    if shared > SHARED_BUFFERS_MOST * have:
        return f"{share}, expected 40 % at most", _mib(have / 4)
    if shared < SHARED_BUFFERS_LEAST * have and facts.database_bytes > shared:
        size = format_bytes(facts.database_bytes)
        return f"{share}, expected about 25 %: the database has {size}", _mib(have / 4)
    return share, ""


def _effective_cache_size(facts: _Facts) -> _Verdict:
    have, cache = facts.memory.bytes, facts.value("effective_cache_size")
    share = facts.share(cache)
    if cache > have:
        return f"{share}: more than there is", _mib(have * 0.75)
    if cache < facts.value("shared_buffers") or cache < EFFECTIVE_CACHE_LEAST * have:
        return f"{share}, expected no less than shared_buffers, and about 75 %", _mib(have * 0.75)
    return share, ""


def _work_mem(facts: _Facts) -> _Verdict:
    have, shared = facts.memory.bytes, facts.value("shared_buffers")
    connections, work = facts.value("max_connections"), facts.value("work_mem")
    most = shared + connections * work
    share = (
        f"{format_bytes(work)} for each of {connections:.0f} connections, with shared_buffers "
        f"{format_bytes(most)}, of {facts.memory.text}"
    )
    if most > have:
        fitting = max(64 * 1024.0, (have - shared) / connections)
        return f"{share}: more than there is", f"{int(fitting // 1024)}kB"
    return share, ""


def _maintenance_work_mem(facts: _Facts) -> _Verdict:
    have, shared = facts.memory.bytes, facts.value("shared_buffers")
    workers = facts.value("autovacuum_max_workers")
    maintenance, own = facts.value("maintenance_work_mem"), facts.value("autovacuum_work_mem")
    own = own if own >= 0 else maintenance
    most = shared + maintenance + workers * own
    share = (
        f"{format_bytes(maintenance)}, with {workers:.0f} autovacuum workers of "
        f"{format_bytes(own)} and shared_buffers {format_bytes(most)}, of {facts.memory.text}"
    )
    if most > have:
        fitting = max(1024.0**2, (have - shared) / (2 * (workers + 1)))
        return f"{share}: more than there is", _mib(fitting)
    return share, ""


def _max_connections(facts: _Facts) -> _Verdict:
    have, connections = facts.memory.bytes, facts.value("max_connections")
    most = connections * CONNECTION_BYTES
    share = (
        f"{connections:.0f}, some {format_bytes(most)} when all are used, of {facts.memory.text}"
    )
    if most > CONNECTIONS_MOST * have:
        fitting = max(20.0, CONNECTIONS_MOST * have / CONNECTION_BYTES)
        return (
            f"{share}, expected a quarter at most; a pooler serves more clients",
            f"{int(fitting)}",
        )
    return share, ""


def _checkpoint_completion_target(facts: _Facts) -> _Verdict:
    target = facts.value("checkpoint_completion_target")
    if target < COMPLETION_TARGET:
        return f"{target:g}, expected 0.9: checkpoints write in bursts", "0.9"
    return f"{target:g}", ""


def _checkpoint_timeout(facts: _Facts) -> _Verdict:
    timeout = facts.value("checkpoint_timeout")
    if timeout < CHECKPOINT_TIMEOUT_SECONDS:
        return f"{format_seconds(timeout)}, expected 5 minutes or more", "5min"
    return format_seconds(timeout), ""


def _track_counts(facts: _Facts) -> _Verdict:
    if not facts.value("track_counts"):
        return "off, expected on: nobody counts dead tuples and changes", "on"
    return "on", ""


def _autovacuum(facts: _Facts) -> _Verdict:
    if not facts.value("autovacuum"):
        return "off, expected on: dead tuples stay until somebody vacuums by hand", "on"
    return "on", ""


_RULES: Mapping[str, Callable[[_Facts], _Verdict]] = {
    "shared_buffers": _shared_buffers,
    "effective_cache_size": _effective_cache_size,
    "work_mem": _work_mem,
    "maintenance_work_mem": _maintenance_work_mem,
    "max_connections": _max_connections,
    "checkpoint_completion_target": _checkpoint_completion_target,
    "checkpoint_timeout": _checkpoint_timeout,
    "track_counts": _track_counts,
    "autovacuum": _autovacuum,
}


def settings_measurements(
    service: str, settings: Mapping[str, Setting], memory: Memory, database_bytes: int
) -> list[Measurement]:
    """``weekly_db.settings``, an answer a setting."""
    facts = _Facts(settings, memory, database_bytes)
    found = []
    for name, rule in _RULES.items():
        message, wanted = rule(facts)
        found.append(
            Measurement(
                Target(SETTINGS, service, name),
                settings[name].text,
                message,
                WARNING if wanted else OK,
                change_hint(settings[name], wanted) if wanted else None,
            )
        )
    return found


def checkpoints_measurement(
    service: str, row: Mapping[str, Any], settings: Mapping[str, Setting]
) -> Measurement:
    """``weekly_db.settings`` of max_wal_size: checkpoints that WAL forced, beside timed ones."""
    target = Target(SETTINGS, service, "max_wal_size")
    wal = settings["max_wal_size"]
    timed, requested = int(row["timed"]), int(row["requested"])
    total = timed + requested
    since = ""
    if row["counted_seconds"] is not None:
        since = f" in {format_seconds(max(0.0, float(row['counted_seconds'])))}"
    if total < CHECKPOINTS_LEAST:
        return Measurement(
            target,
            wal.text,
            f"too early to tell: {total} checkpoints{since}, expected {CHECKPOINTS_LEAST} or more",
            SKIPPED,
        )
    message = f"{requested} of {total} checkpoints{since} were asked for before their time"
    if requested > timed:
        return Measurement(
            target,
            wal.text,
            f"{message}: by WAL beyond {format_bytes(wal.value)}, a backup, or a person",
            WARNING,
            change_hint(wal, _mib(wal.value * 2)),
        )
    return Measurement(target, wal.text, message, OK)
