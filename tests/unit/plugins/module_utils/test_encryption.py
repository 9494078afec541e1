# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._encryption import (
    UnsafeMemberError,
    check_member,
    encrypted_names,
    recipient_problems,
)

NATIVE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN"
# A key of the same form as a private one, and none.
PRIVATE = "AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2


@pytest.mark.parametrize(
    "recipient",
    [
        NATIVE,
        f"  {NATIVE}\n",
        "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t",
        f"ssh-ed25519 {KEY}",
        f"ssh-ed25519 {KEY} ops@example.org, the second",
        f"ssh-rsa {KEY}== ops",
    ],
)
def test_keys_that_a_backup_may_be_encrypted_to(recipient: str) -> None:
    assert recipient_problems([recipient]) == []


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "age1short",
        NATIVE.upper(),
        f"{NATIVE} {NATIVE}",
        f"{NATIVE}\n{NATIVE}",
        f"ecdsa-sha2-nistp256 {KEY}",
        "ssh-ed25519",
        f"ssh-ed25519 {KEY}\nssh-ed25519 {KEY}",
        "ops@example.org",
        f"x{NATIVE}",
    ],
)
def test_what_is_no_public_key(recipient: str) -> None:
    (problem,) = recipient_problems([recipient])
    assert problem.startswith("recipient 1 is ")
    assert problem.endswith("expected age1… or an SSH public key")
    assert len(problem) < 90


@pytest.mark.parametrize(
    "recipient",
    [
        PRIVATE,
        PRIVATE.lower(),
        f"# public key: {NATIVE}\n{PRIVATE}",
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{KEY}\n",
        f"-----BEGIN RSA PRIVATE KEY-----\n{KEY}\n",
    ],
)
def test_a_private_key_is_refused_and_never_repeated(recipient: str) -> None:
    (problem,) = recipient_problems([recipient])
    assert "recipient 1 is a private key, expected a public one" in problem
    assert recipient[16:30] not in problem
    assert KEY[:8] not in problem


def test_each_bad_recipient_is_told_by_its_number() -> None:
    found = recipient_problems([NATIVE, "x", NATIVE, PRIVATE])
    assert [text[:11] for text in found] == ["recipient 2", "recipient 4"]
    assert recipient_problems([]) == []


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a", "a"),
        ("a/b/", "a/b"),
        ("./a//b", "a/b"),
        ("a/..b", "a/..b"),
        ("...", "..."),
        ("a b/ü", "a b/ü"),
        (".", "."),
    ],
)
def test_where_a_member_is_unpacked(name: str, path: str) -> None:
    assert check_member(name, is_plain=True) == path


@pytest.mark.parametrize(
    ("name", "is_plain", "told"),
    [
        ("a", False, "a link or a device"),
        ("/etc/passwd", True, "not a relative path"),
        ("//a", True, "not a relative path"),
        ("a\\b", True, "not a relative path"),
        ("a\0b", True, "not a relative path"),
        ("..", True, "leads out of the folder"),
        ("../a", True, "leads out of the folder"),
        ("a/../../b", True, "leads out of the folder"),
        ("a/..", True, "leads out of the folder"),
    ],
)
def test_a_member_that_may_not_be_unpacked(name: str, is_plain: bool, told: str) -> None:
    with pytest.raises(UnsafeMemberError, match=told):
        check_member(name, is_plain=is_plain)


def test_the_encrypted_ones_among_files() -> None:
    names = ["dump.tar.age", "manifest.json", "globals.sql.age", "age", "x.age.txt"]
    assert encrypted_names(names) == ["dump.tar.age", "globals.sql.age"]
