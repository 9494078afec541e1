# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP and TLS collectors against real servers.

The first half talks to small, mostly ill-behaved servers on loopback and asserts what is said
about each, and within which time. The second half talks to nginx, Prometheus and Alertmanager in
containers of the host's engine, from the lab's images.
"""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    CheckSettings,
    Container,
    PublishedPort,
    Stack,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import (
    api,
    monitoring,
    nginx,
    tls,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import (
    Deadline,
    HttpError,
    get,
    served_chain,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._http import Endpoint
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx import TlsServer
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Policy, result
from ansible_collections.pynomaly.ops.plugins.module_utils._scheduler import (
    Collector,
    run_collectors,
)

HEALTHY = b'{"status": "healthy"}'
CALL_TIMEOUT_SECONDS = 1.0
#: What a call may take beyond its timeout on a busy machine.
SLACK_SECONDS = 1.0
SECRET = "c4nary-Secret-71"

NGINX_IMAGE = "pynomaly-lab/nginx:lab"
PROMETHEUS_IMAGE = "pynomaly-lab/prometheus:lab"
ALERTMANAGER_IMAGE = "pynomaly-lab/alertmanager:lab"


# Servers


Pages = dict[str, tuple[Any, dict[str, str], bytes, float]]


class Page(http.server.BaseHTTPRequestHandler):
    """Answers from the server's ``pages``: PATH -> (status, headers, body, delay in seconds)."""

    def do_GET(self) -> None:
        server = cast(Any, self.server)
        server.seen.append((self.path, dict(self.headers)))
        status, headers, body, delay = server.pages.get(
            self.path.partition("?")[0], (404, {}, b"no such page", 0)
        )
        if callable(status):
            status = status()
        if delay:
            server.stopping.wait(delay)
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


class PageServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: object) -> None:
        """A handshake that fails is the client's affair, and told there."""


@contextlib.contextmanager
def serving(
    pages: Pages,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[Any]:
    server: Any = PageServer(("127.0.0.1", 0), Page)
    server.pages = pages
    server.seen = []
    server.stopping = threading.Event()
    server.port = server.server_address[1]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def speaking(script: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """A TCP server that runs ``script`` on each connection; its port."""
    stopping = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                script(self.request, stopping)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            stopping.set()
            server.shutdown()


def never_answer(_connection: socket.socket, stopping: threading.Event) -> None:
    stopping.wait(30)


def dripping(head: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Sends ``head``, then a byte each tenth of the timeout: never idle, never done."""

    def drip(connection: socket.socket, stopping: threading.Event) -> None:
        connection.recv(4096)
        connection.sendall(head)
        while not stopping.wait(CALL_TIMEOUT_SECONDS / 10):
            connection.sendall(b"x")

    return drip


def saying(answer: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def say(connection: socket.socket, _stopping: threading.Event) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    return say


def endless(connection: socket.socket, stopping: threading.Event) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not stopping.is_set():
        connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return cast(int, sock.getsockname()[1])


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port that listens and whose queue is full: the kernel drops further SYNs."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _number in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(listener.getsockname())
        yield listener.getsockname()[1]


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    elapsed = time.monotonic() - started
    assert elapsed < seconds, f"took {elapsed:.2f} s, expected under {seconds} s"


# Certificates


class Authority:
    """Certificates with any validity, by C{openssl ca}."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "index.txt").write_text("")
        (folder / "serial").write_text("01\n")
        (folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca = test\n"
            f"[test]\ndatabase = {folder}/index.txt\nserial = {folder}/serial\n"
            f"new_certs_dir = {folder}\ndefault_md = sha256\npolicy = any\n"
            "unique_subject = no\ncopy_extensions = copy\n"
            "[any]\ncommonName = supplied\n"
        )
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "20", "-subj", "/CN=Test authority"),
            *("-keyout", "ca.key", "-out", "ca.pem"),
        )

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=30
        )

    def issue(
        self, name: str, days: float, alternative: str | None = None, starts_in_days: float = -100
    ) -> tuple[Path, Path]:
        """The paths of a certificate, the authority's behind it, and of its key."""
        request = [
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr"),
        ]
        if alternative:
            request += ["-addext", f"subjectAltName={alternative}"]
        self._openssl(*request)
        now = datetime.datetime.now(datetime.timezone.utc)
        start, end = (
            (now + datetime.timedelta(days=offset)).strftime("%Y%m%d%H%M%SZ")
            for offset in (starts_in_days, days)
        )
        self._openssl(
            *("ca", "-batch", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key"),
            *("-in", f"{name}.csr", "-out", f"{name}.pem", "-notext"),
            *("-startdate", start, "-enddate", end),
        )
        certificate = self.folder / f"{name}.pem"
        certificate.write_bytes(certificate.read_bytes() + (self.folder / "ca.pem").read_bytes())
        return certificate, self.folder / f"{name}.key"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def sound(authority: Authority) -> tuple[Path, Path]:
    return authority.issue("sound", 60.5, "DNS:api.example.org,DNS:*.example.net")


# Stacks


def container(service: str, **fields: Any) -> Container:
    fields.setdefault("addresses", ("127.0.0.1",))
    state = fields.pop("state", "running")
    return Container("0" * 64, f"{service}-1", service, 1, state, "image", "sha", **fields)


def stack(**services: Container) -> Stack:
    """A stack with one container for each component named."""
    return Stack(
        "pynomaly",
        containers={one.service: [one] for one in services.values()},
        components={component: one.service for component, one in services.items()},
    )


def settings(**fields: Any) -> CheckSettings:
    return CheckSettings(call_timeout_seconds=CALL_TIMEOUT_SECONDS, **fields)


def answers(collectors: list[Collector], deadline_seconds: float = 10) -> dict[str, dict[str, Any]]:
    """The results by probe id, judged by the catalogue's own thresholds."""
    policy = Policy(CATALOGUE)
    today = datetime.date(2026, 1, 1)
    return {
        measurement.target.id: result(measurement, policy, today)
        for measurement in run_collectors(collectors, deadline_seconds)
    }


NO_ENGINE = cast(Engine, None)


def check_api(one: Container, **fields: Any) -> dict[str, dict[str, Any]]:
    """Of a stack without nginx, whose API is published on its own port."""
    return answers(api.collectors(stack(api=one), settings(**fields), NO_ENGINE))


def published_api(port: int) -> Container:
    return container(
        "pynomaly-api",
        ports=(PublishedPort(8000, "127.0.0.1", port),),
        exposed_ports=(port,),
        environment={"DATABASE_URL": f"postgresql://pynomaly:{SECRET}@postgres/db"},
    )


# The client


def test_a_plain_answer() -> None:
    with serving({"/health": (200, {"X-Seen": "yes"}, HEALTHY, 0)}) as server:
        answer = get(Endpoint("http", "127.0.0.1", server.port), "/health", Deadline(5))
    assert (answer.status, answer.body, answer.truncated) == (200, HEALTHY, False)
    assert answer.headers["x-seen"] == "yes"
    ((path, headers),) = server.seen
    assert path == "/health"
    assert headers["Connection"] == "close"
    assert headers["User-Agent"] == "pynomaly-ops-check"
    assert headers["Host"] == f"localhost:{server.port}"


def test_a_redirect_is_told_and_not_followed() -> None:
    pages: Pages = {"/health": (302, {"Location": "/elsewhere"}, b"", 0.0)}
    with serving(pages) as server:
        answer = get(Endpoint("http", "127.0.0.1", server.port), "/health", Deadline(5))
    assert (answer.status, answer.headers["location"]) == (302, "/elsewhere")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        (never_answer, "timeout", "accepts connections and never answers within 1 s"),
        (
            dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
            "timeout",
            "began an answer and did not finish it within 1 s",
        ),
        (
            dripping(b"HTTP/1.1 200 OK\r\nX-Slow: "),
            "timeout",
            "began an answer and did not finish it within 1 s",
        ),
        (saying(b""), "closed", "closed the connection without an answer"),
        (
            saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
            "closed",
            "closed the connection",
        ),
        (
            saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nshort"),
            "closed",
            "closed the connection in the middle of its answer",
        ),
        (saying(b"SSH-2.0-OpenSSH_9.2\r\n"), "malformed", "does not speak HTTP"),
    ],
)
def test_ill_behaved_servers_end_by_the_deadline(
    script: Callable[[socket.socket, threading.Event], None], kind: str, message: str
) -> None:
    with (
        speaking(script) as port,
        within(CALL_TIMEOUT_SECONDS + SLACK_SECONDS),
        pytest.raises(HttpError) as failed,
    ):
        get(Endpoint("http", "127.0.0.1", port), "/health", Deadline(CALL_TIMEOUT_SECONDS))
    assert failed.value.kind == kind
    assert message in str(failed.value)


