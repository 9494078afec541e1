# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock and the journal of operations, as files in one directory of the host.

C{lock.json} appears whole or not at all; C{journal.jsonl} only ever grows, a line at a time.
Each step is taken under an C{flock} on the directory, which the kernel drops when a process dies.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    append_line,
    ensure_directory,
    fsync_directory,
    write_atomically,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    STARTED,
    TAKEOVER,
    AnyLock,
    Journal,
    Lock,
    LockHeldError,
    RunIdentity,
    decode_journal,
    decode_lock,
    describe_lock,
    encode_lock,
    encode_record,
    held_by_run,
    is_news,
    is_unfinished,
    journal_record,
    locked_message,
    may_take,
    new_lock,
)

LOCK_NAME = "lock.json"
JOURNAL_NAME = "journal.jsonl"
RESERVE_NAME = "reserve"
RESERVE_BYTES = 128 * 1024

#: How long to wait for another process that is in the middle of a step.
STEP_TIMEOUT_SECONDS = 10.0
_POLL_SECONDS = 0.02

Clock = Callable[[], datetime.datetime]


class StoreError(Exception):
    """The directory could not be read or written; the text says what, seen, expected, next."""


@dataclass(frozen=True)
class Acquisition:
    """``changed`` is false where the run held the lock already; ``taken_over`` is whose it was."""

    changed: bool
    lock: Lock
    taken_over: Optional[AnyLock] = None


@dataclass(frozen=True)
class Ending:
    """``released`` tells whether the lock was this operation's and is gone, ``recorded`` whether
    the outcome was written; ``lock`` is what is there afterwards."""

    released: bool
    recorded: bool
    lock: Optional[AnyLock] = None


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _store_error(error: OSError, what: str, directory: Path) -> StoreError:
    reason = error.strerror or str(error)
    expected, command = {
        errno.EROFS: (
            "a filesystem that can be written",
            f"find out why it is read-only: findmnt -T {directory}; dmesg | tail -n 50",
        ),
        errno.ENOSPC: ("free space", f"free some space: df -h {directory}; df -i {directory}"),
        errno.EDQUOT: ("free space", f"free some space: df -h {directory}; quota"),
        errno.EACCES: ("root's rights", "run it as root: ansible-playbook … --become"),
        errno.EPERM: ("root's rights", "run it as root: ansible-playbook … --become"),
    }.get(error.errno or 0, ("a directory of root's own", f"look at it: ls -la {directory}"))
    return StoreError(
        f"what: {what} in {directory}; seen: {reason}; expected: {expected}; next: {command}"
    )


