# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle of evidence: its names, its chain of custody, its checksums, and what is told of it.

The chain of custody is one JSON object a line. Each has the C{sha256} of the line before it in
C{previous}, so that no line can be changed, taken out or put in without changing all that follow;
the hash of the last one, the C{head}, is told to whoever asked for the bundle.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    format_bytes,
    plural,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import utc_text

SCHEMA_VERSION = 1

CUSTODY = "custody.jsonl"
SUMS = "SHA256SUMS"
INDEX = "evidence.json"
REDACTIONS = "redactions.json"
LOG_INDEX = "logs/index.json"
#: Begins the name of a bundle that is being written. One that is found is of a run that died.
STAGING_PREFIX = ".partial-"

# What became of a source
WHOLE = "whole"
CUT = "cut"
FAILED = "failed"
SKIPPED = "skipped"

# What a line of the chain of custody tells
OPENED = "opened"
COLLECTED = "collected"
ATTEMPTED = "attempted"
SEALED = "sealed"

_GENESIS = "0" * 64
_INCIDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_SUM_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")

#: Connections that are told by name; a flood has thousands.
PEERS_SHOWN = 20


class EvidenceError(Exception):
    """No evidence can be gathered, or what there is does not hold. ``hint`` is what to run next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class EvidenceFile:
    """A file of a bundle; ``path`` is relative to it."""

    path: str
    bytes: int
    sha256: str
    redactions: Mapping[str, int] = field(default_factory=dict)
    lines: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of one source. ``reason`` says why it is not whole, empty where it is.
    ``command`` is what was asked, and of whom."""

    source: str
    command: str
    status: str
    reason: str = ""
    duration_ms: int = 0
    files: Sequence[EvidenceFile] = ()

    @property
    def is_problem(self) -> bool:
        return self.status in (CUT, FAILED)


@dataclass(frozen=True)
class Peer:
    """Who is connected to what: ``where`` is a container's name, or the host."""

    where: str
    address: str
    port: int
    count: int


def bundle_name(moment: datetime.datetime, operation: str) -> str:
    """C{20261124T140501Z-incident_contain}."""
    moment = moment.astimezone(datetime.timezone.utc)
    return f"{moment:%Y%m%dT%H%M%SZ}-{safe_name(operation)}"


def safe_name(text: str) -> str:
    """A text as a part of a file's name: no slashes, no leading dot."""
    return _UNSAFE.sub("_", text).lstrip(".") or "_"


def check_incident_id(identifier: str) -> None:
    """Raise L{EvidenceError} for what cannot be an incident's id, and so a folder's name."""
    if not _INCIDENT.fullmatch(identifier):
        raise EvidenceError(
            f"incident: seen {identifier!r}, expected the id of an incident: letters, digits, "
            "dots, dashes and underscores"
        )


# Chain of custody


