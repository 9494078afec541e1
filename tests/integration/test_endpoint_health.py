# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses asked by HTTP: one that answers, one that fails, one that hangs, and none at all."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from ansible_collections.pynomaly.ops.plugins.modules.endpoint_health_info import read


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = {"/moved": 308, "/broken": 503}.get(self.path, 200)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


def ask(*urls: str, failure_status: str = "critical") -> list[tuple[str, str]]:
    answer = read(
        {
            "urls": list(urls),
            "service": "controller",
            "failure_status": failure_status,
            "call_timeout_seconds": 1.0,
        }
    )
    assert len(answer["problems"]) == sum(one["status"] != "ok" for one in answer["results"])
    return [(one["status"], one["message"]) for one in answer["results"]]


def test_what_answers_and_what_does_not(port: int) -> None:
    base = f"http://127.0.0.1:{port}"
    found = ask(f"{base}/health", f"{base}/moved", f"{base}/broken")
    assert [status for status, _message in found] == ["ok", "ok", "critical"]
    assert f"{base}/broken: status 503" in found[2][1]


def test_a_closed_port_and_one_that_hangs_are_bounded() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        started = time.monotonic()
        found = ask(
            f"http://127.0.0.1:{silent.getsockname()[1]}/health",
            "http://127.0.0.1:9/health",
            failure_status="warning",
        )
        assert time.monotonic() - started < 3
    assert [status for status, _message in found] == ["warning", "warning"]
    assert "never answers" in found[0][1] and "refused" in found[1][1]


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="urls: ftp://x"):
        ask("ftp://x")
    with pytest.raises(ValueError, match="has a query"):
        ask("http://127.0.0.1/health?deep=1")
