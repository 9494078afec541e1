# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the daily check costs beside its rivals, paired in one run and printed as ratios.

Machines are noisy: in each round every contender runs once, in turn, so that a slow minute slows
them all; the ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import json
import shlex
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab import bench_restore, environment, images, nodes
from lab.cache import ROOT, collections_path
from lab.shell import LabError, run, run_shown, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BENCH = ROOT / "tests" / "bench"
_ROUNDS = 5
_MANY = 10
_SERVERS = 2
_MANY_ROUNDS = 3
_FEWEST_PROBES = 50
_TIMEOUT_SECONDS = 1200.0


class Contender:
    """A command that is timed; its output is shown only when it fails."""

    def __init__(self, name: str, command: Sequence[str], home: Path) -> None:
        self.name = name
        self.seconds: list[float] = []
        self._command = list(command)
        self._variables = environment.variables(home)

    def run(self) -> None:
        started_at = time.monotonic()
        completed = run(
            self._command,
            timeout_seconds=_TIMEOUT_SECONDS,
            environment=self._variables,
            check=False,
        )
        self.seconds.append(time.monotonic() - started_at)
        if completed.returncode != 0:
            raise LabError(f"{self.name} failed:\n{completed.stdout}{completed.stderr}")

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)

    def ratios_to(self, other: Contender) -> list[float]:
        """Each round's own ratio."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return [mine / theirs for mine, theirs in pairs]

    def compared_to(self, other: Contender) -> str:
        """The median of the rounds' ratios, and each of them: they show how noisy it was."""
        ratios = self.ratios_to(other)
        rounds = " ".join(f"{ratio:.2f}" for ratio in ratios)
        return f"{statistics.median(ratios):6.2f}×   (rounds: {rounds})"


def _paired(contenders: Sequence[Contender], rounds: int) -> None:
    for contender in contenders:  # caches and connections are warm for all of them
        contender.run()
        contender.seconds.clear()
    for _ in range(rounds):
        for contender in contenders:
            contender.run()


def _probes(report_dir: Path, hosts: int = 1) -> int:
    """How many probes were measured on the host with the fewest; skipped ones and those without an
    answer are none. Raises L{LabError} where they are too few to be called a daily check."""
    report = json.loads((report_dir / "daily_check-latest.json").read_text())
    measured = [
        sum(result["status"] in ("ok", "warning", "critical") for result in host["results"])
        for host in report["hosts"]
    ]
    if len(measured) != hosts or min(measured) < _FEWEST_PROBES:
        raise LabError(
            f"what was timed is no daily check: seen {len(measured)} host(s) with "
            f"{', '.join(str(count) for count in measured)} measured probes, expected {hosts} with "
            f"{_FEWEST_PROBES} at least. Next: ./lab run daily_check --limit node1"
        )
    return min(measured)


def main(arguments: Sequence[str]) -> int:
    """Run all benchmarks, or those named.

    They are the daily check on one host and on ten, the backup and the restore of a gigabyte, and
    the scan of a gigabyte of logs.
    """
    known = {
        "one": _one_host,
        "many": _many_hosts,
        "backup": _backup,
        "restore": _restore,
        "logs": _logs,
    }
    if set(arguments) - set(known):
        raise LabError(f"bench: seen {' '.join(arguments)}; expected some of {', '.join(known)}")
    for name, benchmark in known.items():
        if not arguments or name in arguments:
            benchmark()
    return 0


def _contenders(report_dir: Path) -> Callable[..., Contender]:
    home = environment.ensure("runtime")

    def make(name: str, what: str, *limits: str) -> Contender:
        binary = str(home / "bin" / "ansible-playbook")
        # What other tests left in the logs is no failure of the benchmark.
        settings = ("-e", f"pynomaly_report_dir={report_dir}", "-e", "pynomaly_fail_on=never")
        command = [binary, what, *settings, *limits]
        return Contender(name, command, home)

    return make


def _deployed(count: int) -> None:
    nodes.up(count)
    home = environment.ensure("runtime")
    for name in ("prepare", "deploy"):
        say(f"{name} on {count} node(s)")
        command = [str(home / "bin" / "ansible-playbook"), f"pynomaly.ops.{name}"]
        Contender(name, [*command, "--limit", _first(count)], home).run()


def _first(count: int) -> str:
    return ",".join(f"node{number}" for number in range(1, count + 1))


