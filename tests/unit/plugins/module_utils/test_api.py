# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._api import (
    AnswerCounts,
    NoFrontDoorError,
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
    PublishedPort,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._http import Endpoint
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target
from ansible_collections.pynomaly.ops.plugins.module_utils._prometheus import Sample

TARGET = Target("api.error_rate", "pynomaly-api")
SETTINGS = CheckSettings()


def container(service: str, state: str = "running", **fields: Any) -> Container:
    return Container("id", f"{service}-1", service, 1, state, "image", "sha", **fields)


def stack(*containers: Container) -> Stack:
    components = {"nginx": "nginx", "api": "pynomaly-api"}
    present = {one.service for one in containers}
    return Stack(
        "pynomaly",
        containers={one.service: [one] for one in containers},
        components={key: name for key, name in components.items() if name in present},
    )


API = container("pynomaly-api", addresses=("172.18.0.3",), exposed_ports=(8000,))


def test_the_url_that_is_set_comes_before_all() -> None:
    settings = CheckSettings(api_url="https://api.example:8443/v1", tls_server_name="x.example")
    assert front_door(stack(API), settings) == [
        Endpoint("https", "api.example", 8443, "x.example", "/v1")
    ]


def test_nginx_plain_http_and_8000_come_first() -> None:
    nginx = container(
        "nginx",
        ports=(
            PublishedPort(443, "0.0.0.0", 443),
            PublishedPort(443, "::", 443),
            PublishedPort(80, "0.0.0.0", 80),
            PublishedPort(8000, "::", 8000),
            PublishedPort(8000, "0.0.0.0", 8000),
        ),
    )
    settings = CheckSettings(tls_server_name="x.example")
    assert front_door(stack(API, nginx), settings) == [
        Endpoint("http", "127.0.0.1", 8000, "x.example"),
        Endpoint("http", "127.0.0.1", 80, "x.example"),
        Endpoint("https", "127.0.0.1", 443, "x.example"),
    ]


def test_nginx_that_publishes_nothing_is_asked_at_its_own_address() -> None:
    nginx = container("nginx", addresses=("172.18.0.9",), exposed_ports=(443, 80))
    assert front_door(stack(API, nginx), SETTINGS) == [
        Endpoint("http", "172.18.0.9", 80),
        Endpoint("https", "172.18.0.9", 443),
    ]
    bare = container("nginx", addresses=("172.18.0.9",))
    assert front_door(stack(API, bare), SETTINGS) == [Endpoint("http", "172.18.0.9", 80)]
    with pytest.raises(NoFrontDoorError, match="publishes no port"):
        front_door(stack(API, container("nginx")), SETTINGS)


def test_a_stopped_nginx_is_a_closed_door_even_with_the_api_well() -> None:
    with pytest.raises(NoFrontDoorError, match=r"no container of nginx runs \(seen exited\)"):
        front_door(stack(API, container("nginx", "exited")), SETTINGS)


def test_without_nginx_the_apis_published_port_or_address() -> None:
    published = container(
        "pynomaly-api", addresses=("172.18.0.3",), ports=(PublishedPort(8000, "10.0.0.5", 18000),)
    )
    assert front_door(stack(published), SETTINGS) == [Endpoint("http", "10.0.0.5", 18000)]
    assert front_door(stack(API), SETTINGS) == [Endpoint("http", "172.18.0.3", 8000)]
    with pytest.raises(NoFrontDoorError, match="seen exited"):
        front_door(stack(container("pynomaly-api", "exited")), SETTINGS)
    with pytest.raises(NoFrontDoorError, match="there is none"):
        front_door(stack(), SETTINGS)


@pytest.mark.parametrize(
    ("exposed", "api_port", "expected"),
    [((), None, 8000), ((9000, 8080), None, 8080), ((80, 8000), None, 8000), ((80,), 9, 9)],
)
def test_replica_port(exposed: tuple[int, ...], api_port: int | None, expected: int) -> None:
    one = container("pynomaly-api", addresses=("172.18.0.3",), exposed_ports=exposed)
    assert replica_endpoint(one, CheckSettings(api_port=api_port)).port == expected


def test_replica_without_an_address() -> None:
    with pytest.raises(NoFrontDoorError, match="has no address"):
        replica_endpoint(container("pynomaly-api"), SETTINGS)


