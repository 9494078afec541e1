# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._redaction import (
    Redactor,
    Secrets,
    is_harmless_name,
    is_secret_name,
    known_secrets,
    url_password,
)

KEY = b"k" * 32
SECRET = "canary/p@ss word'$1"


def redactor(*values: str, names: tuple[str, ...] = ()) -> Redactor:
    secrets = Secrets(frozenset(names))
    for value in values:
        secrets.add(value, "test")
    return Redactor(KEY, secrets)


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET),
        json.dumps(SECRET)[1:-1],
        SECRET.replace("$", "$$"),
        SECRET.replace("'", "''"),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_known_value_goes_however_it_is_written(form: str) -> None:
    one = redactor(SECRET)
    text = one.text(f"before {form} after\n".encode()).decode()
    assert form not in text
    assert text.startswith(f"before {one.marker(SECRET)}")
    assert text.rstrip("=\n ").endswith("after")
    assert one.counts == {"known value": 1}


def test_the_longer_of_two_secrets_goes_as_a_whole() -> None:
    one = redactor("canary1", "canary1-and-more")
    assert one.text(b"canary1-and-more\n") == one.marker("canary1-and-more").encode() + b"\n"


def test_markers_depend_on_the_value_and_the_key_alone() -> None:
    one, other = redactor(), Redactor(b"o" * 32, Secrets())
    assert one.marker("x") == redactor("something").marker("x")
    assert len({one.marker("x"), one.marker("y"), other.marker("x")}) == 3


SHAPES = [
    "connecting to postgresql://app:%s@db/orders now",
    "ALTER ROLE app WITH PASSWORD '%s';",
    "LOG:  statement: create user eve password E'%s' superuser",
    "host=db password='%s' user=app",
    "DB_PASSWORD=%s",
    'GET /login?user=bob&password=%s&next=/ HTTP/1.1" 200',
    '{"user": "bob", "api_key": "%s"}',
    "  password: %s",
    "Authorization: Bearer %s",
    "authorization=Basic %s",
    "redis-server --requirepass %s --port 6379",
    "redis-cli -a %s ping",
    "redis-cli -h redis -a%s ping",
    "sshpass -p %s ssh host",
    "curl -u admin:%s http://localhost/",
    "ACL SETUSER eve on >%s ~* +@all",
]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_unknown_secret_is_given_away_by_what_is_around_it(shape: str) -> None:
    one = redactor()
    before, after = shape.split("%s")
    text = one.text(f"first\n{shape % 'c4n4ryValue'}\nlast\n".encode()).decode()
    assert text == f"first\n{before}{one.marker('c4n4ryValue')}{after}\nlast\n"
    assert one.counts == {"shape": 1}


def test_all_of_a_cookie_goes() -> None:
    text = redactor().text(b"Set-Cookie: session=c4n4ry; Path=/\nlast\n").decode()
    assert text.startswith("Set-Cookie: <redacted:") and text.endswith(">\nlast\n")


@pytest.mark.parametrize(
    "secret",
    [
        "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy",
        "md5" + "0f" * 16,
        "$2b$12$" + "abcdefghij" * 5,
        "$6$rounds$" + "abcdefghij" * 5,
        "eyJhbGciOi.eyJzdWIiOiIx.c2lnbmF0dXJl",
        "ghp_abcdefghijklmnop",
        "#" + "0123456789abcdef" * 4,
    ],
)
def test_hashes_and_tokens_are_known_by_themselves(secret: str) -> None:
    one = redactor()
    text = one.text(f"user eve on {secret} ~*\n".encode()).decode()
    assert secret not in text and "<redacted:" in text


