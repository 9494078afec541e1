# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one report object of a run, as ``report.schema.json`` beside this file describes it.

Everything that is shown of a run (console, Markdown, HTML, statistics) is drawn from it.
"""

from __future__ import annotations

import datetime
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._catalogue import CATALOGUE
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    CRITICAL,
    OK,
    SKIPPED,
    STATUSES,
    UNKNOWN,
    WARNING,
    summarize,
    worst,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    SPOKEN_ORDER,
    format_counts,
    named,
    plural,
    printable,
    worse_first,
)

#: Raised in its second part for a field that is new, in its first for one that went or changed.
SCHEMA_VERSION = "1.1"

NEVER = "never"

#: Where the line between success and failure can lie, from the most lenient to the strictest.
FAIL_ON = (NEVER, CRITICAL, WARNING, UNKNOWN)

_KIND = re.compile(r"[a-z][a-z0-9_]*")

#: What Ansible puts before the reason of a failed connection.
_CONNECTION_PREFIXES = re.compile(
    r"^(?:Task failed: |Failed to connect to the host via ssh: |Data could not be sent to remote "
    r"host [^.]*\. Make sure this host can be reached over ssh: )+"
)

#: Words in a probe's hint that stand for what the result is about.
_PLACEHOLDERS = re.compile(r"\b(SERVICE|MOUNT|CONTAINER)\b")


class ReportError(ValueError):
    """The report cannot be built from what was given; the text says what was expected."""


@dataclass(frozen=True)
class Run:
    """Who ran what, where and when. Times carry their zone."""

    run_id: str
    started_at: datetime.datetime
    finished_at: datetime.datetime
    controller: str = ""
    user: str = ""
    collection_version: str = ""


def fails(status: str, fail_on: str) -> bool:
    """Whether ``status`` lies past the line: ``unknown`` also fails on warning and critical."""
    return fail_on != NEVER and STATUSES.index(status) >= STATUSES.index(fail_on)


def plain(value: Any) -> Any:
    """A copy that any JSON parser reads: keys are text, numbers finite, text encodable.

    Ansible's lazy and tagged containers become ordinary ones.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(plain(str(key))): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _time(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(value: Any) -> Optional[str]:
    return str(value) if value not in (None, "") else None


def _number(value: Any) -> Any:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def fill_hint(hint: str, service: str, instance: Optional[str]) -> str:
    """A probe's hint for one result: SERVICE, MOUNT and CONTAINER replaced by their names, so
    that the line can be pasted."""
    names = {"SERVICE": service, "MOUNT": instance, "CONTAINER": instance}

    def replaced(match: re.Match[str]) -> str:
        name = names[match.group(1)]
        return shlex.quote(name) if name else match.group(1)

    return _PLACEHOLDERS.sub(replaced, hint)


