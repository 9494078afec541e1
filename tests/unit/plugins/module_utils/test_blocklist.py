# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import ipaddress
import json

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _netfilter
from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import (
    Block,
    BlocklistError,
    Element,
    InForce,
    Protected,
    Wanted,
    agrees,
    blocked,
    checked_networks,
    confirmed,
    decode,
    elements,
    encode,
    parse_network,
    released,
    rows,
    table,
    tolerance_seconds,
    without_past,
)

NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)
SECOND = datetime.timedelta(seconds=1)


def block(network: str, hours: float = 1, **about: object) -> Block:
    return Block(ipaddress.ip_network(network), NOW + hours * HOUR, **about)  # type: ignore[arg-type]


def ends(blocks: list[Block]) -> dict[str, datetime.datetime]:
    return {str(one.network): one.end for one in elements(blocks, NOW)}


# What may be blocked


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        (" 203.0.113.0/24 ", "203.0.113.0/24"),
        ("2001:DB8::/48", "2001:db8::/48"),
        ("::ffff:203.0.113.7", "203.0.113.7/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
    ],
)
def test_addresses_and_networks(text: str, network: str) -> None:
    assert str(parse_network(text)) == network


@pytest.mark.parametrize(
    "text", ["", "all", "203.0.113", "203.0.113.7/33", "203.0.113.7/24", "fe80::1%eth0", "1.2.3.4;"]
)
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(BlocklistError):
        parse_network(text)


@pytest.mark.parametrize(
    "text", ["203.0.0.0/16", "2001:db8::/32", "192.168.1.7", "10.1.0.0/16", "fd00::1"]
)
def test_the_widest_that_is_blocked(text: str) -> None:
    (network,) = checked_networks([text], [])
    assert str(network).startswith(text)


@pytest.mark.parametrize("text", ["203.0.0.0/15", "2001:d00::/31", "0.0.0.0/0", "::/0"])
def test_wider_is_refused(text: str) -> None:
    with pytest.raises(BlocklistError, match="is wider than"):
        checked_networks([text], [])


def test_all_that_is_wrong_at_once() -> None:
    protected = [
        Protected(ipaddress.ip_network("10.0.0.5"), "the SSH client"),
        Protected(ipaddress.ip_network("10.0.0.5"), "the controller"),
        Protected(ipaddress.ip_network("172.17.0.0/16"), "the subnet of Docker's network bridge"),
    ]
    with pytest.raises(BlocklistError) as raised:
        checked_networks(
            ["x", "10.0.0.5", "10.0.0.0/24", "172.17.3.4", "127.0.0.9", "8.8.8.8"], protected
        )
    text = str(raised.value)
    assert "10.0.0.5 is the SSH client and the controller" in text
    assert "10.0.0.0/24 has to do with 10.0.0.5, the SSH client and the controller" in text
    assert "172.17.3.4 has to do with 172.17.0.0/16, the subnet" in text
    assert "127.0.0.9 is loopback" in text and "'x' is not an address" in text
    assert "8.8.8.8" not in text and raised.value.hint


# What becomes of the list


def test_said_twice_a_duration_moves_nothing() -> None:
    template = block("203.0.113.7", 24, by="one")
    first = blocked([], [template.network], template, NOW, is_exact=False)
    assert first.changed and [one.since for one in first.blocks] == [NOW]
    later = NOW + datetime.timedelta(minutes=10)
    again = Block(template.network, later + 24 * HOUR)
    second = blocked(first.blocks, [template.network], again, later, is_exact=False)
    assert not second.changed and list(second.blocks) == list(first.blocks)
    # A moment is meant as it is said.
    exact = blocked(first.blocks, [template.network], again, later, is_exact=True)
    assert [one.until for one in exact.moved] == [again.until]
    much_later = NOW + HOUR
    extended = blocked(
        first.blocks,
        [template.network],
        Block(template.network, much_later + 24 * HOUR),
        much_later,
        is_exact=False,
    )
    assert extended.moved and extended.moved[0].since == NOW


def test_tolerance() -> None:
    assert [tolerance_seconds(one) for one in (20, 3600, 86400, 7 * 86400)] == [10, 300, 864, 6048]


def test_a_confirmed_block_stays_confirmed() -> None:
    template = block("203.0.113.7", 2, confirm_by=NOW + 30 * SECOND)
    moved = blocked([block("203.0.113.7")], [template.network], template, NOW, is_exact=False)
    assert moved.moved[0].confirm_by is None and not moved.added
    # One that nobody has confirmed begins anew.
    waiting = block("203.0.113.7", 2, confirm_by=NOW + SECOND)
    anew = blocked([waiting], [template.network], template, NOW, is_exact=False)
    assert anew.added[0].confirm_by == NOW + 30 * SECOND


def test_confirming_what_is_gone_is_refused() -> None:
    waiting = block("203.0.113.7", confirm_by=NOW + SECOND)
    other = ipaddress.ip_network("203.0.113.8")
    with pytest.raises(BlocklistError, match=r"203\.0\.113\.8 not blocked any more"):
        confirmed([waiting], [waiting.network, other])
    done = confirmed([waiting], [waiting.network])
    assert done.changed and [one.confirm_by for one in done.blocks] == [None]
    assert not confirmed(done.blocks, [waiting.network]).changed


