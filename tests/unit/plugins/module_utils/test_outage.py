# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which services are broken, what is done to them and in which order, and when it is given up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    ComposeService,
    Container,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._outage import (
    BROKEN,
    CREATE,
    LEFT_ALONE,
    LOOP_PATIENCE_SECONDS,
    OK,
    RESTART,
    SLACK_SECONDS,
    START,
    UNPAUSE,
    WAITING,
    Decision,
    Recovery,
    Seen,
    Situation,
    Verdict,
    all_needs,
    assess,
    at_risk,
    at_work,
    causes,
    dependency_order,
    escalation_lines,
    event_rows,
    failure_text,
    needs_of,
    plan_lines,
    service_results,
)


def container(service: str, state: str = "running", number: int = 1, **more: Any) -> Container:
    name = f"shop-{service}-{number}"
    running = {"started_at": "2026-11-24T00:00:00Z"} if state == "running" else {}
    return Container(
        name, name, service, number, state, f"{service}:1", "sha256:1", **{**running, **more}
    )


def seen(service: str, state: str = "running", number: int = 1, **more: Any) -> Seen:
    own = {name: more.pop(name) for name in list(more) if name in Seen.__dataclass_fields__}
    return Seen(container(service, state, number, **more), **{"age_seconds": 60.0, **own})


def situation(*found: Seen, **more: Any) -> Situation:
    members: dict[str, list[Seen]] = {}
    for one in found:
        members.setdefault(one.container.service, []).append(one)
    services = more.pop("services", None)
    if services is None:
        services = {
            name: ComposeService(name, replicas=len(ones)) for name, ones in members.items()
        }
    return Situation(services, members, **more)


def verdict(one: Seen, **more: Any) -> Verdict:
    (answer,) = assess(situation(one, **more)).values()
    return answer


# What is broken


@pytest.mark.parametrize(
    ("one", "status", "kinds"),
    [
        (seen("a"), OK, []),
        (seen("a", health="healthy"), OK, []),
        (seen("a", health="healthy", age_seconds=1.0), OK, []),
        (seen("a", age_seconds=9.0), WAITING, []),
        (seen("a", health="starting", start_allowance_seconds=90.0), WAITING, []),
        (seen("a", health="starting", start_allowance_seconds=50.0), BROKEN, [RESTART]),
        (seen("a", health="unhealthy", health_output="no"), BROKEN, [RESTART]),
        (seen("a", health="unhealthy", busy="redo in progress"), WAITING, []),
        (seen("a", health="starting", busy="redo", start_allowance_seconds=1.0), WAITING, []),
        (seen("a", "paused", health="healthy"), BROKEN, [UNPAUSE]),
        (seen("a", "exited", exit_code=137), BROKEN, [START]),
        (seen("a", "exited"), BROKEN, [START]),
        (seen("a", "created", error="port is taken"), BROKEN, [START]),
        (seen("a", "restarting", exit_code=1, restart_count=4), BROKEN, [RESTART]),
        (seen("a", "removing"), WAITING, []),
        (seen("a", "dead"), BROKEN, []),
        (seen("a", age_seconds=2.0, restart_count=3, restarts_before=3), WAITING, []),
        (seen("a", age_seconds=2.0, restart_count=4, restarts_before=3), BROKEN, [RESTART]),
        (seen("a", age_seconds=20.0, restart_count=4, restarts_before=3), OK, []),
        (seen("a", health="healthy", stale="shop-b-1"), BROKEN, [RESTART]),
        (seen("a", started_at="", error="inspect failed"), WAITING, []),
    ],
)
def test_a_container(one: Seen, status: str, kinds: list[str]) -> None:
    answer = verdict(one)
    assert (answer.status, [action.kind for action in answer.actions]) == (status, kinds)
    assert answer.message
    assert bool(answer.obstacle) == (one.container.state == "dead")


