# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Incidents: which one a run belongs to, what contains it, what was done, and what is told of it.

An incident stays open over runs of C{ansible-playbook}, until it is closed. A measure is something
that contains it and has to be undone one day: a blocked network, the maintenance page, a service
off its networks. All times are UTC.
"""

from __future__ import annotations

import datetime
import json
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Optional, Union

from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    RunIdentity,
    describe_owner,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc, utc_text

SCHEMA_VERSION = 1

OPEN = "open"
CLOSED = "closed"

#: What opens another incident beside one that is open, in place of an id.
NEW = "new"

BLOCK = "block"
MAINTENANCE = "maintenance"
ISOLATION = "isolation"
MEASURE_KINDS = (BLOCK, MAINTENANCE, ISOLATION)

#: The target that stands for each of a kind, where measures are released.
EVERYTHING = "all"

#: What an entry of the timeline is about, and what a report calls it.
EVENTS: Mapping[str, str] = {
    "opened": "The incident is open",
    "evidence": "Evidence is gathered before anything is touched",
    BLOCK: "Attackers are blocked",
    MAINTENANCE: "Clients get the maintenance page",
    ISOLATION: "Services are off their networks",
    "release": "What contained the incident is undone",
    "recover": "What the attackers may know is replaced",
    "investigate": "Logs and traces are looked through",
    "note": "What was noted",
    "failed": "The run went well",
    "closed": "The incident is closed",
}

DONE = "done"
UNCHANGED = "unchanged"
FAILED = "failed"
OUTCOMES = (DONE, UNCHANGED, FAILED)

#: A longer line of the timeline is refused: it says what was done, and is no store.
ENTRY_MAX_BYTES = 64 * 1024

_IDENTIFIER = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_LIST = "ansible-playbook pynomaly.ops.status"

#: The project that playbooks are about where they are not told (C{pynomaly_project_name}).
_DEFAULT_PROJECT = "pynomaly"


class IncidentError(ValueError):
    """What was asked cannot be done; the text says what, seen, expected, and ``hint`` what next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Measure:
    """Something that contains an incident: a network, a service, or the page (no target)."""

    kind: str
    target: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.target}".strip()

    def covers(self, other: Measure) -> bool:
        """Whether releasing this releases the other: the same, one within its network, or any
        where it is C{all}."""
        if self.kind != other.kind:
            return False
        if self.target in (EVERYTHING, other.target):
            return True
        outer, inner = _network(self), _network(other)
        if outer is None or inner is None or outer.version != inner.version:
            return False
        first, last = inner.network_address, inner.broadcast_address
        return first in outer and last in outer


