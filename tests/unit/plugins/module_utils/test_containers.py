# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from typing import Any, Optional

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import (
    age_seconds,
    by_service,
    container_from_inspect,
    container_from_summary,
    container_number,
    duration_text,
    excerpt,
    health_measurement,
    image_measurement,
    normalize_reference,
    parse_time,
    restarts_measurement,
    share_addresses,
    start_allowance_seconds,
    state_measurement,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    ComposeService,
    Container,
    Mount,
    PublishedPort,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    UNKNOWN,
    WARNING,
    Target,
)

NOW_TEXT = "2026-01-02T12:00:00Z"
NOW = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.timezone.utc).timestamp()
TARGET = Target("container.state", "api")
SERVICE = ComposeService("api", image="api:1", image_id="sha256:" + "a" * 64, config_hash="h1")


def container(number: int = 1, state: str = "running", **fields: Any) -> Container:
    values: dict[str, Any] = {
        "id": f"id{number}",
        "name": f"p-api-{number}",
        "service": "api",
        "number": number,
        "state": state,
        "image": "api:1",
        "image_id": "sha256:" + "a" * 64,
        "started_at": "2026-01-01T00:00:00.123456789Z",
        "labels": {"com.docker.compose.config-hash": "h1"},
    }
    values.update(fields)
    return Container(**values)


def inspected() -> dict[str, Any]:
    return {
        "Id": "abc",
        "Name": "/p-api-2",
        "Created": "2026-01-01T00:00:00.5Z",
        "Path": "uvicorn",
        "Args": ["app:app", "--port=8000"],
        "Image": "sha256:" + "1" * 64,
        "RestartCount": 3,
        "State": {
            "Status": "running",
            "Running": True,
            "OOMKilled": True,
            "Pid": 42,
            "ExitCode": 0,
            "Error": "",
            "StartedAt": "2026-01-01T00:00:01Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            "Health": {
                "Status": "unhealthy",
                "Log": [{"Output": "old"}, {"Output": "connection refused\n"}],
            },
        },
        "Config": {
            "Image": "api:1",
            "Env": ["A=1", "URL=x=y", "EMPTY=", "broken"],
            "ExposedPorts": {"8000/tcp": {}, "53/udp": {}, "80/tcp": {}},
            "Labels": {
                "com.docker.compose.service": "api",
                "com.docker.compose.container-number": "2",
            },
            "User": "app",
        },
        "HostConfig": {
            "Memory": 104857600,
            "LogConfig": {"Type": "json-file"},
            "RestartPolicy": {"Name": "unless-stopped"},
            "NetworkMode": "p_back",
            "Tmpfs": {"/tmp": ""},
        },
        "NetworkSettings": {
            "Networks": {
                "p_front": {"IPAddress": "10.0.2.2", "GlobalIPv6Address": "fd00::2"},
                "p_back": {"IPAddress": "10.0.1.2", "GlobalIPv6Address": ""},
                "p_none": None,
            },
            "Ports": {
                "8000/tcp": [
                    {"HostIp": "127.0.0.1", "HostPort": "18000"},
                    {"HostIp": "::", "HostPort": ""},
                ],
                "53/udp": [{"HostIp": "", "HostPort": "53"}],
                "80/tcp": None,
            },
        },
        "Mounts": [
            {"Type": "volume", "Source": "/v", "Destination": "/data", "RW": True},
            {"Type": "bind", "Source": "/c", "Destination": "/etc/c", "RW": False},
        ],
    }


def test_an_inspected_container() -> None:
    assert container_from_inspect(inspected()) == Container(
        id="abc",
        name="p-api-2",
        service="api",
        number=2,
        state="running",
        image="api:1",
        image_id="sha256:" + "1" * 64,
        health="unhealthy",
        health_output="connection refused\n",
        restart_count=3,
        oom_killed=True,
        created_at="2026-01-01T00:00:00.5Z",
        started_at="2026-01-01T00:00:01Z",
        pid=42,
        addresses=("10.0.1.2", "10.0.2.2", "fd00::2"),
        networks={"p_back": "10.0.1.2", "p_front": "10.0.2.2", "p_none": ""},
        ports=(PublishedPort(8000, "127.0.0.1", 18000),),
        exposed_ports=(80, 8000),
        mounts=(
            Mount("volume", "/v", "/data"),
            Mount("bind", "/c", "/etc/c", True),
            Mount("tmpfs", "", "/tmp"),
        ),
        environment={"A": "1", "URL": "x=y", "EMPTY": ""},
        command=("uvicorn", "app:app", "--port=8000"),
        labels=inspected()["Config"]["Labels"],
        log_driver="json-file",
        memory_limit_bytes=104857600,
        restart_policy="unless-stopped",
        user="app",
    )


