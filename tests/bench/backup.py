# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a backup of the database takes: ours, pg_dump in directory format alone, and the
runbook's ``pg_dump | gzip``, in turns on the same data, each by its best time.

Usage: python3 tests/bench/backup.py [--mebibytes 1024] [--rounds 2], with the collection's path as
for the tests. Starts a PostgreSQL of its own in this machine's engine, and removes it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

IMAGE = "pynomaly-lab/postgres:lab"
DATABASE = "pynomaly_prod"
COMMAND_SECONDS = 900.0
READY_SECONDS = 60.0
JOBS = 2

#: The aims: at least so many times as fast as the runbook, at most so many times pg_dump alone.
RUNBOOK_FACTOR = 3.0
PG_DUMP_FACTOR = 1.5

# Four tables of some size each, as of a service that keeps what it detected.
SCHEMA = """
CREATE TABLE detections_{number} (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, created_at timestamptz NOT NULL,
  model text NOT NULL, score double precision NOT NULL, features jsonb NOT NULL, trace uuid NOT NULL
);
"""
ROWS = """
INSERT INTO detections_{number} (created_at, model, score, features, trace)
SELECT timestamptz '2026-01-01' + n * interval '1.7 s',
       (ARRAY['isolation_forest', 'lof', 'ecod'])[1 + n % 3], random(),
       jsonb_build_object(
         'values', (SELECT jsonb_agg(round(random()::numeric, 4))
                      FROM generate_series(1, 12) WHERE n > 0),
         'source', 'sensor-' || n % 500, 'anomaly', n % 50 = 0),
       gen_random_uuid()
  FROM generate_series(1, {rows}) AS n;
"""
ROW_BYTES = 325
TABLES = 4

RUNNER = """
import json, resource, sys
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import pg_backup
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity
settings = pg_backup.PgBackupSettings(**json.loads(sys.argv[1]))
states = TemporaryStates(
    OperationStore(sys.argv[2]), RunIdentity("bench", "bench", "here"), "backup", settings.project
)
answer = pg_backup.run(settings, states)
answer["memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(answer))
"""


