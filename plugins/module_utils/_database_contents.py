# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a database holds, as data: how its tables are measured in portions, what a dump's listing
and its schema say, and where two of them differ.

Names are C{schema.name}, quoted where they are not plain (L{qualified_name}).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

#: How a table's checksum is made: sums made in different ways are not compared.
CHECKSUM_METHOD = 1

#: A transaction locks each table it touches: more at a time would fill the server's lock table.
BATCH_TABLES = 100
#: A table of this size is measured alone, so that the sessions share the work evenly.
BATCH_BYTES = 64 * 1024 * 1024

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*\Z")
_SETVAL = re.compile(r"SELECT pg_catalog\.setval\('((?:[^']|'')+)', (-?\d+), (true|false)\);\s*\Z")
_IDENTIFIER = re.compile(r'"((?:[^"]|"")*)"|([^".]+)')
_ENTRY = re.compile(r"(\d+); (?:\d+ \d+) (.*)\Z")
_TOC_VERSION = re.compile(r";\s+Dumped by pg_dump version: (\S+)")
_TABLE_DATA = "TABLE DATA "
_SEQUENCE_SET = "SEQUENCE SET "

#: What COPY writes of a table without rows, and what a program adds to it: a row adds to that.
_EMPTY_DATA_BYTES = {".dat": 5, ".dat.gz": 25, ".dat.zst": 14, ".dat.lz4": 20}
#: No method has been seen to make less of a row in the mean, however alike rows are.
_ROWS_PER_BYTE = 20_000

# The same expression is written otherwise once it has been restored: varchar IN ('a', 'b') becomes
# (ARRAY['a'::varchar, …])::text[] at first, and ARRAY[('a'::varchar)::text, …] from then on.
_CAST = re.compile(
    r"::\s*"
    r'(?:"(?:[^"]|"")+"|[a-z_]\w*)(?:\.(?:"(?:[^"]|"")+"|[a-z_]\w*))?'
    r"(?: varying| precision)?"
    r"(?:\(\d+(?:,\s*\d+)?\))?"
    r"(?: with(?:out)? time zone)?"
    r"(?:\[\])*"
)
_BRACKETS = str.maketrans("", "", "()")
_HEADER = "-- Name: "


@dataclass(frozen=True)
class Table:
    """A table that has rows of its own: no partitioned one, no view, no extension's.

    ``size_bytes`` is what it takes on the disk without its indexes.
    """

    schema: str
    name: str
    owner: str
    size_bytes: int = 0
    oid: int = 0

    @property
    def qualified(self) -> str:
        return qualified_name(self.schema, self.name)


#: How a column's value gets its 64-bit hash, without loss: by its number, or by its text. The text
#: is that of the type's own output where a cast could be somebody's code, run by a superuser.
INTEGER = "pg_catalog.hashint8extended({column}::pg_catalog.int8, 0)"
UUID = "pg_catalog.uuid_hash_extended({column}, 0)"
TIMESTAMP = "pg_catalog.timestamp_hash_extended({column}::pg_catalog.timestamp, 0)"
TEXT = 'pg_catalog.hashtextextended({column}::pg_catalog.text COLLATE "C", 0)'
OUTPUT = (
    "CASE WHEN pg_catalog.num_nulls({column}) = 0 THEN "
    'pg_catalog.hashtextextended(pg_catalog.concat({column}) COLLATE "C", 0) END'
)
_EXPRESSIONS = {
    "int2": INTEGER,
    "int4": INTEGER,
    "int8": INTEGER,
    "oid": INTEGER,
    "uuid": UUID,
    "timestamp": TIMESTAMP,
    "timestamptz": TIMESTAMP,
}


def hash_expression(type_schema: str, type_name: str, type_kind: str) -> str:
    """SQL for the hash of C{{column}}, by its type: C{typname} and C{typtype} of pg_type."""
    if type_schema != "pg_catalog" or type_kind not in ("b", "r", "m"):
        return OUTPUT
    return _EXPRESSIONS.get(type_name, TEXT)


@dataclass(frozen=True)
class SequencePlace:
    """Where a sequence stands. One that cycles may go back."""

    last_value: int
    is_called: bool
    increment: int = 1
    cycles: bool = False