class OperationStore:
    """The lock and journal in C{directory}. Its methods raise L{StoreError} for what the
    filesystem refuses, and C{OperationError} for what the rules refuse."""

    def __init__(
        self,
        directory: str,
        clock: Clock = utc_now,
        step_timeout_seconds: float = STEP_TIMEOUT_SECONDS,
    ) -> None:
        self.directory = Path(directory)
        self.lock_path = self.directory / LOCK_NAME
        self.journal_path = self.directory / JOURNAL_NAME
        self.reserve_path = self.directory / RESERVE_NAME
        self._clock = clock
        self._step_timeout_seconds = step_timeout_seconds

    def read_lock(self) -> Optional[AnyLock]:
        """The lock there is; C{None} where there is none."""
        with self._errors("the lock could not be read"):
            try:
                return decode_lock(self.lock_path.read_bytes())
            except FileNotFoundError:
                return None

    def read(self) -> tuple[Optional[AnyLock], Journal]:
        """Lock and journal as they were at one instant; nothing is written, not even made."""
        with self._errors("the journal could not be read"):
            try:
                with self._step(fcntl.LOCK_SH):
                    return self.read_lock(), self._read_journal()
            except FileNotFoundError:
                return None, Journal()

    def acquire(
        self,
        identity: RunIdentity,
        operation: str,
        project: str,
        *,
        host: str,
        playbook: str,
        takeover: str = "",
        dry_run: bool = False,
    ) -> Acquisition:
        """Take the lock and write down that the operation has started.

        A run that holds the lock already keeps it, and may nest another operation in it. Raises
        C{LockHeldError} with the facts of the other run's lock, unless C{takeover} names that run.
        With C{dry_run} it is only told what would come of it.
        """
        now = self._clock()
        wanted = new_lock(now, identity, operation, project)

        def judge(current: Optional[AnyLock], journal: Journal) -> Acquisition:
            if isinstance(current, Lock) and held_by_run(current, identity.run_id):
                begun = is_unfinished(journal.records, identity.run_id, operation, project)
                return Acquisition(not begun, current)
            if current is None or may_take(current, wanted, takeover):
                return Acquisition(True, wanted, current)
            raise LockHeldError(locked_message(host, current, takeover, playbook, now), current)

        if dry_run:
            return judge(*self.read())
        with self._writing("the lock could not be taken"):
            acquisition = judge(self.read_lock(), self._read_journal())
            if acquisition.changed:
                self._begin(acquisition, wanted, identity, now)
            return acquisition

    def _begin(
        self, acquisition: Acquisition, wanted: Lock, identity: RunIdentity, now: datetime.datetime
    ) -> None:
        """In an order that leaves, wherever it is cut short, either no lock or a whole one."""
        about: dict[str, Any] = {
            "time": now,
            "identity": identity,
            "operation": wanted.operation,
            "project": wanted.project,
        }
        started = journal_record(event=STARTED, **about)
        if acquisition.lock is not wanted:
            self._append(started)
            return
        previous = acquisition.taken_over
        if previous is not None:
            summary = f"took over {describe_lock(previous, now)}"
            details = {"run_id": previous.run_id}
            self._append(journal_record(event=TAKEOVER, summary=summary, details=details, **about))
        self._write_lock(wanted, exclusive=previous is None)
        try:
            self._append(started)
        except OSError:
            self._unlink_lock()
            raise
        self._set_reserve_aside()

    def finish(
        self,
        identity: RunIdentity,
        operation: str,
        project: str,
        *,
        outcome: str,
        changed: Optional[bool] = None,
        summary: str = "",
        undo: str = "",
        details: Optional[Mapping[str, Any]] = None,
        dry_run: bool = False,
    ) -> Ending:
        """Write down the outcome of an operation that this run started, and let its lock go.

        Another run's lock is never touched, nor one that this run took for an operation around
        this one. The lock is let go even where the outcome could not be written (and the error
        raised). Nothing to end is no error. With C{dry_run} it is only told what would come of it.
        """
        owner = (identity.run_id, operation, project)

        def judge(current: Optional[AnyLock], journal: Journal) -> Ending:
            mine = isinstance(current, Lock) and current.owned_by(*owner)
            begun = is_unfinished(journal.records, *owner)
            return Ending(released=mine, recorded=begun, lock=None if mine else current)

        if dry_run or not self.directory.is_dir():
            return judge(*self.read())
        with self._writing("the end of the operation could not be written"):
            ending = judge(self.read_lock(), self._read_journal())
            try:
                if ending.recorded:
                    self._append(
                        journal_record(
                            time=self._clock(),
                            event=outcome,
                            identity=identity,
                            operation=operation,
                            project=project,
                            changed=changed,
                            summary=summary,
                            undo=undo,
                            details=details,
                        )
                    )
            finally:
                if ending.released:
                    self._unlink_lock()
            return ending

    def append(self, record: Mapping[str, Any], dry_run: bool = False) -> bool:
        """Write a record so that it outlives a power cut; false where it is no news.

        With C{dry_run} it is only told whether it would be written.
        """
        encode_record(record)
        if dry_run:
            return is_news(record, self.read()[1].records)
        with self._writing("the journal could not be written"):
            news = is_news(record, self._read_journal().records)
            if news:
                self._append(record)
            return news

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _store_error(error, what, self.directory) from error

    @contextlib.contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        with self._errors(what):
            self._ensure_directory()
            with self._step(fcntl.LOCK_EX):
                self._sweep()
                yield

    def _ensure_directory(self) -> None:
        ensure_directory(self.directory, 0o700)
        status = self.directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise StoreError(
                f"what: the lock and journal are not kept in {self.directory}; "
                f"seen: mode {stat.filemode(status.st_mode)}, owner {status.st_uid}; "
                f"expected: a directory (no symbolic link) of user {os.geteuid()}; "
                f"next: set pynomaly_state_dir to such a directory"
            )
        if stat.S_IMODE(status.st_mode) != 0o700:
            self.directory.chmod(0o700)

    @contextlib.contextmanager
    def _step(self, operation: int) -> Iterator[None]:
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            deadline = time.monotonic() + self._step_timeout_seconds
            while True:
                try:
                    fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        raise StoreError(
                            f"what: another process is at work in {self.directory}; "
                            f"seen: busy for {self._step_timeout_seconds:g} s; "
                            f"expected: a step of some milliseconds; "
                            f"next: see which: fuser -v {self.directory}"
                        ) from error
                    time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Parts that a killed process left; whoever holds the step made none of them."""
        for part in self.directory.glob(f".{LOCK_NAME}.*"):
            part.unlink()

    def _unlink_lock(self) -> None:
        self.lock_path.unlink(missing_ok=True)
        fsync_directory(self.directory)

    def _read_journal(self) -> Journal:
        try:
            with self.journal_path.open("rb") as file:
                return decode_journal(file)
        except FileNotFoundError:
            return Journal()

    def _write_lock(self, lock: Lock, exclusive: bool) -> None:
        def write() -> None:
            write_atomically(self.lock_path, encode_lock(lock), 0o600, exclusive=exclusive)

        self._spending_reserve(write)

    def _set_reserve_aside(self) -> None:
        """Some blocks for the lock and journal of the operation that frees a full disk."""
        if self.reserve_path.exists():
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with contextlib.suppress(OSError):  # a disk that is full now has no reserve to give
            descriptor = os.open(self.reserve_path, flags, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            except OSError:
                self.reserve_path.unlink()
                raise
            finally:
                os.close(descriptor)

    def _spending_reserve(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self.reserve_path.exists():
                raise
            self.reserve_path.unlink()
            write()

    def _append(self, record: Mapping[str, Any]) -> None:
        line = encode_record(record)
        self._spending_reserve(lambda: append_line(self.journal_path, line))
