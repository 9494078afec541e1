# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_bundle import (
    Files,
    Sink,
    SinkClosedError,
    SinkFullError,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.evidence_engine import (
    _raw_entries,
    join_entries,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._evidence import (
    ATTEMPTED,
    COLLECTED,
    CUT,
    FAILED,
    OPENED,
    ROLE_STATEMENT,
    SEALED,
    SKIPPED,
    WHOLE,
    EvidenceError,
    EvidenceFile,
    Outcome,
    Peer,
    bundle_name,
    check_custody,
    check_incident_id,
    custody_line,
    encode_custody,
    encode_sums,
    lines_of,
    parse_sums,
    problems_of,
    results_of,
    role_change_limits,
    safe_name,
    tables_of,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._redaction import Redactor, Secrets

NOW = datetime.datetime(2026, 11, 24, 14, 5, 1, tzinfo=datetime.timezone.utc)
STAMP = b"2026-11-24T14:05:01.123456789Z "
SUMS = {"a.log": "a" * 64, "evidence.json": "e" * 64}


def chain() -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for event, paths in (
        (OPENED, []),
        (COLLECTED, ["a.log"]),
        (ATTEMPTED, []),
        (SEALED, ["evidence.json"]),
    ):
        previous = records[-1]["sha256"] if records else ""
        facts = {"files": [{"path": path, "sha256": SUMS[path]} for path in paths], "who": "alice"}
        records.append(custody_line(previous, len(records) + 1, NOW, event, facts))
    return records


def test_a_chain_that_is_as_it_was() -> None:
    records = chain()
    assert check_custody(encode_custody(records), SUMS) == (records[-1]["sha256"], [])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda all_: all_[1].update(who="mallory"), "line 2 differs from its hash"),
        (lambda all_: all_.pop(2), "line 3 does not follow"),
        (lambda all_: all_.insert(2, dict(all_[1])), "line 3 does not follow"),
        (lambda all_: all_.pop(), "does not end with the bundle's sealing"),
    ],
)
def test_a_chain_that_was_changed(change: Any, problem: str) -> None:
    records = chain()
    change(records)
    assert any(problem in one for one in check_custody(encode_custody(records), SUMS)[1])


def test_a_chain_that_says_something_else_than_the_files() -> None:
    text = encode_custody(chain())
    assert check_custody(text, {**SUMS, "a.log": "b" * 64})[1] == [
        "a.log differs from its SHA-256 in custody.jsonl"
    ]
    assert check_custody(text, {"evidence.json": "e" * 64})[1] == [
        "a.log is in custody.jsonl and missing"
    ]
    assert check_custody(text, {**SUMS, "planted": "c" * 64})[1] == [
        "planted is not in custody.jsonl"
    ]
    assert "line 1 cannot be read" in check_custody("{\n" + text, SUMS)[1][0]


def test_sums_are_read_as_they_are_written() -> None:
    files = [EvidenceFile("logs/b.log", 1, "b" * 64), EvidenceFile("a", 1, "a" * 64)]
    text = encode_sums(files)
    assert text.splitlines()[0] == f"{'a' * 64}  a"
    assert parse_sums(text) == ({"a": "a" * 64, "logs/b.log": "b" * 64}, [])
    assert parse_sums("nonsense\n")[1] == ["SHA256SUMS line 1 cannot be read"]


def test_names() -> None:
    assert bundle_name(NOW, "incident_contain") == "20261124T140501Z-incident_contain"
    assert safe_name("../../etc/passwd") == "_.._etc_passwd"
    assert safe_name(".partial") == "partial"
    check_incident_id("20261124-1405-7c1f")
    for wrong in ("../x", ".partial-x", "", "a/b", "a b"):
        with pytest.raises(EvidenceError, match="incident"):
            check_incident_id(wrong)


OUTCOMES = (
    Outcome("logs/a", "docker logs", WHOLE, "", 5, (EvidenceFile("logs/a.log", 10, "a" * 64),)),
    Outcome(
        "logs/b", "docker logs", CUT, "too large", 5, (EvidenceFile("logs/b.log", 9, "b" * 64),)
    ),
    Outcome("redis/clients", "CLIENT LIST", FAILED, "no answer", 9),
    Outcome("host/nftables", "nft", SKIPPED, "nft is not installed", 1),
)


def test_what_is_told() -> None:
    assert [one["source"] for one in problems_of(OUTCOMES)] == ["logs/b", "redis/clients"]
    found = results_of(OUTCOMES, "/bundle", "f" * 64, 20.0)
    results = {one["id"]: one for one in found}
    assert results["evidence.bundle"]["status"] == "warning"
    assert f"sealed by {'f' * 64}" in results["evidence.bundle"]["message"]
    assert results["evidence.logs"]["status"] == "warning"
    assert "logs/b: too large" in results["evidence.logs"]["message"]
    assert results["evidence.redis"]["detail"] == ["redis/clients: no answer"]
    assert results["evidence.host"]["status"] == "skipped"
    tables = {one["title"]: one for one in tables_of(OUTCOMES, [Peer("api", "203.0.113.7", 80, 3)])}
    assert tables["Connections from elsewhere"]["rows"] == [["203.0.113.7", "api", 80, 3]]
    assert tables["Files of the evidence"]["rows"] == [["logs", 2, "19 B", 0]]
    assert len(tables["Not in the evidence, or not all of it"]["rows"]) == 3
    assert all(len(row) == len(one["columns"]) for one in tables.values() for row in one["rows"])
    lines = lines_of(
        {"path": "/b", "files": 3, "bytes": 19, "head": "f", "problems": problems_of(OUTCOMES)}
    )
    assert "all of it" not in lines[0] and "redis/clients is failed: no answer" in lines


