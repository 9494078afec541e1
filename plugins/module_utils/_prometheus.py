# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prometheus, Alertmanager and Grafana: their answers, and the text format of metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import urlsplit

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container
from ansible_collections.pynomaly.ops.plugins.module_utils._http import (
    Endpoint,
    excerpt,
    loopback,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    Measurement,
    Target,
)

#: The metric by which a running Prometheus tells of its last reload.
RELOAD_METRIC = "prometheus_config_last_reload_successful"

#: An alert that always fires, to prove that alerting works, is no trouble.
ALWAYS_FIRING = frozenset({"Watchdog", "DeadMansSwitch"})

NAMED_IN_MESSAGE = 3
LISTED_IN_DETAIL = 20


class AnswerError(ValueError):
    """A service answered with something else than its interface promises."""


@dataclass(frozen=True)
class Sample:
    name: str
    labels: Mapping[str, str]
    value: float


_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(
    r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(,|(?=\}))', re.DOTALL
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", '"': '"', "\\": "\\"}


def parse_exposition(text: str) -> Iterator[Sample]:
    """The samples of Prometheus' text format, version 0.0.4 (OpenMetrics' timestamps, exemplars
    and end mark are passed over). Raises L{AnswerError} on a line that is none."""
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if line and not line.startswith("#"):
            yield _sample(line, number)


def _sample(line: str, number: int) -> Sample:
    named = _METRIC_NAME.match(line)
    if named is None:
        raise _no_metric(line, number)
    position = named.end()
    labels: dict[str, str] = {}
    if line[position : position + 1] == "{":
        position += 1
        while (label := _LABEL.match(line, position)) is not None:
            name, value, _separator = label.groups()
            labels[name] = _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[0]), value)
            position = label.end()
        rest = line[position:].lstrip()
        if not rest.startswith("}"):
            raise _no_metric(line, number)
        rest = rest[1:]
    else:
        rest = line[position:]
    fields = rest.split()
    if not fields:
        raise _no_metric(line, number)
    try:
        return Sample(named[0], labels, float(fields[0]))
    except ValueError:
        raise _no_metric(line, number) from None


def _no_metric(line: str, number: int) -> AnswerError:
    return AnswerError(f"line {number} is no metric: {excerpt(line, characters=60)}")


# Where a service listens, from the command line it was started with


def endpoint(
    container: Container, default_port: int, prefix: str = "", scheme: str = "http"
) -> Optional[Endpoint]:
    """The container's own address, else the published port; C{None} where there is neither."""
    if container.addresses:
        return Endpoint(scheme, container.addresses[0], default_port, base_path=prefix)
    for port in container.ports:
        if port.container_port == default_port:
            return Endpoint(scheme, loopback(port.host_ip), port.host_port, base_path=prefix)
    return None


def _flag(command: Sequence[str], name: str) -> Optional[str]:
    """The last C{--name=value} or C{--name value}; the flags parser of Go takes one dash, too."""
    found = None
    for index, word in enumerate(command):
        stripped = word.lstrip("-")
        if stripped == word:
            continue
        key, separator, value = stripped.partition("=")
        if key != name:
            continue
        if separator:
            found = value
        elif index + 1 < len(command):
            found = command[index + 1]
    return found


def listen_port(command: Sequence[str], default: int) -> int:
    """The port of C{--web.listen-address}, else the service's usual one."""
    address = _flag(command, "web.listen-address") or ""
    port = address.rpartition(":")[2]
    return int(port) if port.isdigit() else default


def route_prefix(command: Sequence[str]) -> str:
    """Where the interface begins: C{--web.route-prefix}, else the path of
    C{--web.external-url}; empty for the root, no slash at its end."""
    prefix = _flag(command, "web.route-prefix")
    if prefix is None:
        prefix = urlsplit(_flag(command, "web.external-url") or "").path
    prefix = prefix.strip("/")
    return f"/{prefix}" if prefix else ""


def grafana_location(environment: Mapping[str, str]) -> tuple[str, int, str]:
    """Scheme, port and path prefix that Grafana's own environment sets."""
    scheme = environment.get("GF_SERVER_PROTOCOL", "http")
    port = environment.get("GF_SERVER_HTTP_PORT", "")
    prefix = ""
    if environment.get("GF_SERVER_SERVE_FROM_SUB_PATH", "").lower() == "true":
        # Scheme and host are commonly templates such as %(domain)s, and then no URL to a parser.
        root = environment.get("GF_SERVER_ROOT_URL", "").partition("://")[2]
        path = root.partition("/")[2].strip("/")
        prefix = f"/{path}" if path else ""
    return (
        "https" if scheme in ("https", "h2") else "http",
        int(port) if port.isdigit() else 3000,
        prefix,
    )


# What they answer


def refusal(status: int, body: bytes) -> Optional[str]:
    """What stands in the way of asking at all, told; C{None} where nothing does."""
    if status in (401, 403):
        return f"asks for credentials (status {status}), which this check has none of"
    if status == 400 and b"HTTPS server" in body:
        return "wants HTTPS (status 400), and this check speaks HTTP to it"
    return None


def ready(target: Target, status: int, body: bytes, elapsed_ms: float) -> Measurement:
    """Of Prometheus and Alertmanager: status 200 means ready, 503 not yet."""
    refused = refusal(status, body)
    if refused is not None:
        return Measurement(target, status=UNKNOWN, message=refused)
    if status == 200:
        return Measurement(target, status=OK, message=f"ready, answered in {elapsed_ms:.0f} ms")
    said = excerpt(body)
    return Measurement(
        target,
        value=status,
        status=CRITICAL,
        message=f"status {status} instead of 200" + (f": {said}" if said else ""),
    )


