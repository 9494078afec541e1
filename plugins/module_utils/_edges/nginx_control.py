# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Letting a running nginx read its configuration again, with proof that it did.

C{nginx -s reload} says 0 also where the master then refuses the configuration and goes on with the
old one. What proves a reload: every worker that was there has stopped accepting connections, and
others accept them.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx import MAX_OUTPUT_BYTES
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx import failure_of_test

_PROC = Path("/proc")
_POLL_SECONDS = 0.005
#: Where the processes cannot be seen: which worker answers is chance, so that one answer is none.
_ANSWERS_IN_A_ROW = 20
_ANSWERS_POLL_SECONDS = 0.02


class NginxError(Exception):
    """nginx does not take its configuration. ``hint`` is what to run next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def read_configuration(engine: Engine, container: Container, timeout_seconds: float) -> str:
    """The output of C{nginx -T}, once the test in it has passed. Raises L{NginxError} and
    C{EngineError}."""
    return _run(engine, container, "-T", timeout_seconds)


def test_configuration(engine: Engine, container: Container, timeout_seconds: float) -> None:
    """C{nginx -t} in the container. Raises L{NginxError} and C{EngineError}."""
    _run(engine, container, "-t", timeout_seconds)


def _run(engine: Engine, container: Container, option: str, timeout_seconds: float) -> str:
    code, output = engine.run(
        container.id, ["nginx", option], timeout_seconds, max_bytes=MAX_OUTPUT_BYTES
    )
    if code != 0:
        raise NginxError(
            f"nginx -t fails in {container.name}: {failure_of_test(output)}",
            f"docker exec {container.name} nginx -t",
        )
    return output


def reload(
    engine: Engine,
    container: Container,
    timeout_seconds: float,
    proved: Optional[Callable[[], bool]] = None,
) -> None:
    """Let nginx read its configuration, which has been tested, and wait until none but new workers
    accept connections.

    ``proved`` asks the new configuration something that the old one answers differently; it is
    looked at last, and is the whole proof where the host does not see the container's processes.
    Raises L{NginxError} where that is not so within ``timeout_seconds``, and C{EngineError}.
    """
    deadline = time.monotonic() + timeout_seconds
    master = _master(container.pid)
    if master is None:
        code, output = engine.run(container.id, ["nginx", "-s", "reload"], timeout_seconds)
        if code != 0:
            raise NginxError(f"nginx in {container.name}: {failure_of_test(output)}")
        done = proved is not None and _answers(proved, deadline)
    else:
        before = _workers(master)
        os.kill(master, signal.SIGHUP)
        done = _replaced(master, before, deadline) and _until(proved, deadline)
    if not done:
        raise NginxError(
            f"nginx in {container.name} does not serve its new configuration within "
            f"{timeout_seconds:g} s: {_reason(engine, container, timeout_seconds)}",
            f"docker logs --tail 20 {container.name}",
        )


def draining(container: Container, seconds: float) -> int:
    """How many workers of before a reload still finish requests, after at most ``seconds`` of
    waiting for them; none where the host does not see the container's processes."""
    master = _master(container.pid)
    if master is None:
        return 0
    deadline = time.monotonic() + seconds
    while True:
        count = sum(
            _title(pid).startswith("nginx: worker process is shutting down")
            for pid in _children(master)
        )
        if count == 0 or time.monotonic() >= deadline:
            return count
        time.sleep(_POLL_SECONDS)


def _reason(engine: Engine, container: Container, timeout_seconds: float) -> str:
    try:
        test_configuration(engine, container, timeout_seconds)
    except (NginxError, EngineError) as error:
        return str(error)
    return "nginx -t passes, expected new workers that answer by it"


# The processes, as the host sees them


def _title(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").decode("utf-8", "replace")
    except OSError:
        return ""


def _children(pid: int) -> list[int]:
    try:
        text = (_PROC / str(pid) / "task" / str(pid) / "children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def _master(pid: int) -> Optional[int]:
    """nginx's master: the container's first process, or one that an init has started."""
    if pid <= 0:
        return None
    for candidate in (pid, *_children(pid)):
        if _title(candidate).startswith("nginx: master process") and _workers(candidate):
            return candidate
    return None


def _workers(master: int) -> set[int]:
    """Those that accept connections."""
    return {pid for pid in _children(master) if re.match(r"nginx: worker process\Z", _title(pid))}


def _replaced(master: int, before: set[int], deadline: float) -> bool:
    while True:
        now = _workers(master)
        if now and not now & before:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)


def _until(proved: Optional[Callable[[], bool]], deadline: float) -> bool:
    while proved is not None and not proved():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _answers(proved: Callable[[], bool], deadline: float) -> bool:
    """Many in a row."""
    count = 0
    while count < _ANSWERS_IN_A_ROW:
        if time.monotonic() >= deadline:
            return False
        count = count + 1 if proved() else 0
        time.sleep(_ANSWERS_POLL_SECONDS)
    return True
