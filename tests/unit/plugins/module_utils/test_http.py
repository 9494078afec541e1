# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._http import (
    Endpoint,
    build_request,
    excerpt,
    known_secrets,
    loopback,
    parse_url,
    scrub,
    without_query,
)

CANARY = "c4nary-Secret-71"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://api.example", Endpoint("http", "api.example", 80)),
        ("https://api.example", Endpoint("https", "api.example", 443)),
        ("https://api.example:8443/v1/", Endpoint("https", "api.example", 8443, None, "/v1")),
        ("http://[::1]:8000", Endpoint("http", "::1", 8000)),
    ],
)
def test_parse_url(text: str, expected: Endpoint) -> None:
    assert parse_url(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "api.example:8000",
        "ftp://api.example",
        "http://",
        "http://api.example:99999",
        "http://api.example:eighty",
        "http://api.example/?q=1",
        "http://api.example/#top",
        "http://[::1",
    ],
)
def test_parse_url_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="expected http://HOST"):
        parse_url(text)


def test_parse_url_does_not_repeat_credentials() -> None:
    with pytest.raises(ValueError, match="carries credentials") as refused:
        parse_url(f"http://user:{CANARY}@api.example/")
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (Endpoint("http", "127.0.0.1", 8000), "localhost:8000"),
        (Endpoint("http", "127.0.0.1", 80), "localhost"),
        (Endpoint("https", "127.0.0.1", 443, "api.example"), "api.example"),
        (Endpoint("https", "127.0.0.1", 8443, "api.example"), "api.example:8443"),
        (Endpoint("http", "172.18.0.4", 8000), "172.18.0.4:8000"),
        (Endpoint("http", "fd00::4", 8000), "[fd00::4]:8000"),
    ],
)
def test_host_header(endpoint: Endpoint, expected: str) -> None:
    assert endpoint.host_header == expected


def test_url_brackets_an_ipv6_address() -> None:
    assert Endpoint("http", "::1", 8000, base_path="/v1").url("/health") == (
        "http://[::1]:8000/v1/health"
    )


def test_build_request_encodes_the_path_and_marks_itself() -> None:
    request = build_request(Endpoint("http", "127.0.0.1", 8000, base_path="/v 1"), "/ä?x=1", {})
    lines = request.decode("ascii").split("\r\n")
    assert lines[0] == "GET /v%201/%C3%A4?x=1 HTTP/1.1"
    assert "Host: localhost:8000" in lines
    assert "User-Agent: pynomaly-ops-check" in lines
    assert "Connection: close" in lines
    assert request.endswith(b"\r\n\r\n")


def test_build_request_always_asks_for_a_rooted_path() -> None:
    assert build_request(Endpoint("http", "a", 80), "health", {}).startswith(b"GET /health ")
    assert build_request(Endpoint("http", "a", 80), "", {}).startswith(b"GET / ")


def test_build_request_lets_no_second_request_in() -> None:
    endpoint = Endpoint("http", "127.0.0.1", 80)
    request = build_request(endpoint, "/health HTTP/1.1\r\nX: y", {})
    assert b"\r\nX: y" not in request
    with pytest.raises(ValueError, match="line break"):
        build_request(endpoint, "/", {"X": "a\r\nY: b"})


@pytest.mark.parametrize(
    ("host_ip", "expected"),
    [
        ("", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("10.0.0.5", "10.0.0.5"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_loopback(host_ip: str, expected: str) -> None:
    assert loopback(host_ip) == expected


def test_known_secrets_are_found_by_name_and_in_urls() -> None:
    environment = {
        "SECRET_KEY": CANARY,
        "DATABASE_URL": "postgresql+asyncpg://pynomaly:pw-in-url@postgres/pynomaly_prod",
        "REDIS_PASSWORD_FILE": "/run/secrets/redis",
        "API_TOKEN": "dev",
        "LOG_LEVEL": "informational",
    }
    assert known_secrets(environment) == [CANARY, "pw-in-url"]


@pytest.mark.parametrize(
    "text",
    [
        f"could not connect to postgresql://pynomaly:{CANARY}@postgres:5432/db",
        f"password={CANARY}",
        f'{{"redis_password": "{CANARY}", "status": "down"}}',
        f"Authorization: Bearer {CANARY}",
        f"api-key: {CANARY}",
        f"DB_PASSWD = '{CANARY}'",
        f"Basic {CANARY}",
    ],
)
def test_scrub_hides_what_looks_like_a_secret(text: str) -> None:
    assert CANARY not in scrub(text)
    assert "***" in scrub(text)


def test_scrub_hides_the_secrets_it_is_told() -> None:
    assert scrub(f"said {CANARY} twice {CANARY}", [CANARY]) == "said *** twice ***"


def test_scrub_leaves_ordinary_text_alone() -> None:
    text = '{"status": "unhealthy", "database": "connection refused"}'
    assert scrub(text) == text


def test_excerpt_is_one_printable_line_of_bounded_length() -> None:
    assert excerpt(b"a\n\x1b[31m b\xff") == "a [31m b\ufffd"
    assert excerpt("x" * 121) == "x" * 119 + "…"
    assert len(excerpt("x" * 5000)) == 120
    assert excerpt("x" * 120) == "x" * 120


def test_excerpt_never_shows_half_of_a_secret() -> None:
    assert CANARY[:5] not in excerpt("x" * 110 + f" password={CANARY}")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a?b=c", "/a"),
        ("/a#b", "/a"),
        ("http://host/a/b?c", "/a/b"),
        ("http://host", "/"),
        ("", "/"),
    ],
)
def test_without_query(target: str, expected: str) -> None:
    assert without_query(target) == expected
