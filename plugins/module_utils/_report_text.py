# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Words for numbers, and text from elsewhere made safe to show."""

from __future__ import annotations

import datetime
import math
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Optional, Union

from ansible_collections.pynomaly.ops.plugins.module_utils._known_probes import KNOWN_PROBES
from ansible_collections.pynomaly.ops.plugins.module_utils._probe import (
    BELOW,
    CRITICAL,
    OK,
    SKIPPED,
    STATUSES,
    UNKNOWN,
    WARNING,
)

#: The order in which people want to hear about them.
SPOKEN_ORDER = (CRITICAL, WARNING, UNKNOWN, OK, SKIPPED)

#: A sign for each status, so that colour is never the only difference. None of them has an
#: emoji form, which some phones would put in its place.
SYMBOLS: Mapping[str, str] = {
    OK: "\u2713",
    WARNING: "\u25b2",
    CRITICAL: "\u2715",
    UNKNOWN: "?",
    SKIPPED: "\u2013",
}

#: Unicode categories that have no picture of their own or change how their neighbours are shown:
#: control characters, formatting (direction overrides among them), surrogates, line separators.
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def printable(text: object) -> str:
    """One line that shows what it holds.

    Line ends and tabs become spaces. Escape sequences and direction overrides, with which a log
    line could repaint a terminal or turn a sentence round, are shown as their code.
    """
    shown = []
    for character in str(text):
        if character in "\n\r\t\v\f":
            shown.append(" ")
        elif unicodedata.category(character) in _INVISIBLE:
            code = ord(character)
            shown.append(f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
        else:
            shown.append(character)
    return " ".join("".join(shown).split())


def _plain_number(value: Union[int, float]) -> str:
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if abs(value) >= 10000 else str(value)
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 100 or value == int(value):
        return _plain_number(round(value))
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) < 10 else f"{value:.1f}"


