# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._database_restore import (
    creation_options,
    is_lack_of_resources,
    privileges,
    role_name,
    role_statements,
    setting_values,
    split_setting,
    without_tablespaces,
)

LIBC: dict[str, Any] = {"encoding": "UTF8", "collate": "en_US.utf8", "ctype": "C"}
COMMON = [
    ("ENCODING", "UTF8", False),
    ("LC_COLLATE", "en_US.utf8", False),
    ("LC_CTYPE", "C", False),
]


@pytest.mark.parametrize(
    ("name", "value", "literals"),
    [
        ("work_mem", "64MB", ["64MB"]),
        ("application_name", 'a, "b"', ['a, "b"']),
        ("search_path", "public", ["public"]),
        ("search_path", '"$user", public', ["$user", "public"]),
        ("Search_Path", "a,b ,  c", ["a", "b", "c"]),
        ("search_path", '"a, b", "c""d", "ünï"', ["a, b", 'c"d', "ünï"]),
        ("search_path", '""', [""]),
        ("search_path", "", [""]),
        ("temp_tablespaces", '"Fast", slow', ["Fast", "slow"]),
        ("local_preload_libraries", '"$libdir/a b"', ["$libdir/a b"]),
        ("search_path", '"never closed', ['"never closed']),
        ("search_path", "a,,b", ["a,,b"]),
        ("search_path", 'a"b', ['a"b']),
    ],
)
def test_the_literals_of_a_setting(name: str, value: str, literals: list[str]) -> None:
    assert setting_values(name, value) == literals


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("work_mem=64MB", ("work_mem", "64MB")),
        ("app.filter=a=b", ("app.filter", "a=b")),
        ("app.empty=", ("app.empty", "")),
    ],
)
def test_a_setting_has_a_name_and_a_value(setting: str, parts: tuple[str, str]) -> None:
    assert split_setting(setting) == parts


@pytest.mark.parametrize(
    ("properties", "major", "more"),
    [
        ({}, 13, []),
        ({"locale_provider": "libc"}, 14, []),
        ({}, 15, [("LOCALE_PROVIDER", "libc", True)]),
        ({"locale_provider": "libc", "icu_locale": "de"}, 17, [("LOCALE_PROVIDER", "libc", True)]),
        (
            {"locale_provider": "icu", "icu_locale": "de-DE"},
            15,
            [("LOCALE_PROVIDER", "icu", True), ("ICU_LOCALE", "de-DE", False)],
        ),
        (
            {"locale_provider": "icu", "icu_locale": "und", "icu_rules": "&a < b"},
            17,
            [
                ("LOCALE_PROVIDER", "icu", True),
                ("ICU_LOCALE", "und", False),
                ("ICU_RULES", "&a < b", False),
            ],
        ),
        ({"locale_provider": "icu"}, 16, [("LOCALE_PROVIDER", "icu", True)]),
        (
            {"locale_provider": "builtin", "icu_locale": "C.UTF-8", "icu_rules": "x"},
            17,
            [("LOCALE_PROVIDER", "builtin", True), ("BUILTIN_LOCALE", "C.UTF-8", False)],
        ),
        ({"locale_provider": "builtin"}, 17, [("LOCALE_PROVIDER", "builtin", True)]),
        ({"locale_provider": None}, 17, [("LOCALE_PROVIDER", "libc", True)]),
    ],
)
def test_how_a_database_is_made(
    properties: dict[str, Any], major: int, more: list[tuple[str, str, bool]]
) -> None:
    assert creation_options({**LIBC, **properties}, major) == COMMON + more


def test_what_a_database_is_made_with_is_never_guessed() -> None:
    with pytest.raises(KeyError, match="ctype"):
        creation_options({"encoding": "UTF8", "collate": "C"}, 17)


def test_privileges_are_as_they_were() -> None:
    acl = [
        {"grantee": "", "privilege": "CONNECT", "grantable": False},
        {"grantee": "Odd Name", "privilege": "CREATE", "grantable": True},
        {"grantee": "clerk", "privilege": "TEMPORARY", "grantable": "yes"},
        {"grantee": "clerk", "privilege": "TEMP", "grantable": False},
    ]
    assert privileges({"acl": acl}) == [
        ("", "CONNECT", False),
        ("Odd Name", "CREATE", True),
        ("clerk", "TEMPORARY", False),
        ("clerk", "TEMP", False),
    ]


