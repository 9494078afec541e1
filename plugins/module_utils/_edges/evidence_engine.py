# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an engine is asked for evidence. Nothing is run inside a container, since it may be hostile
and would be changed by it."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional
from urllib.parse import quote, urlencode

from ansible_collections.pynomaly.ops.plugins.module_utils._compose import (
    files_of,
    identify_components,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._containers import by_service
from ansible_collections.pynomaly.ops.plugins.module_utils._context import Stack
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.docker import (
    Engine,
    EngineError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._log_lines import demultiplex

#: What the engine puts before each entry of a log, when asked to: RFC 3339 in UTC, nine digits.
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ")
_STAMP_BYTES = 31
#: The engine's log drivers keep longer lines as several entries.
_ENTRY_BYTES = 16384
_EVENTS_MAX_BYTES = 16 * 1024 * 1024
#: Of a line that does not end, so much is kept.
_LINE_BYTES = 512 * 1024


class EvidenceEngine(Engine):
    """An engine that is only looked at. Raises L{EngineError}."""

    def run(
        self,
        container_id: str,  # noqa: ARG002
        argv: Sequence[str],
        timeout_seconds: float,  # noqa: ARG002
        *,
        environment: Optional[Mapping[str, str]] = None,  # noqa: ARG002
        user: str = "",  # noqa: ARG002
        max_bytes: int = 65536,  # noqa: ARG002
    ) -> tuple[int, str]:
        """Refuses: looking for evidence runs nothing in a container."""
        raise EngineError(f"{argv[0]} is not run in a container while evidence is gathered")

    def project_stack(self, project: str, names: Mapping[str, str]) -> Stack:
        """The project as its containers tell it; Compose and its files are not asked."""
        containers = by_service(self.list_project_containers(project))
        newest_first = sorted(
            (one for members in containers.values() for one in members),
            key=lambda one: one.created_at,
            reverse=True,
        )
        files = files_of(one.labels for one in newest_first)
        return Stack(
            project=project,
            working_dir=files.working_dir,
            config_files=tuple(files.config_files),
            environment_files=tuple(files.environment_files),
            containers=containers,
            components=identify_components({}, containers, names),
        )

    def raw_inspect(self, container_id: str) -> Mapping[str, Any]:
        """All that ``docker inspect`` says."""
        with self._calling("inspect"):
            return dict(self._client().inspect_container(container_id))

    def top(self, container_id: str) -> Mapping[str, Any]:
        """``docker top``: ``Titles`` and ``Processes``. The host's ps looks, from outside."""
        with self._calling("top"):
            answer: Mapping[str, Any] = self._client().top(
                container_id, "-eo pid,ppid,user,lstart,stat,time,args"
            )
        return answer

    def changes(self, container_id: str) -> Sequence[tuple[str, str]]:
        """``docker diff``: (A, C or D; path) of what differs from the image."""
        with self._calling("diff"):
            found = self._client().diff(container_id) or ()
        return [("CAD"[int(one["Kind"])], str(one["Path"])) for one in found]

    def all_containers(self) -> Sequence[Mapping[str, Any]]:
        """What the engine lists, of every project and of none."""
        with self._calling("list"):
            return list(self._client().containers(all=True))

    def all_images(self) -> Sequence[Mapping[str, Any]]:
        with self._calling("images"):
            return list(self._client().images(all=False))

    def all_networks(self) -> Sequence[Mapping[str, Any]]:
        with self._calling("network list"):
            return list(self._client().networks())

    def events(self, since: float, until: float) -> Iterator[Mapping[str, Any]]:
        """What the engine remembers of what happened, of everything; it keeps some hundreds."""
        query = urlencode({"since": f"{since:.9f}", "until": f"{until:.9f}"})
        deadline = time.monotonic() + self.timeout_seconds
        raw = bytearray()
        with contextlib.closing(self._stream("GET", f"/events?{query}", deadline)) as chunks:
            try:
                for chunk in chunks:
                    raw += chunk
                    if len(raw) > _EVENTS_MAX_BYTES:
                        break
            except TimeoutError as error:
                raise EngineError(
                    f"the engine did not tell its events within {self.timeout_seconds:g} s"
                ) from error
        for line in raw.splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)

    def stamped_lines(
        self, container_id: str, since: float, timeout_seconds: float, tail_lines: Optional[int]
    ) -> Iterator[bytes]:
        """The log as ``docker logs --timestamps`` gives it, both streams, in whole lines with their
        ends, oldest first.

        A line that the engine keeps in pieces is put together again, so that nothing in it is cut
        in two. Raises C{TimeoutError} where it does not end in time, with what there was by then
        already given.
        """
        deadline = time.monotonic() + timeout_seconds
        terminal = self._has_terminal(container_id)
        query = urlencode(
            {
                "stdout": 1,
                "stderr": 1,
                "timestamps": 1,
                "since": f"{since:.9f}",
                "tail": "all" if tail_lines is None else tail_lines,
            }
        )
        path = f"/containers/{quote(container_id)}/logs?{query}"
        with contextlib.closing(self._stream("GET", path, deadline)) as chunks:
            entries = _raw_entries(chunks) if terminal else demultiplex(chunks)
            yield from join_entries(entries)


def _raw_entries(chunks: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Entries of a terminal's stream, which has no frames: lines, those in pieces taken apart."""
    pending = b""
    for chunk in chunks:
        lines = (pending + chunk).split(b"\n")
        pending = lines.pop()
        for line in lines:
            yield from _pieces(line + b"\n")
        if len(pending) > _LINE_BYTES:
            yield from _pieces(pending)
            pending = b""
    if pending:
        yield from _pieces(pending)


def _pieces(line: bytes) -> Iterator[tuple[str, bytes]]:
    while True:
        end = _STAMP_BYTES + _ENTRY_BYTES
        if len(line) <= end or not _STAMP.match(line) or not _STAMP.match(line, end):
            yield "stdout", line
            return
        yield "stdout", line[:end]
        line = line[end:]


def join_entries(entries: Iterator[tuple[str, bytes]]) -> Iterator[bytes]:
    """Whole lines of a log's entries with timestamps; the stamps of continuations are taken out.

    A line longer than half a mebibyte loses its end.
    """
    held: dict[str, bytes] = {}
    for stream, entry in entries:
        begun = held.pop(stream, None)
        line = entry
        if begun is not None:
            more = entry[_STAMP_BYTES:] if _STAMP.match(entry) else entry
            if len(begun) >= _LINE_BYTES:
                more = b"\n" if more.endswith(b"\n") else b""
            line = begun + more
        if line.endswith(b"\n"):
            yield line
        else:
            held[stream] = line
    for rest in held.values():
        yield rest + b"\n"
