# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the daily check costs beside its rivals, paired in one run and printed as ratios.

Machines are noisy: in each round every contender runs once, in turn, so that a slow minute slows
them all; the ratio is the median of the rounds' own ratios.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lab import environment, nodes
from lab.cache import ROOT
from lab.shell import LabError, run, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_BENCH = ROOT / "tests" / "bench"
_ROUNDS = 5
_MANY = 10
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

    def ratio_to(self, other: Contender) -> float:
        """The median of the rounds' own ratios."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def _paired(contenders: Sequence[Contender], rounds: int) -> None:
    for contender in contenders:  # caches and connections are warm for all of them
        contender.run()
        contender.seconds.clear()
    for _ in range(rounds):
        for contender in contenders:
            contender.run()


def _probes(report_dir: Path) -> int:
    report = json.loads((report_dir / "daily_check-latest.json").read_text())
    return min(len(host["results"]) for host in report["hosts"])


def main(arguments: Sequence[str]) -> int:
    """Run all benchmarks, or with ``one`` or ``many`` those on one host or on ten."""
    known = {"one": _one_host, "many": _many_hosts}
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
        say(f"\ndaily_check with {_probes(report_dir)} probes on one host, {_ROUNDS} paired rounds")
        for contender in contenders:
            say(f"  {contender.name:36}{contender.median_seconds:8.2f} s")
        say(f"  to (a) the floor:         {check.ratio_to(floor):6.2f}×   (aim: at most 1.6×)")
        say(f"  (b) stock modules to it:  {stock.ratio_to(check):6.2f}×   (aim: at least 5×)")
        say(f"  to (c) the typed script:  {check.ratio_to(typed):6.2f}×   (for information)")


def _many_hosts() -> None:
    _deployed(_MANY)
    with tempfile.TemporaryDirectory() as folder:
        make = _contenders(Path(folder))
        many = make(f"{_MANY} hosts", "pynomaly.ops.daily_check", "--limit", _first(_MANY))
        one = make("one host", "pynomaly.ops.daily_check", "--limit", "node1")
        _paired([many, one], 3)
        say(f"\ndaily_check of {_MANY} hosts beside one, 3 paired rounds")
        say(f"  {_MANY} hosts {many.median_seconds:8.2f} s,  one host {one.median_seconds:8.2f} s")
        say(f"  ten to one: {many.ratio_to(one):6.2f}×   (aim: under 3×)")