def test_a_container_of_which_the_engine_says_nearly_nothing() -> None:
    bare = container_from_inspect({"Id": "abc"})
    assert (bare.state, bare.health, bare.addresses, bare.command) == ("unknown", None, (), ())


def test_a_stopped_container_has_the_ports_it_would_publish() -> None:
    data = inspected()
    data["NetworkSettings"]["Ports"] = {}
    data["HostConfig"]["PortBindings"] = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    assert container_from_inspect(data).ports == (PublishedPort(80, "", 8080),)


def test_no_health_check_is_none_whatever_the_engine_calls_it() -> None:
    data = inspected()
    data["State"]["Health"] = {"Status": "none"}
    assert container_from_inspect(data).health is None


def test_a_container_on_the_hosts_network_is_the_host() -> None:
    data = inspected()
    data["HostConfig"]["NetworkMode"] = "host"
    assert container_from_inspect(data).addresses == ("127.0.0.1",)


def test_a_container_in_anothers_network_namespace_has_its_addresses() -> None:
    data = inspected()
    data.update(Id="side", NetworkSettings={})
    data["HostConfig"]["NetworkMode"] = "container:abc"
    owner, side = container_from_inspect(inspected()), container_from_inspect(data)
    assert side.addresses == ()
    shared = share_addresses([owner, side])
    assert shared[0] == owner
    assert (shared[1].addresses, shared[1].networks) == (owner.addresses, owner.networks)
    assert share_addresses([side]) == [side]


def test_environment_and_command_stay_out_of_the_repr() -> None:
    text = repr(container(environment={"PASSWORD": "hunter2"}, command=("--pw=hunter2",)))
    assert "hunter2" not in text


def test_a_listed_container_that_cannot_be_inspected() -> None:
    summary = {
        "Id": "abc",
        "Names": ["/p-api-1"],
        "Image": "api:1",
        "ImageID": "sha256:1",
        "State": "running",
        "Labels": inspected()["Config"]["Labels"],
        "NetworkSettings": {"Networks": {"n": {"IPAddress": "10.0.0.1"}, "m": None}},
    }
    found = container_from_summary(summary, "inspect hangs")
    assert (found.name, found.service, found.number, found.state, found.error, found.addresses) == (
        "p-api-1", "api", 2, "running", "inspect hangs", ("10.0.0.1",),
    )  # fmt: skip
    assert container_from_summary({"Id": "abcdefghijklmnop"}, "x").name == "abcdefghijkl"
    assert container_number(summary) == 2
    assert container_number({"Labels": None}) == 0


def test_containers_are_grouped_in_number_order() -> None:
    numbers = [container(10), container(2), container(1, service="db")]
    grouped = by_service(numbers)
    assert [one.number for one in grouped["api"]] == [2, 10]
    assert set(grouped) == {"api", "db"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05.123456789Z", (3, 4, 5, 123456)),
        ("2026-01-02T03:04:05Z", (3, 4, 5, 0)),
        ("2026-01-02T03:04:05.5+00:00", (3, 4, 5, 500000)),
        ("2026-01-02T05:04:05+02:00", (3, 4, 5, 0)),
    ],
)
def test_times_of_the_engine(text: str, expected: tuple[int, int, int, int]) -> None:
    parsed = parse_time(text)
    assert parsed is not None
    utc = parsed.astimezone(datetime.timezone.utc)
    assert (utc.hour, utc.minute, utc.second, utc.microsecond) == expected