def format_bytes(size_bytes: Union[int, float]) -> str:
    """C{1536} is "1.5 KiB"."""
    size = float(size_bytes)
    for unit in _BYTE_UNITS:
        if abs(size) < 1024 or unit == _BYTE_UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def format_seconds(seconds: Union[int, float]) -> str:
    """The two largest units that matter: C{7500} is "2 h 5 min", C{0.25} is "250 ms"."""
    if seconds < 0:
        return f"-{format_seconds(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 60:
        return f"{_plain_number(round(float(seconds), 1))} s"
    whole = round(seconds)
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    if whole < 86400:
        hours, rest = divmod(whole // 60, 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, rest = divmod(whole // 3600, 24)
    return f"{days} d {rest} h" if rest else f"{days} d"


def _counted(number: Union[int, float], unit: str) -> str:
    """ "1 session", "3 sessions", "12 keys/hour"."""
    if number == 1 and unit.endswith("s") and "/" not in unit:
        unit = unit[:-1]
    return f"{_plain_number(number)} {unit}"


_UNIT_FORMATS: Mapping[str, Callable[[Union[int, float]], str]] = {
    "": _plain_number,
    "ratio": _plain_number,
    "bytes": format_bytes,
    "seconds": format_seconds,
    "ms": lambda number: format_seconds(number / 1000),
    "percent": lambda number: f"{_plain_number(round(float(number), 1))}%",
}


def format_value(value: Any, unit: Optional[str]) -> str:
    """A measured value with its unit, as a person would say it; empty for C{None}."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return printable(value)
    formatter = _UNIT_FORMATS.get(unit or "")
    return formatter(value) if formatter is not None else _counted(value, unit or "")


def format_limits(result: Mapping[str, Any]) -> str:
    """The thresholds a value was judged by: "warning above 80%, critical above 95%"."""
    definition = KNOWN_PROBES.get(result["id"])
    side = "below" if definition is not None and definition.direction == BELOW else "above"
    return ", ".join(
        f"{level} {side} {format_value(result[level], result['unit'])}"
        for level in (WARNING, CRITICAL)
        if result[level] is not None
    )


#: Units of amounts; a value of another unit is a count that its message names anyway.
_AMOUNTS = ("bytes", "seconds", "ms", "percent")


def format_measured(result: Mapping[str, Any]) -> str:
    """The value and what it was judged by, where that adds to the message: "measured 97.1%,
    warning above 80%, critical above 95%"."""
    value = format_value(result["value"], result["unit"])
    limits = format_limits(result)
    if not value:
        return ""
    if not limits and result["message"] and result["unit"] not in _AMOUNTS:
        return ""
    return f"measured {value}, {limits}" if limits else f"measured {value}"


def format_time(moment: Optional[str]) -> str:
    """An ISO 8601 time of the report as "2026-11-24 06:55:12 UTC"; text that is none as it is."""
    if not moment:
        return ""
    try:
        parsed = datetime.datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        return printable(moment)
    if parsed.tzinfo is not None:
        parsed = parsed.astimezone(datetime.timezone.utc)
    return f"{parsed:%Y-%m-%d %H:%M:%S} UTC"


def format_counts(summary: Mapping[str, int]) -> str:
    """ "2 critical, 1 warning, 56 ok": what there is none of is left out."""
    parts = [f"{summary[status]} {status}" for status in SPOKEN_ORDER if summary.get(status)]
    return ", ".join(parts) or "nothing was checked"


def plural(count: int, noun: str) -> str:
    """ "1 host", "3 hosts"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


#: What stands in a result's ``service`` where no Compose service is meant.
_NO_SERVICE = ("host", "docker", "project")


def place(result: Mapping[str, Any]) -> str:
    """Where a result was taken: the service, the instance, or both where each says something."""
    service = printable(result["service"] or "")
    instance = printable(result["instance"] or "")
    if not instance:
        return "" if service == "host" else service
    return instance if service in _NO_SERVICE or service in instance else f"{service} {instance}"


def named(result: Mapping[str, Any]) -> str:
    """A result's id with its place: "host.disk (/var)"."""
    where = place(result)
    return f"{result['id']} ({where})" if where else str(result["id"])


def shortened(text: str, most: int) -> str:
    """At most so many characters; what was cut is marked."""
    return text if len(text) <= most else f"{text[: most - 4].rstrip()} ..."


def detail_lines(detail: Any, most: int = 10) -> list[str]:
    """A result's detail, of whatever shape, as a few lines: an entry of a list each, a dictionary
    as "key: value" pairs."""
    if detail is None or detail in ("", [], {}):
        return []
    if isinstance(detail, Mapping):
        return [f"{printable(key)}: {_inline(value)}" for key, value in detail.items()][:most]
    if isinstance(detail, (list, tuple)):
        lines = [_inline(entry) for entry in detail[:most]]
        return [*lines, f"and {len(detail) - most} more"] if len(detail) > most else lines
    return [printable(detail)]


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        if set(value) == {"count", "message"}:
            times = "once" if value["count"] == 1 else f"{_inline(value['count'])} times"
            return f"{times}: {_inline(value['message'])}"
        return ", ".join(f"{printable(key)} {_inline(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_inline(item) for item in value)
    return format_value(value, None) if isinstance(value, (int, float)) else printable(value)


_UNITS_IN_NAMES = ("seconds", "bytes", "percent", "ms")


def fact_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A host's facts as (name, value), by the unit that a name ends with: C{uptime_seconds} is
    ("Uptime", "12 d 4 h"). Facts that are nothing are left out."""
    lines = []
    for key, value in facts.items():
        if value is None or value in ("", [], {}):
            continue
        name, _separator, unit = key.rpartition("_")
        if name and unit in _UNITS_IN_NAMES and isinstance(value, (int, float)):
            shown = format_value(value, unit)
        else:
            name, shown = key, _inline(value)
        words = printable(name).replace("_", " ")
        lines.append((words.upper() if words == "os" else words[:1].upper() + words[1:], shown))
    return lines


#: Columns of a table whose cells are there to be copied, and are shown in the type of code.
CODE_COLUMNS = ("Command", "Next", "Path", "SHA-256", "Undo")


def cell_text(value: Any) -> str:
    """A table's cell on one line; digits are not grouped, since they may be a port or an id."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".") if math.isfinite(value) else str(value)
    return printable(value)


def is_number_column(table: Mapping[str, Any], index: int) -> bool:
    """Whether a table's column holds numbers and nothing else, so that they go below each other."""
    cells = [row[index] for row in table["rows"] if row[index] is not None]
    return bool(cells) and all(
        isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in cells
    )


def more_rows(left_out: int) -> str:
    """What stands below a table of which not all rows are shown."""
    return f"and {plural(left_out, 'more row')}; the report's HTML and JSON have them all"


def worse_first(status: str) -> int:
    """A sorting key that puts trouble first."""
    return -STATUSES.index(status)
