# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import json
import uuid
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _operation as operation
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    DamagedLock,
    OperationError,
    RunIdentity,
)

NOW = datetime.datetime(2026, 11, 24, 12, 0, 0, tzinfo=datetime.timezone.utc)
ALICE = RunIdentity("3f2a0000-0000-4000-8000-000000000001", "alice", "ws1", "2.19.14")
BOB = RunIdentity("7c110000-0000-4000-8000-000000000002", "bob", "ws2", "2.19.14", "42")


def at(minutes: float) -> datetime.datetime:
    return NOW + datetime.timedelta(minutes=minutes)


def record(event: str, minutes: float = 0, identity: RunIdentity = ALICE, **more: Any) -> Any:
    options = {"operation": "deploy", "project": "pynomaly", **more}
    return operation.journal_record(time=at(minutes), event=event, identity=identity, **options)


def opened(state: str, minutes: float = 0, **more: Any) -> Any:
    more = {"undo": "ansible-playbook pynomaly.ops.live", **more}
    return record("temporary_opened", minutes, temporary_state=state, **more)


def closed(state: str, minutes: float = 0, **more: Any) -> Any:
    return record("temporary_closed", minutes, temporary_state=state, **more)


def test_time_survives_writing_and_reading() -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc)
    assert operation.utc_text(moment) == "2026-01-02T03:04:05.678Z"
    assert operation.parse_utc("2026-01-02T03:04:05.678Z") == moment.replace(microsecond=678000)
    assert operation.parse_utc("2026-01-02T05:04:05+02:00") == moment.replace(microsecond=0)
    assert operation.parse_utc("2026-01-02").tzinfo is datetime.timezone.utc
    east = datetime.timezone(datetime.timedelta(hours=9))
    assert operation.utc_text(moment.astimezone(east)) == "2026-01-02T03:04:05.678Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", NOW - datetime.timedelta(minutes=90)),
        ("24h", NOW - datetime.timedelta(hours=24)),
        (" 7d ", NOW - datetime.timedelta(days=7)),
        ("2w", NOW - datetime.timedelta(weeks=2)),
        ("2026-11-01", datetime.datetime(2026, 11, 1, tzinfo=datetime.timezone.utc)),
    ],
)
def test_since_takes_periods_and_dates(text: str, expected: datetime.datetime) -> None:
    assert operation.parse_since(text, NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "5y", "-3d", "2026-13-01", "99999999999w"])
def test_since_refuses_anything_else_and_says_what_it_takes(text: str) -> None:
    with pytest.raises(OperationError, match="expected a period like 24h"):
        operation.parse_since(text, NOW)


def test_run_id_is_a_uuid_made_of_the_key_alone() -> None:
    first = operation.run_id_from(b"a" * 32)
    assert first == operation.run_id_from(b"a" * 32) != operation.run_id_from(b"b" * 32)
    assert uuid.UUID(first).version == 4


@pytest.mark.parametrize(
    ("environment", "variables", "expected"),
    [
        ({}, {}, "root"),
        ({"SUDO_USER": "alice"}, {}, "alice"),
        ({"SUDO_USER": ""}, {}, "root"),
        ({"SUDO_USER": "alice"}, {"awx_user_name": "carol"}, "carol"),
        ({}, {"tower_user_name": "dave", "awx_schedule_name": "nightly"}, "dave"),
        ({}, {"awx_user_name": "", "awx_schedule_name": "nightly"}, "schedule nightly"),
    ],
)
def test_user_is_the_person_behind_the_run(environment: Any, variables: Any, expected: str) -> None:
    assert operation.identify_user("root", environment, variables) == expected


