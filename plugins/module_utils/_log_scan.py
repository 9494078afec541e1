# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who did what, out of logs of any size, in bounded memory.

Lines come in chunks of bytes. One regular expression takes a whole chunk apart; what is left for
Python is a few operations a line. The expensive patterns see only requests in which they can be,
and each distinct request once.

Clients are counted by the algorithm of Misra and Gries ("Finding repeated elements", 1982), whose
summaries can be merged (Agarwal et al., "Mergeable summaries", 2012). As long as nobody had to be
forgotten every figure is exact. After that, with N requests and a capacity of k clients, each
client with more than N / (k + 1) requests is still there, and a figure is too low by
L{HeavyHitters.error} at most, which is N / (k + 1) at most and is told.

A time is the engine's, with which it stamped the line: nobody can forge it from outside. The client
is what nginx or PostgreSQL says of its connection, never what a request says of itself.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Optional, TypeVar, Union

from ansible_collections.pynomaly.ops.plugins.module_utils._log_patterns import (
    DEFAULT_LOGIN_PATHS,
    LOGIN_STATUSES,
    PLAIN_REFERRER,
    PLAIN_REQUEST,
    agent_patterns,
    named_in_forged,
    request_patterns,
)

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

#: Of a longer line only the beginning is read.
MAX_LINE_BYTES = 65536

NGINX, API, POSTGRES, REDIS, OTHER = "nginx", "api", "postgres", "redis", "other"
KINDS = (NGINX, API, POSTGRES, REDIS, OTHER)

#: Clients whose requests are counted, and clients with anything suspicious; twice as many are held
#: between two rounds of forgetting.
CLIENTS_KEPT = 20_000
SUSPECTS_KEPT = 5_000
#: IPv6 clients are told apart by the least that a site is given (RFC 6177), 2**64 addresses.
IPV6_PREFIX_LENGTH = 64

_CACHE_ENTRIES = 20_000
_EXAMPLES = 6
_EXAMPLE_BYTES = 400
_PATH_BITS = 1024
_DISPUTED_KEPT = 1000
_CONNECTIONS_KEPT = 1000
#: nginx cuts a line of its error log at so many bytes (NGX_MAX_ERROR_STR).
_NGINX_ERROR_BYTES = 2048

# A line's beginning: the engine's stamp, which a folder of other origin may lack.
_STAMP = rb"(?:(\d{4}-\d\d-\d\dT\d\d:.{5})\S* )?"
_ADDRESS = rb"([0-9A-Fa-f:.]{2,45})"
_PROTOCOL = rb" HTTP/\d(?:\.\d)?"

#: (stamp, client, request, status unless it is 200, bytes, user agent, or else the whole line)
_NGINX_CHUNK = re.compile(
    _STAMP + _ADDRESS + rb' - \S+ \[.{26}\] "(' + PLAIN_REQUEST + rb")" + _PROTOCOL
    + rb'" (?:200|([1-5]\d\d)) (\d+) "' + PLAIN_REFERRER + rb'" "([^"\\\n]*)".*\n|(.*)\n'
)  # fmt: skip
# INFO:uvicorn.access:203.0.113.7:40000 - "GET /health HTTP/1.1" 200, or uvicorn's own format
_API_CHUNK = re.compile(
    _STAMP + rb"INFO:(?:uvicorn\.access:|     )" + _ADDRESS + rb':\d+ - "(' + PLAIN_REQUEST + rb")"
    + _PROTOCOL + rb'" (?:200|([1-5]\d\d))()()(?: [A-Za-z -]*)?\n|(.*)\n'
)  # fmt: skip
_ANY_CHUNK = re.compile(rb"()()()()()()(.*)\n")

_NGINX_LINE = re.compile(
    _STAMP + rb'([^ "]{2,45}) - [^"]*\] "([^"]*)" ([1-5]\d\d) (\d+|-)'
    rb'(?: "([^"]*)" "([^"]*)"(?: "([^"]*)"\Z)?)?'
)
_API_LINE = re.compile(
    _STAMP + rb'INFO:(?:uvicorn\.access:|     )([^ "]{2,45}):\d+ - "([^"]*)" ([1-5]\d\d)'
    rb"(?: [A-Za-z -]*)?\Z"
)
_STAMPED = re.compile(_STAMP)
_OCTET = rb"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = re.compile(_OCTET + rb"(?:\." + _OCTET + rb"){3}\Z")
_NGINX_ERROR = re.compile(rb"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(\w+)\] \d+#\d+: (\*\d+ )?")
_NGINX_ERROR_CLIENT = re.compile(rb", client: ([0-9A-Fa-f:.]{2,45}), server: ")
_NGINX_BASIC_AUTH = re.compile(
    rb'user ".{0,200}": password mismatch|user ".{0,200}" was not found in'
)
_NGINX_LIMITED = re.compile(rb"limiting (?:requests|connections)")
_NGINX_OTHER = re.compile(rb"/docker-entrypoint|/?\d+-[\w-]+\.sh: |nginx: \[|\Z")

