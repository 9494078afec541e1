# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import re

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._context import (
    Container,
    Mount,
    PublishedPort,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_hook import (
    Front,
    Hook,
    NoHookError,
    at_or_after,
    host_path,
    network_pattern,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_hook import (
    find_hook as find_hook_for,
)


def find_hook(dump: str, container: Container) -> Hook:
    return find_hook_for(dump, container, "ours")


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
    assert hook.path == "/etc/nginx/server.d/ours.conf"
    assert hook.file == "/opt/shop/nginx/server.d/ours.conf"
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
    assert hook.file == "/var/lib/docker/volumes/x/_data/ours.conf"
    with pytest.raises(NoHookError):
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
    with pytest.raises(NoHookError, match="expected an include") as told:
        find_hook(dump, container(WHOLE))
    assert "server.d" in told.value.hint


def test_find_hook_wants_a_mounted_folder() -> None:
    single = Mount("bind", "/opt/shop/nginx.conf", "/etc/nginx/nginx.conf")
    with pytest.raises(NoHookError, match="mounted"):
        find_hook(DUMP, container(single))


def test_host_path() -> None:
    assert host_path("/etc/nginx/x/y", [WHOLE]) == "/opt/shop/nginx/x/y"
    assert host_path("/etc/nginx2/x", [WHOLE]) is None


@pytest.mark.parametrize(
    ("directive", "late"),
    [
        ("rewrite ^/old/(.*) /new/$1 last;", (443,)),
        ("break;", (443,)),
        ("rewrite ^/old/(.*) /new/$1;", ()),
    ],
)
def test_find_hook_tells_of_rewrites_before_it(directive: str, late: tuple[int, ...]) -> None:
    dump = DUMP.replace("server_name *.example", f"{directive} server_name *.example")
    assert find_hook(dump, container(WHOLE)).late == late
    # A block that redirects everything lets nobody through, read or not
    assert 90 not in find_hook(dump, container(WHOLE)).late
