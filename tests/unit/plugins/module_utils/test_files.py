# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that are whole or not there, on a real filesystem."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.files import (
    ensure_directory,
    point_symlink,
    write_atomically,
    write_textfile,
)
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.report_files import (
    write_report_files,
)
from ansible_collections.pynomaly.ops.tests.unit.plugins.module_utils.report_samples import (
    sample,
)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_content_and_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "a", "Gr\u00fc\u00dfe", 0o644)
        write_atomically(tmp_path / "b", b"\x00\xff", 0o600)
        write_textfile(str(tmp_path / "c.prom"), "x 1\n")
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_text("utf-8") == "Gr\u00fc\u00dfe"
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"
    assert [mode(tmp_path / name) for name in ("a", "b", "c.prom")] == [0o644, 0o600, 0o644]
    assert names(tmp_path) == ["a", "b", "c.prom"]


def test_a_reader_sees_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"a" * 100_000)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for letter in (b"b", b"a"):
                write_atomically(path, letter * 100_000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [path.read_bytes() for _ in range(300)]
    finally:
        stop.set()
        writer.join()
    assert all(len(content) == 100_000 and len(set(content)) == 1 for content in seen)


def test_an_open_reader_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, "old")
    with path.open() as reader:
        write_atomically(path, "new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_the_owner_is_set(tmp_path: Path) -> None:
    owner = (os.getuid(), os.getgid())
    write_atomically(tmp_path / "a", "x", owner=owner)
    status = (tmp_path / "a").stat()
    assert (status.st_uid, status.st_gid) == owner


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="a"):
        write_atomically(tmp_path / "a", "x")
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "none" / "a", "x")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("hard_links", [True, False])
def test_exclusive_never_overwrites(
    tmp_path: Path, hard_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hard_links:

        def refuse(*_arguments: object) -> None:
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr("os.link", refuse)
    write_atomically(tmp_path / "a", "first", 0o640, exclusive=True)
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "a", "second", exclusive=True)
    assert (tmp_path / "a").read_text() == "first"
    assert mode(tmp_path / "a") == 0o640
    assert names(tmp_path) == ["a"]


def test_a_link_is_moved_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "latest").write_text("a file in the way")
    for target in ("one", "two"):
        point_symlink(tmp_path / "latest", target)
        assert str((tmp_path / "latest").readlink()) == target
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        point_symlink(tmp_path / "folder", "one")
    assert names(tmp_path) == ["folder", "latest"]


def test_a_folder_is_made_with_its_mode_or_left_alone(tmp_path: Path) -> None:
    assert ensure_directory(tmp_path / "a" / "b", 0o750)
    assert mode(tmp_path / "a" / "b") == 0o750
    (tmp_path / "a" / "b").chmod(0o700)
    assert not ensure_directory(tmp_path / "a" / "b", 0o750)
    assert mode(tmp_path / "a" / "b") == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        ensure_directory(tmp_path / "file")


def test_report_files_and_their_latest(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    report = sample("healthy")
    paths = write_report_files(report, folder, {"json": "{}", "md": "# x"})
    stem = "daily_check-20261124T025703Z-4f3c9a1b"
    assert paths == {"json": folder / f"{stem}.json", "md": folder / f"{stem}.md"}
    assert mode(folder) == 0o750
    assert mode(paths["json"]) == 0o640
    assert str((folder / "daily_check-latest.md").readlink()) == f"{stem}.md"
    assert (folder / "daily_check-latest.json").read_text() == "{}"


def test_runs_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    report = sample("healthy")
    barrier = threading.Barrier(8)
    written: list[dict[str, Path]] = []

    def write(number: int) -> None:
        barrier.wait()
        text = str(number)
        written.append(write_report_files(report, tmp_path, {"json": text, "html": text}))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    contents = [(paths["json"].read_text(), paths["html"].read_text()) for paths in written]
    assert sorted(contents) == [(str(number), str(number)) for number in range(8)]
    assert all(paths["json"].stem == paths["html"].stem for paths in written)
    assert len(list(tmp_path.glob("daily_check-2*.json"))) == 8
    assert len(list(tmp_path.glob("daily_check-2*.html"))) == 8


def test_parents_are_made_with_the_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert ensure_directory(tmp_path / "config" / "prometheus" / "rules", 0o755)
    finally:
        os.umask(before)
    for name in ("config", "config/prometheus", "config/prometheus/rules"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o755
