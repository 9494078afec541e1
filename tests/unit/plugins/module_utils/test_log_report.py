# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import checked_networks
from ansible_collections.pynomaly.ops.plugins.module_utils._log_report import (
    Choice,
    build,
    example_text,
    findings,
    score,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._log_scan import (
    API,
    NGINX,
    POSTGRES,
    Scan,
    Settings,
    Suspect,
    parse_networks,
)

EVE, BOB = "203.0.113.7", "198.51.100.4"


def line(client: str, request: str, status: int = 404, agent: str = "curl/8") -> str:
    return (
        f"2026-11-24T10:00:00.1Z {client} - - [24/Nov/2026:10:00:00 +0000] "
        f'"{request} HTTP/1.1" {status} 5 "-" "{agent}"\n'
    )


def built(
    text: str, choice: Choice | None = None, kind: str = NGINX, **settings: Any
) -> dict[str, Any]:
    scan = Scan(Settings(**settings))
    scan.add(kind, text.encode())
    scan.end_source()
    return build(scan, choice or Choice())


ATTACK = line(EVE, "GET /.env", agent="sqlmap/1.8")


def test_an_offender_has_what_an_engineer_asks_for() -> None:
    answer = built(ATTACK * 3 + line(BOB, "GET /", 200))
    assert answer["block"] == EVE
    (one,) = answer["offenders"]
    assert one["address"] == EVE
    assert one["score"] == 70  # 40 for the agent, three probes
    assert one["requests"] == one["requests_at_most"] == 3
    assert one["statuses"] == {"4xx": 3, "404": 3}
    assert one["bytes"] == 15
    assert one["first_seen"] == one["last_seen"] == "2026-11-24T10:00:00Z"
    assert one["patterns"] == {"probe_path": 3, "scanner_agent": 3}
    assert one["sources"] == ["nginx"]
    assert one["examples"][0] == {
        "pattern": "scanner_agent",
        "text": "GET /.env HTTP/1.1 | sqlmap/1.8",
    }
    assert answer["remarks"] == []
    assert [one["address"] for one in answer["busiest"]] == [EVE, BOB]
    assert answer["clients"] == {
        "count": 2,
        "is_lower_bound": False,
        "requests_too_low_by_at_most": 0,
        "suspects_too_low_by_at_most": 0,
    }
    json.dumps(answer)


def test_the_line_to_block_is_taken_by_the_blocklist() -> None:
    text = ATTACK + ATTACK.replace(EVE, "2001:db8:0:1::9") + ATTACK.replace(EVE, "8.8.4.4")
    answer = built(text)
    names = answer["block"].split(",")
    assert sorted(names) == ["2001:db8:0:1::/64", EVE, "8.8.4.4"]
    assert len(checked_networks(names, [])) == 3


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "224.0.0.1", "172.18.0.5", "10.1.1.1"]
)
def test_who_is_never_blocked_and_why(address: str) -> None:
    never = [
        (network, why)
        for text, why in (("172.18.0.0/16", "of the engine's networks"), ("10.1.1.1", "a proxy's"))
        for network in parse_networks([text], "x")
    ]
    answer = built(ATTACK.replace(EVE, address), Choice(never_block=never))
    assert answer["block"] == ""
    (one,) = answer["offenders"]
    assert one["score"] >= 40
    assert one["why_not"]
    assert not one["block"]
    assert one["why_not"] in answer["remarks"][0]


def test_an_address_that_a_forged_line_names_is_told_and_not_blocked() -> None:
    forging = line(BOB, f"GET /a%0a{EVE}%20-%20-%20x")
    answer = built(ATTACK + forging)
    assert answer["block"] == BOB
    eve = next(one for one in answer["offenders"] if one["address"] == EVE)
    assert "forged" in eve["why_not"]


def test_the_score_to_block_is_a_choice() -> None:
    assert built(line(EVE, "GET /.env"))["block"] == ""
    assert built(line(EVE, "GET /.env"), Choice(block_score=10))["block"] == EVE


