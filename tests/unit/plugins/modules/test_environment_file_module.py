# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.pynomaly.ops.plugins.modules import environment_file

Run = Callable[..., dict[str, Any]]
SECRETS = [
    {"name": "PW", "variable": "my_password", "volume": "data", "sealed": "it counted once"},
    {"name": "KEY"},
]
COMPOSED = {"URL": "x://{quote(PW)}@host"}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the module on ``tmp_path/project/.env`` and returns its answer, with ``output``."""

    def call(check: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {
            "path": str(tmp_path / "project/.env"),
            "secrets": SECRETS,
            "composed": COMPOSED,
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            **arguments,
        }
        with patch_module_args(given), pytest.raises(SystemExit):
            environment_file.main()
        output = capsys.readouterr().out
        return {**json.loads(output), "output": output}

    return call


def test_secrets_are_made_once_and_shown_never(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "project/.env"
    first = run()
    assert (first["changed"], first["generated"]) == (True, ["PW", "KEY"])
    text = path.read_text()
    made = re.findall(r"^(?:PW|KEY)=([0-9a-f]{64})$", text, re.M)
    assert len(set(made)) == 2
    assert path.stat().st_mode & 0o7777 == 0o600
    assert "PW=(generated)" in first["diff"]["after"]
    second = run()
    assert not second["changed"]
    assert path.read_text() == text
    for secret in made:
        assert secret not in first["output"] + second["output"]


def test_check_mode_makes_nothing(run: Run, tmp_path: Path) -> None:
    assert run(check=True)["changed"]
    assert not (tmp_path / "project").exists()


def test_a_mode_that_lets_others_read_is_mended(run: Run, tmp_path: Path) -> None:
    run()
    path = tmp_path / "project/.env"
    path.chmod(0o644)
    assert run()["changed"]
    assert path.stat().st_mode & 0o7777 == 0o600


def test_a_given_value_is_stored_and_not_shown(run: Run, tmp_path: Path) -> None:
    run()
    answer = run(given={"KEY": "the user's own hush", "PW": ""})
    assert answer["updated"] == ["KEY"]
    assert "hush" not in answer["output"]
    assert 'KEY="the user\'s own hush"' in (tmp_path / "project/.env").read_text()


def test_a_sealed_secret_may_change_until_its_volume_is_there(run: Run, tmp_path: Path) -> None:
    run(given={"PW": "first"})
    assert run(given={"PW": "second"}, existing_volumes=["other"])["updated"] == ["PW", "URL"]
    answer = run(given={"PW": "third"}, existing_volumes=["data"])
    assert answer["failed"]
    assert "my_password" in answer["msg"]
    assert "it counted once" in answer["msg"]
    assert "PW=second\n" in (tmp_path / "project/.env").read_text()


def test_a_setting_is_kept_and_shown_and_refused_once_its_volume_is_there(
    run: Run, tmp_path: Path
) -> None:
    def settings(value: str) -> list[dict[str, str]]:
        return [
            {"name": "POSTGRES_DB", "variable": "pynomaly_database", "value": value,
             "volume": "data", "sealed": "PostgreSQL made it with volume data"}
        ]  # fmt: skip

    path = tmp_path / "project/.env"
    assert run(settings=settings("first"))["changed"]
    assert "POSTGRES_DB=first\n" in path.read_text()
    assert not run(settings=settings("first"), existing_volumes=["data"])["changed"]
    assert run(settings=settings("second"))["updated"] == ["POSTGRES_DB"]
    text = path.read_text()
    for check in (True, False):
        answer = run(settings=settings("third"), existing_volumes=["data"], check=check)
        assert answer["failed"]
        assert "pynomaly_database: seen third, expected second" in answer["msg"]
        assert "PostgreSQL made it with volume data" in answer["msg"]
        assert "Next: set pynomaly_database to second" in answer["msg"]
    assert path.read_text() == text


def test_a_setting_that_is_not_on_record_is_taken_as_it_is(run: Run) -> None:
    """A project that was deployed before settings were kept."""
    run()
    setting = {"name": "POSTGRES_DB", "value": "shop", "volume": "data", "sealed": "once"}
    answer = run(settings=[setting], existing_volumes=["data"])
    assert answer["updated"] == ["POSTGRES_DB"]


def test_a_file_that_cannot_be_read_is_told(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "project/.env"
    path.parent.mkdir()
    path.write_bytes(b"A='\n")
    assert "line 1: the quote after A= is not closed" in run()["msg"]
    path.write_bytes(b"A=\xff\n")
    assert "is not UTF-8 text" in run()["msg"]
    path.unlink()
    path.mkdir()
    assert "Is a directory" in run()["msg"]