_FAILED_LOGIN_TEXT = re.compile(
    rb"(?i)(?:authenticat\w*|login|logon|sign-?in)\W{1,3}(?:\w+\W{1,3}){0,3}(?:failed|failure|denied)"
    rb"|(?:failed|failure|invalid|incorrect|wrong|bad)\W{1,3}(?:\w+\W{1,3}){0,2}"
    rb"(?:login|authentication|password|credentials?|api[ _-]?key|token)\b|unauthori[sz]ed"
)

_POSTGRES_DENIED = re.compile(
    rb'FATAL:  (?:(password|[A-Za-z0-9-]+) authentication failed for user "'
    rb'|no pg_hba\.conf entry for (?:replication connection from )?host "([0-9A-Fa-f:.]{2,45})"'
    rb'|pg_hba\.conf rejects (?:replication )?connection for host "([0-9A-Fa-f:.]{2,45})")'
)
_POSTGRES_RECEIVED = re.compile(
    rb"LOG:  connection received: host=([0-9A-Fa-f:.]{2,45}) port=\d+\Z"
)
_REDIS_ATTACK = re.compile(
    rb"\d+:[XCSM] [^#]{10,40}# Possible SECURITY ATTACK detected\. .*"
    rb"Connection from \[?([0-9A-Fa-f:.]{2,45}?)\]?:\d+ aborted\.\Z"
)

#: Statuses that are told one by one, after their classes.
STATUSES = (
    *("1xx", "2xx", "3xx", "4xx", "5xx"),
    *("400", "401", "403", "404", "405", "422", "429", "444", "499", "500", "502", "503", "504"),
)
# A record is a list, since an attribute costs more than an item, millions of times.
_KEY, _OFFSET, _FIRST, _LAST, _BYTES, _STATUS = range(6)
_SLOT = {
    str(code).encode(): _STATUS
    + (STATUSES.index(str(code)) if str(code) in STATUSES else code // 100 - 1)
    for code in range(100, 600)
}


def requests_of(record: list[Any]) -> int:
    return sum(record[_STATUS:])


class Suspect:
    """What is known of one client besides its requests. Times are the engine's, to the second."""

    __slots__ = (
        "_minute",
        "_minute_logins",
        "counts",
        "examples",
        "first",
        "last",
        "logins_per_minute",
        "offset",
        "paths",
        "weight",
    )

    def __init__(self) -> None:
        self.weight = 0
        self.offset = 0
        self.first = b""
        self.last = b""
        self.counts: dict[str, int] = {}
        self.examples: dict[str, bytes] = {}
        self.paths = 0
        self.logins_per_minute = 0
        self._minute = b""
        self._minute_logins = 0

    def add(self, when: bytes, pattern: str, example: bytes) -> None:
        self.weight += 1
        self.counts[pattern] = self.counts.get(pattern, 0) + 1
        self.seen(when)
        if pattern not in self.examples and len(self.examples) < _EXAMPLES:
            self.examples[pattern] = example[:_EXAMPLE_BYTES]
        if pattern == "failed_login":
            minute = when[:16]
            self._minute_logins = self._minute_logins + 1 if minute == self._minute else 1
            self._minute = minute
            if minute:
                self.logins_per_minute = max(self.logins_per_minute, self._minute_logins)

    def not_found(self, when: bytes, path: bytes) -> None:
        """Distinct paths are a set of bits by Python's keyed hash, which nobody outside can aim at.
        As many as are set there were at least."""
        self.weight += 1
        self.seen(when)
        self.paths |= 1 << (hash(path) % _PATH_BITS)

    def seen(self, when: bytes) -> None:
        if when and (not self.first or when < self.first):
            self.first = when
        self.last = max(self.last, when)

    @property
    def paths_not_found(self) -> int:
        """How many distinct paths were not found, at least."""
        return bin(self.paths).count("1")

    def merge(self, other: Suspect) -> None:
        self.weight += other.weight
        self.offset += other.offset
        for name, count in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        for name, example in other.examples.items():
            if name not in self.examples and len(self.examples) < _EXAMPLES:
                self.examples[name] = example
        self.paths |= other.paths
        self.logins_per_minute = max(self.logins_per_minute, other.logins_per_minute)
        self.seen(other.first)
        self.seen(other.last)


Record = TypeVar("Record", Suspect, "list[Any]")


class HeavyHitters(Generic[Record]):
    """Records by key, of which the lightest are forgotten past twice the capacity.

    ``error`` is by how much the weight of any key can be too low; 0 where nothing was forgotten.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.error = 0
        self.forgotten = 0
        self.records: dict[str, Record] = {}
        self.pinned: set[str] = set()

    @staticmethod
    def _count(record: Record) -> int:
        if isinstance(record, Suspect):
            return record.weight - record.offset
        return requests_of(record) - int(record[_OFFSET])

    def most(self, key: str) -> int:
        """What a key's weight is at most. It is at least what its record says."""
        record = self.records.get(key)
        if record is None:
            return self.error
        return self._count(record) + (0 if key in self.pinned else self.error)

    @property
    def is_full(self) -> bool:
        return len(self.records) >= 2 * self.capacity + len(self.pinned)

    def prune(self) -> list[Record]:
        """Take the weight of the heaviest that has to go from all, and forget those that have none
        left; returns them. Pinned ones stay."""
        counts = sorted(
            (self._count(one) for key, one in self.records.items() if key not in self.pinned),
            reverse=True,
        )
        if len(counts) <= self.capacity:
            return []
        cut = max(1, counts[self.capacity])
        gone = []
        for key, record in list(self.records.items()):
            if key in self.pinned:
                continue
            if isinstance(record, Suspect):
                record.offset += cut
            else:
                record[_OFFSET] += cut
            if self._count(record) <= 0:
                gone.append(self.records.pop(key))
        self.error += cut
        self.forgotten += len(gone)
        return gone


def _plain_key(client: bytes) -> str:
    """The key of a plain IPv4 address; empty for anything else, which takes longer to tell."""
    return client.decode("ascii") if _IPV4.match(client) else ""


def parse_address(text: Union[str, bytes]) -> Optional[Address]:
    """An address; IPv4 in IPv6's clothes is IPv4. C{None} for anything else."""
    try:
        address = ipaddress.ip_address(text.decode("ascii") if isinstance(text, bytes) else text)
    except (ValueError, UnicodeDecodeError):
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == one.version and address in one for one in networks)


