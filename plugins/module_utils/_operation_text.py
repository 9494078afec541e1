# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people read about operations: the history, the lock in a line, and why a run stopped."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    DamagedLock,
    Lock,
    describe_duration,
    describe_lock,
    describe_owner,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._standing import (
    blocks_line,
    incident_line,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc

_RELEASE = "ansible-playbook pynomaly.ops.incident_release"
_BLOCKLIST = "ansible-playbook pynomaly.ops.blocklist"

#: A table is for a terminal of this many columns.
TABLE_WIDTH = 100

NOTHING_RECORDED = "nothing has been recorded on this host"
NOTHING_MATCHES = "nothing that was recorded on this host matches"

_HIDDEN = "the error is hidden, because the task handles secrets (no_log)"
_FAILURE_MAX_CHARACTERS = 2000
_STOPPED = "stopped, because another host failed and the play has any_errors_fatal"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

#: Columns that may be cut to make a row fit, and how short each may become.
_SHRINKABLE = {"who": 12, "project": 8, "operation": 10}


def one_line(text: object) -> str:
    """Printable on one line, whatever was written down (no line breaks, no terminal escapes)."""
    return _UNPRINTABLE.sub(" ", str(text)).strip()


def cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def _short_duration(seconds: Optional[float]) -> str:
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def _row(operation: Mapping[str, Any]) -> dict[str, str]:
    owner = describe_owner(operation["user"], operation["controller"], operation["awx_job_id"])
    changed = operation["changed"]
    return {
        "when (UTC)": f"{parse_utc(operation['time']):%Y-%m-%d %H:%M}",
        "operation": one_line(operation["operation"]),
        "project": one_line(operation["project"]),
        "who": one_line(owner),
        "outcome": operation["outcome"],
        "took": _short_duration(operation["duration_seconds"]),
        "changed": "-" if changed is None else ("yes" if changed else "no"),
        "run": one_line(operation["run_id"])[:8],
    }


def _fit(widths: dict[str, int], width: int) -> dict[str, int]:
    """Takes from the widest of the columns that may be cut until the row fits."""
    fitted = dict(widths)
    gaps = 2 * (len(fitted) - 1)
    while sum(fitted.values()) + gaps > width:
        spare = [name for name, least in _SHRINKABLE.items() if fitted[name] > least]
        if not spare:
            break
        fitted[max(spare, key=fitted.__getitem__)] -= 1
    return fitted


def _notes(operation: Mapping[str, Any], width: int) -> list[str]:
    notes = []
    if operation["summary"]:
        notes.append(cut(f"    {one_line(operation['summary'])}", width))
    if operation["taken_over_by"]:
        notes.append(f"    taken over by run {one_line(operation['taken_over_by'])}")
    if operation["undo"]:
        # Never cut: it is there to be copied.
        notes.append(f"    undo: {one_line(operation['undo'])}")
    return notes


def history_lines(
    operations: Sequence[Mapping[str, Any]],
    total: int,
    records_total: int,
    width: int = TABLE_WIDTH,
) -> list[str]:
    """The operations as a table of at most C{width} columns, in the order given; below each what
    it said and the command that undoes it (which alone may be longer).

    C{total} is how many operations there are with those not shown, C{records_total} how many
    records the journal has.
    """
    if not operations:
        return [NOTHING_MATCHES if records_total else NOTHING_RECORDED]
    rows = [_row(operation) for operation in operations]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    fitted = _fit(widths, width)

    def line(cells: Mapping[str, str]) -> str:
        texts = (cut(cells[name], size).ljust(size) for name, size in fitted.items())
        return "  ".join(texts).rstrip()

    lines = [line({name: name for name in fitted}), "  ".join("-" * n for n in fitted.values())]
    for row, operation in zip(rows, operations):
        lines.append(line(row))
        lines += _notes(operation, width)
    if total > len(operations):
        lines.append(f"({len(operations)} of {total} operations; -e history_limit=0 shows all)")
    return lines


def _lock_line(lock: Optional[Mapping[str, Any]], now: datetime.datetime) -> str:
    if lock is None:
        return "lock: none, no operation is running"
    if lock["damaged"]:
        return f"lock: {one_line(describe_lock(DamagedLock(lock['run_id'], lock['problem']), now))}"
    facts = {name: lock[name] for name in Lock.__dataclass_fields__}
    return f"lock: {one_line(describe_lock(Lock(**facts), now))}"


def _temporary_line(record: Mapping[str, Any], now: datetime.datetime) -> str:
    since = parse_utc(record["time"])
    age = describe_duration((now - since).total_seconds())
    return one_line(
        f"left open: {record['temporary_state']} of {record['project']} since "
        f"{since:%Y-%m-%d %H:%M:%S} UTC ({age} ago, {record['operation']}); "
        f"undo: {record['undo']}"
    )


def standing_lines(info: Mapping[str, Any]) -> list[str]:
    """What stands now: the lock in a line, a line for each incident that is open, one for what is
    blocked, one for each open temporary state, and one for damaged lines of the journal. C{info} is
    what C{operation_journal_info} returns."""
    now = parse_utc(info["host_time"])
    lines = [_lock_line(info["lock"], now)]
    lines += [
        f"{one_line(incident_line(one))}; release: {_RELEASE} -e incident={one['id']}"
        for one in info.get("open_incidents") or ()
    ]
    if info.get("blocks"):
        lines.append(f"blocked: {one_line(blocks_line(info['blocks']))}; all of them: {_BLOCKLIST}")
    lines += [f"cannot be read: {one_line(text)}" for text in info.get("unreadable") or ()]
    lines += [_temporary_line(record, now) for record in info["open_temporary_states"]]
    damaged = info["damaged_lines"]
    if damaged:
        numbers = ", ".join(str(entry["line"]) for entry in damaged[:10])
        lines.append(
            f"journal: {len(damaged)} damaged line{'' if len(damaged) == 1 else 's'} "
            f"in {info['journal_path']} (line {numbers}); the others are shown"
        )
    return lines


def confirmation_word(operation: str, project: str) -> str:
    return f"{operation}:{project}"


def confirmation_problem(confirm: str, operation: str, project: str, playbook: str) -> str:
    """Why the word given does not confirm that operation on that project; empty when it does."""
    word = confirmation_word(operation, project)
    if confirm == word:
        return ""
    seen = f"confirm={one_line(cut(confirm, 80))}" if confirm else "no confirm"
    return (
        f"what: {operation} of {project} destroys something and takes a word, nothing was touched; "
        f"seen: {seen}; expected: confirm={word}; "
        f"next: ansible-playbook {playbook} -e confirm={word}"
    )


def _hidden(task: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    entries = [result, *(item for item in result.get("results") or [] if isinstance(item, Mapping))]
    return bool(task.get("no_log")) or any(
        entry.get("_ansible_no_log") or entry.get("censored") for entry in entries
    )


def failure_text(result: Mapping[str, Any], task: Mapping[str, Any]) -> str:
    """What a failed task said, with its name; for a loop what its failed items said.

    C{result} and C{task} are what Ansible gives a rescue as C{ansible_failed_result} and
    C{ansible_failed_task}, both empty on a host that is stopped because another one failed. Nothing
    of a task with C{no_log} is repeated.
    """
    if not result and not task:
        return _STOPPED
    name = str(task.get("name") or task.get("action") or "a task")
    if _hidden(task, result):
        return f"{name}: {_HIDDEN}"
    items = [
        item
        for item in result.get("results") or []
        if isinstance(item, Mapping) and item.get("failed")
    ]
    messages = list(dict.fromkeys(str(item.get("msg") or "") for item in items))
    text = "; ".join(message for message in messages if message) or str(result.get("msg") or "")
    error_output = str(result.get("stderr") or "").strip()
    if error_output and error_output not in text:
        text = f"{text}: {error_output}" if text else error_output
    return cut(f"{name}: {text.strip() or 'it failed without a message'}", _FAILURE_MAX_CHARACTERS)
