# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._edges.command import (
    CommandError,
    run_command,
)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_command_answers_with_its_exit_code_and_both_outputs() -> None:
    result = run_command(
        python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"), 10
    )
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert not result.truncated


def test_no_shell_has_its_hands_on_arguments() -> None:
    result = run_command([*python("import sys; print(sys.argv[1])"), "$(id); echo *"], 10)
    assert result.stdout == "$(id); echo *\n"


def test_standard_input_is_empty_or_what_is_given() -> None:
    code = "import sys; text = sys.stdin.read(); print(len(text), text[:3])"
    assert run_command(python(code), 10).stdout == "0 \n"
    assert run_command(python(code), 10, stdin="abc" * 1_000_000).stdout == "3000000 abc\n"


def test_a_command_that_does_not_read_its_input_is_no_trouble() -> None:
    assert run_command(python("print(1)"), 10, stdin="x" * 1_000_000).stdout == "1\n"


def test_output_is_capped_and_said_to_be() -> None:
    result = run_command(python("print('x' * 1_000_000)"), 10, max_bytes=1000)
    assert len(result.stdout) == 1000
    assert result.truncated


def test_the_environment_is_added_to_and_the_folder_is_used(tmp_path: Path) -> None:
    code = (
        "import os; print(os.environ['X'], os.environ['LC_ALL'], 'PATH' in os.environ, os.getcwd())"
    )
    result = run_command(python(code), 10, environment={"X": "1"}, working_dir=str(tmp_path))
    assert result.stdout == f"1 C True {tmp_path}\n"


def test_output_that_is_not_text_is_kept() -> None:
    result = run_command(python("import os; os.write(1, b'a\\xffb')"), 10)
    assert result.stdout == "a\ufffdb"


def test_what_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import pathlib, subprocess, time;"
        "child = subprocess.Popen(['sleep', '60']);"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid));"
        "time.sleep(60)"
    )
    started = time.monotonic()
    with pytest.raises(CommandError, match=r"did not end within 1\.5 s"):
        run_command(python(code), 1.5)
    assert time.monotonic() - started < 5
    assert_gone(int(pid_file.read_text()))


def test_a_child_that_keeps_the_pipes_open_does_not_hang_the_call(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import pathlib, subprocess;"
        "child = subprocess.Popen(['sleep', '60']);"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))"
    )
    with pytest.raises(CommandError, match="did not end"):
        run_command(python(code), 1.5)
    assert_gone(int(pid_file.read_text()))


def assert_gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return
        if state[0] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")


def test_what_is_not_there_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no-such-program is not installed") as missing:
        run_command(["/nowhere/no-such-program", "--password=hunter2"], 5)
    assert missing.value.missing
    assert "hunter2" not in str(missing.value)
    with pytest.raises(CommandError, match=r"folder .* does not exist") as folder:
        run_command(["true"], 5, working_dir=str(tmp_path / "gone"))
    assert not folder.value.missing
    plain = tmp_path / "plain"
    plain.write_text("x")
    with pytest.raises(CommandError, match=r"plain cannot be run: (Permission denied|Exec format)"):
        run_command([str(plain)], 5)


def test_outputs_stay_out_of_the_repr() -> None:
    assert "hunter2" not in repr(run_command(python("print('hunter2')"), 10))


def test_no_descriptor_is_left_behind() -> None:
    run_command(["true"], 5)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _number in range(5):
        run_command(["true"], 5, stdin="x")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