def test_an_endless_body_is_cut() -> None:
    with speaking(endless) as port, within(CALL_TIMEOUT_SECONDS + SLACK_SECONDS):
        answer = get(
            Endpoint("http", "127.0.0.1", port),
            "/",
            Deadline(CALL_TIMEOUT_SECONDS),
            max_body_bytes=10_000,
        )
    assert (len(answer.body), answer.truncated) == (10_000, True)


def test_a_closed_port_is_refused_at_once() -> None:
    with within(SLACK_SECONDS), pytest.raises(HttpError, match="nothing listens") as failed:
        get(Endpoint("http", "127.0.0.1", closed_port()), "/", Deadline(CALL_TIMEOUT_SECONDS))
    assert failed.value.kind == "refused"


def test_a_connection_that_nobody_takes_ends_by_the_deadline() -> None:
    with (
        full_backlog() as port,
        within(CALL_TIMEOUT_SECONDS + SLACK_SECONDS),
        pytest.raises(HttpError, match="no connection within 1 s") as failed,
    ):
        get(Endpoint("http", "127.0.0.1", port), "/", Deadline(CALL_TIMEOUT_SECONDS))
    assert failed.value.kind == "timeout"


def test_a_name_that_does_not_exist() -> None:
    with within(CALL_TIMEOUT_SECONDS + SLACK_SECONDS), pytest.raises(HttpError) as failed:
        get(Endpoint("http", "no-such-host.invalid", 80), "/", Deadline(CALL_TIMEOUT_SECONDS))
    assert failed.value.kind == "unresolved"


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_o: release.wait(20))
    with within(CALL_TIMEOUT_SECONDS + SLACK_SECONDS), pytest.raises(HttpError) as failed:
        get(Endpoint("http", "slow.example", 80), "/", Deadline(CALL_TIMEOUT_SECONDS))
    release.set()
    assert "was not resolved within 1 s" in str(failed.value)


def test_a_deadline_that_has_passed_asks_nobody() -> None:
    with serving({}) as server, pytest.raises(HttpError):
        get(Endpoint("http", "127.0.0.1", server.port), "/", Deadline(0))
    assert server.seen == []


# TLS


def test_https_is_asked_whatever_the_certificate(authority: Authority) -> None:
    expired = authority.issue("expired-but-asked", -3.5, "DNS:other.example")
    with serving({"/health": (200, {}, HEALTHY, 0)}, expired) as server:
        door = Endpoint("https", "127.0.0.1", server.port, "api.example.org")
        assert get(door, "/health", Deadline(5)).status == 200
    assert server.seen[0][1]["Host"] == f"api.example.org:{server.port}"


