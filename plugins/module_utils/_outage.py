# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An outage: which services are broken, what mends each, in which order, and when to stop trying.

Nothing that is well is touched. What a broken service needs is mended first, and the service looked
at again before it is touched itself. Each container is tried once.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._containers import (
    describe,
    duration_text,
    excerpt,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    ComposeService,
    Container,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._log_lines import mask_secrets

OK = "ok"
WAITING = "waiting"
BROKEN = "broken"
LEFT_ALONE = "left alone"

START = "start"
RESTART = "restart"
UNPAUSE = "unpause"
CREATE = "create"

#: A container without a health check counts as up once it has run for so long. The engine, too,
#: takes a run of ten seconds for a success, and begins its pauses between restarts anew.
SETTLE_SECONDS = 10.0
#: How long a crash-looping container is left to its restart policy once what it needs is mended.
LOOP_PATIENCE_SECONDS = 3.0
#: What a health check may take beyond its own figures on a busy host.
SLACK_SECONDS = 5.0
#: So many restarts, the last of them so recently, are worth a word of a container that is up.
_UNSTEADY_RESTARTS = 3
_UNSTEADY_SECONDS = 300.0

DEPENDS_ON_LABEL = "com.docker.compose.depends_on"
_IDLE = ("created", "exited")


@dataclass(frozen=True)
class Seen:
    """A container, and what was found out about it besides.

    ``age_seconds`` is since its start. ``start_allowance_seconds`` is how long its health check
    lets it be starting, ``check_seconds`` how long until the check has looked once more. ``busy``
    says what it is at that must not be interrupted, such as PostgreSQL's recovery. ``stale`` names
    the container in whose network it lives, where that was started after it. ``restarts_before``
    is how often the engine had restarted it when it was first looked at, or last excused.
    """

    container: Container
    age_seconds: float = 0.0
    start_allowance_seconds: float = 0.0
    check_seconds: float = 0.0
    busy: str = ""
    stale: str = ""
    restarts_before: int = 0


@dataclass(frozen=True)
class Situation:
    """A project as it is at one moment.

    ``services`` are those that count, empty where the Compose file cannot be read. ``needs`` has
    the services that each one needs. ``left_alone`` and ``cannot_create`` say of a service why it
    is not touched, and why no container of it can be made; ``isolated`` are those of the former
    that are off their networks on purpose. ``host_obstacle`` says why nothing may be started on
    this host.
    """

    services: Mapping[str, ComposeService]
    seen: Mapping[str, Sequence[Seen]]
    needs: Mapping[str, Collection[str]] = field(default_factory=dict)
    left_alone: Mapping[str, str] = field(default_factory=dict)
    cannot_create: Mapping[str, str] = field(default_factory=dict)
    isolated: Collection[str] = ()
    profiles: Collection[str] = ()
    host_obstacle: str = ""

    @property
    def names(self) -> list[str]:
        return [*self.services, *sorted(set(self.seen) - set(self.services))]


@dataclass(frozen=True)
class Action:
    """One thing to do: to a container, or, to create, to a service. ``patience_seconds`` is how
    long it may get well by itself once what it needs has been mended."""

    kind: str
    service: str
    container: str = ""
    container_id: str = ""
    patience_seconds: float = 0.0

    @property
    def text(self) -> str:
        return f"{self.kind} {self.container or self.service}"


@dataclass(frozen=True)
class Verdict:
    """What a service is. ``actions`` would mend it; with none, ``obstacle`` says why."""

    service: str
    status: str
    message: str
    actions: Sequence[Action] = ()
    obstacle: str = ""
    remark: str = ""


# Who needs whom


def needs_of(
    services: Mapping[str, ComposeService],
    containers: Mapping[str, Sequence[Container]],
    declared: Mapping[str, Iterable[str]],
    components: Mapping[str, str],
) -> dict[str, set[str]]:
    """The services that each one needs: by the Compose file, or the label that Compose left on its
    containers; by the names of services in its environment's addresses; the proxy, the API.

    What is only implied gives way where the needs would go in a circle.
    """
    names = {*services, *containers}
    needs: dict[str, set[str]] = {name: set() for name in names}
    for name in names:
        found = set(declared.get(name, ()))
        for container in containers.get(name, ()):
            label = container.labels.get(DEPENDS_ON_LABEL, "")
            found |= {entry.partition(":")[0] for entry in label.split(",") if entry}
        needs[name] = (found & names) - {name}
    implied = [
        (name, other)
        for name in sorted(names)
        for other in sorted(_addressed(containers.get(name, ()), names - {name}))
    ]
    if {"nginx", "api"} <= set(components):
        implied.append((components["nginx"], components["api"]))
    for name, other in implied:
        if name in needs and name not in all_needs(other, needs):
            needs[name].add(other)
    return needs


def _addressed(containers: Iterable[Container], names: Collection[str]) -> set[str]:
    """The services whose names stand as hosts in an environment (C{URL}, C{HOST:PORT}, C{HOST})."""
    found = set()
    for container in containers:
        for variable, value in container.environment.items():
            hosts = set(re.findall(r"(?:://|@|^|,)([A-Za-z0-9][\w.-]*)(?=:\d)", value))
            hosts |= set(re.findall(r"://(?:[^@/\s]*@)?([A-Za-z0-9][\w.-]*)(?=[:/]|$)", value))
            if re.search(r"(^|_)HOST(NAME)?$", variable):
                hosts.add(value)
            found |= hosts & set(names)
    return found


def all_needs(name: str, needs: Mapping[str, Collection[str]]) -> set[str]:
    """What a service needs, and what that needs in turn."""
    found: set[str] = set()
    pending = list(needs.get(name, ()))
    while pending:
        one = pending.pop()
        if one not in found and one != name:
            found.add(one)
            pending += needs.get(one, ())
    return found


def dependency_order(names: Sequence[str], needs: Mapping[str, Collection[str]]) -> list[str]:
    """The services with what each needs before it, otherwise as they come."""
    ordered: list[str] = []
    visiting: set[str] = set()

    def visit(name: str) -> None:
        if name in ordered or name in visiting or name not in names:
            return
        visiting.add(name)
        for one in sorted(needs.get(name, ())):
            visit(one)
        ordered.append(name)

    for name in names:
        visit(name)
    return ordered


def at_risk(verdicts: Mapping[str, Verdict], needs: Mapping[str, Collection[str]]) -> list[str]:
    """The services that a recovery may have to touch: what is not well, and what needs that."""
    unwell = {name for name, one in verdicts.items() if one.status in (BROKEN, WAITING)}
    return [
        name
        for name, one in verdicts.items()
        if one.status != LEFT_ALONE and (name in unwell or all_needs(name, needs) & unwell)
    ]


# What a service is


def assess(situation: Situation, settle_seconds: float = SETTLE_SECONDS) -> dict[str, Verdict]:
    """Each service's verdict, what it needs before it."""
    order = dependency_order(situation.names, situation.needs)
    return {name: _assess_service(name, situation, settle_seconds) for name in order}


def _assess_service(name: str, situation: Situation, settle_seconds: float) -> Verdict:
    seen = situation.seen.get(name, ())
    service = situation.services.get(name)
    if name in situation.left_alone:
        return Verdict(name, LEFT_ALONE, situation.left_alone[name])
    if service is None:
        if situation.services:
            return Verdict(name, LEFT_ALONE, "the Compose file has no such service any more")
        return _assess_containers(name, seen, len(seen), "", settle_seconds)
    job = _assess_job(name, seen) if service.one_shot else None
    if job is not None:
        return job
    if _is_off(service, seen, situation.profiles):
        return Verdict(name, LEFT_ALONE, f"its profile {service.profiles[0]} is not on")
    obstacle = situation.cannot_create.get(name, "")
    return _assess_containers(name, seen, service.replicas, obstacle, settle_seconds)


def _assess_containers(
    name: str, seen: Sequence[Seen], expected: int, cannot_create: str, settle_seconds: float
) -> Verdict:
    up = sum(1 for one in seen if one.container.state not in (*_IDLE, "dead", "removing"))
    texts: list[str] = []
    waiting: list[str] = []
    actions: list[Action] = []
    obstacles: list[str] = []
    for one in seen:
        container = one.container
        if container.state in _IDLE and up >= expected:
            continue  # what scaling down has left behind
        status, kind, text = _judge(one, settle_seconds)
        if status == WAITING:
            waiting.append(text)
        if status != BROKEN:
            continue
        texts.append(text)
        if kind:
            patience = LOOP_PATIENCE_SECONDS
            if container.health == "unhealthy":
                patience = one.check_seconds + SLACK_SECONDS
            actions.append(Action(kind, container.service, container.name, container.id, patience))
        else:
            obstacles.append(f"what is dead is only to be removed: docker rm {container.name}")
    missing = expected - len(seen)
    if missing > 0:
        texts.append(f"{missing} of {expected} containers missing" if seen else "no container")
        actions.append(Action(CREATE, name))
        obstacles += [cannot_create] if cannot_create else []
    if texts:
        return Verdict(name, BROKEN, "; ".join(texts), tuple(actions), "; ".join(obstacles))
    if waiting:
        return Verdict(name, WAITING, "; ".join(waiting))
    return Verdict(name, OK, _well(seen, expected), remark=_unsteady(seen))


def _assess_job(name: str, seen: Sequence[Seen]) -> Optional[Verdict]:
    """A one-off job is well once it has ended well, and is never run again from here."""
    states = [one.container for one in seen]
    if any(one.running or one.state == "paused" for one in states):
        return None
    failed = [one for one in states if one.exit_code]
    if failed:
        text = f"the one-off job has failed: {describe(failed[0])}"
        return Verdict(name, LEFT_ALONE, text, remark=text)
    if states:
        return Verdict(name, OK, "the one-off job has ended well")
    return Verdict(name, LEFT_ALONE, "the one-off job has no container")


def _is_off(service: ComposeService, seen: Sequence[Seen], profiles: Collection[str]) -> bool:
    """Whether a service has profiles, none of which is known to be on, and does not run: whether it
    should cannot be told then."""
    if not service.profiles or "*" in profiles or set(service.profiles) & set(profiles):
        return False
    return all(one.container.state in _IDLE for one in seen)


def _judge(seen: Seen, settle_seconds: float) -> tuple[str, str, str]:
    """(status, kind of action, text) of one container."""
    container = seen.container
    text = describe(container)
    if container.state == "running":
        return _judge_running(seen, settle_seconds)
    if container.state == "restarting":
        return BROKEN, RESTART, f"{text}, {_restarts(container)}"
    kind = {"paused": UNPAUSE, "created": START, "exited": START}.get(container.state, "")
    return (WAITING if container.state in ("removing", "unknown") else BROKEN), kind, text


def _judge_running(seen: Seen, settle_seconds: float) -> tuple[str, str, str]:
    container = seen.container
    name, health = container.name, container.health
    if not container.started_at:
        return WAITING, "", f"{name} cannot be inspected: {container.error}"
    if seen.stale:
        return BROKEN, RESTART, f"{name} lives in the network of {seen.stale}, which is newer"
    if health == "healthy" or (health is None and seen.age_seconds >= settle_seconds):
        return OK, "", ""
    if seen.busy:
        return WAITING, "", f"{name} is {health or 'running'} and at work: {seen.busy}"
    fault = _fault(seen)
    if fault:
        return BROKEN, RESTART, f"{name} {fault}"
    age = duration_text(seen.age_seconds)
    return WAITING, "", f"{name} is up for {age}, not yet known to be well"


def _fault(seen: Seen) -> str:
    """What is wrong with a running container not known to be well; empty for nothing yet."""
    container, allowed_seconds = seen.container, seen.start_allowance_seconds
    if container.health == "unhealthy":
        # Of a traceback it is the last line that says what happened.
        lines = [line for line in container.health_output.splitlines() if line.strip()]
        said = excerpt(mask_secrets(lines[-1])) if lines else ""
        return "is unhealthy" + (f": {said}" if said else "")
    if container.restart_count > seen.restarts_before:
        return f"crashes, {_restarts(container)}"
    if container.health is not None and seen.age_seconds > allowed_seconds + SLACK_SECONDS:
        age, allowed = duration_text(seen.age_seconds), duration_text(allowed_seconds)
        return f"is starting for {age}, expected {allowed} at most"
    return ""


def _restarts(container: Container) -> str:
    times = "once" if container.restart_count == 1 else f"{container.restart_count} times"
    return f"restarted {times} by the engine"


def _well(seen: Sequence[Seen], expected: int) -> str:
    if not expected:
        return "no container, as the Compose file asks"
    checked = sum(1 for one in seen if one.container.health == "healthy")
    running = sum(1 for one in seen if one.container.running)
    return f"{running} running" + (f", {checked} healthy" if checked else ", no health check")


def _unsteady(seen: Sequence[Seen]) -> str:
    for one in seen:
        many = one.container.restart_count >= _UNSTEADY_RESTARTS
        if many and one.container.running and one.age_seconds < _UNSTEADY_SECONDS:
            since = duration_text(one.age_seconds)
            return f"{one.container.name}: {_restarts(one.container)}, the last time {since} ago"
    return ""


# What to do next


@dataclass
class Decision:
    """``act`` is to be done now; with nothing to do and nothing to wait for, it is over."""

    act: list[Action] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return not self.act and not self.waits


class Recovery:
    """What has been tried, and what is to be done next. Times are seconds of one clock.

    ``allowed`` are the services that may be touched, C{None} for all. ``stuck`` has the services
    that could not be mended, each with why.
    """

    def __init__(self, allowed: Optional[Collection[str]] = None) -> None:
        self.stuck: dict[str, str] = {}
        self._allowed = allowed
        self._tried: dict[str, list[tuple[str, float]]] = {}
        self._created: set[str] = set()
        self._held: set[str] = set()
        self._lost: set[str] = set()
        self._released: dict[str, float] = {}
        self._suspects: dict[str, float] = {}

    def decide(self, verdicts: Mapping[str, Verdict], situation: Situation, now: float) -> Decision:
        """What to do now, and what to wait for. Updates ``stuck``."""
        decision = Decision()
        for name in self._lost:
            self.stuck.pop(name, None)
        self._lost.clear()
        for name, verdict in verdicts.items():
            if verdict.status in (OK, LEFT_ALONE):
                self.stuck.pop(name, None)
                self._held.discard(name)
                if self._suspects.get(name, 0.0) > now and verdict.status == OK:
                    decision.waits.append(f"{name}: its own check fails when it is asked")
            elif verdict.status == WAITING:
                # What was just at work, or just up, may be called unhealthy for a little longer.
                self._released[name] = now
                decision.waits.append(f"{name}: {verdict.message}")
            elif name not in self.stuck:
                self._consider(verdict, verdicts, situation, now, decision)
        return decision

    def acted(self, action: Action, now: float, error: str = "") -> None:
        """An action was taken, or was refused with ``error``."""
        if error:
            self.stuck[action.service] = f"{action.text} failed: {error}"
        elif action.kind == CREATE:
            self._created.add(action.service)
        else:
            self._tried.setdefault(action.container_id, []).append((action.kind, now))

    def suspect(self, name: str, until: float) -> None:
        """What is said to be healthy fails its own check: until it is known to be ill or well, what
        needs it is not touched. The first time sets the end."""
        self._suspects.setdefault(name, until)

    def cleared(self, name: str) -> None:
        """It passes its own check."""
        self._suspects.pop(name, None)

    def is_suspect(self, names: Iterable[str], now: float) -> bool:
        """Whether one of these is still to be waited for."""
        return any(self._suspects.get(name, 0.0) > now for name in names)

    def give_up(self, verdicts: Mapping[str, Verdict], why: str) -> None:
        """Time is up for all that is not well."""
        for name, verdict in verdicts.items():
            if verdict.status in (WAITING, BROKEN):
                self.stuck.setdefault(name, f"{verdict.message}; {why}")

    def _consider(
        self,
        verdict: Verdict,
        verdicts: Mapping[str, Verdict],
        situation: Situation,
        now: float,
        decision: Decision,
    ) -> None:
        name = verdict.service
        needed = [one for one in verdicts if one in all_needs(name, situation.needs)]
        ill = [one for one in needed if verdicts[one].status in (BROKEN, WAITING)]
        ill += [one for one in needed if self._suspects.get(one, 0.0) > now and one not in ill]
        lost = [one for one in needed if one in self.stuck or one in situation.isolated]
        if situation.host_obstacle:
            self.stuck[name] = f"{verdict.message}; not touched: {situation.host_obstacle}"
        elif lost:
            self._lost.add(name)
            why = "off the network on purpose" if lost[0] in situation.isolated else "not mended"
            self.stuck[name] = f"{verdict.message}; not touched: it needs {lost[0]}, which is {why}"
        elif verdict.obstacle:
            self.stuck[name] = f"{verdict.message}; {verdict.obstacle}"
        elif self._allowed is not None and name not in self._allowed:
            self.stuck[name] = f"{verdict.message}; not touched: its evidence was not kept"
        elif ill:
            self._held.add(name)
            decision.waits.append(f"{name}: waits for {', '.join(ill)}")
        elif name in self._held:
            # Its health check, or the engine, may bring it back now without being helped.
            self._held.discard(name)
            self._released[name] = now
            decision.released.append(name)
            decision.waits.append(f"{name}: what it needs is well again, it is looked at once more")
        else:
            self._try(verdict, now, decision)

    def _try(self, verdict: Verdict, now: float, decision: Decision) -> None:
        name = verdict.service
        for action in verdict.actions:
            tried = self._tried.get(action.container_id, [])
            if action.service in self._created or _is_spent(action, tried):
                done = tried[-1][0] if tried else CREATE
                self.stuck[name] = f"{verdict.message}, once more after {done}"
                return
            since = [when for _kind, when in tried] + [self._released.get(name, float("-inf"))]
            if action.kind == RESTART and now < max(since) + action.patience_seconds:
                decision.waits.append(f"{name}: {verdict.message}")
                continue
            decision.act.append(action)


def _is_spent(action: Action, tried: Sequence[tuple[str, float]]) -> bool:
    """What was paused fails the checks that fell due meanwhile: it may be restarted besides."""
    return any(kind != UNPAUSE or action.kind == UNPAUSE for kind, _when in tried)


# What must not be interrupted

#: What each server's log says while it brings its data back, and once that is over. PostgreSQL's
#: are of xlog.c, xlogrecovery.c and postmaster.c, Redis's of rdb.c, aof.c and server.c.
_AT_WORK: Mapping[str, tuple[re.Pattern[str], re.Pattern[str]]] = {
    "postgres": (
        re.compile(
            r"database system was interrupted|automatic recovery in progress|redo starts at"
            r"|redo in progress|starting (?:archive|point-in-time) recovery"
            r"|entering standby mode|database system is starting up|syncing data directory"
            r"|database system is (?:in recovery mode|not yet accepting connections)"
        ),
        re.compile(r"ready to accept|database system is shut down"),
    ),
    "redis": (
        re.compile(r"Loading RDB produced by|Reading RDB base file|Redis is loading the dataset"),
        re.compile(r"[Rr]eady to accept connections|DB loaded from"),
    ),
}


def at_work(component: str, lines: Iterable[str]) -> tuple[str, bool]:
    """What a server is at, by its log since it was started, the last word counting; and whether it
    has said that it is ready."""
    patterns = _AT_WORK.get(component)
    said, ready = "", False
    if patterns is None:
        return said, ready
    begins, ends = patterns
    for line in lines:
        if ends.search(line):
            said, ready = "", True
        elif begins.search(line):
            # A client that is turned away is told so in the middle of a recovery as well.
            said = excerpt(line, 160)
            ready = False
    return said, ready


# What is said of it


def result(about: tuple[str, str, str], status: str, message: str, **more: Any) -> dict[str, Any]:
    """One entry of the report; ``about`` is its id, its service and its title."""
    identifier, service, title = about
    return {
        "id": identifier,
        "service": service,
        "title": title,
        "status": status,
        "message": message,
        **more,
    }


def service_results(
    verdicts: Mapping[str, Verdict],
    stuck: Mapping[str, str],
    recovered_seconds: Mapping[str, float],
    project: str,
) -> list[dict[str, Any]]:
    """``outage.service`` of each service."""
    found = []
    for name, verdict in verdicts.items():
        hint = f"docker compose -p {project} logs --tail 100 {name}"
        about = ("outage.service", name, "The service is up")
        if name in stuck:
            entry = result(about, "critical", stuck[name], hint=hint)
        elif verdict.status in (BROKEN, WAITING):
            entry = result(about, "critical", verdict.message, hint=hint)
        elif verdict.remark:
            entry = result(about, "warning", verdict.remark, hint=hint)
        elif verdict.status == LEFT_ALONE:
            entry = result(about, "skipped", verdict.message)
        elif name in recovered_seconds:
            seconds = recovered_seconds[name]
            text = f"back after {seconds:.1f} s: {verdict.message}"
            entry = result(about, "ok", text, value=round(seconds, 1), unit="seconds")
        else:
            entry = result(about, "ok", verdict.message)
        found.append(entry)
    return found


def plan_lines(
    verdicts: Mapping[str, Verdict], needs: Mapping[str, Collection[str]], host_obstacle: str
) -> list[str]:
    """What a recovery would do, in its order."""
    lines = []
    for name, verdict in verdicts.items():
        ill = [
            one
            for one in verdicts
            if one in all_needs(name, needs) and verdicts[one].status in (BROKEN, WAITING)
        ]
        if verdict.status == WAITING:
            lines.append(f"{name}: wait: {verdict.message}")
        elif verdict.status == BROKEN and (verdict.obstacle or host_obstacle):
            lines.append(
                f"{name}: cannot be mended from here: {verdict.message}; "
                f"{verdict.obstacle or host_obstacle}"
            )
        elif verdict.status == BROKEN:
            deeds = ", ".join(action.text for action in verdict.actions)
            first = f" once {', '.join(ill)} is well, if it is still needed" if ill else ""
            lines.append(f"{name}: {deeds}{first}: {verdict.message}")
    return lines


def causes(
    verdicts: Mapping[str, Verdict], needs: Mapping[str, Collection[str]]
) -> list[tuple[str, str]]:
    """The services that were broken though all that they need was well, with what was seen."""
    unwell = {name for name, one in verdicts.items() if one.status in (BROKEN, WAITING)}
    return [
        (name, verdicts[name].message)
        for name in verdicts
        if name in unwell and not all_needs(name, needs) & unwell
    ]


_TOLD_EVENTS = ("die", "oom", "kill", "stop", "start", "restart", "pause", "unpause", "destroy")


def event_rows(events: Iterable[Mapping[str, Any]], most: int = 40) -> list[list[str]]:
    """Time, service and what happened, of the engine's events, the newest ``most``."""
    rows = []
    for event in events:
        action = str(event.get("Action") or event.get("status") or "")
        attributes = (event.get("Actor") or {}).get("Attributes") or {}
        if action not in _TOLD_EVENTS and not action.startswith("health_status"):
            continue
        text = action
        if action == "die":
            text = f"ended with exit code {attributes.get('exitCode', '?')}"
        elif action == "kill":
            text = f"got signal {attributes.get('signal', '?')}"
        elif action == "oom":
            text = "out of memory"
        elif action.startswith("health_status"):
            text = action.partition(":")[2].strip() or action
        rows.append([_clock(event), str(attributes.get("name") or ""), text])
    return rows[-most:]


def _clock(event: Mapping[str, Any]) -> str:
    moment = datetime.datetime.fromtimestamp(float(event.get("time") or 0), datetime.timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def escalation_lines(
    contacts: Iterable[Mapping[str, Any]], escalation: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Whom to call, the first level first."""
    lines = [
        f"level {level}: {one['name']}" + (f", {one['address']}" if one.get("address") else "")
        for level, one in enumerate(escalation, start=1)
    ]
    return lines + [f"{one['name']}: {one['address']}" for one in contacts]


def failure_text(project: str, problems: Sequence[str], whom: Sequence[str]) -> str:
    """What, seen, expected and next of an outage that is not over; empty where it is."""
    if not problems:
        return ""
    call = f"escalate to {'; '.join(whom)}" if whom else "escalate"
    return (
        f"what: {project} could not be brought back as a whole; seen: {' | '.join(problems)}; "
        f"expected: every service up and the API answering; next: {call}; once the cause is "
        "mended, ansible-playbook pynomaly.ops.outage_respond"
    )
