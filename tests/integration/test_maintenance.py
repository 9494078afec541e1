# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The maintenance page on a running nginx, seen by clients that have addresses of their own."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (
    maintenance,
    resume,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline, get
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.nginx_control import NginxError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
    utc_now,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._http import Endpoint
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance import (
    MaintenanceError,
    NoPageError,
    Page,
    describe_fragment,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc

from .conftest import LABEL, Project, docker, image, wait_until
from .nginx import Answer, ask, make_certificate

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
IDENTITY = RunIdentity("run-1", "tester", "here")

CONFIGURATION = """\
user nginx;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 256; }
http {
    access_log off;
    add_header X-Site "ours" always;
    include /etc/nginx/conf.d/*.conf;
    server {
        listen 80 default_server;
        server_name shop.example;
        include /etc/nginx/server.d/*.conf;
        error_page 503 /sorry;
        location / { return 308 https://$host$request_uri; }
    }
    server {
        listen 443 ssl default_server;
        http2 on;
        server_name shop.example;
        ssl_certificate /etc/nginx/tls/own.crt;
        ssl_certificate_key /etc/nginx/tls/own.key;
        include /etc/nginx/server.d/*.conf;
        client_max_body_size 1k;
        location / { set $api 127.0.0.1; proxy_pass http://$api:9000; }
    }
    server {
        listen 8000 default_server;
        include /etc/nginx/server.d/*.conf;
        location / { set $api 127.0.0.1; proxy_pass http://$api:9000; }
        location = /health { try_files /nothing /alive; }
        location = /alive { set $api 127.0.0.1; proxy_pass http://$api:9000; }
    }
    server {
        listen 8081 proxy_protocol;
        set_real_ip_from 0.0.0.0/0;
        real_ip_header proxy_protocol;
        include /etc/nginx/server.d/*.conf;
        location / { return 200 "service\\n"; }
    }
    server {
        listen 127.0.0.1:9000;
        location / { return 200 "service\\n"; }
        location = /alive { return 200 "alive\\n"; }
    }
}
"""


@dataclass
class Front:
    """An nginx with the page's hook, and two clients of it."""

    project: Project
    engine: EngineControl
    folder: Path
    state_dir: Path

    @property
    def stack(self) -> Stack:
        return self.project.stack(nginx="nginx")

    @property
    def file(self) -> Path:
        return self.folder / "server.d" / "pynomaly-maintenance.conf"

    @property
    def store(self) -> OperationStore:
        return OperationStore(str(self.state_dir))

    @property
    def states(self) -> TemporaryStates:
        return TemporaryStates(self.store, IDENTITY, "maintenance", self.project.name)

    @property
    def open_states(self) -> list[str]:
        return [record["temporary_state"] for record in self.states.left()]

    def address(self, service: str, number: int = 1) -> str:
        return str(self.project.container(service, number).addresses[0])

    def ask(self, number: int, url: str = "http://nginx:8000/", *options: str) -> Answer:
        """A request of the client with this number; status 0 where nobody answers."""
        return ask(self.project.container("client", number).id, url, *options)

    def resume(self, **changes: Any) -> dict[str, Any]:
        settings = resume.ResumeSettings(
            project=self.project.name, backup_dir=str(self.state_dir / "backups"), **changes
        )
        return resume.run(settings, self.engine, self.store, IDENTITY)


def page(**changes: Any) -> Page:
    until = changes.pop("until", None)
    if until is None:
        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=10)
    return Page(until=until.replace(microsecond=0), **changes)


@pytest.fixture(scope="module")
def running(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Project, Path]]:
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    for name in ("conf.d", "server.d"):
        (folder / name).mkdir()
    make_certificate(folder / "tls")
    (folder / "nginx.conf").write_text(CONFIGURATION)
    project.start("nginx", "nginx", options=["--volume", f"{folder}:/etc/nginx:ro"])
    for _number in range(2):
        project.start("client", "nginx", command=["infinity"], options=["--entrypoint", "sleep"])
    yield project, folder


