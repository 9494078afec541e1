# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Linux host as /proc, /sys and statvfs describe it: parsing, and what the numbers mean.

Formats: proc(5), and the kernel's Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    UNKNOWN,
    WARNING,
    Measurement,
    Target,
)

#: Filesystems that hold data and can fill up.
_LOCAL = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs"}
    | {"nilfs2", "gfs2", "ocfs2", "vfat", "exfat", "ntfs3", "fuseblk", "9p", "virtiofs"}
)
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "lustre"}
)

#: The controller's clock is read before the module is sent: what passes in between is not known.
TRANSIT_SECONDS = 2.0

#: adjtimex(2): the clock is not synchronised.
STA_UNSYNC = 0x0040

#: A cgroup v1 limit this high is none (the kernel's maximum, rounded down to a page).
_NO_LIMIT_BYTES = 1 << 60


# Filesystems


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo. ``root`` is the mounted folder within its filesystem."""

    device: str
    root: str
    mount_point: str
    filesystem: str
    source: str
    options: frozenset[str]

    @property
    def network(self) -> bool:
        return self.filesystem in _NETWORK


@dataclass(frozen=True)
class Usage:
    """What statvfs says, in bytes and inodes; ``available_bytes`` is without root's reserve."""

    size_bytes: int
    free_bytes: int
    available_bytes: int
    inodes: int
    free_inodes: int


def parse_mountinfo(text: str) -> list[Mount]:
    """Every mount, in the order made; lines that are not understood are left out."""
    mounts = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(tail) < 3:
            continue
        mounts.append(
            Mount(
                device=fields[2],
                root=_unescape(fields[3]),
                mount_point=_unescape(fields[4]),
                filesystem=tail[0],
                source=_unescape(tail[1]),
                options=frozenset(fields[5].split(",")) | frozenset(tail[2].split(",")),
            )
        )
    return mounts


def real_mounts(mounts: Sequence[Mount], is_directory: Callable[[str], bool]) -> list[Mount]:
    """One mount for each filesystem that can fill up, by mount point.

    Pseudo filesystems, containers' overlays, images and read-only mounts are left out, and of
    several mounts of one device all but the whole one with the shortest path. An overlay counts
    at ``/``, where a container plays the host. ``is_directory`` is not asked about network
    filesystems, whose server may be gone.
    """
    visible = {mount.mount_point: mount for mount in mounts}  # a later mount hides the earlier
    best: dict[str, Mount] = {}
    for mount in visible.values():
        root_overlay = mount.filesystem == "overlay" and mount.mount_point == "/"
        if not (mount.filesystem in _LOCAL or mount.network or root_overlay):
            continue
        if "ro" in mount.options and "errors=remount-ro" not in mount.options:
            continue
        if not mount.network and not is_directory(mount.mount_point):
            continue
        # Subvolumes of one btrfs have a device number each and share the space.
        key = mount.source if mount.filesystem == "btrfs" else mount.device
        held = best.get(key)
        if held is None or _mount_rank(mount) < _mount_rank(held):
            best[key] = mount
    return sorted(best.values(), key=lambda mount: mount.mount_point)


def _mount_rank(mount: Mount) -> tuple[bool, int, str]:
    return (mount.root != "/", len(mount.mount_point), mount.mount_point)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def disk_measurement(target: Target, mount: Mount, usage: Usage) -> Measurement:
    """``host.disk``: used of what ordinary users can use, as df(1) computes it."""
    if {"ro", "errors=remount-ro"} <= mount.options:
        return Measurement(
            target,
            None,
            f"{mount.mount_point} is mounted read-only, as the kernel does after an error",
            CRITICAL,
            "dmesg | tail -50; fsck, once it can be unmounted",
        )
    used = usage.size_bytes - usage.free_bytes
    total = used + usage.available_bytes
    if total <= 0:
        return Measurement(target, status=SKIPPED, message="the filesystem tells no size")
    percent = round(100.0 * used / total, 1)
    return Measurement(
        target,
        percent,
        f"{percent:g} % of {size_text(total)} used, {size_text(usage.available_bytes)} left",
    )


def inodes_measurement(target: Target, usage: Usage) -> Measurement:
    """``host.inodes``; skipped on a filesystem that makes them as needed."""
    if usage.inodes <= 0:
        return Measurement(
            target, status=SKIPPED, message="the filesystem has no fixed number of inodes"
        )
    percent = round(100.0 * (usage.inodes - usage.free_inodes) / usage.inodes, 1)
    return Measurement(
        target, percent, f"{percent:g} % of {usage.inodes} used, {usage.free_inodes} left"
    )