def test_releasing() -> None:
    blocks = [
        block("203.0.113.0/24", incident="i-1"),
        block("203.0.113.7", incident="i-2"),
        block("2001:db8::/48", incident="i-1"),
    ]
    one = released(blocks, [ipaddress.ip_network("203.0.113.7")])
    assert [str(block.network) for block in one.removed] == ["203.0.113.7/32"]
    assert "still blocked, in 203.0.113.0/24" in one.remarks[0]
    both = released(blocks, [ipaddress.ip_network("203.0.112.0/23")])
    assert len(both.removed) == 2 and not both.remarks
    assert len(released(blocks, [], incident="i-1").removed) == 2
    assert len(released(blocks, [], everything=True).removed) == 3
    assert not released(blocks, [ipaddress.ip_network("198.51.100.1")]).changed
    assert not released([], [], everything=True).changed


def test_past_ones_are_forgotten() -> None:
    lapsed = block("203.0.113.8", confirm_by=NOW)
    change = without_past([block("203.0.113.7"), lapsed, block("203.0.113.9", 0)], NOW)
    assert [str(one.network) for one in change.blocks] == ["203.0.113.7/32"]
    assert len(change.removed) == 2


# What the kernel is told


def test_elements_have_nothing_in_common_and_each_address_its_latest_end() -> None:
    found = ends([block("203.0.113.0/24", 1), block("203.0.113.7", 2), block("203.0.113.9", 0.5)])
    networks = [ipaddress.ip_network(one) for one in found]
    assert sum(one.num_addresses for one in networks) == 256
    assert not [
        (one, other)
        for one in networks
        for other in networks
        if one != other and one.overlaps(other)
    ]

    def end_of(address: str) -> datetime.datetime:
        (end,) = (
            end
            for network, end in found.items()
            if ipaddress.ip_address(address) in ipaddress.ip_network(network)
        )
        return end

    assert end_of("203.0.113.7") == NOW + 2 * HOUR
    assert {end_of(f"203.0.113.{last}") for last in (0, 6, 8, 9, 255)} == {NOW + HOUR}


def test_elements_of_both_families_and_of_what_is_unconfirmed() -> None:
    found = ends(
        [
            block("2001:db8::/32"),
            block("2001:db8:1::/48", 3),
            block("1.2.3.4", confirm_by=NOW + SECOND),
        ]
    )
    assert found["1.2.3.4/32"] == NOW + SECOND
    assert found["2001:db8:1::/48"] == NOW + 3 * HOUR
    assert len(found) == 1 + 1 + 16
    assert ends([block("1.2.3.4", 0)]) == {}


def test_a_script_that_nft_takes_for_any_time() -> None:
    """More than eight digits of milliseconds it does not take."""
    near, far = (
        Element(ipaddress.ip_network("1.2.3.4"), NOW + hours * HOUR) for hours in (1, 8760)
    )
    assert "1.2.3.4/32 timeout 3600000ms" in _netfilter.nft_script([near], NOW)
    assert "1.2.3.4/32 timeout 31536000s" in _netfilter.nft_script([far], NOW)
    assert _netfilter.nft_script([], NOW).splitlines() == [
        "table inet pynomaly_ops",
        "delete table inet pynomaly_ops",
    ]


def nft_answer(drop: bool = True, hook: str = "prerouting") -> str:
    """As nft 1.1.3 gives it."""
    rules = [
        ("prerouting", protocol, side, version)
        for side in ("saddr", "daddr")
        for protocol, version in (("ip", 4), ("ip6", 6))
    ] + [("output", protocol, "daddr", version) for protocol, version in (("ip", 4), ("ip6", 6))]
    objects = [
        {"metainfo": {"json_schema_version": 1}},
        {"table": {"family": "inet", "name": "pynomaly_ops"}},
        {"chain": {"name": "prerouting", "hook": hook, "prio": -300}},
        {"chain": {"name": "output", "hook": "output", "prio": -300}},
        {
            "set": {
                "name": "blocked_ipv4",
                "elem": [
                    {"elem": {"val": "198.51.100.7", "timeout": 20, "expires": 19}},
                    {
                        "elem": {
                            "val": {"prefix": {"addr": "203.0.113.0", "len": 24}},
                            "timeout": 100,
                            "expires": 99,
                        }
                    },
                ],
            }
        },
        *(
            {
                "rule": {
                    "chain": chain,
                    "expr": [
                        {
                            "match": {
                                "op": "==",
                                "left": {"payload": {"protocol": protocol, "field": side}},
                                "right": f"@blocked_ipv{version}",
                            }
                        },
                        {"counter": {"packets": 2, "bytes": 100}},
                        {"drop": None} if drop else {"accept": None},
                    ],
                }
            }
            for chain, protocol, side, version in rules
        ),
    ]
    return json.dumps({"nftables": objects})


