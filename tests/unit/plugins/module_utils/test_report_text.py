# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Numbers in words, and text that stays what it is."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._report_text import (
    detail_lines,
    fact_lines,
    format_bytes,
    format_counts,
    format_limits,
    format_measured,
    format_seconds,
    format_time,
    format_value,
    named,
    place,
    plural,
    printable,
    shortened,
)
from ansible_collections.pynomaly.ops.tests.unit.plugins.module_utils.report_samples import (
    probe_result,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        (" a\r\n b\tc ", "a b c"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("\udcff", "\\udcff"),
        ("a\u2028b", "a\\u2028b"),
        ("Gr\u00fc\u00dfe \u05e9\u05dc\u05d5\u05dd", "Gr\u00fc\u00dfe \u05e9\u05dc\u05d5\u05dd"),
        (7, "7"),
    ],
)
def test_printable(text: object, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (987654321, "942 MiB"),
        (2**40, "1.0 TiB"),
        (2**70, "1048576 PiB"),
    ],
)
def test_bytes(size: int, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.25, "250 ms"),
        (1.26, "1.3 s"),
        (59, "59 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (86400, "1 d"),
        (1050000, "12 d 3 h"),
        (-90, "-1 min 30 s"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "percent", ""),
        (True, None, "yes"),
        (False, None, "no"),
        ("17.6", None, "17.6"),
        (float("nan"), "percent", "nan"),
        (97.14, "percent", "97.1%"),
        (80, "percent", "80%"),
        (0.004, "ratio", "0"),
        (2.5, "ratio", "2.5"),
        (42, None, "42"),
        (1234567, "lines", "1 234 567 lines"),
        (1, "sessions", "1 session"),
        (3, "sessions", "3 sessions"),
        (1, "keys/hour", "1 keys/hour"),
        (840, "ms", "840 ms"),
        (1200, "ms", "1.2 s"),
        (7500, "seconds", "2 h 5 min"),
        (2048, "bytes", "2.0 KiB"),
        (12.34, "days", "12.3 days"),
        (1234.5, "days", "1234 days"),
    ],
)
def test_values(value: Any, unit: str, text: str) -> None:
    assert format_value(value, unit) == text


def test_limits_name_the_side_on_which_trouble_lies() -> None:
    disk = probe_result("host.disk", "host", "/", 97.1, "244 GiB of 251 GiB used")
    assert format_limits(disk) == "warning above 80%, critical above 95%"
    assert format_measured(disk) == "measured 97.1%, warning above 80%, critical above 95%"
    assert format_limits(probe_result("tls.served", "nginx", value=10)).startswith("warning below")
    assert format_limits({**disk, "id": "new.probe", "critical": None}) == "warning above 80%"


def test_a_value_that_the_message_names_anyway_is_not_repeated() -> None:
    assert format_measured(probe_result("container.state", "db", value=2, message="2 of 2")) == ""
    assert format_measured(probe_result("container.state", "db", value=2)).startswith("measured 2")
    assert format_measured(probe_result("redis.ping", "redis", message="PONG")) == ""
    size = probe_result("postgres.size", "postgres", value=1024, message="pynomaly_prod")
    assert format_measured(size) == "measured 1.0 KiB"


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        ("2026-11-24T02:57:03Z", "2026-11-24 02:57:03 UTC"),
        ("2026-11-24T03:57:03+01:00", "2026-11-24 02:57:03 UTC"),
        ("2026-11-24T02:57:03", "2026-11-24 02:57:03 UTC"),
        ("soon", "soon"),
        (None, ""),
    ],
)
def test_times(moment: Any, text: str) -> None:
    assert format_time(moment) == text


def test_counts() -> None:
    assert format_counts({"ok": 3, "critical": 1, "warning": 0}) == "1 critical, 3 ok"
    assert format_counts({}) == "nothing was checked"
    assert (plural(1, "host"), plural(2, "host")) == ("1 host", "2 hosts")


@pytest.mark.parametrize(
    ("service", "instance", "where"),
    [
        ("postgres", None, "postgres"),
        ("host", None, ""),
        ("host", "/var", "/var"),
        ("postgres", "pynomaly-postgres-1", "pynomaly-postgres-1"),
        ("postgres", "orders", "postgres orders"),
    ],
)
def test_places(service: str, instance: Any, where: str) -> None:
    result = {"id": "x.y", "service": service, "instance": instance}
    assert place(result) == where
    assert named(result) == (f"x.y ({where})" if where else "x.y")


def test_shortened_marks_the_cut() -> None:
    assert shortened("abc", 5) == "abc"
    assert shortened("x" * 20, 10) == "xxxxxx ..."


@pytest.mark.parametrize(
    ("detail", "lines"),
    [
        (None, []),
        ([], []),
        ("one", ["one"]),
        ({"a": 1, "b": [1, 2.5]}, ["a: 1", "b: 1, 2.5"]),
        ([{"count": 3, "message": "no"}, {"count": 1, "message": "n"}], ["3 times: no", "once: n"]),
        ([{"pid": 7, "state": "idle"}], ["pid 7, state idle"]),
        (list(range(12)), [*(str(n) for n in range(10)), "and 2 more"]),
    ],
)
def test_details(detail: Any, lines: list[str]) -> None:
    assert detail_lines(detail) == lines


def test_facts() -> None:
    facts = {
        "os": "Debian 13",
        "uptime_seconds": 90,
        "memory_bytes": 2048,
        "engine_version": "26",
        "none": None,
        "seconds": 4,
        "tags": ["a", "b"],
    }
    assert fact_lines(facts) == [
        ("OS", "Debian 13"),
        ("Uptime", "1 min 30 s"),
        ("Memory", "2.0 KiB"),
        ("Engine version", "26"),
        ("Seconds", "4"),
        ("Tags", "a, b"),
    ]
