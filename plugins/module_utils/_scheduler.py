# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running collectors side by side, to a deadline.

Threads, because every collector waits on somebody else's socket. They are daemons: one that hangs
past the deadline cannot keep the process, and what it owed is answered as unknown.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    SKIPPED,
    UNKNOWN,
    Measurement,
    Target,
)

Emit = Callable[[Measurement], None]


@dataclass(frozen=True)
class Collector:
    """One source of measurements.

    ``run`` emits a measurement for each of ``targets`` as soon as it has it, and may raise:
    what it has emitted by then stays, the rest becomes unknown with the error's text.
    An error's text must be fit to be shown: no secrets.
    """

    name: str
    targets: Sequence[Target]
    run: Callable[[Emit], None]


class CollectorError(Exception):
    """A collector cannot go on; ``hint`` says what to do about it."""

    def __init__(self, message: str, hint: str = "", status: str = UNKNOWN) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status


def stopwatch(clock: Callable[[], float] = time.monotonic) -> Callable[[], float]:
    """A function that tells the milliseconds since its making."""
    started = clock()
    return lambda: (clock() - started) * 1000.0


def skip(targets: Iterable[Target], emit: Emit, reason: str) -> None:
    """Answer targets that make no sense here, with the reason."""
    for target in targets:
        emit(Measurement(target, status=SKIPPED, message=reason))


def run_collectors(
    collectors: Sequence[Collector],
    deadline_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> list[Measurement]:
    """All measurements, in the collectors' and their targets' order.

    Every target of every collector is answered exactly once: an unexpected exception or a missed
    deadline becomes unknown for what was still owed. Measurements nobody promised are kept, too
    (a collector may find more instances than it knew of). Returns no later than
    ``deadline_seconds`` plus the time it takes to sort.
    """
    started = clock()
    done: queue.Queue[tuple[int, Measurement | BaseException | None]] = queue.Queue()
    accepting = threading.Event()
    accepting.set()

    def work(index: int, collector: Collector) -> None:
        since = stopwatch(clock)

        def emit(measurement: Measurement) -> None:
            if accepting.is_set():
                if not measurement.duration_ms:
                    measurement = replace(measurement, duration_ms=since())
                done.put((index, measurement))

        try:
            collector.run(emit)
        except BaseException as error:  # a thread has no caller to raise to
            done.put((index, error))
        else:
            done.put((index, None))

    for index, collector in enumerate(collectors):
        threading.Thread(
            target=work, args=(index, collector), name=collector.name, daemon=True
        ).start()

    found: list[dict[Target, Measurement]] = [{} for _collector in collectors]
    failures: dict[int, BaseException] = {}
    running = set(range(len(collectors)))
    while running:
        remaining = deadline_seconds - (clock() - started)
        if remaining <= 0:
            break
        try:
            index, item = done.get(timeout=remaining)
        except queue.Empty:
            break
        if isinstance(item, Measurement):
            found[index].setdefault(item.target, item)
            continue
        running.discard(index)
        if item is not None:
            failures[index] = item
    accepting.clear()

    elapsed_ms = (clock() - started) * 1000.0
    measurements: list[Measurement] = []
    for index, collector in enumerate(collectors):
        answers = dict(found[index])
        for target in collector.targets:
            if target in answers:
                measurements.append(answers.pop(target))
                continue
            measurements.append(
                _unanswered(
                    target, failures.get(index), index in running, deadline_seconds, elapsed_ms
                )
            )
        measurements.extend(answers.values())
    return measurements


def _unanswered(
    target: Target,
    error: BaseException | None,
    running: bool,
    deadline_seconds: float,
    elapsed_ms: float,
) -> Measurement:
    status = UNKNOWN
    hint: str | None = None
    if isinstance(error, CollectorError):
        message, status = str(error), error.status
        hint = error.hint or None
    elif error is not None:
        message = f"could not be measured: {type(error).__name__}: {error}"
    elif running:
        message = f"no answer within the deadline of {deadline_seconds:g} s"
    else:
        message = "the collector ended without an answer"
    return Measurement(target, status=status, message=message, hint=hint, duration_ms=elapsed_ms)
