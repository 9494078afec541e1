# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_settings import (
    Memory,
    checkpoints_measurement,
    parse_settings,
    settings_measurements,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Measurement

GIB = 1024**3
#: As pg_settings has them: a server of 4 GiB that somebody has thought about.
ROWS = {
    "autovacuum": ("on", ""),
    "autovacuum_max_workers": ("3", ""),
    "autovacuum_work_mem": ("-1", "kB"),
    "checkpoint_completion_target": ("0.9", ""),
    "checkpoint_timeout": ("300", "s"),
    "effective_cache_size": ("393216", "8kB"),
    "maintenance_work_mem": ("131072", "kB"),
    "max_connections": ("100", ""),
    "max_wal_size": ("1024", "MB"),
    "shared_buffers": ("131072", "8kB"),
    "shared_preload_libraries": ("pg_stat_statements", ""),
    "track_counts": ("on", ""),
    "work_mem": ("8192", "kB"),
}
HAVE = Memory(16 * GIB, 4 * GIB)


def look(
    memory: Memory = HAVE, size: int = GIB, source: str = "configuration file", **changes: str
) -> dict[str, Measurement]:
    rows = [
        {"name": name, "setting": changes.get(name, value), "unit": unit, "source": source}
        for name, (value, unit) in ROWS.items()
    ]
    found = settings_measurements("postgres", parse_settings(rows), memory, size)
    return {str(one.target.instance): one for one in found}


def trouble(found: dict[str, Measurement]) -> list[str]:
    return [name for name, one in found.items() if one.status != "ok"]


def test_settings_that_fit() -> None:
    found = look()
    assert trouble(found) == []
    assert "1.0 GiB, 25 % of 4.0 GiB of the container" in found["shared_buffers"].message


def test_the_memory_that_counts() -> None:
    assert Memory(16 * GIB, 0).bytes == 16 * GIB
    assert Memory(16 * GIB, 4 * GIB).bytes == 4 * GIB
    assert Memory(16 * GIB, 64 * GIB).bytes == 16 * GIB
    assert Memory(16 * GIB, 64 * GIB).text.endswith("of the host")


@pytest.mark.parametrize(
    ("changes", "name", "wanted"),
    [
        ({"shared_buffers": "262144"}, "shared_buffers", "'1024MB'"),
        ({"shared_buffers": "16384"}, "shared_buffers", "'1024MB'"),
        ({"effective_cache_size": "1048576"}, "effective_cache_size", "'3072MB'"),
        ({"effective_cache_size": "65536"}, "effective_cache_size", "'3072MB'"),
        ({"work_mem": "65536"}, "work_mem", "'31457kB'"),
        ({"maintenance_work_mem": "1048576"}, "maintenance_work_mem", "'384MB'"),
        ({"autovacuum_work_mem": "1048576"}, "maintenance_work_mem", "'384MB'"),
        ({"checkpoint_completion_target": "0.5"}, "checkpoint_completion_target", "'0.9'"),
        ({"checkpoint_timeout": "30"}, "checkpoint_timeout", "'5min'"),
        ({"autovacuum": "off"}, "autovacuum", "'on'"),
        ({"track_counts": "off"}, "track_counts", "'on'"),
    ],
)
def test_a_setting_that_does_not_fit(changes: dict[str, Any], name: str, wanted: str) -> None:
    found = look(size=2 * GIB, **changes)
    assert trouble(found) == [name]
    assert f"ALTER SYSTEM SET {name} = {wanted}" in str(found[name].hint)
    assert "expected" in found[name].message or "more than there is" in found[name].message


def test_many_connections_for_a_small_machine() -> None:
    assert "max_connections" in trouble(look(max_connections="1000"))
    assert "pooler" in look(max_connections="1000")["max_connections"].message


def test_small_buffers_are_enough_for_a_small_database() -> None:
    assert trouble(look(size=GIB // 16, shared_buffers="16384")) == []


def test_the_command_line_beats_alter_system() -> None:
    hint = str(look(source="command line", work_mem="1048576")["work_mem"].hint)
    assert "ALTER SYSTEM" not in hint
    assert "postgres_work_mem_mib" in hint
    hint = str(look(shared_buffers="262144")["shared_buffers"].hint)
    assert hint.endswith("docker compose restart SERVICE")
    assert str(look(work_mem="1048576")["work_mem"].hint).endswith("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("timed", "requested", "status"),
    [(3, 6, "skipped"), (50, 50, "ok"), (40, 60, "warning")],
)
def test_checkpoints_that_wal_forced(timed: int, requested: int, status: str) -> None:
    rows = [{"name": "max_wal_size", "setting": "1024", "unit": "MB", "source": "default"}]
    row: dict[str, Any] = {"timed": timed, "requested": requested, "counted_seconds": 86400.0}
    seen = checkpoints_measurement("postgres", row, parse_settings(rows))
    assert seen.status == status
    if status == "warning":
        assert "60 of 100 checkpoints in 1 d" in seen.message
        assert "ALTER SYSTEM SET max_wal_size = '2048MB'" in str(seen.hint)