def grafana_health(target: Target, status: int, body: bytes) -> Measurement:
    """Grafana says 200 and C{"database": "ok"}, or 503 where its database fails."""
    refused = refusal(status, body)
    if refused is not None:
        return Measurement(target, status=UNKNOWN, message=refused)
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    database = document.get("database") if isinstance(document, dict) else None
    if status == 200 and database == "ok":
        version = excerpt(str(document.get("version", "")), characters=20)
        told = f"version {version}, " if version else ""
        return Measurement(target, status=OK, message=f"{told}its database is ok")
    if isinstance(database, str):
        message = f"status {status}, its database is {excerpt(database)!r}, expected ok"
    else:
        message = f"status {status} and no word of its database: {excerpt(body) or 'empty'}"
    return Measurement(target, value=status, status=CRITICAL, message=message)


def api_data(status: int, body: bytes) -> Any:
    """The C{data} of an answer of Prometheus' HTTP API. Raises L{AnswerError}."""
    refused = refusal(status, body)
    if refused is not None:
        raise AnswerError(refused)
    try:
        document = json.loads(body)
    except ValueError:
        raise AnswerError(f"status {status} and no JSON: {excerpt(body) or 'empty'}") from None
    if not isinstance(document, dict) or document.get("status") != "success":
        said = document.get("error") if isinstance(document, dict) else None
        raise AnswerError(f"status {status}: {excerpt(str(said or document))}")
    return document.get("data")


def _mappings(data: Any, key: str) -> list[Mapping[str, Any]]:
    entries = data.get(key) if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise AnswerError(f"no list of {key} in the answer")
    return entries


def _labels(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    labels = entry.get("labels")
    return labels if isinstance(labels, dict) else {}


def _enumerated(texts: Sequence[str]) -> str:
    shown = ", ".join(texts[:NAMED_IN_MESSAGE])
    more = len(texts) - NAMED_IN_MESSAGE
    return f"{shown} and {more} more" if more > 0 else shown


def targets_down(target: Target, data: Any) -> Measurement:
    """From C{/api/v1/targets?state=active}; the value is the number of targets down."""
    active = _mappings(data, "activeTargets")
    if not active:
        return Measurement(
            target, value=0, status=WARNING, message="no scrape target at all, expected some"
        )
    down = [entry for entry in active if entry.get("health") == "down"]
    waiting = sum(1 for entry in active if entry.get("health") not in ("up", "down"))
    pending = f", {waiting} not scraped yet" if waiting else ""
    if not down:
        return Measurement(
            target, value=0, message=f"{len(active) - waiting} of {len(active)} up{pending}"
        )
    detail = []
    for entry in down[:LISTED_IN_DETAIL]:
        labels = _labels(entry)
        detail.append(
            {
                "job": str(labels.get("job", "")),
                "instance": str(labels.get("instance", "")),
                "error": excerpt(str(entry.get("lastError", ""))),
            }
        )
    named = [f"{entry['job']}/{entry['instance']} ({entry['error']})" for entry in detail]
    message = f"{len(down)} of {len(active)} down{pending}: {_enumerated(named)}"
    return Measurement(target, value=len(down), message=message, detail=detail)


def alerts_firing(target: Target, data: Any) -> Measurement:
    """From C{/api/v1/alerts}; critical where an alert labelled so fires, else warning."""
    firing = []
    for alert in _mappings(data, "alerts"):
        labels = _labels(alert)
        name = str(labels.get("alertname", "without a name"))
        severity = str(labels.get("severity", ""))
        if alert.get("state") == "firing" and not (name in ALWAYS_FIRING or severity == "none"):
            firing.append(
                {
                    "alert": name,
                    "severity": severity,
                    "instance": str(labels.get("instance", "")),
                    "since": str(alert.get("activeAt", "")),
                }
            )
    if not firing:
        return Measurement(target, value=0, status=OK, message="no alert fires")
    firing.sort(key=lambda alert: (alert["severity"] != "critical", alert["alert"]))
    counts: dict[str, int] = {}
    for alert in firing:
        label = f"{alert['alert']} ({alert['severity'] or 'no severity'})"
        counts[label] = counts.get(label, 0) + 1
    named = [f"{count} × {label}" if count > 1 else label for label, count in counts.items()]
    verb = "1 alert fires" if len(firing) == 1 else f"{len(firing)} alerts fire"
    return Measurement(
        target,
        value=len(firing),
        status=CRITICAL if firing[0]["severity"] == "critical" else WARNING,
        message=f"{verb}: {_enumerated(named)}",
        detail=firing[:LISTED_IN_DETAIL],
    )


def vector(data: Any) -> list[Sample]:
    """The samples of an instant query. Raises L{AnswerError} where the answer is no vector."""
    samples = []
    for entry in _mappings(data, "result"):
        labels = entry.get("metric")
        try:
            value = float(entry["value"][1])
        except (KeyError, IndexError, TypeError, ValueError):
            raise AnswerError("the answer to the query is no vector") from None
        named = labels if isinstance(labels, dict) else {}
        samples.append(
            Sample(str(named.get("__name__", "")), {k: str(v) for k, v in named.items()}, value)
        )
    return samples


def reload_state(target: Target, samples: Iterable[Sample]) -> Measurement:
    """From Prometheus' own metrics, which it has whether or not it scrapes itself."""
    for sample in samples:
        if sample.name == RELOAD_METRIC:
            if sample.value == 1:
                return Measurement(
                    target, status=OK, message="the configuration in the file is in use"
                )
            return Measurement(
                target,
                status=WARNING,
                message="the last reload failed, an older configuration is in use",
            )
    raise AnswerError(f"no {RELOAD_METRIC} in its metrics")