def _normal_result(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A result with every key in its type, also from a host with another version."""
    status = raw.get("status")
    service = str(raw.get("service") or "")
    instance = _text(raw.get("instance"))
    value = raw.get("value")
    waiver = raw.get("waiver")
    return {
        "id": str(raw.get("id") or "unnamed"),
        "service": service,
        "instance": instance,
        "title": str(raw.get("title") or raw.get("id") or ""),
        "status": status if status in STATUSES else UNKNOWN,
        "value": value if isinstance(value, (int, float, str)) or value is None else str(value),
        "unit": _text(raw.get("unit")),
        "warning": _number(raw.get("warning")),
        "critical": _number(raw.get("critical")),
        "message": str(raw.get("message") or ""),
        "hint": fill_hint(str(raw.get("hint") or ""), service, instance),
        "detail": raw.get("detail"),
        "duration_ms": _number(raw.get("duration_ms")) or 0,
        "waiver": dict(waiver) if isinstance(waiver, Mapping) else None,
    }


def _host_result(identifier: str, status: str, message: str, hint: str) -> dict[str, Any]:
    return _normal_result(
        {
            "id": identifier,
            "service": "host",
            "title": CATALOGUE[identifier].title,
            "status": status,
            "message": message,
            "hint": hint,
        }
    )


def first_line(message: str) -> str:
    """The line of an error's text that says what happened, without ssh's warnings and, of a
    traceback, the exception alone."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        return printable(lines[-1])
    telling = [line for line in lines if not line.startswith("Warning: ")]
    return printable((telling or lines or ["no reason was given"])[0])


def _cell(value: Any) -> Any:
    return value if isinstance(value, (str, int, float)) or value is None else str(value)


def _normal_tables(raw: Any) -> list[dict[str, Any]]:
    """Tables in which every row has a cell for each column, whatever a module has made of them."""
    tables = []
    for table in raw if isinstance(raw, list) else ():
        if not isinstance(table, Mapping):
            continue
        given = table.get("rows")
        rows = [
            [_cell(value) for value in (row if isinstance(row, list) else [row])]
            for row in (given if isinstance(given, list) else ())
        ]
        named_columns = table.get("columns")
        columns = [str(name) for name in (named_columns if isinstance(named_columns, list) else ())]
        width = max([len(columns), 1, *map(len, rows)])
        tables.append(
            {
                "title": str(table.get("title") or "Table"),
                "columns": [*columns, *[""] * (width - len(columns))],
                "rows": [[*row, *[None] * (width - len(row))] for row in rows],
            }
        )
    return tables


def _unreachable(name: str, outcome: Mapping[str, Any]) -> dict[str, Any]:
    reason = first_line(_CONNECTION_PREFIXES.sub("", str(outcome.get("msg") or "").strip()))
    quoted = shlex.quote(name)
    return _host_result(
        "host.reachable",
        CRITICAL,
        f"not reachable by SSH: {reason}",
        f"ssh {quoted}; ansible {quoted} -m ansible.builtin.ping",
    )


def _failure(name: str, outcome: Mapping[str, Any], kind: str) -> dict[str, Any]:
    message = str(outcome.get("msg") or "")
    reason = first_line(message)
    if message.startswith("MODULE FAILURE") or not message:
        said = str(outcome.get("module_stderr") or "").strip().splitlines()
        reason = f"{reason} ({printable(said[-1])})" if said else reason
    return _host_result(
        "host.check",
        CRITICAL,
        f"the check could not be made: {reason}",
        f"ansible-playbook pynomaly.ops.{kind} --limit {shlex.quote(name)} -vvv",
    )


def host_entry(
    name: str, outcome: Optional[Mapping[str, Any]], fail_on: str, kind: str = "daily_check"
) -> dict[str, Any]:
    """One entry of the report's ``hosts``, from what Ansible registered for the host.

    ``outcome`` is a result of ``stack_health_info`` ({project, results, facts, started_at,
    duration_ms}), or of others, with ``tables`` (each {title, columns, rows}), a failed one
    ({failed, msg}), an unreachable one ({unreachable, msg}), a skipped one, or C{None} where the
    host never got so far. Whatever it is, the entry has at least one
    result: a host of which nothing is known must not look well.
    """
    seen: Mapping[str, Any] = plain(outcome) if outcome is not None else {}
    reachable = not seen.get("unreachable")
    raw_results = seen.get("results")
    results = [
        _normal_result(entry)
        for entry in (raw_results if isinstance(raw_results, list) else ())
        if isinstance(entry, Mapping)
    ]
    if not reachable:
        results.insert(0, _unreachable(name, seen))
    elif seen.get("failed"):
        results.insert(0, _failure(name, seen, kind))
    elif outcome is None:
        results.insert(
            0,
            _failure(
                name, {"msg": "it did not run on this host; an earlier task failed there"}, kind
            ),
        )
    elif seen.get("skipped"):
        reason = printable(seen.get("skip_reason") or "skipped by a condition")
        results.insert(0, _host_result("host.check", SKIPPED, reason, ""))
    elif not results:
        results.append(_failure(name, {"msg": "it answered without a single result"}, kind))
    project = seen.get("project")
    described = project if isinstance(project, Mapping) else {"name": project}
    facts = seen.get("facts")
    status = worst(entry["status"] for entry in results)
    return {
        "name": name,
        "address": _text(seen.get("address")),
        "reachable": reachable,
        "project": _text(described.get("name")),
        "working_dir": _text(described.get("working_dir")),
        "started_at": _text(seen.get("started_at")),
        "duration_ms": _number(seen.get("duration_ms")),
        "status": status,
        "failed": fails(status, fail_on),
        "summary": summarize(results),
        "facts": dict(facts) if isinstance(facts, Mapping) else {},
        "results": results,
        "tables": _normal_tables(seen.get("tables")),
    }


def _listed(
    what: str, raw: Any, required: Sequence[str], optional: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Entries that a user wrote, each with the keys it needs and no others."""
    entries = []
    for entry in raw or ():
        if not isinstance(entry, Mapping) or not set(required) <= set(entry) <= {
            *required,
            *optional,
        }:
            expected = ", ".join([*required, *(f"{key} (optional)" for key in optional)])
            raise ReportError(f"{what}: seen {entry!r}, expected a dictionary with {expected}")
        entries.append({key: str(plain(entry[key])) for key in entry if entry[key] is not None})
    return entries


def build_report(
    kind: str,
    title: str,
    run: Run,
    hosts: Mapping[str, Optional[Mapping[str, Any]]],
    *,
    fail_on: str = CRITICAL,
    contacts: Iterable[Mapping[str, Any]] = (),
    escalation: Iterable[Mapping[str, Any]] = (),
    links: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The report of a run over ``hosts`` (name to what was registered for it, see L{host_entry}).

    Raises L{ReportError} for a kind that cannot be part of a file's name, an unknown ``fail_on``,
    no hosts at all, and contacts, escalation levels or links without what they need.
    """
    if not _KIND.fullmatch(kind):
        raise ReportError(
            f"kind: seen {kind!r}, expected lower case letters, digits and underscores"
        )
    if fail_on not in FAIL_ON:
        raise ReportError(f"fail_on: seen {fail_on!r}, expected one of {', '.join(FAIL_ON)}")
    if not hosts:
        raise ReportError(
            "hosts: seen none, expected at least one; see what the inventory gives: "
            "ansible-inventory --graph"
        )
    entries = [host_entry(str(name), outcome, fail_on, kind) for name, outcome in hosts.items()]
    levels = _listed("escalation", escalation, ("name",), ("address",))
    # The order is the level: a list cannot have a gap or two of the same.
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "title": title,
        "run_id": run.run_id,
        "started_at": _time(run.started_at),
        "finished_at": _time(run.finished_at),
        "duration_ms": max(0, round((run.finished_at - run.started_at).total_seconds() * 1000)),
        "controller": run.controller,
        "user": run.user,
        "collection_version": run.collection_version,
        "status": worst(entry["status"] for entry in entries),
        "fail_on": fail_on,
        "failed": any(entry["failed"] for entry in entries),
        "summary": summarize(result for entry in entries for result in entry["results"]),
        "hosts": entries,
        "contacts": _listed("contacts", contacts, ("name", "address")),
        "escalation": [{"level": level, **entry} for level, entry in enumerate(levels, start=1)],
        "links": _listed("links", links, ("title", "url")),
    }


def hosts_worst_first(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The report's hosts, trouble first, otherwise in the inventory's order."""
    return sorted(report["hosts"], key=lambda entry: worse_first(entry["status"]))


def problems(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A host's results that need somebody, the worst first."""
    return sorted(
        (result for result in entry["results"] if result["status"] in (WARNING, CRITICAL, UNKNOWN)),
        key=lambda result: worse_first(result["status"]),
    )


def waived(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A host's results whose trouble is accepted for a time."""
    return [result for result in entry["results"] if result["waiver"]]


def component(identifier: str) -> str:
    """The component that a probe belongs to, which is the first part of its id."""
    return identifier.partition(".")[0]


def count_by_component(results: Iterable[Mapping[str, Any]], status: str) -> list[tuple[str, int]]:
    """How many results of each component have ``status``, in the order of the results."""
    counts: dict[str, int] = {}
    for result in results:
        if result["status"] == status:
            name = component(result["id"])
            counts[name] = counts.get(name, 0) + 1
    return list(counts.items())


def headline(report: Mapping[str, Any]) -> str:
    """What the run found, in one sentence without a full stop."""
    hosts, summary = report["hosts"], report["summary"]
    total = sum(summary.values())
    troubled = [entry for entry in hosts if problems(entry)]
    where = plural(len(hosts), "host")
    if not troubled:
        good = "all well" if summary[OK] else "nothing was measured"
        return f"{good}: {format_counts(summary)} on {where}"
    counts = format_counts({status: summary[status] for status in SPOKEN_ORDER[:3]})
    if len(hosts) == 1:
        return f"{counts} of {plural(total, 'check')} on {printable(hosts[0]['name'])}"
    return f"{counts} of {plural(total, 'check')}, on {len(troubled)} of {where}"


def failing_hosts(report: Mapping[str, Any]) -> dict[str, str]:
    """The hosts past the line, each with a sentence fit for Ansible's failure message."""
    failing = {}
    for entry in report["hosts"]:
        if entry["failed"]:
            past = [item for item in problems(entry) if fails(item["status"], report["fail_on"])]
            names = [named(item) for item in past[:5]]
            more = f" and {len(past) - 5} more" if len(past) > 5 else ""
            failing[entry["name"]] = (
                f"{format_counts(summarize(past))}: {', '.join(names)}{more}; "
                f"first: {printable(past[0]['message'])}"
                + (f"; next: {printable(past[0]['hint'])}" if past[0]["hint"] else "")
            )
    return failing


def run_statistics(report: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """What goes to ``set_stats``, and from there to AWX and the next node of a workflow."""
    return {
        "pynomaly_status": report["status"],
        "pynomaly_failed": report["failed"],
        "pynomaly_summary": dict(report["summary"]),
        "pynomaly_critical": [
            "@".join([f"{entry['name']}:{result['id']}", *filter(None, [result["instance"] or ""])])
            for entry in report["hosts"]
            for result in entry["results"]
            if result["status"] == CRITICAL
        ],
        "pynomaly_report_paths": dict(paths),
    }


def file_stem(report: Mapping[str, Any]) -> str:
    """A report file's name without its ending: kind, when it began, and a part of the run's id."""
    began = re.sub(r"[-:]", "", report["started_at"])
    short_id = re.sub(r"[^A-Za-z0-9]", "", report["run_id"])[:8] or "run"
    return f"{report['kind']}-{began}-{short_id}"
