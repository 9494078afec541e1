# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API measured from outside: at the front door, at each replica, and by what it answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional
from urllib.parse import urlencode

from ansible_collections.pynomaly.ops.plugins.module_utils._api import (
    REQUESTS_METRIC,
    REQUESTS_QUERY_LABELS,
    AnswerCounts,
    NoFrontDoorError,
    Verdict,
    api_secrets,
    count_samples,
    error_rate,
    front_door,
    judge_health,
    latency,
    replica_endpoint,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import (
    TIMEOUT,
    Deadline,
    HttpError,
    Response,
    get,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._http import USER_AGENT, Endpoint
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx import parse_access_line
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._prometheus import (
    AnswerError,
    api_data,
    endpoint,
    listen_port,
    parse_exposition,
    route_prefix,
    vector,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    CollectorError,
    Emit,
    skip,
)

MAX_METRICS_BYTES = 4 * 1024 * 1024
#: How far back, and how many lines, a log that was quiet is looked through for its nature.
QUIET_LOG_SECONDS = 30 * 86400.0
QUIET_LOG_LINES = 200


@dataclass(frozen=True)
class Answer:
    """What one or more addresses said: the endpoint that decided, the verdict with the address in
    its text, and the response where there was one."""

    endpoint: Endpoint
    status: str
    message: str
    response: Optional[Response] = None


def collectors(stack: Stack, settings: CheckSettings, engine: Engine) -> list[Collector]:
    """api.health with api.latency, api.error_rate, and a collector for each replica."""
    service = stack.service_of("api")
    found: list[Collector] = []

    health = Target("api.health", service)
    speed = Target("api.latency", service)
    errors = Target("api.error_rate", service)
    replicas = stack.component("api")
    absent = "api" not in stack.components and not replicas
    reason = f"the project has no API (looked for {service})"

    if absent and not settings.api_url:
        found.append(Collector("api", (health, speed), _skipping((health, speed), reason)))
    else:
        found.append(
            Collector(
                "api",
                (health, speed),
                lambda emit: _measure_front_door(stack, settings, health, speed, emit),
            )
        )
    if absent:
        found.append(Collector("api-errors", (errors,), _skipping((errors,), reason)))
    else:
        found.append(
            Collector(
                "api-errors",
                (errors,),
                lambda emit: emit(measure_error_rate(stack, settings, engine, errors)),
            )
        )
    if not replicas:
        targets = (Target("api.replica_health", service), Target("api.replica_latency", service))
        why = reason if absent else f"{service} has no container"
        found.append(Collector("api-replicas", targets, _skipping(targets, why)))
    found.extend(_replica_collector(stack, settings, container) for container in replicas)
    return found


def _skipping(targets: Sequence[Target], reason: str) -> Callable[[Emit], None]:
    return lambda emit: skip(targets, emit, reason)


def _replica_collector(stack: Stack, settings: CheckSettings, container: Container) -> Collector:
    health = Target("api.replica_health", container.service, container.name)
    speed = Target("api.replica_latency", container.service, container.name)

    def run(emit: Emit) -> None:
        if not container.running:
            skip((health, speed), emit, f"not measured: the container is {container.state}")
            return
        try:
            door = replica_endpoint(container, settings)
        except NoFrontDoorError as error:
            raise CollectorError(str(error)) from error
        _measure([door], (health, speed), stack, settings, emit)

    return Collector(f"api-{container.name}", (health, speed), run)


def _measure_front_door(
    stack: Stack, settings: CheckSettings, health: Target, speed: Target, emit: Emit
) -> None:
    try:
        doors = front_door(stack, settings)
    except NoFrontDoorError as error:
        emit(Measurement(health, status=CRITICAL, message=f"the front door is closed: {error}"))
        skip((speed,), emit, f"not measured: {health.id} is {CRITICAL}")
        return
    except ValueError as error:
        raise CollectorError(f"api_url: {error}") from error
    _measure(doors, (health, speed), stack, settings, emit)


def _measure(
    doors: Sequence[Endpoint],
    targets: tuple[Target, Target],
    stack: Stack,
    settings: CheckSettings,
    emit: Emit,
) -> None:
    """Health, then latency where health allows; each within the call's timeout."""
    health, speed = targets
    path = settings.api_health_path
    secrets = api_secrets(stack)
    answer = ask_health(doors, path, Deadline(settings.call_timeout_seconds), secrets)
    emit(
        Measurement(
            health,
            value=answer.response.status if answer.response else None,
            status=answer.status,
            message=answer.message,
            hint=f"curl -i {answer.endpoint.url(path)}; "
            f"docker compose logs --tail 100 {health.service}",
        )
    )
    if answer.status == CRITICAL or answer.response is None:
        skip((speed,), emit, f"not measured: {health.id} is {answer.status}")
        return
    if not 200 <= answer.response.status < 300:
        skip((speed,), emit, f"not measured: {health.id} is {answer.status}, no answer to time")
        return
    samples, failures = sample_latency(
        answer.endpoint,
        path,
        settings.api_latency_samples - 1,
        Deadline(settings.call_timeout_seconds),
        secrets,
    )
    emit(
        latency(
            speed,
            [answer.response.elapsed_ms, *samples],
            failures,
            settings.api_latency_samples,
            settings.call_timeout_seconds,
        )
    )


def ask_health(
    doors: Sequence[Endpoint], path: str, deadline: Deadline, secrets: Sequence[str] = ()
) -> Answer:
    """Ask one door after another until one decides.

    A server error or a hang decides at once. A redirect, a page not found or a closed port does
    not while another door may do better; when none does, the page not found comes before the
    redirect and that before the closed port, except that a redirect to a door which is closed is
    a closed door.
    """
    undecided: list[Answer] = []
    failed: list[Answer] = []
    for door in doors:
        address = door.url(path)
        try:
            response = get(door, path, deadline)
        except HttpError as error:
            answer = Answer(door, CRITICAL, f"{address}: {error}")
            if error.kind == TIMEOUT:
                return answer
            failed.append(answer)
            continue
        verdict: Verdict = judge_health(response.status, response.headers, response.body, secrets)
        message = f"{address}: {verdict.message}"
        if verdict.status == OK:
            message += f", in {response.elapsed_ms:.0f} ms"
        answer = Answer(door, verdict.status, message, response)
        if verdict.definitive:
            return answer
        undecided.append(answer)
    for answer in undecided:
        if answer.status == CRITICAL:
            return answer
    for answer in undecided:
        location = answer.response.headers.get("location", "") if answer.response else ""
        closed = next((one for one in failed if one.endpoint.scheme == "https"), None)
        if location.startswith("https:") and closed is not None:
            return Answer(
                closed.endpoint,
                CRITICAL,
                f"{answer.endpoint.url()} redirects to HTTPS, and {closed.message}",
            )
    return (undecided or failed)[0]


def sample_latency(
    door: Endpoint, path: str, count: int, deadline: Deadline, secrets: Sequence[str] = ()
) -> tuple[list[float], list[str]]:
    """Milliseconds of up to ``count`` more requests, and what went wrong with the others. A
    request that the deadline cuts off is neither."""
    samples: list[float] = []
    failures: list[str] = []
    for _number in range(max(0, count)):
        if deadline.passed:
            break
        try:
            response = get(door, path, deadline)
        except HttpError as error:
            if error.kind == TIMEOUT:
                break
            failures.append(str(error))
            continue
        verdict = judge_health(response.status, response.headers, response.body, secrets)
        if verdict.status in (CRITICAL, WARNING) and not 200 <= response.status < 300:
            failures.append(verdict.message)
        else:
            samples.append(response.elapsed_ms)
    return samples, failures


# The share of answers that are errors


def measure_error_rate(
    stack: Stack, settings: CheckSettings, engine: Engine, target: Target
) -> Measurement:
    """From the first source that has it: nginx's access log, Prometheus, the API's own counters.

    The requests of the check itself are not counted where the log names their user agent.
    """
    deadline = Deadline(settings.call_timeout_seconds)
    minutes = settings.error_rate_window_minutes
    period = f"in the last {minutes:g} minutes"
    tried: list[str] = []

    if stack.running("nginx"):
        try:
            counts, remark = _count_nginx_log(stack, settings, engine, deadline)
            if counts is not None:
                return error_rate(target, counts, "nginx access log", period, remark)
            tried.append("nginx logs no requests to its standard output")
        except EngineError as error:
            tried.append(f"nginx's log: {error}")
    for container in stack.running("prometheus"):
        try:
            counts = _count_prometheus(container, minutes, deadline)
            if counts is not None:
                return error_rate(target, counts, "Prometheus", period)
            tried.append(f"Prometheus has no {REQUESTS_METRIC}")
        except (HttpError, AnswerError) as error:
            tried.append(f"Prometheus: {error}")
    counts = AnswerCounts()
    counted = 0
    for container in stack.running("api"):
        try:
            own = _count_own(container, settings, deadline)
            if own is None:
                tried.append(f"{container.name} has no {REQUESTS_METRIC}")
                continue
        except (HttpError, AnswerError, NoFrontDoorError) as error:
            tried.append(f"{container.name}: {error}")
            continue
        counted += 1
        for path, failed in own.failed_paths.items():
            counts.add(500, path, failed)
        named = sum(own.failed_paths.values())
        counts.add(500, "", own.failed - named)
        counts.add(200, "", own.requests - own.failed)
    if counted:
        return error_rate(target, counts, "the API's own counters", "since the API started")
    if not tried:
        tried.append(f"no container of {target.service} runs")
    return Measurement(
        target,
        status=UNKNOWN,
        message=f"nobody counts the answers: {'; '.join(tried[:3])}",
        hint="log nginx's requests to standard output, or have Prometheus scrape the API",
    )


def _count_nginx_log(
    stack: Stack, settings: CheckSettings, engine: Engine, deadline: Deadline
) -> tuple[Optional[AnswerCounts], str]:
    """The counts and why they are incomplete; C{None} where the log is not one of requests."""
    counts = AnswerCounts()
    is_access_log = False
    remark = ""
    for container in stack.running("nginx"):
        lines = engine.logs(
            container.id,
            settings.error_rate_window_minutes * 60.0,
            settings.log_max_bytes,
            timeout_seconds=max(0.1, deadline.remaining),
        )
        for _stream, line in lines:
            request = parse_access_line(line)
            if request is None:
                continue
            is_access_log = True
            if not request.user_agent.startswith(USER_AGENT):
                counts.add(request.status, request.path)
        remark = remark or lines.truncated
        if not is_access_log:
            quiet = engine.logs(
                container.id,
                QUIET_LOG_SECONDS,
                settings.log_max_bytes,
                timeout_seconds=max(0.1, deadline.remaining),
                tail_lines=QUIET_LOG_LINES,
            )
            is_access_log = any(parse_access_line(line) for _stream, line in quiet)
            quiet.close()
    return (counts if is_access_log else None), remark


def _count_prometheus(
    container: Container, minutes: float, deadline: Deadline
) -> Optional[AnswerCounts]:
    door = endpoint(
        container, listen_port(container.command, 9090), route_prefix(container.command)
    )
    if door is None:
        raise AnswerError("it has no address that can be reached")
    seconds = max(1, round(minutes * 60))
    query = f"sum by ({REQUESTS_QUERY_LABELS}) (increase({REQUESTS_METRIC}[{seconds}s]))"
    answer = get(
        door,
        f"/api/v1/query?{urlencode({'query': query})}",
        deadline,
        max_body_bytes=MAX_METRICS_BYTES,
    )
    return count_samples(vector(api_data(answer.status, answer.body)))


def _count_own(
    container: Container, settings: CheckSettings, deadline: Deadline
) -> Optional[AnswerCounts]:
    answer = get(
        replica_endpoint(container, settings),
        settings.api_metrics_path,
        deadline,
        max_body_bytes=MAX_METRICS_BYTES,
    )
    if answer.status != 200:
        raise AnswerError(f"status {answer.status} for {settings.api_metrics_path}")
    text = answer.body.decode("utf-8", "replace")
    return count_samples(
        sample for sample in parse_exposition(text) if sample.name == REQUESTS_METRIC
    )
