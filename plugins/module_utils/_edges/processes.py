# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes and sockets of the host and its containers, read in C{/proc} of the host.

A container's processes are found by their control group or their namespace of process ids, so that
one that hides from the tools inside is seen. Their environments are not read. Reading what a
process has in its memory (its command) may hang where that process wants it to: to be bounded by
the caller.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import re
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_bundle import hash_file
from ansible_collections.pynomaly.ops.plugins.module_utils._sockets import (
    Socket,
    parse_sockets,
    parse_status,
    start_ticks,
)

_PROC = Path("/proc")
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_COMMAND_MAX_BYTES = 64 * 1024
#: A larger executable is not hashed.
_EXECUTABLE_MAX_BYTES = 128 * 1024 * 1024
_PROTOCOLS = ("tcp", "tcp6", "udp", "udp6")


def all_pids() -> list[int]:
    return sorted(int(one.name) for one in _PROC.iterdir() if one.name.isdigit())


def host_pids() -> list[int]:
    """Processes in the host's own namespace of network and of process ids."""
    own = (_link("self", "ns/net"), _link("self", "ns/pid"))
    return [pid for pid in all_pids() if (_link(pid, "ns/net"), _link(pid, "ns/pid")) == own]


def container_pids(container: Container) -> list[int]:
    """Ids of the host for the processes of a running container."""
    namespace = _link(container.pid, "ns/pid")
    if namespace == _link("self", "ns/pid"):
        namespace = ""  # it shares the host's
    found = []
    for pid in all_pids():
        inside = container.id and container.id in _text(pid, "cgroup")
        if inside or (namespace and _link(pid, "ns/pid") == namespace):
            found.append(pid)
    return found


def read_inside(pid: int, path: str, max_bytes: int) -> str:
    """A regular file as a process of the host's sees it.

    Raises C{OSError}, also for a path with a symbolic link in it, which the kernel would follow
    from the root of whoever reads, and not from the process's.
    """
    folder = os.open(_PROC / str(pid) / "root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        *parents, name = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parents or name == "..":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        for parent in parents:
            inner = os.open(parent, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        descriptor = os.open(name, flags, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        return file.read(max_bytes).decode("utf-8", "replace")


def describe(pids: Iterable[int]) -> list[dict[str, Any]]:
    """What is known of processes, by their own files; those that end meanwhile are left out."""
    ticks = os.sysconf("SC_CLK_TCK")
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    found = []
    for pid in pids:
        status = parse_status(_text(pid, "status"))
        if not status:
            continue
        began = start_ticks(_text(pid, "stat"))
        executable = _link(pid, "exe")
        with contextlib.suppress(OSError), (_PROC / str(pid) / "cmdline").open("rb") as file:
            command = file.read(_COMMAND_MAX_BYTES).decode("utf-8", "replace")
            found.append(
                {
                    "pid": pid,
                    "pid_inside": int(status.get("NSpid", "0").split()[-1] or 0),
                    "parent_pid": int(status.get("PPid", "0")),
                    "name": status.get("Name", ""),
                    "state": status.get("State", ""),
                    "user": _user(status.get("Uid", "")),
                    "uids": status.get("Uid", ""),
                    "gids": status.get("Gid", ""),
                    "started_at": _utc(booted + began / ticks) if began is not None else "",
                    "executable": executable,
                    "executable_is_deleted": executable.endswith(" (deleted)"),
                    "working_dir": _link(pid, "cwd"),
                    "command": command.rstrip("\0").split("\0"),
                    "capabilities": status.get("CapEff", ""),
                    "no_new_privileges": status.get("NoNewPrivs", ""),
                    "seccomp": status.get("Seccomp", ""),
                    "threads": status.get("Threads", ""),
                    "memory": status.get("VmRSS", ""),
                    "pid_namespace": _link(pid, "ns/pid"),
                    "network_namespace": _link(pid, "ns/net"),
                    "mount_namespace": _link(pid, "ns/mnt"),
                }
            )
    return found


def executables(pids: Iterable[int]) -> list[dict[str, Any]]:
    """The programs that run, each once, with their SHA-256: also those whose file is deleted."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for pid in pids:
        path = _PROC / str(pid) / "exe"
        with contextlib.suppress(OSError):
            status = path.stat()
            key = (status.st_dev, status.st_ino)
            if key not in found:
                small = status.st_size <= _EXECUTABLE_MAX_BYTES
                found[key] = {
                    "executable": _link(pid, "exe"),
                    "bytes": status.st_size,
                    "modified_at": _utc(status.st_mtime),
                    "sha256": hash_file(path)[1] if small else "",
                    "pids": [],
                }
            found[key]["pids"].append(pid)
    return list(found.values())


def sockets_of(pids: Sequence[int]) -> tuple[list[Socket], list[dict[str, Any]]]:
    """The sockets in all network namespaces of these processes, and the same with who holds each.

    Sockets of others in the same namespace are among them.
    """
    namespaces: dict[str, int] = {}
    for pid in pids:
        namespaces.setdefault(_link(pid, "ns/net"), pid)
    namespaces.pop("", None)
    holders = _holders(pids)
    listed: list[Socket] = []
    told = []
    for namespace, pid in namespaces.items():
        for protocol in _PROTOCOLS:
            for one in parse_sockets(_text(pid, f"net/{protocol}"), protocol):
                listed.append(one)
                told.append(
                    {
                        **asdict(one),
                        "network_namespace": namespace,
                        "pids": holders.get(one.inode, []) if one.inode else [],
                    }
                )
    return listed, told


def _holders(pids: Iterable[int]) -> Mapping[int, list[int]]:
    found: dict[int, list[int]] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in os.scandir(_PROC / str(pid) / "fd"):
                with contextlib.suppress(OSError):
                    match = _SOCKET.fullmatch(os.readlink(entry.path))  # noqa: PTH115
                    if match:
                        found.setdefault(int(match.group(1)), []).append(pid)
    return found


def _text(pid: object, name: str) -> str:
    """A file of the kernel's about a process; empty where it has ended."""
    try:
        return (_PROC / str(pid) / name).read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _link(pid: object, name: str) -> str:
    try:
        return os.readlink(_PROC / str(pid) / name)  # noqa: PTH115
    except OSError:
        return ""


def _user(uids: str) -> str:
    """The host's name for the effective user; a container may have another for it."""
    words = uids.split()
    if len(words) < 2:
        return ""
    try:
        return pwd.getpwuid(int(words[1])).pw_name
    except (KeyError, ValueError):
        return words[1]


def _utc(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
