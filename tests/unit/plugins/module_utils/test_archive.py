# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gc
import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import archive
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.http import Deadline
from ansible_collections.pynomaly.ops.plugins.module_utils._files_backup import Members, Remarks


def member(name: str, data: bytes = b"x", **changes: object) -> Iterator[bytes]:
    """One member of a tar, as the engine streams it."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    for key, value in changes.items():
        setattr(header, key, value)
    yield header.tobuf(tarfile.PAX_FORMAT)
    yield data + bytes(-len(data) % 512)


def stream(*members: Iterable[bytes]) -> Iterator[bytes]:
    for one in members:
        yield from one
    yield bytes(1024)


def copied(target: Path, chunks: Iterable[bytes]) -> tuple[Members, Remarks]:
    remarks = Remarks()
    with archive.writing(target, Deadline(60)) as writer:
        archive.copy_stream(chunks, writer, lambda name: f"to/{name}", remarks)
        return writer.members, remarks


def test_plain_members_are_copied_and_read_again(tmp_path: Path) -> None:
    target = tmp_path / "a.tar.gz"
    long_name = "é" * 120
    members, remarks = copied(
        target,
        stream(
            member("folder", b"", type=tarfile.DIRTYPE, mode=0o750),
            member("folder/a", b"abc", mode=0o640, uid=999, mtime=1000.5),
            member(long_name, b"long"),
        ),
    )
    assert (members.count, members.size_bytes, remarks.count) == (2, 7, 0)
    assert archive.read_members(target, Deadline(5)).content() == members.content()
    assert target.stat().st_mode & 0o777 == 0o600
    with tarfile.open(target) as opened:
        found = {one.name: one for one in opened.getmembers()}
    assert list(found) == ["to/folder", "to/folder/a", f"to/{long_name}"]
    assert (found["to/folder/a"].mode, found["to/folder/a"].uid) == (0o640, 999)


def test_links_are_noted_and_what_is_unsafe_is_left_out(tmp_path: Path) -> None:
    members, remarks = copied(
        tmp_path / "a.tar.gz",
        stream(
            member("a", b"", type=tarfile.SYMTYPE, linkname="../b"),
            member("c", b"", type=tarfile.LNKTYPE, linkname="d"),
            member("device", b"", type=tarfile.CHRTYPE),
            member("x/../../../etc/x"),
        ),
    )
    assert members.links == [
        {"path": "to/a", "target": "../b"},
        {"path": "to/c", "target": "to/d"},
    ]
    assert [one["path"] for one in remarks.listed] == ["to/device", "to/x/../../../etc/x"]
    assert members.count == 0


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [b"no tar at all" * 100],
        list(member("a", b"x" * 5000))[:1],
        [b"".join(member("a", b"x" * 5000))[:3000]],
        list(member("a")),
        [*member("a"), bytes(512)],
    ],
    ids=["nothing", "no tar", "no content", "in a member", "no end", "half an end"],
)
def test_a_stream_without_its_end_is_refused(tmp_path: Path, chunks: list[bytes]) -> None:
    with pytest.raises(BackupError, match=r"damaged|cut off"):
        copied(tmp_path / "a.tar.gz", chunks)
    with pytest.raises(BackupError, match=r"damaged|cut off|no file"):
        archive.extract_one(chunks, tmp_path / "one", Deadline(5))


def test_one_file_is_taken_out(tmp_path: Path) -> None:
    data = b"REDIS0011" + b"y" * 3_000_000
    head = archive.extract_one(stream(member("dump.rdb", data)), tmp_path / "d", Deadline(5))
    assert head == data[:64]
    assert (tmp_path / "d").read_bytes() == data
    with pytest.raises(BackupError, match="what was read is no file"):
        archive.extract_one(
            stream(member("l", b"", type=tarfile.SYMTYPE, linkname="x")),
            tmp_path / "e",
            Deadline(5),
        )


def test_a_deadline_ends_it(tmp_path: Path) -> None:
    with (
        pytest.raises(BackupError, match="not finished within 0 s"),
        archive.writing(tmp_path / "a.tar.gz", Deadline(0)) as writer,
    ):
        archive.copy_stream(stream(member("a")), writer, str, Remarks())


def test_an_archive_with_a_link_is_not_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as made:
        header = tarfile.TarInfo("../x")
        header.size = 1
        made.addfile(header, io.BytesIO(b"x"))
    with pytest.raises(BackupError, match="leads out of the folder"):
        archive.read_members(tmp_path / "a.tar.gz", Deadline(5))


def test_members_are_forgotten_once_they_are_written(tmp_path: Path) -> None:
    alive = []

    def counting(name: str) -> str:
        alive.append(sum(isinstance(one, tarfile.TarInfo) for one in gc.get_objects()))
        return name

    with archive.writing(tmp_path / "a.tar.gz", Deadline(60)) as writer:
        archive.copy_stream(
            stream(*(member(f"m{number}") for number in range(100))), writer, counting, Remarks()
        )
    assert len(alive) == 100
    assert max(alive[50:]) <= alive[10], alive
