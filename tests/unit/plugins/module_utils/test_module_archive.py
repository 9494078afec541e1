# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module's archive as Ansible makes it, imported by a Python of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import module_archive

PACKAGE = "ansible_collections/pynomaly/ops/plugins/module_utils"

#: Imports three modules and tells how often each source was compiled, and what was found where.
PROGRAM = """
import collections, json, sys, zipimport
compiled = collections.Counter()
compile_source = zipimport._compile_source
def counting(path, source):
    compiled[path[len(sys.argv[1]) + 1:]] += 1
    return compile_source(path, source)
zipimport._compile_source = counting
sys.path.insert(0, sys.argv[1])
base = "ansible_collections.pynomaly.ops.plugins.module_utils"
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import module_archive
if sys.argv[2] == "quickly":
    module_archive.import_quickly()
from ansible_collections.pynomaly.ops.plugins.module_utils import _pure
from ansible_collections.pynomaly.ops.plugins.module_utils._edges import _world
from ansible_collections.pynomaly.ops.plugins.module_utils._folder import _inside
print(json.dumps({
    "compiled": compiled,
    "values": [_pure.VALUE, _world.VALUE, _inside.VALUE],
    "files": [one.__file__ for one in (_pure, _world, _inside)],
    "source": _pure.__loader__.get_source(_pure.__name__),
}))
"""


@pytest.fixture(name="archive")
def archive_fixture(tmp_path: Path) -> Path:
    path = tmp_path / "modlib.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        parts = PACKAGE.split("/")
        for length in range(1, len(parts) + 1):
            archive.writestr("/".join(parts[:length]) + "/__init__.py", "")
        for folder in ("_edges", "_folder"):
            archive.writestr(f"{PACKAGE}/{folder}/__init__.py", "")
        archive.write(module_archive.__file__, f"{PACKAGE}/_edges/module_archive.py")
        archive.writestr(f"{PACKAGE}/_pure.py", "VALUE = 1\n")
        archive.writestr(f"{PACKAGE}/_edges/_world.py", "VALUE = 2\n")
        archive.writestr(f"{PACKAGE}/_folder/_inside.py", "VALUE = 3\n")
    return path


def imported(archive: Path, how: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, str(archive), how],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_a_source_is_compiled_once(archive: Path) -> None:
    answer = imported(archive, "quickly")
    compiled = answer["compiled"]
    assert isinstance(compiled, dict)
    for name in ("_pure.py", "_edges/_world.py", "_folder/__init__.py", "_folder/_inside.py"):
        assert compiled[f"{PACKAGE}/{name}"] == 1, name


def test_all_else_is_as_with_the_importer_of_python(archive: Path) -> None:
    quick, plain = imported(archive, "quickly"), imported(archive, "plainly")
    for same in ("values", "files", "source"):
        assert quick[same] == plain[same]
    assert quick["values"] == [1, 2, 3]


def test_modules_that_are_files_are_left_alone() -> None:
    hooks = list(sys.path_hooks)
    module_archive.import_quickly()
    assert sys.path_hooks == hooks
