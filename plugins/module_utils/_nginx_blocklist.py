# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blocks inside nginx, for clients whose address is known there alone: behind a load balancer.

nginx compares the address that it has of the client. A header changes that address only where the
one who sends it is trusted (C{set_real_ip_from}): what a client claims neither hides it nor blocks
somebody else. Each request is compared, on open connections too, and each with the time: a block
ends by itself. The answer is 403 and not a closed connection, for the connection is the load
balancer's, which would take the server for broken and keep everybody from it.
"""

from __future__ import annotations

import datetime
import ipaddress
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Protocol

from ansible_collections.pynomaly.ops.plugins.module_utils._nginx import Block as Directives
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx import parse_configuration
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx_hook import (
    MARKER,
    MAX_WORD_CHARACTERS,
    Network,
    at_or_after,
    network_pattern,
    read_facts,
    with_facts,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc, utc_text

FILE_STEM = "pynomaly-blocklist"
#: Whoever sends this header with this value gets the file's marker, blocked or not.
PROBE_HEADER = "X-Blocklist-Probe"
PROBE_VALUE = "show"
PROBE_ANSWER = "pynomaly-blocklist "

#: nginx compares one after the other with each request: a thousand that all end at other times
#: were seen to take 0.6 ms.
MAX_NETWORKS = 4096

_HEADER = "# Written by pynomaly.ops: ansible-playbook pynomaly.ops.blocklist"
#: A long regular expression must fit into a word of the configuration, quoted.
_MAX_PATTERN_CHARACTERS = MAX_WORD_CHARACTERS - 200


class BlockedNetwork(Protocol):
    """A network, and when its block ends."""

    @property
    def network(self) -> Network: ...

    @property
    def until(self) -> datetime.datetime: ...


class NginxBlocklistError(Exception):
    """nginx does not block as it is asked to. ``hint`` is what to run next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


# What nginx is told


def blocklist_fragment(blocks: Iterable[BlockedNetwork]) -> str:
    """The file's text for these blocks, the same for the same ones in any order.

    A network that is blocked twice is so until the later end. Raises L{NginxBlocklistError} for
    more than L{MAX_NETWORKS}.
    """
    ends: dict[Network, int] = {}
    for block in blocks:
        # The file knows whole seconds: a block ends no earlier than was said.
        end = math.ceil(block.until.timestamp())
        ends[block.network] = max(end, ends.get(block.network, 0))
    if len(ends) > MAX_NETWORKS:
        raise NginxBlocklistError(
            f"{len(ends)} networks are to be blocked in nginx, expected {MAX_NETWORKS} at most",
            "block the networks around them in place of single addresses",
        )
    ordered = sorted(ends.items(), key=lambda one: (one[1], one[0].version, one[0]))
    described = [[str(network), utc_text(_time(end))] for network, end in ordered]
    lines = [
        f'if ($http_{PROBE_HEADER.lower().replace("-", "_")} = "{PROBE_VALUE}") {{',
        f'    return 403 "{PROBE_ANSWER}{MARKER}\\n";',
        "}",
        'set $pynomaly_blocked "";',
        *_conditions(ordered),
        "if ($pynomaly_blocked) {",
        # With a text of its own, an error_page of the server's has no say.
        '    return 403 "Forbidden\\n";',
        "}",
    ]
    return with_facts(_HEADER, {"blocks": described}, lines)


def _time(epoch: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc)


def _conditions(ordered: Sequence[tuple[Network, int]]) -> Iterator[str]:
    """In the order of their ends: once one is past, so are all before it, which is why what they
    have set can be taken back together."""
    for end in dict.fromkeys(end for _network, end in ordered):
        networks = [network for network, until in ordered if until == end]
        for pattern in _joined(network_pattern(network) for network in networks):
            yield _if(f'$binary_remote_addr ~ "{pattern}"', "1")
        yield _if(f'$msec ~ "^{at_or_after(end)}[.]"', '""')


