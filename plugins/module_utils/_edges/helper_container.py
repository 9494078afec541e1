# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Short-lived containers for a tool that only an image of the stack has, such as pg_dump.

They carry labels of their own, so that those of a run that died can be found and removed, and no
label of Compose, so that no project counts them as its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)

HELPER_LABEL = "ops.pynomaly.helper"


@dataclass(frozen=True)
class HelperMount:
    """A folder or file of the host's, seen in the container at ``target``."""

    source: str
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class HelperResult:
    """How a helper ended; of each output the last part. It may hold data: not in the repr."""

    exit_code: int
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)


@dataclass(frozen=True)
class Helper:
    """``project`` is the one it serves. ``network_of`` is the container whose network it shares, or
    ``network`` the one that it joins by itself; without either it has none. Runs as ``user``, root
    by default, so that what it writes is root's."""

    image: str
    project: str
    network_of: str = ""
    mounts: Sequence[HelperMount] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str = "0:0"
    network: str = ""


def run_helper(
    engine: EngineControl,
    helper: Helper,
    argv: Sequence[str],
    timeout_seconds: float,
    max_bytes: int = 65536,
    *,
    cancelled: Optional[threading.Event] = None,
) -> HelperResult:
    """Run a command to its end in a container of its own, which is removed whatever happens.

    Raises C{EngineError}, also where it does not end in time or ``cancelled`` is set: then it is
    killed.
    """
    with started(engine, helper, argv) as identifier:
        exit_code = engine.wait(identifier, timeout_seconds, cancelled)
        stdout, stderr = engine.output(identifier, max_bytes)
    return HelperResult(exit_code, stdout, stderr)


@contextlib.contextmanager
def started(
    engine: EngineControl, helper: Helper, argv: Sequence[str], *, entrypoint: Optional[str] = None
) -> Iterator[str]:
    """A running helper's container id. ``argv`` replaces the image's entry point, or is its
    arguments where ``entrypoint`` is named. Raises C{EngineError}."""
    identifier = engine.create(
        image=helper.image,
        entrypoint=[entrypoint] if entrypoint is not None else list(argv[:1]),
        command=list(argv) if entrypoint is not None else list(argv[1:]),
        environment=helper.environment,
        user=helper.user,
        labels={HELPER_LABEL: helper.project},
        network_mode=f"container:{helper.network_of}"
        if helper.network_of
        else helper.network or "none",
        binds=[
            f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}"
            for mount in helper.mounts
        ],
    )
    try:
        engine.start(identifier)
        yield identifier
    finally:
        engine.remove(identifier)


def left_helpers(engine: EngineControl, project: str) -> Sequence[str]:
    """Ids of the project's helpers that are there. Under the host's lock, those of dead runs."""
    return engine.containers_with_label(f"{HELPER_LABEL}={project}")