@dataclass(frozen=True)
class Listing:
    """What C{pg_restore --list} says of a dump.

    ``table_data`` leads from C{schema name owner} to the number of the entry's file, and
    ``sequence_entries`` are lines as C{--use-list} takes them.
    """

    pg_dump_version: str
    table_data: Mapping[str, int]
    sequence_entries: Sequence[str]


def quoted(name: str) -> str:
    """An identifier for people and for manifests: the same for every server version, which
    PostgreSQL's own quoting is not, since keywords come and go."""
    return name if _PLAIN.match(name) else '"' + name.replace('"', '""') + '"'


def qualified_name(schema: str, name: str) -> str:
    return f"{quoted(schema)}.{quoted(name)}"


def parse_qualified_name(text: str) -> tuple[str, str]:
    """Schema and name out of L{qualified_name}'s or PostgreSQL's own text.

    Raises C{ValueError}.
    """
    first = _IDENTIFIER.match(text)
    second = (
        _IDENTIFIER.match(text, first.end() + 1)
        if first and text[first.end() : first.end() + 1] == "."
        else None
    )
    if first is None or second is None or second.end() != len(text):
        raise ValueError(f"{text!r} is no schema.name")
    return _unquoted(first), _unquoted(second)


def _unquoted(match: re.Match[str]) -> str:
    return match[2] if match[1] is None else match[1].replace('""', '"')


def batches(tables: Iterable[Table]) -> list[list[Table]]:
    """Portions for one statement each, the largest first: whoever is free takes the next."""
    portions: list[list[Table]] = []
    portion: list[Table] = []
    portion_bytes = 0
    for table in sorted(tables, key=lambda one: (-one.size_bytes, one.schema, one.name)):
        if portion and (
            len(portion) >= BATCH_TABLES or portion_bytes + table.size_bytes > BATCH_BYTES
        ):
            portions.append(portion)
            portion, portion_bytes = [], 0
        portion.append(table)
        portion_bytes += table.size_bytes
    if portion:
        portions.append(portion)
    return portions


# Dumps


def parse_listing(text: str) -> Listing:
    """Out of C{pg_restore --list}."""
    version = _TOC_VERSION.search(text)
    table_data: dict[str, int] = {}
    sequences = []
    for line in text.splitlines():
        entry = _ENTRY.match(line)
        if entry is None:
            continue
        if entry[2].startswith(_TABLE_DATA):
            table_data[entry[2][len(_TABLE_DATA) :]] = int(entry[1])
        elif entry[2].startswith(_SEQUENCE_SET):
            sequences.append(line)
    return Listing(version[1] if version else "", table_data, sequences)


def listed_as(table: Table) -> str:
    """How a listing names a table: nothing is quoted there, and no name has a line's end."""
    return re.sub(r"[\r\n]", " ", f"{table.schema} {table.name} {table.owner}")


def parse_sequence_values(text: str) -> dict[str, dict[str, Any]]:
    """C{{name: {last_value, is_called}}} out of what C{pg_restore} makes of a dump's
    C{SEQUENCE SET} entries."""
    found = {}
    for line in text.splitlines():
        match = _SETVAL.match(line)
        if match:
            name = qualified_name(*parse_qualified_name(match[1].replace("''", "'")))
            found[name] = {"last_value": int(match[2]), "is_called": match[3] == "true"}
    return found


