# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tar archives of plain files, written and read as streams: memory does not grow with them."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Callable, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._encryption import (
    UnsafeMemberError,
    check_member,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._files_backup import Members, Remarks

_BLOCK_BYTES = 1024 * 1024
#: tarfile copies what it has buffered for each member: a large buffer is slow for many small ones.
_STREAM_BYTES = 32 * 1024
#: Models hardly shrink, and text shrinks at any level: a low one costs least.
_COMPRESSION_LEVEL = 3
#: An archive ends with two blocks of zeros (POSIX, pax interchange format).
_END_BYTES = 1024


class ArchiveWriter:
    """A tar.gz of mode 0600, of which C{members} tells. Raises C{OSError}."""

    def __init__(self, archive: tarfile.TarFile, deadline: Deadline) -> None:
        self._archive = archive
        self._deadline = deadline
        self.members = Members()

    def add_file(self, header: tarfile.TarInfo, content: IO[bytes]) -> None:
        """Write C{header.size} bytes of the content. Raises L{BackupError} once the deadline has
        passed, and C{tarfile.ReadError} where the content is shorter."""
        reader = _HashingReader(content, self._deadline)
        self._archive.addfile(header, reader)
        _forget(self._archive)
        self.members.add(header.name, header.size, reader.digest.hexdigest())

    def add_folder(self, header: tarfile.TarInfo) -> None:
        self._archive.addfile(header)
        _forget(self._archive)


def _forget(archive: tarfile.TarFile) -> None:
    """Drop what tarfile keeps of each member, for a use that a stream cannot have."""
    archive.members = []  # type: ignore[attr-defined]


class _HashingReader:
    def __init__(self, content: IO[bytes], deadline: Deadline) -> None:
        self._content = content
        self._deadline = deadline
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        if self._deadline.passed:
            raise BackupError(f"the archive was not finished within {self._deadline.seconds:g} s")
        data = self._content.read(size)
        self.digest.update(data)
        return data


