# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Operations on a host: who holds the lock, what is written in the journal, what that means.

An operation is one verb (C{deploy}) of one run of C{ansible-playbook} on one project. The lock is
the host's: one change at a time, whatever the project. All times are UTC.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Optional, Union

from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc, utc_text

SCHEMA_VERSION = 1

STARTED = "started"
STEP = "step"
FINISHED = "finished"
FAILED = "failed"
TEMPORARY_OPENED = "temporary_opened"
TEMPORARY_CLOSED = "temporary_closed"
TAKEOVER = "takeover"
EVENTS = (STARTED, STEP, FINISHED, FAILED, TEMPORARY_OPENED, TEMPORARY_CLOSED, TAKEOVER)

#: What an operation came to, as L{summarize_operations} says it.
RUNNING = "running"
UNFINISHED = "unfinished"
TAKEN_OVER = "taken over"
NOTED = "noted"

#: A longer journal line is refused: the journal is a log of what was done, not a store.
RECORD_MAX_BYTES = 64 * 1024

_SECRET_KEY = re.compile(r"passw|passphrase|secret|token|credential|(api|private)[_-]?key", re.I)
_PERIOD = re.compile(r"(\d+)\s*([mhdw])\Z")
_PERIOD_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class OperationError(ValueError):
    """What was asked cannot be done; the text says what, seen, expected, next."""


class LockHeldError(OperationError):
    """Another run holds the host's lock, which is C{lock}."""

    def __init__(self, message: str, lock: AnyLock) -> None:
        super().__init__(message)
        self.lock = lock


@dataclass(frozen=True)
class RunIdentity:
    """One run of C{ansible-playbook}: the same for each host, play and batch of it.

    ``awx_job_id`` is empty outside of AWX.
    """

    run_id: str
    user: str
    controller: str
    ansible_version: str = ""
    awx_job_id: str = ""


@dataclass(frozen=True)
class Lock:
    """The facts that a lock holds from its first instant. ``started_at`` is the host's clock."""

    operation: str
    project: str
    run_id: str
    user: str
    controller: str
    started_at: str
    ansible_version: str = ""
    awx_job_id: str = ""
    schema_version: int = SCHEMA_VERSION

    def owned_by(self, run_id: str, operation: str, project: str) -> bool:
        """Whether that very operation took it; one that the same run nests inside did not."""
        return (self.run_id, self.operation, self.project) == (run_id, operation, project)


@dataclass(frozen=True)
class DamagedLock:
    """A lock file that cannot be read. ``run_id`` is made from its bytes, so that naming it still
    proves that this very lock has been seen."""

    run_id: str
    problem: str


AnyLock = Union[Lock, DamagedLock]


@dataclass(frozen=True)
class Journal:
    """``records`` in the order written; ``damaged_lines`` are ``{line, problem, text}``."""

    records: Sequence[Mapping[str, Any]] = ()
    damaged_lines: Sequence[Mapping[str, Any]] = ()


@dataclass
class OperationSummary:
    """What the journal tells about one operation.

    ``outcome`` is finished, failed, running (its lock is there), unfinished (no end was written
    and no lock is there), taken over, or noted (something written outside of any operation).
    ``duration_seconds`` is C{None} where there is no end or no beginning.
    """

    run_id: str
    operation: str
    project: str
    user: str
    controller: str
    time: str
    awx_job_id: str = ""
    outcome: str = UNFINISHED
    ended_at: Optional[str] = None
    duration_seconds: Optional[float] = None
    changed: Optional[bool] = None
    summary: str = ""
    undo: str = ""
    taken_over_by: str = ""
    steps: list[str] = field(default_factory=list)


def parse_since(text: str, now: datetime.datetime) -> datetime.datetime:
    """C{90m}, C{24h}, C{7d}, C{2w} before C{now}, or an ISO 8601 date or time (UTC).

    Raises L{OperationError} on anything else.
    """
    period = _PERIOD.match(text.strip())
    try:
        if period:
            unit = _PERIOD_UNITS[period.group(2)]
            return now - datetime.timedelta(**{unit: int(period.group(1))})
        return parse_utc(text.strip())
    except (ValueError, OverflowError) as error:
        raise OperationError(
            f"since is {text!r}, expected a period like 24h or 7d, or a date like 2026-01-31"
        ) from error