def size_text(size_bytes: float) -> str:
    """A size in the largest binary unit that leaves a number of at least one."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


# Memory, processors, load


def parse_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo in bytes, by name."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"(\S+):\s+(\d+)(?: kB)?$", line)
        if match:
            found[match[1]] = int(match[2]) * 1024
    return found


def memory_measurement(target: Target, meminfo: Mapping[str, int]) -> Measurement:
    """``host.memory``: what is not MemAvailable (the kernel's own estimate, since 3.14)."""
    total, available = meminfo["MemTotal"], meminfo["MemAvailable"]
    percent = round(100.0 * (total - available) / total, 1)
    return Measurement(
        target,
        percent,
        f"{percent:g} % of {size_text(total)} used, {size_text(available)} available",
    )


def swap_measurement(target: Target, meminfo: Mapping[str, int]) -> Measurement:
    """``host.swap``; skipped on a host without."""
    total = meminfo.get("SwapTotal", 0)
    if not total:
        return Measurement(target, status=SKIPPED, message="the host has no swap")
    used = total - meminfo.get("SwapFree", 0)
    percent = round(100.0 * used / total, 1)
    return Measurement(target, percent, f"{percent:g} % of {size_text(total)} used")


@dataclass(frozen=True)
class CpuTimes:
    """The first line of /proc/stat, in clock ticks since boot."""

    total: int
    idle: int
    iowait: int
    steal: int


def parse_cpu_times(text: str) -> CpuTimes:
    """From /proc/stat; guest time is left out, it is in user and nice already."""
    fields = [int(field) for field in text.split("\n", 1)[0].split()[1:9]]
    fields += [0] * (8 - len(fields))
    return CpuTimes(sum(fields), fields[3], fields[4], fields[7])


def cpu_percent(before: CpuTimes, after: CpuTimes, own_ticks: float = 0.0) -> float:
    """Busy share between two samples, waiting for disks not counted, less ``own_ticks`` that the
    check itself spent: it should not measure itself."""
    total = after.total - before.total
    if total <= 0:
        return 0.0
    idle = after.idle - before.idle + after.iowait - before.iowait
    return round(max(0.0, min(100.0, 100.0 * (total - idle - own_ticks) / total)), 1)


def cpu_measurement(
    target: Target, before: CpuTimes, after: CpuTimes, seconds: float, own_ticks: float = 0.0
) -> Measurement:
    """``host.cpu``; iowait and steal are said, because they point elsewhere."""
    percent = cpu_percent(before, after, own_ticks)
    total = max(1, after.total - before.total)
    iowait = 100.0 * max(0, after.iowait - before.iowait) / total
    steal = 100.0 * max(0, after.steal - before.steal) / total
    return Measurement(
        target,
        percent,
        f"{percent:g} % used over {seconds:.1f} s (iowait {iowait:.0f} %, steal {steal:.0f} %)",
    )


def load_measurement(target: Target, loadavg: str, processors: int) -> Measurement:
    """``host.load``: the 15 minutes' load average per processor."""
    load = float(loadavg.split()[2])
    ratio = round(load / max(1, processors), 2)
    return Measurement(
        target, ratio, f"{ratio:g} per processor (load {load:g}, {processors} processors)"
    )


# Clock


def clock_measurement(
    target: Target, controller_time: Optional[float], started_at: float
) -> Measurement:
    """``host.clock``: how far apart at least, both in seconds since the epoch.

    Up to L{TRANSIT_SECONDS} passed between the two readings; the difference is taken from the
    middle of that interval, less half of it.
    """
    if controller_time is None:
        return Measurement(target, status=SKIPPED, message="the controller did not tell its time")
    half = TRANSIT_SECONDS / 2
    offset = started_at - controller_time - half
    seconds = round(max(0.0, abs(offset) - half), 1)
    if not seconds:
        return Measurement(
            target,
            0.0,
            f"within {TRANSIT_SECONDS:g} s of the controller's, "
            "nearer than that a connection cannot tell",
        )
    side = "ahead of" if offset > 0 else "behind"
    return Measurement(target, seconds, f"at least {seconds:g} s {side} the controller's")


def clock_sync_measurement(
    target: Target, status_bits: int, estimated_error_us: int, maximum_error_us: int
) -> Measurement:
    """``host.clock_sync`` from what adjtimex(2) reads."""
    if status_bits & STA_UNSYNC:
        return Measurement(
            target, "unsynchronized", "no time source disciplines the kernel's clock", WARNING
        )
    return Measurement(
        target,
        "synchronized",
        f"synchronized, estimated error {estimated_error_us / 1000:g} ms, "
        f"at most {maximum_error_us / 1000:g} ms",
        OK,
    )


# Control groups of containers


@dataclass(frozen=True)
class MemoryGroup:
    """Where a process's memory control group is; ``version`` is 1 or 2."""

    version: int
    path: str


def memory_group(cgroup: str, mounts: Sequence[Mount]) -> Optional[MemoryGroup]:
    """The folder of a process's memory control group, from its /proc/PID/cgroup and this
    process's mounts.

    In version 1 the memory controller has a hierarchy of its own, and the mount may show only a
    part of it (an engine inside a container that shares the host's namespace): the mounted part is
    taken off the path. C{None} where neither version is mounted.
    """
    paths: dict[int, str] = {}
    for line in cgroup.splitlines():
        _number, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if "memory" in controllers.split(","):
            paths[1] = path
        elif controllers == "" and path:
            paths[2] = path
    for version in (1, 2):
        if version not in paths:
            continue
        for mount in mounts:
            if version == 1 and (mount.filesystem != "cgroup" or "memory" not in mount.options):
                continue
            if version == 2 and mount.filesystem != "cgroup2":
                continue
            path = posixpath.normpath("/" + paths[version].lstrip("/"))
            if mount.root != "/" and (path + "/").startswith(mount.root.rstrip("/") + "/"):
                path = path[len(mount.root.rstrip("/")) :] or "/"
            return MemoryGroup(version, posixpath.join(mount.mount_point, path.lstrip("/")))
    return None


@dataclass(frozen=True)
class MemoryUse:
    """A control group's memory: what docker stats calls usage (without inactive page cache), its
    limit (C{None} for none), and how many processes were killed for want of memory."""

    used_bytes: int
    limit_bytes: Optional[int]
    oom_kills: int


#: The files of each version that L{memory_use} reads: usage, limit, statistics, kills.
MEMORY_FILES: Mapping[int, tuple[str, str, str, str]] = {
    1: ("memory.usage_in_bytes", "memory.limit_in_bytes", "memory.stat", "memory.oom_control"),
    2: ("memory.current", "memory.max", "memory.stat", "memory.events"),
}


def memory_use(version: int, usage: str, limit: str, statistics: str, kills: str) -> MemoryUse:
    """From the contents of L{MEMORY_FILES}; an empty one counts as zero or no limit."""
    cache = _keyed(statistics).get("total_inactive_file" if version == 1 else "inactive_file", 0)
    used = int(usage.strip() or 0)
    text = limit.strip()
    bound = int(text) if text.isdigit() else None
    if bound is not None and bound >= _NO_LIMIT_BYTES:
        bound = None
    return MemoryUse(
        used - cache if cache < used else used, bound, _keyed(kills).get("oom_kill", 0)
    )


def _keyed(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def container_memory_measurement(target: Target, uses: Mapping[str, MemoryUse]) -> Measurement:
    """``container.memory`` of a service: the fullest of its containers, by name."""
    limited = {
        name: 100.0 * use.used_bytes / use.limit_bytes
        for name, use in uses.items()
        if use.limit_bytes
    }
    if not limited:
        largest = max(uses.values(), key=lambda use: use.used_bytes, default=None)
        text = f", it uses {size_text(largest.used_bytes)}" if largest else ""
        return Measurement(target, status=SKIPPED, message=f"the service has no memory limit{text}")
    name = max(limited, key=lambda key: limited[key])
    percent = round(limited[name], 1)
    use = uses[name]
    return Measurement(
        target,
        percent,
        f"{name}: {size_text(use.used_bytes)} of {size_text(use.limit_bytes or 0)} used "
        f"({percent:g} %)",
    )


_KERNEL_OOM_LINE = re.compile(
    r"^(?:<\d+>)?\[\s*(?P<seconds>\d+\.\d+)\].*\boom-kill:.*\btask_memcg=(?P<group>[^,]+)",
    re.MULTILINE,
)
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")


def kernel_oom_kills(log: str, uptime_seconds: float, window_seconds: float) -> dict[str, int]:
    """Container id to the number of its processes that the kernel killed in the window.

    ``log`` is the kernel's ring buffer, with seconds since boot on each line. It outlives a
    container's restart, with which the engine and the control group forget. Of nested control
    groups the innermost container counts.
    """
    kills: dict[str, int] = {}
    for line in _KERNEL_OOM_LINE.finditer(log):
        identifiers = _CONTAINER_ID.findall(line["group"])
        if identifiers and uptime_seconds - float(line["seconds"]) <= window_seconds:
            kills[identifiers[-1]] = kills.get(identifiers[-1], 0) + 1
    return kills


def oom_kills_measurement(
    target: Target,
    uses: Mapping[str, MemoryUse],
    killed: Sequence[str],
    unread: Sequence[str] = (),
    kernel: Optional[Mapping[str, int]] = None,
) -> Measurement:
    """``container.oom_kills`` of a service.

    ``killed`` has the names of containers the engine itself calls killed for want of memory,
    ``unread`` those whose control group could not be read, and ``kernel`` what the kernel's log
    has of each by name, C{None} where it cannot be read.
    """
    counts = {name: use.oom_kills for name, use in uses.items() if use.oom_kills}
    for name in killed:
        counts[name] = max(1, counts.get(name, 0))
    for name, count in (kernel or {}).items():
        counts[name] = max(count, counts.get(name, 0))
    if counts:
        worst = max(counts, key=lambda key: counts[key])
        total = sum(counts.values())
        since = "since its start" if kernel is None else "in the last 24 hours or since its start"
        return Measurement(
            target, total, f"{worst}: {counts[worst]} killed for want of memory {since}"
        )
    if unread and not uses and kernel is None:
        return Measurement(
            target, None, f"the control group of {unread[0]} cannot be read", UNKNOWN
        )
    return Measurement(
        target, 0, "none since the last start" if kernel is None else "none in the last 24 hours"
    )
