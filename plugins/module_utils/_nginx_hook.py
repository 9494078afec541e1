# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file of ours inside nginx's server blocks: where it can be added, and the conditions that it
is written with, of an address and of the time."""

from __future__ import annotations

import fnmatch
import hashlib
import ipaddress
import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container, Mount
from ansible_collections.pynomaly.ops.plugins.module_utils._nginx import (
    Block,
    listen_port,
    parse_configuration,
)

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class HookError(Exception):
    """A file cannot be added. The text says what was seen and expected; ``hint`` is what to run
    next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class NoHookError(HookError):
    """This nginx has no place for it."""


# The file

MARKER = "@MARKER@"
#: nginx reads no word of its configuration, and no comment, that is longer than 4095 bytes.
MAX_WORD_CHARACTERS = 4000
_COMMENT = "# "


def with_facts(header: str, facts: Mapping[str, Any], lines: Iterable[str]) -> str:
    """A file's text: its first line, what it says of itself, and what nginx is told. Wherever
    L{MARKER} stands, the digest of all that is put, which tells the file from any other."""
    described = json.dumps({**facts, "marker": MARKER}, sort_keys=True)
    size = MAX_WORD_CHARACTERS - len(_COMMENT) - 32
    comments = [
        _COMMENT + described[start : start + size] for start in range(0, len(described), size)
    ]
    text = "\n".join([header, *comments, *lines]) + "\n"
    return text.replace(MARKER, hashlib.sha256(text.encode()).hexdigest()[:16])


def read_facts(header: str, text: str) -> Optional[dict[str, Any]]:
    """What a file with this first line says of itself; C{None} for any other file."""
    first, *lines = text.split("\n")
    described = ""
    for line in lines:
        if not line.startswith(_COMMENT):
            break
        described += line[len(_COMMENT) :]
    try:
        facts = json.loads(described)
    except ValueError:
        return None
    told = first == header and isinstance(facts, dict) and isinstance(facts.get("marker"), str)
    return facts if told else None


# Conditions


def at_or_after(epoch: int) -> str:
    """A regular expression for all decimal numbers from ``epoch`` on, without leading zeros."""
    digits = str(epoch)
    alternatives = []
    for place, digit in enumerate(digits):
        rest = len(digits) - place - 1
        least = int(digit) + (1 if rest else 0)
        if least <= 9:
            tail = f"[0-9]{{{rest}}}" if rest else ""
            alternatives.append(f"{digits[:place]}[{least}-9]{tail}")
    alternatives.append(f"[0-9]{{{len(digits) + 1},}}")
    return f"(?:{'|'.join(alternatives)})"


def network_pattern(network: Network) -> str:
    """A regular expression for the bytes of the addresses in a network.

    IPv4 addresses are recognised as well where nginx has them from a socket of both families, as
    C{::ffff:a.b.c.d}.
    """
    data = network.network_address.packed
    whole, bits = divmod(network.prefixlen, 8)
    pattern = "".join(f"\\x{byte:02x}" for byte in data[:whole])
    if bits:
        last = data[whole] | (0xFF >> bits)
        pattern += f"[\\x{data[whole]:02x}-\\x{last:02x}]"
    rest = len(data) - whole - (1 if bits else 0)
    # No "." and no "$": a byte of an address may be a line break.
    pattern += f"[\\x00-\\xff]{{{rest}}}" if rest else ""
    mapped = "(?:\\x00{10}\\xff\\xff)?" if network.version == 4 else ""
    return f"^{mapped}{pattern}\\z"


# Where nginx can be told


@dataclass(frozen=True)
class Front:
    """A port of a server block, as it is asked from the host."""

    port: int
    tls: bool = False
    server_name: str = ""


@dataclass(frozen=True)
class Hook:
    """A file that nginx reads inside server blocks.

    ``path`` is its place in the container, ``file`` the same on the host. ``fronts`` are the ports
    where its effect can be seen, ``without`` the published ports whose server blocks do not read
    it, ``late`` the ports where requests may be answered or rewritten before it is read.
    """

    path: str
    file: str
    fronts: Sequence[Front]
    without: Sequence[int] = ()
    late: Sequence[int] = ()


@dataclass(frozen=True)
class _Server:
    includes: Sequence[str]
    fronts: Sequence[Front]
    redirects: bool
    includes_behind_rewrites: Sequence[str] = ()


