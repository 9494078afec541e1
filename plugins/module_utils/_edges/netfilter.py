# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's packet filter on the host, by nft, or by iptables where there is no nft; and the
connections that are open there."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._blocklist import (
    BlocklistError,
    Element,
    InForce,
    Network,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.command import (
    CommandError,
    CommandResult,
    run_command,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._netfilter import (
    FAMILY,
    IPTABLES,
    NFTABLES,
    TABLE,
    iptables_script,
    nft_script,
    read_iptables,
    read_nft,
    socket_filter,
)

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CALL_SECONDS = 10.0
#: How long iptables waits for others that hold its lock.
_LOCK_SECONDS = "5"
_COMMANDS = {4: "iptables", 6: "ip6tables"}
_INSTALL = "ansible-playbook pynomaly.ops.prepare, or install nftables"

_CUT_SECONDS = 20.0
_MAX_NAMESPACES = 500
_NETWORKS_A_CALL = 64

# https://www.kernel.org/doc/html/latest/userspace-api/netlink/intro.html, nf_tables.h, nfnetlink.h
_NETLINK_NETFILTER = 12
_NLM_F_REQUEST, _NLM_F_ACK = 1, 4
_NLMSG_ERROR = 2
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_SUBSYSTEM_NFTABLES = 10
_DELETE_TABLE = _SUBSYSTEM_NFTABLES << 8 | 2
_PROTOCOL_INET = 1
_TABLE_NAME = 1
_ENOENT = 2


def find_program(name: str) -> Optional[str]:
    """Where it is, also for those whose PATH lacks the system's own folders."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}{os.pathsep}{_SYSTEM_PATH}")


@dataclass(frozen=True)
class Cut:
    """What was open with the networks that are blocked and is no more: sockets, of the host and in
    its containers, and entries of connection tracking; C{None} where nobody could."""

    sockets: Optional[int] = None
    tracked: Optional[int] = None


class PacketFilter:
    """What keeps addresses out on this host. Raises L{BlocklistError} where nothing can."""

    def __init__(self) -> None:
        self.backend = _backend()

    def apply(self, elements: Sequence[Element], now: datetime.datetime, previous: str) -> None:
        """Have the kernel keep out just these, from one packet to the next.

        ``previous`` is the backend that kept the elements before: where it is another one, it is
        told to let go once the new one holds. Raises L{BlocklistError}; then the kernel has what it
        had.
        """
        if self.backend == NFTABLES:
            _run_nft(["-f", "-"], nft_script(elements, now))
        else:
            _apply_iptables(elements)
        if previous == NFTABLES and self.backend == IPTABLES:
            delete_table()
        elif previous == IPTABLES and self.backend == NFTABLES and find_program("iptables"):
            _apply_iptables(())

    def read(self, now: datetime.datetime) -> InForce:
        """What the kernel keeps out."""
        if self.backend == NFTABLES:
            return _read_nftables(now)
        return _read_both()


def _backend() -> str:
    if find_program("nft"):
        done = _call(["nft", "list", "tables"])
        if done.exit_code == 0:
            return NFTABLES
        seen = f"nft fails: {_reason(done)}"
    else:
        seen = "nft is not installed"
    if find_program("iptables") and find_program("iptables-restore"):
        done = _call(["iptables", "-w", _LOCK_SECONDS, "-t", "raw", "-S"])
        if done.exit_code == 0:
            return IPTABLES
        seen += f", iptables fails: {_reason(done)}"
    else:
        seen += ", nor is iptables"
    raise BlocklistError(
        f"what: this host cannot block addresses; seen: {seen}; expected: nft, or iptables, run by "
        "root",
        _INSTALL,
    )


def _call(argv: Sequence[str], stdin: Optional[str] = None) -> CommandResult:
    program = find_program(argv[0]) or argv[0]
    try:
        return run_command([program, *argv[1:]], _CALL_SECONDS, stdin=stdin)
    except CommandError as error:
        raise BlocklistError(str(error), _INSTALL if error.missing else "") from error


def _reason(done: CommandResult) -> str:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("#")]
    return lines[0][:200] if lines else f"exit code {done.exit_code}"


# nft


def _run_nft(arguments: Sequence[str], stdin: Optional[str] = None) -> str:
    done = _call(["nft", *arguments], stdin)
    if done.exit_code != 0:
        raise BlocklistError(
            f"what: nft refuses the table {FAMILY} {TABLE}; seen: {_reason(done)}; expected: it "
            "loaded; what the kernel kept out before it keeps out still",
            "nft list ruleset",
        )
    return done.stdout


def _read_nftables(now: datetime.datetime) -> InForce:
    done = _call(["nft", "-j", "list", "table", FAMILY, TABLE])
    if done.exit_code != 0:
        tables = _run_nft(["list", "tables"])
        if f"table {FAMILY} {TABLE}" not in tables.splitlines():
            return InForce(NFTABLES)
        raise BlocklistError(
            f"the table {FAMILY} {TABLE} cannot be read: {_reason(done)}", "nft list ruleset"
        )
    try:
        return read_nft(done.stdout, now)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BlocklistError(
            f"nft's answer about the table {FAMILY} {TABLE} is not understood: {error!r}",
            f"nft -j list table {FAMILY} {TABLE}",
        ) from error


def delete_table() -> None:
    """Take our nftables table out of the kernel where there is no nft (any more) to do it. One that
    is not there is no error. Raises L{BlocklistError}."""
    name = TABLE.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(name), _TABLE_NAME) + name
    attribute += b"\0" * (-len(attribute) % 4)
    subsystem = struct.pack("!H", _SUBSYSTEM_NFTABLES)
    request = _message(_BATCH_BEGIN, _NLM_F_REQUEST, 1, b"\0\0" + subsystem)
    request += _message(
        _DELETE_TABLE,
        _NLM_F_REQUEST | _NLM_F_ACK,
        2,
        bytes([_PROTOCOL_INET, 0, 0, 0]) + attribute,
    )
    request += _message(_BATCH_END, _NLM_F_REQUEST, 3, b"\0\0" + subsystem)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as kernel:
            kernel.settimeout(_CALL_SECONDS)
            kernel.bind((0, 0))
            kernel.send(request)
            answer = kernel.recv(65536)
    except OSError as error:
        raise BlocklistError(
            f"the table {FAMILY} {TABLE} could not be taken out of the kernel: {error}",
            f"install nftables, then: nft delete table {FAMILY} {TABLE}",
        ) from error
    _length, kind = struct.unpack_from("=IH", answer)
    code = -struct.unpack_from("=i", answer, 16)[0] if kind == _NLMSG_ERROR else 0
    if code not in (0, _ENOENT):
        raise BlocklistError(
            f"the kernel keeps the table {FAMILY} {TABLE}: {os.strerror(code)}",
            f"install nftables, then: nft delete table {FAMILY} {TABLE}",
        )


def _message(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, number, 0) + payload


# iptables


def _apply_iptables(elements: Sequence[Element]) -> None:
    scripts = {}
    for version, command in _COMMANDS.items():
        own = [one for one in elements if one.network.version == version]
        if find_program(command) is None:
            if own:
                raise BlocklistError(
                    f"what: {command} is not installed; seen: {len(own)} networks of IPv{version} "
                    "to block; expected: it, or nft",
                    _INSTALL,
                )
            continue
        try:
            _ends, hung, exists = _read_family(version)
        except BlocklistError:
            if own:
                raise
            continue  # a kernel without IPv6 has nothing to be taken away
        if own or exists:
            scripts[version] = iptables_script(own, version, hung)
    for options in (["--test"], []):  # no family is touched unless both are fine
        for version, script in scripts.items():
            _restore(version, script, options)


def _restore(version: int, script: str, options: Sequence[str]) -> None:
    command = f"{_COMMANDS[version]}-restore"
    done = _call([command, "-w", _LOCK_SECONDS, "--noflush", *options], script)
    if done.exit_code != 0:
        raise BlocklistError(
            f"what: {command} refuses the rules; seen: {_reason(done)}; expected: them loaded",
            f"{_COMMANDS[version]} -t raw -S; modprobe xt_time",
        )


def _read_family(version: int) -> tuple[dict[Network, datetime.datetime], set[str], bool]:
    done = _call([_COMMANDS[version], "-w", _LOCK_SECONDS, "-t", "raw", "-S"])
    if done.exit_code != 0:
        raise BlocklistError(
            f"{_COMMANDS[version]} cannot read the table raw: {_reason(done)}",
            f"{_COMMANDS[version]} -t raw -S",
        )
    return read_iptables(done.stdout)


def _read_both() -> InForce:
    ends: dict[Network, datetime.datetime] = {}
    whole = []
    for version, command in _COMMANDS.items():
        if find_program(command) is None:
            continue
        try:
            found, hung, exists = _read_family(version)
        except BlocklistError:
            continue  # what it keeps out is not seen, and so not taken for granted
        ends.update(found)
        if exists or found or hung:
            whole.append(exists and len(hung) == 2)
    return InForce(IPTABLES, ends, bool(whole) and all(whole))


# Connections


def cut(networks: Sequence[Network]) -> Cut:
    """Close the sockets that are connected with these networks, in every network namespace of this
    host's processes, and forget them in connection tracking, so that nothing goes on once the
    block has ended. What lacks the programs or rights for it is told by C{None}.

    The networks are to be blocked already: their end is not told.
    """
    sockets = None
    if find_program("ss"):
        sockets = 0
        deadline = time.monotonic() + _CUT_SECONDS
        for namespace in _namespaces():
            for start in range(0, len(networks), _NETWORKS_A_CALL):
                if time.monotonic() > deadline:
                    return Cut(None, _forget(networks))
                chosen = networks[start : start + _NETWORKS_A_CALL]
                sockets += _close_sockets(namespace, chosen)
    return Cut(sockets, _forget(networks))


def _close_sockets(namespace: Optional[int], networks: Sequence[Network]) -> int:
    """How many were closed; ``namespace`` is a process that is in it, C{None} for our own."""
    enter = ["nsenter", f"--net=/proc/{namespace}/ns/net"] if namespace is not None else []
    ss = find_program("ss") or "ss"
    try:
        done = _call([*enter, ss, "-K", "-H", "-n", "-t", "-u", "-a", *socket_filter(networks)])
    except BlocklistError:
        return 0
    return len([line for line in done.stdout.splitlines() if line.strip()])


def _namespaces() -> Iterator[Optional[int]]:
    """Our own, then one process of each other."""
    seen = set()
    with contextlib.suppress(OSError):
        seen.add(str(Path("/proc/self/ns/net").readlink()))
    yield None
    if find_program("nsenter") is None:
        return
    pids = sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    for pid in pids:
        try:
            name = str(Path(f"/proc/{pid}/ns/net").readlink())
        except OSError:
            continue
        if name not in seen and len(seen) <= _MAX_NAMESPACES:
            seen.add(name)
            yield pid


def _forget(networks: Sequence[Network]) -> Optional[int]:
    if find_program("conntrack") is None:
        return None
    forgotten = 0
    for network in networks:
        family = "ipv4" if network.version == 4 else "ipv6"
        for side in ("-s", "-d"):
            with contextlib.suppress(BlocklistError):
                done = _call(["conntrack", "-D", "-f", family, side, str(network)])
                forgotten += len([line for line in done.stdout.splitlines() if line.strip()])
    return forgotten