@pytest.mark.parametrize(
    "line",
    [
        '203.0.113.7 - - [24/Nov/2026:14:05:01 +0000] "GET /x?a=1 HTTP/1.1" 404 12 "https://a.b/"',
        'FATAL:  password authentication failed for user "bob"',
        "ERROR:app.auth.token:expired for user bob",
        "no password was given; secret santa",
        "2026/11/24 14:05:01 [error] 42#42: *1 open() failed",
        "42:M 24 Nov 2026 14:05:01.000 # Warning",
        "fetching https://example.org:8443/a?mail=x@y",
        '  "Authorization": null,',
        "image sha256:" + "0123456789abcdef" * 4,
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    one = redactor("canary-value-1", names=("postgres",))
    assert one.text(f"{line}\n".encode()) == f"{line}\n".encode()
    assert not one.counts


def test_a_private_key_goes_also_where_it_ends_in_another_block() -> None:
    one = redactor()
    first = one.text(b"see -----BEGIN RSA PRIVATE KEY-----\nAAAA\n")
    second = one.text(b"BBBB\n-----END RSA PRIVATE KEY-----\nafter\n")
    assert first + second == b"see <redacted: a private key>\nafter\n"


def test_what_claims_to_be_a_key_without_an_end_does_not_take_the_log_with_it() -> None:
    one = redactor()
    block = b"-----BEGIN PRIVATE KEY-----\n" + b"line\n" * 1000
    assert one.text(block).count(b"line\n") == 800


@pytest.mark.parametrize(
    "line",
    [
        b"token" + b"a" * 500_000,
        b"password" + b" " * 500_000,
        b"redis-cli " * 50_000,
        b"curl x " * 70_000,
        b"-eyJabcdef" * 50_000,
        b"a://b:c" * 70_000,
        b"password='" * 50_000,
        b"authorization: bearer " * 20_000,
        b"setuser >" * 50_000,
        b'"token' * 80_000,
        b"$6$" * 150_000,
    ],
)
def test_a_hostile_line_does_not_take_long(line: bytes) -> None:
    began = time.process_time()
    redactor("canary-value-1").text(line + b"\n")
    assert time.process_time() - began < 3


def test_documents_by_name_by_variable_and_by_option() -> None:
    one = redactor()
    document: dict[str, Any] = {
        "Env": [
            "PATH=/bin",
            "LOG_LEVEL=info",
            "DB_PASSWORD=c4n4ry",
            "FLAGS=c4n4ry",
            "DATABASE_URL=postgresql://app:c4n4ry@db/x",
            "SECRET_KEY_FILE=/run/secrets/key",
            "EMPTY=",
            "REDIS_URL=redis://redis-cluster:6379/0",
            "HOOK=https://h/c4n4ry",
        ],
        "Labels": {"api-token": "c4n4ry", "service": "api"},
        "Cmd": ["redis-server", "--requirepass", "c4n4ry", "--port", "6379"],
        "Args": ["redis-cli", "ACL", "SETUSER", "eve", "on", ">c4n4ry", "~*"],
        "Test": ["CMD", "redis-cli", "-a", "c4n4ry", "ping"],
        "nested": [{"auth": "c4n4ry"}],
        "Pid": 12,
    }
    found = one.document(document)
    marker = one.marker("c4n4ry")
    assert "c4n4ry" not in json.dumps(found)
    assert found["Env"] == [
        "PATH=/bin",
        "LOG_LEVEL=info",
        f"DB_PASSWORD={marker}",
        f"FLAGS={marker}",
        f"DATABASE_URL=postgresql://app:{marker}@db/x",
        "SECRET_KEY_FILE=/run/secrets/key",
        "EMPTY=",
        "REDIS_URL=redis://redis-cluster:6379/0",
        f"HOOK={one.marker('https://h/c4n4ry')}",
    ]
    assert found["Cmd"] == ["redis-server", "--requirepass", marker, "--port", "6379"]
    assert found["Args"][-2:] == [f">{marker}", "~*"]
    assert found["Test"] == ["CMD", "redis-cli", "-a", marker, "ping"]
    assert found["Labels"] == {"api-token": marker, "service": "api"}
    assert found["Pid"] == 12


def test_what_is_too_short_or_a_word_is_told_and_not_looked_for() -> None:
    secrets = Secrets(frozenset({"pynomaly"}))
    for value in ("abc", "12345678", "postgres", "pynomaly", "  ", ""):
        secrets.add(value, f"X={value}")
    assert secrets.known == {}
    assert secrets.unsearchable == {"X=abc", "X=12345678", "X=postgres", "X=pynomaly"}
    assert "abc" not in repr(redactor("abcdefghi")._secrets)


def test_what_environments_lead_to() -> None:
    files = {"/run/key": "c4n4ry-file\n", "/run/url": "postgresql://u:c4n4ry%2Furl@h/d"}
    environment = {
        "DB_PASSWORD": "c4n4ry-name",
        "BLOB": "c4n4ryblob1",
        "GREETING": "hello",
        "DATABASE_URL": "postgresql://u:c4n4ry%2Fplain@h/d",
        "SECRET_KEY_FILE": "/run/key",
        "DATABASE_URL_SECRET_FILE": "/run/url",
        "TOKEN_FILE": "/run/gone",
    }
    found = known_secrets([("api", environment)], (), lambda _source, path: files.get(path))
    assert set(found.known) == {
        *("c4n4ry-name", "c4n4ryblob1", "c4n4ry/plain", "c4n4ry%2Fplain"),
        *("c4n4ry-file", "c4n4ry/url", "c4n4ry%2Furl"),
    }
    assert found.unread == ["api: TOKEN_FILE names /run/gone, which could not be read"]


@pytest.mark.parametrize(
    ("value", "password"),
    [
        ("postgresql://u:p@h/d", "p"),
        ("redis://:p%40@h:6379/0", "p%40"),
        ("amqp://u:a/b@c@h/d", "a/b@c"),
        ("host=h password=p user=u", "p"),
        ("host=h password='p q' user=u", "p q"),
        ("https://h/d", ""),
        ("plain", ""),
    ],
)
def test_url_passwords(value: str, password: str) -> None:
    assert url_password(value) == password


def test_names() -> None:
    for name in ("POSTGRES_PASSWORD", "API_TOKEN", "SECRET_KEY", "GF_SECURITY_ADMIN_PASSWORD"):
        assert is_secret_name(name) and not is_harmless_name(name), name
    for name in ("PATH", "DB_HOST", "REDIS_PORT", "SECRET_KEY_FILE", "NGINX_VERSION"):
        assert is_harmless_name(name), name
    for name in ("auth_method", "author", "oauth_scopes"):
        assert not is_secret_name(name), name
    assert not is_harmless_name("FEATURE_BLOB")
