# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._database_contents import (
    BATCH_BYTES,
    BATCH_TABLES,
    INTEGER,
    OUTPUT,
    TEXT,
    TIMESTAMP,
    Listing,
    SequencePlace,
    Table,
    batches,
    differences,
    hash_expression,
    implausible_dump,
    listed_as,
    objects_digest,
    parse_listing,
    parse_qualified_name,
    parse_sequence_values,
    qualified_name,
    schema_differences,
    schema_objects,
    sequences_behind,
    suspiciously_empty,
)


def tables(*sizes: int) -> list[Table]:
    return [Table("public", f"t{number}", "owner", size) for number, size in enumerate(sizes)]


# Names


@pytest.mark.parametrize(
    ("schema", "name", "text"),
    [
        ("public", "events", "public.events"),
        ("public", "select", "public.select"),
        ("public", "Upper", 'public."Upper"'),
        ('a"b.c', "x 'y'", '"a""b.c"."x \'y\'"'),
        ("public", "1st", 'public."1st"'),
        ("public", "größe", 'public."größe"'),
        ("public", "a$b", 'public."a$b"'),
    ],
)
def test_a_name_is_quoted_where_it_is_not_plain(schema: str, name: str, text: str) -> None:
    assert qualified_name(schema, name) == text
    assert parse_qualified_name(text) == (schema, name)


def test_a_name_that_another_version_quotes_is_read_too() -> None:
    assert parse_qualified_name('public."select"') == ("public", "select")


@pytest.mark.parametrize("text", ["", "events", "a.b.c", 'a."b', "a.", ".b", 'a."b"c'])
def test_what_is_no_qualified_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no schema\.name"):
        parse_qualified_name(text)


# Portions


def test_each_table_is_in_one_portion() -> None:
    many = tables(*[n * 1000 for n in range(1234)])
    portions = batches(many)
    assert sorted(one.name for portion in portions for one in portion) == sorted(
        one.name for one in many
    )
    assert max(map(len, portions)) == BATCH_TABLES


def test_large_tables_come_first_and_alone() -> None:
    sizes = [10, BATCH_BYTES * 3, 10, BATCH_BYTES, 10]
    found = [[one.size_bytes for one in portion] for portion in batches(tables(*sizes))]
    assert found == [[BATCH_BYTES * 3], [BATCH_BYTES], [10, 10, 10]]


def test_no_tables_make_no_portion() -> None:
    assert batches([]) == []


# Hashes


@pytest.mark.parametrize(
    ("column_type", "expression"),
    [
        (("pg_catalog", "int4", "b"), INTEGER),
        (("pg_catalog", "timestamptz", "b"), TIMESTAMP),
        (("pg_catalog", "jsonb", "b"), TEXT),
        (("pg_catalog", "_text", "b"), TEXT),
        (("pg_catalog", "tstzrange", "r"), TEXT),
        (("public", "int4", "b"), OUTPUT),
        (("public", "citext", "b"), OUTPUT),
        (("public", "mood", "e"), OUTPUT),
        (("pg_catalog", "pg_class", "c"), OUTPUT),
    ],
)
def test_only_the_servers_own_types_are_cast(
    column_type: tuple[str, str, str], expression: str
) -> None:
    assert hash_expression(*column_type) == expression


# Listings

LISTING = """\
;
; Archive created at 2026-11-24 10:00:00 UTC
;     dbname: pynomaly_prod
;     Dumped from database version: 17.6 (Debian 17.6-1)
;     Dumped by pg_dump version: 17.6 (Debian 17.6-1)
;
;
; Selected TOC Entries:
;
215; 1259 16389 TABLE public events owner
3412; 0 16389 TABLE DATA public events owner
3413; 0 16400 TABLE DATA Odd Schema a  b owner
3500; 0 0 SEQUENCE SET public events_id_seq owner
3501; 0 0 MATERIALIZED VIEW DATA public totals owner
"""


def test_a_listing_is_read() -> None:
    listing = parse_listing(LISTING)
    assert listing.pg_dump_version == "17.6"
    assert listing.table_data == {"public events owner": 3412, "Odd Schema a  b owner": 3413}
    assert listing.sequence_entries == ["3500; 0 0 SEQUENCE SET public events_id_seq owner"]
    assert listed_as(Table("Odd Schema", "a\r\nb", "owner")) == "Odd Schema a  b owner"


