# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any, Optional

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._compose import (
    ComposeConfig,
    ComposeFileError,
    ComposeFiles,
    Need,
    PlanStep,
    action_on_dependents,
    active_services,
    changes,
    compose_arguments,
    error_text,
    files_of,
    hashable_config,
    identify_components,
    image_component,
    image_reference,
    parse_config,
    parse_hashes,
    plan,
    unset_variables,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._context import ComposeService, Container

PREFIX = "com.docker.compose.project"
IMAGE_ID = "sha256:" + "a" * 64


def container(service: str, number: int = 1, state: str = "running", **fields: Any) -> Container:
    values: dict[str, Any] = {
        "id": f"{service}{number}",
        "name": f"p-{service}-{number}",
        "service": service,
        "number": number,
        "state": state,
        "image": f"{service}:1",
        "image_id": IMAGE_ID,
        "labels": {
            "com.docker.compose.config-hash": "h1",
            "com.docker.compose.image": IMAGE_ID,
        },
    }
    values.update(fields)
    return Container(**values)


def service(name: str, **fields: Any) -> ComposeService:
    values: dict[str, Any] = {"image": f"{name}:1", "image_id": IMAGE_ID, "config_hash": "h1"}
    values.update(fields)
    return ComposeService(name, **values)


def test_files_are_those_of_the_first_container_that_has_them() -> None:
    labels = {
        f"{PREFIX}.working_dir": "/opt/p",
        f"{PREFIX}.config_files": "/opt/p/a.yml,b.yml",
        f"{PREFIX}.environment_file": "/opt/p/.env",
    }
    old = {f"{PREFIX}.working_dir": "/old"}
    files = files_of([{}, labels, old])
    assert files == ComposeFiles("/opt/p", ["/opt/p/a.yml", "/opt/p/b.yml"], ["/opt/p/.env"])
    assert files_of([{}]) == ComposeFiles()
    assert files_of([{f"{PREFIX}.config_files": "-"}]).config_files == ["-"]


def test_arguments_read_the_project_as_it_was_started() -> None:
    files = ComposeFiles("/opt/p", ["/opt/p/a.yml", "/opt/p/b.yml"], ["/opt/p/.env"])
    assert compose_arguments("p", files) == [
        "--project-name", "p", "--profile", "*", "--project-directory", "/opt/p",
        "--file", "/opt/p/a.yml", "--file", "/opt/p/b.yml", "--env-file", "/opt/p/.env",
    ]  # fmt: skip
    assert compose_arguments("p", ComposeFiles()) == ["--project-name", "p", "--profile", "*"]


def document(**services: Any) -> str:
    return json.dumps({"name": "p", "services": services})


def test_services_of_a_configuration() -> None:
    text = document(
        api={"image": "api:1", "deploy": {"replicas": 3}, "depends_on": {
            "migrate": {"condition": "service_completed_successfully"},
            "db": {"condition": "service_healthy"}, "odd": None}},
        migrate={"image": "api:1"},
        db={"image": "postgres:17", "scale": 0},
        built={"build": {"context": "."}, "depends_on": ["db"]},
        seed={"image": "x", "labels": {"pynomaly.ops.one_shot": "True"}, "profiles": ["tools"]},
    )  # fmt: skip
    services = parse_config(text).services
    assert list(services) == ["api", "migrate", "db", "built", "seed"]
    assert services["api"] == ComposeService("api", "api:1", replicas=3)
    assert services["migrate"].one_shot
    assert not services["db"].one_shot
    assert services["db"].replicas == 0
    assert (services["built"].image, services["built"].replicas) == ("", 1)
    assert services["seed"].one_shot
    assert services["seed"].profiles == ("tools",)
    assert image_reference("p", services["built"]) == "p-built"
    assert image_reference("p", services["api"]) == "api:1"


def test_networks_and_volumes_that_the_project_makes() -> None:
    text = json.dumps({
        "services": {},
        "networks": {"back": {"name": "p_back"}, "x": None, "other": {"external": True}},
        "volumes": {"data": {"name": "p_data"}},
    })  # fmt: skip
    config = parse_config(text, 'level=warning msg="The \\"TAG\\" variable is not set. Defaulting"')
    assert config.networks == {"back": "p_back", "x": "x"}
    assert config.volumes == {"data": "p_data"}
    assert config.unset_variables == ["TAG"]


def test_what_only_switched_off_services_use_does_not_count() -> None:
    text = json.dumps({
        "services": {
            "api": {"networks": {"back": None}, "volumes": [
                {"type": "volume", "source": "data"}, {"type": "volume"},
                {"type": "bind", "source": "/x"}]},
            "tool": {"networks": {"default": None, "back": None}, "volumes": [
                {"type": "volume", "source": "scratch"}], "profiles": ["tools"]},
            "bare": {"network_mode": "host"},
        },
        "networks": {"back": {"name": "p_back"}, "default": {"name": "p_default"}},
        "volumes": {"data": {"name": "p_data"}, "scratch": {"name": "p_scratch"}},
    })  # fmt: skip
    config = parse_config(text)
    assert set(config.networks) == {"back", "default"}
    active = config.only(active_services(config.services, []))
    assert set(active.services) == {"api", "bare"}
    assert (active.networks, active.volumes) == ({"back": "p_back"}, {"data": "p_data"})
    assert config.only(config.services) == config


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"services": [1]}', '{"services": {"a": 1}}'])
def test_what_is_no_configuration(text: str) -> None:
    with pytest.raises(ComposeFileError, match="something else than a project"):
        parse_config(text)


