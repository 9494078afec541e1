# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import (
    CONFIG,
    DATABASE,
    FULL,
    KINDS,
    QUICK,
    Backup,
    BackupError,
    BackupFile,
    Manifest,
    Verification,
    decode_manifest,
    decode_verifications,
    encode_manifest,
    encode_verifications,
    id_time,
    is_id,
    new_id,
    new_verification,
    newest_first,
    select,
)

NOW = datetime.datetime(2026, 11, 24, 10, 1, 2, tzinfo=datetime.timezone.utc)
MANIFEST = Manifest(
    id="my-shop-20261124T100102Z",
    kind=DATABASE,
    project="my-shop",
    created_at="2026-11-24T10:01:02.000Z",
    duration_seconds=1.25,
    files=(BackupFile("dump/toc.dat", 10, "0" * 64), BackupFile("globals.sql", 5, "a" * 64)),
    content={"tables": {'public."ünï"': {"rows": 1, "checksum": "-12"}}},
    encryption={"method": "age", "recipients": ["age1x"]},
    versions={"server": "17.6"},
    stored_bytes=99,
)


# Manifests


def test_a_manifest_comes_back_as_it_was() -> None:
    assert decode_manifest(encode_manifest(MANIFEST)) == MANIFEST
    assert MANIFEST.size_bytes == 15


def test_a_manifest_is_the_same_bytes_whatever_the_order() -> None:
    shuffled = replace(MANIFEST, files=tuple(reversed(MANIFEST.files)))
    data = encode_manifest(shuffled)
    assert data == encode_manifest(MANIFEST)
    assert data.endswith(b"}\n")
    assert json.loads(data)["size_bytes"] == 15


def test_a_manifest_rounds_to_the_millisecond() -> None:
    data = encode_manifest(replace(MANIFEST, duration_seconds=1.23456))
    assert decode_manifest(data).duration_seconds == 1.235


def test_a_manifest_holds_no_number_that_json_does_not_have() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode_manifest(replace(MANIFEST, content={"x": float("nan")}))


def test_a_manifest_of_before_the_growth_was_noted() -> None:
    raw = json.loads(encode_manifest(MANIFEST))
    del raw["stored_bytes"]
    assert decode_manifest(json.dumps(raw).encode()).stored_bytes == 0


