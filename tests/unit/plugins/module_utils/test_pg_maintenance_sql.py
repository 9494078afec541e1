# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _pg_maintenance_sql as sql

VERSIONS = (130000, 140000, 150000, 160000, 170000, 180000)
#: The version of pg_stat_statements that each server brings.
EXTENSIONS = {13: "1.8", 14: "1.9", 15: "1.10", 16: "1.10", 17: "1.11", 18: "1.12"}


@pytest.mark.parametrize("version", VERSIONS)
def test_nulls_not_distinct_came_with_15(version: int) -> None:
    assert ("i.indnullsnotdistinct" in sql.indexes(version)) is (version >= 150000)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_checkpointer_has_a_view_of_its_own_since_17(version: int) -> None:
    text = sql.checkpoints(version)
    if version >= 170000:
        assert "pg_stat_checkpointer" in text
        assert "num_requested AS requested" in text
    else:
        assert "pg_stat_bgwriter" in text
        assert "checkpoints_req AS requested" in text


@pytest.mark.parametrize("major", EXTENSIONS)
def test_the_columns_of_each_pg_stat_statements(major: int) -> None:
    text = sql.statements(EXTENSIONS[major], "public")
    assert "sum(s.total_exec_time)" in text
    assert "max(s.max_exec_time)" in text
    assert ("s.toplevel" in text) is (major >= 14)
    assert "blk_read_time" not in text  # renamed with 17


def test_an_extension_that_nobody_updated() -> None:
    """A server of 13 or later may still have the extension of 12."""
    text = sql.statements("1.7", '"My Schema"')
    assert "sum(s.total_time)" in text
    assert "exec_time" not in text
    assert '"My Schema".pg_stat_statements' in text


def test_our_own_statements_can_be_told_apart() -> None:
    for text in (sql.SERVER, sql.SIZES, sql.statements("1.11", "public")):
        assert re.match(r"\s*\w+ /\* pynomaly.ops \*/", sql.marked(text))
    assert sql.MARK in sql.statements("1.11", "public")
    assert sql.marked("SELECT 1") == "SELECT /* pynomaly.ops */ 1"


def test_maintenance_is_said_as_each_version_wants_it() -> None:
    assert sql.vacuum("a.b", freeze=False) == "VACUUM (ANALYZE, PARALLEL 0) a.b"
    assert sql.vacuum("a.b", freeze=True) == "VACUUM (FREEZE, ANALYZE, PARALLEL 0) a.b"
    for version in VERSIONS:
        assert sql.analyze("a.b", partitioned=False, version=version) == "ANALYZE a.b"
        expected = "ANALYZE ONLY a.b" if version >= 180000 else "ANALYZE a.b"
        assert sql.analyze("a.b", partitioned=True, version=version) == expected


def test_nothing_rewrites_a_table() -> None:
    assert not re.search(r"\bFULL\b", sql.vacuum("a.b", freeze=True))
    assert sql.reindex("a.b").startswith("REINDEX INDEX CONCURRENTLY ")
    assert sql.drop_index("a.b").startswith("DROP INDEX CONCURRENTLY ")
