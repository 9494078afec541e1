# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folder of a bundle of evidence: written aside, redacted on the way, sealed, then named.

There is one way into a file of a bundle, L{Sink.write}, and it redacts.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    ensure_directory,
    sync_directory,
    write_atomically,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import utc_now
from ansible_collections.pynomaly.ops.plugins.module_utils._evidence import (
    ATTEMPTED,
    COLLECTED,
    CUSTODY,
    INDEX,
    OPENED,
    REDACTIONS,
    SEALED,
    STAGING_PREFIX,
    SUMS,
    EvidenceError,
    EvidenceFile,
    Outcome,
    check_custody,
    custody_line,
    encode_custody,
    encode_sums,
    parse_sums,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._redaction import Redactor
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import format_bytes

_BLOCK_BYTES = 1024 * 1024
#: How much is written between two looks at the free space.
_LOOK_BYTES = 4 * 1024 * 1024
_KEY_BYTES = 32
#: How long somebody who writes is waited for.
_LOCK_SECONDS = 1.0
_KEY_NAME = "evidence.key"
#: Of a line that does not end, so much is kept.
_LINE_BYTES = 1024 * 1024

Step = Callable[[str], None]


class SinkClosedError(Exception):
    """The source has had its time; what it writes from now on is not taken."""


class SinkFullError(Exception):
    """No more fits; the text says why."""


@contextlib.contextmanager
def telling(what: str, place: Union[str, Path]) -> Iterator[None]:
    """What the filesystem refuses, told as L{EvidenceError}."""
    try:
        yield
    except OSError as error:
        where = error.filename or place
        hint = {
            errno.ENOSPC: f"free some space: df -h {place}; df -i {place}",
            errno.EDQUOT: f"free some space: df -h {place}; quota",
            errno.EACCES: "run it as root: ansible-playbook … --become",
            errno.EROFS: f"find out why it is read-only: findmnt -T {place}",
        }.get(error.errno or 0, f"look at it: ls -la {place}")
        raise EvidenceError(f"{what}: {where}: {error.strerror or error}", hint) from error


def redaction_key(state_dir: str) -> bytes:
    """The host's key for the markers of secrets, made where it lacks. Raises L{EvidenceError}."""
    path = Path(state_dir) / _KEY_NAME
    with telling("the key of redactions could not be had", path):
        ensure_directory(path.parent, 0o700)
        with contextlib.suppress(FileExistsError):
            if not path.exists():
                write_atomically(path, os.urandom(_KEY_BYTES), 0o600, exclusive=True)
        return path.read_bytes()


def free_bytes(place: Path) -> int:
    """What the filesystem has left for root, of a folder that may not be there yet."""
    while not place.exists():
        place = place.parent
    figures = os.statvfs(place)
    return figures.f_bavail * figures.f_frsize


class Sink:
    """One file of a bundle while it is written. Safe to be cut off by another thread.

    Lines are redacted as wholes. With ``keep_newest`` the oldest part goes where the file gets
    larger than ``max_bytes``, otherwise what comes after that.
    """

    def __init__(
        self,
        root: Path,
        path: str,
        redactor: Redactor,
        *,
        max_bytes: int,
        keep_newest: bool,
        reserve_bytes: int,
    ) -> None:
        self.path = path
        self.lines = 0
        self.remark = ""
        self._file = root / path
        self._older = self._file.with_name(f"{self._file.name}.older")
        self._redactor = redactor
        self._max_bytes = max_bytes
        self._keep_newest = keep_newest
        self._reserve_bytes = reserve_bytes
        self._lock = threading.Lock()
        self._pending = b""
        self._size = 0
        self._dropped_bytes = 0
        self._older_lines = 0
        self._unlooked_bytes = _LOOK_BYTES
        ensure_directory(self._file.parent, 0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._file, flags, 0o600)

    def write(self, text: Union[str, bytes]) -> None:
        """Take in text, of which whole lines are written at once, the rest once it is whole.

        Raises L{SinkClosedError}, L{SinkFullError} and C{OSError}.
        """
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        with self._lock:
            if self._descriptor < 0:
                raise SinkClosedError
            block = self._pending + data if self._pending else data
            end = block.rfind(b"\n") + 1
            self._pending = block[end:]
            if len(self._pending) > _LINE_BYTES:
                raise SinkFullError(f"a line has more than {format_bytes(_LINE_BYTES)}")
            if end:
                self._write(block[:end])

    def document(self, value: Any) -> None:
        """Write a JSON document, redacted by its keys as well."""
        redacted = self._redactor.document(value)
        self.write(json.dumps(redacted, indent=2, default=str, ensure_ascii=False) + "\n")

    def line(self, value: Any) -> None:
        """Write a JSON document as one line, redacted by its keys as well."""
        redacted = self._redactor.document(value)
        self.write(json.dumps(redacted, default=str, ensure_ascii=False) + "\n")

    def cut(self, remark: str) -> None:
        """Say why not all is there."""
        self.remark = self.remark or remark

    def finish(self) -> Optional[EvidenceFile]:
        """Close, sync and hash; C{None} where nothing was written. To be called once.

        Raises L{SinkClosedError} where somebody is still writing, and C{OSError}.
        """
        if not self._lock.acquire(timeout=_LOCK_SECONDS):
            raise SinkClosedError("it is still being written")
        try:
            if self._descriptor < 0:
                return None
            try:
                if self._pending:
                    try:
                        self._write(self._pending + b"\n")
                    except SinkFullError as error:
                        self.cut(str(error))
                os.fsync(self._descriptor)
            finally:
                self._close()
            if self._older.exists():
                self._join()
            if not self._size and not self._dropped_bytes:
                self._file.unlink()
                return None
        finally:
            self._lock.release()
        return self._told()

    def abandon(self) -> Optional[EvidenceFile]:
        """Close it as it is: what it has in it. Where somebody is still writing, or it cannot be
        read, it is taken away, since its hash would be wrong."""
        if self._lock.acquire(timeout=_LOCK_SECONDS):
            try:
                self._close()
                if self._older.exists():
                    self._join()
                return self._told()
            except OSError:
                pass
            finally:
                self._lock.release()
        for path in (self._file, self._older):
            with contextlib.suppress(OSError):
                path.unlink()
        return None

    def _told(self) -> EvidenceFile:
        size, digest = hash_file(self._file)
        return EvidenceFile(self.path, size, digest, dict(self._redactor.counts), self.lines)

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _write(self, block: bytes) -> None:
        redacted = self._redactor.text(block)
        self._unlooked_bytes += len(redacted)
        if self._unlooked_bytes >= _LOOK_BYTES:
            self._unlooked_bytes = 0
            if free_bytes(self._file.parent) < self._reserve_bytes:
                self._pending = b""
                raise SinkFullError(
                    f"the filesystem has less than {format_bytes(self._reserve_bytes)} free"
                )
        share = self._max_bytes // 2 if self._keep_newest else self._max_bytes
        if self._size and self._size + len(redacted) > share:
            if not self._keep_newest:
                self._pending = b""
                raise SinkFullError(f"only the first {format_bytes(self._size)} are kept")
            self._rotate()
        view = memoryview(redacted)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._size += len(redacted)
        self.lines += redacted.count(b"\n")

    def _rotate(self) -> None:
        """What is older than this file goes, this file becomes what is older."""
        if self._older.exists():
            self._dropped_bytes += self._older.stat().st_size
            self.remark = f"the oldest {format_bytes(self._dropped_bytes)} are left out"
        os.close(self._descriptor)
        self._descriptor = -1
        self._file.replace(self._older)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._file, flags, 0o600)
        self._size = 0
        self._older_lines, self.lines = self.lines, 0

    def _join(self) -> None:
        with self._older.open("ab") as older, self._file.open("rb") as newer:
            shutil.copyfileobj(newer, older, _BLOCK_BYTES)
            older.flush()
            os.fsync(older.fileno())
        self._size = self._older.stat().st_size
        self.lines += self._older_lines
        self._older.replace(self._file)