@pytest.fixture
def front(running: tuple[Project, Path], tmp_path: Path) -> Iterator[Front]:
    project, folder = running
    made = Front(project, EngineControl(10.0), folder, tmp_path / "state")
    wait_until("nginx serves", lambda: made.ask(1).status == 200)
    yield made
    (folder / "nginx.conf").write_text(CONFIGURATION)
    for path in (folder / "server.d").iterdir():
        path.unlink()
    docker("restart", "--time", "1", project.container("nginx").id)


def test_everybody_gets_the_page_and_off_takes_it_away(front: Front) -> None:
    answer = maintenance.page_on(front.engine, front.stack, page(), front.states)
    assert answer["changed"] and answer["shown"] and answer["health_status"] == 200
    assert front.open_states == ["maintenance_page"]

    for url in ("http://nginx/", "https://nginx/", "http://nginx:8000/api/v1/detect?x=/health"):
        seen = front.ask(1, url)
        assert (seen.status, seen.headers["retry-after"]) == (503, "120")
        assert seen.headers["x-maintenance"] == answer["marker"]
        assert seen.headers["content-type"] == "application/json"
        assert json.loads(seen.body)["until"] == answer["until"]
    # A body larger than the server takes gets the page too, and no 413.
    big = front.ask(1, "https://nginx/upload", "--data", "x" * 4000)
    assert big.status == 503
    assert front.ask(1, "http://nginx:8000/health").body == "alive\n"

    off = maintenance.page_off(front.engine, front.stack, front.states)
    assert off["changed"] and not off["shown"]
    assert front.ask(1).body == "service\n"
    assert front.ask(1).headers["x-site"] == "ours"
    assert front.open_states == [] and not front.file.exists()
    again = maintenance.page_off(front.engine, front.stack, front.states)
    assert not again["changed"]


def test_a_page_that_is_shown_already_is_no_change(front: Front) -> None:
    wanted = page()
    first = maintenance.page_on(front.engine, front.stack, wanted, front.states)
    written = front.file.stat().st_mtime_ns
    second = maintenance.page_on(front.engine, front.stack, wanted, front.states)
    assert (first["changed"], second["changed"]) == (True, False)
    assert front.file.stat().st_mtime_ns == written
    longer = replace(wanted, until=wanted.until + datetime.timedelta(minutes=1))
    third = maintenance.page_on(front.engine, front.stack, longer, front.states)
    assert third["changed"] and third["marker"] != first["marker"]
    assert front.ask(1).headers["x-maintenance"] == third["marker"]
    assert front.open_states == ["maintenance_page"]


def test_an_end_that_hardly_differs_stays_where_it_is(front: Front) -> None:
    first = page()
    maintenance.page_on(front.engine, front.stack, first, front.states)
    text = front.file.read_text()
    later = replace(first, until=first.until + datetime.timedelta(seconds=50))
    for dry_run in (True, False):
        again = maintenance.page_on(
            front.engine, front.stack, later, front.states, dry_run=dry_run, tolerance_seconds=60
        )
        assert again["changed"] is False
    assert front.file.read_text() == text
    other = replace(later, message="Another one.")
    moved = maintenance.page_on(
        front.engine, front.stack, other, front.states, tolerance_seconds=60
    )
    assert (moved["changed"], moved["message"]) == (True, "Another one.")
    moved = maintenance.page_on(
        front.engine, front.stack, later, front.states, tolerance_seconds=40
    )
    assert moved["changed"] is True
    assert parse_utc(moved["until"]) == later.until


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (BROWSER, "text/html"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("application/json, text/html;q=0.1", "application/json"),
        ("application/problem+json, text/html", "application/json"),
        ("text/html, application/json;q=0.1", "text/html"),
    ],
)
def test_the_page_is_what_the_client_accepts(front: Front, accept: str, content_type: str) -> None:
    message = 'Back at 5: "we" \\ it\'s $host & <b>Zürich</b>; {100 %}'
    maintenance.page_on(front.engine, front.stack, page(message=message), None)
    seen = front.ask(1, "https://nginx/", "--header", f"Accept: {accept}")
    assert seen.status == 503
    assert seen.headers["content-type"] == content_type
    assert seen.headers["vary"] == "Accept"
    if content_type == "text/html":
        assert "&quot;we&quot; &#92; it&#x27;s &#36;host &amp; &lt;b&gt;Z&#252;rich" in seen.body
    else:
        assert json.loads(seen.body)["detail"] == message