@pytest.mark.parametrize(
    ("status", "body", "expected", "definitive", "message"),
    [
        (200, b'{"status": "healthy"}', "ok", True, "status 200, healthy"),
        (200, b'{"status": "UP", "x": 1}', "ok", True, "status 200, UP"),
        (200, b'{"status": true}', "ok", True, "status 200, true"),
        (200, b'{"status": 5}', "ok", True, "status 200"),
        (200, b'["status"]', "ok", True, "status 200"),
        (204, b"", "ok", True, "status 204"),
        (200, b"fine", "ok", True, "status 200"),
        (
            200,
            b'{"status": "unhealthy"}',
            "critical",
            True,
            'status 200, but it says \'unhealthy\': {"status": "unhealthy"}',
        ),
        (
            200,
            b'{"status": "degraded"}',
            "warning",
            True,
            'status 200, but it says \'degraded\': {"status": "degraded"}',
        ),
        (503, b"no upstream", "critical", True, "status 503, expected 200: no upstream"),
        (500, b"", "critical", True, "status 500, expected 200"),
        (404, b"", "critical", False, "status 404, expected 200"),
        (
            301,
            b"",
            "warning",
            False,
            "status 301, redirects to https://x/health, expected an answer",
        ),
    ],
)
def test_judge_health(
    status: int, body: bytes, expected: str, definitive: bool, message: str
) -> None:
    verdict = judge_health(status, {"location": "https://x/health"}, body)
    assert (verdict.status, verdict.definitive, verdict.message) == (expected, definitive, message)


def test_judge_health_shows_no_secrets_and_no_more_than_needed() -> None:
    secret = "s3cret-value"
    verdict = judge_health(500, {}, f"failed with {secret} {'x' * 500}".encode(), [secret])
    assert secret not in verdict.message
    assert len(verdict.message) < 160
    assert "redirects to nowhere" in judge_health(302, {}, b"").message


def test_api_secrets_come_from_every_replica() -> None:
    one = container("pynomaly-api", environment={"JWT_SECRET": "first-secret"})
    both = Stack("p", containers={"pynomaly-api": [one]}, components={"api": "pynomaly-api"})
    assert api_secrets(both) == ["first-secret"]


def test_latency_median_and_worst() -> None:
    measured = latency(TARGET, [10.0, 30.04, 20.0], [], 3, 5)
    assert (measured.value, measured.status) == (20.0, None)
    assert measured.message == "median 20 ms, worst 30 ms in 3 requests"
    assert measured.detail == {"samples_ms": [10.0, 30.0, 20.0]}


def test_latency_tells_when_time_ran_out_and_what_failed() -> None:
    cut = latency(TARGET, [3000.0], [], 5, 5)
    assert cut.message == "median 3000 ms, worst 3000 ms in 1 of 5 requests, 5 s being over"
    failed = latency(TARGET, [10.0, 12.0], ["status 500, expected 200"], 3, 5)
    assert failed.status == "warning"
    assert failed.message.startswith("1 of 3 requests failed (status 500, expected 200); median 11")


def counts(requests: int, failed: int, path: str = "/a") -> AnswerCounts:
    made = AnswerCounts()
    made.add(200, "/fine", requests - failed)
    made.add(502, path, failed)
    return made


def test_error_rate_share() -> None:
    measured = error_rate(TARGET, counts(340, 12), "nginx access log", "in the last 15 minutes")
    assert (measured.value, measured.status) == (3.53, None)
    assert measured.message == (
        "12 of 340 answers were 5xx in the last 15 minutes, 3.5 % (nginx access log)"
    )
    assert measured.detail["paths"] == [{"path": "/a", "count": 12}]


@pytest.mark.parametrize(
    ("requests", "failed", "judged"),
    [(0, 0, False), (4, 4, False), (5, 5, True), (19, 18, False), (20, 1, True)],
)
def test_error_rate_on_few_requests(requests: int, failed: int, judged: bool) -> None:
    measured = error_rate(TARGET, counts(requests, failed), "s", "lately", "cut")
    assert (measured.status is None) is judged
    assert "s; cut" in measured.message
    if requests and not judged:
        assert "too few" in measured.message


def test_most_frequent_paths_come_first() -> None:
    made = AnswerCounts()
    for index in range(7):
        made.add("5xx", f"/p{index}", index + 1)
    made.add(500, "", 2)
    paths = error_rate(TARGET, made, "s", "lately").detail["paths"]
    assert [entry["path"] for entry in paths] == ["/p6", "/p5", "/p4", "/p3", "/p2"]


def test_count_samples() -> None:
    made = count_samples(
        [
            Sample("http_requests_total", {"status": "2xx", "handler": "/a"}, 10.4),
            Sample("http_requests_total", {"code": "503", "path": "/b"}, 2.6),
            Sample("http_requests_total", {"status": "5xx"}, 1),
            Sample("http_requests_total", {"status": "5xx"}, float("nan")),
            Sample("http_requests_total", {"handler": "/a"}, 7),
        ]
    )
    assert made is not None
    assert (made.requests, made.failed, made.failed_paths) == (14, 4, {"/b": 3})
    assert count_samples([Sample("http_requests_total", {}, 1)]) is None
