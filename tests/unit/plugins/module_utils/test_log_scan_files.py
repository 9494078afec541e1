# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading files for a scan: whole lines, whatever the parts, in any number of processes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import log_scan
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.log_scan import (
    LogFile,
    LogScanError,
    Part,
    find_files,
    kind_of,
    read_part,
    scan_files,
    split,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._log_scan import (
    API,
    NGINX,
    OTHER,
    POSTGRES,
    REDIS,
    Scan,
    Settings,
    requests_of,
)

SERVICES = {"pynomaly-api": "api", "postgres": "postgres", "redis-cluster": "redis", "web": "nginx"}


def line(number: int) -> bytes:
    client = f"203.0.113.{number % 250}"
    return (
        f"2026-11-24T10:{number // 60 % 60:02d}:{number % 60:02d}.1Z {client} - - "
        f'[24/Nov/2026:10:00:00 +0000] "GET /x/{number % 7} HTTP/1.1" '
        f'{200 + number % 3} 5 "-" "a"\n'
    ).encode()


def counted(scan: Scan) -> dict[str, int]:
    return {key: requests_of(record) for key, record in scan.clients[NGINX].records.items()}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("web.log", NGINX),
        ("web-pynomaly-web-1.log", NGINX),
        ("pynomaly-api-pynomaly-api-2.log", API),
        ("redis-cluster.log", REDIS),
        ("postgres.stderr.log", POSTGRES),
        ("nginx.log", NGINX),
        ("nginx-exporter.log", OTHER),
        ("postgres_exporter.log", OTHER),
        ("postgres-exporter-x-1.log", OTHER),
        ("grafana.log", OTHER),
        ("my-api.log", API),
    ],
)
def test_a_file_is_of_the_service_that_its_name_begins_with(name: str, kind: str) -> None:
    assert kind_of(name, SERVICES) == kind


def test_a_bundles_index_says_whose_a_file_is(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "edge-1.log").write_bytes(line(1))
    (folder / "nginx-tail.log").write_bytes(b"")
    entries = [
        {"file": "edge-1.log", "component": "nginx"},
        {"file": "nginx-tail.log", "component": ""},
    ]
    (folder / "index.json").write_text(json.dumps(entries))
    (folder / "link.log").symlink_to("/etc/passwd")
    file, other = find_files(str(tmp_path), {})
    assert other.kind == OTHER
    assert (file.kind, file.size, Path(file.path).name) == (NGINX, len(line(1)), "edge-1.log")
    (folder / "index.json").write_text("[{]")
    assert find_files(str(tmp_path), {})[0].kind == OTHER


def test_a_folder_without_logs_is_told(tmp_path: Path) -> None:
    with pytest.raises(LogScanError, match="no file"):
        find_files(str(tmp_path), {})
    with pytest.raises(LogScanError, match="cannot be read"):
        find_files(str(tmp_path / "absent"), {})


def test_parts_have_each_line_once(tmp_path: Path) -> None:
    data = b"".join(line(number) for number in range(300)) + b"no end"
    path = tmp_path / "nginx.log"
    path.write_bytes(data)
    file = LogFile(str(path), NGINX, len(data))
    for pieces in (1, 2, 7, 100, 997):
        bounds = [piece * len(data) // pieces for piece in range(pieces + 1)]
        read = b"".join(
            chunk
            for start, end in zip(bounds, bounds[1:])
            for chunk in read_part(Part(file, start, end))
        )
        assert read == data + b"\n", pieces


def test_parts_within_a_line_of_megabytes_have_it_once(tmp_path: Path) -> None:
    data = line(1) + b"x" * 3_000_000 + b"\n" + line(2)
    path = tmp_path / "nginx.log"
    path.write_bytes(data)
    file = LogFile(str(path), NGINX, len(data))
    bounds = [0, 50, 500_000, 1_500_000, 2_999_999, len(data) - 5, len(data)]
    chunks = [
        c for start, end in zip(bounds, bounds[1:]) for c in read_part(Part(file, start, end))
    ]
    lines = b"".join(chunks).split(b"\n")
    assert lines[0] + b"\n" == line(1)
    assert set(lines[1]) == {ord("x")}
    assert lines[2] + b"\n" == line(2)
    assert max(len(chunk) for chunk in chunks) < 1_000_000


def test_any_number_of_processes_counts_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_scan, "_SMALLEST_PART_BYTES", 4096)
    for name in ("nginx-a.log", "nginx-b.log", "grafana.log"):
        (tmp_path / name).write_bytes(b"".join(line(number) for number in range(2000)))
    files = find_files(str(tmp_path), {})
    expected, remarks = scan_files(files, Settings(), 60, workers=1)
    assert remarks == []
    assert sum(counted(expected).values()) == 4000
    for workers in (2, 3, 5):
        assert len(split(files, workers)) > 1
        scan, remarks = scan_files(files, Settings(), 60, workers)
        assert remarks == []
        assert counted(scan) == counted(expected)
        assert (scan.lines, scan.bytes, scan.first, scan.last) == (
            expected.lines,
            expected.bytes,
            expected.first,
            expected.last,
        )


def test_at_the_deadline_what_was_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_scan, "_BLOCK_BYTES", 1024)
    (tmp_path / "nginx.log").write_bytes(b"".join(line(number) for number in range(5000)))
    scan, remarks = scan_files(find_files(str(tmp_path), {}), Settings(), -1.0, workers=1)
    assert scan.lines == 0
    assert "was not read whole" in remarks[0]


def test_a_worker_that_dies_fails_the_scan_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_scan, "_SMALLEST_PART_BYTES", 4096)
    (tmp_path / "nginx.log").write_bytes(b"".join(line(number) for number in range(2000)))
    files = find_files(str(tmp_path), {})
    monkeypatch.setattr(log_scan, "scan_parts", lambda *_: os._exit(3))
    with pytest.raises(LogScanError, match="ended with 3"):
        scan_files(files, Settings(), 60, workers=2)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_worker_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_scan, "_SMALLEST_PART_BYTES", 4096)
    monkeypatch.setattr(log_scan, "_GRACE_SECONDS", 0.2)
    (tmp_path / "nginx.log").write_bytes(b"".join(line(number) for number in range(2000)))
    files = find_files(str(tmp_path), {})
    monkeypatch.setattr(log_scan, "scan_parts", lambda *_: time.sleep(30))
    began = time.monotonic()
    with pytest.raises(LogScanError, match="in time"):
        scan_files(files, Settings(), 0.1, workers=2)
    assert time.monotonic() - began < 10
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