def test_the_operator_gets_the_service(front: Front) -> None:
    own = front.address("client", 1)
    maintenance.page_on(front.engine, front.stack, page(allow=[own, "2001:db8::/48"]), None)
    assert front.ask(1, "https://nginx/").body == "service\n"
    assert front.ask(2, "https://nginx/").status == 503
    # An address that a client only claims is none.
    claimed = front.ask(2, "https://nginx/", "--header", f"X-Forwarded-For: {own}")
    assert claimed.status == 503
    # The operator can ask to see it.
    seen = front.ask(1, "https://nginx/", "--header", "X-Maintenance-Probe: show")
    assert seen.status == 503


def test_many_may_be_let_through(front: Front) -> None:
    """More than nginx reads in one word, or in one comment, of its configuration."""
    allow = [*(f"198.51.100.{number}" for number in range(250)), front.address("client", 1)]
    wanted = page(allow=allow, message="\u00fc" * 500)
    maintenance.page_on(front.engine, front.stack, wanted, None)
    assert (front.ask(1).status, front.ask(2).status) == (200, 503)
    status = maintenance.page_status(front.engine, front.stack, utc_now())
    assert (len(status["allow"]), status["message"]) == (251, "\u00fc" * 500)


@pytest.mark.parametrize(
    ("network", "address", "allowed"),
    [
        ("203.0.113.7", "203.0.113.7", True),
        ("203.0.113.7", "203.0.113.8", False),
        # A byte that is a line break, in front, in the middle and at the end
        ("10.10.10.10", "10.10.10.10", True),
        ("10.10.10.0/25", "10.10.10.10", True),
        ("10.10.10.0/25", "10.10.10.128", False),
        ("10.0.0.0/7", "11.255.0.10", True),
        ("10.0.0.0/7", "12.0.0.1", False),
        ("128.0.0.0/1", "203.0.113.7", True),
        ("128.0.0.0/1", "127.0.0.1", False),
        ("2001:db8::/32", "2001:db8:ffff::a", True),
        ("2001:db8::/32", "2001:db9::a", False),
        ("fe80::/10", "febf::1", True),
        ("fe80::/10", "fec0::1", False),
        ("::1", "::1", True),
        # The IPv4 address 32.1.13.184 has the bytes that 2001:db8::/32 begins with
        ("2001:db8::/32", "32.1.13.184", False),
        ("32.1.0.0/16", "2001:db8::1", False),
        ("192.0.2.0/24", "::ffff:192.0.2.9", True),
    ],
)
def test_networks_are_compared_by_nginx(
    front: Front, network: str, address: str, allowed: bool
) -> None:
    """The address is the one that the PROXY protocol tells, as nginx is configured here."""
    maintenance.page_on(front.engine, front.stack, page(allow=[network]), None)
    family = "TCP6" if ":" in address else "TCP4"
    head = f"PROXY {family} {address} {'::1' if family == 'TCP6' else '127.0.0.1'} 4000 8081\\r\\n"
    request = "GET / HTTP/1.1\\r\\nHost: shop.example\\r\\nConnection: close\\r\\n\\r\\n"
    done = docker(
        "exec",
        front.project.container("client", 1).id,
        *("bash", "-c", f"exec 3<>/dev/tcp/nginx/8081; printf '{head}{request}' >&3; cat <&3"),
        timeout_seconds=10,
    )
    assert Answer.read(done.stdout).status == (200 if allowed else 503)