class Files:
    """The files that one source writes. ``redactor`` is made anew for each."""

    def __init__(
        self, root: Path, redactor: Redactor, max_bytes: int, reserve_bytes: int, is_quick: bool
    ) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self.is_quick = is_quick
        self.sinks: list[Sink] = []
        self._redactor = redactor
        self._reserve_bytes = reserve_bytes
        self._lock = threading.Lock()
        self._is_stopped = False

    def open(self, path: str, keep_newest: bool = False) -> Sink:
        """A new file. Raises L{SinkClosedError} once the source has had its time."""
        with self._lock:
            if self._is_stopped:
                raise SinkClosedError
            sink = Sink(
                self.root,
                path,
                self._redactor.fresh(),
                max_bytes=self.max_bytes,
                keep_newest=keep_newest,
                reserve_bytes=self._reserve_bytes,
            )
            self.sinks.append(sink)
        return sink

    def stop(self) -> None:
        """Nothing more is opened from here on."""
        with self._lock:
            self._is_stopped = True

    def document(self, path: str, value: Any) -> None:
        self.open(path).document(value)

    def text(self, path: str, text: Union[str, bytes]) -> None:
        self.open(path).write(text)


class Bundle:
    """A bundle while it is being gathered. Raises L{EvidenceError}."""

    def __init__(self, parent: Path, name: str, facts: Mapping[str, Any]) -> None:
        """Make its folder, under a name that says that it is not whole."""
        self.parent = parent
        with telling("the evidence could not be begun", parent):
            ensure_directory(parent, 0o700)
            self.name = _free_name(parent, name)
            self.staging = parent / f"{STAGING_PREFIX}{self.name}"
            self.staging.mkdir(mode=0o700)
        self._custody: list[dict[str, Any]] = []
        self._note(OPENED, facts)

    @property
    def path(self) -> Path:
        """Where it will be."""
        return self.parent / self.name

    def note(self, outcome: Outcome) -> None:
        """Put what became of a source into the chain of custody."""
        facts = {
            "source": outcome.source,
            "command": outcome.command,
            "status": outcome.status,
            "reason": outcome.reason,
            "files": [_named(one) for one in outcome.files],
        }
        self._note(COLLECTED if outcome.files else ATTEMPTED, facts)

    def seal(
        self,
        files: Sequence[EvidenceFile],
        index: Mapping[str, Any],
        redactions: Mapping[str, Any],
        step: Step,
    ) -> tuple[str, int, int]:
        """Write index, chain of custody and checksums, sync it all, and give it its name.

        Returns the head of the chain of custody, how many files there are, and their bytes.
        """
        with telling("the evidence could not be finished", self.parent):
            own = [
                self._own(INDEX, index),
                self._own(REDACTIONS, redactions),
            ]
            step("indexed")
            listed = [*files, *own]
            self._note(
                SEALED,
                {"files": [_named(one) for one in own], "evidence_files": len(files)},
            )
            custody = encode_custody(self._custody).encode()
            write_atomically(self.staging / CUSTODY, custody, 0o600)
            step("custody")
            listed.append(EvidenceFile(CUSTODY, len(custody), hashlib.sha256(custody).hexdigest()))
            sums = encode_sums(listed)
            write_atomically(self.staging / SUMS, sums, 0o600)
            step("summed")
            for folder in (
                self.staging,
                *(path for path in self.staging.rglob("*") if path.is_dir()),
            ):
                sync_directory(folder)
            step("synced")
            self.staging.rename(self.path)
            sync_directory(self.parent)
        size = sum(one.bytes for one in listed) + len(sums)
        return str(self._custody[-1]["sha256"]), len(listed) + 1, size

    def discard(self) -> None:
        """Take away what is not whole."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def _own(self, name: str, content: Mapping[str, Any]) -> EvidenceFile:
        data = (json.dumps(content, indent=2, default=str, ensure_ascii=False) + "\n").encode()
        write_atomically(self.staging / name, data, 0o600)
        return EvidenceFile(name, len(data), hashlib.sha256(data).hexdigest())

    def _note(self, event: str, facts: Mapping[str, Any]) -> None:
        previous = str(self._custody[-1]["sha256"]) if self._custody else ""
        self._custody.append(
            custody_line(previous, len(self._custody) + 1, utc_now(), event, facts)
        )


def _named(file: EvidenceFile) -> dict[str, Any]:
    return {"path": file.path, "bytes": file.bytes, "sha256": file.sha256}


def _free_name(parent: Path, name: str) -> str:
    candidate = name
    number = 1
    while (parent / candidate).exists() or (parent / f"{STAGING_PREFIX}{candidate}").exists():
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def unfinished(parent: Path) -> list[Path]:
    """Bundles of runs that died before they were whole."""
    return sorted(parent.glob(f"{STAGING_PREFIX}*")) if parent.is_dir() else []


def hash_file(path: Path) -> tuple[int, str]:
    """Size and SHA-256."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK_BYTES)
            if not block:
                return size, digest.hexdigest()
            size += len(block)
            digest.update(block)