def test_of_a_health_check_the_last_line_is_told_without_secrets() -> None:
    output = "Traceback (most recent call last):\n  File x\nOSError: password=hunter22 refused\n\n"
    told = verdict(seen("a", health="unhealthy", health_output=output)).message
    assert told == "shop-a-1 is unhealthy: OSError: password=*** refused"


def test_one_off_jobs_are_not_run_again() -> None:
    job = {"services": {"job": ComposeService("job", one_shot=True)}}
    assert verdict(seen("job", "exited"), **job).status == OK
    failed = verdict(seen("job", "exited", exit_code=3), **job)
    assert failed.status == LEFT_ALONE and "failed" in failed.remark
    assert verdict(seen("job", "created"), **job).status == OK
    assert verdict(seen("job"), **job).status == OK
    assert verdict(seen("job", "paused"), **job).actions[0].kind == UNPAUSE
    assert assess(situation(**job))["job"].status == LEFT_ALONE


def test_a_profile_that_is_not_on_is_not_broken() -> None:
    tools = {"services": {"tools": ComposeService("tools", profiles=("debug",))}}
    assert verdict(seen("tools", "exited"), **tools).status == LEFT_ALONE
    assert assess(situation(**tools))["tools"].status == LEFT_ALONE
    assert verdict(seen("tools", "exited"), profiles=["debug"], **tools).status == BROKEN
    assert verdict(seen("tools", "exited"), profiles=["*"], **tools).status == BROKEN
    assert verdict(seen("tools", health="unhealthy"), **tools).status == BROKEN


def test_replicas() -> None:
    three = {"services": {"api": ComposeService("api", replicas=3)}}
    one_stopped = assess(
        situation(seen("api"), seen("api", "exited", 2), seen("api", number=3), **three)
    )["api"]
    assert [action.text for action in one_stopped.actions] == ["start shop-api-2"]
    one_missing = assess(situation(seen("api"), seen("api", number=2), **three))["api"]
    assert [(a.kind, a.service, a.container_id) for a in one_missing.actions] == [
        (CREATE, "api", "")
    ]
    assert "1 of 3 containers missing" in one_missing.message
    one = {"services": {"api": ComposeService("api", replicas=1)}}
    scaled = assess(situation(seen("api"), seen("api", "exited", 2), **one))["api"]
    assert scaled.status == OK, "what scaling down has left is not broken"
    hung = assess(situation(seen("api"), seen("api", "paused", 2), **one))["api"]
    assert [action.text for action in hung.actions] == ["unpause shop-api-2"]
    none = assess(situation(services={"api": ComposeService("api", replicas=0)}))["api"]
    assert none.status == OK


def test_a_missing_container_that_cannot_be_made() -> None:
    answer = assess(
        situation(services={"api": ComposeService("api")}, cannot_create={"api": "no image x:1"})
    )["api"]
    assert answer.status == BROKEN and answer.obstacle == "no image x:1"


def test_what_is_left_alone() -> None:
    both = situation(
        seen("api", "exited"),
        seen("old", "exited"),
        services={"api": ComposeService("api")},
        left_alone={"api": "off the network"},
    )
    assert {name: one.status for name, one in assess(both).items()} == {
        "api": LEFT_ALONE,
        "old": LEFT_ALONE,
    }
    assert assess(situation(seen("old", "exited"), services={}))["old"].status == BROKEN


def test_a_restless_container_that_is_up_is_told_and_not_touched() -> None:
    restless = verdict(seen("a", health="healthy", restart_count=7, restarts_before=7))
    assert restless.status == OK and "7 times" in restless.remark
    calm = verdict(seen("a", health="healthy", restart_count=7, age_seconds=9000.0))
    assert calm.remark == ""


# Who needs whom