def test_what_is_hashed_names_containers_and_not_services() -> None:
    text = document(
        a={"network_mode": "service:b", "ipc": "service:gone", "pid": "host"}, b={"image": "x"}
    )
    services = json.loads(hashable_config(text, {"b": "id-b"}))["services"]
    assert services["a"] == {"network_mode": "container:id-b", "ipc": "service:gone", "pid": "host"}
    assert services["b"] == {"image": "x"}


def test_hashes() -> None:
    assert parse_hashes("api abc\n\ndb def\nnonsense\n") == {"api": "abc", "db": "def"}


def test_unset_variables_are_named_once() -> None:
    line = 'The "B" variable is not set.'
    text = f'{line}\nThe \\"A\\" variable is not set.\n{line}'
    assert unset_variables(text) == ["A", "B"]


@pytest.mark.parametrize(
    ("stderr", "text"),
    [
        (
            'time="2026-01-01T00:00:00Z" level=warning msg="x"\nyaml: line 3: mapping values\n',
            "yaml: line 3: mapping values",
        ),
        ("", "docker compose config failed and said nothing"),
        (
            'invalid interpolation format for services.a.environment.PW: "hunter2${". You may',
            "invalid interpolation format for services.a.environment.PW: the value",
        ),
        (
            "services.a.password=hunter2 must be a mapping",
            "services.a.password=*** must be a mapping",
        ),
    ],
)
def test_the_complaint_of_compose(stderr: str, text: str) -> None:
    assert error_text(stderr) == text


def test_services_whose_profile_is_off_do_not_count() -> None:
    services = {
        "api": service("api"),
        "tool": service("tool", profiles=("tools",)),
        "debug": service("debug", profiles=("debug", "x")),
    }
    assert set(active_services(services, [])) == {"api"}
    assert set(active_services(services, ["tool"])) == {"api", "tool"}
    assert set(active_services(services, [], ["x"])) == {"api", "debug"}
    assert set(active_services(services, [], ["*"])) == {"api", "tool", "debug"}


# Components


