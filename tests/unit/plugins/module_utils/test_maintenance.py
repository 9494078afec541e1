# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import json
import re

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._maintenance import (
    MaintenanceError,
    Page,
    describe_fragment,
    end_time,
    fragment,
    html_page,
    is_past,
    json_page,
    page_lines,
    parse_duration,
    parse_networks,
    path_pattern,
)

NOW = datetime.datetime(2026, 11, 24, 10, 0, tzinfo=datetime.timezone.utc)
UNTIL = NOW + datetime.timedelta(minutes=30)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("24h", 86400), ("2d", 172800), ("1h30m", 5400), (" 5M ", 300)],
)
def test_parse_duration(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "30m1h", "1.5h", "soon", "0x1m"])
def test_parse_duration_refuses(text: str) -> None:
    with pytest.raises(MaintenanceError, match="for: seen"):
        parse_duration(text)


def test_end_time() -> None:
    assert end_time("30m", "", NOW) == UNTIL
    assert end_time("30m", "2026-11-24T12:00:00+01:00", NOW) == NOW + datetime.timedelta(hours=1)


@pytest.mark.parametrize(
    ("duration", "until", "told"),
    [
        ("0s", "", "to come"),
        ("1h", "2026-11-24T09:59:00Z", "to come"),
        ("8d", "", "7 days at most"),
        ("1h", "tomorrow", "until: seen"),
    ],
)
def test_end_time_refuses(duration: str, until: str, told: str) -> None:
    with pytest.raises(MaintenanceError, match=told):
        end_time(duration, until, NOW)


def test_parse_networks() -> None:
    assert [str(one) for one in parse_networks(["192.0.2.1 ", "2001:db8::/48", "192.0.2.1"])] == [
        "192.0.2.1/32",
        "2001:db8::/48",
    ]
    for text in ("office", "192.0.2.1/24", "", "192.0.2.256", "0.0.0.0/0", "::/0"):
        with pytest.raises(MaintenanceError, match="allow: seen"):
            parse_networks([text])
    with pytest.raises(MaintenanceError, match="at most"):
        parse_networks(f"10.0.{high}.{low}" for high in range(2) for low in range(200))


def test_path_pattern() -> None:
    assert path_pattern("/health") == "^/health(?:[?]|\\z)"
    live = re.compile(path_pattern("/v1.0/health/").replace("\\z", "\\Z"))
    assert live.match("/v1.0/health/live?x")
    assert not live.match("/v1x0/health/live")
    for target in ("/v1.0/health/", "/v1.0/health/..", "/v1.0/health/a/b", "/v1.0/health/%2e"):
        assert not live.match(target), target
    for path in ("/", "health", "/a b", "/../x", '/"', "/a$b", "/a;b"):
        with pytest.raises(MaintenanceError, match="exempt path"):
            path_pattern(path)


HOSTILE = 'Zürich "5 o\'clock" \\ $host {}; <script> \u2028é'.replace("\u2028", " ")


def test_pages_hold_nothing_that_nginx_would_read() -> None:
    markup = html_page(HOSTILE, UNTIL)
    document = json_page(HOSTILE, UNTIL)
    assert json.loads(document)["detail"] == HOSTILE
    assert json.loads(document)["until"] == "2026-11-24T10:30:00.000Z"
    assert "<script>" not in markup and "2026-11-24 10:30 UTC" in markup
    for text in (markup, document):
        assert text.isascii() and "$" not in text


def test_fragment_describes_itself() -> None:
    text = fragment(Page(UNTIL, "Soon.", ["192.0.2.1"], ["/health"]))
    facts = describe_fragment(text)
    assert facts is not None
    assert facts["until"] == "2026-11-24T10:30:00.000Z"
    assert (facts["allow"], facts["exempt_paths"]) == (["192.0.2.1/32"], ["/health"])
    assert text.count(facts["marker"]) == 3
    assert "@MARKER@" not in text
    assert not is_past(facts, NOW) and is_past(facts, UNTIL)
    other = describe_fragment(fragment(Page(UNTIL, "Later.")))
    assert other is not None and other["marker"] != facts["marker"]


def test_fragment_stays_within_what_nginx_reads() -> None:
    """A word of the configuration has to fit into 4096 bytes."""
    allow = [f"10.0.0.{n}/32" for n in range(250)]
    text = fragment(Page(UNTIL, "\u00fc" * 500, allow))
    assert max(len(line) for line in text.splitlines()) < 4096
    facts = describe_fragment(text)
    assert facts is not None and (facts["allow"], facts["message"]) == (allow, "\u00fc" * 500)


@pytest.mark.parametrize(
    "page",
    [
        Page(UNTIL, ""),
        Page(UNTIL, "x" * 501),
        Page(UNTIL, "a\x07b"),
        Page(UNTIL, retry_after_seconds=0),
        Page(UNTIL, exempt_paths=["/"]),
        Page(UNTIL, allow=["everybody"]),
    ],
)
def test_fragment_refuses(page: Page) -> None:
    with pytest.raises(MaintenanceError):
        fragment(page)


@pytest.mark.parametrize("text", ["", "server {}\n", "# x\n# {}\n", "# x\n# no json\n"])
def test_a_file_of_others_describes_no_page(text: str) -> None:
    assert describe_fragment(text) is None


def test_page_lines() -> None:
    facts = {
        "until": "2026-11-24T10:30:00.000Z",
        "message": "Soon.",
        "exempt_paths": ["/health"],
        "allow": ["192.0.2.1/32"],
    }
    assert page_lines({"shown": False}, NOW) == ["maintenance page: off"]
    assert page_lines({"shown": True, **facts, "health_status": 200}, NOW) == [
        "maintenance page: on until 2026-11-24T10:30:00.000Z (30 minutes left)",
        "it says: Soon.",
        "exempt: /health, 192.0.2.1/32",
        "health beside it: HTTP 200",
    ]
    past = {"shown": False, **facts, "expired": True}
    assert page_lines(past, UNTIL) == [
        "maintenance page: off, it ended at 2026-11-24T10:30:00.000Z"
    ]
