# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible registers for hosts well and unwell, for the tests of reports."""

from __future__ import annotations

import datetime
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    Measurement,
    Policy,
    Target,
    parse_waivers,
    result,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report import Run, build_report

TODAY = datetime.date(2026, 11, 24)
BEGAN = datetime.datetime(2026, 11, 24, 2, 57, 3, tzinfo=datetime.timezone.utc)
RUN = Run(
    run_id="4f3c9a1b-77aa-4c0e-9b1e-000000000000",
    started_at=BEGAN,
    finished_at=BEGAN + datetime.timedelta(seconds=3.25),
    controller="control.example.org",
    user="anna",
    collection_version="0.1.0",
)
CONTACTS = [
    {"name": "On-call", "address": "+1 555 0100"},
    {"name": "Operations", "address": "ops@pynomaly.com"},
    {"name": "Status page", "address": "https://status.pynomaly.com"},
]
ESCALATION = [
    {"name": "On-call engineer", "address": "+1 555 0100"},
    {"name": "Senior engineer"},
    {"name": "Engineering manager"},
    {"name": "CTO"},
]
LINKS = [{"title": "Main dashboard", "url": "http://grafana.example.org:3000/d/pynomaly-main"}]

#: Text that tries to leave its place: markup, a style's end, direction overrides, an escape
#: sequence, Markdown, line ends, a word that never ends.
HOSTILE = (
    "<script>alert(1)</script></style></title><img src=x onerror=alert(2)> & \"quoted\" 'single' "
    "\u202etxt.exe\u202c \u05e9\u05dc\u05d5\u05dd \x1b[31mred\x1b[0m | `a` ``b`` **bold** "
    "[link](javascript:alert(3)) @everyone \r\nsecond line\t" + "x" * 400
)

_OK_RESULTS = (
    ("docker.engine", "docker", None, "20.10.24", "Docker Engine 20.10.24"),
    ("docker.compose", "docker", None, "2.40.3", "Docker Compose 2.40.3"),
    ("project.found", "project", None, None, "13 containers of 13 services"),
    ("project.compose_file", "project", None, None, "13 services"),
    ("container.state", "pynomaly-api", None, 2, "2 of 2 running"),
    ("container.state", "postgres", None, 1, "1 of 1 running"),
    ("container.state", "redis-cluster", None, 1, "1 of 1 running"),
    ("container.health", "pynomaly-api", "pynomaly-pynomaly-api-1", None, "healthy"),
    ("container.health", "postgres", "pynomaly-postgres-1", None, "healthy"),
    ("container.restarts", "postgres", "pynomaly-postgres-1", 0, "no restarts"),
    ("container.memory", "postgres", "pynomaly-postgres-1", 31.25, "80 MiB of 256 MiB"),
    ("host.disk", "host", "/", 54.0, "135 GiB of 251 GiB used"),
    ("host.inodes", "host", "/", 7.5, "7.5% used"),
    ("host.memory", "host", None, 41.7, "10 GiB of 24 GiB used"),
    ("host.load", "host", None, 0.4, "0.8 over 2 processors"),
    ("host.clock", "host", None, 0.02, "20 ms apart"),
    ("api.health", "pynomaly-api", "http://localhost:8000/health", None, "200 in 12 ms"),
    ("api.latency", "pynomaly-api", None, 12.5, "median of 5 requests"),
    ("api.error_rate", "pynomaly-api", None, 0.0, "0 of 1 204 answers"),
    ("postgres.ready", "postgres", None, None, "PostgreSQL 17.6 accepts connections"),
    ("postgres.connections", "postgres", None, 6.2, "6 of 97 connections used"),
    ("postgres.size", "postgres", "pynomaly_prod", 987654321, "pynomaly_prod"),
    ("redis.ping", "redis-cluster", None, None, "PONG in 1 ms"),
    ("redis.memory", "redis-cluster", None, 12.0, "31 MiB of 256 MiB"),
    ("nginx.config", "nginx", None, None, "syntax is ok"),
    ("tls.served", "nginx", "nginx:443", 64, "pynomaly.example.org until 2027-01-27"),
    ("prometheus.ready", "prometheus", None, None, "ready"),
    ("runbook.review", "project", None, -30, "due on 2026-12-24"),
)

FACTS = {
    "os": "Debian GNU/Linux 13 (trixie)",
    "kernel": "6.12.48+deb13-amd64",
    "engine_version": "26.1.5",
    "compose_version": "2.40.3",
    "uptime_seconds": 1050000,
}

POLICY = Policy(
    CATALOGUE,
    waivers=parse_waivers(
        [
            {
                "probe": "logs.errors@prometheus",
                "reason": "noise until the next release, OPS-412",
                "until": "2026-12-31",
            }
        ],
        CATALOGUE,
    ),
)


def probe_result(
    identifier: str,
    service: str,
    instance: Optional[str] = None,
    value: Any = None,
    message: str = "",
    **more: Any,
) -> dict[str, Any]:
    """A result as the module makes it."""
    measurement = Measurement(
        Target(identifier, service, instance), value, message, duration_ms=4.2, **more
    )
    return result(measurement, POLICY, TODAY)