def test_needs_are_declared_labelled_or_implied() -> None:
    services = {name: ComposeService(name) for name in ("nginx", "api", "db", "cache", "exporter")}
    containers = {
        "api": [
            container(
                "api",
                environment={"DATABASE_URL": "postgresql://u:p@db:5432/x", "NOTE": "cachet"},
                labels={"com.docker.compose.depends_on": "cache:service_healthy:false,gone:x:y"},
            )
        ],
        "exporter": [
            container("exporter", environment={"URI": "db:5432/x?y", "OTHER_HOST": "cache"})
        ],
    }
    needs = needs_of(services, containers, {}, {"nginx": "nginx", "api": "api"})
    assert needs == {
        "nginx": {"api"},
        "api": {"db", "cache"},
        "db": set(),
        "cache": set(),
        "exporter": {"db", "cache"},
    }
    circle = needs_of(services, containers, {"db": ["api"], "api": ["api"]}, {})
    assert circle["db"] == {"api"} and circle["api"] == {"cache"}


def test_order_and_transitive_needs() -> None:
    needs = {"nginx": {"api"}, "api": {"db", "cache"}, "db": set()}
    names = ["nginx", "api", "db", "cache"]
    assert dependency_order(names, needs) == ["cache", "db", "api", "nginx"]
    assert all_needs("nginx", needs) == {"api", "db", "cache"}
    assert dependency_order(["a", "b"], {"a": {"b"}, "b": {"a"}}) == ["b", "a"]


def test_at_risk_is_what_is_not_well_and_what_needs_it() -> None:
    found = situation(
        seen("db", "exited"), seen("api"), seen("web"), needs={"api": {"db"}, "web": set()}
    )
    assert at_risk(assess(found), found.needs) == ["db", "api"]


# What is done


NEEDS = {"api": {"db"}, "web": {"api"}}


def step(
    recovery: Recovery, found: Situation, now: float, error: str = ""
) -> tuple[list[str], Decision]:
    """What is done, as if it were."""
    decision = recovery.decide(assess(found), found, now)
    for action in decision.act:
        recovery.acted(action, now, error)
    return [action.text for action in decision.act], decision


def test_only_what_is_broken_is_touched_and_then_it_is_over() -> None:
    recovery = Recovery()
    broken = situation(seen("db", "exited"), seen("web"))
    assert step(recovery, broken, 0.0)[0] == ["start shop-db-1"]
    waiting = situation(seen("db", age_seconds=1.0), seen("web"))
    deeds, decision = step(recovery, waiting, 1.0)
    assert deeds == [] and not decision.over
    deeds, decision = step(recovery, situation(seen("db"), seen("web")), 11.0)
    assert deeds == [] and decision.over and recovery.stuck == {}


def test_what_is_needed_comes_first_and_the_dependent_may_get_well_by_itself() -> None:
    recovery = Recovery()
    ill = seen("api", health="unhealthy", check_seconds=15.0)
    broken = situation(seen("db", "exited"), ill, needs=NEEDS)
    assert step(recovery, broken, 0.0)[0] == ["start shop-db-1"]
    starting = situation(
        seen("db", health="starting", start_allowance_seconds=99), ill, needs=NEEDS
    )
    assert step(recovery, starting, 1.0)[0] == []
    mended = situation(seen("db", health="healthy"), ill, needs=NEEDS)
    deeds, decision = step(recovery, mended, 5.0)
    assert deeds == [] and decision.released == ["api"]
    assert step(recovery, mended, 5.0 + 15.0 + SLACK_SECONDS - 0.1)[0] == []
    assert step(recovery, mended, 5.0 + 15.0 + SLACK_SECONDS)[0] == ["restart shop-api-1"]
    well = situation(seen("db", health="healthy"), seen("api", health="healthy"), needs=NEEDS)
    assert step(recovery, well, 40.0)[1].over and not recovery.stuck