def _joined(patterns: Iterable[str]) -> Iterator[str]:
    """As few alternatives of regular expressions as fit."""
    joined = ""
    for pattern in patterns:
        if joined and len(joined) + len(pattern) >= _MAX_PATTERN_CHARACTERS:
            yield joined
            joined = ""
        joined += f"|{pattern}" if joined else pattern
    if joined:
        yield joined


def _if(condition: str, value: str) -> str:
    return f"if ({condition}) {{\n    set $pynomaly_blocked {value};\n}}"


@dataclass(frozen=True)
class FileBlock:
    """A block as a file of ours has it."""

    network: Network
    until: datetime.datetime


@dataclass(frozen=True)
class FileFacts:
    """``marker`` is what nginx answers the probe with while it serves the file."""

    marker: str
    blocks: Sequence[FileBlock]


def describe_blocklist(text: str) -> Optional[FileFacts]:
    """What a file of ours blocks; C{None} for any other file."""
    facts = read_facts(_HEADER, text)
    try:
        if facts is None:
            return None
        blocks = [
            FileBlock(ipaddress.ip_network(network), parse_utc(until))
            for network, until in facts["blocks"]
        ]
        return FileFacts(facts["marker"], blocks)
    except (ValueError, KeyError, TypeError):
        return None


def marker_in(answer: str) -> str:
    """The marker in nginx's answer to the probe, an empty text where there is none."""
    if not answer.startswith(PROBE_ANSWER):
        return ""
    return answer[len(PROBE_ANSWER) :].strip()


# Whose headers count


@dataclass
class AddressSource:
    """Where nginx has a client's address from. ``header`` is the one that counts, empty where only
    the connection does; ``proxies`` are those whose header counts."""

    header: str = ""
    proxies: list[Network] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def trusted_proxies(dump: str) -> list[Network]:
    """The networks that nginx trusts to name a client's address (C{set_real_ip_from}), wherever
    that stands in the output of C{nginx -T}. Names and sockets are left out, and everybody, who is
    nobody's load balancer."""
    return [network for network in _all_trusted(dump) if network.prefixlen > 0]


def address_source(dump: str) -> AddressSource:
    """Where the addresses come from that blocks are compared with, out of the output of
    C{nginx -T}; its remarks say where that is not to be relied on."""
    everywhere, in_locations = _trusted(dump, False), _trusted(dump, True)
    source = AddressSource(proxies=_all_trusted(dump))
    headers = [words[0] for words in _values(parse_configuration(dump), "real_ip_header") if words]
    if source.proxies:
        source.header = ", ".join(dict.fromkeys(headers)) or "X-Real-IP"
    if in_locations and not everywhere:
        source.remarks.append(
            "set_real_ip_from stands in locations alone, after nginx has compared the address: a "
            "block of a client behind the load balancer has no effect; expected it in the http or "
            "server block"
        )
    everybody = [str(network) for network in source.proxies if network.prefixlen == 0]
    if everybody:
        source.remarks.append(
            f"nginx takes a client's address out of {source.header} from everybody "
            f"(set_real_ip_from {', '.join(everybody)}): whoever reaches it directly names any "
            "address and evades a block; expected the load balancers' own addresses"
        )
    return source


def _all_trusted(dump: str) -> list[Network]:
    return list(dict.fromkeys([*_trusted(dump, False), *_trusted(dump, True)]))


def _trusted(dump: str, in_locations: bool) -> list[Network]:
    found: list[Network] = []
    for words in _values(parse_configuration(dump), "set_real_ip_from", in_locations):
        try:
            found.append(ipaddress.ip_network(words[0], strict=False))
        except (ValueError, IndexError):
            continue  # a name, or "unix:"
    return found


def _values(
    root: Directives, name: str, in_locations: bool = False, inside: bool = False
) -> Iterator[list[str]]:
    """The words of a directive, in locations or outside of them."""
    inside = inside or root.name == "location"
    if inside is in_locations:
        yield from (words for directive, words in root.directives if directive == name)
    for block in root.blocks:
        yield from _values(block, name, in_locations, inside)


# What people read


def as_facts(blocks: Iterable[BlockedNetwork]) -> list[dict[str, Any]]:
    return [{"network": str(one.network), "until": utc_text(one.until)} for one in blocks]