class Settings:
    """What a scan is told.

    ``wanted`` are networks whose addresses are not forgotten, as many as can be kept;
    ``trusted_proxies`` those whose X-Forwarded-For counts; ``login_paths`` parts of paths, in small
    letters; ``postgres_prefix`` is PostgreSQL's log_line_prefix.
    """

    def __init__(
        self,
        *,
        wanted: Sequence[Network] = (),
        trusted_proxies: Sequence[Network] = (),
        login_paths: Sequence[str] = DEFAULT_LOGIN_PATHS,
        ignored_patterns: Sequence[str] = (),
        postgres_prefix: str = "%m [%p] ",
        clients_kept: int = CLIENTS_KEPT,
        suspects_kept: int = SUSPECTS_KEPT,
    ) -> None:
        self.wanted = tuple(wanted)
        # What is smaller than all that is told apart otherwise.
        self._parts = tuple(
            one for one in wanted if one.version == 6 and one.prefixlen > IPV6_PREFIX_LENGTH
        )
        self.trusted_proxies = tuple(trusted_proxies)
        self.login_paths = tuple(one.lower().encode() for one in login_paths)
        self.ignored_patterns = frozenset(ignored_patterns)
        self.postgres_prefix = postgres_prefix
        self.clients_kept = clients_kept
        self.suspects_kept = suspects_kept

    def key(self, address: Address) -> str:
        if address.version == 4 or within(address, self._parts):
            return str(address)
        return str(ipaddress.ip_network((address, IPV6_PREFIX_LENGTH), strict=False))