def test_a_dependent_that_gets_well_by_itself_is_never_touched() -> None:
    recovery = Recovery()
    ill = seen("api", health="unhealthy", check_seconds=15.0)
    step(recovery, situation(seen("db", "exited"), ill, needs=NEEDS), 0.0)
    step(recovery, situation(seen("db"), ill, needs=NEEDS), 11.0)
    well = situation(seen("db"), seen("api", health="healthy"), needs=NEEDS)
    deeds, decision = step(recovery, well, 20.0)
    assert deeds == [] and decision.over


def test_a_stopped_dependent_is_started_once_what_it_needs_is_well() -> None:
    recovery = Recovery()
    both = situation(seen("db", "exited"), seen("api", "exited"), needs=NEEDS)
    assert step(recovery, both, 0.0)[0] == ["start shop-db-1"]
    one = situation(seen("db"), seen("api", "exited"), needs=NEEDS)
    assert step(recovery, one, 11.0)[1].released == ["api"]
    assert step(recovery, one, 11.5)[0] == ["start shop-api-1"]


def test_a_crash_loop_is_restarted_once_and_then_given_up() -> None:
    recovery = Recovery()
    looping = situation(
        seen("api", "restarting", exit_code=3, restart_count=5),
        seen("web", "exited"),
        seen("other", "exited"),
        needs={"web": {"api"}},
    )
    assert step(recovery, looping, 0.0)[0] == ["restart shop-api-1", "start shop-other-1"]
    again = situation(
        seen("api", age_seconds=0.5, restart_count=1),
        seen("web", "exited"),
        seen("other"),
        needs={"web": {"api"}},
    )
    deeds, decision = step(recovery, again, 3.0)
    assert deeds == [] and decision.over
    assert "once more after restart" in recovery.stuck["api"]
    assert "not touched: it needs api, which is not mended" in recovery.stuck["web"]
    assert "other" not in recovery.stuck


def test_a_loop_for_want_of_what_it_needs_has_a_moment_before_it_is_restarted() -> None:
    recovery = Recovery()
    loop = seen("api", "restarting", exit_code=1, restart_count=2)
    step(recovery, situation(seen("db", "exited"), loop, needs=NEEDS), 0.0)
    mended = situation(seen("db"), loop, needs=NEEDS)
    assert step(recovery, mended, 11.0)[0] == []
    assert step(recovery, mended, 11.0 + LOOP_PATIENCE_SECONDS)[0] == ["restart shop-api-1"]


def test_what_was_paused_may_be_restarted_besides() -> None:
    recovery = Recovery()
    assert step(recovery, situation(seen("api", "paused")), 0.0)[0] == ["unpause shop-api-1"]
    ill = situation(seen("api", health="unhealthy", check_seconds=10.0))
    assert step(recovery, ill, 1.0)[0] == []
    assert step(recovery, ill, 10.0 + SLACK_SECONDS)[0] == ["restart shop-api-1"]
    assert step(recovery, ill, 60.0)[1].over
    assert "once more after restart" in recovery.stuck["api"]
    twice = Recovery()
    step(twice, situation(seen("api", "paused")), 0.0)
    step(twice, situation(seen("api", "paused")), 1.0)
    assert "once more after unpause" in twice.stuck["api"]


def test_what_was_at_work_is_not_restarted_before_its_check_has_looked_again() -> None:
    recovery = Recovery()
    busy = situation(seen("db", health="unhealthy", busy="redo", check_seconds=10.0))
    assert step(recovery, busy, 5.0)[0] == []
    ready = situation(seen("db", health="unhealthy", check_seconds=10.0))
    assert step(recovery, ready, 6.0)[0] == []
    assert step(recovery, ready, 5.0 + 10.0 + SLACK_SECONDS)[0] == ["restart shop-db-1"]


def test_a_container_that_was_made_is_not_made_or_restarted_again() -> None:
    recovery = Recovery()
    missing = situation(services={"api": ComposeService("api")})
    assert step(recovery, missing, 0.0)[0] == ["create api"]
    assert step(recovery, situation(seen("api", "exited", exit_code=1)), 1.0)[1].over
    assert "once more after create" in recovery.stuck["api"]
    again = Recovery()
    step(again, missing, 0.0)
    assert step(again, missing, 1.0)[1].over and "api" in again.stuck