def file(**changes: Any) -> dict[str, Any]:
    return {"files": [{"path": "a", "size_bytes": 1, "sha256": "0" * 64, **changes}]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": 2}, "has format 2, expected 1"),
        ({"format": None}, "has format None, expected 1"),
        ({"created_at": "yesterday"}, "ValueError: Invalid isoformat string"),
        ({"created_at": 20261124}, "created_at is 20261124, expected a text"),
        ({"id": ""}, "id is '', expected a text"),
        ({"id": 7}, "id is 7, expected a text"),
        ({"kind": "tape"}, "has kind 'tape', expected one of"),
        ({"project": None}, "project is None, expected a text"),
        ({"duration_seconds": "long"}, "could not convert string to float"),
        ({"content": []}, r"content is \[\], expected a mapping"),
        ({"encryption": None}, "encryption is None, expected a mapping"),
        ({"versions": "17"}, "versions is '17', expected a mapping"),
        ({"stored_bytes": float("inf")}, "OverflowError"),
        ({"files": []}, "lists no files, expected at least one"),
        ({"files": None}, "TypeError"),
        ({"files": ["a"]}, "TypeError"),
        (file(path="/etc/passwd"), "'/etc/passwd' leads out of the backup"),
        (file(path="dump/../../x"), "leads out of the backup"),
        (file(path=""), "path is '', expected a text"),
        (file(sha256="A" * 64), "'a' has no SHA-256"),
        (file(sha256="0" * 63), "'a' has no SHA-256"),
        (file(sha256="0" * 64 + "\n"), "'a' has no SHA-256"),
        (file(size_bytes=-1), "'a' has size -1"),
        (file(size_bytes=1.5), "'a' has size 1.5"),
        (file(size_bytes="1"), "'a' has size '1'"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(changes: dict[str, Any], told: str) -> None:
    raw = {**json.loads(encode_manifest(MANIFEST)), **changes}
    with pytest.raises(BackupError, match=told):
        decode_manifest(json.dumps(raw).encode())


@pytest.mark.parametrize(
    "name", ["format", "id", "kind", "project", "created_at", "duration_seconds", "files"]
)
def test_what_a_manifest_lacks_is_named(name: str) -> None:
    raw = json.loads(encode_manifest(MANIFEST))
    del raw[name]
    with pytest.raises(BackupError, match=f"KeyError: '{name}'"):
        decode_manifest(json.dumps(raw).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"x"'])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BackupError, match=r"manifest\.json (is not JSON|cannot be used)"):
        decode_manifest(data)


# Ids


@pytest.mark.parametrize("project", ["shop", "my-shop", "my-shop-20200101", "s_1"])
def test_an_id_holds_project_and_moment(project: str) -> None:
    identifier = new_id(project, NOW)
    assert identifier == f"{project}-20261124T100102Z"
    assert is_id(identifier)
    assert id_time(identifier) == NOW


def test_an_id_is_in_utc() -> None:
    there = NOW.astimezone(datetime.timezone(datetime.timedelta(hours=-7)))
    assert new_id("shop", there) == "shop-20261124T100102Z"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest",
        "shop",
        "20261124T100102Z",
        "-20261124T100102Z",
        "Shop-20261124T100102Z",
        "../x-20261124T100102Z",
        "a/x-20261124T100102Z",
        "shop-20261124T100102",
        "shop-20261124T100102Z\n",
        "shop-20261324T100102Z",
        "shop-20260230T100102Z",
        "shop-٢٠٢٦1124T100102Z",
        ".staging-shop-20261124T100102Z",
    ],
)
def test_what_is_no_id(text: str) -> None:
    assert not is_id(text)


# Verifications


def look(minutes: float, ok: bool, method: str = QUICK, *problems: str) -> Verification:
    told = problems or (() if ok else ("a bit has flipped",))
    return new_verification(NOW + datetime.timedelta(minutes=minutes), method, told)


@pytest.mark.parametrize(
    "looks",
    [
        (None, None),
        (look(1, True, FULL), None),
        (None, look(2, False)),
        (look(1, False, FULL), look(2, True)),
    ],
)
def test_verifications_come_back_as_they_were(
    looks: tuple[Verification | None, Verification | None],
) -> None:
    assert decode_verifications(encode_verifications(*looks)) == looks


def test_a_verification_is_good_without_problems_alone() -> None:
    good = new_verification(NOW, FULL, [], {"rows": 5})
    assert (good.ok, good.verified_at) == (True, "2026-11-24T10:01:02.000Z")
    assert good.details == {"rows": 5}
    assert new_verification(NOW, FULL, ["x"]) == Verification(good.verified_at, FULL, False, ("x",))


@pytest.mark.parametrize(
    "one",
    [
        {"verified_at": "soon", "ok": True, "problems": [], "details": {}},
        {"ok": True, "problems": [], "details": {}},
        {"verified_at": "2026-11-24T10:01:02Z", "problems": [], "details": {}},
        {"verified_at": "2026-11-24T10:01:02Z", "ok": True, "problems": 1, "details": {}},
        {"verified_at": "2026-11-24T10:01:02Z", "ok": True, "problems": [], "details": [1]},
        "fine",
    ],
)
def test_a_verification_that_cannot_be_read_proves_nothing(one: Any) -> None:
    other = json.loads(encode_verifications(None, look(1, True)))
    data = json.dumps({**other, FULL: one}).encode()
    assert decode_verifications(data) == (None, None)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"3"])
def test_no_verifications_at_all(data: bytes) -> None:
    assert decode_verifications(data) == (None, None)


def test_only_true_is_true() -> None:
    raw = json.loads(encode_verifications(look(1, True, FULL), None))
    raw[FULL]["ok"] = "yes"
    full, _quick = decode_verifications(json.dumps(raw).encode())
    assert full is not None
    assert not full.ok


def backup(
    days: int = 0,
    full: Verification | None = None,
    quick: Verification | None = None,
    *,
    whole: bool = True,
    kind: str = DATABASE,
    project: str = "shop",
) -> Backup:
    identifier = new_id(project, NOW + datetime.timedelta(days=days))
    manifest = replace(MANIFEST, id=identifier, kind=kind, project=project) if whole else None
    problem = "" if whole else "manifest.json differs"
    return Backup(kind, identifier, f"/b/{identifier}", manifest, problem, full, quick)


@pytest.mark.parametrize(
    ("full", "quick", "verified", "refuted", "damage"),
    [
        (None, None, False, False, ""),
        (None, look(1, True), False, False, ""),
        (None, look(1, False), False, True, "a bit has flipped"),
        (look(1, True, FULL), None, True, False, ""),
        (look(1, False, FULL), None, False, True, "a bit has flipped"),
        (look(1, True, FULL), look(2, True), True, False, ""),
        (look(1, True, FULL), look(2, False), False, True, "a bit has flipped"),
        (look(2, True, FULL), look(1, False), True, False, ""),
        (look(1, True, FULL), look(1, False), False, False, ""),
        (look(1, False, FULL), look(2, True), False, False, ""),
        (look(2, False, FULL, "rows", "more"), look(1, True), False, True, "rows"),
    ],
)
def test_what_the_looks_at_a_backup_say(
    full: Verification | None,
    quick: Verification | None,
    verified: bool,
    refuted: bool,
    damage: str,
) -> None:
    one = backup(full=full, quick=quick)
    assert (one.is_verified, one.is_refuted, one.damage) == (verified, refuted, damage)


