# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import ipaddress
import json
import re

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    Container,
    Mount,
    PublishedPort,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance import (
    Front,
    MaintenanceError,
    NoPageError,
    Page,
    at_or_after,
    describe_fragment,
    end_time,
    find_hook,
    fragment,
    host_path,
    html_page,
    is_past,
    json_page,
    network_pattern,
    page_lines,
    parse_duration,
    parse_networks,
    path_pattern,
)

NOW = datetime.datetime(2026, 11, 24, 10, 0, tzinfo=datetime.timezone.utc)
UNTIL = NOW + datetime.timedelta(minutes=30)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("24h", 86400), ("2d", 172800), ("1h30m", 5400), (" 5M ", 300)],
)
def test_parse_duration(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "30m1h", "1.5h", "soon", "0x1m"])
def test_parse_duration_refuses(text: str) -> None:
    with pytest.raises(MaintenanceError, match="for: seen"):
        parse_duration(text)


def test_end_time() -> None:
    assert end_time("30m", "", NOW) == UNTIL
    assert end_time("30m", "2026-11-24T12:00:00+01:00", NOW) == NOW + datetime.timedelta(hours=1)


@pytest.mark.parametrize(
    ("duration", "until", "told"),
    [
        ("0s", "", "to come"),
        ("1h", "2026-11-24T09:59:00Z", "to come"),
        ("8d", "", "7 days at most"),
        ("1h", "tomorrow", "until: seen"),
    ],
)
def test_end_time_refuses(duration: str, until: str, told: str) -> None:
    with pytest.raises(MaintenanceError, match=told):
        end_time(duration, until, NOW)


@pytest.mark.parametrize("epoch", [0, 7, 9, 10, 99, 100, 1999, 9989, 1764000000, 1799999999])
def test_at_or_after(epoch: int) -> None:
    pattern = re.compile(f"^{at_or_after(epoch)}\\Z")
    near = {epoch - 1, epoch, epoch + 1, epoch + 10, epoch + 99, epoch * 10, epoch // 10, 2 * epoch}
    for number in near | set(range(max(0, epoch - 1100), epoch + 1100)):
        if number >= 0:
            assert bool(pattern.match(str(number))) is (number >= epoch), number


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("203.0.113.7", ["203.0.113.7", "::ffff:203.0.113.7"], ["203.0.113.6", "::203.0.113.7"]),
        (
            "10.0.0.0/8",
            ["10.10.10.10", "10.0.0.0", "10.255.255.255"],
            ["11.0.0.0", "9.255.255.255"],
        ),
        ("10.10.10.8/29", ["10.10.10.8", "10.10.10.10", "10.10.10.15"], ["10.10.10.16"]),
        ("0.0.0.0/1", ["0.0.0.0", "127.255.255.255"], ["128.0.0.0"]),
        ("2001:db8::/33", ["2001:db8:7fff::a"], ["2001:db8:8000::", "32.1.13.184"]),
        ("::1", ["::1"], ["::2", "0.0.0.1"]),
    ],
)
def test_network_pattern(network: str, inside: list[str], outside: list[str]) -> None:
    text = network_pattern(ipaddress.ip_network(network))
    pattern = re.compile(text.replace("\\z", "\\Z").encode(), re.DOTALL)
    for address in inside:
        assert pattern.match(ipaddress.ip_address(address).packed), address
    for address in outside:
        assert not pattern.match(ipaddress.ip_address(address).packed), address


def test_parse_networks() -> None:
    assert [str(one) for one in parse_networks(["192.0.2.1 ", "2001:db8::/48", "192.0.2.1"])] == [
        "192.0.2.1/32",
        "2001:db8::/48",
    ]
    for text in ("office", "192.0.2.1/24", "", "192.0.2.256", "0.0.0.0/0", "::/0"):
        with pytest.raises(MaintenanceError, match="allow: seen"):
            parse_networks([text])
    with pytest.raises(MaintenanceError, match="at most"):
        parse_networks(f"10.0.{high}.{low}" for high in range(2) for low in range(200))


