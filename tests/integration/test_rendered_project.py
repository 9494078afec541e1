# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The project as the roles render it, read by Docker Compose itself; nothing is started.

For Grafana this is all that can be tried where there is no image of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.pynomaly.ops.plugins.module_utils import _compose

from .conftest import docker

RUN_SECONDS = 180
COLLECTION = Path(str(_compose.__file__)).parents[2]
PASSWORD = "canary-5e90d1"
ROLES = ("postgres", "redis", "api", "nginx", "monitoring")

pytestmark = pytest.mark.usefixtures("compose_plugin")


def include(role: str, entry: str) -> dict[str, Any]:
    options = {"name": f"pynomaly.ops.{role}", "tasks_from": entry, "public": True}
    return {"ansible.builtin.include_role": options}


#: As playbooks/deploy.yml, in check mode, but for the files, which are written.
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            *(include(role, "deploy") for role in ROLES),
            include("project", "precheck"),
            {
                "pynomaly.ops.environment_file": {
                    "path": "{{ pynomaly_project_dir }}/.env",
                    "secrets": "{{ __project_secrets }}",
                    "settings": "{{ __project_settings }}",
                    "given": "{{ __project_given }}",
                    "composed": "{{ __project_composed }}",
                },
                "check_mode": False,
            },
            {
                "pynomaly.ops.config_files": {
                    "root": "{{ pynomaly_project_dir }}",
                    "environment_file": "{{ pynomaly_project_dir }}/.env",
                    "directories": "{{ __project_directories }}",
                    "files": "{{ __project_files + [{'path': 'compose.yaml', "
                    "'content': __project_compose_file}] }}",
                    "validations": "{{ [__project_compose_validation] }}",
                },
                "check_mode": False,
            },
        ],
    }
]


@dataclass
class Rendered:
    folder: Path
    output: str

    def config(self) -> dict[str, Any]:
        """The project as Compose understands it."""
        arguments = ["compose", "--project-directory", str(self.folder), "config", "--format"]
        done = docker(*arguments, "json")
        assert done.stderr == ""
        return dict(json.loads(done.stdout))

    def yaml(self, path: str) -> Any:
        return yaml.safe_load((self.folder / path).read_text())


Render = Callable[..., Rendered]


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """Render the project with these variables."""
    # Where a play looks that is no role, and has a role's variable resolved.
    (tmp_path / "templates").symlink_to(COLLECTION / "roles/project/templates")

    def call(**variables: Any) -> Rendered:
        play = tmp_path / "play.yml"
        play.write_text(json.dumps(PLAY))
        given = {
            "ansible_python_interpreter": sys.executable,
            "pynomaly_project_name": "inttest-rendered",
            "pynomaly_project_dir": str(tmp_path / "project"),
            "pynomaly_state_dir": str(tmp_path / "state"),
            "project_minimum_free_mib": 1,
            # This machine's own servers are not what is looked at.
            "nginx_http_port": 28080,
            "nginx_https_port": 28443,
            "nginx_api_port": 28000,
            "monitoring_prometheus_port": 29090,
            "monitoring_alertmanager_port": 29093,
            "monitoring_grafana_port": 23000,
            **variables,
        }
        settings = tmp_path / "variables.json"
        settings.write_text(json.dumps(given))
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                *("-i", "node1,", "-c", "local", "--check", "-vvv", "-e", f"@{settings}"),
                str(play),
            ],
            cwd=tmp_path,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(tmp_path / "home")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return Rendered(tmp_path / "project", done.stdout)

    return call


def test_grafana_is_provisioned_with_the_prometheus_of_the_project(render: Render) -> None:
    rendered = render(
        monitoring_grafana_enabled=True,
        monitoring_grafana_admin_password=PASSWORD,
        pynomaly_service_names={"prometheus": "metrics"},
    )
    config = rendered.config()
    grafana = config["services"]["grafana"]
    assert grafana["image"].startswith("grafana/grafana:")
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == PASSWORD
    (port,) = grafana["ports"]
    assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "23000", 3000)
    mounts = {mount["target"]: mount for mount in grafana["volumes"]}
    assert mounts["/var/lib/grafana"]["source"] == "grafana-data"
    assert "grafana-data" in config["volumes"]
    provisioning = Path(mounts["/etc/grafana/provisioning"]["source"])
    assert provisioning == rendered.folder / "config/grafana/provisioning"
    assert mounts["/etc/grafana/provisioning"]["read_only"]
    assert {path.name for path in provisioning.iterdir()} == {
        "alerting", "dashboards", "datasources", "plugins",
    }  # fmt: skip

    document = rendered.yaml("config/grafana/provisioning/datasources/prometheus.yml")
    assert document["apiVersion"] == 1
    (source,) = document["datasources"]
    assert (source["type"], source["access"], source["isDefault"]) == ("prometheus", "proxy", True)
    assert source["url"] == "http://metrics:9090"
    prometheus = config["services"]["metrics"]
    assert set(prometheus["networks"]) & set(grafana["networks"]), "Grafana reaches it"
    assert "--config.file=/etc/prometheus/prometheus.yml" in prometheus["command"]

    assert PASSWORD not in rendered.output
    assert PASSWORD not in (rendered.folder / "compose.yaml").read_text()


def test_without_grafana_nothing_of_it_is_left(render: Render) -> None:
    rendered = render(monitoring_grafana_enabled=False)
    assert "grafana" not in rendered.config()["services"]
    assert "GF_" not in (rendered.folder / "compose.yaml").read_text()
    assert "GRAFANA" not in (rendered.folder / ".env").read_text()
    assert not (rendered.folder / "config/grafana").exists()


def test_the_api_has_one_port_and_one_health_path(render: Render) -> None:
    rendered = render(
        monitoring_grafana_enabled=False,
        pynomaly_api_port=9123,
        pynomaly_api_health_path="/up",
        pynomaly_api_metrics_path="/figures",
    )
    api = rendered.config()["services"]["pynomaly-api"]
    assert "127.0.0.1:9123/up" in " ".join(api["healthcheck"]["test"])
    nginx = (rendered.folder / "config/nginx/nginx.conf").read_text()
    assert nginx.count("proxy_pass http://$api:9123;") == 2
    assert "location = /figures {" in nginx
    scrapes = rendered.yaml("config/prometheus/prometheus.yml")["scrape_configs"]
    by_job = {one["job_name"]: one for one in scrapes}
    assert by_job["api"]["metrics_path"] == "/figures"
    assert by_job["api"]["dns_sd_configs"][0]["port"] == 9123
    assert by_job["blackbox"]["static_configs"][0]["targets"] == ["http://nginx:8000/up"]


def test_the_database_is_on_record_for_later_deployments(render: Render) -> None:
    rendered = render(monitoring_grafana_enabled=False, pynomaly_database="shop")
    lines = (rendered.folder / ".env").read_text().splitlines()
    assert {"POSTGRES_DB=shop", "POSTGRES_USER=pynomaly"} <= set(lines)


def test_nginx_answers_with_the_digest_of_its_own_file(render: Render) -> None:
    def digest(**variables: Any) -> str:
        rendered = render(monitoring_grafana_enabled=False, **variables)
        text = (rendered.folder / "config/nginx/nginx.conf").read_text()
        assert "@" not in text
        return text.split("location = /configuration {")[1].split('"')[1]

    first = digest()
    assert len(first.removesuffix("\\n")) == 64
    assert digest() == first
    assert digest(nginx_read_timeout_seconds=61) != first
