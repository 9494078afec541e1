# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What it takes to make a database like the one that a manifest describes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Settings whose value is a list of names, each quoted on its own: variable_is_guc_list_quote in
#: https://github.com/postgres/postgres/blob/master/src/include/fe_utils/string_utils.h
_LIST_SETTINGS = (
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
)
_ELEMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",]+))\s*(?:,|\Z)')
_RESOURCES = re.compile(
    r"no space left on device|out of memory|could not resize shared memory|out of shared memory"
    r"|server closed the connection|the database system is (?:shutting down|in recovery)",
    re.IGNORECASE,
)
_PRIVILEGES = {"CREATE", "CONNECT", "TEMPORARY", "TEMP"}
_CREATE_ROLE = re.compile(r'CREATE ROLE ("(?:[^"]|"")+"|[^\s;]+);\s*\Z')
_ALTER_ROLE = re.compile(r'ALTER ROLE ("(?:[^"]|"")+"|[^\s;]+) WITH ')
_TABLESPACE = re.compile(
    r"(?:CREATE|ALTER|COMMENT ON) TABLESPACE |(?:GRANT|REVOKE) (?:ALL|CREATE) ON TABLESPACE "
    r"|SECURITY LABEL FOR .* ON TABLESPACE "
)
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*\"""")


def setting_values(name: str, value: str) -> list[str]:
    """The literals that C{SET name TO …} takes for a value as pg_db_role_setting keeps it."""
    if name.lower() not in _LIST_SETTINGS:
        return [value]
    elements = []
    position = 0
    while position < len(value):
        match = _ELEMENT.match(value, position)
        if match is None:
            return [value]
        quoted, plain = match.groups()
        elements.append(quoted.replace('""', '"') if quoted is not None else plain.strip())
        position = match.end()
    return elements or [""]


def split_setting(setting: str) -> tuple[str, str]:
    """C{name=value} as name and value."""
    name, _equals, value = setting.partition("=")
    return name, value


def creation_options(
    properties: Mapping[str, Any], server_major: int
) -> list[tuple[str, str, bool]]:
    """Options of CREATE DATABASE, as (keyword, value, whether the value is a word of SQL).

    https://www.postgresql.org/docs/current/sql-createdatabase.html
    """
    options = [
        ("ENCODING", str(properties["encoding"]), False),
        ("LC_COLLATE", str(properties["collate"]), False),
        ("LC_CTYPE", str(properties["ctype"]), False),
    ]
    provider = str(properties.get("locale_provider") or "libc")
    if server_major >= 15:
        options.append(("LOCALE_PROVIDER", provider, True))
    locale = str(properties.get("icu_locale") or "")
    if provider == "icu" and locale:
        options.append(("ICU_LOCALE", locale, False))
        if properties.get("icu_rules"):
            options.append(("ICU_RULES", str(properties["icu_rules"]), False))
    elif provider == "builtin" and locale:
        options.append(("BUILTIN_LOCALE", locale, False))
    return options


def privileges(properties: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """The database's complete privileges, as (grantee, privilege, grantable); an empty grantee is
    PUBLIC. Raises C{ValueError} for a privilege that databases do not have."""
    found = []
    for entry in properties.get("acl") or ():
        privilege = str(entry["privilege"])
        if privilege not in _PRIVILEGES:
            raise ValueError(f"{privilege!r} is no privilege of a database")
        found.append((str(entry["grantee"]), privilege, entry["grantable"] is True))
    return found


def role_name(text: str) -> str:
    """A role's name as SQL writes it, without its quotes."""
    if text.startswith('"'):
        return text[1:-1].replace('""', '"')
    return text


def role_statements(globals_sql: Iterable[str], wanted: Sequence[str]) -> dict[str, list[str]]:
    """The statements of C{pg_dumpall --globals-only} that make some roles, by role, in order.

    They hold password hashes and are not to be shown.
    """
    found: dict[str, list[str]] = {}
    for line in globals_sql:
        match = _CREATE_ROLE.match(line) or _ALTER_ROLE.match(line)
        if match and role_name(match.group(1)) in wanted:
            found.setdefault(role_name(match.group(1)), []).append(line.rstrip("\n"))
    return found


def without_tablespaces(globals_sql: Iterable[str]) -> list[str]:
    """The lines of C{pg_dumpall --globals-only}, but the statements about folders that only its
    own host has. A comment in one may have many lines."""
    kept = []
    dropped = ""
    for line in globals_sql:
        if not dropped and not _TABLESPACE.match(line):
            kept.append(line)
            continue
        dropped += line
        if not re.search("['\"]", _QUOTED.sub("", dropped)):
            dropped = ""
    return kept


def is_lack_of_resources(text: str) -> bool:
    """Whether a failure says something of the machine, and nothing of what was restored."""
    return bool(_RESOURCES.search(text))