def find_hook(dump: str, container: Container, stem: str) -> Hook:
    """Where a file whose name has ``stem`` in it can be added so that the public server blocks
    read it, out of the output of C{nginx -T} in a container. Raises L{NoHookError}."""
    prefix = _prefix(dump)
    servers, outside = _read(parse_configuration(dump), prefix)
    patterns = [pattern for server in servers for pattern in dict.fromkeys(server.includes)]
    candidates = []
    for pattern in dict.fromkeys(patterns):
        path = _file_for(pattern, stem)
        if path is None or _matches(path, outside):
            continue
        matching = [server for server in servers if _matches(path, server.includes)]
        twice = [server for server in matching if _matches(path, server.includes) > 1]
        file = host_path(path, container.mounts)
        if file is not None and not twice:
            candidates.append((len(matching), path, file, matching))
    if not candidates:
        seen = ", ".join(dict.fromkeys(patterns)) or "no include at all"
        raise NoHookError(
            f"nginx in {container.name} reads no file that could be added to its server blocks: "
            f"seen in them {seen}; expected an include such as /etc/nginx/server.d/*.conf, in a "
            "folder that is mounted from the host",
            "add `include /etc/nginx/server.d/*.conf;` to each public server block and mount a "
            "folder on /etc/nginx/server.d",
        )
    _count, path, file, matching = max(candidates, key=lambda one: one[0])
    fronts = [front for server in matching if not server.redirects for front in server.fronts]
    published = {port.container_port for port in container.ports}
    without = {
        front.port
        for server in servers
        if server not in matching
        for front in server.fronts
        if front.port in published or "host" in container.networks
    }
    late = {
        front.port
        for server in matching
        if not server.redirects and _matches(path, server.includes_behind_rewrites)
        for front in server.fronts
    }
    return Hook(
        path, file, tuple(dict.fromkeys(fronts)), tuple(sorted(without)), tuple(sorted(late))
    )


def _matches(path: str, patterns: Iterable[str]) -> int:
    """How often. An asterisk stands for no slash, as in glob(3), which nginx asks."""
    return sum(
        fnmatch.fnmatchcase(path, pattern) and path.count("/") == pattern.count("/")
        for pattern in patterns
    )


def _prefix(dump: str) -> str:
    """The folder that relative includes are below: that of the first file."""
    match = re.search(r"^# configuration file (/.+):$", dump, re.MULTILINE)
    return posixpath.dirname(match.group(1)) if match else "/etc/nginx"


def _read(root: Block, prefix: str) -> tuple[list[_Server], list[str]]:
    """The HTTP server blocks, and what is included outside of all blocks below C{http}."""
    servers: list[_Server] = []
    outside: list[str] = []
    pending = [root]
    while pending:
        block = pending.pop(0)
        if block.name == "server":
            servers.append(_server(block, prefix))
        elif block.name in ("", "http", "stream", "events", "mail"):
            outside += _includes(block, prefix)
            # A server block of a stream is no web server's.
            pending += [] if block.name in ("stream", "mail") else block.blocks
    return servers, outside


def _includes(block: Block, prefix: str) -> list[str]:
    return _included(block.directives, prefix)


def _included(directives: Iterable[tuple[str, list[str]]], prefix: str) -> list[str]:
    return [
        posixpath.join(prefix, words[0])
        for name, words in directives
        if name == "include" and words
    ]


def _behind_rewrites(block: Block, prefix: str) -> list[str]:
    """What is included after a directive that may end the rewriting of a request."""
    for number, (name, words) in enumerate(block.directives):
        if name in ("return", "break") or (
            name == "rewrite" and words[-1] in ("last", "break", "redirect", "permanent")
        ):
            return _included(block.directives[number:], prefix)
    return []


def _server(block: Block, prefix: str) -> _Server:
    names = [word for name, words in block.directives if name == "server_name" for word in words]
    plain = [name for name in names if re.fullmatch(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*", name)]
    listens = [words for name, words in block.directives if name == "listen" and words]
    tls_everywhere = ("ssl", ["on"]) in block.directives
    fronts = [
        Front(port, "ssl" in words or tls_everywhere, plain[0] if plain else "")
        for words in listens or [["80"]]
        for port in [listen_port(words)]
        if port is not None and _is_reachable(words)
    ]
    redirects = any(name == "return" for name, _words in block.directives)
    return _Server(
        tuple(_includes(block, prefix)),
        tuple(dict.fromkeys(fronts)),
        redirects,
        tuple(_behind_rewrites(block, prefix)),
    )


def _is_reachable(words: Sequence[str]) -> bool:
    """Whether a plain request from the host gets through: no loopback, no QUIC, no PROXY header."""
    address = words[0].rpartition(":")[0].strip("[]")
    loopback = address in ("localhost", "::1") or address.startswith("127.")
    return not loopback and "quic" not in words and "proxy_protocol" not in words


def _file_for(pattern: str, stem: str) -> Optional[str]:
    """A new file that an include's pattern matches; C{None} where it names single files, or
    folders by a pattern."""
    folder, name = posixpath.split(pattern)
    if name.count("*") != 1 or re.search(r"[?\[\]]", name) or re.search(r"[*?\[\]$]", folder):
        return None
    return posixpath.join(folder, name.replace("*", stem))


def host_path(path: str, mounts: Sequence[Mount]) -> Optional[str]:
    """Where a new file of a container is on the host; C{None} where its folder is no mount's."""
    best: Optional[Mount] = None
    for mount in mounts:
        destination = mount.destination.rstrip("/")
        if path.startswith(f"{destination}/") and (
            best is None or len(destination) > len(best.destination.rstrip("/"))
        ):
            best = mount
    if best is None or not best.source or best.kind not in ("bind", "volume"):
        return None
    return posixpath.join(best.source, path[len(best.destination.rstrip("/")) + 1 :])