@pytest.mark.parametrize(
    ("target", "exempt"),
    [
        ("/health", True),
        ("/health?verbose=1", True),
        ("/health/live", True),
        ("/healthy", False),
        ("/health/live/api", False),
        ("/health/../api", False),
        ("/health/..", False),
        ("/health/%2e%2e/api", False),
        ("//health", False),
        ("/?/health", False),
    ],
)
def test_health_alone_is_exempt(front: Front, target: str, exempt: bool) -> None:
    maintenance.page_on(front.engine, front.stack, page(), None)
    seen = front.ask(1, f"http://nginx:8000{target}", "--path-as-is")
    assert (seen.status == 503) is not exempt
    assert ("x-maintenance" in seen.headers) is not exempt


def test_from_then_on_no_worker_answers_otherwise(front: Front) -> None:
    """For a moment after a reload the workers before accept connections too."""
    endpoint = Endpoint("http", front.address("nginx"), 8000)

    def statuses() -> set[int]:
        return {get(endpoint, "/", Deadline(5.0)).status for _ in range(60)}

    for _round in range(3):
        maintenance.page_on(front.engine, front.stack, page(), None)
        assert statuses() == {503}
        maintenance.page_off(front.engine, front.stack, None)
        assert statuses() == {200}


def test_it_lifts_itself(front: Front) -> None:
    until = utc_now() + datetime.timedelta(seconds=8)
    until = until.replace(microsecond=0)
    answer = maintenance.page_on(front.engine, front.stack, page(until=until), front.states)
    assert front.ask(1).status == 503
    docker("restart", "--time", "1", front.project.container("nginx").id)
    asked_at = []

    def is_gone() -> bool:
        asked_at.append(utc_now())
        return front.ask(1).status == 200

    wait_until("the page is gone", is_gone, 20.0)
    gone_at = utc_now()
    # Nobody who asked after the end got the page, and nobody before it got the service.
    assert asked_at[-2] < until <= gone_at
    status = maintenance.page_status(front.engine, front.stack, gone_at)
    assert (status["shown"], status["expired"]) == (False, True)
    assert status["marker"] == answer["marker"]
    assert front.open_states == ["maintenance_page"]
    assert front.resume()["changed"]
    assert front.open_states == [] and not front.file.exists()


def test_status_tells_what_is_shown(front: Front) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    assert maintenance.page_status(front.engine, front.stack, now)["shown"] is False
    wanted = page(allow=["192.0.2.1"])
    maintenance.page_on(front.engine, front.stack, wanted, None)
    status = maintenance.page_status(front.engine, front.stack, now)
    assert (status["shown"], status["expired"], status["remarks"]) == (True, False, [])
    assert status["allow"] == ["192.0.2.1/32"]
    front.file.unlink()
    status = maintenance.page_status(front.engine, front.stack, now)
    assert status["shown"] and "resume" in status["remarks"][0]


def test_check_mode_changes_nothing(front: Front) -> None:
    answer = maintenance.page_on(front.engine, front.stack, page(), front.states, dry_run=True)
    assert answer["changed"] and not answer["shown"]
    assert list((front.folder / "server.d").iterdir()) == []
    assert not front.state_dir.exists()
    maintenance.page_on(front.engine, front.stack, page(), front.states)
    off = maintenance.page_off(front.engine, front.stack, front.states, dry_run=True)
    assert off["changed"] and front.file.exists() and front.ask(1).status == 503


# What goes wrong


