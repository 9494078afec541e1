# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock and the journal on real filesystems, under real processes that die at any moment."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    RESERVE_BYTES,
    OperationStore,
    StoreError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    DamagedLock,
    Lock,
    LockHeldError,
    OperationError,
    RunIdentity,
    decode_lock,
    journal_record,
    open_temporary_states,
    summarize_operations,
)

ALICE = RunIdentity("3f2a0000-0000-4000-8000-000000000001", "alice", "ws1")
BOB = RunIdentity("7c110000-0000-4000-8000-000000000002", "bob", "ws2")
PROCESS_TIMEOUT_SECONDS = 60

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a filesystem: needs root")

#: Runs one method of the store, and kills itself before the filesystem call of the given number.
DRIVER = """
import os, signal, sys
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import operation_store
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    LockHeldError, RunIdentity)

directory, verb, run_id, takeover, fatal_call = sys.argv[1:]
calls = 0

def counted(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls == int(fatal_call):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

FILESYSTEM_CALLS = ("open", "write", "fsync", "link", "rename", "replace", "unlink", "mkdir",
                    "chmod", "fchmod", "ftruncate", "posix_fallocate", "close")
store = operation_store.OperationStore(directory)
identity = RunIdentity(run_id, "user", "controller")
for name in FILESYSTEM_CALLS:
    setattr(os, name, counted(getattr(os, name)))
try:
    if verb == "acquire":
        store.acquire(identity, "deploy", "pynomaly", host="h", playbook="p", takeover=takeover)
    else:
        store.finish(identity, "deploy", "pynomaly", outcome="finished")
except LockHeldError:
    os._exit(3)
os._exit(0)
"""


def drive(
    directory: Path, verb: str, run_id: str, takeover: str = "", fatal_call: int = 0
) -> subprocess.Popen[bytes]:
    arguments = [str(directory), verb, run_id, takeover, str(fatal_call)]
    return subprocess.Popen([sys.executable, "-c", DRIVER, *arguments])


def acquire(store: OperationStore, identity: RunIdentity, **more: Any) -> Any:
    operation = more.pop("operation", "deploy")
    return store.acquire(
        identity, operation, "pynomaly", host="node1", playbook="pynomaly.ops.deploy", **more
    )


def finish(store: OperationStore, identity: RunIdentity, **more: Any) -> Any:
    options = {"outcome": "finished", **more}
    operation = options.pop("operation", "deploy")
    return store.finish(identity, operation, "pynomaly", **options)


def record(event: str = "step", **more: Any) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.timezone.utc)
    options = {"identity": ALICE, "operation": "deploy", "project": "pynomaly", **more}
    return journal_record(time=now, event=event, **options)


def events(store: OperationStore) -> list[str]:
    return [entry["event"] for entry in store.read()[1].records]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture()
def store(tmp_path: Path) -> OperationStore:
    return OperationStore(str(tmp_path / "state"))


@pytest.fixture()
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(place)],
        check=True,
        timeout=30,
    )
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=30)


