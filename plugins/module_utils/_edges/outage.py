# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A project in an outage: looked at, mended where it is broken, looked at again, and reported."""

from __future__ import annotations

import datetime
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._compose import (
    ComposeFiles,
    compose_arguments,
    error_text,
    identify_components,
    image_reference,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import (
    age_seconds,
    by_service,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import outage_findings
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.command import (
    CommandError,
    run_command,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.compose import (
    Project,
    compose_command,
    load_project,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    ENGINE_HINT,
    EngineError,
    EngineUnavailable,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.isolation import left
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import utc_now
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    RESUME,
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import STEP, journal_record
from ansible_collections.pynomaly.ops.plugins.module_utils._outage import (
    BROKEN,
    CREATE,
    LEFT_ALONE,
    OK,
    RESTART,
    SETTLE_SECONDS,
    SLACK_SECONDS,
    START,
    UNPAUSE,
    Action,
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
    escalation_lines,
    failure_text,
    needs_of,
    plan_lines,
    result,
    service_results,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import CRITICAL
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

Step = Callable[[str], None]

_POLL_SECONDS = 0.5
_ENGINE_START_SECONDS = 90.0
_CREATE_SECONDS = 180.0
#: What the engine gives a container to end where nobody says otherwise, and what PostgreSQL gets at
#: least: killed, it has to recover.
_STOP_SECONDS = 10
_POSTGRES_STOP_SECONDS = 60
#: So long after its start PostgreSQL may be silent, since the host may be slow to get so far as
#: its first word about a recovery.
_POSTGRES_SILENCE_SECONDS = 60.0
_LOG_LINES = 2000
_LOG_BYTES = 1024 * 1024
_COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_PROC = Path("/proc")
_STARTUP_PROCESS = re.compile(r"postgres: (?:.*: )?startup\b")


@dataclass(frozen=True)
class OutageSettings:
    """``services`` are those that may be touched, C{None} for all; ``project_dir`` is where the
    project's files are sought where it has no container to tell."""

    project: str
    project_dir: str = ""
    service_names: Mapping[str, str] = field(default_factory=dict)
    services: Optional[Sequence[str]] = None
    ignored_services: Sequence[str] = ()
    profiles: Sequence[str] = ()
    timeout_seconds: float = 600.0
    recovery_timeout_seconds: float = 3600.0
    settle_seconds: float = SETTLE_SECONDS
    external_timeout_seconds: float = 30.0
    call_timeout_seconds: float = 10.0
    minimum_free_mib: int = 64
    log_window_minutes: float = 60.0
    health_path: str = "/health"
    api_url: str = ""
    tls_server_name: str = ""
    host_address: str = ""
    contacts: Sequence[Mapping[str, Any]] = ()
    escalation: Sequence[Mapping[str, Any]] = ()
    dashboards: Sequence[Mapping[str, Any]] = ()

    @property
    def check_settings(self) -> CheckSettings:
        return CheckSettings(
            call_timeout_seconds=self.call_timeout_seconds,
            api_health_path=self.health_path,
            api_url=self.api_url or None,
            tls_server_name=self.tls_server_name or None,
        )


class Timeline:
    """What happened when, with the seconds since the beginning."""

    def __init__(self) -> None:
        self.started_at = utc_now()
        self.entries: list[dict[str, Any]] = []
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def add(self, text: str) -> None:
        entry = {"time": utc_text(utc_now()), "seconds": round(self.seconds, 1), "text": text}
        self.entries.append(entry)


def run(
    settings: OutageSettings,
    states: TemporaryStates,
    *,
    act: bool = True,
    start_engine: bool = True,
    dry_run: bool = False,
    step: Step = lambda _name: None,
) -> dict[str, Any]:
    """Bring a project back; what the module returns.

    With ``act`` unset it is only told what would be done, after ``start_engine`` has seen to the
    engine; with ``dry_run`` nothing at all is done. ``step`` is told what is about to be done.
    Raises C{EngineError}, C{CollectorError}, C{OperationError} and C{StoreError}.
    """
    timeline = Timeline()
    engine_started = False
    try:
        engine = EngineControl(settings.call_timeout_seconds)
    except EngineUnavailable as error:
        if error.reason != "not_running" or dry_run or not start_engine:
            return _without_engine(settings, error, timeline)
        step("engine")
        timeline.add(f"the engine does not run: {error}")
        _note(states, "start the engine")
        try:
            engine = _start_engine(settings)
        except EngineUnavailable as another:
            return _without_engine(settings, another, timeline)
        engine_started = True
        timeline.add("the engine was started and answers")
    outage = _Outage(settings, engine, states, timeline, step)
    answer = outage.respond(act=act and not dry_run, thorough=act or dry_run)
    would_change = dry_run and bool(answer["broken"])
    return {**answer, "changed": answer["changed"] or would_change or engine_started}


def _start_engine(settings: OutageSettings) -> EngineControl:
    """By the host's own service manager. Raises L{EngineUnavailable}."""
    try:
        done = run_command(["systemctl", "start", "docker"], _ENGINE_START_SECONDS)
    except CommandError as error:
        raise EngineUnavailable(
            f"the engine could not be started: {error}", ENGINE_HINT, "not_running"
        ) from error
    deadline = time.monotonic() + (_ENGINE_START_SECONDS if done.exit_code == 0 else 0.0)
    while True:
        try:
            return EngineControl(settings.call_timeout_seconds)
        except EngineUnavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_SECONDS)


def _without_engine(
    settings: OutageSettings, error: EngineUnavailable, timeline: Timeline
) -> dict[str, Any]:
    """Nothing can be seen, so nothing is touched; an engine that hangs is not ours to restart."""
    timeline.add(str(error))
    about = ("outage.engine", "docker", "The engine answers")
    whom = escalation_lines(settings.contacts, settings.escalation)
    return {
        "changed": False,
        "recovered": False,
        "engine": error.reason,
        "project": {"name": settings.project},
        "broken": [],
        "at_risk": [],
        "evidence_services": [],
        "plan": ["engine: systemctl start docker"] if error.reason == "not_running" else [],
        "actions": [],
        "results": [result(about, CRITICAL, str(error), hint=error.hint)],
        "tables": [_timeline_table(timeline)],
        "external_urls": [],
        "recovery_seconds": None,
        "problem": failure_text(settings.project, [f"{error}; {error.hint}"], whom),
        "lines": [str(error)],
        "started_at": utc_text(timeline.started_at),
        "duration_ms": round(timeline.seconds * 1000),
    }


def _note(states: TemporaryStates, summary: str) -> None:
    states.store.append(
        journal_record(
            time=utc_now(),
            event=STEP,
            identity=states.identity,
            operation=states.operation,
            project=states.project,
            summary=summary,
        )
    )


def _timeline_table(timeline: Timeline) -> dict[str, Any]:
    return {
        "title": "Timeline",
        "columns": ["Time (UTC)", "Seconds", "What"],
        "rows": [[one["time"], one["seconds"], one["text"]] for one in timeline.entries],
    }


class _Outage:
    def __init__(
        self,
        settings: OutageSettings,
        engine: EngineControl,
        states: TemporaryStates,
        timeline: Timeline,
        step: Step,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._states = states
        self._timeline = timeline
        self._step = step
        self._project = self._load()
        self._isolated = {one.service: one.since for one in left(states)}
        self._docker_root = self._root()
        self._restarts: dict[str, int] = {}
        self._check_seconds: dict[str, float] = {}
        self._containers: Mapping[str, Sequence[Container]] = self._project.containers
        self._actions: list[dict[str, Any]] = []
        self._back_seconds: dict[str, float] = {}
        self._statuses: dict[str, str] = {}
        self._well_since: dict[str, float] = {}

    def respond(self, *, act: bool, thorough: bool) -> dict[str, Any]:
        """The whole answer; without ``thorough`` nothing is asked from outside and no log read."""
        situation, verdicts = self._look(self._project.containers)
        first = verdicts
        self._follow(verdicts)
        recovery = Recovery(self._settings.services)
        if act:
            situation, verdicts = self._recover(recovery, situation, verdicts)
        stack = self._stack()
        findings = outage_findings.Findings()
        hopeful = act and not recovery.stuck
        if thorough:
            findings = outage_findings.look(
                self._engine,
                stack,
                self._settings.check_settings,
                self._timeline.add,
                patience_seconds=self._settings.external_timeout_seconds if hopeful else 0.0,
                may_reload=hopeful,
                host_address=self._settings.host_address,
            )
        results = [
            result(
                ("outage.engine", "docker", "The engine answers"),
                "ok",
                f"Docker {self._engine.version().get('Version')}",
            ),
            *self._project_results(),
            *service_results(verdicts, recovery.stuck, self._back_seconds, stack.project),
            *findings.results,
        ]
        problems = [
            f"{one['service']}: {one['message']}" for one in results if one["status"] == CRITICAL
        ]
        took = round(self._timeline.seconds, 1)
        changed = bool(self._actions) or findings.reloaded
        if act:
            well = f"recovered after {took:g} s" if changed else "everything is well"
            self._timeline.add("stopped: it is not recovered" if problems else well)
        endangered = at_risk(first, situation.needs)
        lines = plan_lines(first, situation.needs, situation.host_obstacle)
        call = escalation_lines(self._settings.contacts, self._settings.escalation)
        whom = call if problems else []
        return {
            "changed": changed,
            "recovered": not problems,
            "engine": "running",
            "project": {
                "name": stack.project,
                "working_dir": stack.working_dir,
                "config_files": list(stack.config_files),
            },
            "broken": [name for name, one in first.items() if one.status == BROKEN],
            "at_risk": endangered,
            "evidence_services": [
                name for name in endangered if self._project.containers.get(name)
            ],
            "plan": lines,
            "actions": self._actions,
            "results": results,
            "tables": self._tables(findings, causes(first, situation.needs), thorough, whom),
            "external_urls": findings.urls,
            "recovery_seconds": took if act and not problems and changed else None,
            "problem": failure_text(stack.project, problems, whom),
            "lines": self._lines(first, lines, problems, took if act else None),
            "started_at": utc_text(self._timeline.started_at),
            "duration_ms": round(self._timeline.seconds * 1000),
        }

    # Looking

    def _load(self) -> Project:
        settings = self._settings
        found = load_project(self._engine, settings.project, settings.call_timeout_seconds)
        if found.containers:
            return found
        folder = Path(settings.project_dir or "/nonexistent")
        for name in _COMPOSE_NAMES:
            if (folder / name).is_file():
                environment = folder / ".env"
                files = ComposeFiles(
                    str(folder),
                    (str(folder / name),),
                    (str(environment),) if environment.is_file() else (),
                )
                return load_project(
                    self._engine, settings.project, settings.call_timeout_seconds, files
                )
        return found

    def _root(self) -> str:
        if not self._engine.base_url.startswith("unix://"):
            return ""
        return str(self._engine.info().get("DockerRootDir") or "")

    def _stack(self) -> Stack:
        services = self._project.config.services if self._project.config else {}
        return Stack(
            project=self._project.name,
            working_dir=self._project.files.working_dir,
            config_files=tuple(self._project.files.config_files),
            environment_files=tuple(self._project.files.environment_files),
            services=services,
            containers=self._containers,
            components=identify_components(
                services, self._containers, self._settings.service_names
            ),
            compose_error=self._project.error,
        )

    def _look(
        self, containers: Optional[Mapping[str, Sequence[Container]]] = None
    ) -> tuple[Situation, dict[str, Verdict]]:
        if containers is None:
            listed = self._engine.list_project_containers(self._settings.project)
            containers = by_service(listed)
        self._containers = containers
        config = self._project.config
        services = dict(config.services) if config else {}
        declared = config.needs if config else {}
        stack = self._stack()
        needs = needs_of(services, containers, declared, stack.components)
        now = utc_now()
        component_of = {service: name for name, service in stack.components.items()}
        seen = {
            name: tuple(
                self._see(one, component_of.get(name, ""), now, self._newer_owner(name, one))
                for one in members
            )
            for name, members in containers.items()
        }
        left_alone = dict.fromkeys(self._settings.ignored_services, "told to be left alone")
        for name, since in self._isolated.items():
            left_alone[name] = f"off the network on purpose since {since}"
        situation = Situation(
            services=services,
            seen=seen,
            needs=needs,
            left_alone=left_alone,
            cannot_create=self._cannot_create(),
            isolated=tuple(self._isolated),
            profiles=self._profiles(),
            host_obstacle=self._disk_obstacle(seen),
        )
        return situation, assess(situation, self._settings.settle_seconds)

    def _see(
        self, container: Container, component: str, now: datetime.datetime, stale: str
    ) -> Seen:
        age = age_seconds(container.started_at, now) if container.running else None
        before = self._restarts.setdefault(container.id, container.restart_count)
        unsure = container.running and container.health in ("unhealthy", "starting")
        return Seen(
            container,
            age_seconds=age or 0.0,
            start_allowance_seconds=self._engine.start_allowance_seconds(container.id),
            check_seconds=self._interval(container) if unsure else 0.0,
            busy=self._busy(container, component, age or 0.0) if unsure else "",
            stale=stale,
            restarts_before=before,
        )

    def _interval(self, container: Container) -> float:
        """Within which the container's health check has looked once more."""
        if container.id not in self._check_seconds:
            check = (self._engine.inspection(container.id).get("Config") or {}).get("Healthcheck")
            check = check or {}
            total = (check.get("Interval") or 30e9) + (check.get("Timeout") or 30e9)
            self._check_seconds[container.id] = total / 1e9
        return self._check_seconds[container.id]

    def _newer_owner(self, name: str, container: Container) -> str:
        needs = self._project.config.needs.get(name, {}) if self._project.config else {}
        for other, need in needs.items():
            for owner in self._containers.get(other, ()) if need.shares else ():
                if owner.running and owner.started_at > container.started_at:
                    return owner.name
        return ""

    def _busy(self, container: Container, component: str, age: float) -> str:
        """What a server is at that must not be interrupted: by its log, and for PostgreSQL by its
        processes, where the log goes elsewhere."""
        if component not in ("postgres", "redis"):
            return ""
        processes = _processes(container.pid)
        if processes and all(stopped for _title, stopped in processes):
            return ""  # frozen: it is at nothing
        lines: list[str] = []
        try:
            log = self._engine.logs(container.id, age + 1.0, _LOG_BYTES, tail_lines=_LOG_LINES)
            lines = [line.decode("utf-8", "replace") for _stream, line in log]
        except EngineError as error:
            if error.status_code is None:
                raise
        said, ready = at_work(component, lines)
        if said or ready or component != "postgres":
            return said
        titles = [title for title, _stopped in processes if _STARTUP_PROCESS.match(title)]
        if not titles and age < _POSTGRES_SILENCE_SECONDS:
            return f"it was started {age:.0f} s ago and has not said yet that it is ready"
        return titles[0] if titles else ""

    def _cannot_create(self) -> dict[str, str]:
        config = self._project.config
        if config is None:
            return {}
        if config.unset_variables:
            names = ", ".join(config.unset_variables[:5])
            text = (
                f"a container cannot be made: the Compose file needs {names}, which nothing on "
                "this host sets; bring it up with the environment it was deployed with"
            )
            return dict.fromkeys(config.services, text)
        return {
            name: f"its image {image_reference(self._project.name, service)} is not on this host: "
            f"docker pull {image_reference(self._project.name, service)}"
            for name, service in config.services.items()
            if not service.image_id
        }

    def _profiles(self) -> list[str]:
        told = os.environ.get("COMPOSE_PROFILES", "").split(",")
        return [*self._settings.profiles, *(name.strip() for name in told if name.strip())]

    def _disk_obstacle(self, seen: Mapping[str, Sequence[Seen]]) -> str:
        """Where the engine's disk, or one that a stopped container writes to, is full."""
        if not self._docker_root:
            return ""
        paths = {self._docker_root}
        for one in (one for members in seen.values() for one in members):
            if not one.container.running:
                writable = (mount for mount in one.container.mounts if not mount.read_only)
                paths |= {mount.source for mount in writable if mount.source}
        for path in sorted(paths):
            try:
                room = os.statvfs(path)
            except OSError:
                continue
            free_mib = room.f_bavail * room.f_frsize // 1048576
            if free_mib < self._settings.minimum_free_mib:
                return (
                    f"{path} has {free_mib} MiB free, expected {self._settings.minimum_free_mib} "
                    f"at least: df -h {path}"
                )
            if room.f_files and not room.f_favail:
                return f"{path} has no inode left: df -i {path}"
        return ""

    def _project_results(self) -> list[dict[str, Any]]:
        found = []
        if not self._containers and self._project.config is None:
            about = ("outage.project", "project", "The project is found")
            projects = ", ".join(sorted(self._engine.projects())) or "none"
            found.append(
                result(
                    about,
                    CRITICAL,
                    f"the engine has no container of {self._project.name}, and there are no files "
                    f"to make one of; projects there are: {projects}",
                    hint="docker compose up --detach in the project's folder",
                )
            )
        if self._project.error:
            about = ("outage.compose_file", "project", "The Compose file is read")
            found.append(
                result(
                    about,
                    "warning",
                    f"{self._project.error}; what lacks a container cannot be told",
                    hint="docker compose config --quiet in the project's folder",
                )
            )
        names = sorted({str(record["temporary_state"]) for record in self._states.left()})
        if names:
            about = ("outage.temporary_states", "project", "Nothing temporary is open")
            found.append(result(about, "warning", f"open: {', '.join(names)}", hint=RESUME))
        return found

    # Mending

    def _recover(
        self, recovery: Recovery, situation: Situation, verdicts: dict[str, Verdict]
    ) -> tuple[Situation, dict[str, Verdict]]:
        while True:
            decision = recovery.decide(verdicts, situation, self._timeline.seconds)
            self._excuse(decision.released)
            acted = False
            for action in self._unsuspected(recovery, decision, situation):
                self._act(action, verdicts[action.service], recovery)
                acted = True
            if decision.over:
                return situation, verdicts
            if not acted:
                if self._timeline.seconds >= self._limit_seconds(situation):
                    recovery.give_up(verdicts, f"given up after {self._timeline.seconds:.0f} s")
                    return situation, verdicts
                time.sleep(_POLL_SECONDS)
            situation, verdicts = self._look()
            self._follow(verdicts)

    def _limit_seconds(self, situation: Situation) -> float:
        busy = any(one.busy for members in situation.seen.values() for one in members)
        settings = self._settings
        return settings.recovery_timeout_seconds if busy else settings.timeout_seconds

    def _excuse(self, names: Iterable[str]) -> None:
        """What crashed for want of what it needs starts with a clean record."""
        for container in (one for name in names for one in self._containers.get(name, ())):
            self._restarts[container.id] = container.restart_count

    def _unsuspected(
        self, recovery: Recovery, decision: Decision, situation: Situation
    ) -> list[Action]:
        """The actions, without restarts of what is well by now, and of what needs a service that is
        called healthy and fails its own health check: the engine will say so soon."""
        kept = []
        for action in decision.act:
            if action.kind == RESTART and self._is_well_now(action):
                continue
            needed = all_needs(action.service, situation.needs)
            ill = action.kind == RESTART and [one for one in needed if self._fails_now(one)]
            for name in ill or ():
                allowance = max(
                    (
                        self._engine.start_allowance_seconds(one.id)
                        for one in self._containers.get(name, ())
                    ),
                    default=0.0,
                )
                recovery.suspect(name, self._timeline.seconds + allowance)
            for name in needed:
                if name not in (ill or ()):
                    recovery.cleared(name)
            if not ill or not recovery.is_suspect(ill, self._timeline.seconds):
                kept.append(action)
        return kept

    def _is_well_now(self, action: Action) -> bool:
        """Whether what is called unhealthy passes its own health check when that is run now: then
        the engine will say so at its next look, which is waited for."""
        for container in self._containers.get(action.service, ()):
            if container.id != action.container_id or container.health != "unhealthy":
                continue
            if not self._passes(container):
                self._well_since.pop(container.id, None)
                return False
            since = self._well_since.setdefault(container.id, self._timeline.seconds)
            return self._timeline.seconds < since + 2 * self._interval(container) + SLACK_SECONDS
        return False

    def _fails_now(self, service: str) -> bool:
        """Whether a container of the service is called healthy and fails its own health check."""
        return any(
            container.running and container.health == "healthy" and not self._passes(container)
            for container in self._containers.get(service, ())
        )

    def _passes(self, container: Container) -> bool:
        """The container's own health check, run once; true where it cannot be run from here."""
        check = (self._engine.inspection(container.id).get("Config") or {}).get("Healthcheck") or {}
        words = list(check.get("Test") or ())
        if len(words) < 2 or words[0] not in ("CMD", "CMD-SHELL"):
            return True
        argv = words[1:] if words[0] == "CMD" else ["/bin/sh", "-c", words[1]]
        seconds = min((check.get("Timeout") or 30e9) / 1e9, self._settings.call_timeout_seconds)
        try:
            code, _output = self._engine.run(container.id, argv, seconds)
        except EngineError:
            return False
        return code == 0

    def _act(self, action: Action, verdict: Verdict, recovery: Recovery) -> None:
        self._step(action.text)
        self._timeline.add(f"{action.text}: {verdict.message}")
        _note(self._states, f"{action.text}: {verdict.message}"[:500])
        error = ""
        try:
            self._do(action)
        except (EngineError, CommandError) as problem:
            error = str(problem)
            self._timeline.add(f"{action.text} failed: {error}")
        self._restarts[action.container_id] = 0
        self._actions.append(
            {
                "service": action.service,
                "container": action.container,
                "action": action.kind,
                "why": verdict.message,
                "error": error,
            }
        )
        recovery.acted(action, self._timeline.seconds, error)

    def _do(self, action: Action) -> None:
        if action.kind == START:
            self._engine.start(action.container_id)
        elif action.kind == UNPAUSE:
            self._engine.unpause(action.container_id)
        elif action.kind == RESTART:
            self._engine.restart(action.container_id, self._stop_seconds(action))
        elif action.kind == CREATE:
            self._create(action.service)

    def _stop_seconds(self, action: Action) -> int:
        config = self._engine.inspection(action.container_id).get("Config") or {}
        seconds = int(config.get("StopTimeout") or _STOP_SECONDS)
        is_postgres = self._stack().components.get("postgres") == action.service
        return max(seconds, _POSTGRES_STOP_SECONDS) if is_postgres else seconds

    def _create(self, service: str) -> None:
        """By the files that the project's containers were made of, and nothing but what lacks."""
        argv = [
            *compose_command(),
            *compose_arguments(self._project.name, self._project.files),
            *("up", "--detach", "--no-deps", "--no-recreate", "--no-build", "--pull", "never"),
            service,
        ]
        done = run_command(argv, _CREATE_SECONDS)
        if done.exit_code != 0:
            raise CommandError(error_text(done.stderr))
        known = set(self._restarts)
        for one in by_service(self._engine.list_project_containers(self._settings.project)).get(
            service, ()
        ):
            if one.id not in known:
                self._restarts[one.id] = 0

    # Telling

    def _follow(self, verdicts: Mapping[str, Verdict]) -> None:
        """What has changed since the last look goes into the timeline."""
        for name, verdict in verdicts.items():
            before = self._statuses.get(name)
            unwell = verdict.status not in (OK, LEFT_ALONE)
            if before is None and unwell:
                self._timeline.add(f"{name} is {verdict.status}: {verdict.message}")
            elif before is not None and before != verdict.status:
                if verdict.status == OK:
                    self._back_seconds[name] = self._timeline.seconds
                    self._timeline.add(f"{name} is back: {verdict.message}")
                else:
                    self._timeline.add(f"{name} is {verdict.status}: {verdict.message}")
            self._statuses[name] = verdict.status

    def _tables(
        self,
        findings: outage_findings.Findings,
        began: Sequence[tuple[str, str]],
        thorough: bool,
        whom: Sequence[str],
    ) -> list[dict[str, Any]]:
        tables = [_timeline_table(self._timeline)]
        if thorough:
            minutes = self._settings.log_window_minutes
            tables += outage_findings.digest(self._engine, self._stack(), began, minutes)
            tables.append(outage_findings.dashboard_table(findings, self._settings.dashboards))
        if whom:
            rows = [[line] for line in whom]
            tables.append({"title": "Escalate to", "columns": ["Whom"], "rows": rows})
        return tables

    def _lines(
        self,
        first: Mapping[str, Verdict],
        plan: Sequence[str],
        problems: Sequence[str],
        took_seconds: Optional[float],
    ) -> list[str]:
        unwell = [name for name, one in first.items() if one.status not in (OK, LEFT_ALONE)]
        if not unwell and not problems:
            return [f"every service of {self._project.name} is up, nothing was touched"]
        if took_seconds is None:
            return list(plan) or list(problems)
        done = [f"{one['action']} {one['container'] or one['service']}" for one in self._actions]
        head = f"recovered after {took_seconds:g} s" if not problems else "not recovered"
        return [f"{head}: {', '.join(done) or 'nothing was done'}", *problems]


def _processes(pid: int) -> list[tuple[str, bool]]:
    """(title, whether it is stopped by a signal) of a process and all below it, as far as this host
    sees them."""
    found = []
    pending = [pid] if pid > 0 else []
    while pending:
        one = _PROC / str(pending.pop())
        try:
            title = (one / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            state = (one / "stat").read_text().rpartition(")")[2].split()[0]
            children = (one / "task" / one.name / "children").read_text().split()
        except (OSError, IndexError):
            continue
        found.append((title.strip(), state in "Tt"))
        pending += [int(child) for child in children]
    return found