EVENTS = Table("public", "events", "owner", 8192)


def test_a_dump_that_has_everything_is_plausible() -> None:
    files = {"3412.dat.zst": 200, "toc.dat": 4000}
    listing = Listing("17.6", {"public events owner": 3412}, [])
    assert implausible_dump([EVENTS], {"public.events": 10}, listing, files) == []


def test_an_empty_table_may_have_an_empty_file() -> None:
    listing = Listing("17.6", {"public events owner": 3412}, [])
    for name, size in (("3412.dat", 5), ("3412.dat.gz", 25), ("3412.dat.zst", 14)):
        assert implausible_dump([EVENTS], {"public.events": 0}, listing, {name: size}) == []


@pytest.mark.parametrize(
    ("listed", "files", "problem"),
    [
        ({}, {"3412.dat": 100}, "public.events is not in the dump's list"),
        ({"public events owner": 3412}, {"toc.dat": 4000}, "has no file 3412.dat"),
        ({"public events owner": 3412}, {"3412.dat": 5}, "has 10 rows, and its file 3412.dat 5"),
        ({"public events owner": 3412}, {"3412.dat": 0}, "expected at least 6"),
        ({"public events owner": 3412}, {"3412.dat.zst": 14}, "expected at least 15"),
        ({"public events owner": 3412}, {"3412.dat.gz": 25}, "expected at least 26"),
    ],
)
def test_a_dump_that_lacks_a_table_is_told_of(
    listed: dict[str, int], files: dict[str, int], problem: str
) -> None:
    found = implausible_dump([EVENTS], {"public.events": 10}, Listing("", listed, []), files)[0]
    assert problem in found


def test_a_billion_rows_in_a_few_bytes_are_told_of() -> None:
    listing = Listing("", {"public events owner": 1}, [])
    (found,) = implausible_dump([EVENTS], {"public.events": 10**9}, listing, {"1.dat.zst": 900})
    assert "1000000000 rows, and their files 900 bytes" in found


def content(rows: int, compression: str = "zstd:3") -> dict[str, Any]:
    return {"tables": {"public.t": {"rows": rows}}, "compression": compression}


def test_a_database_without_rows_is_suspicious_only_where_it_had_some() -> None:
    assert suspiciously_empty(content(0), 900, None) == ""
    assert suspiciously_empty(content(0), 900, (content(0), 900)) == ""
    assert "had 7 in the last backup" in suspiciously_empty(content(0), 900, (content(7), 900))


def test_a_tenth_of_the_size_for_as_many_rows_is_suspicious() -> None:
    last = (content(100), 10_000)
    assert "999 bytes for 100 rows" in suspiciously_empty(content(100), 999, last)
    assert suspiciously_empty(content(100), 1_000, last) == ""
    assert suspiciously_empty(content(99), 999, last) == ""
    assert suspiciously_empty(content(100, "gzip:1"), 999, last) == ""


# Sequences

SETVALS = r'''
SELECT pg_catalog.set_config('search_path', '', false);
SELECT pg_catalog.setval('public.events_id_seq', 42, true);
SELECT pg_catalog.setval('public."select"', 1, false);
SELECT pg_catalog.setval('"Odd ""S"""."seq ''n''"', -9223372036854775808, true);
'''


def test_sequence_values_are_read() -> None:
    assert parse_sequence_values(SETVALS) == {
        "public.events_id_seq": {"last_value": 42, "is_called": True},
        "public.select": {"last_value": 1, "is_called": False},
        '"Odd ""S"""."seq \'n\'"': {"last_value": -9223372036854775808, "is_called": True},
    }


