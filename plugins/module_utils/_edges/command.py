# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands on the host, bounded in time and output, and never through a shell."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

_READ_SIZE = 65536


class CommandError(Exception):
    """A command could not be started or did not end in time.

    ``missing`` is true where there is no such program. The text names the program, not its
    arguments.
    """

    def __init__(self, message: str, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


@dataclass(frozen=True)
class CommandResult:
    """How a command ended. Its output may hold secrets and is kept out of the repr."""

    exit_code: int
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)
    truncated: bool = False


def run_command(
    argv: Sequence[str],
    timeout_seconds: float,
    *,
    environment: Optional[Mapping[str, str]] = None,
    working_dir: Optional[str] = None,
    stdin: Optional[str] = None,
    max_bytes: int = 16 * 1024 * 1024,
) -> CommandResult:
    """Run a program to its end, with ``stdin`` or nothing on its standard input.

    Of each output ``max_bytes`` are kept. ``environment`` is added to this process's own, with
    the locale pinned to C. Raises L{CommandError} where it cannot be started, or does not end
    within ``timeout_seconds``: then it and what it started are killed.
    """
    name = os.path.basename(argv[0])  # noqa: PTH119
    deadline = time.monotonic() + timeout_seconds
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C", **(environment or {})},
            cwd=working_dir,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        if working_dir is not None and error.filename == working_dir:
            raise CommandError(f"{name}: the folder {working_dir} does not exist") from error
        raise CommandError(f"{name} is not installed", missing=True) from error
    except OSError as error:
        raise CommandError(f"{name} cannot be run: {error.strerror}") from error

    try:
        outputs, truncated = _exchange(process, (stdin or "").encode(), deadline, max_bytes)
        exit_code = process.wait(max(0.0, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, TimeoutError):
        # Also when the program itself has ended, and something that it started has its pipes.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        raise CommandError(f"{name} did not end within {timeout_seconds:g} s") from None
    finally:
        _end(process)
    stdout, stderr = (output.decode("utf-8", errors="replace") for output in outputs)
    return CommandResult(exit_code, stdout, stderr, truncated)


def _exchange(
    process: subprocess.Popen[bytes], content: bytes, deadline: float, max_bytes: int
) -> tuple[list[bytearray], bool]:
    outputs = [bytearray(), bytearray()]
    truncated = False
    with selectors.DefaultSelector() as selector:
        for stream, output in zip((process.stdout, process.stderr), outputs):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, output)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            for key, _events in selector.select(remaining):
                if process.stdin is not None and key.fileobj is process.stdin:
                    content = _write(key.fd, content)
                    if not content:
                        selector.unregister(key.fileobj)
                        process.stdin.close()
                    continue
                chunk = os.read(key.fd, _READ_SIZE)
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                room = max(0, max_bytes - len(key.data))
                key.data.extend(chunk[:room])
                truncated = truncated or len(chunk) > room
    return outputs, truncated


def _write(descriptor: int, content: bytes) -> bytes:
    """What is left to be written; nothing once the reader has gone."""
    try:
        return content[os.write(descriptor, content[:_READ_SIZE]) :]
    except BrokenPipeError:
        return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing outlives the call: neither the process nor its children nor its pipes."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
