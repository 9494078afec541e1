# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report as lines for a console: short where all is well, one entry for each trouble.

Plain ASCII of its own, at most 100 columns, and colour is left to who prints it. A command or a
path is never broken over two lines, since a part of it might be pasted and run.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._probe import CRITICAL, OK, SKIPPED
from ansible_collections.pynomaly.ops.plugins.module_utils._report import (
    count_by_component,
    headline,
    hosts_worst_first,
    problems,
    waived,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    CODE_COLUMNS,
    cell_text,
    format_counts,
    format_seconds,
    format_time,
    is_number_column,
    more_rows,
    named,
    printable,
    shortened,
)

WIDTH = 100
_LABEL = 10

#: Characters after which a name, the reason of a skipped probe or a message is cut; the other
#: forms of the report have them whole.
_LONGEST_NAME = 120
_LONGEST_REASON = 60
_LONGEST_MESSAGE = 300

#: Rows of a table beyond which it is cut, and the characters of a column's name and of a cell.
_MOST_ROWS = 20
_LONGEST_COLUMN = 30
_LONGEST_CELL = 300
_DIGEST = re.compile(r"[0-9a-f]{64}")

#: How a table stands, and what its last column needs at least to be wrapped.
_INDENT = 4
_GAP = 2
_NARROWEST = 24


@dataclass(frozen=True)
class Line:
    """One line of the table; ``status`` says which colour it may have, C{None} none."""

    text: str
    status: Optional[str] = None


def _entry(label: str, text: str, status: Optional[str] = None) -> list[Line]:
    """A label in its column and a text beside it, wrapped below itself."""
    wrapped = textwrap.wrap(text, WIDTH - 2 - _LABEL, break_on_hyphens=False) or [""]
    heads = [f"  {label:<{_LABEL}}"] + [" " * (2 + _LABEL)] * (len(wrapped) - 1)
    return [Line(f"{head}{part}".rstrip(), status) for head, part in zip(heads, wrapped)]


def _next(hint: str) -> list[Line]:
    """What to run, on one line, or where that is too long one line for each step."""
    head = " " * (2 + _LABEL)
    text = printable(hint)
    if len(head) + 6 + len(text) <= WIDTH:
        return [Line(f"{head}next: {text}")]
    steps = text.split("; ")
    return [
        Line(f"{head}{'next: ' if index == 0 else '      '}{step}")
        for index, step in enumerate(steps)
    ]


def _named(result: Mapping[str, Any]) -> str:
    return shortened(named(result), _LONGEST_NAME)


def _skipped(results: Iterable[Mapping[str, Any]]) -> str:
    """Skipped results by their reason: "host.swap (no swap), grafana.health (...)"."""
    by_reason: dict[str, list[str]] = {}
    for result in results:
        if result["status"] == SKIPPED and not result["waiver"]:
            names = by_reason.setdefault(printable(result["message"]), [])
            if result["id"] not in names:
                names.append(result["id"])
    return ", ".join(
        " ".join(names) + (f" ({shortened(reason, _LONGEST_REASON)})" if reason else "")
        for reason, names in by_reason.items()
    )


def _host(entry: Mapping[str, Any]) -> list[Line]:
    about = [
        printable(entry["address"] or ""),
        f"project {shortened(printable(entry['project']), _LONGEST_NAME)}"
        if entry["project"]
        else "",
        format_counts(entry["summary"]),
        format_seconds(entry["duration_ms"] / 1000) if entry["duration_ms"] else "",
    ]
    header = f"{printable(entry['name'])}  {entry['status'].upper()}  " + ", ".join(
        part for part in about if part
    )
    lines = [
        Line(part, entry["status"] if index == 0 else None)
        for index, part in enumerate(textwrap.wrap(header, WIDTH, subsequent_indent="  "))
    ]
    for result in problems(entry):
        what = f"{_named(result)}: {shortened(printable(result['message']), _LONGEST_MESSAGE)}"
        lines += _entry(result["status"].upper(), what, result["status"])
        if result["hint"]:
            lines += _next(result["hint"])
    for result in waived(entry):
        waiver = result["waiver"]
        text = (
            f"{_named(result)}, {waiver['status']}, until {waiver['until']}: "
            f"{shortened(printable(waiver['reason']), _LONGEST_MESSAGE)}"
        )
        lines += _entry("waived", text, SKIPPED)
    counts = ", ".join(
        f"{name} {count}" for name, count in count_by_component(entry["results"], OK)
    )
    if counts:
        lines += _entry("ok", counts, OK)
    skipped = _skipped(entry["results"])
    if skipped:
        lines += _entry("skipped", skipped, SKIPPED)
    return lines


