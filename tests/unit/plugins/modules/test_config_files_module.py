# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.pynomaly.ops.plugins.modules import config_files

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the module on ``tmp_path/project`` and returns its answer, with ``output``."""

    def call(check: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {
            "root": str(tmp_path / "project"),
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            **arguments,
        }
        with patch_module_args(given), pytest.raises(SystemExit):
            config_files.main()
        output = capsys.readouterr().out
        return {**json.loads(output), "output": output}

    return call


def validation(command: str, path: str, **more: Any) -> dict[str, Any]:
    argv = ["sh", "-c", command, "sh", "{candidate}"]
    return {"name": "the file", "path": path, "argv": argv, **more}


def state(root: Path) -> list[tuple[str, int, int, bytes]]:
    return [
        (str(path), path.stat().st_mode, path.stat().st_mtime_ns, b"")
        if path.is_dir()
        else (str(path), path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted([root, *root.rglob("*")])
    ]


def test_files_and_folders_are_made_and_then_left_alone(run: Run, tmp_path: Path) -> None:
    arguments = {
        "directories": [{"path": "config/empty"}, {"path": str(tmp_path / "away"), "mode": "0700"}],
        "files": [{"path": "config/a/x.conf", "content": "one\n", "mode": "0640"}],
    }
    first = run(**arguments)
    assert first["changed"]
    assert first["changed_files"] == ["config/a/x.conf"]
    root = tmp_path / "project"
    assert (root / "config/a/x.conf").read_text() == "one\n"
    assert (root / "config/a/x.conf").stat().st_mode & 0o7777 == 0o640
    assert (tmp_path / "away").stat().st_mode & 0o7777 == 0o700
    assert root.stat().st_mode & 0o7777 == 0o750
    before = state(root)
    assert not run(**arguments)["changed"]
    assert state(root) == before


def test_a_mode_that_was_changed_is_set_again(run: Run, tmp_path: Path) -> None:
    files = [{"path": "x", "content": "one\n", "mode": "0600"}]
    run(files=files)
    (tmp_path / "project/x").chmod(0o644)
    assert run(files=files)["changed"]
    assert (tmp_path / "project/x").stat().st_mode & 0o7777 == 0o600


def test_check_mode_touches_nothing_and_shows_the_difference(run: Run, tmp_path: Path) -> None:
    run(files=[{"path": "x", "content": "one\n"}])
    before = state(tmp_path / "project")
    answer = run(
        check=True,
        files=[{"path": "x", "content": "two\n"}, {"path": "y/z", "content": "new\n"}],
        directories=[{"path": "folder"}],
        reloads=[{"name": "service", "path": "x"}],
        validations=[
            validation("exit 0", "x", check_mode=True),
            validation("exit 1", "x", check_mode=False),
        ],
    )
    assert answer["changed_files"] == ["x", "y/z"]
    assert answer["validated"] == ["the file"]
    assert (answer["diff"][0]["before"], answer["diff"][0]["after"]) == ("one\n", "two\n")
    assert answer["diff"][1]["before_header"] == "(no such file)"
    assert state(tmp_path / "project") == before


def test_check_mode_works_where_nothing_is(run: Run, tmp_path: Path) -> None:
    answer = run(
        check=True,
        environment_file=str(tmp_path / "project/.env"),
        files=[{"path": "x", "content": "#@sha256(PW)@\n"}],
        validations=[validation("exit 1", "x", check_mode=True)],
    )
    assert answer["changed_files"] == ["x"]
    assert answer["diff"][0]["after"] == "#(digest)\n"
    assert not (tmp_path / "project").exists()


def test_what_fails_its_validation_replaces_nothing(run: Run, tmp_path: Path) -> None:
    run(files=[{"path": "x", "content": "one\n"}, {"path": "y", "content": "one\n"}])
    before = state(tmp_path / "project")[1:]
    answer = run(
        files=[{"path": "y", "content": "two\n"}, {"path": "x", "content": "two\n"}],
        validations=[validation('grep -q one "$1" || { echo "$1: bad"; exit 3; }', "x")],
    )
    assert answer["failed"]
    assert "the file is not valid, nothing was changed" in answer["msg"]
    assert f"answered 3, expected 0: {tmp_path}/project/x: bad" in answer["msg"]
    assert state(tmp_path / "project")[1:] == before


def test_a_folder_is_validated_with_what_is_in_it_already(run: Run) -> None:
    run(files=[{"path": "c/old", "content": "1"}])
    check = validation('test -e "$1/old" && test "$(cat "$1/new")" = 2', "c")
    answer = run(files=[{"path": "c/new", "content": "2"}], validations=[check])
    assert answer["validated"] == ["the file"]


def test_a_validation_does_not_run_where_nothing_changed(run: Run) -> None:
    files = [{"path": "x", "content": "1"}, {"path": "y", "content": "1"}]
    run(files=files)
    answer = run(
        files=[files[0], {"path": "y", "content": "2"}], validations=[validation("exit 1", "x")]
    )
    assert answer["validated"] == []


def test_a_validation_has_an_end(run: Run) -> None:
    answer = run(
        files=[{"path": "x", "content": "1"}],
        validations=[validation("exec sleep 30", "x", timeout_seconds=1)],
    )
    assert "sh did not answer within 1 s" in answer["msg"]


def test_a_validation_that_cannot_be_run_is_told(run: Run) -> None:
    check = {"name": "it", "path": "x", "argv": ["/no/such/program", "{candidate}"]}
    answer = run(files=[{"path": "x", "content": "1"}], validations=[check])
    assert answer["msg"] == "it: /no/such/program: No such file or directory"


def test_a_digest_is_filled_in_and_not_shown(run: Run, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    environment.write_text("PW='hush'\n")
    digest = hashlib.sha256(b"hush").hexdigest()
    arguments = {
        "environment_file": str(environment),
        "files": [{"path": "x", "content": "#@sha256(PW)@\n"}],
    }
    answers = [run(**arguments)]
    assert (tmp_path / "project/x").read_text() == f"#{digest}\n"
    assert not run(**arguments)["changed"]
    environment.write_text("PW='hush now'\n")
    answers.append(run(**arguments))
    assert answers[1]["changed"]
    for answer in answers:
        assert digest not in answer["output"]
        assert "hush" not in answer["output"]


def test_a_digest_without_its_secret_is_an_error(run: Run, tmp_path: Path) -> None:
    answer = run(
        environment_file=str(tmp_path / "none"),
        files=[{"path": "x", "content": "#@sha256(PW)@\n"}],
    )
    assert "x needs the digest of PW" in answer["msg"]
    assert not (tmp_path / "project").exists()


def test_a_secret_file_is_not_shown(run: Run, tmp_path: Path) -> None:
    for text in ("first hush", "second hush"):
        answer = run(files=[{"path": "key", "secret_content": text, "mode": "0600"}])
        assert answer["changed"]
        assert "hush" not in answer["output"]
        assert (tmp_path / "project/key").read_text() == text


def test_a_reload_is_pending_until_it_was_done(run: Run, tmp_path: Path) -> None:
    reloads = [{"name": "web", "path": "web"}, {"name": "db", "path": "db"}]
    answer = run(files=[{"path": "web/x", "content": "1"}], reloads=reloads)
    assert answer["reload_pending"] == ["web"]
    note = tmp_path / "project/.reload-pending"
    assert note.read_text() == "web\n"
    # A run that was cut short before the reload: the next one still knows.
    again = run(files=[{"path": "web/x", "content": "1"}], reloads=reloads)
    assert (again["changed"], again["reload_pending"]) == (False, ["web"])
    assert run(reloaded=["web"])["reload_pending"] == []
    assert not note.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"files": [{"path": "../x", "content": ""}]}, "is not below the root"),
        ({"files": [{"path": "x"}]}, "one of the following is required"),
        ({"files": [{"path": "x", "content": "", "mode": "u=rw"}]}, "octal digits"),
    ],
)
def test_bad_input(run: Run, arguments: dict[str, Any], expected: str) -> None:
    answer = run(**arguments)
    assert answer["failed"]
    assert expected in answer["msg"]


def test_folders_of_others_keep_their_mode(run: Run, tmp_path: Path) -> None:
    theirs = tmp_path / "backups"
    theirs.mkdir()
    theirs.chmod(0o775)
    wanted = [{"path": str(theirs), "mode": "0700"}, {"path": "ours", "mode": "0700"}]
    answer = run(directories=wanted, keep_existing_directories=True)
    assert answer["changed_directories"] == ["ours"]
    assert theirs.stat().st_mode & 0o777 == 0o775
    assert (tmp_path / "project" / "ours").stat().st_mode & 0o777 == 0o700
    assert run(directories=wanted)["changed_directories"] == [str(theirs)]
    assert theirs.stat().st_mode & 0o777 == 0o700


def test_a_validation_sees_stand_ins_for_what_is_not_made_yet_in_check_mode_alone(
    run: Run, tmp_path: Path
) -> None:
    run(files=[{"path": "x", "content": "old\n"}])
    arguments = {
        "files": [{"path": "x", "content": "new\n"}],
        "pending_variables": ["NOT_MADE_YET"],
        "validations": [validation('test -n "$NOT_MADE_YET"', "x", check_mode=True)],
    }
    assert run(check=True, **arguments)["validated"] == ["the file"]
    assert "the file is not valid" in run(**arguments)["msg"]
    assert (tmp_path / "project/x").read_text() == "old\n"
