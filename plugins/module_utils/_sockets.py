# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sockets and processes as C{/proc} tells them: proc_net(5), proc_pid_status(5)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

#: include/net/tcp_states.h of the kernel; UDP uses the same numbers.
_STATES = {
    "01": "established",
    "02": "syn-sent",
    "03": "syn-recv",
    "04": "fin-wait-1",
    "05": "fin-wait-2",
    "06": "time-wait",
    "07": "close",
    "08": "close-wait",
    "09": "last-ack",
    "0A": "listen",
    "0B": "closing",
    "0C": "new-syn-recv",
}
LISTEN = "listen"
#: A UDP socket that is bound and connected to nobody.
UNCONNECTED = "unconnected"


@dataclass(frozen=True)
class Socket:
    """One line of C{/proc/net/tcp} and its like; ``inode`` is 0 where no process holds it."""

    protocol: str
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    state: str
    uid: int
    inode: int

    @property
    def is_listening(self) -> bool:
        return self.state in (LISTEN, UNCONNECTED)


def kernel_address(raw: str) -> str:
    """The kernel writes an address as 32-bit words, each in the host's (little-endian) order. One
    of IPv4 in IPv6's clothes is IPv4's."""
    packed = b"".join(
        bytes.fromhex(raw[start : start + 8])[::-1] for start in range(0, len(raw), 8)
    )
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def parse_sockets(text: str, protocol: str) -> list[Socket]:
    """All sockets of ``/proc/net/PROTOCOL`` (tcp, tcp6, udp, udp6); other lines are passed over."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10:
            continue
        try:
            local, remote = (end.partition(":")[::2] for end in fields[1:3])
            state = _STATES.get(fields[3], fields[3])
            if protocol.startswith("udp") and state == "close":
                state = UNCONNECTED
            found.append(
                Socket(
                    protocol,
                    kernel_address(local[0]),
                    int(local[1], 16),
                    kernel_address(remote[0]),
                    int(remote[1], 16),
                    state,
                    int(fields[7]),
                    int(fields[9]),
                )
            )
        except (ValueError, IndexError):
            continue
    return found


def parse_status(text: str) -> Mapping[str, str]:
    """``/proc/PID/status`` by name."""
    found = {}
    for line in text.splitlines():
        name, _colon, value = line.partition(":")
        found[name] = " ".join(value.split())
    return found


def start_ticks(text: str) -> Optional[int]:
    """When a process began, in clock ticks since the boot: field 22 of ``/proc/PID/stat``, whose
    second field may have blanks and brackets in it."""
    fields = text.rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[19].isdigit() else None


def peers(sockets: Iterable[Socket]) -> Sequence[tuple[str, int, int]]:
    """(remote address, local port, how many), the most first, of what is connected to a port that
    something listens on."""
    listed = list(sockets)
    listening = {(one.protocol[:3], one.local_port) for one in listed if one.is_listening}
    counts: dict[tuple[str, int], int] = {}
    for one in listed:
        served = (one.protocol[:3], one.local_port) in listening
        if one.is_listening or not served or ipaddress.ip_address(one.remote_address).is_loopback:
            continue
        key = (one.remote_address, one.local_port)
        counts[key] = counts.get(key, 0) + 1
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return [(address, port, count) for (address, port), count in ordered]
