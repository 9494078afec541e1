# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folders of backups: written aside, synced, and named only once they are whole."""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    FULL,
    KINDS,
    MANIFEST,
    MANIFEST_DIGEST,
    QUICK,
    STAGING_PREFIX,
    VERIFICATION,
    Backup,
    BackupError,
    BackupFile,
    Manifest,
    Verification,
    decode_manifest,
    decode_verifications,
    encode_manifest,
    encode_verifications,
    is_id,
    newest_first,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    ensure_directory,
    sync_directory,
    write_atomically,
)

_BLOCK_BYTES = 1024 * 1024
_HASHING_THREADS = 4
#: A manifest of ten thousand tables has some two megabytes.
_MANIFEST_MAX_BYTES = 256 * 1024 * 1024


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or "the backup directory"
        hint = {
            errno.ENOSPC: f"free some space, or move pynomaly_backup_dir: df -h {place}",
            errno.EDQUOT: f"free some space, or move pynomaly_backup_dir: df -h {place}",
            errno.EACCES: "run it as root: ansible-playbook … --become",
            errno.EROFS: f"find out why it is read-only: findmnt -T {place}",
        }.get(error.errno or 0, f"look at it: ls -la {place}")
        raise BackupError(f"{what}: {place}: {error.strerror or error}", hint) from error


class BackupStore:
    """All backups below one directory. Its methods raise L{BackupError}."""

    def __init__(self, directory: str, project: str) -> None:
        self.directory = Path(directory)
        self.project = project

    def folder(self, kind: str) -> Path:
        return self.directory / kind

    def path(self, kind: str, identifier: str) -> Path:
        return self.folder(kind) / identifier

    # Reading

    def backups(self, kinds: Sequence[str] = KINDS) -> list[Backup]:
        """The project's backups, newest first, damaged ones too. Nothing is hashed but manifests.

        A folder that is not there holds none.
        """
        found = []
        with _errors("the backups could not be read"):
            for kind in kinds:
                with contextlib.suppress(FileNotFoundError):
                    found += [
                        self._read(kind, entry, entry.name)
                        for entry in self.folder(kind).iterdir()
                        if self._is_own(entry.name) and entry.is_dir()
                    ]
        return newest_first(found)

    def _is_own(self, name: str) -> bool:
        return is_id(name) and name.rpartition("-")[0] == self.project

    def _read(self, kind: str, entry: Path, identifier: str) -> Backup:
        try:
            data = _bounded(entry / MANIFEST)
            promised = _bounded(entry / MANIFEST_DIGEST).decode(errors="replace").split()
        except FileNotFoundError as error:
            missing = Path(error.filename).name
            return Backup(kind, identifier, str(entry), problem=f"{missing} is missing")
        if promised[:1] != [hashlib.sha256(data).hexdigest()]:
            problem = f"{MANIFEST} differs from its checksum in {MANIFEST_DIGEST}"
            return Backup(kind, identifier, str(entry), problem=problem)
        try:
            manifest = decode_manifest(data)
        except BackupError as error:
            return Backup(kind, identifier, str(entry), problem=str(error))
        if (manifest.id, manifest.kind) != (identifier, kind):
            problem = f"{MANIFEST} is that of {manifest.kind} backup {manifest.id}"
            return Backup(kind, identifier, str(entry), problem=problem)
        full: Optional[Verification] = None
        quick: Optional[Verification] = None
        with contextlib.suppress(FileNotFoundError):
            full, quick = decode_verifications(_bounded(entry / VERIFICATION))
        return Backup(kind, identifier, str(entry), manifest, full=full, quick=quick)

    def used_bytes(self, kind: str) -> int:
        """What all of a kind's folder takes on the disk, whatever is in it."""
        with _errors("the backups could not be measured"):
            return sum(path.lstat().st_blocks * 512 for path in (*self.folder(kind).rglob("*"),))

    def free_bytes(self) -> int:
        """What the filesystem of the backups has left for root."""
        place = self.directory
        while not place.exists():
            place = place.parent
        with _errors("the free space could not be read"):
            figures = os.statvfs(place)
        return figures.f_bavail * figures.f_frsize

    def check_files(self, backup: Backup) -> list[str]:
        """What differs from the manifest: each file's size and SHA-256, and files too many."""
        if backup.manifest is None:
            return [backup.problem]
        root = Path(backup.path)
        with _errors("the backup could not be read"):
            seen = {
                str(path.relative_to(root)): path for path in root.rglob("*") if not path.is_dir()
            }
        own = {MANIFEST, MANIFEST_DIGEST, VERIFICATION}
        listed = {one.path: one for one in backup.manifest.files}
        problems = [f"{name} is missing" for name in sorted(set(listed) - set(seen))]
        problems += [
            f"{name} is not in the manifest" for name in sorted(set(seen) - set(listed) - own)
        ]
        present = [(listed[name], seen[name]) for name in sorted(set(listed) & set(seen))]
        with _errors("the backup could not be read"), _hashers() as pool:
            problems += [text for text in pool.map(_difference, present) if text]
        return problems

    # Writing

    def stage(self, kind: str, identifier: str) -> Path:
        """Make the folder that a backup is written to before it has its name, mode 0700."""
        with _errors("the backup could not be begun"):
            ensure_directory(self.folder(kind), 0o700)
            if self.path(kind, identifier).exists():
                raise BackupError(f"there is a {kind} backup {identifier} already")
            staging = self.folder(kind) / f"{STAGING_PREFIX}{identifier}"
            staging.mkdir(mode=0o700)
        return staging

    def stagings(self) -> list[Path]:
        """What runs that died have left, of this project: backups, and what was worked on beside
        one (``ID.PURPOSE``)."""
        return [
            path
            for kind in KINDS
            for path in sorted(self.folder(kind).glob(f"{STAGING_PREFIX}*"))
            if self._is_own(path.name[len(STAGING_PREFIX) :].partition(".")[0])
        ]

    def discard(self, path: Path) -> None:
        """Remove a staging folder, or a backup: first its name, then its files."""
        with _errors("a backup could not be removed"):
            if not path.name.startswith(STAGING_PREFIX):
                aside = path.with_name(f"{STAGING_PREFIX}{path.name}")
                path.rename(aside)
                sync_directory(aside.parent)
                path = aside
            shutil.rmtree(path)

    def publish(self, staging: Path, manifest: Manifest) -> Backup:
        """Hash and sync what is staged, write the manifest, and give the folder its name.

        ``manifest.files`` and ``manifest.stored_bytes`` are filled in here.
        """
        stored = sum(
            one.manifest.size_bytes for one in self.backups([manifest.kind]) if one.manifest
        )
        with _errors("the backup could not be finished"):
            files = tuple(hash_tree(staging))
            stored += sum(one.size_bytes for one in files)
            whole = replace(manifest, files=files, stored_bytes=stored)
            data = encode_manifest(whole)
            digest = f"{hashlib.sha256(data).hexdigest()}  {MANIFEST}\n"
            write_atomically(staging / MANIFEST, data, 0o600)
            write_atomically(staging / MANIFEST_DIGEST, digest, 0o600)
            for folder in (staging, *(path for path in staging.rglob("*") if path.is_dir())):
                sync_directory(folder)
            target = self.path(manifest.kind, manifest.id)
            staging.rename(target)
            sync_directory(target.parent)
        return Backup(manifest.kind, manifest.id, str(target), whole)

    def adopt(self, staging: Path) -> Backup:
        """Give a staged copy of a whole backup its name, once all its checksums hold."""
        kind, identifier = staging.parent.name, staging.name[len(STAGING_PREFIX) :]
        backup = self._read(kind, staging, identifier)
        problems = self.check_files(backup)
        if problems:
            raise BackupError(f"the copy of {kind} backup {identifier} is damaged: {problems[0]}")
        with _errors("the copy could not be finished"):
            hash_tree(staging)  # for its syncing
            target = self.path(kind, identifier)
            staging.rename(target)
            sync_directory(target.parent)
        return self._read(kind, target, identifier)

    def note_verification(self, backup: Backup, verification: Verification) -> None:
        """Write the proof beside the manifest, keeping the last one of the other method."""
        full = verification if verification.method == FULL else backup.full
        quick = verification if verification.method == QUICK else backup.quick
        with _errors("the verification could not be written"):
            write_atomically(
                Path(backup.path) / VERIFICATION, encode_verifications(full, quick), 0o600
            )


