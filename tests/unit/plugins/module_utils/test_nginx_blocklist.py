# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import ipaddress
import re

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_blocklist import (
    FileBlock,
    NginxBlocklistError,
    address_source,
    as_facts,
    blocklist_fragment,
    describe_blocklist,
    marker_in,
    trusted_proxies,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_hook import (
    MAX_WORD_CHARACTERS,
    read_facts,
    with_facts,
)

NOW = datetime.datetime(2026, 11, 24, 10, 0, tzinfo=datetime.timezone.utc)


def block(network: str, minutes: float = 30.0) -> FileBlock:
    return FileBlock(ipaddress.ip_network(network), NOW + datetime.timedelta(minutes=minutes))


_CONDITION = re.compile(r'if \((\$\w+) ~ "(.*)"\) \{\n    set \$pynomaly_blocked (1|"");\n\}')


def is_blocked(text: str, address: str, now: datetime.datetime) -> bool:
    """As nginx reads the file: one condition after the other."""
    values = {
        "$binary_remote_addr": ipaddress.ip_address(address).packed,
        "$msec": f"{now.timestamp():.3f}".encode(),
    }
    blocked = False
    for variable, pattern, value in _CONDITION.findall(text):
        expression = pattern.replace("\\z", "\\Z").encode()
        if re.search(expression, values[variable], re.DOTALL):
            blocked = value == "1"
    return blocked


def test_each_block_ends_at_its_own_time() -> None:
    wanted = [
        block("203.0.113.7", 10),
        block("203.0.113.0/24", 5),
        block("203.0.113.8", 10),
        block("2001:db8::/48", 20),
        block("10.0.0.0/16", 20),
        block("10.0.1.0/24", 5),
    ]
    text = blocklist_fragment(wanted)
    addresses = ["203.0.113.7", "203.0.113.8", "203.0.113.9", "2001:db8::1", "2001:db8:1::"]
    addresses += ["10.0.1.1", "10.1.0.0", "::ffff:203.0.113.7"]
    mapped = {"::ffff:203.0.113.7": "203.0.113.7"}
    for seconds in (0, 299.9, 300, 599.999, 600, 1199.9, 1200, 86400):
        now = NOW + datetime.timedelta(seconds=seconds)
        for address in addresses:
            expected = any(
                ipaddress.ip_address(mapped.get(address, address)) in one.network
                and one.until > now
                for one in wanted
                if one.network.version == ipaddress.ip_address(mapped.get(address, address)).version
            )
            assert is_blocked(text, address, now) is expected, (seconds, address)


def test_the_later_of_two_ends_counts() -> None:
    text = blocklist_fragment([block("203.0.113.7", 10), block("203.0.113.7", 5)])
    assert is_blocked(text, "203.0.113.7", NOW + datetime.timedelta(minutes=9))
    assert text == blocklist_fragment([block("203.0.113.7", 5), block("203.0.113.7", 10)])


def test_a_block_ends_no_earlier_than_was_said() -> None:
    end = NOW + datetime.timedelta(seconds=5.4)
    text = blocklist_fragment([FileBlock(ipaddress.ip_network("203.0.113.7"), end)])
    assert is_blocked(text, "203.0.113.7", end)
    assert not is_blocked(text, "203.0.113.7", NOW + datetime.timedelta(seconds=6))


def test_the_same_blocks_are_the_same_text() -> None:
    wanted = [block(f"198.51.100.{number}", number % 7 + 1) for number in range(50)]
    assert blocklist_fragment(wanted) == blocklist_fragment(wanted[::-1])
    other = blocklist_fragment([*wanted, block("2001:db8::/32")])
    first, second = describe_blocklist(blocklist_fragment(wanted)), describe_blocklist(other)
    assert first is not None and second is not None and first.marker != second.marker


def test_the_file_describes_itself() -> None:
    wanted = [block("203.0.113.7", 5), block("2001:db8::/48", 10)]
    facts = describe_blocklist(blocklist_fragment(wanted))
    assert facts is not None
    assert list(facts.blocks) == wanted
    assert as_facts(facts.blocks) == [
        {"network": "203.0.113.7/32", "until": "2026-11-24T10:05:00.000Z"},
        {"network": "2001:db8::/48", "until": "2026-11-24T10:10:00.000Z"},
    ]
    for text in ("", "server {}\n", "# x\n# {}\n", blocklist_fragment(wanted)[5:]):
        assert describe_blocklist(text) is None


def test_nothing_in_it_is_longer_than_nginx_reads() -> None:
    wanted = [block(f"2001:db8:{number:x}::/{number % 64 + 64}", 5) for number in range(4096)]
    text = blocklist_fragment(wanted)
    assert max(len(line) for line in text.splitlines()) <= MAX_WORD_CHARACTERS
    assert is_blocked(text, "2001:db8:fff::", NOW) and not is_blocked(text, "2001:db8:1000::", NOW)
    with pytest.raises(NginxBlocklistError, match="4097 networks"):
        blocklist_fragment([*wanted, block("203.0.113.7")])


def test_facts_of_any_length_are_read_again() -> None:
    for length in (0, 10, 3900, 3960, 4000, 20000):
        text = with_facts("# ours", {"long": "x " * length}, ["set $x 1;", "# the end"])
        facts = read_facts("# ours", text)
        assert facts is not None and facts["long"] == "x " * length
        assert max(len(line) for line in text.splitlines()) <= MAX_WORD_CHARACTERS
    assert read_facts("# theirs", text) is None


def test_marker_in() -> None:
    assert marker_in("pynomaly-blocklist 0123456789abcdef\n") == "0123456789abcdef"
    assert marker_in("Forbidden\n") == marker_in("") == ""


DUMP = """\
nginx: the configuration file /etc/nginx/nginx.conf syntax is ok
# configuration file /etc/nginx/nginx.conf:
http {
    set_real_ip_from 192.0.2.1;
    server {
        listen 80;
        set_real_ip_from 10.1.2.3/8;
        location /x { set_real_ip_from 2001:db8::/32; }
    }
}
# configuration file /etc/nginx/conf.d/proxies.conf:
set_real_ip_from unix:;
set_real_ip_from balancer.example;
set_real_ip_from 192.0.2.1;
"""


def test_trusted_proxies() -> None:
    assert [str(one) for one in trusted_proxies(DUMP)] == [
        "192.0.2.1/32",
        "10.0.0.0/8",
        "2001:db8::/32",
    ]
    assert trusted_proxies("http { server { listen 80; } }") == []


def test_address_source() -> None:
    assert address_source("http { real_ip_header X-Forwarded-For; }").header == ""
    assert address_source(DUMP).header == "X-Real-IP"  # nginx's own default
    assert address_source(DUMP).remarks == []
    named = DUMP.replace("listen 80;", "real_ip_header CF-Connecting-IP;")
    assert address_source(named).header == "CF-Connecting-IP"


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
def test_trusting_everybody_is_told(everybody: str) -> None:
    dump = DUMP.replace("192.0.2.1", everybody)
    # They are no proxies, whose addresses are never to be blocked.
    assert [str(one) for one in trusted_proxies(dump)] == ["10.0.0.0/8", "2001:db8::/32"]
    source = address_source(dump)
    assert len(source.remarks) == 1 and everybody in source.remarks[0]
    assert "evades" in source.remarks[0]


def test_trust_in_locations_alone_is_told() -> None:
    source = address_source("http { server { location / { set_real_ip_from 192.0.2.1; } } }")
    assert len(source.remarks) == 1 and "locations alone" in source.remarks[0]
