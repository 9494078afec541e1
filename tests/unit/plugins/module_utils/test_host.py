# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host's edge on the machine that the tests run on: /proc is real, what breaks is not."""

from __future__ import annotations

import shutil
import threading
import time

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import CheckSettings, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import host
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Measurement
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    CollectorError,
    run_collectors,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._system import CpuTimes, Usage


def measure(settings: CheckSettings, started_at: float | None = None) -> dict[str, Measurement]:
    measurements = run_collectors(host.collectors(Stack("p"), settings, started_at), 10)
    return {
        one.target.id + (f"@{one.target.instance}" if one.target.instance else ""): one
        for one in measurements
    }


def test_this_machine_is_measured_in_no_time() -> None:
    now = time.time()
    began = time.monotonic()
    found = measure(CheckSettings(controller_time=now - 100), now)
    assert time.monotonic() - began < 4
    assert {
        "host.memory", "host.swap", "host.load", "host.clock", "host.cpu", "host.clock_sync",
        "host.disk@/", "host.inodes@/",
    } <= set(found)  # fmt: skip
    usage = shutil.disk_usage("/")
    seen = found["host.disk@/"].value
    assert isinstance(seen, float)
    assert seen == pytest.approx(100 * usage.used / (usage.used + usage.free), abs=3)
    memory = found["host.memory"].value
    assert isinstance(memory, float)
    assert 0 < memory < 100
    assert found["host.clock"].value == 98.0
    assert found["host.clock_sync"].value in ("synchronized", "unsynchronized")
    assert all(one.message for one in found.values())


def test_a_mount_that_hangs_is_unknown_and_the_others_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()

    def hang(_mount_point: str) -> Usage:
        release.wait(30)
        raise OSError("released")

    monkeypatch.setattr(host, "filesystem_usage", hang)
    began = time.monotonic()
    found = measure(CheckSettings(call_timeout_seconds=0.5))
    release.set()
    assert time.monotonic() - began < 4
    for name in ("host.disk@/", "host.inodes@/"):
        assert found[name].status == "unknown"
        assert found[name].message.startswith("/ did not answer within 0.5 s")
    assert found["host.memory"].status is None


def test_a_mount_that_cannot_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(mount_point: str) -> Usage:
        raise PermissionError(13, "Permission denied", mount_point)

    monkeypatch.setattr(host, "filesystem_usage", fail)
    found = measure(CheckSettings())["host.disk@/"]
    assert found.status == "unknown"
    assert "Permission denied" in found.message


def test_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise CollectorError(f"/proc/{name} cannot be read: gone")

    monkeypatch.setattr(host, "_proc", fail)
    found = measure(CheckSettings())
    for name in ("host.disk", "host.load", "host.memory", "host.cpu"):
        assert found[name].status == "unknown"
        assert "cannot be read: gone" in found[name].message


@pytest.mark.parametrize(
    ("busy", "expected"),
    [([0, 10, 99], 10.0), ([0, 99, 109], 10.0), ([0, 99, 198], 99.0)],
)
def test_a_busy_moment_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, busy: list[int], expected: float
) -> None:
    """``busy`` are ticks used at each look, of 100 that pass between two."""
    samples = iter([CpuTimes(100 * n, 100 * n - used, 0, 0) for n, used in enumerate(busy)])
    monkeypatch.setattr(host, "_cpu_times", lambda: next(samples))
    monkeypatch.setattr(host, "_own_ticks", lambda: 0.0)
    monkeypatch.setattr(host, "_CPU_SAMPLE_SECONDS", 0.01)
    monkeypatch.setattr(host, "_CPU_SECOND_LOOK_SECONDS", 0.01)
    assert measure(CheckSettings())["host.cpu"].value == expected