def postgres_prefix_pattern(prefix: str) -> re.Pattern[bytes]:
    """What a line of the server begins with, from its log_line_prefix (see "Error Reporting and
    Logging" in PostgreSQL's manual). Groups: C{host}, C{pid}.

    Names of users and databases are matched without spaces, since whoever connects chooses them.
    """
    escapes = {
        "m": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [\w+:-]{1,40}",
        "t": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [\w+:-]{1,40}",
        "n": r"\d{1,12}\.\d{3}",
        "s": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [\w+:-]{1,40}",
        "p": r"(?P<pid>\d{1,10})",
        "h": r"(?P<host>[0-9A-Fa-f:.]{2,45}|\[local\]|)",
        "r": r"(?P<host>[0-9A-Fa-f:.]{2,45}|\[local\]|)(?:\(\d{1,5}\))?",
        "%": "%",
        "q": "",
    }
    parts, groups = [], set()
    for literal, width, escape in re.findall(r"([^%]+)|%(-?\d*)([A-Za-z%])", prefix):
        if literal:
            parts.append(re.escape(literal))
            continue
        part = escapes.get(escape, r"[^ \n]{0,200}?")
        for group in ("pid", "host"):
            if f"(?P<{group}>" in part and group in groups:
                part = part.replace(f"?P<{group}>", "?:")
            elif f"(?P<{group}>" in part:
                groups.add(group)
        parts.append(f" {{0,40}}?{part} {{0,40}}?" if width else part)
    return re.compile("".join(parts).encode())


