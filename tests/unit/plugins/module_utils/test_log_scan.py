# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import pickle
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._log_patterns import (
    agent_patterns,
    request_patterns,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._log_scan import (
    API,
    MAX_LINE_BYTES,
    NGINX,
    POSTGRES,
    REDIS,
    HeavyHitters,
    Lines,
    Scan,
    Settings,
    parse_networks,
    postgres_prefix_pattern,
    record_facts,
    requests_of,
)

EVE, BOB, VICTIM = "203.0.113.7", "198.51.100.4", "192.0.2.9"
AT = "2026-11-24T10:00:00"


def access(
    client: str = EVE,
    request: str = "GET /health HTTP/1.1",
    status: int = 200,
    size: int = 10,
    *,
    at: str = AT,
    user: str = "-",
    referrer: str = "-",
    agent: str = "curl/8.5.0",
    tail: str = "",
) -> bytes:
    """A line of nginx's combined format, as the engine stamps it."""
    return (
        f'{at}.123456789Z {client} - {user} [24/Nov/2026:09:00:00 +0000] "{request}" '
        f'{status} {size} "{referrer}" "{agent}"{tail}\n'
    ).encode()


def stamped(text: str, at: str = AT) -> bytes:
    return f"{at}.000000001Z {text}\n".encode()


def scanned(kind: str, *lines: bytes, stream: str = "", **settings: Any) -> Scan:
    scan = Scan(Settings(**settings))
    scan.add(kind, b"".join(lines), stream)
    scan.end_source()
    return scan


def found(scan: Scan, kind: str = NGINX) -> dict[str, dict[str, int]]:
    return {key: dict(one.counts) for key, one in scan.suspects[kind].records.items() if one.counts}


def requests(scan: Scan, kind: str = NGINX) -> dict[str, int]:
    return {key: requests_of(record) for key, record in scan.clients[kind].records.items()}


def sent(scan: Scan) -> Scan:
    """As it comes from another process."""
    again: Scan = pickle.loads(pickle.dumps(scan))  # noqa: S301
    return again


# Against a reference


def reference(lines: Iterable[bytes], login_paths: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The same figures in the plainest way: each line by itself, taken apart by its quotes."""
    clients: dict[str, dict[str, Any]] = defaultdict(
        lambda: {
            "statuses": Counter(), "bytes": 0, "patterns": Counter(), "paths": set(), "seen": set(),
            "logins": Counter(),
        }
    )  # fmt: skip
    for line in lines:
        head, request, numbers, referrer, _space, agent = line.rstrip(b"\n").split(b'"')[:6]
        stamp, client = head.split()[:2]
        status, size = numbers.split()
        one = clients[str(ipaddress.ip_address(client.decode()))]
        one["statuses"][status.decode()] += 1
        one["bytes"] += int(size)
        one["seen"].add(stamp[:19])
        one["patterns"].update(request_patterns(request, served=status[:1] == b"2"))
        for field in (referrer, agent):
            if field != b"-":
                one["patterns"].update(agent_patterns(field))
        path = request.split(b" ")[1].split(b"?")[0]
        if status == b"404":
            one["paths"].add(path)
        if status in (b"401", b"403", b"422") and any(
            part.encode() in path.lower() for part in login_paths
        ):
            one["patterns"]["failed_login"] += 1
            one["logins"][stamp[:16]] += 1
    return clients


TARGETS = [
    *(
        "/",
        "/health",
        "/api/v1/detect",
        "/api/v1/detections?limit=5",
        "/static/app.3f.js",
        "/login",
    ),
    *("/api/v1/auth/token", "/.env", "/wp-login.php", "/actuator/env", "/a/b?x=1.5&y=16%3A30"),
    *("/?id=1+union+select+2", "/..%2f..%2fetc/passwd", "/?x=${jndi:ldap://y}", "/?q=%3Cscript%3E"),
    *("/caf%C3%A9", "/a.b/c", "/favicon.ico", "/?q=it%27s"),
]
AGENTS = [
    *("curl/8.5.0", "-", "Mozilla/5.0 (X11; Linux x86_64)", "sqlmap/1.8", "python-requests/2.32"),
    r"a\x22b",
]


def random_log(seed: int, count: int) -> list[bytes]:
    source = random.Random(seed)  # noqa: S311
    clients = [f"203.0.113.{number}" for number in range(1, 40)]
    lines = []
    for number in range(count):
        second = number // 20
        target = source.choice(TARGETS)
        if source.random() < 0.2:
            target = f"/missing/{source.randrange(60)}"
        lines.append(
            access(
                source.choice(clients),
                f"{source.choice(['GET', 'POST', 'PUT', 'TRACE'])} {target} HTTP/1.1",
                source.choice(
                    [200, 200, 200, 204, 301, 308, 400, 401, 403, 404, 404, 422, 500, 502]
                ),
                source.randrange(5000),
                at=f"2026-11-24T10:{second // 60:02d}:{second % 60:02d}",
                user=source.choice(["-", "-", "joe"]),
                referrer=source.choice(["-", "https://example.org/?a=b", "<script>", "it's"]),
                agent=source.choice(AGENTS),
                tail=source.choice(["", ' "-"', ' "10.0.0.9"', " request_time=0.1 upstream=a"]),
            )
        )
    return lines


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pieces", [1, 3])
def test_random_logs_give_what_the_reference_gives(seed: int, pieces: int) -> None:
    lines = random_log(seed, 4000)
    settings = Settings()
    expected = reference(lines, tuple(one.decode() for one in settings.login_paths))
    scan = Scan(settings)
    bounds = [piece * len(lines) // pieces for piece in range(pieces + 1)]
    for start, end in zip(bounds, bounds[1:]):  # as several processes scan several parts
        part = Scan(settings)
        part.add(NGINX, b"".join(lines[start:end]))
        scan.merge(sent(part))

    assert scan.not_understood == {}
    assert scan.access_lines[NGINX] == len(lines)
    assert set(requests(scan)) == set(expected)
    for key, one in expected.items():
        facts = record_facts(scan.clients[NGINX].records[key])
        assert facts["requests"] == sum(one["statuses"].values())
        assert facts["bytes"] == one["bytes"]
        assert facts["first"] == min(one["seen"])
        assert facts["last"] == max(one["seen"])
        for code, count in one["statuses"].items():
            if code in facts["statuses"]:
                assert facts["statuses"][code] == count
        assert facts["statuses"]["4xx"] == sum(
            count for code, count in one["statuses"].items() if code[0] == "4"
        )
        suspect = scan.suspects[NGINX].records[key]
        assert suspect.counts == dict(one["patterns"])
        # A lower bound, and near.
        assert len(one["paths"]) * 0.8 <= suspect.paths_not_found <= len(one["paths"])
        fastest = max(one["logins"].values(), default=0)
        # A minute that two processes share is counted by each.
        assert fastest / min(pieces, 2) <= suspect.logins_per_minute <= fastest
    total = sum((one["statuses"] for one in expected.values()), Counter())
    assert scan.statuses(NGINX)["404"] == total["404"]
    assert scan.statuses(NGINX)["2xx"] == total["200"] + total["204"]


def test_a_plain_line_and_its_slow_way_say_the_same() -> None:
    """One user name with a blank in it is enough for the slow way."""
    fast = scanned(NGINX, access(status=401, request="POST /login HTTP/1.1", size=7))
    slow = scanned(NGINX, access(status=401, request="POST /login HTTP/1.1", size=7, user="a b"))
    assert requests(fast) == requests(slow) == {EVE: 1}
    assert found(fast) == found(slow) == {EVE: {"failed_login": 1}}
    assert record_facts(fast.clients[NGINX].records[EVE]) == record_facts(
        slow.clients[NGINX].records[EVE]
    )


# Bounds


def test_without_forgetting_every_figure_is_exact() -> None:
    scan = scanned(NGINX, *(access(f"198.18.0.{number}") for number in range(200)))
    assert scan.clients[NGINX].error == 0
    assert len(requests(scan)) == 200


@pytest.mark.parametrize("parts", [1, 4])
def test_heavy_hitters_are_kept_within_the_stated_bound(parts: int) -> None:
    source = random.Random(5)  # noqa: S311
    kept = 50
    truth: Counter[str] = Counter()
    settings = Settings(clients_kept=kept)
    whole = Scan(settings)
    for _part in range(parts):
        lines = []
        for _number in range(5000):
            number = int(source.paretovariate(0.4)) % 60_000
            client = f"100.{64 + number // 65536}.{number // 256 % 256}.{number % 256}"
            truth[client] += 1
            lines.append(access(client))
        scan = Scan(settings)
        scan.add(NGINX, b"".join(lines))
        whole.merge(scan)
    hitters = whole.clients[NGINX]
    total = sum(truth.values())
    assert 0 < hitters.error <= total / (kept + 1)
    assert len(hitters.records) <= 2 * kept
    for client, count in truth.items():
        told = requests(whole).get(client, 0)
        assert told <= count <= hitters.most(client)
        if count > total / (kept + 1):
            assert client in hitters.records
    # Sums are exact all the same.
    assert whole.statuses(NGINX) == {"2xx": total}


def test_a_quiet_attacker_is_not_forgotten_over_many_busy_clients() -> None:
    lines = [access(request="GET /.env HTTP/1.1", status=404)] * 5
    lines += [access(f"198.18.{number // 250}.{number % 250}") for number in range(2000)] * 3
    scan = scanned(NGINX, *lines, clients_kept=100)
    assert scan.clients[NGINX].error > 0
    assert EVE not in requests(scan)
    assert found(scan) == {EVE: {"probe_path": 5}}
    assert scan.suspects[NGINX].error == 0


def test_whoever_is_asked_for_is_never_forgotten() -> None:
    lines = [
        access(),
        *(access(f"198.18.{one // 250}.{one % 250}") for one in range(1000)),
        access(),
    ]
    scan = scanned(NGINX, *lines, clients_kept=20, wanted=parse_networks([EVE], "addresses"))
    assert requests(scan)[EVE] == 2
    assert scan.clients[NGINX].most(EVE) == 2


def test_whoever_asks_for_everybody_gets_no_more_than_can_be_kept() -> None:
    lines = [access(f"198.18.{one // 250}.{one % 250}") for one in range(1000)]
    scan = scanned(
        NGINX, *lines, clients_kept=20, wanted=parse_networks(["0.0.0.0/0"], "addresses")
    )
    assert len(requests(scan)) <= 3 * 20


def test_suspects_have_a_bound_too() -> None:
    lines = [
        access(f"198.18.{one // 250}.{one % 250}", "GET /.env HTTP/1.1", 404) for one in range(2000)
    ]
    scan = scanned(NGINX, *lines, *[access(request="GET /.git/x HTTP/1.1")] * 50, suspects_kept=100)
    hitters = scan.suspects[NGINX]
    assert len(hitters.records) <= 200
    assert hitters.error > 0
    assert hitters.records[EVE].counts["probe_path"] == 50
    assert scan.found[NGINX] == {"probe_path": 2050}


def test_forgetting_keeps_the_heaviest() -> None:
    hitters: HeavyHitters[list[Any]] = HeavyHitters(2)
    for key, count in (("a", 9), ("b", 5), ("c", 4), ("d", 1)):
        hitters.records[key] = [key, 0, b"", b"", 0, count]
    assert [record[0] for record in hitters.prune()] == ["c", "d"]
    assert hitters.error == 4
    assert (hitters.most("a"), hitters.most("b"), hitters.most("c")) == (9, 5, 4)


# Who the client is


def test_what_a_request_says_of_its_origin_does_not_count() -> None:
    scan = scanned(
        NGINX,
        access(request=f"GET /?ip={VICTIM} HTTP/1.1", agent=f"sqlmap {VICTIM}", referrer=VICTIM),
        access(tail=f' "{VICTIM}"', request="GET /.env HTTP/1.1"),
        access(user=f"{VICTIM} - - [x]", request="GET /.env HTTP/1.1"),
    )
    assert requests(scan) == {EVE: 3}
    assert found(scan) == {EVE: {"scanner_agent": 1, "probe_path": 2}}


def test_a_trusted_proxy_names_the_client_and_nobody_else_does() -> None:
    proxy = "10.9.0.1"
    lines = [
        access(proxy, "GET /.env HTTP/1.1", tail=f' "{VICTIM}, {EVE}"'),
        access(proxy, tail=f' "{EVE}, 10.9.0.2"'),
        access(proxy, tail=' "nonsense"'),
        access(proxy, tail=' "-"'),
        access(BOB, tail=f' "{VICTIM}"'),
    ]
    trusted = parse_networks(["10.9.0.0/24"], "trusted_proxies")
    scan = scanned(NGINX, *lines, trusted_proxies=trusted)
    assert requests(scan) == {EVE: 2, proxy: 2, BOB: 1}
    assert found(scan) == {EVE: {"probe_path": 1}}
    assert requests(scanned(NGINX, *lines)) == {proxy: 4, BOB: 1}


def test_ipv6_clients_are_one_by_their_64_unless_asked_for() -> None:
    lines = [access(f"2001:db8:0:1::{number:x}") for number in range(1, 9)] + [
        access("::ffff:203.0.113.7")
    ]
    assert requests(scanned(NGINX, *lines)) == {"2001:db8:0:1::/64": 8, EVE: 1}
    wanted = parse_networks(["2001:db8:0:1::3"], "addresses")
    assert requests(scanned(NGINX, *lines, wanted=wanted)) == {
        "2001:db8:0:1::/64": 7,
        "2001:db8:0:1::3": 1,
        EVE: 1,
    }


def test_lines_whose_client_is_none_are_told_of() -> None:
    scan = scanned(NGINX, access("999.1.1.1"), access("unix:"), access("example.org"), b"\n")
    assert requests(scan) == {}
    assert scan.not_understood == {NGINX: 3}


# Time


def test_times_are_the_engines_whatever_a_line_says() -> None:
    scan = scanned(
        NGINX,
        access(at="2026-11-24T10:00:00"),
        access(at="2026-11-24T11:30:00", request="GET /1999-01-01T00:00:00Z HTTP/1.1", status=404),
    )
    facts = record_facts(scan.clients[NGINX].records[EVE])
    assert (facts["first"], facts["last"]) == (b"2026-11-24T10:00:00", b"2026-11-24T11:30:00")
    assert (scan.first, scan.last) == (b"2026-11-24T10:00:00", b"2026-11-24T11:30:00")


def test_without_a_stamp_there_is_no_time() -> None:
    scan = scanned(NGINX, access().split(b" ", 1)[1])
    assert requests(scan) == {EVE: 1}
    assert record_facts(scan.clients[NGINX].records[EVE])["first"] == b""
    assert scan.without_stamp == 1


# Hostile lines


def test_a_line_of_a_megabyte_nuls_and_bytes_that_are_no_text() -> None:
    monster = stamped("\x00" * 1_000_000)
    binary = b'2026-11-24T10:00:00.1Z \xff\xfe\x00 - - [\xff] "\x00" 200 1\n'
    lines = Lines()
    scan = Scan(Settings())
    data = access() + monster + binary + access(BOB)
    began = time.process_time()
    chunks = [
        chunk
        for start in range(0, len(data), 4096)
        for chunk in lines.feed(data[start : start + 4096])
    ]
    for chunk in [*chunks, *lines.finish()]:
        assert len(chunk) <= MAX_LINE_BYTES + 8192
        scan.add(NGINX, chunk)
    assert time.process_time() - began < 5
    assert requests(scan) == {EVE: 1, BOB: 1}


@pytest.mark.parametrize("size", [1, 7, 100, 65536, 10**6])
def test_chunks_have_whole_lines_whatever_the_blocks(size: int) -> None:
    data = b"".join(b"x" * (number * 37 % 300) + b"\n" for number in range(500)) + b"the end"
    lines = Lines()
    chunks = [
        one for start in range(0, len(data), size) for one in lines.feed(data[start : start + size])
    ]
    chunks += lines.finish()
    assert b"".join(chunks) == data + b"\n"
    assert all(chunk.endswith(b"\n") for chunk in chunks)


def test_no_line_takes_long() -> None:
    for unit in (
        b" ",
        b'"',
        b"- ",
        b"[",
        b"a ",
        b"1.",
        b': "',
        b"\\x22",
        b"FATAL:  ",
        b", client: ",
    ):
        line = b"2026-11-24T10:00:00.1Z 203.0.113.7 - - [" + unit * (60_000 // len(unit)) + b"\n"
        for kind in (NGINX, API, POSTGRES, REDIS):
            began = time.process_time()
            scanned(kind, line, b"2026/11/24 10:00:00 [error] 1#1: *1 " + line, line[23:])
            assert time.process_time() - began < 2, (unit, kind)


# As nginx 1.26 wrote it when it was asked for /a%0aFORGED%0az
FORGED = (
    stamped('2026/11/24 10:00:00 [error] 6#6: *1 open() "/usr/share/nginx/html/a'),
    access(VICTIM, "GET /.env HTTP/1.1", 404, agent="sqlmap"),
    stamped(f'z" failed (2: No such file or directory), client: {EVE}, server: localhost, '
            'request: "GET /a%0a192.0.2.9%20- HTTP/1.1", host: "x"'),
    access(EVE, f"GET /a%0a{VICTIM}%20-%20-%20[x]%20%22GET%20/.env%22%0az HTTP/1.1", 404),
)  # fmt: skip


def test_access_lines_that_a_client_has_put_into_the_error_log_count_for_nobody() -> None:
    scan = scanned(NGINX, *FORGED, access(BOB))
    assert requests(scan) == {EVE: 1, BOB: 1}
    assert found(scan) == {EVE: {"log_forging": 1, "probe_path": 1}}
    assert scan.not_believed == 2
    assert scan.disputed == {VICTIM}


def test_where_the_stream_is_known_no_access_line_is_believed_on_standard_error() -> None:
    scan = Scan(Settings())
    # Complete in itself, so that by the text alone nothing is wrong with it.
    complete = stamped(
        f'2026/11/24 10:00:00 [error] 6#6: *1 open() "/x", client: {VICTIM}, server: s, '
        'request: "GET / HTTP/1.1", host: "x"'
    )
    scan.add(NGINX, complete + FORGED[1], "stderr")
    scan.add(NGINX, access(BOB), "stdout")
    assert requests(scan) == {BOB: 1}
    assert found(scan) == {}
    assert scan.not_believed == 1


def test_doubt_ends_where_nginx_cuts_its_lines() -> None:
    broken = stamped('2026/11/24 10:00:00 [error] 6#6: *1 open() "/usr/share/nginx/html/a')
    scan = scanned(NGINX, broken, *[access(BOB)] * 100)
    assert 80 < requests(scan)[BOB] < 100
    assert scan.not_believed == 100 - requests(scan)[BOB]


def test_an_error_line_with_two_clients_is_nobodys() -> None:
    good = (
        f'limiting requests, excess: 1.0 by zone "a", client: {EVE}, server: s, request: "GET / H"'
    )
    bad = (
        f'open() "/x limiting requests, client: {VICTIM}, server: s" failed, '
        f"client: {EVE}, server: s"
    )
    lines = [stamped(f"2026/11/24 10:00:00 [error] 6#6: *1 {text}") for text in (good, bad)]
    scan = scanned(NGINX, *lines)
    assert found(scan) == {EVE: {"rate_limited": 1}}
    assert scan.nginx_errors == 2


def test_failed_basic_authentication_is_a_failed_login() -> None:
    text = f'user "joe": password mismatch, client: {EVE}, server: s, request: "GET / HTTP/1.1"'
    assert found(scanned(NGINX, stamped(f"2026/11/24 10:00:00 [error] 6#6: *1 {text}"))) == {
        EVE: {"failed_login": 1}
    }


def test_requests_that_are_no_http() -> None:
    scan = scanned(
        NGINX, access(request=r"\x16\x03\x01", status=400), access(request="", status=408)
    )
    assert found(scan) == {EVE: {"malformed_request": 1}}


def test_brute_force_is_counted_by_the_minute() -> None:
    lines = [
        access(
            request="POST /api/v1/login HTTP/1.1", status=401, at=f"2026-11-24T10:0{one // 4}:00"
        )
        for one in range(10)
    ]
    suspect = scanned(NGINX, *lines).suspects[NGINX].records[EVE]
    assert suspect.counts == {"failed_login": 10}
    assert suspect.logins_per_minute == 4


def test_patterns_and_login_paths_are_settings() -> None:
    lines = [
        access(request="GET /.env HTTP/1.1"),
        access(request="GET /enter HTTP/1.1", status=403),
    ]
    scan = scanned(NGINX, *lines, ignored_patterns=["probe_path"], login_paths=["/ENTER"])
    assert found(scan) == {EVE: {"failed_login": 1}}


def test_an_access_log_in_json() -> None:
    text = (
        '{"remote_addr":"203.0.113.7","request_method":"GET","request_uri":"/.env","status":"404",'
        '"body_bytes_sent":"12","http_user_agent":"sqlmap"}'
    )
    scan = scanned(NGINX, stamped(text), stamped('{"a": 1}'), stamped("{broken"))
    assert found(scan) == {EVE: {"scanner_agent": 1, "probe_path": 1}}
    assert scan.not_understood == {NGINX: 2}


# The API


def test_the_access_log_of_uvicorn() -> None:
    scan = scanned(
        API,
        stamped(f'INFO:uvicorn.access:{EVE}:40000 - "POST /api/v1/login HTTP/1.1" 401'),
        stamped(f'INFO:     {EVE}:40001 - "GET /?id=1+union+select+1 HTTP/1.1" 200 OK'),
        stamped('INFO:     2001:db8::7:40001 - "GET /health HTTP/1.1" 200 OK'),
        stamped("WARNING:pynomaly.auth:authentication failed for user joe from 192.0.2.9"),
        stamped("INFO:pynomaly.api:started"),
    )
    assert requests(scan, API) == {EVE: 2, "2001:db8::/64": 1}
    assert found(scan, API) == {EVE: {"failed_login": 1, "sql_injection": 1}}
    assert scan.api_failed_login_lines == 1
    assert scan.not_understood == {}


def test_a_line_of_nginx_in_another_log_is_none() -> None:
    for kind in (API, POSTGRES, REDIS):
        scan = scanned(kind, access(VICTIM, "GET /.env HTTP/1.1", 404, agent="sqlmap"))
        assert requests(scan) == requests(scan, API) == {}
        assert not any(found(scan, one) for one in (NGINX, API, POSTGRES, REDIS))


# PostgreSQL, Redis


def postgres(text: str, prefix: str = "2026-11-24 10:00:00.123 UTC [77] ") -> bytes:
    return stamped(prefix + text)


DENIED = 'FATAL:  password authentication failed for user "joe"'
NO_ENTRY = f'FATAL:  no pg_hba.conf entry for host "{EVE}", user "joe", database "d", no encryption'


def test_postgres_names_the_client_in_its_prefix() -> None:
    for prefix, text in (
        ("%m [%p] %h ", f"2026-11-24 10:00:00.123 UTC [77] {EVE} "),
        ("%m [%p] %u@%d %r ", f"2026-11-24 10:00:00.123 UTC [77] joe@db {EVE}(40000) "),
        ("%t:%r:%u@%d:[%p]: ", f"2026-11-24 10:00:00 UTC:{EVE}(40000):joe@db:[77]: "),
        ("%m [%p] %q%u@%d/%a %h ", f"2026-11-24 10:00:00.123 UTC [77] joe@db/psql {EVE} "),
    ):
        scan = scanned(
            POSTGRES, postgres(DENIED, text), postgres("LOG:  done", text), postgres_prefix=prefix
        )
        assert found(scan, POSTGRES) == {EVE: {"postgres_password": 1}}, prefix


def test_postgres_names_the_client_in_connection_received() -> None:
    other = "2026-11-24 10:00:00.124 UTC [78] "
    scan = scanned(
        POSTGRES,
        postgres(f"LOG:  connection received: host={EVE} port=40000"),
        postgres(f"LOG:  connection received: host={BOB} port=40000", other),
        postgres(DENIED),
        postgres('DETAIL:  Role "joe" does not exist.'),
        stamped('\tConnection matched file "pg_hba.conf" line 9: "host all all all md5"'),
        postgres(DENIED),
        postgres("LOG:  checkpoint complete"),
    )
    assert found(scan, POSTGRES) == {EVE: {"postgres_password": 1}}
    assert scan.postgres_unattributed == {"postgres_password": 1}


def test_postgres_names_the_client_that_pg_hba_refuses() -> None:
    scan = scanned(POSTGRES, postgres(NO_ENTRY), postgres("LOG:  x"))
    assert found(scan, POSTGRES) == {EVE: {"postgres_no_entry": 1}}


@pytest.mark.parametrize(
    "lines",
    [
        # A user by the name of an address, in a prefix without %h
        [postgres(DENIED, f"2026-11-24 10:00:00.123 UTC [77] {VICTIM}@d "), postgres("LOG:  x")],
        # Twice FATAL: one is in the user's name
        [postgres(f'{NO_ENTRY} FATAL:  password authentication failed for user "y"')],
        # As PostgreSQL 17 wrote it for a user's name with a line break, in a prefix with %u
        [
            stamped("2026-11-24 10:00:00.123 UTC [77] x"),
            postgres(NO_ENTRY.replace(EVE, VICTIM)),
            stamped(f'@postgres {EVE} FATAL:  password authentication failed for user "x'),
        ],
        # Goes on with the line before
        [stamped("\t2026-11-24 10:00:00.123 UTC [77] " + NO_ENTRY)],
    ],
)
def test_nobody_is_named_by_a_users_name(lines: list[bytes]) -> None:
    assert found(scanned(POSTGRES, *lines), POSTGRES) == {}


def test_a_prefix_may_have_any_escape() -> None:
    pattern = postgres_prefix_pattern("%m [%p] %l %u@%d %a %h %% %e: ")
    assert pattern.match(
        b"2026-11-24 10:00:00.123 UTC [77] 1 joe@d psql 203.0.113.7 % 28P01: FATAL"
    )


def test_redis_tells_of_web_requests() -> None:
    text = (
        "1:M 24 Nov 2026 10:00:00.000 # Possible SECURITY ATTACK detected. It looks like somebody "
        "is sending POST or Host: commands to Redis. This is likely due to an attacker attempting "
        "to use Cross Protocol Scripting to compromise your Redis instance. Connection from {} "
        "aborted."
    )
    scan = scanned(
        REDIS, stamped(text.format(f"{EVE}:40000")), stamped(text.format("[2001:db8::7]:1"))
    )
    assert found(scan, REDIS) == {
        EVE: {"redis_protocol": 1},
        "2001:db8::/64": {"redis_protocol": 1},
    }


def test_a_scan_that_was_sent_is_the_same() -> None:
    scan = scanned(NGINX, *FORGED)
    again = sent(scan)
    assert requests(again) == requests(scan)
    assert found(again) == found(scan)
    empty = Scan(Settings())
    empty.merge(again)
    assert (empty.first, empty.last, empty.lines) == (scan.first, scan.last, scan.lines)