def test_lock_is_read_back_as_it_was_written() -> None:
    lock = operation.new_lock(NOW, BOB, "deploy", "pynomaly")
    assert operation.decode_lock(operation.encode_lock(lock)) == lock
    assert lock.owned_by(BOB.run_id, "deploy", "pynomaly")
    assert not lock.owned_by(BOB.run_id, "backup", "pynomaly")
    assert not lock.owned_by(ALICE.run_id, "deploy", "pynomaly")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"run_id": "x"}',
        b'{"operation": "deploy", "run_id": "", "schema_version": 1, "started_at": "2026-01-01"}',
        b'{"operation": "deploy", "run_id": "x", "schema_version": 1, "started_at": "soon"}',
    ],
)
def test_lock_that_cannot_be_read_is_still_a_lock(data: bytes) -> None:
    lock = operation.decode_lock(data)
    assert isinstance(lock, DamagedLock)
    assert lock.run_id.startswith("damaged-")
    assert lock.problem
    wanted = operation.new_lock(NOW, ALICE, "deploy", "pynomaly")
    assert not operation.may_take(lock, wanted, "")
    assert operation.may_take(lock, wanted, lock.run_id)


def test_damaged_locks_are_told_apart_by_their_bytes() -> None:
    assert operation.decode_lock(b"{").run_id != operation.decode_lock(b"{{").run_id


def test_lock_is_returned_with_its_age_never_negative() -> None:
    lock = operation.new_lock(NOW, ALICE, "deploy", "pynomaly")
    told = operation.lock_to_dict(lock, at(2))
    assert told is not None
    assert (told["age_seconds"], told["damaged"], told["user"]) == (120.0, False, "alice")
    early = operation.lock_to_dict(lock, at(-2))
    assert early is not None and early["age_seconds"] == 0
    assert operation.lock_to_dict(None, NOW) is None
    damaged = operation.lock_to_dict(DamagedLock("damaged-1", "empty"), NOW)
    assert damaged == {"damaged": True, "run_id": "damaged-1", "problem": "empty"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 seconds"),
        (0.4, "0 seconds"),
        (1, "1 second"),
        (59, "59 seconds"),
        (725, "12 minutes"),
        (3600, "1 hour"),
        (11100, "3 hours 5 minutes"),
        (90000, "1 day 1 hour"),
    ],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert operation.describe_duration(seconds) == text


def test_second_run_is_told_who_since_when_and_what_to_run() -> None:
    lock = operation.new_lock(at(-12), BOB, "deploy", "pynomaly")
    message = operation.locked_message("node1", lock, "", "pynomaly.ops.backup", NOW)
    assert message == (
        "what: host node1 is locked; seen: deploy of pynomaly by bob@ws2 (AWX job 42) since "
        f"2026-11-24 11:48:00 UTC (12 minutes ago), run {BOB.run_id}; "
        "expected: no operation running; next: wait for it to end, or if that run is dead: "
        f"ansible-playbook pynomaly.ops.backup -e pynomaly_takeover={BOB.run_id}"
    )


def test_wrong_takeover_is_told_both_runs() -> None:
    lock = operation.new_lock(at(-12), BOB, "deploy", "pynomaly")
    message = operation.locked_message("node1", lock, "other", "pynomaly.ops.backup", NOW)
    assert "was not taken over" in message
    assert f"run {BOB.run_id}" in message
    assert "expected: the lock of run other" in message
    assert message.endswith(f"-e pynomaly_takeover={BOB.run_id}")


def test_damaged_lock_can_be_taken_over_by_what_the_message_says() -> None:
    message = operation.locked_message("node1", DamagedLock("damaged-1", "empty"), "", "p", NOW)
    assert "cannot be read (empty)" in message
    assert message.endswith("-e pynomaly_takeover=damaged-1")


def test_lock_is_taken_when_free_or_named_only() -> None:
    bobs = operation.new_lock(NOW, BOB, "deploy", "pynomaly")
    wanted = operation.new_lock(NOW, ALICE, "deploy", "pynomaly")
    assert operation.may_take(None, wanted, "")
    assert operation.may_take(None, wanted, "anything")
    assert not operation.may_take(bobs, wanted, "")
    assert not operation.may_take(bobs, wanted, BOB.run_id[:8])
    assert operation.may_take(bobs, wanted, BOB.run_id)
    assert operation.held_by_run(bobs, BOB.run_id)
    assert not operation.held_by_run(bobs, ALICE.run_id)
    assert not operation.held_by_run(None, ALICE.run_id)


