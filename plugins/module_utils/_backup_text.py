# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups as tables for the console."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._containers import duration_text
from ansible_collections.pynomaly.ops.plugins.module_utils._operation_text import cut, one_line
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    format_bytes,
    plural,
)

_HOW = {"full": "restored", "quick": "checksums"}


def backup_lines(info: Mapping[str, Any]) -> list[str]:
    """What C{backup_info} returned: a table for each kind, then the space."""
    lines: list[str] = []
    kinds: Mapping[str, Mapping[str, Any]] = info["storage"]["kinds"]
    for kind, storage in kinds.items():
        own = [one for one in info["backups"] if one["kind"] == kind]
        lines.append(_kind_line(kind, storage))
        if own:
            header = ("ID", "AGE", "SIZE", "VERIFIED", "RESTORABLE BY", "WHAT")
            lines += [f"  {line}" for line in table(header, [_row(one) for one in own])]
            lines += [
                f"  {one['id']} is damaged: {one_line(one['problem'])}"
                for one in own
                if one["problem"]
            ]
    for path in info["stagings"]:
        lines.append(f"left by a run that died, removed by the next backup: {one_line(path)}")
    lines.append(_space_line(info["backup_dir"], info["storage"]))
    return lines


def outcome_lines(outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a run made: each with kind, and id, size_bytes, duration_seconds and removed, or with
    reason, or with failure."""
    rows = []
    notes = []
    for one in outcomes:
        kind = str(one["kind"])
        if one.get("failure"):
            rows.append((kind, "FAILED", "", "", "", ""))
            notes.append(f"{kind}: {one_line(one['failure'])}")
        elif not one.get("made"):
            rows.append((kind, "skipped", "", "", "", ""))
            notes.append(f"{kind}: {one_line(one.get('reason') or 'nothing to back up')}")
        else:
            removed = one.get("removed") or []
            rows.append(
                (
                    kind,
                    "made" if one.get("size_bytes") else "would be made",
                    str(one["id"]),
                    _size(one.get("size_bytes") or None),
                    duration_text(float(one.get("duration_seconds") or 0)),
                    str(len(removed)),
                )
            )
            notes += [f"{kind}: {one_line(text)}" for text in one.get("remarks") or ()]
            if one.get("withheld"):
                notes.append(f"{kind}: {one_line(one['withheld'])}")
    header = ("KIND", "OUTCOME", "ID", "SIZE", "TOOK", "REMOVED")
    return table(header, rows) + notes


_OUTCOME = ("kind", "id", "path", "made", "reason", "size_bytes", "duration_seconds", "remarks")


def outcome(made: Mapping[str, Any], retention: Mapping[str, Any]) -> dict[str, Any]:
    """What a run keeps in mind of one kind: what its module returned, and what retention did."""
    found = {name: made[name] for name in _OUTCOME if name in made}
    removed = [str(one["id"]) for one in retention.get("removed") or ()]
    return {**found, "removed": removed, "withheld": str(retention.get("withheld") or "")}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as what they hold, without blanks at the lines' ends; a last column of more
    than forty characters is cut."""
    grid = [list(header), *([one_line(cell) for cell in row] for row in rows)]
    for row in grid:
        row[-1] = cut(row[-1], 40)
    widths = [max(len(row[column]) for row in grid) for column in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in grid
    ]


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    if one["problem"]:
        verified = "DAMAGED"
    elif one["verified_at"]:
        verified = f"{str(one['verified_at'])[:10]} {_HOW.get(one['verified_by'], '')}".strip()
    else:
        verified = "never"
    lock = " (encrypted)" if one["encrypted"] else ""
    return (
        str(one["id"]),
        _age(one["age_seconds"]),
        _size(one["size_bytes"]),
        verified,
        str(one["restorable_by"] or "-"),
        f"{one['what'] or '-'}{lock}",
    )


def _age(seconds: float) -> str:
    return "in the future" if seconds < -300 else duration_text(seconds)


def _size(size_bytes: Optional[int]) -> str:
    return "-" if size_bytes is None else format_bytes(size_bytes)


def _kind_line(kind: str, storage: Mapping[str, Any]) -> str:
    if not storage["count"]:
        return f"{kind}: no backups"
    text = f"{kind}: {plural(storage['count'], 'backup')}, {format_bytes(storage['used_bytes'])}"
    return text + _growth(storage["growth_bytes_per_day"])


def _growth(growth: Optional[float]) -> str:
    if growth is None:
        return ""
    if growth < 1:
        return ", not growing"
    return f", growing by {format_bytes(growth)} a day"


def _space_line(backup_dir: str, storage: Mapping[str, Any]) -> str:
    text = f"{backup_dir}: {format_bytes(storage['free_bytes'])} free"
    if storage["days_left"] is not None:
        text += f", which does for {storage['days_left']:g} days at the present growth"
    if storage["next_bytes"] > storage["free_bytes"]:
        text += f"; too little for the next backups ({format_bytes(storage['next_bytes'])})"
    return text