def _one_host() -> None:
    _deployed(1)
    with tempfile.TemporaryDirectory() as folder:
        report_dir = Path(folder)
        make = _contenders(report_dir)
        limit = ("--limit", "node1")
        check = make("daily_check", "pynomaly.ops.daily_check", *limit)
        floor = make("(a) ping", str(_BENCH / "ping.yml"), *limit)
        stock = make("(b) stock modules", str(_BENCH / "stock_modules.yml"), *limit)
        script = (_BENCH / "daily_health_check.sh").read_text()
        typed = Contender(
            "(c) the runbook's script over SSH",
            [*nodes.ssh_command("node1"), *nodes.as_remote_command(["bash", "-c", script])],
            environment.ensure("runtime"),
        )
        contenders = [check, floor, stock, typed]
        _paired(contenders, _ROUNDS)
        probes = _probes(report_dir)
        say(f"\ndaily_check with {probes} measured probes on one host, {_ROUNDS} paired rounds")
        for contender in contenders:
            say(f"  {contender.name:36}{contender.median_seconds:8.2f} s")
        say(f"  to (a) the floor, aim at most 1.6×:       {check.compared_to(floor)}")
        say(f"  (b) stock modules to it, aim at least 5×: {stock.compared_to(check)}")
        say(f"  to (c) the typed script, no aim:          {check.compared_to(typed)}")


def _many_hosts() -> None:
    """Ten hosts of the inventory, which are the lab's two servers under five names each: the health
    checks of ten whole stacks keep two cores busy before anything is asked."""
    _deployed(_SERVERS)
    with tempfile.TemporaryDirectory() as folder:
        reports_of_many, reports_of_one = Path(folder, "many"), Path(folder, "one")
        servers = [node for node in nodes.existing() if node.name in _first(_SERVERS).split(",")]
        hosts = {
            f"host{number}": {"ansible_host": servers[number % _SERVERS].address}
            for number in range(1, _MANY + 1)
        }
        inventory = Path(folder, "hosts.json")
        inventory.write_text(json.dumps({"lab_nodes": {"hosts": hosts}}))
        also = ("--inventory", str(ROOT / "inventories" / "lab"), "--inventory", str(inventory))
        check = "pynomaly.ops.daily_check"
        many = _contenders(reports_of_many)(f"{_MANY} hosts", check, *also)
        one = _contenders(reports_of_one)("one host", check, *also, "--limit", "host1")
        _paired([many, one], _MANY_ROUNDS)
        probes = min(_probes(reports_of_many, _MANY), _probes(reports_of_one))
        say(
            f"\ndaily_check of {_MANY} hosts beside one, {probes} measured probes on each; "
            f"{_SERVERS} servers under {_MANY} names"
        )
        say(f"  {_MANY} hosts {many.median_seconds:8.2f} s,  one host {one.median_seconds:8.2f} s")
        say(f"  {_MANY} hosts to one, aim under 3×: {many.compared_to(one)}")


def _backup() -> None:
    """On this machine's own engine, in the lab's own environment."""
    home = environment.ensure("test")
    nodes.up(1)
    known = images.load()
    images.ensure_in_engine(known["postgres:lab"], known)
    command = [str(home / "bin" / "python"), str(_BENCH / "backup.py")]
    variables = {**environment.variables(home), "PYTHONPATH": str(collections_path())}
    code = run_shown(command, timeout_seconds=_TIMEOUT_SECONDS, environment=variables)
    if code != 0:
        raise LabError(f"{shlex.join(command)} ended with exit code {code}")


def _logs() -> None:
    """On this machine: it takes no server."""
    home = environment.ensure("runtime")
    command = [str(home / "bin" / "python"), str(_BENCH / "logs.py")]
    variables = {**environment.variables(home), "PYTHONPATH": str(collections_path())}
    code = run_shown(command, timeout_seconds=_TIMEOUT_SECONDS, environment=variables)
    if code != 0:
        raise LabError(f"{shlex.join(command)} ended with exit code {code}")


def _restore() -> None:
    _deployed(1)
    home = environment.ensure("runtime")

    def playbook(name: str, *arguments: str) -> None:
        binary = str(home / "bin" / "ansible-playbook")
        command = [binary, f"pynomaly.ops.{name}", "--limit", bench_restore.NODE, *arguments]
        Contender(name, command, home).run()

    bench_restore.benchmark(playbook)
