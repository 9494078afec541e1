# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._backup import BackupFile, Manifest
from ansible_collections.pynomaly.ops.plugins.module_utils._pg_restore import (
    KEPT,
    SCRATCH,
    Mark,
    Plan,
    ServerFacts,
    dated_name,
    decode_mark,
    encode_mark,
    expired,
    extension_remarks,
    free_dated_name,
    is_dated_name,
    locale_key,
    maintenance_database,
    marked,
    memberships,
    missing_role_statements,
    needed_bytes,
    new_mark,
    problems,
    restored_lines,
    server_major,
    side_schema,
    swapped_lines,
)

NOW = datetime.datetime(2026, 11, 24, 10, 1, 2, tzinfo=datetime.timezone.utc)
DATABASE: dict[str, Any] = {
    "name": "shop",
    "encoding": "UTF8",
    "collate": "en_US.utf8",
    "ctype": "en_US.utf8",
    "locale_provider": "libc",
    "owner": "shop",
    "connection_limit": -1,
    "size_bytes": 1000 << 20,
    "comment": "",
}
MANIFEST = Manifest(
    id="shop-20261123T100102Z",
    kind="database",
    project="shop",
    created_at="2026-11-23T10:01:02Z",
    duration_seconds=1.0,
    files=(BackupFile("dump/toc.dat", 10, "0" * 64),),
    content={
        "database": DATABASE,
        "tables": {"public.t": {"rows": 1, "checksum": "1"}},
        "extensions": {"plpgsql": "1.0", "hstore": "1.8"},
        "roles": ["shop", "clerk"],
    },
    versions={"server": "16.4"},
)
FACTS = ServerFacts(
    version="17.6",
    major=17,
    user="postgres",
    is_superuser=True,
    databases={"postgres", "shop"},
    roles={"postgres", "shop", "clerk"},
    extensions={"plpgsql": "1.0", "hstore": "1.8"},
    locales={"C", "en_US.UTF-8"},
    has_icu=True,
    free_bytes=3000 << 20,
    wal_max_bytes=1024 << 20,
    data_directory="/data",
)
PLAN = Plan(database="shop", scratch="shop_restore_20261124T100102Z", replaces=True)


def manifest(**content: Any) -> Manifest:
    return replace(MANIFEST, content={**MANIFEST.content, **content})


def database(**changes: Any) -> Manifest:
    return manifest(database={**DATABASE, **changes})


def test_nothing_forbids_what_fits() -> None:
    assert problems(MANIFEST, FACTS, PLAN) == []


@pytest.mark.parametrize(
    ("given", "facts", "plan", "told"),
    [
        (replace(MANIFEST, versions={"server": "18.0"}), {}, {}, "expected 18 or newer"),
        (replace(MANIFEST, versions={}), {}, {}, "expected a number"),
        (replace(MANIFEST, files=()), {}, {}, "the backup holds no dump"),
        (manifest(tables=None), {}, {}, "expected tables"),
        (database(), {"is_superuser": False}, {}, 'role "postgres" is no superuser'),
        (database(), {"roles": {"postgres", "shop"}}, {}, 'role "clerk": seen none'),
        (database(), {"roles": {"postgres"}}, {}, 'roles "clerk", "shop": seen none'),
        (
            database(),
            {"extensions": {"plpgsql": "1.0"}},
            {},
            "extension hstore: the server has none",
        ),
        (
            manifest(extensions={"hstore": "1.10"}),
            {},
            {},
            "extension hstore: the server installs version 1.8, expected 1.10 or newer",
        ),
        (database(collate="de_DE.UTF-8"), {}, {}, "locale de_DE.UTF-8: seen none"),
        (database(locale_provider="icu"), {"has_icu": False}, {}, "built without it"),
        (database(locale_provider="builtin"), {"major": 16}, {}, "expected 17 or newer"),
        (database(), {"free_bytes": 2223 << 20}, {}, "seen 2223 MiB free, expected 2224 MiB"),
        (database(), {"free_bytes": None}, {}, "cannot be told"),
        (database(), {}, {"database": "gone"}, 'database "gone": seen none'),
        (database(), {}, {"target": "shop", "replaces": False}, "seen a database of that name"),
        (database(), {}, {"target": "x" * 64, "replaces": False}, "seen 64 bytes, expected at"),
        (database(), {"prepared_transactions": ["a"]}, {}, "1 prepared transaction ("),
        (database(), {"logical_slots": ["a", "b"]}, {}, "2 logical replication slots ("),
        (database(), {"subscriptions": ["a"]}, {}, "1 subscription ("),
    ],
)
def test_each_thing_that_forbids_it_is_told(
    given: Manifest, facts: dict[str, Any], plan: dict[str, Any], told: str
) -> None:
    (problem,) = problems(given, replace(FACTS, **facts), replace(PLAN, **plan))
    assert told in problem