def test_a_refusal_of_the_engine_is_given_up() -> None:
    recovery = Recovery()
    found = situation(seen("api", "exited"), seen("web", "exited"), needs=NEEDS)
    step(recovery, found, 0.0, error="port is already allocated")
    assert step(recovery, found, 1.0)[1].over
    assert recovery.stuck["api"] == "start shop-api-1 failed: port is already allocated"
    assert "it needs api" in recovery.stuck["web"]


def test_given_up_by_mistake_is_taken_back_with_what_needs_it() -> None:
    recovery = Recovery()
    found = situation(seen("api", "exited"), seen("web", "exited"), needs=NEEDS)
    step(recovery, found, 0.0, error="slow")
    step(recovery, found, 1.0)
    late = situation(seen("api"), seen("web", "exited"), needs=NEEDS)
    assert step(recovery, late, 20.0)[1].released == ["web"]
    assert step(recovery, late, 21.0)[0] == ["start shop-web-1"]
    assert recovery.stuck == {}


def test_nothing_is_started_on_a_full_disk_or_without_evidence_or_for_what_is_isolated() -> None:
    full = Recovery()
    step(full, situation(seen("db", "exited"), host_obstacle="/var has 1 MiB free"), 0.0)
    assert "not touched: /var has 1 MiB free" in full.stuck["db"]
    unknown = Recovery(allowed=["web"])
    assert step(unknown, situation(seen("db", "exited"), seen("web", "exited")), 0.0)[0] == [
        "start shop-web-1"
    ]
    assert "its evidence was not kept" in unknown.stuck["db"]
    lonely = Recovery()
    found = situation(
        seen("db"),
        seen("api", health="unhealthy"),
        needs=NEEDS,
        isolated=["db"],
        left_alone={"db": "off the network"},
    )
    assert step(lonely, found, 0.0)[0] == []
    assert "it needs db, which is off the network on purpose" in lonely.stuck["api"]


def test_a_suspect_is_waited_for_until_it_is_known_to_be_ill() -> None:
    recovery = Recovery()
    found = situation(seen("db", health="healthy"), seen("api", health="unhealthy"), needs=NEEDS)
    recovery.suspect("db", 50.0)
    recovery.suspect("db", 90.0)
    deeds, decision = step(recovery, found, 1.0)
    assert deeds == [] and not decision.over and recovery.is_suspect(["db"], 1.0)
    ill = situation(seen("db", health="unhealthy"), seen("api", health="unhealthy"), needs=NEEDS)
    assert step(recovery, ill, 20.0)[0] == ["restart shop-db-1"]
    cleared = Recovery()
    cleared.suspect("db", 50.0)
    cleared.cleared("db")
    assert step(cleared, found, 1.0)[0] == ["restart shop-api-1"]


def test_time_is_up() -> None:
    recovery = Recovery()
    found = assess(
        situation(seen("db", health="starting", start_allowance_seconds=99.0), seen("a"))
    )
    recovery.give_up(found, "given up after 600 s")
    assert list(recovery.stuck) == ["db"] and "given up" in recovery.stuck["db"]


# What must not be interrupted


RECOVERY = [
    "LOG:  database system was interrupted; last known up at 2026-11-24 00:00:00 UTC",
    "LOG:  database system was not properly shut down; automatic recovery in progress",
    "LOG:  redo starts at 0/1A2B3C",
]


def test_postgresql_at_work() -> None:
    assert at_work("postgres", RECOVERY) == ("LOG: redo starts at 0/1A2B3C", False)
    turned_away = [*RECOVERY, "FATAL:  the database system is starting up"]
    assert at_work("postgres", turned_away)[0]
    ready = [*RECOVERY, "LOG:  database system is ready to accept connections"]
    assert at_work("postgres", ready) == ("", True)
    assert at_work("postgres", [*ready, *RECOVERY])[0], "crashed once more"
    assert at_work("postgres", ["LOG:  checkpoint complete"]) == ("", False)
    assert at_work("api", RECOVERY) == ("", False)


