# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import nginx_control
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_control import (
    NginxError,
    reload,
)

MASTER = "nginx: master process nginx -g daemon off;"
WORKER = "nginx: worker process"
LEAVING = "nginx: worker process is shutting down"
CONTAINER = Container("c", "shop-nginx-1", "nginx", 1, "running", "nginx", "sha256:1", pid=10)


class Processes:
    """What the kernel would show of a container's processes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def show(self, tree: Mapping[int, tuple[str, list[int]]]) -> None:
        for pid, (title, children) in tree.items():
            task = self.root / str(pid) / "task" / str(pid)
            task.mkdir(parents=True, exist_ok=True)
            (task / "children").write_text(" ".join(map(str, children)) + " ")
            (self.root / str(pid) / "cmdline").write_bytes(title.encode() + b"\0")


class Silent(Engine):
    """An engine in which C{nginx -t} passes, and nothing else may be run."""

    def __init__(self) -> None:
        self.ran: list[list[str]] = []

    def run(
        self, _container: str, argv: Sequence[str], *_rest: Any, **_options: Any
    ) -> tuple[int, str]:
        self.ran.append(list(argv))
        return 0, "syntax is ok"


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processes:
    monkeypatch.setattr(nginx_control, "_PROC", tmp_path)
    return Processes(tmp_path)


def signals(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> list[tuple[int, int]]:
    sent: list[tuple[int, int]] = []

    def kill(pid: int, number: int) -> None:
        sent.append((pid, number))
        then()

    monkeypatch.setattr(os, "kill", kill)
    return sent


@pytest.mark.parametrize(
    ("after", "done"),
    [
        ({11: (LEAVING, []), 12: (WORKER, []), 10: (MASTER, [11, 12])}, True),
        ({12: (WORKER, []), 10: (MASTER, [12])}, True),
        # Both accept connections; no other has come; the one before leaves and no other has come
        ({12: (WORKER, []), 10: (MASTER, [11, 12])}, False),
        ({10: (MASTER, [11])}, False),
        ({11: (LEAVING, []), 10: (MASTER, [11])}, False),
        # Its cache manager is no worker
        (
            {11: (LEAVING, []), 12: ("nginx: cache manager process", []), 10: (MASTER, [11, 12])},
            False,
        ),
    ],
)
def test_the_workers_have_to_be_others(
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
    after: dict[int, tuple[str, list[int]]],
    done: bool,
) -> None:
    processes.show({10: (MASTER, [11]), 11: (WORKER, [])})
    sent = signals(monkeypatch, lambda: processes.show(after))
    engine = Silent()
    if done:
        reload(engine, CONTAINER, 5.0)
    else:
        with pytest.raises(NginxError, match=r"within 0\.05 s: nginx -t passes"):
            reload(engine, CONTAINER, 0.05)
    assert [pid for pid, _number in sent] == [10]
    assert ["nginx", "-s", "reload"] not in engine.ran


def test_an_init_stands_before_the_master(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes.show({10: ("/sbin/docker-init", [20]), 20: (MASTER, [21]), 21: (WORKER, [])})
    sent = signals(monkeypatch, lambda: processes.show({20: (MASTER, [22]), 22: (WORKER, [])}))
    reload(Silent(), CONTAINER, 5.0)
    assert [pid for pid, _number in sent] == [20]


def test_the_proof_is_waited_for(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    processes.show({10: (MASTER, [11]), 11: (WORKER, [])})
    signals(monkeypatch, lambda: processes.show({10: (MASTER, [12]), 12: (WORKER, [])}))
    answers = iter([False, False, True])
    reload(Silent(), CONTAINER, 5.0, lambda: next(answers))
    assert list(answers) == []


@pytest.mark.usefixtures("processes")
def test_where_no_process_is_seen_many_answers_in_a_row_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nginx_control, "_ANSWERS_POLL_SECONDS", 0.0)
    engine = Silent()
    answers = iter([True] * 19 + [False] + [True] * 20)
    reload(engine, CONTAINER, 5.0, lambda: next(answers))
    assert list(answers) == [] and engine.ran == [["nginx", "-s", "reload"]]
    started = time.monotonic()
    with pytest.raises(NginxError):
        reload(engine, CONTAINER, 0.05, lambda: False)
    # Without anything to ask, nothing is proved.
    with pytest.raises(NginxError):
        reload(engine, CONTAINER, 0.05)
    assert time.monotonic() - started < 2.0