def run(argv: Sequence[str], stdin: str = "") -> str:
    done = subprocess.run(
        list(argv),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(
            f"{argv[0]} {argv[1]} ended with {done.returncode}: {done.stderr[-500:]}"
        )
    return done.stdout


@contextlib.contextmanager
def server(name: str) -> Iterator[None]:
    """A PostgreSQL as Compose would label it."""
    labels = {
        "ops.pynomaly.lab": "true",
        "com.docker.compose.project": name,
        "com.docker.compose.service": "postgres",
        "com.docker.compose.container-number": "1",
        "com.docker.compose.oneoff": "False",
    }
    argv = ["docker", "run", "--detach", "--name", name, "--env", f"POSTGRES_DB={DATABASE}"]
    argv += ["--env", f"POSTGRES_PASSWORD={uuid.uuid4().hex}", "--shm-size", "256m"]
    for label, value in labels.items():
        argv += ["--label", f"{label}={value}"]
    run([*argv, IMAGE, "postgres", "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB"])
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                # Over TCP: the server that the image runs its first scripts with has none.
                run(["docker", "exec", name, "pg_isready", "--host=127.0.0.1"])
                break
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield
    finally:
        run(["docker", "rm", "--force", "--volumes", name])


def psql(name: str, text: str) -> str:
    argv = ["docker", "exec", "--interactive", name, "psql", "--no-psqlrc", "--tuples-only"]
    argv += ["--no-align", "--quiet", "--set=ON_ERROR_STOP=1", "--username=postgres"]
    return run([*argv, f"--dbname={DATABASE}"], text).strip()


def fill(name: str, mebibytes: int) -> int:
    """Returns the database's size in bytes."""
    rows = max(1, mebibytes * 1024 * 1024 // ROW_BYTES // TABLES)
    for number in range(TABLES):
        psql(name, SCHEMA.format(number=number) + ROWS.format(number=number, rows=rows))
    psql(name, "VACUUM ANALYZE; CHECKPOINT;")
    return int(psql(name, "SELECT pg_database_size(current_database())"))


def runbook(name: str, folder: Path) -> None:
    argv = ["docker", "exec", name, "pg_dump", "--username=postgres", DATABASE]
    with (folder / "backup.sql.gz").open("wb") as file:
        dump = subprocess.Popen(argv, stdout=subprocess.PIPE)
        gzip = subprocess.Popen(["gzip"], stdin=dump.stdout, stdout=file)
        if dump.stdout is not None:
            dump.stdout.close()
        if gzip.wait(COMMAND_SECONDS) or dump.wait(COMMAND_SECONDS):
            raise RuntimeError("pg_dump | gzip failed")


def pg_dump(name: str, folder: Path) -> None:
    argv = ["docker", "run", "--rm", "--network", f"container:{name}", "--entrypoint", "pg_dump"]
    argv += [
        "--volume",
        f"{folder}:/backup",
        "--user",
        "0:0",
        IMAGE,
    ]
    argv += ["--host=127.0.0.1", "--username=postgres", "--format=directory", f"--jobs={JOBS}"]
    run([*argv, "--compress=zstd:3", "--file=/backup/dump", f"--dbname={DATABASE}"])


def ours(name: str, folder: Path) -> dict[str, object]:
    settings = {
        "project": name,
        "backup_dir": str(folder / "backups"),
        "service_names": {"postgres": "postgres"},
        "postgres_database": DATABASE,
        "jobs": JOBS,
    }
    answer = run([sys.executable, "-c", RUNNER, json.dumps(settings), str(folder / "state")])
    return dict(json.loads(answer))


def measure(mebibytes: int, rounds: int, place: str) -> dict[str, object]:
    """All figures; seconds are the best of the rounds."""
    name = f"bench-backup-{uuid.uuid4().hex[:8]}"
    seconds: dict[str, list[float]] = {"runbook": [], "pg_dump": [], "pynomaly.ops": []}
    sizes: dict[str, int] = {}
    answer: dict[str, object] = {}
    ways: dict[str, Callable[[str, Path], object]] = {
        "runbook": runbook,
        "pg_dump": pg_dump,
        "pynomaly.ops": ours,
    }
    with server(name):
        database_bytes = fill(name, mebibytes)
        for _round in range(rounds):
            for way, take in ways.items():
                folder = Path(tempfile.mkdtemp(prefix="pynomaly-bench-", dir=place))
                try:
                    began = time.monotonic()
                    found = take(name, folder)
                    seconds[way].append(time.monotonic() - began)
                    answer = found if isinstance(found, dict) else answer
                    sizes[way] = sum(
                        path.stat().st_size for path in folder.rglob("*") if path.is_file()
                    )
                finally:
                    shutil.rmtree(folder)
    best = {way: round(min(times), 2) for way, times in seconds.items()}
    summary = answer["summary"]
    if not isinstance(summary, dict):
        raise TypeError("a backup has a summary")
    return {
        "database_bytes": database_bytes,
        "rounds": rounds,
        "seconds": best,
        "all_seconds": {way: [round(one, 2) for one in times] for way, times in seconds.items()},
        "size_bytes": sizes,
        "dump_seconds": summary["dump_seconds"],
        "checksum_seconds": summary["checksum_seconds"],
        "memory_bytes": answer["memory_bytes"],
        "times_as_fast_as_runbook": round(best["runbook"] / best["pynomaly.ops"], 2),
        "times_pg_dump_alone": round(best["pynomaly.ops"] / best["pg_dump"], 2),
    }


def lines(figures: dict[str, object]) -> list[str]:
    """What to print."""
    seconds, sizes = figures["seconds"], figures["size_bytes"]
    if not isinstance(seconds, dict) or not isinstance(sizes, dict):
        raise TypeError("figures are those of measure()")
    mebi = 1024 * 1024
    found = [f"backup of {int(str(figures['database_bytes'])) // mebi} MiB, {JOBS} sessions:"]
    for way, text in (
        ("runbook", "pg_dump | gzip (runbook)"),
        ("pg_dump", "pg_dump -Fd -j, nothing proved"),
        ("pynomaly.ops", "pynomaly.ops.backup, with checksums"),
    ):
        found.append(f"  {text:37} {seconds[way]:7.2f} s  {sizes[way] / mebi:8.1f} MiB")
    found += [
        f"  of that, side by side: dump {figures['dump_seconds']} s, "
        f"checksums {figures['checksum_seconds']} s",
        f"  memory of the module {int(str(figures['memory_bytes'])) / mebi:.0f} MiB",
        f"  {figures['times_as_fast_as_runbook']} times as fast as the runbook "
        f"(aim: {RUNBOOK_FACTOR:g})",
        f"  {figures['times_pg_dump_alone']} times pg_dump alone (aim: at most {PG_DUMP_FACTOR:g})",
    ]
    return found


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(description="How long a backup of the database takes.")
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--place", default=tempfile.gettempdir(), help="where backups are written")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args(list(arguments))
    figures = measure(chosen.mebibytes, chosen.rounds, chosen.place)
    print(json.dumps(figures) if chosen.json else "\n".join(lines(figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