def run_id_from(process_key: bytes) -> str:
    """A run's id from the random key that all processes of one C{ansible-playbook} share.

    The key cannot be found from the id.
    """
    digest = hashlib.sha256(b"pynomaly.ops run id\0" + process_key).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def identify_user(login: str, environment: Mapping[str, str], variables: Mapping[str, Any]) -> str:
    """Who is behind the run: AWX's user, or its schedule, or who called sudo, or the login."""
    for name in ("awx_user_name", "tower_user_name"):
        if variables.get(name):
            return str(variables[name])
    for name in ("awx_schedule_name", "tower_schedule_name"):
        if variables.get(name):
            return f"schedule {variables[name]}"
    return environment.get("SUDO_USER") or login


def new_lock(now: datetime.datetime, identity: RunIdentity, operation: str, project: str) -> Lock:
    return Lock(
        operation=operation,
        project=project,
        run_id=identity.run_id,
        user=identity.user,
        controller=identity.controller,
        started_at=utc_text(now),
        ansible_version=identity.ansible_version,
        awx_job_id=identity.awx_job_id,
    )


def encode_lock(lock: Lock) -> bytes:
    return (json.dumps(asdict(lock), sort_keys=True) + "\n").encode()


def decode_lock(data: bytes) -> AnyLock:
    """The lock in a lock file; one that cannot be read is still a lock."""
    try:
        raw = json.loads(data.decode())
        parse_utc(raw["started_at"])
        names = [name for name in Lock.__dataclass_fields__ if name != "schema_version"]
        texts = {name: str(raw.get(name) or "") for name in names}
        if not texts["run_id"] or not texts["operation"]:
            raise ValueError("no run_id or no operation in it")
        return Lock(schema_version=int(raw["schema_version"]), **texts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        token = f"damaged-{hashlib.sha256(data).hexdigest()[:16]}"
        problem = f"{type(error).__name__}: {error}" if data else "the file is empty"
        return DamagedLock(run_id=token, problem=problem)


def lock_to_dict(lock: Optional[AnyLock], now: datetime.datetime) -> Optional[dict[str, Any]]:
    """A lock as modules return it, with ``damaged`` and ``age_seconds`` (never negative)."""
    if lock is None:
        return None
    if isinstance(lock, DamagedLock):
        return {"damaged": True, **asdict(lock)}
    age = (now - parse_utc(lock.started_at)).total_seconds()
    return {"damaged": False, "age_seconds": round(max(0.0, age), 1), **asdict(lock)}


def describe_duration(seconds: float) -> str:
    """In words, to two units: C{12 minutes}, C{3 hours 5 minutes}."""
    left = max(0, int(seconds))
    parts = []
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append((name, f"{count} {name}{'' if count == 1 else 's'}"))
    if not parts:
        return "0 seconds"
    if parts[0][0] in ("second", "minute"):
        return parts[0][1]
    return " ".join(text for _name, text in parts[:2])


def describe_owner(user: str, controller: str, awx_job_id: str) -> str:
    job = f" (AWX job {awx_job_id})" if awx_job_id else ""
    return f"{user}@{controller}{job}"


def describe_lock(lock: AnyLock, now: datetime.datetime) -> str:
    """One line: which operation, by whom, since when, which run."""
    if isinstance(lock, DamagedLock):
        return f"a lock file that cannot be read ({lock.problem}), run {lock.run_id}"
    since = parse_utc(lock.started_at)
    age = describe_duration((now - since).total_seconds())
    owner = describe_owner(lock.user, lock.controller, lock.awx_job_id)
    return (
        f"{lock.operation} of {lock.project} by {owner} "
        f"since {since:%Y-%m-%d %H:%M:%S} UTC ({age} ago), run {lock.run_id}"
    )


def locked_message(
    host: str, lock: AnyLock, takeover: str, playbook: str, now: datetime.datetime
) -> str:
    """Why a second run stops, with the facts of the first and what to run next."""
    seen = describe_lock(lock, now)
    command = f"ansible-playbook {playbook} -e pynomaly_takeover={lock.run_id}"
    if takeover:
        return (
            f"what: the lock of host {host} was not taken over; seen: {seen}; "
            f"expected: the lock of run {takeover}, as named in pynomaly_takeover; "
            f"next: if the run seen is dead: {command}"
        )
    return (
        f"what: host {host} is locked; seen: {seen}; expected: no operation running; "
        f"next: wait for it to end, or if that run is dead: {command}"
    )


def may_take(current: Optional[AnyLock], wanted: Lock, takeover: str) -> bool:
    """Whether C{wanted} may become the lock: none is there, or it is the one named to be taken
    over. (A lock of the same run is held already: L{held_by_run} tells.)"""
    if current is None:
        return True
    return bool(takeover) and takeover == current.run_id and current.run_id != wanted.run_id


def held_by_run(current: Optional[AnyLock], run_id: str) -> bool:
    return isinstance(current, Lock) and current.run_id == run_id


def find_secret_keys(value: Any, path: str = "") -> list[str]:
    """The paths of mapping keys that look like they name a secret, at any depth."""
    found = []
    if isinstance(value, Mapping):
        for key, inner in value.items():
            place = f"{path}.{key}" if path else str(key)
            if _SECRET_KEY.search(str(key)):
                found.append(place)
            found += find_secret_keys(inner, place)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            found += find_secret_keys(inner, f"{path}[{index}]")
    return found


def journal_record(
    *,
    time: datetime.datetime,
    event: str,
    identity: RunIdentity,
    operation: str,
    project: str,
    changed: Optional[bool] = None,
    summary: str = "",
    undo: str = "",
    temporary_state: str = "",
    details: Optional[Mapping[str, Any]] = None,
) -> dict[str, Any]:
    """One line of the journal, checked.

    ``outcome`` is the event's own where it ends an operation, else null. ``temporary_state`` names
    what is opened or closed (C{maintenance_page}); ``undo`` is the command that undoes it.
    Raises L{OperationError} for an unknown event, an empty operation, a temporary state without a
    name, one that is opened without its undo, and details with a key that looks like a secret's.
    """
    if event not in EVENTS:
        raise OperationError(f"event is {event!r}, expected one of {', '.join(EVENTS)}")
    if not operation:
        raise OperationError("operation is empty, expected a verb such as deploy")
    temporary = event in (TEMPORARY_OPENED, TEMPORARY_CLOSED)
    if temporary and not temporary_state:
        raise OperationError(f"{event}: temporary_state is empty, expected the state's name")
    if temporary_state and not temporary:
        raise OperationError(
            f"temporary_state is {temporary_state!r} with event {event}, expected event "
            f"{TEMPORARY_OPENED} or {TEMPORARY_CLOSED}"
        )
    if event == TEMPORARY_OPENED and not undo:
        raise OperationError(
            f"temporary state {temporary_state}: undo is empty, expected the command that undoes it"
        )
    secrets = find_secret_keys(details or {})
    if secrets:
        raise OperationError(
            f"details: the key {', '.join(secrets)} looks like a secret's, "
            "expected none: the journal holds no secrets"
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "time": utc_text(time),
        "run_id": identity.run_id,
        "operation": operation,
        "project": project,
        "event": event,
        "user": identity.user,
        "controller": identity.controller,
        "awx_job_id": identity.awx_job_id,
        "ansible_version": identity.ansible_version,
        "outcome": event if event in (FINISHED, FAILED) else None,
        "changed": changed,
        "summary": summary,
        "undo": undo,
        "temporary_state": temporary_state,
        "details": dict(details or {}),
    }


def encode_record(record: Mapping[str, Any]) -> bytes:
    """The record as one line. Raises L{OperationError} when it is not JSON or too long."""
    try:
        line = json.dumps(record, sort_keys=True, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise OperationError(f"journal record: not JSON: {error}") from error
    if len(line) > RECORD_MAX_BYTES:
        raise OperationError(
            f"journal record: {len(line)} bytes, expected at most {RECORD_MAX_BYTES}"
        )
    return line


def decode_journal(lines: Iterable[bytes]) -> Journal:
    """All records, and which lines are damaged (a power cut in mid-write leaves one)."""
    records: list[Mapping[str, Any]] = []
    damaged: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode())
            if record["event"] not in EVENTS:
                raise ValueError(f"unknown event {record['event']!r}")
            parse_utc(record["time"])
            for name in ("run_id", "operation", "project"):
                if not isinstance(record[name], str):
                    raise TypeError(f"{name} is not a text")
        except (ValueError, KeyError, TypeError) as error:
            problem = f"{type(error).__name__}: {error}"
            text = line[:80].decode(errors="replace").rstrip("\n")
            damaged.append({"line": number, "problem": problem, "text": text})
        else:
            records.append(record)
    return Journal(records, damaged)


def _temporary_key(record: Mapping[str, Any]) -> tuple[str, str]:
    return str(record["project"]), str(record.get("temporary_state"))


def open_temporary_states(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The C{temporary_opened} records, oldest first, that nothing has closed since.

    A state is told apart by its project and its name. Opened twice, it is the later record that
    counts, in the place of the first.
    """
    still_open: dict[tuple[str, str], dict[str, Any]] = {}
    for record in records:
        if record["event"] == TEMPORARY_OPENED:
            still_open[_temporary_key(record)] = dict(record)
        elif record["event"] == TEMPORARY_CLOSED:
            still_open.pop(_temporary_key(record), None)
    return list(still_open.values())


def is_news(record: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the record says what the journal does not say already.

    Closing what is not open and opening anew with the same undo and details are no news, so that
    finishing a half-done operation twice changes nothing the second time.
    """
    if record["event"] not in (TEMPORARY_OPENED, TEMPORARY_CLOSED):
        return True
    key = _temporary_key(record)
    known = [entry for entry in open_temporary_states(records) if _temporary_key(entry) == key]
    if record["event"] == TEMPORARY_CLOSED:
        return bool(known)
    return not known or any(known[0].get(name) != record[name] for name in ("undo", "details"))


def is_unfinished(
    records: Iterable[Mapping[str, Any]], run_id: str, operation: str, project: str
) -> bool:
    """Whether that operation was started by that run and no end of it was written."""
    begun = False
    for record in records:
        if (record["run_id"], record["operation"], record["project"]) == (
            run_id,
            operation,
            project,
        ):
            if record["event"] == STARTED:
                begun = True
            elif record["event"] in (FINISHED, FAILED):
                begun = False
    return begun


def select_records(
    records: Sequence[Mapping[str, Any]],
    *,
    since: Optional[datetime.datetime] = None,
    operation: str = "",
    project: str = "",
    run_id: str = "",
) -> list[Mapping[str, Any]]:
    """The records that match everything asked; a run may be named by the first characters."""
    return [
        record
        for record in records
        if (since is None or parse_utc(record["time"]) >= since)
        and (not operation or record["operation"] == operation)
        and (not project or record["project"] == project)
        and (not run_id or record["run_id"].startswith(run_id))
    ]


def select_operations(
    operations: Iterable[OperationSummary],
    *,
    since: Optional[datetime.datetime] = None,
    operation: str = "",
    project: str = "",
    run_id: str = "",
) -> list[OperationSummary]:
    """The operations that match everything asked; C{since} is about when they began or ended."""
    return [
        entry
        for entry in operations
        if (since is None or parse_utc(entry.ended_at or entry.time) >= since)
        and (not operation or entry.operation == operation)
        and (not project or entry.project == project)
        and (not run_id or entry.run_id.startswith(run_id))
    ]


def newest_first(records: Sequence[Any], limit: int) -> list[Any]:
    """The last C{limit} of them, newest first; all of them where the limit is 0."""
    backwards = list(reversed(records))
    return backwards[:limit] if limit else backwards


def _text(record: Mapping[str, Any], name: str) -> str:
    return str(record.get(name) or "")


def _new_summary(record: Mapping[str, Any], outcome: str) -> OperationSummary:
    return OperationSummary(
        run_id=record["run_id"],
        operation=record["operation"],
        project=record["project"],
        user=_text(record, "user"),
        controller=_text(record, "controller"),
        awx_job_id=_text(record, "awx_job_id"),
        time=record["time"],
        outcome=outcome,
    )


def _end(entry: OperationSummary, record: Mapping[str, Any], begun: bool) -> None:
    entry.outcome = record["event"]
    entry.ended_at = record["time"]
    entry.changed = record.get("changed")
    entry.summary = _text(record, "summary")
    entry.undo = _text(record, "undo")
    if begun:
        seconds = (parse_utc(record["time"]) - parse_utc(entry.time)).total_seconds()
        entry.duration_seconds = round(max(0.0, seconds), 3)


def summarize_operations(
    records: Iterable[Mapping[str, Any]], lock: Optional[AnyLock]
) -> list[OperationSummary]:
    """One entry for each operation, in the order they began. See L{OperationSummary}."""
    entries: list[OperationSummary] = []
    begun: dict[tuple[str, str, str], OperationSummary] = {}
    for record in records:
        key = (record["run_id"], record["operation"], record["project"])
        event = record["event"]
        if event == STARTED:
            begun[key] = _new_summary(record, UNFINISHED)
            entries.append(begun[key])
        elif event in (FINISHED, FAILED):
            entry = begun.pop(key, None)
            known = entry is not None
            if entry is None:
                entry = _new_summary(record, event)
                entries.append(entry)
            _end(entry, record, known)
        elif event == TAKEOVER:
            dead = _text(record.get("details") or {}, "run_id")
            for entry in begun.values():
                if entry.run_id == dead:
                    entry.outcome = TAKEN_OVER
                    entry.taken_over_by = record["run_id"]
        elif key in begun:
            if event == STEP:
                begun[key].steps.append(_text(record, "summary"))
        elif event == STEP:
            entry = _new_summary(record, NOTED)
            entry.changed = record.get("changed")
            entry.summary = _text(record, "summary")
            entry.undo = _text(record, "undo")
            entries.append(entry)
    for entry in begun.values():
        if entry.outcome == UNFINISHED and held_by_run(lock, entry.run_id):
            entry.outcome = RUNNING
    return entries