class Scan:
    """Counts, over chunks of whole lines. Of two scans one can be merged into the other."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lines = 0
        self.bytes = 0
        self.not_understood: Counter[str] = Counter()
        #: Lines that may be forged, and count for nobody.
        self.not_believed = 0
        self.without_stamp = 0
        self.first = b""
        self.last = b""
        self.api_failed_login_lines = 0
        self.postgres_unattributed: Counter[str] = Counter()
        self.nginx_errors = 0
        #: Networks named in requests that carry forged lines.
        self.disputed: set[str] = set()
        self.access_lines = {NGINX: 0, API: 0}
        self.clients: dict[str, HeavyHitters[list[Any]]] = {
            kind: HeavyHitters(settings.clients_kept) for kind in (NGINX, API)
        }
        #: Statuses of clients that were forgotten, so that the sums stay exact.
        self.forgotten_statuses = {kind: [0] * len(STATUSES) for kind in (NGINX, API)}
        self.forgotten_bytes = {NGINX: 0, API: 0}
        self.suspects: dict[str, HeavyHitters[Suspect]] = {
            kind: HeavyHitters(settings.suspects_kept) for kind in (NGINX, API, POSTGRES, REDIS)
        }
        #: How often each pattern was found, exact, whoever was forgotten.
        self.found: dict[str, Counter[str]] = {kind: Counter() for kind in self.suspects}
        self._begin()

    def _begin(self) -> None:
        self._known: dict[str, dict[bytes, list[Any]]] = {NGINX: {}, API: {}}
        self._fine_agents: set[bytes] = {b"", b"-"}
        self._verdicts: tuple[dict[bytes, tuple[str, ...]], ...] = ({}, {})
        self._postgres = postgres_prefix_pattern(self.settings.postgres_prefix)
        self._connections: dict[bytes, str] = {}
        self._pending: Optional[tuple[str, bytes, str, bytes]] = None
        self._doubt_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        self.end_source()
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    # Lines

    def add(self, kind: str, chunk: bytes, stream: str = "") -> None:
        """Whole lines of one log, each with its end, in the order in which they were written.

        ``stream`` is C{stdout} or C{stderr} where that is known. nginx writes its access log to one
        and its error log, in which a client's line breaks are not escaped, to the other.
        """
        self.lines += chunk.count(b"\n")
        self.bytes += len(chunk)
        self._span(chunk)
        if kind == NGINX:
            self._add_requests(NGINX, chunk, stream)
        elif kind == API:
            self._add_requests(API, chunk, stream)
        elif kind == POSTGRES:
            for line in chunk.split(b"\n")[:-1]:
                self._postgres_line(line)
        elif kind == REDIS and b"SECURITY ATTACK" in chunk:
            for line in chunk.split(b"\n")[:-1]:
                self._redis_line(line)

    def end_source(self) -> None:
        """What follows is of another log."""
        self._doubt_bytes = 0
        self._commit_postgres(believed=True)
        self._connections.clear()

    def _span(self, chunk: bytes) -> None:
        begins = _stamp(chunk[:40])
        if not begins:
            self.without_stamp += 1
            return
        ends = _stamp(chunk[chunk.rfind(b"\n", 0, -1) + 1 :][:40]) or begins
        self.first = min(self.first, begins) if self.first else begins
        self.last = max(self.last, ends)

    def _add_requests(self, kind: str, chunk: bytes, stream: str) -> None:
        find = _NGINX_CHUNK if kind == NGINX else _API_CHUNK
        if self.settings.trusted_proxies or (kind == NGINX and stream == "stderr"):
            find = _ANY_CHUNK
        known, fine, slot = self._known[kind], self._fine_agents, _SLOT
        accepted = 0
        for when, client, request, status, size, agent, other in find.findall(chunk):
            if not client:
                if kind == NGINX:
                    self._nginx_line(other, stream)
                else:
                    self._api_line(other)
                continue
            if self._doubt_bytes > 0:
                self._doubt(len(request) + 200)
                continue
            record = known.get(client)
            if record is None:
                record = self._client(kind, client, when)
                if record is None:
                    self.not_understood[kind] += 1
                    continue
            accepted += 1
            record[slot[status] if status else 6] += 1  # 2xx
            if when > record[3]:  # noqa: PLR1730  # a call of max() costs more
                record[3] = when
            record[4] += int(size or 0)
            if agent not in fine:
                self._agent(kind, record[0], when, agent, request)
            if status >= b"300":  # and not empty
                self._request(kind, record[0], when, request, status)
                if status >= b"400":
                    self._refused(kind, record[0], when, request, status)
        self.access_lines[kind] += accepted

    def _key(self, client: bytes) -> str:
        address = parse_address(client)
        return "" if address is None else self.settings.key(address)

    def _client(self, kind: str, client: bytes, when: bytes) -> Optional[list[Any]]:
        known, hitters = self._known[kind], self.clients[kind]
        key = _plain_key(client) or self._key(client)
        if not key:
            return None
        record = hitters.records.get(key)
        if record is None and hitters.is_full:
            self._count_forgotten(kind, hitters.prune())
            known.clear()  # nothing of a forgotten record may be left here
        elif len(known) >= 4 * hitters.capacity:
            known.clear()
        if record is None:
            record = [key, 0, when, when, 0, *[0] * len(STATUSES)]
            hitters.records[key] = record
            self._pin(hitters, key)
        elif when and (not record[_FIRST] or when < record[_FIRST]):
            record[_FIRST] = when
        known[client] = record
        return record

    def _count_forgotten(self, kind: str, gone: Iterable[list[Any]]) -> None:
        sums = self.forgotten_statuses[kind]
        for record in gone:
            self.forgotten_bytes[kind] += record[_BYTES]
            for position, count in enumerate(record[_STATUS:]):
                sums[position] += count

    def _suspect(self, kind: str, key: str) -> Suspect:
        hitters = self.suspects[kind]
        suspect = hitters.records.get(key)
        if suspect is None:
            if hitters.is_full:
                hitters.prune()
            suspect = hitters.records[key] = Suspect()
            self._pin(hitters, key)
        return suspect

    def _pin(self, hitters: HeavyHitters[Any], key: str) -> None:
        wanted = self.settings.wanted
        if wanted and len(hitters.pinned) < hitters.capacity and is_within(key, wanted):
            hitters.pinned.add(key)

    def _find(self, kind: str, key: str, when: bytes, pattern: str, example: bytes) -> None:
        if pattern not in self.settings.ignored_patterns:
            self._suspect(kind, key).add(when, pattern, example)
            self.found[kind][pattern] += 1

    def _agent(self, kind: str, key: str, when: bytes, agent: bytes, request: bytes) -> None:
        found = agent_patterns(agent)
        if not found:
            if len(self._fine_agents) >= _CACHE_ENTRIES:
                self._fine_agents.clear()
                self._fine_agents.update((b"", b"-"))
            self._fine_agents.add(agent)
        for pattern in found:
            self._find(kind, key, when, pattern, request + b" | " + agent)

    def _refused(self, kind: str, key: str, when: bytes, request: bytes, status: bytes) -> None:
        target = request.partition(b" ")[2].partition(b"?")[0]
        if status == b"404":
            self._suspect(kind, key).not_found(when, target.partition(b" ")[0])
        elif status in LOGIN_STATUSES:
            path = target.lower()
            if any(part in path for part in self.settings.login_paths):
                self._find(kind, key, when, "failed_login", request)

    def _request(self, kind: str, key: str, when: bytes, request: bytes, status: bytes) -> None:
        served = status[:1] == b"2"
        verdicts = self._verdicts[served]
        found = verdicts.get(request)
        if found is None:
            found = request_patterns(request, served=served)
            if len(verdicts) >= _CACHE_ENTRIES:
                verdicts.clear()
            verdicts[request] = found
        for pattern in found:
            # Nobody forges a line without the server's saying so: no request line is logged as "-"
            # where a connection is closed before one came.
            if pattern == "malformed_request" and (request == b"" or status in (b"408", b"499")):
                continue
            self._find(kind, key, when, pattern, request)
            if pattern == "log_forging":
                self._dispute(request, key)

    def _dispute(self, request: bytes, key: str) -> None:
        for text in re.findall(rb"[0-9a-f:.]{2,45}", named_in_forged(request))[:50]:
            address = parse_address(text.strip(b".:")) or parse_address(text)
            if address is not None and len(self.disputed) < _DISPUTED_KEPT:
                named = self.settings.key(address)
                if named != key:
                    self.disputed.add(named)

    # nginx

    def _nginx_line(self, line: bytes, stream: str) -> None:
        match = _NGINX_LINE.match(line)
        if match is not None:
            if stream == "stderr":
                self.not_believed += 1
            elif self._doubt_bytes > 0:
                self._doubt(len(line))
            else:
                when, client, request, status, size, referrer, agent, forwarded = match.groups()
                if not self._full_line(
                    NGINX, when or b"", client, request, status, size or b"-", referrer or b"-",
                    agent or b"-", forwarded or b"",
                ):  # fmt: skip
                    self.not_understood[NGINX] += 1
            return
        when = _stamp(line)
        text = line[_after_stamp(line) :]
        if text.lstrip()[:1] == b"{" and self._json_line(when, text.lstrip()):
            return
        error = _NGINX_ERROR.match(text)
        if error is not None:
            self._nginx_error(when, text, has_connection=error[2] is not None)
        elif self._doubt_bytes > 0:
            # The end of a line that somebody has broken: what stood before it was no line of nginx.
            self._doubt(len(text))
            if _NGINX_ERROR_CLIENT.search(text):
                self._doubt_bytes = 0
        elif not _NGINX_OTHER.match(text):
            self.not_understood[NGINX] += 1

    def _full_line(  # noqa: PLR0917
        self,
        kind: str,
        when: bytes,
        client: bytes,
        request: bytes,
        status: bytes,
        size: bytes,
        referrer: bytes,
        agent: bytes,
        forwarded: bytes = b"",
    ) -> bool:
        """A line of an access log, taken apart; false where its client is none."""
        if self.settings.trusted_proxies:
            client = self._true_client(client, forwarded)
        record = self._known[kind].get(client) or self._client(kind, client, when)
        if record is None:
            return False
        key = record[_KEY]
        self.access_lines[kind] += 1
        record[_LAST] = max(record[_LAST], when)
        record[_BYTES] += int(size) if size.isdigit() else 0
        record[_SLOT[status]] += 1
        if agent not in self._fine_agents:
            self._agent(kind, key, when, agent, request)
        if referrer not in self._fine_agents:
            self._agent(kind, key, when, referrer, request)
        if status >= b"400":
            self._refused(kind, key, when, request, status)
        self._request(kind, key, when, request, status)
        return True

    def _true_client(self, client: bytes, forwarded: bytes) -> bytes:
        """The last address that a trusted proxy has written, as nginx's real_ip_recursive does."""
        address = parse_address(client)
        hops = forwarded.split(b",")
        while address is not None and within(address, self.settings.trusted_proxies) and hops:
            before = parse_address(hops.pop().strip())
            if before is None:
                break
            address = before
        return client if address is None else str(address).encode()

    def _nginx_error(self, when: bytes, text: bytes, *, has_connection: bool) -> None:
        self.nginx_errors += 1
        self._doubt_bytes = 0
        clients = _NGINX_ERROR_CLIENT.findall(text)
        if has_connection and not clients:
            self._doubt_bytes = _NGINX_ERROR_BYTES - len(text)
        # With two of them one is what the client wrote.
        address = parse_address(clients[0]) if len(clients) == 1 else None
        if address is None:
            return
        key = self.settings.key(address)
        if _NGINX_LIMITED.search(text):
            self._find(NGINX, key, when, "rate_limited", text)
        elif _NGINX_BASIC_AUTH.search(text):
            self._find(NGINX, key, when, "failed_login", text)

    def _doubt(self, length: int) -> None:
        self._doubt_bytes -= length + 1
        self.not_believed += 1

    def _json_line(self, when: bytes, text: bytes) -> bool:
        """An access log in JSON, with nginx's own names of variables or the usual others."""
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            return False
        if not isinstance(fields, dict):
            return False

        def field(*names: str) -> bytes:
            found = next((fields[name] for name in names if fields.get(name) is not None), "")
            return str(found).encode("utf-8", "surrogateescape")

        status = field("status", "status_code")
        if status not in _SLOT:
            return False
        method = field("request_method", "method")
        target = field("request_uri", "uri", "path", "url")
        request = field("request") or method + b" " + target
        return self._full_line(
            NGINX,
            when,
            field("remote_addr", "client_ip", "client"),
            request,
            status,
            field("body_bytes_sent", "bytes_sent", "bytes") or b"-",
            field("http_referer", "referer") or b"-",
            field("http_user_agent", "user_agent") or b"-",
            field("http_x_forwarded_for", "x_forwarded_for"),
        )

    # The API

    def _api_line(self, line: bytes) -> None:
        match = _API_LINE.match(line)
        if match is not None:
            when, client, request, status = match.groups()
            believed = self._full_line(API, when or b"", client, request, status, b"-", b"-", b"-")
            if not believed:
                self.not_understood[API] += 1
        elif _FAILED_LOGIN_TEXT.search(line, 0, 2000):
            # Anybody may write any address into a user's name.
            self.api_failed_login_lines += 1

    # PostgreSQL and Redis

    def _postgres_line(self, line: bytes) -> None:
        text = line[_after_stamp(line) :]
        if text[:1] == b"\t" or not text:
            return  # goes on with the line before
        prefix = self._postgres.match(text)
        # A line break in a user's name leaves the rest of the server's line behind it.
        self._commit_postgres(believed=prefix is not None)
        if b"FATAL:  " not in text and b"connection received" not in text:
            return
        denied = _POSTGRES_DENIED.search(text)
        groups = prefix.groupdict() if prefix else {}
        if denied is None:
            received = _POSTGRES_RECEIVED.search(text)
            if received and groups.get("pid"):
                self._remember(groups["pid"], received[1])
            return
        pattern = "postgres_password" if denied[1] else "postgres_no_entry"
        host = denied[2] or denied[3] or b""
        if not host and prefix is not None and text.count(b"FATAL:  ") == 1:
            host = groups.get("host") or b""
            if "host" not in groups:
                host = self._connections.pop(groups.get("pid") or b"", "").encode()
        address = (
            parse_address(host) if prefix is not None and text.count(b"FATAL:  ") == 1 else None
        )
        if address is None:
            self.postgres_unattributed[pattern] += 1
        else:
            self._pending = (self.settings.key(address), _stamp(line), pattern, text)

    def _commit_postgres(self, *, believed: bool) -> None:
        if self._pending is None:
            return
        key, when, pattern, text = self._pending
        self._pending = None
        if believed:
            self._find(POSTGRES, key, when, pattern, text)
        else:
            self.not_believed += 1
            self.postgres_unattributed[pattern] += 1

    def _remember(self, pid: bytes, host: bytes) -> None:
        if len(self._connections) >= _CONNECTIONS_KEPT:
            del self._connections[next(iter(self._connections))]
        self._connections.pop(pid, None)
        self._connections[pid] = host.decode("ascii")

    def _redis_line(self, line: bytes) -> None:
        match = _REDIS_ATTACK.match(line[_after_stamp(line) :])
        address = parse_address(match[1]) if match else None
        if match is not None and address is not None:
            text = line[_after_stamp(line) :]
            self._find(REDIS, self.settings.key(address), _stamp(line), "redis_protocol", text)

    # Sums

    def statuses(self, kind: str) -> dict[str, int]:
        """How many answers of each status, exact; a class has those that are also told apart."""
        sums = list(self.forgotten_statuses[kind])
        for record in self.clients[kind].records.values():
            for position, count in enumerate(record[_STATUS:]):
                sums[position] += count
        return status_mix(sums)

    def merge(self, other: Scan) -> None:
        """Add what another scan, with the same settings, has counted."""
        other.end_source()
        self.end_source()
        self._begin()
        self.lines += other.lines
        self.bytes += other.bytes
        self.not_believed += other.not_believed
        self.without_stamp += other.without_stamp
        self.not_understood += other.not_understood
        self.api_failed_login_lines += other.api_failed_login_lines
        self.postgres_unattributed += other.postgres_unattributed
        self.nginx_errors += other.nginx_errors
        self.disputed = set(sorted(self.disputed | other.disputed)[:_DISPUTED_KEPT])
        self.first = min(self.first or other.first, other.first or self.first)
        self.last = max(self.last, other.last)
        for kind in (NGINX, API):
            self.access_lines[kind] += other.access_lines[kind]
            self.forgotten_bytes[kind] += other.forgotten_bytes[kind]
            self.forgotten_statuses[kind] = [
                one + two
                for one, two in zip(self.forgotten_statuses[kind], other.forgotten_statuses[kind])
            ]
            self._merge_clients(kind, other.clients[kind])
        for kind, hitters in self.suspects.items():
            theirs = other.suspects[kind]
            for key, suspect in theirs.records.items():
                mine = hitters.records.setdefault(key, suspect)
                if mine is not suspect:
                    mine.merge(suspect)
            _merge_bounds(hitters, theirs)
            self.found[kind] += other.found[kind]

    def _merge_clients(self, kind: str, theirs: HeavyHitters[list[Any]]) -> None:
        hitters = self.clients[kind]
        for key, record in theirs.records.items():
            mine = hitters.records.setdefault(key, record)
            if mine is record:
                continue
            for position in (_OFFSET, *range(_BYTES, len(record))):
                mine[position] += record[position]
            mine[_LAST] = max(mine[_LAST], record[_LAST])
            stamps = [one for one in (mine[_FIRST], record[_FIRST]) if one]
            mine[_FIRST] = min(stamps) if stamps else b""
        self._count_forgotten(kind, _merge_bounds(hitters, theirs))


