# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time

from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    SKIPPED,
    UNKNOWN,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    CollectorError,
    CollectorRun,
    Emit,
    run_collectors,
    skip,
)

FIRST = Target("host.cpu", "host")
SECOND = Target("host.load", "host")


def test_every_target_is_answered_in_order() -> None:
    def run(emit: Emit) -> None:
        emit(Measurement(SECOND, 2, duration_ms=7.0))
        emit(Measurement(FIRST, 1))

    first, second = run_collectors([Collector("host", (FIRST, SECOND), run)], 5)
    assert (first.target, first.value) == (FIRST, 1)
    assert first.duration_ms > 0
    assert (second.target, second.value, second.duration_ms) == (SECOND, 2, 7.0)


def test_one_crash_leaves_the_others_and_what_it_had_said() -> None:
    def crash(emit: Emit) -> None:
        emit(Measurement(FIRST, 1))
        raise RuntimeError("no such file")

    def healthy(emit: Emit) -> None:
        emit(Measurement(Target("api.health", "api"), message="well"))

    answers = run_collectors(
        [
            Collector("crash", (FIRST, SECOND), crash),
            Collector("healthy", (Target("api.health", "api"),), healthy),
        ],
        5,
    )
    assert [answer.status for answer in answers] == [None, UNKNOWN, None]
    assert answers[1].message == "could not be measured: RuntimeError: no such file"


def test_a_collectors_own_error_says_status_and_hint() -> None:
    def run(_emit: Emit) -> None:
        raise CollectorError("refused", hint="start it", status=CRITICAL)

    (answer,) = run_collectors([Collector("c", (FIRST,), run)], 5)
    assert (answer.status, answer.message, answer.hint) == (CRITICAL, "refused", "start it")


def test_one_that_hangs_never_holds_the_check() -> None:
    release = threading.Event()

    def hang(_emit: Emit) -> None:
        release.wait(30)

    def quick(emit: Emit) -> None:
        emit(Measurement(SECOND, 2))

    started = time.monotonic()
    answers = run_collectors(
        [Collector("hang", (FIRST,), hang), Collector("quick", (SECOND,), quick)], 0.3
    )
    elapsed = time.monotonic() - started
    release.set()
    assert elapsed < 2
    assert answers[0].status == UNKNOWN
    assert answers[0].message == "no answer within the deadline of 0.3 s"
    assert answers[1].value == 2


def test_a_deadline_that_is_past_already_answers_all_as_unknown() -> None:
    run = CollectorRun(0.0)
    run.start([Collector("c", (FIRST,), lambda emit: emit(Measurement(FIRST, 1)))])
    assert run.remaining_seconds <= 0
    (answer,) = run.finish()
    assert answer.status == UNKNOWN


def test_a_collector_that_says_nothing_is_found_out() -> None:
    (answer,) = run_collectors([Collector("c", (FIRST,), lambda _emit: None)], 5)
    assert (answer.status, answer.message) == (UNKNOWN, "the collector ended without an answer")


def test_a_collector_may_start_others_and_find_more_than_it_promised() -> None:
    run = CollectorRun(5)

    def discover(emit: Emit) -> None:
        run.start([Collector("found", (SECOND,), lambda emit: emit(Measurement(SECOND, 2)))])
        emit(Measurement(FIRST, 1))

    run.start([Collector("discover", (), discover)])
    assert [(answer.target, answer.value) for answer in run.finish()] == [(FIRST, 1), (SECOND, 2)]


def test_the_first_answer_counts() -> None:
    def run(emit: Emit) -> None:
        emit(Measurement(FIRST, 1))
        emit(Measurement(FIRST, 2))

    (answer,) = run_collectors([Collector("c", (FIRST,), run)], 5)
    assert answer.value == 1


def test_skip_gives_the_reason() -> None:
    said: list[Measurement] = []
    skip((FIRST, SECOND), said.append, "the project has no nginx")
    assert [(m.status, m.message) for m in said] == [(SKIPPED, "the project has no nginx")] * 2
