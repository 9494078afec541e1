# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run programs with a time limit, and tell the person what is going on."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


class LabError(Exception):
    """A failure told in full: what was tried, what was seen, and what to run next."""


def say(message: str) -> None:
    """Print one line at once, in order with what child processes print."""
    print(message, flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print how many seconds the enclosed work took, once it is done."""
    started_at = time.monotonic()
    yield
    say(f"{time.monotonic() - started_at:7.1f} s  {title}")


def quoted(argv: Sequence[str]) -> str:
    """Give the command as it would be typed."""
    return " ".join(shlex.quote(word) for word in argv)


def run(
    argv: Sequence[str],
    *,
    timeout_seconds: float,
    check: bool = True,
    stdin_text: str | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command and keep its output.

    ``environment`` is added to the lab's own. Raises LabError when the command is
    missing, exceeds its time or, with ``check``, exits non-zero.
    """
    try:
        completed = subprocess.run(
            list(argv),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
            env={**os.environ, **(environment or {})},
            cwd=directory,
            **({"stdin": subprocess.DEVNULL} if stdin_text is None else {"input": stdin_text}),
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]}: not found. Install it, then run the command again.") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(
            f"`{quoted(argv)}` did not end within {timeout_seconds:.0f} s.\n{_tail(error.output)}"
        ) from error
    if check and completed.returncode != 0:
        raise LabError(
            f"`{quoted(argv)}` ended with exit code {completed.returncode}, expected 0.\n"
            f"{_tail(completed.stdout)}{_tail(completed.stderr)}".rstrip()
        )
    return completed


def run_shown(
    argv: Sequence[str],
    *,
    timeout_seconds: float,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> int:
    """Run a command whose output goes to the person, and return its exit code.

    Raises LabError when the command is missing or exceeds its time.
    """
    sys.stdout.flush()
    try:
        return subprocess.run(
            list(argv),
            timeout=timeout_seconds,
            check=False,
            env={**os.environ, **(environment or {})},
            cwd=directory,
        ).returncode
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]}: not found. Install it, then run the command again.") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(
            f"`{quoted(argv)}` did not end within {timeout_seconds:.0f} s and was stopped."
        ) from error


def wait_until(
    ready: Callable[[], bool], *, what: str, deadline_seconds: float, hint: str = ""
) -> None:
    """Ask ``ready`` four times a second; LabError once the deadline has passed."""
    deadline = time.monotonic() + deadline_seconds
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"{what} was not ready within {deadline_seconds:.0f} s. {hint}".rstrip())
        time.sleep(0.25)


def _tail(output: str | bytes | None, lines: int = 40) -> str:
    if isinstance(output, bytes):
        output = output.decode(errors="replace")
    kept = (output or "").rstrip().splitlines()[-lines:]
    return "".join(f"    {line}\n" for line in kept)
