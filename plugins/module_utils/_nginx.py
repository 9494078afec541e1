# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx: its access log, its configuration test, and what its configuration says of TLS."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._http import excerpt, without_query
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    UNKNOWN,
    Measurement,
    Target,
)

#: How nginx begins a line on standard error, and one in its error log when that is the same.
_LOG_HEAD = re.compile(
    r"^(?:nginx: (?:\[\w+\] )?|\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[\w+\] \d+#\d+: )"
)

#: What the engine's exec answers where a program cannot be run, or is not there.
CANNOT_RUN = (126, 127)


@dataclass(frozen=True)
class AccessLine:
    """``path`` is without its query."""

    status: int
    path: str
    user_agent: str = ""


# The request, its status and size, and what formats made after "combined" append: anything in
# front of the request is passed over, so that a format with other first fields is read as well.
_COMBINED = re.compile(
    rb'"(?:[A-Z]+ (?P<path>\S+)[^"]*|[^"]*)" (?P<status>[1-5]\d\d) (?:\d+|-)'
    rb'(?: "[^"]*" "(?P<agent>[^"]*)")?'
)
_JSON_STATUS = ("status", "status_code", "response_status", "response_code")
_JSON_PATH = ("request_uri", "uri", "path", "url", "request")
_JSON_AGENT = ("http_user_agent", "user_agent", "agent", "useragent")


def parse_access_line(line: bytes) -> Optional[AccessLine]:
    """A line of an access log in nginx's combined format, in one that begins or ends
    differently, or in JSON; C{None} for anything else."""
    if line.lstrip()[:1] == b"{":
        return _parse_json_line(line)
    match = _COMBINED.search(line)
    if match is None:
        return None
    return AccessLine(
        int(match["status"]),
        without_query((match["path"] or b"").decode("utf-8", "replace")),
        (match["agent"] or b"").decode("utf-8", "replace"),
    )


def _parse_json_line(line: bytes) -> Optional[AccessLine]:
    try:
        document: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    fields = {name.lower(): value for name, value in document.items()}
    status = str(_first(fields, _JSON_STATUS))
    if not re.fullmatch(r"[1-5]\d\d", status):
        return None
    path = str(_first(fields, _JSON_PATH))
    words = path.split()
    if len(words) > 1:  # "GET /path HTTP/1.1"
        path = words[1]
    return AccessLine(int(status), without_query(path), str(_first(fields, _JSON_AGENT)))


def _first(fields: dict[str, Any], names: Sequence[str]) -> Any:
    return next((fields[name] for name in names if fields.get(name) not in (None, "")), "")


# nginx -t


def config_test(target: Target, exit_code: int, output: str) -> Measurement:
    """What C{nginx -t} or C{nginx -T} said. A test that may not read or write what it must tells
    nothing of the configuration."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if exit_code == 0:
        said_so = (line for line in lines if _LOG_HEAD.match(line))  # the rest of -T is the files
        warnings = [excerpt(line) for line in said_so if "[warn]" in line]
        suffix = f", {len(warnings)} warnings" if warnings else ""
        return Measurement(
            target, status=OK, message=f"nginx -t passes{suffix}", detail=warnings or None
        )
    said = _emergency(lines)
    if exit_code in CANNOT_RUN:
        return Measurement(
            target,
            status=UNKNOWN,
            message=f"nginx cannot be run in the container: {excerpt(said)}",
            hint="set the nginx service's name, should this be no nginx",
        )
    if "Permission denied" in said:
        return Measurement(
            target,
            status=UNKNOWN,
            message=f"nginx -t lacks a permission in the container: {excerpt(said)}",
        )
    return Measurement(
        target, status=CRITICAL, message=f"nginx -t fails: {failure_of_test(output)}"
    )


def _emergency(lines: Sequence[str]) -> str:
    return next((line for line in lines if "[emerg]" in line), lines[-1] if lines else "nothing")


def failure_of_test(output: str) -> str:
    """Why C{nginx -t} failed, out of its output, fit to be shown."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return excerpt(_LOG_HEAD.sub("", _emergency(lines)), characters=200)


# nginx -T