def hash_tree(root: Path) -> list[BackupFile]:
    """Size and SHA-256 of each file below a folder, each synced to the disk. Links and devices
    are no part of a backup: L{BackupError}. Raises C{OSError}."""
    paths = sorted(path for path in root.rglob("*") if not path.is_dir())
    for path in paths:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise BackupError(f"{path.name} is not a file, expected files alone in a backup")

    def one(path: Path) -> BackupFile:
        size, digest = _hash(path, sync=True)
        return BackupFile(path.relative_to(root).as_posix(), size, digest)

    with _hashers() as pool:
        return list(pool.map(one, paths))


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _hashers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_HASHING_THREADS, os.cpu_count() or 1))


def _hash(path: Path, sync: bool = False) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK_BYTES)
            if not block:
                break
            size += len(block)
            digest.update(block)
        if sync:
            os.fsync(file.fileno())
    return size, digest.hexdigest()


def _difference(pair: tuple[BackupFile, Path]) -> str:
    expected, path = pair
    if path.is_symlink() or not path.is_file():
        return f"{expected.path} is not a file"
    size = path.stat().st_size
    if size != expected.size_bytes:
        return f"{expected.path} has {size} bytes, expected {expected.size_bytes}"
    if _hash(path)[1] != expected.sha256:
        return f"{expected.path} differs from its SHA-256 in the manifest"
    return ""


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MANIFEST_MAX_BYTES)