def test_a_text_that_nginx_refuses_never_reaches_its_folder(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = maintenance.fragment
    monkeypatch.setattr(maintenance, "fragment", lambda one: real(one) + "nonsense on;\n")
    steps: list[str] = []
    with pytest.raises(MaintenanceError, match="nonsense"):
        maintenance.page_on(front.engine, front.stack, page(), front.states, step=steps.append)
    assert steps == []
    assert list((front.folder / "server.d").iterdir()) == []
    assert front.open_states == []
    assert front.ask(1).status == 200


def test_a_text_that_only_this_configuration_refuses_is_taken_back(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second location of the same name is right on its own, and wrong beside the first."""
    real = maintenance.fragment
    clash = "location = /alive { return 200; }\n"
    monkeypatch.setattr(maintenance, "fragment", lambda one: real(one) + clash)
    statuses = []

    def watch(name: str) -> None:
        statuses.append((name, front.ask(1).status))

    with pytest.raises(MaintenanceError, match="duplicate location"):
        maintenance.page_on(front.engine, front.stack, page(), front.states, step=watch)
    assert statuses == [("journal", 200), ("write", 200), ("test", 200)]
    assert list((front.folder / "server.d").iterdir()) == []
    assert front.open_states == []
    docker("restart", "--time", "1", front.project.container("nginx").id)
    wait_until("nginx serves", lambda: front.ask(1).status == 200)


def test_a_page_that_the_probe_does_not_see_gives_way_to_the_one_before(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = page(message="The first.")
    maintenance.page_on(front.engine, front.stack, first, front.states)
    before = front.file.read_text()

    def deaf(*_arguments: object) -> None:
        raise NginxError("it does not serve its new configuration")

    prepared = maintenance.prepare(front.engine, front.stack, page(message="The second."))
    real = maintenance.nginx_control.reload
    calls: Iterator[Any] = iter([deaf, real])

    def reload(*given: Any) -> None:
        next(calls)(*given)

    monkeypatch.setattr(maintenance.nginx_control, "reload", reload)
    with pytest.raises(MaintenanceError, match="taken back"):
        prepared.show(front.states)
    assert front.file.read_text() == before
    assert json.loads(front.ask(1).body)["detail"] == "The first."
    assert front.open_states == ["maintenance_page"]


def test_a_reload_that_nginx_ignores_is_found_out(front: Front) -> None:
    """A running nginx whose certificate is gone refuses every new configuration."""
    key = front.folder / "tls" / "own.key"
    kept = key.read_text()
    prepared = maintenance.prepare(front.engine, front.stack, page())

    def break_it(name: str) -> None:
        if name == "reload":
            key.write_text("no key\n")

    try:
        with pytest.raises(MaintenanceError, match=r"own\.key"):
            prepared.show(front.states, break_it)
        assert front.ask(1).status == 200
        assert list((front.folder / "server.d").iterdir()) == []
        with pytest.raises(MaintenanceError, match="broken already"):
            maintenance.page_on(front.engine, front.stack, page(), front.states)
    finally:
        key.write_text(kept)


def test_a_stack_without_a_place_for_the_page_is_told_so(front: Front) -> None:
    with pytest.raises(NoPageError, match="has no nginx") as told:
        maintenance.page_on(front.engine, front.project.stack(), page(), front.states)
    assert "docker compose" in told.value.hint
    with pytest.raises(NoPageError, match="has no containers"):
        maintenance.page_on(front.engine, Stack("inttest-nowhere"), page(), front.states)
    without = CONFIGURATION.replace("include /etc/nginx/server.d/*.conf;", "")
    (front.folder / "nginx.conf").write_text(without)
    with pytest.raises(NoPageError, match="no include at all") as told:
        maintenance.page_on(front.engine, front.stack, page(), front.states)
    assert "server.d" in told.value.hint
    assert front.open_states == []


STEPS_ON = ["journal", "write", "test", "reload", "prove"]
STEPS_OFF = ["remove", "reload", "close"]

KILLED = """
import datetime, os, sys
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import by_service
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import maintenance
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.engine_control import (
    EngineControl,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.operation_store import (
    OperationStore,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.temporary_states import (
    TemporaryStates,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance import Page
from ansible_collections.pynomaly.ops.plugins.module_utils._operation import RunIdentity
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc

verb, project, state_dir, at = sys.argv[1:]
engine = EngineControl(10.0)
containers = by_service(engine.list_project_containers(project))
stack = Stack(project, containers=containers, components={"nginx": "nginx"})
states = TemporaryStates(
    OperationStore(state_dir), RunIdentity("run-1", "tester", "here"), "maintenance", project
)

def step(name):
    if name == at:
        os.kill(os.getpid(), 9)

if verb == "on":
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=10)
    maintenance.page_on(engine, stack, Page(until.replace(microsecond=0)), states, step=step)
else:
    maintenance.page_off(engine, stack, states, step=step)
"""


def run_and_kill(front: Front, verb: str, at: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, verb, front.project.name, str(front.state_dir), at],
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("at", STEPS_ON)
def test_killed_while_it_comes_on(front: Front, at: str) -> None:
    run_and_kill(front, "on", at)
    assert front.ask(1).status in (200, 503)
    assert front.open_states == ([] if at == "journal" else ["maintenance_page"])
    # What is on disk is good to start with.
    docker("restart", "--time", "1", front.project.container("nginx").id)
    wait_until("nginx serves", lambda: front.ask(1, "http://nginx:8000/health").status == 200)
    first = front.resume()
    assert first["changed"] is (at != "journal") and not first["failed"]
    assert front.ask(1).status == 200
    assert list((front.folder / "server.d").iterdir()) == [] and front.open_states == []
    assert front.resume()["changed"] is False


@pytest.mark.parametrize("at", STEPS_OFF)
def test_killed_while_it_goes_off(front: Front, at: str) -> None:
    maintenance.page_on(front.engine, front.stack, page(), front.states)
    run_and_kill(front, "off", at)
    assert front.open_states == ["maintenance_page"]
    assert front.resume()["changed"]
    assert front.ask(1).status == 200
    assert list((front.folder / "server.d").iterdir()) == [] and front.open_states == []
    assert front.resume()["changed"] is False


def test_what_a_killed_run_has_not_tested_is_taken_away(front: Front) -> None:
    """The configuration is broken by it, so that nginx cannot even be asked."""
    run_and_kill(front, "on", "test")
    front.file.write_text(front.file.read_text() + "location = /alive { return 200; }\n")
    with pytest.raises(MaintenanceError, match="duplicate location"):
        maintenance.page_off(front.engine, front.stack, front.states, dry_run=True)
    assert front.file.exists()
    answer = front.resume()
    assert answer["changed"] and not answer["failed"]
    assert not front.file.exists() and front.open_states == []
    docker("restart", "--time", "1", front.project.container("nginx").id)
    wait_until("nginx serves", lambda: front.ask(1).status == 200)


def test_killed_while_the_text_is_tested(front: Front) -> None:
    """The helper container is all that is left."""
    labels = ["--label", f"ops.pynomaly.helper={front.project.name}", "--label", LABEL]
    left = docker("create", *labels, image("nginx")).stdout.strip()
    answer = front.resume()
    assert answer["changed"] and not answer["failed"]
    assert docker("inspect", left, check=False).returncode != 0
    assert front.resume()["changed"] is False


def test_resume_leaves_a_page_that_is_meant_to_stay(front: Front) -> None:
    front.store.acquire(
        IDENTITY, "maintenance", front.project.name, host="here", playbook="pynomaly.ops.x"
    )
    maintenance.page_on(front.engine, front.stack, page(), front.states)
    front.store.finish(IDENTITY, "maintenance", front.project.name, outcome="finished")
    answer = front.resume()
    assert not answer["changed"] and not answer["failed"]
    assert "maintenance=off" in "\n".join(answer["lines"])
    assert front.ask(1).status == 503 and front.open_states == ["maintenance_page"]


def test_off_without_a_running_nginx_removes_the_file(front: Front) -> None:
    maintenance.page_on(front.engine, front.stack, page(), front.states)
    container = front.project.container("nginx").id
    docker("stop", "--time", "1", container)
    try:
        off = maintenance.page_off(front.engine, front.stack, front.states)
        assert off["changed"] and not front.file.exists() and front.open_states == []
    finally:
        docker("start", container)
    wait_until("nginx serves", lambda: front.ask(1).status == 200)


def test_on_takes_little_time_once_prepared(front: Front) -> None:
    prepared = maintenance.prepare(front.engine, front.stack, page())
    started = time.monotonic()
    prepared.show(front.states)
    assert time.monotonic() - started < 1.0
    assert describe_fragment(front.file.read_text()) == prepared.facts