@dataclass(frozen=True)
class TlsServer:
    """A server block that listens with TLS. ``certificates`` are paths in the container."""

    ports: tuple[int, ...]
    names: tuple[str, ...]
    certificates: tuple[str, ...]


_TOKEN = re.compile(
    r"""\#[^\n]* | (?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r""" | (?P<mark>[{};]) | (?P<word>(?:\$\{[^}]*\}|\\.|[^\s{};])+)""",
    re.VERBOSE | re.DOTALL,
)
_UNQUOTE = re.compile(r"\\(.)", re.DOTALL)
DEFAULT_PREFIX = "/etc/nginx"


@dataclass
class Block:
    """A configuration block: its directives, and the blocks inside it."""

    name: str
    directives: list[tuple[str, list[str]]]
    blocks: list[Block]


def _tokens(text: str) -> Iterator[tuple[bool, str]]:
    """(Whether it is a mark, the token's text)."""
    for match in _TOKEN.finditer(text):
        if match["quoted"] is not None:
            yield False, _UNQUOTE.sub(r"\1", match["quoted"][1:-1])
        elif match["mark"] is not None:
            yield True, match["mark"]
        elif match["word"] is not None:
            yield False, match["word"]


def parse_configuration(text: str) -> Block:
    # What the test said on standard error stands among it, and is no directive.
    text = "\n".join(line for line in text.split("\n") if not _LOG_HEAD.match(line))
    root = Block("", [], [])
    open_blocks = [root]
    words: list[str] = []
    for is_mark, part in _tokens(text):
        if not is_mark:
            words.append(part)
            continue
        if part == "{":
            block = Block(words[0] if words else "", [], [])
            open_blocks[-1].blocks.append(block)
            open_blocks.append(block)
        elif part == ";" and words:
            open_blocks[-1].directives.append((words[0], words[1:]))
        elif part == "}" and len(open_blocks) > 1:
            open_blocks.pop()
        words = []
    return root


def tls_servers(dump: str, prefix: str = DEFAULT_PREFIX) -> list[TlsServer]:
    """The server blocks with TLS in the output of C{nginx -T}.

    Included files appear in it one after another and not in each other's place, so that a
    certificate set outside of a server block holds for all blocks that set none. Certificates
    that are given by a variable, or in the text itself, are left out.
    """
    inherited: list[str] = []
    blocks: list[Block] = []
    pending = [parse_configuration(dump)]
    while pending:
        block = pending.pop(0)
        if block.name == "server":
            blocks.append(block)
            continue
        inherited += _values(block, "ssl_certificate")
        pending += block.blocks
    servers = []
    for block in blocks:
        switched_on = ["on"] in [words for name, words in block.directives if name == "ssl"]
        ports = {
            listen_port(words)
            for name, words in block.directives
            if name == "listen" and words and ("ssl" in words or "quic" in words or switched_on)
            # QUIC answers over UDP alone
            if "quic" not in words
        }
        ports.discard(None)
        if not ports:
            continue
        certificates = _values(block, "ssl_certificate") or inherited
        servers.append(
            TlsServer(
                tuple(sorted(port for port in ports if port is not None)),
                tuple(
                    name
                    for directive, words in block.directives
                    if directive == "server_name"
                    for name in words
                ),
                tuple(
                    path if path.startswith("/") else f"{prefix}/{path}"
                    for path in certificates
                    if "$" not in path and not path.startswith(("data:", "engine:"))
                ),
            )
        )
    return servers


def _values(block: Block, name: str) -> list[str]:
    return [words[0] for directive, words in block.directives if directive == name and words]


def listen_port(words: Sequence[str]) -> Optional[int]:
    address = words[0]
    if address.startswith("unix:"):
        return None
    port = address.rpartition(":")[2] if not address.endswith("]") else ""
    if port.isdigit():
        return int(port)
    return 80


def concrete_name(servers: Sequence[TlsServer]) -> Optional[str]:
    """The first name that a client could use: no wildcard, pattern, catch-all or loopback."""
    for server in servers:
        for name in server.names:
            plain = re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", name)
            if plain and not re.fullmatch(r"[\d.]+", name):
                return name.lower()
    return None