@pytest.mark.parametrize("text", ["", "0001-01-01T00:00:00Z", "yesterday"])
def test_no_time(text: str) -> None:
    assert parse_time(text) is None
    assert age_seconds(text, datetime.datetime.now(datetime.timezone.utc)) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (3600, "1 h"),
        (7500, "2 h 5 min"), (90000, "1 d 1 h"), (86400, "1 d"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_an_excerpt_is_one_short_line() -> None:
    assert excerpt(" a\n b ") == "a b"
    assert len(excerpt("x" * 300)) == 200


# container.state


@pytest.mark.parametrize(
    ("service", "containers", "status", "value", "words"),
    [
        (SERVICE, [container()], OK, 1, "1 of 1 running"),
        (SERVICE, [], CRITICAL, 0, "missing: no container, expected 1"),
        (SERVICE, [container(state="exited", exit_code=1)], CRITICAL, 0, "exited (exit code 1)"),
        (SERVICE, [container(state="exited", exit_code=0)], CRITICAL, 0, "exited (exit code 0)"),
        (
            SERVICE,
            [container(state="exited", exit_code=137, oom_killed=True)],
            CRITICAL,
            0,
            "killed for want of memory",
        ),
        (
            SERVICE,
            [container(state="created", error="port is taken")],
            CRITICAL,
            0,
            "port is taken",
        ),
        (SERVICE, [container(state="restarting", exit_code=3)], CRITICAL, 0, "restarting (exit"),
        (SERVICE, [container(state="paused")], CRITICAL, 0, "0 of 1 running: p-api-1 is paused"),
        (SERVICE, [container(state="dead")], CRITICAL, 0, "dead"),
        (SERVICE, [container(state="unknown")], UNKNOWN, 0, "unknown"),
        # replicas
        (ComposeService("api", replicas=2), [container(1), container(2)], OK, 2, "2 of 2 running"),
        (ComposeService("api", replicas=3), [container(1)], CRITICAL, 1, "others are missing"),
        (
            ComposeService("api", replicas=2),
            [container(1), container(2, "exited")],
            CRITICAL,
            1,
            "1 of 2 running: p-api-2 is exited",
        ),
        (
            ComposeService("api", replicas=3),
            [container(1), container(2, "exited"), container(3, "restarting")],
            CRITICAL,
            1,
            "p-api-3 is restarting",
        ),
        # scaled by hand: more than asked for, and one that scaling down left behind
        (SERVICE, [container(1), container(2)], OK, 2, "2 running, the Compose file asks for 1"),
        (SERVICE, [container(1), container(2, "exited")], OK, 1, "1 of 1 running"),
        (SERVICE, [container(1), container(2, "restarting")], CRITICAL, 1, "p-api-2 is restarting"),
        (ComposeService("api", replicas=0), [], OK, 0, "as the Compose file asks"),
        # jobs
        (ComposeService("api", one_shot=True), [container(state="exited")], OK, 0, "one-off job"),
        (ComposeService("api", one_shot=True), [container()], OK, 1, "1 of 1 running"),
        (ComposeService("api", one_shot=True), [], CRITICAL, 0, "missing"),
        (
            ComposeService("api", one_shot=True),
            [container(state="exited", exit_code=2)],
            CRITICAL,
            0,
            "exit code 2",
        ),
        # orphans
        (None, [container()], WARNING, 1, "the Compose file has no such service"),
    ],
)
def test_state(
    service: Optional[ComposeService],
    containers: list[Container],
    status: str,
    value: int,
    words: str,
) -> None:
    measured = state_measurement(TARGET, service, containers)
    assert (measured.status, measured.value) == (status, value)
    assert words in measured.message


def test_a_missing_container_says_what_to_run() -> None:
    assert state_measurement(TARGET, SERVICE, []).hint == "docker compose up -d api"


# container.health


def test_health_of_nothing_and_of_what_has_no_check() -> None:
    assert health_measurement(TARGET, [], {}, NOW).status == SKIPPED
    assert health_measurement(TARGET, [container(state="exited")], {}, NOW).status == SKIPPED
    assert health_measurement(TARGET, [container()], {}, NOW).message == (
        "the service has no health check"
    )


def test_the_unhealthy_replica_is_named_with_what_its_check_said() -> None:
    sick = container(2, health="unhealthy", health_output="curl: (7)\n" + "x" * 300)
    measured = health_measurement(TARGET, [container(1, health="healthy"), sick], {}, NOW)
    assert measured.status == CRITICAL
    assert measured.message.startswith("1 of 2: p-api-2 is unhealthy: curl: (7) xxx")
    assert len(measured.message) < 240
    silent = health_measurement(TARGET, [container(health="unhealthy")], {}, NOW)
    assert silent.message == "p-api-1 is unhealthy, its check printed nothing"


def test_starting_is_odd_only_after_the_time_allowed() -> None:
    young = container(health="starting", started_at="2026-01-02T11:59:30Z")
    measured = health_measurement(TARGET, [young], {"id1": 60.0}, NOW)
    assert (measured.status, measured.value) == (OK, "starting")
    assert "starting for 30 s, its health check allows 1 min" in measured.message
    assert health_measurement(TARGET, [young], {"id1": 29.0}, NOW).status == WARNING
    old = container(2, health="starting", started_at="2026-01-02T11:00:00Z")
    both = health_measurement(TARGET, [old, young], {"id1": 1.0, "id2": 7200.0}, NOW)
    assert both.status == WARNING
    assert "p-api-1" in both.message


def test_healthy() -> None:
    assert health_measurement(TARGET, [container(health="healthy")], {}, NOW).status == OK
    two = [container(1, health="healthy"), container(2, health="healthy")]
    assert health_measurement(TARGET, two, {}, NOW).message == "2 of 2 healthy"
    odd = health_measurement(TARGET, [container(health="odd")], {}, NOW)
    assert odd.status == UNKNOWN


@pytest.mark.parametrize(
    ("check", "seconds"),
    [
        (None, 180.0),
        ({"Interval": 10_000_000_000, "Timeout": 5_000_000_000, "Retries": 2}, 30.0),
        (
            {"StartPeriod": 60_000_000_000, "Interval": 1_000_000_000, "Timeout": 1_000_000_000},
            66.0,
        ),
    ],
)
def test_the_time_a_container_may_be_starting(check: Any, seconds: float) -> None:
    assert start_allowance_seconds(check) == seconds


# container.restarts


def test_restarts_count_only_while_the_last_start_is_recent() -> None:
    recent = container(restart_count=4, started_at="2026-01-02T11:00:00Z")
    measured = restarts_measurement(TARGET, [recent], NOW)
    assert measured.value == 4
    assert measured.message == (
        "p-api-1: 4 restarts since it was created, the last 1 h ago (2026-01-02T11:00:00Z)"
    )
    old = container(restart_count=4, started_at="2026-01-01T11:00:00Z")
    assert restarts_measurement(TARGET, [old], NOW).value == 0
    assert restarts_measurement(TARGET, [], NOW).status == SKIPPED


def test_the_replica_restarted_most_speaks() -> None:
    one = container(1, restart_count=1, started_at="2026-01-02T11:00:00Z")
    two = container(2, restart_count=9, started_at="2026-01-02T11:59:00Z")
    assert "p-api-2: 9 restarts" in restarts_measurement(TARGET, [one, two, one], NOW).message
    assert "1 restart since" in restarts_measurement(TARGET, [one], NOW).message
    assert restarts_measurement(TARGET, [container(restart_count=2, started_at="")], NOW).value == 0


# container.image


def test_the_same_image_and_configuration() -> None:
    measured = image_measurement(TARGET, SERVICE, [container()])
    assert measured.status == OK
    assert measured.message == "api:1, " + "a" * 12


def test_another_reference_in_the_file() -> None:
    measured = image_measurement(TARGET, SERVICE, [container(), container(2, image="api:0")])
    assert measured.status == WARNING
    assert measured.message == "p-api-2 runs api:0, the Compose file says api:1"


def test_the_reference_is_another_image_by_now() -> None:
    measured = image_measurement(TARGET, SERVICE, [container(image_id="sha256:" + "b" * 64)])
    assert measured.status == WARNING
    assert measured.message == "p-api-1 runs bbbbbbbbbbbb, but api:1 is now aaaaaaaaaaaa"


def test_a_service_that_is_only_built_compares_ids() -> None:
    built = ComposeService("api", image="", image_id="sha256:" + "b" * 64)
    message = image_measurement(TARGET, built, [container(image="p-api")]).message
    assert message == "p-api-1 runs aaaaaaaaaaaa, but p-api is now bbbbbbbbbbbb"
    unknown = ComposeService("api")
    assert image_measurement(TARGET, unknown, [container()]).status == OK


def test_a_changed_configuration() -> None:
    labels = {"com.docker.compose.config-hash": "h0", "com.docker.compose.version": "2.26.1"}
    measured = image_measurement(TARGET, SERVICE, [container(labels=labels)])
    assert measured.status == WARNING
    assert measured.message == (
        "p-api-1: configuration changed since it was started (with Compose 2.26.1)"
    )
    assert image_measurement(TARGET, SERVICE, [container(labels={})]).status == OK


def test_no_image_to_compare() -> None:
    assert image_measurement(TARGET, None, [container()]).status == SKIPPED
    assert image_measurement(TARGET, SERVICE, []).message == "no container"


@pytest.mark.parametrize(
    ("reference", "normal"),
    [
        ("postgres", "postgres:latest"),
        ("postgres:17", "postgres:17"),
        ("docker.io/library/postgres:17", "postgres:17"),
        ("index.docker.io/prom/prometheus", "prom/prometheus:latest"),
        ("registry:5000/app", "registry:5000/app:latest"),
        ("app@sha256:abc", "app@sha256:abc"),
        ("sha256:abc", "sha256:abc"),
    ],
)
def test_references(reference: str, normal: str) -> None:
    assert normalize_reference(reference) == normal
