# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils import _host_program as host_program

HELLO = b"""\
from ansible_collections.pynomaly.ops.plugins.module_utils._words import GREETING
def main(arguments):
    print(GREETING, *arguments)
    return 7
"""
SOURCES = {
    "_edges/__init__.py": b"",
    "_edges/hello.py": HELLO,
    "_words.py": b"GREETING = 'hello'\n",
    "_edges/operation_module.py": b"from ansible.module_utils.basic import AnsibleModule\n",
}


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(program), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_the_program_runs_where_no_collection_is(tmp_path: Path) -> None:
    program = tmp_path / "program.pyz"
    program.write_bytes(host_program.pack(SOURCES, ["hello"]))
    done = run(program, "hello", "a", "b")
    assert (done.returncode, done.stdout) == (7, "hello a b\n")


def test_another_name_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    program = tmp_path / "program.pyz"
    program.write_bytes(host_program.pack(SOURCES, ["hello"]))
    for arguments in ((), ("os",)):
        done = run(program, *arguments)
        assert done.returncode == 1
        assert "with one of these names: hello" in done.stderr


def test_the_same_sources_make_the_same_bytes() -> None:
    backwards = dict(reversed(SOURCES.items()))
    assert host_program.pack(SOURCES, ["hello"]) == host_program.pack(backwards, ["hello"])


@pytest.mark.parametrize("names", [[], ["missing"], ["hello", "_words"]])
def test_what_cannot_be_called_is_refused(names: list[str]) -> None:
    with pytest.raises(host_program.HostProgramError, match="expected"):
        host_program.pack(SOURCES, names)