def test_what_nft_says() -> None:
    seen = _netfilter.read_nft(nft_answer(), NOW)
    assert seen.is_whole and seen.packets == 12
    assert {str(one): (end - NOW).total_seconds() for one, end in seen.ends.items()} == {
        "198.51.100.7/32": 19,
        "203.0.113.0/24": 99,
    }
    assert not _netfilter.read_nft(nft_answer(drop=False), NOW).is_whole
    assert not _netfilter.read_nft(nft_answer(hook="input"), NOW).is_whole


def test_what_iptables_says() -> None:
    text = (
        "-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n-N PYNOMALY-OPS\n-A PREROUTING -j PYNOMALY-OPS\n"
        "-A PYNOMALY-OPS -s 203.0.113.0/24 -m time --datestop 2026-01-01T12:59:59 -j DROP\n"
        "-A PYNOMALY-OPS -d 203.0.113.0/24 -m time --datestop 2026-01-01T12:59:59 -j DROP\n"
        "-A PYNOMALY-OPS -s 198.51.100.7/32 -m time --datestop 2026-01-01T12:29:59 --utc -j DROP\n"
    )
    found, hung, exists = _netfilter.read_iptables(text)
    assert {str(one): end for one, end in found.items()} == {
        "203.0.113.0/24": NOW + HOUR,
        "198.51.100.7/32": NOW + HOUR / 2,
    }
    assert (hung, exists) == ({"PREROUTING"}, True)
    # What is read is what was written.
    script = _netfilter.iptables_script(
        [Element(one, end) for one, end in found.items()], 4, {"PREROUTING"}
    )
    assert _netfilter.read_iptables(script)[0] == found
    assert "-I OUTPUT 1 -j PYNOMALY-OPS" in script and "-I PREROUTING" not in script


def test_an_empty_script_takes_the_chain_away() -> None:
    script = _netfilter.iptables_script([], 6, {"PREROUTING", "OUTPUT"})
    assert script.splitlines()[2:] == [
        "-D PREROUTING -j PYNOMALY-OPS",
        "-D OUTPUT -j PYNOMALY-OPS",
        "-F PYNOMALY-OPS",
        "-X PYNOMALY-OPS",
        "COMMIT",
    ]


def test_whether_the_kernel_agrees() -> None:
    network = ipaddress.ip_network("203.0.113.7")
    wanted = [Element(network, NOW + HOUR)]

    def seen(seconds: float, whole: bool = True) -> InForce:
        end = NOW + datetime.timedelta(seconds=seconds)
        return InForce(_netfilter.NFTABLES, {network: end}, whole)

    assert agrees(seen(3599), wanted, NOW)
    assert not agrees(seen(3590), wanted, NOW)
    assert not agrees(seen(3599, whole=False), wanted, NOW)
    assert not agrees(seen(3599), [], NOW)
    assert not agrees(InForce(_netfilter.NFTABLES, {}, True), wanted, NOW)
    assert agrees(InForce(_netfilter.NFTABLES), [], NOW)
    assert not agrees(InForce(_netfilter.NFTABLES, {}, True), [], NOW)
    # iptables keeps the rules of what has ended.
    left = {network: NOW + HOUR, ipaddress.ip_network("203.0.113.8"): NOW - HOUR}
    assert not agrees(InForce(_netfilter.IPTABLES, left, True), wanted, NOW)
    assert not agrees(InForce(_netfilter.IPTABLES, {network: NOW - HOUR}, True), [], NOW)
    # What ends about now may be gone there already, or not yet.
    assert agrees(InForce(_netfilter.NFTABLES, {}, True), [Element(network, NOW + SECOND)], NOW)


# How it is kept, and read


def test_the_list_survives_the_disk() -> None:
    blocks = [
        block("203.0.113.0/24", since=NOW, reason="scan", incident="i-1", by="me@here", run_id="r"),
        block("2001:db8::1", confirm_by=NOW + SECOND, asked_from="192.0.2.9 51000"),
    ]
    wanted = Wanted(blocks, "nftables")
    assert decode(encode(wanted)) == wanted


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema_version": 2, "blocks": []}', '{"schema_version": 1}']
)
def test_a_list_that_is_none(text: str) -> None:
    with pytest.raises(BlocklistError):
        decode(text)


def test_where_a_block_is_in_force() -> None:
    blocks = [block("203.0.113.0/24", 1, reason="scan", by="me"), block("203.0.113.7", 2)]
    kernel = InForce(
        "nftables", {one.network: one.end for one in elements(blocks, NOW)}, is_whole=True
    )
    found = rows(blocks, kernel, [blocks[1].network], NOW)
    assert [one["in_force"] for one in found] == [["nftables"], ["nftables", "nginx"]]
    assert [one["seconds_left"] for one in found] == [3600, 7200]
    cells = table(found)["rows"][0]
    assert cells[:4] == ["203.0.113.0/24", "2026-01-01 13:00:00 UTC", "1 hour", "scan"]
    # A part of it alone is not it.
    part = InForce("nftables", {ipaddress.ip_network("203.0.113.0/25"): NOW + HOUR}, is_whole=True)
    assert [one["in_kernel"] for one in rows(blocks, part, [], NOW)] == [False, True]
    assert rows([block("203.0.113.7", 0)], kernel, [], NOW) == []
