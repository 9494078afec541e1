# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    Container,
    PublishedPort,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._http import Endpoint
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target
from ansible_collections.pynomaly.ops.plugins.module_utils._prometheus import (
    AnswerError,
    Sample,
    alerts_firing,
    api_data,
    endpoint,
    grafana_health,
    grafana_location,
    listen_port,
    parse_exposition,
    ready,
    refusal,
    reload_state,
    route_prefix,
    targets_down,
    vector,
)

TARGET = Target("prometheus.ready", "prometheus")


def container(**fields: Any) -> Container:
    return Container("id", "prometheus-1", "prometheus", 1, "running", "image", "sha", **fields)


def test_parse_exposition() -> None:
    text = (
        "# HELP http_requests_total Requests.\n"
        "# TYPE http_requests_total counter\n"
        'http_requests_total{handler="/a,b}",method="GET",status="2xx",} 12 1395066363000\n'
        'http_requests_total{handler="/q\\"\\\\\\n\\x",status="5xx"} 3.0\n'
        "\n"
        "up 1\n"
        "  odd:name{ } +Inf\n"
        "nan_value NaN\n"
        'exemplar_bucket{le="1"} 5 # {trace="x"} 0.3\n'
        "# EOF\n"
    )
    samples = list(parse_exposition(text))
    assert samples[0] == Sample(
        "http_requests_total", {"handler": "/a,b}", "method": "GET", "status": "2xx"}, 12.0
    )
    assert samples[1].labels["handler"] == '/q"\\\n\\x'
    assert samples[2] == Sample("up", {}, 1.0)
    assert samples[3] == Sample("odd:name", {}, float("inf"))
    assert samples[4].value != samples[4].value
    assert samples[5] == Sample("exemplar_bucket", {"le": "1"}, 5.0)
    assert len(samples) == 6


@pytest.mark.parametrize(
    "line",
    ["<html>", "up", "up one", 'up{a="b" 1', "up{a=b} 1", 'up{a="b}" c} 1', "up{"],
)
def test_parse_exposition_refuses_what_is_none(line: str) -> None:
    with pytest.raises(AnswerError, match="line 2 is no metric"):
        list(parse_exposition(f"fine 1\n{line}\n"))


@pytest.mark.parametrize(
    ("command", "port", "prefix"),
    [
        (["/bin/prometheus"], 9090, ""),
        (["prometheus", "--web.listen-address=:9091"], 9091, ""),
        (["prometheus", "--web.listen-address", "0.0.0.0:9092"], 9092, ""),
        (["prometheus", "-web.listen-address=[::]:9093"], 9093, ""),
        (["prometheus", "--web.listen-address"], 9090, ""),
        (["prometheus", "--web.route-prefix=/prom/"], 9090, "/prom"),
        (
            ["prometheus", "--web.external-url=https://x.example/metrics/prom"],
            9090,
            "/metrics/prom",
        ),
        (
            ["prometheus", "--web.external-url=https://x.example/p", "--web.route-prefix=/"],
            9090,
            "",
        ),
    ],
)
def test_where_it_listens(command: list[str], port: int, prefix: str) -> None:
    assert listen_port(command, 9090) == port
    assert route_prefix(command) == prefix


def test_endpoint_prefers_the_containers_own_address() -> None:
    published = (PublishedPort(9090, "0.0.0.0", 19090),)
    assert endpoint(container(addresses=("172.18.0.2",), ports=published), 9090, "/p") == Endpoint(
        "http", "172.18.0.2", 9090, base_path="/p"
    )
    assert endpoint(container(ports=published), 9090) == Endpoint("http", "127.0.0.1", 19090)
    assert endpoint(container(ports=published), 9999) is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ("http", 3000, "")),
        ({"GF_SERVER_HTTP_PORT": "3001", "GF_SERVER_PROTOCOL": "https"}, ("https", 3001, "")),
        ({"GF_SERVER_HTTP_PORT": "many"}, ("http", 3000, "")),
        ({"GF_SERVER_ROOT_URL": "https://x/grafana/"}, ("http", 3000, "")),
        (
            {
                "GF_SERVER_ROOT_URL": "%(protocol)s://%(domain)s/grafana/",
                "GF_SERVER_SERVE_FROM_SUB_PATH": "true",
            },
            ("http", 3000, "/grafana"),
        ),
        (
            {
                "GF_SERVER_ROOT_URL": "https://x/grafana/",
                "GF_SERVER_SERVE_FROM_SUB_PATH": "true",
            },
            ("http", 3000, "/grafana"),
        ),
    ],
)
def test_grafana_location(environment: dict[str, str], expected: tuple[str, int, str]) -> None:
    assert grafana_location(environment) == expected


def test_refusal() -> None:
    assert refusal(200, b"") is None
    assert refusal(400, b"bad_data") is None
    assert "401" in str(refusal(401, b"Unauthorized"))
    assert "HTTPS" in str(refusal(400, b"Client sent an HTTP request to an HTTPS server.\n"))


@pytest.mark.parametrize(
    ("status", "body", "expected", "message"),
    [
        (200, b"Prometheus Server is Ready.\n", "ok", "ready, answered in 3 ms"),
        (503, b"Service Unavailable", "critical", "status 503 instead of 200: Service Unavailable"),
        (404, b"", "critical", "status 404 instead of 200"),
        (401, b"", "unknown", "asks for credentials (status 401), which this check has none of"),
    ],
)
def test_ready(status: int, body: bytes, expected: str, message: str) -> None:
    measured = ready(TARGET, status, body, 3.4)
    assert (measured.status, measured.message) == (expected, message)


