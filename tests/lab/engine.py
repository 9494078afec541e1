# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The machine's own Docker engine: find it, start it, mend it, talk to it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.cache import DEFAULT_NAME, NAME, exclusive, folder
from lab.packages import need
from lab.shell import LabError, run, say, step, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LABEL = "ops.pynomaly.lab"
"""Carried by each container, network and volume that the lab makes, and by nothing else."""

MARK = f"{LABEL}={'true' if NAME == DEFAULT_NAME else NAME}"
"""The label with its value, which tells the lab of this name from any other."""

_PID_FILES = {
    "/var/run/docker.pid": ("dockerd",),
    "/run/docker/containerd/containerd.pid": ("containerd",),
}


def docker(
    *arguments: str, timeout_seconds: float = 60, check: bool = True, stdin_text: str | None = None
) -> str:
    """Run ``docker`` and return what it prints; LabError when it fails."""
    return run(
        ["docker", *arguments],
        timeout_seconds=timeout_seconds,
        check=check,
        stdin_text=stdin_text,
        environment={"DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false"},
    ).stdout.strip()


def inspect(kind: str, name: str) -> dict[str, Any] | None:
    """Return ``docker KIND inspect NAME``, or None where there is no such thing."""
    completed = run(["docker", kind, "inspect", name], timeout_seconds=30, check=False)
    if completed.returncode != 0:
        if "no such" in completed.stderr.lower() or "not found" in completed.stderr.lower():
            return None
        raise LabError(f"`docker {kind} inspect {name}` failed: {completed.stderr.strip()}")
    found: dict[str, Any] = json.loads(completed.stdout)[0]
    return found


def answers() -> bool:
    """Say whether an engine answers on the socket that ``docker`` uses."""
    try:
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        return run(command, timeout_seconds=20, check=False).returncode == 0
    except LabError:
        return False


def ensure_running() -> None:
    """Install and start the engine where none answers."""
    if answers():
        return
    with exclusive():
        need({"dockerd": "docker.io", "iptables": "iptables"})
        # Older releases have the command line in docker.io, newer ones in a package of its own.
        need({"docker": "docker-cli"})
        if answers():
            return
        if Path("/run/systemd/system").is_dir():
            with step("started the engine (systemctl start docker)"):
                run(["systemctl", "start", "docker"], timeout_seconds=120)
                wait_until(
                    answers,
                    what="The Docker engine",
                    deadline_seconds=60,
                    hint="See: journalctl -u docker",
                )
        else:
            with step("started the engine (dockerd)"):
                _start_by_hand()


def _start_by_hand() -> None:
    """Start ``dockerd`` where no service manager does, after a clean end or an unclean one."""
    if os.geteuid() != 0:
        raise LabError("No Docker engine answers; only root can start one. Run as root: dockerd")
    log_path = folder("logs") / "dockerd.log"
    if _process_named("dockerd") is None:
        _forget_stale_pid_files()
    environment = dict(os.environ)
    environment["PATH"] = f"{environment.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"
    for attempt in (1, 2):
        with log_path.open("ab") as log:
            daemon = None
            if _process_named("dockerd") is None:
                daemon = subprocess.Popen(
                    ["dockerd"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd="/",
                    env=environment,
                )

        def answers_or_ended(daemon: subprocess.Popen[bytes] | None = daemon) -> bool:
            if answers():
                return True
            if daemon is not None:
                return daemon.poll() is not None
            # One that was there at first may have been dying.
            return _process_named("dockerd") is None

        wait_until(
            answers_or_ended,
            what="The Docker engine",
            deadline_seconds=120,
            hint=f"Its log: {log_path}",
        )
        if answers():
            return
        if attempt == 1:
            say("dockerd ended at once; trying again without what its last run left behind")
            _forget_stale_pid_files()
    last_lines = "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
    raise LabError(f"dockerd does not stay up. The end of {log_path}:\n{last_lines}")


def _forget_stale_pid_files() -> None:
    for name, programs in _PID_FILES.items():
        path = Path(name)
        try:
            program = Path(f"/proc/{int(path.read_text())}/comm").read_text().strip()
        except (OSError, ValueError):
            program = ""
        if path.exists() and program not in programs:
            say(f"removing {path}: its process is gone")
            path.unlink()


def _process_named(program: str) -> int | None:
    """Give the id of a process of this name outside of containers, or None."""
    own_namespace = Path("/proc/self/ns/pid").readlink()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            is_it = (entry / "comm").read_text().strip() == program
            if is_it and (entry / "ns/pid").readlink() == own_namespace:
                return int(entry.name)
        except OSError:
            continue
    return None


def owned(kind: str) -> list[str]:
    """List the ids of the lab's own containers, networks or volumes (by label)."""
    arguments = {
        "container": ["ps", "--all", "--quiet", "--no-trunc"],
        "network": ["network", "ls", "--quiet", "--no-trunc"],
        "volume": ["volume", "ls", "--quiet"],
    }[kind]
    return docker(*arguments, "--filter", f"label={MARK}").split()


def is_owned(labels: Mapping[str, str] | None) -> bool:
    """Say whether the lab of this name made what carries these labels."""
    name, _equals, value = MARK.partition("=")
    return (labels or {}).get(name) == value


def refuse_foreign(kind: str, name: str) -> dict[str, Any] | None:
    """Return ``docker KIND inspect NAME``; LabError when there is one that the lab did not make."""
    found = inspect(kind, name)
    if found is None:
        return None
    labels = found["Config"]["Labels"] if kind == "container" else found.get("Labels")
    if not is_owned(labels):
        raise LabError(
            f"A {kind} named {name} exists and the lab did not make it. "
            f"Rename or remove it first (docker {kind} rm {name}), or give the lab another name: "
            f"PYNOMALY_LAB_NAME={NAME}-2"
        )
    return found


def exec_in(container: str, command: Sequence[str], *, timeout_seconds: float = 30) -> str:
    """Run a command in a container and return what it prints; LabError when it fails."""
    return docker("exec", container, *command, timeout_seconds=timeout_seconds)
