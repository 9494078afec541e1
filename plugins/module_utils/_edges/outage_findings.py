# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an outage looks like from outside, and what the last hour's logs and events say of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._api import (
    NoFrontDoorError,
    front_door,
    judge_health,
    published_endpoints,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.api import Answer, ask_health
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.containers import (
    read_kernel_oom_kills,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import (
    TIMEOUT,
    Deadline,
    HttpError,
    get,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_control import (
    NginxError,
    reload,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._http import (
    Endpoint,
    is_loopback,
    known_secrets,
    parse_url,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._log_lines import ErrorCounter
from ansible_collections.pynomaly.ops.plugins.module_utils._outage import event_rows, result
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    WARNING,
)

_POLL_SECONDS = 0.5
_RELOAD_SECONDS = 20.0
#: What nginx answers where it does not reach the API; 503 is the API's own word as well.
_GATEWAY_ERRORS = (502, 504)
_DASHBOARD_PATHS = {
    "grafana": "/api/health",
    "prometheus": "/-/ready",
    "alertmanager": "/-/ready",
}
_LOG_BYTES = 8 * 1024 * 1024
_LOGS_SECONDS = 30.0
_LOG_SECONDS = 5.0
_EXTERNAL = "The API answers from outside"


@dataclass
class Findings:
    """``urls`` are the addresses that others than the host itself are to reach."""

    results: list[dict[str, Any]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    dashboards: list[list[str]] = field(default_factory=list)
    reloaded: bool = False


def look(
    engine: EngineControl,
    stack: Stack,
    settings: CheckSettings,
    tell: Callable[[str], None],
    *,
    patience_seconds: float,
    may_reload: bool,
    host_address: str = "",
) -> Findings:
    """Ask for the API's health at the front door until it is well or patience has ended, then at
    each published port, and at the dashboards."""
    findings = Findings()
    door = _front(engine, stack, settings, tell, findings, patience_seconds, may_reload)
    containers = [*stack.running("nginx")] or [*stack.running("api")]
    for container in containers:
        for endpoint in published_endpoints(container, settings.tls_server_name):
            if door is None or endpoint.url() != door.url():
                findings.results.append(_port(endpoint, settings, container))
    findings.urls = _urls(containers, settings, host_address)
    for component, path in _DASHBOARD_PATHS.items():
        _dashboard(stack, component, path, settings, host_address, findings)
    return findings


def _front(  # noqa: PLR0917
    engine: EngineControl,
    stack: Stack,
    settings: CheckSettings,
    tell: Callable[[str], None],
    findings: Findings,
    patience_seconds: float,
    may_reload: bool,
) -> Endpoint | None:
    about = ("outage.external", stack.service_of("nginx"), _EXTERNAL)
    if "api" not in stack.components and not settings.api_url:
        findings.results.append(result(about, SKIPPED, "the project has no API"))
        return None
    deadline = time.monotonic() + patience_seconds
    secrets = [
        secret for one in stack.component("api") for secret in known_secrets(one.environment)
    ]
    while True:
        try:
            doors = front_door(stack, settings)
        except (NoFrontDoorError, ValueError) as error:
            findings.results.append(result(about, CRITICAL, f"the front door is closed: {error}"))
            tell(f"the API cannot be asked from outside: {error}")
            return None
        answer = ask_health(
            doors, settings.api_health_path, Deadline(settings.call_timeout_seconds), secrets
        )
        if answer.status in (OK, WARNING) or time.monotonic() >= deadline:
            break
        if may_reload and not findings.reloaded and _is_lost(answer, stack):
            findings.reloaded = True
            _reload(engine, stack, tell)
        time.sleep(_POLL_SECONDS)
    hint = f"curl -i {answer.endpoint.url(settings.api_health_path)}"
    findings.results.append(result(about, answer.status, answer.message, hint=hint))
    tell(f"asked from outside: {answer.message}")
    return answer.endpoint


def _is_lost(answer: Answer, stack: Stack) -> bool:
    """Whether nginx is up and does not find the API, which may have another address since it came
    back. A maintenance page is none of that."""
    response = answer.response
    return (
        bool(stack.running("nginx"))
        and response is not None
        and response.status in _GATEWAY_ERRORS
        and "x-maintenance" not in response.headers
    )


def _reload(engine: EngineControl, stack: Stack, tell: Callable[[str], None]) -> None:
    for container in stack.running("nginx"):
        try:
            reload(engine, container, _RELOAD_SECONDS)
        except (NginxError, EngineError) as error:
            tell(f"nginx was to look for the API anew, and could not: {error}")
        else:
            tell(f"{container.name} was reloaded, to look for the API anew")


def _port(endpoint: Endpoint, settings: CheckSettings, container: Container) -> dict[str, Any]:
    """One more published port: a redirect is as good as an answer, and a port that nothing serves
    may never have been served."""
    path = settings.api_health_path
    about = ("outage.external", container.service, _EXTERNAL)
    where = endpoint.url(path)
    hint = f"curl -i {where}"
    try:
        response = get(endpoint, path, Deadline(settings.call_timeout_seconds))
    except HttpError as error:
        status = CRITICAL if error.kind == TIMEOUT else WARNING
        return result(about, status, f"{where}: {error}", hint=hint, instance=where)
    verdict = judge_health(
        response.status, response.headers, response.body, known_secrets(container.environment)
    )
    message = f"{where}: {verdict.message}"
    if 300 <= response.status < 400:
        return result(about, OK, f"{where}: status {response.status}, redirects", instance=where)
    if 400 <= response.status < 500:
        return result(about, SKIPPED, message, instance=where)
    return result(about, verdict.status, message, hint=hint, instance=where)


def ask_url(url: str, seconds: float, service: str, failure_status: str) -> dict[str, Any]:
    """Whether an address answers, a redirect included; one entry of the report. Raises
    C{ValueError} for an address that cannot be used."""
    about = ("outage.external", service, _EXTERNAL)
    endpoint = parse_url(url)
    path, door = endpoint.base_path or "/", replace(endpoint, base_path="")
    shown = door.url(path)
    try:
        response = get(door, path, Deadline(seconds))
    except HttpError as error:
        message = f"{shown}: {error}"
        return result(about, failure_status, message, hint=f"curl -i {shown}", instance=shown)
    text = f"{shown}: status {response.status}, in {response.elapsed_ms:.0f} ms"
    if response.status < 400:
        return result(about, OK, text, instance=shown)
    return result(about, failure_status, text, hint=f"curl -i {shown}", instance=shown)


def _urls(containers: Sequence[Container], settings: CheckSettings, host_address: str) -> list[str]:
    path = settings.api_health_path
    found = [settings.api_url.rstrip("/") + path] if settings.api_url else []
    if host_address:
        for container in containers:
            public = {port.host_port for port in container.ports if not _is_local(port.host_ip)}
            for endpoint in published_endpoints(container):
                if endpoint.port in public:
                    door = Endpoint(endpoint.scheme, host_address, endpoint.port)
                    found.append(door.url(path))
    return list(dict.fromkeys(found))


def _is_local(host_ip: str) -> bool:
    return bool(host_ip) and is_loopback(host_ip)


def _dashboard(  # noqa: PLR0917
    stack: Stack,
    component: str,
    path: str,
    settings: CheckSettings,
    host_address: str,
    findings: Findings,
) -> None:
    if not stack.component(component):
        return
    service = stack.service_of(component)
    about = ("outage.dashboard", service, "The dashboard answers")
    running = stack.running(component)
    if not running:
        findings.results.append(result(about, WARNING, "no container is running"))
        findings.dashboards.append([service, "", "no container is running"])
        return
    container = running[0]
    published = published_endpoints(container)
    doors = published or [
        Endpoint("http", address, port)
        for address in container.addresses[:1]
        for port in container.exposed_ports[:1]
    ]
    if not doors:
        findings.dashboards.append([service, "", "it has no address"])
        return
    door = doors[0]
    try:
        response = get(door, path, Deadline(settings.call_timeout_seconds))
        seen, well = f"status {response.status}", response.status < 400
    except HttpError as error:
        seen, well = str(error), False
    findings.results.append(
        result(
            about,
            OK if well else WARNING,
            f"{door.url(path)}: {seen}",
            hint="" if well else f"curl -i {door.url(path)}",
        )
    )
    local = not published or all(_is_local(port.host_ip) for port in container.ports)
    address = f"{door.url()} on the host alone"
    if not local and host_address:
        address = Endpoint(door.scheme, host_address, door.port).url()
    findings.dashboards.append([service, address, seen])


def dashboard_table(findings: Findings, given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Where to look, those that the user names first."""
    rows = [[str(one["title"]), str(one["url"]), "as given"] for one in given]
    return {
        "title": "Dashboards",
        "columns": ["Dashboard", "Address", "Seen"],
        "rows": rows + findings.dashboards,
    }


# What the last hour says


def digest(
    engine: EngineControl,
    stack: Stack,
    causes: Sequence[tuple[str, str]],
    window_minutes: float,
) -> list[dict[str, Any]]:
    """Tables: what broke first, what the engine saw happen, and the most frequent errors."""
    errors, unread = _errors(engine, stack, window_minutes)
    kills = read_kernel_oom_kills() or {}
    names = {one.id: one.name for ones in stack.containers.values() for one in ones}
    killed = [
        ["", names[identifier], f"the kernel killed {count} of its processes for want of memory"]
        for identifier, count in kills.items()
        if identifier in names
    ]
    until = time.time()
    try:
        events = engine.events(stack.project, until - window_minutes * 60.0, until)
    except EngineError as error:
        unread.append(f"events: {error}")
        events = []
    window = f"{window_minutes:g} minutes"
    loudest = {row[0]: row[2] for row in reversed(errors)}
    tables = [
        {
            "title": "Where it began",
            "columns": ["Service", "Seen", "Its most frequent error"],
            "rows": [[name, text, loudest.get(name, "")] for name, text in causes],
        },
        {
            "title": f"What happened to containers in the last {window}",
            "columns": ["Time (UTC)", "Container", "What"],
            "rows": killed + event_rows(events),
        },
        {
            "title": f"Errors in the logs of the last {window}",
            "columns": ["Service", "Times", "Message"],
            "rows": errors + [["", "", text] for text in unread],
        },
    ]
    return [table for table in tables if table["rows"]]


def _errors(
    engine: EngineControl, stack: Stack, window_minutes: float
) -> tuple[list[list[Any]], list[str]]:
    """(service, times, message), the three most frequent of each; and what was not read."""
    deadline = time.monotonic() + _LOGS_SECONDS
    rows: list[list[Any]] = []
    unread: list[str] = []
    for service, containers in sorted(stack.containers.items()):
        counter = ErrorCounter()
        for container in containers:
            remaining = min(_LOG_SECONDS, deadline - time.monotonic())
            if remaining <= 0:
                unread.append(f"{container.name}: no time was left")
                continue
            try:
                lines = engine.logs(
                    container.id, window_minutes * 60.0, _LOG_BYTES, timeout_seconds=remaining
                )
                for stream, line in lines:
                    counter.add(stream, line)
            except EngineError as error:
                unread.append(f"{container.name}: {error}")
                continue
            counter.finish()
            if lines.truncated:
                unread.append(f"{container.name}: {lines.truncated}")
        rows += [[service, one["count"], one["example"]] for one in counter.top(3)]
    return rows, unread
