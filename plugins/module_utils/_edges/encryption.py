# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups encrypted at rest by age, for public keys: the private one is never on the server.

To read one, the private key comes from the controller for that one call, and goes to age through a
pipe. Everything is streamed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._encryption import (
    METHOD,
    SUFFIX,
    TAR_SUFFIX,
    UnsafeMemberError,
    check_member,
    encrypted_names,
    recipient_problems,
)

_BLOCK_BYTES = 1024 * 1024
_INSTALL = "ansible-playbook pynomaly.ops.prepare installs age"
_ERROR_MAX_BYTES = 4096


def encrypt_tree(
    folder: Path, recipients: Sequence[str], timeout_seconds: float
) -> Mapping[str, Any]:
    """Encrypt each file in a folder to C{NAME.age} and each subfolder to C{NAME.tar.age}.

    What was there in the clear is removed. Returns what the manifest says of it:
    C{{method, recipients}}. Raises L{BackupError}.
    """
    problems = recipient_problems(recipients)
    if not recipients or problems:
        raise BackupError("; ".join(problems) or "there is no recipient, expected a public key")
    argv = ["age", "--encrypt"]
    for recipient in recipients:
        argv += ["--recipient", recipient.strip()]
    for path in sorted(folder.iterdir()):
        target = path.with_name(path.name + (TAR_SUFFIX if path.is_dir() else SUFFIX))
        with _age([*argv, "--output", str(target)], timeout_seconds) as process:
            if path.is_dir():
                with tarfile.open(fileobj=_writable(process), mode="w|") as archive:
                    archive.add(str(path), arcname=".")
            else:
                with path.open("rb") as file:
                    shutil.copyfileobj(file, _writable(process), _BLOCK_BYTES)
        target.chmod(0o600)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return {"method": METHOD, "recipients": [recipient.strip() for recipient in recipients]}


def decrypt_tree(source: Path, target: Path, identity: str, timeout_seconds: float) -> None:
    """Undo L{encrypt_tree}: what is encrypted in one folder appears in the clear in another.

    ``identity`` is the private key's text. Raises L{BackupError}.
    """
    for name in encrypted_names(sorted(path.name for path in source.iterdir())):
        argv = ["age", "--decrypt", "--identity", "-", str(source / name)]
        with _age(argv, timeout_seconds) as process:
            stdin = _writable(process)
            stdin.write(identity.strip().encode() + b"\n")
            stdin.close()
            if name.endswith(TAR_SUFFIX):
                folder = target / name[: -len(TAR_SUFFIX)]
                folder.mkdir(mode=0o700)
                unpack(_readable(process), folder)
            else:
                with _private(target / name[: -len(SUFFIX)]) as file:
                    shutil.copyfileobj(_readable(process), file, _BLOCK_BYTES)


def unpack(stream: IO[bytes], folder: Path, mode: Literal["r|", "r|gz"] = "r|") -> list[str]:
    """Unpack a tar stream, compressed or not, below a folder; returns the files' paths.

    Files get mode 0600 and folders 0700. Raises L{BackupError} for a member that is no plain
    file or folder below it, with what came before it already written: unpack to a folder of its
    own.
    """
    names = []
    try:
        with tarfile.open(fileobj=stream, mode=mode) as archive:
            for member in archive:
                name = check_member(member.name, member.isfile() or member.isdir())
                path = folder / name
                if member.isdir():
                    path.mkdir(mode=0o700, parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                content = archive.extractfile(member)
                if content is None:
                    raise UnsafeMemberError(f"{member.name!r} has no content")
                with _private(path) as file:
                    shutil.copyfileobj(content, file, _BLOCK_BYTES)
                names.append(name)
    except (UnsafeMemberError, tarfile.TarError, EOFError, OSError) as error:
        raise BackupError(f"the archive cannot be unpacked: {error}") from error
    return names


@contextlib.contextmanager
def _private(path: Path) -> Iterator[IO[bytes]]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file


@contextlib.contextmanager
def _age(argv: Sequence[str], timeout_seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """A running age, whose end and exit code are waited for. Killed at the deadline."""
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise BackupError("age is not installed on the host", _INSTALL) from error
    timer = threading.Timer(timeout_seconds, process.kill)
    timer.start()
    said = bytearray()
    listener = threading.Thread(target=_listen, args=(process, said), daemon=True)
    listener.start()
    failure: Optional[BackupError] = None
    try:
        try:
            yield process
        except BrokenPipeError:
            pass  # age has ended: its exit code and words say why
        except BackupError as error:
            if isinstance(error.__cause__, (UnsafeMemberError, OSError)):
                raise
            failure = error  # what age gave was cut short: it may say why itself
        finally:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        process.wait()
        listener.join()
    finally:
        timer.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        text = " ".join(said.decode(errors="replace").split())
        if process.returncode < 0:
            text = f"it did not end within {timeout_seconds:g} s"
        raise BackupError(f"age ended with exit code {process.returncode}: {text}")
    if failure is not None:
        raise failure


def _listen(process: subprocess.Popen[bytes], said: bytearray) -> None:
    if process.stderr is not None:
        for line in process.stderr:
            said.extend(line[: max(0, _ERROR_MAX_BYTES - len(said))])


def _writable(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdin is None:
        raise AssertionError("age was started without a pipe to write to")
    return process.stdin


def _readable(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdout is None:
        raise AssertionError("age was started without a pipe to read from")
    return process.stdout
