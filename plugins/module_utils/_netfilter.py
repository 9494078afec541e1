# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nft and iptables are told of blocked addresses, and what they say of them.

Both at priority raw, ahead of connection tracking and of Docker's address translation: packets of
open connections are dropped too, and it makes no difference whether a port is the host's, a
container's or docker-proxy's. What goes out to a blocked address is dropped as well, as it comes
from a container (prerouting) or from the host (output).
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import (
    Element,
    InForce,
    Network,
)

NFTABLES = "nftables"
IPTABLES = "iptables"

FAMILY = "inet"
TABLE = "pynomaly_ops"
CHAIN = "PYNOMALY-OPS"
#: Of the raw table, to which that chain is hung.
HOOKS = ("PREROUTING", "OUTPUT")

_SETS = {4: "blocked_ipv4", 6: "blocked_ipv6"}
_KEYS = {4: ("ipv4_addr", "ip"), 6: ("ipv6_addr", "ip6")}
#: Priority raw; by its number, since older versions of nft do not know the name.
_PRIORITY = -300
_RULE = re.compile(
    rf"-A {CHAIN} -s (\S+) -m time --datestop "
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?: --\w+)* -j DROP\Z"
)


# nft


def nft_script(elements: Sequence[Element], now: datetime.datetime) -> str:
    """The whole table, to be loaded at once: C{nft -f} makes all of it one transaction.

    It is made anew, since adding an element again would not move its end.
    """
    lines = [f"table {FAMILY} {TABLE}", f"delete table {FAMILY} {TABLE}"]
    if not elements:
        return "\n".join(lines) + "\n"
    lines.append(f"table {FAMILY} {TABLE} {{")
    for version, (key_type, _protocol) in _KEYS.items():
        members = [_nft_element(one, now) for one in elements if one.network.version == version]
        lines += [
            f"\tset {_SETS[version]} {{",
            f"\t\ttype {key_type}",
            "\t\tflags interval,timeout",
            *([f"\t\telements = {{ {', '.join(members)} }}"] if members else []),
            "\t}",
        ]
    for hook, fields in _NFT_CHAINS.items():
        lines += [
            f"\tchain {hook} {{",
            f"\t\ttype filter hook {hook} priority {_PRIORITY}; policy accept;",
            *(
                f"\t\t{protocol} {field} @{_SETS[version]} counter drop"
                for field in fields
                for version, (_key_type, protocol) in _KEYS.items()
            ),
            "\t}",
        ]
    return "\n".join([*lines, "}"]) + "\n"


_NFT_CHAINS: Mapping[str, Sequence[str]] = {
    "prerouting": ("saddr", "daddr"),
    "output": ("daddr",),
}


def _nft_element(element: Element, now: datetime.datetime) -> str:
    left_ms = max(1, int((element.end - now).total_seconds() * 1000))
    # nft takes eight digits of milliseconds at most, and no milliseconds behind seconds.
    left = f"{left_ms}ms" if left_ms < 10**8 else f"{left_ms // 1000}s"
    return f"{element.network} timeout {left}"


def read_nft(text: str, now: datetime.datetime) -> InForce:
    """What C{nft -j list table} says. Raises C{ValueError} for what is not its answer."""
    document = json.loads(text)
    objects = document["nftables"]
    ends: dict[Network, datetime.datetime] = {}
    packets, rules, hooks = 0, set(), set()
    is_ours = True
    for kind, value in (pair for one in objects for pair in one.items()):
        if kind == "chain" and value.get("prio") == _PRIORITY:
            hooks.add((value["name"], value.get("hook")))
        elif kind == "set":
            for member in value.get("elem", ()):
                network, end = _read_member(member, now)
                is_ours = is_ours and network is not None
                if network is not None:
                    ends[network] = end
        elif kind == "rule":
            key, count = _read_rule(value)
            rules.add(key)
            packets += count
    expected_rules = {
        (chain, protocol, field, f"@{_SETS[version]}")
        for chain, fields in _NFT_CHAINS.items()
        for field in fields
        for version, (_key_type, protocol) in _KEYS.items()
    }
    expected_hooks = {(chain, chain) for chain in _NFT_CHAINS}
    is_whole = is_ours and rules == expected_rules and hooks == expected_hooks
    return InForce(NFTABLES, ends, is_whole, packets)