def test_what_cannot_be_known_of_roles() -> None:
    told = " ".join(role_change_limits({"log_statement": "none"}, True))
    assert "log_statement is none" in told and "track_commit_timestamp is off" in told
    told = " ".join(
        role_change_limits({"log_statement": "ddl", "track_commit_timestamp": "on"}, True)
    )
    assert "log_statement" not in told and "track_commit_timestamp" not in told
    assert "pg_authid was not readable" in " ".join(role_change_limits({}, False))


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        (b"LOG:  statement: ALTER  ROLE eve SUPERUSER", True),
        (b"LOG:  statement: create user eve", True),
        (b"LOG:  statement: GRANT admin TO eve", True),
        (b"LOG:  statement: DROP ROLE eve", True),
        (b"LOG:  statement: CREATE TABLE users (id int)", False),
        (b'FATAL:  role "eve" does not exist', False),
    ],
)
def test_statements_about_roles(line: bytes, is_one: bool) -> None:
    assert bool(ROLE_STATEMENT.search(line)) is is_one


# Lines of a log


def test_a_line_in_pieces_is_put_together() -> None:
    entries = [
        ("stdout", STAMP + b"first\n"),
        ("stdout", STAMP + b"begin-"),
        ("stderr", STAMP + b"between\n"),
        ("stdout", STAMP + b"middle-"),
        ("stdout", STAMP + b"end\n"),
        ("stderr", STAMP + b"cut off"),
    ]
    assert list(join_entries(iter(entries))) == [
        STAMP + b"first\n",
        STAMP + b"between\n",
        STAMP + b"begin-middle-end\n",
        STAMP + b"cut off\n",
    ]


def test_a_line_without_an_end_is_bounded() -> None:
    piece = STAMP + b"x" * 16384
    entries = [("stdout", piece)] * 200 + [("stdout", STAMP + b"end\n"), ("stdout", STAMP + b"n\n")]
    first, second = join_entries(iter(entries))
    assert 512 * 1024 <= len(first) < 600 * 1024 and first.endswith(b"x\n")
    assert second == STAMP + b"n\n"


def test_a_terminals_lines_in_pieces_are_put_together() -> None:
    whole = STAMP + b"a" * 16384 + STAMP + b"b" * 10 + b"\n"
    chunks = [whole[:5000], whole[5000:20000], whole[20000:] + STAMP + b"next\n"]
    assert list(join_entries(_raw_entries(iter(chunks)))) == [
        STAMP + b"a" * 16384 + b"b" * 10 + b"\n",
        STAMP + b"next\n",
    ]


# Files


def sink(root: Path, **options: Any) -> Sink:
    secrets = Secrets()
    secrets.add("canary-value", "test")
    given = {"max_bytes": 1024, "keep_newest": False, "reserve_bytes": 0, **options}
    return Sink(root, "logs/x.log", Redactor(b"k", secrets), **given)


def test_a_secret_that_is_written_in_two_parts_is_redacted(tmp_path: Path) -> None:
    one = sink(tmp_path)
    one.write("before cana")
    one.write("ry-value after")
    file = one.finish()
    text = (tmp_path / "logs/x.log").read_text()
    assert "canary" not in text and text.endswith(" after\n")
    assert file is not None and file.bytes == len(text) and file.redactions == {"known value": 1}


def test_the_newest_lines_are_kept(tmp_path: Path) -> None:
    one = sink(tmp_path, keep_newest=True)
    for number in range(1000):
        one.write(f"line {number:04d}\n")
    file = one.finish()
    lines = (tmp_path / "logs/x.log").read_text().splitlines()
    assert lines[-1] == "line 0999" and len(lines) > 50
    assert lines == [f"line {number:04d}" for number in range(1000 - len(lines), 1000)]
    assert file is not None and file.bytes <= 1024 and file.lines == len(lines)
    assert "are left out" in one.remark
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["x.log"]


def test_the_first_lines_are_kept_where_that_is_wanted(tmp_path: Path) -> None:
    one = sink(tmp_path)
    with pytest.raises(SinkFullError, match="only the first"):
        for number in range(1000):
            one.write(f"line {number:04d}\n")
    one.finish()
    assert (tmp_path / "logs/x.log").read_text().startswith("line 0000\n")


def test_a_file_that_somebody_still_writes_is_taken_away(tmp_path: Path) -> None:
    one = sink(tmp_path)
    one.write("first\n")
    assert one._lock.acquire(timeout=1)  # as a thread does that hangs in the middle of writing
    with pytest.raises(SinkClosedError, match="still being written"):
        one.finish()
    assert one.abandon() is None
    assert list((tmp_path / "logs").iterdir()) == []


def test_nothing_is_written_once_it_is_finished(tmp_path: Path) -> None:
    files = Files(tmp_path, Redactor(b"k", Secrets()), 1024, 0, False)
    files.document("a.json", {"password": "x"})
    files.stop()
    assert files.sinks[0].finish() is not None
    assert json.loads((tmp_path / "a.json").read_text())["password"].startswith("<redacted:")
    with pytest.raises(SinkClosedError):
        files.sinks[0].write("more\n")
    with pytest.raises(SinkClosedError):
        files.open("b.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