@pytest.mark.parametrize(
    ("given", "facts", "plan"),
    [
        (database(), {"roles": {"postgres"}}, {"create_roles": True}),
        (database(), {"logical_slots": ["a"]}, {"replaces": False}),
        (database(collate="de_DE.UTF-8"), {"locales": None}, {}),
        (database(collate="C", ctype="POSIX"), {"locales": set()}, {}),
        (database(), {"free_bytes": 2224 << 20}, {}),
        (database(), {}, {"target": "beside", "replaces": False}),
    ],
)
def test_what_does_no_harm_is_let_pass(
    given: Manifest, facts: dict[str, Any], plan: dict[str, Any]
) -> None:
    assert problems(given, replace(FACTS, **facts), replace(PLAN, **plan)) == []


def test_everything_is_told_at_once() -> None:
    bad = replace(manifest(extensions={"x": "1"}), versions={"server": "99"})
    found = problems(bad, replace(FACTS, roles=set(), free_bytes=0, logical_slots=["s"]), PLAN)
    assert len(found) == 5


def test_another_version_of_an_extension_is_a_remark() -> None:
    facts = replace(FACTS, extensions={**FACTS.extensions, "hstore": "1.9"})
    assert problems(MANIFEST, facts, PLAN) == []
    assert extension_remarks(MANIFEST, facts) == [
        "extension hstore is restored in version 1.9, the backup had 1.8"
    ]
    assert extension_remarks(MANIFEST, FACTS) == []


def test_a_locale_has_several_spellings() -> None:
    assert locale_key("en_US.UTF-8") == locale_key("en_US.utf8") != locale_key("en_US.latin1")


def test_space_is_a_copy_and_the_log() -> None:
    assert needed_bytes(MANIFEST, FACTS, 1.5) == (1500 + 1024) << 20


def test_the_major_version() -> None:
    assert server_major(MANIFEST) == 16
    assert server_major(replace(MANIFEST, versions={"server": "18beta1"})) == 18


# Names and marks


@pytest.mark.parametrize("name", ["shop", "x" * 63, "é" * 31, 'odd "name" of mine'])
def test_dated_names_fit(name: str) -> None:
    made = dated_name(name, KEPT, NOW)
    assert len(made.encode()) <= 63
    assert made.endswith("_before_20261124T100102Z")
    assert is_dated_name(made, KEPT)
    assert not is_dated_name(made, SCRATCH)
    assert not is_dated_name(name, KEPT)


def test_dated_names_are_in_utc() -> None:
    there = NOW.astimezone(datetime.timezone(datetime.timedelta(hours=5)))
    assert dated_name("shop", SCRATCH, there) == "shop_restore_20261124T100102Z"
    assert side_schema(there) == "restored_20261124t100102z"


def test_a_dated_name_that_is_taken_is_of_the_next_free_second() -> None:
    taken = {"shop_before_20261124T100102Z", "shop_before_20261124T100103Z"}
    assert free_dated_name("shop", KEPT, NOW, taken) == "shop_before_20261124T100104Z"
    assert free_dated_name("shop", SCRATCH, NOW, taken) == "shop_restore_20261124T100102Z"


def test_the_database_to_rename_is_never_logged_in_to() -> None:
    assert maintenance_database("shop") == "postgres"
    assert maintenance_database("postgres") == "template1"


def test_a_mark_keeps_the_comment() -> None:
    mark = new_mark(KEPT, "shop", "shop", NOW, backup="b", comment='it\'s "mine"\n€')
    assert decode_mark(encode_mark(mark)) == mark


@pytest.mark.parametrize(
    "comment",
    [
        None,
        "",
        "pynomaly.ops",
        "pynomaly.ops {",
        "pynomaly.ops []",
        'pynomaly.ops {"kind": "before"}',
        encode_mark(Mark("other", "p", "d", "2026-11-24T10:01:02Z")),
        encode_mark(Mark(KEPT, "p", "d", "yesterday")),
    ],
)
def test_a_comment_of_somebody_else_is_no_mark(comment: str | None) -> None:
    assert decode_mark(comment) is None


def kept(days: float, project: str = "shop", name: str = "shop") -> str:
    moment = NOW - datetime.timedelta(days=days)
    return encode_mark(new_mark(KEPT, project, name, moment, backup="", comment=""))