def fill(place: Path) -> None:
    """Writes until the disk has no block left."""
    descriptor = os.open(place / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for size in (65536, 4096, 1):
            try:
                while True:
                    os.write(descriptor, b"x" * size)
            except OSError:
                continue
    finally:
        os.close(descriptor)


def test_lock_and_journal_from_taking_to_releasing(store: OperationStore) -> None:
    acquired = acquire(store, ALICE)
    assert acquired.changed and acquired.taken_over is None
    assert store.read_lock() == acquired.lock
    assert (store.directory.stat().st_mode & 0o777, store.lock_path.stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )
    assert store.journal_path.stat().st_mode & 0o777 == 0o600
    ending = finish(store, ALICE, changed=True, summary="version 1.3", undo="undo it")
    assert (ending.released, ending.recorded, ending.lock) == (True, True, None)
    assert store.read_lock() is None
    (entry,) = summarize_operations(store.read()[1].records, None)
    assert (entry.outcome, entry.changed, entry.undo) == ("finished", True, "undo it")


def test_releasing_twice_changes_nothing(store: OperationStore) -> None:
    acquire(store, ALICE)
    finish(store, ALICE)
    before = contents(store.directory)
    ending = finish(store, ALICE)
    assert not ending.released and not ending.recorded
    assert contents(store.directory) == before


def test_releasing_where_nothing_ever_was_makes_nothing(store: OperationStore) -> None:
    ending = finish(store, ALICE)
    assert not ending.released and not ending.recorded
    assert not store.directory.exists()


def test_another_run_is_refused_and_cannot_release(store: OperationStore) -> None:
    acquire(store, ALICE)
    before = contents(store.directory)
    with pytest.raises(
        LockHeldError, match="host node1 is locked; seen: deploy of pynomaly by ali"
    ):
        acquire(store, BOB)
    ending = finish(store, BOB)
    assert not ending.released and not ending.recorded
    assert isinstance(ending.lock, Lock) and ending.lock.run_id == ALICE.run_id
    assert contents(store.directory) == before


def test_operation_nested_in_the_same_run_leaves_the_lock_to_the_outer_one(
    store: OperationStore,
) -> None:
    acquire(store, ALICE)
    assert not acquire(store, ALICE).changed
    assert acquire(store, ALICE, operation="backup").changed
    inner = finish(store, ALICE, operation="backup")
    assert (inner.released, inner.recorded) == (False, True)
    assert store.read_lock() is not None
    assert finish(store, ALICE).released
    assert events(store) == ["started", "started", "finished", "finished"]


def test_takeover_needs_the_run_that_is_there(store: OperationStore) -> None:
    acquire(store, ALICE)
    with pytest.raises(LockHeldError, match="was not taken over"):
        acquire(store, BOB, takeover=BOB.run_id)
    with pytest.raises(LockHeldError, match="was not taken over"):
        acquire(store, BOB, takeover=ALICE.run_id[:8])
    assert events(store) == ["started"]
    taken = acquire(store, BOB, takeover=ALICE.run_id)
    assert taken.changed and taken.taken_over.run_id == ALICE.run_id
    assert events(store) == ["started", "takeover", "started"]
    late = finish(store, ALICE)
    assert (late.released, late.recorded) == (False, True)
    assert isinstance(late.lock, Lock) and late.lock.run_id == BOB.run_id


def test_damaged_lock_is_held_until_taken_over_by_its_bytes(store: OperationStore) -> None:
    acquire(store, ALICE)
    finish(store, ALICE)
    store.lock_path.write_bytes(b'{"operation": "dep')
    damaged = store.read_lock()
    assert isinstance(damaged, DamagedLock)
    with pytest.raises(LockHeldError, match="cannot be read"):
        acquire(store, BOB)
    assert acquire(store, BOB, takeover=damaged.run_id).lock.run_id == BOB.run_id


def test_dry_run_tells_and_writes_nothing(store: OperationStore) -> None:
    assert acquire(store, ALICE, dry_run=True).changed
    assert store.append(record(), dry_run=True)
    assert not finish(store, ALICE, dry_run=True).released
    assert not store.directory.exists()
    acquire(store, ALICE)
    before = contents(store.directory)
    with pytest.raises(LockHeldError):
        acquire(store, BOB, dry_run=True)
    assert acquire(store, BOB, takeover=ALICE.run_id, dry_run=True).changed
    assert finish(store, ALICE, dry_run=True).released
    assert contents(store.directory) == before


def test_of_twenty_at_once_exactly_one_gets_the_lock(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    processes = [
        drive(directory, "acquire", f"{number:08d}-0000-4000-8000-000000000000")
        for number in range(20)
    ]
    codes = [process.wait(PROCESS_TIMEOUT_SECONDS) for process in processes]
    assert sorted(codes) == [0] + [3] * 19
    store = OperationStore(str(directory))
    lock, journal = store.read()
    assert isinstance(lock, Lock)
    winner = f"{codes.index(0):08d}-0000-4000-8000-000000000000"
    assert lock.run_id == winner
    assert [entry["run_id"] for entry in journal.records] == [winner]


def test_of_eight_takeovers_at_once_exactly_one_succeeds(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    store = OperationStore(str(directory))
    acquire(store, ALICE)
    runs = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(8)]
    processes = [drive(directory, "acquire", run, ALICE.run_id) for run in runs]
    codes = [process.wait(PROCESS_TIMEOUT_SECONDS) for process in processes]
    assert sorted(codes) == [0] + [3] * 7
    lock = store.read_lock()
    assert isinstance(lock, Lock) and lock.run_id == runs[codes.index(0)]
    assert events(store) == ["started", "takeover", "started"]


def check_whole_or_absent(store: OperationStore) -> None:
    if store.lock_path.exists():
        assert isinstance(decode_lock(store.lock_path.read_bytes()), Lock)
    assert not store.read()[1].damaged_lines


@pytest.mark.parametrize("verb", ["acquire", "takeover", "finish"])
def test_killed_before_any_filesystem_call_leaves_no_lock_or_a_whole_one(
    tmp_path: Path, verb: str
) -> None:
    killed = 0
    for fatal_call in range(1, 200):
        store = OperationStore(str(tmp_path / str(fatal_call)))
        if verb != "acquire":
            acquire(store, ALICE)
        runner = BOB if verb == "takeover" else ALICE
        takeover = ALICE.run_id if verb == "takeover" else ""
        process = drive(
            store.directory, "finish" if verb == "finish" else "acquire", runner.run_id, takeover,
            fatal_call,
        )  # fmt: skip
        code = process.wait(PROCESS_TIMEOUT_SECONDS)
        check_whole_or_absent(store)
        lock = store.read_lock()
        after = RunIdentity("99990000-0000-4000-8000-000000000009", "carol", "ws3")
        if lock is not None:
            with pytest.raises(LockHeldError):
                acquire(store, after)
        assert acquire(store, after, takeover=lock.run_id if lock else "").changed
        assert finish(store, after).released
        assert not [path for path in store.directory.iterdir() if path.name.startswith(".")]
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
    else:
        pytest.fail("the process was killed two hundred times and never came to its end")
    assert killed >= 8


def test_torn_last_line_is_told_and_keeps_a_line_to_itself(store: OperationStore) -> None:
    store.append(record(summary="first"))
    store.append(record(summary="second"))
    size = store.journal_path.stat().st_size
    os.truncate(store.journal_path, size - 30)
    journal = store.read()[1]
    assert [entry["summary"] for entry in journal.records] == ["first"]
    assert [entry["line"] for entry in journal.damaged_lines] == [2]
    store.append(record(summary="third"))
    journal = store.read()[1]
    assert [entry["summary"] for entry in journal.records] == ["first", "third"]
    assert [entry["line"] for entry in journal.damaged_lines] == [2]


def test_appends_of_many_processes_are_all_there(tmp_path: Path) -> None:
    code = (
        "import datetime, sys\n"
        "from ansible_collections.pynomaly.ops.plugins.module_utils import _operation as o\n"
        "from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store "
        "import OperationStore\n"
        "store = OperationStore(sys.argv[1])\n"
        "run = o.RunIdentity(sys.argv[2], 'u', 'c')\n"
        "for number in range(25):\n"
        "    now = datetime.datetime.now(datetime.timezone.utc)\n"
        "    store.append(o.journal_record(time=now, event='step', identity=run, operation='x',\n"
        "                                  project='p', summary=str(number) + 'y' * 3000))\n"
    )
    directory = str(tmp_path / "state")
    arguments = [[sys.executable, "-c", code, directory, str(number)] for number in range(6)]
    processes = [subprocess.Popen(argument) for argument in arguments]
    assert [process.wait(PROCESS_TIMEOUT_SECONDS) for process in processes] == [0] * 6
    journal = OperationStore(directory).read()[1]
    assert journal.damaged_lines == []
    for number in range(6):
        written = [entry["summary"] for entry in journal.records if entry["run_id"] == str(number)]
        assert [text.rstrip("y") for text in written] == [str(count) for count in range(25)]


def test_temporary_state_is_opened_and_closed_once(store: OperationStore) -> None:
    opening = record("temporary_opened", temporary_state="page", undo="live")
    closing = record("temporary_closed", temporary_state="page")
    assert not store.append(closing)
    assert store.append(opening)
    assert not store.append(opening)
    assert [entry["undo"] for entry in open_temporary_states(store.read()[1].records)] == ["live"]
    assert store.append(closing)
    assert not store.append(closing)
    assert open_temporary_states(store.read()[1].records) == []
    assert events(store) == ["temporary_opened", "temporary_closed"]


def test_record_that_is_too_long_is_refused_before_anything_is_written(
    store: OperationStore,
) -> None:
    with pytest.raises(OperationError, match="expected at most"):
        store.append(record(summary="x" * 70000))
    assert not store.directory.exists()


@needs_root
def test_full_disk_leaves_nothing_half_done_and_says_what_to_do(small_disk: Path) -> None:
    store = OperationStore(str(small_disk))
    store.append(record(summary="before"))
    fill(small_disk)
    before = store.journal_path.read_bytes()
    with pytest.raises(StoreError, match="No space left") as refusal:
        acquire(store, ALICE)
    assert f"next: free some space: df -h {small_disk}" in str(refusal.value)
    assert store.read_lock() is None
    with pytest.raises(StoreError, match="No space left"):
        for _number in range(3):
            store.append(record(summary="y" * 4000))
    assert store.journal_path.read_bytes().startswith(before)
    assert store.read()[1].damaged_lines == []
    assert not list(small_disk.glob(".lock.json*"))


@needs_root
def test_reserve_lets_the_operation_run_that_frees_a_full_disk(small_disk: Path) -> None:
    store = OperationStore(str(small_disk))
    acquire(store, ALICE)
    finish(store, ALICE)
    assert store.reserve_path.stat().st_blocks * 512 >= RESERVE_BYTES
    fill(small_disk)
    assert acquire(store, BOB).changed
    assert not store.reserve_path.exists()
    (small_disk / "filler").unlink()
    assert finish(store, BOB, summary="freed 0.9 MB").recorded
    acquire(store, ALICE)
    assert store.reserve_path.exists()


@needs_root
def test_lock_is_released_where_the_outcome_cannot_be_written(small_disk: Path) -> None:
    store = OperationStore(str(small_disk))
    acquire(store, ALICE)
    store.reserve_path.unlink()
    fill(small_disk)
    with pytest.raises(StoreError, match="the end of the operation could not be written"):
        finish(store, ALICE, summary="z" * 8000)
    assert store.read_lock() is None


@needs_root
def test_read_only_filesystem_is_read_and_not_written(small_disk: Path) -> None:
    store = OperationStore(str(small_disk))
    store.append(record(summary="before"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, timeout=30)
    with pytest.raises(StoreError) as refusal:
        acquire(store, ALICE)
    assert str(refusal.value) == (
        f"what: the lock could not be taken in {small_disk}; seen: Read-only file system; "
        "expected: a filesystem that can be written; "
        f"next: find out why it is read-only: findmnt -T {small_disk}; dmesg | tail -n 50"
    )
    assert events(store) == ["step"]
    assert acquire(store, ALICE, dry_run=True).changed


def test_busy_directory_is_waited_for_only_so_long(store: OperationStore) -> None:
    store.append(record())
    impatient = OperationStore(str(store.directory), step_timeout_seconds=0.2)
    descriptor = os.open(store.directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"busy for 0\.2 s"):
            acquire(impatient, ALICE)
        with pytest.raises(StoreError, match="another process is at work"):
            impatient.read()
    finally:
        os.close(descriptor)
    assert acquire(impatient, ALICE).changed


def test_symbolic_link_is_no_place_for_a_lock(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="no symbolic link"):
        acquire(OperationStore(str(tmp_path / "state")), ALICE)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StoreError, match=r"File exists.*expected: a directory of root's own"):
        acquire(OperationStore(str(tmp_path / "state")), ALICE)


def test_directory_open_to_others_is_closed(store: OperationStore) -> None:
    store.directory.mkdir(mode=0o755)
    acquire(store, ALICE)
    assert store.directory.stat().st_mode & 0o777 == 0o700


def test_journal_is_json_lines_that_others_can_read(store: OperationStore) -> None:
    acquire(store, ALICE)
    (line,) = store.journal_path.read_text().splitlines()
    raw = json.loads(line)
    assert (raw["schema_version"], raw["event"], raw["user"]) == (1, "started", "alice")