def _line_hash(record: Mapping[str, Any]) -> str:
    text = json.dumps({**record, "sha256": ""}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def custody_line(
    previous: str, sequence: int, moment: datetime.datetime, event: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The next line of the chain; ``previous`` is the hash of the one before, empty for the first.

    ``event`` is L{OPENED}, L{COLLECTED} (a file), L{ATTEMPTED} (a source) or L{SEALED}.
    """
    record = {
        **facts,
        "sequence": sequence,
        "time": utc_text(moment),
        "event": event,
        "previous": previous or _GENESIS,
        "sha256": "",
    }
    record["sha256"] = _line_hash(record)
    return record


def encode_custody(records: Iterable[Mapping[str, Any]]) -> str:
    return "".join(
        json.dumps(record, sort_keys=True, ensure_ascii=False) + "\n" for record in records
    )


def check_custody(text: str, sums: Mapping[str, str]) -> tuple[str, list[str]]:
    """(head, problems) of a chain of custody. ``sums`` are the hashes of the bundle's files as
    they are now: each line that names a file has to agree."""
    problems: list[str] = []
    previous = _GENESIS
    event = ""
    collected: dict[str, str] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            claimed, event = str(record["sha256"]), str(record["event"])
            broken = record["previous"] != previous or record["sequence"] != number
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"{CUSTODY} line {number} cannot be read: {type(error).__name__}")
            continue
        if claimed != _line_hash(record):
            problems.append(f"{CUSTODY} line {number} differs from its hash")
        elif broken:
            problems.append(f"{CUSTODY} line {number} does not follow from the line before it")
        previous = claimed
        if event in (COLLECTED, SEALED):
            collected.update({one["path"]: one["sha256"] for one in record.get("files", ())})
    if event != SEALED:
        problems.append(f"{CUSTODY} does not end with the bundle's sealing")
    for path, digest in sorted(collected.items()):
        if path not in sums:
            problems.append(f"{path} is in {CUSTODY} and missing")
        elif sums[path] != digest:
            problems.append(f"{path} differs from its SHA-256 in {CUSTODY}")
    problems += [
        f"{path} is not in {CUSTODY}" for path in sorted(set(sums) - set(collected) - {CUSTODY})
    ]
    return previous, problems


# Checksums


def encode_sums(files: Iterable[EvidenceFile]) -> str:
    """As ``sha256sum -c`` reads it."""
    return "".join(f"{one.sha256}  {one.path}\n" for one in sorted(files, key=lambda one: one.path))


def parse_sums(text: str) -> tuple[dict[str, str], list[str]]:
    """SHA-256 by path, and what could not be read."""
    sums: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = _SUM_LINE.fullmatch(line)
        if match is None:
            problems.append(f"{SUMS} line {number} cannot be read")
        else:
            sums[match.group(2)] = match.group(1)
    return sums, problems


# Role changes


ROLE_STATEMENT = re.compile(
    rb"(?i)\b(?:(?:create|alter|drop)\s+(?:role|user|group)\b|(?:grant|revoke)\s+\S|"
    rb"reassign\s+owned|alter\s+default\s+privileges|set\s+session\s+authorization)"
)


def role_change_limits(settings: Mapping[str, Any], may_see_authid: bool) -> list[str]:
    """What cannot be known of changes to roles, in words, by the server's settings."""
    limits = []
    logged = str(settings.get("log_statement") or "unknown")
    if logged not in ("ddl", "mod", "all"):
        limits.append(
            f"log_statement is {logged}: the log has a change to a role only where it failed, or "
            "was slow enough for log_min_duration_statement"
        )
    if not may_see_authid:
        limits.append("pg_authid was not readable: the age of the roles' rows is not known")
    elif settings.get("track_commit_timestamp") != "on":
        limits.append(
            "track_commit_timestamp is off: which roles were changed last is known by the age of "
            "their rows in transactions, not when"
        )
    limits.append(
        "a row's age tells the last change alone, not what was changed; a role that was dropped "
        "leaves no row; an age of 2147483647 is a row that has been frozen, which is long ago or "
        "follows a VACUUM FREEZE"
    )
    limits.append("passwords and their hashes were not read, so a changed one is not told apart")
    return limits


# What is told


def problems_of(outcomes: Iterable[Outcome]) -> list[dict[str, str]]:
    return [
        {"source": one.source, "status": one.status, "reason": one.reason}
        for one in outcomes
        if one.is_problem
    ]


def results_of(
    outcomes: Sequence[Outcome], path: str, head: str, duration_ms: float
) -> list[dict[str, Any]]:
    """The bundle, with the head of its chain of custody, then one result a group of sources, in the
    shape of the daily check's."""
    problems = problems_of(outcomes)
    files = [file for one in outcomes for file in one.files]
    size = sum(file.bytes for file in files)
    whole = "all of it" if not problems else f"without all of {plural(len(problems), 'source')}"
    found = [
        _result(
            "bundle",
            "warning" if problems else "ok",
            f"{path}: {plural(len(files), 'file')}, {whole}, sealed by {head}",
            size,
            duration_ms=duration_ms,
        )
    ]
    groups: dict[str, list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault(one.source.partition("/")[0], []).append(one)
    return found + [_group_result(group, members, path) for group, members in groups.items()]


def _group_result(group: str, members: Sequence[Outcome], path: str) -> dict[str, Any]:
    problems = [one for one in members if one.is_problem]
    files = [file for one in members for file in one.files]
    size = sum(file.bytes for file in files)
    duration_ms = sum(one.duration_ms for one in members)
    if problems:
        first = problems[0]
        return _result(
            group,
            "warning",
            f"{plural(len(problems), 'source')} of {len(members)} not whole: "
            f"{first.source}: {first.reason}",
            size,
            hint=f"less {path}/{INDEX}",
            detail=[f"{one.source}: {one.reason}" for one in problems],
            duration_ms=duration_ms,
        )
    if all(one.status == SKIPPED for one in members):
        return _result(group, "skipped", members[0].reason, 0, duration_ms=duration_ms)
    text = f"{plural(len(files), 'file')}, {format_bytes(size)}"
    return _result(group, "ok", text, size, duration_ms=duration_ms)


def _result(
    group: str,
    status: str,
    message: str,
    size: int,
    *,
    hint: str = "",
    detail: Sequence[str] = (),
    duration_ms: float = 0.0,
) -> dict[str, Any]:
    return {
        "id": f"evidence.{group}",
        "service": "evidence",
        "instance": None,
        "title": f"Evidence: {group}",
        "status": status,
        "value": size,
        "unit": "bytes",
        "warning": None,
        "critical": None,
        "message": message,
        "hint": hint,
        "detail": list(detail),
        "duration_ms": round(duration_ms, 1),
        "waiver": None,
    }


def tables_of(outcomes: Sequence[Outcome], peers: Sequence[Peer]) -> list[dict[str, Any]]:
    """For the report: who is connected, what is in the bundle, and what is not."""
    most = sorted(peers, key=lambda one: (-one.count, one.address))[:PEERS_SHOWN]
    missing = [one for one in outcomes if one.status != WHOLE]
    tables: list[dict[str, Any]] = [
        {
            "title": "Connections from elsewhere",
            "columns": ["Address", "To", "Port", "Connections"],
            "rows": [[one.address, one.where, one.port, one.count] for one in most],
        },
        {
            "title": "Files of the evidence",
            "columns": ["Folder", "Files", "Size", "Redactions"],
            "rows": _folders(outcomes),
        },
        {
            "title": "Not in the evidence, or not all of it",
            "columns": ["Source", "Outcome", "Why"],
            "rows": [[one.source, one.status, one.reason] for one in missing],
        },
    ]
    return [table for table in tables if table["rows"]]


def _folders(outcomes: Sequence[Outcome]) -> list[list[Any]]:
    """Each file is in SHA256SUMS; a report that names them all is one that nobody reads."""
    folders: dict[str, list[EvidenceFile]] = {}
    for one in outcomes:
        for file in one.files:
            folders.setdefault(posixpath.dirname(file.path), []).append(file)
    return [
        [
            folder,
            len(files),
            format_bytes(sum(file.bytes for file in files)),
            sum(sum(file.redactions.values()) for file in files),
        ]
        for folder, files in sorted(folders.items())
    ]


def lines_of(answer: Mapping[str, Any]) -> list[str]:
    """For the console."""
    where = answer["path"]
    if not where:
        return [f"{plural(len(answer['sources']), 'source')} would be asked, nothing was written"]
    problems = answer["problems"]
    lines = [
        f"evidence in {where}: {plural(answer['files'], 'file')}, {format_bytes(answer['bytes'])}"
        + ("" if problems else ", all of it"),
        f"sealed by {answer['head']}",
    ]
    lines += [f"{one['source']} is {one['status']}: {one['reason']}" for one in problems]
    return lines


def index_document(
    about: Mapping[str, Any], outcomes: Sequence[Outcome], remarks: Sequence[str]
) -> dict[str, Any]:
    """What the bundle's own index says."""
    return {
        "schema_version": SCHEMA_VERSION,
        **about,
        "complete": not any(one.is_problem for one in outcomes),
        "remarks": list(remarks),
        "sources": [asdict(one) for one in outcomes],
    }