def sequences_behind(
    before: Mapping[str, SequencePlace], dumped: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Which of a dump's sequences are behind what was read when its snapshot was taken, so that
    they would give out values that rows have already."""
    problems = []
    for name, earlier in sorted(before.items()):
        found = dumped.get(name)
        if found is None:
            problems.append(f"sequence {name} is not in the dump")
            continue
        seen = (int(found["last_value"]), bool(found["is_called"]))
        forward = 1 if earlier.increment > 0 else -1
        if not earlier.cycles and (seen[0] * forward, seen[1]) < (
            earlier.last_value * forward,
            earlier.is_called,
        ):
            problems.append(
                f"sequence {name} is at {_place(*seen)} in the dump, expected at least "
                f"{_place(earlier.last_value, earlier.is_called)}"
            )
    return problems


def _place(last_value: int, is_called: bool) -> str:
    return f"{last_value}" if is_called else f"{last_value} (not yet given out)"


def implausible_dump(
    tables: Iterable[Table],
    rows: Mapping[str, int],
    listing: Listing,
    files: Mapping[str, int],
) -> list[str]:
    """What a dump lacks that its database's tables should have left there.

    ``rows`` are by qualified name; ``files`` are the sizes in bytes of the dump's files by name.
    """
    problems = []
    data_bytes = {name.partition(".")[0]: (size, name) for name, size in files.items()}
    total_bytes = total_rows = 0
    for table in tables:
        name = table.qualified
        number = listing.table_data.get(listed_as(table))
        if number is None:
            problems.append(f"table {name} is not in the dump's list")
            continue
        size, file = data_bytes.get(str(number), (-1, f"{number}.dat"))
        count = rows.get(name, 0)
        smallest = _EMPTY_DATA_BYTES.get(file[file.find(".") :], 0) + (1 if count else 0)
        if size < 0:
            problems.append(f"table {name}: the dump has no file {file}")
        elif count and size < smallest:
            problems.append(
                f"table {name} has {count} rows, and its file {file} {size} bytes, expected "
                f"at least {smallest}"
            )
        total_bytes += max(size, 0)
        total_rows += count
    if total_bytes * _ROWS_PER_BYTE < total_rows:
        problems.append(
            f"the tables have {total_rows} rows, and their files {total_bytes} bytes, expected at "
            f"least {total_rows // _ROWS_PER_BYTE}"
        )
    return problems


def row_count(content: Mapping[str, Any]) -> int:
    """The rows of all tables in a manifest's ``content``."""
    return sum(int(one["rows"]) for one in content.get("tables", {}).values())


def suspiciously_empty(
    content: Mapping[str, Any], size_bytes: int, last: Optional[tuple[Mapping[str, Any], int]]
) -> str:
    """Why a backup looks like one of something else than was there before, empty if it does not.

    ``last`` are the newest earlier backup's content and size.
    """
    rows = row_count(content)
    if last is None:
        return ""
    last_rows = row_count(last[0])
    if last_rows and not rows:
        return f"the database has no rows, and had {last_rows} in the last backup"
    same = content.get("compression") == last[0].get("compression")
    if same and rows >= last_rows > 0 and size_bytes * 10 < last[1]:
        return (
            f"the dump has {size_bytes} bytes for {rows} rows, and had {last[1]} bytes for "
            f"{last_rows} rows in the last backup"
        )
    return ""


# Schemas


def schema_objects(text: str) -> dict[str, str]:
    """What a schema's plain text defines: an object's name, type and owner, as pg_dump's heading
    above it says them, lead to a digest of its definition.

    The order of objects, what pg_dump says of itself, and what a restored expression is written
    differently in (casts, brackets, white space) make no difference. Texts of servers of another
    major version differ all the same.
    """
    objects: dict[str, list[str]] = {}
    heading = ""
    lines: list[str] = []

    def finish() -> None:
        body = " ".join(_CAST.sub("", "\n".join(lines)).translate(_BRACKETS).split())
        if heading and "; Type: MATERIALIZED VIEW DATA; " not in heading:
            objects.setdefault(heading, []).append(body)

    previous = ""
    for line in text.splitlines():
        if line.startswith(_HEADER) and previous == "--":
            finish()
            heading, lines = line[len(_HEADER) :].partition("; Tablespace: ")[0], []
        elif not _is_chatter(line):
            lines.append(line)
        previous = line
    finish()
    return {
        name: hashlib.sha256("\n".join(sorted(bodies)).encode()).hexdigest()
        for name, bodies in objects.items()
    }


def _is_chatter(line: str) -> bool:
    return (
        not line.strip()
        or line in ("--", "SET default_table_access_method = heap;", "SET default_tablespace = '';")
        or line.startswith(("\\restrict ", "\\unrestrict ", "-- PostgreSQL database dump"))
        or line.startswith(("-- Dumped from database version ", "-- Dumped by pg_dump version "))
    )


def objects_digest(objects: Mapping[str, str]) -> str:
    """One SHA-256 for all of L{schema_objects}."""
    text = "\n".join(f"{digest} {name}" for name, digest in sorted(objects.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def schema_differences(expected: Mapping[str, str], seen: Mapping[str, str]) -> list[str]:
    """Objects of L{schema_objects} that differ."""
    problems = [f"{name}: seen none, expected it" for name in sorted(set(expected) - set(seen))]
    problems += [f"{name}: seen it, expected none" for name in sorted(set(seen) - set(expected))]
    problems += [
        f"{name}: seen another definition than expected"
        for name in sorted(set(expected) & set(seen))
        if expected[name] != seen[name]
    ]
    return problems


# Differences


def differences(
    expected: Mapping[str, Any], seen: Mapping[str, Any], *, extension_versions: bool = True
) -> list[str]:
    """Where contents differ from what a manifest promises: what, seen, expected.

    Compared is what C{expected} has of tables, sequences, materialized views, large objects and
    extensions; ``database`` and ``schema_sha256`` where both have them. Without
    ``extension_versions`` an extension counts by its name: a dump does not hold its version.
    """
    methods = [one.get("checksum_method", CHECKSUM_METHOD) for one in (expected, seen)]
    if methods[0] != methods[1]:
        return [f"checksums: seen method {methods[1]}, expected {methods[0]}"]
    problems = _of_mappings(
        "table", expected.get("tables", {}), seen.get("tables", {}), _table_difference
    )
    problems += _of_mappings(
        "sequence", expected.get("sequences", {}), seen.get("sequences", {}), _sequence_difference
    )
    problems += _of_mappings(
        "materialized view",
        expected.get("materialized_views", {}),
        seen.get("materialized_views", {}),
        lambda wanted, found: _unlike("populated", wanted, found),
    )
    if "large_objects" in expected:
        wanted, found = expected["large_objects"], seen.get("large_objects", {})
        for name in ("count", "checksum"):
            if str(wanted.get(name)) != str(found.get(name)):
                problems.append(
                    f"large objects: seen {name} {found.get(name)}, expected {wanted.get(name)}"
                )
                break
    problems += _of_mappings(
        "extension",
        expected.get("extensions", {}),
        seen.get("extensions", {}),
        lambda wanted, found: _unlike("version", wanted, found) if extension_versions else "",
    )
    if expected.get("database") and seen.get("database"):
        problems += property_differences(expected["database"], seen["database"])
    if expected.get("schema_sha256") and seen.get("schema_sha256"):
        text = _unlike("SHA-256", expected["schema_sha256"], seen["schema_sha256"])
        problems += [f"schema: {text}"] if text else []
    return problems


def property_differences(expected: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """Where a database's own properties differ. Its name and size, which change, are left out.

    Settings may hold anything, so that their values are not told.
    """
    problems = []
    for name in sorted(set(expected) - {"name", "size_bytes", "settings"}):
        text = _unlike(name, expected[name], seen.get(name))
        if text:
            problems.append(f"database: {text}")
    wanted = {_setting_key(one): one[1] for one in expected.get("settings", [])}
    found = {_setting_key(one): one[1] for one in seen.get("settings", [])}
    for key in sorted(set(wanted) | set(found)):
        if wanted.get(key) != found.get(key):
            what = f"setting {key[1]}" + (f" of role {quoted(key[0])}" if key[0] else "")
            state = "none" if key not in found else "one" if key not in wanted else "another value"
            expectation = "none" if key not in wanted else "that of the backup"
            problems.append(f"database: {what}: seen {state}, expected {expectation}")
    return problems


def _setting_key(setting: Sequence[str]) -> tuple[str, str]:
    return setting[0], setting[1].partition("=")[0]


def _of_mappings(
    what: str, expected: Mapping[str, Any], seen: Mapping[str, Any], compare: Any
) -> list[str]:
    problems = []
    for name in sorted(set(expected) | set(seen)):
        if name not in seen:
            problems.append(f"{what} {name}: seen none, expected it")
        elif name not in expected:
            problems.append(f"{what} {name}: seen it, expected none")
        else:
            text = compare(expected[name], seen[name])
            if text:
                problems.append(f"{what} {name}: {text}")
    return problems


def _table_difference(expected: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    if int(expected["rows"]) != int(seen["rows"]):
        return f"seen {seen['rows']} rows, expected {expected['rows']}"
    if str(expected["checksum"]) != str(seen["checksum"]):
        return (
            f"seen other values in its {seen['rows']} rows, checksum {seen['checksum']}, "
            f"expected {expected['checksum']}"
        )
    return ""


def _sequence_difference(expected: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    places = [_place(int(one["last_value"]), bool(one["is_called"])) for one in (seen, expected)]
    return f"seen at {places[0]}, expected at {places[1]}" if places[0] != places[1] else ""


def _unlike(what: str, expected: Any, seen: Any) -> str:
    return f"{what}: seen {seen!r}, expected {expected!r}" if expected != seen else ""