def _read_member(
    member: Any, now: datetime.datetime
) -> tuple[Optional[Network], datetime.datetime]:
    """C{None} for what is no network, or has no end."""
    facts = member.get("elem", {}) if isinstance(member, Mapping) else {}
    value, seconds = facts.get("val"), facts.get("expires")
    if isinstance(value, Mapping) and "prefix" in value:
        value = f"{value['prefix']['addr']}/{value['prefix']['len']}"
    try:
        network = ipaddress.ip_network(str(value))
    except ValueError:
        return None, now
    if not isinstance(seconds, (int, float)):
        return None, now
    return network, now + datetime.timedelta(seconds=seconds)


def _read_rule(rule: Mapping[str, Any]) -> tuple[tuple[str, str, str, str], int]:
    """Chain, protocol, field and set of a rule of ours, and the packets it has dropped."""
    key, packets, drops = ("", "", ""), 0, False
    for kind, value in (pair for one in rule.get("expr", ()) for pair in one.items()):
        if kind == "match" and value.get("op") == "==":
            payload = value.get("left", {}).get("payload", {})
            key = (payload.get("protocol", ""), payload.get("field", ""), str(value.get("right")))
        elif kind == "counter" and isinstance(value, Mapping):
            packets = int(value.get("packets", 0))
        elif kind == "drop":
            drops = True
    return (str(rule.get("chain")) if drops else "", *key), packets


# iptables


def iptables_script(elements: Iterable[Element], version: int, hung: Iterable[str]) -> str:
    """What C{iptables-restore --noflush} (or C{ip6tables-restore}, ``version`` 6) is told: the
    table's other rules stay, ours are replaced in one step.

    ``hung`` are the hooks that have the jump to our chain already.
    """
    own = [one for one in elements if one.network.version == version]
    present = set(hung)
    lines = ["*raw", f":{CHAIN} - [0:0]"]
    for one in own:
        # The second that is named still counts.
        last = one.end - datetime.timedelta(seconds=1)
        when = f"-m time --datestop {last:%Y-%m-%dT%H:%M:%S} -j DROP"
        lines += [f"-A {CHAIN} -s {one.network} {when}", f"-A {CHAIN} -d {one.network} {when}"]
    if own:
        lines += [f"-I {hook} 1 -j {CHAIN}" for hook in HOOKS if hook not in present]
    else:
        lines += [f"-D {hook} -j {CHAIN}" for hook in HOOKS if hook in present]
        lines += [f"-F {CHAIN}", f"-X {CHAIN}"]
    return "\n".join([*lines, "COMMIT"]) + "\n"


def read_iptables(text: str) -> tuple[dict[Network, datetime.datetime], set[str], bool]:
    """What C{iptables -t raw -S} says: the ends by network, the hooks that jump to our chain, and
    whether the chain is there."""
    ends: dict[Network, datetime.datetime] = {}
    hung: set[str] = set()
    exists = False
    for line in text.splitlines():
        exists = exists or line == f"-N {CHAIN}"
        hung |= {hook for hook in HOOKS if line == f"-A {hook} -j {CHAIN}"}
        match = _RULE.match(line.strip())
        if match:
            last = datetime.datetime.fromisoformat(match.group(2))
            end = last.replace(tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=1)
            ends[ipaddress.ip_network(match.group(1))] = end
    return ends, hung, exists


# Sockets


def socket_filter(networks: Iterable[Network]) -> list[str]:
    """What C{ss} is told of the connections with these networks."""
    words: list[str] = []
    for network in networks:
        words += ["or", "dst", str(network)] if words else ["dst", str(network)]
    return words
