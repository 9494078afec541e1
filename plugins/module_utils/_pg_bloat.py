# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much of a table or an index holds nothing, estimated from what the planner knows.

Nothing is read but statistics, so this is an estimate: it can be off by a tenth and more where rows
differ much in width, and B-trees that store equal keys once (13 and later) come out as less
bloated than they are. The arithmetic is that of ioguix/pgsql-bloat-estimation
(https://github.com/ioguix/pgsql-bloat-estimation, table/table_bloat.sql and btree/btree_bloat.sql);
the sizes of headers are PostgreSQL's: https://www.postgresql.org/docs/current/storage-page-layout.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.pynomaly.ops.plugins.module_utils._pg_maintenance import reloptions

#: On every 64-bit machine.
ALIGNMENT_BYTES = 8
PAGE_HEADER_BYTES = 24
TUPLE_HEADER_BYTES = 23
ITEM_POINTER_BYTES = 4
INDEX_TUPLE_HEADER_BYTES = 8
BTREE_SPECIAL_BYTES = 16
#: TOAST keeps this many chunks a page.
TOAST_CHUNKS_PER_PAGE = 4


@dataclass(frozen=True)
class Bloat:
    """An estimate for a relation of ``bytes``, ``wasted_bytes`` of which hold nothing."""

    oid: int
    name: str
    bytes: int
    wasted_bytes: int

    @property
    def percent(self) -> float:
        return 100.0 * self.wasted_bytes / self.bytes if self.bytes else 0.0


def _padding(width: float) -> float:
    """What is added to reach the next multiple of the alignment."""
    rest = int(width) % ALIGNMENT_BYTES
    return ALIGNMENT_BYTES - rest if rest else 0


def _known(row: Mapping[str, Any]) -> bool:
    """Whether the statistics tell of each column; ``name`` columns are wider than they say."""
    return (
        bool(row["columns"])
        and row["columns"] == row["known_columns"]
        and not row["has_name"]
        and row["reltuples"] >= 0
        and row["width"] > 0
    )


def _fill_factor(row: Mapping[str, Any], default: int) -> float:
    return int(reloptions(row["options"]).get("fillfactor", default)) / 100


def _bloat(row: Mapping[str, Any], block_size: int, pages: int, expected: float) -> Bloat:
    wasted = max(0, pages - math.ceil(expected))
    return Bloat(int(row["oid"]), str(row["name"]), pages * block_size, wasted * block_size)


def table_bloat(row: Mapping[str, Any], block_size: int) -> Optional[Bloat]:
    """Of one row of C{_pg_maintenance_sql.TABLE_BLOAT}; C{None} where nothing can be said."""
    if not _known(row):
        return None
    header = TUPLE_HEADER_BYTES + ((7 + row["columns"]) // 8 if row["null_fraction"] > 0 else 0)
    tuple_bytes = (
        ITEM_POINTER_BYTES
        + header
        + _padding(header)
        + row["width"]
        + _padding(math.ceil(row["width"]))
    )
    usable = (block_size - PAGE_HEADER_BYTES) * _fill_factor(row, 100)
    expected = math.ceil(row["reltuples"] / (usable / tuple_bytes)) + math.ceil(
        max(0.0, row["toast_tuples"]) / TOAST_CHUNKS_PER_PAGE
    )
    return _bloat(row, block_size, int(row["pages"]) + int(row["toast_pages"]), expected)


def index_bloat(row: Mapping[str, Any], block_size: int) -> Optional[Bloat]:
    """Of one row of C{_pg_maintenance_sql.INDEX_BLOAT}; C{None} where nothing can be said."""
    if not _known(row):
        return None
    header = INDEX_TUPLE_HEADER_BYTES + ((32 + 8 - 1) // 8 if row["null_fraction"] > 0 else 0)
    width = header + _padding(header) + row["width"] + _padding(round(row["width"]))
    usable = (block_size - BTREE_SPECIAL_BYTES - PAGE_HEADER_BYTES) * _fill_factor(row, 90)
    per_page = math.floor(usable / (ITEM_POINTER_BYTES + width))
    if per_page < 1:
        return None
    expected = 1 + math.ceil(row["reltuples"] / per_page)
    return _bloat(row, block_size, int(row["pages"]), expected)