def _merge_bounds(mine: HeavyHitters[Record], theirs: HeavyHitters[Record]) -> list[Record]:
    mine.error += theirs.error
    mine.forgotten += theirs.forgotten
    mine.pinned |= theirs.pinned
    return mine.prune() if mine.is_full else []


def status_mix(counts: Sequence[int]) -> dict[str, int]:
    """Counts by status, of those that occur; a class includes those that are also told apart."""
    mix = dict(zip(STATUSES, counts))
    for code, count in list(mix.items())[5:]:
        mix[f"{code[0]}xx"] += count
    return {code: count for code, count in mix.items() if count}


def _stamp(line: bytes) -> bytes:
    match = _STAMPED.match(line)
    return (match[1] or b"") if match else b""


def _after_stamp(line: bytes) -> int:
    match = _STAMPED.match(line)
    return match.end() if match else 0


class Lines:
    """Chunks of whole lines out of blocks of bytes, of which a line may span many.

    Of a line longer than L{MAX_LINE_BYTES} the beginning is kept.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, block: bytes) -> Iterator[bytes]:
        if self._skipping:
            end = block.find(b"\n")
            if end < 0:
                return
            block = block[end + 1 :]
            self._skipping = False
        end = block.rfind(b"\n") + 1
        if end:
            chunk = self._rest + block[:end] if self._rest else block[:end]
            self._rest = block[end:]
            yield chunk
        else:
            self._rest += block
        if len(self._rest) > MAX_LINE_BYTES:
            yield self._rest[:MAX_LINE_BYTES] + b"\n"
            self._rest = b""
            self._skipping = True

    @property
    def at_line_end(self) -> bool:
        return not self._rest and not self._skipping

    def finish(self) -> Iterator[bytes]:
        """What came after the last line's end."""
        if self._rest:
            yield self._rest + b"\n"
        self._rest = b""


def parse_networks(texts: Iterable[Any], option: str) -> list[Network]:
    """Networks or addresses. Raises ValueError that names the option."""
    networks: list[Network] = []
    for text in texts:
        try:
            network = ipaddress.ip_network(str(text).strip())
        except ValueError as error:
            raise ValueError(
                f"{option}: seen {text!r}, expected an address or a network"
            ) from error
        networks.append(network)
    return networks


def is_within(key: str, networks: Iterable[Network]) -> bool:
    """Whether a key of the scan, an address or a /64, has to do with one of the networks."""
    mine = ipaddress.ip_network(key)
    return any(one.version == mine.version and mine.overlaps(one) for one in networks)


def record_facts(record: Optional[list[Any]]) -> dict[str, Any]:
    """What is told of a client's requests: C{requests}, C{bytes}, C{statuses}, and C{first} and
    C{last} as stamps; nothing of any for C{None}."""
    if record is None:
        return {"requests": 0, "bytes": 0, "statuses": {}, "first": b"", "last": b""}
    return {
        "requests": requests_of(record),
        "bytes": record[_BYTES],
        "statuses": status_mix(record[_STATUS:]),
        "first": record[_FIRST],
        "last": record[_LAST],
    }
