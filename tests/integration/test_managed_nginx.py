# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who a client is, to the nginx that the role configures and to the API behind it."""

from __future__ import annotations

import http.client
import ipaddress
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible_collections.pynomaly.ops.plugins.module_utils import _nginx_blocklist
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_control import (
    read_configuration,
)

from .conftest import Project, docker, wait_until
from .nginx import ask, make_certificate

ROLE = Path(str(_nginx_blocklist.__file__)).parents[2] / "roles/nginx"

#: In the API's place: it tells whom it was told of.
API = """\
events {}
http {
    server {
        listen 9000;
        location / {
            default_type application/json;
            return 200 '{"for": "$http_x_forwarded_for", "real": "$http_x_real_ip",
                         "forwarded": "$http_forwarded"}';
        }
    }
}
"""


def rendered(trusted_proxies: Sequence[str]) -> str:
    """The role's nginx.conf, with its own defaults."""
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    environment = jinja2.Environment(  # noqa: S701  # a configuration, no page
        trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((ROLE / "templates/nginx.conf.j2").read_text())
    given = {
        "__pynomaly_service_names": {"api": "pynomaly-api"},
        "__nginx_status_port": 8080,
        "pynomaly_api_port": 9000,
        "pynomaly_api_metrics_path": "/metrics",
        "nginx_server_names": ["shop.example"],
    }
    return template.render({**defaults, **given, "nginx_trusted_proxies": trusted_proxies})


@dataclass
class Managed:
    project: Project
    folder: Path
    gateway: str

    def told(self, *headers: tuple[str, str]) -> dict[str, str]:
        """Whom the API is told of, for a request of this machine's with these headers."""
        address = str(self.project.container("nginx").addresses[0])
        connection = http.client.HTTPConnection(address, 8000, timeout=5)
        connection.putrequest("GET", "/")
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status == 200, text
        return dict(json.loads(text))


@pytest.fixture(scope="module")
def configure(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Sequence[str]], Managed]]:
    api = tmp_path_factory.mktemp("api")
    api.chmod(0o755)
    (api / "nginx.conf").write_text(API)
    project.start("pynomaly-api", "nginx", options=["--volume", f"{api}:/etc/nginx:ro"])
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    make_certificate(folder / "tls")
    for name in ("key", "crt"):
        (folder / "tls" / f"own.{name}").rename(folder / "tls" / f"pynomaly.{name}")
    network = json.loads(docker("network", "inspect", project.name).stdout)[0]
    gateway = str(network["IPAM"]["Config"][0]["Gateway"])
    (folder / "nginx.conf").write_text(rendered([]))
    project.start("nginx", "nginx", options=["--volume", f"{folder}:/etc/nginx:ro"])

    def call(trusted_proxies: Sequence[str]) -> Managed:
        (folder / "nginx.conf").write_text(rendered(trusted_proxies))
        container = project.container("nginx").id
        docker("restart", "--time", "1", container)
        url = "http://localhost:8000/"
        wait_until("nginx serves", lambda: ask(container, url).status == 200)
        return Managed(project, folder, gateway)

    yield call


CLAIMS = [
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Forwarded-For", "203.0.113.8, 203.0.113.9"),
    ("X-Real-IP", "203.0.113.10"),
    ("Forwarded", "for=203.0.113.11"),
]


def test_nobody_is_trusted_where_nothing_is_said(
    configure: Callable[[Sequence[str]], Managed],
) -> None:
    managed = configure([])
    expected = {"for": managed.gateway, "real": managed.gateway, "forwarded": ""}
    assert managed.told() == managed.told(*CLAIMS) == expected


def test_a_trusted_proxy_names_the_client_and_the_client_nobody(
    configure: Callable[[Sequence[str]], Managed],
) -> None:
    managed = configure([])
    managed = configure([managed.gateway, "10.9.0.0/16", "2001:db8:9::/48"])

    def seen(*headers: tuple[str, str]) -> str:
        told = managed.told(*headers)
        assert told["for"] == told["real"] and told["forwarded"] == ""
        return told["for"]

    assert seen(("X-Forwarded-For", "203.0.113.7")) == "203.0.113.7"
    assert seen(*CLAIMS) == "203.0.113.9"
    # What comes before the last that no proxy has added was the client's own claim.
    for before in ("198.51.100.1", "10.9.0.1", "unknown", "::1, 198.51.100.1"):
        assert seen(("X-Forwarded-For", f"{before}, 203.0.113.7")) == "203.0.113.7"
    # Two proxies, one behind the other, of either family
    assert seen(("X-Forwarded-For", "1.1.1.1, 203.0.113.7, 10.9.0.1")) == "203.0.113.7"
    assert seen(("X-Forwarded-For", "1.1.1.1, 2001:db8::7, 2001:db8:9::1")) == "2001:db8::7"
    # The log has the client, as what is counted by address wants it.
    logged = docker("logs", "--tail", "1", managed.project.container("nginx").id).stdout
    assert logged.startswith("2001:db8::7 - ")


def test_a_client_that_is_not_a_proxy_names_nobody(
    configure: Callable[[Sequence[str]], Managed],
) -> None:
    managed = configure(["192.0.2.1"])
    assert managed.told(*CLAIMS)["for"] == managed.gateway


def test_the_blocklist_knows_the_role_s_proxies(
    configure: Callable[[Sequence[str]], Managed], engine: Engine
) -> None:
    managed = configure(["192.0.2.1", "2001:db8:9::/48"])
    dump = read_configuration(engine, managed.project.container("nginx"), 5.0)
    source = _nginx_blocklist.address_source(dump)
    assert source.header == "X-Forwarded-For" and source.remarks == []
    assert source.proxies == _nginx_blocklist.trusted_proxies(dump)
    assert source.proxies == [
        ipaddress.ip_network("192.0.2.1"),
        ipaddress.ip_network("2001:db8:9::/48"),
    ]
