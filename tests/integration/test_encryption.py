# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups encrypted with the real age, and what it says when it cannot."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.encryption import (
    decrypt_tree,
    encrypt_tree,
    unpack,
)

SECONDS = 60.0


@pytest.fixture(scope="module")
def key() -> tuple[str, str]:
    """Public and private key."""
    made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True, timeout=10)
    public = next(
        line.rpartition(" ")[2] for line in made.stdout.splitlines() if "public key" in line
    )
    return public, made.stdout


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def make(folder: Path) -> dict[str, bytes]:
    (folder / "dump").mkdir(parents=True)
    (folder / "dump" / "toc.dat").write_bytes(b"toc" * 1000)
    (folder / "dump" / "1.dat").write_bytes(bytes(range(256)) * 20_000)
    (folder / "globals.sql").write_text("CREATE ROLE canary PASSWORD 'canary-4711';\n")
    return tree(folder)


def test_what_was_encrypted_comes_back(tmp_path: Path, key: tuple[str, str]) -> None:
    public, private = key
    before = make(tmp_path / "backup")
    said = encrypt_tree(tmp_path / "backup", [public], SECONDS)
    assert said == {"method": "age", "recipients": [public]}
    encrypted = tree(tmp_path / "backup")
    assert sorted(encrypted) == ["dump.tar.age", "globals.sql.age"]
    assert all(b"canary-4711" not in data for data in encrypted.values())
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "backup").iterdir()}
    assert modes == {0o600}
    clear = tmp_path / "clear"
    clear.mkdir()
    decrypt_tree(tmp_path / "backup", clear, private, SECONDS)
    assert tree(clear) == before


def test_another_key_opens_nothing(tmp_path: Path, key: tuple[str, str]) -> None:
    make(tmp_path / "backup")
    encrypt_tree(tmp_path / "backup", [key[0]], SECONDS)
    other = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True, timeout=10)
    (tmp_path / "clear").mkdir()
    with pytest.raises(BackupError, match="age ended with exit code 1"):
        decrypt_tree(tmp_path / "backup", tmp_path / "clear", other.stdout, SECONDS)


def test_one_flipped_bit_is_refused(tmp_path: Path, key: tuple[str, str]) -> None:
    make(tmp_path / "backup")
    encrypt_tree(tmp_path / "backup", [key[0]], SECONDS)
    path = tmp_path / "backup" / "dump.tar.age"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (tmp_path / "clear").mkdir()
    with pytest.raises(BackupError):
        decrypt_tree(tmp_path / "backup", tmp_path / "clear", key[1], SECONDS)


def test_a_key_that_is_none_is_refused_and_the_clear_files_stay(
    tmp_path: Path, key: tuple[str, str]
) -> None:
    before = make(tmp_path / "backup")
    with pytest.raises(BackupError, match="expected age1"):
        encrypt_tree(tmp_path / "backup", ["nonsense"], SECONDS)
    with pytest.raises(BackupError, match="is a private key") as refused:
        encrypt_tree(tmp_path / "backup", [key[1].splitlines()[-1]], SECONDS)
    assert "AGE-SECRET" not in str(refused.value)
    assert tree(tmp_path / "backup") == before


def test_a_full_disk_ends_it_and_the_clear_files_stay(tmp_path: Path, key: tuple[str, str]) -> None:
    make(tmp_path / "backup")
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(tmp_path / "backup")],
        check=True,
        timeout=10,
    )
    try:
        (tmp_path / "backup" / "dump").mkdir()
        (tmp_path / "backup" / "dump" / "1.dat").write_bytes(bytes(4 * 1024 * 1024))
        with pytest.raises(BackupError, match="no space left"):
            encrypt_tree(tmp_path / "backup", [key[0]], SECONDS)
        assert (tmp_path / "backup" / "dump" / "1.dat").stat().st_size == 4 * 1024 * 1024
    finally:
        subprocess.run(["umount", str(tmp_path / "backup")], check=True, timeout=10)


def archive(members: list[tarfile.TarInfo]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    buffer.seek(0)
    return buffer


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = 1 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        member("../../etc/x"),
        member("/etc/x"),
        member("a/../../x"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("hard", tarfile.LNKTYPE, "good"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda one: one.name,
)
def test_a_hostile_archive_writes_nothing_outside(tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(BackupError, match="cannot be unpacked"):
        unpack(archive([member("good"), hostile]), inside)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside"]
    assert sorted(path.name for path in inside.iterdir()) == ["good"]
