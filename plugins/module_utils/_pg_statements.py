# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Statements of other people, made fit to be shown.

pg_stat_statements replaces literals by $1 in statements that the planner sees, and in no others
(an ALTER ROLE keeps its password); it may also keep a text as it was sent, where its entry was
evicted meanwhile. So only planned statements are shown, and whatever looks like a literal is masked
once more.
"""

from __future__ import annotations

import re
from typing import Optional

MASK = "?"
CUT = "..."

#: What the planner sees, and pg_stat_statements normalises.
_PLANNED = re.compile(r"[\s(]*(?:select|insert|update|delete|merge|with|values|table)\b", re.I)

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*)
  | (?P<comment>/\*)
  | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*')
  | (?P<string>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<parameter>\$\d+)
  | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
  | (?P<name>[^\W\d][\w$]*)
  | (?P<number>\.?\d[\w.]*)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


def masked_statement(text: str, most: int = 200) -> Optional[str]:
    """The statement on one line, of at most ``most`` characters, without comments and literals;
    C{None} for one that is not shown at all. What cannot be read to its end is cut there."""
    parts: list[str] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise AssertionError("the last alternative matches any character")
        part, end = _shown(text, match)
        parts.append(part)
        if end is None:
            parts.append(CUT)
            break
        position = end
    line = " ".join("".join(parts).split())
    if not _PLANNED.match(line):
        return None
    return line if len(line) <= most else f"{line[: most - len(CUT)].rstrip()}{CUT}"


def _shown(text: str, match: re.Match[str]) -> tuple[str, Optional[int]]:
    """What stands for a token, and where the next one begins; C{None} where that is not known."""
    kind, content, end = match.lastgroup, match.group(), match.end()
    if kind == "space":
        return " ", end
    if kind == "comment":
        return " ", _end_of_comment(text, end)
    if kind == "dollar":
        closing = text.find(content, end)
        return MASK, closing + len(content) if closing >= 0 else None
    if kind in ("string", "escaped", "number"):
        # With a backslash, a plain string's end depends on standard_conforming_strings of who ran
        # the statement.
        return MASK, None if kind == "string" and "\\" in content else end
    if kind == "other" and content in "'\"":
        return "", None
    return content, end


def _end_of_comment(text: str, position: int) -> Optional[int]:
    """The place after a block comment, which may hold others."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, position):
        depth += 1 if edge.group() == "/*" else -1
        if not depth:
            return edge.end()
    return None
