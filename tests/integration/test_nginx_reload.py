# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real nginx that is reloaded, and that only seems to be."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_control import NginxError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_reload import served
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_reload import Proof
from ansible_collections.pynomaly.ops.plugins.modules.nginx_reload import proof_of, run

from .conftest import Project, docker, image, wait_until

CONFIGURATION = """\
user nginx;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    server {{
        listen 443 ssl default_server;
        ssl_certificate /etc/nginx/tls/own.crt;
        ssl_certificate_key /etc/nginx/tls/own.key;
        return 204;
    }}
    server {{
        listen 8080 default_server;
        location = /configuration {{ return 200 "{digest}\\n"; }}
        location / {{ return 204; }}
    }}
    {more}
}}
"""
FIRST, SECOND = "1" * 64, "2" * 64


@dataclass
class Site:
    """An nginx whose folder is mounted from here."""

    project: Project
    folder: Path

    def write(self, digest: str, more: str = "") -> None:
        """By a rename, as the collection writes files."""
        new = self.folder / "nginx.conf.new"
        new.write_text(CONFIGURATION.format(digest=digest, more=more))
        new.replace(self.folder / "nginx.conf")

    def make_certificate(self, name: str) -> None:
        argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        argv += ["-nodes", "-days", "10", "-subj", f"/CN={name}"]
        argv += ["-keyout", str(self.folder / "tls/own.key"), "-out", str(self.certificate)]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)

    @property
    def certificate(self) -> Path:
        return self.folder / "tls/own.crt"

    def parameters(self, **changes: Any) -> dict[str, Any]:
        base: dict[str, Any] = {
            "project_name": self.project.name,
            "service_names": {},
            "only_if_needed": False,
            "digest": "",
            "port": 8080,
            "path": "/configuration",
            "certificate": None,
            "tls_port": 443,
            "tls_server_name": "shop.example",
            "timeout_seconds": 3.0,
        }
        return {**base, **changes}

    def run(self, check_mode: bool = False, **changes: Any) -> dict[str, Any]:
        return run(self.parameters(**changes), check_mode)

    def digest(self) -> str:
        container = self.project.container("nginx")
        return served(container, Proof(digest="anything")).digest

    def workers(self) -> set[str]:
        listed = docker("top", self.project.container("nginx").id, "-eo", "pid,args").stdout
        return {line.split()[0] for line in listed.splitlines() if "worker process" in line}


@pytest.fixture
def site(engine: Engine, tmp_path: Path) -> Iterator[Site]:
    made = Site(Project(engine), tmp_path / "nginx")
    (made.folder / "tls").mkdir(parents=True)
    made.folder.chmod(0o755)
    made.make_certificate("first.example")
    made.write(FIRST)
    try:
        options = ["--volume", f"{made.folder}:/etc/nginx:ro"]
        made.project.start("nginx", "nginx", options=options)
        wait_until("nginx answers", lambda: made.digest() == FIRST)
        yield made
    finally:
        made.project.close()


def test_new_workers_serve_the_new_configuration(site: Site) -> None:
    before = site.workers()
    site.write(SECOND)
    assert site.digest() == FIRST
    answer = site.run(digest=SECOND, certificate=str(site.certificate))
    assert answer["changed"]
    assert site.digest() == SECOND
    assert not before & site.workers()


def test_nothing_is_done_where_what_was_written_is_served(site: Site) -> None:
    before = site.workers()
    proof = {"digest": FIRST, "certificate": str(site.certificate), "only_if_needed": True}
    answer = site.run(**proof)
    assert not answer["changed"]
    site.write(SECOND)
    answer = site.run(check_mode=True, **{**proof, "digest": SECOND})
    assert answer["changed"]
    assert "seen configuration 111111111111" in answer["containers"][0]["reason"]
    assert site.workers() == before
    assert site.digest() == FIRST
    assert site.run(**{**proof, "digest": SECOND})["changed"]
    assert site.digest() == SECOND


def test_a_certificate_is_proved_by_being_served(site: Site) -> None:
    site.make_certificate("second.example")
    proof = {"digest": FIRST, "certificate": str(site.certificate), "only_if_needed": True}
    assert site.run(**proof)["changed"], "the configuration is the same, the certificate is not"
    expected = proof_of(site.parameters(**proof))
    assert served(site.project.container("nginx"), expected).proves(expected)
    assert not site.run(**proof)["changed"]


def test_a_configuration_that_the_master_refuses_is_no_success(site: Site) -> None:
    """``nginx -t`` passes with a port that is taken, and ``nginx -s reload`` says 0."""
    nginx = site.project.container("nginx")
    squatter = f"{site.project.name}-squatter"
    site.project.names.append(squatter)
    options = ["--network", f"container:{nginx.id}", "--entrypoint", "redis-server"]
    docker("run", "--detach", "--name", squatter, *options, image("redis"), "--port", "9999")
    ping = ["exec", squatter, "redis-cli", "-p", "9999", "ping"]
    wait_until("the port is taken", lambda: "PONG" in docker(*ping, check=False).stdout)
    site.write(SECOND, "server { listen 9999; }")
    before = site.workers()
    with pytest.raises(NginxError) as caught:
        site.run(digest=SECOND)
    text = str(caught.value)
    assert "does not serve its new configuration within 3 s" in text
    assert "seen configuration 111111111111, expected configuration 222222222222" in text
    assert "docker logs" in caught.value.hint
    assert site.digest() == FIRST
    assert site.workers() == before
    docker("rm", "--force", squatter)
    assert site.run(digest=SECOND)["changed"]


def test_a_configuration_that_is_not_valid_is_not_loaded(site: Site) -> None:
    before = site.workers()
    site.write(SECOND, "nonsense;")
    with pytest.raises(NginxError, match='unknown directive "nonsense"'):
        site.run(digest=SECOND)
    assert site.workers() == before


def test_a_file_that_the_container_does_not_see_is_told_before_anything_is_reloaded(
    site: Site,
) -> None:
    """A single mounted file stays the old one after a rename."""
    site.project.remove("nginx")
    options = ["--volume", f"{site.folder}/nginx.conf:/etc/nginx/nginx.conf:ro"]
    options += ["--volume", f"{site.folder}/tls:/etc/nginx/tls:ro"]
    site.project.start("nginx", "nginx", options=options)
    wait_until("nginx answers", lambda: site.digest() == FIRST)
    before = site.workers()
    site.write(SECOND)
    with pytest.raises(NginxError, match="would read other files than were written"):
        site.run(digest=SECOND)
    assert site.workers() == before


def test_a_project_of_somebody_else_is_reloaded_without_a_digest(site: Site) -> None:
    before = site.workers()
    site.write(SECOND)
    assert site.run()["changed"]
    assert not before & site.workers()
    assert site.digest() == SECOND


def test_what_cannot_be_reloaded_is_told(site: Site, tmp_path: Path) -> None:
    with pytest.raises(NginxError, match="seen no container of it in project no-such"):
        site.run(project_name="no-such")
    with pytest.raises(NginxError, match="seen no digest and no certificate"):
        site.run(only_if_needed=True)
    with pytest.raises(NginxError, match="No such file"):
        site.run(certificate=str(tmp_path / "none"))
    (tmp_path / "text").write_text("x")
    with pytest.raises(NginxError, match="seen no certificate in it"):
        site.run(certificate=str(tmp_path / "text"))
