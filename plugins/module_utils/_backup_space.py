# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a backup will fit."""

from __future__ import annotations

from typing import Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import format_bytes


def space_problem(needed_bytes: int, free_bytes: int, reserve_bytes: int, place: str) -> str:
    """Why a backup of that size should not be begun; empty where there is room."""
    if free_bytes >= needed_bytes + reserve_bytes:
        return ""
    return (
        f"too little space below {place}: seen {format_bytes(free_bytes)} free, expected "
        f"{format_bytes(needed_bytes)} for the backup and {format_bytes(reserve_bytes)} to spare"
    )


def expected_bytes(source_bytes: Optional[int], last_bytes: Optional[int]) -> int:
    """How large the next archive gets at most, as far as that is known: a fifth more than the last
    one, and not more than what goes into it."""
    grown = None if last_bytes is None else last_bytes + last_bytes // 5
    known = [one for one in (source_bytes, grown) if one is not None]
    return min(known) if known else 0
