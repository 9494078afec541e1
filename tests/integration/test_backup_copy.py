# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies in an S3-compatible store and in a folder, made and fetched by the real rclone."""

from __future__ import annotations

import datetime
import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    Backup,
    BackupError,
    Manifest,
    new_id,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_copy import (
    Offsite,
    OffsiteCopy,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

NOON = datetime.datetime(2026, 11, 24, 12, 0, 0, tzinfo=datetime.timezone.utc)
CANARY = "canary-secret-0815"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    """A remote that leads to an S3-compatible server with one bucket, ``backups``."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("PUT", "/backups")
                assert connection.getresponse().status == 200
                connection.close()
                break
            except (OSError, http.client.HTTPException):
                assert server.poll() is None, "the S3 server has ended"
                assert time.monotonic() < deadline, "the S3 server does not answer"
                time.sleep(0.1)
        yield {
            "type": "s3",
            "provider": "Other",
            "endpoint": url,
            "access_key_id": "lab",
            "secret_access_key": CANARY,
            "force_path_style": True,
        }
    finally:
        server.kill()
        server.wait(10)


def make(store: BackupStore, minute: int = 0) -> Backup:
    moment = NOON + datetime.timedelta(minutes=minute)
    identifier = new_id(store.project, moment)
    staging = store.stage("database", identifier)
    (staging / "dump").mkdir()
    (staging / "dump" / "toc.dat").write_bytes(b"toc")
    (staging / "dump" / "1.dat").write_bytes(os.urandom(300_000))
    (staging / "globals.sql").write_text("-- roles\n")
    manifest = Manifest(identifier, "database", store.project, utc_text(moment), 1.0, ())
    return store.publish(staging, manifest)


def test_a_copy_in_s3_is_whole_and_comes_back(tmp_path: Path, s3: dict[str, Any]) -> None:
    store = BackupStore(str(tmp_path / "here"), "shop")
    backup = make(store)
    copy = OffsiteCopy(Offsite(s3, "backups/server1", 60), store)
    assert copy.ids("database") == []
    assert copy.push(backup) is True
    assert copy.ids("database") == [backup.id]
    assert copy.push(backup) is False

    elsewhere = BackupStore(str(tmp_path / "there"), "shop")
    fetched = OffsiteCopy(Offsite(s3, "backups/server1", 60), elsewhere).pull("database", backup.id)
    assert fetched.manifest == backup.manifest
    assert elsewhere.check_files(fetched) == []
    assert elsewhere.stagings() == []

    second = make(store, 1)
    copy.push(second)
    assert copy.ids("database") == [second.id, backup.id]


def test_a_copy_that_was_damaged_there_is_not_taken(tmp_path: Path) -> None:
    store = BackupStore(str(tmp_path / "here"), "shop")
    backup = make(store)
    remote = {"type": "local"}
    place = tmp_path / "remote"
    OffsiteCopy(Offsite(remote, str(place), 60), store).push(backup)
    damaged = place / "database" / backup.id / "dump" / "1.dat"
    data = bytearray(damaged.read_bytes())
    data[1000] ^= 1
    damaged.write_bytes(data)
    elsewhere = BackupStore(str(tmp_path / "there"), "shop")
    with pytest.raises(BackupError, match=r"dump/1\.dat differs from its SHA-256"):
        OffsiteCopy(Offsite(remote, str(place), 60), elsewhere).pull("database", backup.id)
    assert elsewhere.backups() == []
    assert elsewhere.stagings() == []


def test_half_a_copy_is_none(tmp_path: Path) -> None:
    store = BackupStore(str(tmp_path / "here"), "shop")
    backup = make(store)
    place = tmp_path / "remote"
    copy = OffsiteCopy(Offsite({"type": "local"}, str(place), 60), store)
    half = place / "database" / backup.id
    shutil.copytree(backup.path, half)
    (half / "manifest.sha256").unlink()
    (half / "globals.sql").unlink()
    assert copy.ids("database") == []
    assert copy.push(backup) is True
    assert copy.ids("database") == [backup.id]


def test_an_old_part_with_other_bytes_is_not_covered_up(tmp_path: Path) -> None:
    store = BackupStore(str(tmp_path / "here"), "shop")
    backup = make(store)
    place = tmp_path / "remote"
    half = place / "database" / backup.id / "dump"
    half.mkdir(parents=True)
    (half / "1.dat").write_bytes(b"something else")
    copy = OffsiteCopy(Offsite({"type": "local"}, str(place), 60), store)
    with pytest.raises(BackupError, match="immutable"):
        copy.push(backup)
    assert (half / "1.dat").read_bytes() == b"something else"
    assert copy.ids("database") == []
    assert store.check_files(backup) == []


def test_a_place_that_does_not_answer_leaves_the_local_backup_good(
    tmp_path: Path, s3: dict[str, Any]
) -> None:
    store = BackupStore(str(tmp_path / "here"), "shop")
    backup = make(store)
    nowhere = {**s3, "endpoint": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(BackupError) as failed:
        OffsiteCopy(Offsite(nowhere, "backups", 60), store).push(backup)
    assert "refused" in str(failed.value)
    assert CANARY not in str(failed.value) + failed.value.hint
    assert "the local backup is good" in failed.value.hint
    assert store.check_files(backup) == []


@pytest.mark.parametrize(
    ("remote", "path", "words"),
    [
        ({}, "backups", "the remote has no type"),
        ({"type": "s3"}, "", "the path is empty"),
        ({"type": "local"}, "backups", "expected an absolute one"),
        ({"type": "s3", "Bad Option": "x"}, "backups", "is no option of rclone's"),
        ({"type": "s3", "secret_access_key": [CANARY]}, "backups", "is a list or a mapping"),
    ],
)
def test_a_remote_that_makes_no_sense_is_refused(
    tmp_path: Path, remote: dict[str, Any], path: str, words: str
) -> None:
    with pytest.raises(BackupError, match=words) as refused:
        OffsiteCopy(Offsite(remote, path, 10), BackupStore(str(tmp_path), "shop"))
    assert CANARY not in str(refused.value)