def test_what_was_asked_for_is_told_were_it_harmless() -> None:
    wanted = parse_networks([BOB], "addresses")
    answer = built(ATTACK + line(BOB, "GET /", 200), Choice(wanted=wanted), wanted=wanted)
    assert [one["address"] for one in answer["offenders"]] == [BOB]
    assert answer["offenders"][0]["score"] == 0
    assert answer["block"] == ""
    assert [one["address"] for one in answer["busiest"]] == [BOB]


def test_numbers_alone_make_brute_force_and_scanning() -> None:
    many, quick, scanner = Suspect(), Suspect(), Suspect()
    for number in range(10):
        many.add(b"2026-11-24T10:%02d:00" % number, "failed_login", b"")
    for _number in range(5):
        quick.add(b"2026-11-24T10:00:00", "failed_login", b"")
    for number in range(25):
        scanner.not_found(b"", b"/%d" % number)
    assert findings([many]) == {"failed_login": 10, "brute_force": 10}
    assert findings([quick]) == {"failed_login": 5, "brute_force": 5}
    assert findings([scanner])["scanning"] >= 20
    assert score(findings([many])) == 50
    assert score({"failed_login": 4}) == 4
    assert score({"jndi_injection": 100, "scanner_agent": 1, "redis_protocol": 1}) == 100


def test_behind_nginx_the_apis_access_log_makes_no_offenders() -> None:
    api = f'2026-11-24T10:00:00.1Z INFO:uvicorn.access:{EVE}:1 - "GET /.env HTTP/1.1" 404\n' * 9
    alone = built(api, kind=API)
    assert (alone["source"], alone["block"]) == ("api", EVE)
    scan = Scan(Settings())
    scan.add(API, api.encode())
    scan.add(NGINX, line(BOB, "GET /", 200).encode())
    answer = build(scan, Choice())
    assert (answer["source"], answer["block"], answer["requests"]) == ("nginx", "", 1)


def test_failed_passwords_without_an_address_are_told_with_what_to_do() -> None:
    text = (
        "2026-11-24T10:00:00.1Z 2026-11-24 10:00:00.123 UTC [7] FATAL:  password authentication "
        'failed for user "joe"\n'
    )
    answer = built(text * 4, kind=POSTGRES)
    assert answer["failed_logins"]["postgres"] == 4
    assert answer["failed_logins"]["postgres_without_address"] == 4
    assert any("log_connections=on" in one for one in answer["remarks"])


def test_where_somebody_was_forgotten_the_answer_says_so() -> None:
    text = "".join(line(f"198.18.{one // 250}.{one % 250}", "GET /", 200) for one in range(500))
    answer = built(text, clients_kept=20)
    assert answer["clients"]["is_lower_bound"]
    assert answer["clients"]["requests_too_low_by_at_most"] > 0
    assert any("more clients than can be kept" in one for one in answer["remarks"])
    first = answer["busiest"][0]
    assert first["requests_at_most"] > first["requests"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"GET /login?user=a&password=hunter2&x=1", "GET /login?user=a&password=***&x=1"),
        (b"GET /?access_token=abc123 HTTP/1.1", "GET /?access_token=*** HTTP/1.1"),
        (b"GET /?X-Amz-Signature=beef&a=1", "GET /?X-Amz-Signature=***&a=1"),
        (b"GET /?api_key%3Dcanary", "GET /?api_key%3D***"),
        (b"GET /?sessionid=canary", "GET /?sessionid=***"),
        (b"GET http://joe:canary@example.org/", "GET http://joe:***@example.org/"),
        (b"a\x00\xff\x1b[2Jb", "a\\x00\\xff\\x1b[2Jb"),
        ("a\u202eb".encode(), "a\\x202eb"),
    ],
)
def test_examples_are_printable_and_without_secrets(raw: bytes, expected: str) -> None:
    assert example_text(raw) == expected


def test_examples_are_short() -> None:
    assert len(example_text(b"x" * 10_000)) == 200


def test_tables_have_a_cell_for_each_column() -> None:
    for table in built(ATTACK + line(BOB, "GET /", 200))["tables"]:
        assert table["title"]
        assert table["rows"]
        assert all(len(row) == len(table["columns"]) for row in table["rows"])
