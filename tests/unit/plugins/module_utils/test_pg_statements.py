# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_statements import masked_statement


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("SELECT  a\n FROM t WHERE b = $1", "SELECT a FROM t WHERE b = $1"),
        ("select * from t where a = 'canary' and b = 42", "select * from t where a = ? and b = ?"),
        ("SELECT 'it''s canary', 1.5e-3, 0xCA, x'CA', 1_000", "SELECT ?, ?-?, ?, x?, ?"),
        ("SELECT E'a\\'canary' AS b", "SELECT ? AS b"),
        ("SELECT $$canary$$, $tag$ $$ canary $tag$, $2", "SELECT ?, ?, $2"),
        ("/* canary /* inner */ still */ SELECT 1", "SELECT ?"),
        ("SELECT a -- canary\nFROM t", "SELECT a FROM t"),
        ('SELECT "a""b 5" FROM t1', 'SELECT "a""b 5" FROM t1'),
        ("(SELECT 1) UNION VALUES (2)", "(SELECT ?) UNION VALUES (?)"),
        ("WITH a AS (SELECT 1) DELETE FROM t", "WITH a AS (SELECT ?) DELETE FROM t"),
        # What cannot be read to its end is cut there
        ("SELECT a, 'canary", "SELECT a, ..."),
        ('SELECT a, "canary', "SELECT a, ..."),
        ("SELECT a, $x$canary", "SELECT a, ?..."),
        ("SELECT a /* canary", "SELECT a ..."),
        ("SELECT 'a\\', 'canary'", "SELECT ?..."),
        # What the planner does not see is not shown
        ("ALTER ROLE a PASSWORD 'canary'", None),
        ("CREATE USER a PASSWORD 'canary'", None),
        ("COPY (SELECT 'canary') TO STDOUT", None),
        ("DO $$ canary $$", None),
        ("EXECUTE a('canary')", None),
        ("selection", None),
        ("", None),
    ],
)
def test_statements_lose_their_literals(text: str, shown: str | None) -> None:
    assert masked_statement(text) == shown


def test_a_statement_is_short() -> None:
    shown = masked_statement("SELECT " + "column, " * 100, 50)
    assert shown is not None
    assert len(shown) <= 50
    assert shown.endswith("...")


def test_a_hostile_statement_takes_no_time() -> None:
    for text in ("SELECT " + "'" * 4001, "SELECT " + "$a" * 2000, "SELECT " + "/*" * 2000):
        masked_statement(text)
