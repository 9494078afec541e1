# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report as Markdown for a ticket or a chat: what is wrong first, counts after it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
    SPOKEN_ORDER,
    SYMBOLS,
    cell_text,
    detail_lines,
    format_measured,
    format_seconds,
    format_time,
    is_number_column,
    more_rows,
    place,
    printable,
)

#: What CommonMark or GitHub's dialect gives a meaning inside a line. An underscore within a word
#: has none, and is left alone because most text here is names.
_SPECIAL = re.compile(r"([\\`*\[\]|~<>$]|(?<![^\W_])_|_(?![^\W_]))")

#: What would begin a heading, a list or a quotation at the start of a block.
_BLOCK_START = re.compile(r"^([-+#=]|\d+(?=[.)]))")

#: Rows of a table beyond which a ticket or a chat has no use for it.
_MOST_ROWS = 100


def escape(text: object) -> str:
    """Text from elsewhere as itself within a line: no markup, no HTML, no entity, no table cell,
    and no mention that wakes people."""
    escaped = _SPECIAL.sub(r"\\\1", printable(text).replace("&", "&amp;"))
    return re.sub(r"(?<!\w)@(?=\w)", "@\u200b", escaped)


def escape_start(text: object) -> str:
    """The same at the start of a list's entry, where more signs have a meaning."""
    return _BLOCK_START.sub(
        lambda match: f"{match[1]}\\" if match[1].isdigit() else f"\\{match[1]}", escape(text)
    )


def link(url: str) -> str:
    """An address that can be followed, where it is one for a browser."""
    if re.fullmatch(r"https?://[^\s<>\\`]+", url):
        return f"<{url}>"
    return escape(url)


def code(text: object) -> str:
    """Text as a code span, which nothing inside can end."""
    shown = printable(text)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def _cell(text: object) -> str:
    return escape(text) or " "


def _code_cell(text: str) -> str:
    """A code span in a table, where a bar would end the cell even there."""
    return code(text).replace("|", "\\|") if text else " "


def _table(table: Mapping[str, Any]) -> list[str]:
    columns = table["columns"]
    rows = table["rows"][:_MOST_ROWS]
    lines = ["", f"### {escape_start(table['title'])}", ""]
    if not rows:
        return [*lines, "None."]
    lines.append(f"| {' | '.join(_cell(name) for name in columns)} |")
    numbers = [is_number_column(table, index) for index in range(len(columns))]
    lines.append(f"|{'|'.join('---:' if number else '---' for number in numbers)}|")
    for row in rows:
        cells = [
            _code_cell(cell_text(value)) if name in CODE_COLUMNS else _cell(cell_text(value))
            for name, value in zip(columns, row)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if len(table["rows"]) > len(rows):
        lines += ["", f"({more_rows(len(table['rows']) - len(rows))})"]
    return lines


def _hosts(report: Mapping[str, Any]) -> list[str]:
    lines = [
        "| Host | Status | " + " | ".join(SPOKEN_ORDER) + " |",
        "|---|---|" + "---:|" * len(SPOKEN_ORDER),
    ]
    for entry in hosts_worst_first(report):
        counts = " | ".join(str(entry["summary"][status]) for status in SPOKEN_ORDER)
        status = entry["status"]
        lines.append(f"| {_cell(entry['name'])} | {SYMBOLS[status]} {status} | {counts} |")
    return lines


def _problem(result: Mapping[str, Any]) -> list[str]:
    status = result["status"]
    where = place(result)
    lines = [
        f"- {SYMBOLS[status]} **{status.upper()}** {code(result['id'])}"
        f"{f' on {escape(where)}' if where else ''}: {escape(result['message'])}"
    ]
    lines += [f"  - {escape_start(line)}" for line in detail_lines(result["detail"])]
    measured = format_measured(result)
    if measured:
        lines.append(f"  - {escape_start(measured)}")
    if result["hint"]:
        lines.append(f"  - Next: {code(result['hint'])}")
    return lines


def _host(entry: Mapping[str, Any]) -> list[str]:
    found = problems(entry)
    accepted = waived(entry)
    if not found and not accepted and not entry["tables"]:
        return []
    project = f" (project {escape(entry['project'])})" if entry["project"] else ""
    lines = ["", f"## {escape(entry['name'])}{project}", ""]
    for result in found:
        lines += _problem(result)
    for result in accepted:
        waiver = result["waiver"]
        where = place(result)
        lines.append(
            f"- {SYMBOLS[SKIPPED]} waived {code(result['id'])}"
            f"{f' on {escape(where)}' if where else ''}, "
            f"{waiver['status']}, until {escape(waiver['until'])}: {escape(waiver['reason'])}"
        )
    for table in entry["tables"]:
        lines += _table(table)
    return lines


def _people(report: Mapping[str, Any]) -> list[str]:
    lines = []
    if report["contacts"]:
        lines += ["", "## Contacts", ""]
        lines += [
            f"- {escape_start(entry['name'])}: {link(entry['address'])}"
            for entry in report["contacts"]
        ]
    if report["escalation"]:
        lines += ["", "## Escalation", ""]
        for entry in report["escalation"]:
            address = f": {escape(entry['address'])}" if entry.get("address") else ""
            lines.append(f"{entry['level']}. {escape_start(entry['name'])}{address}")
    return lines


def render_markdown(report: Mapping[str, Any]) -> str:
    """The whole report; results that are ok appear as counts by component."""
    status = report["status"]
    lines = [
        f"# {SYMBOLS[status]} {status.upper()}: {escape(report['title'])}",
        "",
        f"{escape(headline(report))}.",
        "",
        *_hosts(report),
    ]
    for entry in hosts_worst_first(report):
        lines += _host(entry)
    if status == CRITICAL:
        lines += _people(report)
    lines += ["", "## What is well", ""]
    for entry in hosts_worst_first(report):
        counts = count_by_component(entry["results"], OK)
        text = ", ".join(f"{escape(name)} {count}" for name, count in counts) or "nothing"
        lines.append(f"- {escape_start(entry['name'])}: {text}")
    if report["links"]:
        lines += ["", "## Links", ""]
        lines += [
            f"- {escape_start(entry['title'])}: {link(entry['url'])}" for entry in report["links"]
        ]
    about = [
        format_time(report["started_at"]),
        format_seconds(report["duration_ms"] / 1000),
        f"by {report['user']}" if report["user"] else "",
        f"on {report['controller']}" if report["controller"] else "",
        f"run {report['run_id']}",
        f"pynomaly.ops {report['collection_version']}" if report["collection_version"] else "",
    ]
    lines += ["", "---", "", escape(", ".join(filter(None, about)))]
    return "\n".join(lines) + "\n"
