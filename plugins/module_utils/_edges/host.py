# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host itself: filesystems, memory, processors, clock."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import side_by_side
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    UNKNOWN,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    CollectorError,
    Emit,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._system import (
    CpuTimes,
    Mount,
    Usage,
    clock_measurement,
    clock_sync_measurement,
    cpu_measurement,
    cpu_percent,
    disk_measurement,
    inodes_measurement,
    load_measurement,
    memory_measurement,
    parse_cpu_times,
    parse_meminfo,
    parse_mountinfo,
    real_mounts,
    swap_measurement,
)

_CPU_SAMPLE_SECONDS = 0.3
_CPU_SECOND_LOOK_SECONDS = 0.5
_CPU_BUSY_PERCENT = 80.0


def collectors(
    stack: Stack,  # noqa: ARG001  # every source's collectors are made alike
    settings: CheckSettings,
    started_at: Optional[float] = None,
) -> list[Collector]:
    """One collector for each filesystem, since a network filesystem may hang, and one for each
    thing that takes its time.

    ``started_at`` is the module's start in seconds since the epoch, taken as early as possible.
    """
    began = time.time() if started_at is None else started_at
    memory, swap = _target("host.memory"), _target("host.swap")
    load, clock = _target("host.load"), _target("host.clock")
    cpu, sync = _target("host.cpu"), _target("host.clock_sync")

    def run_quick(emit: Emit) -> None:
        emit(clock_measurement(clock, settings.controller_time, began))
        emit(load_measurement(load, _proc("loadavg"), os.cpu_count() or 1))
        meminfo = parse_meminfo(_proc("meminfo"))
        emit(memory_measurement(memory, meminfo))
        emit(swap_measurement(swap, meminfo))

    found = [
        Collector("host", (memory, swap, load, clock), run_quick),
        Collector("host.cpu", (cpu,), lambda emit: emit(_measure_cpu(cpu))),
        Collector("host.clock_sync", (sync,), lambda emit: emit(_measure_clock_sync(sync))),
    ]
    try:
        mounts = real_mounts(parse_mountinfo(_proc("self/mountinfo")), os.path.isdir)
    except CollectorError as error:
        found.append(Collector("host.disk", (_target("host.disk"),), _raiser(error)))
        return found
    return found + [_mount_collector(mount, settings.call_timeout_seconds) for mount in mounts]


def _target(identifier: str, instance: Optional[str] = None) -> Target:
    return Target(identifier, "host", instance)


def _raiser(error: CollectorError) -> Callable[[Emit], None]:
    def run(_emit: Emit) -> None:
        raise error

    return run


def _mount_collector(mount: Mount, timeout_seconds: float) -> Collector:
    disk = _target("host.disk", mount.mount_point)
    inodes = _target("host.inodes", mount.mount_point)

    def run(emit: Emit) -> None:
        ((_mount, answer),) = side_by_side(filesystem_usage, [mount.mount_point], timeout_seconds)
        if isinstance(answer, Usage):
            emit(disk_measurement(disk, mount, answer))
            emit(inodes_measurement(inodes, answer))
            return
        if isinstance(answer, TimeoutError):
            reason = f"did not answer within {timeout_seconds:g} s: {mount.filesystem}"
        else:
            reason = f"cannot be looked at: {answer}"
        for target in (disk, inodes):
            emit(Measurement(target, None, f"{mount.mount_point} {reason}", UNKNOWN))

    return Collector(f"host.disk:{mount.mount_point}", (disk, inodes), run)


def filesystem_usage(mount_point: str) -> Usage:
    """statvfs(3) of a mount point. Raises OSError; may hang where a server is gone."""
    answer = os.statvfs(mount_point)
    return Usage(
        size_bytes=answer.f_blocks * answer.f_frsize,
        free_bytes=answer.f_bfree * answer.f_frsize,
        available_bytes=answer.f_bavail * answer.f_frsize,
        inodes=answer.f_files,
        free_inodes=answer.f_ffree,
    )


def _measure_cpu(target: Target) -> Measurement:
    """A short sample; a busy one is looked at again for longer, when the check's own work, and
    what it makes others do, is over."""
    before, own_before, began = _cpu_times(), _own_ticks(), time.monotonic()
    time.sleep(_CPU_SAMPLE_SECONDS)
    after, own_after = _cpu_times(), _own_ticks()
    if cpu_percent(before, after, own_after - own_before) > _CPU_BUSY_PERCENT:
        before, own_before, began = after, own_after, time.monotonic()
        time.sleep(_CPU_SECOND_LOOK_SECONDS)
        after, own_after = _cpu_times(), _own_ticks()
    return cpu_measurement(target, before, after, time.monotonic() - began, own_after - own_before)


def _cpu_times() -> CpuTimes:
    return parse_cpu_times(_proc("stat"))


def _own_ticks() -> float:
    times = os.times()
    seconds = times.user + times.system + times.children_user + times.children_system
    return float(seconds * os.sysconf("SC_CLK_TCK"))


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), as far as it is read; the rest is room for the kernel."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 64),
    )


def _measure_clock_sync(target: Target) -> Measurement:
    timex = _Timex(modes=0)  # no mode bit: read only
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError) as error:
        raise CollectorError(f"adjtimex is not to be had: {error}") from error
    if state < 0:
        raise CollectorError(f"adjtimex: {os.strerror(ctypes.get_errno())}")
    return clock_sync_measurement(target, timex.status, timex.esterror, timex.maxerror)


def _proc(name: str) -> str:
    try:
        return Path("/proc", name).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CollectorError(f"/proc/{name} cannot be read: {error.strerror}") from error
