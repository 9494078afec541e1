# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folders of backups on a real filesystem, broken in each way that a disk or a kill can."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    Backup,
    BackupError,
    Manifest,
    new_id,
    new_verification,
    select,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

from .conftest import wait_until

NOW = datetime.datetime(2026, 11, 24, 3, 0, tzinfo=datetime.timezone.utc)
KIND = "database"


def manifest(identifier: str) -> Manifest:
    return Manifest(identifier, KIND, "shop", utc_text(NOW), 1.0, (), {"canary": "é"})


def make(store: BackupStore, days_ago: float = 0) -> Backup:
    """A whole backup with a file in a folder."""
    identifier = new_id("shop", NOW - datetime.timedelta(days=days_ago))
    staging = store.stage(KIND, identifier)
    (staging / "dump").mkdir()
    (staging / "dump" / "1.dat").write_bytes(os.urandom(3 * 1024 * 1024))
    (staging / "globals.sql").write_text("CREATE ROLE shop;\n")
    return store.publish(staging, manifest(identifier))


@pytest.fixture
def store(tmp_path: Path) -> BackupStore:
    return BackupStore(str(tmp_path / "backups"), "shop")


def the_only(store: BackupStore) -> Backup:
    (found,) = store.backups()
    return found


def test_what_is_published_is_found_whole_and_private(store: BackupStore) -> None:
    made = make(store)
    found = the_only(store)
    assert found == made
    assert store.check_files(found) == []
    assert [one.path for one in (found.manifest or manifest("x")).files] == [
        "dump/1.dat",
        "globals.sql",
    ]
    assert Path(found.path).stat().st_mode & 0o777 == 0o700
    assert (Path(found.path) / "manifest.json").stat().st_mode & 0o777 == 0o600
    assert store.stagings() == []


def test_everything_is_synced_before_the_name_and_the_name_after(
    store: BackupStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    really_sync, really_rename = os.fsync, Path.rename

    def sync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
        events.append(f"sync {os.path.relpath(path, store.directory)}")
        really_sync(descriptor)

    def rename(path: Path, target: Path) -> Path:
        events.append(f"name {target.relative_to(store.directory)}")
        return really_rename(path, target)

    identifier = new_id("shop", NOW)
    staging = store.stage(KIND, identifier)
    (staging / "dump").mkdir()
    (staging / "dump" / "1.dat").write_bytes(b"x")
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "rename", rename)
    store.publish(staging, manifest(identifier))
    named = events.index(f"name database/{identifier}")
    aside = f"database/.staging-{identifier}"
    before = events[:named]
    for path in (f"{aside}/dump/1.dat", f"{aside}/dump", aside):
        assert f"sync {path}" in before
    assert sum("manifest.json" in event for event in before) == 1
    assert before.index(f"sync {aside}/dump/1.dat") < before.index(f"sync {aside}")
    assert events[named + 1 :] == ["sync database"]


def test_a_truncated_file_is_told(store: BackupStore) -> None:
    made = make(store)
    os.truncate(Path(made.path) / "dump" / "1.dat", 1000)
    assert store.check_files(the_only(store)) == ["dump/1.dat has 1000 bytes, expected 3145728"]


def test_one_bit_flipped_is_told(store: BackupStore) -> None:
    made = make(store)
    with (Path(made.path) / "dump" / "1.dat").open("r+b") as file:
        file.seek(2_000_000)
        byte = file.read(1)[0]
        file.seek(2_000_000)
        file.write(bytes([byte ^ 1]))
    assert the_only(store).is_whole, "the files are looked at by check_files alone"
    assert store.check_files(the_only(store)) == [
        "dump/1.dat differs from its SHA-256 in the manifest"
    ]


def test_a_missing_and_an_extra_file_are_told(store: BackupStore) -> None:
    made = make(store)
    (Path(made.path) / "globals.sql").rename(Path(made.path) / "other.sql")
    assert store.check_files(the_only(store)) == [
        "globals.sql is missing",
        "other.sql is not in the manifest",
    ]


def test_a_link_in_a_files_place_is_told(store: BackupStore) -> None:
    made = make(store)
    target = Path(made.path) / "globals.sql"
    copy = store.directory / "copy.sql"
    target.rename(copy)
    target.symlink_to(copy)
    assert store.check_files(the_only(store)) == ["globals.sql is not a file"]


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256"])
def test_without_its_manifest_it_is_listed_and_never_chosen(store: BackupStore, name: str) -> None:
    whole, newest = make(store, 1), make(store)
    (Path(newest.path) / name).unlink()
    first, second = store.backups()
    assert (first.is_whole, first.problem) == (False, f"{name} is missing")
    assert store.check_files(first) == [f"{name} is missing"]
    assert second == whole
    assert select(store.backups(), "latest").id == whole.id
    with pytest.raises(BackupError, match=f"is damaged: {name} is missing"):
        select(store.backups(), newest.id)


def test_one_bit_of_the_manifest_is_told(store: BackupStore) -> None:
    path = Path(make(store).path) / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"duration_seconds": 1', b'"duration_seconds": 3'))
    assert the_only(store).problem == "manifest.json differs from its checksum in manifest.sha256"


