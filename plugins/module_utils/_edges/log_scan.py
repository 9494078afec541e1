# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading logs for a scan: files, in as many processes as there are CPUs, or the engine's own."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import quote, urlencode

from ansible_collections.pynomaly.ops.plugins.module_utils._context import Container, Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import Engine, EngineError
from ansible_collections.pynomaly.ops.plugins.module_utils._log_lines import demultiplex
from ansible_collections.pynomaly.ops.plugins.module_utils._log_scan import (
    API,
    NGINX,
    OTHER,
    POSTGRES,
    REDIS,
    Lines,
    Network,
    Scan,
    Settings,
    parse_networks,
)

#: What fits a core's cache is taken apart twice as fast as what does not.
_BLOCK_BYTES = 262144
#: A file is split only where that is worth a process.
_SMALLEST_PART_BYTES = 8 * 1024 * 1024
_MOST_WORKERS = 8
_MOST_FILES = 1000
_INDEX_MAX_BYTES = 1048576
_STATE_MAX_BYTES = 512 * 1024 * 1024
#: After the deadline a worker is waited for so long, to hand over what it has.
_GRACE_SECONDS = 15.0

_KIND_OF_COMPONENT = {"nginx": NGINX, "api": API, "postgres": POSTGRES, "redis": REDIS}


