# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_schedule import parse_settings

SECRET = "hunter2hunter2"
SETTINGS: dict[str, Any] = {
    "project": "shop",
    "backup_dir": "/backups",
    "state_dir": "/var/lib/pynomaly-ops",
    "kinds": ["database", "redis"],
    "textfile_dir": "/textfiles",
    "service_names": {"api": "web"},
    "common": {"recipients": ["age1x"], "jobs": 1},
    "retention": {"keep_daily": 7},
    "copy": {"remote": {"type": "sftp", "pass": SECRET}},
    "database": {"jobs": 4},
}


def test_the_settings_of_a_host() -> None:
    settings = parse_settings(json.dumps(SETTINGS))
    assert (settings.project, settings.kinds) == ("shop", ["database", "redis"])
    assert settings.retention == {"keep_daily": 7}
    assert settings.of_kind("database") == {"recipients": ["age1x"], "jobs": 4}
    assert settings.of_kind("redis") == {"recipients": ["age1x"], "jobs": 1}
    assert SECRET not in repr(settings)


def test_what_may_be_left_out() -> None:
    needed = {name: SETTINGS[name] for name in ("project", "backup_dir", "state_dir", "kinds")}
    settings = parse_settings(json.dumps(needed))
    assert (settings.textfile_dir, settings.copy, settings.of_kind("models")) == ("", {}, {})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"extra": SECRET}, "an unknown extra"),
        ({"project": ""}, "the settings' project is no text"),
        ({"project": [SECRET]}, "the settings' project is no text"),
        ({"backup_dir": None}, "the settings' backup_dir is no text"),
        ({"state_dir": 5}, "the settings' state_dir is no text"),
        ({"textfile_dir": [SECRET]}, "the settings' textfile_dir is no text"),
        ({"service_names": [SECRET]}, "the settings' service_names is no mapping"),
        ({"common": SECRET}, "the settings' common is no mapping"),
        ({"retention": None}, "the settings' retention is no mapping"),
        ({"copy": SECRET}, "the settings' copy is no mapping"),
        ({"database": [SECRET]}, "the settings' database is no mapping"),
        ({"redis": 1}, "the settings' redis is no mapping"),
        ({"kinds": []}, r"kinds are \[\], expected some of database, config, models, redis"),
        ({"kinds": "database"}, "kinds are 'database'"),
        ({"kinds": ["database", "tape"]}, "expected some of"),
        ({"kinds": [["database"]]}, "expected some of"),
        ({"kinds": None}, "kinds are None"),
    ],
)
def test_what_is_wrong_is_named_and_not_repeated(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BackupError, match=told) as caught:
        parse_settings(json.dumps({**SETTINGS, **changes}))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["project", "backup_dir", "state_dir", "kinds"])
def test_what_may_not_be_left_out(name: str) -> None:
    rest = {key: value for key, value in SETTINGS.items() if key != name}
    with pytest.raises(BackupError, match=name):
        parse_settings(json.dumps(rest))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f'{{"copy": "{SECRET}"', "are not JSON"),
        ("", "are not JSON"),
        ("[]", "are no mapping"),
        ("null", "are no mapping"),
    ],
)
def test_what_are_no_settings(text: str, told: str) -> None:
    with pytest.raises(BackupError, match=told) as caught:
        parse_settings(text)
    assert SECRET not in str(caught.value)