@pytest.mark.parametrize(
    ("reference", "component"),
    [
        ("postgres", "postgres"),
        ("postgres:17-alpine", "postgres"),
        ("docker.io/library/postgres@sha256:abc", "postgres"),
        ("registry:5000/db/postgres:17", "postgres"),
        ("timescale/timescaledb:latest-pg16", "postgres"),
        ("timescale/timescaledb-ha:pg16", "postgres"),
        ("postgis/postgis:16-3.4", "postgres"),
        ("bitnami/postgresql:16", "postgres"),
        ("pgvector/pgvector:pg17", "postgres"),
        ("supabase/postgres:15.1", "postgres"),
        ("redis:8", "redis"),
        ("bitnami/redis-cluster", "redis"),
        ("redis/redis-stack-server", "redis"),
        ("valkey/valkey:8", "redis"),
        ("eqalpha/keydb", "redis"),
        ("docker.dragonflydb.io/dragonflydb/dragonfly", "redis"),
        ("nginx:1.26", "nginx"),
        ("nginxinc/nginx-unprivileged", "nginx"),
        ("openresty/openresty", "nginx"),
        ("prom/prometheus:v2.53", "prometheus"),
        ("prom/alertmanager", "alertmanager"),
        ("grafana/grafana:11", "grafana"),
        ("grafana/grafana-oss", "grafana"),
        ("prometheuscommunity/postgres-exporter", None),
        ("oliver006/redis_exporter", None),
        ("nginx/nginx-prometheus-exporter", None),
        ("prom/node-exporter", None),
        ("prom/blackbox-exporter", None),
        ("grafana/loki", None),
        ("grafana/promtail", None),
        ("edoburu/pgbouncer", None),
        ("dpage/pgadmin4", None),
        ("nginxproxy/acme-companion", None),
        ("pynomaly-api:1.0", None),
        ("", None),
    ],
)
def test_an_image_tells_its_component(reference: str, component: Optional[str]) -> None:
    assert image_component(reference) == component


def images(**references: str) -> dict[str, ComposeService]:
    return {name: ComposeService(name, image) for name, image in references.items()}


def test_the_runbooks_own_stack() -> None:
    services = {
        name: ComposeService(name, image)
        for name, image in {
            "pynomaly-api": "pynomaly:production",
            "postgres": "postgres:17",
            "postgres-exporter": "prometheuscommunity/postgres-exporter",
            "redis-cluster": "redis:8",
            "redis-exporter": "oliver006/redis_exporter",
            "nginx": "nginx:1.26",
            "prometheus": "prom/prometheus",
            "alertmanager": "prom/alertmanager",
            "grafana": "grafana/grafana",
            "node-exporter": "prom/node-exporter",
        }.items()
    }
    assert identify_components(services, {}) == {
        "api": "pynomaly-api",
        "postgres": "postgres",
        "redis": "redis-cluster",
        "nginx": "nginx",
        "prometheus": "prometheus",
        "alertmanager": "alertmanager",
        "grafana": "grafana",
    }


def test_other_names_are_found_by_image_and_name() -> None:
    services = images(
        web="acme/site",
        db="timescale/timescaledb",
        cache="valkey/valkey",
        proxy="openresty/openresty",
    )
    assert identify_components(services, {}) == {
        "api": "web", "postgres": "db", "redis": "cache", "nginx": "proxy",
    }  # fmt: skip


def test_configured_names_win_where_there_is_such_a_service() -> None:
    services = images(a="postgres:17", b="postgres:16", backend="acme")
    found = identify_components(services, {}, {"postgres": "b", "api": "nowhere"})
    assert found == {"postgres": "b", "api": "backend"}


def test_a_primary_goes_before_its_replica() -> None:
    services = images(**{"db-replica": "postgres:17", "zdb": "postgres:17"})
    assert identify_components(services, {})["postgres"] == "zdb"


def test_the_api_is_the_one_with_a_database_and_no_sidekick() -> None:
    containers = {
        name: [container(name, environment={"DATABASE_URL": "x"})]
        for name in ("worker", "detector", "migrate", "redis")
    }
    containers["redis"] = [container("redis", image="redis:8", environment={"DATABASE_URL": "x"})]
    assert identify_components({}, containers)["api"] == "detector"
    containers["web"] = [container("web")]
    assert identify_components({}, containers)["api"] == "detector"
    containers["app"] = [container("app", environment={"DATABASE_URL_FILE": "/run/secrets/u"})]
    assert identify_components({}, containers)["api"] == "app"


def test_a_job_and_an_exporter_are_no_api() -> None:
    services = {
        "api-job": ComposeService("api-job", "acme", one_shot=True),
        "api-metrics": ComposeService("api-metrics", "acme/api-exporter"),
    }
    assert "api" not in identify_components(services, {})


