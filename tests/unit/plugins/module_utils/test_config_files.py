# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._config_files import (
    ConfigFilesError,
    Item,
    candidate_argv,
    fill_digests,
    is_below,
    item,
    last_lines,
    mask_digests,
    needs_digest,
)


def entry(**changes: Any) -> dict[str, Any]:
    base = {"path": "a/b", "content": "x", "secret_content": None, "mode": "0644"}
    return {**base, "owner": None, "group": None, **changes}


def test_an_item_has_what_its_entry_says() -> None:
    assert item(entry(mode="0640", group=999), False) == Item("a/b", "x", 0o640, None, 999)


def test_a_folder_may_be_anywhere() -> None:
    assert item(entry(path="/var/lib/x"), True) == Item("/var/lib/x", None, 0o644)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "."])
def test_a_file_is_below_the_root(path: str) -> None:
    with pytest.raises(ConfigFilesError, match="is not below the root"):
        item(entry(path=path), False)


@pytest.mark.parametrize("mode", ["u=rw", "9999", "0o644", ""])
def test_a_mode_is_octal_digits(mode: str) -> None:
    with pytest.raises(ConfigFilesError, match="octal digits"):
        item(entry(mode=mode), False)


def test_a_secret_item_shows_no_content() -> None:
    secret = item(entry(content=None, secret_content="hush"), False)
    assert (secret.content, secret.secret) == ("hush", True)
    assert "hush" not in repr(secret)


def test_digests_are_filled_in() -> None:
    digest = hashlib.sha256(b"pw").hexdigest()
    assert fill_digests("#@sha256(PW)@ ~*", {"PW": "pw"}) == (f"#{digest} ~*", [])


@pytest.mark.parametrize("secrets", [{}, {"PW": None}, {"PW": ""}])
def test_a_digest_without_a_value_is_told(secrets: dict[str, str | None]) -> None:
    assert fill_digests("#@sha256(PW)@", secrets) == ("#@sha256(PW)@", ["PW"])


def test_digests_are_masked_filled_in_or_not() -> None:
    digest = hashlib.sha256(b"pw").hexdigest()
    assert mask_digests(f"#{digest} #@sha256(PW)@") == "#(digest) #(digest)"
    assert needs_digest("#@sha256(PW)@")
    assert not needs_digest(f"#{digest}")


@pytest.mark.parametrize(
    ("path", "place", "expected"),
    [
        ("config/nginx/nginx.conf", "config/nginx", True),
        ("config/nginx/nginx.conf", "config/nginx/", True),
        ("compose.yaml", "compose.yaml", True),
        ("config/nginx2/x", "config/nginx", False),
        ("compose.yaml", "config", False),
    ],
)
def test_below(path: str, place: str, expected: bool) -> None:
    assert is_below(path, place) is expected


def test_a_validation_names_its_candidate() -> None:
    assert candidate_argv(["a", "{candidate}:/x:ro"], "/tmp/c") == ["a", "/tmp/c:/x:ro"]
    with pytest.raises(ConfigFilesError, match="does not say"):
        candidate_argv(["a"], "/tmp/c")


def test_the_end_of_an_output_is_kept() -> None:
    text = "\n".join(f"line {number}" for number in range(20)) + "\n\n"
    assert last_lines(text, count=2) == "line 18\nline 19"
    assert last_lines("x" * 30, limit=10) == "x" * 10