def test_the_chain_that_is_served(sound: tuple[Path, Path]) -> None:
    with serving({}, sound) as server:
        chain = served_chain(Endpoint("https", "127.0.0.1", server.port), Deadline(5))
    wanted = ssl.PEM_cert_to_DER_cert(
        sound[0].read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )
    assert chain[0] == wanted
    assert len(chain) == (2 if sys.version_info >= (3, 13) else 1)


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        (never_answer, "timeout", "does not finish the TLS handshake within 1 s"),
        (dripping(b"\x16\x03\x03\x40\x00"), "timeout", "does not finish the TLS handshake"),
        (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "tls", "does not speak TLS"),
        (saying(b""), "closed", "closed the connection during the TLS handshake"),
    ],
)
def test_handshakes_that_fail_end_by_the_deadline(
    script: Callable[[socket.socket, threading.Event], None], kind: str, message: str
) -> None:
    with (
        speaking(script) as port,
        within(CALL_TIMEOUT_SECONDS + SLACK_SECONDS),
        pytest.raises(HttpError) as failed,
    ):
        served_chain(Endpoint("https", "127.0.0.1", port), Deadline(CALL_TIMEOUT_SECONDS))
    assert failed.value.kind == kind
    assert message in str(failed.value)


def check_tls(certificate: tuple[Path, Path], name: str | None) -> dict[str, dict[str, Any]]:
    with serving({}, certificate) as server:
        wanted = settings(tls_port=server.port, tls_server_name=name)
        return answers(tls.collectors(stack(), wanted, NO_ENGINE))


def test_a_sound_certificate(sound: tuple[Path, Path]) -> None:
    seen = check_tls(sound, "www.example.net")
    assert (seen["tls.served"]["status"], seen["tls.served"]["value"]) == ("ok", 60)
    assert seen["tls.name"]["status"] == "ok"
    assert seen["tls.file"]["status"] == seen["tls.reloaded"]["status"] == "skipped"
    assert seen["tls.file"]["message"] == "the project has no nginx"


@pytest.mark.parametrize(
    ("name", "days", "status", "value", "words"),
    [
        ("soon", 10.5, "warning", 10, "expires in 10 days"),
        ("very-soon", 3.5, "critical", 3, "expires in 3 days"),
        ("expired", -3.5, "critical", -3, "expired 3 days ago"),
    ],
)
def test_certificates_that_end(
    authority: Authority, name: str, days: float, status: str, value: int, words: str
) -> None:
    seen = check_tls(authority.issue(name, days, "DNS:api.example.org"), "api.example.org")
    assert (seen["tls.served"]["status"], seen["tls.served"]["value"]) == (status, value)
    assert words in seen["tls.served"]["message"]
    assert seen["tls.name"]["status"] == "ok"


def test_a_certificate_that_is_not_yet_valid(authority: Authority) -> None:
    early = authority.issue("early", 90, "DNS:api.example.org", starts_in_days=2)
    assert check_tls(early, None)["tls.served"]["status"] == "critical"


def test_a_certificate_for_another_name(sound: tuple[Path, Path], authority: Authority) -> None:
    wrong = check_tls(sound, "www.example.org")["tls.name"]
    assert wrong["status"] == "critical"
    assert "is for api.example.org, *.example.net, expected www.example.org" in wrong["message"]
    common_name_only = authority.issue("plain.example.org", 60)
    nameless = check_tls(common_name_only, "plain.example.org")["tls.name"]
    assert nameless["status"] == "critical"
    assert "for no name at all" in nameless["message"]
    assert check_tls(sound, None)["tls.name"]["status"] == "skipped"


class Nginx:
    """An engine on which C{nginx -T} says this after a while, or cannot be run."""

    def __init__(self, output: str, delay_seconds: float = 0.1, error: str = "") -> None:
        self.asked: list[list[str]] = []
        self._output = output
        self._delay_seconds = delay_seconds
        self._error = error

    def run(
        self, container_id: str, argv: list[str], timeout_seconds: float, *, max_bytes: int
    ) -> tuple[int, str]:
        assert (container_id, timeout_seconds) == (container("nginx").id, CALL_TIMEOUT_SECONDS)
        assert max_bytes >= len(self._output)
        self.asked.append(argv)
        time.sleep(self._delay_seconds)
        if self._error:
            raise EngineError(self._error)
        return 0, self._output


def ask_nginx(engine: Nginx) -> dict[str, dict[str, Any]]:
    seen = stack(nginx=container("nginx"))
    asked = nginx.Configurations(cast(Engine, engine), settings())
    wanted = (seen, settings(), cast(Engine, engine), asked)
    return answers([*nginx.collectors(*wanted), *tls.collectors(*wanted)])


def test_nginx_is_asked_once_by_all_who_want_to_know() -> None:
    engine = Nginx("nginx: [warn] x\nserver { listen 443 ssl; ssl_certificate $by_name; }\n")
    seen = ask_nginx(engine)
    assert engine.asked == [["nginx", "-T"]]
    assert seen["nginx.config"]["message"] == "nginx -t passes, 1 warnings"
    assert seen["tls.file"]["message"] == "nginx's configuration names none"


def test_all_who_want_to_know_of_an_nginx_that_cannot_be_asked_are_told() -> None:
    engine = Nginx("", error="the engine refused exec nginx: no")
    seen = ask_nginx(engine)
    assert engine.asked == [["nginx", "-T"]]
    assert seen["nginx.config"]["status"] == "unknown"
    assert seen["nginx.config"]["message"] == "the engine refused exec nginx: no"
    assert seen["tls.file"]["message"] == "not measured: the engine refused exec nginx: no"