def _cell(value: Any, column: str) -> str:
    """What is there to be copied is whole, but for a digest, which the other forms have."""
    text = cell_text(value)
    if _DIGEST.fullmatch(text):
        return f"{text[:16]}..."
    return text if column in CODE_COLUMNS else shortened(text, _LONGEST_CELL)


def _tabular(table: Mapping[str, Any]) -> list[Line]:
    """A table: its columns side by side where they fit, with the last one wrapped below itself if
    need be, otherwise each row as lines with labels. A command is never broken over two lines."""
    columns = [shortened(printable(name), _LONGEST_COLUMN) for name in table["columns"]]
    rows = [
        [_cell(value, name) for value, name in zip(row, columns)]
        for row in table["rows"][:_MOST_ROWS]
    ]
    title = Line(f"  {shortened(printable(table['title']), WIDTH - 2)}")
    if not rows:
        return [Line(""), title, Line("    none")]
    widths = [max(map(len, cells)) for cells in zip(columns, *rows)]
    left = WIDTH - _INDENT - sum(widths[:-1]) - _GAP * (len(widths) - 1)
    if left >= min(widths[-1], _NARROWEST):
        numbers = [is_number_column(table, index) for index in range(len(columns))]
        lines = [
            line
            for cells in [columns, *rows]
            for line in _beside(
                cells, widths, numbers, None if columns[-1] in CODE_COLUMNS else left
            )
        ]
    else:
        lines = [line for row in rows for line in _below(columns, row)]
    if len(table["rows"]) > len(rows):
        lines.append(f"    {more_rows(len(table['rows']) - len(rows))}")
    return [Line(""), title, *map(Line, lines)]


def _beside(
    cells: Sequence[str], widths: Sequence[int], numbers: Sequence[bool], left: Optional[int]
) -> list[str]:
    """A row in columns. ``left`` is what the last one may take, C{None} where it is not wrapped."""
    padded = [
        cell.rjust(width) if number else cell.ljust(width)
        for cell, width, number in zip(cells[:-1], widths, numbers)
    ]
    head = " " * _INDENT + "".join(f"{cell}{' ' * _GAP}" for cell in padded)
    last = cells[-1].rjust(widths[-1]) if numbers[-1] else cells[-1]
    parts = [last]
    if left is not None and len(last) > left:
        # A path in it is not broken either.
        parts = textwrap.wrap(last, left, break_long_words=False, break_on_hyphens=False)
    return [
        f"{head if index == 0 else ' ' * len(head)}{part}".rstrip()
        for index, part in enumerate(parts or [""])
    ]


def _below(columns: Sequence[str], cells: Sequence[str]) -> list[str]:
    """A row as a line for each cell that says something."""
    label = min(max(map(len, columns)), _LABEL)
    shown = [(name, cell) for name, cell in zip(columns, cells) if cell]
    return [
        f"    {'  ' if index else '- '}{name:<{label}}  {cell}"
        for index, (name, cell) in enumerate(shown)
    ]


def _people(report: Mapping[str, Any]) -> list[Line]:
    lines = []
    if report["contacts"]:
        people = "; ".join(
            f"{printable(entry['name'])} {printable(entry['address'])}"
            for entry in report["contacts"]
        )
        lines += _entry("call", people)
    if report["escalation"]:
        levels = "; ".join(
            " ".join(
                part
                for part in (
                    f"{entry['level']}.",
                    printable(entry["name"]),
                    printable(entry.get("address", "")),
                )
                if part
            )
            for entry in report["escalation"]
        )
        lines += _entry("escalate", levels)
    return [Line(""), *lines] if lines else []


def render_table(report: Mapping[str, Any], paths: Iterable[str] = ()) -> list[Line]:
    """The report's lines; ``paths`` are the files in which it can be read in full."""
    title = f"{printable(report['title'])}: {report['status'].upper()}, {headline(report)}"
    about = [
        format_time(report["started_at"]),
        format_seconds(report["duration_ms"] / 1000),
        f"by {printable(report['user'])}" if report["user"] else "",
        f"on {printable(report['controller'])}" if report["controller"] else "",
        f"run {printable(report['run_id'])[:8]}",
    ]
    lines = [
        Line(part, report["status"]) for part in textwrap.wrap(title, WIDTH, break_on_hyphens=False)
    ]
    lines += [Line(part) for part in textwrap.wrap(", ".join(filter(None, about)), WIDTH)]
    for entry in hosts_worst_first(report):
        lines += [Line(""), *_host(entry)]
        for table in entry["tables"]:
            lines += _tabular(table)
    if report["status"] == CRITICAL:
        lines += _people(report)
    shown = list(paths)
    if shown:
        lines.append(Line(""))
        lines += [Line(f"  {'report':<{_LABEL}}{path}") for path in shown]
    return lines
