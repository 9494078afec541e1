# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_bloat import index_bloat, table_bloat

BLOCK = 8192


def row(**changes: Any) -> dict[str, Any]:
    """A table of two columns, a bigint and a text of 104 bytes, as 50 000 rows fill it."""
    return {
        "oid": 1,
        "name": "public.t",
        "reltuples": 50000.0,
        "pages": 910,
        "toast_pages": 0,
        "toast_tuples": 0.0,
        "options": [],
        "columns": 2,
        "known_columns": 2,
        "has_name": False,
        "null_fraction": 0.0,
        "width": 112.0,
        **changes,
    }


def test_a_full_table_wastes_next_to_nothing() -> None:
    """A tuple has 4 + 24 + 112 bytes, so a page of 8168 holds 58: 858 pages."""
    seen = table_bloat(row(), BLOCK)
    assert seen is not None
    assert seen.bytes == 910 * BLOCK
    assert seen.wasted_bytes == (910 - 858) * BLOCK
    assert seen.percent < 6


def test_a_table_that_lost_most_of_its_rows() -> None:
    seen = table_bloat(row(reltuples=10000.0), BLOCK)
    assert seen is not None
    assert 80 < seen.percent < 82


def test_room_that_was_asked_for_is_no_bloat() -> None:
    half = table_bloat(row(pages=1820, options=["fillfactor=50"]), BLOCK)
    assert half is not None
    assert half.percent < 6


def test_nulls_widen_the_header_and_toast_counts() -> None:
    with_nulls = table_bloat(row(null_fraction=0.5, columns=40, known_columns=40), BLOCK)
    without = table_bloat(row(columns=40, known_columns=40), BLOCK)
    assert with_nulls is not None and without is not None
    assert with_nulls.wasted_bytes < without.wasted_bytes
    toasted = table_bloat(row(toast_pages=100, toast_tuples=400.0), BLOCK)
    assert toasted is not None
    assert toasted.bytes == 1010 * BLOCK
    assert toasted.wasted_bytes == (910 - 858) * BLOCK


@pytest.mark.parametrize(
    "changes",
    [{"known_columns": 1}, {"has_name": True}, {"reltuples": -1.0}, {"width": 0.0}, {"columns": 0}],
)
def test_what_cannot_be_estimated(changes: dict[str, Any]) -> None:
    assert table_bloat(row(**changes), BLOCK) is None
    assert index_bloat(row(**changes), BLOCK) is None


def test_an_index_on_a_bigint() -> None:
    """4 + 8 + 8 bytes an entry, 90 % of 8152: 366 a page, 137 pages and the metapage."""
    seen = index_bloat(row(pages=139, columns=1, known_columns=1, width=8.0), BLOCK)
    assert seen is not None
    assert seen.wasted_bytes == BLOCK
    bloated = index_bloat(row(pages=690, columns=1, known_columns=1, width=8.0), BLOCK)
    assert bloated is not None
    assert round(bloated.percent) == 80


def test_an_index_of_entries_wider_than_a_page() -> None:
    assert index_bloat(row(width=9000.0), BLOCK) is None