def test_half_of_the_time_is_left_for_the_handshake_when_nginx_is_slow() -> None:
    started = time.monotonic()
    seen = ask_nginx(Nginx("", delay_seconds=CALL_TIMEOUT_SECONDS * 0.9))
    assert time.monotonic() - started < CALL_TIMEOUT_SECONDS + SLACK_SECONDS
    assert seen["nginx.config"]["status"] == "ok"
    assert "nginx did not finish within 0.5 s" in seen["tls.file"]["message"]


def test_where_nginx_speaks_tls() -> None:
    published = (
        PublishedPort(443, "::", 8443),
        PublishedPort(443, "0.0.0.0", 8443),
        PublishedPort(9443, "10.0.0.5", 9443),
        PublishedPort(80, "0.0.0.0", 80),
    )
    front = container("nginx", addresses=("172.18.0.9",), ports=published)
    inner = container("nginx", addresses=("172.18.0.9",))
    both = [TlsServer((443,), (), ()), TlsServer((443, 9443), (), ())]

    def doors(one: Container, servers: list[TlsServer], **fields: Any) -> list[str]:
        return [door.netloc for door in tls.tls_doors(one, servers, settings(**fields))]

    assert doors(front, both) == ["127.0.0.1:8443", "10.0.0.5:9443"]
    assert doors(front, []) == ["127.0.0.1:8443"]
    assert doors(front, both, tls_port=444) == ["127.0.0.1:444"]
    assert doors(inner, both) == ["172.18.0.9:443", "172.18.0.9:9443"]
    assert doors(inner, []) == []


def test_tls_that_hangs_is_critical_in_time() -> None:
    with speaking(never_answer) as port, within(CALL_TIMEOUT_SECONDS + SLACK_SECONDS):
        seen = answers(tls.collectors(stack(), settings(tls_port=port), NO_ENGINE))
    assert seen["tls.served"]["status"] == "critical"
    assert seen["tls.name"]["message"] == "not measured: tls.served is critical"


def test_the_certificate_behind_the_url_that_is_set(sound: tuple[Path, Path]) -> None:
    with serving({}, sound) as server:
        wanted = settings(api_url=f"https://localhost:{server.port}")
        seen = answers(tls.collectors(stack(), wanted, NO_ENGINE))
    assert seen["tls.served"]["status"] == "ok"
    assert "expected localhost" in seen["tls.name"]["message"]


def test_no_tls_at_all_is_skipped() -> None:
    seen = answers(tls.collectors(stack(), settings(api_url="http://127.0.0.1:1"), NO_ENGINE))
    assert {entry["status"] for entry in seen.values()} == {"skipped"}


