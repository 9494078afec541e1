# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of the temporary states that operations have left open, and what is said of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._operation import (
    FINISHED,
    AnyLock,
    OperationSummary,
    describe_duration,
    held_by_run,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import Measurement, Target
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import plural
from ansible_collections.pynomaly.ops.plugins.module_utils._utc import parse_utc

UNDONE = "undone"
CLOSED = "closed"
KEPT = "kept"
FAILED = "failed"
OUTCOMES = (UNDONE, CLOSED, KEPT, FAILED)


@dataclass(frozen=True)
class Resumed:
    """What became of one temporary state.

    ``outcome`` is undone, closed (there was nothing left to undo), kept (it is meant to be there,
    and has an end), or failed.
    """

    project: str
    state: str
    outcome: str
    text: str

    @property
    def line(self) -> str:
        return f"{self.project}: {self.state}: {self.outcome}: {self.text}"


def end_of(record: Mapping[str, Any]) -> Optional[datetime.datetime]:
    """When an open state ends by itself; C{None} for one that does not."""
    try:
        return parse_utc((record.get("details") or {})["until"])
    except (KeyError, ValueError, TypeError):
        return None


def is_open_ended(record: Mapping[str, Any]) -> bool:
    """Whether an open state has no end but being undone by the operation that its undo names."""
    return (record.get("details") or {}).get("open_ended") is True


def is_standing(
    record: Mapping[str, Any], operations: Iterable[OperationSummary], now: datetime.datetime
) -> bool:
    """Whether an open state is meant to be there: what opened it ended well, and said until when,
    which is still to come, or that it stays until it is undone."""
    end = end_of(record)
    if not is_open_ended(record) and (end is None or end <= now):
        return False
    key = (record["run_id"], record["operation"], record["project"])
    outcomes = [
        entry.outcome
        for entry in operations
        if (entry.run_id, entry.operation, entry.project) == key
    ]
    return outcomes[-1:] == [FINISHED]


def resume_lines(
    resumed: Sequence[Resumed], removed: Sequence[str], *, check_mode: bool
) -> list[str]:
    """What people read of it."""
    lines = [one.line for one in resumed]
    lines += [f"{'would be removed' if check_mode else 'removed'}: {text}" for text in removed]
    return lines or ["nothing was left on this host"]


def failure_text(resumed: Sequence[Resumed]) -> str:
    """Why the whole has failed; empty where nothing has."""
    failed = [one.line for one in resumed if one.outcome == FAILED]
    if not failed:
        return ""
    return (
        f"what: {plural(len(failed), 'temporary state')} could not be undone; "
        f"seen: {'; '.join(failed)}; expected: none left; next: mend that, then "
        "ansible-playbook pynomaly.ops.resume"
    )


# The daily check


def temporary_states(
    target: Target,
    open_states: Sequence[Mapping[str, Any]],
    operations: Sequence[OperationSummary],
    lock: Optional[AnyLock],
    now: datetime.datetime,
) -> Measurement:
    """How many open states are neither meant to be there nor at work just now."""
    if not open_states:
        return Measurement(target, 0, "nothing temporary is left open")
    left, fine = [], []
    for record in open_states:
        name, end = str(record["temporary_state"]), end_of(record)
        if held_by_run(lock, str(record["run_id"])):
            fine.append(f"{name} ({record['operation']} is at work)")
        elif is_standing(record, operations, now) and end is not None:
            fine.append(f"{name} until {end:%Y-%m-%d %H:%M} UTC")
        elif is_standing(record, operations, now):
            fine.append(f"{name} ({record['summary']}) until {record['undo']}")
        elif end is not None and end <= now:
            past = describe_duration((now - end).total_seconds())
            left.append(f"{name}, whose end was {past} ago")
        else:
            age = describe_duration((now - parse_utc(record["time"])).total_seconds())
            left.append(f"{name}, left {age} ago by {record['operation']}")
    detail = [*left, *fine]
    if left:
        return Measurement(target, len(left), f"left open: {'; '.join(left)}", detail=detail)
    return Measurement(target, 0, f"open as intended: {'; '.join(fine)}", detail=detail)
