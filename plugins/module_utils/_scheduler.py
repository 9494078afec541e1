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


class CollectorRun:
    """Collectors at work, until all have ended or the deadline is past.

    More can be started at any time, also by a collector that is itself at work (what there is to
    look at is known only once the engine has answered). Every target of every collector is
    answered exactly once: an unexpected exception or a missed deadline becomes unknown for what
    was still owed. Measurements nobody promised are kept, too (a collector may find more
    instances than it knew of).
    """

    def __init__(
        self, deadline_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._collectors: list[Collector] = []
        self._done: queue.Queue[tuple[int, Measurement | BaseException | None]] = queue.Queue()

    @property
    def remaining_seconds(self) -> float:
        """How long until the deadline; negative when it is past."""
        return self._deadline_seconds - (self._clock() - self._started)

    def start(self, collectors: Iterable[Collector]) -> None:
        """Set collectors to work, a thread each."""
        for collector in collectors:
            with self._lock:
                index = len(self._collectors)
                self._collectors.append(collector)
            threading.Thread(
                target=self._work, args=(index, collector), name=collector.name, daemon=True
            ).start()

    def _work(self, index: int, collector: Collector) -> None:
        since = stopwatch(self._clock)

        def emit(measurement: Measurement) -> None:
            if not measurement.duration_ms:
                measurement = replace(measurement, duration_ms=since())
            self._done.put((index, measurement))

        try:
            collector.run(emit)
        except BaseException as error:  # a thread has no caller to raise to
            self._done.put((index, error))
        else:
            self._done.put((index, None))

    def finish(self) -> list[Measurement]:
        """Wait for the answers; all measurements in the collectors' and their targets' order."""
        found: dict[int, dict[Target, Measurement]] = {}
        failures: dict[int, BaseException] = {}
        ended: set[int] = set()
        while len(ended) < self._count():
            remaining = self.remaining_seconds
            if remaining <= 0:
                break
            try:
                index, item = self._done.get(timeout=remaining)
            except queue.Empty:
                break
            if isinstance(item, Measurement):
                found.setdefault(index, {}).setdefault(item.target, item)
                continue
            ended.add(index)
            if item is not None:
                failures[index] = item

        measurements: list[Measurement] = []
        with self._lock:
            collectors = list(self._collectors)
        for index, collector in enumerate(collectors):
            answers = found.get(index, {})
            for target in collector.targets:
                if target in answers:
                    measurements.append(answers.pop(target))
                else:
                    measurements.append(
                        self._unanswered(target, failures.get(index), index not in ended)
                    )
            measurements.extend(answers.values())
        return measurements

    def _count(self) -> int:
        with self._lock:
            return len(self._collectors)

    def _unanswered(
        self, target: Target, error: BaseException | None, running: bool
    ) -> Measurement:
        status = UNKNOWN
        hint: str | None = None
        if isinstance(error, CollectorError):
            message, status = str(error), error.status
            hint = error.hint or None
        elif error is not None:
            message = f"could not be measured: {type(error).__name__}: {error}"
        elif running:
            message = f"no answer within the deadline of {self._deadline_seconds:g} s"
        else:
            message = "the collector ended without an answer"
        elapsed_ms = (self._clock() - self._started) * 1000.0
        return Measurement(
            target, status=status, message=message, hint=hint, duration_ms=elapsed_ms
        )


def run_collectors(collectors: Sequence[Collector], deadline_seconds: float) -> list[Measurement]:
    """Start these collectors, and no others, and wait for them."""
    run = CollectorRun(deadline_seconds)
    run.start(collectors)
    return run.finish()