def test_path_pattern() -> None:
    assert path_pattern("/health") == "^/health(?:[?]|\\z)"
    live = re.compile(path_pattern("/v1.0/health/").replace("\\z", "\\Z"))
    assert live.match("/v1.0/health/live?x")
    assert not live.match("/v1x0/health/live")
    for target in ("/v1.0/health/", "/v1.0/health/..", "/v1.0/health/a/b", "/v1.0/health/%2e"):
        assert not live.match(target), target
    for path in ("/", "health", "/a b", "/../x", '/"', "/a$b", "/a;b"):
        with pytest.raises(MaintenanceError, match="exempt path"):
            path_pattern(path)


HOSTILE = 'Zürich "5 o\'clock" \\ $host {}; <script> \u2028é'.replace("\u2028", " ")


def test_pages_hold_nothing_that_nginx_would_read() -> None:
    markup = html_page(HOSTILE, UNTIL)
    document = json_page(HOSTILE, UNTIL)
    assert json.loads(document)["detail"] == HOSTILE
    assert json.loads(document)["until"] == "2026-11-24T10:30:00.000Z"
    assert "<script>" not in markup and "2026-11-24 10:30 UTC" in markup
    for text in (markup, document):
        assert text.isascii() and "$" not in text


def test_fragment_describes_itself() -> None:
    text = fragment(Page(UNTIL, "Soon.", ["192.0.2.1"], ["/health"]))
    facts = describe_fragment(text)
    assert facts is not None
    assert facts["until"] == "2026-11-24T10:30:00.000Z"
    assert (facts["allow"], facts["exempt_paths"]) == (["192.0.2.1/32"], ["/health"])
    assert text.count(facts["marker"]) == 3
    assert "@MARKER@" not in text
    assert not is_past(facts, NOW) and is_past(facts, UNTIL)
    other = describe_fragment(fragment(Page(UNTIL, "Later.")))
    assert other is not None and other["marker"] != facts["marker"]


def test_fragment_stays_within_what_nginx_reads() -> None:
    """A word of the configuration has to fit into 4096 bytes."""
    text = fragment(Page(UNTIL, "\u00fc" * 500, [f"10.0.0.{n}" for n in range(250)]))
    assert max(len(line) for line in text.splitlines()[2:]) < 4096


@pytest.mark.parametrize(
    "page",
    [
        Page(UNTIL, ""),
        Page(UNTIL, "x" * 501),
        Page(UNTIL, "a\x07b"),
        Page(UNTIL, retry_after_seconds=0),
        Page(UNTIL, exempt_paths=["/"]),
        Page(UNTIL, allow=["everybody"]),
    ],
)
def test_fragment_refuses(page: Page) -> None:
    with pytest.raises(MaintenanceError):
        fragment(page)


@pytest.mark.parametrize("text", ["", "server {}\n", "# x\n# {}\n", "# x\n# no json\n"])
def test_a_file_of_others_describes_no_page(text: str) -> None:
    assert describe_fragment(text) is None


# Where nginx can be told

DUMP = """\
nginx: the configuration file /etc/nginx/nginx.conf syntax is ok
# configuration file /etc/nginx/nginx.conf:
events {}
stream { server { listen 5432; include /etc/nginx/server.d/*.conf; } }
http {
    include mime.types;
    include /etc/nginx/conf.d/*.conf;
    server { listen 80; server_name _ shop.example; include server.d/*.conf; }
    server {
        listen 443 ssl; listen [::]:443 ssl; listen 127.0.0.1:81; listen 82 proxy_protocol;
        server_name *.example shop.example;
        include /etc/nginx/server.d/*.conf;
    }
    server { listen 8080; server_name _; location / { include server.d/*.conf; } }
}
# configuration file /etc/nginx/conf.d/more.conf:
server { listen 90; include /etc/nginx/server.d/*.conf; return 301 https://x$request_uri; }
"""


