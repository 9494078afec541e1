# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx import (
    AccessLine,
    TlsServer,
    concrete_name,
    config_test,
    parse_access_line,
    tls_servers,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Target

TARGET = Target("nginx.config", "nginx")
COMBINED = (
    b'172.18.0.1 - - [24/Nov/2026:06:49:00 +0000] "GET /api/v1/detect?key=s HTTP/1.1" '
    b'502 157 "-" "curl/8.5.0"'
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (COMBINED, AccessLine(502, "/api/v1/detect", "curl/8.5.0")),
        (COMBINED + b' "10.0.0.1" rt=0.003', AccessLine(502, "/api/v1/detect", "curl/8.5.0")),
        (
            b'example.org:443 10.0.0.1 - bob [x] "POST /a HTTP/2.0" 200 -',
            AccessLine(200, "/a", ""),
        ),
        # A request that nginx could not read has no path
        (b'1.2.3.4 - - [x] "\\x16\\x03\\x01" 400 157 "-" "-"', AccessLine(400, "/", "-")),
        (b'1.2.3.4 - - [x] "" 408 0 "-" "-"', AccessLine(408, "/", "-")),
        (b"2026/11/24 06:49:00 [error] 29#29: *1 connect() failed", None),
        (b"", None),
        (b"/docker-entrypoint.sh: Configuration complete", None),
    ],
)
def test_parse_combined(line: bytes, expected: AccessLine | None) -> None:
    assert parse_access_line(line) == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            {"status": 503, "request_uri": "/a?b", "http_user_agent": "x"},
            AccessLine(503, "/a", "x"),
        ),
        ({"Status": "200", "request": "GET /b?c HTTP/1.1"}, AccessLine(200, "/b", "")),
        ({"status": "", "status_code": 404, "uri": "/c"}, AccessLine(404, "/c", "")),
        ({"status": "ready"}, None),
        ({"level": "info"}, None),
    ],
)
def test_parse_json(document: dict[str, object], expected: AccessLine | None) -> None:
    assert parse_access_line(json.dumps(document).encode()) == expected


def test_parse_json_that_is_none() -> None:
    assert parse_access_line(b'{"status": 500') is None


def test_config_test_passes() -> None:
    fine = config_test(
        TARGET, 0, "nginx: [warn] conflicting server name\nnginx: test is successful\n"
    )
    assert (fine.status, fine.message) == ("ok", "nginx -t passes, 1 warnings")
    assert fine.detail == ["nginx: [warn] conflicting server name"]
    assert config_test(TARGET, 0, "").detail is None


def test_only_nginx_itself_warns_in_a_dump() -> None:
    fine = config_test(
        TARGET,
        0,
        "nginx: [warn] conflicting server name\n"
        "2026/11/24 07:51:02 [warn] 15#15: low on address space\n"
        "nginx: configuration file /etc/nginx/nginx.conf test is successful\n"
        "# configuration file /etc/nginx/nginx.conf:\n"
        "error_log stderr warn;  # not debug: [warn] is enough\n",
    )
    assert fine.detail == [
        "nginx: [warn] conflicting server name",
        "2026/11/24 07:51:02 [warn] 15#15: low on address space",
    ]


@pytest.mark.parametrize(
    ("exit_code", "output", "status", "message"),
    [
        (
            1,
            'nginx: [warn] x\nnginx: [emerg] unknown directive "lisen" in /etc/nginx/a.conf:3\n'
            "nginx: configuration file /etc/nginx/nginx.conf test failed\n",
            "critical",
            'nginx -t fails: unknown directive "lisen" in /etc/nginx/a.conf:3',
        ),
        (
            1,
            "2026/11/24 07:51:02 [emerg] 15#15: host not found in upstream\n",
            "critical",
            "nginx -t fails: host not found in upstream",
        ),
        (1, "", "critical", "nginx -t fails: nothing"),
        (
            127,
            'exec: "nginx": executable file not found in $PATH',
            "unknown",
            'nginx cannot be run in the container: exec: "nginx": '
            "executable file not found in $PATH",
        ),
        (
            1,
            'nginx: [emerg] open() "/run/nginx.pid" failed (13: Permission denied)',
            "unknown",
            "nginx -t lacks a permission in the container: "
            'nginx: [emerg] open() "/run/nginx.pid" failed (13: Permission denied)',
        ),
    ],
)
def test_config_test_fails(exit_code: int, output: str, status: str, message: str) -> None:
    measured = config_test(TARGET, exit_code, output)
    assert (measured.status, measured.message) == (status, message)


DUMP = r"""
nginx: the configuration file /etc/nginx/nginx.conf syntax is ok
nginx: configuration file /etc/nginx/nginx.conf test is successful
2026/11/24 07:51:02 [warn] 15#15: the "user" directive { makes sense only
# configuration file /etc/nginx/nginx.conf:
user nginx; # a comment; with } marks {
http {
    ssl_certificate "/etc/nginx/ssl/default file.pem";
    log_format main '$remote_addr "{}" \'x\'';
    map $host $cert { default "/x.pem"; ~^(?<a>\w{2})\.b$ /y.pem; }
    include /etc/nginx/conf.d/*.conf;
}
# configuration file /etc/nginx/conf.d/a.conf:
server {
    listen 80 default_server;
    server_name _;
    return 301 https://$host$request_uri;
}
server {
    listen 443 ssl;
    listen [::]:443 ssl;
    listen unix:/run/nginx.sock ssl;
    listen 443 quic;
    server_name _ *.example.org ~^www\d+ Api.Example.org;
    ssl_certificate ssl/api.pem;
    ssl_certificate /etc/nginx/ssl/rsa.pem;
    ssl_certificate_key ssl/api.key;
    location ~ "^/x{2}" { proxy_pass http://up; }
}
server {
    listen 127.0.0.1:8443;
    ssl on;
}
server {
    listen 9443 ssl;
    ssl_certificate $cert;
    ssl_certificate data:$pem;
}
server { listen localhost ssl; listen [::1] ssl; }
upstream up { server pynomaly-api:8000; }
}
"""


def test_tls_servers() -> None:
    servers = tls_servers(DUMP)
    assert servers == [
        TlsServer(
            (443,),
            ("_", "*.example.org", r"~^www\d+", "Api.Example.org"),
            ("/etc/nginx/ssl/api.pem", "/etc/nginx/ssl/rsa.pem"),
        ),
        TlsServer((8443,), (), ("/etc/nginx/ssl/default file.pem",)),
        TlsServer((9443,), (), ()),
        TlsServer((80,), (), ("/etc/nginx/ssl/default file.pem",)),
    ]
    assert concrete_name(servers) == "api.example.org"


def test_no_tls_at_all() -> None:
    assert tls_servers("http { server { listen 80; server_name a.example; } }") == []
    assert concrete_name([TlsServer((443,), ("_", "localhost", "127.0.0.1"), ())]) is None


def test_a_dump_that_is_cut_off_or_odd_is_survived() -> None:
    assert tls_servers("http { server { listen 443 ssl; ssl_certificate /a.pem;") == [
        TlsServer((443,), (), ("/a.pem",))
    ]
    assert tls_servers("} } ; { } listen;") == []