@pytest.mark.parametrize(
    ("before", "last_value", "is_called", "behind"),
    [
        (SequencePlace(10, True), 10, True, False),
        (SequencePlace(10, True), 12, True, False),
        (SequencePlace(10, True), 9, True, True),
        (SequencePlace(1, False), 1, True, False),
        (SequencePlace(1, True), 1, False, True),
        (SequencePlace(1000, True, -3), 997, True, False),
        (SequencePlace(997, True, -3), 1000, True, True),
        (SequencePlace(3, True, 1, True), 1, True, False),
    ],
)
def test_a_sequence_must_not_be_behind(
    before: SequencePlace, last_value: int, is_called: bool, behind: bool
) -> None:
    dumped = {"public.s": {"last_value": last_value, "is_called": is_called}}
    assert bool(sequences_behind({"public.s": before}, dumped)) is behind


def test_a_sequence_that_the_dump_lacks_is_told_of() -> None:
    assert sequences_behind({"public.s": SequencePlace(1, True)}, {}) == [
        "sequence public.s is not in the dump"
    ]


# Schemas


def entry(name: str, kind: str, *body: str) -> str:
    return "\n".join(["--", f"-- Name: {name}; Type: {kind}; Schema: s; Owner: o", "--", "", *body])


def test_order_and_chatter_make_no_difference() -> None:
    one = entry("a", "TABLE", "CREATE TABLE s.a (id integer);", "")
    two = entry("b", "TABLE", "CREATE TABLE s.b (id integer);", "")
    head = "\\restrict abc\n-- Dumped by pg_dump version 17.6\nSET statement_timeout = 0;\n"
    expected = schema_objects(head + one + two)
    seen = schema_objects("\\restrict xyz\n" + two + "SET default_tablespace = '';\n" + one)
    assert expected == seen
    assert objects_digest(expected) == objects_digest(seen)


def test_how_a_restored_expression_is_written_makes_no_difference() -> None:
    first = (
        "CHECK (((status)::text = ANY ((ARRAY['new'::character varying, "
        "'done'::character varying])::text[])))"
    )
    restored = (
        "CHECK (((status)::text = ANY (ARRAY[('new'::character varying)::text, "
        "('done'::character varying)::text])))"
    )
    texts = [entry("t", "TABLE", f"CREATE TABLE t ({one});") for one in (first, restored)]
    assert schema_objects(texts[0]) == schema_objects(texts[1])


@pytest.mark.parametrize(
    "changed",
    [
        "CREATE TABLE s.t (id bigint, note text DEFAULT 'x');",
        "CREATE TABLE s.t (id integer, note text DEFAULT 'y');",
        "CREATE TABLE s.t (id integer);",
        "CREATE TABLE s.t (id integer, note text DEFAULT 'x'); -- more",
    ],
)
def test_another_definition_is_told_of(changed: str) -> None:
    before = schema_objects(
        entry("t", "TABLE", "CREATE TABLE s.t (id integer, note text DEFAULT 'x');")
    )
    after = schema_objects(entry("t", "TABLE", changed))
    (problem,) = schema_differences(before, after)
    assert problem.startswith("t; Type: TABLE; Schema: s; Owner: o: seen another definition")
    assert objects_digest(before) != objects_digest(after)


def test_an_object_too_many_or_too_few_is_told_of() -> None:
    one = schema_objects(entry("t", "TABLE", "CREATE TABLE s.t ();"))
    two = schema_objects(entry("t", "TABLE", "CREATE TABLE s.t ();") + "\n" + entry("f", "ACL"))
    assert schema_differences(one, two) == [
        "f; Type: ACL; Schema: s; Owner: o: seen it, expected none"
    ]
    assert schema_differences(two, one) == [
        "f; Type: ACL; Schema: s; Owner: o: seen none, expected it"
    ]


def test_a_comment_in_a_function_counts() -> None:
    texts = [entry("f", "FUNCTION", "AS $$", f"-- {word}", "$$;") for word in ("one", "two")]
    assert schema_objects(texts[0]) != schema_objects(texts[1])


def test_filling_a_materialized_view_is_no_part_of_the_schema() -> None:
    text = entry("v", "MATERIALIZED VIEW DATA", "REFRESH MATERIALIZED VIEW s.v;")
    assert schema_objects(text) == {}


# Differences

