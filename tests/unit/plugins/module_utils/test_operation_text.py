# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _operation_text as text
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import OperationSummary


def operation(**more: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "run_id": "3f2a0000-0000-4000-8000-000000000001",
        "operation": "deploy",
        "project": "pynomaly",
        "user": "alice",
        "controller": "ws1",
        "time": "2026-11-24T12:00:00.000Z",
        "outcome": "finished",
        "duration_seconds": 92.4,
        "changed": True,
    }
    return asdict(OperationSummary(**{**facts, **more}))


def info(**more: Any) -> dict[str, Any]:
    return {
        "lock": None,
        "open_temporary_states": [],
        "damaged_lines": [],
        "journal_path": "/var/lib/pynomaly-ops/journal.jsonl",
        "host_time": "2026-11-24T12:30:00.000Z",
        **more,
    }


def test_history_is_a_table_with_what_was_said_and_the_undo_below() -> None:
    lines = text.history_lines(
        [
            operation(undo="ansible-playbook pynomaly.ops.rollback", summary="version 1.3"),
            operation(operation="backup", outcome="failed", changed=None, duration_seconds=None),
        ],
        2,
        4,
    )
    assert lines[0].split() == [
        "when", "(UTC)", "operation", "project", "who", "outcome", "took", "changed", "run",
    ]  # fmt: skip
    assert set(lines[1]) == {"-", " "}
    assert lines[2].split() == [
        "2026-11-24", "12:00", "deploy", "pynomaly", "alice@ws1", "finished", "1m32s", "yes",
        "3f2a0000",
    ]  # fmt: skip
    assert lines[3] == "    version 1.3"
    assert lines[4] == "    undo: ansible-playbook pynomaly.ops.rollback"
    assert lines[5].split()[-4:] == ["failed", "-", "-", "3f2a0000"]
    assert len(lines) == 6


def test_history_fits_its_width_and_never_cuts_an_undo() -> None:
    undo = "ansible-playbook pynomaly.ops.restore -e " + "x" * 120
    lines = text.history_lines(
        [
            operation(
                user="a.very.long.user.name@example.org",
                controller="controller-17.eu-central-1.internal.example.org",
                awx_job_id="123456",
                project="the-project-with-a-name-that-goes-on-and-on",
                operation="a_verb_longer_than_any_verb_there_is",
                outcome="taken over",
                taken_over_by="7c110000-0000-4000-8000-000000000002",
                summary="s" * 300,
                undo=undo,
            )
        ],
        1,
        2,
    )
    assert f"    undo: {undo}" in lines
    others = [line for line in lines if undo not in line]
    assert len(others) == 5
    assert max(map(len, others)) == 100
    assert "a.very" in others[2] and "…" in others[2]


def test_nothing_recorded_nothing_selected_and_more_than_shown_are_said() -> None:
    assert text.history_lines([], 0, 0) == ["nothing has been recorded on this host"]
    assert text.history_lines([], 0, 9) == ["nothing that was recorded on this host matches"]
    assert "1 of 7 operations" in text.history_lines([operation()], 7, 14)[-1]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.25, "0.2s"), (42.0, "42s"), (60, "1m00s"), (3700, "1h01m"), (None, "-")],
)
def test_durations_are_short(seconds: Any, shown: str) -> None:
    row = text.history_lines([operation(duration_seconds=seconds)], 1, 2)[2].split()
    assert row[-3] == shown


def test_written_control_characters_do_not_reach_the_terminal() -> None:
    lines = text.history_lines([operation(user="eve\x1b[2J", summary="one\ntwo\u2028three")], 1, 2)
    assert not any(ord(character) < 32 for line in lines for character in line)
    assert "    one two three" in lines


def test_standing_lines_without_a_lock() -> None:
    assert text.standing_lines(info()) == ["lock: none, no operation is running"]