def verify(path: Path, head: str = "") -> tuple[str, int, list[str]]:
    """(head of the chain of custody, how many files, problems) of a bundle; none where it is as it
    was sealed. ``head`` is what was told when it was sealed, where that is known: only that shows
    that nobody has made the whole of it anew.

    Raises L{EvidenceError} where there is no bundle.
    """
    with telling("the evidence could not be read", path):
        if not path.is_dir():
            raise EvidenceError(f"{path} is no folder, expected a bundle of evidence")
        if path.name.startswith(STAGING_PREFIX):
            return "", 0, [f"{path.name} was never finished"]
        try:
            text = (path / SUMS).read_text("utf-8", errors="replace")
            custody = (path / CUSTODY).read_text("utf-8", errors="replace")
        except FileNotFoundError as error:
            return "", 0, [f"{Path(str(error.filename)).name} is missing"]
        promised, problems = parse_sums(text)
        seen: dict[str, str] = {}
        for one in sorted(path.rglob("*")):
            name = one.relative_to(path).as_posix()
            if one.is_symlink() or not (one.is_file() or one.is_dir()):
                problems.append(f"{name} is not a file")
            elif one.is_file() and name != SUMS:
                seen[name] = hash_file(one)[1]
    problems += [f"{name} is missing" for name in sorted(set(promised) - set(seen))]
    problems += [f"{name} is not in {SUMS}" for name in sorted(set(seen) - set(promised))]
    problems += [
        f"{name} differs from its SHA-256 in {SUMS}"
        for name in sorted(set(seen) & set(promised))
        if seen[name] != promised[name]
    ]
    found, more = check_custody(custody, seen)
    problems += more
    if head and head != found:
        problems.append(f"the chain of custody ends in {found}, expected {head}")
    return found, len(seen) + 1, list(dict.fromkeys(problems))
