# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The API seen from outside: where its front door is, and what its answers mean."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._http import (
    Endpoint,
    excerpt,
    known_secrets,
    loopback,
    parse_url,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    WARNING,
    Measurement,
    Target,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._prometheus import Sample

#: Where the runbook's API listens.
DEFAULT_API_PORT = 8000
TLS_PORTS = frozenset({443, 8443})

#: What a health endpoint calls itself: that of FastAPI's and Spring's conventions and of
#: draft-inadarei-api-health-check, in lower case.
HEALTHY = frozenset(
    (
        *("healthy", "ok", "okay", "up", "pass", "passing", "alive", "running", "success"),
        *("ready", "green", "operational", "true"),
    )
)
DEGRADED = frozenset(("degraded", "warn", "warning", "yellow", "partial"))

#: Below this many requests a share is noise and pages nobody; with all of at least
#: ALL_FAILED_MIN_REQUESTS failed, though, nothing is left to be uncertain about.
SHARE_MIN_REQUESTS = 20
ALL_FAILED_MIN_REQUESTS = 5
PATHS_IN_DETAIL = 5


class NoFrontDoorError(Exception):
    """There is no address to ask; the text says why."""


# Where to ask


def published_endpoints(container: Container, server_name: Optional[str] = None) -> list[Endpoint]:
    """A container's published ports, one endpoint each, IPv4 before IPv6 for the same port."""
    found: dict[int, Endpoint] = {}
    for port in sorted(container.ports, key=lambda port: (":" in port.host_ip, port.host_port)):
        scheme = "https" if port.container_port in TLS_PORTS else "http"
        found.setdefault(
            port.host_port, Endpoint(scheme, loopback(port.host_ip), port.host_port, server_name)
        )
    return list(found.values())


def replica_endpoint(container: Container, settings: CheckSettings) -> Endpoint:
    """The container's own address. The port is the one set, else the runbook's where it is
    exposed, else the lowest one exposed, else the runbook's. Raises L{NoFrontDoorError}."""
    if not container.addresses:
        raise NoFrontDoorError(f"container {container.name} has no address of its own")
    exposed = sorted(container.exposed_ports)
    port = DEFAULT_API_PORT
    if settings.api_port is not None:
        port = settings.api_port
    elif exposed and DEFAULT_API_PORT not in exposed:
        port = exposed[0]
    return Endpoint("http", container.addresses[0], port)


def front_door(stack: Stack, settings: CheckSettings) -> list[Endpoint]:
    """Where clients come in, the best candidate first: what the user set; nginx; the API's own
    published port; the API container's address.

    Of nginx's ports plain HTTP comes before HTTPS, and 8000, which the runbook asks, before all.
    Raises L{NoFrontDoorError}, and L{ValueError} for a URL that cannot be used.
    """
    if settings.api_url:
        return [parse_url(settings.api_url, settings.tls_server_name)]
    if stack.component("nginx"):
        return _nginx_front_door(stack, settings)
    containers = stack.running("api")
    if not containers:
        raise NoFrontDoorError(_none_running(stack, "api"))
    for container in containers:
        endpoints = published_endpoints(container)
        if endpoints:
            return _by_preference(endpoints)
    return [replica_endpoint(containers[0], settings)]


def _nginx_front_door(stack: Stack, settings: CheckSettings) -> list[Endpoint]:
    running = stack.running("nginx")
    if not running:
        raise NoFrontDoorError(_none_running(stack, "nginx"))
    name = settings.tls_server_name
    endpoints = [
        endpoint for container in running for endpoint in published_endpoints(container, name)
    ]
    if not endpoints:
        endpoints = [
            Endpoint("https" if port in TLS_PORTS else "http", container.addresses[0], port, name)
            for container in running
            if container.addresses
            for port in (container.exposed_ports or (80,))
        ]
    if not endpoints:
        raise NoFrontDoorError("nginx publishes no port and has no address of its own")
    return _by_preference(endpoints)


