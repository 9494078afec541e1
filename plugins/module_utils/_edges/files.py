# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that are either whole or not there: written beside their place, synced, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import tempfile
from pathlib import Path
from typing import Optional, Union

PathLike = Union[str, "os.PathLike[str]"]

#: What ``link`` answers on a filesystem that has no hard links.
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def fsync_directory(directory: Path) -> None:
    """Make a rename in ``directory`` last through a power cut. Raises C{OSError}."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """L{fsync_directory} where the filesystem can; where it cannot, no error."""
    with contextlib.suppress(OSError):
        fsync_directory(directory)


def _publish_new(temporary: Path, target: Path) -> None:
    """Give the file its name, unless the name is taken; raises C{FileExistsError} then."""
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        temporary.replace(target)
    else:
        temporary.unlink()


def write_atomically(
    path: PathLike,
    data: Union[bytes, str],
    mode: int = 0o644,
    owner: Optional[tuple[int, int]] = None,
    exclusive: bool = False,
) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    ``mode`` is exact, whatever the umask. ``owner`` is (user id, group id). Text is UTF-8. With
    ``exclusive`` an existing file is left alone and C{FileExistsError} raised. Raises C{OSError},
    with nothing left behind.
    """
    target = Path(path)
    content = data.encode("utf-8") if isinstance(data, str) else data
    # Leading dot, so that collectors which read a folder by pattern do not see it.
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if exclusive:
            _publish_new(temporary, target)
        else:
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file of mode 0600: all of it or nothing, and so that it outlives a power cut.
    A line that one has torn keeps a line to itself. Raises C{OSError}."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = b"\n" + line if torn else line
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if not size:
        fsync_directory(path.parent)


def write_textfile(path: PathLike, text: str) -> None:
    """Leave metrics for node_exporter's textfile collector, which runs as another user."""
    write_atomically(path, text, 0o644)


def point_symlink(path: PathLike, target: str) -> None:
    """Make ``path`` a symbolic link to ``target``, replacing a link or file in one step.

    ``target`` may be relative to the link's folder. Raises C{OSError}, with nothing left behind.
    """
    link = Path(path)
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(6)}")
    temporary.symlink_to(target)
    try:
        temporary.replace(link)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(link.parent)


def ensure_directory(path: PathLike, mode: int = 0o750) -> bool:
    """Make a folder, and its parents where they lack; returns whether it was made.

    ``mode`` is exact for what is made, whatever the umask; what exists is left as it is.
    Raises C{OSError}, C{FileExistsError} among them where a file has the name.
    """
    directory = Path(path)
    if directory.is_dir():
        return False
    if not directory.parent.is_dir():
        ensure_directory(directory.parent, mode)
    try:
        directory.mkdir(mode=mode)
    except FileExistsError:
        if directory.is_dir():  # another run was faster
            return False
        raise
    directory.chmod(mode)
    return True