@pytest.mark.parametrize("properties", [{}, {"acl": None}, {"acl": []}])
def test_a_database_without_privileges(properties: dict[str, Any]) -> None:
    assert privileges(properties) == []


@pytest.mark.parametrize("privilege", ["SELECT", "connect", "CONNECT ON DATABASE x TO y; --", ""])
def test_what_is_no_privilege_is_refused(privilege: str) -> None:
    with pytest.raises(ValueError, match="is no privilege of a database"):
        privileges({"acl": [{"grantee": "a", "privilege": privilege, "grantable": False}]})


# Roles

GLOBALS = [
    "SET standard_conforming_strings = on;\n",
    "CREATE ROLE clerk;\n",
    "ALTER ROLE clerk WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$x';\n",
    "CREATE ROLE clerks;\n",
    'CREATE ROLE "Odd ""Name""";\n',
    'ALTER ROLE "Odd ""Name""" WITH NOLOGIN;\n',
    "ALTER ROLE clerk SET work_mem TO '9MB';\n",
    "COMMENT ON ROLE clerk IS 'CREATE ROLE clerk;';\n",
    "GRANT clerks TO clerk;\n",
    "CREATE ROLE clerk; DROP ROLE clerks;\n",
]


@pytest.mark.parametrize(
    ("text", "name"),
    [("clerk", "clerk"), ('"Odd Name"', "Odd Name"), ('"a""b"', 'a"b'), ('""""', '"')],
)
def test_a_roles_name(text: str, name: str) -> None:
    assert role_name(text) == name


def test_only_what_makes_the_wanted_roles_is_taken() -> None:
    assert role_statements(iter(GLOBALS), ["clerk", 'Odd "Name"', "lost"]) == {
        "clerk": [
            "CREATE ROLE clerk;",
            "ALTER ROLE clerk WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$x';",
        ],
        'Odd "Name"': [
            'CREATE ROLE "Odd ""Name""";',
            'ALTER ROLE "Odd ""Name""" WITH NOLOGIN;',
        ],
    }
    assert role_statements(GLOBALS, []) == {}


# Tablespaces


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLESPACE fast OWNER postgres LOCATION '/fast';\n",
        "CREATE TABLESPACE \"it's\" OWNER \"o'neil\" LOCATION '/fast';\n",
        "ALTER TABLESPACE fast SET (random_page_cost=1.1);\n",
        "GRANT ALL ON TABLESPACE fast TO clerk;\n",
        'GRANT CREATE ON TABLESPACE fast TO "o\'neil" WITH GRANT OPTION;\n',
        "REVOKE ALL ON TABLESPACE fast FROM PUBLIC;\n",
        "COMMENT ON TABLESPACE fast IS 'quick';\n",
        "COMMENT ON TABLESPACE fast IS 'it''s \"quick\",\n\nor so';\n",
        "SECURITY LABEL FOR selinux ON TABLESPACE fast IS 'label';\n",
    ],
)
def test_what_is_about_tablespaces_is_left_out(statement: str) -> None:
    text = ["CREATE ROLE a;\n", *statement.splitlines(keepends=True), "CREATE ROLE b;\n"]
    assert without_tablespaces(iter(text)) == ["CREATE ROLE a;\n", "CREATE ROLE b;\n"]


@pytest.mark.parametrize(
    "statement",
    [
        *GLOBALS,
        'GRANT "x ON TABLESPACE y" TO clerk;\n',
        "ALTER ROLE clerk SET default_tablespace TO 'fast';\n",
        "-- Tablespaces\n",
    ],
)
def test_everything_else_is_kept(statement: str) -> None:
    assert without_tablespaces([statement]) == [statement]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('pg_restore: error: could not extend file "base/5/1": No space left on device', True),
        ("FATAL:  out of memory", True),
        ("could not resize shared memory segment to 8388608 bytes", True),
        ("server closed the connection unexpectedly", True),
        ('role "hard_owner" does not exist', False),
        ('extension "postgis" is not available', False),
        ("pg_restore: error: could not read from input file: end of file", False),
    ],
)
def test_what_the_machine_lacks_refutes_no_backup(text: str, expected: bool) -> None:
    assert is_lack_of_resources(text) is expected
