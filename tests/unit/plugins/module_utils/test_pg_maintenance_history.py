# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance_history import (
    MOST_SAMPLES,
    MOST_TABLES,
    HistoryError,
    Sample,
    baseline,
    decode_history,
    encode_history,
    with_sample,
)

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)


def sample(days_ago: float, size: int = 100, database: str = "d") -> Sample:
    return Sample(NOW - datetime.timedelta(days=days_ago), database, size, {"t": (60, 40)})


def test_what_is_written_is_read_again() -> None:
    samples = [sample(7), sample(0)]
    assert decode_history(encode_history(samples)) == samples


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"schema_version": 2, "samples": []}',
        '{"schema_version": 1, "samples": [{"at": "2026-11-24T12:00:00"}]}',
        '{"schema_version": 1, "samples": [1]}',
    ],
)
def test_what_is_no_history(text: str) -> None:
    with pytest.raises(HistoryError):
        decode_history(text)


def test_the_file_is_bounded() -> None:
    samples: list[Sample] = []
    for day in range(100, -1, -1):
        samples = with_sample(samples, sample(day))
    assert len(samples) == MOST_SAMPLES
    assert samples[-1] == sample(0)
    wide = Sample(NOW, "d", 1, {f"t{n}": (n, 0) for n in range(1000)})
    (kept,) = with_sample([], wide)
    assert len(kept.tables) == MOST_TABLES
    assert "t999" in kept.tables


def test_many_runs_a_day_leave_one_sample() -> None:
    samples = with_sample([sample(7)], sample(0.1, 1))
    samples = with_sample(samples, sample(0, 2))
    assert [one.database_bytes for one in samples] == [100, 2]
    assert len(with_sample(samples, sample(0, 3, "other"))) == 3


def test_the_sample_nearest_to_a_week_ago() -> None:
    samples = [sample(30), sample(8), sample(5), sample(0.5), sample(7, 1, "other")]
    assert baseline(samples, "d", NOW) == sample(8)
    assert baseline([sample(0.5), sample(-3)], "d", NOW) is None  # too young; a clock that was off
    assert baseline([], "d", NOW) is None