@pytest.mark.parametrize(
    ("status", "body", "expected", "message"),
    [
        (
            200,
            b'{"commit": "x", "database": "ok", "version": "11.0"}',
            "ok",
            "version 11.0, its database is ok",
        ),
        (200, b'{"database": "ok"}', "ok", "its database is ok"),
        (
            503,
            b'{"database": "failing"}',
            "critical",
            "status 503, its database is 'failing', expected ok",
        ),
        (200, b"<html>", "critical", "status 200 and no word of its database: <html>"),
        (502, b"", "critical", "status 502 and no word of its database: empty"),
        (
            401,
            b"",
            "unknown",
            "asks for credentials (status 401), which this check has none of",
        ),
    ],
)
def test_grafana_health(status: int, body: bytes, expected: str, message: str) -> None:
    measured = grafana_health(Target("grafana.health", "grafana"), status, body)
    assert (measured.status, measured.message) == (expected, message)


def test_api_data() -> None:
    assert api_data(200, b'{"status": "success", "data": {"a": 1}}') == {"a": 1}


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b"", "credentials"),
        (502, b"<html>bad gateway", "status 502 and no JSON: <html>bad gateway"),
        (502, b"", "no JSON: empty"),
        (400, b'{"status": "error", "error": "parse error"}', "status 400: parse error"),
        (200, b"[1]", r"status 200: \[1\]"),
    ],
)
def test_api_data_refuses(status: int, body: bytes, message: str) -> None:
    with pytest.raises(AnswerError, match=message):
        api_data(status, body)


def scraped(job: str, health: str, error: str = "") -> dict[str, Any]:
    return {
        "labels": {"job": job, "instance": f"{job}:9100"},
        "health": health,
        "lastError": error,
    }


def test_targets_down_names_them_and_hides_credentials() -> None:
    data = {
        "activeTargets": [
            scraped("api", "up"),
            scraped("redis", "down", "Get http://u:hunter2secret@redis:9121: refused"),
            scraped("new", "unknown"),
        ]
    }
    measured = targets_down(TARGET, data)
    assert measured.value == 1
    assert measured.status is None
    assert measured.message == (
        "1 of 3 down, 1 not scraped yet: redis/redis:9100 (Get http://***@redis:9121: refused)"
    )
    assert measured.detail == [
        {"job": "redis", "instance": "redis:9100", "error": "Get http://***@redis:9121: refused"}
    ]


def test_targets_all_up_and_none_at_all() -> None:
    up = targets_down(TARGET, {"activeTargets": [scraped("api", "up"), scraped("x", "unknown")]})
    assert (up.value, up.status, up.message) == (0, None, "1 of 2 up, 1 not scraped yet")
    none = targets_down(TARGET, {"activeTargets": []})
    assert (none.status, none.message) == ("warning", "no scrape target at all, expected some")


def test_targets_beyond_three_are_counted() -> None:
    data = {"activeTargets": [scraped(f"j{number}", "down", "e") for number in range(5)]}
    assert targets_down(TARGET, data).message.endswith("j2/j2:9100 (e) and 2 more")


@pytest.mark.parametrize("data", [None, {}, {"activeTargets": 3}, {"activeTargets": ["x"]}])
def test_targets_refuse_another_shape(data: Any) -> None:
    with pytest.raises(AnswerError, match="no list of activeTargets"):
        targets_down(TARGET, data)


def alert(name: str, severity: str = "", state: str = "firing") -> dict[str, Any]:
    labels = {"alertname": name, "instance": "i"}
    if severity:
        labels["severity"] = severity
    return {"labels": labels, "state": state, "activeAt": "2026-01-01T00:00:00Z"}


def test_alerts_critical_comes_first() -> None:
    data = {
        "alerts": [
            alert("DiskFull", "warning"),
            alert("DiskFull", "warning"),
            alert("ApiDown", "critical"),
            alert("Watchdog", "critical"),
            alert("Quiet", "none"),
            alert("Soon", "critical", "pending"),
        ]
    }
    measured = alerts_firing(TARGET, data)
    assert (measured.status, measured.value) == ("critical", 3)
    assert measured.message == "3 alerts fire: ApiDown (critical), 2 × DiskFull (warning)"
    assert [entry["alert"] for entry in measured.detail] == ["ApiDown", "DiskFull", "DiskFull"]


def test_alerts_without_severity_warn_and_none_is_ok() -> None:
    one = alerts_firing(TARGET, {"alerts": [{"labels": None, "state": "firing"}]})
    assert (one.status, one.message) == (
        "warning",
        "1 alert fires: without a name (no severity)",
    )
    none = alerts_firing(TARGET, {"alerts": [alert("Watchdog")]})
    assert (none.status, none.value, none.message) == ("ok", 0, "no alert fires")


def test_vector() -> None:
    data = {"result": [{"metric": {"status": "5xx"}, "value": [1.5, "3.2"]}, {"value": [1, "NaN"]}]}
    samples = vector(data)
    assert samples[0] == Sample("", {"status": "5xx"}, 3.2)
    assert samples[1].labels == {}
    with pytest.raises(AnswerError, match="no vector"):
        vector(json.loads('{"result": [{"metric": {}, "values": []}]}'))


def test_reload_state() -> None:
    name = "prometheus_config_last_reload_successful"
    assert reload_state(TARGET, [Sample("up", {}, 1), Sample(name, {}, 1)]).status == "ok"
    failed = reload_state(TARGET, [Sample(name, {}, 0)])
    assert failed.status == "warning"
    assert "last reload failed" in failed.message
    with pytest.raises(AnswerError, match=name):
        reload_state(TARGET, [])