@dataclass(frozen=True)
class Incident:
    """What is written of an incident in C{incident.json}; times are ISO 8601."""

    identifier: str
    project: str
    reason: str
    opened_at: str
    opened_by: str
    run_id: str
    status: str = OPEN
    closed_at: str = ""
    closed_by: str = ""
    measures: tuple[Measure, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def line(self) -> str:
        return (
            f"incident {self.identifier} of {self.project}, {self.status} since "
            f"{parse_utc(self.closed_at or self.opened_at):%Y-%m-%d %H:%M:%S} UTC"
            + (f" ({self.reason})" if self.reason else "")
        )


# Which one


def check_identifier(text: str) -> str:
    """An id that can be a folder's name. Raises L{IncidentError}."""
    if not _IDENTIFIER.fullmatch(text):
        raise IncidentError(
            f"incident: seen {text!r}, expected an id such as 20261124-4f3c9a1b", _LIST
        )
    return text


def new_identifier(now: datetime.datetime, run_id: str, taken: Collection[str]) -> str:
    """An id which says the day and the run, so that it is the same on all hosts of a run."""
    short = re.sub(r"[^0-9A-Za-z]", "", run_id)[:8] or "run"
    stem = f"{now:%Y%m%d}-{short}"
    candidate, number = stem, 1
    while candidate in taken:
        number += 1
        candidate = f"{stem}-{number}"
    return candidate


def new_incident(
    identifier: str, project: str, reason: str, identity: RunIdentity, now: datetime.datetime
) -> Incident:
    return Incident(
        identifier=identifier,
        project=project,
        reason=reason,
        opened_at=utc_text(now),
        opened_by=describe_owner(identity.user, identity.controller, identity.awx_job_id),
        run_id=identity.run_id,
    )


def choose(incidents: Iterable[Incident], project: str, asked: str) -> Optional[Incident]:
    """The project's incident that a run belongs to: the one that is asked for, or else the one that
    is open. C{None} where none is, or where C{new} is asked for.

    Raises L{IncidentError} for one that is not there, belongs to another project, or is closed, and
    where several are open and none is asked for.
    """
    known = list(incidents)
    open_ones = [one for one in known if one.project == project and one.status == OPEN]
    names = ", ".join(one.identifier for one in open_ones) or "none"
    if asked == NEW:
        return None
    if asked:
        check_identifier(asked)
        found = next((one for one in known if one.identifier == asked), None)
        if found is None or found.project != project:
            seen = f"it belongs to project {found.project}" if found else "there is no such one"
            raise IncidentError(
                f"incident {asked}: seen: {seen}; expected: one of {project} (open: {names})",
                "leave incident out, or name one that is open",
            )
        if found.status != OPEN:
            raise IncidentError(
                f"incident {asked}: seen: closed at {found.closed_at} by {found.closed_by}; "
                f"expected: one that is open ({names})",
                "leave incident out",
            )
        return found
    if len(open_ones) > 1:
        raise IncidentError(
            f"incident: seen: {len(open_ones)} are open: {names}; expected: to be told which",
            f"name it: -e incident={open_ones[-1].identifier}",
        )
    return open_ones[0] if open_ones else None


def measure_of(kind: str, target: str) -> Measure:
    """A measure; a block's network as it is commonly written, so that each has one name."""
    measure = Measure(kind, target.strip())
    network = _network(measure)
    if network is None:
        return measure
    single = network.prefixlen == network.max_prefixlen
    return Measure(kind, str(network.network_address) if single else str(network))


def _network(measure: Measure) -> Optional[Union[IPv4Network, IPv6Network]]:
    if measure.kind != BLOCK:
        return None
    try:
        return ip_network(measure.target)
    except ValueError:
        return None


def with_measures(
    incident: Incident, added: Iterable[Measure] = (), removed: Iterable[Measure] = ()
) -> Incident:
    """The incident with other measures, each once, in the order in which they were taken."""
    gone = list(removed)
    kept = dict.fromkeys([*incident.measures, *added])
    return replace(
        incident,
        measures=tuple(one for one in kept if not any(other.covers(one) for other in gone)),
    )


def closed(incident: Incident, identity: RunIdentity, now: datetime.datetime) -> Incident:
    """The incident at its end. Raises L{IncidentError} while measures contain it."""
    if incident.measures:
        raise IncidentError(
            f"incident {incident.identifier}: seen: still contained by "
            f"{', '.join(map(str, incident.measures))}; expected: nothing left to undo",
            f"ansible-playbook pynomaly.ops.incident_release -e incident={incident.identifier}",
        )
    owner = describe_owner(identity.user, identity.controller, identity.awx_job_id)
    return replace(incident, status=CLOSED, closed_at=utc_text(now), closed_by=owner)


# As text


def encode_incident(incident: Incident) -> str:
    return json.dumps(asdict(incident), indent=2, sort_keys=True) + "\n"


def decode_incident(data: bytes) -> Incident:
    """Raises C{ValueError} where it is none."""
    try:
        raw = json.loads(data.decode())
        measures = tuple(Measure(str(one["kind"]), str(one["target"])) for one in raw["measures"])
        texts = {
            name: str(raw[name])
            for name in Incident.__dataclass_fields__
            if name not in ("measures", "schema_version")
        }
        check_identifier(texts["identifier"])
        parse_utc(texts["opened_at"])
        if texts["status"] not in (OPEN, CLOSED):
            raise ValueError(f"its status is {texts['status']!r}")
        return Incident(**texts, measures=measures, schema_version=int(raw["schema_version"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def timeline_entry(
    now: datetime.datetime,
    identity: RunIdentity,
    event: str,
    what: str,
    *,
    outcome: str = DONE,
    command: str = "",
) -> dict[str, str]:
    """One line of the timeline. Raises L{IncidentError} for an unknown event or outcome."""
    for name, value, known in (("event", event, EVENTS), ("outcome", outcome, OUTCOMES)):
        if value not in known:
            raise IncidentError(f"{name}: seen {value!r}, expected one of {', '.join(known)}")
    if not what:
        raise IncidentError("what: seen nothing, expected what was done, in a sentence")
    return {
        "time": utc_text(now),
        "who": describe_owner(identity.user, identity.controller, identity.awx_job_id),
        "run": identity.run_id,
        "event": event,
        "what": what,
        "command": command,
        "outcome": outcome,
    }


def encode_entry(entry: Mapping[str, str]) -> bytes:
    """Raises L{IncidentError} for one that is too long."""
    line = json.dumps(entry, sort_keys=True).encode() + b"\n"
    if len(line) > ENTRY_MAX_BYTES:
        raise IncidentError(
            f"timeline: seen {len(line)} bytes, expected at most {ENTRY_MAX_BYTES} an entry"
        )
    return line


def decode_timeline(lines: Iterable[bytes]) -> tuple[list[dict[str, str]], list[int]]:
    """All entries, and the numbers of the lines that are none (a power cut leaves one)."""
    entries: list[dict[str, str]] = []
    damaged: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line.decode())
            parse_utc(raw["time"])
            names = ("time", "who", "run", "event", "what", "command", "outcome")
            entries.append({name: str(raw[name]) for name in names})
        except (ValueError, KeyError, TypeError):
            damaged.append(number)
    return entries, damaged


def command_line(
    playbook: str, given: Mapping[str, Any], identifier: str = "", project: str = ""
) -> str:
    """A playbook's command line with what was given to it (what is empty was not), each word quoted
    for a shell."""
    words = ["ansible-playbook", f"pynomaly.ops.{playbook}"]
    for name, value in given.items():
        text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        if text:
            words += ["-e", f"{name}={text}"]
    if identifier:
        words += ["-e", f"incident={identifier}"]
    if project and project != _DEFAULT_PROJECT:
        words += ["-e", f"pynomaly_project_name={project}"]
    return " ".join(map(shlex.quote, words))


# What is told


@dataclass(frozen=True)
class Bundle:
    """A folder of evidence. ``digest`` is the SHA-256 of its list of SHA-256 sums, empty where it
    has none."""

    path: str
    files: int
    size_bytes: int
    digest: str


def results_of(
    entries: Iterable[Mapping[str, str]], run_id: str, failure: str
) -> list[dict[str, Any]]:
    """What a run did, as results of a report: one for each thing of the timeline, and the reason of
    its failure where it has one."""
    found = [
        _result(entry["event"], "critical" if entry["outcome"] == FAILED else "ok", entry["what"])
        for entry in entries
        if entry["run"] == run_id and entry["event"] in EVENTS
    ]
    if failure and not any(one["status"] == "critical" for one in found):
        found.append(_result("failed", "critical", failure))
    return found


def _result(event: str, status: str, message: str) -> dict[str, Any]:
    return {
        "id": f"incident.{event}",
        "service": "host",
        "title": EVENTS[event],
        "status": status,
        "message": message,
        "hint": "",
        "duration_ms": 0,
    }


def report_tables(
    incident: Incident,
    entries: Sequence[Mapping[str, str]],
    bundles: Sequence[Bundle],
    open_states: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Next steps, timeline, commands, evidence and what is open, as tables of a report."""
    return [
        {
            "title": "Next steps",
            "columns": ["Step", "Command"],
            "rows": next_steps(incident, bundles),
        },
        {
            "title": "Timeline",
            "columns": ["Time", "Who", "Outcome", "What"],
            "rows": [
                [_moment(entry["time"]), entry["who"], entry["outcome"], entry["what"]]
                for entry in entries
            ],
        },
        {
            "title": "Commands",
            "columns": ["Time", "Run", "Command"],
            "rows": [
                [_moment(entry["time"]), entry["run"][:8], entry["command"]]
                for entry in _first_of_each_command(entries)
            ],
        },
        {
            "title": "Evidence folders",
            "columns": ["Files", "Bytes", "SHA-256", "Path"],
            "rows": [[one.files, one.size_bytes, one.digest, one.path] for one in bundles],
        },
        {
            "title": "Open temporary states",
            "columns": ["State", "Since", "What", "Undo"],
            "rows": [
                [
                    str(record["temporary_state"]),
                    _moment(record["time"]),
                    str(record.get("summary") or ""),
                    str(record.get("undo") or ""),
                ]
                for record in open_states
            ],
        },
    ]


def _moment(text: object) -> str:
    return f"{parse_utc(text):%Y-%m-%d %H:%M:%S} UTC"


def _first_of_each_command(entries: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Of each run's commands the first time; several steps of one run have the same."""
    seen: dict[tuple[str, str], Mapping[str, str]] = {}
    for entry in entries:
        if entry["command"]:
            seen.setdefault((entry["run"], entry["command"]), entry)
    return list(seen.values())


def next_steps(incident: Incident, bundles: Sequence[Bundle]) -> list[list[str]]:
    """What to do next, and the command that does it."""

    def playbook(name: str, **given: str) -> str:
        return command_line(name, given, incident.identifier, incident.project)

    steps = []
    if bundles:
        folder = shlex.quote(bundles[-1].path)
        steps.append(
            ["See that the evidence is whole", f"cd {folder} && sha256sum -c --quiet SHA256SUMS"]
        )
    if incident.status == OPEN:
        confirm = f"recover:{incident.project}"
        steps += [
            ["See who did what, over all logs", playbook("incident_investigate")],
            ["Contain more of it", playbook("incident_contain", block="ADDRESS", reason="WHY")],
            ["Replace what attackers may know", playbook("incident_recover", confirm=confirm)],
            ["Undo what contains it, and close it", playbook("incident_release")],
        ]
    steps.append(["See that all is well", command_line("daily_check", {}, "", incident.project)])
    return steps
