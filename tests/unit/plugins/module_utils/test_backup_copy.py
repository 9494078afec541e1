# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupError
from ansible_collections.pynomaly.ops.plugins.module_utils._backup_copy import (
    KNOWN_HOSTS,
    copied_ids,
    failure_text,
    place,
    remote_environment,
    remote_problems,
    remote_secrets,
)


@pytest.mark.parametrize(
    ("remote", "path"),
    [
        ({"type": "sftp", "host": "h", "port": 22}, "backups"),
        ({"type": "s3", "env_auth": False}, "/bucket/shop/"),
        ({"type": "local"}, "/mnt/offsite"),
    ],
)
def test_a_remote_that_can_be_used(remote: dict[str, Any], path: str) -> None:
    assert remote_problems(remote, path) == []


@pytest.mark.parametrize(
    ("remote", "path", "told"),
    [
        ({}, "b", "the remote has no type"),
        ({"type": ""}, "b", "the remote has no type"),
        ({"type": "local"}, "b", "the path is 'b', expected an absolute one"),
        ({"type": "s3"}, "", "the path is empty"),
        ({"type": "s3"}, "//", "the path is empty"),
        ({"type": "s3"}, "a/../b", "expected one without .."),
        ({"type": "s3", "HOST": "x"}, "b", "'HOST' is no option of rclone's"),
        ({"type": "s3", "a-b": "x"}, "b", "'a-b' is no option"),
        ({"type": "s3", "a\n": "x"}, "b", "is no option"),
        ({"type": "s3", "token": {"hush": "hush"}}, "b", "option token is a list or a mapping"),
        ({"type": "s3", "pass": ["hush"]}, "b", "option pass is a list or a mapping"),
    ],
)
def test_what_is_wrong_with_a_remote(remote: dict[str, Any], path: str, told: str) -> None:
    (problem,) = remote_problems(remote, path)
    assert told in problem
    assert "hush" not in problem


def test_everything_wrong_is_told_at_once() -> None:
    assert len(remote_problems({"x-y": 1}, "..")) == 3


def test_the_environment_of_rclone() -> None:
    remote = {"type": "sftp", "pass": "clear", "port": 22, "ask_password": False}
    environment = remote_environment(remote, {"pass": "obscured"})
    assert environment == {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_ASK_PASSWORD": "false",
        "AWS_CA_BUNDLE": "",
        "RCLONE_CONFIG_OFFSITE_TYPE": "sftp",
        "RCLONE_CONFIG_OFFSITE_PASS": "obscured",
        "RCLONE_CONFIG_OFFSITE_PORT": "22",
        "RCLONE_CONFIG_OFFSITE_ASK_PASSWORD": "false",
        "RCLONE_CONFIG_OFFSITE_KNOWN_HOSTS_FILE": KNOWN_HOSTS,
    }
    assert remote["pass"] == "clear"


def test_only_sftp_has_known_hosts_and_the_users_own_count() -> None:
    name = "RCLONE_CONFIG_OFFSITE_KNOWN_HOSTS_FILE"
    assert name not in remote_environment({"type": "s3"}, {})
    own = remote_environment({"type": "sftp", "known_hosts_file": "/k"}, {})
    assert own[name] == "/k"


@pytest.mark.parametrize(
    "name",
    [
        "pass",
        "key_file_pass",
        "key_pem",
        "secret_access_key",
        "access_key_id",
        "session_token",
        "sse_customer_key",
        "sse_customer_key_base64",
        "key",
        "account_key",
        "sas_url",
        "client_secret",
        "service_account_credentials",
    ],
)
def test_options_that_hold_a_secret(name: str) -> None:
    assert remote_secrets({"type": "x", "host": "h", name: 5}) == ["5"]


def test_options_that_hold_none() -> None:
    remote = {"type": "sftp", "host": "h", "user": "u", "key_file": "/k", "region": "r", "pass": ""}
    assert remote_secrets(remote) == []


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (("bucket/",), "offsite:bucket"),
        (("/mnt", "database"), "offsite:/mnt/database"),
        (("b", "database", "x"), "offsite:b/database/x"),
    ],
)
def test_places_on_the_remote(arguments: tuple[str, ...], where: str) -> None:
    assert place(*arguments) == where


def listing(*paths: str) -> str:
    return json.dumps([{"Path": path, "Size": 1} for path in paths])


def test_only_whole_backups_of_the_project_count() -> None:
    text = listing(
        "my-shop-20261122T000000Z/manifest.sha256",
        "my-shop-20261124T000000Z/manifest.sha256",
        "my-shop-20261124T000000Z/manifest.json",
        "my-shop-20261123T000000Z/manifest.sha256",
        "my-shop-20261125T000000Z/manifest.json",
        "shop-20261126T000000Z/manifest.sha256",
        "my-20261126T000000Z/manifest.sha256",
        "my-shop-20269926T000000Z/manifest.sha256",
        "my-shop-20261127T000000Z/dump/manifest.sha256",
        "manifest.sha256",
        "notes/manifest.sha256",
    )
    assert copied_ids(text, "my-shop") == [
        "my-shop-20261124T000000Z",
        "my-shop-20261123T000000Z",
        "my-shop-20261122T000000Z",
    ]


@pytest.mark.parametrize("text", ["", "{", "5", '["x"]', '[{"Name": "x"}]', "null"])
def test_what_is_no_listing(text: str) -> None:
    with pytest.raises(BackupError, match="rclone's listing cannot be read"):
        copied_ids(text, "shop")


@pytest.mark.parametrize(
    ("stderr", "text"),
    [
        ("", "it said nothing"),
        (" \n\n", "it said nothing"),
        (
            "2026/11/24 10:01:02 ERROR : a: first\n"
            "2026/11/24 10:01:03 NOTICE: between\n"
            "2026/11/24 10:01:04 CRITICAL: Failed to copy: 2 errors:\n  - one\n\n  - two\n",
            "CRITICAL: Failed to copy: 2 errors: - one - two",
        ),
        ("one\ntwo\nthree\n", "two three"),
        ("Failed to lsjson: x\n", "Failed to lsjson: x"),
        ("ERROR " + "x" * 900, "ERROR " + "x" * 494),
    ],
)
def test_what_rclone_says_of_its_failure(stderr: str, text: str) -> None:
    assert failure_text(stderr) == text