def test_only_what_has_both_our_name_and_our_mark_is_ours() -> None:
    comments = {
        "shop_before_20261101T000000Z": kept(9),
        "shop_before_20261102T000000Z": kept(8),
        "shop_before_20261103T000000Z": kept(8, project="other"),
        "shop_before_20261104T000000Z": kept(8, name="other"),
        "shop_before_20261105T000000Z": "mine",
        "shop": kept(8),
        "shop_restore_20261106T000000Z": kept(8),
    }
    found = marked(comments, KEPT, "shop", "shop")
    assert list(found) == ["shop_before_20261102T000000Z", "shop_before_20261101T000000Z"]
    assert expired(found, 8.5, NOW, "") == ["shop_before_20261101T000000Z"]
    assert expired(found, 0, NOW, "shop_before_20261101T000000Z") == [
        "shop_before_20261102T000000Z"
    ]
    assert expired(found, 30, NOW, "") == []


# Roles

GLOBALS = [
    "CREATE ROLE clerk;\n",
    "ALTER ROLE clerk WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$x';\n",
    'CREATE ROLE "Odd Name";\n',
    'ALTER ROLE "Odd Name" WITH NOLOGIN;\n',
    "CREATE ROLE postgres;\n",
    "ALTER ROLE postgres WITH SUPERUSER;\n",
    "ALTER ROLE clerk SET work_mem TO '9MB';\n",
    "ALTER ROLE postgres SET work_mem TO '1GB';\n",
    'GRANT "Odd Name" TO clerk WITH ADMIN OPTION, INHERIT TRUE GRANTED BY postgres;\n',
    "GRANT nobody TO clerk GRANTED BY postgres;\n",
    "GRANT team TO clerk WITH INHERIT TRUE GRANTED BY postgres;\n",
    "GRANT team TO postgres;\n",
]


def test_only_the_missing_roles_are_made() -> None:
    assert missing_role_statements(GLOBALS, ["clerk"]) == [
        "CREATE ROLE clerk;",
        "ALTER ROLE clerk WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$x';",
        "ALTER ROLE clerk SET work_mem TO '9MB';",
    ]
    assert memberships(GLOBALS, ["clerk"], {"postgres", "team"}) == [
        "GRANT team TO clerk WITH INHERIT TRUE"
    ]
    assert memberships(GLOBALS, ["clerk", "Odd Name"], {"postgres"}) == [
        'GRANT "Odd Name" TO clerk WITH ADMIN OPTION, INHERIT TRUE'
    ]


def test_a_role_that_the_backup_does_not_have_is_named() -> None:
    with pytest.raises(ValueError, match='"lost"'):
        missing_role_statements(GLOBALS, ["clerk", "lost"])


# What is said

RESTORED: dict[str, Any] = {
    "id": "b",
    "verified": True,
    "database": "shop",
    "replaces": True,
    "restored": "shop_restore_x",
    "side_table": "",
    "rows": 5,
    "tables": 2,
    "created_roles": [],
    "seconds": {"restore": 1.23},
}


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({}, "took: restore 1.2 s"),
        ({"replaces": False, "restored": "beside"}, "it is database beside, beside shop"),
        ({"restored": "", "replaces": False}, "dropped again, database shop is as it was"),
        ({"restored": "", "side_table": "s.t"}, "its rows are in s.t of database shop"),
    ],
)
def test_what_came_of_a_restore(changes: dict[str, Any], last: str) -> None:
    lines = restored_lines({**RESTORED, **changes}, check_mode=False)
    assert lines[0] == "backup b: restored and proved equal, 5 rows in 2 tables"
    assert lines[-1] == last


def test_an_unverified_backup_is_called_so() -> None:
    (line,) = restored_lines({**RESTORED, "verified": False}, check_mode=True)
    assert line.startswith("backup b, which had not been verified before: nothing is known")


def test_what_came_of_a_swap() -> None:
    answer = {
        "database": "shop",
        "incoming": "in",
        "kept": "out",
        "seconds_without_service": 1.234,
        "seconds_closed": 0.1,
        "ended_sessions": 3,
        "page": True,
        "dropped": ["old"],
        "undo": "UNDO",
    }
    lines = swapped_lines(answer, check_mode=False)
    assert "without service: 1.23 s" in lines[1]
    assert lines[2:] == ["kept long enough, and dropped: old", "undo: UNDO"]
    assert swapped_lines(answer, check_mode=True) == [
        "database in would be shop, and the one before out"
    ]
