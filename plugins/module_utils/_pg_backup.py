# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a dump of a database is made with: compression, sessions, pg_dump's and pg_dumpall's
arguments (https://www.postgresql.org/docs/current/app-pgdump.html)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._database_contents import row_count

AUTO = "auto"
ZSTD = "zstd"
GZIP = "gzip"
NONE = "none"
COMPRESSIONS = (AUTO, ZSTD, GZIP, NONE)

DUMP = "dump"
GLOBALS = "globals.sql"

#: pg_dump names a method since 16; before that it has gzip alone, and takes a level.
METHODS_SINCE = 16
_LEVELS = {ZSTD: range(1, 23), GZIP: range(1, 10)}
#: zstd's own default, and the level of gzip that does not make the dump wait for it.
_DEFAULT_LEVELS = {ZSTD: 3, GZIP: 1}
#: More sessions would take too much of a server that is serving meanwhile.
_MOST_JOBS = 4
LOCK_WAIT_SECONDS = 60


@dataclass(frozen=True)
class Compression:
    """``method`` is zstd, gzip or none; ``level`` is 0 for none."""

    method: str
    level: int = 0

    def __str__(self) -> str:
        return f"{self.method}:{self.level}" if self.level else self.method

    def argument(self, pg_dump_major: int) -> str:
        if pg_dump_major >= METHODS_SINCE:
            return f"--compress={self}"
        return f"--compress={self.level}"


def compressions(method: str, level: Optional[int], pg_dump_major: int) -> list[Compression]:
    """What to try, in that order: a pg_dump may have been built without zstd.

    Raises L{BackupError} for what it cannot do.
    """
    if method not in COMPRESSIONS:
        expected = ", ".join(COMPRESSIONS)
        raise BackupError(f"compression: seen {method!r}, expected one of {expected}")
    if method == AUTO:
        methods = [ZSTD, GZIP] if pg_dump_major >= METHODS_SINCE else [GZIP]
    else:
        methods = [method]
    if methods == [ZSTD] and pg_dump_major < METHODS_SINCE:
        raise BackupError(
            f"compression: seen {ZSTD} with PostgreSQL {pg_dump_major}, expected {GZIP}: pg_dump "
            f"has {ZSTD} since {METHODS_SINCE}",
            f"postgres_backup_compression: {AUTO}",
        )
    levels = _LEVELS.get(methods[0])
    if level is not None and (levels is None or level not in levels):
        seen = f"compression_level: seen {level} with {methods[0]}"
        if levels is None:
            raise BackupError(f"{seen}, expected none")
        raise BackupError(f"{seen}, expected {levels.start} to {levels.stop - 1}")
    found = []
    for one in methods:
        chosen = level if level is not None and level in _LEVELS.get(one, ()) else None
        found.append(Compression(one, chosen or _DEFAULT_LEVELS.get(one, 0)))
    return found


def lacks_method(text: str) -> bool:
    """Whether pg_dump said that it was built without a compression method."""
    return "does not support compression" in text or "unrecognized compression" in text


def sessions(jobs: int, cpus: Optional[int]) -> int:
    """How many sessions dump, and how many sum up; ``jobs`` of 0 is one a CPU."""
    return jobs or max(1, min(_MOST_JOBS, cpus or 1))


def dump_arguments(
    *, dbname: str, file: str, snapshot: str, jobs: int, compression: Compression, major: int
) -> list[str]:
    """Synced is what it wrote when the backup is published, so it need not do that itself."""
    return [
        "pg_dump",
        "--format=directory",
        f"--file={file}",
        f"--jobs={jobs}",
        f"--snapshot={snapshot}",
        compression.argument(major),
        "--no-sync",
        f"--lock-wait-timeout={LOCK_WAIT_SECONDS}s",
        f"--dbname={dbname}",
    ]


def globals_arguments(*, dbname: str, file: str, is_superuser: bool) -> list[str]:
    """Only a superuser may read the roles' passwords."""
    argv = ["pg_dumpall", "--globals-only", f"--file={file}", f"--database={dbname}", "--no-sync"]
    return argv if is_superuser else [*argv, "--no-role-passwords"]


def failure_hint(text: str, backup_dir: str) -> str:
    """What to run next, by what a program said of its end."""
    said = text.lower()
    if "no space left" in said or "quota" in said:
        return f"free some space, or move pynomaly_backup_dir: df -h {backup_dir}"
    if "permission denied" in said or "must be owner" in said or "row-level security" in said:
        return (
            "name a role that may read everything, a superuser at best: "
            "pynomaly_check_postgres_user and pynomaly_check_postgres_password"
        )
    if "max_locks_per_transaction" in said or "out of shared memory" in said:
        return (
            "pg_dump locks all tables at once: raise max_locks_per_transaction, which takes a "
            "restart of PostgreSQL"
        )
    if "lock timeout" in said or "lock-wait-timeout" in said or "could not obtain lock" in said:
        return (
            "something changes the schema now: ansible-playbook pynomaly.ops.backup once it ended"
        )
    return "ansible-playbook pynomaly.ops.daily_check, then ansible-playbook pynomaly.ops.backup"


def summary(content: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest's ``content`` in figures, without its list of tables."""
    return {
        "database": content["database"]["name"],
        "database_size_bytes": content["database"]["size_bytes"],
        "tables": len(content["tables"]),
        "rows": row_count(content),
        "sequences": len(content["sequences"]),
        "large_objects": content["large_objects"]["count"],
        "extensions": sorted(content["extensions"]),
        "roles": list(content["roles"]),
        "snapshot_at": content["snapshot_at"],
        "compression": content["compression"],
        "jobs": content["jobs"],
        "dump_seconds": content["dump_seconds"],
        "checksum_seconds": content["checksum_seconds"],
    }


def lines(problems: Sequence[str], most: int = 3) -> str:
    """The first few of many problems."""
    more = len(problems) - most
    return "; ".join(problems[:most]) + (f"; and {more} more" if more > 0 else "")
