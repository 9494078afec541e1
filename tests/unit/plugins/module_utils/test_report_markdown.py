# Copyright (c) 2026, Pynomaly Operations
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Markdown: what a ticket or a chat shows of it."""

from __future__ import annotations

import re

import pytest
from ansible_collections.pynomaly.ops.plugins.module_utils._report_markdown import (
    code,
    escape,
    escape_start,
    link,
    render_markdown,
)
from ansible_collections.pynomaly.ops.tests.unit.plugins.module_utils.report_samples import (
    COMMAND,
    HOSTILE,
    sample,
)
from markdown_it import MarkdownIt


def shown(markdown: str) -> str:
    """What GitHub's dialect makes of it, with raw HTML let through as a careless viewer would."""
    rendered: str = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown)
    return rendered


def words(rendered: str) -> str:
    return re.sub(r"<[^>]+>", "", rendered).strip()


@pytest.mark.parametrize(
    "text",
    [
        "a | b",
        "`a` ``b``",
        "**bold** __init__ *x* _y_",
        "<b>x</b>",
        "[x](y) ![x](y)",
        "~~gone~~",
        "a\\b",
        "pynomaly_prod",
        "$x$",
    ],
)
def test_escaped_text_is_shown_as_it_is(text: str) -> None:
    rendered = shown(f"- before {escape(text)}")
    expected = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert rendered == f"<ul>\n<li>before {expected}</li>\n</ul>\n"


@pytest.mark.parametrize("text", ["# x", "- x", "+1 555", "1. x", "12) x", "> x", "=", "* x"])
def test_nothing_starts_a_block(text: str) -> None:
    rendered = shown(f"- {escape_start(text)}")
    assert rendered == f"<ul>\n<li>{text.replace('>', '&gt;')}</li>\n</ul>\n"


def test_entities_and_mentions_are_disarmed() -> None:
    assert escape("&lt; @everyone ops@example.org") == ("&amp;lt; @\u200beveryone ops@example.org")


@pytest.mark.parametrize("text", ["a", "`a`", "a``b", "```", "a|b", "<b>", "SELECT `x`; --"])
def test_code_holds_anything(text: str) -> None:
    expected = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert shown(code(text)) == f"<p><code>{expected}</code></p>\n"


def test_only_pages_become_links() -> None:
    assert link("https://example.org/a-b_c") == "<https://example.org/a-b_c>"
    assert shown(link("javascript:alert(1)")) == "<p>javascript:alert(1)</p>\n"
    assert "<a" not in shown(link("https://a.example/> <b>"))


def test_the_report_says_what_is_wrong_and_what_is_next() -> None:
    markdown = render_markdown(sample("healthy", "troubled", "unreachable"))
    rendered = shown(markdown)
    assert "<h1>\u2715 CRITICAL: Daily check</h1>" in rendered
    assert "<td>troubled</td>\n<td>\u2715 critical</td>" in rendered
    assert "<strong>CRITICAL</strong> <code>host.disk</code> on /var/lib/docker" in rendered
    assert "Next: <code>docker compose logs --tail 100 postgres; docker" in rendered
    assert "96 times: detector failed" in rendered
    assert "measured 97.1%, warning above 80%, critical above 95%" in rendered
    assert "waived <code>logs.errors</code> on prometheus, warning, until 2026-12-31" in rendered
    assert "not reachable by SSH" in rendered
    assert "<h2>Contacts</h2>" in rendered
    assert "<li>On-call: +1 555 0100</li>" in rendered
    assert "<ol>\n<li>On-call engineer: +1 555 0100</li>" in rendered


def test_a_healthy_report_is_short_and_calls_nobody() -> None:
    markdown = render_markdown(sample("healthy"))
    assert "all well: 28 ok" in markdown
    assert "postgres 3" in markdown
    assert "Contacts" not in markdown
    assert len(markdown.splitlines()) < 25


def test_hostile_text_becomes_no_markup() -> None:
    rendered = shown(render_markdown(sample("hostile")))
    tags = set(re.findall(r"<(\w+)", rendered))
    assert tags <= {
        *("h1", "h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "ol"),
        *("strong", "code", "hr", "a"),
    }
    assert not re.search(r'href="(?!https?:)', rendered)
    assert "\u202e" not in rendered
    assert "&lt;script&gt;alert(1)" in rendered
    assert HOSTILE.split("\r\n", maxsplit=1)[1][:11] in words(rendered)


def test_tables_are_tables_and_commands_code() -> None:
    rendered = shown(render_markdown(sample("incident")))
    assert "<h3>Timeline</h3>" in rendered
    assert '<td style="text-align:right">54321</td>' in rendered
    assert f"<td><code>{COMMAND}</code></td>" in rendered
    assert "<h3>Open temporary states</h3>\n<p>None.</p>" in rendered
    report = sample("incident")
    report["hosts"][0]["tables"][0]["rows"] = [["10.0.0.1/32", n] for n in range(101)]
    markdown = render_markdown(report)
    assert "(and 1 more row; the report's HTML and JSON have them all)" in markdown
    assert "| 99 |" in markdown
    assert "| 100 |" not in markdown


def test_hostile_cells_stay_in_their_columns() -> None:
    rendered = shown(render_markdown(sample("hostile")))
    rows = re.findall(r"<tr>\n(.*?)</tr>", rendered, re.DOTALL)
    assert [row.count("<td") for row in rows if "<code>" in row] == [3, 3, 1, 1]
    assert rendered.count("<code>&lt;script&gt;alert(1)") >= 2