def test_an_image_built_on_an_official_one_is_told_by_what_that_leaves() -> None:
    containers = {
        "store": [container("store", environment={"PGDATA": "/x"}, exposed_ports=(5432,))],
        "front": [container("front", environment={"NGINX_VERSION": "1"}, exposed_ports=(80,))],
        "pg-exporter": [
            container("pg-exporter", environment={"PGDATA": "/x"}, exposed_ports=(5432,))
        ],
        "half": [container("half", environment={"PGDATA": "/x"})],
    }
    assert identify_components({}, containers) == {"postgres": "store", "nginx": "front"}


def test_a_default_name_with_somebody_elses_image_is_not_taken() -> None:
    assert identify_components(images(nginx="redis:8"), {}) == {"redis": "nginx"}
    assert identify_components(images(postgres="acme/db"), {}) == {"postgres": "postgres"}


def test_nothing_is_found_in_nothing() -> None:
    assert identify_components({}, {}) == {}


# Plans


def planned(
    services: list[ComposeService], containers: dict[str, list[Container]], **options: Any
) -> list[PlanStep]:
    config = ComposeConfig(
        {one.name: one for one in services}, {"back": "p_back"}, {"data": "p_data"}
    )
    return plan(config, containers, ["p_back"], ["p_data"], **options)


def test_a_project_as_its_file_says_needs_nothing() -> None:
    steps = planned([service("api", replicas=2)], {"api": [container("api"), container("api", 2)]})
    assert steps == [PlanStep("api", "none", "as the Compose file says")]
    assert not changes(steps)


@pytest.mark.parametrize(
    ("declared", "present", "action", "reason"),
    [
        (service("api"), [], "create", "it has no container"),
        (service("api", replicas=0), [], "none", "as the Compose file says"),
        (
            service("api", image="api:2"),
            [container("api")],
            "recreate",
            "p-api-1 runs api:1, the Compose file says api:2",
        ),
        (
            service("api", config_hash="h2"),
            [container("api")],
            "recreate",
            "p-api-1: its configuration changed",
        ),
        (
            service("api", image_id="sha256:" + "b" * 64),
            [container("api")],
            "recreate",
            "p-api-1: its image changed from aaaaaaaaaaaa to bbbbbbbbbbbb",
        ),
        (
            service("api", image_id=""),
            [container("api")],
            "recreate",
            "p-api-1: api:1 is not on this host and would be pulled",
        ),
        (service("api", image="", image_id=""), [container("api")], "none", "as the Compose"),
        (service("api", config_hash=""), [container("api")], "none", "as the Compose file says"),
        (service("api"), [container("api", labels={})], "recreate", "its configuration changed"),
        (service("api"), [container("api", state="exited")], "start", "p-api-1 is exited"),
        (service("api"), [container("api", state="paused")], "start", "p-api-1 is paused"),
        (service("api"), [container("api", state="restarting")], "none", "as the Compose file"),
        (
            service("api", one_shot=True),
            [container("api", state="exited")],
            "start",
            "up runs a one-off job again",
        ),
        (
            service("api", replicas=3),
            [container("api")],
            "scale",
            "1 containers, expected 3",
        ),
        (
            service("api"),
            [container("api"), container("api", 2)],
            "scale",
            "2 containers, expected 1",
        ),
        # what scaling down removes is not recreated first
        (
            service("api"),
            [container("api"), container("api", 2, image="api:0")],
            "scale",
            "2 containers, expected 1",
        ),
        (service("api", replicas=0), [container("api")], "scale", "1 containers, expected 0"),
    ],
)
def test_what_up_would_do_to_a_service(
    declared: ComposeService, present: list[Container], action: str, reason: str
) -> None:
    (step,) = planned([declared], {"api": present} if present else {})
    assert step.action == action
    assert reason in step.reason
    assert changes([step]) == (action != "none")


def test_a_moved_tag_counts_by_the_label_and_not_by_the_containers_image() -> None:
    labels = {"com.docker.compose.config-hash": "h1"}
    (step,) = planned([service("api")], {"api": [container("api", labels=labels)]})
    assert step.action == "none"