def test_a_host_without_openssl_gets_a_hint(
    sound: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    seen = check_tls(sound, None)["tls.served"]
    assert (seen["status"], "no openssl" in seen["message"]) == ("unknown", True)
    assert "pynomaly.ops.prepare" in seen["hint"]


# The API


def test_a_healthy_api() -> None:
    metrics = (
        b"# TYPE http_requests_total counter\n"
        b'http_requests_total{handler="/api/v1/detect",method="POST",status="2xx"} 328\n'
        b'http_requests_total{handler="/api/v1/detect",method="POST",status="5xx"} 12\n'
    )
    pages: Pages = {"/health": (200, {}, HEALTHY, 0.0), "/metrics": (200, {}, metrics, 0.0)}
    with serving(pages) as server:
        seen = check_api(published_api(server.port))
    assert seen["api.health"]["status"] == "ok"
    assert seen["api.health"]["message"].startswith(
        f"http://127.0.0.1:{server.port}/health: status 200, healthy, in "
    )
    assert (seen["api.latency"]["status"], seen["api.replica_latency"]["status"]) == ("ok", "ok")
    assert "in 5 requests" in seen["api.latency"]["message"]
    assert seen["api.replica_health"]["instance"] == "pynomaly-api-1"
    assert (seen["api.error_rate"]["status"], seen["api.error_rate"]["value"]) == ("warning", 3.53)
    assert seen["api.error_rate"]["message"] == (
        "12 of 340 answers were 5xx since the API started, 3.5 % (the API's own counters)"
    )
    health_requests = [path for path, _headers in server.seen if path == "/health"]
    assert len(health_requests) == 2 * 5


def test_an_api_that_fails_shows_no_secret() -> None:
    body = json.dumps({"status": "unhealthy", "detail": f"cannot log in with {SECRET}"}).encode()
    with serving({"/health": (503, {}, body, 0)}) as server:
        seen = check_api(published_api(server.port))
    assert seen["api.health"]["status"] == "critical"
    assert "status 503, expected 200: {" in seen["api.health"]["message"]
    assert "***" in seen["api.health"]["message"]
    assert seen["api.latency"]["message"] == "not measured: api.health is critical"
    assert seen["api.error_rate"]["status"] == "unknown"
    assert SECRET not in json.dumps(seen)


def test_an_api_that_hangs_is_critical_and_delays_nobody() -> None:
    with speaking(never_answer) as port, within(CALL_TIMEOUT_SECONDS + SLACK_SECONDS):
        seen = check_api(published_api(port))
    for identifier in ("api.health", "api.replica_health"):
        assert seen[identifier]["status"] == "critical"
        assert "accepts connections and never answers within 1 s" in seen[identifier]["message"]
    assert seen["api.latency"]["status"] == seen["api.replica_latency"]["status"] == "skipped"


def test_an_api_that_is_not_there() -> None:
    seen = check_api(published_api(closed_port()))
    assert seen["api.health"]["status"] == "critical"
    assert "connection refused" in seen["api.health"]["message"]
    stopped = check_api(container("pynomaly-api", state="exited"))
    assert stopped["api.health"]["status"] == "critical"
    assert "no container of pynomaly-api runs (seen exited)" in stopped["api.health"]["message"]
    assert stopped["api.replica_health"]["message"] == "not measured: the container is exited"


def test_a_slow_api_is_slow_and_told_within_the_bound() -> None:
    pages: Pages = {"/health": (200, {}, HEALTHY, 0.45)}
    with serving(pages) as server, within(2 * CALL_TIMEOUT_SECONDS + SLACK_SECONDS):
        seen = check_api(published_api(server.port))
    assert seen["api.health"]["status"] == "ok"
    assert seen["api.latency"]["value"] > 440
    assert "of 5 requests, 1 s being over" in seen["api.latency"]["message"]


def test_latency_past_the_runbooks_second_warns() -> None:
    with serving({"/health": (200, {}, HEALTHY, 1.1)}) as server:
        wanted = CheckSettings(call_timeout_seconds=2.0, api_latency_samples=2)
        one = published_api(server.port)
        seen = answers(api.collectors(stack(api=one), wanted, NO_ENGINE))
    assert seen["api.health"]["status"] == "ok"
    assert (seen["api.latency"]["status"], seen["api.replica_latency"]["status"]) == (
        "warning",
        "warning",
    )


def test_an_api_that_fails_now_and_then() -> None:
    statuses = iter([200, 200, 500, 200, 200])
    with serving({"/health": (lambda: next(statuses, 200), {}, HEALTHY, 0)}) as server:
        wanted = settings(api_url=f"http://127.0.0.1:{server.port}")
        seen = answers(api.collectors(stack(), wanted, NO_ENGINE))
    assert seen["api.health"]["status"] == "ok"
    assert seen["api.latency"]["status"] == "warning"
    assert "1 of 5 requests failed (status 500, expected 200" in seen["api.latency"]["message"]


def nginx_on(http_port: int, https_port: int | None = None) -> Container:
    ports = [PublishedPort(80, "127.0.0.1", http_port)]
    if https_port is not None:
        ports.append(PublishedPort(443, "127.0.0.1", https_port))
    return container("nginx", ports=tuple(ports))


def check_door(front: Container) -> dict[str, dict[str, Any]]:
    """What is said of a door in front of an API that does not run."""
    behind = container("pynomaly-api", state="exited")
    (collector, *_others) = api.collectors(stack(api=behind, nginx=front), settings(), NO_ENGINE)
    return answers([collector])


def test_a_redirect_leads_to_https(sound: tuple[Path, Path]) -> None:
    away: Pages = {"/health": (301, {"Location": "https://localhost/health"}, b"", 0.0)}
    with serving(away) as plain, serving({"/health": (200, {}, HEALTHY, 0)}, sound) as secure:
        seen = check_door(nginx_on(plain.port, secure.port))
    assert seen["api.health"]["status"] == "ok"
    assert seen["api.health"]["message"].startswith(f"https://127.0.0.1:{secure.port}/health")


def test_a_redirect_to_nowhere_is_no_health() -> None:
    away: Pages = {"/health": (301, {"Location": "https://localhost/health"}, b"", 0.0)}
    with serving(away) as plain:
        warned = check_door(nginx_on(plain.port))
        closed = check_door(nginx_on(plain.port, closed_port()))
    assert warned["api.health"]["status"] == "warning"
    assert "redirects to https://localhost/health" in warned["api.health"]["message"]
    assert warned["api.latency"]["status"] == "skipped"
    assert closed["api.health"]["status"] == "critical"
    assert "redirects to HTTPS, and https://" in closed["api.health"]["message"]


def test_a_page_not_found_asks_the_next_door(sound: tuple[Path, Path]) -> None:
    with serving({}) as plain, serving({"/health": (200, {}, HEALTHY, 0)}, sound) as secure:
        assert check_door(nginx_on(plain.port, secure.port))["api.health"]["status"] == "ok"
        lost = check_door(nginx_on(plain.port))["api.health"]
    assert (lost["status"], "status 404" in lost["message"]) == ("critical", True)


def test_an_absent_api_is_skipped_and_a_bad_url_explained() -> None:
    seen = answers(api.collectors(stack(), settings(), NO_ENGINE))
    assert {entry["status"] for entry in seen.values()} == {"skipped"}
    assert "the project has no API" in seen["api.health"]["message"]
    wanted = settings(api_url=f"http://u:{SECRET}@localhost")
    bad = answers(api.collectors(stack(), wanted, NO_ENGINE))["api.health"]
    assert (bad["status"], "carries credentials" in bad["message"]) == ("unknown", True)
    assert SECRET not in json.dumps(bad)


# Monitoring, on loopback


def monitor(component: str, port: int, **fields: Any) -> dict[str, dict[str, Any]]:
    command = fields.pop("command", ("x", f"--web.listen-address=:{port}"))
    one = container(component, command=command, **fields)
    return answers(monitoring.collectors(stack(**{component: one}), settings()))


def api_answer(data: object) -> tuple[int, dict[str, str], bytes, float]:
    return 200, {}, json.dumps({"status": "success", "data": data}).encode(), 0.0


def test_prometheus_with_a_prefix_and_trouble() -> None:
    down = {"labels": {"job": "redis", "instance": "r:9121"}, "health": "down", "lastError": "eof"}
    firing = {"labels": {"alertname": "ApiDown", "severity": "critical"}, "state": "firing"}
    pages: Pages = {
        "/prom/-/ready": (200, {}, b"ready", 0.0),
        "/prom/api/v1/targets": api_answer({"activeTargets": [down]}),
        "/prom/api/v1/alerts": api_answer({"alerts": [firing]}),
        "/prom/metrics": (200, {}, b"prometheus_config_last_reload_successful 0\n", 0.0),
    }
    with serving(pages) as server:
        command = (
            "prometheus",
            f"--web.listen-address=:{server.port}",
            "--web.external-url=https://api.example.org/prom/",
        )
        seen = monitor("prometheus", server.port, command=command)
    assert seen["prometheus.ready"]["status"] == "ok"
    assert (seen["prometheus.targets"]["status"], seen["prometheus.targets"]["value"]) == (
        "warning",
        1,
    )
    assert "redis/r:9121 (eof)" in seen["prometheus.targets"]["message"]
    assert seen["prometheus.alerts"]["status"] == "critical"
    assert seen["prometheus.config"]["status"] == "warning"
    assert seen["grafana.health"]["message"] == "the project has no Grafana"


def test_prometheus_that_hangs_gives_one_red_line() -> None:
    with speaking(never_answer) as port, within(CALL_TIMEOUT_SECONDS + SLACK_SECONDS):
        seen = monitor("prometheus", port)
    assert seen["prometheus.ready"]["status"] == "critical"
    for identifier in ("targets", "alerts", "config"):
        entry = seen[f"prometheus.{identifier}"]
        assert entry["status"] == "skipped"
        assert entry["message"] == "not measured: prometheus.ready is critical"


def test_prometheus_whose_interface_hangs_is_unknown_in_time() -> None:
    pages: Pages = {
        "/-/ready": (200, {}, b"ready", 0.0),
        "/api/v1/targets": (200, {}, b"", 30.0),
        "/metrics": (500, {}, b"", 0.0),
    }
    with serving(pages) as server, within(CALL_TIMEOUT_SECONDS + SLACK_SECONDS):
        seen = monitor("prometheus", server.port)
    assert seen["prometheus.ready"]["status"] == "ok"
    assert seen["prometheus.targets"]["status"] == "unknown"
    assert "never answers within 1 s" in seen["prometheus.targets"]["message"]
    assert seen["prometheus.config"]["status"] == "unknown"


def test_monitoring_that_asks_for_credentials_is_unknown() -> None:
    with serving({"/-/ready": (401, {}, b"Unauthorized", 0.0)}) as server:
        seen = monitor("prometheus", server.port)
        other = monitor("alertmanager", server.port)
    assert seen["prometheus.ready"]["status"] == other["alertmanager.ready"]["status"] == "unknown"
    assert seen["prometheus.targets"]["message"] == "not measured: prometheus.ready is unknown"


def test_monitoring_that_does_not_run_or_has_no_address() -> None:
    seen = monitor("prometheus", 1, state="exited")
    assert seen["prometheus.ready"]["message"] == "no container of prometheus runs (seen exited)"
    assert seen["prometheus.ready"]["status"] == "critical"
    assert monitor("alertmanager", 1, addresses=())["alertmanager.ready"]["status"] == "unknown"
    refused = monitor("alertmanager", closed_port())["alertmanager.ready"]
    assert (refused["status"], "connection refused" in refused["message"]) == ("critical", True)


@pytest.mark.parametrize(
    ("status", "database", "expected"), [(200, "ok", "ok"), (503, "failing", "critical")]
)
def test_grafana(status: int, database: str, expected: str) -> None:
    body = json.dumps({"database": database, "version": "11.0.0"}).encode()
    with serving({"/api/health": (status, {}, body, 0)}) as server:
        environment = {"GF_SERVER_HTTP_PORT": str(server.port)}
        seen = monitor("grafana", server.port, environment=environment)
    assert seen["grafana.health"]["status"] == expected


# nginx, Prometheus and Alertmanager themselves

PROJECT = "inttest-http"


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    if check and done.returncode != 0:
        raise AssertionError(f"docker {arguments[0]}: {done.stderr}")
    return done.stdout.strip()


def need_image(image: str) -> None:
    if shutil.which("docker") is None or not docker("images", "-q", image, check=False):
        pytest.skip(f"there is no image {image} on this host")


def start(service: str, image: str, *options: str, command: tuple[str, ...] = ()) -> str:
    """Run a container that looks like one of the project's; its name."""
    name = f"{PROJECT}-{service}-1"
    docker("rm", "--force", "--volumes", name, check=False)
    docker(
        *("run", "--detach", "--name", name),
        *("--label", f"com.docker.compose.project={PROJECT}"),
        *("--label", f"com.docker.compose.service={service}"),
        *("--label", "com.docker.compose.container-number=1"),
        *("--label", "com.docker.compose.oneoff=False"),
        *options,
        image,
        *command,
    )
    return name


def remove(name: str) -> None:
    docker("rm", "--force", "--volumes", name)


def found(engine: Engine) -> Stack:
    containers: dict[str, list[Container]] = {}
    for one in engine.list_project_containers(PROJECT):
        containers.setdefault(one.service, []).append(one)
    return Stack(
        PROJECT,
        containers=containers,
        components={service: service for service in containers},
    )


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def answering(port: int, path: str, wanted: int) -> bool:
    try:
        door = Endpoint("http", "127.0.0.1", port)
        return get(door, path, Deadline(2), {"User-Agent": "a-browser"}).status == wanted
    except HttpError:
        return False


@pytest.fixture(scope="module")
def engine() -> Engine:
    need_image(NGINX_IMAGE)
    return Engine(5.0)


SITE = """
server {
    listen 8000;
    location = /health { default_type application/json; return 200 '{"status": "healthy"}'; }
    location = /fails { return 502; }
    location / { return 200 'fine'; }
}
server {
    listen 443 ssl;
    server_name api.example.org;
    ssl_certificate /etc/nginx/conf.d/site.pem;
    ssl_certificate_key /etc/nginx/conf.d/site.key;
    location = /health { return 200; }
}
"""


class Site:
    """An nginx of the lab's image with its configuration on the host."""

    def __init__(self, folder: Path, certificate: tuple[Path, Path]) -> None:
        self.folder = folder
        folder.chmod(0o755)
        self.install(certificate)
        self.configure(SITE)
        self.name = start(
            "nginx",
            NGINX_IMAGE,
            *("--publish", "127.0.0.1::8000", "--publish", "127.0.0.1::443"),
            *("--volume", f"{folder}:/etc/nginx/conf.d:ro"),
        )
        self.port = int(docker("port", self.name, "8000/tcp").rpartition(":")[2])
        until(lambda: answering(self.port, "/health", 200), "nginx answers")

    def install(self, certificate: tuple[Path, Path]) -> None:
        for source, target in zip(certificate, ("site.pem", "site.key")):
            shutil.copyfile(source, self.folder / target)

    def configure(self, text: str) -> None:
        (self.folder / "site.conf").write_text(text)

    def request(self, path: str, count: int, status: int) -> None:
        for _number in range(count):
            assert answering(self.port, path, status)


@pytest.fixture
def site(engine: Engine, tmp_path: Path, sound: tuple[Path, Path]) -> Iterator[Site]:
    assert engine
    made = Site(tmp_path, sound)
    try:
        yield made
    finally:
        remove(made.name)


def check_nginx(engine: Engine, **fields: Any) -> dict[str, dict[str, Any]]:
    seen = found(engine)
    # The API behind it plays no part here: nginx answers itself
    seen = Stack(
        PROJECT, containers=seen.containers, components={**seen.components, "api": "pynomaly-api"}
    )
    wanted = CheckSettings(call_timeout_seconds=4.0, **fields)
    configurations = nginx.Configurations(engine, wanted)
    return answers(
        [
            *api.collectors(seen, wanted, engine),
            *nginx.collectors(seen, wanted, engine, configurations),
            *tls.collectors(seen, wanted, engine, configurations),
        ]
    )


def test_nginx_in_good_health(site: Site, engine: Engine) -> None:
    site.request("/api/v1/detect?key=secret", 25, 200)
    site.request("/fails?key=secret", 2, 502)

    def fingerprint() -> tuple[list[str], str]:
        return sorted(docker("diff", site.name).splitlines()), docker("inspect", site.name)

    before = fingerprint()
    seen = check_nginx(engine)
    assert fingerprint() == before
    statuses = {name: entry["status"] for name, entry in seen.items()}
    assert statuses == {
        "api.health": "ok",
        "api.latency": "ok",
        "api.replica_health": "skipped",
        "api.replica_latency": "skipped",
        "api.error_rate": "critical",
        "nginx.config": "ok",
        "tls.served": "ok",
        "tls.name": "ok",
        "tls.file": "ok",
        "tls.reloaded": "ok",
    }
    assert seen["api.health"]["message"].startswith(f"http://127.0.0.1:{site.port}/health")
    # 25 + 2, and the one with which the fixture saw that nginx is up; none of the check's own
    assert seen["api.error_rate"]["message"] == (
        "2 of 28 answers were 5xx in the last 15 minutes, 7.1 % (nginx access log)"
    )
    assert seen["api.error_rate"]["detail"]["paths"] == [{"path": "/fails", "count": 2}]
    assert seen["tls.served"]["value"] == seen["tls.file"]["value"] == 60
    assert seen["tls.file"]["message"].startswith("/etc/nginx/conf.d/site.pem: expires in 60 days")
    assert "in its chain CN=Test authority expires in 19 days" in seen["tls.file"]["message"]
    assert seen["tls.name"]["message"] == "the certificate is for api.example.org"


def test_a_quiet_nginx_is_no_unknown(site: Site, engine: Engine) -> None:
    assert site
    quiet = ("ok", "no requests in the last 0.001 minutes (nginx access log)")

    def told() -> tuple[str, str]:
        seen = check_nginx(engine, error_rate_window_minutes=0.001)["api.error_rate"]
        return seen["status"], seen["message"]

    until(lambda: told() == quiet, "the request of the fixture is out of the window")


def test_a_renewed_certificate_counts_only_once_it_is_served(
    site: Site, engine: Engine, authority: Authority
) -> None:
    site.install(authority.issue("renewed", 365.5, "DNS:api.example.org"))
    stale = check_nginx(engine)
    assert (stale["tls.file"]["value"], stale["tls.served"]["value"]) == (365, 60)
    assert stale["tls.reloaded"]["status"] == "warning"
    assert "is in no file of the configuration" in stale["tls.reloaded"]["message"]
    docker("exec", site.name, "nginx", "-s", "reload")
    until(
        lambda: check_nginx(engine)["tls.reloaded"]["status"] == "ok",
        "the renewed certificate is served",
    )


def test_a_broken_configuration_hides_nothing_else(site: Site, engine: Engine) -> None:
    site.configure(SITE.replace("listen 8000", "lisen 8000"))
    seen = check_nginx(engine, tls_port=None)
    assert seen["nginx.config"]["status"] == "critical"
    assert seen["nginx.config"]["message"] == (
        'nginx -t fails: unknown directive "lisen" in /etc/nginx/conf.d/site.conf:3'
    )
    assert seen["api.health"]["status"] == "ok"
    assert seen["tls.served"]["status"] == "ok"
    assert seen["tls.file"]["message"] == "not measured: nginx -T fails, see nginx.config"
    assert seen["tls.reloaded"]["status"] == "skipped"
    site.configure(SITE)
    assert check_nginx(engine)["nginx.config"]["status"] == "ok"


def test_a_certificate_file_that_is_none(site: Site, engine: Engine) -> None:
    (site.folder / "site.pem").write_text("nothing")
    seen = check_nginx(engine)
    # nginx -t reads the certificate, too, so that its configuration is no longer one
    assert seen["nginx.config"]["status"] == "critical"
    assert seen["tls.served"]["status"] == "ok"


def test_a_stopped_nginx_is_a_closed_door(site: Site, engine: Engine) -> None:
    docker("stop", "--time", "5", site.name)
    seen = check_nginx(engine)
    assert seen["api.health"]["status"] == "critical"
    assert "no container of nginx runs (seen exited)" in seen["api.health"]["message"]
    assert seen["nginx.config"]["status"] == seen["tls.served"]["status"] == "skipped"


def test_a_container_without_nginx_is_unknown(engine: Engine) -> None:
    need_image(PROMETHEUS_IMAGE)
    name = start("nginx", PROMETHEUS_IMAGE)
    try:
        seen = answers(nginx.collectors(found(engine), settings(), engine))
    finally:
        remove(name)
    assert seen["nginx.config"]["status"] == "unknown"
    assert "nginx cannot be run in the container" in seen["nginx.config"]["message"]


PROMETHEUS_CONFIG = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [/etc/prometheus/rules.yml]
scrape_configs:
  - job_name: gone
    static_configs: [{targets: ["127.0.0.1:1"]}]
  - job_name: prometheus
    static_configs: [{targets: ["127.0.0.1:9095"]}]
    metrics_path: /prom/metrics
"""
PROMETHEUS_RULES = """
groups:
  - name: test
    rules:
      - {alert: Watchdog, expr: vector(1), labels: {severity: none}}
      - {alert: TargetGone, expr: "up{job='gone'} == 0", labels: {severity: warning}}
      - record: http_requests_total
        expr: label_replace(vector(time() * 18), "status", "2xx", "", "")
      - record: http_requests_total
        expr: label_replace(vector(time() * 2), "code", "503", "", "")
"""


def test_prometheus_itself(engine: Engine, tmp_path: Path) -> None:
    need_image(PROMETHEUS_IMAGE)
    tmp_path.chmod(0o755)
    (tmp_path / "prometheus.yml").write_text(PROMETHEUS_CONFIG)
    (tmp_path / "rules.yml").write_text(PROMETHEUS_RULES)
    name = start(
        "prometheus",
        PROMETHEUS_IMAGE,
        *("--volume", f"{tmp_path}:/etc/prometheus:ro"),
        command=(
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--web.listen-address=:9095",
            "--web.external-url=http://localhost/prom",
            "--web.enable-lifecycle",
        ),
    )
    try:

        def check() -> dict[str, dict[str, Any]]:
            wanted = CheckSettings(call_timeout_seconds=3.0)
            return answers(monitoring.collectors(found(engine), wanted))

        until(lambda: check()["prometheus.alerts"]["value"] == 1, "the alert fires")
        until(
            lambda: "not scraped yet" not in check()["prometheus.targets"]["message"],
            "every target was scraped",
        )
        seen = check()
        assert seen["prometheus.ready"]["status"] == "ok"
        assert seen["prometheus.targets"]["value"] == 1
        assert seen["prometheus.targets"]["message"].startswith("1 of 2 down: gone/127.0.0.1:1 (")
        assert seen["prometheus.alerts"]["status"] == "warning"
        assert seen["prometheus.alerts"]["message"] == "1 alert fires: TargetGone (warning)"
        assert seen["prometheus.config"]["status"] == "ok"

        (tmp_path / "prometheus.yml").write_text("nonsense: [")
        docker("kill", "--signal", "HUP", name)
        until(lambda: check()["prometheus.config"]["status"] == "warning", "the reload has failed")
        assert check()["prometheus.ready"]["status"] == "ok"

        both = Stack(
            PROJECT,
            containers=found(engine).containers,
            components={"prometheus": "prometheus", "api": "pynomaly-api"},
        )
        counted: dict[str, Any] = {}

        def share() -> float:
            counted.update(answers(api.collectors(both, CheckSettings(), engine))["api.error_rate"])
            return float(counted["value"])

        until(lambda: 9 < share() < 11, "Prometheus has counted some requests")
        assert (counted["status"], counted["detail"]["source"]) == ("critical", "Prometheus")

        docker("pause", name)
        with within(CALL_TIMEOUT_SECONDS + SLACK_SECONDS + 1):
            stack_now = found(engine)
            paused = answers(monitoring.collectors(stack_now, settings()))
        assert paused["prometheus.ready"]["status"] == "critical"
        assert "seen paused" in paused["prometheus.ready"]["message"]
    finally:
        remove(name)


def test_alertmanager_itself(engine: Engine) -> None:
    need_image(ALERTMANAGER_IMAGE)
    name = start("alertmanager", ALERTMANAGER_IMAGE)
    try:
        until(
            lambda: (
                answers(monitoring.collectors(found(engine), CheckSettings()))[
                    "alertmanager.ready"
                ]["status"]
                == "ok"
            ),
            "Alertmanager is ready",
        )
    finally:
        remove(name)