def registered(results: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """What is registered for a host on which the module ran."""
    return {
        "changed": False,
        "failed": False,
        "project": {
            "name": "pynomaly",
            "working_dir": "/opt/pynomaly",
            "config_files": ["/opt/pynomaly/compose.yaml"],
            "components": {"api": "pynomaly-api"},
        },
        "facts": dict(FACTS),
        "results": results,
        "started_at": "2026-11-24T02:57:04Z",
        "duration_ms": 1312.4,
        **more,
    }


def healthy() -> dict[str, Any]:
    results = [probe_result(*row) for row in _OK_RESULTS]
    results += [
        probe_result("host.swap", "host", message="the host has no swap", status="skipped"),
        probe_result("backup.age", "backup", message="there are no backups yet", status="skipped"),
        probe_result("grafana.health", "grafana", message="no such service", status="skipped"),
    ]
    return registered(results)


def troubled() -> dict[str, Any]:
    """A host with every status, a waiver and a detail."""
    outcome = healthy()
    replaced = {
        ("host.disk", "/"): probe_result(
            "host.disk", "host", "/var/lib/docker", 97.1, "244 GiB of 251 GiB used, 7 GiB free"
        ),
        ("postgres.ready", None): probe_result(
            "postgres.ready",
            "postgres",
            None,
            None,
            "connection to 172.19.0.3 port 5432 refused, expected an answer",
            status="critical",
        ),
        ("postgres.connections", None): probe_result(
            "postgres.connections",
            "postgres",
            message="not measured: postgres.ready is critical",
            status="skipped",
        ),
        ("tls.served", "nginx:443"): probe_result(
            "tls.served", "nginx", "nginx:443", 10, "pynomaly.example.org until 2026-12-04"
        ),
        ("redis.memory", None): probe_result(
            "redis.memory",
            "redis-cluster",
            message="no answer within the deadline of 15 s",
            status="unknown",
        ),
    }
    outcome["results"] = [
        replaced.get((entry["id"], entry["instance"]), entry) for entry in outcome["results"]
    ]
    outcome["results"] += [
        probe_result(
            "logs.errors",
            "pynomaly-api",
            None,
            128,
            "128 error lines in 24 h",
            detail=[
                {"count": 96, "message": "detector failed: could not connect to server"},
                {"count": 31, "message": "cache unavailable"},
                {"count": 1, "message": "shutdown took 12 s"},
            ],
        ),
        probe_result("logs.errors", "prometheus", None, 40, "40 error lines in 24 h"),
    ]
    return outcome


COMMAND = (
    "ansible-playbook pynomaly.ops.incident_contain -e block=203.0.113.7,2001:db8::/48 -e for=24h "
    "-e 'reason=scanning for a|b'"
)
TABLES = [
    {
        "title": "Blocked addresses",
        "columns": ["Network", "Packets"],
        "rows": [["203.0.113.7/32", 54321], ["2001:db8::/48", 7]],
    },
    {
        "title": "Timeline",
        "columns": ["Time", "Who", "What", "Command"],
        "rows": [["2026-11-24 02:57:03 UTC", "anna@control", "blocked 2 networks", COMMAND]],
    },
    {"title": "Open temporary states", "columns": ["State", "Undo"], "rows": []},
]


def incident() -> dict[str, Any]:
    """A host of which a run has more to tell than results."""
    block = probe_result("project.found", "project", message="2 networks are blocked")
    return registered([{**block, "id": "incident.block"}], tables=TABLES)


def hostile() -> dict[str, Any]:
    """A host every text of which tries to leave its place."""
    results = [
        probe_result(
            "host.disk",
            HOSTILE,
            HOSTILE,
            99.5,
            HOSTILE,
            hint=HOSTILE,
            detail=[{HOSTILE: HOSTILE}, HOSTILE],
        ),
        probe_result("api.health", HOSTILE, message="lone surrogate \udcff", status="warning"),
        probe_result("postgres.size", "postgres", None, float("nan"), HOSTILE),
        probe_result("redis.ping", HOSTILE, HOSTILE, None, HOSTILE),
        {
            **probe_result("redis.memory", HOSTILE, HOSTILE, 90, HOSTILE),
            "status": "skipped",
            "waiver": {"reason": HOSTILE, "until": "2026-12-31", "status": "warning"},
        },
    ]
    tables = [
        {"title": HOSTILE, "columns": [HOSTILE, "Command", HOSTILE], "rows": [[HOSTILE] * 3] * 2},
        {"title": HOSTILE, "columns": ["Undo"], "rows": [["`|` \\"], [7.25]]},
    ]
    outcome = registered(results, facts={HOSTILE: HOSTILE, "list": [HOSTILE]}, tables=tables)
    outcome["project"]["name"] = HOSTILE
    outcome["project"]["working_dir"] = HOSTILE
    return outcome


UNREACHABLE = {
    "unreachable": True,
    "changed": False,
    "msg": "Task failed: Failed to connect to the host via ssh: Warning: Permanently added "
    "'10.0.0.9' to the list of known hosts.\nssh: connect to host 10.0.0.9 port 22: "
    "Connection refused",
}
FAILED = {
    "failed": True,
    "changed": False,
    "msg": "thresholds: unknown probe id 'postgres.connection'; did you mean postgres.connections?",
}


def sample(*names: str, **options: Any) -> dict[str, Any]:
    """A report over hosts, each named for what it is."""
    kinds: dict[str, Any] = {
        "healthy": healthy(),
        "troubled": troubled(),
        "hostile": hostile(),
        "incident": incident(),
        "unreachable": UNREACHABLE,
        "failed": FAILED,
        "missing": None,
    }
    return build_report(
        "daily_check",
        "Daily check",
        RUN,
        {name: kinds[name] for name in names or ("healthy",)},
        **{"contacts": CONTACTS, "escalation": ESCALATION, "links": LINKS, **options},
    )