def test_redis_at_work() -> None:
    loading = ["1:M 24 Nov 2026 00:00:00.000 * Loading RDB produced by version 8.0.2"]
    assert at_work("redis", loading)[0].endswith("version 8.0.2")
    assert at_work("redis", [*loading, "* Ready to accept connections tcp"]) == ("", True)


# What is said


def test_plan_and_results_and_causes() -> None:
    found = situation(
        seen("db", "exited", exit_code=137, oom_killed=True),
        seen("api", health="unhealthy", health_output="no database"),
        seen("web"),
        seen("job", "dead"),
        needs=NEEDS,
    )
    verdicts = assess(found)
    plan = plan_lines(verdicts, found.needs, "")
    assert plan[0].startswith("db: start shop-db-1: ")
    assert "api: restart shop-api-1 once db is well, if it is still needed" in plan[1]
    assert "cannot be mended from here" in plan[2] and len(plan) == 3
    assert causes(verdicts, found.needs)[0] == (
        "db",
        "shop-db-1 is exited (exit code 137, killed for want of memory)",
    )
    assert [name for name, _text in causes(verdicts, found.needs)] == ["db", "job"]
    results = {
        one["service"]: one
        for one in service_results(verdicts, {"job": "dead for good"}, {"web": 3.21}, "shop")
    }
    assert {name: one["status"] for name, one in results.items()} == {
        "db": "critical",
        "api": "critical",
        "web": "ok",
        "job": "critical",
    }
    assert results["web"]["value"] == 3.2 and "back after 3.2 s" in results["web"]["message"]
    assert results["job"]["message"] == "dead for good"


def test_results_of_what_is_left_alone_or_restless() -> None:
    verdicts = {
        "a": Verdict("a", LEFT_ALONE, "off"),
        "b": Verdict("b", OK, "up", remark="restarted 7 times"),
        "c": Verdict("c", OK, "up"),
    }
    assert [one["status"] for one in service_results(verdicts, {}, {}, "shop")] == [
        "skipped",
        "warning",
        "ok",
    ]


def test_events() -> None:
    def event(action: str, **attributes: str) -> dict[str, Any]:
        return {
            "Action": action,
            "time": 1795478400,
            "Actor": {"Attributes": {"name": "shop-db-1", **attributes}},
        }

    rows = event_rows(
        [
            event("exec_create: pg_isready"),
            event("kill", signal="9"),
            event("oom"),
            event("die", exitCode="137"),
            event("health_status: unhealthy"),
            event("start"),
        ]
    )
    assert [row[2] for row in rows] == [
        "got signal 9",
        "out of memory",
        "ended with exit code 137",
        "unhealthy",
        "start",
    ]
    assert rows[0][:2] == ["2026-11-24 00:00:00", "shop-db-1"]
    assert len(event_rows([event("start")] * 99)) == 40


def test_whom_to_call() -> None:
    whom = escalation_lines(
        [{"name": "Operations", "address": "ops@example.com"}],
        [{"name": "On-call", "address": "+1"}, {"name": "CTO"}],
    )
    assert whom == ["level 1: On-call, +1", "level 2: CTO", "Operations: ops@example.com"]
    text = failure_text("shop", ["db: gone"], whom)
    assert "seen: db: gone" in text and "escalate to level 1: On-call, +1" in text
    assert failure_text("shop", [], whom) == ""


def test_a_container_listed_and_not_inspected_is_not_taken_for_well() -> None:
    one = seen("a")
    blind = replace(one, container=replace(one.container, started_at="", error="hangs"))
    assert verdict(blind).status == WAITING
