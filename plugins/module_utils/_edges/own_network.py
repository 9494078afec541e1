# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must not be blocked on this host: its own addresses, those that it cannot do without, its
containers', and where its operator comes from."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import (
    BlocklistError,
    Protected,
    parse_network,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.command import (
    CommandError,
    run_command,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.netfilter import find_program

_CALL_SECONDS = 10.0
_RESOLVER_FILE = Path("/etc/resolv.conf")
_BRIDGES = ("docker", "br-")
_MAX_ANCESTORS = 64


def protected_by_host() -> list[Protected]:
    """The host's addresses, its gateways and name servers, and the networks of Docker's bridges.

    Raises L{BlocklistError} where they cannot be read: who does not know them blocks nothing.
    """
    found = []
    for interface in _ip("address", "show"):
        is_bridge = str(interface.get("ifname", "")).startswith(_BRIDGES)
        for one in interface.get("addr_info") or ():
            address = str(one.get("local") or "")
            found += _named([address], "an address of this host")
            if is_bridge:
                found += _named([f"{address}/{one.get('prefixlen')}"], "a network of Docker's")
    for family in ("-4", "-6"):
        routes = _ip(family, "route", "show", "default")
        found += _named([one.get("gateway") for one in routes], "a gateway of this host")
        hops = [hop for one in routes for hop in one.get("nexthops") or ()]
        found += _named([hop.get("gateway") for hop in hops], "a gateway of this host")
    return found + _named(_resolvers(), "a name server of this host")


def protected_by_docker(networks: Iterable[Mapping[str, Any]]) -> list[Protected]:
    """The subnets and gateways of networks as the engine lists them."""
    found = []
    for network in networks:
        name = f"of Docker's network {network.get('Name')}"
        for pool in (network.get("IPAM") or {}).get("Config") or ():
            found += _named([pool.get("Subnet")], f"the subnet {name}")
            found += _named([pool.get("Gateway")], f"the gateway {name}")
            found += _named((pool.get("AuxiliaryAddresses") or {}).values(), f"an address {name}")
    return found


def past_the_filter(networks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Networks whose containers are on the wire themselves, so that the host's packet filter does
    not see what they get."""
    return [
        str(network.get("Name"))
        for network in networks
        if network.get("Driver") in ("macvlan", "ipvlan")
    ]


def protected_by_user(addresses: Iterable[str], what: str) -> list[Protected]:
    """What the user says. Raises L{BlocklistError} for what is no address or network."""
    return [Protected(parse_network(text), what) for text in addresses if text.strip()]


def ssh_connection() -> Optional[tuple[str, str]]:
    """Address and port of the client whose SSH session this process belongs to, C{None} outside of
    one. sudo takes the variable away: then an ancestor still has it."""
    pid = os.getpid()
    for _generation in range(_MAX_ANCESTORS):
        with contextlib.suppress(OSError, IndexError):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            values = [one for one in environment if one.startswith(b"SSH_CONNECTION=")]
            words = values[0].partition(b"=")[2].decode("ascii", "replace").split()
            return words[0].partition("%")[0], words[1]
        parent = _parent(pid)
        if parent <= 1:
            return None
        pid = parent
    return None


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        # The name before may have blanks and brackets.
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return int(status.rpartition(")")[2].split()[1])
    return 0


def _named(texts: Iterable[Any], what: str) -> list[Protected]:
    found = []
    for text in texts:
        with contextlib.suppress(ValueError):
            cleaned = str(text or "").replace("%", "/").split("/")
            address = ipaddress.ip_address(cleaned[0])
            length = cleaned[1] if len(cleaned) > 1 and cleaned[1].isdigit() else ""
            whole = f"{address}/{length}" if length else str(address)
            found.append(Protected(ipaddress.ip_network(whole, strict=False), what))
    return found


def _resolvers() -> list[str]:
    with contextlib.suppress(OSError):
        lines = _RESOLVER_FILE.read_text(encoding="utf-8", errors="replace").splitlines()
        words = [line.split() for line in lines]
        return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    return []


def _ip(*arguments: str) -> Sequence[Mapping[str, Any]]:
    command = "ip -j " + " ".join(arguments)
    try:
        done = run_command([find_program("ip") or "ip", "-j", *arguments], _CALL_SECONDS)
        if done.exit_code != 0:
            raise CommandError(done.stderr.strip()[:200] or f"exit code {done.exit_code}")
        answer = json.loads(done.stdout or "[]")
    except (CommandError, ValueError) as error:
        raise BlocklistError(
            f"what: this host's own addresses are not known; seen: {error}; expected: them, so "
            "that none is blocked",
            command,
        ) from error
    return [one for one in answer if isinstance(one, dict)]