@contextlib.contextmanager
def writing(path: Path, deadline: Deadline) -> Iterator[ArchiveWriter]:
    """An archive that is whole once the block has ended."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with (
        os.fdopen(descriptor, "wb") as file,
        gzip.GzipFile(
            filename="", mode="wb", compresslevel=_COMPRESSION_LEVEL, fileobj=file, mtime=0
        ) as compressed,
        tarfile.open(
            fileobj=compressed,
            mode="w|",
            format=tarfile.PAX_FORMAT,
            bufsize=_STREAM_BYTES,
        ) as archive,
    ):
        yield ArchiveWriter(archive, deadline)


def header_of(name: str, seen: os.stat_result) -> tarfile.TarInfo:
    """The header of a file or folder of the host; of owner and group their numbers alone."""
    header = tarfile.TarInfo(name)
    folder = stat.S_ISDIR(seen.st_mode)
    header.type = tarfile.DIRTYPE if folder else tarfile.REGTYPE
    header.size = 0 if folder else seen.st_size
    header.mode = stat.S_IMODE(seen.st_mode)
    header.uid, header.gid = seen.st_uid, seen.st_gid
    header.mtime = int(seen.st_mtime)
    return header


def copy_stream(
    chunks: Iterable[bytes],
    writer: ArchiveWriter,
    rename: Callable[[str], str],
    remarks: Remarks,
) -> None:
    """Copy the plain files and folders of a tar stream; links are noted, the rest remarked upon.

    Raises L{BackupError} for a stream that is cut off or is no tar.
    """
    reader = _ChunkReader(chunks)
    try:
        with tarfile.open(fileobj=reader, mode="r|", bufsize=_STREAM_BYTES) as source:
            while True:
                member: Optional[tarfile.TarInfo] = source.next()
                if member is None:
                    break
                _copy_member(source, member, writer, rename, remarks)
                _forget(source)
        reader.drain()
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"the archive that was read is damaged: {error}") from error
    if not reader.ended:
        raise BackupError("the archive that was read is cut off: it has no end")


def _copy_member(
    source: tarfile.TarFile,
    member: tarfile.TarInfo,
    writer: ArchiveWriter,
    rename: Callable[[str], str],
    remarks: Remarks,
) -> None:
    name = rename(member.name)
    if member.issym() or member.islnk():
        target = rename(member.linkname) if member.islnk() else member.linkname
        writer.members.add_link(name, target)
        return
    try:
        check_member(name, member.isfile() or member.isdir())
    except UnsafeMemberError as error:
        remarks.add(name, str(error))
        return
    header = tarfile.TarInfo(name)  # another one, without what the first says of its old name
    header.type = tarfile.DIRTYPE if member.isdir() else tarfile.REGTYPE
    header.size = 0 if member.isdir() else member.size
    header.mode, header.uid, header.gid = member.mode, member.uid, member.gid
    header.mtime = int(member.mtime)
    content = source.extractfile(member) if member.isfile() else None
    if content is None:
        writer.add_folder(header)
    else:
        writer.add_file(header, content)


def extract_one(chunks: Iterable[bytes], target: Path, deadline: Deadline) -> bytes:
    """Write the one file of a tar stream, mode 0600; returns its first bytes.

    Raises L{BackupError} where the stream holds no file or is cut off, and C{OSError}.
    """
    reader = _ChunkReader(chunks)
    head = b""
    try:
        with tarfile.open(fileobj=reader, mode="r|", bufsize=_STREAM_BYTES) as source:
            member: Optional[tarfile.TarInfo] = source.next()
            content = source.extractfile(member) if member and member.isfile() else None
            if content is None:
                raise BackupError("what was read is no file")
            hashing = _HashingReader(content, deadline)
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                while True:
                    block = hashing.read(_BLOCK_BYTES)
                    if not block:
                        break
                    head = head or block[:64]
                    file.write(block)
        reader.drain()
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"the file that was read is damaged: {error}") from error
    if not reader.ended:
        raise BackupError("the file that was read is cut off")
    return head


def read_members(path: Path, deadline: Deadline) -> Members:
    """What a tar.gz holds, every byte read. Raises L{BackupError} where it cannot be read to its
    end, or holds what is no plain file or folder."""
    members = Members()
    try:
        with path.open("rb") as file:
            # Not tarfile's own decompression, which does not look at gzip's checksum.
            compressed = gzip.GzipFile(fileobj=file, mode="rb")
            reader = _ChunkReader(iter(lambda: compressed.read(_BLOCK_BYTES), b""))
            with tarfile.open(fileobj=reader, mode="r|", bufsize=_STREAM_BYTES) as archive:
                while True:
                    member: Optional[tarfile.TarInfo] = archive.next()
                    if member is None:
                        break
                    check_member(member.name, member.isfile() or member.isdir())
                    content = archive.extractfile(member) if member.isfile() else None
                    if content is not None:
                        hashing = _HashingReader(content, deadline)
                        while hashing.read(_BLOCK_BYTES):
                            pass
                        members.add(member.name, member.size, hashing.digest.hexdigest())
                    _forget(archive)
            reader.drain()
    except (tarfile.TarError, EOFError, OSError, UnsafeMemberError) as error:
        raise BackupError(f"{path.name} cannot be read: {error}") from error
    if not reader.ended:
        raise BackupError(f"{path.name} is cut off: it has no end")
    return members


class _ChunkReader(io.RawIOBase):
    """A file to read from, made of chunks; it knows whether they ended as a tar does."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        super().__init__()
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self._tail = b""

    def read(self, size: int = -1) -> bytes:
        parts = []
        wanted = size
        while wanted:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
                continue
            part = self._rest[:wanted] if wanted > 0 else self._rest
            self._rest = self._rest[len(part) :]
            parts.append(part)
            wanted -= len(part) if wanted > 0 else 0
        data = b"".join(parts)
        self._tail = (self._tail + data[-_END_BYTES:])[-_END_BYTES:]
        return data

    def drain(self) -> None:
        while self.read(_BLOCK_BYTES):
            pass

    @property
    def ended(self) -> bool:
        return self._tail == bytes(_END_BYTES)
