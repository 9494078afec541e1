# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    FAILED as OPERATION_FAILED,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    FINISHED,
    STARTED,
    TEMPORARY_OPENED,
    Lock,
    RunIdentity,
    journal_record,
    summarize_operations,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target
from ansible_collections.pynomaly.ops.plugins.module_utils._resume import (
    FAILED,
    KEPT,
    UNDONE,
    Resumed,
    end_of,
    failure_text,
    is_standing,
    resume_lines,
    temporary_states,
)

NOW = datetime.datetime(2026, 11, 24, 10, 0, tzinfo=datetime.timezone.utc)
IDENTITY = RunIdentity("run-1", "tester", "here")
TARGET = Target("operation.temporary_states", "project")
LATER = "2026-11-24T10:30:00Z"
EARLIER = "2026-11-24T09:30:00Z"


def record(event: str, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "time": NOW - datetime.timedelta(hours=1),
        "identity": IDENTITY,
        "operation": "maintenance",
        "project": "shop",
        **changes,
    }
    if event == TEMPORARY_OPENED:
        given = {"temporary_state": "maintenance_page", "undo": "undo it", **given}
    return journal_record(event=event, **given)


def opened(until: str = "") -> dict[str, Any]:
    return record(TEMPORARY_OPENED, details={"until": until} if until else {})


@pytest.mark.parametrize(
    ("until", "outcome", "standing"),
    [
        (LATER, FINISHED, True),
        (EARLIER, FINISHED, False),
        ("", FINISHED, False),
        ("soon", FINISHED, False),
        (LATER, OPERATION_FAILED, False),
        (LATER, "", False),
    ],
)
def test_is_standing(until: str, outcome: str, standing: bool) -> None:
    records = [record(STARTED), opened(until)] + ([record(outcome)] if outcome else [])
    assert is_standing(records[1], summarize_operations(records, None), NOW) is standing


def test_another_run_that_ended_well_does_not_vouch_for_a_state() -> None:
    other = RunIdentity("run-2", "tester", "here")
    records = [
        record(STARTED),
        opened(LATER),
        record(STARTED, identity=other),
        record(FINISHED, identity=other),
    ]
    assert not is_standing(records[1], summarize_operations(records, None), NOW)


def test_end_of() -> None:
    assert end_of(opened(LATER)) == NOW + datetime.timedelta(minutes=30)
    assert end_of(opened()) is None


def test_lines_and_failure() -> None:
    resumed = [
        Resumed("shop", "maintenance_page", KEPT, "until later"),
        Resumed("shop", "database_closed", UNDONE, "it is open"),
        Resumed("shop", "odd", FAILED, "next: undo it"),
    ]
    assert resume_lines(resumed, ["container 1"], check_mode=False) == [
        "shop: maintenance_page: kept: until later",
        "shop: database_closed: undone: it is open",
        "shop: odd: failed: next: undo it",
        "removed: container 1",
    ]
    assert resume_lines([], [], check_mode=True) == ["nothing was left on this host"]
    assert "shop: odd: failed: next: undo it" in failure_text(resumed)
    assert failure_text(resumed[:2]) == ""


LOCK = Lock("maintenance", "shop", "run-1", "tester", "here", "2026-11-24T09:00:00Z")


@pytest.mark.parametrize(
    ("records", "lock", "value", "told"),
    [
        ([], None, 0, "nothing"),
        ([record(STARTED), opened(LATER), record(FINISHED)], None, 0, "until 2026-11-24 10:30"),
        ([record(STARTED), opened(LATER)], LOCK, 0, "maintenance is at work"),
        ([record(STARTED), opened(LATER)], None, 1, "left 1 hour ago by maintenance"),
        ([record(STARTED), opened(EARLIER), record(FINISHED)], None, 1, "end was 30 minutes ago"),
    ],
)
def test_probe(records: list[dict[str, Any]], lock: Lock | None, value: int, told: str) -> None:
    left = [one for one in records if one["event"] == TEMPORARY_OPENED]
    seen = temporary_states(TARGET, left, summarize_operations(records, lock), lock, NOW)
    assert (seen.value, told in seen.message) == (value, True), seen.message