CONTENT: dict[str, Any] = {
    "tables": {
        "public.a": {"rows": 3, "checksum": "-12"},
        "public.b": {"rows": 0, "checksum": "0"},
    },
    "sequences": {"public.s": {"last_value": 7, "is_called": True}},
    "materialized_views": {"public.v": True},
    "large_objects": {"count": 1, "checksum": "5"},
    "extensions": {"hstore": "1.8"},
    "database": {
        "name": "live",
        "encoding": "UTF8",
        "size_bytes": 9,
        "acl": [],
        "settings": [["", "work_mem=7MB"], ["app", "my.secret=canary-1"]],
    },
    "schema_sha256": "ab",
}


def changed(*path: str, value: Any) -> dict[str, Any]:
    found: Any = copy.deepcopy(CONTENT)
    whole = found
    for name in path[:-1]:
        found = found[name]
    if value is None:
        del found[path[-1]]
    else:
        found[path[-1]] = value
    return dict(whole)


def test_equal_is_equal() -> None:
    seen = changed("database", "name", value="scratch")
    seen["database"]["size_bytes"] = 100
    assert differences(CONTENT, seen) == []


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        (changed("tables", "public.a", "rows", value=2), "table public.a: seen 2 rows, expected 3"),
        (changed("tables", "public.a", "checksum", value="-11"), "table public.a: seen other"),
        (changed("tables", "public.a", value=None), "table public.a: seen none, expected it"),
        (
            changed("tables", "public.z", value={"rows": 0, "checksum": "0"}),
            "table public.z: seen it, expected none",
        ),
        (
            changed("sequences", "public.s", "last_value", value=6),
            "sequence public.s: seen at 6, expected at 7",
        ),
        (
            changed("sequences", "public.s", "is_called", value=False),
            "sequence public.s: seen at 7 (not yet given out), expected at 7",
        ),
        (changed("materialized_views", "public.v", value=False), "materialized view public.v"),
        (changed("large_objects", "count", value=0), "large objects: seen count 0, expected 1"),
        (changed("large_objects", "checksum", value="6"), "large objects: seen checksum 6"),
        (changed("large_objects", value=None), "large objects: seen count None"),
        (changed("extensions", "hstore", value=None), "extension hstore: seen none, expected it"),
        (changed("extensions", "hstore", value="1.7"), "extension hstore: version: seen '1.7'"),
        (changed("database", "encoding", value="LATIN1"), "database: encoding: seen 'LATIN1'"),
        (changed("database", "acl", value=None), "database: acl: seen None"),
        (changed("schema_sha256", value="cd"), "schema: SHA-256: seen 'cd', expected 'ab'"),
    ],
)
def test_each_difference_is_named(seen: dict[str, Any], problem: str) -> None:
    (found,) = differences(CONTENT, seen)
    assert found.startswith(problem)


def test_what_only_one_side_was_asked_for_is_not_compared() -> None:
    seen = {name: CONTENT[name] for name in CONTENT if name not in ("database", "schema_sha256")}
    assert differences(CONTENT, seen) == []


def test_sums_of_another_method_are_not_compared() -> None:
    seen = {**CONTENT, "checksum_method": 2, "tables": {}}
    assert differences(CONTENT, seen) == ["checksums: seen method 2, expected 1"]


def test_an_extension_may_be_of_another_version_where_that_is_allowed() -> None:
    seen = changed("extensions", "hstore", value="1.7")
    assert differences(CONTENT, seen, extension_versions=False) == []
    seen = changed("extensions", "hstore", value=None)
    assert len(differences(CONTENT, seen, extension_versions=False)) == 1


def test_a_settings_value_is_never_told() -> None:
    seen = changed(
        "database",
        "settings",
        value=[["", "work_mem=8MB"], ["app", "my.secret=canary-2"], ["", "jit=off"]],
    )
    found = differences(CONTENT, seen)
    assert found == [
        "database: setting jit: seen one, expected none",
        "database: setting work_mem: seen another value, expected that of the backup",
        "database: setting my.secret of role app: seen another value, expected that of the backup",
    ]
    assert differences(CONTENT, changed("database", "settings", value=[])) == [
        "database: setting work_mem: seen none, expected that of the backup",
        "database: setting my.secret of role app: seen none, expected that of the backup",
    ]