class LogScanError(Exception):
    """The logs cannot be scanned. ``hint`` is what to run next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class LogFile:
    """``kind`` says whose format its lines have, ``stream`` which of the two streams it is of,
    where that is known."""

    path: str
    kind: str
    size: int
    stream: str = ""


@dataclass(frozen=True)
class Part:
    """The lines of a file that begin from ``start`` on, before ``end``."""

    file: LogFile
    start: int
    end: int


def kind_of(name: str, services: Mapping[str, str]) -> str:
    """What a log's file is of, by its name, which begins with its service's. ``services`` has the
    component of each service that is known; others are told by the words in their names."""
    stem = name.lower()
    words = stem.replace("_", "-").replace(".", "-").split("-")
    if "exporter" in words:
        return OTHER
    for service in sorted(services, key=len, reverse=True):
        if stem == service.lower() or stem.startswith(
            (f"{service.lower()}.", f"{service.lower()}-")
        ):
            return _KIND_OF_COMPONENT.get(services[service], OTHER)
    for word, kind in (
        ("nginx", NGINX),
        ("postgres", POSTGRES),
        ("postgresql", POSTGRES),
        ("redis", REDIS),
        ("api", API),
    ):
        if word in words:
            return kind
    return OTHER


def find_files(folder: str, services: Mapping[str, str]) -> list[LogFile]:
    """The logs in a folder, or in C{logs} below it; links are not followed.

    Raises L{LogScanError}.
    """
    inner = os.path.join(folder, "logs")  # noqa: PTH118
    where = inner if os.path.isdir(inner) else folder  # noqa: PTH112
    try:
        names = sorted(name for name in os.listdir(where) if name.endswith(".log"))  # noqa: PTH208
    except OSError as error:
        raise LogScanError(
            f"{where} cannot be read: {error.strerror}; expected a folder of logs, or a bundle of "
            "evidence with one",
            "ansible-playbook pynomaly.ops.incident_investigate",
        ) from error
    files = []
    components = _index(where)
    for name in names[:_MOST_FILES]:
        path = os.path.join(where, name)  # noqa: PTH118
        found = os.lstat(path)
        if stat.S_ISREG(found.st_mode):
            stream = next((one for one in ("stdout", "stderr") if f".{one}." in name), "")
            if name in components:
                kind = _KIND_OF_COMPONENT.get(components[name], OTHER)
            else:
                kind = kind_of(name, services)
            files.append(LogFile(path, kind, found.st_size, stream))
    if not files:
        raise LogScanError(
            f"{where} has no file *.log, expected at least one",
            "ansible-playbook pynomaly.ops.incident_investigate",
        )
    return files


def _index(folder: str) -> dict[str, str]:
    """The component of each file, as a bundle's index tells it; empty without one."""
    try:
        with open(os.path.join(folder, "index.json"), "rb") as stream:  # noqa: PTH118, PTH123
            entries = json.loads(stream.read(_INDEX_MAX_BYTES))
        return {str(one["file"]): str(one["component"]) for one in entries}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def split(files: Sequence[LogFile], workers: int) -> list[list[Part]]:
    """The files' bytes in as many equal shares as there are workers, each of few parts."""
    wanted = [one for one in files if one.kind != OTHER]
    total = sum(one.size for one in wanted)
    share = max(_SMALLEST_PART_BYTES, -(-total // max(1, workers)))
    shares: list[list[Part]] = [[]]
    room = share
    for file in wanted:
        start = 0
        while start < file.size:
            # PostgreSQL's lines hang together by the connection: its log stays whole.
            length = file.size if file.kind == POSTGRES else min(room, file.size - start)
            shares[-1].append(Part(file, start, start + length))
            start += length
            room -= length
            if room <= 0:
                shares.append([])
                room = share
    return [one for one in shares if one]


def scan_files(
    files: Sequence[LogFile], settings: Settings, deadline_seconds: float, workers: int = 0
) -> tuple[Scan, list[str]]:
    """The scan of all files, and remarks on what was not read. ``workers`` is 0 for as many as
    there are CPUs. Raises L{LogScanError}."""
    shares = split(files, min(_MOST_WORKERS, workers or _cpus()))
    deadline = time.monotonic() + deadline_seconds
    if len(shares) <= 1:
        return scan_parts(shares[0] if shares else [], settings, deadline)
    # The sets of distinct paths are of Python's keyed hash: all processes need the same key.
    children = [_fork(share, settings, deadline) for share in shares]
    scan, remarks = Scan(settings), []
    try:
        for child in children:
            state, told = child.result(deadline + _GRACE_SECONDS)
            scan.merge(state)
            remarks += told
    finally:
        for child in children:
            child.end()
    return scan, list(dict.fromkeys(remarks))


def _cpus() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def scan_parts(
    parts: Sequence[Part], settings: Settings, deadline: float
) -> tuple[Scan, list[str]]:
    """In this process, until ``deadline`` of the monotonic clock."""
    scan, remarks = Scan(settings), []
    for part in parts:
        if time.monotonic() > deadline:
            remarks.append(f"{part.file.path} was not read whole: the time was over")
            continue
        try:
            for chunk in read_part(part):
                scan.add(part.file.kind, chunk, part.file.stream)
                if time.monotonic() > deadline:
                    remarks.append(f"{part.file.path} was not read whole: the time was over")
                    break
        except OSError as error:
            remarks.append(f"{part.file.path} was not read whole: {error.strerror}")
        scan.end_source()
    return scan, remarks


def read_part(part: Part) -> Iterator[bytes]:
    """Chunks of whole lines: those that begin within the part. Memory is bounded, whatever the
    length of a line."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(part.file.path, flags), "rb", buffering=0) as stream:
        position = part.start
        if position:  # the line in which the part begins is of the part before
            position = _next_line(stream, position - 1)
        stream.seek(position)
        lines = Lines()
        while position < part.end:
            block = stream.read(min(_BLOCK_BYTES, part.end - position))
            if not block:
                break
            position += len(block)
            yield from lines.feed(block)
        # The line in which the part ends, whose rest is beyond the end.
        while not lines.at_line_end:
            block = stream.read(_BLOCK_BYTES)
            if not block:
                break
            end = block.find(b"\n") + 1
            yield from lines.feed(block[:end] if end else block)
            if end:
                break
        yield from lines.finish()


def _next_line(stream: Any, position: int) -> int:
    stream.seek(position)
    while True:
        block = stream.read(_BLOCK_BYTES)
        end = block.find(b"\n") + 1
        if end or not block:
            return int(position + (end or len(block)))
        position += len(block)


class _Child:
    def __init__(self, pid: int, reader: int) -> None:
        self._pid = pid
        self._reader = reader
        self._ended = False

    def result(self, deadline: float) -> tuple[Scan, list[str]]:
        received = bytearray()
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([self._reader], [], [], remaining)[0]:
                raise LogScanError("a worker did not end in time", "raise deadline_seconds")
            block = os.read(self._reader, 1048576)
            if not block:
                break
            received += block
            if len(received) > _STATE_MAX_BYTES:
                raise LogScanError("a worker's answer is too large")
        _pid, status = os.waitpid(self._pid, 0)
        self._ended = True
        if status != 0 or not received:
            raise LogScanError(
                f"a worker ended with {os.waitstatus_to_exitcode(status)}, expected 0",
                "see whether the host is short of memory: dmesg | tail",
            )
        answer: tuple[Scan, list[str]] = pickle.loads(received)  # noqa: S301  # our own child's
        return answer

    def end(self) -> None:
        os.close(self._reader)
        if not self._ended:
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)


def _fork(parts: Sequence[Part], settings: Settings, deadline: float) -> _Child:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return _Child(pid, reader)
    code = 1
    try:
        os.close(reader)
        signal.alarm(int(max(1.0, deadline + _GRACE_SECONDS - time.monotonic())) + 1)
        with os.fdopen(writer, "wb") as stream:
            pickle.dump(scan_parts(parts, settings, deadline), stream, pickle.HIGHEST_PROTOCOL)
        code = 0
    finally:  # nothing of the parent's is cleaned up twice
        os._exit(code)


# The engine's own logs


class LogEngine(Engine):
    """An engine that tells one stream of a log, stamped."""

    def stamped(
        self, container_id: str, stream: str, since: float, deadline: float
    ) -> Iterator[bytes]:
        """The bytes of a log's stream since a time (seconds since the epoch), oldest first.

        Raises C{TimeoutError} at the deadline, L{EngineError} where the log cannot be read.
        """
        terminal = self._has_terminal(container_id)
        query = urlencode({stream: 1, "timestamps": 1, "since": f"{since:.9f}", "tail": "all"})
        path = f"/containers/{quote(container_id)}/logs?{query}"
        with contextlib.closing(self._stream("GET", path, deadline)) as chunks:
            if terminal:
                yield from chunks
            else:
                yield from (payload for _stream, payload in demultiplex(chunks))

    def subnets(self) -> list[Network]:
        """Those of all networks of the engine."""
        with self._calling("network list"):
            found = list(self._client().networks())
        texts = [
            str(config["Subnet"])
            for network in found
            for config in (network.get("IPAM") or {}).get("Config") or ()
            if config.get("Subnet")
        ]
        return parse_networks(texts, "the engine's networks")


def scan_engine(
    engine: LogEngine,
    stack: Stack,
    settings: Settings,
    *,
    since: float,
    deadline_seconds: float,
    max_bytes: int,
) -> tuple[Scan, list[str]]:
    """The logs of a stack's containers since a time, streamed; ``max_bytes`` of each at most."""
    scan, remarks = Scan(settings), []
    deadline = time.monotonic() + deadline_seconds
    for component, kind in _KIND_OF_COMPONENT.items():
        for container in stack.component(component):
            # A terminal has one stream.
            for stream in ("stdout", "stderr"):
                remark = _scan_stream(
                    engine,
                    container,
                    kind,
                    stream,
                    scan,
                    since=since,
                    deadline=deadline,
                    max_bytes=max_bytes,
                )
                if remark:
                    remarks.append(f"{container.name}: {remark}")
    return scan, list(dict.fromkeys(remarks))


def _scan_stream(
    engine: LogEngine,
    container: Container,
    kind: str,
    stream: str,
    scan: Scan,
    *,
    since: float,
    deadline: float,
    max_bytes: int,
) -> str:
    lines, seen, pending = Lines(), 0, bytearray()
    remark = ""
    try:
        for payload in engine.stamped(container.id, stream, since, deadline):
            seen += len(payload)
            pending += payload
            if len(pending) >= _BLOCK_BYTES:
                for chunk in lines.feed(bytes(pending)):
                    scan.add(kind, chunk, stream)
                pending.clear()
            if seen >= max_bytes:
                remark = f"only {max_bytes // 1048576} MiB of its log were read"
                break
    except TimeoutError:
        remark = "its log was not read whole: the time was over"
    except EngineError as error:
        if error.status_code is None:
            raise
        remark = f"its log cannot be read ({container.log_driver or 'unknown driver'}): {error}"
    for chunk in [*lines.feed(bytes(pending)), *lines.finish()]:
        scan.add(kind, chunk, stream)
    scan.end_source()
    return remark


def postgres_prefix(stack: Optional[Stack]) -> str:
    """log_line_prefix as PostgreSQL's command line sets it, else PostgreSQL's own."""
    for container in stack.component("postgres") if stack else ():
        for word in container.command:
            name, equals, value = word.partition("=")
            if equals and name.lstrip("-c ").strip() == "log_line_prefix":
                return value
    return "%m [%p] "


def host_networks(timeout_seconds: float) -> list[Network]:
    """The host's own addresses, as C{ip -json address} tells them; none where it does not."""
    from ansible_collections.pynomaly.ops.plugins.module_utils._edges.command import (  # noqa: PLC0415
        CommandError,
        run_command,
    )

    try:
        done = run_command(["ip", "-json", "address"], timeout_seconds)
        found = json.loads(done.stdout) if done.exit_code == 0 else []
        texts = [
            info["local"] for link in found for info in link.get("addr_info", ()) if "local" in info
        ]
        return parse_networks(texts, "ip address")
    except (CommandError, ValueError, TypeError, KeyError, AttributeError):
        return []
