# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.pynomaly.ops.plugins.module_utils._sockets import (
    Socket,
    kernel_address,
    parse_sockets,
    parse_status,
    peers,
    start_ticks,
)

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid ...\n"
#: What stands between state and user id, and behind the inode, as a kernel writes it.
QUEUES, REST = "00000000:00000000 00:00000000 00000000   999        0", "1 0000000000000000 100 0 0"


def line(ends: str, state: str, inode: int) -> str:
    return f"   0: {ends} {state} {QUEUES} {inode} {REST}\n"


TCP = HEAD + "".join(
    (
        line("00000000:1538 00000000:0000", "0A", 4321),
        line("020012AC:1538 077100CB:C350", "01", 4400),
        line("020012AC:1538 077100CB:C351", "01", 4401),
        line("020012AC:9C40 08080808:01BB", "01", 4402),
        line("0100007F:1538 0100007F:C352", "01", 4403),
        "   5: torn\n",
        line("zz:1538 0100007F:C352", "01", 4404),
    )
)


def test_sockets_of_tcp() -> None:
    found = parse_sockets(TCP, "tcp")
    assert found[0] == Socket("tcp", "0.0.0.0", 5432, "0.0.0.0", 0, "listen", 999, 4321)
    assert found[1] == Socket(
        "tcp", "172.18.0.2", 5432, "203.0.113.7", 50000, "established", 999, 4400
    )
    assert len(found) == 5
    assert found[0].is_listening and not found[1].is_listening


def test_addresses_of_ipv6_and_of_ipv4_in_its_clothes() -> None:
    assert kernel_address("B80D0120000000000000000001000000") == "2001:db8::1"
    assert kernel_address("0000000000000000FFFF0000077100CB") == "203.0.113.7"


def test_a_bound_udp_socket_listens() -> None:
    (one,) = parse_sockets(HEAD + line("00000000:0035 00000000:0000", "07", 99), "udp")
    assert one.is_listening and one.state == "unconnected"


def test_peers_are_those_who_came_not_those_that_were_gone_to() -> None:
    assert peers(parse_sockets(TCP, "tcp")) == [("203.0.113.7", 5432, 2)]


def test_status_and_start() -> None:
    status = parse_status("Name:\tnginx\nUid:\t0\t101\t0\t0\nNSpid:\t812\t7\n")
    assert status["Name"] == "nginx" and status["NSpid"] == "812 7" and status["Uid"] == "0 101 0 0"
    stat = "812 (a ) b) S 1 " + " ".join(str(number) for number in range(5, 23))
    assert start_ticks(stat) == 22
    assert start_ticks("") is None