def test_standing_lines_with_everything() -> None:
    lock = {
        "operation": "deploy",
        "project": "pynomaly",
        "run_id": "3f2a",
        "user": "alice",
        "controller": "ws1",
        "started_at": "2026-11-24T12:18:00.000Z",
        "ansible_version": "2.19.14",
        "awx_job_id": "",
        "schema_version": 1,
        "damaged": False,
        "age_seconds": 720.0,
    }
    page = {
        "temporary_state": "maintenance_page",
        "project": "pynomaly",
        "operation": "maintenance",
        "time": "2026-11-24T10:25:00.000Z",
        "undo": "ansible-playbook pynomaly.ops.live",
    }
    damaged = [{"line": 3, "problem": "p", "text": "t"}]
    lines = text.standing_lines(
        info(lock=lock, open_temporary_states=[page], damaged_lines=damaged)
    )
    assert lines == [
        "lock: deploy of pynomaly by alice@ws1 since 2026-11-24 12:18:00 UTC (12 minutes ago), "
        "run 3f2a",
        "left open: maintenance_page of pynomaly since 2026-11-24 10:25:00 UTC "
        "(2 hours 5 minutes ago, maintenance); undo: ansible-playbook pynomaly.ops.live",
        "journal: 1 damaged line in /var/lib/pynomaly-ops/journal.jsonl (line 3); "
        "the others are shown",
    ]


def test_standing_lines_with_a_damaged_lock() -> None:
    (line,) = text.standing_lines(
        info(lock={"damaged": True, "run_id": "damaged-1", "problem": "empty"})
    )
    assert line == "lock: a lock file that cannot be read (empty), run damaged-1"


def test_the_right_word_confirms_and_nothing_else() -> None:
    assert text.confirmation_problem("restore:pynomaly", "restore", "pynomaly", "p") == ""
    for wrong in ("", "yes", "restore", "restore:other", "rollback:pynomaly", "RESTORE:pynomaly"):
        assert text.confirmation_problem(wrong, "restore", "pynomaly", "pynomaly.ops.restore")


def test_without_the_word_the_line_to_run_is_printed() -> None:
    problem = text.confirmation_problem("", "restore", "pynomaly", "pynomaly.ops.restore")
    assert "nothing was touched; seen: no confirm; expected: confirm=restore:pynomaly" in problem
    assert problem.endswith("ansible-playbook pynomaly.ops.restore -e confirm=restore:pynomaly")
    wrong = text.confirmation_problem("drop:x\n", "restore", "pynomaly", "pynomaly.ops.restore")
    assert "seen: confirm=drop:x;" in wrong


def test_failure_is_the_task_and_what_it_said() -> None:
    task = {"name": "Pull images", "no_log": False}
    assert text.failure_text({"msg": "no such image"}, task) == "Pull images: no such image"
    assert text.failure_text({"msg": "rc 1", "stderr": "denied\n"}, task) == (
        "Pull images: rc 1: denied"
    )
    assert text.failure_text({}, {"action": "command"}) == "command: it failed without a message"
    assert text.failure_text({"stderr": "denied"}, {}) == "a task: denied"


def test_host_that_is_stopped_by_the_failure_of_another_says_so() -> None:
    assert text.failure_text({}, {}).startswith("stopped, because another host failed")


def test_failure_of_a_loop_is_what_its_failed_items_said() -> None:
    result = {
        "msg": "One or more items failed",
        "results": [
            {"failed": True, "msg": "no b"},
            {"failed": False, "msg": "fine"},
            {"failed": True, "msg": "no c"},
            {"failed": True, "msg": "no c"},
        ],
    }
    assert text.failure_text(result, {"name": "Pull"}) == "Pull: no b; no c"


@pytest.mark.parametrize(
    ("result", "task"),
    [
        ({"msg": "canary"}, {"name": "Set", "no_log": True}),
        ({"msg": "canary", "_ansible_no_log": True}, {"name": "Set"}),
        ({"msg": "canary", "censored": "hidden"}, {"name": "Set"}),
        (
            {"results": [{"failed": True, "msg": "canary", "_ansible_no_log": True}]},
            {"name": "Set"},
        ),
    ],
)
def test_failure_of_a_task_with_no_log_tells_nothing(result: Any, task: Any) -> None:
    said = text.failure_text(result, task)
    assert "canary" not in said
    assert said.startswith("Set: the error is hidden")


def test_failure_is_bounded() -> None:
    assert len(text.failure_text({"msg": "x" * 9000}, {"name": "t"})) == 2000