def test_record_has_every_field() -> None:
    written = record("finished", changed=True, summary="done", undo="u", details={"tag": "1.2"})
    assert written == {
        "schema_version": 1,
        "time": "2026-11-24T12:00:00.000Z",
        "run_id": ALICE.run_id,
        "operation": "deploy",
        "project": "pynomaly",
        "event": "finished",
        "user": "alice",
        "controller": "ws1",
        "awx_job_id": "",
        "ansible_version": "2.19.14",
        "outcome": "finished",
        "changed": True,
        "summary": "done",
        "undo": "u",
        "temporary_state": "",
        "details": {"tag": "1.2"},
    }
    assert record("step")["outcome"] is None


@pytest.mark.parametrize(
    ("event", "options", "message"),
    [
        ("done", {}, "event is 'done', expected one of started"),
        ("step", {"operation": ""}, "operation is empty"),
        ("temporary_opened", {"undo": "x"}, "temporary_state is empty"),
        ("temporary_closed", {}, "temporary_state is empty"),
        ("temporary_opened", {"temporary_state": "page"}, "undo is empty"),
        ("step", {"temporary_state": "page"}, "with event step"),
        ("step", {"details": {"db": [{"api-key": 1}]}}, r"db\[0\]\.api-key looks like a secret"),
    ],
)
def test_record_refuses(event: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OperationError, match=message):
        record(event, **options)


@pytest.mark.parametrize(
    "key",
    ["password", "PGPASSWORD", "db_passwd", "client_secret", "token", "private_key", "ApiKey"],
)
def test_keys_that_look_like_secrets_are_found(key: str) -> None:
    assert operation.find_secret_keys({"a": {key: "x"}}) == [f"a.{key}"]


def test_ordinary_keys_are_not_taken_for_secrets() -> None:
    assert operation.find_secret_keys({"key": 1, "passes": 2, "primary_key": [{"tag": 3}]}) == []


def test_record_becomes_one_line_of_bounded_length() -> None:
    line = operation.encode_record(record("step", summary="two\nlines"))
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    with pytest.raises(OperationError, match="expected at most 65536"):
        operation.encode_record(record("step", summary="x" * 70000))
    with pytest.raises(OperationError, match="not JSON"):
        operation.encode_record(record("step", details={"x": float("nan")}))


def test_damaged_lines_do_not_hide_the_others() -> None:
    good = operation.encode_record(record("started"))
    unknown = json.dumps({**record("step"), "event": "party"}).encode()
    numeric = json.dumps({**record("step"), "run_id": 5}).encode()
    lines = [good, good[:40] + b"\n", b"\n", b"\xff\n", unknown, b"17\n", numeric, good]
    journal = operation.decode_journal(lines)
    assert list(journal.records) == [record("started"), record("started")]
    assert [entry["line"] for entry in journal.damaged_lines] == [2, 4, 5, 6, 7]
    assert all(entry["problem"] for entry in journal.damaged_lines)


def test_open_temporary_states_are_what_nothing_closed() -> None:
    records = [
        opened("page", 0),
        opened("block", 1),
        opened("page", 2, project="other"),
        closed("page", 3),
        opened("block", 4, details={"address": "192.0.2.7"}),
        closed("never_opened", 5),
    ]
    still = operation.open_temporary_states(records)
    assert [(entry["project"], entry["temporary_state"]) for entry in still] == [
        ("pynomaly", "block"),
        ("other", "page"),
    ]
    assert still[0]["details"] == {"address": "192.0.2.7"}
    assert operation.open_temporary_states([]) == []


def test_only_news_is_written_about_temporary_states() -> None:
    assert operation.is_news(record("step"), [record("step")])
    assert operation.is_news(opened("page"), [])
    assert not operation.is_news(opened("page", 5), [opened("page")])
    assert operation.is_news(opened("page", undo="other"), [opened("page")])
    assert operation.is_news(opened("page", details={"a": 1}), [opened("page")])
    assert operation.is_news(closed("page"), [opened("page")])
    assert not operation.is_news(closed("page"), [opened("page"), closed("page")])
    assert not operation.is_news(closed("page"), [])


