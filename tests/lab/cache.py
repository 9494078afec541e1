# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the lab keeps what outlives a run, and the lock that keeps two runs apart."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lab.shell import LabError, say

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
"""The checkout that this lab belongs to."""

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pynomaly-ops-lab"

DEFAULT_NAME = "pynomaly-lab"
NAME = os.environ.get("PYNOMALY_LAB_NAME") or DEFAULT_NAME
"""With what the names of everything on the engine begin: labs of other names are not seen."""

_held = 0


def folder(*names: str) -> Path:
    """Give a directory in the cache, made when it is missing, readable by its owner alone."""
    path = CACHE.joinpath(*names)
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def state(*names: str) -> Path:
    """Give a directory for what belongs to the lab of this name alone, not to all labs."""
    return folder(*names) if NAME == DEFAULT_NAME else folder("labs", NAME, *names)


def require_good_name() -> None:
    """Raise LabError where the lab's name cannot be that of a network, an image and a label."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", NAME):
        raise LabError(
            f"PYNOMALY_LAB_NAME={NAME}: expected small letters and digits in two or more words "
            f"with a hyphen between them, such as {DEFAULT_NAME}-2"
        )


@contextmanager
def exclusive() -> Iterator[None]:
    """Let one run at a time build, start or remove; a second one waits, and says so."""
    global _held  # noqa: PLW0603  (the lock belongs to the process, whoever takes it first)
    if _held:
        _held += 1
        try:
            yield
        finally:
            _held -= 1
        return
    with (folder() / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            say(f"waiting for another run of the lab (process {lock.read().strip() or '?'})")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        _held = 1
        try:
            yield
        finally:
            _held = 0


def short_hash(*parts: str | bytes) -> str:
    """Give 16 hexadecimal digits that change whenever one of the parts does."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()[:16]


def hash_of_directory(directory: Path) -> str:
    """Hash the names, modes and contents of all files below a directory."""
    parts: list[str | bytes] = []
    for path in sorted(directory.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            executable = "x" if os.access(path, os.X_OK) else "-"
            parts += [str(path.relative_to(directory)), executable, path.read_bytes()]
    return short_hash(*parts)


def collections_path() -> Path:
    """Give a directory in which the checkout is seen as ``ansible_collections/pynomaly/ops``."""
    collections = folder("checkouts", short_hash(str(ROOT)), "collections")
    namespace = collections / "ansible_collections" / "pynomaly"
    namespace.mkdir(parents=True, exist_ok=True)
    link = namespace / "ops"
    if not link.is_symlink() or link.readlink() != ROOT:
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT)
    return collections


def collection_root() -> Path:
    """Give the checkout's path as a collection."""
    return collections_path() / "ansible_collections" / "pynomaly" / "ops"
