# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups copied to another place and fetched from there, by rclone, and read back each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    MANIFEST_DIGEST,
    VERIFICATION,
    Backup,
    BackupError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_copy import (
    OBSCURED,
    copied_ids,
    failure_text,
    place,
    remote_environment,
    remote_problems,
    remote_secrets,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._credentials import scrub
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.backup_store import BackupStore
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.command import (
    CommandError,
    run_command,
)

_INSTALL = "ansible-playbook pynomaly.ops.prepare installs rclone"
#: A directory that is not there yet.
_NO_SUCH_DIRECTORY = 3
_BOUNDS = (
    *("--contimeout", "10s", "--timeout", "60s"),
    *("--retries", "1", "--low-level-retries", "2"),
)


@dataclass(frozen=True)
class Offsite:
    """A remote of rclone's, its type and options, and a folder or bucket of it."""

    remote: Mapping[str, Any] = field(repr=False)
    path: str
    timeout_seconds: float = 3600.0


class OffsiteCopy:
    """Backups of one project on one remote. Its methods raise L{BackupError}."""

    def __init__(self, offsite: Offsite, store: BackupStore) -> None:
        problems = remote_problems(offsite.remote, offsite.path)
        if problems:
            raise BackupError("; ".join(problems))
        self._offsite = offsite
        self._store = store
        self._secrets = remote_secrets(offsite.remote)
        self._environment = remote_environment(offsite.remote, self._obscured())

    def ids(self, kind: str) -> list[str]:
        """The whole backups of a kind that are there, newest first."""
        where = place(self._offsite.path, kind)
        argv = ["rclone", "lsjson", "--recursive", "--files-only", "--max-depth", "2", where]
        code, stdout, stderr = self._run(argv)
        if code == _NO_SUCH_DIRECTORY:
            return []
        self._check(code, stderr, f"listing {where}")
        return copied_ids(stdout, self._store.project)

    def push(self, backup: Backup) -> bool:
        """Copy a backup there and read all of it back; returns whether anything was copied.

        The digest of its manifest comes last: what has none is not whole.
        """
        if not backup.is_whole:
            raise BackupError(f"{backup.kind} backup {backup.id} is damaged: {backup.problem}")
        if backup.id in self.ids(backup.kind):
            return False
        source, target = backup.path, place(self._offsite.path, backup.kind, backup.id)
        everything = ["--exclude", f"/{MANIFEST_DIGEST}", "--exclude", f"/{VERIFICATION}"]
        self._copy(source, target, everything)
        self._compare(source, target, everything)
        last = ["--include", f"/{MANIFEST_DIGEST}"]
        self._copy(source, target, last)
        self._compare(source, target, last)
        return True

    def pull(self, kind: str, identifier: str) -> Backup:
        """Fetch a backup that is there; it gets its name once all its checksums hold."""
        if identifier not in self.ids(kind):
            raise BackupError(f"there is no {kind} backup {identifier} in the other place")
        staging = self._store.stage(kind, identifier)
        try:
            self._copy(place(self._offsite.path, kind, identifier), str(staging), [])
            return self._store.adopt(staging)
        except BaseException:
            self._store.discard(staging)
            raise

    def _copy(self, source: str, target: str, filters: Sequence[str]) -> None:
        argv = ["rclone", "copy", "--immutable", *filters, source, target]
        code, _stdout, stderr = self._run(argv)
        self._check(code, stderr, f"copying to {target}")

    def _compare(self, source: str, target: str, filters: Sequence[str]) -> None:
        """Every byte is read back: a store's own checksum says what it meant to keep."""
        argv = ["rclone", "check", "--download", "--one-way", *filters, source, target]
        code, _stdout, stderr = self._run(argv)
        self._check(code, stderr, f"reading back {target}")

    def _check(self, code: int, stderr: str, what: str) -> None:
        if code != 0:
            # First, since what is cut or joined is no longer known as a secret.
            text = failure_text(scrub(stderr, self._secrets))
            raise BackupError(
                f"{what} failed with rclone's exit code {code}: {text}",
                "the local backup is good; see to the other place, then run the backup again",
            )

    def _run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        try:
            result = run_command(
                [*argv, *_BOUNDS],
                self._offsite.timeout_seconds,
                environment=self._environment,
            )
        except CommandError as error:
            raise BackupError(str(error), _INSTALL if error.missing else "") from error
        return result.exit_code, result.stdout, result.stderr

    def _obscured(self) -> dict[str, str]:
        found = {}
        for name in OBSCURED:
            value = self._offsite.remote.get(name)
            if not value:
                continue
            try:
                result = run_command(["rclone", "obscure", "-"], 10.0, stdin=f"{value}\n")
            except CommandError as error:
                raise BackupError(str(error), _INSTALL if error.missing else "") from error
            self._check(result.exit_code, result.stderr, f"preparing option {name}")
            found[name] = result.stdout.strip()
        return found


def unsent(store: BackupStore, copy: OffsiteCopy, kinds: Sequence[str]) -> list[Backup]:
    """The newest whole backup of each kind that is not in the other place yet."""
    waiting = []
    for kind in kinds:
        newest = next((one for one in store.backups([kind]) if one.is_whole), None)
        if newest is not None and not newest.is_refuted and newest.id not in copy.ids(kind):
            waiting.append(newest)
    return waiting