def test_unfinished_is_started_and_not_ended_by_that_very_operation() -> None:
    def unfinished(*records: Any) -> bool:
        return operation.is_unfinished(records, ALICE.run_id, "deploy", "pynomaly")

    assert not unfinished()
    assert unfinished(record("started"))
    assert unfinished(record("started"), record("finished", operation="backup"))
    assert unfinished(record("started"), record("finished", identity=BOB))
    assert not unfinished(record("started"), record("failed"))
    assert unfinished(record("started"), record("failed"), record("started"))


def test_operations_are_summarized_with_outcome_and_duration() -> None:
    records = [
        record("started", 0),
        record("started", 1, operation="backup"),
        record("step", 2, operation="backup", summary="dumped"),
        record("finished", 3, operation="backup", changed=True, summary="4.7 MB", undo="rm it"),
        record("failed", 5, summary="no image"),
        record("step", 6, identity=BOB, operation="note", summary="by hand", undo="u"),
        record("finished", 7, identity=BOB, operation="orphan"),
    ]
    deploy, backup, note, orphan = operation.summarize_operations(records, None)
    assert (deploy.outcome, deploy.duration_seconds, deploy.summary) == ("failed", 300, "no image")
    assert (backup.outcome, backup.duration_seconds, backup.changed) == ("finished", 120, True)
    assert (backup.undo, backup.steps) == ("rm it", ["dumped"])
    assert (note.outcome, note.summary, note.undo) == ("noted", "by hand", "u")
    assert (orphan.outcome, orphan.duration_seconds) == ("finished", None)


def test_operation_without_end_is_running_unfinished_or_taken_over() -> None:
    started = record("started", 0)
    lock = operation.new_lock(at(0), ALICE, "deploy", "pynomaly")
    assert operation.summarize_operations([started], lock)[0].outcome == "running"
    assert operation.summarize_operations([started], None)[0].outcome == "unfinished"
    takeover = record("takeover", 5, identity=BOB, details={"run_id": ALICE.run_id})
    bobs = record("started", 5, identity=BOB)
    dead, alive = operation.summarize_operations(
        [started, takeover, bobs], operation.new_lock(at(5), BOB, "deploy", "pynomaly")
    )
    assert (dead.outcome, dead.taken_over_by) == ("taken over", BOB.run_id)
    assert alive.outcome == "running"
    late = record("finished", 9)
    returned = operation.summarize_operations([started, takeover, bobs, late], None)[0]
    assert (returned.outcome, returned.taken_over_by) == ("finished", BOB.run_id)


def test_clock_set_back_gives_no_negative_duration() -> None:
    (entry,) = operation.summarize_operations([record("started", 5), record("finished", 0)], None)
    assert entry.duration_seconds == 0


def test_same_operation_twice_in_a_run_is_two_entries() -> None:
    records = [record("started"), record("finished", 1), record("started", 2), record("failed", 3)]
    outcomes = [entry.outcome for entry in operation.summarize_operations(records, None)]
    assert outcomes == ["finished", "failed"]


def test_selection_by_everything() -> None:
    records = [
        record("started", 0),
        record("finished", 60),
        record("started", 90, identity=BOB, operation="backup", project="other"),
    ]
    entries = operation.summarize_operations(records, None)

    def selected(**wanted: Any) -> tuple[int, int]:
        return (
            len(operation.select_records(records, **wanted)),
            len(operation.select_operations(entries, **wanted)),
        )

    assert selected() == (3, 2)
    assert selected(since=at(30)) == (2, 2)
    assert selected(since=at(80)) == (1, 1)
    assert selected(operation="backup") == (1, 1)
    assert selected(project="pynomaly") == (2, 1)
    assert selected(run_id=ALICE.run_id[:8]) == (2, 1)
    assert selected(run_id=ALICE.run_id, operation="backup") == (0, 0)


def test_newest_first_within_the_limit() -> None:
    assert operation.newest_first([1, 2, 3], 2) == [3, 2]
    assert operation.newest_first([1, 2, 3], 0) == [3, 2, 1]
    assert operation.newest_first([], 5) == []
