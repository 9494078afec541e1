# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the collection's playbooks on the lab's servers, and show what they are for."""

from __future__ import annotations

from lab import environment, nodes
from lab.cache import ROOT, exclusive
from lab.shell import LabError, quoted, run, run_shown, say

_PLAYBOOK_TIMEOUT_SECONDS = 3600.0


def playbook(name: str, *arguments: str) -> int:
    """Run ``pynomaly.ops.NAME`` on the lab's inventory and return its exit code.

    Nodes that were left stopped are mended first; where there is none, one is made.
    """
    if not nodes.all_running():
        nodes.up(1)
    home = environment.ensure("runtime")
    command = [str(home / "bin" / "ansible-playbook"), f"pynomaly.ops.{name}", *arguments]
    return run_shown(
        command,
        timeout_seconds=_PLAYBOOK_TIMEOUT_SECONDS,
        environment=environment.variables(home),
    )


def show(broken: str | None) -> int:
    """Deploy the stack on node1 and check it; with ``broken``, once more without that service."""
    with exclusive():
        environment.ensure("runtime")
        nodes.up(1)
    for name in ("prepare", "deploy", "daily_check"):
        if _shown(name) != 0:
            raise LabError(f"`./lab run {name} --limit node1` failed; its output is above.")
    if broken is not None:
        _show_broken(broken)
    say(
        f"\nThe reports are in {ROOT / 'reports'}: a table, JSON, Markdown, and an HTML page.\n"
        "Next:\n"
        "    ./lab demo --break postgres       what the check says when something is down\n"
        "    ./lab run daily_check             the same check again\n"
        "    ./lab shell node1 -- docker ps    what runs on the server\n"
        "    ./lab down                        remove it all"
    )
    return 0


def _shown(name: str) -> int:
    arguments = ["--limit", "node1", "-e", f"pynomaly_report_dir={ROOT / 'reports'}"]
    say(f"\n$ ./lab run {quoted([name, *arguments])}")
    return playbook(name, *arguments)


def _show_broken(service: str) -> None:
    label = f"label=com.docker.compose.service={service}"
    containers = _on_node("ps", "--quiet", "--filter", label)
    if not containers:
        services = sorted(
            set(_on_node("ps", "--format", '{{.Label "com.docker.compose.service"}}'))
        )
        raise LabError(
            f"node1 runs no service {service}; it runs {', '.join(services)}. "
            f"Try: ./lab demo --break {services[0] if services else 'postgres'}"
        )
    say(f"\nStopping {service} on node1; the check has to notice.")
    _on_node("stop", *containers)
    try:
        code = _shown("daily_check")
        if code == 0:
            raise LabError(
                f"The daily check exited 0 with {service} stopped; expected another exit code."
            )
        say(f"\nThe check exited {code}, as it should. Starting {service} again.")
    finally:
        _on_node("start", *containers)
    nodes.wait_until_healthy("node1", containers)
    if _shown("daily_check") != 0:
        raise LabError(
            f"The daily check still fails after {service} was started again. "
            f"See: ./lab shell node1 -- docker logs {containers[0]}"
        )


def _on_node(*arguments: str) -> list[str]:
    command = [*nodes.ssh_command("node1"), *nodes.as_remote_command(["docker", *arguments])]
    return run(command, timeout_seconds=120).stdout.split()