def test_networks_and_volumes_are_created_first() -> None:
    config = ComposeConfig({"api": service("api")}, {"back": "p_back"}, {"data": "p_data"})
    steps = plan(config, {"api": [container("api")]}, [], [])
    assert [(step.service, step.action) for step in steps] == [
        ("network back", "create"), ("volume data", "create"), ("api", "none"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "action"),
    [
        ("2.18.0", "recreate"),
        ("v2.26.1-desktop.1", "recreate"),
        ("2.29.2", "recreate"),
        ("2.29.3", "restart"),
        ("2.34.0", "restart"),
        ("2.35", "none"),
        ("5.0.1", "none"),
        ("dev", "none"),
    ],
)
def test_what_happens_to_dependents_goes_by_the_version(version: str, action: str) -> None:
    assert action_on_dependents(version) == action


@pytest.mark.parametrize(
    ("on_dependents", "expected"),
    [
        ("recreate", {"redis": "recreate", "api": "recreate", "front": "recreate"}),
        ("restart", {"redis": "recreate", "api": "restart", "front": "none"}),
        ("none", {"redis": "recreate", "api": "none", "front": "none"}),
    ],
)
def test_what_needs_a_recreated_service(on_dependents: str, expected: dict[str, str]) -> None:
    """``front`` needs ``api``, which needs ``redis``."""
    names = ("front", "api", "redis")
    services = {name: service(name) for name in names}
    services["redis"] = service("redis", config_hash="h2")
    needs = {"front": {"api": Need()}, "api": {"redis": Need()}}
    config = ComposeConfig(services, needs=needs)
    containers = {name: [container(name)] for name in names}
    steps = plan(config, containers, [], [], on_dependents=on_dependents)
    assert {step.service: step.action for step in steps} == expected
    api = next(step for step in steps if step.service == "api")
    assert ("needs redis" in api.reason) == (api.action != "none")
    # nothing is recreated: nothing follows
    config = ComposeConfig({name: service(name) for name in names}, needs=needs)
    assert not changes(plan(config, containers, [], [], on_dependents=on_dependents))


def test_what_shares_a_namespace_or_asks_for_a_restart_follows_whatever_the_version() -> None:
    names = ("shares", "asks", "stopped", "off", "changed")
    services = {name: service(name) for name in names}
    services["changed"] = service("changed", image="changed:2")
    services["off"] = service("off", replicas=0)
    needs = {
        "shares": {"changed": Need(shares=True, restart=True)},
        "asks": {"changed": Need(restart=True)},
        "stopped": {"changed": Need(restart=True)},
        "off": {"changed": Need(shares=True)},
    }
    containers = {name: [container(name)] for name in names if name != "off"}
    containers["stopped"] = [container("stopped", state="exited")]
    steps = plan(ComposeConfig(services, needs=needs), containers, [], [])
    assert {step.service: step.action for step in steps} == {
        "shares": "recreate",
        "asks": "restart",
        "stopped": "start",
        "off": "none",
        "changed": "recreate",
    }


def test_needs_are_read() -> None:
    document = {
        "services": {
            "a": {"depends_on": {"b": {"condition": "service_healthy", "restart": True}, "c": {}}},
            "b": {"network_mode": "service:c", "depends_on": ["d"]},
            "c": {"pid": "host"},
        }
    }
    config = parse_config(json.dumps(document))
    assert config.needs == {
        "a": {"b": Need(restart=True), "c": Need()},
        "b": {"c": Need(shares=True, restart=True), "d": Need()},
        "c": {},
    }


def test_orphans_go_only_when_asked() -> None:
    containers = {"api": [container("api")], "old": [container("old")]}
    kept = planned([service("api")], containers)
    assert (kept[1].service, kept[1].action) == ("old", "none")
    assert "orphans are kept" in kept[1].reason
    assert planned([service("api")], containers, remove_orphans=True)[1] == PlanStep(
        "old", "remove_orphan", "p-old-1: the Compose file has no such service"
    )