def rewrite(backup: Backup, **changes: object) -> None:
    """Another manifest with a digest that fits: what a tool, and no disk, would do."""
    folder = Path(backup.path)
    raw = {**json.loads((folder / "manifest.json").read_text()), **changes}
    data = json.dumps(raw).encode()
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  manifest.json\n")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"files": []}, "lists no files"),
        ({"files": [{"path": "../x", "size_bytes": 1, "sha256": "0" * 64}]}, "leads out"),
        ({"files": [{"path": "/etc/x", "size_bytes": 1, "sha256": "0" * 64}]}, "leads out"),
        ({"format": 2}, "has format 2, expected 1"),
        ({"kind": "redis"}, "is that of redis backup"),
        ({"id": "shop-20200101T000000Z"}, "is that of database backup shop-2020"),
    ],
)
def test_a_manifest_that_says_something_else_is_not_used(
    store: BackupStore, changes: dict[str, object], problem: str
) -> None:
    rewrite(make(store), **changes)
    found = the_only(store)
    assert not found.is_whole
    assert problem in found.problem


def test_an_empty_backup_is_not_whole(store: BackupStore) -> None:
    identifier = new_id("shop", NOW)
    store.publish(store.stage(KIND, identifier), manifest(identifier))
    assert "lists no files" in the_only(store).problem


def test_a_link_is_no_part_of_a_backup(store: BackupStore) -> None:
    identifier = new_id("shop", NOW)
    staging = store.stage(KIND, identifier)
    (staging / "x").symlink_to("/etc/passwd")
    with pytest.raises(BackupError, match="x is not a file"):
        store.publish(staging, manifest(identifier))
    assert store.backups() == []


KILLED = """
import sys
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
staging = BackupStore(sys.argv[1], "shop").stage("database", sys.argv[2])
with (staging / "1.dat").open("wb") as file:
    while True:
        file.write(b"x" * 65536)
        file.flush()
        if file.tell() < 10_000_000:
            continue
        sys.stdout.write("busy\\n")
        sys.stdout.flush()
        sys.stdin.read()
"""


def test_what_a_killed_writer_leaves_is_no_backup(store: BackupStore) -> None:
    whole = make(store, 1)
    identifier = new_id("shop", NOW)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(store.directory), identifier],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"busy\n"
        writer.send_signal(signal.SIGKILL)
        assert writer.wait(10) == -signal.SIGKILL
    assert the_only(store) == whole
    (left,) = store.stagings()
    assert left.name == f".staging-{identifier}"
    with pytest.raises(BackupError, match="File exists"):
        store.stage(KIND, identifier)
    store.discard(left)
    assert store.stagings() == []
    store.stage(KIND, identifier)


def test_the_same_backup_cannot_be_begun_twice(store: BackupStore) -> None:
    made = make(store)
    with pytest.raises(BackupError, match=f"there is a database backup {made.id} already"):
        store.stage(KIND, made.id)
    assert the_only(store) == made


def test_another_projects_backups_are_not_touched(store: BackupStore) -> None:
    other = BackupStore(str(store.directory), "shop-two")
    identifier = new_id("shop-two", NOW)
    left = other.stage(KIND, identifier)
    assert store.backups() == []
    assert store.stagings() == []
    assert other.stagings() == [left]


def test_a_removed_backup_loses_its_name_first(
    store: BackupStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(store)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt(str(path))

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            store.discard(Path(made.path))
    assert store.backups() == []
    (left,) = store.stagings()
    store.discard(left)
    assert not left.exists()


def test_a_verification_keeps_the_other_methods_last_one(store: BackupStore) -> None:
    make(store)
    later = NOW + datetime.timedelta(hours=1)
    store.note_verification(the_only(store), new_verification(NOW, "full", [], {"tables": 3}))
    store.note_verification(the_only(store), new_verification(later, "quick", []))
    found = the_only(store)
    assert found.full is not None
    assert found.full.details == {"tables": 3}
    assert (found.is_verified, found.is_refuted, found.damage) == (True, False, "")
    store.note_verification(found, new_verification(later, "quick", ["1.dat is torn"]))
    assert (the_only(store).is_verified, the_only(store).damage) == (False, "1.dat is torn")
    (Path(found.path) / "verification.json").write_text("{torn")
    assert (the_only(store).is_verified, the_only(store).is_whole) == (False, True)
    assert store.check_files(the_only(store)) == []


def test_what_was_stored_is_remembered_by_each(store: BackupStore) -> None:
    sizes = []
    for days_ago in (2, 1, 0):
        made = make(store, days_ago).manifest
        assert made is not None
        sizes.append(made.stored_bytes)
    one = sizes[0]
    assert sizes == [one, 2 * one, 3 * one]
    assert store.used_bytes(KIND) > 3 * one


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "inttest-disk", str(place)],
        check=False,
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert mounted.returncode == 0, f"a tmpfs is needed to test a full disk: {mounted.stderr}"
    yield place
    subprocess.run(["umount", str(place)], check=True, timeout=10)


def test_a_disk_that_is_full_while_publishing_leaves_the_old_ones_alone(small_disk: Path) -> None:
    store = BackupStore(str(small_disk), "shop")
    identifiers = [new_id("shop", NOW - datetime.timedelta(days=days)) for days in (1, 0)]
    old = store.stage(KIND, identifiers[0])
    (old / "dump.bin").write_bytes(b"x" * 4096)
    whole = store.publish(old, manifest(identifiers[0]))
    staging = store.stage(KIND, identifiers[1])
    (staging / "dump.bin").write_bytes(b"x" * (store.free_bytes() - 4096))
    assert store.free_bytes() <= 4096
    (staging / "rest.bin").write_bytes(b"x" * store.free_bytes())
    with pytest.raises(BackupError, match="No space left on device") as raised:
        store.publish(staging, manifest(identifiers[1]))
    assert raised.value.hint.startswith("free some space, or move pynomaly_backup_dir")
    assert the_only(store) == whole
    assert store.check_files(whole) == []
    store.discard(staging)
    assert wait_until("space is free again", lambda: store.free_bytes() > 1_000_000, 5)