def _by_preference(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    return sorted(
        endpoints,
        key=lambda one: (one.scheme == "https", one.port != DEFAULT_API_PORT, one.port),
    )


def _none_running(stack: Stack, component: str) -> str:
    states = sorted({container.state for container in stack.component(component)})
    seen = f"seen {', '.join(states)}" if states else "there is none"
    return f"no container of {stack.service_of(component)} runs ({seen})"


def api_secrets(stack: Stack) -> list[str]:
    """What an answer of the API could let slip of its own environment."""
    merged: set[str] = set()
    for container in stack.component("api"):
        merged.update(known_secrets(container.environment))
    return sorted(merged, key=lambda secret: (-len(secret), secret))


# What an answer of the health endpoint means


@dataclass(frozen=True)
class Verdict:
    """``definitive`` is unset where another door may know better (a redirect, a default server
    that has no such page)."""

    status: str
    message: str
    definitive: bool = True


def judge_health(
    status: int, headers: Mapping[str, str], body: bytes, secrets: Sequence[str] = ()
) -> Verdict:
    """Status 2xx, and a C{status} field, where the body is JSON and has one, that says healthy.

    Header names are in lower case.
    """
    said = excerpt(body, secrets)
    if 300 <= status < 400:
        where = excerpt(headers.get("location", ""), secrets) or "nowhere"
        return Verdict(
            WARNING, f"status {status}, redirects to {where}, expected an answer", definitive=False
        )
    if not 200 <= status < 300:
        message = f"status {status}, expected 200" + (f": {said}" if said else "")
        return Verdict(CRITICAL, message, definitive=status >= 500)
    claimed = _claimed_status(body)
    if claimed is None or claimed.lower() in HEALTHY:
        return Verdict(OK, f"status {status}" + (f", {excerpt(claimed)}" if claimed else ""))
    shown = excerpt(claimed, secrets, 40)
    return Verdict(
        WARNING if claimed.lower() in DEGRADED else CRITICAL,
        f"status {status}, but it says {shown!r}: {said}",
    )


def _claimed_status(body: bytes) -> Optional[str]:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    claimed = document.get("status") if isinstance(document, dict) else None
    if isinstance(claimed, bool):
        return str(claimed).lower()
    return claimed if isinstance(claimed, str) else None


# Latency


def latency(
    target: Target,
    samples_ms: Sequence[float],
    failures: Sequence[str],
    wanted: int,
    limit_seconds: float,
) -> Measurement:
    """The median of the answers that came. A request that failed among answers that did not is
    a warning of its own, whatever the median: the API is not well every time."""
    made = len(samples_ms) + len(failures)
    median = round(statistics.median(samples_ms), 1)
    requests = f"{made} request" + ("" if made == 1 else "s")
    if made < wanted:
        requests = f"{made} of {wanted} requests, {limit_seconds:g} s being over,"
    message = f"median {median:.0f} ms, worst {max(samples_ms):.0f} ms in {requests}".rstrip(",")
    if failures:
        message = f"{len(failures)} of {made} requests failed ({failures[0]}); {message}"
    return Measurement(
        target,
        value=median,
        status=WARNING if failures else None,
        message=message,
        detail={"samples_ms": [round(sample, 1) for sample in samples_ms]},
    )


# The share of answers that are errors of the server


@dataclass
class AnswerCounts:
    """Answers counted by status class; ``failed_paths`` counts the 5xx ones by their path."""

    requests: int = 0
    failed: int = 0
    failed_paths: dict[str, int] = field(default_factory=dict)

    def add(self, status: Union[int, str], path: str = "", count: int = 1) -> None:
        """Count answers with a status such as 503 or C{5xx}."""
        self.requests += count
        if str(status).startswith("5"):
            self.failed += count
            if path and count:
                self.failed_paths[path] = self.failed_paths.get(path, 0) + count


#: The labels under which exporters put the status and the path of an answer.
_STATUS_LABELS = ("status", "status_code", "code")
_PATH_LABELS = ("handler", "path", "endpoint", "route")
REQUESTS_METRIC = "http_requests_total"
REQUESTS_QUERY_LABELS = ", ".join(_STATUS_LABELS + _PATH_LABELS)


def count_samples(samples: Iterable[Sample]) -> Optional[AnswerCounts]:
    """Counters of requests by status, as prometheus-fastapi-instrumentator and others name them
    (503 or C{5xx}); C{None} where there is no such counter. What C{increase()} extrapolates to a
    fraction is rounded."""
    counts = None
    for sample in samples:
        status = next((sample.labels[key] for key in _STATUS_LABELS if sample.labels.get(key)), "")
        if not status or not math.isfinite(sample.value):
            continue
        counts = counts or AnswerCounts()
        path = next((sample.labels[key] for key in _PATH_LABELS if sample.labels.get(key)), "")
        counts.add(status, path, round(sample.value))
    return counts


def error_rate(
    target: Target, counts: AnswerCounts, source: str, period: str, remark: str = ""
) -> Measurement:
    """``period`` completes "12 of 340 answers were 5xx ..."; ``source`` says who counted."""
    paths = sorted(counts.failed_paths.items(), key=lambda item: (-item[1], item[0]))
    detail: dict[str, Any] = {
        "source": source,
        "requests": counts.requests,
        "failed": counts.failed,
        "paths": [
            {"path": excerpt(path), "count": count} for path, count in paths[:PATHS_IN_DETAIL]
        ],
    }
    told = f" ({source}{f'; {remark}' if remark else ''})"
    if not counts.requests:
        return Measurement(
            target, value=0, status=OK, message=f"no requests {period}{told}", detail=detail
        )
    share = round(100.0 * counts.failed / counts.requests, 2)
    seen = f"{counts.failed} of {counts.requests} answers were 5xx {period}"
    all_failed = counts.failed == counts.requests and counts.requests >= ALL_FAILED_MIN_REQUESTS
    if counts.requests < SHARE_MIN_REQUESTS and not all_failed:
        return Measurement(
            target,
            value=share,
            status=OK,
            message=f"{seen}, too few to judge a share by (under {SHARE_MIN_REQUESTS}){told}",
            detail=detail,
        )
    return Measurement(target, value=share, message=f"{seen}, {share:.1f} %{told}", detail=detail)