def container(*mounts: Mount, ports: tuple[int, ...] = (80, 443)) -> Container:
    return Container(
        id="c",
        name="shop-nginx-1",
        service="nginx",
        number=1,
        state="running",
        image="nginx",
        image_id="sha256:1",
        mounts=mounts,
        ports=tuple(PublishedPort(port, "0.0.0.0", port) for port in ports),
        labels={"com.docker.compose.project": "shop"},
    )


WHOLE = Mount("bind", "/opt/shop/nginx", "/etc/nginx", read_only=True)


def test_find_hook() -> None:
    hook = find_hook(DUMP, container(WHOLE))
    assert hook.path == "/etc/nginx/server.d/pynomaly-maintenance.conf"
    assert hook.file == "/opt/shop/nginx/server.d/pynomaly-maintenance.conf"
    # Not asked: the block that redirects by itself, and ports that a plain request does not reach.
    assert hook.fronts == (Front(80, False, "shop.example"), Front(443, True, "shop.example"))
    assert hook.without == ()


def test_an_include_of_the_folder_above_does_not_read_it() -> None:
    dump = DUMP.replace("include mime.types;", "include /etc/nginx/*.conf;")
    assert find_hook(dump, container(WHOLE)).path.startswith("/etc/nginx/server.d/")


def test_find_hook_tells_of_published_ports_without_it() -> None:
    assert find_hook(DUMP, container(WHOLE, ports=(80, 8080))).without == (8080,)


def test_find_hook_takes_the_nearest_mount() -> None:
    volume = Mount("volume", "/var/lib/docker/volumes/x/_data", "/etc/nginx/server.d")
    hook = find_hook(DUMP, container(WHOLE, volume))
    assert hook.file == "/var/lib/docker/volumes/x/_data/pynomaly-maintenance.conf"
    with pytest.raises(NoPageError):
        find_hook(DUMP, container(WHOLE, Mount("tmpfs", "", "/etc/nginx/server.d")))


@pytest.mark.parametrize(
    "dump",
    [
        # Not in a server block at all
        "http { include /etc/nginx/conf.d/*.conf; server { listen 80; } }",
        # The http block reads the folder as well
        "http { include /etc/nginx/conf.d/*.conf; server { include /etc/nginx/conf.d/*.conf; } }",
        # Read twice by the same block
        "http { server { include /etc/nginx/a/*.conf; include /etc/nginx/a/*.conf; } }",
        # A single file
        "http { server { include /etc/nginx/a/one.conf; } }",
        # A folder by a pattern
        "http { server { include /etc/nginx/*/x.conf; } }",
    ],
)
def test_find_hook_refuses(dump: str) -> None:
    with pytest.raises(NoPageError, match="expected an include") as told:
        find_hook(dump, container(WHOLE))
    assert "server.d" in told.value.hint and "-p shop" in told.value.hint


def test_find_hook_wants_a_mounted_folder() -> None:
    single = Mount("bind", "/opt/shop/nginx.conf", "/etc/nginx/nginx.conf")
    with pytest.raises(NoPageError, match="mounted"):
        find_hook(DUMP, container(single))


def test_host_path() -> None:
    assert host_path("/etc/nginx/x/y", [WHOLE]) == "/opt/shop/nginx/x/y"
    assert host_path("/etc/nginx2/x", [WHOLE]) is None


def test_page_lines() -> None:
    facts = {
        "until": "2026-11-24T10:30:00.000Z",
        "message": "Soon.",
        "exempt_paths": ["/health"],
        "allow": ["192.0.2.1/32"],
    }
    assert page_lines({"shown": False}, NOW) == ["maintenance page: off"]
    assert page_lines({"shown": True, **facts, "health_status": 200}, NOW) == [
        "maintenance page: on until 2026-11-24T10:30:00.000Z (30 minutes left)",
        "it says: Soon.",
        "exempt: /health, 192.0.2.1/32",
        "health beside it: HTTP 200",
    ]
    past = {"shown": False, **facts, "expired": True}
    assert page_lines(past, UNTIL) == [
        "maintenance page: off, it ended at 2026-11-24T10:30:00.000Z"
    ]