def test_a_backup_that_is_not_whole_is_not_verified() -> None:
    one = backup(full=look(1, True, FULL), whole=False)
    assert not one.is_verified
    assert one.damage == "manifest.json differs"
    assert replace(one, problem="").damage == "manifest.json is missing"


def test_damage_without_a_word_has_its_time() -> None:
    one = backup(quick=Verification("2026-11-24T10:01:02.000Z", QUICK, False))
    assert one.damage == "found damaged at 2026-11-24T10:01:02.000Z"


# Which one is meant


def test_the_newest_is_told_by_its_moment_and_not_by_its_name() -> None:
    older, newer = backup(0, project="zoo"), backup(1, project="my-shop")
    assert newest_first([older, newer]) == [newer, older]
    assert select([older, newer], "latest") == newer


PROVED = backup(-3, look(1, True, FULL))
PLAIN = backup(-2)
DAMAGED = backup(-1, look(1, True, FULL), whole=False)
REFUTED = backup(0, look(1, True, FULL), look(2, False))
OTHER = backup(5, look(1, True, FULL), kind=CONFIG)
ALL = [REFUTED, PROVED, OTHER, DAMAGED, PLAIN]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("latest", PLAIN),
        ("latest_verified", PROVED),
        (PROVED.id, PROVED),
        ("before=2027-01-01", PLAIN),
        ("before=2026-11-22T10:01:03Z", PLAIN),
        ("before=2026-11-22T10:01:02Z", PROVED),
        ("before=2026-11-22T12:01:02+02:00", PROVED),
        ("before=2026-11-22T09:01:03-01:00", PLAIN),
    ],
)
def test_the_backup_that_is_meant(wanted: str, chosen: Backup) -> None:
    assert select(ALL, wanted) == chosen


def test_each_kind_has_its_own() -> None:
    assert select(ALL, "latest", CONFIG) == OTHER
    assert select(ALL, OTHER.id, CONFIG) == OTHER


@pytest.mark.parametrize(
    ("wanted", "told", "hint"),
    [
        (DAMAGED.id, f"backup {DAMAGED.id} is damaged: manifest.json differs", "backup_list"),
        (
            REFUTED.id,
            f"backup {REFUTED.id} was found damaged at 2026-11-24T10:03:02.000Z: a bit has flipped",
            "backup_list",
        ),
        (OTHER.id, f"there is no backup {OTHER.id}", "backup_list"),
        ("before=2026-11-21T10:01:02Z", "seen 4 database backups, expected one from before", ""),
        ("before=lunch", "seen 'before=lunch', expected before=TIME", None),
        ("before=", "expected before=TIME with an ISO 8601 time", None),
        ("newest", "seen 'newest', expected an id, latest, latest_verified or before=TIME", ""),
        ("", "seen '', expected an id", "backup_list"),
    ],
)
def test_what_cannot_be_chosen(wanted: str, told: str, hint: str | None) -> None:
    with pytest.raises(BackupError) as caught:
        select(ALL, wanted)
    assert told in str(caught.value)
    assert (hint or "") in caught.value.hint
    assert bool(caught.value.hint) == (hint is not None)


@pytest.mark.parametrize(
    ("backups", "wanted", "told", "hint"),
    [
        ([], "latest", "seen 0 database backups, expected latest", "backup_list"),
        ([REFUTED], "latest", "seen 1 database backup, expected latest", "backup_list"),
        ([DAMAGED], "latest", "seen 1 database backup, expected latest", "backup_list"),
        ([PLAIN, REFUTED], "latest_verified", "seen 2 database backups", "backup_verify"),
    ],
)
def test_none_to_take(backups: list[Backup], wanted: str, told: str, hint: str) -> None:
    with pytest.raises(BackupError) as caught:
        select(backups, wanted)
    assert told in str(caught.value)
    assert hint in caught.value.hint


def test_a_refuted_one_may_be_looked_at_again() -> None:
    assert select(ALL, REFUTED.id, again=True) == REFUTED
    with pytest.raises(BackupError, match="is damaged"):
        select(ALL, DAMAGED.id, again=True)


def test_a_refutation_without_a_word_is_one_too() -> None:
    one = backup(quick=Verification("2026-11-24T10:01:02.000Z", QUICK, False))
    with pytest.raises(BackupError, match=r"was found damaged at 2026-11-24T10:01:02\.000Z"):
        select([one], one.id)


def test_the_kinds_are_folders_of_their_own() -> None:
    assert len(set(KINDS)) == len(KINDS) == 4
